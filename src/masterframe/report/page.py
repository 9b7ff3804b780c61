"""From the content of a report to its two files, written whole."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import tempfile
from importlib import resources
from pathlib import Path
from typing import Any

from masterframe.errors import StorageError, UsageError
from masterframe.quality.archive import REPORT_FOLDER
from masterframe.report import charts
from masterframe.report import content as contents

PAGE = f"{REPORT_FOLDER}/index.html"
"""The page below an output folder."""
PARTS = ("page.html", "page.css", "page.js")
"""The page, and what it includes."""


def write_report(out: Path) -> Path:
    """Write the report of an output folder.

    Parameters
    ----------
    out : Path
        The output folder of runs; ``report/`` in it is made, and its two files are replaced.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    UsageError
        If there is no such folder, or nothing in it to report.
    StorageError
        If the report cannot be written.
    """
    out = Path(out).absolute()
    if not out.is_dir():
        raise UsageError(f"{out} is no folder of products: give the one that a run wrote to")
    found = contents.gather(out)
    if not found.entries and not found.record:
        raise UsageError(
            f"{out} holds no master, and no run worked in it: masterframe run makes some"
        )
    folder, page = out / REPORT_FOLDER, out / PAGE
    document = json.dumps(contents.as_document(found), indent=1, ensure_ascii=True)
    try:
        folder.mkdir(exist_ok=True)
        _publish(folder / "report.json", document)
        _publish(page, render(found))
    except OSError as error:
        raise StorageError(f"{folder}: the report cannot be written ({error.strerror})") from None
    return page


def render(found: contents.Content) -> str:
    """Return the page; whatever a header or file name holds stands in it as text."""
    from jinja2 import DictLoader, Environment, StrictUndefined

    environment = Environment(
        loader=DictLoader({name: _resource(name) for name in PARTS}),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": charts.number,
        "percent": charts.percent,
        "text": _text,
        "name": lambda path: _text(Path(path).name),
    }
    style, script = (environment.get_template(name).render() for name in PARTS[1:])
    return environment.get_template(PARTS[0]).render(
        report=found,
        names=contents.NAMES,
        facts_of=contents.facts_of,
        run_facts=contents.run_facts(found.record),
        config=_config_text(found.record),
        listed=contents.LISTED,
        # the policy lets no style and no script but the program's own work, by their hashes
        style_hash=_digest(style),
        script_hash=_digest(script),
    )


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")


def _text(value: object) -> str:
    """Return a text without controls and without what turns the direction of writing."""
    return "".join(c if c.isprintable() else "\ufffd" for c in str(value))


def _resource(name: str) -> str:
    return resources.files("masterframe.report").joinpath(name).read_text(encoding="utf-8").strip()


def _config_text(record: Any) -> str:
    """Return the recipes and limits of the last run, for people."""
    config = record.get("config", {})
    shown = {key: value for key, value in config.items() if key != "instruments"}
    return json.dumps(shown, indent=2, ensure_ascii=True) if shown else ""


def _publish(path: Path, text: str) -> None:
    """Write a file beside its place, and give it its name once it is whole."""
    data = text.encode("utf-8", errors="backslashreplace")
    descriptor, part = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        Path(part).chmod(0o644)
        Path(part).replace(path)
    except BaseException:
        Path(part).unlink(missing_ok=True)
        raise
