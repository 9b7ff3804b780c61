"""What is made of the values that are kept, and its uncertainty from their scatter."""

from __future__ import annotations

from typing import Any

import numpy as np

from masterframe.kernels.load import (
    FIRST,
    HI,
    HIGH,
    LAST,
    LO,
    LOW,
    SATURATED,
    TAIL_HIGH,
    TAIL_LOW,
    VALID,
)
from masterframe.kernels.native import part
from masterframe.kernels.ratios import ESTIMATORS
from masterframe.kernels.vectors import minus
from masterframe.kernels.windows import average_windows, error_of, sum_windows

MEAN, MEDIAN, LMEDIAN, SUM, WEIGHTED, MIN, MAX, TRIMMED = range(len(ESTIMATORS))

TOTAL, SQUARES, AVERAGE, MIDDLE, NEAR, NEXT, LEAST, MOST, LANE_FLOATS = range(9)
"""Rows of the real numbers of each lane: sum of the kept values, and of the squares of their
deviations from the pivot, a kept value in their midst; their mean; then, on the way to the window:
centre, room of the rules, bounds; then the number of rows."""


@part
def trim(ints: Any, w: int, fraction: float) -> None:
    """Take int(fraction n) values off each end of the windows of n kept values."""
    for i in range(w):
        lo, hi = ints[LO, i], ints[HI, i]
        ends = int(fraction * (hi - lo))
        ints[FIRST, i], ints[LAST, i] = lo + ends, hi - ends


@part
def find_pivots(room: Any, w: int, window: Any) -> None:
    """Find a pivot in the midst of the kept values of each lane.

    It is the lower median of all values, or the value of the window that is nearest to it. Rows a
    and b of the whole numbers are the window, s[a:b].
    """
    s, ints, pivots = room.sorted, room.ints, room.pivots
    starts, ends, valid = ints[window[0]], ints[window[1]], ints[VALID]
    n, off = s.shape[0], False
    row, all_, middle = s[(n - 1) // 2], np.int32(n), np.int32((n - 1) // 2)
    for i in range(w):
        pivots[i] = row[i]
        off |= (valid[i] != all_) | (starts[i] > middle) | (ends[i] <= middle)
    if off:
        for i in range(w):
            lo, hi = starts[i], ends[i]
            pivots[i] = s[min(max((valid[i] - 1) // 2, lo), max(hi - 1, 0)), i]


@part
def approach_pivots(room: Any, w: int, window: Any, middles: Any) -> None:
    """Do the same where the lower medians of all values are given, for values rejected before."""
    s, starts, ends = room.sorted, room.ints[window[0]], room.ints[window[1]]
    for i in range(w):
        lowest, highest = float(s[starts[i], i]), float(s[max(ends[i] - 1, 0), i])
        room.pivots[i] = min(max(middles[i], lowest), highest)


@part
def write_means(room: Any, settings: Any, window: Any, out: Any, place: Any) -> None:
    """Write means and their standard deviations at a place, as the two functions below do.

    Nothing of a lane leaves the registers before it is done.
    """
    y, x0, w = place
    window = (room.ints[window[0]], room.ints[window[1]])
    means, errors, least = room.level, room.error, settings.step**2 / 12.0
    average_windows(room.sorted, window, room.pivots, (means, errors), least, w)
    data, uncert = out.data[y, x0 : x0 + w], out.uncert[y, x0 : x0 + w]
    for i in range(w):
        data[i] = means[i]
    for i in range(w):
        uncert[i] = errors[i]


@part
def moments(room: Any, w: int, window: Any) -> None:
    """Sum the values of the windows, and the squares of their deviations from the pivots."""
    ints, floats = room.ints, room.floats
    rows = (ints[window[0]], ints[window[1]])
    sum_windows(room.sorted, rows, room.pivots, (floats[TOTAL], floats[SQUARES]), w)


@part
def write_values(room: Any, kind: int, window: Any, data: Any, place: Any) -> None:
    """Write the combined values at a place (row, first column, columns); NaN where none is kept.

    The level that frames are measured against is the value as it is written; for a sum the mean.
    """
    s, ints, floats, (y, x0, w) = room.sorted, room.ints, room.floats, place
    goal, mean, level, total = data[y, x0 : x0 + w], floats[AVERAGE], room.level, floats[TOTAL]
    starts, ends = ints[window[0]], ints[window[1]]
    for i in range(w):
        mean[i] = total[i] / float(ends[i] - starts[i])
        goal[i] = mean[i]
    if kind == MEDIAN:
        for i in range(w):
            lo, hi = ints[LO, i], ints[HI, i]
            if hi > lo:
                low, high = float(s[(lo + hi - 1) // 2, i]), float(s[(lo + hi) // 2, i])
                goal[i] = (low + high) * 0.5
    elif kind in (LMEDIAN, MIN, MAX):
        for i in range(w):
            lo, hi = ints[LO, i], ints[HI, i]
            if hi > lo:
                middle = (lo + hi - 1) // 2
                goal[i] = s[lo if kind == MIN else hi - 1 if kind == MAX else middle, i]
    for i in range(w):
        level[i] = goal[i]
    if kind == SUM:
        for i in range(w):
            if ints[HI, i] > ints[LO, i]:
                goal[i] = total[i]


@part
def winsorize(room: Any, w: int, tails: bool, window: Any) -> None:
    """Count values dropped at each end as equal to the last that is averaged there.

    Then the sum of squared deviations over n (n - 1), with the n that are averaged, is the variance
    of a trimmed mean (K. K. Yuen, Biometrika 61, 165, 1974; after J. W. Tukey and D. H. McLaughlin,
    Sankhya A 25, 331, 1963). `tails`: also what the rule dropped.
    """
    s, ints, floats, pivots = room.sorted, room.ints, room.floats, room.pivots
    starts, ends = ints[window[0]], ints[window[1]]
    lowest, highest = floats[LEAST], floats[MOST]
    squares, total = floats[SQUARES], floats[TOTAL]
    for i in range(w):
        a, b = starts[i], ends[i]
        lowest[i], highest[i] = s[min(a, s.shape[0] - 1), i], s[max(b - 1, 0), i]
    for i in range(w):
        low, high = starts[i] - ints[LO, i], ints[HI, i] - ends[i]
        if tails:
            low += ints[LO, i] + ints[TAIL_LOW, i]
            high += ints[VALID, i] - ints[HI, i] + ints[TAIL_HIGH, i]
        n, dropped, pivot = float(ends[i] - starts[i]), float(low + high), np.float64(pivots[i])
        below, above = lowest[i] - pivot, highest[i] - pivot
        about = total[i] - n * pivot
        whole = about + low * below + high * above
        added = low * below * below + high * above * above
        varied = about * about / n - whole * whole / (n + dropped)
        squares[i] = squares[i] + added + varied if n > 0.5 else squares[i]


@part
def write_errors(room: Any, settings: Any, window: Any, uncert: Any, place: Any) -> None:
    """Write the standard deviations of the combined values, NaN for fewer than two values.

    The sample variance is at least that of the step, step ** 2 / 12.
    """
    ints, floats, pivots, (y, x0, w) = room.ints, room.floats, room.pivots, place
    goal, starts, ends = uncert[y, x0 : x0 + w], ints[window[0]], ints[window[1]]
    squares, mean = floats[SQUARES], floats[AVERAGE]
    kind, ratio, least = settings.estimator, settings.ratio, settings.step**2 / 12.0
    for i in range(w):
        n, pivot = float(ends[i] - starts[i]), np.float64(pivots[i])
        goal[i] = error_of(n, (pivot, squares[i]), mean[i], least, n if kind == SUM else 1.0 / n)
    if ratio.size:
        for i in range(w):
            goal[i] *= ratio[ints[HI, i] - ints[LO, i]]


@part
def write_counts(ints: Any, counts: Any, place: Any) -> None:
    """Write how many values were kept, and what is asked for of the others that are counted."""
    y, x0, w = place
    lo, hi, valid = ints[LO], ints[HI], ints[VALID]
    lows, highs, full = ints[LOW], ints[HIGH], ints[SATURATED]
    kept = counts.kept[y, x0 : x0 + w]
    for i in range(w):
        kept[i] = minus(hi[i], lo[i])
    if counts.low.size:
        low = counts.low[y, x0 : x0 + w]
        for i in range(w):
            low[i] = lows[i] + lo[i]
    if counts.high.size:
        high = counts.high[y, x0 : x0 + w]
        for i in range(w):
            high[i] = highs[i] + valid[i] - hi[i]
    if counts.saturated.size:
        saturated = counts.saturated[y, x0 : x0 + w]
        for i in range(w):
            saturated[i] = full[i]
