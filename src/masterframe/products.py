"""From a product of the plan to the job that makes it: masters, levels, noise resolved."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import masterframe.calibrated as frames
from masterframe import freshness, jobs, journal, store
from masterframe.errors import PlanError
from masterframe.fits import masters, tables
from masterframe.model import (
    Association,
    Calibration,
    Config,
    Exposure,
    Image,
    MasterImage,
    Product,
    Recipe,
    Rejection,
)

FAINT = 0.05
"""A flat whose level is below this fraction of the median level of its group saw no light."""


def master_job(
    product: Product, config: Config, out: Path, resources: store.Resources
) -> jobs.MasterJob:
    """Turn a product into the job that makes it: masters found, levels measured, noise resolved.

    Raises
    ------
    MasterframeError
        If a master or an input cannot be read, or no frame is fit to be used.
    """
    exposures = list(product.exposures)
    unfit: list[jobs.LeftOut] = []
    levels: list[tuple[float, ...]] = []
    if product.recipe.scale == "level":
        measured = _levels(product, config, out, resources)
        exposures, levels, unfit = _fit_levels(product, measured)
    recipe, notes = resolve_recipe(product, exposures)
    images = tuple(
        _image_job(product, config, out, recipe, exposures, index, levels)
        for index in range(len(exposures[0].images))
    )
    inputs = tuple(_input(exposure) for exposure in exposures)
    tokens = freshness.master_tokens(product, out)
    path = out / product.output
    journal.make_folder(path.parent)
    return jobs.MasterJob(
        path=path,
        images=images,
        inputs=inputs,
        rank=jobs.canonical_rank(inputs, [exposure.images[0] for exposure in exposures]),
        kind=product.kind,
        unit="" if product.recipe.normalize else "adu",
        left_out=tuple(unfit),
        history=notes,
        token=lambda sums: freshness.product_token(product, config, tokens, sums),
        overwrite=True,
    )


def resolve_recipe(
    product: Product, exposures: Sequence[Exposure]
) -> tuple[Recipe, tuple[str, ...]]:
    """Fill in what the detector says, and give up rejection where it cannot be trusted.

    Fewer than ``min_frames`` frames are combined without rejection. So are fewer than five whose
    noise is not known: the MAD of so few is too rough to tell a good value from a bad one.

    Returns
    -------
    recipe : Recipe
        With gain, read noise and saturation.
    notes : tuple of str
        What was given up, for the header and the observer.
    """
    recipe = product.recipe.recipe
    image = exposures[0].images[0]
    noise = recipe.noise
    known = {(item.images[0].gain, item.images[0].read_noise) for item in exposures}
    if len(known) == 1:
        noise = replace(
            noise,
            gain=image.gain if noise.gain is None else noise.gain,
            read_noise=image.read_noise if noise.read_noise is None else noise.read_noise,
        )
    saturation = recipe.saturation
    if saturation is None and product.recipe.saturation == "auto":
        saturation = image.saturation
    recipe = replace(recipe, noise=noise, saturation=saturation)
    count = len(exposures)
    trusted = count >= jobs.MIN_TRUSTED or (noise.gain and noise.read_noise is not None)
    if recipe.rejection.rule in ("none", "threshold"):
        return recipe, ()
    if count < product.recipe.min_frames:
        why = (
            f"{count} of at least {product.recipe.min_frames} frames: "
            "combined without rejection, marked"
        )
    elif not trusted:
        why = f"{count} frames of unknown noise: combined without rejection"
    else:
        return recipe, ()
    return replace(recipe, rejection=Rejection(rule="none")), (why,)


def _image_job(
    product: Product,
    config: Config,
    out: Path,
    recipe: Recipe,
    exposures: Sequence[Exposure],
    index: int,
    levels: Sequence[Sequence[float]],
) -> jobs.ImageJob:
    images = tuple(exposure.images[index] for exposure in exposures)
    ratios = _ratios(product, exposures)
    calibration = calibration_of(product, config, out, index, ratios)
    own = tuple(item[index] for item in levels)
    if own:
        calibration = replace(calibration, scale=tuple(1 / level for level in own))
    return jobs.ImageJob(
        name=_name(exposures[0], index),
        images=images,
        recipe=recipe,
        calibration=calibration,
        levels=own,
        normalize=product.recipe.flat_minimum if product.recipe.normalize else None,
        hot_sigma=product.recipe.hot_sigma,
    )


def _name(exposure: Exposure, index: int) -> str:
    if len(exposure.images) == 1:
        return ""
    return freshness.image_name(exposure.images[index].frame)


def _ratios(product: Product, exposures: Sequence[Exposure]) -> tuple[float, ...]:
    """Return the dark ratio of the exposures that are used."""
    dark = product.using("dark")
    if dark is None or not dark.ratio:
        return ()
    by_path = {item.path: ratio for item, ratio in zip(product.exposures, dark.ratio, strict=True)}
    return tuple(by_path[exposure.path] for exposure in exposures)


def calibration_of(
    product: Product, config: Config, out: Path, index: int, ratios: tuple[float, ...]
) -> Calibration:
    """Find what one image of a product is calibrated with.

    Raises
    ------
    MasterframeError
        If a master cannot be read or does not fit.
    """
    image = product.exposures[0].images[index]
    name = _name(product.exposures[0], index)
    found = {use.role: _master(use, out, name, image) for use in product.uses}
    dark = product.using("dark")
    overscan = product.recipe.subtract_overscan
    return Calibration(
        overscan=image.overscan if overscan else None,
        trim=image.trim if overscan else None,
        bias=found.get("bias"),
        dark=found.get("dark"),
        dark_holds_bias=bool(dark and dark.holds_bias),
        dark_ratio=ratios,
        flat=found.get("flat"),
        bad_pixels=_bad_pixels(config.bad_pixels, image, trimmed=overscan),
    )


def _bad_pixels(path: str, image: Image, *, trimmed: bool) -> MasterImage | None:
    """Find the bad pixels of an image, in a file of its raw shape or of its trimmed one."""
    if not path:
        return None
    frame = freshness.bad_pixel_frame(path)
    fitting = {image.frame.shape, image.shape if trimmed else image.frame.shape}
    if frame.shape not in fitting:
        shapes = " or ".join(f"{rows} x {columns}" for rows, columns in sorted(fitting))
        raise PlanError(
            f"{path}: {frame.shape[0]} x {frame.shape[1]} (rows x columns) do not fit "
            f"{image.frame.path} with {shapes}"
        )
    return MasterImage(frame)


def _master(use: Association, out: Path, name: str, image: Image) -> MasterImage:
    path = out / f"{use.product}.fits"
    images = masters.open_master(path)
    if name not in images:
        raise PlanError(f"{path}: no image {name or 'in the primary HDU'} to serve as {use.role}")
    found = images[name]
    if found.data.shape != image.shape:
        raise PlanError(
            f"{path}: {found.data.shape[0]} x {found.data.shape[1]} (rows x columns) do not fit "
            f"{image.frame.path} with {image.shape[0]} x {image.shape[1]} after trimming"
        )
    return found


def _levels(
    product: Product, config: Config, out: Path, resources: store.Resources
) -> list[tuple[float, ...]]:
    """Return the level of every image of every exposure."""
    recipe, _ = resolve_recipe(product, product.exposures)
    ratios = _ratios(product, product.exposures)
    by_image = [
        store.measure_levels(
            [exposure.images[index] for exposure in product.exposures],
            recipe,
            calibration_of(product, config, out, index, ratios),
            resources,
        )
        for index in range(len(product.exposures[0].images))
    ]
    return list(zip(*by_image, strict=True))


def _fit_levels(
    product: Product, measured: Sequence[tuple[float, ...]]
) -> tuple[list[Exposure], list[tuple[float, ...]], list[jobs.LeftOut]]:
    """Leave out flats that saw no light, or nothing but saturation.

    Raises
    ------
    PlanError
        If none is left.
    """
    typical = [
        statistics.median([value for value in column if value > 0] or [math.nan])
        for column in zip(*measured, strict=True)
    ]
    used, levels, unfit = [], [], []
    for exposure, own in zip(product.exposures, measured, strict=True):
        reason = next(filter(None, map(_unfit, own, typical)), "")
        if reason:
            unfit.append(jobs.LeftOut(_input(exposure), exposure.images, reason))
        else:
            used.append(exposure)
            levels.append(own)
    if not used:
        raise PlanError(f"no frame of {product.name} has light: {unfit[0].reason}")
    return used, levels, unfit


def _unfit(level: float, typical: float) -> str:
    if math.isnan(level):
        return "fewer than half of its pixels are unsaturated and good"
    if not level > FAINT * typical:
        return f"level {level:.1f} adu, the others have about {typical:.0f}"
    return ""


def _input(exposure: Exposure) -> jobs.Input:
    return jobs.Input(exposure.path, exposure.images[0].header, exposure.exptime, exposure.date_obs)


def calibrated_job(product: Product, config: Config, out: Path) -> frames.CalibratedJob:
    """Turn a science product into the job that writes it.

    Raises
    ------
    MasterframeError
        If a master cannot be read or does not fit.
    """
    (exposure,) = product.exposures
    recipe, _ = resolve_recipe(product, product.exposures)
    ratios = _ratios(product, product.exposures)
    images = tuple(
        frames.CalibratedImage(
            _name(exposure, index),
            image,
            calibration_of(product, config, out, index, ratios),
            recipe,
        )
        for index, image in enumerate(exposure.images)
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
        overwrite=True,
    )
