"""The history of one pixel: what each frame gave, what was taken off, and what was rejected when.

Pixels are array indices, 0-based; only the command line counts from 1 as FITS does.

The combination itself is run again for the pixel's row, by the code that made the master, and what
it gives is compared with what the master holds; the passes are told by
`masterframe.kernels.pixel_history`, which runs the same compiled rule.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

import dask.array as da
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from masterframe import calibrate, cell, combine, fits, kernels, pixelplot
from masterframe import stack as stacks
from masterframe.errors import UsageError
from masterframe.fits.records import ImageRecord
from masterframe.framestack import observation_time
from masterframe.model import Calibration, Frame, MaskBit, Noise, Recipe
from masterframe.provenance import Provenance, open_provenance
from masterframe.readout import kept_columns

Fate = Literal["kept", "low", "high", "missing"]
FATES: tuple[Fate, ...] = ("kept", "low", "high", "missing")
"""What may become of a value, by the codes of `kernels.pixel_history`."""
KEPT, LOW, HIGH, MISSING = range(4)
GROWN = "beside a rejected value of this frame"


@dataclass(frozen=True, slots=True)
class PixelFrame:
    """What one frame gave to the pixel; None where a step was not done."""

    path: str
    """Its file."""
    date_obs: str
    """Start, ISO 8601 in UTC; '' where it is not known."""
    raw: float
    """Value as stored (adu)."""
    overscan: float | None
    """Level that was subtracted (adu)."""
    bias: float | None
    """Master bias that was subtracted (adu)."""
    dark: float | None
    """Master dark before its ratio (adu)."""
    dark_ratio: float
    """Factor of the dark."""
    flat: float | None
    """Flat that divided; 1 where it is masked."""
    scale: float
    """Factor that was applied."""
    zero: float
    """Summand that was applied (combined unit)."""
    value: float
    """Calibrated value (combined unit), whatever became of it."""
    weight: float
    """Weight of the frame."""
    fate: Fate
    """kept, rejected low or high, or missing."""
    iteration: int
    """Pass that rejected it, from 1; 0 where none did."""
    reason: str
    """Why it is missing, or was rejected other than by a pass; '' else."""
    state: str = ""
    """What was found of its file; '' for a stack."""
    plane: int = 0
    """Its plane, where the file holds a cube, from 1 as FITS counts; 0 where it holds none."""


@dataclass(frozen=True, slots=True)
class Pass:
    """One pass of the rejection: by what it judged, and what it rejected."""

    center: float
    """Centre of the bounds (combined unit); NaN for a rule without one."""
    deviation: float
    """Sigma, the noise floor included; NaN for a rule without one."""
    least: float
    """Least value that was kept."""
    most: float
    """Largest value that was kept."""
    low: int
    """Values that it rejected low."""
    high: int
    """Values that it rejected high."""


@dataclass(frozen=True, slots=True)
class PixelValue:
    """What the planes of a master hold at a pixel."""

    data: float
    """The value."""
    uncert: float
    """Its standard deviation."""
    mask: int
    """`MaskBit` of the pixel."""
    count: int
    """Values kept."""
    rejlow: int | None = None
    """Values rejected low; None where there is no such plane."""
    rejhigh: int | None = None
    """Values rejected high."""

    @property
    def mask_words(self) -> tuple[str, ...]:
        """The bits of the mask by name."""
        return tuple(str(bit.name) for bit in MaskBit if bit & self.mask)


@dataclass(frozen=True, slots=True)
class PixelHistory:
    """All that led to one pixel."""

    x: int
    """Column of the combined image, 0-based."""
    y: int
    """Row of the combined image, 0-based."""
    raw_x: int
    """Column of the raw frames, 0-based; another one where they were trimmed."""
    raw_y: int
    """Row of the raw frames, 0-based."""
    unit: str
    """Unit of the combined value; '' for a flat."""
    recipe: Recipe
    """How they are combined, with all defaults."""
    frames: tuple[PixelFrame, ...]
    """The frames in their order; of a master in canonical order."""
    passes: tuple[Pass, ...]
    """The passes of the rejection."""
    combined: PixelValue
    """What the combination gives."""
    path: str = ""
    """The master; '' for a stack."""
    extension: str = ""
    """Its image."""
    norm: float | None = None
    """Level by which the combined flat was divided."""
    expected: PixelValue | None = None
    """What the master should hold: normalised, hot and insensitive pixels marked."""
    stored: PixelValue | None = None
    """What the master holds."""
    left_out: tuple[tuple[str, str], ...] = ()
    """Inputs that were found unfit, and why."""
    notes: tuple[str, ...] = ()
    """What is worth knowing."""
    problems: tuple[str, ...] = ()
    """What does not fit together; empty where the history is that of what the master holds."""

    def plot(self) -> Any:
        """Return a matplotlib figure: values against time, bounds, what was kept and rejected."""
        return pixelplot.plot_history(self)


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
    window = _open_window(stack, (x, y), recipe, calibration, (facts, uncertainties))
    column = _judge(window)
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


def explain_master(
    path: str,
    x: int,
    y: int,
    image: str | None = None,
    folders: Sequence[Path] = (),
    *,
    verify: bool = False,
) -> PixelHistory:
    """Tell the history of one pixel of a master from the files that it was made of.

    Parameters
    ----------
    path : str
        The master.
    x, y : int
        Column and row: array indices, 0-based (a FITS pixel less 1).
    image, folders, verify
        As for `masterframe.provenance.open_provenance`.

    Returns
    -------
    PixelHistory
        Its `problems` are empty if nothing has changed and the master holds what its inputs give.

    Raises
    ------
    FrameError
        If the master does not say how it was made, or its inputs are not there.
    UsageError
        If the pixel or the image is not there.
    """
    origin = open_provenance(path, image, folders, verify=verify)
    told = explain_stack(
        _stack_of(origin),
        x,
        y,
        origin.record.recipe,
        origin.calibration,
        facts=_facts_of(origin),
        uncertainties=_uncertainties_of(origin),
    )
    expected, norm = _finished(told.combined, origin.record, origin.numbers, (x, y))
    stored = _stored(origin.planes, x, y)
    different = list(_differences(expected, stored))
    blame = "the master or its inputs were changed: they give another pixel than it holds"
    return replace(
        told,
        path=path,
        extension=origin.record.extension,
        frames=tuple(
            replace(frame, state=state)
            for frame, state in zip(told.frames, origin.states, strict=True)
        ),
        norm=norm,
        expected=expected,
        stored=stored,
        left_out=tuple((row.path, row.status) for row in origin.left_out),
        notes=origin.notes,
        problems=(*told.problems, *origin.problems, *different, *([blame] if different else [])),
    )


def _resolved(recipe: Recipe, stack: xr.DataArray) -> Recipe:
    """Return a recipe with the options of its rule and the quantisation step filled in."""
    step = recipe.noise.step or combine.measured_step(stack)
    return replace(
        recipe,
        rejection=kernels.resolve_rejection(recipe.rejection),
        noise=replace(recipe.noise, step=step),
    )


_Known = tuple[cell.FrameFacts, da.Array | None]
"""What is known of the frames, and the uncertainties of their values."""


@dataclass(frozen=True, slots=True)
class _Window:
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


def _open_window(
    stack: xr.DataArray,
    pixel: tuple[int, int],
    recipe: Recipe,
    calibration: Calibration,
    known: _Known,
) -> _Window:
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
    block = np.asarray(stack[:, top + first : top + last, :].values)
    scale = calibration.scale or combine.stack_scale(stack)
    above_bias = cell.is_above_bias(calibration) or bool(stack.attrs.get("above_bias"))
    facts, uncertainties = known
    sigma = np.empty((0, 0, 0))
    if uncertainties is not None:
        rows = np.asarray(uncertainties[:, top + first : top + last, :])
        rows = calibrate.trim_columns(rows, calibration)[:, :, strip]
        sigma = calibrate.scaled_uncertainty(rows, (first, strip), calibration)
    return _Window(
        raw=calibrate.trim_columns(block, calibration)[:, :, strip],
        terms=calibrate.load_terms(block, first, calibration, recipe, columns=strip),
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


def _judge(window: _Window) -> kernels.ColumnHistory:
    """Return what became of the values of the pixel; the pixels beside it matter for ``grow``."""
    found = _pixel(window, *window.at)
    return _grown(found, window) if window.recipe.rejection.grow else found


def _pixel(window: _Window, row: int, column: int) -> kernels.ColumnHistory:
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


def _row_statistic(window: _Window, row: int) -> float:
    rejection = window.recipe.rejection
    if not kernels.RULES[rejection.rule].rows:
        return 0.0
    values = kernels.calibrate_block(window.raw, window.terms, window.recipe.dtype)[:, row]
    return kernels.row_statistic(values, rejection, window.floor)


def _grown(found: kernels.ColumnHistory, window: _Window) -> kernels.ColumnHistory:
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


def _nearest_sides(window: _Window, radius: float) -> NDArray[np.int8]:
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


def _frames(
    stack: xr.DataArray,
    window: _Window,
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
    known: _Known,
) -> PixelValue:
    """Combine the band that holds the pixel, as a master is."""
    whole = replace(recipe, planes=("rejlow", "rejhigh"))
    facts, uncertainties = known
    planes = combine.combine_stack(
        stack, whole, calibration, facts=facts, uncertainties=uncertainties
    ).dataset
    x, y = pixel
    band = planes.isel(y=slice(y, y + 1), x=slice(x, x + 1)).compute()
    return _value({name: band[name].values[0, 0] for name in planes})


def _value(numbers: Mapping[Any, Any]) -> PixelValue:
    """Return numbers by plane in Python's types, which hold each of them exactly."""
    known = {field.name for field in fields(PixelValue)}
    return PixelValue(**{name: value.item() for name, value in numbers.items() if name in known})


def _disagreements(column: kernels.ColumnHistory, combined: PixelValue) -> list[str]:
    """Return where the history is not what the combination counts, which would be an error here."""
    counts = {"count": KEPT, "rejlow": LOW, "rejhigh": HIGH}
    told = {name: int((column.codes == code).sum()) for name, code in counts.items()}
    return [
        f"the history has {name} {number}, the combination {getattr(combined, name)}: please report"
        for name, number in told.items()
        if number != getattr(combined, name)
    ]


def _stack_of(origin: Provenance) -> xr.DataArray:
    """Return the inputs of a master as a stack in bands as small as can be."""
    reach = int(origin.record.recipe.rejection.grow or 0)
    times = [_moment(row.date_obs) for row in origin.rows]
    return xr.DataArray(
        stacks.lazy_array(origin.frames, max(1, reach)),
        dims=("frame", "y", "x"),
        coords={
            "path": ("frame", [row.path for row in origin.rows]),
            "plane": ("frame", [row.plane for row in origin.rows]),
            "time": ("frame", np.array(times, "datetime64[ns]")),
        },
        attrs={"bscale": origin.frames[0].step, "units": origin.unit},
    )


def _facts_of(origin: Provenance) -> cell.FrameFacts:
    weighted = origin.record.recipe.estimator == "weighted"
    by_frame = weighted and origin.record.recipe.weighting == "frames"
    return cell.FrameFacts(
        rank=tuple(range(len(origin.frames))),
        weights=tuple(row.weight for row in origin.rows) if by_frame else (),
    )


def _uncertainties_of(origin: Provenance) -> da.Array | None:
    return stacks.lazy_array(origin.uncertainties, 1) if origin.uncertainties else None


def _moment(text: str) -> np.datetime64:
    return observation_time({"DATE-OBS": text})


def _finished(
    combined: PixelValue,
    record: ImageRecord,
    numbers: Mapping[str, float],
    pixel: tuple[int, int],
) -> tuple[PixelValue, float | None]:
    """Return what a finished master holds for what was combined, and the norm of a flat."""
    values = np.array([combined.data, combined.uncert], record.recipe.dtype)
    mask, norm = combined.mask, None
    if record.normalize is not None:
        x, y = pixel
        norm = numbers.get(f"norm{y % 2}{x % 2}", numbers.get("norm", math.nan))
        values = (values / norm).astype(values.dtype) if norm > 0 else values
        if not (norm > 0 and values[0] >= record.normalize):
            mask |= MaskBit.FLAT_LOW
    if record.hot_sigma is not None and values[0] > numbers.get("hotlevel", math.inf):
        mask |= MaskBit.HOT
    data, uncert = values.tolist()
    return replace(combined, data=data, uncert=uncert, mask=int(mask)), norm


def _stored(planes: Mapping[str, Frame], x: int, y: int) -> PixelValue:
    return _value({name: fits.read_rows(frame, y, y + 1)[0, x] for name, frame in planes.items()})


def _differences(expected: PixelValue, stored: PixelValue) -> list[str]:
    """Return in what a master is not what its inputs give, a line a plane."""
    pairs = [
        (field.name, getattr(expected, field.name), getattr(stored, field.name))
        for field in fields(PixelValue)
    ]
    return [
        f"{name}: the inputs give {here!r}, the master holds {there!r}"
        for name, here, there in pairs
        if there is not None and not _same(here, there)
    ]


def _same(here: float, there: float) -> bool:
    return here == there or (math.isnan(here) and math.isnan(there))
