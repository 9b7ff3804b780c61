"""The rejection rules by name: what each reads, and which settings it refuses.

Nothing here needs numba, so that a configuration can be checked in a few milliseconds.
"""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass, fields

from masterframe.errors import UsageError
from masterframe.model import Rejection


@dataclass(frozen=True, slots=True)
class RuleSpec:
    """What the rest of the program knows of a rule."""

    number: int
    """Its branch in the compiled dispatcher `masterframe.kernels.rules.window`."""
    options: tuple[str, ...]
    """Fields of `Rejection` that it reads."""
    min_n: int
    """Values of a pixel below which it cannot tell a good value from a bad one."""
    summary: str
    """One line for help texts."""


NONE, THRESHOLD, MINMAX, SIGMA = range(4)

RULES: dict[str, RuleSpec] = {
    "none": RuleSpec(NONE, (), 1, "keep every value"),
    "threshold": RuleSpec(THRESHOLD, ("low", "high"), 1, "keep raw values from low to high (adu)"),
    "minmax": RuleSpec(
        MINMAX, ("nlow", "nhigh", "nkeep"), 2, "drop the nlow lowest and the nhigh highest values"
    ),
    "sigma": RuleSpec(
        SIGMA,
        ("low", "high", "center", "deviation", "ddof", "max_iters", "nkeep"),
        3,
        "drop values beyond low and high sigmas of the centre",
    ),
}
"""Every rule by name; a new one is a line here, a file and a branch of the dispatcher."""

_CHOICES = {"center": ("median", "mean", "first-median"), "deviation": ("mad", "std")}


def check_rejection(rejection: Rejection) -> None:
    """Refuse a rejection that names no rule, or sets what its rule does not read or cannot use.

    Parameters
    ----------
    rejection : Rejection
        A rule's name and its options.

    Raises
    ------
    UsageError
        With the rule, the option and its value, and what would be valid.
    """
    spec = RULES.get(rejection.rule)
    if spec is None:
        raise UsageError(f"no rejection rule {rejection.rule!r}{_nearest(rejection.rule)}")
    _refuse_unread(rejection, spec)
    for name, choices in _CHOICES.items():
        if getattr(rejection, name) not in choices:
            raise UsageError(
                f"{name} is {getattr(rejection, name)!r}; it may be {', '.join(choices)}"
            )
    for name in ("nlow", "nhigh", "nkeep", "ddof"):
        if getattr(rejection, name) < 0:
            raise UsageError(f"{name} is {getattr(rejection, name)}; it may be 0 or more")
    if rejection.max_iters is not None and rejection.max_iters < 1:
        raise UsageError(f"max_iters is {rejection.max_iters}; it may be 1 or more, or none")
    _check_bounds(rejection)


def _nearest(name: str) -> str:
    near = difflib.get_close_matches(name, RULES, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(RULES)}"


def _refuse_unread(rejection: Rejection, spec: RuleSpec) -> None:
    for option in fields(Rejection):
        value = getattr(rejection, option.name)
        if option.name not in ("rule", *spec.options) and value != option.default:
            reads = f"it reads {', '.join(spec.options)}" if spec.options else "it has no options"
            raise UsageError(
                f"rule {rejection.rule!r} does not read {option.name} = {value!r}; {reads}"
            )


def _check_bounds(rejection: Rejection) -> None:
    low, high = rejection.low, rejection.high
    for name, value in (("low", low), ("high", high)):
        if value is not None and math.isnan(value):
            raise UsageError(f"{name} is not a number; leave the side off instead")
        if rejection.rule == "sigma" and value is not None and value <= 0:
            raise UsageError(f"{name} is {value:g} sigmas; it must be above 0, or off")
    if rejection.rule == "threshold" and low is not None and high is not None and low > high:
        raise UsageError(f"threshold keeps nothing: low is {low:g}, above high, {high:g}")
