"""The table QUALITY: what is measured of a finished master, and its tests."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from masterframe import calibrate, cell, finish, readout, tiling
from masterframe.fits import tables
from masterframe.jobs import ImageJob, MasterJob
from masterframe.masterfile.totals import Totals
from masterframe.masterrows import MasterRows, applied
from masterframe.model import Noise
from masterframe.quality import acceptance, masters
from masterframe.quality.verdicts import Check
from masterframe.variance import shared_variance

QUALITY = {
    "median": "median of the good pixels on every 16th row",
    "scatter": "1.4826 MAD of the same: structure and noise",
    "noise": "noise of the result, from its even and odd halves",
    "typical": "noise of a typical pixel, without what its masters bring; amplifiers apart",
    "expected": "noise expected of gain and read noise, or of the frames' scatter",
    "rejlow": "fraction of the valid values rejected low",
    "rejhigh": "fraction of the valid values rejected high",
    "nmasked": "masked pixels",
    "maskedfraction": "fraction of the pixels that is masked",
    "norm": "level by which the flat was divided (adu)",
    **{
        f"norm{y}{x}": f"the same of row {y}, column {x} of each cell of filters (adu)"
        for y in range(2)
        for x in range(2)
    },
    "nflatlow": "pixels masked as too insensitive",
    "nhot": "pixels marked hot",
    "hotlevel": "bound above which a pixel is hot",
    "mean": "mean of the good pixels on every 16th row",
    "pixelscatter": "scatter from pixel to pixel along the rows",
    "gradient": "change of level across the image",
    "columns": "largest deviation of a column from its neighbours (sigma)",
    "worstcol": "that column (FITS pixel)",
    "offcols": "fraction of the columns that are off their neighbours",
    "rows": "largest deviation of a row from its neighbours (sigma)",
    "worstrow": "that row (FITS pixel)",
    "offrows": "fraction of the rows that are off their neighbours",
    "framenoise": "noise of a pixel of one frame (adu)",
    "oscnoise": "noise of the overscan of one frame (adu)",
    "wander": "scatter of the level of rows between frames (adu)",
    "correlation": "scatter of large areas of frames over that of uncorrelated noise",
}
"""Numbers of the QUALITY table and what they are."""
_OF_AMPLIFIERS = {
    "ampnoise": "noise of a pixel of one frame, amplifier {} (adu)",
    "ampsignal": "mean of the pixels that told it, amplifier {} (adu)",
}
LEAST = 64
"""Pixels of an amplifier that tell its noise; of one with fewer nothing is told apart."""
_IN_UNIT = ("median", "scatter", "noise", "typical", "expected", "hotlevel", "mean")
_ADU = ("norm", "norm00", "norm01", "norm10", "norm11", "framenoise", "oscnoise", "wander")


def quality(
    planes: finish.MasterPlanes, totals: Totals, image: ImageJob, job: MasterJob, norm: float
) -> dict[str, float]:
    """Measure one image of a master once it is finished."""
    sample = planes.sampled("data")  # a number for people: every 16th row tells it
    kept, low, high = (int(totals.counts[name].sum()) for name in ("kept", "low", "high"))
    valid = max(kept + low + high, 1)
    scale = image.calibration.scale
    quantum = masters.quantum_of(image.recipe, len(job.inputs), scale, norm)
    numbers = {
        **masters.measure(planes, sample, job.kind, quantum),
        "noise": totals.half_noise / norm,
        "rejlow": low / valid,
        "rejhigh": high / valid,
        **image.extra,
    }
    facts = facts_of_image(image, job, totals)
    return numbers | _noises(planes, image, facts, {**numbers, "norm": norm})


def _noises(
    planes: finish.MasterPlanes,
    image: ImageJob,
    facts: acceptance.Facts,
    numbers: Mapping[str, float],
) -> dict[str, float]:
    """Return the noise of a typical pixel that the frames do not share, and that expected of it.

    Amplifiers are told apart, since no pixel is typical of several: both are the root of the mean
    of their variances.
    """
    rows = tiling.sample_rows(planes.shape[0])
    rows = rows[:: max(1, len(rows) * planes.shape[1] // masters.NOISE_PIXELS)]
    data, uncert, count, mask = (
        planes.lines(plane, rows) for plane in ("data", "uncert", "count", "mask")
    )
    good, shared, norm = mask == 0, np.zeros(data.shape), numbers["norm"]
    if applied(image.calibration):
        held = MasterRows(image.calibration, rows)
        shared = shared_variance(data, calibrate.ALL, held) / norm**2

    def typical(part: Any) -> float:
        return masters.unshared_noise(uncert[part], shared[part], count[part])

    parts = [
        (part & good, noise)
        for part, noise in _parts(image, np.asarray(rows), data.shape)
        if np.count_nonzero(part & good) >= LEAST
    ] or [(good, image.recipe.noise)]
    expected = [acceptance.expected_noise(facts, numbers)]
    if len(parts) > 1 and None not in (image.recipe.noise.gain, image.recipe.noise.read_noise):
        expected = [
            acceptance.expected_noise(
                replace(facts, recipe=replace(image.recipe, noise=noise)),
                {
                    **numbers,
                    "median": float(np.median(data[part])),
                    "mean": float(data[part].mean()),
                },
            )
            for part, noise in parts
        ]
    return {
        "typical": _root_mean_square(typical(part) for part, _ in parts),
        "expected": _root_mean_square(expected),
    }


def _root_mean_square(values: Iterable[float]) -> float:
    return math.sqrt(statistics.fmean(value**2 for value in values))


def _parts(
    image: ImageJob, rows: NDArray[Any], shape: tuple[int, int]
) -> Iterator[tuple[NDArray[np.bool_], Noise]]:
    """Yield which pixels of some rows each amplifier reads, with its noise."""
    kept = readout.places(image.calibration.amplifiers)
    for amplifier in image.calibration.amplifiers:
        place, part = kept[amplifier.data], np.zeros(shape, np.bool_)
        part[(place.y0 <= rows) & (rows < place.y1), place.x0 : place.x1] = True
        yield part, readout.noise_of(amplifier, image.recipe.noise)


def facts_of_image(image: ImageJob, job: MasterJob, totals: Totals) -> acceptance.Facts:
    """Return what the tests of an image need to know of it besides its planes."""
    calibration = image.calibration
    across = 0 if calibration.by_columns else 1
    width = min((section.shape[across] for section in calibration.overscans), default=0)
    return acceptance.Facts(
        kind=job.kind,
        recipe=image.recipe,
        frames=len(job.inputs),
        left_out=len(job.left_out),
        overscan=width,
        above_bias=cell.is_above_bias(calibration),
        levels=image.levels,
        scale=calibration.scale,
        residuals=tuple(totals.noise.tolist()),
    )


def tests_of(
    job: MasterJob, totals: Sequence[Totals], numbers: Sequence[Mapping[str, float]]
) -> list[list[Check]]:
    """Test each image of a master by the numbers that `quality` gave."""
    return [
        acceptance.tests(facts_of_image(image, job, total), measured, job.limits)
        for image, total, measured in zip(job.images, totals, numbers, strict=True)
    ]


def quality_table(
    job: MasterJob,
    numbers: Sequence[Mapping[str, float]],
    tests: Sequence[Sequence[Check]],
) -> Any:
    """Return the table QUALITY: a row a number of each image, and a row a test."""
    units = {**dict.fromkeys(_IN_UNIT, job.unit), **dict.fromkeys(_ADU, "adu")}
    rows = []
    for image, measured, found in zip(job.images, numbers, tests, strict=True):
        rows += [
            tables.QualityRow(name, value, units.get(name, ""), _described(name), image.name)
            for name, value in measured.items()
        ]
        rows += [
            tables.QualityRow(
                name=f"test {item.name}",
                value=item.value,
                description=item.about,
                extension=image.name,
                limit=item.limit,
                verdict=item.verdict,
            )
            for item in found
        ]
    return tables.quality_table(rows)


def _described(name: str) -> str:
    """Return what a number of the QUALITY table is."""
    kind = name.rstrip("0123456789")
    if kind in _OF_AMPLIFIERS:
        return _OF_AMPLIFIERS[kind].format(name.removeprefix(kind))
    return QUALITY[name]
