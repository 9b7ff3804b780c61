"""Simulated nights, reduced and compared with the truth that they were made of."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from masterframe.model import MaskBit
from masterframe.simulate import Camera, NightSpec, Truth, simulate_night

NORMAL = 1.482602218505602


@dataclass
class Reduced:
    """A night that was simulated and reduced, looked at on every so-many-th row."""

    truth: Truth
    report: dict
    peak_bytes: int
    stride: int

    def planes(self, part: str) -> dict:
        """Return the planes of the product whose name holds a part, on the rows looked at."""
        (item,) = (item for item in self.report["products"] if part in item["name"])
        with fits.open(item["output"], memmap=True) as hdus:
            return {
                hdu.name or "PRIMARY": np.array(hdu.data[:: self.stride])
                for hdu in hdus
                if isinstance(hdu, fits.PrimaryHDU | fits.ImageHDU)
            }

    def residual(self, part: str, expected: np.ndarray) -> tuple:
        """Return (found - expected), its claimed error, and what is not masked."""
        found = self.planes(part)
        good = found["MASK"] == 0
        return found["PRIMARY"] - expected[:: self.stride].astype(float), found["UNCERT"], good

    def hits(self, pixels) -> tuple:
        """Return the pixels of a list that are on the rows looked at, as an index, and values."""
        seen = pixels.y % self.stride == 0
        return (pixels.y[seen] // self.stride, pixels.x[seen]), pixels.value[seen]


MEASURE = """
import json, os, sys
pid = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ)
_, status, usage = os.wait4(pid, 0)
print(json.dumps([os.waitstatus_to_exitcode(status), usage.ru_maxrss]), file=sys.stderr)
"""
"""Started small: a process is blamed for the memory of the one that started it."""


def reduce_night(folder, spec, *options, stride=1):
    truth = simulate_night(folder, spec)
    code = "from masterframe.cli import main; main()"
    command = [sys.executable, "-c", code, "run", truth.night, "-o", folder / "out", "--json"]
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *map(str, [*command, *options])],
        capture_output=True,
        text=True,
        check=True,
    )
    status, peak = json.loads(done.stderr.splitlines()[-1])
    assert status == 0, done.stderr
    unit = 1 if sys.platform == "darwin" else 1024
    return Reduced(truth, json.loads(done.stdout), peak * unit, stride)


SMALL = NightSpec(
    Camera(shape=(312, 278), overscan=24, hot_fraction=2e-3),
    bias=12,
    darks={120.0: 10, 300.0: 8},
    flats={"V": 10, "B": 9},
    science={"V": 4},
    cosmic_rate=1.0,
    stars=9,
    seed=5,
)
LARGE = NightSpec(
    Camera(shape=(4096, 4096)),
    bias=20,
    darks={60.0: 10, 120.0: 10, 300.0: 10},
    flats={"B": 10, "V": 10, "R": 10},
    science={"B": 3, "V": 4, "R": 3},
    seed=6,
)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return reduce_night(tmp_path_factory.mktemp("small"), SMALL)


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    folder = tmp_path_factory.mktemp("large")
    try:
        yield reduce_night(folder, LARGE, "--memory", "1GB", stride=4)
    finally:
        shutil.rmtree(folder)  # 4 GB


@pytest.fixture
def size():
    """That of the night of each test; all of them look at the large one in one test, too."""
    return "small"


@pytest.fixture
def reduced(small):
    return small


def mean_and_error(residual, good):
    """Return the mean and its error; pixels of a row share the noise of their overscan."""
    rows = np.array([row[use].mean() for row, use in zip(residual, good, strict=True)])
    return rows.mean(), rows.std(ddof=1) / len(rows) ** 0.5


def show(size, what, **numbers):
    """Print numbers for ``pytest -rP``."""
    shown = {name: float(f"{number:.4g}") for name, number in numbers.items()}
    print(size, what, shown)  # noqa: T201


# What simulation of the same rule on the same noise gives, by plain numpy.


@dataclass
class Noise:
    """Combines simulated pixels; each has its own overscan, of which the median is taken."""

    camera: Camera
    rng: np.random.Generator
    size: int = 25_000

    def frames(self, n, electrons=0.0):
        """Return n frames of pixels less their overscan (adu)."""
        camera = self.camera
        level = self.rng.uniform(0, 1, (n, self.size))
        read = self.rng.normal(0, camera.read_noise, (n, self.size))
        lit = self.rng.poisson(electrons, (n, self.size)) + read
        overscan = self.rng.normal(0, camera.read_noise, (n, self.size, camera.overscan))
        dark = np.rint(level[..., None] + overscan / camera.gain)
        return np.rint(level + lit / camera.gain) - np.median(dark, axis=2)

    def combine(self, values, scale=1.0):
        """Return mean and variance of what the default rule keeps."""
        gain, read_noise = self.camera.gain, self.camera.read_noise
        center = np.median(values, axis=0)
        sigma = NORMAL * np.median(np.abs(values - center), axis=0)
        counted = np.sqrt(gain * np.maximum(center / scale, 0) + read_noise**2) / gain * scale
        sigma = np.maximum(sigma, np.maximum(counted, NORMAL / 2 * scale))
        kept = np.where(np.abs(values - center) <= 5 * sigma, values, np.nan)
        n = np.isfinite(kept).sum(0)
        return np.nanmean(kept, axis=0), np.nanvar(kept, axis=0, ddof=1) / n


def simulated_pulls(spec):
    """Return the mean square of (found - truth) / claimed error of bias, dark and flat."""
    noise = Noise(spec.camera, np.random.default_rng(1))
    gain = spec.camera.gain
    bias, bias_variance = noise.combine(noise.frames(spec.bias))
    found = {"bias": bias**2 / bias_variance}
    darks = {}
    for exptime, n in spec.darks.items():
        electrons = spec.camera.dark_current * exptime
        dark, variance = noise.combine(noise.frames(n, electrons) - bias)
        variance += bias_variance
        darks[exptime] = dark - electrons / gain, variance
        found[f"dark_{exptime:g}s"] = darks[exptime][0] ** 2 / variance
    shortest = min(darks)
    dark, dark_variance = darks[shortest]
    ratio = spec.flat_exptime / shortest
    level = spec.flat_level
    for name, n in spec.flats.items():
        raw = noise.frames(n, level * gain) - bias - dark * ratio
        flat, variance = noise.combine(raw / level, scale=1 / level)
        variance += (bias_variance + ratio**2 * dark_variance) / level**2
        found[f"flat_{name}"] = (flat - 1) ** 2 / variance
    return {name: squares.mean() for name, squares in found.items()}


@pytest.fixture(scope="module")
def expected_pulls():
    cache = {}

    def of(size):
        if size not in cache:
            cache[size] = simulated_pulls({"small": SMALL, "large": LARGE}[size])
        return cache[size]

    return of


def assert_pulls(size, what, residual, uncert, good, expected):
    found = np.mean((residual[good] / uncert[good]) ** 2)
    show(size, what, mean_square_pull=found, simulated=expected)
    assert found == pytest.approx(expected, rel=0.05)


def test_the_bias_is_recovered(size, reduced, expected_pulls):
    residual, uncert, good = reduced.residual("master_bias", reduced.truth.bias())
    mean, error = mean_and_error(residual, good)
    show(size, "bias (adu)", mean=mean, error=error)
    assert abs(mean) < 4 * error
    assert error < 0.05
    assert_pulls(size, "bias", residual, uncert, good, expected_pulls(size)["bias"])


def test_the_dark_current_is_recovered(size, reduced, expected_pulls):
    current = reduced.truth.dark_current()
    for exptime in reduced.truth.spec.darks:
        name = f"dark_{exptime:g}s"
        residual, uncert, good = reduced.residual(f"master_{name}", current * exptime)
        mean, error = mean_and_error(residual, good)
        show(size, name + " (adu)", mean=mean, error=error)
        assert abs(mean) < 4 * error
        assert_pulls(size, name, residual, uncert, good, expected_pulls(size)[name])


def test_the_flat_is_recovered(size, reduced, expected_pulls):
    for name in reduced.truth.spec.flats:
        sensitivity = reduced.truth.flat(name)
        residual, uncert, good = reduced.residual(f"master_flat_{name}", sensitivity)
        mean, error = mean_and_error(residual, good)
        spread = sensitivity.std()
        norm = 1.2533 * spread / sensitivity.size**0.5  # of the median that both are divided by
        show(size, f"flat_{name}", mean=mean, error=error, error_of_norm=norm)
        assert abs(mean) < 4 * np.hypot(error, norm)
        level = 1 + mean / sensitivity[:: reduced.stride][good].mean()
        residual -= (level - 1) * sensitivity[:: reduced.stride]
        expected = expected_pulls(size)[f"flat_{name}"]
        assert_pulls(size, f"flat_{name}", residual, uncert, good, expected)
        assert_even(residual, uncert, good)


def assert_even(residual, uncert, good):
    """No part of the image is off: the means of 7 x 5 cells are zero within their errors."""
    pulls = []
    for rows in np.array_split(np.arange(residual.shape[0]), 7):
        for columns in np.array_split(np.arange(residual.shape[1]), 5):
            cell = np.ix_(rows, columns)
            use = good[cell]
            pulls.append(
                residual[cell][use].sum() / np.sqrt((uncert[cell][use].astype(float) ** 2).sum())
            )
    assert np.std(pulls) < 2  # rows share the noise of their overscan
    assert np.abs(pulls).max() < 7


def test_hot_pixels_are_found(size, reduced):
    hot, _ = reduced.hits(reduced.truth.hot_pixels())
    for exptime in reduced.truth.spec.darks:
        mask = reduced.planes(f"master_dark_{exptime:g}s")["MASK"]
        marked = mask & MaskBit.HOT > 0
        missed = np.count_nonzero(~marked[hot])
        false = np.count_nonzero(marked) - np.count_nonzero(marked[hot])
        show(size, f"hot in {exptime:g} s", planted=len(hot[0]), missed=missed, false=false)
        assert missed == 0
        assert false <= 1e-6 * mask.size
    science = next(name for name in names(reduced, "science"))
    calibrated = reduced.planes(f"calibrated/{Path(science).stem}")
    assert (calibrated["MASK"][hot] & MaskBit.HOT).all()


def names(reduced, kind):
    return [shot.name for shot in reduced.truth.shots if shot.kind == kind and not shot.defect]


def test_cosmic_rays_are_gone(size, reduced):
    truth = reduced.truth
    exptime, n = max(truth.spec.darks.items())
    residual, uncert, good = reduced.residual(
        f"master_dark_{exptime:g}s", truth.dark_current() * exptime
    )
    visible = []
    for name in names(reduced, "dark"):
        if truth.shot(name).exptime != exptime:
            continue
        place, electrons = reduced.hits(truth.cosmic_rays(name))
        left_in_a_mean = electrons / truth.spec.camera.gain / n
        shown = good[place] & (left_in_a_mean > 8 * uncert[place])
        visible.append((residual[place] / uncert[place])[shown])
    pulls = np.concatenate(visible)
    show(size, "cosmic rays", visible=len(pulls), mean=pulls.mean(), beyond_6=(pulls > 6).sum())
    assert len(pulls) > 100
    assert abs(np.median(pulls)) < 5 / len(pulls) ** 0.5
    assert np.mean(np.abs(pulls) > 6) < 0.005


def test_the_trail_is_gone(size, reduced):
    truth = reduced.truth
    name, *others = (shot.name for shot in truth.shots if shot.trail and shot.kind == "flat")
    assert not others
    shot = truth.shot(name)
    sensitivity = truth.flat(shot.filter)
    residual, uncert, good = reduced.residual(f"master_flat_{shot.filter}", sensitivity)
    count = reduced.planes(f"master_flat_{shot.filter}")["COUNT"]
    place, electrons = reduced.hits(truth.trail(name))
    noise = np.sqrt(shot.light * sensitivity[:: reduced.stride][place])
    core = good[place] & (electrons > 12 * noise)
    pulls = (residual[place] / uncert[place])[core]
    rejected = np.mean(count[place][core] < truth.spec.flats[shot.filter])
    show(size, "trail", pixels=len(pulls), mean=pulls.mean(), rejected=rejected)
    assert len(pulls) > 50
    assert rejected > 0.995  # the MAD of ten values may be twice too large
    assert abs(pulls.mean()) < 5 * pulls.std() / len(pulls) ** 0.5


def test_science_frames_show_the_sky(size, reduced):
    """The sky of a calibrated frame is what was planted, and its scatter is what UNCERT claims."""
    truth = reduced.truth
    for shot in [shot for shot in truth.shots if shot.kind == "science" and not shot.trail][:2]:
        planes = reduced.planes(f"calibrated/{Path(shot.name).stem}")
        good = planes["MASK"] == 0
        sky = planes["PRIMARY"] - shot.light / truth.spec.camera.gain
        pull = (sky[good] / planes["UNCERT"][good]).astype(float)
        middle = np.median(pull)
        scatter = NORMAL * np.median(np.abs(pull - middle))
        show(size, shot.name, median_pull=middle, scatter=scatter)
        assert abs(middle) < 0.05
        assert scatter == pytest.approx(1, abs=0.05)


@pytest.mark.slow
def test_a_large_night_is_recovered_in_a_gigabyte(large, expected_pulls):
    """One test, so that the night is made once, whatever the number of processes."""
    products = large.report["products"]
    show("large", "run", peak=large.peak_bytes, seconds=large.report["seconds"])
    assert len(products) == 1 + 3 + 3 + 10
    assert {item["state"] for item in products} == {"made"}
    assert large.peak_bytes <= 10**9
    assert os.path.getsize(products[0]["output"]) > 4096**2 * 11  # noqa: PTH202
    test_the_bias_is_recovered("large", large, expected_pulls)
    test_the_dark_current_is_recovered("large", large, expected_pulls)
    test_the_flat_is_recovered("large", large, expected_pulls)
    test_hot_pixels_are_found("large", large)
    test_cosmic_rays_are_gone("large", large)
    test_the_trail_is_gone("large", large)
    test_science_frames_show_the_sky("large", large)
