"""What calibration makes of uncertainties: those of the raw values, and what the masters bring."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from masterframe import kernels
from masterframe.masterrows import MasterRows

WORK = np.dtype(np.float64)


def scaled_uncertainty(
    sigma: NDArray[Any], columns: slice, masters: MasterRows
) -> NDArray[np.float64]:
    """Return standard deviations of raw values as those of the calibrated and scaled values.

    Parameters
    ----------
    sigma : array (N, rows, columns)
        Standard deviations (adu), trimmed.
    columns : slice
        Their columns in the trimmed image.
    masters : MasterRows
        What is applied to the values in these rows.
    """
    scaled, scale = sigma.astype(np.float64), masters.calibration.scale
    if "flat" in masters.applied:
        scaled /= masters.flat(WORK)[:, columns]
    if scale:
        scaled *= np.asarray(scale)[:, None, None]
    return scaled


def shared_variance(
    data: NDArray[Any],
    columns: slice,
    masters: MasterRows,
    empty: kernels.Empty = np.empty,
) -> NDArray[np.float64]:
    """Return the variance that the masters bring into calibrated values, for all frames alike.

    ``(mean(scale)^2 sigma_B^2 + mean(scale dark_ratio)^2 sigma_D^2) / flat^2 + (data sigma_F /
    flat)^2``. A dark that holds its bias stands for both.

    Parameters
    ----------
    data : array (rows, columns)
        The calibrated (combined) values.
    columns : slice
        Their columns in the trimmed image.
    masters : MasterRows
        What was applied in these rows.
    empty : callable
        Makes the result, from shape and type.
    """
    calibration = masters.calibration
    scale = np.asarray(calibration.scale or (1.0,))
    ratio = np.asarray(calibration.dark_ratio or (1.0,))
    terms = kernels.MasterTerms(
        bias=masters.sigma("bias")[:, columns],
        dark=masters.sigma("dark")[:, columns],
        flat=masters.stored_flat()[:, columns],
        flat_error=masters.sigma("flat")[:, columns],
        bias_factor=scale.mean() ** 2,
        dark_factor=(scale * ratio).mean() ** 2,
    )
    return kernels.shared_variance(data, terms, empty)


def flat_and_signal(
    data: NDArray[Any], masters: MasterRows
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the flat that divided calibrated values, and the adu above bias that they came from.

    Parameters
    ----------
    data : array (rows, columns)
        Calibrated values of one frame, of all columns.
    masters : MasterRows
        What was applied in these rows. A dark that holds its bias adds nothing: its own share is
        not known.
    """
    calibration, applied = masters.calibration, masters.applied
    flat = masters.flat(WORK) if "flat" in applied else np.ones(data.shape)
    signal = np.asarray(data, np.float64) * flat
    if "dark" in applied and not calibration.dark_holds_bias:
        ratio = calibration.dark_ratio[0] if calibration.dark_ratio else 1.0
        signal += ratio * masters.dark(WORK)
    return flat, signal
