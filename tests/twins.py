"""Slow twins of the kernels: one pixel at a time in plain numpy, as they are defined."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from masterframe.kernels import Floor, LoadTerms, resolve_rejection
from masterframe.model import Recipe, Rejection

GONE, KEPT, LOW, HIGH = range(4)


@dataclass
class Twin:
    """What the combination should give; names as in `KernelResult`."""

    data: Any
    uncert: Any
    count: Any
    low: Any
    high: Any
    saturated: Any
    codes: Any
    """What became of each value, in the order given, shape (N, rows, nx)."""
    values: Any
    """Calibrated values."""
    frame_sums: Any = field(default=None)
    half_sums: Any = field(default=None)


def calibrate(raw: Any, terms: LoadTerms, dtype: Any) -> Any:
    """Apply the terms by plain numpy expressions in the work type."""
    v = raw.astype(dtype)
    t = {k: np.asarray(getattr(terms, k)).astype(dtype) for k in terms._fields[:7]}
    if t["overscan"].size:
        v = v - t["overscan"][:, :, None]
    if t["bias"].size:
        v = v - t["bias"]
    if t["dark"].size:
        ratio = t["dark_ratio"] if t["dark_ratio"].size else np.ones(len(raw), dtype)
        v = v - t["dark"][None] * ratio[:, None, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        if t["flat"].size:
            v = v / t["flat"]
    if t["scale"].size:
        v = v * t["scale"][:, None, None]
    if t["zero"].size:
        v = v + t["zero"][:, None, None]
    return v


def left_out(raw: Any, values: Any, terms: LoadTerms) -> Any:
    """Code every value that the load step takes away; the others are kept so far."""
    codes = np.full(raw.shape, KEPT)
    codes[raw < terms.raw_low] = LOW
    codes[raw > terms.raw_high] = HIGH
    gone = ~np.isfinite(values) | (raw >= terms.saturation)
    if np.size(terms.bad):
        gone |= np.asarray(terms.bad)[None]
    if np.size(terms.frame_mask):
        gone |= np.asarray(terms.frame_mask)
    codes[gone] = GONE
    return codes


def reject(v: Any, rejection: Rejection, floor: Floor, frames: int) -> Any:
    """Code the values of one pixel, which are in canonical order."""
    codes = np.full(len(v), KEPT)
    if rejection.rule == "minmax":
        n = len(v)
        low = int(n * rejection.nlow / frames + 0.001)
        high = int(n * rejection.nhigh / frames + 0.001)
        if n - low - high >= rejection.nkeep and low + high <= n:
            place = np.argsort(v, kind="stable")
            codes[place[:low]] = LOW
            codes[place[n - high :]] = HIGH
    elif rejection.rule == "sigma":
        _clip(v, codes, rejection, floor)
    return codes


def _center(kept: Any, center: str, done: int) -> float:
    if center == "median" or (center == "first-median" and done == 0):
        return float(np.median(kept))
    if center == "inner-mean" and done == 0 and kept.size > 2:
        kept = np.sort(kept)[1:-1]
    return math.fsum(kept) / kept.size


def mad_correction(n: int) -> float:
    """Factors b_n of Croux and Rousseeuw (1992)."""
    small = {2: 1.196, 3: 1.495, 4: 1.363, 5: 1.206, 6: 1.2, 7: 1.14, 8: 1.129, 9: 1.107}
    return small.get(n, n / (n - 0.8) if n > 9 else 1.0)


def _clip(v: Any, codes: Any, r: Rejection, floor: Floor) -> None:
    done = 0
    while r.max_iters == "all" or done < r.max_iters:
        kept = np.sort(v[codes == KEPT])
        if not kept.size or (r.deviation != "mad" and kept.size <= r.ddof):
            return
        c = _center(kept, r.center, done)
        if r.deviation == "mad":
            factor = mad_correction(kept.size) if r.mad_correction else 1.0
            sigma = 1.482602218505602 * factor * np.median(np.abs(kept - np.median(kept)))
        else:
            about = c if r.deviation == "rms" else math.fsum(kept) / kept.size
            sigma = math.sqrt(((kept - about) ** 2).sum() / (kept.size - r.ddof))
        sigma = max(sigma, floor.quant, math.sqrt(floor.poisson * max(c, 0) + floor.read))
        low = np.zeros(len(v), bool) if r.low == math.inf else v < c - r.low * sigma
        high = np.zeros(len(v), bool) if r.high == math.inf else v > c + r.high * sigma
        low &= codes == KEPT
        high &= codes == KEPT
        if not (low | high).any() or kept.size - (low | high).sum() < r.nkeep:
            return
        codes[low], codes[high] = LOW, HIGH
        done += 1


def efficiency(n: int) -> float:
    from masterframe.kernels import efficiencies

    return float(efficiencies(n)[n])


def estimate(kept: Any, estimator: str, step: float) -> tuple[float, float]:
    """Combined value and standard deviation of kept values."""
    n = len(kept)
    if n == 0:
        return math.nan, math.nan
    exact = math.fsum(kept)
    value = {"mean": exact / n, "median": float(np.median(kept)), "sum": exact}[estimator]
    if n < 2:
        return value, math.nan
    s = max(float(np.std(kept, ddof=1)), step / math.sqrt(12))
    error = s / math.sqrt(n)
    return value, {"mean": error, "median": error * efficiency(n), "sum": error * n}[estimator]


def combine(
    raw: Any, terms: LoadTerms, recipe: Recipe, floor: Floor, rank: Any, dtype: Any
) -> Twin:
    """Combine by brute force."""
    wide = raw.dtype.itemsize > (2 if raw.dtype.kind in "iu" else 4) or dtype == np.float64
    values = calibrate(raw, terms, np.float64 if wide else np.float32)
    codes = left_out(raw, values, terms)
    n, rows, nx = raw.shape
    order = np.argsort(rank, kind="stable")
    rejection = resolve_rejection(recipe.rejection)
    values, codes = values[order].astype(float), codes[order]
    twin = Twin(
        np.empty((rows, nx)), np.empty((rows, nx)), *np.zeros((4, rows, nx), int),
        codes=codes, values=values, frame_sums=np.zeros((rows, n, 2)),
        half_sums=np.zeros((rows, 3)),
    )  # fmt: skip
    twin.saturated = ((raw >= terms.saturation) & (terms.saturation < math.inf)).sum(0)
    for y in range(rows):
        for x in range(nx):
            column, code = values[:, y, x], codes[:, y, x]
            valid = np.flatnonzero(code == KEPT)
            code[valid] = reject(column[valid], rejection, floor, n)
            kept = code == KEPT
            value, error = estimate(column[kept], recipe.estimator, floor.step)
            twin.data[y, x], twin.uncert[y, x] = value, error
            if kept.any():
                level = value / (kept.sum() if recipe.estimator == "sum" else 1)
                _add_sums(twin, y, column, kept, np.float64(dtype(level)))
    twin.count, twin.low, twin.high = ((codes == k).sum(0) for k in (KEPT, LOW, HIGH))
    back = np.argsort(order)
    twin.codes, twin.values = codes[back], values[back]
    twin.frame_sums = twin.frame_sums[:, back]
    return twin


def _add_sums(twin: Twin, y: int, column: Any, kept: Any, level: float) -> None:
    d = np.where(kept, column - level, 0.0)
    twin.frame_sums[y, :, 0] += d
    twin.frame_sums[y, :, 1] += d**2
    even, odd = kept.copy(), kept.copy()
    even[1::2] = odd[::2] = False
    if even.any() and odd.any():
        half = (column[even].mean() - column[odd].mean()) / 2
        twin.half_sums[y] += (1, half, half**2)
