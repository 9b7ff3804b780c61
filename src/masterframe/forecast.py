"""What a run would do, and what it would cost, before it is begun."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from masterframe import cluster, freshness, store
from masterframe.errors import FrameError
from masterframe.model import Config, Plan, Product


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
