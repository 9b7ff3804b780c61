"""What the tests of writing share: planes of known values, and a system whose n-th call fails."""

import os

import numpy as np
from astropy.io import fits

from masterframe.fits.cards import Card
from masterframe.fits.cardtext import header_bytes
from masterframe.fits.write import ImageFile, PlaneSpec

SHAPE = (37, 53)


def spec(name="", dtype="float32", shape=SHAPE, **cards):
    return PlaneSpec(name, dtype, shape, [Card(*item) for item in cards.items()])


def shown(cards):
    """Cards as astropy reads them, once they are written."""
    return fits.Header.fromstring(header_bytes(cards))


def filled(dtype, shape=SHAPE, seed=7):
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        values = rng.normal(1000, 3, shape).astype(dtype)
        values[1, 2] = np.nan
        return values
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max, shape, dtype, endpoint=True)


def write(path, planes=None, tables=(), overwrite=False, **options):
    """Write and publish a file; planes default to one of float32."""
    planes = planes or {"": filled("float32")}
    specs = [spec(name, values.dtype.name, values.shape) for name, values in planes.items()]
    with ImageFile.create(path, specs, overwrite=overwrite, **options) as file:
        for name, values in planes.items():
            file.write_rows(name, 0, values)
        file.settle(planes)
        file.publish(tables)


CALLS = ["posix_fallocate", "pwrite", "preadv", "fsync", "link", "replace", "unlink"]


class Fault:
    """Lets the n-th call of the system fail, for every call that the writer makes."""

    def __init__(self, monkeypatch, at, act):
        self.count = 0
        for name in CALLS:
            monkeypatch.setattr(os, name, self.wrap(getattr(os, name), at, act))

    def wrap(self, call, at, act):
        def wrapped(*args, **kwargs):
            self.count += 1
            if self.count == at:
                act()
            return call(*args, **kwargs)

        return wrapped
