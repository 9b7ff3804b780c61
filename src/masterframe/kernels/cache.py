"""Where compiled code is kept: a private folder that can neither go stale nor be anybody else's.

It is named by a hash of every kernel source, numba's version and the processor. What it holds is
run: it is used only where it belongs to the user and nobody else may write to it.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
import stat
import tempfile
import warnings
from pathlib import Path

import llvmlite  # type: ignore[import-untyped]
import numpy as np

from masterframe.kernels import objects


@functools.cache
def stamp() -> str:
    """Return what compiled code depends on, hashed: kernel sources, versions, the processor."""
    digest = hashlib.sha256()
    sources = Path(__file__).parent
    for path in sorted(sources.rglob("*.py")):
        digest.update(str(path.relative_to(sources)).encode())
        digest.update(path.read_bytes())
    for fact in (compiler_version(), llvmlite.__version__, np.__version__, *objects.processor()):
        digest.update(fact.encode())
    return digest.hexdigest()[:16]


@functools.cache
def compiler_version() -> str:
    """Return what tells numba's version, without the time that it takes to import it."""
    found = importlib.util.find_spec("numba")
    if found is None or found.origin is None:
        raise ImportError("numba is not installed, which compiles the kernels")
    return Path(found.origin).with_name("_version.py").read_text(encoding="utf-8")


@functools.cache
def folder() -> Path:
    """Return the folder of the compiled code, made with mode 0700 where it did not exist.

    ``MASTERFRAME_CACHE``, else ``$XDG_CACHE_HOME/masterframe``, else ``~/.cache/masterframe``; a
    temporary folder of this process, with one warning, where that cannot be used.
    """
    wanted: Path | None = None
    try:
        wanted = _wanted()
        return _private(wanted / stamp())
    except (OSError, RuntimeError) as error:  # RuntimeError: there is no home folder
        warnings.warn(
            f"compiled kernels cannot be kept in {wanted or '~/.cache/masterframe'} ({error}); "
            "every start will compile them anew (seconds). Set MASTERFRAME_CACHE to a folder of "
            "yours.",
            stacklevel=2,
        )
        return _temporary()


def _wanted() -> Path:
    if chosen := os.environ.get("MASTERFRAME_CACHE"):
        return Path(chosen).expanduser().absolute()
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base) / "masterframe"
    return Path.home() / ".cache" / "masterframe"


def _private(path: Path) -> Path:
    """Make or accept a folder that is the user's alone; raise OSError where it is not."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.mkdir(mode=0o700, exist_ok=True)
    for part in (path.parent, path):
        about = part.stat()
        if hasattr(os, "getuid") and about.st_uid != os.getuid():
            raise PermissionError(f"{part} belongs to user {about.st_uid}")
        if stat.S_IMODE(about.st_mode) & 0o022:
            raise PermissionError(f"others may write to {part}")
    with tempfile.TemporaryFile(dir=path):  # a read-only or full disk is found here
        pass
    return path


@functools.cache
def _temporary() -> Path:
    # Kept alive by the cached value of _hold: removed when the process ends.
    return Path(_hold().name)


@functools.cache
def _hold() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="masterframe-kernels-", ignore_cleanup_errors=True)
