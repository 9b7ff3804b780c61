"""What headers do not tell, and what that means for the products; what can be made without it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence

from masterframe.matching import text
from masterframe.model import Exposure, Image, Product, Scalar, serves_columns
from masterframe.plan.groups import MADE

_NO_NOISE = (
    "fewer than five frames are combined without rejection, calibrated frames have no UNCERT"
)
_FIELDS: tuple[tuple[str, tuple[str, ...], Callable[[Exposure], bool], str], ...] = (
    (
        "exposure time",
        ("dark", "flat", "science"),
        lambda item: item.exptime is None,
        "no dark can be chosen for them, and no dark is made of them",
    ),
    (
        "filter",
        ("flat", "science"),
        lambda item: not item.filter,
        "they are taken to have one and the same",
    ),
    (
        "start",
        MADE,
        lambda item: not item.date_obs,
        "their order is that of their names, and nothing tells which master is nearest",
    ),
    (
        "detector temperature",
        MADE,
        lambda item: item.temperature is None,
        "it is taken to be the same",
    ),
    (
        "gain",
        MADE,
        lambda item: any(one.gain is None for one in item.images),
        _NO_NOISE,
    ),
    (
        "read noise",
        MADE,
        lambda item: any(one.read_noise is None for one in item.images),
        _NO_NOISE,
    ),
    (
        "overscan",
        MADE,
        lambda item: any(image.trim and not image.overscans for image in item.images),
        "they are trimmed, but the level of their rows is not taken off",
    ),
    (
        "camera",
        MADE,
        lambda item: not item.instrument or item.instrument == item.preset,
        "only the size of images and the binning tell cameras apart",
    ),
    (
        "binning",
        MADE,
        lambda item: "binning" not in dict(item.setup),
        "it is taken to be 1x1",
    ),
    (
        "word for the kind",
        MADE,
        lambda item: not (item.certain or item.imagetyp),
        "a name or a guess tells what they are; say it under 'types' of the configuration",
    ),
)
"""Name of what is looked for, the kinds that need it, whether one lacks it, and what follows."""


def untold(exposures: Iterable[Exposure]) -> list[str]:
    """Return what headers do not tell of exposures, a line each."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for item in exposures:
        for name, kinds, lacks, _ in _FIELDS:
            if item.kind in kinds and lacks(item):
                counts[name][str(item.kind)] += 1
    lines: dict[tuple[str, str], list[str]] = defaultdict(list)
    for name, _, _, follows in _FIELDS:
        if name in counts:
            lines[_counted(counts[name]), follows].append(name)
    return [
        f"no {' or '.join(names)} is known of {frames}: {follows}"
        for (frames, follows), names in lines.items()
    ]


def unsigned(exposures: Iterable[Exposure]) -> list[str]:
    """Return which frames lack the BZERO that the others of their camera have."""
    lacking: dict[str, Counter[str]] = defaultdict(Counter)
    shifted: set[str] = set()
    for item in exposures:
        frames = [image.frame for image in item.images if image.frame.bitpix > 0]
        if any(not frame.scaling.bzero for frame in frames):
            lacking[item.instrument][str(item.kind)] += 1
        elif frames:
            shifted.add(item.instrument)
    return [
        f"no BZERO is known of {_counted(counts)}, though the others of {camera} have one: their "
        "pixels are taken as they are stored"
        for camera, counts in lacking.items()
        if camera in shifted
    ]


def second_overscan(exposures: Iterable[Exposure]) -> list[str]:
    """Return which frames may have an overscan in the other direction, too: it is trimmed."""
    counts: dict[tuple[int, str, str], Counter[str]] = defaultdict(Counter)
    for item in exposures:
        for across in {told for image in item.images if (told := _trimmed_across(image))}:
            counts[across][str(item.kind)] += 1
    return [
        f"{lines} {cut} of {_counted(kinds)} are trimmed, and serve as no second overscan: the "
        f"overscan {used} the data tells the level"
        for (lines, cut, used), kinds in counts.items()
    ]


def _trimmed_across(image: Image) -> tuple[int, str, str] | None:
    """Return how many rows are trimmed where the overscan is beside the data; None where none are.

    Columns, where it is above or below. Also where the rest of the image is, and the overscan.
    """
    if not image.trim or not image.overscans:
        return None
    (rows, columns), kept = image.frame.shape, image.trim
    by_columns = any(one.by_columns for one in image.amplifiers)
    if by_columns or serves_columns(image.overscan, kept):
        lines = columns - (kept.x1 - kept.x0)
        told = lines, "columns beside the data", "above or below"
    else:
        lines = rows - (kept.y1 - kept.y0)
        told = lines, "rows above or below the data", "beside"
    return told if lines else None


def set_apart(products: Iterable[Product]) -> list[str]:
    """Return which masters are apart from another of their night only for what is not told."""
    alike: dict[tuple[str, Scalar], list[Product]] = defaultdict(list)
    for product in products:
        if product.kind != "science":
            alike[product.recipe.name, dict(product.group).get("night")].append(product)
    notes = []
    for members in alike.values():
        known = [_known(one) for one in members]
        for product, mine in zip(members, known, strict=True):
            more = (
                (_only_more(mine, other), one) for one, other in zip(members, known, strict=True)
            )
            unknown, other = next(((names, one) for names, one in more if names), ("", product))
            if unknown:
                count = _counted({product.kind: len(product.exposures)})
                lack = f"no {unknown} is known of its {count}"
                notes.append(f"{product.name} is apart from {other.name}: {lack}")
    return notes


def _known(product: Product) -> dict[str, Scalar]:
    """Return what is told of the exposures of a master."""
    warm = any(item.temperature is not None for item in product.exposures)
    told = {name: value for name, value in product.group if text(value)}
    return told | ({"detector temperature": "told"} if warm and product.kind != "flat" else {})


def _only_more(mine: dict[str, Scalar], other: dict[str, Scalar]) -> str:
    """Return what is told of another master alone, where nothing else tells the two apart."""
    more = [name for name in other if name not in mine]
    return " or ".join(more) if all(other.get(name) == mine[name] for name in mine) else ""


def without(products: Sequence[Product]) -> list[str]:
    """Return which products lack which masters and why, each lack once."""
    lacks: Counter[tuple[str, str]] = Counter()
    for product in products:
        for note in product.notes:
            if note.startswith(("no bias:", "no dark:", "no flat:")):
                lacks[product.kind, note] += 1
    return [
        f"{count} {kind} product{'s' if count > 1 else ''} without {note.removeprefix('no ')}"
        for (kind, note), count in lacks.items()
    ]


def possible(products: Sequence[Product]) -> list[str]:
    """Return what can be made where something is missing for something; nothing where not."""
    made: dict[str, Counter[str]] = defaultdict(Counter)
    lacking = False
    for product in products:
        roles = [r for r in ("bias", "dark", "flat") if _lacks(product, r)]
        lacking |= bool(roles) or bool(product.blocked)
        if not product.blocked:
            made[product.kind][" and ".join(roles)] += 1
    if not lacking:
        return []
    parts = [
        _counted({kind: count}, "product") + (f" without {roles}" if roles else "")
        for kind, counts in made.items()
        for roles, count in counts.items()
    ]
    blocked = Counter(str(product.kind) for product in products if product.blocked)
    ends = f"; cannot be made: {_counted(blocked, 'product')}" if blocked else ""
    return [f"can be made: {', '.join(parts) or 'nothing'}{ends}"]


def _lacks(product: Product, role: str) -> bool:
    return any(note.startswith(f"no {role}:") for note in product.notes)


def _counted(counts: dict[str, int] | Counter[str], what: str = "frame") -> str:
    """Return counts by kind in words: ``3 bias and 1 dark frames``."""
    *most, last = [f"{count} {kind}" for kind, count in counts.items()]
    numbers = f"{', '.join(most)} and {last}" if most else last
    return f"{numbers} {what}{'s' * (sum(counts.values()) > 1)}"
