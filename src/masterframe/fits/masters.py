"""The planes of a master as it lies on disk, by the names that DESIGN gives its HDUs."""

from __future__ import annotations

import os
from collections.abc import Sequence

from masterframe.errors import FrameError
from masterframe.fits.layout import padded, stored_sum, walk
from masterframe.fits.scan import scan_file
from masterframe.fits.source import open_source
from masterframe.model import Frame, MasterImage

_SUM_OF_SUMMED = (0, 0xFFFFFFFF)
"""What an HDU with its CHECKSUM adds up to: both are zero in ones' complement."""

PLANES = ("data", "uncert", "mask", "count", "rejlow", "rejhigh", "exposure", "propagated")
"""Planes by name; all but the data lend their names to HDUs."""


_EXTNAMES = {"propagated": "PROPERR"}
"""EXTNAMEs of planes that are not their names in capitals."""


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
        plane: image
        if plane == "data"
        else f"{image}_{_EXTNAMES.get(plane, plane.upper())}".lstrip("_")
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

    Examples
    --------
    >>> import masterframe as mf
    >>> made = mf.write_master("master.fits", mf.open_stack("night/bias_*.fits"))
    >>> image = mf.open_master("master.fits")[""]
    >>> image.shape, image.data.dtype
    ((60, 64), 'float32')
    """
    frames = _frames(path)
    suffixes = tuple(f"_{name}" for name in list(hdu_names("", PLANES).values())[1:])
    planes = {name for name in frames if f"_{name}".endswith(suffixes)}
    images = [name for name in frames if name not in planes] or list(frames)
    if not images:
        raise FrameError(os.fspath(path), "no image in it")
    return {name: _image(name, frames) for name in images}


def find_planes(path: str | os.PathLike[str]) -> dict[str, dict[str, Frame]]:
    """Find the planes that each image of a master has, by the name of the image and of the plane.

    Raises
    ------
    FrameError
        If the file cannot be used or holds no image.
    """
    frames = _frames(path)
    return {
        image: {
            plane: frames[name]
            for plane, name in hdu_names(image, PLANES).items()
            if name in frames
        }
        for image in open_master(path)
    }


def open_planes(path: str | os.PathLike[str], image: str) -> dict[str, Frame]:
    """Find all planes of one image of a master by their names.

    Raises
    ------
    FrameError
        If the file cannot be used, or the image has no data, mask or count.
    """
    names, planes = hdu_names(image, PLANES), find_planes(path).get(image, {})
    for plane in ("data", "uncert", "mask", "count"):
        if plane not in planes:
            raise FrameError(os.fspath(path), f"it has no plane {names[plane] or 'in the primary'}")
    return planes


def find_uncertainty(path: str | os.PathLike[str], image: str) -> Frame | None:
    """Find the standard deviations of an image by the name of their HDU; None without them.

    Raises
    ------
    FrameError
        If the file cannot be used.
    """
    return _frames(path).get(hdu_names(image.upper(), PLANES)["uncert"])


def why_not_ours(path: str | os.PathLike[str], *, thoroughly: bool = True) -> str:
    """Return why a file is not what this program wrote there; '' where it is.

    Parameters
    ----------
    path : path
        A FITS file.
    thoroughly : bool
        Add up all of its bytes; else only the sums in its headers are compared, which finds pixels
        that were altered by a program that keeps checksums.

    Raises
    ------
    FrameError
        If it cannot be read, or is no FITS file.
    """
    name = os.fspath(path)
    datasums = 0
    with open_source(name) as (source, _):
        for raw in walk(name, source):
            if raw.index == 0:
                seal = raw.cards.get("MFSEAL")
                if seal is None:
                    return "masterframe did not make it"
            begin = raw.start - padded(len(raw.header))
            if thoroughly and stored_sum(source, begin, raw.end) not in _SUM_OF_SUMMED:
                return f"it was altered: the CHECKSUM of HDU {raw.index} does not hold"
            if raw.cards.get("XTENSION") != "BINTABLE":
                datasums += int(str(raw.cards.get("DATASUM", "0")))
    return "" if str(datasums) == str(seal) else "its pixels were altered: MFSEAL does not hold"


def _frames(path: str | os.PathLike[str]) -> dict[str, Frame]:
    """Return all images of a file by name; '' for one in the primary HDU."""
    scan = scan_file(path)
    return {_name(item.extname, item.index): item.frame for item in scan.hdus if item.frame}


def _name(extname: str, index: int) -> str:
    if index == 0:
        return ""
    return extname.upper() or str(index)


def _image(name: str, frames: dict[str, Frame]) -> MasterImage:
    names = hdu_names(name, PLANES)
    return MasterImage(frames[name], frames.get(names["uncert"]), frames.get(names["mask"]))
