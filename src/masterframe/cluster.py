"""From a scheduler setting to something that runs tasks; nothing else knows schedulers."""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from masterframe.errors import ClusterLostError, UsageError


class Task(Protocol):
    """A task on its way: a `concurrent.futures.Future` or a distributed one."""

    def add_done_callback(self, function: Any) -> None:
        """Call a function with the task once it is done."""

    def result(self) -> Any:
        """Return what the task gave, or raise what it raised."""


class Runner(Protocol):
    """Runs Dask tasks somewhere."""

    workers: int
    """Tasks that run at the same time."""
    dashboard: str
    """Address of the dashboard, '' without one."""

    def submit(self, task: Any) -> Task:
        """Start one `dask.delayed` object whose graph is culled to it."""


class ThreadRunner:
    """Runs tasks on threads of this process: kernels and reads release the GIL."""

    dashboard = ""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="masterframe")

    def submit(self, task: Any) -> Task:
        """Start a task on the next free thread."""
        return self._pool.submit(task.compute, scheduler="synchronous", optimize_graph=False)

    def close(self) -> None:
        """Drop what has not begun and wait for what has."""
        self._pool.shutdown(wait=True, cancel_futures=True)


class ClientRunner:
    """Runs tasks through a distributed client that somebody else opened."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.dashboard = client.dashboard_link or ""
        self.workers = sum(client.nthreads().values())
        if not self.workers:
            raise ClusterLostError(f"no worker has joined {client.scheduler.address}")

    def submit(self, task: Any) -> Task:
        """Send a task to the scheduler."""
        future: Task = self._client.compute(task, optimize_graph=False, retries=2)
        return future


def available_cores() -> int:
    """Return the processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def default_memory() -> int:
    """Return half of the memory that is available to this process, at most 4 GB."""
    pages = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        available = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}
        pages = available["MemAvailable"]  # counts the page cache, which gives way
    except (OSError, KeyError, ValueError, IndexError):
        pass
    return min(pages // 2, 4 * 10**9)


def resident_bytes() -> int:
    """Return the memory that this process holds now."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


@contextmanager
def open_runner(
    scheduler: str = "threads",
    *,
    workers: int | None = None,
    memory: int | None = None,
    dashboard: bool = False,
) -> Iterator[Runner]:
    """Open what runs the tasks, and close it at the end.

    Parameters
    ----------
    scheduler : str
        ``threads``, ``processes`` (a local cluster on loopback) or the address of a scheduler.
    workers : int, optional
        Threads or processes; by default the processors available.
    memory : int, optional
        Memory of all workers together (bytes), for ``processes``.
    dashboard : bool
        Serve Dask's dashboard on loopback; with threads this starts an in-process cluster.

    Raises
    ------
    UsageError
        If the scheduler is unknown.
    ClusterLostError
        If it cannot be reached, or has no workers.
    """
    count = workers or available_cores()
    if scheduler == "threads" and not dashboard:
        runner = ThreadRunner(count)
        try:
            yield runner
        finally:
            runner.close()
    elif scheduler in ("threads", "processes"):
        with _local_client(scheduler == "processes", count, memory, dashboard) as client:
            yield ClientRunner(client)
    elif "://" in scheduler:
        with _remote_client(scheduler) as client:
            yield ClientRunner(client)
    else:
        raise UsageError(
            f"--scheduler {scheduler} is unknown: give threads, processes or an address "
            "such as tcp://127.0.0.1:8786"
        )


@contextmanager
def _local_client(
    processes: bool, workers: int, memory: int | None, dashboard: bool
) -> Iterator[Any]:
    from distributed import Client, LocalCluster

    loopback = {"host": "127.0.0.1"} if processes else {}
    with (
        LocalCluster(
            n_workers=workers if processes else 1,
            threads_per_worker=1 if processes else workers,
            processes=processes,
            # distributed pauses workers near their limit; the band planner keeps well below it
            memory_limit=memory // workers if processes and memory else 0,
            dashboard_address="127.0.0.1:0" if dashboard else None,
            worker_dashboard_address="127.0.0.1:0" if dashboard else None,
            # its HTTP server runs without a dashboard, too, and all would want the same port
            scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},
            **loopback,
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


@contextmanager
def _remote_client(address: str) -> Iterator[Any]:
    from distributed import Client

    try:
        client = Client(address, timeout="10s")
    except (OSError, ValueError) as error:
        raise ClusterLostError(f"the scheduler at {address} cannot be reached: {error}") from None
    with client:
        yield client


def active_runner() -> Runner | None:
    """Return a runner for the client that is active in this process, None without one."""
    if "distributed" not in sys.modules:
        return None
    from distributed import get_client

    try:
        return ClientRunner(get_client())
    except ValueError:
        return None
