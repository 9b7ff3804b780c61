"""Names that people type: the nearest known one, for errors that help."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def unknown(what: str, given: object, known: Iterable[str]) -> str:
    """Return the sentence for a name that is not known: what was meant, or what there is.

    Parameters
    ----------
    what : str
        What was named, as the user knows it: ``--reject``, ``setting``.
    given : object
        The name given.
    known : iterable of str
        The names there are.
    """
    names = list(known)
    close = get_close_matches(str(given), names, 1)
    hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(names)}"
    return f"{what} {given} is unknown: {hint}"
