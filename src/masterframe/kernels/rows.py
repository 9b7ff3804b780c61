"""The window of the rule ``sigma`` for all lanes of a tile at once, row by row.

One pass about the median with the median absolute deviation, for lanes of which all have n values;
the result is, to the bit, that of `masterframe.kernels.rules.sigma.window` lane by lane. The k
values nearest to the median are neighbours when sorted, so that the k-th smallest distance from it
is the least, over all windows of k values, of the larger distance of their two ends.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from masterframe.kernels.cache import part
from masterframe.kernels.estimate import LEAST, MIDDLE, MOST, NEAR, NEXT
from masterframe.kernels.load import HI, LO, VALID
from masterframe.kernels.rules.common import floored
from masterframe.kernels.sorting import larger, smaller


@part
def distances_of_floats(s: Any, w: int, n: int, floats: Any) -> None:
    """Find medians and median absolute deviations: floats[MIDDLE] and floats[NEAR]."""
    h, g = (n - 1) // 2, n // 2
    for i in range(w):
        floats[MIDDLE, i] = (float(s[h, i]) + float(s[g, i])) * 0.5
        floats[NEAR, i] = math.inf
        floats[NEXT, i] = math.inf
    row = NEAR
    for size in range(h + 1, g + 2):  # n // 2 + 1 values, for even n also one fewer
        for a in range(n - size + 1):
            b = a + size - 1
            for i in range(w):
                below = floats[MIDDLE, i] - float(s[a, i])
                above = float(s[b, i]) - floats[MIDDLE, i]
                floats[row, i] = smaller(larger(below, above), floats[row, i])
        row = NEXT
    if n % 2 == 0:
        for i in range(w):
            floats[NEAR, i] = (floats[NEAR, i] + floats[NEXT, i]) * 0.5


@part
def distances_of_integers(s: Any, w: int, n: int, floats: Any, near: Any) -> None:
    """Do the same for integers of 16 bits, exactly, in 16 bits.

    For even n the distances are measured from the two middle values, each on its side; half the gap
    between them, which all distances have in common, is added at the end.
    """
    h, g = (n - 1) // 2, n // 2
    for i in range(w):
        near[0, i] = np.uint16(s[h, i] - s[0, i])
        near[1, i] = near[0, i]
        if n % 2 == 0:
            near[0, i] = smaller(near[0, i], np.uint16(s[n - 1, i] - s[g, i]))
    for row in range(2):
        for a in range(1, h + 1):
            b = a + h + row * (g - h)
            for i in range(w):
                below, above = np.uint16(s[h, i] - s[a, i]), np.uint16(s[b, i] - s[g, i])
                near[row, i] = smaller(larger(below, above), near[row, i])
    for i in range(w):
        low, high = float(s[h, i]), float(s[g, i])
        floats[MIDDLE, i] = (low + high) * 0.5
        floats[NEAR, i] = (float(near[0, i]) + float(near[1, i]) + (high - low)) * 0.5


@part
def clip(s: Any, w: int, n: int, ints: Any, floats: Any, params: Any) -> None:
    """Set the windows by the medians and median absolute deviations of n values a lane."""
    factor = params.mad[n]
    for i in range(w):
        c = floats[MIDDLE, i]
        sigma = floored(factor * floats[NEAR, i], c, params)
        floats[LEAST, i] = c - params.low * sigma
        floats[MOST, i] = c + params.high * sigma
    for k in range(n):
        dropped = np.int32(0)
        for i in range(w):
            low = np.int32(float(s[k, i]) < floats[LEAST, i])
            ints[LO, i] += low
            dropped += low
        if dropped == 0:
            break
    for k in range(n):
        dropped = np.int32(0)
        for i in range(w):
            high = np.int32(float(s[n - 1 - k, i]) > floats[MOST, i])
            ints[HI, i] -= high
            dropped += high
        if dropped == 0:
            break
    for i in range(w):
        if ints[HI, i] - ints[LO, i] < params.nkeep:
            ints[LO, i], ints[HI, i] = 0, ints[VALID, i]


@part
def majority(w: int, ints: Any) -> Any:
    """Return the number of values that most lanes have, where any has a majority (Boyer-Moore)."""
    n, votes = np.int64(0), 0
    for i in range(w):
        if votes == 0:
            n = np.int64(ints[VALID, i])
        votes += 1 if ints[VALID, i] == n else -1
    return n
