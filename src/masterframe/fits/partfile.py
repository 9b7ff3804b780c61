"""The file beside another one that holds what is written of it until it is whole.

It is locked as long as its process lives, so that what a dead one left can be told.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from masterframe import portable
from masterframe.errors import StorageError


@contextlib.contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn the system's errors into ones that name the file."""
    try:
        yield
    except OSError as error:
        raise StorageError(f"{path}: cannot be written ({error.strerror or error})") from error


def check_target(path: Path, *, overwrite: bool) -> None:
    """Refuse a place where no file could be made; before any work, so that none is done in vain.

    Raises
    ------
    StorageError
        If it is taken by a file that must stay, or its folder is missing.
    """
    if not path.parent.is_dir():
        raise StorageError(f"{path}: its folder does not exist; make {path.parent} first")
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISREG(mode):
        raise StorageError(f"{path} is not a regular file; choose another name")
    if not overwrite:
        raise StorageError(f"{path} exists; choose another name, or --overwrite (run: --force)")


def part_of(target: Path) -> Path:
    """Return the file beside another one that holds what is written of it until it is whole."""
    return target.with_name(target.name + ".part")


def open_new(part: Path) -> int:
    """Create and lock a new file, in place of one that a dead process left; return its descriptor.

    Raises
    ------
    StorageError
        If another process writes it, or something else has its name.
    OSError
        If it cannot be made.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | portable.NO_FOLLOW
    try:
        descriptor = os.open(part, flags | getattr(os, "O_CLOEXEC", 0), 0o644)
    except FileExistsError:
        _remove_stale(part)
        descriptor = os.open(part, flags | getattr(os, "O_CLOEXEC", 0), 0o644)
    portable.try_lock(descriptor)
    return descriptor


def reopen(part: Path) -> int | None:
    """Open and lock a part that is there; None where it is not, or is no file of ours.

    Raises
    ------
    StorageError
        If another process writes it.
    OSError
        If it cannot be opened.
    """
    try:
        if not stat.S_ISREG(part.lstat().st_mode):
            return None
        descriptor = os.open(part, os.O_RDWR | portable.NO_FOLLOW | getattr(os, "O_CLOEXEC", 0))
    except FileNotFoundError:
        return None
    if portable.try_lock(descriptor) is False:
        os.close(descriptor)
        raise StorageError(f"{part} is being written by another process; wait for its end")
    return descriptor


def _remove_stale(part: Path) -> None:
    if not stat.S_ISREG(part.lstat().st_mode):
        raise StorageError(f"{part} is in the way and is not a regular file; remove it")
    descriptor = os.open(part, os.O_RDWR | portable.NO_FOLLOW)
    try:
        if portable.try_lock(descriptor) is False:
            raise StorageError(f"{part} is being written by another process; wait for its end")
        part.unlink()
    finally:
        os.close(descriptor)
