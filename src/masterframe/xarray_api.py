"""The accessor ``stack.mf``: what masterframe does with a lazy DataArray (frame, y, x)."""

from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from masterframe import calibrate, combine, explain, kernels
from masterframe.model import Calibration, Recipe
from masterframe.stack import open_stack

__all__ = ["StackAccessor", "open_stack"]


@xr.register_dataarray_accessor("mf")  # type: ignore[no-untyped-call]
class StackAccessor:
    """Combine and calibrate a stack of frames; everything is lazy.

    Parameters
    ----------
    stack : DataArray (frame, y, x)
        Raw values (adu), as `masterframe.open_stack` gives them, or any other Dask array.
    """

    def __init__(self, stack: xr.DataArray) -> None:
        self._stack = stack

    def combine(
        self, recipe: Recipe | None = None, calibration: Calibration | None = None
    ) -> xr.Dataset:
        """Return the lazy planes of the combined stack.

        Parameters
        ----------
        recipe : Recipe, optional
            How; by default values beyond 5 sigma of the median are left out, the rest averaged.
        calibration : Calibration, optional
            What is taken from the raw values first.

        Returns
        -------
        Dataset (y, x)
            ``data`` and ``uncert`` (unit of the stack), ``mask`` (`MaskBit`), ``count`` (values
            kept), and the optional planes of the recipe. Computing all reads the stack once.

        Raises
        ------
        UsageError
            If the rule or its options are unknown or do not fit.
        """
        return combine.combine_stack(self._stack, recipe, calibration).dataset

    def calibrated(self, calibration: Calibration, recipe: Recipe | None = None) -> xr.DataArray:
        """Return the calibrated stack, lazily.

        Combining it gives the data and counts of combining the raw stack with the calibration, bit
        for bit; its uncertainties are without the part of the masters.

        Parameters
        ----------
        calibration : Calibration
            What is taken off and applied.
        recipe : Recipe, optional
            Its dtype is that of the values (float64 where raw ones need it); its saturation and
            threshold leave raw values out.

        Returns
        -------
        DataArray (frame, y, x)
            Calibrated values, trimmed, NaN where a value is left out, with the ``scale`` of each
            frame as a coordinate.
        """
        recipe = recipe or Recipe()
        stack = self._stack
        raw = combine.trim_rows(da.asarray(stack.data), calibration)
        raw = raw.rechunk({0: -1, 2: -1})
        width = calibration.trim.shape[1] if calibration.trim else raw.shape[2]
        work = kernels.work_type(raw.dtype, recipe.dtype)
        values = raw.map_blocks(
            _calibrate_block,
            calibration,
            recipe,
            chunks=(*raw.chunks[:2], (width,)),
            dtype=work,
            meta=np.empty((0, 0, 0), work),
            token="mf-calibrate",
        )
        coords = {
            name: axis for name, axis in stack.coords.items() if axis.dims in ((), ("frame",))
        }
        scale = calibration.scale or (1.0,) * raw.shape[0]
        return xr.DataArray(
            values,
            dims=stack.dims,
            coords={**coords, "scale": ("frame", np.asarray(scale, float))},
            name=stack.name,
            attrs={
                **stack.attrs,
                "step": combine.quantisation_step(stack),
                "above_bias": int(combine.is_above_bias(calibration)),
            },
        )

    def explain(
        self,
        x: int,
        y: int,
        recipe: Recipe | None = None,
        calibration: Calibration | None = None,
    ) -> explain.PixelHistory:
        """Tell the history of one pixel: what each frame gave, and what became of it.

        Parameters
        ----------
        x, y : int
            Column and row of the combined (trimmed) image: array indices as `isel` has them,
            0-based. The command ``masterframe explain`` counts from 1, as FITS does.
        recipe, calibration
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
        """
        return explain.explain_stack(self._stack, x, y, recipe, calibration)


def _calibrate_block(
    block: NDArray[Any], calibration: Calibration, recipe: Recipe, block_info: Any = None
) -> NDArray[Any]:
    """Calibrate one row band; the function of every ``mf-calibrate`` task."""
    row0 = block_info[0]["array-location"][1][0]
    return calibrate.apply(block, row0, calibration, recipe)
