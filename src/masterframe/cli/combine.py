"""The command ``combine``: a list of files into one master."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from masterframe import __version__
from masterframe.cli.options import (
    AsJson,
    Dashboard,
    Insecure,
    Memory,
    Performance,
    Scheduler,
    Workers,
)
from masterframe.cli.terminal import (
    address_for_dask,
    finish,
    join,
    listed,
    memory_bytes,
    open_resources,
    say,
)


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
    performance: Performance = None,
    as_json: AsJson = False,
) -> None:
    """Combine files into one master: clip about the median, average the rest."""
    options = dict(locals())
    if show:
        _show_parameters(options)
        return
    where = join(scheduler or address_for_dask() or "threads", insecure)
    what = listed([Path(name) for name in files or []])
    say(as_json, f"masterframe {__version__}: combining {what} into {output}")
    from masterframe import ahead, paths

    found = paths.expand_paths(files) if files else []
    with ahead.walking(found, ahead.EARLY):  # while the program is loaded
        from masterframe import direct
        from masterframe.console import clean
        from masterframe.request import read_options

        request = read_options(options)
    with open_resources(
        where, workers, memory_bytes(memory), dashboard, insecure, performance
    ) as resources:
        made = direct.combine_files(request, resources)
    finish(as_json, made.as_dict, lambda: clean(made.summary()))


def _show_parameters(options: dict[str, Any]) -> None:
    from masterframe import listing, request

    reject, parameters = options["reject"], request.show(options)
    finish(
        options["as_json"],
        lambda: listing.parameters_document(reject, parameters),
        lambda: listing.parameters_text(reject, parameters),
    )
