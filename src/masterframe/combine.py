"""A lazy stack and a recipe become a lazy result: one task a cell, from one read.

A cell is a band of whole rows, or of one row a part where a row of all frames is too much for the
memory. Sums over a row are made in parts of so many columns and put together by who writes the
master, so that their bits are the same however rows were cut.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import dask
import dask.array as da
import numpy as np
import xarray as xr
from dask.delayed import Delayed
from numpy.typing import NDArray

from masterframe import calibrate, fits, kernels
from masterframe import stack as stacks
from masterframe.errors import MasterframeError, UsageError
from masterframe.model import (
    BandResult,
    Calibration,
    Frame,
    FrameCounts,
    MaskBit,
    Noise,
    Recipe,
)
from masterframe.quantiles import MAD_TO_SIGMA
from masterframe.tiling import PART, parts_of

STEP_FRAMES, STEP_ROWS = 8, 16
"""Frames and rows a frame in which the quantisation step is looked for."""
PLANE_TYPES = {"mask": np.uint8, "count": np.int32, "rejlow": np.int32, "rejhigh": np.int32}
"""Types of the planes that are no values; the others have the recipe's."""


@dataclass(frozen=True)
class FrameFacts:
    """What is known of the N frames of a stack besides their pixels; empty where it is not."""

    rank: tuple[int, ...] = ()
    """Canonical place of each frame, which makes the result independent of the order given."""
    sources: tuple[Frame, ...] = ()
    """Where the frames are stored, for the partial DATASUM of the bytes read."""
    weights: tuple[float, ...] = ()
    """Weight of each frame for the estimator ``weighted``."""
    exptimes: tuple[float, ...] = ()
    """Exposure times (s) for the plane ``exposure``."""


@dataclass(frozen=True)
class Combined:
    """A lazy combination: nothing is read until its bands are computed."""

    bands: da.Array
    """Object array (1, bands, parts of a row); each block holds one `BandResult`."""
    row_chunks: tuple[int, ...]
    """Rows of each band."""
    column_chunks: tuple[int, ...]
    """Columns of each part of a row; one part where rows are whole."""
    recipe: Recipe
    """How it is combined, with every automatic value resolved but the quantisation step."""
    n_frames: int
    """Frames that go in."""
    unit: str = ""
    """Unit of the values."""
    places: Mapping[str, NDArray[np.intp]] = field(default_factory=dict)
    """Rows ``y`` and columns ``x`` of the raw frames that its pixels are of; empty: not known."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the result."""
        return sum(self.row_chunks), sum(self.column_chunks)

    @property
    def planes(self) -> tuple[str, ...]:
        """Names of the planes, in the order of a master file."""
        return plane_names(self.recipe)

    @property
    def dataset(self) -> xr.Dataset:
        """The planes as a lazy Dataset (y, x); computing several of them reads the stack once."""
        fields = [(name, plane_type(name, self.recipe)) for name in self.planes]
        record = np.dtype(fields)
        pixels = self.bands.map_blocks(
            _band_record,
            record,
            drop_axis=0,
            chunks=(self.row_chunks, self.column_chunks),
            dtype=record,
            meta=np.empty((0, 0), record),
            token="mf-planes",
        ).rechunk((even_chunks(self.row_chunks), even_chunks(self.column_chunks)))
        return xr.Dataset(
            {name: (("y", "x"), pixels[name], self._attributes_of(name)) for name in self.planes},
            coords=self.places,
            attrs={
                "NCOMBINE": self.n_frames,
                "COMBTYPE": self.recipe.estimator,
                "REJTYPE": self.recipe.rejection.rule,
            },
        )

    def _attributes_of(self, plane: str) -> dict[str, Any]:
        if plane == "mask":
            bits = {str(bit.name).lower(): int(bit) for bit in MaskBit}
            return {"flag_meanings": " ".join(bits), "flag_masks": list(bits.values())}
        units = {"data": self.unit, "uncert": self.unit, "propagated": self.unit, "exposure": "s"}
        return {"units": units[plane]} if plane in units else {}


def even_chunks(rows: tuple[int, ...]) -> tuple[int, ...]:
    """Return chunks that are equal but for the last, as Zarr has them: trimming cuts the first."""
    if len(set(rows[:-1])) < 2 and rows[-1] <= rows[0]:
        return rows
    band, total = max(rows), sum(rows)
    return tuple(min(band, total - row0) for row0 in range(0, total, band))


def plane_names(recipe: Recipe) -> tuple[str, ...]:
    """Return the planes that a recipe gives: the four standard ones and those asked for."""
    return ("data", "uncert", "mask", "count", *recipe.planes)


def plane_type(name: str, recipe: Recipe) -> np.dtype[Any]:
    """Return the numpy type of a plane."""
    return np.dtype(PLANE_TYPES.get(name, recipe.dtype))


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
    _check_facts(recipe, facts)
    data = _banded(trim_rows(da.asarray(stack.data), calibration), recipe, calibration)
    row_chunks, column_chunks = data.chunks[1:]
    if calibration.trim:
        column_chunks = (calibration.trim.shape[1],)
    spans = band_spans(row_chunks, math.floor(recipe.rejection.grow or 0))
    job = _BandJob(
        recipe=recipe,
        calibration=calibration,
        facts=facts,
        scale=calibration.scale or stack_scale(stack),
        above_bias=is_above_bias(calibration) or bool(stack.attrs.get("above_bias")),
        spans=spans,
        columns=tuple(np.cumsum((0, *column_chunks)).tolist()),
    )
    blocks: list[da.Array | None] = [with_margins(data, spans)]
    for name, other in (("masks", masks), ("uncertainties", uncertainties)):
        if other is None:
            blocks.append(None)
            continue
        if other.shape != stack.shape:
            raise UsageError(f"the {name} have shape {other.shape}, the stack {stack.shape}")
        rows = trim_rows(other, calibration).rechunk(data.chunks)
        blocks.append(with_margins(rows, spans))
    bands = da.map_blocks(
        partial(combine_band, job=job),  # Dask would look for arrays in every frame of an argument
        *blocks,
        step=recipe.noise.step or quantisation_step(stack, facts.sources),
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
        places=stacks.places(stack, calibration.trim),
    )


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


def fit_calibration(stack: xr.DataArray, calibration: Calibration) -> Calibration:
    """Return the calibration of the part of the frames that a stack holds.

    Raises
    ------
    UsageError
        If it is not that of the frames.
    """
    spatial = (*calibrate.applied(calibration), calibration.bad_pixels)
    if not any((calibration.overscan, calibration.trim, *spatial)):
        return calibration
    return calibrate.fitted(calibration, stacks.whole_shape(stack), stacks.part_of(stack))


def check_known(recipe: Recipe, *, uncertainties: bool = False) -> None:
    """Refuse a recipe that needs the noise of values which nobody told.

    Raises
    ------
    UsageError
        If gain or read noise are missing, and there are no uncertainties in their place.
    """
    noise, rule = recipe.noise, recipe.rejection.rule
    if uncertainties or (noise.gain and noise.read_noise is not None):
        return
    asking = {
        f"the rule {rule}": kernels.RULES[rule].noise,
        "the weight variance": recipe.weighting == "variance",
        "the plane propagated": "propagated" in recipe.planes,
    }
    for what, needed in asking.items():
        if needed:
            raise UsageError(
                f"{what} needs the noise of each value: give gain and read noise, or frames with "
                "their uncertainties"
            )


def _check_facts(recipe: Recipe, facts: FrameFacts) -> None:
    if "exposure" in recipe.planes and not facts.exptimes:
        raise UsageError("the plane exposure needs the exposure time of every frame")
    if recipe.estimator == "weighted" and recipe.weighting == "frames" and not facts.weights:
        raise UsageError("the weighted mean needs the weight of every frame")


def band_spans(row_chunks: Sequence[int], reach: int) -> tuple[BandSpan, ...]:
    """Return where each band lies, with the rows beside it that `reach` pixels of growth need."""
    height, row0, spans = sum(row_chunks), 0, []
    for rows in row_chunks:
        spans.append(BandSpan(row0, rows, min(reach, row0), min(reach, height - row0 - rows)))
        row0 += rows
    return tuple(spans)


def with_margins(data: da.Array, spans: Sequence[BandSpan]) -> da.Array:
    """Return the rows of all bands with their margins, one chunk a band.

    Rows that two bands need stand in both, so that the array is higher than the stack.
    """
    if not any(span.above or span.below for span in spans):
        return data
    parts = [data[:, span.row0 - span.above : span.row0 + span.rows + span.below] for span in spans]
    return da.concatenate([part.rechunk({1: -1}) for part in parts], axis=1)


def trim_rows(data: da.Array, calibration: Calibration) -> da.Array:
    """Return the rows of raw data that are kept; columns stay, the overscan is among them."""
    if calibration.trim is None:
        return data
    return data[:, calibration.trim.y0 : calibration.trim.y1, :]


def whole_rows(recipe: Recipe, calibration: Calibration) -> str:
    """Return why all columns of a row must be combined at once; '' where they need not."""
    rejection = recipe.rejection
    if kernels.RULES[rejection.rule].rows:
        return f"the rule {rejection.rule} measures whole rows"
    if rejection.grow:
        return "grow looks at the columns beside"
    if calibration.overscan or calibration.trim:
        return "overscan and trim need whole rows"
    return ""


def _banded(data: da.Array, recipe: Recipe, calibration: Calibration) -> da.Array:
    """Return the data with all frames in one chunk, and all columns where they must be together."""
    apart = not whole_rows(recipe, calibration)
    if data.numblocks[2] > 1 and (not apart or any(n % PART for n in data.chunks[2][:-1])):
        data = data.rechunk({2: -1})
    return data if data.numblocks[0] == 1 else data.rechunk({0: -1})


def canonical_rank(stack: xr.DataArray) -> list[int]:
    """Return each frame's place by time, name and plane, whatever the order given."""
    count = stack.shape[0]
    times, found = stacks.on_frames(stack, "time"), stacks.on_frames(stack, "path")
    if times is None or found is None:
        return list(range(count))
    paths = [str(path) for path in found]
    planes = stacks.on_frames(stack, "plane")
    planes = np.zeros(count, int) if planes is None else planes
    keys = [
        (time.view("i8"), Path(path).name, path, plane)
        for time, path, plane in zip(times, paths, planes, strict=True)
    ]
    order = sorted(range(count), key=keys.__getitem__)
    rank = [0] * count
    for place, index in enumerate(order):
        rank[index] = place
    return rank


def facts_of(stack: xr.DataArray) -> FrameFacts:
    """Return what the coordinates of a stack say of its frames."""
    times = stacks.on_frames(stack, "exptime")
    known = times is not None and np.isfinite(times).all()
    return FrameFacts(
        rank=tuple(canonical_rank(stack)),
        exptimes=tuple(map(float, times)) if times is not None and known else (),
    )


def stack_scale(stack: xr.DataArray) -> tuple[float, ...]:
    """Return by what a stack was scaled frame by frame as it was calibrated; empty for 1."""
    scale = stacks.on_frames(stack, "scale")
    return () if scale is None else tuple(map(float, scale))


def is_above_bias(calibration: Calibration) -> bool:
    """Return whether calibrated values are counted from the bias, so that they are signal."""
    return bool(calibration.overscan or calibration.bias or calibration.dark)


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


class BandSpan(NamedTuple):
    """Rows of one band in the combined image."""

    row0: int
    """First row."""
    rows: int
    """Rows of the result."""
    above: int
    """Rows read before the first."""
    below: int
    """Rows read after the last."""


@dataclass(frozen=True)
class _BandJob:
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
    *,
    job: _BandJob,
    step: float,
    block_info: Any = None,
) -> NDArray[Any]:
    """Combine one cell; the function of every ``mf-combine`` task.

    Parameters
    ----------
    block : array (N, rows, raw columns)
        Raw values, the margins of the band among them.
    mask : array of the same shape, bool, or None
        Values to leave out.
    uncertainty : array of the same shape, or None
        Standard deviations of the raw values (adu).
    job : _BandJob
        What is the same for every band.
    step : float
        Quantisation step (adu).
    block_info : dict
        Where the block lies, given by Dask.

    Returns
    -------
    object array (1, 1, 1)
        The `BandResult`.
    """
    _, band, part = block_info[0]["chunk-location"]
    span, x0, x1 = job.spans[band], *job.columns[part : part + 2]
    calibration = job.calibration
    first = span.row0 - span.above
    terms = calibrate.load_terms(block, first, calibration, job.recipe, mask, columns=slice(x0, x1))
    results = [
        _combine_part(block, terms, uncertainty, job, step, (span, x0, columns))
        for columns in parts_of(x1 - x0, whole=bool(whole_rows(job.recipe, calibration)))
    ]
    result = _beside(results)
    inner = slice(span.above, span.above + span.rows)
    offset = calibration.trim.y0 if calibration.trim else 0
    boxed = np.empty((1, 1, 1), object)
    boxed[0, 0, 0] = BandResult(
        row0=span.row0,
        column0=x0,
        planes=_planes(result, (span.row0, slice(x0, x1)), terms.bad[inner], job, step),
        frames=FrameCounts(result.kept, result.rej_low, result.rej_high, result.missing),
        frame_sums=np.stack([part.frame_sums for part in results], axis=1),
        half_sums=np.stack([part.half_sums for part in results], axis=1),
        datasum=_partial_datasum(block[:, inner], (span.row0 + offset, x0), job.facts.sources),
    )
    return boxed


def _combine_part(
    block: NDArray[Any],
    terms: kernels.LoadTerms,
    uncertainty: NDArray[Any] | None,
    job: _BandJob,
    step: float,
    place: tuple[BandSpan, int, slice],
) -> kernels.KernelResult:
    """Combine some columns of a cell: those of a slice that counts from its first column."""
    span, x0, columns = place
    recipe, calibration = job.recipe, job.calibration
    sigma = None
    if uncertainty is not None:
        sigma = calibrate.trim_columns(uncertainty, calibration)[:, :, columns]
    return kernels.combine_block(
        calibrate.trim_columns(block, calibration)[:, :, columns],
        calibrate.columns_of(terms, columns),
        recipe,
        noise_floor(recipe.noise, step, job.scale, job.above_bias),
        np.asarray(job.facts.rank),
        np.dtype(recipe.dtype),
        frames=frame_terms(
            job, sigma, (span.row0 - span.above, slice(x0 + columns.start, x0 + columns.stop))
        ),
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
    job: _BandJob, uncertainty: NDArray[Any] | None, place: tuple[int, slice]
) -> kernels.FrameTerms:
    """Return what the kernel needs to know of the frames besides their pixels.

    Parameters
    ----------
    job : _BandJob
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


def noise_terms(
    noise: Noise,
    count: int,
    scale: Sequence[float] = (),
    zero: Sequence[float] = (),
    *,
    signal: bool,
) -> NDArray[np.float64]:
    """Return a, b and z of each frame, from which the variance at c is ``a + b max(c - z, 0)``.

    With gain g (electrons per adu) and read noise r (electrons), and the signal (c - z) / scale in
    adu, it is ``scale^2 (g signal + r^2) / g^2``.

    Parameters
    ----------
    noise : Noise
        Gain and read noise.
    count : int
        Number of frames, N.
    scale, zero : sequence of float
        Factor and summand of each frame; empty for 1 and 0.
    signal : bool
        Values are counted from the bias; else their level tells nothing of their noise.

    Returns
    -------
    array (N, 3); of size 0 where gain or read noise are not known.
    """
    if not noise.gain or noise.read_noise is None:
        return np.empty((0, 3))
    terms = np.zeros((count, 3))
    factor = np.asarray(scale or (1.0,), float)
    terms[:, 0] = (factor * noise.read_noise / noise.gain) ** 2
    terms[:, 1] = factor / noise.gain if signal else 0.0
    terms[:, 2] = np.asarray(zero or (0.0,), float)
    return terms


def noise_floor(
    noise: Noise, step: float, scale: Sequence[float] = (), above_bias: bool = False
) -> kernels.Floor:
    """Return the least sigma of the rejection in the combined unit.

    ``auto``: the larger of 1.4826 step / 2 and, where gain g (e-/adu) and read noise rn (e-) are
    known, sqrt(g max(c, 0) + rn^2) / g at the centre c above bias, both times the median scale of
    the frames. Raw frames whose bias was not taken off have c = 0: their level is no signal.
    """
    typical = float(np.median(scale)) if scale else 1.0
    if noise.floor != "auto":
        return kernels.Floor(quant=noise.floor, poisson=0.0, read=0.0, step=step * typical)
    poisson = read = 0.0
    if noise.gain and noise.read_noise is not None:
        read = (noise.read_noise * typical / noise.gain) ** 2
        if above_bias:
            poisson = typical / noise.gain
    return kernels.Floor(
        quant=MAD_TO_SIGMA * step / 2 * typical, poisson=poisson, read=read, step=step * typical
    )


def _planes(
    result: kernels.KernelResult,
    place: tuple[int, slice],
    bad: NDArray[np.bool_],
    job: _BandJob,
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
    result: kernels.KernelResult, place: tuple[int, slice], job: _BandJob
) -> NDArray[np.float64]:
    """Return the variance of what the masters bring into the result; a sum has it n times."""
    if not calibrate.applied(job.calibration):
        return np.zeros(result.data.shape)
    if job.recipe.estimator != "sum":
        return calibrate.shared_variance(result.data, place, job.calibration)
    kept = np.maximum(result.count, 1)
    return kept**2 * calibrate.shared_variance(result.data / kept, place, job.calibration)


def _rounding_of(result: kernels.KernelResult, job: _BandJob, step: float) -> Any:
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


def shared_rounding(steps: Any) -> Any:
    """Return the variance (steps squared) of the rounding error that averaging does not lessen.

    A value x with normal noise of sigma steps is rounded to whole steps: the mean of many differs
    from x by ``sum over k of (-1)^k sin(2 pi k x) / (pi k) exp(-2 (pi k sigma)^2)`` (B. Widrow and
    I. Kollar, Quantization noise, 2008), and the mean square of that over all x is
    ``sum of exp(-(2 pi k sigma)^2) / (2 (pi k)^2)``: 1 / 12 without noise, 0.01 for 0.2 steps,
    3e-6 for 0.5, nothing from 1. Frames share it, as x is the same in all of them.
    """
    sigma = np.asarray(steps, np.float64)
    total, few = np.zeros(sigma.shape), sigma < 1  # beyond, 1e-19 is left
    exponent = (2 * np.pi * sigma[few]) ** 2
    for k in range(1, 33):
        total[few] += np.exp(-exponent * k * k) / (2 * (np.pi * k) ** 2)
    return total


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


def _partial_datasum(
    block: NDArray[Any], place: tuple[int, int], sources: Sequence[Frame]
) -> NDArray[np.uint64]:
    """Return the DATASUM of a block whose first value is at a row and a column of the frames."""
    _, rows, columns = block.shape
    contiguous = sources and (rows == 1 or columns == sources[0].shape[1])
    sums = fits.band_words(sources, block, *place) if contiguous else None
    return np.zeros(0, np.uint64) if sums is None else sums


def _band_record(band: NDArray[Any], record: np.dtype[Any]) -> NDArray[Any]:
    planes = band[0, 0, 0].planes
    pixels = np.empty(planes["data"].shape, record)
    for name in record.names or ():
        pixels[name] = planes[name]
    return pixels
