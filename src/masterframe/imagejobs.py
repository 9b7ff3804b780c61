"""The images of a product: which recipe, which masters and which frames each one takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from masterframe import jobs, offsets
from masterframe.errors import PlanError
from masterframe.fits import masters
from masterframe.kernels.small import MIN_TRUSTED
from masterframe.model import (
    Association,
    Calibration,
    Config,
    Exposure,
    Image,
    MasterImage,
    MasterPart,
    Product,
    ProductRecipe,
    Recipe,
    Rejection,
    Section,
)


def resolve_recipes(
    product: Product, exposures: Sequence[Exposure]
) -> tuple[tuple[Recipe, ...], tuple[str, ...]]:
    """Fill in what the detector says, and give up rejection where it cannot be trusted.

    Fewer than ``min_frames`` frames are combined without rejection. So are fewer than five whose
    noise is not known, in any image: the MAD of so few is too rough to tell a good value from a bad
    one.

    Returns
    -------
    recipes : tuple of Recipe
        One an image, with its gain, read noise and saturation.
    notes : tuple of str
        What was given up, for the header and the observer.
    """
    columns = zip(*(exposure.images for exposure in exposures), strict=True)
    recipes = tuple(_with_detector(product.recipe, images) for images in columns)
    why = _why_not_rejected(product.recipe, recipes, len(exposures))
    if not why:
        return recipes, ()
    return tuple(replace(recipe, rejection=Rejection(rule="none")) for recipe in recipes), (why,)


def _with_detector(stanza: ProductRecipe, images: Sequence[Image]) -> Recipe:
    """Return the recipe of one image with what all of its frames say of their detector."""
    recipe = stanza.recipe
    noise, saturation = recipe.noise, recipe.saturation
    known = {(image.gain, image.read_noise) for image in images}
    if len(known) == 1:
        ((gain, read_noise),) = known
        noise = replace(
            noise,
            gain=gain if noise.gain is None else noise.gain,
            read_noise=read_noise if noise.read_noise is None else noise.read_noise,
        )
    if saturation is None and stanza.saturation == "auto":
        saturation = images[0].saturation
    return replace(recipe, noise=noise, saturation=saturation)


def _why_not_rejected(stanza: ProductRecipe, recipes: Sequence[Recipe], count: int) -> str:
    if stanza.recipe.rejection.rule in ("none", "threshold"):
        return ""
    if count < stanza.min_frames:
        return f"{count} of at least {stanza.min_frames} frames: combined without rejection, marked"
    known = all(item.noise.gain and item.noise.read_noise is not None for item in recipes)
    if count < MIN_TRUSTED and not known:
        return f"{count} frames of unknown noise: combined without rejection"
    return ""


def image_job(
    product: Product,
    config: Config,
    out: Path,
    recipe: Recipe,
    exposures: Sequence[Exposure],
    index: int,
) -> jobs.ImageJob:
    """Return the job of one image of a master, with the frames of some of its exposures.

    Raises
    ------
    MasterframeError
        If a master or an overscan cannot be read, or does not fit.
    """
    ratios = ratios_of(product, exposures)
    return jobs.ImageJob(
        name=exposures[0].image_name(index),
        images=tuple(exposure.images[index] for exposure in exposures),
        recipe=recipe,
        calibration=offsets.with_overscan(
            calibration_of(product, config, out, index, ratios),
            [exposure.images[index].frame for exposure in exposures],
        ),
        normalize=product.recipe.flat_minimum if product.recipe.normalize else None,
        cell=exposures[0].cell,
        hot_sigma=product.recipe.hot_sigma,
    )


def ratios_of(product: Product, exposures: Sequence[Exposure]) -> tuple[float, ...]:
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
    name = product.exposures[0].image_name(index)
    found = {
        use.role: _master(use, out, use.parts[index] if use.parts else MasterPart(name), image)
        for use in product.uses
    }
    dark = product.using("dark")
    overscan = product.recipe.subtract_overscan
    cut = next((master for master in found.values() if master.part), None)
    return Calibration(
        overscan=image.overscan if overscan else None,
        trim=_kept(image, trimmed=overscan),
        bad=image.bad,
        amplifiers=image.amplifiers if overscan else (),
        overscan_model=product.recipe.overscan,
        bias=found.get("bias"),
        dark=found.get("dark"),
        dark_holds_bias=bool(dark and dark.holds_bias),
        dark_ratio=ratios,
        flat=found.get("flat"),
        bad_pixels=_bad_pixels(config.bad_pixels, name, image, cut, trimmed=overscan),
    )


def _kept(image: Image, *, trimmed: bool) -> Section | None:
    """Return the part of an image that is kept; all of it by name where parts of it are bad."""
    rows, columns = image.frame.shape
    kept = image.trim if trimmed else None
    return kept or (Section(0, rows, 0, columns) if image.bad else None)


def _bad_pixels(
    path: str, name: str, image: Image, cut: MasterImage | None, *, trimmed: bool
) -> MasterImage | None:
    """Find the bad pixels of an image, in a file of its raw shape or of its trimmed one.

    Of a window whose masters are cut also in one of the shape of these, which is cut likewise.
    """
    if not path:
        return None
    images = masters.open_master(path)
    called = name or image.frame.name
    if (called not in images and len(images) > 1) or (name and len(images) == 1):
        raise PlanError(
            f"{path} holds {', '.join(images) or 'one image'}: none is called "
            f"{called} as that of {image.frame.path}"
        )
    found = images.get(called) or next(iter(images.values()))
    frame = found.data
    if cut and frame.shape == cut.data.shape:
        return MasterImage(frame, part=cut.part)
    fitting = {image.frame.shape, image.shape if trimmed else image.frame.shape}
    if frame.shape not in fitting:
        shapes = " or ".join(f"{rows} x {columns}" for rows, columns in sorted(fitting))
        raise PlanError(
            f"{path}: {frame.shape[0]} x {frame.shape[1]} (rows x columns) do not fit "
            f"{image.frame.path} with {shapes}"
        )
    return MasterImage(frame)


def _master(use: Association, out: Path, part: MasterPart, image: Image) -> MasterImage:
    path = use.file(out)
    images = masters.open_master(path)
    if part.image not in images:
        where = part.image or "in the primary HDU"
        raise PlanError(f"{path}: no image {where} to serve as {use.role}")
    found = replace(images[part.image], part=part.section)
    if found.shape != image.shape:
        raise PlanError(
            f"{path}: {found.shape[0]} x {found.shape[1]} (rows x columns) do not fit "
            f"{image.frame.path} with {image.shape[0]} x {image.shape[1]} after trimming"
        )
    return found


def input_of(exposure: Exposure) -> jobs.Input:
    """Return what a master records of an exposure."""
    single = len(exposure.images) == 1
    header = exposure.images[0].header if single else exposure.header
    return jobs.Input(exposure.path, header, exposure.exptime, exposure.date_obs)


def is_together(product: Product) -> bool:
    """Return whether the images of a flat share one level: there are several, and it is wanted."""
    return product.recipe.normalize == "together" and len(product.exposures[0].images) > 1
