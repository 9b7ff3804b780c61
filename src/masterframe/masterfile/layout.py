"""The planes of a master file and their headers."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from masterframe import (
    __version__,
    cell,
    fits,
    scaling,
)
from masterframe.fits import headers, legal, write
from masterframe.fits.cards import Card
from masterframe.fits.masters import hdu_labels, hdu_names
from masterframe.jobs import ImageJob, MasterJob


def facts_of(job: MasterJob) -> headers.MasterFacts:
    """Return what the header of the master says besides what its inputs share."""
    recipe, calibration = job.images[0].recipe, job.images[0].calibration
    propagated = len(job.inputs) == 1 and recipe.noise.gain and recipe.noise.read_noise is not None
    return headers.MasterFacts(
        inputs=tuple(
            headers.InputFacts(item.name, item.exptime, item.date_obs) for item in job.inputs
        ),
        recipe=recipe,
        kind=job.kind,
        unit=job.unit,
        temperature=job.temperature,
        bias_subtracted=bool(calibration.bias) and not calibration.dark_holds_bias,
        uncertainty="propagated" if propagated else "empirical",
        version=__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        normalized=_normalized(job),
        history=(*job.history, *scaling.describe(job.adjust, job.inputs[0].name)),
    )


def _normalized(job: MasterJob) -> str:
    """Return how the level of the images of a flat is found; '' for one image, or no flat."""
    if len(job.images) == 1 or job.images[0].normalize is None:
        return ""
    return "together" if job.together else "apart"


def plane_specs(job: MasterJob, facts: headers.MasterFacts) -> list[write.PlaneSpec]:
    """Lay out the file: one image fills the primary HDU, several follow an empty one."""
    if len(job.images) == 1:
        (image,) = job.images
        header = _image_header(image, fits.read_whole_header(image.images[0].frame))
        made = legal.with_cards(header, headers.master_cards(facts))
        return _image_specs(image, job.unit, made)
    base = fits.read_header(job.inputs[0].path, 0)
    common = headers.master_header(base, [item.header for item in job.inputs])
    made = legal.with_cards(common, headers.master_cards(facts))
    specs = [write.PlaneSpec("", "uint8", (), made)]
    for image in job.images:
        frame = image.images[0].frame
        header = _image_header(image, fits.read_header(frame.path, frame.hdu))
        made = legal.with_cards(header, headers.extension_cards(job.unit))
        specs += _image_specs(image, job.unit, made)
    return specs


def _image_header(image: ImageJob, base: Sequence[Card]) -> list[Card]:
    cards = [item.header for item in image.images]
    calibration = image.calibration
    return headers.master_header(base, cards, calibration.trim, calibration.amplifiers)


def _image_specs(image: ImageJob, unit: str, header: Sequence[Card]) -> list[write.PlaneSpec]:
    planes = cell.plane_names(image.recipe)
    frame = image.images[0].frame
    names = hdu_names(image.name, planes)
    labels = hdu_labels(image.name, planes, frame)
    return [
        write.PlaneSpec(
            names[plane],
            str(_stored_type(plane, image)),
            image.calibration.kept_shape(frame.shape),
            header if plane == "data" else headers.plane_header(plane, unit),
            labels[plane],
        )
        for plane in planes
    ]


def _stored_type(plane: str, image: ImageJob) -> np.dtype[Any]:
    """Return the type of a plane in the file: counts take two bytes where they fit."""
    kind = cell.plane_type(plane, image.recipe)
    few = kind == np.int32 and len(image.images) <= np.iinfo(np.int16).max
    return np.dtype(np.int16) if few else kind
