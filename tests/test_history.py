"""The history of a pixel's values against the combination, and pass by pass against brute force."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocks import MANY, TYPES, combine_block, floors, rejections, seeds, some_terms, values
from masterframe.kernels import (
    Floor,
    LoadTerms,
    calibrate_block,
    pixel_history,
    resolve_rejection,
    row_statistic,
)
from masterframe.model import Recipe, Rejection

KEPT, LOW, HIGH, MISSING = range(4)


def tell(raw: Any, terms: LoadTerms, rejection: Rejection, **given: Any) -> Any:
    rank, floor = given.get("rank", np.arange(len(raw))), given.get("floor", Floor())
    recipe = Recipe(rejection, dtype=given.get("dtype", "float32"))
    return pixel_history(raw, terms, recipe, floor, rank)


def column(*numbers: float, dtype: str = "float32") -> Any:
    return np.array(numbers, dtype).reshape(-1, 1, 1)


@MANY
@given(
    seed=seeds,
    n=st.integers(1, 40),
    kind=st.sampled_from(TYPES),
    rejection=rejections,
    floor=floors,
    dtype=st.sampled_from(["float32", "float64"]),
)
def test_what_became_of_each_value_is_what_the_combination_counts(
    seed: int, n: int, kind: str, rejection: Rejection, floor: Floor, dtype: Any
) -> None:
    rng = np.random.default_rng(seed)
    raw = values(rng, n, 1, 1, kind)
    terms, rank = some_terms(rng, *raw.shape), rng.permutation(n)
    combined = combine_block(raw, terms, Recipe(rejection), floor, rank, dtype)
    history = tell(raw, terms, rejection, floor=floor, rank=rank, dtype=dtype)
    for code, name in enumerate(("kept", "rej_low", "rej_high", "missing")):
        assert (history.codes == code).tolist() == (getattr(combined, name) == 1).tolist(), name
    left = calibrate_block(raw, terms, dtype)[:, 0, 0]
    assert history.values[np.isfinite(left)].tolist() == left[np.isfinite(left)].tolist()


def clip_passes(v: Any, r: Rejection) -> tuple[list[tuple[float, ...]], Any]:
    """Clip as defined; the numbers of every pass, and the pass in which each value went."""
    when, passes = np.zeros(v.size, int), []
    while r.max_iters == "all" or len(passes) < r.max_iters:
        kept = np.sort(v[when == 0])
        c = math.fsum(kept) / kept.size
        if r.center == "median" or (r.center == "first-median" and not passes):
            c = float(np.median(kept))
        elif r.center == "inner-mean" and not passes and kept.size > 2:
            c = math.fsum(kept[1:-1]) / (kept.size - 2)
        sigma = 1.482602218505602 * float(np.median(np.abs(kept - np.median(kept))))
        passes.append((c, sigma, c - r.low * sigma, c + r.high * sigma))
        out = (when == 0) & ((v < c - r.low * sigma) | (v > c + r.high * sigma))
        if not out.any() or kept.size - out.sum() < r.nkeep:
            break
        when[out] = len(passes)
    return passes, when


@MANY
@given(
    seed=seeds,
    n=st.integers(2, 60),
    center=st.sampled_from(["median", "mean", "first-median", "inner-mean"]),
    max_iters=st.sampled_from([1, 2, 3, "all"]),
    low=st.sampled_from([1.5, 3.0]),
    nkeep=st.integers(1, 5),
)
def test_passes_are_those_of_the_definition(
    seed: int, n: int, center: Any, max_iters: Any, low: float, nkeep: int
) -> None:
    rng = np.random.default_rng(seed)
    raw = rng.normal(100, 3, (n, 1, 1)) + rng.choice([0, 0, 0, 20], (n, 1, 1))
    rejection = resolve_rejection(
        Rejection("sigma", low, 2.0, center=center, max_iters=max_iters, nkeep=nkeep)
    )
    passes, when = clip_passes(raw.ravel(), rejection)
    history = tell(raw, LoadTerms(), rejection)
    assert history.when.tolist() == when.tolist()
    assert len(history.passes) == len(passes)
    np.testing.assert_allclose(history.passes, passes, rtol=1e-13)


def test_each_value_left_out_has_its_code():
    raw = column(10, 11, 12, 500, np.nan, 9, 3, 70)
    mask = np.zeros(raw.shape, bool)
    mask[5] = True
    terms = LoadTerms(saturation=500.0, raw_low=5.0, raw_high=50.0, frame_mask=mask)
    history = tell(raw, terms, Rejection("threshold", low=5.0, high=50.0))
    assert history.codes.tolist() == [KEPT] * 3 + [MISSING] * 3 + [LOW, HIGH]
    assert history.when.tolist() == [0] * 8
    assert history.passes == ()


def test_values_are_told_even_where_they_were_left_out():
    terms = LoadTerms(
        bias=np.full((1, 1), 4.0), scale=np.array([2.0, 1.0]), bad=np.ones((1, 1), bool)
    )
    history = tell(column(10, 20), terms, Rejection("none"))
    assert history.values.tolist() == [12, 16]
    assert history.codes.tolist() == [MISSING, MISSING]


def test_equal_values_go_in_canonical_order():
    raw = column(5, 5, 5, 5)
    rejection = Rejection("minmax", nlow=1, nhigh=1)
    history = tell(raw, LoadTerms(), rejection, rank=np.array([3, 0, 2, 1]))
    assert history.codes.tolist() == [HIGH, LOW, KEPT, KEPT]


def test_a_rule_without_a_row_statistic_has_none():
    assert row_statistic(np.ones((3, 4)), Rejection("sigma"), Floor()) == 0.0


@pytest.mark.parametrize("rule", ["minmax", "sigma"])
def test_a_pixel_without_values_has_no_passes(rule):
    history = tell(column(np.nan, np.inf), LoadTerms(), Rejection(rule))
    assert history.codes.tolist() == [MISSING, MISSING]
    assert history.passes == ()
