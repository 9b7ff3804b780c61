"""One header read by the rules of an instrument: fields from keywords, in the wanted units.

What is odd is noted and not obeyed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from masterframe.matching import number, text
from masterframe.model import Header, Instrument, Keyword, Scalar

GAIN_RANGE = (0.05, 50.0)
"""Electrons per adu; a number outside of this is a setting or a mistake, not a gain."""

TEMPERATURE_RANGE = (-273.15, 100.0)
"""Degrees C; a number outside of this is in kelvin, or a mistake of the camera's software."""

KELVIN_RANGE = (100.0, 350.0)
"""Kelvin; no detector is as hot as these are in degrees C."""

_DARK_FRACTION = 0.9
"""Least dark time that is believed, in exposure times; some cards hold what was asked for."""

_PER_ADU = re.compile(
    r"\b(?:photo)?e(?:lectrons?|-)?\s*(?:/|-?per\b)\s*(?:adu|dn|dnb|counts?|data numbers?)\b",
    re.IGNORECASE,
)
"""A comment that tells that a gain is in electrons per adu."""

_UNITS_OF_TIME = {
    "milliseconds": (re.compile(r"\b(?:ms|msecs?|milli-?sec\w*)\b", re.IGNORECASE), 1e-3),
    "microseconds": (re.compile(r"\b(?:us|usecs?|micro-?sec\w*)\b", re.IGNORECASE), 1e-6),
    "minutes": (re.compile(r"\bminutes\b|\bin min\b|[\[(]min[\])]", re.IGNORECASE), 60.0),
}
"""Units that the comment of a time may name, and their seconds."""

_SECONDS = re.compile(r"\b(?:s|secs?|seconds?)\b", re.IGNORECASE)
"""A comment that names the usual unit, whatever else it says."""

_CLOCK = re.compile(r"(\d{1,3}):([0-5]?\d):([0-5]?\d(?:[.,]\d*)?)")
"""A time as ``hh:mm:ss``."""
_WITH_UNIT = re.compile(r"([\d.,eE+-]+)\s*(s|secs?|seconds?|ms|msecs?|min|minutes)", re.IGNORECASE)

_IN_ADU = re.compile(r"\b(?:adu|dn|counts?)\b", re.IGNORECASE)
_COUNTED = re.compile(r"(?:photo-?)?electrons?|e-?", re.IGNORECASE)
"""BUNIT of pixels that have been multiplied by their gain."""
_ELECTRONS = re.compile(r"\be-|\be\b|electron", re.IGNORECASE)
"""Units that the comment of a read noise may name."""

Known = tuple[float | None, str]
"""A number, and where it comes from; None and '' where it is not known."""


class Card(NamedTuple):
    """The first card of several that is there."""

    key: str = ""
    """Its keyword; '' where none is there."""
    value: Scalar = None
    """Its value as the header has it."""
    number: float | None = None
    """Its number in the unit that is wanted; None where it is none."""


def _told_seconds(words: str) -> float | None:
    """Return the seconds of a time as ``hh:mm:ss`` or with its unit; None where it is neither."""
    clock = _CLOCK.fullmatch(words)
    if clock:
        hours, minutes, seconds = (float(part.replace(",", ".")) for part in clock.groups())
        return 3600 * hours + 60 * minutes + seconds
    told = _WITH_UNIT.fullmatch(words)
    amount = number(told[1]) if told else None
    if not told or amount is None or amount < 0:
        return None
    unit = told[2].lower()
    return amount * (1e-3 if unit.startswith("ms") else 60.0 if unit.startswith("mi") else 1.0)


def find_card(header: Header, keywords: Sequence[Keyword]) -> Card:
    """Return the first keyword that is there and not blank."""
    for keyword in keywords:
        value = header.get(keyword.key)
        if value is not None and text(value):
            found = number(value)
            scaled = None if found is None else found * keyword.factor + keyword.offset
            return Card(keyword.key, value, scaled)
    return _NO_CARD


_NO_CARD = Card()


class Names(Mapping[str, str]):
    """For each field the keyword that it is found in, or would be; looked up when it is asked for.

    Parameters
    ----------
    reading : Reading
        The header.
    imagetyp : str
        The keyword that names the kind; '' where none does.
    """

    def __init__(self, reading: Reading, imagetyp: str) -> None:
        self._reading = reading
        self._imagetyp = imagetyp

    def __getitem__(self, field: str) -> str:
        if field == "imagetyp" and self._imagetyp:
            return self._imagetyp
        keywords = self._reading.instrument.keywords[field]
        return self._reading.card(field).key or " or ".join(one.key for one in keywords[:3])

    def __iter__(self) -> Iterator[str]:
        return iter(self._reading.instrument.keywords)

    def __len__(self) -> int:
        return len(self._reading.instrument.keywords)


class Reading:
    """The cards that an instrument's keywords find in one header.

    Parameters
    ----------
    header : mapping
        Cards of the HDU over those of the primary.
    comments : mapping
        Comments of cards that are written in several units.
    instrument : Instrument
        Its keywords are looked up.

    Attributes
    ----------
    notes : list of str
        What was odd and was not obeyed, as far as it has been read.
    """

    def __init__(self, header: Header, comments: Mapping[str, str], instrument: Instrument) -> None:
        self.header = header
        self.comments = comments
        self.instrument = instrument
        self.notes: list[str] = []
        self._cards: dict[str, Card] = {}

    def keywords(self, name: str) -> tuple[Keyword, ...]:
        """Return the keywords in which a field is looked for."""
        return self.instrument.keywords.get(name, ())

    def card(self, name: str) -> Card:
        """Return the card of a field."""
        found = self._cards.get(name)
        if found is None:
            found = self._cards[name] = find_card(self.header, self.keywords(name))
        return found

    def words(self, name: str) -> str:
        """Return the text of a field; '' where it has none."""
        return text(self.card(name).value)

    def values(self, wanted: Mapping[str, Sequence[Keyword]]) -> tuple[tuple[str, Scalar], ...]:
        """Return the value of each name that is there; numbers in the unit that is wanted."""
        cards = {name: find_card(self.header, keywords) for name, keywords in wanted.items()}
        return tuple(
            (name, text(card.value) if card.number is None else card.number)
            for name, card in cards.items()
            if card.key
        )

    def seconds(self, name: str) -> float | None:
        """Return a time that is not negative, in the unit of its comment; note what is none."""
        card = self.card(name)
        if (
            card.key
            and card.number is None
            and (told := _told_seconds(text(card.value))) is not None
        ):
            self.notes.append(f"{card.key} = {card.value!r} is taken for {told:g} s")
            return told
        if card.key and (card.number is None or card.number < 0):
            self.notes.append(f"{card.key} = {card.value!r} is not used: not a time in seconds")
            return None
        comment = self.comments.get(card.key, "")
        unscaled = card.number == number(card.value) and not _SECONDS.search(comment)
        for unit, (words, factor) in _UNITS_OF_TIME.items():
            if card.number and unscaled and words.search(comment):
                self.notes.append(f"{card.key} = {card.value!r} is in {unit}, as its comment says")
                return card.number * factor
        return card.number

    def dark_seconds(self, exptime: float | None) -> float | None:
        """Return the time in which dark current was collected; that of the exposure if unknown.

        A card that gives much less is not believed: cameras write 0 for what they do not know.
        """
        found = self.seconds("dark_time")
        if found is None or exptime is None or found >= _DARK_FRACTION * exptime:
            return exptime if found is None else found
        card = self.card("dark_time")
        self.notes.append(
            f"{card.key} = {card.value!r} is not used: shorter than the exposure of {exptime:g} s"
        )
        return exptime

    def celsius(self) -> float | None:
        """Return a temperature that a detector can have, from kelvin too; note what is none."""
        card = self.card("temperature")
        low, high = TEMPERATURE_RANGE
        if card.number is None or low <= card.number <= high:
            return card.number
        if KELVIN_RANGE[0] < card.number <= KELVIN_RANGE[1]:
            return card.number - 273.15
        self.notes.append(f"{card.key} = {card.value!r} is not used: no temperature of a detector")
        return None

    def binning(self) -> tuple[int, int]:
        """Return the binning (y, x) from one card like ``2 2`` or one an axis; 1 if unknown."""
        pair = re.findall(r"\d+", self.words("binning"))
        if len(pair) in (1, 2):
            return max(int(pair[-1]), 1), max(int(pair[0]), 1)
        x, y = (int(self.card(name).number or 0) for name in ("binning_x", "binning_y"))
        across = x or y or 1
        return max(y or across, 1), max(across, 1)

    @property
    def unit(self) -> str:
        """The unit of the pixels: adu, or electron where BUNIT says so."""
        return "electron" if _COUNTED.fullmatch(text(self.header.get("BUNIT"))) else "adu"

    def gain(self) -> Known:
        """Return electrons per adu from a card whose unit is known; note what is not used.

        1 where the pixels are in electrons: their gain has been applied.
        """
        if self.unit == "electron":
            card = self.card("gain")
            if card.number not in (None, 1):
                self.notes.append(
                    f"{card.key} = {card.value!r} is not used: BUNIT says that it has been applied"
                )
            return 1.0, "BUNIT"
        card = self.card("gain")
        if not card.key and _PER_ADU.search(self.comments.get("GAIN", "")):
            card = find_card(self.header, (Keyword("GAIN"),))
        low, high = GAIN_RANGE
        if card.number is not None and low <= card.number <= high:
            return card.number, card.key
        if card.key:
            self.notes.append(
                f"{card.key} = {card.value!r} is not used: "
                f"not within {low} to {high} electrons per adu"
            )
        elif text(self.header.get("GAIN")):
            value = self.header["GAIN"]
            self.notes.append(f"GAIN = {value!r} is not used: nothing tells its unit")
        return None, ""

    def read_noise(self) -> Known:
        """Return the read noise in electrons; note one that is in adu, as its comment says."""
        found, key = self.positive("read_noise")
        comment = self.comments.get(key, "")
        if found is None or not _IN_ADU.search(comment) or _ELECTRONS.search(comment):
            return found, key
        value = self.header[key]
        self.notes.append(f"{key} = {value!r} is not used: in adu, as its comment says")
        return None, ""

    def gain_at(self, key: str) -> float | None:
        """Return the gain in a card whose comment tells that it is in electrons per adu.

        1 where the pixels are in electrons.
        """
        if self.unit == "electron":
            return 1.0
        found = number(self.header.get(key))
        told = found is not None and _PER_ADU.search(self.comments.get(key, ""))
        return found if told and GAIN_RANGE[0] <= (found or 0) <= GAIN_RANGE[1] else None

    def noise_at(self, key: str) -> float | None:
        """Return the read noise in a card, if it is not in adu as its comment says."""
        found, comment = number(self.header.get(key)), self.comments.get(key, "")
        in_adu = _IN_ADU.search(comment) and not _ELECTRONS.search(comment)
        return None if in_adu or found is None or found <= 0 else found

    def positive(self, name: str) -> Known:
        """Return a number above zero."""
        card = self.card(name)
        return (
            (card.number, card.key) if card.number is not None and card.number > 0 else (None, "")
        )

    def tells_binning(self) -> bool:
        """Return whether a card gives the binning."""
        return any(self.card(name).key for name in ("binning", "binning_x", "binning_y"))
