"""Repair: each step against an independent computation, and the laws that hold for all of them."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from contract import chain, inputs_of, randomise
from keras import layers as L
from repair_models import (
    LABEL_FREE,
    MODELS,
    RNG,
    gain,
    mlp,
    one_dimensional,
    plan_of,
    residual,
)

import keras_nns as nns
from keras_nns.graph.tracing import weights_digest
from keras_nns.plans.kept_units import Plan

# Laws ----------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("make", MODELS)
def test_repair_of_a_cut_that_removed_nothing_changes_nothing(make):
    model = make()
    small = nns.cut(model, plan_of(model, share=1.0))
    x = inputs_of(model, 60)
    fixed = nns.repair(small, model, x, steps=LABEL_FREE).model
    for before, after in zip(small.get_weights(), fixed.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


@pytest.mark.slow
@pytest.mark.parametrize("make", MODELS)
def test_neither_the_parent_nor_the_given_subnetwork_changes(make):
    model = make()
    model.compile("sgd", "mse")
    small = nns.cut(model, plan_of(model))
    nodes = [len(layer._inbound_nodes) for layer in [*model.layers, *small.layers]]
    digests = weights_digest(model), weights_digest(small)
    fixed = nns.repair(small, model, inputs_of(model, 60), steps=LABEL_FREE).model
    assert (weights_digest(model), weights_digest(small)) == digests
    assert [len(layer._inbound_nodes) for layer in [*model.layers, *small.layers]] == nodes
    assert fixed is not small
    assert weights_digest(fixed) != digests[1]
    own = {id(v) for m in (model, small) for v in m.variables}
    assert not own & {id(v) for v in fixed.variables}
    assert nns.lineage(fixed) == nns.lineage(small)
    assert fixed.compiled
    assert fixed.loss == "mse"
    assert type(fixed) is type(small)


@pytest.mark.slow
@pytest.mark.parametrize("make", MODELS)
def test_least_squares_comes_nearer_to_the_parent(make):
    model = make()
    small = nns.cut(model, plan_of(model))
    repair = nns.repair(small, model, inputs_of(model, 400), steps=nns.steps.least_squares())
    layered = [g for g in repair.gains if g.layer]
    assert layered
    for found in layered:
        assert found.after < found.before
    x = inputs_of(model, 200, seed=9)
    wanted = model(x).numpy()
    before = np.abs(small(x).numpy() - wanted).mean()
    after = np.abs(repair.model(x).numpy() - wanted).mean()
    assert after < before
    whole = gain(repair, "distance")
    assert whole.after < whole.before


# Means ---------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("use_bias", [True, False])
def test_folding_is_exact_where_what_was_removed_is_constant(use_bias):
    model = randomise(
        chain(
            (7, 7, 2),
            L.Conv2D(6, 3, padding="same", activation="relu", name="one"),
            L.Conv2D(5, 3, use_bias=use_bias, activation="relu", name="two"),
            L.Flatten(),
            L.Dense(4, use_bias=use_bias, activation="tanh", name="three"),
            L.Dense(3, name="answer"),
        )
    )
    for name in ("one", "three"):
        layer = model.get_layer(name)
        kernel = np.asarray(layer.kernel).copy()
        kernel[..., :2] = 0
        layer.kernel.assign(kernel)
    plan = plan_of(model, share=1.0)
    kept = {**plan.kept, "one": (2, 3, 4, 5), "three": (2, 3)}
    small = nns.cut(model, Plan(plan.fingerprint, plan.sizes, kept))
    x = inputs_of(model, 40)
    assert np.abs(small(x) - model(x)).max() > 1e-2
    repair = nns.repair(small, model, x, steps=nns.steps.fold_means())
    np.testing.assert_allclose(repair.model(x), model(x), atol=1e-5)
    assert gain(repair, "unexplained", "two").note == ("" if use_bias else "got a bias")


@pytest.mark.slow
def test_folding_adds_the_removed_units_mean_times_their_weights():
    model = mlp()
    plan = plan_of(model, share=1.0)
    plan = Plan(plan.fingerprint, plan.sizes, {**plan.kept, "one": (0, 2, 5)})
    small = nns.cut(model, plan)
    x = inputs_of(model, 100)
    fixed = nns.repair(small, model, x, steps=nns.steps.fold_means(), held_out=0).model
    gone = [1, 3, 4, 6, 7]
    mean = model.layers[0](x).numpy()[:, gone].mean(axis=0)
    shift = mean @ np.asarray(model.layers[1].kernel)[gone]
    np.testing.assert_allclose(
        fixed.layers[1].bias, np.asarray(model.layers[1].bias) + shift, atol=1e-5
    )


@pytest.mark.slow
def test_folding_twice_changes_nothing_more():
    model = residual()
    small = nns.cut(model, plan_of(model))
    x = inputs_of(model, 60)
    once = nns.repair(small, model, x, steps=nns.steps.fold_means())
    twice = nns.repair(once.model, model, x, steps=nns.steps.fold_means())
    for one, other in zip(once.model.get_weights(), twice.model.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    assert gain(once, "unexplained", "branch").note == "bias into 'behind'"


@pytest.mark.slow
def test_steps_do_not_take_back_what_another_put_into_a_batch_norm():
    model = residual()
    small = nns.cut(model, plan_of(model))
    x = inputs_of(model, 60)
    alone = nns.repair(small, model, x, steps=nns.steps.least_squares(), held_out=0).model
    steps = (nns.steps.fold_means(), nns.steps.least_squares())
    after = nns.repair(small, model, x, steps=steps, held_out=0).model
    for one, other in zip(alone.get_weights(), after.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)


# Batch norm ----------------------------------------------------------------------------------


def settled():
    """Return the residual model with moving statistics that are those of its data."""
    model = residual()
    x = inputs_of(model, 100)
    for name in ("norm", "behind"):
        norm = model.get_layer(name)
        given = keras.Model(model.input, norm.input)(x).numpy()
        norm.moving_mean.assign(given.mean(axis=(0, 1, 2)))
        norm.moving_variance.assign(given.var(axis=(0, 1, 2)))
    return model, x


@pytest.mark.slow
def test_batch_norms_get_the_statistics_that_the_subnetwork_has():
    model, x = settled()
    small = nns.cut(model, plan_of(model))
    steps = nns.steps.recalibrate_batch_norm()
    repair = nns.repair(small, model, x, steps=steps, held_out=0)
    given = keras.Model(repair.model.input, repair.model.get_layer("behind").input)(x).numpy()
    norm = repair.model.get_layer("behind")
    np.testing.assert_allclose(norm.moving_mean, given.mean(axis=(0, 1, 2)), atol=1e-4)
    np.testing.assert_allclose(norm.moving_variance, given.var(axis=(0, 1, 2)), rtol=1e-3)
    # The first batch norm sees what it saw: only units next to it are gone.
    assert [g.layer for g in repair.gains if g.layer] == ["behind"]


@pytest.mark.slow
def test_a_mix_of_other_data_does_not_leak_into_batch_norms():
    model, x = settled()
    small = nns.cut(model, plan_of(model, share=1.0))
    repair = nns.repair(small, model, x[:30] + 3, steps=nns.steps.recalibrate_batch_norm())
    for one, other in zip(small.get_weights(), repair.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


# Data and memory -----------------------------------------------------------------------------


@pytest.mark.slow
def test_any_form_of_the_data_gives_the_same_repair():
    import tensorflow as tf

    model = mlp()
    small = nns.cut(model, plan_of(model))
    x = inputs_of(model, 90)
    y = RNG.integers(0, 3, 90)
    steps = nns.steps.least_squares()
    forms = [
        x,
        (x, y),
        tf.data.Dataset.from_tensor_slices(x).batch(32),
        tf.data.Dataset.from_tensor_slices((x, y)).batch(90),
        lambda: iter([(x[:40], y[:40]), (x[40:], y[40:])]),
        tf.data.Dataset.from_tensor_slices(x).shuffle(90, seed=1).batch(30),
    ]
    first, *others = [nns.repair(small, model, form, steps=steps) for form in forms]
    for other in others:
        assert (other.samples, other.held_out) == (first.samples, first.held_out)
        for a, b in zip(first.model.get_weights(), other.model.get_weights(), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_what_is_held_out_has_no_say():
    model = mlp()
    small = nns.cut(model, plan_of(model))
    x = inputs_of(model, 120)
    from keras_nns.observation.holdout import Division

    division = Division(x, None, model=model, held_out=0.3, seed=4, batch_size=50, label_names=None)
    fitted = np.concatenate([b.inputs for b in division.to_fit()])
    held = np.concatenate([b.inputs for b in division.held_out()])
    assert len(fitted) + len(held) == 120
    assert 0.15 < len(held) / 120 < 0.45
    steps = nns.steps.least_squares()
    whole = nns.repair(small, model, x, steps=steps, held_out=0.3, seed=4)
    without = nns.repair(small, model, np.concatenate([fitted, held[:3]]), steps=steps,
                         held_out=0.3, seed=4)  # fmt: skip
    assert (whole.samples, whole.held_out) == (len(fitted), len(held))
    for a, b in zip(whole.model.get_weights(), without.model.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


def test_memory_does_not_grow_with_the_samples():
    """What is kept between batches has the size of the layer, not of the data."""
    import tensorflow as tf

    from keras_nns.engine.accumulators import Accumulator
    from keras_nns.observation.moments import ColumnSums, MomentSums

    def arrays(held):
        for value in vars(held).values():
            if isinstance(value, Accumulator | np.ndarray):
                yield np.asarray(value if isinstance(value, np.ndarray) else value.numpy())
            elif hasattr(value, "__dict__"):
                yield from arrays(value)

    ways = ((MomentSums(4, 2), (4, 2), np.asarray), (ColumnSums(4), (4,), tf.constant))
    for sums, args, make in ways:
        sizes = []
        for count in (10, 10_000):
            rows = [make(RNG.normal(size=(count, width))) for width in args]
            sums.update(*rows, make(np.zeros(count, np.int32)), make(np.ones(count)))
            kept = list(arrays(sums))
            sizes.append(sum(array.size for array in kept))
        # Counts, sums, products and the pivot; and in compiled steps, whether there is one.
        assert len(kept) == (4 if make is np.asarray else 5)
        assert sizes[0] == sizes[1]


def test_moments_survive_a_large_mean():
    from keras_nns.observation.moments import HALVES, MomentSums

    rows = RNG.normal(size=(5000, 3)) + 1e5
    sums = MomentSums(2, 1)
    for start in range(0, 5000, 500):
        some = rows[start : start + 500]
        sums.update(some[:, :2], some[:, 2:], np.zeros(500, np.int32), np.ones(500))
    covariance = np.cov(rows.T, bias=True)
    np.testing.assert_allclose(sums.of(*HALVES).covariance, covariance, rtol=1e-8, atol=1e-8)


def test_moments_multiplied_in_float32_are_off_by_no_more_than_is_said():
    from keras_nns.observation.moments import MomentSums

    mixing = RNG.normal(size=(40, 40))
    rows = (RNG.normal(size=(60_000, 40)) @ mixing + 30 * RNG.normal(size=40)).astype(np.float32)
    sums = MomentSums(40, 0, parts=2, multiplied="float32")
    for part in (0, 1):
        some = rows[part::2]
        sums.update(some, None, np.full(len(some), part, np.int32), np.ones(len(some)))
    wanted = np.cov(rows.astype(np.float64).T, bias=True)
    scale = np.sqrt(np.outer(np.diag(wanted), np.diag(wanted)))
    assert (np.abs(sums.of(0, 1).covariance - wanted) / scale).max() < 1e-6
    np.testing.assert_allclose(sums.of(0, 1).mean[0], rows.mean(axis=0, dtype=float), rtol=1e-5)


@pytest.mark.slow
@pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)
def test_a_repaired_model_survives_its_file(tmp_path):
    model = mlp()
    fixed = nns.repair(nns.cut(model, plan_of(model)), model, inputs_of(model, 80)).model
    nns.save_model(fixed, tmp_path / "fixed.keras")
    again = nns.load_model(tmp_path / "fixed.keras")
    assert nns.lineage(again) == nns.lineage(fixed)
    x = inputs_of(model, 5)
    np.testing.assert_array_equal(again(x), fixed(x))
    # And it can be repaired once more.
    nns.repair(again, model, inputs_of(model, 80))


@pytest.mark.slow
def test_the_report_is_a_table_and_plain_data():
    model = mlp()
    repair = nns.repair(nns.cut(model, plan_of(model)), model, inputs_of(model, 80))
    text = str(repair)
    assert "least_squares()" in text
    assert f"measured on {repair.held_out} others" in text
    data = repair.to_json()
    assert [g["step"] for g in data["gains"]] == [g.step for g in repair.gains]


@pytest.mark.slow
def test_what_cannot_be_refitted_is_said():
    model = randomise(
        chain(
            (8, 8, 2),
            L.Conv2D(6, 3, activation="relu", name="one"),
            L.Conv2DTranspose(4, 3, name="up"),
            L.GlobalAveragePooling2D(),
            L.Dense(3, name="answer"),
        )
    )
    repair = nns.repair(nns.cut(model, plan_of(model)), model, inputs_of(model, 60))
    assert "least_squares() left 'up' as it is: Conv2DTranspose" in str(repair)
    assert gain(repair, "unexplained", "answer").after is not None


# Wrong use -----------------------------------------------------------------------------------


def test_a_model_that_was_not_cut_is_refused():
    model = mlp()
    with pytest.raises(nns.errors.PlanError, match="does not say which model it was cut from"):
        nns.repair(keras.models.clone_model(model), model, inputs_of(model, 60))


def test_another_parent_is_refused():
    model = mlp()
    small = nns.cut(model, plan_of(model))
    with pytest.raises(nns.errors.PlanError, match="was not cut from"):
        nns.repair(small, one_dimensional(), inputs_of(model, 60))
    trained = randomise(mlp(), seed=3)
    with pytest.raises(nns.errors.PlanError, match="weights of"):
        nns.repair(small, trained, inputs_of(model, 60))


def test_data_that_can_be_read_once_is_refused():
    model = mlp()
    small = nns.cut(model, plan_of(model))
    batches = iter([(inputs_of(model, 60), np.zeros(60, int))])
    with pytest.raises(nns.errors.DataError, match="several times"):
        nns.repair(small, model, batches)


def test_too_few_samples_are_refused_with_what_it_takes():
    model = mlp()
    small = nns.cut(model, plan_of(model))
    with pytest.raises(nns.errors.DataError, match="10 samples of every answer"):
        nns.repair(small, model, inputs_of(model, 3))
    wide = randomise(chain((30,), L.Dense(200, name="wide"), L.Dense(3, name="answer")))
    cut = nns.cut(wide, plan_of(wide))
    with pytest.raises(nns.errors.DataError, match="at least 127 samples") as error:
        nns.repair(cut, wide, inputs_of(wide, 60), steps=nns.steps.least_squares(ridge=0))
    assert "101 unknowns" in str(error.value)


@pytest.mark.parametrize("ridge", [-1.0, float("nan"), float("inf")])
def test_a_ridge_that_is_no_penalty_is_refused(ridge):
    with pytest.raises(nns.errors.SurgeryError, match="`ridge` must be"):
        nns.steps.least_squares(ridge=ridge)


def test_steps_that_are_none_are_refused():
    model = mlp()
    small = nns.cut(model, plan_of(model))
    with pytest.raises(nns.errors.SurgeryError, match="`steps` are made by"):
        nns.repair(small, model, inputs_of(model, 60), steps=["least_squares"])
    with pytest.raises(nns.errors.DataError, match="needs labels"):
        nns.repair(small, model, inputs_of(model, 60), steps=nns.steps.calibrate_head())
    with pytest.raises(nns.errors.DataError, match="share of the samples"):
        nns.repair(small, model, inputs_of(model, 60), held_out=1.0)


def test_a_stateful_layer_is_refused():
    start = keras.Input((4, 3), batch_size=5)
    x = L.LSTM(6, stateful=True, name="state")(start)
    model = keras.Model(start, L.Dense(3)(x))
    small = nns.cut(model, plan_of(model))
    with pytest.raises(nns.errors.ModelError, match="is stateful"):
        nns.repair(small, model, inputs_of(model, 60))


@pytest.mark.slow
@pytest.mark.parametrize("form", [list, dict])
def test_models_of_several_inputs(form):
    one, two = keras.Input((4,), name="one"), keras.Input((3,), name="two")
    x = L.Concatenate()([L.Dense(6, activation="relu")(one), L.Dense(5, activation="relu")(two)])
    answer = L.Dense(3, activation="softmax", name="answer")(L.Dense(6, activation="elu")(x))
    starts = {"one": one, "two": two} if form is dict else [one, two]
    model = randomise(keras.Model(starts, answer))
    small = nns.cut(model, plan_of(model))
    inputs = inputs_of(model, 400)
    y = RNG.integers(0, 3, 400)
    alone = nns.repair(small, model, inputs)
    with_labels = nns.repair(small, model, (inputs, y), steps=nns.steps.least_squares())
    for a, b in zip(alone.model.get_weights(), with_labels.model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    found = gain(alone, "unexplained", "answer")
    assert found.after < found.before


@pytest.mark.slow
def test_layers_called_twice_and_nested_models():
    start = keras.Input((4, 5))
    shared = L.Dense(5, activation="relu", name="shared")
    inside = keras.Sequential([keras.Input((4, 5)), L.Dense(6, activation="tanh", name="deep")])
    x = L.Dense(5, activation="relu", name="first")(start)
    x = inside(shared(shared(x)))
    x = L.GlobalAveragePooling1D()(x)
    model = randomise(keras.Model(start, L.Dense(3, name="answer")(x)))
    small = nns.cut(model, plan_of(model))
    repair = nns.repair(small, model, inputs_of(model, 200))
    paths = [g.layer for g in repair.gains if g.layer]
    assert paths == ["shared", f"{inside.name}/deep", "answer"]
    assert (
        gain(repair, "distance", step="least").after < gain(repair, "distance", step="least").before
    )
