"""A night folder becomes exposures and problems; only headers are read.

`files` finds what may be an exposure; `describe` makes one of it by the rules of an instrument:
`reading` looks up its fields, `images` its detector, `kinds` types it, `sections` and `dates`
understand the two things that headers write worst. `summary` tells of a night in words.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path, PurePath

from masterframe import fits
from masterframe.errors import FrameError
from masterframe.inventory import kinds
from masterframe.inventory.describe import Describer
from masterframe.inventory.files import Found, find_files, first_of_each
from masterframe.inventory.kinds import Attempt
from masterframe.inventory.library import scan_library
from masterframe.matching import describe as in_words
from masterframe.matching import exposure_lookup, selects
from masterframe.model import AppliedRule, Config, Exposure, Problem, Verify

__all__ = ["Attempt", "explain_kinds", "find_files", "scan_library", "scan_night"]

_SCAN_THREADS = 8  # a header is one small read: threads hide the latency of a disk or a network
_SCAN_LOT = 8  # files that a thread is given at a time, as to give takes time, too


def scan_night(
    paths: Iterable[str | Path], config: Config, memory: fits.ScanMemory | None = None
) -> tuple[tuple[Exposure, ...], tuple[Problem, ...]]:
    """Read the headers of all files of a night and say what each file is.

    Parameters
    ----------
    paths : iterable of str or Path
        Files, folders, or patterns with ``*`` and ``?``.
    config : Config
        Its instruments, type rules and detector numbers are used; ``select`` and ``exclude`` are
        left to the plan.
    memory : ScanMemory, optional
        Remembers the headers of files that have not changed; by default all are read.

    Returns
    -------
    exposures : tuple of Exposure
        Sorted by path. Where no rule tells the kind, it is None and a problem says what is missing.
    problems : tuple of Problem
        Files that are no exposure, are there twice, or have no kind: one row a file, by path.
    """
    found, problems = find_files(paths)
    scans = _scan_all(found, config.verify_checksums, memory or fits.ScanMemory())
    problems += [scan for scan in scans if isinstance(scan, Problem)]
    whole = [scan for scan in scans if not isinstance(scan, Problem)]
    kept, twins = first_of_each(whole)
    problems += twins
    nights = {item.path: item.night for item in found}
    exposures: list[Exposure] = []
    describer = Describer(config)
    for scan in kept:
        try:
            exposure, _, names, unusable = describer.describe(scan, nights[scan.path])
        except FrameError as error:
            problems.append(Problem(error.path, error.reason))
            continue
        exposures.append(exposure)
        if unusable:
            problems.append(Problem(exposure.path, unusable))
        elif exposure.kind is None:
            reason = kinds.lacking(exposure_lookup(exposure), names)
            problems.append(Problem(exposure.path, reason))
    exposures = _continue_series(exposures, config)
    return tuple(exposures), tuple(sorted(problems, key=lambda problem: problem.path))


def explain_kinds(
    paths: Iterable[str | Path], config: Config
) -> tuple[dict[str, tuple[Exposure, tuple[Attempt, ...]]], tuple[Problem, ...]]:
    """Say of each file by which rule it is typed, and which were tried before.

    Parameters
    ----------
    paths : iterable of str or Path
        Files, folders, or patterns with ``*`` and ``?``.
    config : Config
        Its instruments and type rules are used.

    Returns
    -------
    tried : dict
        By path: the exposure, and the rules up to the first that fits.
    problems : tuple of Problem
        Files that hold no exposure.
    """
    found, problems = find_files(paths)
    describer = Describer(config)
    tried = {}
    for item in found:
        try:
            scan = fits.scan_headers(item.path)
            exposure, rules, names, _ = describer.describe(scan, item.night)
        except FrameError as error:
            problems.append(Problem(error.path, error.reason))
            continue
        tried[item.path] = exposure, rules.attempts(exposure_lookup(exposure), names)
    return tried, tuple(problems)


def _scan_all(
    found: Sequence[Found], verify: Verify, memory: fits.ScanMemory
) -> list[fits.FileScan | Problem]:
    """Return the headers of each file, or why it cannot be used, in the order given."""
    # what is remembered takes no time but that of Python itself, which threads only lengthen
    scans: dict[Found, fits.FileScan | Problem | None] = {
        item: memory.recall(item.path, verify) for item in found
    }
    unknown = [item for item, scan in scans.items() if scan is None]
    lots = [unknown[start : start + _SCAN_LOT] for start in range(0, len(unknown), _SCAN_LOT)]
    with ThreadPoolExecutor(_SCAN_THREADS) as pool:
        for read in pool.map(lambda lot: [(one, _scan(one, verify, memory)) for one in lot], lots):
            scans |= read
    return [scan for scan in scans.values() if scan is not None]


def _scan(found: Found, verify: Verify, memory: fits.ScanMemory) -> fits.FileScan | Problem:
    """Return the headers of a file, or why it cannot be used."""
    try:
        return memory.scan_headers(found.path, verify)
    except FrameError as error:
        hint = " (a macOS side file)" if PurePath(found.path).name.startswith("._") else ""
        return Problem(found.path, f"{error.reason}{hint}")


def _continue_series(exposures: Sequence[Exposure], config: Config) -> list[Exposure]:
    """Mark the frames after one that says a step was done, where the camera says it only once."""
    rules = {one.name: [rule for rule in one.applied if rule.series] for one in config.instruments}
    series: dict[tuple[object, ...], list[Exposure]] = defaultdict(list)
    for item in exposures:
        if rules.get(item.preset):
            path = PurePath(item.path)
            stem = re.sub(r"\d+$", "", path.stem)
            series[path.parent, stem, item.exptime, item.setup, item.preset].append(item)
    followed: dict[str, Exposure] = {}
    for members in series.values():
        for rule in rules[members[0].preset]:
            followed |= _followers(members, rule)
    return [followed.get(item.path, item) for item in exposures]


def _followers(members: Sequence[Exposure], rule: AppliedRule) -> dict[str, Exposure]:
    """Return the frames of a series after the one that says that a step was done, marked so."""
    ordered = sorted(members, key=lambda item: item.path)
    says = (selects(rule.when, exposure_lookup(item)) for item in ordered)
    start = next((place for place, said in enumerate(says) if said), None)
    if start is None:
        return {}
    said = PurePath(ordered[start].path).name
    note = (
        f"taken as {rule.step}-subtracted: {said}, first of its series, says {in_words(rule.when)}"
    )
    return {
        item.path: replace(item, applied=(*item.applied, rule.step), notes=(*item.notes, note))
        for item in ordered[start + 1 :]
        if rule.step not in item.applied
    }
