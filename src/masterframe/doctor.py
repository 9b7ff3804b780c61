"""What this machine offers, and what is missing: every check a line, and never a traceback.

What may be missing is imported only where it is looked at.
"""

from __future__ import annotations

import importlib
import platform
import resource
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

from masterframe import __version__, cluster
from masterframe.console import clean, counted
from masterframe.tiling import format_bytes

REQUIRED = ("numpy", "numba", "astropy", "dask", "xarray", "pydantic", "PyYAML", "typer", "rich")
"""Distributions without which nothing works."""
OPTIONAL = {
    "distributed": "needed for --scheduler processes and clusters",
    "dask-jobqueue": "needed for Slurm: pip install 'masterframe[slurm]'",
}
"""Distributions that some uses need, with what they are for."""
LEAST_MEMORY = 400 * 10**6
"""Memory (bytes) in which any night of an ordinary camera can be combined."""
LEAST_DISK = 10**9
"""Free disk (bytes) below which a night may not fit."""
LEAST_FILES = 64
"""Open files that a run needs at most: each is closed before the next is opened."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at."""

    name: str
    """What it is."""
    ok: bool
    """Whether it is as it should be."""
    text: str
    """What was found."""
    hint: str = ""
    """What to do where it is not, or what it is needed for."""
    needed: bool = True
    """False where masterframe works without it, though less well."""


def examine(tell: Callable[[str], None] | None = None) -> tuple[Check, ...]:
    """Look at everything; what cannot be looked at is a check that failed.

    Parameters
    ----------
    tell : callable, optional
        Is told where something takes its time.
    """
    looks: list[tuple[str, Callable[[], Check]]] = [
        ("Python", _python),
        *((name, partial(_required, name)) for name in REQUIRED),
        *((name, partial(_optional, name)) for name in OPTIONAL),
        ("cores", _cores),
        ("memory", _memory),
        ("disk, this folder", lambda: _disk("disk, this folder", Path())),
        ("disk, temporary", lambda: _disk("disk, temporary", Path(tempfile.gettempdir()))),
        ("open files", _files),
        ("kernel cache", _cache),
        ("kernel", partial(_kernel, tell)),
    ]
    return tuple(_looked(name, look) for name, look in looks)


def _looked(name: str, look: Callable[[], Check]) -> Check:
    try:
        return look()
    except Exception as error:  # a doctor that falls ill over what it looks for is no help
        return Check(name, False, f"{type(error).__name__}: {error}", "mend this first")


def _python() -> Check:
    version = platform.python_version_tuple()
    ok = (int(version[0]), int(version[1])) >= (3, 11)
    text = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    return Check("Python", ok, text, "" if ok else "install Python 3.11 or newer")


def _required(name: str) -> Check:
    module = {"PyYAML": "yaml"}.get(name, name)
    try:
        version = metadata.version(name)
        importlib.import_module(module)
    except ImportError as error:  # metadata.PackageNotFoundError is one
        return Check(name, False, f"missing ({error})", "install masterframe again")
    return Check(name, True, version)


def _optional(name: str) -> Check:
    try:
        return Check(name, True, metadata.version(name), needed=False)
    except metadata.PackageNotFoundError:
        return Check(name, False, "not installed", OPTIONAL[name], needed=False)


def _cores() -> Check:
    return Check("cores", True, f"{cluster.available_cores()} for this process")


def _memory() -> Check:
    memory, left = cluster.default_memory(), cluster.available_memory()
    ok = memory >= LEAST_MEMORY
    hint = "" if ok else "close other programs, raise the limit of the job, or give --memory"
    text = f"a run takes up to {format_bytes(memory)} of the {format_bytes(left)} that are left"
    return Check("memory", ok, text, hint, needed=False)


def _disk(name: str, folder: Path) -> Check:
    folder = folder.absolute()
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        hint = "nothing can be written here: work in another folder"
        return Check(name, False, f"{folder}: {error.strerror}", hint, needed=False)
    free = shutil.disk_usage(folder).free
    ok = free >= LEAST_DISK
    text = f"{format_bytes(free)} free in {folder}"
    return Check(name, ok, text, "" if ok else "a night may not fit: make room", needed=False)


def _files() -> Check:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    ok = soft == resource.RLIM_INFINITY or soft >= LEAST_FILES
    return Check("open files", ok, f"{soft} of {hard}", "" if ok else f"ulimit -n {LEAST_FILES}")


def _cache() -> Check:
    from masterframe.kernels import cache

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        folder = cache.folder()
    if caught:
        text, _, hint = str(caught[0].message).partition(". ")
        return Check("kernel cache", False, text, hint, needed=False)
    kept = sum(path.stat().st_size > 0 for path in folder.iterdir())  # the lock is empty
    text = f"{kept} compiled functions" if kept else "empty: the first run fills it, by compiling"
    return Check("kernel cache", True, f"{folder}, {text}", needed=False)


def _kernel(tell: Callable[[str], None] | None) -> Check:
    """Combine a few random values, and compare with numpy."""
    import numpy as np

    from masterframe import kernels
    from masterframe.model import Recipe, Rejection

    raw = np.random.default_rng(5).integers(900, 1100, (7, 3, 11), dtype=np.uint16)
    began = time.perf_counter()
    with kernels.announced(tell) if tell else nullcontext():
        result = kernels.combine_block(
            raw,
            kernels.LoadTerms(overscan=np.zeros((7, 3), np.float32)),
            Recipe(rejection=Rejection(rule="none")),
            kernels.Floor(),
            np.arange(7),
        )
    seconds = time.perf_counter() - began
    ok = bool(np.allclose(result.data, raw.mean(axis=0), rtol=1e-6))
    text = f"agrees with numpy, ready after {seconds:.1f} s" if ok else "disagrees with numpy"
    return Check("kernel", ok, text, "" if ok else "remove the kernel cache and try again")


def exit_code(checks: Sequence[Check]) -> int:
    """Return 0 where all that is needed is there, else 1."""
    return int(any(check.needed and not check.ok for check in checks))


def as_document(checks: Sequence[Check]) -> dict[str, Any]:
    """Return what ``doctor --json`` prints."""
    return {
        "version": __version__,
        "ok": not exit_code(checks),
        "checks": [asdict(check) for check in checks],
    }


def as_text(checks: Sequence[Check]) -> str:
    """Return a line a check, with what to do under those that are not as they should be."""
    width = max((len(check.name) for check in checks), default=0)
    lines = []
    for check in checks:
        verdict = "ok" if check.ok else "BAD" if check.needed else "note"
        lines.append(f"{verdict:5}{check.name.ljust(width)}  {clean(check.text)}")
        if check.hint and not check.ok:
            lines.append(f"     {' ' * width}  -> {clean(check.hint)}")
    bad = sum(check.needed and not check.ok for check in checks)
    return "\n".join([*lines, "", counted(bad, "problem") if bad else "ready to combine"])
