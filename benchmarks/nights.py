"""Print what many nights cost: the scan and the plan, the first run, and runs with nothing to do.

Small frames with long headers, so that what is read of each file and not its pixels decides: bias,
darks of two exposure times, flats of three filters and science frames of every night, with products
of its own. Each command is a process of its own; wall time, and processor time of user and system,
which is what to compare on a machine that others use.

Usage: python benchmarks/nights.py [--nights 30] [--folder DIR] [--profile]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

PROGRAM = str(Path(sys.executable).with_name("masterframe"))
PROFILED = (sys.executable, "-m", "cProfile", "-s", "cumulative", PROGRAM)
SHAPE = 40, 64
BLOCK = 2880
FILTERS = ("B", "V", "R")
SHOWN = 70
"""Lines of a profile."""

PLAN = (
    *(("bias", "", 0.0, 300),) * 40,
    *(("dark", "", 120.0, 330),) * 25,
    *(("dark", "", 600.0, 360),) * 25,
    *(("flat", name, 5.0, 9000) for name in FILTERS for _ in range(20)),
    *(("object", FILTERS[number % 3], (120.0, 600.0)[number % 2], 700) for number in range(184)),
)
"""Kind, filter, exposure time (s) and level (adu) of the frames of one night."""


def header(kind: str, name: str, exptime: float, start: datetime) -> bytes:
    """Return the header of a raw frame, with as many cards as cameras write."""
    cards = [
        "SIMPLE  =                    T / conforms to the FITS standard",
        "BITPIX  =                   16 / bits of a value",
        "NAXIS   =                    2 / axes",
        f"NAXIS1  = {SHAPE[1]:20} / columns",
        f"NAXIS2  = {SHAPE[0]:20} / rows",
        "BZERO   =              32768.0 / offset",
        "BSCALE  =                  1.0 / factor",
        f"DATE-OBS= '{start:%Y-%m-%dT%H:%M:%S}' / start, UTC",
        f"EXPTIME = {exptime:20.3f} / [s] exposure time",
        f"IMAGETYP= '{kind:8}'           / kind",
        f"OBJECT  = '{'NGC 6819' if kind == 'object' else kind:8}'           / target",
        "INSTRUME= 'SurveyCam'          / camera",
        "CCD-TEMP=                -20.0 / [C] temperature",
        "XBINNING=                    1 / binning",
        "YBINNING=                    1 / binning",
        "EGAIN   =                  1.5 / [e-/adu] gain",
        "RDNOISE =                  6.0 / [e-] read noise",
    ]
    if name:
        cards.append(f"FILTER  = '{name:8}'           / filter")
    rng = np.random.default_rng(start.toordinal())
    cards += [f"TELEM{n:03} = {value:20.6f} / telemetry" for n, value in enumerate(rng.random(60))]
    text = "".join(card.ljust(80) for card in [*cards, "END"])
    return text.ljust(-(-len(text) // BLOCK) * BLOCK).encode("ascii")


def frames(nights: int) -> Iterator[tuple[str, bytes, int]]:
    """Yield the path in the folder, the header and the level of every frame."""
    for night in range(nights):
        evening = datetime(2026, 11, 1, 18, tzinfo=UTC) + timedelta(days=night)
        for number, (kind, name, exptime, level) in enumerate(PLAN):
            start = evening + timedelta(seconds=90 * number)
            path = f"{evening.date().isoformat()}/{kind}_{number:04}.fits"
            yield path, header(kind, name, exptime, start), level


def make_nights(folder: Path, nights: int) -> int:
    """Write the frames that are not there yet; return how many there are."""
    count = 0
    for path, cards, level in frames(nights):
        count += 1
        target = folder / path
        if target.exists():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(count).normal(level, 8, SHAPE).round().astype(np.int32)
        data = (noise - 32768).astype(">i2").tobytes()
        target.write_bytes(cards + data.ljust(-(-len(data) // BLOCK) * BLOCK, b"\0"))
    return count


def measure(what: str, words: Sequence[str], profiled: bool) -> None:
    """Run the program; print how long it took, and with what it says that it ended."""
    command = [*(PROFILED if profiled else (PROGRAM,)), *words]
    before, began = os.times(), time.perf_counter()
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    wall, after = time.perf_counter() - began, os.times()
    spent = after.children_user + after.children_system
    spent -= before.children_user + before.children_system
    print(f"{what:34} {wall:8.2f} s {spent:8.2f} s of processors", flush=True)
    if profiled:
        at = done.stdout.find("function calls")
        print("\n".join(done.stdout[at:].splitlines()[:SHOWN]))


def main() -> None:
    """Read the options, make nights, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nights", type=int, default=30)
    parser.add_argument("--folder", type=Path, help="where they are made; by default temporary")
    parser.add_argument("--profile", action="store_true", help="print where the time goes, too")
    options = parser.parse_args()
    print(f"load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")
    if options.folder:
        options.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=options.folder) as temporary:
        folder = (options.folder or Path(temporary)) / "nights"
        print(f"{make_nights(folder, options.nights)} frames of {options.nights} nights")
        where = [str(folder), "-o", str(folder.with_name("reduced"))]
        measure("scan", ["scan", str(folder)], options.profile)
        measure("plan", ["plan", *where], options.profile)
        measure("first run", ["run", *where], False)
        measure("plan with nothing to do", ["plan", *where], options.profile)
        measure("run with nothing to do", ["run", *where], options.profile)


if __name__ == "__main__":
    main()
