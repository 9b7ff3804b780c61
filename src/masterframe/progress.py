"""Who is told how work goes: the command line draws it, the event log notes it, tests count it."""

from __future__ import annotations

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
