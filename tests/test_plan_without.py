"""Any one keyword less, of all frames or of one: what a plan loses by it, it says."""

import os
from pathlib import Path

import pytest
from astropy.io import fits

import nights
from masterframe import simulate
from support import shared
from test_plan_explained import CARDS, KINDS

CARD = 80


def blanked(path, target, keyword):
    """Copy the headers of a frame, a keyword of them blank, before pixels of nothing."""
    content = path.read_bytes()
    with fits.open(path) as hdus:
        spans = [hdu.fileinfo() for hdu in hdus]
    start = (f"HIERARCH {keyword}" if " " in keyword else f"{keyword:8}=").encode()
    with target.open("wb") as file:
        for span in spans:
            file.seek(span["hdrLoc"])
            for place in range(span["hdrLoc"], span["datLoc"], CARD):
                card = content[place : place + CARD]
                named = card.startswith(start) and card[len(start) : len(start) + 1] in b" ="
                file.write(b" " * CARD if named else card)
        file.truncate(len(content))
    os.utime(target, ns=(path.stat().st_mtime_ns,) * 2)


def keywords(paths):
    """All keywords of some frames."""
    found = {}
    for path in paths:
        with fits.open(path) as hdus:
            found |= dict.fromkeys(key for hdu in hdus for key in hdu.header)
    return [key for key in found if key not in ("", "COMMENT", "HISTORY", "END")]


def known(image):
    """What is known of an image, but for its name."""
    frame = image.frame
    detector = image.gain, image.read_noise, image.saturation, image.unit, image.bad
    return frame.shape, frame.scaling, image.trim, image.overscans, image.amplifiers, detector


def made(plan):
    """What a plan makes, of what and with what, but for names and words."""
    frames = {
        product.name: tuple(item.path.rpartition("/")[2] for item in product.exposures)
        for product in plan.products
    }
    return [
        (
            (product.kind, frames[product.name], bool(product.blocked)),
            [(use.role, frames[use.product], use.ratio, use.holds_bias) for use in product.uses],
            [(item.filter, item.date_obs[:19]) for item in product.exposures],
            [item.exptime for item in product.exposures if product.kind != "bias"],
            [(item.temperature, item.applied, item.cell) for item in product.exposures],
            [known(image) for item in product.exposures for image in item.images],
        )
        for product in plan.products
    ]


def said(plan):
    """All that a plan says."""
    refused = [problem.reason for problem in (*plan.problems, *plan.left_out)]
    of_products = [[*one.notes, *(use.reason for use in one.uses)] for one in plan.products]
    blocked = [one.blocked for one in plan.products]
    return {*plan.notes, *refused, *blocked, *(words for notes in of_products for words in notes)}


def silent(night, folder, some=lambda _: True):
    """Return the keywords that change what is made of a night without a word of the plan.

    Each is taken from the frames that `some` chooses by their path.
    """
    _, whole = nights.make_plan(night)
    paths = sorted(night.glob("*.fits"))
    found, missed = {}, []
    for keyword in keywords(paths):
        for path in paths:
            blanked(path, folder / path.name, keyword if some(path) else "none")
        _, plan = nights.make_plan(folder)
        found[keyword] = said(plan) - said(whole)
        if made(plan) != made(whole) and not found[keyword]:
            missed.append(keyword)
    return missed, found


@pytest.fixture
def folder(tmp_path):
    found = tmp_path / "n"
    found.mkdir()
    return found


NIGHTS = {
    "one CCD": simulate.Camera((40, 38), 6),
    "amplifiers": simulate.Camera((40, 38), 6, amplifiers=2),
    "mosaic": simulate.Camera((40, 38), 6, extensions=2, amplifiers=2),
}


@pytest.mark.parametrize("camera", NIGHTS.values(), ids=NIGHTS)
def test_no_keyword_of_a_simulated_night_is_missed_silently(camera, tmp_path, folder):
    spec = simulate.NightSpec(
        camera, bias=3, darks={60.0: 3}, flats={"V": 3, "B": 3}, science={"V": 1}, seed=3
    )
    night = simulate.simulate_night(tmp_path / "raw", spec).night
    missed, found = silent(night, folder)
    # where no frame has a BZERO, all of them are off alike, and their bias takes that off
    assert missed == ["BZERO"]
    assert {key for key, words in found.items() if words} >= {
        *("SIMPLE", "BITPIX", "NAXIS", "NAXIS1", "NAXIS2", "IMAGETYP", "EXPTIME", "DATE-OBS"),
        *("INSTRUME", "CCD-TEMP", "FILTER"),
    }
    assert not any(found[key] for key in ("TELESCOP", "TIMESYS", "CTYPE1", "SATURATE"))


@pytest.fixture
def efosc2(tmp_path):
    """The headers of a real night before pixels of nothing."""
    night = tmp_path / "efosc2"
    night.mkdir()
    for path in shared("data/efosc2").glob("*.fits"):
        blanked(path, night / path.name, "none")
    return night


@pytest.mark.parametrize(
    ("kind", "notes"),
    [
        (
            "bias",
            [
                "1 flat product without bias: none was taken with EFOSC",
                "6 science products without bias: none was taken with EFOSC",
                "can be made: 1 flat product without bias and dark, "
                "6 science products without bias and dark",
            ],
        ),
        (
            "flat",
            [
                "6 science products without flat: none was taken with EFOSC",
                "can be made: 1 bias product, 6 science products without dark and flat",
            ],
        ),
        ("science", ["can be made: 1 bias product, 1 flat product without dark"]),
    ],
)
def test_one_kind_less_of_a_real_night_is_said(efosc2, kind, notes):
    _, plan = nights.make_plan(efosc2)
    for product in plan.products:
        for item in product.exposures if product.kind == kind else ():
            Path(item.path).unlink()
    _, less = nights.make_plan(efosc2)
    always = ("without dark: none", "second overscan")
    assert [note for note in less.notes if not any(part in note for part in always)] == notes
    assert not any(product.blocked for product in less.products)


def test_no_keyword_of_a_real_night_is_missed_silently(efosc2, folder):
    missed, found = silent(efosc2, folder)
    assert len(found) > 240
    assert missed == ["BZERO"]
    kinds = {"ESO DPR TYPE", "EXPTIME", "ESO INS FILT1 NAME", "ESO DET TLM1 START", "INSTRUME"}
    sections = {"ESO DET WIN1 BINX", "ESO DET WIN1 BINY"}
    assert {key for key, words in found.items() if words} >= kinds | sections
    assert found["ESO DET WIN1 BINX"] == {
        "no ESO DET WIN1 BINX: the sections that preset efosc2 knows are not used"
    }


@pytest.mark.parametrize("kind", KINDS)
def test_no_keyword_of_one_frame_is_missed_silently(kind, tmp_path, folder):
    more = {"GAIN": 120, "READOUTM": "fast", "XORGSUBF": 0, "YORGSUBF": 0, "CCDNAME": "A"}
    night = tmp_path / "night"
    for number, (name, count) in enumerate(KINDS.items()):
        for index in range(count):
            path = night / f"{name}_{index}.fits"
            nights.raw(path, name, 60 * number + index, OBJECT=name, **CARDS, **more)
    missed, found = silent(night, folder, lambda path: path.stem == f"{kind}_0")
    assert missed == []
    count = f"1 {kind} frame"
    assert f"no BZERO is known of {count}, though" in "; ".join(found["BZERO"])
    assert f"no gain is known of {count}" in "; ".join(found["EGAIN"])
    assert f"no read noise is known of {count}" in "; ".join(found["RDNOISE"])
    if kind != "science":
        apart = f"no read_mode is known of its {count}"
        assert apart in "; ".join(found["READOUTM"])
    else:
        told = "same set-up; read mode told of one of the two only"
        assert told in found["READOUTM"]
