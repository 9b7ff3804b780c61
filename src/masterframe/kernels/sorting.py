"""A sorting network over rows: every pixel of a tile is sorted by the same comparisons.

Eight rows each are sorted at once, in registers, by a network of 19 comparisons (the fewest there
are: R. W. Floyd and D. E. Knuth, 1973). From there on the network is bitonic: blocks of 16, 32 ...
rows are merged by comparing mirrored rows first (so that every comparison puts the smaller value
into the lower row), then rows at half the distance each time (K. E. Batcher, Sorting networks and
their applications, 1968). Rows beyond the last count as infinite: comparisons with them are left
out, so that any number of rows works. Two layers that follow each other touch the same four rows
and are done at once. Comparisons are written as operations on vectors of `LANES` values: a compiler
that is given loops asks before each of them whether rows overlap, and rows are short.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from masterframe.kernels.deferred import ir, types
from masterframe.kernels.native import operation, part
from masterframe.kernels.vectors import compared

LANES = 32
"""Values of a row that are compared at once; rows to be sorted have a multiple of it."""
NEAR = 2**15
"""Bytes of the rows that are kept in the first cache."""
EIGHT = (
    (0, 2), (1, 3), (4, 6), (5, 7), (0, 4), (1, 5), (2, 6), (3, 7), (0, 1), (2, 3),
    (4, 5), (6, 7), (2, 4), (3, 5), (1, 4), (3, 6), (1, 2), (3, 4), (5, 6),
)  # fmt: skip
"""A network that sorts eight rows."""


@functools.lru_cache(maxsize=64)
def network(n: int, row_size: int) -> NDArray[np.int32]:
    """Return the operations that sort n rows of so many bytes, in order, shape (operations, 4).

    (a, -1, -1, -1) sorts the eight rows from a; (a, b, -1, -1) compares a with b; (a, b, c, d) with
    a < b < c < d compares a with c and b with d, then a with b and c with d. With d < c it is of
    the mirrored kind, which compares as if they were in order, but begins with a and c, b and d.
    """
    near = max(1 << (NEAR // row_size).bit_length() - 1, 8)
    whole = n // 8 * 8
    table = np.full((n // 8, 4), -1, np.int32)
    table[:, 0] = np.arange(0, whole, 8)
    plan: list[NDArray[np.int32]] = []
    inner = [table]
    for block, reach, operations in _layers(n):
        if block <= 8:
            inner.append(operations[operations[:, 0] >= whole])
        elif reach <= near:
            inner.append(operations)
        else:
            plan += [_by_block(inner, near), operations]
            inner = [table[:0]]
    plan.append(_by_block(inner, near))
    table = np.concatenate(plan)
    table.flags.writeable = False
    return table


def _by_block(layers: list[NDArray[np.int32]], near: int) -> NDArray[np.int32]:
    """Do one block of rows after the other, so that each stays in the first cache meanwhile."""
    operations = np.concatenate(layers)
    return operations[np.argsort(operations[:, 0] // near, kind="stable")]


def _layers(n: int) -> Iterator[tuple[int, int, NDArray[np.int32]]]:
    """Yield layers: the rows that they merge, the rows that they stay within, operations."""
    block = 2
    while block < 2 * n:
        halvings = block.bit_length() - 2  # layers that follow the mirrored one
        if halvings % 2:
            yield block, block, _mirrored_quads(n, block)
            rest = block // 4
        else:
            yield block, block, _pairs(n, block)
            rest = block // 2
        while rest >= 4:
            yield block, rest, _quads(n, rest)
            rest //= 4
        block *= 2


def _pairs(n: int, block: int) -> NDArray[np.int32]:
    """Mirrored comparisons within blocks of rows."""
    half = np.arange(block // 2)
    start = np.arange(0, n, block)[:, None]
    a, b = (start + half).ravel(), (start + block - 1 - half).ravel()
    rows = np.stack([a, b, np.full_like(a, -1), np.full_like(a, -1)], axis=1)
    return rows[b < n].astype(np.int32)


def _quads(n: int, block: int) -> NDArray[np.int32]:
    """Comparisons at half the block, then at a quarter of it: rows i, i + q, i + 2q, i + 3q."""
    q = block // 4
    i = (np.arange(0, n, block)[:, None] + np.arange(q)).ravel()
    quads = np.stack([i, i + q, i + 2 * q, i + 3 * q], axis=1)
    return _cut(quads, n, ((0, 2), (1, 3), (0, 1), (2, 3)), (0, 1, 2, 3))


def _mirrored_quads(n: int, block: int) -> NDArray[np.int32]:
    """Mirrored comparisons, then at a quarter of the block."""
    q = block // 4
    start = np.arange(0, n, block)[:, None]
    i, mirror = (start + np.arange(q)).ravel(), (start + block - 1 - np.arange(q)).ravel()
    quads = np.stack([i, i + q, mirror - q, mirror], axis=1)
    return _cut(quads, n, ((0, 3), (1, 2), (0, 1), (2, 3)), (0, 1, 3, 2))


def _cut(
    quads: NDArray[np.int_],
    n: int,
    comparisons: tuple[tuple[int, int], ...],
    order: tuple[int, ...],
) -> NDArray[np.int32]:
    """Whole quads, then the comparisons that are left of those with rows beyond the last."""
    whole = quads[quads[:, 3] < n][:, order]
    pieces = [
        (quad[a], quad[b], -1, -1)
        for quad in quads[quads[:, 3] >= n]
        for a, b in comparisons
        if quad[b] < n
    ]
    return np.concatenate([whole, np.array(pieces, np.int32).reshape(-1, 4)]).astype(np.int32)


def _comparisons(size: int, pairs: tuple[tuple[int, int], ...]) -> Any:
    """Return compiled code that compares `LANES` values, from column i on, of some rows."""

    def exchange(typing_context: Any, source: Any, goal: Any, rows: Any, i: Any) -> Any:
        """Put the smaller values into the first row of each pair, in order."""
        kind = goal.dtype
        step = kind.bitwidth // 8

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            vector = ir.VectorType(context.get_data_type(kind), LANES).as_pointer()
            shift = builder.mul(arguments[3], context.get_constant(types.intp, step))

            def place(table: Any, k: int) -> Any:
                array = context.make_array(source)(context, builder, table)
                start = builder.bitcast(array.data, ir.IntType(8).as_pointer())
                stride = builder.extract_value(array.strides, 0)
                row = builder.extract_value(arguments[2], k)
                at = builder.add(builder.mul(row, stride), shift)
                return builder.bitcast(builder.gep(start, [at]), vector)

            values = [builder.load(place(arguments[0], k), align=step) for k in range(size)]
            for a, b in pairs:
                x, y = values[a], values[b]
                values[a] = builder.select(compared(builder, kind, x, y, "<"), x, y)
                values[b] = builder.select(compared(builder, kind, x, y, ">"), x, y)
            for k, value in enumerate(values):
                builder.store(value, place(arguments[1], k), align=step)
            return context.get_dummy_value()

        rows = types.containers.UniTuple(types.intp, size)
        return types.void(goal, goal, rows, types.intp), generate

    return operation(exchange)


_pair = _comparisons(2, ((0, 1),))
_quad = _comparisons(4, ((0, 2), (1, 3), (0, 1), (2, 3)))
_mirrored_quad = _comparisons(4, ((0, 3), (1, 2), (0, 1), (2, 3)))
_eight = _comparisons(8, EIGHT)


@part
def sort_rows(values: Any, s: Any, w: int, plan: Any) -> None:
    """Put into s the first w columns of values, and up to `LANES` more, upwards; no NaN.

    The eights of a plan take all rows but the last few from the values: to copy them first would be
    to go once more through memory that is no longer near.
    """
    n = values.shape[0]
    for k in range(n // 8 * 8, n):
        row, copy = values[k], s[k]
        for i in range(w):
            copy[i] = row[i]
    for k in range(plan.shape[0]):
        a, b, c, d = np.int64(plan[k, 0]), plan[k, 1], plan[k, 2], plan[k, 3]
        if b < 0:
            for i in range(0, w, LANES):
                _eight(values, s, (a, a + 1, a + 2, a + 3, a + 4, a + 5, a + 6, a + 7), i)
        elif c < 0:
            for i in range(0, w, LANES):
                _pair(s, s, (a, b), i)
        elif c < d:
            for i in range(0, w, LANES):
                _quad(s, s, (a, b, c, d), i)
        else:
            for i in range(0, w, LANES):
                _mirrored_quad(s, s, (a, b, d, c), i)
