"""What came out of a job."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from masterframe.fits.stamps import Stamp
from masterframe.quality.verdicts import Check
from masterframe.tiling import format_bytes


@dataclass(frozen=True)
class Made:
    """What came out of one job."""

    path: Path
    """The file."""
    n_frames: int
    """Frames that went in."""
    rejected: float
    """Fraction of all valid values that was rejected."""
    seconds: float
    """Wall time."""
    bytes_read: int
    """Bytes of pixels that were read."""
    numbers: dict[str, float]
    """Numbers of the QUALITY table by name; of several images, those of the first."""
    stamp: Stamp
    """The file as it was published."""
    images: int = 1
    """Images in the file."""
    tests: tuple[Check, ...] = ()
    """What the master was tested for; of several images, image after image."""

    def as_dict(self) -> dict[str, Any]:
        """Return it in the types of JSON; numbers that are none become null."""
        finite = {k: v if math.isfinite(v) else None for k, v in self.numbers.items()}
        tests = [item.as_dict() for item in self.tests]
        found = {**asdict(self), "path": str(self.path), "numbers": finite, "tests": tests}
        del found["stamp"]
        return found

    def summary(self) -> str:
        """Return one line for people."""
        numbers = ", ".join(f"{name} {self.numbers[name]:.6g}" for name in ("median", "noise"))
        frames = f"{self.n_frames} frames"
        if self.images > 1:
            frames, numbers = f"{frames} of {self.images} images", f"in the first {numbers}"
        return (
            f"{self.path}: {frames}, {numbers}, {self.rejected:.3%} rejected, "
            f"{format_bytes(self.bytes_read)} in {self.seconds:.2f} s"
        )
