"""Libraries of masters, and many nights at once."""

import json
import shutil

import numpy as np
import pytest
from astropy.io import fits

import nights
from masterframe import inventory
from masterframe.config import load_config
from masterframe.errors import UsageError

CARDS = {"EGAIN": 1.5, "RDNOISE": 8.0, "CCD_TEMP": -20.0}


def write_night(folder, day, kinds, **cards):
    """A tiny night of some kinds of frames, on a day of January."""
    for number, (kind, count) in enumerate(kinds.items()):
        for index in range(count):
            date = f"2026-01-{day:02}T0{number}:04:{index:02}"
            given = {**CARDS, "DATE_OBS": date, **cards}
            seed = 100 * day + 10 * number + index
            nights.raw(folder / f"{kind}_{index}.fits", kind, seed, **given)
    return folder


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """The products of two earlier nights, the second one colder."""
    out = tmp_path_factory.mktemp("library")
    kinds = {"bias": 5, "dark": 5, "flat": 5}
    for day, warmth in ((2, -20.0), (5, -35.0)):
        raw = tmp_path_factory.mktemp("raw") / f"2026-01-{day:02}"
        write_night(raw, day, kinds, CCD_TEMP=warmth)
        nights.reduce_night(raw, out)
    return out


@pytest.fixture
def night(tmp_path):
    return write_night(tmp_path / "2026-01-09", 9, {"science": 2}, CCD_TEMP=-20.3)


def test_a_night_without_masters_takes_those_of_the_library_and_says_how_old(library, night):
    _, plan = nights.make_plan(night, f"library={library}")
    for product in plan.products:
        assert {use.role: use.library.partition("library")[2][1:] for use in product.uses} == {
            "bias": "/2026-01-02/master_bias_bin1x1.fits",
            "dark": "/2026-01-02/master_dark_30s_bin1x1.fits",
            "flat": "/2026-01-05/master_flat_V_bin1x1.fits",
        }
        assert product.using("bias").reason == "same set-up; from the library, 7.0 days older"
        assert "from the library, 7.0 days older" in product.using("dark").reason
        assert "from the library, 3.9 days older" in product.using("flat").reason
        said = {one.reason for one in product.passed_over if one.role == "dark"}
        assert said == {"temperature -35.0, wanted -20.3 within 1"}


def test_the_products_are_those_that_the_masters_give(library, night, tmp_path):
    out = tmp_path / "out"
    made = nights.reduce_night(night, out, f"library={library}")
    assert nights.states(made) == {"science_0": "made", "science_1": "made"}
    used = [
        fits.getdata(library / "2026-01-02" / "master_bias_bin1x1.fits"),
        fits.getdata(library / "2026-01-02" / "master_dark_30s_bin1x1.fits"),
        fits.getdata(library / "2026-01-05" / "master_flat_V_bin1x1.fits"),
    ]
    raw = fits.getdata(night / "science_0.fits").astype(float)
    expected = (raw - used[0] - used[1]) / used[2]
    np.testing.assert_allclose(fits.getdata(made["science_0"].output), expected, atol=1e-3)
    again = nights.reduce_night(night, out, f"library={library}")
    assert set(nights.states(again).values()) == {"up to date"}


def test_its_own_frames_go_first(library, tmp_path):
    night = write_night(tmp_path / "n", 9, {"bias": 5, "science": 1}, CCD_TEMP=-20.3)
    _, plan = nights.make_plan(night, f"library={library}")
    science = plan.products[-1]
    assert science.using("bias").product == "n/master_bias_bin1x1"
    assert science.using("dark").library
    said = [one.reason for one in science.passed_over if one.role == "bias"]
    assert "it fits, but is of the library: one of the same night goes first" in said


def foreign(path, kind, level, **cards):
    """A master as another program writes it."""
    values = np.random.default_rng(len(kind)).normal(level, 0.01 * abs(level), nights.SHAPE)
    hdu = fits.PrimaryHDU(values.astype(np.float32))
    usual = {"INSTRUME": "TinyCam", "IMAGETYP": f"Master {kind}", "DATE-OBS": "2026-01-08T20:00:00"}
    for key, value in {**usual, **cards}.items():
        hdu.header[key] = value
    path.parent.mkdir(exist_ok=True)
    hdu.writeto(path)


def test_masters_of_other_programs_serve_where_their_cards_tell_enough(night, tmp_path):
    folder = tmp_path / "theirs"
    foreign(folder / "b.fits", "Bias", 100)
    foreign(folder / "d.fits", "Dark", 110, EXPTIME=30.0)
    foreign(folder / "d60.fits", "Dark", 10, EXPTIME=60.0, ZEROCOR="Jan  8 zero image is Zero.fits")
    foreign(folder / "f.fits", "Flat", 1.0, FILTER="V")
    foreign(folder / "f2.fits", "Flat", 20000, FILTER="V")
    foreign(folder / "o.fits", "Bias", 1, OVERSCAN="overscan section is [1:4,1:20]")
    foreign(folder / "x.fits", "Light", 1)
    shutil.copy(folder / "b.fits", folder / "Masters_of_bias.fits")
    fits.setval(folder / "Masters_of_bias.fits", "INSTRUME", value="Other")
    (folder / "broken.fits").write_bytes(b"SIMPLE")
    config, plan = nights.make_plan(night, f"library={folder}")
    science = plan.products[0]
    taken = {use.role: use for use in science.uses}
    assert {role: use.product.rpartition("/")[2] for role, use in taken.items()} == {
        "dark": "d.fits",
        "flat": "f.fits",
    }
    assert taken["dark"].holds_bias
    said = {one.product.rpartition("/")[2]: one.reason for one in science.passed_over}
    assert said["f2.fits"].startswith("its median is ")
    assert said["o.fits"] == "its overscan taken off"
    assert said["d60.fits"].startswith("it is of 60 s")
    problems = {item.path.rpartition("/")[2]: item.reason for item in plan.problems}
    assert problems["x.fits"] == "nothing tells whether it is a bias, a dark or a flat"
    assert "broken.fits" in problems
    out = tmp_path / "out"
    made = nights.reduce_plan(plan, config, out)
    assert set(nights.states(made).values()) == {"made"}
    raw = fits.getdata(night / "science_0.fits").astype(float)
    dark, flat = (fits.getdata(folder / name) for name in ("d.fits", "f.fits"))
    np.testing.assert_allclose(
        fits.getdata(made["science_0"].output), (raw - dark) / flat, rtol=1e-5, atol=1e-3
    )
    with fits.open(folder / "f.fits", mode="update") as hdus:
        hdus[0].data[3, 4] = 0.5
    again = nights.reduce_night(night, out, f"library={folder}")
    assert set(nights.states(again).values()) == {"made"}


def test_a_master_that_failed_its_tests_is_passed_over(library, night, tmp_path):
    bad = tmp_path / "bad"
    write_night(tmp_path / "raw", 8, {"flat": 5}, CCD_TEMP=-20.0)
    nights.reduce_night(tmp_path / "raw", bad, "quality.masters.photons=1e6")
    _, plan = nights.make_plan(night, f"library={bad}")
    reasons = [one.reason for one in plan.products[0].passed_over if one.role == "flat"]
    assert len(reasons) == 1
    assert reasons[0].startswith("it fails its test")


def test_a_library_that_is_not_there(night, tmp_path):
    with pytest.raises(UsageError, match=r"the library .* is no folder"):
        nights.make_plan(night, f"library={tmp_path / 'none'}")


def test_the_command_takes_a_library_and_many_nights(library, night, tmp_path, capsys, monkeypatch):
    later = write_night(tmp_path / "2026-01-11", 11, {"science": 1}, CCD_TEMP=-20.0)
    code, out, _ = nights.call(
        *(capsys, monkeypatch, "run", night, later, "-o", tmp_path / "out"),
        *("--library", library, "--json"),
    )
    assert code == 0
    products = json.loads(out)["products"]
    assert [item["name"] for item in products] == [
        "2026-01-09/calibrated/science_0",
        "2026-01-09/calibrated/science_1",
        "2026-01-11/calibrated/science_0",
    ]
    code, out, _ = nights.call(
        *(capsys, monkeypatch, "plan", night, "-o", tmp_path / "out", "--library", library)
    )
    assert "bias: " in out
    assert "from the library, 7.0 days older" in out


def test_folders_called_after_dates_are_nights(tmp_path):
    tree = tmp_path / "tree"
    for day in (3, 4):
        write_night(tree / f"2026-01-0{day}" / "raw", day, {"bias": 3})
    write_night(tree / "20260105", 5, {"bias": 3})
    write_night(tree / "calib_12345678", 6, {"bias": 3})
    exposures, _ = inventory.scan_night([tree], load_config())
    assert sorted({item.night for item in exposures}) == [
        "2026-01-03",
        "2026-01-04",
        "20260105",
        "tree",
    ]
    _, plan = nights.make_plan(tree)
    assert len(plan.products) == 4
    _, pooled = nights.make_plan(tree, "nights=pooled")
    assert [product.name for product in pooled.products] == ["nights/master_bias_bin1x1"]
    assert len(pooled.products[0].exposures) == 12
