"""The driver: compiled code that takes rows tile by tile from raw values to combined pixels."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from masterframe.kernels.aside import add_aside
from masterframe.kernels.estimate import (
    MEAN,
    TRIMMED,
    approach_pivots,
    find_pivots,
    moments,
    trim,
    winsorize,
    write_counts,
    write_errors,
    write_means,
    write_values,
)
from masterframe.kernels.frames import add_halves, add_tile, close_part, find_edges, take_bounds
from masterframe.kernels.load import FIRST, HI, LAST, LO
from masterframe.kernels.marks import leave_marked, leave_rejected, measure_row
from masterframe.kernels.native import inlined, kernel
from masterframe.kernels.rules import called
from masterframe.kernels.selection import select
from masterframe.kernels.sorting import sort_rows
from masterframe.kernels.tiles import find_windows, load_tile

Array = NDArray[Any]


class Counts(NamedTuple):
    """Numbers of the values of each pixel, shape (rows, nx); of size 0 what nobody wants."""

    kept: NDArray[np.int16] | NDArray[np.int32]
    low: NDArray[np.int32]
    """Rejected on the low side."""
    high: NDArray[np.int32]
    saturated: NDArray[np.int32]


class Output(NamedTuple):
    """Where compiled code puts its results."""

    data: Array
    uncert: Array
    counts: Counts
    frames: NDArray[np.int64]
    """Rejected low, rejected high and missing values of each frame, shape (N, 3)."""
    frame_sums: NDArray[np.float64]
    half_sums: NDArray[np.float64]


@kernel
def combine_rows(  # noqa: PLR0913, PLR0917 - what compiled code is given, all of it
    source: Any,
    cal: Any,
    addresses: Any,
    settings: Any,
    room: Any,
    out: Any,
    extras: Any,
    counts: Any,
) -> None:
    """Combine rows, tile by tile.

    `addresses` are those of the rule. `cal` is None where values are sorted as raw integers.
    `counts` tells whether medians are counted instead; it is None where they never are.
    `extras` is None for the common case; else what is rejected is left out of the tile, or has been
    marked before.
    """
    nx, width, rule = out.data.shape[1], room.width, called(addresses, room.tile)
    room.touched[0] = True
    for y in range(settings.first, settings.last):
        line, row = y - settings.top_margin, 0.0
        if extras is not None and extras.desk.measures:
            row = measure_row(source, cal, rule, settings, room, extras.desk, (y, nx))
        for index in range(out.half_sums.shape[1]):
            begin = index * settings.part
            end, sums = min(begin + settings.part, nx), out.half_sums[line, index]
            for x0 in range(begin, end, width):
                place = (y, x0, min(width, end - x0))
                _combine_tile(
                    source, cal, rule, settings, room, out, extras, counts, place, row, sums
                )
            close_part(settings.order, room.sums, out.frame_sums[line, index], sums)


@inlined
def _combine_tile(  # noqa: PLR0913, PLR0917 - what compiled code is given, all of it
    source: Any,
    cal: Any,
    rule: Any,
    settings: Any,
    room: Any,
    out: Any,
    extras: Any,
    counts: Any,
    place: Any,
    row: float,
    half_sums: Any,
) -> None:
    """Combine a tile at a place (row, first column, columns)."""
    y, x0, w = place
    line = y - settings.top_margin
    goal, window = (line, x0, w), (LO, HI)
    if settings.estimator == TRIMMED:
        window = (FIRST, LAST)
    missing = load_tile(source, cal, settings, room, out.frames, place)
    if extras is not None and extras.marks.codes.size:
        leave_marked(extras.marks, settings, room, out.frames, place, extras.first)
    selected, bounded = _select_or_sort(cal, rule, settings, room, counts, (missing, w, row))
    if extras is not None and settings.rejects:
        leave_rejected(rule, settings, room, extras.desk, out.frames, place, row)
    if settings.estimator == TRIMMED:
        trim(room.ints, w, settings.trim)
    if not selected:
        find_pivots(room, w, window)
    if extras is not None and settings.rejects:
        approach_pivots(room, w, window, extras.desk.pivots)
    if extras is not None and extras.marks.codes.size:
        middles = extras.marks.pivot[y - extras.first, x0 : x0 + w]
        approach_pivots(room, w, window, middles)
    _estimate(room, settings, out, goal, window, selected)
    if extras is not None:
        add_aside(extras, settings, room, out, place, line)
    write_counts(room.ints, out.counts, goal)
    if bounded and extras is None:
        take_bounds(room, w)
    else:
        find_edges(room, settings, w)
    add_tile(room, settings, w, out.frames)
    add_halves(room, w, half_sums)


@inlined
def _estimate(
    room: Any, settings: Any, out: Any, goal: Any, window: Any, selected: bool
) -> None:  # fmt: skip
    """Write combined values and their errors; `selected`: the moments are known."""
    if settings.estimator == MEAN and not (settings.tails or selected):
        write_means(room, settings, window, out, goal)
        return
    if not selected:
        moments(room, goal[2], window)
    write_values(room, settings.estimator, window, out.data, goal)
    if settings.tails or settings.estimator == TRIMMED:
        winsorize(room, goal[2], settings.tails, window)
    write_errors(room, settings, window, out.uncert, goal)


@inlined
def _select_or_sort(
    cal: Any, rule: Any, settings: Any, room: Any, counts: Any, tile: Any
) -> tuple[bool, bool]:  # fmt: skip
    """Find what is kept of a tile.

    Return whether by counting, which gives the moments too, and whether ``room.bounds`` tell it.
    """
    missing, w, row = tile
    if counts is not None and counts and missing == 0 and select(room, settings, w):
        return True, True
    sort_rows(room.tile, room.sorted, w, settings.plan)
    return False, find_windows(cal, rule, settings, room, missing, w, row)
