"""What this machine, and this process on it, has: processors and memory."""

from __future__ import annotations

import ctypes
import os
import resource
import sys
from collections.abc import Iterator
from pathlib import Path

MOST_MEMORY = 4 * 10**9
"""Memory (bytes) that a run takes at most where nobody says how much."""
M_TRIM, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
"""Options of mallopt (malloc.h of glibc)."""
KEPT_BYTES = 8 << 20
"""What an arena may keep of small arrays that were freed: with less, it gives back and clears the
same pages for every band. `masterframe.tiling.ARENA_BYTES` counts it."""
PROCESS_BYTES = 280 * 10**6
"""Resident memory of one process with its kernels loaded, before it reads a pixel."""
SHARE_BYTES = 32 * 10**6
"""What is left for pixels, at least, of each worker process."""


def available_cores() -> int:
    """Return the processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def default_memory() -> int:
    """Return half of the memory that is available to this process, at most 4 GB."""
    return min(available_memory() // 2, MOST_MEMORY)


def available_memory() -> int:
    """Return the memory that this process could still take: of the machine, and of its cgroups."""
    pages = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for line in _lines(Path("/proc/meminfo")):
        if line.startswith("MemAvailable:"):  # counts the page cache, which gives way
            pages = int(line.split()[1]) * 1024
    return min([pages, *_left_in_cgroups(Path("/proc/self/cgroup"), Path("/sys/fs/cgroup"))])


def _left_in_cgroups(membership: Path, root: Path) -> Iterator[int]:
    """Yield what each limit leaves of the memory, of the process's own group and all above it.

    The page cache of a group counts in its usage, but gives way like that of the machine.
    """
    for line in _lines(membership):
        _, controllers, path = line.split(":", 2)
        if not controllers:
            top, limit, usage = root, "memory.max", "memory.current"
        elif "memory" in controllers.split(","):
            top, limit, usage = root / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
        else:
            continue
        group = top / path.lstrip("/")
        for folder in [group, *group.parents]:
            if not folder.is_relative_to(top):
                break
            most, used = _number(folder / limit), _number(folder / usage)
            if most is not None and used is not None:
                yield max(most - used + _cache_in(folder / "memory.stat"), 0)


def _cache_in(path: Path) -> int:
    """Return the bytes of file pages that a group could give back."""
    fields = dict(line.split(maxsplit=1) for line in _lines(path) if " " in line)
    prefix = "total_" if "total_inactive_file" in fields else ""
    return sum(int(fields.get(f"{prefix}{part}_file", 0)) for part in ("active", "inactive"))


def _number(path: Path) -> int | None:
    """Return the number in a file; None where there is none, or ``max``."""
    lines = _lines(path)
    return int(lines[0]) if lines and lines[0].isdigit() else None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


def fitting_processes(workers: int, memory: int) -> int:
    """Return how many worker processes to start, one at least: each holds the program anew."""
    return max(1, min(workers, (memory - PROCESS_BYTES) // (PROCESS_BYTES + SHARE_BYTES)))


def settle_allocator() -> None:
    """Have large arrays given back to the system as they are freed; glibc alone needs to be told.

    Left alone it keeps ever larger blocks, and an arena for each thread: memory that nobody uses.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for option, value in ((M_ARENA_MAX, 2), (M_MMAP_THRESHOLD, 1 << 20), (M_TRIM, KEPT_BYTES)):
            mallopt(option, value)


def resident_bytes() -> int:
    """Return the memory that this process holds now."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return peak_bytes()


def bytes_read() -> int | None:
    """Return the bytes that this process has read of files, the page cache included; Linux."""
    for line in _lines(Path("/proc/self/io")):
        if line.startswith("rchar:"):
            return int(line.split()[1])
    return None


def peak_bytes() -> int:
    """Return the most memory that this process has held."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
