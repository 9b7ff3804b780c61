"""From a scanned file to an exposure: the fields that grouping and calibration need."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from masterframe import fits
from masterframe.errors import FrameError
from masterframe.inventory import kinds, sections
from masterframe.inventory.dates import start_utc
from masterframe.matching import exposure_lookup, number, selects, text
from masterframe.model import (
    Config,
    Exposure,
    Frame,
    Header,
    Image,
    Instrument,
    Keyword,
    Scalar,
    TypeRule,
)

GAIN_RANGE = (0.05, 50.0)
"""Electrons per adu; a number outside of this is a setting or a mistake, not a gain."""

TEMPERATURE_RANGE = (-273.15, 100.0)
"""Degrees C; a number outside of this is in kelvin, or a mistake of the camera's software."""

KELVIN_RANGE = (100.0, 350.0)
"""Kelvin; no detector is as hot as these are in degrees C."""

_PER_ADU = re.compile(
    r"\be(?:lectrons?|-)?\s*(?:/|-?per\b)\s*(?:adu|dn|dnb|counts?)\b", re.IGNORECASE
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

Comments = Mapping[str, str]
"""Comments of a few cards by keyword."""

_NOT_SCIENCE = re.compile(r"(.*_)?(UNCERT|ERR|MASK|DQ|BPM|COUNT|WHT|WEIGHT|VAR)\w*")


class Card(NamedTuple):
    """The first card of several that is there."""

    key: str
    """Its keyword; '' where none is there."""
    value: Scalar
    """Its value as the header has it."""
    number: float | None
    """Its number in the unit that is wanted; None where it is none."""


class Described(NamedTuple):
    """An exposure, and by which rules it was typed."""

    exposure: Exposure
    """The exposure."""
    rules: tuple[TypeRule, ...]
    """The rules of the configuration and of its instrument."""
    names: Mapping[str, str]
    """Of each field the keyword that it was found in, or would have been."""
    reason: str
    """Why it has no image that can be used; '' where it has one."""


class Describer:
    """Describes scanned files by a configuration, and remembers what it has seen of it.

    Parameters
    ----------
    config : Config
        Its instruments, type rules and detector numbers are used.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.rules = {
            one.name: kinds.Rules((*config.types, *one.kinds)) for one in config.instruments
        }

    def describe(self, scan: fits.FileScan, night: str) -> Described:
        """Return the exposure in a scanned file.

        Raises
        ------
        FrameError
            Where the file holds no image or a master, or where no instrument matches.
        """
        plain, found = _plain(scan, night)
        instrument = detect(self.config.instruments, plain)
        if instrument is None:
            raise FrameError(scan.path, "none of the configured instruments matches its header")
        chosen = _science(found, instrument)
        if not chosen:
            raise FrameError(scan.path, f"it has none of the HDUs {instrument.hdu}")
        primary = {**scan.hdus[0].header, **_history(scan, instrument)}
        comments = {**chosen[0].comments, **scan.hdus[0].comments}
        headers = [{**primary, **hdu.header} for hdu in chosen]
        usable = [pair for pair in zip(chosen, headers, strict=True) if pair[0].frame is not None]
        images = [_image(*pair, comments, instrument, self.config) for pair in usable]
        rules = self.rules[instrument.name]
        named, hints = (instrument.keywords.get(name, ()) for name in ("imagetyp", "hint"))
        word = rules.word(headers[0], named, hints)
        exposure = replace(
            _described(plain, headers[0], comments, instrument),
            header=primary,
            images=tuple(image for image, _ in images),
            imagetyp=word.value,
        )
        names = {
            name: find_card(headers[0], keys).key or " or ".join(card.key for card in keys[:3])
            for name, keys in instrument.keywords.items()
        } | ({"imagetyp": word.key} if word.key else {})
        settled = _settled(exposure, rules, word, names, instrument)
        notes = dict.fromkeys((*settled.notes, *(note for _, more in images for note in more)))
        reason = "" if usable else f"no image: {chosen[0].reason}"
        if reason and settled.kind is None:
            raise FrameError(scan.path, reason)
        return Described(replace(settled, notes=tuple(notes)), rules.rules, names, reason)


def detect(instruments: Sequence[Instrument], exposure: Exposure) -> Instrument | None:
    """Return the first instrument that matches; a single one needs not be recognised."""
    if len(instruments) == 1:
        return instruments[0]
    lookup = exposure_lookup(exposure)
    return next((one for one in instruments if any(selects(m, lookup) for m in one.match)), None)


def find_card(header: Header, keywords: Sequence[Keyword]) -> Card:
    """Return the first keyword that is there and not blank."""
    for keyword in keywords:
        value = header.get(keyword.key)
        if text(value):
            found = number(value)
            scaled = None if found is None else found * keyword.factor + keyword.offset
            return Card(keyword.key, value, scaled)
    return Card("", None, None)


def _plain(scan: fits.FileScan, night: str) -> tuple[Exposure, list[fits.HduScan]]:
    """Return an exposure of which only the header is known, and the HDUs with an image.

    Where none can be used, those whose pixels are no plane: it is typed all the same.
    """
    found = [hdu for hdu in scan.hdus if hdu.frame is not None]
    found = found or [hdu for hdu in scan.hdus if hdu.reason and _holds_pixels(hdu)][:1]
    if not found:
        reasons = "; ".join(dict.fromkeys(hdu.reason for hdu in scan.hdus if hdu.reason))
        raise FrameError(scan.path, f"no image: {reasons or 'no HDU has pixels'}")
    header = {**scan.hdus[0].header, **found[0].header}
    if text(header.get("ISMASTER")) == "T":
        raise FrameError(scan.path, "a master, not a raw exposure: ISMASTER = T")
    if text(header.get("MFVERS")):
        raise FrameError(scan.path, "calibrated by masterframe already, not a raw exposure: MFVERS")
    return Exposure(scan.path, (), None, False, "", header, night=night), found


def _holds_pixels(hdu: fits.HduScan) -> bool:
    """Return whether an HDU is an image, of whatever shape."""
    return text(hdu.header.get("XTENSION", "IMAGE")) == "IMAGE"


def _science(found: Sequence[fits.HduScan], instrument: Instrument) -> list[fits.HduScan]:
    """Return the HDUs that hold science images."""
    if instrument.hdu:
        return [hdu for hdu in found if {hdu.index, hdu.extname} & set(instrument.hdu)]
    if found[0].index == 0:
        return list(found[:1])
    named = [hdu for hdu in found if not _NOT_SCIENCE.fullmatch(hdu.extname.upper())]
    return named or list(found[:1])


def _history(scan: fits.FileScan, instrument: Instrument) -> Header:
    """Return the HISTORY of the primary HDU as one text, where a rule of the instrument asks."""
    keys = {condition.key for rule in instrument.applied for condition in rule.when}
    if "HISTORY" not in keys:
        return {}
    return {"HISTORY": "\n".join(fits.read_header(scan.path, 0).get("HISTORY", ()))}


def _described(
    plain: Exposure, header: Header, comments: Comments, instrument: Instrument
) -> Exposure:
    """Return the exposure with all fields that its header gives, its kind apart."""

    def card(name: str) -> Card:
        return find_card(header, instrument.keywords.get(name, ()))

    notes: list[str] = []
    exptime = _seconds(card("exptime"), comments, notes)
    dark_time = _seconds(card("dark_time"), comments, notes)
    binning = _binning(card("binning"), card("binning_x"), card("binning_y"))
    return replace(
        plain,
        object=text(card("object").value),
        exptime=exptime,
        dark_time=exptime if dark_time is None else dark_time,
        filter=text(card("filter").value),
        binning=binning,
        date_obs=start_utc(*(card(name).value for name in ("date_obs", "time_obs", "mjd", "jd"))),
        temperature=_celsius(card("temperature"), notes),
        instrument=text(card("instrument").value) or instrument.name,
        preset=instrument.name,
        setup=_values(header, instrument.setup),
        optics=_values(header, instrument.optics),
        notes=tuple(notes),
    )


def _settled(
    exposure: Exposure,
    rules: kinds.Rules,
    word: kinds.Word,
    names: kinds.Names,
    instrument: Instrument,
) -> Exposure:
    """Return the exposure with its kind, its whole set-up and what the camera has done to it."""
    lookup = exposure_lookup(exposure)
    rule = rules.first_fit(lookup)
    notes = list(exposure.notes)
    if rule is not None:
        exposure = replace(
            exposure,
            kind=rule.kind,
            certain=kinds.certain(rule, word),
            rule=kinds.grounds(rule.when, lookup, names),
            technique=rule.technique,
            light=rule.light,
        )
        if word.disputed:
            notes.append(f"{word.disputed} says otherwise than {word.key} = {word.value!r}")
    processed = next((one for one in instrument.processed if selects(one, lookup)), None)
    if processed is not None:
        notes.append(f"perhaps processed already: {kinds.grounds(processed, lookup, names)}")
    shapes = [image.frame.shape for image in exposure.images]
    layout = "+".join(dict.fromkeys(f"{columns}x{rows}" for rows, columns in shapes))
    binning = "{1}x{0}".format(*exposure.binning)
    chosen = {**dict(exposure.setup), **dict(exposure.optics)}
    labels = (text(chosen.get(name)) for name in instrument.label)
    return replace(
        exposure,
        notes=tuple(notes),
        applied=tuple(
            dict.fromkeys(rule.step for rule in instrument.applied if selects(rule.when, lookup))
        ),
        label="_".join([f"bin{binning}", *(label for label in labels if label)]),
        setup=(
            ("instrument", exposure.instrument),
            ("layout", layout if len(shapes) == 1 else f"{len(shapes)} images {layout}"),
            ("binning", binning),
            *exposure.setup,
        ),
    )


def _image(
    hdu: fits.HduScan, header: Header, comments: Comments, instrument: Instrument, config: Config
) -> tuple[Image, tuple[str, ...]]:
    """Return one image with its sections and noise numbers, and what was not obeyed."""
    frame = hdu.frame
    assert frame is not None  # noqa: S101  chosen for having one
    notes: list[str] = []
    found = sections.checked(_section_words(header, frame, instrument, config), frame.shape)
    given, known = config.detector, instrument.detector
    read_noise = find_card(header, instrument.keywords.get("read_noise", ())).number
    saturation = find_card(header, instrument.keywords.get("saturation", ())).number
    image = Image(
        frame=frame,
        header=header,
        overscan=found.overscan,
        trim=found.trim,
        gain=_first(given.gain, _gain(header, comments, instrument, notes), known.gain),
        read_noise=_first(given.read_noise, _positive(read_noise), known.read_noise),
        saturation=_first(
            given.saturation, _positive(saturation), known.saturation, _converter_end(frame)
        ),
    )
    return image, (*notes, *found.notes)


def _section_words(
    header: Header, frame: Frame, instrument: Instrument, config: Config
) -> dict[str, str]:
    """Return for overscan and trim where each is given, and the section: the nearest word holds."""
    lookup = header.get
    rule = next((rule for rule in instrument.sections if selects(rule.when, lookup)), None)
    words = sections.eso_sections(header, frame.shape)
    words |= sections.from_header(
        header,
        {part: [card.key for card in instrument.keywords.get(part, ())] for part in sections.PARTS},
    )
    if rule is not None:
        words = {"overscan": _worded("preset", rule.overscan), "trim": _worded("preset", rule.trim)}
    for part in sections.PARTS:
        explicit = getattr(config.detector, part)
        words[part] = _worded("detector", explicit) or words.get(part, "")
    return words


def _worded(origin: str, section: str) -> str:
    """Return a section with its origin before it; '' for ''."""
    return section and f"{origin} {section}"


def _gain(
    header: Header, comments: Comments, instrument: Instrument, notes: list[str]
) -> float | None:
    """Return electrons per adu from a card whose unit is known; note what is not used."""
    keywords = instrument.keywords.get("gain", ())
    card = find_card(header, keywords)
    if not card.key and _PER_ADU.search(comments.get("GAIN", "")):
        card = find_card(header, (Keyword("GAIN"),))
    if card.key:
        low, high = GAIN_RANGE
        if card.number is not None and low <= card.number <= high:
            return card.number
        notes.append(
            f"{card.key} = {card.value!r} is not used: not within {low} to {high} electrons per adu"
        )
    elif text(header.get("GAIN")) and "GAIN" not in {keyword.key for keyword in keywords}:
        notes.append(f"GAIN = {header['GAIN']!r} is not used: nothing tells its unit")
    return None


def _seconds(card: Card, comments: Comments, notes: list[str]) -> float | None:
    """Return a time that is not negative, in the unit of its comment; note what is none."""
    if card.key and (card.number is None or card.number < 0):
        notes.append(f"{card.key} = {card.value!r} is not used: not a time in seconds")
        return None
    comment = comments.get(card.key, "")
    plain = card.number == number(card.value) and not _SECONDS.search(comment)
    for unit, (words, factor) in _UNITS_OF_TIME.items():
        if card.number and plain and words.search(comment):
            notes.append(f"{card.key} = {card.value!r} is in {unit}, as its comment says")
            return card.number * factor
    return card.number


def _celsius(card: Card, notes: list[str]) -> float | None:
    """Return a temperature that a detector can have, from kelvin too; note what is none."""
    low, high = TEMPERATURE_RANGE
    if card.number is not None and KELVIN_RANGE[0] < card.number <= KELVIN_RANGE[1]:
        return card.number - 273.15
    if card.number is not None and not low <= card.number <= high:
        notes.append(f"{card.key} = {card.value!r} is not used: no temperature of a detector")
        return None
    return card.number


def _binning(both: Card, x: Card, y: Card) -> tuple[int, int]:
    """Return the binning (y, x) from one card like ``2 2`` or from a card an axis; 1 if unknown."""
    pair = re.findall(r"\d+", text(both.value))
    if len(pair) in (1, 2):
        return max(int(pair[-1]), 1), max(int(pair[0]), 1)
    across = int(x.number or 0) or int(y.number or 0) or 1
    return max(int(y.number or 0) or across, 1), max(across, 1)


def _values(
    header: Header, wanted: Mapping[str, Sequence[Keyword]]
) -> tuple[tuple[str, Scalar], ...]:
    """Return the value of each name that is in the header; numbers in the unit that is wanted."""
    cards = {name: find_card(header, keywords) for name, keywords in wanted.items()}
    return tuple(
        (name, text(card.value) if card.number is None else card.number)
        for name, card in cards.items()
        if card.key
    )


def _converter_end(frame: Frame) -> float | None:
    """Return the largest number that an unsigned camera can write; None for other pixels."""
    return {"uint8": 255.0, "uint16": 65535.0}.get(frame.dtype)


def _positive(value: float | None) -> float | None:
    """Return a number above zero; None for others."""
    return value if value is not None and value > 0 else None


def _first(*values: float | None) -> float | None:
    """Return the first number that is known."""
    return next((value for value in values if value is not None), None)
