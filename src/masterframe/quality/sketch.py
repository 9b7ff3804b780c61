"""What one raw frame looks like in a few thousand numbers, so that a group can be compared.

Some rows of the frame are read and calibrated. Means over cells, rows and columns are of values
that are cut where they are far off, so that a cosmic ray counts for little.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from masterframe.levels import noise_of_floats
from masterframe.model import Calibration, Frame, Recipe, Section
from masterframe.quantiles import grouped_median, median_of
from masterframe.readout import trim_columns
from masterframe.samples import sampled_rows

CELLS = 16
"""Cells along each axis."""
ROWS = 32  # arrays of 64 rows of 4096 pixels are pages given anew and cleared: half of the time
"""Rows that are read of a large frame, ..."""
PIXELS = 1 << 16
"""... or as many as have so many pixels."""
NOISE_PIXELS = 1 << 14
"""Pixels, about, that tell the noise of a frame to a hundredth."""
ROW_PIXELS = 1024
"""Pixels of a row, about, whose median is its level."""
MEDIAN_ERROR = math.sqrt(math.pi / 2)
"""Standard error of a median of many normal values over that of their mean."""
BINS = 2048
"""Most bins of the profile along a row."""
RUN = 8
"""Neighbouring pixels of a row that are kept as they are."""
RUNS = 1 << 14
"""Runs of pixels that are kept of a group, ..."""
LEAST_RUNS, MOST_RUNS = 1 << 8, 1 << 12
"""... and of each of its frames."""
FAR = 4.0
"""Noises beyond which a value of a bias or dark is cut."""

Plane = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Sketch:
    """Numbers of one frame (adu, calibrated, before any scale)."""

    level: float
    """Median; NaN where fewer than half of the pixels are good."""
    noise: float
    """Noise of one pixel from its neighbours along the row."""
    saturated: float
    """Fraction of the pixels that are saturated."""
    cells: Plane
    """Means of large areas, shape (CELLS, CELLS)."""
    rows: Plane
    """Levels of the sampled rows: means of values that were cut where they are far off, medians of
    a frame with light, which a satellite that crosses them hardly moves."""
    columns: Plane
    """Means of the columns, in at most BINS bins."""
    runs: Plane
    """Values of neighbouring pixels, spread over the frame, shape (RUN, runs); NaN of bad ones."""
    row_step: int
    """Rows of the frame from one that was read to the next."""
    cell_pixels: int
    """Sampled pixels in a cell."""
    row_error: float
    """Standard error of the level of a row, in the noise of a pixel."""
    width: int
    """Columns of the frame."""
    overscan_noise: float
    """Standard deviation of the overscan about the level of its rows; NaN without one."""


def runs_of(frames: int) -> int:
    """Return how many runs of pixels are kept of each frame of a group: few where it has many."""
    return min(max(RUNS // max(frames, 1), LEAST_RUNS), MOST_RUNS)


def sketch_frames(
    frames: Sequence[Frame],
    calibration: Calibration,
    recipe: Recipe,
    *,
    far: bool = False,
    runs: int = LEAST_RUNS,
) -> list[Sketch]:
    """Read and measure frames.

    Parameters
    ----------
    frames : sequence of Frame
        Frames of one image, of one shape.
    calibration : Calibration
        What is taken off these frames; scale and zero are left out.
    recipe : Recipe
        Its dtype, and the saturation from which raw values are left out.
    far : bool
        Cut values that are far from the level, which a frame with light has everywhere.
    runs : int
        Runs of neighbouring pixels, about, that are kept of each.

    Raises
    ------
    FrameError
        If a file cannot be read or has changed since its scan.
    """
    height, width = calibration.kept_shape(frames[0].shape)
    rows = range(0, height, max(1, height // max(ROWS, -(-PIXELS // width))))
    return [
        _sketch(raw, values, calibration, recipe, far=far, runs=runs, step=rows.step)
        for raw, values in sampled_rows(frames, calibration, recipe, rows)
    ]


def _sketch(
    raw: NDArray[Any],
    values: NDArray[Any],
    calibration: Calibration,
    recipe: Recipe,
    *,
    far: bool,
    runs: int,
    step: int,
) -> Sketch:
    """Measure rows of a frame, of which every so-manieth was read."""
    width = values.shape[1]
    level, noise, kept = _level(values), _noise(values), _runs(values, runs)
    if math.isfinite(level):
        reach = FAR * noise if far and noise > 0 else math.inf
        values = _tamed(values, level, reach)
    bins = min(BINS, width)
    bands = _bands(values)
    rows, row_error = _row_means(values) if far else _row_medians(values)
    return Sketch(
        level=level,
        noise=noise,
        saturated=_saturated(trim_columns(raw[np.newaxis], calibration)[0], recipe),
        cells=_binned(bands, CELLS).astype(np.float32),
        rows=rows,
        columns=_binned(_weighted(bands, len(values)), bins).astype(np.float32),
        runs=kept,
        row_step=step,
        cell_pixels=max(1, values.size // CELLS**2),
        row_error=row_error,
        width=width,
        overscan_noise=_overscan_noise(raw, calibration),
    )


def _level(values: NDArray[Any]) -> float:
    """Return the median of the good values of about PIXELS of them; NaN of a mostly bad frame."""
    sample = values[:, :: max(1, values.size // PIXELS)]
    finite = np.isfinite(sample)
    good = sample if finite.all() else sample[finite]
    return median_of(good) if 2 * good.size >= sample.size else math.nan


def _noise(values: NDArray[Any]) -> float:
    return noise_of_floats(values[:: max(1, values.size // NOISE_PIXELS)], grouped_median)


def _row_means(values: NDArray[Any]) -> tuple[Plane, float]:
    """Return the mean of each row, and its error in the noise of a pixel."""
    means = values.mean(axis=1, dtype=np.float64).astype(np.float32)
    return means, 1 / math.sqrt(values.shape[1])


def _row_medians(values: NDArray[Any]) -> tuple[Plane, float]:
    """Return the median of about ROW_PIXELS pixels of each row, and its error."""
    thin = values[:, :: max(1, values.shape[1] // ROW_PIXELS)]
    error = MEDIAN_ERROR / math.sqrt(thin.shape[1])
    return grouped_median(thin).astype(np.float32), error


def _runs(values: NDArray[Any], runs: int) -> Plane:
    rows, width = values.shape
    count = min(max(1, runs // rows), width // RUN)
    starts = _starts(count, width)
    return np.stack([values[:, starts + step].ravel() for step in range(RUN)]).astype(np.float32)


def _starts(count: int, width: int) -> NDArray[np.intp]:
    """Return the columns at which the runs of a row begin."""
    return np.arange(count) * (width - RUN + 1) // max(count, 1)


def runs_within(sketch: Sketch, section: Section) -> NDArray[np.bool_]:
    """Return which runs of a sketch lie in a section of the frame as it is kept."""
    rows = len(sketch.rows)
    count = sketch.runs.shape[1] // rows
    y = np.arange(rows) * sketch.row_step
    x = _starts(count, sketch.width)
    across = (x >= section.x0) & (x + RUN <= section.x1)
    along = (y >= section.y0) & (y < section.y1)
    return np.asarray((along[:, None] & across).ravel())


def _tamed(values: NDArray[Any], level: float, reach: float) -> NDArray[Any]:
    """Return the values with the level for those that are none, cut at `reach` from it."""
    bad = ~np.isfinite(values)
    whole = np.where(bad, values.dtype.type(level), values) if bad.any() else values
    return whole if math.isinf(reach) else np.clip(whole, level - reach, level + reach)


def _saturated(raw: NDArray[Any], recipe: Recipe) -> float:
    """Return the fraction of saturated pixels: from the known value on, or piled up at the most."""
    if recipe.saturation is not None:
        return float(np.count_nonzero(raw >= recipe.saturation) / raw.size)
    least, most = float(raw.min()), float(raw.max())
    if most - least <= 1000:
        return 0.0  # a bias of few distinct values also has many at its most
    sample = raw[:, :: max(1, raw.size // PIXELS)]
    bright = np.count_nonzero(sample > (least + most) / 2)
    return np.count_nonzero(raw == most) / raw.size if 2 * bright > sample.size else 0.0


def _edges(size: int, bins: int) -> NDArray[np.intp]:
    """Return where runs of an axis begin and end, of equal length but for the remainder."""
    bins = min(bins, size)
    return np.arange(bins + 1) * size // bins


def _bands(values: NDArray[Any]) -> NDArray[np.float64]:
    """Return the means of runs of rows; sum by sum, which takes a tenth of numpy's `reduceat`."""
    edges = _edges(len(values), CELLS)
    means = [values[a:b].mean(axis=0, dtype=np.float64) for a, b in pairwise(edges)]
    return np.stack(means)


def _binned(values: NDArray[Any], bins: int) -> NDArray[np.float64]:
    """Return the means of runs of the last axis."""
    edges = _edges(values.shape[-1], bins)
    sums: NDArray[np.float64] = np.add.reduceat(values, edges[:-1], axis=-1, dtype=np.float64)
    means: NDArray[np.float64] = sums / np.diff(edges)
    return means


def _weighted(bands: NDArray[np.float64], rows: int) -> NDArray[np.float64]:
    """Return the means of all of so many rows."""
    lengths = np.diff(_edges(rows, CELLS))
    means: NDArray[np.float64] = lengths @ bands / rows
    return means


def _overscan_noise(raw: NDArray[Any], calibration: Calibration) -> float:
    """Return the standard deviation along the rows of the overscan, without values far off.

    Of several amplifiers the median; NaN where it is in other rows than the data.
    """
    found = []
    for section in () if calibration.by_columns else calibration.overscans:
        if section.shape[1] > 2:
            strip = raw[:, section.x0 : section.x1].astype(np.float64)
            strip -= strip.mean(axis=1, keepdims=True)
            strip *= math.sqrt(strip.shape[1] / (strip.shape[1] - 1))
            found.append(float(strip[np.abs(strip) <= 5 * strip.std()].std()))
    return float(np.median(found)) if found else math.nan
