"""Inputs that are damaged, change, vanish or are read badly are named, and nothing is published."""

import gzip
import os
import subprocess
import threading
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

import nights
from masterframe import inventory, scratchfolder
from masterframe.config import load_config
from masterframe.errors import FrameError
from masterframe.fits import read_rows, scan_file
from nights import finish, make_plan, reduce_night, reduce_plan, start
from support import program

SHAPE = (60, 50)


def summed(path: Path, seed=0, **cards) -> Path:
    """Write a frame with its check sums."""
    image = np.random.default_rng(seed).integers(900, 1100, SHAPE).astype(np.uint16)
    hdu = fits.PrimaryHDU(image)
    hdu.header.update({"IMAGETYP": "Bias Frame", "EXPTIME": 0.0, "INSTRUME": "T", **cards})
    hdu.header["DATE-OBS"] = f"2026-01-02T03:04:{seed:02d}"
    hdu.writeto(path, checksum=True)
    return path


def damage(path: Path, place: int = -3000) -> None:
    """Change one bit of the pixels, as a disk does, whose times tell nothing."""
    data, about = bytearray(path.read_bytes()), path.stat()
    data[place] ^= 4
    path.write_bytes(data)
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))


@pytest.fixture
def night(tmp_path):
    folder = tmp_path / "night"
    folder.mkdir()
    for seed in range(4):
        summed(folder / f"bias_{seed}.fits", seed)
    return folder


def combine(tmp_path, files, *options, environment=None):
    output = tmp_path / "m.fits"
    output.unlink(missing_ok=True)
    command = ("combine", *files, "-o", output, "--workers", "2", *options)
    code, _, err = finish(start(*command, environment=environment))
    left = sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(("m", ".")))
    return code, err, left


def test_pixels_that_do_not_fit_their_datasum_fail_the_product(night, tmp_path):
    damage(night / "bias_2.fits")
    files = sorted(night.iterdir())
    code, err, left = combine(tmp_path, files)
    assert code == 1
    assert "bias_2.fits: damaged: its data add up to " in err
    assert left == []
    assert combine(tmp_path, files, "--verify-checksums", "never")[::2] == (0, ["m.fits"])
    code, err, left = combine(tmp_path, files, "--verify-checksums", "always")
    assert (code, left) == (1, [])
    assert "bias_2.fits: damaged" in err
    outcomes = reduce_night(night, tmp_path / "out")
    (outcome,) = outcomes.values()
    assert outcome.state == "failed"
    assert "bias_2.fits: damaged: its data add up to" in outcome.reason
    assert not list((tmp_path / "out").rglob("*.fits*"))
    for overrides, used in ((["verify_checksums=never"], 4), (["verify_checksums=always"], 3)):
        (outcome,) = reduce_night(night, tmp_path / f"out{used}", *overrides).values()
        assert (outcome.state, outcome.n_frames) == ("made", used)


def test_a_calibrated_frame_is_not_written_of_damaged_pixels(tmp_path):
    night = tmp_path / "night"
    for seed in range(4):
        nights.raw(night / f"bias_{seed}.fits", seed=seed, shape=SHAPE)
    cards = {"IMAGETYP": "Light", "EXPTIME": 30.0, "FILTER": "V", "INSTRUME": "TinyCam"}
    damage(summed(night / "sky.fits", 9, **cards))
    outcomes = reduce_night(night, tmp_path / "out")
    states = {outcome.kind: outcome for outcome in outcomes.values()}
    assert states["science"].state == "failed"
    assert "sky.fits: damaged: its data add up to" in states["science"].reason
    assert not list((tmp_path / "out").rglob("calibrated/*"))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("place", "reason"),
    [(-3000, "damaged: its data add up to"), (800, "damaged: its CHECKSUM does not hold")],
)
def test_all_check_sums_are_verified_where_that_is_asked_for(tmp_path, place, reason, packed):
    path = summed(tmp_path / "a.fits")
    assert scan_file(path, "always").hdus[0].frame.datasum is not None
    damage(path, place)
    if packed:
        path.write_bytes(gzip.compress(path.read_bytes()))
    assert scan_file(path).hdus[0].frame
    with pytest.raises(FrameError, match=reason):
        scan_file(path, "always")
    config = load_config(None, ["verify_checksums=always"])
    exposures, (problem,) = inventory.scan_night([tmp_path], config)
    assert not exposures
    assert problem.reason.startswith(reason)


def _rewrite(path):
    path.write_bytes(path.read_bytes()[::-1])


def _cut(path):
    os.truncate(path, path.stat().st_size - 100)


@pytest.mark.parametrize("suffix", [".fits.gz", ".fits.fz"])
@pytest.mark.parametrize("change", [_rewrite, _cut, Path.unlink])
def test_a_compressed_frame_that_changes_after_the_scan_fails_its_product(
    tmp_path, change, suffix, night
):
    for path in list(night.iterdir()):
        if suffix == ".fits.gz":
            path.with_suffix(suffix).write_bytes(gzip.compress(path.read_bytes()))
        else:
            with fits.open(path) as hdus:
                hdu = fits.CompImageHDU(hdus[0].data, hdus[0].header)
                hdu.writeto(path.with_suffix(suffix), checksum=True)
        path.unlink()
    config, plan = make_plan(night)
    change(night / f"bias_1{suffix}")
    (outcome,) = reduce_plan(plan, config, tmp_path / "out").values()
    assert outcome.state == "failed"
    assert f"bias_1{suffix}: " in outcome.reason
    assert "changed during the run" in outcome.reason or "no such file" in outcome.reason
    assert nights.files_in(tmp_path / "out") == []


def test_a_file_that_is_away_for_a_moment_is_waited_for(tmp_path):
    path = summed(tmp_path / "a.fits")
    frame = scan_file(path).hdus[0].frame
    expected = read_rows(frame, 0, 60)
    path.rename(tmp_path / "away")
    timer = threading.Timer(0.2, (tmp_path / "away").rename, [path])
    timer.start()
    assert np.array_equal(read_rows(frame, 0, 60), expected)
    timer.join()


@pytest.fixture(scope="module")
def shim(tmp_path_factory):
    """The library that makes reading fail, compiled."""
    target = tmp_path_factory.mktemp("shim") / "faulty_io.so"
    source = Path(__file__).with_name("faulty_io.c")
    command = [program("gcc"), "-shared", "-fPIC", "-O1", "-o", target, source, "-ldl"]
    subprocess.run(command, check=True, capture_output=True)
    return str(target)


@pytest.mark.system
@pytest.mark.parametrize(
    ("suffix", "fault", "error"),
    [
        ("", "short", ""),
        (".gz", "short", ""),
        (".fz", "short", ""),
        ("", "stale-open=3", ""),
        (".fz", "stale-read=3", ""),
        (".gz", "stale-read=99", "Stale file handle"),
        ("", "eio", "Input/output error"),
    ],
)
def test_reading_that_fails_as_on_a_network(night, tmp_path, shim, suffix, fault, error):
    plain = sorted(night.iterdir())
    for path in plain:
        if suffix == ".gz":
            Path(f"{path}.gz").write_bytes(gzip.compress(path.read_bytes()))
        elif suffix == ".fz":
            with fits.open(path) as hdus:
                hdu = fits.CompImageHDU(hdus[0].data, hdus[0].header)
                hdu.writeto(f"{path}.fz", checksum=True)
    where = scratchfolder.PREFIX if suffix == ".gz" else "bias_1.fits"
    environment = {"LD_PRELOAD": shim, "FAULT": fault, "FAULT_PATH": where}
    files = [Path(f"{path}{suffix}") for path in plain]
    code, err, left = combine(tmp_path, files, "--reject", "none", environment=environment)
    if error:
        assert (code, left) == (1, [])
        assert "bias_" in err
        assert error in err
    else:
        assert (code, left) == (0, ["m.fits"]), err
        expected = np.mean([fits.getdata(path) for path in plain], axis=0, dtype=np.float64)
        assert np.array_equal(fits.getdata(tmp_path / "m.fits"), expected.astype(np.float32))
