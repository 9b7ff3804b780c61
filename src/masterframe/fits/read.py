"""Reading rows: one read a frame, into the memory that is its place in the result, decoded there.

Frames are opened, read and closed; nothing stays open between calls, and no call holds more than
the array that it returns (and the stored rows of one frame, where those are smaller or scaled).
"""

from __future__ import annotations

import math
import threading
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from masterframe import kernels
from masterframe.errors import FrameError
from masterframe.fits import portable
from masterframe.fits.checksums import WORD, add_words
from masterframe.fits.layout import RawHdu, stored_sum, walk
from masterframe.fits.scratch import open_pixels
from masterframe.fits.source import PlainSource, Source, open_source, open_unchanged, patiently
from masterframe.fits.tiles import STORED, read_tiles
from masterframe.model import Frame, Header, Scaling

if TYPE_CHECKING:
    from astropy.io import fits

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
    _check_rows(frame, y0, y1)
    rows = range(y0, y1, step)
    out = np.empty((len(rows), frame.shape[1]), frame.dtype)
    _read_into(frame, rows, range(frame.shape[1]), out)
    return out


def read_stack(
    frames: Sequence[Frame],
    y0: int,
    y1: int,
    step: int = 1,
    columns: range | None = None,
    buffer: Array | None = None,
) -> Array:
    """Read the same rows of several frames into one array.

    Parameters
    ----------
    frames : sequence of Frame
        N frames of one width; at least one.
    y0, y1 : int
        First row, and the one after the last.
    step : int
        Read every so-manieth row from y0 on.
    columns : range, optional
        Neighbouring columns that are read; by default all.
    buffer : ndarray of uint8, optional
        Memory that the result may take, contiguous, of as many bytes or more.

    Returns
    -------
    ndarray, shape (N, len(range(y0, y1, step)), len(columns))
        In the type of the frames; where they differ, in ``numpy.result_type`` of them, which holds
        every value but those beyond 2**53 where 64 bit integers meet floats or the other sign.

    Raises
    ------
    FrameError
        If a file has changed since its scan, is gone, cannot be read, or differs in width.
    ValueError
        If a frame has no such rows.
    """
    for frame in frames:
        _check_rows(frame, y0, y1)
    width = frames[0].shape[1]
    dtype = np.result_type(*{frame.dtype for frame in frames})
    rows = range(y0, y1, step)
    columns = range(width) if columns is None else columns
    shape = len(frames), len(rows), len(columns)
    if buffer is None:
        out = np.empty(shape, dtype)
    else:
        out = buffer[: math.prod(shape) * dtype.itemsize].view(dtype).reshape(shape)
    for frame, place in zip(frames, out, strict=True):
        if frame.shape[1] != width:
            raise FrameError(
                frame.path,
                f"it is {frame.shape[1]} pixels wide, {frames[0].path} is {width}: leave one out",
            )
        if frame.dtype == dtype:
            _read_into(frame, rows, columns, place)
        else:
            own = np.empty(place.shape, frame.dtype)
            _read_into(frame, rows, columns, own)
            place[...] = own
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
        _read_stored(frame, rows, range(width), values, flip=False)
        data = values.astype(values.dtype.newbyteorder(">")).tobytes()
        total = add_words(data.ljust(-(-len(data) // WORD) * WORD, b"\0"), total)
    return total


def band_words(
    frames: Sequence[Frame], block: Array, y0: int, x0: int = 0
) -> NDArray[np.uint64] | None:
    """Return each frame's part of its DATASUM, from rows that have been read already.

    Parameters
    ----------
    frames : sequence of Frame
        N frames.
    block : ndarray, shape (N, rows, nx)
        What `read_stack` returned, unchanged: whole rows, or a part of one row.
    y0, x0 : int
        Row and column of the frames at which the block begins.

    Returns
    -------
    ndarray of uint64, shape (N,), or None
        Ones'-complement sums (`masterframe.kernels.word_sums`): added over all rows and folded to
        32 bits they are `datasum`. None where the values do not tell the stored bytes: scaled or
        tile-compressed frames, or frames of several types.
    """
    first = frames[0]
    if not all(_is_recoverable(frame) and frame.dtype == block.dtype for frame in frames):
        return None
    xor = 1 << (first.bitpix - 1) if _flips_sign(first) else 0
    return kernels.word_sums(block, parity=y0 * first.shape[1] + x0, xor=xor)


def read_header(path: str, hdu: int) -> fits.Header:
    """Return the whole header of an HDU, comments and order included.

    Parameters
    ----------
    path : str
        The file.
    hdu : int
        Index of the HDU.

    Returns
    -------
    astropy.io.fits.Header
        Of a tile-compressed image the header of the image. A value that breaks the rules of FITS
        is the text of its card.

    Raises
    ------
    FrameError
        If the file cannot be read or has no such HDU.
    """
    from astropy.io import fits

    with open_source(path) as (source, _):
        raw = _find_hdu(path, hdu, source)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of cards that break the rules
        header = fits.getheader(path, hdu) if raw.tiled else fits.Header.fromstring(raw.header)
        return fits.Header([_readable(card, raw.cards) for card in header.cards])


def read_whole_header(frame: Frame) -> fits.Header:
    """Return what the header of an image says, and what it leaves to that of the primary HDU.

    Raises
    ------
    FrameError
        If the file cannot be read or has no such HDU.
    """
    from astropy.io import fits

    own = read_header(frame.path, frame.hdu)
    if frame.hdu == 0:
        return own
    said = {card.keyword.upper() for card in own.cards} - {"COMMENT", "HISTORY", ""}
    shared = [card for card in read_header(frame.path, 0).cards if card.keyword.upper() not in said]
    return fits.Header([*shared, *own.cards])


def _readable(card: fits.Card, scanned: Header) -> fits.Card:
    """Return a card whose value can be asked for: its text, in ASCII, where it breaks the rules."""
    from astropy.io import fits

    try:
        card.value  # noqa: B018  astropy parses it now
    except fits.VerifyError:
        texts = (str(scanned.get(card.keyword.upper(), "")), card.comment)
        shown = ["".join(c if c.isprintable() else " " for c in text) for text in texts]
        plain = [text.encode("ascii", "backslashreplace").decode() for text in shown]
        return fits.Card(card.keyword, *plain)
    return card


def _check_rows(frame: Frame, y0: int, y1: int) -> None:
    if not 0 <= y0 <= y1 <= frame.shape[0]:
        raise ValueError(f"{frame.path} has rows 0 to {frame.shape[0]}, not {y0} to {y1}")


def _read_into(frame: Frame, rows: range, columns: range, out: Array) -> None:
    """Fill a contiguous array of the frame's type."""
    in_place = frame.bitpix < 0 or out.dtype.kind != "f"
    stored = out if in_place else np.empty(out.shape, STORED[frame.bitpix])
    flip = in_place and _flips_sign(frame)
    counter.add(patiently(lambda: _read_stored(frame, rows, columns, stored, flip=flip)))
    if not in_place:
        _scale_integers(frame.scaling, stored, out)
    elif frame.bitpix < 0:
        _scale(frame.scaling, out)


def _read_stored(frame: Frame, rows: range, columns: range, out: Array, *, flip: bool) -> int:
    """Fill an array with stored values, in native order; return how many bytes were unpacked."""
    if frame.tiles and not _is_untiled(frame):
        count = _read_tiled(frame, rows, columns, out.view(STORED[frame.bitpix]))
        if flip:
            words = out.view(f"u{out.itemsize}")
            words ^= words.dtype.type(1 << (8 * out.itemsize - 1))
        return count
    view = memoryview(out.reshape(-1).view(np.uint8).data)
    runs = list(_runs(frame, rows, columns))
    if frame.packing and not frame.packing.copy:
        done = _read_packed(frame, runs, view)
    else:
        done = _read_plain(frame, runs, view)
    if done < len(view):
        raise FrameError(frame.path, f"truncated: {done:,} of {len(view):,} bytes of rows")
    _make_native(out, flip=flip)
    return done


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


def _is_recoverable(frame: Frame) -> bool:
    """Return whether each value tells the bytes that were stored for it."""
    if frame.tiles:
        return False
    if frame.bitpix < 0:
        return frame.scaling == Scaling()
    return not frame.dtype.startswith("float")


def _flips_sign(frame: Frame) -> bool:
    """Return whether BZERO makes integers of the other sign: all that changes is their top bit."""
    return frame.bitpix > 0 and frame.scaling.bzero != 0


def _make_native(values: Array, *, flip: bool) -> None:
    """Turn big-endian values into native ones in place; as integers, so that no NaN is touched."""
    size = values.itemsize
    if size == 2 and flip:
        kernels.swap_unsigned16(values)
    elif size == 2:
        kernels.swap16(values)
    else:
        words = values.view(f"u{size}")
        if size > 1:
            words.byteswap(inplace=True)
        if flip:
            words ^= words.dtype.type(1 << (8 * size - 1))


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
