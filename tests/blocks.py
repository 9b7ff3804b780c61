"""Blocks of raw values, recipes for them, and how results are compared."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, get_args

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

import twins
from masterframe import kernels
from masterframe.kernels import Floor, FrameTerms, LoadTerms
from masterframe.model import Estimator, Recipe, Rejection

TYPES = ("uint8", "int16", "uint16", "int32", "float32", "float64")
PLANES = ("data", "uncert", "count", "low", "high", "saturated")
PER_FRAME = ("kept", "rej_low", "rej_high", "missing")
SUMS = ("frame_sums", "half_sums")
OPTIONAL = ("propagated", "exposure")
MANY = settings(
    deadline=None, max_examples=80, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)
SOME = settings(MANY, max_examples=25)


def values(rng: Any, n: int, rows: int, nx: int, dtype: str) -> Any:
    """Quantised, tied, sometimes constant, with outliers; floats also with what is no number."""
    raw = rng.normal(100, rng.choice([0, 0.4, 3, 20]), (n, rows, nx))
    raw[rng.random(raw.shape) < 0.05] += rng.choice([-80, 100])
    raw = np.round(raw).clip(0, 255)
    if dtype.startswith("float"):
        raw = raw * rng.choice([1, 0.37])
        if rng.random() < 0.5:
            raw[rng.random(raw.shape) < 0.1] = rng.choice([np.nan, np.inf, -np.inf])
    return raw.astype(dtype)


def some_terms(rng: Any, n: int, rows: int, nx: int) -> LoadTerms:
    """Each term with some chance, often none at all."""
    shapes = {
        "overscan": (n, rows), "overscan_columns": (n, nx), "bias": (rows, nx),
        "dark": (rows, nx), "dark_ratio": (n,), "flat": (rows, nx), "scale": (n,), "zero": (n,),
    }  # fmt: skip
    terms: dict[str, Any] = {}
    if rng.random() < 0.6:
        for name, shape in shapes.items():
            if rng.random() < 0.5:
                terms[name] = rng.normal(1, 0.1, shape)
    if rng.random() < 0.3:
        terms["bad"] = rng.random((rows, nx)) < 0.2
    if rng.random() < 0.3:
        terms["frame_mask"] = rng.random((n, rows, nx)) < 0.2
    for name, choices in (
        ("saturation", (101.0, 150.5, 255.0, 300.0, 70000.0)),
        ("raw_low", (-3.0, 50.0, 99.5)),
        ("raw_high", (-1.0, 103.0, 180.2, 65535.0)),
    ):
        if rng.random() < 0.25:
            terms[name] = float(rng.choice(choices))
    return LoadTerms(**terms)


def some_frames(rng: Any, n: int, rows: int, nx: int) -> FrameTerms:
    """Noise, weights and exposure times; a weight may be 0, variances often differ."""
    noise = np.stack([rng.uniform(1, 9, n), rng.uniform(0, 0.3, n), rng.normal(0, 20, n)], axis=1)
    weights = rng.choice([0.0, 0.5, 1.0, 3.0], n, p=[0.1, 0.3, 0.3, 0.3])
    terms = FrameTerms(noise=noise, weights=weights, exptime=rng.uniform(1, 99, n))
    if rng.random() < 0.4:
        terms = terms._replace(weights=np.empty(0))
    if rng.random() < 0.4:
        terms = terms._replace(variance=rng.uniform(0.5, 30, (n, rows, nx)))
    return terms


rejections = st.one_of(
    st.just(Rejection("none")),
    st.just(Rejection("threshold")),
    st.builds(
        Rejection,
        rule=st.just("minmax"),
        nlow=st.integers(0, 4),
        nhigh=st.integers(0, 4),
        nkeep=st.integers(0, 3),
    ),
    st.builds(
        Rejection,
        rule=st.just("sigma"),
        low=st.sampled_from([math.inf, 1.0, 2.5, 5.0]),
        high=st.sampled_from([math.inf, 1.0, 2.5, 5.0]),
        center=st.sampled_from(["median", "mean", "first-median", "inner-mean"]),
        deviation=st.sampled_from(["mad", "std", "rms"]),
        ddof=st.integers(0, 1),
        max_iters=st.sampled_from(["all", 1, 2]),
        mad_correction=st.booleans(),
        nkeep=st.integers(0, 3),
    ),
)
radii = st.sampled_from([0.5, 1.0, 1.5, 2.3])
floors = st.sampled_from(
    [
        Floor(),
        Floor(quant=0.7413, step=1.0),
        Floor(quant=0.1, poisson=0.5, read=2.0),
    ]
)
recipes = st.builds(
    Recipe, rejection=rejections, estimator=st.sampled_from(["mean", "median", "sum"])
)
"""What takes the common path."""
growing = st.one_of(
    st.builds(replace, rejections.filter(lambda r: r.rule != "none"), grow=radii),
    st.builds(
        Rejection,
        rule=st.just("probe"),
        low=st.sampled_from([math.inf, 1.0, 2.5]),
        high=st.sampled_from([math.inf, 1.0, 2.5]),
        nkeep=st.integers(0, 3),
        grow=st.sampled_from([0.0, 1.0]),
    ),
)
all_recipes = st.builds(
    Recipe,
    rejection=st.one_of(rejections, growing),
    estimator=st.sampled_from(get_args(Estimator)),
    trim=st.sampled_from([0.0, 0.1, 0.25, 0.49]),
    planes=st.sampled_from([(), ("propagated", "exposure")]),
)
"""Every path; the rule ``probe`` needs the fixture of the same name."""
seeds = st.integers(0, 2**32 - 1)


def combine_block(raw: Any, terms: LoadTerms, recipe: Recipe, *rest: Any, **named: Any) -> Any:
    """Return what the kernel makes where all is asked for that it counts."""
    counted = replace(recipe, planes=(*recipe.planes, "rejlow", "rejhigh"))
    return kernels.combine_block(raw, terms, counted, *rest, **named)


def bits(result: Any, names: Sequence[str] = PLANES + PER_FRAME + SUMS + OPTIONAL) -> list[bytes]:
    return [np.ascontiguousarray(getattr(result, name)).tobytes() for name in names]


def check(result: Any, twin: Any) -> None:
    """Counts are equal, integers exact, floats equal to the rounding of the type."""
    for name in ("count", "low", "high"):
        np.testing.assert_array_equal(getattr(result, name), getattr(twin, name), name)
    saturated = result.saturated if result.saturated.size else np.zeros(result.data.shape)
    np.testing.assert_array_equal(saturated, twin.saturated)
    codes = (twins.KEPT, twins.LOW, twins.HIGH, twins.GONE)
    for name, code in zip(PER_FRAME, codes, strict=True):
        np.testing.assert_array_equal(getattr(result, name), (twin.codes == code).sum((1, 2)))
    finite = twin.values[np.isfinite(twin.values)]
    size = np.abs(finite).max(initial=1.0)
    ulp = np.finfo(result.data.dtype).eps
    np.testing.assert_allclose(result.data, twin.data, rtol=2 * ulp, atol=1e-13 * size)
    np.testing.assert_allclose(result.uncert, twin.uncert, rtol=4 * ulp, atol=1e-7 * size)
    near = max(8 * ulp, 1e-9)  # deviations have the type of the values
    np.testing.assert_allclose(
        result.frame_sums[:, 0], twin.frame_sums, rtol=near, atol=2e-5 * size
    )
    if result.propagated.size:
        np.testing.assert_allclose(result.propagated, twin.propagated, rtol=8 * ulp)
    if result.exposure.size:
        np.testing.assert_allclose(result.exposure, twin.exposure, rtol=2 * ulp)
    halves = result.half_sums[:, 0]
    np.testing.assert_allclose(halves, twin.half_sums, rtol=near, atol=near * size**2)


def cut(terms: LoadTerms, rows: slice, columns: slice = slice(None)) -> LoadTerms:
    parts: dict[str, Any] = {}
    for name in ("bias", "dark", "flat", "bad"):
        if np.size(getattr(terms, name)):
            parts[name] = getattr(terms, name)[rows, columns]
    if np.size(terms.overscan):
        parts["overscan"] = terms.overscan[:, rows]
    if np.size(terms.overscan_columns):
        parts["overscan_columns"] = terms.overscan_columns[:, columns]
    if np.size(terms.frame_mask):
        parts["frame_mask"] = terms.frame_mask[:, rows, columns]
    return terms._replace(**parts)
