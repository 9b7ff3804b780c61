import json
import string
from contextlib import suppress
from dataclasses import replace
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from masterframe.config import json_schema, load_config
from masterframe.errors import ConfigError
from masterframe.kernels.registry import resolve_rejection
from masterframe.model import Adjustment, Condition, Rejection, Section
from support import ROOT


def load(tmp_path, text, *overrides):
    path = tmp_path / "night.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_config(path, overrides)


def refused(tmp_path, text, *overrides):
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text, *overrides)
    return str(caught.value).replace(f"{tmp_path}/", "")


def test_defaults_are_the_workflow_of_the_design():
    config = load_config()
    assert list(config.recipes) == ["bias", "dark", "flat", "science"]
    for name, recipe in config.recipes.items():
        assert recipe.kind == recipe.name == name
        assert recipe.recipe.rejection == resolve_rejection(Rejection("sigma"))
        assert (recipe.recipe.estimator, recipe.recipe.dtype) == ("mean", "float32")
        assert recipe.min_frames == 3
    flat = config.recipes["flat"]
    assert (flat.adjust.scale, flat.normalize, flat.flat_minimum) == ("level", True, 0.2)
    assert config.recipes["bias"].adjust == Adjustment()
    assert config.instruments[-1].name == "generic"


def test_commented_configuration_says_the_defaults():
    shown = load_config(ROOT / "configs" / "night.yaml")
    assert replace(shown, source="") == load_config()


@pytest.mark.parametrize("name", ["night", "efosc2", "st402"])
def test_shipped_configurations_load(name):
    config = load_config(ROOT / "configs" / f"{name}.yaml")
    assert config.source.endswith(f"{name}.yaml")


def test_published_schema_is_the_one_in_force():
    published = (ROOT / "configs" / "masterframe.schema.json").read_text(encoding="utf-8")
    assert json.loads(published) == json_schema()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("recipes:\n  flat:\n    hi: 3\n", "night.yaml:3:5: key hi is unknown: did you mean high?"),
        ("recipe: {}\n", "night.yaml:1:1: key recipe is unknown: did you mean recipes?"),
        ("tolerances: {temprature: 2}\n", "night.yaml:1:14: key temprature is unknown"),
        ("recipes:\n  bias: {reject: sgma}\n", "night.yaml:2:10: rejection rule sgma is unknown"),
        ("recipes:\n  bias: {low: x}\n", "night.yaml:2:10: recipes.bias.low is 'x': "),
        ("recipes:\n  bias: {min_frames: 0}\n", "recipes.bias.min_frames is 0: "),
        ("recipes:\n  bias: {min_frames: '3'}\n", "recipes.bias.min_frames is '3': "),
        ("recipes:\n  bias: {subtract_bias: 1}\n", "recipes.bias.subtract_bias is 1: "),
        ("recipes:\n  bias: {scale: medain}\n", "night.yaml:2:10: scale medain is unknown: did"),
        ("recipes:\n  bias: {zero: 1.5}\n", "night.yaml:2:10: recipes.bias.zero is 1.5: "),
        ("recipes:\n  bias: {zero: '1.5'}\n", "night.yaml:2:10: zero 1.5 is unknown"),
        ("recipes:\n  bias: {statsec: '[1:0,1:2]'}\n", "night.yaml:2:10: statsec [1:0,1:2] is"),
        (
            "recipes:\n  bias: {combine: sum, weight: noise}\n",
            "night.yaml:2:24: weights have no place in combine sum",
        ),
        ("recipes:\n  bias: {trim: 0.5}\n", "night.yaml:2:10: recipes.bias.trim is 0.5: "),
        ("recipes:\n  bias: {reject: sigclp}\n", "rejection rule sigclp is unknown: did you mean"),
        ("recipes:\n  lamp: {reject: none}\n", "night.yaml:2:3: recipe lamp needs a kind"),
        ("recipes:\n  bias: {nlow: 2}\n", "rule 'sigma' does not read nlow = 2"),
        ("exclude:\n  - {fliter: V}\n", "night.yaml:2:6: field fliter is unknown: did you mean f"),
        ("types:\n  - {kind: falt, when: {}}\n", "night.yaml:2:6: types.0.kind is 'falt': "),
        (
            "instrument: efosc\n",
            "night.yaml:1:1: instrument efosc is unknown: did you mean efosc2?",
        ),
        ("instrument: [auto, mine.yaml]\n", "mine.yaml: cannot be read: No such file"),
        ("resources: {memory: lots}\n", "night.yaml:1:13: 'lots' is no size"),
        ("recipes:\n  bias: {low: 1e999}\n", "recipes.bias.low is inf: "),
        (
            "select: []\nselect: []\n",
            "night.yaml:2:1: 'select' is set twice, first at night.yaml:1:1",
        ),
        ("a: [1\n", "night.yaml:2:1: not valid YAML"),
        ("recipes:\n\tbias: {}\n", "night.yaml:2:1: not valid YAML"),
        ("- 1\n", "night.yaml:1:1: wanted a mapping of settings, found a list"),
        ("", "night.yaml:1:1: wanted a mapping of settings, found empty"),
        ("a: &x 1\nb: *x\n", "night.yaml:2:4: not valid YAML: aliases are not used here"),
        ("a: !!python/object/apply:os.system [ls]\n", "night.yaml:1:4: not valid YAML: could not"),
        ("{[1]: 2}\n", "a key must be a word"),
        ("a: " + "[" * 40 + "]" * 40 + "\n", "nested too deeply"),
        (b"\xff\xfe\x00", "byte 0 is not UTF-8"),
        (b"a: \x00\n", "unacceptable character"),
        ("#" * 300_000, "longer than 262144 bytes"),
    ],
)
def test_mistake_is_named_with_its_place(tmp_path, text, message):
    assert message in refused(tmp_path, text)


def test_all_mistakes_are_reported_at_once(tmp_path):
    lines = refused(tmp_path, "memry: 1\nnights: all\n").splitlines()
    assert [line.split(":")[1] for line in lines] == ["2", "1"] or len(lines) == 2


def test_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.yaml: cannot be read: No such file"):
        load_config(tmp_path / "none.yaml")


def test_words_of_old_yaml_stay_words(tmp_path):
    """YAML 1.1 would read these as False, a date, 750 seconds, 8 and False."""
    config = load(tmp_path, "exclude: {OBJECT: [off, 2022-01-28, 12:30, 010, no]}\n")
    assert config.exclude == ((Condition("OBJECT", ("off", "2022-01-28", "12:30", "010", "no")),),)


def test_byte_order_mark_and_windows_line_ends_are_fine(tmp_path):
    assert load(tmp_path, b"\xef\xbb\xbfnights: pooled\r\n").nights == "pooled"


def test_override_goes_before_the_file(tmp_path):
    text = "recipes:\n  flat: {min_frames: 5, low: 4.0}\n"
    flat = load(tmp_path, text, "recipes.flat.min_frames=7", "recipes.flat.high=off").recipes[
        "flat"
    ]
    rejection = flat.recipe.rejection
    assert (flat.min_frames, rejection.low, rejection.high) == (7, 4.0, inf)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("recipes.flat.sigma=3", "--set recipes.flat.sigma=3: key sigma is unknown"),
        ("recipes.flat.low=[", "--set recipes.flat.low=[:1:2: not valid YAML"),
        ("recipes", "--set recipes: write NAME.NAME=VALUE"),
        ("recipes..x=1", "--set recipes..x=1: write NAME.NAME=VALUE"),
        ("nights.x=1", "--set nights.x=1: nights is no mapping"),
    ],
)
def test_wrong_override_is_named(tmp_path, override, message):
    assert refused(tmp_path, "nights: apart\n", override).startswith(message)


def test_a_stanza_knows_the_words_of_the_command_line(tmp_path):
    text = (
        "recipes:\n  flat: {scale: mode, zero: SKY, weight: noise, statsec: '[3:10,1:7]', "
        "reject: sigclip, high: off, combine: mean, planes: [exposure, propagated]}\n"
        "  dark: {combine: trimmed, trim: 0.1, weight: none, reject: siril-mad, low: 2}\n"
        "  bias: {weight: variance, reject: crreject, noise_floor: auto}\n"
    )
    recipes = load(tmp_path, text).recipes
    flat, dark, bias = (recipes[name] for name in ("flat", "dark", "bias"))
    assert flat.adjust == Adjustment("mode", "!SKY", "noise", Section(0, 7, 2, 10))
    assert (flat.recipe.estimator, flat.recipe.weighting) == ("weighted", "frames")
    assert flat.recipe.planes == ("exposure", "propagated")
    clip = flat.recipe.rejection
    assert (clip.rule, clip.low, clip.high, clip.deviation) == ("sigma", 3.0, inf, "rms")
    assert flat.recipe.noise.floor == 0
    assert (dark.recipe.estimator, dark.recipe.trim) == ("trimmed", 0.1)
    assert dark.recipe.rejection.low == pytest.approx(2 / 1.4826, rel=1e-5)
    assert (bias.recipe.weighting, bias.recipe.rejection.rule) == ("variance", "ccd")
    assert bias.recipe.noise.floor == "auto"


def test_several_stanzas_of_a_kind_replace_its_default(tmp_path):
    config = load(
        tmp_path,
        "recipes:\n"
        "  bias: null\n"
        "  long: {kind: dark, select: {EXPTIME: '>= 600'}, combine: median}\n"
        "  short: {kind: dark}\n",
    )
    assert list(config.recipes) == ["long", "short", "flat", "science"]
    long = config.recipes["long"]
    assert (long.recipe.estimator, long.hot_sigma) == ("median", 20.0)
    assert long.select == ((Condition("EXPTIME", (">= 600",)),),)


def test_paths_given_to_exclude_are_patterns():
    config = load_config(exclude=["bad*.fits", "published/"])
    assert config.exclude == (
        (Condition("path", ("bad*.fits",)),),
        (Condition("path", ("published/",)),),
    )


@pytest.mark.parametrize(
    ("words", "size"),
    [("2GB", 2_000_000_000), ("1.5 GiB", 1_610_612_736), ("300m", None), ("512MB", 512_000_000)],
)
def test_memory_is_read_with_its_unit(tmp_path, words, size):
    text = f"resources: {{memory: {words}}}\n"
    if size is None:
        assert "is no size" in refused(tmp_path, text)
    else:
        assert load(tmp_path, text).memory == size


def test_instrument_of_ones_own_lies_beside_the_configuration(tmp_path):
    (tmp_path / "mine.yaml").write_text("base: generic\nkeywords: {gain: GAIN}\n")
    (one,) = load(tmp_path, "instrument: mine.yaml\n").instruments
    assert one.name == "mine"
    assert [card.key for card in one.keywords["gain"]] == ["GAIN"]
    assert one.keywords["exptime"][0].key == "EXPTIME"


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
known_keys = st.sampled_from(
    [
        "recipes",
        "types",
        "select",
        "exclude",
        "detector",
        "tolerances",
        "nights",
        "resources",
        "instrument",
        "bias",
        "flat",
        "low",
        "reject",
        "when",
        "kind",
        "memory",
        "bad_pixels",
        "group_by",
    ]
)
documents = st.recursive(
    values, lambda inner: st.dictionaries(known_keys | st.text(max_size=5), inner), max_leaves=12
)


@given(st.dictionaries(known_keys, documents, max_size=4))
def test_any_document_loads_or_is_refused(tmp_path_factory, document):
    path = tmp_path_factory.mktemp("fuzz") / "night.yaml"
    path.write_text(json.dumps(document), encoding="utf-8")
    try:
        load_config(path)
    except ConfigError as error:
        assert str(path) in str(error) or "cannot be read" in str(error)  # noqa: PT017


@given(st.text(alphabet=string.printable + "\x00é\ud7ff", max_size=60))
def test_any_text_loads_or_is_refused(tmp_path_factory, words):
    path = tmp_path_factory.mktemp("fuzz") / "night.yaml"
    path.write_text(words, encoding="utf-8")
    try:
        load_config(path)
    except ConfigError as error:
        assert str(path) in str(error)  # noqa: PT017


@given(st.text(max_size=40))
def test_any_override_is_taken_or_refused(words):
    with suppress(ConfigError):
        load_config(overrides=[words])
