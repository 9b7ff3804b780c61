"""Tasks through a client of Dask: sent, waited for, and what went wrong said in our words."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import CancelledError
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from masterframe.cluster import attendance, machine, security
from masterframe.cluster.tasks import Call, Footprint, Runner, Sample, Task
from masterframe.errors import ClusterLostError, TaskLostError

PATIENCE = 300.0
"""Time for which all workers may be gone where no file says another (s)."""
ANSWER_SECONDS = 3
"""Time in which a scheduler is to say what it knows of its workers (s)."""
READ = "masterframe-read"
"""Metric of a worker: bytes that it has read."""
GRAIN = 128 << 20
"""Bytes that a task reads, at least, where images are large enough: it takes some 0.1 s, beside
which the 3 ms are little that scheduler and driver need for it."""
COPIES = 4
"""Times that a result is in memory on its way from a worker process: there, serialized, received,
and as it is used."""


class ClientRunner:
    """Runs tasks through a distributed client.

    Parameters
    ----------
    client : distributed.Client
        An open client; who opened it closes it.
    local : bool
        Its workers are on this machine and share the memory with this process.
    expected : int
        Workers that it will have; those that are here already may be fewer.
    patience : float, optional
        Time (s) for which all workers may be gone; by default `PATIENCE`.
    note : callable
        Is told when that happens.
    why_none_comes : callable
        Returns why no other worker can come, '' where one may.
    """

    def __init__(
        self,
        client: Any,
        *,
        local: bool = False,
        expected: int = 0,
        patience: float | None = None,
        note: attendance.Note = attendance.silent,
        why_none_comes: Callable[[], str] = str,
    ) -> None:
        self._client = client
        patience = PATIENCE if patience is None else patience
        self._attendance = attendance.Attendance(client, patience, note, why_none_comes)
        self._local = local
        link = client.dashboard_link or ""
        self.dashboard = _on_loopback(link) if local else link
        here = client.nthreads()
        self._machines = max(len(here), expected)
        self.workers = self._machines * max(here.values(), default=0)
        if not self.workers:
            raise ClusterLostError(f"no worker has joined {client.scheduler.address}")

    def submit(self, task: Any) -> Task:
        """Send a task to the scheduler."""
        if isinstance(task, Call):
            future = self._client.submit(task.function, key=task.key, pure=False, retries=2)
        else:
            future = self._client.compute(task, optimize_graph=False, retries=2)
        return _SentTask(future, self._attendance, self._client.scheduler.address)

    def footprint(self, ready: Callable[[], object]) -> Footprint:
        """Measure this process and its workers, or the largest worker of a cluster."""
        ready()
        found = self._everywhere(partial(_ready_and_resident, ready))
        if self._local:
            processes = {os.getpid(): machine.resident_bytes(), **dict(found)}
            return Footprint(sum(processes.values()), self.workers, COPIES, grain=GRAIN)
        held = max(size for _, size in found)
        return Footprint(
            held,
            self.workers // self._machines,
            divisible=False,
            grain=GRAIN,
            machines=self._machines,
            here=all(map(_is_here, self._client.nthreads())),
        )

    def sample(self) -> list[Sample]:
        """Return what workers told the scheduler when they were last heard of."""
        try:
            found = self._client.sync(
                self._client.scheduler.identity, n_workers=-1, callback_timeout=ANSWER_SECONDS
            )
        except (OSError, RuntimeError, CancelledError):
            return []
        return [
            Sample(str(each["name"]), each["metrics"]["memory"], each["metrics"].get(READ))
            for each in found["workers"].values()
            if "memory" in each["metrics"]
        ]

    def _everywhere(self, function: Callable[[], Any]) -> list[Any]:
        """Call a function on all workers that are there; wait for one where none is."""
        since = None
        while True:
            try:
                since = self._attendance.absent_since(since)
                results = self._client.run(function, on_error="return").values()
            except (CancelledError, OSError):
                raise _lost(self._client.scheduler.address) from None
            for result in results:
                if isinstance(result, Exception) and not isinstance(result, OSError):
                    raise result
            found = [result for result in results if not isinstance(result, Exception)]
            if found:  # the others have gone meanwhile
                return found
            time.sleep(1)


class _SentTask:
    """A task of a distributed client, whose errors are ours.

    Parameters
    ----------
    future : distributed.Future
        The task.
    workers : Attendance
        Whether there are workers who could do it.
    address : str
        That of the scheduler.
    """

    def __init__(self, future: Any, workers: attendance.Attendance, address: str) -> None:
        self._future = future
        self._workers = workers
        self._address = address

    def result(self) -> Any:
        """Return what the task gave, or raise what it raised.

        Raises
        ------
        ClusterLostError
            If the scheduler has gone, or all workers have and none comes back.
        TaskLostError
            If every worker that took the task has died.
        """
        from distributed import KilledWorker
        from distributed.comm import CommClosedError

        try:
            return self._wait()
        except KilledWorker as error:
            raise TaskLostError(
                f"{error.allowed_failures + 1} workers that took this task have died; the machine "
                "may have ended them for want of memory: give less --memory, or fewer workers"
            ) from None
        except (CancelledError, CommClosedError):
            raise _lost(self._address) from None

    def _wait(self) -> Any:
        """Return the result, as long as there are workers who could give it."""
        since, seconds = None, attendance.LOOK_SECONDS
        while True:
            try:
                done = self._future.result(timeout=seconds)
                self._workers.have_worked()
                return done
            except (TimeoutError, UnboundLocalError):  # what `sync` of distributed makes of the two
                # at the same moment, the result and the end of the time
                if self._future.status == "error":
                    return self._future.result()  # raises what the task did, be it the same
                if self._future.done():
                    seconds *= 2  # its result is on its way, and takes long
            since = self._workers.absent_since(since)


def _lost(address: str) -> ClusterLostError:
    return ClusterLostError(
        f"the scheduler at {address} is lost; a second run goes on with what is not done"
    )


def _on_loopback(link: str) -> str:
    """Return the address of a local dashboard: Dask names the machine, where nobody listens."""
    parts = urlsplit(link)
    return parts._replace(netloc=f"{security.LOOPBACK}:{parts.port}").geturl() if link else ""


def _is_here(address: str) -> bool:
    """Return whether a worker listens where this machine alone can reach it."""
    parts = urlsplit(address)
    return parts.scheme == "inproc" or parts.hostname == security.LOOPBACK


def _ready_and_resident(ready: Callable[[], object], dask_worker: Any) -> tuple[int, int]:
    """Return the process and its resident bytes, once `ready` was called.

    From now on the worker tells its scheduler how much it reads, with all else that it tells.
    """
    dask_worker.metrics[READ] = _bytes_read
    machine.settle_allocator()
    ready()
    return os.getpid(), machine.resident_bytes()


def _bytes_read(worker: Any) -> int | None:
    return machine.bytes_read()


def active_runner() -> Runner | None:
    """Return a runner for the client that is active in this process, None without one."""
    if "distributed" not in sys.modules:
        return None
    from distributed import get_client

    try:
        return ClientRunner(get_client())
    except ValueError:
        return None
