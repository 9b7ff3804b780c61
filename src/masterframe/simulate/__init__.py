"""Realistic raw nights of any size from a seed, with known truth.

>>> from masterframe.simulate import Camera, NightSpec, simulate_night
>>> spec = NightSpec(Camera(shape=(480, 640)), bias=10, defects=("truncated",), seed=7)
>>> truth = simulate_night("somewhere", spec)  # doctest: +SKIP
>>> truth.bad  # doctest: +SKIP
{'ngc6819_V_006.fits': 'the file ends after 40 % of its pixels'}
"""

from masterframe.simulate.mosaic import Amplifier
from masterframe.simulate.night import simulate_night
from masterframe.simulate.pattern import Pixels
from masterframe.simulate.schedule import Shot
from masterframe.simulate.spec import DEFECTS, Camera, Defect, NightSpec
from masterframe.simulate.truth import Truth

__all__ = [
    "DEFECTS",
    "Amplifier",
    "Camera",
    "Defect",
    "NightSpec",
    "Pixels",
    "Shot",
    "Truth",
    "simulate_night",
]
