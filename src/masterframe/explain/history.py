"""What a history holds: of each frame, of each pass, of the planes, and all together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from masterframe import pixelplot
from masterframe.model import MaskBit, Recipe

Fate = Literal["kept", "low", "high", "missing"]
FATES: tuple[Fate, ...] = ("kept", "low", "high", "missing")
"""What may become of a value, by the codes of `kernels.pixel_history`."""
KEPT, LOW, HIGH, MISSING = range(4)


@dataclass(frozen=True, slots=True)
class PixelFrame:
    """What one frame gave to the pixel; None where a step was not done."""

    path: str
    """Its file."""
    date_obs: str
    """Start, ISO 8601 in UTC; '' where it is not known."""
    raw: float
    """Value as stored (adu)."""
    overscan: float | None
    """Level that was subtracted (adu)."""
    bias: float | None
    """Master bias that was subtracted (adu)."""
    dark: float | None
    """Master dark before its ratio (adu)."""
    dark_ratio: float
    """Factor of the dark."""
    flat: float | None
    """Flat that divided; 1 where it is masked."""
    scale: float
    """Factor that was applied."""
    zero: float
    """Summand that was applied (combined unit)."""
    value: float
    """Calibrated value (combined unit), whatever became of it."""
    weight: float
    """Weight of the frame."""
    fate: Fate
    """kept, rejected low or high, or missing."""
    iteration: int
    """Pass that rejected it, from 1; 0 where none did."""
    reason: str
    """Why it is missing, or was rejected other than by a pass; '' else."""
    state: str = ""
    """What was found of its file; '' for a stack."""
    plane: int = 0
    """Its plane, where the file holds a cube, from 1 as FITS counts; 0 where it holds none."""


@dataclass(frozen=True, slots=True)
class Pass:
    """One pass of the rejection: by what it judged, and what it rejected."""

    center: float
    """Centre of the bounds (combined unit); NaN for a rule without one."""
    deviation: float
    """Sigma, the noise floor included; NaN for a rule without one."""
    least: float
    """Least value that was kept."""
    most: float
    """Largest value that was kept."""
    low: int
    """Values that it rejected low."""
    high: int
    """Values that it rejected high."""


@dataclass(frozen=True, slots=True)
class PixelValue:
    """What the planes of a master hold at a pixel."""

    data: float
    """The value."""
    uncert: float
    """Its standard deviation."""
    mask: int
    """`MaskBit` of the pixel."""
    count: int
    """Values kept."""
    rejlow: int | None = None
    """Values rejected low; None where there is no such plane."""
    rejhigh: int | None = None
    """Values rejected high."""

    @property
    def mask_words(self) -> tuple[str, ...]:
        """The bits of the mask by name."""
        return tuple(str(bit.name) for bit in MaskBit if bit & self.mask)


@dataclass(frozen=True, slots=True)
class PixelHistory:
    """All that led to one pixel."""

    x: int
    """Column of the combined image, 0-based."""
    y: int
    """Row of the combined image, 0-based."""
    raw_x: int
    """Column of the raw frames, 0-based; another one where they were trimmed."""
    raw_y: int
    """Row of the raw frames, 0-based."""
    unit: str
    """Unit of the combined value; '' for a flat."""
    recipe: Recipe
    """How they are combined, with all defaults."""
    frames: tuple[PixelFrame, ...]
    """The frames in their order; of a master in canonical order."""
    passes: tuple[Pass, ...]
    """The passes of the rejection."""
    combined: PixelValue
    """What the combination gives."""
    path: str = ""
    """The master; '' for a stack."""
    extension: str = ""
    """Its image."""
    norm: float | None = None
    """Level by which the combined flat was divided."""
    expected: PixelValue | None = None
    """What the master should hold: normalised, hot and insensitive pixels marked."""
    stored: PixelValue | None = None
    """What the master holds."""
    left_out: tuple[tuple[str, str], ...] = ()
    """Inputs that were found unfit, and why."""
    notes: tuple[str, ...] = ()
    """What is worth knowing."""
    problems: tuple[str, ...] = ()
    """What does not fit together; empty where the history is that of what the master holds."""

    def plot(self) -> Any:
        """Return a matplotlib figure: values against time, bounds, what was kept and rejected."""
        return pixelplot.plot_history(self)


def value_of(numbers: Mapping[Any, Any]) -> PixelValue:
    """Return numbers by plane in Python's types, which hold each of them exactly."""
    known = {field.name for field in fields(PixelValue)}
    return PixelValue(**{name: value.item() for name, value in numbers.items() if name in known})
