"""A Dask cluster of a scheduler and workers on loopback, each a process of its own."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from support import unavailable

WAIT = 60.0


@dataclass
class Cluster:
    """What was started."""

    address: str
    scheduler: subprocess.Popen
    workers: list[subprocess.Popen]


@contextmanager
def dask_cluster(folder: Path, *options: str, workers: int = 2, **environment) -> Iterator[Cluster]:
    """Start a scheduler and workers; end all of them with the block.

    Parameters
    ----------
    folder : path
        For the file by which workers find the scheduler, and for their logs.
    options
        Of scheduler and workers.
    workers : int
        Their number, of one thread each.
    environment
        More variables of the processes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "scheduler.json"
    file.unlink(missing_ok=True)
    common = ["--host", "127.0.0.1", "--dashboard-address", "127.0.0.1:0", *options]
    with contextlib.ExitStack() as stack:

        def start(role: str, name: str, *more: str) -> subprocess.Popen:
            log = stack.enter_context((folder / f"{name}.log").open("w"))
            command = [sys.executable, "-m", "dask", role, *common, "--scheduler-file", str(file)]
            process = subprocess.Popen(
                [*command, *more],
                env={**os.environ, **environment},
                stdout=log,
                stderr=log,
                cwd=folder,
            )
            stack.callback(process.wait)
            stack.callback(process.terminate)
            return process

        scheduler = start("scheduler", "scheduler", "--port", "0")
        end = time.monotonic() + WAIT
        while not file.exists() or not file.read_text():
            assert time.monotonic() < end, (folder / "scheduler.log").read_text()
            time.sleep(0.05)
        each = ["--nthreads", "1", "--death-timeout", "20", "--no-nanny"]
        started = [start("worker", f"worker-{n}", *each) for n in range(workers)]
        while True:
            logs = [(folder / f"worker-{n}.log").read_text() for n in range(workers)]
            if all("Registered to" in log for log in logs):
                break
            assert time.monotonic() < end, logs
            time.sleep(0.05)
        yield Cluster(json.loads(file.read_text())["address"], scheduler, started)


def network_interface():
    """Return the name and the address of an interface that others reach."""
    up = {name for name, facts in psutil.net_if_stats().items() if facts.isup}
    for name, addresses in psutil.net_if_addrs().items():
        for item in addresses:
            if name in up and item.family == socket.AF_INET and item.address != "127.0.0.1":
                return name, item.address
    return unavailable("a network interface besides loopback")
