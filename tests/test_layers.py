"""The layers of the package, and a check that every import keeps to them.

A module or subpackage imports only from layers below its own, third-party packages only where they
are at home, and inside a function only what would slow the start.
"""

import ast
import graphlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from support import ROOT

PACKAGE = "masterframe"
SOURCE = ROOT / "src" / PACKAGE

LAYERS = (
    {"errors", "names", "portable"},
    {"model", "quantiles"},
    {"tiling", "matching", "paths", "progress", "kernels", "overscan", "readout", "scratchfolder"},
    {"ahead", "fits", "cluster", "console", "scaling", "dialects"},
    {"assembly", "framestack", "frameindex", "masterrows", "offsets"},
    {"journal", "inventory", "stack", "calibrate", "variance", "simulate", "plan", "jobs"},
    {"samples"},
    {"cell", "finish", "calibrated", "freshness", "levels", "provenance", "runlog", "events"},
    {"combine", "quality", "pixelplot"},
    {"masterfile", "unpacking"},
    {"store", "explain", "imagejobs"},
    {"screening"},
    {"config", "report", "products", "forecast", "request"},
    {"walk"},
    {"run", "direct", "night", "xarray_api"},
    {"compat", "demo", "doctor", "fromstack", "listing", "pixeltext", "status", "template"},
    {"cli"},
    {"__main__"},
)
LAYER_OF = {unit: layer for layer, units in enumerate(LAYERS) for unit in units}
FACADE = "__init__"  # masterframe/__init__.py: gives names of all layers, each when it is asked for

ANYWHERE = set(LAYER_OF) - {"errors"}
HOMES = {
    "numpy": ANYWHERE,
    "numba": {"kernels"},
    "llvmlite": {"kernels"},
    "isal": {"fits"},
    "astropy": {
        "compat",
        "fits",
        "simulate",
        "xarray_api",
    },  # two writers: a fault in one cannot hide in the other
    "distributed": {"cluster"},
    "dask_jobqueue": {"cluster"},
    "dask": {"cluster", "compat", "stack", "combine", "explain", "xarray_api"},
    "xarray": {"stack", "frameindex", "combine", "explain", "xarray_api", "fromstack"},
    "matplotlib": {"pixelplot"},
    "jinja2": {"report"},
    "pydantic": {"config"},
    "yaml": {"config"},
    "typer": {"cli"},
    "rich": {"console"},
    "psutil": {"cluster"},
}

# slow to import: these may stand inside a function, anywhere at home
MAY_WAIT = {"astropy", "dask", "dask_jobqueue", "distributed", "jinja2", "matplotlib", "numba"}
MAY_WAIT |= {"psutil", "rich", "xarray"}
LAZY = {FACADE, "kernels"}  # these modules may import any that they may, inside a function
LAZY |= {f"cli.{name}" for name in ("combine", "masters", "nights", "terminal", "trial")} | {"cli"}
LAZY |= {"doctor"}  # says what is missing, so that nothing may be missing to start it
LAZY |= {"xarray_api.engine"}  # xarray starts it whenever a user opens any file

LIGHT = ("errors", "model", "tiling", "kernels.registry", "kernels.small", "config", "cli")
LIGHT += ("direct", "night", "run", "listing", "status", "report")
HEAVY = ("astropy", "dask", "distributed", "matplotlib", "numba", "xarray")


@dataclass(frozen=True)
class Import:
    """One name that a module imports."""

    importer: str
    """Dotted name of the module below the package: ``fits.cards``; `FACADE` is the package."""
    line: int
    target: str
    """Dotted name of what is imported, with the name after ``import`` where there is one."""
    inside: bool
    """True inside a function."""

    @property
    def unit(self) -> str:
        """Module or subpackage that imports."""
        return self.importer.split(".")[0]

    def __str__(self) -> str:
        return f"{self.importer}:{self.line} imports {self.target}"


def imported(node: ast.AST, base: list[str]) -> Iterator[str]:
    """Dotted names that a statement imports; `base` is the package that relative ones start at."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        start = base[: len(base) - node.level + 1] if node.level else []
        path = start + ([node.module] if node.module else [])
        yield from (".".join([*path, alias.name]) for alias in node.names)


def walk(node: ast.AST, inside: bool = False) -> Iterator[tuple[ast.AST, bool]]:
    """All nodes, each with whether it stands inside a function."""
    for child in ast.iter_child_nodes(node):
        yield child, inside
        function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        yield from walk(child, inside or function)


def imports_of(source: Path) -> dict[str, list[Import]]:
    """Every module of the package at `source`, with what it imports."""
    found: dict[str, list[Import]] = {}
    for file in sorted(source.rglob("*.py")):
        parts = list(file.relative_to(source).with_suffix("").parts)
        base = [PACKAGE, *parts[:-1]]
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts) or FACADE
        found[name] = [
            Import(name, node.lineno, target, inside)
            for node, inside in walk(ast.parse(file.read_text(encoding="utf-8")))
            for target in imported(node, base)
        ]
    return found


def own_module(target: str, modules: set[str]) -> str | None:
    """The module of the package that `target` is or lies in; None for other packages."""
    if target.split(".", maxsplit=1)[0] != PACKAGE:
        return None
    parts = target.split(".")[1:]
    while parts and ".".join(parts) not in modules:
        parts.pop()
    return ".".join(parts) or FACADE


def check_own(item: Import, module: str) -> str:
    """What is wrong with an import of another module of the package; '' where nothing is."""
    if item.inside and item.importer not in LAZY:
        return f"{item}: inside a function"
    if item.unit == FACADE:
        return "" if item.inside else f"{item}: the package itself imports nothing at once"
    if module == FACADE:
        allowed = item.target == f"{PACKAGE}.__version__"
        return "" if allowed else f"{item}: from the package itself, which is for users"
    unit = module.split(".", maxsplit=1)[0]
    if unit == item.unit or unit not in LAYER_OF or LAYER_OF[unit] < LAYER_OF[item.unit]:
        return ""
    return f"{item}: layer {LAYER_OF[unit]} is not below layer {LAYER_OF[item.unit]}"


def check_third_party(item: Import) -> str:
    """What is wrong with an import of another package; '' where nothing is."""
    package = item.target.split(".")[0]
    if package in sys.stdlib_module_names:
        return f"{item}: inside a function" if item.inside and item.importer not in LAZY else ""
    if package not in HOMES:
        return f"{item}: {package} is not in the table of third-party packages"
    if item.unit not in HOMES[package]:
        return f"{item}: {package} is at home only in {', '.join(sorted(HOMES[package]))}"
    if item.inside and package not in MAY_WAIT and item.importer not in LAZY:
        return f"{item}: inside a function"
    return ""


def cycle(graph: dict[str, set[str]]) -> str:
    """One cycle of the imports, in words; '' where there is none."""
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return "cycle: " + " <- ".join(error.args[1])
    return ""


def violations(source: Path) -> list[str]:
    """All that is wrong with the imports of the package at `source`, a line each."""
    imports = imports_of(source)
    modules = {*imports, *LAYER_OF}
    found = []
    graph: dict[str, set[str]] = {name: set() for name in imports}
    for name, items in imports.items():
        if name.split(".")[0] not in {*LAYER_OF, FACADE}:
            found.append(f"{name} is in no layer")
            continue
        for item in items:
            module = own_module(item.target, modules)
            if module is None:
                found.append(check_third_party(item))
                continue
            found.append(check_own(item, module))
            if FACADE not in {name, module}:
                graph[name].add(module)
    found.append(cycle(graph))
    return [line for line in found if line]


def test_imports_keep_to_the_layers():
    assert violations(SOURCE) == []


def test_the_checker_sees_the_package():
    imports = imports_of(SOURCE)
    assert {FACADE, "errors", "model"} <= set(imports)
    assert any(item.target == "dataclasses.dataclass" for item in imports["model.frames"])


@pytest.mark.parametrize("module", sorted(set(LIGHT) & set(imports_of(SOURCE))))
def test_light_modules_start_without_heavy_packages(module):
    code = f"import sys, {PACKAGE}.{module}; print(*set({HEAVY!r}) & set(sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout.split()
    assert loaded == []


def not_below(imported, importer):
    """What is said of an import that points upwards, or sideways."""
    return f"layer {LAYER_OF[imported]} is not below layer {LAYER_OF[importer]}"


PLANTED = {
    "upwards": ("model.py", "from masterframe.store import write", not_below("store", "model")),
    "sideways": ("stack.py", "import masterframe.plan", not_below("plan", "stack")),
    "relative": ("fits/cards.py", "from ..run import walk", not_below("run", "fits")),
    "by the package": (
        "journal.py",
        "from masterframe import run",
        not_below("run", "journal"),
    ),
    "from the facade": ("run.py", "from masterframe import open_stack", "which is for users"),
    "of the facade": ("__init__.py", "from masterframe.run import go", "imports nothing at once"),
    "for types": (
        "model.py",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from masterframe.cli import main",
        not_below("cli", "model"),
    ),
    "own module late": (
        "run.py",
        "def go():\n    from masterframe.store import write",
        "inside a function",
    ),
    "standard library late": (
        "run.py",
        "class Run:\n    def go(self):\n        import json",
        "inside a function",
    ),
    "light package late": ("config.py", "def load():\n    import yaml", "inside a function"),
    "far from home": ("store.py", "import numba", "numba is at home only in kernels"),
    "far from home, late": (
        "run.py",
        "def go():\n    import astropy.io.fits",
        "only in compat, fits",
    ),
    "unknown package": ("run.py", "import scipy.ndimage", "scipy is not in the table"),
    "unknown module": ("misc.py", "", "misc is in no layer"),
    "cycle": ("fits/cards.py", "from masterframe.fits import scan", "cycle: "),
}
CLEAN = {
    "__init__.py": "def __getattr__(name):\n    from masterframe import store\n    return store",
    "errors.py": "",
    "model.py": "from masterframe.errors import FrameError\nimport numpy as np",
    "fits/__init__.py": "",
    "fits/cards.py": "from masterframe.model import Frame",
    "fits/scan.py": "from .cards import read\ndef odd():\n    from astropy.io import fits",
    "journal.py": "from masterframe import __version__, model",
    "plan.py": "import masterframe.fits.scan",
    "store.py": "from masterframe.plan import Plan",
    "stack.py": "import dask",
    "kernels/__init__.py": "def combine():\n    from masterframe.kernels.core import run",
    "kernels/core.py": "import numba\nfrom masterframe.model import Recipe",
    "run.py": "from . import store",
    "cli.py": "import typer\ndef main():\n    from masterframe.run import go\n    import json",
}


def write_package(folder: Path, files: dict[str, str]) -> Path:
    source = folder / PACKAGE
    for name, text in files.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(text)
    return source


def test_a_clean_package_passes(tmp_path):
    assert violations(write_package(tmp_path, CLEAN)) == []


@pytest.mark.parametrize("case", PLANTED)
def test_a_planted_violation_is_found(tmp_path, case):
    name, code, expected = PLANTED[case]
    text = f"{CLEAN.get(name, '')}\n{code}\n"
    found = violations(write_package(tmp_path, CLEAN | {name: text}))
    assert any(expected in line for line in found), found
    assert all(expected in line or line.startswith("cycle: ") for line in found), found
