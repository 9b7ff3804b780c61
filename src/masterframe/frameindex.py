"""The numbers of frames as an index of xarray: they choose frames, and do not pair them."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import xarray as xr
from xarray.indexes import PandasIndex


class FrameIndex(PandasIndex):
    """Numbers of frames, from 0 in the order that was given.

    ``sel`` and hvplot's sliders find frames by them. Arithmetic goes by position, as it does
    without any index: ``stack[1:] - stack[:-1]`` are the differences of neighbours, where xarray's
    own index would pair each frame with itself.
    """

    def equals(self, other: xr.Index, **options: Any) -> bool:
        """Return whether two stacks have as many frames."""
        return isinstance(other, PandasIndex) and len(other.index) == len(self.index)

    def join(self, other: Any, how: str = "inner") -> FrameIndex:
        """Refuse to guess which frames belong together.

        Raises
        ------
        ValueError
            Always: it is asked for where `equals` is not true.
        """
        raise ValueError(
            f"{len(self.index)} and {len(other.index)} frames do not pair: choose as many of both"
        )

    @classmethod
    def concat(cls, indexes: Sequence[Any], dim: Hashable, positions: Any = None) -> FrameIndex:
        """Return numbers, from 0 again, of the frames of several stacks."""
        return cls(np.arange(sum(len(item.index) for item in indexes)), dim)


def numbered(n: int) -> xr.Coordinates:
    """Return the coordinate ``frame`` of so many frames."""
    return xr.Coordinates.from_xindex(FrameIndex(np.arange(n), "frame"))
