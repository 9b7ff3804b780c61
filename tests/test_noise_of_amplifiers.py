"""The noise of a master of several amplifiers is judged amplifier by amplifier."""

import numpy as np
import pytest
from astropy.io import fits

import nights
from masterframe.fits import tables

ROWS, HALF, STRIP = 64, 30, 6
COUNTS = {"bias": 6, "dark": 5, "flat": 7}
ELECTRONS = {"bias": 0, "dark": 20, "flat": 20_000}
LEVEL = 500


def sections(*, gains, noises):
    """The cards of two amplifiers, each with an overscan behind the data of both."""
    found = {}
    for number, ending in enumerate("AB"):
        x, strip = number * HALF, 2 * HALF + number * STRIP
        found |= {
            f"TRIMSEC{ending}": f"[{x + 1}:{x + HALF},1:{ROWS}]",
            f"BIASSEC{ending}": f"[{strip + 1}:{strip + STRIP},1:{ROWS}]",
            f"GAIN{ending}": (gains[number], "[e-/adu] electrons per adu"),
            f"RDNOISE{ending}": noises[number],
        }
    return found


def night(folder, seed, gains, noises, *, excess=1.0, told=True):
    """Write bias, darks and flats with the noise of photons and reads, that of one in excess."""
    rng = np.random.default_rng(seed)
    pixels = 1 + 0.01 * rng.standard_normal((ROWS, 2 * HALF))
    cards = sections(gains=gains, noises=noises)
    if not told:
        cards = {key: value for key, value in cards.items() if "SEC" in key}
    for number, (kind, count) in enumerate(COUNTS.items()):
        for index in range(count):
            light = rng.poisson(ELECTRONS[kind] * rng.uniform(0.9, 1.1) * pixels)
            parts = np.hsplit(light.astype(float), 2) + [np.zeros((ROWS, STRIP))] * 2
            for place, part in enumerate(parts):
                gain, noise = gains[place % 2], noises[place % 2]
                noise *= excess if place == 1 else 1
                parts[place] = LEVEL + (part + rng.normal(0, noise, part.shape)) / gain
            path = nights.raw(folder / f"{kind}_{index}.fits", kind, 60 * number + index, **cards)
            values = np.hstack(parts).round().astype(np.uint16)
            fits.writeto(path, values, fits.getheader(path), overwrite=True)
    return folder


def verdicts(folder, out):
    """The tests of noise of all masters: value and verdict, by kind."""
    made = nights.reduce_night(folder, out, "report=false")
    rows = {name: tables.read_quality(one.output) for name, one in made.items()}
    tests = {name: next(r for r in of if r.name == "test noise") for name, of in rows.items()}
    return {name.split("_")[1]: (test.value, test.verdict) for name, test in tests.items()}


DETECTORS = [
    ((1.0, 2.0), (6.0, 6.0)),
    ((3.0, 0.75), (5.0, 14.0)),
    ((1.5, 1.5), (9.0, 3.0)),
]
"""Electrons per adu and noise of a read (electrons) of two amplifiers."""


@pytest.mark.parametrize("told", [True, False], ids=["told", "untold"])
@pytest.mark.parametrize(("gains", "noises"), DETECTORS)
@pytest.mark.parametrize("seed", [1, 2])
def test_good_masters_of_unlike_amplifiers_pass(seed, gains, noises, told, tmp_path):
    found = verdicts(night(tmp_path / "n", seed, gains, noises, told=told), tmp_path / "out")
    assert set(found) == set(COUNTS)
    for kind, (value, verdict) in found.items():
        assert verdict == "pass", (kind, value)
        assert value == pytest.approx(1, abs=0.08), kind


def test_one_amplifier_that_is_too_noisy_is_told(tmp_path):
    folder = night(tmp_path / "n", 3, (1.5, 1.5), (6.0, 6.0), excess=1.3)
    assert verdicts(folder, tmp_path / "out")["bias"][1] == "fail"
