"""A configuration for one night, written from what its headers say."""

from __future__ import annotations

import contextlib
import json
import os
import re
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path

from masterframe.config import load_config
from masterframe.console import clean, table
from masterframe.errors import StorageError, UsageError
from masterframe.inventory import scan_night
from masterframe.model import Exposure, Problem

SHOWN = 20
"""Problems and groups of untyped frames that are listed; the rest is counted."""
TYPES = "\ntypes: []\n"
"""Where the template gets the hints on how to type frames."""


def write_config(night: Path, output: Path, *, overwrite: bool = False) -> None:
    """Write a commented configuration: what was seen in the headers, and every default.

    Parameters
    ----------
    night : Path
        Folder of raw frames, or one file.
    output : Path
        The YAML file; it appears whole or not at all.
    overwrite : bool
        Replace a file that is there.

    Raises
    ------
    UsageError
        If there is no such night.
    StorageError
        If the output exists and is not to be replaced, or cannot be written.
    """
    if not night.exists():
        raise UsageError(f"{night} does not exist: give a folder of raw frames")
    if not overwrite and os.path.lexists(output):
        raise _exists(output)
    exposures, problems = scan_night([night], load_config(None))
    _publish(output, config_text(night, exposures, problems), overwrite=overwrite)


def config_text(night: Path, exposures: Sequence[Exposure], problems: Sequence[Problem]) -> str:
    """Return the configuration as YAML; nothing of a header or name leaves its comment."""
    template = resources.files("masterframe").joinpath("template.yaml").read_text(encoding="utf-8")
    first, _, rest = template.partition("\n")
    before, types, after = rest.partition(TYPES)
    seen = "".join(f"# {line}".rstrip() + "\n" for line in _seen(night, exposures, problems))
    hints = "".join(f"# {line}\n" for line in _hints(exposures))
    return f"{first}\n#\n{seen}{before}{types}{hints}{after}"


def _seen(night: Path, exposures: Sequence[Exposure], problems: Sequence[Problem]) -> Iterator[str]:
    yield f"{clean(night)}: {len(exposures)} exposures, {len(problems)} problems."
    instruments = Counter(item.instrument or "not named" for item in exposures)
    for name, count in instruments.most_common():
        yield f"Instrument {clean(name)}: {count} exposures."
    if exposures:
        yield ""
        yield from _counts(exposures).splitlines()
    if problems:
        yield ""
        yield "Problems:"
    for problem in problems[:SHOWN]:
        yield f"  {clean(Path(problem.path).name)}: {clean(problem.reason)}"
    if len(problems) > SHOWN:
        yield f"  and {len(problems) - SHOWN} more, which masterframe scan lists"


def _counts(exposures: Sequence[Exposure]) -> str:
    """Return a table of how many frames there are of each kind, filter and exposure time."""
    groups = Counter(
        (
            item.kind or "unknown",
            item.filter,
            "" if item.exptime is None else f"{item.exptime:g}",
            f"{item.binning[1]}x{item.binning[0]}",
        )
        for item in exposures
    )
    rows = [(str(count), *group) for group, count in sorted(groups.items())]
    return table(("frames", "kind", "filter", "exptime (s)", "binning"), rows)


def _hints(exposures: Sequence[Exposure]) -> Iterator[str]:
    """Yield rules that would type the frames that have no kind, for the observer to complete."""
    untyped = Counter(
        re.sub(r"[0-9]+", "*", Path(item.path).name) for item in exposures if item.kind is None
    )
    if not untyped:
        return
    total = untyped.total()
    yield f"{total} frame{'s' * (total > 1)} of no kind. Say here what they are, in place of []:"
    for pattern, count in untyped.most_common(SHOWN):
        # JSON is YAML, and quotes whatever a name may hold.
        quoted = json.dumps(clean(pattern), ensure_ascii=False)
        yield f"- {{kind: science, when: {{file: {quoted}}}}}  # {count} of them; or bias, ..."


def _publish(output: Path, text: str, *, overwrite: bool) -> None:
    """Write a file beside the output, and give it its name once it is whole."""
    part = None
    try:
        with tempfile.NamedTemporaryFile(
            "w",
            encoding="utf-8",
            dir=output.parent,
            prefix=f".{output.name}.",
            suffix=".part",
            delete=False,
        ) as file:
            part = Path(file.name)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        part.chmod(0o644)
        if overwrite:
            part.replace(output)
        else:
            output.hardlink_to(part)  # unlike a rename, this never replaces a file
    except FileExistsError:
        raise _exists(output) from None
    except OSError as error:
        raise StorageError(
            f"{output} cannot be written ({error.strerror}): choose another place with -o"
        ) from error
    finally:
        if part is not None:
            with contextlib.suppress(OSError):
                part.unlink()


def _exists(output: Path) -> StorageError:
    return StorageError(f"{output} exists: give another name with -o, or --overwrite")
