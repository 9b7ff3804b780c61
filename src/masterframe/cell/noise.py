"""The noise that gain, read noise and quantisation tell: least sigmas, variances, rounding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from masterframe import kernels
from masterframe.model import Noise
from masterframe.quantiles import MAD_TO_SIGMA


def noise_terms(
    noise: Noise,
    count: int,
    scale: Sequence[float] = (),
    zero: Sequence[float] = (),
    *,
    signal: bool,
) -> NDArray[np.float64]:
    """Return a, b and z of each frame, from which the variance at c is ``a + b max(c - z, 0)``.

    With gain g (electrons per adu) and read noise r (electrons), and the signal (c - z) / scale in
    adu, it is ``scale^2 (g signal + r^2) / g^2``.

    Parameters
    ----------
    noise : Noise
        Gain and read noise.
    count : int
        Number of frames, N.
    scale, zero : sequence of float
        Factor and summand of each frame; empty for 1 and 0.
    signal : bool
        Values are counted from the bias; else their level tells nothing of their noise.

    Returns
    -------
    array (N, 3); of size 0 where gain or read noise are not known.
    """
    if not noise.gain or noise.read_noise is None:
        return np.empty((0, 3))
    terms = np.zeros((count, 3))
    factor = np.asarray(scale or (1.0,), float)
    terms[:, 0] = (factor * noise.read_noise / noise.gain) ** 2
    terms[:, 1] = factor / noise.gain if signal else 0.0
    terms[:, 2] = np.asarray(zero or (0.0,), float)
    return terms


def noise_floor(
    noise: Noise, step: float, scale: Sequence[float] = (), above_bias: bool = False
) -> kernels.Floor:
    """Return the least sigma of the rejection in the combined unit.

    ``auto``: the larger of 1.4826 step / 2 and, where gain g (e-/adu) and read noise rn (e-) are
    known, sqrt(g max(c, 0) + rn^2) / g at the centre c above bias, both times the median scale of
    the frames. Raw frames whose bias was not taken off have c = 0: their level is no signal.
    """
    typical = float(np.median(scale)) if scale else 1.0
    if noise.floor != "auto":
        return kernels.Floor(quant=noise.floor, poisson=0.0, read=0.0, step=step * typical)
    poisson = read = 0.0
    if noise.gain and noise.read_noise is not None:
        read = (noise.read_noise * typical / noise.gain) ** 2
        if above_bias:
            poisson = typical / noise.gain
    return kernels.Floor(
        quant=MAD_TO_SIGMA * step / 2 * typical, poisson=poisson, read=read, step=step * typical
    )


def shared_rounding(steps: Any) -> Any:
    """Return the variance (steps squared) of the rounding error that averaging does not lessen.

    A value x with normal noise of sigma steps is rounded to whole steps: the mean of many differs
    from x by ``sum over k of (-1)^k sin(2 pi k x) / (pi k) exp(-2 (pi k sigma)^2)`` (B. Widrow and
    I. Kollar, Quantization noise, 2008), and the mean square of that over all x is
    ``sum of exp(-(2 pi k sigma)^2) / (2 (pi k)^2)``: 1 / 12 without noise, 0.01 for 0.2 steps,
    3e-6 for 0.5, nothing from 1. Frames share it, as x is the same in all of them.
    """
    sigma = np.asarray(steps, np.float64)
    total, few = np.zeros(sigma.shape), sigma < 1  # beyond, 1e-19 is left
    exponent = (2 * np.pi * sigma[few]) ** 2
    for k in range(1, 33):
        total[few] += np.exp(-exponent * k * k) / (2 * (np.pi * k) ** 2)
    return total
