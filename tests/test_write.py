import itertools
import json
import os
import resource
import signal
import stat
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData, StdDevUncertainty
from hypothesis import given
from hypothesis import strategies as st

from masterframe.errors import StorageError
from masterframe.fits import headers
from masterframe.fits.cards import Card
from masterframe.fits.tables import InputRow, QualityRow, inputs_table, quality_table
from masterframe.fits.write import ImageFile, PlaneSpec
from support import program, unavailable
from writing import SHAPE, Fault, filled, spec, write


def master_planes(image, dtype, shape, unit):
    """Specs of an image of a master and what goes with it."""
    names = {"data": image, "uncert": f"{image}_UNCERT".lstrip("_")}
    names |= {plane: f"{image}_{plane.upper()}".lstrip("_") for plane in ("mask", "count")}
    types = {"data": dtype, "uncert": dtype, "mask": "uint8", "count": "int16"}
    made = []
    for plane, name in names.items():
        header = [Card("BUNIT", unit)]
        if plane != "data":
            header = headers.plane_header(plane, unit)
        made.append(PlaneSpec(name, types[plane], shape, header))
    return made


def write_master(path, specs, images=1):
    rows = [InputRow(f"/night/b{i}.fits", exptime=1.5 * i, datasum=i) for i in range(3)]
    quality = [QualityRow("noise", 1.25, "adu", "noise of the mean"), QualityRow("none", None)]
    with ImageFile.create(path, specs, overwrite=False) as file:
        for item in specs:
            if item.shape:
                file.write_rows(item.name, 0, filled(item.dtype, item.shape))
        file.update_cards("", {"MEANVAL": (1.5, "known late"), "HISTORY": ("one\ntwo", "")})
        file.publish([quality_table(quality), inputs_table(rows * images)])


def verify(path):
    """Fail where fitsverify or astropy finds anything in a file."""
    command = [program("fitsverify"), str(path)]
    result = subprocess.run(command, check=False, capture_output=True, text=True)
    assert "0 warning(s) and 0 error(s)" in result.stdout, result.stdout
    with fits.open(path, checksum=True) as hdus:  # a wrong sum warns, and warnings are errors
        hdus.verify("exception")


def leftovers(folder):
    return sorted(item.name for item in folder.iterdir())


@pytest.mark.parametrize(
    "dtype",
    ["uint8", "int8", "int16", "uint16", "int32", "uint32", "float32", "float64"],
)
def test_astropy_reads_what_was_written_out_of_order(tmp_path, dtype):
    values = filled(dtype)
    path = tmp_path / "a.fits"
    with ImageFile.create(path, [spec(dtype=dtype)], overwrite=False) as file:
        for rows in (slice(20, 37), slice(0, 5), slice(5, 20)):
            file.write_rows("", rows.start, values[rows])
        back = file.read_rows("", range(3, 30))
        assert back.dtype == dtype
        assert back.dtype.isnative
        assert back.flags.writeable
        np.testing.assert_array_equal(back, values[3:30])
        np.testing.assert_array_equal(file.read_rows("", range(2, 37, 5)), values[2::5])
        assert file.read_rows("", range(4, 4)).shape == (0, 53)
        file.publish()
    np.testing.assert_array_equal(fits.getdata(path), values)
    assert leftovers(tmp_path) == ["a.fits"]


@given(st.data())
def test_any_values_in_any_pieces(tmp_path_factory, data):
    dtype = np.dtype(data.draw(st.sampled_from(["u1", "i1", "u2", "i2", "u4", "i4", "f4", "f8"])))
    rows, columns = data.draw(st.tuples(st.integers(1, 40), st.integers(1, 40)))
    raw = data.draw(st.randoms(use_true_random=False)).randbytes(rows * columns * dtype.itemsize)
    values = np.frombuffer(raw, dtype).reshape(rows, columns)
    cuts = sorted({0, rows, *data.draw(st.lists(st.integers(0, rows), max_size=3))})
    pieces = data.draw(st.permutations(list(itertools.pairwise(cuts))))
    path = tmp_path_factory.mktemp("any") / "a.fits"
    with ImageFile.create(path, [spec(dtype=dtype.name, shape=values.shape)], overwrite=False) as f:
        for y0, y1 in pieces:
            f.write_rows("", y0, values[y0:y1])
        f.publish()
    with fits.open(path, checksum=True) as hdus:
        assert hdus[0].data.astype(dtype).tobytes() == values.tobytes()


@pytest.mark.system
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_master_of_one_image_is_legal_and_ccddata_reads_it(tmp_path, dtype):
    path = tmp_path / "master.fits"
    write_master(path, master_planes("", dtype, SHAPE, "adu"))
    verify(path)
    ccd = CCDData.read(path)
    np.testing.assert_array_equal(ccd.data, filled(dtype))
    assert isinstance(ccd.uncertainty, StdDevUncertainty)
    np.testing.assert_array_equal(ccd.uncertainty.array, filled(dtype))
    np.testing.assert_array_equal(ccd.mask, filled("uint8") != 0)
    assert ccd.unit == "adu"
    assert ccd.meta["MEANVAL"] == 1.5
    assert [str(line) for line in fits.getheader(path)["HISTORY"]] == ["one", "two"]


def test_ccddata_reads_a_flat_without_unit(tmp_path):
    path = tmp_path / "flat.fits"
    write_master(path, master_planes("", "float32", SHAPE, ""))
    assert CCDData.read(path).unit == ""


@pytest.mark.system
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_master_of_several_images(tmp_path, dtype):
    path = tmp_path / "master.fits"
    specs = [spec(shape=())]
    for name, shape in {"AMP1": (11, 23), "AMP2": (13, 29)}.items():
        specs += master_planes(name, dtype, shape, "adu")
    write_master(path, specs, images=2)
    verify(path)
    ccd = CCDData.read(path, hdu="AMP2", hdu_mask="AMP2_MASK", hdu_uncertainty="AMP2_UNCERT")
    assert ccd.shape == ccd.mask.shape == ccd.uncertainty.array.shape == (13, 29)
    with fits.open(path) as hdus:
        names = [hdu.name for hdu in hdus]
        assert hdus[0].data is None
    assert names[1:5] == ["AMP1", "AMP1_UNCERT", "AMP1_MASK", "AMP1_COUNT"]
    assert names[-2:] == ["QUALITY", "INPUTS"]


def test_what_is_written_to_a_settled_plane_is_summed_again(tmp_path):
    path, values = tmp_path / "a.fits", filled("float32")
    with ImageFile.create(path, [spec(), spec("B")], overwrite=False) as file:
        for name in ("", "B"):
            file.write_rows(name, 0, values)
        file.settle(["", "B"])
        file._sums["B"].result()  # or it might be read after what is written next
        file.write_rows("B", 3, 2 * values[3:9])
        file.publish()
    with fits.open(path, checksum=True) as hdus:  # a wrong sum warns, and warnings are errors
        np.testing.assert_array_equal(hdus["B"].data[3:9], 2 * values[3:9])
        assert hdus["B"].header["DATASUM"] != hdus[0].header["DATASUM"]


def test_late_cards_move_no_pixel(tmp_path):
    values = filled("float64")
    path = tmp_path / "a.fits"
    specs = [spec(), spec("B", "float64")]
    with ImageFile.create(path, specs, overwrite=False, spare_cards=50) as file:
        file.write_rows("B", 0, values)
        file.update_cards("", {f"KEY{n}": (n, "late") for n in range(50)})
        file.update_cards("", {"KEY7": ("seven", "again")})
        file.update_cards("B", {"KEY": (float("nan"), "no number")})
        file.publish()
    with fits.open(path, checksum=True) as hdus:
        np.testing.assert_array_equal(hdus["B"].data, values)
        assert hdus[0].header["KEY7"] == "seven"
        assert hdus[0].header["KEY49"] == 49
        assert "KEY" not in hdus["B"].header


def test_a_header_without_room_says_so(tmp_path):
    cards = {f"KEY{n}": (n, "") for n in range(32)}
    with (
        ImageFile.create(tmp_path / "a.fits", [spec()], overwrite=False, spare_cards=0) as file,
        pytest.raises(ValueError, match="lacks 6 spare cards"),
    ):
        file.update_cards("", cards)
    assert leftovers(tmp_path) == []


def test_hostile_late_cards(tmp_path):
    path = tmp_path / "Nächte.fits"
    with ImageFile.create(path, [spec()], overwrite=False) as file:
        file.write_rows("", 0, filled("float32"))
        file.update_cards(
            "",
            {
                "NIGHT": ("Nächte\n2\x00", "Mond größer"),
                "LONG": ("x" * 10_000, "y" * 10_000),
                "QUOTES": ("'" * 100, ""),
                "INF": (np.inf, ""),
                "F32": (np.float32(0.1), "c" * 100),
                "BOOL": (np.bool_(True), ""),
                "HUGE": (10**40, ""),
                "a b": (1, "HIERARCH"),
                "Ä": (1, "no keyword"),
                "END": (1, "no keyword"),
                "ESO DET " + "X" * 60: (1, "no room"),
            },
        )
        file.publish()
    header = fits.getheader(path)
    assert header["NIGHT"] == r"N\xe4chte 2"
    assert header.comments["NIGHT"] == r"Mond gr\xf6\xdfer"
    assert header["LONG"] == "x" * 68
    assert header["QUOTES"] == "'" * 34
    assert header["F32"] == np.float32(0.1)
    assert header["BOOL"] is True
    assert header["HUGE"] == 1e40
    assert header["A B"] == 1
    assert not {"INF", "Ä", "END"} & set(header)
    assert not any("XXX" in key for key in header)
    verify(path)


@pytest.mark.parametrize(
    ("row0", "values"),
    [
        (-1, np.zeros((2, 53))),
        (36, np.zeros((2, 53))),
        (0, np.zeros((2, 52))),
        (0, np.zeros(53)),
        (0, np.zeros((1, 2, 53))),
    ],
)
def test_rows_that_do_not_fit(tmp_path, row0, values):
    with (
        ImageFile.create(tmp_path / "a.fits", [spec()], overwrite=False) as file,
        pytest.raises(ValueError, match="does not fit"),
    ):
        file.write_rows("", row0, values)


def test_values_of_another_kind_are_refused(tmp_path):
    with ImageFile.create(tmp_path / "a.fits", [spec(dtype="uint8")], overwrite=False) as file:
        with pytest.raises(TypeError, match="same_kind"):
            file.write_rows("", 0, np.full(SHAPE, 0.5))
        with pytest.raises(ValueError, match="no rows 0 to 38"):
            file.read_rows("", range(38))


def test_rows_not_written_are_zero(tmp_path):
    with ImageFile.create(tmp_path / "a.fits", [spec()], overwrite=False) as file:
        assert not file.read_rows("", range(37)).any()


def test_existing_file_is_kept(tmp_path):
    path = tmp_path / "a.fits"
    path.write_text("mine")
    with pytest.raises(StorageError, match=r"a\.fits exists.*--overwrite.*--force"):
        write(path)
    assert path.read_text() == "mine"
    assert leftovers(tmp_path) == ["a.fits"]


def test_overwrite_replaces_at_the_end_only(tmp_path):
    path = tmp_path / "a.fits"
    path.write_text("mine")
    with ImageFile.create(path, [spec()], overwrite=True) as file:
        file.write_rows("", 0, filled("float32"))
        assert path.read_text() == "mine"
        file.publish()
    verify(path)


def test_a_failure_leaves_nothing(tmp_path):
    def interrupted():
        with ImageFile.create(tmp_path / "a.fits", [spec()], overwrite=False) as file:
            assert leftovers(tmp_path) == ["a.fits.part"]
            file.write_rows("", 0, filled("float32"))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert leftovers(tmp_path) == []


def test_a_file_that_appears_meanwhile_is_kept(tmp_path):
    path = tmp_path / "a.fits"
    with ImageFile.create(path, [spec()], overwrite=False) as file:
        path.write_text("mine")
        with pytest.raises(StorageError, match="appeared meanwhile"):
            file.publish()
    assert path.read_text() == "mine"
    assert leftovers(tmp_path) == ["a.fits"]


def test_two_writers_of_one_file(tmp_path):
    path = tmp_path / "a.fits"
    with ImageFile.create(path, [spec()], overwrite=False) as file:
        with pytest.raises(StorageError, match="being written by another process"):
            write(path)
        file.publish()
    assert leftovers(tmp_path) == ["a.fits"]


def test_part_of_a_dead_run_is_replaced(tmp_path):
    (tmp_path / "a.fits.part").write_bytes(b"x" * 100_000)
    write(tmp_path / "a.fits")
    assert leftovers(tmp_path) == ["a.fits"]
    verify(tmp_path / "a.fits")


@pytest.mark.parametrize("overwrite", [False, True])
def test_links_and_devices_are_not_touched(tmp_path, overwrite):
    other = tmp_path / "precious"
    other.write_text("mine")
    (tmp_path / "a.fits.part").symlink_to(other)
    (tmp_path / "b.fits").symlink_to(other)
    os.mkfifo(tmp_path / "c.fits")
    (tmp_path / "d.fits").mkdir()
    for name, reason in {
        "a.fits": "in the way",
        "b.fits": "not a regular file",
        "c.fits": "not a regular file",
        "d.fits": "not a regular file",
    }.items():
        with pytest.raises(StorageError, match=reason):
            write(tmp_path / name, overwrite=overwrite)
    assert other.read_text() == "mine"
    assert len(leftovers(tmp_path)) == 5


def test_missing_folder(tmp_path):
    with pytest.raises(StorageError, match=r"folder does not exist; make .*nowhere"):
        write(tmp_path / "nowhere" / "a.fits")


def test_name_that_is_too_long(tmp_path):
    with pytest.raises(StorageError, match="name too long"):
        write(tmp_path / ("a" * 251 + ".fits"))
    assert leftovers(tmp_path) == []


def test_file_mode_follows_the_umask(tmp_path):
    old = os.umask(0o027)
    try:
        write(tmp_path / "a.fits")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "a.fits").stat().st_mode) == 0o640


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 3 MB, which only root can mount."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0:
        unavailable("the right to mount a small disk")
    command = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)]
    if subprocess.run(command, check=False, capture_output=True).returncode != 0:
        unavailable("the right to mount a small disk")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.system
def test_full_disk_is_found_before_anything_is_written(small_disk):
    with pytest.raises(StorageError, match=r"needs 4\.0\d MB, 3\.15 MB free in .*; make room"):
        ImageFile.create(small_disk / "a.fits", [spec(shape=(1000, 1001))], overwrite=False)
    assert leftovers(small_disk) == []


@pytest.mark.system
def test_disk_that_fills_up_at_the_end(small_disk):
    rows = [InputRow("x" * 1000)] * 500
    specs = [spec(shape=(700, 1001))]
    with (
        ImageFile.create(small_disk / "a.fits", specs, overwrite=False) as file,
        pytest.raises(StorageError, match="No space left"),
    ):
        file.publish([inputs_table(rows)])
    assert leftovers(small_disk) == []


@pytest.mark.system
def test_read_only_disk(small_disk):
    (small_disk / "old.fits").write_text("mine")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(StorageError, match="Read-only file system"):
        write(small_disk / "a.fits")
    with pytest.raises(StorageError, match="Read-only file system"):
        write(small_disk / "old.fits", overwrite=True)
    assert leftovers(small_disk) == ["old.fits"]


def test_file_size_limit(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(StorageError, match=r"needs 4\.0\d MB.*File too large"):
            ImageFile.create(tmp_path / "a.fits", [spec(shape=(1000, 1001))], overwrite=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert leftovers(tmp_path) == []


def test_checksums_take_little_memory(tmp_path):
    with ImageFile.create(tmp_path / "a.fits", [spec(shape=(4000, 2003))], overwrite=False) as file:
        tracemalloc.start()
        file.publish()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 12e6  # the file has 32 MB


def fail():
    raise OSError(5, "Input/output error")


@pytest.mark.parametrize("overwrite", [False, True])
def test_any_failing_call_leaves_the_old_or_the_new_file(tmp_path, overwrite):
    old, new = {"": filled("int16", seed=1)}, {"": filled("int16", seed=2)}
    outcomes = []
    for at in range(1, 100):
        folder = tmp_path / str(at)
        folder.mkdir()
        path = folder / "a.fits"
        if overwrite:
            write(path, old)
        with pytest.MonkeyPatch.context() as monkeypatch:
            fault = Fault(monkeypatch, at, fail)
            try:
                write(path, new, overwrite=overwrite)
                outcomes.append("written")
            except StorageError as error:
                assert "a.fits" in str(error)  # noqa: PT017
                outcomes.append("refused")
        if outcomes[-1] == "written":
            np.testing.assert_array_equal(fits.getdata(path), new[""])
        elif overwrite:
            np.testing.assert_array_equal(fits.getdata(path), old[""])
        else:
            assert not path.exists()
        if fault.count < at:
            break
    assert outcomes[-1] == "written"
    assert outcomes.count("refused") >= 5


KILLED = """
import json, os, signal, sys
from pathlib import Path
from pytest import MonkeyPatch
sys.path.insert(0, sys.argv[1])
from writing import Fault, write

results = []
for at in range(1, 100):
    folder = Path(sys.argv[2]) / str(at)
    folder.mkdir()
    child = os.fork()
    if child == 0:
        with MonkeyPatch.context() as patch:
            Fault(patch, at, lambda: os.kill(os.getpid(), signal.SIGKILL))
            write(folder / "a.fits")
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    results.append(os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0)
    if results[-1] == 0:
        break
print(json.dumps(results))
"""


def test_kill_at_any_call_leaves_no_partial_file(tmp_path):
    here = str(Path(__file__).parent)
    run = [sys.executable, "-c", KILLED, here, str(tmp_path)]
    env = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(run, check=True, capture_output=True, text=True, env=env)
    signals = json.loads(done.stdout)
    assert signals == [signal.SIGKILL] * (len(signals) - 1) + [0]
    assert len(signals) > 6
    whole = 0
    for folder in tmp_path.iterdir():
        path = folder / "a.fits"
        if path.exists():
            whole += 1
            with fits.open(path, checksum=True) as hdus:
                np.testing.assert_array_equal(hdus[0].data, filled("float32"))
        write(path, overwrite=True)  # what was left is in nobody's way
        assert leftovers(folder) == ["a.fits"]
    assert 1 <= whole < len(signals) - 3
