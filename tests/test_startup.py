"""What a process loads: nothing for a bare import, and for a command only what it works with."""

import json
import subprocess
import sys

import pytest

from stacks import raw_frames, write_frames

HEAVY = ("astropy", "dask", "numba", "numpy", "pandas", "xarray")
NOT_FOR_THREADS = (
    *("dask", "distributed", "xarray", "pandas", "matplotlib", "jinja2", "rich"),
    *("astropy.table", "scipy.linalg", "numba"),
)
COMMAND = """
import json, sys
from masterframe.cli import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
print(json.dumps(sorted(sys.modules)), file=sys.stderr)
"""


def loaded(code: str, *arguments: str) -> set[str]:
    """Return the modules that a process holds at its end; it prints them last."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], check=True, capture_output=True, text=True
    )
    return set(json.loads(done.stderr.splitlines()[-1]))


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = "import json, sys, masterframe; print(json.dumps(sorted(sys.modules)), file=sys.stderr)"
    modules = loaded(code)
    assert "masterframe" in modules
    assert modules.isdisjoint(HEAVY)


@pytest.mark.parametrize("words", [["--help"], ["combine", "--help"], ["--version"]])
def test_help_loads_nothing_heavy(words) -> None:
    modules = loaded(COMMAND, *words)
    assert "masterframe.cli" in modules
    assert modules.isdisjoint(HEAVY)


def test_combining_on_threads_loads_no_scheduler_and_compiles_nothing(tmp_path) -> None:
    """The second process finds its kernels compiled, and needs nothing of the compiler."""
    paths = write_frames(tmp_path / "in", raw_frames((5, 12, 14)))
    words = ["combine", *paths, "-o", str(tmp_path / "m.fits"), "--overwrite"]
    loaded(COMMAND, *words)
    modules = loaded(COMMAND, *words)
    assert {"llvmlite.binding", "masterframe.cell"} <= modules
    assert modules.isdisjoint(NOT_FOR_THREADS)
