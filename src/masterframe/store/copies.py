"""Plain copies of compressed inputs, made before their bands are read."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from uuid import uuid4

from masterframe import cluster, jobs, scratchfolder, unpacking
from masterframe.fits import scratch
from masterframe.store.resources import Resources
from masterframe.store.tasks import run_in_order


def unpack(
    images: Sequence[jobs.ImageJob], resources: Resources, rows: Sequence[int | None] = (None,)
) -> tuple[jobs.ImageJob, ...]:
    """Return jobs whose compressed files are read from plain copies, which are made now.

    One ``mf-unpack`` task a file, several at a time.

    Parameters
    ----------
    images : sequence of ImageJob
        The jobs.
    resources : Resources
        Where it runs, and the folder of the copies.
    rows : sequence of int, optional
        Rows of a band of each job: images in tiles that are taller are copied, too.

    Raises
    ------
    StorageError
        If the disk has no room for the copies; nothing is made then.
    FrameError
        If a file is damaged.
    """
    if not any(map(unpacking.is_compressed, images)):
        return tuple(images)
    folder = resources.scratch or scratchfolder.lasting_folder()
    placed = tuple(
        unpacking.with_copies(image, folder, height)
        for image, height in zip(images, rows, strict=True)
    )
    frames = scratch.lacking(frame for image in placed for frame in unpacking.frames_of(image))
    scratch.check_room(frames)
    tasks = (
        cluster.Call(f"mf-unpack-{uuid4().hex}", partial(scratch.make_copy, frame))
        for frame in frames
    )
    for _ in run_in_order(tasks, resources.runner):
        pass
    return placed
