"""What a run would do, and what it would cost, before it is begun."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

from masterframe import cluster, freshness, jobs, journal, store
from masterframe.errors import FrameError
from masterframe.fits import scratch
from masterframe.model import Calibration, Config, Plan, Product


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
    scratch_bytes: int = 0
    """Room on the disk that unpacked files would take meanwhile."""
    reading: str = ""
    """How it would be read: bands, the size of a read, how many at a time, memory."""


def foresee(
    plan: Plan, config: Config, out: Path, *, workers: int | None, memory: int | None
) -> dict[str, Forecast]:
    """Say of every product whether it would be made, why, and at what cost; nothing is written.

    Raises
    ------
    MemoryLimitError
        If a product does not fit in the memory given.
    """
    workers = workers or config.workers or cluster.available_cores()
    room = store.Room(
        memory or config.memory or cluster.default_memory(),
        cluster.Footprint(max(cluster.resident_bytes(), cluster.PROCESS_BYTES), workers),
    )
    remade: set[str] = set()
    ledger = journal.Ledger(out)
    found: dict[str, Forecast] = {}
    for product in plan.products:
        if product.blocked:
            found[product.name] = Forecast(False, product.blocked)
            continue
        state = _state(product, config, out, remade, ledger)
        if state.current:
            found[product.name] = Forecast(True, state.reason)
            continue
        remade.add(product.name)
        images = _jobs(product)
        shared = replace(room, images=len(images))
        tilings = [store.plan_bands(image, len(product.uses), shared) for image in images]
        largest = max(tilings, key=lambda tiling: tiling.peak_bytes)
        found[product.name] = Forecast(
            *(False, state.reason),
            bytes_read=sum(tiling.read_bytes for tiling in tilings),
            bands=sum(tiling.bands for tiling in tilings),
            peak_bytes=largest.peak_bytes,
            scratch_bytes=scratch.size_of_copies(
                image.frame for exposure in product.exposures for image in exposure.images
            ),
            reading=largest.text(),
        )
    return found


def _jobs(product: Product) -> list[jobs.ImageJob]:
    """Return the images of a product as they would be combined, but for what is measured."""
    found = []
    for images in zip(*(exposure.images for exposure in product.exposures), strict=True):
        sections = Calibration()
        if product.recipe.subtract_overscan:
            sections = Calibration(
                overscan=images[0].overscan,
                trim=images[0].trim,
                amplifiers=images[0].amplifiers,
            )
        found.append(jobs.ImageJob("", images, product.recipe.recipe, sections))
    return found


def _state(
    product: Product,
    config: Config,
    out: Path,
    remade: Collection[str],
    ledger: journal.Ledger,
) -> freshness.Freshness:
    """Return whether a product is up to date; not, where a file is in the way or unreadable."""
    try:
        return freshness.check(product, config, out, remade, ledger)
    except FrameError as error:
        return freshness.Freshness(False, str(error))
