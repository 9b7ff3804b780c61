"""From a product of the plan to the job that makes it: masters, levels, noise resolved."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import masterframe.calibrated as frames
from masterframe import freshness, jobs, journal, offsets, readout, scaling, store
from masterframe.assembly import assemble
from masterframe.errors import PlanError
from masterframe.fits import masters, tables
from masterframe.kernels.small import MIN_TRUSTED
from masterframe.model import (
    Association,
    Calibration,
    Config,
    Exposure,
    Image,
    MasterImage,
    Product,
    ProductRecipe,
    Recipe,
    Rejection,
    Section,
)
from masterframe.quality.frames import (
    Group,
    fault,
    group_numbers,
    have_majority,
    judge,
    unlike,
)
from masterframe.quality.sketch import Sketch
from masterframe.quality.transfer import amplifier_numbers, pixel_noises
from masterframe.quality.verdicts import Check

FAINT = 0.05
"""A flat whose level is below this fraction of the median level of its group saw no light."""
SKY_WORDS = ("sky", "twi", "dusk", "dawn")
"""Words in the header of a flat whose light fades."""


def master_job(
    product: Product, config: Config, out: Path, resources: store.Resources
) -> jobs.MasterJob:
    """Turn a product into the job that makes it: masters found, levels measured, noise resolved.

    Raises
    ------
    MasterframeError
        If a master or an input cannot be read, or no frame is fit to be used.
    """
    facts, together = _frame_facts(product, config, out, resources), _is_together(product)
    if together:
        facts = {path: scaling.together(own) for path, own in facts.items()}
    lit, unfit = _fit(product, facts)
    sketches = _sketches(product, config, out, lit, resources)
    judged = _judged(product, config, lit, sketches)
    reasons = {path: fault(sum(own, start=())) for path, own in judged.items()}
    leave_out = config.quality.frames.action == "leave-out" and have_majority([*reasons.values()])
    odd = [exposure for exposure in lit if leave_out and reasons.get(exposure.path)]
    unfit += [
        _left_out(item, reasons[item.path], sketches[item.path], judged[item.path]) for item in odd
    ]
    exposures = [exposure for exposure in lit if exposure not in odd]
    recipes, notes = resolve_recipes(product, exposures)
    inputs = tuple(_input(exposure) for exposure in exposures)
    rank = jobs.canonical_rank(inputs, [exposure.images[0] for exposure in exposures])
    adjust, first = product.recipe.adjust, rank.index(0)
    images = tuple(
        jobs.adjusted(
            _with_sketches(
                _image_job(product, config, out, recipe, exposures, index),
                [sketches[exposure.path][index] for exposure in exposures if sketches],
                [judged[exposure.path][index] for exposure in exposures if judged],
                light=product.kind == "flat",
            ),
            adjust,
            [facts[exposure.path][index] for exposure in exposures],
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
        left_out=tuple(unfit),
        flags=tuple(reasons.get(exposure.path, "") for exposure in exposures),
        limits=config.quality.masters,
        adjust=adjust,
        history=notes,
        token=lambda sums: freshness.product_token(product, config, tokens, sums),
        overwrite=True,
        part=journal.place_of_part(out, product.output),
        together=together,
        verify=config.verify_checksums != "never",
    )


def _is_together(product: Product) -> bool:
    """Return whether the images of a flat share one level: there are several, and it is wanted."""
    return product.recipe.normalize == "together" and len(product.exposures[0].images) > 1


def _temperature(exposures: Sequence[Exposure]) -> float | None:
    known = [item.temperature for item in exposures if item.temperature is not None]
    return round(statistics.median(known), 3) if known else None


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


def _image_job(
    product: Product,
    config: Config,
    out: Path,
    recipe: Recipe,
    exposures: Sequence[Exposure],
    index: int,
) -> jobs.ImageJob:
    ratios = _ratios(product, exposures)
    return jobs.ImageJob(
        name=_name(exposures[0], index),
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


def _name(exposure: Exposure, index: int) -> str:
    if len(exposure.images) == 1:
        return ""
    return exposure.images[index].frame.name


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
        trim=_kept(image, trimmed=overscan),
        bad=image.bad,
        amplifiers=image.amplifiers if overscan else (),
        overscan_model=product.recipe.overscan,
        bias=found.get("bias"),
        dark=found.get("dark"),
        dark_holds_bias=bool(dark and dark.holds_bias),
        dark_ratio=ratios,
        flat=found.get("flat"),
        bad_pixels=_bad_pixels(config.bad_pixels, name, image, trimmed=overscan),
    )


def _kept(image: Image, *, trimmed: bool) -> Section | None:
    """Return the part of an image that is kept; all of it by name where parts of it are bad."""
    rows, columns = image.frame.shape
    kept = image.trim if trimmed else None
    return kept or (Section(0, rows, 0, columns) if image.bad else None)


def _bad_pixels(path: str, name: str, image: Image, *, trimmed: bool) -> MasterImage | None:
    """Find the bad pixels of an image, in a file of its raw shape or of its trimmed one."""
    if not path:
        return None
    images = masters.open_master(path)
    if (name not in images and len(images) > 1) or (name and len(images) == 1):
        raise PlanError(
            f"{path} holds {', '.join(images) or 'one image'}: none is called "
            f"{name or image.frame.name} as that of {image.frame.path}"
        )
    found = images.get(name) or next(iter(images.values()))
    frame = found.data
    fitting = {image.frame.shape, image.shape if trimmed else image.frame.shape}
    if frame.shape not in fitting:
        shapes = " or ".join(f"{rows} x {columns}" for rows, columns in sorted(fitting))
        raise PlanError(
            f"{path}: {frame.shape[0]} x {frame.shape[1]} (rows x columns) do not fit "
            f"{image.frame.path} with {shapes}"
        )
    return MasterImage(frame)


def _master(use: Association, out: Path, name: str, image: Image) -> MasterImage:
    path = use.file(out)
    images = masters.open_master(path)
    if name not in images:
        raise PlanError(f"{path}: no image {name or 'in the primary HDU'} to serve as {use.role}")
    found = replace(images[name], part=use.part)
    if found.shape != image.shape:
        raise PlanError(
            f"{path}: {found.shape[0]} x {found.shape[1]} (rows x columns) do not fit "
            f"{image.frame.path} with {image.shape[0]} x {image.shape[1]} after trimming"
        )
    return found


def _frame_facts(
    product: Product, config: Config, out: Path, resources: store.Resources
) -> dict[str, tuple[scaling.FrameFacts, ...]]:
    """Return what each exposure is adjusted by, image by image, by its path."""
    exposures = product.exposures
    recipes, _ = resolve_recipes(product, exposures)
    inputs = [_input(exposure) for exposure in exposures]
    columns = [
        store.frame_facts(
            _image_job(product, config, out, recipe, exposures, index),
            inputs,
            product.recipe.adjust,
            resources,
        )
        for index, recipe in enumerate(recipes)
    ]
    return {
        exposure.path: facts
        for exposure, facts in zip(exposures, zip(*columns, strict=True), strict=True)
    }


def _fit(
    product: Product, facts: Mapping[str, Sequence[scaling.FrameFacts]]
) -> tuple[list[Exposure], list[jobs.LeftOut]]:
    """Leave out frames that saw no light, or nothing but saturation, where levels scale them.

    Raises
    ------
    PlanError
        If none is left.
    """
    name = scaling.statistic_of(product.recipe.adjust.scale)
    if not name:
        return list(product.exposures), []
    levels = {path: [fact.measured[name] for fact in own] for path, own in facts.items()}
    typical = [
        statistics.median([value for value in column if value > 0] or [math.nan])
        for column in zip(*levels.values(), strict=True)
    ]
    used, unfit = [], []
    for exposure in product.exposures:
        reason = next(filter(None, map(_unfit, levels[exposure.path], typical)), "")
        if reason:
            own = tuple(levels[exposure.path])
            unfit.append(jobs.LeftOut(_input(exposure), exposure.images, reason, own))
        else:
            used.append(exposure)
    if not used:
        raise PlanError(f"no frame of {product.name} has light: {unfit[0].reason}")
    return used, unfit


def _unfit(level: float, typical: float) -> str:
    if math.isnan(level):
        return "fewer than half of its pixels are unsaturated and good"
    if not level > FAINT * typical:
        others = f", the others have about {typical:.0f}" if math.isfinite(typical) else ""
        return f"level {level:.1f} adu{others}"
    return ""


def _sketches(
    product: Product,
    config: Config,
    out: Path,
    exposures: Sequence[Exposure],
    resources: store.Resources,
) -> dict[str, tuple[Sketch, ...]]:
    """Return the sketches of each exposure's images by its path; none where nothing is tested."""
    if config.quality.frames.action == "off":
        return {}
    recipes, _ = resolve_recipes(product, exposures)
    columns = [
        store.sketch_frames(
            _image_job(product, config, out, recipe, exposures, index),
            resources,
            far=product.kind != "flat",
        )
        for index, recipe in enumerate(recipes)
    ]
    return {
        exposure.path: own
        for exposure, own in zip(exposures, zip(*columns, strict=True), strict=True)
    }


def _judged(
    product: Product,
    config: Config,
    exposures: Sequence[Exposure],
    sketches: Mapping[str, Sequence[Sketch]],
) -> dict[str, tuple[tuple[Check, ...], ...]]:
    """Return the tests of each image of each exposure beside the others, by its path."""
    if not sketches:
        return {}
    group = Group(
        kind=product.kind,
        overscan=bool(product.recipe.subtract_overscan and exposures[0].images[0].overscans),
        sky=any(_is_sky(exposure) for exposure in exposures),
    )
    columns = zip(*(sketches[exposure.path] for exposure in exposures), strict=True)
    images = [judge(column, group, config.quality.frames) for column in columns]
    frames = zip(*images, strict=True)
    return {exposure.path: own for exposure, own in zip(exposures, frames, strict=True)}


def _is_sky(exposure: Exposure) -> bool:
    """Return whether a flat is one of the sky, by the words of its header."""
    words = f"{exposure.imagetyp} {exposure.object} {exposure.header.get('OBSTYPE')}".lower()
    return any(word in words for word in SKY_WORDS)


def _left_out(
    exposure: Exposure,
    reason: str,
    sketches: Sequence[Sketch],
    judged: Sequence[Sequence[Check]],
) -> jobs.LeftOut:
    levels = tuple(sketch.level for sketch in sketches)
    return jobs.LeftOut(
        _input(exposure), exposure.images, reason, levels, tuple(map(unlike, judged))
    )


def _with_sketches(
    image: jobs.ImageJob,
    sketches: Sequence[Sketch],
    judged: Sequence[Sequence[Check]],
    *,
    light: bool,
) -> jobs.ImageJob:
    """Return an image with the levels and noises of its frames, and what they say together."""
    if not sketches:
        return image
    kept = readout.places(image.calibration.amplifiers)
    sections = [kept[one.data] for one in image.calibration.amplifiers]
    return replace(
        image,
        levels=tuple(sketch.level for sketch in sketches),
        unlike=tuple(map(unlike, judged)),
        pixel_noises=pixel_noises(sketches, light=light),
        extra={
            **group_numbers(sketches),
            **amplifier_numbers(sketches, sections, light=light),
        },
    )


def _input(exposure: Exposure) -> jobs.Input:
    single = len(exposure.images) == 1
    header = exposure.images[0].header if single else exposure.header
    return jobs.Input(exposure.path, header, exposure.exptime, exposure.date_obs)


def calibrated_job(product: Product, config: Config, out: Path) -> frames.CalibratedJob:
    """Turn a science product into the job that writes it.

    Raises
    ------
    MasterframeError
        If a master cannot be read or does not fit.
    """
    (exposure,) = product.exposures
    recipes, _ = resolve_recipes(product, product.exposures)
    ratios = _ratios(product, product.exposures)
    images = tuple(
        frames.CalibratedImage(
            _name(exposure, index),
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
