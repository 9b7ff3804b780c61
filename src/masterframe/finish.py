"""What is done to a master once all of its bands are written: steps that need the whole image."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from masterframe import quantiles, tiling
from masterframe.model import MaskBit

NEAR_PIXELS = 1 << 18
"""Pixels between the first and the last of some rows up to which one read takes them all."""
PASS_BYTES = 1 << 20
"""Bytes of a plane that are in memory at a time; with eight times as many each pass takes new pages
from the system, and two to four times as long."""


class PlaneFile(Protocol):
    """A file whose planes can be read and written by rows."""

    def read_rows(self, plane: str, rows: range) -> NDArray[Any]:
        """Return rows of a plane, which may lie apart."""

    def write_rows(self, plane: str, row0: int, values: NDArray[Any]) -> None:
        """Write rows from row0 on."""


@dataclass(frozen=True, slots=True)
class MasterPlanes:
    """The planes of one image in a master that is being written."""

    file: PlaneFile
    """The file."""
    names: dict[str, str]
    """HDU name by plane: data, uncert, mask, count."""
    shape: tuple[int, int]
    """Rows and columns."""

    def bands(self) -> Iterator[tuple[int, int]]:
        """Yield row ranges that are comfortable in memory."""
        rows = max(1, PASS_BYTES // (self.shape[1] * 8))
        for y0 in range(0, self.shape[0], rows):
            yield y0, min(y0 + rows, self.shape[0])

    def read(self, plane: str, rows: tuple[int, int]) -> NDArray[Any]:
        """Return some rows of a plane."""
        return self.file.read_rows(self.names[plane], range(*rows))

    def lines(self, plane: str, rows: range) -> NDArray[Any]:
        """Return rows of a plane that may lie apart; near ones are cut out of one read."""
        first, last = rows[0], rows[-1] + 1
        if (last - first) * self.shape[1] <= NEAR_PIXELS:
            return self.read(plane, (first, last))[:: rows.step]
        return self.file.read_rows(self.names[plane], range(first, last, rows.step))

    def write(self, plane: str, row0: int, values: NDArray[Any]) -> None:
        """Replace some rows of a plane."""
        self.file.write_rows(self.names[plane], row0, values)

    def good(self, plane: str) -> quantiles.Pieces:
        """Return the unmasked values of a plane in pieces."""
        return lambda: (
            self.read(plane, rows)[self.read("mask", rows) == 0] for rows in self.bands()
        )

    def good_of_cell(self, place: tuple[int, int], cell: int) -> quantiles.Pieces:
        """Return the unmasked data of one place (row, column) of all cells of so many pixels."""
        y, x = place
        return lambda: (
            self.read("data", rows)[first::cell, x::cell][
                self.read("mask", rows)[first::cell, x::cell] == 0
            ]
            for rows in self.bands()
            for first in ((y - rows[0]) % cell,)
        )

    def sampled(self, plane: str) -> NDArray[Any]:
        """Return a plane on every 16th row, NaN where it is masked."""
        rows = tiling.sample_rows(self.shape[0])
        values, mask = self.lines(plane, rows), self.lines("mask", rows)
        return np.where(mask == 0, values, values.dtype.type(np.nan))

    def sample(self, plane: str) -> NDArray[Any]:
        """Return the unmasked values of a plane on every 16th row, enough for a number."""
        values = self.sampled(plane)
        good: NDArray[Any] = values[np.isfinite(values)]
        return good

    def flag(self, bit: MaskBit, choose: Callable[[NDArray[Any]], NDArray[np.bool_]]) -> int:
        """Set a mask bit where a condition on the data holds, and return in how many pixels."""
        count = 0
        for rows in self.bands():
            chosen = choose(self.read("data", rows))
            if chosen.any():
                mask = self.read("mask", rows)
                mask[chosen] |= np.uint8(bit)
                self.write("mask", rows[0], mask)
                count += int(chosen.sum())
        return count


def flat_levels(images: Sequence[MasterPlanes], cell: int = 1) -> dict[str, float]:
    """Return the median of the good pixels of one image of a flat, or of several together.

    Parameters
    ----------
    images : sequence of MasterPlanes
        The images.
    cell : int
        Rows and columns of the cell of filters before the pixels, 2 of a Bayer sensor.

    Returns
    -------
    dict
        ``norm``: the median of all (unit of the planes); of a cell of filters ``norm01`` is that of
        row 0 and column 1 of it.
    """
    levels = {"norm": _median([one.good("data") for one in images])}
    if cell > 1:
        for place in _places(cell):
            parts = [one.good_of_cell(place, cell) for one in images]
            levels["norm{}{}".format(*place)] = _median(parts)
    return levels


def normalize_flat(
    planes: MasterPlanes, minimum: float, levels: Mapping[str, float], cell: int = 1
) -> dict[str, float]:
    """Divide a flat by its level and mask what is too insensitive.

    Parameters
    ----------
    planes : MasterPlanes
        The flat; its data and uncert are rewritten.
    minimum : float
        Pixels below this after normalising, or not finite, get `MaskBit.FLAT_LOW`.
    levels : mapping of str to float
        From `flat_levels`.
    cell : int
        As there: pixels behind each filter are divided by their own level.

    Returns
    -------
    dict
        The levels, and ``nflatlow``: pixels masked.
    """
    medians = {
        (y, x): levels.get(f"norm{y}{x}" if cell > 1 else "norm", np.nan) for y, x in _places(cell)
    }
    if not all(median > 0 for median in medians.values()):
        low = planes.flag(MaskBit.FLAT_LOW, _everywhere)
        return {"norm": levels["norm"], "nflatlow": float(low)}
    for rows in planes.bands():
        for plane in ("data", "uncert"):
            values = planes.read(plane, rows)
            for (y, x), median in medians.items():
                part = values[(y - rows[0]) % cell :: cell, x::cell]
                part[...] = (part / median).astype(values.dtype)
            planes.write(plane, rows[0], values)
    low = planes.flag(MaskBit.FLAT_LOW, lambda data: ~(data >= minimum))
    return {**levels, "nflatlow": float(low)}


def flag_hot(planes: MasterPlanes, sigmas: float) -> dict[str, float]:
    """Mark the hot pixels of a dark: those far above the others.

    Parameters
    ----------
    planes : MasterPlanes
        The dark; `MaskBit.HOT` is set in its mask.
    sigmas : float
        How many robust sigmas (1.4826 MAD of the good pixels on every 16th row) above their median.

    Returns
    -------
    dict
        ``nhot``: pixels marked, and ``hotlevel``: the bound (adu).
    """
    sample = planes.sample("data")
    median = quantiles.exact_median(lambda: [sample])
    bound = median + sigmas * quantiles.robust_sigma(lambda: [sample], median)
    return {"nhot": float(planes.flag(MaskBit.HOT, lambda data: data > bound)), "hotlevel": bound}


def _places(cell: int) -> list[tuple[int, int]]:
    """Return the places (row, column) of a cell."""
    return [(y, x) for y in range(cell) for x in range(cell)]


def _median(parts: Sequence[quantiles.Pieces]) -> float:
    return quantiles.exact_median(lambda: chain.from_iterable(part() for part in parts))


def _everywhere(data: NDArray[Any]) -> NDArray[np.bool_]:
    return np.ones(data.shape, np.bool_)
