"""Exact quantiles of values that arrive in pieces and need not fit in memory together."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAD_TO_SIGMA = 1.482602218505602
"""1 / the upper quartile of the normal distribution: sigma of normal data by their MAD."""
DIGIT_BITS = 16
"""Bits of a value that one pass over the data settles."""
DIGITS = 1 << DIGIT_BITS

Pieces = Callable[[], Iterable[NDArray[Any]]]
"""Gives the same arrays of floats each time it is called; every call is one pass over the data."""


def row_medians(values: NDArray[Any]) -> NDArray[Any]:
    """Return the medians along the last axis, bit for bit those of `numpy.median`.

    Rows are sorted, which vectors do: short ones of small integers take a tenth of the time.

    Parameters
    ----------
    values : array (..., n)
        Integers or floats; a row with NaN has the median NaN.

    Returns
    -------
    array (...)
        Float64 of integers, else the type of the values.
    """
    ordered = np.sort(values, axis=-1)
    found = _middle(ordered)
    if values.dtype.kind != "f":
        return found
    return np.where(np.isnan(ordered[..., -1]), ordered[..., -1], found)


def _middle(ordered: NDArray[Any]) -> NDArray[Any]:
    """Return the medians of rows in order; float64 of integers."""
    middle = ordered.shape[-1] // 2
    high = ordered[..., middle]
    low = high if ordered.shape[-1] % 2 else ordered[..., middle - 1]
    if ordered.dtype.kind != "f":
        return np.asarray((low.astype(np.float64) + high.astype(np.float64)) / 2)
    return np.asarray((low + high) / 2 if low is not high else high)


def exact_median(pieces: Pieces) -> float:
    """Return the median of all finite values, NaN if there are none.

    Parameters
    ----------
    pieces : callable
        Gives arrays of float32 (two passes) or float64 (four), of any shape.

    Returns
    -------
    float
        The middle value, or the mean of the two in the middle, in float64.
    """
    histogram = _Histograms(pieces)
    count = int(histogram.of(0, 0).sum())
    if count == 0:
        return float("nan")
    low, high = (histogram.ranked(rank) for rank in ((count - 1) // 2, count // 2))
    return low + (high - low) / 2


def median_of(values: NDArray[Any]) -> float:
    """Return the median of finite values that are in memory, as `exact_median` does.

    The first `numpy.median` of a process imports numpy.ma, which takes longer than most medians.
    """
    if not values.size:
        return float("nan")
    half = values.size // 2
    parted = np.partition(values.ravel(), half)  # a second place would take as long again
    high = float(parted[half])
    low = high if values.size % 2 else float(parted[:half].max())
    return low + (high - low) / 2


def robust_sigma(pieces: Pieces, center: float) -> float:
    """Return 1.4826 times the median absolute deviation from a centre, NaN without values."""
    return MAD_TO_SIGMA * exact_median(
        lambda: (np.abs(piece - piece.dtype.type(center)) for piece in pieces())
    )


def grouped_median(values: NDArray[Any], axis: int = -1) -> NDArray[np.float64]:
    """Return medians of values that were rounded, as if those alike filled the space about them.

    The plain median of whole numbers is a whole number: of two samples of nearly the same numbers
    it may differ by one. This one moves with the share of the values on either side. Of values that
    all differ it is the plain one.

    Parameters
    ----------
    values : array
        Finite values, at least one along the axis.
    axis : int
        The axis that is reduced.
    """
    ordered = np.sort(np.moveaxis(values, axis, -1), axis=-1)
    size = ordered.shape[-1]
    middle = _middle(ordered)[..., None]
    fewer = (ordered < middle).sum(axis=-1, keepdims=True)
    more = (ordered > middle).sum(axis=-1, keepdims=True)
    alike = size - fewer - more
    next_down = np.take_along_axis(ordered, np.maximum(fewer - 1, 0), axis=-1)
    next_up = np.take_along_axis(ordered, np.minimum(size - more, size - 1), axis=-1)
    down = np.where(fewer > 0, middle - next_down, np.inf)
    up = np.where(more > 0, next_up - middle, np.inf)
    # where there is nothing on one side, the gap is as wide as on the other
    down, up = (
        np.where(np.isfinite(a), a, np.where(np.isfinite(b), b, 0.0))
        for a, b in ((down, up), (up, down))
    )
    share = (size / 2 - fewer) / np.maximum(alike, 1)
    shift = np.where(alike > 1, share * (down + up) / 2 - down / 2, 0.0)
    found: NDArray[np.float64] = (middle + shift).squeeze(-1)
    return found


class _Histograms:
    """Radix selection: how often each digit follows a prefix, counted in one pass for each."""

    def __init__(self, pieces: Pieces) -> None:
        self._pieces = pieces
        self._known: dict[tuple[int, int], NDArray[np.int64]] = {}
        self._kind = np.dtype(np.float32)

    def of(self, digit: int, prefix: int) -> NDArray[np.int64]:
        """Return how many values have each digit at this place after these digits."""
        if (digit, prefix) not in self._known:
            counts = np.zeros(DIGITS, np.int64)
            for piece in self._pieces():
                self._kind = piece.dtype
                bits = _ordered(piece)
                shift = 8 * bits.itemsize - DIGIT_BITS * (digit + 1)
                if digit:
                    bits = bits[bits >> bits.dtype.type(shift + DIGIT_BITS) == prefix]
                digits = (bits >> bits.dtype.type(shift)) & bits.dtype.type(DIGITS - 1)
                counts += np.bincount(digits, minlength=DIGITS)
            self._known[digit, prefix] = counts
        return self._known[digit, prefix]

    def ranked(self, rank: int) -> float:
        """Return the value of a rank (from 0), digit by digit from the highest."""
        prefix, left = 0, rank
        for digit in range(8 * self._kind.itemsize // DIGIT_BITS):
            ends = np.cumsum(self.of(digit, prefix))
            chosen = int(np.searchsorted(ends, left, side="right"))
            left -= int(ends[chosen - 1]) if chosen else 0
            prefix = prefix << DIGIT_BITS | chosen
        return _from_ordered(prefix, self._kind)


def _ordered(piece: NDArray[Any]) -> NDArray[Any]:
    """Return the finite values as unsigned integers in the same order."""
    values = np.ascontiguousarray(piece).ravel()
    values = values[np.isfinite(values)]
    bits = values.view(f"u{values.itemsize}")
    sign = bits.dtype.type(1 << (8 * bits.itemsize - 1))
    # negative numbers grow downwards: all of their bits are turned, of the others the sign alone
    ordered: NDArray[Any] = np.where(bits & sign, ~bits, bits | sign)
    return ordered


def _from_ordered(number: int, kind: np.dtype[Any]) -> float:
    unsigned = np.dtype(f"u{kind.itemsize}")
    sign = 1 << (8 * kind.itemsize - 1)
    bits = number ^ sign if number & sign else ~number & (2 * sign - 1)
    return float(np.array(bits, unsigned).view(kind))
