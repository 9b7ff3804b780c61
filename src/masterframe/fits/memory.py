"""Scans of earlier runs: the headers of files that have not changed since are not read again.

A document for each folder of frames, in the private folder of an output folder. What is in it is
believed of a file whose stamp (`masterframe.fits.stamps`) is still the same, and of the program
whose sources are still the same. It holds what the headers say and nothing that a configuration
decides, and what `ScanMemory.fact` was told. A document that is damaged, or of another program, is
as none.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from masterframe import __version__
from masterframe.fits import documents, stamps
from masterframe.fits.scan import FileScan, HduScan, planes_of, scan_headers
from masterframe.model import Frame, Packing, Scaling, Tiles, Verify

_DEPTHS: Mapping[Verify, int] = {"never": 0, "auto": 1, "always": 2}
"""How much of a file is verified in its scan."""

Entry = list[Any]
"""A scan in the types of JSON: stamp, depth, HDUs; then what else was found in the file, if any."""
_SCANNED = ("stamp", "depth", "HDUs")


@functools.cache
def scanner() -> str:
    """Return what a scan depends on besides the file, hashed: the sources that read headers."""
    digest = hashlib.sha256(__version__.encode())
    here = Path(__file__).parent
    for path in [*sorted(here.glob("*.py")), here.parent / "model" / "frames.py"]:
        digest.update(path.read_bytes())
    return digest.hexdigest()


class ScanMemory:
    """Scans files, or remembers what an earlier run has read of them.

    Parameters
    ----------
    folder : Path, optional
        Where documents are kept; None: nothing is remembered, all files are read.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._shelves: dict[str, _Shelf] = {}
        self._lock = threading.Lock()

    def recall(self, path: str | os.PathLike[str], verify: Verify = "auto") -> FileScan | None:
        """Return what is remembered of a file; None where nothing is, or it may have changed.

        Where all bytes of a file are to be verified nothing is remembered.
        """
        name = os.path.abspath(path)  # noqa: PTH100  resolve() would follow links
        if self._folder is None or verify == "always":
            return None
        try:
            about = os.stat(name)  # noqa: PTH116 - half the time of pathlib's
        except (OSError, ValueError):  # ValueError: a NUL in its name
            return None
        return self._shelf(name).find(name, about, _DEPTHS[verify])

    def scan_headers(self, path: str | os.PathLike[str], verify: Verify = "auto") -> FileScan:
        """Return what `masterframe.fits.scan_headers` does, and remember it; from any thread.

        Raises
        ------
        FrameError
            As `masterframe.fits.scan_headers`.
        """
        if self._folder is None:
            return scan_headers(path, verify)
        began = stamps.now()
        scan = scan_headers(path, verify)
        if scan.stamp.is_settled(began):
            self._shelf(scan.path).put(scan, _DEPTHS[verify])
        return scan

    def fact(self, scan: FileScan, name: str, find: Callable[[], Any]) -> Any:
        """Return what is remembered of a file under a name; else what is found, and remember it.

        Parameters
        ----------
        scan : FileScan
            The file, scanned or recalled by this memory.
        name : str
            What it is.
        find : callable
            Returns a JSON value that nothing but the file decides.
        """
        known = self._shelf(scan.path).facts(scan) if self._folder else {}
        if name not in known:
            known[name] = find()
        return known[name]

    def keep(self) -> None:
        """Write down what was read, for the next run; nothing where nothing was."""
        if self._folder is None:
            return
        with contextlib.suppress(OSError):  # a full disk is found by what matters more
            self._folder.mkdir(mode=0o700, exist_ok=True)
            for folder, shelf in self._shelves.items():
                if shelf.is_new:
                    documents.write_document(self._place(folder), shelf.document(), lasting=False)

    def _shelf(self, name: str) -> _Shelf:
        """Return what is remembered of the folder of a file."""
        folder = os.path.dirname(name)  # noqa: PTH120
        found = self._shelves.get(folder)
        if found is None:
            with self._lock:
                document = documents.read_document(self._place(folder))
                found = self._shelves.setdefault(folder, _Shelf(folder, document))
        return found

    def _place(self, folder: str) -> Path:
        name = hashlib.sha256(os.fsencode(folder)).hexdigest()[:32]
        return (self._folder or Path()) / f"{name}.json"


class _Shelf:
    """What is remembered of the files of one folder."""

    def __init__(self, folder: str, document: Any) -> None:
        self.is_new = False
        self._folder = folder
        self._entries: dict[str, Entry] = {}
        self._keys: list[list[str]] = []
        self._places: dict[tuple[str, ...], int] = {}
        self._lock = threading.Lock()
        known = document if isinstance(document, dict) else {}
        if (known.get("scanner"), known.get("folder")) == (scanner(), folder):
            self._entries, self._keys = known["files"], known["keys"]
            self._places = {tuple(keys): place for place, keys in enumerate(self._keys)}

    def find(self, name: str, about: os.stat_result, depth: int) -> FileScan | None:
        """Return the scan of a file that has not changed since; None where there is none."""
        entry = self._entries.get(os.path.basename(name))  # noqa: PTH119
        try:
            if entry is None or tuple(entry[0]) != stamps.stamp_of(about) or entry[1] < depth:
                return None
            found = _decoded(name, about, entry, self._keys)
            return found if found.hdus else None
        except (LookupError, TypeError, ValueError):  # whole, but not ours
            return None

    def put(self, scan: FileScan, depth: int) -> None:
        """Remember a scan."""
        with self._lock:
            self._entries[os.path.basename(scan.path)] = _encoded(scan, depth, self._place)  # noqa: PTH119
            self.is_new = True

    def facts(self, scan: FileScan) -> dict[str, Any]:
        """Return what else is remembered of a file, to be added to; of another one nothing is."""
        with self._lock:
            entry = self._entries.get(os.path.basename(scan.path))  # noqa: PTH119
            if entry is None or tuple(entry[0]) != scan.stamp:
                return {}
            if len(entry) == len(_SCANNED):
                entry.append({})
                self.is_new = True
            return entry[-1] if isinstance(entry[-1], dict) else {}

    def document(self) -> dict[str, Any]:
        """Return all in the types of JSON, without files that are gone."""
        here = {
            name: entry
            for name, entry in self._entries.items()
            if os.path.exists(os.path.join(self._folder, name))  # noqa: PTH110, PTH118
        }
        used = sorted({hdu[1] for entry in here.values() for hdu in entry[2]})
        order = {place: number for number, place in enumerate(used)}
        files = {
            name: [*entry[:2], [[hdu[0], order[hdu[1]], *hdu[2:]] for hdu in entry[2]], *entry[3:]]
            for name, entry in here.items()
        }
        keys = [self._keys[place] for place in used]
        return {"scanner": scanner(), "folder": self._folder, "keys": keys, "files": files}

    def _place(self, keys: tuple[str, ...]) -> int:
        """Return where the keywords of a header stand: those of thousands are the same."""
        place = self._places.setdefault(keys, len(self._keys))
        if place == len(self._keys):
            self._keys.append(list(keys))
        return place


def _encoded(scan: FileScan, depth: int, place: Any) -> Entry:
    """Return a scan in the types of JSON."""
    hdus = [
        [
            hdu.extname,
            place(tuple(hdu.header)),
            list(hdu.header.values()),
            _encoded_frame(hdu.frames[0]) if hdu.frames else None,
            len(hdu.frames),
            hdu.reason,
            dict(hdu.comments),
            hdu.history,
        ]
        for hdu in scan.hdus
    ]
    return [list(scan.stamp), depth, hdus]


def _encoded_frame(frame: Frame) -> list[Any]:
    scaling, tiles, packing = frame.scaling, frame.tiles, frame.packing
    return [
        *(frame.extname, frame.offset, frame.bitpix, frame.shape),
        *((scaling.bzero, scaling.bscale, scaling.blank), frame.dtype, frame.datasum, frame.name),
        tiles and [getattr(tiles, name) for name in Tiles.__slots__],
        packing and (packing.kind, packing.size),
    ]


def _decoded(path: str, about: os.stat_result, entry: Entry, keys: list[list[str]]) -> FileScan:
    """Return the scan that `_encoded` was given, of a file as it is now."""
    hdus = tuple(
        HduScan(
            index,
            extname,
            dict(zip(keys[place], values, strict=True)),
            tuple(_frames(path, about, index, frame, count)) if frame else (),
            reason,
            comments,
            history,
        )
        for index, (extname, place, values, frame, count, reason, comments, history) in enumerate(
            entry[2]
        )
    )
    return FileScan(path, stamps.stamp_of(about), about.st_dev, hdus)


def _frames(
    path: str, about: os.stat_result, index: int, stored: list[Any], count: int
) -> Iterator[Frame]:
    extname, offset, bitpix, shape, scaling, dtype, datasum, name, tiles, packing = stored
    first = Frame(
        path=path,
        hdu=index,
        extname=extname,
        offset=offset,
        bitpix=bitpix,
        shape=tuple(shape),
        scaling=Scaling(*scaling),
        dtype=dtype,
        size=about.st_size,
        mtime_ns=about.st_mtime_ns,
        datasum=datasum,
        name=name,
        tiles=tiles and _tiles(tiles),
        packing=packing and Packing(*packing),
    )
    yield from (first,) if count == 1 else planes_of(first, count)


def _tiles(stored: list[Any]) -> Tiles:
    given = dict(zip(Tiles.__slots__, stored, strict=True))
    shape, columns = tuple(given.pop("shape")), tuple(map(tuple, given.pop("columns")))
    return Tiles(shape=shape, columns=columns, **given)
