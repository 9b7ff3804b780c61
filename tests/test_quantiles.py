"""Quantiles of pieces equal those of the whole."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from masterframe import quantiles
from masterframe.levels import noise_of


def values(width):
    numbers = st.floats(-(2.0**99), 2.0**99, width=width)
    special = st.sampled_from([0.0, -0.0, 1.0, np.nan, np.inf, -np.inf])
    return npst.arrays(f"f{width // 8}", st.integers(1, 60), elements=st.one_of(numbers, special))


@given(st.sampled_from([32, 64]).flatmap(values), st.integers(1, 7))
def test_median_of_pieces_is_the_median_of_all(data, pieces):
    finite = np.sort(data[np.isfinite(data)]).astype(np.float64)
    found = quantiles.exact_median(lambda: np.array_split(data, pieces))
    if finite.size == 0:
        assert np.isnan(found)
        assert np.isnan(quantiles.median_of(finite))
        return
    low, high = finite[(finite.size - 1) // 2], finite[finite.size // 2]
    assert found == low + (high - low) / 2
    assert quantiles.median_of(data[np.isfinite(data)]) == found


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_median_of_many_values(dtype):
    data = np.random.default_rng(3).normal(100, 7, 1_000_001).astype(dtype)
    assert quantiles.exact_median(lambda: np.array_split(data, 11)) == np.median(data)


def test_robust_sigma_is_the_scaled_mad():
    data = np.random.default_rng(4).normal(5, 2, (41, 77))
    center = float(np.median(data))
    expected = 1.482602218505602 * np.median(np.abs(data - center))
    assert quantiles.robust_sigma(lambda: [data], center) == expected


@given(
    npst.arrays(
        "f8",
        st.tuples(st.integers(1, 9), st.integers(1, 9)),
        unique=True,
        elements=st.floats(-1e9, 1e9),
    )
)
def test_the_grouped_median_of_values_that_all_differ_is_the_plain_one(data):
    for axis in (0, 1):
        np.testing.assert_array_equal(
            quantiles.grouped_median(data, axis), np.median(data, axis=axis)
        )


@pytest.mark.parametrize("sigma", [0.5, 0.87, 1.48, 3.0, 40.0])
def test_the_grouped_median_of_whole_numbers_lies_between_them(sigma):
    rng = np.random.default_rng(5)
    for level in (100.0, 100.31, 100.5, 100.93):
        data = np.rint(rng.normal(level, sigma, (6, 40_000)))
        found = quantiles.grouped_median(data)
        assert found == pytest.approx(level, abs=0.08 + 5 * 1.2533 * sigma / 200)
    assert quantiles.grouped_median(np.full((2, 7), 3.0)).tolist() == [3.0, 3.0]


def test_noise_of_whole_numbers_is_alike_in_like_frames():
    """The plain median is a multiple of 0.6, and doubles between frames of a noise near 0.87."""
    rng = np.random.default_rng(6)
    frames = [np.rint(rng.normal(100.3, 0.87, (256, 256))) for _ in range(5)]
    found = [noise_of(frame, quantiles.grouped_median) for frame in frames]
    assert found == pytest.approx([np.hypot(0.87, 12**-0.5)] * 5, rel=0.08)


SHAPES = st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 40))


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "uint32", "int64"])
@given(shape=SHAPES, seed=st.integers(0, 99))
def test_medians_of_rows_of_integers_are_those_of_numpy(dtype, shape, seed):
    ends = np.iinfo(dtype)
    rng = np.random.default_rng(seed)
    narrow = rng.integers(max(ends.min, -3), 4, shape).astype(dtype)
    wide = rng.integers(ends.min, ends.max, shape, dtype=dtype, endpoint=True)
    for values in (narrow, wide):
        expected = np.median(values.astype(np.float64), axis=-1)
        found = quantiles.row_medians(values)
        assert found.dtype == np.float64
        assert np.array_equal(found, expected)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@given(shape=SHAPES, seed=st.integers(0, 99))
def test_medians_of_rows_of_floats_are_those_of_numpy(dtype, shape, seed):
    rng = np.random.default_rng(seed)
    values = rng.normal(0, 10.0 ** rng.integers(-30, 30), shape).astype(dtype)
    values[rng.random(shape) < 0.02] = np.nan
    values[rng.random(shape) < 0.1] = np.inf
    with np.errstate(invalid="ignore"):
        expected = np.median(values, axis=-1)
        found = quantiles.row_medians(values)
    assert found.dtype == expected.dtype
    assert np.array_equal(found, expected, equal_nan=True)
