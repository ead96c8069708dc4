"""Everything that works on any backend, done once on the one that runs: its numbers by name.

As a script: `python on_backend.py model.keras data.npz found.npz`.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers

import keras_nns as nns
import tflite_export
from keras_nns.graph.tracing import trace

STATISTICS = ("fired", "mean", "variance", "maximum", "active", "mean_square")
LABELS = [1, 3]


def model() -> Any:
    """Two branches, a batch norm, and a convolution that reads positions."""
    inputs = keras.Input((10, 10, 3))
    x = layers.Conv2D(6, 3, activation="relu", name="first")(inputs)
    x = layers.BatchNormalization()(x)
    x = layers.ReLU()(layers.Add()([x, layers.Conv2D(6, 3, padding="same", name="second")(x)]))
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dense(8, activation="tanh", name="hidden")(x)
    return keras.Model(inputs, layers.Dense(5, activation="softmax", name="answer")(x))


def data() -> tuple[Any, Any]:
    """Return images whose brightness tells their label, and the labels."""
    random = np.random.default_rng(0)
    y = random.integers(0, 5, 256)
    x = random.normal(size=(256, 10, 10, 3)) + 0.5 * y[:, None, None, None]
    return x.astype("float32"), y


def watched(whole: Any, x: Any, y: Any) -> dict[str, Any]:
    """Activity, and what a monitor sees of the same data in `fit`."""
    activity = nns.observe(whole, (x, y), statistics=STATISTICS, batch_size=64, verbose=False)
    found = {
        f"{name}/{kind}": array
        for name, layer in activity.layers.items()
        for kind, array in layer.arrays().items()
    }
    monitor = nns.ActivityMonitor((x, y), batch_size=64)
    whole.compile(keras.optimizers.SGD(0.0), "sparse_categorical_crossentropy")
    whole.fit(x, y, epochs=1, shuffle=False, verbose=0, callbacks=[monitor])
    return found | {"monitor": monitor.activity.layers["hidden"].total}


def cut(whole: Any, x: Any, y: Any) -> dict[str, Any]:
    """Plan, cut, mask and proof."""
    plan = nns.select(nns.observe(whole, (x, y), verbose=False), labels=LABELS)
    small = nns.cut(whole, plan)
    return {
        "kept": np.concatenate([np.asarray(kept) for kept in plan.kept.values()]),
        "answers": answers(small, x),
        "masked": answers(nns.mask(whole, plan), x),
        "proof": np.array(nns.prove(whole, plan).relative < 1e-5),
    }


def proven(whole: Any, x: Any, y: Any) -> dict[str, Any]:
    """A proof in float64 of a deep network, in which float32 rounds by more than is allowed."""
    keras.utils.set_random_seed(1)

    def dense(units: int, terms: int, gain: float, **kwargs: Any) -> Any:
        first = keras.initializers.RandomNormal(stddev=gain / np.sqrt(terms))
        return layers.Dense(units, kernel_initializer=first, **kwargs)

    inputs = keras.Input((16,))
    value = inputs
    for _ in range(18):
        hidden = dense(1024, 16, 3, activation="tanh")(value)
        value = layers.LayerNormalization()(layers.Add()([value, dense(16, 1024, 6)(hidden)]))
    deep = keras.Model(inputs, layers.Dense(5)(value))
    sizes = {group.name: group.size for group in trace(deep).layout.prunable}
    kept = {name: tuple(range(0, size, 1 + (size > 16))) for name, size in sizes.items()}
    plan = nns.Plan(nns.fingerprint(deep), sizes, kept)
    samples = np.random.default_rng(0).normal(size=(16, 16)).astype(np.float32)
    proof = nns.prove(deep, plan, samples=samples)
    return {
        "exact": np.array(proof.exact),
        "in float64": np.array(proof.dtype == "float64" and proof.relative < 1e-11),
    }


def scored(whole: Any, x: Any, y: Any) -> dict[str, Any]:
    """Gradients, and what scores say that need them or go over the data."""
    gradients = nns.observe_gradients(whole, (x, y), batch_size=64, verbose=False)
    activity = nns.observe(whole, (x, y), verbose=False)
    found = {}
    for name, layer in gradients.layers.items():
        found |= {f"{name}/effect": layer.effect, f"{name}/square": layer.square}
    for name, score in (
        ("reconstruction", nns.scores.reconstruction(whole, (x, y), labels=LABELS)),
        ("forward_selection", nns.scores.forward_selection(whole, (x, y))),
    ):
        plan = nns.select(activity, labels=LABELS, score=score)
        found[name] = np.concatenate([np.asarray(kept) for kept in plan.kept.values()])
    return found


def repaired(whole: Any, x: Any, y: Any) -> dict[str, Any]:
    """Repair without gradient steps, judged."""
    small = nns.cut(whole, nns.select(nns.observe(whole, (x, y), verbose=False), labels=LABELS))
    fixed = nns.repair(small, whole, (x, y), steps=[nns.steps.least_squares()]).model
    judged = nns.evaluate(fixed, (x, y), allow_overlap=True)
    other = nns.repair(small, whole, (x, y), steps=[nns.steps.calibrate_head()]).model
    # The last digits of a head that scikit-learn fits depend on those of what it reads.
    better = nns.evaluate(other, (x, y), allow_overlap=True)
    return {
        "answers": answers(fixed, x),
        "auc": np.array([judged[label].auc for label in LABELS]),
        "calibrated": np.array([round(better[label].auc, 2) for label in LABELS]),
    }


def taught(whole: Any, x: Any, y: Any) -> dict[str, Any]:
    """Distillation: the loss before is the same, and that of the second epoch is less."""
    small = nns.cut(whole, nns.select(nns.observe(whole, (x, y), verbose=False), labels=LABELS))
    done = nns.distill(small, whole, (x, y), epochs=2, optimizer=keras.optimizers.SGD(0.05))
    loss = next(gain for gain in done.gains if gain.measure == "loss")
    first, second = done.history["loss"]
    return {"before": np.array(loss.before), "better": np.array(second < first)}


def extracted(whole: Any, x: Any, y: Any) -> dict[str, Any]:
    """All of it, to a budget."""
    budget = nns.Budget(parameters=400)
    made = nns.extract(whole, (x, y), labels=LABELS, budget=budget, verbose=False)
    return {"parameters": np.array(made.model.count_params() <= 400)}


def exported(whole: Any, x: Any, y: Any) -> dict[str, Any]:
    """A file for a device, made where Keras runs on TensorFlow."""
    flat = tflite_export.convert(whole)
    told = tflite_export.verify(flat, whole, x[:16])
    return {"bytes": np.array(len(flat)), "right": np.array(bool(told))}


VERBS: tuple[Callable[..., dict[str, Any]], ...] = (
    watched, cut, proven, scored, repaired, taught, extracted, exported,
)  # fmt: skip


def answers(of: Any, x: Any) -> Any:
    """Return what a model answers."""
    return np.asarray(of.predict(x, verbose=0, batch_size=64))


def everything(path: str, x: Any, y: Any) -> dict[str, Any]:
    """Return all numbers by `verb/name`; a verb that fails says so by `verb/error`."""
    found = {}
    for verb in VERBS:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                numbers = verb(nns.load_model(path), x, y)
            except Exception as error:
                numbers = {"error": np.array(f"{type(error).__name__}: {error}")}
        found |= {f"{verb.__name__}/{name}": np.asarray(value) for name, value in numbers.items()}
    return found


if __name__ == "__main__":
    with np.load(sys.argv[2]) as given:
        np.savez(sys.argv[3], **everything(sys.argv[1], given["x"], given["y"]))
