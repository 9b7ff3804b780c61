"""`masterframe.compat.ccdproc.combine` against ccdproc: its own tests, parity, and who is right."""

import ast
import functools
import inspect
import math
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import ccdproc
import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.nddata import CCDData, StdDevUncertainty, VarianceUncertainty
from astropy.stats import biweight_location, mad_std, median_absolute_deviation
from ccdproc.tests import test_combiner as theirs
from hypothesis import given
from hypothesis import strategies as st

from masterframe.compat.ccdproc import combine
from masterframe.errors import MasterframeError
from masterframe.fits import counter
from stacks import raw_frames, write_frames
from support import shared

METHODS = ("average", "median", "sum")
MAD_TO_SIGMA = 1.482602218505602

# ---------------------------------------------------------------- ccdproc's own tests of `combine`


def calls_combine(function):
    return any(
        isinstance(node, ast.Call) and getattr(node.func, "id", "") == "combine"
        for node in ast.walk(function)
    )


def users_of_combine():
    """Return the functions of ccdproc's tests that call `combine`, as 'file: function'."""
    found = []
    for file in sorted(Path(theirs.__file__).parent.glob("*.py")):
        tree = ast.parse(file.read_text())
        functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
        found += [f"{file.stem}: {node.name}" for node in functions if calls_combine(node)]
    return found


RUN_ELSEWHERE = {
    "run_with_file_number_limit: open_files_ccdproc_combine_chunk": "a program, see below",
    "run_with_file_number_limit: open_files_ccdproc_combine_nochunk": "a program, see below",
}
"""`combine` in programs that tests start; `memory_usage` calls the one of run_for_memory_profile,
which needs memory_profiler: `test_memory_stays_within_the_limit` measures the same."""
TAKEN = [name.split(": ")[1] for name in users_of_combine() if name.startswith("test_combiner: ")]


@pytest.mark.filterwarnings(
    "ignore:All-NaN slice encountered:RuntimeWarning",  # of Combiner, as in their module
    "ignore:Mean of empty slice:RuntimeWarning",
    "ignore:Degrees of freedom <= 0:RuntimeWarning",
)
class TestOfCcdproc:
    """Every test of ccdproc that calls `combine`, with ours in its place."""

    @pytest.fixture(autouse=True)
    def _ours(self, monkeypatch):
        monkeypatch.setattr(theirs, "combine", combine)

    for _name in TAKEN:
        locals()[_name] = staticmethod(getattr(theirs, _name))


def test_no_test_of_ccdproc_is_forgotten():
    assert len(TAKEN) >= 15
    found = set(users_of_combine())
    assert found == {f"test_combiner: {name}" for name in TAKEN} | set(RUN_ELSEWHERE)


@pytest.mark.parametrize("kind", ["combine-chunk", "combine-nochunk"])
def test_their_program_that_limits_open_files(kind):
    script = Path(theirs.__file__).parent / "run_with_file_number_limit.py"
    code = (
        "import runpy, sys, ccdproc; from masterframe.compat import ccdproc as ours; "
        "ccdproc.combine = ours.combine; sys.argv[:] = sys.argv[1:]; "
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    options = ["--kind", "fits", "--overhead", "4", "--open-by", kind, "20"]
    done = subprocess.run(
        [sys.executable, "-c", code, str(script), *options], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


# ------------------------------------------------------------------------------ what does not differ


def frames_of(values, masks=None):
    masks = [None] * len(values) if masks is None else masks
    return [CCDData(v, unit="adu", mask=m) for v, m in zip(values, masks, strict=True)]


def kept_counts(values, masks=None):
    present = np.isfinite(values)
    return (present if masks is None else present & ~masks).sum(axis=0)


def assert_same(ours, other, rtol=1e-12):
    np.testing.assert_array_equal(ours.mask, other.mask)
    good = ~ours.mask
    scale = np.abs(other.data[good]).max(initial=0)
    np.testing.assert_allclose(ours.data[good], other.data[good], rtol=rtol, atol=rtol * scale)
    assert ours.unit == other.unit
    assert ours.data.dtype == other.data.dtype


def test_the_signature_is_that_of_ccdproc():
    own, other = (inspect.signature(f).parameters for f in (combine, ccdproc.combine))
    assert list(own) == list(other)
    assert [p.default for p in own.values()] == [p.default for p in other.values()]
    assert [p.kind for p in own.values()] == [p.kind for p in other.values()]


def test_nothing_of_ccdproc_is_imported():
    code = "import sys, masterframe.compat.ccdproc; print('ccdproc' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


CLIPS = {
    "nothing": {},
    "default sigma": {"sigma_clip": True, "sigma_clip_low_thresh": 1.37},
    "mad": {
        "sigma_clip": True,
        "sigma_clip_func": np.ma.median,
        "sigma_clip_dev_func": mad_std,
        "sigma_clip_low_thresh": 2.1,
        "sigma_clip_high_thresh": 1.7,
    },
    "extrema": {"clip_extrema": True, "nlow": 1, "nhigh": 0},
    "limits": {"minmax_clip": True, "minmax_clip_min": 95.0, "minmax_clip_max": 108.0},
    "low limit": {"minmax_clip": True, "minmax_clip_min": 95.0},
    "extrema, limits": {
        "clip_extrema": True,
        "nlow": 0,
        "minmax_clip": True,
        "minmax_clip_max": 99,
    },
}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of ccdproc, where nothing is left
@pytest.mark.parametrize("clip", CLIPS)
@given(
    n=st.integers(2, 12),
    seed=st.integers(0, 2**32 - 1),
    step=st.sampled_from([0, 0.5, 4]),
    method=st.sampled_from(METHODS),
    kind=st.sampled_from([np.float64, np.float32, np.uint16]),
)
def test_values_and_masks_are_those_of_ccdproc(clip, n, seed, step, method, kind):
    rng = np.random.default_rng(seed)
    values = rng.normal(100, 7, (n, 3, 5))
    values[rng.random(values.shape) < 0.05] += 500
    values = (np.round(values / step) * step if step else values).astype(kind)
    frames = frames_of(values)
    assert_same(
        combine(frames, method=method, **CLIPS[clip]),
        ccdproc.combine(frames, method=method, **CLIPS[clip]),
    )


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of ccdproc, where nothing is left
@given(
    n=st.integers(2, 9),
    seed=st.integers(0, 2**32 - 1),
    method=st.sampled_from(METHODS),
    scaled=st.booleans(),
)
def test_masks_nan_and_scale_without_clipping_are_those_of_ccdproc(n, seed, method, scaled):
    rng = np.random.default_rng(seed)
    values = rng.normal(100, 7, (n, 3, 5))
    values[rng.random(values.shape) < 0.2] = np.nan
    masks = rng.random(values.shape) < 0.3
    scale = rng.uniform(0.5, 2, n) if scaled else None
    frames = frames_of(values, masks)
    ours = combine(frames, method=method, scale=scale)
    other = ccdproc.combine(frames, method=method, scale=scale)
    assert_same(ours, other)
    if method != "median":
        count = kept_counts(values, masks).astype(float)
        factor = np.sqrt(count / np.where(count > 1, count - 1, np.nan))
        np.testing.assert_allclose(
            ours.uncertainty.array[~ours.mask],
            (other.uncertainty.array * factor)[~ours.mask],
            rtol=1e-11,
        )


@pytest.mark.parametrize("method", ["average", "sum"])
@pytest.mark.parametrize("per_value", [False, True])
def test_weights_without_masks_are_those_of_ccdproc(method, per_value):
    rng = np.random.default_rng(4)
    values = rng.normal(100, 7, (6, 3, 5))
    weights = rng.uniform(0.1, 3, values.shape if per_value else 6)
    frames = frames_of(values)
    assert_same(
        combine(frames, method=method, weights=weights),
        ccdproc.combine(frames, method=method, weights=weights),
    )


FUNCTIONS = [np.ma.mean, np.ma.median, np.mean, np.median, np.nanmean, np.nanmedian]
FUNCTIONS += [np.average, np.ma.average, "mean", "median"]
DEVIATIONS = [np.ma.std, np.std, np.nanstd, mad_std, median_absolute_deviation, "std", "mad_std"]
DEVIATIONS += [ccdproc.sigma_func]


@pytest.mark.parametrize("func", FUNCTIONS, ids=lambda f: getattr(f, "__module__", "name") + str(f))
@pytest.mark.parametrize("dev", DEVIATIONS, ids=lambda f: getattr(f, "__name__", f))
def test_known_functions_are_those_of_ccdproc(func, dev):
    values = np.round(np.random.default_rng(8).normal(100, 3, (10, 8, 9)))
    clip = {"sigma_clip": True, "sigma_clip_func": func, "sigma_clip_dev_func": dev}
    clip |= {"sigma_clip_low_thresh": 1.5, "sigma_clip_high_thresh": 2}
    assert_same(combine(frames_of(values), **clip), ccdproc.combine(frames_of(values), **clip))


def test_a_value_on_the_bound_of_a_plain_mad_is_kept():
    for mad in (1.0, 0.1, 3.7, 1 / 3):
        for threshold in (1, 2, 3, 5, 7):
            column = np.array([-mad, -mad, 0, mad, threshold * mad])
            frames = frames_of(column[:, None, None])
            clip = {"sigma_clip": True, "sigma_clip_func": "median"}
            clip |= {"sigma_clip_dev_func": median_absolute_deviation}
            result = combine(frames, sigma_clip_high_thresh=threshold, method="sum", **clip)
            assert result.data[0, 0] == pytest.approx((threshold - 1) * mad)


def trimmed_center(values, axis):
    return np.nanmean(np.sort(values, axis=axis)[1:-1], axis=axis)


@pytest.mark.parametrize(
    ("func", "dev"),
    [
        (trimmed_center, np.ma.std),
        (biweight_location, "mad_std"),
        ("median", functools.partial(np.nanstd, ddof=1)),
        (np.ma.median, median_absolute_deviation),
    ],
)
def test_other_functions_are_called(func, dev):
    values = np.random.default_rng(8).normal(100, 3, (10, 8, 9))
    clip = {"sigma_clip": True, "sigma_clip_func": func, "sigma_clip_dev_func": dev}
    clip |= {"sigma_clip_low_thresh": 1.5, "sigma_clip_high_thresh": 2}
    assert_same(combine(frames_of(values), **clip), ccdproc.combine(frames_of(values), **clip))


def test_a_function_that_does_not_ignore_nan_is_refused_where_it_would_reject_nothing():
    values = np.random.default_rng(8).normal(100, 3, (10, 8, 9))
    masks = np.zeros(values.shape, bool)
    masks[2, 3, 4] = True
    frames = frames_of(values, masks)

    def center(block, axis):
        return block.mean(axis=axis)

    with pytest.raises(ValueError, match="sigma_clip_func gives NaN.*ignores NaN"):
        combine(frames, sigma_clip=True, sigma_clip_func=center)
    with pytest.raises(ValueError, match="sigma_clip_dev_func gives NaN"):
        combine(frames, sigma_clip=True, sigma_clip_dev_func=lambda v, axis: v.std(axis=axis))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("function", [np.ma.std, np.nanstd, np.nanmax, np.ptp])
def test_uncertainty_functions_are_those_of_ccdproc(method, function):
    rng = np.random.default_rng(6)
    values = rng.normal(100, 3, (7, 4, 5))
    masks = rng.random(values.shape) < 0.1 if function in (np.nanstd, np.nanmax) else None
    frames = frames_of(values, masks)
    given = {"method": method, "combine_uncertainty_function": function, "scale": np.arange(1, 8)}
    ours, other = combine(frames, **given), ccdproc.combine(frames, **given)
    np.testing.assert_allclose(ours.uncertainty.array, other.uncertainty.array, rtol=1e-12)
    assert_same(ours, other)


@pytest.mark.parametrize("kind", ["float64", np.float32, "f4", int, np.int16])
@pytest.mark.parametrize("method", METHODS)
def test_types_are_those_of_ccdproc(kind, method):
    values = raw_frames((5, 6, 7))
    ours = combine(frames_of(values), method=method, dtype=kind)
    assert_same(ours, ccdproc.combine(frames_of(values), method=method, dtype=kind), rtol=2e-7)
