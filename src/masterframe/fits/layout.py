"""Where the header and the data unit of each HDU lie, checked against the bytes that are there.

A header is not trusted: what it claims is compared with the file before anybody allocates or reads
what a damaged or hostile one asks for.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from masterframe.errors import FrameError
from masterframe.fits.cards import CARD, read_cards
from masterframe.fits.checksums import WORD, add_words
from masterframe.fits.source import Source
from masterframe.model import Header

BLOCK = 2880
"""Bytes of a FITS block; headers and data are padded to whole blocks."""
BITPIX = frozenset({8, 16, 32, 64, -32, -64})

_FIRST_READ = 16 * BLOCK
"""Bytes of the first read: enough for 576 cards, so that most headers cost one call."""
_MAX_HEADER = 400 * BLOCK
"""Bytes after which a header without an END card is given up."""
_MAX_HDUS = 2000
_MAX_BYTES = (1 << 63) - 1
_SUM_BLOCK = 1 << 20


class UnfitError(Exception):
    """An HDU that cannot be used; the message says why, without naming the file."""


@dataclass(frozen=True, slots=True)
class RawHdu:
    """One HDU as it lies in the (unpacked) file."""

    index: int
    """Its index, 0 for the primary."""
    header: bytes
    """Its cards, END included."""
    cards: Header
    """Their values."""
    start: int
    """First byte of the data unit."""
    end: int
    """Byte behind the data, before the padding."""

    @property
    def tiled(self) -> bool:
        """Whether it is a table that holds a tile-compressed image."""
        return self.cards.get("ZIMAGE") is True


def walk(path: str, source: Source) -> Iterator[RawHdu]:
    """Yield the HDUs of a file; what follows the last one is not read, as the standard asks.

    Raises
    ------
    FrameError
        If a header is damaged, or claims what is not there.
    """
    offset = 0
    for index in range(_MAX_HDUS):
        try:
            header = _read_header(source, offset, index)
            if header is None and index == 0:  # content() has looked into plain files already
                raise UnfitError("not FITS: what is packed in it does not begin with SIMPLE")
            if header is None:
                break
            cards = read_cards(header)
            start = offset + padded(len(header))
            end = start + _data_bytes(cards)
            if source.plain:
                _check_present(source, start, end)
            yield RawHdu(index, header, cards, start, end)
            _check_present(source, start, end)  # last, as a packed source cannot go back
        except UnfitError as error:
            raise named(path, index, error) from None
        offset = start + padded(end - start)
    else:
        raise FrameError(path, f"more than {_MAX_HDUS:,} HDUs: not the file of a camera")
    source.finish(offset)


def _check_present(source: Source, start: int, end: int) -> None:
    have = source.reach(end) - start
    if have < end - start:
        raise UnfitError(f"truncated: {max(0, have):,} of {end - start:,} bytes")


def named(path: str, index: int, error: UnfitError) -> FrameError:
    """Return the error with its file, and its HDU where that is not the first."""
    return FrameError(path, f"HDU {index}: {error}" if index else str(error))


def padded(size: int) -> int:
    """Return a number of bytes rounded up to whole FITS blocks."""
    return -(-size // BLOCK) * BLOCK


def stored_sum(source: Source, start: int, end: int) -> int:
    """Return the DATASUM of a data unit with its padding, which is zero where it is missing.

    FITS standard 4.0, section 4.4.2.7.
    """
    total = 0
    stop = start + padded(end - start)
    for offset in range(start, stop, _SUM_BLOCK):
        data = source.read(offset, min(_SUM_BLOCK, stop - offset))
        total = add_words(data.ljust(-(-len(data) // WORD) * WORD, b"\0"), total)
    return total


def bitpix_of(cards: Header, prefix: str = "") -> int:
    """Return BITPIX, or ZBITPIX where the prefix is Z."""
    bitpix = _whole(cards, f"{prefix}BITPIX")
    if bitpix not in BITPIX:
        raise UnfitError(f"{prefix}BITPIX = {bitpix} is none of 8, 16, 32, 64, -32, -64")
    return bitpix


def axes_of(cards: Header, prefix: str = "") -> list[int]:
    """Return the lengths of the axes, the fastest first; none is negative."""
    naxis = _whole(cards, f"{prefix}NAXIS")
    if not 0 <= naxis <= 999:
        raise UnfitError(f"{prefix}NAXIS = {naxis} is not between 0 and 999")
    return [_count(cards, f"{prefix}NAXIS{n}") for n in range(1, naxis + 1)]


def _read_header(source: Source, offset: int, index: int) -> bytes | None:
    """Return the bytes of a header up to its END card; None where no further HDU begins."""
    header = source.read(offset, _FIRST_READ)
    if not header.startswith(b"XTENSION=" if index else b"SIMPLE  ="):
        return None
    searched = 0
    while (end := _find_end(header, searched)) < 0:
        searched = len(header)
        if searched >= _MAX_HEADER:
            raise UnfitError(f"its header has no END card in the first {_MAX_HEADER:,} bytes")
        header = source.read(offset, min(_MAX_HEADER, 4 * searched))
        if len(header) == searched:
            raise UnfitError(f"truncated: its header stops after {searched:,} bytes, without END")
    return header[:end]


def _find_end(header: bytes, start: int) -> int:
    """Return the byte behind the END card, or -1; a card begins at every 80th byte."""
    at = header.find(b"END     ", max(0, start - CARD))
    while at >= 0 and at % CARD:
        at = header.find(b"END     ", at + 1)
    return at + CARD if at >= 0 else -1


def _data_bytes(cards: Header) -> int:
    """Return the bytes of the data (FITS standard 4.0, equations 1, 2 and 4)."""
    if cards.get("SIMPLE", True) is not True:
        raise UnfitError("SIMPLE is not T: it does not follow the FITS standard")
    bitpix = bitpix_of(cards)
    axes = axes_of(cards)
    if cards.get("GROUPS") is True and axes[:1] == [0]:
        axes = axes[1:]  # random groups
    if not axes:
        return 0
    parameters, groups = _count(cards, "PCOUNT", 0), _count(cards, "GCOUNT", 1)
    return believable(abs(bitpix) // 8 * groups * (parameters + math.prod(axes)))


def believable(size: int) -> int:
    """Return a number of bytes; refuse one that no file can have (its digits may fill pages)."""
    if size > _MAX_BYTES:
        raise UnfitError("its header claims more pixels than any file can hold")
    return size


def _count(cards: Header, key: str, default: int | None = None) -> int:
    value = default if default is not None and key not in cards else _whole(cards, key)
    if value < 0:
        raise UnfitError(f"{key} = {value} is negative")
    return value


def _whole(cards: Header, key: str) -> int:
    value = cards.get(key)
    if type(value) is not int:
        raise UnfitError(
            f"{key} = {value!r} is not a whole number" if key in cards else f"it has no {key} card"
        )
    return value
