"""From a scheduler setting to something that runs tasks; nothing else knows schedulers."""

from __future__ import annotations

import ctypes
import logging
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from masterframe.cluster import attendance, jobqueue, security
from masterframe.errors import ClusterLostError, TaskLostError, UsageError
from masterframe.model import Certificates, ClusterSpec

MOST_MEMORY = 4 * 10**9
"""Memory (bytes) that a run takes at most where nobody says how much."""
M_TRIM, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
"""Options of mallopt (malloc.h of glibc)."""
KEPT_BYTES = 8 << 20
"""What an arena may keep of small arrays that were freed: with less, it gives back and clears the
same pages for every band. `masterframe.tiling.ARENA_BYTES` counts it."""
PROCESS_BYTES = 280 * 10**6
"""Resident memory of one process with its kernels loaded, before it reads a pixel."""
SHARE_BYTES = 32 * 10**6
"""What is left for pixels, at least, of each worker process."""
CONNECT_SECONDS = 10
"""Time in which a scheduler is to answer, and to have a worker (s)."""
PATIENCE = 300.0
"""Time for which all workers may be gone where no file says another (s)."""
SAME = ("masterframe", "numpy", "numba", "dask", "distributed")
"""Packages whose versions are the same here and on all workers."""
COPIES = 4
"""Times that a result is in memory on its way from a worker process: there, serialized, received,
and as it is used."""


@dataclass(frozen=True, slots=True)
class Call:
    """A task that needs no graph: a function of no arguments, as `functools.partial` makes it."""

    key: str
    """Its name, whose beginning (``mf-combine``) is the label on the dashboard."""
    function: Callable[[], Any]
    """What is called; it pickles."""


class Task(Protocol):
    """A task on its way: a `concurrent.futures.Future` or a distributed one."""

    def result(self) -> Any:
        """Return what the task gave, or raise what it raised."""


class Runner(Protocol):
    """Runs tasks somewhere."""

    workers: int
    """Tasks that run at the same time."""
    dashboard: str
    """Address of the dashboard, '' without one."""

    def submit(self, task: Any) -> Task:
        """Start a `Call`, or a `dask.delayed` object whose graph is culled to it."""

    def footprint(self, ready: Callable[[], object]) -> Footprint:
        """Measure what the memory is shared with, once `ready` has been called everywhere."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """What tasks share the memory of a run with."""

    held: int
    """Resident bytes before any pixel is read: of all processes, or of one worker of a cluster."""
    workers: int
    """Tasks that run in this memory at the same time."""
    copies: int = 1
    """Times that the result of a task is in memory on its way to the driver."""
    divisible: bool = True
    """Whether fewer of them may run."""
    machines: int = 1
    """Memories of this kind that work at the same time: the workers of a cluster."""


class ThreadRunner:
    """Runs tasks on threads of this process: kernels and reads release the GIL."""

    dashboard = ""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="masterframe")

    def submit(self, task: Any) -> Task:
        """Start a task on the next free thread."""
        if isinstance(task, Call):
            return self._pool.submit(task.function)
        return self._pool.submit(task.compute, scheduler="synchronous", optimize_graph=False)

    def footprint(self, ready: Callable[[], object]) -> Footprint:
        """Measure this process."""
        settle_allocator()
        ready()
        return Footprint(resident_bytes(), self.workers)

    def close(self) -> None:
        """Drop what has not begun and wait for what has."""
        self._pool.shutdown(wait=True, cancel_futures=True)


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
    """

    def __init__(
        self,
        client: Any,
        *,
        local: bool = False,
        expected: int = 0,
        patience: float | None = None,
        note: attendance.Note = attendance.silent,
    ) -> None:
        self._client = client
        patience = PATIENCE if patience is None else patience
        self._attendance = attendance.Attendance(client, patience, note)
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
            processes = {os.getpid(): resident_bytes(), **dict(found)}
            return Footprint(sum(processes.values()), self.workers, COPIES)
        held = max(size for _, size in found)
        threads = self.workers // self._machines
        return Footprint(held, threads, divisible=False, machines=self._machines)

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
        since = None
        while True:
            try:
                done = self._future.result(timeout=attendance.LOOK_SECONDS)
                self._workers.have_worked()
                return done
            except TimeoutError:
                if self._future.done():
                    raise  # of the task itself
            since = self._workers.absent_since(since)


def _lost(address: str) -> ClusterLostError:
    return ClusterLostError(
        f"the scheduler at {address} is lost; a second run goes on with what is not done"
    )


def _on_loopback(link: str) -> str:
    """Return the address of a local dashboard: Dask names the machine, where nobody listens."""
    parts = urlsplit(link)
    return parts._replace(netloc=f"{security.LOOPBACK}:{parts.port}").geturl() if link else ""


def available_cores() -> int:
    """Return the processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def default_memory() -> int:
    """Return half of the memory that is available to this process, at most 4 GB."""
    return min(available_memory() // 2, MOST_MEMORY)


def available_memory() -> int:
    """Return the memory that this process could still take: of the machine, and of its cgroups."""
    pages = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for line in _lines(Path("/proc/meminfo")):
        if line.startswith("MemAvailable:"):  # counts the page cache, which gives way
            pages = int(line.split()[1]) * 1024
    return min([pages, *_left_in_cgroups(Path("/proc/self/cgroup"), Path("/sys/fs/cgroup"))])


def _left_in_cgroups(membership: Path, root: Path) -> Iterator[int]:
    """Yield what each limit leaves of the memory, of the process's own group and all above it.

    The page cache of a group counts in its usage, but gives way like that of the machine.
    """
    for line in _lines(membership):
        _, controllers, path = line.split(":", 2)
        if not controllers:
            top, limit, usage = root, "memory.max", "memory.current"
        elif "memory" in controllers.split(","):
            top, limit, usage = root / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
        else:
            continue
        group = top / path.lstrip("/")
        for folder in [group, *group.parents]:
            if not folder.is_relative_to(top):
                break
            most, used = _number(folder / limit), _number(folder / usage)
            if most is not None and used is not None:
                yield max(most - used + _cache_in(folder / "memory.stat"), 0)


def _cache_in(path: Path) -> int:
    """Return the bytes of file pages that a group could give back."""
    fields = dict(line.split(maxsplit=1) for line in _lines(path) if " " in line)
    prefix = "total_" if "total_inactive_file" in fields else ""
    return sum(int(fields.get(f"{prefix}{part}_file", 0)) for part in ("active", "inactive"))


def _number(path: Path) -> int | None:
    """Return the number in a file; None where there is none, or ``max``."""
    lines = _lines(path)
    return int(lines[0]) if lines and lines[0].isdigit() else None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


def _ready_and_resident(ready: Callable[[], object]) -> tuple[int, int]:
    """Return the process and its resident bytes, once `ready` was called."""
    settle_allocator()
    ready()
    return os.getpid(), resident_bytes()


def settle_allocator() -> None:
    """Have large arrays given back to the system as they are freed; glibc alone needs to be told.

    Left alone it keeps ever larger blocks, and an arena for each thread: memory that nobody uses.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for option, value in ((M_ARENA_MAX, 2), (M_MMAP_THRESHOLD, 1 << 20), (M_TRIM, KEPT_BYTES)):
            mallopt(option, value)


def resident_bytes() -> int:
    """Return the memory that this process holds now."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return peak_bytes()


def peak_bytes() -> int:
    """Return the most memory that this process has held."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


@contextmanager
def open_runner(
    scheduler: str | ClusterSpec = "threads",
    *,
    workers: int | None = None,
    memory: int | None = None,
    dashboard: bool = False,
    insecure: bool = False,
    note: attendance.Note = attendance.silent,
) -> Iterator[Runner]:
    """Open what runs the tasks, and close it at the end.

    Parameters
    ----------
    scheduler : str or ClusterSpec
        ``threads``, ``processes`` (a local cluster on loopback), the address of a scheduler, or a
        cluster of batch jobs.
    workers : int, optional
        Threads or processes; by default the processors available.
    memory : int, optional
        Memory of all workers together (bytes), for ``processes``.
    dashboard : bool
        Serve Dask's dashboard on loopback; with threads this starts an in-process cluster.
    insecure : bool
        Also where others can reach the ports in plain text.
    note : callable
        Is told that workers are waited for.

    Raises
    ------
    UsageError
        If the scheduler is unknown.
    ClusterLostError
        If it cannot be reached, or has no workers.
    """
    count = workers or available_cores()
    if isinstance(scheduler, ClusterSpec):
        processes = int(scheduler.options.get("processes", 1))
        expected = 0 if scheduler.address else scheduler.jobs * processes
        with _quiet_client(), _cluster_client(scheduler, insecure, note) as client:
            check_versions(client)
            yield ClientRunner(client, expected=expected, patience=scheduler.wait_again, note=note)
    elif scheduler == "threads" and not dashboard:
        runner = ThreadRunner(count)
        try:
            yield runner
        finally:
            runner.close()
    elif scheduler in ("threads", "processes"):
        if scheduler == "processes" and memory:
            count = fitting_processes(count, memory)
        with _local_client(scheduler == "processes", count, dashboard) as client:
            yield ClientRunner(client, local=True, note=note)
    elif "://" in scheduler:
        spec = ClusterSpec(address=scheduler, wait=CONNECT_SECONDS)
        with _remote_client(spec, insecure, note) as client:
            check_versions(client)
            yield ClientRunner(client, note=note)
    else:
        raise UsageError(
            f"--scheduler {scheduler} is unknown: give threads, processes, an address such as "
            "tcp://127.0.0.1:8786, or the YAML file of a cluster"
        )


def fitting_processes(workers: int, memory: int) -> int:
    """Return how many worker processes to start, one at least: each holds the program anew."""
    return max(1, min(workers, (memory - PROCESS_BYTES) // (PROCESS_BYTES + SHARE_BYTES)))


def _cluster_client(
    spec: ClusterSpec, insecure: bool, note: attendance.Note
) -> AbstractContextManager[Any]:
    """Return what yields a client of the cluster that is described, once it has a worker."""
    if spec.address:
        return _remote_client(spec, insecure, note)
    if spec.cluster == jobqueue.RUNNER:
        return jobqueue.open_allocation(spec, note=note)
    return jobqueue.open_jobs(spec, insecure=insecure, note=note)


def join(scheduler: str | ClusterSpec, *, insecure: bool = False) -> None:
    """Be scheduler or worker where this process is to be one; else return at once.

    Called before any work begins: the tasks of an allocation all run the same command, and only
    one of them carries it out (`masterframe.cluster.jobqueue.serve`).
    """
    if isinstance(scheduler, ClusterSpec) and scheduler.cluster == jobqueue.RUNNER:
        jobqueue.serve(scheduler, insecure=insecure)


@contextmanager
def _local_client(processes: bool, workers: int, dashboard: bool) -> Iterator[Any]:
    from distributed import Client, LocalCluster

    loopback = {"host": "127.0.0.1"} if processes else {}
    with (
        LocalCluster(
            n_workers=workers if processes else 1,
            threads_per_worker=1 if processes else workers,
            processes=processes,
            memory_limit=0,  # distributed would pause workers near it: the band planner keeps it
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
def _remote_client(spec: ClusterSpec, insecure: bool, note: attendance.Note) -> Iterator[Any]:
    from distributed import Client

    secured = spec.address.startswith("tls://")
    if spec.tls == "made":
        raise UsageError(f"{spec.source}: tls: made is for clusters that are started; name files")
    if not secured:
        security.check_exposure(spec, insecure)
    given = {}
    if isinstance(spec.tls, Certificates):  # else those of Dask's own configuration
        given = {"security": security.security_of(spec, Path())}
    try:
        client = Client(spec.address, timeout=CONNECT_SECONDS, **given)
    except (OSError, ValueError, TypeError) as error:
        raise ClusterLostError(
            f"the scheduler at {spec.address} cannot be reached: {error}"
        ) from None
    with _quiet_client(), client:
        attendance.await_first(client, f"workers of {spec.address}", spec.wait, note)
        yield client


def check_versions(client: Any) -> None:
    """Refuse workers that run another program than this one: their results could differ.

    Raises
    ------
    UsageError
        With the worker, and both versions.
    """
    compare_versions(client.get_versions(packages=list(SAME)))


def compare_versions(found: Mapping[str, Any]) -> None:
    """Compare the versions of all workers with those of the client.

    Parameters
    ----------
    found : mapping
        What `distributed.Client.get_versions` gave.

    Raises
    ------
    UsageError
        If any of `SAME`, or Python, differs.
    """
    ours = found["client"]["packages"]
    for address, worker in found["workers"].items():
        for name in (*SAME, "python"):
            theirs = worker["packages"].get(name)
            if theirs != ours.get(name):
                raise UsageError(
                    f"the worker at {address} has {name} {theirs or '(none)'}, this program "
                    f"{ours.get(name)}: install the same on both"
                )


@contextmanager
def _quiet_client() -> Iterator[None]:
    """Keep tracebacks of a lost connection off the screen: what it means is said in one line."""
    log = logging.getLogger("distributed.client")
    before = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(before)


def active_runner() -> Runner | None:
    """Return a runner for the client that is active in this process, None without one."""
    if "distributed" not in sys.modules:
        return None
    from distributed import get_client

    try:
        return ClientRunner(get_client())
    except ValueError:
        return None
