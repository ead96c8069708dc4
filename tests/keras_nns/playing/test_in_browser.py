"""The page in Chromium: a sample is chosen or drawn, sizes are switched, and the answers follow."""

import shutil
from importlib import import_module
from importlib.util import find_spec

import keras
import numpy as np
import pytest
from sklearn.datasets import load_digits

import keras_nns as nns

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium"),
    *(
        pytest.mark.skipif(
            find_spec(name) is None, reason=f"needs {name}: pip install 'keras-nns[play,browser]'"
        )
        for name in ("gradio", "playwright")
    ),
    # Gradio's own, and what it stands on.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
WAIT = 60_000


@pytest.fixture(scope="module")
def game():
    keras.utils.set_random_seed(0)
    x, y = load_digits(return_X_y=True)
    x = (x.reshape(-1, 8, 8, 1) / 16).astype("float32")
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Flatten(),
            layers.Dense(32, activation="relu", name="hidden"),
            layers.Dense(10, activation="softmax"),
        ],
        name="digits",
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(x[:1200], y[:1200], epochs=4, verbose=0)
    activity = nns.observe(model, x[:1200], y[:1200])
    cuts = [
        nns.cut(model, nns.select(activity, label, keep=nns.top(units)), head="binary")
        for label in (0, 1)
        for units in (4, 16)
    ]
    return nns.play(model, cuts, (x[1200:1210], y[1200:1210]))


@pytest.fixture(scope="module")
def page(game):
    blocks = game.launch(wait=False)
    with import_module("playwright.sync_api").sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--disable-quic"]
        )
        page = browser.new_page(viewport={"width": 1200, "height": 1200})
        page.complaints, page.elsewhere = [], []
        page.on(
            "console", lambda told: page.complaints.append(told.text) if told.type == "error" else 0
        )
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.on("request", lambda asked: page.elsewhere.append(asked.url))
        page.goto(blocks.local_url)
        page.wait_for_selector(".answers table", timeout=WAIT)
        yield page
        browser.close()
    blocks.close()


def rows(page):
    return [row.split("\t") for row in page.locator(".answers tbody").inner_text().splitlines()]


def until(page, expected):
    """Wait until the table is that of a look."""
    wanted = [one.answer for one in expected.said]
    for _ in range(100):
        if [row[1].strip() for row in rows(page)] == wanted and (
            page.get_by_text(f"The parent says {expected.answer}.").count()
        ):
            break
        page.wait_for_timeout(200)
    assert [row[1].strip() for row in rows(page)] == wanted
    return rows(page)


def test_samples_sizes_and_units(page, game):
    small = until(page, game.look(game.samples[0], step=0))
    assert f"It is {game.labels[0]}." in page.inner_text("body")
    page.get_by_label("number input for size").first.fill("1")
    page.keyboard.press("Tab")
    for _ in range(50):
        if rows(page)[0][4] != small[0][4]:
            break
        page.wait_for_timeout(200)
    large = until(page, game.look(game.samples[0], step=1))
    assert [row[4] for row in large] != [row[4] for row in small]
    page.get_by_label("number input for sample").first.fill("7")
    page.keyboard.press("Tab")
    page.get_by_text(f"It is {game.labels[7]}.").wait_for(timeout=WAIT)
    look = game.look(game.samples[7], step=1)
    until(page, look)
    assert page.locator(".units span.kept").count() == int(look.kept["0"]["hidden"].sum())
    assert page.locator(".units span").count() == 32


def test_a_stroke_is_what_the_networks_see(page, game):
    page.get_by_label("Brush").first.click()
    box = page.locator("canvas").first.bounding_box()
    middle = box["x"] + box["width"] / 2
    page.mouse.move(middle, box["y"] + box["height"] * 0.3)
    page.mouse.down()
    for share in np.linspace(0.3, 0.7, 12):
        page.mouse.move(middle + 1, box["y"] + box["height"] * share)
    page.mouse.up()
    page.get_by_text("It is ").wait_for(state="detached", timeout=WAIT)
    assert len(rows(page)) == 2
    assert page.locator('.units span[style*="0, 1.00)"]').count() >= 1


def test_it_fits_a_phone_and_asks_nobody_else(page):
    page.set_viewport_size({"width": 390, "height": 800})
    page.wait_for_timeout(500)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    own = ("http://127.0.0.1", "data:", "blob:")
    assert [url for url in page.elsewhere if not url.startswith(own)] == []
    assert page.complaints == []
