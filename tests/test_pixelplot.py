"""The history of a pixel as a picture."""

import numpy as np
import pytest
from astropy.io import fits
from matplotlib.image import imread

import masterframe as mf
from masterframe.explain import explain_master
from nights import call, files_in, night, reduce_night


@pytest.fixture
def master(tmp_path):
    """A tiny bias whose frame 2 has a cosmic ray in pixel (5, 7)."""
    folder = night(tmp_path / "night", bias=6, flat=0, science=0)
    with fits.open(folder / "bias_2.fits", mode="update") as hdus:
        hdus[0].data[7, 5] = 5000
    (outcome,) = reduce_night(folder, tmp_path / "out", "report=false").values()
    return outcome.output


def drawn(figure):
    """Return the points of a figure by their label."""
    (axes,) = figure.axes
    return {
        line.get_label(): line.get_ydata() for line in axes.lines if line.get_marker() != "None"
    }


def test_kept_and_rejected_values_are_drawn_with_the_bounds_and_the_result(master):
    history = explain_master(master, 5, 7)
    points = drawn(history.plot())
    assert list(points["rejected high"]) == [5000]
    expected = sorted(frame.value for frame in history.frames if frame.fate == "kept")
    assert sorted(points["kept"]) == expected
    (axes,) = history.plot().axes
    labels = axes.get_legend_handles_labels()[1]
    assert {"result", "centre", "bounds of the last pass"} <= set(labels)
    assert "pixel 6, 8; 5 of 6 kept" in axes.get_title(loc="left")


def test_the_command_writes_the_picture_whole(master, tmp_path, capsys, monkeypatch):
    target = tmp_path / "plot.png"
    code, out, _ = call(capsys, monkeypatch, "explain", master, 6, 8, "--plot", target)
    assert code == 0
    assert "rejected high" in out
    assert np.ptp(imread(target)) > 0.5
    assert [name for name in files_in(tmp_path) if "part" in name] == []


def test_a_picture_of_an_unknown_kind_or_place_is_refused(master, tmp_path, capsys, monkeypatch):
    code, _, err = call(capsys, monkeypatch, "explain", master, 6, 8, "--plot", tmp_path / "x.txt")
    assert (code, "ends in .png, .pdf, .svg" in err) == (2, True)
    nowhere = tmp_path / "none" / "x.png"
    code, _, err = call(capsys, monkeypatch, "explain", master, 6, 8, "--plot", nowhere)
    assert (code, "the plot cannot be written" in err) == (3, True)


def test_a_stack_plots_its_pixel_in_a_notebook(tmp_path):
    folder = night(tmp_path / "night", bias=4, flat=0, science=0)
    stack = mf.open_stack(sorted(folder.iterdir()))
    points = drawn(stack.mf.explain(3, 4).plot())
    assert sorted(points["kept"]) == sorted(stack[:, 4, 3].values)
