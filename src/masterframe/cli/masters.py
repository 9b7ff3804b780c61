"""The commands for what was made: ``explain``, ``verify``, ``report``, ``status``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from masterframe import __version__
from masterframe.cli.options import (
    AsJson,
    Folder,
)
from masterframe.cli.terminal import (
    finish,
    say,
)


def explain_command(  # noqa: PLR0913, PLR0917 - the options of a command are its parameters
    master: Annotated[Path, typer.Argument(help="A master that masterframe made.")],
    x: Annotated[int, typer.Argument(help="Column: FITS pixel of the master, from 1.")],
    y: Annotated[int, typer.Argument(help="Row: FITS pixel of the master, from 1.")],
    ext: Annotated[
        str | None, typer.Option(metavar="NAME", help="Image, where the master has several.")
    ] = None,
    inputs: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Where inputs and masters that were moved are now."),
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read all inputs whole and compare their DATASUM.")
    ] = False,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Draw it, too: a .png, .pdf or .svg that is written."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what each input gave to a pixel, what was applied, and in which pass it was rejected.

    X and Y count from 1, as FITS does; `stack.mf.explain` in Python takes array indices from 0.
    The pixel is combined again: the exit code is 1 if that is not what the master holds, or if an
    input has changed.
    """
    say(as_json, f"masterframe {__version__}: pixel {x}, {y} of {master}")
    from masterframe import explain, pixeltext

    history = explain.explain_master(
        str(master.absolute()), x - 1, y - 1, ext, [inputs] if inputs else [], verify=verify
    )
    if plot is not None:
        from masterframe import pixelplot

        pixelplot.save_plot(history, plot)
    finish(as_json, lambda: pixeltext.as_document(history), lambda: pixeltext.as_text(history))
    raise typer.Exit(1 if history.problems else 0)


def verify_command(
    out: Folder,
    thoroughly: Annotated[
        bool, typer.Option("--inputs", help="Read all inputs whole and compare their DATASUM.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Test every product: its checksums, its inputs, its numbers, the master before it.

    The exit code is 1 if anything fails, and 0 if all is well or merely worth a look.
    """
    say(as_json, f"masterframe {__version__}: verifying {out}")
    from masterframe import listing
    from masterframe.quality import archive

    found = archive.verify_folder(out, thoroughly=thoroughly)
    finish(as_json, lambda: listing.verify_document(found), lambda: listing.verify_text(found))
    raise typer.Exit(listing.verify_exit_code(found))


def report_command(out: Folder, as_json: AsJson = False) -> None:
    """Write the report of an output folder: OUT/report/index.html and report.json."""
    say(as_json, f"masterframe {__version__}: a report of {out}")
    from masterframe import report

    written = report.write_report(out)
    finish(
        as_json,
        lambda: {"report": str(written)},
        lambda: f"{written} is written; open it in a browser",
    )


def status_command(out: Folder, as_json: AsJson = False) -> None:
    """Show what the last run in an output folder is doing, from any terminal.

    The exit code is 0 while it works, then that of the run; 1 if it died.
    """
    from masterframe import status

    found = status.read_status(out)
    finish(as_json, found.as_dict, lambda: status.as_text(found))
    raise typer.Exit(status.exit_code(found))
