"""Combine a list of files into one master, without a plan or a configuration."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import xarray as xr

from masterframe import combine, fits, jobs, kernels, scaling, store
from masterframe import stack as stacks
from masterframe.errors import FrameError, UsageError
from masterframe.fits import masters, tables
from masterframe.model import (
    Adjustment,
    Calibration,
    Frame,
    Image,
    MasterImage,
    Recipe,
)
from masterframe.request import Request


def combine_files(request: Request, resources: store.Resources) -> store.Made:
    """Combine the files of a request into its master.

    Parameters
    ----------
    request : Request
        What is combined, and how.
    resources : store.Resources
        Where it runs, and in how much memory.

    Returns
    -------
    store.Made
        What came out.

    Raises
    ------
    FrameError
        If an input is no usable image, or does not fit the others.
    UsageError
        If an image or a keyword that was named is not there.
    StorageError
        If the output cannot be written.
    """
    scans = [fits.scan_file(path) for path in request.files]
    chosen = [stacks.choose_image(scan, request.hdu) for scan in scans]
    images = tuple(
        Image(stacks.frame_of(item), {**scan.hdus[0].header, **item.header})
        for scan, item in zip(scans, chosen, strict=True)
    )
    stacks.FrameStack(tuple(image.frame for image in images))  # refuses unequal shapes
    noise = replace(
        request.recipe.noise,
        gain=_look_up("gain", request.gain, images),
        read_noise=_look_up("read_noise", request.read_noise, images),
    )
    recipe = replace(request.recipe, noise=noise)
    uncertainties = _uncertainties(recipe, images)
    combine.check_known(recipe, uncertainties=bool(uncertainties))
    image = jobs.ImageJob(
        "",
        images,
        recipe,
        _calibration(request, images[0]),
        uncertainties=uncertainties,
    )
    job = _adjust(_job(request.output, image, request.overwrite), request.adjust, resources)
    made = _make(job, resources)
    for line in _twins(images, made.path):
        resources.reporter.note(line)
    return made


def _uncertainties(recipe: Recipe, images: Sequence[Image]) -> tuple[Frame, ...]:
    """Find the uncertainties that the inputs hold, where the recipe judges or weighs by them.

    Raises
    ------
    FrameError
        If some inputs have them and others have not.
    """
    wanted = recipe.rejection.rule == "varclip" or recipe.weighting == "variance"
    if not wanted and "propagated" not in recipe.planes:
        return ()
    frames = [image.frame for image in images]
    found = [
        masters.find_uncertainty(frame.path, frame.extname if frame.hdu else "") for frame in frames
    ]
    for frame, uncertainty in zip(frames, found, strict=True):
        if uncertainty is None and any(found):
            raise FrameError(
                frame.path, "it holds no uncertainties (UNCERT), others do: leave it out"
            )
        if uncertainty is not None and uncertainty.shape != frame.shape:
            raise FrameError(frame.path, "its uncertainties have another shape than its image")
    return tuple(uncertainty for uncertainty in found if uncertainty is not None)


def _twins(images: Sequence[Image], output: Path) -> Iterator[str]:
    """Yield a line for every input that holds header and data of another one."""
    cards = {image.frame.path: repr(sorted(image.header.items())) for image in images}
    first: dict[tuple[int | None, str], str] = {}
    for row in tables.read_inputs(output):
        key = row.datasum, cards[row.path]
        if key in first:
            yield f"{row.path} counts twice: header and data are those of {first[key]}"
        first.setdefault(key, row.path)


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
        changed=None if as_stored else values,
    )
    with store.use_resources(resources) as used:
        job = _job(Path(path).absolute(), image, overwrite)
        return _make(_adjust(job, adjust or Adjustment(), used), used)


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
    found = []
    for path, hdu in sources:
        scan = fits.scan_file(path)
        item = stacks.choose_image(scan, hdu)
        found.append(Image(stacks.frame_of(item), {**scan.hdus[0].header, **item.header}))
    return tuple(found)


def _job(path: Path, image: jobs.ImageJob, overwrite: bool) -> jobs.MasterJob:
    inputs = tuple(_describe(item) for item in image.images)
    return jobs.MasterJob(
        path=path,
        images=(image,),
        inputs=inputs,
        rank=jobs.canonical_rank(inputs, image.images),
        unit=str(image.images[0].header.get("BUNIT") or "adu"),
        overwrite=overwrite,
    )


def _adjust(job: jobs.MasterJob, adjust: Adjustment, resources: store.Resources) -> jobs.MasterJob:
    """Return a job whose frames are scaled, shifted and weighed as was asked for."""
    if adjust == Adjustment():
        return job
    (image,) = job.images
    if image.changed is not None and scaling.statistics_of(adjust):
        raise UsageError("frames whose values were changed are not measured: give numbers")
    reference = job.rank.index(0)
    facts = store.frame_facts(image, job.inputs, adjust, resources)
    return replace(
        job,
        images=(jobs.adjusted(image, adjust, facts, reference),),
        unit="" if adjust.scale == "level" else job.unit,
        adjust=adjust,
    )


def _make(job: jobs.MasterJob, resources: store.Resources) -> store.Made:
    (image,) = job.images
    for line in warnings(image.recipe, len(image.images)):
        resources.reporter.note(line)
    return store.make_master(job, resources)


def warnings(recipe: Recipe, n_frames: int) -> list[str]:
    """Return what an observer should know before so many frames are combined by a recipe."""
    known = recipe.noise.gain and recipe.noise.read_noise is not None
    lines = kernels.too_few(recipe.rejection, n_frames)
    if lines:
        return lines
    clips = recipe.rejection.rule == "sigma" and recipe.rejection.deviation in (None, "mad")
    if clips and n_frames < jobs.MIN_TRUSTED and not known:
        lines.append(
            f"{n_frames} frames give a rough MAD, and good values may be rejected: "
            "give --gain and --read-noise, or --reject none"
        )
    return lines


def _describe(image: Image) -> jobs.Input:
    exptime = stacks.first_value(image.header, stacks.FLOAT_COORDINATES["exptime"])
    number = stacks.to_number(exptime)
    moment = stacks.observation_time(image.header)
    return jobs.Input(
        path=image.frame.path,
        header=image.header,
        exptime=None if math.isnan(number) else number,
        date_obs="" if np.isnat(moment) else str(moment.astype("datetime64[ms]")),
    )


def _calibration(request: Request, first: Image) -> Calibration:
    return Calibration(
        bias=_operand("--subtract", request.subtract, first.frame),
        flat=_operand("--divide", request.divide, first.frame),
        bad_pixels=_operand("--bad-pixels", request.bad_pixels, first.frame),
    )


def _operand(option: str, path: str | None, like: Frame) -> MasterImage | None:
    if path is None:
        return None
    images = masters.open_master(path)
    if len(images) > 1:
        raise UsageError(
            f"{option} {path} holds {len(images)} images ({', '.join(images)}), not one"
        )
    (image,) = images.values()
    if image.data.shape != like.shape:
        raise UsageError(
            f"{option} {path} is {image.data.shape[0]} x {image.data.shape[1]} (rows x columns), "
            f"{like.path} {like.shape[0]} x {like.shape[1]}: they must agree"
        )
    return image


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _look_up(name: str, given: str | None, images: Sequence[Image]) -> float | None:
    """Return a number given as such, or as a keyword on whose value all frames agree."""
    if given is None:
        return None
    try:
        number = float(given)
    except ValueError:
        values = {stacks.to_number(image.header.get(given.upper())) for image in images}
        if len(values) > 1 or any(math.isnan(value) for value in values):
            shown = ", ".join(str(image.header.get(given.upper())) for image in images[:3])
            raise UsageError(
                f"{_flag(name)} {given}: the frames do not agree on a number ({shown}, ...)"
            ) from None
        (number,) = values
    if not 0 < number < math.inf and not (name == "read_noise" and number == 0):
        raise UsageError(f"{_flag(name)} {given}: {number:g} is not positive")
    return number
