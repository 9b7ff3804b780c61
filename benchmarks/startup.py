"""Print what a process of masterframe costs besides its arithmetic: imports, kernels, phases.

Every figure is the least of several, as wall time and as processor time of user and system: on a
machine that others use the latter is what to compare. With ``--cold`` the frames are put out of the
page cache before each run, and the time of ``cat`` of the same files, read just before, is beside.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from astropy.io import fits

from compare import evict, warm

PROGRAM = str(Path(sys.executable).with_name("masterframe"))
IMPORTS = (
    *(
        "masterframe",
        "masterframe.cli",
        "numpy",
        "numba",
        "astropy.io.fits",
        "xarray",
        "dask.array",
    ),
    *("masterframe.kernels.combine", "masterframe.store", "masterframe.direct", "masterframe.run"),
)
PHASES = """
import sys, time
began = time.perf_counter()

def tell(what):
    print(f"{time.perf_counter() - began:8.3f} {time.process_time():8.3f}  {what}", flush=True)

from masterframe import direct
from masterframe.fits import write
from masterframe.store import master
tell("modules")

def watched(home, name, what):
    function = getattr(home, name)
    def call(*args, **kwargs):
        result = function(*args, **kwargs)
        tell(what)
        return result
    setattr(home, name, call)

watched(direct.fits, "scan_each", "headers")
watched(master, "room_of", "kernels")
watched(master, "_tasks", "first bands asked for")
watched(write.ImageFile, "settle", "all bands written")
watched(master, "_finished", "measured")
watched(write.ImageFile, "publish", "checksums, tables, on the disk")
from masterframe.cli import app
app(sys.argv[1:], standalone_mode=False)
tell("end")
"""


def make_frames(folder: Path, count: int, size: int) -> list[str]:
    """Write noisy frames of uint16."""
    rng = np.random.default_rng(1)
    noise = rng.normal(1000, 8, (size, size)).round().astype(np.uint16)
    paths = []
    for number in range(count):
        path = folder / f"frame_{number:04}.fits"
        fits.writeto(path, np.roll(noise, 37 * number, axis=0))
        paths.append(str(path))
    return paths


def run(command: Sequence[str]) -> tuple[float, float]:
    """Run a command; return wall time and processor time (s)."""
    before, began = os.times(), time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wall, after = time.perf_counter() - began, os.times()
    spent = after.children_user + after.children_system
    return wall, spent - before.children_user - before.children_system


def least(command: Sequence[str], rounds: int) -> tuple[float, float]:
    """Return the least wall time and the least processor time of several runs (s)."""
    walls, spent = zip(*(run(command) for _ in range(rounds)), strict=True)
    return min(walls), min(spent)


def show_imports(rounds: int) -> None:
    """Print what each module costs in a process of its own, the interpreter included."""
    for name in IMPORTS:
        wall, spent = least([sys.executable, "-c", f"import {name}"], rounds)
        print(f"import {name:30} {wall:7.3f} s {spent:7.3f} s of processors")


def show_combination(paths: Sequence[str], output: str, rounds: int, *, cold: bool) -> None:
    """Print the phases of one process, and what whole ones cost."""
    words = ["combine", *paths, "-o", output, "--overwrite"]
    files = [Path(path) for path in paths]
    subprocess.run([PROGRAM, *words], check=True, capture_output=True)
    phases = subprocess.run(
        [sys.executable, "-c", PHASES, *words], check=True, capture_output=True, text=True
    )
    print("    wall     processors (s)")
    print("\n".join(line for line in phases.stdout.splitlines() if line.startswith(" ")))
    found, reads = [], []
    for _ in range(rounds):
        if cold:
            evict(files)
            reads.append(run(["cat", *paths])[0])
        (evict if cold else warm)(files)
        found.append(run([PROGRAM, *words]))
    walls, spent = zip(*found, strict=True)
    print(f"whole process {min(walls):.2f} s, {min(spent):.2f} s of processors")
    if reads:
        print(f"cat {min(reads):.2f} s")


def main() -> None:
    """Read the options, make frames, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=10)
    parser.add_argument("--size", type=int, default=1024, help="rows and columns of a frame")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cold", action="store_true", help="put the frames out of the page cache")
    parser.add_argument("--folder", type=Path, help="where frames are made; by default temporary")
    options = parser.parse_args()
    print(f"load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")
    show_imports(options.rounds)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        paths = make_frames(Path(folder), options.frames, options.size)
        show_combination(paths, f"{folder}/master.fits", options.rounds, cold=options.cold)


if __name__ == "__main__":
    main()
