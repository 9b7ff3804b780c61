"""Charts of a master and of its frames, each with a caption that says what good looks like."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from masterframe import fits, kernels
from masterframe.fits.tables import InputRow
from masterframe.quality.archive import Master
from masterframe.quality.detector import frame_variances
from masterframe.quality.lines import are_off, deviations, line_medians
from masterframe.quality.masters import quantum_of
from masterframe.quantiles import MAD_TO_SIGMA
from masterframe.report import pictures
from masterframe.report.charts import Axis, Chart, Series, draw, values
from masterframe.tiling import sample_rows

BINS = 160
"""Bins of a histogram, about."""
LEAST_UNLIKE = 0.01
"""Part of a limit below which a frame is like any other."""


def histogram(master: Master, sample: NDArray[Any]) -> Chart | None:
    """Draw how often each value is, and the Gaussian that the expected noise alone gives."""
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


def profiles(master: Master, sample: NDArray[Any]) -> Iterator[Chart | None]:
    """Draw the medians of all columns, and of all rows."""
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


def noise_law(master: Master) -> Chart | None:
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


def frame_levels(master: Master) -> Chart | None:
    """Draw the level of each frame over time, with those that were left out."""
    rows = [*master.rows, *master.left_out]
    level = values([math.nan if row.level is None else row.level for row in rows])
    n = len(master.rows)
    if not np.isfinite(level[:n]).any():
        return None
    when, axis = _moments(rows)
    good = level[:n][np.isfinite(level[:n])]
    middle = float(np.median(good))
    reach = 3 * MAD_TO_SIGMA * float(np.median(np.abs(good - middle)))
    ends = values([when.min(), when.max()] if reach > 0 else [])
    flagged = np.array([row.status != "used" for row in master.rows], bool)
    return draw(
        "Level of each frame",
        "The median of each frame; the band is three robust sigmas about that of all, crosses were "
        "left out or flagged. Good: within the band. A ramp is a lamp that drifts, or twilight; "
        "one that is off has seen light or another temperature.",
        [
            Series(
                ends,
                np.full(ends.size, middle + reach),
                "band",
                "\u00b13\u03c3",
                "quiet",
                np.full(ends.size, middle - reach),
            ),
            Series(when[:n][~flagged], level[:n][~flagged], "points", "used"),
            Series(when[:n][flagged], level[:n][flagged], "points", "flagged", "bad"),
            Series(when[n:], level[n:], "crosses", "left out", "bad"),
        ],
        axis,
        Axis("level (adu)"),
        f"Median {middle:.5g} adu; {len(rows) - n} left out.",
    )


def frame_noises(master: Master) -> Chart | None:
    """Draw the scatter of each frame about the result, over time."""
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


def frame_likeness(master: Master) -> Chart | None:
    """Draw how unlike the others each frame is, over time: what the tests before combining said."""
    rows = [*master.rows, *master.left_out]
    found = values([math.nan if row.unlike is None else row.unlike for row in rows])
    if not np.isfinite(found).any():
        return None
    found = np.maximum(found, LEAST_UNLIKE)
    n = len(master.rows)
    when, axis = _moments(rows)
    flagged = np.array([row.status != "used" for row in master.rows], bool)
    worst = int(np.nanargmax(found))
    return draw(
        "Frames beside each other",
        "The worst test of each frame before it was combined: level, slope, structure, banding, "
        "columns, noise or saturation, over its limit. Good: below the line; what is above it was "
        "left out or flagged, and the table of these says by which test.",
        [
            Series(values([when.min(), when.max()]), values([1, 1]), "line", "limit", "bad"),
            Series(when[:n][~flagged], found[:n][~flagged], "points", "used"),
            Series(when[:n][flagged], found[:n][flagged], "points", "flagged", "bad"),
            Series(when[n:], found[n:], "crosses", "left out", "bad"),
        ],
        axis,
        Axis("worst test over its limit", log=True),
        f"At most {found[worst]:.3g}, {Path(rows[worst].path).name}.",
    )


def frame_rejections(master: Master) -> Chart | None:
    """Draw which part of the values of each frame was rejected."""
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


def kept_counts(master: Master, rows: range) -> Chart | None:
    """Draw how many values went into a pixel."""
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


def dark_currents(master: Master, sample: NDArray[Any]) -> Chart | None:
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
