"""What the bands of a master add up to for each of its frames."""

from __future__ import annotations

import math
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from masterframe.model import BandResult

COUNTS = ("kept", "low", "high", "missing")


class Totals:
    """Adds up the per-frame numbers of bands, in the order of their rows."""

    def __init__(self, n_frames: int) -> None:
        self.counts = {name: np.zeros(n_frames, np.int64) for name in COUNTS}
        self.frame_sums = np.zeros((n_frames, 2))
        self.half_sums = np.zeros(3)
        self.datasum: np.ndarray | None = np.zeros(n_frames, np.uint64)

    def add(self, band: BandResult) -> None:
        """Add one cell: integers are exact, float sums go part by part, however rows are cut."""
        for name in COUNTS:
            self.counts[name] += getattr(band.frames, name)
        self.frame_sums = _added(self.frame_sums, band.frame_sums)
        self.half_sums = _added(self.half_sums, band.half_sums)
        if self.datasum is not None:
            self.datasum = self.datasum + band.datasum if band.datasum.size else None

    def state(self) -> dict[str, str]:
        """Return all sums as texts, bit for bit; `restore` takes them."""
        sums = {**self.counts, "frame_sums": self.frame_sums, "half_sums": self.half_sums}
        if self.datasum is not None:
            sums["datasum"] = self.datasum
        return {name: b64encode(array.tobytes()).decode() for name, array in sums.items()}

    @classmethod
    def restore(cls, n_frames: int, state: Mapping[str, str]) -> Totals:
        """Return the sums that `state` gave, of the same machine."""

        def array(name: str, like: NDArray[Any]) -> NDArray[Any]:
            values = np.frombuffer(b64decode(state[name]), like.dtype)
            return values.reshape(like.shape).copy()

        made = cls(n_frames)
        made.counts = {name: array(name, own) for name, own in made.counts.items()}
        made.frame_sums = array("frame_sums", made.frame_sums)
        made.half_sums = array("half_sums", made.half_sums)
        sums = np.zeros(n_frames, np.uint64)
        made.datasum = array("datasum", sums) if "datasum" in state else None
        return made

    @property
    def noise(self) -> NDArray[np.float64]:
        """Standard deviation of (value - combined) of each frame (combined unit)."""
        kept = np.maximum(self.counts["kept"], 1)
        mean, square = (self.frame_sums / kept[:, None]).T
        noise: NDArray[np.float64] = np.sqrt(np.maximum(square - mean**2, 0))
        return noise

    @property
    def half_noise(self) -> float:
        """Noise of the result from the difference of its even and odd halves; NaN without it."""
        count, total, square = self.half_sums
        if count < 2:
            return math.nan
        frames = len(self.frame_sums)
        smaller = frames // 2  # halves of an odd number differ more than the mean of all is noisy
        share = 2 * math.sqrt(smaller * (frames - smaller)) / frames
        return share * math.sqrt(max(square - total**2 / count, 0) / (count - 1))


def _added(total: NDArray[Any], parts: NDArray[Any]) -> NDArray[Any]:
    """Return a sum with those of all parts, shape (rows, parts, ...), added one after the other."""
    steps = np.concatenate([total[None], parts.reshape(-1, *total.shape)])
    return np.asarray(np.add.accumulate(steps)[-1])  # unlike a sum, in this order by definition


def rejected(totals: Sequence[Totals]) -> float:
    """Return the fraction of the valid values of all images that was rejected."""
    kept, low, high = (
        sum(int(own.counts[name].sum()) for own in totals) for name in ("kept", "low", "high")
    )
    valid = kept + low + high
    return (low + high) / valid if valid else 0.0
