"""What a run may use: where tasks run, the memory, and who is told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from masterframe import cluster, console
from masterframe.cluster.performance import check_report, performance_report
from masterframe.model import ClusterSpec
from masterframe.progress import Reporter, Silent
from masterframe.tiling import format_bytes


@dataclass(frozen=True)
class Resources:
    """What a run may use."""

    runner: cluster.Runner
    """Where tasks run."""
    memory: int
    """Resident memory that the process may reach (bytes)."""
    reporter: Reporter = field(default_factory=Silent)
    """Who is told how the work goes."""
    lanes: int = 1
    """Products that are made at the same time, and share the memory."""
    scratch: Path | None = None
    """Folder for plain copies of compressed inputs; None: one that lasts as long as the process."""


@contextmanager
def open_resources(
    scheduler: str | ClusterSpec = "threads",
    *,
    workers: int | None = None,
    memory: int | None = None,
    dashboard: bool = False,
    insecure: bool = False,
    reporter: Reporter | None = None,
    performance: Path | None = None,
) -> Iterator[Resources]:
    """Open what a run works with.

    Parameters
    ----------
    scheduler, workers, memory, dashboard, insecure
        As for `cluster.open_runner`.
    reporter : Reporter, optional
        Who is told how the work goes.
    performance : Path, optional
        Page of Dask's that is written at the end: what every worker did when.
    """
    limit = memory or cluster.default_memory()
    with ExitStack() as stack:
        if performance:
            check_report(performance, threads=scheduler == "threads" and not dashboard)
        runner = stack.enter_context(
            cluster.open_runner(
                scheduler,
                workers=workers,
                memory=limit,
                dashboard=dashboard,
                insecure=insecure,
                note=(reporter or Silent()).note,
            )
        )
        if performance:
            stack.enter_context(performance_report(performance))
        asked = workers or cluster.available_cores()
        if scheduler == "processes" and runner.workers < asked:
            (reporter or Silent()).note(
                f"{runner.workers} of {asked} workers: {format_bytes(limit)} of memory do "
                "not suffice for more processes"
            )
        yield Resources(runner, limit, reporter or Silent())


@contextmanager
def use_resources(given: Resources | None = None) -> Iterator[Resources]:
    """Use what is given, else the Dask client that is active, else threads.

    A notebook is told how the work goes, below its cell.
    """
    if given:
        yield given
        return
    runner = cluster.active_runner()
    more = cluster.default_memory() + cluster.resident_bytes()  # whatever the program holds
    with console.open_cell_reporter() as reporter:
        if runner:
            yield Resources(runner, more, reporter)
        else:
            with open_resources(memory=more, reporter=reporter) as resources:
                yield resources
