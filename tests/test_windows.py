"""Frames of a window of the detector are calibrated with masters of all of it."""

import numpy as np
import pytest
from astropy.io import fits

import nights
from masterframe import explain
from masterframe.model import Section
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


STRIP = 4
"""Columns of the overscan of a frame."""


def cards(place, *, told, flipped=(False, False), binning=1, prescan=0):
    """Sections of a frame that holds a place of the detector, and what tells that place."""
    rows, columns = place.y1 - place.y0, place.x1 - place.x0
    data = f"[{prescan + 1}:{prescan + columns},1:{rows}]"
    found = {
        "BIASSEC": f"[{prescan + columns + 1}:{prescan + columns + STRIP},1:{rows}]",
        "TRIMSEC": data,
        "XBINNING": binning,
        "YBINNING": binning,
    }
    if told == "origin":
        return found | {"XORGSUBF": place.x0, "YORGSUBF": place.y0}
    y, x = (
        (place.y0 * binning + 1, place.y1 * binning),
        (place.x0 * binning + 1, place.x1 * binning),
    )
    y, x = (ends[:: -1 if flip else 1] for ends, flip in zip((y, x), flipped, strict=True))
    return found | {"DATASEC": data, told: f"[{x[0]}:{x[1]},{y[0]}:{y[1]}]"}


def shot(path, kind, seed, place, *, prescan=0, **how):
    """Write a frame with an overscan whose rows have levels of their own."""
    shape = (place.y1 - place.y0, prescan + place.x1 - place.x0 + STRIP)
    nights.raw(path, kind, seed, shape=shape, **cards(place, prescan=prescan, **how))
    values = fits.getdata(path) + 5 * np.random.default_rng(seed).integers(0, 9, (shape[0], 1))
    values[:, prescan + place.x1 - place.x0 :] -= nights.LEVELS[kind] - 50
    fits.writeto(path, values.astype(np.uint16), fits.getheader(path), overwrite=True)
    return values.astype(float)


@pytest.mark.parametrize(
    "how",
    [
        {"told": "origin"},
        {"told": "DETSEC"},
        {"told": "CCDSEC", "binning": 2},
        {"told": "DETSEC", "flipped": (False, True)},
        {"told": "DETSEC", "flipped": (True, True), "binning": 3},
        {"told": "DETSEC", "prescan": 3},
    ],
    ids=str,
)
def test_a_window_with_its_own_overscan_takes_that_window_of_the_masters(how, tmp_path):
    whole, window = Section(0, 24, 0, 36), Section(5, 15, 7, 21)
    for number, kind in enumerate(("bias", "dark", "flat")):
        for index in range(5):
            shot(tmp_path / "n" / f"{kind}_{index}.fits", kind, 60 * number + index, whole, **how)
    raw = shot(tmp_path / "n" / "small.fits", "science", 240, window, **how)
    made = nights.reduce_night(tmp_path / "n", tmp_path / "out", "report=false")
    assert set(nights.states(made).values()) == {"made"}
    flips = how.get("flipped", (False, False))
    y = slice(24 - 15, 24 - 5) if flips[0] else slice(5, 15)
    x = slice(36 - 21, 36 - 7) if flips[1] else slice(7, 21)
    bias, dark, flat = (
        fits.getdata(one.output)[y, x] for name, one in sorted(made.items()) if "master" in name
    )
    first = how.get("prescan", 0)
    data, overscan = raw[:, first : first + 14], raw[:, first + 14 :]
    level = np.median(overscan, axis=1, keepdims=True)
    found = fits.getdata(made["small"].output)
    np.testing.assert_allclose(found, (data - level - bias - dark) / flat, rtol=1e-5, atol=1e-3)


def test_windows_that_do_not_lie_on_the_pixels_of_the_masters_take_none(tmp_path):
    whole, window = Section(0, 24, 0, 36), Section(5, 15, 7, 21)
    how = {"told": "DETSEC", "binning": 2}
    for index in range(5):
        shot(tmp_path / f"bias_{index}.fits", "bias", index, whole, **how)
    path = tmp_path / "small.fits"
    shot(path, "science", 240, window, **how)
    for section in ("[16:43,11:30]", "[15:42,31:50]", "[42:15,11:30]"):
        fits.setval(path, "DETSEC", value=section)
        _, plan = nights.make_plan(tmp_path)
        assert plan.products[-1].using("bias") is None
        assert any("no bias: none fits" in note for note in plan.products[-1].notes)
    fits.setval(path, "DETSEC", value="[15:42,11:30]")
    _, plan = nights.make_plan(tmp_path)
    assert plan.products[-1].using("bias").parts[0].section == window


def test_windows_of_two_amplifiers(tmp_path):
    """Each with its overscan; the window takes some columns of both."""

    def halves(left, right, y0, y1):
        rows, (a, b) = y1 - y0, (18 - left, right - 18)
        return (rows, a + b + 2 * STRIP), {
            "DATASECA": f"[1:{a},1:{rows}]",
            "BIASSECA": f"[{a + b + 1}:{a + b + STRIP},1:{rows}]",
            "DETSECA": f"[{left + 1}:18,{y0 + 1}:{y1}]",
            "DATASECB": f"[{a + 1}:{a + b},1:{rows}]",
            "BIASSECB": f"[{a + b + STRIP + 1}:{a + b + 2 * STRIP},1:{rows}]",
            "DETSECB": f"[19:{right},{y0 + 1}:{y1}]",
        }

    shape, told = halves(0, 36, 0, 24)
    for index in range(5):
        nights.raw(tmp_path / "n" / f"bias_{index}.fits", "bias", index, shape=shape, **told)
    shape, told = halves(7, 25, 5, 15)
    path = nights.raw(tmp_path / "n" / "small.fits", "science", 200, shape=shape, **told)
    made = nights.reduce_night(tmp_path / "n", tmp_path / "out", "report=false")
    raw = fits.getdata(path).astype(float)
    levels = np.median(raw[:, 18:22], axis=1), np.median(raw[:, 22:], axis=1)
    level = np.repeat(np.stack(levels, axis=1), (11, 7), axis=1)
    bias = fits.getdata(made["master_bias_bin1x1"].output)[5:15, 7:25]
    found = fits.getdata(made["small"].output)
    np.testing.assert_allclose(found, raw[:, :18] - level - bias, atol=1e-3)


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
    assert product.using("bias").parts == ()
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
    assert plan_of(full, science).products[-1].using("bias").parts[0].section.shape == WINDOW


def test_a_place_that_only_one_tells_is_no_difference(tmp_path):
    whole = Section(0, 24, 0, 36)
    for index in range(5):
        shot(tmp_path / f"bias_{index}.fits", "bias", index, whole, told="DETSEC")
        fits.delval(tmp_path / f"bias_{index}.fits", "DETSEC")
    shot(tmp_path / "big.fits", "science", 240, whole, told="DETSEC")
    _, plan = nights.make_plan(tmp_path)
    use = plan.products[-1].using("bias")
    assert use.reason == "same set-up; window told of one of the two only"
    assert use.parts == ()
