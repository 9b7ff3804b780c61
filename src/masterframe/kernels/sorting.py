"""A sorting network over rows: every pixel of a tile is sorted by the same comparisons.

Sixteen rows each are sorted at once, in registers, by a network of 60 comparisons (M. W. Green,
1969; Knuth, The Art of Computer Programming 3, 5.3.4), eight that are left by one of 19 (R. W.
Floyd and D. E. Knuth, 1973). From there on the network is bitonic: blocks of 32, 64 ... rows are
merged by comparing mirrored rows first (so that every comparison puts the smaller value into the
lower row), then rows at half the distance each time (K. E. Batcher, Sorting networks and their
applications, 1968). Rows beyond the last count as infinite: comparisons with them are left out, so
that any number of rows works. Three layers that follow each other touch the same eight rows and are
done at once: what costs is to load and to store. Comparisons are written as operations on vectors
of a cache line: a compiler that is given loops asks before each of them whether rows overlap, and
rows are short.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from masterframe.kernels.deferred import ir, types
from masterframe.kernels.native import operation, part
from masterframe.kernels.vectors import LINE, compared

Pairs = Sequence[tuple[int, int]]
Operation = tuple[int, tuple[int, ...]]
"""Which of the `KINDS`, and the rows that it compares, upwards."""

NEAR = 2**15
"""Bytes of the rows that are kept in the first cache."""
MOST = 16
"""Rows that one operation compares at most."""
TOGETHER = 3
"""Layers that are done at once at most."""
EIGHT = (
    (0, 2), (1, 3), (4, 6), (5, 7), (0, 4), (1, 5), (2, 6), (3, 7), (0, 1), (2, 3),
    (4, 5), (6, 7), (2, 4), (3, 5), (1, 4), (3, 6), (1, 2), (3, 4), (5, 6),
)  # fmt: skip
"""A network that sorts eight rows."""
SIXTEEN = (
    (0, 13), (1, 12), (2, 15), (3, 14), (4, 8), (5, 6), (7, 11), (9, 10), (0, 5), (1, 7),
    (2, 9), (3, 4), (6, 13), (8, 14), (10, 15), (11, 12), (0, 1), (2, 3), (4, 5), (6, 8),
    (7, 9), (10, 11), (12, 13), (14, 15), (0, 2), (1, 3), (4, 10), (5, 11), (6, 7), (8, 9),
    (12, 14), (13, 15), (1, 2), (3, 12), (4, 6), (5, 7), (8, 10), (9, 11), (13, 14), (1, 4),
    (2, 6), (5, 8), (7, 10), (9, 13), (11, 14), (2, 4), (3, 6), (9, 12), (11, 13), (3, 5),
    (6, 8), (7, 9), (10, 12), (3, 4), (5, 6), (7, 8), (9, 10), (11, 12), (6, 7), (8, 9),
)  # fmt: skip
"""A network that sorts sixteen rows."""


def _merging(size: int, *, mirrored: bool) -> Pairs:
    """Return the comparisons of the layers that touch the same rows, the first one mirrored or not.

    They are as many as it takes to halve the rows until there is one.
    """
    half = size // 2
    pairs = [(p, size - 1 - p if mirrored else p + half) for p in range(half)]
    while half > 1:
        half //= 2
        pairs += [(p, p + half) for p in range(size) if not p & half]
    return pairs


KINDS: tuple[tuple[int, Pairs], ...] = (
    (16, SIXTEEN),
    (8, EIGHT),
    (2, _merging(2, mirrored=False)),
    (4, _merging(4, mirrored=False)),
    (4, _merging(4, mirrored=True)),
    (8, _merging(8, mirrored=False)),
    (8, _merging(8, mirrored=True)),
)
"""Rows and comparisons of each kind of operation."""
SORT_16, SORT_8, PAIR, QUAD, MIRRORED_QUAD, OCTET, MIRRORED_OCTET = range(len(KINDS))
_PLAIN = {2: PAIR, 4: QUAD, 8: OCTET}
_MIRRORED = {2: PAIR, 4: MIRRORED_QUAD, 8: MIRRORED_OCTET}


@functools.lru_cache(maxsize=64)
def network(n: int, row_size: int) -> NDArray[np.int32]:
    """Return the operations that sort n rows of so many bytes, in order.

    Returns
    -------
    ndarray, shape (operations, 1 + `MOST`)
        Of each its kind, and the rows that it compares; -1 where it has no more.
    """
    near = max(1 << (NEAR // row_size).bit_length() - 1, MOST)
    plan: list[Operation] = []
    inner: list[Operation] = []
    for reach, operations in _passes(n):
        if reach > near:
            plan += [*_by_block(inner, near), *operations]
            inner = []
        else:
            inner += operations
    plan += _by_block(inner, near)
    table = np.full((len(plan), 1 + MOST), -1, np.int32)
    for line, (kind, rows) in zip(table, plan, strict=True):
        line[: 1 + len(rows)] = kind, *rows
    table.flags.writeable = False
    return table


def _by_block(operations: list[Operation], near: int) -> list[Operation]:
    """Do one block of rows after the other, so that each stays in the first cache meanwhile."""
    return sorted(operations, key=lambda item: item[1][0] // near)


def _passes(n: int) -> Iterator[tuple[int, list[Operation]]]:
    """Yield operations that go through the rows once, and how many rows each stays within."""
    sorted_, kinds = 0, []
    for kind in (SORT_16, SORT_8):
        size = KINDS[kind][0]
        while sorted_ + size <= n:
            kinds.append((kind, tuple(range(sorted_, sorted_ + size))))
            sorted_ += size
    yield MOST, kinds
    block, first = 2, sorted_  # what is left is merged from single rows on
    while block < 2 * n:
        if block == MOST:
            first = n // MOST * MOST
        elif block > MOST:
            first = 0
        yield from _merge_passes(n, block, first)
        block *= 2


def _merge_passes(n: int, block: int, first: int) -> Iterator[tuple[int, list[Operation]]]:
    """Yield the passes that merge the halves of each block of rows from the first row on."""
    layers = block.bit_length() - 1
    together, reach = (layers - 1) % TOGETHER + 1, block
    while layers:
        size, mirrored = 2**together, reach == block
        groups = (
            _group(start + i, reach, size, mirrored=mirrored)
            for start in range(first, n, reach)
            for i in range(reach // size)
        )
        yield reach, [item for rows in groups for item in _within(rows, n, mirrored=mirrored)]
        layers, reach, together = layers - together, reach // size, TOGETHER


def _group(row: int, block: int, size: int, *, mirrored: bool) -> tuple[int, ...]:
    """Return the rows, upwards, that as many layers touch together with the given one.

    It is one of the first of its block.
    """
    step = block // size
    if not mirrored:
        return tuple(range(row, row + block, step))
    start, half = row // block * block, size // 2
    lower = [row + step * k for k in range(half)]
    return (*lower, *(2 * start + block - 1 - other for other in reversed(lower)))


def _within(rows: tuple[int, ...], n: int, *, mirrored: bool) -> Iterator[Operation]:
    """Yield the operation of a group of rows; smaller ones where some rows are beyond the last."""
    if rows[-1] < n:
        yield (_MIRRORED if mirrored else _PLAIN)[len(rows)], rows
        return
    half = len(rows) // 2
    if rows[0] >= n:
        return
    lower, upper = rows[:half], rows[half:]
    for a, b in zip(lower, reversed(upper) if mirrored else upper, strict=True):
        if b < n:
            yield PAIR, (a, b)
    if half > 1:
        yield from _within(lower, n, mirrored=False)
        yield from _within(upper, n, mirrored=False)


def _comparisons(kind: int) -> Any:
    """Return compiled code that compares a cache line each, from column i on, of some rows."""
    size, pairs = KINDS[kind]

    def exchange(typing_context: Any, source: Any, goal: Any, rows: Any, i: Any) -> Any:
        """Put the smaller values into the first row of each pair, in order."""
        number = goal.dtype
        step = number.bitwidth // 8

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            vector = ir.VectorType(context.get_data_type(number), LINE // step).as_pointer()
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
                values[a] = builder.select(compared(builder, number, x, y, "<"), x, y)
                values[b] = builder.select(compared(builder, number, x, y, ">"), x, y)
            for k, value in enumerate(values):
                builder.store(value, place(arguments[1], k), align=step)
            return context.get_dummy_value()

        indices = types.containers.UniTuple(types.intp, size)
        return types.void(goal, goal, indices, types.intp), generate

    return operation(exchange)


_sort_16, _sort_8, _pair, _quad, _mirrored_quad, _octet, _mirrored_octet = (
    _comparisons(kind) for kind in range(len(KINDS))
)


@part
def sort_rows(values: Any, s: Any, w: int, plan: Any) -> None:  # noqa: PLR0912 - one for each kind
    """Put into s the first w columns of values, and up to a cache line more, upwards; no NaN.

    Rows are taken from the values where they are first sorted: to copy them before would be to go
    once more through memory that is no longer near.
    """
    n, lanes = values.shape[0], LINE // values.itemsize
    for k in range(n // 8 * 8, n):  # those that are too few to be sorted at once
        row, copy = values[k], s[k]
        for i in range(w):
            copy[i] = row[i]
    for k in range(plan.shape[0]):
        kind, a, b, c, d = plan[k, 0], plan[k, 1], plan[k, 2], plan[k, 3], plan[k, 4]
        e, f, g, h = plan[k, 5], plan[k, 6], plan[k, 7], plan[k, 8]
        if kind == SORT_16:
            for i in range(0, w, lanes):
                _sort_16(
                    values, s, (
                        a, a + 1, a + 2, a + 3, a + 4, a + 5, a + 6, a + 7, a + 8, a + 9, a + 10,
                        a + 11, a + 12, a + 13, a + 14, a + 15,
                    ), i,
                )  # fmt: skip
        elif kind == SORT_8:
            for i in range(0, w, lanes):
                _sort_8(values, s, (a, b, c, d, e, f, g, h), i)
        elif kind == PAIR:
            for i in range(0, w, lanes):
                _pair(s, s, (a, b), i)
        elif kind == QUAD:
            for i in range(0, w, lanes):
                _quad(s, s, (a, b, c, d), i)
        elif kind == MIRRORED_QUAD:
            for i in range(0, w, lanes):
                _mirrored_quad(s, s, (a, b, c, d), i)
        elif kind == OCTET:
            for i in range(0, w, lanes):
                _octet(s, s, (a, b, c, d, e, f, g, h), i)
        else:
            for i in range(0, w, lanes):
                _mirrored_octet(s, s, (a, b, c, d, e, f, g, h), i)
