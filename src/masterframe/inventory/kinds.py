"""What an exposure is: the rules of the configuration and of the instrument, tried in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from masterframe.matching import Lookup, describe, first_failure, selects, text
from masterframe.model import Selection, TypeRule

Names = Mapping[str, str]
"""Of each field the keyword that it was found in, or would have been; for the words."""


def first_fit(rules: Sequence[TypeRule], lookup: Lookup) -> TypeRule | None:
    """Return the first rule that fits; None where none does."""
    return next((rule for rule in rules if selects(rule.when, lookup)), None)


def grounds(when: Selection, lookup: Lookup, names: Names) -> str:
    """Return what a rule rests on, ``IMAGETYP = 'Bias Frame'``; what is absent is not said."""
    values = {names.get(item.key) or item.key: lookup(item.key) for item in when}
    shown = [f"{key} = {value!r}" for key, value in values.items() if text(value)]
    return " and ".join(shown) or "no condition"


def attempts(rules: Sequence[TypeRule], lookup: Lookup, names: Names) -> tuple[str, ...]:
    """Return the rules in words up to the first that fits, each with why it does not."""
    lines = []
    for rule in rules:
        failure = first_failure(rule.when, lookup)
        if not failure:
            lines.append(f"{rule.kind}: yes, {grounds(rule.when, lookup, names)}")
            break
        lines.append(f"{rule.kind} ({describe(rule.when)}): no, {failure}")
    return tuple(lines)


def lacking(rules: Sequence[TypeRule], lookup: Lookup, names: Names) -> str:
    """Return in words what an exposure lacks for any of the rules to type it."""
    keys = dict.fromkeys(
        item.key
        for rule in rules
        for item in rule.when
        if not item.key.islower() or item.key == "imagetyp"
    )
    there = [f"{names.get(key, key)} = {lookup(key)!r}" for key in keys if text(lookup(key))]
    absent = [names.get(key, key) for key in keys if not text(lookup(key))]
    parts = ["no rule tells its kind"]
    if there:
        parts.append(f"{', '.join(there)} fit none")
    if absent:
        parts.append(f"it has no {', '.join(sorted(absent, key=len))}")
    return f"{'; '.join(parts)}; say what it is under 'types' of the configuration"
