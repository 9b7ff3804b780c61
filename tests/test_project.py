"""The project's files agree with each other, and the source keeps to its own rules."""

import ast
import os
import platform
import re
import subprocess
import sys
import tomllib
from importlib import metadata

import pytest
import yaml
from packaging.requirements import Requirement

import masterframe
from support import ROOT

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SOURCE = ROOT / "src" / "masterframe"
LONGEST = 60
CONDA_NAMES = {"matplotlib": "matplotlib-base"}  # conda's `matplotlib` brings a GUI toolkit


def test_the_version_stands_in_one_place():
    assert PYPROJECT["project"]["dynamic"] == ["version"]
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.dev\d+|rc\d+)?", masterframe.__version__)
    holders = [
        file.relative_to(ROOT).as_posix()
        for pattern in ("*.toml", "*.yml", "*.md", "src/**/*.py", "src/**/*.yaml")
        for file in ROOT.glob(pattern)
        if masterframe.__version__ in file.read_text(encoding="utf-8")
    ]
    assert set(holders) - {"CHANGELOG.md"} == {"src/masterframe/__init__.py"}


def test_the_license_is_what_the_metadata_say():
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert text.startswith("BSD 3-Clause License")
    assert PYPROJECT["project"]["license"] == "BSD-3-Clause"
    assert PYPROJECT["project"]["license-files"] == ["LICENSE"]


def test_the_changelog_has_a_place_for_what_comes():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    sections = re.findall(r"^## \[(.+?)\]", text, flags=re.MULTILINE)
    assert sections[0] == "Unreleased"
    kinds = set(re.findall(r"^### (.+)$", text, flags=re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_conda_and_pip_ask_for_the_same():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    conda = {entry for entry in environment["dependencies"] if isinstance(entry, str)}
    expected = {"pip", f"python{PYPROJECT['project']['requires-python']}"}
    for requirement in PYPROJECT["project"]["dependencies"]:
        name, bound = re.fullmatch(r"([\w.-]+)(?:\[\w+\])?(.*)", requirement).groups()
        expected.add(CONDA_NAMES.get(name, name) + bound)
    assert conda == expected


def test_what_conda_is_asked_for_can_run_this():
    """The environment that these tests run in is one that the file would allow."""
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    assert set(environment) == {"name", "channels", "dependencies"}
    pip_names = {conda: name for name, conda in CONDA_NAMES.items()}
    for entry in environment["dependencies"]:
        if not isinstance(entry, str):
            assert list(entry) == ["pip"]
            continue
        asked = Requirement(entry)  # of pip's forms conda knows names with bounds alone
        assert (asked.marker, asked.extras, asked.url) == (None, set(), None), entry
        if not asked.specifier:
            assert entry == "pip"
            continue
        name = pip_names.get(asked.name, asked.name)
        found = platform.python_version() if name == "python" else metadata.version(name)
        assert asked.specifier.contains(found), (entry, found)


def test_no_function_is_long():
    long = []
    for file in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            documented = ast.get_docstring(node, clean=False) is not None
            first = node.body[1 if documented and len(node.body) > 1 else 0]
            lines = node.end_lineno - first.lineno + 1
            if lines > LONGEST:
                long.append(f"{file.relative_to(SOURCE)}:{node.lineno} {node.name}: {lines} lines")
    assert long == []


def test_every_make_target_is_explained():
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.search(r"^\.PHONY: (.+)$", text, flags=re.MULTILINE).group(1).split()
    explained = re.findall(r"^([a-z-]+):.*## \S", text, flags=re.MULTILINE)
    assert sorted(targets) == sorted(explained)


@pytest.mark.parametrize("require", ["", "all"])
def test_nothing_is_skipped_where_all_is_required(tmp_path, require):
    for name in ("conftest.py", "support.py"):
        (tmp_path / name).write_bytes((ROOT / "tests" / name).read_bytes())
    (tmp_path / "test_by_name.py").write_text(
        "import pytest\nfrom support import program\n\n"
        "def test_program():\n    program('no-such-program-here')\n\n"
        "@pytest.mark.skip(reason='planted')\ndef test_mark():\n    pass\n\n"
        "@pytest.mark.xfail\ndef test_known():\n    raise AssertionError\n"
    )
    (tmp_path / "test_module.py").write_text("import pytest\npytest.importorskip('no_such_module')")
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "--continue-on-collection-errors", tmp_path],
        cwd=tmp_path,
        env=os.environ | {"MASTERFRAME_REQUIRE": require},
        check=False,
        capture_output=True,
        text=True,
    )
    expected = "1 failed, 1 xfailed, 2 errors" if require else "3 skipped, 1 xfailed"
    assert expected in result.stdout.splitlines()[-1], result.stdout
