"""Sums over the windows of sorted values, and what comes of them, in registers until it is done.

A loop over the lanes of a row, row after row, would load and store every sum for every value. Here
some lanes are taken through all rows as vectors; each sum adds its terms in the same order as that
loop would.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from masterframe.kernels.deferred import cgutils, ir, types
from masterframe.kernels.native import operation
from masterframe.kernels.vectors import Row, as_float, parts, spread, word

ABREAST = 32
"""Lanes whose sums are in registers at a time."""


class _Moments(NamedTuple):
    """Numbers of some lanes, as vectors of float64."""

    n: Any
    """How many values there are."""
    pivot: Any
    total: Any
    """Their sum."""
    squares: Any
    """That of the squares of their deviations from the pivot."""


class _Windows:
    """The code that sums the windows of some lanes of sorted values."""

    def __init__(self, context: Any, builder: Any, signature: Any, arguments: Any) -> None:
        self._context, self._builder = context, builder
        kind, bounds, pivots = signature.args[:3]
        self._kind = kind.dtype
        self._rank = types.uint32 if isinstance(kind.dtype, types.Float) else kind.dtype
        self._ranks, self._whole, self._real = (
            ir.VectorType(context.get_data_type(each), ABREAST)
            for each in (self._rank, types.int32, types.float64)
        )
        table = context.make_array(kind)(context, builder, arguments[0])
        self._n, stride = (builder.extract_value(part, 0) for part in (table.shape, table.strides))
        self._stride = builder.udiv(stride, word(kind.dtype.bitwidth // 8))
        self._values = Row(context, builder, kind, arguments[0], ABREAST)
        self._begin, self._end = self.rows(bounds, arguments[1])
        self._pivots = Row(context, builder, pivots, arguments[2], ABREAST)

    def rows(self, kinds: Any, arrays: Any) -> list[Row]:
        """Return the rows that a tuple of arrays holds."""
        each = (self._builder.extract_value(arrays, k) for k in range(len(kinds)))
        return [
            Row(self._context, self._builder, kind, array, ABREAST)
            for kind, array in zip(kinds, each, strict=True)
        ]

    def moments(self, first: Any) -> _Moments:
        """Return the moments of the lanes from the first on."""
        builder = self._builder
        count = builder.sub(self._end.load(first), self._begin.load(first))
        pivot = as_float(builder, self._kind, self._pivots.load(first), self._real)
        n = builder.sitofp(count, self._real)
        if isinstance(self._kind, types.Float):
            return _Moments(n, pivot, *self._as_floats(first, pivot))
        return _Moments(n, pivot, *self._as_integers(first, n, pivot))

    def _add(self, first: Any, vector: Any, sums: int, step: Any) -> list[Any]:
        """Return sums that begin at 0 and that each row changes; `step` tells to what."""
        builder = self._builder
        kept = [cgutils.alloca_once(builder, vector) for _ in range(sums)]
        for sum_ in kept:
            builder.store(ir.Constant(vector, None), sum_)
        begin, end = (
            builder.trunc(bound.load(first), self._ranks) for bound in (self._begin, self._end)
        )
        with cgutils.for_range(builder, self._n, intp=ir.IntType(64)) as loop:
            row = builder.trunc(loop.index, self._ranks.element)
            row = spread(self._context, builder, self._rank, row, ABREAST)
            inside = builder.and_(
                builder.icmp_unsigned("<=", begin, row), builder.icmp_unsigned("<", row, end)
            )
            values = self._values.load(builder.add(builder.mul(loop.index, self._stride), first))
            before = [builder.load(sum_) for sum_ in kept]
            for sum_, old, new in zip(kept, before, step(values, before), strict=True):
                builder.store(builder.select(inside, new, old), sum_)
        return [builder.load(sum_) for sum_ in kept]

    def _as_floats(self, first: Any, pivot: Any) -> list[Any]:
        """Sum lanes as float64, upwards."""
        builder = self._builder

        def step(values: Any, before: Any) -> tuple[Any, Any]:
            value = as_float(builder, self._kind, values, self._real)
            apart = builder.fsub(value, pivot)
            return builder.fadd(before[0], value), builder.fadd(
                before[1], builder.fmul(apart, apart)
            )

        return self._add(first, self._real, 2, step)

    def _as_integers(self, first: Any, n: Any, pivot: Any) -> list[Any]:
        """Sum lanes as 32-bit integers, to the same bits; as floats where that may be too narrow.

        No value is further from the pivot than the first one or the last.
        """
        builder = self._builder
        last = builder.add(builder.mul(builder.sub(self._n, word(1)), self._stride), first)
        center, lowest, highest = (
            builder.zext(row.load(place), self._whole)
            for row, place in (
                (self._pivots, first), (self._values, first), (self._values, last)
            )
        )  # fmt: skip

        def step(values: Any, before: Any) -> tuple[Any, Any]:
            apart = builder.sub(builder.zext(values, self._whole), center)
            return builder.add(before[0], apart), builder.add(before[1], builder.mul(apart, apart))

        total, squares = self._add(first, self._whole, 2, step)
        base = builder.fmul(n, pivot)
        sums = [
            builder.fadd(builder.sitofp(total, self._real), base),
            builder.sitofp(squares, self._real),
        ]
        goals = [cgutils.alloca_once_value(builder, number) for number in sums]
        below, above = builder.sub(center, lowest), builder.sub(highest, center)
        apart = builder.select(builder.icmp_unsigned(">", below, above), below, above)
        limit = builder.trunc(builder.udiv(word(2**31 - 1), self._n), ir.IntType(32))
        limit = spread(self._context, builder, types.int32, limit, ABREAST)
        wide = builder.icmp_unsigned(">", builder.mul(apart, apart), limit)
        bits = builder.bitcast(wide, ir.IntType(ABREAST))
        with builder.if_then(builder.icmp_unsigned("!=", bits, bits.type(0)), likely=False):
            for goal, number in zip(goals, self._as_floats(first, pivot), strict=True):
                builder.store(number, goal)
        return [builder.load(goal) for goal in goals]


def _constant(kind: Any, number: float) -> Any:
    """Return a constant of a type: a number, or a vector of equal ones."""
    lanes = kind.count if isinstance(kind, ir.VectorType) else 0
    return ir.Constant(kind, [number] * lanes if lanes else number)


def _root(builder: Any, number: Any) -> Any:
    """Return the square root of a number, or vector, of float64."""
    kind = number.type
    lanes = f"v{kind.count}" if isinstance(kind, ir.VectorType) else ""
    signature = ir.FunctionType(kind, [kind])
    root = cgutils.get_or_insert_function(builder.module, signature, f"llvm.sqrt.{lanes}f64")
    return builder.call(root, [number])


def _error(builder: Any, moments: _Moments, mean: Any, least: Any, factor: Any) -> Any:
    """Return the root of the sample variance times a factor; NaN for fewer than two values.

    The sample variance is taken from deviations about the pivot, a value in the midst of the kept
    ones, so that nothing cancels; it is at least `least`. All are float64: numbers, or vectors.
    """
    n, pivot, _, squares = moments
    one, several = _constant(n.type, 1.0), _constant(n.type, 1.5)
    offset = builder.fsub(mean, pivot)
    about = builder.fsub(squares, builder.fmul(builder.fmul(n, offset), offset))
    variance = builder.fdiv(about, builder.fsub(n, one))
    larger = builder.fcmp_ordered(">", variance, least)
    variance = builder.fmul(builder.select(larger, variance, least), factor)
    more = builder.fcmp_ordered(">", n, several)
    return builder.select(more, _root(builder, variance), _constant(n.type, math.nan))


def _sum_windows(
    typing_context: Any, s: Any, window: Any, pivots: Any, goals: Any, w: Any
) -> Any:  # fmt: skip
    """Sum the values s[begin[i]:end[i], i] of w lanes, and squares of what they are from pivots.

    `window` are begin and end; `goals` are where the sums and the sums of squares go.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        windows = _Windows(context, builder, signature, arguments)
        totals, squares = windows.rows(goals, arguments[3])
        with parts(builder, arguments[4], ABREAST) as part:
            first = builder.mul(part.index, word(ABREAST))
            moments = windows.moments(first)
            totals.store(moments.total, first)
            squares.store(moments.squares, first)
        return context.get_dummy_value()

    return types.void(s, window, pivots, goals, w), generate


def _average_windows(
    typing_context: Any, s: Any, window: Any, pivots: Any, goals: Any, least: Any, w: Any
) -> Any:  # fmt: skip
    """Find means of the values s[begin[i]:end[i], i] of w lanes, and their standard deviations.

    `goals` are where means and standard deviations go; `least` is the least sample variance.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        windows = _Windows(context, builder, signature, arguments)
        means, errors = windows.rows(goals, arguments[3])
        work = ir.VectorType(context.get_data_type(goals.types[0].dtype), ABREAST)
        floor = spread(context, builder, types.float64, arguments[4], ABREAST)

        def stored(numbers: Any) -> Any:
            return numbers if numbers.type == work else builder.fptrunc(numbers, work)

        with parts(builder, arguments[5], ABREAST) as part:
            first = builder.mul(part.index, word(ABREAST))
            moments = windows.moments(first)
            mean = builder.fdiv(moments.total, moments.n)
            factor = builder.fdiv(_constant(mean.type, 1.0), moments.n)
            means.store(stored(mean), first)
            errors.store(stored(_error(builder, moments, mean, floor, factor)), first)
        return context.get_dummy_value()

    return types.void(s, window, pivots, goals, least, w), generate


def _error_of(
    typing_context: Any, n: Any, moments: Any, mean: Any, least: Any, factor: Any
) -> Any:  # fmt: skip
    """Return the root of the sample variance of n values times a factor; NaN for fewer than two.

    `moments` are the pivot, and the sum of the squares of what values are from it.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        n, pair, mean, least, factor = arguments
        pivot, squares = (builder.extract_value(pair, k) for k in range(2))
        return _error(builder, _Moments(n, pivot, None, squares), mean, least, factor)

    f8 = types.float64
    return f8(f8, types.UniTuple(f8, 2), f8, f8, f8), generate


sum_windows: Any = operation(_sum_windows)
average_windows: Any = operation(_average_windows)
error_of: Any = operation(_error_of)
