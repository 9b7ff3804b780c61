"""Recipes: how frames are combined, and what is done to them before and after."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from masterframe.model.frames import Section
from masterframe.model.instruments import Kind, Selection, Step

ALGORITHM_VERSION = 3
"""Raised only when a change alters the bits of a result; part of every product's token."""

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
class OverscanModel:
    """How the level of each row, or column, follows from the overscan."""

    method: Literal["median", "mean", "legendre", "chebyshev", "spline"] = "median"
    """Median or clipped mean of each row (column), or a curve through the medians of all."""
    order: int = 1
    """Degree of a polynomial, or cubic pieces of a spline."""
    low: float = 3.0
    """What is lower by more than this many standard deviations is left out (not of a median)."""
    high: float = 3.0
    """The same of what is higher."""
    iterations: int = 1
    """Times that this is done at most."""

    @property
    def is_curve(self) -> bool:
        """Whether the level of a row depends on other rows."""
        return self.method in ("legendre", "chebyshev", "spline")


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
    """Take the overscan's level off and trim, where the sections are known."""
    overscan: OverscanModel = field(default_factory=OverscanModel)
    """How that level is found."""
    adjust: Adjustment = field(default_factory=Adjustment)
    """How frames are brought to one level, and how much each counts."""
    normalize: bool | Literal["together"] = False
    """Divide each image of the master by the median of its good pixels (flat); together: all images
    by the median of those of all, and frames are scaled alike in all images."""
    flat_minimum: float = 0.2
    """Normalised pixels below this are masked and divide by 1 (flat)."""
    hot_sigma: float | None = None
    """Pixels this many robust sigmas above the median are marked hot (dark)."""
    assemble: bool = False
    """Make one image of all amplifiers and extensions, as they lie on the detector (science)."""
    saturation: Literal["auto", "off"] = "auto"
    """auto: where ``recipe.saturation`` is None, `Image.saturation` holds."""
    require: tuple[Step, ...] = ()
    """Steps without which a product is not made."""
