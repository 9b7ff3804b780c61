"""A number, the limit that it is held against, and what follows from both."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

Verdict = Literal["pass", "warn", "fail", "not judged"]
ORDER: tuple[Verdict, ...] = ("not judged", "pass", "warn", "fail")
"""Verdicts from the least to the most serious."""
WARN_AT = 0.8
"""Fraction of a limit from which a number that still passes is worth a look."""


@dataclass(frozen=True, slots=True)
class Check:
    """One test of one thing."""

    name: str
    """Name of the test."""
    value: float
    """What was found; NaN where it could not be had."""
    limit: float
    """Most that passes."""
    verdict: Verdict
    """What follows."""
    about: str = ""
    """What was tested, in words: what the number is, and in which unit."""

    def as_dict(self) -> dict[str, Any]:
        """Return it in the types of JSON; numbers that are none become null."""
        numbers = {"value": self.value, "limit": self.limit}
        finite = {key: x if math.isfinite(x) else None for key, x in numbers.items()}
        return {**asdict(self), **finite}

    def words(self) -> str:
        """Return the test in one line: name, number, limit."""
        if self.verdict == "not judged":
            return f"{self.name}: not judged"
        if self.verdict == "fail":
            return f"{self.name} {self.value:.4g} is beyond {self.limit:g} ({self.about})"
        return f"{self.name} {self.value:.4g} is within {self.limit:g} ({self.about})"


def check(
    name: str, value: float, limit: float, about: str = "", warn: float | None = None
) -> Check:
    """Hold a number against the most that passes, and the most that needs no look."""
    verdict: Verdict = "pass"
    if math.isnan(value):
        verdict = "not judged"
    elif value > limit:
        verdict = "fail"
    elif value > (WARN_AT * limit if warn is None else warn):
        verdict = "warn"
    return Check(name, value, limit, verdict, about)


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the most serious of some verdicts."""
    return max(verdicts, key=ORDER.index, default="not judged")
