"""percentile, winsorized, linearfit, gesd: compiled rules against exact twins and by property."""

import math
import time

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from blocks import combine_block
from masterframe.kernels import Floor, LoadTerms, resolve_rejection, tables
from masterframe.kernels.rules.common import CENTER, LEAST, MOST, PASSES, SPREAD
from masterframe.model import Recipe, Rejection
from rule_driver import run
from rule_twins_siril import HIGH, KEPT, LOW, NO_FLOOR, TWINS, winsorized_spread

BOUNDED = ("percentile", "winsorized", "linearfit")
ITERATED = ("winsorized", "linearfit")
WINDOWS = ("percentile", "winsorized", "gesd")
ROUNDING = 1e-9
"""Decisions nearer than this are not compared: exact and rounded arithmetic may differ there."""

counts = st.integers(0, 65535).map(float)
few_levels = st.integers(97, 104).map(float)
smooth = st.floats(-1e4, 1e4, width=32).filter(lambda x: x == 0 or abs(x) > 1e-3)
huge = st.sampled_from([-3e30, 5e15, 1e30])


def columns(least=1, most=30):
    kinds = (counts, few_levels, smooth, few_levels | counts, smooth | huge)
    return st.one_of(*(st.lists(kind, min_size=least, max_size=most) for kind in kinds))


@st.composite
def rejections(draw, rules=tuple(TWINS), sides=(1.0, 2.0, 3.0, 7.0, math.inf)):
    rule = draw(st.sampled_from(rules))
    options = {"nkeep": draw(st.integers(0, 6))}
    if rule in BOUNDED:
        factor = 0.1 if rule == "percentile" else 1.0
        options |= {side: factor * draw(st.sampled_from(sides)) for side in ("low", "high")}
    if rule in ITERATED:
        options["max_iters"] = draw(st.sampled_from([1, 2, "all"]))
    if rule == "gesd":
        options |= {"fraction": draw(st.sampled_from([0.1, 0.3, 0.5, 0.9]))}
        options |= {"alpha": draw(st.sampled_from([1e-4, 0.05, 0.5]))}
    return resolve_rejection(Rejection(rule, **options))


floors = st.sampled_from([Floor(), Floor(quant=0.7), Floor(poisson=0.5, read=9.0)])


def codes_of(rejection, values, floor=NO_FLOOR):
    return run(rejection, [values], floor=floor).codes[0]


@settings(max_examples=600)
@given(columns(), rejections(), floors)
def test_a_rule_equals_its_twin(values, rejection, floor):
    expected = TWINS[rejection.rule](values, rejection, floor)
    assume(expected.margin > ROUNDING)
    np.testing.assert_array_equal(codes_of(rejection, values, floor), expected.codes)


@pytest.mark.parametrize("rule", TWINS)
@pytest.mark.parametrize("n", [3, 11, 60, 200])
def test_noise_with_outliers_equals_the_twin(rule, n):
    rng = np.random.default_rng(n)
    pixels = max(600 // n, 4)
    values = rng.normal(1000.0, 10.0, (pixels, n)).astype(np.float32).astype(float)
    hit = rng.random(values.shape) < 0.03
    values[hit] += rng.exponential(3000.0, hit.sum())
    rejection = resolve_rejection(Rejection(rule))
    expected = [TWINS[rule](column, rejection) for column in values]
    assert min(verdict.margin for verdict in expected) > ROUNDING
    codes = run(rejection, values).codes
    np.testing.assert_array_equal(codes, [verdict.codes for verdict in expected])
    assert n < 60 or (codes == HIGH).any()


@given(columns(), rejections())
def test_every_pass_is_traced_and_what_is_kept_is_within_the_bounds(values, rejection):
    done = run(rejection, [values])
    trace, kept = done.trace[0], np.array(values)[done.codes[0] == KEPT]
    if rejection.nkeep == 0 and trace[PASSES] and rejection.max_iters == "all" and kept.size > 4:
        assert (kept >= trace[LEAST]).all()
        assert (kept <= trace[MOST]).all()
    if trace[PASSES]:
        assert trace[SPREAD] >= 0
        assert min(values) <= trace[CENTER] <= max(values)


@given(columns(), rejections(ITERATED))
def test_a_value_never_comes_back(values, rejection):
    before = np.zeros(len(values), bool)
    for passes in range(1, 6):
        again = Rejection(rejection.rule, rejection.low, rejection.high, max_iters=passes)
        gone = codes_of(again, values) != KEPT
        assert (gone >= before).all()
        before = gone


@given(columns(), rejections(BOUNDED, sides=(math.inf,)), floors)
def test_infinite_bounds_drop_nothing(values, rejection, floor):
    assert (codes_of(rejection, values, floor) == KEPT).all()


@given(columns(), rejections(BOUNDED))
def test_a_side_that_is_off_drops_nothing(values, rejection):
    codes = codes_of(rejection, values)
    assert rejection.low < math.inf or not (codes == LOW).any()
    assert rejection.high < math.inf or not (codes == HIGH).any()


@pytest.mark.parametrize("rule", TWINS)
@pytest.mark.parametrize("values", [[5.0], [5.0, 900.0], [5.0] * 3, [0.0] * 4, [-7.25] * 60])
def test_one_or_two_values_and_equal_values_all_stay(rule, values):
    assert (codes_of(Rejection(rule), values) == KEPT).all() or (rule, len(values)) == (
        "percentile", 2,
    )  # fmt: skip


@pytest.mark.parametrize("rule", ITERATED)
def test_three_values_are_too_few(rule):
    assert (codes_of(Rejection(rule, low=0.1, high=0.1), [0.0, 0.0, 900.0]) == KEPT).all()


def test_equal_values_are_dropped_from_the_canonical_end():
    gesd = Rejection("gesd", fraction=0.2, alpha=0.9)
    codes = codes_of(gesd, [9.0, 5, 5.1, 4.9, 5, 9.0, 5.2, 5, 5, 4.8, 5])
    assert list(np.flatnonzero(codes == HIGH)) == [0, 5]


@given(columns(), rejections(), st.integers(-20, 20))
def test_a_power_of_two_changes_nothing(values, rejection, power):
    scaled = np.array(values) * 2.0**power
    np.testing.assert_array_equal(codes_of(rejection, scaled), codes_of(rejection, values))


@given(st.lists(few_levels | counts, min_size=1, max_size=30), rejections(("winsorized", "gesd")))
def test_a_constant_changes_nothing(values, rejection):
    moved = np.array(values) + 4096.0
    np.testing.assert_array_equal(codes_of(rejection, moved), codes_of(rejection, values))


@given(st.lists(few_levels | counts, min_size=1, max_size=30), rejections(("linearfit",)))
def test_a_constant_changes_no_line(values, rejection):
    assume(TWINS["linearfit"](values, rejection).margin > ROUNDING)
    moved = np.array(values) + 4096.0
    np.testing.assert_array_equal(codes_of(rejection, moved), codes_of(rejection, values))


@given(columns(), rejections())
def test_upside_down_low_is_high(values, rejection):
    verdict = TWINS[rejection.rule](values, rejection)
    assume(verdict.margin > ROUNDING)
    mirrored = Rejection(
        rejection.rule, low=rejection.high, high=rejection.low, max_iters=rejection.max_iters,
        nkeep=rejection.nkeep, fraction=rejection.fraction, alpha=rejection.alpha,
    )  # fmt: skip
    expected = codes_of(rejection, values)
    if rejection.rule == "gesd":
        assume(len(set(values)) == len(values))
        mean = sum(values) / len(values)  # of two equally far values the higher goes
        assume(all(abs(x + y - 2 * mean) > 1e-6 for x in values for y in values))
        assume(rejection.fraction == 0.1 and len(values) < 20)
    swapped = np.array([KEPT, HIGH, LOW])[expected]
    found = codes_of(mirrored, [-x for x in values])
    # Of equal values on a slope the order of frames says which go, and that does not turn over.
    assert sorted(zip(values, found, strict=True)) == sorted(zip(values, swapped, strict=True))


@given(columns(), rejections())
def test_nkeep_is_kept(values, rejection):
    kept = (codes_of(rejection, values) == KEPT).sum()
    assert kept >= min(rejection.nkeep, len(values))


@given(columns(), rejections(WINDOWS))
def test_low_and_high_are_beside_what_is_kept(values, rejection):
    codes, values = codes_of(rejection, values), np.array(values)
    assume((codes == KEPT).any())
    kept = values[codes == KEPT]
    assert (values[codes == LOW] <= kept.min()).all()
    assert (values[codes == HIGH] >= kept.max()).all()


@given(columns(least=5), rejections(("linearfit",)))
def test_low_is_below_the_line_even_amid_the_values(values, rejection):
    """The line is the centre: what is far below it at its rank may be above the median."""
    verdict = TWINS["linearfit"](values, rejection)
    assume(verdict.margin > ROUNDING)
    np.testing.assert_array_equal(codes_of(rejection, values), verdict.codes)


def test_a_gap_in_the_sorted_values_leaves_a_hole():
    values = [*range(20), 60.0, *range(40, 60)]
    codes = codes_of(Rejection("linearfit", low=3.0, high=3.0, max_iters=1), values)
    expected = TWINS["linearfit"](
        values, resolve_rejection(Rejection("linearfit", low=3.0, high=3.0, max_iters=1))
    )
    np.testing.assert_array_equal(codes, expected.codes)


def test_the_line_of_real_lines_drops_nothing():
    """All that is left of a line is rounding, and rounding is no outlier."""
    for ramp in (0.1 * np.arange(30), 1e3 + np.arange(30) / 7, 2 - 3.3**0.5 * np.arange(200)):
        assert (codes_of(Rejection("linearfit", low=2.0, high=2.0), ramp) == KEPT).all()


def test_the_fraction_of_gesd_is_not_lost_to_rounding():
    """0.29 * 100 is a little below 29."""
    values = [*range(71), *range(10**6, 10**6 + 29)]
    assert (codes_of(Rejection("gesd", fraction=0.29), values) == HIGH).sum() == 29


def test_percentile_keeps_a_negative_or_zero_level():
    ratio = Rejection("percentile", low=0.2, high=0.1)
    assert list(codes_of(ratio, [-100.0, -79, -101, -99, -111, -121])) == [0, 2, 0, 0, 0, 1]
    assert (codes_of(ratio, [-5.0, 0, 0, 0, 900]) == KEPT).all()


def test_the_winsorized_spread_ends_as_that_of_pixinsight_does():
    """Pulling in again what was pulled in before gives the same wherever the spread shrinks."""
    rng = np.random.default_rng(5)
    shrinking = growing = 0
    for n in (5, 10, 30, 100):
        values = np.sort(rng.standard_t(3, (40, n)) * 10 + 500)
        found = run(Rejection("winsorized", max_iters=1), values).trace[:, SPREAD]
        for column, spread in zip(values, found, strict=True):
            assert spread == pytest.approx(winsorized_spread(list(map(float, column))), rel=1e-12)
            m, pulled, sigma = np.median(column), column.copy(), column.std(ddof=1)
            first = sigma
            while True:
                pulled = np.clip(pulled, m - 1.5 * sigma, m + 1.5 * sigma)
                before, sigma = sigma, 1.134 * pulled.std(ddof=1)
                if abs(sigma - before) <= 0.0005 * before:
                    break
            if sigma <= first:
                shrinking += 1
                assert spread == pytest.approx(sigma, rel=1e-12)
            else:
                growing += 1
                assert spread >= sigma * (1 - 1e-12)
    assert shrinking > 20
    assert growing > 20


def test_a_spread_that_shrinks_to_nothing_is_nothing():
    values = [100.0] * 10 + [150.0]
    done = run(Rejection("winsorized"), [values])
    assert done.trace[0, SPREAD] == 0
    assert done.codes[0, -1] == HIGH
    noisy = run(Rejection("winsorized"), [values], floor=Floor(quant=20.0))
    assert (noisy.codes == KEPT).all()


@pytest.mark.parametrize("rule", ["winsorized", "gesd", "linearfit"])
def test_quantised_values_stay_above_the_floor(rule):
    """Nearly all equal, one a step away: without a floor that step is an outlier."""
    values = [100.0] * 49 + [101.0]
    rejection = Rejection(rule)
    assert codes_of(rejection, values)[-1] == HIGH
    assert (codes_of(rejection, values, Floor(quant=0.75)) == KEPT).all()


ROSNER = [
    -0.25, 0.68, 0.94, 1.15, 1.20, 1.26, 1.26, 1.34, 1.38, 1.43, 1.49, 1.49, 1.55, 1.56, 1.58,
    1.65, 1.69, 1.70, 1.76, 1.77, 1.81, 1.91, 1.94, 1.96, 1.99, 2.06, 2.09, 2.10, 2.14, 2.15,
    2.23, 2.24, 2.26, 2.35, 2.37, 2.40, 2.47, 2.54, 2.62, 2.64, 2.90, 2.92, 2.92, 2.93, 3.21,
    3.26, 3.30, 3.59, 3.68, 4.30, 4.64, 5.34, 5.42, 6.01,
]  # fmt: skip
"""Rosner's example, in the NIST/SEMATECH e-Handbook, 1.3.5.17.3: three outliers."""


def test_rosners_example_has_three_outliers():
    """The first two are found only because the third is: each hides the others."""
    codes = codes_of(Rejection("gesd", fraction=10 / 54, alpha=0.05), ROSNER)
    assert list(np.flatnonzero(codes)) == [51, 52, 53]
    one = codes_of(Rejection("gesd", fraction=1 / 54, alpha=0.05), ROSNER)
    assert (one == KEPT).all()
    handbook = [3.158, 3.151, 3.143, 3.136, 3.128, 3.120, 3.111, 3.103, 3.094, 3.085]
    found = tables.critical_values(54, 0.05)[54:44:-1]
    np.testing.assert_allclose(found, handbook, atol=0.0011)


@pytest.mark.parametrize("alpha", [1e-300, 1e-12, 0.001, 0.05, 0.5, 0.999])
def test_critical_values_are_those_of_students_t(alpha):
    m = np.arange(3.0, 10001.0)
    with np.errstate(over="ignore", invalid="ignore"):
        t = stats.t.isf(alpha / (2 * m), m - 2)
        expected = (m - 1) / np.sqrt(m * ((m - 2) / t**2 + 1))
    found = tables.critical_values(10000, alpha)
    np.testing.assert_allclose(found[3:], expected, rtol=1e-11)
    assert (found[:3] == np.inf).all()


def test_critical_values_of_ten_thousand_frames_take_no_time():
    tables.critical_values.cache_clear()
    start = time.process_time()
    table = tables.critical_values(10000, 0.05)
    assert time.process_time() - start < 1.0
    assert tables.critical_values(10000, 0.05) is table


@settings(max_examples=30)
@given(st.integers(3, 40), st.integers(0, 2**32 - 1), rejections(WINDOWS), floors)
def test_the_combination_counts_what_the_rule_drops(n, seed, rejection, floor):
    rng = np.random.default_rng(seed)
    raw = rng.normal(1000, 9, (n, 3, 7)).astype(np.float32)
    raw[rng.random(raw.shape) < 0.04] += 500
    raw[rng.random(raw.shape) < 0.02] = np.nan
    found = combine_block(raw, LoadTerms(), Recipe(rejection), floor, np.arange(n))
    values = raw.reshape(n, -1).T.astype(float)
    expected = run(rejection, values, floor=floor).counts()
    for plane, count in zip((found.count, found.low, found.high), expected.T, strict=True):
        np.testing.assert_array_equal(plane.ravel(), count)
