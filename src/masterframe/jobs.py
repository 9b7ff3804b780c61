"""What a master is to be made of: every frame, every number, resolved.

A job is plain data. The command ``combine`` and the walk over a plan fill it; `masterframe.store`
carries it out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from masterframe import __version__, scaling
from masterframe.model import (
    ALGORITHM_VERSION,
    Adjustment,
    Calibration,
    Frame,
    Header,
    Image,
    MasterLimits,
    Recipe,
)


class Changed(Protocol):
    """Values (N, y, x) that a program made of those of the frames, not computed yet."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Their type."""

    def ordered(self, order: Sequence[int]) -> Changed:
        """Return them in another order of the frames."""

    def step(self, rows: int | tuple[int, ...]) -> Any:
        """Return the quantisation step, found in bands of so many rows, or a task that finds it."""

    def cells(
        self,
        recipe: Recipe,
        calibration: Calibration,
        facts: Any,
        uncertainties: Sequence[Frame],
        rows: int | tuple[int, ...],
    ) -> Iterator[Any]:
        """Yield the tasks that combine bands of so many rows."""


@dataclass(frozen=True)
class ImageJob:
    """One image of a master: its frames and how they are combined and finished."""

    name: str
    """EXTNAME of the image in the master; '' where it is the only one."""
    images: tuple[Image, ...]
    """The frames, one an input file."""
    recipe: Recipe
    """How they are combined."""
    calibration: Calibration
    """What is taken off first, and how the frames are scaled."""
    levels: tuple[float, ...] = ()
    """Level of each frame (adu), where it was measured."""
    weights: tuple[float, ...] = ()
    """Weight of each frame in the weighted mean; empty where all count alike."""
    uncertainties: tuple[Frame, ...] = ()
    """Where the standard deviations of the values are stored; empty where gain and read noise tell
    them, or nobody asks."""
    normalize: float | None = None
    """Divide the master by its median and mask what is below this."""
    cell: int = 1
    """Rows and columns of the cell of filters before the pixels: 2 of a Bayer sensor."""
    hot_sigma: float | None = None
    """Mark pixels this many robust sigmas above the median as hot."""
    pixel_noises: tuple[tuple[float, float], ...] = ()
    """Noise of one pixel of each frame beside its neighbours, and the mean of the pixels that told
    it (adu), where they were measured."""
    extra: Mapping[str, float] = field(default_factory=dict)
    """Numbers of the table QUALITY that were found before combining."""
    unlike: tuple[float, ...] = ()
    """How unlike the others each frame is, where they were compared: above 1 it fails a test."""
    changed: Changed | None = None
    """Values that stand for the stored ones of the frames."""


@dataclass(frozen=True)
class Input:
    """One input of a master, a file or a plane of its cube, as tables and header name it."""

    path: str
    """Absolute path."""
    header: Header
    """Its cards; those that all inputs share go into the master."""
    exptime: float | None = None
    """Exposure time (s)."""
    date_obs: str = ""
    """Start, ISO 8601 in UTC."""
    plane: int = 0
    """Plane of its cube, from 1; 0 where it holds none."""

    @property
    def name(self) -> str:
        """Name of the file, with the plane as IRAF writes it: ``dark.fits[*,*,3]``."""
        return Path(self.path).name + (f"[*,*,{self.plane}]" if self.plane else "")


@dataclass(frozen=True)
class LeftOut:
    """An input that was planned, measured, and found unfit."""

    source: Input
    """The file."""
    images: tuple[Image, ...]
    """Its images, one for each of the master's."""
    reason: str
    """Why it was left out."""
    levels: tuple[float, ...] = ()
    """Level of each image (adu), where it was measured."""
    unlike: tuple[float, ...] = ()
    """How unlike the others each image is, where they were compared."""


@dataclass(frozen=True)
class MasterJob:
    """A master file to be made."""

    path: Path
    """Where it goes."""
    images: tuple[ImageJob, ...]
    """Its images; all have one frame of each input, in the order of the inputs."""
    inputs: tuple[Input, ...]
    """The files that go in."""
    rank: tuple[int, ...]
    """Canonical place of each input."""
    kind: str = ""
    """bias, dark or flat; '' where it is not known."""
    unit: str = "adu"
    """Unit of its values; '' for a normalised flat."""
    temperature: float | None = None
    """Median temperature of the detector (degrees C), where it is known."""
    left_out: tuple[LeftOut, ...] = ()
    """Inputs that were found unfit on the way."""
    flags: tuple[str, ...] = ()
    """What is wrong with each input that is used nevertheless; '' where nothing is."""
    limits: MasterLimits = field(default_factory=MasterLimits)
    """What the master is tested against."""
    adjust: Adjustment = field(default_factory=Adjustment)
    """How the factors and weights of the images were found."""
    history: tuple[str, ...] = ()
    """Lines for HISTORY."""
    token: Callable[[Sequence[tuple[str, int]]], str] | None = None
    """Makes the product's token from the name and DATASUM of every input image."""
    overwrite: bool = False
    """Replace a file that is there."""
    part: Path | None = None
    """What holds the master until it is whole; None: a file beside it."""
    together: bool = False
    """A flat is divided by one level of all its images, so that their sensitivities compare."""
    verify: bool = True
    """Fail where the DATASUM of an input does not fit what was read."""


def fingerprint(job: MasterJob) -> str:
    """Return what decides the pixels of a master; '' where it cannot be told.

    Whoever finds the same has the same frames (path, size, time), masters, numbers and program, and
    can go on with the bands that another one has finished.
    """
    if any(image.changed is not None for image in job.images):
        return ""
    program = [__version__, ALGORITHM_VERSION, *map(metadata.version, ("numpy", "numba"))]
    parts: list[object] = [
        program,
        job.rank,
        [item.exptime for item in job.inputs],
        job.unit,
        job.kind,
        job.together,
    ]
    for image in job.images:
        alone = replace(image.calibration, overscan_frames=())  # they are those of the images
        frames = [item.frame for item in image.images]
        parts += [replace(image, images=(), calibration=alone), frames]
    return hashlib.sha256(repr(parts).encode(errors="surrogateescape")).hexdigest()


def canonical_rank(inputs: Sequence[Input], images: Sequence[Image]) -> tuple[int, ...]:
    """Return each input's place by date, name, size, header, path, plane, whatever the order."""
    keys = [
        (
            *(item.date_obs, Path(item.path).name, image.frame.size),
            *(str(sorted(item.header.items())), item.path, item.plane),
        )
        for item, image in zip(inputs, images, strict=True)
    ]
    places = {
        index: place for place, index in enumerate(sorted(range(len(keys)), key=keys.__getitem__))
    }
    return tuple(places[index] for index in range(len(keys)))


def adjusted(
    image: ImageJob, adjust: Adjustment, facts: Sequence[scaling.FrameFacts], reference: int
) -> ImageJob:
    """Return an image whose frames are scaled, shifted and weighed as is wanted.

    Parameters
    ----------
    image : ImageJob
        The image.
    adjust : Adjustment
        What is wanted.
    facts : sequence of FrameFacts
        What is known of each frame.
    reference : int
        The frame to whose level the others are brought: the first in canonical order.

    Raises
    ------
    FrameError
        If a factor is not fit to be used; it names the frame and the value.
    UsageError
        If there are not as many numbers as frames.
    """
    factors = scaling.factors_of(adjust, facts, reference)
    return replace(
        image,
        levels=factors.levels or image.levels,
        weights=factors.weights,
        calibration=replace(
            image.calibration,
            scale=factors.scale or image.calibration.scale,
            zero=factors.zero or image.calibration.zero,
        ),
    )


def in_canonical_order(job: MasterJob) -> MasterJob:
    """Return the same job with its inputs in canonical order, in which its tables list them."""
    order = sorted(range(len(job.inputs)), key=job.rank.__getitem__)
    if order == list(range(len(order))):
        return job

    def sort(values: Sequence[Any]) -> tuple[Any, ...]:
        return tuple(values[index] for index in order) if values else ()

    def sort_image(image: ImageJob) -> ImageJob:
        given = image.calibration
        return replace(
            image,
            images=sort(image.images),
            levels=sort(image.levels),
            pixel_noises=sort(image.pixel_noises),
            unlike=sort(image.unlike),
            weights=sort(image.weights),
            uncertainties=sort(image.uncertainties),
            calibration=replace(
                given,
                dark_ratio=sort(given.dark_ratio),
                overscan_terms=sort(given.overscan_terms),
                overscan_frames=sort(given.overscan_frames),
                scale=sort(given.scale),
                zero=sort(given.zero),
            ),
            changed=None if image.changed is None else image.changed.ordered(order),
        )

    return replace(
        job,
        images=tuple(sort_image(image) for image in job.images),
        inputs=sort(job.inputs),
        flags=sort(job.flags),
        rank=tuple(range(len(order))),
    )
