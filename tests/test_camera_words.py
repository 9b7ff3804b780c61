"""What cameras call their kinds, beside the real headers: typed by generic rules, or a guess."""

import numpy as np
import pytest
import yaml
from astropy.io import fits

from masterframe import scan_night
from support import ROOT

CAMERAS = yaml.safe_load((ROOT / "tests" / "camera_words.yaml").read_text())
GUESSED = 0.1
"""At most this fraction of the frames is typed with doubt, or not at all."""


@pytest.fixture(scope="module")
def typed(tmp_path_factory):
    """Camera and true kind of each frame, with what it was taken for and whether with certainty."""
    folder, truth = tmp_path_factory.mktemp("frames"), {}
    for camera, frames in CAMERAS.items():
        for kind, cards in frames:
            path = folder / f"f{len(truth):04}.fits"
            hdu = fits.PrimaryHDU(np.full((16, 16), len(truth), np.uint16))
            hdu.header["DATE-OBS"] = "2026-01-02T03:04:05"
            for key, value in cards.items():
                hdu.header[f"HIERARCH {key}" if " " in key else key] = value
            hdu.writeto(path)
            truth[str(path)] = (camera, kind)
    exposures, _ = scan_night(folder)
    assert len(exposures) == len(truth)
    return [(*truth[item.path], item.kind, item.certain) for item in exposures]


def test_no_kind_is_wrong(typed):
    wrong = [one for one in typed if one[2] not in (one[1], None)]
    assert wrong == []


def test_few_are_guesses(typed):
    doubtful = [one for one in typed if one[2] is None or not one[3]]
    assert len(doubtful) <= GUESSED * len(typed), doubtful
