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

from masterframe import fits, kernels, offsets
from masterframe.errors import UsageError
from masterframe.model import Calibration, Frame, MasterImage, Noise, Recipe, Section
from masterframe.readout import row_parts, strip_of, strips

Raw = NDArray[Any]
ALL = slice(None)
Place = tuple[int, slice]
"""First row, and columns, in the trimmed image."""


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


def trim_columns(block: Raw, calibration: Calibration) -> Raw:
    """Return what is kept of raw rows (..., columns) after trimming; a view where it can be."""
    trim = calibration.trim
    if trim is None:
        return block
    if calibration.kept_shape(trim.shape) == trim.shape:
        return block[..., trim.x0 : trim.x1]
    parts = [block[..., strip.raw] for strip in strips(calibration.amplifiers)]
    return np.concatenate(parts, axis=-1)


def load_terms(
    block: Raw,
    row0: int,
    calibration: Calibration,
    recipe: Recipe,
    mask: Raw | None = None,
    *,
    step: int = 1,
    columns: slice = ALL,
) -> kernels.LoadTerms:
    """Gather all that the load step needs for one band.

    Parameters
    ----------
    block : array (N, rows, raw columns)
        Raw values of the band, rows trimmed; full width, or `columns` of a frame that is not
        trimmed.
    row0 : int
        First row of the band in the trimmed image, which is the masters' row.
    calibration : Calibration
        What is taken off and applied.
    recipe : Recipe
        Its dtype is the work type; its saturation and threshold are in raw values.
    mask : array (N, rows, raw columns) of bool, optional
        Values to leave out (True).
    step : int
        Rows of the image from one row of the block to the next.
    columns : slice
        Columns of the trimmed image that the terms are for; of one strip where there are several
        amplifiers (`strips_of`).
    """
    rows = range(row0, row0 + step * (block.shape[1] - 1) + 1, step)
    shared = columns_of(_shared_terms(rows, calibration, recipe), columns)
    terms = _with_offsets(shared, block, rows, calibration, columns, np.dtype(recipe.dtype))
    return terms._replace(
        frame_mask=_no_mask() if mask is None else _kept_mask(mask, calibration, columns)
    )


def _shared_terms(rows: range, calibration: Calibration, recipe: Recipe) -> kernels.LoadTerms:
    """Gather what the load step needs for some rows in all columns, but for what frames tell."""
    work = np.dtype(recipe.dtype)
    threshold = recipe.rejection if recipe.rejection.rule == "threshold" else None
    bias = None if calibration.dark and calibration.dark_holds_bias else calibration.bias
    return kernels.LoadTerms(
        overscan=np.zeros((0, 0), work),
        overscan_columns=np.zeros((0, 0), work),
        bias=_master_rows(bias, rows, work),
        dark=_master_rows(calibration.dark, rows, work),
        dark_ratio=_per_frame(calibration.dark_ratio, work),
        flat=_flat_rows(calibration.flat, rows, work),
        scale=_per_frame(calibration.scale, work),
        zero=_per_frame(calibration.zero, work),
        bad=bad_rows(calibration, rows),
        frame_mask=_no_mask(),
        saturation=_bound(recipe.saturation, np.inf),
        raw_low=_bound(threshold.low if threshold else None, -np.inf),
        raw_high=_bound(threshold.high if threshold else None, np.inf),
    )


def _with_offsets(
    terms: kernels.LoadTerms,
    block: Raw,
    rows: range,
    calibration: Calibration,
    columns: slice,
    work: np.dtype[Any],
) -> kernels.LoadTerms:
    """Return the terms of some columns with what their overscans give."""
    by_rows = offsets.row_offsets(block, rows, calibration, columns)
    by_columns = offsets.column_offsets(calibration, columns)
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
    *,
    step: int = 1,
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
    step : int
        Rows of the image from one row of the block to the next.

    Returns
    -------
    array (N, rows, columns) of ``recipe.dtype``
        Calibrated values, NaN where nothing valid is known.
    """
    recipe = recipe or Recipe()
    work, raw = np.dtype(recipe.dtype), trim_columns(block, calibration)
    if raw.dtype.kind in "iu" and _changes_nothing(calibration, recipe):
        return raw.astype(kernels.work_type(raw.dtype, work))
    rows = range(row0, row0 + step * (block.shape[1] - 1) + 1, step)
    shared = _shared_terms(rows, calibration, recipe)
    out = np.empty(raw.shape, kernels.work_type(raw.dtype, work))
    for columns in strips_of(calibration, ALL):
        own = columns_of(shared, columns)
        terms = _with_offsets(own, block, rows, calibration, columns, work)
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


def bad_rows(calibration: Calibration, rows: range) -> NDArray[np.bool_]:
    """Return the pixels of some rows that are given as bad; size 0 where none are given."""
    if not calibration.bad:
        return _bad_by_file(calibration, rows)
    by_file, trim = _bad_by_file(calibration, rows), calibration.trim
    top, parts = (trim.y0, (trim, *calibration.bad)) if trim else (0, calibration.bad)
    places = top + np.arange(rows.start, rows.stop, rows.step)
    raw = np.zeros((len(rows), max(section.x1 for section in parts)), np.bool_)
    for section in calibration.bad:
        own = (section.y0 <= places) & (places < section.y1)
        raw[own, section.x0 : section.x1] = True
    kept = trim_columns(raw, calibration)
    return np.asarray(kept | by_file if by_file.size else kept)


def _bad_by_file(calibration: Calibration, rows: range) -> NDArray[np.bool_]:
    if calibration.bad_pixels is None:
        return np.zeros((0, 0), np.bool_)
    bad, trim = calibration.bad_pixels, calibration.trim
    if trim is None or bad.shape == calibration.kept_shape((0, 0)):
        return np.asarray(_read(bad, bad.data, rows) != 0)
    raw = _read(bad, bad.data, range(rows.start + trim.y0, rows.stop + trim.y0, rows.step))
    return np.asarray(trim_columns(raw, calibration) != 0)


def mask_rows(calibration: Calibration, rows: range) -> NDArray[np.uint8]:
    """Return the mask bits of all masters applied, ORed; (rows, columns), or (0, 0) for none."""
    masks = [
        _read(master, master.mask, rows).astype(np.uint8)
        for master in applied(calibration)
        if master.mask
    ]
    if not masks:
        return np.zeros((0, 0), np.uint8)
    return np.asarray(np.bitwise_or.reduce(masks))


def applied(calibration: Calibration) -> list[MasterImage]:
    """Return the masters that change values, in the order in which they do."""
    holds_bias = calibration.dark and calibration.dark_holds_bias
    bias = None if holds_bias else calibration.bias
    return [master for master in (bias, calibration.dark, calibration.flat) if master]


def scaled_uncertainty(sigma: Raw, place: Place, calibration: Calibration) -> NDArray[np.float64]:
    """Return standard deviations of raw values as those of the calibrated and scaled values.

    Parameters
    ----------
    sigma : array (N, rows, columns)
        Standard deviations (adu), trimmed.
    place : (int, slice)
        First row and columns in the trimmed image.
    calibration : Calibration
        What is applied to the values.
    """
    scaled = sigma.astype(np.float64)
    if calibration.flat:
        row0, columns = place
        rows = range(row0, row0 + sigma.shape[1])
        scaled /= _flat_rows(calibration.flat, rows, np.dtype(np.float64))[:, columns]
    if calibration.scale:
        scaled *= np.asarray(calibration.scale)[:, None, None]
    return scaled


def shared_variance(
    data: NDArray[Any], place: Place, calibration: Calibration, *, step: int = 1
) -> NDArray[np.float64]:
    """Return the variance that the masters bring into calibrated values, for all frames alike.

    ``(mean(scale)^2 sigma_B^2 + mean(scale dark_ratio)^2 sigma_D^2) / flat^2 + (data sigma_F /
    flat)^2``: the last term in variance form, so that zero signal is harmless. A dark that holds
    its bias stands for both.

    Parameters
    ----------
    data : array (rows, columns)
        The calibrated (combined) values.
    place : (int, slice)
        Their first row and their columns in the trimmed image.
    calibration : Calibration
        What was applied.
    step : int
        Rows of the image from one row of the values to the next.
    """
    row0, columns = place
    rows = range(row0, row0 + step * (data.shape[0] - 1) + 1, step)
    scale = np.asarray(calibration.scale or (1.0,))
    ratio = np.asarray(calibration.dark_ratio or (1.0,))
    variance = np.zeros(data.shape)
    if calibration.bias and not (calibration.dark and calibration.dark_holds_bias):
        variance += scale.mean() ** 2 * _variance_rows(calibration.bias, rows)[:, columns]
    if calibration.dark:
        dark = _variance_rows(calibration.dark, rows)[:, columns]
        variance += (scale * ratio).mean() ** 2 * dark
    if calibration.flat:
        flat = _flat_rows(calibration.flat, rows, np.dtype(np.float64))[:, columns]
        relative = _variance_rows(calibration.flat, rows)[:, columns] / flat**2
        variance = variance / flat**2 + np.asarray(data, np.float64) ** 2 * relative
    return variance


def flat_and_signal(
    data: NDArray[Any], row0: int, calibration: Calibration
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the flat that divided calibrated values, and the adu above bias that they came from.

    Parameters
    ----------
    data : array (rows, columns)
        Calibrated values of one frame.
    row0 : int
        First row in the trimmed image.
    calibration : Calibration
        What was applied. A dark that holds its bias adds nothing: its own share is not known.
    """
    rows = range(row0, row0 + data.shape[0])
    work = np.dtype(np.float64)
    flat = _flat_rows(calibration.flat, rows, work) if calibration.flat else np.ones(data.shape)
    signal = np.asarray(data, np.float64) * flat
    if calibration.dark and not calibration.dark_holds_bias:
        ratio = calibration.dark_ratio[0] if calibration.dark_ratio else 1.0
        signal += ratio * _master_rows(calibration.dark, rows, work)
    return flat, signal


def _variance_rows(master: MasterImage, rows: range) -> NDArray[np.float64]:
    """Return the variance of a master, 0 where it does not say (foreign, or made of one frame)."""
    if master.uncert is None:
        return np.zeros((len(rows), master.shape[1]))
    return np.nan_to_num(_read(master, master.uncert, rows).astype(np.float64) ** 2, nan=0.0)


def _read(master: MasterImage, plane: Frame, rows: range) -> NDArray[Any]:
    """Read rows of the used part of one plane of a master."""
    part = master.part
    if part is None:
        return fits.read_rows(plane, rows.start, rows.stop, rows.step)
    whole = fits.read_rows(plane, rows.start + part.y0, rows.stop + part.y0, rows.step)
    return np.ascontiguousarray(whole[:, part.x0 : part.x1])


def _kept_mask(mask: Raw, calibration: Calibration, columns: slice) -> NDArray[np.bool_]:
    """Return the values of a mask that go with some columns of the trimmed image."""
    kept = trim_columns(mask, calibration)
    return np.ascontiguousarray(kept[:, :, columns] if calibration.amplifiers else kept)


def _master_rows(master: MasterImage | None, rows: range, work: np.dtype[Any]) -> NDArray[Any]:
    if master is None:
        return np.zeros((0, 0), work)
    return _read(master, master.data, rows).astype(work, copy=False)


def _flat_rows(master: MasterImage | None, rows: range, work: np.dtype[Any]) -> NDArray[Any]:
    """Return rows of the flat with 1 where it must not be divided by: masked, or not positive."""
    flat = _master_rows(master, rows, work)
    if master is None:
        return flat
    usable = np.isfinite(flat) & (flat > 0)
    if master.mask:
        usable &= _read(master, master.mask, rows) == 0
    return np.where(usable, flat, work.type(1))


def _per_frame(values: Sequence[float], work: np.dtype[Any]) -> NDArray[Any]:
    return np.asarray(values, work)


def _bound(value: float | None, missing: float) -> float:
    return missing if value is None else float(value)


def _no_mask() -> NDArray[np.bool_]:
    return np.zeros((0, 0, 0), np.bool_)
