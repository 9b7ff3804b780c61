"""One pass over a plan: each product is made, kept, failed or blocked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from masterframe import cluster, events, freshness, journal, scratchfolder, store
from masterframe.errors import (
    ClusterLostError,
    LockedError,
    MasterframeError,
    MemoryLimitError,
    StorageError,
)
from masterframe.fits.stamps import Stamp
from masterframe.model import Config, Plan, Product
from masterframe.products import calibrated_job, master_job
from masterframe.progress import Shared, Sharing
from masterframe.quality import archive
from masterframe.quality.verdicts import Check
from masterframe.runlog import log

CALIBRATED = "calibrated frames"
"""What the calibration of all science frames is called while it goes on."""

LANE_BYTES = 512 << 20
"""Memory (bytes) that a product has at least where several are made at the same time."""
LANE_WORKERS = 2
"""Workers that a product keeps busy; more products at the same time keep more of them busy."""
MOST_LANES = 8
"""Products that are made at the same time, at most: the driver writes them all."""

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
    """What the master was tested for when it was made."""
    seconds: float = 0.0
    """Wall time."""
    bytes_read: int = 0
    """Bytes of pixels that were combined."""

    @property
    def fails_a_test(self) -> bool:
        """Whether it is there and is not good."""
        return any(item.verdict == "fail" for item in self.tests)

    def as_dict(self) -> dict[str, Any]:
        """Return it in the types of JSON; numbers that are none become null."""
        numbers = {k: v if math.isfinite(v) else None for k, v in self.numbers.items()}
        tests = [item.as_dict() for item in self.tests]
        return {**asdict(self), "numbers": numbers, "tests": tests}


def lanes_of(resources: store.Resources) -> int:
    """Return how many products are made at the same time."""
    by_memory = (resources.memory - cluster.PROCESS_BYTES) // LANE_BYTES
    by_workers = resources.runner.workers // LANE_WORKERS
    return max(1, min(MOST_LANES, by_workers, by_memory))


class Walk:
    """One pass over a plan; remembers what has become of each product.

    Attributes
    ----------
    ledger : journal.Ledger
        What is known of finished products.
    """

    def __init__(
        self,
        plan: Plan,
        config: Config,
        out: Path,
        resources: store.Resources,
        force: bool,
        noted: events.EventLog,
    ) -> None:
        self._plan = plan
        self._config = config
        self._out = out
        self._resources = resources
        self._force = force
        self._noted = noted
        self._scratch = resources.scratch or journal.state_folder(out)
        self._known: dict[str, Outcome] = {}
        self._remade: set[str] = set()
        self._unopened: dict[str, Product] = {}
        self.ledger = journal.Ledger(out)

    def outcomes(self) -> tuple[Outcome, ...]:
        """Make all masters, then all calibrated frames."""
        try:
            return self._outcomes()
        finally:
            self.ledger.keep()

    def _outcomes(self) -> tuple[Outcome, ...]:
        masters = [item for item in self._plan.products if item.kind != "science"]
        lanes = lanes_of(self._resources)
        for product in masters if lanes == 1 else self._beside(masters, lanes):
            self._conclude(product, self._settle(product) or self._master(product))
        self._calibrate([item for item in self._plan.products if item.kind == "science"])
        return tuple(self._known[product.name] for product in self._plan.products)

    def _beside(self, products: Sequence[Product], lanes: int) -> list[Product]:
        """Make products at the same time, each once the masters that it takes are there.

        Returns
        -------
        list of Product
            Those that need all of the memory, and what takes them.
        """
        waiting = list(products)
        running: dict[Future[Outcome], Product] = {}
        shared = Shared(self._resources.reporter)
        with ThreadPoolExecutor(lanes, thread_name_prefix="masterframe-product") as pool:
            try:
                while running or any(map(self._is_ready, waiting)):
                    for product in list(filter(self._is_ready, waiting))[: lanes - len(running)]:
                        waiting.remove(product)
                        outcome = self._settle(product)
                        if outcome:
                            self._conclude(product, outcome)
                        else:
                            own = replace(self._resources, lanes=lanes, reporter=Sharing(shared))
                            running[pool.submit(self._master, product, own)] = product
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        product = running.pop(future)
                        if not isinstance(future.exception(), MemoryLimitError):
                            self._conclude(product, future.result())
            except BaseException:
                shared.end()
                raise
        return [item for item in products if item.name not in self._known]

    def _is_ready(self, product: Product) -> bool:
        """Return whether it is known what became of all masters that a product takes."""
        return all(use.library or use.product in self._known for use in product.uses)

    def _conclude(self, product: Product, outcome: Outcome) -> None:
        self._known[product.name] = outcome
        if outcome.state == "made":
            self._remade.add(product.name)
        self._tell(product)

    def _settle(self, product: Product) -> Outcome | None:
        """Return the outcome of a product that is not to be made; None where it is."""
        if product.blocked:
            return _outcome(product, self._out, "blocked", product.blocked)
        try:
            return self._lacking(product) or self._kept(product) or self._spoilt(product)
        except MasterframeError as error:  # a file that it is compared with cannot be read
            return _outcome(product, self._out, "failed", str(error))

    def _lacking(self, product: Product) -> Outcome | None:
        """Return the outcome of a product whose masters are not there."""
        lacking = [
            use.product
            for use in product.uses
            if not use.library and self._known[use.product].state in ("failed", "blocked")
        ]
        if lacking:
            return _outcome(product, self._out, "blocked", f"needs {', '.join(lacking)}")
        return None

    def _kept(self, product: Product) -> Outcome | None:
        """Return the outcome of a product whose file is up to date, or not ours to replace."""
        state = freshness.check(
            *(product, self._config, self._out, self._remade, self.ledger),
            force=self._force,
            thoroughly=product.kind != "science",
        )
        if state.in_the_way:
            return _outcome(product, self._out, "failed", state.reason)
        if state.current:
            if not state.opened:
                self._unopened[product.name] = product
            kept = _outcome(product, self._out, "up to date")
            decides = product.kind != "science" and self._config.quality.masters.action == "fail"
            return replace(kept, tests=archive.checks_of(kept.output)) if decides else kept
        log.info("%s: to be made, %s", product.name, state.reason)
        return None

    def _spoilt(self, product: Product) -> Outcome | None:
        """Return the outcome of a product that is to be made of a master that does not hold.

        A master that was known by its stamp is read whole before anything is made with it.
        """
        for use in product.uses:
            master = self._unopened.pop(use.product, None)
            path = use.file(self._out)
            reason = master and freshness.in_the_way(path, force=False, thoroughly=True)
            if master and reason:
                self._conclude(master, _outcome(master, self._out, "failed", reason))
        return self._lacking(product)

    def _tell(self, product: Product) -> None:
        outcome = self._known[product.name]
        text = f"{product.name}: {outcome.state}" + (f", {outcome.reason}" * bool(outcome.reason))
        if outcome.state in ("failed", "blocked"):
            log.error(text)
            self._resources.reporter.note(text)
        else:
            log.info(text)
        self._noted.write(
            events.PRODUCT_ENDED,
            product=product.name,
            state=outcome.state,
            reason=outcome.reason,
            seconds=outcome.seconds,
            bytes=outcome.bytes_read,
        )
        for note in outcome.notes:
            log.warning("%s: %s", product.name, note)

    def _master(self, product: Product, given: store.Resources | None = None) -> Outcome:
        given = given or self._resources
        try:
            made_of = self._made_of(product)
            with scratchfolder.open_folder(self._scratch) as folder:
                reporter = self._reporter(product.name, given.reporter)
                resources = replace(given, scratch=folder, reporter=reporter)
                job = master_job(product, self._config, self._out, resources)
                for item in job.left_out:
                    self._noted.write(
                        events.FRAME_LEFT_OUT,
                        product=product.name,
                        path=item.source.path,
                        reason=item.reason,
                    )
                made = store.make_master(job, resources)
        except (StorageError, LockedError, ClusterLostError):
            raise  # nothing else could be made or written either
        except MasterframeError as error:
            if given.lanes > 1 and isinstance(error, MemoryLimitError):
                raise  # it will have all of the memory
            return _outcome(product, self._out, "failed", str(error))
        self._note(product, made_of, made.stamp)
        notes = tuple(f"left out {item.source.path}: {item.reason}" for item in job.left_out)
        return replace(
            _outcome(product, self._out, "made", notes=(*job.history, *notes)),
            n_frames=made.n_frames,
            numbers=made.numbers,
            tests=made.tests,
            bytes_read=made.bytes_read,
            seconds=made.seconds,
        )

    def _made_of(self, product: Product) -> str:
        """Return a name for all that goes into a product, before it is made."""
        above = freshness.master_tokens(product, self._out, self.ledger)
        return freshness.made_of(product, self._config, above)

    def _note(self, product: Product, made_of: str, stamp: Stamp) -> None:
        """Note what was made, unless the clock of the disk is too coarse to tell of a change."""
        if stamp.is_fine:
            freshness.note(product, made_of, stamp, self._out, self.ledger)

    def _reporter(self, product: str, reporter: store.Reporter) -> store.Reporter:
        """Return who is told how a product goes on."""
        return events.NotingReporter(reporter, self._noted, product)

    def _calibrate(self, products: Sequence[Product]) -> None:
        """Calibrate science frames, each in a task of its own, several at a time."""
        waiting, made_of = [], {}
        for product in products:
            outcome = self._settle(product)
            if outcome is None:
                try:
                    made_of[product.name] = self._made_of(product)
                    job = calibrated_job(product, self._config, self._out)
                    waiting.append((product, job))
                    continue
                except MasterframeError as error:
                    outcome = _outcome(product, self._out, "failed", str(error))
            self._known[product.name] = outcome
            self._tell(product)
        sizes = [sum(item.image.frame.size for item in job.images) for _, job in waiting]
        reporter = self._reporter(CALIBRATED, self._resources.reporter)
        if waiting:
            reporter.begin(CALIBRATED, sum(sizes), len(sizes))
        results = store.write_all_calibrated([job for _, job in waiting], self._resources)
        for (product, _), size, result in zip(waiting, sizes, results, strict=True):
            if isinstance(result, MasterframeError):
                self._known[product.name] = _outcome(product, self._out, "failed", str(result))
            else:
                made = _outcome(product, self._out, "made")
                self._known[product.name] = replace(made, seconds=result.seconds)
                self._note(product, made_of[product.name], result.stamp)
            reporter.advance(size)
            self._tell(product)
        if waiting:
            self._noted.write(events.PRODUCT_ENDED, product=CALIBRATED)


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
