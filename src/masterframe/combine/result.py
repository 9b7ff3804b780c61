"""The planes of a combination, before anything is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from masterframe.cell.planes import plane_names, plane_type
from masterframe.model import MaskBit, Recipe


@dataclass(frozen=True)
class Combined:
    """A lazy combination: nothing is read until its bands are computed."""

    bands: da.Array
    """Object array (1, bands, parts of a row); each block holds one `BandResult`."""
    row_chunks: tuple[int, ...]
    """Rows of each band."""
    column_chunks: tuple[int, ...]
    """Columns of each part of a row; one part where rows are whole."""
    recipe: Recipe
    """How it is combined, with every automatic value resolved but the quantisation step."""
    n_frames: int
    """Frames that go in."""
    unit: str = ""
    """Unit of the values."""
    places: Mapping[str, NDArray[np.intp]] = field(default_factory=dict)
    """Rows ``y`` and columns ``x`` of the raw frames that its pixels are of; empty: not known."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the result."""
        return sum(self.row_chunks), sum(self.column_chunks)

    @property
    def planes(self) -> tuple[str, ...]:
        """Names of the planes, in the order of a master file."""
        return plane_names(self.recipe)

    @property
    def dataset(self) -> xr.Dataset:
        """The planes as a lazy Dataset (y, x); computing several of them reads the stack once."""
        fields = [(name, plane_type(name, self.recipe)) for name in self.planes]
        record = np.dtype(fields)
        pixels = self.bands.map_blocks(
            _band_record,
            record,
            drop_axis=0,
            chunks=(self.row_chunks, self.column_chunks),
            dtype=record,
            meta=np.empty((0, 0), record),
            token="mf-planes",
        ).rechunk((even_chunks(self.row_chunks), even_chunks(self.column_chunks)))
        return xr.Dataset(
            {name: (("y", "x"), pixels[name], self._attributes_of(name)) for name in self.planes},
            coords=self.places,
            attrs={
                "NCOMBINE": self.n_frames,
                "COMBTYPE": self.recipe.estimator,
                "REJTYPE": self.recipe.rejection.rule,
            },
        )

    def _attributes_of(self, plane: str) -> dict[str, Any]:
        if plane == "mask":
            bits = {str(bit.name).lower(): int(bit) for bit in MaskBit}
            return {"flag_meanings": " ".join(bits), "flag_masks": list(bits.values())}
        units = {"data": self.unit, "uncert": self.unit, "propagated": self.unit, "exposure": "s"}
        return {"units": units[plane]} if plane in units else {}


def even_chunks(rows: tuple[int, ...]) -> tuple[int, ...]:
    """Return chunks that are equal but for the last, as Zarr has them: trimming cuts the first."""
    if len(set(rows[:-1])) < 2 and rows[-1] <= rows[0]:
        return rows
    band, total = max(rows), sum(rows)
    return tuple(min(band, total - row0) for row0 in range(0, total, band))


def _band_record(band: NDArray[Any], record: np.dtype[Any]) -> NDArray[Any]:
    planes = band[0, 0, 0].planes
    pixels = np.empty(planes["data"].shape, record)
    for name in record.names or ():
        pixels[name] = planes[name]
    return pixels
