"""A sorting network over rows: every pixel of a tile is sorted by the same comparisons.

The network is bitonic: blocks of 2, 4, 8 ... rows are merged by comparing mirrored rows first (so
that every comparison puts the smaller value into the lower row), then rows at half the distance
each time (K. E. Batcher, Sorting networks and their applications, 1968). Rows beyond the last count
as infinite: comparisons with them are left out, so that any number of rows works. Two layers that
follow each other touch the same four rows and are done at once, in registers.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
from numba.core import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from masterframe.kernels.cache import part

NEAR = 64
"""Rows that the first cache holds of a tile, at most; a power of 2."""


@functools.lru_cache(maxsize=64)
def network(n: int) -> NDArray[np.int32]:
    """Return the comparisons that sort n rows, in order, shape (operations, 4).

    An operation (a, b, c, d) with a < b < c < d compares first a with c or d and b with the other,
    then a with b and c with d; (a, b, -1, -1) compares a with b alone. The mirrored kind needs no
    mark: c and d are exchanged.
    """
    plan: list[NDArray[np.int32]] = [np.empty((0, 4), np.int32)]
    near: list[NDArray[np.int32]] = [plan[0]]
    for reach, operations in _layers(n):
        if reach <= NEAR:
            near.append(operations)
        else:
            plan += [_by_block(near), operations]
            near = near[:1]
    table = np.concatenate([*plan, _by_block(near)])
    table.flags.writeable = False
    return table


def _by_block(layers: list[NDArray[np.int32]]) -> NDArray[np.int32]:
    """Do one block of rows after the other, so that each stays in the first cache meanwhile."""
    operations = np.concatenate(layers)
    return operations[np.argsort(operations[:, 0] // NEAR, kind="stable")]


def _layers(n: int) -> Iterator[tuple[int, NDArray[np.int32]]]:
    """Yield layers of operations with the size of the blocks of rows that they stay within."""
    block = 2
    while block < 2 * n:
        halvings = block.bit_length() - 2  # layers that follow the mirrored one
        if halvings % 2:
            yield block, _mirrored_quads(n, block)
            rest = block // 4
        else:
            yield block, _pairs(n, block)
            rest = block // 2
        while rest >= 4:
            yield rest, _quads(n, rest)
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


def _selection(typing_context: Any, x: Any, y: Any, sign: str) -> Any:
    """Return signature and code of ``x if x sign y else y``, without a branch."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        x, y = arguments
        kind = signature.return_type
        if isinstance(kind, types.Float):
            chosen = builder.fcmp_ordered(sign, x, y)
        elif kind.signed:
            chosen = builder.icmp_signed(sign, x, y)
        else:
            chosen = builder.icmp_unsigned(sign, x, y)
        return builder.select(chosen, x, y)

    return x(x, x), generate


def _smaller(typing_context: Any, x: Any, y: Any) -> Any:
    """Return the smaller of two numbers of one type; the second where one is no number."""
    return _selection(typing_context, x, y, "<")


def _larger(typing_context: Any, x: Any, y: Any) -> Any:
    """Return the larger of two numbers of one type; the second where one is no number."""
    return _selection(typing_context, x, y, ">")


def _detach(typing_context: Any, x: Any) -> Any:
    """Return x, of which the compiler no longer knows where it was read.

    Else it writes a float only where it has moved, by masked stores, at a third of the speed.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        (value,) = arguments
        if not isinstance(signature.return_type, types.Float):
            return value
        return builder.fadd(value, context.get_constant(signature.return_type, 0.0))

    return x(x), generate


smaller: Any = intrinsic(_smaller)
larger: Any = intrinsic(_larger)
_detached: Any = intrinsic(_detach)


@part
def sort_rows(s: Any, w: int, plan: Any) -> None:
    """Sort each of the first w columns of s upwards along axis 0, in place; s holds no NaN."""
    for k in range(plan.shape[0]):
        a, b, c, d = plan[k, 0], plan[k, 1], plan[k, 2], plan[k, 3]
        if c < 0:
            for i in range(w):
                x, y = _detached(s[a, i]), _detached(s[b, i])
                s[a, i] = smaller(x, y)
                s[b, i] = larger(x, y)
        elif c < d:
            for i in range(w):
                x, y, z, t = s[a, i], s[b, i], s[c, i], s[d, i]
                x1, z1 = smaller(x, z), larger(x, z)
                y1, t1 = smaller(y, t), larger(y, t)
                s[a, i] = smaller(x1, y1)
                s[b, i] = larger(x1, y1)
                s[c, i] = smaller(z1, t1)
                s[d, i] = larger(z1, t1)
        else:
            for i in range(w):
                x, y, z, t = s[a, i], s[b, i], s[d, i], s[c, i]
                x1, t1 = smaller(x, t), larger(x, t)
                y1, z1 = smaller(y, z), larger(y, z)
                s[a, i] = smaller(x1, y1)
                s[b, i] = larger(x1, y1)
                s[d, i] = smaller(z1, t1)
                s[c, i] = larger(z1, t1)
