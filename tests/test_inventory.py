import os
import re
import shutil
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from masterframe import fits
from masterframe.config import load_config, load_instrument
from masterframe.inventory import explain_kinds, find_files, scan_night
from masterframe.inventory.dates import start_utc
from masterframe.inventory.kinds import Rules
from masterframe.inventory.sections import checked, eso_sections
from masterframe.model import Keyword, Section
from masterframe.plan import make_plan
from support import shared
from tiny import COLUMNS, ROWS, write

AUTO = load_config()


def scan_one(path, config=AUTO):
    """The one exposure of a file."""
    exposures, _ = scan_night([path], config)
    assert len(exposures) == 1
    return exposures[0]


def reasons(problems, root):
    """Problems by path below a folder."""
    return {os.path.relpath(problem.path, root): problem.reason for problem in problems}


# Files


def test_folder_is_walked_for_fits_and_names_the_night(tmp_path):
    night = tmp_path / "2026-11-02"
    for name in ("b.fits", "a.FIT", "sub/c.fts"):
        write(night / name, seed=len(name))
    (night / "notes.txt").write_text("seeing 0.8")
    found, problems = find_files([night])
    assert [os.path.relpath(item.path, night) for item in found] == ["a.FIT", "b.fits", "sub/c.fts"]
    assert {item.night for item in found} == {"2026-11-02"}
    assert problems == []


def test_named_file_is_taken_whatever_its_suffix_and_once(tmp_path):
    path = write(tmp_path / "odd.name")
    found, _ = find_files([path, str(path), tmp_path / "od?.*"])
    assert [(item.path, item.night) for item in found] == [(str(path), tmp_path.name)]


def test_nights_of_one_name_are_told_apart_by_the_folder_around(tmp_path):
    for day in ("mon", "tue"):
        write(tmp_path / day / "raw" / "a.fits", seed=len(day))
    found, _ = find_files([tmp_path / "mon" / "raw", tmp_path / "tue" / "raw"])
    assert [item.night for item in found] == ["mon_raw", "tue_raw"]


def test_links_cannot_catch_the_walk(tmp_path):
    night = tmp_path / "night"
    write(night / "a.fits")
    (night / "loop").symlink_to(night)
    (night / "up").symlink_to(tmp_path)
    found, problems = find_files([night])
    assert [item.path for item in found] == [str(night / "a.fits")]
    assert set(reasons(problems, night)) == {"loop", "up"}


def test_output_of_an_earlier_run_is_passed_over(tmp_path):
    write(tmp_path / "a.fits")
    write(tmp_path / "out" / "night" / "master_bias.fits")
    (tmp_path / "out" / ".masterframe").mkdir()
    found, problems = find_files([tmp_path])
    assert [item.path for item in found] == [str(tmp_path / "a.fits")]
    assert reasons(problems, tmp_path) == {"out": "the output of an earlier run: not scanned"}


def test_every_bad_file_is_one_row_and_the_rest_goes_on(tmp_path):
    good = write(tmp_path / "good.fits", IMAGETYP="Bias Frame", EXPTIME=0.0)
    whole = good.read_bytes()
    (tmp_path / "cut.fits").write_bytes(whole[:-2880])
    (tmp_path / "empty.fits").write_bytes(b"")
    (tmp_path / "page.fits").write_text("<html>404</html>")
    (tmp_path / "._good.fits").write_bytes(b"\x00\x05\x16\x07" + bytes(4092))
    (tmp_path / "folder.fits").mkdir()
    (tmp_path / "gone.fits").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe.fits")
    exposures, problems = scan_night([tmp_path, tmp_path / "absent"], AUTO)
    assert [item.path for item in exposures] == [str(good)]
    found = reasons(problems, tmp_path)
    assert sorted(found) == [
        *("._good.fits", "absent", "cut.fits", "empty.fits", "folder.fits", "gone.fits"),
        *("page.fits", "pipe.fits"),
    ]
    assert "macOS side file" in found["._good.fits"]
    assert found["absent"] == "no such file or folder"
    assert "truncated" in found["cut.fits"]
    assert "not a regular file" in found["pipe.fits"]
    assert "not a regular file" in found["folder.fits"]
    assert all("\n" not in reason for reason in found.values())


def test_same_exposure_twice_is_used_once(tmp_path):
    first = write(tmp_path / "a.fits", IMAGETYP="BIAS", seed=3)
    os.link(first, tmp_path / "hard.fits")
    (tmp_path / "soft.fits").symlink_to(first)
    shutil.copy(first, tmp_path / "z_copy.fits")
    exposures, problems = scan_night([tmp_path], AUTO)
    assert [item.path for item in exposures] == [str(first)]
    assert reasons(problems, tmp_path) == {
        "hard.fits": f"the same file as {first}",
        "soft.fits": f"the same file as {first}",
        "z_copy.fits": f"header and data are those of {first}",
    }


def test_equal_headers_over_other_pixels_are_two_exposures(tmp_path):
    write(tmp_path / "a.fits", IMAGETYP="BIAS", seed=1)
    write(tmp_path / "b.fits", IMAGETYP="BIAS", seed=2)
    exposures, problems = scan_night([tmp_path], AUTO)
    assert (len(exposures), problems) == (2, ())


@pytest.mark.parametrize(
    ("cards", "reason"),
    [
        ({"ISMASTER": True, "MFVERS": "1"}, "a master, not a raw exposure: ISMASTER = T"),
        ({"MFVERS": "1"}, "calibrated by masterframe already, not a raw exposure: MFVERS"),
    ],
)
def test_product_is_no_raw_exposure(tmp_path, cards, reason):
    write(tmp_path / "m.fits", IMAGETYP="BIAS", **cards)
    exposures, problems = scan_night([tmp_path], AUTO)
    assert exposures == ()
    assert reasons(problems, tmp_path) == {"m.fits": reason}


@pytest.mark.parametrize(
    ("cards", "kind", "reason"),
    [
        ({"NAXIS": 0, "IMAGETYP": "BIAS"}, "bias", "no pixels in it: NAXIS = 0 in every HDU"),
        ({"NAXIS": 0}, None, "no pixels in it: NAXIS = 0 in every HDU"),
        ({"NAXIS": 1, "NAXIS1": 9, "IMAGETYP": "arc"}, "arc", "no image: a row of 9 values"),
    ],
)
def test_exposure_without_an_image_is_typed_and_never_used(tmp_path, cards, kind, reason):
    header = {"SIMPLE": True, "BITPIX": 8, **cards, "EXPTIME": 1.0}
    text = fits_header(header)
    path = tmp_path / "a.fits"
    path.write_bytes(text.ljust(2880) + bytes(2880 * (cards["NAXIS"] > 0)))
    exposures, (problem,) = scan_night([path], AUTO)
    assert [(item.kind, item.images) for item in exposures] == [(kind, ())] * (kind is not None)
    assert problem.reason.startswith(reason)
    plan = make_plan(exposures, [problem], AUTO)
    assert (plan.products, plan.left_out, plan.problems) == ((), (), (problem,))


def fits_header(cards):
    """Return a header block as a camera would write it."""
    lines = []
    for key, value in cards.items():
        shown = f"'{value}'" if isinstance(value, str) else "T" if value is True else str(value)
        lines.append(f"{key:<8}= {shown:>20}".ljust(80))
    return "".join([*lines, "END".ljust(80)]).encode()


# Kinds


@pytest.mark.parametrize(
    ("cards", "kind", "certain"),
    [
        ({"IMAGETYP": "Bias Frame"}, "bias", True),
        ({"IMAGETYP": "zero"}, "bias", True),
        ({"OBSTYPE": "DARK", "EXPTIME": 30.0}, "dark", True),
        ({"OBSTYPE": "DARK", "EXPTIME": 0.0}, "bias", False),
        ({"FRAME": "Flat Field"}, "flat", True),
        ({"IMAGETYP": "DOME FLAT"}, "flat", True),
        ({"IMAGETYP": "comp"}, "arc", True),
        ({"IMAGETYP": "object"}, "science", True),
        ({"IMAGETYP": "Light Frame", "OBJECT": "M 13"}, "science", True),
        ({"IMAGETYP": "Light Frame"}, "science", False),
        ({"IMAGETYP": "Master Bias"}, "other", True),
        ({"ESO__DPR__TYPE": "BIAS"}, "bias", True),
        ({"ESO__DPR__CATG": "SCIENCE", "ESO__DPR__TYPE": "OBJECT"}, "science", True),
        ({"OBJECT": "bias"}, "bias", False),
        ({"OBJECT": "bias", "EXPTIME": 0.0}, "bias", True),
        ({"IMAGETYP": "BIAS", "EXPTIME": 300.0}, "bias", False),
        ({"IMAGETYP": "DARKFLAT"}, "dark", True),
        ({"IMAGETYP": "Flat Dark"}, "dark", True),
        ({"IMAGETYP": "Tricolor Image"}, "science", True),
        ({"IMAGETYP": "Light Frame", "OBJECT": "flat field"}, "flat", False),
        ({"IMAGETYP": "Light Frame", "EXPTIME": 0.0}, "bias", False),
        ({"IMAGETYP": "object", "OBJECT": "bias", "EXPTIME": 0.0}, "bias", False),
        ({"IMAGETYP": "object", "OBJECT": "M 13"}, "science", True),
        ({"IMAGETYP": "offset"}, "bias", True),
        ({"DATA_TYP": "BIAS (5)"}, "bias", True),
        ({"DATA_TYP": "COMPARISON LAMP (4)"}, "arc", True),
        ({"OBSTYPE": "autofocus"}, "focus", True),
        ({"OBSTYPE": "guider"}, "guide", True),
        ({"FRAME": "Bias"}, "bias", True),
        ({"FRAME": 407, "OBSMODE": "ACCUM", "IMAGETYP": "dark"}, "dark", True),
        ({"OBSMODE": "OsirisBias"}, "bias", True),
        ({"FLAVOR": "arc"}, "arc", True),
        ({"CCDSFPT": 3}, "dark", True),
        ({"PICTTYPE": 2}, "bias", True),
        ({"PICTTYPE": 1}, None, False),
        ({"EXPTIME": 0.0}, "bias", False),
        ({"OBS_MODE": "Imaging", "OBJECT": "bias", "EXPTIME": 1.0}, "bias", False),
        ({"OBS_MODE": "Imaging", "OBJECT": "M 13"}, "science", False),
        ({"IMAGETYP": "FLAT,DOME", "OBS_MODE": "Imaging"}, "flat", True),
        ({"OBSTYPE": "STANDARD_STAR"}, "science", True),
        ({"OBSTYPE": "zeropoint"}, "science", True),
        ({"OBSTYPE": "linearity"}, "other", True),
        ({"OBSMODE": "Prime Focus"}, None, False),
        ({"OBSTYPE": "OBJECT", "OBJECT": "Twilight", "OBSCLASS": "dayCal"}, "flat", False),
        ({"OBSTYPE": "ACQUISITION", "IMAGETYP": "object"}, "other", False),
        ({"OBS_TYPE": "ZERO"}, "bias", True),
        ({"EXPTYPE": "SFlat"}, "flat", True),
        ({"FRAME": "Light", "OBJECT": "M 13"}, "science", True),
        ({"ESO__DPR__TYPE": "WAVE,WAVE,THAR2"}, "arc", True),
        ({"ESO__DPR__TYPE": "STAR,DARK,G2V", "ESO__DPR__CATG": "SCIENCE"}, "science", True),
        ({"ESO__DPR__TYPE": "STD,FLUX", "ESO__DPR__CATG": "CALIB"}, "science", True),
        ({"OBSMODE": "OsirisCalibrationLamp"}, "arc", True),
        ({"KOAIMTYP": "arclamp", "OBSTYPE": "Line"}, "arc", True),
        ({"OBSTYPE": "DmFlat"}, "flat", True),
        ({"EXPTYPE": "TWILIGHT"}, "flat", True),
        ({"OBSTYPE": "OBJECT", "OBSCLASS": "acq"}, "other", True),
        ({"EXPTIME": 60.0, "SHUTTER": "CLOSED"}, "dark", False),
        ({"EXPTIME": 5.0, "LAMP": "HeNeAr"}, "arc", False),
        ({"EXPTIME": 5.0, "LAMP": "quartz"}, "flat", False),
        ({"OBJECT": "Dark Horse", "EXPTIME": 60.0, "RA": "18:00:00"}, "dark", False),
        ({"OBJECT": "M 13", "EXPTIME": 60.0, "RA": "16:41:41"}, "science", False),
        ({"IMAGETYP": "qwerty", "OBJECT": "M 13", "EXPTIME": 60.0, "RA": "1"}, None, False),
        ({"IMAGETYP": "qwerty"}, None, False),
        ({"OBJECT": "M 13", "EXPTIME": 60.0}, None, False),
        ({}, None, False),
    ],
)
def test_generic_camera_is_typed_by_what_its_header_says(tmp_path, cards, kind, certain):
    found = scan_one(write(tmp_path / "a.fits", **cards))
    assert (found.kind, found.certain) == (kind, certain)
    assert bool(found.rule) == (kind is not None)


@pytest.mark.parametrize(
    ("cards", "light", "technique"),
    [
        ({"IMAGETYP": "DOME FLAT"}, "dome", ""),
        ({"IMAGETYP": "domeflat"}, "dome", ""),
        ({"IMAGETYP": "FLAT,SKY"}, "sky", ""),
        ({"IMAGETYP": "skyflat"}, "sky", ""),
        ({"IMAGETYP": "Twilight Flat"}, "twilight", ""),
        ({"IMAGETYP": "LAMPFLAT"}, "lamp", ""),
        ({"IMAGETYP": "projector flat"}, "lamp", ""),
        ({"IMAGETYP": "flat"}, "", ""),
        ({"ESO__DPR__TYPE": "FLAT,TWILIGHT", "ESO__DPR__TECH": "IMAGE"}, "twilight", "image"),
        ({"ESO__DPR__TYPE": "LAMP,FLAT", "ESO__DPR__TECH": "ECHELLE"}, "lamp", "spectrum"),
        ({"OBJECT": "sky flat V"}, "sky", ""),
    ],
)
def test_what_shone_on_a_flat_is_told(tmp_path, cards, light, technique):
    found = scan_one(write(tmp_path / "a.fits", **cards))
    assert (found.kind, found.light, found.technique) == ("flat", light, technique)


def test_keyword_that_tells_most_counts_and_one_that_says_otherwise_makes_it_a_guess(tmp_path):
    """A word that means any open shutter goes behind one that names a calibration."""
    plain = scan_one(write(tmp_path / "a.fits", IMAGETYP="Light", OBSTYPE="SKYFLAT"))
    assert (plain.kind, plain.certain, plain.rule) == ("flat", True, "OBSTYPE = 'SKYFLAT'")
    assert plain.imagetyp == "SKYFLAT"
    both = scan_one(write(tmp_path / "b.fits", IMAGETYP="object", OBSTYPE="BIAS"))
    assert (both.kind, both.certain) == ("bias", False)
    assert both.notes == ("IMAGETYP = 'object' says otherwise than OBSTYPE = 'BIAS'",)
    same = scan_one(write(tmp_path / "c.fits", IMAGETYP="zero", OBSTYPE="BIAS"))
    assert (same.kind, same.certain, same.notes) == ("bias", True, ())


TABLES = "headers/iraf_ccddb/noao/imred/ccdred/ccddb"
IRAF_KINDS = {"zero": "bias", "dark": "dark", "flat": "flat", "comp": "arc"}


def test_words_of_iraf_tables_are_understood_as_there(tmp_path):
    """Each word of the observatories' translation tables, and the kind that it stands for."""
    words = {}
    for table in sorted(shared(TABLES).glob("*/*.dat")):
        for line in table.read_text().splitlines():
            entry = re.fullmatch(r"""("[^"]+"|'[^']+'|[A-Z]+)\s+(\w+)\s*(#.*)?""", line)
            if entry:
                words.setdefault(entry[1].strip("'\""), set()).add(entry[2])
    assert len(words) > 15
    for number, (word, meanings) in enumerate(words.items()):
        found = scan_one(write(tmp_path / f"{number}.fits", IMAGETYP=word, EXPTIME=3.0))
        kinds = {IRAF_KINDS[meaning] for meaning in meanings if meaning in IRAF_KINDS}
        assert found.certain, word
        if kinds:
            assert {found.kind} == kinds, word
        else:
            assert found.kind in {"science", "focus", "arc", "flat", "other"}, word


@given(st.text(max_size=40), st.text(max_size=40))
def test_no_word_can_crash_the_rules(word, other):
    rules = Rules(load_instrument("generic").kinds)
    keywords = [Keyword("IMAGETYP"), Keyword("OBSTYPE")]
    found = rules.word({"IMAGETYP": word, "OBSTYPE": other}, keywords)
    assert found.value in {"", word.strip(), other.strip()}
    assert (rules.rank(found.value) is None) <= (found.disputed == "")


@pytest.mark.parametrize(
    ("words", "exptime"),
    [
        *(("00:05:00", 300.0), ("1:00:30.25", 3630.25), ("0:00:00,5", 0.5), ("000:01:00", 60.0)),
        *(("300 s", 300.0), ("2.5sec", 2.5), ("500 ms", 0.5), ("1,5 min", 90.0), ("1e2 S", 100.0)),
        *((word, None) for word in ("00:99:00", "12:30", "5 m", "-3 s", "1:2:3:4", "s", "e s")),
    ],
)
def test_times_are_told_as_a_clock_or_with_their_unit(tmp_path, words, exptime):
    card = f"EXPTIME = '{words:8}'"
    found = scan_one(with_card(tmp_path / "a.fits", card, IMAGETYP="dark"))
    assert found.exptime == (exptime if exptime is None else pytest.approx(exptime, rel=1e-12))
    assert any(repr(words) in note for note in found.notes)


@pytest.mark.parametrize(
    ("card", "exptime", "noted"),
    [
        ("EXPOSURE=                 1500 / exposure in ms", 1.5, True),
        ("EXPTIME =              1500000 / [us] exposure", 1.5, True),
        ("EXPTIME =                  0.5 / in minutes", 30.0, True),
        ("EXPTIME =                  1.5 / [s] good to 1 ms", 1.5, False),
        ("EXPTIME =                  1.5 / Exposure time in seconds", 1.5, False),
        ("EXPTIME =                  1.5", 1.5, False),
        ("EXPTIME =              3,2E-05 / Total Exposure Time (s)", 3.2e-5, False),
        ("EXPTIME = '060.00  '           / s", 60.0, False),
    ],
)
def test_unit_of_an_exposure_time_is_that_of_its_comment(tmp_path, card, exptime, noted):
    found = scan_one(with_card(tmp_path / "a.fits", card, IMAGETYP="dark"))
    assert found.exptime == pytest.approx(exptime, rel=1e-12)
    assert any("as its comment says" in note for note in found.notes) == noted


@pytest.mark.parametrize(
    ("comment", "known"),
    [
        ("e-/ADU", True),
        ("[electrons/count] CCD gain", True),
        ("Gain (electrons per ADU)", True),
        ("Photoelectrons per ADU", True),
        ("e-/data number", True),
        ("electron/DN", True),
        ("ADU/e-", False),
        ("Conversion from electrons to ADU", False),
        ("Sensor gain", False),
        ("", False),
    ],
)
def test_gain_counts_where_its_comment_tells_its_unit(tmp_path, comment, known):
    path = with_card(tmp_path / "a.fits", f"GAIN    =  1.9 / {comment}", IMAGETYP="dark")
    (image,) = scan_one(path).images
    assert image.gain == (1.9 if known else None)
    assert image.origins.get("gain") == ("GAIN" if known else None)


@pytest.mark.parametrize(
    ("comment", "known"),
    [("e-(rms) read noise", True), ("read noise", True), ("[ADU] read noise", False)],
)
def test_read_noise_in_adu_is_not_taken_for_electrons(tmp_path, comment, known):
    path = with_card(tmp_path / "a.fits", f"RDNOISE =  5.0 / {comment}", IMAGETYP="dark")
    found = scan_one(path)
    assert found.images[0].read_noise == (5.0 if known else None)
    assert bool(found.notes) == (not known)


@pytest.mark.parametrize(("dark_time", "used"), [(61.5, 61.5), (59.9, 59.9), (0.0, 60.0)])
def test_dark_time_that_is_shorter_than_the_exposure_is_not_believed(tmp_path, dark_time, used):
    path = write(tmp_path / "a.fits", IMAGETYP="dark", EXPTIME=60.0, DARKTIME=dark_time)
    found = scan_one(path)
    assert found.dark_time == used
    assert bool(found.notes) == (dark_time == 0)


def test_frames_with_other_filters_in_the_second_wheel_have_other_optics(tmp_path):
    path = write(tmp_path / "a.fits", IMAGETYP="flat", FILTER1="open", FILTER2="V")
    assert ("filter_2", "V") in scan_one(path).optics


def test_each_section_and_number_says_where_it_comes_from(tmp_path):
    path = write(tmp_path / "a.fits", IMAGETYP="BIAS", EGAIN=1.4, BIASSEC="[33:36,1:24]")
    (tmp_path / "n.yaml").write_text("detector: {read_noise: 3.5}\n")
    (image,) = scan_one(path, load_config(tmp_path / "n.yaml")).images
    assert image.origins == {
        "overscan": "BIASSEC",
        "trim": "the rest of the image",
        "gain": "EGAIN",
        "read_noise": "configuration",
        "saturation": "pixels of uint16",
    }


@pytest.mark.parametrize(("value", "celsius"), [(213.671, -59.479), (-20.0, -20.0), (999.0, None)])
def test_temperature_in_kelvin_is_understood(tmp_path, value, celsius):
    found = scan_one(write(tmp_path / "a.fits", IMAGETYP="dark", CCD_TEMP=value))
    assert found.temperature == (None if celsius is None else pytest.approx(celsius))
    assert bool(found.notes) == (celsius is None)


@pytest.mark.parametrize(
    ("cards", "applied"),
    [
        ({"CALSTAT": "BDF"}, ("bias", "dark", "flat")),
        ({"ZEROCOR": "Apr  5 10:11 Zero level correction image is Zero"}, ("bias",)),
        ({"FLATCOR": "PERFORM"}, ()),
        ({"DARKCOR": 0}, ()),
        ({"SUBDARK": "ccd=<CCDData>, master=<CCDData>"}, ("dark",)),
    ],
)
def test_steps_that_other_programs_have_done_are_not_done_again(tmp_path, cards, applied):
    found = scan_one(write(tmp_path / "a.fits", IMAGETYP="Light", **cards))
    assert found.applied == applied


@pytest.mark.parametrize(
    "cards", [{"PROCTYPE": "InstCal"}, {"RLEVEL": 91}, {"ESO__PRO__CATG": "SCIENCE_BLUE"}]
)
def test_frame_that_was_processed_is_noted(tmp_path, cards):
    found = scan_one(write(tmp_path / "a.fits", IMAGETYP="object", **cards))
    assert found.kind == "science"
    assert len(found.notes) == 1
    assert found.notes[0].startswith("perhaps processed already: ")
    raw = scan_one(write(tmp_path / "b.fits", IMAGETYP="object", PROCTYPE="RAW", RLEVEL=0))
    assert raw.notes == ()


def with_card(path, card, **cards):
    """Write a frame with one card as a camera wrote it, which astropy might not."""
    write(path, XCARD="placeholder", **cards)
    header = path.read_bytes()
    at = header.index(b"XCARD")
    path.write_bytes(header[:at] + card.encode().ljust(80) + header[at + 80 :])
    return path


def test_name_of_the_file_is_the_last_resort(tmp_path):
    found = scan_one(write(tmp_path / "Bias_0001.fits", EXPTIME=1e-3))
    assert (found.kind, found.certain, found.rule) == ("bias", False, "file = 'Bias_0001.fits'")
    kept = scan_one(write(tmp_path / "bias_2.fits", IMAGETYP="DARK", EXPTIME=9.0))
    assert (kept.kind, kept.certain, kept.rule) == ("dark", True, "IMAGETYP = 'DARK'")


def test_untyped_exposure_is_listed_with_what_is_missing(tmp_path):
    path = write(tmp_path / "a.fits", IMAGETYP="qwerty")
    exposures, problems = scan_night([path], AUTO)
    assert exposures[0].kind is None
    (problem,) = problems
    assert "IMAGETYP = 'qwerty' is no kind that a rule knows" in problem.reason
    assert "it has no OBJECT" in problem.reason
    assert "under 'types'" in problem.reason


def test_rule_of_the_observer_goes_first(tmp_path):
    path = write(tmp_path / "a.fits", IMAGETYP="qwerty", LAMP="on")
    (tmp_path / "n.yaml").write_text("types: [{kind: arc, when: {LAMP: 'o?'}}]\n")
    found = scan_one(path, load_config(tmp_path / "n.yaml"))
    assert (found.kind, found.certain, found.rule) == ("arc", True, "LAMP = 'on'")


def explained(paths):
    tried, problems = explain_kinds(paths, AUTO)
    return list(tried.values()), problems


def test_explanation_holds_every_rule_that_was_tried(tmp_path):
    write(tmp_path / "a.fits", IMAGETYP="DARK", EXPTIME=5.0)
    (tmp_path / "b.fits").write_text("no frame")
    ((exposure, tried),), (problem,) = explained([tmp_path])
    assert problem.path == str(tmp_path / "b.fits")
    assert exposure.kind == "dark"
    assert (tried[-1].kind, tried[-1].fits, tried[-1].reason) == ("dark", True, "IMAGETYP = 'DARK'")
    assert not any(attempt.fits for attempt in tried[:-1])
    (unread,) = (item for item in tried if item.kind == "bias" and item.reason == "EXPTIME = 5.0")
    assert (unread.wanted, unread.certain) == ("0", False)


# Fields


def test_fields_come_from_the_first_keyword_that_is_there(tmp_path):
    found = scan_one(
        write(
            tmp_path / "a.fits",
            IMAGETYP="Light Frame",
            OBJECT=" M 13 ",
            EXPOSURE="060.00",
            DARKTIME=61.5,
            FILTER="V",
            XBINNING=1,
            YBINNING=2,
            CCD_TEMP=-20.3,
            EGAIN=1.4,
            RDNOISE=5.5,
            INSTRUME="cam",
            DATE_OBS="2017-12-19T18:33:43.317-0700",
        )
    )
    assert (found.object, found.filter, found.binning) == ("M 13", "V", (2, 1))
    assert (found.exptime, found.dark_time, found.temperature) == (60.0, 61.5, -20.3)
    assert (found.date_obs, found.label) == ("2017-12-20T01:33:43.317", "bin1x2")
    (image,) = found.images
    assert (image.gain, image.read_noise, image.saturation) == (1.4, 5.5, 65535.0)
    assert found.setup[:3] == (
        ("instrument", "cam"),
        ("layout", f"{COLUMNS}x{ROWS}"),
        ("binning", "1x2"),
    )


@pytest.mark.parametrize(
    ("cards", "gain", "note"),
    [
        ({"GAIN": 120}, None, "GAIN = 120 is not used: nothing tells its unit"),
        ({"EGAIN": 0.0, "GAIN": 2.0}, None, "EGAIN = 0.0 is not used: not within 0.05 to 50.0"),
        ({"EGAIN": "n/a"}, None, "EGAIN = 'n/a' is not used"),
        ({"CONAD": 50.0}, 50.0, ""),
        ({}, None, ""),
    ],
)
def test_gain_is_used_only_where_its_unit_is_known(tmp_path, cards, gain, note):
    found = scan_one(write(tmp_path / "a.fits", IMAGETYP="BIAS", **cards))
    assert found.images[0].gain == gain
    assert len(found.notes) == bool(note)
    assert "".join(found.notes).startswith(note)


def test_detector_of_the_configuration_goes_before_the_header(tmp_path):
    path = write(tmp_path / "a.fits", IMAGETYP="BIAS", EGAIN=1.4, BIASSEC="[1:4,1:24]")
    (tmp_path / "n.yaml").write_text(
        "detector: {gain: 2.5, saturation: 60000, overscan: '[33:36,1:24]'}\n"
    )
    (image,) = scan_one(path, load_config(tmp_path / "n.yaml")).images
    assert (image.gain, image.saturation) == (2.5, 60000.0)
    assert image.overscan == Section(0, 24, 32, 36)
    assert image.trim == Section(0, 24, 0, 32)


@pytest.mark.parametrize("value", ["30 x", -1.0, "3.2.1"])
def test_exposure_time_that_is_none_is_noted_and_not_guessed(tmp_path, value):
    found = scan_one(write(tmp_path / "a.fits", IMAGETYP="DARK", EXPTIME=value))
    assert found.exptime is None
    assert found.notes == (f"EXPTIME = {value!r} is not used: not a time in seconds",)


def test_decimal_comma_of_a_camera_is_understood(tmp_path):
    found = scan_one(write(tmp_path / "a.fits", IMAGETYP="BIAS", EXPTIME="3,2E-05"))
    assert found.exptime == pytest.approx(3.2e-5, rel=1e-12)


@pytest.mark.parametrize(
    ("date", "time", "mjd", "start"),
    [
        ("2022-01-28T00:08:16.282", None, None, "2022-01-28T00:08:16.282"),
        ("2022-01-28", "1:02:03.5", None, "2022-01-28T01:02:03.5"),
        ("2022-01-28 01:02:03", None, None, "2022-01-28T01:02:03"),
        ("2022-01-28T01:02:03Z", None, None, "2022-01-28T01:02:03"),
        ("28/01/99", None, None, "1999-01-28T00:00:00"),
        ("17/10/17", "10:11:12", None, "2017-10-17T10:11:12"),
        ("19/05/94", "15:41:16", None, "1994-05-19T15:41:16"),
        ("8/14/2023", "07:40:00", None, "2023-08-14T07:40:00"),
        ("14.08.2023", None, None, "2023-08-14T00:00:00"),
        ("2014:01:19", "11:45:20", None, "2014-01-19T11:45:20"),
        ("2002/05/21", "00:18:06.516", None, "2002-05-21T00:18:06.516"),
        ("20220128", None, None, "2022-01-28T00:00:00"),
        ("20220128T01:02:03", None, None, "2022-01-28T01:02:03"),
        ("2017-12-19T18:33:43.317-0700", None, None, "2017-12-20T01:33:43.317"),
        ("2017-12-19T18:33:43+05:30", None, None, "2017-12-19T13:03:43"),
        ("2017-12-19T18:33:43 UTC", None, None, "2017-12-19T18:33:43"),
        ("2024-06-28T18:21:33.17835000", None, None, "2024-06-28T18:21:33.17835"),
        ("2022-01-28", 3723.5, None, "2022-01-28T01:02:03.5"),
        ("2022-01-28", None, 59607.5, "2022-01-28T12:00:00"),
        ("2022-01-28", None, 59608.5, "2022-01-28T00:00:00"),
        ("01:02:03", None, 59607.5, "2022-01-28T12:00:00"),
        ("13-Dec-2012", "10:11:12", None, "2012-12-13T10:11:12"),
        ("2012-DEC-03T10:11:12.5", None, None, "2012-12-03T10:11:12.5"),
        ("3 September 2012 10:11", None, None, "2012-09-03T10:11:00"),
        ("Thu Dec 13 10:11:12 2012", None, None, "2012-12-13T10:11:12"),
        ("Dec  3 10:11:12 2012", None, None, "2012-12-03T10:11:12"),
        ("13-Abc-2012", "10:11:12", None, ""),
        ("1970-01-01T00:00:08.000", None, 40587.00009, ""),  # the clock of LATISS was not set
        ("31/02/2022", None, None, ""),
        ("not a date", None, 59607.5, "2022-01-28T12:00:00"),
        ("2016-12-31T23:59:60", None, None, ""),
        ("9999-12-31T23:59:59-12:00", None, None, ""),
        (None, None, 1e9, ""),
        ("", "25:00", float("nan"), ""),
    ],
)
def test_start_is_iso_in_utc_or_nothing(date, time, mjd, start):
    assert start_utc(date, time, mjd) == start


def test_julian_date_is_the_last_resort():
    assert start_utc(None, None, None, 2457855.6449074075) == "2017-04-12T03:28:40"
    assert start_utc(None, None, None, "2457855.5") == "2017-04-12T00:00:00"
    assert start_utc(None, None, 59607.5, 2457855.5) == "2022-01-28T12:00:00"
    assert start_utc(None, None, None, -1.0) == ""


@given(st.datetimes(datetime.fromisoformat("1970-01-01"), datetime.fromisoformat("2069-12-31")))
def test_one_moment_written_in_many_ways_is_one_moment(moment):
    """Year first or last, with the time apart, in a zone, in seconds of the day, as MJD."""
    moment = moment.replace(microsecond=moment.microsecond // 1000 * 1000)
    iso = moment.isoformat(timespec="milliseconds")
    expected = moment.isoformat(timespec="microseconds").rstrip("0").rstrip(".")
    day, _, clock = iso.partition("T")
    year, month, date = day.split("-")
    zoned = (moment - timedelta(hours=7)).isoformat(timespec="milliseconds") + "-0700"
    seconds = (moment - datetime.fromisoformat(day)).total_seconds()
    ways = [
        start_utc(iso),
        start_utc(f"{iso}Z"),
        start_utc(f"{day} {clock}"),
        start_utc(day, clock),
        start_utc(f"{year}/{month}/{date}", clock),
        start_utc(f"{date}/{month}/{year}", clock.replace(".", ",")),
        start_utc(f"{date}/{month}/{year[2:]}", clock),
        start_utc(f"{year}:{month}:{date}", clock.replace(":", " ")),
        start_utc(zoned),
        start_utc(day, seconds),
    ]
    assert set(ways) == {expected}
    mjd = (moment - datetime.fromisoformat("1858-11-17")) / timedelta(days=1)
    found = datetime.fromisoformat(start_utc(day, None, mjd))
    assert abs(found - moment) < timedelta(milliseconds=1)


anything = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=24)
date_like = st.from_regex(r"[0-9]{1,4}[-/.][0-9]{1,2}[-/.][0-9]{1,4}[T ]?[0-9:.+-]{0,14}")


@given(anything | date_like, anything | st.from_regex(r"[0-9:.]{0,12}"), anything)
def test_no_date_can_crash_the_scan(date, time, mjd):
    found = start_utc(date, time, mjd, mjd)
    assert found == "" or start_utc(found) == found


# Sections


@pytest.mark.parametrize(
    ("words", "section"),
    [
        ("[1:4,1:24]", Section(0, 24, 0, 4)),
        ("[   4:  13,   1: 520]", Section(0, 520, 3, 13)),
        ("UNKNOWN", None),
        ("[0:4,1:24]", None),
        ("[4:1,1:24]", None),
        ("[1:4]", None),
        ("", None),
    ],
)
def test_section_is_read_as_fits_writes_it(words, section):
    assert Section.from_fits(words) == section
    if section:
        assert Section.from_fits(section.to_fits()) == section


@pytest.mark.parametrize(
    ("overscan", "trim", "expected", "note"),
    [
        ("[33:36,1:24]", "[1:32,1:24]", (True, (24, 32)), ""),
        ("[33:36,1:24]", "", (True, (24, 32)), ""),
        ("[1:4,1:24]", "", (True, (24, 32)), ""),
        ("", "[3:36,2:24]", (False, (23, 34)), ""),
        ("", "[1:36,1:24]", (False, None), ""),
        ("UNKNOWN", "", (False, None), "'BIASSEC UNKNOWN' is not obeyed"),
        ("[33:40,1:24]", "", (False, None), "BIASSEC [33:40,1:24] is not obeyed: the image has"),
        ("[31:36,1:24]", "[1:32,1:24]", (False, (24, 32)), "it overlaps the data"),
        ("[33:36,5:24]", "[1:32,1:24]", (False, (24, 32)), "it does not reach all rows"),
        ("[1:36,1:24]", "", (False, None), "it leaves no data"),
    ],
)
def test_nonsense_in_sections_is_reported_and_not_obeyed(tmp_path, overscan, trim, expected, note):
    cards = {"BIASSEC": overscan, "TRIMSEC": trim}
    found = scan_one(
        write(tmp_path / "a.fits", IMAGETYP="BIAS", **{k: v for k, v in cards.items() if v})
    )
    (image,) = found.images
    assert (image.overscan is not None, image.trim and image.trim.shape) == expected
    assert len(found.notes) == bool(note)
    assert note in "".join(found.notes)


@given(st.text(alphabet="[]:,0123456789 -x", max_size=24), st.text(max_size=24))
def test_sections_that_are_used_lie_in_the_image(overscan, trim):
    found = checked({"overscan": f"A {overscan}", "trim": f"B {trim}"}, (ROWS, COLUMNS))
    for part in (found.overscan, found.trim):
        if part is not None:
            assert 0 <= part.y0 < part.y1 <= ROWS
            assert 0 <= part.x0 < part.x1 <= COLUMNS


@pytest.mark.parametrize(
    ("x", "cards", "expected"),
    [
        (1, (4, 32, 0, 0, 20, 4), ("[1:4,1:24]", "[5:36,1:20]")),
        (4096, (4, 32, 0, 0, 20, 4), ("[33:36,1:24]", "[1:32,1:20]")),
        (1, (2, 30, 4, 0, 24, 0), ("[33:36,1:24]", "[3:32,1:24]")),
        (1, (6, 32, 0, 0, 20, 4), None),
    ],
)
def test_eso_prescan_lies_at_the_side_of_the_output(x, cards, expected):
    names = ("PRSCX", "NX", "OVSCX", "PRSCY", "NY", "OVSCY")
    header = {f"ESO DET OUT1 {name}": value for name, value in zip(names, cards, strict=True)}
    header |= {"ESO DET OUT1 X": x, "ESO DET OUT1 Y": 1, "ESO DET OUTPUTS": 1}
    found = eso_sections(header, (ROWS, COLUMNS))
    if expected is None:
        assert found == {}
    else:
        words = tuple(found[part].removeprefix("ESO DET OUT1 ") for part in ("overscan", "trim"))
        assert words == expected
        assert eso_sections({**header, "ESO DET OUTPUTS": 2}, (ROWS, COLUMNS)) == {}


# Real nights


def test_efosc2_night_is_typed_from_its_headers():
    """A zero-second DARK is a bias, and light through a grism is no image."""
    exposures, problems = scan_night([shared("data/efosc2")], AUTO)
    assert problems == ()
    assert all(item.certain for item in exposures)
    times: dict[tuple[str | None, str], int] = {}
    for item in exposures:
        times[item.kind, item.technique] = times.get((item.kind, item.technique), 0) + 1
    assert times == {
        ("bias", ""): 5,
        ("flat", "spectrum"): 3,
        ("flat", "image"): 3,
        ("arc", ""): 1,
        ("science", "spectrum"): 2,
        ("science", "image"): 6,
    }
    for item in exposures:
        (image,) = item.images
        assert (image.gain, image.read_noise, image.saturation) == (1.1, 7.8, 65535.0)
        assert (image.overscan, image.trim) == (
            Section(0, 1030, 1024, 1028),
            Section(0, 1024, 0, 1024),
        )
        assert item.temperature == pytest.approx(-113.15)
        assert item.label == "bin2x2_fastL"


def test_efosc2_overscan_columns_see_no_light():
    """The header gives 6 prescan columns, of which the pixels show that 4 can be used."""
    exposures, _ = scan_night([shared("data/efosc2")], AUTO)
    (image,) = next(item for item in exposures if item.filter == "g#782").images
    pixels = fits.read_rows(image.frame, 0, 1030)
    dark = pixels[:, image.overscan.x0 : image.overscan.x1]
    assert dark.min() > 150
    assert dark.max() < 600
    assert np.median(pixels[:1018, 40:1000]) > 30_000
    assert np.median(pixels[:, 1029]) > 3000  # the last column is lit again,
    assert pixels[:, 1028].min() == 0  # and pulls the one before it down


def test_st402_night_rests_on_names_where_the_header_says_light():
    exposures, _ = scan_night([shared("data/st402/raw")], AUTO)
    kinds = {Path(item.path).name: item for item in exposures}
    for name, item in kinds.items():
        expected = {"dark": "dark", "flat": "flat", "arc": "arc"}.get(name.split("-")[1], "science")
        assert item.kind == expected, name
        assert item.certain == (expected == "dark")
        assert (item.binning, item.images[0].gain) == ((2, 1), 1.49)


def test_st402_dark_was_taken_off_the_whole_series_though_its_first_frame_says_so():
    """CCDSoft writes 'Auto-Dark Subtraction' once; the level of the others shows it was done."""
    exposures, _ = scan_night([shared("data/st402/raw")], AUTO)
    applied = {Path(item.path).name: item.applied for item in exposures}
    done = {name for name, steps in applied.items() if steps == ("dark",)}
    assert {name.split(".")[0] for name in done} == {
        *("L2-arc-hg-10", "L2-arc-neon", "L2-flat-red-180", "L2-star-hg-10", "L2-star-neon-40")
    }
    assert sum(name.startswith("L2-flat-red") for name in done) == 5
    notes = {Path(item.path).name: item.notes for item in exposures}
    assert notes["L2-flat-red-180.00000000.FIT"] == ()
    assert "taken as dark-subtracted" in notes["L2-flat-red-180.00000004.FIT"][0]


def test_microobservatory_frames_without_a_type_are_marked_guesses():
    """No card names the kind; an object, a pointing and an exposure speak for an observation."""
    exposures, problems = scan_night([shared("data/microobservatory")], AUTO)
    assert {(item.kind, item.certain) for item in exposures} == {("science", False)}
    assert problems == ()
    assert len(exposures) == 9


def test_floyds_sections_unknown_are_reported():
    exposures, _ = scan_night([shared("data/floyds")], AUTO)
    for item in exposures:
        assert item.images[0].overscan is None
        assert any(note.startswith("'BIASSEC UNKNOWN' is not obeyed") for note in item.notes)
