"""Print what a second worker gains, and what Dask's scheduler costs beside threads.

What is timed is the compute phase of a master: from the first band that is asked for to the last
one that is written. Start-up, imports and the loading of kernels come before. The two sides of a
comparison take turns, each pair in the other order than the last; ratios are within a pair.
Processor time is that of all processes, driver and scheduler included: on a machine that others
use it is what to compare. What a version is to reach on a quiet machine, in wall time: one worker
over two 1.7 and more; processes over threads 1.2 at most (1.6 with ``--frames 60``).
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import masterframe as mf
from masterframe import cluster, store
from memory import Case, make_names
from stopwatch import Stopwatch

PAIRS = (
    ("threads, 1 over 2", ("threads", 1), ("threads", 2)),
    ("processes, 1 over 2", ("processes", 1), ("processes", 2)),
    ("processes over threads", ("processes", 2), ("threads", 2)),
)
"""Name of a comparison, and its sides: scheduler and workers."""


TICK = 0.01
"""Least processor time that the system tells (s)."""


def compute_seconds(
    paths: Sequence[Path], output: Path, resources: store.Resources
) -> tuple[float, float]:
    """Combine frames by the default rule; return wall and processor time of the compute phase."""
    watch = Stopwatch()
    mf.write_master(
        output, mf.open_stack(paths), resources=replace(resources, reporter=watch), overwrite=True
    )
    (spent,) = watch.spent().values()
    return spent


def row(
    name: str, first: Sequence[tuple[float, float]], second: Sequence[tuple[float, float]]
) -> str:
    """Return a line: medians of wall and processor time, and ratios of the pairs."""
    text = f"{name:24}"
    for one, other in zip(zip(*first, strict=True), zip(*second, strict=True), strict=True):
        ratios = sorted(a / max(b, TICK) for a, b in zip(one, other, strict=True))
        text += f" {statistics.median(one):7.2f} {statistics.median(other):7.2f}"
        text += f" {statistics.median(ratios):6.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
    return text


def main() -> None:
    """Make frames and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--size", type=int, default=4096, help="rows and columns of a frame")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    print(f"load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        paths = make_names(folder, Case(options.frames, options.size, ""))
        output = folder / "master.fits"
        memory = cluster.default_memory()
        opened = {
            side: stack.enter_context(store.open_resources(side[0], workers=side[1], memory=memory))
            for side in sorted({side for _, *pair in PAIRS for side in pair})
        }
        for resources in opened.values():
            compute_seconds(paths, output, resources)  # loads kernels, fills the page cache
        print(f"{'comparison':24}    wall (s), ratio (range)             processors", flush=True)
        for name, *pair in PAIRS:
            found: dict[tuple[str, int], list[tuple[float, float]]] = {side: [] for side in pair}
            for number in range(options.rounds):
                for side in pair if number % 2 else reversed(pair):
                    found[side].append(compute_seconds(paths, output, opened[side]))
            print(row(name, *found.values()), flush=True)


if __name__ == "__main__":
    main()
