"""The compiled rules of the IRAF family against their twins, and what holds for all of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import rule_driver
import rule_twins
from masterframe.kernels import RULES, Floor, resolve_rejection
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
