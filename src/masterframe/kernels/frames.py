"""The numbers of each frame, and of the two halves of the frames, from one tile.

Deviations of kept values from the combined level are summed over x for each frame, and over the
even and the odd frames for each pixel. They have the type of the calibrated values. Sums over x are
kept apart by x modulo `PARTIALS` until the row is done, each of a few dozen terms: they run side by
side, in an order that no tile width changes, and lose no more than 1e-6 of themselves in float32.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from masterframe.kernels.estimate import LEVEL
from masterframe.kernels.load import (
    EVEN,
    HI,
    LO,
    MISSING,
    ODD,
    REJECTED_HIGH,
    REJECTED_LOW,
    VALID,
)
from masterframe.kernels.native import part
from masterframe.kernels.rows import HIGHEST, LOWEST
from masterframe.kernels.sums import add_deviations
from masterframe.kernels.vectors import BITS, above, below, first, first_lanes, unlike

PARTIALS = BITS
"""Tiles are a multiple of it wide."""
APART, LEVELS, EVENS, ODDS = range(4)
"""Rows of the deviations: those of the two halves from each other, the levels that those of the
frames are from, and their sums over the even and the odd frames."""
KEPT = -1
"""What `codes` say of a value that is kept; else the column of the frame's numbers it counts in."""


@part
def add_tile(room: Any, settings: Any, w: int, frames: Any) -> None:
    """Add a tile to the counts of the frames, and to the sums of the row and of the halves.

    In ``room.tile`` values are in canonical frame order, those left out above ``settings.top``; in
    ``room.bounds`` are the edges that `find_edges` or `take_bounds` has put there.
    """
    tile, ints, sums, apart = room.tile, room.ints, room.sums, room.apart
    least, most = room.bounds[LOWEST], room.bounds[HIGHEST]
    order, top = settings.order, settings.top
    levels, lost = apart[LEVELS], room.lost
    for i in range(w):
        levels[i] = room.floats[LEVEL, i]
        apart[EVENS, i], apart[ODDS, i] = 0, 0
    for k in range(tile.shape[0]):
        row, frame = tile[k], frames[order[k]]
        for start in range(0, w, PARTIALS):
            lanes, inside = slice(start, start + PARTIALS), first_lanes(w - start)
            values, low, high = row[lanes], least[lanes], most[lanes]
            out = (below(values, low) | above(values, high)) & inside
            if out != 0:
                codes, count = room.codes[k, lanes], ints[EVEN + k % 2, lanes]
                told = room.told[start // PARTIALS], codes
                out = _count_lost(out, values, low, top, told, count, frame)
            lost[start // PARTIALS] = out | ~inside
        add_deviations(row, levels, lost, apart[EVENS + k % 2], sums[k], w)


@part
def _count_lost(
    out: int, values: Any, least: Any, top: Any, told: Any, count: Any, frame: Any
) -> Any:  # fmt: skip
    """Count those values of a frame that are not kept; return their bits.

    `out` are the bits of those that are out of the edges. `told` are the bits of the lanes where
    codes say what became of such values, and the codes.
    """
    (by_code, codes), lost = told, np.int64(0)
    while out != 0:
        i = first(out)
        out &= out - 1
        code = codes[i]
        if (by_code >> i) & 1 == 0:
            code = REJECTED_LOW if values[i] < least[i] else REJECTED_HIGH
            code = code if values[i] <= top else MISSING
        if code != KEPT:
            lost |= np.int64(1) << i
            count[i] -= 1
            if code != MISSING:  # those were counted when they were loaded
                frame[code] += 1
    return lost


@part
def take_bounds(room: Any, w: int) -> None:
    """Take the bounds for the edges: no value left out, all within them kept, and none beyond."""
    even, odd, n = room.ints[EVEN], room.ints[ODD], room.tile.shape[0]
    for i in range(w):
        even[i], odd[i] = (n + 1) // 2, n // 2
    for start in range(0, w, PARTIALS):
        room.told[start // PARTIALS] = 0


@part
def find_edges(room: Any, settings: Any, w: int) -> None:
    """Put into the bounds what all values between are kept, lane by lane.

    They are the lowest and the highest kept value; where one of them has an equal that is not kept,
    the next within. Of values out of them `codes` say there what became of them.
    """
    s, ints, n, top = room.sorted, room.ints, room.tile.shape[0], settings.top
    least, most = room.bounds[LOWEST], room.bounds[HIGHEST]
    lo, hi, valid = ints[LO], ints[HI], ints[VALID]
    even, odd = ints[EVEN], ints[ODD]
    for i in range(w):
        even[i], odd[i] = (n + 1) // 2, n // 2
        least[i], most[i] = settings.least, top
    for start in range(0, w, PARTIALS):
        lanes, told = slice(start, start + PARTIALS), np.int64(0)
        lossy = unlike(hi[lanes], lo[lanes], n) & first_lanes(w - start)
        while lossy != 0:
            i = start + first(lossy)
            lossy &= lossy - 1
            a, b, end = lo[i], hi[i], valid[i]
            if a < b and (a == 0 or s[a - 1, i] < s[a, i]) and (b == end or s[b - 1, i] < s[b, i]):
                least[i], most[i] = s[a, i], s[b - 1, i]
                continue
            told |= np.int64(1) << (i - start)
            least[i], most[i] = _within(s, i, (a, b, end), settings)
            _tell(room.tile, s, i, (a, b, end), top, room.codes)
        room.told[start // PARTIALS] = told


@part
def _within(s: Any, i: int, window: Any, settings: Any) -> Any:
    """Return the bounds of the values that have no equal beyond an edge; crossed if none."""
    a, b, valid = window
    least, most = a, b - 1
    if a > 0:
        while least < b and s[least, i] == s[a - 1, i]:
            least += 1
    if b < valid:
        while most >= a and s[most, i] == s[b, i]:
            most -= 1
    if least > most:
        return settings.top, settings.least
    return s[least, i], s[most, i]


@part
def _tell(tile: Any, s: Any, i: int, window: Any, top: Any, codes: Any) -> None:
    """Put into codes what became of the values of a lane: equal ones in the order of frames.

    What lies between the lowest and the highest kept value is kept, and needs no code.
    """
    lo, hi, valid = window
    first, last = min(lo, max(valid - 1, 0)), max(hi - 1, 0)
    least, most = s[first, i], s[last, i]
    while first > 0 and s[first - 1, i] == least:
        first -= 1
    while last > 0 and s[last - 1, i] == most:
        last -= 1
    for k in range(tile.shape[0]):
        value = tile[k, i]
        if least < value < most:
            continue
        place = lo  # of the value among the sorted ones, as far as it matters
        if value == least:
            place = first
            first += 1
        elif value == most:
            place = last
            last += 1
        elif value < least:
            place = -1
        elif value > most:
            place = hi
        codes[k, i] = KEPT
        if valid == 0 or value > top:
            codes[k, i] = MISSING
        elif place < lo:
            codes[k, i] = REJECTED_LOW
        elif place >= hi:
            codes[k, i] = REJECTED_HIGH


@part
def add_halves(room: Any, w: int, out: Any, y: int) -> None:
    """Add n, d and d ** 2 of the pixels of a tile: d is half the even mean minus the odd mean."""
    ints, apart, sums = room.ints, room.apart, room.sums[room.tile.shape[0]]
    d, evens, odds, even, odd = apart[APART], apart[EVENS], apart[ODDS], ints[EVEN], ints[ODD]
    for i in range(w):
        d[i] = even[i]
        evens[i] /= d[i]
        d[i] = odd[i]
        odds[i] /= d[i]
    n = 0
    for i in range(w):
        both = (even[i] > 0) & (odd[i] > 0)
        d[i] = evens[i] - odds[i] if both else 0
        n += int(both)
    for i in range(w, (w + PARTIALS - 1) // PARTIALS * PARTIALS):
        d[i] = 0
    total, squares = sums[0], sums[1]
    for start in range(0, w, PARTIALS):
        some = d[start : start + PARTIALS]
        for i in range(PARTIALS):
            total[i] += some[i]
            squares[i] += some[i] * some[i]
    out[y, 0] += n


@part
def close_row(order: Any, sums: Any, frame_sums: Any, half_sums: Any, y: int) -> None:
    """Put the sums of a row that is done where they belong, and clear them."""
    n = order.size
    for k in range(n):
        for j in range(2):
            frame_sums[y, order[k], j] = _folded(sums[k, j])
    half_sums[y, 1] = _folded(sums[n, 0]) * 0.5
    half_sums[y, 2] = _folded(sums[n, 1]) * 0.25


@part
def _folded(partials: Any) -> float:
    """Return a sum of partial sums, which are cleared."""
    total = 0.0
    for i in range(PARTIALS):
        total += float(partials[i])
        partials[i] = 0
    return total
