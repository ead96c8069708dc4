"""Schedules, cutting in steps, and cutting while a model is trained."""

from __future__ import annotations

import math
from functools import partial
from itertools import pairwise

import keras
import numpy as np
import pytest
from keras import layers as L

import keras_nns as nns
from keras_nns.plans.schedules import shares_of

SCHEDULES = [nns.schedules.agp, nns.schedules.linear, nns.schedules.cosine]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_schedule_rises_from_nothing_to_all(schedule):
    done = [schedule(p) for p in np.linspace(0, 1, 30)]
    assert done[0] == 0 and done[-1] == pytest.approx(1)
    assert all(a < b for a, b in pairwise(done))
    shares = shares_of(schedule, 5, 0.2)
    assert len(shares) == 5 and shares[-1] == 0.2
    assert all(a > b for a, b in pairwise(shares))


def test_schedules_by_hand():
    # Zhu and Gupta's eq. 1 for a final sparsity of 0.8, three steps.
    expected = [1 - 0.8 * (1 - (1 - t / 3) ** 3) for t in (1, 2, 3)]
    np.testing.assert_allclose(shares_of(nns.schedules.agp, 3, 0.2), expected)
    np.testing.assert_allclose(shares_of(nns.schedules.linear, 4, 0.2), [0.8, 0.6, 0.4, 0.2])
    np.testing.assert_allclose(shares_of(nns.schedules.cosine, 2, 0.5), [0.75, 0.5])


def test_what_is_no_schedule_is_refused():
    for wrong in (lambda p: 1 - p, lambda p: 0.5 * p, lambda p: 2 * p):
        with pytest.raises(nns.errors.SelectionError, match="never falls"):
            shares_of(wrong, 3, 0.5)
    for share in (0, 1.2, -1):
        with pytest.raises(nns.errors.SelectionError, match="share="):
            shares_of(nns.schedules.agp, 3, share)
    with pytest.raises(nns.errors.SelectionError, match="steps=0"):
        shares_of(nns.schedules.agp, 0, 0.5)


# In steps ---------------------------------------------------------------------------------------


def data(samples=120):
    random = np.random.default_rng(0)
    return random.normal(size=(samples, 6, 6, 2)).astype("float32"), random.integers(0, 3, samples)


def network(dropout=False):
    """Convolutions with batch norms and a residual sum, then a Dense layer."""
    keras.utils.set_random_seed(2)
    inputs = keras.Input((6, 6, 2))
    stem = L.Conv2D(8, 3, padding="same", use_bias=False, name="stem")(inputs)
    stem = L.ReLU()(L.BatchNormalization()(stem))
    branch = L.Conv2D(8, 3, padding="same", name="branch")(stem)
    x = L.ReLU()(L.Add()([stem, L.BatchNormalization()(branch)]))
    x = L.Dense(10, activation="relu", name="wide")(L.GlobalAveragePooling2D()(x))
    x = L.Dropout(0.5)(x) if dropout else x
    model = keras.Model(inputs, L.Dense(3, activation="softmax", name="answer")(x))
    for variable in model.variables:
        if "moving" in variable.path or "gamma" in variable.path or "beta" in variable.path:
            variable.assign(np.random.default_rng(3).uniform(0.5, 1.5, variable.shape))
    return model


def sizes(plan):
    return {name: len(units) for name, units in plan.kept.items()}


@pytest.mark.slow
def test_in_steps_ends_where_it_should_and_tells_of_the_parent():
    model, (x, y) = network(), data()
    before = model.get_weights()
    stages = list(nns.in_steps(model, (x, y), labels=1, share=0.3, steps=3))
    shares = shares_of(nns.schedules.agp, 3, 0.3)
    for stage, share in zip(stages, shares, strict=True):
        for name, count in sizes(stage.plan).items():
            assert count == math.ceil(round(share * stage.plan.sizes[name], 9))
        assert stage.plan.fingerprint == nns.fingerprint(model)
        assert nns.lineage(stage.model).plan == stage.plan
        # Nothing was repaired: it is the parent's own cut.
        expected = nns.cut(model, stage.plan)(x).numpy()
        np.testing.assert_allclose(stage.model(x).numpy(), expected, rtol=1e-4, atol=1e-6)
    for one, other in pairwise(stages):
        for name, units in other.plan.kept.items():
            assert set(units) <= set(one.plan.kept[name])
    assert str(stages[0]).startswith("step 1 of 3: ")
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_one_step_is_select_and_cut():
    model, (x, y) = network(), data()
    (stage,) = nns.in_steps(model, (x, y), labels=[0, 2], share=0.5, steps=1, head="labels")
    plan = nns.select(
        nns.observe(model, (x, y)), [0, 2], score=nns.scores.contrast, keep=nns.fraction(0.5)
    )
    assert stage.plan == plan
    expected = nns.cut(model, plan, head="labels")(x).numpy()
    np.testing.assert_allclose(stage.model(x).numpy(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_each_step_scores_what_is_left_after_the_repair():
    model, (x, y) = network(), data()
    scored, repaired = [], []

    def score_of(small):
        scored.append(small)
        return nns.scores.taylor(nns.observe_gradients(small, (x, y)), signed=True)

    def repair(small):
        repaired.append(small)
        return nns.repair(small, model, (x, y), steps=[nns.steps.least_squares()]).model

    rule = partial(nns.fraction, scope="global", normalise="mean")
    stages = list(
        nns.in_steps(
            model, (x, y), share=0.4, steps=3, score_of=score_of, keep=rule, repair=repair,
            min_units=2, multiple_of=2, head="binary", labels=1,
        )
    )  # fmt: skip
    assert scored[0] is model
    assert scored[1] is stages[0].model and scored[1] is not repaired[0]
    assert stages[-1].model.output_shape == (None, 1)
    assert all(count % 2 == 0 for count in sizes(stages[-1].plan).values())
    assert nns.lineage(stages[-1].model).plan == stages[-1].plan
    # What is left is what the plan says, and can be repaired against the parent once more.
    nns.repair(stages[-1].model, model, (x, y))


@pytest.mark.slow
def test_in_steps_refuses_what_makes_no_sense():
    model, (x, y) = network(), data(20)
    with pytest.raises(nns.errors.SelectionError, match="once for each label"):
        nns.in_steps(model, (x, y), labels="each", share=0.5)
    with pytest.raises(nns.errors.DataError, match="read once"):
        nns.in_steps(model, iter([(x, y)]), share=0.5)
    with pytest.raises(nns.errors.ModelError, match="must return the repaired model"):
        list(nns.in_steps(model, (x, y), share=0.5, repair=lambda small: None))


# While it is trained ----------------------------------------------------------------------------


def train(model, x, y, epochs, callbacks=(), **options):
    model.compile(keras.optimizers.SGD(0.05), "sparse_categorical_crossentropy")
    return model.fit(
        x, y, epochs=epochs, batch_size=32, shuffle=False, verbose=0, callbacks=list(callbacks),
        **options,
    )  # fmt: skip


@pytest.mark.slow
def test_training_under_the_mask_is_training_the_cut_model():
    """All at once at the start: the same gradients, batch statistics and weights as when cut."""
    x, y = data()
    model = network()
    removal = nns.GradualCut((x, y), share=0.4, begin=0, end=0)
    plan = nns.select(nns.observe(model, (x, y)), score=nns.scores.contrast, keep=nns.fraction(0.4))
    small = nns.cut(model, plan)
    train(model, x, y, 3, [removal])
    train(small, x, y, 3)
    assert removal.plan.kept == plan.kept
    trained = nns.cut(model, removal.plan)
    for one, other in zip(trained.get_weights(), small.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_what_is_left_equals_the_masked_model_that_was_trained_and_validated():
    x, y = data()
    model = network(dropout=True)
    removal = nns.GradualCut((x, y), labels=1, share=0.3, end=2, multiple_of=1)
    history = train(model, x, y, 5, [removal], validation_data=(x[:40], y[:40]))
    assert list(removal.history) == [0, 1, 2]
    shares = shares_of(nns.schedules.agp, 3, 0.3)
    assert [len(plan.kept["wide"]) for plan in removal.history.values()] == [
        math.ceil(round(share * 10, 9)) for share in shares
    ]
    for earlier, later in ((0, 1), (1, 2)):
        for name, units in removal.history[later].kept.items():
            assert set(units) <= set(removal.history[earlier].kept[name])
    assert nns.prove(model, removal.plan, samples=x[:8]).exact
    masked = nns.mask(model, removal.plan)
    masked.compile(loss="sparse_categorical_crossentropy")
    loss = masked.evaluate(x[:40], y[:40], verbose=0)
    assert history.history["val_loss"][-1] == pytest.approx(loss, rel=1e-5)


@pytest.mark.slow
def test_the_model_is_given_back():
    x, y = data()
    model = network()
    train(model, x, y, 1)
    functions = model.train_function, model.test_function
    inside = {layer.name: dict(vars(layer)) for layer in model.layers}
    train_function = []
    spy = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda *_: train_function.append(model.train_function)
    )
    model.fit(x, y, epochs=2, verbose=0, callbacks=[nns.GradualCut((x, y), share=0.5, end=0), spy])
    assert train_function[0] is not functions[0]
    assert (model.train_function, model.test_function) == functions
    assert "train_step" not in vars(model) and "test_step" not in vars(model)
    for layer in model.layers:
        assert vars(layer).keys() == inside[layer.name].keys()
    assert not any("call" in vars(layer) for layer in model.layers)

    # Also where a step fails.
    failing = nns.GradualCut((x, y), share=0.5, end=0)
    wrong = np.where(np.arange(len(y)) < 60, y, 99)
    with pytest.raises(Exception, match=r"99|valid range|label"):
        model.fit(x, wrong, epochs=1, shuffle=False, verbose=0, callbacks=[failing])
    assert (model.train_function, model.test_function) == functions


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Units of which nothing is known stay:UserWarning")
def test_recurrent_states_and_heads_are_silent_inside():
    """Units that act inside a layer are silent there, in training as in the cut."""
    random = np.random.default_rng(1)
    x, y = random.normal(size=(60, 5, 4)).astype("float32"), random.integers(0, 3, 60)
    keras.utils.set_random_seed(4)
    inputs = keras.Input((5, 4))
    heads = L.MultiHeadAttention(4, 3, name="attention")(inputs, inputs)
    states = L.GRU(6, return_sequences=True, name="gru")(heads)
    last = L.LSTM(5, name="lstm")(states)
    model = keras.Model(inputs, L.Dense(3, activation="softmax")(last))
    plan = nns.select(nns.observe(model, (x, y)), score=nns.scores.contrast, keep=nns.fraction(0.5))
    small = nns.cut(model, plan)
    removal = nns.GradualCut((x, y), share=0.5, begin=0, end=0)
    train(model, x, y, 2, [removal])
    train(small, x, y, 2)
    assert removal.plan.kept == plan.kept
    trained = nns.cut(model, removal.plan)
    np.testing.assert_allclose(trained(x).numpy(), small(x).numpy(), rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_layers_that_are_called_twice_and_nested_ones():
    random = np.random.default_rng(1)
    left, right = (random.normal(size=(60, 4)).astype("float32") for _ in "ab")
    y = random.integers(0, 3, 60)
    keras.utils.set_random_seed(4)
    inner_inputs = keras.Input((6,))
    inner = keras.Model(
        inner_inputs, L.Dense(5, activation="relu", name="inside")(inner_inputs), name="inner"
    )
    shared, relu = L.Dense(6, name="both"), L.ReLU()
    a, b = keras.Input((4,)), keras.Input((4,))
    x = L.Add()([relu(shared(a)), relu(shared(b))])
    model = keras.Model([a, b], L.Dense(3, activation="softmax")(relu(inner(x))))
    plan = nns.select(
        nns.observe(model, [left, right], y), score=nns.scores.contrast, keep=nns.fraction(0.5)
    )
    small = nns.cut(model, plan)
    removal = nns.GradualCut([left, right], y, share=0.5, begin=0, end=0)
    train(model, [left, right], y, 2, [removal])
    train(small, [left, right], y, 2)
    trained = nns.cut(model, removal.plan)
    for one, other in zip(trained.get_weights(), small.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_gradients_are_those_of_what_is_left():
    x, y = data()
    model = network()
    seen = []

    def score_of(watched):
        gradients = nns.observe_gradients(watched, (x, y))
        seen.append(gradients.layers["wide"].magnitude)
        return nns.scores.taylor(gradients)

    removal = nns.GradualCut((x, y), share=0.3, end=1, score_of=score_of)
    train(model, x, y, 3, [removal])
    gone = sorted(set(range(10)) - set(removal.history[0].kept["wide"]))
    assert seen[0][:, gone].any()
    assert not seen[1][:, gone].any()


@pytest.mark.slow
def test_gradual_cut_refuses_what_makes_no_sense():
    x, y = data(40)
    for options in ({"begin": -1}, {"every": 0}, {"begin": 3, "end": 2}):
        with pytest.raises(nns.errors.SelectionError, match="epochs from 0"):
            nns.GradualCut((x, y), share=0.5, **options)
    with pytest.raises(nns.errors.SelectionError, match="share=2"):
        nns.GradualCut((x, y), share=2)
    with pytest.raises(nns.errors.SelectionError, match="one subnetwork"):
        nns.GradualCut((x, y), share=0.5, labels="each")
    with pytest.raises(nns.errors.SelectionError, match="there are 2 epochs"):
        train(network(), x, y, 2, [nns.GradualCut((x, y), share=0.5, end=2)])
    with pytest.raises(nns.errors.DataError, match="only once"):
        train(network(), x, y, 2, [nns.GradualCut(iter([(x, y)]), share=0.5)])
