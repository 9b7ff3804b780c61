"""``linearfit``: values far from a straight line through the sorted values are dropped.

In each pass the line ``a + b k`` is fitted by least squares to the values still kept against their
rank k, and sigma is their mean absolute deviation from it, or the noise floor where that is larger.
A value more than ``low`` sigma below the line at its rank, or ``high`` sigma above it, is dropped;
one on a bound is kept. Passes follow each other until nothing changes, ``max_iters`` are done,
fewer than 5 values are left, or a pass would leave fewer than ``nkeep``, and is not done. Low is
below the line: the centre is the line at the rank of the value.

Siril's ``rej l`` has this sigma, PixInsight's ImageIntegration twice it, so that its bounds of 5
and 2.5 are 10 and 5 here. The ranks are those of the values still kept; Siril takes centre and
spread of the ranks of all frames in every pass, so that after the first its line misses.

Sorted normal values are no line: the ends bend away, the more the more values there are. With
bounds of 8, 0.2 % of them are dropped at 50 values and 0.7 % at 1000, and one value far off is
found among 22 or more; with 5 it is 2 % and 6 %, and 14 values.

The rounding of the fit is the least sigma: values that lie on a line are not far from it. The trace
holds the line at the middle rank, and the bounds at the lowest and the highest.
"""

from __future__ import annotations

import math
from typing import Any

from masterframe.kernels.estimate import LEAST, MIDDLE, MOST, NEAR, NEXT, TOTAL
from masterframe.kernels.load import HI
from masterframe.kernels.native import part
from masterframe.kernels.rules import HIGH, KEPT, LOW
from masterframe.kernels.rules.common import floored, note
from masterframe.kernels.rules.lanes import UNDECIDED
from masterframe.kernels.vectors import larger, smaller

LEAST_N = 5
"""Values through which a line says something of any one of them."""
ROUNDING = 2.0**-50


def mask(
    column: Any, noise: Any, codes: Any, n: int, params: Any, row: float, trace: Any
) -> None:  # fmt: skip
    """Mark what is dropped of the sorted values column[:n]."""
    left = n
    for _ in range(params.max_iters):
        if left < LEAST_N:
            break
        line = _line(column, codes, (n, left))
        origin, start, slope = line
        end = start + slope * (left - 1)
        middle = origin + 0.5 * (start + end)
        sigma = floored(_deviation(column, codes, (n, left), line), middle, params)
        below, above = params.low * sigma, params.high * sigma
        note(trace, middle, sigma, origin + start - below, origin + end + above)
        beyond = _mark(column, codes, n, line, (below, above), False)
        if beyond == 0 or left - beyond < params.nkeep:
            break
        _mark(column, codes, n, line, (below, above), True)
        left -= beyond


def rows(s: Any, w: int, n: int, ints: Any, floats: Any, params: Any, row: float) -> bool:
    """Find the lanes that lose nothing."""
    if n < LEAST_N:
        return True
    starts, slopes, farthest = floats[MIDDLE], floats[NEAR], floats[MOST]
    _find_lines(s, w, n, floats)
    for i in range(w):
        floats[TOTAL, i] = 0.0
        floats[LEAST, i] = math.inf
        farthest[i] = -math.inf
    for k in range(n):
        for i in range(w):
            away = float(s[k, i]) - float(s[n // 2, i]) - (starts[i] + slopes[i] * float(k))
            floats[TOTAL, i] += abs(away)
            floats[LEAST, i] = smaller(away, floats[LEAST, i])
            farthest[i] = larger(away, farthest[i])
    for i in range(w):
        start = starts[i]
        end = start + slopes[i] * (n - 1)
        extent = float(s[n - 1, i]) - float(s[0, i])
        sigma = larger(floats[TOTAL, i] / n, ROUNDING * n * extent)
        sigma = floored(sigma, float(s[n // 2, i]) + 0.5 * (start + end), params)
        if floats[LEAST, i] < -(params.low * sigma) or farthest[i] > params.high * sigma:
            ints[HI, i] = UNDECIDED
    return False


@part
def _find_lines(s: Any, w: int, n: int, floats: Any) -> None:
    """Find the lines above row n // 2: floats[MIDDLE] at rank 0, and their slopes, floats[NEAR]."""
    totals, moments, half = floats[MIDDLE], floats[NEXT], 0.5 * (n - 1)
    for i in range(w):
        totals[i] = 0.0
        moments[i] = 0.0
    for k in range(n):
        x = float(k) - half
        for i in range(w):
            d = float(s[k, i]) - float(s[n // 2, i])
            totals[i] += d
            moments[i] += x * d
    for i in range(w):
        floats[NEAR, i] = 12.0 * moments[i] / (n * (n * n - 1.0))
        floats[MIDDLE, i] = totals[i] / n - floats[NEAR, i] * half


@part
def _line(column: Any, codes: Any, size: tuple[int, int]) -> tuple[float, float, float]:
    """Return an origin, the line above it at rank 0, and its slope."""
    n, left = size
    origin, half = column[n // 2], 0.5 * (left - 1)
    total, moment, x = 0.0, 0.0, -half
    for k in range(n):
        if codes[k] == KEPT:
            d = column[k] - origin
            total += d
            moment += x * d
            x += 1.0
    slope = 12.0 * moment / (left * (left * left - 1.0))
    return origin, total / left - slope * half, slope


@part
def _deviation(
    column: Any, codes: Any, size: tuple[int, int], line: tuple[float, float, float]
) -> float:  # fmt: skip
    """Return the mean absolute deviation from the line, no less than its rounding."""
    n, left = size
    origin, start, slope = line
    total, rank = 0.0, 0.0
    least, most = math.inf, -math.inf
    for k in range(n):
        if codes[k] == KEPT:
            total += abs(column[k] - origin - (start + slope * rank))
            rank += 1.0
            least, most = smaller(least, column[k]), column[k]
    return float(larger(total / left, ROUNDING * left * (most - least)))


@part
def _mark(
    column: Any, codes: Any, n: int, line: tuple[float, float, float],
    bounds: tuple[float, float], write: bool,
) -> int:  # fmt: skip
    """Return how many values are beyond their bounds; mark them."""
    origin, start, slope = line
    below, above = bounds
    beyond, rank = 0, 0.0
    for k in range(n):
        if codes[k] == KEPT:
            distance = column[k] - origin - (start + slope * rank)
            rank += 1.0
            if distance < -below:
                beyond += 1
                if write:
                    codes[k] = LOW
            elif distance > above:
                beyond += 1
                if write:
                    codes[k] = HIGH
    return beyond
