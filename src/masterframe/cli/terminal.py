"""What all commands do alike: say, read settings and sizes, open what a run works with."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from masterframe.errors import UsageError


def settings_of(
    config: Path | None,
    override: list[str] | None,
    exclude: list[str] | None,
    library: Path | None = None,
) -> Any:
    """Return the configuration, with what the options override or leave out."""
    from masterframe.config import load_config

    settings = load_config(config, override or (), exclude or ())
    return replace(settings, library=str(library)) if library else settings


def listed(paths: list[Path]) -> str:
    """Return the first few paths in words."""
    shown = ", ".join(str(path) for path in paths[:3])
    return shown + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")


def memory_bytes(text: str | None) -> int | None:
    """Return the bytes of a size as people write it.

    Raises
    ------
    UsageError
        If it is none.
    """
    if text is None:
        return None
    from masterframe.tiling import parse_bytes

    try:
        return parse_bytes(text)
    except ValueError as error:
        raise UsageError(f"--memory: {error}") from None


def say(as_json: bool, text: str) -> None:
    """Print the first line before anything heavy is loaded; nothing where JSON is wanted."""
    if not as_json:
        from masterframe.console import clean

        print(clean(text), flush=True)  # noqa: T201 - the terminal is what this module is for


def finish(as_json: bool, document: Callable[[], dict[str, Any]], text: Callable[[], str]) -> None:
    """Print the result of a command: one JSON document, or text; the other one is not made."""
    print(json.dumps(document(), indent=1) if as_json else text(), flush=True)  # noqa: T201


def address_for_dask() -> str:
    """Return the scheduler that all programs on Dask are told to use, '' without one."""
    return os.environ.get("DASK_SCHEDULER_ADDRESS", "")


def join(scheduler: str, insecure: bool) -> Any:
    """Return where tasks run: a word, an address, or what a YAML file describes.

    Where this process is but the scheduler or a worker of an allocation, it is that to the end.
    """
    if not scheduler.lower().endswith((".yaml", ".yml")):
        return scheduler
    from masterframe import cluster
    from masterframe.config import load_cluster

    spec = load_cluster(scheduler)
    cluster.join(spec, insecure=insecure)
    return spec


@contextmanager
def open_resources(
    scheduler: Any,
    workers: int | None,
    memory: int | None,
    dashboard: bool,
    insecure: bool,
    performance: Path | None,
) -> Iterator[Any]:
    """Open what the options of a run ask for, with progress on standard error."""
    from masterframe import console, kernels, store

    with (
        console.open_reporter() as reporter,
        store.open_resources(
            scheduler,
            workers=workers,
            memory=memory,
            dashboard=dashboard,
            insecure=insecure,
            reporter=reporter,
            performance=performance,
        ) as resources,
    ):
        if resources.runner.dashboard:
            reporter.note(f"Dashboard: {resources.runner.dashboard}")
        # who looks on wonders at ten seconds of silence; who reads a log does not
        watched = sys.stderr is not None and sys.stderr.isatty()
        with kernels.announced(reporter.note) if watched else nullcontext():
            yield resources
