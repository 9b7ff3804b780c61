"""The rules, their estimates and scalings against the real imcombine of IRAF 2.17.

IRAF combines in double precision here (``outtype``), so that counts can be asked to be equal and
values to agree far better than float32 rounds; its default, real, is asked for the latter.
Where we differ from IRAF on purpose, a test shows by how much and who is right.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

import iraf
import rule_driver
import rule_twins
from iraf_scaling import factors
from masterframe.kernels import (
    Floor,
    FrameTerms,
    LoadTerms,
    combine_block,
    resolve_rejection,
)
from masterframe.kernels.rules import KEPT
from masterframe.levels import mode_of
from masterframe.model import Recipe, Rejection
from support import shared

pytestmark = pytest.mark.system

SHAPE = (9, 34)
NO_TERMS, NO_FRAMES = LoadTerms(), FrameTerms()
GAIN, READ_NOISE, SNOISE = 1.5, 8.0, 0.01
CCD = {"gain": str(GAIN), "rdnoise": str(READ_NOISE), "snoise": str(SNOISE)}
NOISE = np.array([(READ_NOISE / GAIN) ** 2, 1 / GAIN, 0.0])
SIGCLIP: dict[str, Any] = {"deviation": "rms", "ddof": 1, "max_iters": "all"}
CENTER = {True: "median", False: "inner-mean"}
DOUBLE = {"outtype": "double"}


def frames(n: int, kind: str = "uint16", spread: float = 7.0, hits: float = 0.03) -> Any:
    """Noise about 500 with hits on both sides; whole numbers are full of ties."""
    rng = np.random.default_rng([n, int(10 * spread)])
    values = rng.normal(500, spread, (n, *SHAPE))
    hit = rng.random(values.shape) < hits
    values[hit] += rng.choice([-90, 300], hit.sum())
    return values.round().astype(np.uint16) if kind == "uint16" else values.astype(np.float32)


def real_frames(where: str, pattern: str) -> Any:
    """Real frames of one exposure time and kind, a corner of them."""
    paths = sorted(shared(f"data/{where}").glob(pattern))
    assert len(paths) > 4
    return np.array([fits.getdata(path)[20:84, 30:130] for path in paths])


def codes_of(rejection: Rejection, values: Any, noise: Any = NOISE) -> Any:
    """What becomes of each value, row by row; NaN is missing. Noise is one for all or per frame."""
    n, rows, nx = values.shape
    codes = np.empty(values.shape, int)
    for y in range(rows):
        each = np.broadcast_to(noise, (nx, n, 3))
        codes[:, y] = rule_driver.run(rejection, values[:, y].T.astype(float), each).codes.T
    return codes


def undone(rejection: Rejection, values: Any, noise: Any = NOISE) -> Any:
    """Pixels where ``nkeep`` (1) keeps a pass from rejecting all values.

    No rule can tell what is right there. Here that pass is not done; IRAF adds values back.
    """
    return ~(codes_of(replace(rejection, nkeep=0), values, noise) == KEPT).any(0)


def mean(values: Any, kept: Any, weights: Any = 1.0) -> Any:
    used = np.where(kept, weights, 0.0)
    return (np.where(kept, values, 0.0) * used).sum(0) / used.sum(0)


def block(
    values: Any,
    rejection: Rejection,
    estimator: Any,
    terms: LoadTerms = NO_TERMS,
    frames: FrameTerms = NO_FRAMES,
) -> Any:
    """Combine by the whole kernel, in double precision."""
    recipe = Recipe(rejection=rejection, estimator=estimator)
    order = np.arange(len(values))
    return combine_block(values, terms, recipe, Floor(), order, np.float64, frames=frames)


CASES = {
    "sigclip": (lambda mclip: ("sigma", SIGCLIP), {}),
    "avsigclip": (lambda mclip: ("avsigma", {}), {}),
    "ccdclip": (lambda mclip: ("ccd", {"snoise": SNOISE}), CCD),
    "crreject": (lambda mclip: ("ccd", {"snoise": SNOISE}), CCD),
}


def settings(reject: str, mclip: bool, low: float, high: float) -> tuple[Rejection, dict[str, Any]]:
    """The same rejection in our words and in those of IRAF."""
    words, options = CASES[reject]
    rule, own = words(mclip)
    ours = Rejection(
        rule, low=math.inf if reject == "crreject" else low, high=high, center=CENTER[mclip], **own
    )  # fmt: skip
    return ours, {"reject": reject, "mclip": mclip, "lsigma": low, "hsigma": high, **options}


@pytest.mark.parametrize("reject", CASES)
@pytest.mark.parametrize("mclip", [True, False])
@pytest.mark.parametrize(
    ("n", "kind", "spread", "sigmas"),
    [
        (2, "uint16", 7.0, (2.0, 2.5)),
        (3, "float32", 7.0, (1.1, 1.0)),
        (4, "uint16", 0.8, (2.0, 1.2)),
        (5, "uint16", 7.0, (3.0, 3.0)),
        (10, "uint16", 0.8, (2.0, 2.5)),
        (31, "float32", 7.0, (3.0, 3.0)),
        (200, "uint16", 7.0, (2.0, 2.5)),
    ],
)
def test_clipping(
    tmp_path: Path, reject: str, mclip: bool, n: int, kind: str, spread: float, sigmas: Any
) -> None:
    values = frames(n, kind, spread, hits=0.03 if n > 9 else 0.01)
    ours, theirs = settings(reject, mclip, *sigmas)
    iraf.write(tmp_path, values)
    compare(iraf.imcombine(tmp_path, "out", **theirs, **DOUBLE), ours, values)
    real = iraf.imcombine(tmp_path, "real", **theirs)  # its default: float32
    kept = codes_of(ours, values) == KEPT
    same = real.rejected == n - kept.sum(0)
    assert same.mean() > 0.97
    same &= kept.sum(0) > 1
    np.testing.assert_allclose(real.data[same], mean(values, kept)[same], rtol=1.5e-6)


def compare(theirs: iraf.Combined, ours: Rejection, values: Any, noise: Any = NOISE) -> None:
    """Counts are equal; so are values, but for an error of IRAF where one value is left.

    Pixels are left out where `nkeep` undoes a pass, and with them the row of avsigclip about the
    mean, whose spread is overwritten by what IRAF adds back.
    """
    kept = codes_of(ours, values, noise) == KEPT
    same = ~undone(ours, values, noise)
    if ours.rule == "avsigma" and ours.center == "inner-mean":
        same[~same.all(1)] = False
    assert same.mean() > 0.8
    np.testing.assert_array_equal(theirs.rejected[same], (~kept).sum(0)[same])
    if ours.center == "inner-mean" and ours.rule != "ccd":
        same &= kept.sum(0) > 1
    np.testing.assert_allclose(theirs.data[same], mean(values, kept)[same], rtol=1e-7)


@pytest.mark.parametrize(
    ("where", "pattern"),
    [
        ("efosc2", "EFOSC.2022-01-26T19:0*.fits"),
        ("st402/lab0_3x3", "flat*.FIT"),
        ("microobservatory", "*.FITS"),
    ],
)
@pytest.mark.parametrize("reject", CASES)
@pytest.mark.parametrize("mclip", [True, False])
def test_real_frames(tmp_path: Path, where: str, pattern: str, reject: str, mclip: bool) -> None:
    values = real_frames(where, pattern)
    ours, theirs = settings(reject, mclip, 2.0, 1.9)
    iraf.write(tmp_path, values)
    compare(iraf.imcombine(tmp_path, "out", **theirs, **DOUBLE), ours, values)


@pytest.mark.parametrize(
    ("where", "pattern"),
    [("efosc2", "EFOSC.2022-01-26T19:0*.fits"), ("st402/lab0_3x3", "flat*.FIT")],
)
@pytest.mark.parametrize("reject", ["minmax", "pclip"])
def test_real_frames_by_rank(tmp_path: Path, where: str, pattern: str, reject: str) -> None:
    """Bounds of pclip at which no difference of whole numbers or halves lies."""
    values = real_frames(where, pattern)
    if reject == "minmax":
        ours, theirs = Rejection("minmax", nlow=1, nhigh=2), {"nlow": 1, "nhigh": 2}
    else:
        ours = Rejection("pclip", low=2.51, high=math.pi)
        theirs = {"lsigma": 2.51, "hsigma": math.pi}
    iraf.write(tmp_path, values)
    made = iraf.imcombine(tmp_path, "out", reject=reject, **theirs, **DOUBLE)
    compare(made, ours, values)


def test_scales_and_zeros_of_real_frames(tmp_path: Path) -> None:
    """Flats of a lamp whose level drifts, brought to one level, then clipped."""
    values = real_frames("st402/lab0_3x3", "flat*.FIT")
    ours, theirs = settings("sigclip", True, 2.0, 2.5)
    iraf.write(tmp_path, values)
    for scale, zero in (("median", "none"), ("mean", "none"), ("none", "median")):
        name = f"{scale}_{zero}"
        made = iraf.imcombine(tmp_path, name, scale=scale, zero=zero, **theirs, **DOUBLE)
        s, z, _ = factors(values, scale, zero, "none", 1, 1)
        result = block(values, ours, "mean", LoadTerms(scale=1 / s, zero=-z))
        np.testing.assert_array_equal(len(values) - made.rejected, result.count)
        np.testing.assert_allclose(made.data, result.data, rtol=1e-6)
    made = iraf.imcombine(tmp_path, "mode", scale="mode", reject="none", **DOUBLE)
    levels = np.array([mode_of(frame) for frame in values])
    expected = (values * (levels[0] / levels)[:, None, None]).mean(0)
    np.testing.assert_allclose(made.data, expected, rtol=1e-7)


@pytest.mark.parametrize("kind", [np.int16, np.uint16, np.int32, np.float32])
def test_modes_of_skewed_frames(tmp_path: Path, kind: Any) -> None:
    """Ours are IRAF's but where an edge of a bin falls on a value: there IRAF's sums have rounded.

    Edges a step apart are summed up in float32 there; the twin does it too, and has all modes.
    """
    rng = np.random.default_rng(7)
    values = (900 + rng.gamma(3, 60, (12, 40, 50))).round().astype(kind)
    iraf.write(tmp_path, values)
    made = iraf.imcombine(tmp_path, "mode", scale="mode", reject="none", **DOUBLE)
    theirs = factors(values, "mode", "none", "none", 1, 1).scale
    expected = (values / theirs[:, None, None]).mean(0)
    np.testing.assert_allclose(made.data, expected, rtol=1e-7)
    ours = np.array([mode_of(frame) for frame in values])
    assert np.isclose(ours / ours[0], theirs, rtol=1e-6).sum() >= 9


def test_one_value_left_is_the_result(tmp_path: Path) -> None:
    """IRAF's sigclip and avsigclip about the mean give the centre of the pass before."""
    values = np.empty((5, *SHAPE), np.uint16)
    values[:] = np.array([458, 542, 500, 542, 458])[:, None, None]  # a spread of 1.94
    values[:, 2, 2] = [503, 790, 495, 500, 788]
    ours, theirs = settings("avsigclip", False, 2.0, 2.5)
    kept = codes_of(ours, values)[:, 2, 2] == KEPT
    assert kept.tolist() == [True, False, False, False, False]
    iraf.write(tmp_path, values)
    made = iraf.imcombine(tmp_path, "out", **theirs, **DOUBLE)
    assert made.rejected[2, 2] == 4
    assert made.data[2, 2] == 597  # of 503, 500 and 788


def test_values_added_back_do_not_spoil_the_row(tmp_path: Path) -> None:
    """IRAF's avsigclip about the mean keeps outliers behind a pixel to which it adds values back.

    The residual of an added value takes the place of the spread of the row.
    """
    values = np.full((4, *SHAPE), 500, np.uint16)
    values[:] += np.random.default_rng(3).integers(0, 20, values.shape).astype(np.uint16)
    values[:, 1, 9] = values[:, 2, 9] = [500, 505, 400, 510]  # row 2 is row 1 again, but for
    values[:, 2] = values[:, 1]
    values[:, 2, 4] = [490, 793, 799, 500]  # two against two, and in row 1
    values[:, 1, 20] = [490, 793, 799, 500]  # the same behind the outlier
    ours, theirs = settings("avsigclip", False, 2.0, 2.0)
    found = codes_of(ours, values) != KEPT
    iraf.write(tmp_path, values)
    made = iraf.imcombine(tmp_path, "out", **theirs, **DOUBLE)
    assert found[:, 1:3, 9].sum(0).tolist() == [1, 1]
    assert made.rejected[1:3, 9].tolist() == [1, 0]


def test_two_against_two(tmp_path: Path) -> None:
    """A pass that would leave nothing is not done; IRAF adds the nearest back, and their ties."""
    values = frames(4)
    values[:, 3, 3] = [490, 793, 799, 500]
    ours, theirs = settings("ccdclip", True, 3.0, 3.0)
    iraf.write(tmp_path, values)
    made = iraf.imcombine(tmp_path, "out", **theirs, **DOUBLE)
    assert undone(ours, values)[3, 3]
    assert (codes_of(ours, values)[:, 3, 3] == KEPT).all()
    assert made.rejected[3, 3] == 2
    assert made.data[3, 3] == (500 + 793) / 2


@pytest.mark.parametrize("reject", CASES)
def test_nkeep(tmp_path: Path, reject: str) -> None:
    """Equal where no pass goes below; else a pass is not done, while IRAF adds values back."""
    nkeep, values = 8, frames(10, hits=0.1)
    ours, theirs = settings(reject, True, 1.5, 1.2)
    iraf.write(tmp_path, values)
    made = iraf.imcombine(tmp_path, "out", **theirs, nkeep=nkeep, **DOUBLE)
    free = (codes_of(replace(ours, nkeep=0), values) == KEPT).sum(0)
    kept = (codes_of(replace(ours, nkeep=nkeep), values) == KEPT).sum(0)
    same = free >= nkeep
    assert same.any()
    assert not same.all()
    np.testing.assert_array_equal(10 - made.rejected[same], kept[same])
    assert (10 - made.rejected[~same] >= nkeep).all()
    assert (kept[~same] >= 10 - made.rejected[~same]).all()


@pytest.mark.parametrize("pclip", [-0.5, 0.7, -3.0])
@pytest.mark.parametrize("n", [3, 6, 31])
def test_pclip(tmp_path: Path, n: int, pclip: float) -> None:
    values = frames(n, "float32")
    iraf.write(tmp_path, values)
    options = {"reject": "pclip", "pclip": pclip, "lsigma": 2.5, "hsigma": 3.0}
    made = iraf.imcombine(tmp_path, "out", **options, **DOUBLE)
    compare(made, Rejection("pclip", low=2.5, high=3.0, pclip=pclip), values)


def test_pclip_keeps_values_on_a_bound(tmp_path: Path) -> None:
    """IRAF's pclip drops them, its other rules keep them; ours keep them all.

    With whole numbers that is a tenth of all values that it should keep.
    """
    values = frames(31)
    iraf.write(tmp_path, values)
    made = iraf.imcombine(tmp_path, "out", reject="pclip", lsigma=3.0, hsigma=3.0, **DOUBLE)
    rejection = resolve_rejection(Rejection("pclip"))
    ours = codes_of(rejection, values)
    theirs = np.empty(values.shape, int)
    for y in range(SHAPE[0]):
        for x in range(SHAPE[1]):
            column = values[:, y, x].astype(float)
            theirs[:, y, x] = rule_twins.pclip(column, rejection, frames=31, iraf=True)
    np.testing.assert_array_equal(made.rejected, (theirs != KEPT).sum(0))
    np.testing.assert_allclose(made.data, mean(values, theirs == KEPT), rtol=1e-7)
    median = np.median(values, 0)
    spread = np.abs(np.sort(values, 0)[15 - 7] - median)
    on_bound = np.abs(values - median) == 3 * spread
    assert on_bound.any()
    np.testing.assert_array_equal(ours != theirs, on_bound & (spread > 0))


@pytest.mark.parametrize("reject", [*CASES, "minmax", "pclip"])
def test_missing_values(tmp_path: Path, reject: str) -> None:
    """Values beyond IRAF's thresholds are missing; its pclip alone takes no notice.

    It takes the rank of the percentile from all frames: where few are left it is an extreme.
    """
    values = frames(12, "float32", hits=0.02)
    theirs: dict[str, Any] = {"reject": reject, "nlow": 2, "nhigh": 3, "lsigma": 2.0, "hsigma": 2.0}
    if reject in CASES:
        ours, theirs = settings(reject, True, 2.0, 2.0)
    elif reject == "minmax":
        ours = Rejection("minmax", nlow=2, nhigh=3)
    else:
        ours = Rejection("pclip", low=2.0, high=2.0)
    iraf.write(tmp_path, values)
    limits = {"lthreshold": 490.0, "hthreshold": 520.0, "blank": -1.0}
    made = iraf.imcombine(tmp_path, "out", **theirs, **limits, **DOUBLE)
    inside = np.where((values >= 490) & (values <= 520), values, np.nan)
    n = np.isfinite(inside).sum(0)
    assert n.min() < 9
    codes = codes_of(ours, inside)
    if reject == "pclip":
        ours = resolve_rejection(ours)
        for y, x in np.ndindex(*SHAPE):
            there = np.isfinite(inside[:, y, x])
            column = inside[there, y, x]
            codes[there, y, x] = rule_twins.pclip(column, ours, frames=12, iraf=True)
    same = ~undone(ours, inside)
    np.testing.assert_array_equal(made.rejected[same], 12 - (codes == KEPT).sum(0)[same])
    np.testing.assert_allclose(made.data[same], mean(inside, codes == KEPT)[same], rtol=1e-7)


@pytest.mark.parametrize("combine", ["average", "median", "sum"])
@pytest.mark.parametrize("reject", ["none", "minmax", "pclip", *CASES])
@pytest.mark.parametrize(("n", "mclip"), [(2, True), (3, True), (12, False), (101, True)])
def test_whole_kernel(tmp_path: Path, combine: str, reject: str, n: int, mclip: bool) -> None:
    """Values and counts of a block, also where the rule is one that marks values."""
    values = frames(n, "uint16", hits=0.03 if n > 5 else 0.0)
    theirs: dict[str, Any] = {"reject": reject, "nlow": n // 7, "nhigh": n // 4}
    ours = Rejection("none")
    if reject in CASES:
        ours, theirs = settings(reject, mclip, 2.0, 2.5)
    elif reject == "minmax":
        ours = Rejection("minmax", nlow=n // 7, nhigh=n // 4)
    elif reject == "pclip":
        theirs |= {"lsigma": 2.51, "hsigma": math.pi}  # no value is on a bound
        ours = Rejection("pclip", low=2.51, high=math.pi)
    iraf.write(tmp_path, values)
    made = iraf.imcombine(tmp_path, "out", combine=combine, **theirs, **DOUBLE)
    noise = FrameTerms(noise=np.tile(NOISE, (n, 1)))
    result = block(values, ours, {"average": "mean"}.get(combine, combine), frames=noise)
    np.testing.assert_array_equal(n - made.rejected, result.count)
    np.testing.assert_allclose(made.data, result.data, rtol=1e-7)


@pytest.mark.parametrize("radius", [1.0, 1.5, 2.0, 3.0])
def test_grow(tmp_path: Path, radius: float) -> None:
    """IRAF grows as we do, but its median takes the middle of what is no longer sorted."""
    values = frames(11, "float32", hits=0.01)
    ours, theirs = settings("sigclip", True, 3.0, 3.0)
    ours = replace(ours, grow=radius)
    iraf.write(tmp_path, values)
    average, median = (
        iraf.imcombine(tmp_path, combine, combine=combine, grow=radius, **theirs, **DOUBLE)
        for combine in ("average", "median")
    )
    result = block(values, ours, "mean")
    np.testing.assert_array_equal(11 - average.rejected, result.count)
    np.testing.assert_array_equal(11 - median.rejected, result.count)
    np.testing.assert_allclose(average.data, result.data, rtol=1e-7)
    wrong = ~np.isclose(median.data, block(values, ours, "median").data, rtol=1e-7)
    assert wrong.mean() > 0.1
    assert not wrong[average.rejected == 0].any()


def test_lower_median(tmp_path: Path) -> None:
    """IRAF's lmedian is the lower of two values, but the plain median of 4, 6 ... ."""
    for n in (2, 4, 5):
        folder = tmp_path / str(n)
        folder.mkdir()
        values = frames(n, "float32")
        iraf.write(folder, values)
        made = iraf.imcombine(folder, "out", combine="lmedian", **DOUBLE)
        expected = values.min(0) if n == 2 else np.median(values.astype(float), 0)
        np.testing.assert_allclose(made.data, expected, rtol=1e-7)


EXPOSED, COMBINED = np.array([10.0, 12, 15, 20, 8, 30]), np.array([1, 1, 2, 1, 3, 1])
GIVEN: dict[str, Any] = {
    "scale": np.array([1.0, 1.5, 0.8, 2, 1, 0.7]),
    "zero": np.array([5.0, -10, 0, 100, 3, 7]),
    "weight": np.array([2.0, 1, 3, 1, 0.5, 1]),
}


def scaled_frames(shape: tuple[int, int] = (40, 50)) -> Any:
    rng = np.random.default_rng(5)
    levels = 400.0 + 150 * np.arange(6)[:, None, None]
    return rng.normal(levels, 7, (6, *shape)).round().astype(np.uint16)


def scaled(folder: Path, wanted: dict[str, str], **options: Any) -> tuple[Any, Any]:
    """Combine frames by IRAF, and return its result and the factors it should have used."""
    values = scaled_frames()
    cards = [
        {
            "EXPTIME": exposed,
            "NCOMBINE": int(combined),
            **{key: given[k] for key, given in GIVEN.items()},
        }
        for k, (exposed, combined) in enumerate(zip(EXPOSED, COMBINED, strict=True))
    ]
    iraf.write(folder, values, cards)
    words = {
        key: {"file": iraf.numbers(folder, key, GIVEN[key]), "key": f"!{key}"}.get(word, word)
        for key, word in wanted.items()
    }
    made = iraf.imcombine(folder, "out", expname="EXPTIME", **words, **options, **DOUBLE)
    told = {k: GIVEN[k] if word in ("file", "key") else word for k, word in wanted.items()}
    return made, factors(values, exposed=EXPOSED, combined=COMBINED, **told)


@pytest.mark.parametrize("scale", ["none", "mean", "median", "mode", "exposure", "file", "key"])
@pytest.mark.parametrize("zero", ["none", "mean", "median", "mode", "file", "key"])
def test_scale_zero_weight(tmp_path: Path, scale: str, zero: str) -> None:
    """Scaled values are v scale + zero with 1 / s and -z, and weighted in the kernel."""
    for weight in ("none", "mean", "exposure", "file", "key"):
        folder = tmp_path / weight
        folder.mkdir()
        made, (s, z, w) = scaled(folder, {"scale": scale, "zero": zero, "weight": weight})
        result = block(
            scaled_frames(), Rejection("none"), "weighted",
            LoadTerms(scale=1 / s, zero=-z), FrameTerms(weights=w),
        )  # fmt: skip
        np.testing.assert_allclose(made.data, result.data, rtol=2e-7)


def test_sampled_statistics(tmp_path: Path) -> None:
    """Large frames are sampled; a mean is summed in float32 and good to 2e-5 alone."""
    rng = np.random.default_rng(6)
    values = rng.normal([[[900]], [[700]], [[1000]]], 9, (3, 400, 410)).round().astype(np.uint16)
    iraf.write(tmp_path, values)
    for scale, close in (("median", 1e-7), ("mode", 1e-7), ("mean", 3e-5)):
        made = iraf.imcombine(tmp_path, scale, scale=scale, **DOUBLE)
        s = factors(values, scale, "none", "none", 1, 1).scale
        np.testing.assert_allclose(made.data, (values / s[:, None, None]).mean(0), rtol=close)


@pytest.mark.parametrize("n", [6, 25])
def test_scaled_noise(tmp_path: Path, n: int) -> None:
    """Each value is judged by the noise of its own frame: sigscale in IRAF, always here.

    ``sigscale=0`` never corrects, though IRAF's help says that it always does: then the noise of
    the scaled value, as if it were a raw one, is taken for all frames.
    """
    rng = np.random.default_rng(n)
    given, added = rng.uniform(0.5, 2, n), rng.uniform(-50, 50, n)
    raw = rng.poisson(600 * GAIN / given[:, None, None], (n, *SHAPE)) / GAIN
    raw += rng.normal(0, READ_NOISE / GAIN, raw.shape) - added[:, None, None]
    raw[rng.random(raw.shape) < 0.03] += 200
    raw = raw.clip(0).astype(np.float32)
    ours, theirs = settings("ccdclip", False, 2.5, 2.5)
    iraf.write(tmp_path, raw)
    theirs |= {"scale": iraf.numbers(tmp_path, "scales", given)}
    theirs |= {"zero": iraf.numbers(tmp_path, "zeros", added), **DOUBLE}
    s = given[0] / given
    zero = added / s
    noise = np.stack([(READ_NOISE / GAIN / s) ** 2, 1 / (GAIN * s), zero], axis=1)
    terms = LoadTerms(scale=1 / s, zero=zero)
    own = block(raw, ours, "mean", terms, FrameTerms(noise=noise))
    alike = block(raw, ours, "mean", terms, FrameTerms(noise=np.tile(NOISE, (n, 1))))
    corrected = iraf.imcombine(tmp_path, "own", sigscale=0.1, **theirs)
    plain = iraf.imcombine(tmp_path, "alike", sigscale=0.0, **theirs)
    np.testing.assert_array_equal(n - corrected.rejected, own.count)
    np.testing.assert_array_equal(n - plain.rejected, alike.count)
    np.testing.assert_allclose(corrected.data, own.data, rtol=2e-7)
    np.testing.assert_allclose(plain.data, alike.data, rtol=2e-7)
    assert (own.count != alike.count).any()


def test_every_value_is_judged(tmp_path: Path) -> None:
    """IRAF about the median looks from both ends for a value to keep, and at none behind it.

    There a value beyond its own noise stays when a noisier frame has one farther out; IRAF about
    the mean and we look at all of them.
    """
    factor = np.array([1.0, 0.05, 1.0, 1.0, 1.0])  # the second frame is weak and noisy
    raw = np.array([500.0, 500.0, 501.0, 499.0, 440.0])[:, None, None] * factor[:, None, None]
    raw = np.broadcast_to(raw, (5, *SHAPE)).astype(np.float32).copy()
    raw[1, 4, 4] = 400 * factor[1]
    s = factor / factor[0]
    iraf.write(tmp_path, raw)
    theirs = {
        "reject": "ccdclip", "scale": iraf.numbers(tmp_path, "scales", 1 / factor), "rdnoise": "8.",
        "gain": "1.5", "lsigma": 2.0, "hsigma": 2.0, "sigscale": 0.1, **DOUBLE,
    }  # fmt: skip
    noise = np.stack([(READ_NOISE / GAIN / s) ** 2, 1 / (GAIN * s), 0 * s], axis=1)
    for mclip, kept in ((True, 5), (False, 4)):
        made = iraf.imcombine(tmp_path, CENTER[mclip], mclip=mclip, **theirs)
        assert made.rejected[0, 0] == 1
        assert 5 - made.rejected[4, 4] == kept
        ours = Rejection("ccd", low=2.0, high=2.0, center=CENTER[mclip])
        result = block(raw, ours, "mean", LoadTerms(scale=1 / s), FrameTerms(noise=noise))
        assert result.count[4, 4] == 4
        assert result.count[0, 0] == 4
