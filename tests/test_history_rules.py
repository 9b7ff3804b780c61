"""Histories of rules that mark values, measure rows or grow: what the combination counts."""

from dataclasses import astuple, replace

import numpy as np
import pytest

from blocks import combine_block
from masterframe.explain.window import Window, judge
from masterframe.kernels import Floor, FrameTerms, LoadTerms, resolve_rejection
from masterframe.model import Recipe, Rejection

REJECTIONS = [
    Rejection("ccd", low=2.0, high=1.5),
    Rejection("ccd", low=2.0, high=1.5, max_iters=2, snoise=0.01, nkeep=3),
    Rejection("varclip", low=1.5, high=2.0),
    Rejection("avsigma", low=1.5, high=1.5),
    Rejection("avsigma", low=1.2, high=1.5, center="mean", max_iters=2),
    Rejection("pclip", low=1.5, high=1.5),
    Rejection("percentile", low=0.1, high=0.08),
    Rejection("winsorized", low=1.5, high=1.5),
    Rejection("linearfit", low=1.2, high=1.2),
    Rejection("gesd", fraction=0.4, alpha=0.2),
    Rejection("sigma", low=2.5, high=2.5, grow=1.0),
    Rejection("sigma", low=2.0, high=2.0, grow=2.3, max_iters="all", nkeep=4),
    Rejection("minmax", nlow=1, nhigh=1, grow=1.5),
    Rejection("threshold", low=85.0, high=112.0, grow=1.5),
    Rejection("ccd", low=2.0, high=2.0, grow=1.5),
    Rejection("avsigma", low=2.0, high=2.0, grow=1.0),
]


@pytest.mark.parametrize(
    "rejection", REJECTIONS, ids=lambda r: "-".join(str(v) for v in astuple(r) if v is not None)
)
@pytest.mark.parametrize("seed", [1, 2])
def test_every_pixel_is_judged_as_the_combination_does(rejection, seed):
    rng = np.random.default_rng(seed)
    n, rows, nx = 9, 6, 11
    raw = rng.poisson(100, (n, rows, nx)).astype(np.uint16)
    raw[rng.random(raw.shape) < 0.03] += 60
    raw[rng.random(raw.shape) < 0.02] = 60000
    noise = np.stack([rng.uniform(1, 40, n), rng.uniform(0.5, 1.5, n), rng.normal(0, 2, n)], 1)
    rejection = resolve_rejection(rejection)
    threshold = rejection.rule == "threshold"
    terms = LoadTerms(
        bias=rng.normal(3, 1, (rows, nx)).astype("f4"),
        scale=rng.normal(1, 0.02, n).astype("f4"),
        saturation=50000.0,
        raw_low=rejection.low if threshold else -np.inf,
        raw_high=rejection.high if threshold else np.inf,
    )
    recipe, rank, floor = Recipe(rejection), rng.permutation(n), Floor(quant=0.7)
    combined = combine_block(raw, terms, recipe, floor, rank, frames=FrameTerms(noise=noise))
    whole = Window(raw, terms, (0, 0), floor, rank, noise, np.empty((0, 0, 0)), recipe)
    codes = np.array(
        [[judge(replace(whole, at=(y, x))).codes for x in range(nx)] for y in range(rows)]
    )
    for code, name in enumerate(("count", "low", "high")):
        np.testing.assert_array_equal((codes == code).sum(2), getattr(combined, name), name)
    for code, name in enumerate(("kept", "rej_low", "rej_high", "missing")):
        np.testing.assert_array_equal((codes == code).sum((0, 1)), getattr(combined, name), name)
    assert (codes == 1).any() or (codes == 2).any()
