"""Mosaic nights: simulated CCD by CCD, and reduced into masters whose every image is the truth."""

from __future__ import annotations

import subprocess

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.nddata import CCDData
from ccdproc import Combiner

import nights
from masterframe import explain, simulate
from masterframe.errors import UsageError
from masterframe.model import Section
from support import program

ROWS, COLUMNS, OVERSCAN = 96, 80, 12
CAMERA = simulate.Camera((ROWS, COLUMNS), OVERSCAN, extensions=3)
SPEC = simulate.NightSpec(
    CAMERA, bias=6, darks={60.0: 5}, flats={"V": 5}, science={"V": 1}, exptime=60.0, seed=11
)
NAMES = ("CCD1", "CCD2", "CCD3")


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    return simulate.simulate_night(tmp_path_factory.mktemp("mosaic"), SPEC)


@pytest.fixture(scope="module")
def reduced(night, tmp_path_factory):
    """The folder of the products of the night, by the last part of their name."""
    out = tmp_path_factory.mktemp("out")
    floors = [f"recipes.{kind}.noise_floor=0" for kind in ("bias", "dark", "flat")]
    outcomes = nights.reduce_night(night.night, out, *floors)  # ccdproc has none
    assert {outcome.state for outcome in outcomes.values()} == {"made"}, outcomes
    return {name: out / f"{outcome.output}" for name, outcome in outcomes.items()}


def raw(night, kind):
    """The names of the files of a kind, in the order of the night."""
    return [night.night / shot.name for shot in night.shots if shot.kind == kind]


def test_a_raw_file_says_where_each_ccd_is_and_what_reads_it(night):
    with fits.open(raw(night, "bias")[0]) as hdus:
        assert [hdu.name for hdu in hdus] == ["PRIMARY", *NAMES]
        assert hdus[0].header["DETSIZE"] == f"[1:{3 * COLUMNS},1:{ROWS}]"
        for place, name in enumerate(NAMES):
            (amplifier,) = night.extension(name).amplifiers
            header = hdus[name].header
            assert hdus[name].shape == (ROWS, COLUMNS + OVERSCAN)
            assert (header["GAIN"], header["RDNOISE"]) == (amplifier.gain, amplifier.read_noise)
            left = place * COLUMNS
            assert header["DETSEC"] == f"[{left + 1}:{left + COLUMNS},1:{ROWS}]"
            overscan = hdus[name].data[:, COLUMNS:].astype(float)
            assert abs(np.median(overscan) - amplifier.bias_level) < 5 * CAMERA.row_drift
    gains = {night.extension(name).amplifiers[0].gain for name in NAMES}
    assert len(gains) == 3
    command = [program("fitsverify"), "-q", str(raw(night, "flat")[0])]
    assert "OK" in subprocess.run(command, check=False, capture_output=True, text=True).stdout


def test_every_amplifier_has_its_own_gain_noise_and_level(tmp_path):
    camera = simulate.Camera((64, 101), 20, 2, 2, amplifier_spread=0.4, row_drift=0, glow=0)
    spec = simulate.NightSpec(camera, bias=8, darks={}, flats={"V": 8}, science={}, trails=False)
    night = simulate.simulate_night(tmp_path, spec)
    for name in night.extensions:
        truth = night.extension(name)
        assert [own.data for own in truth.amplifiers] == [
            Section(0, 64, 0, 50),
            Section(0, 64, 50, 101),
        ]
        bias = np.stack([fits.getdata(path, name) for path in raw(night, "bias")]).astype(float)
        flat = np.stack([fits.getdata(path, name) for path in raw(night, "flat")]).astype(float)
        header = fits.getheader(raw(night, "bias")[0], name)
        for letter, own in zip("AB", truth.amplifiers, strict=True):
            assert header[f"BIASSEC{letter}"] == own.overscan.to_fits()
            assert header[f"GAIN{letter}"] == own.gain
            strip = bias[:, :, own.overscan.x0 : own.overscan.x1]
            assert strip.mean() == pytest.approx(own.bias_level, abs=0.2)
            assert strip.std() == pytest.approx(own.read_noise / own.gain, rel=0.05)
            light = [shot.light for shot in night.shots if shot.kind == "flat"]
            part = slice(own.data.x0, own.data.x1)
            level = flat[:, :, part].mean(axis=(1, 2)) - own.bias_level
            level -= truth.bias()[:, part].mean()
            level -= truth.dark_current()[:, part].mean() * spec.flat_exptime
            expected = np.array(light) / own.gain * truth.flat("V")[:, part].mean()
            np.testing.assert_allclose(level, expected, rtol=2e-3)
    assert simulate.Truth.load(tmp_path / "truth").extension("CCD2").amplifiers == (
        night.extension("CCD2").amplifiers
    )


def test_a_ccd_that_is_not_there_and_impossible_mosaics(night):
    with pytest.raises(UsageError, match="no CCD 'CCD4': the camera has CCD1, CCD2, CCD3"):
        night.extension("CCD4")
    with pytest.raises(UsageError, match="amplifiers = 0: give 1 to 8"):
        simulate.Camera(amplifiers=0)
    with pytest.raises(UsageError, match="extensions = 999: give 1 to 200"):
        simulate.Camera(extensions=999)


def trimmed(path, name):
    """A raw image without its overscan, as an independent script would do it."""
    data = fits.getdata(path, name).astype(np.float64)
    return data[:, :COLUMNS] - np.median(data[:, COLUMNS:], axis=1)[:, None]


def combined(frames):
    """Clip at 5 sigma about the median and average, by ccdproc."""
    combiner = Combiner([CCDData(frame, unit=u.adu) for frame in frames], dtype=np.float64)
    combiner.sigma_clipping(5, 5, func="median", dev_func="mad_std")
    return combiner.average_combine().data


@pytest.mark.parametrize("name", NAMES)
def test_masters_are_the_truth_and_what_ccdproc_gives(night, reduced, name):
    truth = night.extension(name)
    (amplifier,) = truth.amplifiers
    read = amplifier.read_noise / amplifier.gain
    bias = fits.getdata(reduced["master_bias_bin1x1"], name)
    theirs = combined([trimmed(path, name) for path in raw(night, "bias")])
    agree(bias, theirs)
    assert np.std(bias - truth.bias()) < 2 * read / np.sqrt(SPEC.bias)
    dark = fits.getdata(reduced["master_dark_60s_bin1x1"], name)
    agree(dark, combined([trimmed(path, name) - bias for path in raw(night, "dark")]))
    cold = truth.dark_current() < 1
    miss = (dark - 60 * truth.dark_current())[cold]
    assert abs(np.median(miss)) < read / 5
    flat = fits.getdata(reduced["master_flat_V_bin1x1"], name)
    seconds = SPEC.flat_exptime / 60
    lit = [trimmed(path, name) - bias - seconds * dark for path in raw(night, "flat")]
    theirs = combined([frame / np.median(frame) for frame in lit])
    good = fits.getdata(reduced["master_flat_V_bin1x1"], f"{name}_MASK") == 0
    agree(flat[good], (theirs / np.median(theirs[good]))[good], 2e-3)
    assert np.std((flat / truth.flat("V"))[good]) < 0.01


def agree(ours, theirs, tolerance=1e-4):
    """Compare with what ccdproc gives; a value at a bound may fall to either side of it."""
    scale = np.maximum(np.abs(theirs), 1)
    assert np.mean(np.abs(ours - theirs) <= tolerance * scale) > 0.99


def test_a_master_keeps_the_structure_of_its_frames(night, reduced):
    path = reduced["master_bias_bin1x1"]
    with fits.open(path, checksum=True) as hdus:
        for place, name in enumerate(NAMES):
            header = hdus[name].header
            left = place * COLUMNS
            assert hdus[name].shape == (ROWS, COLUMNS)
            assert header["DATASEC"] == f"[1:{COLUMNS},1:{ROWS}]"
            assert header["DETSEC"] == f"[{left + 1}:{left + COLUMNS},1:{ROWS}]"
            assert header["GAIN"] == night.extension(name).amplifiers[0].gain
            assert not {"BIASSEC", "TRIMSEC"} & set(header)
        assert hdus[0].header["DETSIZE"] == f"[1:{3 * COLUMNS},1:{ROWS}]"
    told = explain.explain_master(str(reduced["master_flat_V_bin1x1"]), 40, 30, "CCD2")
    assert told.problems == ()
    assert {frame.bias for frame in told.frames} == {
        float(fits.getdata(path, "CCD2")[30, 40]),
    }


def test_science_is_calibrated_ccd_by_ccd(night, reduced):
    (path,) = raw(night, "science")
    product = reduced[path.stem]
    names = ("master_bias_bin1x1", "master_dark_60s_bin1x1", "master_flat_V_bin1x1")
    for name in NAMES:
        bias, dark, flat = (fits.getdata(reduced[own], name) for own in names)
        made = fits.getdata(product, name)
        expected = (trimmed(path, name) - bias - dark) / flat
        good = fits.getdata(product, f"{name}_MASK") == 0
        np.testing.assert_allclose(made[good], expected[good], rtol=1e-4, atol=1e-2)
        assert "CRPIX1" in fits.getheader(product, name)


def test_a_second_run_makes_nothing_and_a_changed_ccd_only_what_needs_it(tmp_path):
    camera = simulate.Camera((48, 40), 8, extensions=2)
    spec = simulate.NightSpec(camera, bias=5, darks={60.0: 5}, flats={}, science={}, seed=3)
    night = simulate.simulate_night(tmp_path / "raw", spec)
    out = tmp_path / "out"
    nights.reduce_night(night.night, out)
    states = nights.states(nights.reduce_night(night.night, out))
    assert set(states.values()) == {"up to date"}
    with fits.open(raw(night, "dark")[0], mode="update") as hdus:
        hdus["CCD2"].data[3, 4] += 1
    states = nights.states(nights.reduce_night(night.night, out))
    assert states == {"master_bias_bin1x1": "up to date", "master_dark_60s_bin1x1": "made"}


def test_the_command_simulates_a_mosaic(capsys, monkeypatch, tmp_path):
    size = ("--rows", 32, "--columns", 40, "--overscan", 4, "--bias", 1)
    none = ("--dark", 0, "--flat", 0, "--science", 0)
    ccds = ("--extensions", 2, "--amplifiers", 2)
    code, out, _ = nights.call(
        capsys, monkeypatch, "simulate", tmp_path / "raw", *size, *none, *ccds
    )
    assert (code, "1 files in" in out) == (0, True)
    with fits.open(tmp_path / "raw" / "night" / "bias_001.fits") as hdus:
        assert [hdu.shape for hdu in hdus[1:]] == [(32, 48), (32, 48)]
        assert hdus["CCD2"].header["BIASSECB"] == "[45:48,1:32]"


AMPLIFIED = simulate.NightSpec(
    simulate.Camera((40, 64), 12, extensions=8, amplifiers=2, amplifier_spread=0.3),
    bias=7,
    darks={60.0: 6},
    flats={"V": 6},
    science={"V": 1},
    exptime=60.0,
    seed=21,
)


@pytest.fixture(scope="module")
def amplified(tmp_path_factory):
    """A night of 8 CCDs, each read by two amplifiers, and its products in one run."""
    folder = tmp_path_factory.mktemp("amplified")
    night = simulate.simulate_night(folder, AMPLIFIED)
    outcomes = nights.reduce_night(night.night, folder / "out")
    assert {outcome.state for outcome in outcomes.values()} == {"made"}, outcomes
    return night, {name: folder / "out" / f"{item.output}" for name, item in outcomes.items()}


def test_two_amplifiers_of_each_of_eight_ccds_give_the_truth_in_one_run(amplified):
    night, reduced = amplified
    assert len(night.extensions) == 8
    (science,) = raw(night, "science")
    for name in night.extensions:
        truth = night.extension(name)
        bias, dark, flat, made = (
            fits.getdata(reduced[product], name)
            for product in (
                *("master_bias_bin1x1", "master_dark_60s_bin1x1", "master_flat_V_bin1x1"),
                science.stem,
            )
        )
        pixels, responses = fits.getdata(science, name).astype(float), []
        for one in truth.amplifiers:
            part, read = np.s_[:, one.data.x0 : one.data.x1], one.read_noise / one.gain
            noise = np.hypot(read, 0.3) / np.sqrt(AMPLIFIED.bias)
            assert np.std((bias - truth.bias())[part]) < 1.3 * noise
            assert abs(np.median((bias - truth.bias())[part])) < noise / 2
            cold = truth.dark_current()[part] < 1
            miss = (dark - 60 * truth.dark_current())[part][cold]
            assert abs(np.median(miss)) < read / 4
            ratio = flat[part] * one.gain / truth.flat("V")[part]
            responses.append(np.median(ratio))
            assert np.std(ratio) < 0.02 * responses[-1]
            level = np.median(pixels[:, one.overscan.x0 : one.overscan.x1], axis=1)
            expected = (pixels[part] - level[:, None] - bias[part] - dark[part]) / flat[part]
            np.testing.assert_allclose(made[part], expected, rtol=1e-4, atol=1e-2)
            electrons = (expected * flat[part]) * one.gain
            variance = np.maximum(electrons, 0) + one.read_noise**2
            stated = fits.getdata(reduced[science.stem], f"{name}_UNCERT")[part]
            least = np.sqrt(variance) / one.gain / flat[part]
            assert 1 < np.median(stated / least) < 1.15
        assert responses[0] == pytest.approx(responses[1], rel=0.01)  # one light, two gains
    gains = {one.gain for name in night.extensions for one in night.extension(name).amplifiers}
    assert len(gains) == 16


def test_masters_of_amplifiers_keep_names_places_and_gains(amplified):
    night, reduced = amplified
    with fits.open(reduced["master_flat_V_bin1x1"], checksum=True) as hdus:
        for name in night.extensions:
            header, amplifiers = hdus[name].header, night.extension(name).amplifiers
            assert hdus[name].shape == (40, 64)
            assert [header["GAINA"], header["GAINB"]] == [one.gain for one in amplifiers]
            assert [header["DATASECA"], header["DATASECB"]] == [
                one.data.to_fits() for one in amplifiers
            ]
            assert "DETSEC" in header
            assert not {"BIASSECA", "BIASSECB"} & set(header)
    told = explain.explain_master(str(reduced["master_flat_V_bin1x1"]), 50, 30, "CCD7")
    assert told.problems == ()
