"""The accessors ``.mf``: what masterframe does with a lazy stack, and with the planes it gives."""

from __future__ import annotations

import os
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
import xarray as xr
from dask.delayed import Delayed, delayed
from numpy.typing import NDArray

from masterframe import calibrate, cell, combine, explain, kernels, names, request
from masterframe import stack as stacks
from masterframe.errors import UsageError
from masterframe.fits import masters
from masterframe.model import Calibration, MasterImage, Recipe, Section
from masterframe.stack import open_stack
from masterframe.xarray_api import ccddata
from masterframe.xarray_api.overview import How, overview

if TYPE_CHECKING:
    from astropy.nddata import CCDData

__all__ = ["MasterAccessor", "StackAccessor", "open_stack"]

_ROLES = ("bias", "dark", "flat", "bad_pixels")
_SECTIONS = ("overscan", "trim")
_NOISE = ("gain", "read_noise")
_OPTIONS = (
    *(
        "reject",
        "low",
        "high",
        "center",
        "deviation",
        "ddof",
        "max_iters",
        "nlow",
        "nhigh",
        "nkeep",
    ),
    *("pclip", "fraction", "alpha", "snoise", "mad_correction", "grow", "mclip"),
    *("estimator", "trim", "noise_floor", "saturation", "dtype", "planes", *_NOISE),
)
"""Options of ``masterframe combine`` that say how values are combined."""


@xr.register_dataarray_accessor("mf")  # type: ignore[no-untyped-call]
class StackAccessor:
    """Combine, calibrate and look at a stack of frames; everything is lazy.

    Parameters
    ----------
    stack : DataArray (frame, y, x)
        Raw values (adu), as `masterframe.open_stack` gives them, or any other array, of Dask or
        not. The first axis may have another name.
    """

    def __init__(self, stack: xr.DataArray) -> None:
        self._stack = stack

    def combine(
        self,
        recipe: Recipe | None = None,
        calibration: Calibration | None = None,
        *,
        masks: xr.DataArray | None = None,
        uncertainties: xr.DataArray | None = None,
        **options: Any,
    ) -> xr.Dataset:
        """Return the lazy planes of the combined stack.

        Parameters
        ----------
        recipe : Recipe, optional
            How; by default values beyond 5 sigma of the median are left out, the rest averaged.
        calibration : Calibration, optional
            What is taken from the raw values first. A cut-out along y and x takes the part of it
            that covers its pixels.
        masks : DataArray (frame, y, x), optional
            Values to leave out (non-zero).
        uncertainties : DataArray (frame, y, x), optional
            Standard deviations of the raw values (adu).
        **options
            In place of a recipe, the options of ``masterframe combine`` with ``_`` for ``-``:
            ``reject``, ``low``, ``high``, ``estimator`` (its ``--combine``), ``noise_floor``,
            ``gain``, ``read_noise``, ``saturation``, ``dtype``, ``planes``, ...

        Returns
        -------
        Dataset (y, x)
            ``data`` and ``uncert`` (unit of the stack), ``mask`` (`MaskBit`), ``count`` (values
            kept), and the optional planes of the recipe. Computing all reads the stack once.

        Raises
        ------
        UsageError
            If the rule or its options are unknown or do not fit, or the calibration is not that of
            the frames.

        Examples
        --------
        >>> import masterframe as mf
        >>> stack = mf.open_stack("night/bias_*.fits")
        >>> planes = stack.mf.combine(reject="minmax", nlow=1, nhigh=1, estimator="median")
        >>> list(planes)
        ['data', 'uncert', 'mask', 'count']
        >>> int(planes["count"].max()) == len(stack) - 2
        True
        """
        return combine.combine_stack(
            self._stack,
            _recipe(recipe, options),
            calibration,
            masks=None if masks is None else da.asarray(stacks.arranged(masks).data) != 0,
            uncertainties=None
            if uncertainties is None
            else da.asarray(stacks.arranged(uncertainties).data),
        ).dataset

    def calibrated(
        self,
        calibration: Calibration | None = None,
        recipe: Recipe | None = None,
        **parts: Any,
    ) -> xr.DataArray:
        """Return the calibrated stack, lazily.

        Combining it gives the data and counts of combining the raw stack with the calibration, bit
        for bit; its uncertainties are without the part of the masters.

        Parameters
        ----------
        calibration : Calibration, optional
            What is taken off and applied.
        **parts
            In place of a calibration, its fields: ``bias``, ``dark``, ``flat`` (paths of masters,
            or images that `open_master` found), ``overscan``, ``trim`` (sections, as text or
            `Section`), ...
        recipe : Recipe, optional
            Its dtype is that of the values (float64 where raw ones need it); its saturation and
            threshold leave raw values out.

        Returns
        -------
        DataArray (frame, y, x)
            Calibrated values, trimmed, NaN where a value is left out, with the ``scale`` of each
            frame as a coordinate; ``step`` is the quantisation step of the raw values (adu), lazy,
            by which the combination knows its noise floor.

        Raises
        ------
        UsageError
            If the calibration is not that of the frames, or a cut-out lacks the overscan.

        Examples
        --------
        >>> import masterframe as mf
        >>> mf.write_master("bias.fits", mf.open_stack("night/bias_*.fits")).n_frames
        5
        >>> flats = mf.open_stack("night/flat_*.fits").mf.calibrated(bias="bias.fits")
        >>> flats.dims, flats.dtype.name
        (('frame', 'y', 'x'), 'float32')
        """
        calibration = _calibration(calibration, parts)
        recipe = recipe or Recipe()
        stack = stacks.arranged(self._stack)
        fitted = combine.fit_calibration(stack, calibration)
        raw = combine.trim_rows(da.asarray(stack.data), fitted)
        raw = raw.rechunk({0: -1, 1: combine.even_chunks(raw.chunks[1]), 2: -1})
        width = fitted.kept_shape((stack.shape[1], stack.shape[2]))[1]
        work = kernels.work_type(raw.dtype, recipe.dtype)
        values = raw.map_blocks(
            _calibrate_block,
            fitted,
            recipe,
            chunks=(*raw.chunks[:2], (width,)),
            dtype=work,
            meta=np.empty((0, 0, 0), work),
            token="mf-calibrate",
        )
        frame = stack.dims[0]
        coords = {name: axis for name, axis in stack.coords.items() if axis.dims in ((), (frame,))}
        scale = calibration.scale or (1.0,) * raw.shape[0]
        step = recipe.noise.step or combine.quantisation_step(stack)
        return xr.DataArray(
            values,
            dims=stack.dims,
            coords={
                **coords,
                **stacks.places(stack, fitted),
                "scale": (frame, np.asarray(scale, float)),
                "step": _lazy_number(step),
            },
            name=stack.name,
            attrs={
                "units": stack.attrs.get("units", ""),
                "above_bias": int(cell.is_above_bias(calibration)),
            },
        )

    def preview(
        self, pixels: int = 512, how: How = "stride", frames: int | None = 16
    ) -> xr.DataArray:
        """Return small images of some frames, lazily, of a fraction of the bytes.

        Parameters
        ----------
        pixels : int
            Rows and columns of an image, at most.
        how : str
            ``stride`` takes one pixel in every so many along y and x; ``bin`` the mean of so many
            pixels along x in one row of so many, which has less noise and reads the same rows.
            (``stack.coarsen(y=8, x=8).mean()`` averages whole squares, and reads everything.)
        frames : int, optional
            Frames, evenly spaced, at most; None takes all.

        Returns
        -------
        DataArray (frame, y, x)
            With the coordinates of its frames, and the places ``y`` and ``x`` of its pixels in
            theirs.

        Raises
        ------
        UsageError
            If a number is less than 1, or the way is unknown.

        Examples
        --------
        >>> import masterframe as mf
        >>> small = mf.open_stack("night/flat_*.fits").mf.preview(pixels=32, frames=2)
        >>> small.shape
        (2, 30, 32)
        """
        return overview(self._stack, pixels, how, frames)

    def explain(
        self,
        x: int,
        y: int,
        recipe: Recipe | None = None,
        calibration: Calibration | None = None,
        **options: Any,
    ) -> explain.PixelHistory:
        """Tell the history of one pixel: what each frame gave, and what became of it.

        Parameters
        ----------
        x, y : int
            Column and row of the combined (trimmed) image: array indices as `isel` has them,
            0-based. The command ``masterframe explain`` counts from 1, as FITS does.
        recipe, calibration, **options
            As for `combine`.

        Returns
        -------
        PixelHistory
            Every frame's raw value, what was taken from it, whether it was kept and if not in which
            pass it was rejected; the bounds of every pass; and the combined value, equal to that of
            `combine` to the bit. Just the pixel's rows are read.

        Raises
        ------
        UsageError
            If the pixel is outside the image, or the rule or its options do not fit.

        Examples
        --------
        >>> import masterframe as mf
        >>> told = mf.open_stack("night/bias_*.fits").mf.explain(x=30, y=20)
        >>> told.combined.count == sum(frame.fate == "kept" for frame in told.frames)
        True
        """
        return explain.explain_stack(self._stack, x, y, _recipe(recipe, options), calibration)


@xr.register_dataset_accessor("mf")  # type: ignore[no-untyped-call]
class MasterAccessor:
    """What may be done with the planes of a combination or a master.

    Parameters
    ----------
    planes : Dataset (y, x)
        As `StackAccessor.combine` or ``xarray.open_dataset(..., engine="masterframe")`` gives them.
    """

    def __init__(self, planes: xr.Dataset) -> None:
        self._planes = planes

    def to_ccddata(self) -> CCDData:
        """Return data, uncertainty and mask as astropy's CCDData; computes what is lazy.

        Returns
        -------
        CCDData
            In the unit of ``data``; its header holds the attributes that a card can hold.

        Raises
        ------
        UsageError
            If there is no plane ``data`` (y, x).

        Examples
        --------
        >>> import masterframe as mf
        >>> ccd = mf.open_stack("night/bias_*.fits").mf.combine().mf.to_ccddata()
        >>> ccd.unit, ccd.uncertainty.uncertainty_type
        (Unit("adu"), 'std')
        """
        return ccddata.to_ccddata(self._planes)


def _calibrate_block(
    block: NDArray[Any], calibration: Calibration, recipe: Recipe, block_info: Any = None
) -> NDArray[Any]:
    """Calibrate one row band; the function of every ``mf-calibrate`` task."""
    row0 = block_info[0]["array-location"][1][0]
    return calibrate.apply(block, row0, calibration, recipe)


def _lazy_number(number: Any) -> Any:
    """Return a number or Delayed as an array without axes."""
    if isinstance(number, Delayed):
        return da.from_delayed(delayed(np.float64)(number), (), float, meta=np.empty((), float))
    return np.float64(number)


def _recipe(recipe: Recipe | None, options: dict[str, Any]) -> Recipe:
    """Return the recipe that was given, or that options stand for.

    Raises
    ------
    UsageError
        If both are given, or an option is unknown or does not fit.
    """
    if not options:
        return recipe or Recipe()
    if recipe is not None:
        raise UsageError(f"give a recipe or options, not both: {', '.join(options)}")
    for name in options:
        if name not in _OPTIONS:
            raise UsageError(names.unknown("option", name, _OPTIONS))
    planes = options.get("planes", "")
    words = {**options, "planes": planes if isinstance(planes, str) else ",".join(planes)}
    made, _ = request.read_recipe(words)
    known = {item.name: item.value for item in request.show(words)}
    noise = replace(
        made.noise,
        gain=_number("gain", known["gain"]),
        read_noise=_number("read_noise", known["read-noise"]),
    )
    return replace(made, noise=noise)


def _number(name: str, value: Any) -> float | None:
    """Return a number, or None where none is given."""
    try:
        return None if value is None else float(value)
    except (TypeError, ValueError):
        raise UsageError(f"{name} {value!r} is no number") from None


def _calibration(given: Calibration | None, parts: dict[str, Any]) -> Calibration:
    """Return the calibration that was given, or that its parts make.

    Raises
    ------
    UsageError
        If both or none are given, or a part is unknown or of another kind.
    """
    if given is not None and not isinstance(given, Calibration):
        raise UsageError(
            f"a Calibration is wanted, not {type(given).__name__}: calibrated(bias=...)"
        )
    if (given is None) == (not parts):
        raise UsageError("give a Calibration or its parts, as in calibrated(bias=bias, flat=flat)")
    if given is not None:
        return given
    known = [item.name for item in fields(Calibration)]
    for name in parts:
        if name not in known:
            raise UsageError(names.unknown("the part", name, known))
    return Calibration(**{name: _part(name, value) for name, value in parts.items()})


def _part(name: str, value: Any) -> Any:
    """Return a part of a calibration: a master by its path, a section as FITS writes it."""
    if name in _ROLES and isinstance(value, str | os.PathLike):
        images = masters.open_master(value)
        if len(images) > 1:
            raise UsageError(
                f"{name} {value} holds {len(images)} images ({', '.join(images)}): give one, as "
                "open_master(path)[name]"
            )
        return next(iter(images.values()))
    if name in _ROLES and not isinstance(value, MasterImage | None):
        raise UsageError(f"{name} is the path of a master, not {type(value).__name__}")
    if name in _SECTIONS and isinstance(value, str):
        section = Section.from_fits(value)
        if section is None:
            raise UsageError(f"{name} {value} is no section as FITS writes it: [x0:x1,y0:y1]")
        return section
    return value
