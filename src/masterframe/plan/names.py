"""Names of products: made of header values and file names, of which none can be trusted."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Sequence

_LENGTH = 48
_STEM_BYTES = 180  # leaves room for suffixes below the 255 bytes of a name
_RESERVED = {"con", "prn", "aux", "nul"} | {f"{p}{i}" for p in ("com", "lpt") for i in range(10)}


def safe_word(words: str) -> str:
    """Return a header value as part of a file name: letters, digits, ``.``, ``+`` and ``-`` stay.

    Examples
    --------
    >>> safe_word("g#782"), safe_word("../../x"), safe_word("<script>"), safe_word("")
    ('g-782', 'x', 'script', '')
    """
    return re.sub(r"[^A-Za-z0-9.+_]+", "-", words).strip(".-_")[:_LENGTH].rstrip(".-_")


def safe_folder(words: str) -> str:
    """Return a name that can stand alone as a folder; ``night`` where nothing is left of it."""
    found = safe_word(words)
    if found.split(".")[0].lower() in _RESERVED:
        found = f"night-{found}"
    return found or "night"


def safe_stem(file_name: str) -> str:
    """Return the name of a file without its suffixes, as far as it can be printed.

    Examples
    --------
    >>> safe_stem("EFOSC.2022-01-28T04:54:24.341.fits.gz")
    'EFOSC.2022-01-28T04:54:24.341'
    """
    stem = re.sub(r"(?i)(\.(fits|fit|fts|fz|gz|bz2|xz))+$", "", file_name)
    kept = "".join(c if c.isprintable() and c not in "/\\" else "-" for c in stem).lstrip(".-")
    short = kept.encode()[:_STEM_BYTES].decode(errors="ignore")
    return f"frame-{short}" if short.split(".")[0].lower() in _RESERVED or not short else short


def seconds(value: float) -> str:
    """Return a time as part of a file name: ``300s``, ``0.5s``, ``3.2e-05s``."""
    return f"{value:.0f}s" if value >= 100 else f"{value:.3g}s"


def unique(names: Sequence[str], keys: Sequence[str]) -> list[str]:
    """Return the names; those that are alike on any file system get the hash of their key.

    Parameters
    ----------
    names : sequence of str
        Names without suffix.
    keys : sequence of str
        What tells the products apart, in any characters; each differs.
    """
    times = Counter(name.casefold() for name in names)
    return [
        name if times[name.casefold()] == 1 else f"{name}_{_digest(key)}"
        for name, key in zip(names, keys, strict=True)
    ]


def _digest(key: str) -> str:
    """Return eight hexadecimal digits that depend on the key alone."""
    return hashlib.sha256(key.encode(errors="backslashreplace")).hexdigest()[:8]
