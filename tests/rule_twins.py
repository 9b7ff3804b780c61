"""Slow twins of the rules of the IRAF family: a pixel at a time, by their definitions in IRAF.

A twin takes the values of one pixel in canonical order and the rejection (resolved), and gives the
code of each value. What IRAF does otherwise on purpose, it does with ``iraf=True``.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from masterframe.kernels import Floor
from masterframe.kernels.rules import HIGH, KEPT, LOW
from masterframe.model import Rejection

NO_FLOOR = Floor()


def mean(values: Any) -> float:
    """Summed upwards, as the definition of every centre has it."""
    total = 0.0
    for value in np.sort(values):
        total += float(value)
    return total / len(values)


def center(values: Any, kind: str, done: int) -> float:
    """Centre of pass `done` of the values still kept."""
    if kind == "median" or (kind == "first-median" and done == 0):
        return float(np.median(values))
    if kind == "inner-mean" and done == 0 and len(values) > 2:
        return mean(np.sort(values)[1:-1])
    return mean(values)


def floored(sigma: float, c: float, floor: Floor) -> float:
    return max(sigma, floor.quant, math.sqrt(floor.poisson * max(c, 0.0) + floor.read))


def beyond(values: Any, c: float, sigma: float, rejection: Rejection) -> Any:
    """Code of each value for bounds in sigmas of the centre."""
    codes = np.full(len(values), KEPT)
    if rejection.low != math.inf:
        codes[values < c - rejection.low * sigma] = LOW
    if rejection.high != math.inf:
        codes[values > c + rejection.high * sigma] = HIGH
    return codes


def passes(values: Any, rejection: Rejection, judge: Any, least: int) -> Any:
    """Repeat what `judge(kept values, their places, pass)` says until nothing changes."""
    codes = np.full(len(values), KEPT)
    done = 0
    while rejection.max_iters == "all" or done < rejection.max_iters:
        kept = np.flatnonzero(codes == KEPT)
        if len(kept) < least:
            break
        found = judge(values[kept], kept, done)
        if not found.any() or (found == KEPT).sum() < rejection.nkeep:
            break
        codes[kept] = found
        done += 1
    return codes


def sigma(values: Any, rejection: Rejection, floor: Floor = NO_FLOOR) -> Any:
    """sigclip: rms about the centre, n - 1; at least 3 values in every pass."""

    def judge(kept: Any, places: Any, done: int) -> Any:
        c = center(kept, rejection.center, done)
        squares = sum((float(x) - c) ** 2 for x in np.sort(kept))
        s = math.sqrt(squares / (len(kept) - 1))
        return beyond(kept, c, floored(s, c, floor), rejection)

    return passes(values, rejection, judge, least=3)


def row_factor(pixels: Any, rejection: Rejection) -> float:
    """avsigclip: spread of all pixels of a row in units of their Poisson noise."""
    squares, number = 0.0, 0
    for values in pixels:
        if len(values) >= 3:
            c = center(values, rejection.center, 0)
            squares += sum((float(x) - c) ** 2 for x in np.sort(values)) / max(c, 1.0)
            number += len(values)
    return math.sqrt(squares / (number - 1)) if number else 0.0


def avsigma(values: Any, rejection: Rejection, row: float, floor: Floor = NO_FLOOR) -> Any:
    def judge(kept: Any, places: Any, done: int) -> Any:
        c = center(kept, rejection.center, done)
        return beyond(kept, c, floored(row * math.sqrt(max(c, 1.0)), c, floor), rejection)

    return passes(values, rejection, judge, least=3)


def ccd(values: Any, rejection: Rejection, noise: Any, floor: Floor = NO_FLOOR) -> Any:
    """Also varclip: a, b and z of each value in the rows of noise."""
    noise = np.asarray(noise, float)
    snoise = rejection.snoise or 0.0

    def judge(kept: Any, places: Any, done: int) -> Any:
        about = rejection.center
        c = center(kept, about, 0 if about == "inner-mean" else done)
        a, b, z = noise[places].T
        signal = np.maximum(c - z, 0.0)
        variance = np.maximum(a + b * signal + (snoise * signal) ** 2, floor.quant**2)
        d = kept - c
        codes = np.full(len(kept), KEPT)
        if rejection.low != math.inf:
            codes[(d < 0) & (d * d > rejection.low * rejection.low * variance)] = LOW
        if rejection.high != math.inf:
            codes[(d > 0) & (d * d > rejection.high * rejection.high * variance)] = HIGH
        return codes

    return passes(values, rejection, judge, least=2)


def pclip(
    values: Any, rejection: Rejection, floor: Floor = NO_FLOOR, frames: int = 0, iraf: bool = False
) -> Any:
    """One pass; with iraf=True the rank is of all frames and a value on a bound goes."""
    n, ordered = len(values), np.sort(values)
    codes = np.full(n, KEPT)
    if n < 3:
        return codes
    half = (frames if iraf else n) // 2
    p = rejection.pclip * half if abs(rejection.pclip) < 1 else rejection.pclip
    steps = max(1, min(half, int(abs(p))))
    middle = (n - 1) // 2 if p < 0 else n // 2
    place = max(0, middle - steps) if p < 0 else min(n - 1, middle + steps)
    c = float(np.median(values))
    s = floored(abs(float(ordered[place]) - c), c, floor)
    if s == 0:
        return codes
    if iraf:
        codes[(c - values) / s >= rejection.low] = LOW
        codes[(values - c) / s >= rejection.high] = HIGH
    else:
        codes = beyond(values, c, s, rejection)
    return codes if (codes == KEPT).sum() >= rejection.nkeep else np.full(n, KEPT)


def minmax(values: Any, rejection: Rejection, frames: int) -> Any:
    n = len(values)
    low = int(n * rejection.nlow / frames + 0.001)
    high = int(n * rejection.nhigh / frames + 0.001)
    codes = np.full(n, KEPT)
    if n - low - high >= max(rejection.nkeep, 0):
        order = np.argsort(values, kind="stable")
        codes[order[:low]] = LOW
        codes[order[n - high :]] = HIGH
    return codes
