"""Configuration: YAML becomes model types, with every name resolved and every error placed.

`load_config` reads one file over the defaults; `presets` are the instruments that are shipped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from masterframe.config import convert
from masterframe.config.cameras import InstrumentModel
from masterframe.config.clusters import ClusterModel
from masterframe.config.errors import explained
from masterframe.config.schema import DEFAULTS, ConfigModel, StanzaModel
from masterframe.config.source import Source, read_source
from masterframe.errors import ConfigError
from masterframe.model import (
    ClusterSpec,
    Condition,
    Config,
    Instrument,
    OverscanModel,
    ProductRecipe,
)
from masterframe.names import unknown

__all__ = ["json_schema", "load_cluster", "load_config", "load_instrument", "presets"]

_Checked = TypeVar("_Checked", bound=BaseModel)

_FALLBACK = "generic"
"""The preset that comes after all others, since it matches any header."""


def load_config(
    path: str | Path | None = None,
    overrides: Sequence[str] = (),
    exclude: Sequence[str] = (),
) -> Config:
    """Read a configuration over the defaults.

    Parameters
    ----------
    path : str or Path, optional
        YAML file; without one the defaults hold.
    overrides : sequence of str
        ``a.b=c``, as of ``--set``; the later one holds.
    exclude : sequence of str
        Path patterns of exposures that are not used, besides those of the file.

    Raises
    ------
    ConfigError
        With file, line and column of everything that is wrong, and the nearest known name.

    Examples
    --------
    >>> import masterframe as mf
    >>> config = mf.load_config(overrides=["recipes.bias.low=4"])
    >>> config.recipes["bias"].recipe.rejection.low
    4.0
    """
    source = Source("defaults") if path is None else read_source(Path(path))
    for assignment in overrides:
        source.override(assignment)
    model = _checked(ConfigModel, source.data, source)
    to_model = convert.Converter(source)
    named = tuple((Condition("path", (pattern,)),) for pattern in exclude)
    folder = Path(source.name).parent
    return Config(
        instruments=_instruments(model.instrument, folder, source),
        recipes={
            name: replace(stanza, overscan=OverscanModel(**model.overscan.model_dump()))
            for name, stanza in _recipes(source.data.get("recipes") or {}, to_model).items()
        },
        types=to_model.types(model.types, ("types",)),
        select=to_model.selections(model.select, ("select",)),
        exclude=(*to_model.selections(model.exclude, ("exclude",)), *named),
        detector=convert.detector(model.detector),
        bad_pixels=_beside(model.bad_pixels, folder) if path else model.bad_pixels,
        verify_checksums=model.verify_checksums,
        tolerances=convert.tolerances(model.tolerances),
        quality=convert.quality(model.quality),
        nights=model.nights,
        report=model.report,
        library=_beside(model.library, folder) if path else model.library,
        output=model.output,
        memory=to_model.memory(model.resources.memory),
        workers=model.resources.workers,
        scheduler=_scheduler(model.resources.scheduler, folder if path else Path()),
        source="" if path is None else str(path),
    )


def load_cluster(path: str | Path) -> ClusterSpec:
    """Read the description of a cluster.

    Parameters
    ----------
    path : str or Path
        YAML file; the keys are those of `masterframe.model.ClusterSpec`.

    Raises
    ------
    ConfigError
        With file, line and column of everything that is wrong.
    """
    source = read_source(Path(path))
    model = _checked(ClusterModel, source.data, source)
    if bool(model.cluster) == bool(model.address):
        raise ConfigError(
            f"{source.place(())}: name either a cluster, as SLURMCluster, or the address of a "
            "scheduler"
        )
    return convert.cluster(model, source)


def load_instrument(name: str, folder: Path = Path(), place: str = "instrument") -> Instrument:
    """Read one instrument.

    Parameters
    ----------
    name : str
        A shipped preset, or a YAML file relative to `folder`.
    folder : Path, optional
        The folder of the configuration.
    place : str, optional
        Where the name stands, for messages.

    Raises
    ------
    ConfigError
        Where there is none of this name, or its file is not valid.
    """
    if name.lower().endswith((".yaml", ".yml")):
        return _read_instrument(Path(name).stem, folder / name)
    if name not in presets():
        raise ConfigError(f"{place}: {unknown('instrument', name, ['auto', *presets()])}")
    return _shipped(name)


def presets() -> tuple[str, ...]:
    """Return the names of the shipped instruments, in the order in which they are recognised."""
    files = (Path(str(file)) for file in _preset_folder().iterdir())
    names = {file.stem for file in files if file.suffix == ".yaml"}
    return (*sorted(names - {_FALLBACK}), _FALLBACK)


def json_schema() -> dict[str, Any]:
    """Return the JSON schema of a configuration, for editors."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **ConfigModel.model_json_schema(),
        "title": "masterframe configuration",
    }


@cache
def _shipped(name: str) -> Instrument:
    """Return a shipped preset."""
    with resources.as_file(_preset_folder() / f"{name}.yaml") as path:
        return _read_instrument(name, path)


def _read_instrument(name: str, path: Path) -> Instrument:
    """Return the instrument in a YAML file, upon its base."""
    source = read_source(path)
    model = _checked(InstrumentModel, source.data, source)
    found = convert.instrument(name, model, source)
    if not model.base:
        return found
    if model.base not in presets() or model.base == name:
        place = source.place(("base",))
        raise ConfigError(f"{place}: {unknown('preset', model.base, presets())}")
    return _upon(load_instrument(model.base), found)


def _preset_folder() -> resources.abc.Traversable:
    return resources.files("masterframe") / "presets"


def _checked(model: type[_Checked], data: Mapping[str, Any], source: Source) -> _Checked:
    """Return the data as a model."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise explained(error, model, source) from None


def _instruments(names: Sequence[str], folder: Path, source: Source) -> tuple[Instrument, ...]:
    """Return the instruments that are named; ``auto`` stands for all presets."""
    found: dict[str, Instrument] = {}
    for index, name in enumerate(names):
        place = source.place(("instrument", index))
        for each in presets() if name == "auto" else (name,):
            found.setdefault(each, load_instrument(each, folder, place))
    return tuple(found.values())


def _upon(base: Instrument, own: Instrument) -> Instrument:
    """Return an instrument whose own words go before those of its base."""
    return replace(
        own,
        keywords={**base.keywords, **own.keywords},
        setup={**base.setup, **own.setup},
        optics={**base.optics, **own.optics},
        label=own.label or base.label,
        kinds=(*own.kinds, *base.kinds),
        sections=(*own.sections, *base.sections),
        amplifiers=own.amplifiers if own.amplifiers.endings else base.amplifiers,
        applied=(*own.applied, *base.applied),
        processed=(*own.processed, *base.processed),
        hdu=own.hdu or base.hdu,
    )


def _recipes(
    given: Mapping[str, Mapping[str, Any] | None], to_model: convert.Converter
) -> dict[str, ProductRecipe]:
    """Return the stanzas over the defaults of their kind; a kind without one has its default."""
    stanzas: dict[str, Mapping[str, Any]] = {}
    kinds = set()
    for name, stanza in given.items():
        kind = (stanza or {}).get("kind", name)
        if kind not in DEFAULTS:
            reason = unknown("kind", kind, DEFAULTS)
            raise to_model.refuse(("recipes", name), f"recipe {name} needs a kind: {reason}")
        kinds.add(kind)
        if stanza is not None:
            stanzas[name] = {**DEFAULTS[kind], **stanza, "kind": kind}
    stanzas |= {kind: stanza for kind, stanza in DEFAULTS.items() if kind not in kinds}
    order = list(DEFAULTS)
    ordered = sorted(stanzas.items(), key=lambda item: order.index(item[1]["kind"]))
    return {
        name: to_model.stanza(name, _checked(StanzaModel, stanza, to_model.source))
        for name, stanza in ordered
    }


def _scheduler(words: str, folder: Path) -> str:
    """Return where tasks run; the file of a cluster is relative to the configuration's folder."""
    return str(folder / words) if words.lower().endswith((".yaml", ".yml")) else words


def _beside(name: str, folder: Path) -> str:
    """Return a path relative to the configuration's folder."""
    return name and str(folder / name)
