"""What Siril 1.0.6 does to the 16-bit values of one pixel, as its source has it, mistakes included.

From ``apply_rejection_ushort`` in ``src/stacking/median_and_mean.c`` of its repository. Only to say
where and why it differs from the definitions: that these give what the program gives is tested.
Each function gives an `Outcome`. Siril goes through the values in an order of its own where it
stops rejecting (``stopped``); what goes before it stops is not known then.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np
from scipy import stats


class Outcome(NamedTuple):
    kept: Any
    """Values that are averaged."""
    low: int
    high: int
    stopped: bool = False
    """Whether it ever came to N - r <= 4."""


def median_sigma(values: Any, low: float, high: float) -> Outcome:
    """``rej m``: values beyond are replaced by the median, again and again, and stay in number."""
    v, counts = np.array(values, float), [0, 0]
    while True:
        sigma, m = v.std(ddof=1), np.median(v)
        below, above = m - v > low * sigma, v - m > high * sigma
        counts[0] += int(below.sum())
        counts[1] += int(above.sum())
        if not (below | above).any():
            return Outcome(v, *counts)
        v[below | above] = math.floor(m)  # a 16-bit value again


def _clip(values: Any, low: float, high: float, spread_of: Any) -> Outcome:
    """Pass after pass as far as N - r > 4: N is the number now, r that of all rejected so far."""
    v, counts, stopped = np.array(values, float), [0, 0], False
    while True:
        m, sigma = np.median(v), spread_of(v)
        codes = np.zeros(v.size, int)
        for k, x in enumerate(v):
            if v.size - sum(counts) <= 4:
                stopped = True
                break
            codes[k] = -1 if m - x > low * sigma else int(x - m > high * sigma)
            counts[0] += codes[k] == -1
            counts[1] += codes[k] == 1
        if not codes.any() or (codes == 0).sum() <= 3:
            return Outcome(v[codes == 0], int(counts[0]), int(counts[1]), stopped)
        v = v[codes == 0]


def sigma(values: Any, low: float, high: float) -> Outcome:
    """``rej s``: about the median by the standard deviation."""
    return _clip(values, low, high, lambda v: v.std(ddof=1))


def winsorized_spread(v: Any) -> float:
    """Bounds rounded to whole numbers; what was pulled in stays pulled in."""
    pulled, m, now = v.copy(), np.median(v), v.std(ddof=1)
    while True:
        pulled = np.clip(pulled, math.floor(m - 1.5 * now + 0.5), math.floor(m + 1.5 * now + 0.5))
        before, now = now, 1.134 * pulled.std(ddof=1)
        if abs(now - before) <= 0.0005 * before:
            return now


def winsorized(values: Any, low: float, high: float) -> Outcome:
    """``rej w``."""
    return _clip(values, low, high, winsorized_spread)


def linearfit(values: Any, low: float, high: float) -> Outcome:
    """``rej l``: centre and spread of the ranks are those of all frames in every pass."""
    v, counts, stopped = np.sort(np.array(values, float)), [0, 0], False
    ranks = np.arange(v.size)
    x_mean, x_variance = ranks.mean(), ranks.var()
    while True:
        x = np.arange(v.size)
        slope = (x * (v - v.mean())).mean() / x_variance
        distance = v - (v.mean() + slope * (x - x_mean))
        spread = np.abs(distance).mean()
        codes = np.zeros(v.size, int)
        for k, d in enumerate(distance):
            if v.size - sum(counts) <= 4:
                stopped = True
                break
            codes[k] = -1 if -d > low * spread else int(d > high * spread)
            counts[0] += codes[k] == -1
            counts[1] += codes[k] == 1
        if not codes.any() or (codes == 0).sum() <= 3:
            return Outcome(v[codes == 0], int(counts[0]), int(counts[1]), stopped)
        v = v[codes == 0]


@functools.cache
def _critical(n: int, alpha: float) -> float:
    t = stats.t.ppf(1 - alpha / (2 * n), n - 2)
    return float((n - 1) * t / math.sqrt(n * (n - 2 + t * t)))


def gesd(values: Any, fraction: float, alpha: float) -> Outcome:
    """``rej g``: the first two are outliers unseen, and high ones are looked for in a wrong place.

    The place of a high value is counted among the values that are left then, without those taken
    away below it before.
    """
    v = np.sort(np.array(values, float))
    rest, cold, found = v.copy(), 0, []
    for _ in range(int(v.size * np.float32(fraction))):
        n = rest.size
        below, above = rest.mean() - rest[0], rest[-1] - rest.mean()
        significant = max(below, above) > _critical(n, alpha) * rest.std(ddof=1)
        if above > below:
            found.append((rest[-1], n - 1, significant))
            rest = rest[:-1]
        else:
            found.append((rest[0], cold, significant))
            cold += 1
            rest = rest[1:]
    last = len(found) - 1
    while last > 1 and not found[last][2]:
        last -= 1
    kept, m = np.ones(v.size, bool), np.median(v)
    for _, place, _ in found[: last + 1]:
        kept[place] = False
    high = sum(x >= m for x, _, _ in found[: last + 1])
    return Outcome(v[kept], last + 1 - int(high), int(high))
