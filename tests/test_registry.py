"""How many values a rule needs before it can reject one, against brute force."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import twins
from masterframe.kernels import Floor, least_values, resolve_rejection, too_few
from masterframe.model import Rejection

NO_FLOOR = Floor(quant=0.0, poisson=0.0, read=0.0, step=0.0)
MANY = 10**15
DISTANCES = np.geomspace(1, 1e7, 90)


def columns(count):
    """Columns of values of which the last is far out: beside equal ones, noise, and a slope."""
    rng = np.random.default_rng(count)
    for far in DISTANCES:
        for core in rng.normal(0, 1, (3, count - 1)):
            yield np.append(core, far)
    for apart in range(count - 1):
        middle = np.full(apart, 1 / (count - apart))
        yield np.concatenate([np.zeros(count - 1 - apart), middle, [1.0]])
    for core in rng.uniform(0, 1, (50, count - 1)):
        yield np.append(core, 1.0)


def rejects_any(rejection, count, side):
    """Whether some column loses any value on a side."""
    code = twins.LOW if side < 0 else twins.HIGH
    return any(
        code in twins.reject(side * column, rejection, NO_FLOOR, count) for column in columns(count)
    )


@given(
    st.sampled_from(["median", "mean", "first-median", "inner-mean"]),
    st.sampled_from(["mad", "std", "rms"]),
    st.integers(0, 1),
    st.floats(1.3, 4.5).map(lambda bound: bound + 0.00123),  # not just what can be reached
    st.sampled_from([1, 2, "all"]),
    st.sampled_from([-1, 1]),
)
def test_a_value_can_be_rejected_from_so_many_on(center, deviation, ddof, bound, iters, side):
    low, high = (bound, math.inf) if side < 0 else (math.inf, bound)
    given = {"center": center, "deviation": deviation, "ddof": ddof, "max_iters": iters}
    rejection = resolve_rejection(Rejection(low=low, high=high, **given))
    least = least_values(rejection)
    assert rejects_any(rejection, least, side)
    assert least == 3 or not rejects_any(rejection, least - 1, side)


@given(st.integers(0, 3), st.integers(0, 3), st.integers(0, 3))
def test_minmax_needs_what_it_drops_and_what_it_keeps(nlow, nhigh, nkeep):
    rejection = resolve_rejection(Rejection("minmax", nlow=nlow, nhigh=nhigh, nkeep=nkeep))
    least = least_values(rejection)
    dropping = [
        count
        for count in range(1, 12)
        if (twins.reject(np.arange(count), rejection, NO_FLOOR, count) != twins.KEPT).any()
    ]
    assert least == (min(dropping) if dropping else None)


@pytest.mark.parametrize(
    ("rejection", "least"),
    [
        (Rejection(deviation="std", center="mean", low=3, high=3), 11),
        (Rejection(deviation="std", center="mean", ddof=1, low=3, high=3), 11),
        (Rejection(deviation="std", low=3, high=3), 8),
        (Rejection(deviation="std", low=1.5, high=3), 8),
        (Rejection(deviation="std", low=1e300, high=3), MANY),
        (Rejection(nkeep=6), 7),
        (Rejection("none"), None),
        (Rejection(low=math.inf, high=math.inf), None),
        (Rejection("threshold", high=5.0), 1),
        (Rejection("gesd", fraction=0.1), 10),
        (Rejection("gesd", fraction=5e-324), MANY),
        (Rejection("percentile", low=math.inf), 3),
    ],
)
def test_known_numbers(rejection, least):
    found = least_values(rejection)
    assert found == least or (least == MANY and found > MANY)


def test_the_warning_says_how_many_are_needed():
    clip = Rejection(deviation="std", center="mean", low=3.0, high=3.0)
    (line,) = too_few(clip, 10)
    assert line.startswith("10 frames are too few for the rule sigma, which needs 11")
    assert too_few(clip, 11) == []
    assert too_few(Rejection("none"), 1) == []
