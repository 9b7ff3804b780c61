"""Frames are scaled, shifted and weighed before they are rejected: whole files, and real flats."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData
from astropy.stats import sigma_clip
from ccdproc import Combiner

import masterframe as mf
import nights
from masterframe import direct, jobs, products, store
from masterframe.config import load_config
from masterframe.errors import UsageError
from masterframe.fits import masters, tables
from masterframe.model import Adjustment, Calibration, Image, Noise, Recipe, Rejection
from masterframe.request import read_options
from masterframe.run import plan_nights
from stacks import write_frames
from support import shared

LEVELS = [900.0, 400.0, 2500.0, 1300.0, 777.0, 1000.0]
SHAPE = (6, 90, 37)


def lamp(seed=3):
    """Frames of one scene at several levels, with noise; a cosmic ray in some."""
    rng = np.random.default_rng(seed)
    scene = rng.normal(1, 0.1, SHAPE[1:])
    frames = scene * np.array(LEVELS)[:, None, None] + rng.normal(0, 3, SHAPE)
    frames[rng.random(SHAPE) < 0.004] += 9000
    return frames.astype(np.float32)


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    cards = [{"EXPTIME": level / 10, "FLUX": 1 / level} for level in LEVELS]
    return write_frames(tmp_path_factory.mktemp("lamp"), lamp(), cards)


def combined(files, output, **options):
    """Combine files as the command line does; return planes and the rows of INPUTS."""
    request = read_options({"noise_floor": "0", **options, "files": files, "output": output})
    with store.open_resources(workers=2) as resources:
        direct.combine_files(request, resources)
    with fits.open(output) as hdus:
        planes = {hdu.name: hdu.data.copy() for hdu in hdus if hdu.is_image}
        return planes, tables.read_inputs(output), hdus[0].header.copy()


def clipped_mean(values, **options):
    """Mean of the values within 5 sigma of the median, by astropy in double precision."""
    kept = sigma_clip(values, 5, axis=0, maxiters=1, masked=True, stdfunc="mad_std", **options)
    return kept.mean(axis=0).filled(np.nan), kept.count(axis=0)


def test_frames_are_scaled_to_the_first_by_date_before_rejection(paths, tmp_path):
    values = lamp().astype(float)
    found, rows, header = combined(paths[::-1], tmp_path / "m.fits", scale="median")
    levels = [np.median(frame) for frame in lamp()]
    assert [row.level for row in rows] == levels
    assert [row.scale for row in rows] == pytest.approx([levels[0] / own for own in levels])
    expected, count = clipped_mean(values * np.array([row.scale for row in rows])[:, None, None])
    np.testing.assert_allclose(found["PRIMARY"], expected, rtol=2e-6)
    np.testing.assert_array_equal(found["COUNT"], count)
    history = " ".join(header["HISTORY"])
    assert "scale median level of frame_0000.fits" in history
    assert header["BUNIT"] == "adu"


@pytest.mark.parametrize(
    ("options", "scale", "zero"),
    [
        ({"scale": "exposure"}, [LEVELS[0] / level for level in LEVELS], [0.0] * 6),
        ({"scale": "!FLUX"}, [1 / level for level in LEVELS], [0.0] * 6),
        ({"zero": "mean"}, [1.0] * 6, [lamp()[0].mean() - own.mean() for own in lamp()]),
        (
            {"scale": "1,2,3,4,5,6", "zero": "-1,-2,-3,-4,-5,-6"},
            [1.0, 2, 3, 4, 5, 6],
            [-1.0, -2, -3, -4, -5, -6],
        ),
        ({"scale": "FLUX", "zero": "@{zeros}"}, [1 / v for v in LEVELS], [1.0, 1, 2, 3, 5, 8]),
    ],
)
def test_factor_and_summand_are_applied_as_they_are_recorded(options, scale, zero, paths, tmp_path):
    (tmp_path / "zeros.txt").write_text("1 1 2 3 5 8".replace(" ", "\n"))
    options = {key: text.format(zeros=tmp_path / "zeros.txt") for key, text in options.items()}
    found, rows, _ = combined(paths, tmp_path / "m.fits", **options, reject="none")
    assert [row.scale for row in rows] == pytest.approx(scale, rel=1e-12)
    assert [row.zero for row in rows] == pytest.approx(zero, rel=1e-5)
    factors = np.array([[row.scale, row.zero] for row in rows])[:, :, None, None]
    expected = (lamp().astype(float) * factors[:, 0] + factors[:, 1]).mean(0)
    np.testing.assert_allclose(found["PRIMARY"], expected, rtol=2e-6, atol=1e-3)


def test_the_order_of_files_makes_no_difference_to_any_bit(paths, tmp_path):
    options = {"scale": "mode", "zero": "median", "statsec": "[3:30,11:80]", "low": "3"}
    planes, rows, _ = combined(paths, tmp_path / "a.fits", **options)
    for seed in range(3):
        shuffled = [str(path) for path in np.random.default_rng(seed).permutation(paths)]
        again, same, _ = combined(shuffled, tmp_path / f"{seed}.fits", **options)
        assert same == rows
        for name, values in planes.items():
            assert again[name].tobytes() == values.tobytes(), name


def test_numbers_go_with_the_files_in_the_order_given(paths, tmp_path):
    _, rows, _ = combined(paths[::-1], tmp_path / "m.fits", scale="1,2,3,4,5,6", reject="none")
    assert [Path(row.path).name for row in rows] == [Path(path).name for path in paths]
    assert [row.scale for row in rows] == [6, 5, 4, 3, 2, 1]


def test_a_level_of_one_has_no_unit(paths, tmp_path):
    found, rows, header = combined(paths, tmp_path / "m.fits", scale="level")
    assert np.nanmedian(found["PRIMARY"]) == pytest.approx(1, abs=0.02)
    assert [row.scale * row.level for row in rows] == pytest.approx([1] * 6)
    assert header["BUNIT"] == ""


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--scale", "median"), 1, "dark.fits: the scale (by median) is -1: it must be positive"),
        (("--scale", "EXPTIME"), 1, "dark.fits: it has no card EXPTIME for its scale"),
        (("--scale", "1,2"), 2, "scale gives 2 numbers for 4 frames"),
        (("--zero", "1,2,3,nan"), 1, "the zero is nan: it must be a number"),
        (("--scale", "medain"), 2, "did you mean median?"),
        (("--statsec", "[1:5,1:5]"), 2, "none of --scale, --zero, --weight measures there"),
        (("--scale", "mean", "--statsec", "[1:9,1:91]"), 2, "statsec [1:9,1:91] does not lie in"),
        (
            ("--weight", "noise", "--combine", "sum"),
            2,
            "weights have no place in combine sum",
        ),
        (("--combine", "weighted"), 2, "combine weighted needs a weight"),
        (("--trim", "0.2"), 2, "--trim 0.2 is read by --combine trimmed, not by mean"),
        (("--combine", "trimmed", "--trim", "0.5"), 2, "--trim 0.5: it may be 0 or more"),
        (("--planes", "rejlo"), 2, "did you mean rejlow?"),
        (("--combine", "mdian"), 2, "did you mean median?"),
    ],
)
def test_what_cannot_be_is_one_line(options, code, said, paths, tmp_path, capsys, monkeypatch):
    write_frames(tmp_path, [np.full(SHAPE[1:], -1, np.float32)])
    (tmp_path / "frame_0000.fits").rename(tmp_path / "dark.fits")
    files = [*paths[:3], tmp_path / "dark.fits"]
    output = tmp_path / "m.fits"
    given, _, err = nights.call(capsys, monkeypatch, "combine", *files, "-o", output, *options)
    assert given == code
    assert said in err.splitlines()[-1]
    assert not output.exists()


def test_a_master_needs_files_and_a_name(paths, capsys, monkeypatch, tmp_path):
    code, _, err = nights.call(capsys, monkeypatch, "combine", "-o", tmp_path / "m.fits")
    assert (code, err.splitlines()[-1]) == (2, "masterframe: no files are given")
    code, _, err = nights.call(capsys, monkeypatch, "combine", *paths)
    assert code == 2
    assert "-o OUTPUT" in err.splitlines()[-1]


# --- weights --------------------------------------------------------------------------------------


def adjusted(paths, adjust):
    """An image job of files, adjusted; as the store measures and jobs derives."""
    scans = [direct.fits.scan_file(path) for path in paths]
    images = tuple(Image(scan.hdus[0].frame, scan.hdus[0].header) for scan in scans)
    image = jobs.ImageJob("", images, Recipe(), Calibration())
    inputs = [jobs.Input(path, item.header) for path, item in zip(paths, images, strict=True)]
    with store.open_resources(workers=2) as resources:
        (facts,) = store.frame_facts([image], inputs, adjust, resources)
    return jobs.adjusted(image, adjust, facts, 0)


def test_measured_noise_weighs_after_scaling(tmp_path):
    rng = np.random.default_rng(4)
    sigmas, gains = np.array([2.0, 2.0, 8.0]), np.array([1.0, 4.0, 1.0])
    values = gains[:, None, None] * (1000 + rng.normal(0, 1, (3, 300, 200)) * sigmas[:, None, None])
    paths = write_frames(tmp_path, values.astype(np.float32))
    image = adjusted(paths, Adjustment("median", weight="noise"))
    expected = 1 / sigmas**2
    np.testing.assert_allclose(image.weights, expected, rtol=0.05)


def test_weights_stay_with_their_frames_and_are_recorded(tmp_path):
    paths = write_frames(tmp_path / "raw", lamp())
    stack = mf.open_stack(paths[::-1])
    weights = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0)
    recipe = Recipe(Rejection("none"))
    adjust = Adjustment("median", weight=weights)
    mf.write_master(tmp_path / "m.fits", stack, recipe, adjust=adjust)
    rows = tables.read_inputs(tmp_path / "m.fits")
    assert [row.weight for row in rows] == list(weights[::-1])
    assert [row.scale for row in rows] == [rows[0].level / row.level for row in rows]
    with pytest.raises(UsageError, match="values were changed are not measured: give numbers"):
        mf.write_master(tmp_path / "n.fits", stack * 2, recipe, adjust=adjust)
    adjust = Adjustment((2.0,) * 6)
    mf.write_master(tmp_path / "n.fits", stack * 2, recipe, adjust=adjust)
    with fits.open(tmp_path / "n.fits") as hdus:
        np.testing.assert_allclose(hdus[0].data, 4 * lamp().astype(float).mean(0), rtol=1e-6)


def test_what_needs_the_noise_says_so(paths, tmp_path):
    with pytest.raises(UsageError, match="rule ccd needs the noise of each value"):
        combined(paths, tmp_path / "m.fits", reject="ccd", gain="1.5")
    with pytest.raises(UsageError, match="weight variance needs the noise of each value"):
        combined(paths, tmp_path / "m.fits", weight="variance")


# --- real frames ----------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["median", "mean"])
def test_real_flats_of_one_lamp_equal_ccdproc(how, tmp_path):
    files = sorted(map(str, shared("data/st402/lab0_3x3").glob("flat*.FIT")))
    values = np.stack([fits.getdata(path).astype(float) for path in files])
    assert values.shape == (10, 170, 255)
    found, rows, _ = combined(
        files, tmp_path / "m.fits", scale=how, reject="sigma", center="mean", deviation="std",
        low="2.5", high="2.5",
    )  # fmt: skip
    measure = {"median": np.median, "mean": np.mean}[how]
    levels = [measure(frame[::2]) for frame in values]  # the rows of a small image: 85 of 170
    assert [row.level for row in rows] == pytest.approx(levels, rel=1e-12)
    factors = levels[0] / np.array(levels)
    scaled = [
        CCDData(frame * factor, unit="adu") for frame, factor in zip(values, factors, strict=True)
    ]
    combiner = Combiner(scaled)
    combiner.sigma_clipping(2.5, 2.5, func=np.mean, dev_func=np.std)
    count = (~combiner.data_arr.mask).sum(0)
    assert 0.9 < count.mean() / 10 < 1
    differs = found["COUNT"] != count  # a value on a bound, in single precision
    assert differs.sum() <= 3
    expected = combiner.average_combine().data
    np.testing.assert_allclose(found["PRIMARY"][~differs], expected[~differs], rtol=1e-6)


def test_sky_flats_of_a_fading_twilight_need_their_scale(tmp_path):
    """EFOSC2's three sky flats go from 3 to 4 seconds while the sky fades."""
    folder = shared("data/efosc2")
    files = [
        str(path)
        for path in sorted(folder.glob("*.fits"))
        if fits.getheader(path).get("HIERARCH ESO DPR TYPE") == "SKY,FLAT"
    ]
    values = np.stack([fits.getdata(path).astype(float) for path in files])
    found, rows, _ = combined(
        files, tmp_path / "m.fits", scale="median", statsec="[301:800,201:900]", reject="none"
    )
    levels = [np.median(frame[200:900:10, 300:800]) for frame in values]  # 70 of 700 rows
    assert [row.level for row in rows] == pytest.approx(levels, rel=1e-12)
    expected = np.mean([v * (levels[0] / own) for v, own in zip(values, levels, strict=True)], 0)
    np.testing.assert_allclose(found["PRIMARY"], expected, rtol=1e-6)


# --- nights ---------------------------------------------------------------------------------------


def test_a_stanza_scales_as_the_command_line_does(tmp_path):
    night = tmp_path / "night"
    for seed, level in enumerate((9000, 4000, 12000, 7000, 5000)):
        nights.raw(night / f"flat_{seed}.fits", "flat", seed, level=level, FLUX=float(level))
    wanted = {
        "mode": ["recipes.flat.scale=mode", "recipes.flat.normalize=false"],
        "flux": ["recipes.flat.scale=none", "recipes.flat.zero=FLUX"],
        "level": [],
    }
    rows = {}
    for name, overrides in wanted.items():
        outcome = nights.reduce_night(night, tmp_path / name, *overrides)["master_flat_V_bin1x1"]
        assert outcome.state == "made"
        assert not any("adjusted" in note for note in outcome.notes)
        rows[name] = tables.read_inputs(outcome.output)
        with fits.open(outcome.output) as hdus:
            history = " ".join(hdus[0].header["HISTORY"])
        words = {"mode": "scale mode", "flux": "zero FLUX", "level": "scale level"}
        assert f"adjusted before rejection: {words[name]}" in history
    first = rows["mode"][0]
    assert [row.scale for row in rows["mode"]] == [first.level / row.level for row in rows["mode"]]
    assert [row.zero for row in rows["flux"]] == [9000, 4000, 12000, 7000, 5000]
    assert [row.scale for row in rows["level"]] == [1 / row.level for row in rows["level"]]


def test_a_frame_without_the_card_fails_its_product_alone(tmp_path):
    night = nights.night(tmp_path / "night", bias=5, flat=5, science=0)
    outcomes = nights.reduce_night(night, tmp_path / "out", "recipes.flat.scale=LAMP")
    states = nights.states(outcomes)
    assert states == {"master_bias_bin1x1": "made", "master_flat_V_bin1x1": "failed"}
    assert "flat_0.fits: it has no card LAMP" in outcomes["master_flat_V_bin1x1"].reason


def test_a_changed_scale_makes_a_product_anew(tmp_path):
    night = nights.night(tmp_path / "night", bias=0, flat=5, science=0)
    nights.reduce_night(night, tmp_path / "out")
    again = nights.reduce_night(night, tmp_path / "out")
    assert nights.states(again) == {"master_flat_V_bin1x1": "up to date"}
    again = nights.reduce_night(night, tmp_path / "out", "recipes.flat.scale=mean")
    assert nights.states(again) == {"master_flat_V_bin1x1": "made"}


def test_a_changed_card_that_scales_makes_a_product_anew(tmp_path):
    for seed in range(5):
        nights.raw(tmp_path / "night" / f"flat_{seed}.fits", "flat", seed, LAMP=1.0 + seed)
    asked = (
        "recipes.flat.scale=LAMP",
        "recipes.flat.zero=mode",
        "recipes.flat.statsec='[2:30,3:20]'",
    )
    nights.reduce_night(tmp_path / "night", tmp_path / "out", *asked)
    fits.setval(tmp_path / "night" / "flat_3.fits", "FOCUS", value=3.5)
    again = nights.reduce_night(tmp_path / "night", tmp_path / "out", *asked)
    assert nights.states(again) == {"master_flat_V_bin1x1": "up to date"}
    fits.setval(tmp_path / "night" / "flat_3.fits", "LAMP", value=3.5)
    again = nights.reduce_night(tmp_path / "night", tmp_path / "out", *asked)
    assert nights.states(again) == {"master_flat_V_bin1x1": "made"}


def mosaic(path, seed, gains, read_noises):
    """Write a raw bias of two amplifiers, each with a header of its own."""
    rng = np.random.default_rng(seed)
    hdus = fits.HDUList([fits.PrimaryHDU()])
    for key, value in {
        "IMAGETYP": "Bias Frame",
        "EXPTIME": 0.0,
        "DATE-OBS": f"2026-01-02T03:04:{seed:02d}",
        "INSTRUME": "TwinCam",
    }.items():
        hdus[0].header[key] = value
    for number, (gain, noise) in enumerate(zip(gains, read_noises, strict=True), start=1):
        values = rng.normal(1000, noise / gain, (70, 40)).round().astype(np.uint16)
        hdu = fits.ImageHDU(values, name=f"AMP{number}")
        hdu.header["EGAIN"], hdu.header["RDNOISE"] = gain, noise
        hdus.append(hdu)
    path.parent.mkdir(exist_ok=True)
    hdus.writeto(path)


def jobs_of(night, out):
    """The job of the one product of a night, of all its frames, whatever they look like."""
    config = load_config(None, ["quality.frames.action=off"])
    (product,) = plan_nights([night], config).products
    with store.open_resources(workers=1) as resources:
        return products.master_job(product, config, out, resources)


def test_every_amplifier_has_its_own_gain_and_read_noise(tmp_path):
    for seed in range(3):
        mosaic(tmp_path / "night" / f"bias_{seed}.fits", seed, (1.5, 2.5), (6.0, 9.0))
    job = jobs_of(tmp_path / "night", tmp_path / "out")
    noises = [image.recipe.noise for image in job.images]
    assert noises == [Noise(gain=1.5, read_noise=6.0), Noise(gain=2.5, read_noise=9.0)]
    assert {image.recipe.rejection.rule for image in job.images} == {"sigma"}


def test_an_amplifier_whose_frames_disagree_has_no_known_noise(tmp_path):
    for seed in range(3):
        gains = (1.5, 2.5 + (seed == 2))
        mosaic(tmp_path / "night" / f"bias_{seed}.fits", seed, gains, (6.0, 9.0))
    job = jobs_of(tmp_path / "night", tmp_path / "out")
    assert [image.recipe.noise.gain for image in job.images] == [1.5, None]
    assert {image.recipe.rejection.rule for image in job.images} == {"none"}
    assert job.history == ("3 frames of unknown noise: combined without rejection",)


# --- what --show tells ----------------------------------------------------------------------------


def shown(capsys, monkeypatch, *options):
    code, out, err = nights.call(capsys, monkeypatch, "combine", "--show", "--json", *options)
    assert (code, err) == (0, "")
    return json.loads(out)


def test_show_tells_what_every_option_is_and_who_chose_it(capsys, monkeypatch):
    plain = shown(capsys, monkeypatch)
    assert plain["set"] is None
    assert set(plain["origins"].values()) == {"default"}
    defaults = {"reject": "sigma", "low": 5.0, "center": "median", "deviation": "mad"}
    assert defaults.items() <= plain["parameters"].items()
    options = ("--reject", "sigclip", "--lsigma", "4", "--hsigma", "off", "--mclip", "no")
    iraf = shown(capsys, monkeypatch, *options, "--scale", "mode", "--rdnoise", "RON")
    parameters, origins = iraf["parameters"], iraf["origins"]
    assert iraf["set"]["program"] == "IRAF imcombine reject=sigclip"
    assert (parameters["low"], origins["low"]) == (4.0, "given")
    assert (parameters["high"], origins["high"]) == ("off", "given")
    assert (parameters["center"], origins["center"]) == ("inner-mean", "given")
    assert (parameters["deviation"], origins["deviation"]) == ("rms", "set")
    assert (parameters["noise-floor"], origins["noise-floor"]) == (0.0, "set")
    assert (parameters["read-noise"], origins["read-noise"]) == ("RON", "given")
    assert (parameters["scale"], parameters["dtype"]) == ("mode", "float32")
    assert origins["grow"] == "default"


def test_show_reads_no_file_and_writes_none(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    code, out, err = nights.call(
        capsys, monkeypatch, "combine", "nothing.fits", "-o", "m.fits", "--show", "--reject", "mad"
    )
    assert (code, err) == (0, "")
    assert not os.listdir(tmp_path)  # noqa: PTH208
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines()}
    assert rows["--reject"] == ["sigma", "mad"]
    assert float(rows["--low"][0]) == pytest.approx(3 / 1.4826, rel=1e-5)
    assert "Siril stack rej a" in out.splitlines()[-1]


def test_a_named_set_combines_as_its_parameters_do(paths, tmp_path):
    named, _, header = combined(paths, tmp_path / "a.fits", reject="sigclip", low="2")
    spelled, _, _ = combined(
        paths, tmp_path / "b.fits", reject="sigma", low="2", high="3", center="median",
        deviation="rms", ddof=1, max_iters="all", nkeep=1,
    )  # fmt: skip
    for name, values in named.items():
        assert values.tobytes() == spelled[name].tobytes()
    assert header["REJTYPE"] == "sigma"
    assert header["REJDEV"] == "rms"
    assert len(masters.open_master(tmp_path / "a.fits")) == 1


# --- too few frames -------------------------------------------------------------------------------


def test_combine_and_plan_say_when_a_rule_cannot_work(paths, tmp_path, capsys, monkeypatch):
    clip = ("--center", "mean", "--deviation", "std", "--low", "3", "--high", "3")
    output = tmp_path / "m.fits"
    _, _, err = nights.call(capsys, monkeypatch, "combine", *paths, "-o", output, *clip)
    words = "6 frames are too few for the rule sigma, which needs 11 with these options"
    assert words in err
    assert tables.read_inputs(output)[0].rejected_high == 0
    overrides = [f"recipes.bias.{name}={value}" for name, value in (
        ("center", "mean"), ("deviation", "std"), ("low", 3), ("high", 3)
    )]  # fmt: skip
    night = nights.night(tmp_path / "night", bias=6, flat=0, science=0)
    _, plan = nights.make_plan(night, *overrides)
    assert any(words in note for note in plan.products[0].notes)
    _, plan = nights.make_plan(night)
    (note,) = plan.products[0].notes
    assert note.startswith("6 frames give a rough spread: sigma rejects 1.3 % of good values")
    assert note in nights.call(capsys, monkeypatch, "plan", tmp_path / "night")[1]
    _, plan = nights.make_plan(night, "recipes.bias.noise_floor=6")
    assert plan.products[0].notes == ()


def test_few_frames_of_unknown_noise_are_warned_of(paths, tmp_path, capsys, monkeypatch):
    arguments = ("combine", *paths[:4], "-o", tmp_path / "m.fits")
    _, _, err = nights.call(capsys, monkeypatch, *arguments)
    assert "4 frames give a rough spread: sigma rejects 2.3 % of good values" in err
    more = ("--overwrite", "--gain", "1.5", "--read-noise", "9")
    _, _, err = nights.call(capsys, monkeypatch, *arguments, *more)
    assert "rough" not in err
