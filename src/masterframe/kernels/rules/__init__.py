"""The rejection rules, one file each, and how compiled code is given one of them.

A rule is one of two functions of the sorted float64 values column[lo:hi] or column[:n] of a pixel:

``window(column, lo, hi, params, row, trace) -> (lo, hi)``
    keeps a window of them;
``mask(column, noise, codes, n, params, row, trace)``
    puts `KEPT`, `LOW` or `HIGH` into codes[:n], which hold `KEPT` when it is called. Rows of noise
    belong to the values: ``noise[k]`` are a, b and z of the variance
    ``a + b max(c - z, 0) + (snoise max(c - z, 0))^2`` of value k at the centre c. Where all values
    have the same noise and z is 0, a rule with `registry.RuleSpec.same_noise` is called as
    ``window`` instead, with a and b in `Params.read` and `Params.poisson`.

``rows(sorted, w, n, ints, floats, params, row) -> bool``
    may do the first pass for w pixels at once, row by row (`masterframe.kernels.rules.lanes`):
    faster, and to the same bits. Most pixels lose nothing, and are done with it.

``params`` is a `Params`, ``row`` the number that the rule's own function ``measure`` finds for the
whole row (`registry.RuleSpec.rows`; else 0), ``trace`` takes centre, spread and bounds of the last
pass and the number of passes (`masterframe.kernels.rules.common.note`).

A rule is compiled by itself, when it is first used, and the combination is handed its address. A
new rule is a file here and a line in `masterframe.kernels.registry`.
"""

from __future__ import annotations

import functools
import importlib
import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from masterframe.kernels import native, tables
from masterframe.kernels.deferred import cgutils, compiler, numba, numpy_support, types
from masterframe.kernels.registry import CENTERS, DEVIATIONS, RULES
from masterframe.model import Rejection

KEPT, LOW, HIGH = range(3)
NO_LIMIT = 2**60
"""More passes, or values, than there can be."""
TRACED = 5
"""Numbers that a rule leaves in its trace."""


class Floor(NamedTuple):
    """The noise floor: sigma is at least max(quant, sqrt(poisson * max(c, 0) + read)) at centre c.

    All 0 is off.
    """

    quant: float = 0.0
    """Noise of quantised values (combined unit)."""
    poisson: float = 0.0
    """Variance per unit of signal (combined unit): scale / gain."""
    read: float = 0.0
    """Variance of the read noise (combined unit squared): (read noise * scale / gain) ** 2."""
    step: float = 0.0
    """Smallest difference of two values (combined unit); the standard deviation of kept values is
    taken as no less than step / sqrt(12)."""


class Params(NamedTuple):
    """A rejection and its noise floor as compiled code reads them; what is not read is 0."""

    low: float
    high: float
    center: int
    deviation: int
    ddof: int
    max_iters: int
    nlow: int
    nhigh: int
    nkeep: int
    frames: int
    """Number of frames, present or not."""
    quant: float
    poisson: float
    read: float
    pclip: float
    fraction: float
    snoise: float
    mad: NDArray[np.float64]
    """By what the median absolute deviation of n values is multiplied to be their sigma."""
    critical: NDArray[np.float64]
    """Critical value of the test ``gesd`` for n values."""


class Rule(NamedTuple):
    """A rule as the addresses of its functions; what it does not have does nothing."""

    window: int
    mask: int
    measure: int
    rows: int


def params(rejection: Rejection, floor: Floor, frames: int) -> Params:
    """Return the numbers of a rejection that came from `registry.resolve_rejection`."""
    return Params(
        low=_number(rejection.low),
        high=_number(rejection.high),
        center=CENTERS.index(rejection.center or CENTERS[0]),
        deviation=DEVIATIONS.index(rejection.deviation or DEVIATIONS[0]),
        ddof=_whole(rejection.ddof or 0),
        max_iters=NO_LIMIT if rejection.max_iters == "all" else _whole(rejection.max_iters or 1),
        nlow=_whole(rejection.nlow or 0),
        nhigh=_whole(rejection.nhigh or 0),
        nkeep=_whole(rejection.nkeep or 0),
        frames=int(frames),
        quant=float(floor.quant),
        poisson=float(floor.poisson),
        read=float(floor.read),
        pclip=float(rejection.pclip or 0.0),
        fraction=float(rejection.fraction or 0.0),
        snoise=float(rejection.snoise or 0.0),
        mad=tables.mad_factors(frames, corrected=bool(rejection.mad_correction)),
        critical=tables.critical_values(frames, rejection.alpha or 0.0),
    )


def _whole(number: float) -> int:
    """Return a number as one that compiled code holds: more than any pixel has values is enough."""
    return min(int(number), NO_LIMIT)


def _number(bound: float | None) -> float:
    return math.inf if bound is None else float(bound)


@functools.cache
def _signatures(kind: np.dtype[Any]) -> dict[str, Any]:
    column, codes = types.float64[::1], types.int8[::1]
    tile = numba.from_dtype(kind)[:, ::1]
    noise, i8, f8 = types.float64[:, ::1], types.int64, types.float64
    pair = types.containers.UniTuple(i8, 2)
    given = compiler.type_of(params(Rejection("none"), Floor(), 1))
    return {
        "window": pair(column, i8, i8, given, f8, column),
        "mask": types.void(column, noise, codes, i8, given, f8, column),
        "measure": types.void(column, i8, given, column),
        "rows": types.boolean(tile, i8, i8, types.int32[:, ::1], noise, given, f8),
    }


def _module(name: str) -> Any:
    return importlib.import_module(f"{__name__}.{name if name != 'threshold' else 'none'}")


@functools.cache
def _address(name: str, what: str, kind: np.dtype[Any]) -> int:
    """Return one function of a rule; the one that does nothing where the rule has none."""
    function = getattr(_module(name), what, None) or getattr(_module("none"), what)
    return native.pointer(function, kind.str, lambda: _signatures(kind)[what])


def compiled(name: str, kind: DTypeLike = np.float64, *, own_noise: bool = False) -> Rule:
    """Return a rule by its name, compiled or loaded when it is first asked for.

    Parameters
    ----------
    name : str
        A rule of `registry.RULES`.
    kind : dtype
        Type of the values in sorted tiles.
    own_noise : bool
        Whether each value is judged by its own noise: rows cannot be done at once.
    """
    spec, wide = RULES[name], np.dtype(np.float64)
    return Rule(
        _address(name, "window", wide),
        _address(name, "mask", wide),
        _address(name if spec.rows else "none", "measure", wide),
        _address("none" if own_noise else name, "rows", np.dtype(kind)),
    )


def _called(what: str) -> Any:
    """Return an operation of compiled code: an address becomes the function of a rule.

    Its type is that for sorted tiles of the type of the values given.
    """

    def function_at(typing_context: Any, address: Any, values: Any) -> Any:
        kind = types.FunctionType(_signatures(numpy_support.as_dtype(values.dtype))[what])

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            function = cgutils.create_struct_proxy(kind)(context, builder)
            function.c_addr = builder.inttoptr(arguments[0], cgutils.voidptr_t)
            function.py_addr = function.jit_addr = cgutils.voidptr_t(None)
            return function._getvalue()

        return kind(address, values), generate

    return native.operation(function_at)


_window_at, _mask_at, _measure_at, _rows_at = (_called(what) for what in Rule._fields)


@native.part
def called(rule: Any, values: Any) -> Any:
    """Return the rule whose functions have these addresses, in compiled code."""
    return Rule(
        _window_at(rule.window, values),
        _mask_at(rule.mask, values),
        _measure_at(rule.measure, values),
        _rows_at(rule.rows, values),
    )
