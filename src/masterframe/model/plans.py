"""Plans: the products of a night, and what each is made of."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from masterframe.model.exposures import Exposure, Problem
from masterframe.model.frames import Scalar, Section
from masterframe.model.instruments import Kind
from masterframe.model.recipes import ProductRecipe


@dataclass(frozen=True, slots=True)
class MasterPart:
    """What one image of an exposure takes of a master of more."""

    image: str
    """Name of the image in the master; '' of the only one."""
    section: Section | None = None
    """The part of that image; None takes all of it."""


@dataclass(frozen=True, slots=True)
class Association:
    """A master that a product takes, and why this one; fields as in `Calibration`."""

    role: Literal["bias", "dark", "flat"]
    """What it is taken for."""
    product: str
    """`Product.name` of the master."""
    reason: str
    """Why this one, in words."""
    ratio: tuple[float, ...] = ()
    """Dark time of each frame over the master's; empty for 1."""
    holds_bias: bool = False
    """True for a dark from which no bias was taken: it is subtracted instead of a bias."""
    library: str = ""
    """Path of its file where it is from a library; '' where it is a product of the plan."""
    parts: tuple[MasterPart, ...] = ()
    """What each image takes of it, where the exposures have smaller windows or fewer images."""

    def file(self, out: Path) -> Path:
        """Return where the master is, or will be below an output folder."""
        return Path(self.library) if self.library else out / f"{self.product}.fits"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A master that a product might have taken, and why it does not."""

    role: Literal["bias", "dark", "flat"]
    """What it would have been taken for."""
    product: str
    """`Product.name` of the master."""
    reason: str
    """Why not, in words."""


@dataclass(frozen=True, slots=True)
class Product:
    """One file to be made: a master of N exposures, or one calibrated science frame."""

    name: str
    """Name in the plan: the output without its suffix."""
    recipe: ProductRecipe
    """The stanza that it is made by."""
    exposures: tuple[Exposure, ...]
    """What goes in, sorted by date and path."""
    output: str
    """Path of the file below the output folder, with ``/``."""
    group: tuple[tuple[str, Scalar], ...] = ()
    """What the exposures have in common, by field."""
    uses: tuple[Association, ...] = ()
    """The masters that it takes."""
    passed_over: tuple[Candidate, ...] = ()
    """The nearest of those that it does not take, by role."""
    dark_time: float | None = None
    """Time over which its dark current was collected (s); the median of its frames."""
    reason: str = ""
    """Why these exposures belong together, in words."""
    notes: tuple[str, ...] = ()
    """What is missing for it, and what an observer should know."""
    blocked: str = ""
    """Why it cannot be made; '' where it can."""

    @property
    def kind(self) -> Kind:
        """Kind of the exposures that go in."""
        return self.recipe.kind

    def using(self, role: str) -> Association | None:
        """Return the master taken as bias, dark or flat; None where there is none."""
        return next((use for use in self.uses if use.role == role), None)


@dataclass(frozen=True, slots=True)
class Plan:
    """What will be made of a night, in an order in which it can be made."""

    products: tuple[Product, ...]
    """Products, each after the masters that it takes."""
    left_out: tuple[Problem, ...] = ()
    """Exposures that go into no product, with the reason."""
    problems: tuple[Problem, ...] = ()
    """Files that could not be used as an exposure, with the reason."""
    notes: tuple[str, ...] = ()
    """What is missing for what."""

    def as_dict(self) -> dict[str, Any]:
        """Return the plan in the types of JSON."""
        recipes = {item.recipe: asdict(item.recipe) for item in self.products}
        return {
            "products": [_product_dict(item, recipes[item.recipe]) for item in self.products],
            "left_out": [asdict(problem) for problem in self.left_out],
            "problems": [asdict(problem) for problem in self.problems],
            "notes": list(self.notes),
        }


def _product_dict(product: Product, recipe: dict[str, Any]) -> dict[str, Any]:
    """Return a product in the types of JSON; its exposures by path."""
    return {
        "name": product.name,
        "kind": product.kind,
        "recipe": recipe,
        "output": product.output,
        "group": dict(product.group),
        "inputs": [
            {"path": item.path, "certain": item.certain, "rule": item.rule, "notes": item.notes}
            for item in product.exposures
        ],
        "uses": [asdict(use) for use in product.uses],
        "passed_over": [asdict(one) for one in product.passed_over],
        "dark_time": product.dark_time,
        "reason": product.reason,
        "notes": list(product.notes),
        "blocked": product.blocked,
    }
