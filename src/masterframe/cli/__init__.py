"""The command line: its commands, and how they end; each group of commands is a module.

Nothing heavy is imported here: ``--help`` answers at once, and every command prints its first line
before it loads what it works with.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from io import TextIOWrapper
from typing import Annotated

import typer

from masterframe import __version__
from masterframe.cli import combine, masters, nights, trial
from masterframe.errors import MasterframeError

app = typer.Typer(
    name="masterframe",
    help="Combine astronomical frames: master bias, dark and flat, and calibrated science frames.",
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode=None,  # rich would cost a tenth of a second at every start
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)

GARBAGE = 100_000
"""Objects that are made before the first are searched for garbage: imports make many, and none."""
TURN = 1e-4
"""Time (s) after which a thread lets go of the interpreter when another wants it. With Python's own
5 ms, who reads ahead would wait that long after each call while modules are loaded."""
INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it: 128 and the number of SIGINT."""


def program() -> None:
    """Run the command line as a process of its own, whose last steps nothing disturbs.

    While Python ends, Ctrl-C would print a traceback, and leave undone what is cleaned up then.
    """
    try:
        main()
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)


def main() -> None:
    """Run the command line; errors become one line and an exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # names of files may hold what no encoding can
            stream.reconfigure(errors="backslashreplace")
    gc.set_threshold(GARBAGE)
    sys.setswitchinterval(TURN)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as Ctrl-C does, cleanly
    if "--traceback" in sys.argv:
        sys.argv.remove("--traceback")
        app()
    try:
        app()
    except MasterframeError as error:
        _end(str(error), error.exit_code)
    except SystemExit as end:
        if end.code == INTERRUPTED:  # what typer makes of Ctrl-C
            _end("interrupted; a second run goes on with what is not done", INTERRUPTED)
        raise
    except BrokenPipeError:  # masterframe ... | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        _end(f"{error.filename or 'the system'}: {error.strerror or error}", 3)
    except Exception as error:
        _end(f"internal error ({type(error).__name__}: {error}); --traceback shows where", 1)


def _end(message: str, code: int) -> None:
    from masterframe.console import clean

    typer.echo(f"masterframe: {clean(message)}", err=True)
    sys.exit(code)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"masterframe {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Take the options that stand before a command."""


for _command, _name, _short in (
    (combine.combine_command, "combine", "Combine files into one master."),
    (nights.scan_command, "scan", None),
    (nights.plan_command, "plan", "Show what a run would make, why, and its cost."),
    (nights.run_command, "run", None),
    (nights.init_command, "init", "Write a commented configuration for a night."),
    (trial.simulate_command, "simulate", None),
    (trial.demo_command, "demo", "Reduce a simulated night and check the result."),
    (trial.doctor_command, "doctor", None),
    (masters.explain_command, "explain", "Show all that led to one pixel of a master."),
    (masters.verify_command, "verify", "Test masters, checksums and inputs of an output folder."),
    (masters.report_command, "report", "Write the report of an output folder."),
    (masters.status_command, "status", "Show what a run is doing, or what became of it."),
):
    app.command(_name, short_help=_short)(_command)
