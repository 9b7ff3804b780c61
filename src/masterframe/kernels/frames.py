"""The numbers of each frame, and of the two halves of the frames, from one tile.

Deviations of kept values from the combined level are summed over x for each frame, and over the
even and the odd frames for each pixel. Sums over x are kept apart by x modulo `PARTIALS`, and put
together when the row is done: they run side by side, in an order that no tile width changes.
"""

from __future__ import annotations

import math
from typing import Any

from masterframe.kernels.cache import part
from masterframe.kernels.estimate import APART, EVENS, LEAST, LEVEL, MOST, ODDS
from masterframe.kernels.load import EVEN, HI, LO, ODD, REJECTED_HIGH, REJECTED_LOW, VALID

PARTIALS = 32
_KEPT, _LOST = range(2)


@part
def add_tile(room: Any, w: int, top: Any, order: Any, frames: Any) -> None:
    """Add a tile to the counts of the frames, and to the sums of the row and of the halves.

    In ``room.tile`` values are in canonical frame order, those left out above `top`; in
    ``room.sorted`` they are sorted.
    """
    tile, floats, sums, codes = room.tile, room.floats, room.sums, room.codes
    n = tile.shape[0]
    told = _edges(room.sorted, w, n, room.ints, floats)
    if told:
        _count(tile, w, top, room.ints, floats, order, frames)
    else:
        _classify(room, w, top, order, frames)
    for i in range(w):
        floats[EVENS, i] = 0.0
        floats[ODDS, i] = 0.0
    for k in range(n):
        half = EVENS + k % 2
        for i in range(w):
            value = float(tile[k, i])
            kept = (value >= floats[LEAST, i]) & (value <= floats[MOST, i])
            floats[APART, i] = value - floats[LEVEL, i] if kept else 0.0
        if not told:
            for i in range(w):
                kept = codes[k, i] == _KEPT
                floats[APART, i] = float(tile[k, i]) - floats[LEVEL, i] if kept else 0.0
        for i in range(w):
            floats[half, i] += floats[APART, i]
        for i in range(w, (w + PARTIALS - 1) // PARTIALS * PARTIALS):
            floats[APART, i] = 0.0
        for start in range(0, w, PARTIALS):
            for i in range(PARTIALS):
                apart = floats[APART, start + i]
                sums[k, 0, i] += apart
                sums[k, 1, i] += apart * apart


@part
def _edges(s: Any, w: int, n: int, ints: Any, floats: Any) -> bool:
    """Put the lowest and highest kept value of each lane into floats.

    False where these two do not tell what was kept: equal values on both sides of an edge, or a
    window without values.
    """
    for i in range(w):
        lo, hi, valid = ints[LO, i], ints[HI, i], ints[VALID, i]
        ints[EVEN, i], ints[ODD, i] = (n + 1) // 2, n // 2
        floats[LEAST, i], floats[MOST, i] = -math.inf, math.inf
        if hi - lo == n:
            continue
        if valid == 0:  # nothing is below, and what is above was left out
            floats[MOST, i] = -math.inf
            continue
        if lo == hi:
            return False
        floats[LEAST, i], floats[MOST, i] = float(s[lo, i]), float(s[hi - 1, i])
        if (lo > 0 and s[lo - 1, i] == s[lo, i]) or (hi < valid and s[hi - 1, i] == s[hi, i]):
            return False
    return True


@part
def _count(tile: Any, w: int, top: Any, ints: Any, floats: Any, order: Any, frames: Any) -> None:
    """Count what each frame lost, in the lanes that lost any."""
    n = tile.shape[0]
    for i in range(w):
        if ints[HI, i] - ints[LO, i] == n:
            continue
        least, most = floats[LEAST, i], floats[MOST, i]
        for k in range(n):
            value = tile[k, i]
            if float(value) < least:
                frames[order[k], REJECTED_LOW] += 1
            elif float(value) <= most:
                continue
            elif value <= top:
                frames[order[k], REJECTED_HIGH] += 1
            ints[EVEN + k % 2, i] -= 1


@part
def _classify(room: Any, w: int, top: Any, order: Any, frames: Any) -> None:
    """Count, and mark in codes what is kept: equal values count in the order of their frames."""
    tile, s, ints, codes = room.tile, room.sorted, room.ints, room.codes
    n = tile.shape[0]
    for i in range(w):
        lo, hi, valid = ints[LO, i], ints[HI, i], ints[VALID, i]
        ints[EVEN, i], ints[ODD, i] = (n + 1) // 2, n // 2
        first, last = min(lo, max(valid - 1, 0)), max(hi - 1, 0)
        least, most = s[first, i], s[last, i]
        while first > 0 and s[first - 1, i] == least:
            first -= 1
        while last > 0 and s[last - 1, i] == most:
            last -= 1
        for k in range(n):
            value = tile[k, i]
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
                place = n
            codes[k, i] = _KEPT
            if lo <= place < hi:
                continue
            codes[k, i] = _LOST
            ints[EVEN + k % 2, i] -= 1
            if valid == 0 or value > top:
                continue
            frames[order[k], REJECTED_LOW if place < lo else REJECTED_HIGH] += 1


@part
def add_halves(w: int, ints: Any, floats: Any, out: Any, y: int) -> None:
    """Add n, d and d ** 2 of the pixels of a tile: d is half the even mean minus the odd mean."""
    n, total, squares = out[y, 0], out[y, 1], out[y, 2]
    for i in range(w):
        even, odd = ints[EVEN, i], ints[ODD, i]
        if even and odd:
            d = (floats[EVENS, i] / even - floats[ODDS, i] / odd) * 0.5
            n += 1.0
            total += d
            squares += d * d
    out[y, 0], out[y, 1], out[y, 2] = n, total, squares


@part
def close_row(order: Any, sums: Any, out: Any, y: int) -> None:
    """Put the sums of a row that is done into out[y], and clear them."""
    for k in range(sums.shape[0]):
        for j in range(2):
            total = 0.0
            for i in range(PARTIALS):
                total += sums[k, j, i]
                sums[k, j, i] = 0.0
            out[y, order[k], j] = total
