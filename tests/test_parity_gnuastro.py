"""The combination against gnuastro 0.19 (``astarithmetic``), and where that goes wrong.

Its sigclip operators clip about the median by the population standard deviation, until the standard
deviation changes by less than a tolerance, or a number of times. Values are combined as float32.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

import iraf
from masterframe.kernels import Floor, LoadTerms, combine_block
from masterframe.model import Recipe, Rejection
from support import program, shared

pytestmark = pytest.mark.system

SHAPE = (9, 34)
ROUNDING = 5e-7
CONVERGED = 1e-6
"""A tolerance that nothing but a clip without effect passes."""


def frames(n: int, whole: bool = False) -> Any:
    rng = np.random.default_rng(n)
    values = rng.normal(500, 7, (n, *SHAPE))
    hit = rng.random(values.shape) < 0.04
    values[hit] += rng.choice([-90, 300], hit.sum())
    return values.round().astype(np.uint16) if whole else values.astype(np.float32)


def arithmetic(folder: Path, values: Any, *words: Any) -> Any:
    """Apply an operator to frames; words stand behind their number on its command line."""
    if not (folder / "frames.lis").exists():
        iraf.write(folder, values)
    names = (folder / "frames.lis").read_text().split()
    out = folder / "out.fits"
    out.unlink(missing_ok=True)
    command = [program("astarithmetic"), *names, len(names), *words, "-g0", "-q", "-o", out.name]
    subprocess.run([str(word) for word in command], cwd=folder, check=True, timeout=60)
    return fits.getdata(out, 1)


def block(values: Any, estimator: Any = "mean", **options: Any) -> Any:
    rejection = Rejection("sigma", deviation="std", **options) if options else Rejection("none")
    recipe = Recipe(rejection=rejection, estimator=estimator)
    return combine_block(values, LoadTerms(), recipe, Floor(), np.arange(len(values)), np.float64)


@pytest.mark.parametrize("n", [3, 4, 11, 100])
@pytest.mark.parametrize("sigmas", [2.0, 3.0])
def test_clipping_to_convergence(tmp_path: Path, n: int, sigmas: float) -> None:
    values = frames(n)
    rejection = {"low": sigmas, "high": sigmas, "max_iters": "all"}
    for estimator in ("mean", "median"):
        theirs = arithmetic(tmp_path, values, sigmas, CONVERGED, f"sigclip-{estimator}")
        ours = block(values, estimator, **rejection)
        np.testing.assert_allclose(theirs, ours.data, rtol=ROUNDING)
    number = arithmetic(tmp_path, values, sigmas, CONVERGED, "sigclip-number")
    np.testing.assert_array_equal(number, ours.count)
    deviation = arithmetic(tmp_path, values, sigmas, CONVERGED, "sigclip-std")
    uncert = block(values, "mean", **rejection).uncert * np.sqrt(np.maximum(ours.count - 1, 1))
    np.testing.assert_allclose(deviation, uncert, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("where", ["efosc2", "microobservatory"])
def test_real_frames(tmp_path: Path, where: str) -> None:
    """As float32: their median of integers is an integer."""
    pattern = "EFOSC.2022-01-26T19:0*.fits" if where == "efosc2" else "*.FITS"
    paths = sorted(shared(f"data/{where}").glob(pattern))
    values = np.array([fits.getdata(path)[20:84, 30:130] for path in paths], np.float32)
    ours = block(values, low=1.7, high=1.7, max_iters="all")
    number = arithmetic(tmp_path, values, 1.7, CONVERGED, "sigclip-number")
    theirs = arithmetic(tmp_path, values, 1.7, CONVERGED, "sigclip-mean")
    np.testing.assert_array_equal(number, ours.count)
    np.testing.assert_allclose(theirs, ours.data, rtol=ROUNDING)


@pytest.mark.parametrize("clips", [1, 2, 3])
def test_statistics_lack_the_last_clip(tmp_path: Path, clips: int) -> None:
    """After N clips it gives the number of values left, but the mean and median of N - 1.

    One clip leaves the mean of all values, outliers and all.
    """
    values = frames(30)
    passes = [block(values, low=2.0, high=2.0, max_iters=k) for k in (1, 2, 3)]
    before = block(values) if clips == 1 else passes[clips - 2]
    number = arithmetic(tmp_path, values, 2.0, clips, "sigclip-number")
    theirs = arithmetic(tmp_path, values, 2.0, clips, "sigclip-mean")
    np.testing.assert_array_equal(number, passes[clips - 1].count)
    np.testing.assert_allclose(theirs, before.data, rtol=ROUNDING)
    assert (np.abs(theirs - passes[clips - 1].data) > 0.01).mean() > 0.2


def test_value_on_a_bound_is_kept(tmp_path: Path) -> None:
    """Gnuastro drops it, and all four here; astropy, IRAF (but for pclip) and we keep it."""
    values = np.zeros((4, *SHAPE), np.float32)
    values[:, 3, 3] = [-2.0, 0.0, 0.0, 2.0]  # standard deviation: the root of 2
    values[:, 4, 4] = [1.0, 3.0, 1.0, 3.0]  # and 1
    ours = block(values, low=1.0, high=1.0, max_iters=1)
    number = arithmetic(tmp_path, values, 1.0, 1, "sigclip-number")
    assert (ours.count[3, 3], number[3, 3]) == (2, 2)
    assert ours.count[4, 4] == 4
    assert number[4, 4] == 0


def test_median_of_integers_is_no_integer(tmp_path: Path) -> None:
    """Gnuastro cuts the median of an even number of integers, and clips about it."""
    values = frames(10, whole=True)
    median = arithmetic(tmp_path, values, 50.0, CONVERGED, "sigclip-median")
    exact = block(values, "median").data
    np.testing.assert_array_equal(median, np.floor(exact))
    assert (median < exact).any()


@pytest.mark.parametrize("n", [5, 8])
def test_operators(tmp_path: Path, n: int) -> None:
    values = frames(n)
    for operator in ("mean", "median", "sum"):
        theirs = arithmetic(tmp_path, values, operator)
        np.testing.assert_allclose(theirs, block(values, operator).data, rtol=ROUNDING)
    number = arithmetic(tmp_path, values, "number")
    np.testing.assert_array_equal(number, block(values).count)


def test_squares_of_large_integers(tmp_path: Path) -> None:
    """Its std is NaN or wrong where the square of a value does not fit 31 bits; ours is right."""
    values = frames(5, whole=True)
    values[0, 0, 0] = 60000
    theirs = arithmetic(tmp_path, values, "std")
    ours = block(values).uncert * np.sqrt(4)
    assert ours[0, 0] == pytest.approx(values[:, 0, 0].std())
    assert not np.isclose(theirs[0, 0], ours[0, 0], rtol=0.1)
    np.testing.assert_allclose(theirs.ravel()[1:], ours.ravel()[1:], rtol=1e-4)
