"""What is made of the values that are kept, and its uncertainty from their scatter."""

from __future__ import annotations

import math
from typing import Any

from masterframe.kernels.cache import part
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
from masterframe.kernels.ratios import ESTIMATORS
from masterframe.kernels.sorting import larger, smaller

MEAN, MEDIAN, LMEDIAN, SUM, WEIGHTED, MIN, MAX, TRIMMED = range(len(ESTIMATORS))

TOTAL, SQUARES, PIVOT, LEVEL, MIDDLE, NEAR, NEXT, LEAST, MOST, APART, EVENS, ODDS = range(12)
"""Rows of the real numbers of each lane: sum of the kept values, and of the squares of their
deviations from the pivot, a kept value in their midst; the level that frames are measured against;
then, on the way to the window: median, the two middle distances from it, bounds; for the frames:
deviations from the level, and their sums over the even and the odd frames."""


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
    of the window that is nearest to it. Row by row, so that every lane adds in sorted order; rows
    that all lanes keep need no test.
    """
    start, end = window
    first, last, least = ints[start, 0], ints[end, 0], ints[VALID, 0]
    for i in range(w):
        first = larger(first, ints[start, i])
        last = smaller(last, ints[end, i])
        least = smaller(least, ints[VALID, i])
    n, middle = s.shape[0], (s.shape[0] - 1) // 2
    for i in range(w):
        floats[TOTAL, i] = 0.0
        floats[SQUARES, i] = 0.0
        floats[PIVOT, i] = s[middle, i]
    if least < n or first > middle or last <= middle:
        for i in range(w):
            lo, hi = ints[start, i], ints[end, i]
            floats[PIVOT, i] = s[min(max((ints[VALID, i] - 1) // 2, lo), max(hi - 1, 0)), i]
    add_moments(s, w, ints, floats, window, (first, last))


@part
def moments_about(s: Any, w: int, ints: Any, floats: Any, window: Any, pivots: Any) -> None:
    """Do the same where the lower medians of all values are given, for values rejected before."""
    start, end = window
    first, last = ints[start, 0], ints[end, 0]
    for i in range(w):
        lo, hi = ints[start, i], ints[end, i]
        first, last = larger(first, lo), smaller(last, hi)
        floats[TOTAL, i] = 0.0
        floats[SQUARES, i] = 0.0
        floats[PIVOT, i] = min(max(pivots[i], float(s[lo, i])), float(s[max(hi - 1, 0), i]))
    add_moments(s, w, ints, floats, window, (first, last))


@part
def add_moments(s: Any, w: int, ints: Any, floats: Any, window: Any, common: Any) -> None:
    """Add values and squares; rows from the first to the last of `common` are of all lanes."""
    (start, end), (first, last) = window, common
    for k in range(s.shape[0]):
        if first <= k < last:
            for i in range(w):
                value = float(s[k, i])
                deviation = value - floats[PIVOT, i]
                floats[TOTAL, i] += value
                floats[SQUARES, i] += deviation * deviation
        else:
            for i in range(w):
                kept = (k >= ints[start, i]) & (k < ints[end, i])
                value = float(s[k, i])
                deviation = value - floats[PIVOT, i] if kept else 0.0
                floats[TOTAL, i] += value if kept else 0.0
                floats[SQUARES, i] += deviation * deviation


@part
def write_values(
    s: Any, ints: Any, floats: Any, kind: int, window: Any, data: Any, place: Any
) -> None:
    """Write the combined values at a place (row, first column, columns); NaN where none is kept.

    The level that frames are measured against is the value as it is written; for a sum the mean.
    """
    y, x0, w = place
    start, end = window
    for i in range(w):
        data[y, x0 + i] = floats[TOTAL, i] / (float(ints[end, i]) - float(ints[start, i]))
    if kind == MEDIAN:
        for i in range(w):
            lo, hi = ints[LO, i], ints[HI, i]
            if hi > lo:
                low, high = float(s[(lo + hi - 1) // 2, i]), float(s[(lo + hi) // 2, i])
                data[y, x0 + i] = (low + high) * 0.5
    elif kind in (LMEDIAN, MIN, MAX):
        for i in range(w):
            lo, hi = ints[LO, i], ints[HI, i]
            if hi > lo:
                middle = (lo + hi - 1) // 2
                data[y, x0 + i] = s[lo if kind == MIN else hi - 1 if kind == MAX else middle, i]
    for i in range(w):
        floats[LEVEL, i] = data[y, x0 + i]
    if kind == SUM:
        for i in range(w):
            if ints[HI, i] > ints[LO, i]:
                data[y, x0 + i] = floats[TOTAL, i]


@part
def winsorize(s: Any, w: int, ints: Any, floats: Any, tails: bool, window: Any) -> None:
    """Count values dropped at each end as equal to the last that is averaged there.

    Then the sum of squared deviations over n (n - 1), with the n that are averaged, is the variance
    of a trimmed mean (K. K. Yuen, Biometrika 61, 165, 1974; after J. W. Tukey and D. H. McLaughlin,
    Sankhya A 25, 331, 1963). `tails`: also what the rule dropped.
    """
    start, end = window
    for i in range(w):
        a, b = ints[start, i], ints[end, i]
        if a >= b:
            continue
        low, high = a - ints[LO, i], ints[HI, i] - b
        if tails:
            low, high = a + ints[TAIL_LOW, i], ints[VALID, i] - b + ints[TAIL_HIGH, i]
        n, ends = float(b - a), float(low + high)
        below, above = s[a, i] - floats[PIVOT, i], s[b - 1, i] - floats[PIVOT, i]
        about = floats[TOTAL, i] - n * floats[PIVOT, i]
        whole = about + low * below + high * above
        floats[SQUARES, i] += low * below * below + high * above * above
        floats[SQUARES, i] += about * about / n - whole * whole / (n + ends)


@part
def write_errors(
    ints: Any, floats: Any, settings: Any, window: Any, uncert: Any, place: Any
) -> None:
    """Write the standard deviations of the combined values, NaN for fewer than two values.

    The sample variance is taken from deviations about the pivot, a value in the midst of the kept
    ones, so that nothing cancels; it is at least that of the step, step ** 2 / 12.
    """
    y, x0, w = place
    start, end = window
    kind, ratio, least = settings.estimator, settings.ratio, settings.step**2 / 12.0
    for i in range(w):
        n = float(ints[end, i]) - float(ints[start, i])
        offset = floats[TOTAL, i] / n - floats[PIVOT, i]
        variance = larger((floats[SQUARES, i] - n * offset * offset) / (n - 1.0), least)
        if kind == SUM:
            variance *= n * n
        uncert[y, x0 + i] = math.sqrt(variance / n) if n > 1.5 else math.nan
    if ratio.size:
        for i in range(w):
            uncert[y, x0 + i] *= ratio[ints[HI, i] - ints[LO, i]]


@part
def write_counts(ints: Any, counts: Any, place: Any) -> None:
    """Write how many values were kept and rejected low and high, and how many are saturated."""
    y, x0, w = place
    for i in range(w):
        counts[0, y, x0 + i] = ints[HI, i] - ints[LO, i]
    for i in range(w):
        counts[1, y, x0 + i] = ints[LOW, i] + ints[LO, i]
    for i in range(w):
        counts[2, y, x0 + i] = ints[HIGH, i] + ints[VALID, i] - ints[HI, i]
    for i in range(w):
        counts[3, y, x0 + i] = ints[SATURATED, i]
