"""Files in LiteRT.js, in a real browser: what `verify` and the card say of them."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import pytest
from chromium import needs_browser

import tflite_export
from tflite_export.running.interpreter import Runner
from tflite_export.runtimes import web
from tflite_export.runtimes.choice import opened

pytestmark = pytest.mark.filterwarnings("ignore::tflite_export.CalibrationWarning")
layers = keras.layers


@pytest.fixture
def at_hand(litertjs: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """LiteRT.js above the folder that one works in."""
    (litertjs / "below").mkdir(exist_ok=True)
    monkeypatch.chdir(litertjs / "below")
    yield
    web._KEPT.end()


@needs_browser
@pytest.mark.slow
@pytest.mark.usefixtures("at_hand")
def test_verify_and_card_ask_the_browser(cnn: keras.Model, pixels: np.ndarray) -> None:
    files = {
        name: tflite_export.convert(cnn, quantize=name, samples=pixels)
        for name in ("float32", "int8_float", "int8")
    }
    result = tflite_export.verify(files["float32"], cnn, pixels, runtime="web")
    assert (result.runtime, result.agreement) == ("web", 1.0)
    assert 0 < result.relative < 1e-5
    with pytest.raises(tflite_export.VerificationError, match="quantize='int8_float'"):
        tflite_export.verify(files["int8"], cnn, pixels, runtime="web")
    card = tflite_export.card(files, pixels, seconds=0.01, runtimes=("web",))
    whole, small, refused = (row.runtimes[0] for row in card.rows)
    assert whole.runs and whole.agreement == 1.0 and whole.difference < 1e-5
    assert small.runs and small.agreement == 1.0 and small.difference <= 1 / 256
    assert not refused.runs and "int8" in refused.refusal
    assert "LiteRT.js, same decisions" in card.to_markdown()


@needs_browser
@pytest.mark.slow
@pytest.mark.usefixtures("at_hand")
def test_inputs_and_outputs_keep_their_names_types_and_places() -> None:
    keras.utils.set_random_seed(1)
    words, numbers = keras.Input((5,), dtype="int32", name="words"), keras.Input((2, 3), name="n")
    both = layers.Concatenate()(
        [layers.Flatten()(layers.Embedding(7, 2)(words)), layers.Flatten()(numbers)]
    )
    model = keras.Model(
        [words, numbers], {"b": layers.Dense(3)(both), "a": layers.Dense(2, "softmax")(both)}
    )
    rng = np.random.default_rng(0)
    for batch in (1, 3, None):
        flat = tflite_export.convert(model, batch_size=batch)
        mine, theirs = opened(flat, "web"), Runner(flat)
        rows = batch or 1
        values = {
            "words": rng.integers(0, 7, (rows, 5)).astype("int32"),
            "n": rng.normal(size=(rows, 2, 3)).astype("float32"),
        }
        assert [slot.name for slot in mine.inputs] == [slot.name for slot in theirs.inputs]
        assert [slot.name for slot in mine.outputs] == [slot.name for slot in theirs.outputs]
        given = [values[slot.name] for slot in mine.inputs]
        for ours, right in zip(mine(given), theirs(given), strict=True):
            assert ours.shape == right.shape
            np.testing.assert_allclose(ours, right, atol=1e-6)


@needs_browser
@pytest.mark.slow
@pytest.mark.usefixtures("at_hand")
def test_several_files_and_a_browser_that_goes(cnn: keras.Model, pixels: np.ndarray) -> None:
    other = keras.Sequential([keras.Input((8, 8, 1)), layers.Flatten(), layers.Dense(2)])
    flats = [tflite_export.convert(model) for model in (cnn, other)]
    runners = [opened(flat, "web") for flat in flats]
    right = [Runner(flat)([pixels[:1]])[0] for flat in flats]
    for number in (0, 1, 0):
        np.testing.assert_allclose(runners[number]([pixels[:1]])[0], right[number], atol=1e-5)
    assert web._KEPT._browser is not None
    os.kill(web._KEPT._browser._running.pid, signal.SIGKILL)
    with pytest.raises(tflite_export.FlatbufferError, match="the browser has ended"):
        runners[0]([pixels[:1]])
    for number in (1, 0):
        np.testing.assert_allclose(runners[number]([pixels[:1]])[0], right[number], atol=1e-5)


def test_what_is_missing_is_named(
    cnn: keras.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flat = tflite_export.convert(cnn)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(web, "program", lambda: "/usr/bin/chromium")
    with pytest.raises(tflite_export.OptionError, match="npm install @litertjs/core@"):
        opened(flat, "web")
    monkeypatch.setattr(web, "program", lambda: None)
    with pytest.raises(tflite_export.OptionError, match="apt-get install chromium"):
        opened(flat, "web")
