"""A simulated night with planted faults, reduced and compared with its truth."""

from __future__ import annotations

import functools
import math
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from masterframe import cluster, console, fits, kernels, run, store
from masterframe.config import load_config
from masterframe.errors import MasterframeError, StorageError
from masterframe.fits import masters, tables
from masterframe.model import MaskBit, MasterImage, Plan, Product, Recipe
from masterframe.simulate import Camera, NightSpec, Pixels, Truth, simulate_night

MARKER = "MADE-BY-MASTERFRAME-DEMO.txt"
MARKER_TEXT = """\
masterframe demo made this folder and will replace it when it is run here again:
night/ holds simulated raw frames, truth/ what they were made of, reduced/ what became of them.
"""
OWN = frozenset({MARKER, "night", "truth", "reduced"})

DARK_SECONDS = 120.0
NIGHT = NightSpec(
    camera=Camera(shape=(384, 512), hot_fraction=1e-3),
    bias=12,
    darks={DARK_SECONDS: 8},
    flats={"V": 12, "B": 8},
    science={"V": 3, "B": 2},
    exptime=DARK_SECONDS,
    stars=60,
    cosmic_rate=1.0,
    defects=(
        "truncated",
        "wrong_shape",
        "shutter_closed",
        "saturated",
        "no_imagetyp",
        "not_fits",
        "duplicate",
    ),
    seed=2026,
)
"""The night of the demo."""

Z_MOST = 4.0
"""A mean residual passes within this many of its standard errors."""
PULL_MOST = 5.5
"""What a cosmic ray or trail left in a master shows above this many sigmas of its noise."""
NOISE_MISS = 0.03
"""Fraction by which a noise may differ from what was planted."""
FLAT_MISS = 1e-4
"""Fraction by which a flat may differ from the truth on average: it is divided by its own median,
which noise shifts by more than its standard error."""
SKY_MISS = 0.01
"""Fraction by which the median of a calibrated frame may differ from its sky: stars lift it."""

Plane = NDArray[Any]
Say = Callable[[str], None]
SAY: Say = functools.partial(print, flush=True)


@dataclass(frozen=True, slots=True)
class Finding:
    """One planted truth, and what was found of it."""

    what: str
    """Its name."""
    planted: str
    """What the simulation put in."""
    found: str
    """What the reduction gave."""
    passed: bool
    """Whether they agree."""


def run_demo(folder: Path, spec: NightSpec = NIGHT, *, say: Say = SAY) -> int:
    """Simulate a night, reduce it, compare the products with the truth, and print a table.

    Parameters
    ----------
    folder : Path
        Gets ``night/``, ``truth/`` and ``reduced/``. One that an earlier demo made is replaced.
    spec : NightSpec
        The night; one with bias and dark frames.
    say : callable
        Takes each line for the observer.

    Returns
    -------
    int
        Exit code: 0 if every planted truth was recovered, else 1.

    Raises
    ------
    StorageError
        If the folder holds anything that no demo made, or cannot be written.
    """
    began = time.monotonic()
    prepare_folder(folder)
    compiling = threading.Thread(target=_compile, daemon=True)
    compiling.start()
    truth = simulate_night(folder, spec, workers=cluster.available_cores())
    seconds = time.monotonic() - began
    shape = " x ".join(map(str, spec.camera.raw_shape))
    say(f"simulated {len(truth.shots)} files of {shape} in {seconds:.1f} s; {len(truth.bad)} bad")
    compiling.join(0.2)
    if compiling.is_alive():
        say("compiling the kernels for this processor, once")
        compiling.join()
    out = folder.absolute() / "reduced"
    plan, report = _reduce(truth.night, out, say)
    findings = {
        "truth": list(_compare(truth, plan, out)),
        "bad frame": list(_bad_frames(truth, plan, report, out)),
    }
    for title, found in findings.items():
        say(f"\n{_table(title, found)}")
    say(_next_steps(folder, plan, out))
    every = [finding for found in findings.values() for finding in found]
    missed = [finding.what for finding in every if not finding.passed]
    seconds = time.monotonic() - began
    verdict = f"{len(every) - len(missed)} of {len(every)} planted truths recovered"
    say(f"{verdict} in {seconds:.1f} s" + (f"; missed: {', '.join(missed)}" * bool(missed)))
    return int(bool(missed) or bool(report.exit_code))


def prepare_folder(folder: Path) -> None:
    """Make the folder of a demo, or empty one that an earlier demo made.

    Raises
    ------
    StorageError
        If anything in it was not made by a demo, or it cannot be written.
    """
    try:
        if folder.exists() or folder.is_symlink():
            _refuse_foreign(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MARKER).write_text(MARKER_TEXT, encoding="utf-8")
        for name in sorted(OWN - {MARKER}):
            if (folder / name).exists():
                shutil.rmtree(folder / name)
    except OSError as error:
        raise StorageError(
            f"{folder} cannot be written ({error.strerror or error}): choose another folder"
        ) from error


def _refuse_foreign(folder: Path) -> None:
    if not folder.is_dir():
        raise StorageError(f"{folder} is there and is no folder: choose another one")
    entries = {entry.name: entry for entry in folder.iterdir()}
    foreign = sorted(name for name in entries if name not in OWN or entries[name].is_symlink())
    if entries and MARKER not in entries:
        foreign = sorted(entries)
    if foreign:
        raise StorageError(
            f"{folder} holds {foreign[0]}, which no demo made: choose another folder, or move it"
        )


def _compile() -> None:
    """Compile, while the night is simulated, what its reduction will call."""
    raw = np.zeros((3, 2, 4), np.uint16)
    terms = kernels.LoadTerms(overscan=np.zeros((3, 2), np.float32))
    kernels.combine_block(raw, terms, Recipe(), kernels.Floor(), np.arange(3))


def _reduce(night: Path, out: Path, say: Say) -> tuple[Plan, run.Report]:
    config = load_config(None)
    plan = run.plan_nights([night], config)
    with (
        console.open_reporter() as reporter,
        store.open_resources(reporter=reporter) as resources,
    ):
        report = run.run_plan(plan, config, out, resources)
    made = sum(outcome.state == "made" for outcome in report.outcomes)
    say(f"reduced it to {made} of {len(plan.products)} products in {report.seconds:.1f} s")
    return plan, report


@dataclass(frozen=True, slots=True)
class _Master:
    """A master as it lies on disk, with the numbers that say how good it is."""

    product: Product
    path: Path
    data: Plane
    good: Plane
    hot: Plane
    noise: float
    names: tuple[str, ...]

    @classmethod
    def open(cls, product: Product, out: Path) -> _Master:
        path = out / product.output
        image = masters.open_master(path)[""]
        mask = _mask(image)
        return cls(
            product=product,
            path=path,
            data=_pixels(image.data).astype(np.float64),
            good=mask == 0,
            hot=(mask & MaskBit.HOT) != 0,
            noise=_noise(image),
            names=tuple(Path(row.path).name for row in tables.read_inputs(path) if row.kept),
        )


def _pixels(frame: Any) -> Plane:
    return fits.read_rows(frame, 0, frame.shape[0])


def _mask(image: MasterImage) -> Plane:
    if image.mask is None:
        return np.zeros(image.data.shape, np.uint8)
    return _pixels(image.mask)


def _noise(image: MasterImage) -> float:
    """Return the root mean square of the standard deviations that a master gives its pixels."""
    if image.uncert is None:
        return math.nan
    uncert = _pixels(image.uncert)[_mask(image) == 0]
    return float(np.sqrt(np.nanmean(np.square(uncert, dtype=np.float64))))


def _compare(truth: Truth, plan: Plan, out: Path) -> Iterator[Finding]:
    """Hold masters and calibrated frames against the truth."""
    for product in plan.products:
        whole = product.exposures[0].images[0].frame.shape == truth.spec.camera.raw_shape
        if product.kind == "science" or not whole:
            continue
        try:
            yield from CHECKS[product.kind](truth, _Master.open(product, out))
        except MasterframeError as error:
            yield Finding(product.name, "a master", str(error), False)
    yield _sky(truth, plan, out)


def _check_bias(truth: Truth, master: _Master) -> Iterator[Finding]:
    camera = truth.spec.camera
    residual = master.data - truth.bias()
    # The level of a row is the median of the overscan: its variance is pi / 2 over the number of
    # columns, in units of that of one pixel. Rounding to integers adds 1/12.
    variance = master.noise**2 * len(master.names)
    found = camera.gain * math.sqrt(max(variance / (1 + _overscan_share(camera)) - 1 / 12, 0))
    miss = abs(found / camera.read_noise - 1)
    yield Finding("read noise", f"{camera.read_noise:.2f} e-", f"{found:.3f} e-", miss < NOISE_MISS)
    yield _mean_residual("bias", residual, master.good, "adu")


def _overscan_share(camera: Camera) -> float:
    return math.pi / 2 / camera.overscan if camera.overscan else 0.0


def _check_dark(truth: Truth, master: _Master) -> Iterator[Finding]:
    seconds = master.product.dark_time or DARK_SECONDS
    rate = truth.spec.camera.gain / seconds
    residual = master.data * rate - truth.dark_current() * truth.spec.camera.gain
    hot = truth.hot_pixels()
    planted = np.zeros(master.data.shape, np.bool_)
    planted[hot.y, hot.x] = True
    yield _mean_residual("dark current", residual, master.good & ~planted, "e-/s")
    missed, false = int((planted & ~master.hot).sum()), int((master.hot & ~planted).sum())
    yield Finding(
        "hot pixels",
        f"{hot.y.size}",
        f"{hot.y.size - missed} found, {missed} missed, {false} false",
        not missed and not false,
    )
    sigma = np.where(planted, np.inf, master.noise * rate)
    yield from _events("dark", truth, master, residual / sigma)


def _check_flat(truth: Truth, master: _Master) -> Iterator[Finding]:
    name = master.product.exposures[0].filter
    flat = truth.flat(name)
    residual = master.data / flat - 1
    mean, scatter = residual[master.good].mean(), residual[master.good].std()
    light = [truth.shot(item).light for item in master.names]
    photons = math.sqrt(np.mean(1 / flat) * sum(1 / each for each in light)) / len(light)
    yield Finding(
        f"flat {name}",
        f"photon noise {photons:.3%}",
        f"mean residual {mean:+.4%}, scatter {scatter:.3%}",
        abs(mean) < FLAT_MISS and abs(scatter / photons - 1) < NOISE_MISS,
    )
    yield from _events(f"flat {name}", truth, master, residual / master.noise)


CHECKS: Mapping[str, Callable[[Truth, _Master], Iterator[Finding]]] = {
    "bias": _check_bias,
    "dark": _check_dark,
    "flat": _check_flat,
}


def _mean_residual(what: str, residual: Plane, good: Plane, unit: str) -> Finding:
    mean, error = _mean_by_rows(residual, good)
    return Finding(
        what,
        "mean residual 0",
        f"{mean:+.2g} +- {error:.1g} {unit} ({mean / error:+.1f} sigma)",
        abs(mean) < Z_MOST * error,
    )


def _mean_by_rows(values: Plane, good: Plane) -> tuple[float, float]:
    """Return a mean and its standard error; pixels of one row share the error of its overscan."""
    rows = np.array([row[use].mean() for row, use in zip(values, good, strict=True) if use.any()])
    return float(rows.mean()), float(rows.std(ddof=1) / math.sqrt(rows.size))


def _events(what: str, truth: Truth, master: _Master, pulls: Plane) -> Iterator[Finding]:
    """Look for cosmic rays and the trail of a satellite in a master, `pulls` sigmas off truth."""
    crossed = [truth.trail(name) for name in master.names]
    for event, pixels in (
        ("cosmic rays", [truth.cosmic_rays(name) for name in master.names]),
        ("satellite trail", crossed),
    ):
        planted = _joined(pixels)
        if planted.y.size:
            here = pulls[planted.y, planted.x]
            left = int((here > PULL_MOST).sum())
            yield Finding(
                f"{event} in {what}",
                f"{planted.y.size} pixels",
                f"{left} left; the worst {here.max():.1f} sigma above truth",
                not left,
            )


def _joined(lists: list[Pixels]) -> Pixels:
    return Pixels(*(np.concatenate(parts) for parts in zip(*lists, strict=True)))


def _sky(truth: Truth, plan: Plan, out: Path) -> Finding:
    """Compare the median of each calibrated frame with the light of its sky."""
    ratios = {}
    for product in plan.products:
        path = out / product.output
        if product.kind == "science" and path.exists():
            shot = truth.shot(Path(product.exposures[0].path).name)
            image = masters.open_master(path)[""]
            level = float(np.median(_pixels(image.data)[_mask(image) == 0]))
            ratios[shot.name] = level * truth.spec.camera.gain / shot.light
    wanted = sum(shot.kind == "science" and not shot.wrong for shot in truth.shots)
    worst = max((abs(ratio - 1) for ratio in ratios.values()), default=math.nan)
    return Finding(
        "sky of calibrated frames",
        f"{wanted} frames",
        f"{len(ratios)} frames, the worst {worst:.2%} off",
        len(ratios) == wanted and worst < SKY_MISS,
    )


def _bad_frames(truth: Truth, plan: Plan, report: run.Report, out: Path) -> Iterator[Finding]:
    """Look up what was said of each file that is no use."""
    said = {Path(item.path).name: item.reason for item in (*plan.left_out, *plan.problems)}
    made = {outcome.name for outcome in report.outcomes if outcome.state == "made"}
    for product in plan.products:
        names = {Path(item.path).name for item in product.exposures}
        if names <= truth.bad.keys():
            said |= dict.fromkeys(names, f"apart, in {Path(product.name).name}")
        elif product.name in made and product.kind != "science":
            rows = tables.read_inputs(out / product.output)
            said |= {Path(row.path).name: row.status for row in rows if not row.kept}
    for name, wrong in truth.bad.items():
        reason = said.get(name, "")
        short = reason.replace(f"{truth.night.absolute()}/", "").split("; ")[0]
        yield Finding(name, wrong, short or "used like a good one", bool(reason))


def _table(title: str, findings: Sequence[Finding]) -> str:
    rows = [
        (item.what, item.planted, item.found, "pass" if item.passed else "FAIL")
        for item in findings
    ]
    return console.table((title, "planted", "found", ""), rows)


def _next_steps(folder: Path, plan: Plan, out: Path) -> str:
    paths = [
        out / item.output
        for item in plan.products
        if item.kind != "science" and len(item.exposures) >= item.recipe.min_frames
    ]
    return "\n".join(
        [
            "\nLook at the masters:",
            *(f"  {path}" for path in paths),
            "and at why each frame is in or out:",
            f"  masterframe plan {folder / 'night'} -o {folder / 'reduced'}\n",
        ]
    )
