"""What combining gives, cell by cell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the command line imports this module before numpy is wanted
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class FrameCounts:
    """Numbers of each of N frames, summed over the pixels of a band; arrays of shape (N,)."""

    kept: NDArray[np.int64]
    """Values that went into the result."""
    low: NDArray[np.int64]
    """Values rejected below the centre."""
    high: NDArray[np.int64]
    """Values rejected above the centre."""
    missing: NDArray[np.int64]
    """Values that were no number, saturated or masked."""


@dataclass(frozen=True, slots=True)
class BandResult:
    """What one task makes of one cell: its pixels, and the numbers of its frames.

    A cell is a band of whole rows, or a part of one row.
    """

    row0: int
    """First row of the cell in the combined image."""
    column0: int
    """First column of the cell."""
    planes: Mapping[str, NDArray[Any]]
    """Arrays of shape (rows, columns) by name: data, uncert, mask, count and the optional ones; the
    counts of up to 32767 frames have 16 bits, others 32."""
    frames: FrameCounts
    """Counts per frame."""
    frame_sums: NDArray[np.float64]
    """Sums of (value - combined) and of its square over the kept values, shape (rows, parts,
    N, 2): over the columns of each part of a row (`masterframe.tiling.PART`)."""
    half_sums: NDArray[np.float64]
    """n, sum and sum of squares of half the difference between the means of the even and the odd
    frames, shape (rows, parts, 3); the noise of the result free of what all frames share."""
    datasum: NDArray[np.uint64]
    """Ones'-complement partial DATASUM of the bytes read, per frame, shape (N,); of size 0
    where it is not known."""
