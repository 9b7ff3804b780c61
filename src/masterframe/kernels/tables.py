"""Numbers by sample size that rules and estimators look up."""

from __future__ import annotations

import functools
import math
from statistics import NormalDist

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
    """Return the critical values of the generalized ESD test for 0 to n values.

    ``(m - 1) t / sqrt(m (m - 2 + t^2))`` for m values, where Student's t with m - 2 degrees of
    freedom is beyond t on either side with the probability alpha / m (B. Rosner, Percentage points
    for a generalized ESD many-outlier procedure, 1983). With x = (m - 2) / (m - 2 + t^2) it is
    ``(m - 1) sqrt((1 - x) / m)``, and that probability is the regularized incomplete beta function
    I_x(a, 1/2) with a = (m - 2) / 2: x is found from it by Newton's method for ln I as a function
    of ln x, which is almost a straight line.

    Parameters
    ----------
    n : int
        Largest number of values.
    alpha : float
        Significance of each test, above 0 and below 1; 0: none is ever significant.

    Returns
    -------
    ndarray of float64, shape (n + 1,)
        Infinite below 3 values. Read-only.
    """
    table = np.full(n + 1, np.inf)
    if alpha and n > 2:
        m = np.arange(3.0, n + 1)
        tails = np.maximum(alpha / m, np.finfo(float).tiny)
        table[3:] = (m - 1) * np.sqrt(-np.expm1(_log_beta_quantiles((m - 2) / 2, tails)) / m)
    table.flags.writeable = False
    return table


def _log_beta_quantiles(a: NDArray[np.float64], tails: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ln x with I_x(a, 1/2) = tails; the third step of Newton leaves 1e-12 of it."""
    log_x = _near_log_quantiles(a, tails)
    constant = np.array([math.lgamma(k + 0.5) - math.lgamma(k) for k in a]) - math.lgamma(0.5)
    for _ in range(3):
        rest = -np.expm1(log_x)
        factor = _beta_fraction(a, 1 - rest) / a
        log_beta = a * log_x + np.log(rest) / 2 + constant + np.log(factor)
        log_x -= (log_beta - np.log(tails)) * rest * factor
    return log_x


def _near_log_quantiles(
    a: NDArray[np.float64], tails: NDArray[np.float64]
) -> NDArray[np.float64]:  # fmt: skip
    """Return about ln x, from the normal quantile that belongs to Student's t.

    D. L. Wallace, Bounds on normal approximations to Student's and the chi-square distributions
    (1959): to 1 %, or a few in far tails of few values.
    """
    freedom = 2 * a
    z = np.array([NormalDist().inv_cdf(tail / 2) for tail in tails])
    return np.asarray(-((z * (8 * freedom + 3) / (8 * freedom + 1)) ** 2) / freedom)


def _beta_fraction(a: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return I_x(a, 1/2) a B(a, 1/2) / (x^a sqrt(1 - x)).

    It is the continued fraction of the incomplete beta function (M. Abramowitz and I. A. Stegun,
    Handbook of mathematical functions, 26.5.8), evaluated from its front (W. J. Lentz, 1976): some
    80 terms for a = 5000.
    """
    up, down = np.ones_like(x), 1 / (1 - (a + 0.5) * x / (a + 1))
    product = down.copy()
    change, k = np.array(np.inf), 0
    while np.abs(change - 1).max() > 1e-14:
        k += 1
        for term in (
            k * (0.5 - k) * x / ((a + 2 * k - 1) * (a + 2 * k)),
            -(a + k) * (a + 0.5 + k) * x / ((a + 2 * k) * (a + 2 * k + 1)),
        ):
            up, down = 1 + term / up, 1 / (1 + term * down)
            change = up * down
            product *= change
    return product
