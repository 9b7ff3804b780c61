"""The numbers of each frame, and of the two halves of the frames, from one tile.

Deviations of kept values from the combined level are summed over x for each frame, and over the
even and the odd frames for each pixel. They have the type of the calibrated values. Sums over x are
kept apart by x modulo `PARTIALS` until the part of the row is done, each of a few dozen terms: they
run side by side, in an order that no tile width changes, and lose no more than 1e-6 of themselves
in float32.
"""

from __future__ import annotations

from typing import Any

from masterframe.kernels.load import (
    EVEN,
    HI,
    LO,
    ODD,
    REJECTED_HIGH,
    REJECTED_LOW,
    TIES_HIGH,
    TIES_LOW,
    VALID,
)
from masterframe.kernels.native import inlined, part
from masterframe.kernels.rows import HIGHEST, LOWEST
from masterframe.kernels.sums import add_deviations
from masterframe.kernels.vectors import (
    BITS,
    above,
    among_first,
    below,
    first,
    first_lanes,
    number_of,
    unlike,
)

PARTIALS = BITS
"""Tiles are a multiple of it wide."""
APART, EVENS, ODDS = range(3)
"""Rows of the deviations: those of the two halves from each other, and the sums of those of the
even and of the odd frames from the level."""


@inlined
def add_tile(room: Any, settings: Any, w: int, frames: Any) -> None:
    """Add a tile to the counts of the frames, and to the sums of the row and of the halves.

    In ``room.tile`` values are in canonical frame order, those left out above ``settings.top``; in
    ``room.bounds`` are the edges that `find_edges` or `take_bounds` has put there. Four frames go
    together: levels and bounds are loaded once for them. Where equal values are on both sides of an
    edge each frame has bounds of its own.
    """
    tile, sums, apart, ints, level = room.tile, room.sums, room.apart, room.ints, room.level
    n, order, bounds, ties = tile.shape[0], settings.order, room.bounds, False
    evens, odds = apart[EVENS], apart[ODDS]
    for i in range(w):
        evens[i], odds[i] = 0, 0
    _fill(room, settings, w)
    for start in range(0, w, PARTIALS):
        ties |= room.tied[start // PARTIALS]
    fours = 0 if ties else n // 4 * 4
    for k in range(0, fours, 4):
        lost = add_deviations(
            (tile[k], tile[k + 1], tile[k + 2], tile[k + 3]),
            level,
            (bounds[LOWEST], bounds[HIGHEST]),
            ((evens, odds), (ints[EVEN], ints[ODD])),
            (sums[k], sums[k + 1], sums[k + 2], sums[k + 3]),
            w,
        )
        for index in range(4):
            _count_lost(room, settings, k + index, (lost[index], lost[4 + index], w), frames)
    if ties:
        bounds = room.near
    for k in range(fours, n):
        if ties:
            _leave_ties(room, settings, k, w, frames[order[k]])
        lost_one = add_deviations(
            (tile[k],),
            level,
            (bounds[LOWEST], bounds[HIGHEST]),
            ((apart[EVENS + k % 2],), (ints[EVEN + k % 2],)),
            (sums[k],),
            w,
        )
        _count_lost(room, settings, k, (lost_one[0], lost_one[1], w), frames)


@part
def _fill(room: Any, settings: Any, w: int) -> None:
    """Let the lanes beyond the width of a tile add nothing: memory may hold anything there."""
    for i in range(w, (w + PARTIALS - 1) // PARTIALS * PARTIALS):
        room.bounds[LOWEST, i], room.bounds[HIGHEST, i] = settings.least, settings.top
        room.level[i] = settings.top
        for k in range(room.tile.shape[0]):
            room.tile[k, i] = settings.top


@part
def _count_lost(room: Any, settings: Any, k: int, lost: Any, frames: Any) -> None:
    """Count the values of the k-th frame that are below and above the bounds, of so many.

    Those left out before are above all bounds; they are counted already.
    """
    low, high, w = lost
    frame, row = frames[settings.order[k]], room.tile[k]
    if room.touched[0]:
        for i in range(w):
            high -= int(row[i] > settings.top)
    frame[REJECTED_LOW] += low
    frame[REJECTED_HIGH] += high


@part
def _leave_ties(room: Any, settings: Any, k: int, w: int, frame: Any) -> None:
    """Count the values of the k-th frame that equal a bound and are beyond the edge there.

    The bounds for this frame, which leave them out, are put into ``room.near``. They are crossed in
    those lanes: what will be counted there, below and above, is taken off before.
    """
    row, ints, near = room.tile[k], room.ints, room.near
    least, most = room.bounds[LOWEST], room.bounds[HIGHEST]
    for start in range(0, w, PARTIALS):
        lanes, inside = slice(start, start + PARTIALS), first_lanes(w - start)
        for i in range(start, start + PARTIALS):
            near[LOWEST, i], near[HIGHEST, i] = least[i], most[i]
        if not room.tied[start // PARTIALS]:
            continue
        values, high = row[lanes], most[lanes]
        under = among_first(values, least[lanes], ints[TIES_LOW, lanes]) & inside
        equal = ~below(values, high) & ~above(values, high) & inside
        over = equal & ~among_first(values, high, ints[TIES_HIGH, lanes])
        frame[REJECTED_LOW] += number_of(under)
        frame[REJECTED_HIGH] += number_of(over)
        lost = under | over
        while lost != 0:
            i = start + first(lost)
            lost &= lost - 1
            near[LOWEST, i], near[HIGHEST, i] = settings.top, settings.least
            frame[REJECTED_LOW] -= int(row[i] < settings.top)
            frame[REJECTED_HIGH] -= int(row[i] > settings.least)


@part
def take_bounds(room: Any, w: int) -> None:
    """Take the bounds of the rule for the edges: all within them is kept, and nothing beyond."""
    even, odd, n = room.ints[EVEN], room.ints[ODD], room.tile.shape[0]
    for i in range(w):
        even[i], odd[i] = (n + 1) // 2, n // 2
    for start in range(0, w, PARTIALS):
        room.tied[start // PARTIALS] = False


@inlined
def find_edges(room: Any, settings: Any, w: int) -> None:
    """Put into the bounds what all values between are kept, lane by lane.

    They are the lowest and the highest kept value. Where equal values are on both sides of an edge,
    the bounds are the values next to the edge that are not kept, and it is told how many of those
    equal to them, in the order of the frames, are below the edge.
    """
    s, ints, n, top = room.sorted, room.ints, room.tile.shape[0], settings.top
    least, most = room.bounds[LOWEST], room.bounds[HIGHEST]
    lo, hi, valid = ints[LO], ints[HI], ints[VALID]
    even, odd = ints[EVEN], ints[ODD]
    for i in range(w):
        even[i], odd[i] = (n + 1) // 2, n // 2
        least[i], most[i] = settings.least, top
    for start in range(0, w, PARTIALS):
        lanes, tied = slice(start, start + PARTIALS), False
        lossy = unlike(hi[lanes], lo[lanes], n) & first_lanes(w - start)
        while lossy != 0:
            i = start + first(lossy)
            lossy &= lossy - 1
            a, b, end = lo[i], hi[i], valid[i]
            if a < b and (a == 0 or s[a - 1, i] < s[a, i]) and (b == end or s[b - 1, i] < s[b, i]):
                least[i], most[i] = s[a, i], s[b - 1, i]
                continue
            if not tied:
                ints[TIES_LOW, lanes], ints[TIES_HIGH, lanes], tied = 0, n, True
            if a > 0:
                least[i] = s[a - 1, i]
                ints[TIES_LOW, i] = _equals_below(s, i, a, least[i])
            if b < end:
                most[i] = s[b, i]
                ints[TIES_HIGH, i] = _equals_below(s, i, b, most[i])
        room.tied[start // PARTIALS] = tied


@part
def _equals_below(s: Any, i: int, edge: int, value: Any) -> int:
    """Return how many of the sorted values before an edge, from there down, equal a value."""
    place = edge
    while place > 0 and s[place - 1, i] == value:
        place -= 1
    return edge - place


@part
def add_halves(room: Any, w: int, half_sums: Any) -> None:
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
    half_sums[0] += n


@part
def close_part(order: Any, sums: Any, frame_sums: Any, half_sums: Any) -> None:
    """Put the sums of a part of a row that is done where they belong, and clear them."""
    n = order.size
    for k in range(0, n, 2):
        other = min(k + 1, n - 1)
        a, b, c, d = _folded(sums[k], sums[other])
        frame_sums[order[k], 0], frame_sums[order[k], 1] = a, b
        frame_sums[order[other], 0], frame_sums[order[other], 1] = c, d
    total, squares, _, _ = _folded(sums[n], sums[n])
    half_sums[1], half_sums[2] = total * 0.5, squares * 0.25
    sums[:] = 0


@part
def _folded(one: Any, other: Any) -> tuple[float, float, float, float]:
    """Return two sums of each of two frames: four at a time, as each waits for its last term."""
    a, b, c, d = 0.0, 0.0, 0.0, 0.0
    for i in range(PARTIALS):
        a += float(one[0, i])
        b += float(one[1, i])
        c += float(other[0, i])
        d += float(other[1, i])
    return a, b, c, d
