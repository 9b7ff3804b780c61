"""`masterframe init`: what it writes can be read, and nothing of a header leaves its comment."""

import pytest

import nights
from masterframe import run, template
from masterframe.config import load_config
from masterframe.errors import StorageError, UsageError
from support import ROOT, shared


@pytest.fixture
def night(tmp_path):
    folder = nights.night(tmp_path / "night", bias=4, flat=2, science=3)
    nights.raw(folder / "frame_07.fits", seed=50, IMAGETYP=None, EXPTIME=7.0)
    nights.raw(folder / "frame_08.fits", seed=51, IMAGETYP=None, EXPTIME=7.0)
    (folder / "broken.fits").write_bytes(b"no frame")
    return folder


def test_a_configuration_holds_the_defaults_and_says_what_was_seen(night, tmp_path):
    output = tmp_path / "night.yaml"
    template.write_config(night, output)
    found, default = load_config(output), load_config(None)
    assert found.recipes == default.recipes
    assert found.instruments == default.instruments
    lines = output.read_text().splitlines()
    assert lines[0] == "# yaml-language-server: $schema=masterframe.schema.json"
    assert any(
        "TinyCam, 36 x 24 pixels, binned 1x1, read by the preset generic" in x for x in lines
    )
    counts = {tuple(line.split()[1:]) for line in lines if line.startswith("#") and "1x1" in line}
    assert ("3", "science", "V", "30", "1x1") in counts
    assert ("2", "flat", "V", "2", "1x1") in counts
    assert any(line.startswith("#   broken.fits: not FITS") for line in lines)


def test_the_hint_for_untyped_frames_types_them(night, tmp_path):
    output = tmp_path / "night.yaml"
    template.write_config(night, output)
    text = output.read_text()
    hint = next(line for line in text.splitlines() if "frame_*.fits" in line)
    assert "2 of them" in hint
    followed = text.replace("types: []", "types:").replace(hint, hint.removeprefix("# "))
    output.write_text(followed)
    (rule,) = load_config(output).types
    assert rule.kind == "science"
    _, plan = nights.make_plan(night)
    assert {item.reason for item in plan.left_out} == {"its kind is not known"}


def test_what_the_headers_tell_is_shown_with_its_source_and_what_is_doubtful_too(tmp_path):
    folder = nights.night(tmp_path / "night", bias=0, dark=2, flat=2, science=3)
    for index, item in enumerate(sorted(folder.glob("science*"))):
        item.unlink()
        nights.raw(item, "science", 90 + index, EGAIN=1.4, CCD_TEMP=-20.0, EXPTIME=60.0, FILTER="R")
    nights.raw(folder / "dark_9.fits", "dark", 80, CCD_TEMP=-5.0, GAIN=7)
    nights.raw(folder / "twilight_1.fits", "flat", 81, IMAGETYP="Light", OBJECT="twilight")
    output = tmp_path / "night.yaml"
    template.write_config(folder, output)
    lines = [line.removeprefix("#").strip() for line in output.read_text().splitlines()]
    expected = {
        "gain 1.4 electrons per adu, from EGAIN",
        "saturation 65535 adu, from pixels of uint16",
        "1 frame guessed to be flat by IMAGETYP = 'Light' and OBJECT",
        "1 frame: GAIN = 7 is not used: nothing tells its unit",
        "no bias frames: the offset stays in, unless an overscan or a dark takes it off",
        "no flat in the filter of some science frames: 'R'",
        "no dark of the time of science frames of 60 s: others are scaled",
        "gain of 6 frames is not known: gain (electrons per adu) under detector",
        "read noise of 9 frames is not known: read_noise (electrons) under detector",
    }
    assert expected <= set(lines)
    assert any(line.startswith("the detector had -20.0 to -5.0 degrees C") for line in lines)


@pytest.mark.parametrize(
    ("night", "instrument", "products"),
    [
        ("efosc2", "efosc2", 8),
        ("st402/raw", "st402", 17),
        ("asi178", "zwo", 4),
        ("st7", "st7", None),
    ],
)
def test_the_proposal_for_a_real_night_loads_and_plans(night, instrument, products, tmp_path):
    output = tmp_path / "night.yaml"
    folder = shared(f"data/{night}")
    template.write_config(folder, output)
    assert f"\ninstrument: {instrument}\n" in output.read_text()
    config = load_config(output)
    assert [one.name for one in config.instruments] == [instrument]
    plan = run.plan_nights([folder], config)
    assert plan.products
    assert products is None or len(plan.products) == products


def test_the_template_is_the_example_that_is_shown():
    shipped = ROOT / "src" / "masterframe" / "template.yaml"
    assert shipped.read_text() == (ROOT / "configs" / "night.yaml").read_text()


@pytest.mark.parametrize("hostile", ["a\nrecipes: {}\n", 'b"}}: x', "c\x1b[31m\x85instrument: x"])
def test_a_hostile_name_stays_in_its_comment(hostile, tmp_path):
    folder = nights.night(tmp_path / "night", bias=1, flat=0, science=0)
    nights.raw(folder / f"{hostile}.fits", seed=9, IMAGETYP=None, EXPTIME=7.0)
    (folder / f"{hostile}.txt.fits").write_bytes(b"no frame")
    output = tmp_path / "night.yaml"
    template.write_config(folder, output)
    assert "\x1b" not in output.read_text()
    assert load_config(output).recipes == load_config(None).recipes
    plain = tmp_path / "plain.yaml"
    template.write_config(nights.night(tmp_path / "other", bias=1, flat=0, science=0), plain)

    def content(path):
        return [line for line in path.read_text().splitlines() if line and line[0] != "#"]

    assert content(output) == content(plain)


def test_an_output_that_exists_is_kept_unless_it_is_to_be_replaced(night, tmp_path):
    output = tmp_path / "night.yaml"
    output.write_text("mine")
    with pytest.raises(StorageError, match="--overwrite"):
        template.write_config(night, output)
    assert output.read_text() == "mine"
    template.write_config(night, output, overwrite=True)
    assert output.read_text() != "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["night", "night.yaml"]


def test_what_cannot_be_is_said(night, tmp_path):
    with pytest.raises(UsageError, match="does not exist"):
        template.write_config(tmp_path / "nothing", tmp_path / "night.yaml")
    with pytest.raises(StorageError, match="cannot be written"):
        template.write_config(night, tmp_path / "no" / "folder.yaml")


def test_a_long_list_of_problems_is_cut(tmp_path):
    for index in range(template.SHOWN + 3):
        (tmp_path / f"{index:03d}.fits").write_bytes(bytes(index))
    output = tmp_path / "night.yaml"
    template.write_config(tmp_path, output)
    assert "and 3 more" in output.read_text()
