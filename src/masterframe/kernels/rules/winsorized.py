"""``winsorized``: as ``sigma`` about the median, with the spread of values that are pulled in.

The spread of a pass begins as the standard deviation (n - 1) of the values still kept. Those
further than 1.5 of it from their median are pulled in to that distance, and 1.134 times the
standard deviation of the result is the next spread, until one differs from that before it by no
more than 0.0005 of it. (1.134 undoes what 1.5 sigma take off the standard deviation of normal
values, P. J. Huber and E. Ronchetti, Robust Statistics; PixInsight's ImageIntegration and Siril's
``rej w`` have the same three numbers.) Where all that is not pulled in equals the median, spreads
that shrink do so by the same factor each time, and the spread is 0.

sigma is the larger of that spread and the noise floor. Values below ``median - low sigma`` or above
``median + high sigma`` are dropped, a value on a bound is kept, and the next pass follows, until
nothing changes, ``max_iters`` are done, fewer than 4 values are left, or a pass would leave fewer
than ``nkeep``, and is not done. What is averaged later are the values as they were.

Each time the values themselves are pulled in, not what was left of them the time before, as the two
programs do. That matters only where the spread grows, for it never turns: a wider limit lets no two
values come nearer to each other, so that the next spread is never smaller for a larger one.
"""

from __future__ import annotations

import math
from typing import Any

from masterframe.kernels.native import part
from masterframe.kernels.rules.common import floored, median_of, narrowed, sums_about
from masterframe.kernels.vectors import larger

REACH = 1.5
FACTOR = 1.134
TOLERANCE = 0.0005
LEAST_N = 4
"""Values of which one may be dropped: of three, the test finds one far off in one case of five."""


def window(column: Any, lo: int, hi: int, params: Any, row: float, trace: Any) -> tuple[int, int]:
    """Return the window that the passes leave of the sorted values column[lo:hi]."""
    for _ in range(params.max_iters):
        n = hi - lo
        if n < LEAST_N:
            break
        c = median_of(column, lo, hi)
        sigma = floored(_spread(column, lo, hi, c), c, params)
        lo, hi = narrowed(column, lo, hi, c, sigma, params, trace)
        if hi - lo == n:
            break
    return lo, hi


@part
def _spread(column: Any, lo: int, hi: int, median: float) -> float:
    """Return the Winsorised spread about the median of sorted values."""
    left, right = lo, hi
    flat, tilt, bow = _next_variance(column, (lo, hi), (left, right), median)
    spread = math.sqrt(flat) / FACTOR
    while spread > 0.0:
        a, b = _within(column, (lo, hi), (left, right), median, REACH * spread)
        if a != left or b != right:
            left, right = a, b
            flat, tilt, bow = _next_variance(column, (lo, hi), (left, right), median)
            if flat == 0.0 and bow < 1.0:
                return 0.0
        new = math.sqrt(larger(flat + spread * (tilt + spread * bow), 0.0))
        if not abs(new - spread) > TOLERANCE * spread:
            return new
        spread = new
    return spread


@part
def _next_variance(
    column: Any, whole: tuple[int, int], inside: tuple[int, int], median: float
) -> tuple[float, float, float]:  # fmt: skip
    """Return p, q and r: the square of the spread that follows s is p + q s + r s^2.

    That holds as long as the values inside are those that are not pulled in.
    """
    lo, hi = whole
    left, right = inside
    total, squares = sums_about(column, left, right, median)
    n = float(hi - lo)
    skew, pulled = float((hi - right) - (left - lo)), float((hi - right) + (left - lo))
    square = FACTOR * FACTOR / (n * (n - 1.0))
    return (
        square * larger(n * squares - total * total, 0.0),
        square * -2.0 * REACH * skew * total,
        square * REACH * REACH * (n * pulled - skew * skew),
    )


@part
def _within(
    column: Any, whole: tuple[int, int], before: tuple[int, int], median: float, reach: float
) -> tuple[int, int]:  # fmt: skip
    """Return the window no further than reach from the median, found from the window before."""
    lo, hi = whole
    left, right = before
    while left < right and median - column[left] > reach:
        left += 1
    while right > left and column[right - 1] - median > reach:
        right -= 1
    while left > lo and median - column[left - 1] <= reach:
        left -= 1
    while right < hi and column[right] - median <= reach:
        right += 1
    return left, right
