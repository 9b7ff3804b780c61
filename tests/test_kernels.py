"""The combination against brute force, and what must not change a bit of it."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from astropy.stats import sigma_clip
from hypothesis import given
from hypothesis import strategies as st

import twins
from blocks import (
    MANY,
    PER_FRAME,
    PLANES,
    SOME,
    SUMS,
    TYPES,
    bits,
    check,
    combine_block,
    cut,
    floors,
    recipes,
    seeds,
    some_terms,
    values,
)
from masterframe.kernels import (
    Floor,
    LoadTerms,
    calibrate_block,
    combine,
    efficiencies,
    work_type,
)
from masterframe.kernels.native import Given
from masterframe.model import Recipe, Rejection


@MANY
@given(
    seed=seeds,
    n=st.integers(1, 40),
    kind=st.sampled_from(TYPES),
    recipe=recipes,
    floor=floors,
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_equals_brute_force(
    seed: int, n: int, kind: str, recipe: Recipe, floor: Floor, dtype: Any
) -> None:
    rng = np.random.default_rng(seed)
    raw = values(rng, n, 2, int(rng.integers(3, 9)), kind)
    terms, rank = some_terms(rng, *raw.shape), rng.permutation(n)
    before = raw.tobytes()
    result = combine_block(raw, terms, recipe, floor, rank, dtype)
    assert raw.tobytes() == before
    assert result.data.dtype == dtype
    check(result, twins.combine(raw, terms, recipe, floor, rank, dtype))


@pytest.mark.parametrize("n", [32767, 32768, 65535, 65536])
def test_more_frames_than_16_bits_count(n: int) -> None:
    rng = np.random.default_rng(n)
    raw = rng.normal(1000, 3, (n, 1, 2)).round().astype(np.uint16)
    raw[: n // 100, 0, 0] += 500
    recipe, rank = Recipe(), rng.permutation(n)
    result = combine_block(raw, LoadTerms(), recipe, Floor(), rank)
    check(result, twins.combine(raw, LoadTerms(), recipe, Floor(), rank, np.float32))
    assert result.count[0, 0] <= n - n // 100 < result.count[0, 1] <= n


@pytest.mark.parametrize("kind", ["uint16", "float32"])
@pytest.mark.parametrize("n", [5, 8, 9, 16, 17])
def test_tiles_as_wide_as_they_are_made_give_the_bits_of_narrow_ones(n: int, kind: str) -> None:
    rng = np.random.default_rng(n)
    raw = np.round(rng.normal(1000, 3, (n, 2, 4500)))  # of integers, with ties
    raw[rng.random(raw.shape) < 0.01] += 300
    raw, recipe, rank = raw.astype(kind), Recipe(Rejection(low=3, high=3)), rng.permutation(n)
    whole = combine_block(raw, LoadTerms(), recipe, Floor(), rank)
    narrow = [
        combine_block(raw[:, :, x : x + 60], LoadTerms(), recipe, Floor(), rank)
        for x in range(0, 4500, 60)
    ]
    for name in ("data", "uncert", "count", "low", "high"):
        joined = np.concatenate([getattr(each, name) for each in narrow], axis=1)
        np.testing.assert_array_equal(getattr(whole, name), joined)
    for name in PER_FRAME:
        np.testing.assert_array_equal(getattr(whole, name), sum(getattr(e, name) for e in narrow))
    for name in SUMS:
        near = sum(getattr(each, name) for each in narrow)
        np.testing.assert_allclose(getattr(whole, name), near, rtol=1e-5, atol=1e-2)


@pytest.mark.parametrize("n", [200, 1000])
@pytest.mark.parametrize("kind", ["uint16", "float32"])
def test_equals_brute_force_for_many_frames(n: int, kind: str) -> None:
    rng = np.random.default_rng(n)
    raw = np.round(rng.normal(1000, 7, (n, 2, 5)))
    raw[rng.random(raw.shape) < 0.01] += 3000
    raw, rank = raw.astype(kind), rng.permutation(n)
    for rejection in (Rejection(low=3.0, high=3.0), Rejection(low=3.0, high=3.0, max_iters="all")):
        result = combine_block(raw, LoadTerms(), Recipe(rejection), Floor(), rank)
        twin = twins.combine(raw, LoadTerms(), Recipe(rejection), Floor(), rank, np.float32)
        check(result, twin)
        assert result.high.sum() > n // 100


@pytest.mark.parametrize(
    ("kind", "level", "noise"), [("uint16", 30000, 9000), ("float32", 1e6, 0.5), ("float32", 0, 3)]
)
def test_equals_brute_force_in_rows_of_several_tiles(kind: str, level: float, noise: float) -> None:
    """Squares that 32 bits do not hold; bounds that rounding to float32 moves across values."""
    rng = np.random.default_rng(7)
    raw = rng.normal(level, noise, (12, 1, 1100))
    raw[rng.random(raw.shape) < 0.01] += 6 * noise
    raw = np.round(raw.clip(0, 65535) if kind == "uint16" else raw, 1).astype(kind)
    recipe, rank = Recipe(Rejection(low=2.5, high=2.5)), rng.permutation(12)
    result = combine_block(raw, LoadTerms(), recipe, Floor(), rank)
    assert result.low.any()
    assert result.high.any()
    check(result, twins.combine(raw, LoadTerms(), recipe, Floor(), rank, np.float32))


def test_ten_thousand_frames() -> None:
    rng = np.random.default_rng(3)
    raw = rng.integers(90, 111, (10000, 1, 3)).astype(np.uint16)
    raw[17] = 60000
    result = combine_block(raw, LoadTerms(), Recipe(), Floor(), np.arange(10000))
    np.testing.assert_array_equal(result.count, 9999)
    good = np.delete(raw, 17, axis=0)
    np.testing.assert_array_equal(result.data, good.mean(axis=0).astype(np.float32))


@SOME
@given(seed=seeds, n=st.integers(2, 12), kind=st.sampled_from(TYPES), recipe=recipes)
def test_order_of_frames_changes_no_bit(seed: int, n: int, kind: str, recipe: Recipe) -> None:
    rng = np.random.default_rng(seed)
    raw = values(rng, n, 2, 37, kind)
    raw[rng.random(raw.shape) < 0.1] = 0
    if kind.startswith("float"):
        raw = np.where(rng.random(raw.shape) < 0.5, -raw, raw)  # zeros of both signs
    terms, rank, p = some_terms(rng, *raw.shape), rng.permutation(n), rng.permutation(n)
    moved = {
        name: getattr(terms, name)[p]
        for name in ("overscan", "overscan_columns", "dark_ratio", "scale", "zero", "frame_mask")
        if np.size(getattr(terms, name))
    }
    first = combine_block(raw, terms, recipe, Floor(), rank)
    second = combine_block(raw[p], terms._replace(**moved), recipe, Floor(), rank[p])
    assert bits(first, (*PLANES, "half_sums")) == bits(second, (*PLANES, "half_sums"))
    for name in PER_FRAME:
        np.testing.assert_array_equal(getattr(first, name)[p], getattr(second, name))
    assert first.frame_sums[:, :, p].tobytes() == second.frame_sums.tobytes()


@SOME
@given(
    seed=seeds, n=st.integers(4, 13), nx=st.integers(1, 1300), kind=st.sampled_from(("u2", "f4"))
)
def test_sums_are_added_in_an_order_that_nothing_changes(
    seed: int, n: int, nx: int, kind: str
) -> None:
    """Frame by frame, x modulo 64: the bits that masters hold, whatever tile they are in.

    Of two values, so that many equal ones are on both sides of the edges of what is kept.
    """
    raw = np.random.default_rng(seed).integers(0, 2, (n, 1, nx)).astype(kind) * 65535
    recipe = Recipe(Rejection("minmax", nlow=2, nhigh=1))
    result = combine_block(raw, LoadTerms(), recipe, Floor(), np.arange(n))
    place = np.argsort(np.argsort(raw[:, 0], axis=0, kind="stable"), axis=0)
    kept = (place >= 2) & (place < n - 1)
    apart = np.where(kept, raw[:, 0].astype(np.float32) - result.data, np.float32(0))
    for k in range(n):
        sums = np.zeros((2, 64), np.float32)
        for x0 in range(0, nx, 64):
            part = apart[k, x0 : x0 + 64]
            sums[:, : part.size] += part, part * part
        expected = [np.cumsum(one.astype(np.float64))[-1] for one in sums]
        assert result.frame_sums[0, 0, k].tolist() == expected
    np.testing.assert_array_equal(result.kept, kept.sum(axis=1))
    np.testing.assert_array_equal(result.rej_low, (place < 2).sum(axis=1))
    np.testing.assert_array_equal(result.rej_high, (place == n - 1).sum(axis=1))


@SOME
@given(seed=seeds, kind=st.sampled_from(TYPES), recipe=recipes)
def test_bands_change_no_bit(seed: int, kind: str, recipe: Recipe) -> None:
    rng = np.random.default_rng(seed)
    n, rows, nx = 6, 5, 301
    raw = values(rng, n, rows, nx, kind)
    terms, rank = some_terms(rng, n, rows, nx), rng.permutation(n)
    whole = combine_block(raw, terms, recipe, Floor(), rank)
    for y in (slice(0, 2), slice(2, 5)):
        band = combine_block(raw[:, y], cut(terms, y), recipe, Floor(), rank)
        for name in PLANES + SUMS:
            assert getattr(whole, name)[y].tobytes() == getattr(band, name).tobytes(), name
    for x in (slice(0, 7), slice(7, 301)):
        part = combine_block(raw[:, :, x], cut(terms, slice(None), x), recipe, Floor(), rank)
        for name in PLANES:
            whole_part = np.ascontiguousarray(getattr(whole, name)[:, x])
            assert whole_part.tobytes() == getattr(part, name).tobytes(), name


@SOME
@given(
    seed=seeds,
    n=st.integers(1, 23),
    kind=st.sampled_from(["uint16", "float32", "float64"]),
    max_iters=st.sampled_from([1, "all"]),
    floor=floors,
)
def test_lanes_at_once_and_one_by_one_agree(
    seed: int, n: int, kind: str, max_iters: Any, floor: Floor
) -> None:
    rng = np.random.default_rng(seed)
    raw = values(rng, n, 2, 53, kind)
    recipe = Recipe(Rejection(low=1.5, high=2.0, max_iters=max_iters))
    at_once = combine_block(raw, LoadTerms(), recipe, floor, np.arange(n))
    make = combine._settings
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            combine,
            "_settings",
            lambda case: Given(make(case).value._replace(rows_at_once=False)),
        )
        one_by_one = combine_block(raw, LoadTerms(), recipe, floor, np.arange(n))
    assert bits(at_once) == bits(one_by_one)


@SOME
@given(seed=seeds, n=st.integers(1, 23), recipe=recipes, floor=floors)
def test_integers_and_floats_agree(seed: int, n: int, recipe: Recipe, floor: Floor) -> None:
    rng = np.random.default_rng(seed)
    raw = values(rng, n, 3, 41, "uint16")
    raw[rng.random(raw.shape) < 0.1] = rng.choice([0, 65535])
    terms = LoadTerms(saturation=float(rng.choice([150, 65535, np.inf])))
    integers = combine_block(raw, terms, recipe, floor, np.arange(n))
    floats = combine_block(raw.astype(np.float32), terms, recipe, floor, np.arange(n))
    assert bits(integers) == bits(floats)


@SOME
@given(seed=seeds, kind=st.sampled_from(TYPES), dtype=st.sampled_from([np.float32, np.float64]))
def test_calibrated_first_or_while_loading(seed: int, kind: str, dtype: Any) -> None:
    rng = np.random.default_rng(seed)
    n, rows, nx = 7, 3, 29
    raw = values(rng, n, rows, nx, kind)
    limits = {"saturation": math.inf, "raw_low": -math.inf, "raw_high": math.inf}
    terms = some_terms(rng, n, rows, nx)._replace(**limits)
    block = calibrate_block(raw, terms, dtype)
    work = work_type(raw.dtype, dtype)
    assert block.dtype == work
    expected = twins.calibrate(raw, terms, work) + work.type(0)
    gone = twins.left_out(raw, expected, terms) == twins.GONE
    expected[gone] = np.nan
    assert np.array_equal(np.isnan(block), np.isnan(expected))
    assert block[~np.isnan(block)].tobytes() == expected[~np.isnan(block)].tobytes()
    recipe, rank = Recipe(Rejection(low=1.5, high=2.0)), rng.permutation(n)
    loading = combine_block(raw, terms, recipe, Floor(), rank, dtype)
    before = combine_block(block, LoadTerms(), recipe, Floor(), rank, dtype)
    assert bits(loading) == bits(before)


def test_calibrate_block_leaves_out() -> None:
    raw = np.array([[[10, 20, 30, 40, 50]]], np.uint16)
    terms = LoadTerms(saturation=50, raw_low=20, raw_high=30, bad=np.eye(1, 5, 1, dtype=bool))
    block = calibrate_block(raw, terms)
    np.testing.assert_array_equal(block, [[[np.nan, np.nan, 30, np.nan, np.nan]]])


@SOME
@given(seed=seeds, n=st.integers(1, 31), kind=st.sampled_from(["uint16", "float32", "float64"]))
def test_rejects_what_astropy_rejects(seed: int, n: int, kind: str) -> None:
    rng = np.random.default_rng(seed)
    raw = rng.normal(1000, 8, (n, 3, 17))
    raw[rng.random(raw.shape) < 0.04] += 900
    raw = raw.astype(kind)
    clipped = sigma_clip(
        raw, sigma_lower=2, sigma_upper=3, maxiters=1, cenfunc="median", stdfunc="mad_std", axis=0
    )
    recipe = Recipe(Rejection(low=2.0, high=3.0))
    result = combine_block(raw, LoadTerms(), recipe, Floor(), np.arange(n))
    np.testing.assert_array_equal(result.count, n - np.ma.getmaskarray(clipped).sum(axis=0))
    for k in range(n):
        assert result.kept[k] == (~np.ma.getmaskarray(clipped)[k]).sum()


def test_median_and_mad_on_quantised_values() -> None:
    """Six equal values of eleven make the MAD 0: all others go, unless a floor keeps them."""
    raw = np.array([100] * 6 + [101] * 3 + [99] * 2, np.uint16)[:, None, None]
    for floor, kept, low, high in ((Floor(), 6, 2, 3), (Floor(quant=0.7413), 11, 0, 0)):
        result = combine_block(raw, LoadTerms(), Recipe(), floor, np.arange(11))
        assert (result.count[0, 0], result.low[0, 0], result.high[0, 0]) == (kept, low, high)


def test_a_value_on_the_bound_is_kept() -> None:
    raw = np.array([0, 1, 2, 3, 4], np.float64)[:, None, None]
    sigma = 1.482602218505602
    for bound, kept in ((2 / sigma, 5), (np.nextafter(2 / sigma, 0) - 1e-9, 3)):
        recipe = Recipe(Rejection(low=bound, high=bound))
        exact = 2 - bound * sigma <= 0  # the bound as it is computed
        result = combine_block(raw, LoadTerms(), recipe, Floor(), np.arange(5))
        assert result.count[0, 0] == (5 if exact else kept)


def test_minmax_orders_equal_values_by_rank() -> None:
    raw = np.array([7, 7, 7, 7, 5], np.uint16)[:, None, None]
    recipe = Recipe(Rejection("minmax", nlow=2, nhigh=1))
    result = combine_block(raw, LoadTerms(), recipe, Floor(), np.array([3, 0, 2, 1, 4]))
    np.testing.assert_array_equal(result.rej_low, [0, 1, 0, 0, 1])  # lowest rank of the sevens
    np.testing.assert_array_equal(result.rej_high, [1, 0, 0, 0, 0])  # highest rank of them


@pytest.mark.parametrize(
    ("n", "nlow", "nhigh", "nkeep", "kept"),
    [(5, 2, 2, 1, 1), (5, 3, 2, 1, 5), (5, 3, 2, 0, 0), (5, 4, 2, 0, 5), (5, 1, 1, 4, 5)],
)
def test_minmax_that_would_leave_too_few_drops_nothing(
    n: int, nlow: int, nhigh: int, nkeep: int, kept: int
) -> None:
    raw = np.arange(n, dtype=np.uint16)[:, None, None]
    recipe = Recipe(Rejection("minmax", nlow=nlow, nhigh=nhigh, nkeep=nkeep))
    result = combine_block(raw, LoadTerms(), recipe, Floor(), np.arange(n))
    assert result.count[0, 0] == kept == result.kept.sum()
    assert np.isnan(result.data[0, 0]) == (kept == 0)


def test_minmax_scales_with_the_values_present() -> None:
    raw = np.arange(10, dtype=np.float32)[:, None, None].repeat(2, axis=2)
    raw[5:, 0, 1] = np.nan
    recipe = Recipe(Rejection("minmax", nlow=2, nhigh=4))
    result = combine_block(raw, LoadTerms(), recipe, Floor(), np.arange(10))
    np.testing.assert_array_equal(result.low, [[2, 1]])
    np.testing.assert_array_equal(result.high, [[4, 2]])


def test_uncertainty_of_close_float64_values() -> None:
    """Values of 1e9 that scatter by 1e-4: a sum of squares about zero would lose them."""
    rng = np.random.default_rng(5)
    raw = 1e9 + rng.normal(0, 1e-4, (50, 1, 11))
    result = combine_block(
        raw, LoadTerms(), Recipe(Rejection("none")), Floor(), np.arange(50), np.float64
    )
    expected = np.std(raw - 1e9, axis=0, ddof=1) / math.sqrt(50)
    np.testing.assert_allclose(result.uncert, expected, rtol=2e-3)


def test_step_bounds_the_uncertainty() -> None:
    raw = np.full((4, 1, 2), 9, np.uint16)
    result = combine_block(raw, LoadTerms(), Recipe(), Floor(step=3.0), np.arange(4))
    np.testing.assert_allclose(result.uncert, 3 / math.sqrt(12) / 2, rtol=1e-7)


def test_layouts_of_raw() -> None:
    """Trimmed, read-only, byte-swapped and transposed values give the bits of a plain copy."""
    rng = np.random.default_rng(8)
    full = rng.integers(0, 999, (6, 9, 40)).astype(np.uint16)
    view = full[::2, 2:7, 3:30]
    plain = np.ascontiguousarray(view)
    locked = view.view()
    locked.flags.writeable = False
    rank = np.arange(3)
    expected = bits(combine_block(plain, LoadTerms(), Recipe(), Floor(), rank))
    turned = np.asfortranarray(plain)
    backwards = plain[:, ::-1, ::-1].copy()[:, ::-1, ::-1]
    for raw in (view, locked, plain.astype(">u2"), turned, backwards):
        np.testing.assert_array_equal(raw, plain)
        assert bits(combine_block(raw, LoadTerms(), Recipe(), Floor(), rank)) == expected


def test_threads_share_nothing() -> None:
    rng = np.random.default_rng(9)
    raw = rng.integers(0, 3000, (9, 4, 700)).astype(np.uint16)
    alone = bits(combine_block(raw, LoadTerms(), Recipe(), Floor(), np.arange(9)))
    with ThreadPoolExecutor(4) as pool:
        jobs = [
            pool.submit(combine_block, raw, LoadTerms(), Recipe(), Floor(), np.arange(9))
            for _ in range(8)
        ]
        assert all(bits(job.result()) == alone for job in jobs)


@pytest.mark.parametrize("n", [3, 4, 9, 10, 65, 66])
def test_efficiency_of_the_median(n: int) -> None:
    rng = np.random.default_rng(n)
    draws = np.median(rng.normal(size=(60_000, n)), axis=1)
    assert efficiencies(n)[n] == pytest.approx(np.std(draws) * math.sqrt(n), rel=0.012)


def test_efficiency_where_it_is_known() -> None:
    table = efficiencies(10_000)
    assert table[3] == pytest.approx(math.sqrt(3 * (1 - math.sqrt(3) / math.pi)), abs=1e-8)
    assert table[1] == table[2] == 1
    assert table[-1] == pytest.approx(math.sqrt(math.pi / 2), rel=1e-4)
    for parity in (0, 1):  # the series takes over where the table ends without a step
        steps = np.diff(table[54 + parity : 80 : 2])
        assert np.abs(np.diff(steps, 2)).max() < 5e-6
        assert (steps > 0).all()
    assert math.isnan(table[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bias": np.zeros((3, 4))}, r"bias has shape \(3, 4\); the raw values need \(2, 5\)"),
        ({"scale": np.ones(2)}, r"scale has shape \(2,\); the raw values need \(3,\)"),
        ({"frame_mask": np.zeros((2, 5), bool)}, "frame_mask has shape"),
    ],
)
def test_terms_that_do_not_fit(change: dict[str, Any], message: str) -> None:
    raw = np.zeros((3, 2, 5), np.uint16)
    with pytest.raises(ValueError, match=message):
        combine_block(raw, LoadTerms(**change), Recipe(), Floor(), np.arange(3))


def test_raw_values_that_are_none() -> None:
    with pytest.raises(ValueError, match="complex64 of shape"):
        combine_block(np.zeros((3, 2, 5), "c8"), LoadTerms(), Recipe(), Floor(), np.arange(3))
    with pytest.raises(ValueError, match="3 frames with"):
        combine_block(np.zeros((3, 2, 5)), LoadTerms(), Recipe(), Floor(), np.arange(2))


@pytest.mark.parametrize("number", [2**62, 2**64, 2**64 + 1, 10**30])
def test_numbers_beyond_all_values_are_as_good_as_all_of_them(number):
    raw = np.arange(1000, 1009, dtype=np.uint16).reshape(9, 1, 1)
    raw[8] = 60000
    for rejection, kept in (
        (Rejection("minmax", nlow=number), 9),  # it would leave none, and so drops none
        (Rejection("sigma", nkeep=number), 9),
        (Rejection("sigma", max_iters=number), 8),
    ):
        found = combine_block(raw, LoadTerms(), Recipe(rejection), Floor(), np.arange(9))
        assert found.count[0, 0] == kept, rejection
