"""What several rules share: centres, spreads, bounds, and the trace for `explain`."""

from __future__ import annotations

import math
from typing import Any

from masterframe.kernels.native import part
from masterframe.kernels.vectors import larger

MEDIAN, MEAN, FIRST_MEDIAN, INNER_MEAN = range(4)
MAD, STD, RMS = range(3)
CENTER, SPREAD, LEAST, MOST, PASSES = range(5)
"""Places in a trace: centre, spread (sigma), bounds, and passes done."""


@part
def note(trace: Any, center: float, spread: float, least: float, most: float) -> None:
    """Leave the numbers of a pass in the trace, and count it."""
    trace[CENTER] = center
    trace[SPREAD] = spread
    trace[LEAST] = least
    trace[MOST] = most
    trace[PASSES] += 1.0


@part
def median_of(column: Any, lo: int, hi: int) -> float:
    """Return the median of sorted values."""
    return float((column[(lo + hi - 1) // 2] + column[(lo + hi) // 2]) * 0.5)


@part
def mean_of(column: Any, lo: int, hi: int) -> float:
    """Return the mean, summed upwards."""
    total = 0.0
    for k in range(lo, hi):
        total += column[k]
    return total / (hi - lo)


@part
def center_of(column: Any, lo: int, hi: int, kind: int, done: int) -> Any:
    """Return the centre of pass `done` (0 first) that the option ``center`` asks for."""
    if kind == MEDIAN or (kind == FIRST_MEDIAN and done == 0):
        return median_of(column, lo, hi)
    if kind == INNER_MEAN and done == 0 and hi - lo > 2:
        return mean_of(column, lo + 1, hi - 1)
    return mean_of(column, lo, hi)


@part
def rms_about(column: Any, lo: int, hi: int, center: float, ddof: int) -> float:
    """Return the root mean square deviation from a centre, with ddof taken off n."""
    squares = 0.0
    for k in range(lo, hi):
        squares += (column[k] - center) ** 2
    return math.sqrt(squares / (hi - lo - ddof))


@part
def sums_about(column: Any, lo: int, hi: int, origin: float) -> tuple[float, float]:
    """Return the sums of the distances from an origin and of their squares."""
    total, squares = 0.0, 0.0
    for k in range(lo, hi):
        d = column[k] - origin
        total += d
        squares += d * d
    return total, squares


@part
def mad(column: Any, lo: int, hi: int, median: float) -> float:
    """Return the median absolute deviation: two fingers walk from the middle to both sides.

    Distances grow outwards, so that the next smallest is always under one of the fingers.
    """
    n, right = hi - lo, (lo + hi) // 2
    left = right - 1
    before, last = 0.0, 0.0
    for _ in range(n // 2 + 1):
        before = last
        if left < lo or (right < hi and column[right] - median <= median - column[left]):
            last = column[right] - median
            right += 1
        else:
            last = median - column[left]
            left -= 1
    return last if n % 2 else (before + last) * 0.5


@part
def floored(sigma: float, c: float, params: Any) -> float:
    """Return sigma, but not less than the noise that the data must have."""
    if params.poisson > 0.0 or params.read > 0.0:
        sigma = larger(sigma, math.sqrt(params.poisson * larger(c, 0.0) + params.read))
    return float(larger(sigma, params.quant))


@part
def cut(column: Any, lo: int, hi: int, least: float, most: float) -> tuple[int, int]:
    """Return the window of the sorted values from least to most, both kept.

    Bounds that are no number (a side that is off times a sigma of 0) cut nothing.
    """
    a, b = lo, hi
    while a < hi and column[a] < least:
        a += 1
    while b > a and column[b - 1] > most:
        b -= 1
    return a, b


@part
def narrowed(
    column: Any, lo: int, hi: int, c: float, sigma: float, params: Any, trace: Any
) -> tuple[int, int]:  # fmt: skip
    """Do one pass: return the window within ``low`` and ``high`` sigmas of the centre c.

    It is the window given where fewer than ``nkeep`` values would be left.
    """
    least, most = c - params.low * sigma, c + params.high * sigma
    note(trace, c, sigma, least, most)
    a, b = cut(column, lo, hi, least, most)
    if b - a < params.nkeep:
        return lo, hi
    return a, b
