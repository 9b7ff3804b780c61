"""What is run, and what runs it: the types that everything else knows of a scheduler."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol


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
