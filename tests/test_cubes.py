"""Cubes: one HDU of N planes is N frames, whether it is plain, packed or cut into tiles."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
from astropy.io import fits

import masterframe as mf
from masterframe import direct, explain, inventory, pixeltext, store
from masterframe.config import load_config
from masterframe.errors import FrameError
from masterframe.fits import scan_file, tables
from masterframe.request import read_options
from stacks import count_bytes, raw_frames

SHAPE = 5, 7, 9
CUBE = raw_frames((7, 41, 33), seed=3)


def write(path, values, **cards):
    hdu = fits.PrimaryHDU(values)
    hdu.header.update({"DATE-OBS": "2026-01-02T03:04:05", "EXPTIME": 2.5, **cards})
    hdu.writeto(path, checksum=True)
    return str(path)


def tiled(path, values):
    hdu = fits.CompImageHDU(values, name="CUBE", tile_shape=(1, 8, values.shape[-1]))
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path, checksum=True)
    return str(path)


def packed(path, values):
    plain = path.with_name("plain.fits")
    write(plain, values)
    path.write_bytes(gzip.compress(plain.read_bytes()))
    plain.unlink()
    return str(path)


def combine(files, output, **options):
    with store.open_resources(workers=2) as resources:
        given = {"reject": "none", **options, "files": files, "output": output}
        return direct.combine_files(read_options(given), resources)


def plane_sum(values):
    """DATASUM of a plane that stands alone."""
    hdu = fits.PrimaryHDU(values)
    hdu.add_datasum()
    return int(hdu.header["DATASUM"])


@pytest.mark.parametrize("make", [write, tiled, packed])
@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.uint8])
def test_the_planes_of_a_cube_are_combined(tmp_path, make, dtype):
    cube = CUBE[:, :, :31].astype(dtype)  # rows that are no whole number of 32-bit words
    path = make(tmp_path / "c.fits", cube)
    made = combine([path], tmp_path / "m.fits", reject="minmax", nlow=1, nhigh=1)
    expected = np.sort(cube.astype(float), axis=0)[1:-1].mean(axis=0)
    np.testing.assert_allclose(fits.getdata(made.path), expected, rtol=1e-6)
    rows = tables.read_inputs(made.path)
    assert [row.plane for row in rows] == list(range(1, 8))
    assert [row.datasum for row in rows] == [plane_sum(plane) for plane in cube]
    header = fits.getheader(made.path)
    assert (header["NCOMBINE"], header["IMCMB003"]) == (7, "c.fits[*,*,3]")
    told = explain.explain_master(str(made.path), 4, 5, verify=True)
    assert [frame.raw for frame in told.frames] == cube[:, 5, 4].tolist()
    assert ([frame.plane for frame in told.frames], told.problems) == ([*range(1, 8)], ())
    assert "c.fits[*,*,3]" in pixeltext.as_text(told)


def test_cubes_and_frames_go_together_in_any_order(tmp_path):
    files = [
        write(tmp_path / "a.fits", CUBE[:3], **{"DATE-OBS": "2026-01-02T03:04:09"}),
        write(tmp_path / "b.fits", CUBE[3]),
        write(tmp_path / "c.fits", CUBE[4][None]),
        write(tmp_path / "d.fits", CUBE[5:], **{"DATE-OBS": "2026-01-01T03:04:05"}),
    ]
    first = combine(files, tmp_path / "m.fits", reject="sigma")
    again = combine(files[::-1], tmp_path / "n.fits", reject="sigma")
    assert fits.getdata(first.path).tobytes() == fits.getdata(again.path).tobytes()
    rows = tables.read_inputs(first.path)
    assert [(row.path[-6], row.plane) for row in rows] == [
        ("d", 1), ("d", 2), ("b", 0), ("c", 0), ("a", 1), ("a", 2), ("a", 3),
    ]  # fmt: skip
    assert rows == tables.read_inputs(again.path)
    mean = combine(files, tmp_path / "o.fits")
    np.testing.assert_allclose(fits.getdata(mean.path), CUBE.mean(axis=0), rtol=1e-6)
    assert fits.getheader(mean.path)["TOTEXP"] == 7 * 2.5


def test_a_stack_has_the_planes_as_frames_and_reads_only_what_is_asked_for(tmp_path):
    path = write(tmp_path / "c.fits", CUBE)
    stack = mf.open_stack([path, write(tmp_path / "b.fits", CUBE[0])])
    assert stack.shape == (8, 41, 33)
    assert stack.plane.values.tolist() == [*range(1, 8), 0]
    with count_bytes() as count:
        third = stack.isel(frame=slice(2, 3), y=slice(4, 6)).compute()
    np.testing.assert_array_equal(third[0], CUBE[2, 4:6])
    assert count.bytes == 2 * 33 * 2
    made = mf.write_master(tmp_path / "m.fits", stack)
    assert [row.plane for row in tables.read_inputs(made.path)] == [0, *range(1, 8)]
    assert explain.explain_master(str(made.path), 1, 2).problems == ()


def test_a_changed_plane_is_found(tmp_path):
    path = write(tmp_path / "c.fits", CUBE)
    made = combine([path], tmp_path / "m.fits")
    with fits.open(path, mode="update") as hdus:
        hdus[0].data[3, 2, 2] += 1
    told = explain.explain_master(str(made.path), 1, 1)
    assert [frame.state == "CHANGED" for frame in told.frames] == [k == 3 for k in range(7)]


def test_a_plane_that_is_there_twice_is_named(tmp_path):
    cube = CUBE.copy()
    cube[4] = cube[1]

    lines = []

    class Heard(store.Silent):
        def note(self, text):
            lines.append(text)

    path = write(tmp_path / "c.fits", cube)
    with store.open_resources(workers=1, reporter=Heard()) as resources:
        direct.combine_files(
            read_options({"files": [path], "output": tmp_path / "m.fits"}), resources
        )
    twice = f"{path}, plane 5 counts twice: header and data are those of {path}, plane 2"
    assert lines[-1] == twice


def test_extensions_may_be_cubes_of_one_length(tmp_path):
    hdus = [fits.ImageHDU(CUBE, name="A"), fits.ImageHDU(CUBE[:, 3:], name="B")]
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(tmp_path / "c.fits")
    made = combine([str(tmp_path / "c.fits")], tmp_path / "m.fits")
    np.testing.assert_allclose(fits.getdata(made.path, "B"), CUBE[:, 3:].mean(axis=0), rtol=1e-6)
    fits.append(tmp_path / "c.fits", CUBE[:2], fits.Header({"EXTNAME": "C"}))
    with pytest.raises(FrameError, match="A has 7 planes, C 2: name those that belong together"):
        combine([str(tmp_path / "c.fits")], tmp_path / "n.fits")


@pytest.mark.parametrize(
    ("shape", "cards", "reason"),
    [
        ((2, 3, 4, 5), {}, "an array of 5 x 4 x 3 x 2: planes along several axes are no series"),
        (
            (3, 4, 5),
            {"CTYPE3": "RGB"},
            "a cube of 5 x 4 x 3 along RGB: its planes",
        ),
        ((3, 4, 5), {"CTYPE3": "WAVE-TAB"}, "a cube of 5 x 4 x 3 along WAVE-TAB"),
    ],
)
def test_what_is_no_series_of_frames_is_refused_with_the_reason(tmp_path, shape, cards, reason):
    path = write(tmp_path / "c.fits", np.zeros(shape, np.int16), **cards)
    with pytest.raises(FrameError, match=reason):
        combine([path], tmp_path / "m.fits")
    with pytest.raises(FrameError, match=reason):
        mf.open_stack(path)


def test_planes_lie_one_after_the_other_whatever_axis_counts_them(tmp_path):
    path = write(tmp_path / "c.fits", CUBE.reshape(7, 1, 41, 33))
    (hdu,) = scan_file(path).hdus
    assert [frame.plane for frame in hdu.frames] == [*range(1, 8)]
    np.testing.assert_array_equal(mf.open_stack(path).compute(), CUBE)
    np.testing.assert_array_equal(mf.open_stack(tiled_of_four(tmp_path / "t.fits")).compute(), CUBE)


def tiled_of_four(path):
    hdu = fits.CompImageHDU(CUBE.reshape(1, 7, 41, 33), tile_shape=(1, 1, 8, 33))
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path)
    return str(path)


def test_scan_says_what_a_cube_is(tmp_path):
    write(tmp_path / "c.fits", CUBE, IMAGETYP="Dark Frame")
    _, (problem,) = inventory.scan_night([tmp_path], load_config())
    assert problem.reason.startswith("no image: a cube of 7 planes, 33 x 41 each: combine takes")
