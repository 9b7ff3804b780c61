"""Simulated nights that are small enough to make many of."""

from astropy.io import fits

from masterframe import simulate

CAMERA = simulate.Camera(shape=(256, 256))
DETECTORS = ((1.5, 6.0), (1.5, 6.0), (1.0, 1.3), (2.0, 1.0), (0.25, 3.0))
"""Gain (e-/adu) and read noise (e-): the usual one, two whose noise is about a step, one whose
noise is many."""


def clean_spec(rng):
    """Return a night without faults: 3 to 7 frames of a kind, mostly with an overscan."""
    few = [rng.choice([3, 3, 4, 5, 6, 7]) for _ in range(4)]
    gain, read_noise = rng.choice(DETECTORS)
    return simulate.NightSpec(
        simulate.Camera(
            shape=(256, 256),
            overscan=rng.choice([32, 32, 16, 0]),
            gain=gain,
            read_noise=read_noise,
        ),
        bias=few[0],
        darks={120.0: few[1]},
        flats={"V": few[2], "B": few[3]},
        science={},
        stars=0,
        flat_light=rng.choice(["lamp", "twilight"]),
        seed=rng.randint(1, 10**6),
    )


def forget_noise(night):
    """Take from the headers of a night what the noise of its detector is."""
    for path in night.glob("*.fits"):
        with fits.open(path, mode="update") as hdus:
            for key in ("GAIN", "EGAIN", "RDNOISE"):
                hdus[0].header.pop(key, None)
