"""Bands cover the image, and cost what was said."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from masterframe.errors import MemoryLimitError
from masterframe.tiling import (
    ARENA_BYTES,
    FRAME_BYTES,
    PART,
    Work,
    format_bytes,
    parse_bytes,
    plan_bands,
    sample_rows,
)


def work(n_frames=60, shape=(4096, 4112), itemsize=2):
    return Work(n_frames, shape, itemsize, scratch_bytes=1 << 20, master_bytes=13, plane_bytes=13)


@given(
    st.integers(1, 5000),
    st.tuples(st.integers(1, 9000), st.integers(1, 9001)),
    st.sampled_from([1, 2, 4, 8]),
    st.integers(1, 16),
    st.integers(10**8, 10**11),
    st.sampled_from([0, 1 << 26]),
)
def test_bands_cover_the_image_within_the_memory(n_frames, shape, itemsize, workers, memory, grain):
    job = work(n_frames, shape, itemsize)
    try:
        tiling = plan_bands(job, memory=memory, reserved=10**7, workers=workers, grain=grain)
    except MemoryLimitError:
        columns = min(shape[1], PART)  # of one row, by one worker: the least there is
        pixels = job.task_bytes(columns) + 2 * job.result_bytes(columns) + 8 * columns
        held = 10**7 + ARENA_BYTES + n_frames * FRAME_BYTES + job.scratch_bytes
        assert pixels + held > memory
        return
    starts = tiling.starts(shape[0])
    assert [y for start in starts for y in range(*start)] == list(range(shape[0]))
    assert (tiling.parts - 1) * tiling.columns < shape[1] <= tiling.parts * tiling.columns
    assert len(starts) * tiling.parts == tiling.bands
    assert tiling.parts == 1 or (tiling.rows == tiling.workers == 1 and tiling.columns % PART == 0)
    assert tiling.workers <= workers <= tiling.in_flight or tiling.workers == tiling.in_flight
    assert tiling.peak_bytes <= memory
    assert tiling.together == 1 or tiling.together * 8 * tiling.workers <= tiling.bands
    cell = n_frames * tiling.rows * tiling.columns * itemsize
    assert tiling.together == 1 or tiling.together * cell <= grain


@pytest.mark.parametrize(
    ("memory", "images", "together"), [(10**9, 1, 1), (10**9, 40, 10), (24 * 10**7, 40, 1)]
)
def test_small_cells_are_combined_together_where_results_fit(memory, images, together):
    """A task has 64 MB to read; each worker has eight tasks at least, and finished cells wait."""
    job = replace(work(n_frames=5, shape=(512, 1024)), images=images)
    given = {"memory": memory, "reserved": 2 * 10**8, "workers": 1}
    assert plan_bands(job, **given).together == 1
    assert plan_bands(job, **given, grain=1 << 26).together == together


def test_large_frames_get_bands_that_fill_the_cache():
    tiling = plan_bands(work(), memory=2 * 10**9, reserved=2 * 10**8, workers=2)
    assert 16 <= tiling.rows <= 64


def test_many_frames_get_reads_long_enough_for_the_disk():
    tiling = plan_bands(work(n_frames=1000), memory=10**9, reserved=2 * 10**8, workers=2)
    assert tiling.rows * 4112 * 2 >= 100_000


@given(st.integers(1, 5000), st.integers(0, 5000))
def test_levels_are_measured_on_absolute_rows_and_on_enough_of_them(height, first):
    rows = sample_rows(height, first)
    assert first <= rows.start <= rows[-1] < first + height
    assert len(rows) >= min(64, height)
    assert rows.step == 16 if height >= 16 * 64 else rows.step < 16
    assert all(row % rows.step == 0 for row in rows)


def test_fewer_workers_first_then_parts_of_rows():
    """9 000 frames: a row of all is 74 MB, which fits twice, once, in parts, or not at all."""
    job = work(n_frames=9000)
    found = [
        plan_bands(job, memory=memory * 10**6, reserved=2 * 10**8, workers=2)
        for memory in (1000, 400, 310)
    ]
    assert [(item.workers, item.parts) for item in found] == [(2, 1), (1, 1), (1, 3)]
    fixed = plan_bands(job, memory=4 * 10**8, reserved=2 * 10**8, workers=2, divisible=False)
    assert (fixed.workers, fixed.parts) == (2, 3)


def test_refusal_names_both_numbers():
    with pytest.raises(MemoryLimitError, match=r"need at least .* MB .* 300 MB are given"):
        plan_bands(work(n_frames=20_000), memory=3 * 10**8, reserved=2 * 10**8, workers=2)


@pytest.mark.parametrize(
    ("text", "size"),
    [("2GB", 2 * 10**9), ("500 MB", 5 * 10**8), ("1.5GiB", 3 << 29), ("4096", 4096), ("8k", None)],
)
def test_sizes_are_read_as_people_write_them(text, size):
    if size is None:
        with pytest.raises(ValueError, match="number and a unit"):
            parse_bytes(text)
    else:
        assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "nanGB", "infGB", "2 parsecs"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(ValueError, match="is no size"):
        parse_bytes(text)


def test_sizes_are_written_as_people_read_them():
    assert [format_bytes(n) for n in (7, 1536, 2.01e9, 3.3e12)] == [
        "7 B",
        "1.54 kB",
        "2.01 GB",
        "3.3e+03 GB",
    ]
