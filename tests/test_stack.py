"""Lazy stacks: what they hold, and that slices read the bytes of their rows and no others."""

import os
import pickle
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import dask
import numpy as np
import pytest
import xarray as xr
from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st

import masterframe as mf
from masterframe import cluster
from masterframe.errors import FrameError, UsageError
from stacks import count_bytes, raw_frames, write_frames

N, ROWS, COLUMNS = SHAPE = (7, 23, 41)
VALUES = raw_frames(SHAPE)
ROW_BYTES = COLUMNS * 2


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    cards = [{"EXPTIME": 10.0 + k, "FILTER": "VR"[k % 2]} for k in range(N)]
    return write_frames(tmp_path_factory.mktemp("stack"), VALUES, cards, OBJECT="M 67")


@pytest.fixture(scope="module")
def stack(paths):
    return mf.open_stack(paths, rows=5)


def test_a_stack_is_lazy_and_keeps_uint16(paths):
    with count_bytes() as read:
        stack = mf.open_stack(paths)
    assert read.bytes == 0
    assert (stack.dims, stack.shape, stack.dtype) == (("frame", "y", "x"), SHAPE, np.uint16)
    assert stack.data.numblocks[0] == stack.data.numblocks[2] == 1
    np.testing.assert_array_equal(stack.compute(), VALUES)


def test_coordinates_come_from_headers(stack, paths):
    assert list(stack.path.values) == paths
    assert list(stack.exptime.values) == [10, 11, 12, 13, 14, 15, 16]
    assert list(stack["filter"].values) == list("VRVRVRV")
    assert set(stack.object.values) == {"M 67"}
    assert stack.time.values[3] == np.datetime64("2026-03-04T05:00:03")
    assert np.isnan(stack.temperature.values).all()
    assert list(stack.hdu.values) == [0] * N
    assert stack.attrs["units"] == "adu"


def test_coordinates_choose_frames(stack):
    chosen = stack[stack["filter"].values == "R"]
    np.testing.assert_array_equal(chosen.compute(), VALUES[1::2])
    assert list(chosen.exptime.values) == [11, 13, 15]


def test_frames_stay_in_the_order_given(paths):
    np.testing.assert_array_equal(mf.open_stack(paths[::-1]).compute(), VALUES[::-1])


def test_globs_lists_and_single_paths(tmp_path, paths):
    folder = os.path.dirname(paths[0])  # noqa: PTH120
    assert list(mf.open_stack(f"{folder}/frame_000[2-4].fits").path.values) == paths[2:5]
    listing = tmp_path / "chosen.txt"
    listing.write_text(f"# a remark\n{paths[5]}\n\n{paths[1]}\n")
    assert list(mf.open_stack(f"@{listing}").path.values) == [paths[5], paths[1]]
    assert list(mf.open_stack([f"@{listing}", paths[0]]).path.values)[2] == paths[0]
    assert mf.open_stack(paths[4]).shape == (1, ROWS, COLUMNS)


@pytest.mark.parametrize(
    ("given", "said"),
    [("nothing_*.fits", "no file matches"), ([], "no files are given"), ("@gone.txt", "gone.txt")],
)
def test_paths_that_lead_nowhere(given, said):
    with pytest.raises(UsageError, match=said):
        mf.open_stack(given)


def test_mixed_shapes_are_refused(tmp_path, paths):
    odd = tmp_path / "odd.fits"
    fits.PrimaryHDU(np.zeros((ROWS + 1, COLUMNS), np.int16)).writeto(odd)
    with pytest.raises(FrameError, match=r"odd\.fits: its image is 24 x 41 .* 23 x 41: leave"):
        mf.open_stack([*paths, odd])


def test_the_hdu_is_chosen_by_name_or_number(tmp_path):
    path = tmp_path / "two.fits"
    fits.HDUList(
        [
            fits.PrimaryHDU(),
            fits.ImageHDU(VALUES[0], name="CHIP1"),
            fits.ImageHDU(VALUES[1], name="CHIP2"),
        ]
    ).writeto(path)
    np.testing.assert_array_equal(mf.open_stack(path, hdu="chip2").compute()[0], VALUES[1])
    first = mf.open_stack(path, hdu=1)
    np.testing.assert_array_equal(first.compute()[0], VALUES[0])
    assert list(first.hdu.values) == [1]
    with pytest.raises(UsageError, match="holds 2 images"):
        mf.open_stack(path)
    with pytest.raises(UsageError, match="no image chip3: there are 1 CHIP1, 2 CHIP2"):
        mf.open_stack(path, hdu="chip3")


@pytest.mark.parametrize("dtype", ["u1", "i2", "u2", "i4", "u4", "i8", "f4", "f8"])
def test_every_bitpix_keeps_its_type(tmp_path, dtype):
    values = VALUES[:3].astype(dtype)
    stack = mf.open_stack(write_frames(tmp_path, values))
    assert stack.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(stack.compute(), values)
    assert stack.attrs["bscale"] == (0 if dtype[0] == "f" else 1)


def test_bscale_and_blank_give_floats_with_nan(tmp_path):
    stored = VALUES[0].astype(np.int16)
    stored[3, 5] = -7
    hdu = fits.PrimaryHDU(stored)
    hdu.header["BSCALE"], hdu.header["BZERO"], hdu.header["BLANK"] = 0.25, 100.0, -7
    hdu.writeto(tmp_path / "scaled.fits")
    stack = mf.open_stack(tmp_path / "scaled.fits")
    expected = fits.getdata(tmp_path / "scaled.fits")
    assert stack.dtype == expected.dtype == np.float32
    np.testing.assert_array_equal(stack.compute()[0], expected)
    assert np.isnan(stack[0, 3, 5].compute())
    assert np.isnan(stack.compute()).sum() == 1
    assert stack.attrs["bscale"] == 0.25


def test_one_frame_reads_one_file(stack):
    with count_bytes() as read:
        np.testing.assert_array_equal(stack[4].compute(), VALUES[4])
    assert read.bytes == ROWS * ROW_BYTES


def test_one_pixel_reads_its_row_of_every_frame(stack):
    with count_bytes() as read:
        np.testing.assert_array_equal(stack[:, 11, 30].compute(), VALUES[:, 11, 30])
    assert read.bytes == N * ROW_BYTES


def test_a_cut_out_reads_no_more(stack):
    cut = stack[2:6, 8:14, 10:20]  # over the edge of a chunk
    with count_bytes() as read:
        np.testing.assert_array_equal(cut.compute(), VALUES[2:6, 8:14, 10:20])
    assert read.bytes == 4 * 6 * 10 * 2


def test_every_third_row_reads_no_others(stack):
    with count_bytes() as read:
        np.testing.assert_array_equal(stack[:, 1:5:3].compute(), VALUES[:, 1:5:3])
    assert read.bytes == N * 2 * ROW_BYTES


def index(size):
    slices = st.builds(
        slice, st.none() | st.integers(-size, size), st.none() | st.integers(-size, size),
        st.sampled_from([None, 1, 2, 3, -1, -2]),
    )  # fmt: skip
    return st.integers(-size, size - 1) | slices | st.lists(st.integers(0, size - 1), max_size=4)


@given(st.integers(0, 2), st.data())
def test_any_slice_is_that_of_the_array(stack, axis, data):
    key = [slice(None)] * 3
    key[axis] = data.draw(index(SHAPE[axis]))
    other = (axis + 1) % 3
    key[other] = data.draw(index(SHAPE[other]).filter(lambda part: not isinstance(part, list)))
    found = stack.data[tuple(key)].compute(scheduler="synchronous")
    expected = VALUES
    for place in (2, 1, 0):  # axis by axis, as Dask does: numpy moves a list beside an int in front
        expected = expected[(slice(None),) * place + (key[place],)]
    np.testing.assert_array_equal(found, expected)


def computed(stack):
    with dask.config.set(scheduler="synchronous"):
        return stack[:, 3:5].values


def test_a_stack_works_in_another_process(stack):
    assert len(pickle.dumps(stack)) < 10_000
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        np.testing.assert_array_equal(pool.submit(computed, stack).result(), VALUES[:, 3:5])


def test_equal_stacks_share_their_tasks_until_a_file_changes(tmp_path):
    paths = write_frames(tmp_path, VALUES[:2])
    first, again = mf.open_stack(paths), mf.open_stack(paths)
    assert first.data.name == again.data.name
    os.utime(paths[0], ns=(1, 1))
    assert mf.open_stack(paths).data.name != first.data.name
    with pytest.raises(FrameError, match="changed during the run"):
        first.compute()


MANY = """
import sys, dask, numpy as np, masterframe as mf
stack = mf.open_stack(sys.argv[1] + "/*.fits", rows=2)
with dask.config.set(num_workers=4):
    assert stack.shape == (5000, 4, 6), stack.shape
    assert (stack.values == stack.values[0]).all()
print(int(stack[:, 2, 3].sum()))
"""


def test_5000_files_need_few_descriptors(tmp_path):
    values = np.arange(24, dtype=np.uint16).reshape(4, 6)
    (first,) = write_frames(tmp_path / "original", [values])
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(5000):
        os.link(first, folder / f"{number:04d}.fits")
    found = subprocess.run(
        ["sh", "-c", 'ulimit -n 64 && exec "$@"', "sh", sys.executable, "-c", MANY, str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (found.returncode, found.stdout) == (0, "75000\n"), found.stderr


def _by_engine(files):
    return xr.open_dataset(files, engine="masterframe", chunks={})["counts"]


@pytest.mark.parametrize("opened", [mf.open_stack, _by_engine])
def test_frames_are_found_by_number_and_paired_by_place(paths, opened):
    values, stack = VALUES, opened(paths)
    np.testing.assert_array_equal(stack.sel(frame=3), values[3])
    np.testing.assert_array_equal(stack.sel(frame=slice(1, 2)), values[1:3])
    np.testing.assert_array_equal(stack[1:] - stack[:-1], np.diff(values, axis=0))
    chosen = stack[stack["path"] != str(paths[1])]
    np.testing.assert_array_equal(chosen["frame"], [0, 2, 3, 4, 5, 6])
    np.testing.assert_array_equal(chosen - stack[:6], np.delete(values, 1, axis=0) - values[:6])
    np.testing.assert_array_equal(
        xr.concat([chosen, stack[1:2]], "frame", coords="different", compat="equals"),
        values[[0, 2, 3, 4, 5, 6, 1]],
    )
    with pytest.raises(ValueError, match="6 and 2 frames do not pair"):
        stack[1:] - stack[:2]


@pytest.mark.slow
def test_sliders_go_over_the_frames(paths):
    pytest.importorskip("hvplot.xarray")  # which registers `.hvplot`
    shown = mf.open_stack(paths).hvplot.image(x="x", y="y")
    assert [dim.name for dim in shown.kdims] == ["frame"]
    np.testing.assert_array_equal(shown[3].dimension_values(2, flat=False), VALUES[3])


def test_chunks_fit_in_the_memory_that_is_given(paths):
    workers = cluster.available_cores()
    for rows in (1, 2, 3):
        most = rows * N * ROW_BYTES * 3 * workers
        for memory in (most, f"{most}B"):
            assert mf.open_stack(paths, memory=memory).data.chunksize[1] == rows
    assert mf.open_stack(paths, memory=1).data.chunksize[1] == 1
    assert mf.open_stack(paths, rows=5, memory=1).data.chunksize[1] == 5
    with pytest.raises(UsageError, match="memory: 'much' is no size"):
        mf.open_stack(paths, memory="much")
