"""To and from astropy's CCDData, the container of ccdproc and its kin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
import xarray as xr

from masterframe import stack as stacks
from masterframe.errors import UsageError

if TYPE_CHECKING:
    from astropy.io import fits
    from astropy.nddata import CCDData

_CARD_TYPES = str | int | float | bool


def to_ccddata(planes: xr.Dataset) -> CCDData:
    """Return the planes of a combination or a master as CCDData; computes what is lazy.

    Parameters
    ----------
    planes : Dataset (y, x)
        ``data``, and where they are there ``uncert`` (its standard deviation) and ``mask``
        (non-zero: do not use).

    Returns
    -------
    CCDData
        In the unit of ``data``; its header holds the attributes that a card can hold.

    Raises
    ------
    UsageError
        If there is no plane ``data``, or it is no image.
    """
    from astropy.nddata import CCDData, StdDevUncertainty
    from astropy.units import Unit

    if "data" not in planes or planes["data"].ndim != 2:
        raise UsageError(
            f"CCDData is made of the planes data (y, x), uncert and mask: here is {_shown(planes)}"
        )
    loaded = planes[[name for name in ("data", "uncert", "mask") if name in planes]].compute()
    uncertainty = StdDevUncertainty(loaded["uncert"].values) if "uncert" in loaded else None
    return CCDData(
        loaded["data"].values,
        unit=Unit(loaded["data"].attrs.get("units", "")),
        uncertainty=uncertainty,
        mask=loaded["mask"].values != 0 if "mask" in loaded else None,
        header=_header(planes.attrs),
    )


def from_ccddata(frames: Sequence[CCDData]) -> xr.Dataset:
    """Return CCDData that are in memory as a stack, with their masks and uncertainties.

    Parameters
    ----------
    frames : sequence of CCDData
        N images of one shape and unit.

    Returns
    -------
    Dataset (frame, y, x)
        ``data``; ``uncert`` (standard deviations) and ``mask`` (True: do not use) where any frame
        has them; the coordinates of `masterframe.open_stack` from the headers. Pixels are not
        copied.

    Raises
    ------
    UsageError
        If there is none, or shapes or units differ, or just some have an uncertainty.

    Examples
    --------
    >>> import numpy as np
    >>> from astropy.nddata import CCDData
    >>> import masterframe as mf
    >>> frames = [CCDData(np.full((4, 5), level), unit="adu") for level in (7.0, 8.0, 9.0)]
    >>> stack = mf.from_ccddata(frames)
    >>> float(stack["data"].mf.combine()["data"][0, 0])
    8.0
    """
    _check(frames)
    planes: dict[str, Any] = {"data": _piled([frame.data for frame in frames])}
    if any(frame.uncertainty is not None for frame in frames):
        planes["uncert"] = _piled([_deviation(frame) for frame in frames])
    if any(frame.mask is not None for frame in frames):
        masks = [np.broadcast_to(_mask(frame), frame.shape) for frame in frames]
        planes["mask"] = _piled(masks)
    dims = ("frame", "y", "x")
    rows, columns = frames[0].shape
    units = {"units": frames[0].unit.to_string()}
    return xr.Dataset(
        {name: (dims, values, {} if name == "mask" else units) for name, values in planes.items()},
        coords={
            **stacks.coordinates([_values(frame.header) for frame in frames]),
            "y": np.arange(rows),
            "x": np.arange(columns),
        },
    )


def _check(frames: Sequence[CCDData]) -> None:
    if not frames:
        raise UsageError("no CCDData are given")
    first = frames[0]
    for number, frame in enumerate(frames):
        if frame.shape != first.shape or frame.unit != first.unit or frame.ndim != 2:
            raise UsageError(
                f"CCDData {number} is {_words(frame)}, the first is {_words(first)}: a stack has "
                "images of one shape and unit"
            )


def _words(frame: CCDData) -> str:
    return f"{' x '.join(map(str, frame.shape))} in {frame.unit.to_string() or 'no unit'}"


def _deviation(frame: CCDData) -> Any:
    if frame.uncertainty is None:
        raise UsageError("some of the CCDData have an uncertainty, and others have none")
    from astropy.nddata import StdDevUncertainty

    return frame.uncertainty.represent_as(StdDevUncertainty).array


def _mask(frame: CCDData) -> Any:
    return False if frame.mask is None else np.asarray(frame.mask, bool)


def _piled(images: Sequence[Any]) -> da.Array:
    """Return images as one lazy array; name=False: they are not read to name it."""
    return da.stack([da.from_array(np.asarray(image), chunks=-1, name=False) for image in images])


def _values(header: Mapping[str, Any]) -> dict[str, Any]:
    return {key.upper(): value for key, value in header.items() if isinstance(value, _CARD_TYPES)}


def _header(attributes: Mapping[Any, Any]) -> fits.Header:
    """Return the attributes that fit on a card."""
    from astropy.io import fits

    header = fits.Header()
    for key, given in attributes.items():
        value = given.item() if isinstance(given, np.generic) else given
        if isinstance(value, _CARD_TYPES):
            name = str(key) if len(str(key)) <= 8 else f"HIERARCH {key}"
            header[name] = value
    return header


def _shown(planes: xr.Dataset) -> str:
    return ", ".join(f"{name} {planes[name].dims}" for name in planes) or "none"
