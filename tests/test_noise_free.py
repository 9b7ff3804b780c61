"""Frames without any noise: nothing can be told of their scatter, and nothing warns of it."""

import json

import numpy as np
import pytest
from astropy.io import fits

import nights

SHAPE, DATA, OVERSCAN = (96, 80), "[1:72,1:96]", "[73:80,1:96]"
COUNTS = {"bias": 5, "dark": 5, "flat": 5, "science": 1}


def night(folder, levels, **cards):
    """Write frames that are all alike, and even but for a pattern where there is much light."""
    pattern = np.add.outer(13 * np.arange(SHAPE[0]), 7 * np.arange(SHAPE[1])) % 50
    for number, (kind, count) in enumerate(COUNTS.items()):
        for index in range(count):
            values = (levels[kind] + pattern * (levels[kind] > 1000)).astype(np.uint16)
            if "BIASSEC" in cards:
                values[:, 72:] = 100
            path = nights.raw(folder / f"{kind}_{index}.fits", kind, 60 * number + index, **cards)
            fits.writeto(path, values, fits.getheader(path), overwrite=True)
    return folder


@pytest.mark.parametrize(
    "cards", [{}, {"BIASSEC": OVERSCAN, "TRIMSEC": DATA}], ids=["", "overscan"]
)
@pytest.mark.parametrize("noise", [{}, {"EGAIN": 1.5, "RDNOISE": 0.0}], ids=["unknown", "zero"])
def test_frames_without_noise_are_reduced_and_raise_no_alarm(
    cards, noise, tmp_path, capsys, monkeypatch
):
    levels = {"bias": 100, "dark": 110, "flat": 9000, "science": 400}
    folder = night(tmp_path / "night", levels, **cards, **noise)
    made = nights.reduce_night(folder, tmp_path / "out")
    assert set(nights.states(made).values()) == {"made"}
    counts = [
        fits.getdata(one.output, "COUNT").min() for one in made.values() if "master" in one.name
    ]
    assert counts == [5, 5, 5]
    flat = fits.getdata(made["master_flat_V_bin1x1"].output)
    science = fits.getdata(made["science_0"].output)
    np.testing.assert_allclose(science * flat, 290, rtol=1e-6)
    code, out, err = nights.call(capsys, monkeypatch, "verify", tmp_path / "out", "--json")
    assert (code, "Warning" in err) == (0, False)
    found = {check["verdict"] for one in json.loads(out)["products"] for check in one["tests"]}
    assert found <= {"pass", "not judged"}


def test_flats_that_are_as_dark_as_their_bias_say_so(tmp_path):
    levels = dict.fromkeys(COUNTS, 100)
    made = nights.reduce_night(night(tmp_path / "night", levels), tmp_path / "out")
    flat = made["master_flat_V_bin1x1"]
    assert flat.state == "failed"
    assert flat.reason.endswith("has light: level 0.0 adu")
