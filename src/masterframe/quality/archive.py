"""The masters in a folder of products, as their own tables describe them, and whether all is well.

What is read are the written files alone; inputs are asked for size and time, and for their DATASUM
only where these have changed or somebody wants to be sure.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from masterframe import fits, runlog
from masterframe.errors import FrameError, UsageError
from masterframe.fits import masters as planes
from masterframe.fits import records, tables
from masterframe.model import Frame, Header, MasterLimits
from masterframe.provenance import state_of_input
from masterframe.quality.comparison import Comparison, compare
from masterframe.quality.verdicts import Check, Verdict, check, worst
from masterframe.tiling import sample_rows

REPORT_FOLDER = "report"
"""Folder of an output folder that holds the report."""
SHOWN = 5
"""Inputs of one state that a problem names; more are counted."""


@dataclass(frozen=True, slots=True)
class Master:
    """One image of a written master, with all that its tables say."""

    path: str
    """Absolute path of the file."""
    name: str
    """The file below the output folder, without its suffix."""
    extension: str
    """Name of the image; '' where there is one."""
    kind: str
    """bias, dark or flat; '' where the file does not say."""
    header: Header
    """Cards of its primary HDU."""
    unit: str
    """Unit of its values; '' for a flat."""
    numbers: dict[str, float]
    """Numbers of its table QUALITY."""
    checks: tuple[Check, ...]
    """Tests that were made of it when it was written."""
    record: records.ImageRecord
    """How it was made."""
    rows: tuple[tables.InputRow, ...]
    """The frames that were combined."""
    left_out: tuple[tables.InputRow, ...]
    """Those that were found unfit."""
    planes: dict[str, Frame]
    """Its planes by name."""

    @property
    def title(self) -> str:
        """Its name with that of the image."""
        return f"{self.name} {self.extension}".strip()

    @property
    def verdict(self) -> Verdict:
        """The most serious verdict of its tests."""
        return worst(item.verdict for item in self.checks)


def find_products(out: Path) -> list[Path]:
    """Return the FITS files below an output folder, but for private ones.

    Raises
    ------
    UsageError
        If there is no such folder.
    """
    if not out.is_dir():
        raise UsageError(f"{out} is no folder of products: give the one that a run wrote to")
    found = (path for path in out.rglob("*.fits") if path.is_file() and not path.is_symlink())
    return sorted(path for path in found if not _is_private(path.relative_to(out)))


def _is_private(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts) or path.parts[0] == REPORT_FOLDER


def is_master(path: Path) -> bool:
    """Return whether a FITS file says that it is a master of masterframe.

    Raises
    ------
    FrameError
        If it cannot be read.
    """
    header = planes.scan_master(path).hdus[0].header
    return "MFSEAL" in header and bool(header.get("ISMASTER"))


def open_masters(path: Path, out: Path) -> list[Master]:
    """Read the tables of a master.

    Returns
    -------
    list of Master
        One an image.

    Raises
    ------
    FrameError
        If it cannot be read, or is no master of masterframe.
    """
    name = str(path.absolute())
    header = planes.scan_master(path).hdus[0].header
    rows, quality = tables.read_inputs(name), tables.read_quality(name)
    found = []
    for extension, record in records.read_records(name).items():
        own = [row for row in rows if row.extension == extension]
        image = planes.open_planes(name, extension)
        unit = planes.scan_master(path).hdus[image["data"].hdu].header.get("BUNIT")
        numbers = [row for row in quality if row.extension == extension]
        found.append(
            Master(
                path=name,
                name=path.relative_to(out).with_suffix("").as_posix(),
                extension=extension,
                kind=str(header.get("MFKIND") or ""),
                header=header,
                unit=str(unit or ""),
                numbers={
                    row.name: math.nan if row.value is None else row.value
                    for row in numbers
                    if not row.verdict
                },
                checks=tuple(_check(row) for row in numbers if row.verdict),
                record=record,
                rows=tuple(own[: record.frames]),
                left_out=tuple(own[record.frames :]),
                planes=image,
            )
        )
    return found


def checks_of(path: str) -> tuple[Check, ...]:
    """Return the tests that a master was put to when it was made.

    Raises
    ------
    FrameError
        If it cannot be read.
    """
    return tuple(_check(row) for row in tables.read_quality(path) if row.verdict)


def _check(row: tables.QualityRow) -> Check:
    verdict = next((word for word in ("pass", "warn", "fail") if word == row.verdict), "not judged")
    return Check(
        name=row.name.removeprefix("test "),
        value=math.nan if row.value is None else row.value,
        limit=math.nan if row.limit is None else row.limit,
        verdict=verdict,  # type: ignore[arg-type]
        about=row.description,
    )


def previous_of(master: Master, others: Sequence[Master]) -> Master | None:
    """Return the master of the same name in another night that was taken last before this one."""
    mine = str(master.header.get("DATE-OBS") or "")
    file = Path(master.name).name
    earlier = [
        (date, other)
        for other in others
        if other.path != master.path
        and (Path(other.name).name, other.extension) == (file, master.extension)
        and other.planes["data"].shape == master.planes["data"].shape
        and (date := str(other.header.get("DATE-OBS") or "")) < mine
        and date
    ]
    return max(earlier, key=lambda item: (item[0], item[1].name))[1] if earlier else None


def compare_masters(
    master: Master, previous: Master, limit: float = MasterLimits().previous
) -> tuple[Comparison, Check]:
    """Compare a master with the previous one, on every 16th row.

    Parameters
    ----------
    master, previous : Master
        Both; of one shape.
    limit : float
        Fraction of the pixels that may have changed.

    Raises
    ------
    FrameError
        If one cannot be read.
    """
    rows = sample_rows(master.planes["data"].shape[0])
    data, other = (read_sample(item, "data", rows) for item in (master, previous))
    sigma = np.hypot(*(read_sample(item, "uncert", rows) for item in (master, previous)))
    found = Comparison(previous.name, *compare(data, other, sigma, ratio=master.kind == "flat"))
    what = f"fraction of the pixels more than 6 sigma off {previous.name}"
    return found, check("previous", found.changed, limit, what)


def read_sample(master: Master, plane: str, rows: range) -> NDArray[Any]:
    """Return some rows of a plane, NaN where a pixel is masked."""
    values, mask = (
        fits.read_rows(master.planes[name], rows.start, rows.stop, rows.step)
        for name in (plane, "mask")
    )
    return np.where(mask == 0, values, np.nan)


@dataclass(frozen=True, slots=True)
class Verified:
    """What was found of one product."""

    name: str
    """The file below the output folder."""
    kind: str
    """bias, dark, flat; science for a calibrated frame; '' where it is not known."""
    checks: tuple[tuple[str, Check], ...]
    """Its tests, each with the name of the image."""
    problems: tuple[str, ...]
    """What is wrong with the file or its inputs."""
    remarks: tuple[str, ...]
    """What could not be checked."""
    inputs: dict[str, int]
    """How many inputs are as recorded, touched, changed, not there."""

    @property
    def verdict(self) -> Verdict:
        """pass, warn or fail."""
        if self.problems:
            return "fail"
        own = [item.verdict for _, item in self.checks]
        return worst([*own, "warn" if self.remarks else "pass"])


def verify_folder(out: Path, *, thoroughly: bool = False) -> list[Verified]:
    """Check every product in a folder: its checksums, its inputs, its tests, its predecessor.

    Parameters
    ----------
    out : Path
        The output folder of runs.
    thoroughly : bool
        Add up the pixels of every input, too.

    Raises
    ------
    UsageError
        If there is no such folder, or nothing in it.
    """
    out = out.absolute()
    products = find_products(out)
    made = [*_not_made(out, products)]
    if not products and not made:
        raise UsageError(f"{out} holds no product: masterframe run makes some")
    if not made and all(_is_foreign(path) for path in products):
        raise UsageError(f"{out} holds FITS files, but none that masterframe made")
    known = known_masters(out)
    return [*(_verify(path, out, known, thoroughly) for path in products), *made]


def _is_foreign(path: Path) -> bool:
    """Return whether a file can be read, and says nowhere that masterframe made it."""
    try:
        return "MFSEAL" not in planes.scan_master(path).hdus[0].header
    except FrameError:
        return False


def known_masters(out: Path) -> list[Master]:
    """Return every master in a folder that can be read."""
    found = []
    for path in find_products(out):
        try:
            if is_master(path):
                found += open_masters(path, out)
        except FrameError:
            continue  # verifying the file says what is wrong with it
    return found


def _verify(path: Path, out: Path, known: Sequence[Master], thoroughly: bool) -> Verified:
    name = path.relative_to(out).as_posix()
    own = [item for item in known if item.path == str(path)]
    problems: list[str] = []
    rows: list[tables.InputRow] = []
    try:
        reason = planes.why_not_ours(path)
        problems += [reason] if reason else []
        rows = tables.read_inputs(path)
        if is_master(path) and not own:
            open_masters(path, out)  # tells why it is not known
    except FrameError as error:
        problems.append(error.reason)
    states = {row.path: state_of_input(row, verify=thoroughly) for row in rows}
    changed = [item for item, state in states.items() if state == "CHANGED"]
    missing = [item for item, state in states.items() if state == "not there"]
    checks = [(item.extension, test) for item in own for test in item.checks]
    for item in own:
        previous = previous_of(item, known)
        if previous is not None:
            checks.append((item.extension, compare_masters(item, previous)[1]))
    return Verified(
        name=name,
        kind=own[0].kind if own else "science" if rows else "",
        checks=tuple(checks),
        problems=(*problems, *_together("has changed since", changed)),
        remarks=tuple(_together("is not there any more", missing)),
        inputs=dict(Counter(states.values())),
    )


def _together(what: str, paths: Sequence[str]) -> Iterator[str]:
    yield from (f"input {path} {what}" for path in paths[:SHOWN])
    if len(paths) > SHOWN:
        yield f"and {len(paths) - SHOWN} more inputs"


def _not_made(out: Path, products: Sequence[Path]) -> Iterator[Verified]:
    """Yield the products that the last run could not make, and left no file of."""
    there = {os.fspath(path) for path in products}
    for outcome in runlog.read_record(out).get("products", []):
        if outcome["state"] in ("failed", "blocked") and outcome["output"] not in there:
            reason = f"{outcome['state']}: {outcome['reason']}"
            yield Verified(outcome["name"], outcome["kind"], (), (reason,), (), {})
