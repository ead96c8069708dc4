"""Which branches can leave: told apart by hand, cut, proved and counted."""

from __future__ import annotations

from dataclasses import replace

import keras
import numpy as np
import pytest
from keras import layers as L

import keras_nns as nns
from keras_nns.extraction.tasks import Recipe, estimates_of, set_task


def conv(x, width, name, size=3, **given):
    x = L.Conv2D(width, size, padding="same", use_bias=False, name=name, **given)(x)
    return L.BatchNormalization(name=f"{name}_norm")(x)


def answered(start, x):
    x = L.GlobalAveragePooling2D()(x)
    return keras.Model(start, L.Dense(4, activation="softmax", name="answer")(x))


def basic(shortcut=False):
    start = keras.Input((6, 6, 2))
    x = L.ReLU()(conv(start, 6, "stem"))
    y = conv(L.ReLU()(conv(x, 5, "a", strides=2 if shortcut else 1)), 6, "b")
    x = conv(x, 6, "short", size=1, strides=2) if shortcut else x
    return answered(start, L.ReLU()(L.Add(name="sum")([x, y])))


def bottleneck():
    start = keras.Input((6, 6, 2))
    x = L.ReLU()(conv(start, 6, "stem"))
    y = L.ReLU()(conv(x, 3, "narrow", size=1))
    y = conv(L.ReLU()(conv(y, 4, "middle")), 6, "wide", size=1)
    return answered(start, L.ReLU()(L.Add()([x, y])))


def inverted():
    start = keras.Input((6, 6, 2))
    x = conv(start, 4, "stem")
    y = L.ReLU(6.0)(conv(x, 9, "expand", size=1))
    y = L.DepthwiseConv2D(3, padding="same", use_bias=False, name="deep")(y)
    y = conv(L.ReLU(6.0)(L.BatchNormalization()(y)), 4, "project", size=1)
    return answered(start, L.Add()([x, y]))


def squeezed():
    """A gate inside a branch leaves with it."""
    start = keras.Input((6, 6, 2))
    x = L.ReLU()(conv(start, 4, "stem"))
    y = L.ReLU()(conv(x, 5, "inside"))
    gate = L.GlobalAveragePooling2D(keepdims=True)(y)
    gate = L.Conv2D(3, 1, activation="relu", name="squeeze")(gate)
    gate = L.Conv2D(5, 1, activation="sigmoid", name="excite")(gate)
    y = conv(L.Multiply()([y, gate]), 4, "back")
    return answered(start, L.ReLU()(L.Add()([x, y])))


def nested():
    inner = keras.Input((6, 6, 4))
    block = keras.Model(inner, conv(L.ReLU()(conv(inner, 5, "a")), 4, "b"), name="block")
    start = keras.Input((6, 6, 2))
    x = L.ReLU()(conv(start, 4, "stem"))
    return answered(start, L.ReLU()(L.Add()([x, block(x)])))


def transformer(before):
    start = keras.Input((5, 3))
    x = L.Dense(6, name="in")(start)
    for name in ("one", "two"):
        y = L.LayerNormalization(name=f"{name}_n1")(x) if before else x
        y = L.MultiHeadAttention(2, 3, name=f"{name}_att")(y, y)
        x = L.Add()([x, y])
        x = x if before else L.LayerNormalization(name=f"{name}_n1")(x)
        y = L.LayerNormalization(name=f"{name}_n2")(x) if before else x
        y = L.Dense(6, name=f"{name}_back")(L.Dense(7, activation="gelu", name=f"{name}_up")(y))
        x = L.Add()([x, y])
        x = x if before else L.LayerNormalization(name=f"{name}_n2")(x)
    x = L.GlobalAveragePooling1D()(x)
    return keras.Model(start, L.Dense(4, activation="softmax", name="answer")(x))


ATTENTION = [
    tuple(f"{name}_att:{part}" for part in ("heads", "key", "value")) for name in ("one", "two")
]
CASES = {
    "basic": (basic, [("a",)]),
    "projected": (lambda: basic(shortcut=True), [("a",)]),
    "bottleneck": (bottleneck, [("narrow", "middle")]),
    "inverted": (inverted, [("expand",)]),
    "gate": (squeezed, [("inside", "squeeze")]),
    "nested": (nested, [("block/a",)]),
    "post-norm": (lambda: transformer(False), [*ATTENTION, ("one_up",), ("two_up",)]),
    "pre-norm": (lambda: transformer(True), [*ATTENTION, ("one_up",), ("two_up",)]),
}


def opened(model):
    rng = np.random.default_rng(0)
    for variable in model.variables:
        spread = np.abs if "variance" in variable.path else np.asarray
        variable.assign(spread(rng.normal(0.2, 0.5, variable.shape)))
    return set_task(model, "all", label_names=tuple("abcd"), head="parent", output=None)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_what_can_leave_is_found_and_its_cut_is_exact_and_costs_what_was_reckoned(name):
    make, expected = CASES[name]
    task = opened(make())
    assert sorted(branch.groups for branch in task.branches) == sorted(expected)
    whole, estimates = task.everything(), estimates_of(task, Recipe())
    together = [name for groups in expected for name in groups]
    for gone in [*expected, together]:
        plan = replace(whole, kept={**whole.kept, **dict.fromkeys(gone, ())})
        assert task.possible(plan)
        assert nns.prove(task.model, plan, allow_empty=True).exact
        small = nns.inspect(nns.cut(task.model, plan, allow_empty=True))
        assert estimates.of("parameters", task.keep(plan)) == small.parameters
        assert estimates.of("macs", task.keep(plan)) == small.multiply_adds


def plain():
    start = keras.Input((6, 6, 2))
    return answered(start, L.ReLU()(conv(L.ReLU()(conv(start, 6, "stem")), 5, "a")))


def forked():
    """What the sum reads goes elsewhere too."""
    start = keras.Input((6, 6, 2))
    x = L.ReLU()(conv(start, 6, "stem"))
    inside = L.ReLU()(conv(x, 5, "a"))
    x = L.Add()([x, conv(inside, 6, "b")])
    return answered(start, L.Concatenate()([x, inside]))


def twice():
    """One layer in two places, of which one has no way round it."""
    start = keras.Input((6, 6, 2))
    shared = L.Conv2D(4, 3, padding="same", activation="relu", name="shared")
    x = shared(conv(start, 4, "stem"))
    return answered(start, L.Add()([x, L.Conv2D(4, 3, padding="same", name="b")(shared(x))]))


@pytest.mark.parametrize("make", [plain, forked, twice])
def test_what_cannot_leave(make):
    assert opened(make()).branches == ()


def test_of_two_ways_round_each_other_one_stays():
    start = keras.Input((6, 6, 2))
    x = L.ReLU()(conv(start, 6, "stem"))
    ways = [conv(L.ReLU()(conv(x, 5, f"in{n}")), 6, f"out{n}") for n in (1, 2)]
    task = opened(answered(start, L.Add()(ways)))
    assert [branch.groups for branch in task.branches] == [("in1",)]
