"""Frames as one lazy array (frame, y, x) that reads from disk only the rows that are asked for."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from masterframe import cluster, fits, scratchfolder, tiling
from masterframe.errors import FrameError, UsageError
from masterframe.fits import extensions
from masterframe.fits import scratch as scratches
from masterframe.frameindex import numbered
from masterframe.framestack import (
    FLOAT_COORDINATES,
    TEXT_COORDINATES,
    FrameStack,
    first_value,
    observation_time,
    tile_rows,
    to_number,
)
from masterframe.model import Calibration, Frame, Header, Section
from masterframe.paths import expand_paths
from masterframe.readout import kept_columns

IN_WORK = 3
"""Times that values are in memory while a chunk is combined: as stored, as floats, and beside."""


def _is_all(part: Any) -> bool:
    return isinstance(part, slice) and part == slice(None)


class FrameArray(da.Array):  # type: ignore[misc]
    """Frames on disk as a Dask array (N, y, x), of which some frames are again such an array.

    Dask pushes slices into the reader, but not lists: of frames chosen by filter or time it would
    read all. Whatever else is done to it gives a plain array.
    """

    frames: tuple[Frame, ...]
    """The frames, in the order of the first axis."""

    def __getitem__(self, index: Any) -> Any:
        """Choose frames, then whatever else is asked for of them."""
        first, *rest = index if isinstance(index, tuple) else (index,)
        lists = any(isinstance(part, list | np.ndarray) for part in rest)
        if lists or not isinstance(first, slice | list | np.ndarray) or _is_all(first):
            return super().__getitem__(index)
        chosen = np.arange(len(self.frames))[first]
        if chosen.ndim != 1 or not chosen.size:
            return super().__getitem__(index)
        some = lazy_array([self.frames[number] for number in chosen], *self._cell)
        return some[(slice(None), *rest)] if rest else some

    def copy(self) -> FrameArray:
        """Return itself, which nothing changes: xarray aligns copies."""
        return self

    __copy__ = copy

    @property
    def _cell(self) -> tuple[int, int]:
        """Rows and columns of a chunk."""
        return self.chunks[1][0], self.chunks[2][0]

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel as the list of its frames."""
        return lazy_array, (self.frames, *self._cell)


def lazy_array(
    frames: Sequence[Frame], rows: int | tuple[int, ...], columns: int = -1
) -> FrameArray:
    """Return the frames as a Dask array (N, y, x) in bands of so many rows; -1: of all columns."""
    stack = FrameStack(tuple(frames))
    array = da.from_array(
        stack,
        chunks=(-1, rows, columns),
        fancy=True,  # slices are pushed into the reader (measured: one pixel reads its rows alone)
        inline_array=True,
        meta=np.empty((0, 0, 0), stack.dtype),
    )
    made = FrameArray(array.dask, array.name, array.chunks, meta=array._meta)
    made.frames = stack.frames
    return made


def open_stack(
    paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    hdu: int | str | None = None,
    *,
    rows: int | None = None,
    memory: int | str | None = None,
    scratch: str | os.PathLike[str] | None = None,
) -> xr.DataArray:
    """Open FITS images of one shape as a lazy array; only headers are read now.

    A cube stands for its planes, each a frame. Compressed files are unpacked once each, when pixels
    of them are first asked for.

    Parameters
    ----------
    paths : path or glob, or a sequence of them
        The files; a glob stands for its matches in the order of their names.
    hdu : int or str, optional
        Index or EXTNAME of the image (``SCI,2`` with its EXTVER); by default the only image of the
        sky in each file.
    rows : int, optional
        Rows of a chunk; by default as many as combine fastest and `memory` allows.
    memory : int or str, optional
        What the chunks that Dask works on at the same time may take together (bytes, or "1GB"); by
        default half of what is free now. One row of all frames is the least.
    scratch : path, optional
        Folder in which unpacked files are kept until this process ends; by default the one of the
        system for temporary files.

    Returns
    -------
    xarray.DataArray
        Dims (frame, y, x) in the physical type of the files (uint16 stays uint16), in the order
        given, with the coordinates ``path``, ``time`` (UTC), ``exptime`` (s), ``temperature``
        (degrees C), ``filter``, ``object``, ``imagetyp``, ``hdu`` and ``plane`` (of a cube, from 1;
        0 where there is none) on ``frame``, which counts from 0 and by which frames are chosen and
        not paired, and the pixels' places ``y`` and ``x``, 0-based; ``attrs['units']``, in
        ``attrs['bscale']`` the least step of stored values (0: floats), and in
        ``attrs['frame_shape']`` what a cut-out is of.

    Raises
    ------
    FrameError
        If a file is no usable FITS image, or its shape differs from the first one's.
    UsageError
        If no file matches, the HDU is not there or not clear, or the memory is no size.

    Examples
    --------
    >>> import masterframe as mf
    >>> stack = mf.open_stack("night/bias_*.fits")
    >>> stack.dims, stack.shape
    (('frame', 'y', 'x'), (5, 60, 64))
    >>> history = stack[:, 20, 30].values  # one pixel in all frames; reads their rows alone
    """
    base = None if scratch is None else Path(scratch).absolute()
    images = choose_images(fits.scan_each(expand_paths(paths)), hdu, base)
    frames = images.frames
    return xr.DataArray(
        lazy_array(frames, rows or _rows_within(frames, memory)),
        dims=("frame", "y", "x"),
        coords={
            **images.coordinates,
            "y": np.arange(frames[0].shape[0]),
            "x": np.arange(frames[0].shape[1]),
        },
        name="counts",
        attrs=images.attributes,
    ).assign_coords(numbered(len(frames)))


@dataclass(frozen=True)
class ChosenImages:
    """One image of each of some files, or the planes of a cube, with what their headers say."""

    frames: tuple[Frame, ...]
    """Where the pixels are."""
    headers: tuple[Header, ...]
    """Cards of the image over those of the primary HDU."""

    @property
    def coordinates(self) -> dict[str, Any]:
        """What is known of each frame, as coordinates on ``frame``."""
        found = coordinates(self.headers)
        found["path"] = ("frame", np.array([frame.path for frame in self.frames]))
        found["hdu"] = ("frame", np.array([frame.hdu for frame in self.frames]))
        found["plane"] = ("frame", np.array([frame.plane for frame in self.frames]))
        return found

    @property
    def attributes(self) -> dict[str, Any]:
        """Unit, least step of stored values, and the shape that a cut-out is of."""
        return {
            "units": str(self.headers[0].get("BUNIT") or "adu"),
            "bscale": self.frames[0].step,
            "frame_shape": list(self.frames[0].shape),
        }


def coordinates(headers: Sequence[Header]) -> dict[str, Any]:
    """Return what headers say of their frames, as coordinates on ``frame``."""
    times = [observation_time(header) for header in headers]
    found: dict[str, NDArray[Any]] = {"time": np.array(times, "datetime64[ns]")}
    for name, keys in FLOAT_COORDINATES.items():
        numbers = [to_number(first_value(header, keys)) for header in headers]
        found[name] = np.array(numbers, float)
    for name, keys in TEXT_COORDINATES.items():
        texts = [str(first_value(header, keys) or "") for header in headers]
        found[name] = np.array(texts)
    return {name: ("frame", values) for name, values in found.items()}


def choose_images(
    scans: Sequence[fits.FileScan], hdu: int | str | None, scratch: Path | None = None
) -> ChosenImages:
    """Choose one image of each file, by the index or name of its HDU; of a cube all planes.

    Parameters
    ----------
    scans : sequence of FileScan
        The files.
    hdu : int or str, optional
        Index or EXTNAME; by default the only image of each file.
    scratch : Path, optional
        Folder for plain copies of compressed files; by default that for temporary files.

    Raises
    ------
    FrameError
        If a file holds no image.
    UsageError
        If the HDU is not there or not clear.
    """
    chosen = [choose_image(scan, hdu) for scan in scans]
    return ChosenImages(
        with_copies([frame for image in chosen for frame in image.frames], scratch),
        tuple(
            {**scan.hdus[0].header, **image.header}
            for scan, image in zip(scans, chosen, strict=True)
            for _ in image.frames
        ),
    )


def arranged(stack: xr.DataArray) -> xr.DataArray:
    """Return a stack of Dask with its axes in the order frame, y, x, whatever the first is called.

    Raises
    ------
    UsageError
        If it has not three axes.
    """
    if stack.ndim != 3:
        raise UsageError(
            f"a stack has the axes frame, y and x, this array has {tuple(stack.dims)}: "
            "choose frames with a slice, and not with a number"
        )
    if {"y", "x"} < set(stack.dims):
        stack = stack.transpose(..., "y", "x")
    if stack.chunks is not None:
        return stack
    bands = stack.encoding.get("preferred_chunks", {})  # where it is lazy without Dask
    return stack.chunk({name: rows for name, rows in bands.items() if name in stack.dims})


def on_frames(stack: xr.DataArray, name: str) -> NDArray[Any] | None:
    """Return the values of a coordinate for each frame; None where the stack has none."""
    if name not in stack.coords or stack.coords[name].dims != stack.dims[:1]:
        return None
    return np.asarray(stack.coords[name].values)


def whole_shape(stack: xr.DataArray) -> tuple[int, int]:
    """Return rows and columns of the frames that a stack is of; those of the stack by itself."""
    rows, columns = stack.attrs.get("frame_shape", stack.shape[1:])
    return int(rows), int(columns)


def places(
    stack: xr.DataArray, calibration: Calibration | None = None
) -> dict[str, NDArray[np.intp]]:
    """Return the rows ``y`` and columns ``x`` of the whole frames that a stack holds.

    Parameters
    ----------
    stack : DataArray (frame, y, x)
        Empty is returned of one that does not tell.
    calibration : Calibration, optional
        What is kept of it.
    """
    trim = calibration.trim if calibration else None
    kept: dict[str, Any] = {"y": slice(None), "x": slice(None)}
    if calibration and trim:
        kept = {
            "y": slice(trim.y0, trim.y1),
            "x": kept_columns(calibration, int(stack.shape[2])),
        }
    known = {
        name: stack.coords[name].values[part]
        for name, part in kept.items()
        if name in stack.coords and stack.coords[name].dims == (name,)
    }
    whole_numbers = len(known) == 2 and all(axis.dtype.kind in "iu" for axis in known.values())
    return known if whole_numbers else {}


def part_of(stack: xr.DataArray) -> Section | None:
    """Return where a cut-out lies in the whole frames; None: it is no cut-out, or does not tell.

    Raises
    ------
    UsageError
        If rows or columns between its first and last are left out.
    """
    held = places(stack)
    if not held or whole_shape(stack) == stack.shape[1:]:
        return None
    bounds = {}
    for name, axis in held.items():
        first = int(axis[0]) if axis.size else 0
        bounds[name] = (first, first + axis.size)
        if not np.array_equal(axis, np.arange(*bounds[name])):
            raise UsageError(
                f"the stack leaves out some places along {name}, and cannot be calibrated: take "
                "neighbours, or calibrate first and choose then"
            )
    return Section(*bounds["y"], *bounds["x"])


def sources_of(stack: xr.DataArray) -> list[tuple[str, int | str, int]]:
    """Return file, HDU and plane of each frame as the stack tells them; empty: it does not."""
    paths, hdus = on_frames(stack, "path"), on_frames(stack, "hdu")
    if paths is None or (hdus is None and "hdu" not in stack.attrs):
        return []
    planes = on_frames(stack, "plane")
    return [
        (
            str(path),
            stack.attrs["hdu"] if hdus is None else int(hdus[index]),
            0 if planes is None else int(planes[index]),
        )
        for index, path in enumerate(paths)
    ]


def frame_at(scan: fits.FileScan, hdu: int | str, plane: int) -> Frame:
    """Return the frame that a stack names by file, HDU and plane.

    Raises
    ------
    FrameError
        If the file has no such frame any more.
    """
    for frame in choose_image(scan, hdu).frames:
        if frame.plane == plane:
            return frame
    raise FrameError(scan.path, f"it has no plane {plane} in HDU {hdu} any more")


def open_frames(names: Sequence[tuple[str, int | str, int]]) -> FrameStack:
    """Return the frames that a stack names, to read of them what is wanted.

    Raises
    ------
    FrameError
        If a file is no usable image any more.
    """
    scans = {path: fits.scan_file(path) for path in dict.fromkeys(path for path, *_ in names)}
    return FrameStack(
        with_copies([frame_at(scans[path], hdu, plane) for path, hdu, plane in names])
    )


def with_copies(frames: Sequence[Frame], base: Path | None = None) -> tuple[Frame, ...]:
    """Return frames that are read from plain copies, where they are compressed or in tall tiles.

    Parameters
    ----------
    frames : sequence of Frame
        From scans.
    base : Path, optional
        Folder in which a scratch folder is made that lasts as long as this process; by default the
        one for temporary files.
    """
    rows = default_rows(frames)
    if not any(frame.packing or frame.tile_rows > rows for frame in frames):
        return tuple(frames)
    folder = scratchfolder.lasting_folder(base)
    return tuple(
        scratches.in_folder(frame, folder, untiled=frame.tile_rows > rows) for frame in frames
    )


def default_rows(frames: Sequence[Frame]) -> int:
    """Return the band height that is fastest for these frames where memory is no concern."""
    work = tiling.Work(
        n_frames=len(frames),
        shape=frames[0].shape,
        itemsize=np.dtype(frames[0].dtype).itemsize,
        scratch_bytes=0,
        master_bytes=0,
        plane_bytes=16,
        tile_rows=tile_rows(frames),
    )
    return tiling.plan_bands(work, memory=1 << 62, reserved=0, workers=2).rows


def _rows_within(frames: Sequence[Frame], memory: int | str | None) -> int:
    """Return how many rows a chunk has, so that one for each processor fits in the memory."""
    free = cluster.available_memory() // 2 if memory is None else _bytes(memory)
    row = len(frames) * frames[0].shape[1] * np.dtype(frames[0].dtype).itemsize * IN_WORK
    return max(1, min(default_rows(frames), free // (row * cluster.available_cores())))


def _bytes(memory: int | str) -> int:
    try:
        return tiling.parse_bytes(memory) if isinstance(memory, str) else memory
    except ValueError as error:
        raise UsageError(f"memory: {error}") from None


def choose_image(scan: fits.FileScan, hdu: int | str | None) -> fits.HduScan:
    """Return the one HDU that holds the image asked for.

    Raises
    ------
    UsageError
        If it is not there, or several images could be meant.
    FrameError
        If the file holds no image.
    """
    found = extensions.choose(scan, hdu)
    if len(found) > 1:
        names = ", ".join(f"{item.index} {name}" for name, item in found.items())
        raise UsageError(f"{scan.path} holds {len(found)} images ({names}): name one")
    (image,) = found.values()
    return image
