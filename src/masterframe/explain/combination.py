"""The history of one pixel of a combination.

The combination itself is run again for the pixel's row, and what it gives is compared with what the
passes count.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from masterframe import cell, combine, kernels
from masterframe import stack as stacks
from masterframe.explain.history import (
    FATES,
    HIGH,
    KEPT,
    LOW,
    MISSING,
    Pass,
    PixelFrame,
    PixelHistory,
    PixelValue,
    value_of,
)
from masterframe.explain.window import Known, Window, judge, open_window
from masterframe.model import Calibration, Recipe
from masterframe.readout import kept_columns

GROWN = "beside a rejected value of this frame"


def explain_stack(
    stack: xr.DataArray,
    x: int,
    y: int,
    recipe: Recipe | None = None,
    calibration: Calibration | None = None,
    *,
    facts: cell.FrameFacts | None = None,
    uncertainties: da.Array | None = None,
) -> PixelHistory:
    """Tell the history of one pixel of a combination.

    Parameters
    ----------
    stack : DataArray (frame, y, x)
        Raw values, as for `masterframe.combine_stack`; a few rows are read.
    x, y : int
        Column and row of the combined (trimmed) image: array indices, 0-based.
    recipe, calibration, facts, uncertainties
        As for `masterframe.combine_stack`.

    Returns
    -------
    PixelHistory
        Equal to what the combination gives, to the bit.

    Raises
    ------
    UsageError
        If the pixel is outside, or the rule or its options do not fit.
    """
    stack = stacks.arranged(stack)
    whole = calibration or Calibration()
    calibration = combine.fit_calibration(stack, whole)
    recipe = _resolved(recipe or Recipe(), stack)
    facts = facts or combine.facts_of(stack)
    window = open_window(stack, (x, y), recipe, calibration, (facts, uncertainties))
    column = judge(window)
    combined = _combined(stack, (x, y), recipe, whole, (facts, uncertainties))
    trim = calibration.trim
    held = stacks.places(stack, calibration)
    columns = kept_columns(calibration, stack.shape[2])
    return PixelHistory(
        x=x,
        y=y,
        raw_x=int(held["x"][x]) if held else int(columns[x]),
        raw_y=int(held["y"][y]) if held else y + (trim.y0 if trim else 0),
        unit=str(stack.attrs.get("units", "adu")),
        recipe=recipe,
        frames=_frames(stack, window, column, facts.weights),
        passes=_passes(column),
        combined=combined,
        problems=tuple(_disagreements(column, combined)),
    )


def _resolved(recipe: Recipe, stack: xr.DataArray) -> Recipe:
    """Return a recipe with the options of its rule and the quantisation step filled in."""
    step = recipe.noise.step or combine.measured_step(stack)
    return replace(
        recipe,
        rejection=kernels.resolve_rejection(recipe.rejection),
        noise=replace(recipe.noise, step=step),
    )


def _frames(
    stack: xr.DataArray,
    window: Window,
    column: kernels.ColumnHistory,
    weights: Sequence[float],
) -> tuple[PixelFrame, ...]:
    raw, terms = window.cut(*window.at)
    count = len(raw)
    per_frame = {
        "overscan": _each(terms.overscan if terms.overscan.size else terms.overscan_columns, count),
        **{name: _each(getattr(terms, name), count) for name in ("bias", "dark", "flat")},
        "dark_ratio": _each(terms.dark_ratio, count, 1.0),
        "scale": _each(terms.scale, count, 1.0),
        "zero": _each(terms.zero, count, 0.0),
    }
    names, dates, planes = _names(stack)
    return tuple(
        PixelFrame(
            path=names[k],
            date_obs=dates[k],
            raw=float(raw[k, 0, 0]),
            **{name: values[k] for name, values in per_frame.items()},
            value=float(column.values[k]),
            weight=weights[k] if weights else 1.0,
            fate=FATES[column.codes[k]],
            iteration=int(column.when[k]),
            reason=_reason(float(raw[k, 0, 0]), column, k, terms),
            plane=planes[k],
        )
        for k in range(count)
    )


def _each(term: NDArray[Any], count: int, absent: Any = None) -> list[Any]:
    """Return a term for each frame: its own, the one that all share, or what stands for none."""
    if not term.size:
        return [absent] * count
    return [float(value) for value in np.broadcast_to(term.reshape(-1), (count,))]


def _names(stack: xr.DataArray) -> tuple[list[str], list[str], list[int]]:
    """Return path, start and plane of each frame of a stack; its number where it has no path."""
    count = stack.shape[0]
    planes = [0] * count
    names = [f"frame {index}" for index in range(count)]
    dates = [""] * count
    if "path" in stack.coords:
        names = [str(path) for path in stack.coords["path"].values]
    if "time" in stack.coords:
        times = stack.coords["time"].values.astype("datetime64[ms]")
        dates = ["" if np.isnat(time) else str(time) for time in times]
    if "plane" in stack.coords:
        planes = stack.coords["plane"].values.tolist()
    return names, dates, planes


def _reason(raw: float, column: kernels.ColumnHistory, k: int, terms: kernels.LoadTerms) -> str:
    """Return why a value is missing, or was rejected by no pass."""
    code = column.codes[k]
    if code == KEPT or column.when[k]:
        return ""
    if code == MISSING and not math.isfinite(column.values[k]):
        return "not finite as stored" if not math.isfinite(raw) else "not finite when calibrated"
    if code == MISSING:
        return (
            f"saturated: {terms.saturation:g} or more" if raw >= terms.saturation else "bad pixel"
        )
    if raw < terms.raw_low:
        return f"below the threshold {terms.raw_low:g}"
    return f"above the threshold {terms.raw_high:g}" if raw > terms.raw_high else GROWN


def _passes(column: kernels.ColumnHistory) -> tuple[Pass, ...]:
    return tuple(
        Pass(
            *numbers,
            low=int(((column.when == number) & (column.codes == LOW)).sum()),
            high=int(((column.when == number) & (column.codes == HIGH)).sum()),
        )
        for number, numbers in enumerate(column.passes, start=1)
    )


def _combined(
    stack: xr.DataArray,
    pixel: tuple[int, int],
    recipe: Recipe,
    calibration: Calibration,
    known: Known,
) -> PixelValue:
    """Combine the band that holds the pixel, as a master is."""
    whole = replace(recipe, planes=("rejlow", "rejhigh"))
    facts, uncertainties = known
    planes = combine.combine_stack(
        stack, whole, calibration, facts=facts, uncertainties=uncertainties
    ).dataset
    x, y = pixel
    band = planes.isel(y=slice(y, y + 1), x=slice(x, x + 1)).compute()
    return value_of({name: band[name].values[0, 0] for name in planes})


def _disagreements(column: kernels.ColumnHistory, combined: PixelValue) -> list[str]:
    """Return where the history is not what the combination counts, which would be an error here."""
    counts = {"count": KEPT, "rejlow": LOW, "rejhigh": HIGH}
    told = {name: int((column.codes == code).sum()) for name, code in counts.items()}
    return [
        f"the history has {name} {number}, the combination {getattr(combined, name)}: please report"
        for name, number in told.items()
        if number != getattr(combined, name)
    ]
