"""A whole simulated night, from a specification to a folder."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from masterframe.errors import StorageError, UsageError
from masterframe.simulate.events import Stars
from masterframe.simulate.exposing import Readout, World
from masterframe.simulate.planes import PlaneFile
from masterframe.simulate.rawfile import copy_raw, raw_bytes, write_raw
from masterframe.simulate.schedule import Shot
from masterframe.simulate.spec import NightSpec
from masterframe.simulate.truth import Truth, write_truth

Progress = Callable[[int, int], None]
"""Told how many files are written, and of how many."""


def simulate_night(
    folder: Path | str,
    spec: NightSpec | None = None,
    *,
    workers: int = 2,
    progress: Progress | None = None,
) -> Truth:
    """Write the raw files of a night into ``folder/night`` and their truth into ``folder/truth``.

    The same specification gives the same bytes, however many threads write them. Each thread holds
    a few rows at a time.

    Parameters
    ----------
    folder : path-like
        Where the night goes; made if needed.
    spec : NightSpec, optional
        What the night holds; the default night if not given.
    workers : int
        Threads that write files.
    progress : callable, optional
        Called as ``progress(done, total)`` after each file.

    Returns
    -------
    Truth
        What the night was made of.

    Raises
    ------
    UsageError
        If there are no workers.
    StorageError
        If there is a night in the folder already, or it cannot be written.
    """
    spec = spec or NightSpec()
    if workers < 1:
        raise UsageError(f"{workers} workers: give at least 1")
    folder = Path(folder)
    night, beside = folder / "night", folder / "truth"
    try:
        for new in (night, beside):
            _make_empty(new)
        _check_space(folder, spec)
        truth = write_truth(beside, night, spec)
        _write_frames(truth, workers, progress)
        truth.save()
    except OSError as error:
        reason = error.strerror or str(error)
        raise StorageError(
            f"cannot write a night to {folder}: {reason}; choose another folder"
        ) from error
    return truth


def _make_empty(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise StorageError(f"{folder} is not empty: choose another folder, or remove it")


def _check_space(folder: Path, spec: NightSpec) -> None:
    ny, nx = spec.camera.shape
    files = sum(spec.count(kind) for kind in ("bias", "dark", "flat", "science"))
    planes = 4 * ny * nx * (2 + len(spec.filters)) * spec.camera.extensions
    needed = (files + len(spec.defects)) * raw_bytes(spec) + planes
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise StorageError(
            f"the night takes {needed / 1e9:.1f} GB and {folder} has {free / 1e9:.1f} GB free: "
            "make it smaller, or choose another folder"
        )


def _world(truth: Truth) -> World:
    """Return what the images of one CCD have in common."""
    spec, planes = truth.spec, truth.folder
    flats = {name: PlaneFile.open(planes / f"flat_{name}.fits") for name in spec.filters}
    bias, dark = (PlaneFile.open(planes / f"{name}.fits") for name in ("bias", "dark"))
    return World(spec, bias, dark, flats, Stars.scatter(spec))


def _write_frames(truth: Truth, workers: int, progress: Progress | None) -> None:
    worlds = {name: _world(truth.extension(name)) for name in truth.extensions}

    def write(shot: Shot) -> None:
        readouts = {name: Readout(world, shot) for name, world in worlds.items()}
        write_raw(truth.night, truth.spec, shot, readouts)

    copies = [shot for shot in truth.shots if shot.defect == "duplicate"]
    shots = [shot for shot in truth.shots if shot.defect != "duplicate"]
    with ThreadPoolExecutor(workers, thread_name_prefix="simulate") as pool:
        futures = [pool.submit(write, shot) for shot in shots]
        try:
            for done, future in enumerate(as_completed(futures), start=1):
                future.result()
                if progress:
                    progress(done, len(truth.shots))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    for done, shot in enumerate(copies, start=len(shots) + 1):
        copy_raw(truth.night, shot)
        if progress:
            progress(done, len(truth.shots))
