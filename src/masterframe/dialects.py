"""IRAF's and Siril's own names for a rejection, in terms of our rules: scripts move over by name.

A named set is a rule with the options that the program has by default; what is given besides goes
before them. Its bounds are counted as the program counts them. No such program has a noise floor.
Sources: IRAF 2.17 ``imcombine.par`` and ``ic*clip.gx``; Siril 1.0.6 ``rejection_float.c``, whose
``stack`` takes the names by their first letters.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace

from masterframe.errors import UsageError
from masterframe.kernels.registry import RULES
from masterframe.model import Estimator, Rejection
from masterframe.names import unknown
from masterframe.quantiles import MAD_TO_SIGMA


@dataclass(frozen=True, slots=True)
class NamedSet:
    """A rejection of another program."""

    program: str
    """Program and the words that choose it there."""
    rejection: Rejection
    """Our rule and the options that make it the same."""
    unit: float = 1.0
    """Sigmas that a bound of 1 stands for in that program."""
    gain: str | None = None
    """Electrons per adu where none is given."""
    read_noise: str | None = None
    """Electrons where none is given."""
    differs: str = ""
    """Where the program does something else; '' where it does not."""


_IRAF = Rejection(low=3.0, high=3.0, center="median", max_iters="all", nkeep=1)
_SIRIL = Rejection(low=3.0, high=3.0, max_iters="all", nkeep=4)
_SIRIL_SIGMA = replace(_SIRIL, center="median", deviation="std", ddof=1)
_MAD = 3.0 / MAD_TO_SIGMA
_STOPS = "it stops rejecting earlier where few values are left"
_REPLACES = "it puts the median in the place of what it rejects, and counts it"
_RANKS = "from the second pass on it takes the ranks of all frames"
_TWO = "version 1.0.6 always rejects at least two"


def _iraf(word: str, rejection: Rejection) -> NamedSet:
    return NamedSet(f"IRAF imcombine reject={word}", rejection)


def _iraf_ccd(word: str, low: float) -> NamedSet:
    rejection = replace(_IRAF, rule="ccd", snoise=0.0, low=low)
    return replace(_iraf(word, rejection), gain="1", read_noise="0")


def _siril(letter: str, rejection: Rejection, differs: str = "") -> NamedSet:
    return NamedSet(f"Siril stack rej {letter}", rejection, differs=differs)


SETS: dict[str, NamedSet] = {
    "iraf-sigclip": _iraf("sigclip", replace(_IRAF, deviation="rms", ddof=1)),
    "iraf-avsigclip": _iraf("avsigclip", replace(_IRAF, rule="avsigma")),
    "iraf-ccdclip": _iraf_ccd("ccdclip", 3.0),
    "iraf-crreject": _iraf_ccd("crreject", math.inf),
    "iraf-minmax": _iraf("minmax", Rejection("minmax", nlow=1, nhigh=1, nkeep=1)),
    "iraf-pclip": _iraf("pclip", Rejection("pclip", low=3.0, high=3.0, pclip=-0.5, nkeep=1)),
    "siril-percentile": _siril("p", Rejection("percentile", low=0.2, high=0.1)),
    "siril-sigma": _siril("s", _SIRIL_SIGMA, _STOPS),
    "siril-median-sigma": _siril("m", replace(_SIRIL_SIGMA, nkeep=1), _REPLACES),
    "siril-mad": replace(
        _siril("a", replace(_SIRIL, low=_MAD, high=_MAD, center="median", deviation="mad"), _STOPS),
        unit=1 / MAD_TO_SIGMA,
    ),
    "siril-winsorized": _siril("w", replace(_SIRIL, rule="winsorized"), _STOPS),
    "siril-linear": _siril("l", replace(_SIRIL, rule="linearfit", low=5.0, high=5.0), _RANKS),
    "siril-gesdt": _siril("g", Rejection("gesd", fraction=0.3, alpha=0.05), _TWO),
}
"""Every set by its full name."""
SHORT: dict[str, str] = {
    short: name for name in SETS if (short := name.partition("-")[2]) not in RULES
}
"""Full names by the program's own word, where no rule of ours is called so."""
ESTIMATORS: dict[str, Estimator] = {"average": "mean", "med": "median"}
"""Other programs' names of estimators."""


def find_set(name: str) -> NamedSet | None:
    """Return the set of a name, short or full; None where it is one of our rules.

    Raises
    ------
    UsageError
        If it is neither; with the nearest known name.
    """
    if name in RULES:
        return None
    found = SETS.get(SHORT.get(name, name))
    if found is None:
        raise UsageError(unknown("rejection rule", name, [*RULES, *SHORT, *SETS]))
    return found


def expand(rejection: Rejection) -> Rejection:
    """Return a rejection by the name of one of our rules, its options over those of a named set.

    Parameters
    ----------
    rejection : Rejection
        Its rule is one of ours, or a named set; its options are those given.

    Raises
    ------
    UsageError
        If its rule is neither.
    """
    found = find_set(rejection.rule)
    if found is None:
        return rejection
    given = {
        option.name: value
        for option in fields(Rejection)
        if option.name != "rule" and (value := getattr(rejection, option.name)) is not None
    }
    for bound in ("low", "high"):
        if bound in given:
            given[bound] *= found.unit
    return replace(found.rejection, **given)
