"""Tasks on threads of this process, without Dask."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from masterframe.cluster import machine
from masterframe.cluster.tasks import Call, Footprint, Sample, Task


class ThreadRunner:
    """Runs tasks on threads of this process: kernels and reads release the GIL."""

    dashboard = ""

    def __init__(self, workers: int) -> None:
        machine.settle_allocator()
        self.workers = workers
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="masterframe")

    def submit(self, task: Any) -> Task:
        """Start a task on the next free thread."""
        if isinstance(task, Call):
            return self._pool.submit(task.function)
        return self._pool.submit(task.compute, scheduler="synchronous", optimize_graph=False)

    def footprint(self, ready: Callable[[], object]) -> Footprint:
        """Measure this process."""
        ready()
        return Footprint(machine.resident_bytes(), self.workers)

    def sample(self) -> list[Sample]:
        """Return what this process holds and has read."""
        return [Sample("threads", machine.resident_bytes(), machine.bytes_read())]

    def close(self) -> None:
        """Drop what has not begun and wait for what has."""
        self._pool.shutdown(wait=True, cancel_futures=True)
