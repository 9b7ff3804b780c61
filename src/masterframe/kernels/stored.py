"""Stored FITS values become native ones, in place; their part of DATASUM is summed on the way.

The sum is that of the stored bytes as 32-bit big-endian words, whatever the size of the values: one
pass over memory does both.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from masterframe.kernels.deferred import cgutils, ir, types
from masterframe.kernels.native import kernel, operation, part
from masterframe.kernels.vectors import LINE, Row, spread, turned

Array = NDArray[Any]

_WORD = 4
"""Bytes of the words that are summed."""


def make_native(values: Array, flip: int = 0, summed: range = range(0)) -> int:
    """Turn stored big-endian values into native ones in place, and sum some of them.

    Parameters
    ----------
    values : ndarray
        As they lie in the file; contiguous. Of floats each bit is kept.
    flip : int
        Bits of every native value that are turned over: the top one for BZERO of the other sign.
    summed : range
        Neighbouring values, of the flat array, that are summed.

    Returns
    -------
    int
        Sum of their stored bytes as 32-bit words, the first of which begins with the first value;
        see `datasum_parts`.
    """
    if not values.flags.c_contiguous:
        raise ValueError(f"values of strides {values.strides} cannot be turned: they have gaps")
    words = values.reshape(-1).view(f"u{values.itemsize}")
    out = np.zeros(1, np.uint64)
    _make_native(words, words.dtype.type(flip), summed.start, summed.stop, out)
    return int(out[0])


def datasum_parts(sums: NDArray[np.uint64], first: int) -> NDArray[np.uint64]:
    """Return the parts of a DATASUM that sums of words are.

    A word that begins within one of the data unit has its bytes in other places: modulo 2**32 - 1
    to move all by a byte is to multiply by 2**8, which turns a sum by 8 bits.

    Parameters
    ----------
    sums : ndarray of uint64
        Of `make_native` or `read_runs`.
    first : int
        Byte of the data unit at which they begin.

    Returns
    -------
    ndarray of uint64
        Ones'-complement sums, folded to 32 bits; parts add up modulo 2**32 - 1 (FITS standard 4.0,
        4.4.2.7 and appendix J). 0 stands for bytes that are all zero, and for nothing else.
    """
    low, bits, turn = (np.uint64(n) for n in (0xFFFFFFFF, 32, 8 * (first % _WORD)))
    while (sums >> bits).any():
        sums = (sums & low) + (sums >> bits)
    return (sums >> turn) | ((sums << (bits - turn)) & low)


@kernel
def _make_native(values: Any, flip: Any, begin: int, end: int, out: Any) -> None:
    out[0] = turn(values, flip, begin, end)


@part
def turn(values: Any, flip: Any, begin: int, end: int) -> Any:
    """Make values native; return the sum of the words that those from begin to end are stored as.

    What is missing of the last word counts as 0.
    """
    _turn_all(values[:begin], flip)
    total = _turn_all(values[begin:end], flip)
    _turn_all(values[end:], flip)
    return total


@part
def _turn_all(values: Any, flip: Any) -> Any:
    size = values.itemsize
    lanes = LINE // size
    total = _turn_lines(values, flip)
    for i in range(values.size // lanes * lanes, values.size):
        value = turned(values[i])
        values[i] = value ^ flip
        wide = np.uint64(value)
        if size > _WORD:
            total += (wide >> np.uint64(32)) + (wide & np.uint64(0xFFFFFFFF))
        else:
            total += wide << np.uint64(8 * (_WORD - size - i * size % _WORD))
    return total


def _lines_turned(typing_context: Any, values: Any, flip: Any) -> Any:
    """Make the values of whole cache lines native; return the sum of the words stored."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        lanes = LINE * 8 // values.dtype.bitwidth
        row = Row(context, builder, values, arguments[0], lanes)
        flipped = spread(context, builder, values.dtype, arguments[1], lanes)
        words, pairs = (ir.VectorType(ir.IntType(n), LINE * 8 // n) for n in (32, 64))
        low, half = (ir.Constant(pairs, [n] * pairs.count) for n in (0xFFFFFFFF, 32))
        sums = cgutils.alloca_once_value(builder, ir.Constant(pairs, None))
        size = context.make_array(values)(context, builder, arguments[0]).nitems
        whole = builder.udiv(size, size.type(lanes))
        with cgutils.for_range(builder, whole, intp=ir.IntType(64)) as loop:
            first = builder.mul(loop.index, size.type(lanes))
            stored = row.load(first)
            pair = builder.bitcast(_swapped(builder, builder.bitcast(stored, words)), pairs)
            total = builder.add(builder.load(sums), builder.and_(pair, low))
            builder.store(builder.add(total, builder.lshr(pair, half)), sums)
            row.store(builder.xor(_swapped(builder, stored), flipped), first)
        found = builder.load(sums)
        total = ir.IntType(64)(0)
        for k in range(pairs.count):
            total = builder.add(total, builder.extract_element(found, ir.IntType(32)(k)))
        return total

    return types.uint64(values, flip), generate


def _swapped(builder: Any, vector: Any) -> Any:
    """Return the bytes of each number of a vector the other way round."""
    kind, width = vector.type, vector.type.element.width
    if width == 8:
        return vector
    name = f"llvm.bswap.v{kind.count}i{width}"
    swap = cgutils.get_or_insert_function(builder.module, ir.FunctionType(kind, [kind]), name)
    return builder.call(swap, [vector])


_turn_lines: Any = operation(_lines_turned)
