"""What masters bring into uncertainties, against numpy, to the bit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocks import SOME
from masterframe import kernels


def variance_of(sigma):
    square = sigma.astype(np.float64) ** 2
    return np.where(np.isnan(square), 0.0, square)


def by_numpy(data, terms):
    total = np.zeros(data.shape)
    if terms.bias.size:
        total += terms.bias_factor * variance_of(terms.bias)
    if terms.dark.size:
        total += terms.dark_factor * variance_of(terms.dark)
    if terms.flat.size:
        total /= terms.flat.astype(np.float64) ** 2
    if terms.flat_error.size:
        relative = variance_of(terms.flat_error) / terms.flat.astype(np.float64) ** 2
        total += data.astype(np.float64) ** 2 * relative
    return total


@SOME
@given(
    seed=st.integers(0, 2**32 - 1),
    kinds=st.lists(st.sampled_from(["f4", "f8", "i2"]), min_size=5, max_size=5),
    present=st.lists(st.booleans(), min_size=4, max_size=4),
    shape=st.tuples(st.integers(1, 4), st.integers(1, 70)),
)
def test_variance_of_masters_is_that_of_the_formula(seed, kinds, present, shape):
    rng = np.random.default_rng(seed)
    whole = shape[0], shape[1] + 3  # columns of a strip are not side by side
    planes = [
        rng.normal(3, 1, whole).clip(1, 9).astype(kind)[:, 2 : 2 + shape[1]] for kind in kinds
    ]
    for plane in planes:
        if plane.dtype.kind == "f":
            plane[rng.random(shape) < 0.1] = np.nan
    data, *given_ = planes
    has = dict(zip(kernels.MasterTerms._fields, present, strict=False))
    has["flat_error"] &= has["flat"]
    terms = kernels.MasterTerms(
        **{name: plane for (name, there), plane in zip(has.items(), given_, strict=True) if there},
        bias_factor=rng.uniform(0.5, 2),
        dark_factor=rng.uniform(0.5, 2),
    )
    found = kernels.shared_variance(data, terms)
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, by_numpy(data, terms))
    sigma = planes[1].astype(rng.choice(["f4", "f8"]))
    together = kernels.root_sum(sigma, found)
    assert together.dtype == sigma.dtype
    expected = np.sqrt(sigma.astype(np.float64) ** 2 + found).astype(sigma.dtype)
    np.testing.assert_array_equal(together, expected)


def test_terms_that_do_not_fit_are_refused():
    data = np.ones((2, 3), np.float32)
    with pytest.raises(ValueError, match=r"dark has shape \(2, 2\); the values have \(2, 3\)"):
        kernels.shared_variance(data, kernels.MasterTerms(dark=data[:, 1:]))
    with pytest.raises(ValueError, match=r"a variance of shape \(2, 3\) for values of \(2, 2\)"):
        kernels.root_sum(data[:, 1:], data.astype(np.float64))
