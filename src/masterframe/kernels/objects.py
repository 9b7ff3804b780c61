"""Object files: machine code on disk and in memory, by LLVM's loader alone.

A file holds one line of JSON, the checksum of what follows among it, and the object. It is written
whole or not at all, and one that is damaged counts as missing. It is no pickle: what is read is
data until it is called, and `cache` sees to whose it is.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import json
import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import llvmlite.binding as llvm  # type: ignore[import-untyped]


@dataclass(frozen=True, slots=True)
class Object:
    """The machine code of one function and of all that it calls."""

    symbol: str
    """Name of the function in it."""
    absent: tuple[str, ...]
    """Functions of numba that it would call to raise an error; none of ours does."""
    code: bytes
    """The object file."""


def read(path: Path) -> Object | None:
    """Return what a file holds; None where there is none, or a damaged one."""
    try:
        head, _, code = path.read_bytes().partition(b"\n")
        about = json.loads(head)
        if about["crc"] != zlib.crc32(code):
            return None
        return Object(about["symbol"], tuple(about["absent"]), code)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write(path: Path, made: Object) -> None:
    """Put an object into a file, whole or not at all; a full disk costs only time, next time."""
    about = {"symbol": made.symbol, "absent": made.absent, "crc": zlib.crc32(made.code)}
    with contextlib.suppress(OSError):
        part = path.with_name(f"{path.name}.{uuid4().hex}")
        try:
            part.write_bytes(json.dumps(about).encode() + b"\n" + made.code)
            part.replace(path)
        except OSError:
            part.unlink(missing_ok=True)
            raise


def load(made: Object) -> int:
    """Bring an object into this process, for good, and return the address of its function."""
    for name in made.absent:
        if llvm.address_of_symbol(name) is None:
            llvm.add_symbol(name, _abort())
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), target_machine())
    engine.add_object_file(llvm.ObjectFileRef.from_data(made.code))
    engine.finalize_object()
    _engines.append(engine)
    return int(engine.get_function_address(made.symbol))


def target_machine() -> Any:
    """Return for what machine code is made: this processor, as numba sees it."""
    _initialize()
    cpu, features = processor()
    triple = llvm.get_process_triple()
    return llvm.Target.from_triple(triple).create_target_machine(
        cpu=cpu,
        features=features,
        opt=3,
        reloc="static" if triple.startswith("x86") else "default",
        codemodel="jitdefault",
        jit=True,
    )


@functools.cache
def processor() -> tuple[str, str]:
    """Return name and features of the processor, or those that numba is told to compile for."""
    name = os.environ.get("NUMBA_CPU_NAME")
    features = os.environ.get("NUMBA_CPU_FEATURES")
    if features is None:
        features = "" if name else llvm.get_host_cpu_features().flatten()
    return name or llvm.get_host_cpu_name(), features


@functools.cache
def _initialize() -> None:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()


def _abort() -> int:
    return ctypes.cast(ctypes.CDLL(None).abort, ctypes.c_void_p).value or 0


_engines: list[Any] = []
