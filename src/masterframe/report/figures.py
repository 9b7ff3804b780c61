"""Which pictures and charts a master has, in their order."""

from __future__ import annotations

from masterframe.quality.archive import Master, read_sample
from masterframe.quality.comparison import Comparison
from masterframe.report import curves, images
from masterframe.report.charts import Chart
from masterframe.report.pictures import Picture
from masterframe.tiling import sample_rows

Figure = Chart | Picture


def master_figures(
    master: Master, previous: tuple[Master, Comparison] | None, size: int
) -> list[Figure]:
    """Return the pictures and charts of a master.

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
        *images.plane_pictures(master, size),
        curves.histogram(master, sample),
        *curves.profiles(master, sample),
        curves.noise_law(master),
        curves.frame_likeness(master),
        curves.frame_levels(master),
        curves.frame_noises(master),
        curves.frame_rejections(master),
        curves.kept_counts(master, rows),
    ]
    if master.kind in ("bias", "dark"):
        found.append(images.power_spectrum(master))
    if master.kind == "dark":
        found.append(curves.dark_currents(master, sample))
    if previous:
        found.append(images.change_picture(master, previous[0], previous[1], size))
    return [figure for figure in found if figure is not None]
