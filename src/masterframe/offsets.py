"""The offset of frames as their overscans tell it: a level for each row, or for each column.

An overscan beside the data has a level for each of their rows; it is found band by band, or from
the terms of a curve. One above or below them has a level for each of their columns, which is the
same for all bands: the rows of the overscan are read once in a process.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from masterframe import fits, overscan
from masterframe.errors import UsageError
from masterframe.model import Calibration, Frame, OverscanModel, Section
from masterframe.readout import strip_of

Raw = NDArray[Any]


def with_overscan(calibration: Calibration, frames: Sequence[Frame]) -> Calibration:
    """Return a calibration that knows what the overscans of some frames tell of all their rows.

    Parameters
    ----------
    calibration : Calibration
        Returned as it is where the level of a row follows from this row alone.
    frames : sequence of Frame
        The whole frames that are calibrated; what a curve goes through is read.

    Raises
    ------
    FrameError
        If a file cannot be read or has changed since its scan.
    """
    model, sections = calibration.overscan_model, calibration.overscans
    if calibration.by_columns:
        return replace(calibration, overscan_frames=tuple(frames))
    if not (model.is_curve and sections):
        return calibration
    terms = tuple(tuple(_terms(frame, part, model) for part in sections) for frame in frames)
    return replace(calibration, overscan_terms=terms)


def row_offsets(
    block: Raw, rows: range, calibration: Calibration, columns: slice
) -> NDArray[np.float64]:
    """Return the level of each frame and row of some columns.

    Parameters
    ----------
    block : array (N, rows, raw columns)
        Raw values.
    rows : range
        Its rows in the trimmed image.
    calibration : Calibration
        Its overscans.
    columns : slice
        Columns of the trimmed image; of one strip where there are several amplifiers.

    Returns
    -------
    array (N, rows)
        Of size 0 where rows have no levels.
    """
    if not calibration.overscans or calibration.by_columns:
        return np.zeros((0, 0))
    top = calibration.trim.y0 if calibration.trim else 0
    places = top + np.arange(rows.start, rows.stop, rows.step)
    levels = np.zeros((len(block), len(rows)))
    for section, y0, y1 in _outputs(calibration, columns):
        own = (y0 <= places) & (places < y1)
        strip = block[:, :, section.x0 : section.x1]  # before rows are chosen, which copies them
        levels[:, own] = _levels(strip[:, own], places[own], calibration, section)
    return levels


def column_offsets(calibration: Calibration, columns: slice) -> NDArray[np.float64]:
    """Return the level of each frame and column of some columns.

    Parameters
    ----------
    calibration : Calibration
        From `with_overscan`.
    columns : slice
        Columns of the trimmed image; of one strip where there are several amplifiers.

    Returns
    -------
    array (N, columns)
        Of size 0 where columns have no levels.

    Raises
    ------
    UsageError
        If it does not know of which frames.
    """
    if not calibration.by_columns:
        return np.zeros((0, 0))
    if not calibration.overscan_frames:
        raise UsageError(
            "an overscan above or below the data is in none of the rows that are calibrated: let "
            "`run` reduce such frames, or take its level off before"
        )
    apart: list[tuple[Section | None, Section | None]] = [
        (one.overscan, one.data) for one in calibration.amplifiers
    ]
    parts = apart or [(calibration.overscan, calibration.trim)]
    sections = tuple(replace(one, x0=data.x0, x1=data.x1) for one, data in parts if one and data)
    levels = _column_levels(calibration.overscan_frames, sections, calibration.overscan_model)
    if not calibration.amplifiers:
        return levels[0][:, columns]
    (amplifier,) = strip_of(calibration.amplifiers, columns).amplifiers
    return levels[calibration.amplifiers.index(amplifier)]


def _outputs(calibration: Calibration, columns: slice) -> list[tuple[Section, int, int]]:
    """Return the overscans that serve some columns, each with the raw rows that it serves."""
    if calibration.overscan:
        return [(calibration.overscan, 0, np.iinfo(np.int64).max)]
    amplifiers = strip_of(calibration.amplifiers, columns).amplifiers
    return [(one.overscan, one.data.y0, one.data.y1) for one in amplifiers if one.overscan]


def _levels(
    strip: Raw, rows: NDArray[np.int64], calibration: Calibration, section: Section
) -> NDArray[np.float64]:
    """Return the level of each frame and row of one overscan, shape (N, rows)."""
    model = calibration.overscan_model
    if not model.is_curve:
        return overscan.row_levels(strip, model)
    number, height = calibration.overscans.index(section), section.shape[0]
    curves = [
        overscan.curve(terms[number], rows - section.y0, height, model)
        for terms in calibration.overscan_terms
    ]
    return np.stack(curves)


@lru_cache(maxsize=1 << 14)
def _terms(frame: Frame, section: Section, model: OverscanModel) -> tuple[float, ...]:
    """Return the terms of the curve through one overscan of a frame."""
    return overscan.fit(overscan.row_levels(_read(frame, section), model), model)


@lru_cache(maxsize=2)  # an image, and the next one, whose bands begin before it ends
def _column_levels(
    frames: tuple[Frame, ...], sections: tuple[Section, ...], model: OverscanModel
) -> list[NDArray[np.float64]]:
    """Return the level of each frame and column of the overscans of an image, (N, columns) each."""
    return [
        np.stack([overscan.column_levels(_read(frame, section), model) for frame in frames])
        for section in sections
    ]


def _read(frame: Frame, section: Section) -> Raw:
    columns = range(section.x0, section.x1)
    (strip,) = fits.read_stack([frame], section.y0, section.y1, 1, columns)
    return np.asarray(strip)
