"""The private folder of an output folder, and who may work in it."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from masterframe import portable
from masterframe.errors import LockedError, StorageError

STATE_FOLDER = ".masterframe"
"""Folder of an output folder that holds the lock, the journal and scratch files (0700)."""

LOOK = 0.01
"""Time (s) after which who looks at a lock has let go of it."""
PARTS = "parts"
"""Folder in it for products that are not whole yet, with their journals."""


def state_folder(out: Path) -> Path:
    """Return the private folder of an output folder, made where it is missing.

    Raises
    ------
    StorageError
        If it cannot be made.
    """
    folder = out / STATE_FOLDER
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(out, error) from None
    return folder


def make_folder(folder: Path) -> None:
    """Make a folder for products, where it is missing.

    Raises
    ------
    StorageError
        If it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{folder}: this folder cannot be made ({error.strerror})") from None


def _unwritable(out: Path, error: OSError) -> StorageError:
    return StorageError(f"{out}: the output folder cannot be written ({error.strerror})")


def place_of_part(out: Path, output: str) -> Path:
    """Return where a product is written until it is whole: in the private folder if that can be.

    Parameters
    ----------
    out : Path
        Output folder.
    output : str
        Path of the product in it, whose folder is there.

    Raises
    ------
    StorageError
        If the folder cannot be made.
    """
    target = out / output
    part = state_folder(out) / PARTS / f"{output}.part"
    make_folder(part.parent)
    same = part.parent.stat().st_dev == target.parent.stat().st_dev  # a rename stays on its disk
    return part if same else target.with_name(part.name)


def sweep_parts(out: Path) -> None:
    """Remove journals whose part has become a product, and parts that nothing is known of.

    Only for who holds the lock of the output folder.
    """
    for path in (out / STATE_FOLDER / PARTS).rglob("*.fits.*"):
        other = path.with_suffix(".part" if path.suffix == ".journal" else ".journal")
        if not path.is_dir() and not other.exists():
            with contextlib.suppress(OSError):
                path.unlink()


@contextmanager
def lock(out: Path) -> Iterator[str]:
    """Hold an output folder for one run; the lock goes with the process, however that ends.

    Yields
    ------
    str
        The owner as others see it: host, process and start.

    Raises
    ------
    LockedError
        If another run holds it; the message names its host, process and start.
    """
    path = state_folder(out) / "lock"
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | portable.NO_FOLLOW
    try:
        descriptor = os.open(path, flags, 0o600)
    except OSError as error:
        raise _unwritable(out, error) from None
    try:
        if not _take(descriptor):
            owner = os.pread(descriptor, 4096, 0).decode(errors="replace").strip()
            raise LockedError(f"{out} is in use by another run ({owner or 'owner unknown'})")
        owner = f"{socket.gethostname()}, process {os.getpid()}, since {_now()}"
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{owner}\n".encode(), 0)
        yield owner
        os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def _take(descriptor: int) -> bool:
    """Lock a file, also where somebody is just looking whether it is locked."""
    for _ in range(3):
        if portable.try_lock(descriptor) is not False:
            return True
        time.sleep(LOOK)
    return False


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def is_locked(out: Path) -> bool:
    """Return whether a run works in an output folder; where locks are unknown, whether it says so.

    Nothing is changed.
    """
    try:
        descriptor = os.open(out / STATE_FOLDER / "lock", portable.READ_FLAGS)
    except OSError:
        return False
    try:
        locked = portable.is_locked(descriptor)
        return bool(os.fstat(descriptor).st_size) if locked is None else locked
    finally:
        os.close(descriptor)
