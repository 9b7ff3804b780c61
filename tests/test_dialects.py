"""IRAF's and Siril's names: each stands for options of a rule, and gives way to those given."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from masterframe import dialects
from masterframe.errors import UsageError
from masterframe.kernels import RULES, resolve_rejection
from masterframe.model import Rejection


def resolved(name, **given):
    return resolve_rejection(dialects.expand(Rejection(name, **given)))


@pytest.mark.parametrize("name", dialects.SETS)
def test_every_set_is_a_complete_rejection(name):
    found = resolved(name)
    assert found.rule in RULES
    assert name not in RULES
    assert found == resolve_rejection(dialects.SETS[name].rejection)


def test_short_names_are_those_that_no_rule_of_ours_has():
    assert set(dialects.SHORT) == {
        *("sigclip", "avsigclip", "ccdclip", "crreject"),
        *("median-sigma", "mad", "linear", "gesdt"),
    }
    for short, name in dialects.SHORT.items():
        assert resolved(short) == resolved(name)


def test_rules_of_ours_are_left_alone():
    given = Rejection("sigma", low=4.0)
    assert dialects.expand(given) is given
    assert dialects.find_set("minmax") is None


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("sigclip", {"rule": "sigma", "low": 3.0, "center": "median", "deviation": "rms"}),
        ("avsigclip", {"rule": "avsigma", "low": 3.0, "high": 3.0, "max_iters": "all"}),
        ("ccdclip", {"rule": "ccd", "snoise": 0.0, "nkeep": 1}),
        ("crreject", {"rule": "ccd", "low": math.inf, "high": 3.0}),
        ("iraf-minmax", {"rule": "minmax", "nlow": 1, "nhigh": 1}),
        ("iraf-pclip", {"rule": "pclip", "pclip": -0.5}),
        ("siril-sigma", {"rule": "sigma", "deviation": "std", "ddof": 1, "nkeep": 4}),
        ("siril-winsorized", {"rule": "winsorized", "low": 3.0, "nkeep": 4}),
        ("linear", {"rule": "linearfit", "low": 5.0}),
        ("siril-percentile", {"rule": "percentile", "low": 0.2, "high": 0.1}),
        ("gesdt", {"rule": "gesd", "fraction": 0.3, "alpha": 0.05}),
    ],
)
def test_sets_are_the_defaults_of_their_programs(name, fields):
    found = resolved(name)
    assert {key: getattr(found, key) for key in fields} == fields


@given(st.floats(0.5, 9), st.floats(0.5, 9))
def test_bounds_count_as_the_program_counts_them(low, high):
    """Siril's mad is the bare MAD, of which 1.4826 are a sigma."""
    found = resolved("mad", low=low, high=high)
    assert found.low * 1.482602218505602 == pytest.approx(low, rel=1e-15)
    assert found.high * 1.482602218505602 == pytest.approx(high, rel=1e-15)
    assert resolved("sigclip", low=low).low == low
    assert resolved("mad", low=math.inf).low == math.inf


def test_given_options_go_before_those_of_the_set():
    found = resolved("sigclip", center="inner-mean", nkeep=5, high=math.inf)
    assert (found.center, found.nkeep, found.high, found.low) == ("inner-mean", 5, math.inf, 3.0)


def test_options_that_the_rule_does_not_read_are_refused():
    with pytest.raises(UsageError, match="rule 'gesd' does not read low = 3"):
        resolved("gesdt", low=3.0)


@pytest.mark.parametrize(
    ("name", "meant"), [("sigclp", "sigclip"), ("siril-winsorised", "siril-winsorized")]
)
def test_an_unknown_name_gives_the_nearest(name, meant):
    with pytest.raises(UsageError, match=f"did you mean {meant}"):
        dialects.find_set(name)
