"""The driver: tiles of raw values go in, combined pixels and the numbers of the frames come out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from masterframe.kernels import rules
from masterframe.kernels.cache import first_call, jit, part
from masterframe.kernels.estimate import (
    ESTIMATORS,
    efficiencies,
    moments,
    write_counts,
    write_errors,
    write_values,
)
from masterframe.kernels.frames import PARTIALS, add_halves, add_tile, close_row
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
from masterframe.kernels.registry import resolve_rejection
from masterframe.kernels.rows import clip, distances_of_floats, distances_of_integers, majority
from masterframe.kernels.rules import TRACED, Floor
from masterframe.kernels.sorting import network, sort_rows
from masterframe.kernels.terms import LoadTerms, calibration, narrowed, source, work_type
from masterframe.model import Recipe

Array = NDArray[Any]
SCRATCH = 2**18
"""Bytes that the sorted values of one tile should take at most: half of a small second cache."""
MOST_LANES, LEAST_LANES = 256, 32


@dataclass(frozen=True, slots=True)
class KernelResult:
    """What the combination makes of N frames of (rows, nx) pixels."""

    data: Array
    """Combined values, shape (rows, nx), of the type asked for; NaN where nothing was kept."""
    uncert: Array
    """Their standard deviation from the scatter of the kept values; NaN for fewer than two."""
    count: NDArray[np.int32]
    """Values kept."""
    low: NDArray[np.int32]
    """Values rejected on the low side."""
    high: NDArray[np.int32]
    """Values rejected on the high side."""
    saturated: NDArray[np.int32]
    """Frames that are saturated, whether masked or not."""
    kept: NDArray[np.int64]
    """Values kept of each frame, shape (N,), in the order of the frames given."""
    rej_low: NDArray[np.int64]
    """Values rejected on the low side of each frame."""
    rej_high: NDArray[np.int64]
    """Values rejected on the high side of each frame."""
    missing: NDArray[np.int64]
    """Values of each frame that were no number, saturated or masked."""
    frame_sums: NDArray[np.float64]
    """Sums over x of (value - level) and of its square over kept values, shape (rows, N, 2)."""
    half_sums: NDArray[np.float64]
    """Over the pixels where both halves of the frames (even and odd canonical rank) have kept
    values: their number, the sum of d and of d ** 2 with d = (mean of even - mean of odd) / 2;
    shape (rows, 3)."""


class Output(NamedTuple):
    """Where compiled code puts its results."""

    data: Array
    uncert: Array
    counts: NDArray[np.int32]
    """Kept, low, high, saturated, shape (4, rows, nx)."""
    frames: NDArray[np.int64]
    """Rejected low, rejected high and missing values of each frame, shape (N, 3)."""
    frame_sums: NDArray[np.float64]
    half_sums: NDArray[np.float64]


class Settings(NamedTuple):
    """What one call does."""

    order: NDArray[np.int64]
    """Frames in canonical order."""
    plan: NDArray[np.int32]
    """The sorting network."""
    efficiency: NDArray[np.float64]
    estimator: int
    step: float
    missing: Any
    """Stands for a value left out; sorts last."""
    top: Any
    """The largest value that is none left out."""
    rejects: bool
    """Whether any rule is applied to the sorted values."""
    rows_at_once: bool
    """Whether the windows can be found for all lanes at once."""


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


@jit
def _combine(
    source: Any, cal: Any, rule: Any, params: Any, settings: Any, room: Any, out: Any
) -> None:  # fmt: skip
    """Combine all rows, tile by tile; `cal` is None where values are sorted as raw integers."""
    rows, nx = out.data.shape
    width = room.tile.shape[1]
    for y in range(rows):
        for x0 in range(0, nx, width):
            w = min(width, nx - x0)
            place = (y, x0, w)
            missing = _load_tile(source, cal, settings, room, out.frames, place)
            sort_rows(room.sorted, w, settings.plan)
            _find_windows(cal, rule, params, settings, room, missing, w)
            moments(room.sorted, w, room.ints, room.floats)
            write_values(room.sorted, room.ints, room.floats, settings.estimator, out.data, place)
            write_errors(room.ints, room.floats, settings, out.uncert, place)
            write_counts(room.ints, out.counts, place)
            add_tile(room, w, settings.top, settings.order, out.frames)
            add_halves(w, room.ints, room.floats, out.half_sums, y)
        close_row(settings.order, room.sums, out.frame_sums, y)


@part
def _load_tile(source: Any, cal: Any, settings: Any, room: Any, frames: Any, place: Any) -> int:
    """Load a tile in canonical order, and a copy to be sorted; return how many values it lacks."""
    tile, s, ints, sign = room.tile, room.sorted, room.ints, settings.missing
    y, x0, w = place
    n, missing = tile.shape[0], 0
    for i in range(w):
        ints[VALID, i] = n
        ints[SATURATED, i] = 0
        ints[LOW, i] = 0
        ints[HIGH, i] = 0
    for k in range(n):
        frame = settings.order[k]
        row = (frame, y, x0, w)
        copy_row(tile, k, source, row)
        if cal is not None:
            calibrate_row(tile, k, cal, row)
            missing += leave_infinite(tile, k, sign, ints, frames, frame, w)
        missing += leave_out(tile, k, sign, source, ints, frames, row)
        for i in range(w):
            s[k, i] = tile[k, i]
    return missing


@part
def _find_windows(
    cal: Any, rule: Any, params: Any, settings: Any, room: Any, missing: int, w: int
) -> None:
    """Find which sorted values of each lane are kept: all lanes at once, or those left one by one.

    At once go those with as many values as most of them, for one pass; it is the last one where it
    changed nothing.
    """
    s, ints, floats, column = room.sorted, room.ints, room.floats, room.column
    for i in range(w):
        ints[LO, i], ints[HI, i] = 0, ints[VALID, i]
    if not settings.rejects:
        return
    done = -1
    if settings.rows_at_once:
        done = s.shape[0]
        if missing:
            done = majority(w, ints)
        if done > 0:
            if cal is None:
                distances_of_integers(s, w, done, floats, room.near)
            else:
                distances_of_floats(s, w, done, floats)
            clip(s, w, done, ints, floats, params)
        if not missing and params.max_iters == 1:
            return
    for i in range(w):
        valid = np.int64(ints[VALID, i])
        if valid == done and (params.max_iters == 1 or ints[HI, i] - ints[LO, i] == valid):
            continue
        for k in range(valid):
            column[k] = s[k, i]
        lo, hi = rule.window(column, np.int64(0), valid, params, 0.0, room.trace)
        ints[LO, i], ints[HI, i] = lo, hi


def combine_block(
    raw: Array,
    terms: LoadTerms,
    recipe: Recipe,
    floor: Floor,
    rank: NDArray[np.integer[Any]],
    dtype: DTypeLike = np.float32,
) -> KernelResult:
    """Calibrate and combine N frames of raw values pixel by pixel.

    The result does not depend, to the bit, on the order of the frames or on how rows are shared
    out among calls. Equal calls from any number of threads may run at once.

    Parameters
    ----------
    raw : ndarray, shape (N, rows, nx)
        Real numbers, any strides, the last axis contiguous for best speed; never changed.
    terms : LoadTerms
        What is applied in the load step; the thresholds of the rule ``threshold`` are here.
    recipe : Recipe
        Rejection and estimator; nothing else of it is read.
    floor : Floor
        The noise floor.
    rank : ndarray of int, shape (N,)
        Canonical rank of each frame: the order of equal values and of sums over frames.
    dtype : dtype
        float32 or float64, the type of the planes written.

    Returns
    -------
    KernelResult
        Planes, and the numbers of the frames in the order given.

    Raises
    ------
    UsageError
        A rejection that `resolve_rejection` refuses.
    ValueError
        Shapes that do not fit.
    """
    recipe = replace(recipe, rejection=resolve_rejection(recipe.rejection))
    n, rows, nx = raw.shape
    if n == 0 or np.shape(rank) != (n,):
        raise ValueError(f"{n} frames with {np.shape(rank)} ranks; each frame needs one")
    work = work_type(raw.dtype, dtype)
    raw = narrowed(raw, terms, work)
    kind = raw.dtype if _whole(raw, terms, work) else work
    src = source(raw, terms)
    cal = calibration(terms, raw.shape, kind) if kind.kind == "f" else None
    settings = _settings(recipe, floor, np.argsort(rank, kind="stable"), kind, terms)
    out = Output(
        np.empty((rows, nx), work), np.empty((rows, nx), work),
        np.empty((4, rows, nx), np.int32), np.zeros((n, 3), np.int64),
        np.empty((rows, n, 2)), np.zeros((rows, 3)),
    )  # fmt: skip
    params = rules.params(recipe.rejection, floor, n)
    rule = rules.compiled(recipe.rejection.rule)
    with first_call(("combine", src.raw.dtype, kind)):
        _combine(src, cal, rule, params, settings, _room(n, kind), out)
    low, high, missing = out.frames.T.copy()
    return KernelResult(
        data=out.data.astype(dtype, copy=False),
        uncert=out.uncert.astype(dtype, copy=False),
        count=out.counts[0],
        low=out.counts[1],
        high=out.counts[2],
        saturated=out.counts[3],
        kept=rows * nx - low - high - missing,
        rej_low=low,
        rej_high=high,
        missing=missing,
        frame_sums=out.frame_sums,
        half_sums=out.half_sums,
    )


def _whole(raw: Array, terms: LoadTerms, work: np.dtype[Any]) -> bool:
    """Whether values are sorted as the integers that they are: to the same result, but faster.

    The largest integer stands for a value left out. It must not be a value at the same time, so
    that masks and a lower threshold need another limit beside them.
    """
    if raw.dtype != np.uint16 or work == np.float64 or terms.calibrates or terms.frame_mask.size:
        return False
    return terms.saturation <= 65535 or terms.raw_high < 65535 or not _leaves_out(terms)


def _leaves_out(terms: LoadTerms) -> bool:
    return bool(
        terms.bad.size
        or terms.frame_mask.size
        or terms.saturation < np.inf
        or terms.raw_low > -np.inf
        or terms.raw_high < np.inf
    )


def _settings(
    recipe: Recipe, floor: Floor, order: Array, kind: np.dtype[Any], terms: LoadTerms
) -> Settings:
    rejection = recipe.rejection
    if kind.kind == "f":
        missing, top = kind.type(np.inf), np.finfo(kind).max
    else:
        missing = kind.type(np.iinfo(kind).max)
        top = kind.type(int(missing) - 1) if _leaves_out(terms) else missing
    return Settings(
        order=order.astype(np.int64),
        plan=network(len(order)),
        efficiency=efficiencies(len(order)),
        estimator=ESTIMATORS.index(recipe.estimator),
        step=float(floor.step),
        missing=missing,
        top=top,
        rejects=rejection.rule not in ("none", "threshold"),
        rows_at_once=(
            rejection.rule == "sigma"
            and rejection.center in ("median", "first-median")
            and rejection.deviation == "mad"
        ),
    )


def _room(n: int, kind: np.dtype[Any]) -> Room:
    width = min(max(SCRATCH // (n * kind.itemsize) // 32 * 32, LEAST_LANES), MOST_LANES)
    return Room(
        tile=_aligned((n, width), kind),
        sorted=_aligned((n, width), kind),
        near=_aligned((2, width), np.dtype(np.uint16)),
        column=np.empty(n),
        ints=_aligned((8, width), np.dtype(np.int32)),
        floats=_aligned((12, width), np.dtype(np.float64)),
        sums=np.zeros((n, 2, PARTIALS)),
        codes=np.empty((n, width), np.int8),
        trace=np.zeros(TRACED),
    )


def _aligned(shape: tuple[int, int], dtype: np.dtype[Any]) -> Array:
    """Return room that begins on a cache line: vectors that straddle two cost half the speed."""
    size = shape[0] * shape[1] * dtype.itemsize
    room = np.empty(size + 64, np.uint8)
    start = -room.ctypes.data % 64
    return room[start : start + size].view(dtype).reshape(shape)


def warm_up() -> None:
    """Compile or load the default path: uint16 values without calibration, float32 planes."""
    raw = np.arange(24, dtype=np.uint16).reshape(3, 2, 4)
    combine_block(raw, LoadTerms(), Recipe(), Floor(), np.arange(3))
