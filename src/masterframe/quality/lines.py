"""Rows and columns of a master beside their neighbours: which stand out, and by how much."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from masterframe.quantiles import MAD_TO_SIGMA, median_of, row_medians

NEIGHBOURS = {"flat": 5}
"""Columns (or rows) with whose median one of them is compared, ..."""
USUAL_NEIGHBOURS = 31
"""... of other kinds; a flat has the shadows of dust, which are wide."""
OFF = {"flat": 40.0}
"""Sigmas by which a column (or row) is off, ..."""
USUAL_OFF = 12.0
"""... of other kinds; the shadows of dust have edges."""

Array = NDArray[Any]


def line_medians(values: Array, axis: int) -> Array:
    """Return medians along an axis, NaN where no value is good."""
    bad = ~np.isfinite(values)
    if not bad.any():
        along = np.ascontiguousarray(np.moveaxis(values, axis, -1))
        return row_medians(along).astype(np.float64)
    ordered = np.sort(values, axis=axis)  # NaN comes last
    count = (~bad).sum(axis=axis)
    low = np.take_along_axis(ordered, np.expand_dims(np.maximum(count - 1, 0) // 2, axis), axis)
    high = np.take_along_axis(
        ordered, np.expand_dims(np.minimum(count // 2, values.shape[axis] - 1), axis), axis
    )
    middle = (low.astype(np.float64) + high).squeeze(axis) / 2
    return np.where(count > 0, middle, np.nan)


def outstanding(profile: Array, kind: str = "", quantum: float = 0.0) -> tuple[float, int, float]:
    """Return by how many sigma the worst line of a profile is off its neighbours.

    Returns
    -------
    tuple
        Sigmas, index of the worst line, and the fraction of the lines that are off.
    """
    sizes = deviations(profile, kind, quantum)
    if not sizes.any():
        return math.nan, 0, math.nan
    return float(sizes.max()), int(sizes.argmax()), float(are_off(sizes, kind).mean())


def deviations(profile: Array, kind: str = "", quantum: float = 0.0) -> Array:
    """Return by how many sigma each line of a profile is off its neighbours; 0 for no value.

    Sigma is the robust scatter of all lines about the median of their neighbours, and at least
    that of rounding: medians of whole numbers are alike or a whole step apart.
    """
    off = residual(profile, NEIGHBOURS.get(kind, USUAL_NEIGHBOURS))
    good = np.isfinite(off)
    if not good.any():
        return np.zeros(off.shape)
    sigma = max(MAD_TO_SIGMA * median_of(np.abs(off[good])), quantum / math.sqrt(12))
    return np.where(good, np.abs(off), 0.0) / sigma if sigma > 0 else np.zeros(off.shape)


def are_off(sizes: Array, kind: str = "") -> Array:
    """Return which lines of a profile stand out, by their deviations."""
    return sizes > OFF.get(kind, USUAL_OFF)


def residual(profile: Array, neighbours: int = USUAL_NEIGHBOURS) -> Array:
    """Return a profile less the median of its neighbours, itself not among them.

    On a slope the median of a window is its middle: that would leave nothing of what is there.
    """
    half = neighbours // 2
    good = np.isfinite(profile)
    filled = np.where(good, profile, median_of(profile[good]) if good.any() else 0.0)
    if filled.size <= half:
        return np.full(filled.shape, np.nan)
    # slopes go on at the edges, about a level that an odd line there does not move
    left = 2 * median_of(filled[:3]) - filled[half:0:-1]
    right = 2 * median_of(filled[-3:]) - filled[-2 : -half - 2 : -1]
    padded = np.concatenate([left, filled, right])
    windows = np.lib.stride_tricks.sliding_window_view(padded, neighbours)
    others = np.delete(windows, half, axis=1)
    return np.asarray(profile - row_medians(others))
