"""The examples in the docstrings of the public names, run on a simulated night."""

import doctest
import inspect
from importlib import import_module

import pytest

import masterframe as mf
from masterframe.simulate import Camera, NightSpec, simulate_night
from masterframe.xarray_api import accessors, engine

PUBLIC = {name: getattr(mf, name) for name in mf.__all__}
OBJECTS = {
    **{name: value for name, value in PUBLIC.items() if inspect.isfunction(value)},
    "stack.mf": accessors.StackAccessor,
    "dataset.mf": accessors.MasterAccessor,
    "engine": engine.MasterframeEngine,
}


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    folder = tmp_path_factory.mktemp("examples")
    camera = Camera(shape=(60, 64), overscan=0)
    spec = NightSpec(camera, bias=5, darks={}, flats={"V": 4}, science={}, seed=4)
    simulate_night(folder / "simulated", spec).night.rename(folder / "night")
    return folder


@pytest.mark.parametrize("name", OBJECTS)
def test_the_examples_hold(name, night, monkeypatch):
    value = OBJECTS[name]
    monkeypatch.chdir(night)
    for made in [*night.glob("*.fits")]:
        made.unlink()
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    module = import_module(value.__module__)
    for found in doctest.DocTestFinder().find(value, name, module, globs={}):
        lines = []
        runner.run(found, out=lines.append)
        assert not runner.failures, "".join(lines)
    assert runner.tries, f"{name} has no example"
