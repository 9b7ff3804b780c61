"""How each program is told to combine the frames of a folder: those that are compared.

A folder holds ``in_00001.fits`` and so on, and ``frames.lis`` with their paths.
"""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from compare import Command

PEERS = Path(__file__).parent / "peers"


def list_frames(folder: Path) -> list[Path]:
    """Write the list of the frames in a folder, and return them."""
    frames = sorted(folder.glob("in_*.fits*"))
    (folder / "frames.lis").write_text("".join(f"{path}\n" for path in frames))
    return frames


def masterframe(folder: Path, options: str = "", name: str = "masterframe") -> Command:
    """The command of ours."""
    program = Path(sys.executable).with_name("masterframe")
    text = f"{program} combine @{folder}/frames.lis -o {{scratch}}/out.fits {options}"
    return Command(name, tuple(shlex.split(text)))


def iraf(folder: Path, words: str, name: str = "IRAF") -> Command:
    """``imcombine`` of IRAF with some parameters; it must leave an output: it may fail silently."""
    lines = [
        "images",
        "immatch",
        "unlearn imcombine",
        f'imcombine ("@{folder}/frames.lis","out.fits",{words},offsets="none",logfile="log")',
        "logout",
    ]
    return _scripted(name, lines, "irafcl -f script </dev/null")


def siril(folder: Path, words: str, settings: Sequence[str] = (), name: str = "Siril") -> Command:
    """``stack`` of Siril with a rejection; its memory is what Siril takes by itself."""
    lines = [
        "requires 1.0.0",
        "setext fits",
        *settings,
        "set32bits",
        f"cd {folder}",
        f"stack in_ {words} -nonorm -out={{scratch}}/out",
    ]
    return _scripted(name, lines, "siril-cli -s script </dev/null")


def gnuastro(folder: Path, bound: float, name: str = "gnuastro") -> Command:
    """``astarithmetic`` of gnuastro: one clip about the median by the standard deviation."""
    count = len((folder / "frames.lis").read_text().split())
    line = f"astarithmetic $(cat {folder}/frames.lis) {count} {bound} 1 sigclip-mean -g0 --output"
    return Command(
        name, ("sh", "-c", f"cd {{scratch}} && {line}=out.fits >log && test -s out.fits")
    )


def python(folder: Path, script: str, name: str) -> Command:
    """A script of `peers`."""
    call = shlex.join([sys.executable, str(PEERS / script)])
    return Command(name, ("sh", "-c", f"{call} {{scratch}}/out.fits $(cat {folder}/frames.lis)"))


def cat(folder: Path) -> Command:
    """Reading alone."""
    return Command("cat", ("sh", "-c", f"xargs cat <{folder}/frames.lis >/dev/null"))


def _scripted(name: str, lines: Sequence[str], run: str) -> Command:
    script = shlex.quote("\n".join(lines) + "\n")
    line = f"cd {{scratch}} && printf %s {script} >script && HOME={{scratch}} {run}"
    return Command(name, ("sh", "-c", f"{line} >log 2>&1; test -s out.fits"))


BOUND = 5
"""All clip once at so many sigmas about the median."""

ALL: dict[str, tuple[str, Callable[[Path], Command]]] = {
    "masterframe": ("masterframe", masterframe),
    "Siril": ("siril-cli", lambda folder: siril(folder, f"rej m {BOUND} {BOUND}")),
    "IRAF": (
        "irafcl",
        lambda folder: iraf(folder, f'reject="sigclip",lsigma={BOUND},hsigma={BOUND}'),
    ),
    "gnuastro": ("astarithmetic", lambda folder: gnuastro(folder, BOUND)),
    "ccdproc": (sys.executable, lambda folder: python(folder, "ccdproc_combine.py", "ccdproc")),
    "astropy": (sys.executable, lambda folder: python(folder, "astropy_in_memory.py", "astropy")),
    "cat": ("cat", cat),
}
"""Each program by name: the executable that it needs, and its command for a folder."""


def present(names: Sequence[str]) -> list[str]:
    """Return those of some programs that are installed."""
    here = Path(sys.executable).parent
    return [name for name in names if shutil.which(ALL[name][0]) or (here / ALL[name][0]).exists()]
