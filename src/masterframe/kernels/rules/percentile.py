"""``percentile``: values below ``m - low |m|`` or above ``m + high |m|`` are dropped.

m is the median; one pass, in float64. A value on a bound is kept. It is the percentile clipping of
PixInsight's ImageIntegration and of Siril (``rej p``), which have m in place of ``|m|``, so that
where m is negative no value is within both bounds. Where m is 0 a fraction of it says nothing, and
nothing is dropped, as in PixInsight. There is no sigma here, and so the noise floor has no part in
it: the rule is for values far above their noise. Where fewer than ``nkeep`` would be left, nothing
is dropped.
"""

from __future__ import annotations

import math
from typing import Any

from masterframe.kernels.estimate import LEAST, MIDDLE, MOST
from masterframe.kernels.rules.common import MEDIAN, median_of, narrowed
from masterframe.kernels.rules.lanes import find_centers, narrow


def window(column: Any, lo: int, hi: int, params: Any, row: float, trace: Any) -> tuple[int, int]:
    """Return the window within the two fractions of the median."""
    median = median_of(column, lo, hi) if hi > lo else 0.0
    if median != 0.0:
        lo, hi = narrowed(column, lo, hi, median, abs(median), params, trace)
    return lo, hi


def rows(s: Any, w: int, n: int, ints: Any, floats: Any, params: Any, row: float) -> bool:
    """Set the windows of all lanes."""
    find_centers(s, w, n, MEDIAN, floats)
    for i in range(w):
        c = floats[MIDDLE, i]
        floats[LEAST, i] = c - params.low * abs(c) if c != 0.0 else -math.inf
        floats[MOST, i] = c + params.high * abs(c) if c != 0.0 else math.inf
    narrow(s, w, n, ints, floats, params.nkeep)
    return True
