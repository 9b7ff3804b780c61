"""Rejections by the parameters that ccdproc gives them, as rules of this engine.

Centres and deviations that are known by name or function become the rule ``sigma``; any other
function is called with the values of a band and axis 0, as astropy's `sigma_clip` does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from astropy.stats import mad_std, median_absolute_deviation
from numpy.typing import NDArray

from masterframe.compat.refusals import ArgumentError
from masterframe.kernels.tables import MAD_TO_SIGMA
from masterframe.model import Rejection
from masterframe.names import unknown

Values = NDArray[np.floating[Any]]
Statistic = Callable[..., Any]


def _mad_std(values: Values, axis: int) -> Any:
    return mad_std(values, axis=axis, ignore_nan=True)


def _mad(values: Values, axis: int) -> Any:
    return median_absolute_deviation(values, axis=axis, ignore_nan=True)


class Known(NamedTuple):
    """A centre or deviation."""

    rule: Any
    """Its name in the rule ``sigma``; None where the rule has none such."""
    sigmas: float
    """How many of the rule's sigmas one deviation is."""
    function: Statistic
    """The same as a function that ignores NaN."""


_MEAN, _MEDIAN = Known("mean", 1.0, np.nanmean), Known("median", 1.0, np.nanmedian)
_STD, _MAD_STD = Known("std", 1.0, np.nanstd), Known("mad", 1.0, _mad_std)
_MAD = Known("mad", (1 + 2**-50) / MAD_TO_SIGMA, _mad)  # rounded up: a value on the bound is kept
_CENTERS = {
    **dict.fromkeys(("mean", "average", "nanmean"), _MEAN),
    **dict.fromkeys(("median", "nanmedian"), _MEDIAN),
}
_DEVIATIONS = {
    **dict.fromkeys(("std", "nanstd"), _STD),
    **dict.fromkeys(("mad_std", "sigma_func"), _MAD_STD),
    **dict.fromkeys(("median_absolute_deviation", "median_abs_deviation"), _MAD),
}
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


Step: TypeAlias = Rejection | Limits | FunctionClip
"""One way of leaving values out."""
KEEP_ALL = Rejection("none")


def split(steps: Sequence[Step]) -> tuple[tuple[Step, ...], Rejection]:
    """Return the steps that come first, and the rejection that is done as values are combined."""
    last = steps[-1] if steps else KEEP_ALL
    return (tuple(steps[:-1]), last) if isinstance(last, Rejection) else (tuple(steps), KEEP_ALL)


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
    center = _look_up("sigma_clip_func", func, _CENTERS, ("mean", "median"))
    deviation = _look_up("sigma_clip_dev_func", dev_func, _DEVIATIONS, ("std", "mad_std"))
    below, above = (math.inf if given is None else abs(given) for given in (low, high))
    if not (center.rule and deviation.rule):
        return FunctionClip(below, above, center.function, deviation.function)
    return Rejection(
        "sigma",
        low=below * deviation.sigmas,
        high=above * deviation.sigmas,
        center=center.rule,
        deviation=deviation.rule,
        ddof=0,
        max_iters=1,
        nkeep=0,
    )


def _look_up(
    name: str, given: str | Statistic, table: Mapping[str, Known], words: Sequence[str]
) -> Known:
    """Return what is known of a statistic; of a function of others, itself."""
    if isinstance(given, str):
        if given not in words:
            raise ArgumentError(unknown(name, given, words))
        return table[given]
    package = str(getattr(given, "__module__", "")).split(".", maxsplit=1)[0]
    function = str(getattr(given, "__name__", "")) if package in _PACKAGES else ""
    return table.get(function, Known(None, 1.0, given))
