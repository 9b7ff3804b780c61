"""What headers do not tell, and what that means for the products; what can be made without it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence

from masterframe.model import Exposure, Product
from masterframe.plan.groups import MADE

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
        ("bias", "dark", "science"),
        lambda item: item.temperature is None,
        "it is taken to be the same",
    ),
    (
        "gain or read noise",
        MADE,
        lambda item: any(None in (one.gain, one.read_noise) for one in item.images),
        "fewer than five frames are combined without rejection, calibrated frames have no UNCERT",
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
)
"""Name of what is looked for, the kinds that need it, whether one lacks it, and what follows."""


def untold(exposures: Iterable[Exposure]) -> list[str]:
    """Return what headers do not tell of exposures, a line each."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for item in exposures:
        for name, kinds, lacks, _ in _FIELDS:
            if item.kind in kinds and lacks(item):
                counts[name][str(item.kind)] += 1
    return [
        f"no {name} is known of {_counted(counts[name])}: {follows}"
        for name, _, _, follows in _FIELDS
        if name in counts
    ]


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
