"""Frames that are not like the others, masters that are not good, and what a detector is like."""

import json
import math
import random
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st

import faulty
from cleannights import CAMERA, clean_spec, forget_noise
from masterframe import simulate
from masterframe.config import load_config
from masterframe.fits import tables
from masterframe.model import Section
from masterframe.quality import archive, detector
from masterframe.quality.comparison import compare
from masterframe.quality.frames import student_quantile
from masterframe.quality.lines import line_medians, outstanding
from masterframe.quality.masters import unshared_noise
from masterframe.quality.sketch import RUN, runs_within
from masterframe.quality.transfer import Transfer, alone
from masterframe.quality.verdicts import check, worst
from nights import call, make_plan, night, reduce_night, reduce_plan
from support import shared

SPEC = simulate.NightSpec(
    CAMERA,
    bias=6,
    darks={120.0: 5},
    flats={"V": 6, "B": 5},
    science={},
    stars=0,
    seed=5,
)
FAULTS = {
    "light leak": ("bias_003.fits", faulty.light_leak, "gradient"),
    "hot column": ("bias_004.fits", faulty.hot_column, "columns"),
    "correlated noise": ("bias_002.fits", faulty.correlated_noise, "structure"),
    "banding": ("bias_005.fits", faulty.banding, "banding"),
    "another camera": ("bias_006.fits", faulty.other_camera, "noise"),
    "warm dark": ("dark_120s_002.fits", faulty.warm, "level"),
    "lamp fades": ("flat_V_005.fits", faulty.lamp_fades, "drift"),
    "shutter closed": ("flat_V_002.fits", faulty.shutter_closed, "the others have about"),
    "saturated": ("flat_V_003.fits", faulty.saturated, "saturated"),
}


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    """A simulated night without faults."""
    folder = tmp_path_factory.mktemp("clean")
    return simulate.simulate_night(folder, SPEC, workers=2).night


def group_of(clean, target, kinds):
    """Copy the frames of some kinds."""
    target.mkdir()
    for path in clean.iterdir():
        if path.name.startswith(kinds):
            shutil.copy(path, target)
    return target


def kinds_for(name):
    """Return what is reduced for a fault of a frame: its kind and what calibrates it."""
    return ("bias", name.rpartition("_")[0])


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_named_by_the_right_test(clean, tmp_path, fault):
    name, plant, expected = FAULTS[fault]
    folder = group_of(clean, tmp_path / "night", kinds_for(name))
    plant(folder / name)
    outcomes = reduce_night(folder, tmp_path / "out")
    notes = [note for item in outcomes.values() for note in item.notes if "left out" in note]
    assert len(notes) == 1, notes
    assert notes[0].startswith(f"left out {folder / name}: ")
    assert expected in notes[0]
    rows = [
        row
        for path in (tmp_path / "out").rglob("master_*.fits")
        for row in tables.read_inputs(path)
        if row.path.endswith(name)
    ]
    assert [row.kept for row in rows] == [0]
    assert expected in rows[0].status
    assert "is beyond" in rows[0].status or fault == "shutter closed"
    seen_in_the_report(tmp_path / "out", name, closed=fault == "shutter closed")


def seen_in_the_report(out, name, *, closed=False):
    """Assert that a frame stands out in the picture that is there for it, and no other does."""
    document = json.loads((out / "report" / "report.json").read_text())
    (master,) = [item for item in document["masters"] if item["left_out"]]
    (bad,) = master["left_out"]
    assert bad["path"].endswith(name)
    levels = [row["level"] for row in master["inputs"]]
    assert master["charts"]["Level of each frame"].endswith("; 1 left out.")
    if closed:
        assert bad["level"] < 0.05 * min(levels)
        return
    assert bad["unlike"] > 1 > max(row["unlike"] for row in master["inputs"])
    assert master["charts"]["Frames beside each other"].endswith(f", {name}.")


def test_a_flat_through_another_filter_than_its_header_says_is_left_out(clean, tmp_path):
    folder = group_of(clean, tmp_path / "night", ("bias", "flat"))
    wrong = folder / "flat_B_002.fits"
    with fits.open(wrong, mode="update") as hdus:
        hdus[0].header["FILTER"] = "V"
    outcomes = reduce_night(folder, tmp_path / "out")
    notes = [note for item in outcomes.values() for note in item.notes if "left out" in note]
    assert [note.startswith(f"left out {wrong}: structure ") for note in notes] == [True]
    seen_in_the_report(tmp_path / "out", wrong.name)


def test_nothing_is_said_of_good_frames(clean, tmp_path):
    outcomes = reduce_night(clean, tmp_path / "out")
    assert [note for item in outcomes.values() for note in item.notes] == []
    tests = [test for item in outcomes.values() for test in item.tests]
    assert len(tests) > 30
    assert {test.verdict for test in tests} <= {"pass", "not judged"}


def test_a_lamp_that_drifts_loses_its_outermost_frames(clean, tmp_path):
    """It burns down by 8 % from flat to flat: the first and the last are far off the middle."""
    folder = group_of(clean, tmp_path / "night", ("bias", "flat_V"))
    for number in range(1, 7):
        faulty.dim(folder / f"flat_V_00{number}.fits", 1 - 0.08 * (number - 1))
    outcomes = reduce_night(folder, tmp_path / "out")
    notes = [note for item in outcomes.values() for note in item.notes if "left out" in note]
    assert [note.split(": ")[0][-8:-5] for note in notes] == ["001", "006"], notes
    assert all("drift 0." in note for note in notes)
    document = json.loads((tmp_path / "out" / "report" / "report.json").read_text())
    (master,) = [item for item in document["masters"] if item["left_out"]]
    assert all(row["unlike"] > 1 for row in master["left_out"])
    assert master["charts"]["Level of each frame"].endswith("; 2 left out.")


def test_light_that_wanders_from_flat_to_flat_is_no_fault_of_one(clean, tmp_path):
    """The slopes of the frames at both ends of a steady drift are those of the group.

    So it was with the flats of a spectrograph in a laboratory, of which two of ten were left out.
    """
    folder = group_of(clean, tmp_path / "night", ("bias", "flat_V"))
    for number in range(1, 7):
        faulty.tilt(folder / f"flat_V_00{number}.fits", 0.04 * (number - 3.5))
    outcomes = reduce_night(folder, tmp_path / "out")
    assert [note for item in outcomes.values() for note in item.notes if "left out" in note] == []
    faulty.tilt(folder / "flat_V_003.fits", 0.6)
    outcomes = reduce_night(folder, tmp_path / "out")
    notes = [note for item in outcomes.values() for note in item.notes if "left out" in note]
    assert len(notes) == 1
    assert f"left out {folder / 'flat_V_003.fits'}: gradient 0." in notes[0]


def test_a_fault_is_flagged_or_not_sought_as_the_configuration_says(clean, tmp_path):
    folder = group_of(clean, tmp_path / "night", ("bias",))
    faulty.light_leak(folder / "bias_003.fits")
    limit = "quality.frames.action"
    (flagged,) = reduce_night(folder, tmp_path / "flag", f"{limit}=flag").values()
    assert flagged.n_frames == 6
    status = {row.path[-8:-5]: row.status for row in tables.read_inputs(flagged.output)}
    assert status.pop("003").startswith("used, but level ")
    assert set(status.values()) == {"used"}
    (unseen,) = reduce_night(folder, tmp_path / "off", f"{limit}=off").values()
    assert {row.status for row in tables.read_inputs(unseen.output)} == {"used"}
    tolerant = [f"quality.frames.{name}=1000.0" for name in ("gradient", "structure", "banding")]
    more = [f"quality.frames.{name}=1000.0" for name in ("level", "columns", "noise")]
    (kept,) = reduce_night(folder, tmp_path / "kept", *tolerant, *more).values()
    assert kept.n_frames == 6
    assert kept.notes == ()


def test_limits_that_leave_frames_out_belong_to_what_a_product_is(clean, tmp_path):
    folder = group_of(clean, tmp_path / "night", ("bias",))
    for overrides, state in (
        ((), "made"),
        ((), "up to date"),
        (("quality.masters.noise=2.0",), "up to date"),
        (("quality.frames.noise=1.5",), "made"),
    ):
        (outcome,) = reduce_night(folder, tmp_path / "out", *overrides).values()
        assert outcome.state == state, overrides


def test_where_most_frames_are_at_fault_none_is_left_out(clean, tmp_path):
    """Nobody can say which ones are the good ones."""
    folder = group_of(clean, tmp_path / "night", ("bias",))
    for number in (1, 2, 3, 4):
        factor = 100 * number
        faulty.alter(folder / f"bias_00{number}.fits", lambda light, by=factor: light + by)
    (outcome,) = reduce_night(folder, tmp_path / "out").values()
    assert outcome.n_frames == 6
    statuses = [row.status for row in tables.read_inputs(outcome.output)]
    assert sum(status.startswith("used, but level") for status in statuses) > 3


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, 200, 25))
def test_clean_nights_raise_no_false_alarm(tmp_path, first):
    """Two hundred nights, three to seven frames of a kind, with and without an overscan.

    Some detectors have a noise of about one step, and a quarter of the nights does not tell it.
    """
    alarms = []
    for seed in range(first, first + 25):
        folder, rng = tmp_path / str(seed), random.Random(seed)
        made = simulate.simulate_night(folder, clean_spec(rng), workers=2)
        if rng.random() < 0.25:
            forget_noise(made.night)
        outcomes = reduce_night(made.night, folder / "out", "report=false")
        for item in outcomes.values():
            alarms += [f"{seed}: {note}" for note in item.notes if "left out" in note]
            tests = [test for test in item.tests if test.verdict == "fail"]
            alarms += [f"{seed} {item.name}: {test.words()}" for test in tests]
        shutil.rmtree(folder)
    assert alarms == []


def test_a_master_that_is_too_noisy_fails_and_says_by_how_much(clean, tmp_path):
    folder = group_of(clean, tmp_path / "night", ("bias",))
    (outcome,) = reduce_night(folder, tmp_path / "out", "detector.read_noise=4.0").values()
    (noise,) = [test for test in outcome.tests if test.name == "noise"]
    assert noise.verdict == "fail"
    assert noise.value == pytest.approx(1.5, rel=0.02)
    row = {row.name: row for row in tables.read_quality(outcome.output)}["test noise"]
    assert (row.verdict, row.limit, row.value) == ("fail", 1.1, noise.value)


@pytest.mark.parametrize("kind", ["bias", "flat"])
def test_a_hot_column_that_all_frames_have_is_worth_a_look(clean, tmp_path, kind):
    folder = group_of(clean, tmp_path / "night", (f"{kind}_",))
    for path in folder.iterdir():
        if kind == "bias":
            faulty.hot_column(path)
        elif "_V_" in path.name:
            faulty.dead_column(path)
        else:
            path.unlink()
    (outcome,) = reduce_night(folder, tmp_path / "out").values()
    (columns,) = [test for test in outcome.tests if test.name == "columns"]
    assert columns.verdict == "warn"
    assert "the worst is column 101 by" in columns.about


def test_a_noisy_bias_says_what_frames_and_header_have(clean, tmp_path):
    """Whether the header is wrong or the frames are bad is for the reader to see."""
    folder = group_of(clean, tmp_path / "night", ("bias",))
    (outcome,) = reduce_night(folder, tmp_path / "out", "detector.read_noise=4.0").values()
    (noise,) = [test for test in outcome.tests if test.name == "noise"]
    assert "gain and read noise give 2.67 adu a frame, frames have " in noise.about


# verify


@pytest.fixture
def reduced(tmp_path):
    """A tiny night that was reduced."""
    folder = night(tmp_path / "night")
    config, plan = make_plan(folder)
    reduce_plan(plan, config, tmp_path / "out")
    return folder, tmp_path / "out"


def verify(capsys, monkeypatch, out, *options):
    code, text, _ = call(capsys, monkeypatch, "verify", out, "--json", *options)
    return code, json.loads(text)


def test_verify_finds_nothing_wrong_with_what_was_just_made(reduced, capsys, monkeypatch):
    _, out = reduced
    code, document = verify(capsys, monkeypatch, out)
    assert (code, document["exit_code"]) == (0, 0)
    assert [item["problems"] for item in document["products"]] == [[]] * 3
    kinds = [item["kind"] for item in document["products"]]
    assert sorted(kinds) == ["bias", "flat", "science"]
    assert document["products"][1]["inputs"] == {"as recorded": 5}


def test_verify_fails_on_one_altered_byte_of_a_product(reduced, capsys, monkeypatch):
    _, out = reduced
    path = next(out.rglob("master_bias*.fits"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    code, document = verify(capsys, monkeypatch, out)
    assert code == 1
    failed = {item["name"]: item["problems"] for item in document["products"] if item["problems"]}
    assert list(failed) == [path.relative_to(out).as_posix()]
    assert "altered" in str(failed)


def test_verify_tells_a_changed_input_from_a_touched_and_a_missing_one(
    reduced, capsys, monkeypatch
):
    folder, out = reduced
    with fits.open(folder / "bias_1.fits", mode="update") as hdus:
        hdus[0].data[0, 0] += 1
    (folder / "bias_2.fits").touch()
    (folder / "bias_3.fits").unlink()
    code, document = verify(capsys, monkeypatch, out)
    (bias,) = [item for item in document["products"] if item["kind"] == "bias"]
    assert code == 1
    assert bias["problems"] == [f"input {folder / 'bias_1.fits'} has changed since"]
    assert bias["remarks"] == [f"input {folder / 'bias_3.fits'} is not there any more"]
    assert bias["inputs"] == {
        "as recorded": 2,
        "CHANGED": 1,
        "touched, same pixels": 1,
        "not there": 1,
    }
    (folder / "bias_1.fits").unlink()
    code, _ = verify(capsys, monkeypatch, out)
    assert code == 0  # raw frames may be archived elsewhere


def test_verify_reads_inputs_whole_where_it_is_told_to(reduced, capsys, monkeypatch):
    """A file that was changed and given its old time again is found by its pixels alone."""
    import os

    folder, out = reduced
    path = folder / "flat_2.fits"
    about = path.stat()
    data = bytearray(path.read_bytes())
    data[2880 + 100] ^= 1
    path.write_bytes(bytes(data))
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))
    assert verify(capsys, monkeypatch, out)[0] == 0
    assert verify(capsys, monkeypatch, out, "--inputs")[0] == 1


def test_verify_fails_where_a_product_could_not_be_made(tmp_path, capsys, monkeypatch):
    folder = night(tmp_path / "night", bias=3, flat=0, science=0)
    for index in range(3):
        path = folder / f"bias_{index}.fits"
        path.write_bytes(path.read_bytes()[:4000])
    night(folder, bias=0, flat=3, science=1)
    config, plan = make_plan(folder, "recipes.science.require=[bias]")
    reduce_plan(plan, config, tmp_path / "out")
    code, document = verify(capsys, monkeypatch, tmp_path / "out")
    assert code == 1
    blocked = [item for item in document["products"] if item["problems"]]
    assert [item["problems"][0].startswith("blocked: ") for item in blocked] == [True]


def test_verify_of_no_folder_says_what_to_give(tmp_path, capsys, monkeypatch):
    code, _, err = call(capsys, monkeypatch, "verify", tmp_path / "none")
    assert code == 2
    assert "give the one that a run wrote to" in err
    (tmp_path / "empty").mkdir()
    code, _, err = call(capsys, monkeypatch, "verify", tmp_path / "empty")
    assert code == 2
    assert "holds no product" in err
    raw = night(tmp_path / "raw", bias=2, flat=0, science=0)
    code, _, err = call(capsys, monkeypatch, "verify", raw)
    assert code == 2
    assert "holds FITS files, but none that masterframe made" in err


def test_a_master_is_compared_with_that_of_the_night_before(clean, tmp_path, capsys, monkeypatch):
    for name, days in (("night1", "20"), ("night2", "21")):
        folder = group_of(clean, tmp_path / name, ("bias",))
        for path in folder.iterdir():
            if days == "21":
                faulty.alter(path, _shift_left)
            with fits.open(path, mode="update") as hdus:
                date = hdus[0].header["DATE-OBS"]
                hdus[0].header["DATE-OBS"] = date.replace("06-20", f"06-{days}")
        reduce_night(folder, tmp_path / "out", "quality.frames.action=off")
    code, document = verify(capsys, monkeypatch, tmp_path / "out")
    tests = {
        item["name"].split("/")[0]: [t for t in item["tests"] if t["name"] == "previous"]
        for item in document["products"]
    }
    assert tests["night1"] == []
    (compared,) = tests["night2"]
    assert (code, compared["verdict"]) == (1, "fail")
    assert "off night1/master_bias" in compared["about"]


def _shift_left(light):
    """Give a third of the columns another level, as a changed read-out does."""
    light[:, : light.shape[1] // 3] += 40
    return light


# the detector


@pytest.mark.parametrize(("gain", "read_noise", "overscan"), [(1.5, 6.0, 32), (0.8, 11.0, 16)])
def test_gain_and_read_noise_come_out_within_two_per_cent(tmp_path, gain, read_noise, overscan):
    camera = simulate.Camera(
        shape=(256, 272), overscan=overscan, gain=gain, read_noise=read_noise, full_well=6e4
    )
    spec = simulate.NightSpec(
        camera, bias=4, darks={60.0: 4, 240.0: 3}, flats={"V": 4}, science={}, stars=0, seed=9
    )
    made = simulate.simulate_night(tmp_path, spec, workers=2)
    reduce_night(made.night, tmp_path / "out")
    masters = archive.known_masters(tmp_path / "out")
    (found,) = detector.measure_detectors(masters)
    assert found.gain == pytest.approx(gain, rel=0.02)
    assert found.read_noise == pytest.approx(read_noise, rel=0.02)
    assert found.read_noise_overscan == pytest.approx(read_noise, rel=0.02)
    usual = camera.dark_current * math.exp(camera.dark_spread**2 / 2)
    assert found.dark_current == pytest.approx(usual, rel=0.25)
    assert found.hot == pytest.approx(camera.hot_fraction * 256 * 272, rel=0.1)
    assert found.notes == ()


def test_every_amplifier_has_its_own_gain_and_read_noise(tmp_path):
    camera = simulate.Camera((256, 272), 24, amplifiers=2, amplifier_spread=0.3, full_well=6e4)
    spec = simulate.NightSpec(
        camera, bias=8, darks={}, flats={"V": 8}, science={}, trails=False, seed=8
    )
    made = simulate.simulate_night(tmp_path, spec, workers=2)
    reduce_night(made.night, tmp_path / "out")
    (found,) = detector.measure_detectors(archive.known_masters(tmp_path / "out"))
    (name,) = made.extensions
    truth = made.extension(name).amplifiers
    assert [own.section for own in found.amplifiers] == ["[1:136,1:256]", "[137:272,1:256]"]
    assert abs(truth[0].gain / truth[1].gain - 1) > 0.1
    for own, true in zip(found.amplifiers, truth, strict=True):
        assert own.gain == pytest.approx(true.gain, rel=0.02)
        assert own.read_noise == pytest.approx(true.read_noise, rel=0.02)
        assert (own.gain_given, own.read_noise_given) == (true.gain, true.read_noise)
    assert found.notes == ()
    rows = {row.name: row for row in tables.read_quality(next((tmp_path / "out").rglob("*bias*")))}
    assert rows["ampnoise2"].description == "noise of a pixel of one frame, amplifier 2 (adu)"
    report = (tmp_path / "out" / "report" / "index.html").read_text()
    assert "amplifier 2, [137:272,1:256]" in report


def test_runs_of_pixels_that_lie_in_a_section_are_told():
    """They are those of the sampled rows whose eight pixels all lie in it."""
    runs = np.arange(RUN * 12).reshape(RUN, 12)
    sketch = SimpleNamespace(runs=runs, rows=np.zeros(3), row_step=5, width=40)
    starts = [0, 8, 16, 24]
    for section in (Section(0, 15, 0, 40), Section(0, 5, 8, 24), Section(5, 11, 9, 40)):
        expected = [
            section.y0 <= y < section.y1 and section.x0 <= x and x + RUN <= section.x1
            for y in (0, 5, 10)
            for x in starts
        ]
        assert runs_within(sketch, section).tolist() == expected


REAL = {
    # header: 1.1 e-/adu, 7.8 e-; PESSTO measured 1.17 to 1.18 and 10.9 to 12.9
    "efosc2": ((), (1.15, 1.21), (11.0, 13.5)),
    # header: E-GAIN 0.46; data sheet: 15 e-
    "st7": (('recipes.flat.select=[{file: "slitview*"}]',), (0.42, 0.50), (14.0, 18.0)),
    # header: EGAIN 1.49; no bias was taken
    "st402": (("exclude=[published/, lab0_3x3/]",), (1.40, 1.56), None),
}


@pytest.mark.parametrize("name", REAL)
def test_numbers_of_real_detectors_are_plausible(tmp_path, name):
    overrides, gain, read_noise = REAL[name]
    reduce_night(shared(f"data/{name}"), tmp_path / "out", "report=false", *overrides)
    found = detector.measure_detectors(archive.known_masters(tmp_path / "out"))
    measured = [item for item in found if item.gain is not None]
    assert measured
    for item in measured:
        assert gain[0] < item.gain < gain[1]
        if read_noise:
            assert read_noise[0] < item.read_noise < read_noise[1]
            if item.read_noise_overscan:
                assert item.read_noise == pytest.approx(item.read_noise_overscan, rel=0.03)


def test_a_lamp_that_wanders_and_electronics_that_ring_leave_the_gain_as_it_is():
    """Frames differ by three times their noise; neighbours are correlated by -0.2."""
    rng = np.random.default_rng(6)
    shape, frames, gain, read = (RUN, 4000), 4, 1.6, 5.0
    place = np.arange(RUN * 4000).reshape(4000, RUN).T / (RUN * 4000)
    sketches = []
    for index in range(frames):
        light = 8000 * (1 + 0.2 * np.sin(9 * place + index)) * rng.normal(1, 0.02)
        white = rng.normal(size=(RUN + 1, 4000))
        ringing = (white[1:] - 0.25 * white[:-1]) / math.hypot(1, 0.25)
        values = light + np.hypot(np.sqrt(light / gain), read) * ringing
        sketches.append(SimpleNamespace(runs=values.astype(np.float32), level=np.median(values)))
    assert sketches[0].runs.shape == shape
    for noise, signal in Transfer(sketches, light=True).noises():
        assert signal / (noise**2 - read**2) == pytest.approx(gain, rel=0.08)


def test_pixel_noise_is_not_told_by_too_few_values():
    values = np.random.default_rng(7).normal(100, 3, (RUN, 500)).astype(np.float32)
    one = SimpleNamespace(runs=values, level=100.0)
    few = SimpleNamespace(runs=values[:, :20], level=100.0)
    dark = SimpleNamespace(runs=values, level=-1.0)
    assert Transfer([one], light=False).noises() == ()
    assert Transfer([few, few], light=False).noises() == ()
    assert Transfer([one, dark], light=True).noises() == ()
    spoilt = SimpleNamespace(runs=np.where(values > 100, np.nan, values), level=100.0)
    assert Transfer([one, spoilt], light=False).noises() == ()


@given(st.lists(st.floats(0.01, 100), min_size=3, max_size=12))
def test_variances_about_the_mean_give_those_about_the_truth(variances):
    n, total = len(variances), sum(variances)
    about_mean = [(1 - 2 / n) * own + total / n**2 for own in variances]
    assert alone(about_mean) == pytest.approx(variances, rel=1e-9)


# the arithmetic


def test_quantiles_of_students_distribution():
    """Those of tables (Abramowitz and Stegun, table 26.10), both sides together."""
    table = {(1, 0.05): 12.706, (2, 0.01): 9.925, (3, 0.001): 12.924, (10, 0.05): 2.228}
    table |= {(5, 0.001): 6.869, (30, 0.01): 2.750, (120, 0.001): 3.373}
    for (dof, chance), expected in table.items():
        assert student_quantile(chance, dof) == pytest.approx(expected, rel=3e-4)


def test_verdicts():
    assert check("x", 1.0, 2.0).verdict == "pass"
    assert check("x", 1.7, 2.0).verdict == "warn"
    assert check("x", 2.1, 2.0).verdict == "fail"
    assert check("x", math.nan, 2.0).verdict == "not judged"
    assert worst(["pass", "not judged", "warn"]) == "warn"
    assert worst([]) == "not judged"


def test_medians_of_lines_are_those_of_numpy():
    rng = np.random.default_rng(3)
    values = rng.normal(size=(9, 8)).astype(np.float32)
    values[rng.random(values.shape) < 0.3] = np.nan
    values[2] = np.nan
    expected = [
        np.nan if not np.isfinite(row).any() else np.median(row[np.isfinite(row)])
        for row in values.astype(np.float64)
    ]
    np.testing.assert_allclose(line_medians(values, axis=1), expected)


@pytest.mark.parametrize("read_noise", [0.4, 0.8, 1.0, 5.0])
@pytest.mark.parametrize("frames", [3, 5, 7])
def test_masters_of_coarse_numbers_are_judged_like_others(tmp_path, frames, read_noise):
    """Medians of whole numbers are whole, and variances of three of them take few values.

    Both gave false alarms with cameras whose noise is about a step.
    """
    camera = replace(CAMERA, overscan=16, gain=1.0, read_noise=read_noise, row_drift=0.3)
    spec = simulate.NightSpec(camera, bias=frames, darks={}, flats={}, science={}, seed=frames)
    made = simulate.simulate_night(tmp_path, spec, workers=2)
    (outcome,) = reduce_night(made.night, tmp_path / "out", "report=false").values()
    tests = {test.name: test for test in outcome.tests}
    assert outcome.n_frames == frames
    assert tests["noise"].value == pytest.approx(1, abs=0.06)
    assert tests["rows"].value == tests["columns"].value == 0


def test_the_line_that_stands_out_is_found_also_at_the_edge_of_a_slope():
    rng = np.random.default_rng(4)
    profile = np.linspace(0, 500, 300) + rng.normal(size=300)
    assert outstanding(profile)[0] < 6
    for place in (0, 17, 299):
        spoilt = profile.copy()
        spoilt[place] += 30
        sigmas, worst_line, fraction = outstanding(spoilt)
        assert worst_line == place
        assert sigmas > 12
        assert fraction == 1 / 300


def test_a_line_that_is_one_step_off_stands_out_only_where_steps_are_fine():
    profile = np.zeros(300)
    profile[::9] = 1 / 3
    assert outstanding(profile, quantum=1 / 3)[2] == 0
    profile[50] = 8
    sigmas, place, fraction = outstanding(profile, quantum=1 / 3)
    assert (place, fraction) == (50, 1 / 300)
    assert sigmas == pytest.approx(8 * math.sqrt(12) * 3)
    assert math.isnan(outstanding(np.zeros(300))[0])


@pytest.mark.parametrize("frames", [2, 3, 5, 20])
def test_noise_of_few_frames_is_not_too_small(frames):
    rng = np.random.default_rng(frames)
    stack = rng.normal(0, 3, (frames, 40_000))
    uncert = stack.std(axis=0, ddof=1) / math.sqrt(frames)
    found = unshared_noise(np.hypot(uncert, 2.0), np.array(4.0), np.full(40_000, frames))
    assert found == pytest.approx(3 / math.sqrt(frames), rel=0.04 if frames == 2 else 0.015)


def test_masters_are_compared_pixel_by_pixel():
    rng = np.random.default_rng(8)
    truth, sigma = rng.normal(100, 5, 50_000), np.full(50_000, 1.0)
    a, b = truth + rng.normal(0, 0.7, 50_000), truth + 2 + rng.normal(0, 0.7, 50_000)
    a[:500] += 20
    b[500] = np.nan
    shift, scatter, changed = compare(a, b, sigma, ratio=False)
    assert shift == pytest.approx(-2, abs=0.03)
    assert scatter == pytest.approx(0.99, abs=0.03)
    assert changed == pytest.approx(0.01, rel=0.01)
    shift, _, changed = compare(1.01 * truth, truth, sigma, ratio=True)
    assert (shift, changed) == (pytest.approx(0.01), 0)


def test_limits_are_read_and_checked():
    config = load_config(None, ["quality.masters.noise=1.3", "quality.frames.action=flag"])
    assert config.quality.masters.noise == 1.3
    assert config.quality.frames.action == "flag"
