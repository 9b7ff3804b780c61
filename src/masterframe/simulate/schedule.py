"""Which frames a night takes, in which order, and what is in front of the camera at each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from masterframe.errors import UsageError
from masterframe.model import Kind
from masterframe.simulate.spec import DEFECTS, NightSpec
from masterframe.simulate.streams import Purpose, stream

READOUT = 12.0
"""Time from the end of an exposure to the start of the next (s)."""


@dataclass(frozen=True, slots=True)
class Shot:
    """One file of the night: what truly happened."""

    name: str
    """Name of the file."""
    kind: Kind
    """What it is, whatever its header says."""
    exptime: float = 0.0
    """Exposure time (s)."""
    filter: str = ""
    """Filter in the beam."""
    filter_card: str = ""
    """FILTER of the header; differs from `filter` where the header is wrong."""
    light: float = 0.0
    """Even light: electrons in a pixel of sensitivity 1."""
    dither: tuple[float, float] = (0.0, 0.0)
    """Shift of the field (rows, columns; pixels)."""
    trail: bool = False
    """Whether a satellite crosses it."""
    defect: str = ""
    """Name in `DEFECTS`; '' for a good frame."""
    index: int = 0
    """Number of the file; key of its random streams."""
    date_obs: str = ""
    """Start, ISO 8601 in UTC."""

    @property
    def wrong(self) -> str:
        """What is wrong with the file, in words; '' for a good frame."""
        return DEFECTS[self.defect].summary if self.defect else ""

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Shot:
        """Return the shot whose fields were saved."""
        return cls(**{**values, "dither": tuple(values["dither"])})


def schedule(spec: NightSpec) -> tuple[Shot, ...]:
    """Return the files of a night: bias, dark, flat, science, and last those with a defect.

    Raises
    ------
    UsageError
        If two frames would have one name.
    """
    planned = [*_biases(spec), *_darks(spec), *_flats(spec), *_science(spec)]
    for defect in spec.defects:
        planned.append(_defective(defect, planned, spec))
    for name, count in Counter(shot.name for shot in planned).items():
        if count > 1:
            raise UsageError(f"simulated night: {count} files called {name}: rename the target")
    start = datetime.fromisoformat(spec.start)
    shots = []
    for index, shot in enumerate(planned):
        date = start.replace(tzinfo=None).isoformat(timespec="milliseconds")
        shots.append(_vary(spec, replace(shot, index=index, date_obs=date)))
        start += timedelta(seconds=shot.exptime + READOUT)
    return tuple(shots)


def _biases(spec: NightSpec) -> Iterator[Shot]:
    for i in range(spec.bias):
        yield Shot(f"bias_{i + 1:03d}.fits", "bias")


def _darks(spec: NightSpec) -> Iterator[Shot]:
    for exptime, count in spec.darks.items():
        for i in range(count):
            yield Shot(f"dark_{exptime:g}s_{i + 1:03d}.fits", "dark", exptime)


def _flats(spec: NightSpec) -> Iterator[Shot]:
    for number, (name, count) in enumerate(spec.flats.items()):
        for i in range(count):
            part = i / max(count - 1, 1)
            trend = 1.6 * (0.5 / 1.6) ** part if spec.flat_light == "twilight" else 1 - 0.03 * part
            yield Shot(
                f"flat_{name}_{i + 1:03d}.fits",
                "flat",
                spec.flat_exptime,
                name,
                name,
                light=spec.flat_level * spec.camera.gain * trend,
                trail=spec.trails and number == 0 and i == count // 2,
            )


def _science(spec: NightSpec) -> Iterator[Shot]:
    target = spec.target.replace(" ", "").lower()
    for number, (name, count) in enumerate(spec.science.items()):
        for i in range(count):
            yield Shot(
                f"{target}_{name}_{i + 1:03d}.fits",
                "science",
                spec.exptime,
                name,
                name,
                light=spec.sky * spec.exptime,
                trail=spec.trails and number == 0 and i == count // 2,
            )


def _vary(spec: NightSpec, shot: Shot) -> Shot:
    """Change the light a little from frame to frame, and point a little beside."""
    rng = stream(spec.seed, Purpose.SCHEDULE, shot.index)
    spread = {"flat": 0.005, "science": 0.05}.get(shot.kind, 0.0)
    light = shot.light * float(1 + spread * rng.uniform(-1, 1))
    if shot.kind != "science":
        return replace(shot, light=light)
    down, right = (float(shift) for shift in spec.dither * rng.uniform(-1, 1, 2))
    return replace(shot, light=light, dither=(down, right))


def _defective(defect: str, shots: list[Shot], spec: NightSpec) -> Shot:
    """Return the file of a defect, like the last good frame of its kind but for that."""
    kind = DEFECTS[defect].kind
    if kind == "other":
        return Shot("observing_log.fits", kind, defect=defect)
    alike = [shot for shot in shots if shot.kind == kind and not shot.defect]
    if defect == "duplicate":
        return replace(alike[0], defect=defect, name=f"copy_of_{alike[0].name}")
    # The name numbers on from the good frames, so as not to give the defect away.
    stem = alike[-1].name.rsplit("_", 1)[0]
    number = 1 + sum(shot.name.startswith(f"{stem}_") for shot in shots)
    shot = replace(alike[-1], defect=defect, trail=False, name=f"{stem}_{number:03d}.fits")
    match defect:
        case "shutter_closed":
            return replace(shot, light=0.0)
        case "saturated":
            return replace(shot, light=20 * 65535 * spec.camera.gain)
        case "wrong_filter":
            others = [name for name in spec.filters if name != shot.filter]
            return replace(shot, filter_card=others[0] if others else "clear")
        case "no_imagetyp":
            return replace(shot, name="frame_001.fits")
    return shot
