"""Frames of cameras whose headers are told in YAML, under names that say nothing."""

import numpy as np
from astropy.io import fits

from masterframe import scan_night


def scanned(folder, headers):
    """Write frames with some cards (value, or value and comment); return their exposures in order.

    A file of each is written whose name tells no kind.
    """
    paths = []
    for number, cards in enumerate(headers):
        hdu = fits.PrimaryHDU(np.full((64, 64), number, np.uint16))
        for key, value in cards.items():
            card = tuple(value) if isinstance(value, list) else value
            hdu.header[f"HIERARCH {key}" if " " in key else key] = card
        paths.append(folder / f"f{number:04}.fits")
        hdu.writeto(paths[-1])
    exposures, _ = scan_night(folder)
    found = {item.path: item for item in exposures}
    assert len(found) == len(paths)
    return [found[str(path)] for path in paths]
