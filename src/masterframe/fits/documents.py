"""Small documents that the program keeps for itself: JSON with a check sum, whole or not there."""

from __future__ import annotations

import contextlib
import json
import os
import zlib
from pathlib import Path
from typing import Any

from masterframe import portable


def read_document(path: Path) -> Any:
    """Return what `write_document` was given; None where there is nothing, or it is damaged."""
    try:
        check, _, body = path.read_bytes().partition(b" ")
        return json.loads(body) if int(check, 16) == zlib.crc32(body) else None
    except (OSError, ValueError, RecursionError):
        return None


def write_document(path: Path, document: Any, *, lasting: bool = True) -> None:
    """Write a document whole, in the place of another one.

    Parameters
    ----------
    path : Path
        Where it goes; its folder is there.
    document : JSON value
        What it holds.
    lasting : bool
        It is on the disk before this returns; else a crash of the machine may lose it.

    Raises
    ------
    OSError
        If it cannot be written; another one that was there stays.
    """
    body = json.dumps(document, separators=(",", ":")).encode("ascii")
    new = path.with_suffix(".claim")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | portable.NO_FOLLOW
    try:
        descriptor = os.open(new, flags | getattr(os, "O_CLOEXEC", 0), 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(b"%08x %s" % (zlib.crc32(body), body))
            stream.flush()
            if lasting:
                portable.sync_data(descriptor)
        new.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            new.unlink()
        raise
    if lasting:
        portable.sync_folder(path.parent)
