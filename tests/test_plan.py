import json
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from masterframe import fits
from masterframe.config import load_config
from masterframe.inventory import scan_night
from masterframe.model import Section
from masterframe.plan import make_plan
from masterframe.plan.names import safe_folder, safe_stem, safe_word
from support import ROOT, shared
from tiny import exposure

DEFAULT = load_config()
UNTOLD = ["no detector temperature", "no gain or read noise"]
"""What these exposures, which have no headers, do not tell."""


def series(kind, count, stem="", **fields):
    """Exposures that differ by name and time alone."""
    fields.setdefault("exptime", {"bias": 0.0}.get(kind, 60.0))
    return [
        exposure(
            kind,
            f"/night/{stem or kind}{index}.fits",
            date_obs=f"2026-11-02T0{index}:00:00",
            **fields,
        )
        for index in range(count)
    ]


def plan_of(*groups, config=DEFAULT):
    return make_plan([item for group in groups for item in group], [], config)


def by_name(plan):
    """Products by the last part of their name."""
    return {PurePosixPath(product.name).name: product for product in plan.products}


def taken(product, role):
    """Name of a master that a product takes, without its folder."""
    use = product.using(role)
    return use and PurePosixPath(use.product).name


def configured(tmp_path, text):
    path = tmp_path / "night.yaml"
    path.write_text(text)
    return load_config(path)


# What is made


def test_night_becomes_masters_and_calibrated_frames_in_order():
    plan = plan_of(
        series("science", 2, filter="V", exptime=60.0),
        series("flat", 5, filter="V", exptime=8.0),
        series("dark", 3, exptime=60.0),
        series("bias", 4),
    )
    assert [product.output for product in plan.products] == [
        "night/master_bias_bin1x1.fits",
        "night/master_dark_60s_bin1x1.fits",
        "night/master_flat_V_bin1x1.fits",
        "night/calibrated/science0.fits",
        "night/calibrated/science1.fits",
    ]
    assert plan.left_out == ()
    assert [note.partition(" is known")[0] for note in plan.notes] == UNTOLD
    made = set()
    for product in plan.products:
        assert {use.product for use in product.uses} <= made
        made.add(product.name)
    science = plan.products[-1]
    assert {use.role for use in science.uses} == {"bias", "dark", "flat"}
    assert science.reason.startswith("1 science frame with night night, instrument cam")


def test_every_exposure_goes_into_one_product_or_is_left_out_with_a_reason():
    everything = [
        *series("bias", 3),
        *series("arc", 2),
        *series("dark", 1, stem="timeless", exptime=None),
        *series("flat", 2, technique="spectrum"),
        *series(None, 2, stem="odd"),
    ]
    plan = plan_of(everything)
    used = [item.path for product in plan.products for item in product.exposures]
    left = {problem.path: problem.reason for problem in plan.left_out}
    assert sorted([*used, *left]) == sorted(item.path for item in everything)
    assert left["/night/arc0.fits"] == "arc: no product is made of this kind"
    assert left["/night/odd1.fits"] == "its kind is not known"
    assert left["/night/timeless0.fits"] == "a dark without an exposure time"
    assert left["/night/flat0.fits"] == (
        "recipe 'flat' does not take it: technique = 'spectrum', wanted 'image' or absent"
    )


def test_few_frames_and_guessed_kinds_are_said():
    (product,) = plan_of(series("bias", 2, certain=False)).products
    assert product.notes == (
        "2 of at least 3 frames: combined without rejection, marked",
        "the kind of 2 of 2 rests on a name or a guess",
    )


def test_notes_of_headers_reach_the_product():
    frames = [*series("bias", 2, notes=("GAIN = 9 is not used",)), *series("bias", 1, stem="x")]
    (product,) = plan_of(frames).products
    unknown = "3 frames of unknown noise: combined without rejection"
    assert product.notes == (unknown, "2 of 3: GAIN = 9 is not used")


def test_plan_is_json():
    plan = plan_of(series("bias", 3), series("science", 1, filter="R"))
    found = json.loads(json.dumps(plan.as_dict()))
    assert [product["kind"] for product in found["products"]] == ["bias", "science"]
    assert found["products"][0]["inputs"][0]["rule"] == "IMAGETYP = 'bias'"
    assert set(found) == {"products", "left_out", "problems", "notes"}


def test_plan_does_not_depend_on_the_order_of_the_exposures():
    frames = [*series("bias", 3), *series("dark", 4), *series("flat", 3), *series("science", 2)]
    assert make_plan(frames, [], DEFAULT) == make_plan(frames[::-1], [], DEFAULT)


# Groups


def test_setups_are_apart():
    plan = plan_of(
        series("bias", 3),
        series("bias", 4, stem="small", shape=(12, 18)),
        series("bias", 5, stem="fast", more_setup=(("read_mode", "fast"),)),
    )
    assert sorted(len(product.exposures) for product in plan.products) == [3, 4, 5]
    assert len({product.output for product in plan.products}) == 3


def test_times_that_hardly_differ_belong_together():
    frames = [*series("dark", 2, exptime=300.0), *series("dark", 2, stem="more", exptime=300.1)]
    (product,) = plan_of(frames).products
    assert product.name == "night/master_dark_300s_bin1x1"
    apart = [*series("dark", 2, exptime=0.1), *series("dark", 2, stem="more", exptime=0.3)]
    assert sorted(by_name(plan_of(apart))) == ["master_dark_0.1s_bin1x1", "master_dark_0.3s_bin1x1"]


def test_temperatures_are_apart_by_more_than_twice_the_tolerance():
    frames = [
        *series("dark", 3, stem="a", temperature=-10.4),
        *series("dark", 2, stem="b", temperature=-9.1),
        *series("dark", 4, stem="c", temperature=-20.0),
    ]
    found = by_name(plan_of(frames))
    assert {name: len(product.exposures) for name, product in found.items()} == {
        "master_dark_60s_bin1x1_-10C": 5,
        "master_dark_60s_bin1x1_-20C": 4,
    }


def test_flats_of_filters_and_of_any_keyword_are_apart(tmp_path):
    config = configured(tmp_path, "recipes: {flat: {group_by: [LAMP]}}\n")
    frames = [
        *series("flat", 3, stem="v", filter="V", header={"LAMP": "on"}),
        *series("flat", 4, stem="r", filter="R", header={"LAMP": "on"}),
        *series("flat", 5, stem="s", filter="R", header={"LAMP": "off"}),
    ]
    plan = plan_of(frames, config=config)
    assert sorted(len(product.exposures) for product in plan.products) == [3, 4, 5]
    assert {dict(product.group)["LAMP"] for product in plan.products} == {"on", "off"}
    assert len(plan_of(frames).products) == 2


def test_nights_are_apart_or_pooled(tmp_path):
    frames = [*series("bias", 3), *series("bias", 4, stem="next", night="other")]
    assert len(plan_of(frames).products) == 2
    (pooled,) = plan_of(frames, config=configured(tmp_path, "nights: pooled\n")).products
    assert (pooled.name, len(pooled.exposures)) == ("nights/master_bias_bin1x1", 7)


def test_selection_and_exclusion_are_explained(tmp_path):
    config = configured(
        tmp_path, "select: {filter: [V, null]}\nexclude: ['bias1.fits', {temperature: '> -5'}]\n"
    )
    plan = plan_of(
        series("bias", 3),
        series("flat", 1, filter="R"),
        series("flat", 2, stem="warm", filter="V", temperature=3.0),
        config=config,
    )
    assert {Path(problem.path).name: problem.reason for problem in plan.left_out} == {
        "bias1.fits": "excluded: path = 'bias1.fits'",
        "flat0.fits": "not selected: filter = 'V' or absent",
        "warm0.fits": "excluded: temperature = '> -5'",
        "warm1.fits": "excluded: temperature = '> -5'",
    }


def test_sections_that_differ_are_apart():
    trimmed = {"overscan": Section(0, 24, 32, 36), "trim": Section(0, 24, 0, 32)}
    plan = plan_of(
        series("bias", 3, **trimmed), series("bias", 2, stem="raw"), series("science", 1, **trimmed)
    )
    assert [len(product.exposures) for product in plan.products[:2]] in ([2, 3], [3, 2])
    science = plan.products[-1]
    chosen = next(product for product in plan.products if product.name == science.uses[0].product)
    assert len(chosen.exposures) == 3


# Darks by the rules of their time


def dark_plan(times, science, *, bias=True, **kwargs):
    """Plan one science frame against darks of some times; return the plan and its last product."""
    darks = [item for t in times for item in series("dark", 3, stem=f"d{t}_", exptime=t)]
    frames = series("science", 1, exptime=science, filter="V")
    plan = plan_of(series("bias", 3) if bias else [], darks, frames, **kwargs)
    return plan, plan.products[-1]


def test_dark_of_the_same_time_is_unscaled():
    _, science = dark_plan([60.0, 300.0, 900.0], 302.9)
    use = science.using("dark")
    assert taken(science, "dark") == "master_dark_300s_bin1x1"
    assert (use.ratio, use.holds_bias) == ((), False)
    assert taken(science, "bias") == "master_bias_bin1x1"


def test_dark_that_holds_its_bias_replaces_the_bias():
    plan, science = dark_plan([60.0, 300.0], 300.0, bias=False)
    use = science.using("dark")
    assert (taken(science, "dark"), use.ratio) == ("master_dark_300s_bin1x1", ())
    assert use.holds_bias
    assert science.using("bias") is None
    assert "holds the bias" in use.reason
    assert not any("no bias" in note for note in science.notes)
    assert "2 dark products without bias: none was taken with cam" in plan.notes


def test_dark_that_holds_its_bias_is_never_scaled():
    _, science = dark_plan([60.0, 900.0], 300.0, bias=False)
    assert science.uses == ()
    assert (
        "no dark: darks of 60 s, 900 s do not fit 300 s, and hold the bias: never scaled"
        in science.notes
    )
    assert science.blocked == "there is nothing to calibrate it with"


def test_shortest_longer_dark_is_scaled_down():
    _, science = dark_plan([60.0, 600.0, 900.0], 300.0)
    use = science.using("dark")
    assert taken(science, "dark") == "master_dark_600s_bin1x1"
    assert use.ratio == (0.5,)


def test_longest_dark_is_scaled_up_to_three_times_with_a_warning():
    _, science = dark_plan([60.0, 120.0], 300.0)
    assert taken(science, "dark") == "master_dark_120s_bin1x1"
    assert science.using("dark").ratio == (2.5,)
    assert "the dark is stretched 2.5 times, which adds its noise" in science.notes


def test_dark_is_not_stretched_beyond_three_times():
    plan, science = dark_plan([60.0, 90.0], 300.0)
    assert science.using("dark") is None
    assert taken(science, "bias") == "master_bias_bin1x1"
    assert any("the longest dark is 90 s, wanted 300 s" in note for note in science.notes)
    assert any("science product without dark" in note for note in plan.notes)


@pytest.mark.parametrize(
    ("dark", "science", "scaled"),
    [(10.0, 10.5, False), (10.0, 10.51, True), (300.0, 303.03, False), (300.0, 303.1, True)],
)
def test_tolerance_of_the_time_is_half_a_second_or_a_hundredth(dark, science, scaled):
    _, product = dark_plan([dark], science)
    assert bool(product.using("dark").ratio) == scaled


def test_flats_of_several_times_scale_one_dark_each():
    flats = [
        *series("flat", 1, stem="a", exptime=3.0),
        *series("flat", 1, stem="b", exptime=4.0),
        *series("flat", 1, stem="c", exptime=5.0),
    ]
    flat = plan_of(series("bias", 3), series("dark", 3, exptime=10.0), flats).products[-1]
    assert flat.using("dark").ratio == (0.3, 0.4, 0.5)
    assert [item.exptime for item in flat.exposures] == [3.0, 4.0, 5.0]
    assert flat.using("dark").reason == "10 s, scaled to 3 to 5 s"


def test_dark_of_another_temperature_is_not_taken_and_the_plan_says_so():
    frames = series("science", 1, temperature=-20.0)
    bias = series("bias", 3, temperature=-20.4)
    dark = series("dark", 3, temperature=-10.0)
    science = plan_of(bias, dark, frames).products[-1]
    assert taken(science, "bias") == "master_bias_bin1x1"
    assert science.using("dark") is None
    assert (
        "no dark: none fits: master_dark_60s_bin1x1 has temperature -10.0, wanted -20.0 within 1"
        in science.notes
    )


def test_camera_that_has_taken_the_dark_off_gets_none():
    science = plan_of(
        series("bias", 3),
        series("dark", 3),
        series("flat", 3),
        series("science", 1, applied=("dark",)),
    ).products[-1]
    assert [use.role for use in science.uses] == ["flat"]
    assert "the camera has done this already: dark" in science.notes


# Flats, nights, what is missing


def test_flat_must_have_the_filter_and_the_optics():
    flats = [
        *series("flat", 3, stem="v", filter="V", optics=(("slit", "none"),)),
        *series("flat", 3, stem="w", filter="V", optics=(("slit", "1.0"),)),
        *series("flat", 3, stem="r", filter="R", optics=(("slit", "none"),)),
    ]
    plan = plan_of(
        series("bias", 3), flats, series("science", 1, filter="V", optics=(("slit", "1.0"),))
    )
    science = plan.products[-1]
    chosen = next(
        product for product in plan.products if product.name == science.using("flat").product
    )
    assert {Path(item.path).name[0] for item in chosen.exposures} == {"w"}
    lonely = plan_of(series("bias", 3), flats, series("science", 1, filter="B")).products[-1]
    assert any(
        note.startswith("no flat: none fits: ") and "filter 'R', wanted 'B'" in note
        for note in lonely.notes
    )


def test_masters_of_the_same_night_go_first_then_the_nearest():
    science = series("science", 1, exptime=60.0, filter="V")
    near = series("bias", 3, stem="near", night="mon")
    far = [replace(item, date_obs="2025-01-01T00:00:00", night="tue") for item in series("bias", 3)]
    found = plan_of(near, far, science).products[-1].using("bias")
    assert found.product == "mon/master_bias_bin1x1"
    assert found.reason == "same set-up; from mon, the nearest night that has one"
    own = [replace(item, date_obs="2024-01-01T00:00:00") for item in series("bias", 3, stem="own")]
    found = plan_of(near, far, own, science).products[-1].using("bias")
    assert (found.product, found.reason) == ("night/master_bias_bin1x1", "same set-up")


@pytest.mark.parametrize("missing", ["bias", "dark", "flat", "science"])
def test_night_without_one_kind_says_what_is_missing_and_makes_the_rest(missing):
    kinds = {
        "bias": series("bias", 3),
        "dark": series("dark", 3, exptime=60.0),
        "flat": series("flat", 3, filter="V", exptime=5.0),
        "science": series("science", 2, filter="V"),
    }
    plan = plan_of(*(frames for kind, frames in kinds.items() if kind != missing))
    assert {product.kind for product in plan.products} == set(kinds) - {missing}
    assert not any(product.blocked for product in plan.products)
    lacks = [note for note in plan.notes if f"without {missing}" in note]
    assert bool(lacks) == (missing != "science")


def test_required_step_blocks_what_lacks_it(tmp_path):
    config = configured(tmp_path, "recipes: {science: {require: [flat, bias]}}\n")
    science = plan_of(series("bias", 3), series("science", 1), config=config).products[-1]
    assert science.blocked == "recipe 'science' requires flat"


def test_blocked_master_is_not_taken(tmp_path):
    config = configured(tmp_path, "recipes: {flat: {require: [dark]}}\n")
    plan = plan_of(series("bias", 3), series("flat", 3), series("science", 1), config=config)
    flat, science = plan.products[1:]
    assert flat.blocked == "recipe 'flat' requires dark"
    assert science.using("flat") is None


def test_offset_that_stays_in_is_said():
    (flat,) = plan_of(series("flat", 3)).products
    assert "its offset stays in: no bias, dark or overscan is taken off" in flat.notes


# Names

HOSTILE = [
    "../../x",
    "/etc/x",
    "",
    "a" * 200,
    "<script>",
    "CON",
    "V\nR",
    "a/b",
    "[red]",
    "H\u03b1",
    "...",
]


@pytest.mark.parametrize("filter_name", HOSTILE)
def test_header_values_never_become_paths(filter_name):
    for product in plan_of(
        series("flat", 3, filter=filter_name, night=filter_name, label=filter_name)
    ).products:
        path = PurePosixPath(product.output)
        assert len(path.parts) == 2
        assert all(len(part) < 200 for part in path.parts)
        assert set(product.output) <= set(
            "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.+_-/"
        )
        assert ".." not in path.parts
        assert path.parts[0].split(".")[0].lower() != "con"
        assert dict(product.group)["filter"] == filter_name


def test_names_that_become_alike_are_told_apart_by_a_hash():
    frames = [
        item
        for index, name in enumerate(["a/b", "a b", "A?B", "x"])
        for item in series("flat", 3, stem=f"f{index}_", filter=name)
    ]
    names = sorted(product.name for product in plan_of(frames).products)
    assert len({name.lower() for name in names}) == 4
    assert "night/master_flat_x_bin1x1" in names
    assert names == sorted(product.name for product in plan_of(frames[::-1]).products)


def test_frames_of_one_name_in_two_folders_are_told_apart():
    frames = [exposure("science", f"/night/{folder}/a.fits") for folder in "xy"]
    plan = plan_of(series("bias", 3), frames)
    outputs = [product.output for product in plan.products[1:]]
    assert len(set(outputs)) == 2
    assert all(output.startswith("night/calibrated/a_") for output in outputs)


@given(st.text(max_size=300))
def test_safe_names_are_one_plain_part(words):
    for name in (safe_folder(words), safe_stem(words)):
        assert name
        assert "/" not in name
        assert "\0" not in name
        assert not name.startswith((".", "-"))
        assert len(name.encode()) < 200
        assert name.isprintable()
    assert safe_word(words).isascii()


# Real nights


def planned(folder, config=DEFAULT):
    exposures, problems = scan_night([shared(folder)], config)
    return make_plan(exposures, problems, config)


@pytest.mark.parametrize("name", [None, "efosc2"])
def test_efosc2_imaging_is_planned_and_spectra_are_kept_out(name):
    config = load_config(ROOT / "configs" / f"{name}.yaml") if name else DEFAULT
    plan = planned("data/efosc2", config)
    counts = [(product.kind, len(product.exposures)) for product in plan.products]
    assert counts == [("bias", 5), ("flat", 3), *[("science", 1)] * 6]
    bias, flat = plan.products[:2]
    assert bias.output == "efosc2/master_bias_bin2x2_fastL.fits"
    assert flat.output == "efosc2/master_flat_g-782_bin2x2_fastL.fits"
    assert dict(flat.group)["filter"] == "g#782"
    for product in plan.products[2:]:
        assert taken(product, "bias") == "master_bias_bin2x2_fastL"
        assert taken(product, "flat") == "master_flat_g-782_bin2x2_fastL"
        assert not product.blocked
    reasons = [problem.reason for problem in plan.left_out]
    assert sum("technique = 'spectrum'" in reason for reason in reasons) == 5
    assert sum(reason.startswith("arc:") for reason in reasons) == 1


def raw(product):
    """The raw frames of a product in float64, (N, rows, columns)."""
    frames = [item.images[0].frame for item in product.exposures]
    return np.stack([fits.read_rows(frame, 0, frame.shape[0]) for frame in frames]).astype(float)


def made(plan, name):
    """What numpy makes of a product by its recipe: no rejection, scaling or flat."""
    product = next(one for one in plan.products if one.name == name)
    recipe = product.recipe.recipe
    assert product.kind == "science" or recipe.rejection.rule == "none"
    assert recipe.dtype == "float64"
    assert (product.recipe.adjust.scale, product.recipe.normalize) == ("none", False)
    assert product.recipe.saturation == "off"
    values = raw(product)
    dark = product.using("dark")
    if dark:
        assert (dark.ratio, dark.holds_bias) == ((), True)
        values -= made(plan, dark.product)
    assert {use.role for use in product.uses} <= {"dark"}
    return {"mean": np.mean, "median": np.median}[recipe.estimator](values, axis=0)


@pytest.mark.parametrize(
    ("name", "published", "frames"),
    [
        ("master_flat-hg_Clear_bin1x2", "published/master_flathg.fits", 4),
        ("master_flat-neon_Clear_bin1x2", "published/master_flatneon.fits", 5),
        ("master_flat-lab0_bin3x3", "lab0_3x3/published/spec-master-flat.fits", 10),
        ("calibrated/L2-sci-hg-240.00000000", "published/d-L2-sci-hg-240.00000000.fits", 1),
        ("calibrated/L2-sci-neon-1200.00000000", "published/d-L2-sci-neon-1200.00000000.fits", 1),
    ],
)
def test_st402_plan_gives_the_published_masters(name, published, frames):
    """Follow the plan with numpy alone: each published file comes out with difference 0."""
    plan = planned("data/st402", load_config(ROOT / "configs" / "st402.yaml"))
    product = next(one for one in plan.products if one.name == f"st402/{name}")
    assert (len(product.exposures), product.blocked) == (frames, "")
    frame = fits.scan_file(str(shared(f"data/st402/{published}"))).hdus[0].frame
    expected = fits.read_rows(frame, 0, frame.shape[0])
    assert np.array_equal(made(plan, product.name).astype(expected.dtype), expected)


def test_st402_plan_holds_nothing_but_what_was_published():
    plan = planned("data/st402", load_config(ROOT / "configs" / "st402.yaml"))
    assert sum(product.kind == "dark" for product in plan.products) == 3
    assert sum(product.kind == "flat" for product in plan.products) == 3
    assert sum(product.kind == "science" for product in plan.products) == 10
    assert not any("/published/" in item.path for one in plan.products for item in one.exposures)


def test_many_frames_are_planned_in_a_moment():
    """Twelve nights of 290 frames: the plan may not grow with the square of their number."""
    frames = []
    for night in range(12):
        name = f"n{night:02}"
        for kind, count, times in (("bias", 30, [0.0]), ("dark", 10, [30.0, 300.0])):
            for t in times:
                frames += series_of(name, kind, count, t, "")
        for band in "BVRI":
            frames += series_of(name, "flat", 15, 4.0, band)
            frames += series_of(name, "science", 45, 280.0, band)
    plan = make_plan(frames, [], DEFAULT)
    assert len(frames) == 12 * 290
    assert len(plan.products) == 12 * (1 + 2 + 4 + 180)
    assert [note.partition(" is known")[0] for note in plan.notes] == UNTOLD


def series_of(night, kind, count, exptime, band):
    return [
        exposure(
            kind,
            f"/{night}/{kind}{exptime}{band}{index}.fits",
            night=night,
            exptime=exptime,
            filter=band,
            date_obs=f"2026-11-{int(night[1:]) % 28 + 1:02}T{index % 24:02}:00:00",
        )
        for index in range(count)
    ]
