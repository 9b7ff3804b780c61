"""A lazy stack and a recipe become a lazy result: one task a cell."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from masterframe import calibrate, kernels
from masterframe import stack as stacks
from masterframe.cell import BandJob, FrameFacts, band_job, check_known, combine_band
from masterframe.combine.cells import banded, trim_rows, with_margins
from masterframe.combine.facts import facts_of, stack_scale
from masterframe.combine.result import Combined
from masterframe.combine.steps import quantisation_step
from masterframe.errors import UsageError
from masterframe.masterrows import applied
from masterframe.model import Calibration, Recipe


def combine_stack(
    stack: xr.DataArray,
    recipe: Recipe | None = None,
    calibration: Calibration | None = None,
    *,
    facts: FrameFacts | None = None,
    masks: da.Array | None = None,
    uncertainties: da.Array | None = None,
) -> Combined:
    """Combine the frames of a stack, lazily.

    Parameters
    ----------
    stack : DataArray (frame, y, x)
        Raw values in any chunks; whole frames, or a cut-out that knows its place by the
        coordinates ``y`` and ``x``.
    recipe : Recipe, optional
        How; by default values beyond 5 sigma of the median are left out and the rest averaged.
    calibration : Calibration, optional
        What is taken from the raw values first.
    facts : FrameFacts, optional
        What is known of the frames; by default from the coordinates ``time``, ``path`` and
        ``exptime`` of the stack.
    masks : dask array (frame, y, x) of bool, optional
        Values to leave out (True).
    uncertainties : dask array (frame, y, x), optional
        Standard deviations of the raw values (adu), for the rule ``varclip``, for inverse-variance
        weights and for the plane ``propagated``; by default gain and read noise tell them.

    Returns
    -------
    Combined
        Lazy planes of shape (y, x) after trimming, and the numbers per frame.

    Raises
    ------
    UsageError
        If the rule or its options are unknown or do not fit, or need what is not known; if the
        stack has not three axes, or the calibration is not of its frames.

    Examples
    --------
    >>> import masterframe as mf
    >>> stack = mf.open_stack("night/bias_*.fits")
    >>> recipe = mf.Recipe(mf.Rejection("minmax", nlow=1, nhigh=1), estimator="median")
    >>> planes = mf.combine_stack(stack, recipe).dataset
    >>> list(planes)
    ['data', 'uncert', 'mask', 'count']
    """
    recipe = recipe or Recipe()
    calibration = calibration or Calibration()
    stack = stacks.arranged(stack)
    calibration = fit_calibration(stack, calibration)
    facts = facts or facts_of(stack)
    recipe = replace(recipe, rejection=kernels.resolve_rejection(recipe.rejection))
    check_known(recipe, uncertainties=uncertainties is not None)
    data = banded(trim_rows(da.asarray(stack.data), calibration), recipe, calibration)
    row_chunks, column_chunks = data.chunks[1:]
    if calibration.trim:
        column_chunks = (calibration.kept_shape((0, 0))[1],)
    job = band_job(
        recipe,
        calibration,
        facts,
        (row_chunks, column_chunks),
        stack_scale(stack),
        above_bias=bool(stack.attrs.get("above_bias")),
    )
    blocks: list[da.Array | None] = [with_margins(data, job.spans)]
    for name, other in (("masks", masks), ("uncertainties", uncertainties)):
        if other is None:
            blocks.append(None)
            continue
        if other.shape != stack.shape:
            raise UsageError(f"the {name} have shape {other.shape}, the stack {stack.shape}")
        rows = trim_rows(other, calibration).rechunk(data.chunks)
        blocks.append(with_margins(rows, job.spans))
    bands = da.map_blocks(
        partial(_boxed_band, job=job),  # Dask would look for arrays in every frame of an argument
        *blocks,
        step=recipe.noise.step or quantisation_step(stack),
        # No axis is dropped: Dask would copy every block on the way, to join what is whole already.
        chunks=((1,), (1,) * len(row_chunks), (1,) * len(column_chunks)),
        dtype=object,
        meta=np.empty((0, 0, 0), object),
        token="mf-combine",  # the label on the dashboard
    )
    return Combined(
        bands,
        row_chunks,
        column_chunks,
        recipe,
        data.shape[0],
        unit=str(stack.attrs.get("units", "")),
        places=stacks.places(stack, calibration),
    )


def fit_calibration(stack: xr.DataArray, calibration: Calibration) -> Calibration:
    """Return the calibration of the part of the frames that a stack holds.

    Raises
    ------
    UsageError
        If it is not that of the frames.
    """
    spatial = (*applied(calibration).values(), calibration.bad_pixels)
    if not any((*calibration.overscans, calibration.trim, *calibration.bad, *spatial)):
        return calibration
    return calibrate.fitted(calibration, stacks.whole_shape(stack), stacks.part_of(stack))


def _boxed_band(
    block: NDArray[Any],
    mask: NDArray[Any] | None,
    uncertainty: NDArray[Any] | None,
    *,
    job: BandJob,
    step: float,
    block_info: Any = None,
) -> NDArray[Any]:
    """Return the `BandResult` of a block as the only item of an array (1, 1, 1), as Dask wants."""
    _, band, part = block_info[0]["chunk-location"]
    boxed = np.empty((1, 1, 1), object)
    boxed[0, 0, 0] = combine_band(block, mask, uncertainty, job, step, (band, part))
    return boxed
