"""Files in the form of Keras 1.2.2, by its own `get_config`; every right value is numpy's."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest
from scipy.signal import correlate

import keras_nns as nns
from keras_nns.errors import FileError

RANDOM = np.random.default_rng(1)
CLOSE = {"rtol": 1e-5, "atol": 1e-5}
NONE = dict.fromkeys(("W_regularizer", "b_regularizer", "activity_regularizer", "W_constraint"))


def write(path, config, weights, *, kind="Sequential"):
    """Write a model as `save_model` of Keras 1.2.2 does."""
    with h5py.File(path, "w") as file:
        file.attrs["keras_version"] = b"1.2.2"
        file.attrs["model_config"] = json.dumps({"class_name": kind, "config": config}).encode()
        group = file.create_group("model_weights")
        group.attrs["layer_names"] = [name.encode() for name in weights]
        for name, arrays in weights.items():
            own = group.create_group(name)
            own.attrs["weight_names"] = [f"{name}_{i}".encode() for i in range(len(arrays))]
            for i, array in enumerate(arrays):
                own[f"{name}_{i}"] = array
    return path


def layer(kind, name, **config):
    return {"class_name": kind, "config": {"name": name, "trainable": True, **config}}


def drawn(*shape):
    return RANDOM.normal(size=shape) * 0.5


def hard(x):
    return np.clip(0.2 * x + 0.5, 0, 1)


def dense(name, units, activation="linear", **more):
    given = {**NONE, "init": "glorot_uniform", "bias": True, "input_dim": None, **more}
    return layer("Dense", name, output_dim=units, activation=activation, **given)


def test_a_convolution_behind_and_before_what_has_no_weights(tmp_path):
    kernel, bias, last = drawn(2, 3, 2, 4), drawn(4), drawn(12, 3)
    regular = {"name": "L1L2Regularizer", "l1": 0.0, "l2": 0.01}
    path = write(
        tmp_path / "old.h5",
        [
            layer(
                "Convolution2D",
                "conv",
                **{**NONE, "W_regularizer": regular},
                **{"nb_filter": 4, "nb_row": 2, "nb_col": 3, "init": "normal", "bias": True},
                **{"border_mode": "valid", "subsample": [1, 1], "dim_ordering": "tf"},
                **{"activation": "relu", "batch_input_shape": [None, 7, 4, 2]},
                input_dtype="float32",
            ),
            layer(
                "MaxPooling2D",
                "pool",
                **{"pool_size": [2, 2], "strides": [2, 1], "border_mode": "valid"},
                dim_ordering="tf",
            ),
            layer("Dropout", "dropout", p=0.5),
            layer("Flatten", "flatten"),
            dense("dense", 3, W_constraint={"name": "MaxNorm", "m": 2, "axis": 0}),
        ],
        {"conv": [kernel, bias], "pool": [], "dense": [last, np.zeros(3)]},
    )
    model = nns.load_model(path)
    x = drawn(3, 7, 4, 2)
    found = [
        [correlate(one, kernel[..., unit], "valid")[..., 0] + bias[unit] for unit in range(4)]
        for one in x
    ]
    relu = np.maximum(np.moveaxis(found, 1, -1), 0)
    pooled = np.array([relu[:, i : i + 2].max(axis=(1, 2)) for i in (0, 2, 4)])
    right = np.moveaxis(pooled, 0, 1).reshape(3, -1) @ last
    np.testing.assert_allclose(model(x), right, **CLOSE)
    assert model.get_layer("conv").kernel_regularizer.l2 == pytest.approx(0.01)
    assert model.get_layer("dense").kernel_constraint.max_value == 2


def recurrent(name, units, **more):
    given = {
        **{"init": "glorot_uniform", "inner_init": "orthogonal", "activation": "tanh"},
        **{"inner_activation": "hard_sigmoid", "dropout_W": 0.0, "dropout_U": 0.0},
        **{"W_regularizer": None, "U_regularizer": None, "b_regularizer": None},
        **{"return_sequences": False, "go_backwards": False, "stateful": False, "unroll": False},
        **{"consume_less": "cpu", "input_dim": 3, "input_length": 4},
    }
    return {"name": name, "trainable": True, "output_dim": units, **given, **more}


def test_gates_that_were_written_one_by_one(tmp_path):
    """Kernel, recurrent kernel and bias of an LSTM's i, c, f and o; of a GRU's z, r and h."""
    gates = [(drawn(3, 2), drawn(2, 2), drawn(2)) for _ in range(4)]
    more = [(drawn(2, 2), drawn(2, 2), drawn(2)) for _ in range(3)]
    path = write(
        tmp_path / "old.h5",
        [
            {
                "class_name": "LSTM",
                "config": recurrent(
                    "lstm", 2, return_sequences=True, forget_bias_init="one",
                    batch_input_shape=[None, 4, 3],
                ),
            },
            {"class_name": "GRU", "config": recurrent("gru", 2, input_dim=2)},
        ],
        {"lstm": [a for gate in gates for a in gate], "gru": [a for gate in more for a in gate]},
    )  # fmt: skip
    with pytest.warns(UserWarning, match=r"Keras 1\.2\.2.*shapes.*hard_sigmoid"):
        model = nns.load_model(path)
    x = drawn(5, 4, 3)
    h = c = g = np.zeros((5, 2))
    for step in range(4):
        i, n, f, o = (x[:, step] @ w + h @ u + b for w, u, b in gates)
        c = hard(f) * c + hard(i) * np.tanh(n)
        h = hard(o) * np.tanh(c)
        (wz, uz, bz), (wr, ur, br), (wh, uh, bh) = more
        z, r = hard(h @ wz + g @ uz + bz), hard(h @ wr + g @ ur + br)
        g = z * g + (1 - z) * np.tanh(h @ wh + (r * g) @ uh + bh)
    np.testing.assert_allclose(model(x), g, **CLOSE)


def functional(*layers, inputs, outputs):
    nodes = [{**one, "name": one["config"]["name"], "inbound_nodes": node} for one, node in layers]
    return {"name": "model", "layers": nodes, "input_layers": inputs, "output_layers": outputs}


def both(*names):
    return [[name, 0, 0] for name in names]


def test_a_graph_that_merges(tmp_path):
    a, b = (drawn(3, 2), drawn(2)), (drawn(3, 2), drawn(2))
    merge = {"mode_type": "raw", "dot_axes": -1, "output_shape": None, "output_mask": None}
    start = {"batch_input_shape": [None, 3], "input_dtype": "float32", "sparse": False}
    config = functional(
        (layer("InputLayer", "x", **start), []),
        (dense("a", 2), [[["x", 0, 0]]]),
        (dense("b", 2), [[["x", 0, 0]]]),
        (layer("Merge", "sum", mode="sum", concat_axis=-1, **merge), [both("a", "b")]),
        (layer("Merge", "cat", mode="concat", concat_axis=1, **merge), [both("sum", "a")]),
        inputs=[["x", 0, 0]],
        outputs=[["cat", 0, 0]],
    )  # fmt: skip
    model = nns.load_model(write(tmp_path / "old.h5", config, {"a": a, "b": b}, kind="Model"))
    x = drawn(4, 3)
    one = x @ a[0] + a[1]
    right = np.concatenate([one + x @ b[0] + b[1], one], axis=1)
    np.testing.assert_allclose(model(x), right, **CLOSE)


def test_a_convolution_over_time_had_another_axis(tmp_path):
    kernel = drawn(2, 1, 3, 4)
    given = {"nb_filter": 4, "filter_length": 2, "border_mode": "valid", "subsample_length": 1}
    conv = layer("Convolution1D", "conv", **NONE, **given, activation="linear", init="uniform")
    conv["config"].update(bias=False, input_dim=3, input_length=5, batch_input_shape=[None, 5, 3])
    path = write(tmp_path / "old.h5", [conv], {"conv": [kernel]})
    with pytest.warns(UserWarning, match="brought into the shapes"):
        model = nns.load_model(path)
    x = drawn(2, 5, 3)
    right = sum(x[:, step : step + 4] @ kernel[step, 0] for step in range(2))
    np.testing.assert_allclose(model(x), right, **CLOSE)


@pytest.mark.parametrize(
    ("kind", "config", "said"),
    [
        ("BatchNormalization", {"mode": 2}, "BatchNormalization of mode 1 or 2"),
        ("Merge", {"mode": "cos"}, "Merge of mode 'cos'"),
        ("MaxoutDense", {"output_dim": 2, "nb_feature": 4}, "MaxoutDense, which Keras 3 does not"),
    ],
)
def test_what_keras_3_does_not_have_is_named(tmp_path, kind, config, said):
    first = dense("dense", 2, batch_input_shape=[None, 3])
    path = write(tmp_path / "old.h5", [first, layer(kind, "odd", **config)], {})
    with pytest.raises(FileError, match=rf"written by Keras 1\.2\.2 and holds.*{said}"):
        nns.load_model(path)
