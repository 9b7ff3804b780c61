"""Slow twins of percentile, winsorized, linearfit and gesd: from their definitions, one pixel each.

Each takes the values of one pixel in any order with a completed rejection and a noise floor, and
gives a `Verdict`. Arithmetic is exact (`fractions.Fraction`) but for square roots, so that the
twins share neither the sums nor the roundings of the compiled rules; ``margin`` says how near the
nearest decision was, for rounding may turn what is nearer than that.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from masterframe.kernels import Floor
from masterframe.model import Rejection

KEPT, LOW, HIGH = range(3)
NO_FLOOR = Floor()


class Verdict(NamedTuple):
    codes: Any
    """What became of each value, in the order given."""
    margin: float
    """The smallest relative distance of two numbers that were compared."""


class _Closest:
    """Compares, and remembers how near two numbers came to each other without being equal."""

    def __init__(self) -> None:
        self.margin = math.inf

    def more(self, a: Any, b: Any) -> bool:
        """Whether a > b; never where either is no number."""
        a, b = float(a), float(b)
        if a != b and math.isfinite(a) and math.isfinite(b):
            self.margin = min(self.margin, abs(a - b) / max(abs(a), abs(b)))
        elif a == b and a != 0:
            self.margin = 0.0
        return a > b


def least_sigma(floor: Floor, center: float) -> float:
    return max(floor.quant, math.sqrt(floor.poisson * max(center, 0.0) + floor.read))


def _median(kept: list[Fraction]) -> Fraction:
    ordered, n = sorted(kept), len(kept)
    return (ordered[(n - 1) // 2] + ordered[n // 2]) / 2


def _std(values: list[Fraction]) -> float:
    mean = sum(values) / len(values)
    return math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1))


def _bound(sigmas: float, sigma: float) -> float:
    """How far a value may be; without end where the side is off, also where sigma is 0."""
    return math.inf if sigmas == math.inf else sigmas * sigma


def _drop(
    v: list[Fraction], codes: Any, centers: Any, sigma: float, r: Rejection, near: _Closest
) -> bool:
    """Drop once what is beyond low and high sigma of the centre of each; return whether any was."""
    beyond = {}
    for k in np.flatnonzero(codes == KEPT):
        if near.more(centers[k] - v[k], _bound(r.low, sigma)):
            beyond[k] = LOW
        elif near.more(v[k] - centers[k], _bound(r.high, sigma)):
            beyond[k] = HIGH
    if not beyond or (codes == KEPT).sum() - len(beyond) < r.nkeep:
        return False
    for k, code in beyond.items():
        codes[k] = code
    return True


def _passes(r: Rejection) -> Any:
    return range(10**6 if r.max_iters == "all" else r.max_iters)


def percentile(values: Any, r: Rejection, floor: Floor = NO_FLOOR) -> Verdict:
    """Drop what differs from the median by more than a fraction of its size."""
    v, codes, near = [Fraction(float(x)) for x in values], np.zeros(len(values), int), _Closest()
    if v and _median(v) != 0:
        m = _median(v)
        _drop(v, codes, [m] * len(v), abs(float(m)), r, near)
    return Verdict(codes, near.margin)


def winsorized_spread(kept: list[Fraction], near: _Closest | None = None) -> float:
    """1.134 times the deviation of values that are pulled in to 1.5 of the one before."""
    near = near or _Closest()
    m = _median(kept)
    spread = _std(kept)
    while spread > 0:
        reach = Fraction(1.5 * spread)
        for x in kept:
            near.more(abs(x - m), reach)
        pulled = [min(max(x, m - reach), m + reach) for x in kept]
        new = 1.134 * _std(pulled)
        if new < spread and all(x == m or abs(x - m) > reach for x in kept):
            return 0.0
        if not near.more(abs(new - spread), 0.0005 * spread):
            return new
        spread = new
    return spread


def winsorized(values: Any, r: Rejection, floor: Floor = NO_FLOOR) -> Verdict:
    """Drop what is far from the median in Winsorised spreads, pass after pass."""
    v, codes, near = [Fraction(float(x)) for x in values], np.zeros(len(values), int), _Closest()
    for _ in _passes(r):
        kept = [v[k] for k in np.flatnonzero(codes == KEPT)]
        if len(kept) < 4:
            break
        m = _median(kept)
        sigma = max(winsorized_spread(kept, near), least_sigma(floor, float(m)))
        if not _drop(v, codes, [m] * len(v), sigma, r, near):
            break
    return Verdict(codes, near.margin)


def linearfit(values: Any, r: Rejection, floor: Floor = NO_FLOOR) -> Verdict:
    """Drop what is far from the line through the sorted values, pass after pass."""
    v, codes, near = [Fraction(float(x)) for x in values], np.zeros(len(values), int), _Closest()
    order = np.argsort(values, kind="stable")
    for _ in _passes(r):
        kept = [k for k in order if codes[k] == KEPT]
        n = len(kept)
        if n < 5:
            break
        x_mean, y_mean = Fraction(n - 1, 2), sum(v[k] for k in kept) / n
        slope = sum((j - x_mean) * (v[k] - y_mean) for j, k in enumerate(kept))
        slope /= sum((j - x_mean) ** 2 for j in range(n))
        line = {k: y_mean + slope * (j - x_mean) for j, k in enumerate(kept)}
        sigma = float(sum(abs(v[k] - line[k]) for k in kept) / n)
        rounding = n * 2.0**-50 * float(v[kept[-1]] - v[kept[0]])
        sigma = max(sigma, rounding, least_sigma(floor, float(y_mean)))
        if not _drop(v, codes, line, sigma, r, near):
            break
    return Verdict(codes, near.margin)


def gesd(values: Any, r: Rejection, floor: Floor = NO_FLOOR) -> Verdict:
    """Rosner's test as the NIST handbook has it, with Student's t of scipy."""
    near, codes, n = _Closest(), np.zeros(len(values), int), len(values)
    rest = sorted((Fraction(float(x)), k) for k, x in enumerate(values))
    gone, outliers = [], 0
    for _ in range(min(int(n * r.fraction + 0.001), n - max(r.nkeep, 2))):
        m = len(rest)
        if rest[0][0] == rest[-1][0]:
            break
        mean = sum(x for x, _ in rest) / m
        sigma = max(_std([x for x, _ in rest]), least_sigma(floor, float(mean)))
        above, below = rest[-1][0] - mean, mean - rest[0][0]
        high = above == below or near.more(above, below)
        x, k = rest.pop(-1 if high else 0)
        gone.append((k, HIGH if high else LOW))
        t = stats.t.ppf(1 - r.alpha / (2 * m), m - 2)
        critical = (m - 1) * t / math.sqrt(m * (m - 2 + t * t))
        if near.more(abs(x - mean), critical * sigma):
            outliers = len(gone)
    for k, code in gone[:outliers]:
        codes[k] = code
    return Verdict(codes, near.margin)


TWINS = {
    "percentile": percentile,
    "winsorized": winsorized,
    "linearfit": linearfit,
    "gesd": gesd,
}
