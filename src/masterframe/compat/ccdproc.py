"""``ccdproc.combine`` by its own parameters: change one import, and a script runs on this engine.

>>> from masterframe.compat.ccdproc import combine  # doctest: +SKIP

Nothing of ccdproc is imported. What follows is ccdproc 2.5.1.
"""

from __future__ import annotations

import inspect
import math
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import dask
import numpy as np
from astropy import nddata
from dask.system import CPU_COUNT
from numpy.typing import ArrayLike, DTypeLike, NDArray

from masterframe import tiling
from masterframe.compat import clipping
from masterframe.compat.bands import Band, Job, combine_band
from masterframe.compat.frames import Frames, list_of, open_frames, read_whole
from masterframe.compat.refusals import ArgumentError, ArgumentTypeError, OutputExistsError
from masterframe.model import Estimator
from masterframe.names import unknown

METHODS: Mapping[str, Estimator] = {"average": "mean", "median": "median", "sum": "sum"}
READER_OPTIONS = (
    *("unit", "hdu", "hdu_uncertainty", "hdu_mask", "hdu_flags", "hdu_psf"),
    *("key_uncertainty_type", "format", "mode", "memmap", "save_backup", "cache"),
    *("lazy_load_hdus", "ignore_missing_simple", "ignore_missing_end", "use_fsspec"),
    *("fsspec_kwargs", "decompress_in_memory", "uint", "disable_image_compression"),
    *("character_as_bytes", "ignore_blank", "checksum", "output_verify"),
)
"""Options of `astropy.nddata.fits_ccddata_reader` and of `astropy.io.fits.open` below it."""
VALUE_BYTES = 96
"""Bytes that a value of a band takes at most, as measured: scaled, ranked where something is
rejected, weighted."""
RESULT_BYTES = 17
"""Bytes of a pixel of the result, of which there are two: in bands, and whole."""


def combine(  # noqa: PLR0913, PLR0917  the parameters of ccdproc.combine
    img_list: Any,
    output_file: str | os.PathLike[str] | None = None,
    method: str = "average",
    weights: ArrayLike | None = None,
    scale: Callable[[NDArray[Any]], float] | ArrayLike | None = None,
    mem_limit: float = 16e9,
    clip_extrema: bool = False,
    nlow: int | None = 1,
    nhigh: int | None = 1,
    minmax_clip: bool = False,
    minmax_clip_min: float | None = None,
    minmax_clip_max: float | None = None,
    sigma_clip: bool = False,
    sigma_clip_low_thresh: float | None = 3,
    sigma_clip_high_thresh: float | None = 3,
    sigma_clip_func: str | Callable[..., Any] = np.ma.mean,
    sigma_clip_dev_func: str | Callable[..., Any] = np.ma.std,
    dtype: DTypeLike | None = None,
    combine_uncertainty_function: Callable[..., Any] | None = None,
    overwrite_output: bool = False,
    **ccdkwargs: Any,
) -> nddata.CCDData:
    """Combine frames as ``ccdproc.combine`` does, but where that is wrong.

    Parameters
    ----------
    img_list : list, ndarray, iterable or str
        FITS files or `CCDData`; in a text names are separated by commas. Files are read band by
        band, whatever their number; whole with options of `astropy.io.fits.open`.
    output_file : path, optional
        FITS file to write.
    method : {'average', 'median', 'sum'}
        What is made of the values that are kept.
    weights : array, optional
        Weight of each frame, shape (N,), or of each value, shape (N, rows, columns); for average
        and sum.
    scale : callable or array, optional
        Factor of each frame, or what gives it from all values of the frame.
    mem_limit : float
        Bytes that bands and the result should take together; a row of all frames is the least.
    clip_extrema : bool
        Leave out the `nlow` lowest and the `nhigh` highest values.
    nlow, nhigh : int or None
        How many.
    minmax_clip : bool
        Leave out raw values below `minmax_clip_min` or above `minmax_clip_max`.
    minmax_clip_min, minmax_clip_max : float or None
        Limits, before scaling; None is no limit.
    sigma_clip : bool
        Leave out values beyond so many deviations of the centre, in one pass.
    sigma_clip_low_thresh, sigma_clip_high_thresh : float or None
        How many; None does not reject that side.
    sigma_clip_func, sigma_clip_dev_func : str or callable
        Centre (``'mean'``, ``'median'``) and deviation (``'std'``, ``'mad_std'``), or functions of
        values and `axis`; mean, median, std, `mad_std`, `median_absolute_deviation` and their
        variants of numpy, astropy, scipy and bottleneck are run compiled, others by numpy.
    dtype : dtype, optional
        Type of the result; by default float64. Values are scaled in float64, for float32 in that.
    combine_uncertainty_function : callable, optional
        Gives from the kept values, NaN for the others, and ``axis=0`` the spread of each pixel;
        the uncertainty is that over sqrt(n), for a sum times sqrt(n).
    overwrite_output : bool
        Replace a file that is there.
    **ccdkwargs
        Options for reading files: those of `astropy.nddata.fits_ccddata_reader`.

    Returns
    -------
    CCDData
        Header, coordinates and unit are those of the first frame, with NCOMBINE; the mask is set
        where nothing was left, and the uncertainty is a `StdDevUncertainty`.

    Raises
    ------
    ArgumentError
        A value that cannot be used; a `ValueError` too.
    ArgumentTypeError
        An argument of the wrong kind or of an unknown name, or frames that do not fit; a
        `TypeError` too.
    OutputExistsError
        If the output is there; a `FileExistsError` too.
    FrameError
        If a file is damaged.

    Notes
    -----
    Clipping goes on in the order extrema, limits, sigma.

    Differences from ccdproc 2.5.1, and why:

    ==================== =============================== =======================================
    what                 ccdproc                         here
    ==================== =============================== =======================================
    scale                clips raw values, then scales   scales first: clipping compares frames,
                                                         so that they must be alike; only the
                                                         limits of minmax_clip are raw
    masks, sigma_clip    values below masks go into      left out: a masked value says nothing of
                         centre and deviation            the others
    one after the other  each clipping looks at all      each looks at what is left
                         values
    masks, clip_extrema  masked values count as          the same fractions of the values that are
                         extremes                        there, as IRAF does
    threshold None       3 sigma                         off, as its documentation says
    threshold negative   rejects beyond the centre       its magnitude, as its documentation says
    weights and masks    weights of masked values count  weights of the values that are kept
                         in the average
    weights (N, y, x)    fail in several chunks          work in any memory
    weights, median      ignored                         refused
    average, sum         std (ddof 0) / sqrt(n): too     s / sqrt(n) with n - 1; NaN for one value
                         small by sqrt((n - 1) / n), 0
                         for one value
    weighted             as without weights              of the weighted mean
    median               1.4826 MAD / sqrt(n): too small the same corrected for few values, and
                         by 20 % and more                for the median's own efficiency
    uncertainty, int     truncated to integers           float64
    uncertainty, type    class of the first frame's      `StdDevUncertainty`, which it is
    infinite values      combined                        left out, as NaN
    nothing left, sum    0, masked                       NaN, masked (0 for integers)
    dtype int            inputs are truncated, masks     values are combined in float64, and the
                         fail                            result is truncated
    NCOMBINE             missing                         written
    unknown keywords     ignored                         refused, with the nearest name
    name without comma   a list of its characters        one file
    output_file exists   found after combining           found before
    nlow + nhigh >= N    everything masked               refused
    mem_limit            exceeded, files read again for  every band is read once
                         every chunk
    ==================== =============================== =======================================

    The same on purpose: one pass of clipping, standard deviations with ddof 0 in it, no noise
    floor, input uncertainties not used, `scale` is given values without their mask, EXPTIME and
    dates of the first frame. `masterframe.combine_stack` has more passes and a noise floor,
    `masterframe.write_master` a header made from those of all frames.
    """
    reader = _reader_options(ccdkwargs)
    if method not in METHODS:
        raise ArgumentError("unrecognised combine method : " + unknown("method", method, METHODS))
    items = list_of(img_list)
    _check_output(output_file, overwrite_output)
    template = read_whole(items[0], reader)
    frames = open_frames(items, template, reader)
    n_frames = len(items)
    clips: list[clipping.Step] = []
    if clip_extrema:
        clips.append(clipping.extrema(nlow, nhigh, n_frames))
    if minmax_clip:
        clips.append(clipping.limits(minmax_clip_min, minmax_clip_max))
    if sigma_clip:
        bounds = sigma_clip_low_thresh, sigma_clip_high_thresh
        clips.append(clipping.sigma(*bounds, sigma_clip_func, sigma_clip_dev_func))
    before, last = clipping.split(clips)
    kind = np.dtype(np.float64 if dtype is None else dtype)
    job = Job(
        frames=frames,
        method=METHODS[method],
        before=before,
        last=last,
        work=np.dtype(np.float32 if kind == np.float32 else np.float64),
        scale=_scales(scale, frames),
        weights=_weights(weights, frames, method),
        spread=combine_uncertainty_function,
    )
    likeness = template.copy() if isinstance(items[0], nddata.CCDData) else template
    result = _filled(likeness, _compute(job, mem_limit), kind, n_frames)
    if output_file is not None:
        result.write(output_file, overwrite=overwrite_output)
    return result


def _reader_options(given: Mapping[str, Any]) -> dict[str, Any]:
    known = (*_PARAMETERS, *READER_OPTIONS)
    for name in given:
        if name not in READER_OPTIONS:
            raise ArgumentTypeError(unknown("the argument", name, known))
    return dict(given)


_PARAMETERS = tuple(inspect.signature(combine).parameters)[:-1]


def _check_output(path: str | os.PathLike[str] | None, overwrite: bool) -> None:
    if path is not None and not overwrite and Path(path).exists():
        raise OutputExistsError(f"{path} already exists: give overwrite_output=True to replace it")


def _scales(given: Any, frames: Frames) -> NDArray[np.float64]:
    """Return the factor of each frame in canonical order; of size 0 without any."""
    n_frames = frames.shape[0]
    if given is None:
        return np.zeros(0)
    if callable(given):
        factors = np.array([given(frames.whole(index)) for index in range(n_frames)], np.float64)
    else:
        if not hasattr(given, "__len__"):
            raise ArgumentTypeError(f"scale {given!r} is neither a function nor an array")
        factors = np.asarray(given, np.float64)
        if factors.shape != (n_frames,):
            raise ArgumentError(
                f"scale has shape {factors.shape}; a function or one number for each of the "
                f"{n_frames} frames would do"
            )
    for number, factor in enumerate(factors, 1):
        if not math.isfinite(factor):
            raise ArgumentError(f"the scale of frame {number} is {factor:g}")
    return factors[list(frames.order)]


def _weights(given: Any, frames: Frames, method: str) -> NDArray[np.float64] | None:
    """Return the weights in canonical order."""
    if given is None:
        return None
    if method == "median":
        raise ArgumentError("a median has no weights: leave them out, or combine by average")
    weights = np.asarray(given)
    if weights.ndim == 0:
        raise ArgumentTypeError(f"weights must be an array, not {given!r}")
    if weights.shape not in (frames.shape, frames.shape[:1]):
        raise ArgumentError(
            f"weights have shape {weights.shape}; {frames.shape[:1]} or {frames.shape} would fit"
        )
    if not (weights >= 0).all() or np.isinf(weights).any():
        raise ArgumentError("weights must be 0 or more, and finite")
    return weights[list(frames.order)]


def _compute(job: Job, mem_limit: float) -> list[Band]:
    """Combine all bands, as many at once as the memory allows."""
    rows, workers = _plan(job.frames, mem_limit)
    height, name = job.frames.shape[1], f"mf-combine-{uuid4().hex}"
    task = dask.delayed(partial(combine_band, job), pure=False)
    bands = [
        task(y, min(y + rows, height), dask_key_name=f"{name}-{y}") for y in range(0, height, rows)
    ]
    here = job.frames.in_memory or job.weights is not None  # what is large does not travel
    where = {"scheduler": "threads", "num_workers": workers} if here else {"num_workers": workers}
    return list(dask.compute(*bands, **where))


def _plan(frames: Frames, mem_limit: float) -> tuple[int, int]:
    """Return the rows of a band, and how many bands may be combined at once."""
    n_frames, height, width = frames.shape
    row = n_frames * width * (frames.itemsize + VALUE_BYTES)
    free = mem_limit - 2 * RESULT_BYTES * height * width
    most = dask.config.get("num_workers", None) or CPU_COUNT
    workers = int(min(max(free // row, 1), most))
    work = tiling.Work(
        n_frames, (height, width), frames.itemsize, 0, 0, 0, tile_rows=frames.tile_rows
    )
    best = tiling.plan_bands(work, memory=1 << 62, reserved=0, workers=workers).rows
    return int(min(max(free // (workers * row), 1), best)), workers


def _filled(
    image: nddata.CCDData, bands: Sequence[Band], kind: np.dtype[Any], n_frames: int
) -> nddata.CCDData:
    """Return the first frame with the combined values in place of its own."""
    data, uncert, empty = (np.concatenate(part) for part in zip(*bands, strict=True))
    whole = kind.kind in "iu"
    image.data = (np.nan_to_num(data) if whole else data).astype(kind, copy=False)
    image.mask = empty
    image.uncertainty = nddata.StdDevUncertainty(
        uncert.astype(np.float64 if whole else kind, copy=False)
    )
    image.meta["NCOMBINE"] = n_frames
    return image
