"""The file that a master is written to, and how far an earlier run has brought it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

from masterframe import jobs, journal
from masterframe.errors import FrameError
from masterframe.fits import partfile, write
from masterframe.masterfile import Totals


class Finished(NamedTuple):
    """One image of a master, of which nothing is left to be done."""

    totals: Totals
    """Its numbers per frame."""
    numbers: dict[str, float]
    """Those of the table QUALITY."""


@dataclass(frozen=True)
class Progress:
    """How far a master has come."""

    finished: tuple[Finished, ...] = ()
    """Its first images."""
    row: int = 0
    """Rows of the next image that are written."""
    totals: Totals | None = None
    """The numbers per frame of these rows; None where there are none."""

    def as_document(self) -> dict[str, Any]:
        """Return it in the types of JSON, bit for bit."""
        return {
            "finished": [[image.totals.state(), image.numbers] for image in self.finished],
            "row": self.row,
            "totals": self.totals.state() if self.totals else None,
        }

    @classmethod
    def of_document(cls, document: dict[str, Any], job: jobs.MasterJob) -> Progress:
        """Return what `as_document` gave of the same job."""
        restore = partial(Totals.restore, len(job.inputs))
        return cls(
            tuple(Finished(restore(state), numbers) for state, numbers in document["finished"]),
            document["row"],
            restore(document["totals"]) if document["totals"] else None,
        )


@dataclass(frozen=True)
class Output:
    """A master that is being written."""

    file: write.ImageFile
    """The file."""
    start: Progress
    """How far an earlier run had come."""
    journal: journal.BandJournal
    """What a later run is told."""

    def reached(self, finished: Sequence[Finished], row: int, totals: Totals) -> None:
        """Say that so many rows are written after some whole images."""
        self.journal.reached(lambda: Progress(tuple(finished), row, totals).as_document())

    def withdraw(self, finished: Sequence[Finished]) -> None:
        """Say that nothing but some whole images can be relied on: the next is changed in place."""
        self.journal.withdraw(lambda: Progress(tuple(finished)).as_document())

    def settle(self, finished: Sequence[Finished]) -> None:
        """Say that some images are whole."""
        self.journal.settle(lambda: Progress(tuple(finished)).as_document())


@contextmanager
def open_output(
    job: jobs.MasterJob, planes: Sequence[write.PlaneSpec], fingerprint: Callable[[], str]
) -> Iterator[Output]:
    """Open the file of a master: the part that an earlier run left, or a new one.

    What is left by a run that ends early is what it had claimed; where an input is at fault,
    nothing.

    Parameters
    ----------
    job : MasterJob
        What is written.
    planes : sequence of PlaneSpec
        The HDUs of its images.
    fingerprint : callable
        Returns what decides its pixels, '' where that cannot be told.

    Raises
    ------
    StorageError
        If the file cannot be written.
    """
    fingerprint = cache(fingerprint)
    path = (job.part or partfile.part_of(job.path)).with_suffix(".journal")
    output = _taken_up(job, planes, path, fingerprint) or _begun(job, planes, path, fingerprint)
    with output.file:
        try:
            yield output
        except FrameError:
            output.journal.close()
            output.journal.remove()
            raise
        except BaseException:
            output.journal.close()
            if output.journal.claimed:
                output.file.keep()
            raise
        output.journal.close()
        output.journal.remove()


def _taken_up(
    job: jobs.MasterJob,
    planes: Sequence[write.PlaneSpec],
    path: Path,
    fingerprint: Callable[[], str],
) -> Output | None:
    """Return the output that an earlier run has begun; None where there is none to be believed."""
    claim = journal.read_claim(path, fingerprint()) if path.exists() else None
    if claim is None:
        return None
    file = write.ImageFile.reopen(
        job.path,
        planes,
        overwrite=job.overwrite,
        part=path.with_suffix(".part"),
        identity=claim.identity,
    )
    if file is None:
        return None
    claims = journal.BandJournal(path, file, fingerprint, claimed=True)
    return Output(file, Progress.of_document(claim.progress, job), claims)


def _begun(
    job: jobs.MasterJob,
    planes: Sequence[write.PlaneSpec],
    path: Path,
    fingerprint: Callable[[], str],
) -> Output:
    if path.exists():
        path.unlink()  # before the part: nothing may be claimed of the new one
    file = write.ImageFile.create(job.path, planes, overwrite=job.overwrite, part=job.part)
    return Output(file, Progress(), journal.BandJournal(path, file, fingerprint))
