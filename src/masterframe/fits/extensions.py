"""Which images of a file are meant: by name, number or pattern, else those of the sky.

Images have the names that the scan gives them (`masterframe.model.Frame.name`): EXTNAME in upper
case, with EXTVER after a comma where that is not 1, as in ``SCI,2``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from masterframe.errors import FrameError, UsageError
from masterframe.fits.scan import FileScan, HduScan

Images = dict[str, HduScan]
"""Images of a file by name, in its order."""

_AUXILIARY = re.compile(
    r"(.*[_-])?(UNC(ERT)?|ERR(OR)?S?|SIGMA|STDDEV|STAT|RMS|VAR(IANCE)?|VAR_[PR]NOISE|VAR_POISSON"
    r"|VAR_FLAT|I(N)?VAR|DQ|QUAL(ITY)?|FLAGS?|MASK|BPM|BADPIX\w*|COUNT|CTX|SAMP|WHT|WEIGHTS?|WGT"
    r"|WMAP|EXPMAP|REJLOW|REJHIGH|PROPERR|GUIDE(R)?|OVERSCAN|OSCAN|PRESCAN|PREVIEW|THUMB(NAIL)?)"
    r"([_-]?\d+)?(,\d+)?"
)
"""Names of masks, weights, uncertainties, guiders and overscans beside the images of the sky."""
_AUXILIARY_CLASSES = {"ERROR", "QUALITY", "MASK", "WEIGHT"}
"""HDUCLAS2 of the same (HEASARC's and ESO's convention)."""
_SHOWN = 20
"""Names that an error lists; more are counted."""


def all_images(scan: FileScan) -> Images:
    """Return every image of a file, cubes too, whatever it shows."""
    return {hdu.frames[0].name: hdu for hdu in scan.hdus if hdu.frames}


def science_images(scan: FileScan) -> Images:
    """Return the images of the sky: the one in the primary HDU, else all that are not auxiliary.

    Auxiliary is what EXTNAME or HDUCLAS2 call a mask, weight, uncertainty, guider or overscan, and
    a stamp of a guider (STMPTIME). The only image of a file is taken whatever it is called.
    """
    found = all_images(scan)
    if len(found) < 2:
        return found
    primary = {name: hdu for name, hdu in found.items() if hdu.index == 0}
    return primary or {name: hdu for name, hdu in found.items() if not _is_auxiliary(name, hdu)}


def _is_auxiliary(name: str, hdu: HduScan) -> bool:
    kind = str(hdu.header.get("HDUCLAS2", "")).strip().upper()
    return bool(
        _AUXILIARY.fullmatch(name) or kind in _AUXILIARY_CLASSES or "STMPTIME" in hdu.header
    )


def choose(scan: FileScan, wanted: str | int | None) -> Images:
    """Return the images of a file that are asked for.

    Parameters
    ----------
    scan : FileScan
        The file.
    wanted : str or int, optional
        Names, patterns with ``*`` and ``?`` for images of the sky, numbers of HDUs, several with
        commas; a number after a name is its EXTVER, as in ``SCI,2``, without which a name stands
        for all of its EXTVERs; ``all`` for every image. By default `science_images`.

    Raises
    ------
    UsageError
        If one is not there, or none looks like an image of the sky.
    FrameError
        If the file holds no image.
    """
    found = all_images(scan)
    if not found:
        reasons = "; ".join(dict.fromkeys(item.reason for item in scan.hdus if item.reason))
        raise FrameError(scan.path, f"no image in it ({reasons or 'no pixels'})")
    if wanted is None:
        science = science_images(scan)
        if not science:
            raise UsageError(
                f"{scan.path} holds {len(found)} images ({_listed(found)}), none of which looks "
                "like one of the sky: name those that are wanted by --hdu"
            )
        return science
    if str(wanted).strip().lower() == "all":
        return found
    chosen = {name for item in _items(str(wanted)) for name in _fitting(item, found, scan)}
    return {name: hdu for name, hdu in found.items() if name in chosen}


def choose_alike(scans: Sequence[FileScan], wanted: str | int | None) -> list[Images]:
    """Return the images that are asked for of each file, which must be the same in all, by name.

    A file of one image has no choice: where one is wanted, its name does not matter.

    Raises
    ------
    UsageError
        If one that was named is not in a file.
    FrameError
        If a file holds no image, or not those of the first one; it names file and extension.
    """
    first, *others = (choose(scan, wanted) for scan in scans)
    chosen = [first]
    for scan, images in zip(scans[1:], others, strict=True):
        alone = len(first) == len(images) == 1
        if alone and 1 in (len(all_images(scan)), len(all_images(scans[0]))):
            chosen.append(dict(zip(first, images.values(), strict=True)))
        else:
            _check_alike(scan, images, scans[0], first)
            chosen.append({name: images[name] for name in first})
    return chosen


def _check_alike(scan: FileScan, images: Images, first: FileScan, expected: Images) -> None:
    lacking = [name for name in expected if name not in images]
    more = [name for name in images if name not in expected]
    for names, there, absent in ((lacking, first, scan), (more, scan, first)):
        if names:
            raise FrameError(
                scan.path,
                f"{_listed(names)} of {there.path} is not among what is combined of "
                f"{absent.path} ({_listed(all_images(absent))}): leave the file out, or name by "
                "--hdu what all files have",
            )


def normal_name(text: str) -> str:
    """Return the name of an image as it is written here: ``sci,1`` is ``SCI``."""
    name, version = split_name(text.strip().upper())
    return name if version == 1 else f"{name},{version}"


def split_name(name: str) -> tuple[str, int]:
    """Return EXTNAME (in upper case) and EXTVER of an image by its name."""
    base, comma, version = name.rpartition(",")
    return (base, int(version)) if comma and version.isascii() and version.isdigit() else (name, 1)


def _items(wanted: str) -> list[str]:
    """Return what a list names, item by item; a number after a name is its EXTVER."""
    items: list[str] = []
    for text in filter(None, map(str.strip, wanted.split(","))):
        if text.isdigit() and items and not items[-1].isdigit() and "," not in items[-1]:
            items[-1] = f"{items[-1]},{text}"
        else:
            items.append(text)
    return items


def _fitting(item: str, found: Mapping[str, HduScan], scan: FileScan) -> list[str]:
    """Return the names that an item of a list stands for: a number of an HDU, or a pattern."""
    pattern, _, version = item.upper().partition(",")
    names = [name for name, hdu in found.items() if str(hdu.index) == item]
    for name, hdu in found.items() if not names else ():
        base, own = split_name(name)
        fits = base == pattern or (fnmatchcase(base, pattern) and not _is_auxiliary(name, hdu))
        if fits and version in ("", str(own)):
            names.append(name)
    if not names:
        raise UsageError(f"{scan.path} has no image {item}: there are {_listed(found)}")
    return names


def _listed(names: Mapping[str, HduScan] | Sequence[str]) -> str:
    if isinstance(names, Mapping):
        shown = [f"{hdu.index} {name}" for name, hdu in names.items()]
    else:
        shown = list(names)
    more = f" and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
    return ", ".join(shown[:_SHOWN]) + more
