"""ESO's cards of several outputs that read one image: which of its parts is whose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple

from masterframe.inventory.reading import GAIN_RANGE
from masterframe.matching import number
from masterframe.model import AmplifierRule, Header, Section

MOST = 2
"""Outputs beside or above each other whose corners tell in which direction they read."""


class _Axis(NamedTuple):
    """One axis of what an output reads (binned pixels)."""

    corner: int
    """Where the output is."""
    prescan: int
    data: int
    overscan: int

    @property
    def size(self) -> int:
        return self.prescan + self.data + self.overscan


def eso_outputs(header: Header, shape: tuple[int, int]) -> list[AmplifierRule]:
    """Return the amplifiers of an image that ``ESO DET OUT1``, ``OUT2``, ... describe.

    Two read from the left and the right, or from below and above; four from the corners. What is
    read first, the prescan, lies at the side of the output.

    Parameters
    ----------
    header : mapping
        Cards of the image.
    shape : tuple of int
        Rows and columns of the raw image.

    Returns
    -------
    list of AmplifierRule
        Empty where there are not several outputs, or where they do not add up to the image.
    """
    count = int(number(header.get("ESO DET OUTPUTS")) or 1)
    if not 1 < count <= MOST**2:
        return []
    read = [_output(header, index) for index in range(1, count + 1)]
    outputs = [output for output in read if output is not None]
    rows, columns = (
        _spans([output[axis] for output in outputs], size)
        for axis, size in zip("yx", shape, strict=True)
    )
    if len(outputs) < count or not (rows and columns) or len(rows) * len(columns) != count:
        return []
    if len({(output["y"].corner, output["x"].corner) for output in outputs}) < count:
        return []
    return [
        _rule(header, index, output, rows[output["y"].corner], columns[output["x"].corner])
        for index, output in enumerate(outputs, start=1)
    ]


def _output(header: Header, index: int) -> dict[str, _Axis] | None:
    """Return both axes of an output; None where a card is missing."""
    axes = {}
    for axis in "XY":
        keys = (f"{axis}", f"PRSC{axis}", f"N{axis}", f"OVSC{axis}")
        found = [number(header.get(f"ESO DET OUT{index} {key}")) for key in keys]
        values = [int(value) for value in found if value is not None]
        if len(values) < len(keys) or min(values) < 0 or not values[2]:
            return None
        axes[axis.lower()] = _Axis(*values)
    return axes


class _Span(NamedTuple):
    """Pixels along one axis that outputs of one corner read."""

    start: int
    """The first."""
    backwards: bool
    """Whether they are read from the high end."""


def _spans(axes: Sequence[_Axis], size: int) -> dict[int, _Span]:
    """Return what outputs read along one axis by their corner; nothing where it does not add up."""
    corners = sorted({axis.corner for axis in axes})
    sizes = {axis.corner: axis.size for axis in axes}
    alike = all(axis.size == sizes[axis.corner] for axis in axes)
    if not alike or len(corners) > MOST or sum(sizes.values()) != size:
        return {}
    starts = accumulate((sizes[corner] for corner in corners[:-1]), initial=0)
    return {
        corner: _Span(start, number > 0 or (len(corners) == 1 and corner > 1))
        for number, (corner, start) in enumerate(zip(corners, starts, strict=True))
    }


def _rule(
    header: Header, index: int, output: Mapping[str, _Axis], rows: _Span, columns: _Span
) -> AmplifierRule:
    """Return an output as an amplifier; the larger strip beside its data is its overscan."""
    across, along = output["x"], output["y"]
    x0, x1 = _data(across, columns)
    y0, y1 = _data(along, rows)
    behind = across.overscan >= across.prescan
    at_end = behind != columns.backwards
    strip = (x1, columns.start + across.size) if at_end else (columns.start, x0)
    gain = number(header.get(f"ESO DET OUT{index} CONAD"))
    noise = number(header.get(f"ESO DET OUT{index} RON"))
    name = f"ESO DET OUT{index}"
    data = Section(y0, y1, x0, x1)
    overscan = Section(rows.start, rows.start + along.size, *strip)
    return AmplifierRule(
        data=f"{name} {data.to_fits()}",
        overscan=f"{name} {overscan.to_fits()}" if overscan.shape[1] else "",
        gain=gain if gain and GAIN_RANGE[0] <= gain <= GAIN_RANGE[1] else None,
        read_noise=noise if noise and noise > 0 else None,
    )


def _data(axis: _Axis, span: _Span) -> tuple[int, int]:
    """Return the first pixel of the data along an axis, and the one after the last."""
    start = span.start + (axis.overscan if span.backwards else axis.prescan)
    return start, start + axis.data
