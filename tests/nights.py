"""A tiny raw night that reduces in a moment, and ways to reduce it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
from astropy.io import fits

from masterframe import run, store
from masterframe.cli import main
from masterframe.config import load_config
from support import ROOT

SHAPE = 24, 36
LEVELS = {"bias": 100, "dark": 110, "flat": 9000, "science": 400}
IMAGETYP = {"bias": "Bias Frame", "dark": "Dark Frame", "flat": "Flat Field", "science": "Light"}
EXPTIME = {"bias": 0.0, "dark": 30.0, "flat": 2.0, "science": 30.0}
SPREAD = 8
"""Half the range of the values of a frame about its level (adu)."""


def raw(path, kind="bias", seed=0, *, shape=SHAPE, level=None, dtype=np.uint16, **cards):
    """Write a raw frame; a card given as None is left out, ``_`` in a keyword stands for ``-``."""
    level = LEVELS[kind] if level is None else level
    values = np.random.default_rng(seed).integers(level - SPREAD, level + SPREAD, shape)
    hdu = fits.PrimaryHDU(values.astype(dtype))
    usual = {
        "IMAGETYP": IMAGETYP[kind],
        "EXPTIME": EXPTIME[kind],
        "DATE-OBS": f"2026-01-02T03:04:{seed % 60:02d}",
        "INSTRUME": "TinyCam",
    }
    if kind in ("flat", "science"):
        usual["FILTER"] = "V"
    for key, value in {**usual, **{k.replace("_", "-"): v for k, v in cards.items()}}.items():
        if value is not None:
            hdu.header[key] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    hdu.writeto(path, output_verify="ignore")
    return path


def night(folder, *, bias=5, dark=0, flat=5, science=1):
    """Write a night; frames are named ``bias_0.fits`` and so on."""
    for kind, count in {"bias": bias, "dark": dark, "flat": flat, "science": science}.items():
        for index in range(count):
            raw(folder / f"{kind}_{index}.fits", kind, 60 * list(LEVELS).index(kind) + index)
    return folder


def make_plan(folder, *overrides):
    """Return the configuration and the plan of a night."""
    config = load_config(None, overrides)
    return config, run.plan_nights([folder], config)


def reduce_plan(plan, config, out, *, force=False, reporter=None):
    """Make the products of a plan; return the outcomes by the last part of their name."""
    with store.open_resources(workers=2, memory=4 << 30, reporter=reporter) as resources:
        report = run.run_plan(plan, config, out, resources, force=force)
    return {outcome.name.rpartition("/")[2]: outcome for outcome in report.outcomes}


def reduce_night(folder, out, *overrides, force=False, reporter=None):
    """Scan, plan and reduce a night; return the outcomes by the last part of their name."""
    config, plan = make_plan(folder, *overrides)
    return reduce_plan(plan, config, out, force=force, reporter=reporter)


def states(outcomes):
    """Return the state of each outcome."""
    return {name: outcome.state for name, outcome in outcomes.items()}


def files_in(folder):
    """Return the files below a folder but for what runs keep and report, by their path in it."""
    found = (path.relative_to(folder) for path in Path(folder).rglob("*") if not path.is_dir())
    return sorted(str(path) for path in found if path.parts[0] not in (".masterframe", "report"))


def call(capsys, monkeypatch, *arguments):
    """Run the command line in this process; return its exit code, output and errors."""
    monkeypatch.setattr(sys, "argv", ["masterframe", *map(str, arguments)])
    capsys.readouterr()
    code = 0
    try:
        main()
    except SystemExit as end:
        code = end.code or 0
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    return code, out, err


COMMAND = (sys.executable, "-c", "from masterframe.cli import main; main()")


def listen_to_interrupts():
    """Let a process end by Ctrl-C also where the tests run in the background, which ignores it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def start(*arguments, prefix="", environment=None, **options):
    """Start the command line in a process of its own, after shell commands where some are given."""
    command = [*COMMAND, *map(str, arguments)]
    if prefix:
        command = ["/bin/sh", "-c", f'{prefix}; exec "$@"', "sh", *command]
    kept = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "MASTERFRAME_CACHE")}
    options.setdefault("stdout", subprocess.PIPE)
    options.setdefault("stderr", subprocess.PIPE)
    options.setdefault("preexec_fn", listen_to_interrupts)
    return subprocess.Popen(command, env=kept | (environment or {}), cwd=ROOT, **options)


def finish(process):
    """Wait for a process; return its exit code, output and errors."""
    out, err = process.communicate(timeout=240)
    assert b"Traceback" not in (out or b"") + (err or b"")
    return process.returncode, (out or b"").decode(), (err or b"").decode()
