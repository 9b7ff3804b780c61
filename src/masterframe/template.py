"""A configuration for one night, written from what its headers say."""

from __future__ import annotations

import contextlib
import json
import os
import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from importlib import resources
from pathlib import Path

from masterframe.config import load_config, presets
from masterframe.console import clean
from masterframe.errors import StorageError, UsageError
from masterframe.inventory import scan_night, summary
from masterframe.model import Exposure, Problem, Tolerances

SHOWN = 20
"""Problems and groups of untyped frames that are listed; the rest is counted."""
TYPES = "\ntypes: []\n"
"""Where the template gets the hints on how to type frames."""
INSTRUMENT = "\ninstrument: auto\n"
"""Where it gets the instrument that was found."""
AUTO, GENERIC = "auto", "generic"


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
    seen = "".join(f"# {clean(line)}".rstrip() + "\n" for line in _seen(night, exposures, problems))
    hints = "".join(f"# {line}\n" for line in _hints(exposures))
    before = before.replace(INSTRUMENT, f"\ninstrument: {_instrument(exposures)}\n")
    return f"{first}\n#\n{seen}{before}{types}{hints}{after}"


def _instrument(exposures: Sequence[Exposure]) -> str:
    """Return the preset that read all exposures; auto where there are several, or the generic."""
    (preset, *more) = {item.preset for item in exposures} or {AUTO}
    return AUTO if more or preset == GENERIC or preset not in presets() else preset


def _seen(night: Path, exposures: Sequence[Exposure], problems: Sequence[Problem]) -> Iterator[str]:
    yield f"{night}: {len(exposures)} exposures, {len(problems)} problems."
    if exposures:
        yield from ("", *summary.count_kinds(exposures).splitlines())
    yield from _section("How the detector was read", summary.describe_setups(exposures))
    yield from _section("To check", summary.find_doubts(exposures, Tolerances()))
    named = (f"{Path(problem.path).name}: {problem.reason}" for problem in problems)
    yield from _section("Problems", named)


def _section(title: str, lines: Iterable[str]) -> Iterator[str]:
    """Yield some lines under a title; what is too much is counted."""
    shown = list(lines)
    if shown:
        yield from ("", f"{title}:", *(f"  {line}" for line in shown[:SHOWN]))
    if len(shown) > SHOWN:
        yield f"  and {len(shown) - SHOWN} more; masterframe scan lists all"


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
