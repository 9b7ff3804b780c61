"""Dask's own report of what every worker did when: a page that needs no network to be read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from masterframe.errors import StorageError, UsageError


def check_report(path: Path, *, threads: bool) -> None:
    """Refuse a report that could not be written, before any work.

    Parameters
    ----------
    path : Path
        The page.
    threads : bool
        Tasks run on threads of this process, without Dask's scheduler.

    Raises
    ------
    UsageError
        If nobody keeps a record of tasks, or a package is missing.
    StorageError
        If its folder is not there.
    """
    if threads:
        raise UsageError(
            "--performance: threads keep no record of tasks; add --dashboard, --scheduler "
            "processes, or a cluster"
        )
    if find_spec("bokeh") is None:
        raise UsageError("--performance needs bokeh: pip install 'masterframe[dashboard]'")
    if not path.absolute().parent.is_dir():
        raise StorageError(f"{path}: its folder does not exist; make it first")


@contextmanager
def performance_report(path: Path) -> Iterator[None]:
    """Record what the workers of the active client do, and write the page at the end.

    Of work that fails there is none: its scheduler may be gone.
    """
    from distributed import performance_report

    report = performance_report(filename=str(path.absolute()), mode="inline")
    report.__enter__()
    yield
    report.__exit__(None, None, None)
