"""The frames that a script gives, as files or `CCDData`: their values and masks, band by band."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from astropy.nddata import CCDData
from numpy.typing import NDArray

from masterframe import fits
from masterframe.compat.refusals import ArgumentError, ArgumentTypeError
from masterframe.fits.scan import FileScan, HduScan
from masterframe.framestack import FrameStack, observation_time, tile_rows
from masterframe.model import Frame, Header
from masterframe.stack import with_copies

Array = NDArray[Any]
Item: TypeAlias = CCDData | str | os.PathLike[str]
_NO_MASK: Array = np.zeros((0, 0, 0), np.bool_)
_LAZY = {"unit", "hdu", "hdu_mask", "hdu_uncertainty", "hdu_flags", "hdu_psf"}
_LAZY |= {"key_uncertainty_type", "memmap", "format"}
"""Options of the reader that do not change values, so that this package may read them itself."""


@dataclass(frozen=True)
class Frames:
    """N frames of one shape, in canonical order."""

    values: FrameStack | Held
    """Their values, whole rows at a time."""
    masks: tuple[Array | Frame | None, ...]
    """The mask of each, in memory or in a file; non-zero is masked."""
    order: tuple[int, ...]
    """Where each of them stood in the list that was given."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Frames, rows, columns."""
        return self.values.shape

    @property
    def itemsize(self) -> int:
        """Bytes of a value."""
        return self.values.dtype.itemsize

    @property
    def in_memory(self) -> bool:
        """Whether values are held, not read."""
        return isinstance(self.values, Held)

    @property
    def tile_rows(self) -> int:
        """Rows that are unpacked together."""
        return tile_rows(self.values.frames) if isinstance(self.values, FrameStack) else 1

    def read(self, y0: int, y1: int) -> tuple[Array, Array]:
        """Return rows of the values, and of the masks: where True, or of size 0 without any."""
        values = self.values[:, y0:y1]
        if all(mask is None for mask in self.masks):
            return values, _NO_MASK
        masks = np.zeros(values.shape, np.bool_)
        for rows, mask in zip(masks, self.masks, strict=True):
            if isinstance(mask, Frame):
                rows[:] = fits.read_rows(mask, y0, y1) != 0
            elif mask is not None:
                rows[:] = mask[y0:y1]
        return values, masks

    def whole(self, given: int) -> Array:
        """Return all values of one frame, by its place in the list that was given."""
        index = self.order.index(given)
        (values,) = self.values[index : index + 1, 0 : self.shape[1]]
        return np.asarray(values)


@dataclass(frozen=True, eq=False)
class Held:
    """The values of frames that are in memory, as an array-like (N, rows, columns)."""

    arrays: tuple[Array, ...]
    """The values of each."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Frames, rows, columns."""
        rows, columns = self.arrays[0].shape
        return len(self.arrays), rows, columns

    @cached_property
    def dtype(self) -> np.dtype[Any]:
        """The type that holds the values of every frame, in native byte order."""
        return np.result_type(*{array.dtype for array in self.arrays}).newbyteorder("=")

    def __getitem__(self, key: tuple[slice, slice]) -> Array:
        """Return rows of frames in one block."""
        frames, rows = key
        blocks = [array[rows] for array in self.arrays[frames]]
        return np.stack(blocks).astype(self.dtype, copy=False)


def list_of(given: Any) -> list[Item]:
    """Return what was given as a list of frames.

    Raises
    ------
    ArgumentError
        If it is none, or empty.
    ArgumentTypeError
        If an item is neither a file nor a `CCDData`.
    """
    if isinstance(given, str | os.PathLike):
        text = os.fspath(given)
        return [name.strip() for name in text.split(",")] if isinstance(given, str) else [text]
    if isinstance(given, CCDData):
        return [given]
    try:
        items = given.tolist() if isinstance(given, np.ndarray) else list(given)
    except TypeError:
        raise ArgumentError(
            f"unrecognised input for list of images to combine: {given!r} is neither a list of "
            "files or CCDData nor a text of names with commas"
        ) from None
    if not items:
        raise ArgumentError("unrecognised input for list of images to combine: it is empty")
    for item in items:
        if not isinstance(item, CCDData | str | os.PathLike):
            raise ArgumentTypeError(f"{item!r} is neither the name of a file nor a CCDData")
    return items


def read_whole(item: Item, reader: Mapping[str, Any]) -> CCDData:
    """Return a frame as astropy reads it; itself where it is in memory."""
    return item if isinstance(item, CCDData) else CCDData.read(item, **reader)


def open_frames(items: Sequence[Item], template: CCDData, reader: Mapping[str, Any]) -> Frames:
    """Return the frames of a list: files band by band where that gives what astropy reads.

    Parameters
    ----------
    items : sequence
        Files and `CCDData`.
    template : CCDData
        The first of them.
    reader : mapping
        Options of `astropy.nddata.fits_ccddata_reader`.

    Raises
    ------
    ArgumentTypeError
        If units or shapes differ.
    FileNotFoundError
        If a file is not there.
    FrameError
        If a file is damaged, or no FITS file.
    """
    if template.data.ndim != 2:
        raise ArgumentTypeError(
            f"frames have rows and columns; the first has shape {template.shape}"
        )
    paths = [os.path.abspath(item) for item in items if not isinstance(item, CCDData)]  # noqa: PTH100
    if len(paths) == len(items) and set(reader) <= _LAZY:
        found = [_find(path, reader) for path in paths]
        files = [item for item in found if item is not None]
        if len(files) == len(items):
            return _opened(files, template, reader)
    return _held([read_whole(item, reader) for item in items], template)


@dataclass(frozen=True)
class _File:
    """A file with the image and the mask that are read of it."""

    frame: Frame
    mask: Frame | None
    header: Header


def _find(path: str, reader: Mapping[str, Any]) -> _File | None:
    """Return what `CCDData.read` would read of a file; None where astropy must say."""
    Path(path).stat()  # a file that is missing is the error that scripts know
    scan = fits.scan_file(path)
    image = _image_of(scan, reader.get("hdu", 0))
    if image is None or image.frame is None:
        return None
    mask = _named(scan, reader.get("hdu_mask", "MASK"))
    if mask is not None and mask.frame is None:
        return None
    header = {**scan.hdus[0].header, **image.header}
    return _File(image.frame, mask.frame if mask else None, header)


def _image_of(scan: FileScan, hdu: object) -> HduScan | None:
    first = scan.hdus[0]
    if hdu == 0 and first.frame is None and not first.reason:
        return next((item for item in scan.hdus if item.frame), None)
    if isinstance(hdu, int):
        return next((item for item in scan.hdus if item.index == hdu), None)
    return _named(scan, hdu)


def _named(scan: FileScan, name: object) -> HduScan | None:
    """Return the first HDU of a name; None without one, or where no name is given."""
    wanted = name.upper() if isinstance(name, str) else None
    return next((item for item in scan.hdus if item.extname.upper() == wanted), None)


def _opened(files: Sequence[_File], template: CCDData, reader: Mapping[str, Any]) -> Frames:
    first = files[0].header.get("BUNIT")
    for file in files:
        path = file.frame.path
        _check_shape(path, file.frame.shape, template)
        if file.mask is not None:
            _check_shape(f"the mask of {path}", file.mask.shape, template)
        if "unit" not in reader and file.header.get("BUNIT") != first:
            _check_unit(path, CCDData.read(path, **reader), template)
    order = sorted(range(len(files)), key=lambda index: _canonical(files[index]))
    chosen = [files[index] for index in order]
    frames = [file.frame for file in chosen]
    return Frames(
        FrameStack(with_copies(frames)),
        tuple(file.mask for file in chosen),
        tuple(order),
    )


def _canonical(file: _File) -> tuple[Any, ...]:
    """Return what orders files whatever the order given: time, then name."""
    path = file.frame.path
    return observation_time(file.header).view("i8"), Path(path).name, path


def _held(frames: Sequence[CCDData], template: CCDData) -> Frames:
    for number, frame in enumerate(frames, 1):
        _check_shape(f"frame {number}", frame.shape, template)
        _check_unit(f"frame {number}", frame, template)
    return Frames(
        Held(tuple(np.asarray(frame.data) for frame in frames)),
        tuple(None if f.mask is None else np.broadcast_to(f.mask, f.shape) for f in frames),
        tuple(range(len(frames))),
    )


def _check_shape(name: str, shape: tuple[int, ...], template: CCDData) -> None:
    if tuple(shape) != tuple(template.shape):
        raise ArgumentTypeError(
            f"{name} has shape {tuple(shape)}, the first frame {tuple(template.shape)}: "
            "CCDData objects are not the same size"
        )


def _check_unit(name: str, frame: CCDData, template: CCDData) -> None:
    if frame.unit != template.unit:
        raise ArgumentTypeError(
            f"{name} has the unit {frame.unit}, the first frame {template.unit}: "
            "CCDData objects don't have the same unit"
        )
