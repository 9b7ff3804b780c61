"""Operations that numba does not offer, on numbers of one type and on lanes side by side.

Numba widens small integers before it computes with them; here the type stays. Lanes are compared as
one vector, and the answer is one number with a bit for each: going through the bits that are set
takes a jump for each lane picked, where a test of every lane takes one for every lane.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from masterframe.kernels.deferred import cgutils, ir, types
from masterframe.kernels.native import operation, part

LINE = 64
"""Bytes of a cache line."""
BITS = 64
"""Lanes that are picked from at once; the arrays given are at least so long."""


def _selection(typing_context: Any, x: Any, y: Any, sign: str) -> Any:
    """Return signature and code of ``x if x sign y else y``, without a branch."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        x, y = arguments
        return builder.select(compared(builder, signature.return_type, x, y, sign), x, y)

    return x(x, x), generate


def compared(builder: Any, kind: Any, x: Any, y: Any, sign: str) -> Any:
    """Return whether x < y, or another sign, of numbers or vectors; never for what is no number."""
    if isinstance(kind, types.Float):
        return builder.fcmp_ordered(sign, x, y)
    return (builder.icmp_signed if kind.signed else builder.icmp_unsigned)(sign, x, y)


def _smaller(typing_context: Any, x: Any, y: Any) -> Any:
    """Return the smaller of two numbers of one type; the second where one is no number."""
    return _selection(typing_context, x, y, "<")


def _larger(typing_context: Any, x: Any, y: Any) -> Any:
    """Return the larger of two numbers of one type; the second where one is no number."""
    return _selection(typing_context, x, y, ">")


def _minus(typing_context: Any, x: Any, y: Any) -> Any:
    """Return the difference of two numbers of one type, in that type: no wider integers."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        float_ = isinstance(signature.return_type, types.Float)
        return (builder.fsub if float_ else builder.sub)(*arguments)

    return x(x, x), generate


def as_float(builder: Any, kind: Any, values: Any, vector: Any) -> Any:
    """Return values as floats of the vector's type."""
    if isinstance(kind, types.Float):
        return values if values.type == vector else builder.fpext(values, vector)
    return (builder.sitofp if kind.signed else builder.uitofp)(values, vector)


def word(number: int) -> Any:
    """Return a number as one that counts lanes."""
    return ir.IntType(64)(number)


def parts(builder: Any, w: Any, lanes: int) -> Any:
    """Return the code of a loop over w lanes, so many at a time."""
    count = builder.udiv(builder.add(w, word(lanes - 1)), word(lanes))
    return cgutils.for_range(builder, count, intp=ir.IntType(64))


class Row:
    """The values of a contiguous array, some lanes at a time."""

    def __init__(self, context: Any, builder: Any, kind: Any, array: Any, lanes: int) -> None:
        self._builder, self._size, self._lanes = builder, kind.dtype.bitwidth // 8, lanes
        self._data = context.make_array(kind)(context, builder, array).data
        self._vector = ir.VectorType(context.get_data_type(kind.dtype), lanes).as_pointer()

    def _place(self, first: Any) -> Any:
        return self._builder.bitcast(self._builder.gep(self._data, [first]), self._vector)

    def load(self, first: Any) -> Any:
        """Return the lanes from the first on."""
        return self._builder.load(self._place(first), align=self._size)

    def store(self, values: Any, first: Any) -> None:
        """Write lanes from the first on."""
        self._builder.store(values, self._place(first), align=self._size)

    def fetch(self, first: Any) -> None:
        """Ask for the cache lines of the lanes from the first on."""
        start = self._builder.bitcast(self._place(first), ir.IntType(8).as_pointer())
        for line in range(0, self._lanes * self._size, LINE):
            _ask(self._builder, self._builder.gep(start, [ir.IntType(64)(line)]))


def _loaded(context: Any, builder: Any, kind: Any, array: Any) -> Any:
    """Return the first `BITS` values of a contiguous array as a vector."""
    return Row(context, builder, kind, array, BITS).load(ir.Constant(ir.IntType(64), 0))


def _bits(builder: Any, flags: Any) -> Any:
    return builder.bitcast(flags, ir.IntType(BITS))


def _picked(typing_context: Any, values: Any, bounds: Any, sign: str) -> Any:
    """Return signature and code of the bits of ``values sign bounds``, lane by lane.

    The bounds may be one number for all lanes.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        x = _loaded(context, builder, values, arguments[0])
        if isinstance(bounds, types.Array):
            bound = _loaded(context, builder, bounds, arguments[1])
        else:
            bound = spread(context, builder, bounds, arguments[1])
        return _bits(builder, compared(builder, values.dtype, x, bound, sign))

    return types.int64(values, bounds), generate


def _below(typing_context: Any, values: Any, bounds: Any) -> Any:
    """Return the bits of those values that are below their bounds."""
    return _picked(typing_context, values, bounds, "<")


def _above(typing_context: Any, values: Any, bounds: Any) -> Any:
    """Return the bits of those values that are above their bounds."""
    return _picked(typing_context, values, bounds, ">")


def spread(
    context: Any, builder: Any, kind: Any, number: Any, lanes: int = BITS
) -> Any:  # fmt: skip
    """Return a vector of equal numbers."""
    whole = ir.IntType(32)
    start = ir.Constant(ir.VectorType(context.get_data_type(kind), lanes), ir.Undefined)
    one = builder.insert_element(start, number, whole(0))
    return builder.shuffle_vector(one, start, ir.Constant(ir.VectorType(whole, lanes), [0] * lanes))


def _among_first(typing_context: Any, values: Any, bounds: Any, left: Any) -> Any:
    """Return the bits of those values that equal their bounds while any are left of the lane.

    Each value that equals its bound takes one from what is left.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        x, bound = (
            _loaded(context, builder, kind, array)
            for kind, array in zip(signature.args[:2], arguments[:2], strict=True)
        )
        if isinstance(values.dtype, types.Float):
            equal = builder.fcmp_ordered("==", x, bound)
        else:
            equal = builder.icmp_signed("==", x, bound)
        row, start = Row(context, builder, left, arguments[2], BITS), ir.IntType(64)(0)
        some = row.load(start)
        row.store(builder.add(some, builder.sext(equal, some.type)), start)
        present = builder.icmp_signed(">", some, ir.Constant(some.type, None))
        return _bits(builder, builder.and_(equal, present))

    return types.int64(values, bounds, left), generate


def _number_of(typing_context: Any, bits: Any) -> Any:
    """Return how many bits are set."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.int64(types.int64), generate


def _differ(typing_context: Any, values: Any, n: Any) -> Any:
    """Return the bits of those lanes whose whole number is not n."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        number = context.cast(builder, arguments[1], n, values.dtype)
        same = spread(context, builder, values.dtype, number)
        found = _loaded(context, builder, values, arguments[0])
        return _bits(builder, builder.icmp_signed("!=", found, same))

    return types.int64(values, n), generate


def _unlike(typing_context: Any, high: Any, low: Any, n: Any) -> Any:
    """Return the bits of those lanes where high - low is not n."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        number = context.cast(builder, arguments[2], n, high.dtype)
        same = spread(context, builder, high.dtype, number)
        kinds = zip(signature.args[:2], arguments[:2], strict=True)
        a, b = (_loaded(context, builder, kind, array) for kind, array in kinds)
        return _bits(builder, builder.icmp_signed("!=", builder.sub(a, b), same))

    return types.int64(high, low, n), generate


def _first(typing_context: Any, bits: Any) -> Any:
    """Return the place of the lowest bit that is set; there must be one."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.int64), generate


def _turned(typing_context: Any, word: Any) -> Any:
    """Return a whole number with its bytes the other way round."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bswap(arguments[0]) if word.bitwidth > 8 else arguments[0]

    return word(word), generate


smaller: Any = operation(_smaller)
larger: Any = operation(_larger)
minus: Any = operation(_minus)


def _ask(builder: Any, place: Any) -> None:
    """Have the processor bring a cache line, which is read soon."""
    byte, word = ir.IntType(8).as_pointer(), ir.IntType(32)
    kind = ir.FunctionType(ir.VoidType(), [byte, word, word, word])
    ask = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
    builder.call(ask, [place, word(0), word(3), word(1)])


below: Any = operation(_below)
above: Any = operation(_above)
among_first: Any = operation(_among_first)
number_of: Any = operation(_number_of)
differ: Any = operation(_differ)
unlike: Any = operation(_unlike)
first: Any = operation(_first)
turned: Any = operation(_turned)


@part
def first_lanes(w: int) -> Any:
    """Return the bits of the first w lanes, all where there are so many or more."""
    return (np.int64(1) << w) - 1 if w < BITS else np.int64(-1)
