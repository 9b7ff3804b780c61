"""What may stand in the YAML of an instrument: names, types, defaults. One class a mapping."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, FiniteFloat

from masterframe.config.mappings import (
    AmplifierModel,
    DetectorModel,
    Model,
    SelectionModel,
    Selections,
    TypeRuleModel,
    listed,
)
from masterframe.model import Step


class KeywordModel(Model):
    """A header keyword with its unit."""

    key: str
    factor: FiniteFloat = 1.0
    offset: FiniteFloat = 0.0


def _keyword(value: Any) -> Any:
    """Return a lone keyword as the mapping that it stands for."""
    return {"key": value} if isinstance(value, str) else value


KeywordList = Annotated[
    list[Annotated[KeywordModel, BeforeValidator(_keyword)]], BeforeValidator(listed)
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
    amplifiers: list[AmplifierModel] = Field(
        default=[], description="where several read an image, in the place of overscan and trim"
    )
    bad: list[str] = Field(default=[], description="pixels that are always bad")


class AmplifierKeywordsModel(Model):
    """Keywords of amplifiers that read one image, without their endings."""

    endings: list[str] = Field(default=[], description="that the keywords have, as 11, 12, 21")
    data: list[str] = Field(default=[], description="of the section that one reads")
    overscan: list[str] = Field(default=[], description="of its overscan")
    gain: list[str] = Field(default=[], description="of its gain")
    read_noise: list[str] = Field(default=[], description="of its read noise")


class AppliedModel(Model):
    """A step that the camera's software may have done."""

    step: Step
    when: SelectionModel
    series: bool = False


class InstrumentModel(Model):
    """One camera."""

    base: str = Field(default="", description="a shipped preset whose rules come after these")
    match: Selections = Field(default=[], description="headers that are of this camera")
    keywords: dict[HeaderField, KeywordList] = Field(
        default={}, description="where each field stands; the first keyword that is there"
    )
    setup: dict[str, KeywordList] = Field(
        default={}, description="what frames that are combined must have alike"
    )
    optics: dict[str, KeywordList] = Field(default={}, description="the same of frames with light")
    label: list[str] = Field(default=[], description="of the setup, what names of products tell")
    kinds: list[TypeRuleModel] = Field(
        default=[], description="rules that type exposures; the first that fits"
    )
    sections: list[SectionRuleModel] = Field(
        default=[], description="sections that headers do not tell; the first that fits"
    )
    amplifiers: AmplifierKeywordsModel = Field(
        default=AmplifierKeywordsModel(), description="keywords of amplifiers that share an image"
    )
    applied: list[AppliedModel] = Field(
        default=[], description="how a header says that a step was done"
    )
    processed: Selections = Field(default=[], description="files that are not raw")
    detector: DetectorModel = Field(
        default=DetectorModel(), description="what headers lack or have wrong"
    )
    hdu: list[str | int] = Field(default=[], description="extensions that hold the images")
    notes: str = Field(default="", description="for whoever reads the preset")
