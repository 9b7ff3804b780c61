"""The quantisation step of raw values, found in a few rows of a few frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dask
import dask.array as da
import numpy as np
import xarray as xr
from dask.delayed import Delayed
from numpy.typing import NDArray

from masterframe import stack as stacks
from masterframe.errors import MasterframeError
from masterframe.model import Frame

STEP_FRAMES, STEP_ROWS = 8, 16
"""Frames and rows a frame in which the quantisation step is looked for."""


def quantisation_step(stack: xr.DataArray, sources: Sequence[Frame] = ()) -> Any:
    """Return the smallest step between raw values, a number or Delayed; 0 where it is not known.

    BSCALE times the greatest common divisor of the differences in sampled rows: a camera of 14 bits
    that multiplies by 4 has a step of 4. A calibrated stack has that of its raw values in the
    coordinate ``step``; a cut-out of a stack from files has that of the whole frames.
    """
    if "step" in stack.coords:
        step = stack.coords["step"]
        return dask.delayed(np.max)(step.data) if step.chunks is not None else float(step.max())
    unit = sources[0].step if sources else stack.attrs.get("bscale", stack.dtype.kind in "iu")
    if not unit:
        return 0.0
    sample = _sample(da.asarray(stack.data))
    names = [] if sources else stacks.sources_of(stack)
    if not names:
        return dask.delayed(sampled_step)(sample, float(unit))
    names = names[_every(len(names), STEP_FRAMES)]
    return dask.delayed(_step_of_files)(sample, float(unit), names, stacks.whole_shape(stack))


def measured_step(stack: xr.DataArray) -> float:
    """Return the step that `quantisation_step` finds, reading its rows now."""
    step = quantisation_step(stack)
    return float(step.compute() if isinstance(step, Delayed) else step)


def _sample(data: Any) -> Any:
    """Return the frames and rows in which the quantisation step is looked for."""
    return data[_every(data.shape[0], STEP_FRAMES), _every(data.shape[1], STEP_ROWS)]


def _every(count: int, wanted: int) -> slice:
    return slice(None, None, max(1, -(-count // wanted)))


def _step_of_files(
    sample: NDArray[Any],
    unit: float,
    names: Sequence[tuple[str, int | str, int]],
    whole: tuple[int, int],
) -> float:
    """Return the step of the whole frames in some files, of which the sample is a part.

    A cut-out may hold too few values to tell; where the files are gone they have to do.
    """
    step = sampled_step(sample, unit)
    height, width = whole
    if not step or sample.shape[1:] == (len(range(height)[_every(height, STEP_ROWS)]), width):
        return step
    try:
        return sampled_step(_sample(stacks.open_frames(names)), unit)
    except MasterframeError:
        return step


def sampled_step(sample: NDArray[Any], unit: float) -> float:
    """Return ``unit`` times the greatest common divisor of all differences in the sample.

    0 where they are not multiples of the unit: the values are not those that were stored.
    """
    if sample.dtype.kind == "f":
        finite = sample[np.isfinite(sample)].astype(np.float64)
        steps = (finite - finite.min(initial=np.inf)) / unit
        rounding = np.abs(finite).max(initial=0) / unit * 4 * np.finfo(sample.dtype).eps
        whole = np.rint(steps).astype(np.int64)
        if (np.abs(steps - whole) > rounding).any():
            return 0.0
    else:
        whole = sample.astype(np.int64) - int(sample.min())
    return float(max(np.gcd.reduce(whole, axis=None), 1)) * unit
