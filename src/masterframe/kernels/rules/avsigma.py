"""``avsigma``: as ``sigma``, with one spread for a whole row, in units of its Poisson noise.

Noise is taken to grow with the square root of the signal, by the same factor in the whole row, so
that a row's many pixels can tell what a few values of one pixel cannot: with c the centre of a
pixel (``center`` of all its values) and sums over the values x of all pixels of the row that have
at least 3, the factor is s = sqrt(sum((x - c)^2 / max(c, 1)) / (number - 1)), and sigma = s
sqrt(max(c, 1)) at the centre of the values still kept, or the noise floor where that is larger.
The 1 stands for one unit of the data: below, the noise is taken as constant.

Passes follow each other as in ``sigma``, each with at least 3 values; s stays as it is. This is the
avsigclip of IRAF's imcombine (``icaclip.gx``), centre median for its mclip=yes, inner-mean for
mclip=no. Outliers count in s, as there: a strong one makes its whole row more tolerant.
"""

from __future__ import annotations

import math
from typing import Any

from masterframe.kernels.estimate import LEAST, MIDDLE, MOST
from masterframe.kernels.registry import MIN_N
from masterframe.kernels.rules.common import center_of, floored, narrowed
from masterframe.kernels.rules.lanes import find_centers, narrow
from masterframe.kernels.vectors import larger


def measure(column: Any, n: int, params: Any, sums: Any) -> None:
    """Add the squares and the number of the values of a pixel to those of its row."""
    if n < MIN_N:
        return
    c = center_of(column, 0, n, params.center, 0)
    squares = 0.0
    for k in range(n):
        squares += (column[k] - c) ** 2
    sums[0] += squares / larger(c, 1.0)
    sums[1] += n - 1.0 if sums[1] == 0.0 else float(n)


def window(column: Any, lo: int, hi: int, params: Any, row: float, trace: Any) -> tuple[int, int]:
    """Return the window that the passes leave of the sorted values column[lo:hi]."""
    for done in range(params.max_iters):
        n = hi - lo
        if n < MIN_N:
            break
        c = center_of(column, lo, hi, params.center, done)
        sigma = floored(row * math.sqrt(larger(c, 1.0)), c, params)
        lo, hi = narrowed(column, lo, hi, c, sigma, params, trace)
        if hi - lo == n:
            break
    return lo, hi


def rows(s: Any, w: int, n: int, ints: Any, floats: Any, params: Any, row: float) -> bool:
    """Do the first pass of all lanes."""
    if n < MIN_N:
        return True
    find_centers(s, w, n, params.center, floats)
    for i in range(w):
        c = floats[MIDDLE, i]
        sigma = floored(row * math.sqrt(larger(c, 1.0)), c, params)
        floats[LEAST, i] = c - params.low * sigma
        floats[MOST, i] = c + params.high * sigma
    narrow(s, w, n, ints, floats, params.nkeep)
    return bool(params.max_iters == 1)
