"""Hundreds of frames are not sorted but counted: to the same bits."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocks import combine_block
from masterframe.kernels import Floor, LoadTerms, combine, selection
from masterframe.model import Recipe, Rejection

FLOOR = Floor(quant=0.7413, step=1.0)


def raw_values(seed, n, columns, level, sigma, outliers):
    rng = np.random.default_rng(seed)
    raw = rng.normal(level, sigma, (n, 2, columns)).round().clip(0, 65535).astype(np.uint16)
    out = rng.random(raw.shape) < outliers
    raw[out] = rng.integers(0, 65536, out.sum())
    return raw


def results(raw, recipe, floor, monkeypatch):
    """Return all that comes out of counting, and of sorting."""
    rank, found = np.random.default_rng(5).permutation(len(raw)), []
    for fewest in (2, len(raw) + 1):
        with monkeypatch.context() as patch:
            patch.setattr(combine, "FEWEST", fewest)
            found.append(dataclasses.asdict(combine_block(raw, LoadTerms(), recipe, floor, rank)))
    return found


@given(
    st.integers(0, 999),
    st.sampled_from([2, 3, 4, 5, 6, 9, 40, 201]),
    st.sampled_from([1, 63, 64, 65, 130]),
    st.tuples(
        st.sampled_from([0, 3, 1000, 65530]),
        st.sampled_from([0.0, 0.4, 5.0, 70.0, 9000.0]),
        st.sampled_from([0.0, 1e-3, 0.1, 0.7]),
    ),
    st.sampled_from([(5.0, 5.0, 1), (0.3, 2.0, 1), (math.inf, 1.0, 3), (4.0, math.inf, 2)]),
    st.sampled_from([FLOOR, Floor(), Floor(poisson=0.5, read=9.0, step=1.0)]),
)
def test_counting_gives_the_bits_of_sorting(seed, n, columns, values, bounds, floor):
    low, high, nkeep = bounds
    recipe = Recipe(Rejection("sigma", low=low, high=high, nkeep=nkeep))
    raw = raw_values(seed, n, columns, *values)
    with pytest.MonkeyPatch.context() as monkeypatch:
        counted, sorted_ = results(raw, recipe, floor, monkeypatch)
    for name, plane in counted.items():
        assert plane.tobytes() == sorted_[name].tobytes(), name


@pytest.mark.parametrize("n", [selection.FEWEST, selection.FEWEST + 1, 777])
def test_many_frames_are_clipped_about_the_median_by_the_mad(n):
    """The definition, by numpy, where the program counts by itself."""
    raw = raw_values(3, n, 150, 1000, 6.0, 2e-3)
    found = combine_block(raw, LoadTerms(), Recipe(), Floor(), np.arange(n))
    values = raw.astype(np.float64)
    median = np.median(values, axis=0)
    sigma = 1.482602218505602 * np.median(np.abs(values - median), axis=0)
    kept = np.abs(values - median) <= 5 * sigma
    mean = (values * kept).sum(0) / kept.sum(0)
    variance = (((values - mean) * kept) ** 2).sum(0) / (kept.sum(0) - 1)
    assert 0 < (~kept).sum() < 0.02 * kept.size
    assert np.array_equal(found.count, kept.sum(0))
    assert np.array_equal(found.low, (values < median - 5 * sigma).sum(0))
    assert np.array_equal(found.high, (values > median + 5 * sigma).sum(0))
    assert np.array_equal(found.kept, kept.sum((1, 2)))
    assert np.array_equal(found.data, mean.astype(np.float32))
    np.testing.assert_allclose(found.uncert, np.sqrt(variance / kept.sum(0)), rtol=3e-7)
