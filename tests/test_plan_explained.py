"""What a plan says: why not that master, what is missing for what, and what can be made still."""

import pytest
from astropy.io import fits

import nights
from masterframe import listing
from masterframe.forecast import foresee
from masterframe.model import Candidate
from masterframe.plan import make_plan
from test_plan import DEFAULT, by_name, configured, plan_of, series, taken

CARDS = {
    "CCD_TEMP": -20.0,
    "EGAIN": 1.5,
    "RDNOISE": 8.0,
    "XBINNING": 1,
    "YBINNING": 1,
    "BIASSEC": "[33:36,1:24]",
    "TRIMSEC": "[1:32,1:24]",
}
KINDS = {"bias": 5, "dark": 5, "flat": 5, "science": 1}


@pytest.fixture(scope="module")
def complete(tmp_path_factory):
    """A tiny night whose headers tell all."""
    folder = tmp_path_factory.mktemp("complete")
    for number, (kind, count) in enumerate(KINDS.items()):
        for index in range(count):
            cards = CARDS | ({"OBJECT": "dome"} if kind == "flat" else {})
            nights.raw(folder / f"f{number}{index}.fits", kind, 60 * number + index, **cards)
    return folder


def changed(complete, folder, *, without=(), kinds=KINDS):
    """A copy of the night without a keyword, or without some kinds of frames."""
    folder.mkdir()
    for path in sorted(complete.glob("*.fits")):
        if list(KINDS)[int(path.name[1])] not in kinds:
            continue
        with fits.open(path) as hdus:
            for key in without:
                hdus[0].header.remove(key, ignore_missing=True)
            hdus.writeto(folder / path.name)
    return nights.make_plan(folder)[1]


def test_of_a_complete_night_nothing_is_missing(complete):
    _, plan = nights.make_plan(complete)
    assert (plan.notes, plan.left_out, plan.problems) == ((), (), ())
    assert [product.kind for product in plan.products] == ["bias", "dark", "flat", "science"]


@pytest.mark.parametrize(
    ("keyword", "said", "made"),
    [
        ("IMAGETYP", "no card names its kind, as IMAGETYP or IMGTYPE", "bf"),
        ("EXPTIME", "no dark can be chosen for them, and no dark is made of them", "bfs"),
        (
            "FILTER",
            "no filter is known of 5 flat and 1 science frames: they are",
            "bdfs",
        ),
        ("DATE-OBS", "no start is known of 5 bias, 5 dark, 5 flat and 1 science frames", "bdfs"),
        ("CCD-TEMP", "no detector temperature is known of 5 bias, 5 dark, 5 flat and", "bdfs"),
        ("EGAIN", "no gain is known of 5 bias, 5 dark, 5 flat and 1 sci", "bdfs"),
        ("RDNOISE", "no read noise is known of 5 bias, 5 dark, 5 flat and 1 science", "bdfs"),
        ("INSTRUME", "no camera is known of 5 bias, 5 dark, 5 flat and 1 science", "bdfs"),
        ("BIASSEC", "no overscan is known of 5 bias, 5 dark, 5 flat and 1 science", "bdfs"),
    ],
)
def test_one_keyword_less_is_said_and_the_rest_is_made(complete, tmp_path, keyword, said, made):
    plan = changed(complete, tmp_path / "n", without=[keyword])
    reasons = [problem.reason for problem in (*plan.problems, *plan.left_out)]
    assert any(said in words for words in [*plan.notes, *reasons]), (plan.notes, reasons)
    assert "".join(product.kind[0] for product in plan.products) == made
    assert not any(product.blocked for product in plan.products)


@pytest.mark.parametrize("keyword", ["TRIMSEC", "XBINNING", "OBJECT"])
def test_what_follows_from_other_cards_is_not_missed(complete, tmp_path, keyword):
    plan = changed(complete, tmp_path / "n", without=[keyword])
    assert plan.notes == ()
    assert len(plan.products) == 4
    assert plan.products[0].exposures[0].images[0].shape == (24, 32)


@pytest.mark.parametrize(
    ("kind", "notes"),
    [
        (
            "bias",
            [
                "1 dark product without bias: none was taken with TinyCam",
                "1 flat product without bias: none was taken with TinyCam",
                "can be made: 1 dark product without bias, 1 flat product without bias and dark, "
                "1 science product",
            ],
        ),
        (
            "dark",
            [
                "1 flat product without dark: none was taken with TinyCam",
                "1 science product without dark: none was taken with TinyCam",
                "can be made: 1 bias product, 1 flat product without dark, 1 science product "
                "without dark",
            ],
        ),
        (
            "flat",
            [
                "1 science product without flat: none was taken with TinyCam",
                "can be made: 1 bias product, 1 dark product, 1 science product without flat",
            ],
        ),
        ("science", []),
    ],
)
def test_one_kind_less_is_said_and_the_rest_is_made(complete, tmp_path, kind, notes):
    plan = changed(complete, tmp_path / "n", kinds=set(KINDS) - {kind})
    assert {product.kind for product in plan.products} == set(KINDS) - {kind}
    shown = [note for note in plan.notes if "dark: darks of" not in note]
    assert shown == notes


# Why not that one


def reasons(product, role):
    """Why each master that a product might take in a role is passed over, by short name."""
    return {
        one.product.rpartition("/")[2]: one.reason
        for one in product.passed_over
        if one.role == role
    }


def test_darks_that_are_passed_over_say_why():
    darks = [
        item for t in (10.0, 60.0, 300.0, 600.0) for item in series("dark", 3, f"d{t}", exptime=t)
    ]
    cold = series("dark", 3, "cold", exptime=120.0, temperature=-40.0)
    warm = series("science", 1, filter="V", exptime=120.0, temperature=-10.0)
    darks = [*darks, *cold]
    science = plan_of(series("bias", 3), darks, warm).products[-1]
    assert taken(science, "dark") == "master_dark_300s_bin1x1"
    assert reasons(science, "dark") == {
        "master_dark_10s_bin1x1": "it is of 10 s, and would be stretched more than 3 times",
        "master_dark_60s_bin1x1": "it is of 60 s: a longer one is scaled down with less noise",
        "master_dark_600s_bin1x1": "it is of 600 s: 300 s is nearer to what is wanted",
        "master_dark_120s_bin1x1": "temperature -40.0, wanted -10.0 within 1",
    }
    alone = plan_of(darks, series("science", 1, filter="V", exptime=60.0)).products[-1]
    assert taken(alone, "dark") == "master_dark_60s_bin1x1"
    assert "it is of 10 s and holds its bias: never scaled" in reasons(alone, "dark").values()


def test_biases_and_flats_that_are_passed_over_say_why():
    science = series("science", 1, filter="V")
    other = series("bias", 3, "o", night="later")
    wide = series("bias", 3, "w", more_setup=(("gain_setting", "high"),))
    flats = [*series("flat", 3, "b", filter="B"), *series("flat", 3, "v", filter="V")]
    plan = plan_of(series("bias", 3), other, wide, flats, science)
    product = plan.products[-1]
    assert reasons(product, "flat") == {"master_flat_B_bin1x1": "filter 'B', wanted 'V'"}
    found = list(reasons(product, "bias").values())
    assert "it fits, but is of later: one of the same night goes first" in found
    assert len(found) == 2


def test_of_flats_with_another_light_twilight_goes_first():
    lights = {"dome": 7, "twilight": 3, "lamp": 9}
    flats = [
        item
        for light, count in lights.items()
        for item in series("flat", count, light, filter="V", light=light)
    ]
    plan = plan_of(series("bias", 3), flats, series("science", 1, filter="V"))
    names = [name for name in by_name(plan) if "flat" in name]
    assert sorted(names) == [f"master_flat_V_bin1x1_{light}" for light in sorted(lights)]
    science = plan.products[-1]
    assert taken(science, "flat") == "master_flat_V_bin1x1_twilight"
    assert science.using("flat").reason == "same set-up, filter V, twilight flat"
    assert reasons(science, "flat") == {
        "master_flat_V_bin1x1_dome": "it fits, but its light is dome: twilight goes first",
        "master_flat_V_bin1x1_lamp": "it fits, but its light is lamp: twilight goes first",
    }
    few = [item for item in flats if item.light != "twilight"] + flats[7:9]
    plan = plan_of(series("bias", 3), few, series("science", 1, filter="V"))
    assert taken(plan.products[-1], "flat") == "master_flat_V_bin1x1_dome"
    said = reasons(plan.products[-1], "flat")["master_flat_V_bin1x1_twilight"]
    assert said == "it fits, but is made of too few frames"


def test_a_stanza_chooses_its_light(tmp_path):
    config = configured(tmp_path, "recipes: {flat: {select: [{light: dome}]}}\n")
    flats = [
        *series("flat", 3, "d", filter="V", light="dome"),
        *series("flat", 3, "t", filter="V", light="twilight"),
    ]
    plan = plan_of(flats, series("science", 1, filter="V"), config=config)
    assert taken(plan.products[-1], "flat") == "master_flat_V_bin1x1"
    assert {problem.reason for problem in plan.left_out} == {
        "recipe 'flat' does not take it: light = 'twilight', wanted 'dome'"
    }


def test_the_plan_is_said_to_people_and_machines(complete, tmp_path):
    config, plan = nights.make_plan(complete)
    night = series("science", 1, filter="V"), series("flat", 3, filter="R"), series("bias", 3)
    other = make_plan([item for group in night for item in group], [], DEFAULT)
    (flat,) = other.products[-1].passed_over
    assert flat == Candidate("flat", "night/master_flat_R_bin1x1", "filter 'R', wanted 'V'")
    document = other.as_dict()["products"][-1]["passed_over"]
    assert document == [{"role": "flat", "product": flat.product, "reason": flat.reason}]
    ahead = foresee(plan, config, tmp_path, workers=2, memory=4 << 30)
    text = listing.plan_text(plan, ahead)
    assert "missing" not in text
