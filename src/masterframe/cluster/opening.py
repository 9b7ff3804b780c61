"""From a scheduler setting to what runs tasks, and the end of it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from masterframe.cluster import attendance, jobqueue, machine, security
from masterframe.cluster.clients import ClientRunner
from masterframe.cluster.tasks import Runner
from masterframe.cluster.threads import ThreadRunner
from masterframe.cluster.versions import check_versions
from masterframe.errors import ClusterLostError, UsageError
from masterframe.model import Certificates, ClusterSpec

MESSAGES = 10
"""Messages that are remembered of each connection of Dask."""
CONNECT_SECONDS = 10
"""Time in which a scheduler is to answer, and to have a worker (s)."""


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
    count = workers or machine.available_cores()
    if isinstance(scheduler, ClusterSpec):
        processes = int(scheduler.options.get("processes", 1))
        expected = 0 if scheduler.address else scheduler.jobs * processes
        opened = _cluster_client(scheduler, insecure, note)
        with _frugal(), _quiet_connections(), opened as (client, why):
            check_versions(client)
            yield ClientRunner(
                client,
                expected=expected,
                patience=scheduler.wait_again,
                note=note,
                why_none_comes=why,
            )
    elif scheduler == "threads" and not dashboard:
        runner = ThreadRunner(count)
        try:
            yield runner
        finally:
            runner.close()
    elif scheduler in ("threads", "processes"):
        if scheduler == "processes" and memory:
            count = machine.fitting_processes(count, memory)
        with _frugal(), _local_client(scheduler == "processes", count, dashboard) as client:
            yield ClientRunner(client, local=True, note=note)
    elif "://" in scheduler:
        spec = ClusterSpec(address=scheduler, wait=CONNECT_SECONDS)
        with _frugal(), _remote_client(spec, insecure, note) as client:
            check_versions(client)
            yield ClientRunner(client, note=note)
    else:
        raise UsageError(
            f"--scheduler {scheduler} is unknown: give threads, processes, an address such as "
            "tcp://127.0.0.1:8786, or the YAML file of a cluster"
        )


@contextmanager
def _cluster_client(
    spec: ClusterSpec, insecure: bool, note: attendance.Note
) -> Iterator[tuple[Any, Callable[[], str]]]:
    """Yield a client of the cluster that is described, once it has a worker.

    With it comes what tells why no other worker can come, '' where one may.
    """
    if spec.address:
        with _remote_client(spec, insecure, note) as client:
            yield client, str
    elif spec.cluster == jobqueue.RUNNER:
        with jobqueue.open_allocation(spec, note=note) as client:
            yield client, str
    else:
        with jobqueue.open_jobs(spec, insecure=insecure, note=note) as (client, watch):
            yield client, watch.why_none_comes


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
            silence_logs=logging.CRITICAL,  # what is lost when a worker ends is said by who waits
            # its HTTP server runs without a dashboard, too, and all would want the same port
            scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},
            **loopback,
        ) as cluster,
        Client(cluster, direct_to_workers=True) as client,  # planes do not pass the scheduler
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
    with _quiet_connections(), client:
        attendance.await_first(client, f"workers of {spec.address}", spec.wait, note)
        yield client


@contextmanager
def _frugal() -> Iterator[None]:
    """Have Dask remember few of the messages that it sent: they hold whole tasks, for each worker.

    A thousand of them, its default, are hundreds of megabytes where a task names many frames.
    """
    import dask
    import distributed  # noqa: F401 - brings the defaults that are changed here

    with dask.config.set({"distributed.admin.low-level-log-length": MESSAGES}):
        yield


@contextmanager
def _quiet_connections() -> Iterator[None]:
    """Keep tracebacks of a lost connection off the screen: what it means is said in one line.

    The scheduler of batch jobs is in this process, and tells of connections that it closes itself.
    """
    logs = [logging.getLogger(f"distributed.{name}") for name in ("client", "batched")]
    before = [log.level for log in logs]
    for log in logs:
        log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for log, level in zip(logs, before, strict=True):
            log.setLevel(level)
