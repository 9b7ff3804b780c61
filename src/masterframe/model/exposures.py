"""Exposures: what a night holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from masterframe.model.frames import Header, Image, Scalar
from masterframe.model.instruments import Kind, Light, Step

_CELL_CARDS = ("BAYERPAT", "CFAPAT", "CFA")
"""Cards that name the filters before the pixels of a Bayer sensor."""


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

    def image_name(self, index: int) -> str:
        """Return the name of an image in products that are made of it; '' of the only one."""
        return "" if len(self.images) == 1 else self.images[index].frame.name

    @property
    def cell(self) -> int:
        """Rows and columns of the cell of filters before its pixels: 2 of a Bayer sensor, else 1.

        Binning mixes the filters.
        """
        cards = [{**self.header, **image.header} for image in self.images]
        told = any(str(c.get(key) or "").strip() for c in cards for key in _CELL_CARDS)
        return 2 if told and self.binning == (1, 1) else 1


@dataclass(frozen=True, slots=True)
class Problem:
    """A file that was left out, or that no rule could type, with the reason."""

    path: str
    """The file."""
    reason: str
    """What is wrong or missing, in words for an observer."""


MasterRole = Literal["bias", "dark", "flat"]


@dataclass(frozen=True, slots=True)
class StoredMaster:
    """A master that is there already, in a library."""

    exposure: Exposure
    """Its header and images, as if it were one exposure."""
    role: MasterRole
    """What it can be taken for."""
    holds_bias: bool = False
    """True for a dark from which no bias was taken, as far as its cards tell."""
    overscan_taken: bool = False
    """Whether an overscan was taken off its frames, as far as its cards tell."""
    unfit: str = ""
    """Why it cannot be used; '' where it can."""
