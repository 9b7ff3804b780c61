"""Print how long the default combination takes, as a multiple of numpy.mean of the same values.

One thread; blocks of (N, 16, 4096) pixels: uint16, float32, and uint16 that is calibrated while it
is loaded. numpy.mean runs over axis 0 of the values as float32, in turn with the combination; the
fastest of several runs counts.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from masterframe.kernels import Floor, LoadTerms, combine_block
from masterframe.model import Recipe

ROWS, COLUMNS, RUNS = 16, 4096, 7


def fastest_in_turn(calls: Sequence[Callable[[], Any]]) -> list[float]:
    """Return the least time of each call (s), taken in turn.

    A first turn, which may compile, does not count.
    """
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(1 + RUNS):
        for call, spent in zip(calls, times, strict=True):
            start = time.perf_counter()
            call()
            spent.append(time.perf_counter() - start)
    return [min(spent[1:]) for spent in times]


def measure(n: int) -> str:
    """Return a row of the table: nanoseconds a value and multiples of numpy.mean."""
    rng = np.random.default_rng(n)
    raw = np.round(rng.normal(1000, 10, (n, ROWS, COLUMNS))).astype(np.uint16)
    raw[rng.random(raw.shape) < 1e-3] += 5000
    floats, mean = raw.astype(np.float32), np.empty((ROWS, COLUMNS), np.float32)
    plane = np.ones((ROWS, COLUMNS), np.float32)
    terms = LoadTerms(bias=plane, dark=plane, flat=plane, scale=np.ones(n, np.float32))
    rank, floor = np.arange(n), Floor(quant=0.7413, step=1.0)

    def combine(values: Any, applied: LoadTerms) -> Callable[[], Any]:
        return partial(combine_block, values, applied, Recipe(), floor, rank)

    row = [f"{n:6d}"]
    for values, applied in ((raw, LoadTerms()), (floats, LoadTerms()), (raw, terms)):
        calls = partial(np.mean, floats, axis=0, out=mean), combine(values, applied)
        base, spent = fastest_in_turn(calls)
        row.append(f"{spent / raw.size * 1e9:8.2f} {spent / base:6.1f}x")
    return "  ".join([row[0], f"{base / raw.size * 1e9:8.2f}", *row[1:]])


def main(counts: list[int]) -> None:
    """Print the table for some numbers of frames."""
    print("frames  mean ns     uint16 ns     float32 ns  calibrated ns")
    for n in counts:
        print(measure(n), flush=True)


if __name__ == "__main__":
    main([int(n) for n in sys.argv[1:]] or [5, 10, 20, 50, 100, 200, 1000])
