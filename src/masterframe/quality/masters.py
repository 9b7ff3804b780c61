"""Tests of a master once it is finished, in the manner of LSST's cp_verify.

The numbers come from its planes and from what was counted while it was combined; they are cheap
beside the combination. Each is held against a limit of `masterframe.model.MasterLimits`.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from masterframe.levels import noise_of
from masterframe.model import MasterLimits, Recipe
from masterframe.quality.verdicts import Check, check
from masterframe.quantiles import MAD_TO_SIGMA, median_of, row_medians

NEIGHBOURS = {"flat": 5}
"""Columns (or rows) with whose median one of them is compared, ..."""
USUAL_NEIGHBOURS = 31
"""... of other kinds; a flat has the shadows of dust, which are wide."""
OFF = {"flat": 40.0}
"""Sigmas by which a column (or row) is off, ..."""
USUAL_OFF = 12.0
"""... of other kinds; the shadows of dust have edges."""
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
MEDIAN_EFFICIENCY = math.pi / 2
"""Variance of the median of many values over that of their mean."""
LEVEL_SIGMAS = 2.0
"""Standard errors by which the level of a dark may be too low where no overscan tells it."""
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


@dataclass(frozen=True, slots=True)
class Facts:
    """What the tests need to know of a master besides its planes."""

    kind: str
    """bias, dark or flat; '' where it is not known, and then little is tested."""
    recipe: Recipe
    """How it was combined; its gain and read noise tell the noise that is expected."""
    frames: int
    """Frames that were combined."""
    left_out: int
    """Frames that were left out."""
    overscan: int
    """Columns of the overscan that gave the level of each row, or rows that gave that of each
    column; 0 without one."""
    above_bias: bool
    """Values are counted from the bias."""
    levels: tuple[float, ...]
    """Level of each frame (adu); empty where they were not measured."""
    scale: tuple[float, ...]
    """Factor of each frame; empty for 1."""
    residuals: tuple[float, ...]
    """Standard deviation of each frame about the result (combined unit)."""


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
    sigma = max(MAD_TO_SIGMA * float(np.median(np.abs(off[good]))), quantum / math.sqrt(12))
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
    filled = np.where(good, profile, np.median(profile[good]) if good.any() else 0.0)
    if filled.size <= half:
        return np.full(filled.shape, np.nan)
    # slopes go on at the edges, about a level that an odd line there does not move
    left = 2 * np.median(filled[:3]) - filled[half:0:-1]
    right = 2 * np.median(filled[-3:]) - filled[-2 : -half - 2 : -1]
    padded = np.concatenate([left, filled, right])
    windows = np.lib.stride_tricks.sliding_window_view(padded, neighbours)
    others = np.delete(windows, half, axis=1)
    return np.asarray(profile - np.median(others, axis=1))


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
    low, high = np.percentile(medians, (5, 95))
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
    dof = float(np.median(count)) - 1
    if dof < 1:
        return math.nan
    variances = np.asarray(uncert, np.float64) ** 2 - shared
    together = min(TOGETHER, variances.size)
    means = variances[: variances.size // together * together].reshape(together, -1).mean(axis=0)
    variance = float(np.median(means))
    return math.sqrt(max(variance, 0) / (1 - 2 / (9 * dof * together)) ** 3)


def expected_noise(facts: Facts, numbers: Mapping[str, float]) -> float:
    """Return the noise that a master should have (its unit); NaN where nothing tells.

    From gain and read noise where both are known, the rounding to steps and the noise of the
    overscan's median among it; else from the scatter of the frames about the result.
    """
    norm = numbers.get("norm", 1.0)
    noise, n = facts.recipe.noise, facts.frames
    if n < 2 or not norm > 0:
        return math.nan
    if not noise.gain or noise.read_noise is None:
        total = sum(value**2 for value in facts.residuals) * n / (n - 1)
        if facts.kind in ("bias", "dark") and not facts.overscan and facts.levels:
            total += n * float(np.var(facts.levels, ddof=1))  # residuals are about their own means
        return math.sqrt(total) / n / norm
    read = (noise.read_noise / noise.gain) ** 2 + noise.step**2 / 12
    if facts.overscan:
        read *= 1 + MEDIAN_EFFICIENCY / facts.overscan
        read += noise.step**2 / 12  # the median of whole numbers is one, too
    elif facts.kind in ("bias", "dark"):
        read += numbers.get("wander", 0.0) ** 2  # nothing tells the level of a row
    if facts.kind == "flat" and facts.levels:
        # levels are medians; of images that share a level, none has a median of 1
        mean = numbers.get("mean", 1.0) / numbers.get("median", 1.0)
        signals = [level * mean for level in facts.levels]
    else:
        above = facts.kind == "dark" and facts.above_bias
        level = max(numbers["median"], 0.0)
        if not facts.overscan:  # the levels of bias and dark wandered, each in its own way
            level += LEVEL_SIGMAS * numbers.get("wander", 0.0) * math.sqrt(2 / n)
        signals = [level if above else 0.0] * n
    scale = facts.scale or (1.0,) * n
    total = sum(
        s**2 * (max(signal, 0) / noise.gain + read)
        for s, signal in zip(scale, signals, strict=True)
    )
    return math.sqrt(total) / n / norm


def tests(facts: Facts, numbers: Mapping[str, float], limits: MasterLimits) -> list[Check]:
    """Hold the numbers of a master against the limits.

    Parameters
    ----------
    facts : Facts
        What it was made of.
    numbers : mapping
        All numbers of its table QUALITY.
    limits : MasterLimits
        From where on one is too much.
    """
    single = numbers.get("framenoise", math.nan)
    if not facts.overscan:  # nothing tells the level of a frame better than it wanders
        single = math.hypot(single, numbers.get("wander", 0.0))
    noise = numbers.get("typical", math.nan)
    total = facts.frames + facts.left_out
    return [
        *_levels(facts, numbers, limits, single),
        check(
            "noise",
            _over(noise, numbers.get("expected", math.nan)),
            limits.noise,
            f"measured over expected noise{_sources(facts, numbers)}",
            warn=(1 + limits.noise) / 2,
        ),
        check(
            "correlation",
            numbers.get("correlation", math.nan),
            limits.correlation,
            "scatter of large areas over that of uncorrelated noise",
        ),
        check(
            "rejected",
            numbers["rejlow"] + numbers["rejhigh"],
            limits.rejected,
            "fraction of the values",
        ),
        check("left out", facts.left_out / total, limits.left_out, "fraction of the frames"),
        check("masked", numbers["maskedfraction"], limits.masked, "fraction of the pixels"),
        check("columns", numbers["offcols"], limits.columns, _line(numbers, "column"), warn=0.0),
        check("rows", numbers["offrows"], limits.rows, _line(numbers, "row"), warn=0.0),
    ]


def _sources(facts: Facts, numbers: Mapping[str, float]) -> str:
    """Return what the noise of a bias rests on: too much of it may be a header that is wrong."""
    noise = facts.recipe.noise
    if facts.kind != "bias" or not noise.gain or noise.read_noise is None:
        return ""
    words = f"; gain and read noise give {noise.read_noise / noise.gain:.3g} adu a frame"
    for key, what in (("framenoise", "frames"), ("oscnoise", "their overscan")):
        if math.isfinite(numbers.get(key, math.nan)):
            words += f", {what} have {numbers[key]:.3g}"
    return words.replace("overscan have", "overscan has")


def _line(numbers: Mapping[str, float], what: str) -> str:
    """Return what the fraction of columns or rows that are off is, with the worst of them."""
    key = {"column": "worstcol", "row": "worstrow"}[what]
    sigmas = numbers[f"{what}s"]
    if math.isnan(sigmas):
        return f"fraction of the {what}s that are off their neighbours"
    return (
        f"fraction of the {what}s that are off their neighbours; "
        f"the worst is {what} {numbers[key]:.0f} by {sigmas:.1f} sigma"
    )


def _levels(
    facts: Facts, numbers: Mapping[str, float], limits: MasterLimits, single: float
) -> Iterator[Check]:
    """Yield the tests of level and large structure, which differ with the kind."""
    median, gradient = numbers["median"], numbers["gradient"]
    if facts.kind == "flat":
        yield from _light(facts, numbers, limits)
        yield check(
            "illumination", _over(gradient, median), limits.illumination, "change of level across"
        )
        own = math.sqrt(max(numbers["pixelscatter"] ** 2 - numbers["noise"] ** 2, 0.0))
        about = "fraction, from pixel to pixel without noise"
        yield check("scatter", _over(own, median), limits.scatter, about)
        return
    if facts.kind == "bias" and facts.overscan:
        about = "level above the overscan, in noise of a frame"
        yield check("level", _over(abs(median), single), limits.level, about)
    if facts.kind == "dark" and facts.above_bias:
        about = "level below zero, in noise of a frame"
        yield check("level", _over(max(-median, 0.0), single), limits.level, about)
    # amplifiers differ in level where no overscan and no bias is taken off
    if facts.overscan or (facts.kind == "dark" and facts.above_bias):
        about = "change of level across, in noise of a frame"
        yield check("gradient", _over(gradient, single), limits.gradient, about)


def _light(facts: Facts, numbers: Mapping[str, float], limits: MasterLimits) -> Iterator[Check]:
    """Yield the tests of the level of a flat's frames: enough photons, and not too many."""
    if not facts.levels:
        return
    faintest, brightest = min(facts.levels), max(facts.levels)
    noise = facts.recipe.noise
    single = noise.read_noise / noise.gain if noise.gain and noise.read_noise else noise.step
    # a limit from below: the inverse is held against the inverse
    yield check(
        "photons",
        _over(single, faintest),
        1 / limits.photons,
        f"noise of one read over the faintest level, {faintest:.0f} adu",
    )
    if facts.recipe.saturation:
        about = f"brightest level over saturation, {facts.recipe.saturation:.0f} adu"
        yield check("saturation", brightest / facts.recipe.saturation, limits.saturation, about)


def _over(value: float, unit: float) -> float:
    return value / unit if unit > 0 else math.nan


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


CHANGED_SIGMAS = 6.0


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
