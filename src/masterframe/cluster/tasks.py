"""What is run, and what runs it: the types that everything else knows of a scheduler."""

from __future__ import annotations

import pickle
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Protocol

OPENED = 16
"""Shared functions that a process keeps open: masters that are made at the same time take turns."""


@dataclass(frozen=True, slots=True)
class Call:
    """A task that needs no graph: a function of no arguments, as `functools.partial` makes it."""

    key: str
    """Its name, whose beginning (``mf-combine``) is the label on the dashboard."""
    function: Callable[[], Any]
    """What is called; it pickles."""


class Shared:
    """A function that many tasks call, with all that it holds: pickled once for all of them.

    A list of thousands of frames takes longer to pickle than a band of them to combine, and a
    scheduler would unpickle it, too. It is given bytes, which each worker opens once.

    Parameters
    ----------
    function : callable
        What is called; it pickles.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        """Call it here."""
        return self._function(*arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        """Arrive elsewhere as bytes."""
        return _Sealed, (self._packed,)

    @cached_property
    def _packed(self) -> bytes:
        return zlib.compress(pickle.dumps(self._function), level=1)


@dataclass(frozen=True, slots=True)
class _Sealed:
    """A `Shared` function that has arrived in another process, or is on its way through it."""

    packed: bytes

    def __call__(self, *arguments: Any) -> Any:
        return _opened(self.packed)(*arguments)


@lru_cache(maxsize=OPENED)
def _opened(packed: bytes) -> Callable[..., Any]:
    function: Callable[..., Any] = pickle.loads(zlib.decompress(packed))  # noqa: S301 - our own
    return function


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

    def sample(self) -> list[Sample]:
        """Return what workers hold and have done; of those that cannot be asked, nothing."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What a worker, or the process that runs threads, holds and has done so far."""

    worker: str
    """Its name."""
    memory: int
    """Resident memory (bytes)."""
    read: int | None
    """Bytes that it has read of files since it started; None where the system does not count."""


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
    grain: int = 0
    """Bytes that a task should read, at least: each costs some time besides its work."""
    machines: int = 1
    """Memories of this kind that work at the same time: the workers of a cluster."""
    here: bool = True
    """Whether all of it is on this machine, where files may be read ahead for it."""
