"""Plain copies of compressed files, made once, where rows of them can be read at any place.

A copy lies in a scratch folder under a name made of path, size and time of its file, so that all
threads and processes that share the folder share the copy, and a file that changes never meets an
old one. It is made by whoever needs it first, to its end, check sum included.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from masterframe import portable, scratchfolder
from masterframe.errors import FrameError, StorageError
from masterframe.fits.layout import walk
from masterframe.fits.source import open_regular, open_source, open_unchanged
from masterframe.fits.tiles import STORED, read_tiles
from masterframe.model import Frame, Packing

_TILE_BYTES = 8 << 20
"""Bytes of a tiled image that are unpacked at a time on the way to its copy."""


def in_folder(frame: Frame, folder: Path, *, untiled: bool = False) -> Frame:
    """Return a frame that is read from a plain copy in a folder, where its file is compressed.

    Parameters
    ----------
    frame : Frame
        From a scan.
    folder : Path
        A scratch folder. The copy is made when it is first read, or by `make_copy`.
    untiled : bool
        Copy an image in tiles, too, as one without: its tiles are taller than what is read at once.
    """
    packing = frame.packing
    if untiled and frame.tiles and packing is None:
        packing = Packing("tiles", frame.shape[0] * frame.row_bytes)
    if packing is None:
        return frame
    name = _name(frame, packing)
    return replace(frame, packing=replace(packing, copy=str(folder / name)))


def lacking(frames: Iterable[Frame]) -> list[Frame]:
    """Return a frame for each copy that is still to be made."""
    first: dict[str, Frame] = {}
    for frame in frames:
        if frame.packing and frame.packing.copy:
            first.setdefault(frame.packing.copy, frame)
    return [frame for copy, frame in first.items() if not os.path.lexists(copy)]


def size_of_copies(frames: Iterable[Frame]) -> int:
    """Return the bytes that plain copies of all compressed files take."""
    sizes = {frame.path: frame.packing.size for frame in frames if frame.packing}
    return sum(sizes.values())


def check_room(frames: Iterable[Frame]) -> None:
    """Refuse to make copies for which the disk has no room.

    Raises
    ------
    StorageError
        With the bytes needed and those that are free.
    """
    needed: dict[Path, int] = {}
    for frame in lacking(frames):
        packing, folder = _copied(frame)
        needed[folder.parent] = needed.get(folder.parent, 0) + packing.size
    for folder, size in needed.items():
        _check_room(folder, size, "the compressed inputs unpack")


def make_copy(frame: Frame) -> Path:
    """Make the plain copy of a frame's file where it is not there yet, and return its path.

    Raises
    ------
    FrameError
        If the file has changed since its scan, is damaged, or unpacks to more than it claims.
    StorageError
        If the copy cannot be written.
    """
    target = _target(frame)
    if target.exists():
        return target
    with ExitStack() as stack:
        try:
            lock = os.open(target.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise scratchfolder.unwritable(target.parent, error) from None
        stack.callback(os.close, lock)
        portable.wait_for_lock(lock)
        if not target.exists():
            _write_copy(frame, target)
    return target


def discard(frames: Iterable[Frame]) -> None:
    """Remove the copies of some frames, which nobody reads any more."""
    for frame in frames:
        if frame.packing and frame.packing.copy:
            Path(frame.packing.copy).unlink(missing_ok=True)


@contextmanager
def open_pixels(frame: Frame) -> Iterator[int]:
    """Open the plain file that holds the rows of a frame: its own, if unchanged, or its copy.

    Raises
    ------
    FrameError
        If the file has changed since its scan, is gone, or cannot be unpacked.
    StorageError
        If there is no room for its copy.
    """
    with open_unchanged(frame) as descriptor:
        if frame.packing is None:
            yield descriptor
            return
    copied = frame if frame.packing.copy else in_folder(frame, scratchfolder.lasting_folder())
    path = str(make_copy(copied))
    try:
        with open_regular(path) as (copy, _):
            yield copy
    except FrameError as error:
        if error.path != path:
            raise
        raise type(error)(frame.path, f"its plain copy {path}: {error.reason}") from None


def _copied(frame: Frame) -> tuple[Packing, Path]:
    """Return how a frame that has a copy is compressed, and the path of the copy."""
    if frame.packing is None or not frame.packing.copy:
        raise ValueError(f"{frame.path} is not read from a copy")
    return frame.packing, Path(frame.packing.copy)


def _target(frame: Frame) -> Path:
    """Return where the copy is to be: where this machine has no such folder, in one of its own."""
    _, target = _copied(frame)
    return target if target.parent.is_dir() else scratchfolder.lasting_folder() / target.name


def _name(frame: Frame, packing: Packing) -> str:
    """Return a name that no other content has, and no suffix of FITS."""
    part = f"{frame.hdu},{frame.plane}" if packing.kind == "tiles" else ""
    key = f"{frame.path}\0{frame.size}\0{frame.mtime_ns}\0{part}"
    return hashlib.sha256(os.fsencode(key)).hexdigest()[:32]


def _write_copy(frame: Frame, target: Path) -> None:
    """Write a copy under another name, and give it its own once it is whole."""
    packing, _ = _copied(frame)
    _check_room(target.parent, packing.size, f"{frame.path} unpacks")
    part = target.with_suffix(".part")
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    except OSError as error:
        raise scratchfolder.unwritable(target.parent, error) from None
    try:
        write = _writer(descriptor, target.parent)
        if packing.kind == "tiles":
            _write_rows(frame, write)
        else:
            _write_unpacked(frame, packing, write)
        part.replace(target)
    except OSError as error:
        raise scratchfolder.unwritable(target.parent, error) from None
    finally:
        os.close(descriptor)
        part.unlink(missing_ok=True)


def _write_unpacked(frame: Frame, packing: Packing, write: Callable[[bytes], None]) -> None:
    """Unpack a file to its end; headers and check sum are looked at on the way, as in a scan."""
    with open_unchanged(frame):
        pass
    with open_source(frame.path, write) as (source, _):
        for _ in walk(frame.path, source):
            pass
        found = source.packing
    if found is None or found.size != packing.size:
        raise FrameError(frame.path, "changed during the run: it unpacks to another size")


def _write_rows(frame: Frame, write: Callable[[bytes], None]) -> None:
    """Unpack a tiled image as it would be stored without tiles."""
    height = frame.tiles.shape[0] if frame.tiles else 1
    step = max(1, _TILE_BYTES // (height * frame.row_bytes)) * height
    with open_unchanged(frame) as descriptor:
        for y0 in range(0, frame.shape[0], step):
            rows = range(y0, min(y0 + step, frame.shape[0]))
            values = np.empty((len(rows), frame.shape[1]), STORED[frame.bitpix])
            read_tiles(descriptor, frame, rows, values)
            write(values.astype(values.dtype.newbyteorder(">")).tobytes())


def _writer(descriptor: int, folder: Path) -> Callable[[bytes], None]:
    def write(data: bytes) -> None:
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(descriptor, view) :]
        except OSError as error:
            raise scratchfolder.unwritable(folder, error) from None

    return write


def _check_room(folder: Path, size: int, what: str) -> None:
    try:
        free = shutil.disk_usage(folder).free
    except OSError:
        return  # it is found out when it is written
    if size > free:
        raise StorageError(
            f"{what} to {size:,} bytes, and {folder} has room for {free:,}: make room there, or "
            "unpack elsewhere"
        )
