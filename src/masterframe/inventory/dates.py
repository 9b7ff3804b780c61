"""The start of an exposure as ISO 8601 in UTC, from the many ways in which cameras write it."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from masterframe.matching import number, text
from masterframe.model import Scalar

_DAY_FIRST = re.compile(r"(\d{1,2})[/.](\d{1,2})[/.](\d{2}|\d{4})")
_MJD_EPOCH = datetime(1858, 11, 17, tzinfo=UTC)


def start_utc(date: Scalar, time: Scalar = None, mjd: Scalar = None) -> str:
    """Return the start as ``2022-01-28T00:08:16.282``; '' where nothing tells it.

    Parameters
    ----------
    date : str
        DATE-OBS: ISO 8601, with or without a time or a zone, or dd/mm/yy before the year 2000.
    time : str, optional
        Time of day in UTC (hh:mm:ss), where the date has none.
    mjd : float, optional
        Modified Julian date, where the date cannot be read.
    """
    words = _iso_date(text(date))
    clock = text(time)
    if words and "T" not in words and re.fullmatch(r"\d{1,2}:\d{2}(:\d{2}(\.\d*)?)?", clock):
        words = f"{words}T{clock.zfill(len(clock) + (clock.index(':') == 1))}"
    found = _parsed(words)
    days = number(mjd)
    if found is None and days is not None and 0 < days < 1e6:
        found = _MJD_EPOCH + timedelta(days=days)
    if found is None:
        return ""
    written = found.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds")
    return written.rstrip("0").rstrip(".")


def _iso_date(words: str) -> str:
    """Return a date with the year first."""
    words = words.replace(" ", "T", 1) if re.match(r"\d{4}-\d\d-\d\d \d", words) else words
    day_first = _DAY_FIRST.fullmatch(words)
    if day_first is None:
        return words
    day, month, year = day_first.groups()
    return f"{year if len(year) == 4 else '19' + year}-{month:0>2}-{day:0>2}"


def _parsed(words: str) -> datetime | None:
    """Return the moment, in UTC where no zone is given."""
    try:
        found = datetime.fromisoformat(words)
        zoned = found if found.tzinfo else found.replace(tzinfo=UTC)
        return zoned.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
