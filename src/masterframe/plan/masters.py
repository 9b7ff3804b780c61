"""Masters as others may take them: what they are made of, and how near they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from masterframe.model import MasterRole, ProductRecipe, StoredMaster
from masterframe.plan.groups import Group
from masterframe.plan.windows import cut_to

Role = MasterRole

MOST_STRETCH = 3.0
"""A dark is scaled up to this many times its own time."""
LIGHTS = ("twilight", "sky", "dome", "", "lamp")
"""Lights of a flat, the one most like that of the sky first; '' is not known."""
DAY = 86400.0


@dataclass(frozen=True)
class Master:
    """A master that is there or can be made, for others to take."""

    name: str
    """`Product.name`, or the path of its file where it is from a library."""
    role: Role
    """What it is taken for."""
    group: Group
    """What it is made of; of one from a library the master itself, as if it were an exposure."""
    holds_bias: bool = False
    """True for a dark from which no bias was taken."""
    dark_time: float = 0.0
    """Median dark time of its frames (s)."""
    time: float | None = None
    """Mean start of its frames (s)."""
    stored: StoredMaster | None = None
    """The file that it is in, where it is from a library."""

    @property
    def library(self) -> bool:
        """Whether it is from a library."""
        return self.stored is not None

    @cached_property
    def night(self) -> str:
        """Night of its frames; '' for one from a library."""
        return "" if self.library else self.group.first.night

    @cached_property
    def few(self) -> bool:
        """Whether it is made of fewer frames than its recipe wants."""
        return not self.library and len(self.group.exposures) < self.group.recipe.min_frames

    @cached_property
    def light_rank(self) -> int:
        """Place of the light of a flat in `LIGHTS`."""
        return LIGHTS.index(self.group.first.light)


def from_library(stored: StoredMaster) -> Master:
    """Return a master of a library, for others to take."""
    exposure = stored.exposure
    group = Group(ProductRecipe(stored.role), (exposure,), exposure.setup)
    return Master(
        exposure.path,
        stored.role,
        group,
        stored.holds_bias,
        group.dark_time or 0.0,
        mean_time(group),
        stored,
    )


def mean_time(group: Group) -> float | None:
    """Return the mean start of a group (s); None where no start is known."""
    starts = [_start(item.date_obs) for item in group.exposures if item.date_obs]
    return sum(starts) / len(starts) if starts else None


def apart(master: Master, now: float | None) -> float:
    """Return the time between a master and a start (s); infinite where it is not known."""
    return float("inf") if now is None or master.time is None else abs(master.time - now)


def nearest(masters: Sequence[Master], group: Group) -> Master:
    """Return the master of the same night, then by light and time, then of the first name."""
    first, now = group.first, mean_time(group)
    # of many nights only the own one needs a closer look, if it has a master at all
    own = [
        one
        for one in masters
        if one.night == first.night
        and not one.library
        and not cut_to(one.group.views, group.views).parts
    ]

    def rank(master: Master) -> tuple[bool, bool, bool, bool, int, float, str]:
        return (
            master.library,
            bool(cut_to(master.group.views, group.views).parts),
            master.night != first.night,
            master.few,
            master.light_rank,
            apart(master, now),
            master.name,
        )

    return min(own or masters, key=rank)


def age(master: Master, group: Group) -> str:
    """Return how old a master is, seen from a group: ``3.2 days older``; '' where not known."""
    now = mean_time(group)
    if now is None or master.time is None:
        return "of unknown age"
    days = (now - master.time) / DAY
    return f"{abs(days):.1f} days {'older' if days > 0 else 'younger'}"


def _start(date: str) -> float:
    """Return a start in UTC as seconds."""
    return datetime.fromisoformat(f"{date}+00:00").timestamp()
