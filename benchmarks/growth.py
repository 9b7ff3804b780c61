"""Print how the cost of a master grows with the number and the size of its frames.

One property is varied at a time. For each case: time of the whole call without imports, wall and
processor time of the compute phase (from the first band asked for to the last one written), both
per value that is combined. Each run is a process of its own; each figure is the least of several.

Usage: python benchmarks/growth.py [--shrink 1] [--rounds 3]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from compare import warm
from masterframe import direct, store
from masterframe.model import Recipe
from masterframe.request import Request
from stopwatch import Stopwatch
from suite import Case, make_frames

CASES = [
    *(Case("frames", f"{count} frames", frames=count) for count in (10, 60, 300, 1000)),
    *(Case("size", f"{size}", size=size) for size in (1024, 2048, 8192)),
]
MEMORY = 1_000_000_000
"""Limit of every run (bytes)."""


def combine(folder: str) -> None:
    """Combine the frames of a folder, and print its clocks as JSON."""
    watch, files = Stopwatch(), sorted(str(path) for path in Path(folder).glob("in_*"))
    request = Request(tuple(files), Path(folder, "master.fits"), Recipe(), overwrite=True)
    began = time.perf_counter()
    with store.open_resources("threads", memory=MEMORY) as resources:
        direct.combine_files(request, replace(resources, reporter=watch))
    whole = time.perf_counter() - began
    ((wall, spent),) = watch.spent().values()
    print(json.dumps([whole, wall, spent]))


def measure(case: Case, rounds: int) -> list[float]:
    """Return the least of each clock of a case (s)."""
    with tempfile.TemporaryDirectory() as place:
        frames = make_frames(Path(place), case)
        command = [sys.executable, __file__, "--folder", place]
        found = []
        for _ in range(rounds + 1):  # the first may compile
            warm(frames)
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            found.append(json.loads(done.stdout))
    return [min(clock) for clock in zip(*found[1:], strict=True)]


def main() -> None:
    """Measure all cases, print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shrink", type=int, default=1, help="divide rows and columns by this")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.folder:
        combine(options.folder)
        return
    print(f"{os.cpu_count()} processors; ns for each value")
    print("frames  size  whole s  bands s   wall  proc.")
    for full in CASES:
        case = replace(full, size=full.size // options.shrink)
        whole, wall, spent = measure(case, options.rounds)
        each = 1e9 / case.pixels
        print(
            f"{case.frames:6} {case.size:5} {whole:8.2f} {wall:8.3f} {wall * each:6.2f} "
            f"{spent * each:6.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
