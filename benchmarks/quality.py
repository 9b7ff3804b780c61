"""Print what the tests of frames and masters add to a run: wall time and processor time.

A run is a process of its own. The tests stand alone in it: frames are compared before the first
band is read, and a master is measured after the last one is written. So the clocks of the process,
read before and after, tell what they cost, and the rest of the run is what it would cost without.
Each figure is the least of several runs.

Usage: python benchmarks/quality.py [--frames 60] [--size 4096] [--rounds 5] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from astropy.io import fits

WATCHED = """
import json, sys, time
spent = {}

def clocks():
    return time.perf_counter(), time.process_time()

def watched(home, name, what):
    function = getattr(home, name)
    def call(*args, **kwargs):
        before = clocks()
        try:
            return function(*args, **kwargs)
        finally:
            found = [after - was for was, after in zip(before, clocks())]
            spent[what] = [a + b for a, b in zip(spent.get(what, (0, 0)), found)]
    setattr(home, name, call)

began = time.perf_counter()
import numpy
from masterframe import masterfile, run, screening
from masterframe.config import load_config
from masterframe.kernels import combine, make_native, terms  # which the first task loads, whichever
make_native(numpy.zeros(1, numpy.uint16))  # ... and this code, which the writing of a master needs
for name in ("_sketches", "_judged"):
    watched(screening, name, "frames")
watched(screening.Screened, "with_numbers", "frames")
for name in ("quality", "tests_of"):
    watched(masterfile, name, "masters")
report = run.run_night(*sys.argv[1:], load_config())
assert report.exit_code == 0, report
spent["run"] = [time.perf_counter() - began, time.process_time()]
print(json.dumps(spent))
"""


def make_night(folder: Path, count: int, size: int) -> None:
    """Write biases of uint16, each the same noise in another place."""
    noise = np.random.default_rng(1).normal(1000, 8, (size, size)).round().astype(np.uint16)
    for number in range(count):
        hdu = fits.PrimaryHDU(np.roll(noise, 37 * number, axis=0))
        hdu.header.update({"IMAGETYP": "Bias Frame", "EXPTIME": 0.0})
        hdu.header["DATE-OBS"] = f"2026-01-02T{number // 60:02}:{number % 60:02}:00"
        hdu.writeto(folder / f"bias_{number:04}.fits")


def measure(night: Path) -> dict[str, list[float]]:
    """Return wall and processor time (s) of one run, and of the tests in it."""
    with tempfile.TemporaryDirectory(dir=night.parent) as out:  # cleared away before it is written
        done = subprocess.run(
            [sys.executable, "-c", WATCHED, night, out], check=True, capture_output=True, text=True
        )
    found: dict[str, list[float]] = json.loads(done.stdout)
    return found


def shares(runs: Sequence[dict[str, list[float]]]) -> dict[str, list[float]]:
    """Return what was added to the rest of a run, as fractions: wall, processor."""
    least = {
        name: [min(clock) for clock in zip(*(run[name] for run in runs), strict=True)]
        for name in runs[0]
    }
    rest = [
        whole - frames - masters
        for whole, frames, masters in zip(
            least["run"], least["frames"], least["masters"], strict=True
        )
    ]
    parts = {
        name: [spent / other for spent, other in zip(least[name], rest, strict=True)]
        for name in ("frames", "masters")
    }
    together = [a + b for a, b in zip(parts["frames"], parts["masters"], strict=True)]
    return {**parts, "together": together, "rest of the run (s)": rest}


def main() -> None:
    """Make frames, run, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        night = Path(place, "night")
        night.mkdir()
        make_night(night, options.frames, options.size)
        runs = [measure(night) for _ in range(options.rounds + 1)][1:]  # the first may compile
    found = shares(runs)
    if options.json:
        print(json.dumps(found))
        return
    print(f"{options.frames} x {options.size} x {options.size}, {os.cpu_count()} processors")
    rest = found.pop("rest of the run (s)")
    print(f"{'rest of the run':20} {rest[0]:7.2f} s  {rest[1]:7.2f} s")
    for name, (wall, processor) in found.items():
        print(f"{name:20} {wall:8.1%}  {processor:9.1%}")


if __name__ == "__main__":
    main()
