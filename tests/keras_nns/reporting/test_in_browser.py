"""The page in Chromium: every control does what it says, for every eye, hand and screen."""

import json
import re
import shutil
from importlib import import_module
from importlib.util import find_spec

import numpy as np
import pytest
from surgery_records import LAYER, NAMES, small_record

import keras_nns as nns
from keras_nns.reporting import explorer, interactive
from keras_nns.selection.overlap import jaccard

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium"),
    # Before anything is made.
    *(
        pytest.mark.skipif(
            find_spec(name) is None, reason=f"needs {name}: pip install 'keras-nns[page,browser]'"
        )
        for name in ("altair", "vl_convert", "playwright")
    ),
]

CONTRAST = """() => {
  const channels = (text) => {
    const found = text.match(/[\\d.]+/g).map(Number);
    return found.length === 3 ? [...found, 1] : found;
  };
  const light = (rgb) => {
    const [r, g, b] = rgb.map((v) => v / 255).map((v) =>
      v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const over = (top, under) => [0, 1, 2].map((i) => top[i] * top[3] + under[i] * (1 - top[3]));
  const behind = (element) => {
    const layers = [];
    for (let e = element; e; e = e.parentElement) {
      layers.unshift(channels(getComputedStyle(e).backgroundColor));
    }
    return layers.reduce((under, top) => over(top, under), [255, 255, 255]);
  };
  const bad = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let seen = 0;
  for (let node; (node = walk.nextNode());) {
    const element = node.parentElement;
    const text = node.textContent.trim();
    if (!text || !element.checkVisibility() || element.closest("script, style, option")) continue;
    if (element.closest("#chart-overlap .role-mark")) continue;
    seen += 1;
    const style = getComputedStyle(element);
    const drawn = element.namespaceURI.endsWith("svg") ? style.fill : style.color;
    const under = behind(element);
    const [one, other] = [light(over(channels(drawn), under)), light(under)];
    const contrast = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    if (contrast < 4.5) bad.push([text.slice(0, 40), element.tagName, contrast]);
  }
  // What two labels share stands on a square of the chart.
  const [squares, , numbers] = [...document.querySelectorAll("#chart-overlap g.role-mark")]
    .map((group) => [...group.querySelectorAll("path, text")]);
  const canvas = document.createElement("canvas").getContext("2d");
  const painted = (fill) => ((canvas.fillStyle = fill), canvas.fillStyle.match(/\\w\\w/g)
    .map((pair) => parseInt(pair, 16)));
  numbers.forEach((number, i) => {
    const [one, other] = [number, squares[i]].map((e) => light(painted(e.getAttribute("fill"))));
    const contrast = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    if (contrast < 4.5) bad.push([number.textContent, "on its square", contrast]);
  });
  if (numbers.length !== 16) bad.push("squares without numbers");
  return [seen, bad];
}"""


@pytest.fixture(scope="module")
def record():
    return small_record()


@pytest.fixture(scope="module")
def data(record):
    return explorer.page_data(record)


@pytest.fixture(scope="module")
def address(record, tmp_path_factory):
    done = interactive.publish(record, tmp_path_factory.mktemp("page"))
    return done.path.as_uri()


@pytest.fixture(scope="module")
def browser(address):
    api = import_module("playwright.sync_api")
    with api.sync_playwright() as started:
        running = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture
def visit(browser, address):
    """Open the page in a window of a size and theme; in the end, nothing may have gone wrong."""
    wrong, windows = [], []

    def opened(width=1280, height=900, theme="light"):
        window = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=theme
        )
        windows.append(window)
        page = window.new_page()
        page.on("console", lambda said: wrong.append(f"{said.type}: {said.text}"))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("dialog", lambda dialog: (wrong.append("a name ran as a script"), dialog.dismiss()))
        page.on("requestfailed", lambda request: wrong.append(request.url[:80]))
        page.goto(address)
        for chart in page.locator(".chart").all():
            chart.scroll_into_view_if_needed()
            chart.locator("xpath=self::*[@data-drawn]").wait_for(timeout=20_000)
        page.evaluate("scrollTo({top: 0, behavior: 'instant'})")
        return page

    yield opened
    for window in windows:
        window.close()
    assert wrong == []


@pytest.fixture
def page(visit):
    return visit()


def shown(page, selector):
    return page.locator(selector).inner_text()


def test_a_slider_moves_units_figures_and_size_together(page, data):
    for index, network in enumerate(data["networks"]):
        slider = page.locator(f"#size-{index}")
        slider.focus()
        for place, key in ((0, "Home"), (1, "ArrowRight"), (2, "End")):
            slider.press(key)
            point = network["points"][place]
            assert slider.input_value() == str(place)
            facts = dict(
                zip(
                    page.locator("#detail-facts dt").all_inner_texts(),
                    page.locator("#detail-facts dd").all_inner_texts(),
                    strict=True,
                )
            )
            assert facts["units kept"].split() == [str(point["units"]), "of", "13"]
            assert facts["parameters"].split()[0] == str(point["parameters"])
            assert facts["recall"].split()[0] == f"{point['recall']:.3f}"
            assert facts["balanced accuracy"].split()[0] == f"{point['balanced_accuracy']:.3f}"
            told = shown(page, f"#faders li:nth-child({index + 1}) output").split()
            assert told == [str(point["parameters"]), f"{point['balanced_accuracy']:.3f}"]
            strip = page.locator("#chart-strip").get_attribute("aria-label")
            counts = [int(n) for n in re.findall(r"(\d+) of", strip)]
            assert sum(counts) == point["units"]
            assert network["name"] in shown(page, "#detail-title")


def test_one_slider_moves_them_all(page, data):
    page.locator("#every-size").focus()
    page.keyboard.press("End")
    assert [page.locator(f"#size-{i}").input_value() for i in range(4)] == ["2"] * 4
    total = 4 * data["parent"]["parameters"]
    assert f"{total:,} parameters together" in shown(page, "#total")


def test_a_click_on_a_point_chooses_it(page):
    assert page.locator("#size-0").input_value() == "0"
    marks = page.locator("#chart-sizes svg g.mark-symbol.role-mark path")
    assert marks.count() == 3
    marks.nth(2).click(force=True)
    assert page.locator("#size-0").input_value() == "2"
    assert "The parent itself" in shown(page, "#detail-way")


def test_a_unit_tells_who_uses_it_and_what_excites_it(page, record, data):
    number = page.locator("#unit-number")
    for layer, name in enumerate((LAYER, "two")):
        page.locator("#unit-layer").select_option(str(layer))
        for unit in (1, 4):
            number.fill(str(unit))
            assert shown(page, "#unit-title") == f"Unit {unit} of {name}"
            users = [s.name for s in record.subnetworks if unit in s.plan.kept[name]]
            assert page.locator("#unit-users li").all_text_contents() == users
            tiles = record.tiles.units[name][unit]
            captions = page.locator("#unit-samples figcaption").all_text_contents()
            assert captions == [NAMES[record.tiles.labels[tile]] for tile in tiles]
            values = page.locator("#unit-bars .value").all_inner_texts()
            np.testing.assert_allclose(
                [float(v) for v in values], record.activity.mean(name)[:, unit], rtol=0.01
            )
    page.locator("#unit-statistic").select_option("1")
    values = page.locator("#unit-bars .value").all_inner_texts()
    rates = record.activity.firing_rate("two")[:, 4]
    np.testing.assert_allclose([float(v) for v in values], rates, rtol=0.01)


def test_hovering_over_the_map_chooses_the_unit_under_the_pointer(page):
    chart = page.locator("#chart-units").locator("svg, canvas").first
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    found = []
    for part in np.linspace(0.25, 0.97, 8):
        page.mouse.move(box["x"] + part * box["width"], box["y"] + 0.6 * box["height"])
        found.append(int(re.search(r"\d+", shown(page, "#unit-title"))[0]))
    assert found == sorted(found) and found[-1] == 7 and len(set(found)) >= 5


@pytest.mark.parametrize("zeta", ["0.1", "0.45", "1"])
def test_zeta_keeps_what_the_papers_rule_keeps(page, record, zeta):
    page.locator("#rule-label").select_option("2")
    page.locator("#rule-group").select_option("0")
    page.locator("#rule-zeta").fill(zeta)
    plans = nns.select(
        record.activity, "each", score="mean_activation", keep=nns.above(float(zeta))
    )
    told = shown(page, "#rule-told")
    counts = [len(plan.kept[LAYER]) for plan in plans]
    union = len(set().union(*(plan.kept[LAYER] for plan in plans)))
    assert f"keeps {counts[2]} of 8 units of {LAYER}" in told
    assert f"{sum(map(len, plans[2].kept.values()))} of 13 in all layers" in told
    assert f"{min(counts)} to {max(counts)}; together {union} of 8" in told
    # And so do the bars that are drawn.
    colour = "getComputedStyle(document.documentElement).getPropertyValue('--accent').trim()"
    kept = page.evaluate(colour)
    page.wait_for_function(
        """([colour, count]) => [...document.querySelectorAll(
             "#chart-rule svg g.mark-rect.role-mark path")]
             .filter((bar) => bar.getAttribute("fill") === colour).length === count""",
        arg=[kept, counts[2]],
        timeout=10_000,
    )


def test_what_two_labels_share_follows_clicks_and_selects(page, record):
    expected = jaccard([one.plan for one in record.subnetworks])
    squares = page.locator("#chart-overlap svg g.mark-rect.role-mark").first.locator("path")
    assert squares.count() == 16
    squares.nth(1 * 4 + 3).click(force=True)
    assert (page.input_value("#overlap-a"), page.input_value("#overlap-b")) == ("1", "3")
    assert f"{expected[1, 3]:.3f}" in shown(page, "#overlap-told")
    page.locator("#overlap-a").select_option("0")
    page.locator("#overlap-b").select_option("2")
    assert f"{expected[0, 2]:.3f}" in shown(page, "#overlap-told")
    both = set(record.subnetworks[0].plan.kept["two"]) & set(record.subnetworks[2].plan.kept["two"])
    said = page.locator("#overlap-told section").nth(1).locator("dd").first.inner_text()
    assert said == (", ".join(map(str, sorted(both))) or "none")


def test_figures_and_costs_can_be_chosen(page, record):
    for place, name in enumerate(("balanced_accuracy", "recall", "specificity", "auc")):
        page.locator("#figure-name").select_option(str(place))
        worst = min(getattr(s.comparison.after[i], name) for i, s in enumerate(record.subnetworks))
        assert f"{worst:.3f}" in shown(page, "#caption-figures")
    names = page.locator("#cost-name option").all_inner_texts()
    assert names == ["parameters", "multiply-adds"]
    page.locator("#cost-name").select_option("1")
    macs = record.subnetworks[0].comparison.parent_costs.macs
    assert f"{macs:,}" in shown(page, "#caption-costs")


def test_tables_sort_up_down_and_back(page):
    table = page.locator("main table").nth(2)
    heads = table.locator("th button")

    def column(place):
        return table.locator(f"tbody td:nth-child({place + 1})").all_inner_texts()

    for place in range(heads.count()):
        before = column(place)
        heads.nth(place).click()
        up = column(place)
        assert table.locator("th").nth(place).get_attribute("aria-sort") == "ascending"
        heads.nth(place).press("Enter")
        assert column(place) == up[::-1] or len(set(up)) < len(up)
        numbers = [re.findall(r"-?[\d.]+", cell.replace(",", "")) for cell in up]
        if all(numbers) and place:
            last = [float(found[-1]) for found in numbers]
            assert last == sorted(last)
        heads.nth(place).click()
        assert column(place) == before
        assert table.locator("th").nth(place).get_attribute("aria-sort") is None


def test_the_contents_list_leads_to_every_part(page):
    links = page.locator(".contents a")
    titles = [title for title in page.locator("main h2").all_inner_texts()]
    assert links.all_inner_texts() == titles and len(titles) > 8
    for place in (2, len(titles) - 1):
        links.nth(place).click()
        target = page.evaluate("decodeURIComponent(location.hash.slice(1))")
        assert page.locator(f"[id='{target}']").inner_text() == titles[place]


def test_the_keyboard_reaches_every_control(page):
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    # Sliders bring their detail along, so that the link in it is another element each time.
    key = "(e) => e.id || e.getAttribute('href') || e.outerHTML"
    wanted = page.evaluate(
        f"""() => [...document.querySelectorAll("a[href], input, select, button, summary")]
             .filter((e) => e.checkVisibility() && !e.closest("#detail-facts")).map({key})"""
    )
    reached = set()
    for _ in range(len(wanted) + 40):
        reached.add(page.evaluate(f"({key})(document.activeElement)"))
        page.keyboard.press("Tab")
    assert len(wanted) > 40 and set(wanted) <= reached
    outline = page.evaluate(
        "(document.getElementById('size-0').focus(), getComputedStyle("
        "document.getElementById('size-0')).outlineStyle)"
    )
    assert outline != "none"


def test_names_are_shown_and_never_obeyed(page):
    labels = page.locator("#faders label").all_text_contents()
    assert labels == list(NAMES)
    assert page.locator("b, i").count() == page.locator("output b").count()


def test_every_picture_and_control_has_a_name(page):
    nameless = page.evaluate(
        """() => [...document.querySelectorAll("input, select, button, img, [role=img]")]
             .filter((e) => e.checkVisibility() && !(e.labels?.length
               || e.getAttribute("aria-label") || e.getAttribute("alt") || e.textContent.trim()))
             .map((e) => e.outerHTML)"""
    )
    assert nameless == []
    for chart in page.locator(".chart").all():
        assert len(chart.get_attribute("aria-label")) > 30


@pytest.mark.parametrize("width", [390, 768, 1280])
def test_nothing_is_wider_than_the_screen(visit, width):
    page = visit(width=width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    wide = page.evaluate(
        """() => [...document.querySelectorAll("main *")].filter((e) => e.checkVisibility()
             && !e.closest(".wide, svg, .faders ol") && e.getBoundingClientRect().right
             > innerWidth + 1).map((e) => e.outerHTML.slice(0, 90))"""
    )
    assert wide == []
    small = page.evaluate(
        """() => [...document.querySelectorAll("main :not(svg *)")].filter((e) =>
             e.checkVisibility() && e.childElementCount === 0 && e.textContent.trim()
             && parseFloat(getComputedStyle(e).fontSize) < 12).map((e) => e.textContent)"""
    )
    assert small == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_word_stands_out_from_what_is_behind_it(visit, theme):
    page = visit(theme=theme)
    page.locator("#every-size").press("ArrowRight")
    seen, bad = page.evaluate(CONTRAST)
    assert seen > 300 and bad == []


def test_charts_follow_the_theme(visit):
    page = visit()
    fills = """() => [getComputedStyle(document.body).backgroundColor,
        document.querySelector("#chart-figures svg .role-axis-label text").getAttribute("fill")]"""
    light = page.evaluate(fills)
    page.emulate_media(color_scheme="dark")
    page.wait_for_function(
        "(was) => document.querySelector('#chart-figures svg .role-axis-label text')"
        ".getAttribute('fill') !== was",
        arg=light[1],
        timeout=10_000,
    )
    dark = page.evaluate(fills)
    assert light[0] == "rgb(255, 255, 255)" and dark[0] != light[0]
    ink = "getComputedStyle(document.documentElement).getPropertyValue('--ink').trim()"
    assert dark[1] == page.evaluate(ink)


def test_what_is_stored_is_what_the_page_reads(page, data):
    stored = page.evaluate("JSON.parse(document.getElementById('data').textContent)")
    assert stored == json.loads(json.dumps(data))
