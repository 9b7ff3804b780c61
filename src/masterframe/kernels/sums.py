"""Sums over the frames of a tile that stay in registers until they are done.

A loop over the lanes of a row, row after row, would load and store every sum for every value. Here
some lanes are taken through all rows, or all rows of lanes through one frame, as vectors; each sum
adds its terms in the same order as that loop would.
"""

from __future__ import annotations

from typing import Any

from masterframe.kernels.deferred import cgutils, ir, types
from masterframe.kernels.native import operation
from masterframe.kernels.vectors import BITS, Row, as_float, compared, spread

ABREAST = 32
"""Lanes whose sums are in registers at a time."""
NARROW = 16
"""Lanes whose sums are, where those of several frames are."""


def _index(number: int) -> Any:
    return ir.IntType(64)(number)


def _times(builder: Any, number: Any, factor: int) -> Any:
    return builder.mul(number, _index(factor))


def _parts(builder: Any, w: Any, lanes: int) -> Any:
    """Return the code of a loop over w lanes, so many at a time."""
    count = builder.udiv(builder.add(w, _index(lanes - 1)), _index(lanes))
    return cgutils.for_range(builder, count, intp=ir.IntType(64))


def _add_deviations(
    typing_context: Any, rows: Any, levels: Any, bounds: Any, halves: Any, sums: Any, w: Any
) -> Any:  # fmt: skip
    """Add deviations of the w values of some frames from their levels to halves and to sums.

    `rows` are the values of each frame. `halves` take the deviations of the frames in turn, lane by
    lane. `sums` are those of each frame: rows 0 and 1, `BITS` each, take the deviations and their
    squares of the lanes that are alike modulo `BITS`. Values below the first of the bounds or above
    the second count as 0. Return for each frame the bits of the parts, of `BITS` lanes, in which
    any value counts as 0.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        adder = _Deviations(context, builder, signature, arguments)
        for shift in range(0, BITS, NARROW):
            adder.add(shift)
        found = [builder.load(bits) for bits in adder.lossy]
        return context.make_tuple(builder, signature.return_type, found)

    lossy = types.UniTuple(types.int64, len(rows))
    return lossy(rows, levels, bounds, halves, sums, w), generate


class _Deviations:
    """The code that adds deviations of several frames, so that what they share is loaded once."""

    def __init__(self, context: Any, builder: Any, signature: Any, arguments: Any) -> None:
        def each(which: int) -> list[Row]:
            return [
                Row(context, builder, kind, builder.extract_value(arguments[which], k), NARROW)
                for k, kind in enumerate(signature.args[which])
            ]

        self._builder, self._w = builder, arguments[5]
        self._rows, self._bounds, self._halves, self._sums = (each(index) for index in (0, 2, 3, 4))
        self._levels = Row(context, builder, signature.args[1], arguments[1], NARROW)
        self._kind = signature.args[0][0].dtype
        work = context.get_data_type(signature.args[1].dtype)
        self._vector = ir.VectorType(work, NARROW)
        self.lossy = [cgutils.alloca_once_value(builder, _index(0)) for _ in self._rows]

    def add(self, shift: int) -> None:
        """Go through those lanes whose sums are in registers together."""
        builder, places = self._builder, (_index(shift), _index(BITS + shift))
        kept = [
            [cgutils.alloca_once_value(builder, total.load(place)) for place in places]
            for total in self._sums
        ]
        with _parts(builder, self._w, BITS) as loop:
            at = builder.add(_times(builder, loop.index, BITS), _index(shift))
            low, high = (bound.load(at) for bound in self._bounds)
            level = self._levels.load(at)
            halves = [half.load(at) for half in self._halves]
            for k, row in enumerate(self._rows):
                apart, out = self._apart(row.load(at), level, low, high)
                half = k % len(halves)
                halves[half] = builder.fadd(halves[half], apart)
                for sum_, term in zip(kept[k], (apart, builder.fmul(apart, apart)), strict=True):
                    builder.store(builder.fadd(builder.load(sum_), term), sum_)
                found = builder.shl(builder.zext(out, ir.IntType(64)), loop.index)
                builder.store(builder.or_(builder.load(self.lossy[k]), found), self.lossy[k])
            for goal, half in zip(self._halves, halves, strict=True):
                goal.store(half, at)
        for total, pair in zip(self._sums, kept, strict=True):
            for place, sum_ in zip(places, pair, strict=True):
                total.store(builder.load(sum_), place)

    def _apart(self, values: Any, level: Any, low: Any, high: Any) -> tuple[Any, Any]:
        """Return deviations, 0 for values out of bounds, and whether there is any of those.

        What is no number is out of bounds: beyond the width of a tile, memory may hold anything.
        """
        builder = self._builder
        inside = builder.and_(
            compared(builder, self._kind, values, low, ">="),
            compared(builder, self._kind, values, high, "<="),
        )
        out = builder.not_(inside)
        apart = builder.fsub(as_float(builder, self._kind, values, self._vector), level)
        bits = builder.bitcast(out, ir.IntType(NARROW))
        apart = builder.select(out, ir.Constant(self._vector, None), apart)
        return apart, builder.icmp_unsigned("!=", bits, bits.type(0))


class _Windows:
    """The code that sums the windows of some lanes of sorted values."""

    def __init__(self, context: Any, builder: Any, signature: Any, arguments: Any) -> None:
        self.context, self.builder = context, builder
        s, bounds, _, _ = self.kinds = signature.args
        self.ints = bounds.types[0].dtype
        table = context.make_array(s)(context, builder, arguments[0])
        self.n, stride = (builder.extract_value(part, 0) for part in (table.shape, table.strides))
        self.stride = builder.udiv(stride, _index(s.dtype.bitwidth // 8))
        self.x = Row(context, builder, s, arguments[0], ABREAST)
        self.begin, self.end = self._rows(bounds, arguments[1])
        self.pivot, self.total, self.squares = self._rows(signature.args[2], arguments[2])

    def _rows(self, kinds: Any, arrays: Any) -> list[Row]:
        parts = (self.builder.extract_value(arrays, k) for k in range(len(kinds)))
        return [
            Row(self.context, self.builder, kind, part, ABREAST)
            for kind, part in zip(kinds, parts, strict=True)
        ]

    def _add(self, first: Any, vector: Any, sums: int, step: Any) -> list[Any]:
        """Return sums that begin at 0 and that each row changes; `step` tells to what."""
        builder = self.builder
        kept = [cgutils.alloca_once(builder, vector) for _ in range(sums)]
        for sum_ in kept:
            builder.store(ir.Constant(vector, None), sum_)
        begin, end = self.begin.load(first), self.end.load(first)
        with cgutils.for_range(builder, self.n, intp=ir.IntType(64)) as loop:
            row = builder.trunc(loop.index, ir.IntType(32))
            row = spread(self.context, builder, self.ints, row, ABREAST)
            inside = builder.and_(
                builder.icmp_signed("<=", begin, row), builder.icmp_signed("<", row, end)
            )
            values = self.x.load(builder.add(builder.mul(loop.index, self.stride), first))
            before = [builder.load(sum_) for sum_ in kept]
            for sum_, old, new in zip(kept, before, step(values, before), strict=True):
                builder.store(builder.select(inside, new, old), sum_)
        return [builder.load(sum_) for sum_ in kept]

    def as_floats(self, first: Any) -> None:
        """Sum lanes as float64, upwards."""
        builder, vector = self.builder, ir.VectorType(ir.DoubleType(), ABREAST)
        pivot = self.pivot.load(first)

        def step(values: Any, before: Any) -> tuple[Any, Any]:
            value = as_float(builder, self.kinds[0].dtype, values, vector)
            apart = builder.fsub(value, pivot)
            return builder.fadd(before[0], value), builder.fadd(
                before[1], builder.fmul(apart, apart)
            )

        total, squares = self._add(first, vector, 2, step)
        self.total.store(total, first)
        self.squares.store(squares, first)

    def as_integers(self, first: Any) -> None:
        """Sum lanes as 32-bit integers, to the same bits; as floats where that is too narrow."""
        builder = self.builder
        vector, floats = (
            ir.VectorType(kind, ABREAST) for kind in (ir.IntType(32), ir.DoubleType())
        )
        pivot = builder.fptosi(self.pivot.load(first), vector)

        def step(values: Any, before: Any) -> tuple[Any, Any, Any]:
            apart = builder.sub(builder.zext(values, vector), pivot)
            square = builder.mul(apart, apart)
            larger = builder.icmp_unsigned(">", square, before[2])
            return (
                builder.add(before[0], apart),
                builder.add(before[1], square),
                builder.select(larger, square, before[2]),
            )

        total, squares, largest = self._add(first, vector, 3, step)
        limit = builder.udiv(_index(2**31 - 1), self.n)
        limit = builder.trunc(limit, ir.IntType(32))
        limit = spread(self.context, builder, self.ints, limit, ABREAST)
        wide = builder.bitcast(builder.icmp_unsigned(">", largest, limit), ir.IntType(ABREAST))
        with builder.if_else(builder.icmp_unsigned("!=", wide, wide.type(0))) as (more, enough):
            with more:
                self.as_floats(first)
            with enough:
                count = builder.sub(self.end.load(first), self.begin.load(first))
                base = builder.fmul(builder.sitofp(count, floats), self.pivot.load(first))
                self.total.store(builder.fadd(builder.sitofp(total, floats), base), first)
                self.squares.store(builder.sitofp(squares, floats), first)


def _sum_windows(typing_context: Any, s: Any, window: Any, floats: Any, w: Any) -> Any:
    """Sum the values s[begin[i]:end[i], i] of w lanes, and squares of their deviations.

    `window` are begin and end; `floats` are the pivots, from which the deviations are, and where
    the sums and the sums of squares go.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        windows = _Windows(context, builder, signature, arguments)
        with _parts(builder, arguments[3], ABREAST) as part:
            first = _times(builder, part.index, ABREAST)
            if isinstance(s.dtype, types.Float):
                windows.as_floats(first)
            else:
                windows.as_integers(first)
        return context.get_dummy_value()

    return types.void(s, window, floats, w), generate


add_deviations: Any = operation(_add_deviations)
sum_windows: Any = operation(_sum_windows)
