"""A master beside the previous one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from masterframe.quantiles import MAD_TO_SIGMA

CHANGED_SIGMAS = 6.0
"""Deviation of a pixel that has changed."""

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Comparison:
    """A master beside the previous one of its kind and set-up."""

    previous: str
    """The other file."""
    shift: float
    """Median of the difference (bias, dark: unit of the master), or of the ratio less 1 (flat)."""
    scatter: float
    """Robust scatter of the same."""
    changed: float
    """Fraction of the pixels that differ by more than 6 sigma of both and of the usual scatter."""


def compare(data: Array, other: Array, sigma: Array, *, ratio: bool) -> tuple[float, float, float]:
    """Compare two masters of one shape pixel by pixel.

    Parameters
    ----------
    data, other : arrays
        Values of both on the same pixels; NaN where either is masked.
    sigma : array
        Standard deviation of their difference.
    ratio : bool
        Compare the ratio (flats), else the difference.

    Returns
    -------
    tuple
        Median, robust scatter, and the fraction of pixels that changed.
    """
    good = np.isfinite(data) & np.isfinite(other) & (sigma > 0)
    if ratio:
        good &= other > 0
    if not good.any():
        return math.nan, math.nan, math.nan
    a, b, s = (plane[good].astype(np.float64) for plane in (data, other, sigma))
    off, error = (a / b - 1, s / b) if ratio else (a - b, s)
    shift = float(np.median(off))
    scatter = MAD_TO_SIGMA * float(np.median(np.abs(off - shift)))
    changed = np.abs(off - shift) > CHANGED_SIGMAS * np.maximum(error, scatter)
    return shift, scatter, float(changed.mean())
