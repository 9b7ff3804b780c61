"""`masterframe.compat.ccdproc.combine` against ccdproc: its own tests, parity, and who is right."""

import ast
import functools
import inspect
import math
import subprocess
import sys
import tracemalloc
from pathlib import Path

import ccdproc
import distributed
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
from masterframe.kernels import efficiencies
from masterframe.kernels.tables import mad_factors
from stacks import raw_frames, write_frames
from support import shared

METHODS = ("average", "median", "sum")
MAD_TO_SIGMA = 1.482602218505602

# ----------------------------------------------------------------- ccdproc's own tests of `combine`


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
    assert len(TAKEN) >= 14
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
    command = [sys.executable, "-c", code, str(script), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# ----------------------------------------------------------------------------- what does not differ


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


def name_of(function):
    """Return a name that every process gives: that of a function, or the text itself."""
    return f"{getattr(function, '__module__', '')}.{getattr(function, '__name__', function)}"


FUNCTIONS = [np.ma.mean, np.ma.median, np.mean, np.median, np.nanmean, np.nanmedian]
FUNCTIONS += [np.average, np.ma.average, "mean", "median"]
DEVIATIONS = [np.ma.std, np.std, np.nanstd, mad_std, median_absolute_deviation, "std", "mad_std"]
DEVIATIONS += [ccdproc.sigma_func]


@pytest.mark.parametrize("func", FUNCTIONS, ids=name_of)
@pytest.mark.parametrize("dev", DEVIATIONS, ids=name_of)
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


def forty_percent(values, axis):
    return np.nanpercentile(values, 40, axis=axis)


@pytest.mark.parametrize(
    ("func", "dev"),
    [
        (forty_percent, np.ma.std),
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

    with pytest.raises(ValueError, match=r"sigma_clip_func gives NaN.*ignores NaN"):
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


# --------------------------------------------------------------------------------- files and memory


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    """Files of uint16, float32 in an extension, and float64 with masks beside them."""
    folder = tmp_path_factory.mktemp("night")
    values = raw_frames((7, 46, 31), seed=5)
    plain = write_frames(folder / "plain", values, BUNIT="adu", EXPTIME=3.0)
    extension = []
    for number, frame in enumerate(values):
        path = folder / f"extension_{number}.fits"
        image = fits.ImageHDU(frame.astype(np.float32), fits.Header({"BUNIT": "adu"}))
        fits.HDUList([fits.PrimaryHDU(), image]).writeto(path)
        extension.append(str(path))
    masked = []
    masks = np.random.default_rng(1).random(values.shape) < 0.1
    for number, frame in enumerate(values):
        path = folder / f"masked_{number}.fits"
        mask = masks[number] if number % 2 else None
        deviation = StdDevUncertainty(np.ones(frame.shape)) if number % 3 == 0 else None
        CCDData(frame.astype(float), unit="adu", mask=mask, uncertainty=deviation).write(path)
        masked.append(str(path))
    return {"plain": plain, "extension": extension, "masked": masked}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of ccdproc, where nothing is left
@pytest.mark.parametrize("kind", ["plain", "extension", "masked"])
@pytest.mark.parametrize("given", [{}, {"unit": u.electron}, {"hdu_mask": None}])
def test_files_are_read_as_ccdproc_reads_them(night, kind, given):
    files = night[kind]
    ours = combine(files, method="median", **given)
    assert_same(ours, ccdproc.combine(files, method="median", **given))
    held = [CCDData.read(path, **given) for path in files]
    np.testing.assert_array_equal(combine(held, method="median").data, ours.data)


def test_all_ways_of_naming_files(night):
    files = night["plain"]
    expected = combine(files)
    ways = [np.array(files), ",".join(files), ", ".join(files), iter(files), map(Path, files)]
    ways += [[*files[:3], *(CCDData.read(path) for path in files[3:])]]
    for way in ways:
        np.testing.assert_array_equal(combine(way).data, expected.data)
    assert combine(files[0]).data.sum() == fits.getdata(files[0]).sum()


@pytest.mark.parametrize("name", ["frame.fits.gz", "frame.fits.fz"])
def test_compressed_files(tmp_path, name):
    values, files = raw_frames((4, 46, 31)), []
    for number, frame in enumerate(values):
        image = fits.CompImageHDU(frame) if name.endswith("fz") else fits.PrimaryHDU(frame)
        files.append(str(tmp_path / f"{number}_{name}"))
        image.writeto(files[-1])
    given = {"unit": "adu", "hdu": 1 if name.endswith("fz") else 0, "method": "median"}
    ours = combine(files, mem_limit=2e5, **given)
    np.testing.assert_array_equal(ours.data, np.median(values, axis=0))
    assert_same(ours, ccdproc.combine(files, **given))


@pytest.mark.parametrize("hdu", ["left", "RIGHT", 1, 2])
def test_images_by_name_and_number(tmp_path, hdu):
    files = []
    for number in range(3):
        images = [
            fits.ImageHDU(np.full((4, 5), 10.0 * k + number), name=n)
            for k, n in enumerate(("LEFT", "right"))
        ]
        files.append(str(tmp_path / f"{number}.fits"))
        fits.HDUList([fits.PrimaryHDU(), *images]).writeto(files[-1])
    given = {"unit": "adu", "hdu": hdu}
    assert_same(combine(files, **given), ccdproc.combine(files, **given))
    before = counter.bytes
    combine(files, **given)
    assert counter.bytes - before == 3 * 4 * 5 * 8
    combine(files, ignore_missing_end=True, **given)  # read by astropy
    assert counter.bytes - before == 3 * 4 * 5 * 8


def test_the_active_client_is_used(night):
    scale = [1, 2, 3, 4, 5, 6, 7]
    expected = combine(night["masked"], sigma_clip=True, scale=scale)
    cluster = distributed.LocalCluster(
        n_workers=1,
        processes=False,
        dashboard_address="127.0.0.1:0",
        worker_dashboard_address="127.0.0.1:0",
    )
    with cluster, distributed.Client(cluster) as client:
        found = combine(night["masked"], sigma_clip=True, scale=scale, mem_limit=4e5)
        labels = client.run_on_scheduler(lambda dask_scheduler: [*dask_scheduler.task_prefixes])
    assert "mf-combine" in labels
    np.testing.assert_array_equal(found.data, expected.data)


def test_a_scale_function_is_called_in_the_order_given(night):
    files = night["plain"][::-1]
    seen = []

    def scale(values):
        seen.append(values.copy())
        return len(seen)

    ours = combine(files, scale=scale)
    for values, path in zip(seen, files, strict=True):
        np.testing.assert_array_equal(values, fits.getdata(path))
    np.testing.assert_array_equal(ours.data, combine(files, scale=np.arange(1, 8)).data)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("weighted", [False, True])
def test_memory_and_order_change_no_bit(night, method, weighted):
    rng = np.random.default_rng(3)
    order = rng.permutation(7)
    files = np.array(night["masked"])
    scale = rng.uniform(0.9, 1.1, 7)
    weights = rng.uniform(0.1, 2, (7, 46, 31)) if weighted and method != "median" else None
    given = {"method": method, "sigma_clip": True, "sigma_clip_low_thresh": 2, "scale": scale}
    expected = combine(files, weights=weights, **given)
    given |= {"scale": scale[order], "mem_limit": 1}
    found = combine(files[order], weights=None if weights is None else weights[order], **given)
    np.testing.assert_array_equal(found.data, expected.data)
    np.testing.assert_array_equal(found.uncertainty.array, expected.uncertainty.array)
    np.testing.assert_array_equal(found.mask, expected.mask)


def test_files_are_read_once_whatever_the_memory(night):
    for limit in (1, 16e9):
        before = counter.bytes
        combine(night["plain"], mem_limit=limit, sigma_clip=True, clip_extrema=True)
        assert counter.bytes - before == 7 * 46 * 31 * 2


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"method": "median"},
        {"weights": np.ones(40)},
        {"sigma_clip": True, "clip_extrema": True, "method": "median"},
        {"sigma_clip": True, "sigma_clip_func": lambda v, axis: np.nanmax(v, axis=axis) / 2},
    ],
    ids=["average", "median", "weights", "two clips", "function"],
)
def test_memory_stays_within_the_limit(tmp_path, given):
    values = np.random.default_rng(0).normal(0, 1, (40, 200, 301)).astype(np.float32)
    files = write_frames(tmp_path, values, BUNIT="adu")
    combine(files, mem_limit=6e6, **given)  # whatever is imported at first
    tracemalloc.start()
    combine(files, mem_limit=6e6, **given)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6e6 < values.nbytes


# ----------------------------------------------------------------------- what the result looks like


def test_header_unit_and_coordinates_are_those_of_ccdproc(night, tmp_path):
    files = night["plain"]
    ours = combine(files, output_file=tmp_path / "ours.fits")
    other = ccdproc.combine(files)
    assert ours.meta["NCOMBINE"] == len(files)
    del ours.meta["NCOMBINE"]
    assert repr(ours.meta) == repr(other.meta)
    assert ours.wcs == other.wcs
    back = CCDData.read(tmp_path / "ours.fits")
    np.testing.assert_array_equal(back.data, ours.data)
    np.testing.assert_array_equal(back.uncertainty.array, ours.uncertainty.array)
    assert not back.mask.any()


def test_the_first_frame_is_not_changed(night):
    first = CCDData(np.ones((3, 4)), unit="adu", meta={"A": 1})
    combine([first, first.multiply(3)])
    assert first.meta == {"A": 1}
    assert first.uncertainty is None
    assert first.data.sum() == 12


REFUSED = {
    "a typo": ({"sigma_clp": True}, TypeError, "did you mean sigma_clip"),
    "a typo of the reader": ({"hdu_maks": None}, TypeError, "did you mean hdu_mask"),
    "a method": ({"method": "meadian"}, ValueError, "did you mean median"),
    "a centre": ({"sigma_clip": True, "sigma_clip_func": "medain"}, ValueError, "mean median"),
    "a deviation": ({"sigma_clip": True, "sigma_clip_dev_func": "mad"}, ValueError, "mad_std"),
    "nothing left": ({"clip_extrema": True, "nlow": 2}, ValueError, "leaves nothing of 3"),
    "scale, number": ({"scale": 5}, TypeError, "neither a function nor an array"),
    "scale, shape": ({"scale": [5, 5]}, ValueError, "one number for each of the 3"),
    "scale, value": ({"scale": [1, np.inf, 1]}, ValueError, "scale of frame 2 is inf"),
    "weights, number": ({"weights": 1}, TypeError, "must be an array"),
    "weights, shape": ({"weights": np.ones(4)}, ValueError, r"\(3,\) or \(3, 4, 5\) would fit"),
    "weights, value": ({"weights": np.array([1, -1, 1])}, ValueError, "0 or more"),
    "weights, median": ({"weights": np.ones(3), "method": "median"}, ValueError, "no weights"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused(case):
    given, kind, message = REFUSED[case]
    frames = frames_of(np.ones((3, 4, 5)))
    with pytest.raises(kind, match=message) as error:
        combine(frames, **given)
    assert isinstance(error.value, MasterframeError)


def test_frames_that_do_not_fit_are_refused(night):
    first = CCDData(np.ones((3, 4)), unit="adu")
    with pytest.raises(TypeError, match="not the same size"):
        combine([first, CCDData(np.ones((4, 3)), unit="adu")])
    with pytest.raises(TypeError, match="don't have the same unit"):
        combine([first, CCDData(np.ones((3, 4)), unit="s")])
    with pytest.raises(TypeError, match="rows and columns"):
        combine([CCDData(np.ones((3, 4, 5)), unit="adu")] * 2)
    with pytest.raises(TypeError, match="neither the name of a file nor a CCDData"):
        combine([first, 3])
    with pytest.raises(ValueError, match="empty"):
        combine([])
    with pytest.raises(FileNotFoundError):
        combine([night["plain"][0], "gone.fits"])


def test_files_that_do_not_fit_are_refused(tmp_path):
    (adu,) = write_frames(tmp_path / "a", np.ones((1, 3, 4)), BUNIT="adu")
    (upper,) = write_frames(tmp_path / "b", np.ones((1, 3, 4)), BUNIT="ADU")
    (second,) = write_frames(tmp_path / "c", np.ones((1, 3, 4)), BUNIT="s")
    (large,) = write_frames(tmp_path / "d", np.ones((1, 4, 4)), BUNIT="adu")
    (none,) = write_frames(tmp_path / "e", np.ones((1, 3, 4)))
    assert combine([adu, upper]).unit == u.adu
    with pytest.raises(TypeError, match=r"c/frame_0000.fits has the unit s.*same unit"):
        combine([adu, second])
    with pytest.raises(TypeError, match=r"d/frame_0000.fits has shape \(4, 4\).*same size"):
        combine([adu, large])
    with pytest.raises(ValueError, match="unit"):
        combine([adu, none])
    assert combine([adu, none], unit="adu").unit == u.adu


# ------------------------------------------------------------- what differs, and who of us is right


def clipped_mean(values, low, high):
    """Clip one column about its mean, once, and average: brute force."""
    values = np.asarray([value for value in values if math.isfinite(value)])
    center, sigma = values.mean(), values.std()
    good = [v for v in values if center - low * sigma <= v <= center + high * sigma]
    return np.mean(good)


class Pixel:
    """The values of one pixel, combined by brute force as the docstring says."""

    def __init__(self, raw, masked, scale, weights):
        self.raw, self.values, self.weights = raw, raw * scale, weights
        self.left = [k for k in range(len(raw)) if not masked[k] and math.isfinite(raw[k])]

    def clip_extrema(self, nlow, nhigh):
        n, total = len(self.left), len(self.raw)
        low, high = int(n * nlow / total + 0.001), int(n * nhigh / total + 0.001)
        if n > low + high:
            ranked = sorted(self.left, key=lambda k: self.values[k])
            self.left = sorted(ranked[low : n - high])

    def clip_limits(self, low, high):
        self.left = [k for k in self.left if low <= self.raw[k] <= high]

    def clip_sigma(self, low, high, center, deviation):
        if self.left:
            good = self.values[self.left]
            middle, sigma = center(good), deviation(good)
            least, most = middle - low * sigma, middle + high * sigma
            self.left = [k for k in self.left if least <= self.values[k] <= most]

    def combined(self, method):
        """Return the value and its error."""
        left = [k for k in self.left if self.weights is None or self.weights[k] > 0]
        x, n = self.values[left], len(left)
        if n == 0:
            return math.nan, math.nan
        if method == "median":
            mad = np.median(abs(x - np.median(x)))
            factor = mad_factors(n, corrected=True)[n] * efficiencies(n)[n]
            return np.median(x), mad * factor / math.sqrt(n) if n > 1 else math.nan
        w = np.ones(n) if self.weights is None else self.weights[left]
        p = w / w.sum()
        mean, error = p @ x, math.nan
        if n > 1:
            error = math.sqrt(sum(p**2 * (x - p @ x) ** 2 / (1 - 2 * p + p @ p)))
        return (mean, error) if method == "average" else (mean * w.sum(), error * w.sum())


@given(
    n=st.integers(2, 12),
    seed=st.integers(0, 2**32 - 1),
    method=st.sampled_from(METHODS),
    scaled=st.booleans(),
    weighted=st.booleans(),
    first=st.sets(st.sampled_from(["extrema", "limits"])),
    clipped=st.sampled_from(["", "mean", "median"]),
)
def test_all_at_once_equals_brute_force(n, seed, method, scaled, weighted, first, clipped):
    rng = np.random.default_rng(seed)
    values = np.round(rng.normal(100, 7, (n, 3, 4)), 1)
    values[rng.random(values.shape) < 0.1] = np.nan
    masks = rng.random(values.shape) < 0.2
    scale = rng.uniform(0.8, 1.25, n) if scaled else np.ones(n)
    weights = None
    if weighted and method != "median":
        weights = rng.uniform(0, 2, values.shape)
        weights[rng.random(values.shape) < 0.2] = 0
    given = {"method": method, "weights": weights, "scale": scale if scaled else None}
    if "extrema" in first:
        given |= {"clip_extrema": True, "nlow": 0, "nhigh": 1}
    if "limits" in first:
        given |= {"minmax_clip": True, "minmax_clip_min": 92, "minmax_clip_max": 115}
    if clipped:
        given |= {"sigma_clip": True, "sigma_clip_low_thresh": 1.71, "sigma_clip_high_thresh": 1.3}
        given |= {"sigma_clip_func": clipped}
        given |= {"sigma_clip_dev_func": "std" if clipped == "mean" else "mad_std"}
    result = combine(frames_of(values, masks), **given)
    for y, x in np.ndindex(3, 4):
        own = None if weights is None else weights[:, y, x]
        pixel = Pixel(values[:, y, x], masks[:, y, x], scale, own)
        if "extrema" in first:
            pixel.clip_extrema(0, 1)
        if "limits" in first:
            pixel.clip_limits(92, 115)
        if clipped == "mean":
            pixel.clip_sigma(1.71, 1.3, np.mean, np.std)
        if clipped == "median":
            pixel.clip_sigma(1.71, 1.3, np.median, mad_std)
        value, error = pixel.combined(method)
        assert result.mask[y, x] == math.isnan(value)
        np.testing.assert_allclose(result.data[y, x], value, rtol=1e-12)
        engines_own = first == {"extrema"} and not clipped and weights is None
        if method == "median" or not engines_own:  # that of minmax is tested with the engine
            np.testing.assert_allclose(result.uncertainty.array[y, x], error, rtol=1e-9, atol=1e-12)


def test_scaling_comes_before_clipping():
    level = np.geomspace(1000, 9000, 9)
    flats = level[:, None, None] * np.ones((9, 2, 3))
    flats[4, 1, 2] *= 2.95  # a cosmic ray in a middling frame
    given = {"scale": 1 / level, "sigma_clip": True}
    given |= {"sigma_clip_func": "median", "sigma_clip_dev_func": "mad_std"}
    ours, other = (f(frames_of(flats), **given) for f in (combine, ccdproc.combine))
    np.testing.assert_allclose(ours.data, 1, rtol=1e-14)
    assert other.data[1, 2] > 1.2  # the ray is no outlier among raw levels

    extrema = {"scale": 1 / level, "clip_extrema": True, "nlow": 0, "nhigh": 1}
    ours, other = (f(frames_of(flats), **extrema) for f in (combine, ccdproc.combine))
    np.testing.assert_allclose(ours.data, 1, rtol=1e-14)
    assert other.data[1, 2] > 1.2


def test_limits_are_raw_as_those_of_ccdproc():
    values = np.random.default_rng(2).uniform(0, 100, (8, 4, 5))
    given = {"scale": np.arange(1, 9), "minmax_clip": True, "minmax_clip_max": 70}
    assert_same(combine(frames_of(values), **given), ccdproc.combine(frames_of(values), **given))


def test_masked_values_do_not_move_the_bounds():
    column = np.array([10.0, 11, 9, 10, 11, 9, 10, 11, 9, 10, 30, 1e6])
    values = column[:, None, None] * np.ones((12, 2, 3))
    masks = np.zeros(values.shape, bool)
    masks[-1] = True  # a hot pixel, known and masked
    given = {"sigma_clip": True}
    ours, other = (f(frames_of(values, masks), **given) for f in (combine, ccdproc.combine))
    np.testing.assert_allclose(ours.data, clipped_mean(column[:-1], 3, 3))
    np.testing.assert_allclose(ours.data, 10)
    np.testing.assert_allclose(other.data, column[:-1].mean())  # 30 hides behind the masked value


def test_each_clipping_looks_at_what_is_left():
    column = np.array([10.0, 11, 9, 10, 11, 9, 10, 11, 9, 10, 30, 1e6])
    values = column[:, None, None] * np.ones((12, 2, 3))
    given = {"sigma_clip": True, "minmax_clip": True, "minmax_clip_max": 1000}
    ours, other = (f(frames_of(values), **given) for f in (combine, ccdproc.combine))
    np.testing.assert_allclose(ours.data, 10)
    np.testing.assert_allclose(other.data, column[:-1].mean())


def test_masked_values_are_no_extremes():
    values = np.arange(1.0, 11)[:, None, None] * np.ones((10, 2, 3))
    masks = np.zeros(values.shape, bool)
    masks[-2:] = True  # known to be hot
    values[-2:] = 1e6
    values[7] = 800
    given = {"clip_extrema": True, "nlow": 0, "nhigh": 2}
    ours, other = (f(frames_of(values, masks), **given) for f in (combine, ccdproc.combine))
    kept = np.arange(1.0, 8)  # 8 values are there: int(2 / 10 * 8) = 1 is left out, as by IRAF
    np.testing.assert_allclose(ours.data, kept.mean())
    assert other.data[0, 0] > 100  # the masked values are taken for the two extremes


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of ccdproc, where nothing is left
@pytest.mark.parametrize("side", ["low", "high"])
def test_thresholds_follow_their_documentation(side):
    column = np.array([10.0, 11, 9, 10, 11, 9, 10, 11, 9, 10, 10, 10])
    column[-1] += -1000 if side == "low" else 1000
    frames = frames_of(column[:, None, None] * np.ones((12, 2, 3)))
    off = {"sigma_clip": True, f"sigma_clip_{side}_thresh": None}
    np.testing.assert_allclose(combine(frames, **off).data, column.mean())
    assert ccdproc.combine(frames, **off).data[0, 0] == pytest.approx(column[:-1].mean())
    negative = {"sigma_clip": True, f"sigma_clip_{side}_thresh": -3}
    np.testing.assert_allclose(combine(frames, **negative).data, column[:-1].mean())
    assert ccdproc.combine(frames, **negative).data[0, 0] != pytest.approx(column[:-1].mean())


def test_masked_values_have_no_weight():
    values = np.array([10.0, 10, 1e6])[:, None, None] * np.ones((3, 2, 3))
    masks = np.array([False, False, True])[:, None, None] & np.ones((3, 2, 3), bool)
    given = {"weights": np.array([1.0, 2, 3])}
    ours, other = (f(frames_of(values, masks), **given) for f in (combine, ccdproc.combine))
    np.testing.assert_allclose(ours.data, 10)
    np.testing.assert_allclose(other.data, 5)


def test_weights_of_values_work_in_any_memory(night):
    weights = np.random.default_rng(1).uniform(0.5, 2, (7, 46, 31))
    ours = combine(night["plain"], weights=weights, mem_limit=1e5)
    with pytest.raises(ValueError, match="1D weights expected"):
        ccdproc.combine(night["plain"], weights=weights, mem_limit=1e5)
    assert_same(ours, ccdproc.combine(night["plain"], weights=weights))


def true_error(function, n, method, noise=1.0, **given):
    """Return stated over true error of a combination of n values of Gaussian noise."""
    values = np.random.default_rng(n).normal(0, 1, (n, 200, 201))
    values *= np.broadcast_to(noise, n)[:, None, None]
    result = function(frames_of(values), method=method, **given)
    return math.sqrt(np.mean(result.uncertainty.array**2) / np.mean(result.data**2))


@pytest.mark.parametrize("n", [3, 5, 12])
@pytest.mark.parametrize("method", ["average", "sum"])
def test_the_stated_error_is_the_true_one(n, method):
    assert true_error(combine, n, method) == pytest.approx(1, abs=0.01)
    assert true_error(ccdproc.combine, n, method) == pytest.approx(math.sqrt((n - 1) / n), abs=0.01)


@pytest.mark.parametrize("n", [3, 5, 8, 15])
@pytest.mark.parametrize("method", ["average", "sum"])
def test_the_stated_error_of_weighted_values_is_the_true_one(n, method):
    weights = np.linspace(0.2, 3, n)
    given = {"method": method, "weights": weights}
    assert true_error(combine, n, **given) == pytest.approx(1, abs=0.015)
    assert true_error(ccdproc.combine, n, **given) < 0.93
    part = weights / weights.sum()  # inverse variances: a known factor, on the safe side
    factor = math.sqrt(np.sum(part * (1 - part) / (1 - 2 * part + np.sum(part**2))))
    assert 1 < factor < 1.12
    assert true_error(combine, n, noise=weights**-0.5, **given) == pytest.approx(factor, abs=0.015)


def mean_error(function, n, outliers=0):
    """Return the mean stated error of a median over the true error."""
    values = np.random.default_rng(n).normal(0, 1, (n, 200, 201))
    values[:outliers] += 1e4
    result = function(frames_of(values), method="median")
    spread = math.sqrt(np.mean((result.data - result.data.mean()) ** 2))
    return result.uncertainty.array.mean() / spread


@pytest.mark.parametrize("n", [3, 4, 5, 8, 15, 40])
def test_the_stated_error_of_a_median_is_the_true_one(n):
    assert mean_error(combine, n) == pytest.approx(1, abs=0.025)
    assert mean_error(ccdproc.combine, n) < 0.83
    if n > 10:  # one ray a pixel does not make the error of a median thousands
        assert mean_error(combine, n, outliers=1) < 1.2


@pytest.mark.parametrize("method", METHODS)
def test_one_value_tells_nothing_of_its_error(method):
    frames = frames_of(np.ones((2, 2, 3)), np.array([[[1]], [[0]]]) * np.ones((2, 2, 3), bool))
    ours, other = (f(frames, method=method) for f in (combine, ccdproc.combine))
    assert np.isnan(ours.uncertainty.array).all()
    assert not ours.mask.any()
    assert (other.uncertainty.array == 0).all()


def test_uncertainties_of_integers_are_not_truncated():
    values = raw_frames((5, 6, 7))
    ours, other = (f(frames_of(values), dtype=int) for f in (combine, ccdproc.combine))
    expected = values.std(axis=0, ddof=1) / math.sqrt(5)
    np.testing.assert_allclose(ours.uncertainty.array, expected)
    assert other.uncertainty.array.dtype.kind == "i"


def test_integers_of_masked_frames():
    values = np.array([1.6, 1.6, 2.9])[:, None, None] * np.ones((3, 2, 3))
    masks = np.zeros(values.shape, bool)
    masks[:, 0, 0] = True
    result = combine(frames_of(values, masks), dtype=int, method="sum")
    assert result.data[1, 1] == 6  # of 6.1; ccdproc would add 1, 1 and 2
    assert result.mask[0, 0]
    assert result.data[0, 0] == 0
    with pytest.raises((TypeError, ValueError)):
        ccdproc.combine(frames_of(values, masks), dtype=int, method="sum")


def test_the_uncertainty_says_what_it_is():
    first = CCDData(np.ones((2, 3)), unit="adu", uncertainty=VarianceUncertainty(np.ones((2, 3))))
    frames = [first, CCDData(3 * np.ones((2, 3)), unit="adu")]
    assert isinstance(combine(frames).uncertainty, StdDevUncertainty)
    np.testing.assert_allclose(combine(frames).uncertainty.array, math.sqrt(2 / 2))
    other = ccdproc.combine(frames).uncertainty
    assert isinstance(other, VarianceUncertainty)  # of standard deviations
    np.testing.assert_allclose(other.array, 1 / math.sqrt(2))


def test_infinite_values_are_left_out():
    values = np.array([1.0, 3, np.inf])[:, None, None] * np.ones((3, 2, 3))
    ours = combine(frames_of(values), method="sum")
    np.testing.assert_array_equal(ours.data, 4)
    np.testing.assert_array_equal(ccdproc.combine(frames_of(values), method="median").data, 3)
    np.testing.assert_array_equal(combine(frames_of(values), method="median").data, 2)


@pytest.mark.parametrize("kind", ["?", "u1", "i1", ">i2", "u4", "i8", "f2", ">f4"])
def test_any_type_in_memory(kind):
    values = (np.arange(60).reshape(5, 3, 4) % 7).astype(kind)
    given = {"clip_extrema": True, "method": "sum"}
    assert_same(combine(frames_of(values), **given), ccdproc.combine(frames_of(values), **given))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of ccdproc, where nothing is left
def test_where_nothing_is_left():
    masks = np.zeros((3, 2, 3), bool)
    masks[:, 1, 2] = True
    for method in METHODS:
        ours = combine(frames_of(np.ones((3, 2, 3)), masks), method=method)
        assert np.isnan(ours.data[1, 2])
        assert ours.mask.sum() == ours.mask[1, 2] == 1
    other = ccdproc.combine(frames_of(np.ones((3, 2, 3)), masks), method="sum")
    assert other.data[1, 2] == 0
    assert other.mask[1, 2]


def test_an_output_that_exists_is_found_before_the_work(tmp_path):
    (tmp_path / "there.fits").touch()
    called = []
    frames = frames_of(np.ones((2, 3, 4)))
    with pytest.raises(FileExistsError, match="overwrite_output=True") as error:
        combine(frames, output_file=tmp_path / "there.fits", scale=called.append)
    assert isinstance(error.value, MasterframeError)
    assert not called


def test_typos_are_swallowed_by_ccdproc():
    values = np.append(np.ones(20), 1000)[:, None, None] * np.ones((21, 2, 3))
    assert ccdproc.combine(frames_of(values), sigma_clp=True).data[0, 0] > 40


# -------------------------------------------------------------------------------------- real frames


def assert_same_error(ours, other, n):
    """Compare the uncertainties of unclipped averages and sums."""
    factor = math.sqrt(n / (n - 1))
    np.testing.assert_allclose(
        ours.uncertainty.array, other.uncertainty.array * factor, rtol=1e-9, atol=1e-9
    )


@pytest.fixture(scope="module")
def biases():
    folder = shared("data/efosc2")
    files = [str(path) for path in sorted(folder.glob("*.fits"))]
    return [path for path in files if fits.getheader(path)["EXPTIME"] == 0]


@pytest.mark.filterwarnings("ignore")  # of astropy, about the coordinates of raw frames
@pytest.mark.parametrize(
    ("method", "clip"),
    [("average", "default sigma"), ("median", "mad"), ("sum", "nothing"), ("sum", "extrema")],
)
def test_real_biases_combine_as_with_ccdproc(biases, method, clip):
    given = {"unit": "adu", "method": method, **CLIPS[clip]}
    ours, other = combine(biases, mem_limit=2e7, **given), ccdproc.combine(biases, **given)
    assert_same(ours, other)
    if clip == "nothing" and method != "median":
        assert_same_error(ours, other, len(biases))


@pytest.mark.filterwarnings("ignore")  # of astropy, about the coordinates of raw frames
def test_a_real_flat_with_a_function_for_the_scale():
    folder = shared("data/efosc2")
    flats = [
        str(path)
        for path in sorted(folder.glob("*.fits"))
        if "FLAT" in str(fits.getheader(path).get("HIERARCH ESO DPR TYPE"))
    ]
    given = {"unit": "adu", "method": "median", "scale": lambda a: 1 / np.median(a)}
    assert len(flats) > 2
    assert_same(combine(flats, **given), ccdproc.combine(flats, **given))
