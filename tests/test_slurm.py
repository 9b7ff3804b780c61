"""A real Slurm runs the jobs: the same bits as threads, and nothing is left behind."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from astropy.io import fits

import nights
import slowed
import slurm
from clusters import network_interface
from masterframe import events, scratchfolder
from masterframe.simulate import Camera, NightSpec, simulate_night
from slowed import ALL_BYTES, CCDS, MOSAIC, SLOW, bands_came, claim_of, claimed_bytes, wait_until
from stacks import pixels_and_tables
from support import ROOT, shared

pytestmark = [pytest.mark.slow, pytest.mark.system, pytest.mark.timeout(600)]

JOBS = """
cluster: SLURMCluster
jobs: 2
wait: 120
tls: {tls}
options: {{memory: 1GB, walltime: "00:10:00", queue: main}}
"""
ALLOCATION = """
cluster: SLURMRunner
wait: 60
tls: {tls}
"""
TIMES_PATHS_SUMS = ["DATE", "CHECKSUM", "DATASUM", "MFREC*"]


@pytest.fixture(scope="module")
def environment():
    with slurm.private_slurm() as found:
        yield found


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    spec = NightSpec(
        Camera(shape=(290, 410)), bias=7, darks={60.0: 3}, flats={"V": 4}, science={"V": 2}
    )
    return simulate_night(tmp_path_factory.mktemp("slurm"), spec).night


def described(tmp_path, words, tls):
    path = tmp_path / "cluster.yaml"
    path.write_text(words.format(tls=tls))
    return path


def reduce(night, out, environment, *arguments):
    process = start(night, out, environment, *arguments)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return errors


def start(night, out, environment, *arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "masterframe", "run", night, "-o", out, *map(str, arguments)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def assert_equal_products(out, expected):
    products = [name for name in nights.files_in(expected) if name.endswith(".fits")]
    assert products
    assert nights.files_in(out) == nights.files_in(expected)
    for name in products:
        found = fits.FITSDiff(out / name, expected / name, ignore_keywords=TIMES_PATHS_SUMS)
        assert found.identical, found.report()


@pytest.fixture(scope="module")
def by_threads(night, tmp_path_factory, environment):
    out = tmp_path_factory.mktemp("threads")
    reduce(night, out, environment)
    return out


@pytest.mark.parametrize("tls", ["off", "made"])
def test_jobs_give_the_bits_of_threads(night, by_threads, tmp_path, environment, tls):
    cluster = described(tmp_path, JOBS, tls)
    errors = reduce(night, tmp_path / "out", environment, "--scheduler", cluster)
    assert "http://127.0.0.1:" in errors  # the dashboard
    assert_equal_products(tmp_path / "out", by_threads)
    assert slurm.await_no_jobs(environment)


def allocate(tmp_path, environment, *arguments, **more):
    """Submit the script that a user would, and wait for it; its output goes to a file."""
    path = f"{Path(sys.executable).parent}:{environment['PATH']}"
    return subprocess.Popen(
        ["sbatch", "--wait", "--ntasks=4", "--mem-per-cpu=1G", f"--output={tmp_path}/log",
         ROOT / "configs" / "slurm_batch.sh", *arguments],
        env={**environment, "PATH": path, **more}, stdout=subprocess.DEVNULL,
    )  # fmt: skip


@pytest.mark.parametrize("tls", ["off", "made"])
def test_an_allocation_gives_the_bits_of_threads(night, by_threads, tmp_path, environment, tls):
    cluster, out = described(tmp_path, ALLOCATION, tls), tmp_path / "out"
    code = allocate(tmp_path, environment, night, out, cluster).wait(300)
    log = (tmp_path / "log").read_text()
    assert code == 0, log
    assert log.count(" made in ") == 1  # one of the four tasks is the run
    assert_equal_products(out, by_threads)


def test_a_real_night_gives_the_bits_of_threads_on_jobs_and_in_an_allocation(tmp_path, environment):
    night = shared("data/efosc2")
    reduce(night, tmp_path / "threads", environment)
    cluster = described(tmp_path, JOBS, "made")
    reduce(night, tmp_path / "jobs", environment, "--scheduler", cluster)
    assert_equal_products(tmp_path / "jobs", tmp_path / "threads")
    cluster = described(tmp_path, ALLOCATION, "made")
    code = allocate(tmp_path, environment, night, tmp_path / "allocation", cluster).wait(300)
    assert code == 0, (tmp_path / "log").read_text()
    assert_equal_products(tmp_path / "allocation", tmp_path / "threads")


def test_what_a_killed_run_left_is_removed_by_the_next(night, tmp_path, environment):
    """A key must not lie about for ever, and none be taken from a run that works."""
    cluster, folder = described(tmp_path, JOBS, "made"), tmp_path / "cache/masterframe/jobs"
    environment = {**environment, "XDG_CACHE_HOME": str(tmp_path / "cache")}

    def keys():
        return {path.parent.name for path in folder.glob(f"{socket.gethostname()}/.*/tls.pem")}

    unlocked = {}
    for name, days in (("jobs-old", 2), ("jobs-new", 0), ("allocation-old", 40)):
        unlocked[name] = folder.parent / name / "tls.pem"
        unlocked[name].parent.mkdir(parents=True)
        unlocked[name].touch()
        os.utime(unlocked[name].parent, times=(time.time() - days * 86400,) * 2)
    killed = start(night, tmp_path / "out", environment, "--scheduler", cluster)
    wait_until(lambda: slurm.jobs(environment) or killed.poll() is not None)
    killed.kill()
    killed.communicate()
    assert [name for name, key in unlocked.items() if key.exists()] == ["jobs-new"]
    (left,) = keys()
    working = start(night, tmp_path / "out", environment, "--scheduler", cluster)
    wait_until(lambda: keys() - {left} or working.poll() is not None)
    assert left not in keys()
    with scratchfolder.open_folder(folder / socket.gethostname()):  # as another run does
        assert len(keys()) == 1
    _, errors = working.communicate(timeout=300)
    assert working.returncode == 0, errors
    assert not keys()
    assert slurm.await_no_jobs(environment)


# --- jobs, drivers and allocations that end before their time -------------------------------------


@pytest.fixture(scope="module")
def mosaics(tmp_path_factory):
    return slowed.write_mosaics(tmp_path_factory.mktemp("mosaics") / "night")


@pytest.fixture(scope="module")
def whole_mosaic(mosaics, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole")
    process = slowed.start(mosaics, out)
    assert slowed.finish(process) == 0, process.errors
    return pixels_and_tables(out / MOSAIC)


@pytest.fixture(scope="module")
def slow(environment, tmp_path_factory):
    """The environment of runs, and of their jobs, that take some ten seconds."""
    library = slowed.compile_faults(tmp_path_factory.mktemp("shim"))
    return {**environment, **SLOW, "LD_PRELOAD": library}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_ends_early_leaves_no_job(mosaics, tmp_path, environment, slow, number):
    cluster, out = described(tmp_path, JOBS, "off"), tmp_path / "out"
    process = slowed.start(mosaics, out, "--scheduler", cluster, **slow)
    bands_came(out, (0, 0), process)
    process.send_signal(number)
    assert slowed.finish(process) == (-9 if number == signal.SIGKILL else 130), process.errors
    assert slurm.await_no_jobs(environment)
    assert slowed.finish(slowed.start(mosaics, out)) == 0


def test_a_rerun_after_a_kill_reads_no_finished_band_again(mosaics, tmp_path, environment, slow):
    cluster, out = described(tmp_path, JOBS, "off"), tmp_path / "out"
    logs = [tmp_path / "first.reads", tmp_path / "second.reads"]
    whole = slowed.start(mosaics, tmp_path / "threads", *slowed.NO_SAMPLES)
    assert slowed.finish(whole) == 0, whole.errors
    words = [*slowed.NO_SAMPLES, "--scheduler", cluster]
    first = slowed.start(mosaics, out, *words, **slow, READ_LOG=str(logs[0]))
    wait_until(lambda: claim_of(out) > (2, 0) or first.poll() is not None)
    first.kill()
    assert slowed.finish(first) == -signal.SIGKILL, first.errors
    assert slurm.await_no_jobs(environment)
    claim = claim_of(out)
    assert (2, 0) < claim < (CCDS, 0)
    assert not nights.files_in(out)

    second = slowed.start(mosaics, out, *words, **slow, READ_LOG=str(logs[1]))
    assert slowed.finish(second) == 0, second.errors
    assert slurm.await_no_jobs(environment)
    assert pixels_and_tables(out / MOSAIC) == pixels_and_tables(tmp_path / "threads" / MOSAIC)
    done = (slice(None), slice(claim[0]))
    before, after = map(slowed.rows_read, logs)
    assert (before[done] == 1).all()
    assert (before[:, claim[0], : claim[1]] == 1).all()
    assert not after[done].any()
    assert not after[:, claim[0], : claim[1]].any()
    assert (after[:, claim[0], claim[1] :] == 1).all()
    assert (after[:, claim[0] + 1 :] == 1).all()
    left = ALL_BYTES - claimed_bytes(claim)
    (begun,) = [item for item in events.read_last_run(out) if item["event"] == "product started"]
    assert begun["bytes"] == slowed.bytes_read(second) == left


@pytest.mark.parametrize("count", [1, 2])
def test_a_job_that_is_cancelled_is_replaced(
    mosaics, whole_mosaic, tmp_path, environment, slow, count
):
    words, out = JOBS.replace("jobs: 2", f"jobs: {count}"), tmp_path / "out"
    process = slowed.start(mosaics, out, "--scheduler", described(tmp_path, words, "off"), **slow)
    bands_came(out, (0, 0), process)
    before = slurm.jobs(environment)
    assert len(before) == count
    slurm.ask(environment, "scancel", before[0])
    wait_until(lambda: before[0] not in slurm.jobs(environment))
    wait_until(lambda: len(slurm.jobs(environment)) == count or process.poll() is not None)
    replaced = slurm.jobs(environment)
    assert process.poll() is None, process.communicate()
    assert len(set(replaced) - set(before)) == 1
    assert slowed.finish(process) == 0, process.errors
    assert pixels_and_tables(out / MOSAIC) == whole_mosaic
    assert slurm.await_no_jobs(environment)


def test_a_kill_of_the_run_in_an_allocation_ends_its_job_and_the_next_goes_on(
    mosaics, whole_mosaic, tmp_path, environment, slow
):
    cluster, out = described(tmp_path, ALLOCATION, "off"), tmp_path / "out"
    submitted = allocate(tmp_path, slow, mosaics, out, cluster)
    wait_until(lambda: claim_of(out) > (0, 0) or submitted.poll() is not None)
    (run,) = tasks_of_jobs(environment, rank="1")
    run.kill()
    gone = slurm.await_no_jobs(environment, 120)
    assert gone, (tmp_path / "log").read_text() + slurm.ask(environment, "scontrol", "show", "job")
    assert submitted.wait(60) != 0
    claim = claim_of(out)
    assert (0, 0) < claim < (CCDS, 0)
    submitted = allocate(tmp_path, environment, mosaics, out, cluster)
    assert submitted.wait(120) == 0, (tmp_path / "log").read_text()
    assert pixels_and_tables(out / MOSAIC) == whole_mosaic
    (begun,) = [item for item in events.read_last_run(out) if item["event"] == "product started"]
    assert begun["bytes"] == ALL_BYTES - claimed_bytes(claim)


def tasks_of_jobs(environment, **wanted):
    """Return the processes of Python in the jobs of a Slurm, all or those of a rank."""
    found = []
    for process in psutil.process_iter():
        try:
            facts, words = process.environ(), process.cmdline()
        except psutil.Error:
            continue
        ours = facts.get("SLURM_CONF") == environment["SLURM_CONF"] and "SLURM_JOB_ID" in facts
        rank = wanted.get("rank") in {None, facts.get("SLURM_PROCID")}
        if ours and rank and words and "python" in Path(words[0]).name:
            found.append(process)
    return found


def test_a_mistake_in_an_allocation_ends_its_job(tmp_path, environment):
    cluster = described(tmp_path, ALLOCATION, "off")
    submitted = allocate(tmp_path, environment, tmp_path / "none", tmp_path / "out", cluster)
    assert submitted.wait(120) == 2
    assert "none does not exist" in (tmp_path / "log").read_text()


# --- queues ---------------------------------------------------------------------------------------


@pytest.fixture
def closed_queue(environment):
    """A queue that starts no job until it is opened by the function."""

    def turn(state):
        slurm.ask(environment, "scontrol", "update", "PartitionName=main", f"State={state}")

    turn("DOWN")
    yield turn
    turn("UP")


def test_jobs_may_wait_in_the_queue(night, by_threads, tmp_path, environment, closed_queue):
    cluster, out = described(tmp_path, JOBS, "off"), tmp_path / "out"
    process = start(night, out, environment, "--scheduler", cluster)
    line = next(line for line in process.stderr if "waiting" in line)
    assert line == f"waiting for {cluster}: 2 jobs of SLURMCluster, 120 s at most\n"
    closed_queue("UP")
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert_equal_products(out, by_threads)


def test_jobs_that_do_not_start_in_time_end_the_run(night, tmp_path, environment, closed_queue):
    cluster = described(tmp_path, JOBS.replace("wait: 120", "wait: 2"), "off")
    process = start(night, tmp_path / "out", environment, "--scheduler", cluster)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 5
    assert "2 jobs of SLURMCluster: none has begun to work within 2 s" in errors
    assert slurm.await_no_jobs(environment)


@pytest.mark.parametrize("count", [1, 2], ids=["one of two", "both"])
def test_a_job_that_is_cancelled_in_the_queue_is_noticed(
    night, by_threads, tmp_path, environment, closed_queue, count
):
    cluster, out = described(tmp_path, JOBS, "off"), tmp_path / "out"
    process = start(night, out, environment, "--scheduler", cluster)
    wait_until(lambda: len(slurm.jobs(environment)) == 2 or process.poll() is not None)
    cancelled = slurm.jobs(environment)[:count]
    slurm.ask(environment, "scancel", *cancelled)
    if count == 1:
        said = f"1 of 2 jobs have left the queue: {cancelled[0]}\n"
        assert said in process.stderr  # which waits for that line
        closed_queue("UP")
    began = time.monotonic()
    _, errors = process.communicate(timeout=120)
    if count == 1:
        assert process.returncode == 0, errors
        assert_equal_products(out, by_threads)
    else:
        assert time.monotonic() - began < 60
        assert process.returncode == 5
        assert errors.splitlines()[-1] == (
            f"masterframe: {cluster}: 2 jobs of SLURMCluster: all have left the queue: they were "
            "cancelled, or ended before they could work"
        )
    assert slurm.await_no_jobs(environment)


def test_jobs_that_end_before_they_work_end_the_run_with_their_logs(night, tmp_path, environment):
    failing = 'queue: main, job_script_prologue: ["echo no such module >&2", "exit 3"]'
    cluster = described(tmp_path, JOBS.replace("wait: 120", "wait: 3600"), "off")
    cluster.write_text(cluster.read_text().replace("queue: main", failing))
    process = start(night, tmp_path / "out", environment, "--scheduler", cluster)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 5
    assert errors.splitlines()[-1] == (
        f"masterframe: {cluster}: 2 jobs of SLURMCluster: all have ended before they could work; "
        "their logs say: no such module / no such module"
    )
    assert slurm.await_no_jobs(environment)


@pytest.mark.parametrize("again", [60, 1], ids=["in time", "too late"])
def test_a_job_that_is_replaced_may_wait_in_the_queue(
    mosaics, whole_mosaic, tmp_path, environment, slow, again
):
    words, out = JOBS.replace("jobs: 2", f"jobs: 1\nwait_again: {again}"), tmp_path / "out"
    process = slowed.start(mosaics, out, "--scheduler", described(tmp_path, words, "off"), **slow)
    bands_came(out, (0, 0), process)
    slurm.ask(environment, "scontrol", "update", "PartitionName=main", "State=DOWN")
    try:
        slurm.ask(environment, "scancel", *slurm.jobs(environment))
        gone = f"all workers have gone; waiting for others, {again} s at most\n"
        assert gone in process.stderr
    finally:
        if again > 1:
            slurm.ask(environment, "scontrol", "update", "PartitionName=main", "State=UP")
    code = slowed.finish(process)
    slurm.ask(environment, "scontrol", "update", "PartitionName=main", "State=UP")
    assert slurm.await_no_jobs(environment)
    if again == 1:
        assert code == 5
        assert "none came back within 1 s" in process.errors
        assert slowed.finish(slowed.start(mosaics, out)) == 0
    else:
        assert code == 0, process.errors
        assert "workers have come back" in process.errors
    assert pixels_and_tables(out / MOSAIC) == whole_mosaic


# --- who listens ----------------------------------------------------------------------------------


def listeners(processes):
    """Return who listens where: the role of a process, and its addresses."""
    found = set()
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):  # it has ended meanwhile
            role = "worker" if "worker" in " ".join(process.cmdline()) else "run"
            found |= {
                (role, item.laddr.ip, item.laddr.port)
                for item in process.net_connections(kind="inet")
                if item.status == psutil.CONN_LISTEN
            }
    return found


def family(process):
    """Return a process and all below it."""
    return [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]


@pytest.mark.parametrize("tls", ["off", "made"])
def test_jobs_and_run_listen_on_loopback_alone(mosaics, tmp_path, environment, slow, tls):
    cluster, out = described(tmp_path, JOBS, tls), tmp_path / "out"
    process = slowed.start(mosaics, out, "--scheduler", cluster, **slow)
    bands_came(out, (0, 0), process)
    found = listeners([*family(process), *tasks_of_jobs(environment)])
    process.terminate()
    slowed.finish(process)
    assert {role for role, _, _ in found} == {"run", "worker"}
    assert {host for _, host, _ in found} == {"127.0.0.1"}
    assert slurm.await_no_jobs(environment)


@pytest.mark.parametrize("tls", ["off", "made"])
def test_the_tasks_of_an_allocation_listen_on_loopback_alone(
    mosaics, tmp_path, environment, slow, tls
):
    cluster, out = described(tmp_path, ALLOCATION, tls), tmp_path / "out"
    submitted, ranks = allocate(tmp_path, slow, mosaics, out, cluster), {}

    def all_listen():
        for rank in range(4):
            ranks[rank] = listeners(tasks_of_jobs(environment, rank=str(rank)))
        return claim_of(out) > (0, 0) and all(ranks[rank] for rank in (0, 2, 3))

    wait_until(lambda: all_listen() or submitted.poll() is not None)
    slurm.ask(environment, "scancel", *slurm.jobs(environment))
    submitted.wait(60)
    assert not ranks[1]
    assert all(ranks[rank] for rank in (0, 2, 3))
    assert {host for found in ranks.values() for _, host, _ in found} == {"127.0.0.1"}


@pytest.mark.parametrize("tls", ["off", "made"])
def test_what_others_reach_is_encrypted_unless_they_are_trusted(
    mosaics, tmp_path, environment, slow, tls
):
    interface, address = network_interface()
    words = JOBS.replace("queue: main", f"queue: main, interface: {interface}")
    cluster, out = described(tmp_path, words, tls), tmp_path / "out"
    where = ["--scheduler", cluster]
    if tls == "off":
        process = slowed.start(mosaics, out, *where, **slow)
        assert slowed.finish(process) == 2
        assert f"everybody who reaches {address} could run code as you" in process.errors
        where.append("--insecure")
    process = slowed.start(mosaics, out, *where, **slow)
    bands_came(out, (0, 0), process)
    found = listeners([*family(process), *tasks_of_jobs(environment)])
    open_to_others = [(host, port) for _, host, port in found if host != "127.0.0.1"]
    answers = [speaks_in_plain_text(*place) for place in open_to_others]
    process.terminate()
    slowed.finish(process)
    assert {host for host, _ in open_to_others} == {address}
    assert answers == [tls == "off"] * len(answers)
    assert slurm.await_no_jobs(environment)


def speaks_in_plain_text(host, port):
    """Return whether a listener greets without encryption, as Dask does."""
    with socket.create_connection((host, port), timeout=1) as connection:
        try:
            return b"compression" in connection.recv(1000)
        except TimeoutError:
            return False


def test_a_cluster_that_others_could_reach_in_plain_text_is_refused(tmp_path, environment):
    cluster = tmp_path / "open.yaml"
    cluster.write_text(
        "cluster: SLURMCluster\noptions: {memory: 1GB, scheduler_options: {host: 192.0.2.7}}\n"
    )
    process = start(tmp_path, tmp_path / "out", environment, "--scheduler", cluster)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "--insecure" in errors
    assert "192.0.2.7" in errors
