"""The planes of a master as pictures, each with a caption that says what good looks like."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from masterframe import fits
from masterframe.errors import FrameError
from masterframe.quality.archive import Master
from masterframe.quality.comparison import Comparison
from masterframe.quantiles import MAD_TO_SIGMA
from masterframe.report import pictures
from masterframe.report.charts import number, percent
from masterframe.report.pictures import Picture

ZOOM = 48
"""Rows and columns of the part that is enlarged."""
SPECTRUM = 512
"""Rows and columns whose power spectrum is drawn."""
SMOOTH = 24
"""Areas along each axis that show the illumination of a flat."""


def plane_pictures(master: Master, size: int) -> Iterator[Picture | None]:
    """Yield the pictures of the planes: the master, a part of it, what was not used, the mask."""
    planes = master.planes
    small = pictures.shrink((planes["data"], planes["mask"]), size, pictures.mean_of_good)
    low, high = pictures.zscale(small)
    unit = master.unit or "of its median"
    yield pictures.picture(
        "The master",
        f"zscale, {number(low)} (black) to {number(high)} (white) {unit}, binned to fit. Good: "
        "smooth, with no trail, no patch and no band that the detector does not always have.",
        pictures.enlarged(pictures.grey(small, (low, high)), size),
        name="data",
    )
    yield _zoom(master, small)
    yield _map(master, size)
    yield _mask(master, size)
    if master.kind == "flat":
        yield from _light(master, small)


def _zoom(master: Master, small: NDArray[Any]) -> Picture | None:
    """Enlarge the part of the master that is least like its rows and columns."""
    frame = master.planes["data"]
    good = np.where(np.isfinite(small), small, np.nanmedian(small)) if _any(small) else None
    if good is None or min(frame.shape) < ZOOM:
        return None
    rest = good - np.median(good, axis=1, keepdims=True)
    rest = rest - np.median(rest, axis=0, keepdims=True)
    block = -(-max(frame.shape) // max(small.shape)) if max(small.shape) < max(frame.shape) else 1
    y, x = np.unravel_index(int(np.argmax(np.abs(rest))), rest.shape)
    y0 = int(np.clip(y * block - ZOOM // 2, 0, frame.shape[0] - ZOOM))
    x0 = int(np.clip(x * block - ZOOM // 2, 0, frame.shape[1] - ZOOM))
    part = fits.read_rows(frame, y0, y0 + ZOOM)[:, x0 : x0 + ZOOM]
    return pictures.picture(
        "Where it is least smooth",
        f"Pixels [{x0 + 1}:{x0 + ZOOM},{y0 + 1}:{y0 + ZOOM}], one by one. Good: single hot or dead "
        "pixels, or the shadow of a grain of dust; bad: what is left of a trail or a star.",
        pictures.enlarged(pictures.grey(part), 384),
    )


def _any(plane: NDArray[Any]) -> bool:
    return bool(np.isfinite(plane).any())


def _map(master: Master, size: int) -> Picture | None:
    """Show in how many frames the value of a pixel was not used."""
    count = master.planes["count"]
    n = master.record.frames
    if n < 2:
        return None
    lost = pictures.shrink((count,), size, lambda kept: n - kept.min(axis=(1, 3)))
    most = float(lost.max())
    return pictures.picture(
        "Values not used",
        f"Black: all {n} values went in; white: {most:.0f} of a pixel were rejected or missing. "
        "Good: specks, evenly spread; trails and stars show what was rejected, blocks and lines "
        "where the rule or a frame is wrong.",
        pictures.enlarged(pictures.grey(lost.astype(np.float64), (0.0, max(most, 1.0))), size),
    )


def _mask(master: Master, size: int) -> Picture | None:
    mask = pictures.shrink((master.planes["mask"],), size, lambda bits: bits.max(axis=(1, 3)))
    if not mask.any():
        return None
    share = master.numbers.get("maskedfraction", math.nan)
    return pictures.picture(
        "Masked pixels",
        f"White: {percent(share)} of the pixels are not to be used. Good: specks and the columns "
        "that are known to be bad.",
        pictures.enlarged(pictures.grey((mask > 0).astype(np.float64), (0.0, 1.0)), size),
    )


def _light(master: Master, small: NDArray[Any]) -> Iterator[Picture | None]:
    """Tell the illumination of a flat from its dust: what is wide and what is narrow."""
    if min(small.shape) < 2 * SMOOTH or not _any(small):
        return
    good = np.where(np.isfinite(small), small, np.nanmedian(small))
    rows, columns = (np.array_split(np.arange(n), SMOOTH) for n in good.shape)
    wide = np.array([[np.median(good[np.ix_(y, x)]) for x in columns] for y in rows])
    low, high = float(wide.min()), float(wide.max())
    yield pictures.picture(
        "Illumination",
        f"Medians of large areas, {low:.4f} (black) to {high:.4f} (white). Good: a smooth hill "
        "with its top near the middle; a second hill, or an edge that is none of amplifiers, is "
        "stray light.",
        pictures.enlarged(pictures.grey(wide, (low, high)), 384),
    )
    places = [np.array([float(part.mean()) for part in parts]) for parts in (rows, columns)]
    up = _stretched(wide, places[0], good.shape[0])
    smooth = _stretched(up.T, places[1], good.shape[1]).T
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(smooth > 0, small / smooth, np.nan)
    yield pictures.picture(
        "Dust",
        "The flat over its illumination, 0.97 (black) to 1.03 (white). Good: rings of dust that "
        "other flats of the night have, too.",
        pictures.enlarged(pictures.grey(ratio, (0.97, 1.03)), max(small.shape)),
    )


def _stretched(plane: NDArray[Any], places: NDArray[Any], size: int) -> NDArray[Any]:
    """Interpolate rows that stand at some places to rows 0, 1, ..., size - 1."""
    to = np.arange(size)
    return np.stack([np.interp(to, places, column) for column in plane.T], axis=1)


def power_spectrum(master: Master) -> Picture | None:
    """Show the waves in the middle of a bias or dark."""
    frame = master.planes["data"]
    size = min(SPECTRUM, *frame.shape) // 2 * 2
    if size < 32:
        return None
    y0, x0 = ((n - size) // 2 for n in frame.shape)
    part = fits.read_rows(frame, y0, y0 + size)[:, x0 : x0 + size].astype(np.float64)
    middle = float(np.nanmedian(part)) if _any(part) else 0.0
    sigma = MAD_TO_SIGMA * float(np.nanmedian(np.abs(part - middle))) if _any(part) else 0.0
    part = np.clip(np.nan_to_num(part - middle), -5 * sigma, 5 * sigma)
    window = np.hanning(size)
    power = np.abs(np.fft.fftshift(np.fft.fft2(part * window[:, None] * window))) ** 2
    if not power.max() > 0:
        return None
    drawn = np.log10(power + 1e-12 * power.max())
    block = max(1, size // 256)
    drawn = drawn.reshape(size // block, block, size // block, block).mean(axis=(1, 3))
    low, high = np.percentile(drawn, (1, 99.9))
    return pictures.picture(
        "Power spectrum",
        "The logarithm of the power in the middle of the master, slow waves in the centre. Good: "
        "even grey with a bright centre; dots are pickup of one frequency, a bright line across "
        "is structure of columns or rows.",
        pictures.enlarged(pictures.grey(drawn, (float(low), float(high))), 384),
    )


def change_picture(
    master: Master, previous: Master, found: Comparison, size: int
) -> Picture | None:
    """Show what differs from the previous master."""
    planes = (master.planes, previous.planes)
    ratio = master.kind == "flat"

    def pick(data: Any, mask: Any, other: Any, masked: Any) -> NDArray[Any]:
        a, b = pictures.mean_of_good(data, mask), pictures.mean_of_good(other, masked)
        return np.divide(a, b, out=np.full(a.shape, np.nan), where=b > 0) if ratio else a - b

    frames = tuple(plane[name] for plane in planes for name in ("data", "mask"))
    try:
        small = pictures.shrink(frames, size, pick)
    except FrameError:
        return None
    low, high = pictures.zscale(small)
    what = "Ratio to" if ratio else "Difference from"
    return pictures.picture(
        f"{what} the previous master",
        f"Over {previous.name}: {number(low)} (black) to {number(high)} (white); median "
        f"{number(found.shift)}, {percent(found.changed)} of the pixels more than 6\u03c3 off. "
        "Good: noise without structure; rings are dust that moved, a slope is other light.",
        pictures.enlarged(pictures.grey(small, (low, high)), size),
    )
