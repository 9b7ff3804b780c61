"""Where the cells of a combination lie."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from masterframe import kernels
from masterframe.model import Calibration, Recipe


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
