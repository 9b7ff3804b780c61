"""Compare masterframe with the other programs, one property of the frames varied at a time.

All programs combine the same files in turns: a clip once at 5 sigmas about the median, then the
mean. Every number is a ratio within one round; medians and ranges are written to a table, a plot
and a JSON file. A program that takes longer than ``--timeout`` is told so and left out of the case.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from astropy.io import fits

import programs
from compare import Command, CommandError, Run, evict, run_once, warm

DISTINCT = 40
"""Files of noise; further frames are further names of them."""
EVERY = tuple(programs.ALL)
FAST = ("masterframe", "Siril", "IRAF", "gnuastro", "cat")


@dataclass(frozen=True)
class Case:
    """Frames, and the programs that combine them."""

    axis: str
    """What it varies."""
    label: str
    frames: int = 60
    size: int = 4096
    dtype: str = "uint16"
    form: str = "fits"
    """fits, gz or fz."""
    cold: bool = False
    """Whether the files are put out of the page cache before each run."""
    options: str = ""
    """Options of ours."""
    programs: tuple[str, ...] = EVERY

    @property
    def pixels(self) -> float:
        """Values that are combined."""
        return float(self.frames) * self.size**2


CASES = (
    Case("base", "60 x 4k uint16"),
    Case("frames", "10 frames", frames=10),
    Case("frames", "300 frames", frames=300, programs=(*FAST, "ccdproc")),
    Case("frames", "1000 frames", frames=1000, options="--memory 1GB", programs=FAST),
    Case("size", "1k", size=1024),
    Case("size", "2k", size=2048),
    Case("size", "8k", size=8192, programs=FAST),
    Case("type", "float32", dtype="float32"),
    Case("disk", "cold", cold=True, programs=FAST),
    Case("form", "gz", form="gz", programs=("masterframe", "gnuastro", "ccdproc", "cat")),
    Case("form", "fz", form="fz", programs=("masterframe", "Siril", "cat")),
    Case("workers", "1 thread", options="--workers 1", programs=("masterframe", "cat")),
    Case("workers", "processes", options="--scheduler processes", programs=("masterframe", "cat")),
)


def make_frames(folder: Path, case: Case) -> list[Path]:
    """Write the frames of a case: a level, read noise and some cosmic rays."""
    random = np.random.default_rng(17)
    ending = "fits.gz" if case.form == "gz" else "fits"
    paths = [folder / f"in_{index + 1:05d}.{ending}" for index in range(case.frames)]
    for index, path in enumerate(paths):
        if index >= DISTINCT:
            os.link(paths[index % DISTINCT], path)
            continue
        pixels = random.standard_normal((case.size, case.size), np.float32) * 5 + 1000
        hits = random.integers(pixels.size, size=pixels.size // 5000 + 1)
        pixels.flat[hits] += random.exponential(3000, hits.size)
        values = pixels.clip(0, 65535).round().astype(case.dtype)
        if case.form == "fz":
            fits.CompImageHDU(values, compression_type="RICE_1").writeto(path)
        else:
            fits.writeto(path, values)
    return programs.list_frames(folder)


def take_turns(
    commands: Sequence[Command], frames: Sequence[Path], case: Case, rounds: int, timeout: float
) -> tuple[dict[str, list[Run]], dict[str, str]]:
    """Run commands in turns; return the runs of each, and why others were left out."""
    runs: dict[str, list[Run]] = {command.name: [] for command in commands}
    failed: dict[str, str] = {}
    warm(frames)
    run_once(commands[0], timeout)  # ours may compile
    for _ in range(rounds):
        for command in commands:
            if command.name in failed:
                continue
            (evict if case.cold else warm)(frames)
            try:
                runs[command.name].append(run_once(command, timeout))
            except CommandError as error:
                failed[command.name] = str(error).splitlines()[0][:120]
    return {name: found for name, found in runs.items() if name not in failed}, failed


def row(case: Case, name: str, runs: Sequence[Run], ours: Sequence[Run]) -> str:
    """Return a line of the table."""
    ratios = sorted(run.wall / own.wall for run, own in zip(runs, ours, strict=False))
    wall = statistics.median(run.wall for run in runs)
    spread = f"{ratios[0]:.1f} to {ratios[-1]:.1f}" if len(ratios) > 1 else ""
    return (
        f"| {case.label} | {name} | {wall:.2f} | {case.pixels / wall / 1e6:.0f} | "
        f"{statistics.median(ratios):.2f} | {spread} | {max(run.tree for run in runs) / 1e6:.0f} |"
    )


def plot(results: Sequence[dict[str, object]], path: Path) -> None:
    """Draw the throughput of every program over the cases."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    labels = list(dict.fromkeys(str(item["case"]) for item in results))
    names = [name for name in EVERY if any(item["program"] == name for item in results)]
    figure, axes = plt.subplots(figsize=(9, 0.55 * len(labels) + 1.6), layout="constrained")
    for name in names:
        own = [item for item in results if item["program"] == name]
        axes.plot(
            [float(str(item["rate"])) for item in own],
            [labels.index(str(item["case"])) for item in own],
            "D" if name == "masterframe" else "|" if name == "cat" else "o",
            label=name,
            markersize=9 if name == "masterframe" else 7,
        )
    axes.set(xscale="log", xlabel="million values combined a second", yticks=range(len(labels)))
    axes.set_yticklabels(labels)
    axes.invert_yaxis()
    axes.grid(alpha=0.3)
    axes.legend(ncols=len(names), loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)
    figure.savefig(path)


def machine() -> str:
    """Return what the figures were taken on."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    model = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(
            (line.split(": ")[1] for line in lines if line.startswith("model name")), model
        )
    return (
        f"{len(os.sched_getaffinity(0))} x {model}, {memory:.0f} GiB, load {os.getloadavg()[0]:.1f}"
    )


def versions() -> str:
    """Return the versions of the programs that tell them."""
    asked = {"Siril": ["siril-cli", "--version"], "gnuastro": ["astarithmetic", "--version"]}
    found = []
    for name, command in asked.items():
        if shutil.which(command[0]):
            said = subprocess.run(command, check=False, capture_output=True, text=True).stdout
            found.append(f"{name}: {said.splitlines()[0]}" if said else name)
    return "; ".join(found)


def main() -> int:
    """Run the cases asked for, and write what they took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("axes", nargs="*", help="base, frames, size, type, disk, form, workers")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--timeout", type=float, default=600, help="longest run (s)")
    parser.add_argument("--shrink", type=int, default=1, help="divide the rows and columns by this")
    parser.add_argument("--programs", default=",".join(EVERY), help="which take part")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    named = options.programs.split(",")
    if unknown := set(named) - set(EVERY):
        parser.error(f"no such programs: {', '.join(unknown)}; there are {', '.join(EVERY)}")
    wanted = programs.present(named)
    options.output.mkdir(parents=True, exist_ok=True)
    lines = [
        f"{machine()}. {versions()}",
        "",
        "| case | program | seconds | million values/s | time over ours | range | peak MB |",
        "|---|---|---:|---:|---:|---|---:|",
    ]
    print("\n".join(lines), flush=True)
    results: list[dict[str, object]] = []
    for case in (case for case in CASES if not options.axes or case.axis in options.axes):
        small = Case(**(asdict(case) | {"size": case.size // options.shrink}))
        with tempfile.TemporaryDirectory() as folder:
            with ProcessPoolExecutor(1) as maker:  # what it holds would count as each program's
                frames = maker.submit(make_frames, Path(folder), small).result()
            commands = [
                programs.masterframe(Path(folder), small.options)
                if name == "masterframe"
                else programs.ALL[name][1](Path(folder))
                for name in wanted
                if name in case.programs
            ]
            runs, failed = take_turns(commands, frames, small, options.rounds, options.timeout)
        for name, found in runs.items():
            lines.append(row(small, name, found, runs.get("masterframe", found)))
            print(lines[-1], flush=True)
            rate = small.pixels / statistics.median(run.wall for run in found) / 1e6
            results.append(
                {"case": case.label, "program": name, "rate": rate, "runs": [*map(asdict, found)]}
            )
        for name, reason in failed.items():
            lines.append(f"| {case.label} | {name} | {reason} | | | | |")
            print(lines[-1], flush=True)
    (options.output / "table.md").write_text("\n".join(lines) + "\n")
    (options.output / "runs.json").write_text(json.dumps(results, indent=1) + "\n")
    plot(results, options.output / "throughput.svg")
    return 0


if __name__ == "__main__":
    sys.exit(main())
