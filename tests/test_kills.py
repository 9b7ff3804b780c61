"""kill -9 at every step that matters: the next run goes on, and nothing is wrong or left behind."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import nights
from masterframe import journal
from stacks import pixels_and_tables
from support import program

pytestmark = [pytest.mark.slow, pytest.mark.system]

SHAPE = 96, 64
FRAMES = 6
MASTER = "night/master_bias_bin1x1.fits"
EVERY_BAND = """
from masterframe.journal import bands
bands.SECONDS = bands.SHARE = 0
from masterframe.cli import main
main()
"""
"""The command line with a claim a band, where that is not waited for."""


@pytest.fixture(scope="module")
def shim(tmp_path_factory):
    """The library that kills, compiled."""
    target = tmp_path_factory.mktemp("shim") / "faulty_io.so"
    source = Path(__file__).with_name("faulty_io.c")
    command = [program("gcc"), "-shared", "-fPIC", "-O1", "-o", target, source, "-ldl"]
    subprocess.run(command, check=True, capture_output=True)
    return str(target)


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kills") / "night"
    for seed in range(FRAMES):
        nights.raw(folder / f"bias_{seed}.fits", seed=seed, shape=SHAPE)
    return folder


@pytest.fixture(scope="module")
def whole(night, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole")
    assert finish(start(night, out)) == 0
    return pixels_and_tables(out / MASTER)


def start(night, out, *options, **environment):
    """Start a run, with what the library is asked for."""
    kept = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "MASTERFRAME_CACHE")}
    words = ["run", night, "-o", out, "--set", "report=false", "--json", *options]
    return subprocess.Popen(
        [sys.executable, "-c", EVERY_BAND, *map(str, words)],
        env=kept | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    """Wait for a run; return its exit code."""
    process.told, process.errors = process.communicate(timeout=120)
    assert "Traceback" not in process.errors, process.errors
    return process.returncode


def claimed_rows(out):
    """Return the rows that the next run has not to do again."""
    path = out / ".masterframe/parts" / f"{MASTER}.journal"
    if not path.exists():
        return 0
    progress = json.loads(path.read_text().partition(" ")[2])["progress"]
    return SHAPE[0] if progress["finished"] else progress["row"]


def bytes_read(process):
    """Return the bytes that a run has read for its only product."""
    (product,) = json.loads(process.told)["products"]
    return product["bytes_read"]


def assert_nothing_is_left(out):
    assert nights.files_in(out) == [MASTER]
    state = out / journal.STATE_FOLDER
    assert (state / "lock").read_bytes() == b""
    left = [path for path in state.rglob("*") if path.is_file()]
    assert {path.name for path in left} <= {"lock", "run.log", "run.json", "events.jsonl"}


POINTS = [
    *(("pwrite", 30, when, ".part") for when in ("before", "after")),
    *(("fdatasync", 3, when, ".part") for when in ("before", "after")),
    *(("fdatasync", 3, when, ".claim") for when in ("before", "after")),
    *(("rename", 3, when, ".claim") for when in ("before", "after")),
    *(("fsync", 1, when, ".part") for when in ("before", "after")),
    *(("rename", 1, when, ".part") for when in ("before", "after")),
    *(("unlink", 1, when, ".journal") for when in ("before", "after")),
]


@pytest.mark.parametrize("point", POINTS, ids=lambda p: f"{p[2]}-{p[0]}-{p[1]}-{p[3]}")
def test_a_kill_at_a_step(night, whole, tmp_path, shim, point):
    call, count, when, suffix = point
    out = tmp_path / "out"
    fault = {"FAULT": "slow=3", "FAULT_PATH": "/bias_"}
    killed = start(
        night, out, LD_PRELOAD=shim, KILL=f"{call}:{count}:{when}", KILL_PATH=suffix, **fault
    )
    assert finish(killed) == -signal.SIGKILL, killed.errors
    published = call == "unlink" or (call, when, suffix) == ("rename", "after", ".part")
    assert nights.files_in(out) == [MASTER] * published
    if published:
        assert pixels_and_tables(out / MASTER) == whole
    rows = claimed_rows(out)
    assert rows > 0 or (call, count, when) == ("unlink", 1, "after")
    if suffix == ".part" and call in ("fsync", "rename"):
        assert published or rows == SHAPE[0]
    second = start(night, out)
    assert finish(second) == 0, second.errors
    assert pixels_and_tables(out / MASTER) == whole
    row_bytes = FRAMES * SHAPE[1] * 2
    assert bytes_read(second) == (0 if published else row_bytes * (SHAPE[0] - rows))
    assert_nothing_is_left(out)
