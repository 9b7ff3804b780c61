"""The rows around a pixel, and what a rule makes of its values and of those beside it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from masterframe import calibrate, cell, combine, kernels
from masterframe.errors import UsageError
from masterframe.explain.history import HIGH, KEPT, LOW
from masterframe.masterrows import MasterRows
from masterframe.model import Calibration, Noise, Recipe
from masterframe.readout import trim_columns
from masterframe.variance import scaled_uncertainty

Known = tuple[cell.FrameFacts, da.Array | None]
"""What is known of the frames, and the uncertainties of their values."""


@dataclass(frozen=True, slots=True)
class Window:
    """The rows around a pixel with all that is applied to them, and how they are judged."""

    raw: NDArray[Any]
    """Raw values, shape (N, rows, columns), trimmed."""
    terms: kernels.LoadTerms
    """What is applied to them."""
    at: tuple[int, int]
    """Row of the window and column of the pixel."""
    floor: kernels.Floor
    rank: NDArray[np.int64]
    noise: NDArray[np.float64]
    """Variance terms a, b, z of each frame, shape (N, 3); of size 0 where they are not known."""
    variance: NDArray[np.float64]
    """Variance of each value, shape (N, rows, columns), in place of a; of size 0: not known."""
    recipe: Recipe

    def noise_at(self, row: int, column: int) -> NDArray[np.float64] | None:
        """Return the variance terms a, b, z of the values of one pixel; None: not known."""
        if not self.variance.size:
            return self.noise if self.noise.size else None
        terms = np.zeros((len(self.raw), 3))
        terms[:, 0] = self.variance[:, row, column]
        return terms

    def cut(self, row: int, column: int) -> tuple[NDArray[Any], kernels.LoadTerms]:
        """Return raw values and terms of one pixel."""
        rows, columns = slice(row, row + 1), slice(column, column + 1)
        places: dict[str, Any] = dict.fromkeys(("bias", "dark", "flat", "bad"), (rows, columns))
        places["overscan"] = (slice(None), rows)
        places["overscan_columns"] = (slice(None), columns)
        given = {
            name: getattr(self.terms, name)[place]
            for name, place in places.items()
            if getattr(self.terms, name).size
        }
        return self.raw[:, rows, columns], self.terms._replace(**given)


def open_window(
    stack: xr.DataArray,
    pixel: tuple[int, int],
    recipe: Recipe,
    calibration: Calibration,
    known: Known,
) -> Window:
    """Read the pixel's row, with ``grow`` as many rows above and below as it reaches."""
    x, y = pixel
    trim = calibration.trim
    height, width = calibration.kept_shape((stack.shape[1], stack.shape[2]))
    if not (0 <= x < width and 0 <= y < height):
        raise UsageError(
            f"FITS pixel {x + 1}, {y + 1} (array index x {x}, y {y}) is not in the image, which "
            f"has {width} columns and {height} rows"
        )
    reach = int(recipe.rejection.grow or 0)
    first, last = max(0, y - reach), min(height, y + reach + 1)
    top = trim.y0 if trim else 0
    strip, noise = _read_by(calibration, x, y, recipe.noise)
    masters = MasterRows(calibration, range(first, last))
    block = np.asarray(stack[:, top + first : top + last, :].values)
    scale = calibration.scale or combine.stack_scale(stack)
    above_bias = cell.is_above_bias(calibration) or bool(stack.attrs.get("above_bias"))
    facts, uncertainties = known
    sigma = np.empty((0, 0, 0))
    if uncertainties is not None:
        rows = np.asarray(uncertainties[:, top + first : top + last, :])
        rows = trim_columns(rows, calibration)[:, :, strip]
        sigma = scaled_uncertainty(rows, strip, masters)
    return Window(
        raw=trim_columns(block, calibration)[:, :, strip],
        terms=calibrate.load_terms(block, masters, recipe, columns=strip),
        at=(y - first, x - (strip.start or 0)),
        floor=cell.noise_floor(noise, noise.step, scale, above_bias),
        rank=np.asarray(facts.rank),
        variance=sigma**2,
        noise=cell.noise_terms(
            noise,
            len(block),
            scale,
            calibration.zero,
            signal=above_bias or recipe.rejection.rule == "ccd",
        ),
        recipe=recipe,
    )


def _read_by(calibration: Calibration, x: int, y: int, noise: Noise) -> tuple[slice, Noise]:
    """Return the columns that are read together with a pixel, and the noise of what reads it."""
    strips = calibrate.strips_of(calibration, calibrate.ALL)
    strip = next((one for one in strips if (one.stop or x + 1) > x), strips[-1])
    (_, own), *_ = calibrate.noise_parts(calibration, strip, range(y, y + 1), noise)
    return strip, own


def judge(window: Window) -> kernels.ColumnHistory:
    """Return what became of the values of the pixel; the pixels beside it matter for ``grow``."""
    found = _pixel(window, *window.at)
    return _grown(found, window) if window.recipe.rejection.grow else found


def _pixel(window: Window, row: int, column: int) -> kernels.ColumnHistory:
    raw, terms = window.cut(row, column)
    return kernels.pixel_history(
        raw,
        terms,
        window.recipe,
        window.floor,
        window.rank,
        noise=window.noise_at(row, column),
        row=_row_statistic(window, row),
    )


def _row_statistic(window: Window, row: int) -> float:
    rejection = window.recipe.rejection
    if not kernels.RULES[rejection.rule].rows:
        return 0.0
    values = kernels.calibrate_block(window.raw, window.terms, window.recipe.dtype)[:, row]
    return kernels.row_statistic(values, rejection, window.floor)


def _grown(found: kernels.ColumnHistory, window: Window) -> kernels.ColumnHistory:
    """Also reject values within ``grow`` pixels of one that the rule rejected in the same frame.

    They have the side of the nearest one, high where two are equally near, and no pass. Where
    fewer than ``nkeep`` would be left, all stay that the rule had kept.
    """
    rejection = window.recipe.rejection
    sides = _nearest_sides(window, float(rejection.grow or 0))
    grown = (sides != KEPT) & (found.codes == KEPT)
    if ((found.codes == KEPT) & ~grown).sum() < (rejection.nkeep or 0):
        return found
    return replace(found, codes=np.where(grown, sides, found.codes).astype(np.int8))


def _nearest_sides(window: Window, radius: float) -> NDArray[np.int8]:
    """Return, for each frame, the code of the nearest rejected value within a radius, or KEPT."""
    (y, x), reach = window.at, int(radius)
    rows, columns = window.raw.shape[1:]
    square = np.full(len(window.raw), np.inf)
    sides = np.full(len(window.raw), KEPT, np.int8)
    for row in range(max(0, y - reach), min(rows, y + reach + 1)):
        for column in range(max(0, x - reach), min(columns, x + reach + 1)):
            apart = (row - y) ** 2 + (column - x) ** 2
            if not 0 < apart <= radius**2:
                continue
            codes = _pixel(window, row, column).codes
            nearer = (codes == LOW) & (apart < square) | (codes == HIGH) & (apart <= square)
            square[nearer], sides[nearer] = apart, codes[nearer]
    return sides
