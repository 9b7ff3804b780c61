"""Folders of one process: locked as long as it lives, and removed with it.

What a killed process left is removed by the next that makes one beside it.
"""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from masterframe import portable
from masterframe.errors import StorageError

PREFIX = ".masterframe-scratch-"
"""Hidden, as it may lie beside an output."""


@contextmanager
def open_folder(base: Path) -> Iterator[Path]:
    """Make a scratch folder in another one, and remove it with all that is in it.

    Parameters
    ----------
    base : Path
        Made where it is missing. What dead processes have left in it is removed.

    Raises
    ------
    StorageError
        If it cannot be made.
    """
    folder, remove = _make_folder(base)
    try:
        yield folder
    finally:
        remove()


@functools.cache
def lasting_folder(base: Path | None = None) -> Path:
    """Return a scratch folder of this process in another one, which is removed when it ends.

    Parameters
    ----------
    base : Path, optional
        By default the folder of the system for temporary files (``TMPDIR``).

    Raises
    ------
    StorageError
        If it cannot be made.
    """
    folder, remove = _make_folder(base or Path(tempfile.gettempdir()))
    atexit.register(remove)
    return folder


def unwritable(folder: Path, error: OSError) -> StorageError:
    """Return what to raise where nothing can be put into a scratch folder."""
    return StorageError(f"{folder}: the scratch folder cannot be written ({error.strerror})")


def _make_folder(base: Path) -> tuple[Path, Callable[[], None]]:
    """Make a folder that is locked, and return it with what removes it."""
    try:
        base.mkdir(mode=0o700, parents=True, exist_ok=True)
        _sweep(base)
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=base))
        lock = os.open(folder / "new", os.O_RDWR | os.O_CREAT, 0o600)
        portable.try_lock(lock)
        (folder / "new").rename(folder / "lock")  # so that nobody finds it without an owner
    except OSError as error:
        raise unwritable(base, error) from None
    owner = os.getpid()

    def remove() -> None:
        if os.getpid() == owner:  # not where a fork of it ends
            _remove(folder)
            os.close(lock)

    return folder, remove


def _remove(folder: Path) -> None:
    """Remove a folder, in which a task that nobody waits for may just have made a file."""
    for _ in range(20):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(0.05)


def _sweep(base: Path) -> None:
    """Remove the folders of processes that are gone: their locks are free."""
    for folder in base.glob(f"{PREFIX}*"):
        try:
            lock = os.open(folder / "lock", os.O_RDWR | portable.NO_FOLLOW)
        except OSError:  # another user's, or just being made
            continue
        try:
            if portable.try_lock(lock) is True:
                shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(lock)
