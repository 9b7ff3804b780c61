"""From a scanned file to an exposure: the fields that grouping and calibration need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from masterframe import fits
from masterframe.assembly import place_of
from masterframe.errors import FrameError
from masterframe.fits import extensions
from masterframe.inventory import kinds
from masterframe.inventory.dates import start_utc
from masterframe.inventory.images import read_image
from masterframe.inventory.reading import Names, Reading
from masterframe.matching import exposure_lookup, selects, text
from masterframe.model import Config, Exposure, Header, Image, Instrument, Scalar, Section, Window

_SECTIONS = ("DETSEC", "CCDSEC", "DATASEC", "TRIMSEC")
"""Beginnings of the keywords that tell where an image lies on the detector."""


class Described(NamedTuple):
    """An exposure, and how it was read."""

    exposure: Exposure
    """The exposure."""
    rules: kinds.Rules
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
        self._config = config
        self._rules = {
            one.name: kinds.Rules((*config.types, *one.kinds)) for one in config.instruments
        }
        self._matched = {
            condition.key: None
            for one in config.instruments
            for selection in one.match
            for condition in selection
        }
        self._detected: dict[tuple[Scalar, ...], Instrument | None] = {}
        self._windows: dict[tuple[object, ...], Window | None] = {}
        self._historical = {one.name for one in config.instruments if _asks_history(one)}

    def describe(self, scan: fits.FileScan, night: str, *, masters: bool = False) -> Described:
        """Return the exposure in a scanned file, or with `masters` a master as if it were one.

        Raises
        ------
        FrameError
            Where the file holds no image or a master, or where no instrument matches.
        """
        plain, found = _plain(scan, night, masters)
        instrument = self._detect(plain)
        if instrument is None:
            raise FrameError(scan.path, "none of the configured instruments matches its header")
        chosen = _science(scan, found, instrument)
        if not chosen:
            raise FrameError(scan.path, f"it has none of the HDUs {instrument.hdu}")
        primary = self._primary(scan.hdus[0], instrument)
        comments = {**chosen[0].comments, **scan.hdus[0].comments}
        readings = [Reading({**primary, **hdu.header}, comments, instrument) for hdu in chosen]
        images = tuple(
            replace(
                image := read_image(hdu.frame, reading, self._config),
                setup=reading.values(instrument.setup) if len(chosen) > 1 else (),
                window=self._window(image, readings[0].binning()),
            )
            for hdu, reading in zip(chosen, readings, strict=True)
            if hdu.frame is not None
        )
        first, rules = readings[0], self._rules[instrument.name]
        word = rules.word(first.header, first.keywords("imagetyp"), first.keywords("hint"))
        names = Names(first, word.key)
        exposure = replace(
            plain, header=primary, images=images, imagetyp=word.value, **_fields(first)
        )
        odd = [note for reading in readings for note in reading.notes]
        settled = _settled(exposure, rules, word, names, instrument, odd)
        reason = "" if images else _why_unusable(chosen[0])
        if reason and settled.kind is None:
            raise FrameError(scan.path, reason)
        return Described(settled, rules, names, reason)

    def _detect(self, exposure: Exposure) -> Instrument | None:
        """Return the instrument of an exposure; cameras that look alike are looked up once."""
        lookup = exposure_lookup(exposure)
        seen = tuple(text(lookup(key)) for key in self._matched)
        if seen not in self._detected:
            self._detected[seen] = detect(self._config.instruments, exposure)
        return self._detected[seen]

    def _window(self, image: Image, binning: tuple[int, int]) -> Window | None:
        """Return where an image lies on the detector; what is told alike is placed once."""
        header = image.header
        words = tuple((key, text(header[key])) for key in header if key.startswith(_SECTIONS))
        known = (words, image.frame.shape, image.trim, image.amplifiers, binning)
        if known not in self._windows:
            place = place_of(image, binning)
            self._windows[known] = place and Window(place.target, place.flips, place.phase)
        return self._windows[known]

    def _primary(self, hdu: fits.HduScan, instrument: Instrument) -> Header:
        """Return the cards of the primary HDU, with HISTORY where a rule asks for it."""
        if hdu.history and instrument.name in self._historical:
            return {**hdu.header, "HISTORY": hdu.history}
        return hdu.header


def _asks_history(instrument: Instrument) -> bool:
    """Return whether a rule of an instrument looks at HISTORY."""
    selections = (
        *(rule.when for rule in instrument.kinds),
        *(rule.when for rule in instrument.applied),
        *instrument.processed,
    )
    return any(condition.key == "HISTORY" for when in selections for condition in when)


def detect(instruments: Sequence[Instrument], exposure: Exposure) -> Instrument | None:
    """Return the first instrument that matches; a single one needs not be recognised."""
    if len(instruments) == 1:
        return instruments[0]
    lookup = exposure_lookup(exposure)
    return next((one for one in instruments if any(selects(m, lookup) for m in one.match)), None)


def _plain(scan: fits.FileScan, night: str, masters: bool) -> tuple[Exposure, list[fits.HduScan]]:
    """Return an exposure of which only the header is known, and the HDUs with an image.

    Where none can be used, the first whose pixels are no plane, or that has none: it is typed all
    the same. A table is no exposure.
    """
    found = [hdu for hdu in scan.hdus if hdu.frame is not None]
    if not found:
        odd = [hdu for hdu in scan.hdus if hdu.reason]
        found = [hdu for hdu in odd or scan.hdus if _holds_pixels(hdu)][:1]
        if not found:
            reasons = "; ".join(dict.fromkeys(hdu.reason for hdu in odd))
            raise FrameError(scan.path, f"no image: {reasons}")
    header = {**scan.hdus[0].header, **found[0].header}
    if text(header.get("ISMASTER")) == "T" and not masters:
        raise FrameError(scan.path, "a master, not a raw exposure: ISMASTER = T")
    if text(header.get("MFVERS")) and not masters:
        raise FrameError(scan.path, "calibrated by masterframe already, not a raw exposure: MFVERS")
    return Exposure(scan.path, (), None, False, "", header, night=night), found


def _why_unusable(hdu: fits.HduScan) -> str:
    """Return why an HDU gives no image that can be combined."""
    if not hdu.reason:
        return fits.NO_PIXELS
    planes = ": combine takes its planes as frames, a run takes files of one image"
    return f"no image: {hdu.reason}" + (planes if hdu.frames else "")


def _holds_pixels(hdu: fits.HduScan) -> bool:
    """Return whether an HDU is an image, of whatever shape, and no table."""
    return text(hdu.header.get("XTENSION", "IMAGE")) == "IMAGE"


def _science(
    scan: fits.FileScan, found: Sequence[fits.HduScan], instrument: Instrument
) -> list[fits.HduScan]:
    """Return the HDUs that hold science images; the first of those found if none looks like one."""
    if instrument.hdu:
        return [hdu for hdu in found if {hdu.index, hdu.extname} & set(instrument.hdu)]
    science = extensions.science_images(scan).values()
    return [hdu for hdu in found if hdu in science] or list(found[:1])


def _fields(reading: Reading) -> dict[str, Any]:
    """Return all fields of an exposure that its header gives, its kind apart."""
    instrument = reading.instrument
    exptime = reading.seconds("exptime")
    dates = (reading.card(name).value for name in ("date_obs", "time_obs", "mjd", "jd"))
    binning, binned = reading.binning(), reading.tells_binning()
    return {
        "object": reading.words("object"),
        "exptime": exptime,
        "dark_time": reading.dark_seconds(exptime),
        "filter": reading.words("filter"),
        "binning": binning,
        "date_obs": start_utc(*dates),
        "temperature": reading.celsius(),
        "instrument": reading.words("instrument") or instrument.name,
        "preset": instrument.name,
        "setup": (
            *((("binning", "{1}x{0}".format(*binning)),) if binned else ()),
            *reading.values(instrument.setup),
        ),
        "optics": reading.values(instrument.optics),
    }


def _settled(
    exposure: Exposure,
    rules: kinds.Rules,
    word: kinds.Word,
    names: kinds.Names,
    instrument: Instrument,
    odd: Sequence[str],
) -> Exposure:
    """Return the exposure with its kind, its whole set-up and what was done to it already."""
    lookup = exposure_lookup(exposure)
    rule = rules.first_fit(lookup)
    notes: list[str] = []
    kind: dict[str, Any] = {}
    if rule is not None:
        kind = {
            "kind": rule.kind,
            "certain": kinds.certain(rule, word),
            "rule": kinds.grounds(rule.when, lookup, names),
            "technique": rule.technique,
            "light": rule.light,
        }
        if word.disputed:
            notes.append(f"{word.disputed} says otherwise than {word.key} = {word.value!r}")
    processed = next((one for one in instrument.processed if selects(one, lookup)), None)
    if processed is not None:
        notes.append(f"perhaps processed already: {kinds.grounds(processed, lookup, names)}")
    steps = [rule.step for rule in instrument.applied if selects(rule.when, lookup)]
    binning = "{1}x{0}".format(*exposure.binning)
    chosen = {**dict(exposure.setup), **dict(exposure.optics)}
    labels = (text(chosen.get(name)) for name in instrument.label)
    return replace(
        exposure,
        **kind,
        notes=tuple(dict.fromkeys([*notes, *odd])),
        applied=tuple(dict.fromkeys(steps)),
        label="_".join([f"bin{binning}", *(label for label in labels if label)]),
        setup=(
            ("instrument", exposure.instrument),
            ("layout", _layout(exposure.images)),
            *(("unit", image.unit) for image in exposure.images[:1] if image.unit != "adu"),
            *_spanned(exposure),
            *exposure.setup,
        ),
    )


def _spanned(exposure: Exposure) -> list[tuple[str, Scalar]]:
    """Return the part of the detector that spans all images of an exposure, if it is told."""
    told = [image.window.section for image in exposure.images if image.window]
    if not told or len(told) < len(exposure.images):
        return []
    return [("window", Section.spanning(told).to_fits())]


def _layout(images: Sequence[Image]) -> str:
    """Return how many images of which sizes an exposure has."""
    shapes = [image.frame.shape for image in images]
    sizes = "+".join(dict.fromkeys(f"{columns}x{rows}" for rows, columns in shapes))
    return sizes if len(shapes) == 1 else f"{len(shapes)} images {sizes}"
