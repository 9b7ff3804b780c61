"""The start of an exposure as ISO 8601 in UTC, from the many ways in which cameras write it."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta

from masterframe.matching import number, text
from masterframe.model import Scalar

_MJD_EPOCH = datetime(1858, 11, 17, tzinfo=UTC)
_JD_OF_MJD = 2400000.5
"""Julian date at which modified ones begin."""
_MS_A_DAY = 86_400_000
"""Milliseconds, to which Julian dates are rounded: their last digit is 40 us."""

_YEAR_FIRST = re.compile(r"(\d{4})[-/:.](\d{1,2})[-/:.](\d{1,2})(.*)", re.DOTALL)
_DAY_FIRST = re.compile(r"(\d{1,2})[-/.](\d{1,2})[-/.](\d{4}|\d{2})(.*)", re.DOTALL)
_COMPACT = re.compile(r"(\d{4})(\d\d)(\d\d)((?:T.*)?)", re.DOTALL)
_CLOCK = re.compile(
    r"(\d{1,2})[: ](\d{1,2})(?:[: ](\d{1,2})([.,]\d*)?)?\s*(Z|UTC?|GMT|[+-]\d\d:?\d\d)?",
    re.IGNORECASE,
)
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_NAMED = (
    re.compile(r"(?i)(?P<year>\d{4})[- ](?P<month>[a-z]{3,9})[- ](?P<day>\d\d?)(?P<rest>.*)"),
    re.compile(r"(?i)(?P<day>\d\d?)[- ](?P<month>[a-z]{3,9})[- ](?P<year>\d{4})(?P<rest>.*)"),
    re.compile(
        r"(?i)(?:[a-z]{3,9},? +)?(?P<month>[a-z]{3,9}) +(?P<day>\d\d?) +(?P<rest>[\d:.]+)"
        r" +(?P<year>\d{4})"
    ),
)
"""Dates with a month in letters: ``13-Dec-2012``, or ``Thu Dec 13 10:11:12 2012`` as C has them."""
_UNSET = date(1970, 1, 1)
"""What a clock that was never set tells."""
_FIRST_CCD = 70
"""Years of two digits before this one are of this century: no camera is older."""


def start_utc(date: Scalar, time: Scalar = None, mjd: Scalar = None, jd: Scalar = None) -> str:
    """Return the start as ``2022-01-28T00:08:16.282``; '' where nothing tells it.

    Parameters
    ----------
    date : str
        DATE-OBS: the year first or last, separated by ``-``, ``/``, ``:`` or ``.``, with or without
        a time and a zone. Where the year is last the day is first, as FITS once asked, unless no
        month has that number. The month may be a word. The first day of 1970 is no date.
    time : str or float, optional
        Time of day in UTC, ``hh:mm:ss`` or seconds, where the date has none.
    mjd : float, optional
        Modified Julian date, where the date cannot be read, or is that day without a time.
    jd : float, optional
        Julian date, where all else fails.
    """
    words = text(date)
    day, rest = _day(words)
    if day is None:
        day, rest = _day(_numbered(words))
    days = number(mjd)
    if days is None and (julian := number(jd)) is not None:
        days = round((julian - _JD_OF_MJD) * _MS_A_DAY) / _MS_A_DAY
    moment = _MJD_EPOCH + timedelta(days=days) if days is not None and 0 < days < 1e6 else None
    found = _timed(day, rest) or _timed(day, text(time)) or _seconds_of_day(day, time)
    if found is None and day is not None and not rest:
        midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
        found = moment if moment is not None and moment.date() == day else midnight
    found = found or moment
    if found is None or found.date() == _UNSET:
        return ""
    written = found.replace(tzinfo=None).isoformat(timespec="microseconds")
    return written.rstrip("0").rstrip(".")


def _numbered(words: str) -> str:
    """Return a date with a month in letters as one in numbers; '' for other words."""
    found = next((one for form in _NAMED if (one := form.fullmatch(words))), None)
    if found is None or found["month"][:3].lower() not in _MONTHS:
        return ""
    month = _MONTHS.index(found["month"][:3].lower()) + 1
    return f"{found['year']}-{month}-{found['day']} {found['rest'].lstrip('T ,:')}"


def _day(words: str) -> tuple[date | None, str]:
    """Return the day at the beginning of some words, and what follows it."""
    if found := _YEAR_FIRST.fullmatch(words) or _COMPACT.fullmatch(words):
        year, month, day = (int(group) for group in found.groups()[:3])
    elif found := _DAY_FIRST.fullmatch(words):
        day, month, year = (int(group) for group in found.groups()[:3])
        if month > 12:
            day, month = month, day
        if year < 100:
            year += 2000 if year < _FIRST_CCD else 1900
    else:
        return None, words
    try:
        return date(year, month, day), found[4].lstrip("T ,").strip()
    except ValueError:
        return None, words


def _timed(day: date | None, clock: str) -> datetime | None:
    """Return a moment of a day in UTC; None where the clock cannot be read."""
    found = _CLOCK.fullmatch(clock)
    if day is None or found is None:
        return None
    hours, minutes, seconds = (int(group or 0) for group in found.groups()[:3])
    fraction = float(f"0.{found[4][1:]}") if found[4] and found[4][1:] else 0.0
    try:
        start = datetime(day.year, day.month, day.day, hours, minutes, seconds, tzinfo=UTC)
        return start + timedelta(seconds=fraction) - _zone(found[5] or "")
    except (ValueError, OverflowError):
        return None


def _zone(words: str) -> timedelta:
    """Return how much a clock is ahead of UTC."""
    if words[:1] not in {"+", "-"}:
        return timedelta()
    ahead = timedelta(hours=int(words[1:3]), minutes=int(words[-2:]))
    return -ahead if words[0] == "-" else ahead


def _seconds_of_day(day: date | None, time: Scalar) -> datetime | None:
    """Return a moment from the seconds since midnight, as ESO writes them."""
    seconds = None if isinstance(time, bool) else number(time)
    if day is None or seconds is None or not 0 <= seconds < 86400:
        return None
    return datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(seconds=seconds)
