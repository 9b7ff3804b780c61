"""What may stand in a configuration and in an instrument's YAML: names, types, defaults.

One class a mapping. `json_schema` of the package publishes `ConfigModel` for editors, so each
field says what it is for.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
)

from masterframe.model import Center, Deviation, Estimator, Kind, Light, Step, Verify

MasterKind = Literal["bias", "dark", "flat", "science"]
Pattern = bool | int | FiniteFloat | str | None


def _listed(value: Any) -> Any:
    """Return one thing as a list of one."""
    return value if isinstance(value, list) else [value]


def _condition(value: Any) -> Any:
    """Return a lone path pattern as the selection that it stands for."""
    return {"path": value} if isinstance(value, str) else value


Patterns = Annotated[list[Pattern], BeforeValidator(_listed, json_schema_input_type=Any)]
When = dict[str, Patterns]
SelectionModel = Annotated[When, BeforeValidator(_condition, json_schema_input_type=Any)]
Selections = Annotated[
    list[SelectionModel], BeforeValidator(_listed, json_schema_input_type=Any), Field(default=[])
]
Off = Literal["off"]


class Model(BaseModel):
    """A mapping in which only the fields may stand, each of exactly its type."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class TypeRuleModel(Model):
    """A rule that types exposures."""

    kind: Kind
    when: SelectionModel
    certain: bool = True
    technique: str = ""
    light: Light = ""


class DetectorModel(Model):
    """What is known of the detector."""

    gain: PositiveFloat | None = Field(default=None, description="electrons per adu")
    read_noise: NonNegativeFloat | None = Field(default=None, description="electrons")
    saturation: FiniteFloat | None = Field(
        default=None, description="raw adu from which it saturates"
    )
    overscan: str = Field(default="", description="[x0:x1,y0:y1] as FITS counts")
    trim: str = Field(default="", description="[x0:x1,y0:y1] as FITS counts")


class TolerancesModel(Model):
    """How far two exposures may differ and still belong together."""

    temperature: NonNegativeFloat = Field(default=1.0, description="degrees C")
    exptime: NonNegativeFloat = Field(default=0.5, description="seconds")
    exptime_fraction: NonNegativeFloat = Field(default=0.01, description="of the exposure time")


class ResourcesModel(Model):
    """What a run may take."""

    memory: str | PositiveInt | None = Field(default=None, description="bytes, or 2GB")
    workers: PositiveInt | None = None
    scheduler: str = Field(
        default="threads", description="threads, processes, an address, or a YAML file"
    )


class StanzaModel(Model):
    """How products of one kind are made."""

    kind: MasterKind | None = Field(default=None, description="needed where the name is not a kind")
    select: Selections
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
    combine: Estimator = "mean"
    trim: Annotated[FiniteFloat, Field(ge=0, lt=0.5)] = Field(
        default=0.2, description="fraction that trimmed leaves out at each end"
    )
    noise_floor: NonNegativeFloat | Literal["auto"] | None = Field(
        default=None,
        description="least sigma that is believed; auto, for IRAF's and Siril's names 0",
    )
    saturation: FiniteFloat | Literal["auto", "off"] = "auto"
    min_kept: PositiveInt = 1
    dtype: Literal["float32", "float64"] = "float32"
    planes: list[Literal["rejlow", "rejhigh", "exposure", "propagated"]] = []
    subtract_overscan: bool = True
    subtract_bias: bool = True
    subtract_dark: bool = True
    divide_flat: bool = True
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
    normalize: bool = False
    flat_minimum: NonNegativeFloat = 0.2
    hot_sigma: PositiveFloat | Off = "off"
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

    instrument: Annotated[list[str], BeforeValidator(_listed, json_schema_input_type=Any)] = Field(
        default=["auto"], description="a shipped preset, a YAML file, auto, or a list of these"
    )
    types: list[TypeRuleModel] = Field(
        default=[], description="rules that go before the instrument's"
    )
    select: Selections
    exclude: Selections
    detector: DetectorModel = DetectorModel()
    bad_pixels: str = Field(default="", description="FITS file whose non-zero pixels are left out")
    verify_checksums: Verify = Field(
        default="auto",
        description="auto: DATASUM of the pixels that are read; always: all sums, in the scan",
    )
    tolerances: TolerancesModel = TolerancesModel()
    nights: Literal["apart", "pooled"] = "apart"
    recipes: dict[str, StanzaModel | None] = Field(
        default={},
        description="stanzas by name; a kind that none names has its default; null is none",
    )
    output: str = Field(default="", description="folder that the products go to")
    resources: ResourcesModel = ResourcesModel()


class KeywordModel(Model):
    """A header keyword with its unit."""

    key: str
    factor: FiniteFloat = 1.0
    offset: FiniteFloat = 0.0


def _keyword(value: Any) -> Any:
    """Return a lone keyword as the mapping that it stands for."""
    return {"key": value} if isinstance(value, str) else value


KeywordList = Annotated[
    list[Annotated[KeywordModel, BeforeValidator(_keyword)]], BeforeValidator(_listed)
]
HeaderField = Literal[
    "imagetyp",
    "hint",
    "exptime",
    "dark_time",
    "filter",
    "object",
    "date_obs",
    "time_obs",
    "mjd",
    "jd",
    "temperature",
    "instrument",
    "binning",
    "binning_x",
    "binning_y",
    "gain",
    "read_noise",
    "saturation",
    "overscan",
    "trim",
]


class SectionRuleModel(Model):
    """Sections that hold for one way of reading the detector."""

    when: SelectionModel
    overscan: str = ""
    trim: str = ""


class AppliedModel(Model):
    """A step that the camera's software may have done."""

    step: Step
    when: SelectionModel
    series: bool = False


class InstrumentModel(Model):
    """One camera."""

    base: str = Field(default="", description="a shipped preset whose rules come after these")
    match: Selections
    keywords: dict[HeaderField, KeywordList] = {}
    setup: dict[str, KeywordList] = {}
    optics: dict[str, KeywordList] = {}
    label: list[str] = []
    kinds: list[TypeRuleModel] = []
    sections: list[SectionRuleModel] = []
    applied: list[AppliedModel] = []
    processed: Selections
    detector: DetectorModel = DetectorModel()
    hdu: list[str | int] = []
    notes: str = ""
