"""What ``import masterframe`` gives, and that it costs nothing until it is used."""

import ast
import subprocess
import sys

import numpy as np
import pytest
from astropy.io import fits

import masterframe as mf
from masterframe.model import Plan, Recipe
from nights import night
from stacks import raw_frames, write_frames
from support import ROOT

IMPORT = """
import sys, time
began = time.perf_counter()
import masterframe
print(time.perf_counter() - began, len([name for name in sys.modules if "masterframe" in name]))
"""


def test_the_package_is_imported_at_once():
    found = [
        subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True, check=True)
        for _ in range(3)
    ]
    seconds, modules = zip(*(run.stdout.split() for run in found), strict=True)
    assert min(map(float, seconds)) < 0.05
    assert set(modules) == {"1"}


def test_every_public_name_is_there_and_documented():
    for name in mf.__all__:
        value = getattr(mf, name)
        assert name == "__version__" or value.__doc__, name
    assert set(mf.__all__) <= set(dir(mf))
    assert mf.Plan is Plan
    with pytest.raises(AttributeError, match="no attribute 'combine_stak'"):
        mf.combine_stak  # noqa: B018


def test_type_checkers_see_the_same_names():
    stub = ast.parse((ROOT / "src/masterframe/__init__.pyi").read_text())
    imported = {
        alias.name: node.module
        for node in stub.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert imported == {name: f"masterframe.{home}" for name, home in mf._HOMES.items()}
    (listed,) = (node for node in stub.body if isinstance(node, ast.Assign))
    assert sorted(ast.literal_eval(listed.value)) == sorted(mf.__all__)


def test_a_notebook_from_night_to_master(tmp_path):
    """The calls of the README, one after the other."""
    folder = night(tmp_path / "night", bias=6, flat=5, science=2)
    config = mf.load_config(overrides=["recipes.bias.dtype=float64"])
    exposures, problems = mf.scan_night([folder], config)
    plan = mf.make_plan(exposures, problems, config)
    assert isinstance(plan, mf.Plan)
    report = mf.run_night(folder, tmp_path / "out", config)
    assert [item.state for item in report.outcomes] == ["made"] * len(plan.products)
    assert {item.kind for item in report.outcomes} == {"bias", "flat", "science"}
    again = mf.run_night(str(folder), str(tmp_path / "out"), config)
    assert {item.state for item in again.outcomes} == {"up to date"}

    master = mf.open_master(report.outcomes[0].output)[""]
    stack = mf.open_stack(str(folder / "flat_*.fits"))
    flat = stack.mf.calibrated(mf.Calibration(bias=master))
    expected = stack.values - fits.getdata(report.outcomes[0].output)
    np.testing.assert_allclose(flat.values, expected, rtol=1e-6)
    combined = flat.mf.combine(mf.Recipe(mf.Rejection("none")))
    np.testing.assert_allclose(combined.data.values, expected.mean(0), rtol=1e-6)


def test_a_dask_client_that_is_active_is_used(tmp_path):
    distributed = pytest.importorskip("distributed")
    paths = write_frames(tmp_path / "raw", raw_frames((5, 19, 13)))
    cluster = distributed.LocalCluster(
        n_workers=1,
        processes=False,
        dashboard_address="127.0.0.1:0",
        worker_dashboard_address="127.0.0.1:0",
    )
    with cluster, distributed.Client(cluster) as client:
        mf.write_master(tmp_path / "m.fits", mf.open_stack(paths), Recipe())
        labels = client.run_on_scheduler(lambda dask_scheduler: [*dask_scheduler.task_prefixes])
    assert any("mf-combine" in label for label in labels)
    assert fits.getdata(tmp_path / "m.fits").shape == (19, 13)
