"""Science of a mosaic that was read in part: windows of all its CCDs, or fewer of them."""

import json
from dataclasses import replace

import numpy as np
import pytest
from astropy.io import fits

import nights
from masterframe import simulate

ROWS, COLUMNS, STRIP = 40, 56, 8
NAMES = ("CCD1", "CCD2", "CCD3", "CCD4")
SPEC = simulate.NightSpec(
    simulate.Camera((ROWS, COLUMNS), STRIP, extensions=len(NAMES)),
    bias=5,
    darks={60.0: 5},
    flats={"V": 5},
    science={"V": 3},
    exptime=60.0,
    seed=31,
)
WINDOW = np.s_[7:29, 11:44]
MASTERS = ("master_bias_bin1x1", "master_dark_60s_bin1x1", "master_flat_V_bin1x1")


@pytest.fixture
def night(tmp_path):
    simulate.simulate_night(tmp_path, SPEC)
    return tmp_path / "night"


def science(night):
    """The paths of its science frames."""
    return sorted(night.glob("ngc*.fits"))


def cut(path, names=NAMES, window=None, lacking=()):
    """Keep some CCDs of a frame, and of each a window with its overscan, as a camera does."""
    with fits.open(path) as hdus:
        kept = fits.HDUList([hdus[0].copy(), *(hdus[name].copy() for name in names)])
    for hdu in kept[1:]:
        if window:
            rows, columns = window
            height, width = rows.stop - rows.start, columns.stop - columns.start
            left = int(hdu.header["DETSEC"][1:].partition(":")[0]) - 1 + columns.start
            overscan = hdu.data[rows, COLUMNS:]
            hdu.data = np.hstack([hdu.data[rows, columns], overscan])
            hdu.header["BIASSEC"] = f"[{width + 1}:{width + STRIP},1:{height}]"
            hdu.header["DATASEC"] = hdu.header["TRIMSEC"] = f"[1:{width},1:{height}]"
            hdu.header["DETSEC"] = f"[{left + 1}:{left + width},{rows.start + 1}:{rows.stop}]"
        for key in lacking:
            hdu.header.remove(key, ignore_missing=True)
    kept.writeto(path, overwrite=True)


def expected(path, made, name, window=np.s_[:, :], image=None):
    """A window of one CCD calibrated with that of the full masters, by plain numpy."""
    raw = fits.getdata(path, name if image is None else image).astype(float)
    level = np.median(raw[:, -STRIP:], axis=1, keepdims=True)
    bias, dark, flat = (
        fits.getdata(made[master].output, name).astype(float)[window] for master in MASTERS
    )
    return (raw[:, :-STRIP] - level - bias - dark) / flat


def agree(path, made, product, name, window, image=None):
    wanted = expected(path, made, name, window, image)
    good = np.isfinite(wanted) & (np.abs(wanted) < 1e5)
    assert good.mean() > 0.95
    np.testing.assert_allclose(product[good], wanted[good], rtol=1e-4, atol=1e-2)


def test_windows_and_fewer_ccds_take_their_part_of_the_full_masters(night, tmp_path):
    windowed, fewer, single = science(night)
    cut(windowed, window=WINDOW)
    cut(fewer, ("CCD4", "CCD2"))
    cut(single, ("CCD3",), WINDOW)
    made = nights.reduce_night(night, tmp_path / "out", "report=false")
    assert set(nights.states(made).values()) == {"made"}
    for name in NAMES:
        agree(windowed, made, fits.getdata(made[windowed.stem].output, name), name, WINDOW)
    for name in ("CCD4", "CCD2"):
        product = fits.getdata(made[fewer.stem].output, name)
        agree(fewer, made, product, name, np.s_[:, :])
    agree(single, made, fits.getdata(made[single.stem].output), "CCD3", WINDOW)
    again = nights.reduce_night(night, tmp_path / "out", "report=false")
    assert set(nights.states(again).values()) == {"up to date"}


def test_the_plan_says_what_is_taken_of_which_ccd(night, capsys, monkeypatch):
    windowed, fewer, _ = science(night)
    cut(windowed, window=WINDOW)
    cut(fewer, ("CCD4", "CCD2"))
    _, out, _ = nights.call(capsys, monkeypatch, "plan", night, "--json")
    products = {one["name"].rpartition("/")[2]: one for one in json.loads(out)["products"]}
    (bias,) = (one for one in products[windowed.stem]["uses"] if one["role"] == "bias")
    part = "[12:44,8:29]"
    assert bias["reason"] == (
        f"same set-up; cut to the window, {part} of CCD1, {part} of CCD2, {part} of CCD3 and 1 more"
    )
    (flat,) = (one for one in products[fewer.stem]["uses"] if one["role"] == "flat")
    assert flat["reason"].endswith("; cut to the window, all of CCD4, all of CCD2")
    assert flat["parts"] == [
        {"image": "CCD4", "section": None},
        {"image": "CCD2", "section": None},
    ]


def test_masters_of_windows_are_made_window_by_window(night, tmp_path):
    """Two places of one size are two sets of frames."""
    other = np.s_[9:31, 11:44]
    flats = sorted(night.glob("flat*.fits"))
    for number, path in enumerate(flats):
        cut(path, window=other if number < 2 else WINDOW)
    for path in science(night):
        cut(path, window=WINDOW)
    _, plan = nights.make_plan(night)
    made = [product for product in plan.products if product.kind == "flat"]
    assert sorted(len(product.exposures) for product in made) == [2, 3]
    whole = next(one for one in made if len(one.exposures) == 3)
    for product in plan.products[-3:]:
        assert product.using("flat").product == whole.name
        assert product.using("flat").parts == ()
        assert len(product.using("bias").parts) == len(NAMES)


def why_no_bias(night, path):
    _, plan = nights.make_plan(night)
    (product,) = (one for one in plan.products if one.exposures[0].path == str(path))
    assert product.using("bias") is None
    (note,) = (note for note in product.notes if note.startswith("no bias: "))
    return note


def test_the_plan_says_why_a_window_takes_nothing(night):
    first, second, third = science(night)
    cut(first, window=WINDOW, lacking=["DETSEC"])
    assert why_no_bias(night, first).endswith(
        "wanted '4 images 41x22': nothing tells where CCD1 of the exposure lies on the detector"
    )
    cut(second, ("CCD1", "CCD2"))
    with fits.open(second, mode="update") as hdus:
        hdus[2].name = "CCD9"
    assert why_no_bias(night, second).endswith(": no image of it is called CCD9")
    cut(third, window=WINDOW)
    with fits.open(third, mode="update") as hdus:
        hdus["CCD2"].header["DETSEC"] = "[205:237,8:29]"
    assert why_no_bias(night, third).endswith(
        ": CCD2 is [205:237,8:29] of the detector, not all in [57:112,1:40]"
    )


def test_images_without_a_name_are_told_apart_by_their_place(night, tmp_path):
    """As GMOS does: only the second CCD of several is read, as the first extension of its file."""
    path = science(night)[0]
    cut(path, ("CCD2", "CCD3"), WINDOW)
    for one in night.glob("*.fits"):
        with fits.open(one, mode="update") as hdus:
            for hdu in hdus[1:]:
                del hdu.header["EXTNAME"]
    made = nights.reduce_night(night, tmp_path / "out", "report=false")
    assert made[path.stem].state == "made"
    for image, name in enumerate(("IMAGE2", "IMAGE3"), 1):
        product = fits.getdata(made[path.stem].output, f"IMAGE{image}")
        agree(path, made, product, name, WINDOW, image)


def test_masters_of_a_library_are_cut_likewise(night, tmp_path, capsys, monkeypatch):
    made = nights.reduce_night(night, tmp_path / "library", "report=false")
    other = tmp_path / "other"
    other.mkdir()
    windowed, single, left = (path.rename(other / path.name) for path in science(night))
    cut(windowed, ("CCD3", "CCD1"), WINDOW)
    cut(single, ("CCD2",), WINDOW)
    left.unlink()
    out = tmp_path / "out"
    arguments = ("run", other, "-o", out, "--library", tmp_path / "library", "--json")
    code, printed, _ = nights.call(capsys, monkeypatch, *arguments)
    assert code == 0, printed
    product = out / "other" / "calibrated" / windowed.name
    for name in ("CCD3", "CCD1"):
        agree(windowed, made, fits.getdata(product, name), name, WINDOW)
    agree(single, made, fits.getdata(product.with_name(single.name)), "CCD2", WINDOW)


def test_bad_pixels_of_whole_ccds_are_cut_as_the_masters_are(night, tmp_path):
    windowed, single, left = science(night)
    cut(windowed, window=WINDOW)
    cut(single, ("CCD3",), WINDOW)
    left.unlink()
    bad = {name: np.zeros((ROWS, COLUMNS), np.uint8) for name in NAMES}
    bad["CCD3"][10, 15] = bad["CCD4"][20, 40] = 1
    images = [fits.ImageHDU(values, name=name) for name, values in bad.items()]
    fits.HDUList([fits.PrimaryHDU(), *images]).writeto(tmp_path / "bad.fits")
    option = f"bad_pixels={tmp_path / 'bad.fits'}"
    made = nights.reduce_night(night, tmp_path / "out", "report=false", option)
    assert set(nights.states(made).values()) == {"made"}
    for name in NAMES:
        mask = fits.getdata(made[windowed.stem].output, f"{name}_MASK")
        np.testing.assert_array_equal((mask & 2) != 0, bad[name][WINDOW] != 0)
    mask = fits.getdata(made[single.stem].output, "MASK")
    np.testing.assert_array_equal((mask & 2) != 0, bad["CCD3"][WINDOW] != 0)


def test_a_name_in_the_primary_hdu_sets_no_frame_apart(tmp_path):
    """Some cameras write EXTNAME there, and a different one in each file."""
    simulate.simulate_night(tmp_path, replace(SPEC, camera=simulate.Camera((ROWS, COLUMNS), STRIP)))
    for path in (tmp_path / "night").glob("*.fits"):
        fits.setval(path, "EXTNAME", value=path.stem.upper())
    _, plan = nights.make_plan(tmp_path / "night")
    kinds = [product.kind for product in plan.products]
    assert kinds == ["bias", "dark", "flat", *["science"] * 3]
    assert [len(product.exposures) for product in plan.products[:3]] == [5, 5, 5]
    assert {use.role for use in plan.products[-1].uses} == {"bias", "dark", "flat"}
