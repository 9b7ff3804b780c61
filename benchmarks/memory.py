"""Print the peak memory of combinations against the limit given, and their time against `cat`.

Frames are names of a few noisy files, or sparse ones: what matters is how many there are and how
large. The peak is the sum of what the kernel counted as the largest resident size of each process.
Every run is paired with a `cat` of the same files just before it, as both depend on the page cache.
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
from astropy.io import fits

from compare import evict, warm

PROGRAM = str(Path(sys.executable).with_name("masterframe"))
DISTINCT = 40
"""Files of noise; further frames are further names of them."""


@dataclass(frozen=True)
class Case:
    """One combination."""

    frames: int
    size: int
    """Rows and columns of a frame."""
    memory: str
    """What is given as --memory."""
    scheduler: str = "threads"
    cold: bool = False
    """Whether the files are put out of the page cache before each run."""
    sparse: bool = False
    """Whether the files are holes instead of noise."""


CASES = (
    *(Case(60, 1024, memory) for memory in ("400MB", "1GB", "4GB")),
    *(Case(frames, 1024, "400MB") for frames in (10, 200, 1000)),
    *(Case(20, size, "400MB") for size in (512, 2048, 4096)),
    Case(60, 1024, "1GB", "processes"),
    Case(60, 4096, "1GB", cold=True),
)
LARGE = (Case(1000, 4096, "1GB"), Case(1000, 4096, "1GB", sparse=True))
"""33 GB of names, 1.3 GB on the disk."""


def make_names(folder: Path, case: Case) -> list[Path]:
    """Write the files of a case; those beyond the distinct ones are further names of them."""
    names = [folder / f"frame_{number:05}.fits" for number in range(case.frames)]
    rng = np.random.default_rng(case.size)
    for number, name in enumerate(names):
        if case.sparse:
            write_holes(name, (case.size, case.size))
        elif number < DISTINCT:
            pixels = rng.normal(1000, 5, (case.size, case.size)).round()
            fits.writeto(name, pixels.astype(np.uint16))
        else:
            name.hardlink_to(names[number % DISTINCT])
    return names


def write_holes(path: Path, shape: tuple[int, int]) -> None:
    """Write a header, and pixels that take no place on the disk."""
    header = fits.PrimaryHDU(np.zeros((1, 1), np.uint16)).header
    header["NAXIS2"], header["NAXIS1"] = shape
    with path.open("wb") as stream:
        stream.write(header.tostring().encode())
        stream.truncate(stream.tell() + -(-2 * shape[0] * shape[1] // 2880) * 2880)


def run_watched(command: Sequence[str]) -> tuple[float, int]:
    """Run a command; return its wall time (s) and the summed peaks of its processes (bytes)."""
    peaks: dict[int, int] = {}
    with tempfile.TemporaryFile() as told:
        begin = time.perf_counter()
        process = subprocess.Popen(command, stdout=told, stderr=told)
        while process.poll() is None:
            with contextlib.suppress(psutil.Error):
                root = psutil.Process(process.pid)
                for each in [root, *root.children(recursive=True)]:
                    peaks[each.pid] = max(peaks.get(each.pid, 0), high_water(each.pid))
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.02)
        wall = time.perf_counter() - begin
        if process.returncode:
            told.seek(0)
            raise SystemExit(told.read().decode(errors="replace"))
    return wall, sum(peaks.values())


def high_water(pid: int) -> int:
    """Return the largest resident size that a process has had (bytes); Linux."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) << 10
    return 0


def measure(case: Case, rounds: int) -> str:
    """Run a case; return its line of the table."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        names = make_names(folder, case)
        listed = folder / "names"
        listed.write_text("\n".join(map(str, names)))
        ours = [PROGRAM, "combine", f"@{listed}", "-o", str(folder / "master.fits")]
        ours += ["--overwrite", "--memory", case.memory, "--scheduler", case.scheduler]
        cat = ["sh", "-c", f"xargs cat <{listed} >/dev/null"]
        prepare = evict if case.cold else warm
        files = names if case.sparse else names[:DISTINCT]
        run_watched(ours)  # compiles, and fills caches
        pairs = []
        for _ in range(rounds):
            prepare(files)
            reference, _ = run_watched(cat)
            prepare(files)
            pairs.append((*run_watched(ours), reference))
    wall, _, reference = sorted(pairs)[len(pairs) // 2]
    peak = max(peak for _, peak, _ in pairs)
    kind = ("cold" if case.cold else "warm") + (", sparse" if case.sparse else "")
    return (
        f"{case.frames:6} {case.size:5} {case.memory:>7} {case.scheduler:10} {kind:13}"
        f"{peak / 1e6:8.0f} {wall:8.2f} {reference:8.2f} {wall / reference:7.2f}"
    )


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--large", action="store_true", help="1 000 frames of 4096 x 4096, too")
    parser.add_argument("--only", type=int, metavar="N", help="the N-th case alone, from 1")
    options = parser.parse_args()
    cases = (*CASES, *LARGE) if options.large else CASES
    if options.only:
        cases = cases[options.only - 1 : options.only]
    print("frames  size   limit scheduler  page cache    peak MB   wall s    cat s   ratio")
    for case in cases:
        print(measure(case, options.rounds), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
