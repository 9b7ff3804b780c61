"""Marks on values, growth, weights and estimators: all that is not the common path."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import masks
import twins
from blocks import (
    MANY,
    OPTIONAL,
    PER_FRAME,
    PLANES,
    SOME,
    SUMS,
    TYPES,
    all_recipes,
    bits,
    check,
    combine_block,
    cut,
    floors,
    recipes,
    seeds,
    some_frames,
    some_terms,
    values,
)
from masterframe import kernels
from masterframe.errors import UsageError
from masterframe.kernels import (
    RULES,
    Floor,
    FrameTerms,
    LoadTerms,
    RuleSpec,
    marks,
)
from masterframe.kernels.ratios import ratios
from masterframe.kernels.tiles import room_for
from masterframe.model import Recipe, Rejection

NONE = Rejection("none")


@pytest.fixture(autouse=True, scope="module")
def probe() -> Iterator[None]:
    """The rule of `masks` among the others."""
    options = {"low": 3.0, "high": 3.0, "nkeep": 0, "grow": 0.0}
    spec = RuleSpec("probe", options, masks=True, noise=True, rows=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(RULES, "probe", spec)
        patch.setitem(sys.modules, "masterframe.kernels.rules.probe", masks)
        yield


@MANY
@given(
    seed=seeds,
    n=st.integers(1, 25),
    kind=st.sampled_from(TYPES),
    recipe=all_recipes,
    floor=floors,
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_equals_brute_force(
    seed: int, n: int, kind: str, recipe: Recipe, floor: Floor, dtype: Any
) -> None:
    rng = np.random.default_rng(seed)
    raw = values(rng, n, 3, int(rng.integers(3, 9)), kind)
    terms, frames, rank = (
        some_terms(rng, *raw.shape),
        some_frames(rng, *raw.shape),
        rng.permutation(n),
    )
    result = combine_block(raw, terms, recipe, floor, rank, dtype, frames=frames)
    check(result, twins.combine(raw, terms, recipe, floor, rank, dtype, frames))


@SOME
@given(seed=seeds, recipe=all_recipes, planes=st.sampled_from([(), ("rejlow",), ("rejhigh",)]))
def test_what_nobody_asks_for_is_not_counted(
    seed: int, recipe: Recipe, planes: tuple[str, ...]
) -> None:
    rng = np.random.default_rng(seed)
    raw = values(rng, 7, 3, 70, "uint16")
    terms, rank = some_terms(rng, *raw.shape), rng.permutation(7)
    frames = some_frames(rng, *raw.shape)
    whole = combine_block(raw, terms, recipe, Floor(), rank, frames=frames)
    asked = replace(recipe, planes=(*recipe.planes, *planes))
    found = kernels.combine_block(raw, terms, asked, Floor(), rank, frames=frames)
    for name, plane in (("low", "rejlow"), ("high", "rejhigh")):
        wanted = getattr(whole, name) if plane in planes else np.empty((0, 0))
        np.testing.assert_array_equal(getattr(found, name), wanted)
    assert found.saturated.size == (found.data.size if terms.saturation < math.inf else 0)
    others = [
        name for name in (*PLANES, *PER_FRAME, *SUMS, *OPTIONAL) if name not in {"low", "high"}
    ]
    assert bits(found, others) == bits(whole, others)


@MANY
@given(seed=seeds, n=st.integers(1, 30), kind=st.sampled_from(TYPES), recipe=recipes, floor=floors)
def test_windows_and_marks_agree(
    seed: int, n: int, kind: str, recipe: Recipe, floor: Floor
) -> None:
    """A radius without neighbours changes nothing but the path."""
    if recipe.rejection.rule == "none":
        return
    rng = np.random.default_rng(seed)
    raw = values(rng, n, 2, 37, kind)
    terms, rank = some_terms(rng, *raw.shape), rng.permutation(n)
    windows = combine_block(raw, terms, recipe, floor, rank)
    marked = replace(recipe, rejection=replace(recipe.rejection, grow=0.9))
    assert bits(windows) == bits(combine_block(raw, terms, marked, floor, rank))


@MANY
@given(seed=seeds, n=st.integers(1, 12), kind=st.sampled_from(TYPES), recipe=all_recipes)
def test_what_another_call_left_in_memory_changes_no_bit(
    seed: int, n: int, kind: str, recipe: Recipe
) -> None:
    rng = np.random.default_rng(seed)
    raw = values(rng, n, 2, 37, kind)
    terms, frames, rank = some_terms(rng, *raw.shape), some_frames(rng, *raw.shape), np.arange(n)
    first = combine_block(raw, terms, recipe, Floor(), rank, frames=frames)
    for work in (np.uint16, np.float32, np.float64):
        room = room_for(n, np.dtype(work)).value
        for name in set(room._fields) - {"width", "sums"}:  # which are cleared when taken
            byte = rng.choice([0, 127, 255, rng.integers(256)])  # of 255 are floats no numbers
            getattr(room, name).view(np.uint8)[...] = byte
    again = combine_block(raw, terms, recipe, Floor(), rank, frames=frames)
    assert bits(first) == bits(again)


@SOME
@given(seed=seeds, n=st.integers(2, 12), kind=st.sampled_from(TYPES), recipe=all_recipes)
def test_order_of_frames_changes_no_bit(seed: int, n: int, kind: str, recipe: Recipe) -> None:
    rng = np.random.default_rng(seed)
    raw = values(rng, n, 3, 37, kind)
    terms, rank, p = some_terms(rng, *raw.shape), rng.permutation(n), rng.permutation(n)
    frames = some_frames(rng, *raw.shape)
    moved = {
        name: getattr(terms, name)[p]
        for name in ("overscan", "overscan_columns", "dark_ratio", "scale", "zero", "frame_mask")
        if np.size(getattr(terms, name))
    }
    others = FrameTerms(*(term[p] if np.size(term) else term for term in frames))
    first = combine_block(raw, terms, recipe, Floor(), rank, frames=frames)
    second = combine_block(raw[p], terms._replace(**moved), recipe, Floor(), rank[p], frames=others)
    names = (*PLANES, "half_sums", *OPTIONAL)
    assert bits(first, names) == bits(second, names)
    for name in PER_FRAME:
        np.testing.assert_array_equal(getattr(first, name)[p], getattr(second, name))
    assert first.frame_sums[:, :, p].tobytes() == second.frame_sums.tobytes()


def frame_rows(frames: FrameTerms, rows: slice) -> FrameTerms:
    if not np.size(frames.variance):
        return frames
    return frames._replace(variance=frames.variance[:, rows])


@SOME
@given(seed=seeds, kind=st.sampled_from(TYPES), recipe=all_recipes)
def test_bands_change_no_bit(seed: int, kind: str, recipe: Recipe) -> None:
    rng = np.random.default_rng(seed)
    n, rows, nx = 6, 11, 301
    raw = values(rng, n, rows, nx, kind)
    terms, rank = some_terms(rng, n, rows, nx), rng.permutation(n)
    frames = some_frames(rng, n, rows, nx)
    whole = combine_block(raw, terms, recipe, Floor(), rank, frames=frames)
    reach = math.ceil(recipe.rejection.grow or 0.0)
    counts = dict.fromkeys(PER_FRAME, 0)
    for first, last in ((0, 2), (2, 3), (3, 8), (8, 11)):
        above, below = max(first - reach, 0), min(last + reach, rows)
        y, margin = slice(above, below), (first - above, below - last)
        band = combine_block(
            raw[:, y], cut(terms, y), recipe, Floor(), rank,
            frames=frame_rows(frames, y), margin=margin,
        )  # fmt: skip
        for name in PLANES + SUMS + OPTIONAL:
            part = getattr(whole, name)[first:last]
            assert part.tobytes() == getattr(band, name).tobytes(), name
        counts = {name: counts[name] + getattr(band, name) for name in PER_FRAME}
    for name in PER_FRAME:
        np.testing.assert_array_equal(counts[name], getattr(whole, name))


@pytest.mark.parametrize("rule", ["sigma", "probe"])
def test_strips_change_no_bit(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(4)
    raw = values(rng, 7, 23, 61, "float32")
    frames, recipe = some_frames(rng, *raw.shape), Recipe(Rejection(rule, grow=2.0))
    results = []
    for size in (1, 2**30):
        monkeypatch.setattr("masterframe.kernels.combine.STRIP", size)
        results.append(
            bits(combine_block(raw, LoadTerms(), recipe, Floor(), np.arange(7), frames=frames))
        )
    assert results[0] == results[1]


def test_a_thousand_frames_marked() -> None:
    rng = np.random.default_rng(6)
    raw = np.round(rng.normal(1000, 7, (1000, 2, 5)))
    raw[rng.random(raw.shape) < 0.01] += 3000
    raw, rank = raw.astype(np.uint16), rng.permutation(1000)
    frames = FrameTerms(noise=np.tile([49.0, 0.0, 0.0], (1000, 1)))
    recipe = Recipe(Rejection("probe"))
    result = combine_block(raw, LoadTerms(), recipe, Floor(), rank, frames=frames)
    check(result, twins.combine(raw, LoadTerms(), recipe, Floor(), rank, np.float32, frames))
    assert result.high.sum() > 10


@pytest.mark.parametrize("estimator", ["mean", "median", "weighted", "trimmed", "min"])
@pytest.mark.parametrize("rule", ["sigma", "probe", "minmax"])
def test_few_equal_and_missing_values(estimator: Any, rule: str) -> None:
    for n in (1, 2, 3):
        raw = np.full((n, 2, 3), 7.0, np.float32)
        raw[:, 0, 1] = np.nan
        raw[0, 1, 1] = np.nan
        frames = FrameTerms(noise=np.tile([4.0, 0.0, 0.0], (n, 1)))
        recipe = Recipe(Rejection(rule, grow=1.0), estimator=estimator, planes=("propagated",))
        result = combine_block(raw, LoadTerms(), recipe, Floor(), np.arange(n), frames=frames)
        kept = np.isfinite(raw).sum(0)
        np.testing.assert_array_equal(result.count, kept)
        np.testing.assert_array_equal(result.data, np.where(kept, 7.0, np.nan))
        np.testing.assert_array_equal(result.uncert, np.where(kept > 1, 0.0, np.nan))
        assert np.array_equal(np.isnan(result.propagated), kept == 0)


def test_infinite_thresholds_reject_nothing() -> None:
    rng = np.random.default_rng(7)
    raw = values(rng, 9, 4, 31, "uint16")
    frames = some_frames(rng, *raw.shape)
    for rule in ("sigma", "probe"):
        recipe = Recipe(Rejection(rule, low=math.inf, high=math.inf, grow=1.0))
        result = combine_block(raw, LoadTerms(), recipe, Floor(), np.arange(9), frames=frames)
        assert (result.count == 9).all()


@SOME
@given(seed=seeds, recipe=all_recipes, power=st.integers(-3, 5))
def test_a_power_of_two_scales_every_bit(seed: int, recipe: Recipe, power: int) -> None:
    rng = np.random.default_rng(seed)
    raw, factor = values(rng, 8, 3, 19, "float32"), 2.0**power
    frames = some_frames(rng, *raw.shape)
    scaled = frames._replace(noise=frames.noise * (factor**2, factor, factor))
    if np.size(frames.variance):
        scaled = scaled._replace(variance=frames.variance * factor**2)
    first = combine_block(raw, LoadTerms(), recipe, Floor(), np.arange(8), frames=frames)
    second = combine_block(
        raw * np.float32(factor), LoadTerms(), recipe, Floor(), np.arange(8), frames=scaled
    )
    for name in ("count", "low", "high", *PER_FRAME, "exposure"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name), name)
    for name in ("data", "uncert", "propagated"):
        np.testing.assert_array_equal(getattr(first, name) * factor, getattr(second, name), name)


@SOME
@given(seed=seeds, recipe=all_recipes)
def test_a_constant_adds_to_the_level_alone(seed: int, recipe: Recipe) -> None:
    """Whole numbers in float64: nothing is rounded where they are compared."""
    rng = np.random.default_rng(seed)
    raw = values(rng, 8, 3, 19, "uint8").astype(np.float64)
    frames = some_frames(rng, *raw.shape)
    moved = frames._replace(noise=frames.noise + np.array([0, 0, 512]))
    results = [
        combine_block(block, LoadTerms(), recipe, Floor(), np.arange(8), np.float64, frames=terms)
        for block, terms in ((raw, frames), (raw + 512, moved))
    ]
    for name in ("count", "low", "high", *PER_FRAME, "exposure"):
        np.testing.assert_array_equal(getattr(results[0], name), getattr(results[1], name), name)
    added = 512.0 * (results[0].count if recipe.estimator == "sum" else 1)
    np.testing.assert_allclose(results[0].data + added, results[1].data, rtol=1e-12)
    np.testing.assert_allclose(results[0].uncert, results[1].uncert, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(results[0].propagated, results[1].propagated, rtol=1e-9)


def test_what_grows() -> None:
    """High and low at (2, 2) and (2, 5) of one frame; one is masked, and takes nothing with it."""
    raw = np.full((6, 5, 8), 50.0, np.float32) + np.arange(6, dtype=np.float32)[:, None, None]
    raw[3, 2, 2], raw[3, 2, 5], raw[1, 0, 0] = 900, -900, np.nan
    recipe = Recipe(Rejection(low=9.0, high=9.0, grow=2.0))
    result = combine_block(raw, LoadTerms(), recipe, Floor(), np.arange(6))
    y, x = np.mgrid[:5, :8]
    high, low = (y - 2) ** 2 + (x - 2) ** 2, (y - 2) ** 2 + (x - 5) ** 2
    taken = np.minimum(high, low) <= 4
    np.testing.assert_array_equal(result.high, taken & (high <= low))
    np.testing.assert_array_equal(result.low, taken & (high > low))
    np.testing.assert_array_equal(result.missing, [0, 1, 0, 0, 0, 0])
    assert (result.rej_high[3], result.rej_low[3]) == (result.high.sum(), result.low.sum())


def test_thresholds_grow() -> None:
    raw = np.full((3, 3, 5), 50, np.uint16)
    raw[1, 1, 1], raw[1, 1, 4] = 900, 3
    terms = LoadTerms(raw_low=10, raw_high=800)
    result = combine_block(
        raw,
        terms,
        Recipe(Rejection("threshold", low=10, high=800, grow=1.0)),
        Floor(),
        np.arange(3),
    )
    np.testing.assert_array_equal(result.high, [[0, 1, 0, 0, 0], [1, 1, 1, 0, 0], [0, 1, 0, 0, 0]])
    np.testing.assert_array_equal(result.low, [[0, 0, 0, 0, 1], [0, 0, 0, 1, 1], [0, 0, 0, 0, 1]])


def test_growth_leaves_nkeep() -> None:
    """Growing would leave the first pixel one value, and the third none."""
    codes = np.zeros((4, 1, 4), np.int8)
    codes[:3, 0, 1] = codes[3, 0, 3] = 2
    for nkeep, kept in ((0, [1, 1, 0, 3]), (1, [1, 1, 4, 3]), (2, [4, 1, 4, 3])):
        block = marks.Marks(codes.copy(), np.zeros((1, 4)))
        marks.grow(block, 1.0, nkeep)
        np.testing.assert_array_equal((block.codes == 0).sum(0)[0], kept)


def noisy(rng: Any, n: int, pixels: int) -> Any:
    return 100 + rng.normal(0, 3, (n, 1, pixels))


ESTIMATES = [
    ("median", 4), ("lmedian", 5), ("lmedian", 8), ("lmedian", 20), ("min", 2), ("max", 7),
    ("min", 30), ("mean", 6), ("sum", 6), ("weighted", 5), ("trimmed", 5), ("trimmed", 10),
    ("trimmed", 31),
]  # fmt: skip


@pytest.mark.parametrize(("estimator", "n"), ESTIMATES)
def test_stated_errors_are_true(estimator: Any, n: int) -> None:
    """Squared and averaged over 100 000 pixels of normal noise: 0.45 % is one standard error."""
    raw = noisy(np.random.default_rng(n), n, 100_000)
    frames = FrameTerms(noise=np.tile([9.0, 0.0, 0.0], (n, 1)))
    recipe = Recipe(NONE, estimator=estimator, planes=("propagated",))
    result = combine_block(
        raw, LoadTerms(), recipe, Floor(), np.arange(n), np.float64, frames=frames
    )
    truth = np.std(result.data)
    assert math.sqrt(np.mean(result.uncert**2)) == pytest.approx(truth, rel=0.012)
    if estimator != "trimmed":  # it weighs the values by their order, which nobody propagates
        assert result.propagated.mean() == pytest.approx(truth, rel=0.012)


@pytest.mark.parametrize(
    ("n", "nlow", "nhigh"), [(5, 1, 1), (10, 2, 2), (10, 0, 3), (20, 5, 1), (50, 10, 10)]
)
@pytest.mark.parametrize("estimator", ["mean", "median"])
def test_stated_errors_after_minmax(estimator: Any, n: int, nlow: int, nhigh: int) -> None:
    """Winsorised: true for means, up to 7 % too large for medians; from the kept values alone they
    would be half as large. With n - 1 in place of the number averaged less one, 8 % less at n = 5.
    """
    raw = noisy(np.random.default_rng(n), n, 100_000)
    recipe = Recipe(Rejection("minmax", nlow=nlow, nhigh=nhigh), estimator=estimator)
    result = combine_block(raw, LoadTerms(), recipe, Floor(), np.arange(n), np.float64)
    stated, truth = math.sqrt(np.mean(result.uncert**2)), np.std(result.data)
    assert 0.988 < stated / truth < (1.07 if estimator == "median" else 1.012)


@pytest.mark.parametrize("n", [3, 6, 20])
def test_weights_by_inverse_variance(n: int) -> None:
    """Frames of unlike noise: the scatter tells their error without bias, and so does the noise."""
    rng = np.random.default_rng(n)
    sigma = rng.uniform(1, 4, n)
    raw = 50 + rng.normal(size=(n, 1, 100_000)) * sigma[:, None, None]
    recipe = Recipe(NONE, estimator="weighted", planes=("propagated",))
    noise = np.stack([sigma**2, 0 * sigma, 0 * sigma], axis=1)
    given_weights = FrameTerms(noise=noise, weights=sigma**-2)
    by_variance = FrameTerms(variance=np.broadcast_to(sigma[:, None, None] ** 2, raw.shape))
    by_noise = FrameTerms(noise=noise)
    for frames in (given_weights, by_variance, by_noise):
        result = combine_block(
            raw, LoadTerms(), recipe, Floor(), np.arange(n), np.float64, frames=frames
        )
        best = 1 / math.sqrt((sigma**-2).sum())
        assert np.std(result.data) == pytest.approx(best, rel=0.012)
        assert math.sqrt(np.mean(result.uncert**2)) == pytest.approx(best, rel=0.012)
        np.testing.assert_allclose(result.propagated, best, rtol=1e-12)


def test_equal_weights_are_the_mean() -> None:
    raw = noisy(np.random.default_rng(2), 7, 50)
    mean, weighted = (
        combine_block(
            raw,
            LoadTerms(),
            Recipe(NONE, estimator=name),
            Floor(step=4.0),
            np.arange(7),
            np.float64,
        )
        for name in ("mean", "weighted")
    )
    np.testing.assert_allclose(weighted.data, mean.data, rtol=1e-14)
    np.testing.assert_allclose(weighted.uncert, mean.uncert, rtol=1e-12)


@pytest.mark.parametrize("name", ["lmedian", "min"])
@pytest.mark.parametrize("n", [2, 5, 12, 300])
def test_ratios(name: str, n: int) -> None:
    draws = np.sort(np.random.default_rng(n).normal(size=(40_000, n)), axis=1)
    draws = draws[:, 0 if name == "min" else (n - 1) // 2]
    assert ratios(name, n)[n] == pytest.approx(np.std(draws) * math.sqrt(n), rel=0.015)


def test_ratios_where_they_are_known() -> None:
    assert ratios("min", 2)[2] == pytest.approx(math.sqrt(2 * (1 - 1 / math.pi)), abs=1e-12)
    odd = np.arange(1, 64, 2)
    np.testing.assert_allclose(ratios("lmedian", 64)[odd], ratios("median", 64)[odd], atol=1e-8)
    for name in ("lmedian", "min"):
        exact = ratios(name, 1024)
        np.testing.assert_allclose(ratios(name, 5000)[:1025], exact)
        for n in (1100, 3001, 4999):  # between those that were integrated
            assert ratios(name, 5000)[n] == pytest.approx(ratios(name, n)[n], rel=2e-4)
    assert ratios("mean", 5).size == 0


@pytest.mark.parametrize(
    ("recipe", "frames", "message"),
    [
        (Recipe(planes=("propagated",)), FrameTerms(), "'propagated' needs the noise"),
        (Recipe(Rejection("probe")), FrameTerms(), "rule 'probe' needs the noise"),
        (Recipe(planes=("exposure",)), FrameTerms(), "'exposure' needs the exposure times"),
        (Recipe(estimator="weighted"), FrameTerms(weights=np.ones(2)), r"weights has shape \(2,\)"),
        (Recipe(estimator="weighted"), FrameTerms(variance=np.ones((3, 5))), "variance has shape"),
    ],
)
def test_terms_that_do_not_serve(recipe: Recipe, frames: FrameTerms, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        combine_block(
            np.zeros((3, 2, 5)), LoadTerms(), recipe, Floor(), np.arange(3), frames=frames
        )


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (Recipe(estimator="trimmed", trim=0.5), "trim is 0.5; it may be"),
        (Recipe(estimator="medain"), "did you mean median"),  # type: ignore[arg-type]
    ],
)
def test_estimators_that_are_refused(recipe: Recipe, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        combine_block(np.zeros((3, 2, 5)), LoadTerms(), recipe, Floor(), np.arange(3))


def test_margins_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="do not fit 2 rows"):
        combine_block(
            np.zeros((3, 2, 5)), LoadTerms(), Recipe(), Floor(), np.arange(3), margin=(2, 1)
        )
