"""What happens in a run, as it happens: a line of JSON each, for `masterframe status` and programs.

Times are UTC. A file that cannot be written ends no run: a full disk is found by what matters more.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from masterframe import cluster, journal, portable
from masterframe.progress import Reporter

NAME = "events.jsonl"
"""The event log, in the private folder of an output folder; runs append to it."""
LARGEST = 16 << 20
"""Bytes from which on a run begins a new log; the last one is kept beside it."""
SECONDS = 1.0
"""Progress of a product is noted this often, at most."""

RUN_STARTED, RUN_ENDED = "run started", "run ended"
PRODUCT_STARTED, BANDS_DONE, PRODUCT_ENDED = "product started", "bands done", "product ended"
FRAME_LEFT_OUT = "frame left out"
WORKERS_SAMPLED = "workers sampled"
SAMPLE_SECONDS = 5.0
"""Workers are sampled this often (s), ..."""
SAMPLED_OFTEN = 20
"""... where there are no more than so many: of twice as many half as often."""


class EventLog:
    """Appends events to a stream, whole lines at a time.

    Parameters
    ----------
    stream : text stream, optional
        Where they go; None: nowhere.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def write(self, event: str, **facts: Any) -> None:
        """Note an event with its time."""
        if self._stream is None:
            return
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = json.dumps({"time": now, "event": event, **facts})
        with self._lock, contextlib.suppress(OSError):
            self._stream.write(line + "\n")
            self._stream.flush()


@contextmanager
def open_log(out: Path, **facts: Any) -> Iterator[EventLog]:
    """Open the event log of an output folder for one run, whose start and end it notes.

    Parameters
    ----------
    out : Path
        Output folder, locked by the caller.
    facts
        What is known of the run when it starts.
    """
    path = journal.state_folder(out) / NAME
    with contextlib.ExitStack() as stack:
        stream = None
        with contextlib.suppress(OSError):
            if path.exists() and path.stat().st_size > LARGEST:
                path.replace(path.with_suffix(".old"))
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | portable.NO_FOLLOW
            stream = stack.enter_context(os.fdopen(os.open(path, flags, 0o600), "a"))
            if stream.tell():
                stream.write("\n")  # the last line may have been cut
        log = EventLog(stream)
        log.write(RUN_STARTED, **facts)
        try:
            yield log
        except BaseException as error:
            reason = str(error) or type(error).__name__
            log.write(RUN_ENDED, exit_code=getattr(error, "exit_code", None), reason=reason)
            raise


def read_last_run(out: Path) -> list[dict[str, Any]]:
    """Return the events of the last run in an output folder; empty where there was none."""
    try:
        text = (out / journal.STATE_FOLDER / NAME).read_text(encoding="ascii", errors="replace")
    except OSError:
        return []
    found: list[dict[str, Any]] = []
    for line in text.splitlines():
        try:
            event = json.loads(line)
        except ValueError:  # a line that was cut by a kill
            continue
        if event.get("event") == RUN_STARTED:
            found = []
        found.append(event)
    return found


@contextmanager
def sampling(log: EventLog, runner: cluster.Runner) -> Iterator[None]:
    """Note from time to time, beside the work, how much memory workers hold and how fast they read.

    Parameters
    ----------
    log : EventLog
        Where it is noted.
    runner : Runner
        Who knows the workers.
    """
    ended = threading.Event()
    thread = threading.Thread(target=_sample, args=(log, runner, ended), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _sample(log: EventLog, runner: cluster.Runner, ended: threading.Event) -> None:
    before: dict[str, tuple[float, int]] = {}
    pause = SAMPLE_SECONDS
    while not ended.wait(pause):
        samples, now = runner.sample(), time.monotonic()
        if samples:
            workers = [_facts(sample, now, before.get(sample.worker)) for sample in samples]
            log.write(WORKERS_SAMPLED, workers=workers)
        before = {each.worker: (now, each.read) for each in samples if each.read is not None}
        pause = SAMPLE_SECONDS * max(1.0, len(samples) / SAMPLED_OFTEN)


def _facts(sample: cluster.Sample, now: float, before: tuple[float, int] | None) -> dict[str, Any]:
    rate = None
    if before and sample.read is not None:
        rate = round((sample.read - before[1]) / (now - before[0]))
    return {"worker": sample.worker, "memory": sample.memory, "rate": rate}


class NotingReporter:
    """A reporter that also notes the progress of one product in the event log.

    Parameters
    ----------
    reporter : Reporter
        Who is told besides.
    log : EventLog
        Where it is noted.
    product : str
        Name of the product in the plan.
    """

    def __init__(self, reporter: Reporter, log: EventLog, product: str) -> None:
        self.note = reporter.note
        self._reporter, self._log, self._product = reporter, log, product
        self._steps = self._bytes = 0
        self._last = time.monotonic()

    def begin(self, name: str, total_bytes: int, steps: int) -> None:
        """Note what begins."""
        self._steps = self._bytes = 0
        self._log.write(PRODUCT_STARTED, product=self._product, bytes=total_bytes, bands=steps)
        self._reporter.begin(name, total_bytes, steps)

    def advance(self, done_bytes: int) -> None:
        """Count, and note how far the product has come where the last note is old."""
        self._steps += 1
        self._bytes += done_bytes
        now = time.monotonic()
        if now - self._last >= SECONDS:
            self._last = now
            self._log.write(
                BANDS_DONE,
                product=self._product,
                bands=self._steps,
                bytes=self._bytes,
                memory=cluster.resident_bytes(),
            )
        self._reporter.advance(done_bytes)
