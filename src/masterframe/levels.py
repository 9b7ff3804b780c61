"""What one frame measures: level and noise of its calibrated pixels on sampled rows, in one read.

``median`` and ``mean`` are those of the good pixels; of several amplifiers the mean of each one's,
by their pixels: between the levels of two there is nothing, and a median there is that of no pixel.
``mode`` is that of IRAF's imcombine
(``icstat.gx``): of the middle 70 % of the sorted values, the fullest of bins that are a tenth of
their range wide and begin every hundredth of it, and in it the value of the middle rank; the median
of fewer than 10. ``noise`` is that of F. Stoehr et al. (DER_SNR, ST-ECF Newsletter 42, 2007):
1.482602 / sqrt(6) times the median of ``|2 v[x] - v[x-2] - v[x+2]|`` along the rows, which neither
slopes nor stars nor noise shared by neighbours move much.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from masterframe import readout
from masterframe.errors import UsageError
from masterframe.model import Calibration, Frame, Recipe, Section
from masterframe.quantiles import MAD_TO_SIGMA, median_of
from masterframe.samples import sampled_rows
from masterframe.tiling import sample_rows

Values = NDArray[Any]
_MODE_LEAST = 10
"""Values from which a mode is sought."""
_MODE_RANGE, _MODE_BIN, _MODE_STEP = 0.7, 0.1, 0.01
"""Fraction of the values, width of a bin and distance of bins as fractions of their range."""


def measure_frames(
    frames: Sequence[Frame],
    calibration: Calibration,
    recipe: Recipe,
    wanted: Sequence[str],
    section: Section | None = None,
) -> list[dict[str, float]]:
    """Measure frames on every 16th row, and at least 64 rows where there are as many.

    Parameters
    ----------
    frames : sequence of Frame
        Frames of one image, of one shape.
    calibration : Calibration
        What is taken off these frames; scale and zero are left out.
    recipe : Recipe
        Its dtype, and the saturation and threshold from which raw values are left out.
    wanted : sequence of str
        Of median, mean, mode, noise.
    section : Section, optional
        Part of the trimmed image that is measured.

    Returns
    -------
    list of dict
        Each number wanted (adu) of each frame; NaN if fewer than half of the pixels are good: the
        rest tells nothing of a frame that is saturated but for its dead pixels.

    Raises
    ------
    FrameError
        If the file cannot be read or has changed since its scan.
    UsageError
        If the section does not lie in the image.
    """
    height, width = calibration.kept_shape(frames[0].shape)
    part = section or Section(0, height, 0, width)
    if part.y1 > height or part.x1 > width:
        raise UsageError(
            f"statsec {part.to_fits()} does not lie in {frames[0].path}, which is {width} x "
            f"{height} (columns x rows)"
        )
    rows = sample_rows(part.shape[0], part.y0)
    outputs = _outputs(calibration, rows, part)
    return [
        _measured(values[:, part.x0 : part.x1], outputs, wanted)
        for _, values in sampled_rows(frames, calibration, recipe, rows)
    ]


def _measured(
    sample: Values, outputs: Sequence[tuple[NDArray[np.bool_], slice]], wanted: Sequence[str]
) -> dict[str, float]:
    finite = np.isfinite(sample)
    if 2 * np.count_nonzero(finite) < sample.size:
        return dict.fromkeys(wanted, math.nan)
    parts = [sample[place][finite[place]] for place in outputs]
    good = [values for values in parts if values.size]
    return {
        name: noise_of(sample) if name == "noise" else _level(LEVELS[name], good) for name in wanted
    }


def _level(statistic: Callable[[Values], float], outputs: Sequence[Values]) -> float:
    """Return the mean of the levels of all outputs, by their pixels."""
    if len(outputs) == 1:
        return statistic(outputs[0])
    sizes = [values.size for values in outputs]
    return float(np.average([statistic(values) for values in outputs], weights=sizes))


def _outputs(
    calibration: Calibration, rows: range, part: Section
) -> list[tuple[NDArray[np.bool_], slice]]:
    """Return which of some sampled rows, and which columns of a part, each amplifier reads."""
    whole = Section(0, max(rows) + 1, 0, part.x1)
    places = readout.places(calibration.amplifiers).values() or [whole]
    row = np.asarray(rows)
    return [
        (
            (place.y0 <= row) & (row < place.y1),
            slice(max(place.x0 - part.x0, 0), max(place.x1 - part.x0, 0)),
        )
        for place in places
    ]


def noise_of(sample: Values, median: Callable[[Values], Any] = median_of) -> float:
    """Return the noise of the values along rows, shape (rows, columns); NaN where none is whole.

    The plain median of values rounded to steps is a multiple of 0.6 steps; `grouped_median` gives
    what lies between.
    """
    return noise_of_floats(sample.astype(np.float64), median)


def noise_of_floats(values: Values, median: Callable[[Values], Any]) -> float:
    """Return the same in the precision of the values, which half as many bytes are enough for."""
    differences = 2 * values[:, 2:-2] - values[:, :-4] - values[:, 4:]
    good = np.abs(differences[np.isfinite(differences)])
    return float(median(good)) * MAD_TO_SIGMA / math.sqrt(6) if good.size else math.nan


def mode_of(values: Values) -> float:
    """Return the mode of some values, of which none is NaN."""
    ordered = np.sort(values, axis=None)
    n = ordered.size
    if n < _MODE_LEAST:
        return float(ordered[n // 2]) if n else math.nan
    first, last = int(n * (1 - _MODE_RANGE) / 2), int(n * (1 + _MODE_RANGE) / 2)
    middle = ordered[first:last]
    low, spread = float(ordered[first]), float(ordered[last]) - float(ordered[first])
    if spread == 0:
        return low
    bins = math.ceil((1 - _MODE_BIN) / _MODE_STEP) + 2  # the last one holds the end of the range
    begins = low + np.arange(bins) * (_MODE_STEP * spread)
    from_, to = (np.searchsorted(middle, edge) for edge in (begins, begins + _MODE_BIN * spread))
    fullest = int(np.argmax(to - from_))
    return float(ordered[first + (int(from_[fullest]) + int(to[fullest])) // 2])


LEVELS: dict[str, Callable[[Values], float]] = {
    "median": lambda values: float(np.median(values)),
    "mean": lambda values: float(np.mean(values, dtype=np.float64)),
    "mode": mode_of,
}
"""What is measured of the good pixels of a frame, by name."""
