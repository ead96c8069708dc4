"""Units that nothing is known of: never kept, and never cut, without a word."""

from __future__ import annotations

import re

import keras
import numpy as np
import pytest
from keras import layers as L

import keras_nns as nns
from keras_nns.cli import main
from keras_nns.observation.activity import Activity

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)


@keras.saving.register_keras_serializable("unknown_units")
class Block(L.Layer):
    """A feed-forward block around which the signal goes: its hidden units show nowhere."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units

    def build(self, shape):
        self.up = self.add_weight(shape=(shape[-1], self.units), name="up")
        self.down = self.add_weight(shape=(self.units, shape[-1]), name="down")

    def call(self, x):
        return x + keras.ops.relu(x @ self.up) @ self.down

    def get_config(self):
        return {**super().get_config(), "units": self.units}


@nns.rules.register(Block)
def block(site):
    stream = site.inputs[0].on(-1)
    hidden = site.make(site.operation.units, "hidden")
    site.bind(site.operation.up, {0: stream, 1: hidden})
    site.bind(site.operation.down, {0: hidden, 1: stream}, silence=(0,))
    site.configure("units", hidden)
    site.emit({-1: stream})


def net(*, hidden):
    """One block; its stream can go where a Dense makes it, and must stay where a norm reads it."""
    keras.utils.set_random_seed(0)
    x = start = keras.Input((5,))
    x = Block(7, name="block")(L.Dense(4, name="in")(x))
    if not hidden:
        x = L.LayerNormalization(name="norm")(x)
    return keras.Model(start, L.Dense(3, activation="softmax", name="answer")(x), name="net")


def data():
    y = np.arange(60) % 3
    x = np.random.default_rng(0).normal(0, 0.3, (60, 5))
    x[np.arange(60), y] += 1
    return x.astype("float32"), y


REASON = "'block:hidden' .they act inside Block 'block'"


@pytest.mark.parametrize("score", ["mean_activation", "contrast", "magnitude"])
def test_a_choice_without_any_knowledge_is_refused(score):
    model = net(hidden=False)
    activity = nns.observe(model, data())
    chosen = getattr(nns.scores, score)
    chosen = chosen(model) if score == "magnitude" else chosen
    for labels in (1, "each"):
        with pytest.raises(nns.errors.SelectionError, match=f"Nothing is known.*{REASON}"):
            nns.select(activity, labels, score=chosen)


def test_a_choice_with_some_knowledge_says_what_stays():
    activity = nns.observe(net(hidden=True), data())
    with pytest.warns(UserWarning, match=f"nothing is known stay: {REASON}"):
        plan = nns.select(activity, 1, keep=nns.top(1), score="mean_activation")
    assert {name: len(units) for name, units in plan.kept.items()} == {"in": 1, "block:hidden": 7}
    assert plan.unknown == ("block:hidden",)
    assert str(plan) == "Plan for 1: 1 of 4 units, and all 7 of which nothing is known"


def test_what_was_left_out_on_purpose_is_no_news():
    model = keras.Sequential(
        [keras.Input((5,)), L.Dense(4, name="one"), L.Dense(4, name="two"), L.Dense(3)]
    )
    activity = nns.observe(model, data(), layers=["one"])
    plan = nns.select(activity, 1, keep=nns.top(1), score="mean_activation")
    assert plan.unknown == ("two",)


def test_the_reasons_survive_a_file_and_a_sum(tmp_path):
    activity = nns.observe(net(hidden=True), data())
    activity.save(tmp_path / "activity.npz")
    assert Activity.load(tmp_path / "activity.npz").unwatched == activity.unwatched
    assert (activity + activity).unwatched == activity.unwatched
    assert list(activity.unwatched) == ["block:hidden"]


@pytest.mark.slow
def test_weights_are_known_without_watching():
    """By hand: the norm of the column of `up` that computes a unit."""
    model = net(hidden=False)
    score = nns.scores.magnitude(model, unobserved=True)
    plan = nns.select(nns.observe(model, data()), 1, score=score, keep=nns.top(2))
    largest = np.argsort(np.linalg.norm(model.get_layer("block").up.numpy(), axis=0))[-2:]
    assert plan.kept["block:hidden"] == tuple(sorted(largest.tolist()))
    assert nns.cut(model, plan, prove=True).get_layer("block").units == 2


@pytest.mark.slow
def test_extraction_says_the_true_reason(tmp_path, monkeypatch, capsys):
    model = net(hidden=False)
    asked = {"labels": 1, "budget": nns.Budget(parameters=70)}
    with pytest.raises(nns.errors.SelectionError, match=f"Nothing is known.*{REASON}"):
        nns.extract(model, data(), **asked)
    found = nns.extract(
        model, data(), score=nns.scores.magnitude(model, unobserved=True), repair=False, **asked
    )
    assert 60 < found.cost == found.model.count_params() <= 70
    monkeypatch.chdir(tmp_path)
    nns.save_model(model, "model.keras")
    x, y = data()
    np.savez("data.npz", x=x, y=y)
    words = ["extract", "model.keras", "data.npz", "--no-scale", "--label", "1"]
    assert main([*words, "--budget", "parameters=70", "-o", "small.keras"]) == 1
    assert "they act inside Block 'block'" in " ".join(capsys.readouterr().err.split())


class Halved(L.Layer):
    """A layer that nobody has taught the library."""

    def call(self, x):
        return x / 2


WHOLE = {
    "unknown": lambda: [L.Dense(8, name="h"), Halved(name="halved")],
    "a norm": lambda: [L.Dense(8, name="h"), L.LayerNormalization(name="norm")],
    "code": lambda: [L.Dense(8, name="h"), L.Lambda(lambda x: x * 2, output_shape=(8,))],
}


@pytest.mark.parametrize("case", WHOLE)
def test_where_nothing_can_go_the_reasons_are_those_of_inspect(case):
    model = keras.Sequential([keras.Input((5,)), *WHOLE[case](), L.Dense(3, "softmax")])
    (reason,) = next(group for group in nns.inspect(model).groups if group.name == "h").reasons
    said = "no hidden units that can be removed: 'h': " + re.escape(reason)
    activity = nns.observe(model, data())
    for keep in (None, nns.top(2)):
        with pytest.raises(nns.errors.SelectionError, match=said):
            nns.select(activity, 1, keep=keep)
    with pytest.raises(nns.errors.ModelError, match=said):
        nns.extract(model, data(), labels=1, budget="parameters=30")
    if case == "a norm":
        assert "nns.unfold(model, normalizations=True)" in reason
        activity = nns.observe(nns.unfold(model, normalizations=True), data())
        assert len(nns.select(activity, 1, keep=nns.top(2)).kept["h"]) == 2


def test_a_model_without_hidden_units_says_so():
    """Also one whose hidden units are added to its outputs."""
    alone = keras.Sequential([keras.Input((5,)), L.Dense(3)])
    with pytest.raises(nns.errors.ModelError, match="it has no hidden units"):
        nns.extract(alone, data(), labels=1, budget="parameters=9")
    start = keras.Input((5,))
    hidden = L.Dense(3, name="h")(start)
    joined = keras.Model(start, L.Add()([hidden, L.Dense(3, name="out")(hidden)]))
    with pytest.raises(nns.errors.ModelError, match=r"'h': .*model output"):
        nns.extract(joined, data(), labels=1, budget="parameters=9")
