"""``xarray.open_dataset(..., engine="masterframe")``.

xarray loads the engines of all packages when a user opens any file, so this one loads what it works
with when it is asked to open one.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

import xarray as xr
from xarray.backends import BackendEntrypoint

_ALWAYS_FITS = (".fits", ".fit", ".fts", ".fz")
_MAY_BE_FITS = (*_ALWAYS_FITS, ".gz", ".bz2", ".xz")


class MasterframeEngine(BackendEntrypoint):
    """Open FITS files as a Dataset whose variables are read when, and where, they are looked at.

    Files become a stack (frame, y, x) as `masterframe.open_stack` makes it: ``counts``, or, where
    they hold several images, a variable for each by the name of its extension. A single master
    that masterframe wrote becomes its planes (y, x).
    """

    description = "FITS images as lazy stacks, and masters as their planes"
    open_dataset_parameters = ("filename_or_obj", "drop_variables", "hdu")

    def open_dataset(  # type: ignore[override]
        self,
        filename_or_obj: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        *,
        drop_variables: str | Iterable[str] | None = None,
        hdu: int | str | None = None,
    ) -> xr.Dataset:
        """Open files; only headers are read now, and the accessors ``.mf`` are registered.

        Parameters
        ----------
        filename_or_obj : path or glob, or a sequence of them
            The files, as for `masterframe.open_stack`.
        drop_variables : str or iterable of str, optional
            Variables that are not wanted.
        hdu : int or str, optional
            Index or EXTNAME of the only image that is wanted.

        Returns
        -------
        Dataset
            Of a stack (frame, y, x) with the coordinates and attributes of `open_stack`; of a
            master (y, x) ``data``, ``uncert``, ``mask``, ``count`` and what else it has, with its
            header cards as attributes, logical values as 0 and 1.

        Raises
        ------
        FrameError
            If a file is no usable FITS image, or its shape differs from the first one's.
        UsageError
            If no file matches, or an image is not in all of them.

        Examples
        --------
        >>> import xarray as xr
        >>> night = xr.open_dataset("night/flat_*.fits", engine="masterframe", chunks={})
        >>> bright = night["counts"].isel(frame=night["exptime"].values > 1)
        >>> planes = bright.mf.combine(reject="none")
        """
        from masterframe.xarray_api import backend

        dataset = backend.open_files(filename_or_obj, hdu)
        dropped = [drop_variables] if isinstance(drop_variables, str) else drop_variables or ()
        return dataset.drop_vars([*dropped], errors="ignore")

    def guess_can_open(self, filename_or_obj: Any) -> bool:
        """Return whether a file is FITS by name and content; by its name where it is not there."""
        if not isinstance(filename_or_obj, str | os.PathLike):
            return False
        path = os.fspath(filename_or_obj)
        if not path.lower().endswith(_MAY_BE_FITS):
            return False
        from masterframe import errors, fits

        try:
            return fits.holds_fits(path)
        except errors.FrameError:
            return path.lower().endswith(_ALWAYS_FITS)
