"""Inventories, plans and results as tables for people and as documents for machines."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from masterframe import dialects
from masterframe.console import clean, counted, table
from masterframe.forecast import Forecast
from masterframe.inventory import Attempt
from masterframe.model import Exposure, Plan, Problem, Product
from masterframe.quality.archive import Verified
from masterframe.quality.verdicts import worst
from masterframe.request import Parameter
from masterframe.run import Report
from masterframe.tiling import format_bytes
from masterframe.walk import Outcome

ONE_BY_ONE = 5
"""Files left out for one reason that the closing table names; more are counted."""

Tried = Mapping[str, tuple[Exposure, Sequence[Attempt]]]


def scan_document(exposures: Sequence[Exposure], problems: Sequence[Problem]) -> dict[str, Any]:
    """Return what ``scan --json`` prints: a row an image, and every problem.

    An exposure whose pixels are of no use has one row without an image.
    """
    frames = [row for exposure in exposures for row in _frame_rows(exposure)]
    return {"frames": frames, "problems": [asdict(problem) for problem in problems]}


def _frame_rows(exposure: Exposure) -> list[dict[str, Any]]:
    shared = {
        "kind": exposure.kind,
        "object": exposure.object,
        "exptime": exposure.exptime,
        "filter": exposure.filter,
        "binning": list(exposure.binning),
        "date_obs": exposure.date_obs,
        "temperature": exposure.temperature,
        "instrument": exposure.instrument,
        "preset": exposure.preset,
        "technique": exposure.technique,
        "light": exposure.light,
        "certain": exposure.certain,
        "rule": exposure.rule,
        "notes": list(exposure.notes),
    }
    if not exposure.images:
        none = {"hdu": None, "extension": "", **shared, "shape": None, "dtype": None}
        return [{"path": exposure.path, **none}]
    return [
        {
            "path": exposure.path,
            "hdu": image.frame.hdu,
            "extension": image.frame.extname,
            **shared,
            "shape": list(image.frame.shape),
            "dtype": image.frame.dtype,
        }
        for image in exposure.images
    ]


def scan_text(exposures: Sequence[Exposure], problems: Sequence[Problem]) -> str:
    """Return a table with a row an exposure, and the files that are refused with their reason."""
    rows = [
        (
            Path(item.path).name,
            _kind(item) + ("" if item.certain or not item.kind else " ?"),
            item.object,
            _number(item.exptime),
            item.filter,
            f"{item.binning[1]}x{item.binning[0]}",
            item.date_obs[:19],
            item.rule,
        )
        for item in exposures
    ]
    titles = ("file", "kind", "object", "exptime", "filter", "bin", "start (UTC)", "by")
    kinds = Counter(item.kind or "unknown" for item in exposures)
    counts = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
    found = f"{counted(len(exposures), 'exposure')}: {counts}" if rows else "no exposures"
    return "\n".join(
        [
            *([table(titles, rows)] if rows else []),
            found,
            *_section("notes", _scan_notes(exposures)),
            *_problems(problems),
        ]
    )


def _scan_notes(exposures: Sequence[Exposure]) -> list[str]:
    """Return what was odd about headers, and which kinds are guesses, as few lines."""
    notes = [Problem(Path(item.path).name, note) for item in exposures for note in item.notes]
    guessed = sum(item.kind is not None and not item.certain for item in exposures)
    hint = f"{guessed} with a question mark: the kind is a guess; scan --explain FILE tells why"
    return [*([hint] if guessed else []), *merged_reasons(notes)]


def _kind(exposure: Exposure) -> str:
    """Return a kind, with the light of a flat."""
    light = f" ({exposure.light})" if exposure.light else ""
    return f"{exposure.kind or 'unknown'}{light}"


def _problems(problems: Sequence[Problem]) -> list[str]:
    if not problems:
        return []
    lines = [f"  {clean(_from_here(item.path))}: {clean(item.reason)}" for item in problems]
    return ["", f"{counted(len(problems), 'problem')}:", *lines]


def explain_document(tried: Tried, problems: Sequence[Problem]) -> dict[str, Any]:
    """Return what ``scan --explain --json`` prints."""
    return {
        "files": [
            {**_frame_rows(exposure)[0], "tried": [rule._asdict() for rule in rules]}
            for exposure, rules in tried.values()
        ],
        "problems": [asdict(problem) for problem in problems],
    }


def explain_text(tried: Tried, problems: Sequence[Problem]) -> str:
    """Return, for each file, its kind, on what it rests, and the rules that were tried before.

    Rules that fail at one card are one line; the document has each with its patterns.
    """
    lines = []
    for path, (exposure, rules) in tried.items():
        grounds = f", by {exposure.rule}" if exposure.kind else ": no rule fits"
        doubt = "" if exposure.certain or not exposure.kind else ", a guess"
        lines += [
            f"{path}: {_kind(exposure)}{grounds}{doubt}",
            f"  read as {exposure.preset}: {exposure.instrument}, object {exposure.object!r}, "
            f"{_number(exposure.exptime) or '?'} s",
            *(f"  note: {note}" for note in exposure.notes),
        ]
        failed = [rule for rule in rules if not rule.fits]
        if failed:
            lines.append(f"  {len(failed)} rules do not fit:")
        for reason in dict.fromkeys(rule.reason for rule in failed):
            kinds = [rule.kind for rule in failed if rule.reason == reason]
            lines.append(f"    {reason}: {len(kinds)} for {', '.join(dict.fromkeys(kinds))}")
    return "\n".join([*(clean(line) for line in lines), *_problems(problems)])


def plan_document(plan: Plan, forecast: Mapping[str, Forecast]) -> dict[str, Any]:
    """Return what ``plan --json`` prints."""
    document = plan.as_dict()
    for product in document["products"]:
        product["forecast"] = asdict(forecast[product["name"]])
    return document


def plan_text(plan: Plan, forecast: Mapping[str, Forecast]) -> str:
    """Return a paragraph a product: what goes in, what it takes, why it is made, what it costs."""
    lines: list[str] = []
    above: list[str] = []
    for product in plan.products:
        about = _about(product, forecast[product.name])
        lines += _product_lines(product, forecast[product.name], [] if about == above else about)
        above = about
    lines += _section("left out", [f"{_from_here(p.path)}: {p.reason}" for p in plan.left_out])
    lines += _problems(plan.problems)
    lines += _section("missing", plan.notes)
    if not plan.products:
        return "\n".join([*lines, "", _nothing(plan)])
    made = [item for item in forecast.values() if item.bytes_read]
    total = format_bytes(sum(item.bytes_read for item in made))
    peak = format_bytes(max((item.peak_bytes for item in made), default=0))
    lines += [
        "",
        f"{len(made)} of {len(plan.products)} products to make: {total} to read, {peak} peak",
    ]
    return "\n".join(lines)


def _nothing(plan: Plan) -> str:
    """Return why no product is planned."""
    if plan.left_out:
        return f"nothing to make: {counted(len(plan.left_out), 'exposure')}, all left out"
    if plan.problems:
        return "nothing to make: no file can be used"
    return "nothing to make: no FITS file is there"


def _section(title: str, rows: Sequence[str]) -> list[str]:
    return ["", f"{title}:", *(f"  {clean(row)}" for row in rows)] if rows else []


def _product_lines(product: Product, forecast: Forecast, about: Sequence[str]) -> list[str]:
    """Return the paragraph of a product; without what it is about where that was said just now."""
    verdict = "blocked" if product.blocked else "up to date" if forecast.current else "to make"
    exposures = [
        f"    {clean(Path(item.path).name)}: {clean(item.rule)}" for item in product.exposures
    ]
    told = [about[0], *exposures, *about[1:]] if about else [*exposures, "  all else as above"]
    return [f"{clean(product.name)}: {verdict}, {clean(forecast.reason)}", *told]


def _about(product: Product, forecast: Forecast) -> list[str]:
    """Return what is said of a product besides its name, its state and its exposures."""
    lines = [f"  from {clean(product.reason)}"]
    lines += [f"  {use.role}: {use.product} ({clean(use.reason)})" for use in product.uses]
    lines += [
        f"  not {clean(one.product)} as {one.role}: {clean(one.reason)}"
        for one in product.passed_over
    ]
    lines += [f"  note: {clean(note)}" for note in product.notes]
    if forecast.bytes_read:
        lines.append(f"  {forecast.reading}")
    if forecast.scratch_bytes:
        lines.append(f"  {format_bytes(forecast.scratch_bytes)} of scratch for compressed files")
    return lines


def run_document(plan: Plan, report: Report) -> dict[str, Any]:
    """Return what ``run --json`` prints."""
    return {
        "products": [outcome.as_dict() for outcome in report.outcomes],
        "left_out": [asdict(problem) for problem in plan.left_out],
        "problems": [asdict(problem) for problem in plan.problems],
        "report": report.page,
        "seconds": report.seconds,
        "exit_code": report.exit_code,
    }


def run_text(plan: Plan, report: Report) -> str:
    """Return the closing table: what was made, kept, failed or blocked, with its numbers."""
    rows = [
        (
            clean(item.name),
            item.state,
            str(item.n_frames),
            _number(item.numbers.get("median")),
            _number(item.numbers.get("noise"), 4),
            _percent(item.numbers),
            _tested(item),
            f"{item.seconds:.1f}" if item.seconds else "",
            clean(item.reason),
        )
        for item in report.outcomes
    ]
    titles = ("product", "state", "frames", "median", "noise", "rejected", "tests", "s", "")
    lines = [table(titles, rows)] if rows else []
    lines += _section("tests", _failed(report.outcomes))
    lines += _section("notes", merged_notes(report.outcomes))
    lines += _section("left out", merged_reasons(plan.left_out))
    lines += _problems(plan.problems)
    states = Counter(outcome.state for outcome in report.outcomes)
    counts = ", ".join(f"{count} {state}" for state, count in states.items())
    lines += ["", f"report: {clean(report.page)}"] if report.page else [""]
    failing = sum(outcome.fails_a_test for outcome in report.outcomes)
    if failing:
        lines.append(_verdict(failing, strict=report.strict))
    if not rows:
        return "\n".join([*lines, _nothing(plan)])
    return "\n".join([*lines, f"{counts} in {report.seconds:.1f} s"])


def _verdict(failing: int, *, strict: bool) -> str:
    """Return how many masters are not good, and what that means for the exit code."""
    masters = "1 master fails a test" if failing == 1 else f"{failing} masters fail a test"
    if strict:
        return f"{masters}: the exit code is 1"
    return f"{masters}: verify ends with 1, a run with quality.masters.action = fail, too"


def _tested(outcome: Outcome) -> str:
    return worst(test.verdict for test in outcome.tests) if outcome.tests else ""


def _failed(outcomes: Sequence[Outcome]) -> list[str]:
    """Return the tests that masters do not pass, a line each."""
    return [
        f"{outcome.name}: {test.verdict}, {test.words()}"
        for outcome in outcomes
        for test in outcome.tests
        if test.verdict in ("warn", "fail")
    ]


def verify_document(found: Sequence[Verified]) -> dict[str, Any]:
    """Return what ``verify --json`` prints."""
    return {
        "verdict": worst(item.verdict for item in found),
        "exit_code": verify_exit_code(found),
        "products": [
            {
                "name": item.name,
                "kind": item.kind,
                "verdict": item.verdict,
                "tests": [{**test.as_dict(), "extension": name} for name, test in item.checks],
                "problems": list(item.problems),
                "remarks": list(item.remarks),
                "inputs": item.inputs,
            }
            for item in found
        ],
    }


def verify_text(found: Sequence[Verified]) -> str:
    """Return a row a product, and all that is wrong or worth a look."""
    rows = [
        (clean(item.name), item.verdict, str(sum(item.inputs.values())), _summary(item))
        for item in found
    ]
    lines = [table(("product", "verdict", "inputs", "tests"), rows)]
    for title, verdict in (("fails", "fail"), ("worth a look", "warn")):
        lines += _section(title, [line for item in found for line in _remarks(item, verdict)])
    counts = Counter(item.verdict for item in found)
    return "\n".join([*lines, "", ", ".join(f"{count} {word}" for word, count in counts.items())])


def verify_exit_code(found: Sequence[Verified]) -> int:
    """Return 1 if any product fails, else 0."""
    return int(any(item.verdict == "fail" for item in found))


def _summary(item: Verified) -> str:
    judged = [test for _, test in item.checks if test.verdict != "not judged"]
    passed = sum(test.verdict == "pass" for test in judged)
    return f"{passed} of {len(judged)} pass" if judged else ""


def _remarks(item: Verified, verdict: str) -> list[str]:
    tests = [
        f"{item.name}{f' {name}' * bool(name)}: {test.words()}"
        for name, test in item.checks
        if test.verdict == verdict
    ]
    others = item.problems if verdict == "fail" else item.remarks
    return [*tests, *(f"{item.name}: {text}" for text in others)]


def merged_notes(outcomes: Sequence[Outcome]) -> list[str]:
    """Return the notes of products, a line each; those that many share are said once."""
    sharing: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        for note in outcome.notes:
            sharing.setdefault(note, []).append(outcome)
    return [f"{_together(those)}: {note}" for note, those in sharing.items()]


def merged_reasons(problems: Sequence[Problem]) -> list[str]:
    """Return files with their reason, a line each; those that many share are counted."""
    sharing: dict[str, list[str]] = {}
    for problem in problems:
        sharing.setdefault(problem.reason, []).append(problem.path)
    lines = []
    for reason, paths in sharing.items():
        if len(paths) > ONE_BY_ONE:
            lines.append(f"{len(paths)} files, {_from_here(paths[0])} the first: {reason}")
        else:
            lines += [f"{_from_here(path)}: {reason}" for path in paths]
    return lines


def _from_here(path: str) -> str:
    """Return a path as a shell of this folder would take it, shorter where it lies below."""
    here = f"{Path.cwd()}{os.sep}"
    return path.removeprefix(here)


def _together(outcomes: Sequence[Outcome]) -> str:
    """Name one product, or count several by what they are."""
    if len(outcomes) == 1:
        return outcomes[0].name
    kinds = Counter(outcome.kind for outcome in outcomes)
    return " and ".join(f"{n} {_plural(kind, n)}" for kind, n in kinds.items())


def _plural(kind: str, count: int) -> str:
    what = "science frame" if kind == "science" else f"master {kind}"
    return what + ("" if count == 1 else "es" if kind == "bias" else "s")


def parameters_document(reject: str | None, parameters: Sequence[Parameter]) -> dict[str, Any]:
    """Return what ``combine --show --json`` prints."""
    named = _named(reject)
    return {
        "set": {"name": reject, "program": named.program, "differs": named.differs}
        if named
        else None,
        "parameters": {item.name: item.value for item in parameters},
        "origins": {item.name: item.origin for item in parameters},
    }


def parameters_text(reject: str | None, parameters: Sequence[Parameter]) -> str:
    """Return a row a parameter of ``combine``: its value, and who chose it."""
    named = _named(reject)
    origins = {"set": str(reject), "given": "given", "default": ""}
    rows = [
        (f"--{item.name}", "" if item.value is None else str(item.value), origins[item.origin])
        for item in parameters
    ]
    lines = [table(("option", "value", "by"), rows)]
    if named:
        lines.append(f"{reject}: {named.program}" + (f"; {named.differs}" * bool(named.differs)))
    return "\n".join(lines)


def _named(reject: str | None) -> dialects.NamedSet | None:
    return dialects.find_set(reject) if reject else None


def _number(value: float | None, digits: int = 6) -> str:
    return "" if value is None or math.isnan(value) else f"{value:.{digits}g}"


def _percent(numbers: Mapping[str, float]) -> str:
    if "rejlow" not in numbers:
        return ""
    return f"{100 * (numbers['rejlow'] + numbers['rejhigh']):.3f} %"
