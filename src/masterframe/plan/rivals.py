"""Why the other masters were not taken: the candidates of a product, one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from masterframe.model import Association, Candidate
from masterframe.plan.groups import Group
from masterframe.plan.masters import MOST_STRETCH, Master, apart, mean_time

SHOWN = 5
"""Candidates of a role that are explained: those of the same night first, then by time."""


def passed_over(
    taken: Association | None,
    masters: Iterable[Master],
    group: Group,
    why_not: Callable[[Master], str],
    better: Callable[[Master, Master | None], str],
) -> tuple[Candidate, ...]:
    """Return the masters nearest to a group that it does not take, each with the reason.

    Parameters
    ----------
    taken : Association or None
        What it takes.
    masters : iterable of Master
        All of one role.
    group : Group
        What is to be calibrated.
    why_not : callable
        Why a master does not fit; '' where it does.
    better : callable
        Why a master that fits is not taken, beside the one that is.
    """
    known = list(masters)
    chosen = next((one for one in known if taken and one.name == taken.product), None)
    now = mean_time(group)
    others = sorted(
        (one for one in known if one is not chosen),
        key=lambda one: (one.night != group.first.night, apart(one, now), one.name),
    )
    return tuple(
        Candidate(one.role, one.name, why_not(one) or better(one, chosen)) for one in others[:SHOWN]
    )


def farther(one: Master, chosen: Master | None, group: Group) -> str:
    """Return why a bias or flat that fits goes after the one that is taken."""
    if chosen is None:
        return "it fits, but none is wanted"
    if one.night != chosen.night and group.first.night == chosen.night:
        return f"it fits, but is of {one.night or 'the library'}: one of the same night goes first"
    if one.few != chosen.few:
        return "it fits, but is made of too few frames"
    if one.light_rank != chosen.light_rank:
        mine, theirs = (master.group.first.light or "unknown" for master in (one, chosen))
        return f"it fits, but its light is {mine}: {theirs} goes first"
    return "it fits, but is farther away in time"


def other_dark(
    one: Master, chosen: Master | None, times: Sequence[float], *, with_bias: bool
) -> str:
    """Return why a dark of the same set-up is not taken for exposures of some times."""
    own, longest = f"{one.dark_time:.4g} s", max(times, default=0.0)
    if not one.holds_bias and not with_bias:
        return "its bias was taken off: it needs a bias beside it"
    same = chosen is not None and chosen.dark_time == one.dark_time
    if same:
        return "it fits, but another of the same time goes first"
    if one.holds_bias:
        return f"it is of {own} and holds its bias: never scaled"
    if longest > MOST_STRETCH * one.dark_time:
        return f"it is of {own}, and would be stretched more than {MOST_STRETCH:g} times"
    if chosen is not None and abs(chosen.dark_time - longest) < abs(one.dark_time - longest):
        return f"it is of {own}: {chosen.dark_time:.4g} s is nearer to what is wanted"
    return f"it is of {own}: a longer one is scaled down with less noise"
