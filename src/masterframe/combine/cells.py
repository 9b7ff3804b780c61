"""Where the cells of a combination lie, and which rows and columns of the stack they need."""

from __future__ import annotations

from collections.abc import Sequence

import dask.array as da

from masterframe.cell.spans import BandSpan, whole_rows
from masterframe.model import Calibration, Recipe
from masterframe.tiling import PART


def with_margins(data: da.Array, spans: Sequence[BandSpan]) -> da.Array:
    """Return the rows of all bands with their margins, one chunk a band.

    Rows that two bands need stand in both, so that the array is higher than the stack.
    """
    if not any(span.above or span.below for span in spans):
        return data
    parts = [data[:, span.row0 - span.above : span.row0 + span.rows + span.below] for span in spans]
    return da.concatenate([part.rechunk({1: -1}) for part in parts], axis=1)


def trim_rows(data: da.Array, calibration: Calibration) -> da.Array:
    """Return the rows of raw data that are kept; columns stay, the overscan is among them."""
    if calibration.trim is None:
        return data
    return data[:, calibration.trim.y0 : calibration.trim.y1, :]


def banded(data: da.Array, recipe: Recipe, calibration: Calibration) -> da.Array:
    """Return the data with all frames in one chunk, and all columns where they must be together."""
    apart = not whole_rows(recipe, calibration)
    if data.numblocks[2] > 1 and (not apart or any(n % PART for n in data.chunks[2][:-1])):
        data = data.rechunk({2: -1})
    return data if data.numblocks[0] == 1 else data.rechunk({0: -1})
