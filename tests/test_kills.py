"""kill -9 at every step that matters: the next run goes on, and nothing is wrong or left behind."""

import contextlib
import random
import signal
import time

import psutil
import pytest

import nights
import slowed
from clusters import dask_cluster
from masterframe import journal
from nights import call
from slowed import ALL_BYTES, MOSAIC, SLOW, bands_came, bytes_read, claim_of, claimed_bytes, finish
from stacks import pixels_and_tables

pytestmark = [pytest.mark.slow, pytest.mark.system]

SHAPE = 96, 64
FRAMES = 6
MASTER = "night/master_bias_bin1x1.fits"


@pytest.fixture(scope="module")
def shim(tmp_path_factory):
    """The library that kills, compiled."""
    return slowed.compile_faults(tmp_path_factory.mktemp("shim"))


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


def start(*arguments, **environment):
    """Start a run that is ended with the test."""
    STARTED.append(slowed.start(*arguments, **environment))
    return STARTED[-1]


STARTED = []


@pytest.fixture(autouse=True)
def ended():
    """End what a failed test has left running."""
    yield
    while STARTED:
        with STARTED.pop() as process:
            process.kill()


def claimed_rows(out):
    """Return the rows that the next run has not to do again."""
    finished, row = claim_of(out, MASTER)
    return SHAPE[0] if finished else row


def assert_nothing_is_left(out):
    assert nights.files_in(out) == [MASTER]
    state = out / journal.STATE_FOLDER
    assert (state / "lock").read_bytes() == b""
    left = {path.name for path in state.rglob("*") if path.is_file()}
    left -= {path.name for path in (state / "scans").glob("*.json")}
    assert left <= {"lock", "run.log", "run.json", "ledger.json", "events.jsonl"}


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
    fault = {"FAULT": "slow=25", "FAULT_PATH": "/bias_"}  # else there are too few claims
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
    if suffix == ".part" and call == "rename":
        assert published or rows == SHAPE[0]
    second = start(night, out)
    assert finish(second) == 0, second.errors
    assert pixels_and_tables(out / MASTER) == whole
    row_bytes = FRAMES * SHAPE[1] * 2
    assert bytes_read(second) == (0 if published else row_bytes * (SHAPE[0] - rows))
    assert_nothing_is_left(out)


# --- at random moments, of driver, worker and scheduler -------------------------------------------


@pytest.fixture(scope="module")
def mosaics(tmp_path_factory):
    return slowed.write_mosaics(tmp_path_factory.mktemp("mosaics") / "night")


@pytest.fixture(scope="module")
def whole_mosaic(mosaics, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole-mosaic")
    assert finish(start(mosaics, out)) == 0
    return pixels_and_tables(out / MOSAIC)


@pytest.fixture(scope="module")
def whole_of_bands(mosaics, tmp_path_factory):
    """The same where nothing is read but bands."""
    out = tmp_path_factory.mktemp("whole-of-bands")
    assert finish(start(mosaics, out, *slowed.NO_SAMPLES)) == 0
    return pixels_and_tables(out / MOSAIC)


def test_kills_of_the_driver_at_random_moments(
    mosaics, whole_mosaic, tmp_path, shim, capsys, monkeypatch
):
    out, moments, claim = tmp_path / "out", random.Random(3), (0, 0)
    for number in range(11):
        process = start(mosaics, out, "--workers", "2", LD_PRELOAD=shim, **SLOW)
        bands_came(out, claim, process)
        if not number:
            assert call(capsys, monkeypatch, "status", out)[1].startswith("running: ")
        time.sleep(moments.uniform(0, 0.15))
        process.kill()
        assert finish(process) == -signal.SIGKILL
        assert not nights.files_in(out)
        assert claim_of(out) > claim
        claim = claim_of(out)
    code, told, _ = call(capsys, monkeypatch, "status", out)
    assert code == 1
    assert told.startswith("dead: last heard of at ")
    last = start(mosaics, out)
    assert finish(last) == 0, last.errors
    assert bytes_read(last) == ALL_BYTES - claimed_bytes(claim)
    assert pixels_and_tables(out / MOSAIC) == whole_mosaic
    assert_nothing_is_left(out)


def workers_of(process):
    """Return the worker processes of a run."""
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if "spawn_main" in " ".join(child.cmdline()):
                found.append(child)
    return found


def test_kills_of_workers_at_random_moments(mosaics, whole_of_bands, tmp_path, shim):
    out, moments, claim = tmp_path / "out", random.Random(4), (0, 0)
    where, log = ["--scheduler", "processes", "--workers", "2"], tmp_path / "reads"
    process = start(
        mosaics, out, *where, *slowed.NO_SAMPLES, LD_PRELOAD=shim, READ_LOG=str(log), **SLOW
    )
    killed = []
    for _ in range(6):
        bands_came(out, claim, process)
        claim = claim_of(out)
        time.sleep(moments.uniform(0, 0.3))
        killed.append((claim, len(log.read_text().splitlines())))
        moments.choice(workers_of(process)).kill()
    helpers = psutil.Process(process.pid).children(recursive=True)
    assert finish(process) == 0, process.errors
    assert slowed.rows_read(log).min() >= 1
    for claim, lines in killed:
        assert not slowed.of_claimed(slowed.rows_read(log, lines), claim).any()
    assert pixels_and_tables(out / MOSAIC) == whole_of_bands
    assert_nothing_is_left(out)
    assert not psutil.wait_procs(helpers, timeout=10)[1]


def test_a_kill_of_the_driver_takes_its_workers_along(mosaics, whole_mosaic, tmp_path, shim):
    out = tmp_path / "out"
    where = ["--scheduler", "processes", "--workers", "2"]
    process = start(mosaics, out, *where, LD_PRELOAD=shim, **SLOW)
    bands_came(out, (0, 0), process)
    helpers = psutil.Process(process.pid).children(recursive=True)
    assert len(helpers) >= 2
    process.kill()
    process.communicate()
    assert not psutil.wait_procs(helpers, timeout=20)[1]
    assert claim_of(out) > (0, 0)
    assert finish(start(mosaics, out, *where)) == 0
    assert pixels_and_tables(out / MOSAIC) == whole_mosaic


def test_kills_of_the_scheduler_at_random_moments(mosaics, whole_of_bands, tmp_path, shim):
    out, moments, claim = tmp_path / "out", random.Random(5), (0, 0)
    for number in range(2):
        log = tmp_path / f"reads-{number}"
        noted = {"LD_PRELOAD": shim, "READ_LOG": str(log), **SLOW}
        with dask_cluster(tmp_path / str(number), **noted) as cluster:
            process = start(mosaics, out, "--scheduler", cluster.address, *slowed.NO_SAMPLES)
            bands_came(out, claim, process)
            time.sleep(moments.uniform(0, 0.2))
            cluster.scheduler.kill()
            assert finish(process) == 5, process.errors
            assert "a second run goes on with what is not done" in process.errors
            assert len(process.errors.splitlines()) < 12, process.errors
        assert not nights.files_in(out)
        read, before, claim = slowed.rows_read(log), claim, claim_of(out)
        assert not slowed.of_claimed(read, before).any()
        assert claim > before
        assert slowed.of_claimed(read, claim).sum() * 2 * slowed.TALL[2] == (
            claimed_bytes(claim) - claimed_bytes(before)
        )
    last = start(mosaics, out, *slowed.NO_SAMPLES)
    assert finish(last) == 0, last.errors
    assert bytes_read(last) == ALL_BYTES - claimed_bytes(claim)
    assert pixels_and_tables(out / MOSAIC) == whole_of_bands
    assert_nothing_is_left(out)
