"""The EFOSC2 night of the tests reduced with ccdproc, as an observer would write it.

An independent reduction to compare with: nothing here is of masterframe. The definitions agree but
for these, which are set so that they do:

* ccdproc takes any function for the deviation of its clipping; the noise floor is put there.
* `ccdproc.flat_correct` divides by the mean of the flat; here it is told 1, since the flat is
  normalised before, by the median of its usable pixels.
* `ccdproc.flat_correct` does not know pixels that must not be divided by; they are set to 1 before.
* `Combiner.sigma_clipping` looks at the values below the masks, too, where masterframe leaves them
  out of centre and deviation; saturated values are set to NaN, which both leave out.

What remains is the precision: ccdproc calculates in float64, masterframe in float32 by default.

Run as a program it prints the numbers: ``python tests/efosc2_ccdproc.py FOLDER``.
"""

import sys
import warnings
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.nddata import CCDData
from astropy.stats import mad_std
from astropy.utils.exceptions import AstropyUserWarning
from ccdproc import Combiner, flat_correct, subtract_bias, subtract_overscan, trim_image

CONAD, READ_NOISE, SATURATION = 1.1, 7.8, 65535
"""Electrons per adu, electrons, adu: cards ESO DET OUT1 CONAD and RON."""


def find(folder):
    """Return the files by what they are, from their headers alone."""
    kinds = {"bias": [], "flat": [], "science": []}
    for path in sorted(Path(folder).glob("*.fits")):
        header = fits.getheader(path)
        kind = header["HIERARCH ESO DPR TYPE"]
        technique = header["HIERARCH ESO DPR TECH"]
        if kind == "DARK" and header["EXPTIME"] == 0:
            kinds["bias"].append(path)
        elif technique == "IMAGE" and header["HIERARCH ESO INS FILT1 NAME"] == "g#782":
            kinds["flat" if "FLAT" in kind else "science"].append(path)
    return kinds


def read(path):
    """Return a frame without its overscan, and where it is saturated."""
    raw = CCDData(fits.getdata(path).astype(float), unit="adu")
    raw.mask = raw.data >= SATURATION
    level = subtract_overscan(raw, overscan=raw[:, 1024:1028], overscan_axis=1, median=True)
    return trim_image(level[:1024, :1024])


def deviation_with_floor(scale):
    """Return 1.4826 MAD, at least the noise of the electrons, as a function for the clipping."""

    def deviation(values, axis):
        center = np.nanmedian(values, axis=axis)
        noise = np.sqrt(CONAD * np.maximum(center / scale, 0) + READ_NOISE**2) / CONAD * scale
        floor = np.maximum(noise, scale * 1.482602218505602 / 2)
        return np.maximum(mad_std(values, axis=axis, ignore_nan=True), floor)

    return deviation


def combine(frames, scale=1.0):
    """Return the clipped mean, and the number of values kept."""
    for frame in frames:
        frame.data[frame.mask] = np.nan
    combiner = Combiner(frames)
    deviation = deviation_with_floor(scale)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # pixels of which nothing is kept
        warnings.simplefilter("ignore", AstropyUserWarning)  # NaN among the values
        combiner.sigma_clipping(5.0, 5.0, func=np.nanmedian, dev_func=deviation)
        mean = combiner.average_combine()
    return mean, (~combiner.data_arr.mask).sum(0)


def make_flat(paths, bias):
    """Return the normalised flat, its counts, which pixels divide by 1, and the frames' levels."""
    frames = [subtract_bias(read(path), bias) for path in paths]
    levels = [np.median(frame.data[::16][~frame.mask[::16]]) for frame in frames]
    scaled = [frame.divide(level) for frame, level in zip(frames, levels, strict=True)]
    mean, count = combine(scaled, scale=np.median([1 / level for level in levels]))
    values = np.where(count > 0, mean.data, np.nan)
    values /= np.nanmedian(values)
    insensitive = ~(values >= 0.2)
    flat = CCDData(np.where(insensitive, 1.0, values), unit="")
    return values, flat, count, insensitive, levels


def reduce(folder):
    """Return all products of the night."""
    files = find(folder)
    bias, bias_count = combine([read(path) for path in files["bias"]])
    bias = CCDData(bias.data, unit="adu")
    values, flat, flat_count, insensitive, levels = make_flat(files["flat"], bias)
    science = {
        path.stem: flat_correct(subtract_bias(read(path), bias), flat, norm_value=1.0).data
        for path in files["science"]
    }
    return {
        "bias": bias.data,
        "bias_count": bias_count,
        "flat": values,
        "flat_count": flat_count,
        "insensitive": insensitive,
        "levels": levels,
        "science": science,
    }


def main():
    products = reduce(sys.argv[1])
    for name in ("bias", "flat"):
        values, count = products[name], products[f"{name}_count"]
        good = values[~products["insensitive"]] if name == "flat" else values
        print(name, "median", np.median(good), "scatter", mad_std(good), "kept", count.sum())  # noqa: T201
    print("levels", products["levels"], "insensitive", products["insensitive"].sum())  # noqa: T201
    for name, values in products["science"].items():
        print(name, "median", np.median(values), "scatter", mad_std(values))  # noqa: T201


if __name__ == "__main__":
    main()
