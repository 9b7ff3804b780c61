"""The table INPUTS, and the record of how each image was made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from masterframe import (
    fits,
    kernels,
)
from masterframe.fits import records, tables
from masterframe.jobs import ImageJob, Input, MasterJob
from masterframe.masterfile.totals import Totals
from masterframe.model import Frame, MasterImage


def inputs_table(
    job: MasterJob, totals: Sequence[Totals], datasums: Sequence[Sequence[int]]
) -> Any:
    """Return the table INPUTS: a row an input image, those that were left out at the end.

    Its header says how each image was made, so that `masterframe.explain` can repeat it.
    """
    rows = [
        _input_row(job, image, total, sums, index)
        for image, total, sums in zip(job.images, totals, datasums, strict=True)
        for index in range(len(job.inputs))
    ]
    for item in job.left_out:
        for image, raw in zip(job.images, item.images, strict=True):
            row = _unused_row(item.source, image.name, raw.frame)
            place = job.images.index(image)
            level = item.levels[place] if item.levels else None
            unlike = item.unlike[place] if item.unlike else None
            found = fits.datasum(raw.frame)
            rows.append(replace(row, status=item.reason, datasum=found, level=level, unlike=unlike))
    return tables.inputs_table(
        rows, [_record(image, together=job.together) for image in job.images]
    )


def _record(image: ImageJob, *, together: bool) -> records.ImageRecord:
    """Return how an image was made, in the types that its card holds."""
    calibration, recipe = image.calibration, image.recipe
    rejection = kernels.resolve_rejection(recipe.rejection)
    return records.ImageRecord(
        extension=image.name,
        frames=len(image.images),
        recipe=replace(recipe, rejection=rejection),
        overscan=calibration.overscan,
        trim=calibration.trim,
        amplifiers=calibration.amplifiers,
        bad=calibration.bad,
        overscan_model=calibration.overscan_model,
        bias=_operand(calibration.bias),
        dark=_operand(calibration.dark),
        dark_holds_bias=calibration.dark_holds_bias,
        flat=_operand(calibration.flat),
        bad_pixels=_operand(calibration.bad_pixels),
        normalize=image.normalize,
        together=together,
        hot_sigma=image.hot_sigma,
        uncertainties=bool(image.uncertainties),
        changed=image.changed is not None,
    )


def _operand(master: MasterImage | None) -> records.Operand | None:
    if master is None:
        return None
    return records.Operand(
        path=master.data.path,
        hdu=master.data.hdu,
        datasum=fits.datasum(master.data),
        uncert=master.uncert.hdu if master.uncert else None,
        mask=master.mask.hdu if master.mask else None,
        part=master.part,
    )


def _unused_row(source: Input, extension: str, frame: Frame) -> tables.InputRow:
    return tables.InputRow(
        path=source.path,
        extension=extension,
        hdu=frame.hdu,
        plane=frame.plane,
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
        dark_ratio=calibration.dark_ratio[index] if calibration.dark_ratio else 1.0,
        level=image.levels[index] if image.levels else None,
        scale=calibration.scale[index] if calibration.scale else 1.0,
        zero=calibration.zero[index] if calibration.zero else 0.0,
        weight=image.weights[index] if image.weights else 1.0,
        kept=kept,
        rejected_low=int(counts["low"][index]),
        rejected_high=int(counts["high"][index]),
        missing=int(counts["missing"][index]),
        noise=float(totals.noise[index]) if kept else None,
        pixelnoise=image.pixel_noises[index][0] if image.pixel_noises else None,
        unlike=image.unlike[index] if image.unlike else None,
        pixelsignal=image.pixel_noises[index][1] if image.pixel_noises else None,
        status=_status(kept, job.flags[index] if job.flags else ""),
    )


def _status(kept: int, flag: str) -> str:
    if not kept:
        return "nothing of it was kept"
    return f"used, but {flag}" if flag else "used"
