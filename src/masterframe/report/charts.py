"""Charts as plain data: where axes, ticks, curves and points of a picture lie, in its own units.

`page.html` draws them as SVG, whose colours follow the page; nothing here is markup.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

WIDTH, HEIGHT = 400.0, 250.0
LEFT, RIGHT, TOP, BOTTOM = 68.0, 18.0, 10.0, 46.0
TICKS = 5
FINE = 2.5
"""Powers of ten up to which a logarithmic axis has ticks between them."""
LARGEST = 300.0
"""Powers of ten that a float can hold."""
WHOLE = 1e7
"""Numbers below this are written out to the last digit before the point."""
BESIDE = 6.9
"""Width of a digit of a tick, about."""
ABOVE = 17.0
"""Least distance of ticks above each other."""
SUPERSCRIPTS = "\u207b\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079"
_RAISED = str.maketrans("-0123456789", SUPERSCRIPTS)
MOST_POINTS = 1200
"""Points of a curve that a picture of this size can show."""

Form = Literal["line", "points", "crosses", "steps", "bars", "band"]
Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Series:
    """Something that is drawn."""

    x: Values
    y: Values
    form: Form = "line"
    """How."""
    label: str = ""
    """What it is, for the legend; '' for none."""
    tone: str = "main"
    """main, second, third, quiet, good, bad: colours of the page."""
    low: Values | None = None
    """Lower edge of a band, whose upper edge is y."""


@dataclass(frozen=True, slots=True)
class Axis:
    """What runs along one side."""

    label: str
    """Quantity and unit."""
    log: bool = False
    low: float | None = None
    """Least value; None leaves it to the data."""
    high: float | None = None
    times: bool = False
    """Values are seconds since 1970."""


@dataclass(frozen=True, slots=True)
class Tick:
    """A labelled place of an axis."""

    at: float
    text: str


@dataclass(frozen=True, slots=True)
class Mark:
    """One series as SVG has it."""

    path: str
    form: Form
    tone: str
    label: str


@dataclass(frozen=True, slots=True)
class Chart:
    """A picture of axes and series."""

    title: str
    caption: str
    """What it shows, and what good looks like."""
    x_label: str
    y_label: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    marks: tuple[Mark, ...]
    summary: str
    """What a reader who cannot see it needs to know."""

    is_chart = True
    width, height = WIDTH, HEIGHT
    left, top = LEFT, TOP
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM


def draw(
    title: str,
    caption: str,
    series: Sequence[Series],
    x: Axis,
    y: Axis,
    summary: str = "",
) -> Chart | None:
    """Return a chart; None where there is nothing to draw."""
    kept = [_finite(item, x, y) for item in series]
    kept = [item for item in kept if item.x.size]
    if not kept:
        return None
    across = _Scale.of(x, [item.x for item in kept], LEFT, WIDTH - RIGHT)
    heights = [edge for item in kept for edge in (item.y, item.low) if edge is not None]
    up = _Scale.of(y, heights, HEIGHT - BOTTOM, TOP)
    return Chart(
        title=title,
        caption=caption,
        x_label=x.label,
        y_label=y.label,
        x_ticks=across.ticks(),
        y_ticks=up.ticks(),
        marks=tuple(_mark(item, across, up) for item in kept),
        summary=summary or caption,
    )


def _finite(item: Series, x: Axis, y: Axis) -> Series:
    good = np.isfinite(item.x) & np.isfinite(item.y)
    if item.low is not None:
        good &= np.isfinite(item.low)
    if x.log:
        good &= item.x > 0
    if y.log or item.form == "bars":
        good &= item.y > 0
    low = None if item.low is None else item.low[good]
    return Series(item.x[good], item.y[good], item.form, item.label, item.tone, low)


def number(value: float | None, digits: int = 4) -> str:
    """Return a number as people read it, with some digits; a dash for none."""
    if value is None or not math.isfinite(value):
        return "\u2013"
    # nobody reads 6.554e+04
    text = f"{value:.0f}" if 10**digits <= abs(value) < WHOLE else f"{value:.{digits}g}"
    plain, _, power = text.partition("e")
    plain = plain.replace("-", "\u2212")
    if not power:
        return plain
    return f"{plain}\u00d710{str(int(power)).translate(_RAISED)}"


def percent(value: float | None) -> str:
    """Return a fraction in per cent; a dash for none."""
    if value is None or not math.isfinite(value):
        return "\u2013"
    return f"{number(100 * value, 3)} %"


def values(given: ArrayLike) -> Values:
    """Return numbers as a series takes them; None becomes NaN."""
    return np.asarray(given, dtype=np.float64)


@dataclass(frozen=True, slots=True)
class _Scale:
    """From values to the units of the picture."""

    low: float
    high: float
    start: float
    end: float
    axis: Axis

    @classmethod
    def of(cls, axis: Axis, given: Sequence[Values], start: float, end: float) -> _Scale:
        low = min(float(part.min()) for part in given) if axis.low is None else axis.low
        high = max(float(part.max()) for part in given) if axis.high is None else axis.high
        if axis.log:
            low, high = math.log10(max(low, 1e-300)), math.log10(max(high, 1e-300))
        span = high - low
        if span <= 1e-9 * max(abs(low), abs(high), 1e-30):
            half = max(abs(low) * 0.05, 0.5 if axis.log or low == 0 else 0.0) or 0.5
            low, high, span = low - half, high + half, 2 * half
        if axis.low is None:
            low -= 0.04 * span
        if axis.high is None:
            high += 0.06 * span
        if axis.log:
            low, high = max(low, -LARGEST), min(high, LARGEST)
        return cls(low, high, start, end, axis)

    def at(self, given: Values) -> Values:
        """Return where values lie; those beyond the ends are put just outside."""
        if self.axis.log:
            given = np.log10(np.maximum(given, 1e-300))
        part = np.clip((given - self.low) / (self.high - self.low), -0.02, 1.02)
        return self.start + part * (self.end - self.start)

    def ticks(self) -> tuple[Tick, ...]:
        if self.axis.times:
            return self._times()
        if self.axis.log and self.high - self.low >= 1.5:
            return self._powers()
        low, high = (10**self.low, 10**self.high) if self.axis.log else (self.low, self.high)
        step = _nice((high - low) / TICKS)
        first = math.ceil(low / step)
        places = [step * k for k in range(first, math.floor(high / step) + 1)]
        digits = max(0, -math.floor(math.log10(step) + 1e-9))
        return self._apart([self._tick(place, _text(place, digits)) for place in places])

    def _apart(self, ticks: Sequence[Tick]) -> tuple[Tick, ...]:
        """Return the ticks whose texts do not touch the one before; a logarithm crowds the last."""
        kept: list[Tick] = []
        for tick in ticks:
            beside = BESIDE * (len(tick.text) + 1)
            room = beside if self.end > self.start else ABOVE
            if not kept or abs(tick.at - kept[-1].at) >= room:
                kept.append(tick)
        return tuple(kept)

    def _powers(self) -> tuple[Tick, ...]:
        if self.high - self.low < FINE:
            decades = range(math.floor(self.low), math.ceil(self.high) + 1)
            places = [n * 10.0**k for k in decades for n in (1, 2, 5)]
            within = [x for x in places if self.low <= math.log10(x) <= self.high]
            return self._apart([self._tick(x, _plain(x)) for x in within])
        first, last = math.ceil(self.low), math.floor(self.high)
        every = max(1, (last - first) // TICKS)
        return tuple(self._tick(10.0**k, _power(k)) for k in range(first, last + 1, every))

    def _times(self) -> tuple[Tick, ...]:
        span = self.high - self.low
        minutes = (1, 2, 5, 10, 15, 30, 60, 120, 240, 360, 720)
        steps = (1, 2, 5, 10, 15, 30, *(60 * m for m in minutes))
        step = next((s for s in steps if span / s <= TICKS), 86400 * _nice(span / TICKS / 86400))
        step = max(step, 86400 * math.ceil(step / 86400)) if step > 43200 else step
        places = np.arange(math.ceil(self.low / step), math.floor(self.high / step) + 1) * step
        kind = "s" if step < 60 else "m" if step < 86400 else "D"
        return tuple(self._tick(float(t), _clock(float(t), kind)) for t in places)

    def _tick(self, place: float, text: str) -> Tick:
        return Tick(round(float(self.at(np.array([place]))[0]), 1), text)


def _clock(seconds: float, kind: str) -> str:
    moment = str(np.datetime64(int(seconds), "s"))
    return {"s": moment[11:19], "m": moment[11:16], "D": moment[5:10]}[kind]


def _nice(step: float) -> float:
    """Return the next number of 1, 2, 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(n * power for n in (1, 2, 5, 10) if n * power >= step * (1 - 1e-9))


def _text(value: float, digits: int) -> str:
    if value and (abs(value) >= 1e6 or digits > 4):
        return f"{value:.1e}".replace("e-0", "e-").replace("e+0", "e").replace("-", "\u2212")
    return f"{value + 0.0:.{digits}f}".replace("-", "\u2212")


def _plain(value: float) -> str:
    """Return one, two or five times a power of ten."""
    return f"{value:g}" if 1e-4 < value < 1e5 else number(value)


def _power(exponent: int) -> str:
    if -3 <= exponent <= 4:
        return f"{10.0**exponent:g}"
    return "10" + str(exponent).translate(_RAISED)


def _mark(item: Series, across: _Scale, up: _Scale) -> Mark:
    x, y = across.at(item.x), up.at(item.y)
    match item.form:
        case "points" | "crosses":
            path = _dots(x, y) if item.form == "points" else _crosses(x, y)
        case "bars":
            base = min(float(up.at(np.array([max(up.axis.low or 0.0, 0.0)]))[0]), HEIGHT - BOTTOM)
            path = "".join(f"M{a:.1f} {base:.1f}V{b:.1f}" for a, b in zip(x, y, strict=True))
        case "steps":
            path = _steps(x, y)
        case "band":
            low = up.at(item.low if item.low is not None else item.y)
            there = _polyline(x, y)
            back = _polyline(x[::-1], low[::-1]).replace("M", "L", 1)
            path = f"{there}{back}Z"
        case _:
            path = _polyline(*_thinned(x, y))
    return Mark(path, item.form, item.tone, item.label)


def _dots(x: Values, y: Values) -> str:
    """Return points as lines of no length, which round caps make visible; each place once."""
    places = dict.fromkeys(f"M{a:.1f} {b:.1f}h0" for a, b in zip(x, y, strict=True))
    return "".join(places)


def _crosses(x: Values, y: Values) -> str:
    arms = "l7 7m-7 0l7-7"
    return "".join(f"M{a - 3.5:.1f} {b - 3.5:.1f}{arms}" for a, b in zip(x, y, strict=True))


def _polyline(x: Values, y: Values) -> str:
    return "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in zip(x, y, strict=True))


def _steps(x: Values, y: Values) -> str:
    """Return a histogram: x are the middles of its bins, of which those without pixels are missing.

    It is not drawn across a gap.
    """
    width = float(np.diff(x).min()) if x.size > 1 else 4.0
    parts = []
    for k, (a, b) in enumerate(zip(x.tolist(), y.tolist(), strict=True)):
        follows = k > 0 and a - float(x[k - 1]) < 1.5 * width
        parts.append(f"{'L' if follows else 'M'}{a - width / 2:.1f} {b:.1f}H{a + width / 2:.1f}")
    return "".join(parts)


def _thinned(x: Values, y: Values) -> tuple[Values, Values]:
    """Return a curve with its extremes in as many places as can be told apart."""
    if x.size <= MOST_POINTS:
        return x, y
    edges = np.linspace(0, x.size, MOST_POINTS // 2 + 1).astype(int)
    chosen: list[Any] = []
    for a, b in pairwise(edges):
        part = y[a:b]
        chosen += sorted({a + int(part.argmin()), a + int(part.argmax())})
    return x[chosen], y[chosen]
