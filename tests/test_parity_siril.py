"""Parity with Siril 1.0.6: values and rejected totals, on random and on real frames.

Where the two differ, `siril_rules` has what Siril does as its source says it; that it gives what
the program gives is tested here, and on a small column who is right.
"""

import numpy as np
import pytest
from astropy.io import fits

import siril
import siril_rules
from blocks import combine_block
from masterframe.kernels import Floor, LoadTerms
from masterframe.kernels.rules.common import SPREAD
from masterframe.model import Recipe, Rejection
from rule_driver import run
from support import shared

pytestmark = pytest.mark.system

RESOLUTION = 2e-4
"""Siril's results are float32 fractions of 65535."""
NO_TERMS = LoadTerms()
STD = {"center": "median", "deviation": "std", "ddof": 1, "max_iters": "all"}


def random_frames(n, spread=10.0, rows=20, nx=29):
    """Whole numbers above 0 (0 is none to Siril), one in a hundred hit from above."""
    rng = np.random.default_rng(n)
    values = rng.normal(1000.0, spread, (n, rows, nx)).round()
    hit = rng.random(values.shape) < 0.01
    values[hit] += rng.exponential(500.0, hit.sum()).round()
    return values.astype(np.uint16)


def real_frames(pattern):
    """A part of real frames of the same kind; large enough to hold cosmic rays or stars."""
    folder, _, glob = pattern.rpartition("/")
    files = sorted(shared(f"data/{folder}").glob(glob))
    part = np.s_[100:190, 100:200] if len(files) > 5 else np.s_[100:230, 100:230]
    frames = np.array([fits.getdata(path)[part] for path in files]).astype(np.uint16)
    assert (frames > 0).all()
    assert frames.size < 100_000
    return frames


FRAMES = {
    "3": lambda: random_frames(3),
    "8": lambda: random_frames(8),
    "21": lambda: random_frames(21),
    "40": lambda: random_frames(40),
    "200": lambda: random_frames(200, rows=4),
    "ties": lambda: random_frames(25, spread=1.5),
    "few levels": lambda: random_frames(30, spread=0.4),
    "efosc2 bias": lambda: real_frames("efosc2/EFOSC.2022-01-26T19:0*.fits"),
    "microobservatory": lambda: real_frames("microobservatory/*.FITS"),
}


@pytest.fixture(scope="module", params=FRAMES)
def sequence(request, tmp_path_factory):
    """Frames and the folder where Siril finds them."""
    frames = FRAMES[request.param]()
    folder = tmp_path_factory.mktemp("siril")
    siril.write(folder, frames)
    return frames, folder


def columns(frames):
    return frames.reshape(len(frames), -1).T.astype(float)


def combined(frames, rejection, terms=NO_TERMS, estimator="mean"):
    recipe = Recipe(rejection, estimator=estimator)
    return combine_block(frames, terms, recipe, Floor(), np.arange(len(frames)), np.float64)


def siril_does(rule, frames, *numbers):
    """Return means, totals and which pixels it stopped at, by `siril_rules`."""
    outcomes = [rule(column, *numbers) for column in columns(frames)]
    means = np.array([outcome.kept.mean() for outcome in outcomes]).reshape(frames.shape[1:])
    stopped = np.array([outcome.stopped for outcome in outcomes]).reshape(frames.shape[1:])
    totals = sum(outcome.low for outcome in outcomes), sum(outcome.high for outcome in outcomes)
    return means, totals, stopped


def test_mean_and_median_are_equal(sequence):
    frames, folder = sequence
    for words, estimator in (("rej n", "mean"), ("med", "median")):
        found = siril.stack(folder, f"{words} -nonorm")
        ours = combined(frames, Rejection("none"), estimator=estimator)
        np.testing.assert_allclose(found.data, ours.data, atol=RESOLUTION)


def test_sum_is_equal_but_for_the_scale_to_its_maximum(sequence):
    frames, folder = sequence
    ours = combined(frames, Rejection("none"), estimator="sum").data
    found = siril.stack(folder, "sum").data
    np.testing.assert_allclose(found * ours.max() / 65535, ours, rtol=3e-7)


@pytest.mark.parametrize(("word", "which"), [("min", np.min), ("max", np.max)])
def test_min_and_max_are_wrong_in_the_first_pixel(sequence, word, which):
    """It keeps 65535 or 0 there, from which it starts; and writes them not in units of 65535."""
    frames, folder = sequence
    found = (siril.stack(folder, word).data / 65535).ravel()
    expected = which(frames, axis=0).ravel()
    np.testing.assert_array_equal(found[1:], expected[1:])
    assert found[0] == {"min": 65535, "max": 0}[word] != expected[0]


@pytest.mark.parametrize("bounds", [(0.2, 0.1), (0.02, 0.01), (0.004, 0.006)])
def test_percentile_is_equal(sequence, bounds):
    frames, folder = sequence
    low, high = bounds
    found = siril.stack(folder, f"rej p {low} {high} -nonorm")
    ours = combined(frames, Rejection("percentile", low=low, high=high, nkeep=0))
    assert (found.low, found.high) == (ours.low.sum(), ours.high.sum())
    some = ours.count > 0  # it takes the median of all where it has rejected all
    np.testing.assert_allclose(found.data[some], ours.data[some], atol=RESOLUTION)


@pytest.mark.parametrize("bounds", [(3.0, 3.0), (4.0, 2.0)])
def test_sigma_is_equal_where_siril_does_not_stop(sequence, bounds):
    """It stops in the middle of a pass where N - r <= 4, r counted of N values already fewer."""
    frames, folder = sequence
    low, high = bounds
    found = siril.stack(folder, f"rej s {low} {high} -nonorm")
    ours = combined(frames, Rejection("sigma", low=low, high=high, **STD))
    _, _, stopped = siril_does(siril_rules.sigma, frames, low, high)
    assert stopped.mean() < 0.1 or len(frames) == 3
    np.testing.assert_allclose(found.data[~stopped], ours.data[~stopped], atol=RESOLUTION)
    if not stopped.any():
        assert (found.low, found.high) == (ours.low.sum(), ours.high.sum())


@pytest.mark.parametrize(
    ("word", "rule", "numbers"),
    [
        ("m", siril_rules.median_sigma, (3.0, 3.0)),
        ("w", siril_rules.winsorized, (3.0, 3.0)),
        ("l", siril_rules.linearfit, (5.0, 5.0)),
        ("g", siril_rules.gesd, (0.3, 0.05)),
    ],
)
def test_what_siril_does_is_understood(sequence, word, rule, numbers):
    """Its own rules, mistakes included, give its values and its totals."""
    frames, folder = sequence
    found = siril.stack(folder, f"rej {word} {numbers[0]} {numbers[1]} -nonorm")
    means, totals, stopped = siril_does(rule, frames, *numbers)
    np.testing.assert_allclose(found.data[~stopped], means[~stopped], atol=RESOLUTION)
    if not stopped.any():
        assert (found.low, found.high) == totals


def one_pixel(tmp_path, values, words):
    """What Siril makes of one pixel; it wants more of them, all are alike."""
    frames = np.repeat(np.array(values, np.uint16), 80).reshape(-1, 8, 10)
    siril.write(tmp_path, frames)
    found = siril.stack(tmp_path, f"{words} -nonorm")
    assert np.ptp(found.data) == 0
    return found.data[0, 0], found.low / 80, found.high / 80


def kept_mean(values, rejection):
    codes = run(rejection, [values]).codes[0]
    return np.mean(np.array(values)[codes == 0])


def test_median_sigma_counts_the_median_for_what_it_rejects(tmp_path):
    """Ours is right: a value that is rejected has no part in the mean.

    In its place Siril averages the median, here the 100 that was in it once already.
    """
    values = [90, 91, 92, 93, 94, 100, 107, 108, 109, 110, 5000]
    found, _, high = one_pixel(tmp_path, values, "rej m 3 3")
    assert high == 1
    assert found == pytest.approx((sum(values) - 5000 + 100) / 11, abs=RESOLUTION)
    ours = kept_mean(values, Rejection("sigma", low=3.0, high=3.0, **STD))
    assert ours == sum(values[:-1]) / 10


def test_gesd_rejects_two_good_values_in_siril(tmp_path):
    """Ours is right: the largest R of these even values is 1.5, the critical value 2.3."""
    values = list(range(100, 110))
    _, low, high = one_pixel(tmp_path, values, "rej g 0.3 0.05")
    assert low + high == 2
    assert (run(Rejection("gesd"), [values]).codes == 0).all()
    assert kept_mean(values, Rejection("gesd")) == 104.5


def test_gesd_rejects_the_wrong_value_in_siril(tmp_path):
    """Ours is right: after the low outlier Siril takes the value before the high one for it."""
    values = [10, *range(100, 120), 180]
    found, low, high = one_pixel(tmp_path, values, "rej g 0.1 0.05")
    assert (low, high) == (1, 1)
    assert found == pytest.approx(np.mean([*range(100, 119), 180]), abs=RESOLUTION)
    assert kept_mean(values, Rejection("gesd", fraction=0.1)) == np.mean(range(100, 120))


def test_the_second_line_of_siril_misses(tmp_path):
    """Ours is right: what the first pass leaves is a line, and no value is far from that.

    After a pass Siril keeps the centre and the spread of the ranks of all frames, and so fits a
    line that is shifted and too flat, away from which it goes on to reject.
    """
    values = [*range(1000, 1060, 2), 3000, 3010, 3020]
    _, low, high = one_pixel(tmp_path, values, "rej l 2 2")
    codes = run(Rejection("linearfit", low=2.0, high=2.0), [values]).codes[0]
    assert (low, high) == (0, 15)
    assert list(np.flatnonzero(codes)) == [30, 31, 32]


def test_siril_stops_rejecting_too_early(tmp_path):
    """Ours is right: after two passes 6 values are left, of which 1060 is far from the others.

    Siril rejects nothing where N - r <= 4. N is what is left, but r all that was rejected in the
    passes before: that is counted twice.
    """
    values = [1000, 1001, 1002, 1003, 1004, 1060, 40000, 60000]
    sigma = Rejection("sigma", low=2.0, high=2.0, **STD)
    found, _, _ = one_pixel(tmp_path, values, "rej s 2 2")
    assert found > kept_mean(values, sigma)


def test_winsorized_clamps_at_whole_numbers_in_siril(tmp_path):
    """Ours is right: the bounds of 16-bit values need not be whole numbers.

    On quantised values with a spread of about a step they miss by much of it.
    """
    rng = np.random.default_rng(1)
    frames = (rng.normal(1000.3, 0.8, (15, 20, 30))).round().astype(np.uint16)
    siril.write(tmp_path, frames)
    found = siril.stack(tmp_path, "rej w 3 3 -nonorm")
    ours = combined(frames, Rejection("winsorized"))
    means, _, stopped = siril_does(siril_rules.winsorized, frames, 3.0, 3.0)
    np.testing.assert_allclose(found.data[~stopped], means[~stopped], atol=RESOLUTION)
    assert found.low + found.high != ours.low.sum() + ours.high.sum()


@pytest.mark.parametrize("n", [21, 40])
def test_rules_of_siril_for_floats_are_equal(tmp_path, n):
    """Without whole numbers winsorized clamps as defined: all but bounds reached by rounding."""
    rng = np.random.default_rng(n)
    frames = siril.levels(random_frames(n) + rng.normal(0, 0.3, (n, 20, 29)))
    siril.write(tmp_path, frames)
    for words, rejection in (
        ("p 0.02 0.01", Rejection("percentile", low=0.02, high=0.01)),
        ("s 3 3", Rejection("sigma", low=3.0, high=3.0, **STD)),
        ("w 3 3", Rejection("winsorized")),
    ):
        found = siril.stack(tmp_path, f"rej {words} -nonorm")
        ours = combined(frames, rejection)
        away = np.abs(found.data / ours.data - 1) > 1e-6
        assert away.sum() <= (1 if rejection.rule == "winsorized" else 0)
        assert abs(found.low - ours.low.sum()) <= away.sum()
        assert abs(found.high - ours.high.sum()) <= away.sum()


def test_a_zero_is_no_value_to_siril_but_in_the_median(tmp_path):
    frames = random_frames(9)
    frames[3] = 0
    siril.write(tmp_path, frames)
    present = np.delete(frames, 3, axis=0)
    found = siril.stack(tmp_path, "rej s 99 99 -nonorm").data
    np.testing.assert_allclose(found, present.mean(0), atol=RESOLUTION)
    found = siril.stack(tmp_path, "med -nonorm").data
    np.testing.assert_allclose(found, np.median(frames, 0), atol=RESOLUTION)


@pytest.mark.parametrize("norm", ["mul", "add", "addscale"])
def test_frames_that_are_scaled_copies_are_normalised_to_the_first(tmp_path, norm):
    """Siril measures location and scale in its own way; of scaled copies any way is exact."""
    rng = np.random.default_rng(7)
    first = siril.levels(rng.normal(1000, 10, (20, 29)))
    scale = np.array([1, 1.1, 0.8, 1.25, 2, 0.5, 1.05]) if norm != "add" else np.ones(7)
    zero = np.array([0, 1, 10, 0, 2, 30, 5]) / 65535 if norm != "mul" else np.zeros(7)
    frames = (first * scale[:, None, None] + zero[:, None, None]).astype(np.float32)
    siril.write(tmp_path, frames)
    found = siril.stack(tmp_path, f"rej s 9 9 -norm={norm}").data
    terms = LoadTerms(scale=1 / scale, zero=-zero / scale)
    ours = combined(frames, Rejection("sigma", low=9.0, high=9.0, **STD), terms)
    np.testing.assert_allclose(found, ours.data, rtol=1e-6)
    np.testing.assert_allclose(found, first, rtol=1e-6)


def test_the_winsorized_spread_of_both_is_the_same():
    """The spread that Siril comes to is ours where it clamps at no whole numbers."""
    values = np.random.default_rng(2).normal(1e6, 1e5, 31)  # whole numbers are fine enough here
    ours = run(Rejection("winsorized", max_iters=1), [values]).trace[0, SPREAD]
    assert ours == pytest.approx(siril_rules.winsorized_spread(np.sort(values)), rel=1e-5)
