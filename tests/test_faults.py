"""Bad input and bad surroundings, each injected for real: a clear line, and the rest goes on."""

import bz2
import contextlib
import gzip
import os
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import warnings
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

import nights
import slowed
from masterframe import inventory
from masterframe.config import load_config
from masterframe.errors import ConfigError, StorageError
from masterframe.fits import tables
from masterframe.model import MaskBit
from nights import SHAPE, call, files_in, finish, make_plan, raw, reduce_night, reduce_plan, start
from stacks import pixels_and_tables

ROOT_USER = hasattr(os, "geteuid") and os.geteuid() == 0
NOBODY = 65534
GOOD = 4


@pytest.fixture
def night(tmp_path):
    return nights.night(tmp_path / "night", bias=GOOD, flat=0, science=0)


@pytest.fixture
def command(capsys, monkeypatch):
    return lambda *arguments: call(capsys, monkeypatch, *arguments)


def scan(folder):
    """Return the names of exposures with an image, and the reason for every other file by name."""
    exposures, problems = inventory.scan_night([folder], load_config(None))
    names = [Path(item.path).name for item in exposures if item.images]
    return names, {Path(item.path).name: item.reason for item in problems}


def with_card(source, path, card, instead=b"DATE-OBS"):
    """Copy a frame with one card in the place of another, as bytes that no writer would write."""
    content = source.read_bytes()
    at = content.index(instead.ljust(8) + b"=")
    path.write_bytes(content[:at] + card.ljust(80) + content[at + 80 :])


# --- files that are no frames ---------------------------------------------------------------------


def _cut(path, good):
    path.write_bytes(good[: 2880 + 700])


def _empty(path, good):
    path.touch()


def _header_only(path, good):
    path.write_bytes(good[:2880])


def _no_end(path, good):
    path.write_bytes(good[:800])


def _page(path, good):
    path.write_text("<html><body>404</body></html>")


def _noise(path, good):
    path.write_bytes(np.random.default_rng(0).bytes(5760))


def _fifo(path, good):
    os.mkfifo(path)


def _socket(path, good):
    here = Path.cwd()
    os.chdir(path.parent)  # the path of a socket holds 107 bytes
    try:
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(path.name)
    finally:
        os.chdir(here)


def _folder(path, good):
    path.mkdir()


def _loop(path, good):
    path.symlink_to(path.name)


def _dangling(path, good):
    path.symlink_to("nowhere.fits")


def _card(name, value):
    def inject(path, good):
        at = good.index(name.ljust(8) + b"= ")
        path.write_bytes(good[:at] + name.ljust(8) + b"= " + value.ljust(70) + good[at + 80 :])

    return inject


def _cut_gz(path, good):
    path.write_bytes(gzip.compress(good)[:-900])


def _flipped_gz(path, good):
    packed = bytearray(gzip.compress(good, 0))
    packed[-500] ^= 0x10
    path.write_bytes(packed)


def _cut_bz2(path, good):
    path.write_bytes(bz2.compress(good)[:-100])


FAULTS = {
    "half": (_cut, "truncated: 700 of 1,728 bytes"),
    "empty": (_empty, "empty file"),
    "header_only": (_header_only, "truncated: 0 of 1,728 bytes"),
    "no_end": (_no_end, "truncated: its header stops after 800 bytes, without END"),
    "page": (_page, "not FITS: it is a web page"),
    "noise": (_noise, "not FITS: it does not begin with SIMPLE"),
    "fifo": (_fifo, "not a regular file but a FIFO"),
    "socket": (_socket, "not a regular file but a socket"),
    "folder": (_folder, "not a regular file: a folder"),
    "loop": (_loop, "symbolic links"),
    "dangling": (_dangling, "no such file"),
    "huge": (_card(b"NAXIS1", b"2048000000"), "truncated: 2,880 of 98,304,000,000 bytes"),
    "beyond": (_card(b"NAXIS1", b"9" * 30), "more pixels than any file can hold"),
    "negative": (_card(b"NAXIS1", b"-36"), "NAXIS1 = -36 is negative"),
    "no_axes": (_card(b"NAXIS", b"0"), "no pixels"),
    "many_axes": (_card(b"NAXIS", b"3"), "it has no NAXIS3 card"),
    "bitpix": (_card(b"BITPIX", b"17"), "BITPIX = 17 is none of"),
    "bzero_text": (_card(b"BZERO", b"'32768'"), "unreadable scaling: BZERO"),
    "bzero_nan": (_card(b"BZERO", b"NaN"), "unreadable scaling: BZERO"),
    "bscale_zero": (_card(b"BSCALE", b"0"), "BSCALE = 0"),
    "cut_gz": (_cut_gz, "its gzip data cannot be unpacked"),
    "flipped_gz": (_flipped_gz, "its gzip data cannot be unpacked"),
    "cut_bz2": (_cut_bz2, "its bzip2 data cannot be unpacked"),
}


def inject(fault, night):
    """Put a file with a fault into a night; return its name and the words that must be said."""
    make, words = FAULTS[fault]
    good = (night / "bias_0.fits").read_bytes()
    path = night / f"x_{fault}.fits"
    make(path, good)
    return path.name, words


@pytest.mark.parametrize("fault", FAULTS)
def test_a_file_that_is_no_frame_has_one_line_with_the_reason(fault, night):
    name, words = inject(fault, night)
    began = time.monotonic()
    exposures, problems = scan(night)
    assert time.monotonic() - began < 5  # a FIFO would hang for ever
    assert list(problems) == [name]
    assert words in problems[name]
    assert "\n" not in problems[name]
    assert len(exposures) == GOOD


def test_a_header_that_lies_costs_no_memory(night):
    inject("huge", night)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    scan(night)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB


def test_all_faults_in_one_night_leave_the_good_frames_alone(night, tmp_path, command):
    alone = reduce_night(night, tmp_path / "alone")["master_bias_bin1x1"]
    said = dict(inject(fault, night) for fault in FAULTS)
    code, out, _ = command("run", night, "-o", tmp_path / "out")
    assert code == 0
    for name, words in said.items():
        lines = [line for line in out.splitlines() if f"/{name}: " in line]
        assert len(lines) == 1
        assert words in lines[0]
    assert files_in(tmp_path / "out") == ["night/master_bias_bin1x1.fits"]
    made = fits.getdata(tmp_path / "out/night/master_bias_bin1x1.fits")
    assert np.array_equal(made, fits.getdata(alone.output))


@pytest.mark.parametrize("cut", [-1, -800])
def test_missing_padding_is_no_fault(cut, night):
    path = night / "bias_0.fits"
    path.write_bytes(path.read_bytes()[:cut])
    assert scan(night) == ([f"bias_{i}.fits" for i in range(GOOD)], {})


def test_bytes_behind_the_data_are_no_fault(night):
    with (night / "bias_0.fits").open("ab") as file:
        file.write(b"made by a camera" * 400)
    assert len(scan(night)[0]) == GOOD


# --- duplicates -----------------------------------------------------------------------------------


def test_copies_and_links_of_a_frame_are_left_out(night):
    first = night / "bias_0.fits"
    shutil.copyfile(first, night / "copy.fits")
    (night / "symbolic.fits").symlink_to("bias_0.fits")
    os.link(first, night / "hard.fits")
    (night / "packed.fits.gz").write_bytes(gzip.compress(first.read_bytes()))
    exposures, problems = scan(night)
    assert exposures == [f"bias_{i}.fits" for i in range(GOOD)]
    assert set(problems) == {"copy.fits", "symbolic.fits", "hard.fits", "packed.fits.gz"}
    for name in ("symbolic.fits", "hard.fits"):
        assert problems[name] == f"the same file as {first}"
    for name in ("copy.fits", "packed.fits.gz"):
        assert problems[name] == f"header and data are those of {first}"


def test_equal_headers_with_other_pixels_are_no_duplicates(night):
    raw(night / "other.fits", seed=0, level=300)
    exposures, problems = scan(night)
    assert "other.fits" in exposures
    assert not problems


def test_combining_frames_of_several_kinds_is_said(tmp_path, command):
    mixed = nights.night(tmp_path / "mixed", bias=3, flat=3, science=0)
    code, _, err = command("combine", f"{mixed}/*.fits", "-o", tmp_path / "made.fits")
    assert code == 0
    assert "frames of more than one kind are combined: 3 of Bias Frame, 3 of Flat Field" in err
    assert "frames of more than one filter are combined: 3 of none, 3 of V" in err
    code, _, err = command("combine", f"{mixed}/bias_*.fits", "-o", tmp_path / "alike.fits")
    assert code == 0
    assert "more than one" not in err


def test_combining_a_folder_is_refused_with_what_to_give(night, tmp_path, command):
    code, _, err = command("combine", night, "-o", tmp_path / "m.fits")
    assert code == 2
    assert f"{night} is a folder: give its files, as {night}/*.fits" in err


def test_combining_a_frame_twice_is_said(night, tmp_path, command):
    files = sorted(night.glob("*.fits"))
    code, _, err = command("combine", *files, files[1], "-o", tmp_path / "m.fits")
    assert code == 0
    assert f"{files[1]} counts twice" in err


# --- who may read ---------------------------------------------------------------------------------


def as_nobody(function):
    """Return the text that a function returns in a process that is nobody's, if this is root's."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # threads: the child starts its own
        child = os.fork()
    if child == 0:
        try:
            if ROOT_USER:
                os.setgroups([])
                os.setgid(NOBODY)
                os.setuid(NOBODY)
            os.write(writing, function().encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    return text


@pytest.fixture
def public():
    """Return a folder that another user may enter."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def test_a_file_and_a_folder_that_may_not_be_read_are_named(public):
    night = nights.night(public / "night", bias=GOOD, flat=0, science=0)
    (night / "bias_1.fits").chmod(0)
    (night / "closed").mkdir(mode=0)
    problems = as_nobody(lambda: repr(scan(night)))
    names = ["bias_0.fits", "bias_2.fits", "bias_3.fits"]
    reasons = {"bias_1.fits": "permission denied", "closed": "Permission denied"}
    assert problems == repr((names, dict(sorted(reasons.items()))))


def _reduced_by_nobody(night, out):
    try:
        return repr(nights.states(reduce_night(night, out)))
    except StorageError as error:
        return str(error)


def test_an_output_folder_that_may_not_be_written_is_found_before_any_pixel_is_read(public):
    night = nights.night(public / "night", bias=GOOD, flat=0, science=0)
    out = public / "closed"
    out.mkdir(mode=0o555)
    assert as_nobody(lambda: _reduced_by_nobody(night, out)) == (
        f"{out}: the output folder cannot be written (Permission denied)"
    )
    assert not list(out.iterdir())


@contextmanager
def mounted(folder, *options):
    """Mount a file system of its own on a folder; skip where that is not allowed."""
    folder.mkdir(exist_ok=True)
    command = ["mount", *options, str(folder)]
    if not ROOT_USER or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_read_only_file_system_ends_the_run_before_the_scan(night, tmp_path, command):
    with mounted(tmp_path / "ro", "-t", "tmpfs", "-o", "ro,size=1m", "none") as out:
        code, _, err = command("run", night, "-o", out)
        assert code == 3
        assert err == (
            f"masterframe: {out}: the output folder cannot be written (Read-only file system)\n"
        )
        code, _, err = command("combine", *night.glob("*.fits"), "-o", out / "m.fits")
        assert code == 3
        assert f"{out / 'm.fits'}: cannot be written (Read-only file system)" in err


def test_a_full_disk_ends_the_run_with_what_it_needs_and_nothing_half_done(tmp_path, command):
    night = nights.night(tmp_path / "night", bias=0, flat=0, science=0)
    for seed in range(3):
        raw(night / f"a_{seed}.fits", seed=seed)
        raw(night / f"b_{seed}.fits", seed=seed, shape=(300, 400))
    with mounted(tmp_path / "small", "-t", "tmpfs", "-o", "size=400k", "none") as out:
        code, _, err = command("run", night, "-o", out)
        assert code == 3
        last = err.splitlines()[-1]
        assert "needs 1." in last
        assert "free in" in last
        assert "No space left on device" in last
        for name in files_in(out):
            assert name.endswith(".fits")
            fits.open(out / name, checksum=True).close()


def contents(folder):
    """Return the files below a folder with what is in them, but for what runs keep."""
    return {name: (folder / name).read_bytes() for name in files_in(folder)}


def fill(path):
    """Write a file until its disk is full."""
    with path.open("wb", buffering=0) as stream, contextlib.suppress(OSError):
        while True:
            stream.write(bytes(4096))


@pytest.mark.slow
@pytest.mark.system
def test_a_disk_that_fills_up_during_a_run_loses_nothing(tmp_path):
    other = nights.night(tmp_path / "other", bias=3, flat=0, science=0)
    night = slowed.write_mosaics(tmp_path / "night")
    inputs = contents(night)
    whole = slowed.start(night, tmp_path / "whole")
    assert slowed.finish(whole) == 0, whole.errors
    faults = {**slowed.SLOW, "LD_PRELOAD": slowed.compile_faults(tmp_path)}
    with mounted(tmp_path / "small", "-t", "tmpfs", "-o", "size=4m", "none") as out:
        assert slowed.finish(slowed.start(other, out)) == 0
        made = contents(out)
        process = slowed.start(night, out, **faults)
        slowed.bands_came(out, (0, 0), process)
        filler = out / "filler"
        fill(filler)
        assert slowed.finish(process) == 3
        journal = out / ".masterframe/parts" / f"{slowed.MOSAIC}.journal"
        last = f"masterframe: {journal}: cannot be written (No space left on device)"
        assert process.errors.splitlines()[-1] == last
        claim = slowed.claim_of(out)
        assert (0, 0) < claim < (slowed.CCDS, 0)
        filler.unlink()
        assert contents(out) == made
        assert contents(night) == inputs

        second = slowed.start(night, out)
        assert slowed.finish(second) == 0, second.errors
        assert slowed.bytes_read(second) == slowed.ALL_BYTES - slowed.claimed_bytes(claim)
        expected = tmp_path / "whole" / slowed.MOSAIC
        assert pixels_and_tables(out / slowed.MOSAIC) == pixels_and_tables(expected)
        assert contents(out).keys() == made.keys() | {slowed.MOSAIC}
        assert not list((out / ".masterframe/parts/night").iterdir())


def test_a_limit_on_the_size_of_files_is_a_full_disk(tmp_path):
    files = [raw(tmp_path / f"{seed}.fits", seed=seed, shape=(1000, 1100)) for seed in range(2)]
    # 10 MB: more than any file that Python or the kernels keep for later, less than the master.
    process = start("combine", *files, "-o", tmp_path / "m.fits", prefix="ulimit -f 20000")
    code, _, err = finish(process)
    assert code == 3
    assert "needs 12" in err
    assert "File too large" in err
    assert not list(tmp_path.glob("m.fits*"))


@pytest.mark.parametrize("what", ["file", "dangling link"])
def test_an_output_folder_that_is_none_is_refused(what, night, tmp_path, command):
    out = tmp_path / "out"
    if what == "file":
        out.write_text("mine")
    else:
        out.symlink_to("nowhere/at/all")
    code, _, err = command("run", night, "-o", out)
    assert code == 3
    assert err.startswith(f"masterframe: {out}: the output folder cannot be written (")


# --- outputs that exist ---------------------------------------------------------------------------


def test_combine_replaces_nothing_unless_told_to(night, tmp_path, command):
    target = tmp_path / "m.fits"
    target.write_text("mine")
    code, _, err = command("combine", *night.glob("*.fits"), "-o", target)
    assert code == 3
    assert f"{target} exists" in err
    assert target.read_text() == "mine"
    assert command("combine", *night.glob("*.fits"), "-o", target, "--overwrite")[0] == 0
    assert fits.getdata(target).shape == SHAPE


@pytest.mark.parametrize("kind", ["folder", "link", "fifo"])
def test_combine_replaces_no_special_file_whatever_it_is_told(kind, night, tmp_path, command):
    target = tmp_path / "m.fits"
    precious = tmp_path / "precious"
    precious.write_text("mine")
    {
        "folder": target.mkdir,
        "link": lambda: target.symlink_to(precious),
        "fifo": lambda: os.mkfifo(target),
    }[kind]()
    code, _, err = command("combine", *night.glob("*.fits"), "-o", target, "--overwrite")
    assert code == 3
    assert "not a regular file" in err
    assert precious.read_text() == "mine"
    assert not list(tmp_path.glob("*.part"))


# --- files that change between scan and read ------------------------------------------------------


def _grow(path):
    with path.open("ab") as file:
        file.write(b"\0" * 2880)


def _rewrite(path):
    content = path.read_bytes()
    path.write_bytes(content[:-1] + b"\1")
    os.utime(path, ns=(1, 1))


CHANGES = {
    "deleted": (Path.unlink, "no such file"),
    "cut": (lambda path: os.truncate(path, 3000), "changed during the run: 3,000 bytes"),
    "grown": (_grow, "changed during the run"),
    "rewritten": (_rewrite, "changed during the run: written to since it was scanned"),
    "a FIFO": (lambda path: (path.unlink(), os.mkfifo(path)), "not a regular file but a FIFO"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_frame_that_changes_after_the_scan_fails_its_product_alone(change, tmp_path):
    night = nights.night(tmp_path / "night", bias=3, dark=3, flat=0, science=0)
    config, plan = make_plan(night, "recipes.dark.subtract_bias=false")
    alter, words = CHANGES[change]
    alter(night / "bias_1.fits")
    outcomes = reduce_plan(plan, config, tmp_path / "out")
    failed = outcomes["master_bias_bin1x1"]
    assert failed.state == "failed"
    assert failed.reason.startswith(f"{night / 'bias_1.fits'}: ")
    assert words in failed.reason
    assert outcomes["master_dark_30s_bin1x1"].state == "made"
    assert files_in(tmp_path / "out") == ["night/master_dark_30s_bin1x1.fits"]


def test_a_frame_that_goes_after_a_first_run_fails_its_product_alone(tmp_path):
    night = nights.night(tmp_path / "night", bias=3, dark=3, flat=0, science=0)
    out = tmp_path / "out"
    assert set(nights.states(reduce_night(night, out)).values()) == {"made"}
    for name in ("bias_1.fits", "dark_1.fits"):
        os.utime(night / name, ns=(5, 5))
    config, plan = make_plan(night)
    before = (out / "night/master_dark_30s_bin1x1.fits").read_bytes()
    (night / "dark_1.fits").unlink()
    outcomes = reduce_plan(plan, config, out)
    assert outcomes["master_bias_bin1x1"].state == "up to date"
    assert outcomes["master_dark_30s_bin1x1"].state == "failed"
    assert "dark_1.fits: no such file" in outcomes["master_dark_30s_bin1x1"].reason
    assert (out / "night/master_dark_30s_bin1x1.fits").read_bytes() == before


# --- pixels ---------------------------------------------------------------------------------------


def test_pixels_that_are_no_numbers_are_left_out_and_counted(tmp_path, command):
    rng = np.random.default_rng(7)
    values = rng.normal(100, 3, (5, *SHAPE)).astype(np.float32)
    values[0, 3, 4] = np.nan
    values[1, 3, 4] = np.inf
    values[2, 5, :6] = -np.inf
    values[:, 7, 8] = np.nan
    for index, frame in enumerate(values):
        fits.PrimaryHDU(frame).writeto(tmp_path / f"f{index}.fits")
    target = tmp_path / "m.fits"
    files = [tmp_path / f"f{index}.fits" for index in range(5)]
    assert command("combine", *files, "--reject", "none", "-o", target)[0] == 0
    finite = np.where(np.isfinite(values), values, np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        expected = np.nanmean(finite.astype(float), 0)
    with fits.open(target) as hdus:
        assert np.allclose(hdus[0].data, expected, rtol=1e-6, equal_nan=True)
        assert np.array_equal(hdus["COUNT"].data, np.isfinite(values).sum(0))
        wanted = np.zeros(SHAPE)
        wanted[7, 8] = MaskBit.NO_VALUE
        assert np.array_equal(hdus["MASK"].data, wanted)
    assert [row.missing for row in tables.read_inputs(target)] == [2, 2, 7, 1, 1]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_few_identical_frames_give_defined_values(count, tmp_path, command):
    for index in range(count):
        raw(tmp_path / f"f{index}.fits", seed=1, DATE_OBS=f"2026-01-0{index + 1}")
    files = sorted(tmp_path.glob("f*.fits"))
    assert command("combine", *files, "-o", tmp_path / "m.fits")[0] == 0
    with fits.open(tmp_path / "m.fits") as hdus:
        assert np.array_equal(hdus[0].data, fits.getdata(files[0]))
        assert (hdus["COUNT"].data == count).all()
        assert not hdus["MASK"].data.any()
        assert np.isnan(hdus["UNCERT"].data).all() == (count == 1)


def test_combine_names_the_frame_of_another_shape(night, tmp_path, command):
    odd = raw(tmp_path / "odd.fits", shape=(SHAPE[0] - 1, SHAPE[1]))
    code, _, err = command("combine", *night.glob("*.fits"), odd, "-o", tmp_path / "m.fits")
    assert code == 1
    assert str(odd) in err
    assert "23 x 36" in err
    assert not list(tmp_path.glob("m.fits*"))


def test_frames_of_other_shape_or_binning_are_products_of_their_own(night, tmp_path):
    raw(night / "odd.fits", shape=(SHAPE[0] + 2, SHAPE[1]), seed=11)
    raw(night / "coarse.fits", seed=12, XBINNING=2, YBINNING=2)
    outcomes = reduce_night(night, tmp_path / "out")
    assert sorted(outcome.n_frames for outcome in outcomes.values()) == [1, 1, GOOD]
    assert set(nights.states(outcomes).values()) == {"made"}


# --- headers --------------------------------------------------------------------------------------

HOSTILE = [
    "../../x",
    "/etc/passwd",
    "CON",
    "a/b",
    "..",
    "[red]x[/red]",
    "<script>alert(1)</script>",
    "{{ 7 * 7 }}",
    "%s%n%d",
    "$(touch hacked)",
    "-rf",
    "x" * 68,
    "é✓ ünï".encode().decode("latin-1"),
]


@pytest.mark.parametrize("value", HOSTILE)
def test_a_hostile_header_value_makes_neither_paths_nor_markup(value, tmp_path, command):
    night = tmp_path / "night"
    card = f"FILTER  = '{value}'".encode("latin-1")
    for kind, count in {"bias": 3, "flat": 3, "science": 1}.items():
        for seed in range(count):
            path = night / f"{kind}_{seed}.fits"
            raw(path, kind, seed, FILTER="V", OBJECT="M 31")
            with_card(path, path, card, b"FILTER")
            with_card(path, path, card.replace(b"FILTER", b"OBJECT"), b"OBJECT")
    code, out, err = command("run", night, "-o", tmp_path / "out")
    assert code == 0
    assert all(c.isprintable() or c == "\n" for c in out + err)
    made = files_in(tmp_path / "out")
    assert len(made) == 3
    assert all(
        (tmp_path / "out" / name).resolve().is_relative_to(tmp_path / "out") for name in made
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["night", "out"]
    for name in made:
        with fits.open(tmp_path / "out" / name, checksum=True) as hdus:  # warns if it is not whole
            str(hdus[0].header).encode("ascii")


def test_control_characters_of_a_header_reach_no_terminal(tmp_path, command):
    night = nights.night(tmp_path / "night", bias=3, flat=0, science=0)
    card = b"OBJECT  = '\x1b[31mred\x07\x08\x9b2J\r\n'"
    for path in sorted(night.glob("*.fits")):
        with_card(path, path, card, b"INSTRUME")
    for arguments in (["scan", night], ["plan", night], ["run", night, "-o", tmp_path / "out"]):
        code, out, err = command(*arguments)
        assert code == 0
        assert all(c.isprintable() or c == "\n" for c in out + err)
    with fits.open(tmp_path / "out/night/master_bias_bin1x1.fits", checksum=True) as hdus:
        assert str(hdus[0].header["OBJECT"]).isprintable()


@pytest.mark.parametrize("card", ["CCD-TEMP= 1E300", "XBINNING= " + "9" * 60, "CCD-TEMP= -1E300"])
def test_numbers_that_cannot_be_make_no_name_that_cannot_be(card, night, tmp_path):
    with_card(night / "bias_0.fits", night / "x.fits", card.encode())
    outcomes = reduce_night(night, tmp_path / "out")
    assert set(nights.states(outcomes).values()) == {"made"}


@pytest.mark.parametrize("value", ["30 x", "NaN", "-30", "", "half a minute", None])
def test_a_dark_without_a_time_is_left_out_and_named(value, tmp_path):
    night = nights.night(tmp_path / "night", bias=0, dark=3, flat=0, science=0)
    raw(night / "odd.fits", "dark", 30, EXPTIME=value)
    _, plan = make_plan(night)
    assert [len(product.exposures) for product in plan.products] == [3]
    (left,) = plan.left_out
    assert left.path == str(night / "odd.fits")
    assert left.reason == "a dark without an exposure time"


def test_a_dark_whose_time_is_a_card_of_nan_is_left_out(tmp_path):
    night = nights.night(tmp_path / "night", bias=0, dark=3, flat=0, science=0)
    with_card(night / "dark_0.fits", night / "odd.fits", b"EXPTIME = NaN", b"EXPTIME")
    (left,) = make_plan(night)[1].left_out
    assert left.reason == "a dark without an exposure time"


DATES = ["2016-12-31T23:59:60", "2026-01-02", "9999-12-31T23:59:59", "yesterday", "31/12/99", None]


@pytest.mark.parametrize("date", DATES)
def test_an_odd_date_costs_no_frame(date, night, tmp_path):
    raw(night / "odd.fits", seed=30, DATE_OBS=date)
    (outcome,) = reduce_night(night, tmp_path / "out").values()
    assert (outcome.state, outcome.n_frames) == ("made", GOOD + 1)


@pytest.mark.parametrize(
    ("typ", "exptime", "kind"),
    [
        ("BIAS   ", 0.0, "bias"),
        ("zero", 0.0, "bias"),
        ("bias frame", 0.0, "bias"),
        (None, 0.0, "bias"),
        (None, 7.0, None),
    ],
)
def test_kinds_by_any_usual_name_and_never_by_a_guess_that_is_not_marked(
    typ, exptime, kind, tmp_path
):
    raw(tmp_path / "a.fits", IMAGETYP=typ, EXPTIME=exptime)
    ((exposure,), problems) = inventory.scan_night([tmp_path], load_config(None))
    assert (exposure.kind, exposure.certain) == (kind, typ is not None)
    assert len(problems) == (kind is None)


# --- names of files -------------------------------------------------------------------------------

NAMES = [
    b"a\nb.fits",
    b"-rf.fits",
    b"%s %20.fits",
    b'it\'s "quoted".fits',
    b" blank .fits",
    "Ame\u0301lie.fits".encode(),  # NFD
    b"\xff\xfe latin.fits",
    b"\x1b[31mred.fits",
    b"x" * 245 + b".fits",
    b"[1-3]*?.fits",
    b"@list.fits",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_file_of_any_name_is_reduced(name, tmp_path, command):
    night = nights.night(tmp_path / "night", bias=3, flat=0, science=0)
    source = raw(tmp_path / "source.fits", "science", 9)
    source.rename(night / os.fsdecode(name))
    code, out, err = command("run", night, "-o", tmp_path / "out")
    assert code == 0
    assert all(c.isprintable() or c == "\n" for c in out + err)
    (made,) = (tmp_path / "out/night/calibrated").iterdir()
    (row,) = tables.read_inputs(made)
    assert os.fsencode(row.path) == os.fsencode(night) + b"/" + name
    with fits.open(made, checksum=True) as hdus:
        str(hdus[0].header).encode("ascii")
    assert set(nights.states(reduce_night(night, tmp_path / "out")).values()) == {"up to date"}


@pytest.mark.parametrize("name", [b"\xff.fits", b"a\nb\x1b[31m.fits", b"m.fits", b"[a].fits"])
def test_combine_takes_and_makes_files_of_any_name(name, tmp_path, command):
    folder = tmp_path / "in"
    nights.night(folder, bias=3, flat=0, science=0)
    (folder / "bias_0.fits").rename(folder / os.fsdecode(name))
    target = tmp_path / os.fsdecode(name)
    code, out, err = command("combine", *folder.iterdir(), "-o", target)
    assert code == 0
    assert all(c.isprintable() or c == "\n" for c in out + err)
    assert fits.getdata(target).shape == SHAPE
    code, out, err = command("combine", *folder.iterdir(), "-o", target)
    assert code == 3
    assert all(c.isprintable() or c == "\n" for c in out + err)
    assert err.splitlines()[-1].endswith(
        "exists; choose another name, or --overwrite (run: --force)"
    )


def test_a_list_may_name_files_in_any_bytes(tmp_path, command):
    folder = nights.night(tmp_path / "in", bias=3, flat=0, science=0)
    (folder / "bias_0.fits").rename(folder / os.fsdecode(b"\xff.fits"))
    (folder / "list").write_bytes(b"# three\n\xff.fits\nbias_1.fits\n\nbias_2.fits\n")
    assert command("combine", f"@{folder / 'list'}", "-o", tmp_path / "m.fits")[0] == 0


@pytest.mark.parametrize("name", ["x" * 300 + ".fits", "no/such.fits", "*.none", "@none"])
def test_inputs_that_are_not_there_are_named(name, tmp_path, command):
    code, _, err = command("combine", name, "-o", tmp_path / "m.fits")
    assert code in {1, 2}
    assert name.lstrip("@") in err


def test_an_output_whose_name_is_too_long_is_refused(night, tmp_path, command):
    target = tmp_path / ("x" * 300 + ".fits")
    code, _, err = command("combine", *night.glob("*.fits"), "-o", target)
    assert code == 3
    assert "File name too long" in err


# --- folders --------------------------------------------------------------------------------------


def test_links_to_folders_are_named_and_loops_end(night):
    (night / "up").symlink_to("..")
    (night / "self").symlink_to(".")
    exposures, problems = scan(night)
    assert len(exposures) == GOOD
    assert set(problems) == {"up", "self"}


def test_deep_folders_are_walked(tmp_path):
    deep = tmp_path.joinpath(*["d"] * 100)
    raw(deep / "a.fits")
    assert scan(tmp_path)[0] == ["a.fits"]


def test_a_night_without_anything_usable_is_no_success(tmp_path, command):
    night = tmp_path / "night"
    night.mkdir()
    (night / "notes.fits").write_text("clouds")
    code, out, _ = command("run", night, "-o", tmp_path / "out")
    assert code == 1
    assert "notes.fits: not FITS" in out
    assert "nothing to make" in out
    assert not files_in(tmp_path / "out")


def test_a_night_that_is_not_there_is_a_mistake_of_the_call(tmp_path, command):
    code, _, err = command("run", tmp_path / "none", "-o", tmp_path / "out")
    assert code == 2
    assert err == f"masterframe: {tmp_path / 'none'} does not exist\n"
    assert not (tmp_path / "out").exists()


def test_what_a_run_made_is_no_input_of_the_next(night, tmp_path):
    raw(night / "science_0.fits", "science", 40)
    first = reduce_night(night, night)
    assert set(nights.states(first).values()) == {"made"}
    _, plan = make_plan(night)
    assert len(plan.products) == 2
    assert {Path(item.path).name for item in plan.problems} == {
        "master_bias_bin1x1.fits",
        "science_0.fits",
    }
    for problem in plan.problems:
        assert "not a raw exposure" in problem.reason


# --- configurations -------------------------------------------------------------------------------

CONFIGS = {
    b"": "wanted a mapping of settings, found empty",
    b"# nothing\n": "found empty",
    b"- a\n- b\n": "found a list",
    b"recipes:\n  bias:\n    hihg: 3\n": "c.yaml:3:5: ",
    b"recipes:\n\tbias: {}\n": "c.yaml:2:1: ",
    b"nights: apart\nnights: pooled\n": "'nights' is set twice, first at",
    b"recipes: {bias: {low: high}}\n": "c.yaml:1:18: ",
    b"\xff\xfe": "is not UTF-8",
    b"output: !!python/object/apply:os.system [touch hacked]\n": "c.yaml:1:",
    b"a: &a [x]\nb: [*a]\n": "aliases are not used here",
    b"x" * (1 << 19): "longer than",
}


@pytest.mark.parametrize("content", CONFIGS, ids=range(len(CONFIGS)))
def test_a_configuration_that_is_none_ends_with_its_place(content, night, tmp_path, command):
    path = tmp_path / "c.yaml"
    path.write_bytes(content)
    code, _, err = command("run", night, "-c", path, "-o", tmp_path / "out")
    assert code == 2
    assert CONFIGS[content] in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", [b"\xef\xbb\xbfnights: pooled\n", b"nights: pooled\r\n"])
def test_marks_and_line_ends_of_windows_are_no_fault(content, tmp_path):
    path = tmp_path / "c.yaml"
    path.write_bytes(content)
    assert load_config(path).nights == "pooled"


def test_a_configuration_that_is_a_folder_or_a_fifo_is_named(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    for name in (".", "fifo", "none.yaml"):
        with pytest.raises(ConfigError, match="cannot be read"):
            load_config(tmp_path / name)


# --- killed ---------------------------------------------------------------------------------------


def wait_for(condition, process):
    """Wait until a condition holds while a process runs."""
    end = time.monotonic() + 120
    while not condition():
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.002)


def test_a_kill_leaves_no_half_output_and_the_next_run_goes_on(tmp_path):
    night = nights.night(tmp_path / "night", bias=3, dark=3, flat=0, science=0)
    out = tmp_path / "out"
    config, plan = make_plan(night)
    reduce_plan(plan, config, out)
    whole = {name: fits.getdata(out / name) for name in files_in(out)}
    dark = out / "night/master_dark_30s_bin1x1.fits"
    before = dark.read_bytes()
    part = out / ".masterframe/parts/night" / f"{dark.name}.part"
    process = start("run", night, "-o", out, "--force")
    wait_for(part.exists, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert part.exists()
    assert dark.read_bytes() == before
    outcomes = reduce_night(night, out, force=True)
    assert set(nights.states(outcomes).values()) == {"made"}
    assert files_in(out) == sorted(whole)
    for name, data in whole.items():
        assert np.array_equal(fits.getdata(out / name), data)


@pytest.mark.slow
@pytest.mark.parametrize("delay", [0, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8])
def test_a_kill_at_any_moment_leaves_a_whole_file_or_none(delay, tmp_path):
    folder = tmp_path / "in"
    for seed in range(9):
        raw(folder / f"{seed}.fits", seed=seed, shape=(900, 1100))
    target = tmp_path / "m.fits"
    part = tmp_path / "m.fits.part"
    process = start("combine", *folder.iterdir(), "-o", target, "--memory", "400MB")
    wait_for(lambda: part.exists() or target.exists(), process)
    time.sleep(delay)
    process.kill()
    process.communicate()
    if target.exists():
        with fits.open(target, checksum=True) as hdus:
            assert hdus["COUNT"].data.max() == 9
        target.unlink()
    code, _, err = finish(start("combine", *folder.iterdir(), "-o", target))
    assert code == 0, err
    assert not part.exists()


def test_a_part_that_a_dead_process_left_is_replaced(night, tmp_path):
    part = tmp_path / "out/.masterframe/parts/night/master_bias_bin1x1.fits.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"half")
    assert reduce_night(night, tmp_path / "out")["master_bias_bin1x1"].state == "made"
    assert files_in(tmp_path / "out") == ["night/master_bias_bin1x1.fits"]
    assert not part.exists()


# --- surroundings ---------------------------------------------------------------------------------


def test_a_bare_environment_is_enough(night, tmp_path):
    process = start(
        *("run", night, "-o", tmp_path / "out"),
        prefix="unset HOME; ulimit -n 64; umask 077",
        environment={"TMPDIR": str(tmp_path / "none"), "LANG": "C", "LC_ALL": "C", "NO_COLOR": "1"},
    )
    code, out, err = finish(process)
    assert code == 0, err
    assert "1 made" in out
    assert "arning" not in err


def test_a_reader_that_goes_away_leaves_a_quiet_run(night, tmp_path):
    reading, writing = os.pipe()
    os.close(reading)
    process = start("scan", night, stdout=writing)
    os.close(writing)
    code, _, err = finish(process)
    assert (code, err) == (1, "")


@pytest.mark.parametrize(
    "closed",
    [">&-", pytest.param("2>&-", marks=pytest.mark.slow), ">&- 2>&- <&-"],
)
def test_closed_streams_harm_nothing(closed, night, tmp_path):
    process = start("run", night, "-o", tmp_path / "out", "--json", prefix=f"exec {closed}")
    code, out, err = finish(process)
    assert code == 0
    assert files_in(tmp_path / "out") == ["night/master_bias_bin1x1.fits"]
    assert bool(err) == (closed == ">&-")
    assert out.startswith("{") == (closed == "2>&-")


def test_a_run_from_a_folder_that_was_removed_says_so_or_works(night, tmp_path, command):
    gone = tmp_path / "gone"
    gone.mkdir()
    here = Path.cwd()
    os.chdir(gone)
    gone.rmdir()
    try:
        code, _, err = command("run", night, "-o", tmp_path / "out")
    finally:
        os.chdir(here)
    assert code in {0, 2, 3}, err
