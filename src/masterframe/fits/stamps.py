"""What the system says of a file, by which one that has not changed is known without opening it."""

from __future__ import annotations

import os
import stat
import time
from typing import NamedTuple

TICK_NS = 2_000_000_000
"""Coarsest clock of a file system (ns): a file may change twice in it and show one time."""


class Stamp(NamedTuple):
    """Size, times and number of a file; any change of it changes one of them.

    The time of the last change of its facts (ctime) cannot be set by a program: one that alters a
    file and puts its time back is found by it.
    """

    size: int
    """Bytes."""
    mtime_ns: int
    """Time of the last change of its contents (ns)."""
    ctime_ns: int
    """Time of the last change of its contents, name or rights (ns)."""
    inode: int
    """Its number in its file system."""

    def is_settled(self, now_ns: int) -> bool:
        """Return whether any later change would show: the file was left alone for a while.

        What is written in the same tick of the clock as the last change leaves no trace. So a file
        that was read at `now_ns` is known by its stamp only if it had been older than a tick; where
        the clock is one of whole seconds, perhaps of another machine, than thirty.
        """
        ticks = 1 if self.ctime_ns % 1_000_000_000 else 30
        return max(self.mtime_ns, self.ctime_ns) < now_ns - ticks * TICK_NS

    @property
    def is_fine(self) -> bool:
        """Whether its times are finer than seconds, as those of most file systems are."""
        return bool(self.mtime_ns % 1_000_000_000 and self.ctime_ns % 1_000_000_000)


def stamp_of(about: os.stat_result) -> Stamp:
    """Return the stamp in what the system says of a file."""
    return Stamp(about.st_size, about.st_mtime_ns, about.st_ctime_ns, about.st_ino)


def look_at(path: str | os.PathLike[str], *, follow: bool = True) -> Stamp | None:
    """Return the stamp of a regular file; None where there is none.

    Parameters
    ----------
    path : path
        The file.
    follow : bool
        Where it is a link, look at what it leads to; else a link is no regular file.
    """
    try:
        about = os.stat(path, follow_symlinks=follow)  # noqa: PTH116 - half the time of pathlib's
    except (OSError, ValueError):  # ValueError: a NUL in its name
        return None
    return stamp_of(about) if stat.S_ISREG(about.st_mode) else None


def now() -> int:
    """Return the time (ns) with which `Stamp.is_settled` compares."""
    return time.time_ns()
