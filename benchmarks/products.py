"""Print what bias, dark and flat masters of one size cost, over a bias: the compute phase alone.

Frames have an overscan. The bias that the others are compared with is combined as it is, whole
numbers. Then the overscan is taken off, of a dark the bias, too, and of a flat the dark; flats are
scaled by their levels and normalised. All frames are of one noise, moved. Wall and
processor time of the bands, each the least of several runs: on a machine that others use processor
time is what to compare.

Usage: python benchmarks/products.py [--frames 40] [--size 4096] [--rounds 3]
"""

from __future__ import annotations

import argparse
import os
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from astropy.io import fits

import masterframe as mf
from compare import warm
from masterframe import cluster, store
from masterframe.config import load_config
from stopwatch import Stopwatch

OVERSCAN = 32
"""Columns of the overscan, beyond those of the image."""
PLAIN = "recipes.bias.subtract_overscan=false"
KINDS = {"bias": ("Bias Frame", 0.0, 0.0), "dark": ("Dark Frame", 60.0, 30.0)}
KINDS["flat"] = ("Flat Field", 5.0, 20000.0)
"""Of each kind IMAGETYP, exposure time (s) and level above the bias (adu)."""


def make_night(night: Path, count: int, size: int) -> list[Path]:
    """Write the frames of a night."""
    random = np.random.default_rng(3)
    paths = []
    for kind, (imagetyp, exposure, light) in KINDS.items():
        pixels = np.full((size, size + OVERSCAN), 1000.0, np.float32)
        pixels[:, :size] += light
        pixels += random.standard_normal(pixels.shape, np.float32) * np.sqrt(25 + light / 2)
        values = pixels.round().astype(np.uint16)
        for number in range(count):
            hdu = fits.PrimaryHDU(np.roll(values, 37 * number, axis=0))
            hdu.header.update({"IMAGETYP": imagetyp, "EXPTIME": exposure, "FILTER": "R"})
            hdu.header["DATE-OBS"] = f"2026-01-02T{number // 60:02}:{number % 60:02}:00"
            hdu.header["DATASEC"] = f"[1:{size},1:{size}]"
            hdu.header["BIASSEC"] = f"[{size + 1}:{size + OVERSCAN},1:{size}]"
            paths.append(night / f"{kind}_{number:04}.fits")
            hdu.writeto(paths[-1])
    return paths


def measure(night: Path, *settings: str) -> dict[str, tuple[float, float]]:
    """Return wall and processor time (s) of the bands of each product of a run.

    What it makes is cleared away before a disk is busy with it, while the next run is measured.
    """
    watch, config = Stopwatch(), load_config(None, settings)
    with (
        tempfile.TemporaryDirectory(dir=night.parent) as out,
        store.open_resources("threads", memory=cluster.default_memory()) as resources,
    ):
        mf.run_night(night, out, config, resources=replace(resources, reporter=watch))
    return watch.spent()


def main() -> None:
    """Make frames, run, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=40, help="of each kind")
    parser.add_argument("--size", type=int, default=4096, help="rows and columns of an image")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    runs = []
    with tempfile.TemporaryDirectory() as place:
        night = Path(place, "night")
        night.mkdir()
        paths = make_night(night, options.frames, options.size)
        biases = Path(place, "biases")
        biases.mkdir()
        for path in paths[: options.frames]:
            os.link(path, biases / path.name)
        for _ in range(options.rounds + 1):  # the first may compile
            warm(paths)
            plain = measure(biases, PLAIN)
            runs.append({"bias as it is": next(iter(plain.values()))})
            runs[-1] |= measure(night)
    print(f"{options.frames} frames of {options.size} rows, {os.cpu_count()} processors")
    print(f"{'product':32} {'wall':>7} {'ratio':>6} {'processors':>11} {'ratio':>6}")
    least = {
        name: [min(run[name][clock] for run in runs[1:]) for clock in (0, 1)] for name in runs[0]
    }
    bias = next(iter(least.values()))
    for name, (wall, spent) in least.items():
        ratios = wall / max(bias[0], 1e-9), spent / max(bias[1], 0.01)  # a tick of its clock
        print(f"{name:32} {wall:7.2f} {ratios[0]:6.2f} {spent:11.2f} {ratios[1]:6.2f}")


if __name__ == "__main__":
    main()
