"""Scores: one contract for all of them, and each by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers as L

import keras_nns as nns
from keras_nns.selection.activations import name_of


@dataclass(frozen=True)
class Row:
    """A score and what its contract is.

    Attributes:
        make: From the case, its gradients and how to join, to the score.
        by_label: Whether labels have scores of their own, NaN where they have no samples.
        signed: Whether scores can be negative.
        sums: Whether it is of activity alone, so that activity of two halves adds up to it.
        joins: Whether it takes how layers of one group are brought together.
    """

    make: Callable[..., Any]
    by_label: bool = True
    signed: bool = False
    sums: bool = False
    joins: bool = True


def activity_alone(score, **options):
    return Row(
        lambda case, gradients, join: partial(score, join=join, **options),
        signed="signed" in options,
        sums=True,
    )


def of_weights(factory, **options):
    return Row(
        lambda case, gradients, join: factory(case.model, join=join, **options), by_label=False
    )


def of_gradients(factory, **options):
    return Row(
        lambda case, gradients, join: factory(gradients, join=join, **options),
        signed="signed" in options,
    )


def contribution(**options):
    return Row(
        lambda case, gradients, join: nns.scores.contribution(case.model, case.x, case.y, join=join,
                                                       **options),
        signed="signed" in options,
    )  # fmt: skip


SCORES = {
    "mean_activation": activity_alone(nns.scores.mean_activation),
    "firing_frequency": activity_alone(nns.scores.firing_frequency),
    "active_share": activity_alone(nns.scores.active_share),
    "contrast": activity_alone(nns.scores.contrast),
    "signed contrast": activity_alone(nns.scores.contrast, signed=True),
    "d_prime": activity_alone(nns.scores.d_prime),
    "signed d_prime": activity_alone(nns.scores.d_prime, signed=True),
    "taylor": of_gradients(nns.scores.taylor),
    "signed taylor": of_gradients(nns.scores.taylor, signed=True),
    "fisher": of_gradients(nns.scores.fisher),
    "contribution": contribution(),
    "signed contribution": contribution(signed=True),
    "magnitude": of_weights(nns.scores.magnitude),
    "L1 magnitude": of_weights(nns.scores.magnitude, norm=1),
    "geometric_median": of_weights(nns.scores.geometric_median),
    "lamp": of_weights(nns.scores.lamp),
    "wanda": Row(lambda case, gradients, join: nns.scores.wanda(case.model, join=join)),
    "forward_selection": Row(
        lambda case, gradients, join: nns.scores.forward_selection(case.model, case.x, case.y),
        joins=False,
    ),
    "reconstruction": Row(
        lambda case, gradients, join: nns.scores.reconstruction(
            case.model, case.x, case.y, labels=[0, 1, 2]
        ),
        by_label=False,
        joins=False,
    ),
    "random_units": Row(
        lambda case, gradients, join: nns.scores.random_units(3), by_label=False, joins=False
    ),
}
STATISTICS = ("fired", "mean", "variance", "active", "mean_square")


@pytest.fixture(scope="module")
def once():
    return {}


@pytest.fixture
def watched(case, once):
    """Watch every case once for all scores: activity, its two halves, and gradients."""
    if id(case) not in once:
        names = [str(i) for i in range(4)]
        halves = [
            nns.observe(case.model, some(case.x, part), case.y[part], label_names=names,
                        statistics=STATISTICS)
            for part in (slice(None, 9), slice(9, None))
        ]  # fmt: skip
        whole = nns.observe(case.model, case.x, case.y, statistics=STATISTICS)
        once[id(case)] = whole, halves, nns.observe_gradients(case.model, case.x, case.y)
    return once[id(case)]


def some(x, part):
    return keras.tree.map_structure(lambda array: array[part], x)


def reference(score, observed):
    return {name: values.copy() for name, values in score(observed).items()}


@pytest.mark.slow
@pytest.mark.parametrize("name", SCORES)
def test_contract(case, watched, name):
    """Every score: an array for every prunable group, finite for every label that was seen."""
    several = any(len(group.members) > 1 for group in watched[0].layout.prunable)
    for join in ("max", "mean", "sum") if several and SCORES[name].joins else ("max",):
        check_contract(case, watched, name, join)


def check_contract(case, watched, name, join):
    observed, halves, gradients = watched
    row = SCORES[name]
    score = row.make(case, gradients, join)
    before = {layer: found.arrays() for layer, found in observed.layers.items()}
    before = {k: {n: a.copy() for n, a in arrays.items()} for k, arrays in before.items()}
    scores = reference(score, observed)
    assert list(scores) == [g.name for g in observed.layout.prunable]
    seen = observed.samples > 0
    for group, values in scores.items():
        assert values.shape == (4, observed.layout[group].size)
        assert values.dtype == np.float64
        assert np.isfinite(values[seen]).all()
        assert np.isnan(values[~seen]).all() if row.by_label else np.isfinite(values).all()
        assert row.signed or (values[seen] >= 0).all()
        alike = np.broadcast_to(values[:1], values.shape)
        if not row.by_label and name != "random_units":
            np.testing.assert_array_equal(values, alike)
    # The same again, from activity that was left alone.
    for group, values in score(observed).items():
        np.testing.assert_array_equal(values, scores[group])
    for layer, arrays in before.items():
        for field, array in arrays.items():
            np.testing.assert_array_equal(observed.layers[layer].arrays()[field], array)
    if row.sums:
        for group, values in score(halves[0] + halves[1]).items():
            np.testing.assert_allclose(values, scores[group], rtol=2e-4, atol=1e-5)
    plan = nns.select(observed, [0, 1, 2], score=score)
    assert {choice.score for choice in plan.choices} == {name_of(score)}


@pytest.mark.slow
@pytest.mark.parametrize("name", SCORES)
def test_layers_that_were_not_watched_are_not_scored(cases, name):
    """Groups without a watched layer are left out; units that only others make are -inf."""
    plain = cases("dense")
    some_layers = nns.observe(plain.model, plain.x, plain.y, layers=["tanh"], statistics=STATISTICS)
    gradients = nns.observe_gradients(plain.model, plain.x, plain.y)
    score = SCORES[name].make(plain, gradients, "max")
    assert list(score(some_layers)) == ["tanh"]
    kept = nns.select(some_layers, 0, score=score, keep=nns.top(1)).kept
    assert {name: len(units) for name, units in kept.items()} == {"relu": 5, "tanh": 1, "linear": 3}


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n, row in SCORES.items() if row.sums])
def test_numbering_labels_otherwise_moves_their_rows(plain, name):
    order = np.array([2, 0, 1, 3])
    observed = nns.observe(plain.model, plain.x, plain.y, statistics=STATISTICS)
    moved = nns.observe(plain.model, plain.x, order[plain.y], statistics=STATISTICS)
    score = SCORES[name].make(plain, None, "max")
    for group, values in score(observed).items():
        np.testing.assert_allclose(score(moved)[group][order], values, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, row in SCORES.items() if row.joins])
def test_joins_that_do_not_exist_are_refused(plain, name):
    observed = nns.observe(plain.model, plain.x, plain.y, statistics=STATISTICS)
    gradients = nns.observe_gradients(plain.model, plain.x, plain.y)
    with pytest.raises(nns.errors.SelectionError, match="join='median'"):
        SCORES[name].make(plain, gradients, "median")(observed)


@pytest.mark.slow
def test_activity_scores_by_hand(plain):
    observed = nns.observe(plain.model, plain.x, plain.y)
    for layer, (signed, absolute) in plain.values().items():
        for label in range(3):
            own = plain.y == label
            close = {"rtol": 1e-5, "atol": 1e-6}
            np.testing.assert_allclose(
                nns.scores.mean_activation(observed)[layer][label],
                absolute[own].mean(axis=0),
                **close,
            )
            np.testing.assert_allclose(
                nns.scores.firing_frequency(observed)[layer][label],
                (absolute[own] > 0).mean(axis=0),
                **close,
            )
            gap = signed[own].mean(axis=0) - signed[~own].mean(axis=0)
            np.testing.assert_allclose(
                nns.scores.contrast(observed, signed=True)[layer][label], gap, **close
            )
            np.testing.assert_allclose(
                nns.scores.contrast(observed)[layer][label], np.abs(gap), **close
            )


@pytest.mark.slow
@pytest.mark.parametrize("norm", [1, 2, 3])
def test_magnitude_by_hand(cases, norm):
    """A unit's weights are those that compute it: its column of the kernel, without the bias."""
    for name, layers in [("dense", ["relu", "tanh", "linear"]), ("Conv2D", ["conv"])]:
        case = cases(name)
        observed = nns.observe(case.model, case.x, case.y)
        scores = nns.scores.magnitude(case.model, norm=norm)(observed)
        for layer in layers:
            kernel = case.model.get_layer(layer).get_weights()[0].astype(np.float64)
            columns = kernel.reshape(-1, kernel.shape[-1])
            expected = np.linalg.norm(columns, ord=norm, axis=0)
            for label in range(4):
                np.testing.assert_allclose(scores[layer][label], expected, rtol=1e-6)


@pytest.mark.slow
def test_wanda_by_hand(cases):
    """The absolute weights of what reads a unit, times the root of its mean square."""
    case = cases("dense")
    observed = nns.observe(case.model, case.x, case.y, statistics=["mean_square"])
    scores = nns.scores.wanda(case.model)(observed)
    kernel = case.model.get_layer("tanh").get_weights()[0].astype(np.float64)
    units, _ = case.values()["relu"]
    for label in range(3):
        size = np.sqrt((units[case.y == label] ** 2).mean(axis=0))
        expected = size * np.abs(kernel).sum(axis=1)
        np.testing.assert_allclose(scores["relu"][label], expected, rtol=1e-5)


@pytest.mark.slow
def test_active_share_is_what_apoz_leaves(cases):
    """Every pixel counts, where firing_frequency asks for one."""
    case = cases("late activation")
    observed = nns.observe(case.model, case.x, case.y, statistics=["fired", "active"])
    reader = keras.Model(case.model.inputs, case.seen["conv"])
    pixels = np.asarray(reader.predict(case.x, verbose=0)).reshape(len(case.y), -1, 3)
    for label in range(3):
        apoz = (pixels[case.y == label] == 0).mean(axis=(0, 1))
        got = nns.scores.active_share(observed)["conv"][label]
        np.testing.assert_allclose(got, 1 - apoz, rtol=1e-5)
        assert (got <= nns.scores.firing_frequency(observed)["conv"][label] + 1e-6).all()


@pytest.mark.slow
def test_d_prime_by_hand(plain):
    observed = nns.observe(plain.model, plain.x, plain.y, statistics=["mean", "variance"])
    for layer, (signed, _) in plain.values().items():
        for label in range(3):
            own, rest = signed[plain.y == label], signed[plain.y != label]
            spread = np.sqrt((own.var(axis=0) + rest.var(axis=0)) / 2)
            expected = (own.mean(axis=0) - rest.mean(axis=0)) / spread
            close = {"rtol": 1e-4, "atol": 1e-5}
            got = nns.scores.d_prime(observed, signed=True)[layer][label]
            np.testing.assert_allclose(got, expected, **close)
            np.testing.assert_allclose(
                nns.scores.d_prime(observed)[layer][label], abs(expected), **close
            )


def test_d_prime_of_a_unit_that_does_not_vary_is_finite():
    model = keras.Sequential([keras.Input((2,)), L.Dense(2, name="hidden"), L.Dense(2)])
    model.layers[0].set_weights([np.array([[3.0, 0.0], [0.0, 0.0]]), np.array([1000.0, 5.0])])
    x = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    activity = nns.observe(model, x, [0, 0, 1, 1], statistics=["mean", "variance"])
    np.testing.assert_allclose(nns.scores.d_prime(activity)["hidden"], [[1e6, 0], [1e6, 0]])


def test_weight_scores_by_hand(cases):
    case = cases("Conv2D")
    observed = nns.observe(case.model, case.x, case.y)
    kernel = case.model.get_layer("conv").get_weights()[0].astype(np.float64)
    columns = kernel.reshape(-1, kernel.shape[-1]).T
    far = [sum(np.linalg.norm(a - b) for b in columns) for a in columns]
    np.testing.assert_allclose(nns.scores.geometric_median(case.model)(observed)["conv"][1], far)
    sizes = (columns**2).sum(axis=1)
    shares = [size / sizes[sizes >= size].sum() for size in sizes]
    found = nns.scores.lamp(case.model)(observed)["conv"][0]
    np.testing.assert_allclose(found, shares)
    assert found.max() == 1


@pytest.mark.slow
def test_a_recurrent_unit_is_computed_by_the_weights_of_all_its_gates(cases):
    case = cases("recurrent")
    observed = nns.observe(case.model, case.x, case.y)
    layer = case.model.get_layer("lstm")
    kernel = layer.cell.kernel.numpy().astype(np.float64)
    recurrent = layer.cell.recurrent_kernel.numpy().astype(np.float64)
    for unit in range(3):
        own = np.concatenate([kernel[:, unit::3].ravel(), recurrent[:, unit::3].ravel()])
        got = nns.scores.magnitude(case.model)(observed)["lstm"][0, unit]
        assert got == pytest.approx(np.linalg.norm(own), rel=1e-6)


def test_batch_norm_scale_is_that_of_the_norms_behind_a_unit(cases):
    case = cases("late activation")
    observed = nns.observe(case.model, case.x, case.y)
    norm = next(n for n in case.model.layers if isinstance(n, L.BatchNormalization))
    found = nns.scores.batch_norm_scale(case.model)(observed)
    assert list(found) == ["conv"]
    for row in found["conv"]:
        np.testing.assert_allclose(row, np.abs(norm.gamma.numpy()))
    plan = nns.select(observed, 0, score=nns.scores.batch_norm_scale(case.model), keep=nns.top(1))
    assert plan.kept["conv"] == (int(np.abs(norm.gamma.numpy()).argmax()),)
    plain = cases("dense")
    with pytest.raises(nns.errors.SelectionError, match="no batch norm"):
        nns.scores.batch_norm_scale(plain.model)


@pytest.mark.slow
def test_batch_norms_on_one_group_are_joined():
    inputs = keras.Input((4,))
    a = L.BatchNormalization(name="a_norm")(L.Dense(3, name="a")(inputs))
    b = L.BatchNormalization(name="b_norm")(L.Dense(3, name="b")(inputs))
    plain = L.Dense(2, name="no_norm")(L.ReLU()(L.Add()([a, b])))
    model = keras.Model(inputs, L.Dense(2, name="answer")(plain))
    model.get_layer("a_norm").gamma.assign([1.0, -2.0, 3.0])
    model.get_layer("b_norm").gamma.assign([4.0, 1.0, 0.5])
    observed = nns.observe(model, np.ones((4, 4)), [0, 1, 0, 1])
    for join, expected in (("max", [4, 2, 3]), ("sum", [5, 3, 3.5]), ("mean", [2.5, 1.5, 1.75])):
        found = nns.scores.batch_norm_scale(model, join=join)(observed)
        ((name, scores),) = found.items()
        assert {m.layer for m in observed.layout[name].members} == {"a", "b"}
        np.testing.assert_allclose(scores, [expected] * 2)


def test_random_scores_are_the_seeds(plain):
    observed = nns.observe(plain.model, plain.x, plain.y)
    one, again, other = (nns.scores.random_units(seed)(observed) for seed in (1, 1, 2))
    for group in one:
        np.testing.assert_array_equal(one[group], again[group])
        assert (one[group] != other[group]).all()
        assert (one[group] > 0).all() and (one[group] <= 1).all()


def test_layers_that_share_units_are_joined_relative_to_their_own_highest(cases):
    case = cases("residual")
    observed = nns.observe(case.model, case.x, case.y)
    (group,) = [g for g in observed.layout.prunable if len(g.members) > 1]
    parts = []
    for member in group.members:
        assert member.units == tuple(range(4))
        part = observed.magnitude(member.layer)
        parts.append(part / part.max(axis=1, keepdims=True))
    for join, how in (("max", np.max), ("mean", np.mean), ("sum", np.sum)):
        found = nns.scores.mean_activation(observed, join=join)[group.name]
        np.testing.assert_allclose(found, how(parts, axis=0), rtol=1e-12)
    with pytest.raises(nns.errors.SelectionError, match="join='median'"):
        nns.scores.mean_activation(observed, join="median")


def test_a_layer_that_is_silent_does_not_divide_by_zero():
    inputs = keras.Input((3,))
    a = L.Dense(2, activation="relu", name="a", kernel_initializer="zeros")(inputs)
    b = L.Dense(2, activation="relu", name="b")(inputs)
    model = keras.Model(inputs, L.Dense(2, name="answer")(L.Add()([a, b])))
    observed = nns.observe(model, np.ones((4, 3)), [0, 1, 0, 1])
    assert np.isfinite(nns.scores.mean_activation(observed)["a"]).all()


def test_contrast_needs_two_labels(plain):
    one = plain.y == 1
    observed = nns.observe(plain.model, plain.x[one], plain.y[one])
    with pytest.raises(nns.errors.SelectionError, match="at least two"):
        nns.scores.contrast(observed)


@pytest.mark.slow
def test_what_was_not_watched_is_not_scored(plain):
    fired = nns.observe(plain.model, plain.x, plain.y, statistics=["fired"])
    for score in (nns.scores.mean_activation, nns.scores.contrast):
        with pytest.raises(nns.errors.SelectionError, match="mean was not watched"):
            score(fired)
    spread = nns.observe(plain.model, plain.x, plain.y, statistics=["variance"])
    for score in (nns.scores.mean_activation, nns.scores.contrast):
        with pytest.raises(nns.errors.SelectionError, match="mean was not watched"):
            score(spread)
    mean = nns.observe(plain.model, plain.x, plain.y, statistics=["mean"])
    with pytest.raises(nns.errors.SelectionError, match="fired was not watched"):
        nns.scores.firing_frequency(mean)


def test_magnitude_is_of_the_model_that_was_observed(plain, cases):
    observed = nns.observe(plain.model, plain.x, plain.y)
    with pytest.raises(nns.errors.SelectionError, match="another model"):
        nns.scores.magnitude(cases("Conv2D").model)(observed)
    with pytest.raises(nns.errors.SelectionError, match="another model"):
        nns.scores.batch_norm_scale(cases("late activation").model)(observed)
    for norm in (0, -1, float("nan"), float("inf")):
        with pytest.raises(nns.errors.SelectionError, match="norm="):
            nns.scores.magnitude(plain.model, norm=norm)


@pytest.mark.slow
def test_names_say_what_was_asked_for(plain):
    assert name_of(nns.scores.mean_activation) == "mean_activation"
    assert name_of(partial(nns.scores.contrast, join="sum")) == "contrast(join='sum')"
    assert name_of(nns.scores.magnitude(plain.model, norm=1)) == "magnitude(norm=1)"
    assert name_of(nns.scores.random_units(4)) == "random_units(4)"
    gradients = nns.observe_gradients(plain.model, plain.x, plain.y)
    assert name_of(nns.scores.taylor(gradients, signed=True)) == "taylor(signed=True)"

    class Mine:
        def __call__(self, activity):
            return {}

    assert name_of(Mine()) == "Mine"
