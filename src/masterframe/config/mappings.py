"""What may stand in several files: patterns that select exposures, rules that type them, detectors.

One class a mapping.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    NonNegativeFloat,
    PositiveFloat,
)

from masterframe.model import Kind, Light

Pattern = bool | int | FiniteFloat | str | None


def listed(value: Any) -> Any:
    """Return one thing as a list of one."""
    return value if isinstance(value, list) else [value]


def _condition(value: Any) -> Any:
    """Return a lone path pattern as the selection that it stands for."""
    return {"path": value} if isinstance(value, str) else value


Patterns = Annotated[list[Pattern], BeforeValidator(listed, json_schema_input_type=Any)]
When = dict[str, Patterns]
SelectionModel = Annotated[When, BeforeValidator(_condition, json_schema_input_type=Any)]
Selections = Annotated[list[SelectionModel], BeforeValidator(listed, json_schema_input_type=Any)]


class Model(BaseModel):
    """A mapping in which only the fields may stand, each of exactly its type."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class TypeRuleModel(Model):
    """A rule that types exposures."""

    kind: Kind = Field(description="what the exposures are")
    when: SelectionModel = Field(description="patterns by keyword or field, all of which must fit")
    certain: bool = Field(default=True, description="false where the rule is a guess")
    technique: str = Field(default="", description="image or spectrum, say")
    light: Light = Field(default="", description="what lit a flat")


class AmplifierModel(Model):
    """One of several amplifiers that read an image."""

    data: str = Field(description="[x0:x1,y0:y1] as FITS counts: what it reads and is kept")
    overscan: str = Field(default="", description="[x0:x1,y0:y1] as FITS counts")
    gain: PositiveFloat | None = Field(default=None, description="electrons per adu")
    read_noise: NonNegativeFloat | None = Field(default=None, description="electrons")


class DetectorModel(Model):
    """What is known of the detector."""

    gain: PositiveFloat | None = Field(default=None, description="electrons per adu")
    read_noise: NonNegativeFloat | None = Field(default=None, description="electrons")
    saturation: FiniteFloat | None = Field(
        default=None, description="raw adu from which it saturates"
    )
    overscan: str = Field(default="", description="[x0:x1,y0:y1] as FITS counts")
    trim: str = Field(default="", description="[x0:x1,y0:y1] as FITS counts")
    amplifiers: list[AmplifierModel] = Field(
        default=[], description="where several read an image, in the place of overscan and trim"
    )
    bad: list[str] = Field(
        default=[], description="[x0:x1,y0:y1] as FITS counts: pixels that are always bad"
    )
