"""YAML that remembers where each value stands; nothing in it can run code or grow."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from masterframe.errors import ConfigError

SIZE_LIMIT = 1 << 18
"""Bytes of a file; a configuration that is longer is something else."""
DEPTH_LIMIT = 20
"""Nested mappings and lists; ours have 5."""

Where = tuple[str | int, ...]
"""Keys and indices that lead to a value."""


@dataclass
class Source:
    """The content of a configuration file, and the place of each of its values."""

    name: str
    """The file, as errors name it."""
    data: dict[str, Any] = field(default_factory=dict)
    """Mappings, lists, text, numbers, true, false and None."""
    places: dict[Where, str] = field(default_factory=dict)
    """``file:line:column`` of each key, and of each item of a list."""

    def place(self, where: Where) -> str:
        """Return the place of a value, or of the nearest one around it."""
        for end in range(len(where), -1, -1):
            if where[:end] in self.places:
                return self.places[where[:end]]
        return self.name

    def override(self, assignment: str) -> None:
        """Set one value, as ``--set a.b=c`` does; mappings on the way are made.

        Raises
        ------
        ConfigError
            Where the assignment has no ``=``, an empty name, or leads through a value.
        """
        path, equals, words = assignment.partition("=")
        keys = [key.strip() for key in path.split(".")]
        origin = f"--set {assignment}"
        if not equals or not all(keys):
            raise ConfigError(f"{origin}: write NAME.NAME=VALUE, as in recipes.flat.min_frames=5")
        target = self.data
        for key in keys[:-1]:
            if target.get(key) is None:
                target[key] = {}
            if not isinstance(target[key], dict):
                raise ConfigError(f"{origin}: {key} is no mapping")
            target = target[key]
        value = _parse(words, origin)
        target[keys[-1]] = value.data
        where = tuple(keys)
        for end in range(1, len(where)):
            self.places.setdefault(where[:end], origin)
        self.places |= {(*where, *rest): origin for rest in [(), *value.places]}


@dataclass
class _Value:
    """A parsed document."""

    data: Any
    places: dict[Where, str]


def read_source(path: Path) -> Source:
    """Read a YAML file that holds a mapping.

    Raises
    ------
    ConfigError
        With file, line and column where there is no such file, or it is not YAML, not a mapping,
        too long, too deep, or has a key twice.
    """
    if path.exists() and not path.is_file():  # opening a FIFO would wait for ever
        raise ConfigError(f"{path}: cannot be read: it is not a regular file")
    try:
        with path.open("rb") as stream:
            content = stream.read(SIZE_LIMIT + 1)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from None
    if len(content) > SIZE_LIMIT:
        raise ConfigError(f"{path}: longer than {SIZE_LIMIT} bytes; this is no configuration")
    try:
        words = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: byte {error.start} is not UTF-8; save it as UTF-8") from None
    value = _parse(words, str(path))
    if not isinstance(value.data, dict):
        what = "empty" if value.data is None else f"a {type(value.data).__name__}"
        raise ConfigError(f"{path}:1:1: wanted a mapping of settings, found {what}")
    return Source(str(path), value.data, value.places)


def _parse(words: str, name: str) -> _Value:
    """Return the one document in some YAML."""
    try:
        loader = _Loader(words)
        loader.name = name
        node = loader.get_single_node()
        places: dict[Where, str] = {}
        if node is not None:
            _record(node, (), name, places)
        return _Value(None if node is None else loader.construct_document(node), places)
    except yaml.MarkedYAMLError as error:
        raise ConfigError(f"{_place(name, error.problem_mark)}: {_reason(error)}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{name}: {' '.join(str(error).split())}") from None


def _record(node: yaml.Node, where: Where, name: str, places: dict[Where, str]) -> None:
    """Note the place of every value; refuse keys that are no text or come twice."""
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            places[*where, index] = _place(name, item.start_mark)
            _record(item, (*where, index), name, places)
    elif isinstance(node, yaml.MappingNode):
        for key, item in node.value:
            here = _place(name, key.start_mark)
            if not isinstance(key, yaml.ScalarNode):
                raise ConfigError(f"{here}: a key must be a word")
            if (*where, key.value) in places:
                first = places[*where, key.value]
                raise ConfigError(f"{here}: {key.value!r} is set twice, first at {first}")
            key.tag = "tag:yaml.org,2002:str"
            places[*where, key.value] = here
            _record(item, (*where, key.value), name, places)


def _place(name: str, mark: yaml.Mark | None) -> str:
    """Return ``file:line:column`` from 1."""
    return name if mark is None else f"{name}:{mark.line + 1}:{mark.column + 1}"


def _reason(error: yaml.MarkedYAMLError) -> str:
    """Return what is wrong with some YAML, on one line."""
    return " ".join(f"not valid YAML: {error.context or ''} {error.problem or ''}".split())


class _Loader(yaml.SafeLoader):
    """YAML 1.2's few words for true, false and numbers; no aliases, no dates, no base 60.

    So that ``off``, ``no``, ``2022-01-28`` and ``12:30`` stay the text that they look like.
    """

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Compose a node that is neither an alias nor too deep."""
        refused = "aliases are not used here" if self.check_event(yaml.AliasEvent) else ""
        if self.depth > DEPTH_LIMIT:
            refused = "nested too deeply"
        if refused:
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(problem=refused, problem_mark=mark)
        self.depth += 1
        node: yaml.Node | None = super().compose_node(parent, index)
        self.depth -= 1
        return node


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?(0|[1-9][0-9]{0,17})", "-+0123456789"),
    (
        "float",
        r"[-+]?([0-9]{1,40}\.[0-9]{0,40}|\.[0-9]{1,40}|[0-9]{1,40}(?=[eE]))([eE][-+]?[0-9]{1,3})?",
        "-+.0123456789",
    ),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
):
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(f"(?:{_pattern})$"), list(_first)
    )
