"""What an exposure is: the rules of the configuration and of the instrument, tried in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from masterframe.matching import (
    Lookup,
    describe,
    describe_patterns,
    holds,
    number,
    rests_on_name,
    text,
)
from masterframe.model import Condition, Header, Keyword, Kind, Scalar, Selection, TypeRule

Names = Mapping[str, str]
"""Of each field the keyword that it was found in, or would have been; for the words."""

_MEMO_LIMIT = 1 << 16
"""Answers that are remembered; a night has few values that differ, names of files apart."""


_UNTOLD = {"unknown", "undefined", "undef", "unset", "none", "null", "n/a", "na", "-", "?"}
"""What cameras write where they do not know the kind."""


class Word(NamedTuple):
    """What the header calls the exposure."""

    key: str = ""
    """The keyword; '' where none is there."""
    value: str = ""
    """What it says."""
    disputed: str = ""
    """Another keyword that says otherwise, as ``OBSTYPE = 'FLAT'``; '' where none does."""


class Attempt(NamedTuple):
    """One rule that was tried."""

    kind: Kind
    """The kind that it gives."""
    when: str
    """What it asks for."""
    certain: bool
    """Whether what it gives is beyond doubt."""
    fits: bool
    """Whether it fits."""
    reason: str
    """On what it rests, or which card or field it failed at, with its value."""
    wanted: str
    """What that card or field should have been; '' where the rule fits."""


class Rules:
    """The rules for one camera, and the words for kinds of exposure that are in them.

    Parameters
    ----------
    rules : sequence of TypeRule
        In the order in which they are tried. A word that stands in an earlier one tells more: so a
        keyword that says ``BIAS`` goes before one that says ``object``.
    """

    def __init__(self, rules: Sequence[TypeRule]) -> None:
        self.rules = tuple(rules)
        self._words = [
            (rank, condition)
            for rank, rule in enumerate(self.rules)
            for condition in rule.when
            if condition.key == "imagetyp" and _names_words(condition)
        ]
        self._ranks: dict[str, int | None] = {}
        self._meanings: dict[str, Kind | None] = {}
        self._memo: dict[tuple[int, int, type, Scalar], bool] = {}

    def word(
        self, header: Header, keywords: Sequence[Keyword], hints: Sequence[Keyword] = ()
    ) -> Word:
        """Return what a header calls the exposure, in that of its keywords that tells most.

        Parameters
        ----------
        header : mapping
            Cards.
        keywords : sequence of Keyword
            Those that name the kind; a word of theirs that no rule knows is returned, too.
        hints : sequence of Keyword
            Those that name it in some cameras and mean something else in others.
        """
        cards = [(key.key, _told(header.get(key.key))) for key in (*keywords, *hints)]
        known = [(rank, *item) for item in cards if (rank := self.rank(item[1])) is not None]
        if not known:
            named = (Word(*item) for item in cards[: len(keywords)] if item[1])
            return next((word for word in named if number(word.value) is None), Word())
        _, key, word = min(known, key=lambda item: item[0])
        meant = self._meaning(word)
        others = ((k, w) for _, k, w in known if self._meaning(w) not in (meant, None))
        disputed = next((f"{k} = {w!r}" for k, w in others), "") if meant else ""
        return Word(key, word, disputed)

    def rank(self, word: str) -> int | None:
        """Return the first rule that a word stands in; None where it stands in none."""
        if not word:
            return None
        if word not in self._ranks:
            fits = (rank for rank, condition in self._words if holds(condition, word))
            self._ranks[word] = next(fits, None)
        return self._ranks[word]

    def first_fit(self, lookup: Lookup) -> TypeRule | None:
        """Return the first rule that fits; None where none does."""
        values: dict[str, Scalar] = {}
        for rank, rule in enumerate(self.rules):
            for place, condition in enumerate(rule.when):
                key = condition.key
                if key not in values:
                    values[key] = lookup(key)
                if not self._holds(rank, place, condition, values[key]):
                    break
            else:
                return rule
        return None

    def attempts(self, lookup: Lookup, names: Names) -> tuple[Attempt, ...]:
        """Return the rules that are tried, up to the first that fits."""
        tried = []
        for rule in self.rules:
            tried.append(_attempt(rule, lookup, names))
            if tried[-1].fits:
                break
        return tuple(tried)

    def _meaning(self, word: str) -> Kind | None:
        """Return the kind that a word alone tells with certainty."""
        if word not in self._meanings:
            rules = ((self.rules[rank], condition) for rank, condition in self._words)
            kinds = (
                rule.kind
                for rule, condition in rules
                if len(rule.when) == 1 and rule.certain and not rule.technique
                if holds(condition, word)
            )
            self._meanings[word] = next(kinds, None)
        return self._meanings[word]

    def _holds(self, rank: int, place: int, condition: Condition, value: Scalar) -> bool:
        """Return whether a condition holds; its answer is remembered."""
        key = (rank, place, type(value), value)
        if key not in self._memo:
            if len(self._memo) >= _MEMO_LIMIT:
                self._memo.clear()
            self._memo[key] = holds(condition, value)
        return self._memo[key]


def _told(value: Scalar) -> str:
    """Return what a card calls an exposure; '' where it does not know."""
    word = text(value)
    return "" if word.lower() in _UNTOLD else word


def _attempt(rule: TypeRule, lookup: Lookup, names: Names) -> Attempt:
    """Return how a rule fares with an exposure."""
    failed = next((c for c in rule.when if not holds(c, lookup(c.key))), None)
    certain = rule.certain and not rests_on_name(rule.when)
    if failed is None:
        reason = grounds(rule.when, lookup, names)
        return Attempt(rule.kind, describe(rule.when), certain, True, reason, "")
    value = lookup(failed.key)
    shown = "is absent" if value is None else f"= {value!r}"
    reason = f"{names.get(failed.key, failed.key)} {shown}"
    wanted = describe_patterns(failed)
    return Attempt(rule.kind, describe(rule.when), certain, False, reason, wanted)


def _names_words(condition: Condition) -> bool:
    """Return whether a condition names words, not only their absence."""
    return any(isinstance(p, str) and p[:1] != "!" for p in condition.any_of)


def certain(rule: TypeRule, word: Word) -> bool:
    """Return whether the kind of a rule is beyond doubt."""
    return rule.certain and not rests_on_name(rule.when) and not word.disputed


def grounds(when: Selection, lookup: Lookup, names: Names) -> str:
    """Return what a rule rests on, ``IMAGETYP = 'Bias Frame'``; what is absent is not said."""
    values = {names.get(item.key) or item.key: lookup(item.key) for item in when}
    shown = [f"{key} = {value!r}" for key, value in values.items() if text(value)]
    return " and ".join(shown) or "no condition"


def lacking(lookup: Lookup, names: Names) -> str:
    """Return in words what an exposure lacks for any rule to type it."""
    word = text(lookup("imagetyp"))
    if word:
        parts = [f"{names['imagetyp']} = {word!r} is no kind that a rule knows"]
    else:
        parts = [f"no card names its kind, as {names.get('imagetyp', 'IMAGETYP')} would"]
    for field in ("object", "exptime"):
        name, value = names.get(field, field), text(lookup(field))
        parts.append(f"{name} = {value!r} does not tell it" if value else f"it has no {name}")
    return f"{'; '.join(parts)}; say what it is under 'types' of the configuration"
