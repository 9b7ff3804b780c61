"""The window of the rule ``sigma`` for all lanes of a tile at once, row by row.

One pass about the median with the median absolute deviation, for lanes of which all have n values;
the result is, to the bit, that of `masterframe.kernels.rules.sigma.window` lane by lane. The k
values nearest to the median are neighbours when sorted, so that the k-th smallest distance from it
is the least, over all windows of k values, of the larger distance of their two ends.

Distances are of the type of the values: exact for integers, rounded for floats. There the bounds
are taken closer by more than all rounding, so that nothing beyond the true bounds is inside; lanes
in which a value is between the two are left to the rule itself (`is_sure`).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from masterframe.kernels.estimate import LEAST, MOST
from masterframe.kernels.load import HI, LO, VALID
from masterframe.kernels.native import part
from masterframe.kernels.rules.common import floored
from masterframe.kernels.vectors import (
    BITS,
    above,
    below,
    first,
    first_lanes,
    larger,
    minus,
    smaller,
)

LOWEST, HIGHEST = range(2)
"""Rows of the bounds of each lane, of the type of the values."""


@part
def find_distances(s: Any, w: int, n: int, near: Any) -> None:
    """Find the middle distances from the medians: near[0] and, for even n, near[1].

    For even n the distances are measured from the two middle values, each on its side; half the gap
    between them, which all distances have in common, is to be added.
    """
    h, g = (n - 1) // 2, n // 2
    low, high, first, last = s[h], s[g], s[0], s[n - 1]
    for row in range(1 + g - h):
        goal = near[row]
        for i in range(w):
            goal[i] = minus(low[i], first[i])
        if row < g - h:
            for i in range(w):
                goal[i] = smaller(minus(last[i], high[i]), goal[i])
        for a in range(1, h + 1):
            left, right = s[a], s[a + h + row]
            for i in range(w):
                further = larger(minus(low[i], left[i]), minus(right[i], high[i]))
                goal[i] = smaller(further, goal[i])


@part
def _sigma(median: float, twice: float, factor: float, params: Any) -> float:
    """Return the spread where twice the median distance is given."""
    return float(floored(factor * (twice * 0.5), median, params))


@part
def bound_integers(s: Any, w: int, n: int, near: Any, bounds: Any, params: Any) -> None:
    """Find the least and the largest integer within the bounds of each lane."""
    middles, others = (s[(n - 1) // 2], s[n // 2]), (near[0], near[1 - n % 2])
    bound_middles(middles, others, n, w, bounds, params)


@part
def bound_middles(
    middles: Any, distances: Any, n: int, w: int, bounds: Any, params: Any
) -> None:  # fmt: skip
    """Do the same where the two middle values and the two middle distances are given."""
    (low, high), (one, other) = middles, distances
    least, most, factor = bounds[LOWEST], bounds[HIGHEST], params.mad[n]
    for i in range(w):  # sums in float32 are exact: they are below 2 ** 18
        a, b = np.float32(low[i]), np.float32(high[i])
        median = np.float64(a + b) * 0.5
        twice = (np.float32(one[i]) + np.float32(other[i])) + (b - a)
        sigma = _sigma(median, np.float64(twice), factor, params)
        least[i] = np.ceil(larger(median - params.low * sigma, 0.0))
        most[i] = smaller(median + params.high * sigma, 65535.0)


@part
def bound_floats(
    s: Any, w: int, n: int, near: Any, bounds: Any, floats: Any, settings: Any
) -> None:
    """Find bounds beyond which all that the rule drops is, and others where it surely does."""
    params, rounding = settings.params, settings.rounding
    low, high, one, other = s[(n - 1) // 2], s[n // 2], near[0], near[1 - n % 2]
    least, most, factor = bounds[LOWEST], bounds[HIGHEST], params.mad[n]
    sure_least, sure_most = floats[LEAST], floats[MOST]
    for i in range(w):
        a, b = float(low[i]), float(high[i])
        median = (a + b) * 0.5
        sigma = _sigma(median, float(one[i]) + float(other[i]) + (b - a), factor, params)
        below, above = params.low * sigma, params.high * sigma
        doubt = rounding * (abs(median) + below)
        sure_least[i] = median - below - doubt
        least[i] = median - below + doubt
        doubt = rounding * (abs(median) + above)
        sure_most[i] = median + above + doubt
        most[i] = median + above - doubt


@part
def clip(s: Any, w: int, n: int, ints: Any, bounds: Any) -> None:
    """Set the windows of lanes with n values each to those within the bounds.

    Few lanes lose any: row by row from both ends, until none does.
    """
    least, most, lo, hi = bounds[LOWEST], bounds[HIGHEST], ints[LO], ints[HI]
    for start in range(0, w, BITS):
        lanes, inside = slice(start, start + BITS), first_lanes(w - start)
        for k in range(n):
            dropped = below(s[k, lanes], least[lanes]) & inside
            if dropped == 0:
                break
            while dropped != 0:
                lo[start + first(dropped)] += 1
                dropped &= dropped - 1
        for k in range(n):
            dropped = above(s[n - 1 - k, lanes], most[lanes]) & inside
            if dropped == 0:
                break
            while dropped != 0:
                hi[start + first(dropped)] -= 1
                dropped &= dropped - 1


@part
def fewest_kept(room: Any, w: int) -> Any:
    """Return how many values the lane keeps that keeps the fewest."""
    lo, hi, fewest = room.ints[LO], room.ints[HI], np.int32(room.sorted.shape[0])
    for i in range(w):
        fewest = smaller(minus(hi[i], lo[i]), fewest)
    return fewest


@part
def is_sure(s: Any, i: int, ints: Any, floats: Any) -> bool:
    """Whether the rule drops what was clipped from a lane, whatever the rounding."""
    lo, hi = ints[LO, i], ints[HI, i]
    low = lo == 0 or float(s[lo - 1, i]) < floats[LEAST, i]
    return bool(low and (hi == ints[VALID, i] or float(s[hi, i]) > floats[MOST, i]))


@part
def majority(w: int, ints: Any) -> Any:
    """Return the number of values that most lanes have, where any has a majority (Boyer-Moore)."""
    n, votes = np.int64(0), 0
    for i in range(w):
        if votes == 0:
            n = np.int64(ints[VALID, i])
        votes += 1 if ints[VALID, i] == n else -1
    return n
