"""Print what a task of a cluster costs besides its work, and whether the driver grows with them.

Workers are processes of this machine, started as by ``--scheduler processes``: scheduler and driver
are this process. First tasks that do nothing, or give back planes as large as those of a band; then
masters of bands of a single row, with all that the driver does for each: one band a task, and as
many as a run takes together. A bounded number is on its way, as in a run.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import masterframe as mf
from masterframe import cluster, store, tiling
from masterframe.cluster import clients
from masterframe.store.tasks import run_in_order
from memory import write_holes

COLUMNS = 64
"""Of the frames with many rows."""
FRAMES = 5, 1000
"""Frames of a master; of the many, fewer bands are enough."""


def band(rows: int, columns: int) -> dict[str, Any]:
    """Return planes of the types of a master."""
    kinds = {"data": np.float32, "uncert": np.float32, "mask": np.uint8, "count": np.int32}
    return {name: np.zeros((rows, columns), kind) for name, kind in kinds.items()}


def calls(name: str, count: int, rows: int, columns: int) -> Iterator[cluster.Call]:
    """Yield tasks that give back planes of so many rows; none for 0."""
    for number in range(count):
        yield cluster.Call(f"mf-{name}-{number}", partial(band, rows, columns))


def run_tasks(runner: cluster.Runner, name: str, count: int, shape: tuple[int, int]) -> None:
    """Run tasks that give back planes."""
    for _ in run_in_order(calls(name, count, *shape), runner):
        pass


def write_stack(folder: Path, frames: int, rows: int) -> list[Path]:
    """Write frames of many short rows, which take no place on the disk."""
    folder.mkdir()
    paths = [folder / f"frame_{number:04}.fits" for number in range(frames)]
    for path in paths:
        write_holes(path, (rows, COLUMNS))
    return paths


def measure(name: str, count: int, work: Callable[[], object]) -> None:
    """Print a row: wall time and processor time of this process for each, and its memory."""
    wall, spent = time.perf_counter(), time.process_time()
    work()
    wall, spent = time.perf_counter() - wall, time.process_time() - spent
    print(
        f"{name:34} {count:7d} {1e3 * wall / count:9.2f} {1e3 * spent / count:9.2f} "
        f"{cluster.resident_bytes() / 1e6:9.0f}",
        flush=True,
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--tasks", type=int, nargs="*", default=[1000, 20_000])
    options = parser.parse_args()
    tiling.BAND_BYTES = tiling.READ_BYTES = 1  # bands of one row, as where memory is short
    print(f"{'what':34}   tasks   ms wall    ms cpu driver MB", flush=True)
    with (
        tempfile.TemporaryDirectory() as scratch,
        store.open_resources("processes", workers=options.workers) as resources,
    ):
        for shape in ((0, 0), (16, 4096)):
            size = sum(plane.nbytes for plane in band(*shape).values())
            for count in options.tasks:
                tasks = partial(run_tasks, resources.runner, f"{size}-{count}", count, shape)
                measure(f"tasks that give {size / 1e6:.2f} MB", count, tasks)
        for grain in (0, clients.GRAIN):
            clients.GRAIN = grain
            how = "together" if grain else "one a task"
            for frames in FRAMES:
                for count in options.tasks if frames == FRAMES[0] else options.tasks[:1]:
                    folder = Path(scratch, f"{grain}-{frames}-{count}")
                    stack = mf.open_stack(write_stack(folder, frames, count))
                    target = folder / "master.fits"
                    master = partial(mf.write_master, target, stack, resources=resources)
                    measure(f"bands of {frames} frames, {how}", count, master)


if __name__ == "__main__":
    main()
