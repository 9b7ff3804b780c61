"""A night in words: what there is, what its headers tell of the detector, and what is doubtful."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from masterframe.console import table
from masterframe.matching import PATH_FIELDS
from masterframe.model import Exposure, Image, Tolerances

_NEEDED = {
    "bias": "the offset stays in, unless an overscan or a dark takes it off",
    "dark": "the dark current stays in",
    "flat": "the sensitivity of pixels and the vignetting stay in",
}
"""What a night lacks without frames of a kind."""


def count_kinds(exposures: Sequence[Exposure]) -> str:
    """Return a table of how many frames there are of each kind, filter and exposure time."""
    groups = Counter(
        (
            (item.kind or "unknown") + (f" ({item.light})" if item.light else ""),
            item.technique,
            item.filter,
            "" if item.exptime is None else f"{item.exptime:.4g}",
            f"{item.binning[1]}x{item.binning[0]}",
        )
        for item in exposures
    )
    rows = [(str(count), *group) for group, count in sorted(groups.items())]
    return table(("frames", "kind", "technique", "filter", "exptime (s)", "binning"), rows)


def describe_setups(exposures: Sequence[Exposure]) -> Iterator[str]:
    """Yield, for each way in which the detector was read, its sections and numbers, and whence."""
    groups: dict[tuple[str, ...], list[Exposure]] = {}
    for item in exposures:
        for image in item.images[:1]:
            said = tuple(_known(image))
            groups.setdefault((item.instrument, item.preset, _size(item), *said), []).append(item)
    for (instrument, preset, size, *known), members in groups.items():
        kinds = Counter(item.kind or "unknown" for item in members)
        counts = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
        yield f"{instrument}, {size}, read by the preset {preset}: {counts}"
        yield from (f"  {line}" for line in known)


def find_doubts(exposures: Sequence[Exposure], tolerances: Tolerances) -> Iterator[str]:
    """Yield what an observer should look at before anything is made of a night."""
    guesses = Counter(
        f"{item.kind} by {_grounds(item)}"
        for item in exposures
        if item.kind is not None and not item.certain
    )
    for words, count in guesses.most_common():
        yield f"{count} frame{'s' * (count > 1)} guessed to be {words}"
    notes = Counter(note for item in exposures for note in item.notes)
    for note, count in notes.most_common():
        yield f"{count} frame{'s' * (count > 1)}: {note}"
    kinds = {item.kind for item in exposures}
    if "science" in kinds or "flat" in kinds:
        for kind, lack in _NEEDED.items():
            if kind not in kinds:
                yield f"no {kind} frames: {lack}"
    flats = {item.filter for item in exposures if item.kind == "flat"}
    bare = sorted({item.filter for item in exposures if item.kind == "science"} - flats)
    if flats and bare:
        yield f"no flat in the filter of some science frames: {', '.join(map(repr, bare))}"
    yield from _other_times(exposures, tolerances)
    yield from _warm(exposures, tolerances)
    for name, unit in (("gain", "electrons per adu"), ("read_noise", "electrons")):
        blind = sum(any(getattr(i, name) is None for i in item.images) for item in exposures)
        if blind:
            words = name.replace("_", " ")
            yield f"{words} of {blind} frames is not known: {name} ({unit}) under detector"


def _known(image: Image) -> Iterator[str]:
    """Yield each section and number of an image with its origin."""
    sections: Mapping[str, str] = {
        part: section.to_fits()
        for part in ("overscan", "trim")
        if (section := getattr(image, part)) is not None
    }
    units = {"gain": " electrons per adu", "read_noise": " electrons", "saturation": " adu"}
    numbers = {
        name: f"{value:g}{unit}"
        for name, unit in units.items()
        if (value := getattr(image, name)) is not None
    }
    for name, value in {**sections, **numbers}.items():
        yield f"{name.replace('_', ' ')} {value}, from {image.origins.get(name, 'the header')}"


def _size(exposure: Exposure) -> str:
    """Return in words how many pixels an exposure has."""
    rows, columns = exposure.images[0].frame.shape
    several = f"{len(exposure.images)} images of " if len(exposure.images) > 1 else ""
    binning = f"{exposure.binning[1]}x{exposure.binning[0]}"
    return f"{several}{columns} x {rows} pixels, binned {binning}"


def _grounds(exposure: Exposure) -> str:
    """Return on what a kind rests, in words that frames of one sort share."""
    shown = []
    for part in exposure.rule.split(" and "):
        name, _, value = part.partition(" = ")
        if name in PATH_FIELDS:
            return "the name of the file"
        shown.append(part if value == repr(exposure.imagetyp) else name)
    return " and ".join(shown)


def _other_times(exposures: Sequence[Exposure], tolerances: Tolerances) -> Iterator[str]:
    """Yield exposure times of science frames for which no dark was taken."""
    darks = [item.dark_time for item in exposures if item.kind == "dark" and item.dark_time]
    times = {item.dark_time for item in exposures if item.kind == "science" and item.dark_time}
    bare = [
        time
        for time in sorted(times)
        if not any(
            abs(time - dark) <= max(tolerances.exptime, tolerances.exptime_fraction * time)
            for dark in darks
        )
    ]
    if darks and bare:
        shown = ", ".join(f"{time:g}" for time in bare)
        yield f"no dark of the time of science frames of {shown} s: others are scaled"


def _warm(exposures: Sequence[Exposure], tolerances: Tolerances) -> Iterator[str]:
    """Yield a warning where the detector was not held at one temperature."""
    known = [item.temperature for item in exposures if item.temperature is not None]
    if known and max(known) - min(known) > tolerances.temperature:
        yield (
            f"the detector had {min(known):.1f} to {max(known):.1f} degrees C: frames further "
            f"apart than {tolerances.temperature:g} do not calibrate each other"
        )
