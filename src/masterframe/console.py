"""What is shown while work goes on: a bar in a terminal, lines elsewhere, a line in a notebook."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TextIO

from masterframe.progress import Reporter, Silent
from masterframe.tiling import format_bytes

LINE_SECONDS = 30.0
"""Without a terminal, a line of progress this often."""
CELL_SECONDS = 1.0
"""In a notebook, the line changes this often; shorter work shows none."""


def clean(text: object) -> str:
    """Return a text fit for a terminal: control characters of header values become '?'."""
    shown = str(text)
    return shown if shown.isprintable() else "".join(c if c.isprintable() else "?" for c in shown)


def counted(number: int, what: str) -> str:
    """Return a number of things in words."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


class PlainReporter:
    """Prints a line when something begins, every half minute, and for every note."""

    seconds = LINE_SECONDS
    """Time between two lines of progress."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr  # None where it was closed before the start
        self._name, self._total, self._done = "", 0, 0
        self._began = self._last = 0.0

    def begin(self, name: str, total_bytes: int, steps: int) -> None:
        """Print what begins."""
        self._start(name, total_bytes)
        self._print(f"{name}: {format_bytes(total_bytes)} to read")

    def _start(self, name: str, total_bytes: int) -> None:
        self._name, self._total, self._done = name, total_bytes, 0
        self._began = self._last = time.monotonic()

    def advance(self, done_bytes: int) -> None:
        """Count, and print a line where the last one is old."""
        self._done += done_bytes
        now = time.monotonic()
        if now - self._last >= self.seconds and self._done:
            self._last = now
            rate = self._done / (now - self._began)
            left = max(self._total - self._done, 0) / rate
            self._print(
                f"{self._name}: {self._done / max(self._total, 1):.0%}, "
                f"{format_bytes(rate)}/s, {left:.0f} s left"
            )

    def note(self, text: str) -> None:
        """Print a line."""
        self._print(text)

    def close(self) -> None:
        """Nothing is left on the screen."""

    def _print(self, text: str) -> None:
        with contextlib.suppress(OSError):  # whoever looked on has gone; the work goes on
            if self._stream is not None:
                print(clean(text), file=self._stream, flush=True)


class CellReporter(PlainReporter):
    """Keeps one line below the cell of a notebook, which says how far the work has come.

    Parameters
    ----------
    display : callable
        IPython's.
    """

    seconds = CELL_SECONDS

    def __init__(self, display: Callable[..., Any]) -> None:
        super().__init__()
        self._display = display
        self._line: Any = None

    def begin(self, name: str, total_bytes: int, steps: int) -> None:
        """Say nothing yet: the work may be short."""
        self._start(name, total_bytes)

    def note(self, text: str) -> None:
        """Say nothing: what is worth knowing is in the result."""

    def close(self) -> None:
        """Empty the line."""
        if self._line is not None:
            self._print("")

    def _print(self, text: str) -> None:
        shown = {"text/plain": clean(text)}
        if self._line is None:
            self._line = self._display(shown, raw=True, display_id=True)
        else:
            self._line.update(shown, raw=True)


class BarReporter:
    """Draws a bar with rate and ETA on a terminal."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            SpinnerColumn,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )
        from rich.table import Column

        self._progress = Progress(
            # It turns while the first band is read, or kernels are compiled, and no rate is known.
            SpinnerColumn("line"),
            TextColumn(
                "{task.description}",
                markup=False,
                table_column=Column(no_wrap=True, overflow="ellipsis", ratio=2),
            ),
            BarColumn(bar_width=None, table_column=Column(ratio=1, max_width=40)),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            console=Console(stderr=True),
            transient=True,
            expand=True,
        )
        self._task: Any = None
        self._progress.start()

    def begin(self, name: str, total_bytes: int, steps: int) -> None:
        """Start a bar in the place of the last one, which leaves a line."""
        self._finish()
        self._task = self._progress.add_task(clean(name), total=total_bytes)

    def advance(self, done_bytes: int) -> None:
        """Move the bar."""
        if self._task is not None:
            self._progress.advance(self._task, done_bytes)

    def note(self, text: str) -> None:
        """Print a line above the bar."""
        self._progress.console.print(clean(text), markup=False, highlight=False)

    def close(self) -> None:
        """Take the bar off the screen."""
        self._finish()
        self._progress.stop()

    def _finish(self) -> None:
        """Leave a line in the place of a bar that is full, nothing in that of another."""
        for task in self._progress.tasks:
            if task.finished and task.elapsed:
                size = format_bytes(task.completed)
                rate = format_bytes(task.completed / task.elapsed)
                self.note(f"{task.description}: {size} in {task.elapsed:.1f} s, {rate}/s")
            self._progress.remove_task(task.id)
        self._task = None


@contextmanager
def open_reporter() -> Iterator[PlainReporter | BarReporter]:
    """Give a bar where standard error is a terminal that can draw it, plain lines elsewhere."""
    drawing = sys.stderr and sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"
    reporter = BarReporter() if drawing else PlainReporter()
    try:
        yield reporter
    finally:
        reporter.close()


@contextmanager
def open_cell_reporter() -> Iterator[Reporter]:
    """Give a line below the cell where this is a notebook, and else nothing."""
    ipython: Any = sys.modules.get("IPython")  # a notebook has loaded it
    display: Any = sys.modules.get("IPython.display")
    if not (ipython and display and hasattr(ipython.get_ipython(), "kernel")):
        yield Silent()
        return
    reporter = CellReporter(display.display)
    try:
        yield reporter
    finally:
        reporter.close()


def table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return rows as aligned columns under their titles; empty columns are left out."""
    lines = [titles, *[[clean(cell) for cell in row] for row in rows]]
    kept = [i for i in range(len(titles)) if not rows or any(row[i] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in kept]
    return "\n".join(
        "  ".join(line[i].ljust(width) for i, width in zip(kept, widths, strict=True)).rstrip()
        for line in lines
    )
