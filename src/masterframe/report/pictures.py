"""Planes of a master as small pictures: binned in one pass, stretched, and packed as PNG."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from masterframe import fits
from masterframe.model import Frame

BAND_BYTES = 16 << 20
"""Bytes of a plane that are in memory at a time."""
LEVELS = 96
"""Grey levels; the eye tells no more apart, and fewer pack better."""
CONTRAST = 0.25
"""Contrast of the linear fit that zscale stretches by."""

Plane = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture with what it says."""

    title: str
    caption: str
    """What it shows, and what good looks like."""
    uri: str
    """The PNG as a data URI."""
    width: int
    height: int
    name: str = ""
    """Name under which it can be blinked; '' for not."""

    is_chart = False


def bands(frame: Frame) -> Iterator[tuple[int, int]]:
    """Yield row ranges of a plane that are comfortable in memory."""
    rows = max(1, BAND_BYTES // max(1, frame.row_bytes))
    for y0 in range(0, frame.shape[0], rows):
        yield y0, min(y0 + rows, frame.shape[0])


def shrink(planes: tuple[Frame, ...], size: int, pick: Callable[..., Plane]) -> Plane:
    """Return a plane of at most `size` pixels along either axis.

    Parameters
    ----------
    planes : tuple of Frame
        What is read, of one shape.
    size : int
        Most rows and columns.
    pick : callable
        Gets rows of the planes in blocks, each of shape (rows, block, columns, block), and returns
        one value a block.
    """
    height, width = planes[0].shape
    block = max(1, -(-max(height, width) // size))
    if block == 1:
        whole = [fits.read_rows(frame, 0, height) for frame in planes]
        small: Plane = pick(*(plane[:, None, :, None] for plane in whole))
        return small
    kept = width // block * block
    rows = max(1, BAND_BYTES // max(1, planes[0].row_bytes * block)) * block
    parts = []
    for y0 in range(0, height // block * block, rows):
        y1 = min(y0 + rows, height // block * block)
        cut = [fits.read_rows(frame, y0, y1)[:, :kept] for frame in planes]
        parts.append(pick(*(plane.reshape(-1, block, kept // block, block) for plane in cut)))
    return np.concatenate(parts)


def mean_of_good(data: Plane, mask: Plane) -> Plane:
    """Return the mean of the good pixels of each block, NaN without any."""
    good = (mask == 0) & np.isfinite(data)
    count = good.sum(axis=(1, 3))
    total = np.where(good, data, 0).sum(axis=(1, 3), dtype=np.float64)
    mean: Plane = np.divide(total, count, out=np.full(count.shape, np.nan), where=count > 0)
    return mean


def zscale(plane: Plane) -> tuple[float, float]:
    """Return the values that are drawn black and white (IRAF's zscale, on up to 10000 pixels).

    A line is fitted to the sorted values, without those far off; its slope over the contrast
    stretches from the median, within the least and the largest value.
    """
    good = np.sort(plane[np.isfinite(plane)], axis=None)
    if not good.size:
        return 0.0, 1.0
    good = good[:: max(1, good.size // 10_000)]
    rank = np.arange(good.size) - (good.size - 1) / 2
    kept = np.ones(good.size, bool)
    slope, middle = 0.0, float(good[good.size // 2])
    for _ in range(5):
        if kept.sum() < max(5, good.size // 2):
            return float(good[0]), float(good[-1])
        slope, level = np.polyfit(rank[kept], good[kept], 1)
        off = good - (level + slope * rank)
        sigma = off[kept].std()
        now = np.abs(off) <= 2.5 * sigma
        if sigma == 0 or (now == kept).all():
            break
        kept = now
    reach = slope / CONTRAST * (good.size - 1) / 2
    low, high = max(float(good[0]), middle - reach), min(float(good[-1]), middle + reach)
    return (low, high) if high > low else (float(good[0]), float(good[-1]))


def grey(plane: Plane, limits: tuple[float, float] | None = None) -> NDArray[np.uint8]:
    """Return a plane as grey, the first row at the bottom; places without a value are black."""
    low, high = limits or zscale(plane)
    span = high - low if high > low else 1.0
    part = np.nan_to_num(np.clip((plane - low) / span, 0, 1), nan=0.0)
    steps = np.rint(part * (LEVELS - 1)) * (255 / (LEVELS - 1))
    return np.ascontiguousarray(steps[::-1]).astype(np.uint8)


def enlarged(pixels: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Return a small picture with every pixel repeated, so that it is at least half of `size`."""
    times = max(1, size // max(pixels.shape))
    return pixels.repeat(times, axis=0).repeat(times, axis=1)


def png_uri(pixels: NDArray[np.uint8]) -> str:
    """Return grey pixels (rows, columns) as the data URI of a PNG."""
    height, width = pixels.shape
    # every row is stored as the difference to the one above (filter 2), which packs better
    above = np.zeros_like(pixels)
    above[1:] = pixels[:-1]
    noisy = len(zlib.compress(pixels[: max(1, height // 8)].tobytes(), 1)) * 2 > pixels.size // 8
    rows = np.empty((height, width + 1), np.uint8)
    rows[:, 0] = 0 if noisy else 2
    rows[:, 1:] = pixels if noisy else pixels - above
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows.tobytes(), 6)),
        (b"IEND", b""),
    )
    data = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )
    return "data:image/png;base64," + base64.b64encode(data).decode("ascii")


def picture(title: str, caption: str, pixels: NDArray[np.uint8], name: str = "") -> Picture:
    """Pack pixels with what they say."""
    return Picture(title, caption, png_uri(pixels), pixels.shape[1], pixels.shape[0], name)
