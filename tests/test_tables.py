import math
import os
import subprocess
from dataclasses import fields, replace

import pytest
from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st

from masterframe.errors import FrameError
from masterframe.fits import tables
from masterframe.fits.tables import InputRow, QualityRow
from masterframe.fits.write import ImageFile
from support import program
from writing import filled, spec

FULL = InputRow(
    path="/night/bias 1.fits",
    extension="AMP1",
    hdu=3,
    size=8_392_320,
    mtime_ns=1_763_869_842_123_456_789,
    datasum=4_294_967_294,
    date_obs="2026-11-23T01:02:03.456",
    exptime=12.5,
    dark_ratio=0.25,
    level=1503.25,
    scale=0.98,
    zero=-3.5,
    weight=2.0,
    kept=4_190_000_000,
    rejected_low=17,
    rejected_high=4286,
    missing=5,
    noise=2.75,
    status="used",
)
EMPTY = InputRow("b.fits")

paths = st.binary(max_size=40).filter(lambda raw: b"\0" not in raw).map(os.fsdecode)
numbers = st.floats(allow_nan=False)
counts = st.integers(0, 2**63 - 1)
texts = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=12).map(str.rstrip)
rows = st.builds(
    InputRow,
    path=paths,
    extension=texts,
    hdu=counts,
    size=counts,
    mtime_ns=counts,
    datasum=st.none() | st.integers(0, 2**32 - 1),
    date_obs=texts,
    exptime=st.none() | numbers,
    dark_ratio=numbers,
    level=st.none() | numbers,
    scale=numbers,
    zero=numbers,
    weight=numbers,
    kept=counts,
    rejected_low=counts,
    rejected_high=counts,
    missing=counts,
    noise=st.none() | numbers,
    status=texts,
)


def write(path, inputs=(), quality=()):
    with ImageFile.create(path, [spec()], overwrite=True) as file:
        file.write_rows("", 0, filled("float32"))
        file.publish([tables.quality_table(quality), tables.inputs_table(inputs)])
    return path


def test_rows_come_back(tmp_path):
    path = write(tmp_path / "m.fits", [FULL, EMPTY])
    assert tables.read_inputs(path) == [FULL, EMPTY]


def test_every_column_is_in_the_file(tmp_path):
    write(tmp_path / "m.fits", [FULL])
    data = fits.getdata(tmp_path / "m.fits", "INPUTS")
    assert data.columns.names == [field.name for field in fields(InputRow)]
    assert data["path"][0] == FULL.path
    assert data["mtime_ns"][0] == FULL.mtime_ns
    assert dict(zip(data.columns.names, data.columns.units, strict=True))["exptime"] == "s"


@given(st.lists(rows, max_size=5))
def test_any_rows_come_back(tmp_path_factory, inputs):
    path = write(tmp_path_factory.mktemp("any") / "m.fits", inputs)
    assert tables.read_inputs(path) == inputs


@pytest.mark.parametrize(
    ("path", "stored"),
    [
        ("/data/bias_001.fits", "/data/bias_001.fits"),
        ("/a b/c'\"#?&.fits", "/a b/c'\"#?&.fits"),
        ("/Nächte/λ.fits", "/N%C3%A4chte/%CE%BB.fits"),
        ("/100%/x", "/100%25/x"),
        ("new\nline", "new%0Aline"),
        ("blank ", "blank%20"),
        (os.fsdecode(b"/latin-\xe4"), "/latin-%E4"),
    ],
)
def test_paths_are_ascii_and_exact(path, stored):
    assert tables.encode_path(path) == stored
    assert tables.decode_path(stored) == path


def test_text_beyond_ascii_is_escaped(tmp_path):
    write(tmp_path / "m.fits", [replace(EMPTY, status="größer\nals")])
    assert tables.read_inputs(tmp_path / "m.fits")[0].status == r"gr\xf6\xdfer als"


def test_quality(tmp_path):
    quality = [
        QualityRow("noise", 1.5, "adu", "noise of the mean", "AMP1"),
        QualityRow("lost", None),
        QualityRow("inf", math.inf, "adu"),
    ]
    path = write(tmp_path / "m.fits", quality=quality)
    assert tables.read_quality(path) == quality


@pytest.mark.system
@pytest.mark.parametrize("inputs", [[], [EMPTY], [FULL, EMPTY, replace(EMPTY, path="/Nächte/x ")]])
def test_tables_are_legal(tmp_path, inputs):
    quality = [QualityRow("nan", None), QualityRow("größe", 1.0, "µm", "Länge")]
    path = write(tmp_path / "m.fits", inputs, quality[: len(inputs)])
    command = [program("fitsverify"), str(path)]
    found = subprocess.run(command, check=False, capture_output=True, text=True).stdout
    assert "0 warning(s) and 0 error(s)" in found, found


def test_file_without_the_table(tmp_path):
    path = tmp_path / "m.fits"
    fits.PrimaryHDU().writeto(path)
    with pytest.raises(FrameError, match=r"m\.fits: has no table INPUTS"):
        tables.read_inputs(path)


def test_table_of_another_program(tmp_path):
    path = tmp_path / "m.fits"
    table = fits.BinTableHDU.from_columns([fits.Column("name", "3A", array=["abc"])], name="INPUTS")
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(path)
    with pytest.raises(FrameError, match="has no table INPUTS of masterframe"):
        tables.read_inputs(path)


def test_missing_file(tmp_path):
    with pytest.raises(FrameError, match=r"m\.fits: no such file"):
        tables.read_quality(tmp_path / "m.fits")
