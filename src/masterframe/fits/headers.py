"""What the headers of masters and calibrated frames say.

A master keeps the cards that all of its inputs share and that can be true of it: not where the
telescope pointed. A calibrated frame keeps everything, its sections and pixel coordinates moved by
the trim. Cards that FITS does not allow are mended or dropped by `masterframe.fits.legal`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from masterframe import readout
from masterframe.fits.cards import COMMENTARY, Card
from masterframe.fits.legal import lawful, quoted, safe_cards, with_cards
from masterframe.kernels.registry import RULES, resolve_rejection
from masterframe.model import Amplifier, Header, Image, MaskBit, Recipe, Rejection, Scalar, Section

MAX_INPUT_CARDS = 999
"""IMCMB001 to IMCMB999; all inputs are in the table INPUTS."""

_STRUCTURE = re.compile(
    r"SIMPLE|XTENSION|BITPIX|NAXIS\d*|PCOUNT|GCOUNT|GROUPS|EXTEND|BLOCKED|INHERIT|LONGSTRN"
    r"|EXTNAME|EXTVER|EXTLEVEL|HDUNAME|TFIELDS|THEAP|P(?:TYPE|SCAL|ZERO)\d+"
    r"|T(?:BCOL|FORM|SCAL|ZERO|NULL|TYPE|UNIT|DISP|DIM|CTYP|CUNI|CRVL|CDLT|CRPX|CROT)\d+\w*"
    r"|O?_?B(?:ZERO|SCALE)|BLANK|BUNIT|DATAMIN|DATAMAX|CHECKSUM|DATASUM|END|CONTINUE"
    r"|Z(?:IMAGE|SIMPLE|TENSION|BITPIX|NAXIS\d*|EXTEND|PCOUNT|GCOUNT|HECKSUM|DATASUM|CMPTYPE"
    r"|TILE\d+|NAME\d+|VAL\d+|MASKCMP|QUANTIZ|DITHER0|BLANK|SCALE|ZERO|BLOCKED)|FZ[A-Z]+"
)
_ENDING = re.compile("(CCD|DET|AMP|DATA)SEC([A-Z]|[1-9][0-9]?)")
"""Sections of one of several amplifiers that read an image."""
_SECTION = re.compile(
    r"(?:BIAS|TRIM|DATA|CCD|AMP|DET|ROI|ORIG|NOR|OVR|OVS|OVSC|PRE|PRES|POST|IMA)SEC\w{0,2}"
    r"|(?:4P_)?[ABCDT]SEC[A-H\d]{1,2}|ESO DET OUT\d* (?:PRSC|OVSC)[XY]"
)
_WCS = re.compile(
    r"(?:CRPIX|CRVAL|CDELT|CROTA|CRDER|CSYER|CTYPE|CUNIT|CNAME|PROJP|CNPIX|AMDX|AMDY|PPO)\d+\w?"
    r"|(?:PC|CD|PV|PS|LTM|TR|WAT)\d+_\d+\w?|(?:PC|CD)\d{6}|LTV\d|WAXMAP\d+|PLT(?:RA|DEC)\w+"
    r"|(?:A|B|AP|BP)_(?:ORDER|DMAX|\d+_\d+)|(?:EQUINOX|RADESYS|LONPOLE|LATPOLE|SPECSYS|SSYS)\w*"
    r"|WCS\S*|RADECSYS|EPOCH|RESTFRE?Q|RESTWAV|OBSGEO-[XYZ]"
)
_POINTING = re.compile(
    r"(?:RA|DEC|ALT|AZ|HA|EL)(?:[-_]\w+|\d|START|END|DEG|TEL|OFF\w*)?|CRA|CDEC|TRA|TDEC"
    r"|(?:TEL|OBJ|OBJCT|CAT|TARG|CENT|CMD|REQ|PNT|PM|OFST|TPT|OBS|EPH|MU)[-_]?(?:RA|DEC|ALT|AZ|HA)"
    r"|ALTITUDE|AZIMUTH|ELEVATIO|HOURANG|AIRMASS\w*|AM_?(?:START|END)|SECZ\S*|ZD\S*|ZENITH\w*"
    r"|L?ST|LST[-_]\w+|LSTHDR|SIDEREAL|SIDTIME|PARANG\w*|PARALLAC|MOON\w*|SUN\w*|J2000"
    r"|ESO TEL (?:AIRM|ALT|AZ|PARANG|TARG|MOON|OFFSET).*|ESO ADA .*"
)
_OURS = re.compile(
    r"ISMASTER|NCOMBINE|IMCMB\d+|TOTEXP|COMBTYPE|REJ(?:TYPE|CENT|DEV|DDOF)|SIG(?:LOW|HIGH)"
    r"|(?:THR|FRAC)(?:LOW|HIGH)|NLOW|NHIGH|NKEEP|NITER|PCLIP|MAXFRAC|REJALPHA|SNOISE|MADCORR"
    r"|REJGROW|TRIMFRAC|NFLOOR|BIASSUB|FLATNORM|UNCTYPE|MF\w+|DATE|DATE-\w+|TIMESYS|UTYPE"
)
_RULE_CARDS = {
    "low": ("SIGLOW", "[sigma] lower bound"),
    "high": ("SIGHIGH", "[sigma] upper bound"),
    "center": ("REJCENT", "centre of the bounds"),
    "deviation": ("REJDEV", "measure of spread"),
    "ddof": ("REJDDOF", "degrees of freedom taken off"),
    "max_iters": ("NITER", "passes at most"),
    "nlow": ("NLOW", "lowest values dropped"),
    "nhigh": ("NHIGH", "highest values dropped"),
    "nkeep": ("NKEEP", "values left at least"),
    "pclip": ("PCLIP", "rank from the median"),
    "fraction": ("MAXFRAC", "largest fraction rejected"),
    "alpha": ("REJALPHA", "significance of the test"),
    "snoise": ("SNOISE", "sensitivity noise"),
    "mad_correction": ("MADCORR", "MAD corrected for few values"),
    "grow": ("REJGROW", "[pix] radius of rejection"),
}
_BOUND_CARDS = {
    "threshold": {"low": ("THRLOW", "[adu] raw values from"), "high": ("THRHIGH", "[adu] to")},
    "percentile": {
        "low": ("FRACLOW", "of the median, lower bound"),
        "high": ("FRACHIGH", "of the median, upper bound"),
    },
}
"""Cards of bounds that are not counted in sigmas."""
_TIME_CARDS = ("EXPTIME", "TOTEXP", "DATE-OBS", "DATE-BEG", "DATE-END", "DATE-AVG", "TIMESYS")
_MASK_BITS = {
    MaskBit.NO_VALUE: "nothing was left to combine",
    MaskBit.BAD: "given as bad",
    MaskBit.SATURATED: "saturated in every frame",
    MaskBit.FLAT_LOW: "flat too insensitive or not finite",
    MaskBit.HOT: "hot or unstable in the dark",
    MaskBit.FEW_KEPT: "fewer values kept than min_kept",
    MaskBit.NOT_COVERED: "no input covers the pixel",
}


@dataclass(frozen=True, slots=True)
class InputFacts:
    """What the header of a master says of one of its frames."""

    name: str
    """Name of the file, without folders."""
    exptime: float | None = None
    """Exposure time (s); None where it is not known."""
    date_obs: str = ""
    """Start, ISO 8601 in UTC; '' where it is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MasterFacts:
    """What the header of a master says besides what its inputs share."""

    inputs: tuple[InputFacts, ...]
    """Its frames."""
    recipe: Recipe
    """How they were combined."""
    kind: str = ""
    """bias, dark, flat; '' where it is not known."""
    unit: str = "adu"
    """Unit of its values; '' for a normalised flat."""
    bias_subtracted: bool = False
    """Whether a bias was taken off."""
    uncertainty: str = ""
    """What its UNCERT holds: empirical, propagated."""
    temperature: float | None = None
    """Median temperature of the detector (degrees C)."""
    token: str = ""
    """The product's token, by which a later run knows whether it is up to date."""
    version: str = ""
    """Version of the program."""
    created: str = ""
    """When it was made, ISO 8601 in UTC."""
    normalized: str = ""
    """How the images of a flat were divided by their level: together, apart; '' for no flat."""
    history: tuple[str, ...] = ()
    """Lines that say how it was made."""


def master_header(
    base: Sequence[Card],
    headers: Sequence[Header],
    trim: Section | None = None,
    amplifiers: Sequence[Amplifier] = (),
) -> list[Card]:
    """Return the cards that all inputs of a master share and that can be true of it.

    Parameters
    ----------
    base : sequence of Card
        Header of the first input: gives order and comments.
    headers : sequence of mapping
        Scanned headers of all inputs, the first included.
    trim : Section, optional
        The part that was kept.
    amplifiers : sequence of Amplifier
        What reads it, where there are several.

    Returns
    -------
    list of Card
        Without structure, scaling, checksums, compression, coordinates, airmass, HISTORY and
        COMMENT, and without what `master_cards` sets; lawful whatever the inputs hold. Sections
        stay as they are, or are moved by the trim as in `calibrated_header`.
    """
    first, *others = headers
    common = {
        key for key, value in first.items() if all(_same(value, other, key) for other in others)
    }
    dropped = (_STRUCTURE, _WCS, _POINTING, _OURS)
    kept = [
        entry
        for entry in base
        if entry.keyword in common
        and entry.keyword not in COMMENTARY
        and not any(pattern.fullmatch(entry.keyword) for pattern in dropped)
    ]
    if trim:
        kept = [
            entry for entry in _trimmed(kept, trim, amplifiers) if not _WCS.fullmatch(entry.keyword)
        ]
    good, _ = lawful(kept)
    return safe_cards(good)


def extension_cards(unit: str) -> dict[str, Any]:
    """Return the cards of each image of several in a master, besides those of `master_header`.

    Parameters
    ----------
    unit : str
        Unit of its values, which readers look for beside them.
    """
    return {
        "INHERIT": (True, "the cards of the primary HDU hold here, too"),
        "BUNIT": (unit, "unit of the values"),
    }


def calibrated_header(header: Sequence[Card], image: Image, unit: str) -> list[Card]:
    """Return the header of a calibrated frame: all that the raw one says, made true again.

    Parameters
    ----------
    header : sequence of Card
        Header of the raw image.
    image : Image
        The raw image: its trim and its amplifiers.
    unit : str
        BUNIT.

    Returns
    -------
    list of Card
        Structure, scaling and checksum cards are left out. A trim moves CRPIXn (of every WCS),
        LTVn and DATASEC; overscan sections go, and with them sections on the detector unless
        exactly DATASEC was kept. Cards that FITS does not allow are quoted in COMMENT.
    """
    given = [
        entry
        for entry in header
        if not _STRUCTURE.fullmatch(entry.keyword) and (entry.keyword, entry.value) != ("", "")
    ]
    good, bad = lawful(_trimmed(given, image.trim, image.amplifiers) if image.trim else given)
    notes = [entry for entry in good if entry.keyword in COMMENTARY]
    cards = [entry for entry in good if entry.keyword not in COMMENTARY]
    return safe_cards([*cards, Card("BUNIT", unit, "unit of the values"), *notes, *quoted(bad)])


def assembled_header(header: Sequence[Card], wcs: dict[str, Any], detector: Section) -> list[Card]:
    """Return the header of an image that was assembled of several.

    Parameters
    ----------
    header : sequence of Card
        What holds for all of them, from `calibrated_header`.
    wcs : dict
        Its coordinates; those of the header go.
    detector : Section
        Its place on the detector, which DETSEC tells.
    """
    kept = [
        card
        for card in header
        if not any(one.fullmatch(card.keyword) for one in (_WCS, _SECTION, _ENDING))
        and card.keyword not in ("NEXTEND", "CCDNAME", "AMPNAME")
    ]
    place = (detector.to_fits(), "pixels of the detector, binned as the image is")
    return with_cards(kept, {key: (value, "") for key, value in wcs.items()} | {"DETSEC": place})


def plane_header(plane: str, unit: str) -> list[Card]:
    """Return the cards of a plane that goes with the data: uncert, mask, count and the others.

    Parameters
    ----------
    plane : str
        uncert, propagated, mask, count, rejlow, rejhigh or exposure.
    unit : str
        Unit of the data.
    """
    cards: dict[str, list[Card]] = {
        "uncert": [
            Card("BUNIT", unit, "unit of the values"),
            Card("UTYPE", "StdDevUncertainty", "one standard deviation"),
        ],
        "propagated": [
            Card("BUNIT", unit, "unit of the values"),
            Card("UTYPE", "StdDevUncertainty", "one standard deviation"),
            Card("COMMENT", "Standard deviation from gain, read noise and the masters'."),
        ],
        "mask": [
            Card("COMMENT", "Non-zero: do not use the pixel. The bits:"),
            *(Card("COMMENT", f"{bit.value:3d} {text}") for bit, text in _MASK_BITS.items()),
        ],
        "count": [Card("COMMENT", "Values that went into the pixel.")],
        "rejlow": [Card("COMMENT", "Values rejected below the centre.")],
        "rejhigh": [Card("COMMENT", "Values rejected above the centre.")],
        "exposure": [Card("BUNIT", "s", "exposure that went into the pixel")],
    }
    return safe_cards(cards[plane])


def master_cards(facts: MasterFacts, kept: Sequence[int] | None = None) -> dict[str, Any]:
    """Return the cards that say what a master is and how it was made.

    Parameters
    ----------
    facts : MasterFacts
        What is known of it.
    kept : sequence of int, optional
        Values that each input gave to the result; None before that is known. Inputs that gave none
        are left out of times and of NCOMBINE.

    Returns
    -------
    dict
        Value and comment by keyword, for `legal.with_cards` and `ImageFile.update_cards`; a value
        of None removes the card. The keywords do not depend on `kept`, but for the HISTORY lines,
        which are there only where it is None.
    """
    used = [i for i in range(len(facts.inputs)) if kept is None or kept[i] > 0]
    recipe = facts.recipe
    cards: dict[str, Any] = {
        "ISMASTER": (True, "made of several frames"),
        "MFKIND": (facts.kind or None, "kind of master"),
        "BUNIT": (facts.unit, "unit of the values"),
        "NCOMBINE": (len(used), "frames that went in"),
        "COMBTYPE": (recipe.estimator, "estimator"),
        "TRIMFRAC": (
            recipe.trim if recipe.estimator == "trimmed" else None,
            "left out at each end",
        ),
        **_rejection_cards(recipe.rejection),
        "NFLOOR": (recipe.noise.floor, "least sigma of the rejection"),
        "BIASSUB": (facts.bias_subtracted, "a bias was taken off"),
        "FLATNORM": (facts.normalized or None, "the level of images was found so"),
        "UNCTYPE": (facts.uncertainty or None, "what UNCERT holds"),
        "MFTEMP": (facts.temperature, "[deg C] median temperature of the detector"),
        **_time_cards(facts, used, kept),
        "DATE": (facts.created[:19] or None, "when the file was made (UTC)"),
        "MFVERS": (facts.version or None, "version of masterframe"),
        "MFTOKEN": (facts.token or None, "names recipe, masters and inputs"),
    }
    if recipe.rejection.rule == "none":
        del cards["NFLOOR"]
    for number, source in enumerate(facts.inputs[:MAX_INPUT_CARDS], start=1):
        cards[f"IMCMB{number:03d}"] = (source.name, "")
    if kept is None and facts.history:
        cards["HISTORY"] = ("\n".join(facts.history), "")
    return cards


def _same(value: Scalar, other: Header, key: str) -> bool:
    return key in other and type(other[key]) is type(value) and other[key] == value


def _trimmed(
    cards: Sequence[Card], trim: Section, amplifiers: Sequence[Amplifier]
) -> Iterator[Card]:
    """Yield cards as they hold for the part that is kept, and for the part of each amplifier."""
    places = readout.places(amplifiers)
    shift = {"1": trim.x0, "2": trim.y0}
    present = {entry.keyword: entry.value for entry in cards}
    exact = Section.from_fits(str(present.get("DATASEC"))) == trim
    for entry in cards:
        key, value, _ = entry
        if re.fullmatch(r"CRPIX[12][A-Z]?|LTV[12]", key):
            moved = _less(value, shift[re.sub(r"\D", "", key)])
            yield entry._replace(value=moved)
        elif key == "DATASEC":
            inside = _inside(Section.from_fits(str(value)), trim)
            if inside:
                yield entry._replace(value=inside.to_fits())
        elif ending := _ENDING.fullmatch(key):
            own = Section.from_fits(str(present.get(f"DATASEC{ending[2]}")))
            if own in places:
                section = places[own].to_fits()
                yield entry._replace(value=section) if ending[1] == "DATA" else entry
        elif not _SECTION.fullmatch(key) or (exact and re.fullmatch("(CCD|DET|AMP)SEC", key)):
            yield entry
    for axis, offset in shift.items():
        if offset and f"LTV{axis}" not in present:
            yield Card(f"LTV{axis}", -float(offset), "pixel = raw pixel + LTV")
            yield Card(f"LTM{axis}_{axis}", 1.0, "pixels per raw pixel")


def _inside(section: Section | None, trim: Section) -> Section | None:
    """Return a section in the pixels of the trimmed image; None where nothing of it is left."""
    if section is None:
        return None
    rows, columns = trim.shape
    moved = Section(
        max(0, section.y0 - trim.y0),
        min(rows, section.y1 - trim.y0),
        max(0, section.x0 - trim.x0),
        min(columns, section.x1 - trim.x0),
    )
    return moved if moved.y0 < moved.y1 and moved.x0 < moved.x1 else None


def _less(value: Any, shift: int) -> Any:
    try:
        return float(value) - shift
    except (TypeError, ValueError):
        return value


def _rejection_cards(rejection: Rejection) -> dict[str, Any]:
    names = _RULE_CARDS | _BOUND_CARDS.get(rejection.rule, {})
    cards: dict[str, Any] = {"REJTYPE": (rejection.rule, "rule of rejection")}
    rejection = resolve_rejection(rejection)
    for option in RULES[rejection.rule].options:
        keyword, comment = names[option]
        value = getattr(rejection, option)
        off = isinstance(value, float) and math.isinf(value)
        cards[keyword] = ("off" if off else value, comment)
    return cards


def _time_cards(
    facts: MasterFacts, used: Sequence[int], kept: Sequence[int] | None
) -> dict[str, Any]:
    """Return exposure times (weighted by the values kept) and dates of the frames that went in."""
    times = [facts.inputs[i].exptime for i in used]
    known = [time for time in times if time is not None]
    cards: dict[str, Any] = dict.fromkeys(_TIME_CARDS, (None, "not known"))
    if known and len(known) == len(times):
        weights = [1 if kept is None else kept[i] for i in used]
        mean = sum(w * t for w, t in zip(weights, known, strict=True)) / sum(weights)
        common = known[0] if len(set(known)) == 1 else mean
        total = sum(known)
        summed = facts.recipe.estimator == "sum"
        cards["EXPTIME"] = (total if summed else common, "[s] exposure of the result")
        cards["TOTEXP"] = (total, "[s] of all frames together")
    starts = [(start, facts.inputs[i].exptime) for i in used if (start := _start(facts, i))]
    if starts:
        first = min(start for start, _ in starts)
        ends = [start + timedelta(seconds=time or 0) for start, time in starts]
        middles = [start + timedelta(seconds=(time or 0) / 2) for start, time in starts]
        average = first + sum((m - first for m in middles), timedelta()) / len(middles)
        cards["DATE-OBS"] = (_iso(first), "start of the first frame (UTC)")
        cards["DATE-BEG"] = (_iso(first), "start of the first frame (UTC)")
        cards["DATE-END"] = (_iso(max(ends)), "end of the last frame (UTC)")
        cards["DATE-AVG"] = (_iso(average), "mean of the mid-times (UTC)")
        cards["TIMESYS"] = ("UTC", "of the dates")
    return cards


def _start(facts: MasterFacts, index: int) -> datetime | None:
    try:
        start = datetime.fromisoformat(facts.inputs[index].date_obs)
    except ValueError:
        return None
    return start.replace(tzinfo=UTC) if start.tzinfo is None else start.astimezone(UTC)


def _iso(moment: datetime) -> str:
    return moment.replace(tzinfo=None).isoformat(timespec="milliseconds")
