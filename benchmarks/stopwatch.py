"""Clocks of the compute phase: from the first band asked for to the last one written."""

from __future__ import annotations

import contextlib
import time

import psutil

from masterframe import store


class Stopwatch(store.Silent):
    """A reporter that notes when the bands of each product began and when its last one was written.

    Products follow one another.
    """

    def __init__(self) -> None:
        self.began: dict[str, tuple[float, float]] = {}
        self.ended: dict[str, tuple[float, float]] = {}
        self._name, self._left = "", 0

    def begin(self, name: str, total_bytes: int, steps: int) -> None:
        """Note the beginning."""
        self._name, self._left = name, steps
        self.began[name] = now()

    def advance(self, done_bytes: int) -> None:
        """Count; note the end with the last band: to look at all processes takes some time."""
        self._left -= 1
        if not self._left:
            self.ended[self._name] = now()

    def spent(self) -> dict[str, tuple[float, float]]:
        """Return wall and processor time (s) of each product."""
        return {
            name: (ended[0] - self.began[name][0], ended[1] - self.began[name][1])
            for name, ended in self.ended.items()
        }


def now() -> tuple[float, float]:
    """Return the time, and what this process and those below it have had of processors (s)."""
    spent = 0.0
    me = psutil.Process()
    for each in [me, *me.children(recursive=True)]:
        with contextlib.suppress(psutil.Error):
            spent += sum(each.cpu_times()[:2])
    return time.perf_counter(), spent
