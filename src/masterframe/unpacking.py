"""Which inputs of a job are read from plain copies in scratch: all that are compressed as a whole.

So are images in tiles that are taller than a band, as each band would unpack its tiles anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from masterframe.calibrated import CalibratedImage, CalibratedJob, band_rows
from masterframe.fits import scratch
from masterframe.jobs import ImageJob
from masterframe.model import Calibration, Frame, Image, MasterImage

Change = Callable[[Frame], Frame]


def frames_of(job: ImageJob | CalibratedImage) -> list[Frame]:
    """Return every frame that a job reads, those of its masters included."""
    images = job.images if isinstance(job, ImageJob) else (job.image,)
    more = job.uncertainties if isinstance(job, ImageJob) else ()
    return [*(image.frame for image in images), *more, *_frames_of(job.calibration)]


def is_compressed(job: ImageJob) -> bool:
    """Return whether a job may need scratch."""
    return any(frame.packing or frame.tiles for frame in frames_of(job))


def with_copies(job: ImageJob, folder: Path, rows: int | None = None) -> ImageJob:
    """Return a job that reads plain copies in a folder, where that is better.

    Parameters
    ----------
    job : ImageJob
        From headers.
    folder : Path
        A scratch folder.
    rows : int, optional
        Rows of a band: images in tiles that are taller are copied, too.
    """

    def change(frame: Frame) -> Frame:
        untiled = rows is not None and frame.tile_rows > rows
        return scratch.in_folder(frame, folder, untiled=untiled)

    return replace(
        job,
        images=tuple(_image(image, change) for image in job.images),
        uncertainties=tuple(change(frame) for frame in job.uncertainties),
        calibration=_calibration(job.calibration, change),
    )


def calibrated_with_copies(job: CalibratedJob, folder: Path) -> CalibratedJob:
    """Return the job of a calibrated frame that reads plain copies in a folder."""

    def change_image(item: CalibratedImage) -> CalibratedImage:
        rows = band_rows(item)

        def change(frame: Frame) -> Frame:
            return scratch.in_folder(frame, folder, untiled=frame.tile_rows > rows)

        calibration = _calibration(item.calibration, change)
        return replace(item, image=_image(item.image, change), calibration=calibration)

    return replace(job, images=tuple(change_image(item) for item in job.images))


def _image(image: Image, change: Change) -> Image:
    return replace(image, frame=change(image.frame))


def _calibration(calibration: Calibration, change: Change) -> Calibration:
    """Return a calibration with every frame that it reads changed."""
    masters: dict[str, Any] = {
        item.name: _master(master, change)
        for item in fields(calibration)
        if isinstance(master := getattr(calibration, item.name), MasterImage)
    }
    frames = tuple(change(frame) for frame in calibration.overscan_frames)
    return replace(calibration, **masters, overscan_frames=frames)


def _master(master: MasterImage, change: Change) -> MasterImage:
    return replace(
        master,
        data=change(master.data),
        uncert=change(master.uncert) if master.uncert else None,
        mask=change(master.mask) if master.mask else None,
    )


def _frames_of(calibration: Calibration) -> Iterator[Frame]:
    for item in fields(calibration):
        master = getattr(calibration, item.name)
        if isinstance(master, MasterImage):
            yield from (frame for frame in (master.data, master.uncert, master.mask) if frame)
