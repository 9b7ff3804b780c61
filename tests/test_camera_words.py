"""What cameras call their kinds, beside the real headers: typed by generic rules, or a guess."""

import pytest
import yaml

from cameras import scanned
from support import ROOT

CAMERAS = yaml.safe_load((ROOT / "tests" / "camera_words.yaml").read_text())
DATE = {"DATE-OBS": "2026-01-02T03:04:05"}
GUESSED = 0.1
"""At most this fraction of the frames is typed with doubt, or not at all."""


@pytest.fixture(scope="module")
def typed(tmp_path_factory):
    """Camera and true kind of each frame, with what it was taken for and whether with certainty."""
    frames = [
        (camera, kind, DATE | cards) for camera, told in CAMERAS.items() for kind, cards in told
    ]
    exposures = scanned(tmp_path_factory.mktemp("frames"), [cards for *_, cards in frames])
    return [
        (camera, kind, item.kind, item.certain)
        for (camera, kind, _), item in zip(frames, exposures, strict=True)
    ]


def test_no_kind_is_wrong(typed):
    wrong = [one for one in typed if one[2] not in (one[1], None)]
    assert wrong == []


def test_few_are_guesses(typed):
    doubtful = [one for one in typed if one[2] is None or not one[3]]
    assert len(doubtful) <= GUESSED * len(typed), doubtful
