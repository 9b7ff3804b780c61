"""What a program or a notebook asks of a night before it is reduced: its exposures and its plan.

The functions of `inventory` and `plan` take a configuration; here the defaults hold where none is
given: cameras are told by their headers.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from masterframe import inventory, plan
from masterframe.config import load_config
from masterframe.model import Config, Exposure, Plan, Problem, StoredMaster


def scan_night(
    night: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    config: Config | None = None,
) -> tuple[tuple[Exposure, ...], tuple[Problem, ...]]:
    """Read the headers of all files of a night and say what each file is.

    Parameters
    ----------
    night : path or iterable of paths
        Folder, file, or pattern with ``*`` and ``?``; or several of them.
    config : Config, optional
        Its instruments, type rules and detector numbers are used; by default the camera is found
        by its headers. ``select`` and ``exclude`` are left to the plan.

    Returns
    -------
    exposures : tuple of Exposure
        Sorted by path. Where no rule tells the kind, it is None and a problem says what is missing.
    problems : tuple of Problem
        Files that are no exposure, are there twice, or have no kind: one row a file, by path.

    Examples
    --------
    >>> import masterframe as mf
    >>> exposures, problems = mf.scan_night("night")
    >>> sorted({exposure.kind for exposure in exposures}), problems
    (['bias', 'flat'], ())
    """
    paths = [night] if isinstance(night, str | os.PathLike) else night
    return inventory.scan_night([os.fspath(path) for path in paths], config or load_config())


def make_plan(
    exposures: Iterable[Exposure],
    problems: Iterable[Problem] = (),
    config: Config | None = None,
    library: Iterable[StoredMaster] = (),
) -> Plan:
    """Decide what is made of a night, from what, and with which masters.

    Parameters
    ----------
    exposures : iterable of Exposure
        What `scan_night` found.
    problems : iterable of Problem
        Files that it refused; they are handed on.
    config : Config, optional
        Stanzas, selections and tolerances; by default the defaults, as for `scan_night`.
    library : iterable of StoredMaster, optional
        Masters that are taken where the night has none, from `masterframe.inventory.scan_library`.

    Returns
    -------
    Plan
        Every exposure goes into one product, or is left out with a reason. A product stands after
        the masters that it takes.

    Examples
    --------
    >>> import masterframe as mf
    >>> plan = mf.make_plan(*mf.scan_night("night"))
    >>> [product.kind for product in plan.products]
    ['bias', 'flat']
    """
    return plan.make_plan(exposures, problems, config or load_config(), library)
