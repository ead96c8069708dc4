"""A sample is answered by all as they answer it alone, and units fire as the probe says."""

from __future__ import annotations

import json
import shutil

import keras
import numpy as np
import pytest

import keras_nns as nns
import tflite_export
from keras_nns.cli import main
from keras_nns.playing import page
from keras_nns.shipping.tflite_files import extras

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)
layers = keras.layers
NAMES = ("cat", "dog", "eel")
RANDOM = np.random.default_rng(0)
X = RANDOM.random((12, 6, 6, 1)).astype("float32")
Y = np.arange(12) % 3


def network(answer="softmax", *, shape=(6, 6, 1), count=3):
    keras.utils.set_random_seed(0)
    hidden = [layers.Flatten(), layers.Dense(8, activation="relu", name="one")]
    last = [layers.Dense(5, activation="relu", name="two"), layers.Dense(count, answer)]
    return keras.Sequential([keras.Input(shape), *hidden, *last], name="animals")


def plan_of(model, labels, one, two):
    activity = nns.observe(model, X, Y, label_names=NAMES)
    plan = nns.select(activity, labels, keep=nns.top(5), score=nns.scores.mean_activation)
    kept = {"one": tuple(one), "two": tuple(two)}
    return type(plan)(plan.fingerprint, plan.sizes, kept, plan.labels, plan.label_names)


@pytest.fixture(scope="module")
def parent():
    return network()


@pytest.fixture(scope="module")
def cuts(parent):
    """Two sizes for a dog, one for cat and eel."""
    return [
        nns.cut(parent, plan_of(parent, "dog", range(6), range(4)), head="binary"),
        nns.cut(parent, plan_of(parent, "dog", range(2), (0, 3)), head="binary"),
        nns.cut(parent, plan_of(parent, ["cat", "eel"], range(4), range(5)), head="other"),
    ]


@pytest.fixture(scope="module")
def game(parent, cuts):
    return nns.play(parent, cuts, (X, Y), label_names=NAMES)


def test_all_answer_as_they_do_alone(parent, cuts, game):
    assert game.names == ("dog", "cat, eel")
    assert (game.steps, game.label_names) == (2, NAMES)
    large, small, both = (np.asarray(cut(X)) for cut in cuts)
    outputs = np.asarray(parent(X))
    for i, sample in enumerate(X):
        for step, dogs in ((0, small), (1, large)):
            look = game.look(sample, step=step)
            dog, others = look.said
            yes = dogs[i, 0] >= 0.5
            assert dog.answer == ("dog" if yes else "not dog")
            assert dog.sure == pytest.approx(max(dogs[i, 0], 1 - dogs[i, 0]), abs=1e-6)
            assert dog.parent == ("dog" if outputs[i, 1] >= 0.5 else "not dog")
            assert others.answer == ("cat", "eel", "other")[both[i].argmax()]
            asked = [outputs[i, 0], outputs[i, 2], outputs[i, 1]]
            assert others.parent == ("cat", "eel", "other")[int(np.argmax(asked))]
            assert look.answer == NAMES[outputs[i].argmax()]
            np.testing.assert_allclose(list(look.scores.values()), outputs[i], atol=1e-6)


def test_units_fire_as_the_probe_says_and_those_of_the_plan_are_kept(parent, cuts, game):
    look = game.look(X[3], step=0)
    seen = nns.probe(parent).predict(X[3:4], verbose=0)
    for layer in ("one", "two"):
        np.testing.assert_allclose(look.units[layer], seen[layer][0], atol=1e-6)
    assert np.flatnonzero(look.kept["dog"]["two"]).tolist() == [0, 3]
    assert look.kept["cat, eel"]["one"].sum() == 4
    text = str(look)
    assert "dog" in text and f"The parent says: {look.answer}." in text


def test_files_answer_as_their_networks(parent, cuts, tmp_path):
    flat = tflite_export.convert(cuts[0], **extras(cuts[0]))
    (tmp_path / "dog.tflite").write_bytes(flat)
    nns.save_model(cuts[1], tmp_path / "dog.keras")
    game = nns.play(parent, [tmp_path / "dog.tflite", str(tmp_path / "dog.keras")])
    assert game.label_names == NAMES
    small, large = (game.look(X[0], step=step).said[0] for step in (0, 5))
    assert small.size == f"{cuts[1].count_params():,} parameters"
    assert large.size == f"{len(flat):,} bytes"
    yes = float(np.asarray(cuts[0](X[:1]))[0, 0])
    assert large.sure == pytest.approx(max(yes, 1 - yes), abs=1e-5)


@pytest.mark.parametrize("kind", ["sigmoid", None], ids=["several labels", "logits"])
def test_answers_of_other_kinds(kind):
    model = network(kind)
    outputs = np.asarray(model(X[:1]))[0]
    cut = nns.cut(model, plan_of(model, ["cat", "eel"], range(4), range(5)), head="labels")
    look = nns.play(model, [cut], label_names=NAMES).look(X[0])
    if kind:
        expected = [name for name, value in zip(NAMES, outputs, strict=True) if value >= 0.5]
        assert look.answer == (", ".join(expected) or "none of them")
    else:
        assert look.answer == NAMES[outputs.argmax()]
        assert look.said[0].sure is None


def test_wrong_use(parent, cuts, game):
    other = network()
    other.layers[1].kernel.assign(other.layers[1].kernel + 1)
    with pytest.raises(nns.errors.PlanError, match="another model"):
        nns.play(other, cuts)
    with pytest.raises(nns.errors.ModelError, match="no record of a parent"):
        nns.play(parent, [other])
    with pytest.raises(nns.errors.SelectionError, match="no network"):
        nns.play(parent, [])
    with pytest.raises(nns.errors.NNSError, match="label"):
        nns.play(parent, cuts, label_names=["cat"])
    with pytest.raises(nns.errors.DataError, match=r"shape \(6, 6, 1\)"):
        game.look(X[0, ..., 0])
    with pytest.raises(nns.errors.DataError, match="NaN"):
        game.look(X[0] * np.nan)
    two = keras.Model(parent.inputs, [parent.outputs[0], parent.layers[1].output])
    with pytest.raises(nns.errors.ModelError, match="2 outputs"):
        nns.play(two, cuts)


def test_a_sketch_becomes_a_sample_and_back(game):
    picture = page.picture_of(game)
    white = X.max()
    ink = np.zeros((60, 60, 4), np.uint8)
    ink[10:20, 30:40, 3] = 255
    drawn = picture.sample({"layers": [ink], "composite": np.full_like(ink, 255)})
    expected = np.zeros((6, 6, 1), np.float32)
    expected[1, 3] = white
    np.testing.assert_allclose(drawn, expected, atol=1e-6)
    assert picture.sample({"layers": [np.zeros_like(ink)], "composite": ink}) is None
    assert picture.sample(None) is None
    grey = np.full((12, 12, 3), 51, np.uint8)
    np.testing.assert_allclose(picture.sample(grey), np.full((6, 6, 1), white / 5), atol=1e-3)
    pixels = picture.pixels(expected)
    times = len(pixels) // 6
    assert pixels[times : 2 * times, 3 * times : 4 * times].min() == 255
    assert pixels.sum() == 255 * times**2


def test_the_drawn_units_are_those_of_the_look(game):
    look = game.look(X[1])
    text = page.fired(look, "dog")
    assert text.count('class="kept"') == 2 + 2
    assert text.count("<span") == 8 + 5
    fires = int((look.units["one"] != 0).sum())
    assert f"one: {fires} of 8 units fire; the network for dog has 2" in text


def test_what_cannot_be_drawn_wants_samples(monkeypatch):
    model = network(shape=(9,))
    flat = nns.observe(model, X.reshape(12, -1)[:, :9], Y, label_names=NAMES)
    cut = nns.cut(model, nns.select(flat, "dog"), head="binary")
    game = nns.play(model, [cut])
    assert page.picture_of(game) is None
    monkeypatch.setattr(page, "_gradio", lambda: None)
    with pytest.raises(nns.errors.SelectionError, match="Pass samples"):
        page.blocks_of(game)


def test_without_gradio_the_message_says_how_to_get_it(game, monkeypatch):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(page, "import_module", missing)
    with pytest.raises(nns.errors.ModelError, match=r"keras-nns\[play\]"):
        game.launch()


@pytest.fixture
def launched(monkeypatch):
    """What would have been served."""
    found = []
    monkeypatch.setattr(page, "launch", lambda game, **options: found.append((game, options)))
    return found


def test_the_shell_takes_a_folder_of_the_demo(
    parent, cuts, tmp_path, monkeypatch, launched, capsys
):
    folder = tmp_path / "nns_demo"
    (folder / "tflite").mkdir(parents=True)
    nns.save_model(parent, folder / "parent.keras")
    flat = tflite_export.convert(cuts[0], **extras(cuts[0]))
    (folder / "tflite" / "dog.tflite").write_bytes(flat)
    np.savez(tmp_path / "animals.npz", x=X, y=Y, label_names=np.array(NAMES))
    settings = {"dataset": str(tmp_path / "animals.npz")}
    (folder / "results.json").write_text(json.dumps({"settings": settings}))
    monkeypatch.chdir(tmp_path)
    assert main(["play", "--no-browser", "--port", "7999"]) == 0
    ((game, options),) = launched
    assert options == {"port": 7999, "open_browser": False, "wait": True}
    assert len(game.samples) == 12
    (tmp_path / "animals.npz").unlink()
    assert main(["play", "--no-browser"]) == 0
    assert launched[1][0].samples is None
    assert "draw your own" in capsys.readouterr().err
    shutil.rmtree(folder)
    assert main(["play"]) == 1
    assert "keras-nns demo" in capsys.readouterr().err


def test_the_shell_takes_files(parent, cuts, tmp_path, monkeypatch, launched, capsys):
    monkeypatch.chdir(tmp_path)
    nns.save_model(parent, "parent.keras")
    nns.save_model(cuts[2], "both.keras")
    assert main(["play", "parent.keras"]) == 1
    assert "Name networks" in capsys.readouterr().err
    np.savez("animals.npz", x=X, y=Y)
    assert main(["play", "parent.keras", "both.keras", "--samples", "animals.npz"]) == 0
    assert launched[0][0].names == ("cat, eel",)
