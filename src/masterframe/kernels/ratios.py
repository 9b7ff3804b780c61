"""Standard deviations of medians and extremes of normal values, in units of that of their mean."""

from __future__ import annotations

import functools
import math
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from masterframe.model import Estimator

ESTIMATORS: tuple[str, ...] = get_args(Estimator)
_FINE = 1024
"""Numbers of values up to which every ratio is integrated."""

_EFFICIENCY = np.array(
    [
        math.nan,
        1.0,
        1.0,
        1.16017814,
        1.09215314,
        1.19756766,
        1.13510176,
        1.21372486,
        1.15993398,
        1.22266575,
        1.17612259,
        1.22832682,
        1.187516,
        1.23222844,
        1.19597229,
        1.23507886,
        1.20249881,
        1.23725175,
        1.20768919,
        1.23896268,
        1.21191607,
        1.24034465,
        1.21542519,
        1.24148412,
        1.21838524,
        1.24243971,
        1.22091583,
        1.24325257,
        1.22310418,
        1.24395245,
        1.22501537,
        1.24456134,
        1.22669895,
        1.24509591,
        1.22819331,
        1.24556897,
        1.22952868,
        1.24599056,
        1.23072916,
        1.24636864,
        1.23181422,
        1.24670961,
        1.23279975,
        1.24701868,
        1.23369884,
        1.24730012,
        1.2345224,
        1.24755748,
        1.23527956,
        1.24779373,
        1.23597805,
        1.24801135,
        1.23662443,
        1.24821247,
        1.23722433,
        1.2483989,
        1.23778258,
        1.24857218,
        1.23830338,
        1.24873366,
        1.23879038,
        1.24888451,
        1.23924676,
        1.24902574,
        1.23967533,
    ]
)


@functools.lru_cache(maxsize=16)
def efficiencies(n: int) -> NDArray[np.float64]:
    """Return the ratio of the median's standard deviation to the mean's, for 0 to n values.

    For normal data: sqrt(k) sd(median) / sigma. Up to 64 values from integrals of the densities of
    the middle order statistics (H. A. David and H. N. Nagaraja, Order Statistics, 3rd ed., 2003,
    2.1 and 2.2; for even k the density of the mean of the two middle ones), beyond them by the
    series pi/2 (1 - (2 - pi/2)/k ...) for odd and pi/2 (1 - (3 - pi/2)/k ...) for even k, whose
    further terms were fitted to the same integrals; within 1e-6 of them.

    Parameters
    ----------
    n : int
        Largest number of values.

    Returns
    -------
    ndarray of float64, shape (n + 1,)
        Read-only; the first is NaN, and all go to sqrt(pi/2) = 1.2533.
    """
    k = np.arange(n + 1, dtype=np.float64)
    k[0] = math.nan
    odd = 1 - (2 - math.pi / 2) / k - 0.0775 / k**2
    even = 1 - (3 - math.pi / 2) / k + 2.921 / k**2 - 7.4 / k**3
    table = np.sqrt(math.pi / 2 * np.where(k % 2 == 1, odd, even))
    known = min(n + 1, len(_EFFICIENCY))
    table[:known] = _EFFICIENCY[:known]
    table.flags.writeable = False
    return table


@functools.lru_cache(maxsize=16)
def ratios(estimator: str, n: int) -> NDArray[np.float64]:
    """Return the ratio of an estimator's standard deviation to the mean's, for 0 to n values.

    For normal data. ``median``: `efficiencies`; ``lmedian``, ``min`` and ``max``: from integrals of
    the density of the order statistic (David and Nagaraja, Order Statistics, 2.1), on a grid that
    is fine enough for all digits; beyond 1024 values for a few of them, and between these linearly
    in log n, within 2e-4.

    Returns
    -------
    ndarray of float64, shape (n + 1,)
        Read-only, the first is NaN; of size 0 for the others, which are means.
    """
    if estimator == "median":
        return efficiencies(n)
    if estimator not in ("lmedian", "min", "max"):
        return _locked(np.empty(0))
    counts = np.arange(1, min(n, _FINE) + 1)
    if n > _FINE:
        steps = math.ceil(8 * math.log2(n / _FINE))
        counts = np.append(counts, np.ceil(np.geomspace(_FINE, n, steps + 1)[1:]))
    known = [_ratio((k + 1) // 2 if estimator == "lmedian" else 1, k) for k in counts.astype(int)]
    table = np.full(n + 1, math.nan)
    table[1:] = np.interp(np.log(np.arange(1, n + 1)), np.log(counts), known)
    return _locked(table)


def _ratio(rank: int, n: int) -> float:
    """Return sqrt(n) times the standard deviation of the value of a rank among n normal ones."""
    x, below, above = _grid(max(20, math.isqrt(n) + 1))
    exponent = (rank - 1) * below + (n - rank) * above - x * x / 2
    density = np.exp(exponent - exponent.max())
    mean = (density @ x) / density.sum()
    return math.sqrt(n * (density @ (x - mean) ** 2) / density.sum())


@functools.lru_cache(maxsize=128)
def _grid(fineness: int) -> tuple[NDArray[np.float64], ...]:
    """Return points, 1 / fineness apart, and the logarithms of the normal distribution there."""
    x = np.arange(-9 * fineness, 9 * fineness + 1) / fineness
    below = np.log([math.erfc(-at / math.sqrt(2)) / 2 for at in x])
    return x, below, below[::-1]


def _locked(table: NDArray[np.float64]) -> NDArray[np.float64]:
    table.flags.writeable = False
    return table
