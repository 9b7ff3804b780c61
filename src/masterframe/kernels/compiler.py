"""From Python functions to object files, by numba; imported only where something is compiled."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm  # type: ignore[import-untyped]
import numba
import numpy as np
from numba.core import cgutils
from numba.core.registry import cpu_target
from numba.experimental import function_type  # noqa: F401 - tells the type of functions passed on
from numba.extending import intrinsic
from numba.np.arrayobj import make_array, populate_array

from masterframe.kernels.objects import Object, target_machine

# Division follows numpy (x / 0 is inf), as checks would keep loops from being vectorised. Nobody
# counts who holds an array, which costs an atomic operation for every slice and every call. No flag
# of fastmath is set: each of them changes bits or loses NaN.
_OPTIONS: dict[str, Any] = {"error_model": "numpy", "_nrt": False}
types: Any = numba.types  # its stubs lack most of them
_WORDS = types.CPointer(types.int64)


def type_of_function(function: Callable[..., Any], *, inline: bool) -> Any:
    """Return numba's type of a function that is compiled as part of others."""
    return _part(function, inline=inline)._numba_type_


def type_of_operation(define: Callable[..., Any]) -> Any:
    """Return numba's type of an operation whose code is written by hand."""
    made, context = intrinsic(define), cpu_target.typing_context
    context.refresh()  # so that it knows what has just been made
    return context.resolve_value_type(made)


def type_of_external(name: str, signature: Any) -> Any:
    """Return numba's type of a function of the C library."""
    return types.ExternalFunction(name, signature)


def compile_entry(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Object:
    """Compile a function for arguments of such types, as one that takes them as words."""
    kernel = _part(function, inline=False)
    given = _given(types.Tuple([type_of(argument) for argument in arguments]))

    def entry(words: Any) -> None:
        kernel(*given(words))

    return _compiled(types.void(_WORDS), entry)


def compile_pointer(function: Callable[..., Any], signature: Any) -> Object:
    """Compile a function for one signature."""
    return _compiled(signature, function)


@functools.cache
def _part(function: Callable[..., Any], *, inline: bool) -> Any:
    """Return a function for the compiler alone; kept, as its type does not keep it.

    The wrappers that Python needs would take longer to compile than the functions.
    """
    bare = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    return numba.njit(nogil=True, forceinline=inline, **bare, **_OPTIONS)(function)


def _compiled(signature: Any, function: Callable[..., Any]) -> Object:
    made = numba.cfunc(signature, **_OPTIONS)(function)
    module = llvm.parse_assembly(made.inspect_llvm())
    absent = [
        item.name
        for item in module.functions
        if item.is_declaration and item.name.startswith(("numba_", "NRT_"))
    ]
    return Object(made.native_name, tuple(absent), target_machine().emit_object(module))


def type_of(value: Any) -> Any:
    """Return the type for which a function is compiled; arrays can be written to."""
    if isinstance(value, np.ndarray):
        layout = "C" if value.flags.c_contiguous else "A"
        return types.Array(numba.from_dtype(value.dtype), value.ndim, layout)
    if isinstance(value, tuple):
        kinds = [type_of(item) for item in value]
        if hasattr(value, "_fields"):
            return types.BaseTuple.from_types(kinds, type(value))
        return types.Tuple(kinds)
    return numba.typeof(value)


def _given(kinds: Any) -> Any:
    """Return an operation that makes arguments of words, as `native` lays them out."""

    def define(typing_context: Any, words: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return _Reader(context, builder, arguments[0]).value(kinds)

        return kinds(words), generate

    return intrinsic(define)


class _Reader:
    """Writes the code that reads one word after the other."""

    def __init__(self, context: Any, builder: Any, words: Any) -> None:
        self._context, self._builder, self._words = context, builder, words
        self._next = 0

    def value(self, kind: Any) -> Any:
        """Return a value of a type."""
        if isinstance(kind, types.Array):
            return self._array(kind)
        if isinstance(kind, types.BaseTuple):
            items = [self.value(item) for item in kind]
            return self._context.make_tuple(self._builder, kind, items)
        if isinstance(kind, types.NoneType):
            return self._context.get_dummy_value()
        return self._number(kind)

    def _word(self) -> Any:
        place = self._context.get_constant(types.intp, self._next)
        self._next += 1
        return self._builder.load(self._builder.gep(self._words, [place]))

    def _number(self, kind: Any) -> Any:
        builder, word = self._builder, self._word()
        if isinstance(kind, types.Boolean):
            return builder.icmp_signed("!=", word, word.type(0))
        if isinstance(kind, types.Float):
            bits = (
                word
                if kind.bitwidth == word.type.width
                else builder.trunc(word, cgutils.ir.IntType(kind.bitwidth))
            )
            return builder.bitcast(bits, self._context.get_value_type(kind))
        return (
            word
            if kind.bitwidth == word.type.width
            else builder.trunc(word, self._context.get_value_type(kind))
        )

    def _array(self, kind: Any) -> Any:
        context, builder = self._context, self._builder
        made = make_array(kind)(context, builder)
        address = self._word()
        shape = [self._word() for _ in range(kind.ndim)]
        size = context.get_constant(
            types.intp, context.get_abi_sizeof(context.get_data_type(kind.dtype))
        )
        strides: list[Any] = []
        if kind.layout == "C":
            step = size
            for length in reversed(shape):
                strides.insert(0, step)
                step = builder.mul(step, length)
        else:
            strides = [self._word() for _ in range(kind.ndim)]
        populate_array(
            made,
            data=builder.inttoptr(address, context.get_data_type(kind.dtype).as_pointer()),
            shape=cgutils.pack_array(builder, shape) if shape else [],
            strides=cgutils.pack_array(builder, strides) if strides else [],
            itemsize=size,
            meminfo=None,
        )
        return made._getvalue()
