import numpy as np
import pytest
from astropy.io import fits

from masterframe.config import load_config, load_instrument, presets
from masterframe.errors import ConfigError
from masterframe.inventory import scan_night
from masterframe.inventory.describe import detect
from masterframe.matching import FIELDS
from support import ROOT
from tiny import exposure, write

SHIPPED = sorted(path.stem for path in (ROOT / "src" / "masterframe" / "presets").glob("*.yaml"))


def test_presets_are_the_files_that_are_shipped():
    assert sorted(presets()) == SHIPPED
    assert presets()[-1] == "generic"


@pytest.mark.parametrize("name", SHIPPED)
def test_preset_loads_and_is_complete(name):
    one = load_instrument(name)
    assert one.name == name
    assert one.match
    assert one.kinds
    assert one.notes
    assert {"exptime", "date_obs", "filter", "instrument", "binning_x"} <= set(one.keywords)
    for label in one.label:
        assert label in one.setup or label in one.optics
    keys = {condition.key for rule in one.kinds for condition in rule.when}
    assert keys
    assert all(key in FIELDS or key == key.upper() for key in keys)


@pytest.mark.parametrize(
    ("name", "camera"),
    [
        ("efosc2", "EFOSC"),
        ("st402", "SBIG ST-402 CCD Camera"),
        ("generic", "anything"),
        ("generic", ""),
    ],
)
def test_camera_is_recognised_by_its_header(name, camera):
    found = detect(load_config().instruments, exposure("bias", header={"INSTRUME": camera}))
    assert found is not None
    assert found.name == name


def test_unknown_instrument_names_the_nearest():
    with pytest.raises(ConfigError, match="instrument st420 is unknown: did you mean st402"):
        load_instrument("st420")


def test_words_of_a_preset_go_before_those_of_its_base(tmp_path):
    (tmp_path / "mine.yaml").write_text(
        "base: generic\n"
        "match: [{INSTRUME: mine}]\n"
        "keywords: {gain: GAIN, exptime: {key: MSEC, factor: 1.0e-3}}\n"
        "setup: {mode: MODE}\n"
        "label: [mode]\n"
        "kinds: [{kind: dark, when: {SHUTTER: closed}, technique: image}]\n"
        "sections: [{when: {MODE: fast}, overscan: '[33:36,1:24]'}]\n"
        "hdu: [0]\n"
    )
    (tmp_path / "n.yaml").write_text("instrument: [mine.yaml, auto]\n")
    config = load_config(tmp_path / "n.yaml")
    path = write(
        tmp_path / "a.fits",
        INSTRUME="mine",
        SHUTTER="closed",
        MSEC=1500,
        GAIN=1.7,
        MODE="fast",
    )
    ((found,), problems) = scan_night([path], config)
    assert problems == ()
    assert (found.kind, found.certain, found.exptime, found.technique) == (
        "dark",
        True,
        1.5,
        "image",
    )
    assert found.images[0].gain == 1.7
    assert found.images[0].overscan.to_fits() == "[33:36,1:24]"
    assert ("mode", "fast") in found.setup
    assert found.label == "bin1x1_fast"


def test_headers_of_other_files_fit_no_single_camera_that_was_asked_for(tmp_path):
    """Two cameras are named and neither matches: the file is refused, not read by a guess."""
    (tmp_path / "n.yaml").write_text("instrument: [efosc2, st402]\n")
    path = write(tmp_path / "a.fits", INSTRUME="other", IMAGETYP="BIAS")
    exposures, (problem,) = scan_night([path], load_config(tmp_path / "n.yaml"))
    assert exposures == ()
    assert problem.reason == "none of the configured instruments matches its header"


HEADERS = {
    "aat": {"TELESCOP": "Anglo-Australian Telescope", "NDFCLASS": "MFFFF", "EXPOSED": 7.0,
            "RO_GAIN": 3.01, "RO_NOISE": 4.36, "UTDATE": "2014:01:19", "UTSTART": "11:45:20"},
    "efosc2": {"INSTRUME": "EFOSC", "ESO DPR TYPE": "SKY,FLAT", "ESO DPR TECH": "IMAGE",
               "EXPTIME": 7.0, "ESO DET OUT1 CONAD": 1.1, "ESO DET OUT1 RON": 7.8,
               "ESO DET OUT1 GAIN": 0.91, "DATE-OBS": "2014-01-19T11:45:20"},
    "eso": {"TELESCOP": "ESO-NTT", "OBJECT": "SKY,FLAT", "EXPTIME": 7.0, "DATE-OBS": "2014-01-19",
            "TM-START": 42320.0, "UTC": 42000.0, "ESO DET OUT1 CONAD": 2.03,
            "ESO DET OUT1 GAIN": 0.49, "ESO DET OUT1 RON": 3.9},
    "hst": {"TELESCOP": "HST", "INSTRUME": "STIS", "OBSTYPE": "SPECTROSCOPIC", "SCLAMP": "TUNGSTEN",
            "TARGNAME": "CCDFLAT", "TEXPTIME": 7.0, "TDATEOBS": "2014-01-19",
            "TTIMEOBS": "11:45:20", "ATODGAIN": 4.08, "READNSE": 7.5, "CCDGAIN": 4},
    "lco": {"ORIGIN": "LCOGT", "OBSTYPE": "LAMPFLAT", "EXPTIME": 7.0, "GAIN": 2.3, "RDNOISE": 3.5,
            "DATE-OBS": "2014-01-19T11:45:20", "BIASSEC": "UNKNOWN", "SATURATE": 38400.0},
    "lsst": {"INSTRUME": "lsstCam", "IMGTYPE": "FLAT", "TESTTYPE": "BIAS", "EXPTIME": 7.0,
             "CCDGAIN": 3.85, "DATE-OBS": "2014-01-19T11:45:20", "CCDTEMP": -100.5},
    "lt": {"TELESCOP": "Liverpool Telescope", "OBSTYPE": "LAMP-FLAT", "GRATPOS": "IN",
           "EXPTIME": 7.0, "GAIN": 2.45, "CCDATEMP": 213.671, "DATE-OBS": "2014-01-19T11:45:20"},
    "megaprime": {"INSTRUME": "MegaPrime", "EXPTYPE": "FLAT", "EXPTIME": 7.0, "GAIN": 1.62,
                  "RDNOISE": 4, "DETTEM": -133.13, "TEMPERAT": 0.9, "DATE-OBS": "2014-01-19",
                  "UTC-OBS": "11:45:20", "BIASSEC": "[0:0,0:0]"},
    "microobservatory": {"CREATOR": "MicroObservatory2014-05-23", "OBJECT": "FLAT", "EXPTIME": 7.0,
                         "CAMTEMP": 271.0, "DATE-OBS": "2014-01-19T04:45:20-0700"},
    "sdss": {"ORIGIN": "SDSS", "CAMCOL": 4, "FLAVOR": "flat", "EXPTIME": "7.0",
             "SOFTBIAS": 1000, "DATE-OBS": "2014-01-19T11:45:20"},
    "solar": {"TELESCOP": "HINODE", "CTYPE1": "Solar-X", "IMTYPE": "FLAT", "CMD_EXPT": 7000,
              "CCD_TMPC": -69.7, "DATE_OBS": "2014-01-19T11:45:20"},
    "st402": {"INSTRUME": "SBIG ST-402 CCD Camera", "IMAGETYP": "Flat Field", "EXPTIME": 7.0,
              "EGAIN": 1.49, "DATE-OBS": "2014-01-19T11:45:20"},
    "st7": {"INSTRUME": "SBIG ST-7/7E/7XE", "CCDSFPT": 4, "EXPOSURE": 7.0, "E-GAIN": 2.3,
            "DATE-OBS": "2014-01-19", "TIME-OBS": "11:45:20"},
    "subaru": {"TELESCOP": "Subaru", "DATA-TYP": "DOMEFLAT", "EXPTIME": 7.0, "GAIN": 3.0,
               "DET-TMP": 166.26, "DATE-OBS": "2014-01-19", "UT": "11:45:20"},
    "zwo": {"INSTRUME": "ZWO ASI294MC Pro", "IMAGETYP": "FLAT", "EXPOINUS": 7000000, "GAIN": 120,
            "EGAIN": 1.0022, "BAYERPAT": "RGGB", "DATE-OBS": "2014-01-19T11:45:20"},
}  # fmt: skip
"""A flat of 7 s from each camera, begun at the same time, as its header would say it."""

FACTS = {  # gain, read noise, temperature, light, technique
    "aat": (3.01, 4.36, None, "lamp", "spectrum"),
    "efosc2": (1.1, 7.8, None, "sky", "image"),
    "eso": (2.03, 3.9, None, "sky", ""),
    "hst": (4.08, 7.5, None, "lamp", ""),
    "lco": (2.3, 3.5, None, "lamp", "spectrum"),
    "lsst": (None, None, -100.5, "", ""),
    "lt": (2.45, None, 213.671 - 273.15, "lamp", "spectrum"),
    "megaprime": (1.62, 4.0, -133.13, "", ""),
    "microobservatory": (None, None, -2.15, "", ""),
    "sdss": (None, None, None, "", ""),
    "solar": (None, None, -69.7, "", ""),
    "st402": (1.49, None, None, "", ""),
    "st7": (2.3, None, None, "", ""),
    "subaru": (3.0, None, 166.26 - 273.15, "dome", ""),
    "zwo": (1.0022, None, None, "", ""),
}


def camera_frame(folder, cards):
    hdu = fits.PrimaryHDU(np.random.default_rng(1).integers(9, 99, (24, 36), np.uint16))
    for key, value in cards.items():
        hdu.header[f"HIERARCH {key}" if " " in key else key] = value
    hdu.writeto(folder / "frame_01.fits")
    return folder / "frame_01.fits"


def test_every_preset_has_its_facts_tested():
    assert set(HEADERS) == set(FACTS) == set(SHIPPED) - {"generic"}


@pytest.mark.parametrize("name", HEADERS)
def test_a_flat_of_each_camera_is_read_by_its_preset(name, tmp_path):
    ((found,), problems) = scan_night([camera_frame(tmp_path, HEADERS[name])], load_config())
    assert problems == ()
    (image,) = found.images
    assert (found.preset, found.kind, found.certain) == (name, "flat", True)
    assert (found.exptime, found.date_obs) == (7.0, "2014-01-19T11:45:20")
    gain, read_noise, temperature, light, technique = FACTS[name]
    assert (image.gain, image.read_noise) == (gain, read_noise)
    assert found.temperature == pytest.approx(temperature)
    assert (found.light, found.technique) == (light, technique)


@pytest.mark.parametrize(
    ("name", "cards", "kind", "certain"),
    [
        ("eso", {"ESO DPR TYPE": "DARK", "EXPTIME": 0.0}, "bias", True),
        ("eso", {"OBJECT": "BIAS", "EXPTIME": 0.0}, "bias", True),
        ("eso", {"OBJECT": "WAVE"}, "arc", True),
        ("eso", {"ESO DPR CATG": "ACQUISITION", "ESO DPR TYPE": "OBJECT"}, "other", False),
        ("eso", {"ESO DPR TYPE": "BIAS", "ESO PRO CATG": "MASTER_BIAS"}, "other", True),
        ("hst", {"TARGNAME": "BIAS", "SCLAMP": "NONE"}, "bias", True),
        ("hst", {"TARGNAME": "DARK", "SCLAMP": "NONE"}, "dark", True),
        ("hst", {"TARGNAME": "HD 1", "SCLAMP": "NONE", "IMAGETYP": "EXT"}, "science", True),
        ("hst", {"TARGNAME": "HD 1", "SCLAMP": "NONE"}, "science", True),
        ("lco", {"OBSTYPE": "SPECTRUM"}, "science", True),
        ("lco", {"OBSTYPE": "BIAS", "EXPTIME": 0.0}, "bias", True),
        ("lsst", {"IMGTYPE": "BIAS", "TESTTYPE": "FLAT", "EXPTIME": 0.0}, "bias", True),
        ("lsst", {"IMGTYPE": "SKYEXP"}, "science", True),
        ("lsst", {"IMGTYPE": "CWFS"}, "focus", True),
        ("lsst", {"IMGTYPE": "FE55"}, "other", True),
        ("lsst", {"IMGTYPE": "UNKNOWN"}, None, False),
        ("lt", {"OBSTYPE": "EXPOSE"}, "science", True),
        ("megaprime", {"EXPTYPE": "OBJECT"}, "science", True),
        ("microobservatory", {"OBJECT": "DARK"}, "dark", True),
        ("microobservatory", {"OBJECT": "M-51"}, "science", False),
        ("solar", {"IMTYPE": "DARK"}, "dark", True),
        ("solar", {"IMTYPE": ""}, "science", False),
        ("st402", {"IMAGETYP": "Light Frame"}, "science", False),
        ("st7", {"CCDSFPT": 2, "EXPOSURE": 0.0}, "bias", True),
        ("subaru", {"DATA-TYP": "BIAS", "EXPTIME": 0.0}, "bias", True),
        ("subaru", {"DATA-TYP": "COMPARISON"}, "arc", True),
        ("zwo", {"IMAGETYP": "LIGHT"}, "science", False),
        ("zwo", {"IMAGETYP": "", "EXPOINUS": 32}, "bias", False),
        ("zwo", {"IMAGETYP": "DARKFLAT"}, "dark", True),
        ("aat", {"NDFCLASS": "MFOBJECT"}, "science", True),
        ("aat", {"NDFCLASS": "MFARC"}, "arc", True),
    ],
)
def test_other_frames_of_these_cameras_are_told_apart(name, cards, kind, certain, tmp_path):
    path = camera_frame(tmp_path, {**HEADERS[name], **cards})
    ((found,), problems) = scan_night([path], load_config())
    assert (found.preset, found.kind, found.certain) == (name, kind, certain)
    assert len(problems) == (kind is None)
