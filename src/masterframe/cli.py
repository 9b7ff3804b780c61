"""The command line: arguments, exit codes, and what a terminal shows.

Nothing heavy is imported here: ``--help`` answers at once, and every command prints its first line
before it loads what it works with.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from masterframe import __version__
from masterframe.errors import MasterframeError, UsageError

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
INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it: 128 and the number of SIGINT."""

Key = TypeVar("Key", str, float)
Memory = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        help="Memory that the run may take, as 2GB; half of what is free by default.",
    ),
]
Workers = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Workers; one a processor by default.")
]
Scheduler = Annotated[
    str | None,
    typer.Option(
        metavar="WHERE",
        help="threads (default), processes, the address of a scheduler, or a cluster's YAML file.",
    ),
]
Insecure = Annotated[
    bool, typer.Option("--insecure", help="Also where others can reach the ports in plain text.")
]
Dashboard = Annotated[bool, typer.Option("--dashboard", help="Serve Dask's dashboard on loopback.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document, and nothing else.")]
Config = Annotated[
    Path | None, typer.Option("-c", "--config", metavar="FILE", help="Configuration (YAML).")
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="A.B=C", help="Override one setting, as recipes.bias.low=4."),
]
Exclude = Annotated[
    list[str] | None,
    typer.Option(metavar="PATTERN", help="Leave out files whose name or path fits."),
]
Library = Annotated[
    Path | None,
    typer.Option("--library", metavar="FOLDER", help="Masters for what the night has none for."),
]
Output = Annotated[
    Path | None, typer.Option("-o", "--output", metavar="FOLDER", help="Folder for the products.")
]
Nights = Annotated[
    list[Path], typer.Argument(metavar="NIGHT", help="Folders of raw frames, one a night.")
]


def main() -> None:
    """Run the command line; errors become one line and an exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # names of files may hold what no encoding can
            stream.reconfigure(errors="backslashreplace")
    gc.set_threshold(GARBAGE)
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


@app.command("combine", short_help="Combine files into one master.")
def combine_command(  # noqa: PLR0913, PLR0917 - the options of a command are its parameters
    files: Annotated[
        list[str] | None,
        typer.Argument(metavar="FILE", help="FITS files, globs, or @LIST of names."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="The master to write.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the output.")] = False,
    hdu: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|N|all",
            help="Images of each file: names (CCD*, SCI,2 with EXTVER), numbers, several with "
            "commas, or all. [default: all that are no mask, weight, uncertainty or guider]",
        ),
    ] = None,
    subtract: Annotated[Path | None, typer.Option(help="Image taken from every frame.")] = None,
    divide: Annotated[Path | None, typer.Option(help="Image that divides every frame.")] = None,
    bad_pixels: Annotated[
        Path | None, typer.Option(help="Image whose non-zero pixels are left out.")
    ] = None,
    saturation: Annotated[
        float | None, typer.Option(help="Raw values from here on are left out.")
    ] = None,
    reject: Annotated[
        str | None,
        typer.Option(
            metavar="RULE",
            help="none, threshold, minmax, sigma (default), avsigma, ccd, percentile, pclip, "
            "winsorized, linearfit, gesd or varclip; or IRAF's or Siril's name: sigclip, "
            "avsigclip, ccdclip, crreject, iraf-minmax, iraf-pclip, siril-sigma, "
            "siril-percentile, siril-winsorized, median-sigma, mad, linear, gesdt, which --show "
            "tells in our terms.",
        ),
    ] = None,
    low: Annotated[
        str | None,
        typer.Option(
            "--low",
            "--lsigma",
            metavar="X",
            help="Bound below the centre, or off: sigmas; threshold: raw value; percentile: "
            "fraction of the median. [default: the rule's]",
        ),
    ] = None,
    high: Annotated[
        str | None,
        typer.Option("--high", "--hsigma", metavar="X", help="Bound above the centre, or off."),
    ] = None,
    center: Annotated[
        str | None,
        typer.Option(
            help="sigma, avsigma, ccd, varclip: median, mean, first-median or inner-mean."
        ),
    ] = None,
    mclip: Annotated[
        str | None, typer.Option(help="IRAF's: yes is --center median, no --center inner-mean.")
    ] = None,
    deviation: Annotated[
        str | None, typer.Option(help="sigma: mad (times 1.4826), std, or rms about the centre.")
    ] = None,
    ddof: Annotated[
        int | None, typer.Option(help="sigma: 0 or 1, divide the variance by n or n - 1.")
    ] = None,
    mad_correction: Annotated[
        bool | None,
        typer.Option(
            "--mad-correction/--no-mad-correction", help="sigma: correct the MAD for few values."
        ),
    ] = None,
    max_iters: Annotated[str | None, typer.Option(help="Passes at most, or all.")] = None,
    nlow: Annotated[int | None, typer.Option(help="minmax: lowest values dropped.")] = None,
    nhigh: Annotated[int | None, typer.Option(help="minmax: highest values dropped.")] = None,
    nkeep: Annotated[int | None, typer.Option(help="Values that must be left.")] = None,
    pclip: Annotated[
        float | None,
        typer.Option(
            help="pclip: values from the median to the one that measures the spread, or a fraction "
            "of half their number; negative: below."
        ),
    ] = None,
    fraction: Annotated[
        float | None, typer.Option(help="gesd: largest fraction of values rejected.")
    ] = None,
    alpha: Annotated[float | None, typer.Option(help="gesd: significance of the test.")] = None,
    snoise: Annotated[
        float | None, typer.Option(help="ccd: sensitivity noise, a fraction of the signal.")
    ] = None,
    grow: Annotated[
        float | None,
        typer.Option(metavar="PIXELS", help="Reject around rejected values, in the same frame."),
    ] = None,
    noise_floor: Annotated[
        str | None,
        typer.Option(
            help="Least sigma: auto (from quantisation and noise), or a number. [default: auto; 0 "
            "for IRAF's and Siril's names]"
        ),
    ] = None,
    gain: Annotated[
        str | None, typer.Option(help="Electrons per adu, or the keyword that holds it.")
    ] = None,
    read_noise: Annotated[
        str | None,
        typer.Option("--read-noise", "--rdnoise", help="Electrons, or the keyword that holds it."),
    ] = None,
    estimator: Annotated[
        str | None,
        typer.Option(
            "--combine",
            help="mean (default; average), median, lmedian, sum, weighted, min, max or trimmed.",
        ),
    ] = None,
    trim: Annotated[
        float | None,
        typer.Option(metavar="FRACTION", help="trimmed: left out at each end. [default: 0.2]"),
    ] = None,
    scale: Annotated[
        str | None,
        typer.Option(
            metavar="HOW",
            help="Factor of each frame before rejection: none, mode, median, mean or exposure "
            "bring all to the level of the first by date and name; level divides each by its "
            "median; a KEYWORD, numbers with commas, or @FILE of numbers multiply as they are.",
        ),
    ] = None,
    zero: Annotated[
        str | None,
        typer.Option(
            metavar="HOW",
            help="What is added to each frame after its factor: none, mode, median or mean as for "
            "--scale; a KEYWORD, numbers or @FILE are added as they are.",
        ),
    ] = None,
    weight: Annotated[
        str | None,
        typer.Option(
            metavar="HOW",
            help="Makes the mean a weighted one: none, mode, median, mean, exposure, noise "
            "(measured, inverse square), variance (inverse, by gain and read noise), a KEYWORD, "
            "numbers or @FILE.",
        ),
    ] = None,
    statsec: Annotated[
        str | None,
        typer.Option(
            metavar="SECTION", help="[x0:x1,y0:y1], from 1, where frames are measured; else all."
        ),
    ] = None,
    dtype: Annotated[
        str | None, typer.Option(help="float32 or float64. [default: float32]")
    ] = None,
    planes: Annotated[
        str | None, typer.Option(help="More planes: rejlow,rejhigh,exposure,propagated.")
    ] = None,
    verify_checksums: Annotated[
        str | None,
        typer.Option(
            help="DATASUM and CHECKSUM of the files: auto (of what is read), always (of all, "
            "first) or never. [default: auto]"
        ),
    ] = None,
    show: Annotated[
        bool, typer.Option("--show", help="Print what all parameters resolve to, and stop.")
    ] = False,
    scheduler: Scheduler = None,
    workers: Workers = None,
    memory: Memory = None,
    dashboard: Dashboard = False,
    insecure: Insecure = False,
    as_json: AsJson = False,
) -> None:
    """Combine files into one master: clip about the median, average the rest."""
    options = dict(locals())
    if show:
        _show_parameters(options)
        return
    where = _join(scheduler or _address_for_dask() or "threads", insecure)
    count = len(files or [])
    _say(as_json, f"masterframe {__version__}: combining {count} arguments into {output}")
    from masterframe import ahead, cluster, paths

    found = paths.expand_paths(files) if files else []
    with ahead.walking(found, cluster.available_memory() // 4):  # while the rest is loaded
        from masterframe import direct
        from masterframe.console import clean
        from masterframe.request import read_options

        request = read_options(options)
        with _resources(where, workers, _memory(memory), dashboard, insecure) as resources:
            made = direct.combine_files(request, resources)
    _finish(as_json, made.as_dict(), clean(made.summary()))


def _show_parameters(options: dict[str, Any]) -> None:
    from masterframe import listing, request

    reject, parameters = options["reject"], request.show(options)
    _finish(
        options["as_json"],
        listing.parameters_document(reject, parameters),
        listing.parameters_text(reject, parameters),
    )


@app.command("scan")
def scan_command(
    paths: Annotated[list[Path], typer.Argument(help="Folders or files.")],
    config: Config = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Show which rules were tried for each file.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Say of every file what it is, and why the others are refused."""
    _say(as_json, f"masterframe {__version__}: scanning {_listed(paths)}")
    from masterframe import inventory, listing
    from masterframe.config import load_config

    settings = load_config(config)
    if explain:
        tried = inventory.explain_kinds(paths, settings)
        _finish(as_json, listing.explain_document(*tried), listing.explain_text(*tried))
        return
    exposures, problems = inventory.scan_night(paths, settings)
    document = listing.scan_document(exposures, problems)
    _finish(as_json, document, "" if as_json else listing.scan_text(exposures, problems))


@app.command("plan", short_help="Show what a run would make, why, and its cost.")
def plan_command(  # noqa: PLR0913, PLR0917 - the options of a command are its parameters
    nights: Nights,
    config: Config = None,
    output: Output = None,
    override: Set = None,
    exclude: Exclude = None,
    library: Library = None,
    workers: Workers = None,
    memory: Memory = None,
    as_json: AsJson = False,
) -> None:
    """Show what a run would make, from what, why, and what it would cost."""
    _say(as_json, f"masterframe {__version__}: planning {_listed(nights)}")
    from masterframe import forecast, listing, run

    settings = _settings(config, override, exclude, library)
    plan = run.plan_nights(nights, settings)
    out = run.output_folder(settings, output)
    ahead = forecast.foresee(plan, settings, out, workers=workers, memory=_memory(memory))
    _finish(
        as_json,
        listing.plan_document(plan, ahead),
        "" if as_json else listing.plan_text(plan, ahead),
    )


@app.command("run")
def run_command(  # noqa: PLR0913, PLR0917 - the options of a command are its parameters
    nights: Nights,
    config: Config = None,
    output: Output = None,
    override: Set = None,
    exclude: Exclude = None,
    library: Library = None,
    force: Annotated[bool, typer.Option("--force", help="Make what is up to date, too.")] = False,
    scheduler: Scheduler = None,
    workers: Workers = None,
    memory: Memory = None,
    dashboard: Dashboard = False,
    insecure: Insecure = False,
    as_json: AsJson = False,
) -> None:
    """Make the masters and calibrated frames of a night."""
    where = _join(scheduler, insecure) if scheduler else None
    _say(as_json, f"masterframe {__version__}: reducing {_listed(nights)}")
    from masterframe import listing, run

    settings = _settings(config, override, exclude, library)
    where = where or _join(_address_for_dask() or settings.scheduler, insecure)
    out = run.output_folder(settings, output)
    run.check_folders(nights, out)
    plan = run.plan_nights(nights, settings)
    with _resources(
        where,
        workers or settings.workers,
        _memory(memory) or settings.memory,
        dashboard,
        insecure,
    ) as resources:
        report = run.run_plan(plan, settings, out, resources, force=force)
    _finish(
        as_json,
        listing.run_document(plan, report),
        "" if as_json else listing.run_text(plan, report),
    )
    raise typer.Exit(report.exit_code)


@app.command("init", short_help="Write a commented configuration for a night.")
def init_command(
    night: Annotated[Path, typer.Argument(help="Folder of raw frames.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="File to write.")] = Path(
        "night.yaml"
    ),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file.")] = False,
) -> None:
    """Write a commented configuration for a night, from what its headers say."""
    _say(False, f"masterframe {__version__}: looking at {night}")
    from masterframe import template

    template.write_config(night, output, overwrite=overwrite)
    _say(False, f"{output} is written; next: masterframe plan {night} -c {output}")


Counts = list[str] | None


@app.command("simulate")
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
    _say(False, f"masterframe {__version__}: simulating a night in {folder}")
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
    _say(False, f"{len(truth.shots)} files in {truth.night}, what they hold in {truth.folder}")


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


@app.command("demo", short_help="Reduce a simulated night and check the result.")
def demo_command(
    folder: Annotated[Path, typer.Argument(help="Folder to make.")] = Path("demo"),
) -> None:
    """Simulate a night with planted faults, reduce it, and say which were found."""
    _say(False, f"masterframe {__version__}: a simulated night in {folder}")
    from masterframe import demo

    raise typer.Exit(demo.run_demo(folder))


@app.command("doctor")
def doctor_command(as_json: AsJson = False) -> None:
    """Check what this machine offers, and what is missing."""
    _say(as_json, f"masterframe {__version__}: looking at this machine")
    from masterframe import doctor

    checks = doctor.examine()
    _finish(as_json, doctor.as_document(checks), doctor.as_text(checks))
    raise typer.Exit(doctor.exit_code(checks))


@app.command("explain", short_help="Show all that led to one pixel of a master.")
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
    _say(as_json, f"masterframe {__version__}: pixel {x}, {y} of {master}")
    from masterframe import explain, pixeltext

    history = explain.explain_master(
        str(master.absolute()), x - 1, y - 1, ext, [inputs] if inputs else [], verify=verify
    )
    if plot is not None:
        from masterframe import pixelplot

        pixelplot.save_plot(history, plot)
    _finish(as_json, pixeltext.as_document(history), pixeltext.as_text(history))
    raise typer.Exit(1 if history.problems else 0)


Folder = Annotated[Path, typer.Argument(metavar="OUT", help="Output folder of a run.")]


@app.command("verify", short_help="Test masters, checksums and inputs of an output folder.")
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
    _say(as_json, f"masterframe {__version__}: verifying {out}")
    from masterframe import listing
    from masterframe.quality import archive

    found = archive.verify_folder(out, thoroughly=thoroughly)
    _finish(as_json, listing.verify_document(found), listing.verify_text(found))
    raise typer.Exit(listing.verify_exit_code(found))


@app.command("report", short_help="Write the report of an output folder.")
def report_command(out: Folder, as_json: AsJson = False) -> None:
    """Write the report of an output folder: OUT/report/index.html and report.json."""
    _say(as_json, f"masterframe {__version__}: a report of {out}")
    from masterframe import report

    written = report.write_report(out)
    _finish(as_json, {"report": str(written)}, f"{written} is written; open it in a browser")


@app.command("status", short_help="Show what a run is doing, or what became of it.")
def status_command(out: Folder, as_json: AsJson = False) -> None:
    """Show what the last run in an output folder is doing, from any terminal.

    The exit code is 0 while it works, then that of the run; 1 if it died.
    """
    from masterframe import status

    found = status.read_status(out)
    _finish(as_json, found.as_dict(), status.as_text(found))
    raise typer.Exit(status.exit_code(found))


def _settings(
    config: Path | None,
    override: list[str] | None,
    exclude: list[str] | None,
    library: Path | None = None,
) -> Any:
    from masterframe.config import load_config

    settings = load_config(config, override or (), exclude or ())
    return replace(settings, library=str(library)) if library else settings


def _listed(paths: list[Path]) -> str:
    shown = ", ".join(str(path) for path in paths[:3])
    return shown + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")


def _memory(text: str | None) -> int | None:
    if text is None:
        return None
    from masterframe.tiling import parse_bytes

    try:
        return parse_bytes(text)
    except ValueError as error:
        raise UsageError(f"--memory: {error}") from None


def _say(as_json: bool, text: str) -> None:
    """Print the first line before anything heavy is loaded; nothing where JSON is wanted."""
    if not as_json:
        from masterframe.console import clean

        print(clean(text), flush=True)  # noqa: T201 - the terminal is what this module is for


def _finish(as_json: bool, document: dict[str, Any], text: str) -> None:
    import json

    print(json.dumps(document, indent=1) if as_json else text, flush=True)  # noqa: T201


def _address_for_dask() -> str:
    """Return the scheduler that all programs on Dask are told to use, '' without one."""
    return os.environ.get("DASK_SCHEDULER_ADDRESS", "")


def _join(scheduler: str, insecure: bool) -> Any:
    """Return where tasks run: a word, an address, or what a YAML file describes.

    Where this process is but the scheduler or a worker of an allocation, it is that to the end.
    """
    if not scheduler.lower().endswith((".yaml", ".yml")):
        return scheduler
    from masterframe import cluster
    from masterframe.config import load_cluster

    spec = load_cluster(scheduler)
    cluster.join(spec, insecure=insecure)
    return spec


@contextmanager
def _resources(
    scheduler: Any, workers: int | None, memory: int | None, dashboard: bool, insecure: bool
) -> Iterator[Any]:
    """Open what the options of a run ask for, with progress on standard error."""
    from masterframe import console, store

    with (
        console.open_reporter() as reporter,
        store.open_resources(
            scheduler,
            workers=workers,
            memory=memory,
            dashboard=dashboard,
            insecure=insecure,
            reporter=reporter,
        ) as resources,
    ):
        if resources.runner.dashboard:
            reporter.note(f"Dashboard: {resources.runner.dashboard}")
        yield resources
