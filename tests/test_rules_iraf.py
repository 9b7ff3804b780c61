"""The compiled rules of the IRAF family against their twins, and what holds for all of them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rule_driver
import rule_twins
from masterframe.kernels import RULES, Floor, resolve_rejection
from masterframe.kernels.rules import HIGH, KEPT, LOW
from masterframe.model import Rejection

MANY = settings(deadline=None, max_examples=150, derandomize=True)
NAMES = ("sigma", "avsigma", "ccd", "varclip", "pclip")
CENTERS = ("median", "mean", "first-median", "inner-mean")

bounds = st.sampled_from([math.inf, 0.6, 1.0, 2.5, 3.0, 5.0])
FLOORS = (Floor(), Floor(quant=0.7413), Floor(quant=0.1, poisson=0.5, read=2.0))


@st.composite
def rejections(draw: Any, names: tuple[str, ...] = NAMES) -> Rejection:
    """A rule of the family with any of its options; sigma as IRAF's sigclip."""
    rule = draw(st.sampled_from(names))
    choices = {
        "low": bounds, "high": bounds, "nkeep": st.integers(0, 3),
        "center": st.sampled_from(CENTERS), "max_iters": st.sampled_from(["all", 1, 2]),
        "pclip": st.sampled_from([-0.5, -0.9, 0.3, 1.0, -2.0, 50.0]),
        "snoise": st.sampled_from([0.0, 0.1]),
    }  # fmt: skip
    options = {k: draw(v) for k, v in choices.items() if k in RULES[rule].options}
    if rule == "sigma":
        options |= {"deviation": "rms", "ddof": 1}
        for side in ("low", "high"):  # one of two values is 0.71 sigma from their centre
            options[side] = max(options[side], 1.0)
    return resolve_rejection(Rejection(rule, **options))


@dataclass(frozen=True)
class Pixels:
    """Recipe of values with ties, outliers and gaps, and of the noise that belongs to them."""

    seed: int
    n: int
    level: float
    spread: float
    hit: float
    kind: str
    whole: bool
    gaps: float

    def make(self) -> tuple[Any, Any]:
        rng = np.random.default_rng(self.seed)
        values = rng.normal(self.level, self.spread, (24, self.n))
        values[rng.random(values.shape) < 0.06] += self.hit
        if self.whole:
            values = values.round()
        values[rng.random(values.shape) < self.gaps] = np.nan
        noise = np.zeros((24, self.n, 3))
        if self.kind == "equal":
            noise[:] = (9.0, 0.5, 0.0)
        elif self.kind == "scaled":
            factor = rng.uniform(0.5, 2, self.n)
            noise[..., 0], noise[..., 1] = 9 * factor**2, 0.5 * factor
            noise[..., 2] = rng.normal(0, 20, self.n)
        else:
            noise[..., 0] = rng.uniform(0, 30, (24, self.n))
        return values, noise


pixels = st.builds(
    Pixels,
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 40),
    level=st.sampled_from([-50.0, 0.3, 100.0, 5000.0]),
    spread=st.sampled_from([0.0, 0.6, 3.0, 40.0]),
    hit=st.sampled_from([-80.0, 300.0]),
    kind=st.sampled_from(["equal", "scaled", "given"]),
    whole=st.booleans(),
    gaps=st.sampled_from([0.0, 0.2]),
)


def twin(rejection: Rejection, values: Any, noise: Any, floor: Floor) -> Any:
    """What the twin of a rule makes of pixels that are one row."""
    codes = np.full(values.shape, rule_driver.MISSING)
    there = [np.flatnonzero(np.isfinite(column)) for column in values]
    row = rule_twins.row_factor(
        [column[k] for column, k in zip(values, there, strict=True)], rejection
    )  # fmt: skip
    for i, k in enumerate(there):
        column = values[i, k]
        match rejection.rule:
            case "sigma":
                codes[i, k] = rule_twins.sigma(column, rejection, floor)
            case "avsigma":
                codes[i, k] = rule_twins.avsigma(column, rejection, row, floor)
            case "ccd" | "varclip":
                codes[i, k] = rule_twins.ccd(column, rejection, noise[i, k], floor)
            case "pclip":
                codes[i, k] = rule_twins.pclip(column, rejection, floor)
    return codes


@MANY
@given(rejection=rejections(), data=pixels, floor=st.sampled_from(FLOORS))
def test_rule_equals_its_twin(rejection: Rejection, data: Pixels, floor: Floor) -> None:
    values, noise = data.make()
    found = rule_driver.run(rejection, values, noise, floor)
    np.testing.assert_array_equal(found.codes, twin(rejection, values, noise, floor))


def ready(rejection: Rejection, data: Pixels) -> tuple[Any, Any, rule_driver.Driven]:
    values, noise = data.make()
    return values, noise, rule_driver.run(rejection, values, noise)


@MANY
@given(rejection=rejections(), data=pixels)
def test_infinite_bounds_reject_nothing(rejection: Rejection, data: Pixels) -> None:
    off = replace(rejection, low=math.inf, high=math.inf)
    assert ready(off, data)[2].counts()[:, 1:].sum() == 0


@MANY
@given(rejection=rejections(), data=pixels)
def test_a_side_that_is_off_rejects_nothing(rejection: Rejection, data: Pixels) -> None:
    assert ready(replace(rejection, low=math.inf), data)[2].counts()[:, 1].sum() == 0
    assert ready(replace(rejection, high=math.inf), data)[2].counts()[:, 2].sum() == 0


@MANY
@given(rejection=rejections(), data=pixels, nkeep=st.integers(0, 6))
def test_nkeep_values_are_left(rejection: Rejection, data: Pixels, nkeep: int) -> None:
    values, _, found = ready(replace(rejection, nkeep=nkeep), data)
    there = np.isfinite(values).sum(1)
    assert (found.counts()[:, 0] >= np.minimum(there, nkeep)).all()


@MANY
@given(rejection=rejections(), data=pixels)
def test_low_and_high_lie_on_their_sides(rejection: Rejection, data: Pixels) -> None:
    values, _, found = ready(rejection, data)
    one = ready(replace(rejection, max_iters=1), data)[2] if rejection.max_iters else found
    center = one.trace[:, :1]
    assert not ((one.codes == LOW) & (values >= center)).any()
    assert not ((one.codes == HIGH) & (values <= center)).any()


@MANY
@given(rejection=rejections(), data=pixels, passes=st.integers(1, 4))
def test_nothing_comes_back(rejection: Rejection, data: Pixels, passes: int) -> None:
    if rejection.rule == "pclip":  # one pass
        return
    fewer = ready(replace(rejection, max_iters=passes), data)[2].codes
    more = ready(replace(rejection, max_iters=passes + 1), data)[2].codes
    gone = (fewer == LOW) | (fewer == HIGH)
    np.testing.assert_array_equal(more[gone], fewer[gone])


@MANY
@given(rejection=rejections(), data=pixels, power=st.sampled_from([-3, 2, 5]))
def test_a_power_of_two_scales_all(rejection: Rejection, data: Pixels, power: int) -> None:
    """Noise scaled as the values; avsigma has the unit of the data in its noise, where c < 1."""
    values, noise, found = ready(rejection, data)
    if rejection.rule == "avsigma":
        values = values + 64.0 * max(0.0, 16.0 - np.nanmin(values, initial=0.0))
        found = rule_driver.run(rejection, values, noise)
    factor = 2.0**power
    scaled = rule_driver.run(rejection, values * factor, noise * (factor**2, factor, factor))
    np.testing.assert_array_equal(scaled.codes, found.codes)


@MANY
@given(rejection=rejections(("sigma", "varclip", "ccd", "pclip")), data=pixels)
def test_a_constant_shifts_all(rejection: Rejection, data: Pixels) -> None:
    """Whole numbers and centres that are halves keep every sum exact."""
    whole = replace(data, whole=True, kind="equal")
    values, noise = whole.make()
    center = "median" if rejection.center else None
    rejection = replace(rejection, center=center)
    found = rule_driver.run(rejection, values, noise)
    moved = rule_driver.run(rejection, values + 1024.0, noise + np.array([0.0, 0.0, 1024.0]))
    np.testing.assert_array_equal(moved.codes, found.codes)


@MANY
@given(rejection=rejections(), level=st.sampled_from([-3.0, 0.0, 7.25]), n=st.integers(1, 6))
def test_equal_values_stay(rejection: Rejection, level: float, n: int) -> None:
    """Also without any noise at all."""
    found = rule_driver.run(rejection, np.full((5, n), level), np.zeros((5, n, 3)))
    assert (found.codes == KEPT).all()


@pytest.mark.parametrize("name", ["sigma", "avsigma", "ccd", "varclip", "pclip"])
def test_one_value_stays_and_none_is_no_error(name: str) -> None:
    values = np.array([[np.nan, np.nan], [np.nan, 3.0]])
    found = rule_driver.run(Rejection(name), values, np.zeros((2, 2, 3)))
    assert found.codes.tolist() == [[-1, -1], [-1, 0]]


def test_ccd_rejects_one_of_two_values() -> None:
    """The cosmic ray of crreject: two frames are enough where the noise is known."""
    noise = np.broadcast_to([25.0, 0.5, 0.0], (1, 2, 3))
    found = rule_driver.run(Rejection("ccd", low=math.inf), [[100.0, 300.0]], noise)
    assert found.codes.tolist() == [[KEPT, HIGH]]


def test_each_value_has_its_own_noise() -> None:
    """A noisy frame is forgiven what a quiet one is not, also between values that are kept."""
    values = [[90.0, 95.0, 100.0, 101.0, 99.0]]
    noise = np.zeros((1, 5, 3))
    noise[0, :, 0] = [100.0, 1.0, 1.0, 1.0, 1.0]
    for name in ("varclip", "ccd"):
        found = rule_driver.run(Rejection(name, low=3.0, high=3.0), values, noise)
        assert found.codes.tolist() == [[KEPT, LOW, KEPT, KEPT, KEPT]]


def test_negative_signal_has_no_sensitivity_noise() -> None:
    """Nor Poisson noise: below zero the read noise is all there is, as in IRAF."""
    noise = np.broadcast_to([4.0, 1.0, 0.0], (1, 5, 3))
    values = [[-100.0, -101.0, -99.0, -100.0, -93.0]]
    found = rule_driver.run(Rejection("ccd", snoise=0.5), values, noise)
    assert found.codes.tolist() == [[KEPT, KEPT, KEPT, KEPT, HIGH]]


def test_the_trace_tells_the_last_pass() -> None:
    values, noise = [[10.0, 11.0, 12.0, 13.0, 100.0]], np.broadcast_to([4.0, 0, 0], (1, 5, 3))
    found = rule_driver.run(Rejection("ccd", low=3.0, high=2.0), values, noise)
    assert found.trace.tolist() == [[11.5, 2.0, 5.5, 15.5, 2.0]]
    found = rule_driver.run(Rejection("pclip", low=3.0, high=2.0, pclip=-1.0), values)
    assert found.trace.tolist() == [[12.0, 1.0, 9.0, 14.0, 1.0]]


@MANY
@given(rejection=rejections(("ccd",)), data=pixels)
def test_window_of_equal_noise_is_what_the_mask_leaves(rejection: Rejection, data: Pixels) -> None:
    values, noise = replace(data, kind="equal").make()
    a, b, _ = noise[0, 0]
    marked = rule_driver.run(rejection, values, noise, Floor(quant=0.7))
    cut = rule_driver.run(rejection, values, floor=Floor(quant=0.7, read=a, poisson=b))
    np.testing.assert_array_equal(cut.codes, marked.codes)
    np.testing.assert_allclose(cut.trace, marked.trace, rtol=1e-12, atol=1e-12)
