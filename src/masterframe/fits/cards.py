"""Header cards: 80 bytes each, read into a plain dictionary, or one by one with their comments.

Values follow the FITS standard 4.0, section 4.2, and astropy where that is more forgiving. A card
that fits neither is kept as its text: an odd card must not cost the frame.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from typing import Any, NamedTuple

from masterframe.model import Scalar

CARD = 80
"""Bytes of a card."""

COMMENTARY = ("COMMENT", "HISTORY", "")
"""Keywords whose cards hold text alone."""
_NO_VALUE = frozenset({*COMMENTARY, "END", "CONTINUE"})

_REST = r" *(?:/.*)?$"
_VALUE = re.compile(
    r" *(?:'((?:[^']|'')*)'|([+-]?\d+)|([TF])|"
    rf"([+-]?(?:\d+\.?\d*|\.\d+)(?:[EDed][+-]?\d+)?)|){_REST}",
    re.DOTALL | re.ASCII,
)
_COMMENT = re.compile(r" *(?:'(?:[^']|'')*'|[^'/]*) */(.*)", re.DOTALL)
# What some cameras write: a quote within a string that is not doubled, blanks within a number.
_LOOSE_STRING = re.compile(rf" *'(.*?)'(?=$|[/ ]){_REST}", re.DOTALL)
_LOOSE_NUMBER = re.compile(
    rf" *([+-]? *(?:\d+\.?\d*|\.\d+) *(?:[EDed] *[+-]? *\d+)?){_REST}", re.DOTALL | re.ASCII
)
# Nine cards of ten, in one go: scanning a night is spent here.
_USUAL = re.compile(
    r"(?:([A-Z0-9_-][A-Z0-9_ -]{7})= |HIERARCH +([^=]+)=) *"
    r"(?:'([ -&(-~]*)'|([+-]?\d+)|([+-]?\d+\.\d*(?:E[+-]?\d+)?)|([TF])) *(?:/|$)",
    re.ASCII,
)

_OF_TABLE = re.compile(
    r"XTENSION|BITPIX|NAXIS\d*|[PG]COUNT|TFIELDS|THEAP|T[A-Z]{3,4}\d+|CHECKSUM|DATASUM|"
    r"Z(IMAGE|CMPTYPE|MASKCMP|QUANTIZ|DITHER0|BLANK|SCALE|ZERO|TILE\d+|NAME\d+|VAL\d+)"
)
"""Cards of the table that holds a tile-compressed image (FITS standard 4.0, section 10.1)."""
_OF_IMAGE = re.compile(
    r"Z(SIMPLE|TENSION|BITPIX|NAXIS\d*|EXTEND|BLOCKED|[PG]COUNT|HECKSUM|DATASUM)"
)
"""Cards that keep those of the image itself, ..."""
_PLAIN_NAMES = {"ZTENSION": "XTENSION", "ZHECKSUM": "CHECKSUM"}
"""... where the name is not just the rest."""


class Card(NamedTuple):
    """One card, apart from how it is written."""

    keyword: str
    """Upper case; ``HIERARCH ESO X`` is ``ESO X``."""
    value: Any
    """Its value; text for commentary cards."""
    comment: str = ""
    """What follows the slash."""


def read_cards(header: bytes) -> dict[str, Scalar]:
    """Return the values of a header by keyword.

    Parameters
    ----------
    header : bytes
        Whole cards; whatever follows the END card is not looked at.

    Returns
    -------
    dict
        Keywords in upper case, ``HIERARCH ESO DET ID`` as ``ESO DET ID``; of a keyword that is
        there twice the first card counts. Strings without their trailing blanks, `None` for a card
        without a value, the text of the card where its value follows no rule of FITS (complex
        numbers too). COMMENT, HISTORY and blank cards are left out.
    """
    text = header.decode("latin-1")
    values: dict[str, Scalar] = {}
    last = ""  # keyword of the card before, whose string may be continued
    for start in range(0, len(text), CARD):
        match = _USUAL.match(text, start, start + CARD)
        if match is None:
            card = text[start : start + CARD]
            name = card[:8].rstrip()
            if name == "END":
                break
            if name == "CONTINUE" and last:
                values[last] = _continued(values[last], card[8:])
            if name in _NO_VALUE:
                continue
            key, value = _read_unusual(card)
        else:
            key, value = _read_usual(match)
        last = ""
        if key not in values and key not in _NO_VALUE:
            values[sys.intern(key)] = value  # thousands of headers have the same keywords
            last = key
    return values


def _read_usual(match: re.Match[str]) -> tuple[str, Scalar]:
    key, hierarch, string, whole, real, flag = match.groups()
    key = hierarch.strip().upper() if key is None else key.rstrip()
    if string is not None:
        return key, string.rstrip()
    if whole is not None:
        return key, int(whole)
    if real is not None:
        return key, float(real)
    return key, flag == "T"


def _read_unusual(card: str) -> tuple[str, Scalar]:
    key, field = _split(card)
    return key, _clean(card[8:].strip()) if field is None else parse_value(field)


def _split(card: str) -> tuple[str, str | None]:
    """Return the keyword of a card and its value field; None where nothing says that it has one."""
    name = card[:8].strip().upper()
    if card[8:10] == "= ":
        return name, card[10:]
    if name == "HIERARCH" and card[8:9] == " " and "=" in card:
        key, _, field = card[9:].partition("=")
        return key.strip().upper(), field
    early = card.find("= ", 0, 10)  # the indicator stands too far to the left
    if early >= 0:
        return card[:early].strip().upper(), card[early + 2 :]
    return name, None


def read_all_cards(header: bytes) -> list[Card]:
    """Return all cards of a header in their order, commentary and blank ones among them.

    Parameters
    ----------
    header : bytes
        Whole cards; whatever follows the END card is not looked at.

    Returns
    -------
    list of Card
        Values as `read_cards` has them; a string with the CONTINUE cards that follow it is one.
    """
    text = header.decode("latin-1")
    cards: list[Card] = []
    for start in range(0, len(text), CARD):
        card = text[start : start + CARD]
        name = card[:8].rstrip()
        if name == "END":
            break
        if name == "CONTINUE" and cards and _goes_on(cards[-1]):
            cards[-1] = _with_more(cards[-1], card[8:])
        elif name in _NO_VALUE:
            cards.append(Card(name, _clean(card[8:])))
        else:
            key, field = _split(card)
            if field is None:
                cards.append(Card(key, _clean(card[8:].strip())))
            else:
                cards.append(Card(key, parse_value(field), _comment(field)))
    return cards


def _continued(value: Scalar, field: str) -> Scalar:
    """Return a string with that of a CONTINUE card behind it, if it ends in ``&``."""
    if not (isinstance(value, str) and value.endswith("&")):
        return value
    more = parse_value(field)
    return value[:-1] + (more if isinstance(more, str) else "")


def _goes_on(card: Card) -> bool:
    """Return whether a CONTINUE card may follow."""
    return card.keyword not in _NO_VALUE and str(card.value).endswith("&")


def _with_more(card: Card, field: str) -> Card:
    return Card(card.keyword, _continued(card.value, field), card.comment or _comment(field))


def _comment(field: str) -> str:
    """Return what follows the value in its field."""
    match = _COMMENT.match(field) if _VALUE.match(field) else None
    return _clean(match[1] if match else field.partition(" /")[2]).strip()


def image_keyword(keyword: str) -> str | None:
    """Return what a card of the table of a tile-compressed image is called in that image.

    Returns
    -------
    str or None
        None for cards of the table itself.
    """
    if _OF_IMAGE.fullmatch(keyword):
        return _PLAIN_NAMES.get(keyword, keyword[1:])
    return None if _OF_TABLE.fullmatch(keyword) else keyword


def read_comments(header: bytes, keys: Iterable[str]) -> dict[str, str]:
    """Return the comments of a few cards, by keyword; of those that have one.

    Parameters
    ----------
    header : bytes
        Whole cards.
    keys : iterable of str
        Keywords of up to eight letters; of one that is there twice the first card counts.
    """
    found = {}
    for key in keys:
        name = b"%-8s= " % key.encode("ascii")
        at = header.find(name)
        while at >= 0 and at % CARD:
            at = header.find(name, at + 1)
        if at >= 0:
            field = header[at + len(name) : at + CARD].decode("latin-1")
            comment = _COMMENT.match(field)
            if comment and comment[1].strip():
                found[key] = comment[1].strip()
    return found


def read_history(header: bytes) -> str:
    """Return the text of all HISTORY cards, a line each."""
    lines = []
    at = header.find(b"HISTORY ")
    while at >= 0:
        if at % CARD == 0:
            lines.append(header[at + 8 : at + CARD].decode("latin-1").rstrip())
        at = header.find(b"HISTORY ", at + 8)
    return "\n".join(lines)


def parse_value(field: str) -> Scalar:
    """Return the value in a card's value field, which may end in a comment after a slash."""
    match = _VALUE.match(field)
    if match is None:
        return _read_loosely(field)
    kind = match.lastindex
    if kind is None:
        return None
    text = match[kind]
    if kind == 1:
        return _clean(text.replace("''", "'"))
    if kind == 2:
        return int(text)
    if kind == 3:
        return text == "T"
    return _float(text)


def _read_loosely(field: str) -> Scalar:
    if match := _LOOSE_STRING.match(field):
        return _clean(match[1].replace("''", "'"))
    if match := _LOOSE_NUMBER.match(field):
        text = match[1].replace(" ", "")
        return int(text) if text.lstrip("+-").isdigit() else _float(text)
    return _clean(field.partition(" /")[0].strip())


def _float(text: str) -> float:
    return float(text.replace("D", "E").replace("d", "e"))


def _clean(text: str) -> str:
    """Take off trailing blanks, and NUL with which some cameras fill; read UTF-8 where it is."""
    text = text.rstrip(" \0")
    if text.isascii():
        return text
    try:
        return text.encode("latin-1").decode()
    except UnicodeDecodeError:
        return text
