"""Tables for people and documents for machines."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

import nights
from masterframe import inventory, listing
from masterframe.config import load_config
from masterframe.forecast import Forecast
from masterframe.model import Plan, Problem
from masterframe.run import Outcome, Report
from tiny import exposure


def outcome(name, kind="science", **fields):
    given = {"state": "made", "output": f"/out/{name}.fits", "n_frames": 1, **fields}
    return Outcome(name=name, kind=kind, **given)


def test_notes_that_many_share_are_said_once():
    dark = ("no dark: none was taken",)
    outcomes = [
        outcome("master_bias", "bias"),
        outcome("master_flat_V", "flat", notes=(*dark, "left out x.fits: no light")),
        *(outcome(f"ngc_{i}", notes=dark) for i in range(3)),
    ]
    assert listing.merged_notes(outcomes) == [
        "1 master flat and 3 science frames: no dark: none was taken",
        "master_flat_V: left out x.fits: no light",
    ]
    biases = [outcome(name, "bias", notes=("marked",)) for name in "ab"]
    assert listing.merged_notes(biases) == ["2 master biases: marked"]


def test_files_left_out_for_one_reason_are_counted_where_they_are_many():
    few = [Problem(f"/n/arc_{i}.fits", "arc") for i in range(2)]
    many = [Problem(f"/n/s_{i}.fits", "spectrum") for i in range(listing.ONE_BY_ONE + 1)]
    assert listing.merged_reasons([*few, *many]) == [
        "/n/arc_0.fits: arc",
        "/n/arc_1.fits: arc",
        "6 files, /n/s_0.fits the first: spectrum",
    ]


def test_the_closing_table_has_numbers_states_and_reasons():
    numbers = {"median": 1.23456789, "noise": math.nan, "rejlow": 0.001, "rejhigh": 0.002}
    report = Report(
        (
            outcome("n/master_bias", "bias", n_frames=7, numbers=numbers, seconds=1.25),
            outcome("n/ngc\x1b", state="blocked", reason="needs a flat"),
        ),
        2.0,
    )
    plan = Plan((), left_out=(Problem("/n/a\n.fits", "arc"),), problems=(Problem("/n/b", "empty"),))
    text = listing.run_text(plan, report)
    first, second = text.splitlines()[1:3]
    assert first.split() == ["n/master_bias", "made", "7", "1.23457", "0.300", "%", "1.2"]
    assert second.startswith("n/ngc?")
    assert second.endswith("needs a flat")
    assert "/n/a?.fits: arc" in text
    assert text.splitlines()[-2:] == ["", "1 made, 1 blocked in 2.0 s"]
    shown = listing.run_text(plan, replace(report, page="/out/report/index.html"))
    assert shown.splitlines()[-2] == "report: /out/report/index.html"
    document = listing.run_document(plan, report)
    assert document["exit_code"] == 1
    assert document["products"][0]["numbers"]["noise"] is None
    json.dumps(document, allow_nan=False)


@pytest.mark.parametrize(
    ("plan", "told"),
    [
        (Plan(()), "no FITS file is there"),
        (Plan((), problems=(Problem("/n/b", "empty"),)), "no file can be used"),
        (Plan((), left_out=(Problem("/n/a", "arc"),)), "1 exposure, all left out"),
    ],
)
def test_where_nothing_is_made_it_is_said_why_and_there_is_no_empty_table(plan, told):
    for text in (listing.run_text(plan, Report((), 0.0)), listing.plan_text(plan, {})):
        assert text.splitlines()[-1] == f"nothing to make: {told}"
        assert "product" not in text


def test_a_scan_of_nothing_has_no_table():
    problem = Problem("/n/nihgt", "no such file or folder")
    lines = listing.scan_text((), (problem,)).splitlines()
    assert lines == ["no exposures", "", "1 problem:", "  /n/nihgt: no such file or folder"]


def test_files_below_this_folder_are_named_from_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    paths = [f"{tmp_path}/night/a.fits", f"{tmp_path}x/b.fits"]
    plan = Plan((), left_out=tuple(Problem(path, "arc") for path in paths))
    for text in (listing.run_text(plan, Report((), 0.0)), listing.plan_text(plan, {})):
        assert "\n  night/a.fits: arc\n" in text
        assert f"\n  {tmp_path}x/b.fits: arc\n" in text


@pytest.fixture
def night(tmp_path):
    folder = nights.night(tmp_path / "night", bias=3, flat=2, science=1)
    nights.raw(folder / "odd.fits", seed=50, IMAGETYP=None, EXPTIME=7.0)
    (folder / "empty.fits").touch()
    return folder


def test_a_scan_has_a_row_a_frame_and_counts(night):
    scanned = inventory.scan_night([night], load_config(None))
    lines = listing.scan_text(*scanned).splitlines()
    assert sum("IMAGETYP = " in line for line in lines) == 6
    assert "7 exposures: 3 bias, 2 flat, 1 unknown, 1 science" in lines
    assert "2 problems:" in lines
    document = listing.scan_document(*scanned)
    assert len(document["frames"]) == 7
    assert len(document["problems"]) == 2
    assert document["frames"][0]["shape"] == list(nights.SHAPE)
    json.dumps(document, allow_nan=False)


def test_a_plan_says_what_each_product_takes_and_costs(night):
    _, plan = nights.make_plan(night)
    forecast = {
        item.name: Forecast(
            *(index == 0, "because", 1000 * index, index, 5000 * index), reading="as it comes"
        )
        for index, item in enumerate(plan.products)
    }
    text = listing.plan_text(plan, forecast)
    lines = text.splitlines()
    assert lines[0] == "night/master_bias_bin1x1: up to date, because"
    assert "    bias_2.fits: IMAGETYP = 'Bias Frame'" in lines
    assert "  bias: night/master_bias_bin1x1 (same set-up)" in lines
    assert "  as it comes" in lines
    assert lines[-1] == "2 of 3 products to make: 3 kB to read, 10 kB peak"
    assert "  all else as above" not in lines
    document = listing.plan_document(plan, forecast)
    assert [item["forecast"]["bands"] for item in document["products"]] == [0, 1, 2]
    json.dumps(document, allow_nan=False)


def test_what_was_said_of_the_product_before_is_not_said_again(night):
    _, plan = nights.make_plan(night)
    *_, science = plan.products
    twin = replace(science, name="night/calibrated/twin")
    costs = dict.fromkeys([item.name for item in (*plan.products, twin)], Forecast(False, "new"))
    text = listing.plan_text(replace(plan, products=(*plan.products, twin)), costs)
    assert text.count(f"  from {science.reason}") == 1
    first, second = text.split("night/calibrated/twin: to make, new")
    assert "  bias: night/master_bias_bin1x1" in first
    assert second.splitlines()[1:3] == [
        f"    {Path(science.exposures[0].path).name}: {science.exposures[0].rule}",
        "  all else as above",
    ]


def attempt(kind, reason, *, fits=False, wanted="'bias*'"):
    when = f"IMAGETYP = {wanted}"
    return inventory.Attempt(kind, when, True, fits, reason, "" if fits else wanted)


def test_rules_that_failed_at_one_card_are_one_line_and_the_document_has_each():
    rules = [
        attempt("dark", "IMAGETYP = 'Bias'"),
        attempt("flat", "ESO DPR TYPE is absent"),
        attempt("dark", "IMAGETYP = 'Bias'"),
        attempt("bias", "IMAGETYP = 'Bias'", fits=True),
    ]
    odd = exposure("bias", certain=False, notes=("an odd card",), preset="generic", exptime=0.0)
    tried = {"/n/a\x07.fits": (odd, rules)}
    assert listing.explain_text(tried, []).splitlines() == [
        "/n/a?.fits: bias, by IMAGETYP = 'bias', a guess",
        "  read as generic: cam, object '', 0 s",
        "  note: an odd card",
        "  3 rules do not fit:",
        "    IMAGETYP = 'Bias': 2 for dark",
        "    ESO DPR TYPE is absent: 1 for flat",
    ]
    (file,) = listing.explain_document(tried, [])["files"]
    assert [row["fits"] for row in file["tried"]] == [False, False, False, True]
    assert file["tried"][0]["wanted"] == "'bias*'"
    untyped = {"/n/b.fits": (exposure(None, certain=False), rules[:3])}
    assert listing.explain_text(untyped, []).startswith("/n/b.fits: unknown: no rule fits\n")
    json.dumps(listing.explain_document(untyped, []), allow_nan=False)


def test_a_scan_says_what_is_a_guess_and_what_was_odd():
    guessed = exposure("flat", "/n/f.fits", certain=False, light="sky", notes=("GAIN is odd",))
    lines = listing.scan_text([guessed, exposure("bias")], []).splitlines()
    assert any(line.split()[:4] == ["f.fits", "flat", "(sky)", "?"] for line in lines)
    hint = "1 with a question mark: the kind is a guess; scan --explain FILE tells why"
    assert f"  {hint}" in lines
    assert "2 exposures: 1 flat, 1 bias" in lines
    assert "  f.fits: GAIN is odd" in lines
