"""Reading rows: equal to astropy bit for bit, in one read a frame, nothing left open."""

import gzip
import itertools
import os
import pickle
import shutil
import subprocess
import sys
import textwrap
import threading
import tracemalloc
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from masterframe import fits as mfits
from masterframe.errors import FrameError
from masterframe.fits import (
    StackReader,
    counter,
    datasum,
    legal,
    read_header,
    read_rows,
    read_stack,
    scan_file,
)
from support import shared
from writing import shown

STORED = {8: "u1", 16: ">i2", 32: ">i4", 64: ">i8", -32: ">f4", -64: ">f8"}
per_example = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=120
)


def write(path: Path, stored: np.ndarray, **cards) -> Path:
    """Write stored values as they are, with the cards as they are."""
    kinds = {np.dtype(name).newbyteorder("="): bitpix for bitpix, name in STORED.items()}
    bitpix = kinds[stored.dtype.newbyteorder("=")]
    shape = {f"NAXIS{n}": length for n, length in enumerate(reversed(stored.shape), 1)}
    every = {"SIMPLE": True, "BITPIX": bitpix, "NAXIS": stored.ndim, **shape, **cards}
    header = fits.Header(list(every.items())).tostring().encode()
    data = stored.astype(STORED[bitpix]).tobytes()
    path.write_bytes(header + data.ljust(-(-len(data) // 2880) * 2880, b"\0"))
    return path


def frame_of(path, hdu=0):
    return scan_file(path).hdus[hdu].frame


def fold(total: int) -> int:
    """Add the carries of a sum of 32 bit words back in."""
    while total >> 32:
        total = (total & 0xFFFFFFFF) + (total >> 32)
    return total


def bits(values: np.ndarray) -> tuple[str, tuple[int, ...], bytes]:
    """Type, shape and bytes of values in native order."""
    native = values.astype(values.dtype.newbyteorder("="))
    return native.dtype.name, native.shape, native.tobytes()


@st.composite
def stored_images(draw):
    """Stored values of any BITPIX, with scaling cards that astropy can obey."""
    bitpix = draw(st.sampled_from(sorted(STORED)))
    shape = draw(st.sampled_from([(1, 1), (1, 9), (7, 1), (3, 5), (8, 6)]))
    dtype = np.dtype(STORED[bitpix]).newbyteorder("=")
    values = draw(hnp.arrays(f"u{dtype.itemsize}", shape)).view(dtype)
    offsets = {8: [-128], 16: [32768, 32768.0], 32: [1 << 31], 64: [1 << 63]}.get(bitpix, [])
    bzero = draw(st.sampled_from([None, 0, 0.0, 1, -7.25, 1e5, 32767, *offsets]))
    bscale = draw(st.sampled_from([None, 1, 1.0, 2, 0.1, -3.7e-3]))
    cards = {"BZERO": bzero, "BSCALE": bscale}
    if bitpix > 0:
        # 0 is missing here: astropy takes BLANK = 0 for none, see the test of it below.
        used = [int(value) for value in values.ravel()[:3] if value]
        blank = draw(st.sampled_from([None, None, 77, -32768, 100_000, *used]))
        if bzero in offsets and (bscale in {None, 1} or bitpix == 8):
            blank = None  # astropy ignores it (and fails on int8), see the test of it below
        cards["BLANK"] = blank
    return values, {key: value for key, value in cards.items() if value is not None}


@per_example
@given(stored_images(), st.data())
def test_values_are_those_of_astropy_bit_for_bit(tmp_path, image, data):
    stored, cards = image
    path = write(tmp_path / "a.fits", stored, **cards)
    y0 = data.draw(st.integers(0, stored.shape[0] - 1))
    y1 = data.draw(st.integers(y0 + 1, stored.shape[0]))
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        with fits.open(path) as hdus:
            whole = bits(hdus[0].data)
        with fits.open(path) as hdus:
            part = bits(hdus[0].section[y0:y1])
        step = data.draw(st.integers(1, 4))
        with fits.open(path) as hdus:
            every = bits(hdus[0].data[y0:y1:step])
    frame = frame_of(path)
    assert bits(read_rows(frame, 0, stored.shape[0])) == whole
    assert bits(read_rows(frame, y0, y1)) == part
    assert bits(read_rows(frame, y0, y1, step)) == every
    assert bits(read_stack([frame, frame], y0, y1, step)[1]) == every
    assert frame.dtype == whole[0]


@pytest.mark.parametrize("bitpix", [8, 16, 32, 64])
def test_blank_may_be_zero(tmp_path, bitpix):
    stored = np.array([[0, 5, 6], [7, 0, 9]], np.dtype(STORED[bitpix]).newbyteorder("="))
    values = read_rows(frame_of(write(tmp_path / "a.fits", stored, BLANK=0)), 0, 2)
    assert values.dtype == (np.float32 if bitpix <= 16 else np.float64)
    assert np.array_equal(values, [[np.nan, 5, 6], [7, np.nan, 9]], equal_nan=True)


def test_blank_of_an_unsigned_image_is_no_value(tmp_path):
    """Subaru HSC writes BITPIX 16, BZERO 32768 and BLANK -32768, which astropy reads as 0."""
    stored = np.array([[-32768, 5], [7, 32767]], np.int16)
    values = read_rows(
        frame_of(write(tmp_path / "a.fits", stored, BZERO=32768, BLANK=-32768)), 0, 2
    )
    assert values.dtype == np.float32
    assert np.array_equal(values, [[np.nan, 32773], [32775, 65535]], equal_nan=True)


@pytest.mark.parametrize("bitpix", [-32, -64])
def test_every_bit_of_a_float_is_kept(tmp_path, bitpix):
    size = -bitpix // 8
    top = 1 << (8 * size - 1)
    quiet, signalling = (
        (0x7FC00ABC, 0x7F800ABC) if size == 4 else (0x7FF8 << 48 | 7, 0x7FF0 << 48 | 7)
    )
    words = np.array([[top, quiet, signalling], [top | quiet, top | signalling, 1]], f"u{size}")
    frame = frame_of(write(tmp_path / "a.fits", words.view(f"f{size}")))
    assert np.array_equal(read_rows(frame, 0, 2).view(words.dtype), words)
    assert np.array_equal(read_stack([frame] * 3, 1, 2).view(words.dtype), [words[1:]] * 3)


def test_a_stack_has_the_rows_of_every_frame(tmp_path):
    rng = np.random.default_rng(4)
    images = [rng.integers(0, 65536, (9, 7)).astype(np.uint16) for _ in range(5)]
    frames = []
    for n, image in enumerate(images):
        fits.PrimaryHDU(image).writeto(tmp_path / f"{n}.fits")
        frames.append(frame_of(tmp_path / f"{n}.fits"))
    before = counter.bytes
    block = read_stack(frames, 2, 6)
    assert counter.bytes - before == 5 * 4 * 7 * 2
    assert block.dtype == np.uint16
    assert block.flags.c_contiguous
    assert np.array_equal(block, np.stack(images)[:, 2:6])
    assert read_stack(frames, 3, 3).shape == (5, 0, 7)
    assert np.array_equal(read_stack(pickle.loads(pickle.dumps(frames)), 0, 9), images)


def test_frames_of_different_types_become_one_that_holds_both(tmp_path):
    small = frame_of(write(tmp_path / "i.fits", np.array([[-5, 30_000, 7]], np.int16)))
    unsigned = frame_of(
        write(tmp_path / "u.fits", np.array([[1, 32_767, 3]], np.int16), BZERO=32768)
    )
    scaled = frame_of(write(tmp_path / "s.fits", np.array([[1, 2, 3]], np.int16), BSCALE=0.5))
    block = read_stack([small, unsigned], 0, 1)
    assert block.dtype == np.int32
    assert block.tolist() == [[[-5, 30_000, 7]], [[32_769, 65_535, 32_771]]]
    block = read_stack([unsigned, scaled], 0, 1)
    assert block.dtype == np.float32
    assert block.tolist() == [[[32_769, 65_535, 32_771]], [[0.5, 1.0, 1.5]]]


def test_wrong_shapes_and_rows(tmp_path):
    narrow = frame_of(write(tmp_path / "a.fits", np.zeros((4, 3), np.int16)))
    wide = frame_of(write(tmp_path / "b.fits", np.zeros((4, 5), np.int16)))
    with pytest.raises(FrameError, match=r"b\.fits: it is 5 pixels wide, .*a\.fits is 3"):
        read_stack([narrow, wide], 0, 4)
    for y0, y1 in [(-1, 2), (3, 2), (0, 5)]:
        with pytest.raises(ValueError, match="has rows 0 to 4"):
            read_rows(narrow, y0, y1)


def test_a_stack_is_read_without_a_copy(tmp_path):
    frame = frame_of(write(tmp_path / "a.fits", np.ones((500, 400), np.int16), BZERO=32768))
    read_stack([frame], 0, 1)  # compiles
    tracemalloc.start()
    try:
        block = read_stack([frame] * 20, 0, 500)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1.02 * block.nbytes


def test_thousands_of_files_with_few_descriptors(tmp_path):
    image = np.arange(12, dtype=np.uint16).reshape(4, 3)
    fits.PrimaryHDU(image).writeto(tmp_path / "0.fits")
    for n in range(1, 5000):
        (tmp_path / f"{n}.fits").hardlink_to(tmp_path / "0.fits")
    code = """
        import resource, sys
        from masterframe import fits
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        scans, problems = fits.scan_files(f"{sys.argv[1]}/{n}.fits" for n in range(5000))
        block = fits.read_stack([scan.hdus[0].frame for scan in scans], 1, 3)
        print(block.shape, int(block.sum()), fits.counter.bytes, problems)
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)],
        check=True,
        capture_output=True,
        text=True,
    )
    assert run.stdout.strip() == f"(5000, 2, 3) {5000 * (3 + 4 + 5 + 6 + 7 + 8)} {5000 * 12} []"


def test_threads_count_every_byte(tmp_path):
    frame = frame_of(write(tmp_path / "a.fits", np.ones((6, 5), np.int32)))
    before = counter.bytes
    threads = [
        threading.Thread(target=lambda: [read_rows(frame, 1, 4) for _ in range(50)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counter.bytes - before == 4 * 50 * 3 * 5 * 4


def test_a_file_that_changes_after_the_scan(tmp_path):
    path = write(tmp_path / "a.fits", np.ones((60, 50), np.int16))
    frame = frame_of(path)
    for use in (lambda: read_rows(frame, 0, 1), lambda: datasum(frame)):
        use()
        stamp = frame.mtime_ns + 1_000_000
        os.utime(path, ns=(stamp, stamp))
        with pytest.raises(FrameError, match="changed during the run: written to since"):
            use()
        os.truncate(path, 4000)
        with pytest.raises(FrameError, match="changed during the run: 4,000 bytes, 11,520 when"):
            use()
        path.unlink()
        with pytest.raises(FrameError, match="no such file"):
            use()
        os.mkfifo(path)
        with pytest.raises(FrameError, match="not a regular file but a FIFO"):
            use()
        path.unlink()
        write(path, np.ones((60, 50), np.int16))
        os.utime(path, ns=(frame.mtime_ns, frame.mtime_ns))


def test_a_frame_beyond_the_end_of_its_file(tmp_path):
    frame = frame_of(write(tmp_path / "a.fits", np.ones((60, 50), np.int16)))
    with pytest.raises(FrameError, match="truncated: 8,640 of 100,000 bytes of rows"):
        read_rows(replace(frame, shape=(1000, 50)), 0, 1000)


@pytest.mark.parametrize("suffix", ["gz", "bz2", "xz"])
def test_packed_files(tmp_path, suffix):
    image = np.random.default_rng(2).integers(0, 65536, (30, 20)).astype(np.uint16)
    hdus = fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(image), fits.ImageHDU(image[:7] / 3)])
    hdus.writeto(tmp_path / f"a.fits.{suffix}", checksum=True)
    path = tmp_path / "b.fits"
    shutil.copy(tmp_path / f"a.fits.{suffix}", path)
    first, second = frame_of(path, 1), frame_of(path, 2)
    before = counter.bytes
    assert np.array_equal(read_rows(first, 4, 29), image[4:29])
    assert counter.bytes - before == 25 * 20 * 2
    assert np.array_equal(read_rows(second, 0, 7), image[:7] / 3)
    assert np.array_equal(read_rows(first, 2, 27, 7), image[2:27:7])
    assert [datasum(first), datasum(second)] == [first.datasum, second.datasum]
    rows = range(30)
    values, sums = StackReader([first]).read_summed(rows, rows)
    assert np.array_equal(values, image[None])
    assert [fold(int(total)) for total in sums] == [first.datasum]


@pytest.mark.parametrize(
    ("image", "options"),
    [
        (np.arange(1200, dtype=np.uint16).reshape(40, 30) + 40_000, {"compression_type": "RICE_1"}),
        (np.arange(1200, dtype=np.int32).reshape(40, 30), {"compression_type": "GZIP_2"}),
        (np.arange(1200, dtype=np.uint8).reshape(40, 30), {"compression_type": "GZIP_1"}),
        (
            np.random.default_rng(0).normal(100, 5, (40, 30)).astype(np.float32),
            {"quantize_level": 16, "compression_type": "RICE_1"},
        ),
        (
            np.random.default_rng(0).normal(100, 5, (40, 30)),
            {"quantize_level": 0, "compression_type": "GZIP_1"},
        ),
    ],
)
def test_tiles(tmp_path, image, options):
    path = tmp_path / "a.fits"
    tiles = fits.CompImageHDU(image, tile_shape=(7, 30), **options)
    fits.HDUList([fits.PrimaryHDU(), tiles]).writeto(path, checksum=True)
    with fits.open(path) as hdus:
        expected = hdus[1].data
    frame = frame_of(path, 1)
    assert bits(read_rows(frame, 0, 40)) == bits(expected)
    assert bits(read_rows(frame, 5, 23)) == bits(expected[5:23])
    assert bits(read_rows(frame, 5, 33, 9)) == bits(expected[5:33:9])
    assert datasum(frame) == frame.datasum
    packed = tmp_path / "b.fits"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert bits(read_rows(frame_of(packed, 1), 5, 23)) == bits(expected[5:23])


def test_damaged_tiles_are_named(tmp_path):
    path = tmp_path / "a.fits"
    image = np.random.default_rng(0).integers(0, 9999, (40, 30)).astype(np.int16)
    tiles = fits.CompImageHDU(image, compression_type="GZIP_1")
    fits.HDUList([fits.PrimaryHDU(), tiles]).writeto(path)
    with fits.open(path, disable_image_compression=True) as hdus:
        start = hdus[1].fileinfo()["datLoc"]
    with path.open("r+b") as file:
        file.seek(start + 8 * 40 + 200)
        file.write(b"\xff" * 300)
    with pytest.raises(FrameError, match="its tiles cannot be unpacked"):
        read_rows(frame_of(path, 1), 0, 40)


@pytest.mark.parametrize(
    ("dtype", "shape"),
    [
        ("uint8", (5, 7)),
        ("int16", (6, 9)),
        ("uint16", (7, 5)),
        ("uint16", (9, 1)),
        ("int32", (3, 11)),
        ("uint32", (5, 3)),
        ("int64", (4, 5)),
        ("uint64", (3, 7)),
        ("int8", (7, 3)),
        ("float32", (5, 9)),
        ("float64", (7, 4)),
    ],
)
@pytest.mark.parametrize("suffix", ["fits", "fits.gz"])  # read by one call; one by one
def test_datasum_from_bytes_and_from_bands(tmp_path, dtype, shape, suffix):
    rng = np.random.default_rng(8)
    frames, images = [], []
    for n in range(3):
        words = rng.integers(0, 256, (*shape, np.dtype(dtype).itemsize), np.uint8)
        image = words.view(dtype)[..., 0]
        if image.dtype.kind == "f":
            image = np.nan_to_num(image)
        hdu = fits.PrimaryHDU(image)
        hdu.add_datasum()
        hdu.writeto(tmp_path / f"{n}.{suffix}")
        frames.append(frame_of(tmp_path / f"{n}.{suffix}"))
        images.append(image)
    expected = [frame.datasum for frame in frames]
    assert [datasum(frame) for frame in frames] == expected
    assert len(set(expected)) == 3
    edges = [0, *sorted(rng.choice(np.arange(1, shape[0]), 2, replace=False)), shape[0]]
    total = np.zeros(3, np.uint64)
    reader = StackReader(frames)
    margin = int(rng.integers(0, 3))
    for y0, y1 in itertools.pairwise(map(int, edges)):
        rows = range(max(y0 - margin, 0), min(y1 + margin, shape[0]))
        values, sums = reader.read_summed(rows, range(y0, y1))
        assert bits(values) == bits(reader.read(rows))
        total += sums
    assert [fold(int(one)) for one in total] == expected


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int32", "float64"])
@pytest.mark.parametrize("suffix", ["fits", "fits.gz"])
def test_datasum_from_parts_of_rows(tmp_path, dtype, suffix):
    image = np.random.default_rng(3).integers(0, 256, (5, 7, 8), np.uint8)
    image = image[..., : np.dtype(dtype).itemsize].copy().view(dtype)[..., 0]
    image = np.nan_to_num(image)
    fits.PrimaryHDU(image).writeto(tmp_path / f"a.{suffix}", checksum=True)
    frame = frame_of(tmp_path / f"a.{suffix}")
    reader, total = StackReader([frame, frame]), 0
    for y, (x0, x1) in itertools.product(range(5), [(0, 3), (3, 4), (4, 7)]):
        rows = range(max(y - 1, 0), min(y + 2, 5))
        _, sums = reader.read_summed(rows, range(y, y + 1), range(x0, x1))
        total += int(sums[1])
    assert fold(total) == frame.datasum
    assert reader.read_summed(range(3), range(1, 3), range(4))[1].size == 0
    assert reader.read_summed(range(0, 4, 2), range(4), range(7))[1].size == 0


def test_no_sum_where_the_stored_bytes_cannot_be_known(tmp_path):
    image = np.arange(6, dtype=np.int16).reshape(2, 3)
    plain = frame_of(write(tmp_path / "p.fits", image))
    scaled = frame_of(write(tmp_path / "s.fits", image, BSCALE=0.5))
    floats = frame_of(write(tmp_path / "f.fits", image.astype(np.float32), BZERO=1.0))
    for frames in ([scaled], [floats], [plain, scaled]):
        assert StackReader(frames).read_summed(range(2), range(2))[1].size == 0


def test_nonzero_padding_counts_in_the_sum_of_the_file(tmp_path):
    path = write(tmp_path / "a.fits", np.arange(6, dtype=np.int16).reshape(2, 3))
    clean = datasum(frame_of(path))
    with path.open("r+b") as file:
        file.seek(2880 + 12)
        file.write(b"\0\0\0\7")
    assert datasum(frame_of(path)) == clean + 7
    os.truncate(path, 2880 + 12)  # no padding at all
    assert datasum(frame_of(path)) == clean


def test_a_header_with_all_its_cards(tmp_path):
    path = write(tmp_path / "a.fits", np.zeros((2, 3), np.int16), OBJECT="M 13")
    text = path.read_bytes()
    end = text.index(b"END".ljust(80))
    cards = [
        "EXPTIME =              3,2E-05 / [s] decimal comma",
        "HISTORY first line",
        "HISTORY second line",
        "HIERARCH ESO DET OUT1 GAIN = 0.91 / adu",
        "no value at all",
        "OBSERVER= 'J\xf6rg'",
        "END",
    ]
    new = "".join(card.ljust(80) for card in cards).encode("latin-1")
    path.write_bytes(text[:end] + new + text[end + len(new) :])
    header = shown(legal.safe_cards(read_header(str(path), 0)))
    assert header["OBJECT"] == "M 13"
    assert header["EXPTIME"] == "3,2E-05"
    assert header.comments["EXPTIME"] == "[s] decimal comma"
    assert list(header["HISTORY"]) == ["first line", "second line"]
    assert header["ESO DET OUT1 GAIN"] == 0.91
    assert header["OBSERVER"] == r"J\xf6rg"
    assert len(header.tostring()) == 2880
    with pytest.raises(FrameError, match="it has no HDU 3"):
        read_header(str(path), 3)


def test_a_huge_header_of_odd_cards_leaves_the_pixels_where_they_are(tmp_path):
    """Five thousand cards, long strings over several, HIERARCH, and data without padding."""
    image = np.arange(12, dtype=np.uint16).reshape(4, 3) + 40_000
    hdu = fits.PrimaryHDU(image)
    for n in range(2000):
        hdu.header[f"HIERARCH ESO DET OUT{n} GAIN"] = n / 8
        hdu.header["HISTORY"] = f"step {n}"
    hdu.header["LONGTEXT"] = "a 'quoted' text & more " * 300
    whole = tmp_path / "whole.fits"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        hdu.writeto(whole)
    end = whole.stat().st_size - 2880 + image.nbytes
    for name, data in (
        ("a.fits", whole.read_bytes()[:end]),
        ("a.fits.gz", gzip.compress(whole.read_bytes()[:end])),
    ):
        path = tmp_path / name
        path.write_bytes(data)
        scan = scan_file(path).hdus[0]
        assert np.array_equal(read_rows(scan.frame, 1, 4), image[1:])
        with fits.open(whole) as hdus:
            expected = hdus[0].header
            assert scan.header["LONGTEXT"] == expected["LONGTEXT"]
            assert scan.header["ESO DET OUT1999 GAIN"] == 1999 / 8
            assert len(read_header(str(path), 0)) == len(expected)
    tiles = fits.CompImageHDU(image, hdu.header)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tiles.writeto(tmp_path / "a.fz")
    scan = scan_file(tmp_path / "a.fz").hdus[1]
    assert np.array_equal(read_rows(scan.frame, 1, 4), image[1:])
    assert scan.header["LONGTEXT"] == tiles.header["LONGTEXT"]


def test_headers_of_real_frames_can_be_written_again():
    for name in ("asi178/Bias_ASIImg_frame0001.fit", "floyds", "efosc2", "sprat"):
        found = shared(f"data/{name}")
        file = found if found.is_file() else min(found.iterdir())
        for item in scan_file(file).hdus:
            header = shown(legal.safe_cards(read_header(str(file), item.index)))
            if item.frame:
                assert header["NAXIS1"] == item.frame.shape[1]


@pytest.mark.filterwarnings("ignore::astropy.utils.exceptions.AstropyUserWarning")
def test_real_frames_equal_astropy():
    count = 0
    for file in sorted(shared("data").rglob("*.[fF][iI][tT]*")):
        if {"lsst_mef", "efosc2", "junk"} & set(file.parts):
            continue
        try:
            scan = scan_file(file)
        except FrameError as error:
            assert error.reason.startswith("truncated")  # noqa: PT017
            continue
        with fits.open(file) as hdus:
            assert len(hdus) == len(scan.hdus)
            for item in scan.hdus:
                if item.frame is None:
                    continue
                height = item.frame.shape[0]
                middle = slice(height // 3, height // 3 + 20)
                rows = read_rows(item.frame, middle.start, min(middle.stop, height))
                assert bits(rows) == bits(hdus[item.index].section[middle]), file.name
                if item.frame.datasum is not None:
                    assert datasum(item.frame) == item.frame.datasum
                count += 1
    assert count > 100


def test_a_multi_extension_file_inside_gzip():
    file = shared("data/lsst_mef/201607220607067-R071-S00-det071.fits")
    scan = scan_file(file)
    frames = [item.frame for item in scan.hdus if item.frame]
    assert mfits.content(str(file)) == "gzip"
    assert [frame.shape for frame in frames] == [(2048, 544)] * 16
    assert not read_rows(frames[7], 2000, 2048).any()
    assert all("table" in item.reason for item in scan.hdus[17:])
