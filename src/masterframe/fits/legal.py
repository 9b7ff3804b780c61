"""What FITS allows in a header: every card that is written passes through here.

Camera software writes what it likes, statistics may be NaN, and folders have umlauts; the standard
allows printable ASCII, finite numbers, and for some keywords one type alone. `safe_card` is the one
door to the file; `lawful` sorts the cards of a foreign header into those that may stand as they are
and those that the standard does not allow.

References
----------
FITS Standard 4.0 (2018), sections 4.1, 4.2 (syntax), 4.4.2 (reserved keywords), 8.2 (WCS), 9.1
(dates); Appendix A of the HIERARCH convention.
"""

from __future__ import annotations

import math
import numbers
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from masterframe.fits.cards import CARD, COMMENTARY, Card
from masterframe.fits.cardtext import ONE_CARD, hierarch, length, value_text

Cards = Mapping[str, tuple[Any, str]]
"""Value and comment by keyword; ``HISTORY`` and ``COMMENT`` hold lines."""

LONG_STRING = 1000
"""Characters of a string of an input header that are kept, over several cards."""
LONG_STRINGS = Card("LONGSTRN", "OGIP 1.0", "long strings go on in CONTINUE cards")
"""The card that headers with such strings have."""

_KEYWORD = re.compile(r"[A-Z0-9_-]{1,8}")
_HIERARCH = re.compile(r"[A-Z0-9_-]+( [A-Z0-9_-]+)*")
_FEWEST = 20
"""Characters of a string that a HIERARCH keyword must leave room for."""
_NEVER = {"END", "CONTINUE", "HIERARCH"}
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]+")

_FLOAT = re.compile(
    r"(CRPIX|CRVAL|CDELT|CROTA|CRDER|CSYER|PV)\d|(PC|CD)\d+_|(EQUINOX|MJD-OBS|MJD-AVG)$"
    r"|RESTFRE?Q|RESTWAV|OBSGEO-[XYZ]|VELOSYS|ZSOURCE|VELANGL|LONPOLE|LATPOLE"
)
_STRING = re.compile(
    r"(CTYPE|CUNIT|CNAME|PS)\d"
    r"|(EXTNAME|ORIGIN|AUTHOR|CREATOR|REFERENC|TELESCOP|INSTRUME|OBSERVER|OBJECT|BUNIT)$"
)
_INDEX = re.compile(
    r"(?:CRPIX|CRVAL|CDELT|CROTA|CRDER|CSYER|CTYPE|CUNIT|CNAME|P[SV])(\d+)|(?:PC|CD)(\d+)_(\d+)"
)
_PRIMARY_AXIS = re.compile(r"(CRPIX|CRVAL|CDELT|CROTA|CRDER|CSYER)(\d+)$")
_CELESTIAL_FRAMES = {"ICRS", "FK5", "FK4", "FK4-NO-E", "GAPPT"}
_SPECTRAL_FRAMES = {
    *("TOPOCENT", "GEOCENTR", "BARYCENT", "HELIOCEN", "LSRK", "LSRD", "GALACTOC", "LOCALGRP"),
    *("CMBDIPOL", "SOURCE"),
}
_FRAMES = {
    "RADESYS": _CELESTIAL_FRAMES,
    "RADECSYS": _CELESTIAL_FRAMES,
    "SPECSYS": _SPECTRAL_FRAMES,
    "SSYSOBS": _SPECTRAL_FRAMES,
    "SSYSSRC": _SPECTRAL_FRAMES,
}
_DATE = re.compile(r"\d{4}-\d\d-\d\d(T\d\d:\d\d:\d\d(\.\d*)?)?")


def ascii_text(text: str) -> str:
    r"""Return text as printable ASCII: controls become blanks, the rest ``\xe4`` or ``\u03b1``."""
    plain = _CONTROLS.sub(" ", text)
    return plain.encode("ascii", "backslashreplace").decode("ascii")


def safe_card(keyword: str, value: Any, comment: str = "", limit: int = ONE_CARD) -> Card | None:
    """Return a card that FITS allows, or None where nothing of it can be saved.

    Parameters
    ----------
    keyword : str
        Up to 8 characters, or a HIERARCH keyword without that word; any case.
    value : object
        Bool, integer, float or string, numpy's included; other things are written as text.
    comment : str
        What the card has no room for is cut when it is written.
    limit : int
        Characters of a string that are kept; beyond `ONE_CARD` it takes several cards.

    Returns
    -------
    Card or None
        None for NaN, infinity, no value at all, and keywords that FITS cannot hold.
    """
    keyword = keyword.strip().upper()
    if keyword in COMMENTARY:
        return Card(keyword, ascii_text(str(value))[: CARD - 8].rstrip())
    plain = _plain(value)
    if plain is None or not _can_be_keyword(keyword):
        return None
    room = limit
    if not _KEYWORD.fullmatch(keyword):
        room = min(limit, CARD - len(hierarch(keyword)) - len("''"))
        if room < (_FEWEST if isinstance(plain, str) else len(value_text(plain))):
            return None
    if isinstance(plain, str):
        plain = _cut(plain, room)
    return Card(keyword, plain, ascii_text(comment).strip())


def with_cards(header: Sequence[Card], cards: Cards) -> list[Card]:
    """Return a header with cards set, each made safe; one that cannot be saved is not in it.

    New cards stand before the commentary at the end. The lines of ``HISTORY`` and ``COMMENT`` are
    added to those that are there.
    """
    changed: dict[str, Card | None] = {}
    lines: list[Card] = []
    for keyword, (value, comment) in cards.items():
        if keyword in COMMENTARY:
            lines += [Card(keyword, line) for line in _lines(str(value))]
        else:
            changed[keyword.strip().upper()] = safe_card(keyword, value, comment)
    present = {card.keyword for card in header}
    end = max((n for n, card in enumerate(header, 1) if card.keyword not in COMMENTARY), default=0)
    kept = [changed.get(card.keyword, card) for card in header]
    new = [card for keyword, card in changed.items() if keyword not in present]
    return [card for card in (*kept[:end], *new, *kept[end:], *lines) if card is not None]


def lawful(cards: Iterable[Card], naxis: int = 2) -> tuple[list[Card], list[Card]]:
    """Sort the cards of a foreign header by whether the standard allows them in an image.

    Numbers in quotes are unquoted, and quoted, where a reserved keyword asks for it; an incomplete
    WCS gets the standard's default values written out; ``WCSAXES`` comes first; ``EPOCH`` is called
    ``EQUINOX``.

    Parameters
    ----------
    cards : iterable of Card
        Without structural cards.
    naxis : int
        Axes of the image.

    Returns
    -------
    (list of Card, list of Card)
        Cards that may stand, commentary included; and those that may not: no value, a date that is
        none, a second card of a keyword, axes that the image does not have.
    """
    good: dict[str, Card] = {}
    notes: list[Card] = []
    bad: list[Card] = []
    given = list(cards)
    names = {card.keyword for card in given}
    for card in given:
        if card.keyword in COMMENTARY:
            notes.append(card)
            continue
        if card.keyword == "EPOCH" and "EQUINOX" not in names:
            card = card._replace(keyword="EQUINOX")  # noqa: PLW2901
        fixed = _reserved(card)
        if fixed is None or _plain(fixed.value) is None or not _can_be_keyword(fixed.keyword):
            bad.append(card)
        elif card.keyword not in good:
            good[card.keyword] = fixed
        elif good[card.keyword].value != fixed.value:
            bad.append(card)
    return [*_consistent_wcs(good, bad, naxis), *notes], bad


def quoted(cards: Sequence[Card]) -> Iterator[Card]:
    """Yield cards that FITS does not allow as comments that quote them."""
    for keyword, value, comment in cards:
        text = "" if value is None else str(value)
        note = f" / {comment}" if comment else ""
        for line in _lines(f"{keyword} = {text}{note}"):
            yield Card("COMMENT", line)


def safe_cards(cards: Iterable[Card]) -> list[Card]:
    """Return cards made safe; strings longer than a card are kept, and go on in the next."""
    made = [safe_card(*card, limit=LONG_STRING) for card in cards]
    safe = [card for card in made if card is not None]
    values = {card.keyword: card.value for card in safe if card.keyword not in COMMENTARY}
    long = any(isinstance(one, str) and length(one) > ONE_CARD for one in values.values())
    return [LONG_STRINGS, *safe] if long and LONG_STRINGS.keyword not in values else safe


def _plain(value: Any) -> bool | int | float | str | None:
    """Return a value as Python's own type; None where FITS has no way to write it."""
    if value is None:
        return None
    if isinstance(value, bool) or type(value).__name__ in {"bool", "bool_"}:
        return bool(value)
    if isinstance(value, numbers.Integral):
        whole = int(value)
        return whole if abs(whole) < 2**63 else _plain(float(whole))
    if isinstance(value, numbers.Real):
        return float(value) if math.isfinite(value) else None
    return ascii_text(str(value)).rstrip()


def _can_be_keyword(keyword: str) -> bool:
    return _HIERARCH.fullmatch(keyword) is not None and keyword not in _NEVER


def _cut(text: str, room: int) -> str:
    """Shorten a string until it and the doubles of its quotes fit."""
    while text and length(text) > room:
        text = text[: len(text) - max(1, (length(text) - room) // 2)]
    return text


def _lines(text: str) -> Iterator[str]:
    for line in text.splitlines() or [""]:
        safe = ascii_text(line)
        for start in range(0, max(1, len(safe)), CARD - 8):
            yield safe[start : start + CARD - 8]


def _reserved(card: Card) -> Card | None:
    """Return the card as its reserved keyword asks for it; None where it cannot be."""
    keyword, value, _ = card
    if keyword == "EPOCH" or keyword.startswith("DATE"):
        date = _date(value) if keyword != "EPOCH" else None
        return card._replace(value=date) if date else None
    rule: Callable[[Any], Any] | None = None
    if _FLOAT.match(keyword):
        rule = _number
    elif _STRING.match(keyword):
        rule = str
    elif keyword.startswith("WCSAXES"):
        rule = _count
    if rule is not None:
        fixed = rule(value) if value is not None else None
        zero = keyword.startswith("CDELT") and fixed == 0
        below = keyword.startswith(("CRDER", "CSYER")) and fixed is not None and fixed < 0
        return None if fixed is None or zero or below else card._replace(value=fixed)
    for prefix, frames in _FRAMES.items():
        if keyword.startswith(prefix):
            name = str(value).strip().upper()
            return card._replace(value=name) if name in frames else None
    return card


def _number(value: Any) -> float | int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return value
    try:
        return float(str(value))
    except ValueError:
        return None


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _date(value: Any) -> str | None:
    """Return a date as FITS writes it, ISO 8601 in UTC without a zone; None where it is none.

    Zones, slashes for dashes and the day/month/year of the twentieth century are understood.
    """
    text = str(value).strip().removesuffix("Z")
    text = re.sub(r"^(\d{4})/(\d\d)/(\d\d)", r"\1-\2-\3", text)
    text = re.sub(r"^(\d\d)/(\d\d)/(\d\d)$", r"19\3-\2-\1", text)
    text = re.sub(r"^(\S{10}) (?=\d)", r"\1T", text)
    try:
        if re.search(r"T.*[+-]", text):
            utc = datetime.fromisoformat(text).astimezone(UTC)
            text = utc.replace(tzinfo=None).isoformat()
        if not _DATE.fullmatch(text):
            return None
        # A leap second is lawful, but not to Python; a fraction may be of any length.
        datetime.fromisoformat(re.sub(r":60$", ":59", text.split(".")[0]))
    except (ValueError, OverflowError):
        return None
    return text


def _consistent_wcs(good: dict[str, Card], bad: list[Card], naxis: int) -> list[Card]:
    """Drop axes that are not there and one of two rival matrices; complete what is left."""
    counts = {key: card for key, card in good.items() if key.startswith("WCSAXES")}
    axes = max((card.value for card in counts.values()), default=naxis)
    matrix = any(re.fullmatch(r"CD\d+_\d+", key) for key in good)
    rotated = any(re.fullmatch(r"PC\d+_\d+", key) for key in good) and not matrix
    cards = list(counts.values())
    for key, card in good.items():
        match = _INDEX.match(key)
        far = match is not None and not all(1 <= int(n) <= axes for n in match.groups() if n)
        rival = (matrix and re.fullmatch(r"PC\d+_\d+", key)) or (rotated and key == "CROTA2")
        if far or rival:
            bad.append(card)
        elif key not in counts:
            cards.append(card)
    return cards + list(_missing_axes(cards, naxis))


def _missing_axes(cards: Sequence[Card], naxis: int) -> Iterator[Card]:
    """Yield the default values of an incomplete WCS (FITS 4.0, section 8.2)."""
    present = {card.keyword: card.value for card in cards}
    known = [int(m[2]) for key in present if (m := _PRIMARY_AXIS.match(key))]
    axes = present.get("WCSAXES") or min(naxis, max(known, default=0))
    for axis in range(1, axes + 1):
        for name, default in (("CTYPE", ""), ("CRPIX", 0.0), ("CRVAL", 0.0)):
            if f"{name}{axis}" not in present:
                yield Card(f"{name}{axis}", default, "default, not given")
