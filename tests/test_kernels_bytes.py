"""Bytes as FITS stores them: swapped in place, summed for DATASUM."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st

from masterframe.kernels import swap16, swap_unsigned16, word_sums


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**32 - 1), st.integers(0, 70))
def test_swaps_give_what_was_stored(seed: int, size: int) -> None:
    native = np.random.default_rng(seed).integers(0, 65536, (3, size)).astype(np.uint16)
    swapped = np.frombuffer(native.astype(">u2").tobytes(), np.uint16).reshape(3, size).copy()
    swap16(swapped)
    np.testing.assert_array_equal(swapped, native)
    stored = (native.astype(np.int32) - 32768).astype(">i2")
    values = np.frombuffer(stored.tobytes(), np.uint16).reshape(3, size).copy()
    swap_unsigned16(values)
    np.testing.assert_array_equal(values, native)


def test_swap_refuses_what_it_cannot_swap() -> None:
    with pytest.raises(ValueError, match="cannot swap uint16 of strides"):
        swap16(np.zeros((4, 6), np.uint16)[:, ::2])
    with pytest.raises(ValueError, match="cannot swap int32"):
        swap_unsigned16(np.zeros(5, np.int32))


def datasum(data: Any) -> int:
    hdu = fits.ImageHDU(data)
    hdu.add_datasum()
    return int(hdu.header["DATASUM"])


@settings(deadline=None, max_examples=40)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(["uint8", "int16", "uint16", "int32", "uint32", "int64", "float32", "float64"]),
    st.integers(1, 9),
    st.integers(1, 13),
)
def test_word_sums_of_bands_make_the_datasum(seed: int, kind: str, rows: int, nx: int) -> None:
    rng = np.random.default_rng(seed)
    dtype = np.dtype(kind)
    block = rng.integers(0, 256, (3, rows, nx * dtype.itemsize)).astype(np.uint8).view(dtype)
    if dtype.kind == "f":
        block = rng.normal(size=(3, rows, nx)).astype(dtype)
    xor = {"uint16": 0x8000, "uint32": 0x8000_0000}.get(kind, 0)
    cut = int(rng.integers(0, rows + 1))
    parts = [
        word_sums(block[:, :cut], 0, xor),
        word_sums(block[:, cut:], (cut * nx) % max(4 // dtype.itemsize, 1), xor),
    ]
    total = parts[0] + parts[1]
    for k in range(3):
        expected = datasum(block[k])
        assert total[k] % (2**32 - 1) == expected % (2**32 - 1)
    assert word_sums(np.zeros_like(block)).tolist() == [0, 0, 0]
