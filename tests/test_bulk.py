"""Rows of many files by one call: the same bits as one by one, and nothing taken on trust."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from masterframe import kernels

pytestmark = pytest.mark.skipif(not kernels.reads_files(), reason="this system has no statx")

OFFSET = 11


def files_of(folder, images):
    """Write images as big-endian words behind a few other bytes; return how they are read."""
    paths = [folder / f"{n} \N{SNOWMAN}.raw" for n in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        path.write_bytes(b"h" * OFFSET + image.astype(image.dtype.newbyteorder(">")).tobytes())
    about = [path.stat() for path in paths]
    return paths, kernels.files(
        [str(path) for path in paths],
        [one.st_size for one in about],
        [one.st_mtime_ns for one in about],
        [OFFSET] * len(paths),
    )


@given(data=st.data(), size=st.sampled_from([1, 2, 4, 8]), seed=st.integers(0, 999))
def test_runs_of_every_file_become_native(tmp_path_factory, data, size, seed):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (3, 7, 5 * size), np.uint8).view(f"u{size}")
    _, source = files_of(tmp_path_factory.mktemp("raw"), images)
    y0, step = data.draw(st.integers(0, 6)), data.draw(st.integers(1, 3))
    x0 = data.draw(st.integers(0, 4))
    part = images[:, y0::step, x0:]
    flip = data.draw(st.sampled_from([0, 1 << (8 * size - 1)]))
    out = np.zeros(part.shape, part.dtype)
    runs = kernels.Runs(first=(y0 * 5 + x0) * size, stride=step * 5 * size)
    begin = data.draw(st.integers(0, part[0].size))
    summed = range(begin, data.draw(st.integers(begin, part[0].size)))
    done, sums = kernels.read_runs(source, runs, out, flip, summed)
    assert done.all()
    assert np.array_equal(out, part ^ part.dtype.type(flip))
    stored = part.reshape(3, -1)[:, begin : summed.stop].astype(f">u{size}")
    assert sums.tolist() == [words_of(one.tobytes()) for one in stored]


def test_files_that_arrive_in_another_process_are_taken_apart_there(tmp_path):
    images = np.arange(12, dtype=np.uint16).reshape(2, 2, 3)
    _, source = files_of(tmp_path, images)
    arrived = pickle.loads(pickle.dumps(source))
    assert set(arrived.words).isdisjoint(array.ctypes.data for array in source.value)
    out = np.zeros_like(images)
    assert kernels.read_runs(arrived, kernels.Runs(first=0, stride=6), out, 0)[0].all()
    assert np.array_equal(out, images)


def words_of(data):
    return sum(int.from_bytes(data[k : k + 4].ljust(4, b"\0")) for k in range(0, len(data), 4))


def cut(path):
    """Take off the last byte, and give the file the time that it had."""
    about = path.stat()
    path.write_bytes(path.read_bytes()[:-1])
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))


def write_again(path):
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))


def put_folder(path):
    path.unlink()
    path.mkdir()


def put_pipe(path):
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("harm", [os.unlink, cut, write_again, put_folder, put_pipe])
def test_a_file_that_is_not_as_it_was_is_left_to_the_caller(tmp_path, harm):
    images = np.arange(24, dtype=np.uint16).reshape(4, 2, 3)
    paths, source = files_of(tmp_path, images)
    harm(paths[2])
    out = np.zeros((4, 1, 6), np.uint16)
    done, sums = kernels.read_runs(source, kernels.Runs(0, 0), out, 0, range(6))
    assert done.tolist() == [True, True, False, True]
    assert sums[2] == 0
    assert np.array_equal(out[[0, 1, 3], 0], images.reshape(4, 6)[[0, 1, 3]])


def test_a_file_that_ends_too_early_is_left_to_the_caller(tmp_path):
    images = np.arange(24, dtype=np.uint16).reshape(4, 2, 3)
    _, source = files_of(tmp_path, images)
    out = np.zeros((4, 1, 7), np.uint16)
    done, sums = kernels.read_runs(source, kernels.Runs(0, 0), out, 0, range(6))
    assert not done.any()
    assert not sums.any()


def test_no_descriptor_stays_open(tmp_path):
    paths, source = files_of(tmp_path, np.ones((5, 4, 3), np.int32).view(np.uint32))
    write_again(paths[1])
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        kernels.read_runs(source, kernels.Runs(0, 0), np.zeros((5, 1, 12), np.uint32), 0)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
