"""How many rows of all frames fit in the memory given: pure arithmetic, no pixels.

A stack is cut into full-width row bands, since FITS images are stored row by row: a band of a frame
is one contiguous read. A band is as tall as the memory allows up to the size at which the processor
caches still help; where many frames make that too few bytes a frame for the disk, it grows again.
"""

from __future__ import annotations

from dataclasses import dataclass

from masterframe.errors import MemoryLimitError

MIB = 1 << 20
BAND_BYTES = 16 * MIB
"""Input of one band at which throughput peaks: smaller ones cost calls, larger ones leave the
cache (measured on 60 frames of 4096 x 4096: 16 to 32 rows best, 64 rows 15 % slower)."""
READ_BYTES = 128 << 10
"""Contiguous bytes of one frame below which a disk spends its time on seeks."""
ARENA_BYTES = 32 * MIB
"""What allocators and thread stacks keep besides the arrays counted here."""

SAMPLE_STRIDE = 16
"""Levels are measured on every so-many-th row, ..."""
SAMPLE_ROWS = 64
"""... but on this many rows at least, where the image has as many."""


@dataclass(frozen=True, slots=True)
class Work:
    """The arithmetic of combining one image: everything that costs memory."""

    n_frames: int
    """Frames that are combined."""
    shape: tuple[int, int]
    """Rows and columns as stored, before trimming."""
    itemsize: int
    """Bytes of one value as it is read."""
    scratch_bytes: int
    """Working memory of one kernel call, whatever its band."""
    master_bytes: int
    """Bytes a pixel of bias, dark, flat and mask rows that calibrate a band."""
    plane_bytes: int
    """Bytes a pixel of the planes that a band gives."""
    work_bytes: int = 48
    """Bytes a pixel of what the task itself makes on the way to its planes."""
    frame_row_bytes: int = 16
    """Bytes a frame and row of the per-frame sums."""

    def row_bytes(self) -> int:
        """Bytes that one row of a band costs the task that combines it."""
        return (
            self.shape[1] * (self.n_frames * self.itemsize + self.master_bytes)
            + self.result_row_bytes()
        )

    def result_row_bytes(self) -> int:
        """Bytes that one row of a finished band holds until it is written."""
        return self.shape[1] * self.plane_bytes + self.n_frames * self.frame_row_bytes


@dataclass(frozen=True, slots=True)
class Tiling:
    """How an image is cut, and what that will cost."""

    rows: int
    """Rows of a band (the last one may be shorter)."""
    bands: int
    """Number of bands."""
    in_flight: int
    """Bands that are worked on or wait to be written at any time."""
    peak_bytes: int
    """Resident memory that the run is expected to reach."""
    read_bytes: int
    """Bytes that are read in all."""

    def starts(self, height: int) -> list[tuple[int, int]]:
        """Return the (first, past the last) row of every band of an image of this height."""
        return [(y, min(y + self.rows, height)) for y in range(0, height, self.rows)]


def in_flight(workers: int) -> int:
    """Return how many bands may be on their way: one a worker and one that waits for each."""
    return 2 * workers


def plan_bands(work: Work, *, memory: int, reserved: int, workers: int) -> Tiling:
    """Choose the band height for one image.

    Parameters
    ----------
    work : Work
        What is combined.
    memory : int
        Resident memory that the process may reach (bytes).
    reserved : int
        Resident memory that it takes before any pixel is read (bytes).
    workers : int
        Bands combined at the same time.

    Returns
    -------
    Tiling
        Rows, bands and the expected peak.

    Raises
    ------
    MemoryLimitError
        If a single row of all frames does not fit; the message says how much would do.
    """
    height, width = work.shape
    waiting = in_flight(workers) - workers
    fixed = reserved + ARENA_BYTES + workers * work.scratch_bytes
    per_row = workers * work.row_bytes() + waiting * work.result_row_bytes()
    fitting = (memory - fixed) // per_row
    if fitting < 1:
        raise MemoryLimitError(
            f"{work.n_frames} frames of {height} x {width} need at least "
            f"{format_bytes(fixed + per_row)} of memory with {workers} workers, "
            f"{format_bytes(memory)} are given: raise --memory or lower --workers"
        )
    rows = min(fitting, _best_rows(work, workers))
    return Tiling(
        rows=rows,
        bands=-(-height // rows),
        in_flight=in_flight(workers),
        peak_bytes=fixed + rows * per_row,
        read_bytes=work.n_frames * height * width * work.itemsize,
    )


def _best_rows(work: Work, workers: int) -> int:
    """Return the band height that is fastest where memory does not matter."""
    height, width = work.shape
    row = width * work.itemsize
    cached = BAND_BYTES // (work.n_frames * row)
    readable = -(-READ_BYTES // row)
    shared = -(-height // (4 * workers))  # small images: enough bands to keep all workers busy
    return max(1, min(max(cached, readable), max(shared, 1)))


def sample_rows(height: int, first: int = 0) -> range:
    """Return the rows on which a level is measured: every 16th, or at least 64 of a small image.

    Parameters
    ----------
    height : int
        Number of rows there are.
    first : int
        The first of them. Rows are counted from 0, wherever that is: those on which part of an
        image is measured are among those of the whole one, where both are large.
    """
    stride = max(1, min(SAMPLE_STRIDE, height // SAMPLE_ROWS))
    return range(-(-first // stride) * stride, first + height, stride)


def format_bytes(count: float) -> str:
    """Return a number of bytes as people write it: ``1.9 GB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 1000 or unit == "GB":
            break
        count /= 1000
    return f"{count:.0f} {unit}" if unit == "B" else f"{count:.3g} {unit}"


def parse_bytes(text: str) -> int:
    """Read a size such as ``2GB``, ``500 MB`` or ``1.5GiB``.

    Raises
    ------
    ValueError
        If it is not a positive number with a unit from B, kB, MB, GB, TB, KiB, MiB, GiB, TiB.
    """
    units = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
    units |= {"kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40}
    compact = text.strip().lower().replace(" ", "")
    number = compact.rstrip("bikmgt")
    unit = compact[len(number) :] or "b"
    if unit not in units:
        raise ValueError(f"{text!r} is no size: write a number and a unit, as in 2GB or 500MB")
    try:
        size = float(number) * units[unit]
    except ValueError:
        raise ValueError(
            f"{text!r} is no size: write a number and a unit, as in 2GB or 500MB"
        ) from None
    if not 1 <= size < float("inf"):
        raise ValueError(f"{text!r} is no size: it must be positive")
    return int(size)
