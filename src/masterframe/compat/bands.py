"""What happens to one row band of all frames: scale, leave out, combine, and how sure it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from masterframe import kernels
from masterframe.compat.clipping import KEEP_ALL, Limits, Step
from masterframe.compat.frames import Frames
from masterframe.kernels.tables import mad_factors
from masterframe.model import Estimator, Recipe, Rejection

Array = NDArray[Any]
_NO_FLOOR = kernels.Floor(quant=0.0, poisson=0.0, read=0.0, step=0.0)


class Band(NamedTuple):
    """Rows of the combined image; arrays of shape (rows, columns)."""

    data: Array
    """Combined values; NaN where nothing was left."""
    uncert: Array
    """Their standard deviation; NaN where one value tells nothing of it."""
    empty: Array
    """Whether nothing was left."""


@dataclass(frozen=True)
class Job:
    """What is the same for every band."""

    frames: Frames
    """The frames, in canonical order."""
    method: Estimator
    """mean, median or sum."""
    before: tuple[Step, ...]
    """What leaves values out first, each step of those that the steps before it kept."""
    last: Rejection
    """The last rejection: the engine rejects and combines at once."""
    work: np.dtype[Any]
    """float32 or float64: in which values are scaled."""
    scale: Array
    """Factor of each frame; size 0: 1."""
    weights: Array | None
    """Weights, shape (N,) or (N, rows, columns) of whole frames; zero leaves a value out."""
    spread: Callable[..., Any] | None
    """What gives the spread of the values of a pixel, by the user."""

    @property
    def engine_only(self) -> bool:
        """Whether the engine gives both the value and the error that is stated."""
        return self.weights is None and self.spread is None and self.method != "median"


def combine_band(job: Job, y0: int, y1: int) -> Band:
    """Combine rows y0 to y1."""
    values, mask = job.frames.read(y0, y1)
    terms = kernels.LoadTerms(scale=job.scale, frame_mask=mask)
    if job.before or not job.engine_only:
        values, terms = _prepared(job, values, terms), kernels.LoadTerms()
    result = _run(values, job.last, job.method, job.work, terms)
    if job.engine_only:
        return Band(result.data, result.uncert, result.count == 0)
    kept, data, weights = _kept(values, result), result.data, None
    if job.weights is not None:
        weights = _weights_of(job.weights, values, y0, y1)
        kept[weights == 0] = np.nan
        data = _weighted(kept, weights, job.method)
    return Band(data, _uncertainty(job, kept, weights, data), _count(kept) == 0)


def _prepared(job: Job, raw: Array, terms: kernels.LoadTerms) -> Array:
    """Return the scaled values, NaN where they are masked or one of the first steps is against."""
    values = kernels.calibrate_block(raw, terms, job.work)
    for step in job.before:
        values = _apply(step, values, raw)
    return values


def _apply(step: Step, values: Array, raw: Array) -> Array:
    """Return the values, NaN where a step leaves one out."""
    if isinstance(step, Rejection):
        return _kept(values, _run(values, step, "mean", values.dtype, kernels.LoadTerms()))
    left_out = step.left_out(raw if isinstance(step, Limits) else values)
    return np.where(left_out, values.dtype.type(np.nan), values)


def _run(
    values: Array,
    rejection: Rejection,
    method: Estimator,
    work: np.dtype[Any],
    terms: kernels.LoadTerms,
) -> kernels.KernelResult:
    """Combine values by the engine, without a noise floor, which ccdproc has not."""
    rank, recipe = np.arange(len(values)), Recipe(rejection, method, planes=("rejlow", "rejhigh"))
    return kernels.combine_block(values, terms, recipe, _NO_FLOOR, rank, work)


def _kept(values: Array, result: kernels.KernelResult) -> Array:
    """Return the values that a rejection kept, NaN for the others.

    It keeps a window of the sorted values, equal ones in the order of their frames; how many it
    rejected at the low side is where that begins.
    """
    kept = values.copy()
    touched = result.low + result.high > 0
    columns = values[:, touched]
    order = np.argsort(columns, axis=0, kind="stable")  # NaN last
    place = np.empty_like(order)
    np.put_along_axis(place, order, np.arange(len(values))[:, np.newaxis], axis=0)
    first = result.low[touched]
    inside = (place >= first) & (place < first + result.count[touched])
    kept[:, touched] = np.where(inside, columns, np.nan)
    return kept


def _weights_of(weights: Array, values: Array, y0: int, y1: int) -> Array:
    """Return the weights of a band, of the shape of its values."""
    rows = weights[:, y0:y1] if weights.ndim == 3 else weights[:, np.newaxis, np.newaxis]
    return np.broadcast_to(rows, values.shape).astype(np.float64)


def _weighted(kept: Array, weights: Array, method: Estimator) -> Array:
    """Return the weighted mean or sum of the kept values, NaN without any."""
    present = np.where(np.isnan(kept), 0.0, weights)
    total, weight = _sum(np.nan_to_num(kept) * present), _sum(present)
    with np.errstate(invalid="ignore"):  # nothing left
        return np.where(weight > 0, total if method == "sum" else total / weight, np.nan)


def _sum(terms: Array) -> Array:
    """Return the sums over frames, to the bit the same for any order of them."""
    total = np.zeros(terms.shape[1:])
    for part in np.sort(terms, axis=0):
        total += part
    return total


def _uncertainty(job: Job, kept: Array, weights: Array | None, data: Array) -> Array:
    if job.spread is not None:
        return _given_error(job.spread, kept, job.method)
    if weights is not None:
        return _weighted_error(kept, weights, job.method)
    return _median_error(kept, data)


def _given_error(spread: Callable[..., Any], kept: Array, method: Estimator) -> Array:
    """Return what ccdproc makes of the spread that a function gives."""
    values = np.asarray(np.ma.getdata(spread(kept, axis=0)), np.float64)
    root = np.sqrt(_count(kept))
    with np.errstate(divide="ignore", invalid="ignore"):  # nothing left
        return values * root if method == "sum" else values / root


def _count(kept: Array) -> NDArray[np.int64]:
    return np.asarray((~np.isnan(kept)).sum(axis=0))


def _weighted_error(kept: Array, weights: Array, method: Estimator) -> Array:
    """Return the standard error of a weighted mean or sum from the scatter about the mean.

    With p the weights over their sum: sum of p**2 (x - m)**2 / (1 - 2 p + sum of p**2). The
    variance of x - m is that of x times the divisor where all values have the same noise, so that
    this is unbiased then, and s**2 / n for equal weights; as every value speaks for its own noise,
    it holds nearly as well where weights are inverse variances.
    """
    present = np.where(np.isnan(kept), 0.0, weights)
    weight = _sum(present)
    with np.errstate(divide="ignore", invalid="ignore"):  # one value, or none
        parts = present / weight
        apart = np.nan_to_num(kept - _weighted(kept, weights, "mean"))
        error = np.sqrt(_sum((parts * apart) ** 2 / (1 - 2 * parts + _sum(parts**2))))
    error[_count(kept) < 2] = np.nan
    return error * weight if method == "sum" else error


def _median_error(kept: Array, median: Array) -> Array:
    """Return the standard error of a median from the median absolute deviation.

    Robust as the median itself: 1.4826 MAD, corrected for few values, times the standard deviation
    of a median over that of a mean, over sqrt(n).
    """
    apart = kept - median
    np.abs(apart, out=apart)
    mad = _run(apart, KEEP_ALL, "median", apart.dtype, kernels.LoadTerms()).data
    n_frames, count = len(kept), _count(kept)
    factors = mad_factors(n_frames, corrected=True) * kernels.efficiencies(n_frames)
    with np.errstate(divide="ignore", invalid="ignore"):  # nothing left
        return np.where(count > 1, mad * factors[count] / np.sqrt(count), np.nan)
