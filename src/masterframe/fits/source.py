"""The bytes of a file, plain or unpacked: only regular files, nothing read twice, nothing kept."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Protocol

from masterframe.errors import FrameError
from masterframe.fits import portable

_PACKINGS = ("gzip", "bzip2", "xz")

_START = b"SIMPLE  ="
_MAGIC = {
    _START: "fits",
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\0": "xz",
    b"PK\x03\x04": "a ZIP archive",
    b"\x1f\x9d": "a compress (.Z) file",
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"GIF8": "a GIF image",
    b"II*\0": "a TIFF or camera raw image",
    b"MM\0*": "a TIFF or camera raw image",
    b"XISF0100": "an XISF image",
    b"\x89HDF": "an HDF5 file",
    b"%PDF": "a PDF document",
    b"\0\x05\x16\x07": "an AppleDouble side file of macOS",
    b"<!": "a web page",
    b"<html": "a web page",
    b"<HTML": "a web page",
    b"<?xml": "an XML document",
}

_CHUNK = 1 << 18
"""Bytes that are unpacked at a time on the way to the place that is wanted."""
_MAX_UNPACKED = 1 << 34
"""Bytes that a compressed file may unpack to: a small one could keep the scan busy for hours."""
_SLACK = 1 << 20
"""Bytes that may follow those that the headers claim: padding, some cameras' own notes."""


class Source(Protocol):
    """Bytes of a FITS file by their offset; asked for in rising order."""

    plain: bool
    """True where offsets are those of the file on disk, in which one may go back."""

    def read(self, offset: int, size: int) -> bytes:
        """Return up to `size` bytes; fewer only where the file ends."""

    def reach(self, end: int) -> int:
        """Return `end`, or the size of the file where that is less."""

    def finish(self, claimed: int) -> None:
        """Check what lies behind the bytes that the headers claim."""


class PlainSource:
    """A file that is read where it lies.

    Parameters
    ----------
    descriptor : int
        File open for reading.
    size : int
        Its size (bytes).
    """

    plain = True

    def __init__(self, descriptor: int, size: int) -> None:
        self._descriptor = descriptor
        self._size = size

    def read(self, offset: int, size: int) -> bytes:
        """Return up to `size` bytes; fewer only where the file ends."""
        data = os.pread(self._descriptor, size, offset)
        while len(data) < min(size, self._size - offset):
            more = os.pread(self._descriptor, size - len(data), offset + len(data))
            if not more:  # it has been cut since its size was asked for
                break
            data += more
        return data

    def reach(self, end: int) -> int:
        """Return `end`, or the size of the file where that is less."""
        return min(end, self._size)

    def finish(self, claimed: int) -> None:
        """Accept whatever follows: it is not read."""


class PackedSource:
    """A compressed file, unpacked from front to end; only what is asked for is kept.

    Parameters
    ----------
    stream : file
        Gives the unpacked bytes, and raises at a wrong check sum.
    """

    plain = False

    def __init__(self, stream: gzip.GzipFile | bz2.BZ2File | lzma.LZMAFile) -> None:
        self._stream = stream
        self._position = 0
        self._ahead = b""  # bytes from _position on that have been unpacked already

    def read(self, offset: int, size: int) -> bytes:
        """Return up to `size` bytes, which may be asked for again; fewer where the file ends."""
        self.reach(offset)
        if len(self._ahead) < size:
            self._ahead += self._stream.read(size - len(self._ahead))
        return self._ahead[:size]

    def reach(self, end: int) -> int:
        """Go forward to `end`, or to the end of the file where that comes before."""
        if end > _MAX_UNPACKED:
            raise OSError(f"its headers claim {end:,} bytes: unpack it first")
        while self._position < end:
            ahead = self._ahead or self._stream.read(min(_CHUNK, end - self._position))
            if not ahead:
                break
            step = min(len(ahead), end - self._position)
            self._position += step
            self._ahead = ahead[step:]
        return min(self._position, end)

    def finish(self, claimed: int) -> None:
        """Unpack to the end, where the check sum is.

        Raises
        ------
        OSError
            If more follows than padding: what unpacks to far more than it says is no image.
        """
        if self.reach(claimed + _SLACK) == claimed + _SLACK:
            raise OSError("it unpacks to more than its headers claim")


def content(path: str) -> str:
    """Return what a file holds by its first bytes, whatever its name says.

    Parameters
    ----------
    path : str
        A regular file.

    Returns
    -------
    str
        ``fits``, ``gzip``, ``bzip2``, ``xz``, the name of another known type, or ''.

    Raises
    ------
    FrameError
        If it is no regular file or cannot be read.
    """
    with open_regular(path) as (descriptor, _):
        return _content(descriptor)


def holds_fits(path: str) -> bool:
    """Return whether a file holds FITS, compressed or not, by its first bytes alone.

    Raises
    ------
    FrameError
        If it is no regular file or cannot be read.
    """
    with open_regular(path) as (descriptor, _), open(descriptor, "rb", closefd=False) as packed:
        kind = _content(descriptor)
        if kind not in _PACKINGS:
            return kind == "fits"
        try:
            with _unpacker(kind, packed) as stream:
                return stream.read(len(_START)) == _START
        except (EOFError, OSError, zlib.error, lzma.LZMAError):
            return False


@contextmanager
def open_source(path: str) -> Iterator[tuple[Source, os.stat_result]]:
    """Open a file that holds FITS, compressed or not, and close it.

    Raises
    ------
    FrameError
        If it is no regular file, empty, of another type, damaged, or cannot be read.
    """
    with open_regular(path) as (descriptor, about):
        kind = _content(descriptor)
        if kind == "fits":
            yield PlainSource(descriptor, about.st_size), about
        elif kind in _PACKINGS:
            with open(descriptor, "rb", closefd=False) as packed:
                yield from _unpacked(path, kind, packed, about)
        elif about.st_size == 0:
            raise FrameError(path, "empty file")
        else:
            hint = f"it is {kind}" if kind else "it does not begin with SIMPLE"
            raise FrameError(path, f"not FITS: {hint}")


def _unpacked(
    path: str, kind: str, packed: IO[bytes], about: os.stat_result
) -> Iterator[tuple[Source, os.stat_result]]:
    try:
        with _unpacker(kind, packed) as stream:
            yield PackedSource(stream), about
    except (EOFError, OSError, zlib.error, lzma.LZMAError) as error:
        raise FrameError(path, f"its {kind} data cannot be unpacked: {error}") from None


def _unpacker(kind: str, packed: IO[bytes]) -> gzip.GzipFile | bz2.BZ2File | lzma.LZMAFile:
    if kind == "gzip":
        return gzip.GzipFile(fileobj=packed)
    return bz2.BZ2File(packed) if kind == "bzip2" else lzma.LZMAFile(packed)


@contextmanager
def open_regular(path: str) -> Iterator[tuple[int, os.stat_result]]:
    """Open a regular file for reading, yield its descriptor and state, and close it.

    Raises
    ------
    FrameError
        If it is not there, of another kind, or an error of the system occurs while it is open.
    """
    if "\0" in path:
        raise FrameError(path, "no such file: its name holds a NUL")
    try:
        # Looked at before it is opened: opening alone can hang (a FIFO) or move a tape (a device).
        mode = os.stat(path).st_mode  # noqa: PTH116
        if not stat.S_ISREG(mode):
            raise FrameError(path, f"not a regular file but a {_KINDS.get(stat.S_IFMT(mode))}")
        descriptor = os.open(path, portable.READ_FLAGS)
        try:
            yield descriptor, os.fstat(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise FrameError(path, _in_words(error)) from None


_KINDS = {
    stat.S_IFDIR: "folder",
    stat.S_IFIFO: "FIFO",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
}


def _in_words(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, PermissionError):
        return "permission denied"
    return f"cannot be read: {error.strerror or error}"


def _content(descriptor: int) -> str:
    start = os.pread(descriptor, 16, 0)
    return next((kind for magic, kind in _MAGIC.items() if start.startswith(magic)), "")
