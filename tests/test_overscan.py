"""Overscans: their level against ccdproc, several amplifiers against each of them by itself."""

from dataclasses import replace

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from astropy import units as u
from astropy.io import fits
from astropy.nddata import CCDData
from astropy.stats import sigma_clip
from ccdproc import subtract_overscan

import nights
from masterframe import calibrate, combine, explain, inventory, overscan, run, store
from masterframe.config import load_config
from masterframe.errors import ConfigError, UsageError
from masterframe.model import (
    Amplifier,
    Calibration,
    Noise,
    OverscanModel,
    Recipe,
    Rejection,
    Section,
)
from masterframe.xarray_api.accessors import StackAccessor
from overscans import OF_CCDPROC

ROWS, DATA, WIDTH = 40, 30, 9


def drifting(seed=0):
    """A raw frame whose level drifts from row to row, with 9 columns of overscan behind it."""
    rng = np.random.default_rng(seed)
    level = 300 + 5 * np.sin(np.arange(ROWS) / 9)
    frame = rng.normal(level[:, None], 4, (ROWS, DATA + WIDTH))
    frame[:, :DATA] += 50
    return np.round(frame).astype(np.uint16)


@pytest.mark.parametrize(("model", "theirs"), OF_CCDPROC)
def test_the_level_is_that_of_ccdproc(model, theirs):
    raw = drifting()
    wanted = subtract_overscan(
        CCDData(raw.astype(float), unit=u.adu),
        overscan=CCDData(raw[:, DATA:].astype(float), unit=u.adu),
        overscan_axis=1,
        **theirs,
    )
    levels = overscan.row_levels(raw[:, DATA:], model)
    if model.is_curve:
        terms = overscan.fit(levels, model)
        levels = overscan.curve(terms, np.arange(ROWS), ROWS, model)
    np.testing.assert_allclose(raw - levels[:, None], wanted.data, atol=1e-9)


def test_a_clipped_mean_is_that_of_astropy():
    strip = drifting()[:, DATA:]
    strip = np.concatenate([strip, strip + 1], axis=1)
    strip[3, 4], strip[7, 0] = 900, 0
    model = OverscanModel("mean", low=3, high=2.5, iterations=3)
    clipped = sigma_clip(
        strip.astype(float), sigma_lower=3, sigma_upper=2.5, maxiters=3, axis=1, cenfunc="median"
    )
    np.testing.assert_allclose(overscan.row_levels(strip, model), clipped.mean(axis=1), atol=1e-9)


@pytest.mark.parametrize("method", ["legendre", "chebyshev", "spline"])
def test_a_curve_leaves_out_a_bright_row_and_keeps_its_bits_in_any_band(method):
    rows = np.arange(ROWS)
    truth = 300 + 0.3 * rows - 2e-5 * (rows - 11.0) ** 3
    levels = truth + np.where(rows == 17, 500, 0)
    model = OverscanModel(method, order=3)
    terms = overscan.fit(levels, model)
    whole = overscan.curve(terms, rows, ROWS, model)
    np.testing.assert_allclose(whole, truth, atol=1e-8)
    kept = overscan.fit(levels, replace(model, iterations=0))
    assert abs(overscan.curve(kept, rows, ROWS, model) - truth).max() > 10
    for part in (rows[3:4], rows[5:38:4], rows[20:]):
        assert (overscan.curve(terms, part, ROWS, model) == whole[part]).all()


def test_a_spline_of_one_piece_is_a_cubic_and_of_many_goes_through_all():
    rows, noise = np.arange(ROWS), np.random.default_rng(5).normal(0, 1, ROWS)
    cubic = np.polynomial.Polynomial.fit(rows, noise, 3)
    one = OverscanModel("spline", order=1, iterations=0)
    np.testing.assert_allclose(
        overscan.curve(overscan.fit(noise, one), rows, ROWS, one), cubic(rows), atol=1e-9
    )
    many = OverscanModel("spline", order=37, iterations=0)
    np.testing.assert_allclose(
        overscan.curve(overscan.fit(noise, many), rows, ROWS, many), noise, atol=1e-6
    )


# data | overscan | overscan | data, as quadrants are read through four corners
QUADRANTS = (
    Amplifier(Section(2, 20, 1, 14), Section(0, 20, 15, 19), 1.2, 5.0),
    Amplifier(Section(2, 20, 23, 31), Section(0, 20, 19, 23), 3.1, 9.0),
    Amplifier(Section(20, 38, 1, 14), Section(20, 40, 15, 19), 0.6, 4.0),
    Amplifier(Section(20, 38, 23, 31), Section(20, 40, 19, 23), 2.2, 30.0),
)
RAW_SHAPE = 40, 32


@pytest.fixture
def quadrants():
    """Raw frames in which each amplifier has its own level, noise and a few bad values."""
    rng = np.random.default_rng(8)
    raw = np.zeros((9, *RAW_SHAPE))
    for number, one in enumerate(QUADRANTS):
        for part in (one.data, one.overscan):
            place = np.s_[:, part.y0 : part.y1, part.x0 : part.x1]
            level = 200 + 100 * number + rng.normal(0, 1, (9, 1, 1))
            raw[place] = rng.normal(level, 3 + 3 * number, raw[place].shape)
    raw[rng.random(raw.shape) < 0.02] += 70
    return np.round(raw).astype(np.uint16)


def stack_of(raw, rows):
    """Raw frames as a lazy stack in bands of so many rows."""
    places = {"y": np.arange(raw.shape[1]), "x": np.arange(raw.shape[2])}
    lazy = da.from_array(raw, chunks=(-1, rows, -1))
    return xr.DataArray(lazy, dims=("frame", "y", "x"), coords=places)


def together(raw, recipe, model, rows):
    calibration = Calibration(
        trim=Section(2, 38, 1, 31), amplifiers=QUADRANTS, overscan_model=model
    )
    stack = stack_of(raw, rows=rows)
    return combine.combine_stack(stack, recipe, with_terms(calibration, raw))


def with_terms(calibration, raw):
    """The calibration with curves fitted to arrays, as `offsets.with_overscan` does to files."""
    model = calibration.overscan_model
    if not model.is_curve:
        return calibration
    terms = tuple(
        tuple(
            overscan.fit(
                overscan.row_levels(frame[part.y0 : part.y1, part.x0 : part.x1], model), model
            )
            for part in calibration.overscans
        )
        for frame in raw
    )
    return replace(calibration, overscan_terms=terms)


@pytest.mark.parametrize("model", [OverscanModel(), OverscanModel("legendre", order=2)])
@pytest.mark.parametrize("rows", [5, 40])
@pytest.mark.parametrize("rule", [Rejection("ccd"), Rejection("sigma", low=3.0, high=3.0)])
def test_amplifiers_together_are_each_by_itself(quadrants, model, rows, rule):
    recipe = Recipe(rule, noise=Noise(gain=1.9, read_noise=12.0), planes=("propagated",))
    whole = together(quadrants, recipe, model, rows).dataset.compute()
    assert whole["data"].shape == (36, 13 + 8)
    np.testing.assert_array_equal(whole["x"], [*range(1, 14), *range(23, 31)])
    np.testing.assert_array_equal(whole["y"], range(2, 38))
    for number, one in enumerate(QUADRANTS):
        part = Calibration(one.overscan, one.data, overscan_model=model)
        if model.is_curve:
            # an overscan is longer than what it serves: its curve is through all of it
            terms = with_terms(part, quadrants).overscan_terms
            part = replace(part, overscan_terms=terms)
        noise = Noise(gain=one.gain, read_noise=one.read_noise)
        alone = combine.combine_stack(
            stack_of(quadrants, rows=rows), replace(recipe, noise=noise), part
        ).dataset.compute()
        top, left = 18 * (number // 2), 13 * (number % 2)
        own = whole.isel(y=slice(top, top + 18), x=slice(left, left + alone.sizes["x"]))
        for name in ("data", "count", "mask", "uncert", "propagated"):
            np.testing.assert_array_equal(own[name].values, alone[name].values, err_msg=name)
    assert (whole["count"] < 9).sum() > 20


def test_growth_stops_at_an_amplifier_and_not_at_a_band(quadrants):
    recipe = Recipe(Rejection("sigma", low=4.0, high=4.0, grow=1.5))
    made = [
        together(quadrants, recipe, OverscanModel(), rows).dataset.compute() for rows in (4, 40)
    ]
    xr.testing.assert_identical(*made)


def test_what_amplifiers_read_is_calibrated_alike_everywhere(quadrants):
    calibration = Calibration(trim=Section(2, 38, 1, 31), amplifiers=QUADRANTS)
    lit = calibrate.apply(quadrants[:, 2:38], 0, calibration)
    lazy = StackAccessor(stack_of(quadrants, rows=7)).calibrated(calibration)
    np.testing.assert_array_equal(lazy.values, lit)
    expected = np.empty((9, 36, 21))
    for number, one in enumerate(QUADRANTS):
        top, left = 18 * (number // 2), 13 * (number % 2)
        strip = quadrants[:, one.data.y0 : one.data.y1, one.overscan.x0 : one.overscan.x1]
        kept = quadrants[:, one.data.y0 : one.data.y1, one.data.x0 : one.data.x1]
        expected[:, top : top + 18, left : left + kept.shape[2]] = kept - np.median(
            strip, axis=2, keepdims=True
        )
    np.testing.assert_allclose(lit, expected, atol=1e-4)
    with pytest.raises(UsageError, match=r"lack the (pixels of an amplifier|overscan)"):
        calibrate.fitted(calibration, RAW_SHAPE, Section(0, 40, 0, 20))
    middle = calibrate.fitted(calibration, RAW_SHAPE, Section(10, 30, 0, 32))
    np.testing.assert_array_equal(calibrate.apply(quadrants[:, 10:30], 0, middle), lit[:, 8:28])


def amplified(path, seed, **cards):
    """A frame that two amplifiers read, with cards as DECam has them."""
    rng = np.random.default_rng(seed)
    values = rng.normal(500, 4, (20, 40))
    values[:, 16:32] += 60
    values[:, 36:] += 60
    header = {
        "DATASECA": "[1:16,1:20]",
        "DATASECB": "[17:32,1:20]",
        "BIASSECA": "[33:36,1:20]",
        "BIASSECB": "[37:40,1:20]",
        "RDNOISEA": 6.0,
        "RDNOISEB": 7.0,
        "GAINA": (4.5, "[e-/adu] gain"),
        "GAINB": (1.5, "[e-/adu] gain"),
        **cards,
    }
    hdu = fits.PrimaryHDU(np.round(values).astype(np.uint16))
    hdu.header["IMAGETYP"], hdu.header["EXPTIME"] = "Bias Frame", 0.0
    hdu.header["DATE-OBS"] = f"2026-01-02T03:04:{seed:02d}"
    hdu.header.update({key: value for key, value in header.items() if value is not None})
    path.parent.mkdir(exist_ok=True)
    hdu.writeto(path)
    return path


def scanned(folder, *overrides):
    config = load_config(None, list(overrides))
    (exposure,), problems = inventory.scan_night([folder], config)
    assert problems == ()
    return exposure


def test_the_header_tells_of_amplifiers(tmp_path):
    amplified(tmp_path / "night" / "a.fits", 1)
    (image,) = scanned(tmp_path / "night").images
    assert image.amplifiers == (
        Amplifier(Section(0, 20, 0, 16), Section(0, 20, 32, 36), 4.5, 6.0),
        Amplifier(Section(0, 20, 16, 32), Section(0, 20, 36, 40), 1.5, 7.0),
    )
    assert (image.trim, image.overscan) == (Section(0, 20, 0, 32), None)
    assert (image.gain, image.read_noise, image.shape) == (3.0, 6.5, (20, 32))


@pytest.mark.parametrize(
    ("cards", "reason"),
    [
        ({"BIASSECB": "UNKNOWN"}, "'BIASSECB UNKNOWN' is not obeyed: not a section"),
        ({"BIASSECB": "[37:44,1:20]"}, r"BIASSECB \[37:44,1:20\] is not obeyed: the image has 40"),
        ({"BIASSECB": "[31:34,1:20]"}, "is not used: it overlaps the data"),
        ({"BIASSECB": None}, "some have an overscan and others none"),
        ({"DATASECB": "[15:32,1:20]", "BIASSECA": None, "BIASSECB": None}, "overlap in part"),
        ({"DATASECB": "[17:32,1:19]"}, "they do not cover the same rows"),
    ],
)
def test_sections_that_make_no_sense_are_reported_and_not_obeyed(tmp_path, cards, reason):
    amplified(tmp_path / "night" / "a.fits", 1, **cards)
    exposure = scanned(tmp_path / "night")
    assert exposure.images[0].amplifiers == ()
    with pytest.raises(AssertionError, match=reason):  # the pattern is among the notes
        raise AssertionError("; ".join(exposure.notes))


def test_an_observer_knows_better(tmp_path):
    amplified(tmp_path / "night" / "a.fits", 1)
    one = scanned(tmp_path / "night", "detector.overscan='[33:40,1:20]'").images[0]
    assert (one.amplifiers, one.overscan) == ((), Section(0, 20, 32, 40))
    told = "detector.amplifiers=[{data: '[1:8,1:20]'}, {data: '[9:32,1:20]', gain: 2.0}]"
    two = scanned(tmp_path / "night", told, "detector.read_noise=3").images[0]
    assert two.amplifiers == (
        Amplifier(Section(0, 20, 0, 8), None, None, 3.0),
        Amplifier(Section(0, 20, 8, 32), None, 2.0, 3.0),
    )
    with pytest.raises(ConfigError, match=r"overscan\.method"):
        load_config(None, ["overscan.method=legendr"])
    with pytest.raises(ConfigError, match="key gian is unknown: did you mean gain"):
        load_config(None, ["detector.amplifiers=[{data: '[1:8,1:20]', gian: 2.0}]"])


@pytest.mark.parametrize("model", ["median", "spline"])
def test_a_run_takes_each_overscan_off_and_explains_it(tmp_path, model):
    paths = [amplified(tmp_path / "night" / f"{k}.fits", k) for k in range(6)]
    same = f"overscan.method={model}", "overscan.order=2", "recipes.bias.reject=none"
    night, config = tmp_path / "night", load_config(None, same)
    out = tmp_path / "out"
    plan = run.plan_nights([night], config)
    with store.use_resources(None) as used:
        (made,) = run.run_plan(plan, config, out, used).outcomes
    assert made.state == "made", made
    master = fits.getdata(made.output)
    assert master.shape == (20, 32)
    settings = OverscanModel(model, order=2)
    frames = []
    for path in paths:
        raw = fits.getdata(path)
        halves = []
        for data, strip in ((raw[:, :16], raw[:, 32:36]), (raw[:, 16:32], raw[:, 36:])):
            levels = overscan.row_levels(strip, settings)
            if settings.is_curve:
                terms = overscan.fit(levels, settings)
                levels = overscan.curve(terms, np.arange(20), 20, settings)
            halves.append(data - levels[:, None])
        frames.append(np.concatenate(halves, axis=1))
    np.testing.assert_allclose(master, np.mean(frames, axis=0), atol=1e-4)
    told = explain.explain_master(made.output, 25, 7)
    assert told.problems == ()
    assert (told.raw_x, told.raw_y) == (25, 7)
    assert len({frame.overscan for frame in told.frames}) > 1
    assert set(nights.states(nights.reduce_night(night, out, *same)).values()) == {"up to date"}
    other = nights.reduce_night(night, out, "overscan.method=mean", *same[1:])
    assert set(nights.states(other).values()) == {"made"}
