"""From what stands in the YAML to the types of the model; every name is resolved here."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from masterframe import dialects, scaling
from masterframe.config import cameras, clusters, mappings, schema
from masterframe.config.source import Source, Where
from masterframe.errors import ConfigError, UsageError
from masterframe.kernels.registry import resolve_rejection
from masterframe.matching import FIELDS
from masterframe.model import (
    Adjustment,
    AmplifierKeywords,
    AmplifierRule,
    AppliedRule,
    Certificates,
    ClusterSpec,
    Condition,
    Detector,
    FrameLimits,
    Instrument,
    Keyword,
    MasterLimits,
    Noise,
    ProductRecipe,
    Quality,
    Recipe,
    Rejection,
    SectionRule,
    Selection,
    Tolerances,
    TypeRule,
)
from masterframe.names import unknown

_BYTES = re.compile(r"\s*(\d+(?:\.\d*)?)\s*([kKMGT]?)(i?)[bB]?\s*")


class Converter:
    """Turns the checked parts of one source into types of the model.

    Parameters
    ----------
    source : Source
        Where the parts stand, for messages.
    """

    def __init__(self, source: Source) -> None:
        self.source = source

    def refuse(self, where: Where, reason: str) -> ConfigError:
        """Return the error for a value at some place."""
        return ConfigError(f"{self.source.place(where)}: {reason}")

    def key(self, words: str, where: Where) -> str:
        """Return a field name or an upper-case keyword; refuse unknown fields."""
        name = words.strip().removeprefix("HIERARCH ")
        if name and not name.islower():
            return name.upper()
        if name not in FIELDS:
            reason = unknown("field", words, FIELDS)
            raise self.refuse(where, f"{reason} (header keywords are upper case)")
        return name

    def selection(self, when: Mapping[str, list[mappings.Pattern]], where: Where) -> Selection:
        """Return the conditions of a mapping."""
        return tuple(
            Condition(self.key(key, (*where, key)), tuple(patterns))
            for key, patterns in when.items()
        )

    def selections(
        self, found: Iterable[Mapping[str, list[mappings.Pattern]]], where: Where
    ) -> tuple[Selection, ...]:
        """Return the selections of a list."""
        return tuple(self.selection(when, (*where, i)) for i, when in enumerate(found))

    def types(self, rules: Iterable[mappings.TypeRuleModel], where: Where) -> tuple[TypeRule, ...]:
        """Return rules that type exposures."""
        return tuple(
            TypeRule(
                rule.kind,
                self.selection(rule.when, (*where, i, "when")),
                rule.certain,
                rule.technique,
                rule.light,
            )
            for i, rule in enumerate(rules)
        )

    def stanza(self, name: str, model: schema.StanzaModel) -> ProductRecipe:
        """Return the recipe of a stanza."""
        where: Where = ("recipes", name)
        assert model.kind is not None  # noqa: S101  filled in from the name
        return ProductRecipe(
            kind=model.kind,
            name=name,
            select=self.selections(model.select, (*where, "select")),
            group_by=tuple(
                self.key(key, (*where, "group_by", i)) for i, key in enumerate(model.group_by)
            ),
            recipe=self.recipe(model, where),
            min_frames=model.min_frames,
            subtract_bias=model.subtract_bias,
            subtract_dark=model.subtract_dark,
            divide_flat=model.divide_flat,
            subtract_overscan=model.subtract_overscan,
            adjust=self.adjustment(model, where),
            normalize=model.normalize,
            flat_minimum=model.flat_minimum,
            hot_sigma=_or_none(model.hot_sigma),
            assemble=model.assemble,
            saturation="off" if model.saturation == "off" else "auto",
            require=tuple(model.require),
        )

    def adjustment(self, model: schema.StanzaModel, where: Where) -> Adjustment:
        """Return how a stanza scales and weighs its frames."""
        terms: dict[scaling.Term, str] = {
            "scale": model.scale,
            "zero": model.zero,
            "weight": model.weight,
        }
        given: dict[scaling.Term, scaling.Given] = {}
        for term, text in terms.items():
            with self.placed((*where, term)):
                given[term] = scaling.read_term(term, text, numbers=False)
        with self.placed((*where, "statsec")):
            section = scaling.read_section(model.statsec) if model.statsec else None
        return Adjustment(**given, section=section)

    @contextmanager
    def placed(self, where: Where) -> Iterator[None]:
        """Give what is refused inside the block its place."""
        try:
            yield
        except UsageError as error:
            raise self.refuse(where, str(error)) from None

    def recipe(self, model: schema.StanzaModel, where: Where) -> Recipe:
        """Return how a stanza combines, its rule and options checked."""
        rejection = Rejection(
            rule=model.reject,
            low=_or_inf(model.low),
            high=_or_inf(model.high),
            center=model.center,
            deviation=model.deviation,
            ddof=model.ddof,
            max_iters=model.max_iters,
            nlow=model.nlow,
            nhigh=model.nhigh,
            nkeep=model.nkeep,
            pclip=model.pclip,
            fraction=model.fraction,
            alpha=model.alpha,
            snoise=model.snoise,
            mad_correction=model.mad_correction,
            grow=model.grow,
        )
        with self.placed((*where, "reject")):
            named = dialects.find_set(model.reject)
            rejection = resolve_rejection(dialects.expand(rejection))
        with self.placed((*where, "weight")):
            estimator = scaling.weighted(model.combine, model.weight)
        return Recipe(
            rejection=rejection,
            estimator=estimator,
            trim=model.trim,
            weighting="variance" if model.weight == "variance" else "frames",
            noise=_noise(model.noise_floor, named),
            saturation=None if isinstance(model.saturation, str) else model.saturation,
            min_kept=model.min_kept,
            dtype=model.dtype,
            planes=tuple(model.planes),
        )

    def memory(self, words: str | int | None) -> int | None:
        """Return bytes: ``2GB`` is 2e9, ``2GiB`` 2 x 1024^3."""
        if words is None or isinstance(words, int):
            return words
        found = _BYTES.fullmatch(words)
        if found is None or not float(found[1]):
            raise self.refuse(("resources", "memory"), f"{words!r} is no size; write 2GB or 500MB")
        power = " kMGT".index(found[2].replace("K", "k") or " ")
        return int(float(found[1]) * (1024 if found[3] else 1000) ** power)


def detector(model: mappings.DetectorModel) -> Detector:
    """Return the numbers of a detector."""
    given = model.model_dump(exclude={"amplifiers", "bad"})
    return Detector(**given, amplifiers=_amplifiers(model.amplifiers), bad=tuple(model.bad))


def _amplifiers(models: Sequence[mappings.AmplifierModel]) -> tuple[AmplifierRule, ...]:
    return tuple(AmplifierRule(**model.model_dump()) for model in models)


def tolerances(model: schema.TolerancesModel) -> Tolerances:
    """Return the tolerances."""
    return Tolerances(**model.model_dump())


def quality(model: schema.QualityModel) -> Quality:
    """Return what is asked of frames and masters."""
    return Quality(
        FrameLimits(**model.frames.model_dump()), MasterLimits(**model.masters.model_dump())
    )


def instrument(name: str, model: cameras.InstrumentModel, source: Source) -> Instrument:
    """Return the instrument of one YAML, without its base."""
    convert = Converter(source)
    return Instrument(
        name=name,
        match=convert.selections(model.match, ("match",)),
        keywords=_keywords(model.keywords),
        setup=_keywords(model.setup),
        optics=_keywords(model.optics),
        label=tuple(model.label),
        kinds=convert.types(model.kinds, ("kinds",)),
        sections=tuple(
            SectionRule(
                convert.selection(rule.when, ("sections", i, "when")),
                rule.overscan,
                rule.trim,
                _amplifiers(rule.amplifiers),
                tuple(rule.bad),
            )
            for i, rule in enumerate(model.sections)
        ),
        amplifiers=AmplifierKeywords(
            **{name: tuple(words) for name, words in model.amplifiers.model_dump().items()}
        ),
        applied=tuple(
            AppliedRule(
                rule.step, convert.selection(rule.when, ("applied", i, "when")), rule.series
            )
            for i, rule in enumerate(model.applied)
        ),
        processed=convert.selections(model.processed, ("processed",)),
        detector=detector(model.detector),
        hdu=tuple(model.hdu),
        notes=model.notes,
    )


def cluster(model: clusters.ClusterModel, source: Source) -> ClusterSpec:
    """Return what a cluster's file describes; certificates lie beside it."""
    tls = model.tls
    folder = Path(source.name).absolute().parent
    return ClusterSpec(
        cluster=model.cluster,
        address=model.address,
        jobs=model.jobs,
        wait=model.wait,
        wait_again=model.wait if model.wait_again is None else model.wait_again,
        tls=tls
        if isinstance(tls, str)
        else Certificates(*(str(folder / name) for name in (tls.ca, tls.cert, tls.key))),
        options=model.options,
        source=source.name,
    )


def _keywords(found: Mapping[Any, list[cameras.KeywordModel]]) -> dict[str, tuple[Keyword, ...]]:
    """Return keywords by field."""
    return {
        name: tuple(Keyword(card.key.upper(), card.factor, card.offset) for card in cards)
        for name, cards in found.items()
    }


def _noise(floor: float | Literal["auto"] | None, named: dialects.NamedSet | None) -> Noise:
    """Return the noise floor of a stanza; 0 for another program's rejection."""
    if floor is None:
        floor = 0.0 if named else "auto"
    return Noise(floor=floor)


def _or_inf(value: float | str | None) -> float | None:
    """Return a number or None; infinity for ``off``."""
    return math.inf if isinstance(value, str) else value


def _or_none(value: float | str) -> float | None:
    """Return a number; None for ``off``."""
    return None if isinstance(value, str) else value
