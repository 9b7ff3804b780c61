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
from masterframe.cell.steps import STEP_FRAMES, STEP_ROWS, every, sampled_step, step_sample
from masterframe.errors import MasterframeError


def quantisation_step(stack: xr.DataArray) -> Any:
    """Return the smallest step between raw values, a number or Delayed; 0 where it is not known.

    BSCALE times the greatest common divisor of the differences in sampled rows: a camera of 14 bits
    that multiplies by 4 has a step of 4. A calibrated stack has that of its raw values in the
    coordinate ``step``; a cut-out of a stack from files has that of the whole frames.
    """
    if "step" in stack.coords:
        step = stack.coords["step"]
        return dask.delayed(np.max)(step.data) if step.chunks is not None else float(step.max())
    unit = stack.attrs.get("bscale", stack.dtype.kind in "iu")
    if not unit:
        return 0.0
    sample = step_sample(da.asarray(stack.data))
    names = stacks.sources_of(stack)
    if not names:
        return dask.delayed(sampled_step)(sample, float(unit))
    names = names[every(len(names), STEP_FRAMES)]
    return dask.delayed(_step_of_files)(sample, float(unit), names, stacks.whole_shape(stack))


def measured_step(stack: xr.DataArray) -> float:
    """Return the step that `quantisation_step` finds, reading its rows now."""
    step = quantisation_step(stack)
    return float(step.compute() if isinstance(step, Delayed) else step)


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
    if not step or sample.shape[1:] == (len(range(height)[every(height, STEP_ROWS)]), width):
        return step
    try:
        return sampled_step(step_sample(stacks.open_frames(names)), unit)
    except MasterframeError:
        return step
