"""Combine simulated bias frames with masterframe and with other programs, and compare.

All clip about the median at 5 times 1.4826 MAD in one pass and take the mean of the rest.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from astropy.io import fits

HERE = Path(__file__).parent


def make_frames(folder: Path, number: int, shape: tuple[int, int]) -> list[Path]:
    """Write `number` unsigned 16-bit frames: a level, read noise and some cosmic rays."""
    random = np.random.default_rng(17)
    paths = [folder / f"bias_{index:03}.fits" for index in range(number)]
    for path in paths:
        pixels = random.normal(1000, 5, shape).astype(np.float32)
        hits = random.integers(pixels.size, size=pixels.size // 5000 + 1)
        pixels.flat[hits] += random.exponential(3000, hits.size)
        fits.writeto(path, pixels.clip(0, 65535).round().astype(np.uint16))
    return paths


def commands_for(paths: list[Path]) -> dict[str, list[str]]:
    """The commands to compare by name, masterframe first; each writes to its ``{scratch}``."""
    files = [str(path) for path in paths]
    ours = str(Path(sys.executable).with_name("masterframe"))
    output = "{scratch}/master.fits"
    commands = {"masterframe": [ours, "combine", *files, "-o", output, "--noise-floor", "0"]}
    for script in sorted((HERE / "peers").glob("*.py")):
        commands[script.stem] = [sys.executable, str(script), output, *files]
    commands["cat"] = ["sh", "-c", f"cat {shlex.join(files)} >{{scratch}}/all"]
    return commands


def main() -> int:
    """Make frames, and let compare.py compare: a small process, since its size shows in theirs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=20)
    parser.add_argument("--size", type=int, default=1024, help="rows and columns of a frame")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        paths = make_frames(Path(folder), options.frames, (options.size, options.size))
        pairs = [f"{name}={shlex.join(line)}" for name, line in commands_for(paths).items()]
        print(f"{options.frames} frames of {options.size} x {options.size} uint16", flush=True)
        compare = [sys.executable, str(HERE / "compare.py"), f"--rounds={options.rounds}", *pairs]
        return subprocess.run([*compare, "--data", *map(str, paths)], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
