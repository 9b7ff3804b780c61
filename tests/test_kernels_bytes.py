"""Bytes as FITS stores them: made native in place, summed for DATASUM."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st

from masterframe.kernels import datasum_parts, make_native

KINDS = ["uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64"]


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.sampled_from(KINDS), st.integers(0, 170))
def test_native_values_are_those_stored(seed: int, kind: str, size: int) -> None:
    dtype = np.dtype(kind)
    words = np.random.default_rng(seed).integers(0, 256, 2 * size * dtype.itemsize, np.uint8)
    native = words.view(dtype).reshape(2, size)  # any bits: NaN of every kind among them
    values = native.astype(dtype.newbyteorder(">")).view(dtype)
    make_native(values)
    assert values.tobytes() == native.tobytes()
    if dtype.kind == "u" and dtype.itemsize > 1:
        top = 1 << (8 * dtype.itemsize - 1)
        values = (native ^ dtype.type(top)).astype(dtype.newbyteorder(">")).view(dtype)
        make_native(values, top)
        assert values.tobytes() == native.tobytes()


def test_values_with_gaps_are_refused() -> None:
    with pytest.raises(ValueError, match=r"values of strides \(12, 4\) cannot be turned"):
        make_native(np.zeros((4, 6), np.uint16)[:, ::2])


def datasum(data: Any) -> int:
    hdu = fits.ImageHDU(data)
    hdu.add_datasum()
    return int(hdu.header["DATASUM"])


@settings(deadline=None, max_examples=100)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(KINDS),
    st.integers(1, 9),
    st.integers(1, 170),
)
def test_sums_of_bands_make_the_datasum(seed: int, kind: str, rows: int, nx: int) -> None:
    rng = np.random.default_rng(seed)
    dtype = np.dtype(kind)
    image = rng.integers(0, 256, (rows, nx * dtype.itemsize)).astype(np.uint8).view(dtype)
    if dtype.kind == "f":
        image = rng.normal(size=(rows, nx)).astype(dtype)
    flip = 1 << (8 * dtype.itemsize - 1) if kind in {"uint16", "uint32", "uint64"} else 0
    stored = (image ^ dtype.type(flip) if flip else image).astype(dtype.newbyteorder(">"))
    cuts = sorted(rng.integers(0, rows + 1, 2).tolist())
    total = 0
    for y0, y1 in itertools.pairwise([0, *cuts, rows]):
        above, below = (int(rng.integers(0, n + 1)) for n in (y0, rows - y1))
        band = stored[y0 - above : y1 + below].view(dtype)  # a copy below: rows overlap
        found = make_native(band.copy(), flip, range(above * nx, (above + y1 - y0) * nx))
        (part,) = datasum_parts(np.array([found], np.uint64), y0 * nx * dtype.itemsize)
        assert part < 2**32
        total += int(part)
    expected = datasum(image)
    assert total % (2**32 - 1) == expected % (2**32 - 1)


@given(st.sampled_from(KINDS), st.integers(0, 3), st.integers(0, 170))
def test_only_zeros_add_up_to_zero(kind: str, first: int, size: int) -> None:
    values = np.zeros(size, kind)
    assert datasum_parts(np.array([make_native(values, 0, range(size))], np.uint64), first) == 0
    values.view(np.uint8)[:] = 0xFF
    found = make_native(values, 0, range(size))
    assert (datasum_parts(np.array([found], np.uint64), first) == 0) == (size == 0)
