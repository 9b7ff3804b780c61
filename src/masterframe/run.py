"""Walk a plan: make what is not up to date, in an order in which it can be made."""

from __future__ import annotations

import logging
import math
import os
import statistics
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import masterframe.calibrated as frames
from masterframe import __version__, cluster, console, freshness, inventory, journal, store
from masterframe.config import load_config
from masterframe.errors import (
    ConfigError,
    FrameError,
    LockedError,
    MasterframeError,
    PlanError,
    StorageError,
    UsageError,
)
from masterframe.fits import masters, tables
from masterframe.model import (
    Association,
    Calibration,
    Config,
    Exposure,
    Image,
    MasterImage,
    Plan,
    Product,
    Recipe,
    Rejection,
)
from masterframe.plan import make_plan

log = logging.getLogger("masterframe")

LOG_NAME = "run.log"
"""The log file, in the private folder of an output folder; runs append to it."""

State = Literal["made", "up to date", "failed", "blocked"]

FAINT = 0.05
"""A flat whose level is below this fraction of the median level of its group saw no light."""


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
    seconds: float = 0.0
    """Wall time."""


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
    with journal.lock(out), _log_file(out):
        log.info("masterframe %s: a run of %d products", __version__, len(plan.products))
        outcomes = _Walk(plan, config, out, resources, force).outcomes()
        report = Report(outcomes, time.monotonic() - began)
        log.info("the run ends with exit code %d", report.exit_code)
    return report


def _check_bad_pixels(config: Config) -> None:
    """Refuse a bad-pixel file that is none before any product needs it."""
    if config.bad_pixels:
        try:
            freshness.bad_pixel_frame(config.bad_pixels)
        except FrameError as error:
            raise ConfigError(f"bad_pixels: {error}") from None


@contextmanager
def _log_file(out: Path) -> Iterator[None]:
    """Append to the log file of an output folder what is logged meanwhile: time, level, what."""
    path = journal.state_folder(out) / LOG_NAME
    try:
        handler = _LogHandler(path, encoding="utf-8")
    except OSError as error:
        raise StorageError(f"{path}: cannot be written ({error.strerror})") from None
    handler.setFormatter(_LogFormatter("%(asctime)s %(levelname)s %(message)s"))
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    except BaseException as error:
        log.error("the run ends early: %s", str(error) or type(error).__name__)
        raise
    finally:
        log.setLevel(level)
        log.removeHandler(handler)
        handler.close()


class _LogHandler(logging.FileHandler):
    """A log that cannot be written ends no run: a full disk is found by what matters more."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        pass


class _LogFormatter(logging.Formatter):
    """One line a record, in UTC, without what a header may hold to upset a terminal."""

    converter = staticmethod(time.gmtime)
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def format(self, record: logging.LogRecord) -> str:
        return console.clean(super().format(record))


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
    return make_plan(exposures, problems, config)


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


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a run would do with one product, and what that would cost."""

    current: bool
    """True if it is up to date."""
    reason: str
    """Why it would be made, kept, or cannot be made."""
    bytes_read: int = 0
    """Bytes of pixels that would be read."""
    bands: int = 0
    """Row bands it would be cut into."""
    peak_bytes: int = 0
    """Memory that it would take."""


def forecast(
    plan: Plan, config: Config, out: Path, *, workers: int | None, memory: int | None
) -> dict[str, Forecast]:
    """Say of every product whether it would be made, why, and at what cost; nothing is written.

    Raises
    ------
    MemoryLimitError
        If a product does not fit in the memory given.
    """
    workers = workers or config.workers or cluster.available_cores()
    memory = memory or config.memory or cluster.default_memory()
    remade: set[str] = set()
    found: dict[str, Forecast] = {}
    for product in plan.products:
        if product.blocked:
            found[product.name] = Forecast(False, product.blocked)
            continue
        state = _state(product, config, out, remade)
        if state.current:
            found[product.name] = Forecast(True, state.reason)
            continue
        remade.add(product.name)
        frames = [exposure.images[0].frame for exposure in product.exposures]
        tiling = store.plan_bands(
            frames, product.recipe.recipe, len(product.uses), memory=memory, workers=workers
        )
        images = len(product.exposures[0].images)
        found[product.name] = Forecast(
            False, state.reason, images * tiling.read_bytes, tiling.bands, tiling.peak_bytes
        )
    return found


def _state(
    product: Product, config: Config, out: Path, remade: Collection[str]
) -> freshness.Freshness:
    """Return whether a product is up to date; not, where a file is in the way or unreadable."""
    obstacle = freshness.in_the_way(out / product.output, force=False, thoroughly=False)
    if obstacle:
        return freshness.Freshness(False, obstacle)
    try:
        return freshness.check(product, config, out, remade)
    except FrameError as error:
        return freshness.Freshness(False, str(error))


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
            if self._known[use.product].state in ("failed", "blocked")
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
            job = master_job(product, self._config, self._out, self._resources)
            made = store.make_master(job, self._resources)
        except (StorageError, LockedError):
            raise  # nothing else could be written either
        except MasterframeError as error:
            return _outcome(product, self._out, "failed", str(error))
        notes = tuple(f"left out {item.source.path}: {item.reason}" for item in job.left_out)
        return replace(
            _outcome(product, self._out, "made", notes=(*job.history, *notes)),
            n_frames=made.n_frames,
            numbers=made.numbers,
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


def master_job(
    product: Product, config: Config, out: Path, resources: store.Resources
) -> store.MasterJob:
    """Turn a product into the job that makes it: masters found, levels measured, noise resolved.

    Raises
    ------
    MasterframeError
        If a master or an input cannot be read, or no frame is fit to be used.
    """
    exposures = list(product.exposures)
    unfit: list[store.LeftOut] = []
    levels: list[tuple[float, ...]] = []
    if product.recipe.scale == "level":
        measured = _levels(product, config, out, resources)
        exposures, levels, unfit = _fit_levels(product, measured)
    recipe, notes = resolve_recipe(product, exposures)
    images = tuple(
        _image_job(product, config, out, recipe, exposures, index, levels)
        for index in range(len(exposures[0].images))
    )
    inputs = tuple(_input(exposure) for exposure in exposures)
    tokens = freshness.master_tokens(product, out)
    path = out / product.output
    journal.make_folder(path.parent)
    return store.MasterJob(
        path=path,
        images=images,
        inputs=inputs,
        rank=store.canonical_rank(inputs, [exposure.images[0] for exposure in exposures]),
        kind=product.kind,
        unit="" if product.recipe.normalize else "adu",
        left_out=tuple(unfit),
        history=notes,
        token=lambda sums: freshness.product_token(product, config, tokens, sums),
        overwrite=True,
    )


def resolve_recipe(
    product: Product, exposures: Sequence[Exposure]
) -> tuple[Recipe, tuple[str, ...]]:
    """Fill in what the detector says, and give up rejection where it cannot be trusted.

    Fewer than ``min_frames`` frames are combined without rejection. So are fewer than five whose
    noise is not known: the MAD of so few is too rough to tell a good value from a bad one.

    Returns
    -------
    recipe : Recipe
        With gain, read noise and saturation.
    notes : tuple of str
        What was given up, for the header and the observer.
    """
    recipe = product.recipe.recipe
    image = exposures[0].images[0]
    noise = recipe.noise
    known = {(item.images[0].gain, item.images[0].read_noise) for item in exposures}
    if len(known) == 1:
        noise = replace(
            noise,
            gain=image.gain if noise.gain is None else noise.gain,
            read_noise=image.read_noise if noise.read_noise is None else noise.read_noise,
        )
    saturation = recipe.saturation
    if saturation is None and product.recipe.saturation == "auto":
        saturation = image.saturation
    recipe = replace(recipe, noise=noise, saturation=saturation)
    count = len(exposures)
    trusted = count >= store.MIN_TRUSTED or (noise.gain and noise.read_noise is not None)
    if recipe.rejection.rule in ("none", "threshold"):
        return recipe, ()
    if count < product.recipe.min_frames:
        why = (
            f"{count} of at least {product.recipe.min_frames} frames: "
            "combined without rejection, marked"
        )
    elif not trusted:
        why = f"{count} frames of unknown noise: combined without rejection"
    else:
        return recipe, ()
    return replace(recipe, rejection=Rejection(rule="none")), (why,)


def _image_job(
    product: Product,
    config: Config,
    out: Path,
    recipe: Recipe,
    exposures: Sequence[Exposure],
    index: int,
    levels: Sequence[Sequence[float]],
) -> store.ImageJob:
    images = tuple(exposure.images[index] for exposure in exposures)
    ratios = _ratios(product, exposures)
    calibration = calibration_of(product, config, out, index, ratios)
    own = tuple(item[index] for item in levels)
    if own:
        calibration = replace(calibration, scale=tuple(1 / level for level in own))
    return store.ImageJob(
        name=_name(exposures[0], index),
        images=images,
        recipe=recipe,
        calibration=calibration,
        levels=own,
        normalize=product.recipe.flat_minimum if product.recipe.normalize else None,
        hot_sigma=product.recipe.hot_sigma,
    )


def _name(exposure: Exposure, index: int) -> str:
    if len(exposure.images) == 1:
        return ""
    return freshness.image_name(exposure.images[index].frame)


def _ratios(product: Product, exposures: Sequence[Exposure]) -> tuple[float, ...]:
    """Return the dark ratio of the exposures that are used."""
    dark = product.using("dark")
    if dark is None or not dark.ratio:
        return ()
    by_path = {item.path: ratio for item, ratio in zip(product.exposures, dark.ratio, strict=True)}
    return tuple(by_path[exposure.path] for exposure in exposures)


def calibration_of(
    product: Product, config: Config, out: Path, index: int, ratios: tuple[float, ...]
) -> Calibration:
    """Find what one image of a product is calibrated with.

    Raises
    ------
    MasterframeError
        If a master cannot be read or does not fit.
    """
    image = product.exposures[0].images[index]
    name = _name(product.exposures[0], index)
    found = {use.role: _master(use, out, name, image) for use in product.uses}
    dark = product.using("dark")
    overscan = product.recipe.subtract_overscan
    return Calibration(
        overscan=image.overscan if overscan else None,
        trim=image.trim if overscan else None,
        bias=found.get("bias"),
        dark=found.get("dark"),
        dark_holds_bias=bool(dark and dark.holds_bias),
        dark_ratio=ratios,
        flat=found.get("flat"),
        bad_pixels=_bad_pixels(config.bad_pixels, image, trimmed=overscan),
    )


def _bad_pixels(path: str, image: Image, *, trimmed: bool) -> MasterImage | None:
    """Find the bad pixels of an image, in a file of its raw shape or of its trimmed one."""
    if not path:
        return None
    frame = freshness.bad_pixel_frame(path)
    fitting = {image.frame.shape, image.shape if trimmed else image.frame.shape}
    if frame.shape not in fitting:
        shapes = " or ".join(f"{rows} x {columns}" for rows, columns in sorted(fitting))
        raise PlanError(
            f"{path}: {frame.shape[0]} x {frame.shape[1]} (rows x columns) do not fit "
            f"{image.frame.path} with {shapes}"
        )
    return MasterImage(frame)


def _master(use: Association, out: Path, name: str, image: Image) -> MasterImage:
    path = out / f"{use.product}.fits"
    images = masters.open_master(path)
    if name not in images:
        raise PlanError(f"{path}: no image {name or 'in the primary HDU'} to serve as {use.role}")
    found = images[name]
    if found.data.shape != image.shape:
        raise PlanError(
            f"{path}: {found.data.shape[0]} x {found.data.shape[1]} (rows x columns) do not fit "
            f"{image.frame.path} with {image.shape[0]} x {image.shape[1]} after trimming"
        )
    return found


def _levels(
    product: Product, config: Config, out: Path, resources: store.Resources
) -> list[tuple[float, ...]]:
    """Return the level of every image of every exposure."""
    recipe, _ = resolve_recipe(product, product.exposures)
    ratios = _ratios(product, product.exposures)
    by_image = [
        store.measure_levels(
            [exposure.images[index] for exposure in product.exposures],
            recipe,
            calibration_of(product, config, out, index, ratios),
            resources,
        )
        for index in range(len(product.exposures[0].images))
    ]
    return list(zip(*by_image, strict=True))


def _fit_levels(
    product: Product, measured: Sequence[tuple[float, ...]]
) -> tuple[list[Exposure], list[tuple[float, ...]], list[store.LeftOut]]:
    """Leave out flats that saw no light, or nothing but saturation.

    Raises
    ------
    PlanError
        If none is left.
    """
    typical = [
        statistics.median([value for value in column if value > 0] or [math.nan])
        for column in zip(*measured, strict=True)
    ]
    used, levels, unfit = [], [], []
    for exposure, own in zip(product.exposures, measured, strict=True):
        reason = next(filter(None, map(_unfit, own, typical)), "")
        if reason:
            unfit.append(store.LeftOut(_input(exposure), exposure.images, reason))
        else:
            used.append(exposure)
            levels.append(own)
    if not used:
        raise PlanError(f"no frame of {product.name} has light: {unfit[0].reason}")
    return used, levels, unfit


def _unfit(level: float, typical: float) -> str:
    if math.isnan(level):
        return "fewer than half of its pixels are unsaturated and good"
    if not level > FAINT * typical:
        return f"level {level:.1f} adu, the others have about {typical:.0f}"
    return ""


def _input(exposure: Exposure) -> store.Input:
    return store.Input(
        exposure.path, exposure.images[0].header, exposure.exptime, exposure.date_obs
    )


def calibrated_job(product: Product, config: Config, out: Path) -> frames.CalibratedJob:
    """Turn a science product into the job that writes it.

    Raises
    ------
    MasterframeError
        If a master cannot be read or does not fit.
    """
    (exposure,) = product.exposures
    recipe, _ = resolve_recipe(product, product.exposures)
    ratios = _ratios(product, product.exposures)
    images = tuple(
        frames.CalibratedImage(
            _name(exposure, index),
            image,
            calibration_of(product, config, out, index, ratios),
            recipe,
        )
        for index, image in enumerate(exposure.images)
    )
    tokens = freshness.master_tokens(product, out)
    frame = exposure.images[0].frame
    return frames.CalibratedJob(
        path=out / product.output,
        images=images,
        input=tables.InputRow(
            path=exposure.path,
            size=frame.size,
            mtime_ns=frame.mtime_ns,
            date_obs=exposure.date_obs,
            exptime=exposure.exptime,
        ),
        token=lambda sums: freshness.product_token(product, config, tokens, sums),
        masters=tuple((use.role, Path(use.product).name) for use in product.uses),
        overwrite=True,
    )
