"""``none``: every value that is there is kept; its functions stand in for those a rule lacks.

The rule ``threshold`` has its place here as well: it speaks of values as they were read
(``lthreshold`` and ``hthreshold`` of IRAF's imcombine), before calibration and scaling, and is
applied in the load step, by `LoadTerms.raw_low` and `LoadTerms.raw_high`, the bounds kept. What
that leaves is not looked at again.
"""

from __future__ import annotations

from typing import Any

from masterframe.kernels.rules.lanes import look_again


def window(column: Any, lo: int, hi: int, params: Any, row: float, trace: Any) -> tuple[int, int]:
    """Return the window as it is."""
    return lo, hi


def mask(
    column: Any, noise: Any, codes: Any, n: int, params: Any, row: float, trace: Any
) -> None:  # fmt: skip
    """Leave all as they are."""


def measure(column: Any, n: int, params: Any, sums: Any) -> None:
    """Measure nothing."""


def rows(s: Any, w: int, n: int, ints: Any, floats: Any, params: Any, row: float) -> bool:
    """Decide nothing."""
    look_again(w, ints)
    return False
