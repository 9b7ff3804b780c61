"""The token of a product: a name of its contents."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from typing import Any

from masterframe.model import ALGORITHM_VERSION


def product_token(
    recipe: Any, masters: Mapping[str, str], datasums: Sequence[tuple[str, int | str]]
) -> str:
    """Return the name of a product's contents: equal tokens mean equal pixels.

    Parameters
    ----------
    recipe : dataclass or JSON value
        The resolved recipe: everything that decides how pixels are made.
    masters : mapping
        Token of each master that goes in, by its role.
    datasums : sequence of (str, int or str)
        Name of the image and DATASUM of each input, or what stands for it; their order does not
        matter.

    Returns
    -------
    str
        40 hexadecimal digits. Times and folders of the inputs are no part of it, so that touching
        or moving a file remakes nothing.
    """
    record = {
        "version": ALGORITHM_VERSION,
        "recipe": asdict(recipe)
        if is_dataclass(recipe) and not isinstance(recipe, type)
        else recipe,
        "masters": dict(masters),
        "inputs": sorted(datasums),
    }
    text = json.dumps(record, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:40]
