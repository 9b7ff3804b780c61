"""How the images of an exposure lie on the detector: the pieces of one image, by their sections.

``DETSEC`` (else ``CCDSEC``) of an image, or of each amplifier of it (``DETSECA``), says which
pixels of the detector its ``DATASEC`` holds, in pixels that are not binned. Where it runs
backwards, as in ``[2048:1025,1:4096]``, the piece is turned over.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import NamedTuple

from masterframe.errors import FrameError
from masterframe.matching import text
from masterframe.model import Image, Section
from masterframe.readout import places

_KEYS = ("DETSEC", "CCDSEC")
_BOUNDS = re.compile(r"\[\s*(\d+)\s*:\s*(\d+)\s*,\s*(\d+)\s*:\s*(\d+)\s*\]")
_ENDING = re.compile("(?:DATA|TRIM)SEC([A-Z]|[1-9][0-9]?)")
SPREAD = 8
"""Pixels of the assembled image for each of a piece, at most: beyond, the sections are nonsense."""


class Piece(NamedTuple):
    """A part of an image that goes to one place."""

    image: int
    """Which of the images."""
    source: Section
    """Its pixels in the image after trimming."""
    raw: Section
    """The same in the raw image."""
    target: Section
    """Where they go in the assembled image."""
    flips: tuple[bool, bool]
    """Whether rows, and columns, run backwards there."""
    binning: tuple[int, int]
    """Rows and columns of the detector in one of the image."""
    phase: tuple[int, int]
    """Rows and columns of the detector before its first one, beyond whole binned ones."""


class Assembly(NamedTuple):
    """One image of several."""

    shape: tuple[int, int]
    """Rows and columns."""
    pieces: tuple[Piece, ...]
    """What it is made of; pixels of no piece are not covered."""
    detector: Section
    """Its place on the detector, in pixels that are binned as the images are."""


class _Axis(NamedTuple):
    """Pixels along one axis of the detector."""

    pixels: tuple[int, int]
    """First one, and that after the last, binned."""
    backwards: bool
    """Whether the image runs from the last to the first."""
    binning: int
    """Pixels of the detector in one of the image."""
    phase: int
    """Pixels of the detector before the first one, beyond whole binned ones."""


class _Place(NamedTuple):
    """Pixels of an image with the words of its header that tell where they belong."""

    image: int
    source: Section
    raw: Section
    name: str
    ending: str


def assemble(images: Sequence[Image]) -> Assembly | None:
    """Return how images of one exposure become one; None for a single one of a single amplifier.

    Parameters
    ----------
    images : sequence of Image
        All images of the exposure.

    Raises
    ------
    FrameError
        If their headers lack sections, or these do not fit together; it names the image.
    """
    if len(images) == 1 and not images[0].amplifiers:
        return None
    return _assembled(images)


def place_of(image: Image, binning: tuple[int, int]) -> Piece | None:
    """Return where the kept pixels of an image lie on the detector, in pixels binned as they are.

    None where its header does not tell, tells of another binning (y, x) than this, or where they
    lie there in another order than in the image: parts of amplifiers that are turned over or apart.
    """
    try:
        whole = _assembled([image])
    except FrameError:
        return None
    first, *others = whole.pieces
    moved = any(one.flips != (False, False) or one.target != one.source for one in whole.pieces)
    if (others and moved) or any(one.binning != binning for one in whole.pieces):
        return None
    source = Section(0, whole.shape[0], 0, whole.shape[1])
    return first._replace(source=source, target=whole.detector)


def _assembled(images: Sequence[Image]) -> Assembly:
    found = [place for number, image in enumerate(images) for place in _places(number, image)]
    key = _key(images, found)
    pieces = [_piece(images[place.image], place, key) for place in found]
    path = images[0].frame.path
    for (one, first), (other, second) in combinations(zip(found, pieces, strict=True), 2):
        if 0 not in first.target.within(second.target).shape:
            raise FrameError(
                path,
                f"{one.name} and {other.name} overlap on the detector, by their {key}: they cannot "
                "be assembled",
            )
    targets = [piece.target for piece in pieces]
    whole = Section.spanning(targets)
    rows, columns = whole.shape
    if rows * columns > SPREAD * sum(one.shape[0] * one.shape[1] for one in targets):
        raise FrameError(
            path, f"its {key} are spread over {columns} x {rows} pixels: they cannot be assembled"
        )
    moved = (piece._replace(target=piece.target.within(whole)) for piece in pieces)
    return Assembly(whole.shape, tuple(moved), whole)


def _places(number: int, image: Image) -> Iterator[_Place]:
    """Yield the parts of an image that may lie apart: those of amplifiers with sections."""
    name = image.frame.name or f"HDU {image.frame.hdu}"
    kept = places(image.amplifiers)
    endings = {section: ending for ending, section in _data_sections(image)} if kept else {}
    if kept and all(section in endings for section in kept):
        for raw, source in kept.items():
            ending = endings[raw]
            yield _Place(number, source, raw, f"{name} amplifier {ending}", ending)
        return
    rows, columns = image.shape
    raw = image.trim or Section(0, rows, 0, columns)
    if raw.shape != image.shape:
        raise FrameError(
            image.frame.path,
            f"{name} has amplifiers apart, and no DATASEC and DETSEC for each: they cannot be "
            "assembled",
        )
    yield _Place(number, Section(0, rows, 0, columns), raw, name, "")


def _data_sections(image: Image) -> Iterator[tuple[str, Section]]:
    """Yield the endings of amplifiers in a header, and their data."""
    for key, value in image.header.items():
        found, section = _ENDING.fullmatch(key), Section.from_fits(text(value))
        if found and section:
            yield found[1], section


def _key(images: Sequence[Image], found: Sequence[_Place]) -> str:
    """Return the keyword that all parts have.

    Raises
    ------
    FrameError
        If there is none.
    """
    lacking = [
        next((one for one in found if not _words(images[one.image], key, one.ending)), None)
        for key in _KEYS
    ]
    if None not in lacking:
        (first, *_) = (one for one in lacking if one)
        raise FrameError(
            images[0].frame.path,
            f"{first.name} has no {_KEYS[0]}{first.ending} that is a section: its images cannot be "
            "assembled (set recipes.science.assemble to false)",
        )
    return _KEYS[lacking.index(None)]


def _words(image: Image, key: str, ending: str) -> re.Match[str] | None:
    return _BOUNDS.fullmatch(text(image.header.get(f"{key}{ending}")).strip())


def _piece(image: Image, place: _Place, key: str) -> Piece:
    """Return where a part of an image lies on the detector."""
    told, raw = _words(image, key, place.ending), place.raw
    assert told  # noqa: S101  the keyword was chosen so
    data = Section.from_fits(text(image.header.get(f"DATASEC{place.ending}"))) or raw
    x0, x1, y0, y1 = (int(bound) for bound in told.groups())
    try:
        rows = _axis((y0, y1), (data.y0, data.y1), (raw.y0, raw.y1))
        columns = _axis((x0, x1), (data.x0, data.x1), (raw.x0, raw.x1))
    except ValueError as error:
        raise FrameError(
            image.frame.path,
            f"{place.name}: {key}{place.ending} {told[0]} does not fit its data {data.to_fits()}: "
            f"{error}",
        ) from None
    target = Section(*rows.pixels, *columns.pixels)
    flips, binning = (rows.backwards, columns.backwards), (rows.binning, columns.binning)
    return Piece(
        place.image, place.source, raw, target, flips, binning, (rows.phase, columns.phase)
    )


def _axis(detector: tuple[int, int], data: tuple[int, int], kept: tuple[int, int]) -> _Axis:
    """Return where pixels lie along one axis of the detector.

    `detector` counts from 1, both ends in; `data` and `kept` are 0-based and half-open.
    """
    first, last = min(detector), max(detector)
    length, size = data[1] - data[0], kept[1] - kept[0]
    binning, rest = divmod(last - first + 1, length)
    if rest or not binning:
        raise ValueError(f"{last - first + 1} pixels are no multiple of {length}")
    if kept[0] < data[0] or kept[1] > data[1]:
        raise ValueError("more than these are kept")
    backwards = detector[0] > detector[1]
    skipped = data[1] - kept[1] if backwards else kept[0] - data[0]
    start, phase = divmod(first - 1, binning)
    return _Axis((start + skipped, start + skipped + size), backwards, binning, phase)
