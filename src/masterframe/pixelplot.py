"""The history of one pixel as a picture: its values frame by frame, the bounds, what was kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from masterframe.errors import StorageError, UsageError

FORMATS = (".png", ".pdf", ".svg")
STYLES = {
    "kept": {"marker": "o", "color": "#2f5d8c", "label": "kept"},
    "low": {"marker": "v", "color": "#b3261e", "label": "rejected low"},
    "high": {"marker": "^", "color": "#b3261e", "label": "rejected high"},
}
"""Marks of values by what became of them; they differ in shape, too."""
STYLE: Any = {
    "font.size": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#9aa1ab",
    "axes.labelcolor": "#1b1d21",
    "xtick.color": "#5d636d",
    "ytick.color": "#5d636d",
    "axes.grid": True,
    "grid.color": "#e8e6e1",
    "grid.linewidth": 0.8,
    "axes.axisbelow": True,
    "date.converter": "concise",
    "svg.hashsalt": "masterframe",
}


class History(Protocol):
    """What is drawn of a `masterframe.explain.PixelHistory`."""

    @property
    def path(self) -> str:
        """The master; '' for a stack."""

    @property
    def extension(self) -> str:
        """Its image."""

    @property
    def x(self) -> int:
        """Column, 0-based."""

    @property
    def y(self) -> int:
        """Row, 0-based."""

    @property
    def unit(self) -> str:
        """Unit of the values; '' for a flat."""

    @property
    def frames(self) -> Sequence[Any]:
        """What each frame gave."""

    @property
    def passes(self) -> Sequence[Any]:
        """The passes of the rejection."""

    @property
    def combined(self) -> Any:
        """What the combination gives."""


def plot_history(history: History) -> Any:
    """Draw the history of one pixel.

    Parameters
    ----------
    history : PixelHistory
        What `masterframe.explain` tells.

    Returns
    -------
    matplotlib.figure.Figure
        Values against their start, or the number of the frame where that is not known; the bounds
        of the last pass, and the combined value with its standard deviation.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.6, 4.3), dpi=150, layout="constrained")
        axes = figure.subplots()
        places, label, dated = _places(history)
        _draw_bounds(axes, history)
        _draw_values(axes, history, places)
        axes.set_xlabel(label)
        axes.set_ylabel(f"calibrated value ({history.unit or 'of the level'})")
        if dated:
            figure.autofmt_xdate(rotation=0, ha="center")
        axes.set_title(_title(history), loc="left", fontsize=10.5, parse_math=False)
        axes.legend(
            frameon=False,
            fontsize=8.5,
            ncols=5,
            columnspacing=1.4,
            loc="upper left",
            bbox_to_anchor=(0, -0.14),
        )
    return figure


def save_plot(history: History, path: Path) -> None:
    """Draw the history of one pixel into a file, whole or not at all.

    Raises
    ------
    UsageError
        If the name of the file does not end as a picture's.
    StorageError
        If it cannot be written.
    """
    if path.suffix.lower() not in FORMATS:
        raise UsageError(f"--plot {path}: give a name that ends in {', '.join(FORMATS)}")
    part = path.with_name(f".{path.stem}.part{path.suffix}")
    try:
        plot_history(history).savefig(part)
        part.replace(path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise StorageError(f"{path}: the plot cannot be written ({reason})") from None
    finally:
        part.unlink(missing_ok=True)


def _places(history: History) -> tuple[Any, str, bool]:
    """Return where frames stand: by their start where all are known and differ, else by number."""
    dates = [frame.date_obs for frame in history.frames]
    try:
        moments = np.array(dates, "datetime64[ms]")
    except ValueError:
        moments = np.array([], "datetime64[ms]")
    known = moments.size == len(dates) and not np.isnat(moments).any()
    if known and np.unique(moments).size > 1:
        return moments.astype(object), "start (UTC)", True
    return np.arange(1, len(dates) + 1), "frame", False


def _draw_bounds(axes: Any, history: History) -> None:
    """Draw what the last pass kept, and the result."""
    bounds = [item for item in history.passes if np.isfinite(item.center)]
    if bounds:
        last = bounds[-1]
        ends = [value for value in (last.least, last.most) if np.isfinite(value)]
        for value in ends:
            axes.axhline(value, color="#6b7a3a", lw=1, ls=(0, (4, 3)))
        if len(ends) == 2:
            axes.axhspan(*ends, color="#6b7a3a", alpha=0.07, lw=0, label="bounds of the last pass")
        axes.axhline(last.center, color="#6b7a3a", lw=1, label="centre")
    # a finished flat was divided by its level: what was combined is on the scale of the frames
    data, error = history.combined.data, history.combined.uncert
    axes.axhline(data, color="#b4632a", lw=1.4, label="result")
    if np.isfinite(error):
        axes.axhspan(data - error, data + error, color="#b4632a", alpha=0.18, lw=0)


def _draw_values(axes: Any, history: History, places: Any) -> None:
    values = np.array([frame.value for frame in history.frames])
    fates = np.array([frame.fate for frame in history.frames])
    size = 5.5 if len(values) < 200 else 2.5
    for fate, style in STYLES.items():
        chosen = (fates == fate) & np.isfinite(values)
        if chosen.any():
            look = {"ls": "none", "ms": size, "mew": 0, "alpha": 0.9, **style}
            axes.plot(places[chosen], values[chosen], **look)
    missing = fates == "missing"
    if missing.any():
        low = axes.get_ylim()[0]
        look = {"ls": "none", "marker": "x", "ms": size, "color": "#9aa1ab"}
        axes.plot(places[missing], np.full(int(missing.sum()), low), label="missing", **look)


def _title(history: History) -> str:
    name = Path(history.path).name if history.path else "stack"
    kept, count = history.combined.count, len(history.frames)
    text = f"{name} {history.extension}".strip()
    clean = "".join(c if c.isprintable() else "?" for c in text)
    return f"{clean}: pixel {history.x + 1}, {history.y + 1}; {kept} of {count} kept"
