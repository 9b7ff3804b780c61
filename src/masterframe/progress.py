"""Who is told how work goes: the command line draws it, the event log notes it, tests count it."""

from __future__ import annotations

import threading
from typing import Protocol


class Reporter(Protocol):
    """Is told how the work goes."""

    def begin(self, name: str, total_bytes: int, steps: int) -> None:
        """Start a product that will read so many bytes in so many steps."""

    def advance(self, done_bytes: int) -> None:
        """One step more, of so many bytes, is read and combined."""

    def note(self, text: str) -> None:
        """Something that the observer should know."""


class Silent:
    """A reporter that tells nobody."""

    def begin(self, name: str, total_bytes: int, steps: int) -> None:
        """Say nothing."""

    def advance(self, done_bytes: int) -> None:
        """Say nothing."""

    def note(self, text: str) -> None:
        """Say nothing."""


class Shared:
    """Lets several products tell one reporter how they go on, each from its own thread.

    Parameters
    ----------
    reporter : Reporter
        Hears of all that are made at the moment as one.
    """

    def __init__(self, reporter: Reporter) -> None:
        self.reporter = reporter
        self.lock = threading.Lock()
        self.left: dict[str, int] = {}
        self.ended = False

    def end(self) -> None:
        """Have the products stop where they tell how they go on."""
        self.ended = True


class Sharing:
    """The reporter of one product among several.

    Parameters
    ----------
    shared : Shared
        Whom it tells.
    """

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._name = ""

    def begin(self, name: str, total_bytes: int, steps: int) -> None:
        """Begin one more: what is left of the others counts with it."""
        shared, self._name = self._shared, name
        with shared.lock:
            shared.left[name] = total_bytes
            shared.left = {other: left for other, left in shared.left.items() if left > 0}
            shared.reporter.begin(", ".join(shared.left), sum(shared.left.values()), steps)

    def advance(self, done_bytes: int) -> None:
        """Count.

        Raises
        ------
        KeyboardInterrupt
            If the run ends.
        """
        if self._shared.ended:
            raise KeyboardInterrupt
        with self._shared.lock:
            if self._name in self._shared.left:
                self._shared.left[self._name] -= done_bytes
            self._shared.reporter.advance(done_bytes)

    def note(self, text: str) -> None:
        """Pass it on."""
        with self._shared.lock:
            self._shared.reporter.note(text)
