"""The DATASUM of every input, of what the bands saw of it."""

from __future__ import annotations

from collections.abc import Sequence

from masterframe import fits
from masterframe.jobs import ImageJob, MasterJob
from masterframe.masterfile.totals import Totals

SPARE_ROWS = 64
"""Trimmed rows up to which the DATASUM of an input is completed row by row, not read anew."""


def datasums_of(image: ImageJob, totals: Totals) -> list[int]:
    """Return the DATASUM of each input: of what the bands saw, and of the rows trimmed."""
    frames = [item.frame for item in image.images]
    trim, height = image.calibration.trim, frames[0].shape[0]
    if totals.datasum is None:
        return [fits.datasum(frame) for frame in frames]
    sums = [int(total) for total in totals.datasum]
    trimmed = [*range(trim.y0), *range(trim.y1, height)] if trim else []
    if len(trimmed) > SPARE_ROWS:
        return [fits.datasum(frame) for frame in frames]
    reader = fits.StackReader(frames)
    for row in trimmed:
        _, more = reader.read_summed(range(row, row + 1), range(row, row + 1))
        if not more.size:
            return [fits.datasum(frame) for frame in frames]
        sums = [total + int(words) for total, words in zip(sums, more, strict=True)]
    return [_folded(total) for total in sums]


def check_datasums(job: MasterJob, datasums: Sequence[Sequence[int]]) -> None:
    """Compare what was read of every input with its DATASUM card, where it has one.

    Raises
    ------
    FrameError
        If one differs.
    """
    for image, sums in zip(job.images, datasums, strict=True):
        for item, found in zip(image.images, sums, strict=True):
            fits.check_datasum(item.frame, found)


def _folded(total: int) -> int:
    """Return a sum of 32-bit words as FITS wants it: carries are added again at the low end."""
    while total >> 32:
        total = (total & 0xFFFFFFFF) + (total >> 32)
    return total


def named_sums(job: MasterJob, datasums: Sequence[Sequence[int]]) -> list[tuple[str, int]]:
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
