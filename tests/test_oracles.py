"""The sigma rule against brute-force numpy, ccdproc and astropy, on real and random frames."""

import warnings

import numpy as np
import pytest
from astropy import stats
from astropy.io import fits
from astropy.nddata import CCDData
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from typer.testing import CliRunner

import masterframe as mf
from masterframe.cli import app
from masterframe.kernels import Floor, resolve_rejection
from masterframe.model import Noise, Recipe, Rejection
from stacks import raw_frames, write_frames
from support import shared
from twins import reject as twin_reject

NORMAL = 1.482602218505602
"""1 / the upper quartile of the normal distribution."""


@pytest.fixture(scope="module")
def bias_files():
    """The five bias frames, 'DARK' of zero seconds."""
    return sorted(str(path) for path in shared("data/efosc2").glob("EFOSC.2022-01-26T19:0*.fits"))


@pytest.fixture(scope="module")
def bias(bias_files):
    values = np.array([fits.getdata(path) for path in bias_files])
    assert values.shape == (5, 1030, 1030)
    return values


def combine(files, output, *options):
    """Run ``masterframe combine`` and return the planes that it wrote."""
    found = CliRunner().invoke(app, ["combine", *files, "-o", str(output), *options])
    assert found.exit_code == 0, found.output
    with fits.open(output) as hdus:
        return {hdu.name: hdu.data.copy() for hdu in hdus if hdu.name not in ("QUALITY", "INPUTS")}


def clip_once(values, least=0.0, low=5.0, high=5.0):
    """Return what one pass about the median keeps; NaN is never kept."""
    values = np.asarray(values, float)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # pixels without any value
        median = np.nanmedian(values, axis=0)
        sigma = np.maximum(NORMAL * np.nanmedian(np.abs(values - median), axis=0), least)
    return (values >= median - low * sigma) & (values <= median + high * sigma)


def mean_of(values, kept):
    total = np.where(kept, values, 0.0).sum(0)
    with np.errstate(invalid="ignore"):
        return total / kept.sum(0)


@pytest.mark.parametrize(("floor", "least"), [(["--noise-floor", "0"], 0.0), ([], NORMAL / 2)])
def test_the_efosc2_bias_equals_brute_force(bias_files, bias, tmp_path, floor, least):
    planes = combine(bias_files, tmp_path / "bias.fits", *floor)
    kept = clip_once(bias, least)
    np.testing.assert_array_equal(planes["COUNT"], kept.sum(0))
    np.testing.assert_array_equal(planes["PRIMARY"], mean_of(bias, kept).astype(np.float32))
    assert not planes["MASK"].any()


def test_a_known_read_noise_keeps_what_five_frames_would_cost(bias_files, bias, tmp_path):
    """The MAD of 5 values is often far too small: it alone throws out 3 % of good values."""
    keys = {name: fits.getval(bias_files[0], f"ESO DET OUT1 {name}") for name in ("CONAD", "RON")}
    options = ["--gain", "ESO DET OUT1 CONAD", "--read-noise", "ESO DET OUT1 RON"]
    planes = combine(bias_files, tmp_path / "bias.fits", *options)
    kept = clip_once(bias, keys["RON"] / keys["CONAD"])
    np.testing.assert_array_equal(planes["COUNT"], kept.sum(0))
    assert (~clip_once(bias)).mean() > 0.03
    assert (~kept).mean() < 0.002


def ccdproc_keeps(values, low, high):
    from ccdproc import Combiner

    combiner = Combiner([CCDData(frame.astype(float), unit="adu") for frame in values])
    combiner.sigma_clipping(low, high, func="median", dev_func="mad_std")
    return ~combiner.data_arr.mask


def astropy_keeps(values, low, high):
    clipped = stats.sigma_clip(
        values.astype(float), sigma_lower=low, sigma_upper=high, maxiters=1, axis=0,
        cenfunc="median", stdfunc="mad_std",
    )  # fmt: skip
    return ~np.ma.getmaskarray(clipped)


def masterframe_keeps(values, folder, low, high):
    """Return the counts kept, rejected low and rejected high of one pass without a floor."""
    rejection = Rejection(low=low, high=high, max_iters=1)
    recipe = Recipe(rejection, noise=Noise(floor=0.0), planes=("rejlow", "rejhigh"))
    planes = mf.open_stack(write_frames(folder, values)).mf.combine(recipe).compute()
    return [planes[name].values for name in ("count", "rejlow", "rejhigh")]


@pytest.fixture(scope="module")
def random_frames():
    rng = np.random.default_rng(17)
    smooth = rng.standard_t(3, (11, 90, 73)) * 40 + 1000
    return {"counts": raw_frames((8, 83, 61), seed=4), "floats": smooth.astype(np.float32)}


@pytest.mark.parametrize("oracle", [ccdproc_keeps, astropy_keeps])
@pytest.mark.parametrize("which", ["bias", "counts", "floats"])
@pytest.mark.parametrize(("low", "high"), [(5.0, 5.0), (3.0, 2.5)])
def test_the_same_values_are_rejected_as_by(
    request, random_frames, tmp_path, oracle, which, low, high
):
    values = request.getfixturevalue("bias") if which == "bias" else random_frames[which]
    kept = oracle(values, low, high)
    above = values > np.median(values, axis=0)
    count, rejected_low, rejected_high = masterframe_keeps(values, tmp_path, low, high)
    np.testing.assert_array_equal(count, kept.sum(0))
    np.testing.assert_array_equal(rejected_low, (~kept & ~above).sum(0))
    np.testing.assert_array_equal(rejected_high, (~kept & above).sum(0))
    assert 0 < rejected_high.sum() < values.size / 4


@pytest.mark.parametrize("which", ["counts", "floats"])
def test_rejecting_until_nothing_changes_only_ever_takes_away(random_frames, tmp_path, which):
    """What astropy's slow path does: values that were rejected do not come back."""
    values = random_frames[which]
    rejection = Rejection(low=3.0, high=3.0, max_iters="all")
    recipe = Recipe(rejection, noise=Noise(floor=0.0))
    planes = mf.open_stack(write_frames(tmp_path, values)).mf.combine(recipe).compute()
    kept = np.ones(values.shape, bool)
    while True:
        inside = clip_once(np.where(kept, values, np.nan), low=3.0, high=3.0) & kept
        if (inside == kept).all():
            break
        kept = inside
    np.testing.assert_array_equal(planes["count"], kept.sum(0))
    np.testing.assert_allclose(planes.data, mean_of(values, kept), rtol=2e-7)


def test_nan_and_masks_equal_a_brute_force_twin(tmp_path):
    import dask.array as da

    rng = np.random.default_rng(31)
    values = rng.normal(100, 4, (9, 47, 39)).astype(np.float32)
    values[rng.random(values.shape) < 0.03] += 90
    values[rng.random(values.shape) < 0.1] = np.nan
    values[:, 5, 6] = np.nan
    values[:8, 7, 8] = np.nan
    masks = rng.random(values.shape) < 0.15
    masks[:, 9, 10] = True
    stack = mf.open_stack(write_frames(tmp_path, values), rows=10)
    recipe = Recipe(Rejection(low=4.0, high=4.0), noise=Noise(floor=1.5))
    found = mf.combine_stack(stack, recipe, masks=da.from_array(masks)).dataset.compute()
    usable = np.where(masks, np.nan, values)
    kept = clip_once(usable, 1.5, 4.0, 4.0)
    np.testing.assert_array_equal(found["count"], kept.sum(0))
    np.testing.assert_allclose(found.data, mean_of(usable, kept), rtol=2e-7)
    np.testing.assert_array_equal(found["mask"].values == 1, kept.sum(0) == 0)


@given(
    hnp.arrays(
        np.uint16,
        st.tuples(st.integers(3, 12), st.integers(1, 3), st.integers(1, 5)),
        elements=st.integers(0, 9) | st.integers(990, 1010) | st.sampled_from([0, 65535]),
    ),
    st.sampled_from([0.0, NORMAL / 2, 12.0]),
    st.sampled_from([1, 2, "all"]),
)
@settings(max_examples=60)
def test_any_frames_are_combined_as_by_the_twin(values, floor, iterations):
    import xarray as xr

    stack = xr.DataArray(values, dims=("frame", "y", "x"))
    rejection = resolve_rejection(Rejection(low=3.0, high=3.0, max_iters=iterations))
    recipe = Recipe(rejection, noise=Noise(floor=floor), dtype="float64")
    found = mf.combine_stack(stack, recipe).dataset.compute(scheduler="synchronous")
    for y, x in np.ndindex(values.shape[1:]):
        column = values[:, y, x].astype(float)
        kept = twin_reject(column, rejection, Floor(floor, 0.0, 0.0, 0.0), len(column)) == 1
        assert found["count"].values[y, x] == kept.sum()
        assert found.data.values[y, x] == pytest.approx(column[kept].mean(), rel=1e-14)
