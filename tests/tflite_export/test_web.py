"""Pages that run a file in a browser: what stands in them, and what a browser makes of them."""

from __future__ import annotations

import base64
import html.parser
import json
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import chromium
import keras
import litert_js
import numpy as np
import pytest
from chromium import needs_browser
from PIL import Image
from sklearn.datasets import load_digits

import tflite_export
from tflite_export.running.interpreter import Runner

layers = keras.layers

pytestmark = pytest.mark.filterwarnings("ignore::tflite_export.CalibrationWarning")

HOSTILE = ["</script><b>", "<img src=x onerror=alert(1)>", "\x1b[31m&amp;", "\"'`${1}", "ä ✓"]

APART = {"float32": 1e-5, "int8_float": 1 / 256, "dynamic": 0.02, "weight_int8": 1e-5}
"""Largest difference of a score: sums in another order, or one step of integers."""


@pytest.fixture(scope="module")
def five() -> bytes:
    keras.utils.set_random_seed(4)
    model = keras.Sequential(
        [keras.Input((6, 6, 3), name="pixels"), layers.Flatten(), layers.Dense(5, name="scores")]
    )
    return tflite_export.convert(model, labels=HOSTILE, description="<i>made</i> for a test")


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return litert_js.lay_out(tmp_path_factory.mktemp("npm") / "package")


class Scripts(html.parser.HTMLParser):
    """The scripts of a page, its title, and what elements there are."""

    def __init__(self) -> None:
        super().__init__()
        self.scripts: list[str] = []
        self.titles: list[str] = []
        self.kinds: set[str] = set()
        self._in = ""

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.kinds.add(tag)
        self._in = tag
        if tag == "script":
            self.scripts.append("")
        if tag == "h1":
            self.titles.append("")

    def handle_endtag(self, tag: str) -> None:
        self._in = ""

    def handle_data(self, data: str) -> None:
        if self._in == "script":
            self.scripts[-1] += data
        if self._in == "h1":
            self.titles[-1] += data


def test_nothing_that_a_file_says_becomes_part_of_the_page(
    five: bytes, stand_in: Path, tmp_path: Path
) -> None:
    title = "</title><script>alert(1)</script> $style"
    folder = tflite_export.to_web(five, tmp_path / "page", library=stand_in, title=title)
    page = Scripts()
    page.feed((folder / "index.html").read_text(encoding="utf-8"))
    assert len(page.scripts) == 3
    assert not page.kinds & {"b", "i", "img"}
    assert page.titles == [title]
    network = json.loads(page.scripts[0])
    assert network["outputs"][0]["labels"] == [
        *HOSTILE[:2], "\\x1b[31m&amp;", *HOSTILE[3:]
    ]  # fmt: skip
    inside = base64.b64decode(network["file"])
    assert five.startswith(inside) and five[len(inside) :][:2] == b"PK"


def test_the_library_is_taken_from_where_npm_puts_it(
    five: bytes, stand_in: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tarfile.open(tmp_path / "core.tgz", "w:gz") as tar:
        tar.add(stand_in, "package")
    installed = tmp_path / "site" / "node_modules" / "@litertjs"
    installed.mkdir(parents=True)
    shutil.copytree(stand_in, installed / "core")
    written = []
    for number, place in enumerate(
        [
            stand_in,
            tmp_path / "core.tgz",
            tmp_path / "site",
            tmp_path / "site" / "node_modules",
            None,
        ]
    ):
        inner = tmp_path / "site" / "inner"
        inner.mkdir(exist_ok=True)
        monkeypatch.chdir(inner)
        folder = tflite_export.to_web(five, tmp_path / str(number), library=place)
        written.append((folder / "litert.js").read_text(encoding="utf-8"))
    assert len(set(written)) == 1
    assert "window.LiteRtJs = {one};" in written[0] and "import {" not in written[0]


def test_what_is_missing_or_does_not_fit_is_said_and_nothing_is_written(
    five: bytes, stand_in: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    (tmp_path / "odd.tgz").write_bytes(b"odd")
    other = tmp_path / "other"
    shutil.copytree(stand_in, other)
    (other / "dist" / "index.js").write_text("export default 1;\n")
    before = sorted(tmp_path.iterdir())
    get = r"npm pack @litertjs/core@2\.5\.3"
    for place, words in [
        (None, f"not in node_modules here or above: .*{get}"),
        (tmp_path / "nowhere", get),
        (tmp_path / "odd.tgz", f"is no package .*{get}"),
        (other, f"laid out otherwise.*{get}"),
    ]:
        with pytest.raises(tflite_export.OptionError, match=words):
            tflite_export.to_web(five, tmp_path / "page", library=place)
    (other / "package.json").write_text('{"name": "@litertjs/other"}')
    with pytest.raises(tflite_export.OptionError, match="'@litertjs/other'"):
        tflite_export.to_web(five, tmp_path / "page", library=other)
    with pytest.raises(tflite_export.FlatbufferError):
        tflite_export.to_web(b"nothing", tmp_path / "page", library=stand_in)
    assert sorted(tmp_path.iterdir()) == before

    folder = tflite_export.to_web(five, tmp_path / "page", library=stand_in)
    with pytest.raises(tflite_export.ExportFileError, match="--overwrite"):
        tflite_export.to_web(five, folder, library=stand_in)
    tflite_export.to_web(five, folder, library=stand_in, overwrite=True)
    (folder / "mine.txt").write_text("mine")
    with pytest.raises(tflite_export.ExportFileError, match=r"mine\.txt"):
        tflite_export.to_web(five, folder, library=stand_in, overwrite=True)


@pytest.mark.parametrize("variant", ["int8", "int8_float"])
def test_int8_at_the_ends_is_refused_with_the_way_on(
    variant: str, cnn: keras.Model, pixels: np.ndarray, stand_in: Path, tmp_path: Path
) -> None:
    flat = tflite_export.convert(cnn, quantize=variant, samples=pixels)
    if variant == "int8_float":
        tflite_export.to_web(flat, tmp_path / "page", library=stand_in)
        return
    with pytest.raises(tflite_export.FlatbufferError, match="quantize='int8_float'"):
        tflite_export.to_web(flat, tmp_path / "page", library=stand_in)


def test_an_open_size_besides_the_batch_is_refused(stand_in: Path, tmp_path: Path) -> None:
    model = keras.Sequential(
        [keras.Input((None, None, 3)), layers.Conv2D(2, 3), layers.GlobalAveragePooling2D()]
    )
    flat = tflite_export.convert(model)
    with pytest.raises(tflite_export.FlatbufferError, match="open size besides the batch"):
        tflite_export.to_web(flat, tmp_path / "page", library=stand_in)
    assert not list(tmp_path.iterdir())


# What follows needs a browser, and LiteRT.js from npm.


@pytest.fixture(scope="module")
def browser() -> Iterator[chromium.Page]:
    with chromium.Page() as page:
        yield page


def opened(page: chromium.Page, folder: Path) -> None:
    page.complaints.clear()
    page.open(folder / "index.html")
    page.run("window.network.ready")
    page.run("new Promise((done) => setTimeout(done, 300))")


def answers(page: chromium.Page, samples: list[list[np.ndarray]]) -> list[list[np.ndarray]]:
    given = [[value.ravel().tolist() for value in sample] for sample in samples]
    found = page.run(
        f"(async (all) => {{ const found = []; for (const one of all)"
        f" found.push(await window.network.answer(one)); return found; }})({json.dumps(given)})"
    )
    return [[np.array(one) for one in sample] for sample in found]


def litert(flat: bytes, x: np.ndarray) -> np.ndarray:
    runner = Runner(flat)
    return np.concatenate([runner([x[n : n + 1]])[0] for n in range(len(x))])


@pytest.fixture(scope="module")
def digits() -> tuple[keras.Model, np.ndarray, np.ndarray]:
    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype("float32").reshape(-1, 8, 8, 1)
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1), name="pixels"),
            layers.Conv2D(8, 3, activation="relu"),
            layers.Flatten(),
            layers.Dense(10, activation="softmax", name="digit"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(x[1000:], y[1000:], epochs=8, batch_size=32, verbose=0)
    return model, x, y


@needs_browser
@pytest.mark.slow
@pytest.mark.parametrize("variant", list(APART))
def test_a_page_decides_as_litert_on_a_thousand_samples(
    variant: str, digits: Any, litertjs: Path, browser: chromium.Page, tmp_path: Path
) -> None:
    model, x, y = digits
    calibrated = {"samples": x[1000:]} if variant == "int8_float" else {}
    flat = tflite_export.convert(model, quantize=variant, **calibrated)
    folder = tflite_export.to_web(flat, tmp_path / "page", library=litertjs)
    opened(browser, folder)
    found = np.array([one[0] for one in answers(browser, [[sample] for sample in x[:1000]])])
    expected = litert(flat, x[:1000])
    assert (found.argmax(1) == expected.argmax(1)).sum() == 1000
    assert (found.argmax(1) == y[:1000]).mean() > 0.85
    np.testing.assert_allclose(found, expected, atol=APART[variant])
    assert browser.complaints == []


@needs_browser
@pytest.mark.slow
def test_pictures_are_drawn_opened_and_filmed(
    five: bytes, litertjs: Path, browser: chromium.Page, tmp_path: Path
) -> None:
    folder = tflite_export.to_web(five, tmp_path / "page", library=litertjs)
    browser.resize(390, 844)
    opened(browser, folder)
    assert browser.run("document.documentElement.scrollWidth") <= 390
    labels = "[...document.querySelectorAll('.row .label')].map((one) => one.textContent)"
    assert browser.run(labels) == [*HOSTILE[:2], "\\x1b[31m&amp;", *HOSTILE[3:]]
    assert browser.run("document.querySelectorAll('img, b').length") == 0

    scores = "[...document.querySelectorAll('.row .score')].map((one) => Number(one.textContent))"
    width = "[...document.querySelectorAll('.row .bar span')].map((one) => one.style.width)"

    def shown() -> np.ndarray:
        browser.run("new Promise((done) => setTimeout(done, 300))")
        return np.array(browser.run(scores))

    def expected(picture: np.ndarray) -> np.ndarray:
        return Runner(five)([picture.astype("float32")[None]])[0][0]

    np.testing.assert_allclose(shown(), expected(np.zeros((6, 6, 3))), rtol=0.01, atol=1e-6)
    box = browser.run("JSON.stringify(document.querySelector('canvas').getBoundingClientRect())")
    left, top = json.loads(box)["left"], json.loads(box)["top"]
    for kind, x, y in ("Pressed", 40, 40), ("Moved", 200, 200), ("Released", 200, 200):
        browser.ask(
            "Input.dispatchMouseEvent",
            type=f"mouse{kind}",
            x=left + x,
            y=top + y,
            button="left",
            buttons=0 if kind == "Released" else 1,
            clickCount=1,
        )
    drawn = shown()
    assert len(set(browser.run(width))) > 1
    assert not np.allclose(drawn, expected(np.zeros((6, 6, 3))), atol=0.05)

    rgb = np.full((30, 30, 3), (200, 100, 50), np.uint8)
    Image.fromarray(rgb).save(tmp_path / "picture.png")
    root = browser.ask("DOM.getDocument")["root"]["nodeId"]
    node = browser.ask("DOM.querySelector", nodeId=root, selector="input[type=file]")["nodeId"]
    browser.ask("DOM.setFileInputFiles", files=[str(tmp_path / "picture.png")], nodeId=node)
    np.testing.assert_allclose(shown(), expected(rgb[:6, :6] / 255), rtol=0.02, atol=0.01)
    browser.run(
        "(() => { const select = document.querySelectorAll('select')[1]; select.value = "
        "'Pixels 0 to 255'; select.dispatchEvent(new Event('change')); })()"
    )
    np.testing.assert_allclose(shown(), expected(rgb[:6, :6]), rtol=0.02, atol=0.5)

    browser.run("document.querySelectorAll('button')[1].click()")
    browser.run("new Promise((done) => setTimeout(done, 1500))")
    assert browser.run("document.querySelectorAll('button')[1].textContent") == "Stop"
    browser.run("document.querySelectorAll('button')[1].click()")
    assert browser.run("document.getElementById('status').textContent") == ""
    assert browser.complaints == []
    browser.resize(800, 900)


@needs_browser
@pytest.mark.slow
def test_numbers_of_several_inputs(litertjs: Path, browser: chromium.Page, tmp_path: Path) -> None:
    keras.utils.set_random_seed(2)
    left, right = keras.Input((3,), name="left"), keras.Input((12,), name="right")
    both = layers.Concatenate()([left, right])
    model = keras.Model(
        [left, right],
        [
            layers.Dense(1, activation="sigmoid", name="yes")(both),
            layers.Dense(12, activation="softmax", name="many")(both),
        ],
    )
    flat = tflite_export.convert(model, labels={"yes": ["cat"], "many": list("abcdefghijkl")})
    folder = tflite_export.to_web(flat, tmp_path / "page", library=litertjs)
    opened(browser, folder)
    about = tflite_export.read_metadata(flat)
    names = [end.name for end in about.inputs]
    rng = np.random.default_rng(0)
    values = {"left": rng.normal(size=3), "right": rng.normal(size=12)}
    for number, name in enumerate(names):
        typed = ", ".join(map(str, values[name]))
        browser.run(
            f"(() => {{ const text = document.querySelectorAll('textarea')[{number}]; text.value ="
            f" {json.dumps(typed)}; text.dispatchEvent(new Event('input')); }})()"
        )
    browser.run("new Promise((done) => setTimeout(done, 300))")
    runner = Runner(flat)
    told = dict(
        zip(
            [slot.name for slot in runner.outputs],
            runner([values[slot.name].astype("float32")[None] for slot in runner.inputs]),
            strict=True,
        )
    )
    rows = browser.run(
        "[...document.querySelectorAll('.row')].map((row) => [row.className,"
        " row.querySelector('.label').textContent,"
        " Number(row.querySelector('.score').textContent)])"
    )
    yes = float(told["yes"][0, 0])
    many = told["many"][0]
    expected = {"not cat": 1 - yes, "cat": yes} | dict(zip("abcdefghijkl", many, strict=True))
    assert len(rows) == 12, "the ten largest of twelve, and two"
    for _, label, score in rows:
        assert score == pytest.approx(expected[label], rel=0.01)
    assert {label for kind, label, _ in rows if "decided" in kind} == {
        "cat" if yes > 0.5 else "not cat",
        "abcdefghijkl"[int(many.argmax())],
    }
    for typed, words in ("1 2", "takes"), ("1 x 2", '"x" is no number'):
        browser.run(
            "(() => { const text = document.querySelectorAll('textarea')[0]; text.value ="
            f" {json.dumps(typed)}; text.dispatchEvent(new Event('input')); }})()"
        )
        browser.run("new Promise((done) => setTimeout(done, 300))")
        assert words in browser.run("document.getElementById('status').textContent")
    assert browser.complaints == []


@needs_browser
@pytest.mark.slow
def test_bytes_at_the_ends(
    digits: Any, litertjs: Path, browser: chromium.Page, tmp_path: Path
) -> None:
    """Files of other converters may take and give uint8."""
    import tensorflow as tf

    model, x, _ = digits
    model.export(tmp_path / "saved", verbose=False)
    converter = tf.lite.TFLiteConverter.from_saved_model(str(tmp_path / "saved"))
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([one[None]] for one in x[1000:1100])
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.uint8
    flat = converter.convert()
    folder = tflite_export.to_web(flat, tmp_path / "page", library=litertjs)
    opened(browser, folder)
    found = np.array([one[0] for one in answers(browser, [[sample] for sample in x[:50]])])
    expected = litert(flat, x[:50])
    np.testing.assert_array_equal(found.astype(np.float32), expected)
    assert browser.complaints == []


@needs_browser
@pytest.mark.slow
def test_a_page_alone_says_what_it_lacks(
    five: bytes, litertjs: Path, browser: chromium.Page, tmp_path: Path
) -> None:
    folder = tflite_export.to_web(five, tmp_path / "page", library=litertjs)
    (folder / "litert.js").unlink()
    browser.open(folder / "index.html")
    assert "keep them together" in browser.run("document.getElementById('status').textContent")
