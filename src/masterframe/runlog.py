"""What the runs in an output folder did: a log of all, and a record of the last one."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

from masterframe import console, journal
from masterframe.errors import StorageError

log = logging.getLogger("masterframe")
LOG_NAME = "run.log"
"""The log file, in the private folder of an output folder; runs append to it."""

RECORD_NAME = "run.json"
"""The record of the last run, beside the log."""


def write_record(out: Path, document: Mapping[str, Any]) -> None:
    """Keep what the last run in an output folder did, in types of JSON or dataclasses of them.

    Raises
    ------
    StorageError
        If it cannot be written.
    """
    path = journal.state_folder(out) / RECORD_NAME
    part = path.with_suffix(".part")
    try:
        text = json.dumps(document, default=_fields)
        part.write_text(text, encoding="utf-8", errors="backslashreplace")
        part.replace(path)
    except OSError as error:
        raise StorageError(f"{path}: cannot be written ({error.strerror})") from None


def read_record(out: Path) -> dict[str, Any]:
    """Return what `write_record` kept; empty where there is nothing that can be read."""
    try:
        text = (out / journal.STATE_FOLDER / RECORD_NAME).read_text(encoding="utf-8")
        document = json.loads(text)
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


@contextmanager
def log_file(out: Path) -> Iterator[None]:
    """Append to the log file of an output folder what is logged meanwhile: time, level, what."""
    path = journal.state_folder(out) / LOG_NAME
    try:
        handler = _LogHandler(path, encoding="utf-8")
    except OSError as error:
        raise StorageError(f"{path}: cannot be written ({error.strerror})") from None
    handler.setFormatter(_LogFormatter("%(asctime)s %(levelname)s %(message)s"))
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    except BaseException as error:
        log.error("the run ends early: %s", str(error) or type(error).__name__)
        raise
    finally:
        log.setLevel(level)
        log.removeHandler(handler)
        handler.close()


class _LogHandler(logging.FileHandler):
    """A log that cannot be written ends no run: a full disk is found by what matters more."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        pass


class _LogFormatter(logging.Formatter):
    """One line a record, in UTC, without what a header may hold to upset a terminal."""

    converter = staticmethod(time.gmtime)
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def format(self, record: logging.LogRecord) -> str:
        return console.clean(super().format(record))


def _fields(value: Any) -> dict[str, Any]:
    """Return what a dataclass holds as it is: `asdict` copies all of it, which takes far longer."""
    return {field.name: getattr(value, field.name) for field in fields(value)}
