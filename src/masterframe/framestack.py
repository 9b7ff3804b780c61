"""Frames on disk as one array-like (N, y, x), and what their headers say of each of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from masterframe import fits
from masterframe.errors import FrameError
from masterframe.model import Frame, Header

FLOAT_COORDINATES = {
    "exptime": ("EXPTIME", "EXPOSURE", "EXP_TIME"),
    "temperature": ("CCD-TEMP", "CCDTEMP", "DET-TEMP", "TEMPERAT"),
}
TEXT_COORDINATES = {
    "filter": (
        *("FILTER", "FILTERS", "FILTNAM", "FILTER1", "FILTNAME", "INSFLNAM"),
        "ESO INS FILT1 NAME",
    ),
    "object": ("OBJECT", "OBJNAME", "TARGNAME", "ESO OBS TARG NAME"),
    "imagetyp": ("IMAGETYP", "IMGTYPE", "OBSTYPE", "FRAMETYP", "FRAME", "ESO DPR TYPE"),
}
"""Coordinates of `open_stack` by the keywords that are tried for each, in this order."""


@dataclass(frozen=True)
class FrameStack:
    """N frames of one shape as an array-like of shape (N, rows, columns).

    It holds no pixel and no open file, and pickles as the list of its frames. Indexing opens, reads
    and closes just the files and rows that the key selects.
    """

    frames: tuple[Frame, ...]
    """The frames, in the order of the first axis."""

    def __post_init__(self) -> None:
        """Refuse frames of different shapes."""
        first = self.frames[0]
        for frame in self.frames:
            if frame.shape != first.shape:
                raise FrameError(
                    frame.path,
                    f"its image{_called(frame)} is {frame.shape[0]} x {frame.shape[1]} (rows x "
                    f"columns), that of {first.path} {first.shape[0]} x {first.shape[1]}: leave "
                    "one of them out",
                )

    @property
    def shape(self) -> tuple[int, int, int]:
        """Frames, rows, columns."""
        return len(self.frames), *self.frames[0].shape

    @property
    def ndim(self) -> int:
        """Number of axes: 3."""
        return 3

    @cached_property
    def dtype(self) -> np.dtype[Any]:
        """Physical type that holds the values of every frame."""
        return np.result_type(*{frame.dtype for frame in self.frames})

    def __getitem__(self, key: Any) -> NDArray[Any]:
        """Read the selected values; ints drop an axis as in numpy."""
        key = key if isinstance(key, tuple) else (key,)
        key = (*key, *[slice(None)] * (3 - len(key)))
        frames, rows, columns = (
            np.arange(size)[part] for size, part in zip(self.shape, key, strict=True)
        )
        if isinstance(key[2], slice) and key[2].step in (None, 1):
            picked = self._read(np.atleast_1d(frames), np.atleast_1d(rows), key[2])
        else:
            block = self._read(np.atleast_1d(frames), np.atleast_1d(rows), slice(None))
            picked = block[:, :, np.atleast_1d(columns)]
        dropped = tuple(axis for axis, part in enumerate((frames, rows, columns)) if not part.ndim)
        return picked.squeeze(axis=dropped) if dropped else picked

    def _read(self, frames: NDArray[np.intp], rows: NDArray[np.intp], part: slice) -> NDArray[Any]:
        """Read rows of some frames; of the columns those of a slice without a step."""
        chosen = [self.frames[index] for index in frames]
        columns = range(self.shape[2])[part]
        if not chosen or not rows.size or not columns:
            return np.empty((len(chosen), rows.size, len(columns)), self.dtype)
        steps = set(np.diff(rows).tolist())
        if len(steps) < 2 and min(steps, default=1) > 0:  # a slice: each file is opened once
            step = min(steps, default=1)
            block = fits.read_stack(chosen, int(rows[0]), int(rows[-1]) + 1, step, columns)
            return block.astype(self.dtype, copy=False)
        runs = np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1)
        block = np.empty((len(chosen), rows.size, len(columns)), self.dtype)
        done = 0
        for run in runs:
            block[:, done : done + run.size] = fits.read_stack(
                chosen, int(run[0]), int(run[-1]) + 1, 1, columns
            )
            done += run.size
        return block

    def read_band(
        self, rows: range, own: range, columns: range, buffer: NDArray[Any]
    ) -> tuple[NDArray[Any], NDArray[np.uint64]]:
        """Return rows and columns of all frames, in a buffer of bytes that is large enough.

        Parameters
        ----------
        rows, columns : range
            Neighbouring ones.
        own : range
            Those of the rows that are summed.
        buffer : ndarray of uint8
            Memory that the values take: they are good as long as it is used for nothing else.

        Returns
        -------
        values : ndarray, shape (N, len(rows), len(columns))
        sums : ndarray of uint64, shape (N,), or (0,)
            Each frame's part of its DATASUM, as of `masterframe.fits.StackReader.read_summed`.
        """
        return self._reader.read_summed(rows, own, columns, buffer)

    @cached_property
    def _reader(self) -> fits.StackReader:
        return fits.StackReader(self.frames)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what can be found again."""
        return {"frames": self.frames}

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        """Name the array after what its files were at the scan, so equal stacks share tasks."""
        return (
            "masterframe-stack",
            *((f.path, f.hdu, f.plane, f.offset, f.size, f.mtime_ns) for f in self.frames),
        )


def _called(frame: Frame) -> str:
    return f" {frame.name}" if frame.hdu else ""


def tile_rows(frames: Sequence[Frame]) -> int:
    """Return the rows that bands should be multiples of, so that no tile is unpacked twice."""
    return math.lcm(*{frame.tile_rows for frame in frames})


def first_value(header: Header, keys: Sequence[str]) -> Any:
    """Return the value of the first of the keywords that the header has; None without any."""
    return next((header[key] for key in keys if header.get(key) is not None), None)


def to_number(value: Any) -> float:
    """Return a header value as a number, NaN where it is none."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")


def observation_time(header: Header) -> np.datetime64:
    """Return the start of an exposure by DATE-OBS (and TIME-OBS), in UTC; NaT where unknown."""
    text = str(header.get("DATE-OBS") or "")
    if "T" not in text and header.get("TIME-OBS"):
        text = f"{text}T{header['TIME-OBS']}"
    try:
        moment = datetime.fromisoformat(text)
        return np.datetime64(
            moment.replace(tzinfo=None) - (moment.utcoffset() or moment - moment), "ns"
        )
    except (ValueError, OverflowError):
        return np.datetime64("NaT")
