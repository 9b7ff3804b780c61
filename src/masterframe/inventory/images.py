"""What a header tells of the detector behind one image: sections, gain, noise, saturation."""

from __future__ import annotations

from masterframe.inventory import sections
from masterframe.inventory.reading import Reading
from masterframe.matching import selects
from masterframe.model import Config, Frame, Image


def read_image(frame: Frame, reading: Reading, config: Config) -> Image:
    """Return an image with its sections and numbers, and where each comes from.

    The nearest word holds: that of the configuration, of the header, of the preset, and for the
    saturation what the type of the pixels can hold. What is not obeyed is noted by the reading.
    """
    words = _section_words(frame, reading, config)
    found = sections.checked(words, frame.shape)
    reading.notes += found.notes
    origins = {
        part: words[part].partition("[")[0].strip() or "the rest of the image"
        for part in sections.PARTS
        if getattr(found, part) is not None
    }
    numbers = {
        "gain": reading.gain(),
        "read_noise": reading.read_noise(),
        "saturation": reading.positive("saturation"),
    }
    values: dict[str, float | None] = {}
    for name, told in numbers.items():
        known = (
            (getattr(config.detector, name), "configuration"),
            told,
            (getattr(reading.instrument.detector, name), f"preset {reading.instrument.name}"),
            (_converter_end(frame) if name == "saturation" else None, f"pixels of {frame.dtype}"),
        )
        values[name], origin = next((one for one in known if one[0] is not None), (None, ""))
        origins |= {name: origin} if origin else {}
    return Image(frame, reading.header, found.overscan, found.trim, **values, origins=origins)


def _section_words(frame: Frame, reading: Reading, config: Config) -> dict[str, str]:
    """Return for overscan and trim where each is given, and the section."""
    header, instrument = reading.header, reading.instrument
    words = sections.eso_sections(header, frame.shape)
    words |= sections.from_header(
        header, {part: [card.key for card in reading.keywords(part)] for part in sections.PARTS}
    )
    rule = next((rule for rule in instrument.sections if selects(rule.when, header.get)), None)
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
