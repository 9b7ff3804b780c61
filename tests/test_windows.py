"""Frames of a window of the detector are calibrated with masters of all of it."""

import numpy as np
from astropy.io import fits

import nights
from masterframe import explain
from test_plan import plan_of, series

FULL, WINDOW = (24, 36), (10, 14)
ORIGIN = {"XORGSUBF": 7, "YORGSUBF": 5}
PLACE = np.s_[5:15, 7:21]
WHOLE = {"XORGSUBF": 0, "YORGSUBF": 0}


def night(folder):
    for number, (kind, count) in enumerate({"bias": 5, "dark": 5, "flat": 5}.items()):
        for index in range(count):
            nights.raw(folder / f"{kind}_{index}.fits", kind, 60 * number + index, **WHOLE)
    for index in range(3):  # flats of another filter were taken in the window
        cards = {**ORIGIN, "FILTER": "R"}
        nights.raw(folder / f"r_{index}.fits", "flat", 250 + index, shape=WINDOW, **cards)
    nights.raw(folder / "small.fits", "science", 240, shape=WINDOW, **ORIGIN)
    nights.raw(folder / "big.fits", "science", 241, **WHOLE)
    return folder


def test_science_of_a_window_takes_that_window_of_the_masters(tmp_path):
    out = tmp_path / "out"
    made = nights.reduce_night(night(tmp_path / "n"), out)
    assert set(nights.states(made).values()) == {"made"}
    used = [fits.getdata(made[name].output) for name in ("master_bias_bin1x1",)]
    used += [fits.getdata(made["master_dark_30s_bin1x1"].output)]
    used += [fits.getdata(made["master_flat_V_bin1x1"].output)]
    raw = fits.getdata(tmp_path / "n" / "small.fits").astype(float)
    bias, dark, flat = (values[PLACE] for values in used)
    np.testing.assert_allclose(
        fits.getdata(made["small"].output), (raw - bias - dark) / flat, rtol=1e-5, atol=1e-3
    )
    told = explain.explain_master(made["master_flat_R_bin1x1"].output, 3, 4)
    assert told.problems == ()
    assert {frame.bias for frame in told.frames} == {float(bias[4, 3])}
    again = nights.reduce_night(tmp_path / "n", out)
    assert set(nights.states(again).values()) == {"up to date"}


def windowed(kind, count, stem, origin, shape, **fields):
    x, y = origin
    more = (("window_x", x), ("window_y", y))
    return series(kind, count, stem, more_setup=more, shape=shape, **fields)


def test_a_master_of_the_same_window_goes_first_and_one_beside_it_is_none():
    science = windowed("science", 1, "s", (7, 5), WINDOW, filter="V")
    full = windowed("bias", 3, "full", (0, 0), FULL)
    same = windowed("bias", 3, "same", (7, 5), WINDOW)
    beside = windowed("bias", 3, "beside", (30, 5), WINDOW)
    product = plan_of(full, same, beside, science).products[-1]
    assert product.using("bias").part is None
    product = plan_of(full, science).products[-1]
    use = product.using("bias")
    assert use.reason == "same set-up; cut to the window, [8:21,6:15] of it"
    lost = plan_of(beside, science).products[-1]
    assert lost.using("bias") is None
    assert any("window_x 30, wanted 7" in note for note in lost.notes)


def test_binned_windows_need_a_card_that_tells_their_pixels():
    science = windowed("science", 1, "s", (7, 5), WINDOW, filter="V", binning=(2, 2))
    full = windowed("bias", 3, "full", (0, 0), FULL, binning=(2, 2))
    assert plan_of(full, science).products[-1].using("bias") is None
    known = {"XORGSUBF": 7, "YORGSUBF": 5}
    science = windowed("science", 1, "s", (7, 5), WINDOW, binning=(2, 2), header=known)
    full = windowed("bias", 3, "full", (0, 0), FULL, binning=(2, 2), header=WHOLE)
    assert plan_of(full, science).products[-1].using("bias").part.shape == WINDOW
