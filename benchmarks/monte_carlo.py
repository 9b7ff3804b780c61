"""Print what each rejection rule does to simulated values whose truth is known, as Markdown.

For every rule with its defaults, N frames and kind of noise: the fraction of good values rejected,
the error of the result over that of the plain mean of clean values, the stated over the true error,
and how often the truth lies within the 68.3 % interval of Student's t. The floor of the noise is
that of the quantisation alone, as where gain and read noise are not known; ``ccd`` and ``varclip``
are told the noise that there is.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats  # type: ignore[import-untyped]

from masterframe.combine import noise_floor
from masterframe.kernels import RULES, FrameTerms, KernelResult, LoadTerms, combine_block
from masterframe.model import Noise, Recipe, Rejection

ROWS, COLUMNS = 16, 4096
COUNTS = (5, 10, 20, 100)
SIGMA = 10.0
LEVEL = 1000.0
ONE_SIGMA = float(special.erf(np.sqrt(0.5)))
"""Probability within one sigma of a normal distribution."""


@dataclass(frozen=True)
class Case:
    """A kind of noise."""

    name: str
    """What the table calls it."""
    steps: float = 10.0
    """Noise (steps of quantisation)."""
    poisson: bool = False
    """Whether the noise is that of counted photons, 100 a pixel."""
    outliers: float = 0.0
    """Fraction of values that are raised by 10 to 100 sigma."""


CASES = (
    Case("Gaussian"),
    Case("Gaussian, 1 % outliers", outliers=0.01),
    Case("Poisson, 100 electrons", poisson=True),
    Case("Poisson, 100 electrons, 1 % outliers", poisson=True, outliers=0.01),
    Case("Gaussian, noise of 2 steps", steps=2.0),
    Case("Gaussian, noise of 1 step", steps=1.0),
    Case("Gaussian, noise of 0.5 steps", steps=0.5),
    Case("Gaussian, noise of 0.2 steps", steps=0.2),
)


@dataclass(frozen=True)
class Drawn:
    """Simulated frames and what is known of them."""

    values: NDArray[np.float32]
    """Shape (N, ROWS, COLUMNS)."""
    truth: NDArray[np.float64]
    """Expected value of each pixel."""
    spoilt: NDArray[np.bool_]
    """Which values are outliers."""
    variance: float
    """Of a clean value, that of its quantisation included."""
    step: float
    """Of the quantisation."""


@dataclass(frozen=True)
class Figures:
    """What a rule does to one case."""

    lost: float
    """Fraction of good values rejected."""
    noise: float
    """True error over that of the mean of clean values."""
    stated: float
    """Root mean square of the stated errors over the true one."""
    coverage: float
    """Fraction of the pixels with the truth within the 68.3 % interval."""


def draw(case: Case, n: int, seed: int = 1) -> Drawn:
    """Draw the values of N frames; each pixel has a level of its own within a step."""
    rng = np.random.default_rng([seed, n])
    shape = (n, ROWS, COLUMNS)
    step = 1.0 if case.poisson else SIGMA / case.steps
    truth = LEVEL + step * rng.random((ROWS, COLUMNS))
    if case.poisson:
        truth = np.full((ROWS, COLUMNS), SIGMA**2)
        values = rng.poisson(SIGMA**2, shape).astype(float)
    else:
        values = step * np.round((truth + rng.normal(0, SIGMA, shape)) / step)
    spoilt = rng.random(shape) < case.outliers
    values[spoilt] += step * np.round(SIGMA * rng.uniform(10, 100, spoilt.sum()) / step)
    variance = SIGMA**2 + (0.0 if case.poisson else step**2 / 12)
    return Drawn(values.astype(np.float32), truth, spoilt, variance, step)


def combine(drawn: Drawn, rule: str) -> KernelResult:
    """Combine the frames by a rule with its defaults; ``minmax`` drops one value at each end."""
    n = len(drawn.values)
    ends = 1 if rule == "minmax" else None
    noise = np.zeros((n, 3))
    noise[:, 0] = drawn.variance
    return combine_block(
        drawn.values,
        LoadTerms(),
        Recipe(Rejection(rule, nlow=ends, nhigh=ends)),
        noise_floor(Noise(), drawn.step),
        np.arange(n),
        frames=FrameTerms(noise=noise),
    )


def judge(drawn: Drawn, rule: str) -> Figures:
    """Combine by a rule and compare with the truth."""
    n = len(drawn.values)
    result = combine(drawn, rule)
    spoilt = drawn.spoilt.sum(axis=0)  # they are the highest values, and go first
    lost = result.low.sum() + np.maximum(result.high - spoilt, 0).sum()
    error = result.data - drawn.truth
    true = float(np.sqrt(np.mean(error**2)))
    told = np.isfinite(result.uncert)
    reach = stats.t.ppf((1 + ONE_SIGMA) / 2, np.maximum(result.count - 1, 1))
    inside = np.abs(error) <= reach * np.where(told, result.uncert, 0)
    return Figures(
        lost=float(lost) / (drawn.spoilt.size - spoilt.sum()),
        noise=true / np.sqrt(drawn.variance / n),
        stated=float(np.sqrt(np.mean(result.uncert[told].astype(float) ** 2))) / true,
        coverage=float(np.mean(inside)),
    )


def table(case: Case, counts: tuple[int, ...] = COUNTS) -> list[str]:
    """Return the Markdown table of a case."""
    names = "".join(f" N = {n} |" for n in counts)
    lines = [f"### {case.name}", "", f"| rule |{names}", "|---" * (len(counts) + 1) + "|"]
    drawn = [draw(case, n) for n in counts]
    for rule in RULES:
        cells = []
        for frames in drawn:
            f = judge(frames, rule)
            cells.append(f" {f.lost:.2%}, {f.noise:.2f}, {f.stated:.2f}, {f.coverage:.1%} |")
        lines.append(f"| {rule} |{''.join(cells)}")
    return [*lines, ""]


def main(names: list[str]) -> None:
    """Print the tables of the cases whose names hold any of the words, or of all."""
    print("Each cell: good values rejected, error over the plain mean's, stated over true error,")
    print("coverage of the 68.3 % interval.\n")
    for case in CASES:
        if not names or any(name in case.name for name in names):
            print("\n".join(table(case)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
