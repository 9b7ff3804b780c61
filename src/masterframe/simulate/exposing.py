"""How a frame comes about: light falls through the optics, collects, and is read and digitised."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from masterframe.simulate.events import Stars, cosmic_rays, satellite
from masterframe.simulate.mosaic import amplifiers
from masterframe.simulate.noise import read_electrons
from masterframe.simulate.pattern import Pixels
from masterframe.simulate.planes import PlaneFile
from masterframe.simulate.schedule import Shot
from masterframe.simulate.spec import NightSpec
from masterframe.simulate.streams import CELL_ROWS, Purpose, cells, stream

LEAK = 3000.0
"""Electrons that a light leak leaves in its corner."""
FULL_SCALE = 65535
"""Largest number of the 16 bit converter."""


@dataclass(frozen=True)
class World:
    """All that the images of one CCD have in common."""

    spec: NightSpec
    """The night."""
    bias: PlaneFile
    """Bias above the overscan (adu)."""
    dark: PlaneFile
    """Dark current (electrons/s)."""
    flats: Mapping[str, PlaneFile]
    """Sensitivity by filter, with median 1."""
    stars: Stars
    """The field."""


class Readout:
    """The raw pixels of one image of a frame, made by rows.

    Any row comes out the same whichever rows are asked for with it. One unit of `Shot.light` gives
    one expected electron in a pixel of sensitivity 1; each value is ``bias_level + drift of its
    row + bias structure + electrons / gain``, rounded and cut at 0 and 65535.

    Parameters
    ----------
    world : World
        What the frames have in common.
    shot : Shot
        The frame.
    """

    def __init__(self, world: World, shot: Shot) -> None:
        self.world = world
        self.shot = shot
        self.events = (cosmic_rays(world.spec, shot), satellite(world.spec, shot))
        self.drift = row_drift(world.spec, shot)
        self.amplifiers = amplifiers(world.spec)

    def rows(self, y0: int, y1: int) -> NDArray[np.uint16]:
        """Return the rows [y0, y1) with their overscan, of shape (y1 - y0, raw columns)."""
        return np.concatenate([self._cell(cell)[part] for cell, part in cells(y0, y1)])

    def _cell(self, cell: int) -> NDArray[np.uint16]:
        spec, camera = self.world.spec, self.world.spec.camera
        y0 = cell * CELL_ROWS
        y1 = min(y0 + CELL_ROWS, camera.shape[0])
        mean = np.zeros((y1 - y0, camera.raw_shape[1]), np.float32)
        self._collect(mean[:, : camera.shape[1]], y0, y1)
        rng = stream(spec.seed, Purpose.PIXELS, self.shot.index, cell)
        adu = np.empty_like(mean)
        for amplifier in self.amplifiers:
            read = read_electrons(rng, mean[:, amplifier.columns], amplifier.read_noise)
            np.minimum(read, camera.full_well, out=read)
            read /= amplifier.gain
            read += amplifier.bias_level + self.drift[y0:y1, None]
            adu[:, amplifier.columns] = read
        adu[:, : camera.shape[1]] += self.world.bias.rows(y0, y1)
        np.rint(adu, out=adu)
        return np.clip(adu, 0, FULL_SCALE, out=adu).astype(np.uint16)

    def _collect(self, mean: NDArray[np.float32], y0: int, y1: int) -> None:
        """Add the electrons that are expected in the rows [y0, y1) to `mean`."""
        shot = self.shot
        if shot.kind == "science":
            self.world.stars.shine(mean, y0, self.world.spec, shot)
        if shot.light:
            mean += shot.light
        if mean.any():
            mean *= self.world.flats[shot.filter].rows(y0, y1)
        if shot.exptime:
            mean += np.float32(shot.exptime) * self.world.dark.rows(y0, y1)
        if shot.defect == "light_leak":
            mean += leak(self.world.spec.camera.shape, y0, y1)
        for events in self.events:
            add(events.of_rows(y0, y1), mean, y0)


def row_drift(spec: NightSpec, shot: Shot) -> NDArray[np.float32]:
    """Return how far the level of each row is off in a frame (adu): an offset and slow waves."""
    rng = stream(spec.seed, Purpose.EVENTS, shot.index)
    y = np.arange(spec.camera.shape[0]) / spec.camera.shape[0]
    drift = np.full(y.size, rng.standard_normal())
    for waves in (0.5, 1.3, 3.1):
        drift += rng.standard_normal() * np.sin(2 * np.pi * (waves * y + rng.uniform()))
    return (spec.camera.row_drift / math.sqrt(2.5) * drift).astype(np.float32)


def leak(shape: tuple[int, int], y0: int, y1: int) -> NDArray[np.float32]:
    """Return the electrons of a light leak in the rows [y0, y1): brightest in the first pixel."""
    ny, nx = shape
    y = np.exp(-3 * np.arange(y0, y1) / ny)
    x = np.exp(-3 * np.arange(nx) / nx)
    electrons: NDArray[np.float32] = np.outer(LEAK * y, x).astype(np.float32)
    return electrons


def add(pixels: Pixels, rows: NDArray[np.float32], y0: int) -> None:
    """Add values to pixels of rows that begin at row `y0`; a pixel listed twice gets both."""
    np.add.at(rows, (pixels.y - y0, pixels.x), pixels.value)
