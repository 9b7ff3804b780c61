"""Print how long the default combination takes, as a multiple of numpy.mean of the same values.

One thread; blocks of (N, 16, 4096) pixels: uint16, float32, and uint16 that is calibrated while it
is loaded. numpy.mean runs over axis 0 of the values as float32. The fastest of several runs counts.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from masterframe.kernels import Floor, LoadTerms, combine_block
from masterframe.model import Recipe

ROWS, COLUMNS, RUNS = 16, 4096, 7


def fastest(call: Callable[[], Any]) -> float:
    """Return the least time of several calls (s); the first, which may compile, does not count."""
    call()
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def measure(n: int) -> list[str]:
    """Return a row of the table: nanoseconds a value and multiples of numpy.mean."""
    rng = np.random.default_rng(n)
    raw = np.round(rng.normal(1000, 10, (n, ROWS, COLUMNS))).astype(np.uint16)
    raw[rng.random(raw.shape) < 1e-3] += 5000
    floats, mean = raw.astype(np.float32), np.empty((ROWS, COLUMNS), np.float32)
    plane = np.ones((ROWS, COLUMNS), np.float32)
    terms = LoadTerms(bias=plane, dark=plane, flat=plane, scale=np.ones(n, np.float32))
    rank, floor = np.arange(n), Floor(quant=0.7413, step=1.0)

    base = fastest(lambda: np.mean(floats, axis=0, out=mean))
    row = [f"{n:6d}", f"{base / raw.size * 1e9:8.2f}"]
    for values, applied in ((raw, LoadTerms()), (floats, LoadTerms()), (raw, terms)):
        call = partial(combine_block, values, applied, Recipe(), floor, rank)
        spent = fastest(call)
        row.append(f"{spent / raw.size * 1e9:8.2f} {spent / base:6.1f}x")
    return row


def main(counts: list[int]) -> None:
    """Print the table for some numbers of frames."""
    print("frames  mean ns     uint16 ns     float32 ns  calibrated ns")
    for n in counts:
        print("  ".join(measure(n)), flush=True)


if __name__ == "__main__":
    main([int(n) for n in sys.argv[1:]] or [5, 10, 50, 100, 200, 1000])
