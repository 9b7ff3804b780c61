"""``sigma``: values below ``c - low sigma`` or above ``c + high sigma`` are dropped.

c is the median or the mean of the values still kept, sigma the larger of the noise floor and
1.482602218505602 (the inverse of the 0.75 quantile of the normal distribution) times their median
absolute deviation from their median, or their standard deviation about their mean. All is float64.
A value on a bound is kept. A side that is off has an infinite bound, or none where sigma is 0: no
value is beyond a bound that is no number. Passes follow each other until nothing changes,
``max_iters`` are done, or a pass would leave fewer than ``nkeep``, and is not done; what was
dropped never comes back.
With one pass this is ``astropy.stats.sigma_clip`` with the same centre and deviation.
"""

from __future__ import annotations

import math
from typing import Any

from masterframe.kernels.cache import part
from masterframe.kernels.sorting import larger

MAD_TO_SIGMA = 1.482602218505602
MEDIAN, MEAN, FIRST_MEDIAN = range(3)
MAD, STD = range(2)


@part
def window(column: Any, lo: int, hi: int, params: Any) -> tuple[int, int]:
    """Return the window that the passes leave of the sorted values column[lo:hi]."""
    for done in range(params.max_iters):
        n = hi - lo
        if n < 1 or (params.deviation == STD and n <= params.ddof):
            break
        median = (column[(lo + hi - 1) // 2] + column[(lo + hi) // 2]) * 0.5
        c, sigma = median, 0.0
        if params.deviation == STD or params.center != MEDIAN:
            mean = mean_of(column, lo, hi)
            if params.center == MEAN or (params.center == FIRST_MEDIAN and done > 0):
                c = mean
            if params.deviation == STD:
                squares = 0.0
                for k in range(lo, hi):
                    squares += (column[k] - mean) ** 2
                sigma = math.sqrt(squares / (n - params.ddof))
        if params.deviation == MAD:
            sigma = MAD_TO_SIGMA * mad(column, lo, hi, median)
        sigma = floored(sigma, c, params)
        low, high = c - params.low * sigma, c + params.high * sigma
        a, b = lo, hi
        while a < hi and column[a] < low:
            a += 1
        while b > a and column[b - 1] > high:
            b -= 1
        if b - a < params.nkeep or b - a == n:
            break
        lo, hi = a, b
    return lo, hi


@part
def mean_of(column: Any, lo: int, hi: int) -> float:
    """Return the mean, summed upwards."""
    total = 0.0
    for k in range(lo, hi):
        total += column[k]
    return total / (hi - lo)


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
