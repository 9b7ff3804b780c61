"""The combination: raw values go in, combined pixels and the numbers of the frames come out."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from masterframe.errors import UsageError
from masterframe.kernels import rules
from masterframe.kernels.aside import Extras
from masterframe.kernels.driver import Counts, Output, combine_rows
from masterframe.kernels.marks import STRIP, grow, make_desk, make_marks, mark_rows
from masterframe.kernels.native import Given
from masterframe.kernels.ratios import ESTIMATORS, ratios
from masterframe.kernels.registry import RULES, resolve_rejection
from masterframe.kernels.rules import Floor, Rule
from masterframe.kernels.selection import FEWEST, MANY
from masterframe.kernels.sorting import network
from masterframe.kernels.terms import (
    Empty,
    FrameTerms,
    LoadTerms,
    calibration,
    frame_terms,
    narrowed,
    source,
    work_type,
)
from masterframe.kernels.tiles import Settings, lanes, room_for
from masterframe.model import Recipe, Rejection
from masterframe.names import unknown

Array = NDArray[Any]
FEW = 2**15 - 1
"""Frames up to which counts have 16 bits."""
_NONE: Array = np.empty((0, 0), np.float32)


@dataclass(frozen=True, slots=True)
class KernelResult:
    """What the combination makes of N frames of (rows, nx) pixels."""

    data: Array
    """Combined values, shape (rows, nx), of the type asked for; NaN where nothing was kept."""
    uncert: Array
    """Their standard deviation from the scatter of the kept values; NaN for fewer than two."""
    count: NDArray[np.int16] | NDArray[np.int32]
    """Values kept; 16 bits hold the number of up to 32767 frames."""
    low: NDArray[np.int32]
    """Values rejected on the low side, shape (rows, nx); of size 0 where the recipe does not ask
    for the plane ``rejlow``."""
    high: NDArray[np.int32]
    """The same of the high side and ``rejhigh``."""
    saturated: NDArray[np.int32]
    """Frames that are saturated, whether masked or not; of size 0 where none can be."""
    kept: NDArray[np.int64]
    """Values kept of each frame, shape (N,), in the order of the frames given."""
    rej_low: NDArray[np.int64]
    """Values rejected on the low side of each frame."""
    rej_high: NDArray[np.int64]
    """Values rejected on the high side of each frame."""
    missing: NDArray[np.int64]
    """Values of each frame that were no number, saturated or masked."""
    frame_sums: NDArray[np.float64]
    """Sums over x of (value - level) and of its square over kept values, shape
    (rows, parts, N, 2)."""
    half_sums: NDArray[np.float64]
    """Over the pixels where both halves of the frames (even and odd canonical rank) have kept
    values: their number, the sum of d and of d ** 2 with d = (mean of even - mean of odd) / 2;
    shape (rows, parts, 3)."""
    propagated: Array
    """Standard deviation of the combined values by the noise of each value, shape (rows, nx); of
    size 0 where the recipe does not ask for this plane."""
    exposure: Array
    """Summed exposure times of the kept values (s), likewise."""


def combine_block(  # noqa: PLR0913 - what is read, how, and what of it; two by name alone
    raw: Array,
    terms: LoadTerms,
    recipe: Recipe,
    floor: Floor,
    rank: NDArray[np.integer[Any]],
    dtype: DTypeLike = np.float32,
    *,
    frames: FrameTerms = FrameTerms(),  # noqa: B008 - it cannot be changed
    margin: tuple[int, int] = (0, 0),
    part: int | None = None,
    empty: Empty = np.empty,
) -> KernelResult:
    """Calibrate and combine N frames of raw values pixel by pixel.

    The result does not depend, to the bit, on the order of the frames or on how rows are shared
    out among calls. Equal calls from any number of threads may run at once.

    Parameters
    ----------
    raw : ndarray, shape (N, rows, nx)
        Real numbers, any strides, the last axis contiguous for best speed; never changed.
    terms : LoadTerms
        What is applied in the load step; the thresholds of the rule ``threshold`` are here.
    recipe : Recipe
        Rejection, estimator, its trim and the optional planes; nothing else of it is read.
    floor : Floor
        The noise floor.
    rank : ndarray of int, shape (N,)
        Canonical rank of each frame: the order of equal values and of sums over frames.
    dtype : dtype
        float32 or float64, the type of the planes written.
    frames : FrameTerms
        Noise, weights and exposure times, where rule, estimator or planes need them.
    margin : (int, int)
        Rows above and below those of the result that raw and all terms hold: ``grow`` takes values
        with rejected ones there. As many as its radius, fewer only at the edge of the image.
    part : int, optional
        Columns of each part of a row over which sums are taken; all by default.
    empty : callable
        Makes the planes of the result, from shape and type.

    Returns
    -------
    KernelResult
        Planes, and the numbers of the frames in the order given, without the margin.

    Raises
    ------
    UsageError
        A rejection that `resolve_rejection` refuses, an unknown estimator, a trim that leaves
        nothing.
    ValueError
        Shapes that do not fit; terms of the frames that are missing.
    """
    rejection = resolve_rejection(recipe.rejection)
    if rejection is not recipe.rejection:
        recipe = replace(recipe, rejection=rejection)
    _check_estimator(recipe)
    n, shape = raw.shape[0], (raw.shape[1] - sum(margin), raw.shape[2])
    if n == 0 or np.shape(rank) != (n,):
        raise ValueError(f"{n} frames with {np.shape(rank)} ranks; each frame needs one")
    if min(*margin, shape[0]) < 0:
        raise ValueError(f"margins of {margin} rows do not fit {raw.shape[1]} rows")
    work = work_type(raw.dtype, dtype)
    raw = narrowed(raw, terms, work)
    spec, shared = RULES[recipe.rejection.rule], _shared_noise(recipe, frames)
    if shared is not None:
        floor = floor._replace(read=shared[0], poisson=shared[1])
    marks, parts = spec.masks and shared is None, math.ceil(shape[1] / (part or shape[1] or 1))
    common = _is_common(recipe, marks=marks)
    kind = raw.dtype if common and _whole(raw, terms, work) else work
    case = _Case(
        rejection, floor, recipe.estimator, float(recipe.trim), tuple(np.asarray(rank).tolist()),
        kind, _leaves_out(terms), marks, margin, raw.shape[1], part or shape[1],
    )  # fmt: skip
    call = _Call(
        source(raw, terms),
        calibration(terms, raw.shape, kind) if kind.kind == "f" else None,
        rules.compiled(recipe.rejection.rule, kind, own_noise=shared is None and spec.noise),
        _settings(case),
        room_for(n, kind),
        Output(
            empty(shape, work), empty(shape, work),
            _room_for_counts(recipe, terms, (n, *shape), empty), np.zeros((n, 3), np.int64),
            np.empty((shape[0], parts, n, 2)), np.zeros((shape[0], parts, 3)),
        ),
    )  # fmt: skip
    extras = None if common else _extras(recipe, frames, raw.shape, shape, call)
    if extras is None or not recipe.rejection.grow:
        _run(call, extras)
    else:
        _mark_and_run(call, extras, recipe, raw.shape)
    return _result(call.out, extras, np.dtype(dtype))


def _room_for_counts(
    recipe: Recipe, terms: LoadTerms, shape: tuple[int, int, int], empty: Empty
) -> Counts:
    """Return room for what is to be counted of values of shape (N, rows, nx)."""

    def room(*, wanted: bool) -> NDArray[np.int32]:
        return empty(shape[1:], np.dtype(np.int32)) if wanted else np.empty((0, 0), np.int32)

    return Counts(
        kept=empty(shape[1:], np.dtype(np.int16 if shape[0] <= FEW else np.int32)),
        low=room(wanted="rejlow" in recipe.planes),
        high=room(wanted="rejhigh" in recipe.planes),
        saturated=room(wanted=bool(terms.saturation < np.inf)),
    )


class _Call(NamedTuple):
    """What compiled code is given."""

    source: Any
    cal: Any
    rule: Rule
    settings: Given
    """`Settings`."""
    room: Given
    """A `Room`."""
    out: Output


def _run(call: _Call, extras: Extras | None) -> None:
    whole = call.room.value.tile.dtype == np.uint16 and extras is None
    combine_rows(*call, extras, _counts(call.settings.value) if whole else None)


def _counts(settings: Settings) -> bool:
    """Whether medians are found by counting, which is faster for many frames."""
    return (
        settings.rows_at_once
        and settings.params.max_iters == 1
        and settings.estimator == ESTIMATORS.index("mean")
        and FEWEST <= len(settings.order) <= MANY
    )


def _mark_and_run(call: _Call, extras: Extras, recipe: Recipe, shape: tuple[int, ...]) -> None:
    """Mark some rows of values and combine them, then the next."""
    n, rows, nx = shape
    radius, settings = recipe.rejection.grow or 0.0, call.settings.value
    reach = int(radius)
    height = max(STRIP // (n * nx + 1), 1 + 4 * reach)
    for first in range(settings.first, settings.last, height):
        last = min(first + height, settings.last)
        above, below = max(first - reach, 0), min(last + reach, rows)
        marks = make_marks((n, below - above, nx))
        wider = settings._replace(first=above, last=below)
        mark_rows(*call[:3], wider, call.room, extras.desk, marks)
        grow(marks, radius, settings.params.nkeep)
        inner = settings._replace(first=first, last=last, rejects=False)
        desk = extras.desk._replace(measures=False)
        _run(
            call._replace(settings=Given(inner)),
            extras._replace(marks=marks, first=above, desk=desk),
        )


def _result(out: Output, extras: Extras | None, dtype: np.dtype[Any]) -> KernelResult:
    low, high, missing = out.frames.T.copy()
    return KernelResult(
        data=out.data.astype(dtype, copy=False),
        uncert=out.uncert.astype(dtype, copy=False),
        count=out.counts.kept,
        low=out.counts.low,
        high=out.counts.high,
        saturated=out.counts.saturated,
        kept=out.data.size - low - high - missing,
        rej_low=low,
        rej_high=high,
        missing=missing,
        frame_sums=out.frame_sums,
        half_sums=out.half_sums,
        propagated=extras.propagated.astype(dtype) if extras else _NONE,
        exposure=extras.exposure.astype(dtype) if extras else _NONE,
    )


def _check_estimator(recipe: Recipe) -> None:
    if recipe.estimator not in ESTIMATORS:
        raise UsageError(unknown("estimator", recipe.estimator, ESTIMATORS))
    if not 0 <= recipe.trim < 0.5:
        raise UsageError(f"trim is {recipe.trim:g}; it may be 0 or more, and below 0.5")


def _shared_noise(recipe: Recipe, frames: FrameTerms) -> tuple[float, float] | None:
    """Return the a and b of a rule that needs the noise, where all frames have the same, z 0."""
    noise = np.asarray(frames.noise)
    if not RULES[recipe.rejection.rule].same_noise or frames.variance.size or not noise.size:
        return None
    a, b, z = noise[0]
    return (float(a), float(b)) if z == 0 and (noise == noise[0]).all() else None


def _is_common(recipe: Recipe, marks: bool) -> bool:
    """Whether windows of the sorted values, and sums of them in sorted order, are all it takes."""
    spec = RULES[recipe.rejection.rule]
    return not (
        marks
        or spec.rows
        or recipe.rejection.grow
        or recipe.estimator == "weighted"
        or {"propagated", "exposure"} & set(recipe.planes)
    )


def _extras(
    recipe: Recipe, frames: FrameTerms, raw: tuple[int, ...], shape: tuple[int, int], call: _Call
) -> Extras:
    """Return what compiled code needs beyond the common case.

    Raises
    ------
    ValueError
        Terms of the frames that do not fit, or are missing.
    """
    spec, planes = RULES[recipe.rejection.rule], recipe.planes
    if (spec.noise or "propagated" in planes) and not (frames.noise.size or frames.variance.size):
        what = f"rule {recipe.rejection.rule!r}" if spec.noise else "the plane 'propagated'"
        raise ValueError(f"{what} needs the noise of the frames or the variance of the values")
    if "exposure" in planes and not frames.exptime.size:
        raise ValueError("the plane 'exposure' needs the exposure times of the frames")
    terms = frame_terms(frames, raw)
    return Extras(
        make_marks((0, 0, 0)),
        first=0,
        desk=make_desk(spec, terms, call.room.value.width, raw[0], masks=call.settings.value.masks),
        propagated=np.empty(shape if "propagated" in planes else (0, 0)),
        exposure=np.empty(shape if "exposure" in planes else (0, 0)),
    )


def _whole(raw: Array, terms: LoadTerms, work: np.dtype[Any]) -> bool:
    """Whether values are sorted as the integers that they are: to the same result, but faster.

    The largest integer stands for a value left out. It must not be a value at the same time, so
    that masks and a lower threshold need another limit beside them. Ranks have the same type.
    """
    narrow = raw.dtype == np.uint16 and len(raw) <= 65535 and work != np.float64
    if not narrow or terms.calibrates or terms.frame_mask.size:
        return False
    return terms.saturation <= 65535 or terms.raw_high < 65535 or not _leaves_out(terms)


def _leaves_out(terms: LoadTerms) -> bool:
    return bool(
        terms.bad.size
        or terms.frame_mask.size
        or terms.saturation < np.inf
        or terms.raw_low > -np.inf
        or terms.raw_high < np.inf
    )


class _Case(NamedTuple):
    """What settings depend on."""

    rejection: Rejection
    floor: Floor
    estimator: str
    trim: float
    ranks: tuple[int, ...]
    kind: np.dtype[Any]
    """Type of the values."""
    leaves_out: bool
    """Whether any of them may be left out as they are loaded."""
    masks: bool
    margin: tuple[int, int]
    height: int
    """Rows, the margins above and below among them."""
    part: int


@functools.lru_cache(maxsize=16)
def _settings(case: _Case) -> Given:
    """Return `Settings`, as a value that is given; those of bands that are alike are made once."""
    kind, rejection, n = case.kind, case.rejection, len(case.ranks)
    if kind.kind == "f":
        missing, top = kind.type(np.inf), np.finfo(kind).max
    else:
        missing = kind.type(np.iinfo(kind).max)
        top = kind.type(int(missing) - 1) if case.leaves_out else missing
    return Given(
        Settings(
            params=rules.params(rejection, case.floor, n),
            order=np.argsort(case.ranks, kind="stable").astype(np.int64),
            plan=network(n, lanes(n, kind) * kind.itemsize),
            ratio=ratios(case.estimator, n),
            estimator=ESTIMATORS.index(case.estimator),
            trim=case.trim,
            step=float(case.floor.step),
            missing=missing,
            top=top,
            least=kind.type(-np.inf if kind.kind == "f" else 0),
            rounding=2.0**-20 if kind == np.float32 else 2.0**-48,
            rejects=rejection.rule not in ("none", "threshold"),
            masks=case.masks,
            rows_at_once=(
                rejection.rule == "sigma"
                and rejection.center in ("median", "first-median")
                and rejection.deviation == "mad"
            ),
            tails=rejection.rule == "minmax",
            first=case.margin[0],
            last=case.height - case.margin[1],
            top_margin=case.margin[0],
            part=case.part,
        )
    )


def warm_up() -> None:
    """Compile or load the default path: uint16 values without calibration, float32 planes."""
    raw = np.arange(24, dtype=np.uint16).reshape(3, 2, 4)
    combine_block(raw, LoadTerms(), Recipe(), Floor(), np.arange(3))
