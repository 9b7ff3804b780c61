"""Which exposures go into one product, and why the others go into none."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import median

from masterframe.matching import describe, exposure_lookup, first_failure, selects, text
from masterframe.model import (
    Config,
    Exposure,
    Problem,
    ProductRecipe,
    Scalar,
    Section,
    Tolerances,
)
from masterframe.plan.windows import View, told_name, views_of

MADE = ("bias", "dark", "flat", "science")
"""Kinds of which products are made, each after those that it may need."""


@dataclass(frozen=True)
class Group:
    """Exposures that one stanza makes into one product."""

    recipe: ProductRecipe
    """The stanza."""
    exposures: tuple[Exposure, ...]
    """Sorted by date and path."""
    shared: tuple[tuple[str, Scalar], ...]
    """What they have in common, by field."""

    @property
    def first(self) -> Exposure:
        """The exposure that speaks for all in what they share."""
        return self.exposures[0]

    @cached_property
    def temperature(self) -> float | None:
        """Median detector temperature (degrees C)."""
        return _median(item.temperature for item in self.exposures)

    @cached_property
    def dark_time(self) -> float | None:
        """Median dark time (s)."""
        return _median(item.dark_time for item in self.exposures)

    @cached_property
    def overscan(self) -> bool:
        """Whether an overscan is taken off."""
        images = self.first.images
        return self.recipe.subtract_overscan and any(image.overscans for image in images)

    @cached_property
    def trims(self) -> tuple[Section | None, ...]:
        """The part of each image that is kept."""
        trimmed = self.recipe.subtract_overscan
        return tuple(image.trim if trimmed else None for image in self.first.images)

    @cached_property
    def views(self) -> tuple[View, ...]:
        """Their images as they are kept, and where they lie on the detector."""
        return views_of(self.first, self.trims)


def sort_out(
    exposures: Iterable[Exposure], config: Config
) -> tuple[dict[str, list[Exposure]], list[Problem]]:
    """Give each exposure to the first stanza that takes it.

    One without an image is passed over: a problem of the inventory says why it has none.

    Returns
    -------
    taken : dict of list of Exposure
        By name of the stanza, in the order of the stanzas.
    left_out : list of Problem
        The other exposures, each with the reason.
    """
    taken: dict[str, list[Exposure]] = {name: [] for name in config.recipes}
    left_out: list[Problem] = []
    for exposure in exposures:
        if not exposure.images:
            continue
        name, reason = _stanza(exposure, config)
        if name:
            taken[name].append(exposure)
        else:
            left_out.append(Problem(exposure.path, reason))
    return taken, left_out


def groups_of(recipe: ProductRecipe, exposures: Sequence[Exposure], config: Config) -> list[Group]:
    """Return the groups of one stanza; a science exposure is a group of its own."""
    if recipe.kind == "science":
        return [Group(recipe, (item,), _shared(item, recipe, config)) for item in exposures]
    apart: dict[tuple[object, ...], list[Exposure]] = defaultdict(list)
    for item in exposures:
        apart[_shared(item, recipe, config), read_out(item), item.applied].append(item)
    groups = []
    for members in apart.values():
        for cluster in _clusters(members, recipe, config.tolerances):
            ordered = sorted(cluster, key=lambda item: (item.date_obs, item.path))
            shared = _shared(ordered[0], recipe, config)
            groups.append(Group(recipe, tuple(ordered), shared))
    return groups


def read_out(exposure: Exposure) -> tuple[object, ...]:
    """Return what must be equal, image by image, for exposures to be combined."""
    several = len(exposure.images) > 1
    return tuple(
        (
            *(told_name(image), image.trim, image.overscans),
            *((image.frame.shape, text(image.header.get("DETSEC"))) if several else ()),
        )
        for image in exposure.images
    )


def _stanza(exposure: Exposure, config: Config) -> tuple[str, str]:
    """Return the name of the stanza that takes an exposure, or '' and why none does."""
    lookup = exposure_lookup(exposure)
    refused = next((one for one in config.exclude if selects(one, lookup)), None)
    if refused is not None:
        return "", f"excluded: {describe(refused)}"
    if config.select and not any(selects(one, lookup) for one in config.select):
        wanted = "; or ".join(describe(one) for one in config.select)
        return "", f"not selected: {wanted}"
    if exposure.kind is None:
        return "", "its kind is not known"
    if exposure.kind not in MADE:
        grounds = "" if exposure.certain else f"; that it is one rests on {exposure.rule}"
        return "", f"{exposure.kind}: no product is made of this kind{grounds}"
    if exposure.kind == "dark" and exposure.dark_time is None:
        return "", "a dark without an exposure time"
    reasons = []
    for name, recipe in config.recipes.items():
        if recipe.kind == exposure.kind:
            failures = [first_failure(one, lookup) for one in recipe.select]
            if not failures or not all(failures):
                return name, ""
            reasons.append(f"recipe {name!r} does not take it: {'; '.join(failures)}")
    return "", "; ".join(reasons) or f"no recipe of kind {exposure.kind}"


def _shared(
    exposure: Exposure, recipe: ProductRecipe, config: Config
) -> tuple[tuple[str, Scalar], ...]:
    """Return what must be equal in a group, by field."""
    shared: list[tuple[str, Scalar]] = []
    if config.nights == "apart" or recipe.kind == "science":
        shared.append(("night", exposure.night))
    shared += exposure.setup
    if recipe.kind in ("flat", "science"):
        shared += [("filter", exposure.filter), ("technique", exposure.technique)]
        shared += exposure.optics
    if recipe.kind == "flat":
        shared.append(("light", exposure.light))
    lookup = exposure_lookup(exposure)
    names = {name for name, _ in shared}
    shared += [(key, text(lookup(key))) for key in recipe.group_by if key not in names]
    return tuple(shared)


def _clusters(
    members: Sequence[Exposure], recipe: ProductRecipe, tolerances: Tolerances
) -> list[list[Exposure]]:
    """Return exposures apart whose temperature or, for darks, time is too far apart."""
    clusters = [list(members)]
    if recipe.kind in ("bias", "dark"):
        span = 2 * tolerances.temperature
        clusters = _split(clusters, lambda item: item.temperature, lambda _: span)
    if recipe.kind == "dark":
        clusters = _split(
            clusters,
            lambda item: item.dark_time,
            lambda first: max(
                tolerances.exptime_fraction * first, min(tolerances.exptime, 0.1 * first)
            ),
        )
    return clusters


def _split(
    clusters: Iterable[Sequence[Exposure]],
    value: Callable[[Exposure], float | None],
    span: Callable[[float], float],
) -> list[list[Exposure]]:
    """Split clusters so that values in one lie within a span, a function of the smallest."""
    split: list[list[Exposure]] = []
    for cluster in clusters:
        known = [(found, item) for item in cluster if (found := value(item)) is not None]
        start: float | None = None
        for found, item in sorted(known, key=lambda pair: (pair[0], pair[1].path)):
            if start is None or found - start > span(start):
                start = found
                split.append([])
            split[-1].append(item)
        unknown = [item for item in cluster if value(item) is None]
        split += [unknown] if unknown else []
    return split


def _median(values: Iterable[float | None]) -> float | None:
    """Return the median of the known values."""
    known = [value for value in values if value is not None]
    return median(known) if known else None
