"""Compiled code on disk, and the registry that needs none of it."""

from __future__ import annotations

import math
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from masterframe import kernels
from masterframe.errors import UsageError
from masterframe.kernels import cache, resolve_rejection
from masterframe.kernels.native import kernel
from masterframe.model import Rejection

NATIVE = """
import sys
import numpy as np
from masterframe.kernels import cache, make_native
a = np.array([1, 256, 0x1234], np.uint16)
make_native(a)
assert a.tolist() == [256, 1, 0x3412]
print(cache.folder(), "numba" in sys.modules)
"""


class Given(NamedTuple):
    array: Any
    numbers: Any
    nothing: Any
    nested: Any


@kernel
def _tell(given: Any, out: Any) -> None:
    a, b, c, d, e, f = given.numbers
    out[0], out[1], out[2], out[3], out[4], out[5] = a, b, c, d, e, f
    out[6] = given.array[3, 2]
    out[7] = given.nested[0].array.size
    if given.nothing is None:
        given.array[0, 0] = 99.0


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
    first = run(NATIVE, MASTERFRAME_CACHE=str(tmp_path)).stdout.split()
    second = run(NATIVE, MASTERFRAME_CACHE=str(tmp_path)).stdout.split()
    folder = Path(first[0])
    assert folder == Path(second[0]) == tmp_path / cache.stamp()
    assert first[1:] == ["True"]
    assert second[1:] == ["False"]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_default_path_is_ready_for_the_next_process() -> None:
    kernels.warm_up()
    code = """
import sys
from masterframe.kernels import warm_up
warm_up()
print("numba" in sys.modules)
"""
    assert run(code, MASTERFRAME_CACHE=str(cache.folder().parent)).stdout.split() == ["False"]


ALL_PATHS = """
import sys
import numpy as np
from astropy.io import fits
import masterframe as mf
from masterframe.cli import main
from masterframe.kernels import make_native

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
make_native(np.arange(4, dtype=np.uint16))
print("NUMBA", "numba" in sys.modules)
"""


def test_a_warm_start_compiles_nothing_on_any_path(tmp_path: Path) -> None:
    """Not a function, not a part of one, not a rule: combine, explain, marks, native values."""
    code = f"import os; os.chdir({str(tmp_path)!r})\n{ALL_PATHS}"
    environment = {"MASTERFRAME_CACHE": str(cache.folder().parent)}
    run(code, **environment)
    assert run(code, **environment).stdout.split()[-2:] == ["NUMBA", "False"]


@pytest.mark.parametrize(
    "harm", [lambda code: code[:-1], lambda code: b"", lambda code: b"\0" + code]
)
def test_a_damaged_file_is_compiled_again(tmp_path: Path, harm: Any) -> None:
    first = run(NATIVE, MASTERFRAME_CACHE=str(tmp_path)).stdout.split()
    (path,) = Path(first[0]).glob("stored.*")
    whole = path.read_bytes()
    path.write_bytes(harm(whole))
    assert run(NATIVE, MASTERFRAME_CACHE=str(tmp_path)).stdout.split()[1:] == ["True"]
    assert path.read_bytes().partition(b"\n")[2] != b""
    assert run(NATIVE, MASTERFRAME_CACHE=str(tmp_path)).stdout.split()[1:] == ["False"]


def test_that_something_is_compiled_is_said_once(tmp_path: Path) -> None:
    code = """
import numpy as np
from masterframe.kernels import announced, make_native
with announced(print):
    make_native(np.ones(2, np.uint16))
    make_native(np.ones(2, np.uint32))
"""
    (line,) = run(code, MASTERFRAME_CACHE=str(tmp_path)).stdout.splitlines()
    assert line.startswith("compiling: ")
    assert run(code, MASTERFRAME_CACHE=str(tmp_path)).stdout == ""


def test_arguments_reach_compiled_code_as_they_are() -> None:
    """Numbers of every type, arrays with and without gaps, tuples within tuples, and None."""
    given = Given(
        array=np.arange(24, dtype=np.float32).reshape(4, 6)[:, 1:4],
        numbers=(np.uint16(65535), np.int8(-3), np.float32(0.1), -(2**62), 1e300, True),
        nothing=None,
        nested=(Given(np.ones(0, np.int64), (), None, ()),),
    )
    out = np.zeros(8)
    _tell(given, out)
    expected = [65535, -3, float(np.float32(0.1)), -(2**62), 1e300, 1.0, given.array[3, 2], 0.0]
    assert out.tolist() == expected
    assert given.array[0, 0] == 99.0  # an array is itself, no copy


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
from masterframe.kernels import make_native
kind = np.dtype(sys.argv[1])
print(make_native(np.ones(4, kind), 0, range(4)))
"""
    expected = {"u1": 0x01010101, "u2": 2 * 0x01000100}

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
        done = run(NATIVE, **environment)
        assert done.stderr.count("compiled kernels cannot be kept in") == 1
        assert "masterframe-kernels-" in done.stdout
        assert not Path(done.stdout.split()[0]).exists()  # removed with the process


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
