"""Which masters a product takes: bias, dark and flat, each with the reason for this one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from masterframe.model import (
    Association,
    Candidate,
    Exposure,
    Image,
    MasterPart,
    Scalar,
    StoredMaster,
    Tolerances,
)
from masterframe.plan import rivals
from masterframe.plan.groups import Group
from masterframe.plan.masters import (
    MOST_STRETCH,
    Master,
    Role,
    age,
    from_library,
    mean_time,
    nearest,
)
from masterframe.plan.windows import PLACE, Cut, cut_to

SHOWN_PARTS = 3
"""Parts of a master that a reason names."""


@dataclass
class Choice:
    """The masters for one product, and what was missing."""

    uses: list[Association] = field(default_factory=list)
    """Masters taken."""
    passed_over: list[Candidate] = field(default_factory=list)
    """Masters not taken."""
    notes: list[str] = field(default_factory=list)
    """What an observer should know."""
    missing: dict[Role, str] = field(default_factory=dict)
    """Why there is none, by role, where one was wanted."""


class Shelf:
    """The masters of a plan, as they become known.

    Parameters
    ----------
    tolerances : Tolerances
        How far two exposures may differ and still belong together.
    kinds : set of str
        Kinds that masters are made of at all; of others none is missed.
    library : iterable of StoredMaster, optional
        Masters that are taken where a plan makes none that fits.
    """

    def __init__(
        self, tolerances: Tolerances, kinds: Collection[str], library: Iterable[StoredMaster] = ()
    ) -> None:
        self._tolerances = tolerances
        self._kinds = kinds
        self._masters: dict[str, list[Master]] = defaultdict(list)
        self._fitting: dict[tuple[object, ...], tuple[list[Master], str]] = {}
        self._explained: dict[tuple[object, ...], tuple[Candidate, ...]] = {}
        for stored in library:
            self._masters[stored.role].append(from_library(stored))

    def add(self, name: str, group: Group, choice: Choice) -> None:
        """Put a master on the shelf."""
        holds_bias = group.recipe.kind == "dark" and not any(
            use.role == "bias" for use in choice.uses
        )
        self._masters[group.recipe.kind].append(
            Master(name, _role(group), group, holds_bias, group.dark_time or 0.0, mean_time(group))
        )
        self._fitting.clear()
        self._explained.clear()

    def choose(self, group: Group) -> Choice:
        """Return the masters that a group takes."""
        recipe, choice = group.recipe, Choice()
        done = set(group.first.applied)
        for step in sorted(done):
            choice.notes.append(f"the camera has done this already: {step}")
        wants_bias = recipe.kind != "bias" and recipe.subtract_bias and not done & {"bias", "dark"}
        bias = found = self._bias(group, choice) if wants_bias else None
        if recipe.kind in ("flat", "science") and recipe.subtract_dark and "dark" not in done:
            dark = self._dark(group, bias, choice)
            if dark is not None:
                choice.uses.append(dark)
                bias = None if dark.holds_bias else bias
                choice.missing.pop("bias", None) if dark.holds_bias else None
        if bias is not None:
            choice.uses.insert(0, bias)
        wanted: list[Role] = ["bias"] if wants_bias else []
        if recipe.kind in ("flat", "science") and recipe.subtract_dark and "dark" not in done:
            wanted.append("dark")
        if recipe.kind == "science" and recipe.divide_flat and "flat" not in done:
            self._flat(group, choice)
            wanted.append("flat")
        for role in wanted:
            choice.passed_over += self._passed_over(
                role, group, choice, with_bias=found is not None
            )
        choice.missing = {role: why for role, why in choice.missing.items() if role in self._kinds}
        return choice

    def _bias(self, group: Group, choice: Choice) -> Association | None:
        """Return the nearest bias of the same set-up."""
        fitting, why_not = self._fit("bias", group)
        if not fitting:
            choice.missing["bias"] = why_not
            return None
        return _taken("bias", nearest(fitting, group), group, "same set-up")

    def _flat(self, group: Group, choice: Choice) -> None:
        """Take the nearest flat of the same filter and optics."""
        fitting, why_not = self._fit("flat", group)
        if fitting:
            flat = nearest(fitting, group)
            light = flat.group.first.light
            words = f"same set-up, filter {group.first.filter or 'none'}"
            words += f", {light} flat" * bool(light)
            choice.uses.append(_taken("flat", flat, group, words))
        else:
            choice.missing["flat"] = why_not

    def _dark(self, group: Group, bias: Association | None, choice: Choice) -> Association | None:
        """Return a dark by its time: the same, else a longer one, else the longest."""
        known = [item.dark_time for item in group.exposures if item.dark_time is not None]
        fitting, why_not = self._fit("dark", group)
        if len(known) < len(group.exposures):
            choice.missing["dark"] = "an exposure time is not known"
        elif not fitting:
            choice.missing["dark"] = why_not
        else:
            made = [dark for dark in fitting if not dark.library]
            own = [dark for dark in made if dark.night == group.first.night]
            for darks in (own, made, fitting):
                found = self._exact(darks, group, known, bias) or _scaled(darks, group, known, bias)
                if found is not None:
                    choice.notes += _stretched(found)
                    return found
            choice.missing["dark"] = _unfit(fitting, known, bias)
        return None

    def _exact(
        self, darks: Sequence[Master], group: Group, times: Sequence[float], bias: object
    ) -> Association | None:
        """Return the dark of the nearest time that serves all times unscaled.

        One that holds its bias is taken instead of a bias, the other kind only besides one.
        """
        tolerances = self._tolerances
        near = [
            (max(abs(dark.dark_time - time) for time in times), dark)
            for dark in darks
            if (dark.holds_bias or bias is not None)
            and all(
                abs(dark.dark_time - time)
                <= max(tolerances.exptime, tolerances.exptime_fraction * time)
                for time in times
            )
        ]
        if not near:
            return None
        least = min(miss for miss, _ in near)
        alike = [dark for miss, dark in near if miss == least]
        dark = nearest([dark for dark in alike if not dark.holds_bias] or alike, group)
        words = f"same dark time, {dark.dark_time:.4g} s, unscaled"
        words += "; it holds the bias" if dark.holds_bias else ""
        return _taken("dark", dark, group, words)

    def _fit(self, role: Role, group: Group) -> tuple[list[Master], str]:
        """Return the masters of a role that fit a group, or why each of its camera does not."""
        key = (role, group.shared, group.temperature, group.trims, group.views, group.overscan)
        if key not in self._fitting:
            fitting, reasons = [], []
            camera = group.first.instrument
            for master in self._masters[role]:
                reason = _why_not(master, group, self._tolerances)
                if not reason:
                    fitting.append(master)
                elif master.group.first.instrument == camera:
                    reasons.append(f"{master.name.rpartition('/')[2]} has {reason}")
            more = f"; and {len(reasons) - 3} more" if len(reasons) > 3 else ""
            why_not = f"none fits: {'; '.join(reasons[:3])}{more}"
            self._fitting[key] = fitting, why_not if reasons else f"none was taken with {camera}"
        return self._fitting[key]

    def _passed_over(
        self, role: Role, group: Group, choice: Choice, *, with_bias: bool
    ) -> tuple[Candidate, ...]:
        """Return the nearest masters of a camera that a group does not take, and why not."""
        taken = next((use for use in choice.uses if use.role == role), None)
        times = tuple(sorted({item.dark_time or 0.0 for item in group.exposures}))
        shared = (group.shared, group.temperature, group.trims, group.views, group.overscan, times)
        key = (role, shared, taken and taken.product, with_bias)
        if key not in self._explained:

            def better(one: Master, chosen: Master | None) -> str:
                if role == "dark":
                    return rivals.other_dark(one, chosen, times, with_bias=with_bias)
                return rivals.farther(one, chosen, group)

            camera = group.first.instrument
            self._explained[key] = rivals.passed_over(
                taken,
                [one for one in self._masters[role] if one.group.first.instrument == camera],
                group,
                lambda one: _why_not(one, group, self._tolerances),
                better,
            )
        return self._explained[key]


def _role(group: Group) -> Role:
    """Return what a master of a group is taken for."""
    roles: dict[str, Role] = {"bias": "bias", "dark": "dark", "flat": "flat"}
    return roles[group.recipe.kind]


def _scaled(
    darks: Sequence[Master], group: Group, times: Sequence[float], bias: object
) -> Association | None:
    """Return the shortest dark that is long enough, else the longest, up to `MOST_STRETCH`."""
    scalable = [dark for dark in darks if not dark.holds_bias and dark.dark_time > 0]
    if bias is None or not scalable:
        return None
    enough = [dark.dark_time for dark in scalable if dark.dark_time >= max(times)]
    time = min(enough) if enough else max(dark.dark_time for dark in scalable)
    if max(times) > MOST_STRETCH * time:
        return None
    dark = nearest([dark for dark in scalable if dark.dark_time == time], group)
    words = f"{time:.4g} s, scaled to {_range(times)}"
    ratio = tuple(value / time for value in times)
    return _taken("dark", dark, group, words, ratio)


def _stretched(dark: Association) -> list[str]:
    """Return a warning for a dark that is scaled up."""
    stretch = max(dark.ratio, default=1.0)
    return [f"the dark is stretched {stretch:.3g} times, which adds its noise"] * (stretch > 1)


def _unfit(darks: Sequence[Master], times: Sequence[float], bias: object) -> str:
    """Return why none of the darks of a set-up can be used for some times."""
    scalable = [dark.dark_time for dark in darks if not dark.holds_bias and dark.dark_time > 0]
    if not scalable:
        have = ", ".join(f"{time:.4g} s" for time in sorted({dark.dark_time for dark in darks}))
        return f"darks of {have} do not fit {_range(times)}, and hold the bias: never scaled"
    if bias is None:
        return "darks without their bias cannot be taken off a frame that keeps its own"
    return (
        f"the longest dark is {max(scalable):.4g} s, wanted {max(times):.4g} s: more than "
        f"{MOST_STRETCH:g} times, so that only the bias is taken"
    )


def _range(times: Sequence[float]) -> str:
    """Return times in words: ``3.3 to 4.4 s``."""
    low, high = f"{min(times):.4g}", f"{max(times):.4g}"
    return f"{low} s" if low == high else f"{low} to {high} s"


def _taken(
    role: Role, master: Master, group: Group, words: str, ratio: tuple[float, ...] = ()
) -> Association:
    """Return a master that is taken, and why it was."""
    if master.library:
        words += f"; from the library, {age(master, group)}"
    elif master.night != group.first.night:
        words += f"; from {master.night}, the nearest night that has one"
    words += _unknown(master, group)
    parts = _cut(master, group).parts
    words += _cut_words(parts)
    path = master.name if master.library else ""
    return Association(role, master.name, words, ratio, master.holds_bias, path, parts)


def _cut(master: Master, group: Group) -> Cut:
    return cut_to(master.group.views, group.views)


def _cut_words(parts: Sequence[MasterPart]) -> str:
    """Return in words what exposures take of a master; the first parts stand for many."""
    shown = [
        f"{one.section.to_fits() if one.section else 'all'} of {one.image or 'it'}"
        for one in parts[:SHOWN_PARTS]
    ]
    more = f" and {len(parts) - SHOWN_PARTS} more" if len(parts) > SHOWN_PARTS else ""
    return f"; cut to the window, {', '.join(shown)}{more}" if parts else ""


def _why_not(master: Master, group: Group, tolerances: Tolerances) -> str:
    """Return in words what makes a master unfit; '' where nothing does."""
    mine, wanted = master.group.first, group.first
    setup = dict(mine.setup)
    cut = _cut(master, group)
    if cut.parts:
        image = cut.parts[0].image
        setup |= next((one.setup for one in mine.images if one.frame.name == image), ())
        setup = {name: value for name, value in setup.items() if name not in PLACE}
    elif master.stored:  # trimmed already, so that its layout is not that of raw frames
        del setup["layout"]
    found = _difference(setup, dict(wanted.setup)) or _other_layout(master, group)
    if found:
        placed = found.partition(" ")[0] in PLACE and cut.why_not
        return f"{found}: {cut.why_not}" if placed else found
    if cut.why_not:
        return f"other images: {cut.why_not}"
    if master.role == "flat":
        return _difference(_optics(mine), _optics(wanted))
    unit, needed = mine.images[0].unit, wanted.images[0].unit
    if unit != needed:
        return f"in {unit}, wanted {needed}"
    taken = master.stored.overscan_taken if master.stored else master.group.overscan
    if taken != group.overscan:
        return "its overscan taken off" if taken else "its overscan left on"
    ours, theirs = master.group.temperature, group.temperature
    if ours is not None and theirs is not None and abs(ours - theirs) > tolerances.temperature:
        return f"temperature {ours:.1f}, wanted {theirs:.1f} within {tolerances.temperature:g}"
    return ""


def _optics(exposure: Exposure) -> dict[str, Scalar]:
    """Return what the light of an exposure went through, as far as it is known."""
    technique = {"technique": exposure.technique} if exposure.technique else {}
    return {"filter": exposure.filter, **technique, **dict(exposure.optics)}


def _other_layout(master: Master, group: Group) -> str:
    """Return what is wrong with the images of a master, in words; '' where nothing is."""
    if master.stored is None:
        alike = master.group.trims == group.trims or _cut(master, group).parts
        return "" if alike else "other sections"
    if master.stored.unfit:
        return master.stored.unfit
    mine, wanted = (
        [image.frame.shape for image in master.group.first.images],
        [_kept(image, group) for image in group.first.images],
    )
    if mine != wanted and not _cut(master, group).parts:
        return f"{_shapes(mine)} pixels, wanted {_shapes(wanted)}"
    return ""


def _kept(image: Image, group: Group) -> tuple[int, int]:
    return image.shape if group.recipe.subtract_overscan else image.frame.shape


def _unknown(master: Master, group: Group) -> str:
    """Return in words what is told of only one of a master and the exposures that take it."""
    mine, wanted = dict(master.group.first.setup), dict(group.first.setup)
    names = sorted({name.replace("_", " ") for name in mine.keys() ^ wanted.keys()})
    if master.role != "flat" and (master.group.temperature is None) != (group.temperature is None):
        names.append("temperature")
    return f"; {' and '.join(names)} told of one of the two only" if names else ""


def _shapes(shapes: Sequence[tuple[int, int]]) -> str:
    return "+".join(dict.fromkeys(f"{columns}x{rows}" for rows, columns in shapes))


def _difference(mine: dict[str, Scalar], wanted: dict[str, Scalar]) -> str:
    """Return the first value that differs, in words; what one of the two lacks is no difference."""
    for name, value in wanted.items():
        if name in mine and mine[name] != value:
            return f"{name} {mine[name]!r}, wanted {value!r}"
    return ""
