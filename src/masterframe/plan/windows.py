"""Windows of a detector: which part of a master of more of it covers an exposure of less."""

from __future__ import annotations

from typing import NamedTuple

from masterframe.assembly import place_of
from masterframe.matching import card
from masterframe.model import Exposure, Image, Section

PLACE = ("layout", "window", "window_x", "window_y")
"""What tells the window of an exposure in its set-up."""


class Window(NamedTuple):
    """What of the detector an image holds after trimming."""

    section: Section
    """Its pixels on the detector, binned as the image is."""
    flips: tuple[bool, bool] = (False, False)
    """Whether rows, and columns, of the image run backwards there."""
    phase: tuple[int, int] | None = None
    """Rows and columns of the detector before those of the first binned pixel; None where an origin
    tells the window, which may count from elsewhere than the sections of a header do."""


def window_of(exposure: Exposure, trims: tuple[Section | None, ...]) -> Window | None:
    """Return where the only image of an exposure lies on the detector; None: nothing tells it.

    Told by DETSEC or CCDSEC with DATASEC; else by the origin of the window, counted in binned
    pixels (XORGSUBF), or in those of a detector that is not binned. An origin tells nothing where
    something was read before the first pixel that is kept.

    Parameters
    ----------
    exposure : Exposure
        Its images say where they lie.
    trims : tuple of Section or None
        The part of each image that is kept.
    """
    if len(exposure.images) != 1:
        return None
    ((image,), (trim,)) = exposure.images, trims
    if image.trim and not trim:
        return None
    place = place_of(image, exposure.binning)
    if place is not None:
        return Window(place.target, place.flips, place.phase)
    return _by_origin(exposure, image)


def _by_origin(exposure: Exposure, image: Image) -> Window | None:
    setup = dict(exposure.setup)
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


def part_of(whole: Window | None, window: Window | None) -> Section | None:
    """Return the part of a master's image that covers a smaller window; None: it does not."""
    if whole is None or window is None or whole.section == window.section:
        return None
    if (whole.flips, whole.phase) != (window.flips, window.phase):
        return None
    part = window.section.within(whole.section)
    if part.shape != window.section.shape:
        return None
    (rows, columns), (flip_y, flip_x) = whole.section.shape, whole.flips
    y = (rows - part.y1, rows - part.y0) if flip_y else (part.y0, part.y1)
    x = (columns - part.x1, columns - part.x0) if flip_x else (part.x0, part.x1)
    return Section(*y, *x)
