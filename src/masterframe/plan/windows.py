"""Windows of a detector: which parts of a master of more of it cover an exposure of less."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from masterframe.matching import card
from masterframe.model import Exposure, Image, MasterPart, Section, Window

PLACE = ("layout", "window", "window_x", "window_y")
"""What tells the window of an exposure in its set-up."""

_PACKED = "COMPRESSED_IMAGE"
"""EXTNAME that fpack gives an image without one."""


class View(NamedTuple):
    """One image of an exposure as it is kept."""

    name: str
    """Its name, as EXTNAME and EXTVER give it; '' where they do not."""
    stored: str
    """Its name in a master that is made of such exposures."""
    shape: tuple[int, int]
    """Rows and columns."""
    window: Window | None
    """Where it lies on the detector; None: nothing tells it."""


class Cut(NamedTuple):
    """What exposures take of a master of more images, or of more of each."""

    parts: tuple[MasterPart, ...] = ()
    """Of each of their images the part of the master; empty where the master is not cut."""
    why_not: str = ""
    """Why it cannot be cut to them; '' where it can, or where nothing tells that it should."""


def views_of(exposure: Exposure, trims: Sequence[Section | None]) -> tuple[View, ...]:
    """Return the images of an exposure as they are kept.

    Where one lies is told by DETSEC or CCDSEC with DATASEC; else by the origin of the window,
    counted in binned pixels (XORGSUBF), or in those of a detector that is not binned. An origin
    tells nothing where something was read before the first pixel that is kept.

    Parameters
    ----------
    exposure : Exposure
        Its images say where they lie.
    trims : sequence of Section or None
        The part of each image that is kept.
    """
    return tuple(
        View(
            told_name(image),
            exposure.image_name(number),
            image.shape if trim else image.frame.shape,
            _window(exposure, image, trim),
        )
        for number, (image, trim) in enumerate(zip(exposure.images, trims, strict=True))
    )


def told_name(image: Image) -> str:
    """Return the name of an image, as EXTNAME and EXTVER give it; '' where they do not.

    That of a primary HDU is not one of its detector: some cameras write the kind or the file there.
    """
    told = image.frame.extname.strip() if image.frame.hdu else ""
    return image.frame.name if told and told.upper() != _PACKED else ""


def _window(exposure: Exposure, image: Image, trim: Section | None) -> Window | None:
    if image.trim and not trim:
        return None
    return image.window or _by_origin(exposure, image)


def _by_origin(exposure: Exposure, image: Image) -> Window | None:
    setup = dict(exposure.setup) | dict(image.setup)
    x, y = setup.get("window_x"), setup.get("window_y")
    if not isinstance(x, int | float) or not isinstance(y, int | float):
        return None
    if exposure.binning != (1, 1) and card(exposure, "XORGSUBF") is None:
        return None
    if image.trim and (image.trim.y0, image.trim.x0) != (0, 0):
        return None
    rows, columns = image.shape
    if image.trim and image.trim.shape != (rows, columns):
        return None  # amplifiers apart
    return Window(Section(int(y), int(y) + rows, int(x), int(x) + columns))


@lru_cache(maxsize=4096)  # many exposures have the same views, and ask for the same masters
def cut_to(whole: tuple[View, ...], wanted: tuple[View, ...]) -> Cut:
    """Return the parts of a master that cover the images of smaller or fewer windows.

    Images are matched by name; those without one by their place on the detector, else by their
    order where they are as many.
    """
    if whole == wanted:
        return Cut()
    alike = len(whole) == len(wanted)
    parts = []
    for number, view in enumerate(wanted):
        beside = whole[number] if alike else None
        found = _counterpart(whole, view, beside)
        if isinstance(found, str):
            return Cut(why_not=found)
        part = _part_of(found, view)
        if isinstance(part, str):
            return Cut(why_not=part)
        parts.append(MasterPart(found.stored, part))
    uncut = alike and parts == [MasterPart(view.stored) for view in wanted]
    return Cut() if uncut else Cut(tuple(parts))


def _counterpart(whole: Sequence[View], view: View, beside: View | None) -> View | str:
    """Return the image of a master that an image belongs to, or why none is known."""
    named = [one for one in whole if one.name]
    if view.name and named:
        same = next((one for one in named if one.name == view.name), None)
        return same or f"no image of it is called {view.name}"
    around = [one for one in whole if not isinstance(_part_of(one, view), str)]
    if len(around) == 1 and view.window:
        return around[0]
    if beside:
        return beside
    return f"nothing tells which of its {len(whole)} images {view.name or 'one'} belongs to"


def _part_of(whole: View, view: View) -> Section | str | None:
    """Return the part of an image that a smaller one is: None for all of it; else why it is none.

    Images of one size are the same where the place of one of them is not told.
    """
    name = view.name or "the window"
    if whole.window is None or view.window is None:
        lacking = "the master" if whole.window is None else "the exposure"
        unknown = f"nothing tells where {name} of {lacking} lies on the detector"
        return None if whole.shape == view.shape else unknown
    (outer, *readout), (inner, *own) = whole.window, view.window
    if readout != own:
        return f"{name} was read in another direction, or binned from other pixels"
    part = inner.within(outer)
    if part.shape != inner.shape:
        return f"{name} is {inner.to_fits()} of the detector, not all in {outer.to_fits()}"
    if inner == outer:
        return None
    (rows, columns), (flip_y, flip_x) = outer.shape, whole.window.flips
    y = (rows - part.y1, rows - part.y0) if flip_y else (part.y0, part.y1)
    x = (columns - part.x1, columns - part.x0) if flip_x else (part.x0, part.x1)
    return Section(*y, *x)
