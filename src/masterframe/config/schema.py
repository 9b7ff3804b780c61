"""What may stand in a configuration: names, types, defaults.

One class a mapping. `json_schema` of the package publishes `ConfigModel` for editors, so each
field says what it is for.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    FiniteFloat,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
)

from masterframe.config.mappings import (
    DetectorModel,
    Model,
    Selections,
    TypeRuleModel,
    listed,
)
from masterframe.model import Center, Deviation, Estimator, Step, Verify

MasterKind = Literal["bias", "dark", "flat", "science"]
Off = Literal["off"]


class OverscanModel(Model):
    """How the level of each row, or column, follows from the overscan."""

    method: Literal["median", "mean", "legendre", "chebyshev", "spline"] = Field(
        default="median",
        description="median or clipped mean of each row, or a curve through the medians of all",
    )
    order: Annotated[int, Field(ge=1, le=50)] = Field(
        default=1, description="degree of a polynomial, or cubic pieces of a spline"
    )
    low: PositiveFloat = Field(
        default=3.0, description="standard deviations below which is left out"
    )
    high: PositiveFloat = Field(default=3.0, description="the same above")
    iterations: NonNegativeInt = Field(default=1, description="passes at most")


class TolerancesModel(Model):
    """How far two exposures may differ and still belong together."""

    temperature: NonNegativeFloat = Field(default=1.0, description="degrees C")
    exptime: NonNegativeFloat = Field(default=0.5, description="seconds")
    exptime_fraction: NonNegativeFloat = Field(default=0.01, description="of the exposure time")


class ResourcesModel(Model):
    """What a run may take."""

    memory: str | PositiveInt | None = Field(default=None, description="bytes, or 2GB")
    workers: PositiveInt | None = Field(default=None, description="one a processor by default")
    scheduler: str = Field(
        default="threads", description="threads, processes, an address, or a YAML file"
    )


class FrameLimitsModel(Model):
    """From where on a raw frame is not like the others of its group."""

    action: Literal["leave-out", "flag", "off"] = Field(
        default="leave-out", description="what becomes of frames that fail"
    )
    level: PositiveFloat = Field(
        default=0.25, description="bias, dark: harmless difference of level (noise of a pixel)"
    )
    drift: PositiveFloat = Field(
        default=0.2, description="lamp flat: difference of level as a fraction"
    )
    gradient: PositiveFloat = Field(
        default=0.25, description="bias, dark: slope of its own across it (noise of a pixel)"
    )
    illumination: PositiveFloat = Field(
        default=0.05, description="flat: slope of its own across it as a fraction"
    )
    structure: PositiveFloat = Field(
        default=3.0, description="scatter of large areas over that of the others"
    )
    banding: PositiveFloat = Field(default=3.0, description="scatter of rows over that of others")
    columns: PositiveFloat = Field(
        default=10.0, description="deviation of one column (standard deviations of all)"
    )
    noise: Annotated[FiniteFloat, Field(gt=1)] = Field(
        default=1.25, description="ratio of its noise to that of the others, or its inverse"
    )
    saturated: PositiveFloat = Field(
        default=0.05, description="fraction of its pixels that are saturated"
    )


class MasterLimitsModel(Model):
    """What a master must meet to be good."""

    action: Literal["warn", "fail"] = Field(
        default="warn",
        description="a master that fails is written all the same; fail: the run ends with 1",
    )
    level: PositiveFloat = Field(
        default=1.0,
        description="level of a bias above its overscan, of a dark below 0 (noise of a frame)",
    )
    noise: PositiveFloat = Field(default=1.1, description="measured noise over that expected")
    correlation: PositiveFloat = Field(
        default=2.0, description="scatter of large areas over that of uncorrelated noise"
    )
    rejected: PositiveFloat = Field(default=0.05, description="fraction of values rejected")
    left_out: PositiveFloat = Field(default=0.34, description="fraction of frames left out")
    masked: PositiveFloat = Field(default=0.05, description="fraction of pixels masked")
    columns: PositiveFloat = Field(
        default=0.02, description="fraction of columns that stand out from their neighbours"
    )
    rows: PositiveFloat = Field(
        default=0.02, description="fraction of rows that stand out from their neighbours"
    )
    gradient: PositiveFloat = Field(
        default=5.0, description="bias, dark: change of level across it (noise of a frame)"
    )
    illumination: PositiveFloat = Field(
        default=0.6, description="flat: change of level across it as a fraction"
    )
    scatter: PositiveFloat = Field(default=0.1, description="flat: scatter from pixel to pixel")
    photons: PositiveFloat = Field(
        default=100.0, description="flat: least level of its frames (noise of one read, or step)"
    )
    saturation: PositiveFloat = Field(
        default=0.95, description="flat: level of its frames as a fraction of saturation"
    )
    previous: PositiveFloat = Field(
        default=0.02, description="fraction of pixels more than 6 sigma off the previous master"
    )


class QualityModel(Model):
    """What is asked of frames before they are combined, and of masters afterwards."""

    frames: FrameLimitsModel = Field(
        default=FrameLimitsModel(), description="limits of frames before they are combined"
    )
    masters: MasterLimitsModel = Field(
        default=MasterLimitsModel(), description="limits of masters when they are made"
    )


class StanzaModel(Model):
    """How products of one kind are made."""

    kind: MasterKind | None = Field(default=None, description="needed where the name is not a kind")
    select: Selections = Field(default=[], description="exposures that fit one of these go in")
    group_by: list[str] = Field(
        default=[], description="fields or keywords that split groups further"
    )
    min_frames: PositiveInt = Field(default=3, description="fewer are combined without rejection")
    reject: str = Field(
        default="sigma", description="rejection rule, or IRAF's or Siril's name of one"
    )
    low: FiniteFloat | Off | None = Field(
        default=None, description="bound below the centre, or off; the rule has a default"
    )
    high: FiniteFloat | Off | None = Field(
        default=None, description="bound above the centre, or off; the rule has a default"
    )
    center: Center | None = Field(default=None, description="centre of the bounds")
    deviation: Deviation | None = Field(default=None, description="measure of spread (sigma)")
    ddof: Literal[0, 1] | None = Field(
        default=None, description="taken off n in std and rms (sigma)"
    )
    max_iters: PositiveInt | Literal["all"] | None = Field(
        default=None, description="passes at most"
    )
    nlow: NonNegativeInt | None = Field(default=None, description="lowest values dropped (minmax)")
    nhigh: NonNegativeInt | None = Field(
        default=None, description="highest values dropped (minmax)"
    )
    nkeep: NonNegativeInt | None = Field(default=None, description="values that must be left")
    pclip: FiniteFloat | None = Field(
        default=None, description="rank from the median that measures the spread (pclip)"
    )
    fraction: PositiveFloat | None = Field(
        default=None, description="largest fraction rejected (gesd)"
    )
    alpha: PositiveFloat | None = Field(default=None, description="significance of the test (gesd)")
    snoise: NonNegativeFloat | None = Field(
        default=None, description="sensitivity noise, a fraction of the signal (ccd)"
    )
    mad_correction: bool | None = Field(
        default=None, description="correct the MAD for few values (sigma)"
    )
    grow: NonNegativeFloat | None = Field(default=None, description="radius in pixels")
    combine: Estimator = Field(default="mean", description="what is made of the values kept")
    trim: Annotated[FiniteFloat, Field(ge=0, lt=0.5)] = Field(
        default=0.2, description="fraction that trimmed leaves out at each end"
    )
    noise_floor: NonNegativeFloat | Literal["auto"] | None = Field(
        default=None,
        description="least sigma that is believed; auto, for IRAF's and Siril's names 0",
    )
    saturation: FiniteFloat | Literal["auto", "off"] = Field(
        default="auto", description="raw adu from which values are left out; auto: the detector's"
    )
    min_kept: PositiveInt = Field(default=1, description="values; with fewer a pixel is masked")
    dtype: Literal["float32", "float64"] = Field(
        default="float32", description="type of the result, and of calibrated values"
    )
    planes: list[Literal["rejlow", "rejhigh", "exposure", "propagated"]] = Field(
        default=[], description="planes beside data, uncertainty, mask and count"
    )
    subtract_overscan: bool = Field(default=True, description="the overscan's level, and trim")
    subtract_bias: bool = Field(default=True, description="where there is one that fits")
    subtract_dark: bool = Field(default=True, description="where there is one that fits")
    divide_flat: bool = Field(default=True, description="where there is one that fits")
    scale: str = Field(
        default="none",
        description="none, level, mode, median, mean, exposure, or a KEYWORD that multiplies",
    )
    zero: str = Field(
        default="none", description="none, mode, median, mean, or a KEYWORD that is added"
    )
    weight: str = Field(
        default="none",
        description="none, mode, median, mean, exposure, noise, variance, or a KEYWORD",
    )
    statsec: str = Field(
        default="", description="[x0:x1,y0:y1] of the trimmed image, where frames are measured"
    )
    normalize: bool | Literal["together"] = Field(
        default=False,
        description="divide the master by its median; together: all its images by one (flat)",
    )
    flat_minimum: NonNegativeFloat = Field(
        default=0.2, description="sensitivity below which a pixel is masked (flat)"
    )
    hot_sigma: PositiveFloat | Off = Field(
        default="off", description="noises above the median from which a pixel is hot (dark)"
    )
    assemble: bool = Field(
        default=False, description="one image of all extensions, by DETSEC or CCDSEC (science)"
    )
    require: list[Step] = Field(default=[], description="steps without which nothing is made")


DEFAULTS: dict[str, dict[str, Any]] = {
    "bias": {"kind": "bias"},
    "dark": {"kind": "dark", "hot_sigma": 20.0},
    "flat": {
        "kind": "flat",
        "select": [{"technique": ["image", None]}],
        "scale": "level",
        "normalize": True,
    },
    "science": {"kind": "science", "select": [{"technique": ["image", None]}]},
}
"""What a stanza of each kind starts from."""


class ConfigModel(Model):
    """A night's configuration."""

    instrument: Annotated[list[str], BeforeValidator(listed, json_schema_input_type=Any)] = Field(
        default=["auto"], description="a shipped preset, a YAML file, auto, or a list of these"
    )
    types: list[TypeRuleModel] = Field(
        default=[], description="rules that go before the instrument's"
    )
    select: Selections = Field(default=[], description="only exposures that fit one of these")
    exclude: Selections = Field(default=[], description="none that fits one of these")
    detector: DetectorModel = Field(
        default=DetectorModel(), description="what headers lack or have wrong"
    )
    overscan: OverscanModel = Field(
        default=OverscanModel(), description="what is made of the overscan of each row or column"
    )
    bad_pixels: str = Field(default="", description="FITS file whose non-zero pixels are left out")
    verify_checksums: Verify = Field(
        default="auto",
        description="auto: DATASUM of the pixels that are read; always: all sums, in the scan",
    )
    tolerances: TolerancesModel = Field(
        default=TolerancesModel(), description="how far frames may differ and still fit"
    )
    quality: QualityModel = Field(
        default=QualityModel(), description="limits of frames and of masters"
    )
    nights: Literal["apart", "pooled"] = Field(
        default="apart", description="pooled: frames of several folders go into one master"
    )
    recipes: dict[str, StanzaModel | None] = Field(
        default={},
        description="stanzas by name; a kind that none names has its default; null is none",
    )
    report: bool = Field(default=True, description="write OUT/report/ at the end of a run")
    library: str = Field(
        default="", description="folder of masters that are taken where a night has none"
    )
    output: str = Field(default="", description="folder that the products go to")
    resources: ResourcesModel = Field(
        default=ResourcesModel(), description="memory, workers, and where tasks run"
    )
