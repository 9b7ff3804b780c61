"""First passes of rules for all lanes of a tile at once: row by row, the inner loop over lanes.

A rule's function ``rows(s, w, n, ints, floats, params, row) -> bool`` sees w lanes (pixels side by
side), each sorted upwards along axis 0 of s; lanes with another number of values than n are done
one by one afterwards, whatever it makes of them. It leaves a window in the rows `LO` and `HI` of
ints: what the first pass keeps, or `UNDECIDED`. True: the windows are final. False: they are where
nothing was dropped, the other lanes are done one by one. So it must sum in the order of the rule's
own function for one pixel, that both decide alike, to the bit.
"""

from __future__ import annotations

from typing import Any

from masterframe.kernels.estimate import LEAST, MIDDLE, MOST, NEXT
from masterframe.kernels.load import HI, LO, VALID
from masterframe.kernels.native import part
from masterframe.kernels.rules.common import FIRST_MEDIAN, INNER_MEAN, MEDIAN

UNDECIDED = -1
"""In the row `HI`: this lane must be looked at."""


@part
def look_again(w: int, ints: Any) -> None:
    """Leave all lanes undecided."""
    for i in range(w):
        ints[HI, i] = UNDECIDED


@part
def find_centers(s: Any, w: int, n: int, kind: int, floats: Any) -> None:
    """Find the centres of a first pass: floats[MIDDLE]."""
    if kind in (MEDIAN, FIRST_MEDIAN):
        for i in range(w):
            floats[MIDDLE, i] = (float(s[(n - 1) // 2, i]) + float(s[n // 2, i])) * 0.5
    elif kind == INNER_MEAN and n > 2:
        find_means(s, w, 1, n - 1, floats[MIDDLE])
    else:
        find_means(s, w, 0, n, floats[MIDDLE])


@part
def find_means(s: Any, w: int, first: int, end: int, means: Any) -> None:
    """Find the means of some rows."""
    for i in range(w):
        means[i] = 0.0
    for k in range(first, end):
        for i in range(w):
            means[i] += float(s[k, i])
    for i in range(w):
        means[i] /= end - first


@part
def add_squares(s: Any, w: int, n: int, centers: Any, floats: Any) -> None:
    """Sum the squares of the deviations from centres: floats[NEXT]."""
    for i in range(w):
        floats[NEXT, i] = 0.0
    for k in range(n):
        for i in range(w):
            deviation = float(s[k, i]) - centers[i]
            floats[NEXT, i] += deviation * deviation


@part
def narrow(s: Any, w: int, n: int, ints: Any, floats: Any, nkeep: int) -> None:
    """Set the windows from floats[LEAST] to floats[MOST]; none where fewer than nkeep were left."""
    for k in range(n):
        dropped = 0
        for i in range(w):
            low = 1 if float(s[k, i]) < floats[LEAST, i] else 0
            ints[LO, i] += low
            dropped += low
        if dropped == 0:
            break
    for k in range(n):
        dropped = 0
        for i in range(w):
            high = 1 if float(s[n - 1 - k, i]) > floats[MOST, i] else 0
            ints[HI, i] -= high
            dropped += high
        if dropped == 0:
            break
    for i in range(w):
        if ints[HI, i] - ints[LO, i] < nkeep:
            ints[LO, i], ints[HI, i] = 0, ints[VALID, i]
