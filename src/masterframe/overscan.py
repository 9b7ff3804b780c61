"""The level of an overscan: of each row its median or clipped mean, or a curve through these.

Levels are float64 and do not depend on how rows were cut into bands: a row's own is made of its
values alone, and a curve of terms that were found once, from all rows. What is said of rows holds
for the columns of an overscan above or below the data.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.polynomial import chebyshev, legendre
from numpy.typing import NDArray

from masterframe.model import OverscanModel
from masterframe.quantiles import row_medians

Levels = NDArray[np.float64]


def row_levels(strip: NDArray[Any], model: OverscanModel) -> Levels:
    """Return the level of each row of an overscan.

    Parameters
    ----------
    strip : array (..., rows, columns)
        Raw values of the overscan.
    model : OverscanModel
        ``mean`` leaves out values beyond `low` and `high` standard deviations from the median of
        their row, as often as `iterations` says; all else takes the median.

    Returns
    -------
    array (..., rows)
    """
    if model.method != "mean":
        return row_medians(strip).astype(np.float64, copy=False)
    values = strip.astype(np.float64)
    keep = np.isfinite(values)
    for _ in range(model.iterations):
        good = np.where(keep, values, np.nan)
        center = np.nanmedian(good, axis=-1, keepdims=True)
        sigma = np.nanstd(good, axis=-1, keepdims=True)
        keep &= (values >= center - model.low * sigma) & (values <= center + model.high * sigma)
    return np.asarray(np.nanmean(np.where(keep, values, np.nan), axis=-1))


def column_levels(strip: NDArray[Any], model: OverscanModel) -> Levels:
    """Return the level of each column of an overscan above or below the data.

    Parameters
    ----------
    strip : array (rows, columns)
        Raw values of the overscan, in all columns of the data.
    model : OverscanModel
        As for `row_levels`; a curve goes through the levels of all columns.

    Returns
    -------
    array (columns,)
    """
    levels = row_levels(np.ascontiguousarray(strip.T), model)
    if not model.is_curve:
        return levels
    return curve(fit(levels, model), np.arange(levels.size), levels.size, model)


def fit(levels: Levels, model: OverscanModel) -> tuple[float, ...]:
    """Return the terms of the curve through the levels of all rows, by least squares.

    Rows beyond `low` and `high` standard deviations of the residuals are left out, and the curve is
    fitted again, `iterations` times at most.

    Parameters
    ----------
    levels : array (rows,)
        Level of each row of the overscan, from `row_levels`.
    model : OverscanModel
        A curve: legendre, chebyshev or spline.
    """
    design = _design(np.arange(levels.size), levels.size, model)
    keep = np.isfinite(levels)
    terms = _solved(design[keep], levels[keep])
    for _ in range(model.iterations):
        residuals = levels - _sum(design, terms)
        sigma = residuals[keep].std()
        better = keep & (residuals >= -model.low * sigma) & (residuals <= model.high * sigma)
        if (better == keep).all() or better.sum() < design.shape[1]:
            break
        keep = better
        terms = _solved(design[keep], levels[keep])
    return tuple(terms.tolist())


def curve(
    terms: tuple[float, ...], rows: NDArray[np.int64], height: int, model: OverscanModel
) -> Levels:
    """Return the curve at some rows.

    Parameters
    ----------
    terms : tuple of float
        From `fit`.
    rows : array of int
        Rows, counted from the first of the overscan.
    height : int
        Rows of the overscan.
    model : OverscanModel
        What was fitted.
    """
    return _sum(_design(rows, height, model), np.asarray(terms))


def _solved(design: Levels, levels: Levels) -> Levels:
    return np.asarray(np.linalg.lstsq(design, levels, rcond=None)[0], np.float64)


def _sum(design: Levels, terms: Levels) -> Levels:
    """Return the sum of the terms, each row by itself: a matrix product has other bits by size."""
    total = np.zeros(len(design))
    for column, term in zip(design.T, terms, strict=True):
        total += column * term
    return total


def _design(rows: NDArray[Any], height: int, model: OverscanModel) -> Levels:
    """Return the functions of a curve at some rows, shape (rows, terms)."""
    place = rows / max(height - 1, 1)
    if model.method == "spline":
        return _cubic_splines(place, model.order)
    polynomials = legendre.legvander if model.method == "legendre" else chebyshev.chebvander
    return np.asarray(polynomials(2 * place - 1, model.order))


def _cubic_splines(place: Levels, pieces: int) -> Levels:
    """Return the cubic B-splines of equal pieces of 0 to 1, shape (places, pieces + 3).

    On uniform knots they are one function, shifted (C. de Boor, A Practical Guide to Splines).
    """
    apart = np.abs(place[:, None] * pieces - np.arange(-1, pieces + 2))
    inner = 2 / 3 - apart**2 + apart**3 / 2
    outer = np.clip(2 - apart, 0, None) ** 3 / 6
    return np.where(apart < 1, inner, outer)
