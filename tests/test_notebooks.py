"""Every notebook runs from its first cell to its last, and the copy for reading is of the same."""

import shutil

import jupytext
import pytest
from nbclient import NotebookClient

import slurm
from support import REQUIRE_ALL, ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.py"))


def test_there_are_notebooks():
    assert NOTEBOOKS


@pytest.fixture
def programs(request, monkeypatch, tmp_path):
    """What a notebook finds beside Python; that on clusters finds a Slurm where one can be had."""
    path = request.getfixturevalue("path")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    if "clusters" not in path.stem or not (REQUIRE_ALL or shutil.which("slurmctld")):
        yield
        return
    with slurm.private_slurm() as environment:
        for name in ("SLURM_CONF", "PATH"):
            monkeypatch.setenv(name, environment[name])
        yield


@pytest.mark.slow
@pytest.mark.system
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(path, programs, tmp_path):
    notebook = jupytext.read(path)
    NotebookClient(
        notebook,
        timeout=240,
        kernel_name="python3",
        resources={"metadata": {"path": str(tmp_path)}},
    ).execute()
    printed = "".join(
        out.text for cell in notebook.cells for out in cell.get("outputs", ()) if "text" in out
    )
    if REQUIRE_ALL:
        assert "not installed" not in printed
        assert "no Slurm here" not in printed
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert any(output["output_type"] == "display_data" for output in outputs)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_copy_with_outputs_is_of_the_same_cells(path):
    # `make notebooks` makes it anew.
    kept, source = jupytext.read(path.with_suffix(".ipynb")), jupytext.read(path)
    assert [cell.source for cell in kept.cells] == [cell.source for cell in source.cells]
    code = [cell for cell in kept.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert not [out for cell in code for out in cell.outputs if out["output_type"] == "error"]
