"""Random streams that can be drawn in any order.

Each has its own key under the seed of the night, so that a frame, or some rows of it, can be made
without the others: pixels are drawn in cells of `CELL_ROWS` whole rows.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator

import numpy as np

CELL_ROWS = 16
"""Rows drawn from one stream: few enough for a processor's cache."""


class Purpose(enum.IntEnum):
    """The first part of a stream's key."""

    BIAS = 0
    DARK = 1
    RESPONSE = 2
    DUST = 3
    STARS = 4
    SCHEDULE = 5
    EVENTS = 6
    PIXELS = 7
    MOSAIC = 8


def stream(seed: int, purpose: Purpose, *key: int) -> np.random.Generator:
    """Return the random stream of a purpose and, where it has several, of a frame and a cell."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(purpose, *key)))


def cells(y0: int, y1: int) -> Iterator[tuple[int, slice]]:
    """Yield the number of each cell that the rows [y0, y1) touch, with the slice of its rows."""
    for cell in range(y0 // CELL_ROWS, -(-y1 // CELL_ROWS)):
        top = cell * CELL_ROWS
        yield cell, slice(max(y0 - top, 0), min(y1 - top, CELL_ROWS))
