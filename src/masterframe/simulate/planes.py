"""Images of 32 bit floats on disk, written once by rows and read again by rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

BLOCK = 2880
"""Bytes of a FITS block."""
BAND_ROWS = 64
"""Rows held at a time where a whole image is gone through."""


@dataclass(frozen=True, slots=True)
class PlaneFile:
    """A FITS file that holds one image of 32 bit floats."""

    path: Path
    """The file."""
    shape: tuple[int, int]
    """Rows and columns."""
    offset: int
    """Byte at which the pixels begin."""

    @classmethod
    def open(cls, path: Path) -> PlaneFile:
        """Find the image in a file."""
        from astropy.io import fits

        with fits.open(path) as hdus:
            return cls(path, hdus[0].shape, hdus[0].fileinfo()["datLoc"])

    def rows(self, y0: int, y1: int) -> NDArray[np.float32]:
        """Read the rows [y0, y1), of shape (y1 - y0, columns)."""
        nx = self.shape[1]
        stored = np.fromfile(self.path, ">f4", (y1 - y0) * nx, offset=self.offset + 4 * nx * y0)
        return stored.astype(np.float32).reshape(y1 - y0, nx)

    def bands(self) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Read the image in bands: the first row of each, and its rows."""
        for y0 in range(0, self.shape[0], BAND_ROWS):
            yield y0, self.rows(y0, min(y0 + BAND_ROWS, self.shape[0]))

    def divide(self, factor: float) -> None:
        """Divide the image on disk by a number."""
        with self.path.open("r+b") as file:
            for y0, band in self.bands():
                file.seek(self.offset + 4 * self.shape[1] * y0)
                file.write((band / factor).astype(">f4").data)

    def median(self) -> float:
        """Return the median of the image, the upper one of two, holding few rows at a time.

        Values are counted in bins of their upper 16 bits, which sort as positive floats do; those
        in the middle bin are then sorted.
        """
        counts = np.zeros(2**16, np.int64)
        for _, band in self.bands():
            counts += np.bincount(band.view(np.uint32).ravel() >> 16, minlength=counts.size)
        below = np.cumsum(counts)
        rank = int(below[-1]) // 2
        middle = np.searchsorted(below, rank, side="right")
        near = [band[band.view(np.uint32) >> 16 == middle] for _, band in self.bands()]
        return float(np.sort(np.concatenate(near))[rank - (below[middle] - counts[middle])])


def write_plane(
    path: Path, shape: tuple[int, int], pieces: Iterable[NDArray[np.float32]], unit: str
) -> PlaneFile:
    """Write an image from its rows, given from the first to the last in pieces."""
    from astropy.io import fits

    header = fits.Header()
    header["SIMPLE"] = True
    header["BITPIX"] = -32
    header["NAXIS"] = 2
    header["NAXIS1"] = shape[1]
    header["NAXIS2"] = shape[0]
    header["BUNIT"] = unit
    text = header.tostring().encode("ascii")
    with path.open("wb") as file:
        file.write(text)
        for rows in pieces:
            file.write(rows.astype(">f4").data)
        pad(file)
    return PlaneFile(path, shape, len(text))


def pad(file: BinaryIO) -> None:
    """Fill the last block of a FITS file with zeros."""
    file.write(bytes(-file.tell() % BLOCK))
