"""What became of each value of one pixel, and in which pass: the rules again, pass by pass.

A rule leaves centre, spread and bounds of its last pass in the trace. The same compiled rule is
run on the same sorted values with one pass at most, then two, and so on: what is rejected then and
was not before went in that pass.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from masterframe.kernels import rules
from masterframe.kernels.load import calibrate_block
from masterframe.kernels.native import kernel
from masterframe.kernels.registry import RULES, resolve_rejection
from masterframe.kernels.rules import HIGH, KEPT, LOW, TRACED, Floor
from masterframe.kernels.rules.common import CENTER, LEAST, MOST, PASSES, SPREAD
from masterframe.kernels.terms import LoadTerms
from masterframe.model import Recipe, Rejection

Array = NDArray[Any]
MISSING = 3
"""Code of a value that was left out before the rule: no number, masked or saturated."""


class PassNumbers(NamedTuple):
    """The numbers by which one pass judged the values; NaN and infinities where it has none."""

    center: float
    spread: float
    least: float
    most: float


@dataclass(frozen=True, slots=True)
class ColumnHistory:
    """What became of the N values of one pixel, in the order of the frames given."""

    values: Array
    """Calibrated values, shape (N,), those left out included; NaN or infinite as they came out."""
    codes: NDArray[np.int8]
    """`KEPT`, `LOW`, `HIGH` or `MISSING` of each, shape (N,)."""
    when: NDArray[np.int64]
    """Pass that rejected it, from 1; 0 where none did (thresholds come before the passes)."""
    passes: tuple[PassNumbers, ...]
    """The passes, the last one included, which may have changed nothing."""


@kernel
def _window(rule: Any, column: Any, codes: Any, params: Any, row: float, trace: Any) -> None:
    """Apply a rule that keeps a window."""
    n = np.int64(column.size)
    lo, hi = rules.called(rule, column).window(column, np.int64(0), n, params, row, trace)
    for k in range(lo):
        codes[k] = LOW
    for k in range(hi, n):
        codes[k] = HIGH


@kernel
def _mask(
    rule: Any, column: Any, noise: Any, codes: Any, params: Any, row: float, trace: Any
) -> None:  # fmt: skip
    """Apply a rule that marks values."""
    rules.called(rule, column).mask(column, noise, codes, np.int64(column.size), params, row, trace)


@kernel
def _measure(rule: Any, columns: Any, sizes: Any, params: Any, sums: Any) -> None:
    own = rules.called(rule, sums)
    for x in range(sizes.size):
        own.measure(columns[x], sizes[x], params, sums)


def pixel_history(
    raw: Array,
    terms: LoadTerms,
    recipe: Recipe,
    floor: Floor,
    rank: NDArray[np.integer[Any]],
    *,
    noise: NDArray[np.float64] | None = None,
    row: float = 0.0,
) -> ColumnHistory:
    """Tell what becomes of each value of one pixel.

    Parameters
    ----------
    raw : ndarray, shape (N, 1, 1)
        Raw values of the pixel.
    terms : LoadTerms
        What is applied to them, of this shape.
    recipe : Recipe
        Rejection and dtype; ``grow`` needs other pixels and is not looked at.
    floor : Floor
        The noise floor.
    rank : ndarray of int, shape (N,)
        Canonical rank of each frame, the order of equal values.
    noise : ndarray, shape (N, 3), optional
        Variance terms a, b, z of each value for rules that need them.
    row : float
        What `row_statistic` gives for the pixel's row, for rules that need it.

    Returns
    -------
    ColumnHistory
        Equal to what `combine_block` does, which runs the same compiled code.

    Raises
    ------
    UsageError
        A rejection that `resolve_rejection` refuses.
    """
    rejection = resolve_rejection(recipe.rejection)
    values = calibrate_block(raw, _unlimited(terms), recipe.dtype)[:, 0, 0]
    left = calibrate_block(raw, terms, recipe.dtype)[:, 0, 0]
    codes = _first_codes(raw[:, 0, 0], values, left, terms)
    when = np.zeros(codes.size, np.int64)
    order = np.argsort(rank, kind="stable")
    order = order[np.isfinite(left[order])]
    order = order[np.argsort(left[order], kind="stable")]
    if not order.size or rejection.rule in ("none", "threshold"):
        return ColumnHistory(values, codes, when, ())
    column = left[order].astype(np.float64)
    variances = np.zeros((order.size, 3)) if noise is None else np.ascontiguousarray(noise[order])
    passes: list[PassNumbers] = []
    for number in range(1, _most_passes(rejection) + 1):
        found, trace = _run(rejection, floor, raw.shape[0], column, variances, number, row)
        if trace[PASSES] >= number:
            passes.append(PassNumbers(*trace[[CENTER, SPREAD, LEAST, MOST]].tolist()))
        fresh = (found != KEPT) & (codes[order] == KEPT)
        codes[order[fresh]] = found[fresh]
        when[order[fresh]] = number
        if not fresh.any():
            break
    return ColumnHistory(values, codes, when, tuple(passes))


def row_statistic(values: Array, rejection: Rejection, floor: Floor) -> float:
    """Return the number that a rule measures over a whole row; 0 for a rule that does not.

    Parameters
    ----------
    values : ndarray, shape (N, nx)
        Calibrated values of the row, NaN where one is left out.
    rejection : Rejection
        The rule.
    floor : Floor
        The noise floor.
    """
    if not RULES[rejection.rule].rows:
        return 0.0
    frames = values.shape[0]
    given = np.where(np.isfinite(values), values, np.inf).astype(np.float64)
    columns = np.ascontiguousarray(np.sort(given, axis=0).T)
    sizes = np.isfinite(columns).sum(axis=1).astype(np.int64)
    params = rules.params(resolve_rejection(rejection), floor, frames)
    rule, sums = rules.compiled(rejection.rule), np.zeros(2)
    _measure(rule, columns, sizes, params, sums)
    return math.sqrt(sums[0] / sums[1]) if sums[1] else 0.0


def _unlimited(terms: LoadTerms) -> LoadTerms:
    """Return the arithmetic of the load step without what leaves values out."""
    absent = LoadTerms()
    limits = ("bad", "frame_mask", "saturation", "raw_low", "raw_high")
    return terms._replace(**{name: getattr(absent, name) for name in limits})


def _first_codes(raw: Array, values: Array, left: Array, terms: LoadTerms) -> NDArray[np.int8]:
    """Return what the load step did: a threshold rejects, all else is missing."""
    codes = np.where(np.isfinite(left), KEPT, MISSING).astype(np.int8)
    raw = raw.astype(np.float64)  # bounds are: no rounding of theirs decides
    masked = raw >= terms.saturation
    for mask in (terms.bad, terms.frame_mask):
        if mask.size:
            masked = masked | mask.reshape(-1)
    judged = (codes == MISSING) & np.isfinite(values) & ~masked
    codes[judged & (raw < terms.raw_low)] = LOW
    codes[judged & (raw > terms.raw_high)] = HIGH
    return codes


def _most_passes(rejection: Rejection) -> int:
    if "max_iters" not in RULES[rejection.rule].options:
        return 1
    return rules.NO_LIMIT if rejection.max_iters == "all" else int(rejection.max_iters or 1)


def _run(
    rejection: Rejection,
    floor: Floor,
    frames: int,
    column: NDArray[np.float64],
    noise: NDArray[np.float64],
    passes: int,
    row: float,
) -> tuple[NDArray[np.int8], NDArray[np.float64]]:
    """Return the codes of the sorted values after so many passes at most, and the trace."""
    params = rules.params(rejection, floor, frames)._replace(max_iters=passes)
    rule = rules.compiled(rejection.rule)
    codes, trace = np.zeros(column.size, np.int8), np.zeros(TRACED)
    masks = RULES[rejection.rule].masks
    if masks:
        _mask(rule, column, noise, codes, params, float(row), trace)
    else:
        _window(rule, column, codes, params, float(row), trace)
    return codes, trace
