"""What users of xarray do with stacks and masters: open, choose, cut, look, store, convert.

Of each it is said what was read, byte for byte.
"""

import bz2
import gzip
import os
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from astropy.io import fits
from astropy.nddata import CCDData, StdDevUncertainty

import masterframe as mf
from masterframe.errors import FrameError, UsageError
from masterframe.fits import masters
from masterframe.fits.records import read_records
from masterframe.model import Calibration, Noise, Recipe, Rejection, Section
from stacks import count_bytes, raw_frames, write_frames
from support import shared

N, ROWS, COLUMNS = SHAPE = (9, 50, 37)
VALUES = raw_frames(SHAPE, seed=12)
ROW_BYTES = COLUMNS * 2
TRIM = Section(2, 2 + 45, 3, 3 + 30)
OVERSCAN = Section(0, ROWS, 34, COLUMNS)
FILTERS = np.array(list("VRVRVRVRV"))
EXPTIMES = np.arange(N) + 10.0


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    cards = [{"EXPTIME": EXPTIMES[k], "FILTER": FILTERS[k]} for k in range(N)]
    return write_frames(tmp_path_factory.mktemp("frames"), VALUES, cards, OBJECT="M 67")


@pytest.fixture(scope="module")
def stack(paths):
    return mf.open_stack(paths, rows=8)


@pytest.fixture(scope="module")
def calibration(tmp_path_factory):
    """Masters of the trimmed shape, one with a mask, bad pixels of the raw one, and factors."""
    folder = tmp_path_factory.mktemp("masters")
    rng = np.random.default_rng(8)

    def master(name, level, spread):
        hdus = [
            fits.PrimaryHDU(rng.normal(level, spread, TRIM.shape).astype(np.float32)),
            fits.ImageHDU(np.full(TRIM.shape, spread / 3, np.float32), name="UNCERT"),
            fits.ImageHDU((rng.random(TRIM.shape) < 0.02).astype(np.uint8), name="MASK"),
        ]
        fits.HDUList(hdus).writeto(folder / f"{name}.fits")
        return masters.open_master(folder / f"{name}.fits")[""]

    fits.PrimaryHDU((rng.random((ROWS, COLUMNS)) < 0.02).astype(np.uint8)).writeto(
        folder / "bad.fits"
    )
    return Calibration(
        trim=TRIM,
        bias=master("bias", 3.0, 0.5),
        dark=master("dark", 8.0, 1.0),
        dark_ratio=tuple(np.linspace(0.5, 1.3, N)),
        flat=master("flat", 1.0, 0.03),
        scale=tuple(np.linspace(0.9, 1.2, N)),
        bad_pixels=masters.open_master(folder / "bad.fits")[""],
    )


def opened(paths, **options):
    return xr.open_dataset(paths, engine="masterframe", **options)


# ---- the backend


CHUNKS = [None, {}, "auto", {"y": 16}]


@pytest.mark.parametrize("chunks", CHUNKS, ids=str)
def test_the_engine_reads_what_is_looked_at(paths, chunks):
    """Whether with Dask or without: one pixel, one frame, a cut-out, every 16th row."""
    with count_bytes() as read:
        counts = opened(paths, chunks=chunks)["counts"]
        assert counts.shape == SHAPE
        assert "counts" in repr(counts)
    assert read.bytes == 0
    looks = [
        (np.s_[:, 21, 30], N),
        (np.s_[4,], ROWS),
        (np.s_[2:6, 8:14, 10:20], 4 * 6),
        (np.s_[::2, ::16], 5 * 4),
        (np.s_[[7, 1],], 2 * ROWS),
        (np.s_[FILTERS == "R",], 4 * ROWS),
        (np.s_[[7, 1], 3:9:2, 5], 2 * 3),
    ]
    for key, rows in looks:
        with count_bytes() as read:
            found = counts[key].values
        expected = VALUES
        for axis in (2, 1, 0):  # axis by axis, as xarray does
            expected = expected[(slice(None),) * axis + key[axis : axis + 1]]
        np.testing.assert_array_equal(found, expected)
        columns = 10 if key[2:] == np.s_[10:20,] else COLUMNS  # parts of rows where they are slices
        assert read.bytes == rows * columns * 2, key


def test_the_engine_cuts_full_width_bands(tmp_path):
    (path,) = write_frames(tmp_path, raw_frames((1, 4, 6)))
    with fits.open(path) as hdus:
        header = (
            hdus[0]
            .header.tostring(padding=True)
            .replace("=                    4", "=                 4000")
        )
    # a sparse file of 4 000 x 6 000 pixels: nothing of it is read
    header = header.replace("NAXIS1  =                    6", "NAXIS1  =                 6000")
    path = tmp_path / "large.fits"
    path.write_bytes(header.encode())
    os.truncate(path, len(header) + -(-4000 * 6000 * 2 // 2880) * 2880)
    links = [tmp_path / f"{k}.fits" for k in range(5)]
    for link in links:
        os.link(path, link)
    frames, rows, columns = opened(links, chunks={})["counts"].chunks
    assert (frames, columns) == ((5,), (6000,))
    assert 1 < len(rows) < 200
    assert rows[0] & (rows[0] - 1) == 0


def test_chunks_of_the_engine_are_those_of_a_stack(paths):
    lazy = opened(paths)["counts"]
    chunked = opened(paths, chunks={"y": 16})["counts"]
    assert chunked.data.name == mf.open_stack(paths, rows=16).data.name
    some = lazy[[7, 1]].chunk({"y": 16})
    assert some.data.name == chunked[[7, 1]].data.name
    np.testing.assert_array_equal(some, VALUES[[7, 1]])
    for cut in (np.s_[:, 3:], np.s_[:, :, ::-1], np.s_[3], np.s_[[2, 2], ::2]):
        np.testing.assert_array_equal(lazy[cut].chunk(), VALUES[cut])
    np.testing.assert_array_equal(
        lazy.transpose("y", "x", "frame").chunk(), VALUES.transpose(1, 2, 0)
    )
    np.testing.assert_array_equal(lazy.chunk({"frame": 2, "x": 9}), VALUES)


def test_coordinates_stay_in_memory_and_group_frames(paths, stack):
    """Chunks are for pixels; by what headers say, frames are chosen."""
    found = opened(paths, chunks={})["counts"]
    for name, axis in stack.coords.items():
        assert found[name].chunks is None
        xr.testing.assert_identical(
            found[name].drop_vars(found[name].coords), axis.drop_vars(axis.coords)
        )
    assert found.attrs == stack.attrs
    by_filter = found.groupby("filter").map(lambda frames: frames.mf.combine())
    for name in "RV":
        expected = stack[name == FILTERS].mf.combine()
        np.testing.assert_array_equal(by_filter["data"].sel(filter=name), expected["data"])
    by_hand = xr.open_mfdataset(paths, engine="masterframe", combine="nested", concat_dim="frame")
    xr.testing.assert_identical(by_hand["counts"].compute(), found.compute())


def test_extensions_are_variables(tmp_path):
    paths = []
    for number in range(3):
        hdus = [
            fits.PrimaryHDU(),
            fits.ImageHDU(VALUES[number], name="CHIP1"),
            fits.ImageHDU(VALUES[number] + 9, name="CHIP2"),
            fits.ImageHDU(VALUES[number, :7, :5], name="GUIDE"),
            fits.ImageHDU(VALUES[number, :7, :5] + 1),
        ]
        hdus[0].header["EXPTIME"] = 4.5 + number
        paths.append(tmp_path / f"{number}.fits")
        fits.HDUList(hdus).writeto(paths[-1])
    found = opened(paths, chunks={})
    assert list(found) == ["CHIP1", "CHIP2", "GUIDE", "hdu4"]
    assert found["CHIP2"].dims == ("frame", "y", "x")
    assert found["GUIDE"].dims == ("frame", "y_GUIDE", "x_GUIDE")
    assert list(found["exptime"].values) == [4.5, 5.5, 6.5]
    with count_bytes() as read:
        np.testing.assert_array_equal(found["CHIP2"][1], VALUES[1] + 9)
    assert read.bytes == ROWS * ROW_BYTES
    np.testing.assert_array_equal(found["hdu4"][2], VALUES[2, :7, :5] + 1)
    one = opened(paths, hdu="chip2", chunks={})["counts"]
    np.testing.assert_array_equal(one, VALUES[:3] + 9)
    xr.testing.assert_identical(found["CHIP2"].mf.combine().compute(), one.mf.combine().compute())
    assert list(opened(paths, drop_variables=["GUIDE", "nothing"])) == ["CHIP1", "CHIP2", "hdu4"]
    mf.write_master(tmp_path / "chip2.fits", found["CHIP2"])
    np.testing.assert_array_equal(fits.getdata(tmp_path / "chip2.fits"), one.mf.combine()["data"])
    assert not read_records(tmp_path / "chip2.fits")[""].changed
    with pytest.raises(UsageError, match="no image chip3"):
        opened(paths, hdu="chip3")


def test_the_engine_guesses_by_content(tmp_path, paths):
    guess = xr.backends.list_engines()["masterframe"].guess_can_open
    raw = (tmp_path / "raw.fit", paths[0])
    shutil.copy(paths[0], raw[0])
    content = Path(paths[0]).read_bytes()
    (tmp_path / "packed.fits.gz").write_bytes(gzip.compress(content))
    (tmp_path / "packed.fts.bz2").write_bytes(bz2.compress(content))
    (tmp_path / "model.nc.gz").write_bytes(gzip.compress(b"CDF\x01" + bytes(100)))
    (tmp_path / "damaged.gz").write_bytes(gzip.compress(content)[:9])
    (tmp_path / "model.fits").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    for name in ("raw.fit", "packed.fits.gz", "packed.fts.bz2"):
        assert guess(tmp_path / name)
        np.testing.assert_array_equal(xr.open_dataset(tmp_path / name)["counts"][0], VALUES[0])
    assert guess("not/there.fits")
    for name in ("model.nc.gz", "damaged.gz", "model.fits", "gone.nc", "gone.gz"):
        assert not guess(str(tmp_path / name)), name
    assert not guess(paths)
    with pytest.raises(FrameError, match="HDF5"):
        opened(tmp_path / "model.fits")


# ---- masters


@pytest.fixture(scope="module")
def master(stack, calibration, tmp_path_factory):
    path = tmp_path_factory.mktemp("written") / "master.fits"
    mf.write_master(path, stack, Recipe(planes=("rejlow",)), calibration)
    return path


def test_a_master_opens_as_its_planes(master, stack, calibration):
    found = xr.open_dataset(master)
    assert list(found) == ["data", "uncert", "mask", "count", "rejlow"]
    combined = stack.mf.combine(Recipe(planes=("rejlow",)), calibration)
    for name in found:
        np.testing.assert_array_equal(found[name], combined[name], name)
    xr.testing.assert_equal(found.coords.to_dataset(), combined.coords.to_dataset())
    assert (int(found["x"][0]), int(found["y"][0])) == (TRIM.x0, TRIM.y0)
    header = fits.getheader(master)
    assert (found.attrs["NCOMBINE"], found.attrs["ISMASTER"]) == (N, 1)
    assert found.attrs["DATE-OBS"] == header["DATE-OBS"]
    assert not {"BITPIX", "CHECKSUM", "NAXIS1"} & set(found.attrs)
    with count_bytes() as read:
        assert xr.open_dataset(master)["data"][4:6, 3].values.shape == (2,)
    assert read.bytes == 2 * TRIM.shape[1] * 4


def test_a_master_and_a_combination_are_ccddata_and_back(master, stack, calibration):
    ours = xr.open_dataset(master).mf.to_ccddata()
    theirs = CCDData.read(master)
    combined = stack.mf.combine(Recipe(planes=("rejlow",)), calibration).mf.to_ccddata()
    for ccd in (ours, combined):
        np.testing.assert_array_equal(ccd.data, theirs.data)
        np.testing.assert_array_equal(ccd.uncertainty.array, theirs.uncertainty.array)
        np.testing.assert_array_equal(ccd.mask, theirs.mask)
        assert ccd.unit == theirs.unit == "adu"
        assert ccd.uncertainty.uncertainty_type == theirs.uncertainty.uncertainty_type == "std"
        assert ccd.header["NCOMBINE"] == N
    assert theirs.mask.any()
    assert not theirs.mask.all()
    back = mf.from_ccddata([combined])
    assert back["data"].shape == (1, *TRIM.shape)
    again = back.isel(frame=0).mf.to_ccddata()
    np.testing.assert_array_equal(again.data, combined.data)
    np.testing.assert_array_equal(again.mask, combined.mask)
    np.testing.assert_array_equal(again.uncertainty.array, combined.uncertainty.array)


def test_ccddata_become_a_stack(stack):
    rng = np.random.default_rng(2)
    hidden = rng.random(SHAPE) < 0.1
    frames = [
        CCDData(
            VALUES[k],
            unit="adu",
            mask=hidden[k] if k else None,
            uncertainty=StdDevUncertainty(np.full(SHAPE[1:], 7.0)),
            header={"EXPTIME": EXPTIMES[k], "DATE-OBS": f"2026-03-04T05:00:{k:02d}"},
        )
        for k in range(N)
    ]
    hidden[0] = False
    found = mf.from_ccddata(frames)
    assert list(found["exptime"].values) == list(EXPTIMES)
    assert found["data"].attrs["units"] == "adu"
    planes = found["data"].mf.combine(masks=found["mask"])
    expected = mf.combine_stack(stack, masks=da.from_array(hidden)).dataset
    for name in ("data", "uncert", "mask", "count"):
        np.testing.assert_array_equal(planes[name], expected[name], name)
    judged = found["data"].mf.combine(reject="varclip", uncertainties=found["uncert"])
    assert int((judged["count"] < N).sum()) > 0
    frames[3].uncertainty = None
    with pytest.raises(UsageError, match="some of the CCDData have an uncertainty"):
        mf.from_ccddata(frames)
    with pytest.raises(UsageError, match="CCDData 1 is 2 x 3 in adu, the first is 50 x 37"):
        mf.from_ccddata([frames[0], CCDData(np.zeros((2, 3)), unit="adu")])
    with pytest.raises(UsageError, match="no CCDData"):
        mf.from_ccddata([])
    with pytest.raises(UsageError, match="here is counts"):
        stack.to_dataset().mf.to_ccddata()


# ---- choosing and cutting


def test_frames_that_are_not_chosen_are_not_read(stack):
    chosen = {
        "mask": stack[FILTERS == "R"],
        "where": stack.where(stack["filter"] == "R", drop=True),
        "list after slice": stack[1:][::2],
        "isel": stack.isel(frame=[7, 1, 5, 3], x=slice(3, 9)),
        "sel": stack.swap_dims(frame="filter").sel(filter="R"),
    }
    for name, frames in chosen.items():
        with count_bytes() as read:
            assert frames.values.sum() > 0
        assert read.bytes == 4 * ROWS * frames.sizes["x"] * 2, name


def test_frames_are_chosen_by_plain_xarray(stack):
    by_time = stack.swap_dims(frame="time")
    between = by_time.sel(time=slice("2026-03-04T05:00:02", "2026-03-04T05:00:06"))
    expected = mf.combine_stack(stack[2:7]).dataset
    for chosen in (
        between,
        stack.where((stack["exptime"] >= 12) & (stack["exptime"] <= 16), drop=True),
        stack.set_xindex("exptime").sel(exptime=slice(12, 16)),
        stack.transpose("y", "x", "frame")[..., 2:7],
        xr.concat([stack[2:4], stack[4:7]], "frame"),
        stack[[6, 2, 5, 3, 4]],
    ):
        found = chosen.mf.combine()
        for name in ("data", "uncert", "mask", "count"):
            np.testing.assert_array_equal(found[name], expected[name], name)
    with pytest.raises(
        UsageError, match=r"this array has \('y', 'x'\): choose frames with a slice"
    ):
        stack[0].mf.combine()


CUTS = {
    "rows": np.s_[:, 11:30, :],
    "rows and columns": np.s_[:, 7:20, 9:25],
    "one pixel": np.s_[:, 21:22, 9:10],
    "over the edge": np.s_[:, :9, 20:],
}


@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)
def test_a_cut_out_combines_to_the_cut_of_the_combination(stack, calibration, cut):
    """To the bit, the masters and the noise floor included, which a few pixels do not tell."""
    recipe = Recipe(Rejection(low=2.0, high=2.0), noise=Noise(gain=1.3, read_noise=3.0))
    whole = stack.mf.combine(recipe, calibration).compute()
    part = stack[cut].mf.combine(recipe, calibration)
    expected = whole.sel(y=slice(*part["y"].values[[0, -1]]), x=slice(*part["x"].values[[0, -1]]))
    xr.testing.assert_identical(part.compute(), expected)
    assert expected["count"].values.min() < N or "one pixel"
    calibrated = stack[cut].mf.calibrated(calibration, recipe)
    values = stack.mf.calibrated(calibration, recipe).sel(y=part["y"], x=part["x"])
    np.testing.assert_array_equal(calibrated, values)
    np.testing.assert_array_equal(calibrated.mf.combine(recipe)["data"], expected["data"])
    told = stack[cut].mf.explain(0, 0, recipe, calibration)
    assert told.combined.data == float(expected["data"][0, 0])
    assert (told.raw_x, told.raw_y) == (int(part["x"][0]), int(part["y"][0]))


def test_a_cut_out_has_the_step_of_its_frames(tmp_path):
    """A camera that counts by fours: five values of one pixel may all differ by eights."""
    values = (raw_frames((5, 16, 9), seed=4) // 8) * 8
    values[:, 3] += (np.arange(9) % 2 * 4).astype(np.uint16)
    stack = mf.open_stack(write_frames(tmp_path, values))
    whole, one = stack.mf.combine().compute(), stack[:, 7:8, 4:5].mf.combine()
    assert set(np.diff(values[:, 7, 4].astype(int)) % 8) == {0}
    xr.testing.assert_identical(one.compute(), whole.isel(y=slice(7, 8), x=slice(4, 5)))


def test_rows_left_out_are_combined_but_not_calibrated(stack, calibration):
    every = stack[:, ::3, ::2]
    with count_bytes() as read:
        found = every.mf.combine(reject="none", noise_floor=0).compute()
    np.testing.assert_allclose(found["data"], VALUES[:, ::3, ::2].mean(0), rtol=1e-6)
    assert read.bytes >= N * 17 * ROW_BYTES
    with pytest.raises(UsageError, match="leaves out some places along y"):
        every.mf.combine(calibration=calibration)


def test_a_calibration_must_be_that_of_the_frames(stack, calibration):
    with pytest.raises(UsageError, match=r"bias .*bias\.fits is 45 x 30 .* frames are 50 x 37"):
        stack.mf.combine(calibration=replace(calibration, trim=None))
    overscan = replace(calibration, overscan=OVERSCAN)
    rows = stack[:, 5:20].mf.calibrated(overscan)
    np.testing.assert_array_equal(rows, stack.mf.calibrated(overscan)[:, 3:18])
    with pytest.raises(
        UsageError, match="columns 0 to 36 of the frames lack the overscan, 34 to 37"
    ):
        stack[:, :, :36].mf.calibrated(overscan)
    with pytest.raises(UsageError, match="cut to pixels that the calibration trims away"):
        stack[:, :, :2].mf.combine(calibration=calibration)


def test_arrays_without_files(stack):
    """Values that a user made: any Dask array, numpy, integers or floats."""
    made = xr.DataArray(da.from_array(VALUES, chunks=(2, 13, -1)), dims=("frame", "y", "x"))
    recipe = Recipe(noise=Noise(step=1.0))
    expected = stack.mf.combine(recipe)
    for array in (made, made.compute(), xr.DataArray(VALUES)):
        found = array.mf.combine(recipe)
        for name in found:
            np.testing.assert_array_equal(found[name], expected[name], name)
    np.testing.assert_array_equal(made.mf.preview(10, frames=3), VALUES[[0, 4, 8], 2::5, 2::5])


def test_values_of_another_scale_have_no_known_step(stack):
    """Attributes outlive arithmetic; a floor of 0.74 would keep all values of about 1."""
    level = stack.mean(("y", "x"))
    with xr.set_options(keep_attrs=True):
        relative = stack / level
    found = relative.mf.combine().compute()
    assert int((found["count"] < N).sum()) > 0.05 * ROWS * COLUMNS
    explicit = relative.mf.combine(noise_floor=0)
    np.testing.assert_array_equal(found["count"], explicit["count"])


def test_a_real_night_is_chosen_by_its_filter():
    """EFOSC2 writes ESO's long keywords: images by filter and object, and the sky in them."""
    night = opened(str(shared("data/efosc2") / "*.fits"), chunks={})["counts"]
    quasar = night[(night["filter"] == "g#782") & (night["object"] == "Q1010-0100")]
    assert set(quasar["imagetyp"].values) == {"OBJECT"}
    assert len(quasar) == 3
    np.testing.assert_allclose(quasar["exptime"], 180, atol=0.01)
    sky = np.median(quasar.mf.preview(pixels=64, how="bin"), axis=(1, 2))
    np.testing.assert_allclose(sky, np.median(quasar, axis=(1, 2)), rtol=0.01)


# ---- options in place of a recipe


def test_options_are_those_of_the_command_line(stack):
    recipe = Recipe(
        Rejection("sigma", low=3.0, high=np.inf, max_iters="all"),
        "median",
        Noise(gain=1.5, read_noise=4.0),
        dtype="float64",
        planes=("rejlow",),
    )
    found = stack.mf.combine(
        low=3,
        high="off",
        max_iters="all",
        estimator="median",
        gain=1.5,
        read_noise=4,
        dtype="float64",
        planes=["rejlow"],
    )
    xr.testing.assert_identical(found.compute(), stack.mf.combine(recipe).compute())
    assert stack.mf.explain(3, 4, low=3).recipe.rejection.low == 3


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda s: s.mf.combine(rejct="sigma"), "option rejct is unknown: did you mean reject"),
        (lambda s: s.mf.combine(reject="sgima"), "sgima is unknown: did you mean sigma"),
        (lambda s: s.mf.combine(gain="GAIN"), "gain 'GAIN' is no number"),
        (lambda s: s.mf.combine(Recipe(), low=3), "a recipe or options, not both: low"),
        (lambda s: s.mf.calibrated(), "give a Calibration or its parts"),
        (lambda s: s.mf.calibrated("bias.fits"), "a Calibration is wanted, not str"),
        (lambda s: s.mf.calibrated(biass="b.fits"), "part biass is unknown: did you mean bias"),
        (lambda s: s.mf.calibrated(bias=3), "bias is the path of a master, not int"),
        (lambda s: s.mf.calibrated(trim="2:4"), "trim 2:4 is no section"),
        (lambda s: s.mf.preview(how="bni"), "how bni is unknown: did you mean bin"),
        (lambda s: s.mf.preview(pixels=0), "pixels 0"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_said(stack, call, said):
    with pytest.raises(UsageError, match=said):
        call(stack)


# ---- looking


def test_a_preview_of_low_bands_opens_each_file_once(tmp_path):
    """One task a band would open every file as often as there are bands: 12 times the time."""
    values = raw_frames((5, 96, 130))
    stack = mf.open_stack(write_frames(tmp_path, values), rows=2)
    small = stack.mf.preview(pixels=33)
    assert len(small.chunks[1]) == 1 < len(stack.chunks[1])
    np.testing.assert_array_equal(small, values[:, 2::4, 2::4])


def test_a_preview_reads_a_fraction(tmp_path):
    values = raw_frames((12, 96, 130))
    stack = mf.open_stack(write_frames(tmp_path, values))
    chosen = [0, 4, 7, 11]  # four of twelve, evenly
    with count_bytes() as read:
        small = stack.mf.preview(pixels=26, frames=4)
        assert read.bytes == 0
        np.testing.assert_array_equal(small, values[chosen][:, 2::5, 2::5])
    assert read.bytes == 4 * 19 * 130 * 2
    assert list(small["path"].values) == list(stack["path"].values[chosen])
    assert list(small["x"].values[:3]) == [2, 7, 12]
    with count_bytes() as read:
        binned = stack.mf.preview(pixels=26, how="bin", frames=4)
        expected = values[chosen][:, 2::5].reshape(4, 19, 26, 5).mean(3, dtype=float)
        np.testing.assert_allclose(binned, expected, rtol=1e-7)
    assert read.bytes == 4 * 19 * 130 * 2
    holes = stack.where(stack["x"] != 4).mf.preview(pixels=26, how="bin", frames=1)
    np.testing.assert_allclose(holes[0, :, 0], values[0, 2::5, :4].mean(1, dtype=float), rtol=1e-7)
    assert stack.mf.preview(pixels=4096, frames=None).shape == values.shape


def test_many_large_frames_are_shown_cheaply(tmp_path):
    """2 000 frames of 4096 x 4096, a header and a hole each: nothing is read to show them."""
    header = fits.PrimaryHDU(np.zeros((1, 1), np.int16)).header
    header["NAXIS1"] = header["NAXIS2"] = 4096
    header["BZERO"] = 32768
    path = tmp_path / "sparse.fits"
    path.write_text(header.tostring(padding=True))
    os.truncate(path, path.stat().st_size + -(-4096 * 4096 * 2 // 2880) * 2880)
    links = [tmp_path / f"{k:04d}.fits" for k in range(2000)]
    for link in links:
        os.link(path, link)
    with count_bytes() as read:
        stack = mf.open_stack(links)
        shown = repr(stack), stack._repr_html_(), repr(stack.mf.combine())
    assert read.bytes == 0
    assert max(map(len, shown)) < 100_000
    assert stack.data.npartitions <= 4096
    assert len(stack.__dask_graph__()) < 2 * stack.data.npartitions + 10
    assert len(pickle.dumps(stack)) < 2000 * 800
    with count_bytes() as read:
        small = stack.mf.preview(pixels=256, frames=5).compute()
    assert small.shape == (5, 256, 256)
    assert (small == 32768).all()
    assert read.bytes == 5 * 256 * 4096 * 2  # a sixteenth of five frames


# ---- storing


def test_a_combination_goes_to_zarr_and_back(stack, calibration, tmp_path):
    planes = stack.mf.combine(Recipe(planes=("rejlow", "exposure")), calibration)
    with count_bytes() as read:
        planes.to_zarr(tmp_path / "planes.zarr", zarr_format=2)
    back = xr.open_zarr(tmp_path / "planes.zarr", chunks=None)
    xr.testing.assert_identical(back.load(), planes.compute())
    raw = TRIM.shape[0] * ROW_BYTES * N
    step = 5 * 13 * ROW_BYTES  # every second frame, every fourth row
    bad = TRIM.shape[0] * COLUMNS
    a_pixel_of_masters = (4 + 4) + (4 + 4) + (4 + 1 + 4)  # each plane once; the flat has a mask
    assert read.bytes == raw + step + bad + a_pixel_of_masters * TRIM.shape[0] * TRIM.shape[1]


def test_a_calibrated_stack_is_stored_shown_and_compared(stack, calibration, tmp_path, paths):
    """It knows the step of its raw values without a task among its attributes."""
    recipe = Recipe(Rejection(low=2.0, high=2.0))
    with count_bytes() as read:
        lazy = stack.mf.calibrated(calibration)
        assert "step" in repr(lazy)
        assert pickle.loads(pickle.dumps(lazy)).shape == lazy.shape
        lazy[:, 3, 4].to_dataset(name="pixel")
    assert read.bytes == 0
    assert all(isinstance(value, str | int | float | list) for value in lazy.attrs.values())
    lazy.to_dataset(name="light").to_zarr(tmp_path / "light.zarr", zarr_format=2)
    back = xr.open_zarr(tmp_path / "light.zarr")["light"]
    xr.testing.assert_identical(back.compute(), lazy.compute().rename("light"))
    expected = stack.mf.combine(recipe, calibration)
    assert float(back["step"]) == 1.0
    for kept in (lazy, back, lazy.compute(), xr.concat([lazy[:4], lazy[4:]], "frame")):
        found = kept.mf.combine(recipe)
        np.testing.assert_array_equal(found["data"], expected["data"])
        np.testing.assert_array_equal(found["count"], expected["count"])


def test_a_stack_outlives_its_files_in_zarr(tmp_path):
    paths = write_frames(tmp_path / "raw", VALUES)
    stack = mf.open_stack(paths)
    expected = stack.mf.combine().compute()
    stack.to_dataset().to_zarr(tmp_path / "raw.zarr", zarr_format=2)
    shutil.rmtree(tmp_path / "raw")
    found = xr.open_zarr(tmp_path / "raw.zarr")["counts"].mf.combine()
    np.testing.assert_array_equal(found["data"], expected["data"])
    with pytest.raises(FrameError, match=r"frame_0000\.fits: no such file"):
        stack.mf.combine().compute()


def test_masters_of_what_became_of_a_stack(stack, tmp_path):
    """Chosen frames are those of their files; a calibrated stack keeps its step and its scale."""
    chosen = stack.swap_dims(frame="time")[FILTERS == "R"]
    mf.write_master(tmp_path / "chosen.fits", chosen)
    expected = chosen.mf.combine()
    with fits.open(tmp_path / "chosen.fits") as hdus:
        np.testing.assert_array_equal(hdus[0].data, expected["data"])
        np.testing.assert_array_equal(hdus["COUNT"].data, expected["count"])
        names = [Path(path).name for path in hdus["INPUTS"].data["PATH"]]
    assert names == [f"frame_{k:04d}.fits" for k in (1, 3, 5, 7)]
    assert not read_records(tmp_path / "chosen.fits")[""].changed

    dim = stack.where(stack < 800)
    mf.write_master(tmp_path / "dim.fits", dim, Recipe(Rejection(low=1.0, high=1.0)))
    expected = dim.mf.combine(low=1, high=1)
    np.testing.assert_array_equal(fits.getdata(tmp_path / "dim.fits", "COUNT"), expected["count"])

    lit = stack.mf.calibrated(bias=tmp_path / "chosen.fits", scale=(3.0,) * N)
    mf.write_master(tmp_path / "lit.fits", lit, Recipe(Rejection(low=2.0, high=2.0)))
    expected = lit.mf.combine(low=2, high=2)
    np.testing.assert_array_equal(fits.getdata(tmp_path / "lit.fits"), expected["data"])
    np.testing.assert_array_equal(fits.getdata(tmp_path / "lit.fits", "COUNT"), expected["count"])
    assert int((expected["count"] < N).sum()) > 0
    with pytest.raises(UsageError, match="no coordinates path and hdu"):
        mf.write_master(tmp_path / "none.fits", stack.drop_vars("path"))
