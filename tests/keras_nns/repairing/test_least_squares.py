"""Least squares against numpy, and what it does with few samples, copies and heads."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from contract import chain, inputs_of, randomise
from keras import layers as L
from repair_models import (
    gain,
    mlp,
    plan_of,
)

import keras_nns as nns
from keras_nns.plans.kept_units import Plan


@pytest.mark.slow
def test_least_squares_of_a_dense_equals_numpy():
    model = mlp()
    plan = plan_of(model)
    small = nns.cut(model, plan)
    x = inputs_of(model, 200)
    steps = nns.steps.least_squares(ridge=0)
    fixed = nns.repair(small, model, x, steps=steps, held_out=0).model
    # Layer "one" reads the inputs alone, of which none is gone.
    hidden = np.maximum(x @ small.layers[0].kernel + small.layers[0].bias, 0).astype(np.float64)
    theirs = np.maximum(x @ model.layers[0].kernel + model.layers[0].bias, 0)
    kept = list(plan.kept["two"])
    target = (theirs @ model.layers[1].kernel + model.layers[1].bias)[:, kept]
    design = np.c_[hidden, np.ones(len(x))]
    solution = np.linalg.lstsq(design, target.astype(np.float64), rcond=None)[0]
    np.testing.assert_allclose(fixed.layers[1].kernel, solution[:-1], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(fixed.layers[1].bias, solution[-1], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"padding": "same", "strides": 2},
        {"dilation_rate": 2, "use_bias": False},
        {"kernel_size": (2, 3)},
    ],
)
def test_least_squares_of_a_convolution_equals_numpy_on_patches(settings):
    size = settings.pop("kernel_size", 3)
    model = chain(
        (8, 7, 2),
        L.Conv2D(4, 3, activation="relu", name="one"),
        L.Conv2D(3, size, name="two", **settings),
        L.GlobalAveragePooling2D(),
        L.Dense(3, name="answer"),
    )
    randomise(model)
    small = nns.cut(model, plan_of(model))
    x = inputs_of(model, 50)
    steps = nns.steps.least_squares(ridge=0)
    fixed = nns.repair(small, model, x, steps=steps, held_out=0).model
    kept = list(nns.lineage(small).plan.kept["two"])
    target = model.get_layer("two")(model.get_layer("one")(x)).numpy()[..., kept]
    design = patches(small.get_layer("one")(x).numpy(), small.get_layer("two"), target.shape)
    design = np.c_[design, np.ones(len(design))]
    wanted = target.reshape(-1, len(kept))
    solution = np.linalg.lstsq(design, wanted, rcond=None)[0]
    layer = fixed.get_layer("two")
    kernel = np.asarray(layer.kernel).reshape(-1, len(kept))
    np.testing.assert_allclose(kernel, solution[:-1], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(layer.bias, solution[-1], rtol=1e-3, atol=1e-4)


def patches(x, layer, shape):
    """Cut out the windows one by one."""
    spans = [d * (k - 1) + 1 for d, k in zip(layer.dilation_rate, layer.kernel_size, strict=True)]
    if layer.padding == "same":
        total = [
            max((out - 1) * stride + span - size, 0)
            for out, stride, span, size in zip(
                shape[1:3], layer.strides, spans, x.shape[1:3], strict=True
            )
        ]
        x = np.pad(x, [(0, 0), *[(t // 2, t - t // 2) for t in total], (0, 0)])
    rows = [
        x[
            n,
            i * layer.strides[0] : i * layer.strides[0] + spans[0] : layer.dilation_rate[0],
            j * layer.strides[1] : j * layer.strides[1] + spans[1] : layer.dilation_rate[1],
        ].ravel()
        for n in range(shape[0])
        for i in range(shape[1])
        for j in range(shape[2])
    ]
    return np.array(rows, dtype=np.float64)


@pytest.mark.slow
def test_least_squares_recovers_a_unit_that_is_a_copy_of_another():
    model = mlp()
    first, second = model.layers[0], model.layers[1]
    kernel, bias = first.get_weights()
    kernel[:, 4:], bias[4:] = kernel[:, :4], bias[:4]
    first.set_weights([kernel, bias])
    plan = plan_of(model, share=1.0)
    plan = Plan(plan.fingerprint, plan.sizes, {**plan.kept, "one": (0, 1, 2, 3)})
    small = nns.cut(model, plan)
    x = inputs_of(model, 300)
    plain = nns.steps.least_squares(rounding=None)
    repair = nns.repair(small, model, x, steps=plain)
    np.testing.assert_allclose(repair.model(x), model(x), atol=1e-5)
    expected = second.kernel[:4] + second.kernel[4:]
    np.testing.assert_allclose(repair.model.layers[1].kernel, expected, atol=1e-4)


@pytest.mark.slow
def test_a_singular_system_is_solved_and_said():
    model = mlp()
    first = model.layers[0]
    kernel, bias = first.get_weights()
    kernel[:, 1], bias[1] = kernel[:, 0], bias[0]
    first.set_weights([kernel, bias])
    plan = plan_of(model, share=1.0)
    plan = Plan(plan.fingerprint, plan.sizes, {**plan.kept, "one": (0, 1, 2, 3)})
    small = nns.cut(model, plan)
    repair = nns.repair(small, model, inputs_of(model, 300), steps=nns.steps.least_squares(ridge=0))
    found = gain(repair, "unexplained", "two")
    assert "singular: rank 3 of 4" in found.note
    assert found.after < found.before
    assert np.isfinite(np.concatenate([w.ravel() for w in repair.model.get_weights()])).all()


@pytest.mark.slow
def test_the_ridge_keeps_a_fit_on_few_samples_from_getting_worse():
    model = randomise(
        chain((30,), L.Dense(40, activation="relu", name="wide"), L.Dense(3, name="answer"))
    )
    small = nns.cut(model, plan_of(model))
    x, new = inputs_of(model, 40), inputs_of(model, 500, seed=5)
    errors = {}
    for name, steps in (("plain", 0.0), ("chosen", None), ("none", 1e9)):
        fixed = nns.repair(
            small, model, x, steps=nns.steps.least_squares(ridge=steps), held_out=0.0
        )
        errors[name] = float(((fixed.model(new) - model(new)) ** 2).numpy().mean())
    assert errors["chosen"] < errors["plain"]
    assert errors["chosen"] <= errors["none"] * 1.05


@pytest.mark.slow
def test_balance_weighs_the_labels_samples_like_all_others():
    model = mlp()
    small = nns.cut(model, plan_of(model, labels=(1,)))
    x = inputs_of(model, 200).astype(np.float32)
    y = np.r_[np.ones(20, int), np.zeros(90, int), np.full(90, 2)]
    steps = nns.steps.least_squares(ridge=0, balance=True)
    given = nns.repair(small, model, x, y, steps=steps, held_out=0).model
    many = np.concatenate([x[:20]] * 9 + [x[20:]])
    plain = nns.steps.least_squares(ridge=0)
    wanted = nns.repair(small, model, many, steps=plain, held_out=0).model
    for one, other in zip(given.get_weights(), wanted.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)


def answering(activation):
    return randomise(
        keras.Sequential(
            [
                keras.Input((6,)),
                L.Dense(8, activation="relu", name="one"),
                L.Dense(7, activation="tanh", name="two"),
                L.Dense(4, activation=activation, name="answer"),
            ]
        )
    )


@pytest.mark.slow
def test_a_labels_head_is_fitted_to_its_own_samples():
    model = answering("softmax")
    small = nns.cut(model, plan_of(model, labels=(1, 3)), head="labels")
    x, y = inputs_of(model, 300).astype(np.float32), np.arange(300) % 4
    own = np.isin(y, [1, 3])
    given = nns.repair(small, model, x, y)
    wanted = nns.repair(small, model, x[own], y[own])
    assert given.samples + given.held_out == own.sum()
    assert (given.samples, given.held_out) == (wanted.samples, wanted.held_out)
    for one, other in zip(given.model.get_weights(), wanted.model.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)
    inputs_alone = nns.repair(small, model, x)
    assert inputs_alone.samples + inputs_alone.held_out == len(x)


@pytest.mark.slow
@pytest.mark.parametrize(("activation", "head"), [("softmax", "other"), ("sigmoid", "labels")])
def test_a_head_that_can_say_none_of_them_is_fitted_to_all_samples(activation, head):
    model = answering(activation)
    small = nns.cut(model, plan_of(model, labels=(1, 3)), head=head)
    x, y = inputs_of(model, 300).astype(np.float32), np.arange(300) % 4
    found = nns.repair(small, model, x, y, steps=nns.steps.least_squares())
    assert found.samples + found.held_out == len(x)


def test_too_few_samples_of_the_labels_are_refused():
    model = answering("softmax")
    small = nns.cut(model, plan_of(model, labels=(1, 3)), head="labels")
    x, y = inputs_of(model, 300).astype(np.float32), np.zeros(300, int)
    y[:3] = [1, 3, 1]
    with pytest.raises(
        nns.errors.DataError, match=r"3 samples of labels 1, 3.*10 samples of every"
    ):
        nns.repair(small, model, x, y)
