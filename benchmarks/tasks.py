"""Print what a task of a cluster costs besides its work, and whether the driver grows with them.

Workers are processes of this machine, started as by ``--scheduler processes``: scheduler and driver
are this process. Tasks do nothing, or give back planes as large as those of a band, and a bounded
number of them is on its way, as in a run.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from masterframe import cluster, store
from masterframe.store.tasks import run_in_order


def band(rows: int, columns: int) -> dict[str, Any]:
    """Return planes of the types of a master."""
    kinds = {"data": np.float32, "uncert": np.float32, "mask": np.uint8, "count": np.int32}
    return {name: np.zeros((rows, columns), kind) for name, kind in kinds.items()}


def calls(name: str, count: int, rows: int, columns: int) -> Iterator[cluster.Call]:
    """Yield tasks that give back planes of so many rows; none for 0."""
    for number in range(count):
        yield cluster.Call(f"mf-{name}-{number}", partial(band, rows, columns))


def measure(runner: cluster.Runner, name: str, count: int, shape: tuple[int, int]) -> str:
    """Return a row: tasks, wall time and processor time of this process for each, its memory."""
    wall, spent = time.perf_counter(), time.process_time()
    for _ in run_in_order(calls(name, count, *shape), runner):
        pass
    wall, spent = time.perf_counter() - wall, time.process_time() - spent
    size = sum(plane.nbytes for plane in band(*shape).values())
    return (
        f"{count:7d} {size / 1e6:9.2f} {1e3 * wall / count:9.2f} {1e3 * spent / count:9.2f} "
        f"{cluster.resident_bytes() / 1e6:9.0f}"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--tasks", type=int, nargs="*", default=[1000, 20_000])
    options = parser.parse_args()
    with store.open_resources("processes", workers=options.workers) as resources:
        print("  tasks MB a task   ms wall    ms cpu driver MB", flush=True)
        for shape in ((0, 0), (16, 4096)):
            for count in options.tasks:
                name = f"{shape[0]}-{count}"
                print(measure(resources.runner, name, count, shape), flush=True)


if __name__ == "__main__":
    main()
