"""Whether an exposure fits a condition: the pattern language of presets and configurations.

A condition names a header keyword in upper case (``IMAGETYP``) or, in lower case, one of `FIELDS`.
Its patterns are

* a number: equal to one part in a million; a header's ``'3,2E-05'`` counts as the number it means;
* ``< 5``, ``<= 5``, ``> 5``, ``>= 5``, ``1..3`` (both ends in): a bound on a number;
* other text: the whole value, whatever its case, where ``*`` is any text and ``?`` one character;
* ``!`` before one of these: it must not fit;
* None: the card is absent or blank.

Paths fit from their end: ``bias*.fits`` is a name, ``published/*`` the last two parts of a path,
``published/`` everything below a folder of that name.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from functools import lru_cache
from pathlib import PurePath

from masterframe.model import Condition, Exposure, Scalar, Selection

Lookup = Callable[[str], Scalar]
"""The value of a keyword or field; None where there is none."""

PATH_FIELDS = ("file", "path")
FIELDS = (
    *PATH_FIELDS,
    *("kind", "object", "exptime", "dark_time", "filter", "binning", "date_obs", "temperature"),
    *("instrument", "night", "imagetyp", "technique", "light", "label", "certain"),
)

_BOUND = re.compile(r"(<=|>=|<|>)\s*([-+\d.eE]+)")
_RANGE = re.compile(r"([-+\d.eE]*\d\.?)\s*\.\.\s*([-+]?[\d.][\d.eE+-]*)")


def number(value: Scalar) -> float | None:
    """Return the finite number that a card means, None where it means none.

    Cameras write ``'060.00'`` and ``'3,2E-05'``; a unit behind the number makes it no number.
    """
    if value is None or isinstance(value, bool):
        return None
    try:
        found = float(value.replace(",", ".")) if isinstance(value, str) else float(value)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def text(value: Scalar) -> str:
    """Return a card as text without blanks at its ends; '' where it is absent."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "T" if value else "F"
    return f"{value:g}" if isinstance(value, float) else str(value).strip()


def selects(selection: Selection, lookup: Lookup) -> bool:
    """Return whether all conditions hold."""
    return all(holds(condition, lookup(condition.key)) for condition in selection)


def first_failure(selection: Selection, lookup: Lookup) -> str:
    """Return in words why a selection does not hold: its first condition that fails; '' if none."""
    for condition in selection:
        value = lookup(condition.key)
        if not holds(condition, value):
            shown = "is absent" if value is None else f"= {value!r}"
            return f"{condition.key} {shown}, wanted {describe_patterns(condition)}"
    return ""


def holds(condition: Condition, value: Scalar) -> bool:
    """Return whether a value fits: one of the patterns, and none of those with ``!``."""
    fits = _path_fits if condition.key in PATH_FIELDS else _value_fits
    wanted, found = False, False
    for pattern in condition.any_of:
        if isinstance(pattern, str) and pattern[:1] == "!":
            if fits(value, pattern[1:].strip()):
                return False
        else:
            wanted, found = True, found or fits(value, pattern)
    return found or not wanted


def describe(selection: Selection) -> str:
    """Return a selection in words: ``IMAGETYP = 'bias*' and EXPTIME = '<= 0'``."""
    return " and ".join(f"{item.key} = {describe_patterns(item)}" for item in selection) or "all"


def describe_patterns(condition: Condition) -> str:
    """Return the patterns of a condition in words."""
    return " or ".join("absent" if p is None else repr(p) for p in condition.any_of)


def rests_on_name(selection: Selection) -> bool:
    """Return whether a selection looks at the file's name or folder."""
    return any(condition.key in PATH_FIELDS for condition in selection)


def exposure_lookup(exposure: Exposure) -> Lookup:
    """Return the lookup of an exposure: fields, cards of the primary, cards of its first image."""

    def value(key: str) -> Scalar:
        if not key.islower():
            return card(exposure, key)
        if key == "file":
            return PurePath(exposure.path).name
        if key == "binning":
            return "{1}x{0}".format(*exposure.binning)
        found: Scalar = getattr(exposure, key) if key in FIELDS else None
        return found

    return value


def card(exposure: Exposure, key: str) -> Scalar:
    """Return a header value of an exposure, from its primary or else its first image."""
    found = exposure.header.get(key)
    if found is None and exposure.images:
        found = exposure.images[0].header.get(key)
    return found


def _value_fits(value: Scalar, pattern: Scalar) -> bool:
    """Return whether one value fits one pattern."""
    if pattern is None:
        return text(value) == ""
    if isinstance(pattern, bool):
        return value is pattern or text(value).upper() == text(pattern)
    if isinstance(pattern, int | float):
        found = number(value)
        return found is not None and math.isclose(found, pattern, rel_tol=1e-6, abs_tol=1e-12)
    if value is None:
        return False
    if _glob(pattern).fullmatch(text(value)) is not None:
        return True
    return _is_bound(pattern) and _bound_fits(number(value), pattern)


@lru_cache(maxsize=4096)
def _is_bound(pattern: str) -> bool:
    """Return whether a pattern may be one for numbers; to read a text as a number takes long."""
    return pattern.strip()[:1] in {"<", ">"} or ".." in pattern


def _bound_fits(found: float | None, pattern: str) -> bool:
    """Return whether a number lies within ``>= 5`` or ``1..3``."""
    if found is None:
        return False
    if bound := _BOUND.fullmatch(pattern.strip()):
        limit = number(bound[2])
        return (
            limit is not None
            and {
                "<": found < limit,
                "<=": found <= limit,
                ">": found > limit,
                ">=": found >= limit,
            }[bound[1]]
        )
    if ends := _RANGE.fullmatch(pattern.strip()):
        low, high = number(ends[1]), number(ends[2])
        return low is not None and high is not None and low <= found <= high
    return False


def _path_fits(value: Scalar, pattern: Scalar) -> bool:
    """Return whether a path fits a pattern from its end."""
    path, wanted = PurePath(text(value)), text(pattern)
    if wanted.endswith("/"):
        return any(_glob(wanted[:-1]).fullmatch(folder) for folder in path.parent.parts)
    parts = PurePath(wanted).parts
    if not parts or len(parts) > len(path.parts):
        return False
    pairs = zip(path.parts[-len(parts) :], parts, strict=True)
    return all(_glob(part).fullmatch(name) for name, part in pairs)


@lru_cache(maxsize=4096)
def _glob(pattern: str) -> re.Pattern[str]:
    """Return the expression of a pattern in which only * and ? are special."""
    literal = re.escape(pattern.strip())
    return re.compile(literal.replace(r"\*", ".*").replace(r"\?", "."), re.IGNORECASE | re.DOTALL)
