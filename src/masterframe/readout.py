"""Several amplifiers that read one image: which columns and rows are whose, raw and kept.

The kept image is made of strips, side by side: neighbouring columns that one amplifier reads, or
several above each other.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from masterframe.model import Amplifier, Calibration, Noise, Section


class Strip(NamedTuple):
    """Columns that are read alike."""

    raw: slice
    """Its columns in the raw image."""
    kept: slice
    """Its columns in the kept image."""
    amplifiers: tuple[Amplifier, ...]
    """What reads it, from the lowest row up."""


def strips(amplifiers: Sequence[Amplifier]) -> list[Strip]:
    """Return the strips of an image from left to right."""
    stacks: dict[tuple[int, int], list[Amplifier]] = defaultdict(list)
    for amplifier in amplifiers:
        stacks[amplifier.data.x0, amplifier.data.x1].append(amplifier)
    found, first = [], 0
    for (x0, x1), members in sorted(stacks.items()):
        ordered = tuple(sorted(members, key=lambda one: one.data.y0))
        found.append(Strip(slice(x0, x1), slice(first, first + x1 - x0), ordered))
        first += x1 - x0
    return found


def strip_of(amplifiers: Sequence[Amplifier], columns: slice) -> Strip:
    """Return the strip that lies in some columns of the kept image."""
    (found,) = (one for one in strips(amplifiers) if one.kept == columns)
    return found


def kept_columns(calibration: Calibration, width: int) -> NDArray[np.intp]:
    """Return the columns of raw frames so wide that are kept, in the order in which they are."""
    columns = np.arange(width)
    if calibration.amplifiers:
        return np.concatenate([columns[strip.raw] for strip in strips(calibration.amplifiers)])
    trim = calibration.trim
    return columns[trim.x0 : trim.x1] if trim else columns


def trim_columns(block: NDArray[Any], calibration: Calibration) -> NDArray[Any]:
    """Return what is kept of raw rows (..., columns) after trimming; a view where it can be."""
    trim = calibration.trim
    if trim is None:
        return block
    if calibration.kept_shape(trim.shape) == trim.shape:
        return block[..., trim.x0 : trim.x1]
    parts = [block[..., strip.raw] for strip in strips(calibration.amplifiers)]
    return np.concatenate(parts, axis=-1)


def places(amplifiers: Sequence[Amplifier]) -> dict[Section, Section]:
    """Return where the data of each amplifier are in the kept image, by their place in the raw."""
    found = {}
    for strip in strips(amplifiers):
        bottom = strip.amplifiers[0].data.y0
        for one in strip.amplifiers:
            rows = one.data.y0 - bottom, one.data.y1 - bottom
            found[one.data] = Section(*rows, strip.kept.start, strip.kept.stop)
    return found


def why_not(amplifiers: Sequence[Amplifier]) -> str:
    """Return why amplifiers do not make one image; '' where they do."""
    found = strips(amplifiers)
    for left, right in pairwise(found):
        if right.raw.start < left.raw.stop:
            return "their columns overlap in part"
    rows = {(strip.amplifiers[0].data.y0, strip.amplifiers[-1].data.y1) for strip in found}
    if len(rows) > 1:
        return "they do not cover the same rows"
    for strip in found:
        for lower, upper in pairwise(strip.amplifiers):
            if upper.data.y0 != lower.data.y1:
                return "rows between them are read by none or by two"
    if len({one.overscan is None for one in amplifiers}) > 1:
        return "some have an overscan and others none"
    by_columns = [one.by_columns for one in amplifiers]
    if any(by_columns) and not all(by_columns):
        return "some have their overscan beside the data, others above or below"
    if any(by_columns) and any(len(strip.amplifiers) > 1 for strip in found):
        return "they read columns in parts, so that no overscan has a level for a whole column"
    return ""


def span(amplifiers: Sequence[Amplifier]) -> Section:
    """Return the smallest section that holds what all amplifiers keep."""
    return Section.spanning([one.data for one in amplifiers])


def row_parts(strip: Strip, rows: range, noise: Noise) -> list[tuple[slice, Noise]]:
    """Return which of some rows have which noise: together where the amplifiers are alike.

    Parameters
    ----------
    strip : Strip
        Whose rows.
    rows : range
        Raw rows without a step.
    noise : Noise
        Its gain and read noise hold where an amplifier does not know its own.
    """
    found: list[tuple[slice, Noise]] = []
    for one in strip.amplifiers:
        first, last = max(one.data.y0, rows.start), min(one.data.y1, rows.stop)
        if first >= last:
            continue
        part, own = slice(first - rows.start, last - rows.start), noise_of(one, noise)
        if found and found[-1][1] == own:
            part = slice(found.pop()[0].start, part.stop)
        found.append((part, own))
    return found


def noise_of(amplifier: Amplifier, noise: Noise) -> Noise:
    """Return the noise of what an amplifier reads."""
    known = amplifier.gain is not None and amplifier.read_noise is not None
    if not known:
        return noise
    return Noise(noise.floor, noise.step, amplifier.gain, amplifier.read_noise)
