"""What happens to one pixel's values: load step, sorting, rejection, estimate; compiled by numba.

`combine_block` does all of it for a block of rows, `calibrate_block` the load step alone, and
`pixel_history` tells of one pixel what went in which pass. The rules by name are in
`masterframe.kernels.registry`, which can be imported without numba.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from masterframe.kernels.registry import (
    RULES,
    RuleSpec,
    least_values,
    resolve_rejection,
    too_few,
)

if TYPE_CHECKING:
    from masterframe.kernels.bulk import Runs, files, read_runs, reads_files
    from masterframe.kernels.combine import KernelResult, combine_block, warm_up
    from masterframe.kernels.dither import restore_floats
    from masterframe.kernels.history import ColumnHistory, pixel_history, row_statistic
    from masterframe.kernels.load import calibrate_block
    from masterframe.kernels.native import announced
    from masterframe.kernels.ratios import efficiencies
    from masterframe.kernels.rice import decode_rice
    from masterframe.kernels.rules import Floor
    from masterframe.kernels.stored import datasum_parts, make_native
    from masterframe.kernels.terms import Empty, FrameTerms, LoadTerms, work_type
    from masterframe.kernels.uncertainty import MasterTerms, root_sum, shared_variance

__all__ = [
    "RULES",
    "ColumnHistory",
    "Empty",
    "Floor",
    "FrameTerms",
    "KernelResult",
    "LoadTerms",
    "MasterTerms",
    "RuleSpec",
    "Runs",
    "announced",
    "calibrate_block",
    "combine_block",
    "datasum_parts",
    "decode_rice",
    "efficiencies",
    "files",
    "least_values",
    "make_native",
    "pixel_history",
    "read_runs",
    "reads_files",
    "resolve_rejection",
    "restore_floats",
    "root_sum",
    "row_statistic",
    "shared_variance",
    "too_few",
    "warm_up",
    "work_type",
]

_HOMES = {
    "ColumnHistory": "history",
    "Empty": "terms",
    "Floor": "rules",
    "FrameTerms": "terms",
    "KernelResult": "combine",
    "LoadTerms": "terms",
    "MasterTerms": "uncertainty",
    "Runs": "bulk",
    "announced": "native",
    "calibrate_block": "load",
    "combine_block": "combine",
    "datasum_parts": "stored",
    "decode_rice": "rice",
    "efficiencies": "ratios",
    "files": "bulk",
    "make_native": "stored",
    "pixel_history": "history",
    "read_runs": "bulk",
    "reads_files": "bulk",
    "restore_floats": "dither",
    "root_sum": "uncertainty",
    "row_statistic": "history",
    "shared_variance": "uncertainty",
    "warm_up": "combine",
    "work_type": "terms",
}


def __getattr__(name: str) -> Any:
    """Import what needs numba when it is first asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = found
    return found
