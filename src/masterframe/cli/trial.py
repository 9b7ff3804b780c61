"""The commands to try the program and its machine: ``simulate``, ``demo``, ``doctor``."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from masterframe import __version__
from masterframe.cli.options import (
    AsJson,
    Workers,
)
from masterframe.cli.terminal import (
    finish,
    say,
)
from masterframe.errors import UsageError

Key = TypeVar("Key", str, float)
Counts = list[str] | None


def simulate_command(  # noqa: PLR0913, PLR0917 - the options of a command are its parameters
    folder: Annotated[Path, typer.Argument(help="Folder to make; night/ and truth/ go into it.")],
    rows: Annotated[int, typer.Option(metavar="N", help="Rows that see light.")] = 1024,
    columns: Annotated[int, typer.Option(metavar="N", help="Columns that see light.")] = 1056,
    overscan: Annotated[int, typer.Option(metavar="N", help="Columns of overscan.")] = 32,
    extensions: Annotated[
        int, typer.Option(metavar="N", help="CCDs of a mosaic, each an extension of the files.")
    ] = 1,
    amplifiers: Annotated[
        int, typer.Option(metavar="N", help="Amplifiers of a CCD, each with an overscan.")
    ] = 1,
    bias: Annotated[int, typer.Option(metavar="N", help="Bias frames.")] = 10,
    dark: Annotated[
        Counts, typer.Option(metavar="SECONDS=N", help="Darks; again for more. [default: 120=10]")
    ] = None,
    flat: Annotated[
        Counts, typer.Option(metavar="FILTER=N", help="Flats; again for more. [default: V=10]")
    ] = None,
    science: Annotated[
        Counts, typer.Option(metavar="FILTER=N", help="Science frames. [default: V=5]")
    ] = None,
    exptime: Annotated[
        float, typer.Option(metavar="SECONDS", help="Exposure time of the science frames.")
    ] = 120.0,
    twilight: Annotated[
        bool, typer.Option("--twilight", help="Flats of a fading sky, not of a lamp.")
    ] = False,
    stars: Annotated[int, typer.Option(metavar="N", help="Stars in the field.")] = 200,
    cosmic_rate: Annotated[
        float, typer.Option(metavar="RATE", help="Cosmic rays per second and million pixels.")
    ] = 0.1,
    defect: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Add a bad file, as truncated; or all. Again for more."),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Equal seeds give equal nights.")] = 1,
    workers: Workers = None,
) -> None:
    """Make a raw night with known truth."""
    say(False, f"masterframe {__version__}: simulating a night in {folder}")
    from masterframe import cluster, simulate

    spec = simulate.NightSpec(
        simulate.Camera((rows, columns), overscan, extensions, amplifiers),
        bias=bias,
        darks=_counts("--dark", dark or ["120=10"], float),
        flats=_counts("--flat", flat or ["V=10"], str),
        science=_counts("--science", science or ["V=5"], str),
        exptime=exptime,
        flat_light="twilight" if twilight else "lamp",
        stars=stars,
        cosmic_rate=cosmic_rate,
        defects=tuple(simulate.DEFECTS if defect == ["all"] else defect or ()),
        seed=seed,
    )
    truth = simulate.simulate_night(folder, spec, workers=workers or cluster.available_cores())
    say(False, f"{len(truth.shots)} files in {truth.night}, what they hold in {truth.folder}")


def _counts(option: str, given: list[str], key: Callable[[str], Key]) -> dict[Key, int]:
    """Read ``KEY=N`` texts; ``0`` alone asks for none."""
    if given == ["0"]:
        return {}
    counts = {}
    for text in given:
        name, _, number = text.rpartition("=")
        try:
            counts[key(name)] = int(number)
        except ValueError:
            raise UsageError(f"{option} {text}: write {option} KEY=N, as V=10 or 120=10") from None
    return counts


def demo_command(
    folder: Annotated[Path, typer.Argument(help="Folder to make.")] = Path("demo"),
) -> None:
    """Simulate a night with planted faults, reduce it, and say which were found."""
    say(False, f"masterframe {__version__}: a simulated night in {folder}")
    from masterframe import demo

    raise typer.Exit(demo.run_demo(folder))


def doctor_command(as_json: AsJson = False) -> None:
    """Check what this machine offers, and what is missing."""
    say(as_json, f"masterframe {__version__}: looking at this machine")
    from masterframe import doctor

    checks = doctor.examine(partial(say, as_json))
    finish(as_json, lambda: doctor.as_document(checks), lambda: doctor.as_text(checks))
    raise typer.Exit(doctor.exit_code(checks))
