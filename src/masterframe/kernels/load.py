"""The load step: raw values become calibrated ones, and what must be left out is found.

``((raw - overscan) - bias - dark * dark_ratio) / flat * scale + zero``, every operation rounded to
the work type, in this order. `calibrate_block` and the combination call the same functions.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from masterframe.kernels.native import kernel, part
from masterframe.kernels.terms import LoadTerms, calibration, narrowed, source, work_type

Array = NDArray[Any]

LO, HI, VALID, SATURATED, LOW, HIGH, EVEN, ODD, FIRST, LAST, TAIL_LOW, TAIL_HIGH = range(12)
TIES_LOW, TIES_HIGH, LANE_INTS = range(12, 15)
"""Rows of the whole numbers of each lane (pixel of a tile): the window that is kept of its sorted
values, how many values it has, how many frames are saturated, how many values were rejected before
sorting, how many values of the even and the odd frames are kept, the window that is averaged, how
many values the rule dropped at each end before they were sorted, and how many of the values equal
to a bound are below the edge there; then the number of rows."""
REJECTED_LOW, REJECTED_HIGH, MISSING = range(3)
"""Columns of the numbers of each frame."""


@part
def raw_place(source: Any, place: Any) -> Any:
    """Return where the raw values at a place (frame, row, first column, columns) are."""
    k, y, x0, w = place
    first = k * source.frame_stride + y * source.row_stride + x0
    return slice(first, first + w)


@part
def calibrate_row(values: Any, cal: Any, place: Any) -> None:
    """Calibrate raw values in place; zero comes out as +0: equal values, equal bits."""
    k, y, x0, w = place
    if cal.overscan.size:
        level = cal.overscan[k, y]
        for i in range(w):
            values[i] -= level
    if cal.overscan_columns.size:
        levels = cal.overscan_columns[k, x0 : x0 + w]
        for i in range(w):
            values[i] -= levels[i]
    if cal.bias.size:
        bias = cal.bias[y, x0 : x0 + w]
        for i in range(w):
            values[i] -= bias[i]
    if cal.dark.size:
        dark, ratio = cal.dark[y, x0 : x0 + w], cal.factors[k, 0]
        for i in range(w):
            values[i] -= dark[i] * ratio
    if cal.flat.size:
        flat = cal.flat[y, x0 : x0 + w]
        for i in range(w):
            values[i] /= flat[i]
    scale, zero = cal.factors[k, 1], cal.factors[k, 2]
    for i in range(w):  # with the neutral 1 and 0 this changes nothing but the sign of -0
        values[i] = values[i] * scale + zero


@part
def leave_infinite(values: Any, sign: Any, ints: Any, frames: Any, k: int, w: int) -> int:
    """Put the sign of a missing value where one is not finite; return how many there are."""
    any_found, found, valid = False, 0, ints[VALID]
    for i in range(w):
        any_found |= values[i] - values[i] != 0
    if any_found:
        for i in range(w):
            if values[i] - values[i] != 0:
                values[i] = sign
                valid[i] -= 1
                found += 1
        frames[k, MISSING] += found
    return found


@part
def leave_out(values: Any, sign: Any, source: Any, ints: Any, frames: Any, place: Any) -> int:
    """Put the sign of a missing value where one is masked or its raw value beyond a limit.

    Return how many there are. What is missing already is not counted again.
    """
    k, y, x0, w = place
    raw = source.raw[raw_place(source, place)]
    if not _any_out(source, raw, place):
        return 0
    saturation, low, high = source.limits
    has_saturation, has_low, has_high = source.limited
    found = 0
    for i in range(w):
        masked = bool(source.bad.size) and source.bad[y, x0 + i]
        if source.frame_mask.size:
            masked |= source.frame_mask[k, y, x0 + i]
        if has_saturation and raw[i] >= saturation:
            ints[SATURATED, i] += 1
            masked = True
        if values[i] - values[i] != 0:
            continue
        if masked:
            frames[k, MISSING] += 1
        elif has_low and raw[i] < low:
            ints[LOW, i] += 1
            frames[k, REJECTED_LOW] += 1
        elif has_high and raw[i] > high:
            ints[HIGH, i] += 1
            frames[k, REJECTED_HIGH] += 1
        else:
            continue
        values[i] = sign
        ints[VALID, i] -= 1
        found += 1
    return found


@part
def is_masked(source: Any, place: Any) -> bool:
    """Whether any value of a tile (row, first column, columns) may be masked."""
    y, x0, w = place
    found = False
    if source.bad.size:
        bad = source.bad[y, x0 : x0 + w]
        for i in range(w):
            found |= bad[i]
    return bool(found) or source.frame_mask.size > 0


@part
def _any_out(source: Any, raw: Any, place: Any) -> bool:
    """Whether any value of a frame is masked or beyond a limit; seldom yes."""
    k, y, x0, w = place
    found = False
    saturation, low, high = source.limits
    has_saturation, has_low, has_high = source.limited
    if has_saturation:
        for i in range(w):
            found |= raw[i] >= saturation
    if has_low or has_high:
        for i in range(w):
            found |= (has_low & (raw[i] < low)) | (has_high & (raw[i] > high))
    if source.bad.size:
        bad = source.bad[y, x0 : x0 + w]
        for i in range(w):
            found |= bad[i]
    if source.frame_mask.size:
        mask = source.frame_mask[k, y, x0 : x0 + w]
        for i in range(w):
            found |= mask[i]
    return bool(found)


@kernel
def _calibrate(source: Any, cal: Any, ints: Any, frames: Any, out: Any) -> None:
    n, rows, nx = out.shape
    for k in range(n):
        for y in range(rows):
            place, values = (k, y, 0, nx), out[k, y]
            raw = source.raw[raw_place(source, place)]
            for i in range(nx):
                values[i] = raw[i]
            calibrate_row(values, cal, place)
            leave_infinite(values, math.nan, ints, frames, k, nx)
            leave_out(values, math.nan, source, ints, frames, place)


def calibrate_block(raw: Array, terms: LoadTerms, dtype: DTypeLike = np.float32) -> Array:
    """Return calibrated values: the load step alone, as the combination does it.

    Parameters
    ----------
    raw : ndarray, shape (N, rows, nx)
        Real numbers; never changed.
    terms : LoadTerms
        What is applied.
    dtype : dtype
        float32 or float64; float64 is used anyway where raw needs it (`work_type`).

    Returns
    -------
    ndarray, shape (N, rows, nx)
        Of the work type; NaN where a value is left out (masked, saturated, beyond the thresholds,
        infinite).

    Raises
    ------
    ValueError
        A term whose shape does not fit.
    """
    work = work_type(raw.dtype, dtype)
    raw = narrowed(raw, terms, work)
    src, cal = source(raw, terms), calibration(terms, raw.shape, work)
    out = np.empty(raw.shape, work)
    n, _, nx = raw.shape
    ints, frames = np.zeros((8, nx), np.int32), np.zeros((n, 3), np.int64)
    _calibrate(src, cal, ints, frames, out)
    return out
