"""Reading rows: one read a frame, into the memory that is its place in the result, decoded there.

Frames are opened, read and closed; nothing stays open between calls, and no call holds more than
the array that it returns (and the stored rows of one frame, where those are smaller or scaled).
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from masterframe import kernels, portable
from masterframe.errors import FrameError
from masterframe.fits.cards import COMMENTARY, Card, image_keyword, read_all_cards
from masterframe.fits.checksums import WORD, add_words
from masterframe.fits.layout import RawHdu, stored_sum, walk
from masterframe.fits.scratch import open_pixels
from masterframe.fits.source import PlainSource, Source, open_source, open_unchanged, patiently
from masterframe.fits.tiles import STORED, read_tiles
from masterframe.model import Frame, Scaling

Array = NDArray[Any]

_SUM_BYTES = 1 << 20
"""Bytes of a plane that are summed at a time."""


class Counter:
    """Counts the bytes of pixels that this process has read, for tests and reports."""

    def __init__(self) -> None:
        self.bytes = 0
        self._lock = threading.Lock()

    def add(self, count: int) -> None:
        """Count more bytes; safe from any thread."""
        with self._lock:
            self.bytes += count


counter = Counter()
"""Bytes of pixels read in this process, as they are stored (unpacked, where they are packed)."""


def read_rows(frame: Frame, y0: int, y1: int, step: int = 1) -> Array:
    """Read rows of one frame, opening it once.

    Parameters
    ----------
    frame : Frame
        From a scan.
    y0, y1 : int
        First row, and the one after the last.
    step : int
        Read every so-manieth row from y0 on.

    Returns
    -------
    ndarray, shape (len(range(y0, y1, step)), nx)
        Values in the type `Frame.dtype`, native byte order. Of unscaled floats each bit is kept.

    Raises
    ------
    FrameError
        If the file has changed since its scan, is gone, or cannot be read.
    ValueError
        If the frame has no such rows.
    """
    check_rows(frame, y0, y1)
    rows = range(y0, y1, step)
    out = np.empty((len(rows), frame.shape[1]), frame.dtype)
    read_into(frame, rows, range(frame.shape[1]), out)
    return out


def datasum(frame: Frame) -> int:
    """Return the DATASUM of the data unit that holds a frame, from its bytes as they are stored.

    Of a plane of a cube it is the one that it would have alone, unpacked.

    Raises
    ------
    FrameError
        If the file has changed since its scan, is gone, or cannot be read.
    """
    return patiently(lambda: _datasum(frame))


def _datasum(frame: Frame) -> int:
    if frame.plane:
        return _plane_sum(frame)
    with open_unchanged(frame) as descriptor:
        if frame.packing is None or _is_untiled(frame):
            return stored_sum(PlainSource(descriptor, frame.size), *_data_unit(frame))
    if frame.packing.copy:
        with open_pixels(frame) as copy:
            return stored_sum(PlainSource(copy, frame.packing.size), *_data_unit(frame))
    with open_source(frame.path) as (source, _):
        return stored_sum(source, *_data_unit(frame))


def _data_unit(frame: Frame) -> tuple[int, int]:
    """Return the first byte of the data unit that holds a frame, and the one behind its data."""
    if frame.tiles:
        return frame.tiles.table, frame.tiles.end
    return frame.offset, frame.offset + frame.shape[0] * frame.row_bytes


def check_datasum(frame: Frame, found: int) -> None:
    """Compare the DATASUM of what was read with the card of the file, where there is one.

    Raises
    ------
    FrameError
        If they differ.
    """
    if frame.datasum not in (None, found):
        hdu = f"HDU {frame.hdu}: " if frame.hdu else ""
        raise FrameError(
            frame.path,
            f"{hdu}damaged: its data add up to {found}, its DATASUM is {frame.datasum}; leave it "
            "out, or verify no checksums if it is right nevertheless",
        )


def _plane_sum(frame: Frame) -> int:
    """Return the sum of the rows of a plane, in parts that hold whole words."""
    total, (height, width) = 0, frame.shape
    step = WORD * max(1, _SUM_BYTES // (WORD * frame.row_bytes))
    for y0 in range(0, height, step):
        rows = range(y0, min(y0 + step, height))
        values = np.empty((len(rows), width), STORED[frame.bitpix])
        _read_stored(frame, rows, range(width), values)
        data = values.astype(values.dtype.newbyteorder(">")).tobytes()
        total = add_words(data.ljust(-(-len(data) // WORD) * WORD, b"\0"), total)
    return total


def read_header(path: str, hdu: int) -> list[Card]:
    """Return the whole header of an HDU, comments and order included.

    Parameters
    ----------
    path : str
        The file.
    hdu : int
        Index of the HDU.

    Returns
    -------
    list of Card
        Of a tile-compressed image those of the image. A value that breaks the rules of FITS is the
        text of its card.

    Raises
    ------
    FrameError
        If the file cannot be read or has no such HDU.
    """
    with open_source(path) as (source, _):
        raw = _find_hdu(path, hdu, source)
    cards = read_all_cards(raw.header)
    if not raw.tiled:
        return cards
    named = ((image_keyword(card.keyword), card) for card in cards)
    return [card._replace(keyword=keyword) for keyword, card in named if keyword is not None]


def read_whole_header(frame: Frame) -> list[Card]:
    """Return what the header of an image says, and what it leaves to that of the primary HDU.

    Raises
    ------
    FrameError
        If the file cannot be read or has no such HDU.
    """
    own = read_header(frame.path, frame.hdu)
    if frame.hdu == 0:
        return own
    said = {card.keyword for card in own} - set(COMMENTARY)
    return [*(card for card in read_header(frame.path, 0) if card.keyword not in said), *own]


def check_rows(frame: Frame, y0: int, y1: int) -> None:
    """Refuse rows that a frame does not have.

    Raises
    ------
    ValueError
        With its path and the rows.
    """
    if not 0 <= y0 <= y1 <= frame.shape[0]:
        raise ValueError(f"{frame.path} has rows 0 to {frame.shape[0]}, not {y0} to {y1}")


def read_into(
    frame: Frame, rows: range, columns: range, out: Array, summed: range = range(0)
) -> int:
    """Fill a contiguous array of the type of a frame with rows and columns of it.

    Return the sum of those values that are to be summed, as `masterframe.kernels.make_native` does;
    0 for one that is compressed in tiles.

    Raises
    ------
    FrameError
        If the file has changed since its scan, is gone, or cannot be read.
    """
    in_place = holds_stored(frame)
    stored = out if in_place else np.empty(out.shape, STORED[frame.bitpix])
    flip = 1 << (frame.bitpix - 1) if in_place and flips_sign(frame) else 0
    count, total = patiently(lambda: _read_stored(frame, rows, columns, stored, flip, summed))
    counter.add(count)
    if not in_place:
        _scale_integers(frame.scaling, stored, out)
    elif frame.bitpix < 0:
        _scale(frame.scaling, out)
    return total


def _read_stored(
    frame: Frame, rows: range, columns: range, out: Array, flip: int = 0, summed: range = range(0)
) -> tuple[int, int]:
    """Fill an array with stored values, in native order; return bytes unpacked, and the sum."""
    if frame.tiles and not _is_untiled(frame):
        count = _read_tiled(frame, rows, columns, out.view(STORED[frame.bitpix]))
        if flip:
            words = out.view(f"u{out.itemsize}")
            words ^= words.dtype.type(flip)
        return count, 0
    view = memoryview(out.reshape(-1).view(np.uint8).data)
    runs = list(_runs(frame, rows, columns))
    if frame.packing and not frame.packing.copy:
        done = _read_packed(frame, runs, view)
    else:
        done = _read_plain(frame, runs, view)
    if done < len(view):
        raise FrameError(frame.path, f"truncated: {done:,} of {len(view):,} bytes of rows")
    return done, kernels.make_native(out, flip, summed)


def _is_untiled(frame: Frame) -> bool:
    """Return whether an image in tiles is read from a copy without them."""
    return frame.packing is not None and frame.packing.kind == "tiles"


def _read_tiled(frame: Frame, rows: range, columns: range, out: Array) -> int:
    whole = len(columns) == frame.shape[1]
    values = out if whole else np.empty((len(rows), frame.shape[1]), out.dtype)
    with open_pixels(frame) as descriptor:
        count = read_tiles(descriptor, frame, rows, values)
    if not whole:
        out[...] = values[:, columns.start : columns.stop]
    return count


def _read_plain(frame: Frame, runs: Iterable[tuple[int, int]], view: memoryview) -> int:
    """Read parts of the data unit one after the other; return how many bytes there were."""
    begin = 0 if _is_untiled(frame) else frame.offset
    done = 0
    with open_pixels(frame) as descriptor:
        for first, size in runs:
            done += portable.read_into(descriptor, view[done : done + size], begin + first)
    return done


def _read_packed(frame: Frame, runs: Iterable[tuple[int, int]], view: memoryview) -> int:
    """Read parts of the data unit of a compressed file on the way through it from its start."""
    done = 0
    with open_unchanged(frame), open_source(frame.path) as (source, _):
        for first, size in runs:
            data = source.read(frame.offset + first, size)
            view[done : done + len(data)] = data
            done += len(data)
    return done


def _runs(frame: Frame, rows: range, columns: range) -> Iterator[tuple[int, int]]:
    """Yield the first byte in the data unit, and the bytes, of each contiguous part of rows."""
    size = abs(frame.bitpix) // 8
    if len(columns) == frame.shape[1] and rows.step == 1:
        yield rows.start * frame.row_bytes, len(rows) * frame.row_bytes
    else:
        for row in rows:
            yield row * frame.row_bytes + columns.start * size, len(columns) * size


def holds_stored(frame: Frame) -> bool:
    """Return whether the values of a frame are of the type in which they are stored."""
    return frame.bitpix < 0 or not frame.dtype.startswith("float")


def flips_sign(frame: Frame) -> bool:
    """Return whether BZERO makes integers of the other sign: all that changes is their top bit."""
    return frame.bitpix > 0 and frame.scaling.bzero != 0


def _scale_integers(scaling: Scaling, stored: Array, out: Array) -> None:
    out[...] = stored
    _scale(scaling, out)
    if scaling.blank is not None:
        out[stored == scaling.blank] = np.nan


def _scale(scaling: Scaling, values: Array) -> None:
    """Apply BSCALE and BZERO in the type of the values, as astropy does, to the last bit."""
    with np.errstate(all="ignore"):  # what overflows is infinite, and left out as such
        if scaling.bscale != 1:
            values *= scaling.bscale
        if scaling.bzero != 0:
            values += scaling.bzero


def _find_hdu(path: str, index: int, source: Source) -> RawHdu:
    for raw in walk(path, source):
        if raw.index == index:
            return raw
    raise FrameError(path, f"it has no HDU {index}")
