"""What a second run makes anew, and what it leaves alone, with the reason for each."""

import os
import shutil

import numpy as np
import pytest
from astropy.io import fits

import nights
from masterframe import freshness, journal
from masterframe.forecast import foresee
from nights import make_plan, raw, reduce_night, states

BIAS, FLAT = "master_bias_bin1x1", "master_flat_V_bin1x1"
ALL_CURRENT = {BIAS: "up to date", FLAT: "up to date", "science_0": "up to date"}
ALL_MADE = dict.fromkeys(ALL_CURRENT, "made")


@pytest.fixture
def night(tmp_path):
    return nights.night(tmp_path / "night", bias=3, flat=3)


@pytest.fixture
def out(night, tmp_path):
    assert states(reduce_night(night, tmp_path / "out")) == ALL_MADE
    return tmp_path / "out"


def stamps(out):
    """Return what tells whether a file was written again."""
    return {name: (out / name).stat()[:2] for name in nights.files_in(out)}


def reasons(night, out, *overrides):
    """Return why each product would be made or kept, by the last part of its name."""
    config, plan = make_plan(night, *overrides)
    ledger = journal.Ledger(out)
    return {
        product.name.rpartition("/")[2]: freshness.check(product, config, out, (), ledger).reason
        for product in plan.products
    }


def test_a_second_run_writes_nothing(night, out):
    before = stamps(out)
    assert states(reduce_night(night, out)) == ALL_CURRENT
    assert stamps(out) == before


def test_force_makes_the_same_pixels_again(night, out):
    before = {name: fits.getdata(out / name) for name in nights.files_in(out)}
    inodes = stamps(out)
    assert states(reduce_night(night, out, force=True)) == ALL_MADE
    assert all(now != inodes[name] for name, now in stamps(out).items())
    for name, data in before.items():
        assert np.array_equal(fits.getdata(out / name), data, equal_nan=True)


def test_inputs_that_were_only_touched_or_moved_remake_nothing(night, out, tmp_path):
    for path in night.iterdir():
        os.utime(path, ns=(1, 2))
    assert states(reduce_night(night, out)) == ALL_CURRENT
    copied = tmp_path / "elsewhere" / "night"
    shutil.copytree(night, copied)
    shutil.rmtree(night)
    assert states(reduce_night(copied, out)) == ALL_CURRENT


def test_other_pixels_in_an_input_remake_what_rests_on_it(night, out):
    (night / "flat_1.fits").unlink()
    raw(night / "flat_1.fits", "flat", 99, DATE_OBS="2026-01-02T03:04:01")
    assert reasons(night, out)[FLAT] == "the pixels of its inputs have changed"
    assert states(reduce_night(night, out)) == {
        BIAS: "up to date",
        FLAT: "made",
        "science_0": "made",
    }


def test_the_plan_foretells_what_one_pixel_of_one_dark_remakes(tmp_path):
    night = nights.night(tmp_path / "night", bias=3, dark=3, flat=3, science=2)
    short = [raw(night / f"short_{k}.fits", "dark", 90 + k, EXPTIME=5.0) for k in range(3)]
    out = tmp_path / "out"
    reduce_night(night, out)

    def foretold():
        config, plan = make_plan(night)
        ahead = foresee(plan, config, out, workers=2, memory=4 << 30)
        return {name.rpartition("/")[2] for name, own in ahead.items() if not own.current}

    def made():
        found = states(reduce_night(night, out))
        return {name for name, state in found.items() if state == "made"}

    os.utime(night / "dark_1.fits")
    assert foretold() == made() == set()
    with fits.open(night / "dark_1.fits", mode="update") as hdus:
        hdus[0].data[3, 4] += 1
    rests = {"master_dark_30s_bin1x1", "science_0", "science_1"}
    assert foretold() == rests
    assert made() == rests
    with fits.open(short[0], mode="update") as hdus:
        hdus[0].data[3, 4] += 1
    rests = {"master_dark_5s_bin1x1", FLAT, "science_0", "science_1"}
    assert foretold() == rests
    assert made() == rests


def test_one_more_input_remakes_what_rests_on_it(night, out):
    raw(night / "bias_9.fits", "bias", 9)
    assert reasons(night, out)[BIAS] == "its inputs have changed: 3 frames then, 4 now"
    assert states(reduce_night(night, out)) == ALL_MADE


def test_one_input_less_remakes_what_rests_on_it(night, out):
    (night / "flat_2.fits").unlink()
    assert reasons(night, out)[FLAT] == "its inputs have changed: 3 frames then, 2 now"
    assert states(reduce_night(night, out))[BIAS] == "up to date"


def test_another_recipe_remakes_its_products_and_those_that_take_them(night, out):
    option = "recipes.flat.combine=median"
    assert reasons(night, out, option)[FLAT] == (
        "its recipe, its masters or the program has changed"
    )
    assert states(reduce_night(night, out, option)) == {
        BIAS: "up to date",
        FLAT: "made",
        "science_0": "made",
    }


def test_options_that_decide_no_pixel_remake_nothing(night, out):
    options = ("resources.workers=1", "recipes.flat.group_by=[OBJECT]", "resources.memory=500MB")
    assert states(reduce_night(night, out, *options)) == ALL_CURRENT


def test_a_product_that_was_removed_is_made_again_with_what_takes_it(night, out):
    (out / f"night/{BIAS}.fits").unlink()
    assert reasons(night, out)[BIAS] == "it is not there"
    assert states(reduce_night(night, out)) == ALL_MADE


def test_a_run_goes_on_with_what_is_not_done(night, out):
    (out / "night/calibrated/science_0.fits").unlink()
    before = stamps(out)
    assert states(reduce_night(night, out)) == ALL_CURRENT | {"science_0": "made"}
    assert before.items() <= stamps(out).items()


def test_a_clock_that_was_set_back_remakes_nothing(night, out):
    for path in (*night.iterdir(), *out.rglob("*.fits")):
        os.utime(path, ns=(10**18, 4 * 10**18))  # 2096
    assert states(reduce_night(night, out)) == ALL_CURRENT


def test_a_plan_tells_what_is_in_the_way(night, out):
    path = out / f"night/{BIAS}.fits"
    path.write_text("my notes")
    config, plan = make_plan(night)
    ahead = foresee(plan, config, out, workers=2, memory=4 << 30)
    (found,) = (item for name, item in ahead.items() if name.endswith(BIAS))
    assert f"{path} is kept (not FITS" in found.reason


# --- files that somebody else wrote or altered ----------------------------------------------------


def _text(path):
    path.write_text("my notes")


def _foreign(path):
    fits.PrimaryHDU(np.zeros((3, 4))).writeto(path, overwrite=True, checksum=True)


def _patched(path):  # by a program that knows no checksums
    content = bytearray(path.read_bytes())
    content[content.index(b"END".ljust(80)) + 4000] ^= 1
    path.write_bytes(content)


def _edited(path):  # by astropy, which keeps them
    with fits.open(path, mode="update") as hdus:
        hdus[0].data[2, 3] += 1


def _retyped(path):
    content = path.read_bytes()
    path.write_bytes(content.replace(b"TinyCam", b"HugeCam", 1))


def _shortened(path):
    os.truncate(path, path.stat().st_size // 2 - 1000)  # not where one HDU ends


def _emptied(path):
    path.write_bytes(b"")


ALTERED = {
    _text: "not FITS",
    _foreign: "masterframe did not make it",
    _patched: "it was altered: the CHECKSUM of HDU 0 does not hold",
    _edited: "its pixels were altered: MFSEAL does not hold",
    _retyped: "it was altered: the CHECKSUM of HDU 0 does not hold",
    _shortened: "HDU 2: truncated",
    _emptied: "empty file",
}


@pytest.mark.parametrize("alter", ALTERED)
@pytest.mark.parametrize("stale", [False, True])
def test_a_master_that_somebody_altered_is_neither_replaced_nor_used(alter, stale, night, out):
    path = out / f"night/{BIAS}.fits"
    alter(path)
    content = path.read_bytes()
    options = ["recipes.bias.combine=median"] if stale else []
    outcomes = reduce_night(night, out, *options)
    assert states(outcomes) == {BIAS: "failed", FLAT: "blocked", "science_0": "blocked"}
    assert outcomes[BIAS].reason.startswith(f"{path} is kept ({ALTERED[alter]}")
    assert outcomes[BIAS].reason.endswith("move it away, or --force to replace it")
    assert path.read_bytes() == content
    assert states(reduce_night(night, out, *options, force=True)) == ALL_MADE
    assert states(reduce_night(night, out, *options)) == ALL_CURRENT


@pytest.mark.parametrize("alter", [_text, _foreign, _edited, _shortened])
def test_a_calibrated_frame_that_somebody_altered_is_kept(alter, night, out):
    path = out / "night/calibrated/science_0.fits"
    alter(path)
    content = path.read_bytes()
    assert states(reduce_night(night, out)) == ALL_CURRENT | {"science_0": "failed"}
    assert path.read_bytes() == content
    assert states(reduce_night(night, out, force=True)) == ALL_MADE


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("kind", ["folder", "link", "dangling link", "fifo"])
def test_a_special_file_in_the_way_fails_its_product_alone(kind, force, night, out, tmp_path):
    path = out / f"night/{FLAT}.fits"
    path.unlink()
    precious = tmp_path / "precious"
    precious.write_text("mine")
    {
        "folder": path.mkdir,
        "link": lambda: path.symlink_to(precious),
        "dangling link": lambda: path.symlink_to(tmp_path / "none"),
        "fifo": lambda: os.mkfifo(path),
    }[kind]()
    outcomes = reduce_night(night, out, force=force)
    assert outcomes[BIAS].state == ("made" if force else "up to date")
    assert outcomes[FLAT].reason == f"{path} is not a regular file: move it away"
    assert outcomes["science_0"].reason == f"needs night/{FLAT}"
    assert precious.read_text() == "mine"


def test_a_copy_of_the_outputs_is_as_good_as_the_outputs(night, out, tmp_path):
    shutil.copytree(out, tmp_path / "copy", copy_function=shutil.copyfile)
    shutil.rmtree(tmp_path / "copy" / ".masterframe")
    assert states(reduce_night(night, tmp_path / "copy")) == ALL_CURRENT
