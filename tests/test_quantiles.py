"""Quantiles of pieces equal those of the whole."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from masterframe import quantiles


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
