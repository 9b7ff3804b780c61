"""Numbers of single frames, found before they are combined."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any
from uuid import uuid4

from masterframe import cluster, jobs, levels, scaling
from masterframe.model import Adjustment, Section
from masterframe.quality.sketch import Sketch, runs_of, sketch_frame
from masterframe.store.copies import unpack
from masterframe.store.resources import Resources
from masterframe.store.tasks import run_in_order
from masterframe.tiling import sample_rows

SAMPLED = 48
"""Bytes a pixel of a sample while it is measured."""


def measure_frames(
    job: jobs.ImageJob,
    wanted: Sequence[str],
    resources: Resources,
    section: Section | None = None,
) -> list[dict[str, float]]:
    """Measure every frame of an image, one ``mf-measure`` task each.

    Parameters
    ----------
    job : ImageJob
        The frames, how they are calibrated, and which raw values are left out.
    wanted : sequence of str
        Of median, mean, mode, noise (`masterframe.levels`).
    resources : Resources
        Where it runs.
    section : Section, optional
        Part of the trimmed image that is measured.

    Returns
    -------
    list of dict
        The numbers of each frame (adu, calibrated); NaN where too few pixels are good.
    """
    return list(_measured(levels.measure_frame, job, (tuple(wanted), section), resources))


def sketch_frames(job: jobs.ImageJob, resources: Resources, *, far: bool) -> list[Sketch]:
    """Sketch every frame of an image, one ``mf-measure`` task each.

    Parameters
    ----------
    job : ImageJob
        The frames, how they are calibrated, and which raw values are left out.
    resources : Resources
        Where it runs.
    far : bool
        Cut values that are far from the level.
    """
    sketch = partial(sketch_frame, far=far, runs=runs_of(len(job.images)))
    return list(_measured(sketch, job, (), resources))


def _measured(
    measure: Callable[..., Any], job: jobs.ImageJob, options: tuple[Any, ...], resources: Resources
) -> Iterator[Any]:
    """Call a function with each frame and its calibration, without scale and zero."""
    (job,) = unpack([job], resources)
    frames = [image.frame for image in job.images]
    alone = [job.calibration.of_frame(index) for index in range(len(frames))]
    token = uuid4().hex
    tasks = (
        cluster.Call(
            f"mf-measure-{token}-{index}",
            partial(measure, frame, calibration, job.recipe, *options),
        )
        for index, (frame, calibration) in enumerate(zip(frames, alone, strict=True))
    )
    height, width = frames[0].shape
    each = len(sample_rows(height)) * width * SAMPLED
    free = (resources.memory - cluster.resident_bytes()) // resources.lanes
    fitting = max(1, free // each)
    return run_in_order(tasks, resources.runner, min(fitting, 2 * resources.runner.workers))


def frame_facts(
    job: jobs.ImageJob, inputs: Sequence[jobs.Input], adjust: Adjustment, resources: Resources
) -> list[scaling.FrameFacts]:
    """Return what the frames of an image are adjusted by: headers, and what has to be measured."""
    wanted = scaling.statistics_of(adjust)
    measured: list[dict[str, float]] = [{} for _ in inputs]
    if wanted:
        measured = measure_frames(job, wanted, resources, adjust.section)
    return [
        scaling.FrameFacts(item.path, image.header, item.exptime, numbers)
        for item, image, numbers in zip(inputs, job.images, measured, strict=True)
    ]
