"""Rows of many files, read, made native and summed by one call, which does not hold the GIL.

Python's own calls cost some 30 us a file where two threads read, as each of them waits for the
other to let go of the interpreter; opening, asking for the state and closing cost the system 4.
What is not read here, for whatever reason, is left to the caller, who finds out why.
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from masterframe.kernels.deferred import types
from masterframe.kernels.native import Given, external, kernel, part
from masterframe.kernels.stored import turn

Array = NDArray[Any]

_open: Any = external("open", lambda: types.int32(types.intp, types.int32))
_pread: Any = external(
    "pread", lambda: types.intp(types.int32, types.intp, types.uintp, types.int64)
)
_close: Any = external("close", lambda: types.int32(types.int32))
_statx: Any = external(
    "statx",
    lambda: types.int32(types.int32, types.intp, types.int32, types.uint32, types.intp),
)

# Of linux/stat.h and fcntl.h, the same on all processors.
_AT_EMPTY_PATH = 0x1000
_SIZE_AND_TIME = 0x200 | 0x40
_ABOUT_WORDS = 32
"""64 bit words of ``struct statx``."""
_SIZE, _SECONDS, _NANOSECONDS = 5, 14, 15
"""Words of it: size, and the time of the last change of the content."""
_SECOND = 1_000_000_000
_FLAGS = np.int32(os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0))


class Files(NamedTuple):
    """N plain files, for compiled code."""

    names: NDArray[np.uint8]
    """Their paths, one after the other, each with a NUL behind it."""
    begins: NDArray[np.int64]
    """First byte of each path."""
    sizes: NDArray[np.int64]
    """Bytes of each file when it was scanned."""
    times: NDArray[np.int64]
    """When it was last changed then (ns since 1970)."""
    offsets: NDArray[np.int64]
    """First byte of the pixels."""


class Runs(NamedTuple):
    """Parts of each file, as many and as long as the array has room for."""

    first: int
    """First byte of the first one, counted from that of the pixels."""
    stride: int
    """Bytes from the start of one to that of the next."""


@functools.cache
def reads_files() -> bool:
    """Return whether this system has the calls: Linux with ``statx`` (2018) and 64 bits."""
    fits = sys.platform == "linux" and sys.maxsize > 2**32 and sys.byteorder == "little"
    return fits and hasattr(ctypes.CDLL(None), "statx")


def files(
    paths: Sequence[str], sizes: Sequence[int], times: Sequence[int], offsets: Sequence[int]
) -> Given:
    """Return `Files` for `read_runs`, as a value that is given for each band.

    Parameters
    ----------
    paths : sequence of str
        N absolute paths, none of which holds a NUL.
    sizes, times : sequence of int
        Size (bytes) and time of the last change (ns) that they must have.
    offsets : sequence of int
        First byte of the pixels.
    """
    names = [os.fsencode(path) + b"\0" for path in paths]
    begins = np.cumsum([0, *(len(name) for name in names[:-1])], dtype=np.int64)
    numbers = (np.array(values, np.int64) for values in (sizes, times, offsets))
    return Given(Files(np.frombuffer(b"".join(names), np.uint8).copy(), begins, *numbers))


def read_runs(
    source: Given, runs: Runs, out: Array, flip: int, summed: range = range(0)
) -> tuple[NDArray[np.bool_], NDArray[np.uint64]]:
    """Read parts of every file, turn their big-endian words into native ones, and sum some.

    Parameters
    ----------
    source : Given
        N `files`.
    runs : Runs
        Which parts of each.
    out : ndarray of unsigned int, shape (N, parts, words)
        Contiguous; filled with what was read.
    flip : int
        Bits of every native word that are turned over: the top one for BZERO of the other sign.
    summed : range
        Neighbouring words of all parts of a file, which are summed.

    Returns
    -------
    done : ndarray of bool, shape (N,)
        False where a file is not as it was scanned, or could not be opened or read at once.
    sums : ndarray of uint64, shape (N,)
        Sums of the stored bytes of those that are done, as of `make_native`.
    """
    done, sums = np.zeros(len(out), np.bool_), np.zeros(len(out), np.uint64)
    about = np.empty(_ABOUT_WORDS, np.int64)
    flat, span = out.reshape(len(out), -1), (summed.start, summed.stop)
    _read_runs(source, runs, out.shape[1], flat, out.dtype.type(flip), span, about, done, sums)
    return done, sums


@kernel
def _read_runs(  # noqa: PLR0913, PLR0917 - what compiled code is given, all of it
    source: Any,
    runs: Any,
    count: int,
    out: Any,
    flip: Any,
    summed: Any,
    about: Any,
    done: Any,
    sums: Any,
) -> None:
    for k in range(out.shape[0]):
        descriptor = _open(source.names.ctypes.data + source.begins[k], _FLAGS)
        if descriptor < 0:
            continue
        if _is_unchanged(descriptor, source, k, about):
            first = source.offsets[k] + runs.first
            done[k] = _read_file(descriptor, first, runs.stride, count, out[k])
        _close(descriptor)
        if done[k]:
            sums[k] = turn(out[k], flip, summed[0], summed[1])


@part
def _is_unchanged(descriptor: Any, source: Any, k: int, about: Any) -> bool:
    no_name = source.names.ctypes.data + source.names.size - 1
    if _statx(descriptor, no_name, _AT_EMPTY_PATH, _SIZE_AND_TIME, about.ctypes.data) != 0:
        return False
    time = about[_SECONDS] * _SECOND + (about[_NANOSECONDS] & 0xFFFFFFFF)
    return bool(about[_SIZE] == source.sizes[k] and time == source.times[k])


@part
def _read_file(descriptor: Any, first: int, stride: int, count: int, out: Any) -> bool:
    """Read so many parts of an array from their places in a file; return whether all was there."""
    start, size = out.ctypes.data, out.size // count * out.itemsize
    for run in range(count):
        if _pread(descriptor, start + run * size, size, first + run * stride) != size:
            return False
    return True
