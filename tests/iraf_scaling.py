"""Slow twin of how IRAF's imcombine turns ``scale``, ``zero`` and ``weight`` into factors.

Of frame i, in the order of the list (``icscale.x``, ``icgscale.x``, ``icstat.gx``): v / s_i - z_i
is combined, with weight w_i. All is relative to the first frame, but for zeros that are given.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

SAMPLE = 100_000
"""Statistics are of fewer pixels: every j-th of every j-th line, with the least j."""


class Factors(NamedTuple):
    scale: Any
    zero: Any
    weight: Any


def statistic(frame: Any, kind: str) -> float:
    """Of raw values; their median is a rank below the middle of an odd number."""
    step = next(j for j in range(1, 11) if frame[::j, ::j].size < SAMPLE)
    values = np.sort(frame[::step, ::step].ravel().astype(np.float64))
    if kind == "mean":
        return float(values.mean())
    if kind == "median":
        return float(values[values.size // 2 - 1])
    return mode(values)


def mode(values: Any) -> float:
    """Fullest of bins that are a tenth of the inner 70 % wide and a hundredth of it apart.

    Edges are float32, and each is the one before plus the step.
    """
    n = values.size
    first, last = int(1 + n * 0.15) - 1, int(1 + n * 0.85) - 1
    span = np.float32(values[last] - values[first])
    step, width = np.float32(0.01) * span, np.float32(0.1) * span
    begin, end, most, found = first, first, 0, float(values[first])
    left = np.float32(values[first])
    while end < last:
        begin += np.searchsorted(values[begin:last], left, "left")
        end += np.searchsorted(values[end:last], left + width, "left")
        if end - begin > most:
            most, found = end - begin, float(values[(begin + end) // 2])
        left += step
    return found


def factors(raw: Any, scale: Any, zero: Any, weight: Any, exposed: Any, combined: Any) -> Factors:
    """Return s, z and w.

    Each of scale, zero and weight is "none", "mean", "median", "mode", "exposure" or numbers that
    were given in a file or a header; exposed are exposure times, combined NCOMBINE.
    """

    def level(wanted: Any, neutral: float) -> Any:
        if not isinstance(wanted, str):
            return np.asarray(wanted, float)
        if wanted == "none":
            return np.full(len(raw), neutral)
        if wanted == "exposure":
            return np.asarray(exposed, float)
        return np.array([statistic(frame, wanted) for frame in raw])

    scales = level(scale, 1.0)
    if not isinstance(scale, str):
        scales = 1 / scales  # given ones multiply
    scales = scales / scales[0]
    levels = level(zero, 0.0) / scales
    weights = level(weight, 1.0)
    if not (isinstance(weight, str) and weight == "none"):
        weights = weights * combined
        if isinstance(weight, str) and isinstance(zero, str) and zero != "none":
            weights = weights * levels[0] / levels
    zeros = levels - levels[0] if isinstance(zero, str) else -levels  # given ones are added
    return Factors(scales, zeros, weights / weights.sum())
