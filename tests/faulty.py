"""Faults of raw frames that an observer meets, planted into files that the simulator wrote."""

import numpy as np
from astropy.io import fits

TOP = 65535
GAIN = 1.5
"""Electrons per adu of the simulated camera."""


def alter(path, change, overscan=32):
    """Rewrite the pixels that see light of a raw frame by a function of them."""
    with fits.open(path, mode="update", output_verify="ignore") as hdus:
        data = hdus[0].data.astype(np.float64)
        light = data[:, :-overscan] if overscan else data
        light[...] = change(light)
        hdus[0].data = np.clip(np.rint(data), 0, TOP).astype(np.uint16)


def light_leak(path):
    """Light fell into a corner: 40 adu in the first pixel."""

    def change(light):
        y, x = (np.exp(-3 * np.arange(n) / n) for n in light.shape)
        return light + np.random.default_rng(1).poisson(40 * GAIN * np.outer(y, x)) / GAIN

    alter(path, change)


def dim(path, part):
    """The lamp gave but a part of its light."""
    alter(path, lambda light: 1000 + part * (light - 1000))


def lamp_fades(path):
    """The lamp had fallen to 60 % of its light."""
    dim(path, 0.6)


def tilt(path, slope):
    """The lamp had moved: its light has a slope along the columns, as a part of itself."""

    def change(light):
        ramp = np.linspace(-slope / 2, slope / 2, light.shape[0])[:, None]
        return 1000 + (1 + ramp) * (light - 1000)

    alter(path, change)


def warm(path):
    """The detector was so warm that its dark current was four times the usual: 7 e- more."""
    rng = np.random.default_rng(2)
    alter(path, lambda light: light + rng.poisson(7.2, light.shape) / GAIN)


def shutter_closed(path):
    """No light reached the detector."""
    rng = np.random.default_rng(3)
    alter(path, lambda light: rng.normal(1000, 4, light.shape))


def saturated(path):
    """A fifth of the pixels is at the end of the scale."""

    def change(light):
        light[: light.shape[0] // 5] = TOP
        return light

    alter(path, change)


def hot_column(path):
    """One column has 30 adu more."""

    def change(light):
        light[:, 100] += 30
        return light

    alter(path, change)


def dead_column(path):
    """One column sees but two thirds of the light."""

    def change(light):
        light[:, 100] = 1000 + (light[:, 100] - 1000) * 2 / 3
        return light

    alter(path, change)


def correlated_noise(path):
    """Noise as strong as that of the read, the same in about ten pixels on a side."""
    rng = np.random.default_rng(4)

    def change(light):
        ny, nx = light.shape
        coarse = rng.normal(0, 4, (ny // 10 + 1, nx // 10 + 1))
        return light + coarse.repeat(10, 0).repeat(10, 1)[:ny, :nx]

    alter(path, change)


def banding(path):
    """Pickup that moves the level of each row by as much as the noise of a pixel."""
    rng = np.random.default_rng(5)
    alter(path, lambda light: light + rng.normal(0, 4, (light.shape[0], 1)))


def other_camera(path):
    """A frame of another camera of the same size, whose header does not tell."""
    rng = np.random.default_rng(6)
    alter(path, lambda light: rng.normal(1030, 9, light.shape))
