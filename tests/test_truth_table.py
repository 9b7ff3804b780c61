"""Headers of 47 cameras against what their frames are, under neutral names and under their own."""

import json

import pytest

import nights
from masterframe.config import load_config
from masterframe.inventory import scan_night
from truth_table import rows, write_frame

CALIBRATING = {"bias", "dark", "flat", "science"}


def scanned(folder, name_of):
    """Return each row with its exposure, None where it was refused, and the reason, if any."""
    table = rows()
    paths = [
        write_frame(row, folder / f"{number:03d}" / name_of(number, row))
        for number, row in enumerate(table)
    ]
    exposures, problems = scan_night(paths, load_config())
    found = {item.path: item for item in exposures}
    reasons = {problem.path: problem.reason for problem in problems}
    return [
        (row, found.get(str(path)), reasons.get(str(path), ""))
        for row, path in zip(table, paths, strict=True)
    ]


@pytest.fixture(scope="module")
def neutral(tmp_path_factory):
    folder = tmp_path_factory.mktemp("neutral")
    return scanned(folder, lambda number, _: f"frame_{number:04d}.fits")


def right(row, exposure):
    return exposure is not None and exposure.kind == row.kind


def share(hits, of):
    print(f"{sum(hits)} of {len(of)}")  # noqa: T201 - for pytest -rP
    return sum(hits) / len(of)


def test_headers_that_hold_the_type_are_typed_by_it(neutral):
    held = [(row, exposure) for row, exposure, _ in neutral if row.held]
    assert len(held) > 70
    hits = [right(row, exposure) for row, exposure in held]
    assert share(hits, held) >= 0.95
    certain = [exposure.certain and right(row, exposure) for row, exposure in held if exposure]
    assert share(certain, held) >= 0.80


def test_no_frame_is_certainly_what_it_is_not(neutral):
    wrong = [
        (row.file, exposure.kind)
        for row, exposure, _ in neutral
        if exposure is not None
        and exposure.certain
        and exposure.kind != row.kind
        and {exposure.kind, row.kind} & CALIBRATING
    ]
    assert wrong == []


def test_what_is_not_typed_has_a_reason_that_names_what_is_missing(neutral):
    untyped = [
        (row, reason) for row, exposure, reason in neutral if not exposure or not exposure.kind
    ]
    assert untyped
    for row, reason in untyped:
        assert "names its kind" in reason or "is no kind that a rule knows" in reason, row.file


def test_every_kind_says_on_what_it_rests(neutral):
    for row, exposure, _ in neutral:
        if exposure is not None and exposure.kind is not None:
            assert exposure.rule, row.file
            assert exposure.preset, row.file


def test_frames_that_were_processed_are_not_taken_for_raw_ones_silently(neutral):
    processed = [
        exposure
        for row, exposure, _ in neutral
        if "processed" in row.file
        or row.file.startswith(("LT-SPRAT_arc", "LT-SPRAT_dark", "VLT-UVES"))
    ]
    assert len(processed) > 5
    for exposure in processed:
        assert any(note.startswith("perhaps processed already") for note in exposure.notes)


def test_names_of_files_tell_the_rest(tmp_path):
    found = scanned(tmp_path, lambda _, row: row.source_name)
    hits = [right(row, exposure) for row, exposure, _ in found]
    assert share(hits, found) >= 0.97
    for row, exposure, _ in found:
        if not row.held and right(row, exposure) and exposure.kind != "science":
            assert "CCDSFPT" in exposure.rule or not exposure.certain


def test_times_filters_and_dates_are_those_of_the_table(neutral):
    """Spot checks of what is written oddly: other units, other keywords, other forms of dates."""
    found = {row.file: exposure for row, exposure, _ in neutral}
    assert found["ZWO-ASI178_bias.hdr"].exptime == pytest.approx(3.2e-5)  # '3,2E-05'
    assert found["AAT-HERMES_science-processed.hdr"].exptime == 790  # EXPOSED
    assert found["AAT-HERMES_science-processed.hdr"].date_obs == "2014-01-19T11:45:20"
    assert found["SDSS-2-5m_science-processed.hdr"].exptime == pytest.approx(53.907456)  # text
    assert found["HST-WFPC2_science.hdr"].date_obs == "1994-05-19T15:41:16"  # 19/05/94
    assert found["HST-STIS_science.hdr"].date_obs == "1998-04-20T18:38:15"  # of its extension
    assert found["VLT-UVES_science.hdr"].date_obs.startswith("2000-02-13T06:02:55")  # by its MJD
    assert found["SBIG-ST-7-7E-7XE_bias.hdr"].date_obs == "2019-04-29T23:14:44"  # TIME-OBS
    assert found["Maidanak-AZT22-SI620_bias.hdr"].date_obs == "2015-05-22T23:13:45"  # UTDATE
    assert found["TRACE_science-solar.hdr"].date_obs == "2001-01-30T02:58:23.429"  # DATE_OBS
    assert found["TRACE_science-solar.hdr"].exptime == pytest.approx(16.3839)  # SHT_MDUR
    assert found["SOHO-LASCO-C3_science-solar.hdr"].date_obs == "2002-05-21T00:18:06.516"
    cecilia = found["MicroObservatory-Cecilia_science.hdr"]
    assert cecilia.date_obs == "2017-12-20T01:33:43.317"  # -0700
    assert cecilia.temperature == pytest.approx(-2.15)  # 271 K
    assert found["LT-SPRAT_science.hdr"].temperature == pytest.approx(-59.479)
    assert found["Subaru-SuprimeCam_science.hdr"].temperature == pytest.approx(-106.89)
    assert found["CFHT-MegaPrime_science.hdr"].temperature == -133.13  # not that of the air


def test_a_cube_is_typed_and_left_out_with_the_reason(tmp_path, capsys, monkeypatch):
    (row,) = (row for row in rows() if row.file == "VLT-VISIR_science.hdr")
    path = write_frame(row, tmp_path / "night" / "a.fits")
    code, out, _ = nights.call(capsys, monkeypatch, "scan", path, "--json")
    document = json.loads(out)
    (frame,) = document["frames"]
    assert (code, frame["kind"], frame["hdu"], frame["shape"]) == (0, "other", None, None)
    (problem,) = document["problems"]
    assert problem["reason"].startswith("no image: a cube of 17 planes, 256 x 256 each")
    _, plan = nights.make_plan(path.parent)
    assert plan.products == ()
