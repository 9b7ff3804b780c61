"""Cells of frames on disk: each is read and combined by one call, which needs no graph."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

from masterframe import kernels
from masterframe.cell import spare
from masterframe.cell.band import BandJob, combine_band
from masterframe.cell.facts import FrameFacts, check_facts, is_above_bias
from masterframe.cell.spans import band_spans
from masterframe.framestack import FrameStack
from masterframe.model import BandResult, Calibration, Recipe
from masterframe.tiling import Tiling


def band_job(
    recipe: Recipe,
    calibration: Calibration,
    facts: FrameFacts,
    chunks: tuple[Sequence[int], Sequence[int]],
    scale: tuple[float, ...] = (),
    *,
    above_bias: bool = False,
) -> BandJob:
    """Return what is the same for every cell of a combination.

    Parameters
    ----------
    recipe : Recipe
        How; with all that its rejection leaves to the rule filled in.
    calibration : Calibration
        What is taken from the raw values first.
    facts : FrameFacts
        What is known of the frames.
    chunks : (sequence of int, sequence of int)
        Rows of each band, and columns of each part of a row, after trimming.
    scale : tuple of float
        Factor of each frame by which its values were multiplied before; empty for 1.
    above_bias : bool
        Whether the values were counted from the bias before.

    Raises
    ------
    UsageError
        If exposure times or weights are not known that the recipe needs.
    """
    check_facts(recipe, facts)
    rows, columns = chunks
    return BandJob(
        recipe=recipe,
        calibration=calibration,
        facts=facts,
        scale=calibration.scale or scale,
        above_bias=is_above_bias(calibration) or above_bias,
        spans=band_spans(rows, math.floor(recipe.rejection.grow or 0)),
        columns=tuple(np.cumsum((0, *columns)).tolist()),
    )


def chunks_of(
    heights: Sequence[int], tiling: Tiling, shape: tuple[int, int], calibration: Calibration
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return rows of each band and columns of each part of a row, of what is left by trimming.

    Parameters
    ----------
    heights : sequence of int
        Rows of each band of the whole frames: they begin where tiles of compressed ones do.
    tiling : Tiling
        How rows are cut.
    shape : (int, int)
        Rows and columns of the whole frames.
    calibration : Calibration
        What trims them.
    """
    trim, (height, width) = calibration.trim, shape
    y0, y1 = (trim.y0, trim.y1) if trim else (0, height)
    bounds = [(max(y0, a), min(y1, b)) for a, b in pairwise(accumulate(heights, initial=0))]
    rows = tuple(last - first for first, last in bounds if last > first)
    if trim:
        return rows, (calibration.kept_shape(shape)[1],)
    return rows, tuple(min(tiling.columns, width - x0) for x0 in range(0, width, tiling.columns))


def places_of(job: BandJob, first: int = 0) -> list[tuple[int, int]]:
    """Return the cells from a band on, in the order of rows, then columns."""
    bands, parts = range(first, len(job.spans)), range(len(job.columns) - 1)
    return [(band, part) for band in bands for part in parts]


def combine_cells(
    values: FrameStack,
    uncertainties: FrameStack | None,
    job: BandJob,
    places: Sequence[tuple[int, int]],
) -> list[BandResult]:
    """Combine some cells, one after the other; the function of every ``mf-combine`` task.

    Parameters
    ----------
    values, uncertainties, job
        As for `combine_cell`.
    places : sequence of (int, int)
        Which cells.
    """
    return [combine_cell(values, uncertainties, job, place) for place in places]


def combine_cell(
    values: FrameStack, uncertainties: FrameStack | None, job: BandJob, place: tuple[int, int]
) -> BandResult:
    """Read a cell of frames on disk and combine it.

    Parameters
    ----------
    values : FrameStack
        The frames, (N, y, x) as stored.
    uncertainties : FrameStack of the same shape, or None
        Standard deviations of the raw values (adu).
    job : BandJob
        What is the same for every cell; its recipe gives the quantisation step.
    place : (int, int)
        Which band, and which part of its rows.
    """
    band, part = place
    span, trim = job.spans[band], job.calibration.trim
    first = span.row0 + (trim.y0 if trim else 0)
    own = range(first, first + span.rows)
    rows = range(own.start - span.above, own.stop + span.below)
    columns = range(*job.columns[part : part + 2])
    if trim:  # the overscan is beside it
        columns = range(values.shape[2])
    sigma = None
    if uncertainties is not None:
        sigma = uncertainties[:, rows.start : rows.stop, columns.start : columns.stop]
    size = len(values.frames) * len(rows) * len(columns) * values.dtype.itemsize
    block, sums = values.read_band(rows, own, columns, spare.empty((size,), np.uint8))
    step = job.recipe.noise.step or 0.0
    result = combine_band(block, None, sigma, job, step, place, spare.empty)
    return replace(result, datasum=sums)


def rehearse(dtype: np.dtype[Any], recipe: Recipe, *, calibrates: bool) -> None:
    """Compile or load in this process what combining values of a type will run.

    Parameters
    ----------
    dtype : dtype
        Type of the raw values.
    recipe : Recipe
        How they are combined.
    calibrates : bool
        Whether values are changed before they are combined.
    """
    spare.give_back()  # of another image: its bands may have been larger
    count, neutral = 5, np.ones(5)
    kernels.combine_block(
        np.arange(count * 4).reshape(count, 2, 2).astype(dtype),
        kernels.LoadTerms(scale=neutral) if calibrates else kernels.LoadTerms(),
        recipe,
        kernels.Floor(),
        np.arange(count),
        np.dtype(recipe.dtype),
        frames=kernels.FrameTerms(
            noise=np.arange(count * 3.0).reshape(count, 3), weights=neutral, exptime=neutral
        ),
    )
