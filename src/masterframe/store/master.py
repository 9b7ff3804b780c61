"""A master: its bands are combined, written in the order of their rows, and published."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain, islice
from typing import Any
from uuid import uuid4

import numpy as np

from masterframe import ahead, calibrate, cell, cluster, finish, jobs, kernels, masterfile
from masterframe.errors import TaskLostError
from masterframe.fits import headers, masters, write
from masterframe.fits.stamps import Stamp
from masterframe.framestack import FrameStack
from masterframe.model import BandResult
from masterframe.progress import Reporter
from masterframe.quality.verdicts import Check
from masterframe.store.copies import unpack
from masterframe.store.made import Made
from masterframe.store.output import Finished, Output, Progress, open_output
from masterframe.store.resources import Resources
from masterframe.store.room import plan_image, room_of
from masterframe.store.tasks import run_in_order
from masterframe.tiling import Tiling, format_bytes


class _Followed:
    """A reporter that also tells who reads ahead how far the work has come."""

    def __init__(self, reporter: Reporter, walker: ahead.Walker, done: int, total: int) -> None:
        self.begin, self.note = reporter.begin, reporter.note
        self._reporter, self._walker = reporter, walker
        self._done, self._total = done, total

    def advance(self, done_bytes: int) -> None:
        """Tell both."""
        self._done += done_bytes
        self._walker.reach(self._done / self._total)
        self._reporter.advance(done_bytes)


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
    room = room_of(job.images, resources)
    tilings = [plan_image(image, room) for image in job.images]
    for line in dict.fromkeys(tiling.text() for tiling in tilings):
        resources.reporter.note(f"{job.path.name}: {line}")
    fewest = min(tiling.workers for tiling in tilings)
    if fewest < room.footprint.workers:
        resources.reporter.note(
            f"{job.path.name}: {fewest} of {room.footprint.workers} workers, since more do not fit "
            f"in {format_bytes(room.memory)}; the result is the same"
        )
    rows = [
        tiling.rows if tiling.columns == image.images[0].frame.shape[1] else 0  # parts of rows
        for image, tiling in zip(job.images, tilings, strict=True)
    ]
    given = job  # plain copies lie elsewhere in every run
    job = replace(job, images=unpack(job.images, resources, rows))
    job = replace(job, images=tuple(_with_steps(job.images, tilings, resources)))
    facts = masterfile.facts_of(job)
    planes = masterfile.plane_specs(job, facts)
    with open_output(job, planes, partial(jobs.fingerprint, given)) as output:
        total = sum(tiling.read_bytes for tiling in tilings)
        left = total - _read_before(output.start, job, tilings)
        if left < total:
            resources.reporter.note(f"{job.path.name}: {_resumed(output.start, len(job.images))}")
        resources.reporter.begin(job.path.name, left, _steps(output.start, job, tilings))
        in_flight = room.footprint.machines * min(tiling.in_flight for tiling in tilings)
        images = job.images[0].images if room.footprint.here else ()
        paths = [image.frame.path for image in images]
        with ahead.walking(paths, cluster.available_memory() // 4) as walker:
            following = _Followed(resources.reporter, walker, total - left, total)
            told = replace(resources, reporter=following)
            done = _make_images(output, job, tilings, told, in_flight)
        tests, stamp = _publish(output.file, job, facts, done)
    totals = [image.totals for image in done]
    return Made(
        path=job.path,
        n_frames=len(job.inputs),
        rejected=masterfile.rejected(totals),
        seconds=time.monotonic() - began,
        bytes_read=left,
        numbers=done[0].numbers,
        stamp=stamp,
        images=len(job.images),
        tests=tuple(item for found in tests for item in found),
    )


def _read_before(start: Progress, job: jobs.MasterJob, tilings: Sequence[Tiling]) -> int:
    """Return the bytes that an earlier run has read."""
    whole = sum(tiling.read_bytes for tiling in tilings[: len(start.finished)])
    if not start.row:
        return whole
    index = len(start.finished)
    return whole + tilings[index].read_bytes * start.row // _shape(job.images[index])[0]


def _steps(start: Progress, job: jobs.MasterJob, tilings: Sequence[Tiling]) -> int:
    """Return the cells that are still to be combined."""
    first = len(start.finished)
    rows = [start.row, *[0] * len(job.images)]
    return sum(
        -(-(_shape(image)[0] - row) // tiling.rows) * tiling.parts
        for image, tiling, row in zip(job.images[first:], tilings[first:], rows, strict=False)
    )


def _resumed(start: Progress, count: int) -> str:
    """Return in words where an earlier run had come to."""
    image = f" of image {len(start.finished) + 1} of {count}" if count > 1 else ""
    if len(start.finished) == count:
        return "an earlier run has finished its bands"
    return f"goes on from row {start.row + 1}{image}, where an earlier run ended"


def _publish(
    file: write.ImageFile,
    job: jobs.MasterJob,
    facts: headers.MasterFacts,
    done: Sequence[Finished],
) -> tuple[list[list[Check]], Stamp]:
    """Add what is known once all bands are there, give the file its name, and return the tests."""
    totals, numbers = [image.totals for image in done], [image.numbers for image in done]
    pairs = zip(job.images, totals, strict=True)
    datasums = [masterfile.datasums_of(image, total) for image, total in pairs]
    if job.verify:
        masterfile.check_datasums(job, datasums)
    if job.token:
        facts = replace(facts, token=job.token(masterfile.named_sums(job, datasums)))
    kept = np.sum([total.counts["kept"] for total in totals], axis=0)
    file.update_cards(file.names[0], headers.master_cards(facts, [int(n) for n in kept]))
    tests = masterfile.tests_of(job, totals, numbers)
    stamp = file.publish(
        [
            masterfile.quality_table(job, numbers, tests),
            masterfile.inputs_table(job, totals, datasums),
        ]
    )
    return tests, stamp


def _make_images(
    output: Output,
    job: jobs.MasterJob,
    tilings: Sequence[Tiling],
    resources: Resources,
    in_flight: int,
) -> list[Finished]:
    """Combine all images into their planes of the file; return what is known of each.

    The bands of one follow those of another without a pause: while the last ones of an image are
    combined, the first ones of the next are on their way. Images that share a level are finished
    when all of them are there.
    """
    start = output.start
    first, finished = len(start.finished), list(start.finished)
    pairs = list(zip(job.images, tilings, strict=True))[first:]
    rows = [start.row, *[0] * len(pairs)]
    tasks = (
        task
        for (image, tiling), row in zip(pairs, rows, strict=False)
        for task in _tasks(image, job, tiling, row)
    )
    results = chain.from_iterable(run_in_order(tasks, resources.runner, in_flight))
    for (image, tiling), row in zip(pairs, rows, strict=False):
        begun = start.totals if row else None
        totals = begun or masterfile.Totals(len(image.images))
        planes = _planes(output.file, image)
        pixel_bytes = tiling.read_bytes // math.prod(planes.shape)
        for band in _cells(results, planes.shape, row):
            _write(output.file, planes, band)
            totals.add(band)
            if band.column0 + band.planes["data"].shape[1] == planes.shape[1]:
                output.reached(finished, band.row0 + len(band.planes["data"]), totals)
            resources.reporter.advance(pixel_bytes * band.planes["data"].size)
        if job.together:
            finished.append(Finished(totals, {}))
        else:
            if image.normalize is not None or image.hot_sigma is not None:
                output.withdraw(finished)
            finished.append(_finished(output.file, image, job, totals))
        output.settle(finished)
    return _together(output, job, finished) if job.together else finished


def _together(output: Output, job: jobs.MasterJob, combined: Sequence[Finished]) -> list[Finished]:
    """Finish images that are divided by one level; those with numbers were by an earlier run."""
    finished = list(combined)
    levels: Mapping[str, float] = finished[0].numbers
    if not levels:
        every = [_planes(output.file, image) for image in job.images]
        levels = finish.flat_levels(every, job.images[0].cell)
    for index, (image, one) in enumerate(zip(job.images, combined, strict=True)):
        if not one.numbers:
            output.withdraw(finished[:index])
            finished[index] = _finished(output.file, image, job, one.totals, levels)
            output.settle(finished)
    return finished


def _tasks(image: jobs.ImageJob, job: jobs.MasterJob, tiling: Tiling, row: int) -> Iterator[Any]:
    """Yield the tasks of an image from a row on."""
    if row == _shape(image)[0]:
        return
    facts = cell.FrameFacts(job.rank, image.weights, _exptimes(job))
    above = 1 if row else 0  # the rows that are there are one band
    heights = _heights(image, tiling, row)
    if image.changed is not None:
        yield from islice(
            image.changed.cells(
                image.recipe, image.calibration, facts, image.uncertainties, heights
            ),
            above,
            None,
        )
        return
    values, recipe = _stored(image), image.recipe
    uncertainties = FrameStack(image.uncertainties) if image.uncertainties else None
    cell.check_known(recipe, uncertainties=uncertainties is not None)
    shape = values.frames[0].shape
    calibration = calibrate.fitted(image.calibration, shape)
    band_job = cell.band_job(
        replace(recipe, rejection=kernels.resolve_rejection(recipe.rejection)),
        calibration,
        facts,
        cell.chunks_of(heights, tiling, shape, calibration),
    )
    token, places = uuid4().hex, cell.places_of(band_job, above)
    combine = cluster.Shared(partial(cell.combine_cells, values, uncertainties, band_job))
    for index in range(0, len(places), tiling.together):
        call = partial(combine, places[index : index + tiling.together])
        yield cluster.Call(f"mf-combine-{token}-{index}", call)


def _stored(image: jobs.ImageJob) -> FrameStack:
    """Return the values of an image as they are stored."""
    return FrameStack(tuple(item.frame for item in image.images))


def _cells(results: Iterator[Any], shape: tuple[int, int], row: int) -> Iterator[BandResult]:
    """Yield the results of one image from a row on."""
    left = (shape[0] - row) * shape[1]
    while left:
        try:
            band: BandResult = next(results)
        except TaskLostError as error:
            first = shape[0] - left // shape[1] + 1
            raise TaskLostError(f"the band from row {first} on: {error}") from None
        left -= band.planes["data"].size
        yield band


def _write(file: write.ImageFile, planes: finish.MasterPlanes, band: BandResult) -> None:
    """Write the planes of a cell to their places."""
    for plane, values in band.planes.items():
        whole = values.shape[1] == planes.shape[1]
        file.write_rows(planes.names[plane], band.row0, values, None if whole else band.column0)


def _planes(file: write.ImageFile, image: jobs.ImageJob) -> finish.MasterPlanes:
    """Return the planes of one image in the file."""
    names = masters.hdu_names(image.name, cell.plane_names(image.recipe))
    return finish.MasterPlanes(file, names, _shape(image))


def _shape(image: jobs.ImageJob) -> tuple[int, int]:
    """Return rows and columns of an image in the file."""
    return image.calibration.kept_shape(image.images[0].frame.shape)


def _finished(
    file: write.ImageFile,
    image: jobs.ImageJob,
    job: jobs.MasterJob,
    totals: masterfile.Totals,
    levels: Mapping[str, float] | None = None,
) -> Finished:
    """Do what needs a whole image; a flat is divided by the levels given, or by its own."""
    planes = _planes(file, image)
    numbers: dict[str, float] = {}
    if image.normalize is not None:
        levels = levels or finish.flat_levels([planes], image.cell)
        numbers |= finish.normalize_flat(planes, image.normalize, levels, image.cell)
    if image.hot_sigma is not None:
        numbers |= finish.flag_hot(planes, image.hot_sigma)
    file.settle(planes.names.values())
    norm = numbers.get("norm", 1.0)
    numbers |= masterfile.quality(planes, totals, image, job, norm)
    return Finished(totals, numbers)


def _with_steps(
    images: Sequence[jobs.ImageJob], tilings: Sequence[Tiling], resources: Resources
) -> Iterator[jobs.ImageJob]:
    """Measure the quantisation step of images once for all bands, where no recipe gives it."""
    found = [
        image.recipe.noise.step or _find_step(image, tiling)
        for image, tiling in zip(images, tilings, strict=True)
    ]
    measured = run_in_order((step for step in found if not _is_number(step)), resources.runner)
    for image, step in zip(images, found, strict=True):
        number = step if _is_number(step) else next(measured)
        noise = replace(image.recipe.noise, step=float(number))
        yield replace(image, recipe=replace(image.recipe, noise=noise))


def _is_number(step: Any) -> bool:
    return isinstance(step, int | float)


def _find_step(image: jobs.ImageJob, tiling: Tiling) -> Any:
    """Return the quantisation step of the values of an image, or a task that finds it."""
    if image.changed is not None:
        return image.changed.step(tiling.rows)
    values = _stored(image)
    unit = values.frames[0].step
    if not unit:
        return 0.0
    return cluster.Call(f"mf-step-{uuid4().hex}", partial(_measure_step, values, unit))


def _measure_step(values: FrameStack, unit: float) -> float:
    return cell.sampled_step(cell.step_sample(values), unit)


def _exptimes(job: jobs.MasterJob) -> tuple[float, ...]:
    """Return the exposure times; empty where one is not known."""
    times = [item.exptime for item in job.inputs if item.exptime is not None]
    return tuple(times) if len(times) == len(job.inputs) else ()


def _heights(image: jobs.ImageJob, tiling: Tiling, row: int) -> tuple[int, ...]:
    """Return the rows of each band of the frames; those above a row of the master are one."""
    trim, height = image.calibration.trim, image.images[0].frame.shape[0]
    above = row + (trim.y0 if trim else 0) if row else 0
    below = tuple(end - start for start, end in tiling.starts(height - above))
    return (above, *below) if row else below
