"""What a simulated night holds: a camera, how many frames of each kind, and what goes wrong."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Literal, NamedTuple

from masterframe.errors import UsageError
from masterframe.model import Kind


class Defect(NamedTuple):
    """One way in which a file of a night is no use."""

    kind: Kind
    """The kind of frame that it befalls."""
    summary: str
    """What is wrong with the file, in words for an observer."""


DEFECTS: Mapping[str, Defect] = {
    "truncated": Defect("science", "the file ends after 40 % of its pixels"),
    "wrong_shape": Defect("bias", "a quarter of the rows was not read"),
    "shutter_closed": Defect("flat", "no light reached the detector"),
    "saturated": Defect("flat", "the lamp drove every pixel to the end of the scale"),
    "light_leak": Defect("bias", "light fell into a corner of the detector"),
    "wrong_filter": Defect("flat", "FILTER names another filter than the one in the beam"),
    "no_imagetyp": Defect("dark", "the header lacks IMAGETYP"),
    "not_fits": Defect("other", "a text file with the name of a FITS file"),
    "duplicate": Defect("bias", "a copy of the first bias under another name"),
}
"""The defects that a night can have, by name; the file of each comes on top of the good frames."""


_CAMERA_AMOUNTS = (
    *("overscan", "bias_level", "bias_columns", "bias_pixels", "bias_ripple", "row_drift"),
    *("read_noise", "dark_current", "dark_spread", "glow", "response_spread", "dust"),
)


_CAMERA_FRACTIONS = {
    "hot_fraction": 0.05,
    "dead_fraction": 0.05,
    "vignetting": 0.5,
    "amplifier_spread": 0.5,
}
"""The largest that is allowed."""


@dataclass(frozen=True, slots=True)
class Camera:
    """A camera of one or several CCDs, each read through one or several amplifiers.

    Raises
    ------
    UsageError
        If a value is impossible.
    """

    shape: tuple[int, int] = (1024, 1024)
    """Rows and columns of a CCD that see light."""
    overscan: int = 32
    """Columns that each amplifier reads after the last one of a row; 0 reads none."""
    extensions: int = 1
    """CCDs, side by side; several are written as extensions CCD1, CCD2, ... of one file."""
    amplifiers: int = 1
    """Amplifiers of a CCD, each with as many of its columns; those that are left go to the last."""
    amplifier_spread: float = 0.15
    """Largest fraction by which gain, read noise and bias level differ from CCD to CCD, and from
    amplifier to amplifier, where there are several."""
    bias_level: float = 1000.0
    """Level of the overscan (adu)."""
    bias_columns: float = 2.0
    """Spread of the bias from column to column (adu)."""
    bias_pixels: float = 0.5
    """Spread of the bias from pixel to pixel (adu)."""
    bias_ripple: float = 3.0
    """Amplitude of a smooth wave in the bias (adu)."""
    row_drift: float = 2.0
    """Spread of the level within and between frames, the same in all columns of a row (adu)."""
    gain: float = 1.5
    """Electrons per adu."""
    read_noise: float = 6.0
    """Noise of one read (electrons)."""
    full_well: float = 100_000.0
    """Most electrons that a pixel holds."""
    dark_current: float = 0.02
    """Median dark current of the pixels that are not hot (electrons/s)."""
    dark_spread: float = 0.2
    """Spread of the logarithm of the dark current from pixel to pixel."""
    glow: float = 0.05
    """Dark current that the amplifier adds in its corner (electrons/s)."""
    hot_fraction: float = 5e-4
    """Fraction of pixels that are hot."""
    hot_rate: tuple[float, float] = (2.0, 100.0)
    """Least and largest dark current that a hot pixel has on top (electrons/s)."""
    dead_fraction: float = 2e-5
    """Fraction of pixels that see one twentieth of the light."""
    response_spread: float = 0.01
    """Spread of the sensitivity from pixel to pixel."""
    vignetting: float = 0.2
    """Fraction of the light that is lost in the corners."""
    dust: int = 12
    """Grains of dust whose shadow is seen through each filter."""
    temperature: float = -20.0
    """Set point of the detector (degrees C)."""
    name: str = "SimCam 1"
    """INSTRUME of the headers."""

    def __post_init__(self) -> None:
        """Refuse what no camera has."""
        for axis, size in zip(("rows", "columns"), self.shape, strict=True):
            _require(size >= 16, f"a camera of {size} {axis}: give at least 16")
        for name, most in (("extensions", 200), ("amplifiers", 8)):
            number = getattr(self, name)
            _require(1 <= number <= most, f"{name} = {number}: give 1 to {most}")
        for name in ("gain", "full_well"):
            _require_positive(name, getattr(self, name))
        for name in _CAMERA_AMOUNTS:
            _require_amount(name, getattr(self, name))
        for name, highest in _CAMERA_FRACTIONS.items():
            value = getattr(self, name)
            _require(0 <= value <= highest, f"{name} = {value}: give 0 to {highest}")
        _require_range("hot_rate", self.hot_rate)

    @property
    def raw_shape(self) -> tuple[int, int]:
        """Rows and columns of a raw image of a CCD, overscan and all."""
        return self.shape[0], self.shape[1] + self.amplifiers * self.overscan

    @property
    def saturation(self) -> int:
        """Raw value (adu) at which the scale ends, or the well of any pixel is all but full."""
        return min(65535, int(self.bias_level + 0.97 * self.full_well / self.gain))


@dataclass(frozen=True, slots=True)
class NightSpec:
    """The frames of a night, and what is in them.

    Raises
    ------
    UsageError
        If a value is impossible, or a defect befalls a kind of frame that the night lacks.
    """

    camera: Camera = field(default_factory=Camera)
    """The camera."""
    bias: int = 20
    """Bias frames."""
    darks: Mapping[float, int] = field(default_factory=lambda: {120.0: 10})
    """Dark frames by exposure time (s)."""
    flats: Mapping[str, int] = field(default_factory=lambda: {"V": 10})
    """Flat frames by filter."""
    science: Mapping[str, int] = field(default_factory=lambda: {"V": 5})
    """Science frames by filter."""
    flat_exptime: float = 5.0
    """Exposure time of the flats (s)."""
    flat_level: float = 25_000.0
    """Level of the flats above bias where the sensitivity is 1 (adu)."""
    flat_light: Literal["lamp", "twilight"] = "lamp"
    """A lamp drifts by a few per cent; twilight fades from 1.6 to 0.5 times the level."""
    exptime: float = 120.0
    """Exposure time of the science frames (s)."""
    sky: float = 4.0
    """Light of the sky (electrons/s in a pixel of sensitivity 1)."""
    stars: int = 200
    """Stars in the field, the same in all science frames."""
    star_flux: tuple[float, float] = (5.0, 10_000.0)
    """Faintest and brightest star (electrons/s); as many in each decade."""
    fwhm: float = 3.0
    """Width of the stars (pixels)."""
    dither: float = 8.0
    """Largest shift of the field from frame to frame, along either axis (pixels)."""
    cosmic_rate: float = 0.1
    """Cosmic rays per second and million pixels."""
    trails: bool = True
    """Whether a satellite crosses one science frame and one flat of the first filter."""
    defects: tuple[str, ...] = ()
    """Names from `DEFECTS`; each adds one file that is no use."""
    target: str = "NGC 6819"
    """OBJECT of the science frames."""
    start: str = "2026-06-20T18:00:00"
    """Start of the first frame, ISO 8601 in UTC."""
    seed: int = 1
    """All randomness follows from this."""

    def __post_init__(self) -> None:
        """Refuse what no night has."""
        for kind in ("bias", "darks", "flats", "science"):
            counts = getattr(self, kind)
            for count in counts.values() if isinstance(counts, Mapping) else [counts]:
                _require(count >= 0, f"{count} frames in {kind}: give 0 or more")
        for name in ("flat_exptime", "flat_level", "exptime", "fwhm"):
            _require_positive(name, getattr(self, name))
        for exptime in self.darks:
            _require_positive("exposure time of a dark", exptime)
        for name in ("sky", "stars", "dither", "cosmic_rate", "seed"):
            _require_amount(name, getattr(self, name))
        _require_range("star_flux", self.star_flux)
        light = self.flat_light
        _require(light in ("lamp", "twilight"), f"flat_light = {light!r}: give lamp or twilight")
        for text in (*self.filters, self.target, self.camera.name):
            _require(_is_name(text), f"the name {text!r}: give 1 to 40 ASCII characters, no '/'")
        _require(_is_time(self.start), f"start = {self.start!r}: give it as 2026-06-20T18:00:00")
        for name in self.defects:
            self._check_defect(name)

    def _check_defect(self, name: str) -> None:
        _require(name in DEFECTS, f"unknown defect {name!r}: choose from {', '.join(DEFECTS)}")
        kind = DEFECTS[name].kind
        _require(
            kind == "other" or self.count(kind) > 0,
            f"defect {name!r} needs a {kind} frame, and the night has none: leave it out",
        )

    def count(self, kind: str) -> int:
        """Return how many good frames of a kind the night has."""
        counts = {
            "bias": self.bias,
            "dark": sum(self.darks.values()),
            "flat": sum(self.flats.values()),
            "science": sum(self.science.values()),
        }
        return counts.get(kind, 0)

    @property
    def filters(self) -> tuple[str, ...]:
        """All filters of the night, in the order of first use."""
        used = {**self.flats, **self.science}
        return tuple(used)

    def to_json(self) -> dict[str, Any]:
        """Return the specification as plain values that JSON can hold."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> NightSpec:
        """Return the specification that `to_json` gave."""
        camera = {**values["camera"]}
        for name in ("shape", "hot_rate"):
            camera[name] = tuple(camera[name])
        return cls(
            **{
                **values,
                "camera": Camera(**camera),
                "darks": {float(exptime): count for exptime, count in values["darks"].items()},
                "star_flux": tuple(values["star_flux"]),
                "defects": tuple(values["defects"]),
            }
        )


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise UsageError(f"simulated night: {otherwise}")


def _require_positive(name: str, value: float) -> None:
    _require(0 < value < math.inf, f"{name} = {value}: give a number above 0")


def _require_amount(name: str, value: float) -> None:
    _require(0 <= value < math.inf, f"{name} = {value}: give 0 or more")


def _require_range(name: str, ends: tuple[float, float]) -> None:
    low, high = ends
    _require(0 < low <= high < math.inf, f"{name} = {low} to {high}: give 0 < least <= largest")


def _is_name(text: str) -> bool:
    """Tell whether a text can stand in a header and in the name of a file."""
    return 0 < len(text) <= 40 and text.isascii() and text.isprintable() and "/" not in text


def _is_time(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True
