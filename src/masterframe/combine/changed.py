"""Values that a program changed, as what a master is made of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import dask
import dask.array as da
import numpy as np
import xarray as xr
from dask.delayed import Delayed
from dask.optimization import cull
from numpy.typing import NDArray

from masterframe import stack
from masterframe.cell import FrameFacts
from masterframe.combine.lazy import combine_stack
from masterframe.combine.steps import quantisation_step
from masterframe.model import BandResult, Calibration, Frame, Recipe


@dataclass(frozen=True)
class LazyValues:
    """Values that a program changed, as what a master is made of instead of those of the files."""

    array: da.Array
    """The values (N, y, x)."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Their type."""
        return np.dtype(str(self.array.dtype))

    def ordered(self, order: Sequence[int]) -> LazyValues:
        """Return them in another order of the frames."""
        return LazyValues(self.array[list(order)])

    def step(self, rows: int | tuple[int, ...]) -> Any:
        """Return the quantisation step of bands of so many rows: a number, or a task that gives it.

        Optimising pushes the sampling into what reads.
        """
        step = quantisation_step(self._stack(rows))
        return dask.optimize(step)[0] if isinstance(step, Delayed) else step

    def cells(
        self,
        recipe: Recipe,
        calibration: Calibration,
        facts: FrameFacts,
        uncertainties: Sequence[Frame],
        rows: int | tuple[int, ...],
    ) -> Iterator[Any]:
        """Yield a task for each band of so many rows, which gives a list of that one.

        Its graph is cut down to what it needs.
        """
        combined = combine_stack(
            self._stack(rows),
            recipe,
            calibration,
            facts=facts,
            uncertainties=stack.lazy_array(uncertainties, rows) if uncertainties else None,
        )
        (bands,) = dask.optimize(combined.bands)
        graph = dict(bands.__dask_graph__())
        for key in dask.core.flatten(bands.__dask_keys__()):
            needed, _ = cull(graph, [key])
            yield dask.delayed(_unboxed, pure=False)(Delayed(key, needed))

    def _stack(self, rows: int | tuple[int, ...]) -> xr.DataArray:
        banded = self.array.rechunk({0: -1, 1: rows, 2: -1})
        return xr.DataArray(banded, dims=("frame", "y", "x"))


def _unboxed(band: NDArray[Any]) -> list[BandResult]:
    return [band[0, 0, 0]]
