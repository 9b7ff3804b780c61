"""Compiled functions: machine code that is loaded from disk, and compiled where it is not there.

A function is compiled for the types of its arguments, to an object file of its own that needs
neither Python nor numba: all that it is given, and all that it calls, lies in memory that the
caller holds. To load one takes some milliseconds; numba, which takes a quarter of a second to
import, is only needed to compile.
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import functools
import hashlib
import importlib
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from masterframe.kernels import cache, objects
from masterframe.kernels.deferred import compiler

_fcntl: Any = None
with contextlib.suppress(ImportError):  # not POSIX: two processes may compile the same at once
    _fcntl = importlib.import_module("fcntl")

Key = tuple[Any, ...]
_compiling = threading.RLock()
_hearers: list[Callable[[str], None]] = []
_REAL, _WHOLE = struct.Struct("d"), struct.Struct("q")


def kernel(function: Callable[..., Any]) -> Any:
    """Have a function compiled for the types of its arguments, when it is first called with them.

    It takes arrays, numbers, None, and tuples and named tuples of them, returns nothing, makes no
    array, and raises nothing. Other threads run meanwhile.
    """
    return _Kernel(function)


def part(function: Callable[..., Any]) -> Any:
    """Have a function compiled as part of those that call it; Python cannot call it."""
    return _Part(function, inline=False)


def inlined(function: Callable[..., Any]) -> Any:
    """Have a function compiled right into those that call it, of which there should be few.

    For those that are called for every tile with all that there is: to call one is to copy dozens
    of arrays, word by word. Of 10 frames that was a seventh of the time.
    """
    return _Part(function, inline=True)


def operation(define: Callable[..., Any]) -> Any:
    """Make an operation of compiled code, which numba does not offer; Python cannot call it.

    Parameters
    ----------
    define : callable
        Takes the types of the arguments, and returns the signature and a function that writes the
        code, as `numba.extending.intrinsic` wants it.
    """
    return _Operation(define)


def external(name: str, signature: Callable[[], Any]) -> Any:
    """Make a function of the C library one of compiled code; Python cannot call it.

    Parameters
    ----------
    name : str
        Its name.
    signature : callable
        Returns numba's types of its result and arguments.
    """
    return _External(name, signature)


class _Part:
    def __init__(self, function: Callable[..., Any], *, inline: bool) -> None:
        self._function, self._inline = function, inline
        self.__doc__ = function.__doc__

    @functools.cached_property
    def _numba_type_(self) -> Any:
        """What numba takes the name for, in functions that call it."""
        return compiler.type_of_function(self._function, inline=self._inline)


class _Operation:
    def __init__(self, define: Callable[..., Any]) -> None:
        self._define = define
        self.__doc__ = define.__doc__

    @functools.cached_property
    def _numba_type_(self) -> Any:
        return compiler.type_of_operation(self._define)


class _External:
    def __init__(self, name: str, signature: Callable[[], Any]) -> None:
        self._name, self._signature = name, signature

    @functools.cached_property
    def _numba_type_(self) -> Any:
        return compiler.type_of_external(self._name, self._signature())


class Given:
    """An argument that is given again and again: it is taken apart once.

    Parameters
    ----------
    value : array, number or tuple of them
        It must stay as it is, but for the content of arrays.
    """

    __slots__ = ("key", "value", "words")

    def __init__(self, value: Any) -> None:
        self.value = value
        self.words: list[int] = []
        self.key = _flatten(value, self.words)

    def __reduce__(self) -> Any:
        """Be taken apart again in another process: its memory is elsewhere."""
        return Given, (self.value,)


class _Kernel:
    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self.__doc__ = function.__doc__
        self._entries: dict[Key, Callable[[Any], None]] = {}

    def __call__(self, *arguments: Any) -> None:
        """Call the function compiled for these types; load or compile it first if need be."""
        words: list[int] = []
        key = _flatten(arguments, words)
        entry = self._entries.get(key)
        if entry is None:
            plain = (item.value if isinstance(item, Given) else item for item in arguments)
            entry = self._entry(key, tuple(plain))
        memory = array.array("q", words)
        entry(memory.buffer_info()[0])

    def _entry(self, key: Key, arguments: tuple[Any, ...]) -> Callable[[Any], None]:
        function = self._function
        address = _load(function, repr(key), lambda: compiler.compile_entry(function, arguments))
        entry = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(address)
        self._entries[key] = entry
        return entry


def pointer(function: Callable[..., Any], kind: str, signature: Callable[[], Any]) -> int:
    """Return the address of a function that compiled code can call, compiled or loaded.

    Parameters
    ----------
    function : callable
        The function.
    kind : str
        Tells its signatures apart.
    signature : callable
        Returns what numba compiles it for.
    """
    return _load(function, kind, lambda: compiler.compile_pointer(function, signature()))


def _flatten(value: Any, words: list[int]) -> Any:
    """Append the words that a value is given as; return what tells its type."""
    kind = type(value)
    if kind is Given:
        words.extend(value.words)
        return value.key
    if kind is np.ndarray:
        words.append(value.ctypes.data)
        words.extend(value.shape)
        if value.flags.c_contiguous:
            return value.dtype.str, value.ndim
        words.extend(value.strides)
        return value.dtype.str, value.ndim, "strided"
    if kind is int or kind is bool:
        if not -(2**63) <= value < 2**63:
            raise OverflowError(f"{value} is no whole number of 64 bits")
        words.append(value)
        return kind
    if kind is float:
        words.extend(_WHOLE.unpack(_REAL.pack(value)))
        return kind
    if value is None:
        return None
    if isinstance(value, tuple):
        return kind, *[_flatten(item, words) for item in value]
    number = np.asarray(value)  # of one of numpy's types
    words.append(int(number.view(f"i{number.itemsize}")))
    return number.dtype.str


def _load(function: Callable[..., Any], kind: str, compile_: Callable[[], objects.Object]) -> int:
    """Return the address of a compiled function, from disk where it is there."""
    folder = cache.folder()
    path = folder / _file_name(function, kind)
    found = objects.read(path)
    if found is None:
        with _compiling, _locked(folder / "lock"):
            found = objects.read(path)  # another process may have been faster
            if found is None:
                _tell("compiling: the first run of an installation takes some ten seconds more")
                found = compile_()
                objects.write(path, found)
    return objects.load(found)


def _file_name(function: Callable[..., Any], kind: str) -> str:
    """Return a name that tells function, types, and the source of the function.

    The folder tells the sources of all kernels, but a function may be of another package.
    """
    digest = hashlib.sha256(kind.encode())
    with contextlib.suppress(OSError):
        digest.update(Path(function.__code__.co_filename).read_bytes())
    module = function.__module__.rpartition("kernels.")[2]
    return f"{module}.{function.__name__}-{digest.hexdigest()[:16]}"


@contextlib.contextmanager
def announced(say: Callable[[str], None]) -> Iterator[None]:
    """Have it said, once, if anything has to be compiled as long as the block lasts."""
    _hearers.append(say)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # it has been told
            _hearers.remove(say)


def _tell(text: str) -> None:
    while _hearers:
        _hearers.pop()(text)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a") as handle:
        if _fcntl is not None:
            with contextlib.suppress(OSError):  # a file system without locks: go on without
                _fcntl.flock(handle, _fcntl.LOCK_EX)
        yield
