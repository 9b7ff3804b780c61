"""Parts of a detector that are always bad, by a preset or the configuration."""

import numpy as np
import pytest
from astropy.io import fits

import nights
from masterframe import explain
from masterframe.model import MaskBit, Section

BAD = "detector.bad=['[5:6,1:24]', '[20:20,11:24]']"


def expected(shape, left=0):
    bad = np.zeros(shape, bool)
    bad[:, 4 - left : 6 - left] = True
    bad[10:, 19 - left] = True
    return bad


@pytest.mark.parametrize("trim", ["", "[3:36,1:24]"])
def test_bad_parts_are_left_out_and_marked(trim, tmp_path):
    night = nights.night(tmp_path / "n", bias=5, dark=0, flat=5, science=1)
    out, options = tmp_path / "out", (BAD, f"detector.trim='{trim}'")
    made = nights.reduce_night(night, out, *options)
    assert set(nights.states(made).values()) == {"made"}
    left = 2 if trim else 0
    for item in made.values():
        mask = fits.getdata(item.output, "MASK")
        bad = expected(mask.shape, left)
        np.testing.assert_array_equal(mask & int(MaskBit.BAD) > 0, bad)
        if item.kind != "science":
            np.testing.assert_array_equal(np.isnan(fits.getdata(item.output)), bad)
    flat = made["master_flat_V_bin1x1"].output
    for x in (4 - left, 9):
        assert explain.explain_master(flat, x, 3).problems == ()
    assert set(nights.states(nights.reduce_night(night, out, *options)).values()) == {"up to date"}
    other = nights.reduce_night(night, out, "detector.bad=['[5:6,1:24]']", options[1])
    assert set(nights.states(other).values()) == {"made"}


def test_bad_pixels_of_a_calibrated_frame_keep_their_value(tmp_path):
    night = nights.night(tmp_path / "n", bias=0, dark=0, flat=0, science=1)
    sections = "detector.overscan='[31:36,1:24]'", "detector.trim='[1:30,1:24]'"
    (made,) = nights.reduce_night(night, tmp_path / "out", BAD, *sections).values()
    raw = fits.getdata(next(night.iterdir()))
    level = np.median(raw[:, 30:], axis=1, keepdims=True)
    np.testing.assert_array_equal(fits.getdata(made.output), raw[:, :30] - level)
    mask = fits.getdata(made.output, "MASK")
    np.testing.assert_array_equal(mask == MaskBit.BAD, expected(mask.shape))


def test_a_part_that_is_not_there_is_reported(tmp_path):
    night = nights.night(tmp_path / "n", bias=1, flat=0, science=0)
    _, plan = nights.make_plan(night, "detector.bad=['[5:6,1:99]', 'x', '[1:2,1:2]']")
    (exposure,) = plan.products[0].exposures
    assert exposure.images[0].bad == (Section(0, 2, 0, 2),)
    assert any("[5:6,1:99] is not obeyed" in note for note in exposure.notes)
    assert any("not a section" in note for note in exposure.notes)


def test_a_preset_knows_the_bad_parts_of_each_way_of_reading(tmp_path):
    night = nights.night(tmp_path / "n", bias=1, flat=0, science=0)
    nights.raw(night / "small.fits", "bias", 9, shape=(12, 18))
    (tmp_path / "cam.yaml").write_text(
        "base: generic\n"
        "sections:\n  - {when: {NAXIS1: 18}, bad: ['[3:3,1:12]']}\n"
        "detector: {bad: ['[7:7,1:12]']}\n"
    )
    _, plan = nights.make_plan(night, f"instrument={tmp_path / 'cam.yaml'}")
    found = {
        item.images[0].frame.shape: item.images[0].bad
        for product in plan.products
        for item in product.exposures
    }
    assert found == {
        (24, 36): (Section(0, 12, 6, 7),),
        (12, 18): (Section(0, 12, 2, 3),),
    }
