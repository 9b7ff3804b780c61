"""What is applied to raw values while they are loaded, and how compiled code is given it."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

Array = NDArray[Any]
Empty = Callable[[tuple[int, ...], np.dtype[Any]], Array]
"""Makes an array of any content, from shape and type."""
_ABSENT: Array = np.empty(0, np.float32)


class LoadTerms(NamedTuple):
    """What is applied to N frames of (rows, nx) raw values; an array of size 0 is absent."""

    overscan: Array = _ABSENT
    """Level of each frame and row, shape (N, rows) (adu)."""
    overscan_columns: Array = _ABSENT
    """Level of each frame and column, shape (N, nx) (adu)."""
    bias: Array = _ABSENT
    """Master bias, shape (rows, nx) (adu)."""
    dark: Array = _ABSENT
    """Master dark, shape (rows, nx) (adu)."""
    dark_ratio: Array = _ABSENT
    """Factor of the dark for each frame, shape (N,); absent: 1."""
    flat: Array = _ABSENT
    """Master flat, shape (rows, nx)."""
    scale: Array = _ABSENT
    """Factor of each frame, shape (N,)."""
    zero: Array = _ABSENT
    """Summand of each frame, shape (N,) (combined unit)."""
    bad: Array = _ABSENT
    """Pixels left out in all frames, shape (rows, nx), bool."""
    frame_mask: Array = _ABSENT
    """Values left out, shape (N, rows, nx), bool."""
    saturation: float = math.inf
    """Raw values from here on are left out."""
    raw_low: float = -math.inf
    """Raw values below are rejected (rule ``threshold``)."""
    raw_high: float = math.inf
    """Raw values above are rejected (rule ``threshold``)."""

    @property
    def calibrates(self) -> bool:
        """Whether any value is changed."""
        levels = self.overscan, self.overscan_columns
        return any(
            a.size for a in (*levels, self.bias, self.dark, self.flat, self.scale, self.zero)
        )


class FrameTerms(NamedTuple):
    """What is known of N frames beside their values; an array of size 0 is absent."""

    noise: Array = _ABSENT
    """a, b and z of each frame, shape (N, 3): the variance of a value where c is expected is
    ``a + b max(c - z, 0)`` (combined unit squared); a = (scale read_noise / gain) ** 2,
    b = scale / gain, z = the zero added."""
    variance: Array = _ABSENT
    """Variance of each value, shape (N, rows, nx) (combined unit squared); takes the place of a."""
    weights: Array = _ABSENT
    """Weight of each frame, shape (N,); absent: the inverse of the variance of each value at the
    plain mean of its pixel."""
    exptime: Array = _ABSENT
    """Exposure time of each frame, shape (N,) (s)."""


class Calibration(NamedTuple):
    """The terms as compiled code reads them: of the work type, read-only, contiguous."""

    overscan: Array
    overscan_columns: Array
    bias: Array
    dark: Array
    flat: Array
    factors: Array
    """Factor of the dark, scale and zero of each frame, shape (N, 3)."""


class Source(NamedTuple):
    """Raw values, and what is to be left out of them."""

    raw: Array
    """All raw values that are spanned, 1-D, read-only."""
    frame_stride: int
    """Elements from one frame to the next."""
    row_stride: int
    """Elements from one row to the next."""
    bad: Array
    frame_mask: Array
    limits: tuple[Any, Any, Any]
    """Saturation, least and largest raw value, of the type of raw."""
    limited: tuple[bool, bool, bool]
    """Whether each of them can be passed."""


def work_type(raw: DTypeLike, dtype: DTypeLike) -> np.dtype[Any]:
    """Return the type of calibrated values: float64 if asked for or needed, else float32.

    Integers of 16 bits and less and float32 fit float32; all else needs float64.
    """
    raw = np.dtype(raw)
    wide = raw.itemsize > (2 if raw.kind in "iu" else 4)
    return np.dtype(np.float64 if wide or np.dtype(dtype) == np.float64 else np.float32)


def calibration(terms: LoadTerms, shape: tuple[int, ...], work: np.dtype[Any]) -> Calibration:
    """Return the arithmetic terms for compiled code.

    Raises
    ------
    ValueError
        A term whose shape does not fit raw values of this shape, (N, rows, nx).
    """
    n, rows, nx = shape
    factors = np.zeros((n, 3), work)
    for k, (name, neutral) in enumerate((("dark_ratio", 1), ("scale", 1), ("zero", 0))):
        given = _term(terms, name, (n,), work)
        factors[:, k] = given if given.size else neutral
    return Calibration(
        _term(terms, "overscan", (n, rows), work),
        _term(terms, "overscan_columns", (n, nx), work),
        _term(terms, "bias", (rows, nx), work),
        _term(terms, "dark", (rows, nx), work),
        _term(terms, "flat", (rows, nx), work),
        _locked(factors),
    )


def source(raw: Array, terms: LoadTerms) -> Source:
    """Return raw values (from `narrowed`) and masks for compiled code.

    Raises
    ------
    ValueError
        A mask whose shape does not fit.
    """
    n, rows, nx = raw.shape
    return Source(
        *_flattened(raw),
        _term(terms, "bad", (rows, nx), np.bool_),
        _term(terms, "frame_mask", (n, rows, nx), np.bool_),
        *_limits(raw.dtype, terms.saturation, terms.raw_low, terms.raw_high),
    )


@functools.lru_cache(maxsize=16)
def _limits(dtype: np.dtype[Any], saturation: float, low: float, high: float) -> tuple[Any, Any]:
    """Return limits as values of a type, and which of them raw values of it can pass."""
    least, most = (0, 65535) if dtype.kind == "u" else (-math.inf, math.inf)
    return (
        (
            _rounded(saturation, dtype, up=True),
            _rounded(low, dtype, up=True),
            _rounded(high, dtype, up=False),
        ),
        (saturation <= most and saturation < math.inf, low > least, high < most),
    )


def frame_terms(frames: FrameTerms, shape: tuple[int, ...]) -> FrameTerms:
    """Return the terms of the frames for compiled code.

    Raises
    ------
    ValueError
        A term whose shape does not fit raw values of this shape, (N, rows, nx).
    """
    n = shape[0]
    return FrameTerms(
        _term(frames, "noise", (n, 3), np.float64),
        _term(frames, "variance", shape, np.float64),
        _term(frames, "weights", (n,), np.float64),
        _term(frames, "exptime", (n,), np.float64),
    )


def narrowed(raw: Array, terms: LoadTerms, work: np.dtype[Any]) -> Array:
    """Return raw values in one of the few types that are compiled: uint16 or the work type.

    Raises
    ------
    ValueError
        Raw values that are not real numbers of three axes.
    """
    if raw.ndim != 3 or raw.dtype.kind not in "biuf":
        raise ValueError(
            f"raw values are {raw.dtype} of shape {raw.shape}; they must be real numbers of shape "
            "(frames, rows, columns)"
        )
    if raw.dtype in (np.uint8, np.bool_):
        raw = raw.astype(np.uint16)
    beyond = terms.raw_low > 65535 or terms.raw_high < 0  # limits that no uint16 can tell
    return raw if raw.dtype == np.uint16 and not beyond else raw.astype(work, copy=False)


def _flattened(raw: Array) -> tuple[Array, int, int]:
    """Return the memory that raw spans as one read-only axis, and its strides in elements."""
    size = raw.dtype.itemsize
    strides = raw.strides
    if raw.flags.c_contiguous:
        return _locked(raw.reshape(-1)), strides[0] // size, strides[1] // size
    if raw.size and (
        (strides[2] != size and raw.shape[2] > 1) or any(s < 0 or s % size for s in strides[:2])
    ):
        raw = np.ascontiguousarray(raw)
        strides = raw.strides
    span = 1 + sum((k - 1) * s // size for k, s in zip(raw.shape[:2], strides[:2], strict=True))
    span = span + raw.shape[2] - 1 if raw.size else 0
    flat = np.lib.stride_tricks.as_strided(raw, (span,), (size,), writeable=False)
    return flat, strides[0] // size, strides[1] // size


def _term(
    terms: LoadTerms | FrameTerms, name: str, shape: tuple[int, ...], kind: DTypeLike
) -> Array:
    array = np.asarray(getattr(terms, name))
    if not array.size:
        return _nothing(len(shape), np.dtype(kind))
    if array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape}; the raw values need {shape}")
    return _locked(np.ascontiguousarray(array, kind))


@functools.cache
def _nothing(axes: int, kind: np.dtype[Any]) -> Array:
    return _locked(np.empty((0,) * axes, kind))


def _locked(array: Array) -> Array:
    array = array.view()
    array.flags.writeable = False  # one type for the compiler, whoever gave the array
    return array


def _rounded(bound: float, dtype: np.dtype[Any], up: bool) -> Any:
    """Return the nearest value of a type that is not below (up) or not above a bound."""
    if dtype.kind == "u":
        bound = min(max(bound, 0), 65535)
        return dtype.type(math.ceil(bound) if up else math.floor(bound))
    with np.errstate(over="ignore"):
        value = dtype.type(bound)
    if up and float(value) < bound:
        return np.nextafter(value, dtype.type(np.inf))
    if not up and float(value) > bound:
        return np.nextafter(value, dtype.type(-np.inf))
    return value
