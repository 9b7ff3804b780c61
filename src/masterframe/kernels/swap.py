"""Stored FITS values of 16 bits become native ones, in place."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from masterframe.kernels.native import kernel

Array = NDArray[Any]


@kernel
def _swap16(values: Any, flip: Any) -> None:
    for i in range(values.size):
        v = values[i]
        values[i] = ((v >> np.uint16(8)) | (v << np.uint16(8))) ^ flip


def swap16(values: Array) -> None:
    """Exchange the bytes of 16 bit values in place.

    Parameters
    ----------
    values : ndarray of uint16 or int16
        Contiguous, any shape; big-endian values read into native memory, or the other way.
    """
    _swap(values, 0)


def swap_unsigned16(values: Array) -> None:
    """Turn stored FITS values (BITPIX 16, BZERO 32768) into native unsigned ones, in place.

    Parameters
    ----------
    values : ndarray of uint16
        Contiguous, any shape.
    """
    _swap(values, 0x8000)


def _swap(values: Array, flip: int) -> None:
    if values.dtype.itemsize != 2 or not values.flags.c_contiguous:
        raise ValueError(
            f"cannot swap {values.dtype} of strides {values.strides}: it must be contiguous, "
            "with 16 bits a value"
        )
    _swap16(values.view(np.uint16).reshape(-1), np.uint16(flip))
