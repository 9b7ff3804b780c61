"""Every rule in the combination, many pixels at once, against the rule for one pixel alone."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rule_driver
from blocks import MANY, PER_FRAME, bits, combine_block
from masterframe.kernels import (
    RULES,
    Floor,
    FrameTerms,
    LoadTerms,
    resolve_rejection,
    work_type,
)
from masterframe.kernels.rules import HIGH, KEPT, LOW
from masterframe.model import Recipe, Rejection

JUDGING = tuple(name for name in RULES if name not in ("none", "threshold"))
FLOORS = (Floor(), Floor(quant=0.7413), Floor(quant=0.1, poisson=0.5, read=2.0))
CHOICES: dict[str, Any] = {
    "low": [math.inf, 0.9, 1.5, 3.0],
    "high": [math.inf, 0.8, 2.0, 3.0],
    "center": ["median", "mean", "first-median", "inner-mean"],
    "deviation": ["mad", "std", "rms"],
    "ddof": [0, 1],
    "max_iters": [1, 2, "all"],
    "mad_correction": [False, True],
    "nlow": [0, 1, 3],
    "nhigh": [0, 1, 4],
    "nkeep": [0, 1, 3],
    "pclip": [-0.5, 0.3, 2.0],
    "fraction": [0.1, 0.4],
    "alpha": [0.05, 0.5],
    "snoise": [0.0, 0.05],
}


@st.composite
def rejections(draw: Any) -> Rejection:
    """Any rule with any of its options; a fraction of the median is smaller than sigmas."""
    rule = draw(st.sampled_from(JUDGING))
    chosen = {
        name: draw(st.sampled_from(CHOICES[name])) for name in RULES[rule].options if name != "grow"
    }
    if rule == "percentile":
        chosen |= {side: chosen[side] / 20 for side in ("low", "high")}
    return resolve_rejection(Rejection(rule, **chosen))


def block(seed: int, n: int, kind: str) -> tuple[Any, Any]:
    """Two rows of more pixels than a tile has, full of ties, some values missing; their noise."""
    rng = np.random.default_rng(seed)
    raw = rng.normal(100, rng.choice([0.4, 3.0, 20.0]), (n, 2, 270)).round()
    raw[rng.random(raw.shape) < 0.05] += rng.choice([-80, 100])
    raw = raw.clip(0).astype(kind)
    if kind == "float32":
        raw[rng.random(raw.shape) < rng.choice([0.0, 0.1])] = np.nan
    noise = np.stack([rng.uniform(1, 9, n), rng.uniform(0, 0.3, n), rng.normal(0, 20, n)], axis=1)
    if rng.random() < 0.5:
        noise[:] = (5.0, 0.2, 0.0)
    return raw, noise


@MANY
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 25),
    kind=st.sampled_from(["uint16", "float32"]),
    rejection=rejections(),
    floor=st.sampled_from(FLOORS),
    weighted=st.booleans(),
)
def test_pixels_at_once_are_judged_as_each_alone(
    seed: int, n: int, kind: str, rejection: Rejection, floor: Floor, weighted: bool
) -> None:
    raw, noise = block(seed, n, kind)
    recipe = Recipe(rejection, estimator="weighted" if weighted else "mean")
    frames = FrameTerms(noise=noise)
    result = combine_block(raw, LoadTerms(), recipe, floor, np.arange(n), frames=frames)
    values = raw.astype(work_type(raw.dtype, np.float32)).astype(float)
    own = np.broadcast_to(noise, (values.shape[2], n, 3))
    codes = np.stack(
        [rule_driver.run(rejection, row.T, own, floor).codes for row in values.swapaxes(0, 1)]
    )
    for name, code in (("count", KEPT), ("low", LOW), ("high", HIGH)):
        np.testing.assert_array_equal((codes == code).sum(2), getattr(result, name), name)
    for name, code in zip(PER_FRAME, (KEPT, LOW, HIGH, rule_driver.MISSING), strict=True):
        np.testing.assert_array_equal((codes == code).sum((0, 1)), getattr(result, name), name)
    if not weighted:
        kept = (codes == KEPT).swapaxes(1, 2).swapaxes(0, 1)
        with np.errstate(invalid="ignore"):
            mean = np.where(kept, values, 0).sum(0) / kept.sum(0)
        np.testing.assert_allclose(result.data, mean, rtol=1e-6)


@MANY
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 25),
    kind=st.sampled_from(["uint16", "float32"]),
    rejection=rejections(),
    estimator=st.sampled_from(["mean", "median", "trimmed", "weighted"]),
)
def test_in_one_go_or_by_marks_of_all_rows(
    seed: int, n: int, kind: str, rejection: Rejection, estimator: Any
) -> None:
    """Values that are left out of a tile, or of the next loading: a radius without neighbours."""
    raw, noise = block(seed, n, kind)
    frames, rank = FrameTerms(noise=noise), np.random.default_rng(seed).permutation(n)
    recipe = Recipe(rejection, estimator=estimator, planes=("propagated",))
    marked = replace(recipe, rejection=replace(rejection, grow=0.9))
    results = [
        combine_block(raw, LoadTerms(), each, Floor(), rank, frames=frames)
        for each in (recipe, marked)
    ]
    assert bits(results[0]) == bits(results[1])


@pytest.mark.parametrize("rule", JUDGING)
@pytest.mark.parametrize("n", [1, 2, 3])
def test_few_equal_or_missing_values_are_kept(rule: str, n: int) -> None:
    raw = np.full((n, 2, 300), 7.0, np.float32)
    raw[:, 0, 1] = np.nan
    raw[0, 1, 1] = np.nan
    frames = FrameTerms(noise=np.tile([4.0, 0.0, 0.0], (n, 1)))
    recipe = Recipe(Rejection(rule))
    result = combine_block(raw, LoadTerms(), recipe, Floor(), np.arange(n), frames=frames)
    np.testing.assert_array_equal(result.count, np.isfinite(raw).sum(0))
    np.testing.assert_array_equal(result.data, np.where(result.count, 7.0, np.nan))
