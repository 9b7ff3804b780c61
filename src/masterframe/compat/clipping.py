"""Rejections by the parameters that ccdproc gives them, as rules of this engine.

Centres and deviations that are known by name or function become the rule ``sigma``; any other
function is called with the values of a band and axis 0, as astropy's `sigma_clip` does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from astropy.stats import mad_std, median_absolute_deviation
from numpy.typing import NDArray

from masterframe.compat.refusals import ArgumentError
from masterframe.kernels.tables import MAD_TO_SIGMA
from masterframe.model import Center, Deviation, Rejection
from masterframe.names import unknown

Values = NDArray[np.floating[Any]]
Statistic = Callable[..., Any]


def _mad_std(values: Values, axis: int) -> Any:
    return mad_std(values, axis=axis, ignore_nan=True)


def _mad(values: Values, axis: int) -> Any:
    return median_absolute_deviation(values, axis=axis, ignore_nan=True)


_CENTERS: Mapping[str, tuple[Center, Statistic]] = {
    **dict.fromkeys(("mean", "average", "nanmean"), ("mean", np.nanmean)),
    **dict.fromkeys(("median", "nanmedian"), ("median", np.nanmedian)),
}
"""Centres by name: of the rule ``sigma``, and as a function that ignores NaN."""
_DEVIATIONS: Mapping[str, tuple[Deviation, float, Statistic]] = {
    **dict.fromkeys(("std", "nanstd"), ("std", 1.0, np.nanstd)),
    **dict.fromkeys(("mad_std", "sigma_func"), ("mad", 1.0, _mad_std)),
    **dict.fromkeys(
        ("median_absolute_deviation", "median_abs_deviation"), ("mad", 1 / MAD_TO_SIGMA, _mad)
    ),
}
"""Deviations by name: of the rule ``sigma``, how many of its sigmas one is, and as a function."""
_PACKAGES = ("numpy", "bottleneck", "astropy", "scipy", "ccdproc")
"""Packages whose functions of these names are what the names say."""


@dataclass(frozen=True)
class Limits:
    """``minmax_clip``: raw values below or above are left out."""

    low: float
    """Least raw value that is kept."""
    high: float
    """Largest raw value that is kept."""

    def left_out(self, raw: NDArray[Any]) -> NDArray[np.bool_]:
        """Return where raw values are beyond the limits."""
        return np.asarray((raw < self.low) | (raw > self.high))


@dataclass(frozen=True)
class FunctionClip:
    """``sigma_clip`` with functions that the engine does not know: one pass, by numpy."""

    low: float
    """Deviations below the centre from which values are left out."""
    high: float
    """Deviations above the centre."""
    center: Statistic
    """Gives the centre of values along an axis."""
    deviation: Statistic
    """Gives their deviation."""

    def left_out(self, values: Values) -> NDArray[np.bool_]:
        """Return where values (N, rows, columns), NaN where they are missing, are beyond bounds.

        Raises
        ------
        ArgumentError
            If a function gives no number where a value is missing: it does not ignore NaN, and
            nothing would be rejected there.
        """
        missing = np.isnan(values)
        center, deviation = (
            np.asarray(np.ma.getdata(function(values, axis=0)), np.float64)
            for function in (self.center, self.deviation)
        )
        partly = missing.any(axis=0) & ~missing.all(axis=0)
        for name, result in (("func", center), ("dev_func", deviation)):
            if np.isnan(result[partly]).any():
                raise ArgumentError(
                    f"sigma_clip_{name} gives NaN where some values of a pixel are masked: give a "
                    "function that ignores NaN, such as numpy.nanmedian or numpy.nanstd"
                )
        with np.errstate(invalid="ignore"):  # an infinite threshold times a deviation of zero
            low, high = center - self.low * deviation, center + self.high * deviation
        return np.asarray((values < low) | (values > high))


Step = Rejection | Limits | FunctionClip
"""One way of leaving values out."""


def extrema(nlow: int | None, nhigh: int | None, n_frames: int) -> Rejection:
    """Return the rule of ``clip_extrema``.

    Raises
    ------
    ArgumentError
        If nothing would be left.
    """
    low, high = nlow or 0, nhigh or 0
    if low < 0 or high < 0 or low + high >= n_frames:
        raise ArgumentError(
            f"clip_extrema with nlow = {low} and nhigh = {high} leaves nothing of {n_frames} "
            "frames: both may be 0 or more, and together fewer than the frames"
        )
    return Rejection("minmax", nlow=low, nhigh=high)


def limits(low: float | None, high: float | None) -> Limits:
    """Return the limits of ``minmax_clip``; None is no limit."""
    return Limits(-math.inf if low is None else low, math.inf if high is None else high)


def sigma(
    low: float | None, high: float | None, func: str | Statistic, dev_func: str | Statistic
) -> Rejection | FunctionClip:
    """Return the rule of ``sigma_clip``.

    Parameters
    ----------
    low, high : float or None
        Thresholds; their sign does not matter, and None is off.
    func, dev_func : str or callable
        Centre and deviation.

    Raises
    ------
    ArgumentError
        If a name is unknown; with the nearest known one.
    """
    for name, given, words in (
        ("sigma_clip_func", func, ("mean", "median")),
        ("sigma_clip_dev_func", dev_func, ("std", "mad_std")),
    ):
        if not callable(given) and given not in words:
            raise ArgumentError(unknown(name, given, words))
    below, above = (math.inf if given is None else abs(given) for given in (low, high))
    center = _CENTERS.get(_origin(func))
    deviation = _DEVIATIONS.get(_origin(dev_func))
    if center and deviation:
        return Rejection(
            "sigma",
            low=below * deviation[1],
            high=above * deviation[1],
            center=center[0],
            deviation=deviation[0],
            ddof=0,
            max_iters=1,
            nkeep=0,
        )
    return FunctionClip(
        below, above, center[-1] if center else func, deviation[-1] if deviation else dev_func
    )


def _origin(statistic: str | Statistic) -> str:
    """Return the name of a statistic that the tables may know; '' for functions of others."""
    if isinstance(statistic, str):
        return statistic
    package = str(getattr(statistic, "__module__", "")).split(".", maxsplit=1)[0]
    return str(getattr(statistic, "__name__", "")) if package in _PACKAGES else ""
