"""From raw values to calibrated ones: overscan, trim, bias, dark, flat, scale and zero.

``((raw - overscan) - bias - dark * dark_ratio) / flat * scale + zero`` in this order, rounded to
the work type at each step. The arithmetic is the load step of `masterframe.kernels`; this module
gives it the rows of the masters, and serves the combine, the lazily calibrated stack and the
calibrated frames alike, so that all three hold the same bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from masterframe import kernels, offsets
from masterframe.errors import UsageError
from masterframe.masterrows import MasterRows
from masterframe.model import Calibration, MasterImage, Noise, Recipe, Section
from masterframe.readout import row_parts, strip_of, strips, trim_columns

Raw = NDArray[Any]
ALL = slice(None)
_NEUTRAL = Calibration()


def fitted(
    calibration: Calibration, shape: tuple[int, int], part: Section | None = None
) -> Calibration:
    """Return what calibrates raw frames, or a cut-out of them.

    Parameters
    ----------
    calibration : Calibration
        Of the whole frames.
    shape : tuple of int
        Rows and columns of the whole raw frames.
    part : Section, optional
        Where a cut-out lies in them.

    Returns
    -------
    Calibration
        With sections counted in the cut-out, and of each master the part that covers it.

    Raises
    ------
    UsageError
        If a master has another shape, or a cut-out lacks the overscan or all of the image.
    """
    kept = calibration.kept_shape(shape)
    for role in ("bias", "dark", "flat", "bad_pixels"):
        master: MasterImage | None = getattr(calibration, role)
        may_be = (kept, shape) if role == "bad_pixels" else (kept,)
        if master and master.shape not in may_be:
            raise UsageError(
                f"the {role.replace('_', ' ')} {master.data.path} is {_words(master.shape)} (rows "
                f"x columns), the frames are {_words(kept)}: they must agree"
            )
    return calibration if part is None else _cut(calibration, part)


def _words(shape: tuple[int, int]) -> str:
    return f"{shape[0]} x {shape[1]}"


def _cut(calibration: Calibration, part: Section) -> Calibration:
    """Return what calibrates a part of the raw frames, counted from the part's first pixel."""
    trim, strip, apart = calibration.trim, calibration.overscan, calibration.amplifiers
    for needed in (*calibration.overscans, *(one.data for one in apart)):
        if not part.x0 <= needed.x0 < needed.x1 <= part.x1:
            what = "pixels of an amplifier" if apart else "overscan"
            raise UsageError(
                f"columns {part.x0} to {part.x1} of the frames lack the {what}, {needed.x0} to "
                f"{needed.x1}: calibrate the whole frames, and cut what comes out"
            )
    if calibration.overscan_terms or calibration.by_columns:
        raise UsageError(
            "the overscan of a part of the frames cannot be taken off by a curve through all of "
            "it, nor column by column: calibrate the whole frames, and cut what comes out"
        )
    inside = part.within(trim) if trim else part
    if apart:
        inside = replace(inside, x0=0, x1=sum(s.raw.stop - s.raw.start for s in strips(apart)))
    if 0 in inside.shape:
        raise UsageError("the frames are cut to pixels that the calibration trims away")

    def cover(master: MasterImage | None) -> MasterImage | None:
        of_raw = master and trim and master.shape != calibration.kept_shape((0, 0))
        own = part if of_raw else inside
        return master and replace(master, part=own.of(master.part) if master.part else own)

    return replace(
        calibration,
        trim=trim and trim.within(part),
        bad=tuple(section.within(part) for section in calibration.bad),
        overscan=strip and strip.within(part),
        amplifiers=tuple(
            replace(
                one,
                data=one.data.within(part),
                overscan=one.overscan and one.overscan.within(part),
            )
            for one in apart
            if part.y0 < one.data.y1 and one.data.y0 < part.y1
        ),
        bias=cover(calibration.bias),
        dark=cover(calibration.dark),
        flat=cover(calibration.flat),
        bad_pixels=cover(calibration.bad_pixels),
    )


def load_terms(
    block: Raw,
    masters: MasterRows,
    recipe: Recipe,
    mask: Raw | None = None,
    *,
    columns: slice = ALL,
) -> kernels.LoadTerms:
    """Gather all that the load step needs for one band.

    Parameters
    ----------
    block : array (N, rows, raw columns)
        Raw values of the band, rows trimmed; full width, or `columns` of a frame that is not
        trimmed.
    masters : MasterRows
        Rows of the band, and what is taken off and applied.
    recipe : Recipe
        Its dtype is the work type; its saturation and threshold are in raw values.
    mask : array (N, rows, raw columns) of bool, optional
        Values to leave out (True).
    columns : slice
        Columns of the trimmed image that the terms are for; of one strip where there are several
        amplifiers (`strips_of`).
    """
    if mask is None and masters.calibration == _NEUTRAL:
        saturation, low, high = _bounds(recipe)
        return kernels.LoadTerms(saturation=saturation, raw_low=low, raw_high=high)
    shared = columns_of(_shared_terms(masters, recipe), columns)
    terms = _with_offsets(shared, block, masters, columns, np.dtype(recipe.dtype))
    return terms._replace(
        frame_mask=_no_mask() if mask is None else _kept_mask(mask, masters.calibration, columns)
    )


def _shared_terms(masters: MasterRows, recipe: Recipe) -> kernels.LoadTerms:
    """Gather what the load step needs for some rows in all columns, but for what frames tell."""
    work, calibration = np.dtype(recipe.dtype), masters.calibration
    saturation, low, high = _bounds(recipe)
    return kernels.LoadTerms(
        overscan=np.zeros((0, 0), work),
        overscan_columns=np.zeros((0, 0), work),
        bias=masters.bias(work),
        dark=masters.dark(work),
        dark_ratio=_per_frame(calibration.dark_ratio, work),
        flat=masters.flat(work),
        scale=_per_frame(calibration.scale, work),
        zero=_per_frame(calibration.zero, work),
        bad=masters.bad(),
        frame_mask=_no_mask(),
        saturation=saturation,
        raw_low=low,
        raw_high=high,
    )


def _bounds(recipe: Recipe) -> tuple[float, float, float]:
    """Return from where raw values are saturated, and the thresholds below and above."""
    threshold = recipe.rejection if recipe.rejection.rule == "threshold" else None
    return (
        _bound(recipe.saturation, np.inf),
        _bound(threshold.low if threshold else None, -np.inf),
        _bound(threshold.high if threshold else None, np.inf),
    )


def _with_offsets(
    terms: kernels.LoadTerms,
    block: Raw,
    masters: MasterRows,
    columns: slice,
    work: np.dtype[Any],
) -> kernels.LoadTerms:
    """Return the terms of some columns with what their overscans give."""
    by_rows = offsets.row_offsets(block, masters.rows, masters.calibration, columns)
    by_columns = offsets.column_offsets(masters.calibration, columns)
    return terms._replace(overscan=by_rows.astype(work), overscan_columns=by_columns.astype(work))


def columns_of(terms: kernels.LoadTerms, columns: slice) -> kernels.LoadTerms:
    """Return the terms of some columns of a band."""
    return terms._replace(
        overscan_columns=terms.overscan_columns[:, columns],
        bias=terms.bias[:, columns],
        dark=terms.dark[:, columns],
        flat=terms.flat[:, columns],
        bad=terms.bad[:, columns],
        frame_mask=terms.frame_mask[:, :, columns],
    )


def apply(
    block: Raw,
    row0: int,
    calibration: Calibration,
    recipe: Recipe | None = None,
) -> NDArray[Any]:
    """Calibrate raw rows.

    Parameters
    ----------
    block : array (N, rows, raw columns)
        Raw values, full width, rows trimmed.
    row0 : int
        First row in the trimmed image.
    calibration : Calibration
        What is taken off and applied.
    recipe : Recipe, optional
        Its dtype is that of the result, values from its saturation on become NaN.

    Returns
    -------
    array (N, rows, columns) of ``recipe.dtype``
        Calibrated values, NaN where nothing valid is known.
    """
    rows = range(row0, row0 + block.shape[1])
    return apply_masters(block, MasterRows(calibration, rows), recipe or Recipe())


def apply_masters(block: Raw, masters: MasterRows, recipe: Recipe) -> NDArray[Any]:
    """Calibrate raw rows with rows of masters that may have been read; otherwise as `apply`."""
    calibration = masters.calibration
    work, raw = np.dtype(recipe.dtype), trim_columns(block, calibration)
    if raw.dtype.kind in "iu" and _changes_nothing(calibration, recipe):
        return raw.astype(kernels.work_type(raw.dtype, work))
    shared = _shared_terms(masters, recipe)
    out = np.empty(raw.shape, kernels.work_type(raw.dtype, work))
    for columns in strips_of(calibration, ALL):
        terms = _with_offsets(columns_of(shared, columns), block, masters, columns, work)
        out[:, :, columns] = kernels.calibrate_block(raw[:, :, columns], terms, work)
    return out


def _changes_nothing(calibration: Calibration, recipe: Recipe) -> bool:
    """Return whether whole numbers stay what they are: only rows and columns are taken off."""
    known = recipe.saturation is not None or recipe.rejection.rule == "threshold"
    return not known and replace(calibration, trim=None) == Calibration()


def strips_of(calibration: Calibration, columns: slice) -> list[slice]:
    """Return columns of the trimmed image apart where they are read by different amplifiers."""
    if not calibration.amplifiers:
        return [columns]
    return [strip.kept for strip in strips(calibration.amplifiers)]


def noise_parts(
    calibration: Calibration, columns: slice, rows: range, noise: Noise
) -> list[tuple[slice, Noise]]:
    """Return which rows of some columns (of `strips_of`) have which noise.

    Parameters
    ----------
    calibration : Calibration
        Its amplifiers know their own gain and read noise, where it has some.
    columns, rows : slice, range
        In the trimmed image.
    noise : Noise
        What holds where an amplifier does not know its own.

    Returns
    -------
    list of (slice, Noise)
        Slices count from the first of the rows.
    """
    if not calibration.amplifiers:
        return [(slice(0, len(rows)), noise)]
    top = calibration.trim.y0 if calibration.trim else 0
    raw = range(rows.start + top, rows.stop + top)
    return row_parts(strip_of(calibration.amplifiers, columns), raw, noise)


def _kept_mask(mask: Raw, calibration: Calibration, columns: slice) -> NDArray[np.bool_]:
    """Return the values of a mask that go with some columns of the trimmed image."""
    kept = trim_columns(mask, calibration)
    return np.ascontiguousarray(kept[:, :, columns] if calibration.amplifiers else kept)


def _per_frame(values: Sequence[float], work: np.dtype[Any]) -> NDArray[Any]:
    return np.asarray(values, work)


def _bound(value: float | None, missing: float) -> float:
    return missing if value is None else float(value)


def _no_mask() -> NDArray[np.bool_]:
    return np.zeros((0, 0, 0), np.bool_)
