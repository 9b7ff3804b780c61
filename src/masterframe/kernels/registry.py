"""The rejection rules by name: what each reads, its defaults, and which settings it refuses.

Nothing here needs numba, so that a configuration can be checked in a few milliseconds.
"""

from __future__ import annotations

import bisect
import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, get_args

from masterframe.errors import UsageError
from masterframe.model import Center, Deviation, Rejection
from masterframe.names import unknown

MIN_N = 3
"""Values below which the spread of a pixel says nothing of any one of them."""


@dataclass(frozen=True, slots=True)
class RuleSpec:
    """What the rest of the program knows of a rule; its code is `masterframe.kernels.rules`."""

    summary: str
    """One line for help texts."""
    defaults: Mapping[str, Any]
    """The options of `Rejection` that it reads, and what each is where it is not given."""
    min_n: int = MIN_N
    """Values of a pixel below which it cannot tell a good value from a bad one."""
    masks: bool = False
    """False: it keeps a window of the sorted values; True: it marks each value."""
    noise: bool = False
    """Whether it needs the noise of each value: gain and read noise, or input uncertainties."""
    same_noise: bool = False
    """Whether it keeps a window where all frames have the same noise, though it marks values."""
    rows: bool = False
    """Whether it needs a number measured over a whole row first."""

    @property
    def options(self) -> tuple[str, ...]:
        """Fields of `Rejection` that it reads."""
        return tuple(self.defaults)


_COMMON = {"nkeep": 1, "grow": 0.0}
_SIGMAS = {"low": 3.0, "high": 3.0, "center": "median", "max_iters": "all"}

RULES: dict[str, RuleSpec] = {
    "none": RuleSpec("keep every value", {}, min_n=1),
    "threshold": RuleSpec(
        "keep raw values from low to high (adu)",
        {"low": -math.inf, "high": math.inf, "grow": 0.0},
        min_n=1,
    ),
    "minmax": RuleSpec(
        "drop the nlow lowest and the nhigh highest values",
        {"nlow": 0, "nhigh": 0, **_COMMON},
        min_n=2,
    ),
    "sigma": RuleSpec(
        "drop values beyond low and high sigmas of the centre",
        {
            "low": 5.0,
            "high": 5.0,
            "center": "median",
            "deviation": "mad",
            "ddof": 0,
            "max_iters": 1,
            "mad_correction": False,
            **_COMMON,
        },
    ),
    "avsigma": RuleSpec(
        "as sigma, with the spread of a whole row in units of its Poisson noise",
        {**_SIGMAS, **_COMMON},
        rows=True,
    ),
    "ccd": RuleSpec(
        "drop values beyond low and high sigmas of gain, read and sensitivity noise",
        {**_SIGMAS, "snoise": 0.0, **_COMMON},
        min_n=2,
        masks=True,
        noise=True,
        same_noise=True,
    ),
    "percentile": RuleSpec(
        "drop values that differ from the median by more than a fraction of it",
        {"low": 0.2, "high": 0.1, **_COMMON},
    ),
    "pclip": RuleSpec(
        "as sigma, with the distance of one ranked value from the median as the spread",
        {"low": 3.0, "high": 3.0, "pclip": -0.5, **_COMMON},
    ),
    "winsorized": RuleSpec(
        "as sigma, with the spread of values that are pulled in to 1.5 sigma",
        {"low": 3.0, "high": 3.0, "max_iters": "all", **_COMMON},
        min_n=4,
    ),
    "linearfit": RuleSpec(
        "drop values far from a line through the sorted values",
        {"low": 8.0, "high": 8.0, "max_iters": "all", **_COMMON},
        min_n=22,
        masks=True,
    ),
    "gesd": RuleSpec(
        "test for outliers one by one, the most extreme first (generalized ESD)",
        {"fraction": 0.3, "alpha": 0.05, **_COMMON},
        min_n=4,
    ),
    "varclip": RuleSpec(
        "drop values beyond low and high times their own uncertainty",
        {**_SIGMAS, **_COMMON},
        min_n=2,
        masks=True,
        noise=True,
    ),
}
"""Every rule by name; a new one is a line here and a file of `masterframe.kernels.rules`."""

CENTERS: tuple[str, ...] = get_args(Center)
DEVIATIONS: tuple[str, ...] = get_args(Deviation)
_CHOICES = {"center": CENTERS, "deviation": DEVIATIONS}
_LEAST = {"nlow": 0, "nhigh": 0, "nkeep": 0, "ddof": 0, "grow": 0, "snoise": 0}
_MANY = 2.0**60
"""More values than any pixel has."""


@functools.lru_cache(maxsize=64)
def resolve_rejection(rejection: Rejection) -> Rejection:
    """Return a rejection with the defaults of its rule filled in.

    Parameters
    ----------
    rejection : Rejection
        A rule's name and its options.

    Returns
    -------
    Rejection
        The same, with a value for every option that the rule reads; itself where it has them.

    Raises
    ------
    UsageError
        If it names no rule, or sets what its rule does not read or cannot use; with the rule, the
        option and its value, and what would be valid.
    """
    spec = RULES.get(rejection.rule)
    if spec is None:
        raise UsageError(unknown("rejection rule", rejection.rule, RULES))
    _refuse_unread(rejection, spec)
    missing = {
        name: value for name, value in spec.defaults.items() if getattr(rejection, name) is None
    }
    if rejection.rule == "threshold" and rejection.low == math.inf:
        missing["low"] = -math.inf  # off
    complete = replace(rejection, **missing) if missing else rejection
    for name in spec.options:
        _check_option(name, getattr(complete, name))
    _check_bounds(complete)
    return complete


def least_values(rejection: Rejection) -> int | None:
    """Return the least number of values among which a rejection can tell one from the others.

    With fewer, nothing can be rejected on one of the sides that are on, whatever the data: among N
    values, for one, none is further than sqrt(N - 1) standard deviations (ddof 0) from their mean,
    so that a clip at 3 sigma about the mean needs 11.

    Parameters
    ----------
    rejection : Rejection
        Resolved or not.

    Returns
    -------
    int or None
        None where it rejects nothing, however many there are.
    """
    rejection = resolve_rejection(rejection)
    spec = RULES[rejection.rule]
    least = spec.min_n
    bounds = [bound for bound in (rejection.low, rejection.high) if bound is not None]
    sides = [bound for bound in bounds if math.isfinite(bound)]
    if rejection.rule == "none" or (bounds and not sides):
        return None
    if rejection.rule == "minmax":
        return _least_of_minmax(rejection)
    if rejection.rule == "sigma" and rejection.deviation != "mad":
        least = _least_of_std(rejection, max(sides), least)
    if rejection.rule == "gesd" and rejection.fraction:
        least = max(least, math.ceil(min(1 / rejection.fraction, _MANY)))
    return max(least, (rejection.nkeep or 0) + 1)


def too_few(rejection: Rejection, count: int) -> list[str]:
    """Return the warning that so few frames are too few for a rejection; nothing if they are not.

    Parameters
    ----------
    rejection : Rejection
        Resolved or not.
    count : int
        Frames there are.
    """
    least = least_values(rejection)
    if least is None or count >= least:
        return []
    return [
        f"{count} frames are too few for the rule {rejection.rule}, which needs {least} with these "
        "options to reject any value: it keeps all"
    ]


def _least_of_minmax(rejection: Rejection) -> int | None:
    dropped = (rejection.nlow or 0) + (rejection.nhigh or 0)
    return dropped + (rejection.nkeep or 0) if dropped else None


def _least_of_std(rejection: Rejection, bound: float, least: int) -> int:
    bound = min(bound, math.sqrt(_MANY) / 2)
    counts = range(least, int(2 * bound**2) + 20)
    return counts[bisect.bisect_right(counts, bound, key=lambda n: _reach(rejection, n))]


def _reach(rejection: Rejection, n: int) -> float:
    """Return how many deviations one of n values can be from the centre at most.

    Let the centre of the others be 0 and the one at 1. The spread is least where the others are at
    0 too; but about the median only half of them must be, and the standard deviation is least
    where the rest is at the mean.
    """
    free = max(n - (rejection.ddof or 0), 0)
    if rejection.center == "mean":
        return math.sqrt(free * (n - 1) / n)
    if rejection.deviation == "rms":
        return math.sqrt(free)
    at_center = n - 1 if rejection.center == "inner-mean" else n // 2 + 1
    return math.sqrt(free * (at_center + 1) / at_center)


def _refuse_unread(rejection: Rejection, spec: RuleSpec) -> None:
    for option in fields(Rejection):
        value = getattr(rejection, option.name)
        if option.name not in ("rule", *spec.options) and value is not None:
            reads = f"it reads {', '.join(spec.options)}" if spec.options else "it has no options"
            raise UsageError(
                f"rule {rejection.rule!r} does not read {option.name} = {value!r}; {reads}"
            )


def _check_option(name: str, value: Any) -> None:
    if name in _CHOICES and value not in _CHOICES[name]:
        raise UsageError(unknown(name, value, _CHOICES[name]))
    if name in _LEAST and not _LEAST[name] <= value < math.inf:
        raise UsageError(f"{name} is {value}; it may be {_LEAST[name]} or more")
    if name == "max_iters" and value != "all" and value < 1:
        raise UsageError(f"max_iters is {value}; it may be 1 or more, or all")
    if name in ("fraction", "alpha") and not 0 < value < 1:
        raise UsageError(f"{name} is {value:g}; it may be above 0 and below 1")
    if name == "pclip" and not 0 < abs(value) < math.inf:
        raise UsageError(f"pclip is {value:g}; it may be any number but 0")


def _check_bounds(rejection: Rejection) -> None:
    low, high = rejection.low, rejection.high
    for name, value in (("low", low), ("high", high)):
        if value is not None and math.isnan(value):
            raise UsageError(f"{name} is not a number; leave the side off instead")
        if rejection.rule != "threshold" and value is not None and value <= 0:
            raise UsageError(f"{name} is {value:g}; it must be above 0, or off")
    if rejection.rule == "threshold" and low is not None and high is not None and low > high:
        raise UsageError(f"threshold keeps nothing: low is {low:g}, above high, {high:g}")
