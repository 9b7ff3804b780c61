"""Cameras: how their files are read and typed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from masterframe.model.frames import Scalar

Kind = Literal["bias", "dark", "flat", "science", "arc", "focus", "guide", "other"]
Step = Literal["overscan", "bias", "dark", "flat"]
Light = Literal["dome", "lamp", "sky", "twilight", ""]


@dataclass(frozen=True, slots=True)
class Condition:
    """One header card or field of an exposure, and the patterns of which one must fit it."""

    key: str
    """A header keyword in upper case, or a field in lower case: see `masterframe.matching`."""
    any_of: tuple[Scalar, ...]
    """Numbers, ``>= 5``, ``1..3``, names with * and ?, each with ``!`` for not; None: absent."""


Selection = tuple[Condition, ...]
"""Conditions that must all hold; the empty one always does."""


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
class AmplifierRule:
    """One of several amplifiers that read an image, as an observer or a header gives it."""

    data: str
    """Pixels that it reads and that are kept, as FITS writes them."""
    overscan: str = ""
    """Its overscan as FITS writes it; '' for none."""
    gain: float | None = None
    """Electrons per adu."""
    read_noise: float | None = None
    """Noise of one read (electrons)."""


@dataclass(frozen=True, slots=True)
class AmplifierKeywords:
    """Keywords of amplifiers that read one image; behind each stands the ending of one of them."""

    endings: tuple[str, ...] = ()
    """Endings, in the order in which they are looked for: A, B, ..."""
    data: tuple[str, ...] = ()
    """Keywords of what is kept: TRIMSEC for TRIMSECA."""
    overscan: tuple[str, ...] = ()
    """Keywords of the overscan."""
    gain: tuple[str, ...] = ()
    """Keywords of the gain, believed where their comment tells that it is in electrons per adu."""
    read_noise: tuple[str, ...] = ()
    """Keywords of the read noise."""


@dataclass(frozen=True, slots=True)
class SectionRule:
    """Overscan and data sections that hold for one way of reading the detector."""

    when: Selection
    """What must hold."""
    overscan: str = ""
    """Overscan as FITS writes it, ``[x0:x1,y0:y1]``; '' for none."""
    trim: str = ""
    """Part that is kept, as FITS writes it; '' for all."""
    amplifiers: tuple[AmplifierRule, ...] = ()
    """Where several amplifiers read it, each, in the place of overscan and trim."""
    bad: tuple[str, ...] = ()
    """Parts whose pixels are always bad, as FITS writes them."""


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
    amplifiers: tuple[AmplifierRule, ...] = ()
    """Where several amplifiers read an image, each, in the place of overscan and trim."""
    bad: tuple[str, ...] = ()
    """Parts whose pixels are always bad, as FITS writes them."""


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
    amplifiers: AmplifierKeywords = field(default_factory=AmplifierKeywords)
    """Where the header tells of several amplifiers that read one image."""
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
