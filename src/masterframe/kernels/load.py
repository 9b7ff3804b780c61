"""The load step: raw values become calibrated ones, and what must be left out is found.

``((raw - overscan) - bias - dark * dark_ratio) / flat * scale + zero``, every operation rounded to
the work type, in this order. `calibrate_block` and the combination call the same compiled function.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from masterframe.kernels.cache import first_call, jit, part

Array = NDArray[Any]
_ABSENT: Array = np.empty(0, np.float32)


class LoadTerms(NamedTuple):
    """What is applied to N frames of (rows, nx) raw values; an array of size 0 is absent."""

    overscan: Array = _ABSENT
    """Level of each frame and row, shape (N, rows) (adu)."""
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
        return any(
            a.size for a in (self.overscan, self.bias, self.dark, self.flat, self.scale, self.zero)
        )


class Calibration(NamedTuple):
    """The terms as compiled code reads them: of the work type, read-only, contiguous."""

    overscan: Array
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
    bounds = terms.saturation, terms.raw_low, terms.raw_high
    least, most = (0, 65535) if raw.dtype.kind == "u" else (-math.inf, math.inf)
    return Source(
        *_flattened(raw),
        _term(terms, "bad", (rows, nx), np.bool_),
        _term(terms, "frame_mask", (n, rows, nx), np.bool_),
        limits=(
            _rounded(bounds[0], raw.dtype, up=True),
            _rounded(bounds[1], raw.dtype, up=True),
            _rounded(bounds[2], raw.dtype, up=False),
        ),
        limited=(
            bounds[0] <= most and bounds[0] < math.inf, bounds[1] > least, bounds[2] < most
        ),
    )  # fmt: skip


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
    if raw.size and (
        (strides[2] != size and raw.shape[2] > 1) or any(s < 0 or s % size for s in strides[:2])
    ):
        raw = np.ascontiguousarray(raw)
        strides = raw.strides
    span = 1 + sum((k - 1) * s // size for k, s in zip(raw.shape[:2], strides[:2], strict=True))
    span = span + raw.shape[2] - 1 if raw.size else 0
    flat = np.lib.stride_tricks.as_strided(raw, (span,), (size,), writeable=False)
    return flat, strides[0] // size, strides[1] // size


def _term(terms: LoadTerms, name: str, shape: tuple[int, ...], kind: DTypeLike) -> Array:
    array = np.asarray(getattr(terms, name))
    if not array.size:
        return _locked(np.empty((0,) * len(shape), kind))
    if array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape}; the raw values need {shape}")
    return _locked(np.ascontiguousarray(array, kind))


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


LO, HI, VALID, SATURATED, LOW, HIGH, EVEN, ODD = range(8)
"""Rows of the whole numbers of each lane (pixel of a tile): the window that is kept of its sorted
values, how many values it has, how many frames are saturated, how many values the thresholds
rejected, and how many values of the even and the odd frames are kept."""
REJECTED_LOW, REJECTED_HIGH, MISSING = range(3)
"""Columns of the numbers of each frame."""


@part
def copy_row(out: Any, slot: int, source: Any, k: int, y: int, x0: int, w: int) -> None:
    """Copy w raw values of row y of frame k into out[slot]."""
    first = k * source.frame_stride + y * source.row_stride + x0
    raw = source.raw[first : first + w]
    for i in range(w):
        out[slot, i] = raw[i]


@part
def calibrate_row(out: Any, slot: int, cal: Any, k: int, y: int, x0: int, w: int) -> None:
    """Calibrate the raw values in out[slot]; zero comes out as +0: equal values, equal bits."""
    if cal.overscan.size:
        level = cal.overscan[k, y]
        for i in range(w):
            out[slot, i] = out[slot, i] - level
    if cal.bias.size:
        for i in range(w):
            out[slot, i] = out[slot, i] - cal.bias[y, x0 + i]
    if cal.dark.size:
        ratio = cal.factors[k, 0]
        for i in range(w):
            out[slot, i] = out[slot, i] - cal.dark[y, x0 + i] * ratio
    if cal.flat.size:
        for i in range(w):
            out[slot, i] = out[slot, i] / cal.flat[y, x0 + i]
    scale, zero = cal.factors[k, 1], cal.factors[k, 2]
    for i in range(w):  # with the neutral 1 and 0 this changes nothing but the sign of -0
        out[slot, i] = out[slot, i] * scale + zero


@part
def leave_infinite(out: Any, slot: int, missing: Any, ints: Any, frames: Any, k: int, w: int) -> int:
    """Put `missing` where a value of out[slot] is not finite; return how many there are."""
    any_found, found = False, 0
    for i in range(w):
        any_found |= out[slot, i] - out[slot, i] != 0
    if any_found:
        for i in range(w):
            if out[slot, i] - out[slot, i] != 0:
                out[slot, i] = missing
                ints[VALID, i] -= 1
                found += 1
        frames[k, MISSING] += found
    return found


@part
def leave_out(
    out: Any, slot: int, missing: Any, source: Any, ints: Any, frames: Any, k: int, y: int,
    x0: int, w: int,
) -> int:  # fmt: skip
    """Put `missing` where a raw value is masked or beyond a limit; return how many there are.

    What is missing already is not counted again.
    """
    first = k * source.frame_stride + y * source.row_stride + x0
    values = source.raw[first : first + w]
    if not _any_out(source, values, k, y, x0, w):
        return 0
    saturation, low, high = source.limits
    has_saturation, has_low, has_high = source.limited
    found = 0
    for i in range(w):
        raw = values[i]
        masked = bool(source.bad.size) and source.bad[y, x0 + i]
        if source.frame_mask.size:
            masked |= source.frame_mask[k, y, x0 + i]
        if has_saturation and raw >= saturation:
            ints[SATURATED, i] += 1
            masked = True
        if out[slot, i] - out[slot, i] != 0:
            continue
        if masked:
            frames[k, MISSING] += 1
        elif has_low and raw < low:
            ints[LOW, i] += 1
            frames[k, REJECTED_LOW] += 1
        elif has_high and raw > high:
            ints[HIGH, i] += 1
            frames[k, REJECTED_HIGH] += 1
        else:
            continue
        out[slot, i] = missing
        ints[VALID, i] -= 1
        found += 1
    return found


@part
def _any_out(source: Any, values: Any, k: int, y: int, x0: int, w: int) -> bool:
    """Whether a value is masked or beyond a limit: loops without a branch, for most rows the end."""
    found = False
    saturation, low, high = source.limits
    has_saturation, has_low, has_high = source.limited
    if has_saturation:
        for i in range(w):
            found |= values[i] >= saturation
    if has_low or has_high:
        for i in range(w):
            found |= (has_low & (values[i] < low)) | (has_high & (values[i] > high))
    if source.bad.size:
        for i in range(w):
            found |= source.bad[y, x0 + i]
    if source.frame_mask.size:
        for i in range(w):
            found |= source.frame_mask[k, y, x0 + i]
    return found


@jit
def _calibrate(source: Any, cal: Any, ints: Any, frames: Any, out: Any) -> None:
    n, rows, nx = out.shape
    for k in range(n):
        for y in range(rows):
            row = out[k]
            copy_row(row, y, source, k, y, 0, nx)
            calibrate_row(row, y, cal, k, y, 0, nx)
            leave_infinite(row, y, math.nan, ints, frames, k, nx)
            leave_out(row, y, math.nan, source, ints, frames, k, y, 0, nx)


def calibrate_block(raw: Array, terms: LoadTerms, dtype: DTypeLike = np.float32) -> Array:
    """Return calibrated values: the load step alone, as the combination does it.

    Parameters
    ----------
    raw : ndarray, shape (N, rows, nx)
        Real numbers; never changed.
    terms : LoadTerms
        What is applied.
    dtype : dtype
        float32 or float64; float64 is used anyway where raw needs it (`work_type`).

    Returns
    -------
    ndarray, shape (N, rows, nx)
        Of the work type; NaN where a value is left out (masked, saturated, beyond the thresholds,
        infinite).

    Raises
    ------
    ValueError
        A term whose shape does not fit.
    """
    work = work_type(raw.dtype, dtype)
    raw = narrowed(raw, terms, work)
    src, cal = source(raw, terms), calibration(terms, raw.shape, work)
    out = np.empty(raw.shape, work)
    n, _, nx = raw.shape
    ints, frames = np.zeros((8, nx), np.int64), np.zeros((n, 3), np.int64)
    with first_call(("calibrate", src.raw.dtype, work)):
        _calibrate(src, cal, ints, frames, out)
    return out


@jit
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
    with first_call("swap16"):
        _swap16(values.view(np.uint16).reshape(-1), np.uint16(flip))
