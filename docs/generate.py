"""A hook of mkdocs: what pages say of commands and settings is what the program says of them.

In a page, ``<!-- commands -->`` stands for the help of every command, ``<!-- settings -->`` for the
tables of all settings, and ``<!-- cluster -->`` for that of a cluster's file.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from masterframe.config import clusters, schema


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Fill the marks of a page; called by mkdocs."""
    for mark, fill in FILLS.items():
        if mark in markdown:
            markdown = markdown.replace(mark, fill())
    return markdown


def command_names() -> list[str]:
    """Return the commands that ``masterframe --help`` lists."""
    listed = _help().partition("Commands:")[2]
    return re.findall(r"^  (\w+)", listed, flags=re.MULTILINE)


def commands() -> str:
    """Return a section for each command with its help."""
    parts = [f"```text\n{_help()}```\n"]
    parts += [f"## {name}\n\n```text\n{_help(name)}```\n" for name in command_names()]
    return "\n".join(parts)


def settings() -> str:
    """Return a table for each mapping of a configuration."""
    document = schema.ConfigModel.model_json_schema()
    return "\n".join(_tables("", document, document["$defs"]))


def _tables(path: str, model: dict[str, Any], models: dict[str, Any]) -> Iterator[str]:
    """Yield the table of a mapping, and of those that stand in it."""
    yield _table(path, model)
    for name, item in model["properties"].items():
        for inner, ending in _mappings(item):
            yield from _tables(f"{path}.{name}{ending}".lstrip("."), models[inner], models)


def _mappings(item: dict[str, Any], ending: str = "") -> Iterator[tuple[str, str]]:
    """Yield the names of the mappings that may stand for a setting, and how they are written."""
    if "$ref" in item:
        yield item["$ref"].rpartition("/")[2], ending
    for each in item.get("anyOf", ()):
        yield from _mappings(each, ending)
    for key, more in (("items", "[]"), ("additionalProperties", ".NAME")):
        if isinstance(item.get(key), dict):
            yield from _mappings(item[key], ending + more)


def cluster() -> str:
    """Return the table of a cluster's file."""
    return _table("", clusters.ClusterModel.model_json_schema())


FILLS = {"<!-- commands -->": commands, "<!-- settings -->": settings, "<!-- cluster -->": cluster}


def _help(*command: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "masterframe", *command, "--help"],
        env=os.environ | {"COLUMNS": "100"},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.replace("python -m masterframe", "masterframe")


def _table(title: str, model: dict[str, Any]) -> str:
    """Return a row a setting: name, values, default, meaning."""
    rows = [
        f"| `{name}` | {_values(item)} | {_default(item)} | {item.get('description', '')} |"
        for name, item in model["properties"].items()
    ]
    heading = f"### {title}\n\n{model.get('description', '')}\n\n" if title else ""
    return f"{heading}| setting | values | default | meaning |\n|---|---|---|---|\n" + (
        "\n".join(rows) + "\n"
    )


def _values(item: dict[str, Any]) -> str:
    """Return in words what may stand for a setting."""
    if "anyOf" in item:
        return " or ".join(dict.fromkeys(_values(each) for each in item["anyOf"]))
    if "$ref" in item:
        return "a mapping, below"
    if "enum" in item or "const" in item:
        return ", ".join(f"`{_word(value)}`" for value in item.get("enum", [item.get("const")]))
    kind = item.get("type")
    if kind == "array":
        return f"list of {_values(item['items'])}" if item.get("items") else "one or a list"
    if kind == "object":
        return "a mapping"
    bound = next((f" {sign} {item[key]:g}" for key, sign in BOUNDS.items() if key in item), "")
    return TYPES.get(str(kind), "one or a list") + bound


BOUNDS = {"exclusiveMinimum": "above", "minimum": "from"}
TYPES = {
    "string": "text",
    "number": "number",
    "integer": "whole number",
    "boolean": "`true`, `false`",
    "null": "`null`",
}


def _default(item: dict[str, Any]) -> str:
    if "$ref" in item or "default" not in item:
        return ""
    return f"`{_word(item['default'])}`" if item["default"] != "" else ""


def _word(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return "{}" if value == {} else str(value)
