"""The noise of single pixels and their light, frame by frame: the points of a photon transfer.

A lamp that wanders, or levels of rows that drift, make frames differ by more than their noise.
The scatter within a short run of pixels holds the noise, and little of a pattern that is wider;
what all frames share is taken off first. Of two neighbours alone it would be too much where the
electronics ring, and one pixel is high if the one before was low.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from masterframe.model import Section
from masterframe.quality.sketch import RUN, Sketch, runs_within
from masterframe.quantiles import MAD_TO_SIGMA, median_of

LEAST = 30
"""Runs of pixels from which noise is told."""
FAR = 5.0
"""Robust standard deviations beyond which a value is one of a cosmic ray."""

Array = NDArray[Any]


class Transfer:
    """Values of the same pixels in all frames of a group, and how far they are from the others.

    Parameters
    ----------
    sketches : sequence of Sketch
        One a frame of a group.
    light : bool
        Frames with light, which are compared after division by their level.
    """

    def __init__(self, sketches: Sequence[Sketch], *, light: bool) -> None:
        self._first, self._light = sketches[0], light
        self._unit = np.array([sketch.level if light else 1.0 for sketch in sketches])
        self._told = len(sketches) >= 2 and bool((self._unit > 0).all())
        if not self._told:
            return
        values = np.stack([sketch.runs for sketch in sketches]).astype(np.float64)
        self._finite = np.isfinite(values).all(axis=(0, 1))
        self._values = values[:, :, self._finite]
        self._off = self._values / self._unit[:, None, None]
        self._off -= self._off.mean(axis=0)
        self._off -= self._off.mean(axis=1, keepdims=True)

    def noises(self, section: Section | None = None) -> tuple[tuple[float, float], ...]:
        """Return the noise of one pixel of each frame, and the light of the pixels that told it.

        Parameters
        ----------
        section : Section, optional
            The part of the kept image that is asked for.

        Returns
        -------
        tuple of (float, float)
            Standard deviation and mean (adu) of each frame; empty where too little is known.
        """
        if not self._told:
            return ()
        values, off = self._values, self._off
        if section is not None:
            within = runs_within(self._first, section)[self._finite]
            values, off = values[:, :, within], off[:, :, within]
        if values.shape[2] < LEAST:
            return ()
        good = _without_hits(off, values.mean(axis=(0, 1)) if self._light else None)
        if good.sum() < LEAST:
            return ()
        variances = alone(list((off[:, :, good] ** 2).mean(axis=(1, 2)) * RUN / (RUN - 1)))
        signal = values[:, :, good].mean(axis=(1, 2))
        return tuple(
            (math.sqrt(max(variance, 0.0)) * own, float(mean))
            for variance, own, mean in zip(variances, self._unit.tolist(), signal, strict=True)
        )

    def amplifier_numbers(self, sections: Sequence[Section]) -> dict[str, float]:
        """Return what each of several amplifiers reads: ``ampnoise1``, ``ampsignal1`` (adu), ...

        Parameters
        ----------
        sections : sequence of Section
            What each amplifier reads of the kept image.
        """
        found: dict[str, float] = {}
        for number, section in enumerate(sections, start=1):
            pixels = self.noises(section)
            if pixels:
                variance = statistics.median(noise**2 for noise, _ in pixels)
                found[f"ampnoise{number}"] = math.sqrt(variance)
                found[f"ampsignal{number}"] = statistics.median(signal for _, signal in pixels)
        return found


def alone(about_mean: Sequence[float]) -> list[float]:
    """Return the variance of each frame about the truth, from those about the mean of all.

    With N frames of variances s_k^2, that of frame i about their mean is
    ``(1 - 2 / N) s_i^2 + sum(s_k^2) / N^2``, which is solved for the s_i. NaN for fewer than two.
    """
    n = len(about_mean)
    if n < 2:
        return [math.nan] * n
    total = math.fsum(about_mean) * n / (n - 1)
    if n == 2:
        return [total / 2] * 2
    return [(variance - total / n**2) / (1 - 2 / n) for variance in about_mean]


def _without_hits(off: Array, signal: Array | None) -> NDArray[np.bool_]:
    """Return which runs no frame has a cosmic ray in; brighter pixels have more noise."""
    sigma = MAD_TO_SIGMA * np.array([median_of(np.abs(frame)) for frame in off])
    brighter = 1.0 if signal is None else np.sqrt(np.maximum(signal / np.median(signal), 1.0))
    within = np.abs(off) <= FAR * sigma[:, None, None] * brighter
    return np.asarray(within.all(axis=(0, 1)))
