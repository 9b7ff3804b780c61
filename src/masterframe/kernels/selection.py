"""The default rule for hundreds of frames of whole numbers: no sorting, only counting.

Sorting N values costs N log^2 N, counting how many are at most some number costs N. The median is
found by halving an interval: a guess from three frames, and as wide as the medians before it told,
takes five counts where the whole range would take 16. The median distance from it is found alike.
With its bounds known, what is kept is summed in the order of the frames: whole numbers, so that no
order changes a bit. Lanes for which that does not hold are left to sorting.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from masterframe.kernels.deferred import cgutils, ir, types
from masterframe.kernels.estimate import SQUARES, TOTAL
from masterframe.kernels.load import HI, LO
from masterframe.kernels.native import operation, part
from masterframe.kernels.rows import HIGHEST, LOWEST, bound_middles
from masterframe.kernels.vectors import BITS, Row, spread

FEWEST = 200
"""Frames from which counting is faster than sorting."""
MANY = 2**15 - 1
"""Frames up to which counts fit the type of the values."""
LEAST, MOST, MIDDLE, COUNT = range(4)
"""Rows of the picks: the interval of each lane, its middle, and how many values are up to it."""
SUMMED = 32
"""Lanes whose sums are in registers at a time."""
LARGEST = 65535
WIDE = 4
"""Median distances from the guess at which the median is thought to be."""


class _Columns:
    """The code that goes through the values of some lanes of a tile, frame by frame."""

    def __init__(self, context: Any, builder: Any, kind: Any, tile: Any, lanes: int) -> None:
        self._builder = builder
        table = context.make_array(kind)(context, builder, tile)
        self._n, stride = (builder.extract_value(part, 0) for part in (table.shape, table.strides))
        size = ir.Constant(stride.type, kind.dtype.bitwidth // 8)
        self._stride, self._row = (
            builder.udiv(stride, size),
            Row(context, builder, kind, tile, lanes),
        )

    def each(self, first: Any, step: Any, start: Any = ()) -> list[Any]:
        """Return what numbers become that each frame's values change; `step` tells to what."""
        builder = self._builder
        kept = [cgutils.alloca_once(builder, number.type) for number in start]
        for place, number in zip(kept, start, strict=True):
            builder.store(number, place)
        with cgutils.for_range(builder, self._n, intp=ir.IntType(64)) as loop:
            place = builder.add(builder.mul(loop.index, self._stride), first)
            before = [builder.load(number) for number in kept]
            for number, new in zip(kept, step(self._row.load(place), before, place), strict=True):
                builder.store(new, number)
        return [builder.load(number) for number in kept]


def _counted(typing_context: Any, tile: Any, first: Any, bounds: Any, counts: Any) -> Any:
    """Count, of `BITS` lanes from the first on, the values that are at most the bounds."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        columns = _Columns(context, builder, tile, arguments[0], BITS)
        zero = context.get_constant(types.intp, 0)
        bound = Row(context, builder, bounds, arguments[2], BITS).load(zero)

        def step(values: Any, before: Any, place: Any) -> list[Any]:
            more = builder.zext(builder.icmp_unsigned("<=", values, bound), bound.type)
            return [builder.add(before[0], more)]

        (found,) = columns.each(arguments[1], step, [ir.Constant(bound.type, None)])
        Row(context, builder, counts, arguments[3], BITS).store(found, zero)
        return context.get_dummy_value()

    return types.void(tile, types.int64, bounds, counts), generate


def _next_above(
    typing_context: Any, tile: Any, first: Any, bounds: Any, counts: Any, goal: Any
) -> Any:  # fmt: skip
    """Count as `counted` does, and find the least values above the bounds."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        columns = _Columns(context, builder, tile, arguments[0], BITS)
        zero = context.get_constant(types.intp, 0)
        bound = Row(context, builder, bounds, arguments[2], BITS).load(zero)
        most = ir.Constant(bound.type, [LARGEST] * BITS)

        def step(values: Any, before: Any, place: Any) -> list[Any]:
            out = builder.icmp_unsigned("<=", values, bound)
            beyond = builder.select(out, most, values)
            nearer = builder.icmp_unsigned("<", beyond, before[1])
            return [
                builder.add(before[0], builder.zext(out, bound.type)),
                builder.select(nearer, beyond, before[1]),
            ]

        found = columns.each(arguments[1], step, [ir.Constant(bound.type, None), most])
        for kind, array, value in zip(signature.args[3:], arguments[3:], found, strict=True):
            Row(context, builder, kind, array, BITS).store(value, zero)
        return context.get_dummy_value()

    return types.void(tile, types.int64, bounds, counts, goal), generate


def _distances(
    typing_context: Any, tile: Any, first: Any, low: Any, high: Any, goal: Any
) -> Any:  # fmt: skip
    """Put into a goal like the tile how far values of `BITS` lanes are below low or above high."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        columns = _Columns(context, builder, tile, arguments[0], BITS)
        out = Row(context, builder, goal, arguments[4], BITS)
        lower, upper = (
            Row(context, builder, kind, array, BITS).load(arguments[1])
            for kind, array in zip(signature.args[2:4], arguments[2:4], strict=True)
        )
        none = ir.Constant(lower.type, None)

        def apart(x: Any, y: Any) -> Any:
            return builder.select(builder.icmp_unsigned(">", x, y), builder.sub(x, y), none)

        def step(values: Any, before: Any, place: Any) -> list[Any]:
            out.store(builder.or_(apart(lower, values), apart(values, upper)), place)
            return []

        columns.each(arguments[1], step)
        return context.get_dummy_value()

    return types.void(tile, types.int64, low, high, goal), generate


def _sum_between(
    typing_context: Any, tile: Any, first: Any, bounds: Any, counts: Any, floats: Any
) -> Any:  # fmt: skip
    """Sum the values of `SUMMED` lanes from the first on that are within the bounds.

    `bounds` are the least, the largest and the pivot; `counts` take how many values are below and
    above; `floats` the sum of the values, and of the squares of what they are from the pivot.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        at = arguments[1]
        columns = _Columns(context, builder, tile, arguments[0], SUMMED)

        def rows(which: int) -> list[Row]:
            kinds, arrays = signature.args[which], arguments[which]
            return [
                Row(context, builder, kind, builder.extract_value(arrays, k), SUMMED)
                for k, kind in enumerate(kinds)
            ]

        least, most, pivot = (row.load(at) for row in rows(2))
        wide, real = (ir.VectorType(kind, SUMMED) for kind in (ir.IntType(32), ir.DoubleType()))
        center = builder.zext(pivot, wide)
        none, nothing = ir.Constant(least.type, None), ir.Constant(wide, None)

        def step(values: Any, before: Any, place: Any) -> list[Any]:
            low = builder.icmp_unsigned("<", values, least)
            high = builder.icmp_unsigned(">", values, most)
            apart = builder.sub(builder.zext(values, wide), center)
            apart = builder.select(builder.or_(low, high), nothing, apart)
            return [
                builder.add(before[0], builder.zext(low, least.type)),
                builder.add(before[1], builder.zext(high, least.type)),
                builder.add(before[2], apart),
                builder.add(before[3], builder.mul(apart, apart)),
            ]

        below, above, total, squares = columns.each(at, step, [none, none, nothing, nothing])
        table = context.make_array(tile)(context, builder, arguments[0])
        n = builder.trunc(builder.extract_value(table.shape, 0), ir.IntType(32))
        all_ = spread(context, builder, types.int32, n, SUMMED)
        starts, ends = rows(3)
        end = builder.sub(all_, builder.zext(above, wide))
        start = builder.zext(below, wide)
        starts.store(start, at)
        ends.store(end, at)
        base = builder.fmul(
            builder.sitofp(builder.sub(end, start), real), builder.uitofp(pivot, real)
        )
        totals, sums = rows(4)
        totals.store(builder.fadd(builder.sitofp(total, real), base), at)
        sums.store(builder.uitofp(squares, real), at)
        return context.get_dummy_value()

    return types.void(tile, types.int64, bounds, counts, floats), generate


counted: Any = operation(_counted)
next_above: Any = operation(_next_above)
distances: Any = operation(_distances)
sum_between: Any = operation(_sum_between)


@part
def select(room: Any, settings: Any, w: int) -> bool:
    """Find windows and moments of all lanes of a tile, none of whose values is left out.

    The bounds are left in ``room.bounds``, numbers of values below and not above them in the
    window. False where a lane must be sorted; ``room.sorted`` is used for other things then.
    """
    tile, n = room.tile, room.tile.shape[0]
    wide, far = np.int64(32), np.int64(31)
    for start in range(0, w, BITS):
        wide, far = _find_middles(room, n, start, wide, far)
    lows, highs, near = room.middles[0], room.middles[1], room.near
    bound_middles((lows, highs), (near[0], near[1 - n % 2]), n, w, room.bounds, settings.params)
    least, most, pivot = room.bounds[LOWEST], room.bounds[HIGHEST], room.pivots
    limit = (2**32 - 1) // n
    good = True
    for i in range(w):
        below, above = np.int64(lows[i]) - least[i], np.int64(most[i]) - lows[i]
        reach = max(below, above)
        good &= (below >= 0) & (above >= 0) & (reach * reach <= limit)
        pivot[i] = lows[i]
    if not good:
        return False
    lo, hi, floats = room.ints[LO], room.ints[HI], room.floats
    for start in range(0, w, SUMMED):
        sum_between(tile, start, (least, most, lows), (lo, hi), (floats[TOTAL], floats[SQUARES]))
    for i in range(w):
        good &= hi[i] - lo[i] >= settings.params.nkeep
    return good


@part
def _find_middles(room: Any, n: int, start: int, wide: int, far: int) -> Any:
    """Find medians and median distances of some lanes; return how wide to look the next time."""
    tile, picks, h, g = room.tile, room.picks, (n - 1) // 2, n // 2
    lanes = slice(start, start + BITS)
    low, high, one, other = (
        room.middles[0, lanes], room.middles[1, lanes], room.near[0, lanes], room.near[1, lanes]
    )  # fmt: skip
    least, most, middle = picks[LEAST], picks[MOST], picks[MIDDLE]
    for i in range(BITS):
        a, b, c = tile[0, start + i], tile[h, start + i], tile[n - 1, start + i]
        guess = np.int64(max(min(a, b), min(max(a, b), c)))
        least[i], most[i] = max(guess - wide, 0), min(guess + wide - 1, LARGEST)
        middle[i] = max(guess - wide - 1, 0)
    counted(tile, start, middle, picks[COUNT])
    for i in range(BITS):
        if least[i] > 0 and picks[COUNT, i] > h:
            least[i], most[i] = 0, middle[i]
    _search(tile, start, h, picks)
    _take_middles(tile, start, g, picks, (low, high))
    distances(tile, start, room.middles[0], room.middles[1], room.sorted)
    for i in range(BITS):
        least[i], most[i] = 0, min(far, LARGEST)
    _search(room.sorted, start, h, picks)
    _take_middles(room.sorted, start, g, picks, (one, other))
    furthest = np.int64(1)
    for i in range(BITS):
        furthest = max(furthest, np.int64(one[i]))
    return min(WIDE * furthest, 2**14), min(2 * furthest, LARGEST)


@part
def _search(table: Any, start: int, rank: int, picks: Any) -> None:
    """Find the value of a rank (from 0) of some lanes; it is not below the interval."""
    least, most, middle, count = picks[LEAST], picks[MOST], picks[MIDDLE], picks[COUNT]
    counted(table, start, most, count)
    for i in range(BITS):
        if count[i] <= rank:
            least[i], most[i] = most[i] + 1, LARGEST
    while True:
        widest = np.int64(0)
        for i in range(BITS):
            width = np.int64(most[i]) - np.int64(least[i])
            widest = max(widest, width)
            middle[i] = least[i] + (width >> 1)
        if widest == 0:
            return
        counted(table, start, middle, count)
        for i in range(BITS):
            if count[i] > rank:
                most[i] = middle[i]
            else:
                least[i] = middle[i] + 1


@part
def _take_middles(table: Any, start: int, rank: int, picks: Any, goals: Any) -> None:
    """Put the value that was found into the first goal, and that of another rank into the second.

    The other rank is the same, or the next one.
    """
    found, count, other = picks[LEAST], picks[COUNT], goals[1]
    for i in range(BITS):
        goals[0][i] = found[i]
    next_above(table, start, found, count, picks[MIDDLE])
    for i in range(BITS):
        other[i] = found[i] if count[i] > rank else picks[MIDDLE, i]
