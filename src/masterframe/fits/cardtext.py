"""How cards are written: 80 characters each, and the whole header of an HDU with its checksums.

astropy writes the same, but its import alone takes longer than a small stack, and its headers some
milliseconds for every image; the tests read with it what is written here.

References
----------
FITS Standard 4.0 (2018), sections 4.1, 4.2 and 4.4.2.7; the HIERARCH convention.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from masterframe.fits import checksums
from masterframe.fits.cards import CARD, COMMENTARY, Card
from masterframe.fits.layout import BLOCK, padded

ONE_CARD = 68
"""Characters of a string that fit into one card, quotes within it counted twice."""

_FILLED = 20
"""Columns to which values of fixed format are filled up, the quotes of a string included."""
_SHORTEST = 8
"""Characters that a string has at least, but for the one of none."""
_UNKNOWN_SUM = "0" * 16
_OPEN_SUM = f"CHECKSUM= '{_UNKNOWN_SUM}".encode("ascii")


def header_text(cards: Iterable[Card]) -> str:
    """Return cards as they stand in a file, without END.

    Parameters
    ----------
    cards : iterable of Card
        With keywords, values and text that FITS allows (`masterframe.fits.legal`). A comment is cut
        where its card is full.
    """
    return "".join(map(_card_text, cards))


def header_bytes(cards: Iterable[Card], room: int = 0) -> bytes:
    """Return a whole header: cards, END, and blanks up to the last byte of a block.

    Parameters
    ----------
    cards : iterable of Card
        As for `header_text`.
    room : int
        Bytes that it fills, a multiple of 2880, with END in its last block, where readers end a
        header; by default as many blocks as it takes.

    Raises
    ------
    ValueError
        If the cards do not fit.
    """
    text = header_text(cards)
    room = room or padded(len(text) + CARD)
    lack = len(text) + CARD - room
    if lack > 0:
        raise ValueError(f"a header lacks {lack // CARD} spare cards")
    end = max(len(text), room - BLOCK)
    return (text.ljust(end) + "END").ljust(room).encode("ascii")


def sealed_bytes(cards: Iterable[Card], total: int, room: int = 0) -> bytes:
    """Return a whole header in which DATASUM and CHECKSUM, of `sum_cards`, hold.

    Parameters
    ----------
    cards, room
        As for `header_bytes`.
    total : int
        What the data of the HDU add up to (`checksums.add_words`).
    """
    summed = [
        card._replace(value=str(total)) if card.keyword == "DATASUM" else card for card in cards
    ]
    header = header_bytes(summed, room)
    letters = checksums.encode(checksums.add_words(header, total))
    return header.replace(_OPEN_SUM, b"CHECKSUM= '" + letters.encode("ascii"), 1)


def sum_cards() -> list[Card]:
    """Return the cards of checksums that are not known yet."""
    return [
        Card("CHECKSUM", _UNKNOWN_SUM, "checksum of this HDU"),
        Card("DATASUM", "0", "checksum of its data"),
    ]


def length(text: str) -> int:
    """Return the characters that a string takes between its quotes."""
    return len(text) + text.count("'")


def hierarch(keyword: str) -> str:
    """Return how the card of a keyword of more than eight letters, or several words, begins."""
    return f"HIERARCH {keyword} = "


def value_text(value: bool | int | float | str) -> str:
    """Return a value as its card has it, before it is filled up with blanks."""
    if isinstance(value, str):
        doubled = value.replace("'", "''")
        return f"'{doubled:{_SHORTEST if value else 0}}'"
    if isinstance(value, bool):
        return "T" if value else "F"
    if isinstance(value, int):
        return str(value)
    mantissa, _, exponent = repr(value).upper().partition("E")
    point = "" if "." in mantissa else ".0"
    return f"{mantissa}{point}E{exponent}" if exponent else f"{mantissa}{point}"


def _card_text(card: Card) -> str:
    keyword, value, comment = card
    if keyword in COMMENTARY:
        return f"{keyword:8}{value}"[:CARD].ljust(CARD)
    short = len(keyword) <= 8 and " " not in keyword
    head = f"{keyword:8}= " if short else hierarch(keyword)
    if isinstance(value, str) and length(value) > ONE_CARD and short:
        return "".join(_long(head, value))
    text = value_text(value)
    if short:
        text = text.ljust(_FILLED) if isinstance(value, str) else text.rjust(_FILLED)
    note = f" / {comment}" if comment else ""
    return f"{head}{text}{note}"[:CARD].ljust(CARD)


def _long(head: str, value: str) -> Iterator[str]:
    """Yield the cards of a string that goes on in CONTINUE cards, all but the last end in ``&``."""
    doubled = value.replace("'", "''")
    while len(doubled) > ONE_CARD:
        cut = ONE_CARD - 1
        cut -= doubled[:cut].count("'") % 2  # never between the two of a doubled quote
        yield f"{head}'{doubled[:cut]}&'".ljust(CARD)
        head, doubled = "CONTINUE  ", doubled[cut:]
    yield f"{head}'{doubled}'".ljust(CARD)
