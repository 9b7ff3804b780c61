"""ESO's cards of several outputs in one image: sections, gains, and what a run makes of them."""

import numpy as np
import pytest
from astropy.io import fits

import nights
from masterframe import inventory
from masterframe.config import load_config
from masterframe.inventory.outputs import eso_outputs
from masterframe.model import Amplifier, Section

PRESCAN, DATA, OVERSCAN, TALL = 3, 16, 5, 24


def cards(corners, *, prescan=PRESCAN, overscan=OVERSCAN, rows=TALL):
    """The cards of outputs at some corners (x, y), as ESO writes them."""
    found = {"ESO DET OUTPUTS": len(corners)}
    for index, (x, y) in enumerate(corners, start=1):
        one = {
            "X": x,
            "Y": y,
            "NX": DATA,
            "NY": rows,
            "PRSCX": prescan,
            "OVSCX": overscan,
            "PRSCY": 0,
            "OVSCY": 0,
            "CONAD": 1.0 + index / 4,
            "RON": 3.0 + index,
        }
        found |= {f"ESO DET OUT{index} {key}": value for key, value in one.items()}
    return found


def sections(rules):
    return [(rule.data.split()[-1], rule.overscan.split()[-1]) for rule in rules]


def test_two_outputs_read_from_both_sides():
    rules = eso_outputs(cards([(1, 1), (32, 1)]), (TALL, 48))
    assert sections(rules) == [("[4:19,1:24]", "[20:24,1:24]"), ("[30:45,1:24]", "[25:29,1:24]")]
    assert [(rule.gain, rule.read_noise) for rule in rules] == [(1.25, 4.0), (1.5, 5.0)]
    swapped = eso_outputs(cards([(32, 1), (1, 1)]), (TALL, 48))
    assert sections(swapped) == sections(rules)[::-1]


def test_a_prescan_serves_where_there_is_no_overscan():
    rules = eso_outputs(cards([(1, 1), (32, 1)], overscan=0), (TALL, 38))
    assert sections(rules) == [("[4:19,1:24]", "[1:3,1:24]"), ("[20:35,1:24]", "[36:38,1:24]")]


def test_four_outputs_read_from_the_corners_and_two_from_below_and_above():
    four = eso_outputs(cards([(1, 1), (32, 1), (32, 48), (1, 48)]), (2 * TALL, 48))
    assert [data for data, _ in sections(four)] == [
        "[4:19,1:24]",
        "[30:45,1:24]",
        "[30:45,25:48]",
        "[4:19,25:48]",
    ]
    two = eso_outputs(cards([(1, 1), (1, 48)]), (2 * TALL, 24))
    assert sections(two) == [("[4:19,1:24]", "[20:24,1:24]"), ("[4:19,25:48]", "[20:24,25:48]")]


@pytest.mark.parametrize(
    ("change", "shape"),
    [
        ({}, (TALL, 49)),
        ({}, (TALL + 1, 48)),
        ({"ESO DET OUTPUTS": 1}, (TALL, 48)),
        ({"ESO DET OUTPUTS": 3}, (TALL, 48)),
        ({"ESO DET OUTPUTS": 9}, (TALL, 48)),
        ({"ESO DET OUT2 PRSCX": None}, (TALL, 48)),
        ({"ESO DET OUT2 X": 1}, (TALL, 48)),
        ({"ESO DET OUT2 NX": 0}, (TALL, 48)),
    ],
)
def test_cards_that_do_not_add_up_give_nothing(change, shape):
    assert eso_outputs({**cards([(1, 1), (32, 1)]), **change}, shape) == []


def frame(path, index):
    nights.raw(path, "bias", index, shape=(TALL, 48))
    rng = np.random.default_rng(index)
    data = rng.normal(200, 4, (TALL, 48))
    data[:, 24:] += 300 + index
    with fits.open(path, mode="update") as hdus:
        hdus[0].data = np.round(data).astype(np.uint16)
        for key, value in cards([(1, 1), (32, 1)]).items():
            hdus[0].header[f"HIERARCH {key}"] = value
    return path


def test_a_run_takes_the_overscan_of_each_output_off(tmp_path):
    paths = [frame(tmp_path / "night" / f"{k}.fits", k) for k in range(5)]
    config = load_config(None, ["recipes.bias.reject=none"])
    exposures, _ = inventory.scan_night([tmp_path / "night"], config)
    assert exposures[0].images[0].amplifiers == (
        Amplifier(Section(0, TALL, 3, 19), Section(0, TALL, 19, 24), 1.25, 4.0),
        Amplifier(Section(0, TALL, 29, 45), Section(0, TALL, 24, 29), 1.5, 5.0),
    )
    made = nights.reduce_night(
        tmp_path / "night", tmp_path / "out", "recipes.bias.reject=none", "report=false"
    )
    (bias,) = made.values()
    expected = []
    for path in paths:
        raw = fits.getdata(path).astype(float)
        left = raw[:, 3:19] - np.median(raw[:, 19:24], axis=1)[:, None]
        right = raw[:, 29:45] - np.median(raw[:, 24:29], axis=1)[:, None]
        expected.append(np.hstack([left, right]))
    np.testing.assert_allclose(fits.getdata(bias.output), np.mean(expected, axis=0), atol=1e-4)
