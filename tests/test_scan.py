"""Header scan: what is found in good files, and that bad ones are refused in one clear sentence."""

import bz2
import gzip
import lzma
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from masterframe.errors import FrameError
from masterframe.fits import content, read_rows, scan_file, scan_files
from masterframe.fits.layout import BLOCK
from masterframe.model import Packing, Scaling
from support import shared

SHAPE = (11, 13)
PIXELS = np.arange(11 * 13, dtype=np.uint16).reshape(SHAPE) + 60_000


def raw_header(**cards) -> bytes:
    """Header of SHAPE with BITPIX 16; values are written as given, None leaves a card out."""
    all_cards = {"SIMPLE": "T", "BITPIX": 16, "NAXIS": 2, "NAXIS1": 13, "NAXIS2": 11} | cards
    lines = [f"{key:8}= {value!s:>20}" for key, value in all_cards.items() if value is not None]
    text = "".join(line.ljust(80) for line in [*lines, "END"])
    return text.ljust(-(-len(text) // BLOCK) * BLOCK).encode()


DATA = PIXELS.astype(">i2").tobytes().ljust(BLOCK, b"\0")


@pytest.fixture
def simple(tmp_path) -> Path:
    path = tmp_path / "simple.fits"
    path.write_bytes(raw_header() + DATA)
    return path


def reason(path) -> str:
    with pytest.raises(FrameError) as caught:
        scan_file(path)
    assert caught.value.path == str(path)
    assert "\n" not in caught.value.reason
    return caught.value.reason


def test_a_plain_file(tmp_path, monkeypatch):
    hdu = fits.PrimaryHDU(PIXELS)
    hdu.header["OBJECT"] = "M 13"
    hdu.header["EXTNAME"] = "SCI"
    hdu.add_datasum()
    hdu.writeto(tmp_path / "a.fits")
    monkeypatch.chdir(tmp_path)
    scan = scan_file("a.fits")
    about = (tmp_path / "a.fits").stat()
    assert scan.path == str(tmp_path / "a.fits")
    assert (scan.stamp.size, scan.stamp.mtime_ns) == (about.st_size, about.st_mtime_ns)
    assert (scan.device, scan.stamp.inode) == (about.st_dev, about.st_ino)
    (found,) = scan.hdus
    frame = found.frame
    assert (found.index, found.extname, found.reason) == (0, "SCI", "")
    assert found.header["OBJECT"] == "M 13"
    assert (frame.path, frame.hdu, frame.extname, frame.offset) == (scan.path, 0, "SCI", BLOCK)
    assert (frame.bitpix, frame.shape, frame.dtype) == (16, SHAPE, "uint16")
    assert frame.scaling == Scaling(32768.0)
    assert (frame.size, frame.mtime_ns) == (scan.stamp.size, scan.stamp.mtime_ns)
    assert frame.datasum == int(fits.getheader(scan.path)["DATASUM"])


def test_extensions(tmp_path):
    images = [np.zeros((2 + n, 3 + n), np.float32) for n in range(3)]
    hdus = fits.HDUList(
        [
            fits.PrimaryHDU(),
            fits.ImageHDU(images[0], name="A"),
            fits.BinTableHDU.from_columns([fits.Column("x", "D", array=np.ones(5))], name="T"),
            fits.ImageHDU(images[1]),
            fits.ImageHDU(images[2][None], name="ONE"),
            fits.ImageHDU(np.zeros((2, 3, 4)), name="CUBE"),
            fits.ImageHDU(np.zeros(7), name="ROW"),
            fits.ImageHDU(name="EMPTY"),
        ]
    )
    hdus[0].header["OBSERVER"] = "in the primary alone"
    hdus.writeto(tmp_path / "m.fits")
    scan = scan_file(tmp_path / "m.fits")
    shapes = [item.frame and item.frame.shape for item in scan.hdus]
    assert shapes == [None, (2, 3), None, (3, 4), (4, 5), None, None, None]
    assert [item.extname for item in scan.hdus] == ["", "A", "T", "", "ONE", "CUBE", "ROW", "EMPTY"]
    assert [item.reason for item in scan.hdus] == [
        "",
        "",
        "a table (BINTABLE)",
        "",
        "",
        "a cube of 2 planes, 4 x 3 each",
        "a row of 7 values, no image",
        "",
    ]
    assert "OBSERVER" not in scan.hdus[1].header
    with fits.open(scan.path) as opened:
        for item in scan.hdus:
            if item.frame:
                assert item.frame.offset == opened[item.index].fileinfo()["datLoc"]


@pytest.mark.parametrize(
    ("cards", "dtype", "scaling"),
    [
        ({}, "int16", Scaling()),
        ({"BZERO": 32768}, "uint16", Scaling(32768.0)),
        ({"BZERO": "32768.", "BSCALE": "1.0"}, "uint16", Scaling(32768.0)),
        ({"BZERO": 32768, "BLANK": -1}, "float32", Scaling(32768.0, 1.0, -1)),
        ({"BZERO": 32767}, "float32", Scaling(32767.0)),
        ({"BSCALE": 2, "BLANK": 7}, "float32", Scaling(0.0, 2.0, 7)),
        ({"BLANK": -32768}, "float32", Scaling(blank=-32768)),
        ({"BLANK": "1.5"}, "int16", Scaling()),
        ({"BITPIX": 8}, "uint8", Scaling()),
        ({"BITPIX": 8, "BZERO": -128}, "int8", Scaling(-128.0)),
        ({"BITPIX": 32, "BZERO": 1 << 31}, "uint32", Scaling(2.0**31)),
        ({"BITPIX": 32, "BSCALE": 0.5}, "float64", Scaling(0.0, 0.5)),
        ({"BITPIX": 64, "BZERO": 1 << 63}, "uint64", Scaling(2.0**63)),
        ({"BITPIX": 64, "BZERO": (1 << 63) - 1}, "float64", Scaling(2.0**63)),
        ({"BITPIX": -32, "BSCALE": 3, "BLANK": 7}, "float32", Scaling(0.0, 3.0)),
        ({"BITPIX": -64}, "float64", Scaling()),
    ],
)
def test_scaling_gives_the_physical_type(tmp_path, cards, dtype, scaling):
    path = tmp_path / "a.fits"
    path.write_bytes(raw_header(**cards) + DATA)
    (found,) = scan_file(path).hdus
    assert (found.frame.dtype, found.frame.scaling) == (dtype, scaling)


@pytest.mark.parametrize(
    ("cards", "message"),
    [
        ({"BITPIX": 17}, "BITPIX = 17 is none of 8, 16, 32, 64, -32, -64"),
        ({"BITPIX": "'16'"}, "BITPIX = '16' is not a whole number"),
        ({"BITPIX": None}, "it has no BITPIX card"),
        ({"NAXIS": None}, "it has no NAXIS card"),
        ({"NAXIS": -1}, "NAXIS = -1 is not between 0 and 999"),
        ({"NAXIS": 1000}, "NAXIS = 1000 is not between 0 and 999"),
        ({"NAXIS": 0}, "no pixels in it: NAXIS = 0 in every HDU"),
        ({"NAXIS": 3}, "it has no NAXIS3 card"),
        ({"NAXIS1": -13}, "NAXIS1 = -13 is negative"),
        ({"NAXIS1": "13.0"}, "NAXIS1 = 13.0 is not a whole number"),
        ({"NAXIS1": "T"}, "NAXIS1 = True is not a whole number"),
        ({"NAXIS1": 2048}, "truncated: 2,880 of 45,056 bytes"),
        ({"NAXIS1": 2_048_000_000}, "truncated: 2,880 of 45,056,000,000 bytes"),
        ({"NAXIS1": 10**17}, "truncated: 2,880 of 2,200,000,000,000,000,000 bytes"),
        ({"NAXIS1": 10**19}, "its header claims more pixels than any file can hold"),
        ({"PCOUNT": -5}, "PCOUNT = -5 is negative"),
        ({"GCOUNT": 10**20}, "its header claims more pixels than any file can hold"),
        ({"BZERO": "'32768'"}, "unreadable scaling: BZERO = '32768' is not a number"),
        ({"BZERO": "NaN"}, "unreadable scaling: BZERO = 'NaN' is not a number"),
        ({"BZERO": "T"}, "unreadable scaling: BZERO = True is not a number"),
        ({"BSCALE": ""}, "unreadable scaling: BSCALE = None is not a number"),
        ({"BSCALE": "1E999"}, "unreadable scaling: BSCALE = inf is not a number"),
        ({"BSCALE": "0.0"}, "unreadable scaling: BSCALE = 0 would make every value the same"),
        ({"SIMPLE": "F"}, "SIMPLE is not T: it does not follow the FITS standard"),
    ],
)
def test_a_header_that_lies(tmp_path, cards, message):
    path = tmp_path / "a.fits"
    path.write_bytes(raw_header(**cards) + DATA)
    assert reason(path) == message


def test_an_axis_longer_than_any_image(tmp_path):
    path = tmp_path / "a.fits"
    path.write_bytes(raw_header(BITPIX=8, NAXIS1=(1 << 20) + 1, NAXIS2=1) + bytes(BLOCK * 365))
    assert reason(path) == "NAXIS1 = 1,048,577 is more than any image has (1,048,576)"


def test_a_lie_in_an_extension_names_it(simple):
    extension = raw_header(SIMPLE=None, BITPIX=99)
    card = b"XTENSION= 'IMAGE   '".ljust(80)
    with simple.open("ab") as file:
        file.write((card + extension)[:BLOCK])
    assert reason(simple) == "HDU 1: BITPIX = 99 is none of 8, 16, 32, 64, -32, -64"


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (0, "empty file"),
        (5, "not FITS: it does not begin with SIMPLE"),
        (100, "truncated: its header stops after 100 bytes, without END"),
        (BLOCK, "truncated: 0 of 286 bytes"),
        (BLOCK + 143, "truncated: 143 of 286 bytes"),
        (BLOCK + 285, "truncated: 285 of 286 bytes"),
    ],
)
def test_truncated(simple, size, message):
    os.truncate(simple, size)
    assert reason(simple) == message


def test_a_header_cut_within_its_last_block(simple):
    end = raw_header().index(b"END  ")
    os.truncate(simple, end + 80)
    assert reason(simple) == "truncated: 0 of 286 bytes"
    os.truncate(simple, end)
    assert reason(simple) == f"truncated: its header stops after {end} bytes, without END"


@pytest.mark.parametrize("extra", [b"", b"x" * 100, b"\0" * 3 * BLOCK])
def test_missing_padding_and_trailing_bytes_are_accepted(simple, extra):
    simple.write_bytes(raw_header() + DATA[: 2 * PIXELS.size] + extra)
    (found,) = scan_file(simple).hdus
    assert found.frame.shape == SHAPE


def test_a_header_without_end(tmp_path):
    path = tmp_path / "a.fits"
    path.write_bytes(raw_header()[:400] + b"COMMENT ".ljust(80) * 20_000)
    assert reason(path) == "its header has no END card in the first 1,152,000 bytes"


def test_a_long_header(tmp_path):
    path = tmp_path / "a.fits"
    cards = raw_header().rstrip()[:-3] + b"COMMENT   END     ".ljust(80) * 9000 + b"END".ljust(80)
    path.write_bytes(cards.ljust(-(-len(cards) // BLOCK) * BLOCK) + DATA)
    (found,) = scan_file(path).hdus
    assert found.frame.offset == path.stat().st_size - BLOCK


@pytest.mark.parametrize(
    ("start", "message"),
    [
        (b"<!DOCTYPE html><html>", "not FITS: it is a web page"),
        (b"<html>", "not FITS: it is a web page"),
        (b"\x89PNG\r\n\x1a\n", "not FITS: it is a PNG image"),
        (b"\0\x05\x16\x07\0\2\0\0Mac OS X", "not FITS: it is an AppleDouble side file of macOS"),
        (b"PK\x03\x04", "not FITS: it is a ZIP archive"),
        (b"\x93NUMPY", "not FITS: it does not begin with SIMPLE"),
        (b" SIMPLE  =                    T", "not FITS: it does not begin with SIMPLE"),
    ],
)
def test_other_types(tmp_path, start, message):
    path = tmp_path / "a.fits"
    path.write_bytes(start.ljust(9000, b"."))
    assert reason(path) == message


def test_random_bytes(tmp_path):
    path = tmp_path / "a.fits"
    path.write_bytes(np.random.default_rng(5).bytes(20_000))
    assert reason(path) == "not FITS: it does not begin with SIMPLE"


def test_the_side_file_of_a_real_night():
    (junk,) = shared("data/st7").rglob("._*")
    assert reason(junk) == "not FITS: it is an AppleDouble side file of macOS"


@pytest.mark.timeout(20)
def test_what_is_no_regular_file(tmp_path):
    os.mkfifo(tmp_path / "fifo.fits")
    (tmp_path / "folder.fits").mkdir()
    (tmp_path / "loop.fits").symlink_to(tmp_path / "loop.fits")
    (tmp_path / "to_fifo.fits").symlink_to("fifo.fits")
    (tmp_path / "dangling.fits").symlink_to("nowhere.fits")
    with tempfile.TemporaryDirectory() as short, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{short}/s.fits")
        assert reason(f"{short}/s.fits") == "not a regular file but a socket"
    assert reason(tmp_path / "fifo.fits") == "not a regular file but a FIFO"
    assert reason(tmp_path / "to_fifo.fits") == "not a regular file but a FIFO"
    assert reason(tmp_path / "folder.fits") == "not a regular file but a folder"
    assert reason("/dev/null") == "not a regular file but a device"
    assert reason(tmp_path / "dangling.fits") == "no such file"
    assert reason(tmp_path / "nowhere.fits") == "no such file"
    assert reason(tmp_path / "loop.fits").startswith("cannot be read: Too many levels")
    assert reason(tmp_path / ("x" * 300)) == "cannot be read: File name too long"
    assert reason(f"{tmp_path}/a\0b.fits") == "no such file: its name holds a NUL"


def test_a_file_that_may_not_be_read():
    folder = Path(tempfile.mkdtemp())
    try:
        folder.chmod(0o755)
        path = folder / "a.fits"
        path.write_bytes(raw_header() + DATA)
        path.chmod(0)
        root = os.geteuid() == 0
        if root:  # whom nothing is forbidden
            os.seteuid(65534)
        try:
            assert reason(path) == "permission denied"
        finally:
            if root:
                os.seteuid(0)
    finally:
        shutil.rmtree(folder)


PACKERS = {"gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress}


@pytest.mark.parametrize("kind", PACKERS)
def test_packed_files_are_known_by_their_content(tmp_path, kind):
    path = tmp_path / "named_plainly.fits"
    extension = raw_header(SIMPLE=None, NAXIS1=7, NAXIS2=5)
    extension = (b"XTENSION= 'IMAGE   '".ljust(80) + extension)[:BLOCK]
    path.write_bytes(PACKERS[kind](raw_header() + DATA + extension + DATA[:70]))
    assert content(str(path)) == kind
    scan = scan_file(path)
    assert [item.frame.shape for item in scan.hdus] == [(11, 13), (5, 7)]
    assert [item.frame.offset for item in scan.hdus] == [BLOCK, 3 * BLOCK]
    assert {item.frame.packing for item in scan.hdus} == {Packing(kind, 3 * BLOCK + 70)}
    assert scan.hdus[0].frame.size == path.stat().st_size


@pytest.mark.parametrize("kind", PACKERS)
def test_every_flipped_byte_of_a_packed_file_is_found(tmp_path, kind):
    path = tmp_path / "a.fits"
    noise = np.random.default_rng(3).integers(0, 30_000, SHAPE).astype(">i2").tobytes()
    whole = PACKERS[kind](raw_header() + noise.ljust(BLOCK, b"\0"))
    path.write_bytes(whole)
    right = scan_file(path).hdus[0]
    pixels = read_rows(right.frame, 0, 11)
    unseen = 0
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 0x41
        path.write_bytes(damaged)
        try:
            (found,) = scan_file(path).hdus
        except FrameError:
            continue
        unseen += 1  # time and system in the header of gzip, filling bits at the end of bzip2
        assert found.header == right.header
        assert np.array_equal(read_rows(found.frame, 0, 11), pixels)
    assert unseen <= {"gzip": 8, "bzip2": 1, "xz": 0}[kind]


@pytest.mark.parametrize("kind", PACKERS)
def test_a_packed_file_that_is_cut(tmp_path, kind):
    path = tmp_path / "a.fits"
    whole = PACKERS[kind](raw_header() + DATA)
    for size in range(20, len(whole), 7):
        path.write_bytes(whole[:size])
        assert "cannot be unpacked" in reason(path)
    path.write_bytes(PACKERS[kind](raw_header() + DATA[:99]))
    assert reason(path) == "truncated: 99 of 286 bytes"
    path.write_bytes(PACKERS[kind](b"no FITS at all"))
    assert reason(path) == "not FITS: what is packed in it does not begin with SIMPLE"


def test_a_file_that_unpacks_to_more_than_it_says(tmp_path):
    path = tmp_path / "bomb.fits.gz"
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    start = packer.compress(raw_header() + DATA)
    zeros = b"".join(packer.compress(bytes(1 << 20)) for _ in range(64))
    path.write_bytes(start + zeros + packer.flush())
    tracemalloc.start()
    try:
        assert "it unpacks to more than its headers claim" in reason(path)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
    path.write_bytes(gzip.compress(raw_header(NAXIS1=1 << 20, NAXIS2=1 << 20) + DATA))
    assert "its headers claim" in reason(path)


def test_tile_compression(tmp_path):
    path = tmp_path / "a.fits.fz"
    image = np.random.default_rng(1).integers(0, 4000, (40, 50)).astype(np.uint16)
    header = fits.Header([("OBJECT", "M 13"), ("BUNIT", "adu")])
    packed = fits.CompImageHDU(image, header, compression_type="RICE_1", tile_shape=(4, 50))
    fits.HDUList([fits.PrimaryHDU(), packed]).writeto(path, checksum=True)
    frame = scan_file(path).hdus[1].frame
    assert (frame.offset, frame.bitpix, frame.shape, frame.dtype) == (-1, 16, (40, 50), "uint16")
    with fits.open(path, disable_image_compression=True) as hdus:
        assert frame.datasum == int(hdus[1].header["DATASUM"])
        place = hdus[1].fileinfo()["datLoc"]
    damaged = bytearray(path.read_bytes())
    damaged[place + 700] ^= 1
    path.write_bytes(damaged)
    assert reason(path).startswith("HDU 1: damaged: its data add up to")
    os.truncate(path, place + 700)
    assert reason(path).startswith("HDU 1: truncated: 700 of ")


def test_tiles_that_cannot_hold_the_image(tmp_path):
    path = tmp_path / "a.fits.fz"
    packed = fits.CompImageHDU(np.zeros((40, 50), np.uint8))
    fits.HDUList([fits.PrimaryHDU(), packed]).writeto(path)
    with fits.open(path, mode="update", disable_image_compression=True) as hdus:
        hdus[1].header["ZNAXIS1"] = 1_000_000
        hdus[1].header["ZNAXIS2"] = 1_000_000
    assert "cannot hold an image of 1,000,000,000,000 bytes" in reason(path)


def test_headers_of_tiles_are_those_of_the_image():
    files = [*shared("data/floyds").glob("*.fz"), *shared("data/misc").glob("k4m*.fits")]
    seen = 0
    for file in files:
        for item in scan_file(file).hdus:
            if item.frame is None or item.frame.offset >= 0:
                continue
            seen += 1
            expected = fits.getheader(file, item.index)
            added = {"PCOUNT", "GCOUNT"}  # astropy adds these where they were left out
            for key in set(expected) - added - {"", "COMMENT", "HISTORY", "XTENSION"}:
                assert item.header[key] == expected[key], (file.name, key)
            assert set(item.header) - set(expected) <= {"CONTINUE", "XTENSION"}
    assert seen == len(files)


def test_many_files(simple, tmp_path):
    (tmp_path / "empty.fits").touch()
    bad = tmp_path / "none.fits"
    paths = [simple, tmp_path / "empty.fits", simple, bad, *[simple] * 40]
    scans, problems = scan_files(iter(paths))
    assert [scan.path for scan in scans] == [str(simple)] * 42
    assert [(item.path, item.reason) for item in problems] == [
        (str(tmp_path / "empty.fits"), "empty file"),
        (str(bad), "no such file"),
    ]


def test_too_many_hdus(tmp_path):
    path = tmp_path / "a.fits"
    empty = b"".join(
        card.ljust(80) for card in (b"XTENSION= 'IMAGE   '", b"BITPIX  = 8", b"NAXIS   = 0", b"END")
    ).ljust(BLOCK)
    path.write_bytes(raw_header() + DATA + empty * 2001)
    assert reason(path) == "more than 2,000 HDUs: not the file of a camera"
    path.write_bytes(raw_header() + DATA + empty * 150)
    assert len(scan_file(path).hdus) == 151


def test_a_scan_reads_headers_alone(tmp_path):
    path = tmp_path / "sparse.fits"
    with path.open("wb") as file:  # 8 TB, of which a few blocks are on the disk
        file.write(raw_header(NAXIS1=1 << 20, NAXIS2=1 << 20))
        file.truncate(BLOCK + (2 << 40))
    assert scan_file(path).hdus[0].frame.shape == (1 << 20, 1 << 20)


def test_reading_needs_neither_astropy_nor_numba_to_start():
    code = "import sys, masterframe.fits; print(*{'astropy', 'numba', 'dask'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert run.stdout.split() == []


mutations = st.one_of(
    st.tuples(st.just("byte"), st.integers(0, BLOCK - 1), st.integers(0, 255)),
    st.tuples(st.just("cut"), st.integers(0, 2 * BLOCK), st.just(0)),
    st.tuples(
        st.just("value"),
        st.integers(0, 12),
        st.one_of(
            st.integers(-(10**20), 10**20),
            st.floats(),
            st.sampled_from(["T", "'IMAGE'", "", "nan", "9" * 69, "1E400", "'a&'", "(1,2)"]),
        ),
    ),
)


@pytest.fixture(scope="module")
def templates(tmp_path_factory) -> list[bytes]:
    folder = tmp_path_factory.mktemp("templates")
    plain = raw_header(BZERO=32768, BSCALE=1, BLANK=5, PCOUNT=0, GCOUNT=1, GROUPS="F") + DATA
    tiles = fits.CompImageHDU(PIXELS, tile_shape=(1, 13))
    hdus = fits.HDUList([fits.PrimaryHDU(PIXELS), fits.ImageHDU(PIXELS), tiles])
    hdus.writeto(folder / "m.fits")
    return [plain, (folder / "m.fits").read_bytes(), gzip.compress(plain)]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(which=st.integers(0, 2), blocks=st.integers(0, 9), changes=st.lists(mutations, min_size=1))
def test_any_header_is_scanned_or_refused(tmp_path, templates, which, blocks, changes):
    data = bytearray(templates[which])
    for kind, place, value in changes:
        base = blocks * BLOCK % max(len(data), 1)
        if kind == "cut":
            del data[base + place :]
        elif kind == "byte" and base + place < len(data):
            data[base + place] = value
        elif kind == "value":
            start = base + 80 * place + 10
            data[start : start + 70] = f"{value!s:>20}".ljust(70)[:70].encode()
    path = tmp_path / "mutated.fits"
    path.write_bytes(data)
    tracemalloc.start()
    try:
        scan = scan_file(path)
        for item in scan.hdus:
            if item.frame and item.frame.offset >= 0:
                height, _ = item.frame.shape
                size = item.frame.packing.size if item.frame.packing else scan.stamp.size
                assert item.frame.offset + height * item.frame.row_bytes <= size
    except FrameError as error:
        assert str(path) in str(error)  # noqa: PT017  either outcome is right
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 4 << 20
