"""Runs the real Siril: ``stack`` of a sequence of arrays, and what it made of them.

It gets a home of its own, no terminal, one thread and an end that it cannot ignore; that its
command ended well and wrote its file is looked through, for a script that fails may leave either
out. Its result is in units of 65535, and its log says which part of all values was rejected, to
0.001 %: that is their exact number where there are fewer than 100 000 values.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from astropy.io import fits

from support import program

SECONDS = 120
FULL_SCALE = 65535.0
_REJECTED = re.compile(r"Pixel rejection in channel #0: ([\d.]+)% - ([\d.]+)%")


class Stacked(NamedTuple):
    data: Any
    """The result in the units of the frames, float64."""
    low: float
    """Values rejected on the low side, of all frames and pixels."""
    high: float
    log: str


def write(folder: Path, frames: Any) -> None:
    """Write frames as the sequence ``in_``: uint16, or float32 between 0 and 1."""
    for number, frame in enumerate(frames):
        fits.writeto(folder / f"in_{number + 1:05d}.fits", frame)


def stack(folder: Path, words: str) -> Stacked:
    """Stack what `write` left in a folder; words are those after the name of the sequence."""
    output = folder / "stacked.fits"
    output.unlink(missing_ok=True)
    log = run(folder, [f"stack in_ {words} -out={output.with_suffix('')}"])
    assert output.exists(), log[-3000:]
    frames = sorted(folder.glob("in_*.fits"))
    shape, unit = fits.getdata(frames[0]).shape, _unit(frames[0])
    data = fits.getdata(output).astype(float)
    assert data.shape == shape
    found = _REJECTED.search(log)
    parts = [float(part) / 100 for part in found.groups()] if found else [0.0, 0.0]
    values = len(frames) * data.size
    low, high = (part * values for part in parts)
    if values < 100_000:
        low, high = round(low), round(high)
    return Stacked(data * unit, low, high, log)


def _unit(path: Path) -> float:
    return 1.0 if fits.getval(path, "BITPIX") < 0 else FULL_SCALE


def run(folder: Path, commands: list[str]) -> str:
    """Run Siril's commands in a folder and return its log."""
    home = folder / "home"
    home.mkdir(exist_ok=True)
    script = folder / "script.ssf"
    start = ["requires 1.0.0", "setext fits", "setcpu 1", "set32bits", f"cd {folder}"]
    script.write_text("\n".join([*start, *commands]) + "\n")
    with subprocess.Popen(
        [program("siril-cli"), "-s", str(script)],
        cwd=folder,
        env=os.environ | {"HOME": str(home), "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        try:
            log, _ = process.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    assert process.returncode == 0, log[-3000:]
    assert "Error in line" not in log, log[-3000:]
    return log


def version() -> tuple[int, ...]:
    """Return the version of the program."""
    printed = subprocess.run(
        [program("siril-cli"), "--version"], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    return tuple(int(part) for part in re.findall(r"\d+", printed)[:3])


def levels(values: Any) -> Any:
    """Return values as Siril has them in its float32 files: fractions of full scale."""
    return (np.asarray(values) / FULL_SCALE).astype(np.float32)
