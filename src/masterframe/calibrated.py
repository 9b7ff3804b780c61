"""One calibrated frame: read, calibrated and written band by band where the task runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from masterframe import __version__, calibrate, fits, journal, offsets
from masterframe.assembly import Assembly, Piece
from masterframe.fits import headers, legal, masters, mosaics, tables, write
from masterframe.fits.cards import Card
from masterframe.fits.stamps import Stamp
from masterframe.masterrows import MasterRows
from masterframe.model import Calibration, Image, MaskBit, Noise, Recipe, Section
from masterframe.readout import trim_columns
from masterframe.variance import flat_and_signal, shared_variance

BAND_BYTES = 1 << 19
"""Bytes of one plane, in float64, that are in memory at a time: some ten of them are. Arrays of
1 MiB are pages that the system gives anew and clears, which takes as long again as all else."""


@dataclass(frozen=True)
class CalibratedImage:
    """One image of a frame, and what is taken from it."""

    name: str
    """EXTNAME in the output; '' where it is the only one."""
    image: Image
    """The raw image."""
    calibration: Calibration
    """What is taken off and applied."""
    recipe: Recipe
    """Its dtype and saturation; gain and read noise of its noise give UNCERT."""

    @property
    def planes(self) -> tuple[str, ...]:
        """Planes of the output: UNCERT where gain and read noise are known."""
        noise = self.recipe.noise
        known = noise.gain and noise.read_noise is not None
        return ("data", "uncert", "mask") if known else ("data", "mask")


@dataclass(frozen=True)
class CalibratedJob:
    """One file of calibrated images to be written."""

    path: Path
    """Where it goes."""
    images: tuple[CalibratedImage, ...]
    """Its images."""
    input: tables.InputRow
    """The raw file, for the INPUTS table."""
    token: Callable[[Sequence[tuple[str, int]]], str]
    """Makes the product's token from the name and DATASUM of every image."""
    masters: tuple[tuple[str, str], ...]
    """Role and name of each master that is applied, for the header."""
    assembly: Assembly | None = None
    """How the images become one; None: they stay apart."""
    overwrite: bool = False
    """Replace a file that is there."""
    verify: bool = True
    """Fail where the DATASUM of the raw file does not fit what was read."""


@dataclass(frozen=True)
class Written:
    """A calibrated frame that was written."""

    seconds: float
    """Wall time (s)."""
    stamp: Stamp
    """Its file."""


def write_calibrated(job: CalibratedJob) -> Written:
    """Calibrate a frame and publish it whole; the function of every ``mf-calibrate`` task.

    Returns
    -------
    Written
        What was written.

    Raises
    ------
    FrameError
        If the raw file or a master cannot be read or has changed.
    StorageError
        If the output cannot be written; nothing is left behind then.
    """
    began = time.monotonic()
    journal.make_folder(job.path.parent)
    sums = [(image.name, fits.datasum(image.image.frame)) for image in job.images]
    if job.verify:
        for image, (_, total) in zip(job.images, sums, strict=True):
            fits.check_datasum(image.image.frame, total)
    specs = _specs(job, job.token(sums))
    with write.ImageFile.create(job.path, specs, overwrite=job.overwrite) as file:
        images = [with_overscan(image) for image in job.images]
        if job.assembly:
            _write_assembled(file, images, job.assembly)
        else:
            for image in images:
                _write_image(file, image)
        rows = [replace(job.input, extension=name, datasum=total) for name, total in sums]
        stamp = file.publish([tables.inputs_table(rows)])
    return Written(time.monotonic() - began, stamp)


def with_overscan(image: CalibratedImage) -> CalibratedImage:
    """Return an image that knows what its overscan tells of all rows."""
    known = offsets.with_overscan(image.calibration, [image.image.frame])
    return replace(image, calibration=known)


def _write_image(file: write.ImageFile, image: CalibratedImage) -> None:
    names = masters.hdu_names(image.name, image.planes)
    height = image.image.shape[0]
    first = image.calibration.trim.y0 if image.calibration.trim else 0
    step = band_rows(image)
    y1 = 0
    while y1 < height:
        y0, y1 = y1, min(((first + y1) // step + 1) * step - first, height)
        raw = fits.read_stack([image.image.frame], first + y0, first + y1)
        for plane, values in calibrated_planes(raw, y0, image).items():
            file.write_rows(names[plane], y0, values)


def _write_assembled(
    file: write.ImageFile, images: Sequence[CalibratedImage], assembly: Assembly
) -> None:
    """Write bands of one image, each of what lies in it of the pieces; the rest is not covered."""
    planes = _common_planes(images)
    names = masters.hdu_names("", planes)
    height, width = assembly.shape
    rows = max(1, BAND_BYTES // (2 * width))
    dtype = np.dtype(images[0].recipe.dtype)
    for y0 in range(0, height, rows):
        band = Section(y0, min(y0 + rows, height), 0, width)
        made = {
            plane: np.full(band.shape, MaskBit.NOT_COVERED, np.uint8)
            if plane == "mask"
            else np.full(band.shape, np.nan, dtype)
            for plane in planes
        }
        for piece in assembly.pieces:
            inside = piece.target.within(band)
            if 0 not in inside.shape:
                place = np.s_[inside.y0 : inside.y1, inside.x0 : inside.x1]
                found = _rows_of_piece(images[piece.image], piece, inside.of(band))
                for plane in planes:
                    made[plane][place] = found[plane]
        for plane in planes:
            file.write_rows(names[plane], y0, made[plane])


def _rows_of_piece(
    image: CalibratedImage, piece: Piece, wanted: Section
) -> dict[str, NDArray[Any]]:
    """Return the planes of some rows of a piece as they lie in the assembled image."""
    backwards, mirrored = piece.flips
    skipped = piece.target.y1 - wanted.y1 if backwards else wanted.y0 - piece.target.y0
    y0 = piece.source.y0 + skipped
    first = y0 + (image.calibration.trim.y0 if image.calibration.trim else 0)
    raw = fits.read_stack([image.image.frame], first, first + wanted.shape[0])
    columns = slice(piece.source.x0, piece.source.x1)
    return {
        plane: values[:, columns][:: -1 if backwards else 1, :: -1 if mirrored else 1]
        for plane, values in calibrated_planes(raw, y0, image).items()
    }


def _common_planes(images: Sequence[CalibratedImage]) -> tuple[str, ...]:
    """Return the planes that all images have."""
    first, *others = (image.planes for image in images)
    return tuple(plane for plane in first if all(plane in planes for planes in others))


def band_rows(image: CalibratedImage) -> int:
    """Return how many rows are in memory at a time: whole tiles, where these are not too tall."""
    rows = max(1, BAND_BYTES // (8 * image.image.shape[1]))
    tile_rows = image.image.frame.tile_rows
    return rows // tile_rows * tile_rows or rows


def calibrated_planes(
    raw: NDArray[Any], row0: int, image: CalibratedImage
) -> dict[str, NDArray[Any]]:
    """Return the planes of some rows of a calibrated frame.

    Saturated and bad pixels keep their value and are marked in the mask. The variance is that of
    the counted electrons and of the read, ``(g max(d, 0) + rn^2) / g^2`` for d adu above bias, over
    the flat's square, plus that of the masters.

    Parameters
    ----------
    raw : array (1, rows, raw columns)
        Raw values, full width.
    row0 : int
        First row in the trimmed image.
    image : CalibratedImage
        What is taken off and applied.

    Returns
    -------
    dict
        Arrays (rows, columns) by plane: data and uncert (recipe.dtype), mask (uint8, `MaskBit`).
    """
    dtype = np.dtype(image.recipe.dtype)
    masters = MasterRows(image.calibration, range(row0, row0 + raw.shape[1]))
    keeping = replace(image.recipe, saturation=None)
    data = calibrate.apply_masters(raw, masters.keeping_bad(), keeping)[0]
    planes = {"data": data, "mask": _mask(raw, data, masters, image.recipe)}
    if "uncert" in image.planes:
        flat, signal = flat_and_signal(data, masters)
        squared = np.empty(data.shape)
        for part, noise in _noise_of(image, row0, data.shape):
            gain, read_noise = np.float64(noise.gain or 1.0), np.float64(noise.read_noise or 0.0)
            counted = gain * np.maximum(signal[part], 0) + read_noise**2
            squared[part] = counted / (gain * flat[part]) ** 2
        squared += shared_variance(data, calibrate.ALL, masters)
        planes["uncert"] = np.sqrt(squared).astype(dtype)
    return planes


def _noise_of(
    image: CalibratedImage, row0: int, shape: tuple[int, int]
) -> list[tuple[tuple[slice, slice], Noise]]:
    """Return gain and read noise of some rows, of the part of each amplifier where they differ."""
    calibration, noise = image.calibration, image.recipe.noise
    rows = range(row0, row0 + shape[0])
    return [
        ((part, columns), own)
        for columns in calibrate.strips_of(calibration, calibrate.ALL)
        for part, own in calibrate.noise_parts(calibration, columns, rows, noise)
    ]


def _mask(
    raw: NDArray[Any], data: NDArray[Any], masters: MasterRows, recipe: Recipe
) -> NDArray[np.uint8]:
    mask = masters.mask()
    if not mask.size:
        mask = np.zeros(data.shape, np.uint8)
    mask[~np.isfinite(data)] |= np.uint8(MaskBit.NO_VALUE)
    if recipe.saturation is not None:
        full = trim_columns(raw, masters.calibration)[0] >= recipe.saturation
        mask[full] |= np.uint8(MaskBit.SATURATED)
    bad = masters.bad()
    if bad.size:
        mask[bad] |= np.uint8(MaskBit.BAD)
    return mask


def _specs(job: CalibratedJob, token: str) -> list[write.PlaneSpec]:
    """Lay out the file, with all cards."""
    first = job.images[0].image
    common = headers.calibrated_header(
        fits.read_whole_header(first.frame)
        if len(job.images) == 1
        else fits.read_header(first.frame.path, 0),
        first,
        first.unit,
    )
    if job.assembly:
        specs = _assembled_specs(job, common, job.assembly)
    elif len(job.images) == 1:
        specs = _image_specs(job.images[0], common)
    else:
        specs = [write.PlaneSpec("", "uint8", (), common)]
        for image in job.images:
            raw = image.image
            own = fits.read_header(raw.frame.path, raw.frame.hdu)
            specs += _image_specs(image, headers.calibrated_header(own, raw, raw.unit))
    header = legal.with_cards(specs[0].header, _cards(job, token))
    return [replace(specs[0], header=header), *specs[1:]]


def _image_specs(image: CalibratedImage, header: Sequence[Card]) -> list[write.PlaneSpec]:
    """Lay out the planes of one image."""
    frame, unit = image.image.frame, image.image.unit
    names = masters.hdu_names(image.name, image.planes)
    labels = masters.hdu_labels(image.name, image.planes, frame)
    return [
        write.PlaneSpec(
            names[plane],
            _stored_as(plane, image),
            image.calibration.kept_shape(frame.shape),
            header if plane == "data" else headers.plane_header(plane, unit),
            labels[plane],
        )
        for plane in image.planes
    ]


def _assembled_specs(
    job: CalibratedJob, common: Sequence[Card], assembly: Assembly
) -> list[write.PlaneSpec]:
    """Lay out the planes of one image made of several."""
    frames = [job.images[piece.image].image.frame for piece in assembly.pieces]
    raw = [fits.read_header(frame.path, frame.hdu) for frame in frames]
    wcs = mosaics.mosaic_wcs(raw, assembly.pieces)
    header = headers.assembled_header(common, wcs, assembly.detector)
    planes = _common_planes(job.images)
    names, first = masters.hdu_names("", planes), job.images[0]
    return [
        write.PlaneSpec(
            names[plane],
            _stored_as(plane, first),
            assembly.shape,
            header if plane == "data" else headers.plane_header(plane, first.image.unit),
        )
        for plane in planes
    ]


def _stored_as(plane: str, image: CalibratedImage) -> str:
    return "uint8" if plane == "mask" else image.recipe.dtype


def _cards(job: CalibratedJob, token: str) -> dict[str, Any]:
    steps = dict(job.masters)
    uncertain = "uncert" in job.images[0].planes
    return {
        "MFKIND": ("calibrated", "kind of product"),
        **{f"MF{role.upper()}": (name, f"{role} that was applied") for role, name in steps.items()},
        "BIASSUB": ("bias" in steps or "dark" in steps, "a bias was taken off"),
        "UNCTYPE": ("propagated" if uncertain else "none", "what UNCERT holds"),
        "DATE": (datetime.now(UTC).isoformat(timespec="seconds")[:19], "when it was made (UTC)"),
        "MFVERS": (__version__, "version of masterframe"),
        "MFTOKEN": (token, "names recipe, masters and inputs"),
    }
