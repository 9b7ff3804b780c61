"""What stands in a master file besides its pixels: layout, header, and the tables on its inputs."""

from __future__ import annotations

import math
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from masterframe import (
    __version__,
    calibrate,
    cell,
    finish,
    fits,
    kernels,
    scaling,
    tiling,
)
from masterframe.fits import headers, legal, records, tables, write
from masterframe.fits.masters import hdu_labels, hdu_names
from masterframe.jobs import ImageJob, Input, MasterJob
from masterframe.model import BandResult, Frame, MasterImage
from masterframe.quality import masters
from masterframe.quality.verdicts import Check

SPARE_ROWS = 64
"""Trimmed rows up to which the DATASUM of an input is completed row by row, not read anew."""
COUNTS = ("kept", "low", "high", "missing")


class Totals:
    """Adds up the per-frame numbers of bands, in the order of their rows."""

    def __init__(self, n_frames: int) -> None:
        self.counts = {name: np.zeros(n_frames, np.int64) for name in COUNTS}
        self.frame_sums = np.zeros((n_frames, 2))
        self.half_sums = np.zeros(3)
        self.datasum: np.ndarray | None = np.zeros(n_frames, np.uint64)

    def add(self, band: BandResult) -> None:
        """Add one cell: integers are exact, float sums go part by part, however rows are cut."""
        for name in COUNTS:
            self.counts[name] += getattr(band.frames, name)
        for part in chain.from_iterable(band.frame_sums):
            self.frame_sums += part
        for part in chain.from_iterable(band.half_sums):
            self.half_sums += part
        if self.datasum is not None:
            self.datasum = self.datasum + band.datasum if band.datasum.size else None

    def state(self) -> dict[str, str]:
        """Return all sums as texts, bit for bit; `restore` takes them."""
        sums = {**self.counts, "frame_sums": self.frame_sums, "half_sums": self.half_sums}
        if self.datasum is not None:
            sums["datasum"] = self.datasum
        return {name: b64encode(array.tobytes()).decode() for name, array in sums.items()}

    @classmethod
    def restore(cls, n_frames: int, state: Mapping[str, str]) -> Totals:
        """Return the sums that `state` gave, of the same machine."""

        def array(name: str, like: NDArray[Any]) -> NDArray[Any]:
            values = np.frombuffer(b64decode(state[name]), like.dtype)
            return values.reshape(like.shape).copy()

        made = cls(n_frames)
        made.counts = {name: array(name, own) for name, own in made.counts.items()}
        made.frame_sums = array("frame_sums", made.frame_sums)
        made.half_sums = array("half_sums", made.half_sums)
        sums = np.zeros(n_frames, np.uint64)
        made.datasum = array("datasum", sums) if "datasum" in state else None
        return made

    @property
    def noise(self) -> NDArray[np.float64]:
        """Standard deviation of (value - combined) of each frame (combined unit)."""
        kept = np.maximum(self.counts["kept"], 1)
        mean, square = (self.frame_sums / kept[:, None]).T
        noise: NDArray[np.float64] = np.sqrt(np.maximum(square - mean**2, 0))
        return noise

    @property
    def half_noise(self) -> float:
        """Noise of the result from the difference of its even and odd halves; NaN without it."""
        count, total, square = self.half_sums
        if count < 2:
            return math.nan
        frames = len(self.frame_sums)
        smaller = frames // 2  # halves of an odd number differ more than the mean of all is noisy
        share = 2 * math.sqrt(smaller * (frames - smaller)) / frames
        return share * math.sqrt(max(square - total**2 / count, 0) / (count - 1))


def rejected(totals: Sequence[Totals]) -> float:
    """Return the fraction of the valid values of all images that was rejected."""
    kept, low, high = (
        sum(int(own.counts[name].sum()) for own in totals) for name in ("kept", "low", "high")
    )
    valid = kept + low + high
    return (low + high) / valid if valid else 0.0


def facts_of(job: MasterJob) -> headers.MasterFacts:
    """Return what the header of the master says besides what its inputs share."""
    recipe, calibration = job.images[0].recipe, job.images[0].calibration
    propagated = len(job.inputs) == 1 and recipe.noise.gain and recipe.noise.read_noise is not None
    return headers.MasterFacts(
        inputs=tuple(
            headers.InputFacts(item.name, item.exptime, item.date_obs) for item in job.inputs
        ),
        recipe=recipe,
        kind=job.kind,
        unit=job.unit,
        temperature=job.temperature,
        bias_subtracted=bool(calibration.bias) and not calibration.dark_holds_bias,
        uncertainty="propagated" if propagated else "empirical",
        version=__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        normalized=_normalized(job),
        history=(*job.history, *scaling.describe(job.adjust, job.inputs[0].name)),
    )


def _normalized(job: MasterJob) -> str:
    """Return how the level of the images of a flat is found; '' for one image, or no flat."""
    if len(job.images) == 1 or job.images[0].normalize is None:
        return ""
    return "together" if job.together else "apart"


def plane_specs(job: MasterJob, facts: headers.MasterFacts) -> list[write.PlaneSpec]:
    """Lay out the file: one image fills the primary HDU, several follow an empty one."""
    if len(job.images) == 1:
        (image,) = job.images
        header = _image_header(image, fits.read_whole_header(image.images[0].frame))
        legal.set_cards(header, headers.master_cards(facts))
        return _image_specs(image, job.unit, header)
    base = fits.read_header(job.inputs[0].path, 0)
    common = headers.master_header(base, [item.header for item in job.inputs])
    legal.set_cards(common, headers.master_cards(facts))
    specs = [write.PlaneSpec("", "uint8", (), common)]
    for image in job.images:
        frame = image.images[0].frame
        header = _image_header(image, fits.read_header(frame.path, frame.hdu))
        legal.set_cards(header, headers.extension_cards(job.unit))
        specs += _image_specs(image, job.unit, header)
    return specs


def _image_header(image: ImageJob, base: Any) -> Any:
    cards = [item.header for item in image.images]
    calibration = image.calibration
    return headers.master_header(base, cards, calibration.trim, calibration.amplifiers)


def _image_specs(image: ImageJob, unit: str, header: Any) -> list[write.PlaneSpec]:
    planes = cell.plane_names(image.recipe)
    frame = image.images[0].frame
    names = hdu_names(image.name, planes)
    labels = hdu_labels(image.name, planes, frame)
    return [
        write.PlaneSpec(
            names[plane],
            str(stored_type(plane, image)),
            image.calibration.kept_shape(frame.shape),
            header if plane == "data" else headers.plane_header(plane, unit),
            labels[plane],
        )
        for plane in planes
    ]


def stored_type(plane: str, image: ImageJob) -> np.dtype[Any]:
    """Return the type of a plane in the file: counts take two bytes where they fit."""
    kind = cell.plane_type(plane, image.recipe)
    few = kind == np.int32 and len(image.images) <= np.iinfo(np.int16).max
    return np.dtype(np.int16) if few else kind


def datasums_of(image: ImageJob, totals: Totals) -> list[int]:
    """Return the DATASUM of each input: of what the bands saw, and of the rows trimmed."""
    frames = [item.frame for item in image.images]
    trim, height = image.calibration.trim, frames[0].shape[0]
    if totals.datasum is None:
        return [fits.datasum(frame) for frame in frames]
    sums = [int(total) for total in totals.datasum]
    trimmed = [*range(trim.y0), *range(trim.y1, height)] if trim else []
    if len(trimmed) > SPARE_ROWS:
        return [fits.datasum(frame) for frame in frames]
    reader = fits.StackReader(frames)
    for row in trimmed:
        more = reader.words(reader.read(range(row, row + 1)), row)
        if not more.size:
            return [fits.datasum(frame) for frame in frames]
        sums = [total + int(words) for total, words in zip(sums, more, strict=True)]
    return [_folded(total) for total in sums]


def check_datasums(job: MasterJob, datasums: Sequence[Sequence[int]]) -> None:
    """Compare what was read of every input with its DATASUM card, where it has one.

    Raises
    ------
    FrameError
        If one differs.
    """
    for image, sums in zip(job.images, datasums, strict=True):
        for item, found in zip(image.images, sums, strict=True):
            fits.check_datasum(item.frame, found)


def _folded(total: int) -> int:
    """Return a sum of 32-bit words as FITS wants it: carries are added again at the low end."""
    while total >> 32:
        total = (total & 0xFFFFFFFF) + (total >> 32)
    return total


def named_sums(job: MasterJob, datasums: Sequence[Sequence[int]]) -> list[tuple[str, int]]:
    """Return the image name and DATASUM of every input, those that were left out included."""
    used = [
        (image.name, total)
        for image, totals in zip(job.images, datasums, strict=True)
        for total in totals
    ]
    unused = [
        (image.name, fits.datasum(item.images[index].frame))
        for item in job.left_out
        for index, image in enumerate(job.images)
    ]
    return used + unused


def inputs_table(
    job: MasterJob, totals: Sequence[Totals], datasums: Sequence[Sequence[int]]
) -> Any:
    """Return the table INPUTS: a row an input image, those that were left out at the end.

    Its header says how each image was made, so that `masterframe.explain` can repeat it.
    """
    rows = [
        _input_row(job, image, total, sums, index)
        for image, total, sums in zip(job.images, totals, datasums, strict=True)
        for index in range(len(job.inputs))
    ]
    for item in job.left_out:
        for image, raw in zip(job.images, item.images, strict=True):
            row = _unused_row(item.source, image.name, raw.frame)
            place = job.images.index(image)
            level = item.levels[place] if item.levels else None
            unlike = item.unlike[place] if item.unlike else None
            found = fits.datasum(raw.frame)
            rows.append(replace(row, status=item.reason, datasum=found, level=level, unlike=unlike))
    return tables.inputs_table(
        rows, [_record(image, together=job.together) for image in job.images]
    )


def _record(image: ImageJob, *, together: bool) -> records.ImageRecord:
    """Return how an image was made, in the types that its card holds."""
    calibration, recipe = image.calibration, image.recipe
    rejection = kernels.resolve_rejection(recipe.rejection)
    return records.ImageRecord(
        extension=image.name,
        frames=len(image.images),
        recipe=replace(recipe, rejection=rejection),
        overscan=calibration.overscan,
        trim=calibration.trim,
        amplifiers=calibration.amplifiers,
        bad=calibration.bad,
        overscan_model=calibration.overscan_model,
        bias=_operand(calibration.bias),
        dark=_operand(calibration.dark),
        dark_holds_bias=calibration.dark_holds_bias,
        flat=_operand(calibration.flat),
        bad_pixels=_operand(calibration.bad_pixels),
        normalize=image.normalize,
        together=together,
        hot_sigma=image.hot_sigma,
        uncertainties=bool(image.uncertainties),
        changed=image.changed is not None,
    )


def _operand(master: MasterImage | None) -> records.Operand | None:
    if master is None:
        return None
    return records.Operand(
        path=master.data.path,
        hdu=master.data.hdu,
        datasum=fits.datasum(master.data),
        uncert=master.uncert.hdu if master.uncert else None,
        mask=master.mask.hdu if master.mask else None,
        part=master.part,
    )


def _unused_row(source: Input, extension: str, frame: Frame) -> tables.InputRow:
    return tables.InputRow(
        path=source.path,
        extension=extension,
        hdu=frame.hdu,
        plane=frame.plane,
        size=frame.size,
        mtime_ns=frame.mtime_ns,
        date_obs=source.date_obs,
        exptime=source.exptime,
    )


def _input_row(
    job: MasterJob, image: ImageJob, totals: Totals, datasums: Sequence[int], index: int
) -> tables.InputRow:
    calibration, counts = image.calibration, totals.counts
    kept = int(counts["kept"][index])
    return replace(
        _unused_row(job.inputs[index], image.name, image.images[index].frame),
        datasum=datasums[index],
        dark_ratio=calibration.dark_ratio[index] if calibration.dark_ratio else 1.0,
        level=image.levels[index] if image.levels else None,
        scale=calibration.scale[index] if calibration.scale else 1.0,
        zero=calibration.zero[index] if calibration.zero else 0.0,
        weight=image.weights[index] if image.weights else 1.0,
        kept=kept,
        rejected_low=int(counts["low"][index]),
        rejected_high=int(counts["high"][index]),
        missing=int(counts["missing"][index]),
        noise=float(totals.noise[index]) if kept else None,
        pixelnoise=image.pixel_noises[index][0] if image.pixel_noises else None,
        unlike=image.unlike[index] if image.unlike else None,
        pixelsignal=image.pixel_noises[index][1] if image.pixel_noises else None,
        status=_status(kept, job.flags[index] if job.flags else ""),
    )


def _status(kept: int, flag: str) -> str:
    if not kept:
        return "nothing of it was kept"
    return f"used, but {flag}" if flag else "used"


QUALITY = {
    "median": "median of the good pixels on every 16th row",
    "scatter": "1.4826 MAD of the same: structure and noise",
    "noise": "noise of the result, from its even and odd halves",
    "typical": "noise of a typical pixel, without what its masters bring",
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
        "typical": _typical_noise(planes, image, norm),
        "rejlow": low / valid,
        "rejhigh": high / valid,
        **image.extra,
    }
    known = {**numbers, "norm": norm}
    numbers["expected"] = masters.expected_noise(facts_of_image(image, job, totals), known)
    return numbers


def _typical_noise(planes: finish.MasterPlanes, image: ImageJob, norm: float) -> float:
    """Return the noise of a typical pixel that the frames do not share."""
    uncert, count, shared = [], [], []
    rows = tiling.sample_rows(planes.shape[0])
    for row in rows[:: max(1, len(rows) * planes.shape[1] // masters.NOISE_PIXELS)]:
        good = planes.read("mask", (row, row + 1)) == 0
        uncert.append(planes.read("uncert", (row, row + 1))[good])
        count.append(planes.read("count", (row, row + 1))[good])
        if calibrate.applied(image.calibration):
            data = planes.read("data", (row, row + 1))
            place = row, slice(None)
            variance = calibrate.shared_variance(data, place, image.calibration)[good]
            shared.append(variance / norm**2)
    together = np.concatenate(shared) if shared else np.zeros(1)
    return masters.unshared_noise(np.concatenate(uncert), together, np.concatenate(count))


def facts_of_image(image: ImageJob, job: MasterJob, totals: Totals) -> masters.Facts:
    """Return what the tests of an image need to know of it besides its planes."""
    calibration = image.calibration
    across = 0 if calibration.by_columns else 1
    width = min((section.shape[across] for section in calibration.overscans), default=0)
    return masters.Facts(
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
        masters.tests(facts_of_image(image, job, total), measured, job.limits)
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
