"""Raw FITS files as a camera's software writes them."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from masterframe.model import Section
from masterframe.simulate.exposing import Readout
from masterframe.simulate.mosaic import amplifiers, saturation
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


def write_raw(folder: Path, spec: NightSpec, shot: Shot, readouts: Mapping[str, Readout]) -> None:
    """Write the file of a frame, whole or not at all.

    Parameters
    ----------
    folder : Path
        The night.
    spec : NightSpec
        The whole night.
    shot : Shot
        The frame.
    readouts : mapping
        The image of each CCD by EXTNAME, which is '' for a single one.
    """
    with _appearing(folder / shot.name) as part:
        if shot.defect == "not_fits":
            part.write_text(LOG, encoding="utf-8")
        else:
            _write_images(part, spec, shot, readouts)


def copy_raw(folder: Path, shot: Shot) -> None:
    """Write a frame that is a copy of another."""
    with _appearing(folder / shot.name) as part:
        shutil.copyfile(folder / shot.name.removeprefix("copy_of_"), part)


def raw_bytes(spec: NightSpec) -> int:
    """Return how many bytes a raw file takes, about."""
    ny, nx = spec.camera.raw_shape
    return spec.camera.extensions * (2 * ny * nx + 4 * 2880)


@contextmanager
def _appearing(target: Path) -> Iterator[Path]:
    """Give a path beside the target that takes its name in the end."""
    part = target.with_name(target.name + ".part")
    try:
        yield part
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def _write_images(path: Path, spec: NightSpec, shot: Shot, readouts: Mapping[str, Readout]) -> None:
    rows = spec.camera.shape[0]
    if shot.defect == "wrong_shape":
        rows -= rows // 4
    with path.open("wb") as file:
        if "" not in readouts:
            file.write(_header([*_EMPTY, *_exposure_cards(spec, shot), *_mosaic_cards(spec, shot)]))
        for place, (name, readout) in enumerate(readouts.items()):
            file.write(raw_header(readout.world.spec, shot, rows, name, place))
            first = file.tell()
            for y0 in range(0, rows, CELL_ROWS):
                values = readout.rows(y0, min(y0 + CELL_ROWS, rows))
                # Stored is value - BZERO as a signed number: for 16 bits, the highest bit turned.
                values ^= 0x8000
                file.write(values.astype(">u2").data)
            pad(file)
        if shot.defect == "truncated":
            file.truncate(first + int(KEPT * 2 * rows * spec.camera.raw_shape[1]))


_Cards = Iterator[tuple[str, Any, str]]
_EMPTY = (
    ("SIMPLE", True, "conforms to FITS standard"),
    ("BITPIX", 8, "bits per pixel"),
    ("NAXIS", 0, "number of axes"),
    ("EXTEND", True, "extensions follow"),
)


def raw_header(spec: NightSpec, shot: Shot, rows: int, name: str = "", place: int = 0) -> bytes:
    """Return the header of a raw image of so many rows, in whole FITS blocks.

    Parameters
    ----------
    spec : NightSpec
        The night of its CCD.
    shot : Shot
        The frame.
    rows : int
        Rows that were read.
    name : str
        EXTNAME; '' for the image of the primary HDU.
    place : int
        CCDs to its left.
    """
    cards: list[tuple[str, Any, str]] = [
        ("XTENSION", "IMAGE", "image extension")
        if name
        else ("SIMPLE", True, "conforms to FITS standard"),
        ("BITPIX", 16, "bits per pixel"),
        ("NAXIS", 2, "number of axes"),
        ("NAXIS1", spec.camera.raw_shape[1], "columns"),
        ("NAXIS2", rows, "rows"),
        *(_extension_cards(name) if name else ()),
        ("BSCALE", 1, "adu = BZERO + BSCALE * stored"),
        ("BZERO", 32768, "offset of unsigned 16 bit numbers"),
    ]
    if not name:
        cards += [*_exposure_cards(spec, shot), *_camera_cards(spec, shot)]
    cards += _detector_cards(spec, rows)
    if name:
        cards += _place_cards(spec, rows, place)
    if shot.kind == "science":
        cards += _sky_cards(spec, shot, place)
    return _header(cards)


def _header(cards: Iterable[tuple[str, Any, str]]) -> bytes:
    from astropy.io import fits

    header = fits.Header()
    for card in cards:
        header.append(card)
    return bytes(header.tostring().encode("ascii"))


def _extension_cards(name: str) -> _Cards:
    yield "PCOUNT", 0, "no parameters"
    yield "GCOUNT", 1, "one group"
    yield "EXTNAME", name, "name of the CCD"
    yield "INHERIT", True, "the cards of the primary HDU hold here, too"


def _mosaic_cards(spec: NightSpec, shot: Shot) -> _Cards:
    """Yield the cards of the primary HDU of a mosaic that are about its camera."""
    (rows, columns), count = spec.camera.shape, spec.camera.extensions
    yield from _camera_cards(spec, shot)
    yield "NEXTEND", count, "extensions"
    yield "DETSIZE", Section(0, rows, 0, count * columns).to_fits(), "pixels of all CCDs"


def _exposure_cards(spec: NightSpec, shot: Shot) -> _Cards:
    if shot.defect != "no_imagetyp":
        yield "IMAGETYP", IMAGETYP.get(shot.kind, "Light Frame"), "type of image"
    if shot.kind in ("flat", "science"):
        yield "OBJECT", spec.target if shot.kind == "science" else spec.flat_light, "target"
        yield "FILTER", shot.filter_card, "filter in the beam"
    yield "EXPTIME", shot.exptime, "[s] exposure time"
    yield "DATE-OBS", shot.date_obs, "UTC start of the exposure"
    yield "TIMESYS", "UTC", "time system"


def _camera_cards(spec: NightSpec, shot: Shot) -> _Cards:
    camera = spec.camera
    jitter = stream(spec.seed, Purpose.SCHEDULE, shot.index, 0).normal(0, 0.03)
    yield "INSTRUME", camera.name, "camera"
    yield "TELESCOP", "Simulated 1.0 m", "telescope"
    yield "SET-TEMP", camera.temperature, "[deg C] set point of the detector"
    yield "CCD-TEMP", round(camera.temperature + jitter, 2), "[deg C] temperature of the detector"
    yield "XBINNING", 1, "detector pixels per image pixel"
    yield "YBINNING", 1, "detector pixels per image pixel"


def _detector_cards(spec: NightSpec, rows: int) -> _Cards:
    """Yield the numbers of a CCD; of several amplifiers each, with A, B, ... behind its cards."""
    found = amplifiers(spec)
    endings = [""] if len(found) == 1 else [chr(ord("A") + index) for index in range(len(found))]
    for ending, amplifier in zip(endings, found, strict=True):
        yield f"GAIN{ending}", amplifier.gain, "[e-/adu] electrons per adu"
        if not ending:
            yield "EGAIN", amplifier.gain, "[e-/adu] electrons per adu"
        yield f"RDNOISE{ending}", amplifier.read_noise, "[e-] noise of one read"
    yield "SATURATE", saturation(spec), "[adu] saturated from here on"
    for ending, amplifier in zip(endings, found, strict=True):
        if spec.camera.overscan:
            overscan = replace(amplifier.overscan, y1=rows)
            yield f"BIASSEC{ending}", overscan.to_fits(), "overscan"
        if ending:
            data = replace(amplifier.data, y1=rows).to_fits()
            yield f"TRIMSEC{ending}", data, "pixels of it that see light"
            yield f"DATASEC{ending}", data, "pixels of it that see light"
    data = Section(0, rows, 0, spec.camera.shape[1]).to_fits()
    if spec.camera.overscan:
        yield "TRIMSEC", data, "pixels that see light"
    yield "DATASEC", data, "pixels that see light"


def _place_cards(spec: NightSpec, rows: int, place: int) -> _Cards:
    """Yield where the pixels of a CCD lie on it, and on the mosaic with so many to its left."""
    columns = spec.camera.shape[1]
    whole = Section(0, rows, 0, columns)
    yield "CCDSEC", whole.to_fits(), "pixels of the CCD"
    left = place * columns
    yield "DETSEC", Section(0, rows, left, left + columns).to_fits(), "pixels of the mosaic"
    found = amplifiers(spec)
    for index, amplifier in enumerate(found if len(found) > 1 else ()):
        ending, data = chr(ord("A") + index), replace(amplifier.data, y1=rows)
        yield f"CCDSEC{ending}", data.to_fits(), "pixels of the CCD"
        moved = replace(data, x0=left + data.x0, x1=left + data.x1)
        yield f"DETSEC{ending}", moved.to_fits(), "pixels of the mosaic"


def _sky_cards(spec: NightSpec, shot: Shot, place: int) -> _Cards:
    ny, nx = spec.camera.shape
    yield "RADESYS", "ICRS", "frame of the coordinates"
    yield "CTYPE1", "RA---TAN", "projection"
    yield "CTYPE2", "DEC--TAN", "projection"
    yield "CRVAL1", 295.33, "[deg] right ascension of the reference pixel"
    yield "CRVAL2", 40.19, "[deg] declination of the reference pixel"
    yield "CRPIX1", round(nx / 2 + 0.5 + shot.dither[1] - place * nx, 3), "reference pixel, column"
    yield "CRPIX2", round(ny / 2 + 0.5 + shot.dither[0], 3), "reference pixel, row"
    yield "CDELT1", -PIXEL_SCALE, "[deg] per pixel"
    yield "CDELT2", PIXEL_SCALE, "[deg] per pixel"
