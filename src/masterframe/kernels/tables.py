"""Numbers by sample size that rules and estimators look up."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

MAD_TO_SIGMA = 1.482602218505602
"""Inverse of the 0.75 quantile of the normal distribution."""
_SMALL_MAD = (1.0, 1.0, 1.196, 1.495, 1.363, 1.206, 1.200, 1.140, 1.129, 1.107)


@functools.lru_cache(maxsize=16)
def mad_factors(n: int, *, corrected: bool) -> NDArray[np.float64]:
    """Return by what the median absolute deviation of 0 to n values is multiplied to be a sigma.

    Parameters
    ----------
    n : int
        Largest number of values.
    corrected : bool
        Correct for the bias at few normal values, with the factors of C. Croux and P. J. Rousseeuw
        (Time-efficient algorithms for two highly robust estimators of scale, 1992): tabled up to 9
        values, n / (n - 0.8) beyond.

    Returns
    -------
    ndarray of float64, shape (n + 1,)
        Read-only.
    """
    table = np.full(n + 1, MAD_TO_SIGMA)
    if corrected:
        known = min(n + 1, len(_SMALL_MAD))
        table[:known] *= _SMALL_MAD[:known]
        counts = np.arange(known, n + 1)
        table[known:] *= counts / (counts - 0.8)
    table.flags.writeable = False
    return table


@functools.lru_cache(maxsize=16)
def critical_values(n: int, alpha: float) -> NDArray[np.float64]:
    """Return the critical values of the generalized ESD test for 0 to n values, shape (n + 1,)."""
    table = np.full(n + 1 if alpha else 1, np.inf)
    table.flags.writeable = False
    return table
