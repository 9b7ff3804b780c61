"""What one call of the command ``combine`` asks for: its options read, checked, and shown."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

from masterframe import dialects, scaling
from masterframe.errors import UsageError
from masterframe.kernels.registry import RULES, resolve_rejection
from masterframe.model import Adjustment, Estimator, Noise, Recipe, Rejection, Verify
from masterframe.names import unknown
from masterframe.paths import expand_paths

PLANES = ("rejlow", "rejhigh", "exposure", "propagated")
Origin = Literal["given", "set", "default"]
DTYPES = ("float32", "float64")
_ESTIMATORS = (*get_args(Estimator), *dialects.ESTIMATORS)
_VERIFY = get_args(Verify)
_BOUNDS = ("low", "high")
_MCLIP = {"yes": "median", "no": "inner-mean"}
"""IRAF's mclip, as our centre."""
_TERMS: tuple[scaling.Term, ...] = get_args(scaling.Term)


@dataclass(frozen=True)
class Request:
    """What one call combines, and how; every option read and checked."""

    files: tuple[str, ...]
    """The inputs."""
    output: Path
    """The master to write."""
    recipe: Recipe
    """How they are combined; gain and read noise are still to be looked up."""
    hdu: str | None = None
    """Images of each input: names, patterns, numbers or all; see `masterframe.fits.extensions`."""
    overwrite: bool = False
    """Replace the output."""
    subtract: str | None = None
    """Image that is taken from every frame."""
    divide: str | None = None
    """Image that divides every frame."""
    bad_pixels: str | None = None
    """Image whose non-zero pixels are left out."""
    adjust: Adjustment = field(default_factory=Adjustment)
    """How frames are brought to one level, and how much each counts."""
    gain: str | None = None
    """Electrons per adu, or a keyword."""
    read_noise: str | None = None
    """Electrons, or a keyword."""
    verify: Verify = "auto"
    """Which check sums of the inputs are verified."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a combination, as ``combine --show`` shows it."""

    name: str
    """Option without ``--``."""
    value: str | float | bool | None
    """What it is."""
    origin: Origin
    """Who chose it: the user, the named set, or nobody."""


def read_options(options: Mapping[str, Any]) -> Request:
    """Turn the options of the command line into a request.

    Parameters
    ----------
    options : mapping
        Values by option name, with ``_`` for ``-``; texts where a word is allowed. What is missing
        is not given.

    Raises
    ------
    UsageError
        If one is unknown or does not fit; the message gives the option and what would.
    """
    if not options.get("output"):
        raise UsageError("combine needs a name for the master: -o OUTPUT")
    recipe, adjust = read_recipe(options)
    chosen = _chosen_by(dialects.find_set(_rule(options)))
    paths = {name: options.get(name) for name in ("subtract", "divide", "bad_pixels")}
    return Request(
        files=tuple(expand_paths(options.get("files") or ())),
        output=Path(options["output"]).absolute(),
        recipe=recipe,
        hdu=options.get("hdu"),
        overwrite=bool(options.get("overwrite")),
        adjust=adjust,
        gain=options.get("gain") or chosen.get("gain"),
        read_noise=options.get("read_noise") or chosen.get("read_noise"),
        verify=_choice("verify-checksums", options.get("verify_checksums") or "auto", _VERIFY),
        **{name: str(path.absolute()) if path else None for name, path in paths.items()},
    )


def read_recipe(options: Mapping[str, Any]) -> tuple[Recipe, Adjustment]:
    """Read how the frames are combined and adjusted, whatever the files are.

    Raises
    ------
    UsageError
        If an option is unknown or does not fit.
    """
    estimator = _choice("combine", options.get("estimator") or "mean", _ESTIMATORS)
    estimator = dialects.ESTIMATORS.get(estimator, estimator)
    adjust = _adjustment(options)
    recipe = Recipe(
        rejection=resolve_rejection(dialects.expand(_rejection(options))),
        estimator=scaling.weighted(estimator, adjust.weight),
        trim=_trim(options, estimator),
        noise=Noise(floor=_floor(options)),
        saturation=options.get("saturation"),
        dtype=_choice("dtype", options.get("dtype") or "float32", DTYPES),
        planes=_planes(options.get("planes") or ""),
        weighting="variance" if adjust.weight == "variance" else "frames",
    )
    return recipe, adjust


def show(options: Mapping[str, Any]) -> list[Parameter]:
    """Return every parameter that a call resolves to, and who chose it.

    Raises
    ------
    UsageError
        If an option is unknown or does not fit.
    """
    recipe, adjust = read_recipe(options)
    chosen = _chosen_by(dialects.find_set(_rule(options)))
    rejection = recipe.rejection
    values: dict[str, Any] = {
        "reject": rejection.rule,
        **{name: getattr(rejection, name) for name in RULES[rejection.rule].options},
        "noise_floor": recipe.noise.floor,
        **{name: options.get(name) or chosen.get(name) for name in ("gain", "read_noise")},
        "saturation": recipe.saturation,
        "combine": recipe.estimator,
        **({"trim": recipe.trim} if recipe.estimator == "trimmed" else {}),
        **{term: _as_text(getattr(adjust, term)) for term in _TERMS},
        "statsec": adjust.section.to_fits() if adjust.section else None,
        "dtype": recipe.dtype,
        "planes": ",".join(recipe.planes),
    }
    origins: dict[str, Origin] = dict.fromkeys(_given(options), "given")
    origins = {**dict.fromkeys(chosen, "set"), **origins}
    if chosen:
        origins["reject"] = "set"
    return [
        Parameter(name.replace("_", "-"), _word(value), origins.get(name, "default"))
        for name, value in values.items()
    ]


def _chosen_by(named: dialects.NamedSet | None) -> dict[str, Any]:
    """Return what a named set chooses, by option; nothing where there is none."""
    if named is None:
        return {}
    options = {item.name: getattr(named.rejection, item.name) for item in fields(Rejection)}
    options["reject"] = options.pop("rule")
    options |= {"noise_floor": 0.0, "gain": named.gain, "read_noise": named.read_noise}
    return {name: value for name, value in options.items() if value is not None}


def _given(options: Mapping[str, Any]) -> Iterator[str]:
    """Yield the parameters that options were given for."""
    names = {"estimator": "combine", "mclip": "center"}
    yield from (names.get(name, name) for name, value in options.items() if value is not None)


def _as_text(given: scaling.Given) -> str:
    return given if isinstance(given, str) else ",".join(f"{number:g}" for number in given)


def _word(value: Any) -> Any:
    """Return a value as the command line would take it."""
    return "off" if isinstance(value, float) and math.isinf(value) else value


def _rule(options: Mapping[str, Any]) -> str:
    return options.get("reject") or Rejection().rule


def _rejection(options: Mapping[str, Any]) -> Rejection:
    """Return what was given of the rejection, by the name that was given."""
    given: dict[str, Any] = {
        item.name: options.get(item.name) for item in fields(Rejection) if item.name != "rule"
    }
    for name in _BOUNDS:
        if given[name] is not None:
            given[name] = _bound(name, given[name])
    if given["max_iters"] not in (None, "all"):
        given["max_iters"] = int(_number("max_iters", given["max_iters"], 1))
    mclip = options.get("mclip")
    if mclip is not None:
        if given["center"] is not None:
            raise UsageError("--mclip and --center choose the same: give one of them")
        given["center"] = _MCLIP[_choice("mclip", mclip, tuple(_MCLIP))]
    return Rejection(rule=_rule(options), **given)


def _bound(name: str, text: str) -> float:
    return math.inf if text == "off" else _number(name, text, -math.inf)


def _floor(options: Mapping[str, Any]) -> float | Literal["auto"]:
    """Return the noise floor: what was given; else 0 for another program's rejection."""
    text = options.get("noise_floor")
    if text is None:
        return 0.0 if dialects.find_set(_rule(options)) else "auto"
    return "auto" if text == "auto" else _number("noise_floor", text, 0)


def _trim(options: Mapping[str, Any], estimator: str) -> float:
    trim = options.get("trim")
    if trim is None:
        return Recipe().trim
    if estimator != "trimmed":
        raise UsageError(f"--trim {trim:g} is read by --combine trimmed, not by {estimator}")
    if not 0 <= trim < 0.5:
        raise UsageError(f"--trim {trim:g}: it may be 0 or more, and less than 0.5")
    return float(trim)


def _adjustment(options: Mapping[str, Any]) -> Adjustment:
    given = {term: scaling.read_term(term, options.get(term) or "none") for term in _TERMS}
    statsec = options.get("statsec")
    if statsec and not any(map(scaling.statistic_of, given.values())):
        raise UsageError(f"--statsec {statsec}: none of --scale, --zero, --weight measures there")
    return Adjustment(**given, section=scaling.read_section(statsec) if statsec else None)


def _planes(text: str) -> tuple[str, ...]:
    names = tuple(filter(None, map(str.strip, text.split(","))))
    return tuple(_choice("planes", name, PLANES) for name in dict.fromkeys(names))


def _choice(name: str, given: str, known: tuple[str, ...]) -> Any:
    if given not in known:
        raise UsageError(unknown(f"--{name}", given, known))
    return given


def _number(name: str, text: str, least: float) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not value >= least:
        option = name.replace("_", "-")
        raise UsageError(f"--{option} {text} is no number that fits; the least is {least:g}")
    return value
