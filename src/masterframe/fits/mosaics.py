"""The header of an image that was assembled of several."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any, Protocol

from masterframe.fits.cards import Card
from masterframe.model import Section

_WCS = re.compile(
    r"WCSAXES|(?:CTYPE|CUNIT|CRVAL|CRPIX|CDELT|CROTA)[12]|(?:CD|PC|PV)[12]_\d+|EQUINOX|RADESYS"
    r"|LONPOLE|LATPOLE|(?:A|B|AP|BP)_(?:ORDER|DMAX|\d+_\d+)"
)
PIXEL, RELATIVE = 0.01, 1e-9
"""Differences of a reference pixel, and of other numbers, by which coordinates are the same."""


class Placed(Protocol):
    """A part of a raw image in the assembled one."""

    @property
    def raw(self) -> Section:
        """Its pixels in the raw image."""

    @property
    def target(self) -> Section:
        """Its pixels in the assembled image."""

    @property
    def flips(self) -> tuple[bool, bool]:
        """Whether its rows, and columns, run backwards there."""


def mosaic_wcs(headers: Sequence[Sequence[Card]], pieces: Sequence[Placed]) -> dict[str, Any]:
    """Return the coordinates of an assembled image; none where its pieces have not all the same.

    Parameters
    ----------
    headers : sequence of sequence of Card
        The raw header of each piece.
    pieces : sequence of Placed
        Where they went.

    Returns
    -------
    dict
        Cards of a WCS.
    """
    found = [_moved(header, piece) for header, piece in zip(headers, pieces, strict=True)]
    first, *others = found
    return first if all(_alike(first, other) for other in others) else {}


def _moved(header: Sequence[Card], piece: Placed) -> dict[str, Any]:
    """Return the WCS of a raw image as it is in the assembled one; none where it cannot be told."""
    cards = {key: value for key, value, _ in reversed(header) if _WCS.fullmatch(key)}
    if not all(f"{name}{axis}" in cards for name in ("CTYPE", "CRPIX", "CRVAL") for axis in "12"):
        return {}
    # a rotation and the terms of SIP have signs of their own
    if any(piece.flips) and any(cards.get(key) for key in ("CROTA1", "CROTA2", "A_ORDER")):
        return {}
    matrix = next((name for name in ("CD", "PC") if f"{name}1_1" in cards), "CDELT")
    spans = (
        (piece.raw.x0, piece.target.x0, piece.target.x1),
        (
            piece.raw.y0,
            piece.target.y0,
            piece.target.y1,
        ),
    )
    for axis, (raw, start, end), flipped in zip("12", spans, reversed(piece.flips), strict=True):
        place = float(cards[f"CRPIX{axis}"]) - raw
        cards[f"CRPIX{axis}"] = end + 1 - place if flipped else start + place
        turned = f"CDELT{axis}" if matrix == "CDELT" else rf"{matrix}[12]_{axis}"
        for key in cards if flipped else ():
            if re.fullmatch(turned, key):
                cards[key] = -cards[key]
    return cards


def _alike(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one.keys() == other.keys() and all(
        math.isclose(value, other[key], rel_tol=RELATIVE, abs_tol=PIXEL if "CRPIX" in key else 0)
        if isinstance(value, int | float) and isinstance(other[key], int | float)
        else value == other[key]
        for key, value in one.items()
    )
