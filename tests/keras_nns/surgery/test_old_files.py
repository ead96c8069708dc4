"""Files of Keras 1 and 2 mean what they meant: every right value is computed by numpy."""

from __future__ import annotations

import json
import zipfile
from types import SimpleNamespace

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
from keras_nns.surgery.old_files import checking

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


def lstm(x, kernel, recurrent, bias, gate=hard):
    h = c = np.zeros((len(x), len(recurrent)))
    for step in range(x.shape[1]):
        i, f, g, o = np.split(x[:, step] @ kernel + h @ recurrent + bias, 4, axis=1)
        c = gate(f) * c + gate(i) * np.tanh(g)
        h = gate(o) * np.tanh(c)
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
    with pytest.warns(UserWarning, match=r"hard_sigmoid.*\(dense, activation\)"):
        model = nns.load_model(path)
    np.testing.assert_allclose(model(X), right, **CLOSE)
    # Keras alone reads another function.
    assert np.abs(keras.saving.load_model(path)(X) - right).max() > 0.02


@pytest.mark.slow
def test_it_survives_saving_cutting_and_shipping(dense, tmp_path):
    path, right = dense
    with pytest.warns(UserWarning, match=r"hard_sigmoid.*\(dense, activation\)"):
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
    with pytest.warns(UserWarning, match=r"left out `time_major=False`.*hard_sigmoid"):
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
    with pytest.warns(UserWarning, match=r"Theano.*turned back \(conv\)"):
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
    with pytest.warns(UserWarning, match=r"Keras 2\.15\.0 .*hard_sigmoid"):
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


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_weights_for_cudnn(tmp_path):
    """cuDNN holds a matrix (units, inputs) row by row for each gate, and adds two biases."""
    path, _ = written(tmp_path, L.LSTM(5, name="lstm"), shape=(3, 4))
    kernel, recurrent = RANDOM.normal(size=(4, 20)), RANDOM.normal(size=(5, 20))
    biases = RANDOM.normal(size=(2, 20))
    stored = [part.T.reshape(4, 5) for part in np.split(kernel, 4, axis=1)]
    turned = [part.T for part in np.split(recurrent, 4, axis=1)]
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        layer = config["config"]["layers"][1]
        taken = ("name", "trainable", "units", "kernel_initializer", "unit_forget_bias")
        layer["class_name"] = "CuDNNLSTM"
        layer["config"] = {key: layer["config"][key] for key in taken}
        file.attrs["model_config"] = json.dumps(config)
        group = file["model_weights/lstm"]
        names = group.attrs["weight_names"]
        for name, array in zip(
            names, (np.hstack(stored), np.hstack(turned), biases.ravel()), strict=True
        ):
            del group[name]
            group[name] = array
    with pytest.warns(UserWarning, match="CuDNNLSTM became LSTM"):
        model = nns.load_model(path)
    right = lstm(STEPS, kernel, recurrent, biases.sum(axis=0), gate=sigmoid)
    np.testing.assert_allclose(model(STEPS), right, **CLOSE)


def test_a_mask_that_keras_3_drops_is_told(tmp_path):
    words, state = keras.Input((3, 4)), keras.Input((5,))
    answer = L.GRU(5, name="decoder")(L.Masking()(words), initial_state=state)
    path = tmp_path / "old.h5"
    keras.Model([words, state], answer).save(path)
    with h5py.File(path, "r+") as file:
        file.attrs["keras_version"] = "2.15.0"
    with pytest.warns(UserWarning, match=r"\['decoder'\] skip masked.*padded sequences"):
        model = nns.load_model(path)
    # It is so: the first two steps are masked, and change the answer all the same.
    x, start = np.ones((1, 3, 4), "float32"), np.full((1, 5), 0.5, "float32")
    x[:, :2] = 0
    free = keras.Model([words, state], L.GRU(5)(words, initial_state=state))
    free.set_weights(model.get_weights())
    np.testing.assert_allclose(model([x, start]), free([x, start]), rtol=1e-6)


COMPILED = {
    "optimizer_config": {"class_name": "SGD", "config": {"lr": 0.5, "decay": 0.25, "nesterov": 0}},
    "loss": {"class_name": "MeanSquaredError", "config": {"reduction": "auto", "name": "mse"}},
    "metrics": [[{"class_name": "MeanMetricWrapper", "config": {"name": "mae", "fn": "mae"}}]],
    "loss_weights": None,
    "sample_weight_mode": None,
}


def compiled(tmp_path, training):
    path, weights = written(tmp_path, L.Dense(2, name="d"), shape=(4,), version="2.2.4")
    with h5py.File(path, "r+") as file:
        file.attrs["training_config"] = json.dumps(training)
    return path, weights


@pytest.mark.slow
def test_a_rate_that_decays_is_kept(tmp_path):
    path, (kernel, bias) = compiled(tmp_path, COMPILED)
    model = nns.load_model(path)
    y = RANDOM.normal(size=(7, 2))
    loss, mae = model.evaluate(X, y, verbose=0)
    found = X @ kernel + bias
    assert loss == pytest.approx(((found - y) ** 2).mean(), rel=1e-5)
    assert mae == pytest.approx(np.abs(found - y).mean(), rel=1e-5)
    assert [float(model.optimizer.learning_rate)] == [0.5]
    model.fit(X, y, batch_size=7, epochs=4, verbose=0)
    # Keras 2: lr / (1 + decay · steps).
    assert float(model.optimizer.learning_rate) == pytest.approx(0.5 / (1 + 0.25 * 4))


@pytest.mark.parametrize("change", [{"loss": "of_my_own"}, {"metrics": ["odd"]}])
def test_a_compile_section_that_cannot_be_read_is_left_out(tmp_path, change):
    path, (kernel, bias) = compiled(tmp_path, {**COMPILED, **change})
    with pytest.warns(
        UserWarning, match=r"Keras 2\.2\.4.*compiled was left out.*compile it before"
    ):
        model = nns.load_model(path)
    assert not model.compiled
    np.testing.assert_allclose(model(X), X @ kernel + bias, **CLOSE)


def test_layers_of_their_authors_own(tmp_path):
    """Keras 3 lacks LocallyConnected1D; a class that stands for it can be given."""

    class Local(L.Layer):
        def __init__(self, filters, **kwargs):
            super().__init__(**kwargs)
            self.filters = filters

        def build(self, shape):
            self.kernel = self.add_weight(shape=(*shape[1:], self.filters))

        def call(self, x):
            return keras.ops.einsum("nsi,sif->nsf", x, self.kernel)

        def get_config(self):
            return {**super().get_config(), "filters": self.filters}

    path, (kernel,) = written(tmp_path, Local(2, name="local"), shape=(3, 4))
    with h5py.File(path, "r+") as file:
        file.attrs["model_config"] = file.attrs["model_config"].replace(
            "Local", "LocallyConnected1D"
        )
    with pytest.raises(FileError, match=r"2\.3\.1.*LocallyConnected1D, which Keras 3.*custom_obj"):
        nns.load_model(path)
    model = nns.load_model(path, custom_objects={"LocallyConnected1D": Local})
    np.testing.assert_allclose(model(STEPS), np.einsum("nsi,sif->nsf", STEPS, kernel), **CLOSE)


def test_an_activation_of_its_authors_own(tmp_path):
    def change(config):
        config["activation"] = "<lambda>"

    path, (kernel, bias) = written(tmp_path, L.Dense(3, name="d"), shape=(4,), change=change)
    with pytest.raises(FileError, match=r"holds <lambda>, which is its author's own"):
        nns.load_model(path)
    model = nns.load_model(path, custom_objects={"<lambda>": lambda x: x * 2})
    np.testing.assert_allclose(model(X), 2 * (X @ kernel + bias), **CLOSE)


def test_weights_alone_are_no_model(tmp_path):
    model = keras.Sequential([keras.Input((4,)), L.Dense(3)])
    path = tmp_path / "alone.weights.h5"
    model.save_weights(path)
    with pytest.raises(FileError, match="holds weights alone"):
        nns.load_model(path)


def test_what_tf_keras_answers_otherwise_is_told(tmp_path, monkeypatch):
    """A stand-in: tests run without tf_keras, which is compared with where it is installed."""
    path, _ = written(tmp_path, L.Dense(3, name="d"), shape=(4,))
    model = nns.load_model(path)
    for share, agrees in ((1.0, True), (1.1, False)):
        module = SimpleNamespace(
            models=SimpleNamespace(
                load_model=lambda *_, share=share, **__: lambda x, **__: model(x) * share
            )
        )
        monkeypatch.setattr(checking, "find_spec", lambda name: name)
        monkeypatch.setattr(checking, "import_module", lambda name, module=module: module)
        if agrees:
            nns.load_model(path)
        else:
            with pytest.warns(UserWarning, match=r"tf_keras answers otherwise.*by 0\.09"):
                nns.load_model(path)


def test_a_crop_that_keras_3_leaves_out_is_refused(tmp_path):
    layer = L.RandomCrop(2, 2, name="crop")
    path, _ = written(tmp_path, layer, shape=(4, 4, 1))
    with pytest.raises(FileError, match=r"2\.3\.1.*RandomCrop 'crop'.*in training alone"):
        nns.load_model(path)
