"""Walk a plan: make what is not up to date, in an order in which it can be made."""

from __future__ import annotations

import math
import os
import platform
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from masterframe import __version__, cluster, freshness, inventory, journal, report, runlog, store
from masterframe.config import load_config
from masterframe.errors import (
    ClusterLostError,
    ConfigError,
    FrameError,
    LockedError,
    MasterframeError,
    StorageError,
    UsageError,
)
from masterframe.fits import masters, scratch
from masterframe.model import (
    Config,
    Plan,
    Product,
)
from masterframe.plan import make_plan
from masterframe.products import calibrated_job, master_job
from masterframe.quality.verdicts import Check
from masterframe.runlog import log, log_file

PACKAGES = ("numpy", "numba", "astropy", "dask", "xarray")
"""Packages whose versions a run records."""

State = Literal["made", "up to date", "failed", "blocked"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one product."""

    name: str
    """`Product.name`."""
    kind: str
    """Kind of the exposures that went in."""
    state: State
    """made, up to date, failed or blocked."""
    output: str
    """The file."""
    n_frames: int
    """Frames that went in."""
    reason: str = ""
    """Why it failed or is blocked."""
    notes: tuple[str, ...] = ()
    """What an observer should know."""
    numbers: Mapping[str, float] = field(default_factory=dict)
    """Numbers of the QUALITY table."""
    tests: tuple[Check, ...] = ()
    """What the master was tested for, where it was made."""
    seconds: float = 0.0
    """Wall time."""
    bytes_read: int = 0
    """Bytes of pixels that were combined."""

    def as_dict(self) -> dict[str, Any]:
        """Return it in the types of JSON; numbers that are none become null."""
        numbers = {k: v if math.isfinite(v) else None for k, v in self.numbers.items()}
        tests = [item.as_dict() for item in self.tests]
        return {**asdict(self), "numbers": numbers, "tests": tests}


@dataclass(frozen=True, slots=True)
class Report:
    """What became of a plan."""

    outcomes: tuple[Outcome, ...]
    """One a product, in the order of the plan."""
    seconds: float
    """Wall time."""

    @property
    def exit_code(self) -> int:
        """0 if every product is there, 1 if some failed or are blocked, or there is none."""
        return int(
            not self.outcomes or any(item.state in ("failed", "blocked") for item in self.outcomes)
        )


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
        journal.lock(out),
        log_file(out),
        scratch.open_folder(journal.state_folder(out) / "scratch") as folder,
    ):
        journal.sweep_parts(out)
        log.info("masterframe %s: a run of %d products", __version__, len(plan.products))
        outcomes = _Walk(plan, config, out, replace(resources, scratch=folder), force).outcomes()
        made = Report(outcomes, time.monotonic() - began)
        log.info("the run ends with exit code %d", made.exit_code)
        _report(plan, config, out, resources, made)
    return made


def _report(
    plan: Plan, config: Config, out: Path, resources: store.Resources, made: Report
) -> None:
    """Keep what the run did and write the report; whatever goes wrong, the products are there."""
    try:
        runlog.write_record(out, _record(plan, config, resources, made))
        if config.report:
            report.write_report(out)
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


def _record(plan: Plan, config: Config, resources: store.Resources, made: Report) -> dict[str, Any]:
    """Return what the run was asked for, what it did, and with what."""
    return {
        "version": __version__,
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": sys.argv[1:] if Path(sys.argv[0]).name == "masterframe" else [],
        "config": asdict(config),
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
    plan = plan_nights([Path(night)], config)
    with store.use_resources(resources) as used:
        return run_plan(plan, config, Path(out).absolute(), used, force=force)


def plan_nights(nights: Sequence[Path], config: Config) -> Plan:
    """Scan the folders of one or several nights and plan their products.

    Raises
    ------
    UsageError
        If a folder is not there.
    """
    _check_nights(nights)
    exposures, problems = inventory.scan_night(nights, config)
    if not config.library:
        return make_plan(exposures, problems, config)
    library, unfit = inventory.scan_library(config.library, config)
    return make_plan(exposures, (*problems, *unfit), config, library)


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


class _Walk:
    """One pass over a plan; remembers what has become of each product."""

    def __init__(
        self, plan: Plan, config: Config, out: Path, resources: store.Resources, force: bool
    ) -> None:
        self._plan = plan
        self._config = config
        self._out = out
        self._resources = resources
        self._force = force
        self._scratch = resources.scratch or journal.state_folder(out)
        self._known: dict[str, Outcome] = {}

    def outcomes(self) -> tuple[Outcome, ...]:
        """Make all masters, then all calibrated frames."""
        for product in self._plan.products:
            if product.kind != "science":
                self._known[product.name] = self._settle(product) or self._master(product)
                self._tell(product)
        self._calibrate([item for item in self._plan.products if item.kind == "science"])
        return tuple(self._known[product.name] for product in self._plan.products)

    def _settle(self, product: Product) -> Outcome | None:
        """Return the outcome of a product that is not to be made; None where it is."""
        if product.blocked:
            return _outcome(product, self._out, "blocked", product.blocked)
        lacking = [
            use.product
            for use in product.uses
            if not use.library and self._known[use.product].state in ("failed", "blocked")
        ]
        if lacking:
            return _outcome(product, self._out, "blocked", f"needs {', '.join(lacking)}")
        try:
            return self._kept(product)
        except MasterframeError as error:  # a file that it is compared with cannot be read
            return _outcome(product, self._out, "failed", str(error))

    def _kept(self, product: Product) -> Outcome | None:
        """Return the outcome of a product whose file is up to date, or not ours to replace."""
        obstacle = freshness.in_the_way(
            self._out / product.output, force=self._force, thoroughly=product.kind != "science"
        )
        if obstacle:
            return _outcome(product, self._out, "failed", obstacle)
        if self._force:
            return None
        remade = {name for name, outcome in self._known.items() if outcome.state == "made"}
        state = freshness.check(product, self._config, self._out, remade)
        if state.current:
            return _outcome(product, self._out, "up to date")
        log.info("%s: to be made, %s", product.name, state.reason)
        return None

    def _tell(self, product: Product) -> None:
        outcome = self._known[product.name]
        text = f"{product.name}: {outcome.state}" + (f", {outcome.reason}" * bool(outcome.reason))
        if outcome.state in ("failed", "blocked"):
            log.error(text)
            self._resources.reporter.note(text)
        else:
            log.info(text)
        for note in outcome.notes:
            log.warning("%s: %s", product.name, note)

    def _master(self, product: Product) -> Outcome:
        try:
            with scratch.open_folder(self._scratch) as folder:
                resources = replace(self._resources, scratch=folder)
                job = master_job(product, self._config, self._out, resources)
                made = store.make_master(job, resources)
        except (StorageError, LockedError, ClusterLostError):
            raise  # nothing else could be made or written either
        except MasterframeError as error:
            return _outcome(product, self._out, "failed", str(error))
        notes = tuple(f"left out {item.source.path}: {item.reason}" for item in job.left_out)
        return replace(
            _outcome(product, self._out, "made", notes=(*job.history, *notes)),
            n_frames=made.n_frames,
            numbers=made.numbers,
            tests=made.tests,
            bytes_read=made.bytes_read,
            seconds=made.seconds,
        )

    def _calibrate(self, products: Sequence[Product]) -> None:
        """Calibrate science frames, each in a task of its own, several at a time."""
        waiting = []
        for product in products:
            outcome = self._settle(product)
            if outcome is None:
                try:
                    job = calibrated_job(product, self._config, self._out)
                    waiting.append((product, job))
                    continue
                except MasterframeError as error:
                    outcome = _outcome(product, self._out, "failed", str(error))
            self._known[product.name] = outcome
            self._tell(product)
        sizes = [sum(item.image.frame.size for item in job.images) for _, job in waiting]
        if waiting:
            self._resources.reporter.begin("calibrated frames", sum(sizes))
        results = store.write_all_calibrated([job for _, job in waiting], self._resources)
        for (product, _), size, result in zip(waiting, sizes, results, strict=True):
            if isinstance(result, MasterframeError):
                self._known[product.name] = _outcome(product, self._out, "failed", str(result))
            else:
                made = _outcome(product, self._out, "made")
                self._known[product.name] = replace(made, seconds=result)
            self._resources.reporter.advance(size)
            self._tell(product)


def _outcome(
    product: Product, out: Path, state: State, reason: str = "", notes: tuple[str, ...] = ()
) -> Outcome:
    return Outcome(
        name=product.name,
        kind=product.kind,
        state=state,
        output=str(out / product.output),
        n_frames=len(product.exposures),
        reason=reason,
        notes=tuple(dict.fromkeys((*product.notes, *notes))),
    )
