"""Runs a compiled rejection rule on many pixels, by its address as the combination does.

``run(rejection, values, noise=..., floor=...)`` takes float64 values of shape (pixels, frames) with
frames in canonical order and NaN where a value is missing, and for rules that mark single values
``noise`` of shape (pixels, frames, 3): a, b and z of each value. Without noise a rule that has a
window for it is asked for that: all values have the noise of the floor. All pixels together are one
row of an image, for rules that measure a row first. It gives a `Driven`: what became of each value,
in the order given, and the trace of each pixel.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from masterframe.kernels import RULES, Floor, resolve_rejection, rules
from masterframe.kernels.native import kernel
from masterframe.model import Rejection

MISSING = -1
NO_FLOOR = Floor()


class Driven(NamedTuple):
    codes: Any
    """`rules.KEPT`, `rules.LOW`, `rules.HIGH` or `MISSING`, shape (pixels, frames)."""
    trace: Any
    """Centre, spread, bounds of the last pass, and the number of passes, shape (pixels, 5)."""

    def counts(self) -> Any:
        """Kept, low and high values of each pixel, shape (pixels, 3)."""
        return np.stack([(self.codes == code).sum(1) for code in range(3)], axis=1)


@kernel
def _measure(rule: Any, columns: Any, counts: Any, params: Any, sums: Any) -> None:
    own = rules.called(rule, columns)
    for i in range(len(columns)):
        own.measure(columns[i], counts[i], params, sums)


@kernel
def _apply(
    rule: Any, columns: Any, noise: Any, counts: Any, params: Any, row: float, room: Any
) -> None:
    codes, trace, masks = room
    own = rules.called(rule, columns)
    for i in range(len(columns)):
        n = counts[i]
        if masks:
            own.mask(columns[i], noise[i], codes[i], n, params, row, trace[i])
        if not masks:
            lo, hi = own.window(columns[i], np.int64(0), n, params, row, trace[i])
            codes[i, :lo] = rules.LOW
            codes[i, hi:n] = rules.HIGH


def run(rejection: Rejection, values: Any, noise: Any = None, floor: Floor = NO_FLOOR) -> Driven:
    """Apply a rule to every pixel."""
    values = np.atleast_2d(np.asarray(values, np.float64))
    pixels, frames = values.shape
    order = np.argsort(values, axis=1, kind="stable")  # NaN last
    columns = np.take_along_axis(values, order, 1)
    given = np.zeros((pixels, frames, 3)) if noise is None else np.asarray(noise, np.float64)
    sorted_noise = np.ascontiguousarray(np.take_along_axis(given, order[:, :, None], 1))
    counts = np.isfinite(values).sum(1)
    rejection = resolve_rejection(rejection)
    params = rules.params(rejection, floor, frames)
    rule = rules.compiled(rejection.rule)
    as_window = RULES[rejection.rule].same_noise and noise is None
    masks = RULES[rejection.rule].masks and not as_window
    codes, trace = np.zeros((pixels, frames), np.int8), np.zeros((pixels, rules.TRACED))
    sums = np.zeros(2)
    _measure(rule, columns, counts, params, sums)
    row = math.sqrt(sums[0] / sums[1]) if sums[1] else 0.0
    _apply(rule, columns, sorted_noise, counts, params, row, (codes, trace, masks))
    codes[np.isnan(columns)] = MISSING
    back = np.empty_like(codes)
    np.put_along_axis(back, order, codes, 1)
    return Driven(back, trace)
