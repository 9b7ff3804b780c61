"""How far a master has come, kept on the disk: a later run goes on from there.

Bands are finished in the order of their rows, so that one row and a few sums a frame tell all of
them. What is claimed was brought to the disk before; the newest claim takes the place of the older
one with a rename. A claim is made once a second at most, beside the work: short jobs make none.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from masterframe.errors import StorageError
from masterframe.fits import documents

SECONDS = 1.0
"""Time between two claims, at least."""
SHARE = 20
"""A claim takes at most one part in so many of the time."""


class Written(Protocol):
    """A file that is being written."""

    @property
    def identity(self) -> tuple[int, int]:
        """What tells it from any other file in its place."""

    def sync(self) -> None:
        """Bring to the disk what was written so far."""


class Claim(NamedTuple):
    """What a journal says of a file."""

    identity: tuple[int, int]
    """The file."""
    progress: dict[str, Any]
    """How far it has come."""


def read_claim(path: Path, fingerprint: str) -> Claim | None:
    """Return what an earlier run claimed; None where that is of other work, or cannot be believed.

    Parameters
    ----------
    path : Path
        The journal.
    fingerprint : str
        What decides the pixels: plan, inputs, program.
    """
    document = documents.read_document(path)
    if document is None or document["fingerprint"] != fingerprint:
        return None
    inode, size = document["identity"]
    return Claim((inode, size), document["progress"])


class BandJournal:
    """Claims how far a file has come.

    Parameters
    ----------
    path : Path
        Where the claims are kept.
    file : Written
        The file.
    fingerprint : callable
        Returns what decides its pixels; called once, where there is something to claim.
    claimed : bool
        The file was taken up where an earlier claim left it.
    """

    def __init__(
        self, path: Path, file: Written, fingerprint: Callable[[], str], *, claimed: bool = False
    ) -> None:
        self.path = path
        self.claimed = claimed
        self._file = file
        self._fingerprint = fingerprint
        self._next = time.monotonic() + SECONDS
        self._pool: ThreadPoolExecutor | None = None
        self._pending: Future[None] | None = None

    def reached(self, progress: Callable[[], dict[str, Any]]) -> None:
        """Claim what is written by now, where that is due.

        Parameters
        ----------
        progress : callable
            Returns how far the file has come, in the types of JSON.

        Raises
        ------
        StorageError
            If the disk failed the claim before.
        """
        if self._pending and self._pending.done():
            self._wait()
        if self._pending or time.monotonic() < self._next:
            return
        self._pool = self._pool or ThreadPoolExecutor(1, thread_name_prefix="masterframe-journal")
        self._pending = self._pool.submit(self._claim, progress())

    def settle(self, progress: Callable[[], dict[str, Any]]) -> None:
        """Claim what is written by now before this returns, where something has been claimed.

        Raises
        ------
        StorageError
            If the disk fails.
        """
        self._wait()
        if self.claimed:
            self._claim(progress())

    def withdraw(self, progress: Callable[[], dict[str, Any]]) -> None:
        """Claim less, before this returns: what was claimed will be changed in its place.

        Raises
        ------
        StorageError
            If the disk fails.
        """
        self._wait()
        if self.claimed:
            self._write(progress())

    def close(self) -> None:
        """Wait for the claim that is being made; whether it failed does not matter any more."""
        if self._pool:
            self._pool.shutdown(wait=True)

    def remove(self) -> None:
        """Take back all claims: the file has its name, or will not be taken up."""
        with contextlib.suppress(OSError):
            self.path.unlink()

    def _wait(self) -> None:
        pending, self._pending = self._pending, None
        if pending:
            pending.result()

    def _claim(self, progress: dict[str, Any]) -> None:
        began = time.monotonic()
        self._file.sync()
        self._write(progress)
        ended = time.monotonic()
        self._next = ended + max(SECONDS, SHARE * (ended - began))

    def _write(self, progress: dict[str, Any]) -> None:
        document = {
            "fingerprint": self._fingerprint(),
            "identity": self._file.identity,
            "progress": progress,
        }
        try:
            documents.write_document(self.path, document)
        except OSError as error:
            reason = error.strerror or error
            raise StorageError(f"{self.path}: cannot be written ({reason})") from None
        self.claimed = True
