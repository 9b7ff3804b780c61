"""Simulated nights that are small enough to make many of."""

from masterframe import simulate

CAMERA = simulate.Camera(shape=(256, 256))


def clean_spec(rng):
    """Return a night without faults: 3 to 6 frames of a kind, mostly with an overscan."""
    few = [rng.randint(3, 6) for _ in range(4)]
    return simulate.NightSpec(
        simulate.Camera(shape=(256, 256), overscan=rng.choice([32, 32, 16, 0])),
        bias=few[0],
        darks={120.0: few[1]},
        flats={"V": few[2], "B": few[3]},
        science={},
        stars=0,
        flat_light=rng.choice(["lamp", "twilight"]),
        seed=rng.randint(1, 10**6),
    )
