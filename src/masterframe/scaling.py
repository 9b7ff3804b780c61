"""From what frames measure and their headers say to a factor, a summand and a weight for each.

The definitions are those of IRAF's imcombine (``icscale.x``), but for the reference, which there is
the first frame of the list and here the first in canonical order (by date and name), so that the
result does not depend on the order in which files are given; and but for what is refused, which
there is a warning.

With S the statistic or exposure time by which frames are scaled and r the reference, the factor is
``s = S_r / S``. With Z that of the zero, ``z = Z_r s_r - Z s`` is added after the factor. So both
bring every frame to the level of the reference. ``level`` brings it to 1 instead: ``s = 1 / S``
with the median S. Numbers and keywords are used as they are.

A weight is a statistic, the exposure time, a keyword or a number. Where it is one of the first two
and the zero is a statistic, it goes down with the level of the sky after scaling: ``w Z_r s_r /
(Z s)``. ``noise`` weighs by ``1 / (s noise)^2``, as PixInsight's ImageIntegration and Siril do.
"""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from masterframe.errors import FrameError, UsageError
from masterframe.model import Adjustment, Estimator, Header, Scalar, Section
from masterframe.names import unknown

Term = Literal["scale", "zero", "weight"]
Given = str | tuple[float, ...]

STATISTICS = ("mode", "median", "mean")
"""What is measured on the pixels of a frame; `masterframe.levels` defines them."""
WORDS: dict[Term, tuple[str, ...]] = {
    "scale": ("none", "level", *STATISTICS, "exposure"),
    "zero": ("none", *STATISTICS),
    "weight": ("none", *STATISTICS, "exposure", "noise", "variance"),
}
"""Words by what they are for; besides these there are keywords, numbers and files of numbers."""
_KEYWORD = re.compile(r"[A-Z0-9_-]+(?: [A-Z0-9_-]+)*")


@dataclass(frozen=True, slots=True)
class FrameFacts:
    """What factors can be derived from, of one frame."""

    path: str
    """The file, for messages."""
    header: Header
    """Its cards."""
    exptime: float | None = None
    """Exposure time (s)."""
    measured: Mapping[str, float] = field(default_factory=dict)
    """Statistics of its calibrated pixels by name (adu)."""
    shared: Mapping[str, float] = field(default_factory=dict)
    """What takes their place where all images of an exposure are adjusted alike (adu)."""

    def statistic(self, name: str) -> float:
        """Return the statistic by which it is adjusted."""
        return self.shared.get(name, self.measured[name])


@dataclass(frozen=True, slots=True)
class Factors:
    """Numbers of N frames; an empty tuple where nothing is done."""

    levels: tuple[float, ...] = ()
    """What was measured to scale them, else for the zero, else to weigh them (adu)."""
    scale: tuple[float, ...] = ()
    """Factor of each frame."""
    zero: tuple[float, ...] = ()
    """Summand of each frame, after the factor."""
    weights: tuple[float, ...] = ()
    """Weight of each frame."""


def read_term(term: Term, text: str, *, numbers: bool = True) -> Given:
    """Read one of the options scale, zero and weight.

    Parameters
    ----------
    term : str
        Which one.
    text : str
        A word of `WORDS`, ``!KEYWORD`` or an upper-case KEYWORD; and, where `numbers` are allowed,
        numbers with commas between them or ``@FILE`` with one a line (# begins a comment).

    Returns
    -------
    str or tuple of float
        The word, ``!KEYWORD``, or the numbers.

    Raises
    ------
    UsageError
        If it is none of these; with the nearest word.
    """
    text = text.strip()
    if text in WORDS[term]:
        return text
    if numbers and text.startswith("@"):
        return _numbers(term, _lines(term, Path(text[1:])))
    if numbers and re.fullmatch(r"[-+\d.].*", text):
        return _numbers(term, text.split(","))
    keyword = text.removeprefix("!").strip()
    if text.startswith("!"):
        keyword = keyword.upper()
    if _KEYWORD.fullmatch(keyword) and not _is_number(keyword):
        return f"!{keyword}"
    others = "a KEYWORD in upper case" + (", numbers or @FILE" if numbers else "")
    raise UsageError(f"{unknown(term, text, WORDS[term])} (or {others})")


def read_section(text: str) -> Section:
    """Read the section on which frames are measured.

    Raises
    ------
    UsageError
        If it is none.
    """
    section = Section.from_fits(text)
    if section is None:
        raise UsageError(f"statsec {text} is no section: write [x0:x1,y0:y1], counted from 1")
    return section


def weighted(estimator: Estimator, weight: Given) -> Estimator:
    """Return the estimator that weights ask for: of the mean, the weighted mean.

    Raises
    ------
    UsageError
        If weights are given for another estimator, or none for the weighted mean.
    """
    if weight == "none":
        if estimator == "weighted":
            raise UsageError(
                f"combine weighted needs a weight: {', '.join(WORDS['weight'][1:])}, a KEYWORD"
            )
        return estimator
    if estimator not in ("mean", "weighted"):
        raise UsageError(
            f"weights have no place in combine {estimator}: use weighted, or no weight"
        )
    return "weighted"


def statistic_of(given: Given) -> str:
    """Return what is to be measured of a frame's pixels for an option; '' for nothing."""
    if given == "level":
        return "median"
    return str(given) if given in (*STATISTICS, "noise") else ""


def statistics_of(adjust: Adjustment) -> tuple[str, ...]:
    """Return the names of what is to be measured of each frame."""
    names = (statistic_of(given) for given in (adjust.scale, adjust.zero, adjust.weight))
    return tuple(dict.fromkeys(name for name in names if name))


def cards_of(adjust: Adjustment, frame: FrameFacts) -> tuple[Scalar, ...]:
    """Return what of a frame's header decides on its numbers: they change where it does."""
    given = (adjust.scale, adjust.zero, adjust.weight)
    words = [word for word in given if isinstance(word, str)]
    keywords = [word.removeprefix("!") for word in words if word.startswith("!")]
    found: list[Scalar] = [frame.header.get(keyword) for keyword in keywords]
    return tuple([*found, frame.exptime] if "exposure" in words else found)


def together(images: Sequence[FrameFacts]) -> tuple[FrameFacts, ...]:
    """Return the facts of the images of one exposure, to be adjusted alike.

    Each statistic is the median of those of the images: no dead or vignetted one moves it.
    """
    names = dict.fromkeys(name for image in images for name in image.measured)
    shared = {name: statistics.median(image.measured[name] for image in images) for name in names}
    return tuple(replace(image, shared=shared) for image in images)


def factors_of(adjust: Adjustment, frames: Sequence[FrameFacts], reference: int) -> Factors:
    """Derive the numbers of each frame.

    Parameters
    ----------
    adjust : Adjustment
        What is wanted.
    frames : sequence of FrameFacts
        The frames, with all of `statistics_of` measured.
    reference : int
        The frame to whose level the others are brought.

    Raises
    ------
    FrameError
        If a factor or weight is not positive, a summand no number, or a keyword missing; it names
        the frame and the value.
    UsageError
        If there are not as many numbers as frames.
    """
    scale = _scale(adjust.scale, frames, reference)
    zero = _zero(adjust.zero, frames, scale, reference)
    return Factors(
        levels=_levels(adjust, frames),
        scale=scale,
        zero=zero,
        weights=_weights(adjust, frames, scale, reference),
    )


def describe(adjust: Adjustment, reference: str) -> tuple[str, ...]:
    """Return the lines of HISTORY that say how frames were adjusted; none where they were not."""
    given = {"scale": adjust.scale, "zero": adjust.zero, "weight": adjust.weight}
    said = [
        f"{term} {value.removeprefix('!') if isinstance(value, str) else 'as given'}"
        for term, value in given.items()
        if value != "none"
    ]
    if not said:
        return ()
    lines = [f"adjusted before rejection: {', '.join(said)}"]
    if _is_measured(adjust.scale) or _is_measured(adjust.zero):
        lines.append(f"level of {reference}")
    if adjust.section:
        lines.append(f"measured in {adjust.section.to_fits()}")
    return tuple(lines)


def _scale(given: Given, frames: Sequence[FrameFacts], reference: int) -> tuple[float, ...]:
    if given == "none":
        return ()
    values = _values("scale", given, frames)
    _check_positive("scale", given, values, frames)
    if given == "level":
        return tuple(1 / value for value in values)
    if _is_measured(given):
        return tuple(values[reference] / value for value in values)
    return values


def _zero(
    given: Given, frames: Sequence[FrameFacts], scale: Sequence[float], reference: int
) -> tuple[float, ...]:
    if given == "none":
        return ()
    values = _values("zero", given, frames)
    for value, frame in zip(values, frames, strict=True):
        if not math.isfinite(value):
            raise _refuse("zero", given, value, frame, "it must be a number")
    if not _is_measured(given):
        return values
    levels = _scaled(values, scale)
    return tuple(levels[reference] - level for level in levels)


def _weights(
    adjust: Adjustment, frames: Sequence[FrameFacts], scale: Sequence[float], reference: int
) -> tuple[float, ...]:
    given = adjust.weight
    if given in ("none", "variance"):
        return ()
    values = _values("weight", given, frames)
    _check_positive("weight", given, values, frames)
    if given == "noise":
        return tuple(1 / noise**2 for noise in _scaled(values, scale))
    if not (_is_measured(given) and _is_measured(adjust.zero)):
        return values
    sky = _scaled(_values("zero", adjust.zero, frames), scale)
    _check_positive("zero", adjust.zero, sky, frames, "sky that lowers its weight")
    return tuple(value * sky[reference] / own for value, own in zip(values, sky, strict=True))


def _scaled(values: Sequence[float], scale: Sequence[float]) -> tuple[float, ...]:
    """Return values of the frames as they are after scaling."""
    return tuple(v * s for v, s in zip(values, scale, strict=True)) if scale else tuple(values)


def _levels(adjust: Adjustment, frames: Sequence[FrameFacts]) -> tuple[float, ...]:
    given = (adjust.scale, adjust.zero, adjust.weight)
    names = [name for name in map(statistic_of, given) if name and name != "noise"]
    return tuple(frame.measured[names[0]] for frame in frames) if names else ()


def _is_measured(given: Given) -> bool:
    """Return whether an option stands for what a frame holds, and not for a number to be used."""
    return given in (*STATISTICS, "exposure")


def _values(term: Term, given: Given, frames: Sequence[FrameFacts]) -> tuple[float, ...]:
    """Return the number of each frame that an option names."""
    if isinstance(given, tuple):
        if len(given) != len(frames):
            raise UsageError(f"{term} gives {len(given)} numbers for {len(frames)} frames")
        return given
    name = statistic_of(given)
    if name:
        return tuple(frame.statistic(name) for frame in frames)
    if given == "exposure":
        return tuple(math.nan if f.exptime is None else f.exptime for f in frames)
    return tuple(_card(term, given.removeprefix("!"), frame) for frame in frames)


def _card(term: Term, keyword: str, frame: FrameFacts) -> float:
    value = frame.header.get(keyword)
    if value is None:
        raise FrameError(
            frame.path, f"it has no card {keyword} for its {term}: leave it out, or give numbers"
        )
    try:
        return float(value)
    except ValueError:
        raise FrameError(
            frame.path, f"its card {keyword} for its {term} is {value!r}, which is no number"
        ) from None


def _check_positive(
    term: Term,
    given: Given,
    values: Sequence[float],
    frames: Sequence[FrameFacts],
    role: str = "",
) -> None:
    for value, frame in zip(values, frames, strict=True):
        if not 0 < value < math.inf:
            raise _refuse(term, given, value, frame, "it must be positive", role)


def _refuse(
    term: Term, given: Given, value: float, frame: FrameFacts, must: str, role: str = ""
) -> FrameError:
    source = "" if isinstance(given, tuple) else f" (by {given.removeprefix('!')})"
    return FrameError(
        frame.path,
        f"the {role or term}{source} is {value:g}: {must}; leave the frame out, or choose another "
        f"{term}",
    )


def _lines(term: Term, path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"{term} @{path} cannot be read: {reason}") from None
    texts = (line.partition("#")[0].strip() for line in lines)
    return [text for text in texts if text]


def _numbers(term: Term, texts: Sequence[str]) -> tuple[float, ...]:
    for text in texts:
        if not _is_number(text):
            raise UsageError(f"{term}: {text.strip()!r} is no number")
    return tuple(float(text) for text in texts)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
