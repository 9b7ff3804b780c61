"""What gzip has compressed, unpacked with its check sum: by ISA-L where it is installed, else zlib.

ISA-L (package ``isal``) takes about half the time of zlib.
"""

from __future__ import annotations

import importlib
import zlib
from typing import IO, Any

try:
    _gzip: Any = importlib.import_module("isal.igzip")
    _zlib: Any = importlib.import_module("isal.isal_zlib")
except ImportError:
    _gzip = importlib.import_module("gzip")
    _zlib = zlib

ERRORS: tuple[type[Exception], ...] = (EOFError, OSError, zlib.error, _zlib.error)
"""What damaged data raise."""
_GZIP = 31
"""The parameter of zlib that stands for the format of gzip."""


def open_gzip(packed: IO[bytes]) -> Any:
    """Return a file that gives the unpacked bytes of another one, member after member."""
    return _gzip.GzipFile(fileobj=packed)


def gunzip(packed: Any, size: int) -> bytes:
    """Unpack one gzip stream that is in memory, as far as one byte behind the size expected.

    Raises
    ------
    one of ERRORS
        If it is damaged.
    """
    stream = _zlib.decompressobj(wbits=_GZIP)
    data: bytes = stream.decompress(packed, max_length=size + 1)
    if len(data) <= size and not stream.eof:
        raise EOFError("it ends too early")
    return data
