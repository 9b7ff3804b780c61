"""Compiled code on disk, and the registry that needs none of it."""

from __future__ import annotations

import math
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from masterframe import kernels
from masterframe.errors import UsageError
from masterframe.kernels import cache, resolve_rejection
from masterframe.model import Rejection

SWAP = """
import numpy as np
from masterframe.kernels import cache, swap, swap16
a = np.array([1, 256, 0x1234], np.uint16)
swap16(a)
assert a.tolist() == [256, 1, 0x3412]
stats = swap._swap16.stats
print(cache.folder(), sum(stats.cache_hits.values()), sum(stats.cache_misses.values()))
"""


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {k: v for k, v in os.environ.items() if not k.startswith(("XDG", "MASTERFRAME_CACHE"))}
    return subprocess.run(
        [sys.executable, "-c", code],
        env=env | environment,
        capture_output=True,
        text=True,
        check=True,
    )


def test_second_process_compiles_nothing(tmp_path: Path) -> None:
    first = run(SWAP, MASTERFRAME_CACHE=str(tmp_path)).stdout.split()
    second = run(SWAP, MASTERFRAME_CACHE=str(tmp_path)).stdout.split()
    folder = Path(first[0])
    assert folder == Path(second[0]) == tmp_path / cache.stamp()
    assert first[1:] == ["0", "1"]
    assert second[1:] == ["1", "0"]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_default_path_is_ready_for_the_next_process() -> None:
    kernels.warm_up()
    code = """
from masterframe.kernels import combine, warm_up
warm_up()
print(sum(combine._combine.stats.cache_misses.values()))
"""
    assert run(code, MASTERFRAME_CACHE=str(cache.folder().parent)).stdout.split() == ["0"]


ALL_PATHS = """
import gc, sys
import numpy as np
from astropy.io import fits
from numba.core.ccallback import CFunc
from numba.core.dispatcher import Dispatcher
import masterframe as mf
from masterframe.cli import main
from masterframe.kernels import swap16, swap_unsigned16, word_sums

def call(*words):
    sys.argv = ["masterframe", *words]
    try:
        main()
    except SystemExit as end:
        assert not end.code, words

rng = np.random.default_rng(1)
for kind in ("uint16", "float32"):
    names = [f"{kind}_{k}.fits" for k in range(6)]
    for name in names:
        fits.writeto(name, rng.normal(500, 9, (12, 14)).round().astype(kind), overwrite=True)
    for label, options in (("plain", []), ("marks", ["--reject", "linearfit"]),
                           ("grown", ["--grow", "1"])):
        out = f"{kind}_{label}.fits"
        call("combine", *names, "-o", out, "--overwrite", *options)
        call("explain", out, "3", "4")
swap16(np.arange(4, dtype=np.uint16))
swap_unsigned16(np.arange(4, dtype=np.int16))
word_sums(np.ones((1, 1, 4), np.uint16))
ours = [d for d in gc.get_objects() if issubclass(type(d), Dispatcher)
        and d.py_func.__module__.startswith("masterframe")]
kept = [d for d in ours if d.stats.cache_path is not None]
pointers = [c for c in gc.get_objects() if issubclass(type(c), CFunc)]
print("KEPT", len(kept), sum(len(d.overloads) for d in kept))
print("MISSES", sum(sum(d.stats.cache_misses.values()) for d in ours))
print("PARTS", sum(len(d.overloads) for d in ours if d not in kept))
print("POINTERS", len(pointers), sum(c.cache_hits for c in pointers))
"""


def test_a_warm_start_compiles_nothing_on_any_path(tmp_path: Path) -> None:
    """Not a function, not a part of one, not a rule: combine, explain, marks, checksum, swap."""
    code = f"import os; os.chdir({str(tmp_path)!r})\n{ALL_PATHS}"
    environment = {"MASTERFRAME_CACHE": str(cache.folder().parent)}
    run(code, **environment)
    lines = [line.split() for line in run(code, **environment).stdout.splitlines()]
    said = {
        words[0]: [int(word) for word in words[1:]]
        for words in lines
        if words and words[0].isupper()
    }
    assert said["KEPT"][1] >= 10
    assert said["MISSES"] == [0]
    assert said["PARTS"] == [0]
    pointers, loaded = said["POINTERS"]
    assert pointers == loaded > 4


def test_an_edited_rule_takes_effect_and_nothing_is_written_beside_it(tmp_path: Path) -> None:
    """An install that cannot be written to; all that is compiled goes into the cache."""
    package = tmp_path / "installed" / "masterframe"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(Path(kernels.__file__).parents[1], package, ignore=ignored)
    rule = package / "kernels" / "rules" / "minmax.py"
    code = """
import numpy as np
from masterframe.kernels import Floor, LoadTerms, combine_block
from masterframe.model import Recipe, Rejection
raw = np.arange(7, dtype=np.uint16).reshape(7, 1, 1)
recipe = Recipe(Rejection("minmax", nlow=1))
print(combine_block(raw, LoadTerms(), recipe, Floor(), np.arange(7)).count[0, 0])
"""
    environment = {
        "PYTHONPATH": str(package.parent),
        "PYTHONDONTWRITEBYTECODE": "1",
        "MASTERFRAME_CACHE": str(tmp_path / "cache"),
    }

    def count() -> int:
        before = sorted(package.rglob("*"))
        for path in before:
            path.chmod(0o555 if path.is_dir() else 0o444)
        found = int(run(code, **environment).stdout)
        assert sorted(package.rglob("*")) == before
        for path in before:
            path.chmod(0o755 if path.is_dir() else 0o644)
        return found

    assert count() == 6
    rule.write_text(rule.read_text().replace("return low, high", "return low + 2, high"))
    assert count() == 4
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_processes_that_compile_at_once(tmp_path: Path) -> None:
    """Three processes, two signatures of one function: none fails, nor does any that follows."""
    code = """
import sys
import numpy as np
from masterframe.kernels import word_sums
kind = np.dtype(sys.argv[1])
print(int(word_sums(np.ones((1, 1, 4), kind))[0]))
"""
    expected = {"u1": 0x01010101, "u2": 2 * 0x00010001}

    def start(kind: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", code, kind],
            env=os.environ | {"MASTERFRAME_CACHE": str(tmp_path)},
            stdout=subprocess.PIPE,
            text=True,
        )

    kinds = ["u1", "u2", "u1"]
    for jobs in ([start(kind) for kind in kinds], [start(kind) for kind in kinds[:2]]):
        answers = [int(job.communicate()[0]) for job in jobs]
        assert answers == [expected[kind] for kind in kinds[: len(jobs)]]


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="needs POSIX permissions")
def test_folder_that_cannot_be_used(tmp_path: Path) -> None:
    """A file in its place, no home, or a folder others may write to: a warning, and it works."""
    blocked = tmp_path / "blocked"
    blocked.write_text("")
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    for environment in (
        {"MASTERFRAME_CACHE": str(blocked)},
        {"MASTERFRAME_CACHE": str(shared)},
        {"HOME": "/dev/null"},
    ):
        done = run(SWAP, **environment)
        assert done.stderr.count("compiled kernels cannot be kept in") == 1
        assert "masterframe-kernels-" in done.stdout
        assert not Path(done.stdout.split()[0]).exists()  # removed with the process


def test_cache_stays_out_of_other_functions() -> None:
    import numba

    assert str(cache.folder()) != numba.config.CACHE_DIR


def test_changed_callee_changes_the_stamp(tmp_path: Path) -> None:
    source = Path(kernels.__file__).parents[1]
    package = tmp_path / "masterframe"
    shutil.copytree(source, package, ignore=shutil.ignore_patterns("__pycache__"))
    code = "from masterframe.kernels import cache; print(cache.stamp())"
    stamps = [run(code, PYTHONPATH=str(tmp_path)).stdout]
    rule = package / "kernels" / "rules" / "minmax.py"
    rule.write_text(rule.read_text() + "\n# changed\n")
    stamps.append(run(code, PYTHONPATH=str(tmp_path)).stdout)
    assert stamps[0].strip() == cache.stamp()
    assert stamps[1] != stamps[0]


def test_registry_needs_no_numba() -> None:
    code = "import sys, masterframe.kernels.registry; print('numba' in sys.modules)"
    assert run(code).stdout.split() == ["False"]


@pytest.mark.parametrize(
    "rejection",
    [
        Rejection(),
        Rejection("none"),
        Rejection("threshold", low=-10.0, high=60000.0),
        Rejection("minmax", nlow=1, nhigh=2, nkeep=0),
        Rejection(low=math.inf, high=3.0, center="mean", deviation="std", ddof=1, max_iters="all"),
    ],
)
def test_rejections_that_are_valid(rejection: Rejection) -> None:
    resolve_rejection(rejection)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rule": "sigmaclip"}, "rejection rule sigmaclip is unknown: did you mean sigma"),
        ({"rule": "median"}, "rejection rule median is unknown: there are none, "),
        ({"rule": "minmax", "low": 3.0}, "'minmax' does not read low = 3.0; it reads nlow"),
        ({"rule": "none", "nkeep": 2}, "'none' does not read nkeep = 2; it has no options"),
        ({"low": 0.0}, "low is 0; it must be above 0, or off"),
        ({"high": float("nan")}, "high is not a number"),
        ({"nkeep": -1}, "nkeep is -1; it may be 0 or more"),
        ({"max_iters": 0}, "max_iters is 0; it may be 1 or more"),
        ({"center": "mode"}, "center mode is unknown: there are median, mean"),
        ({"rule": "threshold", "low": 9.0, "high": 3.0}, "keeps nothing: low is 9, above high, 3"),
    ],
)
def test_rejections_that_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        resolve_rejection(Rejection(**options))
