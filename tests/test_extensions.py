"""Files of several images: which are combined, matched by name, and what a master says of each."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData

import masterframe as mf
from masterframe import direct, explain, store
from masterframe.errors import FrameError, UsageError
from masterframe.fits import extensions, scan_file, tables
from masterframe.fits.write import ImageFile
from masterframe.request import read_options
from stacks import raw_frames
from support import program, shared

SHAPES = {"im1": (41, 33), "Im2": (57, 33), "im3": (41, 29)}
GAINS = {"im1": 1.5, "Im2": 0.8, "im3": 2.5}
COUNT = 6
CARDS = {"OBSERVER": "me", "EXPTIME": 3.0, "FILTER": "r"}


def pixels(name):
    """The frames of one extension."""
    return raw_frames((COUNT, *SHAPES[name]), seed=list(SHAPES).index(name))


def extension(values, name=None, version=None, **cards):
    hdu = fits.ImageHDU(values)
    if name is not None:
        hdu.header["EXTNAME"] = name
    if version is not None:
        hdu.header["EXTVER"] = version
    hdu.header.update({key.replace("_", "-"): value for key, value in cards.items()})
    return hdu


def write(path, hdus, second=0, **cards):
    primary = fits.PrimaryHDU()
    primary.header.update({"DATE-OBS": f"2026-01-02T03:04:{second:02d}", **CARDS, **cards})
    path.parent.mkdir(parents=True, exist_ok=True)
    fits.HDUList([primary, *hdus]).writeto(path)
    return str(path)


def amplifiers(k, names=tuple(SHAPES)):
    """The extensions of one exposure."""
    return [
        extension(
            pixels(name)[k], name, DETSEC=f"[1:33,{n}:41]", GAIN=GAINS[name], SEQ=k, CRPIX1=3.0
        )
        for n, name in enumerate(names)
    ]


@pytest.fixture
def paths(tmp_path):
    return [write(tmp_path / f"raw_{k}.fits", amplifiers(k), k) for k in range(COUNT)]


def combine(files, output, **options):
    """Combine files as the command line does."""
    given = {"reject": "none", **options, "files": files, "output": output}
    with store.open_resources(workers=2) as resources:
        return direct.combine_files(read_options(given), resources)


def check_mean(output, names, frames):
    """Compare each image of a master with the mean of its frames, image by image."""
    with fits.open(output, checksum=True) as hdus:
        for name, values in zip(names, frames, strict=True):
            expected = values.mean(axis=0, dtype=np.float64)
            np.testing.assert_allclose(hdus[name].data, expected, rtol=1e-6)


def test_every_extension_is_combined_into_one_master_that_says_what_each_is(paths, tmp_path):
    made = combine(paths[::-1], tmp_path / "m.fits", reject="minmax", nlow=1, nhigh=1)
    assert (made.n_frames, made.images) == (COUNT, 3)
    with fits.open(made.path, checksum=True) as hdus:
        planes = [
            f"{name}{plane}" for name in SHAPES for plane in ("", "_UNCERT", "_MASK", "_COUNT")
        ]
        assert [hdu.header.get("EXTNAME", "") for hdu in hdus] == ["", *planes, "QUALITY", "INPUTS"]
        assert hdus[0].data is None
        assert hdus[0].header["NCOMBINE"] == COUNT
        assert (hdus[0].header["OBSERVER"], "DETSEC" in hdus[0].header) == ("me", False)
        for n, name in enumerate(SHAPES):
            values = np.sort(pixels(name).astype(float), axis=0)[1:-1]
            np.testing.assert_allclose(hdus[name].data, values.mean(axis=0), rtol=1e-6)
            assert (hdus[f"{name}_COUNT"].data == COUNT - 2).all()
            header = hdus[name].header
            assert (header["DETSEC"], header["GAIN"]) == (f"[1:33,{n}:41]", GAINS[name])
            assert (header["EXTVER"], header["INHERIT"], header["BUNIT"]) == (1, True, "adu")
            assert not {"SEQ", "CRPIX1", "OBSERVER"} & set(header)
        quality = [row["extension"] for row in hdus["QUALITY"].data if row["name"] == "median"]
    assert quality == ["IM1", "IM2", "IM3"]
    rows = tables.read_inputs(made.path)
    assert [row.extension for row in rows] == [n.upper() for n in SHAPES for _ in range(COUNT)]
    assert [row.hdu for row in rows[::COUNT]] == [1, 2, 3]
    datasums = [extension_sum(values) for name in SHAPES for values in pixels(name)]
    assert [row.datasum for row in rows] == datasums
    found = subprocess.run(
        [program("fitsverify"), str(made.path)], check=False, capture_output=True, text=True
    ).stdout
    assert "0 warning(s) and 0 error(s)" in found, found
    read = CCDData.read(made.path, hdu="Im2", hdu_mask="Im2_MASK", hdu_uncertainty="Im2_UNCERT")
    assert (read.unit, read.shape, read.mask.any()) == ("adu", SHAPES["Im2"], False)


def extension_sum(values):
    hdu = fits.ImageHDU(values)
    hdu.add_datasum()
    return int(hdu.header["DATASUM"])


def test_one_image_keeps_what_the_primary_and_its_own_header_say(paths, tmp_path):
    made = combine(paths, tmp_path / "m.fits", hdu="im2")
    check_mean(made.path, ["PRIMARY"], [pixels("Im2")])
    header = fits.getheader(made.path)
    assert (header["OBSERVER"], header["GAIN"], "EXTNAME" in header) == ("me", 0.8, False)


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        ("3,im1", ["im1", "im3"]),
        ("3,1", ["im1", "im3"]),
        ("IM*", ["im1", "Im2", "im3"]),
        ("?m[13]", ["im1", "im3"]),
        ("all", ["im1", "Im2", "im3", "im1_dq"]),
        (None, ["im1", "Im2", "im3"]),
        ("2", ["Im2"]),
        ("im1_dq,im1", ["im1", "im1_dq"]),
    ],
)
def test_images_are_chosen_by_names_numbers_lists_and_patterns(tmp_path, wanted, names):
    mask = extension(np.zeros((41, 33), np.uint8), "im1_dq")
    scan = scan_file(write(tmp_path / "a.fits", [*amplifiers(0), mask]))
    assert list(extensions.choose(scan, wanted)) == [name.upper() for name in names]


@pytest.mark.parametrize(
    ("hdus", "names"),
    [
        (["SCI", "ERR", "DQ", "SCI", "ERR", "DQ"], ["SCI", "SCI,2"]),
        (["DATA", "STAT", "DQ"], ["DATA"]),
        (["FLUX", "IVAR", "MASK"], ["FLUX"]),
        (["CCD1", "CCD1_VAR", "CCD2", "CCD2_VAR", "GUIDER"], ["CCD1", "CCD2"]),
        (["1", "2", "OVERSCAN_1", "OVERSCAN_2"], ["1", "2"]),
        (["COUNTS", "WEIGHTED"], ["COUNTS", "WEIGHTED"]),
        (["WHT"], ["WHT"]),
        ([None, None], ["IMAGE1", "IMAGE2"]),
        (["A", "A", "B", None, "IMAGE4"], ["A", "A,2", "B", "IMAGE4", "IMAGE4,2"]),
    ],
)
def test_images_of_the_sky_are_told_from_masks_weights_and_guiders(tmp_path, hdus, names):
    values = np.zeros((5, 7), np.float32)
    scan = scan_file(write(tmp_path / "a.fits", [extension(values, name) for name in hdus]))
    assert list(extensions.choose(scan, None)) == names


def test_a_class_in_the_header_tells_a_weight_whatever_its_name(tmp_path):
    values = np.zeros((5, 7), np.float32)
    hdus = [extension(values, "A"), extension(values, "B", HDUCLAS2="ERROR")]
    assert list(extensions.choose(scan_file(write(tmp_path / "a.fits", hdus)), None)) == ["A"]


@pytest.mark.parametrize(
    "name", ["Gr\xe4\xdfer", "it's", "A,2", "x" * 60, "INPUTS", "primary", "\x01"]
)
def test_a_name_that_a_master_cannot_have_gives_way_to_a_number(tmp_path, name):
    files = []
    for k in range(3):
        good, bad = extension(pixels("im1")[k], "im1"), extension(pixels("im3")[k], "x" * 60)
        path = tmp_path / f"raw_{k}.fits"
        write(path, [good, bad], k)
        raw = path.read_bytes()
        old = f"EXTNAME = '{'x' * 60}'".encode()
        quoted = name.replace("'", "''").encode("latin-1")
        path.write_bytes(raw.replace(old, b"EXTNAME = '%s'" % quoted.ljust(60)))
        files.append(str(path))
    made = combine(files, tmp_path / "m.fits")
    check_mean(made.path, ["im1", "IMAGE2"], [pixels("im1")[:3], pixels("im3")[:3]])
    assert explain.explain_master(str(made.path), 4, 5, "image2").problems == ()
    found = subprocess.run(
        [program("fitsverify"), "-q", str(made.path)], check=False, capture_output=True, text=True
    )
    assert "OK" in found.stdout


def test_another_order_of_the_extensions_changes_nothing(paths, tmp_path):
    expected = combine(paths, tmp_path / "a.fits").path
    for k in (1, 4):
        names = ("im3", "im1", "Im2") if k == 1 else ("Im2", "im1", "im3")
        (tmp_path / f"raw_{k}.fits").unlink()
        write(tmp_path / f"raw_{k}.fits", [amplifiers(k)[list(SHAPES).index(n)] for n in names], k)
    found = combine([paths[4], *paths[:4], paths[5]], tmp_path / "b.fits").path
    with fits.open(expected) as one, fits.open(found) as other:
        assert [hdu.name for hdu in one] == [hdu.name for hdu in other]
        for hdu in one[1:-1]:
            assert hdu.data.tobytes() == other[hdu.name].data.tobytes()
    assert [row.hdu for row in tables.read_inputs(found) if row.extension == "IM1"] == [
        1,
        2,
        1,
        1,
        2,
        1,
    ]


def test_files_that_do_not_hold_the_same_images_are_refused_by_name(paths, tmp_path):
    less = write(tmp_path / "less.fits", amplifiers(0)[:2], 9)
    with pytest.raises(
        FrameError, match=r"IM3 of .*raw_0.fits is not among .*less.fits \(1 IM1, 2 I"
    ):
        combine([*paths, less], tmp_path / "m.fits")
    with pytest.raises(FrameError, match=r"raw_0.fits: IM3 of .*raw_0.fits is not among"):
        combine([less, *paths], tmp_path / "m.fits")
    check_mean(
        combine([*paths, less], tmp_path / "m.fits", hdu="im1,im2").path,
        ["im1"],
        [np.concatenate([pixels("im1"), pixels("im1")[:1]])],
    )
    with pytest.raises(UsageError, match=r"less.fits has no image im3: there are 1 IM1, 2 IM2"):
        combine([*paths, less], tmp_path / "o.fits", hdu="im3")
    swapped = write(tmp_path / "swapped.fits", amplifiers(0)[::-1], 9)
    with pytest.raises(FrameError, match=r"IM1 of .*raw_0.fits is not among .*swapped.fits"):
        combine([*paths, swapped], tmp_path / "o.fits", hdu="1")
    assert not list(tmp_path.glob("o.fits*"))


def test_a_different_shape_of_one_extension_names_it(paths, tmp_path):
    odd = amplifiers(0)
    odd[1].data = odd[1].data[:-1]
    with pytest.raises(
        FrameError, match=r"odd.fits: its image IM2 is 56 x 33 .*raw_0.fits 57 x 33"
    ):
        combine([*paths, write(tmp_path / "odd.fits", odd)], tmp_path / "m.fits")


def test_extver_tells_images_of_one_name_apart(tmp_path):
    versions = {1: "im1", 2: "Im2", 7: "im3"}
    files = []
    for k in range(3):
        order = versions if k else dict(reversed(versions.items()))
        hdus = [extension(pixels(own)[k], "SCI", ver) for ver, own in order.items()]
        files.append(write(tmp_path / f"raw_{k}.fits", hdus, k))
    made = combine(files, tmp_path / "m.fits")
    names = [("SCI", version) for version in (7, 2, 1)]
    check_mean(made.path, names, [pixels(versions[ver])[:3] for _, ver in names])
    with fits.open(made.path) as hdus:
        assert hdus["SCI_COUNT", 7].shape == SHAPES["im3"]
    assert list(mf.open_master(made.path)) == ["SCI,7", "SCI,2", "SCI"]
    told = explain.explain_master(str(made.path), 3, 4, "sci,7")
    assert [frame.raw for frame in told.frames] == pixels("im3")[:3, 4, 3].tolist()
    with pytest.raises(UsageError, match=r"--ext SCI,3 is unknown: did you mean SCI,7\?"):
        explain.explain_master(str(made.path), 3, 4, "SCI,3")
    one = combine(files, tmp_path / "one.fits", hdu="sci,2")
    check_mean(one.path, ["PRIMARY"], [pixels("Im2")[:3]])
    assert combine(files, tmp_path / "all.fits", hdu="sci").images == 3


def test_masters_of_many_images_are_applied_by_name(paths, tmp_path):
    offsets = {"im3": 30.0, "im1": 10.0, "Im2": 20.0}
    write(
        tmp_path / "bias.fits",
        [extension(np.full(SHAPES[n], v, np.float32), n.upper()) for n, v in offsets.items()],
    )
    bad = [extension(np.zeros(SHAPES[name], np.uint8), name) for name in SHAPES]
    bad[1].data[3, 4] = 1
    write(tmp_path / "bad.fits", bad)
    made = combine(paths, tmp_path / "m.fits", subtract=tmp_path / "bias.fits",
                   bad_pixels=tmp_path / "bad.fits")  # fmt: skip
    with fits.open(made.path) as hdus:
        for name in SHAPES:
            expected = pixels(name).mean(axis=0, dtype=float) - offsets[name]
            good = hdus[f"{name}_MASK"].data == 0
            np.testing.assert_allclose(hdus[name].data[good], expected[good], rtol=1e-6)
            assert (~good).sum() == (name == "Im2")
    told = explain.explain_master(str(made.path), 2, 3, "IM3")
    assert ({frame.bias for frame in told.frames}, told.problems) == ({30.0}, ())
    one = combine(paths, tmp_path / "one.fits", hdu="im3", subtract=tmp_path / "bias.fits")
    np.testing.assert_array_equal(fits.getdata(one.path), fits.getdata(made.path, "im3"))


def test_masters_that_do_not_fit_many_images_say_so(paths, tmp_path):
    single = tmp_path / "single.fits"
    fits.PrimaryHDU(np.zeros(SHAPES["im1"], np.float32)).writeto(single)
    with pytest.raises(UsageError, match=r"single.fits holds one image, the frames 3 each: give a"):
        combine(paths, tmp_path / "m.fits", subtract=single)
    write(tmp_path / "two.fits", amplifiers(0)[:2])
    with pytest.raises(
        UsageError, match=r"two.fits holds 2 images \(IM1, IM2\), none .*called IM3"
    ):
        combine(paths, tmp_path / "m.fits", divide=tmp_path / "two.fits")
    write(
        tmp_path / "odd.fits",
        [amplifiers(0)[i] for i in (0, 2)] + [extension(pixels("im1")[0], "im2")],
    )
    with pytest.raises(UsageError, match=r"odd.fits IM2 is 41 x 33 .*raw_0.fits 57 x 33"):
        combine(paths, tmp_path / "m.fits", divide=tmp_path / "odd.fits")


def test_gain_and_read_noise_are_those_of_each_extension(paths, tmp_path):
    made = combine(paths[:1], tmp_path / "m.fits", gain="GAIN", read_noise="4", planes="propagated")
    with fits.open(made.path) as hdus:
        for name, gain in GAINS.items():
            counted = gain * pixels(name)[0].astype(float)  # electrons, as no bias was taken off
            expected = np.sqrt(counted + 16) / gain
            noise = hdus[f"{name}_PROPERR"].data
            assert noise.shape == SHAPES[name]
            read_only = 4 / gain
            assert np.allclose(noise, expected, rtol=1e-5) or np.allclose(noise, read_only)


def test_a_plane_of_an_image_cannot_be_combined_beside_it(paths, tmp_path):
    hdus = [*amplifiers(0)[:1], extension(pixels("im1")[1], "im1_mask")]
    path = write(tmp_path / "a.fits", hdus)
    with pytest.raises(UsageError, match="IM1_MASK is the name of a plane of IM1"):
        combine([path], tmp_path / "m.fits", hdu="all")
    assert combine([path], tmp_path / "m.fits").images == 1


def test_bits_do_not_depend_on_workers_memory_or_scheduler(paths, tmp_path):
    masters = []
    for number, resources in enumerate(
        [{"workers": 1}, {"workers": 3}, {"workers": 2, "memory": 2 << 30}]
    ):
        given = {"files": paths[::-1] if number else paths, "output": tmp_path / f"{number}.fits"}
        with store.open_resources(**resources) as used:
            masters.append(direct.combine_files(read_options(given), used).path)
    first, *others = map(image_bytes, masters)
    assert first
    assert all(other == first for other in others)


def image_bytes(path):
    """The pixels of all images of a file, as bytes by name."""
    with fits.open(path) as hdus:
        images = [hdu for hdu in hdus if hdu.is_image and hdu.data is not None]
        return {(hdu.name, hdu.ver): hdu.data.tobytes() for hdu in images}


def test_workers_go_on_to_the_next_image_before_one_is_whole(paths, tmp_path, monkeypatch):
    seen = []
    with store.open_resources(workers=2) as resources:
        submit = resources.runner.submit
        monkeypatch.setattr(
            resources.runner, "submit", lambda task: seen.append(task.key) or submit(task)
        )
        write_rows = ImageFile.write_rows
        monkeypatch.setattr(
            ImageFile,
            "write_rows",
            lambda file, plane, *rows: seen.append(plane) or write_rows(file, plane, *rows),
        )
        direct.combine_files(
            read_options({"files": paths, "output": tmp_path / "m.fits"}), resources
        )
    order = ["task" if key.startswith("mf-combine") else key for key in seen]
    last = max(i for i, key in enumerate(order) if key == "IM1")
    bands = [key for key in order[:last] if key == "task"]
    written = order[: last + 1].count("IM1")
    assert len(bands) > written


def test_amplifiers_of_lsst_in_gzip_under_a_plain_name(tmp_path):
    path = str(shared("data/lsst_mef/30211212000310-R22-S22-det098.fits"))
    assert len(extensions.choose(scan_file(path), None)) == 16
    # Its pixels were blotted out, and its check sums left as they were.
    with pytest.raises(FrameError, match=r"HDU 1: damaged: .* its DATASUM is "):
        combine([path], tmp_path / "m.fits")
    made = combine([path], tmp_path / "m.fits", verify_checksums="never")
    with fits.open(made.path) as hdus, fits.open(path) as raw:
        segments = [hdu for hdu in raw[1:] if hdu.header["EXTNAME"].startswith("Segment")]
        assert len(segments) == 16
        for place, hdu in enumerate(segments):
            assert hdus[1 + 4 * place].header["EXTNAME"] == hdu.header["EXTNAME"]
            assert hdus[1 + 4 * place].header["DETSEC"] == hdu.header["DETSEC"]
            np.testing.assert_array_equal(hdus[1 + 4 * place].data, hdu.data)


def test_stamps_of_a_guider_are_combined_only_when_asked_for(tmp_path):
    path = str(shared("data/lsst_mef/MC_C_20230616_000013_R04_SG0.fits"))
    with pytest.raises(
        UsageError, match=r"holds 92 images .*none of which looks like one of the sky"
    ):
        combine([path], tmp_path / "m.fits")
    made = combine([path], tmp_path / "m.fits", hdu="image,1,image,92")
    with fits.open(path) as raw:
        check_mean(
            made.path,
            [("IMAGE", v) for v in (1, 92)],
            [raw["IMAGE", v].data[None] for v in (1, 92)],
        )


def test_the_readouts_of_a_raw_stis_file(tmp_path):
    path = str(shared("data/misc/o4sp040b0_raw.fits"))
    made = combine([path], tmp_path / "m.fits")
    with fits.open(path) as raw:
        check_mean(
            made.path, [("SCI", v) for v in (1, 2)], [raw["SCI", v].data[None] for v in (1, 2)]
        )
    assert fits.getval(made.path, "EXTNAME", 5) == "SCI"


def test_images_without_a_name_are_matched_by_their_number(tmp_path):
    science, flat = (str(shared(f"data/misc/{kind}-mef.fits")) for kind in ("science", "flat"))
    made = combine([science], tmp_path / "m.fits", divide=Path(flat))
    with fits.open(made.path) as hdus, fits.open(science) as raw, fits.open(flat) as divisor:
        for number in (1, 2, 3):
            expected = raw[number].data / divisor[number].data
            np.testing.assert_allclose(hdus[f"IMAGE{number}"].data, expected, rtol=1e-6)


@pytest.mark.parametrize("camera", ["c4d_170916_045042", "k4m_160319_075112", "ksb_170430_055945"])
def test_the_only_image_of_a_file_is_taken_from_whichever_extension(tmp_path, camera):
    folder = shared("data/misc")
    (image,) = folder.glob(f"{camera}_ooi_*.fits")
    (mask,) = folder.glob(f"{camera}_ood_*.fits")
    made = combine([str(image)], tmp_path / "m.fits", bad_pixels=mask)
    with fits.open(made.path) as hdus, fits.open(image) as raw, fits.open(mask) as bad:
        good = bad[1].data == 0
        np.testing.assert_allclose(hdus[0].data[good], raw[1].data[good], rtol=1e-6)
        assert (hdus["MASK"].data[~good] != 0).all()
