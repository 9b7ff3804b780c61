"""A run that ends early: the next one goes on with its finished bands, to the same bits."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

import masterframe as mf
import nights
from masterframe import direct, finish, journal, store
from masterframe.errors import FrameError
from masterframe.fits import masters
from masterframe.journal import bands
from masterframe.model import Calibration, Recipe, Rejection
from masterframe.request import read_options
from masterframe.tiling import PART
from stacks import count_bytes, pixels_and_tables, raw_frames, write_frames

N, ROWS, COLUMNS = SHAPE = (7, 240, 90)
BAND = 30
"""Rows of a band with two workers: each is to have four."""


class Stop(store.Silent):
    """Presses Ctrl-C after so many bands."""

    def __init__(self, bands):
        self._left = bands
        self.notes = []

    def note(self, text):
        self.notes.append(text)

    def advance(self, done_bytes):
        self._left -= 1
        if not self._left:
            raise KeyboardInterrupt


@pytest.fixture(autouse=True)
def every_band(monkeypatch):
    """Have every band claimed, one after the other; else tests would take seconds."""
    monkeypatch.setattr(bands, "SECONDS", 0.0)
    monkeypatch.setattr(bands, "SHARE", 0)
    reached = bands.BandJournal.reached

    def wait(self, progress):
        reached(self, progress)
        if self._pending:
            self._pending.result()

    monkeypatch.setattr(bands.BandJournal, "reached", wait)


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    return write_frames(tmp_path_factory.mktemp("frames"), raw_frames(SHAPE), EXPTIME=3.0)


@pytest.fixture(scope="module")
def bias(tmp_path_factory):
    path = tmp_path_factory.mktemp("bias") / "bias.fits"
    values = np.random.default_rng(1).normal(20, 3, SHAPE[1:]).astype(np.float32)
    fits.writeto(path, values)
    (image,) = masters.open_master(path).values()
    return Calibration(bias=image, scale=tuple(np.linspace(0.9, 1.1, N)))


RECIPE = Recipe(Rejection(low=3.0, high=3.0), planes=("rejlow", "exposure"))


def write(path, frames, recipe=RECIPE, calibration=None, *, stop=0, workers=2, memory=4 << 30):
    """Write a master; return the bytes of pixels that were read, and what was said."""
    reporter = Stop(stop)
    with (
        count_bytes() as read,
        store.open_resources(workers=workers, memory=memory, reporter=reporter) as resources,
    ):
        stack = mf.open_stack(frames)
        if stop:
            with pytest.raises(KeyboardInterrupt):
                mf.write_master(path, stack, recipe, calibration, resources=resources)
        else:
            mf.write_master(path, stack, recipe, calibration, resources=resources)
    return read.bytes, reporter.notes


def left_in(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    ("recipe", "calibrated", "stop"),
    [
        (RECIPE, False, 1),
        (RECIPE, True, 5),
        (Recipe(Rejection(grow=2.5)), True, 5),
        (Recipe(Rejection("avsigma"), estimator="median"), False, 5),
    ],
    ids=["plain", "calibrated", "grown", "by rows"],
)
def test_the_next_run_goes_on_and_the_bits_are_the_same(
    frames, bias, tmp_path, calibrated, recipe, stop
):
    calibration = bias if calibrated else None
    needed, _ = write(tmp_path / "whole.fits", frames, recipe, calibration)
    path = tmp_path / "m.fits"
    write(path, frames, recipe, calibration, stop=stop)
    assert left_in(tmp_path) == ["m.fits.journal", "m.fits.part", "whole.fits"]
    read, said = write(path, frames, recipe, calibration)
    done = BAND * stop
    if not recipe.rejection.grow:  # whose bands read rows of their neighbours
        assert needed - read == done * COLUMNS * (N * 2 + 4 * calibrated)
    assert f"m.fits: goes on from row {done + 1}, where an earlier run ended" in said
    assert pixels_and_tables(path) == pixels_and_tables(tmp_path / "whole.fits")
    assert left_in(tmp_path) == ["m.fits", "whole.fits"]


@pytest.mark.parametrize("stops", [(1, 1, 1), (3, 2), (8,)])
def test_runs_may_end_early_again_and_again(frames, bias, tmp_path, stops):
    write(tmp_path / "whole.fits", frames, calibration=bias)
    for stop in stops:
        write(tmp_path / "m.fits", frames, calibration=bias, stop=stop)
    _, said = write(tmp_path / "m.fits", frames, calibration=bias)
    where = f"goes on from row {sum(stops) * BAND + 1}"
    assert any(where in line for line in said)
    assert pixels_and_tables(tmp_path / "m.fits") == pixels_and_tables(tmp_path / "whole.fits")


def test_another_number_of_workers_goes_on_in_other_bands(frames, tmp_path):
    write(tmp_path / "whole.fits", frames)
    write(tmp_path / "m.fits", frames, stop=3)
    _, said = write(tmp_path / "m.fits", frames, workers=5)
    assert f"m.fits: goes on from row {3 * BAND + 1}, where an earlier run ended" in said
    assert pixels_and_tables(tmp_path / "m.fits") == pixels_and_tables(tmp_path / "whole.fits")


def test_rows_that_were_cut_are_whole_before_they_count(tmp_path, monkeypatch):
    shape = (5, 6, 2 * PART + 300)
    frames = write_frames(tmp_path / "wide", raw_frames(shape), EXPTIME=3.0)
    write(tmp_path / "whole.fits", frames)
    plan = store.plan_bands

    def cut(*arguments):
        return replace(plan(*arguments), rows=1, columns=PART, parts=3)

    monkeypatch.setattr("masterframe.store.room.plan_bands", cut)
    write(tmp_path / "m.fits", frames, stop=7)  # two rows, and a part of the third
    _, said = write(tmp_path / "m.fits", frames)
    assert "m.fits: goes on from row 3, where an earlier run ended" in said
    assert pixels_and_tables(tmp_path / "m.fits") == pixels_and_tables(tmp_path / "whole.fits")


def test_images_that_are_whole_are_not_done_again(tmp_path):
    paths = []
    for seed in range(5):
        hdus = [fits.PrimaryHDU()]
        for name, rows in (("A", 80), ("B", 64), ("C", 72)):
            values = raw_frames((1, rows, 50), seed=seed)[0]
            hdus.append(fits.ImageHDU(values, name=name))
        hdus[0].header["DATE-OBS"] = f"2026-01-02T03:04:{seed:02d}"
        paths.append(tmp_path / f"{seed}.fits")
        fits.HDUList(hdus).writeto(paths[-1])

    def combine(name, stop=0):
        request = read_options({"files": paths, "output": tmp_path / name})
        reporter = Stop(stop)
        with store.open_resources(workers=2, reporter=reporter) as resources:
            return direct.combine_files(request, resources), reporter.notes

    combine("whole.fits")
    with pytest.raises(KeyboardInterrupt):
        combine("m.fits", stop=5)
    made, said = combine("m.fits")
    assert any("of image 2 of 3, where an earlier run ended" in line for line in said), said
    assert made.bytes_read < 5 * 50 * 2 * (64 + 72)
    assert pixels_and_tables(tmp_path / "m.fits") == pixels_and_tables(tmp_path / "whole.fits")


# --- what must not be gone on with ----------------------------------------------------------------


@pytest.fixture
def own_frames(frames, tmp_path):
    """Frames that a test may change."""
    return [shutil.copy2(path, tmp_path / f"own{n}.fits") for n, path in enumerate(frames)]


def _touched(folder, frames):
    os.utime(frames[3], ns=(1, 1))


def _longer(folder, frames):
    facts = Path(frames[3]).stat()
    with Path(frames[3]).open("ab") as stream:
        stream.write(b" ")
    os.utime(frames[3], ns=(facts.st_atime_ns, facts.st_mtime_ns))


def _fewer(folder, frames):
    frames.pop()


def _flipped(folder, frames):
    path = folder / "m.fits.journal"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _cut(folder, frames):
    path = folder / "m.fits.journal"
    path.write_bytes(path.read_bytes()[:-7])


def _no_part(folder, frames):
    (folder / "m.fits.part").unlink()


def _another_part(folder, frames):
    shutil.copyfile(folder / "m.fits.part", folder / "copy")
    (folder / "copy").rename(folder / "m.fits.part")


def _shorter_part(folder, frames):
    os.truncate(folder / "m.fits.part", 5000)


def _published_part(folder, frames):
    os.link(folder / "m.fits.part", folder / "published.fits")


CHANGES = [_touched, _longer, _fewer, _flipped, _cut, _no_part, _another_part, _shorter_part]
CHANGES += [_published_part]


@pytest.mark.parametrize("change", CHANGES)
def test_what_has_changed_is_done_anew(own_frames, tmp_path, change):
    folder = tmp_path / "out"
    folder.mkdir()
    write(folder / "m.fits", own_frames, stop=3)
    change(folder, own_frames)
    held = (folder / "published.fits").read_bytes() if change is _published_part else b""
    needed, _ = write(tmp_path / "whole.fits", own_frames)
    read, said = write(folder / "m.fits", own_frames)
    assert read == needed
    assert not any("goes on" in line for line in said)
    assert pixels_and_tables(folder / "m.fits") == pixels_and_tables(tmp_path / "whole.fits")
    if change is _published_part:
        assert (folder / "published.fits").read_bytes() == held


@pytest.mark.parametrize("what", ["recipe", "calibration", "program", "version"])
def test_another_recipe_or_program_does_all_anew(frames, bias, tmp_path, monkeypatch, what):
    write(tmp_path / "m.fits", frames, stop=3)
    recipe, calibration = RECIPE, None
    if what == "recipe":
        recipe = replace(RECIPE, rejection=Rejection(low=3.0, high=3.1))
    elif what == "calibration":
        calibration = bias
    elif what == "program":
        monkeypatch.setattr("masterframe.jobs.ALGORITHM_VERSION", 999)
    else:
        monkeypatch.setattr("masterframe.jobs.metadata.version", lambda name: "0")
    needed, _ = write(tmp_path / "whole.fits", frames, recipe, calibration)
    read, _ = write(tmp_path / "m.fits", frames, recipe, calibration)
    assert read == needed
    assert pixels_and_tables(tmp_path / "m.fits") == pixels_and_tables(tmp_path / "whole.fits")


def test_a_fault_of_a_frame_leaves_nothing(tmp_path):
    frames = write_frames(tmp_path, raw_frames((3, 1200, 2000)))  # more bands than are on their way
    folder = tmp_path / "out"
    folder.mkdir()

    class Spoil(store.Silent):
        def advance(self, done_bytes):
            os.truncate(frames[2], 6000)

    with store.open_resources(workers=1, reporter=Spoil()) as resources:
        stack = mf.open_stack(frames)
        with pytest.raises(FrameError, match="changed during the run"):
            mf.write_master(folder / "m.fits", stack, resources=resources)
    assert left_in(folder) == []


def test_short_work_claims_nothing_and_leaves_nothing(frames, tmp_path, monkeypatch):
    monkeypatch.setattr(bands, "SECONDS", 60.0)
    write(tmp_path / "m.fits", frames, stop=5)
    assert left_in(tmp_path) == []


# --- what is changed in place once all bands are there --------------------------------------------


@pytest.fixture
def night(tmp_path):
    """A night whose dark has hot pixels and whose flat is normalised, both in place."""
    folder = nights.night(tmp_path / "night", bias=5, dark=5, flat=5, science=0)
    for path in folder.glob("dark_*.fits"):
        with fits.open(path, mode="update") as hdus:
            hdus[0].data[[3, 20], 7] = 900
    return folder


@pytest.mark.parametrize("kind", ["dark", "flat"])
@pytest.mark.parametrize("writes", [0, 1])
def test_a_run_that_ends_while_an_image_is_changed_in_place(
    night, tmp_path, monkeypatch, kind, writes
):
    monkeypatch.setattr(finish, "PASS_BYTES", 3000)  # several writes an image
    expected = nights.reduce_night(night, tmp_path / "whole", "report=false")
    for item in expected.values():
        assert item.state == "made"
    function = {"dark": "flag_hot", "flat": "normalize_flat"}[kind]
    with monkeypatch.context() as patch:
        whole, write = getattr(finish, function), finish.MasterPlanes.write
        left = [writes]

        def stop(self, *arguments):
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
            write(self, *arguments)

        def begin(*arguments):
            patch.setattr(finish.MasterPlanes, "write", stop)
            return whole(*arguments)

        patch.setattr(finish, function, begin)
        with pytest.raises(KeyboardInterrupt):
            nights.reduce_night(night, tmp_path / "out", "report=false")
    nights.reduce_night(night, tmp_path / "out", "report=false")
    names = nights.files_in(tmp_path / "whole")
    assert nights.files_in(tmp_path / "out") == names
    for name in names:
        assert (
            pixels_and_tables(tmp_path / "out" / name)[0]
            == (pixels_and_tables(tmp_path / "whole" / name)[0])
        )


def test_a_run_that_ends_before_its_master_has_its_name_reads_nothing_again(
    night, tmp_path, monkeypatch
):
    nights.reduce_night(night, tmp_path / "whole", "report=false")
    with monkeypatch.context() as patch:

        def stop(*arguments):
            raise KeyboardInterrupt

        patch.setattr(store.master.write.ImageFile, "_rename", stop)
        with pytest.raises(KeyboardInterrupt):
            nights.reduce_night(night, tmp_path / "out", "report=false")
    reads = []

    class Listener(store.Silent):
        def begin(self, name, total_bytes, steps):
            reads.append((name, total_bytes))

    nights.reduce_night(night, tmp_path / "out", "report=false", reporter=Listener())
    assert reads[0] == ("master_bias_bin1x1.fits", 0)
    for name in nights.files_in(tmp_path / "whole"):
        assert (
            pixels_and_tables(tmp_path / "out" / name)[0]
            == (pixels_and_tables(tmp_path / "whole" / name)[0])
        )


def test_what_a_kill_left_of_a_product_that_is_whole_is_swept(night, tmp_path):
    out = tmp_path / "out"
    nights.reduce_night(night, out, "report=false")
    parts = out / journal.STATE_FOLDER / "parts" / "night"
    (parts / "master_bias_bin1x1.fits.journal").write_text("0 {}")
    (parts / "other.fits.part").write_bytes(b"begun")
    (parts / "other.fits.claim").write_bytes(b"begun")
    nights.reduce_night(night, out, "report=false")
    assert list(parts.iterdir()) == []


def test_a_part_stays_on_the_disk_of_its_product(tmp_path, monkeypatch):
    (tmp_path / "night").mkdir()
    part = journal.place_of_part(tmp_path, "night/m.fits")
    assert part == tmp_path / ".masterframe/parts/night/m.fits.part"
    stat = Path.stat

    def elsewhere(self, **options):
        found = stat(self, **options)
        if ".masterframe" not in self.parts:
            return found
        return os.stat_result([*found[:2], found.st_dev + 1, *found[3:]])

    monkeypatch.setattr(Path, "stat", elsewhere)
    assert journal.place_of_part(tmp_path, "night/m.fits") == tmp_path / "night/m.fits.part"
