"""Print what a night of a mosaic costs over one of a single detector with as many pixels.

The mosaic has 8 extensions, each read through two amplifiers with an overscan each; the detector
of the other night has one amplifier. Each night is reduced to the end, without its report, by a
process of its own. They take turns, and ratios are within a round; wall and processor time.

Usage: python benchmarks/mosaic.py [--size 1024] [--frames 10] [--rounds 3]
"""

from __future__ import annotations

import argparse
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from masterframe import simulate

PROGRAM = str(Path(sys.executable).with_name("masterframe"))
EXTENSIONS = 8


def make_night(folder: Path, camera: simulate.Camera, frames: int) -> Path:
    """Simulate a night: so many biases, darks and flats, and three science frames."""
    spec = simulate.NightSpec(
        camera, bias=frames, darks={60.0: frames}, flats={"V": frames}, science={"V": 3},
        exptime=60.0, cosmic_rate=0.01,
    )  # fmt: skip
    return simulate.simulate_night(folder, spec).night


def reduce(night: Path, out: Path) -> tuple[float, float]:
    """Reduce a night; return wall and processor time (s)."""
    shutil.rmtree(out, ignore_errors=True)
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [PROGRAM, "run", str(night), "--output", str(out), "--set", "report=false"]
    subprocess.run(command, check=True, capture_output=True)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Make both nights, reduce them in turns, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=1024, help="rows and columns of an extension")
    parser.add_argument("--frames", type=int, default=10, help="of each kind")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    size = options.size
    cameras = {
        "mosaic": simulate.Camera((size, size), 32, EXTENSIONS, 2),
        "single": simulate.Camera((2 * size, EXTENSIONS // 2 * size), 32),
    }
    with tempfile.TemporaryDirectory() as place:
        nights = {
            name: make_night(Path(place, name), camera, options.frames)
            for name, camera in cameras.items()
        }
        spent: dict[str, list[tuple[float, float]]] = {name: [] for name in nights}
        for number in range(options.rounds + 1):
            for name, night in nights.items():
                found = reduce(night, Path(place, "out"))
                if number:  # before, something may have to be compiled
                    spent[name].append(found)
    print(f"{EXTENSIONS} x {size} x {size}, {options.frames} frames of each kind")
    print(f"{'':12} {'mosaic':>8} {'single':>8} {'ratio':>6}")
    for clock, what in enumerate(("wall (s)", "processors")):
        pairs = [[run[clock] for run in spent[name]] for name in nights]
        ratios = sorted(a / b for a, b in zip(*pairs, strict=True))
        first, second = map(statistics.median, pairs)
        print(
            f"{what:12} {first:8.2f} {second:8.2f} {statistics.median(ratios):6.2f} "
            f"({ratios[0]:.2f} to {ratios[-1]:.2f})"
        )


if __name__ == "__main__":
    main()
