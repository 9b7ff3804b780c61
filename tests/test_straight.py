"""Tiles of which nothing is left out are loaded in one go: to the bits of the step by step way."""

import dataclasses

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from blocks import combine_block
from masterframe.kernels import Floor, LoadTerms
from masterframe.model import Recipe

TERMS = ("overscan", "overscan_columns", "bias", "dark", "flat", "dark_ratio", "scale", "zero")


def terms_of(rng, shape, names):
    n, rows, nx = shape
    every = {
        "overscan": rng.normal(300, 3, (n, rows)),
        "overscan_columns": rng.normal(30, 3, (n, nx)),
        "bias": rng.normal(5, 2, (rows, nx)),
        "dark": rng.normal(2, 1, (rows, nx)),
        "flat": rng.uniform(0.5, 1.5, (rows, nx)),
        "dark_ratio": rng.uniform(0, 2, n),
        "scale": rng.uniform(0.5, 2, n),
        "zero": rng.normal(0, 9, n),
    }
    return {name: every[name] for name in names}


@given(
    seed=st.integers(0, 999),
    kind=st.sampled_from(["uint16", "int16", "int32", "float32", "float64"]),
    names=st.sets(st.sampled_from(TERMS)),
    nx=st.sampled_from([1, 63, 64, 65, 200]),
    limits=st.sampled_from([{}, {"saturation": 1200.0}, {"raw_low": 600.0, "raw_high": 1400.0}]),
    harm=st.sampled_from(["", "nan", "inf", "bad"]),
)
def test_one_go_gives_the_bits_of_step_by_step(seed, kind, names, nx, limits, harm):
    rng = np.random.default_rng(seed)
    shape = 7, 3, nx
    raw = rng.normal(1000, 100, shape).round().astype(kind)
    given_ = terms_of(rng, shape, names) | limits
    if harm == "bad":
        given_["bad"] = rng.random(shape[1:]) < 0.1
    elif harm and raw.dtype.kind == "f":
        raw[2, 1, nx // 2] = float(harm)
    elif harm and "bias" in given_:
        given_["bias"][1, nx // 2] = float(harm)
    results = [
        dataclasses.asdict(
            combine_block(raw, LoadTerms(**given_, **masks), Recipe(), Floor(), np.arange(7))
        )
        for masks in ({}, {"frame_mask": np.zeros(shape, bool)})  # a mask, though an empty one
    ]
    for name, values in results[0].items():
        assert values.tobytes() == results[1][name].tobytes(), name
