"""What is known of finished products, so that a later run need not open them.

Of each product the stamp of its file, what it was made of as a plan tells it, and its token; of
each master of a library that one takes, stamp and token. It is believed while the stamp is the
same; a file that anybody has touched is opened as if nothing were known. What is kept here can be
thrown away at any time.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import NamedTuple

from masterframe import __version__
from masterframe.fits import documents, stamps
from masterframe.fits.stamps import Stamp
from masterframe.journal.folders import STATE_FOLDER

NAME = "ledger.json"
"""The document, in the private folder of an output folder."""


class Record(NamedTuple):
    """What is known of a product whose file was found whole and up to date, or was just made."""

    stamp: Stamp
    """The file."""
    made_of: str
    """Names recipe, masters and the stamps of all inputs."""
    token: str
    """The token in its header, by which others know it; '' where none takes it."""


class Ledger:
    """The finished products of an output folder.

    Parameters
    ----------
    out : Path
        Output folder, which need not be there.

    Attributes
    ----------
    told : str
        Names what the last report tells of; '' where that is not known.
    """

    def __init__(self, out: Path) -> None:
        self._out = out
        self.told = ""
        self._records: dict[str, Record] = {}
        self._is_new = False
        known = documents.read_document(out / STATE_FOLDER / NAME)
        with contextlib.suppress(LookupError, TypeError, ValueError, AttributeError):
            if known["version"] == __version__:
                self._records = {
                    output: Record(Stamp(*stamp), made_of, token)
                    for output, (stamp, made_of, token) in known["products"].items()
                }
                self.told = str(known["told"])

    def find(self, output: str) -> Record | None:
        """Return what is known of the file at a path below the output folder as it is now.

        Masters of a library have an absolute one.
        """
        record = self._records.get(output)
        if record and stamps.look_at(self._place(output), follow=False) == record.stamp:
            return record
        return None

    def note(self, output: str, record: Record) -> None:
        """Note a product; from any thread."""
        self._records[output] = record
        self._is_new = True

    def tell(self, told: str) -> None:
        """Note what a report tells of that was written just now."""
        self._is_new |= told != self.told
        self.told = told

    def _place(self, output: str) -> str:
        return os.path.join(self._out, output)  # noqa: PTH118 - a third of the time of pathlib's

    def keep(self) -> None:
        """Write down what was noted, for the next run; only for who holds the lock."""
        if not self._is_new:
            return
        products = {
            output: list(record)
            for output, record in self._records.items()
            if stamps.look_at(self._place(output), follow=False)
        }
        with contextlib.suppress(OSError):  # a full disk is found by what matters more
            documents.write_document(
                self._out / STATE_FOLDER / NAME,
                {"version": __version__, "told": self.told, "products": products},
                lasting=False,
            )
        self._is_new = False
