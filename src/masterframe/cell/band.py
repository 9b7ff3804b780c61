"""What one task does: combine one cell, and count what became of its values."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from masterframe import calibrate, kernels
from masterframe.cell.facts import FrameFacts
from masterframe.cell.noise import noise_floor, noise_terms, shared_rounding
from masterframe.cell.parts import Cell, Part, joined
from masterframe.cell.planes import plane_names
from masterframe.cell.spans import BandSpan, whole_rows
from masterframe.masterrows import MasterRows
from masterframe.model import BandResult, Calibration, FrameCounts, MaskBit, Noise, Recipe
from masterframe.readout import trim_columns
from masterframe.tiling import PART
from masterframe.variance import scaled_uncertainty, shared_variance


@dataclass(frozen=True)
class BandJob:
    """What is the same for every band."""

    recipe: Recipe
    calibration: Calibration
    facts: FrameFacts
    scale: tuple[float, ...]
    above_bias: bool
    spans: tuple[BandSpan, ...]
    columns: tuple[int, ...]
    """First column of each part of a row, and the one after the last."""


def combine_band(
    block: NDArray[Any],
    mask: NDArray[Any] | None,
    uncertainty: NDArray[Any] | None,
    job: BandJob,
    step: float,
    place: tuple[int, int],
    empty: kernels.Empty = np.empty,
) -> BandResult:
    """Combine one cell.

    Parameters
    ----------
    block : array (N, rows, raw columns)
        Raw values, the margins of the band among them.
    mask : array of the same shape, bool, or None
        Values to leave out.
    uncertainty : array of the same shape, or None
        Standard deviations of the raw values (adu).
    job : BandJob
        What is the same for every band.
    step : float
        Quantisation step (adu).
    place : (int, int)
        Which band, and which part of its rows.
    empty : callable
        Makes the arrays of the result.
    """
    band, part = place
    span, x0, x1 = job.spans[band], *job.columns[part : part + 2]
    calibration, rows = job.calibration, range(span.row0, span.row0 + span.rows)
    held = range(rows.start - span.above, rows.stop + span.below)
    cell = Cell(block, mask, uncertainty, span, MasterRows(calibration, held))
    made = joined(
        [
            joined(
                [
                    _combine_rows(cell, strip, part, _with_noise(job, noise), step, empty)
                    for part, noise in calibrate.noise_parts(
                        calibration, strip, rows, job.recipe.noise
                    )
                ],
                axis=0,
            )
            for strip in calibrate.strips_of(calibration, slice(x0, x1))
        ],
        axis=1,
    )
    return BandResult(
        row0=span.row0,
        column0=x0,
        planes=made.planes,
        frames=FrameCounts(*made.counts),
        frame_sums=made.frame_sums,
        half_sums=made.half_sums,
        datasum=np.zeros(0, np.uint64),
    )


def _with_noise(job: BandJob, noise: Noise) -> BandJob:
    if noise is job.recipe.noise:
        return job
    return replace(job, recipe=replace(job.recipe, noise=noise))


def _combine_rows(
    cell: Cell, strip: slice, part: slice, job: BandJob, step: float, empty: kernels.Empty
) -> Part:
    """Combine some rows of a cell, counted from its first without margin, and columns of it."""
    cell = cell.lines(part, math.floor(job.recipe.rejection.grow or 0))
    calibration, span = job.calibration, cell.span
    terms = calibrate.load_terms(cell.block, cell.masters, job.recipe, cell.mask, columns=strip)
    raw = trim_columns(cell.block, calibration)
    if calibration.amplifiers:
        raw = raw[:, :, strip]
    sigma = None
    if cell.uncertainty is not None:
        sigma = trim_columns(cell.uncertainty, calibration)
        sigma = sigma[:, :, strip] if calibration.amplifiers else sigma
    recipe = job.recipe
    result = kernels.combine_block(
        raw,
        terms,
        recipe,
        noise_floor(recipe.noise, step, job.scale, job.above_bias),
        np.asarray(job.facts.rank),
        np.dtype(recipe.dtype),
        frames=frame_terms(job, sigma, strip, cell.masters),
        margin=(span.above, span.below),
        part=None if whole_rows(recipe, calibration) else PART,
        empty=empty,
    )
    bad = terms.bad[span.above : span.above + span.rows]
    return Part(
        _planes(result, strip, cell.without_margins(), bad, job, step, empty),
        (result.kept, result.rej_low, result.rej_high, result.missing),
        result.frame_sums,
        result.half_sums,
    )


def frame_terms(
    job: BandJob, uncertainty: NDArray[Any] | None, columns: slice, masters: MasterRows
) -> kernels.FrameTerms:
    """Return what the kernel needs to know of the frames besides their pixels.

    Parameters
    ----------
    job : BandJob
        What is the same for every band.
    uncertainty : array (N, rows, columns), or None
        Standard deviations of the raw values (adu); they take the place of gain and read noise.
    columns : slice
        Columns of the uncertainties in the trimmed image.
    masters : MasterRows
        What is applied in their rows.
    """
    facts, recipe = job.facts, job.recipe
    by_frame = recipe.weighting == "frames"
    terms = kernels.FrameTerms(
        weights=np.asarray(facts.weights if by_frame else ()), exptime=np.asarray(facts.exptimes)
    )
    if uncertainty is not None:
        sigma = scaled_uncertainty(uncertainty, columns, masters)
        return terms._replace(variance=sigma**2)
    signal = job.above_bias or recipe.rejection.rule == "ccd"  # which takes values as signal
    count, zero = len(facts.rank), job.calibration.zero
    return terms._replace(noise=noise_terms(recipe.noise, count, job.scale, zero, signal=signal))


def _planes(
    result: kernels.KernelResult,
    columns: slice,
    masters: MasterRows,
    bad: NDArray[np.bool_],
    job: BandJob,
    step: float,
    empty: kernels.Empty,
) -> dict[str, NDArray[Any]]:
    recipe = job.recipe
    shared = _shared_variance(result, columns, masters, recipe, empty)
    rounding = _rounding_of(result, job, step)
    if np.any(rounding):
        shared = shared + rounding if shared.size else np.full(result.data.shape, rounding)

    def with_shared(sigma: NDArray[Any]) -> NDArray[Any]:
        return kernels.root_sum(sigma, shared, empty) if shared.size else sigma

    planes: dict[str, Callable[[], NDArray[Any]]] = {
        "data": lambda: result.data,
        "uncert": lambda: _uncertainty(result, with_shared(result.uncert), job, shared),
        "mask": lambda: _mask(result, bad, len(job.facts.rank), recipe, empty),
        "count": lambda: result.count,
        "rejlow": lambda: result.low,
        "rejhigh": lambda: result.high,
        "exposure": lambda: result.exposure,
        "propagated": lambda: with_shared(result.propagated),
    }
    return {name: planes[name]() for name in plane_names(recipe)}


def _shared_variance(
    result: kernels.KernelResult,
    columns: slice,
    masters: MasterRows,
    recipe: Recipe,
    empty: kernels.Empty,
) -> NDArray[np.float64]:
    """Return the variance of what the masters bring into the result, of size 0 without any."""
    if not masters.applied:
        return np.empty((0, 0))
    if recipe.estimator != "sum":
        return shared_variance(result.data, columns, masters, empty)
    kept = np.maximum(result.count, 1).astype(np.float64)  # a sum has it n times
    return np.asarray(kept**2 * shared_variance(result.data / kept, columns, masters))


def _rounding_of(result: kernels.KernelResult, job: BandJob, step: float) -> Any:
    """Return the variance of what rounding to steps brings in alike in all frames.

    The noise is that of gain and read noise; 0 where they are not known. A sum has it n times.
    """
    noise, typical = job.recipe.noise, float(np.median(job.scale)) if job.scale else 1.0
    if not (step and noise.gain and noise.read_noise is not None):
        return 0.0
    if noise.read_noise / noise.gain >= step:  # no pixel has less: nothing is left of the rounding
        return 0.0
    kept = np.asarray(result.count if job.recipe.estimator == "sum" else 1.0, np.float64)
    adu = np.asarray(result.data, np.float64) / np.maximum(kept, 1) / typical
    electrons = noise.gain * np.maximum(adu, 0.0) if job.above_bias else 0.0
    sigma = np.sqrt(electrons + noise.read_noise**2) / noise.gain
    return kept**2 * (step * typical) ** 2 * shared_rounding(sigma / step)


def _uncertainty(
    result: kernels.KernelResult,
    measured: NDArray[Any],
    job: BandJob,
    shared: NDArray[np.float64],
) -> NDArray[Any]:
    """Return the measured standard deviation, where one value was kept that of gain and read noise.

    What all frames have in common, `shared`, is in both.
    """
    noise = job.recipe.noise
    if not noise.gain or noise.read_noise is None:
        return measured
    single = result.count == 1
    if not single.any():
        return measured
    typical = float(np.mean(job.scale)) if job.scale else 1.0
    electrons = noise.gain * np.maximum(result.data[single] / typical, 0)
    variance = (electrons + noise.read_noise**2) * (typical / noise.gain) ** 2
    common = shared[single] if shared.size else 0.0
    found = measured.copy()
    found[single] = np.sqrt(variance.astype(np.float64) + common)
    return found


def _mask(
    result: kernels.KernelResult,
    bad: NDArray[np.bool_],
    n_frames: int,
    recipe: Recipe,
    empty: kernels.Empty,
) -> NDArray[np.uint8]:
    mask = empty(result.count.shape, np.dtype(np.uint8))
    mask.fill(0)
    if result.count.min(initial=n_frames) < max(1, recipe.min_kept):
        mask[result.count == 0] = MaskBit.NO_VALUE
        mask[(result.count > 0) & (result.count < recipe.min_kept)] = MaskBit.FEW_KEPT
    if result.saturated.max(initial=0) == n_frames:
        mask[result.saturated == n_frames] |= np.uint8(MaskBit.SATURATED)
    if bad.size:
        mask[bad] |= np.uint8(MaskBit.BAD)
    return mask
