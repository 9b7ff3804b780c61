"""Clusters of batch jobs: started as a file says, kept at their size, and ended with the run."""

from __future__ import annotations

import atexit
import contextlib
import os
import shlex
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from masterframe import scratchfolder
from masterframe.cluster import attendance, security
from masterframe.cluster.queue import ENDED, JobWatch
from masterframe.errors import ClusterLostError, UsageError
from masterframe.model import ClusterSpec
from masterframe.names import unknown

RUNNER = "SLURMRunner"
"""Not a cluster that starts jobs, but one that the tasks of a job make of themselves."""
LOST_WORKER_TIMEOUT = "2s"
"""After which a job that is gone is replaced; distributed waits 15 s by default."""
CLIENT_RANK = 1
DAY = 86400.0
UNLOCKED = {"jobs-*": DAY, "allocation-*": 30 * DAY}
"""What has no lock, by the time (s) after which nobody's run can need it: folders of versions that
had no locks, and what the tasks of an allocation tell each other."""


@contextmanager
def open_jobs(
    spec: ClusterSpec, *, insecure: bool = False, note: attendance.Note = attendance.silent
) -> Iterator[tuple[Any, JobWatch]]:
    """Start the jobs of a cluster, yield a client once one works and its jobs, and end them.

    Jobs that are lost (killed, or at the end of their time) are replaced.

    Parameters
    ----------
    spec : ClusterSpec
        The cluster.
    insecure : bool
        Also with ports that others can reach in plain text.
    note : callable
        Is told that jobs are waited for.

    Raises
    ------
    UsageError
        If there is no such class, its options are wrong, or its ports would be open to others.
    ClusterLostError
        If no worker comes in time, or all jobs end before; with the end of their logs.
    """
    import dask
    from distributed import Client

    kind = _cluster_class(spec)
    security.check_exposure(spec, insecure)
    _sweep_unlocked()
    with scratchfolder.open_folder(_private_folder()) as folder:
        certificate = security.security_of(spec, folder / "tls.pem")
        options = _options(spec, kind, folder, insecure) | {"security": certificate}
        with (
            dask.config.set({"distributed.deploy.lost-worker-timeout": LOST_WORKER_TIMEOUT}),
            _started(kind, options, spec) as cluster,
            Client(cluster, security=certificate, direct_to_workers=True) as client,
        ):
            watch = JobWatch(cluster, spec, folder, note)
            cluster.adapt(minimum_jobs=spec.jobs, maximum_jobs=spec.jobs)
            attendance.await_first(
                client,
                f"{spec.source}: {spec.jobs} jobs of {spec.cluster}",
                spec.wait,
                note,
                partial(_end_of_logs, Path(options["log_directory"])),
                watch.why_none_begins,
            )
            yield client, watch


def _cluster_class(spec: ClusterSpec) -> Any:
    try:
        with _own_interrupt():
            import dask_jobqueue
    except ImportError:
        raise UsageError(
            f"{spec.source}: {spec.cluster} comes with dask-jobqueue: pip install "
            "'masterframe[slurm]'"
        ) from None
    base = dask_jobqueue.JobQueueCluster
    known = {
        name: kind
        for name, kind in vars(dask_jobqueue).items()
        if isinstance(kind, type) and issubclass(kind, base) and kind is not base
    }
    if spec.cluster not in known:
        raise UsageError(f"{spec.source}: {unknown('cluster', spec.cluster, [*known, RUNNER])}")
    kind: Any = known[spec.cluster]
    submit = shlex.split(kind.job_cls.submit_command or "")[:1]
    if submit and shutil.which(submit[0]) is None:
        raise UsageError(
            f"{spec.source}: {spec.cluster} submits jobs by {submit[0]}, which is not found on "
            "this machine: run where jobs can be submitted"
        )
    return kind


def _options(spec: ClusterSpec, kind: Any, folder: Path, insecure: bool) -> dict[str, Any]:
    """Return what the class is called with: what the file says, over one core and one process.

    A job whose script ends by itself leaves a mark: queues tell of it each in its own way.
    """
    import dask

    given = dict(spec.options)
    scheduler = dict(given.pop("scheduler_options", None) or {})
    scheduler.setdefault("dashboard_address", security.ANY_FREE_PORT)
    extra = list(given.pop("worker_extra_args", None) or [])
    if not insecure or "--dashboard-address" not in extra:
        extra += ["--dashboard-address", security.ANY_FREE_PORT]
    name = given.get("config_name") or kind.job_cls.default_config_name()
    prologue = given.pop("job_script_prologue", None) or dask.config.get(
        f"jobqueue.{name}.job-script-prologue", None
    )
    marked = f"trap 'mktemp {shlex.quote(str(folder))}/{ENDED}XXXXXX >/dev/null 2>&1' EXIT"
    defaults = {
        "cores": 1,
        "processes": 1,
        "interface": security.interface_of(spec),
        "local_directory": str(folder),
        "log_directory": str(folder),
    }
    made = {
        "scheduler_options": scheduler,
        "worker_extra_args": extra,
        "job_script_prologue": [marked, *(prologue or [])],
    }
    return {**defaults, **given, **made}


@contextmanager
def _started(kind: Any, options: dict[str, Any], spec: ClusterSpec) -> Iterator[Any]:
    """Start the scheduler; what its class makes of wrong options is a line for the user."""
    try:
        cluster = kind(**options)
    except (TypeError, ValueError, OSError, RuntimeError) as error:
        raise UsageError(f"{spec.source}: {spec.cluster} cannot be started: {error}") from None
    with cluster:
        yield cluster


def _end_of_logs(folder: Path) -> tuple[str, ...]:
    return tuple(line for path in sorted(folder.glob("*.err")) for line in _last_lines(path))


def _last_lines(path: Path, count: int = 5) -> list[str]:
    with contextlib.suppress(OSError):
        return path.read_text(errors="replace").splitlines()[-count:]
    return []


def serve(spec: ClusterSpec, *, insecure: bool = False) -> None:
    """Be the scheduler or a worker, to the end, where this process is that one of an allocation.

    All tasks of the allocation run the same program. Task 1 becomes the client: here it returns at
    once, and `open_allocation` gives it the client. The others never return. A worker that begins
    when the run has ended already ends, too, by itself.

    Raises
    ------
    UsageError
        Outside an allocation, in one of fewer than 3 tasks, or if its ports would be open to
        others.
    ClusterLostError
        If no scheduler comes for the client in time.
    """
    rank, tasks = (os.environ.get(name, "") for name in ("SLURM_PROCID", "SLURM_NTASKS"))
    if not rank or not tasks:
        raise UsageError(
            f"{spec.source}: {RUNNER} works inside an allocation: sbatch a script with "
            "srun masterframe ..., as configs/slurm_batch.sh"
        )
    if int(tasks) < 3:
        raise UsageError(
            f"{spec.source}: {RUNNER} needs 3 tasks or more (scheduler, client, workers), not "
            f"{tasks}: sbatch -n 4"
        )
    security.check_exposure(spec, insecure)
    if _rank() == CLIENT_RANK:
        atexit.register(_join_allocation(spec).close)
        return
    if _rank() == 0:
        _sweep_unlocked()
        atexit.register(_forget_allocation)
        _runner(spec)
    else:
        _work(spec)
    sys.exit(0)


def _work(spec: ClusterSpec) -> None:
    """Be a worker until the run has ended, which may have been before this task began."""
    try:
        _runner(spec)
    except (ClusterLostError, TimeoutError) as error:
        sys.stderr.write(f"task {_rank()} leaves without having worked: {error}\n")


def _join_allocation(spec: ClusterSpec) -> Any:
    """Return a client that is there as long as this process is: the others end without it."""
    from distributed import Client

    runner = _runner(spec)
    runner.scheduler_comm = None  # it knows no TLS: the client ends the others instead
    return Client(runner.scheduler_address, security=_allocation_security(spec))


@contextmanager
def open_allocation(
    spec: ClusterSpec, *, note: attendance.Note = attendance.silent
) -> Iterator[Any]:
    """Yield a client of the cluster that the tasks of this allocation make; end it afterwards.

    Parameters
    ----------
    spec : ClusterSpec
        The cluster; `serve` has been called.
    note : callable
        Is told that workers are waited for.
    """
    from distributed import default_client

    client = default_client()
    try:
        workers = int(os.environ["SLURM_NTASKS"]) - 2
        attendance.await_first(client, f"{workers} tasks of {RUNNER}", spec.wait, note)
        yield client
    finally:
        client.shutdown()


def _forget_allocation() -> None:
    """Remove what tells the tasks of this allocation of each other, however its run has ended."""
    for kind in ("pem", "json"):
        _shared_file(kind).unlink(missing_ok=True)


def _runner(spec: ClusterSpec) -> Any:
    """Take the part of this task; only the client's returns."""
    with _own_interrupt() if _rank() == CLIENT_RANK else contextlib.nullcontext():
        from dask_jobqueue.slurm import SLURMRunner  # whose other tasks end by Ctrl-C

    options = {"scheduler_file": str(_shared_file("json"))} | dict(spec.options)
    scheduler, worker = (
        dict(options.pop(name, None) or {}) for name in ("scheduler_options", "worker_options")
    )
    options.pop("interface", None)
    if _rank() != 0:
        _await_scheduler(options["scheduler_file"], spec.wait)
    common = {
        "interface": security.interface_of(spec),
        "security": _allocation_security(spec),
        "dashboard_address": security.ANY_FREE_PORT,
        "protocol": "tcp" if spec.tls == "off" else "tls",
    }
    return SLURMRunner(
        scheduler_options={**common, "plugins": [_leaving_with_the_run()], **scheduler},
        worker_options={"nthreads": 1, "death_timeout": spec.wait, **common, **worker},
        **options,
    )


def _await_scheduler(file: str, seconds: float) -> None:
    """Wait until a scheduler has told its address: SLURMRunner would wait for ever.

    Raises
    ------
    ClusterLostError
        If it has not in time: it has failed, or gone with its run.
    """
    path = Path(file.format(job_id=os.environ.get("SLURM_JOB_ID", "")))
    end = time.monotonic() + seconds
    while not path.exists():
        if time.monotonic() > end:
            raise ClusterLostError(
                f"no scheduler has told its address in {path} within {seconds:g} s; what task 0 "
                "of this allocation prints says why, if its run has not ended"
            )
        time.sleep(0.1)


def _leaving_with_the_run() -> Any:
    """Return what ends a scheduler, and with it the workers, when its client has gone.

    A run that is killed, or finds a mistake before its first task, would leave them until the end
    of the allocation.
    """
    from distributed.diagnostics.plugin import SchedulerPlugin

    class Leaving(SchedulerPlugin):  # type: ignore[misc]
        name = "masterframe-leaving"

        def remove_client(self, scheduler: Any, client: str) -> None:
            scheduler.loop.add_callback(scheduler.close, reason="the run has ended")

    return Leaving()


def _allocation_security(spec: ClusterSpec) -> Any:
    made = _shared_file("pem")
    if _rank() == 0:
        return security.security_of(spec, made)
    return security.await_security(spec, made)


def _rank() -> int:
    return int(os.environ["SLURM_PROCID"])


def _shared_file(kind: str) -> Path:
    """Return a file that all tasks of an allocation see and nobody else reads.

    A job that is put back into the queue keeps its number, and what it left must not be taken for
    what it makes now; the port that its tasks were launched from differs.
    """
    facts = ("JOB_ID", "STEP_ID", "RESTART_COUNT", "STEP_LAUNCHER_PORT")
    name = "-".join(os.environ.get(f"SLURM_{fact}", "0") for fact in facts)
    return _cache() / f"allocation-{name}.{kind}"


def _private_folder() -> Path:
    """Return a folder in the user's home, which jobs see wherever they run, for runs of this host.

    What killed ones have left in it (logs, a key) is removed by the next: a lock tells which, but
    not on every file system what those of other hosts do.
    """
    return _cache() / "jobs" / socket.gethostname()


def _sweep_unlocked() -> None:
    """Remove what killed runs have left that no lock tells of: keys, and logs of jobs."""
    for pattern, age in UNLOCKED.items():
        for path in _cache().glob(pattern):
            with contextlib.suppress(OSError):  # another run was faster
                if time.time() - path.lstat().st_mtime < age:
                    continue
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink()


def _cache() -> Path:
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "masterframe"
    base.mkdir(mode=0o700, parents=True, exist_ok=True)
    return base


@contextmanager
def _own_interrupt() -> Iterator[None]:
    """Keep this program's answer to Ctrl-C: dask_jobqueue takes it away when it is imported."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
