"""From a product of the plan to the job that makes it."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

import masterframe.calibrated as frames
from masterframe import freshness, jobs, journal, store
from masterframe.assembly import assemble
from masterframe.fits import tables
from masterframe.imagejobs import (
    calibration_of,
    image_job,
    input_of,
    is_together,
    ratios_of,
    resolve_recipes,
)
from masterframe.model import Config, Exposure, Product
from masterframe.screening import screen


def master_job(
    product: Product, config: Config, out: Path, resources: store.Resources
) -> jobs.MasterJob:
    """Turn a product into the job that makes it: masters found, levels measured, noise resolved.

    Raises
    ------
    MasterframeError
        If a master or an input cannot be read, or no frame is fit to be used.
    """
    found = screen(product, config, out, resources)
    exposures = found.exposures
    recipes, notes = resolve_recipes(product, exposures)
    inputs = tuple(input_of(exposure) for exposure in exposures)
    rank = jobs.canonical_rank(inputs, [exposure.images[0] for exposure in exposures])
    adjust, first = product.recipe.adjust, rank.index(0)
    images = tuple(
        jobs.adjusted(
            found.with_numbers(
                image_job(product, config, out, recipe, exposures, index),
                index,
                light=product.kind == "flat",
            ),
            adjust,
            found.facts_of(index),
            first,
        )
        for index, recipe in enumerate(recipes)
    )
    tokens = freshness.master_tokens(product, out)
    path = out / product.output
    journal.make_folder(path.parent)
    return jobs.MasterJob(
        path=path,
        images=images,
        inputs=inputs,
        rank=rank,
        kind=product.kind,
        temperature=_temperature(exposures),
        unit="" if product.recipe.normalize else exposures[0].images[0].unit,
        left_out=found.left_out,
        flags=tuple(found.reasons.get(exposure.path, "") for exposure in exposures),
        limits=config.quality.masters,
        adjust=adjust,
        history=notes,
        token=lambda sums: freshness.product_token(product, config, tokens, sums),
        overwrite=True,
        part=journal.place_of_part(out, product.output),
        together=is_together(product),
        verify=config.verify_checksums != "never",
    )


def _temperature(exposures: Sequence[Exposure]) -> float | None:
    known = [item.temperature for item in exposures if item.temperature is not None]
    return round(statistics.median(known), 3) if known else None


def calibrated_job(product: Product, config: Config, out: Path) -> frames.CalibratedJob:
    """Turn a science product into the job that writes it.

    Raises
    ------
    MasterframeError
        If a master cannot be read or does not fit.
    """
    (exposure,) = product.exposures
    recipes, _ = resolve_recipes(product, product.exposures)
    ratios = ratios_of(product, product.exposures)
    images = tuple(
        frames.CalibratedImage(
            exposure.image_name(index),
            image,
            calibration_of(product, config, out, index, ratios),
            recipe,
        )
        for index, (image, recipe) in enumerate(zip(exposure.images, recipes, strict=True))
    )
    tokens = freshness.master_tokens(product, out)
    frame = exposure.images[0].frame
    return frames.CalibratedJob(
        path=out / product.output,
        images=images,
        input=tables.InputRow(
            path=exposure.path,
            size=frame.size,
            mtime_ns=frame.mtime_ns,
            date_obs=exposure.date_obs,
            exptime=exposure.exptime,
        ),
        token=lambda sums: freshness.product_token(product, config, tokens, sums),
        masters=tuple((use.role, Path(use.product).name) for use in product.uses),
        assembly=assemble(exposure.images) if product.recipe.assemble else None,
        overwrite=True,
        verify=config.verify_checksums != "never",
    )
