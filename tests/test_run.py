"""Walking a plan: dependencies, few frames, unfit flats, bad pixels, and what is told."""

import json
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

import nights
from masterframe import journal, run, runlog, simulate
from masterframe.errors import ConfigError
from masterframe.fits import tables
from masterframe.model import MaskBit
from nights import SHAPE, call, files_in, make_plan, raw, reduce_night, reduce_plan, states

BIAS, DARK, FLAT = "master_bias_bin1x1", "master_dark_30s_bin1x1", "master_flat_V_bin1x1"


class Notes:
    """A reporter that remembers."""

    def __init__(self):
        self.notes, self.begun, self.bytes = [], [], 0

    def begin(self, name, total_bytes, steps):
        self.begun.append((name, total_bytes))

    def advance(self, done_bytes):
        self.bytes += done_bytes

    def note(self, text):
        self.notes.append(text)


def status(path):
    """Return the status of each input of a product by its name."""
    return {row.path.rpartition("/")[2]: row.status for row in tables.read_inputs(path)}


# --- dependencies ---------------------------------------------------------------------------------


def test_a_failed_master_blocks_what_takes_it_and_nothing_else(tmp_path):
    night = nights.night(tmp_path / "night", bias=3, flat=3, science=1)
    for seed in range(3):  # a second camera, which needs nothing of the first
        raw(night / f"other_{seed}.fits", "bias", 50 + seed, INSTRUME="OtherCam", shape=(20, 30))
    config, plan = make_plan(night)
    (night / "bias_1.fits").write_bytes(b"")
    reporter = Notes()
    outcomes = reduce_plan(plan, config, tmp_path / "out", reporter=reporter)
    by_state = {item.state: [] for item in outcomes.values()}
    for name, item in outcomes.items():
        by_state[item.state].append(name)
    assert {state: len(names) for state, names in by_state.items()} == {
        "failed": 1,
        "made": 1,
        "blocked": 2,
    }
    (failed,) = by_state["failed"]
    assert "bias_1.fits: changed during the run: 0 bytes" in outcomes[failed].reason
    assert outcomes[FLAT].reason == f"needs night/{failed}"
    assert outcomes["science_0"].reason == f"needs night/{failed}, night/{FLAT}"
    assert sum("bias_1.fits" in note for note in reporter.notes) == 1
    assert files_in(tmp_path / "out") == [f"night/{by_state['made'][0]}.fits"]


def test_what_failed_once_is_made_once_it_can_be(tmp_path):
    night = nights.night(tmp_path / "night", bias=3, flat=3, science=1)
    out = tmp_path / "out"
    config, plan = make_plan(night)
    content = (night / "flat_1.fits").read_bytes()
    (night / "flat_1.fits").unlink()
    first = reduce_plan(plan, config, out)
    assert states(first) == {BIAS: "made", FLAT: "failed", "science_0": "blocked"}
    (night / "flat_1.fits").write_bytes(content)
    assert states(reduce_night(night, out)) == {
        BIAS: "up to date",
        FLAT: "made",
        "science_0": "made",
    }


def test_a_step_that_is_required_and_missing_blocks(tmp_path):
    night = nights.night(tmp_path / "night", bias=3, flat=0, science=1)
    outcomes = reduce_night(night, tmp_path / "out", "recipes.science.require=[flat]")
    assert states(outcomes) == {BIAS: "made", "science_0": "blocked"}
    assert outcomes["science_0"].reason == "recipe 'science' requires flat"


def test_a_science_frame_with_nothing_to_calibrate_it_is_blocked(tmp_path, capsys, monkeypatch):
    night = nights.night(tmp_path / "night", bias=0, flat=0, science=1)
    code, out, _ = call(capsys, monkeypatch, "run", night, "-o", tmp_path / "out")
    assert code == 1
    assert "there is nothing to calibrate it with" in out
    assert not files_in(tmp_path / "out")


@pytest.mark.parametrize(("state", "code"), [("made", 0), ("failed", 1), ("blocked", 1)])
def test_the_exit_code_tells_whether_all_is_there(state, code):
    outcome = run.Outcome("a", "bias", state, "a.fits", 3)
    made = run.Outcome("b", "bias", "up to date", "b.fits", 3)
    assert run.Report((made, outcome), 1.0).exit_code == code
    assert run.Report((), 1.0).exit_code == 1


# --- few frames -----------------------------------------------------------------------------------


def struck(night, kind, count, **cards):
    """Write frames of which the first has one pixel hit by a cosmic ray."""
    for seed in range(count):
        path = raw(night / f"{kind}_{seed}.fits", kind, seed, **cards)
        if seed == 0:
            with fits.open(path, mode="update") as hdus:
                hdus[0].data[4, 5] = 30000
    return sorted(night.glob("*.fits"))


@pytest.mark.parametrize("count", [1, 2])
def test_fewer_frames_than_wanted_are_combined_without_rejection_and_marked(count, tmp_path):
    files = struck(tmp_path / "night", "bias", count, GAIN=1.5, RDNOISE=6.0)
    detector = ("detector.gain=1.5", "detector.read_noise=6.0")
    outcomes = reduce_night(tmp_path / "night", tmp_path / "out", *detector)
    words = f"{count} of at least 3 frames: combined without rejection, marked"
    assert outcomes[BIAS].state == "made"
    assert any(words in note for note in outcomes[BIAS].notes)
    with fits.open(outcomes[BIAS].output) as hdus:
        mean = np.mean([fits.getdata(path).astype(float) for path in files], 0)
        assert np.allclose(hdus[0].data, mean, rtol=1e-6)
        assert (hdus["COUNT"].data == count).all()
        assert hdus[0].header["NCOMBINE"] == count
        assert words in " ".join(hdus[0].header["HISTORY"])
        assert not (hdus["MASK"].data & MaskBit.NO_VALUE).any()


@pytest.mark.parametrize(("count", "known"), [(3, False), (4, False), (4, True), (5, False)])
def test_fewer_than_five_frames_of_unknown_noise_reject_nothing_and_say_so(count, known, tmp_path):
    files = struck(tmp_path / "night", "bias", count)
    detector = ("detector.gain=1.5", "detector.read_noise=6.0") if known else ()
    outcomes = reduce_night(tmp_path / "night", tmp_path / "out", *detector)
    words = f"{count} frames of unknown noise: combined without rejection"
    trusted = known or count >= 5
    assert any(words in note for note in outcomes[BIAS].notes) != trusted
    with fits.open(outcomes[BIAS].output) as hdus:
        assert hdus["COUNT"].data[4, 5] == count - trusted
        assert (words in " ".join(hdus[0].header.get("HISTORY", []))) != trusted
        if not trusted:
            mean = np.mean([fits.getdata(path).astype(float) for path in files], 0)
            assert np.allclose(hdus[0].data, mean, rtol=1e-6)


def test_min_frames_can_be_set(tmp_path):
    night = nights.night(tmp_path / "night", bias=6, flat=0, science=0)
    outcomes = reduce_night(night, tmp_path / "out", "recipes.bias.min_frames=7")
    assert any("6 of at least 7 frames" in note for note in outcomes[BIAS].notes)


# --- flats ----------------------------------------------------------------------------------------


def test_flats_without_light_or_all_saturated_are_left_out_with_the_reason(tmp_path):
    night = nights.night(tmp_path / "night", bias=5, flat=5, science=0)
    raw(night / "dim.fits", "flat", 20, level=120)
    raw(night / "full.fits", "flat", 21, level=65527)
    with fits.open(night / "full.fits", mode="update") as hdus:
        hdus[0].data[...] = 65535
    outcomes = reduce_night(night, tmp_path / "out")
    assert (outcomes[FLAT].state, outcomes[FLAT].n_frames) == ("made", 5)
    found = status(outcomes[FLAT].output)
    assert {name for name, words in found.items() if words == "used"} == {
        f"flat_{index}.fits" for index in range(5)
    }
    assert found["dim.fits"].endswith("the others have about 8900")
    assert found["full.fits"] == "fewer than half of its pixels are unsaturated and good"
    for name in ("dim.fits", "full.fits"):
        assert any(f"{night / name}: {found[name]}" in note for note in outcomes[FLAT].notes)
    rows = {row.path: row for row in tables.read_inputs(outcomes[FLAT].output)}
    assert all(row.datasum is not None for row in rows.values())
    assert rows[str(night / "dim.fits")].kept == 0
    assert states(reduce_night(night, tmp_path / "out"))[FLAT] == "up to date"


def test_flats_that_all_lack_light_fail_with_the_reason(tmp_path):
    night = nights.night(tmp_path / "night", bias=5, flat=0, science=0)
    for seed in range(3):
        path = raw(night / f"flat_{seed}.fits", "flat", seed)
        with fits.open(path, mode="update") as hdus:
            hdus[0].data[...] = 65535
    outcomes = reduce_night(night, tmp_path / "out")
    assert states(outcomes) == {BIAS: "made", FLAT: "failed"}
    assert "no frame of night/master_flat_V_bin1x1 has light" in outcomes[FLAT].reason


def test_flats_left_out_count_towards_the_least_number(tmp_path):
    night = nights.night(tmp_path / "night", bias=5, flat=2, science=0)
    raw(night / "dim.fits", "flat", 20, level=101)
    outcomes = reduce_night(night, tmp_path / "out")
    assert outcomes[FLAT].n_frames == 2
    assert any("2 of at least 3 frames" in note for note in outcomes[FLAT].notes)


# --- bad pixels -----------------------------------------------------------------------------------


def test_bad_pixels_are_left_out_of_all_products_and_marked(tmp_path):
    night = nights.night(tmp_path / "night", bias=5, flat=5, science=1)
    bad = np.zeros(SHAPE, np.uint8)
    bad[2, 3] = bad[10, 11] = 1
    fits.PrimaryHDU(bad).writeto(tmp_path / "bad.fits")
    option = f"bad_pixels={tmp_path / 'bad.fits'}"
    outcomes = reduce_night(night, tmp_path / "out", option)
    assert set(states(outcomes).values()) == {"made"}
    for outcome in outcomes.values():
        with fits.open(outcome.output) as hdus:
            marked = (hdus["MASK"].data & MaskBit.BAD) > 0
            assert np.array_equal(marked, bad > 0)
            if outcome.kind != "science":
                assert np.isnan(hdus[0].data[2, 3])
    # Another bad-pixel file makes everything anew, the same one nothing.
    assert set(states(reduce_night(night, tmp_path / "out", option)).values()) == {"up to date"}
    bad[5, 6] = 1
    fits.PrimaryHDU(bad).writeto(tmp_path / "bad.fits", overwrite=True)
    assert set(states(reduce_night(night, tmp_path / "out", option)).values()) == {"made"}


def test_a_bad_pixel_file_that_is_none_ends_the_run_at_once(tmp_path):
    night = nights.night(tmp_path / "night", bias=3, flat=0, science=0)
    for name, words in {"none.fits": "no such file", "night": "not a regular file"}.items():
        with pytest.raises(ConfigError, match=words):
            reduce_night(night, tmp_path / "out", f"bad_pixels={tmp_path / name}")
    assert not (tmp_path / "out").exists()


def test_a_bad_pixel_file_of_another_shape_fails_what_it_does_not_fit(tmp_path):
    night = nights.night(tmp_path / "night", bias=3, flat=0, science=0)
    for seed in range(3):
        raw(night / f"small_{seed}.fits", "bias", 30 + seed, shape=(20, 30))
    fits.PrimaryHDU(np.zeros(SHAPE, np.uint8)).writeto(tmp_path / "bad.fits")
    outcomes = reduce_night(night, tmp_path / "out", f"bad_pixels={tmp_path / 'bad.fits'}")
    assert sorted(states(outcomes).values()) == ["failed", "made"]
    (failed,) = (item for item in outcomes.values() if item.state == "failed")
    assert "bad.fits" in failed.reason
    assert "20 x 30" in failed.reason


# --- what is told ---------------------------------------------------------------------------------


def test_progress_adds_up_and_the_log_tells_of_every_product(tmp_path):
    night = nights.night(tmp_path / "night", bias=3, flat=3, science=2)
    reporter = Notes()
    outcomes = reduce_night(night, tmp_path / "out", reporter=reporter)
    assert reporter.bytes == sum(total for _, total in reporter.begun)
    log = (tmp_path / "out" / journal.STATE_FOLDER / runlog.LOG_NAME).read_text()
    assert all(f"{outcome.name}: made" in log for outcome in outcomes.values())


# --- a whole simulated night ----------------------------------------------------------------------


@pytest.mark.slow
def test_a_simulated_night_with_every_defect_is_reduced_around_them(tmp_path, capsys, monkeypatch):
    camera = simulate.Camera(shape=(60, 84), overscan=8, dust=2)
    spec = simulate.NightSpec(
        camera,
        bias=7,
        darks={30.0: 5},
        flats={"V": 6},
        science={"V": 2},
        exptime=30.0,
        stars=5,
        defects=tuple(simulate.DEFECTS),
    )
    truth = simulate.simulate_night(tmp_path, spec)
    code, out, err = call(capsys, monkeypatch, "run", tmp_path / "night", "-o", tmp_path / "out")
    assert code == 0, err
    named = {"truncated", "shutter_closed", "saturated", "no_imagetyp", "not_fits", "duplicate"}
    named.add("light_leak")
    for shot in truth.shots:
        lines = [line for line in out.splitlines() if f"/{shot.name}: " in line]
        assert bool(lines) == (shot.defect in named), shot
    files = files_in(tmp_path / "out")
    assert sum("master_flat_V" in name for name in files) == 1
    assert sum("master_bias" in name for name in files) == 2  # one of the wrong shape
    assert sum("calibrated" in name for name in files) == 2


def test_a_run_ends_with_1_for_a_master_that_is_not_good_where_that_is_asked(
    tmp_path, capsys, monkeypatch
):
    """Made or up to date: what is there is what counts."""
    folder, out = nights.night(tmp_path / "night", bias=5, flat=0, science=0), tmp_path / "out"
    noisy = ("--set", "detector.read_noise=0.1", "--set", "detector.gain=1.0")
    asked = ("--set", "quality.masters.action=fail")
    code, text, _ = call(capsys, monkeypatch, "run", folder, "-o", out, *noisy)
    assert code == 0
    assert "1 master fails a test: verify ends with 1" in text
    for state in ("up to date", "made"):
        code, text, _ = call(
            capsys,
            monkeypatch,
            "run",
            folder,
            "-o",
            out,
            "--json",
            *noisy,
            *asked,
            *(["--force"] if state == "made" else []),
        )
        document = json.loads(text)
        assert (code, document["exit_code"]) == (1, 1)
        (product,) = document["products"]
        assert product["state"] == state
        assert "fail" in {test["verdict"] for test in product["tests"]}
    assert Path(product["output"]).is_file()
    code, text, _ = call(capsys, monkeypatch, "run", folder, "-o", out, *noisy, *asked)
    assert code == 1
    assert "1 master fails a test: the exit code is 1" in text
    assert call(capsys, monkeypatch, "verify", out)[0] == 1
