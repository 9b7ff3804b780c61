"""Walk a plan: make what is not up to date, in an order in which it can be made."""

from __future__ import annotations

import gc
import hashlib
import os
import platform
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from masterframe import (
    __version__,
    cluster,
    events,
    fits,
    inventory,
    journal,
    report,
    runlog,
    scratchfolder,
    store,
)
from masterframe.config import load_config
from masterframe.errors import (
    ConfigError,
    FrameError,
    MasterframeError,
    UsageError,
)
from masterframe.fits import masters
from masterframe.model import (
    Config,
    Plan,
    StoredMaster,
)
from masterframe.plan import make_plan
from masterframe.runlog import log, log_file
from masterframe.walk import Outcome, Walk

PACKAGES = ("numpy", "numba", "astropy", "dask", "xarray")
"""Packages whose versions a run records."""


@dataclass(frozen=True, slots=True)
class Report:
    """What became of a plan."""

    outcomes: tuple[Outcome, ...]
    """One a product, in the order of the plan."""
    seconds: float
    """Wall time."""
    page: str = ""
    """The HTML report that was written; '' for none."""
    strict: bool = False
    """A master that fails a test counts like a product that failed."""

    @property
    def exit_code(self) -> int:
        """0 if every product is there, 1 if some failed or are blocked, or there is none.

        1 also where a master fails a test and the configuration has
        ``quality: {masters: {action: fail}}``.
        """
        if not self.outcomes or any(item.state in ("failed", "blocked") for item in self.outcomes):
            return 1
        return int(self.strict and any(item.fails_a_test for item in self.outcomes))


def run_plan(
    plan: Plan, config: Config, out: Path, resources: store.Resources, *, force: bool = False
) -> Report:
    """Make the products of a plan.

    Parameters
    ----------
    plan : Plan
        What is to be made; masters stand before what takes them.
    config : Config
        Its bad-pixel file holds for all products.
    out : Path
        Output folder; locked while this runs.
    resources : Resources
        Where it runs, in how much memory, and who is told.
    force : bool
        Make products that are up to date, too.

    Returns
    -------
    Report
        What became of each product; one that fails blocks what takes it and nothing else.

    Raises
    ------
    LockedError
        If another run works in the folder.
    StorageError
        If the folder cannot be written.
    """
    began = time.monotonic()
    _check_bad_pixels(config)
    with (
        journal.lock(out) as owner,
        log_file(out),
        events.open_log(out, **_run_facts(plan, resources, owner)) as noted,
        scratchfolder.open_folder(journal.state_folder(out) / "scratch") as folder,
        events.sampling(noted, resources.runner),
    ):
        journal.sweep_parts(out)
        log.info("masterframe %s: a run of %d products", __version__, len(plan.products))
        given = replace(resources, scratch=folder)
        walk = Walk(plan, config, out, given, force, noted)
        strict = config.quality.masters.action == "fail"
        made = Report(walk.outcomes(), time.monotonic() - began, strict=strict)
        log.info("the run ends with exit code %d", made.exit_code)
        noted.write(events.RUN_ENDED, exit_code=made.exit_code, seconds=made.seconds)
        page = _page(plan, config, out, resources, made, walk.ledger)
        return replace(made, page=page)


def _page(
    plan: Plan,
    config: Config,
    out: Path,
    resources: store.Resources,
    made: Report,
    ledger: journal.Ledger,
) -> str:
    """Return the report of a run; where it would tell what the last one tells, that is kept."""
    news = _news(plan, config, made, ledger)
    page = out / report.PAGE
    nothing_made = all(outcome.state != "made" for outcome in made.outcomes)
    if nothing_made and news and news == ledger.told and (page.is_file() or not config.report):
        log.info("the report is kept: there is nothing new to tell")
        return str(page) if config.report else ""
    written = _report(plan, config, out, resources, made)
    ledger.tell(news if written or not config.report else "")
    ledger.keep()
    return written


def _news(plan: Plan, config: Config, made: Report, ledger: journal.Ledger) -> str:
    """Return a name for what a report of a run can tell; '' where not all files are known."""
    facts: list[object] = [__version__, config, plan.left_out, plan.problems, plan.notes]
    for product, outcome in zip(plan.products, made.outcomes, strict=True):
        there = outcome.state in ("made", "up to date")
        record = ledger.find(product.output) if there else None
        if there and record is None:
            return ""
        what = record.stamp if record else (outcome.state, outcome.reason)
        facts.append((product.name, product.notes, what))
    return hashlib.sha256(repr(facts).encode(errors="backslashreplace")).hexdigest()


def _report(plan: Plan, config: Config, out: Path, resources: store.Resources, made: Report) -> str:
    """Keep what the run did and write the report; whatever goes wrong, the products are there.

    Returns the page that was written, '' for none.
    """
    try:
        runlog.write_record(out, _record(plan, config, resources, made))
        if config.report:
            return str(report.write_report(out))
    except (
        MasterframeError,
        OSError,
        ArithmeticError,
        LookupError,
        TypeError,
        ValueError,
    ) as error:
        text = f"no report: {str(error) or type(error).__name__}"
        log.warning(text)
        resources.reporter.note(text)
    return ""


def _run_facts(plan: Plan, resources: store.Resources, owner: str) -> dict[str, Any]:
    """Return what is known of a run when it starts."""
    return {
        "owner": owner,
        "version": __version__,
        "products": len(plan.products),
        "workers": resources.runner.workers,
        "memory_limit": resources.memory,
        "dashboard": resources.runner.dashboard,
    }


def _record(plan: Plan, config: Config, resources: store.Resources, made: Report) -> dict[str, Any]:
    """Return what the run was asked for, what it did, and with what."""
    return {
        "version": __version__,
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": sys.argv[1:] if Path(sys.argv[0]).name == "masterframe" else [],
        "config": config,
        "plan": plan.as_dict(),
        "products": [outcome.as_dict() for outcome in made.outcomes],
        "seconds": made.seconds,
        "exit_code": made.exit_code,
        "bytes_read": sum(outcome.bytes_read for outcome in made.outcomes),
        "memory": resources.memory,
        "peak_memory": cluster.peak_bytes(),
        "workers": resources.runner.workers,
        "dashboard": resources.runner.dashboard,
        "machine": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "versions": {name: metadata.version(name) for name in PACKAGES},
    }


def _check_bad_pixels(config: Config) -> None:
    """Refuse a bad-pixel file that is none before any product needs it."""
    if config.bad_pixels:
        try:
            masters.open_master(config.bad_pixels)
        except FrameError as error:
            raise ConfigError(f"bad_pixels: {error}") from None


def run_night(
    night: str | os.PathLike[str],
    out: str | os.PathLike[str],
    config: Config | str | os.PathLike[str] | None = None,
    *,
    force: bool = False,
    resources: store.Resources | None = None,
) -> Report:
    """Make the masters and calibrated frames of a night.

    Parameters
    ----------
    night : path
        Folder of raw frames.
    out : path
        Folder for the products.
    config : Config or path, optional
        What `masterframe.load_config` gave, or its YAML file; by default the defaults.
    force : bool
        Make products that are up to date, too.
    resources : store.Resources, optional
        Where it runs; by default on the Dask client that is active, else on threads.

    Returns
    -------
    Report
        What became of each product.

    Raises
    ------
    MasterframeError
        If the night or the configuration cannot be read, or the output not be written.

    Examples
    --------
    >>> import masterframe as mf
    >>> report = mf.run_night("night", "reduced")
    >>> [outcome.state for outcome in report.outcomes]
    ['made', 'made']
    >>> report.exit_code
    0
    """
    if not isinstance(config, Config):
        config = load_config(None if config is None else Path(config))
    plan = plan_nights([Path(night)], config, Path(out).absolute(), keep=True)
    with store.use_resources(resources) as used:
        return run_plan(plan, config, Path(out).absolute(), used, force=force)


def plan_nights(
    nights: Sequence[Path], config: Config, out: Path | None = None, *, keep: bool = False
) -> Plan:
    """Scan the folders of one or several nights and plan their products.

    Parameters
    ----------
    nights : sequence of Path
        Folders, files or patterns.
    config : Config
        Instruments, types and recipes.
    out : Path, optional
        Output folder: headers that an earlier run for it has read are not read again.
    keep : bool
        Keep there for the next run what is read by this one.

    Raises
    ------
    UsageError
        If a folder is not there.
    StorageError
        If something is to be kept, and the folder cannot be made.
    """
    _check_nights(nights)
    memory = fits.ScanMemory(out / journal.STATE_FOLDER / "scans" if out else None)
    with _uncollected():
        exposures, problems = inventory.scan_night(nights, config, memory)
        masters: tuple[StoredMaster, ...] = ()
        if config.library:
            masters, unfit = inventory.scan_library(config.library, config, memory)
            problems = (*problems, *unfit)
        if out and keep:
            journal.state_folder(out)
            memory.keep()
        return make_plan(exposures, problems, config, masters)


@contextmanager
def _uncollected() -> Iterator[None]:
    """Look for no garbage meanwhile: there is none in a plan, but millions of objects to look at.

    It takes a fifth of the time of a night of ten thousand frames.
    """
    collected = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collected:
            gc.enable()


def _check_nights(nights: Sequence[Path]) -> None:
    for night in nights:
        if not night.exists():
            raise UsageError(f"{night} does not exist")


def check_folders(nights: Sequence[Path], out: Path) -> None:
    """Find out before a long scan that a run could not begin.

    Raises
    ------
    UsageError
        If the folder of a night is not there.
    LockedError
        If another run works in the output folder.
    StorageError
        If the output folder cannot be written.
    """
    _check_nights(nights)
    with journal.lock(out):
        pass


def output_folder(config: Config, given: Path | None) -> Path:
    """Return where products go: as given, as configured, or ``reduced`` here."""
    return Path(given or config.output or "reduced").absolute()
