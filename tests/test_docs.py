"""The documentation is true: its commands run, its tables are the program's, and it builds."""

from __future__ import annotations

import ast
import os
import re
import shlex
import subprocess
import sys
from dataclasses import fields

import numpy as np
import pytest
from astropy.io import fits

import nights
from masterframe import dialects, request
from masterframe.kernels import RULES, least_values
from masterframe.model import Rejection
from support import ROOT

DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
KINDS = {
    **dict.fromkeys(("ddof", "nlow", "nhigh", "nkeep"), int),
    **dict.fromkeys(("pclip", "fraction", "alpha", "snoise"), float),
}
"""Options of the command line that are no text."""


def blocks(kind):
    """Return the fenced blocks of a kind, as (page, text)."""
    return [
        (page.name, text)
        for page in PAGES
        for text in re.findall(rf"```{kind}\n(.*?)```", page.read_text(), re.DOTALL)
    ]


def rows(page, title):
    """Return the cells of the rows of the first table below a title."""
    text = (DOCS / page).read_text().partition(title)[2]
    lines = [line for line in text.splitlines() if line.startswith("|")][2:]
    table = text[text.index("|---") :].partition("\n\n")[0].splitlines()[1:]
    assert lines[: len(table)] == table
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with the files that the pages name."""
    rng = np.random.default_rng(8)
    for kind, level in (("bias", 300), ("flat", 9000)):
        for index in range(1, 13):
            hdu = fits.PrimaryHDU(rng.normal(level, 9, (24, 31)).round().astype(np.uint16))
            hdu.header["EXPTIME"] = 0.0 if kind == "bias" else 5.0
            hdu.header["DATE-OBS"] = f"2024-01-02T03:{index:02}:00"
            hdu.writeto(tmp_path / f"{kind}_{index:02}.fits")
    names = "".join(f"flat_{index:02}.fits\n" for index in range(1, 13))
    (tmp_path / "frames.lis").write_text(names)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_command_runs(folder, capsys, monkeypatch):
    commands = [
        (page, line)
        for page, text in blocks("bash")
        for line in text.splitlines()
        if line.startswith("masterframe ")
    ]
    assert len(commands) > 8
    for page, line in commands:
        code, _, err = nights.call(capsys, monkeypatch, *shlex.split(line)[1:])
        assert code == 0, (page, line, err)


def test_every_piece_of_python_runs(folder):
    pieces = blocks("python")
    assert pieces
    for _, text in pieces:
        exec(compile(text, "docs", "exec"), {})


def test_rules_are_listed_with_their_defaults():
    found = {cells[0].strip("`"): cells[1:] for cells in rows("rules.md", "## The rules")}
    assert list(found) == list(RULES)
    for name, (options, least, _) in found.items():
        spec = RULES[name]
        shown = ", ".join(f"{key} {_word(value)}" for key, value in spec.defaults.items())
        assert options == shown, name
        alone = Rejection(name, nlow=1, nhigh=0) if name == "minmax" else Rejection(name)
        assert int(least) == (least_values(alone) or spec.min_n if name != "threshold" else 1), name
        assert f"\n### {name}\n" in (DOCS / "rules.md").read_text()


def _word(value):
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def test_named_sets_are_what_the_table_says():
    """The options that the table gives are what the name resolves to."""
    listed = set()
    for names, _, ours, _ in rows("moving-over.md", "## Their names for rejections"):
        rule, *options = ours.strip("`").split()
        words = [word.lstrip("-").replace("-", "_") for word in options[::2]]
        given = {
            word: KINDS.get(word, str)(value)
            for word, value in zip(words, options[1::2], strict=True)
        }
        spelled, _ = request.read_recipe({"reject": rule, "noise_floor": "0", **given})
        for name in re.findall(r"`(.*?)`", names):
            named, _ = request.read_recipe({"reject": name})
            for field in fields(Rejection):
                value, wanted = (getattr(x.rejection, field.name) for x in (spelled, named))
                inexact = isinstance(wanted, float) and value != wanted
                assert value == (pytest.approx(wanted, rel=1e-5) if inexact else wanted), name
            found = dialects.find_set(name)
            assert found.gain == given.get("gain")
            assert found.read_noise == given.get("read_noise")
            listed.add(name)
    assert listed == set(dialects.SETS) | set(dialects.SHORT)


def test_tests_that_pages_name_exist():
    named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", (DOCS / "differences.md").read_text())
    assert len(named) > 20
    for file, name in named:
        tree = ast.parse((ROOT / "tests" / file).read_text())
        functions = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        assert name in functions, (file, name)


def test_every_difference_from_ccdproc_is_listed():
    from masterframe.compat.ccdproc import combine

    table = combine.__doc__.partition("Differences from")[2].split("    ====")[2]
    listed = [line[4:24].strip() for line in table.splitlines()[1:] if line[4:5].strip()]
    shown = rows("moving-over.md", "### Differences of masterframe.compat.ccdproc")
    assert [cells[0].replace("`", "") for cells in shown] == listed


def test_the_pages_build_without_a_warning(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path / "site"],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},  # its theme's word on its own future
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    for page in PAGES:
        name = "index.html" if page.stem == "index" else f"{page.stem}/index.html"
        assert (tmp_path / "site" / name).exists()
