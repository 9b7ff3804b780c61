"""One tile: values of a few pixels side by side, from loading to the windows that a rule keeps."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from masterframe.kernels.cache import part
from masterframe.kernels.frames import PARTIALS
from masterframe.kernels.load import (
    HI,
    HIGH,
    LO,
    LOW,
    SATURATED,
    VALID,
    calibrate_row,
    copy_row,
    leave_infinite,
    leave_out,
)
from masterframe.kernels.rows import clip, distances_of_floats, distances_of_integers, majority
from masterframe.kernels.rules import TRACED, Params
from masterframe.kernels.rules.lanes import UNDECIDED

Array = NDArray[Any]
SCRATCH = 2**18
"""Bytes that the sorted values of one tile should take at most: half of a small second cache."""
MOST_LANES, LEAST_LANES = 256, 32


class Settings(NamedTuple):
    """What one call does."""

    params: Params
    order: NDArray[np.int64]
    """Frames in canonical order."""
    plan: NDArray[np.int32]
    """The sorting network."""
    ratio: NDArray[np.float64]
    """Ratio of the estimate's standard deviation to the mean's, for 0 to N values."""
    estimator: int
    trim: float
    step: float
    missing: Any
    """Stands for a value left out; sorts last."""
    top: Any
    """The largest value that is none left out."""
    rejects: bool
    """Whether any rule is applied to the sorted values."""
    masks: bool
    """Whether the rule marks values: lanes that may lose any are left undecided."""
    rows_at_once: bool
    """Whether the windows can be found for all lanes at once."""
    tails: bool
    """Whether the rule drops a number of values at each end, whatever they are."""
    first: int
    """First row of the raw values that is combined."""
    last: int
    """Row after the last."""
    top_margin: int
    """Rows of the raw values before the first of the result."""


class Room(NamedTuple):
    """Memory that one call works in, tile after tile."""

    tile: Array
    """Values of a tile in canonical order, shape (N, lanes)."""
    sorted: Array
    near: NDArray[np.uint16]
    column: NDArray[np.float64]
    ints: NDArray[np.int32]
    floats: NDArray[np.float64]
    sums: NDArray[np.float64]
    codes: NDArray[np.int8]
    trace: NDArray[np.float64]


def make_room(n: int, kind: np.dtype[Any]) -> Room:
    """Return room for tiles of n frames, as wide as keeps them in the cache."""
    width = min(max(SCRATCH // (n * kind.itemsize) // 32 * 32, LEAST_LANES), MOST_LANES)
    return Room(
        tile=_aligned((n, width), kind),
        sorted=_aligned((n, width), kind),
        near=_aligned((2, width), np.dtype(np.uint16)),
        column=np.empty(n),
        ints=_aligned((12, width), np.dtype(np.int32)),
        floats=_aligned((12, width), np.dtype(np.float64)),
        sums=np.zeros((n, 2, PARTIALS)),
        codes=np.empty((n, width), np.int8),
        trace=np.zeros(TRACED),
    )


def _aligned(shape: tuple[int, int], dtype: np.dtype[Any]) -> Array:
    """Return room of zeros that begins on a cache line: vectors astride two cost half the speed."""
    size = shape[0] * shape[1] * dtype.itemsize
    room = np.zeros(size + 64, np.uint8)
    start = -room.ctypes.data % 64
    return room[start : start + size].view(dtype).reshape(shape)


@part
def load_tile(source: Any, cal: Any, settings: Any, room: Any, frames: Any, place: Any) -> int:
    """Load a tile in canonical order, and a copy to be sorted; return how many values it lacks."""
    ints, missing = room.ints, 0
    n, w = room.tile.shape[0], place[2]
    for i in range(w):
        ints[VALID, i] = n
        ints[SATURATED, i] = 0
        ints[LOW, i] = 0
        ints[HIGH, i] = 0
    for k in range(n):
        missing += load_frame(source, cal, settings, room, frames, k, place)
    return missing


@part
def load_frame(
    source: Any, cal: Any, settings: Any, room: Any, frames: Any, k: int, place: Any
) -> int:
    """Load the values of the k-th frame; return how many are left out."""
    tile, s, ints, sign = room.tile, room.sorted, room.ints, settings.missing
    y, x0, w = place
    frame = settings.order[k]
    row = (frame, y, x0, w)
    missing = 0
    copy_row(tile, k, source, row)
    if cal is not None:
        calibrate_row(tile, k, cal, row)
        missing = leave_infinite(tile, k, sign, ints, frames, frame, w)
    missing += leave_out(tile, k, sign, source, ints, frames, row)
    for i in range(w):
        s[k, i] = tile[k, i]
    return int(missing)


@part
def find_windows(
    cal: Any, rule: Any, settings: Any, room: Any, missing: int, w: int, row: float
) -> None:
    """Find which sorted values of each lane are kept: all lanes at once, or those left one by one.

    At once go those with as many values as most of them, for one pass; it is the last one where it
    changed nothing. `row` is what the rule measured over the whole row. A rule that marks values
    leaves the others undecided.
    """
    s, ints, floats, column = room.sorted, room.ints, room.floats, room.column
    params = settings.params
    for i in range(w):
        ints[LO, i], ints[HI, i] = 0, ints[VALID, i]
    if not settings.rejects:
        return
    done, final = s.shape[0], params.max_iters == 1
    if missing:
        done = majority(w, ints)
    if done > 0 and settings.rows_at_once:
        if cal is None:
            distances_of_integers(s, w, done, floats, room.near)
        else:
            distances_of_floats(s, w, done, floats)
        clip(s, w, done, ints, floats, params)
    elif done > 0:
        final = rule.rows(s, w, done, ints, floats, params, row)
    if not missing and final:
        return
    for i in range(w):
        valid = np.int64(ints[VALID, i])
        if valid == done and (final or ints[HI, i] - ints[LO, i] == valid):
            continue
        if settings.masks:
            ints[HI, i] = UNDECIDED
            continue
        for k in range(valid):
            column[k] = s[k, i]
        lo, hi = rule.window(column, np.int64(0), valid, params, row, room.trace)
        ints[LO, i], ints[HI, i] = lo, hi
