"""A real night of EFOSC2, from the command line, beside an independent reduction with ccdproc."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData
from typer.testing import CliRunner

import efosc2_ccdproc
from masterframe.cli import app
from support import program, shared

BIAS, FLAT = "master_bias_bin2x2_fastL", "master_flat_g-782_bin2x2_fastL"
CONAD, READ_NOISE = 1.1, 7.8
SCIENCE = [
    "EFOSC.2022-01-28T04:54:24.341",
    "EFOSC.2022-01-28T05:05:25.843",
    "EFOSC.2022-01-28T05:09:05.986",
    "EFOSC.2022-01-28T08:37:47.742",
    "EFOSC.2022-01-28T08:40:27.113",
    "EFOSC.2022-01-28T08:43:07.204",
]
LEVELS = {
    BIAS: 3.2,
    FLAT: 1.00025,
    **dict(zip(SCIENCE, (384.92, 382.36, 378.90, 339.68, 344.98, 348.37), strict=True)),
}


def call(command, night, out):
    """Run a command on a night; return its JSON document."""
    found = CliRunner().invoke(app, [command, str(night), "-o", str(out), "--json"])
    assert found.exit_code == 0, found.output
    return json.loads(found.stdout)


def states(report):
    return {Path(item["name"]).name: item["state"] for item in report["products"]}


@pytest.fixture(scope="module")
def night():
    return shared("data/efosc2")


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return tmp_path_factory.mktemp("efosc2")


@pytest.fixture(scope="module")
def report(night, out):
    return call("run", night, out)


@pytest.fixture(scope="module")
def products(report):
    """The planes of every product by its name."""
    found = {}
    for item in report["products"]:
        with fits.open(item["output"]) as hdus:
            planes = {hdu.name: hdu.data for hdu in hdus}
            found[Path(item["name"]).name] = planes | {"header": hdus[0].header.copy()}
    return found


@pytest.fixture(scope="module")
def oracle(night):
    return efosc2_ccdproc.reduce(night)


def test_masters_and_science_frames_are_made(report):
    assert states(report) == dict.fromkeys([BIAS, FLAT, *SCIENCE], "made")


def test_spectra_arcs_and_flats_of_the_slit_are_listed_and_kept_out(report):
    reasons = {Path(item["path"]).name[6:25]: item["reason"] for item in report["left_out"]}
    lamps = ["2022-01-26T19:18:58", "2022-01-26T19:21:12", "2022-01-26T19:21:57"]
    for lamp in lamps:
        assert "recipe 'flat' does not take it: technique = 'spectrum'" in reasons.pop(lamp)
    for spectrum in ("2022-01-27T02:31:32", "2022-01-29T01:12:03"):
        assert "recipe 'science' does not take it: technique = 'sp" in reasons.pop(spectrum)
    assert reasons.pop("2022-01-26T19:37:39").startswith("arc")
    assert not reasons
    assert report["problems"] == []


def test_the_bias_is_that_of_the_five_darks_of_zero_seconds(products):
    inputs = products[BIAS]["INPUTS"]
    assert sorted(Path(path).name[6:25] for path in inputs["PATH"]) == [
        "2022-01-26T19:02:38",
        "2022-01-26T19:03:08",
        "2022-01-26T19:03:39",
        "2022-01-26T19:04:10",
        "2022-01-26T19:04:41",
    ]
    assert set(inputs["EXPTIME"]) == {0.0}
    assert products[BIAS]["header"]["NCOMBINE"] == 5


def test_the_bias_equals_ccdproc(products, oracle):
    bias = products[BIAS]
    assert bias["PRIMARY"].shape == (1024, 1024)
    np.testing.assert_array_equal(bias["COUNT"], oracle["bias_count"])
    np.testing.assert_allclose(bias["PRIMARY"], oracle["bias"], rtol=2e-7, atol=2e-5)


def test_the_flat_equals_ccdproc(products, oracle):
    flat = products[FLAT]
    np.testing.assert_allclose(sorted(flat["INPUTS"]["LEVEL"]), sorted(oracle["levels"]), rtol=1e-6)
    different = flat["COUNT"] != oracle["flat_count"]
    assert different.sum() <= 2  # float32 may fall on the other side of a bound
    np.testing.assert_allclose(
        flat["PRIMARY"][~different], oracle["flat"][~different], rtol=1e-6, atol=1e-9
    )
    insensitive = flat["MASK"] & 8 > 0
    np.testing.assert_array_equal(insensitive, oracle["insensitive"])


def test_the_flat_is_finite_where_it_is_used(products):
    flat = products[FLAT]
    used = flat["MASK"] == 0
    assert used.mean() > 0.98
    assert np.isfinite(flat["PRIMARY"][used]).all()
    assert flat["PRIMARY"][used].min() >= 0.2
    assert np.isfinite(flat["UNCERT"][used & (flat["COUNT"] > 1)]).all()
    assert np.median(flat["PRIMARY"][used]) == pytest.approx(1, abs=5e-4)


def test_science_frames_equal_ccdproc(products, oracle):
    assert sorted(oracle["science"]) == SCIENCE
    for name, expected in oracle["science"].items():
        found = products[name]
        assert np.isfinite(found["PRIMARY"]).all()
        np.testing.assert_allclose(found["PRIMARY"], expected, rtol=1e-6, atol=2e-4)


def test_science_frames_carry_their_noise_and_masks(products, night):
    bias, flat = products[BIAS], products[FLAT]
    divided = np.where(flat["MASK"] > 0, 1.0, flat["PRIMARY"].astype(float))
    for name in SCIENCE:
        found = products[name]
        data = found["PRIMARY"].astype(float)
        variance = CONAD * np.maximum(data * divided, 0) + READ_NOISE**2
        variance /= (CONAD * divided) ** 2
        variance += np.nan_to_num(bias["UNCERT"].astype(float) ** 2) / divided**2
        variance += (data * np.nan_to_num(flat["UNCERT"]) / divided) ** 2
        np.testing.assert_allclose(found["UNCERT"], np.sqrt(variance), rtol=1e-5)
        raw = fits.getdata(night / f"{name}.fits")[:1024, :1024]
        mask = (bias["MASK"] | flat["MASK"]) + np.where(raw >= 65535, 4, 0)
        np.testing.assert_array_equal(found["MASK"], mask)


def test_headers_follow_the_trim_and_name_the_masters(products, night):
    raw = fits.getheader(night / f"{SCIENCE[0]}.fits")
    header = products[SCIENCE[0]]["header"]
    assert header["MFBIAS"] == BIAS
    assert header["MFFLAT"] == FLAT
    assert header["OBJECT"] == raw["OBJECT"]
    assert header["CRPIX1"] == raw["CRPIX1"]  # the first columns and rows are kept
    assert "CRPIX1" not in products[FLAT]["header"]


def test_files_are_read_by_ccddata_and_legal(report):
    paths = [item["output"] for item in report["products"]]
    for path in paths:
        image = CCDData.read(path)
        assert image.uncertainty is not None
        assert image.mask.shape == image.shape == (1024, 1024)
    found = subprocess.run(
        [program("fitsverify"), "-q", *paths], capture_output=True, text=True, check=False
    )
    lines = [line for line in found.stdout.splitlines() if "verification OK" in line]
    assert len(lines) == len(paths), found.stdout


def level_and_scatter(values):
    median = np.median(values.astype(float))
    scatter = 1.482602218505602 * np.median(np.abs(values.astype(float) - median))
    return {"median": median, "scatter": scatter}


def test_levels_noise_and_counts(products):
    """The numbers of the closing note; shown by ``pytest -rP -k levels_noise``."""
    for name, planes in products.items():
        mask = planes["MASK"] > 0
        numbers = {"masked": mask.sum(), **level_and_scatter(planes["PRIMARY"][~mask])}
        if "QUALITY" in planes:
            quality = dict(zip(planes["QUALITY"]["NAME"], planes["QUALITY"]["VALUE"], strict=True))
            sampled = level_and_scatter(planes["PRIMARY"][::16][~mask[::16]])
            assert {key: quality[key] for key in sampled} == pytest.approx(sampled, rel=1e-5)
            numbers |= {"noise": quality["noise"], "kept": planes["COUNT"].sum()}
        print(name, {key: float(f"{number:.6g}") for key, number in numbers.items()})  # noqa: T201
        assert numbers["median"] == pytest.approx(LEVELS[name], rel=1e-4)
    assert numbers["masked"] > 0


def test_the_noise_of_the_bias_is_that_of_its_frames(products):
    """The header promises 7.8 electrons; rows less the median of 4 noisy columns have more."""
    bias = products[BIAS]
    noise = dict(zip(bias["QUALITY"]["NAME"], bias["QUALITY"]["VALUE"], strict=True))["noise"]
    frames = np.median(bias["INPUTS"]["NOISE"])
    assert noise * 5**0.5 == pytest.approx(frames * (5 / 4) ** 0.5, rel=0.01)
    assert noise * 5**0.5 * CONAD == pytest.approx(12.4, abs=0.1)


def change_pixel(path):
    """Change one pixel as little as can be."""
    path.chmod(0o644)
    with fits.open(path, mode="update", do_not_scale_image_data=True) as hdus:
        hdus[0].data[512, 500] += 1


def test_what_a_second_run_makes(report, night, out, tmp_path):
    """Nothing, wherever the files are and whatever their times, until a pixel changes."""
    again = call("run", night, out)
    assert set(states(again).values()) == {"up to date"}
    copy = tmp_path / "efosc2"
    shutil.copytree(night, copy)
    os.utime(copy / "EFOSC.2022-01-26T19:03:08.542.fits")
    assert set(states(call("run", copy, out)).values()) == {"up to date"}
    depends = {
        f"{SCIENCE[2]}.fits": [SCIENCE[2]],
        "EFOSC.2022-01-28T00:08:54.737.fits": [FLAT, *SCIENCE],
        "EFOSC.2022-01-26T19:03:08.542.fits": [BIAS, FLAT, *SCIENCE],
        "EFOSC.2022-01-27T02:31:32.701.fits": [],
    }
    for name, expected in depends.items():
        change_pixel(copy / name)
        planned = [
            Path(item["name"]).name
            for item in call("plan", copy, out)["products"]
            if not item["forecast"]["current"]
        ]
        made = [name for name, state in states(call("run", copy, out)).items() if state == "made"]
        assert planned == made == expected
