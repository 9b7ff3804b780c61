"""Header scan: what images a file holds and where, found without reading a pixel."""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from masterframe.errors import FrameError
from masterframe.fits.cards import image_keyword, read_comments, read_history
from masterframe.fits.checksums import ALL_ONES
from masterframe.fits.layout import (
    RawHdu,
    UnfitError,
    axes_of,
    believable,
    bitpix_of,
    named,
    padded,
    stored_sum,
    walk,
)
from masterframe.fits.source import Source, open_source, patiently
from masterframe.fits.stamps import Stamp, stamp_of
from masterframe.fits.tiles import describe
from masterframe.model import Frame, Header, Packing, Problem, Scalar, Scaling, Verify

NO_PIXELS = "no pixels in it: NAXIS = 0 in every HDU"
"""What is wrong with a file of which every HDU is empty."""

_MAX_AXIS = 1 << 20
"""Pixels of the longest axis that is believed."""
_MAX_PLANES = 1 << 16
"""Planes of the longest cube that is believed."""
_MAX_TILE_GAIN = 2000
"""Times that tile compression is believed to shrink pixels (gzip: 1032), ..."""
_FREE_TILES = 64 << 20
"""... and bytes that are believed anyway, since a constant image shrinks to nothing."""

_INTEGERS = {8: "uint8", 16: "int16", 32: "int32", 64: "int64"}
_OFFSET_INTEGERS = {
    8: (-128, "int8"),
    16: (1 << 15, "uint16"),
    32: (1 << 31, "uint32"),
    64: (1 << 63, "uint64"),
}
"""BZERO that makes integers of the other sign, and their type, where BSCALE is 1, by BITPIX (FITS
standard 4.0, table 11)."""
_FLOATS = {-32: "float32", -64: "float64"}

_COMMENTED = {
    *("GAIN", "EXPTIME", "EXPOSURE", "ITIME", "EXP_TIME", "EXPTIM"),
    *("RDNOISE", "READNOIS", "RON", "ENOISE"),
    *(
        f"{key}{ending}"
        for key in ("GAIN", "GTGAIN", "RDNOISE", "READNOI", "RON", "GTRON")
        for ending in (*"ABCD1234", "11", "12", "21", "22")
    ),
}
"""Cards whose unit only their comment tells."""

_NOT_TIME = re.compile(
    r"(WAVE|AWAV|FREQ|ENER|WAVN|V(RAD|OPT|ELO)|ZOPT|BETA|FELO|STOKES|CUBEFACE|RGB|COLOU?R|LAMBDA)\b.*",
    re.IGNORECASE,
)
"""CTYPE of a third axis along which the planes are no exposures of the same (FITS standard 4.0,
tables 22 and 25; RGB is what camera software writes)."""
_USABLE = re.compile(
    r"(?![ ])[ -&(-+\--~]{1,48}(?<! )(_(UNCERT|MASK|COUNT|REJLOW|REJHIGH|EXPOSURE|PROPERR))?"
)
"""EXTNAMEs that a master can take up, and those of its planes: ASCII without comma and quote, short
enough for one card."""
_TAKEN = {"PRIMARY", "QUALITY", "INPUTS"}
"""Names that a master has for other HDUs."""


@dataclass(frozen=True, slots=True)
class HduScan:
    """One HDU of a scanned file."""

    index: int
    """Its index, 0 for the primary."""
    extname: str
    """EXTNAME, '' where it has none."""
    header: Header
    """Its own cards; of a tile-compressed image those of the image, not of the table it is in."""
    frames: tuple[Frame, ...]
    """Its image, or the planes of its cube; none where it has none that can be used."""
    reason: str
    """Why there is no single image; '' where there is one, or where it is empty on purpose."""
    comments: Mapping[str, str] = field(default_factory=dict)
    """Comments of the cards that are written in several units, by keyword."""
    history: str = ""
    """Its HISTORY, a line a card."""

    @property
    def frame(self) -> Frame | None:
        """Its image; None where it has none, or a cube of several."""
        return self.frames[0] if len(self.frames) == 1 else None


@dataclass(frozen=True, slots=True)
class FileScan:
    """A file whose headers have been read."""

    path: str
    """Absolute path."""
    stamp: Stamp
    """Size, times and number of the file when it was opened."""
    device: int
    """Device that holds the file; with the number of the stamp it tells links to one file."""
    hdus: tuple[HduScan, ...]
    """All HDUs in the order of the file."""


def scan_file(path: str | os.PathLike[str], verify: Verify = "auto") -> FileScan:
    """Read the headers of a file that holds pixels, and check what they claim.

    Parameters
    ----------
    path : path
        The file.
    verify : str
        ``always`` reads all of the file, and verifies DATASUM and CHECKSUM of every HDU that has
        them; ``never`` none.

    Returns
    -------
    FileScan
        Its HDUs; every `Frame` in it lies within the file.

    Raises
    ------
    FrameError
        As `scan_headers`, and if it has no data at all.
    """
    scan = scan_headers(path, verify)
    if not any(hdu.frames or hdu.reason for hdu in scan.hdus):
        raise FrameError(scan.path, NO_PIXELS)
    return scan


def scan_headers(path: str | os.PathLike[str], verify: Verify = "auto") -> FileScan:
    """Read the headers of a file, with pixels or without, and check what they claim.

    A compressed file is unpacked once to its end, so that its check sum is verified; of a
    tile-compressed image DATASUM is, where there is one.

    Raises
    ------
    FrameError
        If it is no regular file, cannot be read, is empty, not FITS, truncated or damaged, or if a
        header gives sizes or a scaling that cannot be.
    """
    name = os.path.abspath(path)  # noqa: PTH100  resolve() would follow links
    return patiently(lambda: _scan(name, verify))


def _scan(name: str, verify: Verify) -> FileScan:
    with open_source(name) as (source, about):
        raws = []
        for raw in walk(name, source):
            _verify(name, raw, source, verify)
            raws.append(_hdu(name, raw, about))
        hdus = _named([_packed(hdu, source.packing) for hdu in raws])
    return FileScan(name, stamp_of(about), about.st_dev, hdus)


def scan_files(
    paths: Iterable[str | os.PathLike[str]], threads: int = 8
) -> tuple[list[FileScan], list[Problem]]:
    """Scan many files at the same time, which pays where each open waits for a network.

    Parameters
    ----------
    paths : iterable of path
        The files.
    threads : int
        Files that are open at a time.

    Returns
    -------
    scans : list of FileScan
        In the order given.
    problems : list of Problem
        Files that cannot be used, in the order given.
    """
    with ThreadPoolExecutor(threads) as pool:
        found = list(pool.map(_scan_or_problem, paths))
    return (
        [item for item in found if isinstance(item, FileScan)],
        [item for item in found if isinstance(item, Problem)],
    )


def scan_each(
    paths: Iterable[str | os.PathLike[str]], verify: Verify = "auto", threads: int = 8
) -> list[FileScan]:
    """Scan files that must all be usable, many at the same time; the arguments are as above.

    Raises
    ------
    FrameError
        Of the first in the order given that cannot be used.
    """
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(lambda path: scan_file(path, verify), paths))


def _scan_or_problem(path: str | os.PathLike[str]) -> FileScan | Problem:
    try:
        return scan_file(path)
    except FrameError as error:
        return Problem(error.path, error.reason)


def _packed(hdu: HduScan, packing: Packing | None) -> HduScan:
    """Return an HDU whose frames know how their file is compressed."""
    if packing is None:
        return hdu
    return replace(hdu, frames=tuple(replace(frame, packing=packing) for frame in hdu.frames))


def _hdu(path: str, raw: RawHdu, about: os.stat_result) -> HduScan:
    """Return the HDU, with its frames where it holds a two-dimensional image or a cube of them."""
    try:
        cards: Header = raw.cards
        if raw.tiled:
            _check_tiles(raw)
            cards = _image_cards(raw.cards)
        extname = cards.get("EXTNAME")
        extname = extname.strip() if isinstance(extname, str) else ""
        planes, shape, reason = _image_shape(cards)
        frames: tuple[Frame, ...] = ()
        if planes:
            bitpix = bitpix_of(cards)
            scaling, dtype = _scaling(cards, bitpix)
            first = Frame(
                path=path,
                hdu=raw.index,
                extname=extname,
                offset=-1 if raw.tiled else raw.start,
                bitpix=bitpix,
                shape=shape,
                scaling=scaling,
                dtype=dtype,
                size=about.st_size,
                mtime_ns=about.st_mtime_ns,
                datasum=_card_sum(raw.cards),
                tiles=describe(raw) if raw.tiled else None,
            )
            frames = (first,) if planes == 1 else planes_of(first, planes)
    except UnfitError as error:
        raise named(path, raw.index, error) from None
    comments = read_comments(raw.header, _COMMENTED & raw.cards.keys())
    history = read_history(raw.header)
    return HduScan(raw.index, extname, cards, frames, reason, comments, history)


def planes_of(first: Frame, count: int) -> tuple[Frame, ...]:
    """Return the planes of a cube, of which the first is given with the DATASUM of all."""
    size = first.shape[0] * first.row_bytes
    return tuple(
        replace(
            first,
            plane=plane,
            offset=first.offset if first.offset < 0 else first.offset + (plane - 1) * size,
            datasum=None,
        )
        for plane in range(1, count + 1)
    )


def _named(hdus: Sequence[HduScan]) -> tuple[HduScan, ...]:
    """Name every image by EXTNAME and EXTVER; where these do not tell images apart, by counting."""
    given = {hdu.index: (_base_name(hdu), _version(hdu.header)) for hdu in hdus if hdu.frames}
    unclear = {name for (name, _), times in Counter(given.values()).items() if times > 1}
    counts: Counter[str] = Counter()
    names = {}
    for index, (base, version) in given.items():
        counts[base] += 1
        number = counts[base] if base in unclear else version
        names[index] = base if number == 1 else f"{base},{number}"
    return tuple(
        replace(hdu, frames=tuple(replace(frame, name=names[hdu.index]) for frame in hdu.frames))
        for hdu in hdus
    )


def _base_name(hdu: HduScan) -> str:
    name = hdu.extname.upper()
    return name if _USABLE.fullmatch(name) and name not in _TAKEN else f"IMAGE{hdu.index}"


def _version(cards: Header) -> int:
    version = cards.get("EXTVER")
    return version if type(version) is int and version > 0 else 1


def _image_shape(cards: Header) -> tuple[int, tuple[int, int], str]:
    """Return the number of planes, their rows and columns, and why there is no single image.

    There is no reason where the HDU is meant to be empty.
    """
    extension = str(cards.get("XTENSION", "IMAGE")).strip().upper()
    if extension != "IMAGE":
        return _no_image(f"a table ({extension})" if "TABLE" in extension else f"type {extension}")
    axes = axes_of(cards)
    if not axes:
        return _no_image("")
    if cards.get("GROUPS") is True and axes[0] == 0:
        return _no_image("random groups")
    sizes = " x ".join(str(length) for length in axes)
    if 0 in axes:
        return _no_image(f"no pixels: its axes are {sizes}")
    if len(axes) == 1:
        return _no_image(f"a row of {sizes} values, no image")
    more = [n for n, length in enumerate(axes, 1) if n > 2 and length > 1]
    if len(more) > 1:
        return _no_image(f"an array of {sizes}: planes along several axes are no series of frames")
    for n, length in enumerate(axes, 1):
        if length > _MAX_AXIS:
            raise UnfitError(f"NAXIS{n} = {length:,} is more than any image has ({_MAX_AXIS:,})")
    if not more:
        return 1, (axes[1], axes[0]), ""
    kind = str(cards.get(f"CTYPE{more[0]}", "")).strip()
    if _NOT_TIME.fullmatch(kind):
        return _no_image(f"a cube of {sizes} along {kind}: its planes are no exposures of the same")
    planes = axes[more[0] - 1]
    if planes > _MAX_PLANES:
        return _no_image(f"a cube of {sizes}: more than {_MAX_PLANES:,} planes")
    return planes, (axes[1], axes[0]), f"a cube of {planes} planes, {axes[0]} x {axes[1]} each"


def _no_image(reason: str) -> tuple[int, tuple[int, int], str]:
    return 0, (0, 0), reason


def _scaling(cards: Header, bitpix: int) -> tuple[Scaling, str]:
    """Return how stored numbers become physical ones, and of which type these are."""
    bzero, bscale = _finite(cards, "BZERO", 0), _finite(cards, "BSCALE", 1)
    if bscale == 0:
        raise UnfitError("unreadable scaling: BSCALE = 0 would make every value the same")
    if bitpix < 0:
        return Scaling(float(bzero), float(bscale)), _FLOATS[bitpix]
    blank = cards.get("BLANK")
    blank = blank if type(blank) is int else None
    if blank is None and bscale == 1:
        offset, offset_type = _OFFSET_INTEGERS[bitpix]
        if bzero == offset:
            return Scaling(float(bzero)), offset_type
        if bzero == 0:
            return Scaling(), _INTEGERS[bitpix]
    return Scaling(float(bzero), float(bscale), blank), "float32" if bitpix <= 16 else "float64"


def _finite(cards: Header, key: str, default: int) -> float:
    """Return a number as the card has it, so that whole ones stay exact."""
    value = cards.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UnfitError(f"unreadable scaling: {key} = {value!r} is not a number")
    return value


def _card_sum(cards: Header) -> int | None:
    """Return the number of the DATASUM card; None where it holds none."""
    text = str(cards.get("DATASUM")).strip()
    return int(text) if text.isascii() and text.isdigit() else None


def _verify(path: str, raw: RawHdu, source: Source, verify: Verify) -> None:
    """Refuse an HDU that is not what was written, by its check sums.

    In a plain file that of tiles is verified at once: what is damaged in them would show in any
    pixel, and the sum of their bytes is not found on the way. That of a packed file covers them.
    """
    if not (verify == "always" or (verify == "auto" and raw.tiled and source.plain)):
        return
    try:
        header = stored_sum(source, raw.start - padded(len(raw.header)), raw.start)
        data = stored_sum(source, raw.start, raw.end)
        expected = _card_sum(raw.cards)
        if expected is not None and data != expected:
            raise UnfitError(f"damaged: its data add up to {data}, its DATASUM is {expected}")
        if "CHECKSUM" in raw.cards and (header + data) % ALL_ONES:
            raise UnfitError("damaged: its CHECKSUM does not hold")
    except UnfitError as error:
        raise named(path, raw.index, error) from None


def _check_tiles(raw: RawHdu) -> None:
    """Refuse tiles that cannot hold what is claimed."""
    values = math.prod(axes_of(raw.cards, "Z"))
    claimed = believable(abs(bitpix_of(raw.cards, "Z")) // 8 * values)
    stored = raw.end - raw.start
    if claimed > _FREE_TILES + _MAX_TILE_GAIN * stored:
        raise UnfitError(f"its {stored:,} bytes of tiles cannot hold an image of {claimed:,} bytes")


def _image_cards(cards: Header) -> dict[str, Scalar]:
    """Return the cards of a tile-compressed image, without those of the table that it is in."""
    renamed = ((image_keyword(key), value) for key, value in cards.items())
    header = {key: value for key, value in renamed if key is not None}
    if header.get("EXTNAME") == "COMPRESSED_IMAGE":  # the name that stands for none
        del header["EXTNAME"]
    return header
