"""Rows of several frames side by side: one array, one read a frame."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from masterframe import kernels
from masterframe.errors import FrameError
from masterframe.fits.read import check_rows, counter, flips_sign, holds_stored, read_into
from masterframe.model import Frame, Scaling

Array = NDArray[Any]


class StackReader:
    """Reads rows of N frames; what is the same for all rows is found out once.

    It keeps no file open. Plain files are read by one call for all of them; those that it cannot
    read at once, and all others, one by one.

    Parameters
    ----------
    frames : sequence of Frame
        N frames of one width; at least one.

    Raises
    ------
    FrameError
        If one differs in width.
    """

    def __init__(self, frames: Sequence[Frame]) -> None:
        first = frames[0]
        for frame in frames:
            if frame.shape[1] != first.shape[1]:
                raise FrameError(
                    frame.path,
                    f"it is {frame.shape[1]} pixels wide, {first.path} is {first.shape[1]}: leave "
                    "one out",
                )
        self._frames = frames
        self._dtype = np.result_type(*{frame.dtype for frame in frames})
        self._lowest = min(frames, key=lambda frame: frame.shape[0])
        alike = all(frame.dtype == self._dtype for frame in frames)
        self._sums = alike and all(map(_is_summed, frames))
        self._files = _files(frames) if alike else None

    def read(self, rows: range, columns: range | None = None, buffer: Array | None = None) -> Array:
        """Read the same rows of all frames.

        Parameters
        ----------
        rows : range
            Rising.
        columns : range, optional
            Neighbouring columns that are read; by default all.
        buffer : ndarray of uint8, optional
            Memory that the result may take, contiguous, of as many bytes or more.

        Returns
        -------
        ndarray, shape (N, len(rows), len(columns))
            In the type of the frames; where they differ, in ``numpy.result_type`` of them, which
            holds every value but those beyond 2**53 where 64 bit integers meet floats or the other
            sign.

        Raises
        ------
        FrameError
            If a file has changed since its scan, is gone, or cannot be read.
        ValueError
            If a frame has no such rows.
        """
        return self.read_summed(rows, range(0), columns, buffer)[0]

    def read_summed(
        self,
        rows: range,
        own: range,
        columns: range | None = None,
        buffer: Array | None = None,
    ) -> tuple[Array, NDArray[np.uint64]]:
        """Read the same rows of all frames, and sum what is stored for some while they are read.

        Parameters
        ----------
        rows, columns, buffer
            As for `read`.
        own : range
            Neighbouring ones of the rows: those that are summed.

        Returns
        -------
        values : ndarray, shape (N, len(rows), len(columns))
            As of `read`.
        sums : ndarray of uint64, shape (N,), or (0,)
            Each frame's part of its DATASUM (`masterframe.kernels.datasum_parts`): added over all
            rows and folded to 32 bits they are `masterframe.fits.datasum`. Of size 0 where the
            values are not summed as they are stored (scaled or tile-compressed frames, frames of
            several types), or do not lie side by side in the files.

        Raises
        ------
        FrameError, ValueError
            As by `read`.
        """
        check_rows(self._lowest, rows.start, rows.stop)
        columns = range(self._frames[0].shape[1]) if columns is None else columns
        shape = len(self._frames), len(rows), len(columns)
        if buffer is None:
            out = np.empty(shape, self._dtype)
        else:
            out = buffer[: math.prod(shape) * self._dtype.itemsize].view(self._dtype).reshape(shape)
        summed = range((own.start - rows.start) * shape[2], (own.stop - rows.start) * shape[2])
        sums = self._fill(rows, columns, out, summed if len(own) else range(0))
        side_by_side = len(own) < 2 or (shape[2] == self._frames[0].shape[1] and rows.step == 1)
        if not (self._sums and side_by_side):
            return out, np.zeros(0, np.uint64)
        first = own.start * self._frames[0].row_bytes + columns.start * out.itemsize
        return out, kernels.datasum_parts(sums, first)

    def _fill(
        self, rows: range, columns: range, out: Array, summed: range
    ) -> NDArray[np.uint64]:  # fmt: skip
        """Read into an array; return sums of neighbouring values, counted from each frame's."""
        if not out.size:
            return np.zeros(len(out), np.uint64)
        done, sums = self._read_at_once(rows, columns, out, summed)
        for index in np.flatnonzero(~done).tolist():
            frame, place = self._frames[index], out[index]
            if frame.dtype == self._dtype:
                sums[index] = read_into(frame, rows, columns, place, summed)
            else:
                own = np.empty(place.shape, frame.dtype)
                read_into(frame, rows, columns, own)
                place[...] = own
        return sums

    def _read_at_once(
        self, rows: range, columns: range, out: Array, summed: range
    ) -> tuple[NDArray[np.bool_], NDArray[np.uint64]]:
        """Read what can be by one call; return which frames are done, and the sums of those."""
        if self._files is None:
            return np.zeros(len(out), np.bool_), np.zeros(len(out), np.uint64)
        first, size = self._frames[0], out.itemsize
        whole = len(columns) == first.shape[1] and rows.step == 1
        runs = kernels.Runs(
            first=rows.start * first.row_bytes + columns.start * size,
            stride=rows.step * first.row_bytes,
        )
        parts = out.view(f"u{size}").reshape(len(out), 1 if whole else len(rows), -1)
        flip = 1 << (8 * size - 1) if flips_sign(first) else 0
        done, sums = kernels.read_runs(self._files, runs, parts, flip, summed)
        counter.add(out[0].nbytes * int(done.sum()))
        return done, sums


def read_stack(
    frames: Sequence[Frame],
    y0: int,
    y1: int,
    step: int = 1,
    columns: range | None = None,
) -> Array:
    """Read the same rows of several frames into one array, as `StackReader` does.

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

    Returns
    -------
    ndarray, shape (N, len(range(y0, y1, step)), len(columns))

    Raises
    ------
    FrameError
        If a file has changed since its scan, is gone, cannot be read, or differs in width.
    ValueError
        If a frame has no such rows.
    """
    for frame in frames:
        check_rows(frame, y0, y1)
    return StackReader(frames).read(range(y0, y1, step), columns)


def _files(frames: Sequence[Frame]) -> Any:
    """Return frames that are alike as `masterframe.kernels` reads them; None where it cannot."""
    first = frames[0]
    if sys.platform != "linux" or not all(
        _is_plain(frame) and frame.bitpix == first.bitpix and frame.scaling == first.scaling
        for frame in frames
    ):
        return None
    if not kernels.reads_files():
        return None
    return kernels.files(
        [frame.path for frame in frames],
        [frame.size for frame in frames],
        [frame.mtime_ns for frame in frames],
        [frame.offset for frame in frames],
    )


def _is_plain(frame: Frame) -> bool:
    """Return whether the values of a frame are words of its file, but for the order of bytes."""
    unscaled = frame.bitpix > 0 or frame.scaling == Scaling()
    packed = frame.tiles is not None or frame.packing is not None
    return unscaled and holds_stored(frame) and not packed and "\0" not in frame.path


def _is_summed(frame: Frame) -> bool:
    """Return whether the stored bytes of each value are those of the data unit, and summed."""
    unscaled = frame.bitpix > 0 or frame.scaling == Scaling()
    return unscaled and holds_stored(frame) and frame.tiles is None
