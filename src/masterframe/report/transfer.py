"""Charts of a detector: its photon transfer, and its dark current."""

from __future__ import annotations

import math

import numpy as np

from masterframe.quality.detector import Detector
from masterframe.report.charts import Axis, Chart, Series, draw, values


def detector_figures(found: Detector) -> list[Chart]:
    """Return the pictures of a detector: photon transfer, and dark current over exposure time."""
    return [chart for chart in (_transfer(found), _dark_current(found)) if chart is not None]


def _transfer(found: Detector) -> Chart | None:
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


def _dark_current(found: Detector) -> Chart | None:
    if not found.darks:
        return None
    time = values([dark.exptime for dark in found.darks])
    level = values([dark.level for dark in found.darks])
    factor = found.gain or found.gain_given or 1.0
    electrons = found.unit.replace("e-", "e\u207b")
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
        Axis(f"level ({electrons})"),
        f"{found.dark_current or math.nan:.4g} {electrons}/s.",
    )
