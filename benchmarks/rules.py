"""Compare every rule with the same rule in IRAF's imcombine or Siril's stack, on one thread.

All combine the same FITS files, one after the other, in turns. Times are those of the processor
(user and system), which other work on the machine hardly changes; on one thread they are also those
of the clock. Two ratios, theirs over ours, so that above 1 we are faster:

whole    of the whole processes: start-up, reading, writing, uncertainties, masks and tables;
kernel   of the rule: theirs is the whole process minus one that averages without rejection, ours
         the whole kernel on the same values in memory: load, sort, reject, average, errors, counts.

The start of Python and of our libraries takes seconds, and is part of ``whole``: frames should be
large enough that it does not decide.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

import programs
from compare import Command, CommandError, Run, compare, warm
from masterframe import dialects
from masterframe.kernels import Floor, FrameTerms, LoadTerms, combine_block
from masterframe.model import Recipe, Rejection

GAIN, READ_NOISE = 2.0, 20.0
BAND = 64
"""Rows that the kernel is given at once."""
PEERS = {"irafcl": "IRAF", "siril-cli": "Siril"}


@dataclass(frozen=True)
class Pair:
    """A rule of ours and the same one of another program."""

    name: str
    """By which ``--reject`` takes it."""
    program: str
    """Program that is run beside it."""
    words: str
    """What chooses the rule there."""
    center: str | None = None
    """``--center``, where it is not the one of the name."""

    @property
    def options(self) -> str:
        """Options of ours."""
        noise = f" --gain {GAIN} --read-noise {READ_NOISE}" * self.is_ccd
        return f"--reject {self.name}{noise}" + f" --center {self.center}" * bool(self.center)

    @property
    def is_ccd(self) -> bool:
        """Whether it is told the noise."""
        return self.name in ("ccdclip", "crreject")


_NOISE = f',gain="{GAIN}",rdnoise="{READ_NOISE}"'
PAIRS = (
    Pair("iraf-minmax", "irafcl", 'reject="minmax"'),
    Pair("sigclip", "irafcl", 'reject="sigclip"'),
    Pair("sigclip", "irafcl", 'reject="sigclip",mclip=no', "inner-mean"),
    Pair("avsigclip", "irafcl", 'reject="avsigclip"'),
    Pair("ccdclip", "irafcl", 'reject="ccdclip"' + _NOISE),
    Pair("crreject", "irafcl", 'reject="crreject"' + _NOISE),
    Pair("iraf-pclip", "irafcl", 'reject="pclip"'),
    Pair("siril-percentile", "siril-cli", "rej p 0.2 0.1"),
    Pair("siril-sigma", "siril-cli", "rej s 3 3"),
    Pair("median-sigma", "siril-cli", "rej m 3 3"),
    Pair("mad", "siril-cli", "rej a 3 3"),
    Pair("siril-winsorized", "siril-cli", "rej w 3 3"),
    Pair("linear", "siril-cli", "rej l 5 5"),
    Pair("gesdt", "siril-cli", "rej g 0.3 0.05"),
)
PLAIN = {"irafcl": 'reject="none"', "siril-cli": "rej n"}


def make_frames(folder: Path, shape: tuple[int, int, int]) -> NDArray[np.uint16]:
    """Write frames of a level, noise and some cosmic rays; return their values."""
    random = np.random.default_rng(17)
    values = np.empty(shape, np.uint16)
    for frame in values:
        pixels = random.normal(1000, 10, frame.shape)
        hits = random.integers(pixels.size, size=pixels.size // 1000)
        pixels.flat[hits] += random.exponential(1000, hits.size)
        frame[:] = pixels.clip(0, 65535).round()
    for index, frame in enumerate(values, 1):
        fits.writeto(folder / f"in_{index:05d}.fits", frame)
    programs.list_frames(folder)
    return values


def theirs(folder: Path, program: str, words: str, name: str) -> Command:
    """The command of another program, on one thread."""
    if program == "irafcl":
        return programs.iraf(folder, words, name)
    return programs.siril(folder, words, ["setcpu 1"], name)


def kernel_time(values: NDArray[np.uint16], pair: Pair) -> float:
    """Processor time that the kernel takes for all values (s); the least of three."""
    n = len(values)
    rejection = dialects.expand(Rejection(pair.name, center=pair.center))  # type: ignore[arg-type]
    noise = np.tile([(READ_NOISE / GAIN) ** 2, 1 / GAIN, 0.0], (n, 1))
    frames = FrameTerms(noise=noise) if pair.is_ccd else FrameTerms()
    times = []
    for turn in range(4):  # the first may compile
        begin = time.process_time()
        for row in range(0, values.shape[1] if turn else BAND, BAND):
            band = values[:, row : row + BAND]
            combine_block(
                band, LoadTerms(), Recipe(rejection), Floor(), np.arange(n), frames=frames
            )
        times.append(time.process_time() - begin)
    return min(times[1:])


def median_cpu(runs: Sequence[Run]) -> float:
    """Median of the processor times (s)."""
    return statistics.median(run.cpu for run in runs)


def measure(folder: Path, values: NDArray[np.uint16], pair: Pair, rounds: int) -> str:
    """Return the row of a rule."""
    commands = [
        programs.masterframe(folder, f"--workers 1 {pair.options}"),
        theirs(folder, pair.program, pair.words, "theirs"),
        theirs(folder, pair.program, PLAIN[pair.program], "plain"),
    ]
    files = sorted(folder.glob("in_*.fits"))
    we, they, average = compare(commands, rounds, prepare=lambda: warm(files)).values()
    kernel = kernel_time(values, pair)
    rule = median_cpu(they) - median_cpu(average)
    return (
        f"{pair.options.removeprefix('--reject '):44} {PEERS[pair.program]:6}"
        f"{median_cpu(we):8.2f} {median_cpu(they):8.2f} {median_cpu(they) / median_cpu(we):7.2f}"
        f" {kernel:9.2f} {rule:8.2f} {rule / kernel:7.2f}"
    )


def main() -> int:
    """Make frames and print a row for each rule, or for those whose name holds a word."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="rules; all by default")
    parser.add_argument("--frames", type=int, default=30)
    parser.add_argument("--rows", type=int, default=2048)
    parser.add_argument("--columns", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    shape = (options.frames, options.rows, options.columns)
    pairs = [p for p in PAIRS if not options.names or any(n in p.name for n in options.names)]
    with tempfile.TemporaryDirectory() as folder:
        values = make_frames(Path(folder), shape)
        print(f"{shape[0]} frames of {shape[1]} x {shape[2]} uint16; seconds, and theirs over ours")
        print(f"{'rule':44} {'peer':6}{'ours':>8} {'theirs':>8} {'whole':>7}", end=" ")
        print(f"{'ours':>9} {'theirs':>8} {'kernel':>7}", flush=True)
        for pair in pairs:
            try:
                print(measure(Path(folder), values, pair, options.rounds), flush=True)
            except (CommandError, OSError) as error:
                print(error, file=sys.stderr)
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
