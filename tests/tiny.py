"""Small frames and exposures for tests of what reads only headers."""

from pathlib import Path

import numpy as np
from astropy.io import fits

from masterframe.model import Exposure, Frame, Image, Scaling, Section

ROWS, COLUMNS = 24, 36


def write(path: Path, shape: tuple[int, int] = (ROWS, COLUMNS), seed: int = 0, **cards) -> Path:
    """Write a raw frame of uint16; ``__`` in a keyword stands for a blank, ``_`` for a dash."""
    pixels = np.random.default_rng(seed).integers(90, 110, shape, dtype=np.uint16)
    hdu = fits.PrimaryHDU(pixels)
    for key, value in cards.items():
        name = key.replace("__", " ").replace("_", "-")
        hdu.header[f"HIERARCH {name}" if " " in name else name] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    hdu.writeto(path)
    return path


def exposure(
    kind: str | None,
    path: str = "/night/a.fits",
    *,
    shape: tuple[int, int] = (ROWS, COLUMNS),
    overscan: Section | None = None,
    trim: Section | None = None,
    **fields,
) -> Exposure:
    """An exposure as the inventory would give it, without a file."""
    frame = Frame(path, 0, "", 2880, 16, shape, Scaling(32768.0), "uint16", 4096, 1)
    setup = (("instrument", "cam"), ("layout", f"{shape[1]}x{shape[0]}"), ("binning", "1x1"))
    given = {
        "certain": True,
        "rule": f"IMAGETYP = {kind!r}",
        "header": {},
        "night": "night",
        "instrument": "cam",
        "label": "bin1x1",
        "setup": (*setup, *fields.pop("more_setup", ())),
        **fields,
    }
    given.setdefault("dark_time", given.get("exptime"))
    image = Image(frame, given["header"], overscan=overscan, trim=trim)
    return Exposure(path=path, images=(image,), kind=kind, **given)
