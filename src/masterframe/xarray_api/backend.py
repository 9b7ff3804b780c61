"""FITS images as lazy variables of a Dataset, read as xarray asks for parts of them."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from xarray.backends import BackendArray
from xarray.core import indexing

from masterframe import fits
from masterframe import stack as stacks
from masterframe.errors import FrameError
from masterframe.fits import masters, records
from masterframe.frameindex import numbered
from masterframe.framestack import FrameStack
from masterframe.model import Frame, Header
from masterframe.paths import expand_paths
from masterframe.xarray_api import accessors  # noqa: F401  which registers `.mf`

_LAYOUT = re.compile(
    r"SIMPLE|XTENSION|BITPIX|NAXIS\d*|EXTEND|[PG]COUNT|EXTNAME|BSCALE|BZERO|BLANK|CHECKSUM|DATASUM"
)
"""Cards that tell how pixels are stored, and nothing of what they mean."""

Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


def open_files(paths: Paths, hdu: int | str | None) -> xr.Dataset:
    """Open files as the variables of a Dataset; see `MasterframeEngine.open_dataset`."""
    scans = [fits.scan_file(path) for path in expand_paths(paths)]
    if len(scans) == 1 and hdu is None and "MFSEAL" in scans[0].hdus[0].header:
        return _master(scans[0])
    return _stack(scans, hdu)


class _LazyFrames(BackendArray):
    """N frames, or with ``index`` one of them, as xarray asks for parts of it."""

    def __init__(self, frames: Sequence[Frame], index: int | None = None) -> None:
        self.frames = tuple(frames)
        self._stack = FrameStack(self.frames)
        self._first = () if index is None else (index,)
        self.shape = self._stack.shape[len(self._first) :]
        self.dtype = self._stack.dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(
            key, self.shape, indexing.IndexingSupport.OUTER, self._read
        )

    def _read(self, key: tuple[Any, ...]) -> NDArray[Any]:
        return self._stack[*self._first, *key]


class _Pixels(xr.Variable):
    """Pixels that are lazy without Dask, and become with it what `open_stack` gives.

    xarray's own chunks would read all frames where some are chosen by a list, and would no more be
    known as what lies in the files.
    """

    def chunk(self, *args: Any, **options: Any) -> xr.Variable:  # type: ignore[override]
        chunked = super().chunk(*args, **options)
        frames = _whole_frames(self._data)
        if not frames or chunked.ndim != 3:
            return chunked
        array = stacks.lazy_array(frames, chunked.chunksizes[self.dims[1]][0])
        if array.chunks != chunked.chunks:
            return chunked
        return xr.Variable(self.dims, array, self.attrs, self.encoding)


def _whole_frames(data: Any) -> list[Frame]:
    """Return the frames that were chosen of those opened; none where rows or columns were."""
    while isinstance(data, indexing.CopyOnWriteArray | indexing.MemoryCachedArray):
        data = data.array
    if not isinstance(data, indexing.LazilyIndexedArray) or not isinstance(data.array, _LazyFrames):
        return []
    first, *rest = data.key.tuple
    if any(not isinstance(part, slice) or part != slice(None) for part in rest):
        return []
    frames = data.array.frames
    return [frames[number] for number in np.atleast_1d(np.arange(len(frames))[first])]


class _Known(xr.Variable):
    """What headers say of frames: it stays in memory where xarray cuts what was opened in chunks.

    Coordinates by which frames are grouped must not be lazy, and to xarray all is that was opened.
    """

    @property
    def _in_memory(self) -> bool:
        wrapped = isinstance(self._data, indexing.CopyOnWriteArray | indexing.MemoryCachedArray)
        return bool(wrapped or super()._in_memory)

    def to_base_variable(self) -> _Known:
        return self.copy(deep=False)


def _stack(scans: Sequence[fits.FileScan], hdu: int | str | None) -> xr.Dataset:
    """Return the images of files of one kind, a variable for each image of a file."""
    wanted = _image_names(scans[0], hdu)
    variables: dict[str, xr.Variable] = {}
    coordinates: dict[str, Any] = {}
    sizes: dict[str, int] = {}
    for name, image in wanted.items():
        images = stacks.choose_images(scans, image)
        shape = images.frames[0].shape
        dims = tuple(
            axis if sizes.setdefault(axis, size) == size else f"{axis}_{name}"
            for axis, size in zip("yx", shape, strict=True)
        )
        known = {label: _Known(*item) for label, item in images.coordinates.items()}
        variables[name] = _variable(("frame", *dims), _LazyFrames(images.frames), images.attributes)
        pixels = {dim: np.arange(size) for dim, size in zip(dims, shape, strict=True)}
        coordinates = {**known, **pixels, **coordinates}
        if len(wanted) > 1:  # each has its own HDU
            variables[name].attrs["hdu"] = image
            del coordinates["hdu"]
    dataset = xr.Dataset(variables, coordinates)
    return dataset.assign_coords(numbered(dataset.sizes["frame"]))


def _image_names(scan: fits.FileScan, hdu: int | str | None) -> dict[str, int | str | None]:
    """Return the names of variables, and by what their images are found in every file."""
    images = [item for item in scan.hdus if item.frames]
    if hdu is not None or len(images) < 2:
        return {"counts": hdu}
    names = [item.extname for item in images]
    found: dict[str, int | str | None] = {}
    for item in images:
        own = item.extname if names.count(item.extname) == 1 else ""
        found[own or (f"hdu{item.index}" if item.index else "counts")] = own or item.index
    return found


def _variable(dims: Sequence[str], array: _LazyFrames, attributes: dict[str, Any]) -> xr.Variable:
    """Return a variable that is read lazily, in full-width bands where it is cut into chunks."""
    *frames, rows, columns = array.shape
    # A power of two: xarray warns of chunks that are no multiples of those that are preferred.
    band = 1 << (min(rows, stacks.default_rows(array.frames)).bit_length() - 1)
    return _Pixels(
        dims,
        indexing.LazilyIndexedArray(array),
        attributes,
        {"preferred_chunks": dict(zip(dims, (*frames, band, columns), strict=True))},
    )


def _master(scan: fits.FileScan) -> xr.Dataset:
    """Return the planes of a master that this program wrote."""
    images = masters.find_planes(scan.path)
    headers = {item.index: item.header for item in scan.hdus}
    corners = _corners(scan.path)
    variables = {}
    coordinates: dict[str, Any] = {}
    for image, planes in images.items():
        dims = ("y", "x") if len(images) == 1 else (f"y_{image}", f"x_{image}")
        for plane, frame in planes.items():
            header = headers[frame.hdu]
            attributes = {"units": str(header["BUNIT"])} if "BUNIT" in header else {}
            name = plane if len(images) == 1 else f"{image}_{plane}"
            variables[name] = _variable(dims, _LazyFrames([frame], 0), attributes)
        corner = corners.get(image) or _corner(headers[planes["data"].hdu])
        for dim, first, size in zip(dims, corner, planes["data"].shape, strict=True):
            coordinates[dim] = np.arange(first, first + size)
    return xr.Dataset(variables, coordinates, _cards(scan.hdus[0].header))


def _corners(path: str) -> dict[str, tuple[int, int]]:
    """Return row and column of the raw frames at which each image of a master begins."""
    try:
        found = records.read_records(path)
    except FrameError:  # a calibrated frame, or a master of another version
        return {}
    return {name: (item.trim.y0, item.trim.x0) for name, item in found.items() if item.trim}


def _corner(header: Header) -> tuple[int, int]:
    """Return row and column of the raw frame at which a trimmed image begins, by its LTVn."""
    y, x = (
        -int(shift) if isinstance(shift := header.get(key), int | float) else 0
        for key in ("LTV2", "LTV1")
    )
    return y, x


def _cards(header: Header) -> dict[str, Any]:
    """Return the cards that say something; logical values as numbers, as every file format has."""
    return {
        key: int(value) if isinstance(value, bool) else value
        for key, value in header.items()
        if value is not None and not _LAYOUT.fullmatch(key)
    }
