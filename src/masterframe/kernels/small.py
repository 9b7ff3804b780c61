"""What a rule costs where there are fewer than ten values, in figures, for those who plan it.

The figures are those of ``benchmarks/monte_carlo.py few``: normal noise of ten steps whose size
nobody told, no outliers, the rule's default options. A spread that is measured on so few values is
often far too small, and then good values are beyond its bounds.
"""

from __future__ import annotations

from typing import Literal

from masterframe.kernels.registry import resolve_rejection, too_few
from masterframe.model import Rejection

MIN_TRUSTED = 5
"""Values from which a spread is trusted where the noise is not known otherwise."""

COSTS: dict[str, dict[int, tuple[float, float]]] = {
    "sigma": {
        3: (6.6, 55.7),
        4: (2.3, 63.0),
        5: (3.0, 62.4),
        6: (1.3, 65.0),
        7: (1.5, 65.2),
        8: (0.8, 66.4),
        9: (0.8, 66.3),
    },
    "pclip": {
        3: (7.2, 56.3),
        4: (2.8, 62.6),
        5: (20.5, 43.6),
        6: (11.0, 52.2),
        7: (30.9, 36.6),
        8: (5.3, 59.1),
        9: (15.6, 48.4),
    },
    "winsorized": {
        4: (1.7, 64.3),
        5: (2.2, 63.2),
        6: (1.6, 64.3),
        7: (1.7, 64.3),
        8: (1.4, 64.7),
        9: (1.4, 64.7),
    },
    "gesd": {
        4: (1.2, 65.2),
        5: (1.0, 65.4),
        6: (0.9, 65.6),
        7: (1.6, 64.3),
        8: (1.3, 64.7),
        9: (1.1, 65.1),
    },
}
"""Good values rejected (%) and coverage of the 68.3 % interval (%), by rule and number of values.

Rules that are not here know the noise beforehand, do not ask for it, or need more values."""


def few_frames(
    rejection: Rejection, count: int, *, floor: float | Literal["auto"], known: bool
) -> list[str]:
    """Return the warning that so few frames deserve; nothing if there is none.

    Parameters
    ----------
    rejection : Rejection
        Resolved or not.
    count : int
        Frames there are.
    floor : float or "auto"
        The noise floor: a number keeps good values where it is the noise.
    known : bool
        Whether gain and read noise are known, so that ``auto`` is the noise.
    """
    lines = too_few(rejection, count)
    costs = COSTS.get(rejection.rule, {}).get(count)
    trusted = known if floor == "auto" else floor > 0
    if lines or trusted or costs is None:
        return lines
    default = resolve_rejection(rejection) == resolve_rejection(Rejection(rejection.rule))
    about = "" if default else " with its default options"
    return [
        f"{count} frames give a rough spread: {rejection.rule}{about} rejects {costs[0]:g} % of "
        f"good values, and the 68.3 % interval of the stated error covers {costs[1]:g} %; tell "
        "gain and read noise, or reject none"
    ]
