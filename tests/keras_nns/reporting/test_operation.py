"""Operating by several plans: names, samples, and what is refused."""

import dataclasses

import keras
import numpy as np
import pytest

import keras_nns as nns
import tflite_export
from keras_nns.reporting import operation
from keras_nns.reporting.operation import network_names, operate
from keras_nns.shipping.tflite_files import answer_names
from keras_nns.surgery.proving import Proof

layers = keras.layers


@pytest.fixture(scope="module")
def parts():
    keras.utils.set_random_seed(1)
    random = np.random.default_rng(1)
    x = random.normal(size=(90, 5)).astype("float32")
    y = np.repeat(np.arange(3), 30)
    model = keras.Sequential(
        [
            keras.Input((5,)),
            layers.Dense(8, activation="relu", name="one"),
            layers.Dense(3, activation="softmax", name="answer"),
        ],
        name="net",
    )
    activity = nns.observe(model, x, y)
    return model, activity, nns.select(activity, "each", score="mean_activation"), x, y


def test_networks_have_different_names(parts):
    plans = parts[2]
    names = network_names([plans[0], plans[0] | plans[2], plans[0]])
    assert names == ["0", "0+2", "0 (3)"]
    odd = [
        dataclasses.replace(plans[0], label_names=("merged", "parent", "x")),
        dataclasses.replace(plans[1], labels=()),
    ]
    assert network_names(odd) == ["merged (1)", "plan 2"]


def test_answers_are_named_where_there_is_one_for_each_output(parts):
    model, _, plans, _, _ = parts
    assert answer_names(model, ("a", "b", "c")) == ("a", "b", "c")
    assert answer_names(model, ("a", "b")) is None
    assert answer_names(nns.cut(model, plans[1], head="binary"), ("a", "b", "c")) == ("1",)
    inputs = keras.Input((5,))
    hidden = layers.Dense(6, activation="relu")(inputs)
    outputs = [layers.Dense(3, name="kind")(hidden), layers.Dense(1, name="age")(hidden)]
    two = keras.Model(inputs, outputs)
    assert answer_names(two, ("a", "b", "c")) is None


@pytest.mark.slow
def test_every_network_is_proven_exported_and_judged(parts):
    model, activity, plans, x, y = parts
    told = []
    done = operate(
        model,
        activity,
        plans[:2],
        x,
        y,
        samples=x[:20],
        export=True,
        head="binary",
        tell=told.append,
        allow_overlap=True,
    )
    assert [network.name for network in done.record.every] == ["0", "1", "merged"]
    assert done.record.merged.plan == plans[0] | plans[1]
    assert len(told) == 3
    assert set(done.tflite) == {"parent", "0", "1", "merged"}
    for network in done.record.every:
        flat = done.tflite[network.name]
        assert tflite_export.verify(flat, network.model, x).relative < 1e-5
        assert network.comparison.costs.tflite_bytes == len(flat)
        assert network.proof.exact and network.proof.samples == 20
        assert nns.lineage(network.model).head == "binary"


@pytest.mark.slow
def test_without_export_there_are_no_files(parts):
    model, activity, plans, x, y = parts
    done = operate(model, activity, plans, x, y, merged=False, allow_overlap=True)
    assert done.tflite == {} and done.record.merged is None
    assert done.to_json()["networks"][0]["tflite"] is None
    assert [row[0] for row in done.to_table().rows] == ["parent", "0", "1", "2"]


def test_what_makes_no_sense_is_refused(parts):
    model, activity, plans, x, y = parts
    with pytest.raises(nns.errors.SelectionError, match="no plan"):
        operate(model, activity, [], x, y)
    with pytest.raises(nns.errors.SelectionError, match="samples="):
        operate(model, activity, plans, x, y, export=True)


def test_a_cut_that_is_not_exact_is_never_reported(parts, monkeypatch):
    model, activity, plans, x, y = parts
    monkeypatch.setattr(operation, "prove", lambda *_, **__: Proof(0.1, 0.1, 8))
    with pytest.raises(nns.errors.ProofError, match="NOT equal"):
        operate(model, activity, plans, x, y)
