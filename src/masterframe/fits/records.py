"""How each image of a master was made, in cards of its table INPUTS, so that it can be repeated.

``MFREC001`` and so on hold one JSON document an image, in long strings (CONTINUE cards): recipe
with every automatic value resolved, sections, and which masters were applied; what belongs to one
frame is in the rows of the table. A header may come from anybody: what is read back is checked
type by type, and whatever is unknown is an error.
"""

from __future__ import annotations

import json
import math
import os
import types
from collections.abc import Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from masterframe.errors import FrameError
from masterframe.fits.cards import Card
from masterframe.fits.layout import walk
from masterframe.fits.legal import LONG_STRINGS
from masterframe.fits.source import open_source
from masterframe.model import (
    ALGORITHM_VERSION,
    Amplifier,
    OverscanModel,
    Recipe,
    Section,
    all_overscans,
    serves_columns,
)

KEYWORD = "MFREC"
_INFINITE = {"inf": math.inf, "-inf": -math.inf}


@dataclass(frozen=True, slots=True)
class Operand:
    """An image that was applied to every frame, and where it was."""

    path: str
    """Absolute path of its file."""
    hdu: int
    """HDU of its values."""
    datasum: int
    """DATASUM of its values as stored."""
    uncert: int | None = None
    """HDU of their standard deviation."""
    mask: int | None = None
    """HDU of its mask."""
    part: Section | None = None
    """The part of it that was used, where the frames are of a smaller window."""


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """How one image of a master was made, besides what the rows of INPUTS say of each frame."""

    extension: str
    """Its name; '' where it is the only one."""
    frames: int
    """Frames that were combined; their rows come first."""
    recipe: Recipe
    """How, with the options of the rule, the quantisation step and the noise resolved."""
    overscan: Section | None = None
    """Raw columns whose level was subtracted row by row, or rows, column by column."""
    trim: Section | None = None
    """Raw rows and columns that were kept."""
    amplifiers: tuple[Amplifier, ...] = ()
    """Where several outputs read the image, each of them; `overscan` is None then."""
    bad: tuple[Section, ...] = ()
    """Raw parts whose pixels were given as always bad."""
    overscan_model: OverscanModel = field(default_factory=OverscanModel)
    """How the level of a row followed from its overscan."""
    bias: Operand | None = None
    """Master bias."""
    dark: Operand | None = None
    """Master dark."""
    dark_holds_bias: bool = False
    """The dark was subtracted instead of a bias."""
    flat: Operand | None = None
    """Master flat."""
    bad_pixels: Operand | None = None
    """Bad-pixel file."""
    normalize: float | None = None
    """Least value of a flat that was divided by its median; None: it was not."""
    together: bool = False
    """That median was one of all images, and frames were scaled alike in all of them."""
    hot_sigma: float | None = None
    """Robust sigmas from which pixels were marked hot; None: they were not."""
    uncertainties: bool = False
    """The uncertainties in the input files were used."""
    changed: bool = False
    """The values combined were not those of the files."""
    algorithm: int = ALGORITHM_VERSION
    """`ALGORITHM_VERSION` of the program that made it."""

    @property
    def overscans(self) -> tuple[Section, ...]:
        """The overscan, or that of each amplifier."""
        return all_overscans(self.overscan, self.amplifiers)

    @property
    def by_columns(self) -> bool:
        """Whether they have a level for each column, not for each row."""
        if self.amplifiers:
            return any(one.by_columns for one in self.amplifiers)
        return serves_columns(self.overscan, self.trim)


def record_cards(records: Sequence[ImageRecord]) -> list[Card]:
    """Return a card for each image, and the one that announces such long strings."""
    cards = [Card(f"{KEYWORD}{n:03d}", encode(record)) for n, record in enumerate(records, start=1)]
    return [LONG_STRINGS, *cards] if cards else []


def read_records(path: str | os.PathLike[str]) -> dict[str, ImageRecord]:
    """Return the record of each image of a master by the name of the image.

    Raises
    ------
    FrameError
        If the file cannot be read, has no record, or one that does not hold what it must.
    """
    name = os.fspath(path)
    with open_source(name) as (source, _):
        primary, *others = (raw.cards for raw in walk(name, source))
    header = next((cards for cards in others if cards.get("EXTNAME") == "INPUTS"), None)
    if header is None:
        raise FrameError(name, "it has no table INPUTS: masterframe did not make it")
    texts = {key: str(text) for key, text in header.items() if key.startswith(KEYWORD)}
    if primary.get("MFKIND") == "calibrated":
        taken = [str(primary[key]) for key in ("MFBIAS", "MFDARK", "MFFLAT") if key in primary]
        reason = "a calibrated frame, of one exposure: only masters have a history"
        raise FrameError(name, f"{reason}; this one took {', '.join(taken) or 'none'}")
    if not texts:
        raise FrameError(name, f"it does not say how it was made (no card {KEYWORD}001)")
    records = {}
    for key, text in texts.items():
        try:
            record = decode(text)
        except ValueError as error:
            raise FrameError(name, f"its card {key} is damaged: {error}") from None
        if record.extension in records:
            raise FrameError(name, f"its card {key} is damaged: {record.extension!r} comes twice")
        records[record.extension] = record
    return records


def encode(record: ImageRecord) -> str:
    """Return a record as JSON in the ASCII that a FITS string can hold and split anywhere."""
    document = _plain(asdict(record))
    text = json.dumps(document, separators=(",", ":"), allow_nan=False)
    return text.replace("'", r"\u0027").replace("&", r"\u0026")  # both have a meaning in cards


def decode(text: str) -> ImageRecord:
    """Return the record that `encode` was given.

    Raises
    ------
    ValueError
        If the text is no JSON, or anything in it is missing, unknown or of another type.
    """
    try:
        document = json.loads(text, object_pairs_hook=_once, parse_constant=_refuse)
        record: ImageRecord = _checked(ImageRecord, document, "record")
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except OverflowError:
        raise ValueError("it holds a number that is too large") from None
    return record


def _plain(value: Any) -> Any:
    """Return a value in the types of JSON; infinities, which it does not have, by name."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and math.isinf(value):
        return "inf" if value > 0 else "-inf"
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) < len(pairs):
        raise ValueError("a key comes twice")
    return document


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")


def _checked(kind: Any, value: Any, where: str) -> Any:
    """Return a JSON value as the type that a field asks for."""
    origin = get_origin(kind)
    if is_dataclass(kind):
        return _checked_object(kind, value, where)
    if origin in (Union, types.UnionType):
        return _checked_union(kind, value, where)
    if origin is tuple and type(value) is list:
        return tuple(_checked(get_args(kind)[0], item, where) for item in value)
    if origin is Literal and isinstance(value, str) and value in get_args(kind):
        return value
    if kind is float and type(value) in (int, float):
        return float(value)
    if kind is float and isinstance(value, str) and value in _INFINITE:
        return _INFINITE[value]
    if kind is type(None) and value is None:
        return None
    if kind in (int, str, bool) and type(value) is kind:
        return value
    raise ValueError(f"{where} is {str(value)[:40]!r}")


def _checked_object(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise ValueError(f"{where} is {str(value)[:40]!r}")
    hints = get_type_hints(kind)
    unknown = sorted(set(value) - set(hints))
    needed = {own.name for own in fields(kind) if _has_no_default(own)}
    lacking = sorted(needed - set(value))
    if unknown or lacking:
        names = ", ".join((unknown or lacking)[:3])
        raise ValueError(f"{where} {'has unknown keys' if unknown else 'lacks'}: {names[:80]}")
    found = {name: _checked(hints[name], item, f"{where}.{name}") for name, item in value.items()}
    return kind(**found)


def _has_no_default(given: Any) -> bool:
    return given.default is MISSING and given.default_factory is MISSING


def _checked_union(kind: Any, value: Any, where: str) -> Any:
    reasons = []
    for choice in get_args(kind):
        try:
            return _checked(choice, value, where)
        except ValueError as error:
            reasons.append(str(error))
    raise ValueError(max(reasons, key=len))
