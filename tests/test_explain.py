"""The history of pixels: equal to what masters hold, and loud where something was changed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st

import masterframe as mf
import nights
from masterframe import explain, pixeltext
from masterframe.errors import FrameError, UsageError
from masterframe.fits import records, tables
from masterframe.fits.write import ImageFile
from masterframe.model import (
    Calibration,
    MaskBit,
    Noise,
    Recipe,
    Rejection,
    Section,
)
from stacks import count_bytes, raw_frames, write_frames
from support import program, shared
from writing import spec

SHAPE = 9, 13, 17
RECIPE = Recipe(
    Rejection("sigma", 2.0, 2.5, max_iters="all"),
    noise=Noise(floor=0.0),
    saturation=1500.0,
    planes=("rejlow", "rejhigh"),
)


@pytest.fixture
def paths(tmp_path):
    values = raw_frames(SHAPE, seed=5)
    values[2, 3, 4] = 1600
    return write_frames(tmp_path / "raw", values)


@pytest.fixture
def master(tmp_path, paths):
    path = tmp_path / "m.fits"
    mf.write_master(path, mf.open_stack(paths), RECIPE)
    return str(path)


def planes_of(path):
    """The image planes of a master by name; the data are 'data'."""
    with fits.open(path) as hdus:
        return {
            (hdu.name.lower() if hdu.name != "PRIMARY" else "data"): np.array(hdu.data)
            for hdu in hdus
            if hdu.is_image
        }


def check(path, told):
    """A history is that of what the planes of a master hold."""
    planes, at = planes_of(path), (told.y, told.x)
    np.testing.assert_array_equal(told.stored.data, planes["data"][at])
    np.testing.assert_array_equal(told.expected.uncert, planes["uncert"][at])
    assert told.problems == ()
    fates = [frame.fate for frame in told.frames]
    assert fates.count("kept") == planes["count"][at]
    if "rejlow" in planes:
        assert fates.count("low") == planes["rejlow"][at] == told.combined.rejlow
        assert fates.count("high") == planes["rejhigh"][at] == told.combined.rejhigh


# A master of a stack.


def test_pixels_of_a_master_are_explained(master):
    for y in range(0, SHAPE[1], 3):
        for x in range(y % 2, SHAPE[2], 4):
            check(master, explain.explain_master(master, x, y))


def test_frames_without_any_date_are_explained(tmp_path):
    """Inputs of no known time are in the order of their names."""
    values, paths = raw_frames(SHAPE, seed=6), []
    for number, frame in enumerate(values):
        paths.append(str(tmp_path / f"{number}.fits"))
        fits.writeto(paths[-1], frame)
    mf.write_master(tmp_path / "m.fits", mf.open_stack(paths), RECIPE)
    check(tmp_path / "m.fits", explain.explain_master(str(tmp_path / "m.fits"), 4, 3))


def test_only_the_rows_of_the_pixel_are_read(master):
    with count_bytes() as count:
        explain.explain_master(master, 4, 3)
    of_inputs = SHAPE[0] * SHAPE[2] * 2
    assert count.bytes < 3 * of_inputs + 6 * SHAPE[2] * 8


def test_a_saturated_value_is_missing_and_says_why(master):
    frame = explain.explain_master(master, 4, 3).frames[2]
    assert (frame.fate, frame.reason, frame.raw) == ("missing", "saturated: 1500 or more", 1600)


def test_the_accessor_tells_the_same_as_the_master(master, paths):
    stack = mf.open_stack(paths)
    for x, y in ((4, 3), (0, 0), (16, 12)):
        ours, theirs = stack.mf.explain(x, y, RECIPE), explain.explain_master(master, x, y)
        assert ours.passes == theirs.passes
        assert ours.combined == theirs.combined
        assert ours.frames == tuple(replace(frame, state="") for frame in theirs.frames)
        assert ours.combined.data == float(stack.mf.combine(RECIPE).data[y, x])


@pytest.mark.parametrize(("x", "y"), [(-1, 0), (17, 0), (0, 13), (0, -1)])
def test_a_pixel_outside_is_refused(master, x, y):
    with pytest.raises(UsageError, match=r"17 columns and 13 rows"):
        explain.explain_master(master, x, y)


def test_values_that_a_program_changed_cannot_be_found_again(tmp_path, paths):
    stack = mf.open_stack(paths)
    mf.write_master(tmp_path / "c.fits", stack + 1, RECIPE)
    with pytest.raises(FrameError, match="which no file holds"):
        explain.explain_master(str(tmp_path / "c.fits"), 0, 0)


# Everything that is applied, with a trim.


def plane(folder, name, values):
    path = folder / f"{name}.fits"
    fits.PrimaryHDU(values).writeto(path)
    return mf.open_master(path)[""]


@pytest.fixture
def calibrated(tmp_path):
    rng = np.random.default_rng(8)
    raw = raw_frames((7, 15, 20), seed=3, level=900)
    raw[3, 5, 8] = 3000
    paths = write_frames(tmp_path / "raw", raw)
    shape = 11, 14
    bad = np.zeros(shape, np.uint8)
    bad[4, 6] = 1
    flat = rng.normal(1, 0.03, shape).astype("f4")
    flat[2, 2] = np.nan
    bias = rng.normal(20, 2, shape).astype("f4")
    bias[1, 1] = np.nan
    calibration = Calibration(
        overscan=Section(0, 15, 0, 4),
        trim=Section(2, 13, 5, 19),
        bias=plane(tmp_path, "bias", bias),
        dark=plane(tmp_path, "dark", rng.normal(9, 1, shape).astype("f4")),
        dark_ratio=tuple(np.linspace(0.5, 2, 7).tolist()),
        flat=plane(tmp_path, "flat", flat),
        scale=tuple(np.linspace(0.9, 1.1, 7).tolist()),
        zero=tuple(np.linspace(-3, 4, 7).tolist()),
        bad_pixels=plane(tmp_path, "bad", bad),
    )
    recipe = replace(RECIPE, saturation=2500.0, noise=Noise(gain=1.5, read_noise=6.0))
    path = tmp_path / "m.fits"
    mf.write_master(path, mf.open_stack(paths), recipe, calibration)
    return str(path), raw, calibration


def test_what_is_shown_gives_the_value(calibrated):
    path, raw, _ = calibrated
    for x, y in ((0, 0), (13, 10), (2, 2), (3, 3)):
        told = explain.explain_master(path, x, y)
        check(path, told)
        assert (told.raw_x, told.raw_y) == (x + 5, y + 2)
        for k, frame in enumerate(told.frames):
            assert frame.raw == raw[k, y + 2, x + 5]
            v = np.float32(frame.raw)
            v = v - np.float32(frame.overscan) - np.float32(frame.bias)
            v = v - np.float32(frame.dark) * np.float32(frame.dark_ratio)
            v = v / np.float32(frame.flat) * np.float32(frame.scale) + np.float32(frame.zero)
            assert frame.value == v


def test_a_masked_flat_divides_by_one(calibrated):
    assert {f.flat for f in explain.explain_master(calibrated[0], 2, 2).frames} == {1.0}


@pytest.mark.parametrize(
    ("pixel", "reason"),
    [((6, 4), "bad pixel"), ((1, 1), "not finite when calibrated")],
)
def test_missing_values_say_why(calibrated, pixel, reason):
    told = explain.explain_master(calibrated[0], *pixel)
    check(calibrated[0], told)
    assert {(frame.fate, frame.reason) for frame in told.frames} == {("missing", reason)}
    assert "NO_VALUE" in told.stored.mask_words


def test_infinite_raw_values_and_thresholds_say_why(tmp_path):
    values = np.full((5, 3, 4), 10, "f4")
    values[:, 1, 2] = [np.inf, 3, 90, 10, np.nan]
    paths = write_frames(tmp_path / "raw", values)
    path = tmp_path / "m.fits"
    mf.write_master(path, mf.open_stack(paths), Recipe(Rejection("threshold", 5.0, 50.0)))
    told = explain.explain_master(str(path), 2, 1)
    check(path, told)
    assert [frame.fate for frame in told.frames] == ["missing", "low", "high", "kept", "missing"]
    assert [frame.reason for frame in told.frames] == [
        "not finite as stored",
        "below the threshold 5",
        "above the threshold 50",
        "",
        "not finite as stored",
    ]
    assert told.passes == ()


# A night: a flat with its norm, a dark with hot pixels, images of one file.


@pytest.fixture(scope="module")
def reduced(tmp_path_factory):
    folder = tmp_path_factory.mktemp("night")
    nights.night(folder / "night", bias=7, dark=5, flat=6)
    outcomes = nights.reduce_night(
        folder / "night",
        folder / "out",
        "recipes.dark.hot_sigma=2",
        "recipes.flat.low=2",
        "recipes.flat.flat_minimum=0.9995",
    )
    return {name: str(item.output) for name, item in outcomes.items()}


@pytest.mark.parametrize("kind", ["bias", "dark_30s", "flat_V"])
def test_masters_of_a_night_are_explained(reduced, kind):
    path = reduced[f"master_{kind}_bin1x1"]
    rng = np.random.default_rng(4)
    for y, x in rng.integers(0, nights.SHAPE, (25, 2)):
        check(path, explain.explain_master(path, int(x), int(y)))


def test_a_flat_shows_what_was_combined_its_norm_and_what_it_holds(reduced):
    path = reduced["master_flat_V_bin1x1"]
    told = explain.explain_master(path, 5, 6)
    assert told.norm == {row.name: row.value for row in tables.read_quality(path)}["norm"]
    assert told.stored.data == np.float32(told.combined.data) / np.float32(told.norm)
    text = pixeltext.as_text(told)
    assert f"norm      {told.norm:.7g}, by which the flat was divided" in text
    y, x = np.argwhere(planes_of(path)["mask"] == MaskBit.FLAT_LOW)[0]
    low = explain.explain_master(path, int(x), int(y))
    assert low.problems == ()
    assert low.stored.mask_words == ("FLAT_LOW",)


def test_a_hot_pixel_is_named(reduced):
    path = reduced["master_dark_30s_bin1x1"]
    y, x = np.argwhere(planes_of(path)["mask"] == MaskBit.HOT)[0]
    told = explain.explain_master(path, int(x), int(y))
    check(path, told)
    assert "mask 16: HOT" in pixeltext.as_text(told)


def test_a_calibrated_frame_is_no_master(reduced):
    taken = "this one took master_bias_bin1x1, master_dark_30s_bin1x1, master_flat_V_bin1x1"
    with pytest.raises(FrameError, match=f"of one exposure: only masters have a history; {taken}"):
        explain.explain_master(reduced["science_0"], 0, 0)


def test_a_file_that_is_not_there_is_said_in_words(tmp_path):
    with pytest.raises(FrameError, match=r"gone.fits: no such file"):
        explain.explain_master(str(tmp_path / "gone.fits"), 0, 0)


@pytest.mark.system
def test_fitsverify_finds_nothing(reduced, calibrated):
    for path in (*reduced.values(), calibrated[0]):
        done = subprocess.run(
            [program("fitsverify"), path], check=False, capture_output=True, text=True
        )
        assert "0 warning(s) and 0 error(s)" in done.stdout, done.stdout


# Files that were moved, touched, changed, or are gone.


def test_inputs_that_are_gone_are_named(master, paths):
    for path in paths[1:3]:
        Path(path).unlink()
    with pytest.raises(FrameError, match=r"2 of the 9 .*frame_0001.*frame_0002.*--inputs FOLDER"):
        explain.explain_master(master, 0, 0)


@pytest.mark.parametrize("place", ["given", "beside"])
def test_inputs_that_were_moved_are_found(tmp_path, master, place):
    folder = tmp_path / "elsewhere" if place == "given" else tmp_path
    (tmp_path / "elsewhere").mkdir()
    for path in sorted((tmp_path / "raw").iterdir()):
        shutil.move(path, folder)
    told = explain.explain_master(master, 4, 3, folders=[folder] if place == "given" else [])
    check(master, told)
    assert all(f"in {folder}" in frame.state for frame in told.frames)


def test_a_touched_input_is_the_same_where_its_pixels_are(master, paths):
    os.utime(paths[1], ns=(1, 1))
    told = explain.explain_master(master, 4, 3)
    check(master, told)
    assert [frame.state for frame in told.frames][:2] == ["as recorded", "touched, same pixels"]


def alter(path, y, x, *, quietly=False):
    """Change one pixel of a file; quietly: so that size and time stay."""
    about = Path(path).stat()
    with fits.open(path, mode="update") as hdus:
        hdus[0].data[y, x] += 40
    if quietly:
        os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))


def test_a_changed_input_is_a_problem_wherever_it_changed(master, paths):
    alter(paths[1], 9, 9)
    told = explain.explain_master(master, 4, 3)
    assert told.frames[1].state == "CHANGED"
    assert told.problems == (f"{paths[1]} has changed since the master was made",)


def test_verify_finds_what_size_and_time_do_not_tell(master, paths):
    alter(paths[1], 9, 9, quietly=True)
    assert explain.explain_master(master, 4, 3).problems == ()
    told = explain.explain_master(master, 4, 3, verify=True)
    assert told.problems == (f"{paths[1]} has changed since the master was made",)
    assert {frame.state for frame in told.frames} == {"verified", "CHANGED"}


def test_a_pixel_that_gives_another_value_is_a_problem_without_verify(master, paths):
    alter(paths[1], 3, 4, quietly=True)
    problems = explain.explain_master(master, 4, 3).problems
    assert problems[0].startswith("data: the inputs give ")
    assert "were changed" in problems[-1]


def test_a_changed_master_is_a_problem(master):
    with fits.open(master, mode="update") as hdus:
        hdus["COUNT"].data[3, 4] = 1
    problems = explain.explain_master(master, 4, 3, verify=True).problems
    assert any("the master itself: " in problem for problem in problems)
    assert any(problem.startswith("count: ") for problem in problems)


def test_a_changed_bias_is_a_problem(calibrated):
    path, _, calibration = calibrated
    alter(calibration.bias.data.path, 0, 0)
    problems = explain.explain_master(path, 5, 5).problems
    assert problems == (f"{calibration.bias.data.path} has changed since the master was made",)


# The record in the header.

sections = st.none() | st.builds(Section, *[st.integers(0, 2**40)] * 4)
floats = st.floats(allow_nan=False)
operands = st.none() | st.builds(
    records.Operand,
    path=st.binary(max_size=90).filter(lambda raw: b"\0" not in raw).map(os.fsdecode),
    hdu=st.integers(0, 99),
    datasum=st.integers(0, 2**32 - 1),
    uncert=st.none() | st.integers(0, 9),
    mask=st.none() | st.integers(0, 9),
)
image_records = st.builds(
    records.ImageRecord,
    extension=st.text("AMP12_", max_size=5),
    frames=st.integers(1, 2000),
    recipe=st.builds(
        Recipe,
        rejection=st.builds(
            Rejection,
            low=floats,
            high=floats,
            max_iters=st.sampled_from(["all", 1, 7, None]),
            center=st.sampled_from(["median", None, "inner-mean"]),
        ),
        noise=st.builds(Noise, floor=st.just("auto") | floats, gain=st.none() | floats),
        saturation=st.none() | floats,
        planes=st.sampled_from([(), ("rejlow",), ("rejlow", "rejhigh")]),
    ),
    overscan=sections,
    trim=sections,
    bias=operands,
    flat=operands,
    normalize=st.none() | floats,
    changed=st.booleans(),
)


@settings(deadline=None)
@given(st.lists(image_records, min_size=1, max_size=3, unique_by=lambda item: item.extension))
def test_records_come_back_from_a_file(tmp_path_factory, given_records):
    path = tmp_path_factory.mktemp("record") / "m.fits"
    with ImageFile.create(path, [spec(shape=())], overwrite=False) as file:
        file.publish([tables.inputs_table([], given_records)])
    assert records.read_records(path) == {item.extension: item for item in given_records}
    header = fits.getheader(path, "INPUTS")
    found = [records.decode(header[f"MFREC{n:03d}"]) for n in range(1, len(given_records) + 1)]
    assert found == given_records


GOOD = records.encode(records.ImageRecord("", 3, Recipe()))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"frames":3', '"frames":3.5'),
        ('"frames":3', '"frames":true'),
        ('"frames":3', '"frames":3,"frames":4'),
        ('"frames":3,', ""),
        ('"frames":3', '"frames":3,"__class__":"os.system"'),
        ('"bias":null', '"bias":"/etc/passwd"'),
        ('"bias":null', '"bias":{"path":["x"],"hdu":0,"datasum":0}'),
        ('"bias":null', '"bias":{"path":"x","hdu":0,"datasum":0,"run":1}'),
        ('"trim":null', '"trim":[1,2,3,4]'),
        ('"rule":"sigma"', '"rule":{"sigma":1}'),
        ('"estimator":"mean"', '"estimator":"__import__"'),
        ('"floor":"auto"', '"floor":"automatic"'),
        ('"floor":"auto"', '"floor":NaN'),
        ('"normalize":null', f'"normalize":{"9" * 400}'),
        ('"normalize":null', f'"normalize":{"[" * 100000}'),
        ("{", "["),
    ],
)
def test_a_record_that_is_not_what_it_must_be_is_refused(old, new):
    assert old in GOOD
    with pytest.raises(ValueError, match=r"."):
        records.decode(GOOD.replace(old, new, 1))


def rewrite(master, old, new):
    """Change a text in the record of a master."""
    with fits.open(master, mode="update") as hdus:
        header = hdus["INPUTS"].header
        assert old in header["MFREC001"]
        header["MFREC001"] = header["MFREC001"].replace(old, new)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"frames":9', '"frames":90', "it names 9 inputs and says that it has 90"),
        ('"frames":9', '"frames":0', "it names 9 inputs and says that it has 0"),
        ('"frames":9', '"frames":"9"', "its card MFREC001 is damaged: record.frames is '9'"),
        (
            '"trim":null',
            '"trim":{"y0":0,"y1":99999,"x0":0,"x1":4}',
            "its trim section .* is not within its inputs",
        ),
        ('"bias":null', '"bias":{"path":"/dev/zero","hdu":0,"datasum":0}', "/dev/zero"),
    ],
)
def test_a_hostile_record_ends_in_an_error_that_names_it(master, old, new, message):
    rewrite(master, old, new)
    with pytest.raises(FrameError, match=message):
        explain.explain_master(master, 0, 0)


def test_an_unknown_rule_in_a_record_is_refused(master):
    rewrite(master, '"rule":"sigma"', '"rule":"sgima"')
    with pytest.raises(UsageError, match="did you mean sigma"):
        explain.explain_master(master, 0, 0)


# The command.


def test_the_command_counts_from_one(capsys, monkeypatch, calibrated):
    path, raw, _ = calibrated
    code, out, _ = nights.call(capsys, monkeypatch, "explain", path, 4, 3, "--json")
    assert code == 0
    document = json.loads(out)
    assert document["pixel"] == {"x": 4, "y": 3, "raw_x": 9, "raw_y": 5}
    assert document["equal"] is True
    assert [frame["raw"] for frame in document["frames"]] == raw[:, 4, 8].tolist()
    told = explain.explain_master(path, 3, 2)
    assert document == pixeltext.as_document(told) == json.loads(json.dumps(document))


def test_the_command_says_it_loudly_where_the_master_is_another(capsys, monkeypatch, master, paths):
    alter(paths[1], 3, 4)
    code, out, _ = nights.call(capsys, monkeypatch, "explain", master, 5, 4)
    assert code == 1
    assert "NOT EQUAL: data: the inputs give" in out
    assert f"NOT EQUAL: {paths[1]} has changed since the master was made" in out


def test_the_command_shows_passes_and_fates(capsys, monkeypatch, master):
    told = next(
        told
        for x in range(SHAPE[2])
        if len((told := explain.explain_master(master, x, 3)).passes) > 2
    )
    code, out, _ = nights.call(capsys, monkeypatch, "explain", master, told.x + 1, 4)
    assert code == 0
    for frame in told.frames:
        if frame.iteration:
            assert f"rejected {frame.fate} in pass {frame.iteration}" in out
    for item in told.passes:
        assert f"{item.center:.7g}" in out
        assert f"{item.least:.7g}" in out
    assert "The master holds exactly what its inputs give." in out


@pytest.mark.parametrize("arguments", [(0, 1), (18, 1), (1, 14)])
def test_the_command_refuses_pixels_outside(capsys, monkeypatch, master, arguments):
    code, _, err = nights.call(capsys, monkeypatch, "explain", master, *arguments)
    assert code == 2
    assert "17 columns and 13 rows" in err


def test_the_image_of_several_must_be_named(tmp_path, capsys, monkeypatch):
    rng = np.random.default_rng(2)
    for number in range(5):
        hdus = [fits.PrimaryHDU()]
        hdus[0].header.update(
            {"IMAGETYP": "Bias Frame", "EXPTIME": 0.0, "INSTRUME": "TwoAmps"}
            | {"DATE-OBS": f"2026-01-02T03:04:0{number}"}
        )
        for name in ("AMP1", "AMP2"):
            pixels = rng.integers(90, 110, (6, 8 if name == "AMP1" else 7)).astype(np.uint16)
            hdus.append(fits.ImageHDU(pixels, name=name))
        (tmp_path / "night").mkdir(exist_ok=True)
        fits.HDUList(hdus).writeto(tmp_path / "night" / f"b{number}.fits")
    outcomes = nights.reduce_night(tmp_path / "night", tmp_path / "out")
    path = str(next(iter(outcomes.values())).output)
    with pytest.raises(UsageError, match="name one by --ext AMP1, AMP2"):
        explain.explain_master(path, 0, 0)
    with pytest.raises(UsageError, match="did you mean AMP2"):
        explain.explain_master(path, 0, 0, "AMP3")
    code, out, _ = nights.call(
        capsys, monkeypatch, "explain", path, 7, 6, "--ext", "amp2", "--json"
    )
    assert code == 0
    with fits.open(path) as hdus:
        assert json.loads(out)["stored"]["data"] == hdus["AMP2"].data[5, 6]


# A real night.


def test_masters_of_efosc2_are_explained(tmp_path):
    outcomes = nights.reduce_night(shared("data/efosc2"), tmp_path / "out")
    rng = np.random.default_rng(6)
    for name, item in outcomes.items():
        if not name.startswith("master"):
            continue
        path = str(item.output)
        planes = planes_of(path)
        height, width = planes["data"].shape
        rejected = np.argwhere(planes["count"] < planes["count"].max())
        some = [*rng.integers(0, (height, width), (8, 2)), *rng.permutation(rejected)[:8]]
        for y, x in some:
            check(path, explain.explain_master(path, int(x), int(y)))
        assert explain.explain_master(path, 3, 5, verify=True).problems == ()
