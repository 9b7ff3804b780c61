"""The memory given is kept: by bands and cells, in a cgroup, whatever the input and the workers."""

from __future__ import annotations

import contextlib
import gzip
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from astropy.io import fits

import masterframe as mf
from masterframe import ahead, cluster, store, tiling
from masterframe.errors import MemoryLimitError
from masterframe.fits import masters
from masterframe.model import Calibration, MasterImage, Recipe, Rejection
from masterframe.tiling import PART, parse_bytes
from stacks import pixels_and_tables, raw_frames, write_frames
from support import program

COMMAND = str(Path(sys.executable).with_name("masterframe"))
MARGIN = 1.15
"""Hard limit of the cgroup over the memory that is given."""
N, ROWS, COLUMNS = WIDE = (240, 3, 3 * PART + 700)


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """So many wide frames that one row of all of them is megabytes."""
    return write_frames(tmp_path_factory.mktemp("wide"), raw_frames(WIDE, seed=4))


@pytest.fixture(scope="module")
def taken_off(tmp_path_factory):
    """A bias with uncertainty and a few bad pixels, of the same width."""
    folder, rng = tmp_path_factory.mktemp("bias"), np.random.default_rng(5)
    bias = rng.normal(20, 3, WIDE[1:]).astype(np.float32)
    hdus = [fits.PrimaryHDU(bias), fits.ImageHDU(np.abs(bias) / 50, name="UNCERT")]
    fits.HDUList(hdus).writeto(folder / "bias.fits")
    fits.writeto(folder / "bad.fits", (rng.random(WIDE[1:]) < 0.001).astype(np.uint8))
    (image,) = masters.open_master(folder / "bias.fits").values()
    (bad,) = masters.open_master(folder / "bad.fits").values()
    return Calibration(
        bias=image,
        bad_pixels=MasterImage(bad.data),
        scale=tuple(np.linspace(0.9, 1.1, N)),
    )


class Listener(store.Silent):
    """Keeps what is told."""

    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)


def write(path, frames, recipe, calibration, memory):
    """Write a master with two workers in so much memory; return how it was cut."""
    listener = Listener()
    with store.open_resources(workers=2, memory=memory, reporter=listener) as resources:
        mf.write_master(path, mf.open_stack(frames), recipe, calibration, resources=resources)
    return listener.notes[0]


def least(path, frames, recipe, calibration):
    """Return the memory that a combination asks for at least, told to the kilobyte."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiling, "format_bytes", lambda size: f"{size / 1e6:.3f} MB")
        with pytest.raises(MemoryLimitError) as refused:
            write(path, frames, recipe, calibration, 1)
    return parse_bytes(re.search(r"need at least (\S+ MB)", str(refused.value))[1])


@pytest.mark.parametrize("calibrated", [False, True])
def test_rows_that_are_cut_give_the_same_bits(wide, taken_off, tmp_path, calibrated):
    recipe = Recipe(Rejection(low=3.0, high=3.0), planes=("rejlow", "rejhigh"))
    calibration = taken_off if calibrated else Calibration()
    whole, cut = tmp_path / "whole.fits", tmp_path / "cut.fits"
    assert " 3 bands of 1 row," in write(whole, wide, recipe, calibration, 1 << 33)
    memory = least(cut, wide, recipe, calibration) + 10**6
    said = write(cut, wide, recipe, calibration, memory)
    cells = int(re.search(r"(\d+) parts of a row", said)[1])
    assert cells >= 2 * ROWS
    assert pixels_and_tables(cut) == pixels_and_tables(whole)


def test_rules_that_need_whole_rows_say_so(wide, tmp_path):
    path = tmp_path / "m.fits"
    common = least(path, wide, Recipe(), Calibration())
    for recipe, reason in (
        (Recipe(Rejection(grow=2.0)), "grow looks at the columns beside"),
        (Recipe(Rejection("avsigma")), "the rule avsigma measures whole rows"),
    ):
        with pytest.raises(MemoryLimitError, match=reason):
            write(path, wide, recipe, Calibration(), common)
    assert not list(tmp_path.iterdir())


def test_limits_of_cgroups_count(tmp_path):
    """Both versions, the groups above, and the page cache, which gives way."""
    two = tmp_path / "two"
    inner = two / "job" / "step"
    inner.mkdir(parents=True)
    (inner / "memory.max").write_text("max\n")
    (inner / "memory.current").write_text("1000\n")
    (two / "job" / "memory.max").write_text("9000\n")
    (two / "job" / "memory.current").write_text("5000\n")
    (two / "job" / "memory.stat").write_text("anon 3000\nactive_file 200\ninactive_file 1300\n")
    (tmp_path / "member").write_text("0::/job/step\n")
    assert list(cluster.machine._left_in_cgroups(tmp_path / "member", two)) == [5500]
    one = tmp_path / "one" / "memory" / "box"
    one.mkdir(parents=True)
    (one / "memory.limit_in_bytes").write_text("7000\n")
    (one / "memory.usage_in_bytes").write_text("6500\n")
    (one / "memory.stat").write_text("inactive_file 1\ntotal_active_file 30\ntotal_inactive_file 4")
    (tmp_path / "member").write_text("4:cpu,cpuacct:/\n3:memory:/box\n0::/\n")
    assert list(cluster.machine._left_in_cgroups(tmp_path / "member", tmp_path / "one")) == [534]
    assert 0 < cluster.default_memory() <= min(cluster.available_memory() // 2 + 10**9, 4 * 10**9)


def test_fewer_processes_where_more_do_not_fit():
    assert cluster.machine.fitting_processes(8, 4 * 10**9) == 8
    assert cluster.machine.fitting_processes(2, 700 * 10**6) == 1
    assert cluster.machine.fitting_processes(2, 1) == 1


def test_reading_ahead_brings_files_into_the_page_cache(tmp_path):
    """Asked of the system itself: what mincore says is resident, up to the window."""
    paths = [tmp_path / f"{name}.bin" for name in "abc"]
    for path in paths:
        path.write_bytes(os.urandom(6 << 20))
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    if any(resident(path) > 0.5 for path in paths):
        pytest.skip("this file system keeps its pages")
    with ahead.walking([*paths, tmp_path / "missing"], 8 << 20) as walker:
        wait_until(lambda: all(resident(path) > 0.2 for path in paths))
        assert all(resident(path) < 0.9 for path in paths)
        walker.reach(1.0)
        wait_until(lambda: all(resident(path) == 1 for path in paths))


def resident(path):
    """Return the fraction of a file that is in the page cache, as fincore says."""
    found = subprocess.run(
        [program("fincore"), "--bytes", "--noheadings", "--output", "RES", str(path)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return int(found.stdout) / path.stat().st_size


def wait_until(true):
    """Wait for what another thread brings about."""
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


# In a cgroup: the whole program, in a memory that its kernel enforces.


@contextlib.contextmanager
def hard_limit(size: int) -> Iterator[Path | None]:
    """Make a group below that of this process with a hard limit; None where it cannot be made."""
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    mine = dict(line.split(":", 2)[1:] for line in lines)
    root = Path("/sys/fs/cgroup")
    if "memory" in mine:
        group, limit = root / "memory" / mine["memory"].lstrip("/"), "memory.limit_in_bytes"
    else:
        group, limit = root / mine.get("", "").lstrip("/"), "memory.max"
    group /= f"masterframe-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError:
        yield None
        return
    try:
        (group / limit).write_text(str(size))
        yield group
    except OSError:
        yield None
    finally:
        wait_until(lambda: not (group / "cgroup.procs").read_text())  # helpers end a little later
        group.rmdir()


def kills_in(group: Path) -> int:
    """Return how many processes of a group were killed for want of memory."""
    for name in ("memory.oom_control", "memory.events"):
        with contextlib.suppress(OSError):
            lines = dict(line.split() for line in (group / name).read_text().splitlines())
            return int(lines["oom_kill"])
    return 0


class Peak:
    """The largest resident size of a process and all below it, summed over them."""

    def __init__(self, root: int) -> None:
        self._root, self._largest = psutil.Process(root), {}

    def look(self) -> None:
        with contextlib.suppress(psutil.Error):
            for process in [self._root, *self._root.children(recursive=True)]:
                with contextlib.suppress(psutil.Error, OSError):
                    status = Path(f"/proc/{process.pid}/status").read_text()
                    kilobytes = re.search(r"VmHWM:\s*(\d+)", status)
                    self._largest[process.pid] = int(kilobytes[1]) << 10 if kilobytes else 0

    @property
    def bytes(self) -> int:
        return sum(self._largest.values())


def run_limited(memory: str, *arguments: str) -> tuple[int, str, int]:
    """Combine in a cgroup a little above the memory given; return exit code, errors, peak."""
    command = [COMMAND, "combine", *arguments, "--memory", memory, "--workers", "2"]
    with hard_limit(int(MARGIN * parse_bytes(memory))) as group:
        if group:
            enter = f'echo $$ >{group}/cgroup.procs && exec "$@"'
            command = ["sh", "-c", enter, "sh", *command]
        with tempfile.TemporaryFile("w+") as told:  # a pipe would fill up
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=told)
            peak = Peak(process.pid)
            while process.poll() is None:
                peak.look()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(0.02)
            told.seek(0)
            errors = told.read()
        if group:
            assert kills_in(group) == 0, errors
    return process.returncode, errors, peak.bytes


@pytest.fixture(scope="module", params=["plain", "gz", "fz"])
def many(request, tmp_path_factory):
    """Hundreds of names of a few files, so that the memory is short where it can be."""
    folder = tmp_path_factory.mktemp(request.param)
    paths = [Path(path) for path in write_frames(folder / "raw", raw_frames((10, 140, 2048)))]
    if request.param == "gz":
        for path in paths:
            path.write_bytes(gzip.compress(path.read_bytes(), 1))
    if request.param == "fz":
        for path in paths:
            data = fits.getdata(path)
            hdu = fits.CompImageHDU(data, compression_type="RICE_1", tile_shape=(20, 2048))
            fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path, overwrite=True)
    names = []
    for number in range(600 if request.param == "plain" else 40):
        names.append(folder / f"{number:04d}.fits")
        names[-1].hardlink_to(paths[number % len(paths)])
    (folder / "names").write_text("\n".join(map(str, names)))
    return f"@{folder / 'names'}"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("memory", "scheduler"),
    [("400MB", "threads"), ("1GB", "threads"), ("750MB", "processes"), ("1GB", "processes")],
)
def test_a_hard_limit_just_above_the_memory_never_kills(many, tmp_path, memory, scheduler):
    code, errors, peak = run_limited(
        memory, many, "-o", str(tmp_path / "m.fits"), "--scheduler", scheduler
    )
    assert code == 0, errors
    assert peak <= parse_bytes(memory)


@pytest.mark.slow
def test_neither_memory_nor_workers_change_a_bit(many, tmp_path):
    made = []
    for memory, workers in (("400MB", "1"), ("400MB", "2"), ("4GB", "1"), ("4GB", "2")):
        path = tmp_path / f"{memory}-{workers}.fits"
        command = [COMMAND, "combine", many, "-o", path, "--memory", memory, "--workers", workers]
        subprocess.run(command, check=True, capture_output=True)
        made.append(pixels_and_tables(path))
    assert made[0] == made[1] == made[2] == made[3]


def test_too_little_memory_is_refused_with_what_would_do(wide, tmp_path):
    (tmp_path / "names").write_text("\n".join(wide))
    output = tmp_path / "m.fits"
    said = subprocess.run(
        [COMMAND, "combine", f"@{tmp_path / 'names'}", "-o", output, "--memory", "100MB"],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert said.returncode == 2
    needed = parse_bytes(re.search(r"need at least (\S+ MB)", said.stderr)[1])
    assert 150 * 10**6 < needed < 300 * 10**6
    assert not output.exists()
