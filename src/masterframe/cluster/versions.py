"""Workers that run the same program as this one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from masterframe.errors import UsageError

SAME = ("masterframe", "numpy", "numba", "dask", "distributed")
"""Packages whose versions are the same here and on all workers."""


def check_versions(client: Any) -> None:
    """Refuse workers that run another program than this one: their results could differ.

    Raises
    ------
    UsageError
        With the worker, and both versions.
    """
    compare_versions(client.get_versions(packages=list(SAME)))


def compare_versions(found: Mapping[str, Any]) -> None:
    """Compare the versions of all workers with those of the client.

    Parameters
    ----------
    found : mapping
        What `distributed.Client.get_versions` gave.

    Raises
    ------
    UsageError
        If any of `SAME`, or Python, differs.
    """
    ours = found["client"]["packages"]
    for address, worker in found["workers"].items():
        for name in (*SAME, "python"):
            theirs = worker["packages"].get(name)
            if theirs != ours.get(name):
                raise UsageError(
                    f"the worker at {address} has {name} {theirs or '(none)'}, this program "
                    f"{ours.get(name)}: install the same on both"
                )
