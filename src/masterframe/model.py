"""The frozen types that every layer speaks.

A night is a set of `Exposure`; each holds one `Frame` an image. A `Recipe` says how frames of one
kind become a `Product`; a `Plan` holds the products in the order in which they can be made. Axes
are numpy's, (y, x); sections are 0-based and half-open; times are UTC; values are in adu until a
flat divides them.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:  # the command line imports this module before numpy is wanted
    import numpy as np
    from numpy.typing import NDArray

Kind = Literal["bias", "dark", "flat", "science", "arc", "focus", "guide", "other"]
Scalar = str | int | float | bool | None
Header = Mapping[str, Scalar]
"""Header values by keyword, upper case; ``HIERARCH ESO DET ID`` is keyed ``ESO DET ID``."""

ALGORITHM_VERSION = 2
"""Raised only when a change alters the bits of a result; part of every product's token."""
_SECTION = re.compile(r"\[\s*(\d+)\s*:\s*(\d+)\s*,\s*(\d+)\s*:\s*(\d+)\s*\]")


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

    @classmethod
    def from_fits(cls, words: str) -> Section | None:
        """Read a section that FITS writes from 1, both ends in; None where it is none.

        Examples
        --------
        >>> Section.from_fits("[   4:  13,   1: 520]")
        Section(y0=0, y1=520, x0=3, x1=13)
        """
        found = _SECTION.fullmatch(words.strip())
        if found is None:
            return None
        x0, x1, y0, y1 = (int(group) for group in found.groups())
        return cls(y0 - 1, y1, x0 - 1, x1) if 0 < x0 <= x1 and 0 < y0 <= y1 else None

    def within(self, other: Section) -> Section:
        """Return the part of it that lies in another one, counted from there; it may be empty."""
        y0, x0 = max(self.y0, other.y0), max(self.x0, other.x0)
        y1, x1 = max(y0, min(self.y1, other.y1)), max(x0, min(self.x1, other.x1))
        return Section(y0 - other.y0, y1 - other.y0, x0 - other.x0, x1 - other.x0)

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


Verify = Literal["auto", "always", "never"]
"""Which check sums of frames are verified, where they have some: DATASUM of what is read anyway, or
in the scan DATASUM and CHECKSUM of all that a file holds, or none."""


@dataclass(frozen=True, slots=True)
class Tiles:
    """The tiles in which an image is compressed (FITS standard 4.0, section 10.1)."""

    method: str
    """ZCMPTYPE: RICE_1, GZIP_1, GZIP_2, HCOMPRESS_1, PLIO_1 or NOCOMPRESS."""
    shape: tuple[int, int]
    """Rows and columns of a whole tile; those at the edges may be smaller."""
    table: int
    """Byte of the (unpacked) file at which the table of the tiles begins; a row a tile."""
    row_bytes: int
    """Bytes of a row of the table."""
    heap: int
    """Byte at which the compressed tiles begin."""
    end: int
    """Byte behind the last of them."""
    columns: tuple[tuple[str, int, str], ...] = ()
    """Name of each column, its first byte in a row, and its format; empty where something in them
    is unusual, and astropy is to read the tiles."""
    block: int = 32
    """Values of a block, for RICE_1."""
    value_bytes: int = 4
    """Bytes of a value that was compressed, for RICE_1."""
    dither: str = "NO_DITHER"
    """ZQUANTIZ: how floats were quantised, where there is a column ZSCALE."""
    seed: int = 1
    """ZDITHER0: where the random numbers of the first tile begin."""
    blank: int | None = None
    """Integer that stands for NaN, where no column gives one."""


@dataclass(frozen=True, slots=True)
class Packing:
    """How a whole file is compressed, or an image in tiles that are too tall for bands."""

    kind: str
    """gzip, bzip2 or xz; tiles, where one image of the file is."""
    size: int
    """Bytes that it unpacks to."""
    copy: str = ""
    """Path of its plain copy, made when it is first read; '': none, it is unpacked at each read."""


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
    """Byte of the (unpacked) file at which the pixels begin; -1 where they are in tiles."""
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
    """DATASUM card of the HDU, where there is one; of a plane of a cube there is none."""
    name: str = ""
    """Name of the image, unique in its file: EXTNAME in upper case, with EXTVER after a comma where
    that is not 1 (``SCI,2``); ``IMAGE3`` where HDU 3 has no name that can be used."""
    plane: int = 0
    """Its plane, where the HDU holds a cube, counted from 1 as FITS does; 0 where it holds none."""
    tiles: Tiles | None = None
    """The tiles in which the image is compressed."""
    packing: Packing | None = None
    """How the file is compressed as a whole."""

    @property
    def row_bytes(self) -> int:
        """Bytes of one stored row."""
        return self.shape[1] * abs(self.bitpix) // 8

    @property
    def tile_rows(self) -> int:
        """Rows that are unpacked together."""
        untiled = self.tiles is None or (self.packing is not None and self.packing.kind == "tiles")
        return 1 if untiled or self.tiles is None else self.tiles.shape[0]

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
    origins: Mapping[str, str] = field(default_factory=dict)
    """Where sections and numbers come from, by field: ``EGAIN``, ``preset efosc2``."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns after trimming."""
        return self.trim.shape if self.trim else self.frame.shape


@dataclass(frozen=True, slots=True)
class Condition:
    """One header card or field of an exposure, and the patterns of which one must fit it."""

    key: str
    """A header keyword in upper case, or a field in lower case: see `masterframe.matching`."""
    any_of: tuple[Scalar, ...]
    """Numbers, ``>= 5``, ``1..3``, names with * and ?, each with ``!`` for not; None: absent."""


Selection = tuple[Condition, ...]
"""Conditions that must all hold; the empty one always does."""

Step = Literal["overscan", "bias", "dark", "flat"]
Light = Literal["dome", "lamp", "sky", "twilight", ""]


@dataclass(frozen=True, slots=True)
class TypeRule:
    """What an exposure is, where its header or its name fits."""

    kind: Kind
    """The kind that it then has."""
    when: Selection
    """What must hold."""
    certain: bool = True
    """False where the rule is a guess; rules on the file's name are never certain."""
    technique: str = ""
    """What the light went through, where the rule tells it: image, spectrum."""
    light: Light = ""
    """What shone on a flat, where the rule tells it."""


@dataclass(frozen=True, slots=True)
class Keyword:
    """A header keyword, and how its number becomes the unit that is wanted."""

    key: str
    """The keyword, upper case."""
    factor: float = 1.0
    """Factor: 1e-6 where the card is in microseconds."""
    offset: float = 0.0
    """Summand, after the factor: -273.15 where the card is in kelvin."""


@dataclass(frozen=True, slots=True)
class SectionRule:
    """Overscan and data sections that hold for one way of reading the detector."""

    when: Selection
    """What must hold."""
    overscan: str = ""
    """Overscan as FITS writes it, ``[x0:x1,y0:y1]``; '' for none."""
    trim: str = ""
    """Part that is kept, as FITS writes it; '' for all."""


@dataclass(frozen=True, slots=True)
class AppliedRule:
    """A step that the camera's own software has already done."""

    step: Step
    """The step that must not be done again."""
    when: Selection
    """What must hold."""
    series: bool = False
    """True where only the first frame of a numbered series says so."""


@dataclass(frozen=True, slots=True)
class Detector:
    """What an observer or a preset knows of the detector; None or '' leaves it to the header."""

    gain: float | None = None
    """Electrons per adu."""
    read_noise: float | None = None
    """Noise of one read (electrons)."""
    saturation: float | None = None
    """Raw value (adu) from which a pixel is saturated."""
    overscan: str = ""
    """Overscan section as FITS writes it."""
    trim: str = ""
    """Part that is kept, as FITS writes it."""


Keywords = Mapping[str, tuple[Keyword, ...]]
"""Keywords by field, in the order in which they are tried."""


@dataclass(frozen=True, slots=True)
class Instrument:
    """How the files of one camera are to be read: one YAML file, no code."""

    name: str
    """Name of the preset."""
    match: tuple[Selection, ...] = ()
    """The camera is this one where any of these fits; none: only when asked for by name."""
    keywords: Keywords = field(default_factory=dict)
    """Where the fields of `Exposure` and `Image` are found."""
    setup: Keywords = field(default_factory=dict)
    """What must agree for exposures to calibrate each other, besides layout and binning."""
    optics: Keywords = field(default_factory=dict)
    """What must agree besides the filter for a flat to fit: slit, grism."""
    label: tuple[str, ...] = ()
    """Names in ``setup`` and ``optics`` that enter the names of products."""
    kinds: tuple[TypeRule, ...] = ()
    """Rules that type an exposure; the first that fits holds."""
    sections: tuple[SectionRule, ...] = ()
    """Overscan and trim sections known better than the header; the first that fits holds."""
    applied: tuple[AppliedRule, ...] = ()
    """Steps that the camera's software may have done."""
    processed: tuple[Selection, ...] = ()
    """What only frames that have been reduced say; one that fits is noted."""
    detector: Detector = field(default_factory=Detector)
    """Numbers for where the header has none."""
    hdu: tuple[str | int, ...] = ()
    """Names or indices of the HDUs that hold science images; empty finds them."""
    notes: str = ""
    """What an observer should know of this preset."""


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
    preset: str = ""
    """Name of the `Instrument` by whose rules it was read."""
    setup: tuple[tuple[str, Scalar], ...] = ()
    """What must agree for two exposures to calibrate each other: detector, window, gain setting."""
    night: str = ""
    """Name of the night folder that it was found in."""
    imagetyp: str = ""
    """What the header calls it, in that of the instrument's keywords for it that tells most."""
    technique: str = ""
    """What the light went through: image, spectrum, ...; '' where it is not known."""
    light: Light = ""
    """What shone on a flat: dome, lamp, sky, twilight; '' where it is not known."""
    optics: tuple[tuple[str, Scalar], ...] = ()
    """What must agree besides the filter for a flat to fit: slit, grism."""
    label: str = ""
    """The set-up in short, as it enters the names of products: ``bin2x2_fastL``."""
    applied: tuple[Step, ...] = ()
    """Steps that the camera's software has already done."""
    notes: tuple[str, ...] = ()
    """What was odd about its header and was not obeyed."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A file that was left out, or that no rule could type, with the reason."""

    path: str
    """The file."""
    reason: str
    """What is wrong or missing, in words for an observer."""


Center = Literal["median", "mean", "first-median", "inner-mean"]
Deviation = Literal["mad", "std", "rms"]


@dataclass(frozen=True, slots=True)
class Rejection:
    """A rejection rule by name, with the options that the rules share.

    A rule uses those that its docstring names and refuses others that were set. None leaves an
    option to the default of the rule (`masterframe.kernels.resolve_rejection`).
    """

    rule: str = "sigma"
    """Name in the registry `masterframe.kernels.RULES`."""
    low: float | None = None
    """Bound below the centre (sigmas; raw adu for ``threshold``, a fraction of the median for
    ``percentile``); inf does not reject low."""
    high: float | None = None
    """Bound above the centre; inf does not reject high."""
    center: Center | None = None
    """Centre of the bounds; first-median: the median at first, the mean from the second pass;
    inner-mean: at first the mean without the least and the largest value, then the mean."""
    deviation: Deviation | None = None
    """Measure of spread: 1.4826 times the median absolute deviation, the standard deviation, or the
    root mean square deviation from the centre."""
    ddof: int | None = None
    """Degrees of freedom taken off n in ``std`` and ``rms``."""
    max_iters: int | Literal["all"] | None = None
    """Passes at most; ``all`` goes on until nothing changes."""
    nlow: int | None = None
    """Values that ``minmax`` drops at the low end."""
    nhigh: int | None = None
    """Values that ``minmax`` drops at the high end."""
    nkeep: int | None = None
    """Values that a rule must leave; a pass that would leave fewer is not done."""
    pclip: float | None = None
    """Rank by which ``pclip`` measures the spread: values from the median, or a fraction of half
    their number where it is below 1; negative: below the median."""
    fraction: float | None = None
    """Largest fraction of the values that ``gesd`` may reject."""
    alpha: float | None = None
    """Significance of the test of ``gesd``."""
    snoise: float | None = None
    """Sensitivity noise of ``ccd``: a fraction of the signal."""
    mad_correction: bool | None = None
    """Correct the median absolute deviation for its bias at few values."""
    grow: float | None = None
    """Values within this distance (pixels) of a rejected one, in the same frame, go with it."""


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


Estimator = Literal["mean", "median", "lmedian", "sum", "weighted", "min", "max", "trimmed"]


@dataclass(frozen=True, slots=True)
class Recipe:
    """How the frames of one product become its pixels."""

    rejection: Rejection = field(default_factory=Rejection)
    """What is left out."""
    estimator: Estimator = "mean"
    """What is made of the values that are kept; lmedian: the lower of the two middle ones."""
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
    trim: float = 0.2
    """Fraction of the kept values that the estimator ``trimmed`` leaves out at each end."""
    weighting: Literal["frames", "variance"] = "frames"
    """What ``weighted`` weighs by: a number for each frame, or the inverse variance of each value
    from gain, read noise and input uncertainties."""


@dataclass(frozen=True, slots=True)
class Adjustment:
    """How frames are brought to one level before rejection, and how much each counts after it.

    scale, zero and weight are a word of `masterframe.scaling`, ``!KEYWORD``, or a number for each
    frame, in their order.
    """

    scale: str | tuple[float, ...] = "none"
    """Factor of each frame."""
    zero: str | tuple[float, ...] = "none"
    """Summand of each frame, after the factor."""
    weight: str | tuple[float, ...] = "none"
    """Weight of each frame in the weighted mean."""
    section: Section | None = None
    """Part of the trimmed image on which frames are measured; None is all of it."""


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
    name: str = ""
    """Name of the stanza."""
    select: tuple[Selection, ...] = ()
    """Takes only exposures that fit any of these; empty takes all of its kind."""
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
    adjust: Adjustment = field(default_factory=Adjustment)
    """How frames are brought to one level, and how much each counts."""
    normalize: bool = False
    """Divide the master by the median of its good pixels (flat)."""
    flat_minimum: float = 0.2
    """Normalised pixels below this are masked and divide by 1 (flat)."""
    hot_sigma: float | None = None
    """Pixels this many robust sigmas above the median are marked hot (dark)."""
    saturation: Literal["auto", "off"] = "auto"
    """auto: where ``recipe.saturation`` is None, `Image.saturation` holds."""
    require: tuple[Step, ...] = ()
    """Steps without which a product is not made."""


@dataclass(frozen=True, slots=True)
class Tolerances:
    """How far two exposures may differ and still belong together."""

    temperature: float = 1.0
    """Detector temperature (degrees C)."""
    exptime: float = 0.5
    """Exposure time (s) by which a dark may miss and is still used unscaled."""
    exptime_fraction: float = 0.01
    """The same as a fraction of the exposure time; the larger of the two holds."""


@dataclass(frozen=True, slots=True)
class FrameLimits:
    """From where on a raw frame is not like the others of its group."""

    action: Literal["leave-out", "flag", "off"] = "leave-out"
    """What becomes of a frame that fails: left out, or used and flagged; off tests nothing."""
    level: float = 0.25
    """Difference of its level from the others that is harmless (bias, dark; in units of the noise
    of one pixel). Beyond it counts only where chance does not explain it, or 20 times as much."""
    drift: float = 0.2
    """The same of a lamp flat, as a fraction of the level; flats of the sky are exempt."""
    gradient: float = 0.25
    """Slope across the frame that the others do not have (bias, dark: noise of one pixel)."""
    illumination: float = 0.05
    """The same of a flat, as a fraction of the level."""
    structure: float = 3.0
    """Scatter of large areas about the others, as a multiple of theirs; of flats, the dark side."""
    banding: float = 4.0
    """Scatter of rows about the others, as a multiple of theirs."""
    columns: float = 10.0
    """Deviation of one column from the others, in standard deviations of all columns."""
    noise: float = 1.25
    """Ratio of its noise to that of the others, or its inverse."""
    saturated: float = 0.05
    """Fraction of its pixels that are saturated."""


@dataclass(frozen=True, slots=True)
class MasterLimits:
    """What a master must meet to be good."""

    level: float = 1.0
    """Level of a bias above its overscan, and of a dark below zero (noise of one frame)."""
    noise: float = 1.1
    """Measured noise over that expected of gain and read noise, or of the frames' own scatter."""
    correlation: float = 2.0
    """Scatter of large areas of a frame, over that of noise without correlation."""
    rejected: float = 0.05
    """Fraction of the values that was rejected."""
    left_out: float = 0.34
    """Fraction of the frames that was left out."""
    masked: float = 0.05
    """Fraction of the pixels that is masked."""
    columns: float = 0.02
    """Fraction of the columns that stand out from their neighbours; one is worth a look."""
    rows: float = 0.02
    """The same of rows."""
    gradient: float = 5.0
    """Change of level across a bias or dark (noise of one frame)."""
    illumination: float = 0.6
    """Change of level across a flat, as a fraction."""
    scatter: float = 0.1
    """Scatter of a flat from pixel to pixel, its noise taken off."""
    photons: float = 100.0
    """Level of the frames of a flat, in units of the noise of one read or of one step."""
    saturation: float = 0.95
    """Level of the frames of a flat, as a fraction of where the detector saturates."""
    previous: float = 0.02
    """Fraction of the pixels that differs from the previous master by more than 6 sigma."""


@dataclass(frozen=True, slots=True)
class Quality:
    """What is asked of frames before they are combined, and of masters afterwards."""

    frames: FrameLimits = field(default_factory=FrameLimits)
    """Of each frame beside the others of its group."""
    masters: MasterLimits = field(default_factory=MasterLimits)
    """Of each master."""


@dataclass(frozen=True, slots=True)
class Certificates:
    """Files (PEM) with which the two ends of a connection prove who they are."""

    ca: str
    """Certificate of the authority that signed the others."""
    cert: str
    """Certificate of this end."""
    key: str
    """Its private key."""


@dataclass(frozen=True, slots=True)
class ClusterSpec:
    """Where tasks run, as a cluster's YAML file describes it."""

    cluster: str = ""
    """Class of dask-jobqueue, or ``SLURMRunner`` inside an allocation; '' for an address."""
    address: str = ""
    """A scheduler that runs already; '' where a cluster is started."""
    jobs: int = 1
    """Jobs that are kept running."""
    wait: float = 300.0
    """Seconds that the first worker may take to come."""
    tls: Certificates | Literal["off", "made"] = "off"
    """Encrypted connections: none, with certificates made for the run, or with those given."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """What the class is called with."""
    source: str = ""
    """The file that was read."""


@dataclass(frozen=True, slots=True)
class Config:
    """A checked configuration: how the files of a night are read, sorted and made into products."""

    instruments: tuple[Instrument, ...]
    """Cameras that a file may be from; the first that matches its header holds."""
    recipes: Mapping[str, ProductRecipe]
    """Stanzas by name; an exposure goes to the first of its kind that selects it."""
    types: tuple[TypeRule, ...] = ()
    """Rules that go before those of the instrument."""
    select: tuple[Selection, ...] = ()
    """Only exposures that fit any of these are used; empty uses all."""
    exclude: tuple[Selection, ...] = ()
    """Exposures that fit any of these are not used."""
    detector: Detector = field(default_factory=Detector)
    """Numbers and sections that go before those of the header."""
    bad_pixels: str = ""
    """FITS file whose non-zero pixels are left out; '' for none."""
    verify_checksums: Verify = "auto"
    """Which check sums of the frames are verified."""
    tolerances: Tolerances = field(default_factory=Tolerances)
    """How far two exposures may differ and still belong together."""
    quality: Quality = field(default_factory=Quality)
    """What is asked of frames and masters."""
    nights: Literal["apart", "pooled"] = "apart"
    """Whether exposures of different nights go into one product."""
    report: bool = True
    """Whether a run ends with a report."""
    output: str = ""
    """Folder that the products go to; '' where it is not given here."""
    memory: int | None = None
    """Memory (bytes) that a run may take; None is left to the program."""
    workers: int | None = None
    """Workers of a local scheduler; None for one a core."""
    scheduler: str = "threads"
    """threads, processes, an address, or a cluster's YAML file."""
    source: str = ""
    """The file that was read; '' for the defaults."""


@dataclass(frozen=True, slots=True)
class Association:
    """A master that a product takes, and why this one; fields as in `Calibration`."""

    role: Literal["bias", "dark", "flat"]
    """What it is taken for."""
    product: str
    """`Product.name` of the master."""
    reason: str
    """Why this one, in words."""
    ratio: tuple[float, ...] = ()
    """Dark time of each frame over the master's; empty for 1."""
    holds_bias: bool = False
    """True for a dark from which no bias was taken: it is subtracted instead of a bias."""


@dataclass(frozen=True, slots=True)
class Product:
    """One file to be made: a master of N exposures, or one calibrated science frame."""

    name: str
    """Name in the plan: the output without its suffix."""
    recipe: ProductRecipe
    """The stanza that it is made by."""
    exposures: tuple[Exposure, ...]
    """What goes in, sorted by date and path."""
    output: str
    """Path of the file below the output folder, with ``/``."""
    group: tuple[tuple[str, Scalar], ...] = ()
    """What the exposures have in common, by field."""
    uses: tuple[Association, ...] = ()
    """The masters that it takes."""
    dark_time: float | None = None
    """Time over which its dark current was collected (s); the median of its frames."""
    reason: str = ""
    """Why these exposures belong together, in words."""
    notes: tuple[str, ...] = ()
    """What is missing for it, and what an observer should know."""
    blocked: str = ""
    """Why it cannot be made; '' where it can."""

    @property
    def kind(self) -> Kind:
        """Kind of the exposures that go in."""
        return self.recipe.kind

    def using(self, role: str) -> Association | None:
        """Return the master taken as bias, dark or flat; None where there is none."""
        return next((use for use in self.uses if use.role == role), None)


@dataclass(frozen=True, slots=True)
class Plan:
    """What will be made of a night, in an order in which it can be made."""

    products: tuple[Product, ...]
    """Products, each after the masters that it takes."""
    left_out: tuple[Problem, ...] = ()
    """Exposures that go into no product, with the reason."""
    problems: tuple[Problem, ...] = ()
    """Files that could not be used as an exposure, with the reason."""
    notes: tuple[str, ...] = ()
    """What is missing for what."""

    def as_dict(self) -> dict[str, Any]:
        """Return the plan in the types of JSON."""
        return {
            "products": [_product_dict(product) for product in self.products],
            "left_out": [asdict(problem) for problem in self.left_out],
            "problems": [asdict(problem) for problem in self.problems],
            "notes": list(self.notes),
        }


def _product_dict(product: Product) -> dict[str, Any]:
    """Return a product in the types of JSON; its exposures by path."""
    return {
        "name": product.name,
        "kind": product.kind,
        "recipe": asdict(product.recipe),
        "output": product.output,
        "group": dict(product.group),
        "inputs": [
            {"path": item.path, "certain": item.certain, "rule": item.rule, "notes": item.notes}
            for item in product.exposures
        ],
        "uses": [asdict(use) for use in product.uses],
        "dark_time": product.dark_time,
        "reason": product.reason,
        "notes": list(product.notes),
        "blocked": product.blocked,
    }


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
    """What one task makes of one cell: its pixels, and the numbers of its frames.

    A cell is a band of whole rows, or a part of one row.
    """

    row0: int
    """First row of the cell in the combined image."""
    column0: int
    """First column of the cell."""
    planes: Mapping[str, NDArray[Any]]
    """Arrays of shape (rows, columns) by name: data, uncert, mask, count and the optional ones."""
    frames: FrameCounts
    """Counts per frame."""
    frame_sums: NDArray[np.float64]
    """Sums of (value - combined) and of its square over the kept values, shape (rows, parts,
    N, 2): over the columns of each part of a row (`masterframe.tiling.PART`)."""
    half_sums: NDArray[np.float64]
    """n, sum and sum of squares of half the difference between the means of the even and the odd
    frames, shape (rows, parts, 3); the noise of the result free of what all frames share."""
    datasum: NDArray[np.uint64]
    """Ones'-complement partial DATASUM of the bytes read, per frame, shape (N,)."""
