"""Which frames a master is made of: those with light that are like the others of their group."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from masterframe import jobs, readout, scaling, store
from masterframe.errors import PlanError
from masterframe.imagejobs import image_job, input_of, is_together, resolve_recipes
from masterframe.model import Config, Exposure, Product
from masterframe.quality.frames import Group, fault, group_numbers, have_majority, judge, unlike
from masterframe.quality.sketch import Sketch
from masterframe.quality.transfer import Transfer
from masterframe.quality.verdicts import Check

FAINT = 0.05
"""A flat whose level is below this fraction of the median level of its group saw no light."""
SKY_WORDS = ("sky", "twi", "dusk", "dawn")
"""Words in the header of a flat whose light fades."""


@dataclass(frozen=True)
class Screened:
    """The frames that are used, and what was measured of them; mappings are by path."""

    exposures: tuple[Exposure, ...]
    """Those that are used."""
    left_out: tuple[jobs.LeftOut, ...]
    """The others, each with the reason."""
    facts: Mapping[str, tuple[scaling.FrameFacts, ...]]
    """What each exposure is adjusted by, image by image."""
    reasons: Mapping[str, str]
    """What is wrong with an exposure beside the others, '' with a good one."""
    sketches: Mapping[str, Sequence[Sketch]]
    """Empty where frames are not tested."""
    judged: Mapping[str, Sequence[Sequence[Check]]]
    """The tests of each image of each exposure, likewise."""

    def facts_of(self, index: int) -> list[scaling.FrameFacts]:
        """Return what one image of each exposure that is used is adjusted by."""
        return [self.facts[exposure.path][index] for exposure in self.exposures]

    def with_numbers(self, image: jobs.ImageJob, index: int, *, light: bool) -> jobs.ImageJob:
        """Return an image with levels and noises of its frames, and what they say together."""
        if not self.sketches:
            return image
        sketches = [self.sketches[exposure.path][index] for exposure in self.exposures]
        judged = [self.judged[exposure.path][index] for exposure in self.exposures]
        kept = readout.places(image.calibration.amplifiers)
        sections = [kept[one.data] for one in image.calibration.amplifiers]
        transfer = Transfer(sketches, light=light)
        return replace(
            image,
            levels=tuple(sketch.level for sketch in sketches),
            unlike=tuple(map(unlike, judged)),
            pixel_noises=transfer.noises(),
            extra={**group_numbers(sketches), **transfer.amplifier_numbers(sections)},
        )


def screen(product: Product, config: Config, out: Path, resources: store.Resources) -> Screened:
    """Measure the frames of a product, compare them, and choose those that are used.

    Parameters
    ----------
    product : Product
        What is made, of which exposures.
    config : Config
        Its limits of frames, and whether those beyond them are left out.
    out : Path
        Folder of the products, where masters are found.
    resources : Resources
        Where frames are measured.

    Raises
    ------
    MasterframeError
        If a master or an input cannot be read, or no frame is fit to be used.
    """
    facts = _facts(product, config, out, resources)
    lit, unfit = _fit(product, facts)
    sketches = _sketches(product, config, out, lit, resources)
    judged = _judged(product, config, lit, sketches)
    reasons = {path: fault(sum(own, start=())) for path, own in judged.items()}
    leave_out = config.quality.frames.action == "leave-out" and have_majority([*reasons.values()])
    odd = [exposure for exposure in lit if leave_out and reasons.get(exposure.path)]
    unfit += [
        _left_out(item, reasons[item.path], sketches[item.path], judged[item.path]) for item in odd
    ]
    return Screened(
        exposures=tuple(exposure for exposure in lit if exposure not in odd),
        left_out=tuple(unfit),
        facts=facts,
        reasons=reasons,
        sketches=sketches,
        judged=judged,
    )


def _facts(
    product: Product, config: Config, out: Path, resources: store.Resources
) -> dict[str, tuple[scaling.FrameFacts, ...]]:
    """Return what each exposure is adjusted by, image by image, by its path."""
    exposures = product.exposures
    recipes, _ = resolve_recipes(product, exposures)
    inputs = [input_of(exposure) for exposure in exposures]
    images = [
        image_job(product, config, out, recipe, exposures, index)
        for index, recipe in enumerate(recipes)
    ]
    columns = store.frame_facts(images, inputs, product.recipe.adjust, resources)
    facts = {
        exposure.path: own
        for exposure, own in zip(exposures, zip(*columns, strict=True), strict=True)
    }
    if is_together(product):
        return {path: scaling.together(own) for path, own in facts.items()}
    return facts


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
            unfit.append(jobs.LeftOut(input_of(exposure), exposure.images, reason, own))
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
    images = [
        image_job(product, config, out, recipe, exposures, index)
        for index, recipe in enumerate(recipes)
    ]
    columns = store.sketch_images(images, resources, far=product.kind != "flat")
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
        input_of(exposure), exposure.images, reason, levels, tuple(map(unlike, judged))
    )
