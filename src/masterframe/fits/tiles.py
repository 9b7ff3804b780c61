"""Tile-compressed images: where their tiles lie, and rows of them unpacked (FITS 4.0, section 10).

A table has a row a tile; its columns say where in the heap behind it the compressed bytes are. Rows
of the image are asked for by bands: the rows of the table for their tiles are read, then the tiles
themselves in one read, and each is unpacked where its values belong. What is unusual (HCOMPRESS,
PLIO, null masks, integers that were quantised, tiles out of order) is left to astropy.
"""

from __future__ import annotations

import os
import re
import sys
import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from masterframe import kernels, portable
from masterframe.errors import FrameError
from masterframe.fits import inflate
from masterframe.fits.layout import RawHdu, UnfitError, axes_of, bitpix_of
from masterframe.model import Frame, Header, Tiles

Array = NDArray[Any]

STORED = {
    bitpix: np.dtype(name)
    for bitpix, name in {8: "u1", 16: "i2", 32: "i4", 64: "i8", -32: "f4", -64: "f8"}.items()
}
"""Stored types by BITPIX."""
_DIRECT = ("RICE_1", "RICE_ONE", "GZIP_1", "GZIP_2", "NOCOMPRESS")
"""Methods that are unpacked here."""
_COLUMNS = {
    **dict.fromkeys(("COMPRESSED_DATA", "GZIP_COMPRESSED_DATA"), "PQ"),
    **dict.fromkeys(("ZSCALE", "ZZERO"), "D"),
    "ZBLANK": "J",
}
"""Columns that are understood, and the formats that each may have."""
_DITHERS = ("NO_DITHER", "SUBTRACTIVE_DITHER_1", "SUBTRACTIVE_DITHER_2")
"""Ways in which floats were quantised, by the number that the kernel has for each."""
_ELEMENT = {"B": 1, "I": 2, "J": 4}
_SIZES = {"L": 1, "B": 1, "I": 2, "J": 4, "K": 8, "E": 4, "D": 8, "P": 8, "Q": 16}
_FORMAT = re.compile(r"(1?)([LBIJKEDPQ])([BIJED]?)(\(\d+\))?")
_NO_BLANK = 1 << 40
"""A value that no stored integer has."""
_GAPS = 1 << 20
"""Bytes between the tiles of a band that are read with them."""


_astropy = threading.Lock()
"""Held while astropy unpacks: its decoder of HCOMPRESS releases the GIL, and keeps its state in
variables that all threads share (two at once gave "bad format code")."""


class _UnusualError(Exception):
    """Tiles that are not as this module expects; astropy may still read them."""


def describe(raw: RawHdu) -> Tiles:
    """Return where the tiles of an HDU lie, from its cards.

    Raises
    ------
    UnfitError
        If the cards do not say how the image is cut.
    """
    cards = raw.cards
    axes = axes_of(cards, "Z")
    sides = [_whole(cards, f"ZTILE{n}", axes[0] if n == 1 else 1) for n in range(1, len(axes) + 1)]
    width, rows = axes_of(cards)[:2]
    method = str(cards.get("ZCMPTYPE", "")).strip().upper()
    side_x, side_y = [*sides, 1][:2]
    extent_x, extent_y = [*axes, 1][:2]
    expected = -(-extent_x // side_x) * -(-extent_y // side_y)
    usual = method in _DIRECT and expected == rows and all(side == 1 for side in sides[2:])
    settings = _settings(cards)
    quantised = str(cards.get("ZQUANTIZ", "NO_DITHER")).strip().upper()
    columns = _columns(cards, width, quantised) if usual else ()
    return Tiles(
        method="RICE_1" if method == "RICE_ONE" else method,
        shape=(min(side_y, extent_y), min(side_x, extent_x)),
        table=raw.start,
        row_bytes=width,
        heap=raw.start + _whole(cards, "THEAP", width * rows),
        end=raw.end,
        columns=columns if _is_usual_type(cards, method, settings, columns) else (),
        block=settings.get("BLOCKSIZE", 32),
        value_bytes=settings.get("BYTEPIX", 4),
        dither=quantised,
        seed=_whole(cards, "ZDITHER0", 1),
        blank=_blank(cards),
    )


def _whole(cards: Header, key: str, default: int) -> int:
    value = cards.get(key, default)
    if type(value) is not int or not 0 < value < 1 << 40:
        raise UnfitError(f"{key} = {value!r} is not a positive whole number")
    return value


def _settings(cards: Header) -> dict[str, int]:
    """Return the parameters of the method by name."""
    names = {str(cards.get(f"ZNAME{n}", "")).strip().upper(): n for n in range(1, 6)}
    return {
        name: _whole(cards, f"ZVAL{names[name]}", 0)
        for name in ("BLOCKSIZE", "BYTEPIX")
        if name in names
    }


def _columns(cards: Header, width: int, quantised: str) -> tuple[tuple[str, int, str], ...]:
    """Return the columns of the table; nothing where one is not understood."""
    found, offset = [], 0
    for n in range(1, _whole(cards, "TFIELDS", 1) + 1):
        name = str(cards.get(f"TTYPE{n}", "")).strip().upper()
        match = _FORMAT.fullmatch(str(cards.get(f"TFORM{n}", "")).strip().upper())
        if match is None or match[2] not in _COLUMNS.get(name, ""):
            return ()
        found.append((name, offset, match[2] + match[3]))
        offset += _SIZES[match[2]]
    names = [name for name, _, _ in found]
    whole = offset == width and len(set(names)) == len(names) and "COMPRESSED_DATA" in names
    pairs = ("ZSCALE" in names) == ("ZZERO" in names)
    keywords = {"ZSCALE", "ZZERO", "ZMASKCMP"} & set(cards)
    known = "ZSCALE" not in names or quantised in _DITHERS
    return tuple(found) if whole and pairs and known and not keywords else ()


def _is_usual_type(
    cards: Header, method: str, settings: dict[str, int], columns: tuple[tuple[str, int, str], ...]
) -> bool:
    """Return whether values of this type are usually compressed like this."""
    names = {name for name, _, _ in columns}
    bitpix = bitpix_of(cards, "Z")
    if bitpix > 0:
        usual = not names & {"ZSCALE", "ZBLANK", "GZIP_COMPRESSED_DATA"}
    else:
        usual = "ZSCALE" in names or not method.startswith("RICE")
    size = settings.get("BYTEPIX", 4)
    fits = size in (1, 2, 4) and (bitpix < 0 or size * 8 <= max(bitpix, 32))
    return usual and (fits or not method.startswith("RICE"))


def _blank(cards: Header) -> int | None:
    value = cards.get("ZBLANK", cards.get("BLANK"))
    return value if type(value) is int else None


def read_tiles(descriptor: int, frame: Frame, rows: range, out: Array) -> int:
    """Unpack rows of an image.

    Parameters
    ----------
    descriptor : int
        The (unpacked) file, open for reading.
    frame : Frame
        Its image; `Frame.tiles` is set.
    rows : range
        Rows in rising order.
    out : ndarray, shape (len(rows), nx)
        Of the stored type, in native byte order; contiguous. Is filled.

    Returns
    -------
    int
        Bytes that were unpacked: whole tiles.

    Raises
    ------
    FrameError
        If a tile is damaged.
    """
    if frame.tiles is None:  # whoever calls has looked
        raise AssertionError(frame)
    height = frame.tiles.shape[0]
    of_row = np.arange(rows.start, rows.stop, rows.step) // height
    unpacked = 0
    for part in np.split(np.arange(len(rows)), np.flatnonzero(np.diff(of_row) > 1) + 1):
        inside = slice(int(part[0]), int(part[-1]) + 1)
        wanted, place = rows[inside], out[inside]
        first, last = int(of_row[part[0]]), int(of_row[part[-1]]) + 1
        y0, y1 = first * height, min(last * height, frame.shape[0])
        whole = place if wanted == range(y0, y1) else np.empty((y1 - y0, out.shape[1]), out.dtype)
        try:
            _unpack(descriptor, frame, frame.tiles, (first, last), whole)
        except _UnusualError:
            _unpack_by_astropy(descriptor, frame, (y0, y1), whole)
        if whole is not place:
            place[...] = whole[wanted.start - y0 : wanted.stop - y0 : wanted.step]
        unpacked += whole.nbytes
    return unpacked


def _unpack(
    descriptor: int, frame: Frame, tiles: Tiles, tile_rows: tuple[int, int], out: Array
) -> None:
    """Unpack all tiles of some tile rows into the rows that they are."""
    if not tiles.columns:
        raise _UnusualError
    across = -(-out.shape[1] // tiles.shape[1])
    numbers = np.arange(tile_rows[0] * across, tile_rows[1] * across)
    table = _read_table(descriptor, frame, tiles, numbers)
    heights = np.full(len(numbers), tiles.shape[0])
    heights[-across:] = out.shape[0] - (tile_rows[1] - tile_rows[0] - 1) * tiles.shape[0]
    widths = np.full((len(numbers) // across, across), tiles.shape[1])
    widths[:, -1] = out.shape[1] - (across - 1) * tiles.shape[1]
    stops = np.cumsum(heights * widths.reshape(-1))
    places = np.stack([stops - heights * widths.reshape(-1), stops], axis=1)
    flat = out.reshape(-1) if across == 1 else np.empty(out.size, out.dtype)
    _Tiles(frame, tiles, descriptor, table, numbers, places).unpack(flat)
    if across > 1:
        _spread(flat, places, tiles.shape, out)


def _spread(flat: Array, places: Array, shape: tuple[int, int], out: Array) -> None:
    """Put tiles that lie side by side where they belong."""
    across = -(-out.shape[1] // shape[1])
    for number, (start, stop) in enumerate(places.tolist()):
        y, x = number // across * shape[0], number % across * shape[1]
        place = out[y : y + shape[0], x : x + shape[1]]
        place[...] = flat[start:stop].reshape(place.shape)


def _read_table(descriptor: int, frame: Frame, tiles: Tiles, numbers: Array) -> Array:
    """Return the rows of the table for some tiles, one after the other."""
    formats = {"P": (">i4", 2), "Q": (">i8", 2), "D": ">f8", "J": ">i4"}
    kind = np.dtype(
        {
            "names": [name for name, _, _ in tiles.columns],
            "offsets": [offset for _, offset, _ in tiles.columns],
            "formats": [formats[code[0]] for _, _, code in tiles.columns],
            "itemsize": tiles.row_bytes,
        }
    )
    start = tiles.table + int(numbers[0]) * tiles.row_bytes
    return _read(descriptor, frame, start, len(numbers) * tiles.row_bytes).view(kind)


def _read(descriptor: int, frame: Frame, start: int, size: int) -> Array:
    data = np.empty(size, np.uint8)
    got = portable.read_into(descriptor, memoryview(data.data), start)
    if got < size:
        raise FrameError(frame.path, f"truncated: {got:,} of {size:,} bytes of tiles")
    return data


class _Tiles:
    """The tiles of one read, one after the other."""

    def __init__(
        self,
        frame: Frame,
        tiles: Tiles,
        descriptor: int,
        table: Array,
        numbers: Array,
        places: Array,
    ) -> None:
        self._frame = frame
        self._tiles = tiles
        self._table = table
        self._numbers = numbers
        self._places = places
        self._codes = {name: code for name, _, code in tiles.columns}
        spans = {name: self._spans(name) for name, code in self._codes.items() if code[0] in "PQ"}
        self._data, self._spans_of = self._read_heap(descriptor, spans)

    def unpack(self, out: Array) -> None:
        """Fill an array with the values of the tiles."""
        if "ZSCALE" not in self._codes:
            self._decode(self._numbers >= 0, out)
            return
        spans = self._spans_of["COMPRESSED_DATA"]
        quantised = spans[:, 1] > spans[:, 0]
        if quantised.any():
            stored = np.empty(out.size, np.int32)
            self._decode(quantised, stored)
            self._restore(quantised, stored, out)
        for tile in np.flatnonzero(~quantised):  # those whose noise was too small to quantise
            if "GZIP_COMPRESSED_DATA" not in self._spans_of:
                raise _UnusualError
            self._inflate(int(tile), "GZIP_COMPRESSED_DATA", out)
            start, stop = self._places[tile]
            out[start:stop].byteswap(inplace=True)

    def _spans(self, name: str) -> Array:
        """Return the first byte in the file of each tile, and the one after its last."""
        count, offset = self._table[name].astype(np.int64).T
        start = self._tiles.heap + offset
        spans = np.stack([start, start + count * _ELEMENT[self._codes[name][1]]], axis=1)
        used = spans[count != 0]
        if (count < 0).any() or (used < self._tiles.heap).any() or (used > self._tiles.end).any():
            raise self._damaged(int(self._numbers[0]), "its bytes would lie outside of the table")
        return spans

    def _read_heap(
        self, descriptor: int, spans: dict[str, Array]
    ) -> tuple[Array, dict[str, Array]]:
        """Read all tiles at once; return their bytes, and where each is in them."""
        every = np.concatenate(list(spans.values()))
        used = every[every[:, 1] > every[:, 0]]
        if not len(used):
            raise _UnusualError
        start, stop = int(used[:, 0].min()), int(used[:, 1].max())
        if stop - start > int((used[:, 1] - used[:, 0]).sum()) + _GAPS:
            raise _UnusualError
        data = _read(descriptor, self._frame, start, stop - start)
        return data, {name: item - start for name, item in spans.items()}

    def _decode(self, which: Array, out: Array) -> None:
        """Decode the chosen tiles of COMPRESSED_DATA into integers, or floats that are whole."""
        tiles = np.flatnonzero(which)
        if self._tiles.method == "RICE_1":
            self._decode_rice(tiles, out)
            return
        for tile in tiles.tolist():
            self._inflate(tile, "COMPRESSED_DATA", out)
        if self._tiles.method != "GZIP_2":
            out.view(f"u{out.itemsize}").byteswap(inplace=True)

    def _decode_rice(self, tiles: Array, out: Array) -> None:
        size = self._tiles.value_bytes
        coded = np.dtype(f"i{size}" if size > 1 else "u1")
        values = out if coded == out.dtype else np.empty(out.size, coded)
        spans = self._spans_of["COMPRESSED_DATA"][tiles]
        damaged = kernels.decode_rice(
            self._data, spans, self._places[tiles], values, self._tiles.block
        )
        if damaged >= 0:
            raise self._damaged(int(self._numbers[tiles[damaged]]), "it ends too early")
        if values is not out:
            out[...] = values

    def _inflate(self, tile: int, column: str, out: Array) -> None:
        """Put the bytes of a tile where its values are; those of GZIP_2 in native order."""
        start, stop = self._spans_of[column][tile]
        first, last = self._places[tile].tolist()
        size = out.itemsize
        place = out[first:last].view(np.uint8)
        packed = self._data[start:stop]
        if self._tiles.method == "NOCOMPRESS" and column == "COMPRESSED_DATA":
            raw = packed
        else:
            raw = np.frombuffer(self._gunzip(tile, packed, place.nbytes), np.uint8)
        if raw.size != place.size:
            raise _UnusualError
        if self._tiles.method == "GZIP_2" and column == "COMPRESSED_DATA":
            # one byte of every value after the other, the highest first
            place.reshape(-1, size)[:, ::_NATIVE] = raw.reshape(size, -1).T
        else:
            place[...] = raw

    def _gunzip(self, tile: int, packed: Array, size: int) -> bytes:
        try:
            return inflate.gunzip(packed, size)
        except inflate.ERRORS as error:
            raise self._damaged(int(self._numbers[tile]), str(error)) from None

    def _restore(self, which: Array, stored: Array, out: Array) -> None:
        """Turn quantised integers into floats."""
        tiles = np.flatnonzero(which)
        table = self._table[tiles]
        terms = np.stack([table["ZSCALE"], table["ZZERO"]], axis=1).astype(np.float64)
        if "ZBLANK" in self._codes:
            blanks = table["ZBLANK"].astype(np.int64)
        else:
            blank = _NO_BLANK if self._tiles.blank is None else self._tiles.blank
            blanks = np.full(len(tiles), blank, np.int64)
        numbers = self._numbers[tiles] + self._tiles.seed - 1
        kernels.restore_floats(
            stored,
            out,
            (self._places[tiles], numbers, terms, blanks),
            _DITHERS.index(self._tiles.dither),
        )

    def _damaged(self, number: int, why: str) -> FrameError:
        reason = f"its tiles cannot be unpacked: tile {number + 1}: {why}"
        return FrameError(self._frame.path, reason)


_NATIVE = -1 if sys.byteorder == "little" else 1
"""Step through the bytes of a native value, the highest first."""


def _unpack_by_astropy(descriptor: int, frame: Frame, rows: tuple[int, int], out: Array) -> None:
    from astropy.io import fits

    try:
        with (
            _astropy,
            os.fdopen(os.dup(descriptor), "rb") as file,
            fits.open(file, memmap=False, do_not_scale_image_data=True) as hdus,
        ):
            section = hdus[frame.hdu].section
            # of the axes beyond the second at most one is longer than 1: that of the planes
            before = [frame.plane - 1 if length > 1 else 0 for length in section.shape[:-2]]
            out[...] = section[(*before, slice(*rows))]
    except Exception as error:  # what damaged tiles make astropy raise has no common class
        raise FrameError(frame.path, f"its tiles cannot be unpacked: {error}") from error
