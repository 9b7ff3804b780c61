"""Combine a list of files into one master, without a plan or a configuration."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from masterframe import cell, fits, jobs, scaling, scratchfolder, store, unpacking
from masterframe.errors import FrameError, UsageError
from masterframe.fits import extensions, masters, partfile, tables
from masterframe.framestack import (
    FLOAT_COORDINATES,
    TEXT_COORDINATES,
    FrameStack,
    first_value,
    observation_time,
    to_number,
)
from masterframe.kernels.small import few_frames
from masterframe.model import (
    Adjustment,
    Calibration,
    Frame,
    Header,
    Image,
    MasterImage,
    Recipe,
)
from masterframe.request import Request

SHOWN = 5
"""Images, kinds or filters that a note names; more are left unsaid."""


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
    partfile.check_target(Path(request.output), overwrite=request.overwrite)
    scans = fits.scan_each(request.files, request.verify)
    chosen = extensions.choose_alike(scans, request.hdu)
    shots = [shot for found in zip(scans, chosen, strict=True) for shot in _shots(*found)]
    columns = {name: tuple(shot.images[name] for shot in shots) for name in shots[0].images}
    masters.check_names(request.output, list(columns))
    images = [_image_job(name, images, request, len(columns)) for name, images in columns.items()]
    sources = [shot.source for shot in shots]
    with ExitStack() as stack:
        if any(map(unpacking.is_compressed, images)):
            folder = stack.enter_context(scratchfolder.open_folder(request.output.parent))
            resources = replace(resources, scratch=folder)
        job = master_job(request.output, images, sources, request.overwrite)
        job = replace(adjust_job(job, request.adjust, resources), verify=request.verify != "never")
        made = make(job, resources)
    for line in (
        *_passed_over(scans[0], chosen[0], request.hdu),
        *_unlike(sources),
        *_twins(shots, made.path),
    ):
        resources.reporter.note(line)
    return made


class _Shot(NamedTuple):
    """What is combined of one exposure: a file, or one plane of its cubes."""

    source: jobs.Input
    """How it is named, and what its header says."""
    images: dict[str, Image]
    """Its images by name."""


def _shots(scan: fits.FileScan, chosen: extensions.Images) -> Iterator[_Shot]:
    """Yield the exposures of a file.

    Raises
    ------
    FrameError
        If its images are cubes of different numbers of planes.
    """
    primary = scan.hdus[0].header
    headers = {name: {**primary, **hdu.header} for name, hdu in chosen.items()}
    (name, first), *others = chosen.items()
    for other, hdu in others:
        if len(hdu.frames) != len(first.frames):
            raise FrameError(
                scan.path,
                f"{name} has {len(first.frames)} planes, {other} {len(hdu.frames)}: name those "
                "that belong together by --hdu",
            )
    for index, frame in enumerate(first.frames):
        images = {own: Image(hdu.frames[index], headers[own]) for own, hdu in chosen.items()}
        source = describe(frame, headers[name])
        yield _Shot(replace(source, header=primary) if others else source, images)


def _image_job(name: str, images: tuple[Image, ...], request: Request, count: int) -> jobs.ImageJob:
    """Return one of so many images of a request, with all that is looked up for it."""
    frames = tuple(image.frame for image in images)
    FrameStack(frames)  # refuses unequal shapes
    noise = replace(
        request.recipe.noise,
        gain=_look_up("gain", request.gain, images),
        read_noise=_look_up("read_noise", request.read_noise, images),
    )
    recipe = replace(request.recipe, noise=noise)
    uncertainties = _uncertainties(recipe, frames)
    cell.check_known(recipe, uncertainties=bool(uncertainties))
    return jobs.ImageJob(
        "" if count == 1 else name,
        images,
        recipe,
        _calibration(request, frames[0], count),
        uncertainties=uncertainties,
    )


def _uncertainties(recipe: Recipe, frames: Sequence[Frame]) -> tuple[Frame, ...]:
    """Find the uncertainties that the inputs hold, where the recipe judges or weighs by them.

    Raises
    ------
    FrameError
        If some inputs have them and others have not.
    """
    wanted = recipe.rejection.rule == "varclip" or recipe.weighting == "variance"
    if not wanted and "propagated" not in recipe.planes:
        return ()
    found = [masters.find_uncertainty(frame) for frame in frames]
    for frame, uncertainty in zip(frames, found, strict=True):
        if uncertainty is None and any(found):
            raise FrameError(
                frame.path, "it holds no uncertainties (UNCERT), others do: leave it out"
            )
        if uncertainty is not None and uncertainty.shape != frame.shape:
            raise FrameError(frame.path, "its uncertainties have another shape than its image")
    return tuple(uncertainty for uncertainty in found if uncertainty is not None)


def _passed_over(
    scan: fits.FileScan, chosen: extensions.Images, wanted: str | None
) -> Iterator[str]:
    """Yield a line on the images of the files that nobody chose, where nobody was asked."""
    others = [name for name in extensions.all_images(scan) if name not in chosen]
    if wanted is None and others:
        shown = ", ".join(others[:SHOWN]) + (", ..." if len(others) > SHOWN else "")
        yield f"not combined, as they look like no images of the sky: {shown} (--hdu takes them)"


def _unlike(sources: Sequence[jobs.Input]) -> Iterator[str]:
    """Yield a line for kind and filter where the headers of the inputs differ in it."""
    for name, column in (("kind", "imagetyp"), ("filter", "filter")):
        keys = TEXT_COORDINATES[column]
        held = Counter(str(first_value(item.header, keys) or "none") for item in sources)
        if len(held) > 1:
            shown = ", ".join(f"{count} of {value}" for value, count in held.most_common(SHOWN))
            more = ", ..." if len(held) > SHOWN else ""
            yield f"frames of more than one {name} are combined: {shown}{more}"


def _twins(shots: Sequence[_Shot], output: Path) -> Iterator[str]:
    """Yield a line for every input that holds header and data of another one."""
    shown = {(shot.source.path, shot.source.plane): shot for shot in shots}
    rows = tables.read_inputs(output)
    first: dict[tuple[object, str], str] = {}
    for own in (rows[index :: len(shots)] for index in range(len(shots))):  # a row an image
        shot = shown[own[0].path, own[0].plane]
        cards = repr([sorted(image.header.items()) for image in shot.images.values()])
        held = tuple((row.extension, row.datasum) for row in own), cards
        if held in first:
            yield f"{_place(shot.source)} counts twice: header and data are those of {first[held]}"
        first.setdefault(held, _place(shot.source))


def _place(source: jobs.Input) -> str:
    return source.path + (f", plane {source.plane}" if source.plane else "")


def master_job(
    path: Path, images: Sequence[jobs.ImageJob], inputs: Sequence[jobs.Input], overwrite: bool
) -> jobs.MasterJob:
    """Return the job of some images, in the order in which the first input holds them."""
    rank = jobs.canonical_rank(inputs, images[0].images)
    first = rank.index(0)
    return jobs.MasterJob(
        path=path,
        images=tuple(sorted(images, key=lambda image: image.images[first].frame.hdu)),
        inputs=tuple(inputs),
        rank=rank,
        unit=str(images[0].images[first].header.get("BUNIT") or "adu"),
        overwrite=overwrite,
    )


def adjust_job(
    job: jobs.MasterJob, adjust: Adjustment, resources: store.Resources
) -> jobs.MasterJob:
    """Return a job whose frames are scaled, shifted and weighed as was asked for, by image."""
    if adjust == Adjustment():
        return job
    if scaling.statistics_of(adjust) and any(image.changed is not None for image in job.images):
        raise UsageError("frames whose values were changed are not measured: give numbers")
    reference = job.rank.index(0)
    facts = store.frame_facts(job.images, job.inputs, adjust, resources)
    images = [
        jobs.adjusted(image, adjust, own, reference)
        for image, own in zip(job.images, facts, strict=True)
    ]
    return replace(
        job,
        images=tuple(images),
        unit="" if adjust.scale == "level" else job.unit,
        adjust=adjust,
    )


def make(job: jobs.MasterJob, resources: store.Resources) -> store.Made:
    """Make the master of a job, and say first what an observer should know."""
    lines = [warnings(image.recipe, len(image.images)) for image in job.images]
    for line in dict.fromkeys(line for own in lines for line in own):
        resources.reporter.note(line)
    return store.make_master(job, resources)


def warnings(recipe: Recipe, n_frames: int) -> list[str]:
    """Return what an observer should know before so many frames are combined by a recipe."""
    known = bool(recipe.noise.gain and recipe.noise.read_noise is not None)
    return few_frames(recipe.rejection, n_frames, floor=recipe.noise.floor, known=known)


def describe(frame: Frame, header: Header) -> jobs.Input:
    """Return how tables and header name a frame, from what its header says."""
    number = to_number(first_value(header, FLOAT_COORDINATES["exptime"]))
    moment = observation_time(header)
    return jobs.Input(
        path=frame.path,
        header=header,
        exptime=None if math.isnan(number) else number,
        date_obs="" if np.isnat(moment) else str(moment.astype("datetime64[ms]")),
        plane=frame.plane,
    )


def _calibration(request: Request, first: Frame, count: int) -> Calibration:
    return Calibration(
        bias=_operand("--subtract", request.subtract, first, count),
        flat=_operand("--divide", request.divide, first, count),
        bad_pixels=_operand("--bad-pixels", request.bad_pixels, first, count),
    )


def _operand(option: str, path: str | None, like: Frame, count: int) -> MasterImage | None:
    """Find what is applied to one of so many images: the one of its name, or the only one."""
    if path is None:
        return None
    images = masters.open_master(path)
    if count == 1 == len(images):
        (image,) = images.values()
    elif len(images) == 1:
        raise UsageError(
            f"{option} {path} holds one image, the frames {count} each: give a file with an image "
            "for every extension, or choose one extension by --hdu"
        )
    elif like.name in images:
        image = images[like.name]
    else:
        raise UsageError(
            f"{option} {path} holds {len(images)} images ({', '.join(images)}), none of them "
            f"called {like.name} as that of {like.path}"
        )
    if image.data.shape != like.shape:
        extension = f" {like.name}" if len(images) > 1 else ""
        raise UsageError(
            f"{option} {path}{extension} is {image.data.shape[0]} x {image.data.shape[1]} (rows x "
            f"columns), {like.path} {like.shape[0]} x {like.shape[1]}: they must agree"
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
        values = {to_number(image.header.get(given.upper())) for image in images}
        if len(values) > 1 or any(math.isnan(value) for value in values):
            shown = ", ".join(str(image.header.get(given.upper())) for image in images[:3])
            raise UsageError(
                f"{_flag(name)} {given}: the frames do not agree on a number ({shown}, ...)"
            ) from None
        (number,) = values
    if not 0 < number < math.inf and not (name == "read_noise" and number == 0):
        raise UsageError(f"{_flag(name)} {given}: {number:g} is not positive")
    return number
