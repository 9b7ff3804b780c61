"""The history of a pixel for people, as a table in columns, and for programs, as a document."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from masterframe.console import clean, table
from masterframe.explain import PixelFrame, PixelHistory, PixelValue
from masterframe.kernels import RULES
from masterframe.model import Recipe


def as_document(history: PixelHistory) -> dict[str, Any]:
    """Return what ``explain --json`` prints: pixels from 1; numbers that are none are null."""
    document = asdict(history)
    names = ("x", "y", "raw_x", "raw_y")
    pixel = {name: document.pop(name) + 1 for name in names}
    for name in ("combined", "expected", "stored"):
        value: PixelValue | None = getattr(history, name)
        if value is not None:
            document[name]["mask_words"] = list(value.mask_words)
    document["left_out"] = [{"path": p, "reason": why} for p, why in history.left_out]
    found: dict[str, Any] = _finite({"pixel": pixel, "equal": not history.problems, **document})
    return found


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def as_text(history: PixelHistory) -> str:
    """Return a table with a row an input and one with a row a pass, and what came of them."""
    lines = [*_heading(history), "", _frames(history), "", *_passes(history), ""]
    lines += _results(history)
    lines += [f"left out: {clean(path)}: {clean(reason)}" for path, reason in history.left_out]
    lines += [f"note: {clean(note)}" for note in history.notes]
    lines += [f"NOT EQUAL: {clean(problem)}" for problem in history.problems]
    return "\n".join(lines)


def _heading(history: PixelHistory) -> list[str]:
    name = f"{history.path} {history.extension}".strip() or "stack"
    place = f"FITS pixel {history.x + 1}, {history.y + 1}"
    if (history.x, history.y) != (history.raw_x, history.raw_y):
        place += f", which is {history.raw_x + 1}, {history.raw_y + 1} of the raw frames"
    return [f"{clean(name)}: {place}", _recipe(history.recipe)]


def _recipe(recipe: Recipe) -> str:
    """Return rule, options and estimator in one line."""
    rejection = recipe.rejection
    given = {name: getattr(rejection, name) for name in RULES[rejection.rule].options}
    options = [f"{name} {_option(value)}" for name, value in given.items() if value]
    return f"rule {', '.join([rejection.rule, *options])}; {recipe.estimator} of what is kept"


def _option(value: Any) -> str:
    if isinstance(value, float):
        return "off" if math.isinf(value) else f"{value:g}"
    return str(value)


def _frames(history: PixelHistory) -> str:
    frames = history.frames
    folders = {str(Path(frame.path).parent) for frame in frames}
    names = [_name(frame, len(folders) > 1) for frame in frames]
    rows = [
        (str(number), name, *_numbers(frame, frames), _fate(frame), frame.state)
        for number, (name, frame) in enumerate(zip(names, frames, strict=True), start=1)
    ]
    titles = ("#", "input", "raw", "overscan", "bias", "dark", "x ratio", "flat", "scale", "zero")
    found = table((*titles, "value", "weight", "", "file"), rows)
    return found if len(folders) > 1 else f"in {clean(folders.pop())}:\n{found}"


def _name(frame: PixelFrame, whole: bool) -> str:
    """Return the name of a file, with its folder where that is wanted, and the plane in it."""
    name = frame.path if whole else Path(frame.path).name
    return name + (f"[*,*,{frame.plane}]" if frame.plane else "")


def _numbers(frame: PixelFrame, frames: Sequence[PixelFrame]) -> list[str]:
    """Return the numbers of a frame; those that changed nothing in any frame are left empty."""

    def unless(name: str, neutral: float) -> str:
        used = any(getattr(item, name) != neutral for item in frames)
        return _number(getattr(frame, name)) if used else ""

    return [
        _number(frame.raw),
        *(_number(getattr(frame, name)) for name in ("overscan", "bias", "dark")),
        unless("dark_ratio", 1.0),
        _number(frame.flat),
        unless("scale", 1.0),
        unless("zero", 0.0),
        _number(frame.value),
        unless("weight", 1.0),
    ]


def _fate(frame: PixelFrame) -> str:
    words = {"low": "rejected low", "high": "rejected high"}.get(frame.fate, frame.fate)
    if frame.iteration:
        return f"{words} in pass {frame.iteration}"
    return f"{words} ({frame.reason})" if frame.reason else words


def _passes(history: PixelHistory) -> list[str]:
    if not history.passes:
        return ["no pass of a rule"]
    rows = [
        (
            str(number),
            *(_number(n) for n in (item.center, item.deviation, item.least, item.most)),
            f"{item.low} low, {item.high} high" if item.low or item.high else "nothing",
        )
        for number, item in enumerate(history.passes, start=1)
    ]
    return [table(("pass", "centre", "deviation", "least", "most", "rejected"), rows)]


def _results(history: PixelHistory) -> list[str]:
    lines = [f"combined  {_result(history.combined, history.unit)}"]
    if history.norm is not None:
        lines.append(f"norm      {_number(history.norm)}, by which the flat was divided")
    if history.expected is not None and history.expected != history.combined:
        lines.append(f"finished  {_result(history.expected, history.unit)}")
    if history.stored is not None:
        lines.append(f"master    {_result(history.stored, history.unit)}")
        if not history.problems:
            lines.append("The master holds exactly what its inputs give.")
    return lines


def _result(value: PixelValue, unit: str) -> str:
    """Return a value with its uncertainty, counts and mask in words."""
    text = f"{_number(value.data)} +- {_number(value.uncert)} {unit}".rstrip()
    rejected = "" if value.rejlow is None else f", {value.rejlow} low and {value.rejhigh} high out"
    bits = " ".join(value.mask_words)
    return f"{text}; {value.count} kept{rejected}{f'; mask {value.mask}: {bits}' if bits else ''}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.7g}"
