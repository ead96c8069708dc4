"""History: plans replay bit for bit, and subnetworks go back to where they were cut from."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from contract import chain, inputs_of, randomise
from hypothesis import assume, given, settings
from keras import layers as L
from keras import ops
from random_graphs import build, recipes, seeds, unhurried

import keras_nns as nns
from keras_nns.graph.tracing import trace

# TensorFlow's tensors under numpy 2, when Keras reads and writes weights.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)


def plan_for(model, seed, labels=(0,), share=0.5):
    """Keep a random share of every group, and of every layer at least one unit."""
    graph = trace(model)
    random = np.random.default_rng(seed)
    kept = {}
    for group in graph.layout.prunable:
        units = set(np.flatnonzero(random.random(group.size) < share).tolist()) | group.protected
        for need in group.needs:
            if units.isdisjoint(need):
                units.add(int(random.choice(need)))
        kept[group.name] = tuple(units)
    sizes = {group.name: group.size for group in graph.layout.prunable}
    return nns.Plan(graph.fingerprint, sizes, kept, labels)


def mlp():
    model = chain(
        (4,),
        L.Dense(6, activation="relu", name="one"),
        L.Dense(5, activation="sigmoid", name="two"),
        L.Dense(3, activation="softmax", name="answer"),
    )
    return randomise(model)


def residual():
    inputs = keras.Input((6, 6, 2))
    x = L.Conv2D(5, 3, padding="same", name="stem")(inputs)
    y = L.ReLU()(L.BatchNormalization(name="bn")(x))
    y = L.Conv2D(5, 3, padding="same", use_bias=False, name="branch")(y)
    x = L.RMSNormalization(epsilon=0.1, name="rms")(L.Add()([x, y]))
    x = L.Bidirectional(L.LSTM(3), name="lstm")(L.Reshape((36, 5))(x))
    return randomise(keras.Model(inputs, L.Dense(3, name="answer")(x)))


@pytest.fixture(params=[mlp, residual])
def model(request):
    return request.param()


def assert_same_weights(one, other):
    for a, b in zip(one.weights, other.weights, strict=True):
        assert a.path == b.path
        np.testing.assert_array_equal(a.numpy(), b.numpy())


def shift(model, by):
    """Stand for a fine-tuning: change every trainable weight."""
    for weight in model.trainable_weights:
        weight.assign_add(np.full(weight.shape, by, "float32"))


@pytest.mark.slow
def test_a_plan_replays_on_the_file_of_its_parent_bit_for_bit(model, tmp_path):
    x = inputs_of(model, 40)
    plan = nns.select(
        nns.observe(model, x, np.arange(40) % 3),
        [0, 2],
        keep=nns.fraction(0.4),
        score="mean_activation",
    )
    first = nns.cut(model, plan)
    nns.save_model(model, tmp_path / "parent.keras")
    plan.save(tmp_path / "plan.json")
    again = nns.Plan.load(tmp_path / "plan.json")
    assert [choice.scores for choice in again.choices] == [c.scores for c in plan.choices]
    second = nns.cut(nns.load_model(tmp_path / "parent.keras"), again)
    assert_same_weights(first, second)
    assert nns.fingerprint(first) == nns.fingerprint(second)
    np.testing.assert_array_equal(first(x), second(x))


def test_recorded_scores_and_thresholds_say_again_what_was_kept(tmp_path):
    model = mlp()
    x = inputs_of(model, 40)
    plan = nns.select(nns.observe(model, x, np.arange(40) % 3), 1, keep=nns.above(0.6))
    plan.save(tmp_path / "plan.json")
    (choice,) = nns.Plan.load(tmp_path / "plan.json").choices
    thresholds = dict(choice.thresholds)
    for group, scores in choice.scores:
        kept = np.flatnonzero(np.array(scores) >= thresholds[group])
        assert tuple(kept.tolist()) == plan.kept[group]


def test_written_back_by_hand():
    model = mlp()
    plan = nns.Plan(nns.fingerprint(model), {"one": 6, "two": 5}, {"one": (0, 4), "two": (1, 2, 3)})
    small = nns.cut(model, plan)
    shift(small, 0.5)
    full = nns.write_back(small, model)
    kernel, bias = (w.numpy() for w in full.get_layer("two").weights)
    expected = np.zeros((6, 5), "float32")
    for i in (0, 4):
        for j in (1, 2, 3):
            expected[i, j] = model.get_layer("two").kernel.numpy()[i, j] + np.float32(0.5)
    np.testing.assert_array_equal(kernel, expected)
    old = model.get_layer("two").bias.numpy()
    np.testing.assert_array_equal(bias, [0, *(old[1:4] + np.float32(0.5)), 0])
    rest = nns.write_back(small, model, rest="parent").get_layer("two").kernel.numpy()
    expected[expected == 0] = model.get_layer("two").kernel.numpy()[expected == 0]
    np.testing.assert_array_equal(rest, expected)


@pytest.mark.slow
def test_written_back_after_training_it_answers_what_the_subnetwork_answers(model, tmp_path):
    x = inputs_of(model, 8)
    small = nns.cut(model, plan_for(model, 1))
    before = [w.numpy() for w in model.weights]
    small.compile(keras.optimizers.SGD(0.1), "mse")
    small.fit(x, np.zeros((8, 3)), verbose=0)
    nns.save_model(small, tmp_path / "small.keras")
    small = nns.load_model(tmp_path / "small.keras")
    full = nns.write_back(small, model, prove=True)
    np.testing.assert_allclose(full(x), small(x), rtol=1e-4, atol=1e-5)
    assert trace(full).structure == trace(model).structure
    for old, weight in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(old, weight.numpy())


@pytest.mark.slow
def test_what_was_not_trained_goes_back_to_the_parent_itself(model):
    small = nns.cut(model, plan_for(model, 2))
    full = nns.write_back(small, model, rest="parent")
    for a, b in zip(full.weights, model.weights, strict=True):
        # RMSNormalization is rescaled by a cut and back: one rounding.
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=0 if a.path[:3] != "rms" else 1e-6)


def test_settings_of_the_parent_are_carried():
    model = mlp()
    model.get_layer("one").trainable = False
    model.compile("sgd", "mse", metrics=["mae"])
    full = nns.write_back(nns.cut(model, plan_for(model, 0)), model)
    assert not full.get_layer("one").trainable and full.get_layer("two").trainable
    assert full.get_compile_config() == model.get_compile_config()
    assert nns.lineage(full) is None


@pytest.mark.slow
def test_merging_untrained_subnetworks_is_cutting_to_the_union(model):
    one, two = plan_for(model, 1, (0,), 0.3), plan_for(model, 2, (1,), 0.3)
    merged = nns.merge([nns.cut(model, one), nns.cut(model, two)], model)
    union = nns.cut(model, one | two)
    for a, b in zip(merged.weights, union.weights, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=0 if a.path[:3] != "rms" else 1e-6)
    assert nns.lineage(merged) == nns.lineage(union)


@pytest.mark.slow
def test_subnetworks_trained_apart_need_a_rule():
    model = mlp()
    plans = [
        nns.Plan(nns.fingerprint(model), {"one": 6, "two": 5}, {"one": one, "two": two})
        for one, two in (((0, 1), (0, 1)), ((1, 2), (1, 2)))
    ]
    first, second = (nns.cut(model, plan) for plan in plans)
    shift(second, 1.0)
    with pytest.raises(nns.errors.SelectionError, match=r"one/kernel.*shared='mean'"):
        nns.merge([first, second], model)
    old = model.get_layer("two").kernel.numpy()
    for shared, both in (("mean", 0.5), ("first", 0.0)):
        full = nns.write_back([first, second], model, shared=shared)
        expected = np.zeros((6, 5))
        expected[:2, :2] = old[:2, :2]
        expected[1:3, 1:3] = old[1:3, 1:3] + 1
        expected[1, 1] = old[1, 1] + both
        np.testing.assert_allclose(full.get_layer("two").kernel, expected, rtol=1e-6, atol=1e-7)
        merged = nns.merge([first, second], model, shared=shared, rest="zero")
        assert merged.get_layer("two").kernel.shape == (3, 3)
        np.testing.assert_allclose(merged.get_layer("two").kernel, expected[:3, :3], rtol=1e-6)


def test_heads_go_back_to_the_labels_they_answer():
    model = mlp()
    plan = plan_for(model, 3, labels=(0, 2))
    small = nns.cut(model, plan, head="labels")
    shift(small, 1.0)
    answer = nns.write_back(small, model).get_layer("answer")
    np.testing.assert_array_equal(answer.bias.numpy()[1], 0)
    np.testing.assert_allclose(answer.bias.numpy()[[0, 2]], small.layers[-1].bias)
    binary = nns.cut(model, plan, head="binary")
    full = nns.write_back(binary, model)
    np.testing.assert_allclose(
        np.asarray(full(inputs_of(model)))[:, [0, 2]].sum(axis=1),
        binary(inputs_of(model))[:, 0],
        rtol=1e-5,
    )


def test_operations_without_weights_are_found_by_the_proof():
    inputs = keras.Input((4,))
    x = L.Dense(6, activation="sigmoid", name="one")(inputs)
    model = randomise(keras.Model(inputs, L.Dense(2)(ops.sum(x, axis=-1, keepdims=True))))
    small = nns.cut(model, plan_for(model, 0))
    with pytest.raises(nns.errors.ProofError, match="without weights"):
        nns.write_back(small, model, prove=True)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda m, s: nns.write_back(m, m), nns.errors.PlanError, "does not say which model"),
        (lambda m, s: nns.write_back([], m), nns.errors.SelectionError, "no subnetwork"),
        (lambda m, s: nns.write_back([nns.lineage(s).plan], m), nns.errors.SelectionError, "cut()"),
        (lambda m, s: nns.write_back(s, residual()), nns.errors.PlanError, "was not cut from"),
        (lambda m, s: nns.write_back(s, m, rest="one"), nns.errors.SelectionError, "`rest`"),
        (lambda m, s: nns.write_back(s, m, shared="last"), nns.errors.SelectionError, "`shared`"),
        (
            lambda m, s: nns.write_back([s, s], m, prove=True),
            nns.errors.SelectionError,
            "2 subnetworks",
        ),
    ],
)
def test_wrong_use_of_write_back(change, error, message):
    model = mlp()
    with pytest.raises(error, match=message):
        change(model, nns.cut(model, plan_for(model, 0)))


def test_a_parent_trained_further_is_refused_unless_told():
    model = mlp()
    small = nns.cut(model, plan_for(model, 0))
    shift(model, 1.0)
    with pytest.raises(nns.errors.PlanError, match="weights of"):
        nns.write_back(small, model)
    assert nns.write_back(small, model, retrained=True).count_params() == model.count_params()


def test_a_subnetwork_whose_layers_were_replaced_is_refused():
    model = mlp()
    small = nns.cut(model, plan_for(model, 0))
    record = nns.lineage(small)
    other = keras.Model(small.inputs, L.Dense(3, name="other")(small.get_layer("two").output))
    other._keras_nns_lineage = record
    with pytest.raises(nns.errors.SurgeryError, match=r"no layer 'answer'"):
        nns.write_back(other, model)


def test_overlap_by_hand():
    model = mlp()
    finger, sizes = nns.fingerprint(model), {"one": 6, "two": 5}
    one = nns.Plan(finger, sizes, {"one": (0, 1, 2), "two": (0,)}, (0,), ("a", "b", "c"))
    two = nns.Plan(finger, sizes, {"one": (1, 2, 3, 4), "two": (0, 4)}, (1, 2), ("a", "b", "c"))
    found = nns.overlap([nns.cut(model, one), two])
    assert found.names == ("a", "b+c")
    np.testing.assert_array_equal(found.shared, [[4, 3], [3, 6]])
    np.testing.assert_allclose(found.jaccard, [[1, 3 / 7], [3 / 7, 1]])
    np.testing.assert_array_equal(found.groups["two"], [[1, 1], [1, 2]])
    assert "3 (0.429)" in str(found)
    assert nns.overlap({"x": one, "y": two}).names == ("x", "y")
    with pytest.raises(nns.errors.PlanError, match="does not say where"):
        nns.overlap([one, model])
    shift(model, 1.0)
    with pytest.raises(nns.errors.PlanError, match="different parents"):
        nns.overlap([one, plan_for(model, 0)])


@pytest.mark.slow
@settings(max_examples=8, derandomize=True, **unhurried)
@given(recipe=recipes, seed=seeds)
def test_random_graphs_go_back_where_they_came_from(recipe, seed):
    model = build(recipe)
    assume(trace(model).layout.prunable)
    plans = [plan_for(model, seed + i) for i in range(2)]
    small = [nns.cut(model, plan) for plan in plans]
    full = nns.write_back(small, model, rest="parent")
    for a, b in zip(full.weights, model.weights, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-6, atol=1e-7)
    again = nns.cut(nns.write_back(small[0], model), plans[0], retrained=True)
    for a, b in zip(again.weights, small[0].weights, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-6, atol=1e-7)
