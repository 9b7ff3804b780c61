"""What a simulated night was made of, kept beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from masterframe.errors import FrameError, UsageError
from masterframe.simulate.events import Stars, cosmic_rays, satellite
from masterframe.simulate.mosaic import Amplifier, amplifiers, detectors
from masterframe.simulate.pattern import (
    Pixels,
    bias_plane,
    dark_plane,
    dead_pixels,
    flat_plane,
    hot_pixels,
)
from masterframe.simulate.planes import PlaneFile, write_plane
from masterframe.simulate.schedule import Shot, schedule
from masterframe.simulate.spec import NightSpec

RECORD = "truth.json"
LISTS = "lists.fits"


@dataclass(frozen=True, slots=True)
class Truth:
    """The truth of a night: images free of noise, events and bad files.

    Images are float32 of the shape of the pixels that see light (overscan trimmed), read from disk
    by rows. A raw value is ``round(level of its row, as the overscan has it + bias + (light * flat
    + dark current * exposure time + events, all with Poisson noise, + read noise) / gain)``, with
    light in electrons, cut at full well and at 0 and 65535. Images of a mosaic are those of its
    CCDs: see `extension`.
    """

    folder: Path
    """Folder of the truth."""
    night: Path
    """Folder of the raw files."""
    spec: NightSpec
    """What the night was asked to be."""
    shots: tuple[Shot, ...]
    """All files of the night, in the order in which they were taken."""

    @classmethod
    def load(cls, folder: Path | str) -> Truth:
        """Return the truth that `simulate_night` saved in a folder.

        Raises
        ------
        FrameError
            If the folder holds no truth.
        """
        folder = Path(folder)
        path = folder / RECORD
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            shots = tuple(Shot.from_json(shot) for shot in record["shots"])
            night = folder.parent / Path(record["night"]).name
            return cls(folder, night, NightSpec.from_json(record["spec"]), shots)
        except (OSError, ValueError, KeyError, TypeError) as error:
            reason = f"not the truth of a simulated night ({error}): simulate it again"
            raise FrameError(str(path), reason) from error

    def save(self) -> None:
        """Save what is needed to load the truth again; last, so that it tells a whole night."""
        record = {
            "night": str(Path("..") / self.night.name),
            "spec": self.spec.to_json(),
            "bad": dict(self.bad),
            "shots": [asdict(shot) for shot in self.shots],
        }
        (self.folder / RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")

    @property
    def extensions(self) -> tuple[str, ...]:
        """EXTNAME of each CCD; '' for a single one, which needs none."""
        return tuple(detectors(self.spec))

    def extension(self, name: str) -> Truth:
        """Return the truth of one CCD of a mosaic.

        Raises
        ------
        UsageError
            If the camera has no such CCD.
        """
        nights = detectors(self.spec)
        if name not in nights:
            raise UsageError(f"no CCD {name!r}: the camera has {', '.join(nights)}")
        return replace(self, folder=self.folder / name, spec=nights[name])

    @property
    def amplifiers(self) -> tuple[Amplifier, ...]:
        """The amplifiers of the CCD, from left to right."""
        return amplifiers(self.spec)

    @property
    def bad(self) -> Mapping[str, str]:
        """What is wrong with each file that is no use, by its name."""
        return {shot.name: shot.wrong for shot in self.shots if shot.wrong}

    def shot(self, name: str) -> Shot:
        """Return what truly happened in the file of that name.

        Raises
        ------
        UsageError
            If the night has no such file.
        """
        for shot in self.shots:
            if shot.name == name:
                return shot
        raise UsageError(f"the night has no file {name!r}: choose from those in {self.night}")

    def bias(self, y0: int = 0, y1: int | None = None) -> NDArray[np.float32]:
        """Return the bias (adu) in the rows [y0, y1) as it is after overscan subtraction.

        Without overscan columns, `Camera.bias_level` is still to be added.
        """
        return self._rows("bias", y0, y1)

    def dark_current(self, y0: int = 0, y1: int | None = None) -> NDArray[np.float32]:
        """Return the dark current (adu/s), hot pixels and all, in the rows [y0, y1)."""
        gain = np.empty(self.spec.camera.shape[1], np.float32)
        for amplifier in self.amplifiers:
            gain[amplifier.data.x0 : amplifier.data.x1] = amplifier.gain
        return self._rows("dark", y0, y1) / gain

    def flat(self, name: str, y0: int = 0, y1: int | None = None) -> NDArray[np.float32]:
        """Return the sensitivity to light through a filter in the rows [y0, y1).

        It is normalised to a median of 1 over all pixels of the image, dead ones too.

        Raises
        ------
        UsageError
            If the night does not use the filter.
        """
        if name not in self.spec.filters:
            raise UsageError(f"no filter {name!r}: the night has {', '.join(self.spec.filters)}")
        return self._rows(f"flat_{name}", y0, y1)

    def hot_pixels(self) -> Pixels:
        """Return the hot pixels and their dark current above the common one (electrons/s)."""
        return self._pixels("HOT")

    def dead_pixels(self) -> Pixels:
        """Return the pixels that see little light and their factor of sensitivity."""
        return self._pixels("DEAD")

    def cosmic_rays(self, name: str) -> Pixels:
        """Return the pixels of a file that cosmic rays hit, and the electrons they left."""
        return self._pixels("COSMIC", self.shot(name))

    def trail(self, name: str) -> Pixels:
        """Return the pixels of a file that a satellite crossed, and the electrons it left."""
        return self._pixels("TRAIL", self.shot(name))

    def stars(self) -> Stars:
        """Return the field before `Shot.dither` of a frame shifts it."""
        table = self._table("STARS")
        return Stars(*(table[name].astype(np.float64) for name in ("Y", "X", "FLUX")))

    def _rows(self, plane: str, y0: int, y1: int | None) -> NDArray[np.float32]:
        file = PlaneFile.open(self.folder / f"{plane}.fits")
        return file.rows(y0, file.shape[0] if y1 is None else y1)

    def _table(self, name: str) -> NDArray[Any]:
        from astropy.io import fits

        return np.asarray(fits.getdata(self.folder / LISTS, name))

    def _pixels(self, name: str, shot: Shot | None = None) -> Pixels:
        table = self._table(name)
        if shot:
            table = table[table["FILE"] == shot.index]
        y, x = (table[axis].astype(np.int64) for axis in ("Y", "X"))
        return Pixels(y, x, table["VALUE"].astype(np.float32))


def write_truth(folder: Path, night: Path, spec: NightSpec) -> Truth:
    """Make and save the images of a night, from which its raw files are made, and the lists."""
    truth = Truth(folder, night, spec, schedule(spec))
    for name in truth.extensions:
        _write_detector(truth.extension(name))
    return truth


def _write_detector(truth: Truth) -> None:
    """Save the images and lists of one CCD."""
    folder, spec = truth.folder, truth.spec
    folder.mkdir(exist_ok=True)
    shape = spec.camera.shape
    write_plane(folder / "bias.fits", shape, bias_plane(spec), "adu")
    write_plane(folder / "dark.fits", shape, dark_plane(spec), "electron/s")
    for name in spec.filters:
        flat = write_plane(folder / f"flat_{name}.fits", shape, flat_plane(spec, name), "")
        flat.divide(flat.median())
    _write_lists(truth)


def _write_lists(truth: Truth) -> None:
    """Save the lists of pixels and stars as tables, 0-based."""
    from astropy.io import fits

    spec = truth.spec
    tables = {
        "HOT": hot_pixels(spec)._asdict(),
        "DEAD": dead_pixels(spec)._asdict(),
        "COSMIC": _by_file([cosmic_rays(spec, shot) for shot in truth.shots]),
        "TRAIL": _by_file([satellite(spec, shot) for shot in truth.shots]),
        "STARS": Stars.scatter(spec)._asdict(),
    }
    hdus = fits.HDUList([fits.PrimaryHDU()])
    for name, columns in tables.items():
        rows = np.empty(
            columns["y"].size, [(key.upper(), column.dtype) for key, column in columns.items()]
        )
        for key, column in columns.items():
            rows[key.upper()] = column
        hdus.append(fits.BinTableHDU(rows, name=name))
    hdus.writeto(truth.folder / LISTS)


def _by_file(lists: list[Pixels]) -> dict[str, NDArray[Any]]:
    """Join the lists of the files, with the number of the file beside each pixel."""
    sizes = [pixels.y.size for pixels in lists]
    joined = Pixels(*(np.concatenate(parts) for parts in zip(*lists, strict=True)))
    return {"file": np.repeat(np.arange(len(lists), dtype=np.int32), sizes), **joined._asdict()}
