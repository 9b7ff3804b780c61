import math
import subprocess
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from hypothesis import given
from hypothesis import strategies as st

from masterframe.fits import headers, legal, masters
from masterframe.fits.cards import read_all_cards, read_cards
from masterframe.fits.cardtext import header_text
from masterframe.fits.headers import InputFacts, MasterFacts
from masterframe.fits.write import ImageFile, PlaneSpec
from masterframe.kernels import RULES, resolve_rejection
from masterframe.model import Estimator, Frame, Image, Noise, Recipe, Rejection, Scaling, Section
from support import program, shared
from writing import shown

TRIM = Section(3, 63, 5, 53)
SHAPE = (70, 61)


def raw_header(*cards):
    """The bytes of a header whose cards are given as text, legal or not."""
    text = "".join(card.ljust(80)[:80] for card in (*cards, "END"))
    return text.encode("latin-1")


def image(scanned, trim=TRIM):
    frame = Frame("a.fits", 0, "", 0, 16, SHAPE, Scaling(), "int16", 1, 1)
    return Image(frame, scanned, trim=trim)


def calibrated(*cards, trim=TRIM, unit="adu"):
    return shown(calibrated_cards(*cards, trim=trim, unit=unit))


def calibrated_cards(*cards, trim=TRIM, unit="adu"):
    raw = raw_header(*cards)
    return headers.calibrated_header(read_all_cards(raw), image(read_cards(raw), trim), unit)


def master(*inputs, trim=None):
    """Header of a master of inputs, each a sequence of cards."""
    return shown(master_cards(*inputs, trim=trim))


def master_cards(*inputs, trim=None):
    raw = [raw_header(*cards) for cards in inputs]
    return headers.master_header(read_all_cards(raw[0]), list(map(read_cards, raw)), trim)


def check_legal(path, made):
    """Write headers into one file and fail where fitsverify finds anything in it."""
    specs = [PlaneSpec(name, "uint8", (2, 3), header) for name, header in made.items()]
    with ImageFile.create(path, specs, overwrite=True) as file:
        file.publish()
    command = [program("fitsverify"), str(path)]
    found = subprocess.run(command, check=False, capture_output=True, text=True).stdout
    assert "0 warning(s) and 0 error(s)" in found, found
    with fits.open(path, checksum=True) as hdus:
        hdus.verify("exception")


HOSTILE = [
    "OBJECT  = 'M\xfcnchen <script>'",
    "CTRL    = 'a\x01\x1b[31mb\x7f'",
    "EXPTIME =              3,2E-05 / decimal comma",
    "RA      = 12:30:15.2 / no quotes",
    "OPEN    = 'no end",
    "ka y-b  = 3",
    "NAN     = NaN",
    "INF     = inf",
    "NULL    =",
    "BAD\x01KEY = 1",
    "NOEQUAL  12",
    "COMPLEX = (1, 2)",
    "HUGE    = 123456789012345678901234567890",
    "DOUBLE  = 1",
    "DOUBLE  = 2",
    "DATE    = '31/31/2021'",
    "DATEFOO = 12",
    "TELESCOP= 12",
    "EQUINOX = 'J2000'",
    "EPOCH   = '2000.0'",
    "RADESYS = 'GALACTIC'",
    "CRPIX1  = '512.5'",
    "CRVAL3  = 1.0",
    "CDELT1  = 0.0",
    "CTYPE2  = 3",
    "WCSAXES = 2",
    "PC1_1   = 1.0",
    "CD1_1   = 1.0",
    "CROTA2  = 1.0",
    "TTYPE1  = 'X'",
    "GROUPS  = T",
    "BLOCKED = T",
    "INHERIT = T",
    "EXTNAME = 'IM1'",
    "XTENSION= 'IMAGE'",
    "NAXIS3  = 3",
    "BLANK   = -32768",
    "ZCMPTYPE= 'RICE_1'",
    "CONTINUE  'alone'",
    "HIERARCH ESO X = 'y",
    "HIERARCH  = 3",
    "HIERARCH ESO " + "A" * 60 + " = 1",
    "LONGSTR = 'abc&'",
    "CONTINUE  '" + "d" * 60 + "&'",
    "CONTINUE  '" + "e" * 60 + "' / comment",
    "=========",
    "HISTORY old\x07 \xe9",
    "COMMENT old",
    "\x00\x00\x00\x00",
]


@pytest.mark.system
@pytest.mark.parametrize("trim", [TRIM, None])
def test_hostile_headers_become_legal(tmp_path, trim):
    made = dict.fromkeys(("", "EXT"), calibrated_cards(*HOSTILE, trim=trim))
    made["MASTER"] = master_cards(HOSTILE, HOSTILE)
    check_legal(tmp_path / "a.fits", made)


@pytest.mark.system
def test_headers_of_all_instruments_become_legal(tmp_path):
    made = {}
    for path in sorted(shared("headers").glob("*.hdr")):
        raw = raw_header(*path.read_text("latin-1").splitlines())
        header, scanned = read_all_cards(raw), read_cards(raw)
        name = path.stem.upper()
        made[f"{name}_C"] = headers.calibrated_header(header, image(scanned), "adu")
        made[f"{name}_M"] = headers.master_header(header, [scanned] * 3)
    assert len(made) > 200
    assert sum(map(len, made.values())) > 10_000
    check_legal(tmp_path / "a.fits", made)


@given(st.lists(st.text(st.characters(max_codepoint=255), max_size=80), max_size=8))
def test_any_bytes_in_a_header(cards):
    self_made = [f"{card[:8].replace('=', 'E'):8}= {card[8:]}" for card in cards]
    for given_cards in (cards, self_made):
        for header in (calibrated(*given_cards), master(given_cards, given_cards)):
            hdu = fits.PrimaryHDU(np.zeros(SHAPE, "u1"), header)
            hdu.verify("exception")
            assert header.tostring().isascii()
            assert header.tostring().isprintable()


def test_calibrated_keeps_what_the_frame_says():
    header = calibrated(
        "OBJECT  = 'M 31'               / target",
        "AIRMASS = 1.2",
        "HIERARCH ESO DET ID = 'CCD'",
        "HISTORY flat-fielded never",
        "COMMENT a comment",
        "BZERO   = 32768",
        "BSCALE  = 1",
        "O_BZERO = 32768",
        "BLANK   = 0",
        "DATASUM = '17'",
        "BUNIT   = 'counts'",
        trim=None,
    )
    assert header["OBJECT"] == "M 31"
    assert header.comments["OBJECT"] == "target"
    assert header["AIRMASS"] == 1.2
    assert header["ESO DET ID"] == "CCD"
    assert list(header["HISTORY"]) == ["flat-fielded never"]
    assert list(header["COMMENT"]) == ["a comment"]
    assert header["BUNIT"] == "adu"
    assert not {"BZERO", "BSCALE", "O_BZERO", "BLANK", "DATASUM"} & set(header)


def test_what_fits_does_not_allow_is_quoted():
    header = calibrated(
        "DATE    = 'yesterday' / no date", "NOTHING =", "DOUBLE  = 1", "DOUBLE  = 2"
    )
    assert list(header["COMMENT"]) == ["DATE = yesterday / no date", "NOTHING =", "DOUBLE = 2"]
    assert header["DOUBLE"] == 1
    assert "DATE" not in header


def test_unparsable_values_are_kept_as_text():
    header = calibrated("EXPTIME =              3,2E-05", "RA      = 12:30:15.2")
    assert header["EXPTIME"] == "3,2E-05"
    assert header["RA"] == "12:30:15.2"


@pytest.mark.parametrize(
    ("given_date", "kept"),
    [
        ("2026-11-23", "2026-11-23"),
        ("2026-11-23T01:02:03", "2026-11-23T01:02:03"),
        ("2026-11-23T01:02:03.123456789", "2026-11-23T01:02:03.123456789"),
        ("2016-12-31T23:59:60", "2016-12-31T23:59:60"),
        ("2026-11-23T01:02:03Z", "2026-11-23T01:02:03"),
        ("2017-12-19T18:33:43.317-0700", "2017-12-20T01:33:43.317000"),
        ("2002/05/21", "2002-05-21"),
        ("2002/06/06 23:03:55.204", "2002-06-06T23:03:55.204"),
        ("19/05/94", "1994-05-19"),
        ("2026-13-01", None),
        ("2026-02-30", None),
        ("01/01/30, 02:58", None),
        ("2001-01-20T5:33:58", None),
    ],
)
def test_dates(given_date, kept):
    assert calibrated(f"DATE-OBS= '{given_date}'").get("DATE-OBS") == kept


def test_reserved_keywords_get_their_type():
    header = calibrated(
        "TELESCOP= 12",
        "EPOCH   = '2000.0'",
        "CRPIX1  = '512.5'",
        "MJD-OBS = '59000.5'",
        "RADESYS = 'icrs'",
        trim=None,
    )
    assert header["TELESCOP"] == "12"
    assert header["EQUINOX"] == 2000.0
    assert header["CRPIX1"] == 512.5
    assert header["MJD-OBS"] == 59000.5
    assert header["RADESYS"] == "ICRS"


def test_number_of_axes_comes_before_the_axes():
    assert next(iter(calibrated(*SKY, "WCSAXES = 2", trim=None))) == "WCSAXES"


def test_long_strings_of_inputs_go_on():
    text = "d" * 150
    header = calibrated(
        f"LONGSTR = '{text[:67]}&'", f"CONTINUE  '{text[67:134]}&'", f"CONTINUE  '{text[134:]}'"
    )
    assert header["LONGSTR"] == text
    assert header["LONGSTRN"] == "OGIP 1.0"
    assert "LONGSTRN" not in calibrated("SHORT   = 'x'")


SKY = [
    "CTYPE1  = 'RA---TAN'",
    "CTYPE2  = 'DEC--TAN'",
    "CRVAL1  = 150.5",
    "CRVAL2  = -1.25",
    "CRPIX1  = 31.5",
    "CRPIX2  = 40.25",
    "CD1_1   = 0.0001",
    "CD1_2   = 0.00002",
    "CD2_1   = -0.00002",
    "CD2_2   = 0.0001",
    "CTYPE1A = 'LINEAR'",
    "CTYPE2A = 'LINEAR'",
    "CRPIX1A = 10.0",
    "CRPIX2A = 20.0",
    "CRVAL1A = 0.0",
    "CRVAL2A = 0.0",
]


def test_a_trimmed_pixel_stays_at_its_place_in_the_sky():
    raw = WCS(calibrated(*SKY, trim=None))
    trimmed = WCS(calibrated(*SKY))
    there = raw.pixel_to_world(20.5, 33.25)
    here = trimmed.pixel_to_world(20.5 - TRIM.x0, 33.25 - TRIM.y0)
    assert there.separation(here).arcsec < 1e-8
    assert calibrated(*SKY)["CRPIX1A"] == 5.0
    assert calibrated(*SKY)["CRPIX2A"] == 17.0


def test_a_trim_moves_sections():
    header = calibrated(
        "DATASEC = '[6:53,1:63]'",
        "TRIMSEC = '[6:53,4:63]'",
        "BIASSEC = '[54:61,1:70]'",
        "CCDSEC  = '[1:48,1:63]'",
        "CCDSIZE = '[1:2048,1:4096]'",
        "HIERARCH ESO DET OUT1 OVSCX = 8",
        "HIERARCH ESO DET OUT1 PRSCY = 3",
        "HIERARCH ESO DET OUT1 NX = 48",
    )
    assert header["DATASEC"] == "[1:48,1:60]"
    assert header["CCDSIZE"] == "[1:2048,1:4096]"
    assert header["ESO DET OUT1 NX"] == 48
    gone = {"TRIMSEC", "BIASSEC", "CCDSEC", "ESO DET OUT1 OVSCX", "ESO DET OUT1 PRSCY"}
    assert not gone & set(header)
    assert (header["LTV1"], header["LTV2"]) == (-5.0, -3.0)
    assert (header["LTM1_1"], header["LTM2_2"]) == (1.0, 1.0)


def test_sections_of_the_detector_hold_where_just_the_data_are_kept():
    header = calibrated("DATASEC = '[6:53,4:63]'", "CCDSEC  = '[1:48,1:60]'")
    assert header["CCDSEC"] == "[1:48,1:60]"
    assert header["DATASEC"] == "[1:48,1:60]"


def test_an_earlier_trim_is_added_to():
    header = calibrated("LTV1    = -10.0", "LTM1_1  = 0.5")
    assert header["LTV1"] == -15.0
    assert header["LTM1_1"] == 0.5
    assert header["LTV2"] == -3.0


def test_without_a_trim_sections_stay():
    header = calibrated("BIASSEC = '[54:61,1:70]'", "CRPIX1  = 31.5", trim=None)
    assert header["BIASSEC"] == "[54:61,1:70]"
    assert header["CRPIX1"] == 31.5
    assert "LTV1" not in header


def test_master_keeps_what_all_inputs_share():
    base = ["INSTRUME= 'CAM' / camera", "GAIN    = 1.5", "FILTER  = 'V'", "XBINNING= 2"]
    inputs = [
        [*base, "CCD-TEMP= -20.0", "FLAG    = T", "MISSING = 1", "NAN     = NaN"],
        [*base, "CCD-TEMP= -20.1", "FLAG    = 1", "NAN     = NaN"],
        [*base, "CCD-TEMP= -20.0", "FLAG    = T", "MISSING = 1", "NAN     = NaN"],
    ]
    header = master(*inputs)
    assert list(header) == ["INSTRUME", "GAIN", "FILTER", "XBINNING", "NAN"]
    assert header.comments["INSTRUME"] == "camera"
    assert list(master(*inputs[::2]))[4:7] == ["CCD-TEMP", "FLAG", "MISSING"]


@pytest.mark.parametrize(
    "card",
    [
        *SKY,
        *("LTV1    = 1.0", "LTM1_1  = 1.0", "A_ORDER = 3", "B_2_0   = 1E-7", "PV1_1   = 1.0"),
        *("WCSAXES = 2", "EQUINOX = 2000.0", "RADESYS = 'FK5'", "PC1_1   = 1.0", "CDELT1  = 1.0"),
        *("RA      = '10:00:00'", "DEC     = 1.0", "OBJCTRA = '10 00 00'", "AIRMASS = 1.0"),
        *(
            "HA      = 1.0",
            "ALT     = 45.0",
            "AZ      = 1.0",
            "OBJCTALT= '45'",
            "ST      = '1:2:3'",
        ),
        *("HIERARCH ESO TEL AIRM START = 1.1", "HIERARCH ESO TEL ALT = 60.0"),
        *("BZERO   = 32768", "BSCALE  = 1", "BLANK   = 0", "O_BZERO = 32768", "BUNIT   = 'adu'"),
        *("CHECKSUM= 'abc'", "DATASUM = '1'", "ZCMPTYPE= 'RICE_1'", "ZTILE1  = 3", "NAXIS1  = 3"),
        *("HISTORY x", "COMMENT x", "NCOMBINE= 3", "IMCMB001= 'x'", "DATE-OBS= '2020-01-01'"),
        *("EXTNAME = 'IM1'", "TFORM1  = 'B'", "FZALGOR = 'x'", "MFTOKEN = 'x'", "SIGLOW  = 3.0"),
    ],
)
def test_master_drops(card):
    assert list(master([card, "CHANNEL = 1"], [card, "CHANNEL = 1"])) == ["CHANNEL"]


SECTIONS = (
    *("BIASSEC = '[54:61,1:70]'", "TRIMSEC = '[6:53,4:63]'", "DATASEC = '[6:53,4:63]'"),
    *("CCDSEC  = '[49:96,1:60]'", "DETSEC  = '[145:192,61:120]'"),
    *("HIERARCH ESO DET OUT1 OVSCX = 8", "CHANNEL = 1"),
)


def test_sections_of_a_master_are_those_of_its_inputs_as_long_as_nothing_is_trimmed():
    made = master(SECTIONS, SECTIONS)
    assert [made[card[:8]] for card in SECTIONS[:5]] == [card[11:-1] for card in SECTIONS[:5]]
    assert made["ESO DET OUT1 OVSCX"] == 8
    other = (SECTIONS[0], "DETSEC  = '[1:48,1:60]'", "CHANNEL = 1")
    assert list(master(SECTIONS, other)) == ["BIASSEC", "CHANNEL"]


def test_sections_of_a_trimmed_master_are_those_of_the_part_that_was_kept():
    made = master(SECTIONS, SECTIONS, trim=TRIM)
    assert dict(made) == {
        "DATASEC": "[1:48,1:60]",
        "CCDSEC": "[49:96,1:60]",
        "DETSEC": "[145:192,61:120]",
        "CHANNEL": 1,
    }
    less = master(SECTIONS, SECTIONS, trim=Section(3, 63, 15, 53))
    assert dict(less) == {"DATASEC": "[1:38,1:60]", "CHANNEL": 1}


@pytest.mark.parametrize(
    "key", ["CHANNEL", "RATE", "READMODE", "RAWFILE", "TEMP", "OBJECT", "DECKER", "ELECTRON"]
)
def test_master_keeps_cards_whose_names_only_look_like_coordinates(key):
    assert key in master([f"{key:8}= 1"], [f"{key:8}= 1"])


FACTS = MasterFacts(
    inputs=(
        InputFacts("a.fits", 10.0, "2026-11-23T01:00:00"),
        InputFacts("Nächte.fits", 20.0, "2026-11-22T23:00:00.500"),
        InputFacts("c.fits", 40.0, "2026-11-23T02:00:00Z"),
    ),
    recipe=Recipe(),
    kind="dark",
    bias_subtracted=True,
    uncertainty="empirical",
    token="0" * 40,
    version="0.1.0",
    created="2026-11-24T12:00:00.123456",
    history=("made of 3 frames", "by a test"),
)


def values(cards):
    return {key: value for key, (value, _) in cards.items()}


def test_master_cards():
    cards = values(headers.master_cards(FACTS))
    assert cards["ISMASTER"] is True
    assert cards["NCOMBINE"] == 3
    assert [cards[f"IMCMB00{n}"] for n in (1, 2, 3)] == ["a.fits", "Nächte.fits", "c.fits"]
    assert cards["TOTEXP"] == 70.0
    assert cards["EXPTIME"] == pytest.approx(70 / 3)
    assert cards["DATE-OBS"] == cards["DATE-BEG"] == "2026-11-22T23:00:00.500"
    assert cards["DATE-END"] == "2026-11-23T02:00:40.000"
    # mid-times: 01:00:05, 23:00:10.5 of the day before, 02:00:20
    assert cards["DATE-AVG"] == "2026-11-23T00:40:11.833"
    assert cards["DATE"] == "2026-11-24T12:00:00"
    assert cards["BUNIT"] == "adu"
    assert cards["BIASSUB"] is True
    assert cards["HISTORY"] == "made of 3 frames\nby a test"


def test_times_are_those_of_the_values_kept():
    cards = values(headers.master_cards(FACTS, kept=[300, 0, 100]))
    assert cards["NCOMBINE"] == 2
    assert cards["EXPTIME"] == pytest.approx((300 * 10 + 100 * 40) / 400)
    assert cards["TOTEXP"] == 50.0
    assert cards["DATE-OBS"] == "2026-11-23T01:00:00.000"
    assert "HISTORY" not in cards


def test_exposure_of_equal_frames_is_exact():
    inputs = tuple(InputFacts(f"{n}.fits", 0.1) for n in range(7))
    cards = values(headers.master_cards(replace(FACTS, inputs=inputs), kept=[3, 1, 4, 1, 5, 9, 2]))
    assert cards["EXPTIME"] == 0.1
    assert cards["DATE-OBS"] is None


def test_exposure_of_a_sum_is_the_total():
    cards = values(headers.master_cards(replace(FACTS, recipe=Recipe(estimator="sum"))))
    assert cards["EXPTIME"] == cards["TOTEXP"] == 70.0


def test_unknown_exposure_is_not_guessed():
    inputs = (*FACTS.inputs, InputFacts("d.fits", None, "no date"))
    cards = values(headers.master_cards(replace(FACTS, inputs=inputs)))
    assert cards["EXPTIME"] is None
    assert cards["DATE-END"] == "2026-11-23T02:00:40.000"


def test_nothing_kept():
    cards = values(headers.master_cards(FACTS, kept=[0, 0, 0]))
    assert cards["NCOMBINE"] == 0
    header = legal.with_cards([], headers.master_cards(FACTS))
    assert shown(header)["EXPTIME"] == 70 / 3
    header = legal.with_cards(header, headers.master_cards(FACTS, kept=[0, 0, 0]))
    assert not {"EXPTIME", "DATE-OBS"} & set(shown(header))
    assert cards["EXPTIME"] is None


@pytest.mark.parametrize(
    ("rejection", "expected"),
    [
        (Rejection("none"), {"REJTYPE": "none"}),
        (Rejection("threshold", 10, None), {"THRLOW": 10, "THRHIGH": "off"}),
        (
            Rejection("percentile", 0.25, math.inf, nkeep=2),
            {"FRACLOW": 0.25, "FRACHIGH": "off", "NKEEP": 2, "REJGROW": 0.0},
        ),
        (
            Rejection("pclip", 3, 4, pclip=-0.5, grow=1.5),
            {"SIGLOW": 3, "SIGHIGH": 4, "PCLIP": -0.5, "REJGROW": 1.5},
        ),
        (Rejection("gesd", fraction=0.2, alpha=0.01), {"MAXFRAC": 0.2, "REJALPHA": 0.01}),
        (
            Rejection("ccd", snoise=0.02, center="inner-mean"),
            {"SNOISE": 0.02, "REJCENT": "inner-mean", "NITER": "all"},
        ),
        (Rejection(mad_correction=True), {"MADCORR": True, "SIGLOW": 5.0}),
        (Rejection("minmax", nlow=1, nhigh=2), {"NLOW": 1, "NHIGH": 2, "NKEEP": 1}),
        (
            Rejection("sigma", 3, 4, max_iters="all", deviation="std", ddof=1),
            {"SIGLOW": 3, "SIGHIGH": 4, "NITER": "all", "REJDEV": "std", "REJDDOF": 1},
        ),
    ],
)
def test_rejection_cards(rejection, expected):
    recipe = Recipe(rejection, noise=Noise(0.7413))
    cards = values(headers.master_cards(replace(FACTS, recipe=recipe)))
    assert expected.items() <= cards.items()
    assert ("SIGLOW" in cards) is (rejection.rule in {"sigma", "pclip", "ccd"})
    assert cards.get("NFLOOR") == (None if rejection.rule == "none" else 0.7413)


@pytest.mark.parametrize("estimator", get_args(Estimator))
def test_the_estimator_has_its_cards(estimator):
    recipe = Recipe(estimator=estimator, trim=0.125)
    cards = values(headers.master_cards(replace(FACTS, recipe=recipe)))
    assert cards["COMBTYPE"] == estimator
    assert cards["TRIMFRAC"] == (0.125 if estimator == "trimmed" else None)


@pytest.mark.system
def test_every_rule_and_estimator_has_legal_cards_that_no_master_hands_on(tmp_path):
    made = {}
    for number, rule in enumerate(RULES):
        recipe = Recipe(resolve_rejection(Rejection(rule)), estimator="trimmed")
        header = legal.with_cards([], headers.master_cards(replace(FACTS, recipe=recipe)))
        made[f"RULE{number}" if number else ""] = header
        raw = [header_text([card]).rstrip() for card in header if card.keyword != "HISTORY"]
        assert {card.keyword for card in header} >= {"REJTYPE", "TRIMFRAC", "COMBTYPE"}
        assert {*master(raw, raw)} <= {"EXPTIME"}
    check_legal(tmp_path / "a.fits", made)


def test_planes_have_units_and_names_that_tell_them():
    for plane, unit in (("uncert", "adu"), ("propagated", "adu"), ("exposure", "s")):
        assert shown(headers.plane_header(plane, "adu"))["BUNIT"] == unit
    assert shown(headers.plane_header("propagated", "adu"))["UTYPE"] == "StdDevUncertainty"
    names = masters.hdu_names("AMP1", ("data", "rejlow", "rejhigh", "exposure", "propagated"))
    assert list(names.values()) == [
        "AMP1",
        "AMP1_REJLOW",
        "AMP1_REJHIGH",
        "AMP1_EXPOSURE",
        "AMP1_PROPERR",
    ]


@pytest.mark.system
def test_cards_of_a_thousand_inputs_are_legal(tmp_path):
    inputs = tuple(InputFacts(f"raw_{n}.fits", 1.0, "2026-11-23") for n in range(1203))
    facts = replace(FACTS, inputs=inputs)
    header = legal.with_cards([], headers.master_cards(facts))
    header = legal.with_cards(header, headers.master_cards(facts, kept=[1] * 1203))
    assert shown(header)["IMCMB999"] == "raw_998.fits"
    assert shown(header)["NCOMBINE"] == 1203
    assert len(shown(header)["HISTORY"]) == 2
    made = {"": header}
    for plane in ("uncert", "propagated", "mask", "count", "rejlow", "rejhigh", "exposure"):
        made[plane.upper()] = headers.plane_header(plane, "adu")
    check_legal(tmp_path / "a.fits", made)


@given(st.text(max_size=100), st.integers(1, 90))
def test_strings_fit_into_one_card(text, width):
    card = legal.safe_card("KEY", text, text)
    written = header_text([card])
    assert len(written) == 80
    assert fits.Card.fromstring(written).value == card.value
    long = legal.safe_card("ESO " + "K" * width, text, text)
    assert long is None or len(header_text([long])) == 80
    assert (long is None) is (width > 80 - len("HIERARCH ESO  = ''") - 20)


@given(st.one_of(st.integers(), st.floats(), st.booleans(), st.none(), st.binary(max_size=9)))
def test_any_value(value):
    for key in ("KEY", "A B", "ESO DET WIN1 UIT1"):
        card = legal.safe_card(key, value, "comment " * 10)
        if card is None:
            assert value is None or not np.isfinite(value)
            continue
        written = header_text([card])
        assert len(written) == 80
        back = fits.Card.fromstring(written).value
        if isinstance(value, bool | float | int):
            assert back == value if abs(value) < 2**63 else float(value)
            assert isinstance(back, bool) is isinstance(value, bool)
