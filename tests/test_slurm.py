"""A real Slurm runs the jobs: the same bits as threads, and nothing is left behind."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from astropy.io import fits

import nights
import slurm
from masterframe.simulate import Camera, NightSpec, simulate_night
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


@pytest.mark.parametrize("tls", ["off", "made"])
def test_an_allocation_gives_the_bits_of_threads(night, by_threads, tmp_path, environment, tls):
    cluster, out = described(tmp_path, ALLOCATION, tls), tmp_path / "out"
    environment = {
        **environment,
        "PATH": f"{Path(sys.executable).parent}:{environment['PATH']}",
    }
    done = subprocess.run(
        ["sbatch", "--wait", "--ntasks=4", "--mem-per-cpu=1G", f"--output={tmp_path}/log",
         ROOT / "configs" / "slurm_batch.sh", night, out, cluster],
        env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    log = (tmp_path / "log").read_text()
    assert done.returncode == 0, log
    assert log.count(" made in ") == 1  # one of the four tasks is the run
    assert_equal_products(out, by_threads)


def test_a_real_night_on_jobs_gives_the_bits_of_threads(tmp_path, environment):
    night = shared("data/efosc2")
    reduce(night, tmp_path / "threads", environment)
    cluster = described(tmp_path, JOBS, "made")
    reduce(night, tmp_path / "jobs", environment, "--scheduler", cluster)
    assert_equal_products(tmp_path / "jobs", tmp_path / "threads")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_ends_early_leaves_no_job(night, tmp_path, environment, number):
    cluster = described(tmp_path, JOBS, "off")
    process = start(night, tmp_path / "out", environment, "--scheduler", cluster)
    for line in process.stderr:
        if "to read" in line:  # the first product has begun
            break
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == (-9 if number == signal.SIGKILL else 130)
    assert slurm.await_no_jobs(environment)
    reduce(night, tmp_path / "out", environment)


def test_a_job_that_is_cancelled_is_replaced(tmp_path, environment):
    spec = NightSpec(Camera(shape=(1500, 2000)), bias=20, darks={}, flats={}, science={})
    night = simulate_night(tmp_path, spec).night
    cluster = described(tmp_path, JOBS.replace("jobs: 2", "jobs: 1"), "off")
    process = start(night, tmp_path / "out", environment, "--scheduler", cluster)
    for line in process.stderr:
        if "to read" in line:
            break
    (job,) = slurm.jobs(environment)
    time.sleep(0.3)
    slurm.ask(environment, "scancel", job)
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    assert (tmp_path / "out" / "night" / "master_bias_bin1x1.fits").exists()


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
