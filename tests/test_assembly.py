"""Mosaics assembled into one image: by numpy, by the coordinates of stars, and what is refused."""

import subprocess
import warnings

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS, FITSFixedWarning

import nights
from masterframe import simulate
from masterframe.model import MaskBit
from support import program

OPTIONS = ("recipes.science.assemble=true", "report=false")
HALF, TALL, GAP, STRIP = 22, 30, 7, 5
"""Columns of an amplifier, rows of a CCD, columns between CCDs, and of an overscan."""
WIDE = 4 * HALF + GAP


def scene(seed):
    """What the whole detector sees, without noise."""
    return np.random.default_rng(seed).integers(1000, 5000, (TALL, WIDE))


def amplifier(number):
    """First column on the detector, and whether columns and rows are read backwards."""
    left = number * HALF + (GAP if number > 1 else 0)
    return left, bool(number % 2), number == 3


def mosaic(path, kind, seed, *, light=None, change=None):
    """Write two CCDs of two amplifiers, an extension each; odd ones are read from the right."""
    primary = fits.PrimaryHDU()
    primary.header.update(
        {
            "IMAGETYP": nights.IMAGETYP[kind],
            "EXPTIME": nights.EXPTIME[kind],
            "DATE-OBS": f"2026-01-02T03:04:{seed % 60:02d}",
            "INSTRUME": "Quartet",
            "OBJECT": "field",
        }
    )
    hdus = [primary]
    for number in range(4):
        left, mirrored, turned = amplifier(number)
        values = np.zeros((TALL, HALF))
        if light is not None:
            values = light[:, left : left + HALF][:: -1 if turned else 1, :: -1 if mirrored else 1]
        level = 300 + 50 * number + seed % 7
        raw = np.full((TALL, HALF + STRIP), level, np.uint16)
        raw[:, :HALF] += values.astype(np.uint16)
        image = fits.ImageHDU(raw, name=f"AMP{number + 1}")
        x = (left + 1, left + HALF)
        columns = f"{x[1]}:{x[0]}" if mirrored else f"{x[0]}:{x[1]}"
        rows = f"{TALL}:1" if turned else f"1:{TALL}"
        sign = (-1 if mirrored else 1, -1 if turned else 1)
        star = 40 - left, 11
        image.header.update(
            {
                "BIASSEC": f"[{HALF + 1}:{HALF + STRIP},1:{TALL}]",
                "TRIMSEC": f"[1:{HALF},1:{TALL}]",
                "DATASEC": f"[1:{HALF},1:{TALL}]",
                "DETSEC": f"[{columns},{rows}]",
                "CTYPE1": "RA---TAN",
                "CTYPE2": "DEC--TAN",
                "CRVAL1": 150.0,
                "CRVAL2": 2.0,
                "CRPIX1": float(HALF + 1 - star[0] if mirrored else star[0]),
                "CRPIX2": float(TALL + 1 - star[1] if turned else star[1]),
                "CD1_1": -1e-4 * sign[0],
                "CD1_2": 2e-5 * sign[1],
                "CD2_1": 2e-5 * sign[0],
                "CD2_2": 1e-4 * sign[1],
            }
        )
        if change:
            change(number, image.header)
        hdus.append(image)
    path.parent.mkdir(parents=True, exist_ok=True)
    fits.HDUList(hdus).writeto(path)
    return path


def sky(header, points):
    """The coordinates of points; astropy says that it makes an MJD of the date."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FITSFixedWarning)
        return WCS(header).wcs_pix2world(points, 0)


def reduced(folder, change=None, *options):
    mosaic(folder / "night" / "science_0.fits", "science", 50, light=scene(1), change=change)
    return nights.reduce_night(folder / "night", folder / "out", *OPTIONS, *options)


def test_amplifiers_that_are_read_backwards_make_one_image(tmp_path):
    made = reduced(tmp_path)["science_0"]
    with fits.open(made.output, checksum=True) as hdus:
        data, mask, header = hdus[0].data, hdus["MASK"].data, hdus[0].header
        assert [hdu.name for hdu in hdus if hdu.is_image] == ["PRIMARY", "MASK"]
    gap = np.zeros((TALL, WIDE), bool)
    gap[:, 2 * HALF : 2 * HALF + GAP] = True
    np.testing.assert_array_equal(data[~gap], scene(1)[~gap])
    assert np.isnan(data[gap]).all()
    np.testing.assert_array_equal(mask, gap * int(MaskBit.NOT_COVERED))
    assert header["DETSEC"] == f"[1:{WIDE},1:{TALL}]"
    assert not {"DATASEC", "BIASSEC", "TRIMSEC", "EXTNAME"} & set(header)
    for number in range(4):
        left, mirrored, turned = amplifier(number)
        raw = fits.getheader(tmp_path / "night" / "science_0.fits", number + 1)
        x, y = 4, 9
        there = (left + (HALF - 1 - x if mirrored else x), TALL - 1 - y if turned else y)
        np.testing.assert_allclose(sky(header, [there]), sky(raw, [(x, y)]), atol=1e-10)
    command = [program("fitsverify"), "-q", made.output]
    assert "OK" in subprocess.run(command, check=False, capture_output=True, text=True).stdout
    again = nights.reduce_night(tmp_path / "night", tmp_path / "out", *OPTIONS)
    assert {one.state for one in again.values()} == {"up to date"}
    apart = nights.reduce_night(tmp_path / "night", tmp_path / "out", "report=false")
    assert apart["science_0"].state == "made"


def test_coordinates_that_differ_are_left_out(tmp_path):
    def change(number, header):
        header["CRVAL1"] = 150.0 + number * 1e-3

    header = fits.getheader(reduced(tmp_path, change)["science_0"].output)
    assert not {"CRVAL1", "CRPIX1", "CD1_1", "CTYPE1"} & set(header)


def test_a_binned_detector_and_parts_of_the_data(tmp_path):
    def change(number, header):
        left, mirrored, turned = amplifier(number)
        x, y = (2 * left + 1, 2 * (left + HALF)), (1, 2 * TALL)
        columns, rows = x[:: -1 if mirrored else 1], y[:: -1 if turned else 1]
        header["DETSEC"] = "[{}:{},{}:{}]".format(*columns, *rows)
        header["TRIMSEC"] = f"[3:{HALF},1:{TALL - 4}]"

    data = fits.getdata(reduced(tmp_path, change)["science_0"].output)
    expected = scene(1).astype(float)
    expected[:, 2 * HALF : 2 * HALF + GAP] = np.nan
    for number in range(4):
        left, mirrored, turned = amplifier(number)
        cut = left + HALF - 2 if mirrored else left
        expected[:, cut : cut + 2] = np.nan
        expected[: 4 if turned else 0, left : left + HALF] = np.nan
        expected[TALL if turned else TALL - 4 :, left : left + HALF] = np.nan
    np.testing.assert_array_equal(data, expected[:, 2:-2])


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("DETSEC", None, "AMP3 has no DETSEC that is a section"),
        ("DETSEC", "UNKNOWN", "AMP3 has no DETSEC that is a section"),
        (
            "DETSEC",
            f"[1:{HALF},1:{TALL}]",
            "AMP1 and AMP3 overlap on the detector",
        ),
        ("DETSEC", f"[60:81,1:{TALL - 1}]", f"{TALL - 1} pixels are no multiple of {TALL}"),
        ("DETSEC", f"[90001:90022,1:{TALL}]", "are spread over 90022 x 30 pixels"),
    ],
)
def test_headers_that_do_not_tell_the_place_are_refused(tmp_path, key, value, reason):
    def change(number, header):
        if number == 2:
            if value is None:
                del header[key]
            else:
                header[key] = value

    made = reduced(tmp_path, change)
    assert made["science_0"].state == "blocked"
    assert reason in made["science_0"].reason
    _, plan = nights.make_plan(tmp_path / "night", *OPTIONS)
    assert [product.blocked for product in plan.products] == [made["science_0"].reason]
    assert plan.notes[-1] == "can be made: nothing; cannot be made: 1 science product"
    _, apart = nights.make_plan(tmp_path / "night")
    assert [product.blocked for product in apart.products] == [""]


def test_amplifiers_of_extensions_are_where_they_were(tmp_path):
    camera = simulate.Camera((40, 38), 6, extensions=3, amplifiers=2)
    spec = simulate.NightSpec(
        camera, bias=5, darks={}, flats={"V": 4}, science={"V": 1}, exptime=60.0, seed=3
    )
    night = simulate.simulate_night(tmp_path / "raw", spec)
    (name,) = (shot.name.removesuffix(".fits") for shot in night.shots if shot.kind == "science")
    apart = nights.reduce_night(night.night, tmp_path / "apart", "report=false")[name].output
    whole = nights.reduce_night(night.night, tmp_path / "out", *OPTIONS)[name].output
    with fits.open(apart) as many, fits.open(whole) as one:
        for plane, ending in (("PRIMARY", ""), ("UNCERT", "_UNCERT"), ("MASK", "_MASK")):
            parts = [many[f"CCD{number}{ending}"].data for number in (1, 2, 3)]
            np.testing.assert_array_equal(one[plane].data, np.hstack(parts))
        first = many["CCD1"].header
        point = [(17.0, 5.0)]
        np.testing.assert_allclose(sky(one[0].header, point), sky(first, point), atol=1e-10)
        assert one[0].header["BUNIT"] == "adu"
