"""One tile: values of a few pixels side by side, from loading to the windows that a rule keeps."""

from __future__ import annotations

import functools
import math
import threading
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from masterframe.kernels.estimate import LANE_FLOATS
from masterframe.kernels.frames import PARTIALS
from masterframe.kernels.load import (
    HI,
    HIGH,
    LANE_INTS,
    LO,
    LOW,
    SATURATED,
    TAIL_HIGH,
    TAIL_LOW,
    VALID,
    calibrate_row,
    leave_infinite,
    leave_out,
    raw_place,
)
from masterframe.kernels.native import Given, inlined, part
from masterframe.kernels.rows import (
    bound_floats,
    bound_integers,
    clip,
    fewest_kept,
    find_distances,
    is_sure,
    majority,
)
from masterframe.kernels.rules import TRACED, Params
from masterframe.kernels.rules.lanes import UNDECIDED
from masterframe.kernels.straight import load_straight
from masterframe.kernels.vectors import (
    BITS,
    LINE,
    differ,
    first,
    first_lanes,
    unlike,
)

Array = NDArray[Any]
SCRATCH = 2**18
"""Bytes that the sorted values of one tile should take at most: half of a small second cache."""
NEAR = 2**16
"""Bytes of them up to which a tile is as wide as may be: it is soon done, and each costs some."""
LONG = 8
"""Cache lines from which one more is little."""
MOST_LANES, LANES, LEAST_LANES = 2048, 1024, PARTIALS


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
    least: Any
    """The least value that there can be."""
    rounding: float
    """More than what rounding can change of a value, as a part of it."""
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
    part: int
    """Columns of each part of a row over which sums are taken."""


class Room(NamedTuple):
    """Memory that one call works in, tile after tile."""

    width: int
    """Lanes of a tile; rows of the arrays of lanes may be longer, see `_pieces`."""
    tile: Array
    """Values of a tile in canonical order, shape (N, lanes)."""
    sorted: Array
    near: Array
    bounds: Array
    """What bounds the kept values of each lane, shape (2, lanes)."""
    column: NDArray[np.float64]
    ints: NDArray[np.int32]
    touched: NDArray[np.bool_]
    """Whether those of them may say that anything is left out, shape (1,)."""
    floats: NDArray[np.float64]
    pivots: Array
    """A value in the midst of the kept ones of each lane, shape (lanes,)."""
    level: Array
    """What frames are measured against: combined values, shape (lanes,)."""
    error: Array
    """Standard deviations of the combined values, shape (lanes,)."""
    apart: Array
    """Deviations from the level, shape (3, lanes)."""
    middles: Array
    """The two middle values of each lane, shape (2, lanes)."""
    picks: Array
    """Intervals and counts of some lanes, shape (4, `BITS`)."""
    sums: Array
    """Partial sums of the deviations of each frame and of the halves, and of their squares, shape
    (N + 1, 2, partials)."""
    tied: NDArray[np.bool_]
    """Whether equal values are on both sides of an edge in any of `PARTIALS` lanes, by parts."""
    codes: NDArray[np.int8]
    trace: NDArray[np.float64]


def lanes(n: int, kind: np.dtype[Any]) -> int:
    """Return how wide tiles of n frames may be to stay in the cache."""
    column = n * kind.itemsize
    if MOST_LANES * column <= NEAR:
        return MOST_LANES
    return min(max(SCRATCH // column // LEAST_LANES * LEAST_LANES, LEAST_LANES), LANES)


class _Rooms(threading.local):
    """The room of the last call in each thread: fresh memory costs more than a small call."""

    last: tuple[int, np.dtype[Any], Given] | None = None


_rooms = _Rooms()


def room_for(n: int, kind: np.dtype[Any]) -> Given:
    """Return this thread's `Room` for tiles of n frames; it may hold what another call left."""
    if _rooms.last is None or _rooms.last[:2] != (n, kind):
        _rooms.last = n, kind, Given(_make_room(n, kind))
    return _rooms.last[2]


def _make_room(n: int, kind: np.dtype[Any]) -> Room:
    """Return room for tiles of n frames, zeros, in one piece of memory."""
    width = lanes(n, kind)
    pieces, size = _pieces(n, width, kind)
    memory = np.zeros(size + LINE, np.uint8)
    start = -memory.__array_interface__["data"][0] % LINE
    arrays = {
        name: np.ndarray(shape, dtype, memory, start + first)
        for name, shape, dtype, first in pieces
    }
    return Room(width, **arrays)


@functools.cache
def _pieces(n: int, width: int, kind: np.dtype[Any]) -> tuple[list[tuple[Any, ...]], int]:
    """Return name, shape, type and first byte of each array of a room, and the bytes of all.

    Each row begins on a cache line: vectors astride two of them cost half the speed.
    """
    work = kind if kind.kind == "f" else np.float32
    wanted: dict[str, tuple[tuple[int, ...], Any]] = {
        "tile": ((n, width), kind),
        "sorted": ((n, width), kind),
        "near": ((2, width), kind),
        "bounds": ((2, width), kind),
        "column": ((n,), np.float64),
        "ints": ((LANE_INTS, width), np.int32),
        "touched": ((1,), np.bool_),
        "floats": ((LANE_FLOATS, width), np.float64),
        "pivots": ((width,), kind),
        "level": ((width,), work),
        "error": ((width,), work),
        "apart": ((3, width), work),
        "middles": ((2, width), kind),
        "picks": ((4, BITS), kind),
        "sums": ((n + 1, 2, PARTIALS), work),
        "tied": ((width // PARTIALS,), np.bool_),
        "codes": ((n, width), np.int8),
        "trace": ((TRACED,), np.float64),
    }
    pieces, first = [], 0
    for name, (shape, dtype) in wanted.items():
        size = np.dtype(dtype).itemsize
        of_lanes = shape[1:] == (width,)
        held = (shape[0], _spread(width * size) // size) if of_lanes else shape
        pieces.append((name, held, np.dtype(dtype), first))
        first += -(-math.prod(held) * size // LINE) * LINE
    return pieces, first


def _spread(row: int) -> int:
    """Return how many bytes to give to rows of so many: an odd number of cache lines.

    The lines of a column are in few sets of a cache else, each of which holds a dozen.
    """
    lines = -(-row // LINE)
    return LINE * (lines | 1 if lines >= LONG else lines)


@inlined
def load_tile(source: Any, cal: Any, settings: Any, room: Any, frames: Any, place: Any) -> int:
    """Load a tile in canonical order; return how many values it lacks."""
    missing = 0
    if room.touched[0]:
        start_lanes(room)
    if load_straight(source, cal, settings, room, place):
        return 0
    room.touched[0] = True
    for k in range(room.tile.shape[0]):
        missing += load_frame(source, cal, settings, room, frames, k, place)
    return missing


@part
def start_lanes(room: Any) -> None:
    """Say of all lanes that nothing is left out yet of their values.

    Most tiles leave it so: whoever changes it says that the lanes are touched.
    """
    ints, n = room.ints, room.tile.shape[0]
    valid, saturated, low, high = ints[VALID], ints[SATURATED], ints[LOW], ints[HIGH]
    tail_low, tail_high = ints[TAIL_LOW], ints[TAIL_HIGH]
    for i in range(room.width):
        valid[i], saturated[i], low[i], high[i] = n, 0, 0, 0
        tail_low[i], tail_high[i] = 0, 0
    room.touched[0] = False


@part
def load_frame(
    source: Any, cal: Any, settings: Any, room: Any, frames: Any, k: int, place: Any
) -> int:
    """Load the values of the k-th frame; return how many are left out."""
    ints, sign, frame = room.ints, settings.missing, settings.order[k]
    y, x0, w = place
    values = room.tile[k]
    raw = source.raw[raw_place(source, (frame, y, x0, w))]
    missing = 0
    for i in range(w):
        values[i] = raw[i]
    if cal is not None:
        calibrate_row(values, cal, (frame, y, x0, w))
        missing = leave_infinite(values, sign, ints, frames, frame, w)
    missing += leave_out(values, sign, source, ints, frames, (frame, y, x0, w))
    return int(missing)


@inlined
def find_windows(
    cal: Any, rule: Any, settings: Any, room: Any, missing: int, w: int, row: float
) -> bool:
    """Find which sorted values of each lane are kept: all lanes at once, or those left one by one.

    At once go those with as many values as most of them, for one pass; it is the last one where it
    changed nothing. `row` is what the rule measured over the whole row. A rule that marks values
    leaves the others undecided. Return whether just what is within ``room.bounds`` is kept.
    """
    s, ints, floats, column = room.sorted, room.ints, room.floats, room.column
    params, lows, highs, counts = settings.params, ints[LO], ints[HI], ints[VALID]
    for i in range(w):
        lows[i], highs[i] = 0, counts[i]
    if not settings.rejects:
        return False
    done, final = s.shape[0], params.max_iters == 1
    if missing:
        done = majority(w, ints)
    if done > 0 and settings.rows_at_once:
        _clip_rows(cal, settings, room, w, done)
    elif done > 0:
        final = rule.rows(s, w, done, ints, floats, params, row)
    bounded = bool(settings.rows_at_once and final and not missing)
    if cal is None and bounded and fewest_kept(room, w) >= params.nkeep:
        return True
    for start in range(0, w, PARTIALS):
        lanes = slice(start, start + PARTIALS)
        open_ = unlike(highs[lanes], lows[lanes], done) | differ(counts[lanes], done)
        open_ &= first_lanes(w - start)
        while open_ != 0:
            i = start + first(open_)
            open_ &= open_ - 1
            valid, left = np.int64(counts[i]), highs[i] - lows[i]
            if valid == done and (left == valid or (final and _is_settled(cal, settings, room, i))):
                continue
            bounded = False
            if settings.masks:
                highs[i] = UNDECIDED
                continue
            for k in range(valid):
                column[k] = s[k, i]
            lows[i], highs[i] = rule.window(column, np.int64(0), valid, params, row, room.trace)
    return bounded


@inlined
def _clip_rows(cal: Any, settings: Any, room: Any, w: int, n: int) -> None:
    """Do the pass of the rule ``sigma`` for all lanes with n values."""
    s, near, bounds = room.sorted, room.near, room.bounds
    find_distances(s, w, n, near)
    if cal is None:
        bound_integers(s, w, n, near, bounds, settings.params)
    else:
        bound_floats(s, w, n, near, bounds, room.floats, settings)
    clip(s, w, n, room.ints, bounds)


@part
def _is_settled(cal: Any, settings: Any, room: Any, i: int) -> bool:
    """Whether what rows at once dropped of a lane is what the rule would drop."""
    if not settings.rows_at_once:
        return True
    left = room.ints[HI, i] - room.ints[LO, i]
    sure = cal is None or is_sure(room.sorted, i, room.ints, room.floats)
    return bool(sure and left >= settings.params.nkeep)
