"""How far frames and masters may be from what is wanted of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


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
    banding: float = 3.0
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

    action: Literal["warn", "fail"] = "warn"
    """What a run makes of a master that fails a test. It is written all the same: warn says so,
    fail also ends the run with exit code 1."""
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
