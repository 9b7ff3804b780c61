"""Which files lie in the folders of a night, and which of them are the same exposure twice."""

from __future__ import annotations

import glob
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from masterframe import fits
from masterframe.errors import FrameError
from masterframe.model import Problem

SUFFIXES = (".fits", ".fit", ".fts", ".fits.fz", ".fz")
COMPRESSIONS = ("", ".gz", ".bz2", ".xz")
_DATE = re.compile(r"(?<!\d)(19|20)\d\d([-_.]?)(0[1-9]|1[0-2])\2(0[1-9]|[12]\d|3[01])(?!\d)")
"""A date in the name of a folder: 2026-11-28, 20261128; below a folder of many nights it is one."""
_TIMES = ("DATE-OBS", "TIME-OBS", "UT", "MJD-OBS", "JD", "EXPTIME")
"""Cards that differ from exposure to exposure, in most files."""
STATE_FOLDER = ".masterframe"
"""A folder that holds one of this name is the output of an earlier run."""


class Found(NamedTuple):
    """A file to be scanned."""

    path: str
    """Absolute path."""
    night: str
    """Name of the folder that was asked for, or that the file lies in."""


def find_files(paths: Iterable[str | Path]) -> tuple[list[Found], list[Problem]]:
    """List the files that may be exposures.

    A file that is named is taken whatever its suffix, a folder is walked for the suffixes of FITS.
    Links to folders are not followed, so that no loop can catch the walk and no neighbour slips in.

    Parameters
    ----------
    paths : iterable of str or Path
        Files, folders, or patterns with ``*`` and ``?``.

    Returns
    -------
    found : list of Found
        Sorted by path, each path once.
    problems : list of Problem
        Paths that do not exist, folders that were passed over.
    """
    found: dict[str, Found] = {}
    problems: list[Problem] = []
    named = list(_expanded(paths))
    nights = _nights(named)
    for path in named:
        if not os.path.lexists(path):
            problems.append(Problem(str(path), "no such file or folder"))
        elif path.is_dir():
            for item in _walk(path, nights[_absolute(path)], problems):
                found.setdefault(item.path, item)
        else:
            name = _absolute(path)
            found.setdefault(name, Found(name, Path(name).parent.name))
    return [found[path] for path in sorted(found)], problems


def first_of_each(
    scans: Sequence[fits.FileScan],
) -> tuple[list[fits.FileScan], list[Problem]]:
    """Leave out every file that holds an exposure which another file holds too.

    Two paths are one file where device and inode agree. Two files hold one exposure where their
    headers agree in every card and their data in DATASUM, which is only computed for equal headers.
    """
    problems: list[Problem] = []
    inodes: dict[tuple[int, int], str] = {}
    alike: dict[tuple[object, ...], list[fits.FileScan]] = defaultdict(list)
    for scan in scans:
        first = inodes.setdefault((scan.device, scan.stamp.inode), scan.path)
        if first == scan.path:
            alike[_dates(scan)].append(scan)
        else:
            problems.append(Problem(scan.path, f"the same file as {first}"))
    twins: dict[str, str] = {}
    for group in alike.values():
        twins.update(_twins(group) if len(group) > 1 else {})
    problems += [
        Problem(path, f"header and data are those of {first}") for path, first in twins.items()
    ]
    dropped = {problem.path for problem in problems}
    return [scan for scan in scans if scan.path not in dropped], problems


def _expanded(paths: Iterable[str | Path]) -> Iterator[Path]:
    """Yield paths, patterns replaced by what they match."""
    for path in paths:
        name = str(path)
        if not os.path.lexists(name) and glob.has_magic(name):
            yield from (Path(match) for match in sorted(glob.glob(name)))
        else:
            yield Path(name)


def _nights(paths: Sequence[Path]) -> dict[str, str]:
    """Return the name of each folder, with that of the folder around it where two are alike."""
    folders = [Path(name) for name in {_absolute(path) for path in paths}]
    times = Counter(folder.name for folder in folders)
    return {
        str(folder): folder.name
        if times[folder.name] == 1
        else f"{folder.parent.name}_{folder.name}"
        for folder in folders
    }


def _walk(root: Path, night: str, problems: list[Problem]) -> Iterator[Found]:
    """Yield the files below a folder that look like FITS by their suffix."""

    def refuse(error: OSError) -> None:
        problems.append(Problem(str(error.filename), error.strerror or str(error)))

    top = _absolute(root)
    for folder, folders, names in os.walk(top, onerror=refuse):
        if STATE_FOLDER in folders and folder != top:
            problems.append(Problem(folder, "the output of an earlier run: not scanned"))
            folders.clear()
            continue
        for name in sorted(folders):
            path = os.path.join(folder, name)  # noqa: PTH118
            if os.path.islink(path):  # noqa: PTH114
                problems.append(Problem(path, "a link to a folder: not followed, name it to scan"))
            elif looks_like_fits(name):
                problems.append(Problem(path, "not a regular file: a folder"))
                folders.remove(name)
        folders[:] = sorted(name for name in folders if name != STATE_FOLDER)
        own = _dated(folder[len(top) :]) or night
        for name in names:
            if looks_like_fits(name):
                yield Found(os.path.join(folder, name), own)  # noqa: PTH118


def _dated(folder: str) -> str:
    """Return the part of a path below the folder of many nights that is called after a date."""
    return next((part for part in Path(folder).parts if _DATE.search(part)), "")


def _absolute(path: Path) -> str:
    """Return a path from the root, without ``..``, links kept as the observer named them."""
    return os.path.abspath(path)  # noqa: PTH100  resolve() would follow links


def looks_like_fits(name: str) -> bool:
    """Return whether the suffix of a name is one of FITS."""
    lower = name.lower()
    return lower.endswith(tuple(s + c for s in SUFFIXES for c in COMPRESSIONS))


def _dates(scan: fits.FileScan) -> tuple[object, ...]:
    """Return of a file what is quickly compared, and differs in most that are not alike."""
    return tuple(
        (len(hdu.header), *(str(hdu.header.get(key)) for key in _TIMES)) for hdu in scan.hdus
    )


def _twins(group: Sequence[fits.FileScan]) -> dict[str, str]:
    """Return of some files those that hold the exposure of an earlier one, with that one."""
    alike: dict[tuple[object, ...], list[fits.FileScan]] = defaultdict(list)
    for scan in group:
        alike[_headers(scan)].append(scan)
    found: dict[str, str] = {}
    for members in alike.values():
        found.update(_copies(members) if len(members) > 1 else {})
    return found


def _headers(scan: fits.FileScan) -> tuple[object, ...]:
    """Return all cards of a file in a form that can be compared and hashed; NaN equals NaN."""
    return tuple(
        tuple(sorted((key, repr(value)) for key, value in hdu.header.items())) for hdu in scan.hdus
    )


def _copies(group: Sequence[fits.FileScan]) -> dict[str, str]:
    """Return of files with equal headers those whose data an earlier one holds, with that one."""
    firsts: dict[tuple[int, ...], str] = {}
    copies: dict[str, str] = {}
    for scan in group:
        try:
            sums = tuple(fits.datasum(hdu.frame) for hdu in scan.hdus if hdu.frame is not None)
        except FrameError:
            continue  # what cannot be read is found out, and said, when it is combined
        first = firsts.setdefault(sums, scan.path)
        if sums and first != scan.path:
            copies[scan.path] = first
    return copies
