"""``pclip``: values far from the median, measured by the distance of one ranked value, are dropped.

``pclip`` counts values from the median, upwards where it is positive, downwards where it is
negative; below 1 it is a fraction of half the number n of values. It is cut to a whole number from
1 to n // 2; for even n it counts from the lower or upper of the two in the middle. The distance of
that value from the median is the spread, or the noise floor where that is larger, and values beyond
``low`` or ``high`` times the spread are dropped, in one pass. Where the spread is 0, or where there
are fewer than 3 values, nothing is. One quartile of a normal distribution (``pclip`` -0.5) is 0.67
sigma from the median: the default bounds are at 2 sigma.

This is the pclip of IRAF's imcombine (``icombine.x``, ``icpclip.gx``) but for three things: a value
on a bound is kept, as by all rules, while IRAF drops it; where values are missing, the fraction is
one of those present, while IRAF takes the rank that belongs to all frames, an extreme where few are
left; and ``nkeep`` undoes the pass.
"""

from __future__ import annotations

import math
from typing import Any

from masterframe.kernels.estimate import LEAST, MIDDLE, MOST
from masterframe.kernels.native import part
from masterframe.kernels.registry import MIN_N
from masterframe.kernels.rules.common import MEDIAN, floored, median_of, narrowed, note
from masterframe.kernels.rules.lanes import find_centers, narrow


@part
def _rank(n: int, pclip: float) -> int:
    """Return the place of the value that measures the spread, among n sorted ones."""
    half = n // 2
    steps = abs(pclip)
    if steps < 1.0:
        steps *= half
    count = int(min(max(steps, 1.0), float(half)))
    if pclip < 0.0:
        return max((n - 1) // 2 - count, 0)
    return min(half + count, n - 1)


def window(column: Any, lo: int, hi: int, params: Any, row: float, trace: Any) -> tuple[int, int]:
    """Return the window that is left of the sorted values column[lo:hi]."""
    n = hi - lo
    if n < MIN_N:
        return lo, hi
    c = median_of(column, lo, hi)
    sigma = floored(abs(column[lo + _rank(n, params.pclip)] - c), c, params)
    if sigma == 0.0:
        note(trace, c, sigma, -math.inf, math.inf)
        return lo, hi
    lo, hi = narrowed(column, lo, hi, c, sigma, params, trace)
    return lo, hi


def rows(s: Any, w: int, n: int, ints: Any, floats: Any, params: Any, row: float) -> bool:
    """Set the windows of all lanes."""
    if n < MIN_N:
        return True
    find_centers(s, w, n, MEDIAN, floats)
    rank = _rank(n, params.pclip)
    for i in range(w):
        c = floats[MIDDLE, i]
        sigma = floored(abs(float(s[rank, i]) - c), c, params)
        floats[LEAST, i] = c - params.low * sigma if sigma != 0.0 else -math.inf
        floats[MOST, i] = c + params.high * sigma if sigma != 0.0 else math.inf
    narrow(s, w, n, ints, floats, params.nkeep)
    return True
