"""FITS files written out of order, band by band, and put in their place whole or not at all.

The size of a FITS image is known before its pixels are: `ImageFile` reserves the whole file as
``NAME.part``, with spare blank cards in every header so that no update moves a pixel, takes rows in
any order, and publishes with one rename once everything is on the disk. A part that a dead process
left can be taken up again by who knows what it holds.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from numpy.typing import NDArray

from masterframe import portable
from masterframe.errors import StorageError
from masterframe.fits import checksums, legal, partfile
from masterframe.fits.planes import Plane, PlaneSpec, place
from masterframe.fits.stamps import Stamp, stamp_of
from masterframe.tiling import format_bytes

SPARE_CARDS = 36
"""Cards that each header can take late."""
PIECE = 256 << 10
"""Bytes that are made ready and written at a time: so few stay in the cache of the processor. They
end at multiples of it in the file, as large pages of the system's cache do: else it is a third
slower."""
SUM_BYTES = 1 << 20
"""Bytes read at a time for checksums: few enough to be summed in the cache of the processor."""
BEHIND = 3
"""Threads beside the caller: one brings to the disk, and two planes are summed at the same time."""

__all__ = ["ImageFile", "PlaneSpec"]


class ImageFile:
    """A FITS file of images with known sizes, written in any order and published at once.

    Made by `create` or `reopen`, used in a ``with`` statement: unless `publish` or `keep` is
    reached, nothing is left behind. Writing different rows from several threads is safe; cards and
    `publish` are for one.
    """

    def __init__(
        self, path: Path, part: Path, descriptor: int, planes: dict[str, Plane], overwrite: bool
    ) -> None:
        self.path = path
        self._part = part
        self._descriptor = descriptor
        self._planes = planes
        self._overwrite = overwrite
        self._behind = ThreadPoolExecutor(BEHIND, thread_name_prefix="masterframe-settle")
        self._settled: list[Future[None]] = []
        self._sums: dict[str, Future[int]] = {}

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        planes: Sequence[PlaneSpec],
        *,
        overwrite: bool,
        part: Path | None = None,
        spare_cards: int = SPARE_CARDS,
    ) -> Self:
        """Reserve the space of a file and write its headers.

        Parameters
        ----------
        path : path
            The file to be.
        planes : sequence of PlaneSpec
            The HDUs in their order; the first is the primary.
        overwrite : bool
            Replace a regular file of that name.
        part : Path, optional
            The file that holds what is written until `publish`, on the same file system; by default
            ``path + ".part"``.
        spare_cards : int
            Blank cards to leave in each header for `update_cards`.

        Raises
        ------
        StorageError
            If the target exists, its folder is missing or cannot be written, another process is
            writing the same file, or the disk has too little space.
        """
        target = Path(path)
        placed = place(planes, spare_cards)
        with partfile.storage_errors(target):
            partfile.check_target(target, overwrite=overwrite)
            part = part or partfile.part_of(target)
            file = cls(target, part, partfile.open_new(part), placed, overwrite)
        try:
            with partfile.storage_errors(target):
                file._reserve()
                file._write_headers()
        except BaseException:
            file.discard()
            raise
        return file

    @classmethod
    def reopen(
        cls,
        path: Path,
        planes: Sequence[PlaneSpec],
        *,
        overwrite: bool,
        part: Path,
        identity: tuple[int, int],
        spare_cards: int = SPARE_CARDS,
    ) -> Self | None:
        """Take up a part that an earlier process left; None where it is not what it should be.

        Parameters
        ----------
        path, planes, overwrite, part, spare_cards
            As for `create`, when the part was made.
        identity : (int, int)
            Its `identity` then.

        Raises
        ------
        StorageError
            If the target cannot be made, another process is writing it, or the disk fails.
        """
        placed = place(planes, spare_cards)
        with partfile.storage_errors(path):
            partfile.check_target(path, overwrite=overwrite)
            descriptor = partfile.reopen(part)
            if descriptor is None:
                return None
            file = cls(path, part, descriptor, placed, overwrite)
            facts = os.fstat(descriptor)
            whole = facts.st_size >= file._size and facts.st_nlink == 1  # a published one has two
            if not whole or file.identity != identity:
                file.keep()
                return None
            os.ftruncate(descriptor, file._size)  # tables are written anew
            file._write_headers()
        return file

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.discard()

    @property
    def identity(self) -> tuple[int, int]:
        """Number of the part in its file system, and the size of its images (bytes)."""
        return os.fstat(self._descriptor).st_ino, self._size

    @property
    def _size(self) -> int:
        return max(plane.end for plane in self._planes.values())

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the planes, in file order."""
        return tuple(self._planes)

    def write_rows(
        self, plane: str, row0: int, values: NDArray[Any], column0: int | None = None
    ) -> None:
        """Write rows of a plane, or a part of one row.

        Parameters
        ----------
        plane : str
            Name of the plane.
        row0 : int
            First row.
        values : ndarray, shape (rows, columns)
            Values that the plane's type can hold; they are converted within their kind only.
        column0 : int, optional
            First column of a part of one row; by default rows are whole.

        Raises
        ------
        StorageError
            If the disk fails.
        ValueError, TypeError
            If rows or types do not fit the plane.
        """
        into = self._planes[plane]
        self._sums.pop(plane, None)
        fits = values.ndim == len(into.shape) == 2 and 0 <= row0 <= into.shape[0] - len(values)
        if fits and column0 is None:
            fits = values.shape[1] == into.shape[1]
        elif fits and column0 is not None:
            fits = len(values) == 1 and 0 <= column0 <= into.shape[1] - values.shape[1]
        if not fits:
            raise ValueError(
                f"{plane}: {values.shape} from row {row0} on does not fit into {into.shape}"
            )
        size, flat, done = into.stored.itemsize, values.reshape(-1), 0
        place = into.data_offset + row0 * into.row_bytes + (column0 or 0) * size
        with partfile.storage_errors(self.path):
            while done < flat.size:
                count = (PIECE - place % PIECE) // size
                place += self._write(place, into.encode(flat[done : done + count]))
                done += count

    def read_rows(self, plane: str, rows: range) -> NDArray[Any]:
        """Return rows of a plane as they were written; 0 where they were not.

        Parameters
        ----------
        plane : str
            Name of the plane.
        rows : range
            Rising.

        Returns
        -------
        ndarray, shape (len(rows), columns)
            In the plane's type, native byte order; the caller may change it.

        Raises
        ------
        StorageError
            If the disk fails.
        ValueError
            If the plane has no such rows.
        """
        of = self._planes[plane]
        if not of.shape or not 0 <= rows.start <= rows.stop <= of.shape[0]:
            raise ValueError(f"{plane}: no rows {rows.start} to {rows.stop} in {of.shape}")
        raw = bytearray(len(rows) * of.row_bytes)
        runs = [rows] if rows.step == 1 else [range(row, row + 1) for row in rows]
        view = memoryview(raw)
        with partfile.storage_errors(self.path):
            for run in runs:
                size = len(run) * of.row_bytes
                self._read_into(view[:size], of.data_offset + run.start * of.row_bytes)
                view = view[size:]
        return of.decode(raw)

    def update_cards(self, plane: str, cards: legal.Cards) -> None:
        """Set cards of a plane's header: value and comment by keyword.

        Values that FITS cannot hold are made safe by `legal.safe_card`, or their card is removed;
        the lines of HISTORY are added.

        Raises
        ------
        StorageError
            If the disk fails.
        ValueError
            If the spare cards do not suffice.
        """
        of = self._planes[plane]
        of.update(cards)
        with partfile.storage_errors(self.path):
            self._write(of.offset, of.header_bytes())

    def settle(self, planes: Iterable[str]) -> None:
        """Begin to bring to the disk what was written, and to sum planes, while the caller goes on.

        Parameters
        ----------
        planes : iterable of str
            Names of planes that are complete; what is written to one later has it summed again.
        """
        self._settled.append(self._behind.submit(os.fsync, self._descriptor))
        self._sum(planes)

    def publish(self, tables: Sequence[bytes] = ()) -> Stamp:
        """Add tables, compute all checksums, and give the file its name.

        Everything is on the disk before the name is; a file that exists by then is replaced only
        where that was wanted.

        Parameters
        ----------
        tables : sequence of bytes
            Whole HDUs that follow the images.

        Returns
        -------
        Stamp
            The file as it was published: as long as it has this stamp nobody has touched it.

        Raises
        ------
        StorageError
            If the disk fails or is full, or a file of this name has appeared meanwhile.
        """
        with partfile.storage_errors(self.path):
            end = self._size
            for table in tables:
                end += self._write(end, table)
            self._sum(name for name in self._planes if name not in self._sums)
            sums = [self._sums[name].result() for name in self._planes]
            first, *_ = self._planes.values()
            seal = str(sum(sums))  # who alters pixels rarely thinks of this card
            first.update({"MFSEAL": (seal, "sum of the DATASUM of all images")})
            for plane, total in zip(self._planes.values(), sums, strict=True):
                self._write(plane.offset, plane.sealed_bytes(total))
            for settled in self._settled:
                settled.result()  # the system tells of a failure once, to the first who asks
            os.fsync(self._descriptor)
            self._rename()
            stamp = stamp_of(os.fstat(self._descriptor))
            portable.sync_folder(self.path.parent)
        self._close()
        return stamp

    def sync(self) -> None:
        """Bring to the disk what was written so far; other threads may write meanwhile.

        Raises
        ------
        StorageError
            If the disk fails.
        """
        with partfile.storage_errors(self.path):
            portable.sync_data(self._descriptor)

    def keep(self) -> None:
        """Close the file, and leave what was not published to `reopen`."""
        if self._descriptor >= 0:
            self._close()

    def discard(self) -> None:
        """Close the file, and remove what was not published."""
        if self._descriptor >= 0:
            with contextlib.suppress(OSError):
                self._part.unlink()
            self._close()

    def _reserve(self) -> None:
        needed = self._size
        try:
            portable.allocate(self._descriptor, needed)
        except OSError as error:
            if error.errno not in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
                raise
            free = shutil.disk_usage(self.path.parent).free
            raise StorageError(
                f"{self.path}: needs {format_bytes(needed)}, {format_bytes(free)} free in "
                f"{self.path.parent} ({error.strerror}); make room or choose another folder"
            ) from None

    def _write_headers(self) -> None:
        for plane in self._planes.values():
            self._write(plane.offset, plane.header_bytes())

    def _write(self, offset: int, data: bytes | memoryview) -> int:
        view = memoryview(data)
        done = 0
        while done < len(view):
            done += os.pwrite(self._descriptor, view[done:], offset + done)
        return done

    def _read_into(self, view: memoryview, offset: int) -> None:
        if portable.read_into(self._descriptor, view, offset) < len(view):
            raise OSError(errno.EIO, "the file has become shorter")

    def _sum(self, planes: Iterable[str]) -> None:
        for name in planes:
            self._sums[name] = self._behind.submit(self._datasum, self._planes[name])

    def _datasum(self, plane: Plane) -> int:
        """Return the checksum of the data of an HDU."""
        total, buffer = 0, memoryview(bytearray(SUM_BYTES))
        for start in range(plane.data_offset, plane.end, SUM_BYTES):
            block = buffer[: plane.end - start]
            self._read_into(block, start)
            total = checksums.add_words(block, total)
        return total

    def _rename(self) -> None:
        if self._overwrite:
            partfile.check_target(self.path, overwrite=True)
            self._part.replace(self.path)
            return
        try:  # a link, unlike a rename, never replaces
            self.path.hardlink_to(self._part)
        except FileExistsError:
            raise StorageError(
                f"{self.path} has appeared meanwhile; it was kept, and nothing was written"
            ) from None
        except OSError:  # a file system without hard links
            partfile.check_target(self.path, overwrite=False)
            self._part.rename(self.path)
        else:
            with contextlib.suppress(OSError):  # the file has its name; the next run cleans up
                self._part.unlink()

    def _close(self) -> None:
        self._behind.shutdown(cancel_futures=True)
        os.close(self._descriptor)
        self._descriptor = -1
