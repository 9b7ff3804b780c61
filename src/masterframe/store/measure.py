"""Numbers of single frames, found before they are combined."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain, islice
from typing import Any
from uuid import uuid4

from masterframe import cluster, jobs, levels, scaling
from masterframe.model import Adjustment, Section
from masterframe.quality.sketch import Sketch, runs_of, sketch_frames
from masterframe.store.copies import unpack
from masterframe.store.resources import Resources
from masterframe.store.tasks import run_in_order
from masterframe.tiling import sample_rows

TOGETHER = 8
"""Frames of an image that a task measures at most, ..."""
TASKS_EACH = 2
"""... where each worker has so many tasks: the last ones end at about the same time."""
SAMPLED = 48
"""Bytes a pixel of a sample while it is measured."""


def measure_images(
    images: Sequence[jobs.ImageJob],
    wanted: Sequence[str],
    resources: Resources,
    section: Section | None = None,
) -> list[list[dict[str, float]]]:
    """Measure every frame of some images, in ``mf-measure`` tasks.

    Parameters
    ----------
    images : sequence of ImageJob
        The frames, how they are calibrated, and which raw values are left out.
    wanted : sequence of str
        Of median, mean, mode, noise (`masterframe.levels`).
    resources : Resources
        Where it runs.
    section : Section, optional
        Part of the trimmed image that is measured.

    Returns
    -------
    list of list of dict
        The numbers of each frame of each image (adu, calibrated); NaN where too few pixels are
        good.
    """
    measure = partial(levels.measure_frames, wanted=tuple(wanted), section=section)
    return _measured(measure, images, resources)


def sketch_images(
    images: Sequence[jobs.ImageJob], resources: Resources, *, far: bool
) -> list[list[Sketch]]:
    """Sketch every frame of some images, in ``mf-measure`` tasks.

    Parameters
    ----------
    images : sequence of ImageJob
        The frames, as many of each image, how they are calibrated, and which raw values are left
        out.
    resources : Resources
        Where it runs.
    far : bool
        Cut values that are far from the level.
    """
    runs = runs_of(len(images[0].images))
    return _measured(partial(sketch_frames, far=far, runs=runs), images, resources)


def _measured(
    measure: Callable[..., Any], images: Sequence[jobs.ImageJob], resources: Resources
) -> list[list[Any]]:
    """Call a function with some frames of an image and their calibration, until all are done."""
    images, workers = unpack(images, resources, [None] * len(images)), resources.runner.workers
    total = sum(len(image.images) for image in images)
    together = max(1, min(TOGETHER, total // (TASKS_EACH * workers)))
    shapes = [image.images[0].frame.shape for image in images]
    each = max(len(sample_rows(height)) * width for height, width in shapes) * SAMPLED
    free = (resources.memory - cluster.resident_bytes()) // resources.lanes
    fitting = max(1, free // each)
    results = chain.from_iterable(
        run_in_order(_tasks(measure, images, together), resources.runner, min(fitting, 2 * workers))
    )
    return [list(islice(results, len(image.images))) for image in images]


def _tasks(
    measure: Callable[..., Any], images: Sequence[jobs.ImageJob], together: int
) -> Iterator[cluster.Call]:
    """Yield tasks of so many frames: the fewer, the less often masters are read."""
    token = uuid4().hex
    for index, image in enumerate(images):
        frames = [one.frame for one in image.images]
        for first in range(0, len(frames), together):
            last = first + together
            yield cluster.Call(
                f"mf-measure-{token}-{index}-{first}",
                partial(
                    measure,
                    frames[first:last],
                    image.calibration.of_frames(first, last),
                    image.recipe,
                ),
            )


def frame_facts(
    images: Sequence[jobs.ImageJob],
    inputs: Sequence[jobs.Input],
    adjust: Adjustment,
    resources: Resources,
) -> list[list[scaling.FrameFacts]]:
    """Return what the frames of each image are adjusted by: headers, and what is measured."""
    wanted = scaling.statistics_of(adjust)
    measured: list[list[dict[str, float]]] = [[{} for _ in inputs] for _ in images]
    if wanted:
        measured = measure_images(images, wanted, resources, adjust.section)
    return [
        [
            scaling.FrameFacts(item.path, one.header, item.exptime, numbers)
            for item, one, numbers in zip(inputs, image.images, own, strict=True)
        ]
        for image, own in zip(images, measured, strict=True)
    ]
