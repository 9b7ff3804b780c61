"""The report of a night: what it says, that nothing in it acts, and that a browser shows it."""

import base64
import html.parser
import io
import json
import math
import re
import shutil
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.visualization import ZScaleInterval
from matplotlib.image import imread

import faulty
from cleannights import CAMERA
from masterframe import report, simulate
from masterframe.fits import records, tables
from masterframe.report import charts, pictures
from masterframe.report.charts import Axis, Series, draw
from nights import call, make_plan, night, reduce_night, reduce_plan
from support import program, shared

HOSTILE = '"><script>document.title="taken"</script><img src=x onerror=alert(1)>'
"""What a header must not do to a page."""
LIMIT = 15_000_000
"""Most bytes of a report."""


class Page(html.parser.HTMLParser):
    """The elements of a page, and its text."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.words = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def read(out):
    text = (out / "report" / "index.html").read_text(encoding="utf-8")
    return Page(text), json.loads((out / "report" / "report.json").read_text(encoding="utf-8"))


SPEC = simulate.NightSpec(
    replace(CAMERA, shape=(192, 224)),
    bias=6,
    darks={60.0: 4, 120.0: 4},
    flats={"V": 5, "B": 5},
    science={"V": 1},
    stars=8,
    seed=12,
)


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    """The output folder of a simulated night with a light leak, and another night before it."""
    folder = tmp_path_factory.mktemp("simulated")
    made = simulate.simulate_night(folder, SPEC, workers=2)
    before = shutil.copytree(made.night, folder / "before")
    for path in before.glob("*"):
        with fits.open(path, mode="update") as hdus:
            hdus[0].header["DATE-OBS"] = hdus[0].header["DATE-OBS"].replace("06-2", "05-2")
    faulty.light_leak(made.night / "bias_003.fits")
    for source in (before, made.night):
        reduce_night(source, folder / "out")
    return folder / "out"


def test_the_report_names_every_master_and_what_was_left_out(simulated):
    page, document = read(simulated)
    names = {item["name"] for item in document["masters"]}
    assert len(names) == 10
    assert all(name in page.text for name in names)
    assert [Path(item["path"]).name for item in document["left_out"] if item["where"]] == [
        "bias_003.fits"
    ]
    assert "gradient" in document["left_out"][0]["reason"]
    assert "bias_003.fits" in page.text
    assert "All 10 masters pass every test." in page.text


def test_numbers_of_the_report_are_those_of_the_masters(simulated):
    _, document = read(simulated)
    for item in document["masters"]:
        rows = tables.read_quality(item["path"])
        expected = {row.name: row.value for row in rows if not row.verdict}
        assert item["numbers"] == expected
        tests = {row.name.removeprefix("test "): row for row in rows if row.verdict}
        for test in item["tests"]:
            if test["name"] != "previous":
                assert test["value"] == tests[test["name"]].value
                assert test["verdict"] == tests[test["name"]].verdict
        assert [row["path"] for row in item["inputs"]] == [
            row.path for row in tables.read_inputs(item["path"]) if row.kept
        ]
    compared = [item["previous"] for item in document["masters"] if item["previous"]]
    assert len(compared) == 5
    assert all(item["previous"].startswith("before/") for item in compared)


def test_every_picture_of_a_master_is_there_with_words(simulated):
    page, _ = read(simulated)
    titles = re.findall(r"<h4>(.*?)</h4>", (simulated / "report/index.html").read_text())
    for title in (
        *("The master", "Where it is least smooth", "Values not used", "Illumination", "Dust"),
        *("Masked pixels", "Power spectrum", "Values", "Profile by columns", "Profile by rows"),
        *(
            "Noise against the number of frames",
            "Level of each frame",
            "Frames beside each other",
            "Noise of each frame",
        ),
        *("Rejected of each frame", "Values kept in a pixel", "Hot pixels", "Photon transfer"),
        *("Dark level against exposure time", "Ratio to the previous master"),
        "Difference from the previous master",
    ):
        assert title in titles, title
    assert all(image["alt"] for image in page.all("img") if image.get("id") != "blink-image")
    assert all(drawing["aria-label"] for drawing in page.all("svg"))
    assert page.text.count("Good: ") >= len(titles)


def test_the_page_asks_for_nothing_and_lets_nothing_run_but_its_own_script(simulated):
    page, _ = read(simulated)
    (policy,) = [item["content"] for item in page.all("meta") if "http-equiv" in item]
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'sha256-")
    sources = [item["src"] for item in page.all("img")] + [i["href"] for i in page.all("link")]
    assert all(source.startswith("data:") for source in sources)
    assert [item for item in page.all("script") if item] == []
    assert all(item["href"].startswith("#") for item in page.all("a"))
    assert not [name for _, attrs in page.elements for name in attrs if name.startswith("on")]
    assert not [attrs for _, attrs in page.elements if "style" in attrs]


def test_the_report_of_a_night_that_was_moved_reads_no_raw_frame(simulated, tmp_path):
    """It is made of the written masters alone."""
    moved = shutil.copytree(simulated, tmp_path / "moved")
    shutil.rmtree(moved / "report")
    shutil.rmtree(moved / ".masterframe")
    nowhere = tmp_path / "nowhere"
    for name in ("night", "before"):
        (simulated.parent / name).rename(nowhere.with_name(f"{name}-away"))
    try:
        report.write_report(moved)
    finally:
        for name in ("night", "before"):
            nowhere.with_name(f"{name}-away").rename(simulated.parent / name)
    page, document = read(moved)
    assert len(document["masters"]) == 10
    assert "No record of a run is here" in page.text


def hostile_night(folder):
    """Write a night whose headers and names attack whoever shows them."""
    night(folder, bias=3, flat=3, science=0)
    for index in range(3):
        with fits.open(folder / f"flat_{index}.fits", mode="update") as hdus:
            hdus[0].header["FILTER"] = HOSTILE[:66]
            hdus[0].header["OBJECT"] = "{{ 7 * 7 }}"
            hdus[0].header["INSTRUME"] = HOSTILE[:66]
    name = "<img src=x onerror=alert(1)>.fits"
    (folder / "bias_0.fits").rename(folder / name)
    (folder / "bad<script>1<.fits").write_bytes(b"SIMPLE")
    return folder


def test_hostile_headers_and_names_are_text(tmp_path):
    reduce_night(hostile_night(tmp_path / "n<b>ight"), tmp_path / "o<script>ut")
    page, _ = read(tmp_path / "o<script>ut")
    assert len(page.all("script")) == 1
    assert page.all("b") == []
    assert not [image for image in page.all("img") if not image["src"].startswith("data:")]
    assert "bad<script>1<.fits" in "".join(page.words)
    assert "49" not in page.text.split("Facts")[0]


def test_a_report_that_cannot_be_written_fails_no_product(tmp_path, capsys, monkeypatch):
    folder = night(tmp_path / "night", bias=3, flat=0, science=0)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "report").write_text("in the way")
    code, _, err = call(capsys, monkeypatch, "run", folder, "-o", tmp_path / "out")
    assert code == 0
    assert "no report: " in err
    assert len(list((tmp_path / "out").rglob("master_bias*.fits"))) == 1


def test_report_is_written_again_by_its_command(tmp_path, capsys, monkeypatch):
    folder = night(tmp_path / "night", bias=3, flat=0, science=0)
    config, plan = make_plan(folder, "report=false")
    reduce_plan(plan, config, tmp_path / "out")
    assert not (tmp_path / "out" / "report").exists()
    code, text, _ = call(capsys, monkeypatch, "report", tmp_path / "out", "--json")
    assert code == 0
    assert Path(json.loads(text)["report"]).is_file()
    code, _, err = call(capsys, monkeypatch, "report", tmp_path / "none")
    assert (code, "give the one that a run wrote to" in err) == (2, True)
    (tmp_path / "empty").mkdir()
    code, _, err = call(capsys, monkeypatch, "report", tmp_path / "empty")
    assert (code, "holds no master, and no run worked in it" in err) == (2, True)
    assert list((tmp_path / "empty").iterdir()) == []


def test_a_failed_and_a_blocked_product_are_listed(tmp_path):
    folder = night(tmp_path / "night", bias=3, flat=3, science=1)
    config, plan = make_plan(folder)
    (folder / "bias_1.fits").write_bytes(b"")
    reduce_plan(plan, config, tmp_path / "out")
    page, document = read(tmp_path / "out")
    assert document["verdict"] == "fail"
    assert len(document["not_made"]) == 3
    assert "Failed and blocked" in page.text
    assert "3 products could not be made." in page.text


def many_frames(folder, count=5000):
    """Write masters as a run of many frames does: real ones, whose tables are made longer."""
    reduce_night(night(folder / "night", bias=5, flat=5, science=0), folder / "out")
    rng = np.random.default_rng(7)
    for path in (folder / "out").rglob("master_*.fits"):
        (first, *_) = tables.read_inputs(path)
        start = np.datetime64("2026-01-02T00:00:00")
        rows = [
            replace(
                first,
                path=f"/data/night/frame_{index:05d}.fits",
                date_obs=str(start + np.timedelta64(11 * index, "s")),
                level=float(first.level + rng.normal(0, 2)),
                noise=float(first.noise * rng.normal(1, 0.01)),
                rejected_low=int(rng.poisson(1)),
                rejected_high=int(rng.poisson(1)),
                status="level 900 is beyond 0.25" if index >= count - 400 else "used",
                kept=0 if index >= count - 400 else first.kept,
            )
            for index in range(count)
        ]
        with fits.open(path) as hdus:
            begin = hdus["INPUTS"].fileinfo()["hdrLoc"]
        (record,) = records.read_records(path).values()
        table = tables.inputs_table(rows, [replace(record, frames=count - 400)])
        path.write_bytes(path.read_bytes()[:begin] + table)
    return folder / "out"


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    out = many_frames(tmp_path_factory.mktemp("large"))
    report.write_report(out)
    return out


def test_the_report_of_five_thousand_frames_is_small(large):
    _, document = read(large)
    assert [len(item["inputs"]) for item in document["masters"]] == [4600, 4600]
    assert (large / "report" / "index.html").stat().st_size < LIMIT / 5


# pictures and charts


def test_zscale_is_that_of_astropy():
    rng = np.random.default_rng(2)
    plane = rng.normal(1000, 10, (80, 90))
    plane[rng.random(plane.shape) < 0.02] = 60_000
    low, high = pictures.zscale(plane)
    expected = ZScaleInterval(n_samples=plane.size).get_limits(plane)
    assert low == pytest.approx(expected[0], abs=2)
    assert high == pytest.approx(expected[1], abs=4)


@pytest.mark.parametrize("kind", ["noise", "flat"])
def test_a_png_holds_the_pixels_that_were_put_in(kind):
    pixels = np.random.default_rng(1).integers(0, 256, (37, 53)).astype(np.uint8)
    if kind == "flat":
        pixels = np.full((37, 53), 77, np.uint8)
        pixels[5:9, 7] = 200
    data = base64.b64decode(pictures.png_uri(pixels).removeprefix("data:image/png;base64,"))
    assert zlib.crc32(data) != 0
    np.testing.assert_array_equal(np.rint(imread(io.BytesIO(data)) * 255).astype(int), pixels)


def test_small_planes_are_means_of_the_good_pixels(tmp_path):
    rng = np.random.default_rng(5)
    data = rng.normal(size=(50, 61)).astype(np.float32)
    mask = (rng.random((50, 61)) < 0.3).astype(np.uint8)
    mask[:10, :10] = 1
    planes = []
    for name, plane in (("data", data), ("mask", mask)):
        fits.PrimaryHDU(plane).writeto(tmp_path / f"{name}.fits")
        from masterframe import fits as own

        planes.append(own.scan_file(tmp_path / f"{name}.fits").hdus[0].frame)
    small = pictures.shrink(tuple(planes), 13, pictures.mean_of_good)
    assert small.shape == (10, 12)
    for y, x in ((0, 0), (3, 7), (9, 11)):
        cell = np.s_[5 * y : 5 * y + 5, 5 * x : 5 * x + 5]
        good = data[cell][mask[cell] == 0]
        expected = good.mean(dtype=np.float64) if good.size else np.nan
        np.testing.assert_allclose(small[y, x], expected, rtol=1e-6)


def test_a_chart_puts_values_where_its_ticks_are():
    x = charts.values([0, 5, 10])
    chart = draw("t", "c", [Series(x, 10 * x)], Axis("x", low=0, high=10), Axis("y"))
    at = {tick.text: tick.at for tick in chart.x_ticks}
    assert at["0"] == charts.LEFT
    assert at["10"] == charts.WIDTH - charts.RIGHT
    points = re.findall(r"([\d.]+) ([\d.]+)", chart.marks[0].path)
    assert [float(a) for a, _ in points] == [at["0"], pytest.approx(225, abs=0.2), at["10"]]
    heights = {tick.text: tick.at for tick in chart.y_ticks}
    assert float(points[-1][1]) == pytest.approx(heights["100"], abs=0.2)


@pytest.mark.parametrize(
    "given",
    [
        [1.0],
        [2.0, 2.0],
        [0.0, 0.0, 0.0],
        [1e-30, 2e-30],
        [-1e300, 1e300],
        [math.nan, 1.0, math.inf],
    ],
)
@pytest.mark.parametrize("log", [False, True])
def test_a_chart_of_odd_values_is_finite(given, log):
    y = charts.values(given)
    chart = draw("t", "c", [Series(y, y)], Axis("x", log=log), Axis("y", log=log))
    if chart is not None:
        numbers = re.findall(r"-?[\d.]+|nan|inf", chart.marks[0].path)
        assert all(-20 < float(number) < 450 for number in numbers)


def test_ticks_do_not_touch():
    x = np.geomspace(8_000, 60_000, 30)
    chart = draw("t", "c", [Series(x, x)], Axis("x", log=True), Axis("y", log=True))
    for ticks, room in ((chart.x_ticks, 30), (chart.y_ticks, 16)):
        places = sorted(tick.at for tick in ticks)
        assert len(places) > 2
        assert np.diff(places).min() > room


def test_a_histogram_is_not_drawn_across_bins_without_pixels():
    x = charts.values([0, 1, 2, 7, 8])
    chart = draw("t", "c", [Series(x, x + 1, "steps")], Axis("x"), Axis("y"))
    assert chart.marks[0].path.count("M") == 2
    assert chart.marks[0].path.count("H") == 5


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "\u2013"),
        (math.nan, "\u2013"),
        (1.1, "1.1"),
        (-9.05431, "\u22129.054"),
        (0.0, "0"),
        (1.97e-5, "1.97\u00d710\u207b\u2075"),
        (65535.0, "65535"),
        (-123456.4, "\u2212123456"),
        (2.5e9, "2.5\u00d710\u2079"),
    ],
)
def test_numbers_read_as_people_write_them(value, text):
    assert charts.number(value) == text


def test_no_chart_is_made_of_nothing():
    assert (
        draw("t", "c", [Series(charts.values([]), charts.values([]))], Axis("x"), Axis("y")) is None
    )


def test_extremes_of_a_long_curve_are_drawn():
    y = np.zeros(100_000)
    y[70_001] = 5.0
    chart = draw("t", "c", [Series(np.arange(1e5), y)], Axis("x"), Axis("y"))
    heights = [float(number) for number in re.findall(r"[ML][\d.]+ ([\d.]+)", chart.marks[0].path)]
    assert len(heights) <= charts.MOST_POINTS
    assert min(heights) < charts.HEIGHT / 4


# in a browser


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    path = program("chromium")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def efosc2(tmp_path_factory):
    out = tmp_path_factory.mktemp("efosc2") / "out"
    reduce_night(shared("data/efosc2"), out)
    return out


MOSAIC = simulate.NightSpec(
    simulate.Camera((96, 80), 12, extensions=4, amplifiers=2),
    bias=5,
    darks={60.0: 4},
    flats={"V": 4},
    science={},
    seed=3,
)


@pytest.fixture(scope="module")
def mosaic(tmp_path_factory):
    """A night of four CCDs with two amplifiers each, and light in one bias of one of them."""
    folder = tmp_path_factory.mktemp("mosaic")
    made = simulate.simulate_night(folder, MOSAIC, workers=2)
    with fits.open(made.night / "bias_002.fits", mode="update") as hdus:
        hdus["CCD3"].data[:40, :40] += 60
    reduce_night(made.night, folder / "out")
    return folder / "out"


def test_of_a_mosaic_every_ccd_has_its_place_and_its_numbers(mosaic):
    page, document = read(mosaic)
    assert len(document["masters"]) == 12
    assert [item["extension"] for item in document["detectors"]] == ["CCD1", "CCD2", "CCD3", "CCD4"]
    for found in document["detectors"]:
        assert found["gain"] == pytest.approx(found["gain_given"], rel=0.05)
    (left,) = [item for item in document["left_out"] if item["where"]]
    assert Path(left["path"]).name == "bias_002.fits"
    titles = [f"night/master_bias_bin1x1 CCD{number}" for number in (1, 2, 3, 4)]
    assert all(title in page.text for title in titles)
    # twelve masters that are good: what they look like is a click away
    parts = [item for item in page.all("details") if item.get("class") != "charts"]
    assert sum("open" in item for item in parts) == sum(
        item["verdict"] in ("fail", "warn") for item in document["masters"]
    )


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    reduce_night(hostile_night(folder / "night"), folder / "out")
    return folder / "out"


@pytest.mark.slow
@pytest.mark.system
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["efosc2", "simulated", "mosaic", "large", "hostile"])
def test_a_browser_shows_the_whole_report(name, scheme, request, browser):
    out = request.getfixturevalue(name)
    context = browser.new_context(color_scheme=scheme, viewport={"width": 1200, "height": 900})
    page = context.new_page()
    said, asked = [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.on("dialog", lambda dialog: (said.append("dialog"), dialog.dismiss()))
    address = (out / "report" / "index.html").as_uri()
    page.goto(address)
    assert said == []
    assert [url for url in asked if not url.startswith("data:")] == [address]
    assert page.title() != "taken"
    page.evaluate("for (const part of document.querySelectorAll('details')) part.open = true")
    images = "[...document.images].filter(i => !i.complete || i.naturalWidth === 0).length"
    assert page.evaluate(images) == 0
    wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.evaluate(wide) == 0
    paths = "[...document.querySelectorAll('svg .mark')].filter(m => m.getBBox().width + "
    paths += (
        "m.getBBox().height === 0 && m.getTotalLength() === 0 && !m.classList.contains('points')"
    )
    assert page.evaluate(f"{paths}).length") == 0
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    bright = sum(map(int, re.findall(r"\d+", paper)[:3])) / 3
    assert (bright > 200) == (scheme == "light")
    context.close()


@pytest.mark.slow
@pytest.mark.system
@pytest.mark.parametrize("name", ["efosc2", "mosaic", "large"])
def test_two_masters_blink(name, request, browser):
    page = browser.new_page()
    page.goto((request.getfixturevalue(name) / "report" / "index.html").as_uri())
    before = page.inner_text("#blink-name"), page.get_attribute("#blink-image", "src")
    page.click("#blink-turn")
    after = page.inner_text("#blink-name"), page.get_attribute("#blink-image", "src")
    assert before[0] != after[0]
    assert before[1] != after[1]
    assert page.evaluate("document.getElementById('blink-image').naturalWidth") > 1
    page.close()


@pytest.mark.slow
@pytest.mark.system
@pytest.mark.parametrize("name", ["efosc2", "mosaic"])
def test_paper_is_wide_enough(name, request, browser):
    """Tables fit on A4, and what is folded does not take a sheet of its own."""
    page = browser.new_page(viewport={"width": 794, "height": 1123})
    page.goto((request.getfixturevalue(name) / "report" / "index.html").as_uri())
    page.emulate_media(media="print")
    wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.evaluate(wide) == 0
    folded = (
        "[...document.querySelectorAll('section.master')].filter(s => !s.querySelector('[open]'))"
    )
    breaks = f"{folded}.filter(s => getComputedStyle(s).breakBefore === 'page').length"
    assert page.evaluate(breaks) == 0
    page.close()


@pytest.mark.slow
@pytest.mark.system
def test_a_link_opens_the_master_that_it_leads_to(mosaic, browser):
    page = browser.new_page()
    page.goto((mosaic / "report" / "index.html").as_uri())
    assert not page.is_visible("#m3 figure")
    page.click("a[href='#m3']")
    page.wait_for_selector("#m3 figure", state="visible")
    page.close()


@pytest.mark.slow
@pytest.mark.system
def test_masters_blink_by_keyboard(simulated, browser):
    page = browser.new_page()
    page.goto((simulated / "report" / "index.html").as_uri())
    first = page.inner_text("#blink-name")
    source = page.get_attribute("#blink-image", "src")
    page.focus("#blink-image")
    page.keyboard.press("Space")
    turned = page.inner_text("#blink-name")
    assert turned != first
    assert page.get_attribute("#blink-image", "src") != source
    page.keyboard.press("Space")
    assert page.inner_text("#blink-name") == first
    # a master begins beside that of the other night
    assert {first.split("/")[0], turned.split("/")[0]} == {"before", "night"}
    page.keyboard.press("ArrowRight")
    third = page.inner_text("#blink-name")
    page.keyboard.press("ArrowRight")
    assert page.inner_text("#blink-name") != third
    page.focus("#blink-run")
    page.keyboard.press("Enter")
    assert page.get_attribute("#blink-run", "aria-pressed") == "true"
    shown = page.inner_text("#blink-name")
    page.wait_for_function(
        "was => document.getElementById('blink-name').textContent !== was", arg=shown
    )
    page.close()


@pytest.mark.slow
@pytest.mark.system
def test_the_page_is_whole_without_its_script_and_on_a_small_screen(simulated, browser):
    context = browser.new_context(java_script_enabled=False, viewport={"width": 390, "height": 800})
    page = context.new_page()
    page.goto((simulated / "report" / "index.html").as_uri())
    assert not page.is_visible("#blink")
    assert page.is_visible("h1")
    context.close()
