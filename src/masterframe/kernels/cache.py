"""Compiled code on disk: a private folder that can neither go stale nor be anybody else's.

Numba's own cache knows only the source of the function that was decorated, not of those it calls,
and two processes that compile for it at the same moment can spoil its index. Here the folder is
named by a hash of every kernel source, numba's version and the processor, and whatever is compiled
or loaded for the first time in a process is so under a lock. The cache holds pickles: it is used
only where the folder belongs to the user and nobody else may write to it.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib
import os
import stat
import tempfile
import threading
import warnings
from collections.abc import Callable, Hashable, Iterator
from pathlib import Path
from typing import Any

import llvmlite.binding  # type: ignore[import-untyped]
import numba
import numpy as np
from numba.core.caching import FunctionCache
from numba.core.ccallback import CFunc
from numba.experimental import function_type  # noqa: F401 - tells the type of functions passed on

_fcntl: Any = None
with contextlib.suppress(ImportError):  # not POSIX: first compilations by several may collide
    _fcntl = importlib.import_module("fcntl")

# Division follows numpy (x / 0 is inf), as checks would keep loops from being vectorised. Nobody
# counts who holds an array, which costs an atomic operation for every slice and every call. No flag
# of fastmath is set: each of them changes bits or loses NaN.
_OPTIONS: dict[str, Any] = {"error_model": "numpy", "_nrt": False}
_decorating = threading.Lock()
_first_calls = threading.Lock()
_ready: set[Hashable] = set()


@functools.cache
def stamp() -> str:
    """Return what compiled code depends on, hashed: kernel sources, versions, the processor."""
    digest = hashlib.sha256()
    sources = Path(__file__).parent
    for path in sorted(sources.rglob("*.py")):
        digest.update(str(path.relative_to(sources)).encode())
        digest.update(path.read_bytes())
    cpu = os.environ.get("NUMBA_CPU_NAME") or llvmlite.binding.get_host_cpu_name()
    for fact in (numba.__version__, llvmlite.__version__, np.__version__, cpu):
        digest.update(fact.encode())
    return digest.hexdigest()[:16]


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


class _Kept(FunctionCache):  # type: ignore[misc]
    """Compiled code on disk that is loaded as it is.

    Numba first imports all that it could compile with, half a second. What is loaded is machine
    code, which needs none of it; where nothing is there, the compiler imports it.
    """

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return the code for a signature, None where there is none."""
        return self._load_overload(sig, target_context)


def jit(function: Callable[..., Any]) -> Any:
    """Compile a function at its first call; the code is kept on disk, the GIL is released.

    The caller holds all arrays: none may be made or returned.
    """
    dispatcher = numba.njit(no_cfunc_wrapper=True, nogil=True, **_OPTIONS)(function)
    dispatcher._cache = _in_folder(function)
    return dispatcher


def _in_folder(function: Callable[..., Any]) -> _Kept:
    """Return where the code of a function is kept: in our folder, wherever numba's is."""
    with _decorating:
        before = numba.config.CACHE_DIR
        numba.config.CACHE_DIR = str(folder())
        try:
            return _Kept(function)
        finally:
            numba.config.CACHE_DIR = before


def part(function: Callable[..., Any]) -> Any:
    """Compile a function as part of those that call it; Python cannot call it.

    The wrappers that Python needs would take longer to compile than the functions.
    """
    wrappers = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    return numba.njit(nogil=True, **wrappers, **_OPTIONS)(function)


def pointer(signature: Any, function: Callable[..., Any]) -> Any:
    """Compile a function for one signature, or load it; compiled code can call it by address."""
    made: Any = CFunc(function, (signature.args, signature.return_type), {}, _OPTIONS)
    made._cache = _in_folder(function)
    with _first_calls, _locked(folder() / "lock"):
        made.compile()
    return made


@contextlib.contextmanager
def first_call(key: Hashable) -> Iterator[None]:
    """Hold the lock of the folder while a signature is compiled or loaded; later calls are free."""
    if key in _ready:
        yield
        return
    with _first_calls, _locked(folder() / "lock"):
        yield
        _ready.add(key)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a") as handle:
        if _fcntl is not None:
            with contextlib.suppress(OSError):  # a file system without locks: go on without
                _fcntl.flock(handle, _fcntl.LOCK_EX)
        yield
