"""What the detector and the optics are like, night for night: the truth that masters estimate.

Each plane is made by cells of rows (`masterframe.simulate.streams`), of shape (rows, columns).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from masterframe.simulate.spec import Camera, NightSpec
from masterframe.simulate.streams import CELL_ROWS, Purpose, stream

DEAD_RESPONSE = 0.05
"""Sensitivity of a dead pixel over that of its neighbours."""

Plane = NDArray[np.float32]


class Pixels(NamedTuple):
    """Some pixels, ordered by row, with a value each; arrays of one shape (n,)."""

    y: NDArray[np.int64]
    """Rows."""
    x: NDArray[np.int64]
    """Columns."""
    value: NDArray[np.float32]
    """Values."""

    def of_rows(self, y0: int, y1: int) -> Pixels:
        """Return those of the rows [y0, y1)."""
        first, last = np.searchsorted(self.y, (y0, y1))
        return Pixels(self.y[first:last], self.x[first:last], self.value[first:last])


def hot_pixels(spec: NightSpec) -> Pixels:
    """Choose the hot pixels and the dark current of each on top of the common one (electrons/s)."""
    camera = spec.camera
    rng = stream(spec.seed, Purpose.DARK)
    y, x = _scatter(rng, camera.shape, camera.hot_fraction)
    low, high = np.log(camera.hot_rate)
    return Pixels(y, x, np.exp(rng.uniform(low, high, y.size)).astype(np.float32))


def dead_pixels(spec: NightSpec) -> Pixels:
    """Choose the pixels that see little light, with their factor of sensitivity."""
    rng = stream(spec.seed, Purpose.RESPONSE)
    y, x = _scatter(rng, spec.camera.shape, spec.camera.dead_fraction)
    return Pixels(y, x, np.full(y.size, DEAD_RESPONSE, np.float32))


def bias_plane(spec: NightSpec) -> Iterator[Plane]:
    """Yield the bias above the overscan (adu): columns, pixels and a smooth wave."""
    camera = spec.camera
    ny, nx = camera.shape
    columns = camera.bias_columns * _normal(spec.seed, Purpose.BIAS, nx)
    wave = (2 * np.pi * 0.7 / nx * np.arange(nx)).astype(np.float32)
    for cell, y in _rows(camera):
        pixels = _normal(spec.seed, Purpose.BIAS, (y.size, nx), cell)
        smooth = np.sin(wave + (2 * np.pi * 1.3 / ny * y[:, None]).astype(np.float32))
        yield columns + camera.bias_ripple * smooth + camera.bias_pixels * pixels


def dark_plane(spec: NightSpec) -> Iterator[Plane]:
    """Yield the dark current (electrons/s): pixels, the glow of the amplifier, hot pixels."""
    camera = spec.camera
    ny, nx = camera.shape
    hot = hot_pixels(spec)
    reach = (ny + nx) / 20
    across = np.exp((np.arange(nx) - nx) / reach)
    for cell, y in _rows(camera):
        pixels = _normal(spec.seed, Purpose.DARK, (y.size, nx), cell)
        glow = np.outer(camera.glow * np.exp(-y / reach), across).astype(np.float32)
        plane = camera.dark_current * np.exp(camera.dark_spread * pixels) + glow
        here = hot.of_rows(y[0], y[-1] + 1)
        plane[here.y - y[0], here.x] += here.value
        yield plane


def flat_plane(spec: NightSpec, name: str) -> Iterator[Plane]:
    """Yield the sensitivity to light through a filter, not yet normalised."""
    camera = spec.camera
    ny, nx = camera.shape
    dust = Dust.settle(spec, name)
    dead = dead_pixels(spec)
    # Illumination falls with the fourth power of the cosine of the angle off axis.
    corner = (1 - camera.vignetting) ** -0.5 - 1
    across = 1 + 2 * corner * ((np.arange(nx) + 0.5) / nx - 0.5) ** 2
    for cell, y in _rows(camera):
        along = 2 * corner * ((y[:, None] + 0.5) / ny - 0.5) ** 2
        plane = np.square(1 / (across + along).astype(np.float32))
        dust.shade(plane, y[0])
        pixels = _normal(spec.seed, Purpose.RESPONSE, plane.shape, cell)
        plane *= np.exp(camera.response_spread * pixels)
        here = dead.of_rows(y[0], y[-1] + 1)
        plane[here.y - y[0], here.x] *= here.value
        yield plane


class Dust(NamedTuple):
    """Rings that grains of dust, out of focus, cast on the detector; arrays of one shape (n,)."""

    y: NDArray[np.float64]
    """Centres (rows)."""
    x: NDArray[np.float64]
    """Centres (columns)."""
    radius: NDArray[np.float64]
    """Outer radii (pixels); the inner ones are 0.4 of it, as the pupil of a reflector has it."""
    depth: NDArray[np.float64]
    """Fraction of the light that is taken."""

    @classmethod
    def settle(cls, spec: NightSpec, name: str) -> Dust:
        """Place the dust that is seen through a filter."""
        rng = stream(spec.seed, Purpose.DUST, spec.filters.index(name))
        ny, nx = spec.camera.shape
        n = spec.camera.dust
        # Grains lie on few surfaces, so that the rings are alike in size.
        radius = min(ny, nx, 2000) * rng.choice([0.02, 0.04], n)
        return cls(rng.uniform(0, ny, n), rng.uniform(0, nx, n), radius, rng.uniform(0.02, 0.1, n))

    def shade(self, plane: Plane, top: int) -> None:
        """Dim the rows of a plane that begins at row `top`."""
        y = top + np.arange(plane.shape[0])[:, None]
        for y0, x0, radius, depth in zip(*self, strict=True):
            reach = radius + 5
            if y0 + reach < top or y0 - reach > y[-1, 0]:
                continue
            left, right = max(int(x0 - reach), 0), int(x0 + reach) + 1
            here = plane[:, left:right]
            distance = np.hypot(y - y0, np.arange(left, left + here.shape[1]) - x0)
            ring = np.clip(radius - distance + 0.5, 0, 1) * np.clip(
                distance - 0.4 * radius + 0.5, 0, 1
            )
            here *= (1 - depth * ring).astype(np.float32)


def _rows(camera: Camera) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Yield each cell with the rows that it holds."""
    ny = camera.shape[0]
    for top in range(0, ny, CELL_ROWS):
        yield top // CELL_ROWS, np.arange(top, min(top + CELL_ROWS, ny))


def _normal(seed: int, purpose: Purpose, shape: int | tuple[int, ...], *cell: int) -> Plane:
    return stream(seed, purpose, *cell).standard_normal(shape, dtype=np.float32)


def _scatter(
    rng: np.random.Generator, shape: tuple[int, int], fraction: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Choose a fraction of the pixels; none twice, ordered by row."""
    size = shape[0] * shape[1]
    chosen = np.sort(rng.choice(size, round(fraction * size), replace=False, shuffle=False))
    y, x = np.divmod(chosen, shape[1])
    return y, x
