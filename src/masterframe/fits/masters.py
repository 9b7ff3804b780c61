"""The planes of a master as it lies on disk, by the names that DESIGN gives its HDUs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import lru_cache

from masterframe.errors import FrameError, UsageError
from masterframe.fits import stamps
from masterframe.fits.extensions import all_images, science_images, split_name
from masterframe.fits.layout import padded, stored_sum, walk
from masterframe.fits.planes import Label
from masterframe.fits.scan import FileScan, HduScan, scan_file
from masterframe.fits.source import open_source
from masterframe.model import Frame, MasterImage

_SUM_OF_SUMMED = (0, 0xFFFFFFFF)
"""What an HDU with its CHECKSUM adds up to: both are zero in ones' complement."""

PLANES = ("data", "uncert", "mask", "count", "rejlow", "rejhigh", "exposure", "propagated")
"""Planes by name; all but the data lend their names to HDUs."""


_EXTNAMES = {"propagated": "PROPERR"}
"""EXTNAMEs of planes that are not their names in capitals."""


def hdu_names(image: str, planes: Sequence[str]) -> dict[str, str]:
    """Return the name of the HDU of each plane of an image.

    Parameters
    ----------
    image : str
        Name of the image; '' where it is the only one, and then its data are in the primary HDU.
    planes : sequence of str
        Names of planes, the data among them.

    Returns
    -------
    dict
        By plane, as the scan names images: ``SCI_UNCERT,2`` for ``SCI,2``.
    """
    base, version = split_name(image)
    ending = "" if version == 1 else f",{version}"
    return {plane: _called(base, plane) + ending for plane in planes}


def hdu_labels(image: str, planes: Sequence[str], like: Frame) -> dict[str, Label | None]:
    """Return EXTNAME and EXTVER of each plane of an image, EXTNAME as the frame writes it.

    None where the image is the only one: the names of its planes are all that there is.
    """
    base, version = split_name(image)
    written = like.extname if like.extname.upper() == base else base
    return {plane: Label(_called(written, plane), version) if image else None for plane in planes}


def _called(base: str, plane: str) -> str:
    """Return the EXTNAME of a plane."""
    ending = "" if plane == "data" else "_" + _EXTNAMES.get(plane, plane.upper())
    return base + ending if base else ending[1:]


def check_names(path: str | os.PathLike[str], images: Sequence[str]) -> None:
    """Refuse images whose names are those of planes of other ones.

    Raises
    ------
    UsageError
        If a file cannot hold them all; it names two.
    """
    for image in images if len(images) > 1 else ():
        for name in hdu_names(image, PLANES[1:]).values():
            if name in images:
                raise UsageError(
                    f"{os.fspath(path)}: {name} is the name of a plane of {image} in a master: "
                    "choose images by --hdu, or combine them into two files"
                )


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
    name, stamp = os.fspath(path), stamps.look_at(path)
    return dict(_images(name, stamp) if stamp else _images.__wrapped__(name, stamp))


def scan_master(path: str | os.PathLike[str]) -> FileScan:
    """Return what `scan_file` does; of a file that nobody has touched since what that did.

    Of a mosaic every image of every exposure asks for each of its masters.

    Raises
    ------
    FrameError
        If the file cannot be used.
    """
    stamp = stamps.look_at(path)
    return _scan(os.fspath(path), stamp) if stamp else scan_file(path)


@lru_cache(maxsize=64)
def _scan(path: str, stamp: stamps.Stamp) -> FileScan:
    return scan_file(path)


@lru_cache(maxsize=64)
def _images(path: str, stamp: stamps.Stamp | None) -> dict[str, MasterImage]:
    scan = scan_master(path)
    frames = _frames(scan)
    planes = {own for name in frames for own in hdu_names(name, PLANES[1:]).values()}
    science = {_name(hdu) for hdu in science_images(scan).values()}
    images = [name for name in frames if name not in planes]
    images = [name for name in images if name in science] or images or list(frames)
    if not images:
        raise FrameError(path, "no image in it")
    return {name: _image(name, frames) for name in images}


def find_planes(path: str | os.PathLike[str]) -> dict[str, dict[str, Frame]]:
    """Find the planes that each image of a master has, by the name of the image and of the plane.

    Raises
    ------
    FrameError
        If the file cannot be used or holds no image.
    """
    frames = _frames(scan_master(path))
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


def find_uncertainty(frame: Frame) -> Frame | None:
    """Find the standard deviations of a frame by the name of their HDU; None without them.

    Raises
    ------
    FrameError
        If its file cannot be used.
    """
    name = hdu_names(frame.name if frame.hdu else "", ("uncert",))["uncert"]
    found = all_images(scan_master(frame.path)).get(name)
    return next((own for own in found.frames if own.plane == frame.plane), None) if found else None


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


def _frames(scan: FileScan) -> dict[str, Frame]:
    """Return all images of a file by name; '' for one in the primary HDU."""
    return {_name(hdu): hdu.frame for hdu in scan.hdus if hdu.frame}


def _name(hdu: HduScan) -> str:
    """Return the name of an image of a master: planes beside the primary have theirs alone."""
    return "" if hdu.index == 0 else hdu.frames[0].name


def _image(name: str, frames: dict[str, Frame]) -> MasterImage:
    names = hdu_names(name, PLANES)
    return MasterImage(frames[name], frames.get(names["uncert"]), frames.get(names["mask"]))
