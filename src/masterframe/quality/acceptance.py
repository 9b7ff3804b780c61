"""Tests of a master, in the manner of LSST's cp_verify.

Its numbers, and what was counted while it was combined, are each held against a limit of
`masterframe.model.MasterLimits`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from masterframe.model import MasterLimits, Recipe
from masterframe.quality.verdicts import Check, check

MEDIAN_EFFICIENCY = math.pi / 2
"""Variance of the median of many values over that of their mean."""
LEVEL_SIGMAS = 2.0
"""Standard errors by which the level of a dark may be too low where no overscan tells it."""


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
    scale = facts.scale or (1.0,) * n
    if facts.kind == "flat" and facts.levels:
        signals = [numbers["mean"] * norm / factor for factor in scale]
    else:
        above = facts.kind == "dark" and facts.above_bias
        level = max(numbers["median"], 0.0)
        if not facts.overscan:  # the levels of bias and dark wandered, each in its own way
            level += LEVEL_SIGMAS * numbers.get("wander", 0.0) * math.sqrt(2 / n)
        signals = [level if above else 0.0] * n
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
