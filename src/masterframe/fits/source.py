"""The bytes of a file, plain or unpacked: only regular files, nothing read twice, nothing kept."""

from __future__ import annotations

import bz2
import errno
import lzma
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any, Protocol, TypeVar

from masterframe import portable
from masterframe.errors import FrameError
from masterframe.fits import inflate
from masterframe.model import Frame, Packing

_PACKINGS = ("gzip", "bzip2", "xz")
_DAMAGED: tuple[type[Exception], ...] = (*inflate.ERRORS, lzma.LZMAError)

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
_PAUSES = (0.1, 0.3, 0.6)
"""Seconds after which a file is opened again that a network file system has lost."""
_SLACK = 1 << 20
"""Bytes that may follow those that the headers claim: padding, some cameras' own notes."""

Result = TypeVar("Result")


class Source(Protocol):
    """Bytes of a FITS file by their offset; asked for in rising order."""

    plain: bool
    """True where offsets are those of the file on disk, in which one may go back."""

    @property
    def packing(self) -> Packing | None:
        """How the file is compressed, as far as it has been unpacked; None where it is not."""

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
    packing = None

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
    kind : str
        How it is compressed.
    stream : file
        Gives the unpacked bytes, and raises at a wrong check sum.
    write : callable, optional
        Is given all bytes as they are unpacked.
    """

    plain = False

    def __init__(
        self, kind: str, stream: IO[bytes], write: Callable[[bytes], None] | None = None
    ) -> None:
        self._kind = kind
        self._stream = stream
        self._write = write
        self._position = 0
        self._ahead = b""  # bytes from _position on that have been unpacked already

    @property
    def packing(self) -> Packing:
        """How the file is compressed, as far as it has been unpacked."""
        return Packing(self._kind, self._position + len(self._ahead))

    def read(self, offset: int, size: int) -> bytes:
        """Return up to `size` bytes, which may be asked for again; fewer where the file ends."""
        self.reach(offset)
        if len(self._ahead) < size:
            self._ahead += self._unpack(size - len(self._ahead))
        return self._ahead[:size]

    def reach(self, end: int) -> int:
        """Go forward to `end`, or to the end of the file where that comes before."""
        if end > _MAX_UNPACKED:
            raise OSError(f"its headers claim {end:,} bytes: unpack it first")
        while self._position < end:
            ahead = self._ahead or self._unpack(min(_CHUNK, end - self._position))
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

    def _unpack(self, size: int) -> bytes:
        data = self._stream.read(size)
        if self._write:
            self._write(data)
        return data


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
                return bool(stream.read(len(_START)) == _START)
        except _DAMAGED:
            return False


@contextmanager
def open_source(
    path: str, write: Callable[[bytes], None] | None = None
) -> Iterator[tuple[Source, os.stat_result]]:
    """Open a file that holds FITS, compressed or not, and close it.

    Parameters
    ----------
    path : str
        The file.
    write : callable, optional
        Is given all bytes of a compressed file as they are unpacked.

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
                yield from _unpacked(path, kind, packed, about, write)
        elif about.st_size == 0:
            raise FrameError(path, "empty file")
        else:
            hint = f"it is {kind}" if kind else "it does not begin with SIMPLE"
            raise FrameError(path, f"not FITS: {hint}")


def _unpacked(
    path: str,
    kind: str,
    packed: IO[bytes],
    about: os.stat_result,
    write: Callable[[bytes], None] | None,
) -> Iterator[tuple[Source, os.stat_result]]:
    try:
        with _unpacker(kind, packed) as stream:
            yield PackedSource(kind, stream, write), about
    except _DAMAGED as error:
        raise FrameError(path, f"its {kind} data cannot be unpacked: {error}") from None


def _unpacker(kind: str, packed: IO[bytes]) -> Any:
    if kind == "gzip":
        return inflate.open_gzip(packed)
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
        kind = StaleError if error.errno == errno.ESTALE else FrameError
        raise kind(path, _in_words(error)) from None


class StaleError(FrameError):
    """A file that a network file system has lost sight of; it may be there again at once."""


@contextmanager
def open_unchanged(frame: Frame) -> Iterator[int]:
    """Open the file of a frame, and yield its descriptor if it is the one that was scanned.

    Raises
    ------
    FrameError
        If it has another size or time, is gone, or an error of the system occurs.
    """
    if not os.path.lexists(frame.path):
        raise StaleError(frame.path, "no such file: it has been removed since it was scanned")
    with open_regular(frame.path) as (descriptor, about):
        if about.st_size != frame.size:
            raise FrameError(
                frame.path,
                f"changed during the run: {about.st_size:,} bytes, {frame.size:,} when scanned",
            )
        if about.st_mtime_ns != frame.mtime_ns:
            raise FrameError(frame.path, "changed during the run: written to since it was scanned")
        yield descriptor


def patiently(action: Callable[[], Result]) -> Result:
    """Do what opens and reads a file; again after a pause where it is lost for the moment.

    A network file system may answer ESTALE, or that there is no such file, while another machine
    renames or while its own cache is old; opening the file anew finds it.
    """
    for pause in _PAUSES:
        try:
            return action()
        except StaleError:
            time.sleep(pause)
    return action()


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
