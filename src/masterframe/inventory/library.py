"""A library: masters of earlier nights, ours or of other programs, with cards that tell enough."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np

from masterframe import fits
from masterframe.errors import FrameError, UsageError
from masterframe.fits import records, tables
from masterframe.inventory.describe import Describer
from masterframe.inventory.files import looks_like_fits
from masterframe.matching import number, text
from masterframe.model import Config, Exposure, Frame, MasterRole, Problem, StoredMaster

_KINDS = (
    ("bias", re.compile(r"bias|zero(?!.?point)|offset", re.IGNORECASE)),
    ("dark", re.compile(r"dark|dunkel", re.IGNORECASE)),
    ("flat", re.compile(r"flat|dome|twilight", re.IGNORECASE)),
)
"""Words that name the kind of a master of another program."""
_OVERSCAN_CARDS = ("OVERSCAN", "OVSCAN", "SUBOVER", "BIASSUBO")
"""Cards by which other programs say that they took an overscan off (IRAF's ccdproc, ccdproc)."""
_BIAS_CARDS = ("ZEROCOR", "BIASCORR", "SUBBIAS", "BIASFILE")
"""Cards by which they say that they took a bias off."""
_SAMPLE_ROWS = 64
_LEVELS = 0.3, 3.0
"""Median of a flat that can divide."""


def scan_library(
    folder: str | Path, config: Config, memory: fits.ScanMemory | None = None
) -> tuple[tuple[StoredMaster, ...], tuple[Problem, ...]]:
    """Find the masters in a folder and those below it; headers are read, and a few rows of flats.

    Parameters
    ----------
    folder : str or Path
        The library; the output of earlier runs will do.
    config : Config
        Its instruments tell how headers are read.
    memory : ScanMemory, optional
        Masters that it knows are not opened.

    Returns
    -------
    masters : tuple of StoredMaster
        Sorted by path.
    problems : tuple of Problem
        Files that cannot serve, with the reason. Calibrated frames are passed over.

    Raises
    ------
    UsageError
        If the folder is not there.
    """
    if not Path(folder).is_dir():
        raise UsageError(f"the library {folder} is no folder")
    describer, found, problems = Describer(config), [], []
    memory = memory or fits.ScanMemory()
    for path in sorted(_files(Path(folder).absolute())):
        try:
            master = _master(path, describer, memory)
        except FrameError as error:
            problems.append(Problem(path, error.reason))
        else:
            found += [master] if master else []
    return tuple(found), tuple(problems)


def _files(folder: Path) -> Iterator[str]:
    """Yield the files below a folder whose names look like FITS."""
    for top, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (os.path.join(top, name) for name in names if looks_like_fits(name))  # noqa: PTH118


def _master(path: str, describer: Describer, memory: fits.ScanMemory) -> StoredMaster | None:
    """Return the master in a file; None where it holds a frame that masterframe calibrated.

    Raises
    ------
    FrameError
        If it cannot serve as one.
    """
    scan = memory.recall(path) or memory.scan_headers(path)
    header = scan.hdus[0].header
    if header.get("MFKIND") == "calibrated":
        return None
    exposure = describer.describe(scan, "", masters=True).exposure
    if not exposure.images:
        raise FrameError(path, "it holds no image that can be used")
    ours = text(header.get("MFVERS")) != ""
    role = _role(text(header.get("MFKIND")) if ours else exposure.imagetyp, path)
    plain = replace(
        exposure,
        kind=role,
        images=tuple(
            replace(image, overscan=None, trim=None, amplifiers=()) for image in exposure.images
        ),
        notes=(),
    )
    told = partial(memory.fact, scan)
    return _ours(plain, role, told) if ours else _foreign(plain, role, told)


def _role(words: str, path: str) -> MasterRole:
    """Return what a master is for by what its header calls it, else by the name of its file."""
    for told in (words, Path(path).name):
        for role, pattern in _KINDS:
            if pattern.search(told) and role in get_args(MasterRole):
                return role  # type: ignore[return-value]  # it is one of them
    raise FrameError(path, "nothing tells whether it is a bias, a dark or a flat")


Told = Callable[[str, Callable[[], Any]], Any]
"""Returns what is remembered under a name, else what it is called with finds."""


def _ours(exposure: Exposure, role: MasterRole, told: Told) -> StoredMaster:
    """Return a master that masterframe made, which its record and its tests tell of."""
    overscan_taken, failed = told("made", partial(_made, exposure.path))
    return StoredMaster(
        replace(exposure, temperature=number(exposure.header.get("MFTEMP"))),
        role,
        holds_bias=role == "dark" and not exposure.header.get("BIASSUB"),
        overscan_taken=overscan_taken,
        unfit=f"it fails its {failed}" if failed else "",
    )


def _made(path: str) -> tuple[bool, str]:
    """Return whether overscans were taken off the frames of a master, and a test that it fails."""
    record = next(iter(records.read_records(path).values()))
    failed = [row.name for row in tables.read_quality(path) if row.verdict == "fail"]
    return bool(record.overscans), failed[0] if failed else ""


def _foreign(exposure: Exposure, role: MasterRole, told: Told) -> StoredMaster:
    """Return a master of another program, as far as its cards tell of it."""
    header = {**exposure.header, **exposure.images[0].header}
    done = f" {text(header.get('CALSTAT')).upper()} "
    bias_off = any(text(header.get(key)) not in ("", "F") for key in _BIAS_CARDS) or "B" in done
    frame = exposure.images[0].frame
    level = 1.0
    if role == "flat":
        found = told(f"level {frame.hdu}", partial(_level, frame))
        level = math.nan if found is None else found
    unfit = ""
    if not _LEVELS[0] < level < _LEVELS[1]:
        unfit = f"its median is {level:.4g}: a flat that divides has one of about 1"
    elif role == "dark" and exposure.dark_time is None:
        unfit = "its exposure time is not known"
    return StoredMaster(
        exposure,
        role,
        holds_bias=role == "dark" and not bias_off,
        overscan_taken=any(text(header.get(key)) not in ("", "F") for key in _OVERSCAN_CARDS),
        unfit=unfit,
    )


def _level(frame: Frame) -> float | None:
    """Return the median of some rows of an image; None where no value is a number."""
    step = max(1, frame.shape[0] // _SAMPLE_ROWS)
    rows = fits.read_rows(frame, 0, frame.shape[0], step)
    good = rows[np.isfinite(rows)]
    return float(np.median(good)) if good.size else None
