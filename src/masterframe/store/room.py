"""How the memory of a run is shared out: the cells of each image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from masterframe import cell, cluster, jobs, kernels, tiling
from masterframe.framestack import FrameStack, tile_rows
from masterframe.masterrows import applied
from masterframe.model import Calibration
from masterframe.store.resources import Resources

FLOAT = 8
"""Bytes of a float64."""
SCRATCH, SCRATCH_FRAME = 8 << 20, 1200
"""Working memory (bytes) of one kernel call: of any, and more for each frame."""
LOADED_LATER = 16 * 10**6
"""What is loaded after the memory is shared out (bytes): compiled code for masters, tables."""


@dataclass(frozen=True)
class Room:
    """The memory of a run, and what shares it."""

    memory: int
    """Resident memory that all processes together may reach, or one worker of a cluster (bytes)."""
    footprint: cluster.Footprint
    """What is held before a pixel is read, and how many tasks share the rest."""
    images: int = 1
    """Images of about one size that go into one file, one after the other."""
    lanes: int = 1
    """Files that are made at the same time: each may take such a part of what is not held."""


def room_of(images: Sequence[jobs.ImageJob], resources: Resources) -> Room:
    """Measure what a run has room for, once what it will run is compiled or loaded.

    To compile takes memory that is never given back: it must be there before it is shared out.
    """
    first = images[0]
    ready = partial(
        cell.rehearse,
        _values_of(first),
        first.recipe,
        calibrates=first.calibration != Calibration(bad_pixels=first.calibration.bad_pixels),
    )
    return Room(resources.memory, resources.runner.footprint(ready), len(images), resources.lanes)


def _values_of(job: jobs.ImageJob) -> np.dtype[Any]:
    """Return the type of the values that are combined."""
    if job.changed is not None:
        return job.changed.dtype
    return FrameStack(tuple(image.frame for image in job.images)).dtype


def plan_bands(job: jobs.ImageJob, n_masters: int, room: Room) -> tiling.Tiling:
    """Choose the bands of one image within the memory given.

    Parameters
    ----------
    job : ImageJob
        What is combined.
    n_masters : int
        Masters that calibrate it.
    room : Room
        The memory, and what shares it.

    Raises
    ------
    MemoryLimitError
        If not even one row of all frames fits, or a part of it where rows may be cut.
    """
    share = room.footprint
    reserved = share.held + LOADED_LATER
    return tiling.plan_bands(
        replace(_work_of(job, n_masters), images=room.images),
        memory=reserved + (room.memory - reserved) // room.lanes,
        reserved=reserved,
        workers=share.workers,
        copies=share.copies,
        divisible=share.divisible,
        grain=share.grain,
    )


def _work_of(job: jobs.ImageJob, n_masters: int) -> tiling.Work:
    """Return what combining an image costs, value by value."""
    recipe, calibration = job.recipe, job.calibration
    frames = [image.frame for image in job.images]
    count, (_, width) = len(frames), frames[0].shape
    values = _values_of(job)
    work = kernels.work_type(values, recipe.dtype)
    copied = 0 if values in (np.uint16, work) else work.itemsize
    itemsize = values.itemsize
    if job.uncertainties:
        itemsize += np.dtype(job.uncertainties[0].dtype).itemsize
        copied += 3 * FLOAT  # as float64, squared, and contiguous
    whole = cell.whole_rows(recipe, calibration)
    if job.changed is not None:
        whole = whole or "values that a program changed come in whole rows"
        itemsize *= 2  # what a graph of others' makes is not known: one copy on the way
    columns = sum(section.shape[1] for section in calibration.overscans)
    kept = 3 * FLOAT * columns if calibration.by_columns else 0  # of two images, and a band's own
    marks = count * width * (1 + 6 * math.floor(recipe.rejection.grow or 0))
    return tiling.Work(
        n_frames=count,
        shape=frames[0].shape,
        itemsize=itemsize,
        scratch_bytes=SCRATCH + count * (SCRATCH_FRAME + kept) + marks * bool(whole),
        master_bytes=n_masters * (2 * work.itemsize + 9),
        plane_bytes=sum(
            cell.plane_type(name, recipe).itemsize for name in cell.plane_names(recipe)
        ),
        frame_row_bytes=16 + (0 if calibration.by_columns else 2 * FLOAT * columns),
        copy_bytes=copied,
        whole=whole,
        tile_rows=tile_rows(frames),
    )


def plan_image(job: jobs.ImageJob, room: Room) -> tiling.Tiling:
    """Choose the bands of one image of a job."""
    return plan_bands(job, len(applied(job.calibration)), room)
