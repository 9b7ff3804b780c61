"""The sorting network, by the principle that one which sorts zeros and ones sorts everything."""

import numpy as np
import pytest

from masterframe.kernels.sorting import KINDS, MOST, network


def put_in_order(bits, n, row_size):
    """Do what a plan says to columns of zeros and ones."""
    for kind, *rows in network(n, row_size).tolist():
        size, pairs = KINDS[kind]
        assert rows[:size] == sorted(rows[:size]), "rows are not upwards"
        assert rows[size:] == [-1] * (MOST - size)
        for a, b in pairs:
            low, high = bits[rows[a]], bits[rows[b]]
            bits[rows[a]], bits[rows[b]] = low & high, low | high
    return bits


@pytest.mark.parametrize("n", range(1, 17))
def test_few_rows_are_sorted_whatever_they_hold(n):
    bits = (np.arange(2**n) >> np.arange(n)[:, None] & 1).astype(bool)
    assert (np.diff(put_in_order(bits, n, 64).astype(np.int8), axis=0) >= 0).all()


@pytest.mark.parametrize("row_size", [64, 4096])
@pytest.mark.parametrize("n", [*range(17, 70), 100, 127, 129, 255, 300, 1000, 1025])
def test_rows_are_sorted(n, row_size):
    rng = np.random.default_rng(n)
    bits = np.empty((n, 4 * n), bool)  # each number of zeros, at random places
    for column in range(bits.shape[1]):
        bits[:, column] = rng.permutation(n) >= column % (n + 1)
    zeros = (~bits).sum(axis=0)
    found = put_in_order(bits, n, row_size)
    np.testing.assert_array_equal(found, np.arange(n)[:, None] >= zeros)


@pytest.mark.parametrize(("n", "most"), [(16, 60), (32, 2 * 60 + 5 * 16), (64, 2 * 200 + 6 * 32)])
def test_networks_make_no_comparison_that_they_need_not(n, most):
    assert sum(len(KINDS[kind][1]) for kind in network(n, 64)[:, 0]) == most
