"""The checksums that FITS puts into headers: DATASUM of the data, CHECKSUM of a whole HDU.

References
----------
FITS Standard 4.0 (2018), section 4.4.2.7 and Appendix J.
"""

from __future__ import annotations

import numpy as np

WORD = 4
"""Bytes of the words that are summed."""
ALL_ONES = 0xFFFFFFFF
"""Zero, as ones' complement also has it."""
_PUNCTUATION = frozenset(range(0x3A, 0x41)) | frozenset(range(0x5B, 0x61))


def add_words(data: bytes | bytearray | memoryview, total: int = 0) -> int:
    """Add bytes to a 32-bit ones'-complement sum of big-endian words.

    Parameters
    ----------
    data : bytes-like
        A multiple of 4 bytes; FITS blocks are.
    total : int
        The sum so far.

    Returns
    -------
    int
        Sum folded to 32 bits; sums over parts may be added in any order.
    """
    total += int(np.frombuffer(data, ">u4").sum(dtype=np.uint64))
    while total > ALL_ONES:
        total = (total & ALL_ONES) + (total >> 32)
    return total


def encode(total: int) -> str:
    """Return the text of a CHECKSUM card that makes its HDU add up to zero.

    Parameters
    ----------
    total : int
        Sum over the HDU while that text is sixteen zeros.

    Returns
    -------
    str
        16 letters and digits.
    """
    letters = bytearray(16)
    for place, byte in enumerate((ALL_ONES ^ total).to_bytes(WORD, "big")):
        for row, letter in enumerate(_four_letters(byte)):
            letters[(4 * row + place + 1) % 16] = letter  # the text begins one byte after a word
    return letters.decode("ascii")


def _four_letters(byte: int) -> list[int]:
    """Return four letters or digits whose codes above that of 0 add up to a byte."""
    quarter, rest = divmod(byte, 4)
    letters = [ord("0") + quarter] * 4
    letters[0] += rest
    for first in (0, 2):
        while _PUNCTUATION & {letters[first], letters[first + 1]}:
            letters[first] += 1
            letters[first + 1] -= 1
    return letters
