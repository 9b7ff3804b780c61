"""The quantisation step of raw values in a sample of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

STEP_FRAMES, STEP_ROWS = 8, 16
"""Frames and rows a frame in which the quantisation step is looked for."""


def step_sample(data: Any) -> Any:
    """Return the frames and rows in which the quantisation step is looked for."""
    return data[every(data.shape[0], STEP_FRAMES), every(data.shape[1], STEP_ROWS)]


def every(count: int, wanted: int) -> slice:
    """Return a slice that takes about so many of a number, evenly spaced."""
    return slice(None, None, max(1, -(-count // wanted)))


def sampled_step(sample: NDArray[Any], unit: float) -> float:
    """Return ``unit`` times the greatest common divisor of all differences in the sample.

    0 where they are not multiples of the unit: the values are not those that were stored.
    """
    if sample.dtype.kind == "f":
        finite = sample[np.isfinite(sample)].astype(np.float64)
        steps = (finite - finite.min(initial=np.inf)) / unit
        rounding = np.abs(finite).max(initial=0) / unit * 4 * np.finfo(sample.dtype).eps
        whole = np.rint(steps).astype(np.int64)
        if (np.abs(steps - whole) > rounding).any():
            return 0.0
    else:
        whole = sample.astype(np.int64) - int(sample.min())
    return float(max(np.gcd.reduce(whole, axis=None), 1)) * unit
