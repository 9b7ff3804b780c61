"""Run two or more commands side by side, and say how they compare in time and memory.

Commands take turns: a round runs each once, and the next round begins with another one, so that a
machine that slows down or warms up does so for all. Ratios are taken within a round, to the first
command, and their median and range are printed.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

INTERVAL = 0.1
"""Time between two looks at the processes (s): five times as many slow them by 2 to 22 %."""


class CommandError(Exception):
    """A command that failed or took too long."""


@dataclass(frozen=True)
class Command:
    """A command and the name that it has in the table."""

    name: str
    arguments: tuple[str, ...]
    """Program and arguments; ``{scratch}`` stands for a folder that is fresh in every run."""


@dataclass(frozen=True)
class Run:
    """What one run of one command took."""

    wall: float
    """Time from start to end (s)."""
    cpu: float
    """User and system time of the processes that were waited for (s)."""
    largest: int
    """Peak resident size of the largest single process (bytes), as the kernel counted it."""
    tree: int
    """Peak of the sum over all its processes (bytes), by sampling; shared pages count in each."""


def tree_rss(root: psutil.Process) -> int:
    """Resident bytes of a process and all below it, now."""
    total = 0
    try:
        processes = [root, *root.children(recursive=True)]
    except psutil.Error:
        return 0
    for process in processes:
        try:
            total += process.memory_info().rss
        except psutil.Error:  # it has just ended
            continue
    return total


class Watch(threading.Thread):
    """Follows the memory of a process tree, and ends the tree where it takes too long."""

    def __init__(self, pid: int, timeout: float) -> None:
        super().__init__(daemon=True)
        self.pid = pid
        self.deadline = time.monotonic() + timeout
        self.peak = 0
        self.timed_out = False
        self.ended = threading.Event()

    def run(self) -> None:
        try:
            root = psutil.Process(self.pid)
        except psutil.NoSuchProcess:
            return
        while not self.ended.wait(INTERVAL):
            self.peak = max(self.peak, tree_rss(root))
            if time.monotonic() > self.deadline:
                self.timed_out = True
                os.killpg(self.pid, signal.SIGKILL)
                return

    def stop(self) -> None:
        """End the watch."""
        self.ended.set()
        self.join()


def run_once(command: Command, timeout: float) -> Run:
    """Run a command once, in a folder of its own."""
    with tempfile.TemporaryDirectory() as scratch, tempfile.TemporaryFile() as errors:
        arguments = [part.replace("{scratch}", scratch) for part in command.arguments]
        begin = time.perf_counter()
        process = subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            start_new_session=True,
        )
        watch = Watch(process.pid, timeout)
        watch.start()
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - begin
        watch.stop()
        process.returncode = os.waitstatus_to_exitcode(status)
        if watch.timed_out:
            raise CommandError(f"{command.name} took longer than {timeout:g} s")
        if process.returncode:
            errors.seek(max(0, errors.tell() - 2000))
            said = errors.read().decode(errors="replace").strip()
            raise CommandError(f"{command.name} ended with {process.returncode}: {said}")
    largest = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return Run(wall, usage.ru_utime + usage.ru_stime, largest, max(watch.peak, largest))


def warm(paths: Sequence[Path]) -> None:
    """Bring files into the page cache, and have the disk done with all that was written before."""
    os.sync()
    for path in paths:
        with path.open("rb") as file:
            while file.read(1 << 22):
                pass


def evict(paths: Sequence[Path]) -> None:
    """Put files out of the page cache."""
    for path in paths:
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def nothing() -> None:
    """Prepare nothing."""


def compare(
    commands: Sequence[Command],
    rounds: int = 5,
    timeout: float = 3600.0,
    prepare: Callable[[], None] = nothing,
) -> dict[str, list[Run]]:
    """Run the commands in turns.

    Parameters
    ----------
    commands : sequence of Command
        Two or more, with different names.
    rounds : int
        Runs of each that count; one of each before them does not.
    timeout : float
        A run that takes longer (s) is ended, with all its processes.
    prepare : callable
        Called before every run, untimed.

    Returns
    -------
    dict of str to list of Run
        The runs of each command, in the order of the rounds.

    Raises
    ------
    CommandError
        Where a command fails or takes too long.
    """
    found: dict[str, list[Run]] = {command.name: [] for command in commands}
    for number in range(-1, rounds):
        shift = number % len(commands)
        for command in [*commands[shift:], *commands[:shift]]:
            prepare()
            run = run_once(command, timeout)
            if number >= 0:
                found[command.name].append(run)
    return found


def ratios(runs: Sequence[Run], reference: Sequence[Run]) -> list[float]:
    """Wall time over that of the reference, round by round."""
    return [run.wall / other.wall for run, other in zip(runs, reference, strict=True)]


def table(found: dict[str, list[Run]]) -> str:
    """The comparison as plain text; the first command is the reference."""
    width = max(len(name) for name in found)
    lines = [
        f"{'':{width}}  {'wall s':>8} {'cpu s':>8} {'ratio':>6}  (range)        largest   tree MB"
    ]
    reference = next(iter(found.values()))
    for name, runs in found.items():
        ratio = ratios(runs, reference)
        spread = f"({min(ratio):.2f}-{max(ratio):.2f})"
        lines.append(
            f"{name:{width}}  {statistics.median(run.wall for run in runs):8.3f}"
            f" {statistics.median(run.cpu for run in runs):8.3f}"
            f" {statistics.median(ratio):6.2f}  {spread:<14}"
            f" {max(run.largest for run in runs) / 1e6:7.0f}"
            f" {max(run.tree for run in runs) / 1e6:9.0f}"
        )
    return "\n".join(lines)


def document(found: dict[str, list[Run]]) -> str:
    """The comparison as JSON: every run, and the ratios of the rounds."""
    reference = next(iter(found.values()))
    return json.dumps(
        {
            name: {"runs": [asdict(run) for run in runs], "ratios": ratios(runs, reference)}
            for name, runs in found.items()
        },
        indent=1,
    )


def parse(arguments: Sequence[str] | None = None) -> tuple[argparse.Namespace, list[Command]]:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("commands", nargs="+", metavar="NAME=COMMAND")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each command (5)")
    parser.add_argument("--timeout", type=float, default=3600, help="longest run in seconds")
    parser.add_argument("--data", type=Path, nargs="*", default=[], help="files that they read")
    parser.add_argument("--cold", action="store_true", help="put --data out of the page cache")
    parser.add_argument("--json", action="store_true", help="print every run as JSON")
    options = parser.parse_args(arguments)
    pairs = [text.partition("=") for text in options.commands]
    commands = [Command(name, tuple(shlex.split(line))) for name, _, line in pairs]
    if len({command.name for command in commands}) < max(2, len(commands)):
        parser.error("give two or more commands with different names")
    if any(not command.arguments for command in commands):
        parser.error("a command is written NAME=COMMAND, as in 'ours=masterframe combine ...'")
    if options.rounds < 1:
        parser.error("--rounds must be 1 or more")
    return options, commands


def main() -> int:
    """Compare the commands of the command line and print the result."""
    options, commands = parse()
    change = evict if options.cold else warm
    try:
        found = compare(commands, options.rounds, options.timeout, lambda: change(options.data))
    except (CommandError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(document(found) if options.json else table(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
