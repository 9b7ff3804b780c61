"""Tasks on their way: a bounded number, their results in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

from masterframe import cluster


def run_in_order(
    tasks: Iterable[Any], runner: cluster.Runner, in_flight: int | None = None
) -> Iterator[Any]:
    """Run tasks, a bounded number at a time, and yield their results in order.

    If a result raises, or the caller stops, what has begun is left to finish unseen.
    """
    most = in_flight or 2 * runner.workers
    waiting: deque[cluster.Task] = deque()
    for task in tasks:
        waiting.append(runner.submit(task))
        if len(waiting) >= most:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
