"""Images on disk: where their pixels are, and what is known of the detector behind them."""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

Scalar = str | int | float | bool | None
Header = Mapping[str, Scalar]
"""Header values by keyword, upper case; ``HIERARCH ESO DET ID`` is keyed ``ESO DET ID``."""


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


_SECTION = re.compile(r"\[\s*(\d+)\s*:\s*(\d+)\s*,\s*(\d+)\s*:\s*(\d+)\s*\]")


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

    @classmethod
    def spanning(cls, parts: Sequence[Section]) -> Section:
        """Return the smallest section that holds all of some."""
        return cls(
            min(part.y0 for part in parts),
            max(part.y1 for part in parts),
            min(part.x0 for part in parts),
            max(part.x1 for part in parts),
        )

    def within(self, other: Section) -> Section:
        """Return the part of it that lies in another one, counted from there; it may be empty."""
        y0, x0 = max(self.y0, other.y0), max(self.x0, other.x0)
        y1, x1 = max(y0, min(self.y1, other.y1)), max(x0, min(self.x1, other.x1))
        return Section(y0 - other.y0, y1 - other.y0, x0 - other.x0, x1 - other.x0)

    def of(self, other: Section) -> Section:
        """Return it as it is counted where another one is, from which it counts itself."""
        return Section(
            self.y0 + other.y0, self.y1 + other.y0, self.x0 + other.x0, self.x1 + other.x0
        )

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
class Amplifier:
    """What one of several outputs reads of an image."""

    data: Section
    """Raw pixels of it that are kept."""
    overscan: Section | None = None
    """Raw columns or rows of it that saw no light."""
    gain: float | None = None
    """Electrons per adu; None where it is not known."""
    read_noise: float | None = None
    """Noise of one read (electrons); None where it is not known."""

    @property
    def by_columns(self) -> bool:
        """Whether its overscan has a level for each column, not for each row."""
        return serves_columns(self.overscan, self.data)


class Window(NamedTuple):
    """What of the detector an image holds after trimming."""

    section: Section
    """Its pixels on the detector, binned as the image is."""
    flips: tuple[bool, bool] = (False, False)
    """Whether rows, and columns, of the image run backwards there."""
    phase: tuple[int, int] | None = None
    """Rows and columns of the detector before those of the first binned pixel; None where an origin
    tells the window, which may count from elsewhere than the sections of a header do."""


@dataclass(frozen=True, slots=True)
class Image:
    """One image of an exposure with what its header says of the detector behind it."""

    frame: Frame
    """Where its pixels are."""
    header: Header
    """Cards of its HDU (over those of the primary, where it is an extension)."""
    overscan: Section | None = None
    """Columns beside the data, or rows above or below them, that saw no light."""
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
    amplifiers: tuple[Amplifier, ...] = ()
    """Where several outputs read it, each of them: `overscan` is None then, `trim` spans what they
    keep, and gain and read noise are typical ones."""
    bad: tuple[Section, ...] = ()
    """Parts whose pixels are always bad."""
    unit: str = "adu"
    """Unit of its pixels: adu, or electron where their gain has been applied."""
    setup: tuple[tuple[str, Scalar], ...] = ()
    """What its own cards tell of the set-up, where it is one of several images."""
    window: Window | None = None
    """Where it lies on the detector, as its sections tell; None: they do not."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns after trimming."""
        return kept_shape(self.frame.shape, self.trim, self.amplifiers)

    @property
    def overscans(self) -> tuple[Section, ...]:
        """The overscan, or that of each amplifier."""
        return all_overscans(self.overscan, self.amplifiers)


def kept_shape(
    shape: tuple[int, int], trim: Section | None, amplifiers: tuple[Amplifier, ...]
) -> tuple[int, int]:
    """Return rows and columns of what is kept of a raw image; amplifiers may lie apart."""
    if trim is None:
        return shape
    columns = {(one.data.x0, one.data.x1) for one in amplifiers}
    return trim.shape[0], sum(x1 - x0 for x0, x1 in columns) or trim.shape[1]


def serves_columns(overscan: Section | None, data: Section | None) -> bool:
    """Return whether an overscan spans all columns of the data: above or below them, not beside."""
    return bool(overscan and data and overscan.x0 <= data.x0 and data.x1 <= overscan.x1)


def all_overscans(
    overscan: Section | None, amplifiers: tuple[Amplifier, ...]
) -> tuple[Section, ...]:
    """Return the overscan of an image, or that of each of its amplifiers."""
    found = (overscan, *(one.overscan for one in amplifiers))
    return tuple(section for section in found if section is not None)
