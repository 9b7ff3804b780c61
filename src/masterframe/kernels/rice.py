"""Tiles of the method RICE_1 become the integers that were compressed (FITS standard 4.0, 10.4.1).

A tile begins with its first value. Differences from one value to the next follow in blocks; each
block names how many low bits of its differences are stored as they are, what is above them is a
run of zeros that a one ends.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from masterframe.kernels.deferred import cgutils, ir, types
from masterframe.kernels.native import kernel, operation, part

Array = NDArray[Any]

CODE_BITS = {1: 3, 2: 4, 4: 5}
"""Bits that name how a block is stored, by the bytes of a value."""
ALL_BITS = {1: 6, 2: 14, 4: 25}
"""Low bits from which differences are stored whole, by the bytes of a value."""


@operation
def _leading_zeros(context: Any, word: Any) -> Any:
    """Count the zeros above the highest one of 64 bits; 64 where there is no one."""

    def generate(_: Any, builder: Any, __: Any, arguments: Any) -> Any:
        return builder.ctlz(arguments[0], ir.Constant(ir.IntType(1), 0))

    return types.uint64(types.uint64), generate


@operation
def _word(context: Any, data: Any, at: Any) -> Any:
    """Load eight bytes as one big-endian word."""

    def generate(target: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = cgutils.create_struct_proxy(signature.args[0])(target, builder, arguments[0])
        start = builder.gep(array.data, [arguments[1]])
        word = builder.bitcast(start, ir.IntType(64).as_pointer())
        return builder.bswap(builder.load(word, align=1))

    return types.uint64(data, types.int64), generate


@part
def _refill(data: Array, at: int, end: int, bits: Any, held: int) -> tuple[Any, int, int]:
    """Add whole bytes below the `held` bits at the top of a word, until more than 56 are there.

    What lies below the held bits is either zero or what follows in the stream; some bits must have
    been taken since the last time.
    """
    if end - at >= 8:
        bits |= _word(data, at) >> np.uint64(held)
        whole = (64 - held) >> 3
        return bits, at + whole, held + (whole << 3)
    while held <= 56 and at < end:
        bits |= np.uint64(data[at]) << np.uint64(56 - held)
        at += 1
        held += 8
    return bits, at, held


@part
def _undo(last: Any, step: Any) -> Any:
    """Add a difference that was stored as twice its size, or twice its size less one below zero."""
    return last + ((step >> np.uint32(1)) ^ (np.uint32(0) - (step & np.uint32(1))))


@part
def _whole_steps(data: Array, stream: Any, last: Any, width: int, out: Array) -> Any:
    """Decode a block whose differences are stored as they are."""
    bits, at, end, held = stream
    for i in range(len(out)):
        bits, at, held = _refill(data, at, end, bits, held)
        if held < 8 * width:
            return bits, at, -1, last
        last = _undo(last, np.uint32(bits >> np.uint64(64 - 8 * width)))
        bits <<= np.uint64(8 * width)
        held -= 8 * width
        out[i] = last
    return bits, at, held, last


@part
def _split_steps(data: Array, stream: Any, last: Any, low: int, out: Array) -> Any:
    """Decode a block whose differences have `low` low bits, and the rest as a run of zeros."""
    bits, at, end, held = stream
    for i in range(len(out)):
        if held < 32:
            bits, at, held = _refill(data, at, end, bits, held)
        above = np.int64(0)
        zeros = np.int64(_leading_zeros(bits))
        while zeros >= held:  # the run goes on behind what is held
            above += held
            bits, at, held = _refill(data, at, end, np.uint64(0), 0)
            if held == 0:
                return bits, at, -1, last
            zeros = np.int64(_leading_zeros(bits))
        above += zeros
        bits = (bits << np.uint64(zeros)) << np.uint64(1)
        held -= zeros + 1
        if held < low:
            bits, at, held = _refill(data, at, end, bits, held)
            if held < low:
                return bits, at, -1, last
        step = np.uint32(above) << np.uint32(low)
        if low:
            step |= np.uint32(bits >> np.uint64(64 - low))
            bits <<= np.uint64(low)
            held -= low
        last = _undo(last, step)
        out[i] = last
    return bits, at, held, last


@part
def _decode_tile(data: Array, at: int, end: int, layout: Any, out: Array) -> bool:
    """Decode one tile; return whether it is whole."""
    block, width, code_bits, all_bits = layout
    if end - at < width:
        return False
    last = np.uint32(0)
    for _ in range(width):
        last = (last << np.uint32(8)) | np.uint32(data[at])
        at += 1
    bits, held = np.uint64(0), 0
    for first in range(0, len(out), block):
        values = out[first : first + block]
        bits, at, held = _refill(data, at, end, bits, held)
        if held < code_bits:
            return False
        low = np.int64(bits >> np.uint64(64 - code_bits)) - 1
        stream = (bits << np.uint64(code_bits), at, end, held - code_bits)
        if low < 0:  # all are equal
            values[:] = last
            bits, at, _, held = stream
        elif low >= all_bits:
            bits, at, held, last = _whole_steps(data, stream, last, width, values)
        else:
            bits, at, held, last = _split_steps(data, stream, last, low, values)
        if held < 0:
            return False
    return True


@kernel
def _decode(
    data: Array, spans: Array, places: Array, out: Array, layout: Any, damaged: Array
) -> None:  # fmt: skip
    """Decode tile after tile; say which is the first that is damaged, -1 where all are whole."""
    damaged[0] = -1
    for tile in range(len(spans)):
        values = out[places[tile, 0] : places[tile, 1]]
        if not _decode_tile(data, spans[tile, 0], spans[tile, 1], layout, values):
            damaged[0] = tile
            return


def decode_rice(data: Array, spans: Array, places: Array, out: Array, block: int) -> int:
    """Decode tiles into an array; the GIL is released meanwhile.

    Parameters
    ----------
    data : ndarray of uint8
        Bytes in which the tiles lie.
    spans : ndarray of int64, shape (T, 2)
        First byte of each tile, and the one after its last; within ``data``.
    places : ndarray of int64, shape (T, 2)
        First value of each tile in ``out``, and the one after its last.
    out : ndarray
        Integers of 1, 2 or 4 bytes, as were compressed; contiguous, one axis.
    block : int
        Values of a block (BLOCKSIZE).

    Returns
    -------
    int
        -1; where a tile ends before all of its values are there, its place among the T.
    """
    width = out.itemsize
    values = out.view(f"u{width}")
    layout = (block, width, CODE_BITS[width], ALL_BITS[width])
    damaged = np.empty(1, np.int64)
    _decode(data, spans, places, values, layout, damaged)
    return int(damaged[0])
