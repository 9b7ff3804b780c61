"""The one place that computes: runs the bands of a master in order, writes them, and publishes.

At most a bounded number of bands is on its way at any time, and their results are taken in the
order of their rows: memory is bounded, sums over rows do not depend on who was faster, and the disk
sees one contiguous write after the other.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import dask
import dask.array as da
import numpy as np
import xarray as xr
from dask.delayed import Delayed
from dask.optimization import cull

from masterframe import (
    calibrate,
    calibrated,
    cluster,
    combine,
    finish,
    jobs,
    levels,
    masterfile,
    scaling,
    stack,
)
from masterframe import tiling as bands
from masterframe.errors import MasterframeError, StorageError
from masterframe.fits import headers, masters, write
from masterframe.model import Adjustment, BandResult, Frame, Recipe, Section

LANES = 512
"""Pixels that the kernel sorts side by side."""


class Reporter(Protocol):
    """Is told how the work goes; the command line draws it, tests count it."""

    def begin(self, name: str, total_bytes: int) -> None:
        """Start a product that will read so many bytes."""

    def advance(self, done_bytes: int) -> None:
        """So many bytes more have been read and combined."""

    def note(self, text: str) -> None:
        """Something that the observer should know."""


class Silent:
    """A reporter that tells nobody."""

    def begin(self, name: str, total_bytes: int) -> None:
        """Say nothing."""

    def advance(self, done_bytes: int) -> None:
        """Say nothing."""

    def note(self, text: str) -> None:
        """Say nothing."""


@dataclass(frozen=True)
class Resources:
    """What a run may use."""

    runner: cluster.Runner
    """Where tasks run."""
    memory: int
    """Resident memory that the process may reach (bytes)."""
    reporter: Reporter = field(default_factory=Silent)
    """Who is told how the work goes."""


@dataclass(frozen=True)
class Made:
    """What came out of one job."""

    path: Path
    """The file."""
    n_frames: int
    """Frames that went in."""
    rejected: float
    """Fraction of all valid values that was rejected."""
    seconds: float
    """Wall time."""
    bytes_read: int
    """Bytes of pixels that were read."""
    numbers: dict[str, float]
    """Numbers of the QUALITY table by name; of several images, those of the first."""

    def as_dict(self) -> dict[str, Any]:
        """Return it in the types of JSON; numbers that are none become null."""
        finite = {k: v if math.isfinite(v) else None for k, v in self.numbers.items()}
        return {**asdict(self), "path": str(self.path), "numbers": finite}

    def summary(self) -> str:
        """Return one line for people."""
        numbers = ", ".join(f"{name} {self.numbers[name]:.6g}" for name in ("median", "noise"))
        return (
            f"{self.path}: {self.n_frames} frames, {numbers}, {self.rejected:.3%} rejected, "
            f"{bands.format_bytes(self.bytes_read)} in {self.seconds:.2f} s"
        )


@contextmanager
def open_resources(
    scheduler: str = "threads",
    *,
    workers: int | None = None,
    memory: int | None = None,
    dashboard: bool = False,
    reporter: Reporter | None = None,
) -> Iterator[Resources]:
    """Open what a run works with; the arguments are those of `cluster.open_runner`."""
    limit = memory or cluster.default_memory()
    with cluster.open_runner(
        scheduler, workers=workers, memory=limit, dashboard=dashboard
    ) as runner:
        yield Resources(runner, limit, reporter or Silent())


@contextmanager
def use_resources(given: Resources | None = None) -> Iterator[Resources]:
    """Use what is given, else the Dask client that is active, else threads."""
    runner = None if given else cluster.active_runner()
    if given:
        yield given
    elif runner:
        yield Resources(runner, cluster.default_memory())
    else:
        with open_resources() as resources:
            yield resources


def run_in_order(tasks: Iterable[Any], runner: cluster.Runner) -> Iterator[Any]:
    """Run Dask tasks, a bounded number at a time, and yield their results in order.

    If a result raises, or the caller stops, what has begun is left to finish unseen.
    """
    waiting: deque[cluster.Task] = deque()
    for task in tasks:
        waiting.append(runner.submit(task))
        if len(waiting) >= bands.in_flight(runner.workers):
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def band_tasks(combined: combine.Combined) -> Iterator[Any]:
    """Yield one delayed object a band, its graph cut down to what that band needs."""
    (bands,) = dask.optimize(combined.bands)
    graph = dict(bands.__dask_graph__())
    for key in dask.core.flatten(bands.__dask_keys__()):
        needed, _ = cull(graph, [key])
        yield Delayed(key, needed)


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
    frames = [image.frame for image in job.images]
    ratios = job.calibration.dark_ratio or (None,) * len(frames)
    alone = [
        replace(job.calibration, dark_ratio=() if ratio is None else (ratio,), scale=(), zero=())
        for ratio in ratios
    ]
    token = dask.base.tokenize(frames, job.recipe, job.calibration, wanted, section)
    tasks = (
        dask.delayed(levels.measure_frame)(
            *(frame, calibration, job.recipe, tuple(wanted), section),
            dask_key_name=f"mf-measure-{token}-{index}",
        )
        for index, (frame, calibration) in enumerate(zip(frames, alone, strict=True))
    )
    return list(run_in_order(tasks, resources.runner))


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


def write_all_calibrated(
    jobs: Sequence[calibrated.CalibratedJob], resources: Resources
) -> Iterator[float | MasterframeError]:
    """Write calibrated frames, one ``mf-calibrate`` task each, several at a time.

    Yields
    ------
    float or MasterframeError
        Wall time (s) of each job in its order, or why it failed.

    Raises
    ------
    StorageError
        If an output cannot be written: the others could not either.
    """
    tasks = (
        dask.delayed(_write_or_error)(job, dask_key_name=f"mf-calibrate-{uuid4().hex}")
        for job in jobs
    )
    return run_in_order(tasks, resources.runner)


def _write_or_error(job: calibrated.CalibratedJob) -> float | MasterframeError:
    try:
        return calibrated.write_calibrated(job)
    except StorageError:
        raise
    except MasterframeError as error:
        return error


def plan_bands(
    frames: Sequence[Frame], recipe: Recipe, n_masters: int, *, memory: int, workers: int
) -> bands.Tiling:
    """Choose the bands of one image within the memory given.

    Parameters
    ----------
    frames : sequence of Frame
        What is combined.
    recipe : Recipe
        Its dtype and planes.
    n_masters : int
        Masters that calibrate it.
    memory : int
        Resident memory that the process may reach (bytes).
    workers : int
        Bands combined at the same time.

    Raises
    ------
    MemoryLimitError
        If not even one row of all frames fits.
    """
    value = np.dtype(recipe.dtype).itemsize
    work = bands.Work(
        n_frames=len(frames),
        shape=frames[0].shape,
        itemsize=stack.FrameStack(tuple(frames)).dtype.itemsize,
        scratch_bytes=len(frames) * LANES * value,
        master_bytes=n_masters * (2 * value + 9),
        plane_bytes=sum(
            combine.plane_type(name, recipe).itemsize for name in combine.plane_names(recipe)
        ),
    )
    return bands.plan_bands(work, memory=memory, reserved=cluster.resident_bytes(), workers=workers)


def plan_image(job: jobs.ImageJob, resources: Resources) -> bands.Tiling:
    """Choose the bands of one image of a job."""
    return plan_bands(
        [image.frame for image in job.images],
        job.recipe,
        len(calibrate.applied(job.calibration)),
        memory=resources.memory,
        workers=resources.runner.workers,
    )


def make_master(job: jobs.MasterJob, resources: Resources) -> Made:
    """Combine the frames of a job, write the master, and publish it whole.

    Returns
    -------
    Made
        What came out.

    Raises
    ------
    MasterframeError
        If an input cannot be read or has changed, the memory does not suffice, or the output cannot
        be written; nothing is left behind then.
    """
    began = time.monotonic()
    job = jobs.in_canonical_order(job)
    tilings = [plan_image(image, resources) for image in job.images]
    resources.reporter.begin(job.path.name, sum(tiling.read_bytes for tiling in tilings))
    resolved = zip(job.images, tilings, strict=True)
    job = replace(job, images=tuple(_with_step(*image, resources) for image in resolved))
    facts = masterfile.facts_of(job)
    with write.ImageFile.create(
        job.path, masterfile.plane_specs(job, facts), overwrite=job.overwrite
    ) as file:
        done = [
            _make_image(file, image, job, tiling, resources)
            for image, tiling in zip(job.images, tilings, strict=True)
        ]
        totals = [total for total, _ in done]
        datasums = [
            masterfile.datasums_of(image, total)
            for image, total in zip(job.images, totals, strict=True)
        ]
        if job.token:
            facts = replace(facts, token=job.token(masterfile.named_sums(job, datasums)))
        kept = np.sum([total.counts["kept"] for total in totals], axis=0)
        file.update_cards(file.names[0], headers.master_cards(facts, [int(n) for n in kept]))
        numbers = [measured for _, measured in done]
        file.publish(
            [masterfile.quality_table(job, numbers), masterfile.inputs_table(job, totals, datasums)]
        )
    return Made(
        path=job.path,
        n_frames=len(job.inputs),
        rejected=totals[0].rejected,
        seconds=time.monotonic() - began,
        bytes_read=sum(tiling.read_bytes for tiling in tilings),
        numbers=numbers[0],
    )


def _make_image(
    file: write.ImageFile,
    image: jobs.ImageJob,
    job: jobs.MasterJob,
    tiling: bands.Tiling,
    resources: Resources,
) -> tuple[masterfile.Totals, dict[str, float]]:
    """Combine one image into its planes of the file; return its totals and quality numbers."""
    sources = _sources(image)
    lazy = xr.DataArray(_lazy_values(image, tiling.rows), dims=("frame", "y", "x"))
    combined = combine.combine_stack(
        lazy,
        image.recipe,
        image.calibration,
        facts=combine.FrameFacts(job.rank, sources, image.weights, _exptimes(job)),
        uncertainties=_lazy_uncertainties(image, tiling.rows),
    )
    names = masters.hdu_names(image.name, combined.planes)
    totals = masterfile.Totals(len(image.images))
    row_bytes = tiling.read_bytes // image.images[0].frame.shape[0]
    for boxed in run_in_order(band_tasks(combined), resources.runner):
        band: BandResult = boxed[0, 0]
        for plane, values in band.planes.items():
            stored = values.astype(masterfile.stored_type(plane, image), copy=False)
            file.write_rows(names[plane], band.row0, stored)
        totals.add(band)
        resources.reporter.advance(row_bytes * len(band.planes["data"]))
    planes = finish.MasterPlanes(file, names, combined.shape)
    numbers: dict[str, float] = {}
    if image.normalize is not None:
        numbers |= finish.normalize_flat(planes, image.normalize)
    if image.hot_sigma is not None:
        numbers |= finish.flag_hot(planes, image.hot_sigma)
    return totals, numbers | masterfile.quality(planes, totals, numbers.get("norm", 1.0))


def _with_step(image: jobs.ImageJob, tiling: bands.Tiling, resources: Resources) -> jobs.ImageJob:
    """Measure the quantisation step once, for all bands, where the recipe does not give it."""
    recipe = image.recipe
    if recipe.noise.step:
        return image
    lazy = xr.DataArray(_lazy_values(image, tiling.rows), dims=("frame", "y", "x"))
    step = combine.quantisation_step(lazy, _sources(image))
    if isinstance(step, Delayed):
        (task,) = dask.optimize(step)  # which pushes the sampling into the reader
        step = resources.runner.submit(task).result()
    noise = replace(recipe.noise, step=float(step))
    return replace(image, recipe=replace(recipe, noise=noise))


def _sources(image: jobs.ImageJob) -> tuple[Frame, ...]:
    """Return where the values of an image are stored as they are; nothing if they were changed."""
    return () if image.changed is not None else tuple(item.frame for item in image.images)


def _exptimes(job: jobs.MasterJob) -> tuple[float, ...]:
    """Return the exposure times; empty where one is not known."""
    times = [item.exptime for item in job.inputs if item.exptime is not None]
    return tuple(times) if len(times) == len(job.inputs) else ()


def _lazy_uncertainties(image: jobs.ImageJob, rows: int) -> da.Array | None:
    return stack.lazy_array(image.uncertainties, rows) if image.uncertainties else None


def _lazy_values(image: jobs.ImageJob, rows: int) -> da.Array:
    if image.changed is not None:
        return image.changed.rechunk({0: -1, 1: rows, 2: -1})
    return stack.lazy_array([item.frame for item in image.images], rows)
