"""Sampled rows of frames, as they are stored and as they are calibrated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from masterframe import calibrate, fits
from masterframe.masterrows import MasterRows
from masterframe.model import Calibration, Frame, Recipe


def sampled_rows(
    frames: Sequence[Frame], calibration: Calibration, recipe: Recipe, rows: range
) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """Yield some rows of each frame; those of the masters are read once for all.

    Parameters
    ----------
    frames : sequence of Frame
        Frames of one image, of one shape.
    calibration : Calibration
        What is taken off these frames; scale and zero are left out.
    recipe : Recipe
        Its dtype, and the saturation and threshold from which raw values are left out.
    rows : range
        Which, in the trimmed image.

    Yields
    ------
    raw : ndarray, shape (rows, raw columns)
        What is stored.
    values : ndarray, shape (rows, columns)
        Calibrated values, NaN where one is not good.

    Raises
    ------
    FrameError
        If a file cannot be read or has changed since its scan.
    """
    top = calibration.trim.y0 if calibration.trim else 0
    masters = MasterRows(calibration, rows)
    for index, frame in enumerate(frames):
        (raw,) = fits.read_stack([frame], top + rows.start, top + rows.stop, rows.step)
        own = masters.of(calibration.of_frames(index, index + 1))
        yield raw, calibrate.apply_masters(raw[np.newaxis], own, recipe)[0]
