"""What headers of many cameras tell beside the kind: times, gains, filters, sections."""

import pytest
import yaml

from cameras import scanned
from support import ROOT

CAMERAS = yaml.safe_load((ROOT / "tests" / "camera_fields.yaml").read_text())
OF_IMAGES = ("gain", "read_noise", "trim", "overscan")
GUESSED = 0.2
"""At most this fraction of the frames is typed with doubt: many tell it by OBJECT alone."""
DOUBTFUL = {
    "dome_V": "flat",
    "V flat": "flat",
    "FLATV1": "flat",
    "twilight r": "flat",
    "eve_flat_g": "flat",
    "quartz": "flat",
    "FlatWizard": "flat",
    "dark 60s": "dark",
    "dark_300": "dark",
    "bias0001": "bias",
    "He-Ar": "arc",
    "CuAr 5s": "arc",
}
"""Objects of an open shutter that are none of the sky."""


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    """Camera, true kind and exposure of each frame."""
    told = [
        (camera, kind, one["cards"] | cards)
        for camera, one in CAMERAS.items()
        for kind, cards in one["frames"]
    ]
    exposures = scanned(tmp_path_factory.mktemp("frames"), [cards for *_, cards in told])
    return [(camera, kind, item) for (camera, kind, _), item in zip(told, exposures, strict=True)]


def test_kinds_are_right_and_mostly_certain(frames):
    wrong = [(camera, kind, item.rule) for camera, kind, item in frames if item.kind != kind]
    assert wrong == []
    doubtful = [(camera, item.rule) for camera, _, item in frames if not item.certain]
    assert len(doubtful) <= GUESSED * len(frames), doubtful


@pytest.mark.parametrize("camera", [name for name, one in CAMERAS.items() if "fields" in one])
def test_what_the_header_tells_is_found(frames, camera):
    for name, wanted in CAMERAS[camera]["fields"].items():
        for item in (one for own, _, one in frames if own == camera):
            found = getattr(item.images[0] if name in OF_IMAGES else item, name)
            if name in ("trim", "overscan"):
                found = found.to_fits()
            if name == "binning":
                found = "{1}x{0}".format(*found)
            assert found == (pytest.approx(wanted) if isinstance(wanted, float) else wanted), name


@pytest.mark.parametrize("word", ["OBJECT", "Light Frame"])
def test_an_open_shutter_on_no_star_is_a_guess(word, tmp_path):
    cards = {"DATE-OBS": "2026-01-02T03:04:05", "EXPTIME": 10.0, "IMAGETYP": word}
    for item in scanned(tmp_path, [cards | {"OBJECT": name} for name in DOUBTFUL]):
        assert (item.kind, item.certain) == (DOUBTFUL[item.object], False)


@pytest.mark.parametrize(
    "word",
    [
        *("dark sky", "dark-corrected light", "zero-order image", "debiased object"),
        *("flat-fielded", "light with flat correction", "Bias corrected", "LAMP"),
    ],
)
def test_words_that_only_hold_the_name_of_a_kind_do_not_tell_it(word, tmp_path):
    cards = {"DATE-OBS": "2026-01-02T03:04:05", "EXPTIME": 10.0, "IMAGETYP": word}
    (item,) = scanned(tmp_path, [cards])
    assert not item.certain


def test_an_object_that_was_exposed_for_no_time_is_a_guess(tmp_path):
    (item,) = scanned(tmp_path, [{"IMAGETYP": "object", "OBJECT": "HD 1", "EXPTIME": 0.0}])
    assert (item.kind, item.certain) == ("science", False)


def test_what_one_frame_says_of_itself_is_not_said_of_those_after_it(tmp_path):
    """Only CCDSoft says once for a series what it did; its rule marked frames of all cameras."""
    cards = {"DATE-OBS": "2026-01-02T03:04:05", "EXPTIME": 10.0, "IMAGETYP": "Light Frame"}
    first, second = scanned(tmp_path, [cards | {"CALSTAT": "BD", "OBJECT": "a"}, cards])
    assert set(first.applied) == {"bias", "dark"}
    assert (second.applied, second.notes) == ((), ())


@pytest.mark.parametrize("word", ["UNKNOWN", "undefined", "None", "n/a"])
def test_a_word_for_what_is_not_known_leaves_it_to_what_else_is_told(word, tmp_path):
    cards = {"DATE-OBS": "2026-01-02T03:04:05", "EXPTIME": 10.0, "IMAGETYP": word}
    flat, nothing = scanned(tmp_path, [cards | {"OBJECT": "dome flat"}, cards])
    assert (flat.kind, flat.certain, nothing.kind) == ("flat", False, None)
