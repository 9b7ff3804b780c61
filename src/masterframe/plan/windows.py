"""Windows of a detector: which part of a master of more of it covers an exposure of less."""

from __future__ import annotations

from masterframe.matching import card
from masterframe.model import Exposure, Section

PLACE = ("layout", "window_x", "window_y")
"""What tells the window of an exposure in its set-up."""


def window_of(exposure: Exposure) -> Section | None:
    """Return where the only image of an exposure lies on the detector; None: nothing tells it.

    Origins are counted in binned pixels (XORGSUBF), or in those of a detector that is not binned.
    An image that is trimmed is none: its overscan would be elsewhere in another window.
    """
    setup = dict(exposure.setup)
    if "window_x" not in setup or len(exposure.images) != 1:
        return None
    (image,) = exposure.images
    x, y = setup["window_x"], setup.get("window_y")
    if image.trim or image.overscans or not isinstance(x, int | float):
        return None
    if not isinstance(y, int | float):
        return None
    if exposure.binning != (1, 1) and card(exposure, "XORGSUBF") is None:
        return None
    rows, columns = image.frame.shape
    return Section(int(y), int(y) + rows, int(x), int(x) + columns)


def part_of(master: Exposure, wanted: Exposure) -> Section | None:
    """Return the part of a master's image that covers a smaller window; None: it does not."""
    whole, window = window_of(master), window_of(wanted)
    if whole is None or window is None or whole == window:
        return None
    part = window.within(whole)
    return part if part.shape == window.shape else None
