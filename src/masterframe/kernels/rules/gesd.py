"""``gesd``: the generalized extreme studentized deviate test, for outliers by their number.

From the values kept, the one furthest from their mean is taken away, then the one furthest from the
mean of the rest, and so on, ``int(n fraction + 0.001)`` times. Each time R is its distance in
standard deviations (n - 1) of the values that it was taken from, m of them, and lambda the critical
value (`masterframe.kernels.tables.critical_values`). The last time that R > lambda says how many
outliers there are: all taken away so far, also those whose own R was too small because the others
hid them (B. Rosner, Percentage points for a generalized ESD many-outlier procedure, Technometrics
25, 165, 1983; NIST/SEMATECH e-Handbook of Statistical Methods, 1.3.5.17.3). Of the pixels whose
values are normal, a fraction of about ``alpha`` loses any: the paper says so for 25 values and
more, and nearly so from 15; with 7 to 15 values it is up to 1.7 ``alpha``.

The standard deviation is taken as no less than the noise floor. Of two equally far values the
higher goes first. At least 2 and ``nkeep`` values stay. In the trace are mean, standard deviation
and bounds of the first test after the last outlier. Siril 1.0 (``rej g``) has the same test, but
always takes away the first two.
"""

from __future__ import annotations

import math
from typing import Any

from masterframe.kernels.rules.common import floored, median_of, note, sums_about

FRESH = 1e-3
"""Part of the squares that must be left for sums to be carried on: beyond, digits are lost."""


def window(column: Any, lo: int, hi: int, params: Any, row: float, trace: Any) -> tuple[int, int]:
    """Return the window without the outliers."""
    n = hi - lo
    most = min(int(n * params.fraction + 0.001), n - max(params.nkeep, 2))
    left, right = lo, hi
    fresh, origin, total, squares = math.inf, 0.0, 0.0, 0.0
    noted = True
    for _ in range(most):
        if column[left] == column[right - 1]:
            break
        m = right - left
        rest = squares - total * total / m
        if not rest > FRESH * fresh:
            origin = median_of(column, left, right)
            total, squares = sums_about(column, left, right, origin)
            rest = fresh = squares - total * total / m
        mean = origin + total / m
        sigma = floored(math.sqrt(rest / (m - 1)), mean, params)
        bound = params.critical[m] * sigma
        if noted:
            note(trace, mean, sigma, mean - bound, mean + bound)
        first, last = column[left] - origin, column[right - 1] - origin
        gone = last if (first + last) * m >= 2.0 * total else first
        if gone == last:
            right -= 1
        else:
            left += 1
        noted = abs(gone - total / m) > bound
        if noted:
            lo, hi = left, right
        total -= gone
        squares -= gone * gone
    return lo, hi
