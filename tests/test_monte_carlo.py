"""Stated errors cover what they should, and the published figures are those of the program."""

from __future__ import annotations

import importlib.util
import sys

import numpy as np
import pytest
import xarray as xr

import masterframe as mf
from masterframe.kernels.small import COSTS, few_frames
from masterframe.model import Noise, Recipe, Rejection
from support import ROOT

PAGE = ROOT / "docs" / "monte-carlo.md"


@pytest.fixture(scope="module")
def monte_carlo():
    spec = importlib.util.spec_from_file_location(
        "monte_carlo", ROOT / "benchmarks" / "monte_carlo.py"
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def test_the_interval_of_the_default_rule_covers_what_it_should(monte_carlo):
    """From 10 frames on, with outliers or without, where the noise is half a step and more."""
    cases = [case for case in monte_carlo.CASES if case.steps >= 0.5]
    assert len(cases) == 7
    for n in (10, 20):
        for case in cases:
            figures = monte_carlo.judge(monte_carlo.draw(case, n), "sigma")
            assert 0.66 < figures.coverage < 0.71, (case.name, n)
            assert figures.noise < 1.03, (case.name, n)
    assert 0.66 < monte_carlo.judge(monte_carlo.draw(cases[1], 100), "sigma").coverage < 0.71


def test_the_page_is_what_the_script_prints(monte_carlo):
    text = PAGE.read_text()
    assert text.startswith(f"{monte_carlo.HEAD}\n{monte_carlo.NOTES}")
    case = monte_carlo.CASES[1]
    for line in monte_carlo.table(case, (5, 10))[4:]:
        if line:
            part = text[text.index(f"### {case.name}\n") :]
            assert f"\n{line.removesuffix('|')}|" in part


def test_figures_of_few_frames_are_those_of_the_script(monte_carlo):
    page = PAGE.read_text()
    for n in (4, 5, 8):
        drawn = monte_carlo.draw(monte_carlo.CASES[0], n)
        for rule, costs in COSTS.items():
            figures = monte_carlo.judge(drawn, rule)
            found = round(100 * figures.lost, 1), round(100 * figures.coverage, 1)
            assert found == costs[n], (rule, n)
        cells = " | ".join(f"{costs[n][0]:.1f}%, {costs[n][1]:.1f}%" for costs in COSTS.values())
        assert f"| {n} | {cells} |" in page


def test_few_frames_are_warned_of_where_their_noise_is_not_known():
    (line,) = few_frames(Rejection(), 5, floor="auto", known=False)
    assert line.startswith("5 frames give a rough spread: sigma rejects 3 % of good values")
    assert "covers 62.4 %" in line
    assert few_frames(Rejection(), 5, floor="auto", known=True) == []
    assert few_frames(Rejection(), 5, floor=7.0, known=False) == []
    assert len(few_frames(Rejection(), 5, floor=0.0, known=True)) == 1
    assert few_frames(Rejection(), 10, floor="auto", known=False) == []
    (line,) = few_frames(Rejection(low=3.0), 5, floor="auto", known=False)
    assert "sigma with its default options" in line
    (line,) = few_frames(Rejection("winsorized"), 3, floor="auto", known=False)
    assert "needs 4" in line


@pytest.mark.parametrize("estimator", ["mean", "sum"])
@pytest.mark.parametrize("level", [1000, 0])
def test_rounding_that_all_frames_share_is_stated_where_the_noise_is_known(estimator, level):
    """Noise of a fifth of a step: 30 frames are alike, and no scatter tells how far they are off.

    Where the noise is not known the stated error is too small, by half and more.
    """
    rng = np.random.default_rng(3)
    truth = level + rng.random((40, 500))
    frames = np.round(truth + rng.normal(0, 0.2, (30, *truth.shape))).clip(0).astype(np.uint16)
    stack = xr.DataArray(frames, dims=("frame", "y", "x"))
    ratios = []
    for noise in (Noise(), Noise(gain=1.0, read_noise=0.2)):
        recipe = Recipe(Rejection("none"), estimator=estimator, noise=noise)
        result = mf.combine_stack(stack, recipe).dataset.compute(scheduler="synchronous")
        times = 30 if estimator == "sum" else 1
        error = result.data.values - times * truth
        stated = np.sqrt(np.mean(result.uncert.values.astype(float) ** 2))
        ratios.append(stated / np.sqrt(np.mean(error**2)))
    assert ratios[0] < 0.6
    assert ratios[1] == pytest.approx(1.02, abs=0.05)
