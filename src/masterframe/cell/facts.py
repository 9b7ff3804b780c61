"""What is known of the frames of a combination besides their pixels, and what must be."""

from __future__ import annotations

from dataclasses import dataclass

from masterframe import kernels
from masterframe.errors import UsageError
from masterframe.model import Calibration, Recipe


@dataclass(frozen=True)
class FrameFacts:
    """What is known of the N frames of a stack besides their pixels; empty where it is not."""

    rank: tuple[int, ...] = ()
    """Canonical place of each frame, which makes the result independent of the order given."""
    weights: tuple[float, ...] = ()
    """Weight of each frame for the estimator ``weighted``."""
    exptimes: tuple[float, ...] = ()
    """Exposure times (s) for the plane ``exposure``."""


def is_above_bias(calibration: Calibration) -> bool:
    """Return whether calibrated values are counted from the bias, so that they are signal."""
    return bool(calibration.overscans or calibration.bias or calibration.dark)


def check_known(recipe: Recipe, *, uncertainties: bool = False) -> None:
    """Refuse a recipe that needs the noise of values which nobody told.

    Raises
    ------
    UsageError
        If gain or read noise are missing, and there are no uncertainties in their place.
    """
    noise, rule = recipe.noise, recipe.rejection.rule
    if uncertainties or (noise.gain and noise.read_noise is not None):
        return
    asking = {
        f"the rule {rule}": kernels.RULES[rule].noise,
        "the weight variance": recipe.weighting == "variance",
        "the plane propagated": "propagated" in recipe.planes,
    }
    for what, needed in asking.items():
        if needed:
            raise UsageError(
                f"{what} needs the noise of each value: give gain and read noise, or frames with "
                "their uncertainties"
            )


def check_facts(recipe: Recipe, facts: FrameFacts) -> None:
    """Refuse a recipe that needs weights or exposure times which nobody told.

    Raises
    ------
    UsageError
        If they are missing.
    """
    if "exposure" in recipe.planes and not facts.exptimes:
        raise UsageError("the plane exposure needs the exposure time of every frame")
    if recipe.estimator == "weighted" and recipe.weighting == "frames" and not facts.weights:
        raise UsageError("the weighted mean needs the weight of every frame")
