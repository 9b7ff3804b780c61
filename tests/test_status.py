"""The event log of a run, and what it tells from outside."""

import itertools
import json
import os
import re
import time

import pytest

import nights
from masterframe import cluster, events, journal, status
from nights import call, make_plan, reduce_night, reduce_plan


def log_of(out):
    lines = (out / journal.STATE_FOLDER / events.NAME).read_text().splitlines()
    return [json.loads(line) for line in lines]


@pytest.fixture
def night(tmp_path):
    """A night with an unreadable dark and a flat that saw no light."""
    folder = nights.night(tmp_path / "night", bias=5, dark=5, flat=5, science=1)
    nights.raw(folder / "flat_9.fits", "flat", 9, level=101)
    return folder


def test_the_log_tells_a_run_as_it_went(night, tmp_path):
    outcomes = reduce_night(night, tmp_path / "out", "report=false")
    told = log_of(tmp_path / "out")
    assert told[0]["event"] == "run started"
    assert told[0]["products"] == len(outcomes) == 4
    assert f"process {os.getpid()}, since 20" in told[0]["owner"]
    assert told[-1]["event"] == "run ended"
    assert told[-1]["exit_code"] == 0
    ended = {item["product"]: item for item in told if item.get("state") == "made"}
    assert set(ended) == {outcome.name for outcome in outcomes.values()}
    (left_out,) = [item for item in told if item["event"] == "frame left out"]
    assert left_out["path"] == str(night / "flat_9.fits")
    assert left_out["reason"]
    started = [item for item in told if item["event"] == "product started"]
    assert [item["bands"] > 0 < item["bytes"] for item in started] == [True] * 4
    assert all(item["time"] <= later["time"] for item, later in itertools.pairwise(told))


def test_every_band_is_noted_where_they_take_long(night, tmp_path, monkeypatch):
    monkeypatch.setattr(events, "SECONDS", 0.0)
    reduce_night(night, tmp_path / "out", "report=false")
    told = log_of(tmp_path / "out")
    for started in (item for item in told if item["event"] == "product started"):
        noted = [
            item
            for item in told
            if item["event"] == "bands done" and item["product"] == started["product"]
        ]
        assert [item["bands"] for item in noted] == list(range(1, started["bands"] + 1))
        assert noted[-1]["bytes"] == pytest.approx(started["bytes"], rel=0.01)
        assert all(item["memory"] > 10**7 for item in noted)


def test_workers_are_sampled_beside_the_work(night, tmp_path, monkeypatch):
    monkeypatch.setattr(events, "SAMPLE_SECONDS", 0.02)
    out = tmp_path / "out"
    reduce_night(night, out, "report=false")
    sampled = [item for item in log_of(out) if item["event"] == "workers sampled"]
    assert len(sampled) > 2
    assert sampled[0]["workers"][0]["rate"] is None  # of what was read before nothing is known
    for item in sampled[1:]:
        (worker,) = item["workers"]
        assert worker["worker"] == "threads"
        assert worker["memory"] > 10**7
        assert worker["rate"] >= 0
    assert max(item["workers"][0]["rate"] for item in sampled[1:]) > 0
    assert status.read_status(out).workers == (status.WorkerStatus(**sampled[-1]["workers"][0]),)


def test_a_run_that_works_shows_its_workers(night, tmp_path):
    out, shown = tmp_path / "out", []
    sample = [{"worker": str(n), "memory": 10**8 * n, "rate": 10**9 * n} for n in (1, 2)]

    class Look(nights.store.Silent):
        def begin(self, *_):
            with (out / journal.STATE_FOLDER / events.NAME).open("a") as stream:
                told = {"time": "2026-01-01T00:00:00+00:00", "event": "workers sampled"}
                stream.write(json.dumps(told | {"workers": sample}) + "\n")
            shown.append(status.as_text(status.read_status(out)))

    reduce_night(night, out, "report=false", reporter=Look())
    assert "workers: 2, up to 200 MB of memory each, 3 GB/s read" in shown[0].splitlines()


@pytest.mark.slow
def test_workers_of_a_cluster_tell_their_memory_and_what_they_read(tmp_path):
    path, size = tmp_path / "much", 50 << 20
    path.write_bytes(bytes(size))

    def read():
        return {item.worker: item.read for item in runner.sample()}

    def wait(condition):
        end = time.monotonic() + 30
        while not condition():  # they tell it twice a second or less
            assert time.monotonic() < end
            time.sleep(0.1)

    with nights.store.open_resources("processes", workers=2, memory=4 << 30) as resources:
        runner = resources.runner
        runner.footprint(time.time)
        wait(lambda: len(read()) == 2 and None not in read().values())
        assert all(item.memory > 10**7 for item in runner.sample())
        before = sum(read().values())
        runner.submit(cluster.Call("mf-read", path.read_bytes)).result()
        wait(lambda: sum(read().values()) - before > size)
        assert sum(read().values()) - before < 2 * size


def test_a_finished_run(night, tmp_path, capsys, monkeypatch):
    out = tmp_path / "out"
    reduce_night(night, out, "report=false")
    code, told, _ = call(capsys, monkeypatch, "status", out)
    assert code == 0
    lines = told.splitlines()
    moment = r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00"
    assert re.match(rf"finished: at {moment} with exit code 0; .*, since {moment}$", lines[0])
    assert lines[1] == "products: 4 made"
    assert f"left out {night / 'flat_9.fits'}: " in told
    code, told, _ = call(capsys, monkeypatch, "status", out, "--json")
    found = json.loads(told)
    assert (code, found["state"], found["exit_code"]) == (0, "finished", 0)
    assert found["products"] == {"made": 4}
    reduce_night(night, out, "report=false")
    assert status.read_status(out).products == {"up to date": 4}  # of the last run alone


def test_failed_and_blocked_products_are_named(night, tmp_path, capsys, monkeypatch):
    config, plan = make_plan(night, "report=false")
    (night / "bias_1.fits").unlink()
    reduce_plan(plan, config, tmp_path / "out")
    code, told, _ = call(capsys, monkeypatch, "status", tmp_path / "out")
    assert code == 1
    assert "night/master_bias_bin1x1: failed, " in told
    assert "night/master_flat_V_bin1x1: blocked, needs night/master_bias_bin1x1" in told


def test_a_run_that_ends_early_says_why(night, tmp_path, capsys, monkeypatch):
    class Stop(nights.store.Silent):
        def advance(self, done_bytes):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        reduce_night(night, tmp_path / "out", reporter=Stop())
    code, told, _ = call(capsys, monkeypatch, "status", tmp_path / "out")
    assert code == 1
    assert told.startswith("ended early: last heard of at 20")
    assert "KeyboardInterrupt" in told
    assert "run the same command again" in told


def test_where_no_run_was(tmp_path, capsys, monkeypatch):
    code, _, err = call(capsys, monkeypatch, "status", tmp_path)
    assert code == 2
    assert err == f"masterframe: {tmp_path}: no run of masterframe has worked in this folder\n"


def test_a_log_that_was_cut_or_grows_too_large(night, tmp_path, monkeypatch):
    out = tmp_path / "out"
    path = journal.state_folder(out) / events.NAME
    path.write_text('{"event": "run sta')
    monkeypatch.setattr(events, "LARGEST", 10)
    reduce_night(night, out, "report=false")
    assert path.with_suffix(".old").read_text() == '{"event": "run sta'
    with path.open("a") as stream:
        stream.write('{"time": "20')
    assert status.read_status(out).state == "finished"
    monkeypatch.setattr(events, "LARGEST", 1 << 20)
    reduce_night(night, out, "report=false")
    assert status.read_status(out).products == {"up to date": 4}


def test_a_log_that_cannot_be_written_ends_no_run(night, tmp_path):
    out = tmp_path / "out"
    (journal.state_folder(out) / events.NAME).mkdir()
    outcomes = reduce_night(night, out, "report=false")
    assert set(nights.states(outcomes).values()) == {"made"}


def test_looking_at_a_lock_disturbs_nobody(tmp_path, holder):
    assert journal.is_locked(tmp_path / "out")
    holder.kill()
    holder.wait()
    assert not journal.is_locked(tmp_path / "out")
    assert not journal.is_locked(tmp_path / "none")
    assert not (tmp_path / "none").exists()
