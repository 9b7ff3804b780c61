"""Reading ahead: the system is told which bytes of the frames will be wanted next.

It brings them into the page cache while the program is still loading, or combines what came before,
so that disk and processors are busy at the same time; no memory of the process is taken. Whatever
goes wrong here goes wrong again where the file is read, and is reported there.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator, Sequence

STEP = 4 << 20
"""Bytes of one file that are asked for at once: fewer cost calls, and heads of disks their way."""
WINDOW = 2 << 30
"""Bytes of all files that are asked for before they are read."""
EARLY = 512 << 20
"""The same while the program itself is still being loaded."""
ROUND = 256 << 20
"""Bytes of all files that are on their way at once. A disk that is asked for all gives it in the
order of the disk, and what is wanted first comes last (60 cold files of 34 MB: the first band after
1.5 s with 2 GB on their way, after 0.6 s with 256 MB)."""
AT_ONCE = 128 << 10
"""Bytes of one call: of more, Linux (mm/readahead.c) reads what the device takes at once or its
readahead, whatever is larger, and leaves out the rest."""
LEAST = 128 << 10
"""Bytes of one file below which asking costs more than it saves; the first round has as many, since
the headers are wanted at once."""


class Walker:
    """Asks for the bytes of files that will be read side by side from their beginning.

    Parameters
    ----------
    paths : sequence of path
        The files.
    window : int
        Bytes of all files that may be asked for before they are read, up to `WINDOW`.
    """

    def __init__(self, paths: Sequence[str | os.PathLike[str]], window: int) -> None:
        self._paths = list(paths)
        count = max(len(self._paths), 1)
        self._span = max(min(window, WINDOW) // count, LEAST)
        self._most = min(STEP, self._span, max(ROUND // count, LEAST))
        self._asked, self._step, self._longest = 0, min(LEAST, self._most), 1
        self._read = 0.0
        self._ended = False
        self._moved = threading.Condition()
        self._thread = threading.Thread(target=self._walk, name="masterframe-ahead", daemon=True)
        if hasattr(os, "posix_fadvise"):
            self._thread.start()

    def reach(self, fraction: float) -> None:
        """Say which part of every file has been read."""
        with self._moved:
            self._read = fraction
            self._moved.notify()

    def end(self) -> None:
        """Ask for no more."""
        with self._moved:
            self._ended = True
            self._moved.notify()

    def _walk(self) -> None:
        while self._asked < self._longest:
            with self._moved:
                self._moved.wait_for(self._may_go_on)
            for path in self._paths:
                if self._ended:
                    return
                self._longest = max(self._longest, _ask(path, self._asked, self._step))
            self._asked += self._step
            self._step = min(2 * self._step, self._most)

    def _may_go_on(self) -> bool:
        least = self._asked + self._step - self._span
        return self._ended or least <= self._read * self._longest


def _ask(path: str | os.PathLike[str], start: int, size: int) -> int:
    """Wait for what was asked for before, and have the system read the next bytes of a file.

    Returns
    -------
    int
        How long the file is, 0 where it is none.
    """
    with contextlib.suppress(OSError, ValueError):
        if not os.path.isfile(path):  # noqa: PTH113 - to open what is none can hang
            return 0
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            length = os.fstat(descriptor).st_size
            end = min(start + size, length)
            if start < end and not _is_cached(descriptor, end - 1):
                if start:
                    os.pread(descriptor, 1, start - 1)
                for place in range(start, end, AT_ONCE):
                    os.posix_fadvise(descriptor, place, AT_ONCE, os.POSIX_FADV_WILLNEED)
            return length
        finally:
            os.close(descriptor)
    return 0


def _is_cached(descriptor: int, place: int) -> bool:
    """Return whether a byte of a file is in the page cache, and so what is before it, as a rule."""
    try:
        return os.preadv(descriptor, [bytearray(1)], place, os.RWF_NOWAIT) == 1
    except (AttributeError, OSError):  # a system that cannot tell, or has not got it
        return False


@contextlib.contextmanager
def walking(paths: Sequence[str | os.PathLike[str]], window: int) -> Iterator[Walker]:
    """Read ahead as long as the block lasts; the arguments are those of `Walker`."""
    walker = Walker(paths, window)
    try:
        yield walker
    finally:
        walker.end()
