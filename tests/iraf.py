"""Runs the real IRAF: ``imcombine`` of arrays, and what it made of them.

IRAF ends with 0 whatever happens, prompts for ever where a parameter is wrong, and remembers
parameters in its home: so it gets a home of its own, an end that it cannot ignore and a cap on what
it prints, and what it printed and wrote is looked through. Files are float32 or uint16 as given.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from astropy.io import fits

from support import program

SECONDS, BYTES = 120, 1_000_000


class Combined(NamedTuple):
    data: Any
    rejected: Any
    """Values not used at each pixel (nrejmasks)."""
    sigma: Any


def write(folder: Path, frames: Any, cards: Sequence[Mapping[str, Any]] = ()) -> None:
    """Write frames as ``in_0000.fits`` ... and the list ``frames.lis``, in the order given."""
    names = []
    for number, frame in enumerate(frames):
        hdu = fits.PrimaryHDU(frame)
        hdu.header.update(cards[number] if cards else {})
        names.append(f"in_{number:04d}.fits")
        hdu.writeto(folder / names[-1])
    (folder / "frames.lis").write_text("\n".join(names) + "\n")


def numbers(folder: Path, name: str, values: Any) -> str:
    """Write values a line each and return what names the file to IRAF."""
    (folder / name).write_text("".join(f"{float(value)!r}\n" for value in values))
    return f"@{name}"


def imcombine(folder: Path, output: str, **options: Any) -> Combined:
    """Combine what `write` left in a folder; options are those of imcombine.

    Sigmas are not corrected for scales (``sigscale``) unless asked for.
    """
    settings = {"sigscale": 0.0, "offsets": "none", "logfile": "log.txt"} | options
    given = ", ".join(f"{name}={_literal(value)}" for name, value in settings.items())
    files = [f"{output}.fits", f"{output}_rejected.fits", f"{output}_sigma.fits"]
    run(
        folder,
        [
            "images",
            "immatch",
            "unlearn imcombine",
            f'imcombine ("@frames.lis", "{files[0]}", nrejmasks="{output}.pl", '
            f'sigmas="{files[2]}", {given})',
            f'imcopy ("{output}.pl", "{files[1]}", verbose=no)',
        ],
        files,
    )
    return Combined(*(fits.getdata(folder / name) for name in files))


def _literal(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float) and np.isinf(value):
        return "INDEF"
    return f'"{value}"' if isinstance(value, str) else repr(value)


@contextlib.contextmanager
def _ended(process: Any) -> Iterator[None]:
    """Kill a process and those it started when the block ends, or when its time is over."""

    def kill() -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)

    alarm = threading.Timer(SECONDS, kill)
    alarm.start()
    try:
        yield
    finally:
        alarm.cancel()
        kill()


def run(folder: Path, commands: Sequence[str], outputs: Sequence[str]) -> str:
    """Run CL commands in a folder and return what was printed; outputs must exist afterwards."""
    home = folder / "home"
    home.mkdir(exist_ok=True)
    (folder / "script.cl").write_text("\n".join([*commands, "logout"]) + "\n")
    with subprocess.Popen(
        [program("irafcl"), "-f", "script.cl"],
        cwd=folder,
        env=os.environ | {"HOME": str(home)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        with _ended(process):
            printed = process.stdout.read(BYTES)
    complaints = [line for line in printed.splitlines() if "warning" in line.lower()]
    complaints += [line for line in printed.splitlines() if "error" in line.lower()]
    missing = [name for name in outputs if not (folder / name).exists()]
    assert len(printed) < BYTES, f"IRAF printed {BYTES} characters: {printed[:2000]}"
    assert not complaints, printed[-3000:]
    assert not missing, f"IRAF did not write {missing}: {printed[-3000:]}"
    return printed
