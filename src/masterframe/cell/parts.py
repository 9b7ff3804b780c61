"""Pixels of a cell that are read and judged alike, and what became of them, put together again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from masterframe.cell.spans import BandSpan
from masterframe.masterrows import MasterRows


class Cell(NamedTuple):
    """The values of one cell."""

    block: NDArray[Any]
    """Raw values (N, rows with margins, raw columns)."""
    mask: NDArray[Any] | None
    """Values to leave out."""
    uncertainty: NDArray[Any] | None
    """Standard deviations of the raw values (adu)."""
    span: BandSpan
    """Its rows."""
    masters: MasterRows
    """Those of the masters, with the margins."""

    def lines(self, part: slice, reach: int) -> Cell:
        """Return some rows of the cell, with margins of their own."""
        first, last = self.span.above + part.start, self.span.above + part.stop
        above, below = min(first, reach), min(self.block.shape[1] - last, reach)
        rows = slice(first - above, last + below)
        return Cell(
            self.block[:, rows],
            None if self.mask is None else self.mask[:, rows],
            None if self.uncertainty is None else self.uncertainty[:, rows],
            BandSpan(self.span.row0 + part.start, part.stop - part.start, above, below),
            self.masters.lines(self.masters.rows[rows]),
        )

    def without_margins(self) -> MasterRows:
        """Return the rows of the masters that go with the result."""
        return self.masters.lines(range(self.span.row0, self.span.row0 + self.span.rows))


class Part(NamedTuple):
    """What became of some pixels of a cell."""

    planes: dict[str, NDArray[Any]]
    """Pixels by plane, shape (rows, columns)."""
    counts: tuple[NDArray[np.int64], ...]
    """Kept, rejected low, rejected high and missing values of each frame."""
    frame_sums: NDArray[np.float64]
    """As those of a `BandResult`."""
    half_sums: NDArray[np.float64]
    """The same."""


def joined(parts: Sequence[Part], axis: int) -> Part:
    """Return parts above each other (axis 0) or beside each other (1) as one."""
    if len(parts) == 1:
        return parts[0]
    first = parts[0]
    return Part(
        {name: np.concatenate([p.planes[name] for p in parts], axis) for name in first.planes},
        tuple(np.sum(each, axis=0) for each in zip(*(p.counts for p in parts), strict=True)),
        np.concatenate([p.frame_sums for p in parts], axis),
        np.concatenate([p.half_sums for p in parts], axis),
    )
