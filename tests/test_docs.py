"""The documentation is true: its blocks run, its tables are the program's, and it builds.

Blocks of a page run in their order, in one folder that holds what pages name. ``bash`` and
``python`` are executed in this process, ``sh`` by a shell in a copy of the project, ``yaml`` is
loaded as what it is, and ``text`` is what programs print, formulas and pictures.
"""

from __future__ import annotations

import ast
import glob
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import fields
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import yaml
from astropy.io import fits

import masterframe
import nights
import slurm
from masterframe import dialects, request
from masterframe.config import clusters, json_schema, load_cluster, load_config, load_instrument
from masterframe.fits import masters
from masterframe.kernels import RULES, least_values
from masterframe.model import Rejection
from masterframe.simulate import Camera, NightSpec, simulate_night
from reader import Reader
from support import ROOT
from test_layers import LAYER_OF

DOCS = ROOT / "docs"
README = ROOT / "README.md"
PAGES = sorted(DOCS.rglob("*.md"))
BLOCK = re.compile(r"^```(\S*) *\n(.*?)^```", re.DOTALL | re.MULTILINE)
KINDS = {
    **dict.fromkeys(("ddof", "nlow", "nhigh", "nkeep"), int),
    **dict.fromkeys(("pclip", "fraction", "alpha", "snoise"), float),
}
"""Options of the command line that are no text."""


def rows(page, title):
    """Return the cells of the rows of the first table below a title."""
    text = (DOCS / page).read_text().partition(title)[2]
    lines = [line for line in text.splitlines() if line.startswith("|")][2:]
    table = text[text.index("|---") :].partition("\n\n")[0].splitlines()[1:]
    assert lines[: len(table)] == table
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with the files that the pages name."""
    folder = tmp_path_factory.mktemp("pages")
    rng = np.random.default_rng(8)
    for kind, level in (("bias", 300), ("flat", 9000)):
        for index in range(1, 13):
            hdu = fits.PrimaryHDU(rng.normal(level, 9, (24, 31)).round().astype(np.uint16))
            hdu.header["EXPTIME"] = 0.0 if kind == "bias" else 5.0
            hdu.header["DATE-OBS"] = f"2024-01-02T03:{index:02}:00"
            hdu.writeto(folder / f"{kind}_{index:02}.fits")
    names = "".join(f"flat_{index:02}.fits\n" for index in range(1, 13))
    (folder / "frames.lis").write_text(names)
    camera = Camera(shape=(60, 64), overscan=8)
    spec = NightSpec(camera, bias=10, darks={120.0: 10}, flats={"V": 10}, science={"V": 2}, seed=4)
    simulate_night(folder, spec)
    return folder


@pytest.mark.parametrize(
    "page", [README, *PAGES], ids=lambda page: page.relative_to(ROOT).as_posix()
)
def test_every_block_of_a_page_runs(page, files, tmp_path, capsys, monkeypatch):
    folder = tmp_path / "here"
    shutil.copytree(files, folder)
    monkeypatch.chdir(folder)
    names = {}
    for kind, text in BLOCK.findall(page.read_text()):
        if kind == "bash":
            for line in text.splitlines():
                _run_command(line, capsys, monkeypatch)
        elif kind == "python":
            exec(compile(text, page.name, "exec"), names)
        elif kind == "yaml":
            _load(text)


def _run_command(line, capsys, monkeypatch):
    """Run a command as a shell would, in this process."""
    program, *words = shlex.split(line, comments=True)
    assert program == "masterframe", line
    arguments = [name for word in words for name in sorted(glob.glob(word)) or [word]]
    code, _, err = nights.call(capsys, monkeypatch, *arguments)
    assert code == 0, (line, err)


def shell_lines(page):
    """Return the commands of a page that a shell runs."""
    blocks = BLOCK.findall(page.read_text())
    return [line for kind, text in blocks if kind == "sh" for line in text.splitlines()]


@pytest.fixture(scope="module")
def reader(files, tmp_path_factory):
    """A reader who has the files beside the copy's own."""
    found = Reader.at(tmp_path_factory.mktemp("reader"))
    shutil.copytree(files, found.project, dirs_exist_ok=True)
    return found


CLUSTER = DOCS / "howto" / "cluster.md"


@pytest.mark.slow
def test_every_line_of_a_shell_runs(reader):
    for page in (README, *PAGES):
        for line in shell_lines(page) if page != CLUSTER else ():
            reader.run(line)


@pytest.mark.slow
def test_outputs_of_a_notebook_that_misses_a_program_are_left(reader):
    kept = reader.project / "notebooks" / "4_clusters.ipynb"
    before = kept.read_bytes()
    told = reader.run("make notebooks NOTEBOOKS=notebooks/4_clusters.py", SLURM_CONF="/dev/null")
    assert f"notebooks/{kept.name} is left as it is: no Slurm here" in told
    assert kept.read_bytes() == before


@pytest.mark.slow
@pytest.mark.system
def test_every_line_on_a_cluster_runs(reader):
    """In `configs` the one line is changed that no two clusters have in common."""
    for file in (reader.project / "configs").glob("slurm*.yaml"):
        file.write_text(file.read_text().replace("interface: eth0 ", "interface: lo "))
    batch = {"SBATCH_WAIT": "1", "SBATCH_MEM_PER_CPU": "1G"}  # see its end; on two small nodes
    out = reader.project / "reduced"
    with slurm.private_slurm() as environment:
        for line in shell_lines(CLUSTER):
            shutil.rmtree(out, ignore_errors=True)
            more = batch if line.startswith("sbatch") else {}
            reader.run(line, SLURM_CONF=environment["SLURM_CONF"], **more)
            if not line.startswith("pip"):
                assert (out / "report" / "index.html").exists(), line


PROGRAMS = "bash cd conda cp curl git jupyter make mkdir mv pip python python3 rm sbatch sh srun uv"
COMMAND = re.compile(rf"^\s*([$%] |(masterframe|{PROGRAMS.replace(' ', '|')}) )", re.MULTILINE)


@pytest.mark.parametrize(
    "page", [README, *PAGES], ids=lambda page: page.relative_to(ROOT).as_posix()
)
def test_no_block_of_a_page_is_left_out(page):
    """Every fence is of a kind that runs, and text is not a command that goes by another name."""
    text = page.read_text()
    blocks = BLOCK.findall(text)
    assert 2 * len(blocks) == len(re.findall("```|~~~", text)), "fences that are no blocks"
    for kind, block in blocks:
        assert kind in ("bash", "sh", "python", "yaml", "text"), block
        if kind == "text":
            assert not COMMAND.search(block), block
            assert not re.search(r"^>>>|^(from|import) |^\w+: \S", block, re.MULTILINE), block
    indented = re.findall(r"\n\n((?:    .*\n)+)", text)
    assert not [part for part in indented if COMMAND.search(part)]


@pytest.mark.parametrize(
    "page", [README, *PAGES], ids=lambda page: page.relative_to(ROOT).as_posix()
)
def test_no_command_hides_where_none_is_run(page):
    """Comments of a block name none; sentences name ours, targets of make, scripts that exist."""
    text = page.read_text()
    hidden = rf"\b(?:{PROGRAMS.replace(' ', '|')}|masterframe) [a-z-]+"
    for kind, block in BLOCK.findall(text):
        for line in block.splitlines() if kind in ("bash", "sh") else ():
            told = line.partition("#")[2]
            assert not re.search(hidden.replace("make|", ""), told), line
    for words in re.findall(r"`([^`\n]+)`", BLOCK.sub("", text)):
        program, *rest = words.split()
        if not rest or program not in PROGRAMS.split():
            continue
        if program == "make":
            assert re.search(rf"^{rest[0]}:", (ROOT / "Makefile").read_text(), re.MULTILINE), words
        else:
            assert program == "python", words
            assert (ROOT / rest[0]).exists(), words


def test_commands_within_a_sentence_are_commands(capsys, monkeypatch):
    """Their names and options are those that the help names."""
    for page in (README, *PAGES):
        for words in re.findall(r"`masterframe ([^`]*)`", page.read_text()):
            name, *rest = words.split()
            if name == "--version" or name.isupper():
                continue
            _, told, _ = nights.call(capsys, monkeypatch, name, "--help")
            for word in rest:
                if re.match("--[a-z]", word):
                    option = word.partition("=")[0]
                    assert re.search(rf"{option}\b", told), (page.name, words)


def _load(text):
    """Load a block of YAML as a configuration, a camera or a cluster; keep it if it has a name."""
    named = re.match(r"# (\S+\.yaml)\n", text)
    path = Path(named[1] if named else "block.yaml")
    path.write_text(text)
    keys = set(yaml.safe_load(text))
    if keys & {"cluster", "address"}:
        load_cluster(path)
    elif keys & {"base", "match"}:
        load_instrument(path.name, path.parent)
    else:
        load_config(path)


def test_every_setting_says_what_it_is():
    """The page of settings is made of these descriptions."""
    models = [
        json_schema(),
        *json_schema()["$defs"].values(),
        clusters.ClusterModel.model_json_schema(),
    ]
    silent = [
        (model.get("title"), name)
        for model in models
        for name, item in model["properties"].items()
        if not item.get("description")
    ]
    assert silent == []


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


def test_the_help_of_combine_names_every_rule(capsys, monkeypatch):
    _, out, _ = nights.call(capsys, monkeypatch, "combine", "--help")
    for name in RULES:
        assert re.search(rf"\b{name}\b", out), name


def test_every_plane_is_named_where_one_looks_for_it(capsys, monkeypatch):
    _, out, _ = nights.call(capsys, monkeypatch, "combine", "--help")
    template = (ROOT / "src" / "masterframe" / "template.yaml").read_text()
    planes = rows("reference/fits.md", "## A master of one image")
    listed = {name for cells in planes for name in re.findall(r"`(\w+)`", cells[0])}
    for name in request.PLANES:
        assert re.search(rf"\b{name}\b", out), name
        assert re.search(rf"planes: .*\b{name}\b", template), name
        assert set(masters.hdu_names("", (name,)).values()) <= listed


def test_the_picture_of_the_architecture_is_that_of_the_layers():
    text = (DOCS / "contributing.md").read_text().partition("in one picture")[2]
    picture = text.partition("```text\n")[2].partition("\n\n")[0]
    rows = [re.split(r"\s{3,}", line.strip())[0].split() for line in picture.splitlines()]
    layers = [[LAYER_OF[name] for name in row] for row in rows]
    assert len(layers) > 8
    for above, below in pairwise(layers):
        assert min(above) > max(below)


def test_figures_beside_other_programs_are_those_that_were_measured():
    measured = (ROOT / "benchmarks" / "README.md").read_text()
    table = rows("comparison.md", "## Speed and memory")
    assert len(table) == 7
    for cells in table:
        assert f"| {' | '.join(cells)}".strip() in measured
    found = {cells[0].split()[0].strip(","): cells for cells in table}
    ours = float(found["masterframe"][2])
    for _, ratio, seconds, rate, _ in table:
        assert float(ratio) == pytest.approx(float(seconds) / ours, rel=0.04)
        assert float(rate) == pytest.approx(60 * 4096**2 / float(seconds) / 1e6, rel=0.03)
    for column, title, unit in ((1, "wall time", ""), (4, "memory of that", " MB")):
        shown = re.search(rf"^\| {title}.*", README.read_text(), re.MULTILINE)[0].split(" | ")
        for place, name in ((1, "masterframe"), (3, "IRAF"), (4, "Siril")):
            assert shown[place].strip(" |") == f"{found[name][column]}{unit}"


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
    named = [
        found
        for page in PAGES
        for found in re.findall(r"`(test_\w+\.py)::(test_\w+)`", page.read_text())
    ]
    assert len(named) > 20
    for file, name in named:
        tree = ast.parse((ROOT / "tests" / file).read_text())
        functions = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        assert name in functions, (file, name)


def test_tasks_are_called_on_the_dashboard_as_the_page_says():
    """Those of runs; lazy arrays of Python have names of their own."""
    store = (ROOT / "src" / "masterframe" / "store").glob("*.py")
    called = {name for path in store for name in re.findall(r'f"(mf-\w+)-', path.read_text())}
    assert set(re.findall(r"`(mf-\w+)`", CLUSTER.read_text())) == called


def test_every_difference_from_ccdproc_is_listed():
    from masterframe.compat.ccdproc import combine

    table = combine.__doc__.partition("Differences from")[2].split("    ====")[2]
    listed = [line[4:24].strip() for line in table.splitlines()[1:] if line[4:5].strip()]
    shown = rows("moving-over.md", "### Differences of masterframe.compat.ccdproc")
    assert [cells[0].replace("`", "") for cells in shown] == listed


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The pages as mkdocs builds them."""
    folder = tmp_path_factory.mktemp("docs") / "site"
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},  # its theme's word on its own future
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return folder


def test_the_pages_are_built(site):
    for page in PAGES:
        place = page.relative_to(DOCS).with_suffix("")
        name = "index.html" if place.name == "index" else f"{place}/index.html"
        assert (site / name).exists()


def test_pages_of_commands_and_settings_are_made_from_the_program(site):
    commands = (site / "reference" / "commands" / "index.html").read_text()
    for name in ("combine", "run", "explain", "verify"):
        assert f'<h2 id="{name}">' in commands
    assert "--noise-floor" in commands
    settings = (site / "reference" / "configuration" / "index.html").read_text()
    for name in json_schema()["properties"]:
        assert f"<code>{name}</code>" in settings
    api = (site / "reference" / "api" / "index.html").read_text()
    for name in (*set(masterframe.__all__) - {"__version__"}, "preview", "explain"):
        assert f">{name}<" in api, name
    assert not [path for path in site.rglob("*") if path.suffix in (".py", ".pyc")]


class _Links(HTMLParser):
    def __init__(self):
        super().__init__()
        self.ids, self.links, self.sources = set(), [], []

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.ids |= {found[key] for key in ("id", "name") if key in found}
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        if tag in ("img", "script", "iframe") and "src" in found:
            self.sources.append(found["src"])
        if tag == "link" and found.get("rel") in ("stylesheet", "icon"):
            self.sources.append(found["href"])


def test_links_lead_somewhere_and_nothing_is_fetched_from_elsewhere(site):
    pages = {}
    for path in site.rglob("*.html"):
        pages[path] = _Links()
        pages[path].feed(path.read_text())
    for path, found in pages.items():
        if path.name == "404.html":
            continue
        for link in (*found.links, *found.sources):
            if re.match(r"https?:|mailto:", link):
                assert link in found.links, f"{path} fetches {link}"
                continue
            place, _, anchor = link.partition("#")
            target = (path.parent / place).resolve() if place else path
            target = target / "index.html" if target.is_dir() else target
            assert target.exists(), (path, link)
            if anchor and target in pages:
                assert anchor in pages[target].ids, (path, link)


def test_links_of_the_readme_lead_somewhere():
    for link in re.findall(r"\]\((?!https?:)([^)#]+)", README.read_text()):
        assert (ROOT / link).exists(), link
