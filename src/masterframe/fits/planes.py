"""The image HDUs of a file that is to be written: their places, and how values are stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from masterframe.fits import cardtext, legal
from masterframe.fits.cards import CARD, Card
from masterframe.fits.layout import padded

_BITPIX = {"u1": 8, "i2": 16, "i4": 32, "f4": -32, "f8": -64}
_STORED_AS = {"i1": ("u1", -(2**7)), "u2": ("i2", 2**15), "u4": ("i4", 2**31)}
"""Types that FITS stores as another one, and the BZERO between the two."""
_STRUCTURE = {
    *("SIMPLE", "XTENSION", "BITPIX", "NAXIS", "NAXIS1", "NAXIS2", "EXTEND", "PCOUNT", "GCOUNT"),
    *("EXTNAME", "EXTVER", "BZERO", "BSCALE", "CHECKSUM", "DATASUM"),
}


class Label(NamedTuple):
    """What the header of an extension calls it."""

    extname: str
    """EXTNAME."""
    extver: int
    """EXTVER."""


@dataclass(frozen=True)
class PlaneSpec:
    """One image HDU of a file that is to be written."""

    name: str
    """Its name, unique within the file; the first may be '' or PRIMARY and then has no EXTNAME."""
    dtype: str
    """numpy type of its values: (u)int8, (u)int16, (u)int32, float32 or float64."""
    shape: tuple[int, ...]
    """Rows and columns; () for a primary HDU without pixels."""
    header: Sequence[Card]
    """Its cards besides the structural ones, which are ignored where they are there."""
    label: Label | None = None
    """EXTNAME and EXTVER; None: EXTNAME is the name."""


@dataclass(frozen=True)
class Plane:
    """An image HDU and its place in the file."""

    header: list[Card]
    """All of its cards; grows with updates."""
    offset: int
    """Byte at which the header begins."""
    room: int
    """Bytes of the header with its spare cards; the data follow."""
    shape: tuple[int, ...]
    """Rows and columns; () for none."""
    dtype: np.dtype[Any]
    """Type of the values, native."""
    stored: np.dtype[Any]
    """Type in the file, big-endian."""

    @property
    def data_offset(self) -> int:
        """Byte at which the data begin."""
        return self.offset + self.room

    @property
    def row_bytes(self) -> int:
        """Bytes of a row."""
        return self.shape[1] * self.stored.itemsize

    @property
    def end(self) -> int:
        """Byte after the last block of the data."""
        size = self.shape[0] * self.row_bytes if self.shape else 0
        return self.data_offset + padded(size)

    @property
    def shifted(self) -> bool:
        """Whether BZERO makes the stored type another one."""
        return self.stored.kind != self.dtype.kind

    def header_bytes(self) -> bytes:
        """Return the header as it stands in the file.

        Raises
        ------
        ValueError
            If it has outgrown its room.
        """
        return cardtext.header_bytes(self.header, self.room)

    def update(self, cards: legal.Cards) -> None:
        """Set cards, each made safe."""
        self.header[:] = legal.with_cards(self.header, cards)

    def sealed_bytes(self, total: int) -> bytes:
        """Return the header with the checksums of the HDU, whose data add up to a total."""
        return cardtext.sealed_bytes(self.header, total, self.room)

    def encode(self, values: NDArray[Any]) -> memoryview:
        """Return the bytes of values, of any shape, as they are stored."""
        native = values.astype(self.dtype, casting="same_kind", copy=False)
        if self.shifted:
            native = _flip_sign(native)
        stored = np.ascontiguousarray(native.view(self.stored.newbyteorder("=")), self.stored)
        return memoryview(stored.data).cast("B")

    def decode(self, data: bytearray) -> NDArray[Any]:
        """Return whole rows from their stored bytes, shape (rows, columns); may be changed."""
        native = np.frombuffer(data, self.stored).astype(self.stored.newbyteorder("="), copy=False)
        values = _flip_sign(native).view(self.dtype) if self.shifted else native
        rows: NDArray[Any] = values.reshape(-1, self.shape[1])
        return rows


def place(specs: Sequence[PlaneSpec], spare_cards: int) -> dict[str, Plane]:
    """Lay HDUs out one after the other.

    Parameters
    ----------
    specs : sequence of PlaneSpec
        In file order; the first is the primary.
    spare_cards : int
        Cards that each header can still take.

    Returns
    -------
    dict
        `Plane` by name, in file order.
    """
    placed: dict[str, Plane] = {}
    offset = 0
    for spec in specs:
        if spec.name in placed:
            raise ValueError(f"two planes are called {spec.name!r}")
        dtype = np.dtype(spec.dtype)
        stored, bzero = _STORED_AS.get(dtype.str[1:], (dtype.str[1:], 0))
        header = _header(spec, _BITPIX[stored], bzero, primary=not placed)
        room = padded(len(cardtext.header_text(header)) + (spare_cards + 1) * CARD)
        plane = Plane(header, offset, room, spec.shape, dtype, np.dtype(f">{stored}"))
        placed[spec.name] = plane
        offset = plane.end
    return placed


def _header(spec: PlaneSpec, bitpix: int, bzero: int, *, primary: bool) -> list[Card]:
    """Return a header with its structural cards, and with the checksums' places."""
    cards = [
        Card("SIMPLE", True, "conforms to FITS")
        if primary
        else Card("XTENSION", "IMAGE", "image extension"),
        Card("BITPIX", bitpix, "bits of a value, negative for floating point"),
        Card("NAXIS", len(spec.shape)),
    ]
    cards += [Card(f"NAXIS{axis}", size) for axis, size in enumerate(reversed(spec.shape), 1)]
    cards += [Card("EXTEND", True)] if primary else [Card("PCOUNT", 0), Card("GCOUNT", 1)]
    if bzero:
        cards += [Card("BSCALE", 1), Card("BZERO", bzero, "value = BZERO + stored value")]
    if not (primary and spec.name in {"", "PRIMARY"}):
        label = spec.label or Label(spec.name, 0)
        cards += legal.safe_cards([Card("EXTNAME", label.extname, "name of this HDU")])
        if label.extver:
            cards.append(Card("EXTVER", label.extver, "tells apart what has this name"))
    cards += cardtext.sum_cards()
    if primary:
        cards.append(Card("MFSEAL", "0", "sum of the DATASUM of all images"))
    return cards + [
        card for card in legal.safe_cards(spec.header) if card.keyword not in _STRUCTURE
    ]


def _flip_sign(values: NDArray[Any]) -> NDArray[Any]:
    """Return integers with their highest bit turned over: what BZERO = 2^(bits - 1) comes to."""
    unsigned = values.view(f"u{values.itemsize}")
    flipped: NDArray[Any] = unsigned ^ unsigned.dtype.type(1 << (8 * values.itemsize - 1))
    return flipped
