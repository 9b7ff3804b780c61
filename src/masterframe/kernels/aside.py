"""What is summed in canonical frame order: the weighted mean, propagated noise, exposure time."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from masterframe.kernels.estimate import (
    LEAST,
    MIDDLE,
    MOST,
    NEAR,
    NEXT,
    SQUARES,
    SUM,
    TOTAL,
    TRIMMED,
    WEIGHTED,
)
from masterframe.kernels.load import FIRST, HI, LAST, LO
from masterframe.kernels.marks import Desk, Marks, find_places
from masterframe.kernels.native import part
from masterframe.kernels.vectors import larger

WEIGHT, CENTER, SHARES, PRESENT, PLAIN = MIDDLE, NEAR, NEXT, LEAST, MOST
"""Rows of the real numbers of each lane that are free for the weighted mean: sum of the weights,
the mean, sum of the squared shares in it, how many values have a weight, the plain mean."""


class Extras(NamedTuple):
    """What a combination does that the common one does not."""

    marks: Marks
    """What was rejected before; no codes: nothing."""
    first: int
    """Row of the raw values that the first row of the marks belongs to."""
    desk: Desk
    propagated: NDArray[np.float64]
    """Standard deviations, shape (rows, nx); of size 0 where they are not wanted."""
    exposure: NDArray[np.float64]
    """Sums of the exposure times, shape (rows, nx); of size 0 where they are not wanted."""


@part
def _find_weights(desk: Any, frame: int, place: Any, means: Any) -> None:
    """Find the weights of a frame's values; 0 where one is no positive finite number.

    That of the frame; else the inverse of the variance at the plain means of the pixels: at its own
    value a low one would weigh more. All are alike where neither is known.
    """
    terms, weights = desk.terms, desk.weights
    w = place[2]
    own = terms.weights[frame] if terms.weights.size else 1.0
    for i in range(w):
        weights[i] = own
    if not terms.weights.size and (terms.noise.size or terms.variance.size):
        b, z = _find_constant_noise(desk, frame, place, weights)
        for i in range(w):
            weights[i] = 1.0 / (weights[i] + b * larger(means[i] - z, 0.0))
    for i in range(w):
        weights[i] = weights[i] if 0.0 < weights[i] < math.inf else 0.0


@part
def _find_constant_noise(desk: Any, frame: int, place: Any, spreads: Any) -> Any:
    """Find what the variances of a frame's values are without signal; return b and z."""
    terms = desk.terms
    y, x0, w = place
    a, b, z = 0.0, 0.0, 0.0
    if terms.noise.size:
        a, b, z = terms.noise[frame, 0], terms.noise[frame, 1], terms.noise[frame, 2]
    for i in range(w):
        spreads[i] = a
    if terms.variance.size:
        for i in range(w):
            spreads[i] = terms.variance[frame, y, x0 + i]
    return b, z


@part
def _weigh(room: Any, settings: Any, desk: Any, out: Any, place: Any, line: int) -> None:
    """Write weighted means and their standard deviations.

    With the shares p of the n values in the mean c the variance is sum p^2 (x - c)^2 / (1 - p): HC2
    of J. G. MacKinnon and H. White (1985). It has no bias where weights are inverse variances, and
    is s^2 / n where they are equal. It is at least that of the step.
    """
    tile, floats, order, weights = room.tile, room.floats, settings.order, desk.weights
    top, (_, x0, w) = settings.top, place
    for row in (WEIGHT, CENTER, SHARES, PRESENT, SQUARES):
        for i in range(w):
            floats[row, i] = 0.0
    for i in range(w):
        floats[PLAIN, i] = room.level[i]
    for k in range(tile.shape[0]):
        _find_weights(desk, order[k], place, floats[PLAIN])
        for i in range(w):
            kept = tile[k, i] <= top
            weight, value = weights[i] if kept else 0.0, float(tile[k, i]) if kept else 0.0
            floats[WEIGHT, i] += weight
            floats[CENTER, i] += weight * value
            floats[PRESENT, i] += 1.0 if weight > 0.0 else 0.0
    for i in range(w):
        floats[CENTER, i] /= floats[WEIGHT, i]
        out.data[line, x0 + i] = floats[CENTER, i]
        room.level[i] = out.data[line, x0 + i]
    for k in range(tile.shape[0]):
        _find_weights(desk, order[k], place, floats[PLAIN])
        for i in range(w):
            kept = tile[k, i] <= top
            share = weights[i] / floats[WEIGHT, i] if kept else 0.0
            apart = float(tile[k, i]) - floats[CENTER, i] if kept else 0.0
            floats[SQUARES, i] += share * share * apart * apart / (1.0 - share)
            floats[SHARES, i] += share * share
    least = settings.step**2 / 12.0
    for i in range(w):
        variance = max(floats[SQUARES, i], least * floats[SHARES, i])
        enough = floats[PRESENT, i] > 1.5
        out.uncert[line, x0 + i] = math.sqrt(variance) if enough else math.nan


@part
def _propagate(room: Any, settings: Any, extras: Any, place: Any, line: int) -> None:
    """Write the standard deviations that the noise of the values gives the combined ones.

    The variance of each value is that at the combined value: ``a + b max(c - z, 0)``. The mean's is
    their sum over n^2, the weighted mean's that of the squared shares times them, the sum's their
    sum; any other is the mean's times the square of the ratio of their standard deviations for
    normal data.
    """
    tile, floats, ints, used = room.tile, room.floats, room.ints, room.codes
    desk, kind, ratio = extras.desk, settings.estimator, settings.ratio
    weights, spreads = desk.weights, desk.spreads
    _, x0, w = place
    _mark_used(room, settings, desk, w)
    for i in range(w):
        floats[TOTAL, i] = 0.0
        floats[WEIGHT, i] = 0.0
        weights[i] = 1.0
    for k in range(tile.shape[0]):
        frame = settings.order[k]
        b, z = _find_constant_noise(desk, frame, place, spreads)
        if kind == WEIGHTED:
            _find_weights(desk, frame, place, floats[PLAIN])
        for i in range(w):
            variance = spreads[i] + b * larger(room.level[i] - z, 0.0)
            counts = (used[k, i] != 0) & (weights[i] > 0.0)
            floats[TOTAL, i] += weights[i] * weights[i] * variance if counts else 0.0
            floats[WEIGHT, i] += weights[i] if counts else 0.0
    for i in range(w):
        error = math.sqrt(floats[TOTAL, i])
        if kind != SUM:
            error /= floats[WEIGHT, i]
        if ratio.size:
            error *= ratio[ints[HI, i] - ints[LO, i]]
        extras.propagated[line, x0 + i] = error if ints[HI, i] > ints[LO, i] else math.nan


@part
def _mark_used(room: Any, settings: Any, desk: Any, w: int) -> None:
    """Mark the values that are averaged: those kept, without the ends for a trimmed mean."""
    tile, ints, used = room.tile, room.ints, room.codes
    for k in range(tile.shape[0]):
        for i in range(w):
            used[k, i] = tile[k, i] <= settings.top
    if settings.estimator != TRIMMED:
        return
    for i in range(w):
        n = np.int64(ints[HI, i])
        if ints[FIRST, i] == 0 or n == 0:
            continue
        for k in range(n):
            room.column[k] = room.sorted[k, i]
        find_places(tile, i, room.column, n, desk.places, desk.taken)
        for k in range(tile.shape[0]):
            used[k, i] = ints[FIRST, i] <= desk.places[k] < ints[LAST, i]


@part
def _expose(room: Any, settings: Any, extras: Any, place: Any, line: int) -> None:
    """Write the summed exposure times of the values kept."""
    tile, exposure, x0 = room.tile, extras.exposure, place[1]
    for i in range(place[2]):
        exposure[line, x0 + i] = 0.0
    for k in range(tile.shape[0]):
        time = extras.desk.terms.exptime[settings.order[k]]
        for i in range(place[2]):
            kept = tile[k, i] <= settings.top
            exposure[line, x0 + i] += time if kept else 0.0


@part
def add_aside(extras: Any, settings: Any, room: Any, out: Any, place: Any, line: int) -> None:
    """Write what is summed in frame order for a tile."""
    if settings.estimator == WEIGHTED:
        _weigh(room, settings, extras.desk, out, place, line)
    if extras.propagated.size:
        _propagate(room, settings, extras, place, line)
    if extras.exposure.size:
        _expose(room, settings, extras, place, line)
