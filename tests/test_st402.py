"""The masters and frames that observers of a ST-402 published, made again from their raw frames."""

import json

import numpy as np
import pytest
from astropy.io import fits
from typer.testing import CliRunner

from masterframe.cli import app
from support import ROOT, shared

PLAIN = ["--reject", "none", "--dtype", "float64"]


def run(*arguments):
    found = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert found.exit_code == 0, found.output
    return found.stdout


@pytest.fixture(scope="module")
def raw():
    return shared("data/st402/raw")


@pytest.fixture(scope="module")
def published():
    """The published images by what they are."""
    folder, lab0 = shared("data/st402/published"), shared("data/st402/lab0_3x3/published")
    (flat,) = lab0.iterdir()
    names = {
        "flat-hg": folder / "master_flathg.fits",
        "flat-neon": folder / "master_flatneon.fits",
        "science-hg": folder / "d-L2-sci-hg-240.00000000.fits",
        "science-neon": folder / "d-L2-sci-neon-1200.00000000.fits",
        "flat-lab0": flat,
    }
    return {name: fits.getdata(path) for name, path in names.items()}


def assert_same(path, expected):
    found = fits.getdata(path)
    assert found.dtype == ">f8"
    assert np.abs(found - expected).max() == 0
    assert np.ptp(expected) > 100


def test_flat_hg_is_the_median_of_dark_subtracted_frames(raw, published, tmp_path):
    dark, flat = tmp_path / "dark.fits", tmp_path / "flat.fits"
    run("combine", raw / "L2-dark-flat-360.*", "-o", dark, *PLAIN)
    run(
        "combine",
        raw / "L2-flat-hg*",
        "-o",
        flat,
        *PLAIN,
        "--combine",
        "median",
        "--subtract",
        dark,
    )
    assert_same(flat, published["flat-hg"])


@pytest.mark.parametrize(
    ("files", "name"), [("raw/L2-flat-red*", "flat-neon"), ("lab0_3x3/flat-Neg5*", "flat-lab0")]
)
def test_flats_are_the_median_of_raw_frames(raw, published, tmp_path, files, name):
    out = tmp_path / "flat.fits"
    run("combine", raw.parent / files, "-o", out, *PLAIN, "--combine", "median")
    assert_same(out, published[name])


@pytest.mark.parametrize(
    ("darks", "estimator", "science", "name"),
    [
        ("L2-dark-hg-240.*", "mean", "L2-sci-hg-240.00000000.FIT", "science-hg"),
        ("L2-dark-neon-1200.*", "median", "L2-sci-neon-1200.00000000.FIT", "science-neon"),
    ],
)
def test_science_frames_less_their_dark(raw, published, tmp_path, darks, estimator, science, name):
    dark, out = tmp_path / "dark.fits", tmp_path / "science.fits"
    run("combine", raw / darks, "-o", dark, *PLAIN, "--combine", estimator)
    run("combine", raw / science, "-o", out, *PLAIN, "--subtract", dark)
    assert_same(out, published[name])


def test_a_run_makes_all_that_was_published(raw, published, tmp_path):
    config = ROOT / "configs" / "st402.yaml"
    report = json.loads(run("run", raw.parent, "-c", config, "-o", tmp_path, "--json"))
    made = {item["name"]: item for item in report["products"]}
    assert {item["state"] for item in made.values()} == {"made"}

    def one(part):
        (name,) = (name for name in made if part in name)
        return made[name]["output"]

    found = {
        "science-hg": one("calibrated/L2-sci-hg-240.00000000"),
        "science-neon": one("calibrated/L2-sci-neon-1200.00000000"),
    }
    flats = [item for item in made.values() if item["kind"] == "flat"]
    by_part = {}
    for item in flats:
        with fits.open(item["output"]) as hdus:
            first = hdus["INPUTS"].data["PATH"][0]
        part = "hg" if "flat-hg" in first else "neon" if "flat-red" in first else "lab0"
        by_part[f"flat-{part}"] = item["output"]
    assert len(flats) == len(by_part) == 3
    for name, path in {**found, **by_part}.items():
        assert_same(path, published[name])
