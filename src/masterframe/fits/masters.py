"""The planes of a master as it lies on disk, by the names that DESIGN gives its HDUs."""

from __future__ import annotations

import os
from collections.abc import Sequence

from masterframe.errors import FrameError
from masterframe.fits.scan import scan_file
from masterframe.model import Frame, MasterImage

PLANES = ("data", "uncert", "mask", "count", "rejlow", "rejhigh")
"""Planes by name; all but the data lend their names to HDUs."""


def hdu_names(image: str, planes: Sequence[str]) -> dict[str, str]:
    """Return the EXTNAME of each plane of an image.

    Parameters
    ----------
    image : str
        Name of the image; '' where it is the only one, and then its data are in the primary HDU.
    planes : sequence of str
        Names of planes, the data among them.
    """
    return {
        plane: image if plane == "data" else f"{image}_{plane.upper()}".lstrip("_")
        for plane in planes
    }


def open_master(path: str | os.PathLike[str]) -> dict[str, MasterImage]:
    """Find the images of a master, or of any FITS file that is used as one.

    Parameters
    ----------
    path : path
        The file.

    Returns
    -------
    dict
        `MasterImage` by name of the image; '' for an image in the primary HDU.

    Raises
    ------
    FrameError
        If the file cannot be used or holds no image.
    """
    scan = scan_file(path)
    frames = {_name(item.extname, item.index): item.frame for item in scan.hdus if item.frame}
    suffixes = tuple(f"_{plane.upper()}" for plane in PLANES[1:])
    planes = {name for name in frames if f"_{name}".endswith(suffixes)}
    images = [name for name in frames if name not in planes] or list(frames)
    if not images:
        raise FrameError(scan.path, "no image in it")
    return {name: _image(name, frames) for name in images}


def _name(extname: str, index: int) -> str:
    if index == 0:
        return ""
    return extname.upper() or str(index)


def _image(name: str, frames: dict[str, Frame]) -> MasterImage:
    names = hdu_names(name, PLANES)
    return MasterImage(frames[name], frames.get(names["uncert"]), frames.get(names["mask"]))
