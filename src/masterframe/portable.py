"""POSIX calls with what stands in for them elsewhere: positioned reads, allocation, locks.

Linux has them all. macOS lacks ``posix_fallocate`` (and ``preadv`` before version 11); Windows is
served through WSL, so that the stand-ins there only keep imports and simple reads alive.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows without WSL
    fcntl = None  # type: ignore[assignment, unused-ignore]

READ_FLAGS = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)
"""For `os.open` of input. O_NONBLOCK means nothing for a regular file, but a FIFO that was put in
its place since it was looked at does not hang the open."""

NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)
"""For `os.open` where a link may have been put in the place of a file."""


def read_into(descriptor: int, view: memoryview, offset: int) -> int:
    """Fill a writable buffer of bytes from a file, from an offset on.

    Parameters
    ----------
    descriptor : int
        File open for reading.
    view : memoryview
        Contiguous bytes that are filled.
    offset : int
        First byte in the file.

    Returns
    -------
    int
        Bytes that were read; fewer than asked for only where the file ends. Short reads are
        continued, as a call gives 2 GiB at most; Python itself repeats interrupted ones.
    """
    done = 0
    while done < len(view):
        count = _read_some(descriptor, view[done:], offset + done)
        if count == 0:
            break
        done += count
    return done


def _read_some(descriptor: int, view: memoryview, offset: int) -> int:
    if hasattr(os, "preadv"):
        return os.preadv(descriptor, [view], offset)
    os.lseek(descriptor, offset, os.SEEK_SET)
    data = os.read(descriptor, len(view))
    view[: len(data)] = data
    return len(data)


def allocate(descriptor: int, size: int) -> None:
    """Give a new file its full size, and its place on the disk where the system can reserve it.

    Raises
    ------
    OSError
        ENOSPC where the disk is too full.
    """
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
    else:
        os.ftruncate(descriptor, size)


def sync_data(descriptor: int) -> None:
    """Bring the data of a file to the disk, and of its facts what is needed to read them."""
    getattr(os, "fdatasync", os.fsync)(descriptor)  # macOS has no fdatasync


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk, where the system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def try_lock(descriptor: int) -> bool | None:
    """Lock a file for this process alone; return False where another one holds it.

    The lock ends with the descriptor. Where the file system knows no locks, None is returned.
    """
    if fcntl is not None:
        with contextlib.suppress(OSError):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            return True
    return None


def is_locked(descriptor: int) -> bool | None:
    """Return whether another process has locked a file; None where nobody knows."""
    if fcntl is not None:
        with contextlib.suppress(OSError):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            fcntl.flock(descriptor, fcntl.LOCK_UN)
            return False
    return None


def wait_for_lock(descriptor: int) -> None:
    """Lock a file for this thread alone, once whoever holds it lets go, where there are locks."""
    if fcntl is not None:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
