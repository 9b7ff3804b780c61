"""Whether the jobs of a cluster can still come: what their queue says of them."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import Any

from masterframe.cluster.attendance import Note
from masterframe.model import ClusterSpec

ENDED = "ended-"
"""Beginning of the name of a file that a job leaves whose script has ended."""
ASK = {"SLURMCluster": ("squeue", "--noheader", "--format=%A", "--user")}
"""What prints the numbers of all jobs of a user that wait or run, by class of cluster."""
ASK_SECONDS = 5.0
"""How often a queue is asked, at first (s)."""
SELDOM = 20
"""It is asked after this part of the time that jobs have been waited for."""
GRACE = 5.0
"""Time (s) for which a job may be in no queue: one that has ended is replaced meanwhile."""
PATIENCE = 20.0
"""Time in which a queue is to answer (s)."""


class JobWatch:
    """Knows that no job can come any more; asked again and again while nobody works.

    Parameters
    ----------
    cluster : dask_jobqueue.JobQueueCluster
        It knows the numbers of its jobs.
    spec : ClusterSpec
        What was asked for.
    folder : Path
        Where jobs leave their marks.
    note : callable
        Is told of jobs that have left the queue where others have not.
    """

    def __init__(self, cluster: Any, spec: ClusterSpec, folder: Path, note: Note) -> None:
        self._cluster = cluster
        self._spec = spec
        self._folder = folder
        self._note = note
        self._began = self._next = time.monotonic()
        self._missing: dict[str, float] = {}
        self._told: frozenset[str] = frozenset()

    def why_none_begins(self) -> str:
        """Return why none of the first jobs can work any more; '' where one may."""
        if len(list(self._folder.glob(f"{ENDED}*"))) >= self._spec.jobs:
            return "all have ended before they could work"
        return self.why_none_comes()

    def why_none_comes(self) -> str:
        """Return why no job can come any more, the first or another one; '' where one may."""
        now = time.monotonic()
        if now < self._next:
            return ""
        self._next = now + max(ASK_SECONDS, (now - self._began) / SELDOM)
        jobs = [str(job.job_id or "") for job in list(self._cluster.workers.values())]
        listed = _listed(self._spec.cluster)
        if listed is None:
            return ""
        since = {job: self._missing.get(job, now) for job in jobs if job and job not in listed}
        self._missing = since
        gone = frozenset(job for job, first in since.items() if now - first >= GRACE)
        if gone and len(gone) == len(jobs) >= self._spec.jobs:
            return "all have left the queue: they were cancelled, or ended before they could work"
        if gone - self._told:
            names = ", ".join(sorted(gone))
            self._note(f"{len(gone)} of {len(jobs)} jobs have left the queue: {names}")
        self._told |= gone
        return ""


def _listed(kind: str) -> frozenset[str] | None:
    """Return the numbers of the user's jobs that wait or run; None where nobody knows."""
    if kind not in ASK:
        return None
    try:
        answer = subprocess.run(  # noqa: S603 - words of ours
            [*ASK[kind], str(os.getuid())],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return frozenset(answer.stdout.split())
