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
from masterframe.kernels import Floor, LoadTerms, combine_block, resolve_rejection
from masterframe.kernels.rules import KEPT
from masterframe.model import Recipe, Rejection
from support import shared

pytestmark = pytest.mark.system

SHAPE = (9, 34)
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


@pytest.mark.parametrize("n", [2, 3, 12, 101])
@pytest.mark.parametrize("combine", ["average", "median", "sum"])
@pytest.mark.parametrize("reject", ["none", "minmax", "sigclip", "mean sigclip"])
def test_combination(tmp_path: Path, n: int, combine: str, reject: str) -> None:
    """Values and counts of the whole kernel."""
    values = frames(n, "uint16", hits=0.03 if n > 5 else 0.0)
    iraf.write(tmp_path, values)
    options: dict[str, Any] = {"reject": "sigclip", "combine": combine, **DOUBLE}
    ours = Rejection("none")
    if reject == "none":
        options["reject"] = "none"
    elif reject == "minmax":
        options |= {"reject": "minmax", "nlow": n // 7, "nhigh": n // 4}
        ours = Rejection("minmax", nlow=n // 7, nhigh=n // 4)
    else:
        ours, theirs = settings("sigclip", reject == "sigclip", 2.0, 2.5)
        options |= theirs
    made = iraf.imcombine(tmp_path, "out", **options)
    result = block(values, ours, {"average": "mean"}.get(combine, combine))
    np.testing.assert_array_equal(n - made.rejected, result.count)
    np.testing.assert_allclose(made.data, result.data, rtol=1e-7)


def block(values: Any, rejection: Rejection, estimator: Any, **terms: Any) -> Any:
    recipe = Recipe(rejection=rejection, estimator=estimator)
    order = np.arange(len(values))
    return combine_block(values, LoadTerms(**terms), recipe, Floor(), order, np.float64)


def test_median_after_grow(tmp_path: Path) -> None:
    """IRAF grows as we do, but its median takes the middle of what is no longer sorted."""
    values = frames(11, "float32", hits=0.01)
    ours, theirs = settings("sigclip", True, 3.0, 3.0)
    iraf.write(tmp_path, values)
    average, median = (
        iraf.imcombine(tmp_path, combine, combine=combine, grow=2.0, **theirs, **DOUBLE)
        for combine in ("average", "median")
    )
    gone = grown(codes_of(ours, values) != KEPT, 2)
    np.testing.assert_array_equal(average.rejected, gone.sum(0))
    np.testing.assert_array_equal(median.rejected, gone.sum(0))
    np.testing.assert_allclose(average.data, mean(values, ~gone), rtol=1e-7)
    true = np.nanmedian(np.where(gone, np.nan, values), 0)
    wrong = ~np.isclose(median.data, true, rtol=1e-7)
    assert wrong.mean() > 0.25
    assert not wrong[(gone.sum(0) == 0)].any()


def grown(gone: Any, radius: int) -> Any:
    """Pixels within a radius of those that are gone, frame by frame."""
    rows, nx = gone.shape[1:]
    padded = np.pad(gone, ((0, 0), (radius, radius), (radius, radius)))
    disc = [
        (dy, dx)
        for dy in range(-radius, radius + 1)
        for dx in range(-radius, radius + 1)
        if dy * dy + dx * dx <= radius * radius
    ]
    shifted = [
        padded[:, radius + dy : radius + dy + rows, radius + dx : radius + dx + nx]
        for dy, dx in disc
    ]
    return np.any(shifted, axis=0)


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
