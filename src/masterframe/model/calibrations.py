"""Masters, and what is taken from and applied to raw values."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from masterframe.model.frames import (
    Amplifier,
    Frame,
    Section,
    all_overscans,
    kept_shape,
    serves_columns,
)
from masterframe.model.recipes import OverscanModel


@dataclass(frozen=True, slots=True)
class MasterImage:
    """The planes of one image of a written master."""

    data: Frame
    """The combined values."""
    uncert: Frame | None = None
    """Their standard deviation."""
    mask: Frame | None = None
    """`MaskBit` of each pixel."""
    part: Section | None = None
    """The part that is used, where frames are a cut-out; None is all of it."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns that are used."""
        return self.part.shape if self.part else self.data.shape


@dataclass(frozen=True, slots=True)
class Calibration:
    """What is taken from and applied to the raw values of one image of N frames.

    ``((raw - overscan) - bias - dark * dark_ratio) / flat * scale + zero``, in this order. It holds
    readers of masters, never pixels, so that it travels to workers as a few hundred bytes.
    """

    overscan: Section | None = None
    """Raw columns beside the data whose level is subtracted row by row, or rows above or below them
    whose level is subtracted column by column."""
    trim: Section | None = None
    """Raw rows and columns that are kept; masters have this shape."""
    bias: MasterImage | None = None
    """Master bias (adu)."""
    dark: MasterImage | None = None
    """Master dark (adu over its dark time)."""
    dark_holds_bias: bool = False
    """True where no bias was taken from the dark, so that it is subtracted instead of a bias."""
    dark_ratio: tuple[float, ...] = ()
    """Dark time of each frame over the master's; empty for 1."""
    flat: MasterImage | None = None
    """Master flat (about 1)."""
    scale: tuple[float, ...] = ()
    """Factor of each frame; empty for 1."""
    zero: tuple[float, ...] = ()
    """Summand of each frame (combined unit); empty for 0."""
    bad_pixels: MasterImage | None = None
    """Bad-pixel file of the trimmed or raw shape: non-zero pixels are left out."""
    bad: tuple[Section, ...] = ()
    """Raw parts whose pixels are always bad: they are left out; `trim` is known then."""
    amplifiers: tuple[Amplifier, ...] = ()
    """Where several outputs read the image, each of them: `overscan` is None then, and `trim` spans
    what they keep."""
    overscan_model: OverscanModel = field(default_factory=OverscanModel)
    """How the level of a row or column follows from its overscan."""
    overscan_terms: tuple[tuple[tuple[float, ...], ...], ...] = ()
    """Terms of the curve through the overscan, of each frame and of each of its overscans; empty
    where rows have levels of their own."""
    overscan_frames: tuple[Frame, ...] = ()
    """The whole frames, of which the levels of columns are read; empty where rows have levels."""

    @property
    def overscans(self) -> tuple[Section, ...]:
        """The overscan, or that of each amplifier."""
        return all_overscans(self.overscan, self.amplifiers)

    @property
    def by_columns(self) -> bool:
        """Whether overscans have a level for each column, not for each row."""
        if self.amplifiers:
            return any(one.by_columns for one in self.amplifiers)
        return serves_columns(self.overscan, self.trim)

    def kept_shape(self, shape: tuple[int, int]) -> tuple[int, int]:
        """Return rows and columns of what is kept of raw frames of a shape."""
        return kept_shape(shape, self.trim, self.amplifiers)

    def of_frames(self, first: int, last: int) -> Calibration:
        """Return what is taken off some of the frames, without scale and zero."""
        return replace(
            self,
            dark_ratio=self.dark_ratio[first:last],
            overscan_terms=self.overscan_terms[first:last],
            overscan_frames=self.overscan_frames[first:last],
            scale=(),
            zero=(),
        )
