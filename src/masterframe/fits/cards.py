"""Header cards: 80 bytes each, read into a plain dictionary.

Values follow the FITS standard 4.0, section 4.2, and astropy where that is more forgiving. A card
that fits neither is kept as its text: an odd card must not cost the frame.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable

from masterframe.model import Scalar

CARD = 80
"""Bytes of a card."""

_COMMENTARY = frozenset({"", "COMMENT", "HISTORY", "END", "CONTINUE"})

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
            if name == "CONTINUE":
                _continue(values, last, card[8:])
            if name in _COMMENTARY:
                continue
            key, value = _read_unusual(card)
        else:
            key, value = _read_usual(match)
        last = ""
        if key not in values and key not in _COMMENTARY:
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
    name = card[:8].strip().upper()
    if card[8:10] == "= ":
        return name, parse_value(card[10:])
    if name == "HIERARCH" and card[8:9] == " " and "=" in card:
        key, _, field = card[9:].partition("=")
        return key.strip().upper(), parse_value(field)
    early = card.find("= ", 0, 10)  # the indicator stands too far to the left
    if early >= 0:
        return card[:early].strip().upper(), parse_value(card[early + 2 :])
    return name, _clean(card[8:].strip())


def _continue(values: dict[str, Scalar], key: str, field: str) -> None:
    """Append a CONTINUE card to the string before it, if that ends in ``&``."""
    value = values.get(key)
    if isinstance(value, str) and value.endswith("&"):
        more = parse_value(field)
        values[key] = value[:-1] + (more if isinstance(more, str) else "")


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
