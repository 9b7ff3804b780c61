"""The history of one pixel of a master, from the files that it was made of."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path

import dask.array as da
import numpy as np
import xarray as xr

from masterframe import cell, fits
from masterframe import stack as stacks
from masterframe.explain.combination import explain_stack
from masterframe.explain.history import PixelHistory, PixelValue, value_of
from masterframe.fits.records import ImageRecord
from masterframe.framestack import observation_time
from masterframe.model import Frame, MaskBit
from masterframe.provenance import Provenance, open_provenance


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
    return value_of({name: fits.read_rows(frame, y, y + 1)[0, x] for name, frame in planes.items()})


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
