"""A second run opens nothing that nobody has touched, and misses nothing that somebody has.

Opened files are counted by Python's own audit events, so that no way of opening one is overlooked.
"""

import gzip
import json
import os
import shutil
import sys
import zlib
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st

import nights
import truth_table
from masterframe import inventory, journal, run
from masterframe.config import load_config
from masterframe.fits import ScanMemory, memory, scan_headers, stamps
from masterframe.fits.stamps import Stamp
from masterframe.forecast import foresee
from nights import raw, states

BIAS, FLAT = "master_bias_bin1x1", "master_flat_V_bin1x1"
DARK, SHORT = "master_dark_30s_bin1x1", "master_dark_5s_bin1x1"

_watching: list[list[str]] = []


def _hear(event, arguments):
    if event == "open" and _watching and isinstance(arguments[0], str | bytes | os.PathLike):
        _watching[-1].append(os.fsdecode(arguments[0]))


sys.addaudithook(_hear)


@contextmanager
def opened():
    """Give the set of FITS files that are opened meanwhile, by their folder and name."""
    seen, names = [], set()
    _watching.append(seen)
    try:
        yield names
    finally:
        _watching.remove(seen)
        paths = {Path(path) for path in seen}
        names |= {f"{path.parent.name}/{path.name}" for path in paths if path.suffix == ".fits"}


@pytest.fixture
def settled(monkeypatch):
    """Files are believed at once: whatever a test changes, it changes in another tick."""
    monkeypatch.setattr(stamps, "TICK_NS", 0)


@pytest.fixture
def night(tmp_path):
    folder = nights.night(tmp_path / "night", bias=3, dark=3, flat=3, science=2)
    for k in range(3):
        raw(folder / f"short_{k}.fits", "dark", 90 + k, EXPTIME=5.0)
    return folder


@pytest.fixture
def out(night, tmp_path, settled):
    reduce(night, tmp_path / "out")
    return tmp_path / "out"


def plan(night, out, *overrides, keep=True):
    config = load_config(None, overrides)
    return config, run.plan_nights([night], config, out, keep=keep)


def reduce(night, out, *overrides):
    config, planned = plan(night, out, *overrides)
    return nights.reduce_plan(planned, config, out)


def made(night, out, *overrides):
    return {n for n, state in states(reduce(night, out, *overrides)).items() if state == "made"}


def foretold(night, out):
    config, planned = plan(night, out, keep=False)
    ahead = foresee(planned, config, out, workers=2, memory=4 << 30)
    return {name.rpartition("/")[2] for name, own in ahead.items() if not own.current}


# --- what is opened -------------------------------------------------------------------------------


def test_nothing_is_opened_where_nothing_has_changed(night, out):
    with opened() as names:
        assert foretold(night, out) == made(night, out) == set()
    assert names == set()


def test_a_file_that_was_touched_is_read_once_and_remakes_nothing(night, out):
    os.utime(night / "dark_1.fits")
    with opened() as names:
        assert foretold(night, out) == set()
    assert names == {"night/dark_1.fits", f"night/{DARK}.fits"}
    with opened() as names:
        assert made(night, out) == set()
    assert names == {"night/dark_1.fits", f"night/{DARK}.fits"}
    with opened() as names:
        assert made(night, out) == set()
    assert names == set()


def test_one_pixel_remakes_what_rests_on_it_and_opens_no_other(night, out):
    with fits.open(night / "short_0.fits", mode="update") as hdus:
        hdus[0].data[3, 4] += 1
    rests = {SHORT, FLAT, "science_0", "science_1"}
    with opened() as names:
        assert foretold(night, out) == rests
    assert names == {"night/short_0.fits", f"night/{SHORT}.fits"} | {
        f"{folder}.fits"
        for folder in (f"night/{FLAT}", "calibrated/science_0", "calibrated/science_1")
    }
    with opened() as names:
        assert made(night, out) == rests
    assert not {name for name in names if name.startswith(("night/bias", "night/dark"))}
    with opened() as names:
        assert foretold(night, out) == made(night, out) == set()
    assert names == set()


def test_a_new_frame_is_read_and_the_others_are_remembered(night, out):
    raw(night / "dark_9.fits", "dark", 99)
    with opened() as names:
        assert foretold(night, out) == {DARK, "science_0", "science_1"}
    assert {name for name in names if (night.parent / name).exists()} == {"night/dark_9.fits"}


def test_a_frame_that_is_gone_is_forgotten(night, out):
    (night / "dark_2.fits").unlink()
    assert made(night, out) == {DARK, "science_0", "science_1"}
    text = "".join(path.read_text() for path in (out / ".masterframe/scans").iterdir())
    raw(night / "dark_8.fits", "dark", 98)
    made(night, out)
    after = "".join(path.read_text() for path in (out / ".masterframe/scans").iterdir())
    assert "dark_2.fits" in text
    assert "dark_2.fits" not in after
    assert "dark_8.fits" in after


@pytest.mark.parametrize("options", [(), ("recipes.bias.combine=median",)])
def test_what_was_read_holds_for_any_configuration(options, night, out, tmp_path):
    told = ("exclude=[{file: dark_1*}]", "types=[{kind: other, when: {FILTER: V}}]", *options)
    with opened() as names:
        _, remembered = plan(night, out, *told)
    assert names == set()
    assert remembered == plan(night, None, *told)[1]
    assert remembered.left_out


def test_a_night_elsewhere_is_another_one(night, out, tmp_path):
    moved = tmp_path / "elsewhere" / "night"
    shutil.copytree(night, moved)
    assert made(moved, out) == set()
    with opened() as names:
        assert made(moved, out) == set()
    assert names == set()


def test_a_copy_of_the_outputs_is_opened_and_kept(night, out, tmp_path):
    shutil.copytree(out, tmp_path / "copy")
    with opened() as names:
        assert made(night, tmp_path / "copy") == set()
    assert f"night/{FLAT}.fits" in names
    with opened() as names:
        assert made(night, tmp_path / "copy") == set()
    assert names == set()


def test_forced_products_are_known_again(night, out):
    config, planned = plan(night, out)
    assert set(states(nights.reduce_plan(planned, config, out, force=True)).values()) == {"made"}
    with opened() as names:
        assert made(night, out) == set()
    assert names == set()


def test_a_plan_leaves_nothing_behind(night, tmp_path, settled):
    foretold(night, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_run_does_without_a_place_for_what_it_remembers(night, tmp_path, settled):
    (tmp_path / "out" / ".masterframe").mkdir(parents=True)
    (tmp_path / "out" / ".masterframe" / "scans").write_text("in the way")
    (tmp_path / "out" / ".masterframe" / "ledger.json").mkdir()
    assert len(made(night, tmp_path / "out")) == 6
    assert made(night, tmp_path / "out") == set()


# --- what must not be believed --------------------------------------------------------------------


def test_a_product_whose_time_was_put_back_is_looked_into(night, out):
    path = out / f"night/{BIAS}.fits"
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[content.index(b"END".ljust(80)) + 4000] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    outcomes = reduce(night, out)
    assert "CHECKSUM of HDU 0 does not hold" in outcomes[BIAS].reason
    assert states(outcomes)[FLAT] == "blocked"


def test_a_master_that_a_disk_has_spoilt_is_found_before_it_is_used(night, out):
    """A disk that loses bits changes no stamp: the ledger says that the file is untouched."""
    path = out / f"night/{BIAS}.fits"
    content = bytearray(path.read_bytes())
    content[content.index(b"END".ljust(80)) + 4000] ^= 1
    path.write_bytes(content)
    ledger = journal.Ledger(out)
    (name,) = (name for name in nights.files_in(out) if name.endswith(f"{BIAS}.fits"))
    ledger.note(name, ledger._records[name]._replace(stamp=stamps.look_at(path)))
    ledger.keep()
    assert set(states(reduce(night, out)).values()) == {"up to date"}  # nothing is made of it
    (out / "night/calibrated/science_1.fits").unlink()
    outcomes = reduce(night, out)
    assert "CHECKSUM of HDU 0 does not hold" in outcomes[BIAS].reason
    found = {name: outcomes[name].state for name in (BIAS, "science_0", "science_1")}
    assert found == {BIAS: "failed", "science_0": "up to date", "science_1": "blocked"}
    assert not (out / "night/calibrated/science_1.fits").exists()


def test_what_is_of_another_version_is_ignored(night, out):
    for path in (out / ".masterframe").rglob("*.json"):
        body = path.read_text().partition(" ")[2]
        if path.name != "run.json":
            other = body.replace(memory.scanner(), "0" * 64).replace('"version":"', '"version":"0')
            assert other != body
            path.write_text(f"{zlib.crc32(other.encode()):08x} {other}")
    with opened() as names:
        assert made(night, out) == set()
    assert {f"night/{path.name}" for path in night.iterdir()} | {f"night/{FLAT}.fits"} <= names


@given(data=st.data())
def test_a_damaged_memory_is_as_none(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("damaged")
    nights.night(folder / "night", bias=1, flat=1, science=0)
    paths = sorted(map(str, (folder / "night").iterdir()))
    whole = [scan_headers(path) for path in paths]
    (place,) = remembered(folder / "scans", paths)
    content = place.read_bytes()
    at = int(data.draw(st.floats(0, 1, exclude_max=True)) * len(content))
    bad = data.draw(
        st.sampled_from(
            [
                content[:at],
                content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :],
                content + b"}",
                _sealed(b"[" * 100_000),
                _sealed(b"null"),
                _sealed(json.dumps(_muddled(content, at)).encode()),
            ]
        )
    )
    place.write_bytes(bad)
    again = ScanMemory(folder / "scans")
    found = [again.recall(path) or again.scan_headers(path) for path in paths]
    assert found == whole


def _sealed(body):
    return b"%08x %s" % (zlib.crc32(body), body)


def _muddled(content, at):
    """Return a document that is whole but not what it should be."""
    document = json.loads(content.partition(b" ")[2])
    entries = document["files"]
    name = sorted(entries)[at % len(entries)]
    entries[name][2] = [[], [[]], [["x"] * 8], [[1, 99, [], None, 0, "", {}, ""]]][at % 4]
    return document


def remembered(place, paths, verify="auto"):
    """Scan files, keep what was read; return the documents."""
    tick, stamps.TICK_NS = stamps.TICK_NS, 0
    try:
        kept = ScanMemory(place)
        for path in paths:
            kept.scan_headers(path, verify)
        kept.keep()
    finally:
        stamps.TICK_NS = tick
    return sorted(place.iterdir())


def test_what_was_changed_within_a_tick_is_read_again(tmp_path):
    path = raw(tmp_path / "night" / "bias.fits")
    kept = ScanMemory(tmp_path / "scans")
    kept.scan_headers(path)
    kept.keep()
    assert kept.recall(path) is ScanMemory(tmp_path / "scans").recall(path) is None


@pytest.mark.parametrize("put_back", [False, True])
def test_a_file_written_over_in_place_is_read_again(put_back, tmp_path):
    path = raw(tmp_path / "night" / "bias.fits", OBJECT="one")
    remembered(tmp_path / "scans", [path])
    before = path.stat()
    path.write_bytes(path.read_bytes().replace(b"'one     '", b"'two     '"))
    if put_back:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    assert ScanMemory(tmp_path / "scans").recall(path) is None


def test_a_file_in_the_place_of_another_one_is_read_again(tmp_path):
    path = raw(tmp_path / "night" / "bias.fits")
    remembered(tmp_path / "scans", [path])
    other = raw(tmp_path / "other.fits", seed=1)
    os.utime(other, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    other.replace(path)
    assert ScanMemory(tmp_path / "scans").recall(path) is None


def test_all_bytes_are_verified_whatever_is_remembered(tmp_path):
    path = raw(tmp_path / "night" / "bias.fits")
    remembered(tmp_path / "scans", [path], "never")
    kept = ScanMemory(tmp_path / "scans")
    assert kept.recall(path, "never") == scan_headers(path)
    assert kept.recall(path, "auto") is None
    remembered(tmp_path / "scans", [path], "always")
    kept = ScanMemory(tmp_path / "scans")
    assert kept.recall(path, "auto") == scan_headers(path)
    assert kept.recall(path, "always") is None


def test_a_link_to_another_file_is_read_again(tmp_path):
    one, two = (raw(tmp_path / f"{name}.fits", seed=k) for k, name in enumerate(("one", "two")))
    link = tmp_path / "night" / "bias.fits"
    link.parent.mkdir()
    link.symlink_to(one)
    remembered(tmp_path / "scans", [link])
    assert ScanMemory(tmp_path / "scans").recall(link) == scan_headers(link)
    link.unlink()
    link.symlink_to(two)
    assert ScanMemory(tmp_path / "scans").recall(link) is None
    link.unlink()
    assert ScanMemory(tmp_path / "scans").recall(link) is None


def test_a_clock_of_whole_seconds_tells_too_little():
    assert Stamp(1, 5_000_000_001, 5_000_000_001, 1).is_fine
    assert not Stamp(1, 5_000_000_000, 5_000_000_001, 1).is_fine
    assert not Stamp(1, 5_000_000_001, 5_000_000_000, 1).is_fine


def test_a_stamp_is_settled_a_tick_after_its_last_change():
    now = 10 * stamps.TICK_NS
    old, new = 9 * stamps.TICK_NS - 1, 9 * stamps.TICK_NS
    assert Stamp(1, old, old, 1).is_settled(now)
    assert not Stamp(1, new, old, 1).is_settled(now)
    assert not Stamp(1, old, new, 1).is_settled(now)
    assert not Stamp(1, 99 * now, old, 1).is_settled(now)
    whole = 5_000_000_000  # a clock of seconds
    assert not Stamp(1, whole, whole, 1).is_settled(whole + 30 * stamps.TICK_NS)
    assert Stamp(1, whole, whole, 1).is_settled(whole + 30 * stamps.TICK_NS + 1)


# --- what is remembered is what was read ----------------------------------------------------------


def odd_files(folder):
    """Yield files of every kind that a scan knows."""
    pixels = np.arange(24 * 36, dtype=np.uint16).reshape(24, 36)
    hdus = fits.HDUList([fits.PrimaryHDU()])
    hdus += [fits.ImageHDU(pixels + k, name="SCI", ver=k) for k in (1, 2)]
    hdus.append(fits.BinTableHDU.from_columns([fits.Column("a", "D", array=[1.0])]))
    hdus.writeto(folder / "several.fits")
    fits.writeto(folder / "cube.fits", np.zeros((5, 24, 36), np.float32))
    packed = fits.CompImageHDU(pixels.astype(np.int16), compression_type="RICE_1", name="A")
    packed.writeto(folder / "tiles.fits.fz")
    cube = fits.CompImageHDU(np.zeros((3, 24, 36), np.int16), compression_type="GZIP_2")
    cube.writeto(folder / "tiled_cube.fits.fz")
    (folder / "packed.fits.gz").write_bytes(gzip.compress((folder / "cube.fits").read_bytes()))
    hdu = fits.PrimaryHDU(pixels)
    hdu.header.extend([("GAIN", 1.5, "e-/ADU"), ("EXPTIME", 3, "[s] time"), ("NONE", None)])
    hdu.header["TEXT"] = "it's"
    hdu.header["HIERARCH ESO DET ID"] = True
    hdu.header["HISTORY"] = "flat-fielded"
    hdu.header["BIG"] = 10**30
    hdu.header["LONG"] = "x" * 200
    hdu.writeto(folder / "cards.fits")
    content = (folder / "cards.fits").read_bytes()
    strange = content.replace(b"=                    3", b"=                  NaN").replace(
        b"it''s", b"it\xe9\xff!"
    )
    (folder / "na\udcefve.fits").write_bytes(strange)
    (folder / "empty.fits").write_bytes(fits.PrimaryHDU().header.tostring().encode())


def test_every_kind_of_file_is_remembered_as_it_was_read(tmp_path):
    folder = tmp_path / "night"
    folder.mkdir()
    odd_files(folder)
    paths = sorted(map(str, folder.iterdir()))
    assert len(paths) == 8
    read = [scan_headers(path) for path in paths]
    assert len(remembered(tmp_path / "scans", paths)) == 1
    kept = ScanMemory(tmp_path / "scans")
    assert list(map(repr, map(kept.recall, paths))) == list(map(repr, read))


def test_headers_of_all_cameras_are_remembered_as_they_were_read(tmp_path):
    rows = truth_table.rows()
    paths = [
        truth_table.write_frame(row, tmp_path / "night" / f"{k % 3}" / f"f{k}.fits")
        for k, row in enumerate(rows)
    ]
    read = [scan_headers(path) for path in paths]
    assert len(remembered(tmp_path / "scans", paths)) == 3
    kept = ScanMemory(tmp_path / "scans")
    assert list(map(repr, map(kept.recall, paths))) == list(map(repr, read))
    config = load_config(None)
    again = inventory.scan_night([tmp_path / "night"], config, kept)
    assert repr(again) == repr(inventory.scan_night([tmp_path / "night"], config))


# --- the report -----------------------------------------------------------------------------------


def told(out):
    return {
        path.relative_to(out): path.stat()[:2]
        for path in (*(out / "report").iterdir(), out / ".masterframe/run.json")
    }


def test_a_report_that_would_tell_nothing_new_is_kept(night, out):
    before = told(out)
    assert made(night, out) == set()
    assert told(out) == before
    (night / "notes.fits").write_text("clouds")  # a problem that the record tells of
    assert made(night, out) == set()
    after = told(out)
    assert all(after[name] != before[name] for name in before)


@pytest.mark.parametrize("change", ["option", "removed", "product"])
def test_a_report_that_is_not_that_of_the_products_is_written(change, night, out):
    before = told(out)
    options = ["quality.masters.previous=9"] if change == "option" else []
    if change == "removed":
        (out / "report" / "index.html").unlink()
    if change == "product":
        (out / "night/calibrated/science_0.fits").unlink()
    reduce(night, out, *options)
    assert all(now != before[name] for name, now in told(out).items())


# --- libraries ------------------------------------------------------------------------------------


@pytest.fixture
def library(tmp_path, settled):
    """Masters of an earlier night, and a flat of another program."""
    earlier = nights.night(tmp_path / "earlier", bias=3, dark=3, flat=3, science=0)
    nights.reduce_night(earlier, tmp_path / "library", "report=false")
    theirs = raw(
        tmp_path / "library" / "theirs" / "flat_R.fits", "flat", 7, dtype=np.float32, FILTER="R"
    )
    with fits.open(theirs, mode="update") as hdus:
        hdus[0].data = np.ones(nights.SHAPE, np.float32)
    return tmp_path / "library"


def test_masters_of_a_library_are_opened_once(tmp_path, library):
    folder = nights.night(tmp_path / "night", bias=0, flat=0, science=2)
    raw(folder / "red.fits", "science", 95, FILTER="R")
    out, option = tmp_path / "out", f"library={library}"
    assert made(folder, out, option) == {"science_0", "science_1", "red"}
    assert made(folder, out, option) == set()  # whatever was too new to be believed
    with opened() as names:
        assert made(folder, out, option) == set()
    assert names == set()
    with fits.open(library / "theirs" / "flat_R.fits", mode="update") as hdus:
        hdus[0].data[3, 4] = 1.5
    with opened() as names:
        assert made(folder, out, option) == {"red"}
    assert {name for name in names if "master" in name or "flat" in name} >= {"theirs/flat_R.fits"}


def test_what_a_library_tells_is_as_it_was_read(tmp_path, library):
    config = load_config(None)
    where = tmp_path / "scans"
    first = ScanMemory(where)
    read = inventory.scan_library(library, config, first)
    first.keep()
    with opened() as names:
        again = inventory.scan_library(library, config, ScanMemory(where))
    assert names == set()
    assert again == read == inventory.scan_library(library, config)
