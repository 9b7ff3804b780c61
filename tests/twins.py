"""Slow twins of the kernels: one pixel at a time in plain numpy, as they are defined."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from masterframe.kernels import Floor, FrameTerms, LoadTerms, resolve_rejection
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
    propagated: Any = field(default=None)
    exposure: Any = field(default=None)


def calibrate(raw: Any, terms: LoadTerms, dtype: Any) -> Any:
    """Apply the terms by plain numpy expressions in the work type."""
    v = raw.astype(dtype)
    t = {k: np.asarray(getattr(terms, k)).astype(dtype) for k in terms._fields[:8]}
    if t["overscan"].size:
        v = v - t["overscan"][:, :, None]
    if t["overscan_columns"].size:
        v = v - t["overscan_columns"][:, None]
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
    codes[raw > terms.raw_high] = HIGH
    codes[raw < terms.raw_low] = LOW
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


def ratio(estimator: str, n: int) -> float:
    """Standard deviation over the mean's, for normal data; checked apart, by Monte Carlo."""
    from masterframe.kernels.ratios import ratios

    table = ratios(estimator, n)
    return float(table[n]) if table.size else 1.0


@dataclass
class Pixel:
    """The values of one pixel that were kept, in canonical order, and what is known of them."""

    values: Any
    noise: Any
    """a, b, z of each."""
    weights: Any = None
    """Weight of each."""
    dropped: tuple[int, int] = (0, 0)
    """How many a rule dropped from the ends, whatever they were."""


def variances(noise: Any, c: float) -> Any:
    return noise[:, 0] + noise[:, 1] * np.maximum(c - noise[:, 2], 0)


def estimate(pixel: Pixel, recipe: Recipe, step: float) -> tuple[float, float]:
    """Combined value and standard deviation of kept values."""
    kept, name = np.sort(pixel.values), recipe.estimator
    n = len(kept)
    if n == 0:
        return math.nan, math.nan
    if name == "weighted":
        return _weighted(pixel, step)
    cut = int(recipe.trim * n) if name == "trimmed" else 0
    inner = kept[cut : n - cut]
    exact = math.fsum(inner)
    value = {
        "mean": exact / len(inner), "trimmed": exact / len(inner), "sum": exact,
        "median": float(np.median(kept)), "lmedian": kept[(n - 1) // 2],
        "min": kept[0], "max": kept[-1],
    }[name]  # fmt: skip
    m = len(inner)
    if m < 2:
        return value, math.nan
    ends = [inner[0]] * (cut + pixel.dropped[0]) + [inner[-1]] * (cut + pixel.dropped[1])
    winsorized = np.concatenate([inner, ends])
    s = max(math.sqrt(winsorized.var() * len(winsorized) / (m - 1)), step / math.sqrt(12))
    error = s / math.sqrt(m) * ratio(name, n)
    return value, error * n if name == "sum" else error


def _weighted(pixel: Pixel, step: float) -> tuple[float, float]:
    if not pixel.weights.any():
        return math.nan, math.nan
    p = pixel.weights / math.fsum(pixel.weights)
    mean = math.fsum(p * pixel.values)
    if (p > 0).sum() < 2:
        return mean, math.nan
    variance = (p**2 * (pixel.values - mean) ** 2 / (1 - p)).sum()
    return mean, math.sqrt(max(variance, step**2 / 12 * (p**2).sum()))


def propagate(pixel: Pixel, recipe: Recipe, level: float) -> float:
    """Standard deviation of the estimate from the variances of the values."""
    n, name = len(pixel.values), recipe.estimator
    if n == 0:
        return math.nan
    variance = variances(pixel.noise, level)
    if name == "weighted":
        if not pixel.weights.any():
            return math.nan
        p = pixel.weights / pixel.weights.sum()
        return math.sqrt((p**2 * variance)[p > 0].sum())
    if name == "trimmed":
        cut = int(recipe.trim * n)
        variance = variance[np.argsort(pixel.values, kind="stable")[cut : n - cut]]
    error = math.sqrt(math.fsum(variance))
    return error if name == "sum" else error / len(variance) * ratio(name, n)


def grow(codes: Any, radius: float, nkeep: int) -> Any:
    """Codes of all values after rejected ones took those within a radius with them."""
    grown = codes.copy()
    for k in range(len(codes)):
        y, x = np.nonzero((codes[k] == LOW) | (codes[k] == HIGH))
        for v, u in np.argwhere(codes[k] == KEPT):
            square = (y - v) ** 2 + (x - u) ** 2
            near = [(d, -codes[k, b, a]) for d, b, a in zip(square, y, x, strict=True)]
            near = [item for item in near if item[0] <= radius**2]
            if near:
                grown[k, v, u] = -min(near)[1]
    few = (grown == KEPT).sum(0) < nkeep
    grown[:, few] = codes[:, few]
    return grown


def frame_noise(frames: FrameTerms, shape: tuple[int, ...]) -> Any:
    """a, b, z of each value, shape (N, rows, nx, 3)."""
    noise = np.zeros((*shape, 3))
    if np.size(frames.noise):
        noise[:] = np.asarray(frames.noise)[:, None, None]
    if np.size(frames.variance):
        noise[..., 0] = frames.variance
    return noise


def value_weights(pixel: Pixel, given: Any, known: bool, dtype: Any) -> Any:
    """Weights of the kept values: those given, else by their noise at the plain mean, else 1."""
    n = len(pixel.values)
    weights = np.ones(n)
    if given is not None:
        weights = given
    elif known and n:
        mean = float(dtype(math.fsum(pixel.values) / n))
        with np.errstate(divide="ignore"):
            weights = 1 / variances(pixel.noise, mean)
    return np.where((weights > 0) & (weights < np.inf), weights, 0)


def reject_all(values: Any, codes: Any, noise: Any, rejection: Rejection, floor: Floor) -> Any:
    """Codes of the values (in canonical order) of a block after the rule, and after growing."""
    n, rows, nx = values.shape
    codes = codes.copy()
    for y in range(rows):
        row = 0.0
        if rejection.rule == "probe":
            row = row_spread([values[codes[:, y, x] == KEPT, y, x] for x in range(nx)])
        for x in range(nx):
            valid = np.flatnonzero(codes[:, y, x] == KEPT)
            v = values[valid, y, x]
            if rejection.rule == "probe":
                codes[valid, y, x] = probe(v, noise[valid, y, x], rejection, row)
            else:
                codes[valid, y, x] = reject(v, rejection, floor, n)
    return grow(codes, rejection.grow, rejection.nkeep or 0) if rejection.grow else codes


def row_spread(pixels: Any) -> float:
    """What the rule of `masks` measures in a row."""
    spreads = [float(v.max() - v.min()) for v in pixels if len(v) > 1]
    total = 0.0
    for spread in spreads:
        total += spread * spread
    return math.sqrt(total / len(spreads)) if spreads else 0.0


def probe(v: Any, noise: Any, rejection: Rejection, row: float) -> Any:
    """The rule of `masks`."""
    codes = np.full(len(v), KEPT)
    if len(v):
        c = float(np.median(v))
        sigma = np.sqrt(variances(noise, c)) + 0.25 * row
        codes[v < c - rejection.low * sigma] = LOW
        codes[v > c + rejection.high * sigma] = HIGH
    return codes


def combine(
    raw: Any, terms: LoadTerms, recipe: Recipe, floor: Floor, rank: Any, dtype: Any,
    frames: FrameTerms | None = None,
) -> Twin:  # fmt: skip
    """Combine by brute force."""
    frames = frames or FrameTerms()
    wide = raw.dtype.itemsize > (2 if raw.dtype.kind in "iu" else 4) or dtype == np.float64
    values = calibrate(raw, terms, np.float64 if wide else np.float32)
    codes = left_out(raw, values, terms)
    n, rows, nx = raw.shape
    order = np.argsort(rank, kind="stable")
    rejection = resolve_rejection(recipe.rejection)
    values, codes = values[order].astype(float), codes[order]
    noise = frame_noise(frames, raw.shape)[order]
    weights = np.asarray(frames.weights)[order] if np.size(frames.weights) else None
    known = bool(np.size(frames.noise) or np.size(frames.variance))
    valid = codes == KEPT
    ruled = reject_all(values, codes, noise, replace(rejection, grow=0.0), floor)
    codes = reject_all(values, codes, noise, rejection, floor)
    twin = Twin(
        np.empty((rows, nx)), np.empty((rows, nx)), *np.zeros((4, rows, nx), int),
        codes=codes, values=values, frame_sums=np.zeros((rows, n, 2)),
        half_sums=np.zeros((rows, 3)), propagated=np.empty((rows, nx)),
    )  # fmt: skip
    twin.saturated = ((raw >= terms.saturation) & (terms.saturation < math.inf)).sum(0)
    for y in range(rows):
        for x in range(nx):
            kept = codes[:, y, x] == KEPT
            pixel = Pixel(values[kept, y, x], noise[kept, y, x])
            given = None if weights is None else weights[kept]
            pixel.weights = value_weights(pixel, given, known, dtype)
            if rejection.rule == "minmax":
                lost = ruled[valid[:, y, x], y, x]
                pixel.dropped = int((lost == LOW).sum()), int((lost == HIGH).sum())
            value, error = estimate(pixel, recipe, floor.step)
            twin.data[y, x], twin.uncert[y, x] = value, error
            level = value / (max(kept.sum(), 1) if recipe.estimator == "sum" else 1)
            twin.propagated[y, x] = propagate(pixel, recipe, dtype(level))
            if kept.any():
                _add_sums(twin, y, values[:, y, x], kept, np.float64(dtype(level)))
    if np.size(frames.exptime):
        twin.exposure = np.einsum("k,kyx->yx", np.asarray(frames.exptime)[order], codes == KEPT)
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
