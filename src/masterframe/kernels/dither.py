"""Quantised floats of compressed tiles become floats again (FITS 4.0, 10.2 and appendix I).

A tile's floats were stored as integers, ``(value - zero) / scale`` with a random offset for each
that everybody can draw again: one of 10000 numbers, from a place that the number of the tile gives.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from masterframe.kernels.native import kernel

Array = NDArray[Any]

_RANDOM = 10000
_ZERO = -2147483646
"""Stored by SUBTRACTIVE_DITHER_2 for a value of exactly zero."""


@kernel
def _restore(stored: Array, out: Array, tiles: Any, random: Array, dither: int) -> None:
    places, numbers, terms, blanks = tiles
    for tile in range(len(places)):
        scale, zero = terms[tile, 0], terms[tile, 1]
        seed = numbers[tile] % len(random)
        draw = int(random[seed] * 500)
        for i in range(places[tile, 0], places[tile, 1]):
            value = np.int64(stored[i])
            if value == blanks[tile]:
                out[i] = np.nan
            elif dither == 2 and value == _ZERO:
                out[i] = 0.0
            else:
                # in the order of the standard's own code, as each order rounds in its own way
                lowered = np.float64(value) - np.float64(random[draw]) + 0.5
                out[i] = (lowered if dither > 0 else np.float64(value)) * scale + zero
            draw += 1
            if draw == len(random):
                seed = (seed + 1) % len(random)
                draw = int(random[seed] * 500)


def restore_floats(
    stored: Array, out: Array, tiles: tuple[Array, Array, Array, Array], dither: int
) -> None:
    """Fill an array with the floats that quantised tiles stand for; the GIL is released meanwhile.

    Parameters
    ----------
    stored : ndarray of int32, shape (M,)
        What was compressed.
    out : ndarray of float32 or float64, shape (M,)
        Is filled.
    tiles : tuple of ndarray
        Of T tiles: ``places``, int64 (T, 2), the first value of each in both arrays and the one
        after its last; ``numbers``, int64 (T,), its row in the table from 0, plus ZDITHER0 - 1;
        ``terms``, float64 (T, 2), its ZSCALE and ZZERO; ``blanks``, int64 (T,), what stands for
        NaN in it, or what no int32 can be.
    dither : int
        0 for none, 1 or 2 for SUBTRACTIVE_DITHER_1 or _2.
    """
    _restore(stored, out, tiles, random_numbers(), dither)


@functools.cache
def random_numbers() -> NDArray[np.float32]:
    """Return the 10000 numbers of appendix I: S. Park and K. Miller, Comm. ACM 31, 1192 (1988)."""
    seed, drawn = 1, []
    for _ in range(_RANDOM):
        seed = 16807 * seed % 2147483647
        drawn.append(seed / 2147483647)
    return np.array(drawn, np.float32)
