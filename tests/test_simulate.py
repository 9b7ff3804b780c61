"""Simulated nights: the frames are what the specification and the truth say they are."""

import math
import subprocess
import sys
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from astropy.io import fits
from astropy.utils.exceptions import AstropyUserWarning
from hypothesis import given, settings
from hypothesis import strategies as st

from masterframe.errors import FrameError, MasterframeError, StorageError, UsageError
from masterframe.simulate import DEFECTS, Camera, NightSpec, Truth, simulate_night
from masterframe.simulate.events import Stars
from masterframe.simulate.exposing import FULL_SCALE, Readout, World, row_drift
from masterframe.simulate.noise import _skewed, read_electrons
from masterframe.simulate.planes import PlaneFile, write_plane
from masterframe.simulate.rawfile import write_raw
from support import program, unavailable

NY, NX, OVERSCAN = 250, 331, 24
CAMERA = Camera(
    shape=(NY, NX),
    overscan=OVERSCAN,
    gain=1.4,
    read_noise=5.5,
    full_well=80_000.0,
    hot_fraction=2e-3,
    dead_fraction=2e-4,
    dust=5,
)
SPEC = NightSpec(
    CAMERA,
    bias=9,
    darks={60.0: 2, 400.0: 7},
    flats={"V": 6, "g#782": 2},
    science={"g#782": 1, "V": 3},
    stars=40,
    cosmic_rate=1.0,
    defects=tuple(DEFECTS),
    seed=20,
)
NOISE = math.hypot(CAMERA.read_noise / CAMERA.gain, math.sqrt(1 / 12))
"""Noise of a pixel without light (adu): read noise and rounding."""


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    return simulate_night(tmp_path_factory.mktemp("simulated"), SPEC)


@pytest.fixture(scope="module")
def world(night):
    def plane(name):
        return PlaneFile.open(night.folder / f"{name}.fits")

    flats = {name: plane(f"flat_{name}") for name in SPEC.filters}
    return World(SPEC, plane("bias"), plane("dark"), flats, Stars.scatter(SPEC))


def raw(truth, name):
    return fits.getdata(truth.night / name)


def above_overscan(values):
    """Return the pixels that see light above the mean of the overscan of their row, in adu."""
    return values[:, :NX] - values[:, NX:].mean(axis=1, keepdims=True)


def good(truth, kind, **wanted):
    return [
        shot
        for shot in truth.shots
        if shot.kind == kind
        and not shot.defect
        and all(getattr(shot, key) == value for key, value in wanted.items())
    ]


def untouched(truth, shot):
    """Return where no cosmic ray and no satellite left electrons in a frame."""
    free = np.ones((NY, NX), bool)
    for pixels in (truth.cosmic_rays(shot.name), truth.trail(shot.name)):
        free[pixels.y, pixels.x] = False
    return free


def expected(truth, shot):
    """Return the mean of a frame without stars and events above its overscan (adu)."""
    light = shot.light * truth.flat(shot.filter) / CAMERA.gain if shot.light else 0
    return truth.bias() + light + shot.exptime * truth.dark_current()


def sigma(truth, shot):
    """Return the noise of a frame above its overscan (adu), for its expectation."""
    photons = (expected(truth, shot) - truth.bias()) / CAMERA.gain
    return np.sqrt(photons + NOISE**2 * (1 + 1 / OVERSCAN))


def pulls(truth, shot):
    """Return the deviations of a frame from its expectation over their known noise."""
    values = above_overscan(raw(truth, shot.name))
    return (values - expected(truth, shot)) / sigma(truth, shot)


def check_normal(values, n=None):
    """Check mean 0 and mean square 1 within four of their errors, for n independent values."""
    n = n or values.size
    assert abs(values.mean()) < 4 / math.sqrt(n)
    assert abs(np.square(values).mean() - 1) < 4 * math.sqrt(2 / n)


# ---------------------------------------------------------------- frames match the truth


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        ("bias", {}),
        ("dark", {"exptime": 60.0}),
        ("dark", {"exptime": 400.0}),
        ("flat", {"filter": "V"}),
        ("flat", {"filter": "g#782"}),
    ],
)
def test_every_frame_agrees_with_the_truth_within_its_noise(night, kind, wanted):
    for shot in good(night, kind, **wanted):
        # Rows share the noise of their overscan: fewer values are independent than pixels.
        values = pulls(night, shot)[untouched(night, shot)]
        assert abs(values.mean()) < 4 * math.sqrt(1 / values.size + 1 / (NY * OVERSCAN))
        assert abs(np.square(values).mean() - 1) < 4 * math.sqrt(2 / (NY * NX))


def test_overscan_has_the_level_and_follows_the_drift(night):
    drifts = []
    for shot in good(night, "bias") + good(night, "flat"):
        overscan = raw(night, shot.name)[:, NX:].astype(float)
        drift = row_drift(SPEC, shot)
        check_normal((overscan - CAMERA.bias_level - drift[:, None]) / NOISE)
        drifts.append(drift)
    drifts = np.array(drifts)
    assert 0.3 * CAMERA.row_drift < drifts.std() < 3 * CAMERA.row_drift
    assert np.abs(np.diff(drifts, axis=1)).max() < 0.1 * CAMERA.read_noise, "the drift is slow"
    assert np.ptp(drifts, axis=0).min() > 1, "each frame drifts its own way"


def test_read_noise_from_the_difference_of_two_bias_frames(night):
    one, two = (raw(night, shot.name).astype(float) for shot in good(night, "bias")[:2])
    difference = np.diff(one - two, axis=1)[:, ::2]  # the drift cancels between columns
    noise = difference.std() / 2
    assert noise == pytest.approx(NOISE, rel=4 / math.sqrt(2 * difference.size))


def test_gain_by_photon_transfer(night, world):
    flat = good(night, "flat")[0]
    means, variances = [], []
    for number, light in enumerate((4e3, 1.1e4, 2.3e4, 4.1e4, 6.3e4)):
        shots = [replace(flat, light=light, index=900 + 2 * number + i) for i in range(2)]
        readouts = [Readout(world, shot) for shot in shots]
        one, two = (above_overscan(readout.rows(0, NY)) for readout in readouts)
        free = np.ones((NY, NX), bool)
        for readout in readouts:
            for pixels in readout.events:
                free[pixels.y, pixels.x] = False
        means.append(((one + two) / 2 - night.bias())[free].mean())
        variances.append(np.var((one - two)[free]) / 2)
    slope, level = np.polyfit(means, variances, 1)
    assert 1 / slope == pytest.approx(CAMERA.gain, rel=0.015)
    assert abs(level - NOISE**2) < 0.02 * variances[-1]


def test_master_dark_shows_exactly_the_hot_pixels(night):
    darks = good(night, "dark", exptime=400.0)
    stack = np.array([above_overscan(raw(night, shot.name)) for shot in darks])
    current = (np.median(stack, axis=0) - night.bias()) / 400.0
    found = np.argwhere(current > 0.6 * CAMERA.hot_rate[0] / CAMERA.gain)
    hot = night.hot_pixels()
    assert hot.y.size == round(CAMERA.hot_fraction * NY * NX)
    assert found.tolist() == np.column_stack([hot.y, hot.x]).tolist()
    cool = np.ones((NY, NX), bool)
    cool[hot.y, hot.x] = False
    electrons = night.dark_current()[cool] * CAMERA.gain
    assert np.median(electrons) == pytest.approx(CAMERA.dark_current, rel=0.1)
    assert electrons.max() < CAMERA.hot_rate[0]
    corner = CAMERA.gain * np.median(night.dark_current()[:8, -8:])
    assert corner == pytest.approx(CAMERA.dark_current + CAMERA.glow, rel=0.3)


def test_truth_flat_is_normalised_vignetted_and_dusty(night):
    flat, other = night.flat("V"), night.flat("g#782")
    assert np.sort(flat, axis=None)[flat.size // 2] == 1
    dead = night.dead_pixels()
    assert dead.y.size == round(CAMERA.dead_fraction * NY * NX)
    assert flat[dead.y, dead.x].max() < 0.07
    middle = flat[NY // 2 - 20 : NY // 2 + 20, NX // 2 - 20 : NX // 2 + 20].mean()
    corners = np.array([flat[:9, :9], flat[:9, -9:], flat[-9:, :9], flat[-9:, -9:]])
    assert corners.mean() / middle == pytest.approx(1 - CAMERA.vignetting, abs=0.04)
    # Pixels respond alike through both filters, so that their ratio shows the dust alone.
    ratio = flat / other / np.median(flat / other)
    clean = np.abs(ratio - 1) < 1e-4
    assert 0.5 < clean.mean() < 0.999
    assert 0.75 < ratio.min() < 0.985
    assert 1.015 < ratio.max() < 1.25


def test_saturated_pixels_stop_at_the_end_of_the_scale(night):
    name = next(shot.name for shot in night.shots if shot.defect == "saturated")
    header = fits.getheader(night.night / name)
    values = raw(night, name)[:, :NX]
    # A well that ends before the converter does keeps the bias and its drift.
    assert header["SATURATE"] < values.min()
    assert np.median(values) == pytest.approx(1000 + CAMERA.full_well / CAMERA.gain, abs=10)
    deep = replace(SPEC, camera=replace(CAMERA, full_well=2e5))
    assert deep.camera.saturation == FULL_SCALE


# ---------------------------------------------------------------- stars, cosmic rays, satellites


def test_cosmic_rays_and_trails_are_where_the_truth_has_them(night):
    seen = 0
    for shot in good(night, "dark") + good(night, "flat"):
        outliers = np.abs(pulls(night, shot)) > 6
        touched = ~untouched(night, shot)
        assert not (outliers & ~touched).any()
        rays = night.cosmic_rays(shot.name)
        bright = np.zeros((NY, NX), np.float32)
        np.add.at(bright, (rays.y, rays.x), rays.value)
        strong = bright > 15 * sigma(night, shot) * CAMERA.gain
        assert outliers[strong].all()
        seen += int(strong.sum())
    assert seen > 300


def test_one_flat_and_one_science_frame_have_a_trail(night):
    crossed = [shot for shot in night.shots if night.trail(shot.name).y.size]
    assert [shot.kind for shot in crossed] == ["flat", "science"]
    for shot in crossed:
        trail = night.trail(shot.name)
        assert set(trail.x.tolist()) == set(range(NX)), "it crosses from edge to edge"
        core = trail.value > 0.8 * trail.value.max()
        excess = above_overscan(raw(night, shot.name)) - expected(night, shot)
        assert excess[trail.y[core], trail.x[core]].min() > 0


def test_bias_frames_have_no_cosmic_rays(night):
    assert all(not night.cosmic_rays(shot.name).y.size for shot in good(night, "bias"))


def test_stars_shift_with_the_dither_and_keep_their_light(night):
    stars = night.stars()
    gaps = np.hypot(stars.y[:, None] - stars.y, stars.x[:, None] - stars.x)
    np.fill_diagonal(gaps, np.inf)
    apart = (gaps.min(axis=0) > 25) & (stars.flux > 300) & (stars.flux < 3000)
    inside = (stars.y > 20) & (stars.y < NY - 20) & (stars.x > 20) & (stars.x < NX - 20)
    chosen = np.flatnonzero(apart & inside)
    assert chosen.size
    dithers = set()
    for shot in good(night, "science"):
        dithers.add(shot.dither)
        excess = (above_overscan(raw(night, shot.name)) - expected(night, shot)) * CAMERA.gain
        excess = np.where(untouched(night, shot), excess / night.flat(shot.filter), np.nan)
        for i in chosen:
            y, x = stars.y[i] + shot.dither[0], stars.x[i] + shot.dither[1]
            rows, columns = np.mgrid[int(y) - 6 : int(y) + 8, int(x) - 6 : int(x) + 8]
            stamp = excess[rows, columns]
            if np.isnan(stamp).any():
                continue
            assert (stamp * rows).sum() / stamp.sum() == pytest.approx(y, abs=0.1)
            assert (stamp * columns).sum() / stamp.sum() == pytest.approx(x, abs=0.1)
            assert stamp.sum() / shot.exptime == pytest.approx(stars.flux[i], rel=0.05)
    assert len(dithers) == 4
    assert np.abs(list(dithers)).max() <= SPEC.dither


@pytest.mark.parametrize(("light", "first", "last"), [("lamp", 1.0, 0.97), ("twilight", 1.6, 0.5)])
def test_flats_change_their_level(tmp_path, light, first, last):
    spec = NightSpec(Camera(shape=(33, 47)), 0, {}, {"R": 5}, {}, flat_light=light, cosmic_rate=0)
    truth = simulate_night(tmp_path, spec)
    medians = [np.median(raw(truth, shot.name)[:, :47]) - 1000 for shot in truth.shots]
    assert medians[0] / spec.flat_level == pytest.approx(first, rel=0.02)
    assert medians[-1] / spec.flat_level == pytest.approx(last, rel=0.02)


# ---------------------------------------------------------------- the noise model


def standard_normal(deviations):
    """Return the distribution function of the standard normal distribution."""
    return np.vectorize(math.erfc)(-deviations / math.sqrt(2)) / 2


def exact_distribution(mean, read_noise, edges):
    """Return the distribution function of Poisson numbers plus normal noise, from its series."""
    numbers = np.arange(int(mean + 12 * math.sqrt(mean) + 20))
    weights = np.exp(numbers * math.log(mean) - mean - [math.lgamma(k + 1) for k in numbers])
    return standard_normal((edges[:, None] - numbers) / read_noise) @ weights


@pytest.mark.parametrize(
    ("mean", "read_noise"),
    [
        (0.7, 3.0),
        (1.5, 4.0),
        (9.0, 3.0),
        (60.0, 5.0),
        (900.0, 8.0),
        (1.5, 1.0),
        (9.0, 0.6),
        (400.0, 0.8),
    ],
)
def test_electrons_as_read_have_the_exact_distribution(mean, read_noise):
    n = 600_000
    rng = np.random.default_rng(5)
    drawn = np.sort(read_electrons(rng, np.full(n, mean, np.float32), read_noise))
    sigma = math.hypot(math.sqrt(mean), read_noise)
    edges = mean + sigma * np.linspace(-4, 4, 161)
    found = np.searchsorted(drawn, edges, side="right") / n
    wanted = exact_distribution(mean, read_noise, edges)
    error = np.sqrt(wanted * (1 - wanted) / n) + 1 / n
    assert np.abs((found - wanted) / error).max() < 4.5
    # A plain Gaussian would fail this test by far.
    if mean == 9.0:
        gauss = standard_normal((edges - mean) / sigma)
        assert np.abs((gauss - wanted) / error).max() > 10


@pytest.mark.parametrize(
    ("mean", "read_noise"), [(0.3, 3.0), (1.0, 3.0), (10.0, 3.0), (3.0, 5.0), (50.0, 8.0)]
)
def test_one_draw_for_photons_and_read_noise_errs_by_no_more_than_it_says(mean, read_noise):
    normal = np.linspace(-5, 5, 501)
    drawn = _skewed(normal, np.full(normal.size, mean), read_noise)
    error = exact_distribution(mean, read_noise, drawn) - standard_normal(normal)
    assert np.abs(error).max() < 3e-5
    below = exact_distribution(mean, read_noise, drawn[:1])[0]
    assert below == pytest.approx(standard_normal(normal[:1])[0], rel=0.08)


def test_no_light_gives_plain_read_noise():
    drawn = read_electrons(np.random.default_rng(6), np.zeros((40, 5000), np.float32), 7.0)
    check_normal(drawn / 7)


def test_noise_agrees_with_getframes():
    """An independent simulator of cameras gives the same levels, spread and skewness."""
    try:
        import getframes
    except ImportError:
        unavailable("the package getframes")
    electrons = 40.0
    other = getframes.Camera(
        getframes.CameraConfig(
            name="twin",
            sensor_type=getframes.SensorType.CCD,
            resolution=(400, 500),
            pixel_size_um=9.0,
            quantum_efficiency=1.0,
            full_well_e=CAMERA.full_well,
            bit_depth=16,
            gain_e_per_adu=CAMERA.gain,
            bias_offset_adu=CAMERA.bias_level,
            read_noise_e=CAMERA.read_noise,
            dark_current_e_per_s=0.0,
        )
    )
    theirs = other.flat_frame(electrons, 1.0, seed=3).data.astype(float)
    ours = read_electrons(
        np.random.default_rng(4), np.full(theirs.shape, electrons, np.float32), CAMERA.read_noise
    )
    ours = np.rint(CAMERA.bias_level + ours / CAMERA.gain).astype(float)
    n = theirs.size
    assert abs(ours.mean() - theirs.mean()) < 4 * theirs.std() * math.sqrt(2 / n)
    assert abs(ours.std() / theirs.std() - 1) < 4 / math.sqrt(n)
    skewness = [(((frame - frame.mean()) / frame.std()) ** 3).mean() for frame in (ours, theirs)]
    assert abs(skewness[0] - skewness[1]) < 4 * math.sqrt(12 / n)
    assert skewness[0] > 0.03


# ---------------------------------------------------------------- the same bits


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_a_seed_gives_the_same_bytes_on_any_number_of_threads(night, tmp_path):
    steps = []
    simulate_night(
        tmp_path, SPEC, workers=3, progress=lambda done, total: steps.append((done, total))
    )
    assert contents(tmp_path) == contents(night.folder.parent)
    assert steps == [(i + 1, len(night.shots)) for i in range(len(night.shots))]


def test_another_seed_gives_other_frames_and_another_detector(night, tmp_path):
    other = simulate_night(tmp_path, replace(SPEC, seed=21, defects=()))
    assert not np.array_equal(night.hot_pixels().x, other.hot_pixels().x)
    for shot in other.shots:
        assert (raw(other, shot.name) != raw(night, shot.name)).mean() > 0.5


def test_frames_and_cells_share_no_noise(world, night):
    one, two = (Readout(world, shot).rows(0, NY).astype(float) for shot in night.shots[:2])
    one, two = (np.diff(frame[:240], axis=1) for frame in (one, two))
    cells = one.reshape(15, 16, -1)
    for left, right in ((one, two), (cells[:-1], cells[1:])):
        assert abs(np.corrcoef(left[..., NX:].ravel(), right[..., NX:].ravel())[0, 1]) < 0.1


@pytest.fixture(scope="module")
def whole_frame(night, world):
    return cache(lambda index: Readout(world, night.shots[index]).rows(0, NY))


@settings(max_examples=60, deadline=None)
@given(index=st.integers(0, 37), ends=st.tuples(st.integers(0, NY - 1), st.integers(0, NY - 1)))
def test_any_rows_have_the_bits_of_the_whole_frame(night, world, whole_frame, index, ends):
    y0, y1 = min(ends), max(ends) + 1
    part = Readout(world, night.shots[index]).rows(y0, y1)
    assert np.array_equal(part, whole_frame(index)[y0:y1])


def test_the_file_holds_the_rows_in_order(night, whole_frame):
    for shot in good(night, "science"):
        assert np.array_equal(raw(night, shot.name), whole_frame(shot.index))


# ---------------------------------------------------------------- files


def test_files_have_plain_names_and_the_counts_asked_for(night):
    names = [path.name for path in sorted(night.night.iterdir())]
    assert names == sorted(shot.name for shot in night.shots)
    counts = {kind: len(good(night, kind)) for kind in ("bias", "dark", "flat", "science")}
    assert counts == {"bias": 9, "dark": 9, "flat": 8, "science": 4}
    assert {"bias_009.fits", "dark_400s_007.fits", "flat_V_006.fits"} < set(names)
    assert {"flat_g#782_002.fits", "ngc6819_V_003.fits"} < set(names)


@pytest.mark.parametrize(
    ("name", "imagetyp", "exptime", "filter_card", "target"),
    [
        ("bias_001.fits", "Bias Frame", 0, None, None),
        ("dark_60s_002.fits", "Dark Frame", 60, None, None),
        ("flat_g#782_001.fits", "Flat Field", 5, "g#782", "lamp"),
        ("ngc6819_V_002.fits", "Light Frame", 120, "V", "NGC 6819"),
    ],
)
def test_headers_say_what_the_frame_is(night, name, imagetyp, exptime, filter_card, target):
    with fits.open(night.night / name) as hdus:
        hdus.verify("exception")
        header = hdus[0].header
        assert hdus[0].data.dtype == np.uint16
        assert hdus[0].data.shape == (NY, NX + OVERSCAN)
    assert header["IMAGETYP"] == imagetyp
    assert header["EXPTIME"] == exptime
    assert header.get("FILTER") == filter_card
    assert header.get("OBJECT") == target
    assert header["GAIN"] == header["EGAIN"] == CAMERA.gain
    assert "e-/adu" in header.comments["GAIN"]
    assert header["RDNOISE"] == CAMERA.read_noise
    assert header["CCD-TEMP"] == pytest.approx(CAMERA.temperature, abs=0.2)
    assert header["XBINNING"] == header["YBINNING"] == 1
    assert header["INSTRUME"] == CAMERA.name
    assert header["BIASSEC"] == f"[{NX + 1}:{NX + OVERSCAN},1:{NY}]"
    assert header["TRIMSEC"] == header["DATASEC"] == f"[1:{NX},1:{NY}]"
    assert header["DATE-OBS"] == night.shot(name).date_obs
    shift = night.shot(name).dither
    if imagetyp == "Light Frame":
        assert header["CRPIX1"] == pytest.approx(NX / 2 + 0.5 + shift[1], abs=1e-3)
        assert header["CRPIX2"] == pytest.approx(NY / 2 + 0.5 + shift[0], abs=1e-3)
    else:
        assert "CRPIX1" not in header
        assert shift == (0, 0)


def test_frames_start_one_after_the_other(night):
    dates = [shot.date_obs for shot in night.shots]
    assert dates == sorted(set(dates))
    assert dates[0] == "2026-06-20T18:00:00.000"


def test_a_camera_without_overscan_names_no_sections(tmp_path):
    spec = NightSpec(Camera(shape=(19, 35), overscan=0), 2, {}, {}, {})
    truth = simulate_night(tmp_path, spec)
    header = fits.getheader(truth.night / "bias_001.fits")
    assert (header["NAXIS1"], header["NAXIS2"]) == (35, 19)
    assert "BIASSEC" not in header
    assert "TRIMSEC" not in header


@pytest.mark.system
def test_files_are_clean_fits(night):
    whole = [night.night / shot.name for shot in night.shots if not shot.defect]
    command = [program("fitsverify"), "-q", *whole, *sorted(night.folder.glob("*.fits"))]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    assert said.count("verification OK") == len(command) - 2, said


# ---------------------------------------------------------------- bad frames


@pytest.fixture
def bad(night):
    """Return a function that gives the file of a defect and its shot."""

    def find(defect):
        (shot,) = (shot for shot in night.shots if shot.defect == defect)
        return night.night / shot.name, shot

    return find


def test_every_defect_has_one_file_and_says_what_is_wrong(night):
    assert sorted(night.bad.values()) == sorted(defect.summary for defect in DEFECTS.values())
    assert [shot.defect for shot in night.shots if shot.defect] == list(DEFECTS)
    assert not any(
        word in name for name in night.bad for word in ("trunc", "bad", "closed", "leak")
    )


def test_truncated(bad):
    path, _ = bad("truncated")
    pixels = 2 * NY * (NX + OVERSCAN)
    with path.open("rb") as file:
        assert fits.Header.fromfile(file)["NAXIS2"] == NY
        assert path.stat().st_size - file.tell() == int(0.4 * pixels)
    with pytest.warns(AstropyUserWarning, match="truncated"), fits.open(path) as hdus:
        assert hdus[0].header["IMAGETYP"] == "Light Frame"


def test_wrong_shape(bad):
    path, _ = bad("wrong_shape")
    header = fits.getheader(path)
    assert header["NAXIS2"] == NY - NY // 4
    assert header["TRIMSEC"] == f"[1:{NX},1:{NY - NY // 4}]"
    assert fits.getdata(path).mean() == pytest.approx(CAMERA.bias_level, abs=8)


def test_shutter_closed(bad):
    path, shot = bad("shutter_closed")
    assert fits.getheader(path)["IMAGETYP"] == "Flat Field"
    assert np.median(fits.getdata(path)[:, :NX]) < CAMERA.bias_level + 15
    assert shot.exptime == 5


def test_saturated(bad):
    path, _ = bad("saturated")
    values = fits.getdata(path)
    assert (values[:, :NX] >= CAMERA.saturation).all()
    assert values[:, NX:].mean() == pytest.approx(CAMERA.bias_level, abs=8)


def test_light_leak(bad, night):
    path, _ = bad("light_leak")
    excess = above_overscan(fits.getdata(path)) - night.bias()
    assert excess[:9, :9].mean() > 100 * NOISE
    assert excess[:9, :9].mean() > 50 * excess[-9:, -9:].mean() > 0


def test_wrong_filter(bad, night):
    path, shot = bad("wrong_filter")
    assert fits.getheader(path)["FILTER"] == shot.filter_card == "V"
    assert shot.filter == "g#782"
    true, claimed = (
        np.square(pulls(night, replace(shot, filter=name))[untouched(night, shot)]).mean()
        for name in ("g#782", "V")
    )
    assert true == pytest.approx(1, abs=0.03)
    assert claimed > 1.2


def test_wrong_filter_in_a_night_of_one_filter(tmp_path):
    spec = NightSpec(Camera(shape=(17, 23)), 0, {}, {"B": 1}, {}, defects=("wrong_filter",))
    truth = simulate_night(tmp_path, spec)
    assert fits.getheader(truth.night / "flat_B_002.fits")["FILTER"] == "clear"


def test_no_imagetyp(bad):
    path, _ = bad("no_imagetyp")
    header = fits.getheader(path)
    assert "IMAGETYP" not in header
    assert "dark" not in str(header).lower()
    assert "dark" not in path.name


def test_not_fits(bad):
    path, _ = bad("not_fits")
    assert path.suffix == ".fits"
    with pytest.raises(OSError, match="SIMPLE"):
        fits.open(path)


def test_duplicate(bad, night):
    path, _ = bad("duplicate")
    assert path.read_bytes() == (night.night / "bias_001.fits").read_bytes()
    assert path.stat().st_ino != (night.night / "bias_001.fits").stat().st_ino


def test_defects_do_not_change_the_good_frames(night, tmp_path):
    clean = simulate_night(tmp_path, replace(SPEC, defects=()))
    assert not clean.bad
    for shot in clean.shots:
        assert (clean.night / shot.name).read_bytes() == (night.night / shot.name).read_bytes()


# ---------------------------------------------------------------- truth on disk, errors


def test_truth_can_be_loaded_again(night):
    loaded = Truth.load(night.folder)
    assert loaded == night
    assert np.array_equal(loaded.flat("V", 30, 77), night.flat("V")[30:77])
    assert loaded.bias(240).shape == (10, NX)


def test_truth_lists_are_what_the_frames_were_made_with(night, world):
    for shot in night.shots:
        readout = Readout(world, shot)
        for saved, used in zip(
            (night.cosmic_rays(shot.name), night.trail(shot.name)), readout.events, strict=True
        ):
            assert all(map(np.array_equal, saved, used))
    assert all(map(np.array_equal, night.stars(), world.stars))


def test_the_median_of_a_plane_is_exact(tmp_path):
    values = np.random.default_rng(8).lognormal(0, 1, (131, 27)).astype(np.float32)
    plane = write_plane(tmp_path / "plane.fits", values.shape, [values[:50], values[50:]], "")
    assert plane.median() == np.median(values)
    assert np.array_equal(PlaneFile.open(plane.path).rows(0, 131), values)


def test_a_folder_without_truth_is_named(tmp_path, night):
    with pytest.raises(FrameError, match="simulate it again"):
        Truth.load(tmp_path)
    (tmp_path / "truth.json").write_text('{"shots": [{"unknown": 1}]}')
    with pytest.raises(FrameError, match=r"truth\.json"):
        Truth.load(tmp_path)
    with pytest.raises(UsageError, match="no file 'nothing'"):
        night.shot("nothing")
    with pytest.raises(UsageError, match="V, g#782"):
        night.flat("B")


def test_a_night_never_overwrites(tmp_path):
    spec = NightSpec(Camera(shape=(17, 23)), 1, {}, {}, {})
    simulate_night(tmp_path, spec)
    before = contents(tmp_path)
    with pytest.raises(StorageError, match="not empty"):
        simulate_night(tmp_path, replace(spec, seed=4))
    assert contents(tmp_path) == before
    with pytest.raises(StorageError, match="cannot write a night"):
        simulate_night(tmp_path / "night" / "bias_001.fits", spec)


def test_a_night_that_does_not_fit_the_disk_is_not_begun(tmp_path):
    spec = NightSpec(Camera(shape=(3_000_000, 4_000_000)))
    with pytest.raises(StorageError, match=r"takes [\d.]+ GB and .* has [\d.]+ GB free"):
        simulate_night(tmp_path, spec)
    assert contents(tmp_path) == {}


def test_a_failure_leaves_no_partial_file_and_no_record(tmp_path):
    spec = NightSpec(Camera(shape=(64, 90)), 7, {}, {}, {})

    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate_night(tmp_path, spec, progress=stop)
    assert not list(tmp_path.rglob("*.part"))
    assert not (tmp_path / "truth" / "truth.json").exists()


def test_a_frame_that_fails_half_way_leaves_nothing(tmp_path, night, world):
    class Failing(Readout):
        def rows(self, y0, y1):
            if y0 > 90:
                raise OSError(28, "No space left on device")
            return super().rows(y0, y1)

    with pytest.raises(OSError, match="No space left"):
        write_raw(tmp_path, night.spec, night.shots[3], {"": Failing(world, night.shots[3])})
    assert contents(tmp_path) == {}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bias": -1}, "-1 frames in bias"),
        ({"darks": {0.0: 3}}, "exposure time of a dark"),
        ({"flats": {"V": -2}}, "-2 frames in flats"),
        ({"flats": {"V/2": 2}}, "'V/2'"),
        ({"target": "Größe"}, "ASCII"),
        ({"exptime": math.nan}, "exptime = nan"),
        ({"sky": math.inf}, "sky = inf"),
        ({"star_flux": (9.0, 2.0)}, r"star_flux = 9\.0 to 2\.0"),
        ({"start": "tonight"}, "start = 'tonight'"),
        ({"flat_light": "moon"}, "lamp or twilight"),
        ({"defects": ("gremlins",)}, "unknown defect 'gremlins'"),
        ({"flats": {}, "defects": ("saturated",)}, "needs a flat frame"),
        ({"seed": -5}, "seed = -5"),
    ],
)
def test_impossible_nights_are_refused(change, message):
    with pytest.raises(UsageError, match=message):
        NightSpec(**change)


@pytest.mark.parametrize(
    "change",
    [
        {"shape": (15, 30)},
        {"gain": 0.0},
        {"read_noise": -1.0},
        {"hot_fraction": 0.3},
        {"hot_rate": (0.0, 4.0)},
        {"overscan": -3},
    ],
)
def test_impossible_cameras_are_refused(change):
    with pytest.raises(UsageError, match=f"{next(iter(change))[:5]}|rows"):
        Camera(**change)


def test_two_files_of_one_name_are_refused(tmp_path):
    spec = NightSpec(Camera(shape=(17, 23)), 1, {}, {"V": 1}, {"V": 1}, target="flat")
    with pytest.raises(MasterframeError, match="rename the target"):
        simulate_night(tmp_path, spec)
    with pytest.raises(UsageError, match="0 workers"):
        simulate_night(tmp_path, spec, workers=0)


@pytest.mark.slow
def test_memory_is_bounded_for_a_large_camera(tmp_path):
    """A frame of 4096 x 4096 takes 34 MB on disk and its images 67 MB each; none is ever held."""
    code = """
import resource, sys
import numpy, astropy.io.fits
from masterframe.simulate import Camera, NightSpec, simulate_night
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
spec = NightSpec(Camera(shape=(4096, 4095)), 1, {30.0: 1}, {"V": 1}, {"V": 1})
simulate_night(sys.argv[1], spec)
unit = 1 if sys.platform == "darwin" else 1024
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * unit)
"""
    ran = subprocess.run(
        [sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True
    )
    assert int(ran.stdout) < 150e6
