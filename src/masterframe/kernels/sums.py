"""Sums over the frames of a tile that stay in registers until they are done.

A loop over the lanes of a row, row after row, would load and store every sum for every value. Here
some lanes are taken through all rows, or all rows of lanes through one frame, as vectors; each sum
adds its terms in the same order as that loop would.
"""

from __future__ import annotations

from typing import Any

from masterframe.kernels.deferred import cgutils, ir, types
from masterframe.kernels.native import operation
from masterframe.kernels.vectors import BITS, Row, as_float, spread

ABREAST = 32
"""Lanes whose sums are in registers at a time."""


def _index(number: int) -> Any:
    return ir.IntType(64)(number)


def _times(builder: Any, number: Any, factor: int) -> Any:
    return builder.mul(number, _index(factor))


def _parts(builder: Any, w: Any, lanes: int) -> Any:
    """Return the code of a loop over w lanes, so many at a time."""
    count = builder.udiv(builder.add(w, _index(lanes - 1)), _index(lanes))
    return cgutils.for_range(builder, count, intp=ir.IntType(64))


def _add_deviations(
    typing_context: Any, values: Any, levels: Any, lost: Any, half: Any, sums: Any, w: Any
) -> Any:  # fmt: skip
    """Add deviations of w values from their levels to the half, lane by lane, and to the sums.

    Lanes whose bit in lost[i // BITS] is set count as 0. Rows 0 and 1 of the sums, `BITS` each,
    take the deviations and their squares of the lanes that are alike modulo `BITS`.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        x, level, _, goal, total = (
            Row(context, builder, kind, array, ABREAST)
            for kind, array in zip(signature.args[:5], arguments[:5], strict=True)
        )
        bits = context.make_array(lost)(context, builder, arguments[2]).data
        vector = ir.VectorType(context.get_data_type(levels.dtype), ABREAST)
        for shift in range(0, BITS, ABREAST):
            places = _index(shift), _index(BITS + shift)
            kept = [cgutils.alloca_once(builder, vector) for _ in places]
            for place, sum_ in zip(places, kept, strict=True):
                builder.store(total.load(place), sum_)
            with _parts(builder, arguments[5], BITS) as loop:
                first = builder.add(_times(builder, loop.index, BITS), _index(shift))
                value = as_float(builder, values.dtype, x.load(first), vector)
                apart = builder.fsub(value, level.load(first))
                out = builder.lshr(builder.load(builder.gep(bits, [loop.index])), _index(shift))
                out = builder.trunc(out, ir.IntType(ABREAST))
                out = builder.bitcast(out, ir.VectorType(ir.IntType(1), ABREAST))
                apart = builder.select(out, ir.Constant(vector, None), apart)
                goal.store(builder.fadd(goal.load(first), apart), first)
                for sum_, term in zip(kept, (apart, builder.fmul(apart, apart)), strict=True):
                    builder.store(builder.fadd(builder.load(sum_), term), sum_)
            for place, sum_ in zip(places, kept, strict=True):
                total.store(builder.load(sum_), place)
        return context.get_dummy_value()

    return types.void(values, levels, lost, half, sums, w), generate


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
