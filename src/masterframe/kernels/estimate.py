"""What is made of the values that are kept, and its uncertainty from their scatter."""

from __future__ import annotations

import math
from typing import Any

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
from masterframe.kernels.sums import sum_windows
from masterframe.kernels.vectors import larger

MEAN, MEDIAN, LMEDIAN, SUM, WEIGHTED, MIN, MAX, TRIMMED = range(len(ESTIMATORS))

TOTAL, SQUARES, PIVOT, AVERAGE, LEVEL, MIDDLE, NEAR, NEXT, LEAST, MOST = range(10)
"""Rows of the real numbers of each lane: sum of the kept values, and of the squares of their
deviations from the pivot, a kept value in their midst; their mean; the level that frames are
measured against; then, on the way to the window: centre, room of the rules, bounds."""


@part
def trim(ints: Any, w: int, fraction: float) -> None:
    """Take int(fraction n) values off each end of the windows of n kept values."""
    for i in range(w):
        lo, hi = ints[LO, i], ints[HI, i]
        ends = int(fraction * (hi - lo))
        ints[FIRST, i], ints[LAST, i] = lo + ends, hi - ends


@part
def moments(s: Any, w: int, ints: Any, floats: Any, window: Any) -> None:
    """Sum the values s[a:b] of each lane, and the squares of their deviations from the pivot.

    Rows a and b of `ints` are the window. The pivot is the lower median of all values, or the value
    of the window that is nearest to it.
    """
    starts, ends, valid, pivot = ints[window[0]], ints[window[1]], ints[VALID], floats[PIVOT]
    n, middle = s.shape[0], (s.shape[0] - 1) // 2
    off, row = False, s[middle]
    for i in range(w):
        pivot[i] = row[i]
        off |= (valid[i] != n) | (starts[i] > middle) | (ends[i] <= middle)
    if off:
        for i in range(w):
            lo, hi = starts[i], ends[i]
            pivot[i] = s[min(max((valid[i] - 1) // 2, lo), max(hi - 1, 0)), i]
    sum_windows(s, (starts, ends), (pivot, floats[TOTAL], floats[SQUARES]), w)


@part
def moments_about(s: Any, w: int, ints: Any, floats: Any, window: Any, pivots: Any) -> None:
    """Do the same where the lower medians of all values are given, for values rejected before."""
    starts, ends, pivot = ints[window[0]], ints[window[1]], floats[PIVOT]
    for i in range(w):
        lowest, highest = float(s[starts[i], i]), float(s[max(ends[i] - 1, 0), i])
        pivot[i] = min(max(pivots[i], lowest), highest)
    sum_windows(s, (starts, ends), (pivot, floats[TOTAL], floats[SQUARES]), w)


@part
def write_values(
    s: Any, ints: Any, floats: Any, kind: int, window: Any, data: Any, place: Any
) -> None:
    """Write the combined values at a place (row, first column, columns); NaN where none is kept.

    The level that frames are measured against is the value as it is written; for a sum the mean.
    """
    y, x0, w = place
    goal, mean, level, total = data[y, x0 : x0 + w], floats[AVERAGE], floats[LEVEL], floats[TOTAL]
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
def winsorize(s: Any, w: int, ints: Any, floats: Any, tails: bool, window: Any) -> None:
    """Count values dropped at each end as equal to the last that is averaged there.

    Then the sum of squared deviations over n (n - 1), with the n that are averaged, is the variance
    of a trimmed mean (K. K. Yuen, Biometrika 61, 165, 1974; after J. W. Tukey and D. H. McLaughlin,
    Sankhya A 25, 331, 1963). `tails`: also what the rule dropped.
    """
    starts, ends = ints[window[0]], ints[window[1]]
    lowest, highest, pivot = floats[LEAST], floats[MOST], floats[PIVOT]
    squares, total = floats[SQUARES], floats[TOTAL]
    for i in range(w):
        a, b = starts[i], ends[i]
        lowest[i], highest[i] = s[min(a, s.shape[0] - 1), i], s[max(b - 1, 0), i]
    for i in range(w):
        low, high = starts[i] - ints[LO, i], ints[HI, i] - ends[i]
        if tails:
            low += ints[LO, i] + ints[TAIL_LOW, i]
            high += ints[VALID, i] - ints[HI, i] + ints[TAIL_HIGH, i]
        n, dropped = float(ends[i] - starts[i]), float(low + high)
        below, above = lowest[i] - pivot[i], highest[i] - pivot[i]
        about = total[i] - n * pivot[i]
        whole = about + low * below + high * above
        added = low * below * below + high * above * above
        varied = about * about / n - whole * whole / (n + dropped)
        squares[i] = squares[i] + added + varied if n > 0.5 else squares[i]


@part
def write_errors(
    ints: Any, floats: Any, settings: Any, window: Any, uncert: Any, place: Any
) -> None:
    """Write the standard deviations of the combined values, NaN for fewer than two values.

    The sample variance is taken from deviations about the pivot, a value in the midst of the kept
    ones, so that nothing cancels; it is at least that of the step, step ** 2 / 12.
    """
    y, x0, w = place
    goal, starts, ends = uncert[y, x0 : x0 + w], ints[window[0]], ints[window[1]]
    squares, pivot, mean = floats[SQUARES], floats[PIVOT], floats[AVERAGE]
    kind, ratio, least = settings.estimator, settings.ratio, settings.step**2 / 12.0
    for i in range(w):
        n = float(ends[i] - starts[i])
        offset = mean[i] - pivot[i]
        variance = larger((squares[i] - n * offset * offset) / (n - 1.0), least)
        factor = n if kind == SUM else 1.0 / n
        goal[i] = math.sqrt(variance * factor) if n > 1.5 else math.nan
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
        kept[i] = hi[i] - lo[i]
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
