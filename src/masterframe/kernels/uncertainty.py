"""The variance that the masters bring into calibrated values, and uncertainties with it.

A dozen passes of numpy over planes of float64 took as long as to combine the 40 frames of a flat;
here each pixel is gone through twice.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from masterframe.kernels.native import kernel, part
from masterframe.kernels.terms import Empty

Array = NDArray[Any]
_ABSENT: Array = np.empty((0, 0), np.float32)
_VARIANCE = np.dtype(np.float64)


class MasterTerms(NamedTuple):
    """What of the masters tells the variance that they bring; an array of size 0 is absent."""

    bias: Array = _ABSENT
    """Standard deviation of the bias, shape (rows, nx); NaN where it does not say."""
    dark: Array = _ABSENT
    """That of the dark, likewise."""
    flat: Array = _ABSENT
    """The flat itself, likewise."""
    flat_error: Array = _ABSENT
    """The standard deviation of the flat, likewise."""
    bias_factor: float = 1.0
    """Factor of the variance of the bias: the square of the mean of those of the frames."""
    dark_factor: float = 1.0
    """That of the variance of the dark."""


def shared_variance(data: Array, terms: MasterTerms, empty: Empty = np.empty) -> Array:
    """Return the variance that the masters bring into calibrated values, for all frames alike.

    ``(b sigma_B^2 + d sigma_D^2) / flat^2 + (data sigma_F / flat)^2``, with b and d the factors of
    bias and dark: the last term in variance form, so that zero signal is harmless.

    Parameters
    ----------
    data : ndarray, shape (rows, nx)
        Calibrated (combined) values.
    terms : MasterTerms
        What was applied.
    empty : callable
        Makes the result, from shape and type.

    Returns
    -------
    ndarray of float64, shape (rows, nx)

    Raises
    ------
    ValueError
        A term whose shape does not fit.
    """
    planes = data, *terms[:4]
    kind = np.result_type(np.float32, *planes)
    for name, plane in zip(terms._fields, planes[1:], strict=False):
        if plane.size and plane.shape != data.shape:
            raise ValueError(f"{name} has shape {plane.shape}; the values have {data.shape}")
    data, *given = (np.ascontiguousarray(plane, kind) for plane in planes)
    out = empty(data.shape, _VARIANCE)
    _share(data, *given, float(terms.bias_factor), float(terms.dark_factor), out)
    return out


def root_sum(sigma: Array, shared: Array, empty: Empty = np.empty) -> Array:
    """Return standard deviations together with a variance: ``sqrt(sigma^2 + shared)``.

    Parameters
    ----------
    sigma : ndarray of float32 or float64, shape (rows, nx)
        Standard deviations.
    shared : ndarray of float64 of the same shape
        The variance.
    empty : callable
        Makes the result, from shape and type.

    Returns
    -------
    ndarray
        Like sigma; computed as float64.
    """
    if sigma.shape != shared.shape:
        raise ValueError(f"a variance of shape {shared.shape} for values of {sigma.shape}")
    out = empty(sigma.shape, sigma.dtype)
    _root(np.ascontiguousarray(sigma), np.ascontiguousarray(shared), out)
    return out


@kernel
def _share(  # noqa: PLR0913, PLR0917 - what compiled code is given, all of it
    data: Any,
    bias: Any,
    dark: Any,
    flat: Any,
    flat_error: Any,
    bias_factor: float,
    dark_factor: float,
    out: Any,
) -> None:
    for y in range(out.shape[0]):
        total = out[y]
        for i in range(total.size):
            total[i] = 0.0
        if bias.size:
            _add_squares(total, bias[y], bias_factor)
        if dark.size:
            _add_squares(total, dark[y], dark_factor)
        if flat.size:
            _divide(total, flat[y])
        if flat_error.size:
            _add_relative(total, data[y], flat[y], flat_error[y])


@part
def _square(sigma: float) -> float:
    """Return the variance; 0 where it is not known."""
    square = sigma * sigma
    return square if square >= 0 else 0.0


@part
def _add_squares(total: Any, sigmas: Any, factor: float) -> None:
    for i in range(total.size):
        total[i] += factor * _square(np.float64(sigmas[i]))


@part
def _divide(total: Any, flat: Any) -> None:
    for i in range(total.size):
        value = np.float64(flat[i])
        total[i] /= value * value


@part
def _add_relative(total: Any, data: Any, flat: Any, errors: Any) -> None:
    for i in range(total.size):
        divisor, value = np.float64(flat[i]), np.float64(data[i])
        total[i] += value * value * (_square(np.float64(errors[i])) / (divisor * divisor))


@kernel
def _root(sigma: Any, shared: Any, out: Any) -> None:
    for y in range(out.shape[0]):
        sigmas, variances, goal = sigma[y], shared[y], out[y]
        for i in range(goal.size):
            own = np.float64(sigmas[i])
            goal[i] = math.sqrt(own * own + variances[i])
