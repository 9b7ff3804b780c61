"""Overscan and data sections: what a header or an observer says, checked against the frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from masterframe.matching import number, text
from masterframe.model import Header, Section, serves_columns

PARTS = ("overscan", "trim")


class Sections(NamedTuple):
    """The sections of one image, and what was not obeyed."""

    overscan: Section | None = None
    """Columns or rows that saw no light."""
    trim: Section | None = None
    """The part that is kept; None keeps all."""
    notes: tuple[str, ...] = ()
    """What was not obeyed, and why."""


def checked(words: dict[str, str], shape: tuple[int, int]) -> Sections:
    """Return the sections of an image, each only where it makes sense.

    Parameters
    ----------
    words : dict
        For ``overscan`` and ``trim``: the keyword or setting it comes from, a blank, and the
        section as FITS writes it; '' where there is none.
    shape : (rows, columns)
        Size of the raw image.
    """
    notes: list[str] = []
    overscan = inside(words.get("overscan", ""), shape, notes)
    trim = inside(words.get("trim", ""), shape, notes)
    if overscan is not None:
        trim = trim or _beside(overscan, shape)
        reason = why_unfit(overscan, trim)
        if reason:
            notes.append(f"overscan {overscan.to_fits()} is not used: {reason}")
            overscan = None
    whole = trim is not None and trim.shape == shape
    return Sections(overscan, None if whole else trim, tuple(notes))


def eso_sections(header: Header, shape: tuple[int, int]) -> dict[str, str]:
    """Return the sections that ESO's prescan and overscan cards describe.

    The cards count binned pixels from the corner at which the output reads: prescan comes first,
    so that it lies at the high end of an axis whose output does. Cards that do not add up to the
    size of the image, or several outputs (`masterframe.inventory.outputs`), give nothing.
    """
    axes = []
    for axis, size in zip("XY", reversed(shape), strict=True):
        keys = (f"ESO DET OUT1 {name}{axis}" for name in ("PRSC", "N", "OVSC"))
        first, data, last = (number(header.get(key)) for key in keys)
        if first is None or data is None or last is None or first + data + last != size:
            return {}
        if (number(header.get(f"ESO DET OUT1 {axis}")) or 1) > 1:
            first, last = last, first
        axes.append((int(first), int(data), int(last)))
    if (number(header.get("ESO DET OUTPUTS")) or 1) > 1:
        return {}
    (left, columns, right), (below, rows, above) = axes
    x0, y0 = left + 1, below + 1
    found = {"trim": f"ESO DET OUT1 [{x0}:{left + columns},{y0}:{below + rows}]"}
    height = below + rows + above
    if right >= left and right:
        found["overscan"] = f"ESO DET OUT1 [{x0 + columns}:{left + columns + right},1:{height}]"
    elif left:
        found["overscan"] = f"ESO DET OUT1 [1:{left},1:{height}]"
    return found


def inside(words: str, shape: tuple[int, int], notes: list[str]) -> Section | None:
    """Return a section that lies in the image; note why not.

    A ``*`` stands for all of an axis, as IRAF writes it.
    """
    if not words:
        return None
    origin, _, value = words.partition("[")
    x, comma, y = value.partition(",")
    rows, columns = shape
    whole = x.replace("*", f"1:{columns}"), y.replace("*", f"1:{rows}")
    section = Section.from_fits(f"[{comma.join(whole)}") if value else None
    if section is None:
        notes.append(f"{words!r} is not obeyed: not a section like [1:1024,1:1024]")
        return None
    if section.y1 > shape[0] or section.x1 > shape[1]:
        size = f"{shape[1]} x {shape[0]} pixels (x, y)"
        notes.append(f"{origin.strip()} {section.to_fits()} is not obeyed: the image has {size}")
        return None
    return section


def _beside(overscan: Section, shape: tuple[int, int]) -> Section | None:
    """Return the larger part of the image beside overscan columns, or above or below its rows."""
    rows, columns = shape
    if overscan.shape[1] == columns:
        parts = Section(0, overscan.y0, 0, columns), Section(overscan.y1, rows, 0, columns)
    else:
        parts = Section(0, rows, 0, overscan.x0), Section(0, rows, overscan.x1, columns)
    larger = max(parts, key=lambda part: min(part.shape))
    return larger if min(larger.shape) else None


def why_unfit(overscan: Section, trim: Section | None) -> str:
    """Return why an overscan cannot serve all that is kept; '' where it can.

    Beside the data it must reach all of their rows, above or below them all of their columns.
    """
    if trim is None:
        return "it leaves no data"
    if overscan.x1 <= trim.x0 or trim.x1 <= overscan.x0:
        lacks_rows = overscan.y0 > trim.y0 or overscan.y1 < trim.y1
        return f"it does not reach all rows of the data {trim.to_fits()}" if lacks_rows else ""
    if overscan.y1 <= trim.y0 or trim.y1 <= overscan.y0:
        whole = serves_columns(overscan, trim)
        return "" if whole else f"it does not reach all columns of the data {trim.to_fits()}"
    return f"it overlaps the data {trim.to_fits()}"


def from_header(header: Header, keys: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Return for overscan and trim the first keyword that is there, with its value."""
    found = {}
    for part, names in keys.items():
        name = next((key for key in names if text(header.get(key))), None)
        if name is not None:
            found[part] = f"{name} {text(header[name])}"
    return found
