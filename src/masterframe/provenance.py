"""What a master was made of, found again: its inputs and masters, checked against what it says.

The record is read from the master itself (`masterframe.fits.records`); files that it names are
opened for reading alone, wherever they lie now.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from masterframe import fits, offsets
from masterframe.errors import FrameError, UsageError
from masterframe.fits import extensions, masters, records, tables
from masterframe.model import ALGORITHM_VERSION, Calibration, Frame, MasterImage
from masterframe.names import unknown

SHOWN = 5
"""Missing files that an error names; more are counted."""


@dataclass(frozen=True, slots=True)
class Provenance:
    """One image of a master, and all that it was made of."""

    path: str
    """The master."""
    record: records.ImageRecord
    """How the image was made."""
    planes: dict[str, Frame]
    """Its planes in the file by name: data, uncert, mask, count and those asked for."""
    unit: str
    """Unit of its data; '' for a flat."""
    numbers: dict[str, float]
    """Its numbers in the table QUALITY."""
    rows: tuple[tables.InputRow, ...]
    """What the master says of each frame that was combined."""
    left_out: tuple[tables.InputRow, ...]
    """What it says of those that were found unfit."""
    frames: tuple[Frame, ...]
    """Where the frames are now."""
    uncertainties: tuple[Frame, ...]
    """Where the uncertainties of their values are; empty where they were not used."""
    states: tuple[str, ...]
    """What was found of each frame's file: as recorded, moved, touched, or changed."""
    calibration: Calibration
    """What was taken from them."""
    notes: tuple[str, ...]
    """What is worth knowing."""
    problems: tuple[str, ...]
    """What is not as it was when the master was made."""


@dataclass(frozen=True, slots=True)
class _Found:
    """A file of the record as it is now."""

    frame: Frame
    state: str
    changed: bool


def open_provenance(
    path: str, image: str | None = None, folders: Sequence[Path] = (), *, verify: bool = False
) -> Provenance:
    """Find all that an image of a master was made of.

    Files are looked for in the folders given, where they were, and beside the master. One whose
    size and time are those recorded is trusted; of others the DATASUM decides.

    Parameters
    ----------
    path : str
        The master.
    image : str, optional
        Name of the image; by default the only one.
    folders : sequence of Path
        Where files that were moved may be.
    verify : bool
        Compute the DATASUM of every file, and all checksums of the master.

    Raises
    ------
    FrameError
        If the master cannot be read or does not say how it was made, or files are not there.
    UsageError
        If it has no image of that name, or several and none is named.
    """
    record = _choose(path, records.read_records(path), image)
    if record.changed:
        raise FrameError(
            path, "it was made of values that a program had changed, which no file holds"
        )
    places = [*folders, None, Path(path).parent]
    rows = [row for row in tables.read_inputs(path) if row.extension == record.extension]
    if not 0 < record.frames <= len(rows):
        raise FrameError(path, f"it names {len(rows)} inputs and says that it has {record.frames}")
    used = rows[: record.frames]
    operands = {
        role: operand
        for role in ("bias", "dark", "flat", "bad_pixels")
        if (operand := getattr(record, role))
    }
    needed = [*(row.path for row in used), *(item.path for item in operands.values())]
    there = _locate(path, needed, places)
    found = [_check_input(there[row.path], row, verify) for row in used]
    taken = {role: _check_operand(there[o.path], o, verify) for role, o in operands.items()}
    _check_sections(path, record, [item.frame for item in found])
    states = [_moved(item, row.path) for item, row in zip(found, used, strict=True)]
    changed = [item.frame.path for item in [*found, *taken.values()] if item.changed]
    altered = masters.why_not_ours(path, thoroughly=verify)
    planes = masters.open_planes(path, record.extension)
    header = fits.scan_file(path).hdus[planes["data"].hdu].header
    return Provenance(
        path=path,
        record=record,
        planes=planes,
        unit=str(header.get("BUNIT") or ""),
        numbers={
            row.name: float("nan") if row.value is None else row.value
            for row in tables.read_quality(path)
            if row.extension == record.extension
        },
        rows=tuple(used),
        left_out=tuple(rows[record.frames :]),
        frames=tuple(item.frame for item in found),
        uncertainties=tuple(_uncertainty(item.frame) for item in found if record.uncertainties),
        states=tuple(states),
        calibration=offsets.with_overscan(
            _calibration(record, used, operands, taken), [item.frame for item in found]
        ),
        notes=tuple(_notes(record, taken, operands)),
        problems=(
            *(f"{name} has changed since the master was made" for name in changed),
            *((f"the master itself: {altered}",) if altered else ()),
        ),
    )


def _choose(
    path: str, found: dict[str, records.ImageRecord], image: str | None
) -> records.ImageRecord:
    if image is None and len(found) == 1:
        return next(iter(found.values()))
    if image is None:
        raise UsageError(f"{path} holds {len(found)} images: name one by --ext {', '.join(found)}")
    name = extensions.normal_name(image)
    if name not in found:
        names = [name or "'' (its only image)" for name in found]
        raise UsageError(unknown("--ext", image, names))
    return found[name]


def _locate(
    master: str, needed: Sequence[str], places: Sequence[Path | None]
) -> dict[str, fits.FileScan]:
    """Scan every file where it is found first: in a folder, or (None) where it was."""
    there: dict[str, fits.FileScan] = {}
    missing: list[str] = []
    for path in dict.fromkeys(needed):
        tried = [folder / Path(path).name if folder else Path(path) for folder in places]
        now = next((place for place in tried if place.exists()), None)
        if now is None:
            missing.append(path)
        else:
            there[path] = fits.scan_file(now)
    if missing:
        shown = ", ".join(missing[:SHOWN])
        more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
        raise FrameError(
            master,
            f"{len(missing)} of the {len(set(needed))} files that it was made of are not there: "
            f"{shown}{more}; --inputs FOLDER says where they are now",
        )
    return there


def _frame(scan: fits.FileScan, hdu: int, plane: int = 0) -> Frame:
    frames = scan.hdus[hdu].frames if 0 <= hdu < len(scan.hdus) else ()
    for frame in frames:
        if frame.plane == plane:
            return frame
    what = f"plane {plane}" if plane else "image"
    raise FrameError(scan.path, f"it has no {what} in HDU {hdu} any more")


def _check_input(scan: fits.FileScan, row: tables.InputRow, verify: bool) -> _Found:
    frame = _frame(scan, row.hdu, row.plane)
    same = (frame.size, frame.mtime_ns) == (row.size, row.mtime_ns)
    if same and not verify and frame.datasum in (None, row.datasum):
        return _Found(frame, "as recorded", changed=False)
    if row.datasum is None or fits.datasum(frame) != row.datasum:
        return _Found(frame, "CHANGED", changed=True)
    return _Found(frame, "verified" if same else "touched, same pixels", changed=False)


def state_of_input(row: tables.InputRow, *, verify: bool = False) -> str:
    """Return what became of an input where it was: as recorded, touched, CHANGED, or not there.

    Parameters
    ----------
    row : InputRow
        What a master says of it.
    verify : bool
        Compute its DATASUM even where size and time are as recorded.
    """
    try:
        about = Path(row.path).stat()
        if not verify and (about.st_size, about.st_mtime_ns) == (row.size, row.mtime_ns):
            return "as recorded"
        return _check_input(fits.scan_file(row.path), row, verify).state
    except OSError:
        return "not there"
    except FrameError:
        return "CHANGED"


def _uncertainty(frame: Frame) -> Frame:
    found = masters.find_uncertainty(frame)
    if found is None or found.shape != frame.shape:
        raise FrameError(frame.path, "the uncertainties that were used are not in it any more")
    return found


def _check_operand(scan: fits.FileScan, operand: records.Operand, verify: bool) -> _Found:
    frame = _frame(scan, operand.hdu)
    if not verify and frame.datasum == operand.datasum:
        return _Found(frame, "as recorded", changed=False)
    if fits.datasum(frame) != operand.datasum:
        return _Found(frame, "CHANGED", changed=True)
    return _Found(frame, "verified", changed=False)


def _moved(found: _Found, path: str) -> str:
    """Return the state of a file, and where it is if that is not where it was."""
    return found.state if found.frame.path == path else f"{found.state}, in {found.frame.path}"


def _check_sections(path: str, record: records.ImageRecord, frames: Sequence[Frame]) -> None:
    """Refuse sections that a damaged record may have.

    Raises
    ------
    FrameError
        If one does not lie within the frames.
    """
    rows, columns = frames[0].shape
    apart = [("data", one.data) for one in record.amplifiers]
    apart += [("overscan", one.overscan) for one in record.amplifiers if one.overscan]
    apart += [("bad", section) for section in record.bad]
    for name, section in [("overscan", record.overscan), ("trim", record.trim), *apart]:
        if section is None:
            continue
        inside = 0 <= section.y0 < section.y1 <= rows and 0 <= section.x0 < section.x1 <= columns
        if not inside:
            raise FrameError(
                path,
                f"its {name} section {section.to_fits()} is not within its inputs, which are "
                f"{columns} x {rows} (columns x rows)",
            )


def _calibration(
    record: records.ImageRecord,
    rows: Sequence[tables.InputRow],
    operands: dict[str, records.Operand],
    taken: dict[str, _Found],
) -> Calibration:
    images = {role: _master(operands[role], found.frame) for role, found in taken.items()}
    return Calibration(
        overscan=record.overscan,
        trim=record.trim,
        amplifiers=record.amplifiers,
        bad=record.bad,
        overscan_model=record.overscan_model,
        bias=images.get("bias"),
        dark=images.get("dark"),
        dark_holds_bias=record.dark_holds_bias,
        dark_ratio=_unless(1.0, [row.dark_ratio for row in rows]),
        flat=images.get("flat"),
        scale=_unless(1.0, [row.scale for row in rows]),
        zero=_unless(0.0, [row.zero for row in rows]),
        bad_pixels=images.get("bad_pixels"),
    )


def _master(operand: records.Operand, frame: Frame) -> MasterImage:
    scan = fits.scan_file(frame.path)
    return MasterImage(
        frame,
        None if operand.uncert is None else _frame(scan, operand.uncert),
        None if operand.mask is None else _frame(scan, operand.mask),
        operand.part,
    )


def _unless(neutral: float, values: Sequence[float]) -> tuple[float, ...]:
    """Return the values, or none where all change nothing."""
    return () if all(value == neutral for value in values) else tuple(values)


def _notes(
    record: records.ImageRecord, taken: dict[str, _Found], operands: dict[str, records.Operand]
) -> list[str]:
    notes = [
        f"the {role.replace('_', ' ')} is {_moved(found, operands[role].path)}: {found.frame.path}"
        for role, found in taken.items()
    ]
    if record.algorithm != ALGORITHM_VERSION:
        notes.append(
            f"made by algorithm {record.algorithm}; this program has {ALGORITHM_VERSION}, whose "
            "values may differ"
        )
    return notes
