"""Real headers of many cameras on sparse files of their size, and what their frames are."""

import csv
import re
from dataclasses import dataclass
from pathlib import Path

from support import shared

BLOCK, CARD = 2880, 80
STRUCTURE = re.compile(
    r"SIMPLE|XTENSION|BITPIX|NAXIS\d*|EXTEND|[PG]COUNT|GROUPS|TFIELDS|THEAP|CHECKSUM|DATASUM|END"
    r"|T(TYPE|FORM|UNIT|DIM|NULL|SCAL|ZERO)\d+|Z\w+|BZERO|BSCALE|BLANK"
)
"""Cards that say how pixels lie in a file, which here lie plainly."""

KINDS = {
    "standard": "science",
    "science-solar": "science",
    "science-processed": "science",
    "flat-lamp": "flat",
    "flat-sky": "flat",
    "flat-spot": "other",  # a grid of spots on an even field
    "fe55": "other",  # X-rays of a radioactive source
    "acquisition": "other",
    "unknown": None,
}
"""Kinds of the frame types of the table; the others are named alike."""


@dataclass(frozen=True)
class Row:
    """A row of the table."""

    file: str
    instrument: str
    kind: str | None
    said: str
    """What a keyword of the header calls it; '' where none does, or where the table gives none."""
    source: str

    @property
    def held(self):
        """Whether the header holds the type: a keyword of it names it, and truly.

        A light frame of CCDSoft may be a flat or an arc; only a name tells then.
        """
        opened = self.said.upper().startswith("LIGHT")
        return self.kind is not None and self.said != "" and (not opened or self.kind == "science")

    @property
    def source_name(self):
        """The name of the file that the header comes from, as a name of a FITS file."""
        name = re.sub(r"[^\w.+-]", "_", self.source.split("(")[0].strip().rpartition("/")[2])
        name = re.sub(r"\.(gz|fz)$", "", name)
        return name if re.search(r"\.(fits?|fts)$", name, re.IGNORECASE) else f"{name}.fits"


def rows():
    """Return the rows of the table."""
    with shared("headers/truth.csv").open(newline="") as table:
        return [
            Row(
                row["file"],
                row["instrument"],
                KINDS.get(row["frame_type"], row["frame_type"]),
                row["hdr_type_keyword"],
                row["source"],
            )
            for row in csv.DictReader(table)
        ]


def write_frame(row: Row, path: Path) -> Path:
    """Write the header and its extensions over pixels that take no room."""
    folder = shared("headers")
    parts = sorted(folder.glob(f"{row.file.removesuffix('.hdr')}.ext*.hdr"))
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as stream:
        for index, part in enumerate([folder / row.file, *parts]):
            header, size = _hdu(_cards(part), first=index == 0, empty=bool(parts))
            stream.write(header)
            stream.seek(size, 1)
        stream.truncate(stream.tell())
    return path


def _cards(path: Path) -> list[bytes]:
    lines = (line.rstrip(b"\r") for line in path.read_bytes().split(b"\n"))
    return [line[:CARD] for line in lines if line.rstrip() != b"END"]


def _hdu(cards, *, first, empty):
    """Return a header with its cards in place, and the bytes of its data unit."""
    given = {}
    for card in cards:
        given.setdefault(card[:8].decode("latin-1").rstrip(), card[10:].partition(b"/")[0].strip())
    prefix = "Z" if "ZNAXIS" in given else ""
    count = int(given.get(f"{prefix}NAXIS", 0))
    axes = [int(given.get(f"{prefix}NAXIS{n}", 0)) for n in range(1, count + 1)]
    if not all(axes) or not (axes or (first and empty)):
        axes = [int(given.get(f"NAXIS{n}", 64)) for n in (1, 2)]
    bitpix = int(given.get(f"{prefix}BITPIX", 16))
    written = [b"SIMPLE  =                    T" if first else b"XTENSION= 'IMAGE   '"]
    written += [b"BITPIX  = %20d" % bitpix, b"NAXIS   = %20d" % len(axes)]
    written += [b"NAXIS%-3d= %20d" % (n, length) for n, length in enumerate(axes, 1)]
    written += [b"%s= %20d" % pair for pair in ((b"PCOUNT  ", 0), (b"GCOUNT  ", 1)) if not first]
    kept = {"BZERO", "BSCALE", "BLANK"}
    for card in cards:
        key = card[:8].decode("latin-1").rstrip()
        if not STRUCTURE.fullmatch(key) or key in kept:
            written.append(card)
    header = b"".join(card.ljust(CARD) for card in [*written, b"END"])
    size = abs(bitpix) // 8 if axes else 0
    for length in axes:
        size *= length
    return header.ljust(_padded(len(header))), _padded(size)


def _padded(size):
    return -(-size // BLOCK) * BLOCK
