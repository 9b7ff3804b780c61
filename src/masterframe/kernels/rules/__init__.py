"""The rejection rules, one file each, and the dispatcher that calls them by number.

A rule is a function ``window(column, lo, hi, params) -> (lo, hi)``: of the sorted float64 values
column[lo:hi] of one pixel it keeps a window. A new rule is a file here, a branch below, and a line
in `masterframe.kernels.registry`.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from masterframe.kernels.cache import part
from masterframe.kernels.registry import MINMAX, RULES, SIGMA
from masterframe.kernels.rules import minmax, none, sigma
from masterframe.model import Rejection


class Floor(NamedTuple):
    """The noise floor: sigma is at least max(quant, sqrt(poisson * max(c, 0) + read)) at centre c.

    All 0 is off.
    """

    quant: float = 0.0
    """Noise of quantised values (combined unit)."""
    poisson: float = 0.0
    """Variance per unit of signal (combined unit): scale / gain."""
    read: float = 0.0
    """Variance of the read noise (combined unit squared): (read noise * scale / gain) ** 2."""
    step: float = 0.0
    """Smallest difference of two values (combined unit); the standard deviation of kept values is
    taken as no less than step / sqrt(12)."""


class Params(NamedTuple):
    """A rejection and its noise floor as compiled code reads them."""

    rule: int
    low: float
    high: float
    center: int
    deviation: int
    ddof: int
    max_iters: int
    nlow: int
    nhigh: int
    nkeep: int
    frames: int
    quant: float
    poisson: float
    read: float


def params(rejection: Rejection, floor: Floor, frames: int) -> Params:
    """Return the numbers of a rejection that was checked by `registry.check_rejection`."""
    no_limit = 2**62
    return Params(
        rule=RULES[rejection.rule].number,
        low=math.inf if rejection.low is None else float(rejection.low),
        high=math.inf if rejection.high is None else float(rejection.high),
        center=("median", "mean", "first-median").index(rejection.center),
        deviation=("mad", "std").index(rejection.deviation),
        ddof=int(rejection.ddof),
        max_iters=no_limit if rejection.max_iters is None else int(rejection.max_iters),
        nlow=int(rejection.nlow),
        nhigh=int(rejection.nhigh),
        nkeep=int(rejection.nkeep),
        frames=int(frames),
        quant=float(floor.quant),
        poisson=float(floor.poisson),
        read=float(floor.read),
    )


@part
def window(column: Any, lo: int, hi: int, params: Any) -> Any:
    """Return the window that the rule of params leaves of the sorted values column[lo:hi]."""
    if params.rule == SIGMA:
        return sigma.window(column, lo, hi, params)
    if params.rule == MINMAX:
        return minmax.window(column, lo, hi, params)
    return none.window(column, lo, hi, params)  # threshold has done its work in the load step
