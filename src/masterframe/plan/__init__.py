"""A night's exposures and a configuration become a plan: products, and the reason for each choice.

`groups` sorts exposures into products, `associate` finds the masters that a product takes, `names`
makes file names that are safe. No pixel is read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from masterframe.assembly import assemble
from masterframe.errors import FrameError
from masterframe.kernels.small import MIN_TRUSTED, few_frames
from masterframe.matching import text
from masterframe.model import Config, Exposure, Plan, Problem, Product, StoredMaster
from masterframe.plan import lacking, names
from masterframe.plan.associate import Choice, Shelf
from masterframe.plan.groups import MADE, Group, groups_of, read_out, sort_out

__all__ = ["make_plan"]


def make_plan(
    exposures: Iterable[Exposure],
    problems: Iterable[Problem],
    config: Config,
    library: Iterable[StoredMaster] = (),
) -> Plan:
    """Decide what is made of a night, from what, and with which masters.

    Parameters
    ----------
    exposures : iterable of Exposure
        What `masterframe.inventory.scan_night` found.
    problems : iterable of Problem
        Files that it refused; they are handed on.
    config : Config
        Stanzas, selections and tolerances.
    library : iterable of StoredMaster, optional
        Masters that are taken where the night has none, from `masterframe.inventory.scan_library`.

    Returns
    -------
    Plan
        Every exposure goes into one product, or is left out with a reason. A product stands after
        the masters that it takes.
    """
    taken, left_out = sort_out(exposures, config)
    used = [item for members in taken.values() for item in members]
    kinds = {recipe.kind for recipe in config.recipes.values()}
    shelf = Shelf(config.tolerances, kinds, library)
    products: list[Product] = []
    for kind in MADE:
        groups = [
            group
            for name, members in taken.items()
            if config.recipes[name].kind == kind
            for group in groups_of(config.recipes[name], members, config)
        ]
        groups.sort(key=lambda group: (group.first.night, group.first.date_obs, group.first.path))
        outputs = _names(groups)
        made = [
            (_product(name, group, choice := shelf.choose(group)), group, choice)
            for name, group in zip(outputs, groups, strict=True)
        ]
        for product, group, choice in made:
            products.append(product)
            if not product.blocked and kind != "science":
                shelf.add(product.name, group, choice)
    return Plan(
        products=tuple(products),
        left_out=tuple(sorted(left_out, key=lambda problem: problem.path)),
        problems=tuple(problems),
        notes=(
            *lacking.without(products),
            *lacking.untold(used),
            *lacking.unsigned(used),
            *lacking.second_overscan(used),
            *lacking.set_apart(products),
            *lacking.possible(products),
        ),
    )


def _product(name: str, group: Group, choice: Choice) -> Product:
    """Return the product of a group with the masters that were chosen."""
    notes = [*choice.notes, *(f"no {role}: {why}" for role, why in choice.missing.items())]
    return Product(
        name=name,
        recipe=group.recipe,
        exposures=group.exposures,
        output=f"{name}.fits",
        group=group.shared,
        uses=tuple(choice.uses),
        passed_over=tuple(choice.passed_over),
        dark_time=group.dark_time,
        reason=_reason(group),
        notes=(*notes, *_offset_note(group, choice), *_frame_notes(group)),
        blocked=_blocked(group, choice),
    )


def _blocked(group: Group, choice: Choice) -> str:
    """Return why a product cannot be made; '' where it can."""
    recipe = group.recipe
    have = {use.role for use in choice.uses} | set(group.first.applied)
    if any(use.holds_bias for use in choice.uses):
        have.add("bias")
    if group.overscan:
        have.add("overscan")
    required = [step for step in recipe.require if step not in have]
    if required:
        return f"recipe {recipe.name!r} requires {', '.join(required)}"
    trimmed = any(group.trims)
    if recipe.kind == "science" and not (choice.uses or group.overscan or trimmed):
        return "there is nothing to calibrate it with"
    try:
        if recipe.kind == "science" and recipe.assemble:
            assemble(group.first.images)
    except FrameError as error:
        return error.reason
    return ""


def _offset_note(group: Group, choice: Choice) -> list[str]:
    """Return a warning where nothing takes the camera's offset off, though it should."""
    recipe = group.recipe
    wanted = recipe.subtract_bias or recipe.subtract_dark
    taken = group.overscan or any(use.role != "flat" for use in choice.uses)
    if recipe.kind in ("bias", "dark") or taken or not wanted or group.first.applied:
        return []
    return ["its offset stays in: no bias, dark or overscan is taken off"]


def _frame_notes(group: Group) -> list[str]:
    """Return what an observer should know of the frames of a product."""
    recipe, count = group.recipe, len(group.exposures)
    notes = []
    if recipe.kind != "science" and count < recipe.min_frames:
        notes.append(
            f"{count} of at least {recipe.min_frames} frames: combined without rejection, marked"
        )
    elif recipe.kind != "science":
        notes += _few_notes(group)
    guessed = sum(not item.certain for item in group.exposures)
    if guessed:
        notes.append(f"the kind of {guessed} of {count} rests on a name or a guess")
    odd = Counter(note for item in group.exposures for note in item.notes)
    notes += [
        note if times == count else f"{times} of {count}: {note}" for note, times in odd.items()
    ]
    return notes


def _few_notes(group: Group) -> list[str]:
    """Return what so few frames cost; `run` rejects nothing where they are fewer than five."""
    recipe, count = group.recipe.recipe, len(group.exposures)
    known = recipe.noise.gain is not None and recipe.noise.read_noise is not None
    known |= all(
        image.gain is not None and image.read_noise is not None
        for item in group.exposures
        for image in item.images
    )
    if count < MIN_TRUSTED and not known and recipe.rejection.rule not in ("none", "threshold"):
        return [f"{count} frames of unknown noise: combined without rejection"]
    return few_frames(recipe.rejection, count, floor=recipe.noise.floor, known=known)


def _reason(group: Group) -> str:
    """Return why the exposures of a group belong together."""
    count = len(group.exposures)
    shown = [f"{name} {text(value)}" for name, value in group.shared if text(value)]
    if group.recipe.kind == "dark" and group.dark_time is not None:
        shown.append(f"dark time {group.dark_time:.4g} s")
    if group.temperature is not None:
        shown.append(f"temperature {group.temperature:.1f}")
    what = f"{group.recipe.kind} frame{'s' if count > 1 else ''}"
    return f"{count} {what} with {', '.join(shown)}"


def _name(group: Group) -> str:
    """Return the name of a product: the output's path without its suffix."""
    first, recipe = group.first, group.recipe
    nights = {item.night for item in group.exposures}
    folder = names.safe_folder(first.night) if len(nights) == 1 else "nights"
    if recipe.kind == "science":
        return f"{folder}/calibrated/{names.safe_stem(first.path.rpartition('/')[2])}"
    parts = ["master", names.safe_word(recipe.name) or recipe.kind]
    if recipe.kind == "flat":
        parts.append(names.safe_word(first.filter))
    if recipe.kind == "dark" and group.dark_time is not None:
        parts.append(names.seconds(group.dark_time))
    parts.append(names.safe_word(first.label))
    return f"{folder}/{'_'.join(part for part in parts if part)}"


def _names(groups: Sequence[Group]) -> list[str]:
    """Return names that all differ: by layout or temperature where that helps, else by hash."""
    plain = [_name(group) for group in groups]
    for detail in (_light, _layout, _warmth):
        times = Counter(name.casefold() for name in plain)
        longer = [
            f"{name}_{detail(group)}" if times[name.casefold()] > 1 and detail(group) else name
            for name, group in zip(plain, groups, strict=True)
        ]
        if len(set(longer)) > len(set(plain)):
            plain = longer
    return names.unique(plain, [_key(group) for group in groups])


def _light(group: Group) -> str:
    return group.first.light if group.recipe.kind == "flat" else ""


def _layout(group: Group) -> str:
    """Return the columns and rows of the first image as it is stored."""
    rows, columns = group.first.images[0].frame.shape
    return f"{columns}x{rows}"


def _warmth(group: Group) -> str:
    return "" if group.temperature is None else f"{group.temperature:.0f}C"


def _key(group: Group) -> str:
    """Return what tells a product from all others, in the same words in every run."""
    if group.recipe.kind == "science":
        return group.first.path
    return repr(
        (
            *(group.recipe.name, group.shared, group.first.applied, read_out(group.first)),
            *(group.dark_time, group.temperature),
        )
    )
