"""What has been done, and by whom: product tokens and the lock of an output folder."""

from __future__ import annotations

import hashlib
import json
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from masterframe.errors import LockedError, StorageError
from masterframe.fits import portable
from masterframe.model import ALGORITHM_VERSION

STATE_FOLDER = ".masterframe"
"""Folder of an output folder that holds the lock, the journal and scratch files (0700)."""


def product_token(
    recipe: Any, masters: Mapping[str, str], datasums: Sequence[tuple[str, int]]
) -> str:
    """Return the name of a product's contents: equal tokens mean equal pixels.

    Parameters
    ----------
    recipe : dataclass or JSON value
        The resolved recipe: everything that decides how pixels are made.
    masters : mapping
        Token of each master that goes in, by its role.
    datasums : sequence of (str, int)
        Name of the image and DATASUM of each input; their order does not matter.

    Returns
    -------
    str
        40 hexadecimal digits. Times and folders of the inputs are no part of it, so that touching
        or moving a file remakes nothing.
    """
    record = {
        "version": ALGORITHM_VERSION,
        "recipe": asdict(recipe)
        if is_dataclass(recipe) and not isinstance(recipe, type)
        else recipe,
        "masters": dict(masters),
        "inputs": sorted(datasums),
    }
    text = json.dumps(record, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:40]


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


@contextmanager
def lock(out: Path) -> Iterator[None]:
    """Hold an output folder for one run; the lock goes with the process, however that ends.

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
        if portable.try_lock(descriptor) is False:
            owner = os.pread(descriptor, 4096, 0).decode(errors="replace").strip()
            raise LockedError(f"{out} is in use by another run ({owner or 'owner unknown'})")
        started = datetime.now(UTC).isoformat(timespec="seconds")
        os.ftruncate(descriptor, 0)
        os.pwrite(
            descriptor,
            f"{socket.gethostname()}, process {os.getpid()}, since {started}\n".encode(),
            0,
        )
        yield
        os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)
