"""The one place that computes: runs the bands of a master in order, writes them, and publishes.

At most a bounded number of bands is on its way at any time, and their results are taken in the
order of their rows: memory is bounded, sums over rows do not depend on who was faster, and the disk
sees one contiguous write after the other.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
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
    ahead,
    calibrate,
    calibrated,
    cluster,
    combine,
    finish,
    jobs,
    kernels,
    levels,
    masterfile,
    scaling,
    stack,
    unpacking,
)
from masterframe import tiling as bands
from masterframe.errors import MasterframeError, StorageError
from masterframe.fits import headers, masters, scratch, write
from masterframe.model import Adjustment, BandResult, Calibration, ClusterSpec, Frame, Section
from masterframe.quality.sketch import Sketch, sketch_frame
from masterframe.quality.verdicts import Check

FLOAT = 8
"""Bytes of a float64."""
SCRATCH, SCRATCH_FRAME = 8 << 20, 1200
"""Working memory (bytes) of one kernel call: of any, and more for each frame."""
SAMPLED = 48
"""Bytes a pixel of a sample while it is measured."""
LOADED_LATER = 16 * 10**6
"""What is loaded after the memory is shared out (bytes): compiled code for masters, tables."""


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


class _Followed:
    """A reporter that also tells who reads ahead how far the work has come."""

    def __init__(self, reporter: Reporter, walker: ahead.Walker, total: int) -> None:
        self.begin, self.note = reporter.begin, reporter.note
        self._reporter, self._walker = reporter, walker
        self._done, self._total = 0, total

    def advance(self, done_bytes: int) -> None:
        """Tell both."""
        self._done += done_bytes
        self._walker.reach(self._done / self._total)
        self._reporter.advance(done_bytes)


@dataclass(frozen=True)
class Resources:
    """What a run may use."""

    runner: cluster.Runner
    """Where tasks run."""
    memory: int
    """Resident memory that the process may reach (bytes)."""
    reporter: Reporter = field(default_factory=Silent)
    """Who is told how the work goes."""
    scratch: Path | None = None
    """Folder for plain copies of compressed inputs; None: one that lasts as long as the process."""


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
    images: int = 1
    """Images in the file."""
    tests: tuple[Check, ...] = ()
    """What the master was tested for; of several images, image after image."""

    def as_dict(self) -> dict[str, Any]:
        """Return it in the types of JSON; numbers that are none become null."""
        finite = {k: v if math.isfinite(v) else None for k, v in self.numbers.items()}
        tests = [item.as_dict() for item in self.tests]
        return {**asdict(self), "path": str(self.path), "numbers": finite, "tests": tests}

    def summary(self) -> str:
        """Return one line for people."""
        numbers = ", ".join(f"{name} {self.numbers[name]:.6g}" for name in ("median", "noise"))
        frames = f"{self.n_frames} frames"
        if self.images > 1:
            frames, numbers = f"{frames} of {self.images} images", f"in the first {numbers}"
        return (
            f"{self.path}: {frames}, {numbers}, {self.rejected:.3%} rejected, "
            f"{bands.format_bytes(self.bytes_read)} in {self.seconds:.2f} s"
        )


@contextmanager
def open_resources(
    scheduler: str | ClusterSpec = "threads",
    *,
    workers: int | None = None,
    memory: int | None = None,
    dashboard: bool = False,
    insecure: bool = False,
    reporter: Reporter | None = None,
) -> Iterator[Resources]:
    """Open what a run works with; the arguments are those of `cluster.open_runner`."""
    limit = memory or cluster.default_memory()
    with cluster.open_runner(
        scheduler, workers=workers, memory=limit, dashboard=dashboard, insecure=insecure
    ) as runner:
        asked = workers or cluster.available_cores()
        if scheduler == "processes" and runner.workers < asked:
            (reporter or Silent()).note(
                f"{runner.workers} of {asked} workers: {bands.format_bytes(limit)} of memory do "
                "not suffice for more processes"
            )
        yield Resources(runner, limit, reporter or Silent())


@contextmanager
def use_resources(given: Resources | None = None) -> Iterator[Resources]:
    """Use what is given, else the Dask client that is active, else threads."""
    runner = None if given else cluster.active_runner()
    if given:
        yield given
        return
    more = cluster.default_memory() + cluster.resident_bytes()  # whatever the program holds
    if runner:
        yield Resources(runner, more)
    else:
        with open_resources(memory=more) as resources:
            yield resources


def run_in_order(
    tasks: Iterable[Any], runner: cluster.Runner, in_flight: int | None = None
) -> Iterator[Any]:
    """Run Dask tasks, a bounded number at a time, and yield their results in order.

    If a result raises, or the caller stops, what has begun is left to finish unseen.
    """
    most = in_flight or 2 * runner.workers
    waiting: deque[cluster.Task] = deque()
    for task in tasks:
        waiting.append(runner.submit(task))
        if len(waiting) >= most:
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
    return list(_measured(partial(sketch_frame, far=far), job, (), resources))


def _measured(
    measure: Callable[..., Any], job: jobs.ImageJob, options: tuple[Any, ...], resources: Resources
) -> Iterator[Any]:
    """Call a function with each frame and its calibration, without scale and zero."""
    (job,) = unpack([job], resources)
    frames = [image.frame for image in job.images]
    ratios = job.calibration.dark_ratio or (None,) * len(frames)
    alone = [
        replace(job.calibration, dark_ratio=() if ratio is None else (ratio,), scale=(), zero=())
        for ratio in ratios
    ]
    token = dask.base.tokenize(measure, frames, job.recipe, job.calibration, options)
    tasks = (
        dask.delayed(measure)(
            *(frame, calibration, job.recipe, *options),
            dask_key_name=f"mf-measure-{token}-{index}",
        )
        for index, (frame, calibration) in enumerate(zip(frames, alone, strict=True))
    )
    height, width = frames[0].shape
    each = len(bands.sample_rows(height)) * width * SAMPLED
    fitting = max(1, (resources.memory - cluster.resident_bytes()) // each)
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
    folder = resources.scratch or scratch.lasting_folder()
    tasks = (
        dask.delayed(_write_or_error)(
            unpacking.calibrated_with_copies(job, folder),
            dask_key_name=f"mf-calibrate-{uuid4().hex}",
        )
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
    finally:
        scratch.discard(item.image.frame for item in job.images)


def unpack(
    images: Sequence[jobs.ImageJob], resources: Resources, rows: Sequence[int | None] = (None,)
) -> tuple[jobs.ImageJob, ...]:
    """Return jobs whose compressed files are read from plain copies, which are made now.

    One ``mf-unpack`` task a file, several at a time.

    Parameters
    ----------
    images : sequence of ImageJob
        The jobs.
    resources : Resources
        Where it runs, and the folder of the copies.
    rows : sequence of int, optional
        Rows of a band of each job: images in tiles that are taller are copied, too.

    Raises
    ------
    StorageError
        If the disk has no room for the copies; nothing is made then.
    FrameError
        If a file is damaged.
    """
    if not any(map(unpacking.is_compressed, images)):
        return tuple(images)
    folder = resources.scratch or scratch.lasting_folder()
    placed = tuple(
        unpacking.with_copies(image, folder, height)
        for image, height in zip(images, rows, strict=True)
    )
    frames = scratch.lacking(frame for image in placed for frame in unpacking.frames_of(image))
    scratch.check_room(frames)
    tasks = (
        dask.delayed(scratch.make_copy)(frame, dask_key_name=f"mf-unpack-{uuid4().hex}")
        for frame in frames
    )
    for _ in run_in_order(tasks, resources.runner):
        pass
    return placed


@dataclass(frozen=True)
class Room:
    """The memory of a run, and what shares it."""

    memory: int
    """Resident memory that all processes together may reach, or one worker of a cluster (bytes)."""
    footprint: cluster.Footprint
    """What is held before a pixel is read, and how many tasks share the rest."""
    images: int = 1
    """Images of about one size that go into one file, one after the other."""


def room_of(images: Sequence[jobs.ImageJob], resources: Resources) -> Room:
    """Measure what a run has room for, once what it will run is compiled or loaded.

    To compile takes memory that is never given back: it must be there before it is shared out.
    """
    first = images[0]
    ready = partial(
        combine.rehearse,
        _values_of(first),
        first.recipe,
        calibrates=first.calibration != Calibration(bad_pixels=first.calibration.bad_pixels),
    )
    return Room(resources.memory, resources.runner.footprint(ready), len(images))


def _values_of(job: jobs.ImageJob) -> np.dtype[Any]:
    """Return the type of the values that are combined."""
    if job.changed is not None:
        return np.dtype(str(job.changed.dtype))
    return stack.FrameStack(tuple(image.frame for image in job.images)).dtype


def plan_bands(job: jobs.ImageJob, n_masters: int, room: Room) -> bands.Tiling:
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
    return bands.plan_bands(
        replace(_work_of(job, n_masters), images=room.images),
        memory=room.memory,
        reserved=share.held + LOADED_LATER,
        workers=share.workers,
        copies=share.copies,
        divisible=share.divisible,
    )


def _work_of(job: jobs.ImageJob, n_masters: int) -> bands.Work:
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
    whole = combine.whole_rows(recipe, calibration)
    if job.changed is not None:
        whole = whole or "values that a program changed come in whole rows"
        itemsize *= 2  # what a graph of others' makes is not known: one copy on the way
    columns = calibration.overscan.shape[1] if calibration.overscan else 0
    marks = count * width * (1 + 6 * math.floor(recipe.rejection.grow or 0))
    return bands.Work(
        n_frames=count,
        shape=frames[0].shape,
        itemsize=itemsize,
        scratch_bytes=SCRATCH + count * SCRATCH_FRAME + marks * bool(whole),
        master_bytes=n_masters * (2 * work.itemsize + 9),
        plane_bytes=sum(
            combine.plane_type(name, recipe).itemsize for name in combine.plane_names(recipe)
        ),
        frame_row_bytes=16 + 2 * FLOAT * columns,
        copy_bytes=copied,
        whole=whole,
        tile_rows=stack.tile_rows(frames),
    )


def plan_image(job: jobs.ImageJob, room: Room) -> bands.Tiling:
    """Choose the bands of one image of a job."""
    return plan_bands(job, len(calibrate.applied(job.calibration)), room)


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
    paths = [image.frame.path for image in job.images[0].images]
    with ahead.walking(paths, cluster.available_memory() // 4) as walker:
        return _make_master(job, resources, walker, began)


def _make_master(
    job: jobs.MasterJob, resources: Resources, walker: ahead.Walker, began: float
) -> Made:
    room = room_of(job.images, resources)
    tilings = [plan_image(image, room) for image in job.images]
    for line in dict.fromkeys(tiling.text() for tiling in tilings):
        resources.reporter.note(f"{job.path.name}: {line}")
    fewest = min(tiling.workers for tiling in tilings)
    if fewest < room.footprint.workers:
        resources.reporter.note(
            f"{job.path.name}: {fewest} of {room.footprint.workers} workers, since more do not fit "
            f"in {bands.format_bytes(room.memory)}; the result is the same"
        )
    rows = [
        tiling.rows if tiling.columns == image.images[0].frame.shape[1] else 0  # parts of rows
        for image, tiling in zip(job.images, tilings, strict=True)
    ]
    job = replace(job, images=unpack(job.images, resources, rows))
    total = sum(tiling.read_bytes for tiling in tilings)
    resources.reporter.begin(job.path.name, total)
    resources = replace(resources, reporter=_Followed(resources.reporter, walker, total))
    job = replace(job, images=tuple(_with_steps(job.images, tilings, resources)))
    facts = masterfile.facts_of(job)
    with write.ImageFile.create(
        job.path, masterfile.plane_specs(job, facts), overwrite=job.overwrite
    ) as file:
        in_flight = room.footprint.machines * min(tiling.in_flight for tiling in tilings)
        done = list(_make_images(file, job, tilings, resources, in_flight))
        totals = [total for total, _ in done]
        datasums = [
            masterfile.datasums_of(image, total)
            for image, total in zip(job.images, totals, strict=True)
        ]
        if job.verify:
            masterfile.check_datasums(job, datasums)
        if job.token:
            facts = replace(facts, token=job.token(masterfile.named_sums(job, datasums)))
        kept = np.sum([total.counts["kept"] for total in totals], axis=0)
        file.update_cards(file.names[0], headers.master_cards(facts, [int(n) for n in kept]))
        numbers = [measured for _, measured in done]
        tests = masterfile.tests_of(job, totals, numbers)
        file.publish(
            [
                masterfile.quality_table(job, numbers, tests),
                masterfile.inputs_table(job, totals, datasums),
            ]
        )
    return Made(
        path=job.path,
        n_frames=len(job.inputs),
        rejected=masterfile.rejected(totals),
        seconds=time.monotonic() - began,
        bytes_read=total,
        numbers=numbers[0],
        images=len(job.images),
        tests=tuple(item for found in tests for item in found),
    )


def _make_images(
    file: write.ImageFile,
    job: jobs.MasterJob,
    tilings: Sequence[bands.Tiling],
    resources: Resources,
    in_flight: int,
) -> Iterator[tuple[masterfile.Totals, dict[str, float]]]:
    """Combine all images into their planes of the file; yield totals and numbers of each.

    The bands of one follow those of another without a pause: while the last ones of an image are
    combined, the first ones of the next are on their way.
    """
    pairs = zip(job.images, tilings, strict=True)
    lazy = (_combined(image, job, tiling) for image, tiling in pairs)
    tasks = (task for combined in lazy for task in band_tasks(combined))
    results = run_in_order(tasks, resources.runner, in_flight)
    for image, tiling in zip(job.images, tilings, strict=True):
        totals = masterfile.Totals(len(image.images))
        planes = _planes(file, image)
        pixel_bytes = tiling.read_bytes // math.prod(planes.shape)
        left = math.prod(planes.shape)
        while left:
            band: BandResult = next(results)[0, 0, 0]
            left -= band.planes["data"].size
            for plane, values in band.planes.items():
                stored = values.astype(masterfile.stored_type(plane, image), copy=False)
                whole = stored.shape[1] == planes.shape[1]
                column0 = None if whole else band.column0
                file.write_rows(planes.names[plane], band.row0, stored, column0)
            totals.add(band)
            resources.reporter.advance(pixel_bytes * band.planes["data"].size)
        yield totals, _finish(planes, image, job, totals)


def _combined(image: jobs.ImageJob, job: jobs.MasterJob, tiling: bands.Tiling) -> combine.Combined:
    """Return the lazy combination of one image."""
    return combine.combine_stack(
        xr.DataArray(_lazy_values(image, tiling), dims=("frame", "y", "x")),
        image.recipe,
        image.calibration,
        facts=combine.FrameFacts(job.rank, _sources(image), image.weights, _exptimes(job)),
        uncertainties=_lazy_uncertainties(image, tiling),
    )


def _planes(file: write.ImageFile, image: jobs.ImageJob) -> finish.MasterPlanes:
    """Return the planes of one image in the file."""
    trim = image.calibration.trim
    shape = trim.shape if trim else image.images[0].frame.shape
    names = masters.hdu_names(image.name, combine.plane_names(image.recipe))
    return finish.MasterPlanes(file, names, shape)


def _finish(
    planes: finish.MasterPlanes,
    image: jobs.ImageJob,
    job: jobs.MasterJob,
    totals: masterfile.Totals,
) -> dict[str, float]:
    """Do what needs a whole image, and return its numbers."""
    numbers: dict[str, float] = {}
    if image.normalize is not None:
        numbers |= finish.normalize_flat(planes, image.normalize)
    if image.hot_sigma is not None:
        numbers |= finish.flag_hot(planes, image.hot_sigma)
    norm = numbers.get("norm", 1.0)
    return numbers | masterfile.quality(planes, totals, image, job, norm)


def _with_steps(
    images: Sequence[jobs.ImageJob], tilings: Sequence[bands.Tiling], resources: Resources
) -> Iterator[jobs.ImageJob]:
    """Measure the quantisation step of images once for all bands, where no recipe gives it."""
    found = [
        image.recipe.noise.step
        or combine.quantisation_step(
            xr.DataArray(_lazy_values(image, tiling), dims=("frame", "y", "x")),
            _sources(image),
        )
        for image, tiling in zip(images, tilings, strict=True)
    ]
    # optimising pushes the sampling into the reader
    tasks = (dask.optimize(step)[0] for step in found if isinstance(step, Delayed))
    measured = run_in_order(tasks, resources.runner)
    for image, step in zip(images, found, strict=True):
        number = next(measured) if isinstance(step, Delayed) else step
        noise = replace(image.recipe.noise, step=float(number))
        yield replace(image, recipe=replace(image.recipe, noise=noise))


def _sources(image: jobs.ImageJob) -> tuple[Frame, ...]:
    """Return where the values of an image are stored as they are; nothing if they were changed."""
    return () if image.changed is not None else tuple(item.frame for item in image.images)


def _exptimes(job: jobs.MasterJob) -> tuple[float, ...]:
    """Return the exposure times; empty where one is not known."""
    times = [item.exptime for item in job.inputs if item.exptime is not None]
    return tuple(times) if len(times) == len(job.inputs) else ()


def _lazy_uncertainties(image: jobs.ImageJob, tiling: bands.Tiling) -> da.Array | None:
    if not image.uncertainties:
        return None
    return stack.lazy_array(image.uncertainties, tiling.rows, tiling.columns)


def _lazy_values(image: jobs.ImageJob, tiling: bands.Tiling) -> da.Array:
    if image.changed is not None:
        return image.changed.rechunk({0: -1, 1: tiling.rows, 2: -1})
    return stack.lazy_array([item.frame for item in image.images], tiling.rows, tiling.columns)
