"""Waiting for workers: for the first one, and for others where all have gone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from masterframe.errors import ClusterLostError

Note = Callable[[str], None]
"""Tells the observer a line."""
LOOK_SECONDS = 5.0
"""How often it is looked whether there are workers, while a task is waited for (s)."""
FIRST_LOOK_SECONDS = 0.2
"""The same before the first worker has come."""
REMIND_SECONDS = 60.0
"""After which it is said again that nobody has come; then after twice that time, and so on."""


def silent(text: str) -> None:
    """Tell nobody."""


def await_first(
    client: Any,
    what: str,
    seconds: float,
    note: Note,
    explain: Callable[[], tuple[str, ...]] = tuple,
    why_none_comes: Callable[[], str] = str,
) -> None:
    """Wait until a worker has come.

    Parameters
    ----------
    client : distributed.Client
        An open client.
    what : str
        Who is waited for, in words: ``2 jobs of SLURMCluster``.
    seconds : float
        Time (s) that they have.
    note : callable
        Is told that somebody is waited for, and again from time to time.
    explain : callable
        Returns lines that may say why nobody comes.
    why_none_comes : callable
        Returns why nobody can come any more, '' where somebody may.

    Raises
    ------
    ClusterLostError
        If none has come in time, or none can come.
    """
    began = time.monotonic()
    remind = REMIND_SECONDS
    if not client.nthreads():
        note(f"waiting for {what}, {seconds:g} s at most")
    while not client.nthreads():
        waited = time.monotonic() - began
        reason = why_none_comes()
        if reason:
            raise ClusterLostError(_with(f"{what}: {reason}", explain()))
        if waited > seconds:
            raise ClusterLostError(
                _with(
                    f"{what}: none has begun to work within {seconds:g} s; they may still wait in "
                    "a queue (raise wait), or fail",
                    explain(),
                )
            )
        if waited > remind:
            note(f"still waiting for {what}, for {waited:.0f} s now")
            remind *= 2
        time.sleep(FIRST_LOOK_SECONDS)


class Attendance:
    """Whether a scheduler has workers, and for how long it has had none.

    Parameters
    ----------
    client : distributed.Client
        An open client.
    patience : float
        Time (s) for which there may be none.
    note : callable
        Is told when all have gone, and when others have come.
    why_none_comes : callable
        Returns why nobody can come any more, '' where somebody may.
    """

    def __init__(
        self,
        client: Any,
        patience: float,
        note: Note,
        why_none_comes: Callable[[], str] = str,
    ) -> None:
        self._client = client
        self._patience = patience
        self._note = note
        self._why_none_comes = why_none_comes
        self._gone = False
        self._lock = threading.Lock()

    def absent_since(self, before: float | None) -> float | None:
        """Return since when there is no worker, None where there are some.

        Parameters
        ----------
        before : float, optional
            What it returned when it was last asked in the same wait.

        Raises
        ------
        ClusterLostError
            If that is too long, or none can come.
        """
        gone = not self._client.nthreads()
        self._tell(gone)
        if not gone:
            return None
        reason = self._why_none_comes()
        if reason:
            raise ClusterLostError(
                f"{self._client.scheduler.address}: {reason}; a second run goes on with what is "
                "not done"
            )
        now = time.monotonic()
        since = now if before is None else before
        if now - since >= self._patience:
            raise ClusterLostError(
                f"all workers of {self._client.scheduler.address} have gone, and none came back "
                f"within {self._patience:g} s; a second run goes on with what is not done"
            )
        return since

    def have_worked(self) -> None:
        """Take note that a task is done, by a worker who need not be there any more."""
        if self._gone:
            self._tell(gone=False)

    def _tell(self, gone: bool) -> None:
        """Tell of a change once, whoever found it."""
        with self._lock:
            changed, self._gone = gone != self._gone, gone
        if changed:
            self._note(
                f"all workers have gone; waiting for others, {self._patience:g} s at most"
                if gone
                else "workers have come back"
            )


def _with(reason: str, told: tuple[str, ...]) -> str:
    return f"{reason}; their logs say: {' / '.join(told)}" if told else reason
