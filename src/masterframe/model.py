"""The frozen types that every layer speaks.

A night is a set of `Exposure`; each holds one `Frame` an image. A `Recipe` says how frames of one
kind become a `Product`; a `Plan` holds the products in the order in which they can be made. Axes
are numpy's, (y, x); sections are 0-based and half-open; times are UTC; values are in adu until a
flat divides them.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:  # the command line imports this module before numpy is wanted
    import numpy as np
    from numpy.typing import NDArray

Kind = Literal["bias", "dark", "flat", "science", "arc", "focus", "guide", "other"]
Scalar = str | int | float | bool | None
Header = Mapping[str, Scalar]
"""Header values by keyword, upper case; ``HIERARCH ESO DET ID`` is keyed ``ESO DET ID``."""

ALGORITHM_VERSION = 1
"""Raised only when a change alters the bits of a result; part of every product's token."""


class MaskBit(enum.IntFlag):
    """Bits of the ``MASK`` plane; any bit set means: do not use the pixel."""

    NO_VALUE = 1
    """Nothing was left to combine."""
    BAD = 2
    """Given as bad by a bad-pixel file or an input mask."""
    SATURATED = 4
    """Saturated in every frame."""
    FLAT_LOW = 8
    """The flat is below the least sensitivity, or not finite."""
    HOT = 16
    """Hot or unstable in the dark."""
    FEW_KEPT = 32
    """Fewer values were kept than `Recipe.min_kept`."""
    NOT_COVERED = 64
    """No input covers the pixel."""


@dataclass(frozen=True, slots=True)
class Section:
    """A rectangle of pixels, 0-based and half-open."""

    y0: int
    """First row."""
    y1: int
    """Row after the last."""
    x0: int
    """First column."""
    x1: int
    """Column after the last."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.y1 - self.y0, self.x1 - self.x0

    def to_fits(self) -> str:
        """Return the section as FITS writes it: 1-based, inclusive, x before y."""
        return f"[{self.x0 + 1}:{self.x1},{self.y0 + 1}:{self.y1}]"


@dataclass(frozen=True, slots=True)
class Scaling:
    """How stored numbers become physical ones: ``physical = bzero + bscale * stored``."""

    bzero: float = 0.0
    """Offset (physical unit)."""
    bscale: float = 1.0
    """Factor (physical unit per stored step)."""
    blank: int | None = None
    """Stored integer that stands for no value."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One two-dimensional image in one file: all that a worker needs to read any row of it."""

    path: str
    """Absolute path of the file."""
    hdu: int
    """Index of the HDU, 0 for the primary."""
    extname: str
    """EXTNAME of the HDU, '' where it has none."""
    offset: int
    """Byte of the file at which the pixels begin; -1 where they are compressed."""
    bitpix: int
    """BITPIX of the stored pixels."""
    shape: tuple[int, int]
    """Rows and columns."""
    scaling: Scaling
    """How stored numbers become physical ones."""
    dtype: str
    """Name of the physical numpy type, native byte order: uint16 stays uint16 through BZERO."""
    size: int
    """Size of the file (bytes) when it was scanned."""
    mtime_ns: int
    """Modification time of the file (ns) when it was scanned."""
    datasum: int | None = None
    """DATASUM card of the HDU, where there is one."""

    @property
    def row_bytes(self) -> int:
        """Bytes of one stored row."""
        return self.shape[1] * abs(self.bitpix) // 8

    @property
    def step(self) -> float:
        """Smallest difference of two stored values (physical unit); 0 for stored floats."""
        return abs(self.scaling.bscale) if self.bitpix > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Image:
    """One image of an exposure with what its header says of the detector behind it."""

    frame: Frame
    """Where its pixels are."""
    header: Header
    """Cards of its HDU (over those of the primary, where it is an extension)."""
    overscan: Section | None = None
    """Columns beside the data that saw no light; their row median is subtracted."""
    trim: Section | None = None
    """The part that is kept; None keeps all."""
    gain: float | None = None
    """Electrons per adu; None where it is not known."""
    read_noise: float | None = None
    """Noise of one read (electrons); None where it is not known."""
    saturation: float | None = None
    """Raw value (adu) from which a pixel is saturated; None where it is not known."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns after trimming."""
        return self.trim.shape if self.trim else self.frame.shape


@dataclass(frozen=True, slots=True)
class Exposure:
    """One shutter cycle in one file: typed, and described well enough to be grouped."""

    path: str
    """Absolute path of the file."""
    images: tuple[Image, ...]
    """Its science images, in file order; one for a plain file."""
    kind: Kind | None
    """What it is; None where no rule could tell."""
    certain: bool
    """False where the kind rests on a name or a guess."""
    rule: str
    """On what the kind rests, in words: ``IMAGETYP = 'Bias Frame'``."""
    header: Header
    """Cards of the primary HDU."""
    object: str = ""
    """Target, as the header gives it."""
    exptime: float | None = None
    """Exposure time (s)."""
    dark_time: float | None = None
    """Time over which dark current was collected (s): DARKTIME, else the exposure time."""
    filter: str = ""
    """Filter, as the header gives it."""
    binning: tuple[int, int] = (1, 1)
    """Detector pixels per image pixel, (y, x)."""
    date_obs: str = ""
    """Start, ISO 8601 in UTC; '' where it is not known."""
    temperature: float | None = None
    """Detector temperature (degrees C)."""
    instrument: str = ""
    """Camera, as the header names it."""
    setup: tuple[tuple[str, Scalar], ...] = ()
    """What must agree for two exposures to calibrate each other: detector, window, gain setting."""
    night: str = ""
    """Name of the night folder that it was found in."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A file that was left out, or that no rule could type, with the reason."""

    path: str
    """The file."""
    reason: str
    """What is wrong or missing, in words for an observer."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """A rejection rule by name, with the options that the rules share.

    A rule uses those that its docstring names and refuses others that were set.
    """

    rule: str = "sigma"
    """Name in the registry `masterframe.kernels.RULES`."""
    low: float | None = 5.0
    """Bound below the centre (sigmas; raw adu for ``threshold``); None does not reject low."""
    high: float | None = 5.0
    """Bound above the centre; None does not reject high."""
    center: Literal["median", "mean", "first-median"] = "median"
    """Centre of the bounds; first-median: the median at first, the mean from the second pass."""
    deviation: Literal["mad", "std"] = "mad"
    """Measure of spread: 1.4826 times the median absolute deviation, or the standard deviation."""
    ddof: int = 0
    """Degrees of freedom taken off n in ``deviation='std'``."""
    max_iters: int | None = 1
    """Passes at most; None goes on until nothing changes."""
    nlow: int = 0
    """Values that ``minmax`` drops at the low end."""
    nhigh: int = 0
    """Values that ``minmax`` drops at the high end."""
    nkeep: int = 1
    """Values that a rule must leave; a pass that would leave fewer is not done."""


@dataclass(frozen=True, slots=True)
class Noise:
    """The least spread that is believed, so that quantised data keep their good values."""

    floor: float | Literal["auto"] = "auto"
    """Least sigma (combined unit); ``auto`` derives it from step, gain and read noise; 0 is off."""
    step: float = 0.0
    """Smallest difference of two raw values (adu)."""
    gain: float | None = None
    """Electrons per adu."""
    read_noise: float | None = None
    """Noise of one read (electrons)."""


Estimator = Literal["mean", "median", "sum"]


@dataclass(frozen=True, slots=True)
class Recipe:
    """How the frames of one product become its pixels."""

    rejection: Rejection = field(default_factory=Rejection)
    """What is left out."""
    estimator: Estimator = "mean"
    """What is made of the values that are kept."""
    noise: Noise = field(default_factory=Noise)
    """The noise floor of the rejection."""
    saturation: float | None = None
    """Raw values (adu) from here on are left out."""
    min_kept: int = 1
    """Fewer kept values than this set `MaskBit.FEW_KEPT`."""
    dtype: Literal["float32", "float64"] = "float32"
    """Type of the calibrated values and of the planes written."""
    planes: tuple[str, ...] = ()
    """Optional planes: rejlow, rejhigh, exposure, propagated."""


@dataclass(frozen=True, slots=True)
class MasterImage:
    """The planes of one image of a written master."""

    data: Frame
    """The combined values."""
    uncert: Frame | None = None
    """Their standard deviation."""
    mask: Frame | None = None
    """`MaskBit` of each pixel."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """What is taken from and applied to the raw values of one image of N frames.

    ``((raw - overscan) - bias - dark * dark_ratio) / flat * scale + zero``, in this order. It holds
    readers of masters, never pixels, so that it travels to workers as a few hundred bytes.
    """

    overscan: Section | None = None
    """Raw columns whose row median is subtracted."""
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


@dataclass(frozen=True, slots=True)
class ProductRecipe:
    """One stanza of a configuration: how products of one kind are grouped, made and finished."""

    kind: Kind
    """The kind of exposure that goes in: bias, dark, flat or science."""
    group_by: tuple[str, ...] = ()
    """Fields of `Exposure` or header keywords whose values split groups, besides the set-up."""
    recipe: Recipe = field(default_factory=Recipe)
    """How the frames are combined; science frames use its dtype and saturation alone."""
    min_frames: int = 3
    """Fewer frames than this are combined without rejection, and the master is marked."""
    subtract_bias: bool = True
    """Take the bias off, where there is one."""
    subtract_dark: bool = True
    """Take the dark off, where there is one (flat and science)."""
    divide_flat: bool = True
    """Divide by the flat, where there is one (science)."""
    subtract_overscan: bool = True
    """Take the overscan's row median off and trim, where the sections are known."""
    scale: Literal["none", "level"] = "none"
    """level: each frame is divided by its own level before rejection."""
    normalize: bool = False
    """Divide the master by the median of its good pixels (flat)."""
    flat_minimum: float = 0.2
    """Normalised pixels below this are masked and divide by 1 (flat)."""
    hot_sigma: float | None = None
    """Pixels this many robust sigmas above the median are marked hot (dark)."""


@dataclass(frozen=True, slots=True)
class FrameCounts:
    """Numbers of each of N frames, summed over the pixels of a band; arrays of shape (N,)."""

    kept: NDArray[np.int64]
    """Values that went into the result."""
    low: NDArray[np.int64]
    """Values rejected below the centre."""
    high: NDArray[np.int64]
    """Values rejected above the centre."""
    missing: NDArray[np.int64]
    """Values that were no number, saturated or masked."""


@dataclass(frozen=True, slots=True)
class BandResult:
    """What one task makes of one row band: its pixels, and the numbers of its frames."""

    row0: int
    """First row of the band in the combined image."""
    planes: Mapping[str, NDArray[Any]]
    """Arrays of shape (rows, columns) by name: data, uncert, mask, count and the optional ones."""
    frames: FrameCounts
    """Counts per frame."""
    frame_sums: NDArray[np.float64]
    """Sums of (value - combined) and of its square over the kept values, shape (rows, N, 2)."""
    half_sums: NDArray[np.float64]
    """n, sum and sum of squares of half the difference between the means of the even and the odd
    frames, shape (rows, 3); the noise of the result free of what all frames share."""
    datasum: NDArray[np.uint64]
    """Ones'-complement partial DATASUM of the bytes read, per frame, shape (N,)."""
