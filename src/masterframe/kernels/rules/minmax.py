"""``minmax``: the ``nlow`` lowest and the ``nhigh`` highest values are dropped.

Where values are missing, the same fractions are dropped of those present, as IRAF's imcombine does
(``icmm.gx``): with n of N values, ``int(n * nlow / N + 0.001)`` and likewise for ``nhigh``. Equal
values are in the canonical order of their frames. Where fewer than ``nkeep`` would be left, nothing
is dropped.
"""

from __future__ import annotations

import math
from typing import Any

from masterframe.kernels.load import HI, LO
from masterframe.kernels.native import part
from masterframe.kernels.rules.common import note


def window(column: Any, lo: int, hi: int, params: Any, row: float, trace: Any) -> tuple[int, int]:
    """Return the window without its ends."""
    low, high = _ends(hi - lo, params)
    if low >= 0:
        note(trace, math.nan, math.nan, -math.inf, math.inf)
        return lo + low, hi - high
    return lo, hi


def rows(s: Any, w: int, n: int, ints: Any, floats: Any, params: Any, row: float) -> bool:
    """Set the windows of all lanes."""
    low, high = _ends(n, params)
    if low >= 0:
        for i in range(w):
            ints[LO, i], ints[HI, i] = low, n - high
    return True


@part
def _ends(n: int, params: Any) -> tuple[int, int]:
    """Return how many of n values are dropped at each end; -1 where too few would be left."""
    low = int(n * params.nlow / params.frames + 0.001)
    high = int(n * params.nhigh / params.frames + 0.001)
    if n - low - high < params.nkeep or low + high > n:
        return -1, -1
    return low, high
