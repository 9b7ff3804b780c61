"""The one place that computes: runs the bands of a master in order, writes them, and publishes.

At most a bounded number of bands is on its way at any time, and their results are taken in the
order of their rows: memory is bounded, sums over rows do not depend on who was faster, and the disk
sees one contiguous write after the other.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import dask
import dask.array as da
import numpy as np
import xarray as xr
from dask.delayed import Delayed
from dask.optimization import cull
from numpy.typing import NDArray

from masterframe import (
    __version__,
    calibrate,
    calibrated,
    cluster,
    combine,
    finish,
    fits,
    quantiles,
    stack,
)
from masterframe import tiling as bands
from masterframe.errors import MasterframeError, StorageError
from masterframe.fits import headers, legal, masters, tables, write
from masterframe.model import BandResult, Calibration, Frame, Header, Image, Recipe

LANES = 512
"""Pixels that the kernel sorts side by side."""
COUNTS = ("kept", "low", "high", "missing")


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
    normalize: float | None = None
    """Divide the master by its median and mask what is below this."""
    hot_sigma: float | None = None
    """Mark pixels this many robust sigmas above the median as hot."""
    changed: da.Array | None = None
    """Lazy values (N, y, x) that stand for the stored ones of the frames."""


@dataclass(frozen=True)
class Input:
    """One input file of a master, as its tables and header name it."""

    path: str
    """Absolute path."""
    header: Header
    """Its cards; those that all inputs share go into the master."""
    exptime: float | None = None
    """Exposure time (s)."""
    date_obs: str = ""
    """Start, ISO 8601 in UTC."""


@dataclass(frozen=True)
class LeftOut:
    """An input that was planned, measured, and found unfit."""

    source: Input
    """The file."""
    images: tuple[Image, ...]
    """Its images, one for each of the master's."""
    reason: str
    """Why it was left out."""


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
    left_out: tuple[LeftOut, ...] = ()
    """Inputs that were found unfit on the way."""
    history: tuple[str, ...] = ()
    """Lines for HISTORY."""
    token: Callable[[Sequence[tuple[str, int]]], str] | None = None
    """Makes the product's token from the name and DATASUM of every input image."""
    overwrite: bool = False
    """Replace a file that is there."""


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


MIN_TRUSTED = 5
"""Frames from which the MAD is trusted where the noise is not known otherwise."""


def canonical_rank(inputs: Sequence[Input], images: Sequence[Image]) -> tuple[int, ...]:
    """Return each input's place by date, name, size, header, path, whatever the order given."""
    keys = [
        (
            *(item.date_obs, Path(item.path).name, image.frame.size),
            *(str(sorted(image.header.items())), item.path),
        )
        for item, image in zip(inputs, images, strict=True)
    ]
    places = {
        index: place for place, index in enumerate(sorted(range(len(keys)), key=keys.__getitem__))
    }
    return tuple(places[index] for index in range(len(keys)))


class Totals:
    """Adds up the per-frame numbers of bands, in the order of their rows."""

    def __init__(self, n_frames: int) -> None:
        self.counts = {name: np.zeros(n_frames, np.int64) for name in COUNTS}
        self.frame_sums = np.zeros((n_frames, 2))
        self.half_sums = np.zeros(3)
        self.datasum: np.ndarray | None = np.zeros(n_frames, np.uint64)

    def add(self, band: BandResult) -> None:
        """Add one band: integers are exact, float sums go row by row, whatever the band height."""
        for name in COUNTS:
            self.counts[name] += getattr(band.frames, name)
        for row in band.frame_sums:
            self.frame_sums += row
        for row in band.half_sums:
            self.half_sums += row
        if self.datasum is not None:
            self.datasum = self.datasum + band.datasum if band.datasum.size else None

    @property
    def noise(self) -> NDArray[np.float64]:
        """Standard deviation of (value - combined) of each frame (combined unit)."""
        kept = np.maximum(self.counts["kept"], 1)
        mean, square = (self.frame_sums / kept[:, None]).T
        noise: NDArray[np.float64] = np.sqrt(np.maximum(square - mean**2, 0))
        return noise

    @property
    def half_noise(self) -> float:
        """Noise of the result from the difference of its even and odd halves; NaN without it."""
        count, total, square = self.half_sums
        if count < 2:
            return math.nan
        frames = len(self.frame_sums)
        smaller = frames // 2  # halves of an odd number differ more than the mean of all is noisy
        share = 2 * math.sqrt(smaller * (frames - smaller)) / frames
        return share * math.sqrt(max(square - total**2 / count, 0) / (count - 1))

    @property
    def rejected(self) -> float:
        """Fraction of the valid values that was rejected."""
        low, high = (int(self.counts[name].sum()) for name in ("low", "high"))
        valid = low + high + int(self.counts["kept"].sum())
        return (low + high) / valid if valid else 0.0


def measure_levels(
    images: Sequence[Image], recipe: Recipe, calibration: Calibration, resources: Resources
) -> list[float]:
    """Measure the level of every frame, one ``mf-measure`` task each.

    Returns
    -------
    list of float
        Median of the good pixels of each frame (adu, calibrated); NaN where none is good.
    """
    frames = stack.FrameStack(tuple(image.frame for image in images))
    token = dask.base.tokenize(frames, recipe, calibration)
    tasks = (
        dask.delayed(combine.frame_level)(
            frames, index, calibration, recipe, dask_key_name=f"mf-measure-{token}-{index}"
        )
        for index in range(len(images))
    )
    return list(run_in_order(tasks, resources.runner))


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


def plan_image(job: ImageJob, resources: Resources) -> bands.Tiling:
    """Choose the bands of one image of a job."""
    return plan_bands(
        [image.frame for image in job.images],
        job.recipe,
        len(calibrate.applied(job.calibration)),
        memory=resources.memory,
        workers=resources.runner.workers,
    )


def make_master(job: MasterJob, resources: Resources) -> Made:
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
    job = in_canonical_order(job)
    tilings = [plan_image(image, resources) for image in job.images]
    resources.reporter.begin(job.path.name, sum(tiling.read_bytes for tiling in tilings))
    facts = _facts(job)
    with write.ImageFile.create(
        job.path, _plane_specs(job, facts), overwrite=job.overwrite
    ) as file:
        done = [
            _make_image(file, image, job, tiling, resources)
            for image, tiling in zip(job.images, tilings, strict=True)
        ]
        totals = [total for total, _ in done]
        datasums = [
            _datasums(image, total) for image, total in zip(job.images, totals, strict=True)
        ]
        if job.token:
            facts = replace(facts, token=job.token(_named_sums(job, datasums)))
        kept = np.sum([total.counts["kept"] for total in totals], axis=0)
        file.update_cards(file.names[0], headers.master_cards(facts, [int(n) for n in kept]))
        numbers = [measured for _, measured in done]
        file.publish([_quality_table(job, numbers), _inputs_table(job, totals, datasums)])
    return Made(
        path=job.path,
        n_frames=len(job.inputs),
        rejected=totals[0].rejected,
        seconds=time.monotonic() - began,
        bytes_read=sum(tiling.read_bytes for tiling in tilings),
        numbers=numbers[0],
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
            calibration=replace(
                given,
                dark_ratio=sort(given.dark_ratio),
                scale=sort(given.scale),
                zero=sort(given.zero),
            ),
            changed=None if image.changed is None else image.changed[order],
        )

    return replace(
        job,
        images=tuple(sort_image(image) for image in job.images),
        inputs=sort(job.inputs),
        rank=tuple(range(len(order))),
    )


def _make_image(
    file: write.ImageFile,
    image: ImageJob,
    job: MasterJob,
    tiling: bands.Tiling,
    resources: Resources,
) -> tuple[Totals, dict[str, float]]:
    """Combine one image into its planes of the file; return its totals and quality numbers."""
    frames = tuple(item.frame for item in image.images)
    sources = () if image.changed is not None else frames
    lazy = xr.DataArray(_lazy_values(image, tiling.rows), dims=("frame", "y", "x"))
    recipe = _with_step(image.recipe, combine.quantisation_step(lazy, sources), resources)
    combined = combine.combine_stack(
        lazy, recipe, image.calibration, rank=job.rank, sources=sources
    )
    names = masters.hdu_names(image.name, combined.planes)
    totals = Totals(len(frames))
    row_bytes = tiling.read_bytes // frames[0].shape[0]
    for boxed in run_in_order(band_tasks(combined), resources.runner):
        band: BandResult = boxed[0, 0]
        for plane, values in band.planes.items():
            stored = values.astype(_stored_type(plane, image), copy=False)
            file.write_rows(names[plane], band.row0, stored)
        totals.add(band)
        resources.reporter.advance(row_bytes * len(band.planes["data"]))
    planes = finish.MasterPlanes(file, names, combined.shape)
    numbers: dict[str, float] = {}
    if image.normalize is not None:
        numbers |= finish.normalize_flat(planes, image.normalize)
    if image.hot_sigma is not None:
        numbers |= finish.flag_hot(planes, image.hot_sigma)
    return totals, numbers | _quality(planes, totals, numbers.get("norm", 1.0))


def _with_step(recipe: Recipe, step: Any, resources: Resources) -> Recipe:
    """Measure the quantisation step once, for all bands, where the recipe does not give it."""
    if recipe.noise.step:
        return recipe
    if isinstance(step, Delayed):
        (task,) = dask.optimize(step)  # which pushes the sampling into the reader
        step = resources.runner.submit(task).result()
    return replace(recipe, noise=replace(recipe.noise, step=float(step)))


def _lazy_values(image: ImageJob, rows: int) -> da.Array:
    if image.changed is not None:
        return image.changed.rechunk({0: -1, 1: rows, 2: -1})
    return stack.lazy_array([item.frame for item in image.images], rows)


def _facts(job: MasterJob) -> headers.MasterFacts:
    recipe, calibration = job.images[0].recipe, job.images[0].calibration
    propagated = len(job.inputs) == 1 and recipe.noise.gain and recipe.noise.read_noise is not None
    return headers.MasterFacts(
        inputs=tuple(
            headers.InputFacts(Path(item.path).name, item.exptime, item.date_obs)
            for item in job.inputs
        ),
        recipe=recipe,
        kind=job.kind,
        unit=job.unit,
        bias_subtracted=bool(calibration.bias) and not calibration.dark_holds_bias,
        uncertainty="propagated" if propagated else "empirical",
        version=__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        history=job.history,
    )


def _plane_specs(job: MasterJob, facts: headers.MasterFacts) -> list[write.PlaneSpec]:
    """Lay out the file: one image fills the primary HDU, several follow an empty one."""
    base = fits.read_header(job.inputs[0].path, 0)
    common = headers.master_header(base, [item.header for item in job.inputs])
    legal.set_cards(common, headers.master_cards(facts))
    if len(job.images) == 1:
        return _image_specs(job.images[0], job.unit, common)
    specs = [write.PlaneSpec("", "uint8", (), common)]
    for image in job.images:
        first = image.images[0]
        own = headers.master_header(
            fits.read_header(first.frame.path, first.frame.hdu),
            [item.header for item in image.images],
        )
        specs += _image_specs(image, job.unit, own)
    return specs


def _image_specs(image: ImageJob, unit: str, header: Any) -> list[write.PlaneSpec]:
    planes = combine.plane_names(image.recipe)
    names = masters.hdu_names(image.name, planes)
    return [
        write.PlaneSpec(
            names[plane],
            str(_stored_type(plane, image)),
            image.images[0].shape if image.calibration.trim else image.images[0].frame.shape,
            header if plane == "data" else headers.plane_header(plane, unit),
        )
        for plane in planes
    ]


def _stored_type(plane: str, image: ImageJob) -> np.dtype[Any]:
    """Return the type of a plane in the file: counts take two bytes where they fit."""
    kind = combine.plane_type(plane, image.recipe)
    few = kind == np.int32 and len(image.images) <= np.iinfo(np.int16).max
    return np.dtype(np.int16) if few else kind


def _datasums(image: ImageJob, totals: Totals) -> list[int]:
    """Return the DATASUM of each input, from the bands where they saw every byte of it."""
    frames = [item.frame for item in image.images]
    trim = image.calibration.trim
    if totals.datasum is None:
        return [fits.datasum(frame) for frame in frames]
    sums = [int(total) for total in totals.datasum]
    if trim:
        unread = [
            rows for rows in ((0, trim.y0), (trim.y1, frames[0].shape[0])) if rows[0] < rows[1]
        ]
        for y0, y1 in unread:
            rest = fits.band_words(frames, fits.read_stack(frames, y0, y1), y0)
            if rest is None:
                return [fits.datasum(frame) for frame in frames]
            sums = [total + int(more) for total, more in zip(sums, rest, strict=True)]
    return [_folded(total) for total in sums]


def _named_sums(job: MasterJob, datasums: Sequence[Sequence[int]]) -> list[tuple[str, int]]:
    """Return the image name and DATASUM of every input, those that were left out included."""
    used = [
        (image.name, total)
        for image, totals in zip(job.images, datasums, strict=True)
        for total in totals
    ]
    unused = [
        (image.name, fits.datasum(item.images[index].frame))
        for item in job.left_out
        for index, image in enumerate(job.images)
    ]
    return used + unused


def _inputs_table(
    job: MasterJob, totals: Sequence[Totals], datasums: Sequence[Sequence[int]]
) -> Any:
    rows = [
        _input_row(job, image, total, sums, index)
        for image, total, sums in zip(job.images, totals, datasums, strict=True)
        for index in range(len(job.inputs))
    ]
    for item in job.left_out:
        for image, raw in zip(job.images, item.images, strict=True):
            row = _unused_row(item.source, image.name, raw.frame)
            rows.append(replace(row, status=item.reason, datasum=fits.datasum(raw.frame)))
    return tables.inputs_table(rows)


def _unused_row(source: Input, extension: str, frame: Frame) -> tables.InputRow:
    return tables.InputRow(
        path=source.path,
        extension=extension,
        size=frame.size,
        mtime_ns=frame.mtime_ns,
        date_obs=source.date_obs,
        exptime=source.exptime,
    )


def _input_row(
    job: MasterJob, image: ImageJob, totals: Totals, datasums: Sequence[int], index: int
) -> tables.InputRow:
    calibration, counts = image.calibration, totals.counts
    kept = int(counts["kept"][index])
    return replace(
        _unused_row(job.inputs[index], image.name, image.images[index].frame),
        datasum=datasums[index],
        level=image.levels[index] if image.levels else None,
        scale=calibration.scale[index] if calibration.scale else 1.0,
        zero=calibration.zero[index] if calibration.zero else 0.0,
        kept=kept,
        rejected_low=int(counts["low"][index]),
        rejected_high=int(counts["high"][index]),
        missing=int(counts["missing"][index]),
        noise=float(totals.noise[index]) if kept else None,
        status="used" if kept else "nothing of it was kept",
    )


QUALITY = {
    "median": "median of the good pixels on every 16th row",
    "scatter": "1.4826 MAD of the same: structure and noise",
    "noise": "noise of the result, from its even and odd halves",
    "rejlow": "fraction of the valid values rejected low",
    "rejhigh": "fraction of the valid values rejected high",
    "nmasked": "masked pixels",
    "norm": "level by which the flat was divided (adu)",
    "nflatlow": "pixels masked as too insensitive",
    "nhot": "pixels marked hot",
    "hotlevel": "bound above which a pixel is hot",
}
"""Numbers of the QUALITY table and what they are."""


def _quality(planes: finish.MasterPlanes, totals: Totals, norm: float) -> dict[str, float]:
    """Measure one image of a master once it is finished."""
    sample = planes.sample("data")  # a number for people: every 16th row tells it
    median = quantiles.exact_median(lambda: [sample])
    kept, low, high = (int(totals.counts[name].sum()) for name in ("kept", "low", "high"))
    valid = max(kept + low + high, 1)
    masked = sum(int(np.count_nonzero(planes.read("mask", rows))) for rows in planes.bands())
    return {
        "median": median,
        "scatter": quantiles.robust_sigma(lambda: [sample], median),
        "noise": totals.half_noise / norm,
        "rejlow": low / valid,
        "rejhigh": high / valid,
        "nmasked": float(masked),
    }


def _quality_table(job: MasterJob, numbers: Sequence[Mapping[str, float]]) -> Any:
    units = dict.fromkeys(("median", "scatter", "noise", "hotlevel"), job.unit)
    rows = [
        tables.QualityRow(name, value, units.get(name, ""), QUALITY[name], image.name)
        for image, measured in zip(job.images, numbers, strict=True)
        for name, value in measured.items()
    ]
    return tables.quality_table(rows)


def _folded(total: int) -> int:
    """Return a sum of 32-bit words as FITS wants it: carries are added again at the low end."""
    while total >> 32:
        total = (total & 0xFFFFFFFF) + (total >> 32)
    return total
