"""Rows of the masters that a calibration applies, and of what is known to be bad."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from masterframe import fits
from masterframe.model import Calibration, Frame, MasterImage
from masterframe.readout import trim_columns

Array = NDArray[Any]
_NONE: Array = np.zeros((0, 0), np.float32)


class MasterRows:
    """Some rows of the masters of a calibration; a plane is read when it is first asked for.

    Parameters
    ----------
    calibration : Calibration
        Its masters.
    rows : range
        Rows of the trimmed image, at least one.

    Raises
    ------
    FrameError
        Later, if a master has changed or cannot be read.
    """

    def __init__(self, calibration: Calibration, rows: range) -> None:
        self.calibration = calibration
        self.rows = range(rows.start, rows[-1] + 1, rows.step)  # a step may lead beyond the last
        self._known: dict[tuple[str, str], Array] = {}
        self._flats: dict[np.dtype[Any], Array] = {}
        self._whole: MasterRows | None = None

    def lines(self, rows: range) -> MasterRows:
        """Return some consecutive ones of these rows; what is read of them is read of all."""
        part = MasterRows(self.calibration, rows)
        part._whole = self
        return part

    def keeping_bad(self) -> MasterRows:
        """Return the same rows of a calibration that knows of no bad pixels."""
        all_good = MasterRows(replace(self.calibration, bad=(), bad_pixels=None), self.rows)
        all_good._whole = self
        return all_good

    def of(self, calibration: Calibration) -> MasterRows:
        """Return the same rows of a calibration that applies the same masters to other frames."""
        other = MasterRows(calibration, self.rows)
        other._whole, other._flats = self, self._flats
        return other

    @property
    def applied(self) -> dict[str, MasterImage]:
        """The masters that change values by role, in the order in which they do."""
        return applied(self.calibration)

    def bias(self, work: np.dtype[Any]) -> Array:
        """Return the bias that is taken off, (rows, columns); size 0 without one."""
        return self._data("bias", work)

    def dark(self, work: np.dtype[Any]) -> Array:
        """Return the dark that is taken off, likewise."""
        return self._data("dark", work)

    def flat(self, work: np.dtype[Any]) -> Array:
        """Return the flat with 1 where it must not be divided by: masked, or not positive."""
        if work not in self._flats:
            self._flats[work] = self._usable_flat(work)
        return self._flats[work]

    def _usable_flat(self, work: np.dtype[Any]) -> Array:
        flat = self._data("flat", work)
        if not flat.size:
            return flat
        usable = np.isfinite(flat) & (flat > 0)
        if self.applied["flat"].mask:
            usable &= self._plane("flat", "mask") == 0
        return np.where(usable, flat, work.type(1))

    def stored_flat(self) -> Array:
        """Return the same flat in a type that holds what is stored; size 0 without one."""
        if "flat" not in self.applied:
            return _NONE
        return self.flat(np.result_type(self._plane("flat", "data"), np.float32))

    def sigma(self, role: str) -> Array:
        """Return the standard deviation of a master, NaN where it does not say; size 0 for none.

        Foreign masters have none, and those of one frame.
        """
        master = self.applied.get(role)
        return _NONE if master is None or master.uncert is None else self._plane(role, "uncert")

    def mask(self) -> NDArray[np.uint8]:
        """Return the mask bits of all masters that are applied, ORed; size 0 for none."""
        masks = [
            self._plane(role, "mask").astype(np.uint8)
            for role, master in self.applied.items()
            if master.mask
        ]
        return np.bitwise_or.reduce(masks) if masks else np.zeros((0, 0), np.uint8)

    def bad(self) -> NDArray[np.bool_]:
        """Return the pixels that are given as bad; size 0 where none are given."""
        by_file, calibration = self._bad_by_file(), self.calibration
        if not calibration.bad:
            return by_file
        trim = calibration.trim
        top, parts = (trim.y0, (trim, *calibration.bad)) if trim else (0, calibration.bad)
        places = top + np.asarray(self.rows)
        raw = np.zeros((len(self.rows), max(section.x1 for section in parts)), np.bool_)
        for section in calibration.bad:
            own = (section.y0 <= places) & (places < section.y1)
            raw[own, section.x0 : section.x1] = True
        kept = trim_columns(raw, calibration)
        return np.asarray(kept | by_file if by_file.size else kept)

    def _bad_by_file(self) -> NDArray[np.bool_]:
        bad, trim = self.calibration.bad_pixels, self.calibration.trim
        if bad is None:
            return np.zeros((0, 0), np.bool_)
        if trim is None or bad.shape == self.calibration.kept_shape((0, 0)):
            return np.asarray(_read(bad, bad.data, self.rows) != 0)
        rows = range(self.rows.start + trim.y0, self.rows.stop + trim.y0, self.rows.step)
        return np.asarray(trim_columns(_read(bad, bad.data, rows), self.calibration) != 0)

    def _data(self, role: str, work: np.dtype[Any]) -> Array:
        if role not in self.applied:
            return np.zeros((0, 0), work)
        return self._plane(role, "data").astype(work, copy=False)

    def _plane(self, role: str, name: str) -> Array:
        """Return rows of one plane (data, uncert, mask) of a master, as it is stored."""
        if self._whole is not None:
            first = self._whole.rows.index(self.rows.start)
            return self._whole._plane(role, name)[first : first + len(self.rows)]
        if (role, name) not in self._known:
            master = self.applied[role]
            self._known[role, name] = _read(master, getattr(master, name), self.rows)
        return self._known[role, name]


def applied(calibration: Calibration) -> dict[str, MasterImage]:
    """Return the masters that change values by role, in the order in which they do.

    A dark that holds its bias stands for both.
    """
    holds_bias = calibration.dark and calibration.dark_holds_bias
    found = {
        "bias": None if holds_bias else calibration.bias,
        "dark": calibration.dark,
        "flat": calibration.flat,
    }
    return {role: master for role, master in found.items() if master}


def _read(master: MasterImage, plane: Frame, rows: range) -> Array:
    """Read rows of the used part of one plane of a master."""
    part = master.part
    top = part.y0 if part else 0
    (whole,) = _reader(plane).read(range(rows.start + top, rows.stop + top, rows.step))
    return np.ascontiguousarray(whole[:, part.x0 : part.x1]) if part else whole


@functools.lru_cache(maxsize=64)
def _reader(plane: Frame) -> fits.StackReader:
    """Return what reads a plane, which each band asks for: to make it costs as much as to read."""
    return fits.StackReader([plane])
