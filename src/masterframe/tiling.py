"""How much of all frames fits in the memory given: pure arithmetic, no pixels.

A stack is cut into full-width row bands, since FITS images are stored row by row: a band of a frame
is one contiguous read. A band is as tall as the memory allows up to the size at which the processor
caches still help; where many frames make that too few bytes a frame for the disk, it grows again.
Where a single row of all frames is too much for all workers, fewer of them work; where it is too
much for one, rows are cut into parts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from masterframe.errors import MemoryLimitError

MIB = 1 << 20
BAND_BYTES = 16 * MIB
"""Input and output of one band at which throughput peaks: smaller ones cost calls, larger ones
leave the cache (measured on frames of 4096 x 4096: of 60, 26 to 48 rows are best, 16 take 3 % more;
of 10, 64 to 128 are, 46 take 6 % more and 24 take 19 %)."""
READ_BYTES = 128 << 10
"""Contiguous bytes of one frame below which a disk spends its time on seeks."""
ARENA_BYTES = 24 * MIB
"""What allocators and thread stacks keep besides the arrays counted here."""
FRAME_BYTES = 4 << 10
"""What a run remembers of a frame besides its header: counts, sums, its row in the table INPUTS."""
TASKS_EACH = 8
"""Tasks that each worker has at least where each combines several cells: the last ones end at about
the same time."""
MOST_TOGETHER = 32
"""Cells that a task combines at most: each takes a millisecond, however small it is."""
PART = 2048
"""Columns after which sums over a row begin anew, and at which a row can be cut."""

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
    work_bytes: int = 112
    """Bytes a pixel of what the task itself makes on the way to its planes."""
    frame_row_bytes: int = 16
    """Bytes a frame and part of a row of the per-frame sums."""
    copy_bytes: int = 0
    """Bytes a value of the copies that the kernel makes, where it cannot work on what was read."""
    whole: str = ""
    """Why rows must not be cut; '' where they may."""
    images: int = 1
    """Images of about this size whose bands follow each other."""
    tile_rows: int = 1
    """Rows that are unpacked together: a band has a multiple of it, where that fits."""

    def task_bytes(self, columns: int) -> int:
        """Bytes that one row of a cell costs the task that combines it."""
        values = columns * (self.itemsize + self.copy_bytes)
        pixels = columns * (self.master_bytes + self.work_bytes)
        return self.n_frames * values + pixels + self.result_bytes(columns)

    def result_bytes(self, columns: int) -> int:
        """Bytes that one row of a finished cell holds until it is written."""
        parts = 1 if self.whole else math.ceil(columns / PART)
        return columns * self.plane_bytes + parts * self.n_frames * self.frame_row_bytes


@dataclass(frozen=True, slots=True)
class Tiling:
    """How an image is cut into cells, and what that will cost."""

    rows: int
    """Rows of a cell (the last one may be shorter); 1 where rows are cut."""
    columns: int
    """Columns of a cell (the last one may be narrower)."""
    parts: int
    """Cells that a row is cut into; 1 where rows are whole."""
    bands: int
    """Number of cells."""
    workers: int
    """Tasks that run at the same time."""
    in_flight: int
    """Tasks whose cells are worked on or wait to be written at any time."""
    peak_bytes: int
    """Resident memory that the run is expected to reach."""
    read_bytes: int
    """Bytes that are read in all."""
    contiguous_bytes: int
    """Bytes that are read at once."""
    together: int = 1
    """Cells that one task combines, one after the other."""

    def starts(self, height: int) -> list[tuple[int, int]]:
        """Return the (first, past the last) row of every band of an image of this height."""
        return [(y, min(y + self.rows, height)) for y in range(0, height, self.rows)]

    def text(self) -> str:
        """Return the plan in words: cells, reads, memory."""
        what = f"{self.bands} bands of {self.rows} row{'s' * (self.rows > 1)}"
        if self.parts > 1:
            what = f"{self.bands} parts of a row, of {self.columns} columns"
        return (
            f"{format_bytes(self.read_bytes)} in {what}, reads of "
            f"{format_bytes(self.contiguous_bytes)}, {self.workers} at a time, "
            f"{format_bytes(self.peak_bytes)} of memory"
        )


def plan_bands(
    work: Work,
    *,
    memory: int,
    reserved: int,
    workers: int,
    copies: int = 1,
    divisible: bool = True,
    grain: int = 0,
) -> Tiling:
    """Choose the cells of one image.

    Parameters
    ----------
    work : Work
        What is combined.
    memory : int
        Resident memory that all processes together may reach (bytes).
    reserved : int
        Resident memory that they take before any pixel is read (bytes).
    workers : int
        Cells that can be combined at the same time.
    copies : int
        Times that a finished cell is in memory on its way to who writes it.
    divisible : bool
        Whether fewer workers than that may work.
    grain : int
        Bytes that a task should read: where cells are smaller, it combines several if their results
        fit.

    Returns
    -------
    Tiling
        Rows, columns, workers and the expected peak.

    Raises
    ------
    MemoryLimitError
        If not even the smallest cell fits; the message says how much would do.
    """
    height, width = work.shape
    held = reserved + ARENA_BYTES + work.n_frames * FRAME_BYTES
    budget = _Budget(work, memory, held, workers, copies, grain)
    fewest = 1 if divisible else workers
    for count in range(workers, fewest - 1, -1):
        fitting = (memory - budget.fixed(count)) // budget.row(count, width)
        if fitting >= 1:
            rows = _whole_tiles(min(fitting, _best_rows(work, workers)), fitting, work.tile_rows)
            return _tiling(budget, count, rows, width)
    columns = width
    if not work.whole:
        most = (width - 1) // PART
        fits = [
            PART * parts
            for parts in range(1, most + 1)
            if budget.fixed(fewest) + budget.row(fewest, PART * parts) <= memory
        ]
        if fits:
            return _tiling(budget, fewest, 1, fits[-1])
        columns = min(width, PART)
    needed = budget.fixed(fewest) + budget.row(fewest, columns)
    raise MemoryLimitError(
        f"{work.n_frames} frames of {height} x {width} need at least {format_bytes(needed)} of "
        f"memory{f' with {fewest} workers' if fewest > 1 else ''}, {format_bytes(memory)} are "
        f"given: raise --memory"
        + (f" ({work.whole}, so that they cannot be cut)" if work.whole and width > PART else "")
    )


@dataclass(frozen=True, slots=True)
class _Budget:
    """What cells cost by the number of workers."""

    work: Work
    memory: int
    held: int
    workers: int
    copies: int
    grain: int

    def flight(self, count: int) -> int:
        """Return how many cells may be on their way: with each worked on three that are finished.

        With one, workers stand still whenever a write takes long (of 10 frames 8 % of the time).
        Where memory is so short that not all workers work, none waits.
        """
        return 4 * count if count == self.workers else count

    def fixed(self, count: int) -> int:
        """Return what does not depend on the size of a cell."""
        return self.held + count * self.work.scratch_bytes

    def row(self, count: int, columns: int) -> int:
        """Return what every row of a cell costs, its conversion for the file included."""
        finished = self.flight(count) * self.copies * self.work.result_bytes(columns)
        return count * self.work.task_bytes(columns) + finished + columns * 8

    def row_of_another(self, count: int, columns: int) -> int:
        """Return what every row of one more cell in each task costs: its result."""
        return (count + self.flight(count) * self.copies) * self.work.result_bytes(columns)

    def together(self, count: int, rows: int, columns: int, cells: int) -> int:
        """Return how many cells a task combines, of all that there are."""
        wanted = self.grain // (self.work.n_frames * rows * columns * self.work.itemsize)
        shared = cells * self.work.images // (TASKS_EACH * count)
        left = self.memory - self.fixed(count) - rows * self.row(count, columns)
        fitting = 1 + left // (rows * self.row_of_another(count, columns))
        return max(1, min(wanted, shared, fitting, MOST_TOGETHER))


def _tiling(budget: _Budget, count: int, rows: int, columns: int) -> Tiling:
    work = budget.work
    height, width = work.shape
    cells = -(-height // rows) * -(-width // columns)
    together = budget.together(count, rows, columns, cells)
    each = budget.row(count, columns) + (together - 1) * budget.row_of_another(count, columns)
    return Tiling(
        rows=rows,
        columns=columns,
        parts=-(-width // columns),
        bands=cells,
        workers=count,
        together=together,
        in_flight=budget.flight(count),
        peak_bytes=budget.fixed(count) + rows * each,
        read_bytes=work.n_frames * height * width * work.itemsize,
        contiguous_bytes=rows * columns * work.itemsize,
    )


def _whole_tiles(rows: int, fitting: int, tile_rows: int) -> int:
    """Return the nearest height that cuts no tile; as it is where a tile is too tall to fit."""
    whole = max(rows // tile_rows, 1) * tile_rows
    return whole if whole <= fitting else rows


def _best_rows(work: Work, workers: int) -> int:
    """Return the band height that is fastest where memory does not matter."""
    height, width = work.shape
    row = width * work.itemsize
    # a quarter of what a task makes at most is planes of the kernel; the rest has left the cache
    outputs = width * (work.work_bytes // 4 + work.plane_bytes)
    cached = BAND_BYTES // (work.n_frames * row + outputs)
    readable = -(-READ_BYTES // row)
    # small images: enough bands to keep all workers busy
    shared = -(-height * work.images // (4 * workers))
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
