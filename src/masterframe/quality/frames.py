"""Frames beside the others of their group: which one is not like them, by which number.

A group is three frames or more; of fewer none can be told to be the odd one. What is compared are
the deviations of a frame from the median of all, area by area. How much the deviations of good
frames scatter is read off the others, so that nothing need be known of the camera.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from masterframe.model import FrameLimits
from masterframe.quality.sketch import CELLS, Sketch
from masterframe.quality.verdicts import Check, check
from masterframe.quantiles import MAD_TO_SIGMA, row_medians

LEAST = 3
"""Frames of which one can be told to be unlike the others."""
MINORITY = 0.5
"""At most this fraction of a group is at fault; more, and the group has no majority to judge by."""
RATIOS = ("structure", "banding", "noise")
"""Tests whose number is 1 where a frame is like the others."""
CHANCE = 1e-6
"""Probability that a good frame's level is held to be off."""
HUGE = 20.0
"""Multiple of the harmless difference of level that counts even where chance may explain it."""
DIM = 0.7
"""Columns of a flat with less than this fraction of the usual light are not compared."""
PRIOR = 3
"""Degrees of freedom that the scatter within frames lends to the scatter of their levels."""
DRIFT = 0.5
"""Noise of a pixel by which rows may drift where no overscan tells their level."""
WANDER = 4 / 3
"""What the usual scatter of rows that drift is multiplied by: how far they go differs by chance."""
SLOPE_SIGMAS = 8.0
"""A slope within this many of its standard errors is chance."""
DRIFT_SIGMAS = 3.0
"""A slope within this many robust standard deviations of those of all frames is no fault of one
frame: the light of a lamp that wanders is another in every frame."""

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Group:
    """What holds for all frames of a group."""

    kind: str
    """bias, dark or flat."""
    overscan: bool
    """Levels are counted from an overscan, so that they are not expected to wander."""
    sky: bool = False
    """Flats of the sky, whose level fades."""


def judge(
    sketches: Sequence[Sketch], group: Group, limits: FrameLimits
) -> tuple[tuple[Check, ...], ...]:
    """Compare the frames of a group.

    Parameters
    ----------
    sketches : sequence of Sketch
        One a frame.
    group : Group
        What they are.
    limits : FrameLimits
        From where on a frame is unlike the others.

    Returns
    -------
    tuple of tuple of Check
        The tests of each frame. Those that compare are left out where there are fewer than three
        frames.
    """
    alone = [[_saturation(sketch, limits)] for sketch in sketches]
    whole = [index for index, sketch in enumerate(sketches) if math.isfinite(sketch.level)]
    if len(whole) < LEAST:
        return tuple(tuple(checks) for checks in alone)
    compared = _Compared([sketches[index] for index in whole], group, limits)
    for place, index in enumerate(whole):
        alone[index] += compared.checks(place)
    return tuple(tuple(checks) for checks in alone)


def fault(checks: Sequence[Check]) -> str:
    """Return what is wrong with a frame, '' with a good one."""
    return "; ".join(item.words() for item in checks if item.verdict == "fail")


def unlike(checks: Sequence[Check]) -> float:
    """Return how unlike the others a frame is: the largest of its numbers, each over its limit.

    Those that are ratios to the others begin at 1. NaN where nothing was judged.
    """
    least = dict.fromkeys(RATIOS, 1.0)
    parts = [
        (item.value - least.get(item.name, 0.0)) / (item.limit - least.get(item.name, 0.0))
        for item in checks
        if item.verdict != "not judged" and item.limit > least.get(item.name, 0.0)
    ]
    return max(parts, default=math.nan)


def have_majority(reasons: Sequence[str]) -> bool:
    """Return whether so few frames are at fault that the others say what a good one is."""
    return sum(map(bool, reasons)) <= MINORITY * len(reasons)


def group_numbers(sketches: Sequence[Sketch]) -> dict[str, float]:
    """Return what the sketches of a group say of all of its frames together.

    Returns
    -------
    dict
        ``framenoise``: noise of one pixel of one frame (adu); ``oscnoise``: noise of the overscan
        (adu); ``wander``: scatter of the level of rows between frames (adu); ``correlation``:
        scatter of large areas about the others, over that of noise without correlation.
    """
    numbers = {"framenoise": float(np.median([item.noise for item in sketches]))}
    overscans = [item.overscan_noise for item in sketches if math.isfinite(item.overscan_noise)]
    if overscans:
        numbers["oscnoise"] = float(np.median(overscans))
    whole = [item for item in sketches if math.isfinite(item.level)]
    if len(whole) > 1:
        numbers["wander"] = _wander(whole)
    if len(whole) >= LEAST:
        numbers["correlation"] = _correlation(whole)
    return numbers


def _wander(sketches: Sequence[Sketch]) -> float:
    """Return how much the levels of rows wander between frames beyond the noise of their mean."""
    rows = np.stack([item.rows for item in sketches]).astype(np.float64)
    variance = float(rows.var(axis=0, ddof=1).mean())
    white = float(np.mean([(item.row_error * item.noise) ** 2 for item in sketches]))
    return math.sqrt(max(variance - white, 0.0))


def _correlation(sketches: Sequence[Sketch]) -> float:
    """Return how much more large areas scatter than pixels without correlation would.

    Of every frame the median of all, the rows' own levels and the columns' are taken off.
    """
    level = np.array([item.level for item in sketches])
    cells = np.stack([item.cells for item in sketches]).astype(np.float64)
    if level.min() > 0:
        cells *= (np.median(level) / level)[:, None, None]
    cells -= np.median(cells, axis=0)
    cells -= np.median(cells, axis=2, keepdims=True)
    scatter = MAD_TO_SIGMA * np.median(np.abs(cells), axis=(1, 2))
    white = np.array([item.noise for item in sketches]) / math.sqrt(sketches[0].cell_pixels)
    ratios = scatter[white > 0] / white[white > 0]
    return float(np.median(ratios)) if ratios.size else math.nan


def _saturation(sketch: Sketch, limits: FrameLimits) -> Check:
    return check("saturated", sketch.saturated, limits.saturated, "fraction of the pixels")


class _Compared:
    """Deviations of the frames of a group from the median of all."""

    def __init__(self, sketches: Sequence[Sketch], group: Group, limits: FrameLimits) -> None:
        self.group, self.limits = group, limits
        self.light = group.kind == "flat"
        # medians of integers are integers: means tell small differences
        levels = [item.level if self.light else float(item.cells.mean()) for item in sketches]
        self.level = np.array(levels)
        self.noise = np.array([item.noise for item in sketches])
        self.usual_noise = float(np.median(self.noise))
        self.typical = float(np.median(self.level))
        # frames with light are compared by their pattern, others by their values
        unit = self.level if self.light else np.ones(len(sketches))
        unit = np.where(unit > 0, unit, np.nan)
        self.white = self.noise / unit
        cells = self._deviations([item.cells for item in sketches], unit)
        rows = self._deviations([item.rows for item in sketches], unit)
        columns = self._deviations([item.columns for item in sketches], unit)
        if self.light:  # where little light falls, its share changes from flat to flat
            usual = np.median([item.columns for item in sketches], axis=0)
            columns[:, usual < DIM * np.median(usual)] = 0.0
        self.row_level = rows
        self.slopes = np.array([_slopes(plane) for plane in cells])
        self.drift = DRIFT_SIGMAS * MAD_TO_SIGMA * np.median(self.slopes, axis=0)
        if self.light:  # a satellite moves the level a little, by which all was divided
            cells -= np.median(cells, axis=(1, 2), keepdims=True)
        else:  # the level of rows may wander; in a flat it has no weight
            cells -= np.median(cells, axis=2, keepdims=True)
        self.area = np.array([_scatter(plane, dark_side=self.light) for plane in cells])
        self.band = _mad(rows)
        self.column, self.column_at = _outstanding(
            columns, self.white / math.sqrt(len(sketches[0].rows))
        )
        self.usual_area = _usual(self.area, self.white / math.sqrt(sketches[0].cell_pixels))
        self.usual_band = _usual(self.band, self.white * sketches[0].row_error)
        self.drifting = not (self.light or group.overscan)
        if self.drifting:
            self.usual_band = WANDER * max(self.usual_band, DRIFT * self.usual_noise)
        self.bin = sketches[0].width / columns.shape[1]

    @staticmethod
    def _deviations(planes: Sequence[Array], unit: Array) -> Array:
        stack = np.stack(planes).astype(np.float64)
        stack /= unit.reshape(-1, *(1,) * (stack.ndim - 1))
        stack -= row_medians(np.moveaxis(stack, 0, -1))  # of all frames
        return stack

    def checks(self, index: int) -> list[Check]:
        """Return the tests of one frame."""
        limits = self.limits
        area = _over(float(self.area[index]), self.usual_area)
        band = _over(float(self.band[index]), self.usual_band)
        column = int(self.column_at[index] * self.bin) + 1
        return [
            self._level(index),
            self._slope(index),
            check("structure", area, limits.structure, "scatter of large areas over the others'"),
            check("banding", band, limits.banding, "scatter of rows over the others'"),
            check(
                "columns",
                float(self.column[index]),
                limits.columns,
                f"sigma by which column {column} is off the others",
            ),
            check("noise", self._noise(index), limits.noise, "ratio to the others'", limits.noise),
        ]

    def _level(self, index: int) -> Check:
        own = float(self.level[index])
        if self.light:
            drift = math.nan if self.group.sky else abs(_over(own, self.typical) - 1)
            about = f"fraction; its level is {own:.0f} adu, the others' {self.typical:.0f}"
            return check("drift", drift, self.limits.drift, about)
        noise = self.usual_noise
        shift = abs(own - self.typical)
        about = f"its level {own:.2f} adu from the others' {self.typical:.2f}, in pixel noise"
        off = _over(shift, noise)
        if off <= HUGE * self.limits.level and not self._unlikely(index):
            off = min(off, 0.0)  # chance explains it
        return check("level", off, self.limits.level, about)

    def _unlikely(self, index: int) -> bool:
        """Return whether chance alone would hardly bring the level so far from the others.

        Student's test of one frame against the others. With an overscan the scatter within the
        frame says how far the level may be off, which helps where the others are few.
        """
        others = np.delete(self.level, index)
        dof = len(others) - 1
        variance = float(others.var(ddof=1))
        if self.group.overscan:
            within = self.area[index] ** 2 / CELLS**2
            rows = self.row_level[index]
            within = max(within, float(self.band[index]) ** 2 / rows.size)
            variance = (PRIOR * within + dof * variance) / (PRIOR + dof)
            dof += PRIOR
        shift = abs(float(self.level[index]) - float(others.mean()))
        error = math.sqrt(variance * (1 + 1 / len(others)))
        return shift > student_quantile(CHANCE, dof) * error

    def _slope(self, index: int) -> Check:
        across, along = self.slopes[index]
        area = SLOPE_SIGMAS * self.usual_area * math.sqrt(12) / CELLS
        rows = SLOPE_SIGMAS * self.usual_band * math.sqrt(12 / self.row_level.shape[1])
        if self.drifting:
            along = 0.0  # nothing tells a slope of light from one of the rows' level
        drift_across, drift_along = self.drift
        slope = across * (across > max(area, drift_across))
        slope += along * (along > max(math.hypot(area, rows), drift_along))
        if self.light:
            return check("gradient", slope, self.limits.illumination, "slope across it, a fraction")
        own = _over(slope, self.usual_noise)
        return check("gradient", own, self.limits.gradient, "slope across it, in pixel noise")

    def _noise(self, index: int) -> float:
        """Return the ratio of a frame's noise to that of the others, or its inverse.

        That of a flat grows with its level, by the root for photons and in proportion for what
        differs from pixel to pixel: all between is as it should be.
        """
        ratio = _over(float(self.noise[index]), self.usual_noise)
        if not ratio > 0:
            return math.nan
        if not self.light:
            return max(ratio, 1 / ratio)
        brighter = _over(float(self.level[index]), self.typical)
        if not brighter > 0:
            return math.nan
        least, most = sorted((math.sqrt(brighter), brighter))
        return max(ratio / most, least / ratio, 1.0)


def _over(own: float, usual: float) -> float:
    """Return a number over the usual one; NaN where that is zero, as of frames without noise."""
    return own / usual if usual > 0 else math.nan


def _usual(scatter: Array, white: Array) -> float:
    """Return the usual scatter, at least that of noise without correlation."""
    return float(max(np.median(scatter), np.median(white)))


def _scatter(plane: Array, *, dark_side: bool) -> float:
    """Return the root mean square of deviations; of the dark ones alone where light may be added.

    A satellite brightens a flat here and there, and is rejected pixel by pixel; the shadows of
    other dust do not go away.
    """
    if dark_side:
        return float(np.sqrt(2 * np.mean(np.minimum(plane, 0) ** 2)))
    return float(np.sqrt(np.mean(plane**2)))


def _slopes(plane: Array) -> tuple[float, float]:
    """Return by how much the plane that fits some cells best changes across and along the frame."""
    along, across = ((np.arange(n) - (n - 1) / 2) / n for n in plane.shape)
    x = float((plane.mean(axis=0) * across).sum() / (across**2).sum())
    y = float((plane.mean(axis=1) * along).sum() / (along**2).sum())
    return abs(x), abs(y)


def _mad(rows: Array) -> Array:
    """Return the robust scatter of each frame's rows about their median."""
    scatter: Array = MAD_TO_SIGMA * row_medians(np.abs(rows - row_medians(rows)[:, None]))
    return scatter


def _outstanding(columns: Array, white: Array) -> tuple[Array, Array]:
    """Return by how many sigma the worst column of each frame is off, and which one that is."""
    middle = np.median(columns, axis=1, keepdims=True)
    sigma = np.maximum(_mad(columns), white)
    sigma = np.where(sigma > 0, sigma, np.inf)
    off = np.abs(columns - middle) / sigma[:, None]
    return off.max(axis=1), off.argmax(axis=1)


def student_quantile(chance: float, dof: int) -> float:
    """Return what |t| exceeds with a probability (G. W. Hill 1970, CACM algorithm 396).

    Parameters
    ----------
    chance : float
        The probability, of both sides together.
    dof : int
        Degrees of freedom.
    """
    if dof == 1:
        return 1 / math.tan(chance * math.pi / 2)
    if dof == 2:
        return math.sqrt(2 / (chance * (2 - chance)) - 2)
    a = 1 / (dof - 0.5)
    b = 48 / a**2
    c = ((20700 * a / b - 98) * a - 16) * a + 96.36
    d = ((94.5 / (b + c) - 3) / b + 1) * math.sqrt(a * math.pi / 2) * dof
    y = (d * chance) ** (2 / dof)
    if y > 0.05 + a:
        x = NormalDist().inv_cdf(chance / 2)
        y = x * x
        if dof < 5:
            c += 0.3 * (dof - 4.5) * (x + 0.6)
        c = (((0.05 * d * x - 5) * x - 7) * x - 2) * x + b + c
        y = (((((0.4 * y + 6.3) * y + 36) * y + 94.5) / c - y - 3) / b + 1) * x
        y = math.expm1(a * y * y)
    else:
        y = (
            (1 / (((dof + 6) / (dof * y) - 0.089 * d - 0.822) * (dof + 2) * 3) + 0.5 / (dof + 4))
            * y
            - 1
        ) * (dof + 1) / (dof + 2) + 1 / y
    return math.sqrt(dof * y)
