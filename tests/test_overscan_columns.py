"""Overscans above or below the data: a level for each column, against ccdproc and numpy."""

import gzip
import shutil

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.nddata import CCDData
from ccdproc import subtract_overscan

import nights
from masterframe import calibrate, combine, explain, inventory, kernels, offsets, overscan
from masterframe.config import load_config
from masterframe.errors import UsageError
from masterframe.model import Amplifier, Calibration, OverscanModel, Recipe, Rejection, Section
from masterframe.stack import open_stack
from masterframe.xarray_api.accessors import StackAccessor
from overscans import OF_CCDPROC

ROWS, COLUMNS, ABOVE = 34, 52, 7
CARDS = {"BIASSEC": f"[1:{COLUMNS},{ROWS + 1}:{ROWS + ABOVE}]", "TRIMSEC": f"[3:50,1:{ROWS}]"}
KEPT = slice(2, 50)


def frame(path, kind, seed, **cards):
    """A raw frame whose level changes from column to column, with 7 rows of overscan above it."""
    shape = ROWS + ABOVE, COLUMNS
    nights.raw(path, kind, seed, shape=shape, **{**CARDS, **cards})
    rng = np.random.default_rng(seed)
    level = 300 + 6 * np.sin(np.arange(COLUMNS) / 7 + seed) + rng.normal(0, 1)
    with fits.open(path, mode="update") as hdus:
        data = rng.normal(level, 4, shape)
        data[:ROWS] += nights.LEVELS[kind]
        data[5, 9] = 65535  # saturated in all: not loaded in one go
        hdus[0].data = np.round(data).astype(np.uint16)
    return path


def night(folder, **cards):
    for index in range(5):
        frame(folder / f"bias_{index}.fits", "bias", index, **cards)
    frame(folder / "science_0.fits", "science", 99, **cards)
    return folder


def subtracted(path, model):
    """The data of a frame without the level of its columns, and this level."""
    raw = fits.getdata(path).astype(float)
    strip = raw[ROWS:, KEPT]
    levels = np.median(strip, axis=0)
    if model.method == "mean":
        levels = strip.mean(axis=0)
    if model.is_curve:
        place = np.linspace(-1, 1, levels.size)
        terms = np.polynomial.legendre.legfit(place, levels, model.order)
        levels = np.polynomial.legendre.legval(place, terms)
    return raw[:ROWS, KEPT] - levels, levels


@pytest.mark.parametrize(("model", "theirs"), OF_CCDPROC)
def test_the_level_of_a_column_is_that_of_ccdproc(tmp_path, model, theirs):
    raw = fits.getdata(frame(tmp_path / "a.fits", "bias", 3)).astype(float)
    wanted = subtract_overscan(
        CCDData(raw, unit=u.adu),
        overscan=CCDData(raw[ROWS:], unit=u.adu),
        overscan_axis=0,
        **theirs,
    )
    levels = overscan.column_levels(raw[ROWS:], model)
    np.testing.assert_allclose(raw - levels, wanted.data, atol=1e-9)


@pytest.mark.parametrize("method", ["median", "mean", "legendre"])
@pytest.mark.parametrize("memory", ["60MB", "400MB"])
def test_a_run_takes_the_level_of_columns_off_and_explains_it(tmp_path, method, memory):
    options = (f"overscan.method={method}", "overscan.order=3", "overscan.iterations=0")
    options += ("recipes.bias.reject=none", f"resources.memory={memory}", "report=false")
    model = OverscanModel(method, order=3, iterations=0)
    raw, out = night(tmp_path / "night"), tmp_path / "out"
    made = nights.reduce_night(raw, out, *options)
    assert {one.state for one in made.values()} == {"made"}, made
    bias = fits.getdata(made["master_bias_bin1x1"].output)
    assert bias.shape == (ROWS, 48)
    frames, levels = zip(
        *(subtracted(raw / f"bias_{k}.fits", model) for k in range(5)), strict=True
    )
    good = np.ones(bias.shape, bool)
    good[5, 9 - KEPT.start] = False
    np.testing.assert_allclose(bias[good], np.mean(frames, axis=0)[good], atol=1e-4)
    science = fits.getdata(made["science_0"].output)
    expected, _ = subtracted(raw / "science_0.fits", model)
    np.testing.assert_allclose(science[good], (expected - bias)[good], atol=1e-3)
    told = explain.explain_master(made["master_bias_bin1x1"].output, 21, 30)
    assert told.problems == ()
    assert [one.overscan for one in told.frames] == pytest.approx([own[21] for own in levels])
    again = nights.reduce_night(raw, out, *options)
    assert {one.state for one in again.values()} == {"up to date"}


def test_compressed_frames_give_the_same_bits(tmp_path):
    plain = nights.reduce_night(night(tmp_path / "night"), tmp_path / "out", "report=false")
    packed = tmp_path / "packed"
    packed.mkdir()
    for path in (tmp_path / "night").iterdir():
        with gzip.open(packed / f"{path.name}.gz", "wb") as file, path.open("rb") as source:
            shutil.copyfileobj(source, file)
    same = nights.reduce_night(packed, tmp_path / "again", "report=false")
    for name in ("master_bias_bin1x1", "science_0"):
        np.testing.assert_array_equal(
            fits.getdata(plain[name].output), fits.getdata(same[name].output)
        )


def stacked(folder, *amplifiers, **sections):
    """Frames of a folder, and what takes the level of their columns off."""
    paths = [frame(folder / f"{k}.fits", "bias", k) for k in range(6)]
    stack = open_stack(paths)
    scans = [inventory.scan_night([path], load_config(None))[0][0] for path in paths]
    calibration = Calibration(amplifiers=amplifiers, **sections)
    frames = [scan.images[0].frame for scan in scans]
    return stack, calibration, offsets.with_overscan(calibration, frames)


@pytest.mark.parametrize("rule", [Rejection("sigma", low=2.0, high=2.0), Rejection("winsorized")])
def test_any_band_gives_the_same_bits_and_so_does_the_calibrated_stack(tmp_path, rule):
    sections = {
        "overscan": Section(ROWS, ROWS + ABOVE, 0, COLUMNS),
        "trim": Section(0, ROWS, 2, 50),
    }
    stack, _, calibration = stacked(tmp_path, **sections)
    recipe = Recipe(rule, saturation=60000)
    made = [
        combine.combine_stack(stack.chunk(y=rows), recipe, calibration).dataset.compute()
        for rows in (3, ROWS + ABOVE)
    ]
    lit = calibrate.apply(stack.values[:, :ROWS], 0, calibration, recipe)
    again = combine.combine_stack(StackAccessor(stack).calibrated(calibration, recipe), recipe)
    np.testing.assert_array_equal(again.dataset["data"].values, made[0]["data"].values)
    for name in made[0]:
        np.testing.assert_array_equal(made[0][name].values, made[1][name].values)
    raw = stack.values.astype(float)
    wanted = raw[:, :ROWS, 2:50] - np.median(raw[:, ROWS:, 2:50], axis=1, keepdims=True)
    assert np.isnan(lit[:, 5, 7]).all()
    lit[:, 5, 7] = wanted[:, 5, 7]
    np.testing.assert_allclose(lit, wanted, atol=1e-4)


def test_amplifiers_beside_each_other_have_columns_of_their_own(tmp_path):
    left = Amplifier(Section(4, ROWS, 2, 20), Section(ROWS, ROWS + ABOVE, 0, 20))
    right = Amplifier(Section(4, ROWS, 23, 50), Section(0, 4, 23, 50))
    stack, alone, calibration = stacked(tmp_path, left, right, trim=Section(4, ROWS, 2, 50))
    raw = stack.values.astype(float)
    lit = calibrate.apply(stack.values[:, 4:ROWS], 0, calibration)
    wanted = [
        raw[:, 4:ROWS, 2:20] - np.median(raw[:, ROWS:, 2:20], axis=1, keepdims=True),
        raw[:, 4:ROWS, 23:50] - np.median(raw[:, :4, 23:50], axis=1, keepdims=True),
    ]
    np.testing.assert_allclose(lit, np.concatenate(wanted, axis=2), atol=1e-3)
    with pytest.raises(UsageError, match="is in none of the rows that are calibrated"):
        calibrate.apply(stack.values[:, 4:ROWS], 0, alone)
    with pytest.raises(UsageError, match="calibrate the whole frames"):
        calibrate.fitted(calibration, raw.shape[1:], Section(8, 30, 0, COLUMNS))


@pytest.mark.parametrize(
    ("cards", "overscan", "trim", "note"),
    [
        ({}, (34, 41, 0, 52), (0, 34, 2, 50), ""),
        ({"TRIMSEC": None}, (34, 41, 0, 52), (0, 34, 0, 52), ""),
        ({"BIASSEC": "[1:52,1:4]", "TRIMSEC": None}, (0, 4, 0, 52), (4, 41, 0, 52), ""),
        ({"BIASSEC": "[5:52,35:41]"}, None, (0, 34, 2, 50), "does not reach all columns"),
        ({"BIASSEC": "[1:52,34:41]"}, None, (0, 34, 2, 50), "it overlaps the data"),
        ({"BIASSEC": "[51:52,1:41]"}, (0, 41, 50, 52), (0, 34, 2, 50), ""),
    ],
)
def test_a_section_tells_which_way_it_goes(tmp_path, cards, overscan, trim, note):
    frame(tmp_path / "a.fits", "bias", 1, **cards)
    (exposure,), _ = inventory.scan_night([tmp_path], load_config(None))
    (image,) = exposure.images
    assert image.overscan == (overscan and Section(*overscan))
    assert image.trim == Section(*trim)
    assert note in "; ".join(exposure.notes)
    assert bool(note) == bool(exposure.notes)


@pytest.mark.parametrize(
    ("amplifiers", "reason"),
    [
        (
            "[{data: '[1:20,1:34]', overscan: '[1:20,35:41]'},"
            " {data: '[21:40,1:34]', overscan: '[41:52,1:34]'}]",
            "some have their overscan beside the data, others above or below",
        ),
        (
            "[{data: '[1:40,1:15]', overscan: '[1:40,35:41]'},"
            " {data: '[1:40,16:34]', overscan: '[1:40,35:41]'}]",
            "they read columns in parts",
        ),
    ],
)
def test_amplifiers_that_leave_a_column_without_a_level_are_refused(tmp_path, amplifiers, reason):
    frame(tmp_path / "a.fits", "bias", 1)
    config = load_config(None, [f"detector.amplifiers={amplifiers}"])
    (exposure,), _ = inventory.scan_night([tmp_path], config)
    assert exposure.images[0].amplifiers == ()
    assert reason in "; ".join(exposure.notes)


def test_the_load_step_takes_rows_and_columns_off():
    rng = np.random.default_rng(4)
    raw = rng.integers(0, 60000, (3, 5, 37), np.uint16)
    rows, columns = rng.normal(300, 5, (3, 5)), rng.normal(20, 5, (3, 37))
    terms = kernels.LoadTerms(overscan=rows, overscan_columns=columns)
    found = kernels.calibrate_block(raw, terms, np.float64)
    np.testing.assert_array_equal(found, raw - rows[:, :, None] - columns[:, None] + 0.0)


def both_ways(folder, section):
    """A night whose frames have an overscan of 6 columns and of 4 rows; a level for each row."""
    sections = {"BIASSEC": section, "TRIMSEC": "[1:30,1:20]"}
    for index in range(5):
        nights.raw(folder / f"bias_{index}.fits", "bias", index, shape=(24, 36), **sections)
    path = nights.raw(folder / "science_0.fits", "science", 99, shape=(24, 36), **sections)
    with fits.open(path, mode="update") as hdus:
        hdus[0].data = hdus[0].data + 9 * np.arange(24, dtype=np.uint16)[:, None]
    return path


@pytest.mark.parametrize(
    ("section", "axis", "strip", "words"),
    [
        ("[31:36,1:24]", 1, np.s_[:20, 30:], "4 rows above or below the data of"),
        ("[1:36,21:24]", 0, np.s_[20:, :30], "6 columns beside the data of"),
    ],
    ids=["columns", "rows"],
)
def test_of_overscans_both_ways_the_named_one_is_used(section, axis, strip, words, tmp_path):
    path = both_ways(tmp_path / "n", section)
    made = nights.reduce_night(tmp_path / "n", tmp_path / "out", "report=false")
    raw = fits.getdata(path).astype(float)
    level = np.median(raw[strip], axis=axis, keepdims=True)
    bias = fits.getdata(made["master_bias_bin1x1"].output)
    found = fits.getdata(made["science_0"].output)
    np.testing.assert_allclose(found, raw[:20, :30] - level - bias, atol=1e-3)
    _, plan = nights.make_plan(tmp_path / "n")
    (note,) = (note for note in plan.notes if "second overscan" in note)
    assert note.startswith(f"{words} 5 bias and 1 science frames are trimmed, and serve as no")
