"""What a frame measures: on which pixels, by which definition, with how few reads."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from masterframe import framestack, levels
from masterframe.errors import UsageError
from masterframe.fits import scan_file
from masterframe.levels import measure_frames, mode_of, noise_of
from masterframe.model import Amplifier, Calibration, MasterImage, Recipe, Section
from stacks import count_bytes, write_frames

ALL = ("median", "mean", "mode", "noise")


def frame_in(folder, values):
    (path,) = write_frames(folder, [values])
    return scan_file(path).hdus[0].frame


@pytest.fixture(scope="module")
def tall(tmp_path_factory):
    values = np.random.default_rng(5).normal(900, 20, (2100, 70)).astype(np.float32)
    values += np.linspace(0, 300, 2100)[:, None].astype(np.float32)
    return frame_in(tmp_path_factory.mktemp("tall"), values), values


def test_every_16th_row_is_measured(tall):
    frame, values = tall
    (found,) = measure_frames([frame], Calibration(), Recipe(), ALL)
    sample = values[::16]
    assert found["median"] == np.median(sample)
    assert found["mean"] == sample.mean(dtype=np.float64)
    assert found["mode"] == mode_of(sample)
    assert found["noise"] == noise_of(sample)


def test_small_images_are_measured_whole(tmp_path):
    values = np.random.default_rng(6).normal(900, 20, (100, 30))
    frame = frame_in(tmp_path, values)
    (found,) = measure_frames([frame], Calibration(), Recipe(dtype="float64"), ("mean",))
    assert found == {"mean": values.mean()}


@pytest.mark.parametrize("section", [None, Section(10, 90, 12, 37), Section(0, 20, 0, 7)])
def test_levels_of_amplifiers_are_averaged_by_their_pixels(tmp_path, section):
    """They are in other columns of the raw frame than of the kept one, and above each other."""
    values = np.random.default_rng(7).normal(0, 5, (100, 50)).astype(np.float32)
    raw = {(0, 60, 2, 10): 900, (60, 100, 2, 10): 1300, (0, 100, 14, 46): 2000}
    for (y0, y1, x0, x1), level in raw.items():
        values[y0:y1, x0:x1] += level
    values[3, 2:7] = np.nan
    amplifiers = tuple(Amplifier(Section(*place)) for place in raw)
    calibration = Calibration(trim=Section(0, 100, 2, 46), amplifiers=amplifiers)
    (found,) = measure_frames([frame_in(tmp_path, values)], calibration, Recipe(), ALL, section)
    part = section or Section(0, 100, 0, 40)
    total = dict.fromkeys(ALL, 0.0)
    count = 0
    for y0, y1, x0, x1 in [(0, 60, 0, 8), (60, 100, 0, 8), (0, 100, 8, 40)]:
        own = Section(y0, y1, x0, x1).within(part)
        shift = 2 if x0 == 0 else 6
        pixels = values[part.y0 + own.y0 : part.y0 + own.y1, :]
        pixels = pixels[:, part.x0 + own.x0 + shift : part.x0 + own.x1 + shift]
        pixels = pixels[np.isfinite(pixels)]
        count += pixels.size
        for name, statistic in levels.LEVELS.items():
            total[name] += statistic(pixels) * pixels.size if pixels.size else 0.0
    for name in levels.LEVELS:
        assert found[name] == pytest.approx(total[name] / count, rel=1e-7), name


def test_a_section_is_measured_alone_on_the_same_rows(tall):
    frame, values = tall
    section = Section(35, 2000, 4, 60)
    (found,) = measure_frames([frame], Calibration(), Recipe(), ("median",), section)
    assert found["median"] == np.median(values[48:2000:16, 4:60])
    small = Section(35, 90, 4, 60)
    (found,) = measure_frames([frame], Calibration(), Recipe(), ("median",), small)
    assert found["median"] == np.median(values[35:90, 4:60])


def test_a_section_outside_of_the_image_is_refused(tall):
    frame, _ = tall
    with pytest.raises(UsageError, match=r"\[5:71,1:9\] does not lie in .* which is 70 x 2100"):
        measure_frames([frame], Calibration(), Recipe(), ("mean",), Section(0, 9, 4, 71))


def test_values_are_calibrated_trimmed_and_good(tmp_path):
    rng = np.random.default_rng(7)
    raw = rng.integers(1000, 1400, (1300, 50)).astype(np.uint16)
    trim = Section(7, 1297, 3, 45)
    bias = rng.normal(300, 2, trim.shape).astype(np.float32)
    bad = (rng.random(trim.shape) < 0.1).astype(np.uint8)
    raw[500:560, 10:30] = 60000
    calibration = Calibration(
        trim=trim,
        overscan=Section(0, 1300, 46, 50),
        bias=MasterImage(frame_in(tmp_path / "bias", bias)),
        bad_pixels=MasterImage(frame_in(tmp_path / "bad", bad)),
    )
    recipe = Recipe(dtype="float64", saturation=50000)
    section = Section(100, 1200, 0, 41)
    (found,) = measure_frames(
        [frame_in(tmp_path / "raw", raw)], calibration, recipe, ("mean",), section
    )
    values = raw - np.median(raw[:, 46:50], axis=1)[:, None]
    values = values[7:1297, 3:45] - bias.astype(float)
    values[(bad > 0) | (raw[7:1297, 3:45] >= 50000)] = np.nan
    assert found["mean"] == pytest.approx(np.nanmean(values[112:1200:16, :41]), rel=1e-13)


def test_a_frame_of_which_too_little_is_good_measures_nothing(tmp_path):
    values = np.full((90, 20), 100.0)
    values[:46] = 60000
    recipe = Recipe(saturation=50000)
    (found,) = measure_frames([frame_in(tmp_path, values)], Calibration(), recipe, ALL)
    assert all(math.isnan(value) for value in found.values())
    assert found.keys() == set(ALL)


def test_only_the_sampled_rows_of_a_frame_are_read(tall):
    frame, values = tall
    with count_bytes() as count:
        measure_frames([frame], Calibration(), Recipe(), ALL)
    assert count.bytes == values[::16].nbytes
    with count_bytes() as count:
        sampled = framestack.FrameStack((frame, frame))[:, 3:2000:131]
    assert count.bytes == sampled.nbytes
    np.testing.assert_array_equal(sampled, [values[3:2000:131]] * 2)


# --- definitions ----------------------------------------------------------------------------------


def iraf_mode(values):
    """The loop of ic_mode in IRAF's icstat.gx, counted from 1 as there."""
    a = [math.nan, *sorted(values)]
    n = len(values)
    if n < 10:
        return a[n // 2 + 1]
    i, j = int(1 + n * (1 - 0.7) / 2), int(1 + n * (1 + 0.7) / 2)
    low, high = a[i], a[j]
    if low == high:
        return low
    step, width = 0.01 * (high - low), 0.1 * (high - low)
    k, most, mode, passed = i, 0, math.nan, 0
    while True:
        begin = low + passed * step
        end = begin + width
        while i < j and a[i] < begin:
            i += 1
        while k < j and a[k] < end:
            k += 1
        if k - i > most:
            most, mode = k - i, a[(i + k) // 2]
        if k >= j:
            return mode
        passed += 1


@given(hnp.arrays(np.float64, st.integers(1, 400), elements=st.floats(-1e3, 1e3)))
def test_the_mode_is_that_of_iraf(values):
    assert mode_of(values) == iraf_mode(values.tolist())


def test_the_mode_of_a_sky_with_stars_is_the_sky():
    rng = np.random.default_rng(8)
    sky = rng.normal(200, 5, 40000)
    sky[:12000] += rng.exponential(300, 12000)
    assert mode_of(sky) == pytest.approx(200, abs=1.5)
    assert np.median(sky) > 202
    assert mode_of(np.full(50, 7.0)) == 7


@pytest.mark.parametrize("sigma", [0.5, 4.0, 90.0])
def test_the_noise_is_the_standard_deviation_whatever_the_structure(sigma):
    rng = np.random.default_rng(9)
    noise = rng.normal(0, sigma, (80, 900))
    structure = 1000 * np.sin(np.arange(900) / 150) + 40 * np.arange(80)[:, None]
    assert noise_of(noise + structure) == pytest.approx(sigma, rel=0.02)
    noise[rng.random(noise.shape) < 0.02] += 1e4
    noise[3] = np.nan
    assert noise_of(noise) == pytest.approx(sigma, rel=0.1)
    assert math.isnan(noise_of(noise[:, :4]))


def test_every_statistic_has_a_definition():
    assert {*levels.LEVELS, "noise"} == set(ALL)
