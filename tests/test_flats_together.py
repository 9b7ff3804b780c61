"""Flats whose extensions are divided by one level: what they are relative to each other stays."""

import numpy as np
import pytest
from astropy.io import fits

import nights
from masterframe import explain, finish, simulate
from masterframe.journal import bands

PLAIN = ("recipes.flat.reject=none", "recipes.flat.noise_floor=0", "report=false")
SPEC = simulate.NightSpec(
    simulate.Camera((44, 52), 10, extensions=3, amplifiers=2, amplifier_spread=0.4),
    bias=6,
    darks={60.0: 5},
    flats={"V": 5},
    science={"V": 1},
    exptime=60.0,
    seed=17,
    trails=False,
    cosmic_rate=0,
    stars=0,
    sky=60.0,
)
FLAT = "master_flat_V_bin1x1"


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    return simulate.simulate_night(tmp_path_factory.mktemp("together"), SPEC)


@pytest.fixture(scope="module")
def made(night, tmp_path_factory):
    """The products of the night by how the extensions of its flat are normalised, and by name."""
    return {
        how: reduced(night, tmp_path_factory.mktemp("out"), value)
        for how, value in (("apart", "true"), ("together", "together"))
    }


def reduced(night, out, value):
    outcomes = nights.reduce_night(night.night, out, f"recipes.flat.normalize={value}", *PLAIN)
    assert {outcome.state for outcome in outcomes.values()} == {"made"}, outcomes
    return {name: out / f"{item.output}" for name, item in outcomes.items()}


def lit(night, products, name):
    """The light of each flat on one extension, as an independent script would find it."""
    bias, dark = (
        fits.getdata(products[own], name).astype(float)
        for own in ("master_bias_bin1x1", "master_dark_60s_bin1x1")
    )
    frames = []
    for shot in (shot for shot in night.shots if shot.kind == "flat"):
        raw = fits.getdata(night.night / shot.name, name).astype(float)
        parts = [
            raw[:, one.data.x0 : one.data.x1]
            - np.median(raw[:, one.overscan.x0 : one.overscan.x1], axis=1)[:, None]
            for one in night.extension(name).amplifiers
        ]
        frames.append(np.hstack(parts) - bias - dark * (SPEC.flat_exptime / 60))
    return np.stack(frames)


def test_one_level_of_all_extensions_as_numpy_finds_it(night, made):
    products = made["together"]
    light = {name: lit(night, products, name) for name in night.extensions}
    levels = np.median([np.median(own, axis=(1, 2)) for own in light.values()], axis=0)
    means = {name: np.mean(own / levels[:, None, None], axis=0) for name, own in light.items()}
    level = np.median(np.concatenate(list(means.values())))
    for name, mean in means.items():
        flat = fits.getdata(products[FLAT], name)
        np.testing.assert_allclose(flat, mean / level, rtol=2e-5)
        low = fits.getdata(products[FLAT], f"{name}_MASK") == 8
        np.testing.assert_array_equal(low, mean / level < 0.2)


@pytest.mark.parametrize(("how", "spread"), [("apart", 0.1), ("together", 0.005)])
def test_sensitivities_and_gains_of_all_amplifiers_stay_in_the_flat(night, made, how, spread):
    responses = [
        np.median(
            fits.getdata(made[how][FLAT], name)[:, one.data.x0 : one.data.x1]
            / truth.flat("V")[:, one.data.x0 : one.data.x1]
        )
        * one.gain
        for name in night.extensions
        for truth in [night.extension(name)]
        for one in truth.amplifiers
    ]
    assert len(responses) == 6
    found = np.std(responses) / np.mean(responses)
    assert found < spread if how == "together" else found > spread


def test_the_sky_of_a_science_frame_is_the_same_in_all_extensions(night, made):
    (science,) = (shot for shot in night.shots if shot.kind == "science")
    name = science.name.removesuffix(".fits")
    skies = {
        how: [
            np.median(fits.getdata(products[name], extension)[:, part])
            for extension in night.extensions
            for part in (np.s_[:26], np.s_[26:])
        ]
        for how, products in made.items()
    }
    assert np.ptp(skies["together"]) < 0.04 * np.mean(skies["together"])
    assert np.ptp(skies["apart"]) > 0.2 * np.mean(skies["apart"])
    bias, dark, flat = (
        fits.getdata(made["together"][own], "CCD2")
        for own in ("master_bias_bin1x1", "master_dark_60s_bin1x1", FLAT)
    )
    raw = fits.getdata(night.night / science.name, "CCD2").astype(float)
    for one in night.extension("CCD2").amplifiers:
        part = np.s_[:, one.data.x0 : one.data.x1]
        level = np.median(raw[:, one.overscan.x0 : one.overscan.x1], axis=1)[:, None]
        expected = (raw[part] - level - bias[part] - dark[part]) / flat[part]
        found = fits.getdata(made["together"][name], "CCD2")[part]
        good = fits.getdata(made["together"][name], "CCD2_MASK")[part] == 0
        np.testing.assert_allclose(found[good], expected[good], rtol=1e-4, atol=1e-2)


def test_the_header_says_how_and_explain_repeats_it(night, made):
    for how, products in made.items():
        assert fits.getheader(products[FLAT])["FLATNORM"] == how
        assert "FLATNORM" not in fits.getheader(products["master_bias_bin1x1"])
        for name in night.extensions:
            told = explain.explain_master(str(products[FLAT]), 30, 20, name)
            assert told.problems == ()
        numbers = fits.getdata(products[FLAT], "QUALITY")
        norms = {row["value"] for row in numbers if row["name"].strip() == "norm"}
        assert len(norms) == (1 if how == "together" else 3)


@pytest.mark.parametrize("writes", [0, 1, 4, 9])
def test_a_run_that_ends_while_extensions_are_divided_goes_on_to_the_same_bits(
    night, made, tmp_path, monkeypatch, writes
):
    monkeypatch.setattr(bands, "SECONDS", 0.0)
    monkeypatch.setattr(bands, "SHARE", 0)
    monkeypatch.setattr(finish, "PASS_BYTES", 52 * 8 * 20)  # several writes an extension
    left, divide, write = [writes], finish.normalize_flat, finish.MasterPlanes.write

    def stop(self, *arguments):
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        write(self, *arguments)

    with monkeypatch.context() as patch:

        def begin(*arguments):
            patch.setattr(finish.MasterPlanes, "write", stop)
            return divide(*arguments)

        patch.setattr(finish, "normalize_flat", begin)
        with pytest.raises(KeyboardInterrupt):
            reduced(night, tmp_path, "together")
    nights.reduce_night(night.night, tmp_path, "recipes.flat.normalize=together", *PLAIN)
    product = made["together"][FLAT]
    resumed = tmp_path / product.relative_to(product.parents[1])
    with fits.open(product) as whole, fits.open(resumed) as again:
        for one, other in zip(whole[1:-1], again[1:-1], strict=True):
            if one.is_image:
                np.testing.assert_array_equal(one.data, other.data)


def test_the_noise_that_is_expected_is_the_same_fraction_of_the_level(night, made):
    found = {}
    for how, products in made.items():
        rows = fits.getdata(products[FLAT], "QUALITY")
        found[how] = {(row["extension"].strip(), row["name"].strip()): row["value"] for row in rows}
    for name in night.extensions:
        apart, together = (
            found[how][name, "expected"] / found[how][name, "median"]
            for how in ("apart", "together")
        )
        assert together == pytest.approx(apart, rel=0.02)
        assert found["together"][name, "test scatter"] == pytest.approx(
            found["apart"][name, "test scatter"], rel=0.15
        )
    assert np.ptp([found["together"][name, "median"] for name in night.extensions]) > 0.05
