"""The commands for nights: what is there, what would be made, and making it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from masterframe import __version__
from masterframe.cli.options import (
    AsJson,
    Config,
    Dashboard,
    Exclude,
    Insecure,
    Library,
    Memory,
    Nights,
    Output,
    Performance,
    Scheduler,
    Set,
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
    settings_of,
)


def scan_command(
    paths: Annotated[list[Path], typer.Argument(help="Folders or files.")],
    config: Config = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Show which rules were tried for each file.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Say of every file what it is, and why the others are refused."""
    say(as_json, f"masterframe {__version__}: scanning {listed(paths)}")
    from masterframe import inventory, listing
    from masterframe.config import load_config

    settings = load_config(config)
    if explain:
        tried = inventory.explain_kinds(paths, settings)
        finish(
            as_json,
            lambda: listing.explain_document(*tried),
            lambda: listing.explain_text(*tried),
        )
        return
    exposures, problems = inventory.scan_night(paths, settings)
    finish(
        as_json,
        lambda: listing.scan_document(exposures, problems),
        lambda: listing.scan_text(exposures, problems),
    )


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
    say(as_json, f"masterframe {__version__}: planning {listed(nights)}")
    from masterframe import forecast, listing, run

    settings = settings_of(config, override, exclude, library)
    out = run.output_folder(settings, output)
    plan = run.plan_nights(nights, settings, out)
    ahead = forecast.foresee(plan, settings, out, workers=workers, memory=memory_bytes(memory))
    finish(
        as_json,
        lambda: listing.plan_document(plan, ahead),
        lambda: listing.plan_text(plan, ahead),
    )


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
    performance: Performance = None,
    as_json: AsJson = False,
) -> None:
    """Make the masters and calibrated frames of a night."""
    where = join(scheduler, insecure) if scheduler else None
    say(as_json, f"masterframe {__version__}: reducing {listed(nights)}")
    from masterframe import listing, run

    settings = settings_of(config, override, exclude, library)
    where = where or join(address_for_dask() or settings.scheduler, insecure)
    out = run.output_folder(settings, output)
    run.check_folders(nights, out)
    plan = run.plan_nights(nights, settings, out, keep=True)
    with open_resources(
        where,
        workers or settings.workers,
        memory_bytes(memory) or settings.memory,
        dashboard,
        insecure,
        performance,
    ) as resources:
        report = run.run_plan(plan, settings, out, resources, force=force)
    finish(
        as_json,
        lambda: listing.run_document(plan, report),
        lambda: listing.run_text(plan, report),
    )
    raise typer.Exit(report.exit_code)


def init_command(
    night: Annotated[Path, typer.Argument(help="Folder of raw frames.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="File to write.")] = Path(
        "night.yaml"
    ),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file.")] = False,
) -> None:
    """Write a commented configuration for a night, from what its headers say."""
    say(False, f"masterframe {__version__}: looking at {night}")
    from masterframe import template

    template.write_config(night, output, overwrite=overwrite)
    say(False, f"{output} is written; next: masterframe plan {night} -c {output}")
