"""What is made of the values that are kept: mean, median or sum, and their uncertainty."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from masterframe.kernels.cache import part
from masterframe.kernels.load import HI, HIGH, LO, LOW, SATURATED, VALID
from masterframe.kernels.sorting import larger, smaller

MEAN, MEDIAN, SUM = range(3)
ESTIMATORS = ("mean", "median", "sum")

_EFFICIENCY = np.array(
    [
        math.nan,
        1.0,
        1.0,
        1.16017814,
        1.09215314,
        1.19756766,
        1.13510176,
        1.21372486,
        1.15993398,
        1.22266575,
        1.17612259,
        1.22832682,
        1.187516,
        1.23222844,
        1.19597229,
        1.23507886,
        1.20249881,
        1.23725175,
        1.20768919,
        1.23896268,
        1.21191607,
        1.24034465,
        1.21542519,
        1.24148412,
        1.21838524,
        1.24243971,
        1.22091583,
        1.24325257,
        1.22310418,
        1.24395245,
        1.22501537,
        1.24456134,
        1.22669895,
        1.24509591,
        1.22819331,
        1.24556897,
        1.22952868,
        1.24599056,
        1.23072916,
        1.24636864,
        1.23181422,
        1.24670961,
        1.23279975,
        1.24701868,
        1.23369884,
        1.24730012,
        1.2345224,
        1.24755748,
        1.23527956,
        1.24779373,
        1.23597805,
        1.24801135,
        1.23662443,
        1.24821247,
        1.23722433,
        1.2483989,
        1.23778258,
        1.24857218,
        1.23830338,
        1.24873366,
        1.23879038,
        1.24888451,
        1.23924676,
        1.24902574,
        1.23967533,
    ]
)


@functools.lru_cache(maxsize=16)
def efficiencies(n: int) -> NDArray[np.float64]:
    """Return the ratio of the median's standard deviation to the mean's, for 0 to n values.

    For normal data: sqrt(k) sd(median) / sigma. Up to 64 values from integrals of the densities of
    the middle order statistics (H. A. David and H. N. Nagaraja, Order Statistics, 3rd ed., 2003,
    2.1 and 2.2; for even k the density of the mean of the two middle ones), beyond them by the
    series pi/2 (1 - (2 - pi/2)/k ...) for odd and pi/2 (1 - (3 - pi/2)/k ...) for even k, whose
    further terms were fitted to the same integrals; within 1e-6 of them.

    Parameters
    ----------
    n : int
        Largest number of values.

    Returns
    -------
    ndarray of float64, shape (n + 1,)
        Read-only; the first is NaN, and all go to sqrt(pi/2) = 1.2533.
    """
    k = np.arange(n + 1, dtype=np.float64)
    k[0] = math.nan
    odd = 1 - (2 - math.pi / 2) / k - 0.0775 / k**2
    even = 1 - (3 - math.pi / 2) / k + 2.921 / k**2 - 7.4 / k**3
    table = np.sqrt(math.pi / 2 * np.where(k % 2 == 1, odd, even))
    known = min(n + 1, len(_EFFICIENCY))
    table[:known] = _EFFICIENCY[:known]
    table.flags.writeable = False
    return table


TOTAL, SQUARES, PIVOT, LEVEL, MIDDLE, NEAR, NEXT, LEAST, MOST, APART, EVENS, ODDS = range(12)
"""Rows of the real numbers of each lane: sum of the kept values, and of the squares of their
deviations from the pivot, a kept value in their midst; the level that frames are measured against;
then, on the way to the window: median, the two middle distances from it, bounds; for the frames:
deviations from the level, and their sums over the even and the odd frames."""


@part
def moments(s: Any, w: int, ints: Any, floats: Any) -> None:
    """Sum the kept values s[lo:hi] of each lane, and the squares of their deviations.

    Row by row, so that every lane adds in sorted order; rows that all lanes keep need no test.
    """
    first, last, least = ints[LO, 0], ints[HI, 0], ints[VALID, 0]
    for i in range(w):
        first = larger(first, ints[LO, i])
        last = smaller(last, ints[HI, i])
        least = smaller(least, ints[VALID, i])
    n, middle = s.shape[0], (s.shape[0] - 1) // 2
    for i in range(w):
        floats[TOTAL, i] = 0.0
        floats[SQUARES, i] = 0.0
        floats[PIVOT, i] = s[middle, i]
    if least < n or first > middle or last <= middle:
        for i in range(w):
            lo, hi = ints[LO, i], ints[HI, i]
            floats[PIVOT, i] = s[min(max((ints[VALID, i] - 1) // 2, lo), max(hi - 1, 0)), i]
    for k in range(n):
        if first <= k < last:
            for i in range(w):
                value = float(s[k, i])
                deviation = value - floats[PIVOT, i]
                floats[TOTAL, i] += value
                floats[SQUARES, i] += deviation * deviation
        else:
            for i in range(w):
                kept = (k >= ints[LO, i]) & (k < ints[HI, i])
                value = float(s[k, i])
                deviation = value - floats[PIVOT, i] if kept else 0.0
                floats[TOTAL, i] += value if kept else 0.0
                floats[SQUARES, i] += deviation * deviation


@part
def write_values(s: Any, ints: Any, floats: Any, kind: int, data: Any, place: Any) -> None:
    """Write the combined values at a place (row, first column, columns); NaN where none is kept.

    The level that frames are measured against is the value as it is written; for a sum the mean.
    """
    y, x0, w = place
    for i in range(w):
        data[y, x0 + i] = floats[TOTAL, i] / (float(ints[HI, i]) - float(ints[LO, i]))
    if kind == MEDIAN:
        for i in range(w):
            lo, hi = ints[LO, i], ints[HI, i]
            if hi > lo:
                low, high = float(s[(lo + hi - 1) // 2, i]), float(s[(lo + hi) // 2, i])
                data[y, x0 + i] = (low + high) * 0.5
    for i in range(w):
        floats[LEVEL, i] = data[y, x0 + i]
    if kind == SUM:
        for i in range(w):
            if ints[HI, i] > ints[LO, i]:
                data[y, x0 + i] = floats[TOTAL, i]


@part
def write_errors(ints: Any, floats: Any, settings: Any, uncert: Any, place: Any) -> None:
    """Write the standard deviations of the combined values, NaN for fewer than two values.

    The sample variance is taken from deviations about the pivot, a value in the midst of the kept
    ones, so that nothing cancels; it is at least that of the step, step ** 2 / 12.
    """
    y, x0, w = place
    kind, efficiency, least = settings.estimator, settings.efficiency, settings.step**2 / 12.0
    for i in range(w):
        n = float(ints[HI, i]) - float(ints[LO, i])
        offset = floats[TOTAL, i] / n - floats[PIVOT, i]
        variance = larger((floats[SQUARES, i] - n * offset * offset) / (n - 1.0), least)
        if kind == SUM:
            variance *= n * n
        uncert[y, x0 + i] = math.sqrt(variance / n) if n > 1.5 else math.nan
    if kind == MEDIAN:
        for i in range(w):
            uncert[y, x0 + i] *= efficiency[ints[HI, i] - ints[LO, i]]


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
