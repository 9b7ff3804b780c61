"""``sigma``: values below ``c - low sigma`` or above ``c + high sigma`` are dropped.

c is the ``center`` of the values still kept, sigma the larger of the noise floor and their
``deviation``: 1.482602218505602 (the inverse of the 0.75 quantile of the normal distribution) times
the median absolute deviation from their median, with ``mad_correction`` also corrected for few
values (`masterframe.kernels.tables.mad_factors`); or their standard deviation about their mean; or
``rms``, their root mean square deviation from c. All is float64.
A value on a bound is kept. A side that is off has an infinite bound, or none where sigma is 0: no
value is beyond a bound that is no number. Passes follow each other until nothing changes,
``max_iters`` are done, or a pass would leave fewer than ``nkeep``, and is not done; what was
dropped never comes back.
With one pass this is ``astropy.stats.sigma_clip`` with the same centre and deviation; with ``rms``,
ddof 1 and the centre median or inner-mean it is IRAF's sigclip.
"""

from __future__ import annotations

import math
from typing import Any

from masterframe.kernels.estimate import LEAST, MIDDLE, MOST, NEAR, NEXT
from masterframe.kernels.rules.common import (
    MAD,
    RMS,
    center_of,
    floored,
    mad,
    mean_of,
    median_of,
    narrowed,
    rms_about,
)
from masterframe.kernels.rules.lanes import (
    add_squares,
    find_centers,
    find_means,
    look_again,
    narrow,
)


def window(column: Any, lo: int, hi: int, params: Any, row: float, trace: Any) -> tuple[int, int]:
    """Return the window that the passes leave of the sorted values column[lo:hi]."""
    for done in range(params.max_iters):
        n = hi - lo
        if n < 1 or (params.deviation != MAD and n <= params.ddof):
            break
        c = center_of(column, lo, hi, params.center, done)
        if params.deviation == MAD:
            sigma = params.mad[n] * mad(column, lo, hi, median_of(column, lo, hi))
        elif params.deviation == RMS:
            sigma = rms_about(column, lo, hi, c, params.ddof)
        else:
            sigma = rms_about(column, lo, hi, mean_of(column, lo, hi), params.ddof)
        lo, hi = narrowed(column, lo, hi, c, floored(sigma, c, params), params, trace)
        if hi - lo == n:
            break
    return lo, hi


def rows(s: Any, w: int, n: int, ints: Any, floats: Any, params: Any, row: float) -> bool:
    """Do the first pass of all lanes; `masterframe.kernels.rows` does it for the MAD."""
    if params.deviation == MAD:
        look_again(w, ints)
        return False
    if n <= params.ddof:
        return True
    find_centers(s, w, n, params.center, floats)
    if params.deviation == RMS:
        add_squares(s, w, n, floats[MIDDLE], floats)
    else:
        find_means(s, w, 0, n, floats[NEAR])
        add_squares(s, w, n, floats[NEAR], floats)
    for i in range(w):
        c = floats[MIDDLE, i]
        sigma = floored(math.sqrt(floats[NEXT, i] / (n - params.ddof)), c, params)
        floats[LEAST, i] = c - params.low * sigma
        floats[MOST, i] = c + params.high * sigma
    narrow(s, w, n, ints, floats, params.nkeep)
    return bool(params.max_iters == 1)
