"""Tile-compressed images: every value is that of astropy and of funpack, bit for bit."""

import itertools
import subprocess
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from masterframe import scratchfolder
from masterframe.errors import FrameError
from masterframe.fits import read_rows, scan_file, scratch
from masterframe.kernels import decode_rice
from support import program

per_example = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100, deadline=None
)
METHODS = ["RICE_1", "GZIP_1", "GZIP_2", "NOCOMPRESS", "HCOMPRESS_1", "PLIO_1"]
TYPES = ["uint8", "int8", "int16", "uint16", "int32", "uint32", "float32", "float64"]


def frame_of(path):
    return next(item.frame for item in scan_file(path).hdus if item.frame)


def bits(values):
    native = values.astype(values.dtype.newbyteorder("="))
    return native.dtype.name, native.shape, native.tobytes()


def by_astropy(path):
    """What astropy reads; its warnings are about cards."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        with fits.open(path) as hdus:
            return hdus[1].data


def pixels(rng, dtype, shape, smooth):
    """Values of a detector, some of them at the ends of their type; floats with NaN and zeros."""
    kind = np.dtype(dtype)
    values = rng.normal(40, 3 if smooth else 1e4, shape)
    if kind.kind == "f":
        values[rng.random(shape) < 0.05] = 0.0
        values[rng.random(shape) < 0.05] = np.nan
        return values.astype(kind)
    limits = np.iinfo(kind)
    image = np.clip(values, limits.min, limits.max).astype(kind)
    ends = rng.random(shape) < (0.02 if smooth else 0.3)
    image[ends] = rng.choice([limits.min, limits.max, 0], int(ends.sum()))
    return image


@st.composite
def compressed(draw):
    """An image and how it is compressed."""
    method = draw(st.sampled_from(METHODS))
    shape = draw(st.sampled_from([(1, 1), (1, 40), (33, 1), (8, 70), (37, 64), (50, 33)]))
    tile = (draw(st.integers(1, shape[0])), draw(st.integers(1, shape[1])))
    dtype = draw(st.sampled_from(TYPES))
    options = {"compression_type": method, "tile_shape": tile}
    if method == "HCOMPRESS_1":
        shape, options["tile_shape"] = (
            (24, 40),
            draw(st.sampled_from([(8, 40), (24, 40), (12, 20)])),
        )
        dtype = draw(st.sampled_from(["int16", "uint8", "float32"]))
    if method == "PLIO_1":
        dtype = "uint8"
    if np.dtype(dtype).kind == "f":
        level = draw(st.sampled_from([0, 4, 16, -0.5]))
        lossless = level == 0 and method in ("GZIP_1", "GZIP_2")
        options["quantize_level"] = 0 if lossless else level or 16
        options["quantize_method"] = draw(st.sampled_from([-1, 1, 2]))
        options["dither_seed"] = draw(st.sampled_from([1, 77, 10000]))
    seed, smooth = draw(st.integers(0, 99)), draw(st.booleans())
    return pixels(np.random.default_rng(seed), dtype, shape, smooth), options


@per_example
@given(compressed(), st.data())
def test_values_are_those_of_astropy_bit_for_bit(tmp_path, case, data):
    image, options = case
    path = tmp_path / "a.fz"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fits.CompImageHDU(image, **options).writeto(path, overwrite=True)
    expected = by_astropy(path)
    frame = frame_of(path)
    height = image.shape[0]
    y0 = data.draw(st.integers(0, height - 1))
    y1 = data.draw(st.integers(y0 + 1, height))
    step = data.draw(st.integers(1, 9))
    assert bits(read_rows(frame, 0, height)) == bits(expected)
    assert bits(read_rows(frame, y0, y1)) == bits(expected[y0:y1])
    assert bits(read_rows(frame, y0, y1, step)) == bits(expected[y0:y1:step])
    with scratchfolder.open_folder(tmp_path) as folder:
        whole = scratch.in_folder(frame, folder, untiled=True)
        assert bits(read_rows(whole, y0, y1, step)) == bits(expected[y0:y1:step])


@pytest.mark.system
@pytest.mark.parametrize("options", ["-r", "-g1", "-g2", "-h", "-r -t 30,7", "-g2 -t 13,4"])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float32", "float64"])
def test_what_fpack_packs_is_what_funpack_unpacks(tmp_path, options, dtype):
    fpack, funpack = program("fpack"), program("funpack")
    path = tmp_path / "a.fits"
    image = pixels(np.random.default_rng(3), dtype, (41, 64), smooth=True)
    fits.PrimaryHDU(np.nan_to_num(image)).writeto(path)
    subprocess.run([fpack, *options.split(), path], check=True, capture_output=True)
    subprocess.run([funpack, "-O", tmp_path / "b.fits", f"{path}.fz"], check=True)
    with fits.open(tmp_path / "b.fits") as hdus:
        expected = hdus[0].data
        assert bits(read_rows(frame_of(f"{path}.fz"), 0, 41)) == bits(expected)
    assert bits(by_astropy(f"{path}.fz")) == bits(expected)


@pytest.mark.parametrize("method", ["RICE_1", "GZIP_2"])
def test_any_damage_is_an_error_or_other_values_but_never_a_crash(tmp_path, method):
    path = tmp_path / "a.fz"
    image = pixels(np.random.default_rng(1), "int16", (20, 30), smooth=True)
    fits.CompImageHDU(image, compression_type=method, tile_shape=(4, 30)).writeto(path)
    whole = path.read_bytes()
    frame = frame_of(path)
    table = frame.tiles.table
    rng = np.random.default_rng(7)
    refused = 0
    for place in itertools.chain(
        range(table, table + 40), rng.integers(table, frame.tiles.end, 60)
    ):
        for value in (0x00, 0x7F, 0xFF, whole[place] ^ 0x10):
            path.write_bytes(whole[:place] + bytes([value]) + whole[place + 1 :])
            try:
                values = read_rows(frame_of(path), 0, 20)
                assert values.shape == image.shape
            except FrameError as error:
                refused += "tile" in error.reason
    assert refused > 100
    path.write_bytes(whole)
    assert np.array_equal(read_rows(frame_of(path), 0, 20), image)


def test_a_gzip_tile_that_unpacks_to_more_than_its_place_is_refused(tmp_path):
    """One of a million zeros where 120 bytes belong: astropy may say so, nothing is allocated."""
    path = tmp_path / "a.fz"
    image = np.zeros((2000, 2000), np.int16)
    fits.CompImageHDU(image, compression_type="GZIP_1", tile_shape=(2000, 2000)).writeto(path)
    data = path.read_bytes()
    at = data.index(b"ZNAXIS1 =")
    data = data[:at] + b"ZNAXIS1 =                   60".ljust(80) + data[at + 80 :]
    at = data.index(b"ZTILE1  =")
    path.write_bytes(data[:at] + b"ZTILE1  =                   60".ljust(80) + data[at + 80 :])
    with pytest.raises(FrameError, match="its tiles cannot be unpacked"):
        read_rows(frame_of(path), 0, 10)


@given(st.binary(max_size=200), st.sampled_from([1, 2, 4]), st.integers(1, 64))
def test_any_bytes_are_decoded_or_found_short(data, width, block):
    out = np.zeros(100, f"i{width}")
    spans, places = np.array([[0, len(data)]]), np.array([[0, 100]])
    assert decode_rice(np.frombuffer(data, np.uint8), spans, places, out, block) in {0, -1}


def test_threads_do_not_disturb_each_other(tmp_path):
    """The decoder of HCOMPRESS in astropy is not made for several at once."""
    expected = []
    for n in range(4):
        image = pixels(np.random.default_rng(n), "int16", (200, 300), smooth=True)
        hdu = fits.CompImageHDU(image, compression_type="HCOMPRESS_1", tile_shape=(20, 300))
        hdu.writeto(tmp_path / f"{n}.fz")
        expected.append(image)
    frames = [frame_of(tmp_path / f"{n}.fz") for n in range(4)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda n: read_rows(frames[n % 4], 0, 200), range(24)))
    assert all(np.array_equal(found[n], expected[n % 4]) for n in range(24))
