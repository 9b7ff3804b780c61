"""What pydantic finds wrong, said so that an observer can mend it."""

from __future__ import annotations

import types
import typing
from typing import Any

from pydantic import BaseModel, ValidationError

from masterframe.config.source import Source, Where
from masterframe.errors import ConfigError
from masterframe.names import unknown


def explained(error: ValidationError, model: type[BaseModel], source: Source) -> ConfigError:
    """Return one error with a line for each wrong value, in the order of the file's keys."""
    lines: dict[Where, str] = {}
    for item in error.errors(include_url=False, include_input=True):
        where = _real(item["loc"], source)
        reason = item["msg"][:1].lower() + item["msg"][1:]
        if item["type"] == "extra_forbidden":
            where = tuple(item["loc"])
            reason = unknown("key", where[-1], _fields(model, where))
        elif where in lines:
            reason = f"{lines[where]}; or {reason}"
        else:
            reason = f"{'.'.join(map(str, where))} is {_short(item['input'])}: {reason}"
        lines[where] = reason
    return ConfigError("\n".join(f"{source.place(where)}: {text}" for where, text in lines.items()))


def _real(where: Where, source: Source) -> Where:
    """Return the part of a place that stands in the file: pydantic adds the branch of a union."""
    return next(
        (where[:end] for end in range(len(where), 0, -1) if where[:end] in source.places), where
    )


def _short(value: Any) -> str:
    """Return a value as a message can hold it."""
    words = repr(value)
    return words if len(words) <= 60 else f"{words[:57]}..."


def _fields(model: type[BaseModel], where: Where) -> list[str]:
    """Return the keys that may stand where an unknown one was found."""
    current: Any = model
    for step in where[:-1]:
        if isinstance(current, type) and issubclass(current, BaseModel):
            field = current.model_fields.get(str(step))
            current = field.annotation if field else current
        else:
            current = _inner(current)
        current = _unwrapped(current)
    return list(current.model_fields) if hasattr(current, "model_fields") else []


def _unwrapped(annotation: Any) -> Any:
    """Return a type without Annotated and without ``| None``."""
    while typing.get_origin(annotation) is typing.Annotated:
        annotation = typing.get_args(annotation)[0]
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return next(kind for kind in typing.get_args(annotation) if kind is not type(None))
    return annotation


def _inner(annotation: Any) -> Any:
    """Return the type of what a list or a mapping holds."""
    return typing.get_args(annotation)[-1] if typing.get_args(annotation) else annotation
