"""The demo recovers what it plants, says so where it does not, and replaces nothing of others."""

from dataclasses import replace

import pytest

from masterframe import demo
from masterframe.errors import StorageError
from masterframe.simulate import Camera
from nights import files_in

SMALL = replace(
    demo.NIGHT,
    camera=Camera(shape=(112, 144), hot_fraction=2e-3, dead_fraction=0.0),
    bias=8,
    darks={demo.DARK_SECONDS: 6},
    flats={"V": 10, "B": 5},
    science={"V": 2},
    stars=4,
)


def run(folder, spec):
    """Run a demo; return its exit code and the lines that it said."""
    said = []
    code = demo.run_demo(folder, spec, say=said.append)
    return code, "\n".join(said).splitlines()


def check_whole(folder, spec, lines):
    rows = [line for line in lines if line.endswith(("  pass", "  FAIL"))]
    assert [line for line in rows if line.endswith("FAIL")] == []
    for what in ("read noise", "bias", "dark current", "hot pixels", "flat V", "flat B", "sky of"):
        assert any(line.startswith(what) for line in rows), what
    for event in ("cosmic rays in dark", "satellite trail in flat V"):
        assert any(line.startswith(event) for line in rows), event
    bad = lines[[line.startswith("bad frame") for line in lines].index(True) + 1 :]
    assert len(bad[: bad.index("")]) == len(spec.defects)
    assert f"{len(rows)} of {len(rows)} planted truths recovered" in lines[-1]
    masters = [line.strip() for line in lines if line.endswith(".fits") and "master_" in line]
    assert len(masters) == 2 + len(spec.flats)
    assert all(path.startswith(str(folder)) for path in masters)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "demo"
    return folder, *run(folder, SMALL)


def test_a_small_demo_recovers_all_that_it_plants(small):
    folder, code, lines = small
    check_whole(folder, SMALL, lines)
    assert code == 0


@pytest.mark.slow
def test_the_demo_recovers_all_that_it_plants(tmp_path):
    code, lines = run(tmp_path / "demo", demo.NIGHT)
    check_whole(tmp_path / "demo", demo.NIGHT, lines)
    assert code == 0


def test_what_is_not_recovered_is_named_and_fails(tmp_path):
    # Of two flats that differ nothing tells which one is of another filter than its header says.
    few = {"V": 1, "B": 1}
    spec = replace(SMALL, flats=few, defects=("wrong_filter", "not_fits"), seed=11)
    code, lines = run(tmp_path / "demo", spec)
    assert code == 1
    row = next(line for line in lines if line.startswith("flat_B_002.fits"))
    assert row.split("  ")[-1].strip() == "FAIL"
    assert "missed: " in lines[-1]
    assert "flat_B_002.fits" in lines[-1]


def test_a_demo_is_replaced_by_the_next(small):
    folder, _, _ = small
    stray = folder / "reduced" / "stray.fits"
    stray.touch()
    before = set(files_in(folder)) - {"reduced/stray.fits"}
    code, _ = run(folder, SMALL)
    assert code == 0
    assert set(files_in(folder)) == before


@pytest.mark.parametrize("name", ["night", "notes.txt"])
def test_a_folder_of_somebody_else_is_refused_and_left_alone(tmp_path, name):
    mine = tmp_path / "mine"
    (mine / name).mkdir(parents=True)
    (mine / name / "precious").write_text("data")
    with pytest.raises(StorageError, match=f"holds {name}, which no demo made"):
        demo.prepare_folder(mine)
    assert files_in(mine) == [f"{name}/precious"]


def test_a_demo_that_somebody_added_to_is_refused(tmp_path):
    demo.prepare_folder(tmp_path / "demo")
    (tmp_path / "demo" / "results.txt").write_text("mine")
    with pytest.raises(StorageError, match=r"holds results\.txt"):
        demo.prepare_folder(tmp_path / "demo")


def test_a_link_out_of_a_demo_is_not_followed(tmp_path):
    demo.prepare_folder(tmp_path / "demo")
    (tmp_path / "precious").mkdir()
    (tmp_path / "demo" / "night").symlink_to(tmp_path / "precious")
    with pytest.raises(StorageError, match="holds night, which no demo made"):
        demo.prepare_folder(tmp_path / "demo")
    assert (tmp_path / "precious").is_dir()


def test_an_empty_folder_is_taken(tmp_path):
    demo.prepare_folder(tmp_path)
    assert files_in(tmp_path) == [demo.MARKER]


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "demo").write_text("x")
    with pytest.raises(StorageError, match="is no folder"):
        demo.prepare_folder(tmp_path / "demo")
