"""Where the cells of a combination lie, and which rows and columns of the stack they need."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import dask.array as da

from masterframe import kernels
from masterframe.model import Calibration, Recipe
from masterframe.tiling import PART


class BandSpan(NamedTuple):
    """Rows of one band in the combined image."""

    row0: int
    """First row."""
    rows: int
    """Rows of the result."""
    above: int
    """Rows read before the first."""
    below: int
    """Rows read after the last."""


def band_spans(row_chunks: Sequence[int], reach: int) -> tuple[BandSpan, ...]:
    """Return where each band lies, with the rows beside it that `reach` pixels of growth need."""
    height, row0, spans = sum(row_chunks), 0, []
    for rows in row_chunks:
        spans.append(BandSpan(row0, rows, min(reach, row0), min(reach, height - row0 - rows)))
        row0 += rows
    return tuple(spans)


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


def whole_rows(recipe: Recipe, calibration: Calibration) -> str:
    """Return why all columns of a row must be combined at once; '' where they need not."""
    rejection = recipe.rejection
    if kernels.RULES[rejection.rule].rows:
        return f"the rule {rejection.rule} measures whole rows"
    if rejection.grow:
        return "grow looks at the columns beside"
    if calibration.overscans or calibration.trim:
        return "overscan and trim need whole rows"
    return ""


def banded(data: da.Array, recipe: Recipe, calibration: Calibration) -> da.Array:
    """Return the data with all frames in one chunk, and all columns where they must be together."""
    apart = not whole_rows(recipe, calibration)
    if data.numblocks[2] > 1 and (not apart or any(n % PART for n in data.chunks[2][:-1])):
        data = data.rechunk({2: -1})
    return data if data.numblocks[0] == 1 else data.rechunk({0: -1})
