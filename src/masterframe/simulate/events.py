"""What falls on the detector besides even light: stars, cosmic rays and satellites."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from masterframe.simulate.pattern import Pixels
from masterframe.simulate.schedule import Shot
from masterframe.simulate.spec import NightSpec
from masterframe.simulate.streams import Purpose, stream

SIGMA_PER_FWHM = 1 / np.sqrt(8 * np.log(2))


class Stars(NamedTuple):
    """The field of the night, ordered by row; arrays of one shape (n,)."""

    y: NDArray[np.float64]
    """Rows, where the dither is 0."""
    x: NDArray[np.float64]
    """Columns, where the dither is 0."""
    flux: NDArray[np.float64]
    """Light (electrons/s)."""

    @classmethod
    def scatter(cls, spec: NightSpec) -> Stars:
        """Place stars over the field, beyond its edges by as much as the dither."""
        rng = stream(spec.seed, Purpose.STARS)
        ny, nx = spec.camera.shape
        edge = spec.dither
        y = np.sort(rng.uniform(-edge, ny + edge, spec.stars))
        x = rng.uniform(-edge, nx + edge, spec.stars)
        low, high = np.log(spec.star_flux)
        return cls(y, x, np.exp(rng.uniform(low, high, spec.stars)))

    def shine(self, light: NDArray[np.float32], top: int, spec: NightSpec, shot: Shot) -> None:
        """Add the stars (electrons, Gaussian) to the rows of a frame from row `top` on."""
        sigma = spec.fwhm * SIGMA_PER_FWHM
        reach = 5 * sigma
        y = self.y + shot.dither[0]
        first, last = np.searchsorted(y, (top - reach, top + light.shape[0] + reach))
        rows = top + np.arange(light.shape[0])
        for i in range(first, last):
            x = self.x[i] + shot.dither[1]
            left, right = max(int(x - reach), 0), max(int(x + reach) + 2, 0)
            here = light[:, left:right]
            columns = left + np.arange(here.shape[1])
            height = self.flux[i] * shot.exptime / (2 * np.pi * sigma**2)
            across = np.exp(-0.5 * ((columns - x) / sigma) ** 2)
            along = height * np.exp(-0.5 * ((rows - y[i]) / sigma) ** 2)
            here += (along[:, None] * across).astype(np.float32)


def cosmic_rays(spec: NightSpec, shot: Shot) -> Pixels:
    """Return the pixels that cosmic rays hit in a frame, and the electrons they leave there.

    A ray leaves a straight track, a few pixels long on average; a pixel that two rays cross is
    listed twice.
    """
    rng = stream(spec.seed, Purpose.EVENTS, shot.index, 0)
    ny, nx = spec.camera.shape
    n = rng.poisson(spec.cosmic_rate * shot.exptime * ny * nx / 1e6)
    steps = 1 + rng.geometric(0.25, n)
    angle = np.repeat(rng.uniform(0, 2 * np.pi, n), steps)
    along = np.arange(steps.sum()) - np.repeat(np.cumsum(steps) - steps, steps)
    y = np.repeat(rng.uniform(0, ny, n), steps) + along * np.sin(angle)
    x = np.repeat(rng.uniform(0, nx, n), steps) + along * np.cos(angle)
    electrons = np.repeat(rng.lognormal(np.log(1500), 0.7, n), steps)
    return _on_detector(spec, y, x, electrons * rng.uniform(0.7, 1.3, along.size))


def satellite(spec: NightSpec, shot: Shot) -> Pixels:
    """Return the pixels that a satellite crosses in a frame, and the electrons it leaves there."""
    if not shot.trail:
        return Pixels(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))
    rng = stream(spec.seed, Purpose.EVENTS, shot.index, 1)
    ny, nx = spec.camera.shape
    sigma = 0.6 * spec.fwhm
    middle = ny * rng.uniform(0.3, 0.7) + rng.uniform(-0.5, 0.5) * (np.arange(nx) - nx / 2)
    brightness = rng.uniform(1500, 3000) + 0.1 * shot.light
    reach = int(4 * sigma) + 1
    y = np.rint(middle) + np.arange(-reach, reach + 1)[:, None]
    electrons = brightness * np.exp(-0.5 * ((y - middle) / sigma) ** 2)
    x = np.broadcast_to(np.arange(float(nx)), y.shape)
    return _on_detector(spec, y.ravel(), x.ravel(), electrons.ravel())


def _on_detector(
    spec: NightSpec, y: NDArray[np.float64], x: NDArray[np.float64], value: NDArray[np.float64]
) -> Pixels:
    """Take whole pixels, drop those beyond the edge, order by row."""
    rows, columns = np.floor(y).astype(np.int64), np.floor(x).astype(np.int64)
    ny, nx = spec.camera.shape
    inside = np.flatnonzero((rows >= 0) & (rows < ny) & (columns >= 0) & (columns < nx))
    order = inside[np.argsort(rows[inside], kind="stable")]
    return Pixels(rows[order], columns[order], value[order].astype(np.float32))
