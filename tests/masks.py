"""A rule of the tests that uses all that a rule can: marks, the noise of each value, a whole row.

Values farther from the median than `low` or `high` times their own sigma go, to which a quarter of
the row's root mean square range is added. Its twin is `twins.probe`.
"""

from __future__ import annotations

import math
from typing import Any

from masterframe.kernels.rules import HIGH, LOW
from masterframe.kernels.rules.common import median_of


def mask(
    column: Any, noise: Any, codes: Any, n: int, params: Any, row: float, trace: Any
) -> None:  # fmt: skip
    c = median_of(column, 0, n)
    for k in range(n):
        sigma = math.sqrt(noise[k, 0] + noise[k, 1] * max(c - noise[k, 2], 0.0)) + 0.25 * row
        if column[k] < c - params.low * sigma:
            codes[k] = LOW
        if column[k] > c + params.high * sigma:
            codes[k] = HIGH


def measure(column: Any, n: int, params: Any, sums: Any) -> None:
    if n > 1:
        sums[0] += (column[n - 1] - column[0]) ** 2
        sums[1] += 1.0
