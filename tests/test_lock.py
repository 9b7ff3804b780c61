"""One run at a time in an output folder, and no lock that outlives its owner."""

import os
import signal
import socket
import time

import pytest

import nights
from masterframe import journal
from masterframe.errors import LockedError, StorageError
from nights import call, finish, start


@pytest.fixture
def night(tmp_path):
    return nights.night(tmp_path / "night", bias=3, flat=0, science=0)


def test_a_second_run_ends_at_once_and_names_the_first(
    night, tmp_path, holder, capsys, monkeypatch
):
    before = nights.files_in(tmp_path / "out")
    began = time.monotonic()
    code, _, err = call(capsys, monkeypatch, "run", night, "-o", tmp_path / "out")
    assert time.monotonic() - began < 5
    assert code == 4
    assert len(err.splitlines()) == 1
    assert f"{tmp_path / 'out'} is in use by another run" in err
    assert f"{socket.gethostname()}, process {holder.pid}, since 20" in err
    assert nights.files_in(tmp_path / "out") == before


def test_the_lock_is_seen_before_the_scan(night, tmp_path, holder, capsys, monkeypatch):
    monkeypatch.setattr("masterframe.inventory.scan_night", None)  # calling it would raise
    assert call(capsys, monkeypatch, "run", night, "-o", tmp_path / "out")[0] == 4


def test_a_plan_and_another_folder_need_no_lock(night, tmp_path, holder, capsys, monkeypatch):
    assert call(capsys, monkeypatch, "plan", night, "-o", tmp_path / "out")[0] == 0
    outcomes = nights.reduce_night(night, tmp_path / "other")
    assert set(nights.states(outcomes).values()) == {"made"}


def test_a_kill_frees_the_lock(night, tmp_path, holder):
    with pytest.raises(LockedError):
        nights.reduce_night(night, tmp_path / "out")
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    outcomes = nights.reduce_night(night, tmp_path / "out")
    assert set(nights.states(outcomes).values()) == {"made"}


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x1b[31m no owner", b"x" * 10000])
def test_a_lock_file_without_its_owner_locks_nothing(content, tmp_path):
    folder = journal.state_folder(tmp_path)
    (folder / "lock").write_bytes(content)
    with journal.lock(tmp_path):
        assert f"process {os.getpid()}".encode() in (folder / "lock").read_bytes()
    assert (folder / "lock").read_bytes() == b""


def test_the_same_process_cannot_lock_twice_and_can_lock_again(tmp_path):
    with journal.lock(tmp_path):
        with pytest.raises(LockedError, match=f"process {os.getpid()}"), journal.lock(tmp_path):
            pass
        with pytest.raises(LockedError), journal.lock(tmp_path):  # a failed try freed nothing
            pass
    with journal.lock(tmp_path):
        pass


def test_an_error_frees_the_lock(tmp_path):
    with pytest.raises(ZeroDivisionError), journal.lock(tmp_path):
        _ = 1 // 0
    with journal.lock(tmp_path):
        pass


def test_the_private_folder_is_private(tmp_path):
    with journal.lock(tmp_path / "out"):
        folder = tmp_path / "out" / journal.STATE_FOLDER
        assert folder.stat().st_mode & 0o777 == 0o700
        assert (folder / "lock").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("kind", ["folder", "link"])
def test_a_lock_file_that_is_none_is_refused(kind, tmp_path):
    path = journal.state_folder(tmp_path) / "lock"
    precious = tmp_path / "precious"
    precious.write_text("mine")
    path.mkdir() if kind == "folder" else path.symlink_to(precious)
    with pytest.raises(StorageError, match="cannot be written"), journal.lock(tmp_path):
        pass
    assert precious.read_text() == "mine"


@pytest.mark.slow
def test_of_many_runs_at_once_one_works_and_the_others_leave(night, tmp_path):
    processes = [start("run", night, "-o", tmp_path / "out") for _ in range(4)]
    codes = [finish(process)[0] for process in processes]
    assert set(codes) <= {0, 4}
    assert 0 in codes
    assert nights.files_in(tmp_path / "out") == ["night/master_bias_bin1x1.fits"]
