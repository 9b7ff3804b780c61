"""Parts of the compiler, imported when something of them is asked for.

Compiled functions are loaded without it: it is only needed where one has to be compiled.
"""

from __future__ import annotations

import importlib
from typing import Any


class _Deferred:
    """Stands for a module in the code that generates code."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module(self._name), name)


compiler: Any = _Deferred("masterframe.kernels.compiler")
numba: Any = _Deferred("numba")
types: Any = _Deferred("numba.core.types")
cgutils: Any = _Deferred("numba.core.cgutils")
numpy_support: Any = _Deferred("numba.np.numpy_support")
ir: Any = _Deferred("llvmlite.ir")
