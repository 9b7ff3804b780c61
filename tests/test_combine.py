"""Combining stacks: against brute force, from one read, and with the same bits whatever the way."""

import itertools
import math
import os
import re
from dataclasses import replace
from pathlib import Path

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
from astropy.io import fits
from dask.callbacks import Callback

import masterframe as mf
from masterframe import cell, combine, direct, kernels, store
from masterframe.errors import MemoryLimitError, StorageError, UsageError
from masterframe.fits import masters
from masterframe.kernels import Floor, LoadTerms
from masterframe.model import (
    Calibration,
    MaskBit,
    MasterImage,
    Noise,
    Recipe,
    Rejection,
    Section,
)
from masterframe.quantiles import MAD_TO_SIGMA
from masterframe.request import read_options
from masterframe.tiling import Tiling, parse_bytes
from stacks import count_bytes, raw_frames, write_frames
from twins import KEPT
from twins import combine as twin

N, ROWS, COLUMNS = SHAPE = (9, 26, 31)
VALUES = raw_frames(SHAPE, seed=3)
NO_FLOOR = Noise(floor=0.0, step=1.0)
ALL_PLANES = ("rejlow", "rejhigh")


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    return write_frames(tmp_path_factory.mktemp("combine"), VALUES)


@pytest.fixture(scope="module")
def stack(paths):
    return mf.open_stack(paths, rows=4)


def brute_force(values, recipe, floor=None, terms=None):
    """Combine by the slow twin, in the given order."""
    floor = floor or Floor(0.0, 0.0, 0.0, recipe.noise.step)
    rank = np.arange(len(values))
    return twin(values, terms or LoadTerms(), recipe, floor, rank, np.dtype(recipe.dtype).type)


def assert_planes_equal(planes, expected):
    np.testing.assert_array_equal(planes["count"], expected.count)
    np.testing.assert_array_equal(planes["rejlow"], expected.low)
    np.testing.assert_array_equal(planes["rejhigh"], expected.high)
    np.testing.assert_allclose(planes["data"], expected.data, rtol=2e-7)
    np.testing.assert_allclose(planes["uncert"], expected.uncert, rtol=3e-7)


RECIPES = [
    Recipe(noise=NO_FLOOR),
    Recipe(Rejection(max_iters="all", low=3.0, high=2.5), noise=NO_FLOOR),
    Recipe(
        Rejection(center="mean", deviation="std", ddof=1, low=2.0, high=math.inf), noise=NO_FLOOR
    ),
    Recipe(Rejection("minmax", nlow=1, nhigh=2), "median", noise=NO_FLOOR),
    Recipe(Rejection("none"), "sum", noise=NO_FLOOR, dtype="float64"),
    Recipe(Rejection("threshold", low=480.0, high=505.0), noise=NO_FLOOR),
]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda r: f"{r.rejection.rule}-{r.estimator}")
def test_planes_equal_brute_force(stack, recipe):
    recipe = replace(recipe, planes=ALL_PLANES)
    terms = LoadTerms()
    if recipe.rejection.rule == "threshold":
        terms = LoadTerms(raw_low=480.0, raw_high=505.0)
    planes = mf.combine_stack(stack, recipe).dataset.compute()
    assert_planes_equal(planes, brute_force(VALUES, recipe, terms=terms))
    assert planes.data.dtype == recipe.dtype
    assert not planes["mask"].any() or recipe.rejection.rule == "threshold"


class Started(Callback):
    """Counts the tasks that begin, by the name that the dashboard shows."""

    def __init__(self):
        self.keys = []
        super().__init__(pretask=lambda key, *_: self.keys.append(str(key)))


def test_all_planes_come_from_one_task_a_band_and_one_read(stack):
    planes = stack.mf.combine(Recipe(noise=NO_FLOOR, planes=ALL_PLANES))
    with count_bytes() as read, Started() as tasks:
        computed = planes.compute(scheduler="synchronous")
    assert set(computed) == {"data", "uncert", "mask", "count", "rejlow", "rejhigh"}
    assert read.bytes == N * ROWS * COLUMNS * 2
    bands = [key for key in tasks.keys if key.startswith("('mf-combine")]  # fused: one task
    assert len(bands) == len(stack.chunks[1])


def test_the_noise_floor_samples_few_rows(tmp_path):
    values = raw_frames((12, 160, 11))
    stack = mf.open_stack(write_frames(tmp_path, values))
    with count_bytes() as read:
        stack.mf.combine().compute()
    sampled = 6 * 16 * 11 * 2  # every second frame, every tenth row
    assert read.bytes == values.nbytes + sampled


@pytest.mark.parametrize("cut", [(3, -1, 5), (N, 7, COLUMNS), (1, 26, 31)])
def test_chunks_make_no_difference(stack, cut):
    recipe = Recipe(planes=ALL_PLANES)
    expected = stack.mf.combine(recipe).compute()
    xr.testing.assert_identical(
        stack.chunk(dict(zip(["frame", "y", "x"], cut, strict=True))).mf.combine(recipe).compute(),
        expected,
    )
    in_memory = stack.compute()
    xr.testing.assert_identical(in_memory.mf.combine(recipe).compute(), expected)


def test_the_order_given_makes_no_difference(stack, paths):
    recipe = Recipe(Rejection("minmax", nlow=2, nhigh=2), dtype="float64", planes=ALL_PLANES)
    expected = stack.mf.combine(recipe).compute()
    shuffled = np.random.default_rng(5).permutation(paths)
    xr.testing.assert_identical(mf.open_stack(shuffled).mf.combine(recipe).compute(), expected)


def test_quantised_values_are_kept_by_the_floor(tmp_path):
    """A camera of 14 bits whose values are multiples of 4: the MAD is 0 in most pixels."""
    values = (np.random.default_rng(11).normal(300, 1.7, SHAPE) / 4).round() * 4
    values[2, 4, 5] = 600
    stack = mf.open_stack(write_frames(tmp_path, values.astype(np.uint16)))
    assert combine.quantisation_step(stack).compute() == 4
    quantum = Floor(MAD_TO_SIGMA * 2, 0.0, 0.0, 4.0)
    recipe = Recipe(planes=ALL_PLANES)
    found = stack.mf.combine(recipe).compute()
    assert_planes_equal(found, brute_force(values, recipe, quantum))
    assert found.rejhigh.sum() == 1
    off = stack.mf.combine(replace(recipe, noise=Noise(floor=0.0))).compute()
    assert (off.rejhigh + off.rejlow).sum() > values.size * 0.05
    assert found.uncert.values[found["count"] == N].min() == pytest.approx(4 / (12 * N) ** 0.5)


def test_scaled_integers_have_the_step_of_their_scale(tmp_path):
    stored = VALUES.astype(np.int16)
    paths = write_frames(tmp_path, stored)
    for path in paths:
        with fits.open(path, mode="update", do_not_scale_image_data=True) as hdus:
            hdus[0].header["BSCALE"] = 0.5
    stack = mf.open_stack(paths)
    assert stack.dtype == np.float32
    assert combine.quantisation_step(stack).compute() == 0.5
    assert mf.write_master(tmp_path / "m.fits", stack).n_frames == N
    planes = stack.mf.combine().compute()
    np.testing.assert_array_equal(fits.getdata(tmp_path / "m.fits", "COUNT"), planes["count"])


def test_gain_and_read_noise_set_the_floor():
    noise = Noise(gain=2.0, read_noise=6.0)
    assert cell.noise_floor(noise, 1.0) == Floor(MAD_TO_SIGMA / 2, 0.0, 9.0, 1.0)
    scaled = cell.noise_floor(noise, 1.0, (0.1, 0.2, 0.6), above_bias=True)
    assert scaled == pytest.approx(Floor(MAD_TO_SIGMA * 0.1, 0.1, 0.36, 0.2))
    given = cell.noise_floor(Noise(floor=3.0, gain=2.0, read_noise=6.0), 4.0)
    assert given == Floor(3.0, 0.0, 0.0, 4.0)


def test_masked_bad_and_saturated_values_are_left_out(tmp_path, stack):
    values = VALUES.copy()
    values[:, 3, 4] = 60000
    values[:5, 7, 8] = 60000
    masks = np.zeros(SHAPE, bool)
    masks[[1, 6], 10, 11] = True
    masks[:, 12, 13] = True
    bad = np.zeros((ROWS, COLUMNS), np.uint8)
    bad[20, 21] = 1
    fits.PrimaryHDU(bad).writeto(tmp_path / "bad.fits")
    calibration = Calibration(bad_pixels=masters.open_master(tmp_path / "bad.fits")[""])
    recipe = Recipe(noise=NO_FLOOR, saturation=50000.0, min_kept=6, planes=ALL_PLANES)
    lazy = mf.open_stack(write_frames(tmp_path / "night", values), rows=5)
    found = combine.combine_stack(
        lazy, recipe, calibration, masks=da.from_array(masks, chunks=(2, 13, 8))
    ).dataset.compute()
    terms = LoadTerms(bad=bad > 0, frame_mask=masks, saturation=50000.0)
    assert_planes_equal(found, brute_force(values, recipe, terms=terms))
    bits = found["mask"].values
    assert bits[3, 4] == MaskBit.NO_VALUE | MaskBit.SATURATED
    assert bits[7, 8] == MaskBit.FEW_KEPT
    assert found["count"].values[10, 11] <= N - 2
    assert bits[12, 13] == MaskBit.NO_VALUE
    assert bits[20, 21] == MaskBit.NO_VALUE | MaskBit.BAD
    assert np.isnan(found.data.values[bits & MaskBit.NO_VALUE > 0]).all()
    assert np.count_nonzero(bits) == 4 + np.count_nonzero(found["count"].values[bits == 32]) - 1


def test_masks_must_fit(stack):
    with pytest.raises(UsageError, match=r"masks have shape \(9, 26, 30\), the stack \(9, 26, 31"):
        mf.combine_stack(stack, masks=da.zeros((N, ROWS, COLUMNS - 1), dtype=bool))


def test_unknown_rules_are_refused_before_anything_is_read(stack):
    with pytest.raises(UsageError, match="did you mean sigma"):
        stack.mf.combine(Recipe(Rejection("sgima")))


TRIM = Section(2, 2 + 21, 3, 3 + 24)
OVERSCAN = Section(0, ROWS, 27, COLUMNS)


@pytest.fixture(scope="module")
def calibration(tmp_path_factory):
    """Masters with uncertainties, a mask in the flat, bad pixels of the raw shape, and factors."""
    folder = tmp_path_factory.mktemp("masters")
    rng = np.random.default_rng(8)

    def master(name, level, spread, mask=None):
        data = rng.normal(level, spread, TRIM.shape).astype(np.float32)
        uncert = np.abs(rng.normal(0, spread / 2, TRIM.shape)).astype(np.float32)
        hdus = [fits.PrimaryHDU(data), fits.ImageHDU(uncert, name="UNCERT")]
        if mask is not None:
            hdus.append(fits.ImageHDU(mask, name="MASK"))
        fits.HDUList(hdus).writeto(folder / f"{name}.fits")
        return masters.open_master(folder / f"{name}.fits")[""]

    flat_mask = np.zeros(TRIM.shape, np.uint8)
    flat_mask[6, 7] = MaskBit.FLAT_LOW
    bad = np.zeros((ROWS, COLUMNS), np.uint8)
    bad[11, 13] = 1
    fits.PrimaryHDU(bad).writeto(folder / "bad.fits")
    return Calibration(
        overscan=OVERSCAN,
        trim=TRIM,
        bias=master("bias", 3.0, 0.5),
        dark=master("dark", 8.0, 1.0),
        dark_ratio=tuple(np.linspace(0.5, 1.3, N)),
        flat=master("flat", 1.0, 0.03, flat_mask),
        scale=tuple(np.linspace(0.9, 1.2, N)),
        zero=tuple(np.linspace(-3, 4, N)),
        bad_pixels=masters.open_master(folder / "bad.fits")[""],
    )


def plain(image: MasterImage, plane: str = "data"):
    frame = getattr(image, plane)
    return fits.getdata(frame.path, frame.hdu).astype(float)


def by_hand(values, calibration):
    """Calibrate in float64 by the formula of the design."""
    t = TRIM
    level = np.median(values[:, :, OVERSCAN.x0 : OVERSCAN.x1].astype(float), axis=2)
    kept = values.astype(float)[:, t.y0 : t.y1, t.x0 : t.x1] - level[:, t.y0 : t.y1, None]
    ratio, scale, zero = (
        np.array(getattr(calibration, name))[:, None, None]
        for name in ("dark_ratio", "scale", "zero")
    )
    flat = np.where(plain(calibration.flat, "mask") > 0, 1, plain(calibration.flat))
    kept = (kept - plain(calibration.bias) - ratio * plain(calibration.dark)) / flat
    return kept * scale + zero


def test_calibrated_values_follow_the_formula(stack, calibration):
    recipe = Recipe(dtype="float64", saturation=1300.0)
    found = stack.mf.calibrated(calibration, recipe)
    assert (found.shape, found.dtype) == ((N, 21, 24), np.float64)
    expected = by_hand(VALUES, calibration)
    expected[VALUES[:, 2:23, 3:27] >= 1300] = np.nan
    expected[:, 11 - 2, 13 - 3] = np.nan
    np.testing.assert_allclose(found.compute(), expected, rtol=1e-12)
    assert "mf-calibrate" in found.data.name
    assert list(found.path.values) == list(stack.path.values)


def test_calibrated_slices_are_those_of_the_whole(stack, calibration):
    found = stack.mf.calibrated(calibration)
    whole = found.values
    np.testing.assert_array_equal(found[4].values, whole[4])
    with count_bytes() as read:
        np.testing.assert_array_equal(found[:, 9:15, 20].values, whole[:, 9:15, 20])
    assert read.bytes < N * ROWS * COLUMNS * 2


RAW = {
    "uint16": (VALUES, 1390.0),
    "int32": (VALUES.astype(np.int32) * 1000, 1.39e6),
    "float32": (np.where(VALUES == 500, np.nan, VALUES / 3).astype(np.float32), 463.0),
}
"""Raw values of several types, each with its saturation."""


@pytest.mark.parametrize(
    ("kind", "dtype"), [*itertools.product(RAW, ["float32"]), ("uint16", "float64")]
)
def test_combining_raw_or_calibrated_gives_the_same_bits(tmp_path, calibration, kind, dtype):
    values, saturation = RAW[kind]
    stack = mf.open_stack(write_frames(tmp_path, values), rows=6)
    for noise, rejection in [
        (Noise(gain=1.7, read_noise=4.0), Rejection()),
        (Noise(), Rejection(max_iters="all", low=2.0, high=2.0)),
        (Noise(floor=0.0), Rejection("minmax", nlow=1, nhigh=2)),
    ]:
        recipe = Recipe(
            rejection, noise=noise, saturation=saturation, dtype=dtype, planes=ALL_PLANES
        )
        direct_ = stack.mf.combine(recipe, calibration).compute()
        after = stack.mf.calibrated(calibration, recipe).chunk({"y": 5}).mf.combine(recipe)
        for plane in ("data", "count", "rejlow", "rejhigh"):
            np.testing.assert_array_equal(after[plane].values, direct_[plane].values, plane)
        assert 0 < direct_["count"].values.sum() < N * 21 * 24


def test_uncertainty_is_that_of_the_scatter_and_of_the_masters(stack, calibration):
    """DESIGN 3: s^2 / n of the kept values, plus the variance that all frames share."""
    recipe = Recipe(Rejection("none"), noise=Noise(floor=0.0, step=1e-9), dtype="float64")
    found = stack.mf.combine(recipe, calibration).compute()
    values = by_hand(VALUES, calibration)
    expected = np.sqrt(values.var(0, ddof=1) / N + of_masters(values.mean(0), calibration))
    good = found["mask"].values == 0
    assert good.sum() == good.size - 1
    np.testing.assert_allclose(found.uncert.values[good], expected[good], rtol=1e-6)


def of_masters(data, calibration):
    """The variance that the masters bring into combined values, by the formula of the design."""
    scale, ratio = np.array(calibration.scale), np.array(calibration.dark_ratio)
    flat = np.where(plain(calibration.flat, "mask") > 0, 1, plain(calibration.flat))
    shared = np.mean(scale) ** 2 * plain(calibration.bias, "uncert") ** 2
    shared += np.mean(scale * ratio) ** 2 * plain(calibration.dark, "uncert") ** 2
    return shared / flat**2 + (data * plain(calibration.flat, "uncert") / flat) ** 2


def of_rounding(steps):
    """The variance (steps squared) of rounding that frames share, of noise of so many steps."""
    k = np.arange(1, 400)[:, None, None]
    return (np.exp(-((2 * np.pi * k * steps) ** 2)) / (2 * (np.pi * k) ** 2)).sum(axis=0)


def test_one_calibrated_frame_has_that_of_its_electrons_of_the_masters_and_of_rounding(
    stack, calibration
):
    gain, read_noise, step, scale = 2.0, 5.0, 90.0, 1.2
    one = replace(calibration, dark_ratio=(0.7,), scale=(scale,), zero=(4.0,))
    recipe = Recipe(Rejection("none"), noise=Noise(0.0, step, gain, read_noise), dtype="float64")
    found = stack[:1].mf.combine(recipe, one).compute()
    (values,) = by_hand(VALUES[:1], one)
    variance = (gain * np.maximum(values / scale, 0) + read_noise**2) / gain**2
    rounding = (step * scale) ** 2 * of_rounding(np.sqrt(variance) / step)
    assert rounding.max() > 0.1 * of_masters(values, one).min()
    expected = np.sqrt(variance * scale**2 + of_masters(values, one) + rounding)
    good = found["count"].values == 1
    assert good.sum() == good.size - 1
    np.testing.assert_allclose(found.uncert.values[good], expected[good], rtol=1e-9)


def test_one_frame_has_the_noise_of_its_electrons(stack):
    noise = Noise(gain=2.0, read_noise=5.0)
    one = stack[:1].mf.combine(Recipe(Rejection("none"), noise=noise)).compute()
    expected = np.sqrt(2.0 * VALUES[0] + 25.0) / 2.0
    np.testing.assert_allclose(one.uncert.values, expected, rtol=1e-6)
    unknown = stack[:1].mf.combine(Recipe(Rejection("none"))).compute()
    assert np.isnan(unknown.uncert.values).all()


@pytest.mark.parametrize(("estimator", "times"), [("mean", 1), ("sum", N)])
@pytest.mark.parametrize("sigma", [0.05, 0.15, 0.3, 0.6, 1.0, 3.0])
def test_rounding_that_frames_share_is_stated_by_their_read_noise(stack, estimator, times, sigma):
    step, gain, k = 4.0, 2.0, np.arange(1, 400)
    known = Noise(floor=0.0, step=step, gain=gain, read_noise=sigma * step * gain)
    stated, measured = (
        stack.mf.combine(Recipe(Rejection("none"), estimator, noise, dtype="float64")).uncert.values
        for noise in (known, Noise(floor=0.0, step=step))
    )
    shared = (np.exp(-((2 * np.pi * k * sigma) ** 2)) / (2 * (np.pi * k) ** 2)).sum()
    expected = (times * step) ** 2 * shared
    np.testing.assert_allclose(stated**2 - measured**2, expected, rtol=1e-6, atol=1e-7)


def test_a_sum_of_hundreds_states_the_error_of_their_bias(tmp_path):
    count, sigma = 300, 0.5
    fits.HDUList(
        [
            fits.PrimaryHDU(np.full((4, 5), 100, np.float32)),
            fits.ImageHDU(np.full((4, 5), sigma, np.float32), name="UNCERT"),
        ]
    ).writeto(tmp_path / "bias.fits")
    bias = masters.open_master(tmp_path / "bias.fits")[""]
    frames = xr.DataArray(np.full((count, 4, 5), 1000, np.uint16), dims=("frame", "y", "x"))
    recipe = Recipe(Rejection("none"), "sum", NO_FLOOR)
    found = mf.combine_stack(frames, recipe, Calibration(bias=bias)).dataset.compute()
    np.testing.assert_array_equal(found["data"], count * 900)
    np.testing.assert_array_equal(found["count"], count)
    expected = math.sqrt((count * sigma) ** 2 + count / 12)  # of the bias, and of the step
    np.testing.assert_allclose(found["uncert"], expected, rtol=1e-6)


def test_the_median_has_its_own_efficiency(stack):
    mean, median = (
        stack.mf.combine(Recipe(Rejection("none"), name, NO_FLOOR)).uncert.values
        for name in ("mean", "median")
    )
    np.testing.assert_allclose(median / mean, float(kernels.efficiencies(N)[N]), rtol=1e-5)


# Files that make_master writes: the same bits whatever the way.

VARIES = {"DATE", "CHECKSUM", "DATASUM", "MFTOKEN"}


def contents(path: Path) -> dict:
    """All that a master holds but for dates, paths and checksums."""
    found = {}
    with fits.open(path) as hdus:
        for hdu in hdus:
            cards = [(c.keyword, c.value, c.comment) for c in hdu.header.cards]
            found[hdu.name] = [card for card in cards if card[0] not in VARIES]
            if isinstance(hdu, fits.BinTableHDU):
                names = [name for name in hdu.columns.names if name not in ("path", "mtime_ns")]
                found[hdu.name].append(
                    repr([hdu.data[name].tolist() for name in names])
                )  # NaN as nan
            else:
                found[hdu.name].append(hdu.data.tobytes())
    return found


OPTIONS = {"gain": "1.5", "read_noise": "9", "planes": "rejlow,rejhigh"}


def combined(files, output, **resources) -> dict:
    request = read_options({**OPTIONS, "files": files, "output": output})
    with store.open_resources(**{"workers": 2, **resources}) as opened:
        direct.combine_files(request, opened)
    return contents(output)


@pytest.fixture(scope="module")
def tall_paths(tmp_path_factory):
    values = raw_frames((8, 150, 37), seed=21)
    return write_frames(tmp_path_factory.mktemp("tall"), values)


@pytest.fixture(scope="module")
def expected(tall_paths, tmp_path_factory):
    return combined(tall_paths, tmp_path_factory.mktemp("one") / "m.fits", workers=1)


def test_the_order_of_files_makes_no_difference(tall_paths, expected, tmp_path):
    assert combined(tall_paths[::-1], tmp_path / "reversed.fits") == expected
    shuffled = [str(path) for path in np.random.default_rng(2).permutation(tall_paths)]
    assert combined(shuffled, tmp_path / "shuffled.fits") == expected


@pytest.mark.parametrize("rows", [1, 7, 64, 150])
def test_the_band_height_makes_no_difference(tall_paths, expected, tmp_path, monkeypatch, rows):
    planned = store.plan_bands

    def cut(*args, **kwargs):
        return replace(planned(*args, **kwargs), rows=rows, bands=-(-150 // rows))

    monkeypatch.setattr("masterframe.store.room.plan_bands", cut)
    assert combined(tall_paths, tmp_path / "m.fits") == expected


@pytest.mark.parametrize("workers", [2, 5])
def test_workers_make_no_difference(tall_paths, expected, tmp_path, workers):
    assert combined(tall_paths, tmp_path / "m.fits", workers=workers) == expected


def test_little_memory_makes_no_difference(tall_paths, expected, tmp_path):
    with pytest.raises(MemoryLimitError, match="need at least") as refused:
        combined(tall_paths, tmp_path / "m.fits", workers=2, memory=10**6)
    needed = parse_bytes(re.search(r"need at least (\S+ [MG]B)", str(refused.value))[1])
    needed += 10**6 if needed < 10**9 else 10**7  # it is told to three digits
    assert combined(tall_paths, tmp_path / "m.fits", workers=2, memory=needed) == expected


def test_processes_make_no_difference(tall_paths, expected, tmp_path):
    assert combined(tall_paths, tmp_path / "m.fits", scheduler="processes") == expected


def test_a_master_of_a_stack_is_that_of_its_files(tall_paths, expected, tmp_path):
    stack = mf.open_stack(tall_paths)
    recipe = Recipe(noise=Noise(gain=1.5, read_noise=9.0), planes=ALL_PLANES)
    mf.write_master(tmp_path / "m.fits", stack, recipe)
    assert contents(tmp_path / "m.fits") == expected
    with pytest.raises(StorageError, match="exists"):
        mf.write_master(tmp_path / "m.fits", stack, recipe)


def table(path, name):
    with fits.open(path) as hdus:
        columns = hdus[name].columns.names
        return {column.upper(): np.array(hdus[name].data[column]) for column in columns}


def test_the_numbers_of_each_frame_equal_brute_force(tmp_path):
    values = VALUES.copy()
    values[3, 2:9, 4:11] = 61000
    values[6] += 40
    paths = write_frames(tmp_path / "raw", values)
    recipe = Recipe(Rejection(low=3.0, high=3.0), noise=NO_FLOOR, saturation=60000.0)
    mf.write_master(tmp_path / "m.fits", mf.open_stack(paths[::-1]), recipe)
    inputs = table(tmp_path / "m.fits", "INPUTS")
    expected = brute_force(values, recipe, terms=LoadTerms(saturation=60000.0))
    for column, code in (("MISSING", 0), ("KEPT", 1), ("REJECTED_LOW", 2), ("REJECTED_HIGH", 3)):
        np.testing.assert_array_equal(inputs[column], (expected.codes == code).sum((1, 2)))
    off = np.where(expected.codes == 1, expected.values - expected.data, np.nan)
    np.testing.assert_allclose(inputs["NOISE"], np.nanstd(off, axis=(1, 2)), rtol=1e-5)
    assert np.argmin(inputs["KEPT"]) == 6
    for path, datasum in zip(inputs["PATH"], inputs["DATASUM"], strict=True):
        with fits.open(path, do_not_scale_image_data=True) as hdus:
            assert datasum == int(hdus[0].add_datasum())


@pytest.mark.parametrize("count", [3, 4, 7])
def test_the_noise_of_a_master_is_that_of_its_mean(tmp_path, count):
    """The halves of an odd number of frames differ by more than the mean of all is noisy."""
    values = np.random.default_rng(count).normal(1000, 20, (count, 211, 197))
    values += np.random.default_rng(0).normal(0, 90, (211, 197))  # what all frames share
    paths = write_frames(tmp_path / "raw", values.astype(np.float32))
    mf.write_master(tmp_path / "m.fits", mf.open_stack(paths), Recipe(Rejection("none")))
    quality = table(tmp_path / "m.fits", "QUALITY")
    noise = dict(zip(quality["NAME"], quality["VALUE"], strict=True))["noise"]
    assert noise == pytest.approx(20 / count**0.5, rel=0.015)


def test_a_master_of_changed_frames(tall_paths, tmp_path):
    stack = mf.open_stack(tall_paths)
    chosen = stack[[5, 1, 2]].astype(np.float32) * 2
    made = mf.write_master(tmp_path / "m.fits", chosen, Recipe(Rejection("none"), "median"))
    assert made.n_frames == 3
    with fits.open(tmp_path / "m.fits") as hdus:
        expected = np.median(stack.values[[1, 2, 5]] * 2.0, axis=0)
        np.testing.assert_array_equal(hdus[0].data, expected)
        listed = [os.path.basename(path) for path in hdus["INPUTS"].data["PATH"]]  # noqa: PTH119
        assert listed == ["frame_0001.fits", "frame_0002.fits", "frame_0005.fits"]
        assert all(hdus["INPUTS"].data["DATASUM"])
    with pytest.raises(UsageError, match=r"the stack is 10 x 37 .* its files 150 x 37"):
        mf.write_master(tmp_path / "cut.fits", stack[:, :10])
    with pytest.raises(UsageError, match="no coordinates path and hdu"):
        mf.write_master(tmp_path / "bare.fits", stack.drop_vars("hdu"))


def test_nothing_is_left_in_dasks_settings(stack):
    assert dask.config.get("scheduler", None) is None


GROWING = Recipe(Rejection(low=2.5, high=2.5, grow=2.3), noise=NO_FLOOR, planes=ALL_PLANES)


@pytest.mark.parametrize("rows", [1, 2, 5, 13])
def test_growth_crosses_the_borders_of_bands(paths, rows):
    """A rejected value takes its neighbours with it, whichever band they are in."""
    whole = mf.open_stack(paths, rows=ROWS).mf.combine(GROWING).compute()
    alone = mf.open_stack(paths, rows=ROWS).mf.combine(
        replace(GROWING, rejection=replace(GROWING.rejection, grow=0.0))
    )
    assert int(whole["count"].sum()) < int(alone["count"].sum())
    bands = mf.open_stack(paths, rows=rows)
    with count_bytes() as read:
        banded = bands.mf.combine(GROWING).compute(scheduler="synchronous")
    for name in whole:
        assert banded[name].values.tobytes() == whole[name].values.tobytes(), name
    margins = 2 * 2 * (-(-ROWS // rows) - 1)  # rows on both sides of each border
    assert read.bytes <= N * (ROWS + margins) * COLUMNS * 2


def test_growth_writes_the_same_master_in_any_bands(paths, tmp_path):
    made = []
    for rows in (3, 26):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                "masterframe.store.master.plan_image", lambda *_, rows=rows: fixed_bands(rows)
            )
            path = tmp_path / f"{rows}.fits"
            mf.write_master(path, mf.open_stack(paths), GROWING)
        made.append(contents(path))
    assert made[0] == made[1]


def fixed_bands(rows):
    return Tiling(rows, COLUMNS, 1, -(-ROWS // rows), 2, 4, 0, N * ROWS * COLUMNS * 2, 0)


NOISE = Noise(floor=0.0, step=1.0, gain=2.0, read_noise=6.0)


def test_propagated_and_exposure_planes(stack):
    recipe = Recipe(Rejection(low=3.0, high=3.0), noise=NOISE, planes=("propagated", "exposure"))
    scale = tuple(np.linspace(0.8, 1.2, N))
    calibration = Calibration(scale=scale, zero=(3.0,) * N)
    times = np.linspace(1, 9, N)
    known = stack.assign_coords(exptime=("frame", times)).assign_attrs(above_bias=1)
    planes = known.mf.combine(recipe, calibration).compute()
    expected = twin(
        VALUES,
        LoadTerms(scale=np.asarray(scale), zero=np.full(N, 3.0)),
        recipe,
        Floor(step=float(np.median(scale))),
        np.arange(N),
        np.float32,
    )
    kept = expected.codes == KEPT
    np.testing.assert_allclose(planes["exposure"], (kept * times[:, None, None]).sum(0), rtol=1e-6)
    f = np.asarray(scale)[:, None, None]
    signal = np.maximum(expected.data - 3.0, 0)
    each = (f * 6.0 / 2.0) ** 2 + f / 2.0 * signal
    propagated = np.sqrt((each * kept).sum(0)) / kept.sum(0)
    np.testing.assert_allclose(planes["propagated"], propagated, rtol=1e-5)


def test_what_nobody_knows_is_asked_for(stack):
    for recipe, said in (
        (Recipe(Rejection("ccd")), "rule ccd needs the noise of each value"),
        (Recipe(Rejection("varclip")), "rule varclip needs the noise of each value: give gain"),
        (Recipe(planes=("propagated",)), "plane propagated needs the noise"),
        (Recipe(planes=("exposure",)), "plane exposure needs the exposure time"),
    ):
        with pytest.raises(UsageError, match=said):
            mf.combine_stack(stack.drop_vars("exptime"), recipe)


def test_values_are_judged_by_their_own_uncertainty(stack):
    rng = np.random.default_rng(6)
    sigma = rng.uniform(1, 40, SHAPE)
    flat_scale = tuple(np.linspace(0.9, 1.1, N))
    recipe = Recipe(Rejection("varclip", low=2.0, high=2.0, max_iters=1), noise=NO_FLOOR)
    combined = combine.combine_stack(
        stack,
        recipe,
        Calibration(scale=flat_scale),
        uncertainties=da.from_array(sigma, chunks=(4, 9, 11)),
    )
    planes = combined.dataset.compute()
    scale = np.asarray(flat_scale, np.float32)[:, None, None]
    values = VALUES.astype(np.float32) * scale
    own = sigma * np.asarray(flat_scale)[:, None, None]
    kept = np.abs(values - np.median(values, axis=0)) <= 2 * own
    np.testing.assert_array_equal(planes["count"], kept.sum(0))


@pytest.mark.parametrize("rule", sorted(kernels.RULES))
def test_every_rule_gives_the_same_bits_in_any_bands(stack, rule):
    bound = 2.0 if rule == "linearfit" else None
    rejection = Rejection(rule, low=bound, high=bound)
    recipe = Recipe(rejection, noise=replace(NOISE, floor="auto"), planes=ALL_PLANES)
    whole = stack.chunk({"y": -1}).mf.combine(recipe).compute(scheduler="synchronous")
    bands = stack.mf.combine(recipe).compute(num_workers=3)
    for name in whole:
        assert bands[name].values.tobytes() == whole[name].values.tobytes(), name
    rejected = int(whole["rejlow"].sum() + whole["rejhigh"].sum())
    assert (rejected == 0) == (rule in ("none", "threshold", "minmax"))
