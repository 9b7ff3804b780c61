"""The tables of a master: INPUTS, a row a frame, and QUALITY, a row a number.

The header of INPUTS also holds how each image was made (`masterframe.fits.records`).

Text columns of FITS hold ASCII alone, file names anything. Paths are therefore stored as URLs have
them: bytes beyond ASCII, ``%`` itself, controls, and a blank at the end as ``%XX`` (RFC 3986); a
path of plain ASCII reads as it is, and every path comes back byte for byte.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import Field, dataclass, fields
from itertools import chain
from typing import Any, TypeVar
from urllib.parse import quote, unquote_to_bytes

import numpy as np
from numpy.typing import NDArray

from masterframe.errors import FrameError
from masterframe.fits import cardtext, checksums
from masterframe.fits.cards import Card
from masterframe.fits.layout import padded, walk
from masterframe.fits.legal import ascii_text
from masterframe.fits.records import ImageRecord, record_cards
from masterframe.fits.source import open_source

_PLAIN = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")
_NO_DATASUM = -1


@dataclass(frozen=True, slots=True)
class InputRow:
    """What went into a master from one image of one file."""

    path: str
    """The file, as it was given to the run."""
    extension: str = ""
    """Image of the master that it went into; '' where there is one."""
    hdu: int = 0
    """HDU of the file that it is from."""
    plane: int = 0
    """Plane of the cube in that HDU, from 1; 0 where it holds none."""
    size: int = 0
    """Size of the file (bytes)."""
    mtime_ns: int = 0
    """Time of its last change (ns since 1970)."""
    datasum: int | None = None
    """DATASUM of the data as stored."""
    date_obs: str = ""
    """Start, ISO 8601 in UTC; '' where it is not known."""
    exptime: float | None = None
    """Exposure time (s)."""
    dark_ratio: float = 1.0
    """Factor of the dark that was subtracted."""
    level: float | None = None
    """Median, mode or mean of its good pixels (adu), where it was measured."""
    scale: float = 1.0
    """Factor that was applied."""
    zero: float = 0.0
    """Summand that was applied."""
    weight: float = 1.0
    """Weight in the result."""
    kept: int = 0
    """Values that went into the result."""
    rejected_low: int = 0
    """Values rejected below the centre."""
    rejected_high: int = 0
    """Values rejected above the centre."""
    missing: int = 0
    """Values that were no number, saturated or masked."""
    noise: float | None = None
    """Standard deviation of value minus result over the kept values (unit of the result)."""
    status: str = "used"
    """``used``, or why it was not."""
    pixelnoise: float | None = None
    """Noise of one pixel beside its neighbours (adu), where it was measured."""
    pixelsignal: float | None = None
    """Mean of the pixels that told it (adu)."""
    unlike: float | None = None
    """How unlike the others it is, where they were compared: above 1 it fails a test."""


@dataclass(frozen=True, slots=True)
class QualityRow:
    """One number that says how good a master is."""

    name: str
    """Short name, for programs."""
    value: float | None
    """The number; None where it could not be had."""
    unit: str = ""
    """Its unit."""
    description: str = ""
    """What it is, for people (ASCII)."""
    extension: str = ""
    """Image of the master that it holds for; '' where there is one."""
    limit: float | None = None
    """Most that a test passes; None for a number that is not tested."""
    verdict: str = ""
    """pass, warn, fail or not judged; '' for a number that is not tested."""


LATER = ("pixelnoise", "pixelsignal", "unlike")
"""Columns that masters of earlier versions do not have."""
_UNITS = {"size": "byte", "mtime_ns": "ns", "exptime": "s"}
_UNITS |= dict.fromkeys(("level", "pixelnoise", "pixelsignal"), "adu")
_KINDS = {"str": "A", "int": "K", "int | None": "K", "float": "D", "float | None": "D"}
_TYPES = {"K": ">i8", "D": ">f8"}
"""numpy's types of the formats of numbers (FITS standard 4.0, table 18)."""

Row = TypeVar("Row", InputRow, QualityRow)


def inputs_table(rows: Sequence[InputRow], records: Sequence[ImageRecord] = ()) -> bytes:
    """Return the HDU of the table INPUTS; unknown numbers are NaN, an unknown DATASUM is null.

    Parameters
    ----------
    rows : sequence of InputRow
        A row an image of a file.
    records : sequence of ImageRecord
        How each image of the master was made, for the header of the table.
    """
    note = Card("COMMENT", "path: bytes beyond ASCII, % and a blank at the end stand as %XX.")
    return _table("INPUTS", InputRow, rows, [*record_cards(records), note])


def quality_table(rows: Sequence[QualityRow]) -> bytes:
    """Return the HDU of the table QUALITY; unknown numbers are NaN."""
    return _table("QUALITY", QualityRow, rows)


def read_inputs(path: str | os.PathLike[str]) -> list[InputRow]:
    """Return the rows of the table INPUTS of a master.

    Raises
    ------
    FrameError
        If the file has no such table.
    """
    return _rows(path, "INPUTS", InputRow)


def read_quality(path: str | os.PathLike[str]) -> list[QualityRow]:
    """Return the rows of the table QUALITY of a master.

    Raises
    ------
    FrameError
        If the file has no such table.
    """
    return _rows(path, "QUALITY", QualityRow)


def encode_path(path: str) -> str:
    """Return a path as printable ASCII from which `decode_path` makes the same path again."""
    text = quote(os.fsencode(path), safe=_PLAIN)
    return text[:-1] + "%20" if text.endswith(" ") else text


def decode_path(text: str) -> str:
    """Return the path that `encode_path` was given."""
    return os.fsdecode(unquote_to_bytes(text))


def _table(name: str, kind: type[Row], rows: Sequence[Row], more: Sequence[Card] = ()) -> bytes:
    """Return a binary table as it stands in a file, with its checksums (FITS standard 4.0, 7.3)."""
    columns = {
        field.name: _encode(field.name, str(field.type), [getattr(row, field.name) for row in rows])
        for field in fields(kind)
    }
    stored: np.dtype[Any] = np.dtype([(key, column.dtype) for key, column in columns.items()])
    table: NDArray[Any] = np.empty(len(rows), stored)
    for key, column in columns.items():
        table[key] = column
    data = table.tobytes()
    data = data.ljust(padded(len(data)), b"\0")
    cards = [
        Card("XTENSION", "BINTABLE", "binary table extension"),
        Card("BITPIX", 8),
        Card("NAXIS", 2),
        Card("NAXIS1", stored.itemsize, "bytes of a row"),
        Card("NAXIS2", len(rows), "rows"),
        Card("PCOUNT", 0),
        Card("GCOUNT", 1),
        Card("TFIELDS", len(columns), "columns"),
        Card("EXTNAME", name, "name of this HDU"),
        *cardtext.sum_cards(),
        *chain.from_iterable(
            _column_cards(number, field, stored[field.name])
            for number, field in enumerate(fields(kind), start=1)
        ),
        *more,
    ]
    return cardtext.sealed_bytes(cards, checksums.add_words(data)) + data


def _column_cards(number: int, field: Field[Any], stored: np.dtype[Any]) -> Iterator[Card]:
    kind = _KINDS[str(field.type)]
    yield Card(f"TTYPE{number}", field.name)
    yield Card(f"TFORM{number}", f"{stored.itemsize}A" if kind == "A" else kind)
    if field.name in _UNITS:
        yield Card(f"TUNIT{number}", _UNITS[field.name])
    if field.name == "datasum":
        yield Card(f"TNULL{number}", _NO_DATASUM)


def _encode(name: str, kind: str, values: Sequence[Any]) -> Any:
    if kind == "str":
        text = [encode_path(value) if name == "path" else ascii_text(value) for value in values]
        width = max((len(value) for value in text), default=0)
        return np.array([value.encode("ascii") for value in text], f"S{max(1, width)}")
    if kind.startswith("int"):
        return np.array([_NO_DATASUM if value is None else value for value in values], _TYPES["K"])
    return np.array([math.nan if value is None else value for value in values], _TYPES["D"])


def _rows(path: str | os.PathLike[str], name: str, kind: type[Row]) -> list[Row]:
    try:
        data = _read_table(os.fspath(path), name)
        columns = [_decode(field.name, str(field.type)) for field in fields(kind)]
        arrays = [_column(data, field) for field in fields(kind)]
    except (KeyError, ValueError) as error:
        raise FrameError(os.fspath(path), f"has no table {name} of masterframe ({error})") from None
    return [
        kind(*(decode(value) for decode, value in zip(columns, row, strict=True)))
        for row in zip(*arrays, strict=True)
    ]


def _read_table(path: str, name: str) -> NDArray[Any]:
    """Return the rows of a table of text, whole and real numbers, as they are stored.

    A run reads one of every product there is: astropy takes ten times as long to open it.

    Raises
    ------
    KeyError
        If there is no such table, or it does not name its columns.
    ValueError
        If it has columns of another format.
    """
    with open_source(path) as (source, _):
        for raw in walk(path, source):
            if (raw.cards.get("XTENSION"), raw.cards.get("EXTNAME")) == ("BINTABLE", name):
                count = int(str(raw.cards["TFIELDS"]))
                columns = [
                    (str(raw.cards[f"TTYPE{i}"]), _stored(str(raw.cards[f"TFORM{i}"])))
                    for i in range(1, count + 1)
                ]
                return np.frombuffer(source.read(raw.start, raw.end - raw.start), columns)
    raise KeyError(name)


def _stored(form: str) -> str:
    """Return the numpy type of a column by its format (FITS standard 4.0, table 18)."""
    found = re.fullmatch(r"(\d*)([AKD])", form.strip())
    if found is None or (found[2] != "A" and found[1] not in ("", "1")):
        raise ValueError(f"a column of format {form}")
    return f"S{found[1] or 1}" if found[2] == "A" else _TYPES[found[2]]


def _column(data: NDArray[Any], field: Field[Any]) -> list[Any]:
    """Return a column as it is stored; one that came `LATER` may not be there."""
    if field.name in LATER and field.name not in (data.dtype.names or ()):
        return [math.nan] * len(data)
    return _plain(data[field.name])


def _plain(column: NDArray[Any]) -> list[Any]:
    """Return the values of a column in the types of Python, text without blanks at its end."""
    if column.dtype.kind != "S":
        return list(column.tolist())
    return [value.decode("ascii").rstrip(" ") for value in column.tolist()]


def _decode(name: str, kind: str) -> Callable[[Any], Any]:
    if name == "path":
        return decode_path
    if name == "datasum":
        return lambda value: None if value == _NO_DATASUM else value
    if kind == "float | None":
        return lambda value: None if math.isnan(value) else value
    return lambda value: value
