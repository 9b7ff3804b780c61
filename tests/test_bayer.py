"""Flats of Bayer sensors: the pixels behind each filter are normalised by themselves."""

import numpy as np
import pytest
from astropy.io import fits

import nights
from masterframe import explain

COLOURS = np.array([[1.0, 2.0], [2.2, 0.5]])


def night(folder, **cards):
    """Flats of a sensor whose four filters let through very different light."""
    rows, columns = nights.SHAPE
    colours = np.tile(COLOURS, (rows // 2, columns // 2))
    response = np.random.default_rng(1).normal(1, 0.02, nights.SHAPE)
    for index in range(5):
        nights.raw(folder / f"bias_{index}.fits", "bias", index, **cards)
        path = nights.raw(folder / f"flat_{index}.fits", "flat", 10 + index, **cards)
        light = 9000 * colours * response * (1 + 0.1 * index)
        with fits.open(path, mode="update") as hdus:
            hdus[0].data = np.random.default_rng(index).poisson(light).astype(np.uint16)
    return response


@pytest.mark.parametrize("pattern", ["RGGB", None])
def test_each_filter_has_a_median_of_one(pattern, tmp_path):
    response = night(tmp_path / "n", **({"BAYERPAT": pattern} if pattern else {}))
    made = nights.reduce_night(tmp_path / "n", tmp_path / "out")["master_flat_V_bin1x1"]
    flat = fits.getdata(made.output)
    cells = [flat[y::2, x::2] for y in range(2) for x in range(2)]
    medians = [np.median(cell) for cell in cells]
    if pattern is None:
        assert max(medians) > 3 * min(medians)
        assert "norm00" not in made.numbers
    else:
        np.testing.assert_allclose(medians, 1, atol=1e-6)
        assert np.std(flat / response) < 0.02
        levels = np.array([made.numbers[f"norm{y}{x}"] for y in range(2) for x in range(2)])
        np.testing.assert_allclose(levels / levels[0], COLOURS.ravel(), rtol=0.02)
    for x, y in ((3, 4), (10, 7)):
        assert explain.explain_master(made.output, x, y).problems == ()


def test_a_binned_sensor_has_no_filters_apart(tmp_path):
    night(tmp_path / "n", BAYERPAT="RGGB", XBINNING=2, YBINNING=2)
    made = nights.reduce_night(tmp_path / "n", tmp_path / "out")["master_flat_V_bin2x2"]
    assert "norm00" not in made.numbers
