"""What is known of the frames of a stack besides their pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import xarray as xr

from masterframe import stack as stacks
from masterframe.cell.facts import FrameFacts


def facts_of(stack: xr.DataArray) -> FrameFacts:
    """Return what the coordinates of a stack say of its frames."""
    times = stacks.on_frames(stack, "exptime")
    known = times is not None and np.isfinite(times).all()
    return FrameFacts(
        rank=tuple(canonical_rank(stack)),
        exptimes=tuple(map(float, times)) if times is not None and known else (),
    )


def canonical_rank(stack: xr.DataArray) -> list[int]:
    """Return each frame's place by time, name and plane, whatever the order given."""
    count = stack.shape[0]
    times, found = stacks.on_frames(stack, "time"), stacks.on_frames(stack, "path")
    if times is None or found is None:
        return list(range(count))
    paths = [str(path) for path in found]
    planes = stacks.on_frames(stack, "plane")
    planes = np.zeros(count, int) if planes is None else planes
    keys = [
        (time.view("i8"), Path(path).name, path, plane)
        for time, path, plane in zip(times, paths, planes, strict=True)
    ]
    order = sorted(range(count), key=keys.__getitem__)
    rank = [0] * count
    for place, index in enumerate(order):
        rank[index] = place
    return rank


def stack_scale(stack: xr.DataArray) -> tuple[float, ...]:
    """Return by what a stack was scaled frame by frame as it was calibrated; empty for 1."""
    scale = stacks.on_frames(stack, "scale")
    return () if scale is None else tuple(map(float, scale))
