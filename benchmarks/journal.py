"""Print what it costs to keep the progress of a master on the disk, against keeping none.

The same frames are combined by whole processes that take turns: without claims, with one a second
(as it is), and with as many as the journal's share of the time allows.

Usage: python benchmarks/journal.py [--frames 60] [--size 4096] [--rounds 5] [--cold]
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from suite import Case, make_frames

WAYS = {"none": "1e9", "as it is": "bands.SECONDS", "always": "0.0"}
"""Seconds between two claims."""
RUN = """
from masterframe.journal import bands
bands.SECONDS = {seconds}
from masterframe.cli import main
main()
"""


def main() -> int:
    """Make frames, and let compare.py compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--size", type=int, default=4096, help="rows and columns of a frame")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cold", action="store_true", help="put the frames out of the page cache")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        case = Case("", "", frames=options.frames, size=options.size)
        paths = make_frames(Path(folder), case)
        combine = ["combine", *map(str, paths), "-o", "{scratch}/master.fits"]
        commands = []
        for name, seconds in WAYS.items():
            command = [sys.executable, "-c", RUN.format(seconds=seconds), *combine]
            commands.append(f"{name}={shlex.join(command)}")
        script = Path(__file__).with_name("compare.py")
        compare = [sys.executable, str(script), f"--rounds={options.rounds}"]
        compare += [*["--cold"] * options.cold, *commands, "--data", *map(str, paths)]
        print(f"{options.frames} frames of {options.size} x {options.size} uint16", flush=True)
        return subprocess.run(compare, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
