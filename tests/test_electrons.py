"""Frames in electrons: their gain has been applied, and is not applied again."""

import numpy as np
import pytest
from astropy.io import fits

import nights
from masterframe import inventory
from masterframe.config import load_config


def read(folder, *overrides, **cards):
    nights.raw(folder / "a.fits", "science", 1, **cards)
    (exposure,), problems = inventory.scan_night([folder], load_config(None, overrides))
    assert problems == ()
    return exposure


@pytest.mark.parametrize("unit", ["electron", "electrons", "e-", "E", "photoelectrons"])
def test_pixels_in_electrons_have_a_gain_of_one(tmp_path, unit):
    exposure = read(tmp_path, BUNIT=unit, EGAIN=2.5, RDNOISE=7.0)
    (image,) = exposure.images
    assert (image.gain, image.read_noise, image.unit) == (1.0, 7.0, "electron")
    assert image.origins["gain"] == "BUNIT"
    (note,) = [one for one in exposure.notes if "BUNIT" in one]
    assert note == "EGAIN = 2.5 is not used: BUNIT says that it has been applied"
    assert dict(exposure.setup)["unit"] == "electron"


@pytest.mark.parametrize("unit", [None, "adu", "ADU", "counts", "electron/s", "Jy"])
def test_pixels_in_another_unit_have_the_gain_of_their_header(tmp_path, unit):
    exposure = read(tmp_path, BUNIT=unit, EGAIN=2.5)
    assert (exposure.images[0].gain, exposure.images[0].unit) == (2.5, "adu")
    assert "unit" not in dict(exposure.setup)


def test_the_observer_knows_better(tmp_path):
    assert read(tmp_path, "detector.gain=1.7", BUNIT="e-", EGAIN=2.5).images[0].gain == 1.7


def test_a_night_in_electrons_has_errors_and_products_in_electrons(tmp_path):
    raw = tmp_path / "night"
    cards = {"BUNIT": "electron", "EGAIN": 2.5, "RDNOISE": 4.0}
    for index in range(5):
        nights.raw(raw / f"bias_{index}.fits", "bias", index, **cards)
    nights.raw(raw / "science_0.fits", "science", 90, **cards)
    nights.raw(raw / "science_1.fits", "science", 91, EGAIN=2.5, RDNOISE=4.0)
    made = nights.reduce_night(raw, tmp_path / "out", "report=false")
    with fits.open(made["science_0"].output) as hdus:
        assert hdus[0].header["BUNIT"] == hdus["UNCERT"].header["BUNIT"] == "electron"
        signal, uncert = hdus[0].data.astype(float), hdus["UNCERT"].data
    bias = fits.open(made["master_bias_bin1x1"].output)
    assert bias[0].header["BUNIT"] == "electron"
    shared = bias["UNCERT"].data.astype(float) ** 2
    bias.close()
    expected = np.sqrt(np.maximum(signal, 0) + 4.0**2 + shared)
    np.testing.assert_allclose(uncert, expected, rtol=1e-4)
    assert made["science_1"].state == "blocked"
    _, plan = nights.make_plan(raw)
    (product,) = (one for one in plan.products if one.name.endswith("science_1"))
    assert "in electron, wanted adu" in str(product)
