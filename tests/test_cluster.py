"""Schedulers that run already, who may talk to them, and who listens where."""

import contextlib
import json
import os
import pickle
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from functools import partial
from html.parser import HTMLParser

import dask
import numpy as np
import psutil
import pytest
from distributed import Client, Security

import masterframe as mf
import nights
from clusters import dask_cluster, network_interface
from masterframe import cluster, store, tiling
from masterframe.cluster import security, versions
from masterframe.config import load_cluster
from masterframe.errors import ClusterLostError, TaskLostError, UsageError
from masterframe.store.tasks import run_in_order
from nights import call
from stacks import pixels_and_tables, raw_frames, write_frames
from support import ROOT

MASTER = "night/master_bias_bin1x1.fits"


def listeners():
    """Return the addresses at which this process and those below it listen."""
    me = psutil.Process()
    found = set()
    for process in [me, *me.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            found |= {
                (process.pid, *item.laddr)
                for item in process.net_connections(kind="inet")
                if item.status == psutil.CONN_LISTEN
            }
    return found


@pytest.mark.parametrize("dashboard", [False, True], ids=["plain", "dashboard"])
@pytest.mark.parametrize("scheduler", ["threads", "processes"])
def test_whoever_listens_does_so_on_loopback(scheduler, dashboard, tmp_path):
    frames = write_frames(tmp_path, raw_frames((5, 24, 36)))
    before = listeners()
    with store.open_resources(scheduler, workers=2, dashboard=dashboard) as resources:
        mf.write_master(tmp_path / "m.fits", mf.open_stack(frames), resources=resources)
        opened = listeners() - before
        link = resources.runner.dashboard
        if dashboard:
            with urllib.request.urlopen(link) as page:
                assert b"Dask" in page.read()
        assert link.startswith("http://127.0.0.1:") or not opened
    assert bool(opened) == (scheduler == "processes" or dashboard)
    assert {host for _, host, _ in opened} <= {security.LOOPBACK}
    assert not listeners() - before


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """Certificates of one authority, as files."""
    return write_certificates(tmp_path_factory.mktemp("tls"))


def write_certificates(folder):
    made = Security.temporary()
    texts = {
        "ca": made.tls_ca_file,
        "cert": made.tls_scheduler_cert,
        "key": made.tls_scheduler_key,
    }
    for name, text in texts.items():
        path = folder / f"{name}.pem"
        path.touch(0o600)
        path.write_text(text)
    return {name: str(folder / f"{name}.pem") for name in texts}


def as_security(files):
    roles = {
        f"tls_{role}_{part}": files[part]
        for role in ("client", "scheduler", "worker")
        for part in ("cert", "key")
    }
    return Security(tls_ca_file=files["ca"], require_encryption=True, **roles)


def as_yaml(path, address, files):
    lines = [f"address: {address}", "tls:", *(f"  {name}: {file}" for name, file in files.items())]
    path.write_text("\n".join(lines))
    return path


@pytest.fixture(scope="module")
def secured(certificates, tmp_path_factory):
    """A cluster that asks for certificates."""
    options = [f"--tls-{name}={certificates[name]}" for name in ("cert", "key")]
    options += [f"--tls-ca-file={certificates['ca']}", "--protocol=tls"]
    with dask_cluster(
        tmp_path_factory.mktemp("secured"),
        *options,
        DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION="true",
    ) as found:
        yield found


@pytest.mark.slow
def test_a_cluster_with_certificates_serves_a_run(
    secured, certificates, tmp_path, capsys, monkeypatch
):
    night = nights.night(tmp_path / "night", bias=5, flat=0, science=0)
    where = as_yaml(tmp_path / "cluster.yaml", secured.address, certificates)
    assert secured.address.startswith("tls://127.0.0.1:")
    code, _, err = call(
        capsys, monkeypatch, "run", night, "-o", tmp_path / "out", "--scheduler", where
    )
    assert code == 0, err
    assert call(capsys, monkeypatch, "run", night, "-o", tmp_path / "threads")[0] == 0
    assert pixels_and_tables(tmp_path / "out" / MASTER) == (
        pixels_and_tables(tmp_path / "threads" / MASTER)
    )
    for process in (secured.scheduler, *secured.workers):
        found = psutil.Process(process.pid).net_connections(kind="inet")
        hosts = {item.laddr.ip for item in found if item.status == psutil.CONN_LISTEN}
        assert hosts == {security.LOOPBACK}


@pytest.mark.slow
def test_a_run_on_a_scheduler_that_is_there_opens_no_port(secured, certificates, tmp_path):
    frames = write_frames(tmp_path, raw_frames((5, 24, 36)))
    spec = load_cluster(as_yaml(tmp_path / "cluster.yaml", secured.address, certificates))
    before = listeners()
    with store.open_resources(spec) as resources:
        mf.write_master(tmp_path / "m.fits", mf.open_stack(frames), resources=resources)
        assert listeners() == before


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::ResourceWarning")
def test_a_cluster_with_certificates_refuses_who_has_none_or_others(secured, tmp_path):
    (tmp_path / "foreign").mkdir()
    foreign = write_certificates(tmp_path / "foreign")
    for address, given in (
        (secured.address.replace("tls://", "tcp://"), {}),
        (secured.address, {"security": as_security(foreign)}),
    ):
        with pytest.raises(OSError, match=r"imed out|losed|ertificate|SSL|connect"):
            Client(address, timeout="2s", **given)
    spec = load_cluster(as_yaml(tmp_path / "foreign.yaml", secured.address, foreign))
    with (
        pytest.raises(ClusterLostError, match="cannot be reached"),
        cluster.open_runner(spec),
    ):
        pass


def test_an_address_that_others_could_reach_needs_certificates():
    with (
        pytest.raises(UsageError, match="--insecure"),
        cluster.open_runner("tcp://192.0.2.7:8786"),
    ):
        pass


def test_a_scheduler_that_is_not_there_is_said(capsys, monkeypatch, tmp_path):
    night = nights.night(tmp_path / "night", bias=3, flat=0, science=0)
    monkeypatch.setattr(cluster.opening, "CONNECT_SECONDS", 1)
    code, _, err = call(
        *(capsys, monkeypatch, "run", night, "-o", tmp_path / "out"),
        *("--scheduler", "tcp://127.0.0.1:9"),
    )
    assert code == 5
    assert "the scheduler at tcp://127.0.0.1:9 cannot be reached" in err


@pytest.mark.skipif(shutil.which("qsub") is not None, reason="there is a batch system with qsub")
def test_a_batch_system_that_is_not_there_is_said(capsys, monkeypatch, tmp_path):
    night = nights.night(tmp_path / "night", bias=3, flat=0, science=0)
    jobs = (ROOT / "configs" / "slurm.yaml").read_text()
    (tmp_path / "pbs.yaml").write_text(jobs.replace("cluster: SLURMCluster", "cluster: PBSCluster"))
    code, _, err = call(
        *(capsys, monkeypatch, "run", night, "-o", tmp_path / "out"),
        *("--scheduler", str(tmp_path / "pbs.yaml")),
    )
    assert code == 2
    assert "pbs.yaml: PBSCluster submits jobs by qsub, which is not found on this machine" in err


def killer(number):
    """End the worker that takes this task, as a damaged library would."""
    os.kill(os.getpid(), 9)
    return np.full(number, 0)


@pytest.mark.slow
def test_a_task_that_ends_every_worker_is_said():
    task = dask.delayed(killer)(3, dask_key_name="mf-kill")
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 1}),
        store.open_resources("processes", workers=1, memory=4 << 30) as resources,
        pytest.raises(TaskLostError, match="2 workers that took this task have died"),
    ):
        resources.runner.submit(task).result()


@pytest.mark.parametrize("name", ["masterframe", "numba", "python"])
def test_workers_of_another_program_are_refused(name):
    with store.open_resources("processes", workers=1, memory=4 << 30) as resources:
        client = resources.runner._client
        versions.check_versions(client)
        found = client.get_versions(packages=list(versions.SAME))
        (worker,) = found["workers"].values()
        worker["packages"][name] = "0.0.1"
        with pytest.raises(UsageError, match=f"{name} 0.0.1"):
            versions.compare_versions(found)


class Sources(HTMLParser):
    """Counts the scripts of a page, and keeps what it would have to fetch to be read."""

    scripts = 0

    def __init__(self):
        super().__init__()
        self.outside = []

    def handle_starttag(self, tag, attrs):
        self.scripts += tag == "script"
        is_icon = "icon" in str(dict(attrs).get("rel"))  # of the browser's tab
        if tag in ("script", "link", "img", "iframe") and not is_icon:
            self.outside += [value for name, value in attrs if name in ("src", "href")]


@pytest.mark.parametrize(
    "where",
    [
        ("--dashboard",),
        pytest.param(("--scheduler", "processes"), marks=pytest.mark.slow),
    ],
)
def test_a_performance_report_needs_no_network(where, tmp_path, capsys, monkeypatch):
    paths = write_frames(tmp_path / "in", raw_frames((5, 24, 36)))
    page = tmp_path / "report.html"
    code, _, err = call(
        *(capsys, monkeypatch, "combine", *paths, "-o", tmp_path / "m.fits", "--workers", "1"),
        *("--performance", page, *where),
    )
    assert code == 0, err
    found = Sources()
    found.feed(page.read_text())
    assert found.scripts > 1
    assert found.outside == []
    assert "mf-combine" in page.read_text()


def test_a_performance_report_that_cannot_be_is_refused_at_once(tmp_path, capsys, monkeypatch):
    paths = write_frames(tmp_path / "in", raw_frames((5, 24, 36)))
    arguments = ["combine", *paths, "-o", tmp_path / "m.fits", "--performance"]
    code, _, err = call(capsys, monkeypatch, *arguments, tmp_path / "report.html")
    assert code == 2
    assert "threads keep no record of tasks" in err
    code, _, err = call(
        *(capsys, monkeypatch, *arguments, tmp_path / "none/report.html", "--dashboard")
    )
    assert code == 3
    assert "its folder does not exist" in err
    assert not (tmp_path / "m.fits").exists()


@pytest.mark.slow
def test_workers_that_all_go_for_good_end_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr(cluster.attendance, "LOOK_SECONDS", 0.5)
    monkeypatch.setattr(cluster.clients, "PATIENCE", 2)
    with (
        dask_cluster(tmp_path, workers=1) as found,
        store.open_resources(found.address) as resources,
    ):
        found.workers[0].kill()
        task = dask.delayed(len)([1, 2], dask_key_name="mf-none")
        with pytest.raises(ClusterLostError, match="none came back within 2 s"):
            resources.runner.submit(task).result()


# --- tasks ----------------------------------------------------------------------------------------


class Counted:
    """Says in which process it was made of a pickle, and how often."""

    opened = 0

    def __setstate__(self, state):
        Counted.opened += 1

    def __getstate__(self):
        return {"much": "x" * 100_000}

    def __call__(self, number):
        return number, os.getpid(), Counted.opened


def test_what_tasks_share_is_opened_once_a_process_and_never_by_the_scheduler():
    shared = cluster.Shared(Counted())
    assert len(pickle.dumps(shared)) < 1000
    calls = [cluster.Call(f"mf-none-{n}", partial(shared, n)) for n in range(20)]
    with store.open_resources("processes", workers=2, memory=2 << 30) as resources:
        found = list(run_in_order(calls, resources.runner))
    assert [number for number, _, _ in found] == list(range(20))
    assert {opened for _, _, opened in found} == {1}
    assert os.getpid() not in {process for _, process, _ in found}
    assert Counted.opened == 0
    with store.open_resources(workers=2) as resources:  # threads pickle nothing
        assert next(run_in_order(calls[:1], resources.runner)) == (0, os.getpid(), 0)


def test_small_bands_are_combined_together_with_the_same_bits(tmp_path, monkeypatch):
    monkeypatch.setattr(tiling, "BAND_BYTES", 1)
    monkeypatch.setattr(tiling, "READ_BYTES", 1)
    frames = write_frames(tmp_path, raw_frames((5, 96, 36)))
    sent = []
    with store.open_resources("processes", workers=2, memory=2 << 30) as resources:
        submit = resources.runner.submit
        monkeypatch.setattr(resources.runner, "submit", lambda task: sent.append(1) or submit(task))
        mf.write_master(tmp_path / "p.fits", mf.open_stack(frames), resources=resources)
    mf.write_master(tmp_path / "t.fits", mf.open_stack(frames))
    assert pixels_and_tables(tmp_path / "p.fits") == pixels_and_tables(tmp_path / "t.fits")
    assert 96 // 6 <= len(sent) <= 96 // 6 + 1  # six bands each, and one task for the step


def large_later():
    time.sleep(0.1)
    return bytes(30_000_000)


def late():
    raise TimeoutError("the disk does not answer")


def test_results_that_take_longer_than_a_look_come_and_errors_are_the_task_s_own(monkeypatch):
    monkeypatch.setattr(cluster.attendance, "LOOK_SECONDS", 0.005)
    with store.open_resources("processes", workers=1, memory=4 << 30) as resources:
        submit = resources.runner.submit
        for number in range(5):
            task = submit(cluster.Call(f"mf-large-{number}", large_later))
            assert len(task.result()) == 30_000_000
        with pytest.raises(TimeoutError, match="the disk does not answer"):
            submit(cluster.Call("mf-late", late)).result()


@pytest.mark.slow
def test_the_driver_remembers_no_tasks():
    """Each names a quarter of a megabyte, as one that names thousands of frames does."""
    size = 1 << 18
    calls = (cluster.Call(f"mf-n-{n}", partial(len, os.urandom(size))) for n in range(350))
    with store.open_resources("processes", workers=2, memory=4 << 30) as resources:
        results = run_in_order(calls, resources.runner)
        assert [next(results) for _ in range(50)] == [size] * 50
        before = cluster.resident_bytes()
        assert len(list(results)) == 300
        assert cluster.resident_bytes() - before < 100 * size


# --- reading ahead --------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["loopback", "network"])
def test_files_are_read_ahead_only_for_workers_of_this_machine(where, tmp_path):
    host = "127.0.0.1" if where == "loopback" else network_interface()[1]
    with dask_cluster(tmp_path, "--host", host) as found, Client(found.address) as client:
        client.wait_for_workers(2)
        footprint = cluster.clients.ClientRunner(client).footprint(int)
    assert footprint.here == (where == "loopback")


# --- the tasks of an allocation that come when its run has ended ----------------------------------


def task_of_allocation(folder, rank):
    """Run a task alone, in an allocation of four; return how it ended and what it said."""
    description = folder / "runner.yaml"
    told = {"scheduler_file": str(folder / "told.json")}
    runner = {"cluster": "SLURMRunner", "wait": 2, "tls": "off", "options": told}
    description.write_text(json.dumps(runner))
    facts = {"SLURM_PROCID": str(rank), "SLURM_NTASKS": "4", "SLURM_JOB_ID": "7"}
    words = ["run", str(folder), "-o", str(folder / "out"), "--scheduler", str(description)]
    return subprocess.run(
        [sys.executable, "-m", "masterframe", *words],
        env=os.environ | facts, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_a_worker_that_comes_too_late_ends(tmp_path):
    done = task_of_allocation(tmp_path, rank=3)
    assert done.returncode == 0, done.stderr
    assert "task 3 leaves without having worked: no scheduler has told" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_worker_whose_scheduler_has_just_gone_ends(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    (tmp_path / "told.json").write_text(json.dumps({"address": f"tcp://127.0.0.1:{port}"}))
    done = task_of_allocation(tmp_path, rank=3)
    assert done.returncode == 0, done.stderr
    assert "task 3 leaves without having worked" in done.stderr


def test_a_run_without_the_scheduler_of_its_allocation_ends(tmp_path):
    done = task_of_allocation(tmp_path, rank=1)
    assert done.returncode == ClusterLostError.exit_code
    assert f"no scheduler has told its address in {tmp_path}/told.json within 2 s" in done.stderr
    assert "Traceback" not in done.stderr
