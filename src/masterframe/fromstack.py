"""Combine a stack that a program holds into a master file."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import xarray as xr

from masterframe import combine, direct, fits, jobs, store
from masterframe import stack as stacks
from masterframe.errors import UsageError
from masterframe.model import Adjustment, Calibration, Image, Recipe


def write_master(
    path: str | os.PathLike[str],
    stack: xr.DataArray,
    recipe: Recipe | None = None,
    calibration: Calibration | None = None,
    *,
    adjust: Adjustment | None = None,
    overwrite: bool = False,
    resources: store.Resources | None = None,
) -> store.Made:
    """Combine a stack into a master file.

    Parameters
    ----------
    path : path
        The file that is made; whole or absent.
    stack : DataArray (frame, y, x)
        From `masterframe.open_stack`, or what became of it: chosen frames, changed values. Its
        coordinates ``path`` and ``hdu`` name the files for the header and tables; its ``step``,
        where it was calibrated, is that of the raw values.
    recipe : Recipe, optional
        How; by default values beyond 5 sigma of the median are left out, the rest averaged.
    calibration : Calibration, optional
        What is taken from the values first.
    adjust : Adjustment, optional
        How frames are brought to one level first, and their weights in the weighted mean.
    overwrite : bool
        Replace a file that is there.
    resources : store.Resources, optional
        Where it runs; by default on the Dask client that is active, else on threads.

    Returns
    -------
    store.Made
        What came out.

    Raises
    ------
    UsageError
        If the stack does not tell its files, or is cut along y or x; if frames whose values were
        changed are to be measured.
    FrameError
        If a file is no usable image any more.
    StorageError
        If the output cannot be written.

    Examples
    --------
    >>> import masterframe as mf
    >>> made = mf.write_master("master_bias.fits", mf.open_stack("night/bias_*.fits"))
    >>> made.n_frames, made.path.name
    (5, 'master_bias.fits')
    """
    stack = stacks.arranged(stack)
    images = _images_of(stack)
    frames = [image.frame for image in images]
    if stack.shape[1:] != frames[0].shape:
        raise UsageError(
            f"the stack is {stack.shape[1]} x {stack.shape[2]} (rows x columns), its files "
            f"{frames[0].shape[0]} x {frames[0].shape[1]}: give the whole one, and a calibration "
            "that trims"
        )
    values = stack.data
    as_stored = (
        values.name == stacks.lazy_array(frames, values.chunks[1][0], values.chunks[2][0]).name
    )
    recipe = recipe or Recipe()
    image = jobs.ImageJob(
        "",
        images,
        recipe if as_stored else _with_step(recipe, stack),
        calibration or Calibration(),
        changed=None if as_stored else combine.LazyValues(values),
    )
    inputs = [direct.describe(item.frame, item.header) for item in images]
    with store.use_resources(resources) as used:
        job = direct.master_job(Path(path).absolute(), [image], inputs, overwrite)
        return direct.make(direct.adjust_job(job, adjust or Adjustment(), used), used)


def _with_step(recipe: Recipe, stack: xr.DataArray) -> Recipe:
    """Return a recipe with the step of values that are not those of the files, in their unit."""
    if recipe.noise.step:
        return recipe
    step = combine.measured_step(stack) * float(np.median(combine.stack_scale(stack) or 1))
    return replace(recipe, noise=replace(recipe.noise, step=step))


def _images_of(stack: xr.DataArray) -> tuple[Image, ...]:
    sources = stacks.sources_of(stack)
    if not sources:
        raise UsageError("the stack has no coordinates path and hdu, as open_stack gives them")
    scans = {path: fits.scan_file(path) for path in dict.fromkeys(path for path, *_ in sources)}
    found = []
    for path, hdu, plane in sources:
        frame = stacks.frame_at(scans[path], hdu, plane)
        hdus = scans[path].hdus
        found.append(Image(frame, {**hdus[0].header, **hdus[frame.hdu].header}))
    return tuple(found)
