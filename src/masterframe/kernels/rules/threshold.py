"""``threshold``: raw values from ``low`` to ``high`` are kept, the bounds among them.

It speaks of values as they were read (``lthreshold`` and ``hthreshold`` of IRAF's imcombine),
before calibration and scaling. It is therefore applied in the load step, by `LoadTerms.raw_low` and
`LoadTerms.raw_high`; what that leaves is not looked at again.
"""

from __future__ import annotations

from typing import Any

from masterframe.kernels.cache import part


@part
def window(column: Any, lo: int, hi: int, params: Any) -> tuple[int, int]:
    """Return the window as it is: the load step has taken the values away."""
    return lo, hi
