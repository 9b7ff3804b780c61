"""What a header tells of the detector behind one image: sections, gain, noise, saturation."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from masterframe.inventory import sections
from masterframe.inventory.amplifiers import from_header, read_amplifiers
from masterframe.inventory.outputs import eso_outputs
from masterframe.inventory.reading import Reading
from masterframe.matching import selects, text
from masterframe.model import Amplifier, AmplifierRule, Config, Frame, Image, Section, SectionRule
from masterframe.readout import span


def read_image(frame: Frame, reading: Reading, config: Config) -> Image:
    """Return an image with its sections and numbers, and where each comes from.

    The nearest word holds: that of the configuration, of the header, of the preset, and for the
    saturation what the type of the pixels can hold. What is not obeyed is noted by the reading.
    """
    rule = _section_rule(reading)
    values, origins = _numbers(frame, reading, config)
    told, origin = _amplifier_rules(frame, reading, config, rule)
    amplifiers = read_amplifiers(frame, reading, told, origin, config.detector)
    bad = _bad(frame, reading, config, rule)
    image = Image(frame, reading.header, **values, origins=origins, bad=bad, unit=reading.unit)
    if amplifiers:
        return _with_amplifiers(image, amplifiers, origin)
    words = _section_words(frame, reading, config, rule)
    found = sections.checked(words, frame.shape)
    reading.notes += found.notes
    parts = {
        part: words[part].partition("[")[0].strip() or "the rest of the image"
        for part in sections.PARTS
        if getattr(found, part) is not None
    }
    return replace(image, overscan=found.overscan, trim=found.trim, origins={**parts, **origins})


def _section_rule(reading: Reading) -> SectionRule | None:
    """Return the preset's word on the sections of an image; note where a card is missing for it."""
    lookup, known = reading.header.get, reading.instrument.sections
    rule = next((rule for rule in known if selects(rule.when, lookup)), None)
    if rule is None:
        missing = [c.key for one in known for c in one.when if not text(lookup(c.key))]
        preset = f"preset {reading.instrument.name}"
        reading.notes += [
            f"no {key}: the sections that {preset} knows are not used"
            for key in dict.fromkeys(missing)
        ]
    return rule


def _bad(
    frame: Frame, reading: Reading, config: Config, rule: SectionRule | None
) -> tuple[Section, ...]:
    """Return the parts that are always bad, by the configuration or else the preset."""
    origin = "configuration" if config.detector.bad else f"preset {reading.instrument.name}"
    preset = (rule.bad if rule else ()) or reading.instrument.detector.bad
    told = config.detector.bad or preset
    notes: list[str] = []
    found = [sections.inside(f"{origin} {words}", frame.shape, notes) for words in told]
    reading.notes += notes
    return tuple(section for section in found if section is not None)


def _amplifier_rules(
    frame: Frame, reading: Reading, config: Config, rule: SectionRule | None
) -> tuple[Sequence[AmplifierRule], str]:
    """Return the amplifiers that are told, and where; none where one section is told instead."""
    if config.detector.amplifiers:
        return config.detector.amplifiers, "configuration"
    if config.detector.overscan or config.detector.trim:
        return (), ""
    if rule is not None:
        return rule.amplifiers, f"preset {reading.instrument.name}"
    return from_header(reading) or eso_outputs(reading.header, frame.shape), "header"


def _with_amplifiers(image: Image, amplifiers: tuple[Amplifier, ...], origin: str) -> Image:
    """Return an image that several amplifiers read, with their mean gain and read noise."""
    means: dict[str, float] = {}
    for name in ("gain", "read_noise"):
        known = [getattr(one, name) for one in amplifiers]
        if None not in known:
            means[name] = statistics.fmean(known)
    return replace(
        image,
        trim=span(amplifiers),
        amplifiers=amplifiers,
        origins={**image.origins, **dict.fromkeys(["amplifiers", *means], origin)},
        gain=means.get("gain", image.gain),
        read_noise=means.get("read_noise", image.read_noise),
    )


def _numbers(
    frame: Frame, reading: Reading, config: Config
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return gain, read noise and saturation, and where each comes from."""
    numbers = {
        "gain": reading.gain(),
        "read_noise": reading.read_noise(),
        "saturation": reading.positive("saturation"),
    }
    values: dict[str, float | None] = {}
    origins: dict[str, str] = {}
    for name, told in numbers.items():
        known = (
            (getattr(config.detector, name), "configuration"),
            told,
            (getattr(reading.instrument.detector, name), f"preset {reading.instrument.name}"),
            (_converter_end(frame) if name == "saturation" else None, f"pixels of {frame.dtype}"),
        )
        values[name], origin = next((one for one in known if one[0] is not None), (None, ""))
        origins |= {name: origin} if origin else {}
    return values, origins


def _section_words(
    frame: Frame, reading: Reading, config: Config, rule: SectionRule | None
) -> dict[str, str]:
    """Return for overscan and trim where each is given, and the section."""
    header, instrument = reading.header, reading.instrument
    words = sections.eso_sections(header, frame.shape)
    words |= sections.from_header(
        header, {part: [card.key for card in reading.keywords(part)] for part in sections.PARTS}
    )
    if rule is not None:
        preset = f"preset {instrument.name}"
        words = {part: _worded(preset, getattr(rule, part)) for part in sections.PARTS}
    for part in sections.PARTS:
        explicit = getattr(config.detector, part)
        words[part] = _worded("configuration", explicit) or words.get(part, "")
    return words


def _worded(origin: str, section: str) -> str:
    """Return a section with its origin before it; '' for ''."""
    return section and f"{origin} {section}"


def _converter_end(frame: Frame) -> float | None:
    """Return the largest number that an unsigned camera can write; None for other pixels."""
    return {"uint8": 255.0, "uint16": 65535.0}.get(frame.dtype)
