"""Files of frames for tests of stacks and their combination, and what was read of them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from masterframe.fits import counter


def write_frames(folder: Path, values: Any, cards: Sequence[dict] = (), **common) -> list[str]:
    """Write a file a frame, named and dated in their order; return the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, frame in enumerate(values):
        hdu = fits.PrimaryHDU(frame)
        hdu.header["DATE-OBS"] = f"2026-03-04T05:{number // 60:02d}:{number % 60:02d}"
        for key, value in {**common, **(cards[number] if cards else {})}.items():
            hdu.header[key.replace("_", "-")] = value
        path = folder / f"frame_{number:04d}.fits"
        hdu.writeto(path)
        paths.append(str(path))
    return paths


def raw_frames(shape: tuple[int, int, int], seed: int = 0, level: float = 500.0) -> Any:
    """Return noisy uint16 frames with a hit in a few of them."""
    rng = np.random.default_rng(seed)
    values = rng.normal(level, 7, shape)
    hits = rng.random(shape) < 0.01
    values[hits] += rng.choice([-300, 900], hits.sum())
    return values.round().astype(np.uint16)


@contextmanager
def count_bytes() -> Iterator[Any]:
    """Count the bytes of pixels that this process reads inside the block."""

    class Count:
        bytes = 0

    count, before = Count(), counter.bytes
    yield count
    count.bytes = counter.bytes - before


def pixels_and_tables(path: Path) -> Any:
    """All that a master holds but dates, paths and checksums; of numbers their text, as of NaN."""
    with fits.open(path) as hdus:
        planes = {hdu.name: hdu.data.tobytes() for hdu in hdus if hdu.is_image and hdu.size}
        inputs = hdus["INPUTS"].data
        kept = [name for name in inputs.columns.names if name != "PATH"]
        columns = {name: str(inputs[name].tolist()) for name in kept}
        return planes, columns, str(hdus["QUALITY"].data.tolist())
