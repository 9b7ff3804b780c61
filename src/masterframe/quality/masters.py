"""Numbers of a master once it is finished.

They come from its planes and are cheap beside the combination; `acceptance` holds them against
limits.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from masterframe.levels import noise_of
from masterframe.model import Recipe
from masterframe.quality.lines import line_medians, outstanding
from masterframe.quantiles import MAD_TO_SIGMA, median_of, row_medians

AREAS = 8
"""Areas along each axis whose medians tell the change of level across a master."""
AREA_PIXELS = 1 << 12
"""Pixels, about, that tell one of them."""
NOISE_PIXELS = 1 << 17
"""Pixels, about, that tell the scatter from pixel to pixel."""
LINES = 1024
"""Pixels of a row that tell its level."""
AVERAGES = ("mean", "weighted", "trimmed")
"""Estimators whose values have smaller steps than their inputs."""
TOGETHER = 8
"""Pixels whose variances are averaged before the median of all is taken."""

Array = NDArray[Any]


class Planes(Protocol):
    """The planes of one image of a master."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""

    def bands(self) -> Iterator[tuple[int, int]]:
        """Yield row ranges that are comfortable in memory."""

    def read(self, plane: str, rows: tuple[int, int]) -> Array:
        """Return some rows of a plane."""


def measure(
    planes: Planes, sample: Array, kind: str = "", quantum: float = 0.0
) -> dict[str, float]:
    """Measure the structure of a finished master.

    Parameters
    ----------
    planes : Planes
        Its planes.
    sample : array (rows, columns)
        Its data on every 16th row, NaN where a pixel is masked.
    kind : str
        bias, dark, flat or ''.
    quantum : float
        Smallest difference of two of its values (`quantum_of`); 0 where it is not known.

    Returns
    -------
    dict
        ``median`` and ``mean`` of the good pixels, ``scatter`` about their median (robust sigma);
        ``nmasked``: masked pixels, and ``maskedfraction``;
        ``pixelscatter`` from pixel to pixel along the rows;
        ``gradient``: change of level across it (unit of the master); ``columns`` and ``rows``: the
        largest deviation of one from its neighbours (sigma of all), ``worstcol`` and ``worstrow``:
        which one (FITS pixel), ``offcols`` and ``offrows``: the fraction that is off.
    """
    with ThreadPoolExecutor(1) as beside:  # what all rows tell, and what the sample tells
        all_rows = beside.submit(_all_rows, planes)
        good = sample[np.isfinite(sample)]
        median = median_of(good)
        sigma = MAD_TO_SIGMA * median_of(np.abs(good - good.dtype.type(median)))
        noise = noise_of(sample[:: max(1, sample.size // NOISE_PIXELS)])
        column, worst_column, off_columns = outstanding(line_medians(sample, axis=0), kind, quantum)
        levels, masked = all_rows.result()
    row, worst_row, off_rows = outstanding(levels, kind, quantum)
    return {
        "median": median,
        "scatter": sigma,
        "mean": float(good.mean(dtype=np.float64)) if good.size else math.nan,
        "nmasked": float(masked),
        "maskedfraction": masked / math.prod(planes.shape),
        "pixelscatter": noise,
        "gradient": _gradient(sample),
        "columns": column,
        "worstcol": worst_column + 1.0,
        "offcols": off_columns,
        "rows": row,
        "worstrow": worst_row + 1.0,
        "offrows": off_rows,
    }


def quantum_of(
    recipe: Recipe, frames: int, scale: Sequence[float] = (), norm: float = 1.0
) -> float:
    """Return the smallest difference of two values of a master of whole numbers.

    Parameters
    ----------
    recipe : Recipe
        How it was combined, and the step of its inputs.
    frames : int
        How many were combined.
    scale : sequence of float
        Factor of each frame; empty for 1.
    norm : float
        What the result was divided by.
    """
    together = frames if recipe.estimator in AVERAGES else 1
    factor = statistics.median(scale) if scale else 1.0
    return recipe.noise.step * factor / max(together, 1) / norm if norm > 0 else 0.0


def _all_rows(planes: Planes) -> tuple[Array, int]:
    """Return the level of every row, from some of its pixels, and how many pixels are masked."""
    step, levels, masked = max(1, planes.shape[1] // LINES), [], 0
    for rows in planes.bands():
        mask = planes.read("mask", rows)
        masked += int(np.count_nonzero(mask))
        some = planes.read("data", rows)[:, ::step]
        levels.append(line_medians(np.where(mask[:, ::step] == 0, some, np.nan), axis=1))
    return np.concatenate(levels), masked


def _gradient(sample: Array) -> float:
    """Return the range of the medians of large areas, without the outermost in value."""
    rows, columns = (np.array_split(np.arange(size), AREAS) for size in sample.shape)
    if min(sample.shape) < AREAS:
        return math.nan
    medians = []
    for part in rows:
        for other in columns:
            area = sample[part[0] : part[-1] + 1, other[0] : other[-1] + 1]
            area = area[:, :: max(1, area.size // AREA_PIXELS)]
            good = area[np.isfinite(area)]
            if good.size:
                medians.append(median_of(good))
    if len(medians) < AREAS:
        return math.nan
    places = np.array((0.05, 0.95)) * (len(medians) - 1)
    low, high = np.interp(places, np.arange(len(medians)), np.sort(medians))
    return float(high - low)


def unshared_noise(uncert: Array, shared: Array, count: Array) -> float:
    """Return the typical noise of a pixel of the result that its frames do not share.

    The median over the pixels counts the hot ones for nothing. That of single variances of few
    frames is not their mean, by a factor that rounding to steps and levels that rows share change.
    It is taken of the means of a few pixels, far apart, whose median is their mean but for little.

    Parameters
    ----------
    uncert : array
        Standard deviations of the result (good pixels, row by row).
    shared : array or 0
        Variance that all frames share, at the same pixels.
    count : array
        Values kept, at the same pixels.
    """
    if not uncert.size:
        return math.nan
    dof = median_of(count) - 1
    if dof < 1:
        return math.nan
    variances = np.asarray(uncert, np.float64) ** 2 - shared
    together = min(TOGETHER, variances.size)
    means = variances[: variances.size // together * together].reshape(together, -1).mean(axis=0)
    variance = float(row_medians(means))
    return math.sqrt(max(variance, 0) / (1 - 2 / (9 * dof * together)) ** 3)
