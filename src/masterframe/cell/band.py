"""What one task does: combine one cell, and count what became of its values."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from masterframe import calibrate, kernels
from masterframe.cell.facts import FrameFacts
from masterframe.cell.noise import noise_floor, noise_terms, shared_rounding
from masterframe.cell.parts import Cell, Part, joined
from masterframe.cell.planes import plane_names, plane_type
from masterframe.cell.spans import BandSpan, whole_rows
from masterframe.model import BandResult, Calibration, FrameCounts, MaskBit, Noise, Recipe
from masterframe.tiling import parts_of


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
    """
    band, part = place
    span, x0, x1 = job.spans[band], *job.columns[part : part + 2]
    calibration, rows = job.calibration, range(span.row0, span.row0 + span.rows)
    cell = Cell(block, mask, uncertainty, span)
    made = joined(
        [
            joined(
                [
                    _combine_rows(cell, strip, part, _with_noise(job, noise), step)
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
    return replace(job, recipe=replace(job.recipe, noise=noise))


def _combine_rows(cell: Cell, strip: slice, part: slice, job: BandJob, step: float) -> Part:
    """Combine some rows of a cell, counted from its first without margin, and columns of it."""
    cell = cell.lines(part, math.floor(job.recipe.rejection.grow or 0))
    calibration, span, x0 = job.calibration, cell.span, strip.start
    first = span.row0 - span.above
    terms = calibrate.load_terms(
        cell.block, first, calibration, job.recipe, cell.mask, columns=strip
    )
    raw = calibrate.trim_columns(cell.block, calibration)
    if calibration.amplifiers:
        raw = raw[:, :, strip]
    results = [
        _combine_part(raw, terms, cell.uncertainty, job, step, (span, x0, columns))
        for columns in parts_of(strip.stop - x0, whole=bool(whole_rows(job.recipe, calibration)))
    ]
    result = _beside(results)
    bad = terms.bad[span.above : span.above + span.rows]
    return Part(
        _planes(result, (span.row0, strip), bad, job, step),
        (result.kept, result.rej_low, result.rej_high, result.missing),
        np.stack([one.frame_sums for one in results], axis=1),
        np.stack([one.half_sums for one in results], axis=1),
    )


def _combine_part(
    raw: NDArray[Any],
    terms: kernels.LoadTerms,
    uncertainty: NDArray[Any] | None,
    job: BandJob,
    step: float,
    place: tuple[BandSpan, int, slice],
) -> kernels.KernelResult:
    """Combine some columns of a cell: those of a slice that counts from its first column."""
    span, x0, columns = place
    recipe, calibration = job.recipe, job.calibration
    sigma, own = None, slice(x0 + columns.start, x0 + columns.stop)
    if uncertainty is not None:
        sigma = calibrate.trim_columns(uncertainty, calibration)
        sigma = sigma[:, :, own if calibration.amplifiers else columns]
    return kernels.combine_block(
        raw[:, :, columns],
        calibrate.columns_of(terms, columns),
        recipe,
        noise_floor(recipe.noise, step, job.scale, job.above_bias),
        np.asarray(job.facts.rank),
        np.dtype(recipe.dtype),
        frames=frame_terms(job, sigma, (span.row0 - span.above, own)),
        margin=(span.above, span.below),
    )


def _beside(parts: Sequence[kernels.KernelResult]) -> kernels.KernelResult:
    """Return results of neighbouring columns as one, but for the sums over rows of the first."""
    if len(parts) == 1:
        return parts[0]
    planes = ("data", "uncert", "count", "low", "high", "saturated", "propagated", "exposure")
    counts = ("kept", "rej_low", "rej_high", "missing")
    joined = {name: np.concatenate([getattr(p, name) for p in parts], axis=1) for name in planes}
    summed = {name: np.sum([getattr(p, name) for p in parts], axis=0) for name in counts}
    return replace(parts[0], **joined, **summed)


def frame_terms(
    job: BandJob, uncertainty: NDArray[Any] | None, place: tuple[int, slice]
) -> kernels.FrameTerms:
    """Return what the kernel needs to know of the frames besides their pixels.

    Parameters
    ----------
    job : BandJob
        What is the same for every band.
    uncertainty : array (N, rows, columns), or None
        Standard deviations of the raw values (adu); they take the place of gain and read noise.
    place : (int, slice)
        First row and columns of the uncertainties in the trimmed image.
    """
    facts, recipe = job.facts, job.recipe
    by_frame = recipe.weighting == "frames"
    terms = kernels.FrameTerms(
        weights=np.asarray(facts.weights if by_frame else ()), exptime=np.asarray(facts.exptimes)
    )
    if uncertainty is not None:
        sigma = calibrate.scaled_uncertainty(uncertainty, place, job.calibration)
        return terms._replace(variance=sigma**2)
    signal = job.above_bias or recipe.rejection.rule == "ccd"  # which takes values as signal
    count, zero = len(facts.rank), job.calibration.zero
    return terms._replace(noise=noise_terms(recipe.noise, count, job.scale, zero, signal=signal))


def _planes(
    result: kernels.KernelResult,
    place: tuple[int, slice],
    bad: NDArray[np.bool_],
    job: BandJob,
    step: float,
) -> dict[str, NDArray[Any]]:
    recipe = job.recipe
    shared = _shared_variance(result, place, job) + _rounding_of(result, job, step)
    variance = _measured_variance(result, recipe.noise, job.scale) + shared
    planes: dict[str, Callable[[], NDArray[Any]]] = {
        "data": lambda: result.data,
        "uncert": lambda: np.sqrt(variance),
        "mask": lambda: _mask(result, bad, len(job.facts.rank), recipe),
        "count": lambda: result.count,
        "rejlow": lambda: result.low,
        "rejhigh": lambda: result.high,
        "exposure": lambda: result.exposure,
        "propagated": lambda: np.sqrt(result.propagated.astype(np.float64) ** 2 + shared),
    }
    return {
        name: planes[name]().astype(plane_type(name, recipe), copy=False)
        for name in plane_names(recipe)
    }


def _shared_variance(
    result: kernels.KernelResult, place: tuple[int, slice], job: BandJob
) -> NDArray[np.float64]:
    """Return the variance of what the masters bring into the result; a sum has it n times."""
    if not calibrate.applied(job.calibration):
        return np.zeros(result.data.shape)
    if job.recipe.estimator != "sum":
        return calibrate.shared_variance(result.data, place, job.calibration)
    kept = np.maximum(result.count, 1)
    return kept**2 * calibrate.shared_variance(result.data / kept, place, job.calibration)


def _rounding_of(result: kernels.KernelResult, job: BandJob, step: float) -> Any:
    """Return the variance of what rounding to steps brings in alike in all frames.

    The noise is that of gain and read noise; 0 where they are not known. A sum has it n times.
    """
    noise, typical = job.recipe.noise, float(np.median(job.scale)) if job.scale else 1.0
    if not (step and noise.gain and noise.read_noise is not None):
        return 0.0
    kept = result.count if job.recipe.estimator == "sum" else np.ones_like(result.count)
    adu = result.data / np.maximum(kept, 1) / typical
    electrons = noise.gain * np.maximum(adu, 0.0) if job.above_bias else 0.0
    sigma = np.sqrt(electrons + noise.read_noise**2) / noise.gain
    return kept.astype(float) ** 2 * (step * typical) ** 2 * shared_rounding(sigma / step)


def _measured_variance(
    result: kernels.KernelResult, noise: Noise, scale: Sequence[float]
) -> NDArray[np.float64]:
    """Return the measured variance; that of gain and read noise where one value was kept."""
    variance = np.asarray(result.uncert, np.float64) ** 2
    if noise.gain and noise.read_noise is not None:
        single = result.count == 1
        typical = float(np.mean(scale)) if scale else 1.0
        electrons = noise.gain * np.maximum(result.data[single] / typical, 0)
        variance[single] = (electrons + noise.read_noise**2) * (typical / noise.gain) ** 2
    return variance


def _mask(
    result: kernels.KernelResult, bad: NDArray[np.bool_], n_frames: int, recipe: Recipe
) -> NDArray[np.uint8]:
    mask = np.where(result.count == 0, np.uint8(MaskBit.NO_VALUE), np.uint8(0))
    mask[result.saturated == n_frames] |= np.uint8(MaskBit.SATURATED)
    mask[(result.count > 0) & (result.count < recipe.min_kept)] |= np.uint8(MaskBit.FEW_KEPT)
    if bad.size:
        mask[bad] |= np.uint8(MaskBit.BAD)
    return mask
