"""What is released: wheel and sdist build, install in an environment of their own, and work."""

import json
import re
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

import masterframe
import nights
from reader import call, dependencies, environment
from support import ROOT

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The sdist of the checkout, and the wheel that is built of that sdist."""
    folder = tmp_path_factory.mktemp("dist")
    call(sys.executable, "-m", "build", "--outdir", folder, ROOT)
    (wheel,) = folder.glob("*.whl")
    (sdist,) = folder.glob("*.tar.gz")
    return wheel, sdist


@pytest.mark.slow
def test_the_wheel_holds_all_that_the_program_reads(built):
    wheel, sdist = built
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if name.startswith("masterframe/")}
    source = ROOT / "src"
    wanted = {
        path.relative_to(source).as_posix()
        for path in source.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert held == wanted
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for name in ("README.md", "LICENSE", "CITATION.cff", "mkdocs.yml", "tests/test_release.py"):
        assert name in names
    assert "docs/tutorial.md" in names
    assert not [name for name in names if "shared" in name or name.startswith(".ci")]


@pytest.mark.slow
def test_the_wheel_works_in_an_environment_of_its_own(built, tmp_path):
    """pip installs it; dependencies are links to those of this environment, to save minutes."""
    programs = environment(tmp_path / "environment", dependencies(tmp_path / "dependencies"))
    python = programs / "python"
    call(python, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", built[0])

    where = call(python, "-c", "import masterframe; print(masterframe.__file__)", cwd=tmp_path)
    assert where.startswith(str(tmp_path / "environment"))
    program = programs / "masterframe"
    assert call(program, "--version").split()[-1] == masterframe.__version__
    night = nights.night(tmp_path / "night", science=0, flat=0)
    told = call(program, "run", night, "-o", tmp_path / "out", "--json")
    document = json.loads(told)
    assert [product["state"] for product in document["products"]] == ["made"]
    assert Path(document["report"]).exists()
    engines = "import xarray; print(*xarray.backends.list_engines())"
    assert "masterframe" in call(python, "-c", engines).split()


@pytest.mark.slow
def test_what_conda_leaves_to_pip_installs_the_program(built, tmp_path):
    """As conda does: a file of requirements beside environment.yml, and pip told to install it."""
    with tarfile.open(built[1]) as archive:
        archive.extractall(tmp_path, filter="data")
    (project,) = tmp_path.iterdir()
    asked = yaml.safe_load((project / "environment.yml").read_text(encoding="utf-8"))
    (left,) = (entry["pip"] for entry in asked["dependencies"] if isinstance(entry, dict))
    (project / "requirements.txt").write_text("".join(f"{line}\n" for line in left))
    programs = environment(tmp_path / "environment", dependencies(tmp_path / "dependencies"))
    call(
        programs / "python", "-m", "pip", "install", "--quiet", "--no-deps", "--upgrade",
        "--requirement", "requirements.txt", cwd=project,
    )  # fmt: skip
    told = call(programs / "masterframe", "--version", cwd=tmp_path)
    assert told.split()[-1] == masterframe.__version__
    where = call(programs / "python", "-c", "import masterframe; print(masterframe.__file__)")
    assert where.startswith(str(project))


def test_the_citation_is_that_of_the_project():
    """The fields that CITATION.cff 1.2.0 asks for, and what they have in common with the rest."""
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["cff-version"] == "1.2.0"
    assert citation["message"]
    assert citation["title"].startswith("masterframe")
    assert citation["authors"] == PYPROJECT["project"]["authors"]
    assert citation["license"] == PYPROJECT["project"]["license"]
    assert citation["type"] == "software"
    known = {"cff-version", "message", "title", "type", "authors", "license", "keywords"}
    assert set(citation) <= known | {
        "version",
        "date-released",
        "doi",
        "repository-code",
        "abstract",
    }


def test_the_changelog_has_the_version():
    """A development version is what stands under Unreleased; a release has a section and a date."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    sections = re.findall(r"^## \[(.+?)\](?: - (\d{4}-\d\d-\d\d))?$", text, flags=re.MULTILINE)
    if ".dev" in masterframe.__version__:
        assert sections[0] == ("Unreleased", "")
    else:
        assert any(name == masterframe.__version__ and date for name, date in sections)
