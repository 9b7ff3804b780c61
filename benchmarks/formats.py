"""Print how fast compressed frames are read, as a multiple of the programs that unpack them.

Frames of CCD noise are compressed by ``fpack`` and ``gzip``. Reading them in bands on all cores
(``.gz``: unpacking them to scratch) takes turns with ``funpack``, ``gzip -dc`` and ``igzip -dc`` of
the same files, one process a core, into nothing. Rates count the bytes of the unpacked frames; the
median of the rounds counts.

Usage: python benchmarks/formats.py [FRAMES [SIDE]]
"""

from __future__ import annotations

import functools
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from astropy.io import fits

from masterframe import scratchfolder, stack
from masterframe.fits import read_stack, scan_file, scratch
from masterframe.model import Frame

ROUNDS = 7
WORKERS = len(os.sched_getaffinity(0))
TILED = {
    "RICE_1": ["-r"],
    "RICE_1 of 16 rows": ["-r", "-t", "0,16"],
    "GZIP_1": ["-g1"],
    "GZIP_2": ["-g2"],
    "RICE_1, quantised floats": ["-r", "-q", "16"],
}


def make_frames(folder: Path, count: int, side: int) -> dict[str, list[Path]]:
    """Write frames and their compressed copies; return the paths by method."""
    made: dict[str, list[Path]] = {name: [] for name in [*TILED, "gzip"]}
    for n in range(count):
        noise = np.random.default_rng(n).normal(1000, 12, (side, side))
        whole, real = folder / f"{n}.fits", folder / f"{n}r.fits"
        fits.PrimaryHDU(noise.astype(np.uint16)).writeto(whole)
        fits.PrimaryHDU(noise.astype(np.float32)).writeto(real)
        for index, (name, options) in enumerate(TILED.items()):
            path = folder / f"{n}-{index}.fz"
            source = real if "floats" in name else whole
            given = [text.replace("0,", f"{side},") for text in options]
            packed = subprocess.run(["fpack", *given, "-S", source], check=True, stdout=-1)
            path.write_bytes(packed.stdout)
            made[name].append(path)
        packed = subprocess.run(["gzip", "-c", whole], check=True, stdout=-1)
        made["gzip"].append(folder / f"{n}.fits.gz")
        made["gzip"][-1].write_bytes(packed.stdout)
        whole.unlink()
        real.unlink()
    return made


def by_program(command: list[str], paths: list[Path]) -> None:
    """Unpack files by a program, one process a core."""

    def run(path: Path) -> None:
        subprocess.run([*command, path], check=True, stdout=subprocess.DEVNULL)

    with ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(run, paths))


def by_bands(frames: list[Frame]) -> None:
    """Read all rows in bands, one thread a core."""
    rows, height = stack.default_rows(frames), frames[0].shape[0]

    def read(y: int) -> None:
        read_stack(frames, y, min(y + rows, height))

    with ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(read, range(0, height, rows)))


def to_scratch(frames: list[Frame], base: Path) -> None:
    """Unpack files to a scratch folder, one thread a core."""
    with scratchfolder.open_folder(base) as folder, ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(lambda frame: scratch.make_copy(scratch.in_folder(frame, folder)), frames))


def compare(ours: Callable[[], None], theirs: Callable[[], None]) -> tuple[float, float, float]:
    """Return the time of both (s), and the rate of ours over that of theirs."""
    ours()
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        ours()
        middle = time.perf_counter()
        theirs()
        times.append((middle - start, time.perf_counter() - middle))
    ratio = statistics.median(other / own for own, other in times)
    return *(statistics.median(column) for column in zip(*times, strict=True)), ratio


def main(count: int = 8, side: int = 2048) -> None:
    """Print a row a method."""
    print(f"{count} frames of {side} x {side}, {WORKERS} cores; MB/s")
    print(f"{'':26} {'ours':>8} {'theirs':>8} ratio")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made = make_frames(folder, count, side)
        for method, paths in made.items():
            frames = [item.frame for path in paths for item in scan_file(path).hdus if item.frame]
            size = sum(frame.shape[0] * frame.row_bytes for frame in frames) / 1e6
            ours = functools.partial(by_bands, frames)
            programs = [["funpack", "-S"]]
            if method == "gzip":
                ours = functools.partial(to_scratch, frames, folder)
                known = (["gzip", "-dc"], ["igzip", "-dc"])
                programs = [command for command in known if shutil.which(command[0])]
            for command in programs:
                own, other, ratio = compare(ours, functools.partial(by_program, command, paths))
                label = f"{method}, {command[0]}"
                print(
                    f"{label:26.40} {size / own:8.0f} {size / other:8.0f} {ratio:5.2f}", flush=True
                )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
