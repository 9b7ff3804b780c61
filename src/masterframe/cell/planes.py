"""The planes of a combination by name."""

from __future__ import annotations

from typing import Any

import numpy as np

from masterframe.model import Recipe

PLANE_TYPES = {"mask": np.uint8, "count": np.int32, "rejlow": np.int32, "rejhigh": np.int32}
"""Types of the planes that are no values; the others have the recipe's."""


def plane_names(recipe: Recipe) -> tuple[str, ...]:
    """Return the planes that a recipe gives: the four standard ones and those asked for."""
    return ("data", "uncert", "mask", "count", *recipe.planes)


def plane_type(name: str, recipe: Recipe) -> np.dtype[Any]:
    """Return the numpy type of a plane."""
    return np.dtype(PLANE_TYPES.get(name, recipe.dtype))
