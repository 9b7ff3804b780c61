"""Several amplifiers that read one image: what a configuration, a preset or the header says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

from masterframe.inventory import sections
from masterframe.inventory.reading import Reading
from masterframe.matching import text
from masterframe.model import Amplifier, AmplifierRule, Detector, Frame
from masterframe.readout import why_not


def read_amplifiers(
    frame: Frame, reading: Reading, rules: Sequence[AmplifierRule], origin: str, detector: Detector
) -> tuple[Amplifier, ...]:
    """Return the amplifiers that are told, where they make one image; else none.

    What is not obeyed is noted by the reading.

    Parameters
    ----------
    frame : Frame
        The raw image.
    reading : Reading
        Its header.
    rules : sequence of AmplifierRule
        The amplifiers as a configuration, a preset or `from_header` gives them.
    origin : str
        Where they are from, for the notes.
    detector : Detector
        Its gain and read noise go before theirs.
    """
    if len(rules) < 2:
        return ()
    notes: list[str] = []
    found = [_amplifier(rule, origin, frame, notes) for rule in rules]
    reason = "" if notes else why_not([one for one in found if one is not None])
    if reason:
        notes.append(f"{origin}: its {len(found)} amplifiers are not told apart: {reason}")
    reading.notes += notes
    if notes:
        return ()
    return tuple(
        replace(
            one,
            gain=one.gain if detector.gain is None else detector.gain,
            read_noise=one.read_noise if detector.read_noise is None else detector.read_noise,
        )
        for one in found
        if one is not None
    )


def from_header(reading: Reading) -> list[AmplifierRule]:
    """Return the amplifiers whose sections the header gives, by the endings of its keywords."""
    known, header = reading.instrument.amplifiers, reading.header

    def word(names: Sequence[str], ending: str) -> str:
        keys = _keys(tuple(names), ending)
        return next((key for key in keys if key in header and text(header[key])), "")

    found = []
    for ending in known.endings:
        data = word(known.data, ending)
        if data:
            overscan = word(known.overscan, ending)
            found.append(
                AmplifierRule(
                    data=f"{data} {text(reading.header[data])}",
                    overscan=overscan and f"{overscan} {text(reading.header[overscan])}",
                    gain=reading.gain_at(word(known.gain, ending)),
                    read_noise=reading.noise_at(word(known.read_noise, ending)),
                )
            )
    return found


@lru_cache(maxsize=4096)
def _keys(names: tuple[str, ...], ending: str) -> tuple[str, ...]:
    """Return keywords with the ending of an amplifier."""
    return tuple(f"{name}{ending}" for name in names)


def _amplifier(
    rule: AmplifierRule, origin: str, frame: Frame, notes: list[str]
) -> Amplifier | None:
    """Return an amplifier whose sections make sense; note why not."""
    data, overscan = (
        sections.inside(words if "[" not in words[:1] else f"{origin} {words}", frame.shape, notes)
        for words in (rule.data, rule.overscan)
    )
    if data is None or (rule.overscan and overscan is None):
        return None
    if overscan is not None:
        reason = sections.why_unfit(overscan, data)
        if reason:
            notes.append(f"overscan {overscan.to_fits()} is not used: {reason}")
            return None
    return Amplifier(data, overscan, rule.gain, rule.read_noise)
