"""The files that arguments stand for: names, globs and lists; nothing is opened but the lists."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from pathlib import Path

from masterframe.errors import UsageError


def expand_paths(
    paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
) -> list[str]:
    """Return absolute paths: globs expanded in the order of names, ``@list`` files read.

    Raises
    ------
    UsageError
        If a pattern matches nothing, a folder is given, or nothing.
    """
    given = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    found: list[str] = []
    for item in given:
        text = os.fspath(item)
        if text.startswith("@"):
            found += _listed(Path(text[1:]))
        elif glob.has_magic(text) and not os.path.lexists(text):
            matches = sorted(glob.glob(text, recursive=True))
            if not matches:
                raise UsageError(f"no file matches {text}")
            found += matches
        else:
            if os.path.isdir(text):  # noqa: PTH112 - Path raises where a name is too long
                raise UsageError(f"{text} is a folder: give its files, as {Path(text, '*.fits')}")
            found.append(text)
    if not found:
        raise UsageError("no files are given")
    return [str(Path(path).absolute()) for path in found]


def _listed(path: Path) -> list[str]:
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise UsageError(f"the list @{path} cannot be read: {error.strerror or error}") from None
    names = [os.fsdecode(line).strip() for line in lines]  # names are bytes to the system
    return [str(path.parent / name) for name in names if name and not name.startswith("#")]
