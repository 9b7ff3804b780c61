"""Nights of several real cameras: each product beside an independent reduction with ccdproc."""

import warnings
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData
from astropy.stats import mad_std
from astropy.utils.exceptions import AstropyUserWarning
from ccdproc import Combiner, flat_correct, subtract_bias, subtract_overscan, trim_image

import nights
from masterframe.fits import tables
from support import shared

SATURATED = 65535
NO_JUDGEMENT = "quality.frames.action=off"
SPECTRA = ("recipes.flat.select=[]", "recipes.science.select=[]")


def read(path):
    """A raw frame, saturated values masked."""
    hdu = 1 if path.name.endswith(".fz") else 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AstropyUserWarning)  # null bytes in headers
        with fits.open(path) as hdus:
            data = hdus[hdu].data.astype(float)
    return CCDData(data, unit="adu", mask=data >= SATURATED)


def averaged(frames):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # pixels of which nothing is left
        return Combiner(frames).average_combine().data


def clipped(frames, scale=1.0):
    """The mean of what lies within 5 sigma of the median; sigma is at least that of rounding."""

    def deviation(values, axis):
        return np.maximum(mad_std(values, axis=axis, ignore_nan=True), 1.4826 / 2 * scale)

    for frame in frames:
        frame.data[frame.mask] = np.nan
    combiner = Combiner(frames)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        warnings.simplefilter("ignore", AstropyUserWarning)
        combiner.sigma_clipping(5.0, 5.0, func=np.nanmedian, dev_func=deviation)
        return combiner.average_combine().data


def flat_of(frames, combine):
    """A flat of frames whose offset is off: each over its level, combined, over its median."""
    step = min(16, frames[0].shape[0] // 64)  # every 16th row, and at least 64
    levels = [np.median(frame.data[::step][~frame.mask[::step]]) for frame in frames]
    lit = [frame.divide(level) for frame, level in zip(frames, levels, strict=True)]
    values = combine(lit, float(np.median([1 / level for level in levels])))
    return values / np.nanmedian(values)


def less(frame, level):
    return subtract_bias(frame, CCDData(level, unit="adu"))


def reduced(name, tmp_path, *overrides):
    """The products of a night by the last part of their name, and the folder of its frames."""
    folder = shared(f"data/{name}")
    found = nights.reduce_night(folder, tmp_path / "out", NO_JUDGEMENT, *overrides)
    made = {key: Path(item.output) for key, item in found.items() if item.state == "made"}
    return folder, made, found


def agree(path, expected, tolerance=2e-6, least=0.9999, used=0.9):
    """Compare to the rounding of float32; a value at a bound may fall to either side of it."""
    ours = fits.getdata(path).astype(float)
    good = fits.getdata(path, "MASK") == 0
    assert ours.shape == expected.shape
    assert good.mean() > used
    miss = np.abs(ours - expected)[good]
    assert np.mean(miss <= tolerance * np.maximum(np.abs(expected[good]), 1)) >= least, miss.max()


def test_asi178(tmp_path):
    """Few frames of unknown noise are averaged; the bias is of another temperature than darks."""
    folder, made, _ = reduced("asi178", tmp_path)
    assert set(made) == {
        *("master_bias_bin1x1", "master_dark_5s_bin1x1"),
        *("master_dark_30s_bin1x1", "master_flat_bin1x1"),
    }
    bias = averaged([read(path) for path in sorted(folder.glob("Bias*"))])
    agree(made["master_bias_bin1x1"], bias)
    agree(
        made["master_dark_5s_bin1x1"],
        averaged([read(path) for path in sorted(folder.glob("Dark*5sec*"))]),
    )
    agree(made["master_dark_30s_bin1x1"], read(folder / "Dark_ASIImg_30sec_frame0001.fit").data)
    flat = less(read(folder / "Flat_ASIImg_frame0004.fit"), bias)
    expected = flat_of([flat], lambda lit, _: lit[0].data)
    for y, x in np.ndindex(2, 2):  # a Bayer sensor: each filter by itself
        expected[y::2, x::2] /= np.median(expected[y::2, x::2])
    agree(made["master_flat_bin1x1"], expected)


def test_st7(tmp_path):
    """Biases and flats of exposures from 0.2 to 105 s, clipped above the step of the converter."""
    folder, made, _ = reduced("st7", tmp_path)
    assert set(made) == {"master_bias_bin1x1", "master_flat_bin1x1"}
    files = [*folder.glob("*.FIT")]
    biases = sorted(path for path in files if "bias" in path.name.lower())
    assert len(biases) == 7
    bias = clipped([read(path) for path in biases])
    agree(made["master_bias_bin1x1"], bias)
    rows = tables.read_inputs(made["master_flat_bin1x1"])
    assert len(rows) == 12
    used = [Path(row.path) for row in rows if row.status == "used"]
    assert len(used) >= 9
    lit = [less(read(path), bias) for path in used]
    agree(made["master_flat_bin1x1"], flat_of(lit, clipped), 1e-5)


def test_st402(tmp_path):
    """Every product of two lamps and two set-ups: darks that hold the bias, flats and spectra."""
    folder, made, _ = reduced("st402", tmp_path)
    raw, lab0 = folder / "raw", folder / "lab0_3x3"
    darks = {
        time: clipped([read(path) for path in sorted(raw.glob(f"L2-dark-{lamp}-{time}.*"))])
        for lamp, time in (("neon", 1200), ("hg", 240), ("flat", 360))
    }
    for time, dark in darks.items():
        agree(made[f"master_dark_{time}s_bin1x2"], dark)
    lit = {
        "hg": [less(read(path), darks[360]) for path in sorted(raw.glob("L2-flat-hg*"))],
        "neon": [read(path) for path in sorted(raw.glob("L2-flat-red*"))],  # auto-dark
        "lab0": [read(path) for path in sorted(lab0.glob("flat-Neg5*"))],  # auto-dark
    }
    assert [len(frames) for frames in lit.values()] == [4, 5, 10]
    flats = {
        "hg": flat_of(lit["hg"], lambda frames, _: averaged(frames)),  # too few to clip
        "neon": flat_of(lit["neon"], clipped),
        "lab0": flat_of(lit["lab0"], clipped),
    }
    names = [name for name in made if "flat" in name]
    assert len(names) == len(flats)
    for name in names:
        first = Path(tables.read_inputs(made[name])[0].path).name
        lamp = "hg" if "hg" in first else "neon" if "red" in first else "lab0"
        agree(made[name], flats[lamp], 5e-6, used=0.7)  # lamps leave rows in the dark
    spectra = [path for path in folder.rglob("*.FIT") if path.stem in made]
    assert len(spectra) == len(made) - 6 == 13
    for path in spectra:
        lamp = "hg" if "hg" in path.name else "neon" if "neon" in path.name else "lab0"
        frame = read(path)
        if "sci" in path.name:
            frame = less(frame, darks[240 if lamp == "hg" else 1200])
        divides = CCDData(np.where(flats[lamp] >= 0.2, flats[lamp], 1.0), unit="")
        expected = flat_correct(frame, divides, norm_value=1.0).data
        # a dark near 1100 adu is rounded by 6e-5 adu, and the flat is 0.2 at least
        agree(made[path.stem], expected, 4e-4, used=0.7)


def test_floyds(tmp_path):
    """Spectra, which a stanza asks for; sections that are UNKNOWN are not obeyed."""
    folder, made, found = reduced("floyds", tmp_path, *SPECTRA)
    science = sorted(folder.glob("*e00*"))
    flats = [read(path) for path in sorted(folder.glob("*w00*"))]
    for frame in flats:
        frame.mask = frame.data >= 38400
    flat = flat_of(flats, lambda lit, _: averaged(lit))
    agree(made["master_flat_air_bin1x1"], flat)
    divides = CCDData(np.where(flat >= 0.2, flat, 1.0), unit="")
    for path in science:
        name = path.name.removesuffix(".fits.fz")
        agree(made[name], flat_correct(read(path), divides, norm_value=1.0).data)
        assert "'BIASSEC UNKNOWN' is not obeyed" in "; ".join(found[name].notes)


def test_sprat(tmp_path):
    """Its dark is a mean already, and names no camera: it fits no spectrum, which is said."""
    folder, made, found = reduced("sprat", tmp_path, *SPECTRA)
    assert set(made) == {"master_dark_600s_bin1x1"}
    agree(made["master_dark_600s_bin1x1"], read(folder / "v_dark_1.fits.gz").data)
    assert "perhaps processed already" in "; ".join(found["master_dark_600s_bin1x1"].notes)
    blocked = [item for item in found.values() if item.state == "blocked"]
    assert len(blocked) == 6
    assert {item.reason for item in blocked} == {"there is nothing to calibrate it with"}
    assert all("no dark: none was taken with SPRAT" in item.notes for item in blocked)


@pytest.mark.parametrize("method", ["median", "mean"])
def test_saao(method, tmp_path):
    """One frame with prescan columns: its overscan is all that can be taken off."""
    frame = tmp_path / "saao" / "a8280271.fits"
    frame.parent.mkdir()
    frame.write_bytes((shared("data/misc") / "a8280271.fits").read_bytes())
    settings = (f"overscan.method={method}", "overscan.iterations=0")
    made = nights.reduce_night(frame.parent, tmp_path / "out", *settings)["a8280271"]
    level = subtract_overscan(
        read(frame), fits_section="[4:13,1:520]", overscan_axis=1, median=method == "median"
    )
    # what is left is small beside the raw values, whose rounding it has
    agree(made.output, trim_image(level, fits_section="[17:528,1:520]").data, 5e-5)
    header = fits.getheader(made.output)
    assert "BIASSEC" not in header
    assert "TRIMSEC" not in header
