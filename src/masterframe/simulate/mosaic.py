"""The CCDs of a camera and their amplifiers: each with its own numbers, from the seed of the night.

A mosaic is several detectors that expose together: each is simulated as a night of its own with the
frames of the whole one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from masterframe.model import Section
from masterframe.simulate.spec import Camera, NightSpec
from masterframe.simulate.streams import Purpose, stream


@dataclass(frozen=True, slots=True)
class Amplifier:
    """One amplifier of a CCD."""

    gain: float
    """Electrons per adu."""
    read_noise: float
    """Noise of one read (electrons)."""
    bias_level: float
    """Level of its overscan (adu)."""
    data: Section
    """Pixels that see light, in the raw image; no overscan comes before them."""
    overscan: Section
    """Its overscan in the raw image, behind the data of all amplifiers; of no columns without."""

    @property
    def columns(self) -> list[int]:
        """Columns of the raw image that it reads, in their order."""
        return [
            column
            for section in (self.data, self.overscan)
            for column in range(section.x0, section.x1)
        ]


def detectors(spec: NightSpec) -> dict[str, NightSpec]:
    """Return the night of each CCD by its EXTNAME; of a single one, whose name is '', as it is."""
    count = spec.camera.extensions
    if count == 1:
        return {"": spec}
    nights = {}
    for index in range(count):
        rng = stream(spec.seed, Purpose.MOSAIC, index)
        seed = int(rng.integers(1 << 62))
        camera = replace(_varied(spec.camera, rng), extensions=1)
        nights[f"CCD{index + 1}"] = replace(spec, camera=camera, seed=seed)
    return nights


def amplifiers(spec: NightSpec) -> tuple[Amplifier, ...]:
    """Return the amplifiers of the CCD of a night, from left to right."""
    camera = spec.camera
    rows, columns = camera.shape
    width = columns // camera.amplifiers
    found = []
    for index in range(camera.amplifiers):
        own = camera
        if camera.amplifiers > 1:
            own = _varied(camera, stream(spec.seed, Purpose.MOSAIC, index))
        last = index == camera.amplifiers - 1
        behind = columns + index * camera.overscan
        found.append(
            Amplifier(
                gain=own.gain,
                read_noise=own.read_noise,
                bias_level=own.bias_level,
                data=Section(0, rows, index * width, columns if last else (index + 1) * width),
                overscan=Section(0, rows, behind, behind + camera.overscan),
            )
        )
    return tuple(found)


def saturation(spec: NightSpec) -> int:
    """Return the raw value (adu) from which the first amplifier of a CCD is saturated."""
    return min(
        replace(spec.camera, gain=own.gain, bias_level=own.bias_level).saturation
        for own in amplifiers(spec)
    )


def _varied(camera: Camera, rng: np.random.Generator) -> Camera:
    """Return the camera with gain, read noise and level a little off, as a header gives them."""

    def vary(value: float) -> float:
        return round(value * float(1 + camera.amplifier_spread * rng.uniform(-1, 1)), 3)

    return replace(
        camera,
        gain=vary(camera.gain),
        read_noise=vary(camera.read_noise),
        bias_level=vary(camera.bias_level),
    )
