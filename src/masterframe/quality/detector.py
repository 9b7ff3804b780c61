"""What masters tell of the detector: read noise, gain, dark current, hot and dead pixels.

Nothing is read but the tables of the masters: the noise of pixels of each frame is there, with the
light of these pixels (`masterframe.quality.transfer`). What is the same in all frames, structure of
the bias and sensitivity from pixel to pixel, is in none of it. This is the photon transfer of pairs
of frames, with all pairs at once. Where frames were not tested before they were combined, the
scatter of each about the result stands for it, with all that wanders between them.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from masterframe.fits.tables import InputRow
from masterframe.quality.acceptance import MEDIAN_EFFICIENCY
from masterframe.quality.archive import Master
from masterframe.quality.transfer import alone

WIDE = 1.5
"""Ratio of the brightest to the faintest flat from which their slope tells the gain by itself."""
AGREE = 0.1
"""Measured and given numbers that differ by more than this fraction are worth a word."""


@dataclass(frozen=True, slots=True)
class Point:
    """One flat in the photon transfer."""

    path: str
    """Its file."""
    signal: float
    """Mean of its pixels above bias (adu)."""
    variance: float
    """Variance of one pixel (adu^2)."""


@dataclass(frozen=True, slots=True)
class DarkLevel:
    """The dark current of one master."""

    master: str
    """Its name."""
    exptime: float
    """Exposure time (s)."""
    level: float
    """Median (adu)."""


@dataclass(frozen=True, slots=True)
class AmplifierNumbers:
    """Numbers of one of several amplifiers that read an image."""

    section: str
    """Raw pixels that it reads, as FITS writes them."""
    gain: float | None
    """Electrons per adu, from the photon transfer of its pixels."""
    gain_given: float | None
    """The same as header or configuration have it."""
    read_noise: float | None
    """Noise of one read from bias frames (unit of the detector's)."""
    read_noise_given: float | None
    """The same as header or configuration have it (electrons)."""


@dataclass(frozen=True, slots=True)
class Detector:
    """Numbers of one detector, or of one amplifier where each has an image of its own."""

    name: str
    """The master that it is named by: of the bias, else of a flat or dark."""
    extension: str
    """Image of it; '' where there is one."""
    gain: float | None
    """Electrons per adu, from the photon transfer."""
    gain_given: float | None
    """The same as header or configuration have it."""
    read_noise: float | None
    """Noise of one read from bias frames (electrons; adu where no gain is known)."""
    read_noise_overscan: float | None
    """The same from the overscan."""
    read_noise_given: float | None
    """The same as header or configuration have it (electrons)."""
    unit: str
    """Unit of the read noises that were measured: e- or adu."""
    slope_gain: float | None
    """Gain from the slope of the photon transfer alone, where the flats differ enough."""
    nonlinearity: float | None
    """Largest deviation of the flats' level from proportion to exposure time, where these differ;
    a lamp that drifts shows in it, too."""
    points: tuple[Point, ...]
    """The photon transfer."""
    darks: tuple[DarkLevel, ...]
    """Level of each master dark that is counted from the bias."""
    dark_current: float | None
    """Electrons (or adu) per second and pixel: the slope over the exposure times, or one ratio."""
    hot: float | None
    """Hot pixels of the dark with the most."""
    dead: float | None
    """Insensitive pixels of the flat with the most."""
    notes: tuple[str, ...]
    """Where measured and given numbers do not agree."""
    amplifiers: tuple[AmplifierNumbers, ...] = ()
    """Each of them, where several read the image."""


def measure_detectors(masters: Sequence[Master]) -> list[Detector]:
    """Return the numbers of every detector among some masters.

    A flat or dark belongs with the bias that was taken from its frames.
    """
    groups: dict[tuple[str, str], list[Master]] = {}
    for master in masters:
        if master.kind in ("bias", "dark", "flat"):
            groups.setdefault((_bias_of(master, masters), master.extension), []).append(master)
    return [_measure(name, extension, those) for (name, extension), those in groups.items()]


def _bias_of(master: Master, masters: Sequence[Master]) -> str:
    """Return the name of the bias that a master stands upon; its own where there is none."""
    if master.kind == "bias":
        return master.name
    names = {item.path: item for item in masters}
    for operand in (master.record.bias, master.record.dark):
        if operand is None:
            continue
        other = names.get(operand.path)
        if other is not None:
            return _bias_of(other, masters)
    return master.name


def frame_variances(rows: Sequence[InputRow]) -> list[float]:
    """Return the variance of each frame about the truth (combined unit), from those about the mean.

    NaN for fewer than two frames.
    """
    return alone([math.nan if row.noise is None else row.noise**2 for row in rows])


def _pixel_variances(master: Master) -> list[tuple[float, float]]:
    """Return the variance of one pixel of each frame (adu^2) and its signal; NaN if not known."""
    if _tells_pixels(master):
        return [(row.pixelnoise**2, row.pixelsignal) for row in master.rows]  # type: ignore[operator, misc]
    norm, mean = master.numbers.get("norm", 1.0), master.numbers.get("mean", 1.0)
    return [
        (variance / row.scale**2, norm * mean / row.scale)
        if row.scale > 0
        else (math.nan, math.nan)
        for row, variance in zip(master.rows, frame_variances(master.rows), strict=True)
    ]


def _tells_pixels(master: Master) -> bool:
    """Return whether the noise of pixels was measured of every frame."""
    return all(None not in (row.pixelnoise, row.pixelsignal) for row in master.rows)


def _measure(name: str, extension: str, masters: Sequence[Master]) -> Detector:
    kinds: dict[str, list[Master]] = {"bias": [], "dark": [], "flat": []}
    for master in masters:
        kinds[master.kind].append(master)
    noise = masters[0].record.recipe.noise
    bias = next(iter(kinds["bias"]), None)
    read_adu = _read_noise(bias) if bias else math.nan
    over_adu = _overscan_noise(masters)
    floor = next(
        (x for x in (read_adu, over_adu, _dark_noise(kinds["dark"])) if math.isfinite(x)), math.nan
    )
    if not math.isfinite(floor) and noise.gain and noise.read_noise is not None:
        floor = noise.read_noise / noise.gain
    points = [point for flat in kinds["flat"] for point in _points(flat)]
    gain = _gain(points, floor, kinds["flat"])
    known = gain if gain is not None else noise.gain
    above = [item for item in kinds["dark"] if item.record.bias and not item.record.dark_holds_bias]
    darks = sorted((_dark(item) for item in above), key=lambda item: item.exptime)
    factor = known or 1.0
    found = Detector(
        name=name,
        extension=extension,
        gain=gain,
        gain_given=noise.gain,
        read_noise=_finite(read_adu * factor),
        read_noise_overscan=_finite(over_adu * factor),
        read_noise_given=noise.read_noise,
        unit="e-" if known else "adu",
        slope_gain=_slope_gain(points),
        nonlinearity=_nonlinearity(kinds["flat"]),
        points=tuple(points),
        darks=tuple(darks),
        dark_current=_dark_current(darks, factor),
        hot=max((item.numbers.get("nhot", 0.0) for item in kinds["dark"]), default=None),
        dead=max((item.numbers.get("nflatlow", 0.0) for item in kinds["flat"]), default=None),
        notes=(),
        amplifiers=tuple(_amplifiers(masters[0], bias, kinds["flat"])),
    )
    return _with_notes(found)


def _amplifiers(
    master: Master, bias: Master | None, flats: Sequence[Master]
) -> Iterator[AmplifierNumbers]:
    """Yield the numbers of each amplifier of an image."""
    rounding = master.record.recipe.noise.step**2 / 12
    for number, one in enumerate(master.record.amplifiers, start=1):
        noise = bias.numbers.get(f"ampnoise{number}", math.nan) if bias else math.nan
        read = math.sqrt(max(noise**2 - rounding, 0.0)) if math.isfinite(noise) else math.nan
        floor = read**2 if math.isfinite(read) else 0.0
        inverse = [
            (own[f"ampnoise{number}"] ** 2 - floor - rounding) / own[f"ampsignal{number}"]
            for own in (flat.numbers for flat in flats)
            if own.get(f"ampsignal{number}", 0.0) > 0
        ]
        middle = statistics.median(inverse) if inverse else math.nan
        gain = 1 / middle if middle > 0 else None
        yield AmplifierNumbers(
            section=one.data.to_fits(),
            gain=gain,
            gain_given=one.gain,
            read_noise=_finite(read * (gain or one.gain or 1.0)),
            read_noise_given=one.read_noise,
        )


def _with_notes(found: Detector) -> Detector:
    """Say where measured and given numbers differ: of each amplifier, where there are several."""
    notes = []
    for own in found.amplifiers or (found,):
        where = f"amplifier {own.section}: " if isinstance(own, AmplifierNumbers) else ""
        pairs = [("gain", own.gain, own.gain_given, "e-/adu")]
        if found.unit == "e-":
            pairs.append(("read noise", own.read_noise, own.read_noise_given, "e-"))
        notes += [
            f"{where}{what} measured as {measured:.3g} {unit}, given as {given:.3g}"
            for what, measured, given, unit in pairs
            if measured is not None and given and abs(measured / given - 1) > AGREE
        ]
    return replace(found, notes=tuple(notes))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _read_noise(bias: Master) -> float:
    """Return the noise of one read (adu): without that of the overscan's level, and of rounding."""
    variances = [value for value, _ in _pixel_variances(bias) if math.isfinite(value)]
    if not variances:
        return math.nan
    share = _level_share(bias)
    step = bias.record.recipe.noise.step
    variance = statistics.median(variances) / (1 + share) - step**2 / 12
    return math.sqrt(max(variance, 0.0))


def _dark_noise(darks: Sequence[Master]) -> float:
    """Return the noise of a pixel of the darks that flats without a bias stand upon (adu)."""
    return min(filter(math.isfinite, map(_read_noise, darks)), default=math.nan)


def _level_share(master: Master) -> float:
    """Return the variance of the level of a row over that of a pixel: of a median or a mean.

    0 where none was taken off, and beside neighbours, which share it.
    """
    record = master.record
    if _tells_pixels(master) or not record.overscans or record.overscan_model.is_curve:
        return 0.0
    across = 0 if record.by_columns else 1
    count = min(section.shape[across] for section in record.overscans)
    return (1.0 if record.overscan_model.method == "mean" else MEDIAN_EFFICIENCY) / count


def _overscan_noise(masters: Sequence[Master]) -> float:
    steps = masters[0].record.recipe.noise.step
    biases = [item for item in masters if item.kind == "bias"] or masters  # light leaves traces
    found = [item.numbers["oscnoise"] for item in biases if "oscnoise" in item.numbers]
    if not found:
        return math.nan
    return math.sqrt(max(statistics.median(found) ** 2 - steps**2 / 12, 0.0))


def _points(flat: Master) -> list[Point]:
    """Return signal and variance (adu) of the frames of a flat."""
    return [
        Point(row.path, signal, variance)
        for row, (variance, signal) in zip(flat.rows, _pixel_variances(flat), strict=True)
        if math.isfinite(variance) and signal > 0 and row.kept
    ]


def _gain(points: Sequence[Point], floor: float, flats: Sequence[Master]) -> float | None:
    """Return electrons per adu from the variance above that of the read noise.

    Where the read noise is not known it counts as nothing, which a bright flat allows.
    """
    if not points:
        return None
    share = _level_share(flats[0])
    read = floor**2 * (1 + share) if math.isfinite(floor) else 0.0
    step = flats[0].record.recipe.noise.step
    inverse = [(point.variance - read - step**2 / 12) / point.signal for point in points]
    middle = statistics.median(inverse)
    return 1 / middle if middle > 0 else None


def _slope_gain(points: Sequence[Point]) -> float | None:
    signals = [point.signal for point in points]
    if len(points) < 3 or min(signals) <= 0 or max(signals) < WIDE * min(signals):
        return None
    # every variance is known to the same fraction: weights go with its inverse square
    weights = [1 / point.variance for point in points if point.variance > 0]
    if len(weights) < len(points):
        return None
    slope, _ = np.polyfit(signals, [point.variance for point in points], 1, w=weights)
    return 1 / float(slope) if slope > 0 else None


def _nonlinearity(flats: Sequence[Master]) -> float | None:
    found = []
    for flat in flats:
        known = [(r.exptime, r.level) for r in flat.rows if r.exptime and r.level and r.level > 0]
        if len({exptime for exptime, _ in known}) > 1:
            rates = [level / exptime for exptime, level in known]
            middle = statistics.median(rates)
            found.append(max(abs(rate / middle - 1) for rate in rates))
    return max(found, default=None)


def _dark(master: Master) -> DarkLevel:
    times = [row.exptime for row in master.rows if row.exptime is not None]
    return DarkLevel(
        master=master.name,
        exptime=statistics.median(times) if times else math.nan,
        level=master.numbers["median"],
    )


def _dark_current(darks: Sequence[DarkLevel], factor: float) -> float | None:
    good = [dark for dark in darks if dark.exptime > 0 and math.isfinite(dark.level)]
    if len({dark.exptime for dark in good}) > 1:
        slope, _ = np.polyfit([d.exptime for d in good], [d.level for d in good], 1)
        return factor * float(slope)
    return factor * good[-1].level / good[-1].exptime if good else None
