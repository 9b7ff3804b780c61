"""The pictures of one master, each with a caption that says what good looks like."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from datetime import datetime
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from masterframe import fits, kernels
from masterframe.errors import FrameError
from masterframe.fits.tables import InputRow
from masterframe.quality.archive import Master, read_sample
from masterframe.quality.detector import Detector, frame_variances
from masterframe.quality.masters import (
    Comparison,
    are_off,
    deviations,
    line_medians,
    quantum_of,
)
from masterframe.quantiles import MAD_TO_SIGMA
from masterframe.report import pictures
from masterframe.report.charts import Axis, Chart, Series, draw, values
from masterframe.report.pictures import Picture
from masterframe.tiling import sample_rows

BINS = 160
ZOOM = 48
"""Rows and columns of the part that is enlarged."""
SPECTRUM = 512
"""Rows and columns whose power spectrum is drawn."""
SMOOTH = 24
"""Areas along each axis that show the illumination of a flat."""

Figure = Chart | Picture


def master_figures(
    master: Master, previous: tuple[Master, Comparison] | None, size: int
) -> list[Figure]:
    """Return the pictures of a master.

    Parameters
    ----------
    master : Master
        The master.
    previous : (Master, Comparison), optional
        The one before it.
    size : int
        Rows and columns of its thumbnails.
    """
    rows = sample_rows(master.planes["data"].shape[0])
    sample = read_sample(master, "data", rows)
    found: list[Figure | None] = [
        *_images(master, size),
        _histogram(master, sample),
        *_profiles(master, sample),
        _noise(master),
        _levels(master),
        _noises(master),
        _rejected(master),
        _kept(master, rows),
    ]
    if master.kind in ("bias", "dark"):
        found.append(_spectrum(master))
    if master.kind == "dark":
        found.append(_hot(master, sample))
    if previous:
        found.append(_change(master, previous[0], previous[1], size))
    return [figure for figure in found if figure is not None]


def _images(master: Master, size: int) -> Iterator[Figure | None]:
    planes = master.planes
    small = pictures.shrink((planes["data"], planes["mask"]), size, pictures.mean_of_good)
    low, high = pictures.zscale(small)
    unit = master.unit or "of its median"
    yield pictures.picture(
        "The master",
        f"zscale, {low:.5g} (black) to {high:.5g} (white) {unit}, binned to fit. Good: smooth, "
        "with no trail, no patch and no band that the detector does not always have.",
        pictures.enlarged(pictures.grey(small, (low, high)), size),
        name="data",
    )
    yield _zoom(master, small)
    yield _map(master, size)
    yield _mask(master, size)
    if master.kind == "flat":
        yield from _light(master, small)


def _zoom(master: Master, small: NDArray[Any]) -> Figure | None:
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


def _map(master: Master, size: int) -> Figure | None:
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


def _mask(master: Master, size: int) -> Figure | None:
    mask = pictures.shrink((master.planes["mask"],), size, lambda bits: bits.max(axis=(1, 3)))
    if not mask.any():
        return None
    share = master.numbers.get("maskedfraction", math.nan)
    return pictures.picture(
        "Masked pixels",
        f"White: {share:.3%} of the pixels are not to be used. Good: specks and the columns that "
        "are known to be bad.",
        pictures.enlarged(pictures.grey((mask > 0).astype(np.float64), (0.0, 1.0)), size),
    )


def _light(master: Master, small: NDArray[Any]) -> Iterator[Figure | None]:
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
        "with its top near the middle; an edge or a second hill is stray light.",
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


def _histogram(master: Master, sample: NDArray[Any]) -> Figure | None:
    good = sample[np.isfinite(sample)].astype(np.float64)
    if good.size < BINS:
        return None
    low, high = np.percentile(good, (0.1, 99.9))
    median, scatter = (
        float(np.median(good)),
        float(np.percentile(good, 84) - np.percentile(good, 16)) / 2,
    )
    span = max(high - low, 6 * scatter)
    edges = _bins(
        max(good.min(), low - span / 2),
        min(good.max(), high + span / 2),
        # the median of an even number of columns of an overscan may be half a step
        _quantum(master) * (0.5 if master.record.overscans else 1.0),
    )
    if edges.size < 3:
        return None
    counts, _ = np.histogram(good, edges)
    middle, width = (edges[1:] + edges[:-1]) / 2, edges[1] - edges[0]
    sigma = master.numbers.get("expected", math.nan)
    drawn = [Series(middle, values(np.where(counts > 0, counts, np.nan)), "steps", "pixels")]
    if sigma > 0:
        x = np.linspace(max(edges[0], median - 6 * sigma), min(edges[-1], median + 6 * sigma), 200)
        normal = np.exp(-0.5 * ((x - median) / sigma) ** 2) / (sigma * math.sqrt(2 * math.pi))
        expected = normal * good.size * width
        shown = np.where(expected >= 0.5, expected, np.nan)
        drawn.append(Series(values(x), values(shown), "line", "noise alone", "second"))
    return draw(
        "Values",
        "All values of every 16th row, and the Gaussian that the expected noise alone would give. "
        "Good: a narrow peak; what the peak is wider than the Gaussian is structure of the "
        "detector. Tails are hot or dead pixels; a comb is a converter that lacks numbers.",
        drawn,
        Axis(f"value{f' ({master.unit})' * bool(master.unit)}"),
        Axis("pixels", log=True, low=0.6),
        f"Median {median:.5g}, scatter {scatter:.3g}, expected noise {sigma:.3g}.",
    )


def _quantum(master: Master) -> float:
    """Return the smallest difference of two values of the master; 0 where it has none."""
    scale, norm = [row.scale for row in master.rows], master.numbers.get("norm", 1.0)
    return quantum_of(master.record.recipe, master.record.frames, scale, norm)


def _bins(low: float, high: float, quantum: float) -> NDArray[np.float64]:
    """Return the edges of about BINS bins, each of as many possible values as the others."""
    low, high = float(low), float(high)
    width = (high - low) / BINS
    if not width > 0:
        return np.zeros(0)
    if quantum > 0:
        width = math.ceil(width / quantum) * quantum
        low = math.floor(low / quantum) * quantum - quantum / 2
    return values(low + width * np.arange(math.ceil((high - low) / width) + 1))


def _profiles(master: Master, sample: NDArray[Any]) -> Iterator[Figure | None]:
    frame = master.planes["data"]
    step = max(1, frame.shape[1] // 1024)
    levels = [
        line_medians(_good_part(master, rows, step), axis=1) for rows in pictures.bands(frame)
    ]
    unit = f" ({master.unit})" * bool(master.unit)
    for name, profile in (
        ("column", line_medians(sample, axis=0)),
        ("row", np.concatenate(levels)),
    ):
        odd = are_off(deviations(profile, master.kind, _quantum(master)), master.kind)
        place = np.arange(1, profile.size + 1, dtype=np.float64)
        yield draw(
            f"Profile by {name}s",
            f"The median of every {name}; crosses are those that stand out from their neighbours. "
            "Good: flat or smooth; steps are edges of amplifiers, spikes are bad "
            f"{name}s.",
            [
                Series(place, profile, "line", f"{name} median"),
                Series(place[odd], profile[odd], "crosses", "stands out", "bad"),
            ],
            Axis(f"{name} (FITS pixel)", low=1.0, high=float(max(profile.size, 2))),
            Axis(f"median{unit}"),
            f"{int(odd.sum())} {name}s stand out.",
        )


def _good_part(master: Master, rows: tuple[int, int], step: int) -> NDArray[Any]:
    data, mask = (
        fits.read_rows(master.planes[name], *rows)[:, ::step] for name in ("data", "mask")
    )
    return np.where(mask == 0, data, np.nan)


def _unit_of(master: Master) -> tuple[float, str]:
    """Return the level by which a flat was divided, and the unit of numbers divided by it."""
    norm = master.numbers.get("norm", 1.0)
    return (norm if norm > 0 else 1.0), f" ({master.unit})" if master.unit else ""


def _noise(master: Master) -> Figure | None:
    """Draw noise against the number of frames: of one, of all, and the law between them."""
    norm, unit = _unit_of(master)
    n = len(master.rows)
    singles = np.sqrt(np.maximum(frame_variances(master.rows), 0)) / norm
    if n < 2 or not np.isfinite(singles).any():
        return None
    one = float(np.sqrt(np.nanmean(singles**2)))
    expected = master.numbers.get("expected", math.nan)
    half, typical = (master.numbers.get(name, math.nan) for name in ("noise", "typical"))
    law = values([1, n])
    drawn = [
        Series(law, one / np.sqrt(law), "line", "1/\u221aN from one frame", "quiet"),
        Series(values([1.0] * n), singles, "points", "each frame", "main"),
        Series(values([n]), values([half]), "crosses", "result, by halves", "second"),
        Series(values([n]), values([typical]), "points", "result, typical pixel", "second"),
    ]
    if expected > 0:
        line = expected * np.sqrt(n) / np.sqrt(law)
        drawn.insert(0, Series(law, line, "line", "expected", "third"))
    ratio = typical / expected if expected > 0 else math.nan
    return draw(
        "Noise against the number of frames",
        "One frame about the result, and the result itself: the difference of its even and odd "
        "halves, and the typical pixel. Good: on the line of 1/\u221aN. Above it the frames share "
        "noise, which no further frame takes away.",
        drawn,
        Axis("frames, N", log=True, low=0.8, high=n * 1.25),
        Axis(f"noise{unit}", log=True),
        f"One frame {one:.4g}, result {typical:.4g}, expected {expected:.4g}, ratio {ratio:.3f}.",
    )


def _moments(rows: Sequence[InputRow]) -> tuple[NDArray[np.float64], Axis]:
    """Return when frames were taken, or their numbers where that is not known."""
    try:
        found = [datetime.fromisoformat(row.date_obs).timestamp() for row in rows]
        # timestamps without a zone are UTC; the zone of the machine must not shift them
        zone = [datetime.fromisoformat(f"{row.date_obs}+00:00").timestamp() for row in rows]
        found = zone
    except ValueError:
        return np.arange(1.0, len(rows) + 1), Axis("frame")
    return values(found), Axis("start (UTC)", times=True)


def _levels(master: Master) -> Figure | None:
    rows = [*master.rows, *master.left_out]
    level = values([math.nan if row.level is None else row.level for row in rows])
    n = len(master.rows)
    if not np.isfinite(level[:n]).any():
        return None
    when, axis = _moments(rows)
    good = level[:n][np.isfinite(level[:n])]
    middle = float(np.median(good))
    reach = 3 * MAD_TO_SIGMA * float(np.median(np.abs(good - middle)))
    ends = values([when.min(), when.max()])
    flagged = np.array([row.status != "used" for row in master.rows], bool)
    return draw(
        "Level of each frame",
        "The median of each frame; the band is three robust sigmas about that of all, crosses were "
        "left out or flagged. Good: within the band. A ramp is a lamp that drifts, or twilight; "
        "one that is off has seen light or another temperature.",
        [
            Series(
                ends,
                values([middle + reach] * 2),
                "band",
                "\u00b13\u03c3",
                "quiet",
                values([middle - reach] * 2),
            ),
            Series(when[:n][~flagged], level[:n][~flagged], "points", "used"),
            Series(when[:n][flagged], level[:n][flagged], "points", "flagged", "bad"),
            Series(when[n:], level[n:], "crosses", "left out", "bad"),
        ],
        axis,
        Axis("level (adu)"),
        f"Median {middle:.5g} adu; {len(rows) - n} left out.",
    )


def _noises(master: Master) -> Figure | None:
    norm, unit = _unit_of(master)
    noise = values([math.nan if row.noise is None else row.noise for row in master.rows]) / norm
    if not np.isfinite(noise).any():
        return None
    when, axis = _moments(master.rows)
    return draw(
        "Noise of each frame",
        "The scatter of frame minus result over the values that were kept. Good: all alike; in a "
        "flat it goes with the root of the light.",
        [Series(when, noise, "points")],
        axis,
        Axis(f"noise{unit}", low=0.0),
        f"{float(np.nanmin(noise)):.4g} to {float(np.nanmax(noise)):.4g}.",
    )


def _rejected(master: Master) -> Figure | None:
    rows = master.rows
    total = values([row.kept + row.rejected_low + row.rejected_high for row in rows])
    if not total.sum() or master.record.recipe.rejection.rule == "none":
        return None
    total = np.where(total > 0, total, np.nan)
    low, high = (
        100 * values([getattr(row, f"rejected_{side}") for row in rows]) / total
        for side in ("low", "high")
    )
    number = np.arange(1.0, len(rows) + 1)
    drawn = [
        Series(number, low + high, "bars", "high", "main"),
        Series(number, low, "bars", "low", "second"),
    ]
    chance = _by_chance(master)
    if chance is not None:
        ends = values([0.5, len(rows) + 0.5])
        drawn.append(Series(ends, values([chance] * 2), "line", "by chance", "third"))
    most = float(np.nanmax(low + high))
    return draw(
        "Rejected of each frame",
        "The fraction of its values that was rejected, in the order of time. Good: all alike and "
        "near what chance rejects of good data; one that sticks out has clouds, light or a trail.",
        drawn,
        Axis("frame, by time", low=0.5, high=len(rows) + 0.5),
        Axis("rejected (%)", low=0.0, high=max(1.15 * most, 1.5 * (chance or 0.0), 0.01)),
        f"At most {most:.3g} %.",
    )


def _by_chance(master: Master) -> float | None:
    """Return the percentage of normal values that a rule in sigmas rejects."""
    rejection = kernels.resolve_rejection(master.record.recipe.rejection)
    if rejection.rule != "sigma" or rejection.low is None or rejection.high is None:
        return None
    normal = NormalDist()
    return 100 * (normal.cdf(-rejection.low) + normal.cdf(-rejection.high))


def _kept(master: Master, rows: range) -> Figure | None:
    frame = master.planes["count"]
    n = master.record.frames
    if n < 2:
        return None
    count = fits.read_rows(frame, rows.start, rows.stop, rows.step)
    bins = min(n + 1, 100)
    counts, edges = np.histogram(count, bins, (-0.5, n + 0.5))
    if not counts.any():
        return None
    return draw(
        "Values kept in a pixel",
        f"How many of the {n} values went into a pixel. Good: nearly all pixels at the right end; "
        "a hump further left is a rule that rejects good values.",
        [Series((edges[1:] + edges[:-1]) / 2, values(np.where(counts, counts, np.nan)), "bars")],
        Axis("values kept", low=-0.5, high=n + 0.5),
        Axis("pixels", log=True, low=0.5),
        f"All {n} in {float((count == n).mean()):.2%} of the pixels.",
    )


def _spectrum(master: Master) -> Figure | None:
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


def _hot(master: Master, sample: NDArray[Any]) -> Figure | None:
    """Draw how many pixels are above a value, those that are masked as hot among them."""
    frame = master.planes["data"]
    rows = sample_rows(frame.shape[0])
    every = fits.read_rows(frame, rows.start, rows.stop, rows.step)
    ordered = np.sort(every[np.isfinite(every)], axis=None)[::-1].astype(np.float64)
    if ordered.size < BINS or not ordered[0] > 0:
        return None
    share = np.arange(1, ordered.size + 1) / ordered.size
    chosen = np.unique(np.geomspace(1, ordered.size, 400).astype(int)) - 1
    times = [row.exptime for row in master.rows if row.exptime]
    noise = master.record.recipe.noise
    factor = (noise.gain or 1.0) / times[0] if times else 1.0
    unit = ("e\u207b/s" if noise.gain else "adu/s") if times else "adu"
    drawn = [Series(factor * ordered[chosen], share[chosen], "line", "pixels above")]
    bound = master.numbers.get("hotlevel", math.nan)
    if bound > 0:
        ends = values([share[-1], share[0]])
        drawn.append(Series(values([factor * bound] * 2), ends, "line", "marked hot", "bad"))
    hot = master.numbers.get("nhot", math.nan)
    return draw(
        "Hot pixels",
        "The fraction of the pixels above a dark current. Good: a steep fall, then a thin tail; "
        "right of the red line pixels are marked hot.",
        drawn,
        Axis(
            f"dark current ({unit})",
            log=True,
            low=max(factor * float(np.median(ordered)), factor * ordered[0] * 1e-5),
        ),
        Axis("fraction of the pixels", log=True),
        f"{hot:.0f} pixels are marked hot.",
    )


def _change(master: Master, previous: Master, found: Comparison, size: int) -> Figure | None:
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
        f"Over {previous.name}: {low:.5g} (black) to {high:.5g} (white); median "
        f"{found.shift:+.3g}, {found.changed:.3%} of the pixels more than 6\u03c3 off. Good: noise "
        "without structure; rings are dust that moved, a slope is other light.",
        pictures.enlarged(pictures.grey(small, (low, high)), size),
    )


def detector_figures(found: Detector) -> list[Figure]:
    """Return the pictures of a detector: photon transfer, and dark current over exposure time."""
    return [chart for chart in (_transfer(found), _dark_current(found)) if chart is not None]


def _transfer(found: Detector) -> Figure | None:
    if not found.points:
        return None
    signal = values([point.signal for point in found.points])
    variance = values([point.variance for point in found.points])
    drawn = [Series(signal, variance, "points", "flats")]
    ends = np.geomspace(max(signal.min() / 4, 1.0), 1.3 * signal.max(), 50)
    read = (found.read_noise or 0.0) / (found.gain or 1.0)
    if found.gain:
        drawn.append(Series(ends, ends / found.gain + read**2, "line", "measured gain", "second"))
    if found.gain_given:
        given = ends / found.gain_given + read**2
        drawn.append(Series(ends, given, "line", "given gain", "quiet"))
    return draw(
        "Photon transfer",
        "Variance of a pixel against its light, of each flat about the others. Good: all points on "
        "one line, whose slope is the inverse of the gain; points that sink below it at high light "
        "are near saturation, or neighbours share charge.",
        drawn,
        Axis("signal (adu)", log=True),
        Axis("variance (adu\u00b2)", log=True),
        f"Gain {found.gain or math.nan:.4g} e-/adu, given {found.gain_given or math.nan:.4g}.",
    )


def _dark_current(found: Detector) -> Figure | None:
    if not found.darks:
        return None
    time = values([dark.exptime for dark in found.darks])
    level = values([dark.level for dark in found.darks])
    factor = found.gain or found.gain_given or 1.0
    drawn = [Series(time, level * factor, "points", "master darks")]
    if found.dark_current is not None:
        ends = values([0.0, 1.1 * time.max()])
        offset = (
            0.0 if time.size == 1 else float(np.mean(level * factor - found.dark_current * time))
        )
        line = found.dark_current * ends + offset
        drawn.append(Series(ends, line, "line", "dark current", "second"))
    return draw(
        "Dark level against exposure time",
        "The median of every master dark. Good: on a line through zero, so that darks may be "
        "scaled; a line that misses zero is bias left in them.",
        drawn,
        Axis("exposure time (s)", low=0.0),
        Axis(f"level ({found.unit})"),
        f"{found.dark_current or math.nan:.4g} {found.unit}/s.",
    )
