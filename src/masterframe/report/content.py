"""What a report says, gathered from the masters of a folder and the record of its last run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from masterframe import __version__, runlog
from masterframe.model import MasterLimits
from masterframe.quality import archive
from masterframe.quality.archive import Master
from masterframe.quality.comparison import Comparison
from masterframe.quality.detector import Detector, measure_detectors
from masterframe.quality.verdicts import Check, Verdict, worst
from masterframe.report.charts import Chart, number, percent
from masterframe.report.figures import Figure, master_figures
from masterframe.report.transfer import detector_figures
from masterframe.tiling import format_bytes

OPEN = 8
"""Masters whose pictures are open at once; of more, those that need a look."""
PICTURED = 60
"""Masters that have pictures; the others, those that pass, have a row in the table."""
PIXELS = 2_400_000
"""Pixels of all thumbnails of the masters together, which bounds the page."""
LEAST, MOST = 128, 420
"""Rows and columns of a thumbnail."""
THUMBNAILS = 5
"""Thumbnails of a master, about."""
KINDS = ("bias", "dark", "flat", "")
LISTED = 500
"""Frames left out that the page lists; report.json has all."""
NAMES = {"bias": "Master bias", "dark": "Master dark", "flat": "Master flat", "": "Master"}


@dataclass(frozen=True, slots=True)
class Entry:
    """A master in the report."""

    anchor: str
    """Its place on the page."""
    master: Master
    checks: tuple[Check, ...]
    """Its tests, the comparison with the previous master among them."""
    previous: Comparison | None
    figures: tuple[Figure, ...]

    @property
    def verdict(self) -> Verdict:
        """The most serious verdict of its tests."""
        return worst(item.verdict for item in self.checks)

    @property
    def needs_a_look(self) -> bool:
        """Whether a test fails or nearly does."""
        return self.verdict in ("fail", "warn")


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A frame that was not used, or used and flagged."""

    path: str
    where: str
    """Master that it would have gone into; '' for none."""
    reason: str
    used: bool = False


@dataclass(frozen=True, slots=True)
class Content:
    """All that a report says."""

    out: str
    """Name of the output folder."""
    verdict: Verdict
    headline: str
    """The verdict in one sentence."""
    entries: tuple[Entry, ...]
    left_out: tuple[LeftOut, ...]
    detectors: tuple[tuple[Detector, tuple[Chart, ...]], ...]
    record: Mapping[str, Any]
    """The record of the last run; empty without one."""
    not_made: tuple[Mapping[str, Any], ...]
    """Products that failed or are blocked."""
    methods: str
    """A paragraph for a paper."""
    version: str = __version__

    @property
    def pictured(self) -> tuple[Entry, ...]:
        """The masters that have pictures."""
        return tuple(entry for entry in self.entries if entry.figures)

    def is_open(self, entry: Entry) -> bool:
        """Return whether a master's part of the page is open at first."""
        return entry.needs_a_look or len(self.pictured) <= OPEN


def gather(out: Path) -> Content:
    """Gather what a report says of an output folder.

    Raises
    ------
    UsageError
        If there is no such folder.
    """
    masters = sorted(archive.known_masters(out), key=_order)
    record = runlog.read_record(out)
    limit = _previous_limit(record)
    judged = []
    for master in masters:
        before = archive.previous_of(master, masters)
        found = archive.compare_masters(master, before, limit) if before else None
        checks = master.checks + ((found[1],) if found else ())
        judged.append((master, before, found[0] if found else None, checks))
    chosen = _pictured([checks for *_, checks in judged])
    size = int(min(MOST, max(LEAST, math.sqrt(PIXELS / (THUMBNAILS * max(len(chosen), 1))))))
    entries = tuple(
        Entry(
            anchor=f"m{number}",
            master=master,
            checks=checks,
            previous=comparison,
            figures=_figures(master, before, comparison, size) if number in chosen else (),
        )
        for number, (master, before, comparison, checks) in enumerate(judged)
    )
    not_made = tuple(
        item for item in record.get("products", []) if item["state"] in ("failed", "blocked")
    )
    verdict: Verdict = "fail" if not_made else worst(entry.verdict for entry in entries)
    return Content(
        out=out.name,
        verdict=verdict,
        headline=_headline(entries, not_made),
        entries=entries,
        left_out=tuple(_left_out(masters, record)),
        detectors=tuple(
            (item, tuple(detector_figures(item))) for item in measure_detectors(masters)
        ),
        record=record,
        not_made=not_made,
        methods=_methods(masters, record),
    )


def _order(master: Master) -> tuple[str, int, str, str]:
    kind = KINDS.index(master.kind) if master.kind in KINDS else len(KINDS)
    return str(Path(master.name).parent), kind, master.name, master.extension


def _previous_limit(record: Mapping[str, Any]) -> float:
    try:
        return float(record["config"]["quality"]["masters"]["previous"])
    except (KeyError, TypeError, ValueError):
        return MasterLimits().previous


def _pictured(checks: Sequence[Sequence[Check]]) -> set[int]:
    """Return the masters that have pictures: all of a night, of very many those that matter."""
    order = ("fail", "warn", "not judged", "pass")
    verdicts = [worst(item.verdict for item in own) for own in checks]
    ranked = sorted(range(len(checks)), key=lambda i: (order.index(verdicts[i]), i))
    return set(ranked[:PICTURED])


def _figures(
    master: Master, before: Master | None, comparison: Comparison | None, size: int
) -> tuple[Figure, ...]:
    previous = (before, comparison) if before and comparison else None
    return tuple(master_figures(master, previous, size))


def _headline(entries: Sequence[Entry], not_made: Sequence[Mapping[str, Any]]) -> str:
    counts = {word: sum(entry.verdict == word for entry in entries) for word in ("fail", "warn")}
    if not entries and not not_made:
        return "There is no master in this folder."
    parts = []
    if counts["fail"]:
        parts.append(f"{counts['fail']} failed a test")
    if counts["warn"]:
        parts.append(f"{counts['warn']} {'is' if counts['warn'] == 1 else 'are'} worth a look")
    said = (
        f"Of {_count(len(entries), 'master')}, {' and '.join(parts)}."
        if parts
        else (
            "The master passes every test."
            if len(entries) == 1
            else f"All {len(entries)} masters pass every test."
        )
    )
    if not_made:
        said += f" {_count(len(not_made), 'product')} could not be made."
    return said


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _left_out(masters: Sequence[Master], record: Mapping[str, Any]) -> list[LeftOut]:
    """Return every frame that did not go in as it should, with the reason, each once."""
    found: dict[tuple[str, str], LeftOut] = {}
    for master in masters:
        for row in master.left_out:
            item = LeftOut(row.path, master.name, row.status)
            found.setdefault((row.path, master.name), item)
        for row in master.rows:
            if row.status != "used":
                item = LeftOut(row.path, master.name, row.status, used=True)
                found.setdefault((row.path, master.name), item)
    plan = record.get("plan", {})
    for item in [*plan.get("left_out", []), *plan.get("problems", [])]:
        found.setdefault((item["path"], ""), LeftOut(item["path"], "", item["reason"]))
    return list(found.values())


def _methods(masters: Sequence[Master], record: Mapping[str, Any]) -> str:
    """Return a paragraph that a paper may hold, of what was done to which frames."""
    if not masters:
        return ""
    said = [
        f"Calibration frames were combined with masterframe {record.get('version', __version__)} "
        "(algorithm {algorithm}).".format(algorithm=masters[0].record.algorithm)
    ]
    for kind in ("bias", "dark", "flat"):
        own = [master for master in masters if master.kind == kind]
        if own:
            said.append(_methods_of(kind, own))
    science = [item for item in record.get("products", []) if item.get("kind") == "science"]
    made = sum(item["state"] in ("made", "up to date") for item in science)
    if made:
        verb = "was" if made == 1 else "were"
        said.append(f"{_count(made, 'science frame')} {verb} calibrated with them.")
    said.append(
        "Standard deviations of all pixels were propagated from the scatter of the frames and the "
        "masters."
    )
    return " ".join(said)


_OVERSCAN = {
    "median": "median of the overscan",
    "mean": "clipped mean of the overscan",
    "legendre": "Legendre polynomial through the overscan",
    "chebyshev": "Chebyshev polynomial through the overscan",
    "spline": "cubic spline through the overscan",
}
"""What was taken off, in words, by the method of `masterframe.model.OverscanModel`."""


def _methods_of(kind: str, masters: Sequence[Master]) -> str:
    counts = sorted({master.record.frames for master in masters})
    frames = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    record = masters[0].record
    steps = []
    if record.overscans:
        each = "column by column" if record.by_columns else "row by row"
        steps.append(f"the {_OVERSCAN[record.overscan_model.method]} was subtracted {each}")
    taken = [name for name in ("bias", "dark") if getattr(record, name)]
    if taken:
        steps.append(
            f"the master {' and '.join(taken)} {'were' if taken[1:] else 'was'} subtracted"
        )
    if record.normalize is not None:
        steps.append(
            "each frame was divided by the median of those of its images"
            if record.together
            else "each frame was divided by its median"
        )
    rejection = record.recipe.rejection
    rule = "no value was rejected" if rejection.rule == "none" else _rule(rejection)
    names = {"bias": "bias", "dark": "dark", "flat": "flat-field"}
    first = (
        f"Each of the {len(masters)} master {names[kind]} frames"
        if len(masters) > 1
        else (f"The master {names[kind]} frame")
    )
    before = f" after {'; '.join(steps)}" if steps else ""
    divided = (
        "" if record.normalize is None else " It was divided by the median of its good pixels."
    )
    if record.together:
        divided = " All were divided by the median of all their good pixels."
    return f"{first} is the {record.recipe.estimator} of {frames} frames{before}; {rule}.{divided}"


def _rule(rejection: Any) -> str:
    if rejection.rule == "sigma":
        centre = "median" if rejection.center in (None, "median") else rejection.center
        spread = "1.4826 MAD" if rejection.deviation in (None, "mad") else rejection.deviation
        passes = {1: "once", "all": "until none was left"}.get(
            rejection.max_iters, f"{rejection.max_iters} times"
        )
        return (
            f"values more than {rejection.low:g} (below) or {rejection.high:g} (above) standard "
            f"deviations ({spread}, not less than the noise known) from the {centre} were rejected "
            f"{passes}"
        )
    return f"values were rejected by the rule {rejection.rule}"


def facts_of(entry: Entry) -> list[tuple[str, str]]:
    """Return the facts of a master, for its table."""
    master, numbers = entry.master, entry.master.numbers
    unit = f" {master.unit}" if master.unit else ""
    recipe = master.record.recipe
    facts = [
        ("frames", f"{master.record.frames} used, {len(master.left_out)} left out"),
        ("size", " \u00d7 ".join(map(str, reversed(master.planes["data"].shape)))),
        ("median", f"{number(numbers.get('median'))}{unit}"),
        ("noise of a typical pixel", f"{number(numbers.get('typical'))}{unit}"),
        ("expected", f"{number(numbers.get('expected'))}{unit}"),
        ("rejected", percent(numbers.get("rejlow", 0.0) + numbers.get("rejhigh", 0.0))),
        ("masked", percent(numbers.get("maskedfraction"))),
        ("combined by", f"{recipe.estimator}, {recipe.rejection.rule}"),
    ]
    if "norm" in numbers and master.kind == "flat":
        levels = [row.level for row in master.rows if row.level is not None]
        if levels:
            facts.append(("levels", f"{min(levels):.0f} to {max(levels):.0f} adu"))
    if "nhot" in numbers:
        facts.append(("hot pixels", f"{numbers['nhot']:.0f} above {numbers['hotlevel']:.4g} adu"))
    if "nflatlow" in numbers:
        facts.append(("insensitive pixels", f"{numbers['nflatlow']:.0f}"))
    masters = [
        f"{role} {Path(operand.path).stem}"
        for role in ("bias", "dark", "flat")
        if (operand := getattr(master.record, role))
    ]
    if masters:
        facts.append(("calibrated by", ", ".join(masters)))
    if master.header.get("DATE-OBS"):
        facts.append(("begun", f"{str(master.header['DATE-OBS'])[:19].replace('T', ' ')} UTC"))
    return facts


def run_facts(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the facts of the last run, for its table."""
    if not record:
        return []
    seconds, read = record.get("seconds") or 0.0, record.get("bytes_read") or 0
    facts = [
        ("ended", str(record.get("ended", "")).replace("T", " ").replace("+00:00", " UTC")),
        ("took", f"{seconds:.1f} s"),
        ("combined", format_bytes(read)),
        ("throughput", f"{format_bytes(read / seconds)}/s" if read and seconds else "\u2013"),
        ("most memory", format_bytes(record.get("peak_memory") or 0)),
        ("memory given", format_bytes(record.get("memory") or 0)),
        ("workers", str(record.get("workers", ""))),
        ("machine", str(record.get("machine", ""))),
        ("masterframe", str(record.get("version", ""))),
    ]
    facts += [(name, str(version)) for name, version in record.get("versions", {}).items()]
    if record.get("dashboard"):
        facts.append(("dashboard", str(record["dashboard"])))
    if record.get("command"):
        facts.append(("command", " ".join(["masterframe", *map(str, record["command"])])))
    return facts


def as_document(content: Content) -> dict[str, Any]:
    """Return all numbers of a report in the types of JSON."""
    document = {
        "version": content.version,
        "verdict": content.verdict,
        "headline": content.headline,
        "masters": [_entry_document(entry) for entry in content.entries],
        "detectors": [asdict(item) for item, _ in content.detectors],
        "left_out": [asdict(item) for item in content.left_out],
        "not_made": list(content.not_made),
        "methods": content.methods,
        "run": dict(content.record),
    }
    found: dict[str, Any] = _plain(document)
    return found


def _entry_document(entry: Entry) -> dict[str, Any]:
    master = entry.master
    return {
        "name": master.name,
        "path": master.path,
        "extension": master.extension,
        "kind": master.kind,
        "unit": master.unit,
        "verdict": entry.verdict,
        "numbers": master.numbers,
        "tests": [asdict(item) for item in entry.checks],
        "previous": None if entry.previous is None else asdict(entry.previous),
        "inputs": [asdict(row) for row in master.rows],
        "left_out": [asdict(row) for row in master.left_out],
        "charts": {
            figure.title: figure.summary for figure in entry.figures if isinstance(figure, Chart)
        },
    }


def _plain(value: Any) -> Any:
    """Return a value in the types of JSON; numbers that are none become null."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
