"""Sums over the values of frames of a tile that stay in registers until they are done.

A loop over the lanes of a row would load and store every sum for every value. Here rows of lanes
are taken through one frame, or several, as vectors; each sum adds its terms in the same order as
that loop would.
"""

from __future__ import annotations

from typing import Any

from masterframe.kernels.deferred import cgutils, ir, types
from masterframe.kernels.native import operation
from masterframe.kernels.vectors import BITS, Row, as_float, compared, parts, word

NARROW = 16
"""Lanes whose sums are in registers at a time, of several frames."""


def _add_deviations(
    typing_context: Any, rows: Any, levels: Any, bounds: Any, halves: Any, sums: Any, w: Any
) -> Any:  # fmt: skip
    """Add deviations of the w values of some frames from their levels to halves and to sums.

    `rows` are the values of each frame. `halves` are rows of sums, which take the deviations of the
    frames in turn, lane by lane, and rows of counts, from which each value that is out is taken.
    `sums` are those of each frame: rows 0 and 1, `BITS` each, take the deviations and their squares
    of the lanes that are alike modulo `BITS`. Out are values below the first of the bounds or above
    the second; their deviations count as 0. Return how many are below, then how many are above,
    frame by frame.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        adder = _Deviations(context, builder, signature, arguments)
        for shift in range(0, BITS, NARROW):
            adder.add(shift)
        return context.make_tuple(builder, signature.return_type, adder.lost())

    lost = types.UniTuple(types.int64, 2 * len(rows))
    return lost(rows, levels, bounds, halves, sums, w), generate


class _Deviations:
    """The code that adds deviations of several frames, so that what they share is loaded once."""

    def __init__(self, context: Any, builder: Any, signature: Any, arguments: Any) -> None:
        def each(kinds: Any, arrays: Any) -> list[Row]:
            return [
                Row(context, builder, kind, builder.extract_value(arrays, k), NARROW)
                for k, kind in enumerate(kinds)
            ]

        self._builder, self._w = builder, arguments[5]
        self._rows, self._bounds, self._sums = (
            each(signature.args[place], arguments[place]) for place in (0, 2, 4)
        )
        self._halves, self._counts = (
            each(kinds, builder.extract_value(arguments[3], k))
            for k, kinds in enumerate(signature.args[3])
        )
        self._levels = Row(context, builder, signature.args[1], arguments[1], NARROW)
        self._kind = signature.args[0][0].dtype
        work = context.get_data_type(signature.args[1].dtype)
        self._vector = ir.VectorType(work, NARROW)
        number = ir.VectorType(ir.IntType(self._kind.bitwidth), NARROW)
        self._lost = [
            [cgutils.alloca_once_value(builder, ir.Constant(number, None)) for _ in self._bounds]
            for _ in self._rows
        ]

    def add(self, shift: int) -> None:
        """Go through those lanes whose sums are in registers together."""
        builder, places = self._builder, (word(shift), word(BITS + shift))
        kept = [
            [cgutils.alloca_once_value(builder, total.load(place)) for place in places]
            for total in self._sums
        ]
        with parts(builder, self._w, BITS) as loop:
            at = builder.add(builder.mul(loop.index, word(BITS)), word(shift))
            bounds, level = [bound.load(at) for bound in self._bounds], self._levels.load(at)
            halves, counts = (
                [row.load(at) for row in rows] for rows in (self._halves, self._counts)
            )
            for k, row in enumerate(self._rows):
                apart, out = self._apart(row.load(at), level, bounds, self._lost[k])
                half = k % len(halves)
                halves[half] = builder.fadd(halves[half], apart)
                counts[half] = builder.add(counts[half], builder.sext(out, counts[half].type))
                for sum_, term in zip(kept[k], (apart, builder.fmul(apart, apart)), strict=True):
                    builder.store(builder.fadd(builder.load(sum_), term), sum_)
            for goals, rows in ((self._halves, halves), (self._counts, counts)):
                for goal, row in zip(goals, rows, strict=True):
                    goal.store(row, at)
        for total, pair in zip(self._sums, kept, strict=True):
            for place, sum_ in zip(places, pair, strict=True):
                total.store(builder.load(sum_), place)

    def _apart(self, values: Any, level: Any, bounds: Any, lost: Any) -> tuple[Any, Any]:
        """Return deviations, 0 for values out of bounds, and which those are; count them."""
        builder = self._builder
        sides = [
            compared(builder, self._kind, values, bound, sign)
            for bound, sign in zip(bounds, "<>", strict=True)
        ]
        for side, number in zip(sides, lost, strict=True):
            before = builder.load(number)
            builder.store(builder.sub(before, builder.sext(side, before.type)), number)
        apart = builder.fsub(as_float(builder, self._kind, values, self._vector), level)
        out = builder.or_(*sides)
        return builder.select(out, ir.Constant(self._vector, None), apart), out

    def lost(self) -> list[Any]:
        """Return how many values are below the bounds, and above, of each frame.

        Of a tile, that are no more than the type of a lane holds.
        """
        builder, found = self._builder, []
        for numbers in zip(*self._lost, strict=True):
            for number in numbers:
                lanes = builder.load(number)
                kind = ir.FunctionType(lanes.type.element, [lanes.type])
                name = f"llvm.vector.reduce.add.v{NARROW}i{self._kind.bitwidth}"
                add = cgutils.get_or_insert_function(builder.module, kind, name)
                found.append(builder.zext(builder.call(add, [lanes]), ir.IntType(64)))
        return found


add_deviations: Any = operation(_add_deviations)
