"""Raw FITS files as a camera's software writes them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from masterframe.model import Section
from masterframe.simulate.exposing import Readout
from masterframe.simulate.planes import pad
from masterframe.simulate.schedule import Shot
from masterframe.simulate.spec import NightSpec
from masterframe.simulate.streams import CELL_ROWS, Purpose, stream

IMAGETYP = {"bias": "Bias Frame", "dark": "Dark Frame", "flat": "Flat Field"}
PIXEL_SCALE = 0.5 / 3600
"""Degrees per pixel."""
KEPT = 0.4
"""Fraction of the pixels that a truncated file holds."""
LOG = "18:00 dome open, seeing 1.5 arcsec\n18:40 sky flats\n20:10 clouds from the west\n"


def write_raw(folder: Path, readout: Readout) -> None:
    """Write the file of a frame, whole or not at all."""
    shot = readout.shot
    with _appearing(folder / shot.name) as part:
        if shot.defect == "not_fits":
            part.write_text(LOG, encoding="utf-8")
        else:
            _write_image(part, readout)


def copy_raw(folder: Path, shot: Shot) -> None:
    """Write a frame that is a copy of another."""
    with _appearing(folder / shot.name) as part:
        shutil.copyfile(folder / shot.name.removeprefix("copy_of_"), part)


def raw_bytes(spec: NightSpec) -> int:
    """Return how many bytes a raw file takes, about."""
    ny, nx = spec.camera.raw_shape
    return 2 * ny * nx + 4 * 2880


@contextmanager
def _appearing(target: Path) -> Iterator[Path]:
    """Give a path beside the target that takes its name in the end."""
    part = target.with_name(target.name + ".part")
    try:
        yield part
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def _write_image(path: Path, readout: Readout) -> None:
    spec, shot = readout.world.spec, readout.shot
    rows = spec.camera.shape[0]
    if shot.defect == "wrong_shape":
        rows -= rows // 4
    header = raw_header(spec, shot, rows)
    with path.open("wb") as file:
        file.write(header)
        for y0 in range(0, rows, CELL_ROWS):
            values = readout.rows(y0, min(y0 + CELL_ROWS, rows))
            # Stored is value - BZERO as a signed number: for 16 bits, the highest bit turned over.
            values ^= 0x8000
            file.write(values.astype(">u2").data)
        pad(file)
        if shot.defect == "truncated":
            file.truncate(len(header) + int(KEPT * 2 * rows * spec.camera.raw_shape[1]))


def raw_header(spec: NightSpec, shot: Shot, rows: int) -> bytes:
    """Return the header of a raw file of so many rows, in whole FITS blocks."""
    from astropy.io import fits

    camera = spec.camera
    header = fits.Header()
    cards: list[tuple[str, Any, str]] = [
        ("SIMPLE", True, "conforms to FITS standard"),
        ("BITPIX", 16, "bits per pixel"),
        ("NAXIS", 2, "number of axes"),
        ("NAXIS1", camera.raw_shape[1], "columns"),
        ("NAXIS2", rows, "rows"),
        ("BSCALE", 1, "adu = BZERO + BSCALE * stored"),
        ("BZERO", 32768, "offset of unsigned 16 bit numbers"),
        *_exposure_cards(spec, shot),
        *_camera_cards(spec, shot, rows),
        *(_sky_cards(spec, shot) if shot.kind == "science" else ()),
    ]
    for card in cards:
        header.append(card)
    return bytes(header.tostring().encode("ascii"))


def _exposure_cards(spec: NightSpec, shot: Shot) -> Iterator[tuple[str, Any, str]]:
    if shot.defect != "no_imagetyp":
        yield "IMAGETYP", IMAGETYP.get(shot.kind, "Light Frame"), "type of image"
    if shot.kind in ("flat", "science"):
        yield "OBJECT", spec.target if shot.kind == "science" else spec.flat_light, "target"
        yield "FILTER", shot.filter_card, "filter in the beam"
    yield "EXPTIME", shot.exptime, "[s] exposure time"
    yield "DATE-OBS", shot.date_obs, "UTC start of the exposure"
    yield "TIMESYS", "UTC", "time system"


def _camera_cards(spec: NightSpec, shot: Shot, rows: int) -> Iterator[tuple[str, Any, str]]:
    camera = spec.camera
    columns = camera.shape[1]
    jitter = stream(spec.seed, Purpose.SCHEDULE, shot.index, 0).normal(0, 0.03)
    yield "INSTRUME", camera.name, "camera"
    yield "TELESCOP", "Simulated 1.0 m", "telescope"
    yield "SET-TEMP", camera.temperature, "[deg C] set point of the detector"
    yield "CCD-TEMP", round(camera.temperature + jitter, 2), "[deg C] temperature of the detector"
    yield "XBINNING", 1, "detector pixels per image pixel"
    yield "YBINNING", 1, "detector pixels per image pixel"
    yield "GAIN", camera.gain, "[e-/adu] electrons per adu"
    yield "EGAIN", camera.gain, "[e-/adu] electrons per adu"
    yield "RDNOISE", camera.read_noise, "[e-] noise of one read"
    yield "SATURATE", camera.saturation, "[adu] saturated from here on"
    data = Section(0, rows, 0, columns).to_fits()
    if camera.overscan:
        overscan = Section(0, rows, columns, columns + camera.overscan)
        yield "BIASSEC", overscan.to_fits(), "overscan"
        yield "TRIMSEC", data, "pixels that see light"
    yield "DATASEC", data, "pixels that see light"


def _sky_cards(spec: NightSpec, shot: Shot) -> Iterator[tuple[str, Any, str]]:
    ny, nx = spec.camera.shape
    yield "RADESYS", "ICRS", "frame of the coordinates"
    yield "CTYPE1", "RA---TAN", "projection"
    yield "CTYPE2", "DEC--TAN", "projection"
    yield "CRVAL1", 295.33, "[deg] right ascension of the reference pixel"
    yield "CRVAL2", 40.19, "[deg] declination of the reference pixel"
    yield "CRPIX1", round(nx / 2 + 0.5 + shot.dither[1], 3), "reference pixel, column"
    yield "CRPIX2", round(ny / 2 + 0.5 + shot.dither[0], 3), "reference pixel, row"
    yield "CDELT1", -PIXEL_SCALE, "[deg] per pixel"
    yield "CDELT2", PIXEL_SCALE, "[deg] per pixel"
