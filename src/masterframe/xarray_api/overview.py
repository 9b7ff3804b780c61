"""A look at many large frames that reads a fraction of their bytes."""

from __future__ import annotations

from typing import Any, Literal, get_args

import dask.array as da
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from masterframe import names
from masterframe import stack as stacks
from masterframe.errors import UsageError

How = Literal["stride", "bin"]
ROWS = 64
"""Rows of an overview that one task reads: every task opens all files anew."""


def overview(stack: xr.DataArray, pixels: int, how: How, frames: int | None) -> xr.DataArray:
    """Return small images of some frames of a stack, lazily; see `StackAccessor.preview`.

    Raises
    ------
    UsageError
        If a number is less than 1, or the way is unknown.
    """
    if how not in get_args(How):
        raise UsageError(names.unknown("how", how, get_args(How)))
    for name, number in (("pixels", pixels), ("frames", frames)):
        if number is not None and number < 1:
            raise UsageError(f"{name} {number}: an overview has at least 1")
    stack = stacks.arranged(stack)
    count = len(stack)
    chosen = np.linspace(0, count - 1, min(frames or count, count)).round().astype(int)
    step = max(1, -(-max(stack.shape[1:]) // pixels))
    some = _in_tall_bands(stack.isel({stack.dims[0]: chosen}), ROWS * step)
    if how == "stride" or step == 1:
        return some[:, step // 2 :: step, step // 2 :: step]
    return _binned(some, step)


def _in_tall_bands(stack: xr.DataArray, rows: int) -> xr.DataArray:
    """Return frames on disk in chunks of so many rows; other stacks as they are."""
    if not isinstance(stack.data, stacks.FrameArray):
        return stack
    return stack.copy(data=stacks.lazy_array(stack.data.frames, rows))


def _binned(stack: xr.DataArray, step: int) -> xr.DataArray:
    """Return the mean of so many columns, of one row in so many; what is left at the edge goes."""
    columns = stack.shape[2] // step
    rows = da.asarray(stack.data)[:, step // 2 :: step, : columns * step]
    values = rows.rechunk({2: -1}).map_blocks(
        _mean_of_columns,
        step,
        chunks=(*rows.chunks[:2], (columns,)),
        dtype=np.float32,
        meta=np.empty((0, 0, 0), np.float32),
        token="mf-preview",
    )
    return stack[:, step // 2 :: step, step // 2 :: step][:, :, :columns].copy(data=values)


def _mean_of_columns(block: NDArray[Any], step: int) -> NDArray[np.float32]:
    """Return the mean of every so many neighbours along a row, of those that are numbers."""
    groups = block.reshape(*block.shape[:2], -1, step)
    if block.dtype.kind != "f":
        return np.asarray(groups.mean(axis=3), np.float32)
    valid = np.isfinite(groups)
    with np.errstate(invalid="ignore"):  # 0 / 0: no number among them
        sums = np.where(valid, groups, 0).sum(axis=3, dtype=np.float64)
        return np.asarray(sums / valid.sum(axis=3), np.float32)
