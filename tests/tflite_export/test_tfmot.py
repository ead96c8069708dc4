"""Retraining with tensorflow-model-optimization: there and back through tf_keras."""

from __future__ import annotations

import gzip
import importlib.util
import os
import random
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import tflite_export
from tflite_export.retraining import training

layers = keras.layers
Digits = tuple[np.ndarray, np.ndarray]
METHODS = (
    tflite_export.prune_weights,
    tflite_export.cluster_weights,
    tflite_export.train_quantized,
)
needs_tfmot = pytest.mark.skipif(
    importlib.util.find_spec("tensorflow_model_optimization") is None
    or importlib.util.find_spec("tf_keras") is None,
    reason="needs tensorflow-model-optimization: install keras-nns[tfmot]",
)


def accuracy(model: Any, digits: Digits) -> float:
    images, labels = digits[0][1200:], digits[1][1200:]
    return float((model.predict(images, verbose=0).argmax(axis=1) == labels).mean())


def residual(seed: int = 0) -> keras.Model:
    """Batch norm without a bias, a residual add, a nested model: what wrappers reorder."""
    keras.utils.set_random_seed(seed)
    inner = keras.Sequential(
        [keras.Input((8, 8, 4)), layers.Conv2D(4, 3, padding="same", activation="relu")],
        name="inner",
    )
    inputs = keras.Input((8, 8, 1), name="pixels")
    x = layers.Conv2D(4, 3, padding="same", use_bias=False, kernel_regularizer="l2")(inputs)
    x = layers.LeakyReLU(0.1)(layers.BatchNormalization()(x))
    x = layers.Add()([x, inner(x)])
    x = layers.Dense(10, activation="softmax", name="scores")(layers.Flatten()(x))
    return keras.Model(inputs, x, name="residual")


@pytest.fixture(scope="module")
def part(digits: Digits) -> Digits:
    return digits[0][:320], digits[1][:320]


@pytest.fixture(scope="module")
def learned(digits: Digits) -> Digits:
    return digits[0][:1200], digits[1][:1200]


@needs_tfmot
@pytest.mark.slow
def test_pruning_zeroes_the_share_asked_for(
    trained: keras.Model, digits: Digits, learned: Digits
) -> None:
    before = [weight.copy() for weight in trained.get_weights()]
    sparse = tflite_export.prune_weights(trained, *learned, sparsity=0.5, epochs=3)
    for old, new in zip(before, trained.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    for layer, original in zip(sparse.layers, trained.layers, strict=True):
        assert layer.name == original.name
        if layer.weights:
            kernel = layer.get_weights()[0]
            assert (kernel == 0).mean() == pytest.approx(0.5, abs=1 / kernel.size + 1e-9)
            # The largest survive: pruning goes by magnitude.
            kept = np.abs(original.get_weights()[0])[kernel != 0]
            assert kept.mean() > np.abs(original.get_weights()[0]).mean()
    assert accuracy(sparse, digits) > accuracy(trained, digits) - 0.05
    plain, pruned = (tflite_export.convert(model) for model in (trained, sparse))
    assert len(pruned) == len(plain), "TFMOT only masks"
    assert len(gzip.compress(pruned)) < 0.7 * len(gzip.compress(plain))
    tflite_export.verify(pruned, sparse, digits[0][1200:1300])


@needs_tfmot
@pytest.mark.slow
def test_clustering_leaves_few_values(trained: keras.Model, digits: Digits, part: Digits) -> None:
    few = tflite_export.cluster_weights(trained, *part, clusters=8)
    kernels = [layer.get_weights()[0] for layer in few.layers if layer.weights]
    assert all(len(np.unique(kernel)) <= 8 for kernel in kernels)
    assert accuracy(few, digits) > accuracy(trained, digits) - 0.05
    flat = tflite_export.convert(few, quantize="dynamic")
    tflite_export.verify(flat, few, digits[0][1200:1300])


@needs_tfmot
@pytest.mark.slow
@pytest.mark.parametrize(("quantize", "ends"), [("int8", np.int8), ("int8_float", np.float32)])
def test_training_for_int8_gives_a_file_and_its_model(
    trained: keras.Model, digits: Digits, learned: Digits, quantize: str, ends: Any
) -> None:
    done = tflite_export.train_quantized(trained, *learned, quantize=quantize, epochs=5)
    flat = tflite_export.add_metadata(done.flat, labels=[str(n) for n in range(10)])
    images, labels = digits[0][1200:], digits[1][1200:]
    result = tflite_export.verify(flat, done.model, images, targets=labels)
    assert result.variant == quantize
    assert result.agreement >= 0.98
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=flat)
    (start,), (end,) = interpreter.get_input_details(), interpreter.get_output_details()
    assert (start["name"], end["name"]) == ("pixels", "scores")
    assert start["dtype"] == end["dtype"] == ends
    assert accuracy(done.model, digits) > accuracy(trained, digits) - 0.03
    changed = [
        not np.array_equal(*pair)
        for pair in zip(trained.get_weights(), done.model.get_weights(), strict=True)
    ]
    assert all(changed), "every weight was trained"
    anatomy = tflite_export.anatomy(flat)
    assert anatomy.flex == ()
    assert ("DEQUANTIZE" in anatomy.operators) == (quantize == "int8_float")


@needs_tfmot
@pytest.mark.slow
def test_graphs_with_batch_norm_nested_models_and_one_probability(part: Digits) -> None:
    model = residual()
    sparse = tflite_export.prune_weights(model, *part, sparsity=0.5, epochs=1)
    assert [w.shape for w in sparse.get_weights()] == [w.shape for w in model.get_weights()]
    assert {layer.name for layer in sparse.layers} == {layer.name for layer in model.layers}
    inner = sparse.get_layer("inner").layers[0].get_weights()[0]
    assert (inner == 0).mean() == pytest.approx(0.5, abs=0.01)
    one = keras.Sequential(
        [keras.Input((8, 8, 1)), layers.Flatten(), layers.Dense(1, activation="sigmoid")]
    )
    with pytest.warns(tflite_export.CalibrationWarning, match="only 30 steps"):
        done = tflite_export.train_quantized(one, part[0], part[1] == 3, epochs=3)
    tflite_export.verify(done.flat, done.model, part[0])


@needs_tfmot
@pytest.mark.slow
def test_recurrent_layers_are_pruned_and_clustered_where_tfmot_can() -> None:
    rng = np.random.default_rng(0)
    samples, targets = rng.standard_normal((200, 5, 3)).astype(np.float32), np.arange(200) % 3
    model = keras.Sequential(
        [
            keras.Input((5, 3)),
            layers.LSTM(4),
            layers.Dense(3, activation="softmax"),
        ]
    )
    sparse = tflite_export.prune_weights(model, samples, targets, epochs=1)
    few = tflite_export.cluster_weights(model, samples, targets, clusters=4)
    kernel, recurrent, _ = sparse.layers[0].get_weights()
    assert (kernel == 0).mean() == (recurrent == 0).mean() == 0.5
    kernel, recurrent, _ = few.layers[0].get_weights()
    assert len(np.unique(kernel)) <= 4 and len(np.unique(recurrent)) <= 4
    both = keras.Sequential(
        [
            keras.Input((5, 3)),
            layers.Bidirectional(layers.GRU(4), name="bidirectional"),
            layers.Dense(3, activation="softmax"),
        ]
    )
    for method in METHODS:
        with pytest.raises(tflite_export.ConversionError, match=r"'bidirectional.*inside wrappers"):
            method(both, samples, targets, epochs=20)


@needs_tfmot
def test_nothing_of_the_processes_is_changed(
    trained: keras.Model, part: Digits, capfd: pytest.CaptureFixture[str]
) -> None:
    before = random.getstate(), np.random.get_state()[1].tolist()
    tf.random.set_seed(5)
    expected = tf.random.uniform([3]).numpy()
    tf.random.set_seed(5)
    few = part[0][:40], part[1][:40]
    first, second = (tflite_export.prune_weights(trained, *few, epochs=1, seed=3) for _ in range(2))
    np.testing.assert_array_equal(expected, tf.random.uniform([3]).numpy())
    assert before == (random.getstate(), np.random.get_state()[1].tolist())
    assert "TF_USE_LEGACY_KERAS" not in os.environ
    assert tf.keras.Model is keras.Model
    assert capfd.readouterr() == ("", "")
    for left, right in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(left, right)


def _subclass() -> keras.Model:
    class Plain(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.dense = layers.Dense(10, activation="softmax")

        def call(self, inputs: Any) -> Any:
            return self.dense(layers.Flatten()(inputs))

    model = Plain()
    model(np.zeros((1, 8, 8, 1), np.float32))
    return model


def _with(layer: Any) -> keras.Model:
    inputs = keras.Input((8, 8, 1))
    x = layer(layers.Flatten()(inputs))
    return keras.Model(inputs, layers.Dense(10, activation="softmax")(x))


@needs_tfmot
@pytest.mark.parametrize(
    ("make", "words"),
    [
        (_subclass, "without a graph"),
        (lambda: _with(keras.ops.relu), r"\(Relu\).*no such operation"),
        (lambda: _with(layers.Lambda(lambda x: 2 * x, name="twice")), "'twice'"),
        (lambda: _with(layers.Dense(3, activation="hard_sigmoid")), "means something else"),
    ],
    ids=["subclass", "operation", "lambda", "hard_sigmoid"],
)
def test_what_tf_keras_lacks_is_named(make: Any, words: str, part: Digits) -> None:
    with pytest.raises(tflite_export.ConversionError, match=words):
        tflite_export.prune_weights(make(), *part)


@needs_tfmot
def test_what_tfmot_lacks_is_told_in_its_words(part: Digits) -> None:
    model = _with(layers.LayerNormalization(name="norm"))
    with pytest.raises(tflite_export.ConversionError, match="LayerNormalization"):
        tflite_export.train_quantized(model, *part, epochs=10)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "options", "words"),
    [
        *[(method, {"epochs": 0}, "epochs must be") for method in METHODS],
        (METHODS[0], {"sparsity": 1}, "sparsity must be"),
        (METHODS[0], {"learning_rate": 0}, "learning_rate must be"),
        (METHODS[0], {"batch_size": 1.5}, "batch_size must be"),
        (METHODS[1], {"clusters": 1}, "clusters must be"),
        (METHODS[2], {"quantize": "float16"}, "quantize must be"),
    ],
)
def test_wrong_options(
    trained: keras.Model, part: Digits, method: Any, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(tflite_export.OptionError, match=words):
        method(trained, *part, **options)


def test_what_decides_nothing_cannot_be_retrained(trained: keras.Model, part: Digits) -> None:
    logits = keras.Sequential([keras.Input((8, 8, 1)), layers.Flatten(), layers.Dense(10)])
    with pytest.raises(tflite_export.OptionError, match="no probabilities"):
        tflite_export.prune_weights(logits, *part)
    images = keras.Sequential([keras.Input((8, 8, 1)), layers.Conv2D(3, 3)])
    with pytest.raises(tflite_export.OptionError, match="one output that decides"):
        tflite_export.prune_weights(images, *part)
    with pytest.raises(tflite_export.OptionError, match="from 0 to 9"):
        tflite_export.prune_weights(trained, part[0], part[1] + 1)


def test_the_missing_extra_is_named(
    trained: keras.Model, part: Digits, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = importlib.import_module

    def missing(name: str, *rest: Any) -> Any:
        if name in ("tf_keras", "tensorflow_model_optimization"):
            raise ImportError(f"No module named {name!r}")
        return there(name, *rest)

    monkeypatch.setattr(training.importlib, "import_module", missing)
    with pytest.raises(tflite_export.ConversionError, match=r"keras-nns\[tfmot\]"):
        tflite_export.prune_weights(trained, *part)
