"""Values that are left out one by one: rules that mark values, and what grows from those rejected.

Where a window of the sorted values does not say all, what is rejected is left out of the tile as
soon as it is judged (`leave_rejected`). What grows must be known of whole rows: their values are
marked first, frame by frame; then the combination leaves out those marked when it loads them
(`leave_marked`).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from masterframe.kernels import rules
from masterframe.kernels.load import (
    HI,
    HIGH,
    LO,
    LOW,
    REJECTED_HIGH,
    REJECTED_LOW,
    TAIL_HIGH,
    TAIL_LOW,
    VALID,
)
from masterframe.kernels.native import kernel, part
from masterframe.kernels.registry import RuleSpec
from masterframe.kernels.sorting import sort_rows
from masterframe.kernels.terms import FrameTerms
from masterframe.kernels.tiles import find_windows, load_frame, load_tile, start_lanes

GONE = 3
"""The mark of a value that is not there."""
GROWN = 4
"""Added to `rules.LOW` or `rules.HIGH` of the rejected neighbour that takes a value with it."""
FAR = 2**62
"""Where no rejected value is near."""
STRIP = 2**22
"""Marks that are made before their values are combined, where nothing grows: they stay in a cache
meanwhile."""


class Marks(NamedTuple):
    """The marks of some rows of raw values."""

    codes: NDArray[np.int8]
    """What became of each value, shape (N, rows, nx), in canonical order."""
    pivot: NDArray[np.float64]
    """Lower median of the values of each pixel before any was rejected, shape (rows, nx)."""


class Desk(NamedTuple):
    """What the marking of values needs beside the tile."""

    terms: FrameTerms
    frames: NDArray[np.int64]
    """Takes the counts of each frame, which are taken when its values are combined."""
    seen: NDArray[np.int32]
    """Values that the thresholds had rejected before a frame was loaded, shape (2, lanes)."""
    codes: NDArray[np.int8]
    """Marks of a pixel's sorted values."""
    places: NDArray[np.int64]
    """Place of each frame's value among them; -1: none."""
    taken: NDArray[np.int64]
    noise: NDArray[np.float64]
    """a, b and z of each sorted value."""
    sums: NDArray[np.float64]
    weights: NDArray[np.float64]
    """Of the values of a frame in a tile."""
    spreads: NDArray[np.float64]
    """Their variances where nothing is expected: a."""
    pivots: NDArray[np.float64]
    """Lower medians of the values in a tile before any was rejected."""
    masks: bool
    noisy: bool
    measures: bool


def make_desk(spec: RuleSpec, terms: FrameTerms, lanes: int, n: int, *, masks: bool) -> Desk:
    """Return room for marking n frames by a rule, which may mark values or keep a window."""
    return Desk(
        terms,
        frames=np.zeros((n, 3), np.int64),
        seen=np.zeros((2, lanes), np.int32),
        codes=np.zeros(n, np.int8),
        places=np.zeros(n, np.int64),
        taken=np.zeros(n, np.int64),
        noise=np.zeros((n, 3)),
        sums=np.zeros(2),
        weights=np.ones(lanes),
        spreads=np.zeros(lanes),
        pivots=np.zeros(lanes),
        masks=masks,
        noisy=masks and spec.noise,
        measures=spec.rows,
    )


def make_marks(shape: tuple[int, int, int]) -> Marks:
    """Return room for the marks of values of shape (N, rows, nx)."""
    return Marks(np.empty(shape, np.int8), np.empty(shape[1:]))


@kernel
def mark_rows(
    source: Any, cal: Any, addresses: Any, settings: Any, room: Any, desk: Any, marks: Any
) -> None:  # fmt: skip
    """Mark the values of the rows that the settings name; `addresses` are those of the rule."""
    nx, width = marks.pivot.shape[1], room.width
    room.touched[0] = True
    rule = rules.called(addresses, room.tile)
    for y in range(settings.first, settings.last):
        row = 0.0
        if desk.measures:
            row = measure_row(source, cal, rule, settings, room, desk, (y, nx))
        for x0 in range(0, nx, width):
            w = min(width, nx - x0)
            missing = _load_and_mark(source, cal, settings, room, desk, (y, x0, w))
            sort_rows(room.tile, room.sorted, w, settings.plan)
            find_windows(cal, rule, settings, room, missing, w, row)
            _mark_lanes(rule, settings, room, desk, (y, x0, w), row)
            line = y - settings.first
            for k in range(room.codes.shape[0]):
                for i in range(w):
                    marks.codes[k, line, x0 + i] = room.codes[k, i]
            for i in range(w):
                middle = max(room.ints[VALID, i] - 1, 0) // 2
                marks.pivot[line, x0 + i] = room.sorted[middle, i]


@part
def measure_row(
    source: Any, cal: Any, rule: Any, settings: Any, room: Any, desk: Any, row: Any
) -> float:
    """Return the number that the rule measures over all pixels of a row, from left to right."""
    y, nx = row
    s, column, width = room.sorted, room.column, room.width
    desk.sums[:] = 0.0
    for x0 in range(0, nx, width):
        w = min(width, nx - x0)
        load_tile(source, cal, settings, room, desk.frames, (y, x0, w))
        sort_rows(room.tile, s, w, settings.plan)
        for i in range(w):
            valid = np.int64(room.ints[VALID, i])
            if valid:
                for k in range(valid):
                    column[k] = s[k, i]
                rule.measure(column, valid, settings.params, desk.sums)
    return math.sqrt(desk.sums[0] / desk.sums[1]) if desk.sums[1] else 0.0


@part
def _load_and_mark(
    source: Any, cal: Any, settings: Any, room: Any, desk: Any, place: Any
) -> int:  # fmt: skip
    """Load a tile; mark what is gone, and what the thresholds reject; return how many that are."""
    ints, seen, codes, w = room.ints, desk.seen, room.codes, place[2]
    n, missing = room.tile.shape[0], 0
    start_lanes(room)
    room.touched[0] = True
    seen[:] = 0
    for k in range(n):
        lost = load_frame(source, cal, settings, room, desk.frames, k, place)
        missing += lost
        for i in range(w):
            codes[k, i] = rules.KEPT
        if not lost:
            continue
        for i in range(w):
            if room.tile[k, i] > settings.top:
                codes[k, i] = GONE
            if ints[LOW, i] > seen[0, i]:
                codes[k, i] = rules.LOW
            if ints[HIGH, i] > seen[1, i]:
                codes[k, i] = rules.HIGH
            seen[0, i] = ints[LOW, i]
            seen[1, i] = ints[HIGH, i]
    return missing


@part
def _mark_lanes(rule: Any, settings: Any, room: Any, desk: Any, place: Any, row: float) -> None:
    """Mark the values of each pixel that the rule rejects; the others are marked kept already."""
    ints, marked, codes, places = room.ints, room.codes, desk.codes, desk.places
    for i in range(place[2]):
        valid = np.int64(ints[VALID, i])
        if ints[HI, i] - ints[LO, i] == valid or not _judge(
            rule, settings, room, desk, place, i, row
        ):
            continue
        for k in range(places.size):
            if places[k] >= 0:
                marked[k, i] = codes[places[k]]


@part
def _judge(
    rule: Any, settings: Any, room: Any, desk: Any, place: Any, i: int, row: float
) -> bool:  # fmt: skip
    """Say whether the rule rejects any value of a pixel; if so, find codes and places of all.

    Few calls are made for a pixel, and of few arrays: each of them counts who holds it.
    """
    s, ints, column, codes, places = room.sorted, room.ints, room.column, desk.codes, desk.places
    lo, hi, valid = ints[LO, i], ints[HI, i], np.int64(ints[VALID, i])
    for k in range(valid):
        column[k] = s[k, i]
        codes[k] = rules.KEPT
    if desk.noisy:
        find_places(room.tile, i, column, valid, places, desk.taken)
        _gather_noise(desk, settings.order, place, i)
    if desk.masks:
        rule.mask(column, desk.noise, codes, valid, settings.params, row, room.trace)
        rejected = False
        for k in range(valid):
            rejected |= codes[k] != rules.KEPT
        if not rejected:
            return False
    else:
        for k in range(lo):
            codes[k] = rules.LOW
        for k in range(hi, valid):
            codes[k] = rules.HIGH
    if not desk.noisy:
        find_places(room.tile, i, column, valid, places, desk.taken)
    return True


@part
def leave_rejected(
    rule: Any, settings: Any, room: Any, desk: Any, frames: Any, place: Any, row: float
) -> None:  # fmt: skip
    """Leave what the rule rejects out of a tile that is loaded, sorted and judged; count it."""
    ints, s = room.ints, room.sorted
    room.touched[0] = True
    for i in range(place[2]):
        desk.pivots[i] = s[max(ints[VALID, i] - 1, 0) // 2, i]
    for i in range(place[2]):
        if ints[HI, i] - ints[LO, i] == ints[VALID, i]:
            continue
        if _judge(rule, settings, room, desk, place, i, row):
            _leave(settings, room, desk, frames, i)
        ints[LO, i], ints[HI, i] = 0, ints[VALID, i]


@part
def _leave(settings: Any, room: Any, desk: Any, frames: Any, i: int) -> None:
    """Leave out the values of a pixel that the codes of its sorted values reject."""
    tile, s, ints, sign = room.tile, room.sorted, room.ints, settings.missing
    codes, places, valid, left = desk.codes, desk.places, ints[VALID, i], 0
    for k in range(places.size):
        if places[k] < 0 or codes[places[k]] == rules.KEPT:
            continue
        tile[k, i] = sign
        low = codes[places[k]] == rules.LOW
        frames[settings.order[k], REJECTED_LOW if low else REJECTED_HIGH] += 1
    for k in range(valid):
        if codes[k] == rules.KEPT:
            s[left, i] = s[k, i]
            left += 1
        elif codes[k] == rules.LOW:
            ints[TAIL_LOW, i] += 1
        else:
            ints[TAIL_HIGH, i] += 1
    for k in range(left, valid):
        s[k, i] = sign
    ints[VALID, i] = left
    ints[LOW, i] += ints[TAIL_LOW, i]
    ints[HIGH, i] += ints[TAIL_HIGH, i]


@part
def find_places(tile: Any, i: int, column: Any, n: int, places: Any, taken: Any) -> None:
    """Find the places of the values tile[:, i] in column[:n], which holds them sorted.

    Equal values have theirs in the order of their rows; a value that is not there has -1. `taken`
    counts how many of some equal places are given away, at the first of them.
    """
    last = column[n - 1]
    for k in range(n):
        taken[k] = 0
    for k in range(places.size):
        value = float(tile[k, i])
        places[k] = -1
        if value > last:
            continue
        lo, hi = 0, n - 1
        while lo < hi:
            middle = (lo + hi) // 2
            if column[middle] < value:
                lo = middle + 1
            else:
                hi = middle
        places[k] = lo + taken[lo]
        taken[lo] += 1


@part
def _gather_noise(desk: Any, order: Any, place: Any, i: int) -> None:
    """Put the noise of each value of a pixel where the value has its place."""
    places, noise, terms = desk.places, desk.noise, desk.terms
    y, x = place[0], place[1] + i
    for k in range(places.size):
        at = places[k]
        if at < 0:
            continue
        noise[at, :] = 0.0
        if terms.noise.size:
            for j in range(3):
                noise[at, j] = terms.noise[order[k], j]
        if terms.variance.size:
            noise[at, 0] = terms.variance[order[k], y, x]


@kernel
def _grow(codes: Any, radius: float, nkeep: int, nearest: Any, kept: Any) -> None:
    """Reject the kept values within a radius of one that was rejected, frame by frame."""
    frames, rows, nx = codes.shape
    kept[:] = 0
    nearest[:] = FAR
    for k in range(frames):
        _reach_out(codes[k], radius, nearest)
        for y in range(rows):
            for x in range(nx):
                key = nearest[y, x]
                nearest[y, x] = FAR
                if codes[k, y, x] != rules.KEPT:
                    continue
                if key == FAR:
                    kept[y, x] += 1
                else:
                    codes[k, y, x] = GROWN + (rules.LOW if key % 2 else rules.HIGH)
    for k in range(frames):
        for y in range(rows):
            for x in range(nx):
                if kept[y, x] < nkeep and codes[k, y, x] > GROWN:
                    codes[k, y, x] = rules.KEPT


@part
def _reach_out(codes: Any, radius: float, nearest: Any) -> None:
    """Tell all pixels of a frame how near the nearest rejected value is.

    In `nearest` is twice the square of its distance, and 1 more where it is low: the least of them
    tells the side.
    """
    rows, nx = codes.shape
    reach = int(radius)
    for y in range(rows):
        for x in range(nx):
            code = codes[y, x]
            if code not in (rules.LOW, rules.HIGH):
                continue
            for v in range(max(y - reach, 0), min(y + reach + 1, rows)):
                for u in range(max(x - reach, 0), min(x + reach + 1, nx)):
                    square = (v - y) ** 2 + (u - x) ** 2
                    if square <= radius * radius:
                        key = 2 * square + (1 if code == rules.LOW else 0)
                        nearest[v, u] = min(nearest[v, u], key)


def grow(marks: Marks, radius: float, nkeep: int) -> None:
    """Reject with each rejected value those of the same frame within a radius (pixels).

    A value has the side of the rejected one that is nearest to it, high where two are equally near.
    Only values that the rule rejected take others with them, not those that are missing, and not
    those that were taken; so it is in IRAF's imcombine (``icgrow.gx``). There growing does not ask
    for nkeep; here a pixel of which fewer values would be left keeps all that the rule had kept.

    Parameters
    ----------
    marks : Marks
        Changed in place.
    radius : float
        Distance between the centres of pixels, itself included.
    nkeep : int
        Values that growing must leave.
    """
    if radius < 1:
        return
    shape = marks.pivot.shape
    _grow(marks.codes, float(radius), nkeep, np.empty(shape, np.int64), np.empty(shape, np.int64))


@part
def leave_marked(marks: Any, settings: Any, room: Any, frames: Any, place: Any, top: int) -> None:
    """Leave out what is marked rejected of a tile just loaded, and count it.

    `top` is the row of the raw values that the first of the marks belongs to.
    """
    tile, ints, sign = room.tile, room.ints, settings.missing
    y, x0, w = place
    room.touched[0] = True
    for k in range(tile.shape[0]):
        codes = marks.codes[k, y - top, x0 : x0 + w]
        frame = settings.order[k]
        for i in range(w):
            code = codes[i]
            if code == rules.KEPT or tile[k, i] > settings.top:
                continue
            tile[k, i] = sign
            ints[VALID, i] -= 1
            if code == rules.LOW:
                ints[TAIL_LOW, i] += 1
            elif code == rules.HIGH:
                ints[TAIL_HIGH, i] += 1
            if code % GROWN == rules.LOW:
                ints[LOW, i] += 1
                frames[frame, REJECTED_LOW] += 1
            else:
                ints[HIGH, i] += 1
                frames[frame, REJECTED_HIGH] += 1
