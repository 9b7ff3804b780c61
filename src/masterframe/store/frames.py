"""Calibrated frames: each is written where it is made."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from uuid import uuid4

from masterframe import calibrated, cluster, scratchfolder, unpacking
from masterframe.errors import MasterframeError, StorageError
from masterframe.fits import scratch
from masterframe.store.resources import Resources
from masterframe.store.tasks import run_in_order


def write_all_calibrated(
    jobs: Sequence[calibrated.CalibratedJob], resources: Resources
) -> Iterator[calibrated.Written | MasterframeError]:
    """Write calibrated frames, one ``mf-calibrate`` task each, several at a time.

    Yields
    ------
    Written or MasterframeError
        What became of each job in its order.

    Raises
    ------
    StorageError
        If an output cannot be written: the others could not either.
    """
    folder = resources.scratch or scratchfolder.lasting_folder()
    tasks = (
        cluster.Call(
            f"mf-calibrate-{uuid4().hex}",
            partial(_write_or_error, unpacking.calibrated_with_copies(job, folder)),
        )
        for job in jobs
    )
    return run_in_order(tasks, resources.runner)


def _write_or_error(job: calibrated.CalibratedJob) -> calibrated.Written | MasterframeError:
    try:
        return calibrated.write_calibrated(job)
    except StorageError:
        raise
    except MasterframeError as error:
        return error
    finally:
        scratch.discard(item.image.frame for item in job.images)
