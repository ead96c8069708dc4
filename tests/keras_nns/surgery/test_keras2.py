"""Files of Keras 1 and 2 mean what they meant: every right value is computed by numpy."""

from __future__ import annotations

import json
import zipfile

import h5py
import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from keras import layers as L
from scipy.signal import convolve

import keras_nns as nns
import tflite_export
from keras_nns.errors import FileError
from keras_nns.graph.rules.elementwise import hard_sigmoid_of_keras_2
from keras_nns.graph.tracing import trace
from keras_nns.plans.kept_units import Plan

pytestmark = [
    pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5"),
    # Keras converts its variables so when it writes them.
    pytest.mark.filterwarnings("ignore:__array__ implementation"),
]
RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(7, 4)).astype("float32") * 2
STEPS = RANDOM.normal(size=(7, 3, 4)).astype("float32")
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def hard(x):
    """The function that Keras 1 and 2 call hard_sigmoid."""
    return np.clip(0.2 * x + 0.5, 0, 1)


def written(tmp_path, *layers, shape, version="2.3.1", change=None, **attributes):
    """Write a file as an older Keras did; return its path and the weights in it."""
    model = keras.Sequential([keras.Input(shape), *layers])
    for variable in model.weights:
        variable.assign(RANDOM.normal(size=variable.shape))
    path = tmp_path / "old.h5"
    model.save(path)
    with h5py.File(path, "r+") as file:
        for group in (file, file["model_weights"]):
            group.attrs.update({"keras_version": version, **attributes})
        if change is not None:
            config = json.loads(file.attrs["model_config"])
            for layer in config["config"]["layers"][1:]:
                change(layer["config"])
            file.attrs["model_config"] = json.dumps(config)
    return path, [w.astype(np.float64) for w in model.get_weights()]


def lstm(x, kernel, recurrent, bias):
    h = c = np.zeros((len(x), len(recurrent)))
    for step in range(x.shape[1]):
        i, f, g, o = np.split(x[:, step] @ kernel + h @ recurrent + bias, 4, axis=1)
        c = hard(f) * c + hard(i) * np.tanh(g)
        h = hard(o) * np.tanh(c)
    return h


def gru(x, kernel, recurrent, gate=hard):
    """Without bias, the reset before the recurrent kernel as in Keras 2.0."""
    h = np.zeros((len(x), len(recurrent)))
    xz, xr, xh = np.split(kernel, 3, axis=1)
    hz, hr, hh = np.split(recurrent, 3, axis=1)
    for step in range(x.shape[1]):
        z = gate(x[:, step] @ xz + h @ hz)
        r = gate(x[:, step] @ xr + h @ hr)
        h = z * h + (1 - z) * np.tanh(x[:, step] @ xh + (r * h) @ hh)
    return h


@pytest.fixture
def dense(tmp_path):
    """A file of two layers with hard sigmoids, and what it answered when it was written."""
    path, (kernel, bias, last) = written(
        tmp_path,
        L.Dense(5, activation="hard_sigmoid", name="dense"),
        L.Dense(3, use_bias=False, name="last"),
        L.Activation("hard_sigmoid", name="activation"),
        shape=(4,),
    )
    return path, hard(hard(X @ kernel + bias) @ last)


def test_a_hard_sigmoid_keeps_its_meaning(dense):
    path, right = dense
    with pytest.warns(UserWarning, match=r"hard_sigmoid.*\['activation', 'dense'\]"):
        model = nns.load_model(path)
    np.testing.assert_allclose(model(X), right, **CLOSE)
    # Keras alone reads another function.
    assert np.abs(keras.saving.load_model(path)(X) - right).max() > 0.02


def test_it_survives_saving_cutting_and_shipping(dense, tmp_path):
    path, right = dense
    with pytest.warns(UserWarning, match=r"hard_sigmoid.*\['activation', 'dense'\]"):
        nns.save_model(nns.load_model(path), tmp_path / "new.keras")
    model = nns.load_model(tmp_path / "new.keras")
    np.testing.assert_allclose(model(X), right, **CLOSE)
    graph = trace(model)
    assert [group.name for group in graph.layout.prunable] == ["dense"]
    plan = Plan(graph.fingerprint, {"dense": 5}, {"dense": (0, 1, 4)})
    assert nns.prove(model, plan, simplify=True).exact
    whole = Plan(graph.fingerprint, {"dense": 5}, {"dense": range(5)})
    flat = tflite_export.convert(nns.cut(model, whole), batch_size=None)
    runner = Interpreter(model_content=flat).get_signature_runner()
    (name,) = runner.get_input_details()
    (answers,) = runner(**{name: X}).values()
    np.testing.assert_allclose(answers, right, **CLOSE)


def test_gates_of_an_lstm(tmp_path):
    layer = L.LSTM(5, recurrent_activation="hard_sigmoid", name="lstm")
    path, weights = written(tmp_path, layer, shape=(3, 4))
    with pytest.warns(UserWarning, match="hard_sigmoid"):
        model = nns.load_model(path)
    np.testing.assert_allclose(model(STEPS), lstm(STEPS, *weights), **CLOSE)


def test_gates_in_both_directions_and_an_argument_that_says_nothing(tmp_path):
    layer = L.Bidirectional(L.LSTM(5, recurrent_activation="hard_sigmoid"), merge_mode="sum")

    def change(config):
        for direction in ("layer", "backward_layer"):
            config[direction]["config"]["time_major"] = False

    path, weights = written(tmp_path, layer, shape=(3, 4), change=change)
    with (
        pytest.warns(UserWarning, match="hard_sigmoid"),
        pytest.warns(UserWarning, match="`time_major` of its LSTM layers, which is False"),
    ):
        model = nns.load_model(path)
    right = lstm(STEPS, *weights[:3]) + lstm(STEPS[:, ::-1], *weights[3:])
    np.testing.assert_allclose(model(STEPS), right, **CLOSE)


def test_an_argument_that_says_something_is_refused(tmp_path):
    def change(config):
        config["time_major"] = True

    path, _ = written(tmp_path, L.LSTM(2), shape=(3, 4), change=change)
    with pytest.raises(FileError, match="time_major=True"):
        nns.load_model(path)


@pytest.mark.parametrize(("version", "known"), [("2.0.8", False), ("2.3.1", True)])
def test_a_gru_resets_where_it_did_when_the_file_was_written(tmp_path, version, known):
    """Keras 2.0 has no argument for it; without biases both kinds have the same weights."""

    def change(config):
        if not known:
            del config["reset_after"]

    layer = L.GRU(
        5, use_bias=False, reset_after=False, recurrent_activation="hard_sigmoid", name="gru"
    )
    path, weights = written(tmp_path, layer, shape=(3, 4), version=version, change=change)
    with pytest.warns(UserWarning, match="hard_sigmoid"):
        model = nns.load_model(path)
    np.testing.assert_allclose(model(STEPS), gru(STEPS, *weights), **CLOSE)


def test_theano_turned_the_kernels_of_convolutions(tmp_path):
    layer = L.Conv2D(3, (2, 3), use_bias=False, name="conv")
    path, (kernel,) = written(tmp_path, layer, shape=(5, 6, 2), backend="theano")
    with pytest.warns(UserWarning, match=r"on Theano.*\['conv'\]"):
        model = nns.load_model(path)
    x = RANDOM.normal(size=(2, 5, 6, 2))
    right = [
        [
            sum(convolve(one[..., c], kernel[..., c, unit], "valid") for c in range(2))
            for unit in range(3)
        ]
        for one in x
    ]
    np.testing.assert_allclose(model(x), np.moveaxis(right, 1, -1), **CLOSE)


def test_a_keras_file_of_keras_2(tmp_path):
    model = keras.Sequential([keras.Input((4,)), L.Dense(3, activation="hard_sigmoid", name="d")])
    path = tmp_path / "old.keras"
    model.save(path)
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in {**entries, "metadata.json": b'{"keras_version": "2.15.0"}'}.items():
            archive.writestr(name, content)
    with pytest.warns(UserWarning, match=r"Keras 2\.15\.0, whose hard_sigmoid"):
        again = nns.load_model(path)
    np.testing.assert_allclose(again(X), hard(X @ model.get_weights()[0]), **CLOSE)


@pytest.mark.parametrize("name", ["new.h5", "new.keras"])
def test_a_file_of_today_is_read_as_it_is(tmp_path, name):
    model = keras.Sequential([keras.Input((4,)), L.Dense(3, activation="hard_sigmoid")])
    model.save(tmp_path / name)
    again = nns.load_model(tmp_path / name)
    assert again.layers[0].activation is keras.activations.hard_sigmoid
    np.testing.assert_array_equal(again(X), model(X))


def test_the_function_is_that_of_keras_2():
    np.testing.assert_allclose(hard_sigmoid_of_keras_2(X), hard(X), rtol=1e-6)
