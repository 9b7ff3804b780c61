"""Words, keywords and numbers become the factor, summand and weight of each frame."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from masterframe import scaling
from masterframe.errors import FrameError, UsageError
from masterframe.model import Adjustment, Section

LEVELS = st.lists(st.floats(1, 1e5), min_size=1, max_size=9)


def facts(measured=(), exptime=(), cards=()):
    """Facts of frames a.fits, b.fits, ...: dicts of what was measured, times, cards."""
    count = max(map(len, (measured, exptime, cards)))
    return [
        scaling.FrameFacts(
            f"{chr(97 + i)}.fits",
            cards[i] if cards else {},
            exptime[i] if exptime else None,
            measured[i] if measured else {},
        )
        for i in range(count)
    ]


def medians(levels):
    return facts([{"median": level} for level in levels])


# --- what IRAF's imcombine does, as its code has it: data = raw / scale - zero -------------------


def iraf(scales, zeros, weights, reference, *, sky):
    """Factors by the steps of icscale.x, relative to the reference."""
    scales = np.array(scales) / scales[reference]
    zeros = np.array(zeros) / scales
    if sky:
        weights = np.array(weights) * zeros[reference] / zeros
    return 1 / scales, -(zeros - zeros[reference]), weights


@given(st.data(), st.integers(2, 7))
def test_statistics_give_what_iraf_gives(data, count):
    numbers = st.lists(st.floats(1, 1e5), min_size=count, max_size=count)
    mode, mean, times = (data.draw(numbers) for _ in range(3))
    reference = data.draw(st.integers(0, count - 1))
    measured = [{"mode": a, "mean": b} for a, b in zip(mode, mean, strict=True)]
    found = scaling.factors_of(
        Adjustment("mode", "mean", "exposure"), facts(measured, times), reference
    )
    scale, zero, weights = iraf(mode, mean, times, reference, sky=True)
    np.testing.assert_allclose(found.scale, scale, rtol=1e-12)
    np.testing.assert_allclose(found.zero, zero, rtol=1e-9, atol=1e-6 * max(mean) * max(scale))
    np.testing.assert_allclose(found.weights, weights, rtol=1e-12)
    assert found.levels == tuple(mode)
    assert found.scale[reference] == 1
    assert found.zero[reference] == 0


@given(LEVELS, st.data())
def test_every_frame_gets_the_level_of_the_reference(levels, data):
    reference = data.draw(st.integers(0, len(levels) - 1))
    for how in ({"scale": "median"}, {"zero": "median"}):
        found = scaling.factors_of(Adjustment(**how), medians(levels), reference)
        ones, zeros = (1.0,) * len(levels), (0.0,) * len(levels)
        after = np.array(levels) * (found.scale or ones) + (found.zero or zeros)
        np.testing.assert_allclose(after, levels[reference], rtol=0, atol=1e-12 * max(levels))


@given(st.lists(st.floats(1, 1e5), min_size=2, max_size=9, unique=True), st.randoms())
def test_the_order_of_frames_makes_no_difference(levels, random):
    order = list(range(len(levels)))
    random.shuffle(order)
    adjust = Adjustment("median", "median", "median")
    before = scaling.factors_of(adjust, medians(levels), 0)
    shuffled = scaling.factors_of(
        adjust, medians([levels[index] for index in order]), order.index(0)
    )
    for name in ("levels", "scale", "zero", "weights"):
        values = getattr(before, name)
        assert getattr(shuffled, name) == tuple(values[index] for index in order)


def test_level_brings_every_frame_to_one_bit_for_bit():
    found = scaling.factors_of(Adjustment("level"), medians([9123.5, 0.3]), 0)
    assert found.scale == (1 / 9123.5, 1 / 0.3)


def test_noise_weighs_by_the_inverse_variance_after_scaling():
    frames = facts([{"median": 100.0, "noise": 3.0}, {"median": 50.0, "noise": 2.0}])
    found = scaling.factors_of(Adjustment("median", weight="noise"), frames, 0)
    assert found.scale == (1.0, 2.0)
    assert found.weights == (1 / 9, 1 / 16)


def test_numbers_and_keywords_are_used_as_they_are():
    cards = [{"FLUX": 2.0, "SKY": -3}, {"FLUX": 4, "SKY": "5.5"}]
    adjust = Adjustment("!FLUX", "!SKY", (0.25, 8.0))
    found = scaling.factors_of(adjust, facts(cards=cards), 1)
    assert found == scaling.Factors((), (2.0, 4.0), (-3.0, 5.5), (0.25, 8.0))
    assert scaling.factors_of(Adjustment(), facts(cards=cards), 0) == scaling.Factors()
    variance = scaling.factors_of(Adjustment(weight="variance"), facts(cards=cards), 0)
    assert variance == scaling.Factors()


# --- what is no factor ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("adjust", "message"),
    [
        (Adjustment((1.0, 0.0)), r"b\.fits: the scale is 0: it must be positive; leave the frame"),
        (Adjustment((1.0, -2.0)), r"b\.fits: the scale is -2"),
        (Adjustment((1.0, math.inf)), r"b\.fits: the scale is inf"),
        (Adjustment("median"), r"b\.fits: the scale \(by median\) is -4: it must be positive"),
        (Adjustment("level"), r"b\.fits: the scale \(by level\) is -4"),
        (Adjustment("mean"), r"b\.fits: the scale \(by mean\) is nan"),
        (Adjustment("exposure"), r"b\.fits: the scale \(by exposure\) is nan"),
        (Adjustment(zero="mean"), r"b\.fits: the zero \(by mean\) is nan: it must be a number"),
        (Adjustment(zero=(0.0, math.nan)), r"b\.fits: the zero is nan: it must be a number"),
        (Adjustment(weight="median"), r"b\.fits: the weight \(by median\) is -4"),
        (
            Adjustment(zero="median", weight="mode"),
            r"b\.fits: the sky that lowers its weight \(by median\) is -4",
        ),
        (Adjustment("!GAIN"), r"b\.fits: it has no card GAIN for its scale"),
        (Adjustment(weight="!OBJECT"), r"a\.fits: its card OBJECT for its weight is 'M 13'"),
    ],
)
def test_what_cannot_be_a_factor_names_frame_and_value(adjust, message):
    frames = facts(
        [
            {"median": 5.0, "mean": 5.0, "mode": 5.0},
            {"median": -4.0, "mean": math.nan, "mode": 2.0},
        ],
        [30.0, None],
        [{"GAIN": 1.5, "OBJECT": "M 13"}, {}],
    )
    with pytest.raises(FrameError, match=message):
        scaling.factors_of(adjust, frames, 0)


def test_a_zero_may_be_negative():
    found = scaling.factors_of(Adjustment(zero="median"), medians([5.0, -4.0]), 0)
    assert found.zero == (0.0, 9.0)


def test_there_must_be_a_number_for_every_frame():
    with pytest.raises(UsageError, match="scale gives 2 numbers for 3 frames"):
        scaling.factors_of(Adjustment((1.0, 2.0)), medians([1, 2, 3]), 0)


# --- how options are written ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("term", "text", "found"),
    [
        ("scale", "median", "median"),
        ("scale", " none ", "none"),
        ("scale", "EXPTIME", "!EXPTIME"),
        ("scale", "!exptime", "!EXPTIME"),
        ("zero", "ESO DET SKY", "!ESO DET SKY"),
        ("scale", "1,2.5,+3e2", (1.0, 2.5, 300.0)),
        ("zero", "-1.5", (-1.5,)),
        ("weight", "noise", "noise"),
        ("weight", "NCOMBINE", "!NCOMBINE"),
    ],
)
def test_options_are_words_keywords_and_numbers(term, text, found):
    assert scaling.read_term(term, text) == found


@pytest.mark.parametrize(
    ("term", "text", "message"),
    [
        ("scale", "medain", r"did you mean median\? \(or a KEYWORD in upper case, numbers or @F"),
        ("zero", "exposure", "zero exposure is unknown"),
        ("scale", "noise", "scale noise is unknown"),
        ("scale", "1,two", "scale: 'two' is no number"),
        ("scale", "@nowhere.txt", "scale @nowhere.txt cannot be read: No such file"),
        ("scale", "", "scale  is unknown"),
        ("scale", "NAN", None),
    ],
)
def test_what_is_none_of_them_is_refused(term, text, message):
    with pytest.raises(UsageError, match=message):
        scaling.read_term(term, text)


def test_numbers_come_from_a_file(tmp_path):
    path = tmp_path / "scales.txt"
    path.write_text("# of the night\n1.5\n\n  2 # cloudy\n-3e1\n")
    assert scaling.read_term("scale", f"@{path}") == (1.5, 2.0, -30.0)
    path.write_text("1.5\ntwo\n")
    with pytest.raises(UsageError, match="scale: 'two' is no number"):
        scaling.read_term("scale", f"@{path}")
    with pytest.raises(UsageError, match="unknown"):
        scaling.read_term("scale", "1.5", numbers=False)


@given(st.text(max_size=12))
def test_any_text_is_read_or_refused(text):
    try:
        found = scaling.read_term("weight", text)
    except UsageError:
        return
    assert found in scaling.WORDS["weight"] or found[0] == "!" or isinstance(found, tuple)


def test_a_section_counts_from_one():
    assert scaling.read_section("[3:10,1:7]") == Section(0, 7, 2, 10)
    with pytest.raises(UsageError, match=r"statsec \[3:1,1:7\] is no section"):
        scaling.read_section("[3:1,1:7]")


def test_weights_make_the_mean_a_weighted_one():
    assert scaling.weighted("mean", "exposure") == "weighted"
    assert scaling.weighted("weighted", (1.0, 2.0)) == "weighted"
    assert scaling.weighted("median", "none") == "median"
    with pytest.raises(UsageError, match="weights have no place in combine median"):
        scaling.weighted("median", "noise")
    with pytest.raises(UsageError, match="combine weighted needs a weight"):
        scaling.weighted("weighted", "none")


def test_history_says_how_frames_were_adjusted():
    adjust = Adjustment("median", (1.0,), "!EXPTIME", Section(0, 7, 2, 10))
    assert scaling.describe(adjust, "a.fits") == (
        "adjusted before rejection: scale median, zero as given, weight EXPTIME",
        "level of a.fits",
        "measured in [3:10,1:7]",
    )
    assert scaling.describe(Adjustment(), "a.fits") == ()
