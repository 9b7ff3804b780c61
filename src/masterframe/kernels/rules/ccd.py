"""``ccd``: values beyond ``low`` or ``high`` sigmas of their own noise are dropped.

At the centre c of the values still kept, the variance of a value is
``a + b max(c - z, 0) + (snoise max(c - z, 0))^2``: with the factor f and the summand z that its
frame was scaled by, its gain g and its read noise r, a = (f r / g)^2 and b = f / g, so that the
noise is that of the raw signal. A value x is dropped where (x - c)^2 is larger than the square of
its bound times its variance; the noise of quantised values is the least sigma. A value on a bound
is kept. Passes follow each other until nothing changes, ``max_iters`` are done, fewer than 2 values
are left, or a pass would leave fewer than ``nkeep``, and is not done; what was dropped never comes
back. The centre inner-mean leaves out the least and the largest value in every pass, not in the
first alone.

Where all frames have the same noise this is the ccdclip of IRAF's imcombine (``iccclip.gx``),
centre median for its mclip=yes, inner-mean for mclip=no, and with ``low`` off its crreject; and
`window` gives the same as `mask`, from the ends of the sorted values, with a and b as those of the
noise floor. Where they have not, IRAF with mclip=yes looks from both ends for the first value that
is kept and at none behind it; here, as there with mclip=no, every value is looked at.
"""

from __future__ import annotations

import math
from typing import Any

from masterframe.kernels.estimate import MIDDLE
from masterframe.kernels.load import HI
from masterframe.kernels.native import part
from masterframe.kernels.rules import HIGH, KEPT, LOW
from masterframe.kernels.rules.common import (
    FIRST_MEDIAN,
    INNER_MEAN,
    MEDIAN,
    center_of,
    mean_of,
    note,
)
from masterframe.kernels.rules.lanes import UNDECIDED, find_centers
from masterframe.kernels.vectors import larger

LEAST_N = 2
"""Values of which one may be dropped: the noise is known beforehand."""


def mask(
    column: Any, noise: Any, codes: Any, n: int, params: Any, row: float, trace: Any
) -> None:  # fmt: skip
    """Mark what is dropped of the sorted values column[:n]."""
    left = n
    for done in range(params.max_iters):
        if left < LEAST_N:
            break
        c = _center(column, codes, (n, left), params.center, done)
        beyond, total = 0, 0.0
        for k in range(n):
            if codes[k] == KEPT:
                variance = _variance(noise[k, 0], noise[k, 1], c - noise[k, 2], params)
                beyond += _side(column[k] - c, variance, params) != KEPT
                total += variance
        sigma = math.sqrt(total / left)
        note(trace, c, sigma, c - params.low * sigma, c + params.high * sigma)
        if beyond == 0 or left - beyond < params.nkeep:
            break
        for k in range(n):
            if codes[k] == KEPT:
                variance = _variance(noise[k, 0], noise[k, 1], c - noise[k, 2], params)
                codes[k] = _side(column[k] - c, variance, params)
        left -= beyond


def window(column: Any, lo: int, hi: int, params: Any, row: float, trace: Any) -> tuple[int, int]:
    """Return the window of the sorted values column[lo:hi], whose frames have the same noise."""
    for done in range(params.max_iters):
        n = hi - lo
        if n < LEAST_N:
            break
        kind = params.center
        c = center_of(column, lo, hi, kind, 0 if kind == INNER_MEAN else done)
        variance = _variance(params.read, params.poisson, c, params)
        sigma = math.sqrt(variance)
        note(trace, c, sigma, c - params.low * sigma, c + params.high * sigma)
        a, b = lo, hi
        while a < hi and _side(column[a] - c, variance, params) == LOW:
            a += 1
        while b > a and _side(column[b - 1] - c, variance, params) == HIGH:
            b -= 1
        if b - a == n or b - a < params.nkeep:
            break
        lo, hi = a, b
    return lo, hi


def rows(s: Any, w: int, n: int, ints: Any, floats: Any, params: Any, row: float) -> bool:
    """Find the lanes, whose frames have the same noise, that lose nothing."""
    if n < LEAST_N:
        return True
    find_centers(s, w, n, params.center, floats)
    for i in range(w):
        c = floats[MIDDLE, i]
        variance = _variance(params.read, params.poisson, c, params)
        low = _side(float(s[0, i]) - c, variance, params) == LOW
        if low or _side(float(s[n - 1, i]) - c, variance, params) == HIGH:
            ints[HI, i] = UNDECIDED
    return False


@part
def _variance(a: float, b: float, signal: float, params: Any) -> float:
    """Return the variance of a value by its a and b, where its frame has a signal."""
    signal = larger(signal, 0.0)
    variance = a + b * signal + (params.snoise * signal) ** 2
    return float(larger(variance, params.quant**2))


@part
def _side(distance: float, variance: float, params: Any) -> int:
    """Return what becomes of a value; a bound that is no number (off, variance 0) drops nothing."""
    bound = params.low if distance < 0.0 else params.high
    if distance * distance > bound * bound * variance:
        return LOW if distance < 0.0 else HIGH
    return KEPT


@part
def _center(column: Any, codes: Any, size: tuple[int, int], kind: int, done: int) -> float:
    """Return the centre of the values left; size is how many there were and how many are left."""
    n, left = size
    median = kind == MEDIAN or (kind == FIRST_MEDIAN and done == 0)
    first, end = 0, left  # ranks among the values left, of those to be averaged
    if median:
        first, end = (left - 1) // 2, left // 2 + 1
    elif kind == INNER_MEAN and left > 2:
        first, end = 1, left - 1
    if left == n:
        return float(mean_of(column, first, end))
    rank, total = 0, 0.0
    for k in range(n):
        if codes[k] == KEPT:
            if first <= rank < end:
                total += column[k]
            rank += 1
    return total / (end - first)
