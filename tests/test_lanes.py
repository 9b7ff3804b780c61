"""Products that are made at the same time: each once what it takes is there, to the same bits."""

import threading
from dataclasses import replace

import pytest
from astropy.io import fits

import nights
from masterframe import cluster, jobs, run, store, walk
from masterframe.errors import MemoryLimitError
from masterframe.fits import scan_file
from masterframe.model import Calibration, Image, Recipe
from nights import files_in, make_plan, states
from stacks import pixels_and_tables, raw_frames, write_frames


@pytest.fixture
def night(tmp_path):
    """Two cameras with bias, dark and flats of two filters each."""
    folder = tmp_path / "night"
    for camera in ("One", "Two"):
        for kind, count in (("bias", 4), ("dark", 3), ("flat", 6)):
            for seed in range(count):
                more = {"FILTER": "VR"[seed % 2]} if kind == "flat" else {}
                path = folder / f"{camera}_{kind}_{seed}.fits"
                nights.raw(path, kind, seed, INSTRUME=camera, **more)
    return folder


def reduce_beside(night, out, reporter=None, workers=6):
    config, plan = make_plan(night, "report=false")
    with store.open_resources(workers=workers, memory=4 << 30, reporter=reporter) as resources:
        report = run.run_plan(plan, config, out, resources)
    return {outcome.name: outcome for outcome in report.outcomes}


def test_the_bits_are_those_of_one_after_the_other(night, tmp_path):
    beside = reduce_beside(night, tmp_path / "beside")
    alone = reduce_beside(night, tmp_path / "alone", workers=1)
    assert list(beside) == list(alone)
    assert len(beside) == 8
    assert set(states(beside).values()) == {"made"}
    for name in files_in(tmp_path / "alone"):
        made, expected = tmp_path / "beside" / name, tmp_path / "alone" / name
        assert pixels_and_tables(made)[0] == pixels_and_tables(expected)[0]
        assert fits.getheader(made)["MFTOKEN"] == fits.getheader(expected)["MFTOKEN"]


def test_products_that_do_not_need_each_other_are_made_at_once(night, tmp_path, monkeypatch):
    together, make = threading.Barrier(2, timeout=30), store.make_master
    order = []

    def meet(job, resources):
        if "bias" in job.path.name:
            together.wait()  # fails where the two are not at work at the same time
        made = make(job, resources)
        order.append(job.path.name)
        return made

    monkeypatch.setattr(store, "make_master", meet)
    assert set(states(reduce_beside(night, tmp_path / "out")).values()) == {"made"}
    _, plan = make_plan(night)
    for product in plan.products:
        for use in product.uses:
            before = order.index(use.product.rpartition("/")[2] + ".fits")
            assert before < order.index(product.name.rpartition("/")[2] + ".fits")
    assert sum("bias" in name for name in order[:2]) == 2


def test_what_takes_a_failed_master_is_blocked_and_nothing_else(night, tmp_path):
    config, plan = make_plan(night, "report=false")
    (night / "One_bias_2.fits").unlink()
    with store.open_resources(workers=6, memory=4 << 30) as resources:
        report = run.run_plan(plan, config, tmp_path / "out", resources)
    found: dict[str, list[str]] = {"One": [], "Two": []}
    for product, outcome in zip(plan.products, report.outcomes, strict=True):
        camera = product.exposures[0].header["INSTRUME"]
        found[camera].append(outcome.state)
    assert found["One"] == ["failed", "blocked", "blocked", "blocked"]
    assert found["Two"] == ["made"] * 4


def test_an_interrupt_ends_all_and_the_next_run_makes_what_is_missing(night, tmp_path):
    class Stop(store.Silent):
        def advance(self, done_bytes):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        reduce_beside(night, tmp_path / "out", Stop())
    assert not files_in(tmp_path / "out")
    assert set(states(reduce_beside(night, tmp_path / "out")).values()) == {"made"}


def test_a_product_that_needs_all_of_the_memory_has_it(night, tmp_path, monkeypatch):
    make = store.make_master

    def crowded(job, resources):
        if resources.lanes > 1 and "bias" in job.path.name:
            raise MemoryLimitError("too little")
        return make(job, resources)

    monkeypatch.setattr(store, "make_master", crowded)
    assert set(states(reduce_beside(night, tmp_path / "out")).values()) == {"made"}


def test_the_memory_is_shared_out(tmp_path):
    paths = write_frames(tmp_path, raw_frames((30, 200, 3000)))
    images = tuple(Image(scan_file(path).hdus[0].frames[0], {}) for path in paths)
    job = jobs.ImageJob("", images, Recipe(), Calibration())
    held, memory = 200 << 20, 380 << 20
    room = store.Room(memory, cluster.Footprint(held, 4))
    whole = store.plan_bands(job, 0, room)
    shared = store.plan_bands(job, 0, replace(room, lanes=2))
    assert shared.rows < whole.rows
    reserved = held + store.room.LOADED_LATER
    assert (
        reserved + 2 * (shared.peak_bytes - reserved)
        <= memory
        < reserved + 2 * (whole.peak_bytes - reserved)
    )


@pytest.mark.parametrize(
    ("workers", "memory", "lanes"),
    [(1, 8 << 30, 1), (3, 8 << 30, 1), (4, 8 << 30, 2), (4, 1 << 30, 1), (64, 64 << 30, 8)],
)
def test_more_workers_and_memory_take_more_products(workers, memory, lanes):
    with store.open_resources(workers=workers, memory=memory) as resources:
        assert walk.lanes_of(resources) == lanes
