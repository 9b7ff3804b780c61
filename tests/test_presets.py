import pytest

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
