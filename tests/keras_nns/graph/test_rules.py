"""Every rule against the contract: laws 1, 2, 3 and 6 for every layer type and setting.

Then what other rooms promise of every layer type, here since it shares the models of the rows:
clean-ups, history and bundles.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import keras
import numpy as np
import pytest
from contract import inputs_of, randomise
from contract_plans import plan_of, random_plan
from contract_table import ROWS, Row
from keras import tree
from seeding import seed_all

from keras_nns.bundles.storing import restore, store
from keras_nns.errors import PlanError, SurgeryError
from keras_nns.graph.keras_internals import structure
from keras_nns.graph.rules import rules
from keras_nns.graph.tracing import trace
from keras_nns.graph.watching import watch_points
from keras_nns.plans.kept_units import Plan
from keras_nns.repairing.writing_back import write_back
from keras_nns.surgery.cleaning.simplification import simplify
from keras_nns.surgery.cutting import cut, mask, prove
from keras_nns.surgery.proving import TOLERANCE, difference, has_lower_precision

# TensorFlow's tensors under numpy 2, when Keras writes or quantises weights.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)

names = [row.name for row in ROWS]
# While working, one row in twenty stands for the table.
SOME = 20


@dataclass
class Case:
    """The model of a row, and what was made of it, each once for all of the row's tests."""

    row: Row
    model: Any

    def __post_init__(self):
        self.graph = trace(self.model)
        self.inputs = inputs_of(self.model)

    @cached_property
    def half(self):
        """Half of every group, at random."""
        return random_plan(self.graph, 0.5, 5)

    @cached_property
    def small(self):
        before = snapshot(self.model)
        small = cut(self.model, self.half)
        self.around_cut = before, snapshot(self.model)
        return small

    @cached_property
    def large(self):
        before = snapshot(self.model)
        large = mask(self.model, self.half)
        self.around_mask = before, snapshot(self.model)
        return large

    @cached_property
    def least(self):
        """One unit of every layer."""
        return plan_of(self.graph, lambda group: {0, *(need[0] for need in group.needs)})


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(row, id=row.name, marks=[] if i % SOME == 0 else pytest.mark.slow)
        for i, row in enumerate(ROWS)
    ],
)
def case(request) -> Case:
    """Scoped so that the tests of one row follow one another and share what they make."""
    seed_all(0)
    return Case(request.param, randomise(request.param.build()))


def snapshot(model):
    """Everything of a model that surgery must leave alone."""
    nodes = []
    for layer in model._flatten_layers():
        nodes.append((layer.name, len(layer._inbound_nodes), len(layer._outbound_nodes)))
    weights = [variable.numpy().copy() for variable in model.variables]
    return nodes, weights, repr(model.get_config()), model.compiled


def predictions(model, inputs):
    return [np.asarray(x, np.float64) for x in tree.flatten(model(inputs, training=False))]


def test_names_of_rows_are_unique():
    assert len(set(names)) == len(names)


def test_every_rule_has_a_row():
    covered = {kind for row in ROWS for kind in row.covers}
    names = [f"{kind.__module__}.{kind.__name__}" for kind in rules().keys() - covered]
    # Layers of KerasHub are cut in whole backbones, by test_keras_hub.py.
    # Other tests may have taught layers of their own by now.
    missing = sorted(n for n in names if "keras_hub" not in n and not n.startswith("tests."))
    assert not missing


def test_covered_layers_are_in_the_model(case):
    present = {type(layer) for layer in case.model._flatten_layers()}
    present |= {type(traced.call.operation) for traced in case.graph.calls.values()}
    present |= {type(case.model), keras.Model}
    assert set(case.row.covers) <= present


def test_groups_are_as_expected(case):
    row, layout = case.row, case.graph.layout
    found = {
        group.name: (group.size, len(group.protected))
        for group in layout.groups
        if group.name in row.expected or group.prunable
    }
    expected = {
        name: value if isinstance(value, tuple) else (value, 0)
        for name, value in row.expected.items()
    }
    assert found == expected
    for name, members in row.members.items():
        assert {member.layer for member in layout[name].members} == set(members)
    for group in layout.groups:
        assert bool(group.protected) == bool(group.reasons)
    if row.reason:
        reasons = [reason for name in expected for reason in layout[name].reasons]
        assert any(row.reason in reason for reason in reasons), reasons


@pytest.mark.parametrize("kept", ["least", "half", "most"])
def test_cut_equals_mask(case, kept):
    plan = random_plan(case.graph, 0.9, 2) if kept == "most" else getattr(case, kept)
    if kept == "half" and not has_lower_precision(case.graph):
        # The two that the other tests look at; `prove` builds its own.
        proof = difference(case.small, case.large, case.inputs)
    else:
        proof = prove(case.model, plan, samples=case.inputs)
    assert proof.exact, (plan.kept, str(proof))
    assert proof.tolerance == TOLERANCE


def test_removed_units_take_their_parameters_along(case):
    plan, groups = case.half, case.graph.layout.prunable
    removed = sum(len(set(range(g.size)) - {*plan.kept[g.name]} - g.protected) for g in groups)
    assert removed > 0
    assert case.model.count_params() - case.small.count_params() >= removed


def test_identity_plan_gives_an_equal_model(case):
    model = case.model
    same = cut(model, plan_of(case.graph, lambda group: range(group.size)))
    one, other = predictions(same, case.inputs), predictions(model, case.inputs)
    for ours, theirs in zip(one, other, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert same.count_params() == model.count_params()
    assert same.name == model.name
    for old, new in zip(model.layers, same.layers, strict=True):
        assert type(old) is type(new)
        assert old is not new
        if old.variables:
            assert old.name == new.name
        assert old.trainable == new.trainable
        # An input's policy is that of the moment it was made; nothing is computed in it.
        if not isinstance(old, keras.layers.InputLayer):
            assert _settings(old) == _settings(new)


def _settings(layer):
    """A layer's configuration, without names that Keras numbers by itself."""
    if isinstance(layer, keras.Model):
        return [_settings(inner) for inner in layer.layers]
    config = layer.get_config() if hasattr(layer, "get_config") else {}
    return {key: repr(value) for key, value in config.items() if key not in ("name", "function")}


def test_nothing_of_the_users_changes(case):
    """Looked at around each: layers of Keras that draw count on when they are only called."""
    assert case.small is not case.model
    assert case.large is not case.model
    for before, after in (case.around_cut, case.around_mask):
        assert before[0] == after[0]
        assert before[2:] == after[2:]
        for one, other in zip(before[1], after[1], strict=True):
            np.testing.assert_array_equal(one, other)


def test_kind_names_and_policies_are_kept(case):
    model, small = case.model, case.small
    assert type(small) is type(model)
    assert isinstance(small, keras.Sequential) == isinstance(model, keras.Sequential)
    assert tree.map_structure(lambda x: 0, structure(small)) == tree.map_structure(
        lambda x: 0, structure(model)
    )
    assert [layer.name for layer in small.layers if layer.variables] == [
        layer.name for layer in model.layers if layer.variables
    ]
    for old, new in zip(model.layers, small.layers, strict=True):
        assert old.trainable == new.trainable
        assert isinstance(old, keras.layers.InputLayer) or (
            old.dtype_policy.name == new.dtype_policy.name
        )


def test_cut_model_saves_and_loads(case, tmp_path):
    expected = predictions(case.small, case.inputs)
    case.small.save(tmp_path / "small.keras")
    again = keras.saving.load_model(
        tmp_path / "small.keras", safe_mode="lambda" not in case.row.name
    )
    for one, other in zip(predictions(again, case.inputs), expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-6)


def test_every_family_is_watched_where_it_can_be_seen(case):
    graph = case.graph
    watched = watch_points(graph)
    for name, points in watched.items():
        family = graph.families[name]
        for point in points:
            there = graph.calls[point.key].outputs[point.output].units
            units = there[point.axis] if point.reading is None else point.reading.units
            assert len(units) == len(family.units)
    hidden_inside = ("heads", "key", "value", "dimensions", "cell_0")
    for name in graph.families:
        if name.rpartition(":")[2] not in hidden_inside:
            assert name in watched, name


def some_units(graph, share, seed, label):
    """Keep about a share of every group's units, one at least; which need each other is no care."""
    random = np.random.default_rng(seed)
    groups = graph.layout.prunable
    kept = {
        g.name: tuple(random.permutation(g.size)[: max(1, round(share * g.size))]) for g in groups
    }
    return Plan(graph.fingerprint, {g.name: g.size for g in groups}, kept, labels=(label,))


def same_weights(one, other):
    pairs = list(zip(one.weights, other.weights, strict=True))
    assert pairs
    for a, b in pairs:
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(np.asarray(a.numpy()), np.asarray(b.numpy()), err_msg=a.path)


@pytest.mark.slow
def test_what_a_bundle_holds_comes_back_bit_for_bit(case, tmp_path):
    model = case.model
    if not case.graph.layout.prunable:
        pytest.skip("nothing of this model can be cut")
    one, other = some_units(case.graph, 0.5, 1, 0), some_units(case.graph, 0.4, 2, 1)
    path = tmp_path / "row.safetensors"
    try:
        bundle = store(model, {"one": one, "other": other}, path)
    except SurgeryError as refused:
        # Refused aloud: what lies outside the weights, or a function without a registered name.
        assert "vocabulary" in str(refused) or "written down" in str(refused)
        assert not path.exists()
        return
    # Two together: their rows are gathered from both, and then restored as those of one.
    try:
        expected = cut(model, one | other)
    except SurgeryError as refused:
        with pytest.raises(SurgeryError, match=re.escape(str(refused))):
            restore(bundle, ["other", "one"])
    else:
        same_weights(restore(bundle, ["other", "one"]), expected)


@pytest.mark.slow
def test_a_cut_goes_back(case):
    full = write_back(case.small, case.model, rest="parent")
    for one, other in zip(full.weights, case.model.weights, strict=True):
        # Weights that a cut rescales are scaled back: one rounding.
        np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_what_is_constant_leaves(case):
    """The last of a row: it alters the row's model."""
    thin_out(case.model)
    assert simplify(case.model, fold_batch_norm=True).proof.exact


def thin_out(model):
    """Make some units of every Dense and convolution constant, some of them zero."""
    random = np.random.default_rng(0)
    kinds = ("Dense", "Conv1D", "Conv2D", "Conv3D")
    for layer in model._flatten_layers():
        if type(layer).__name__ not in kinds or layer.quantization_mode or layer.bias is None:
            continue
        kernel, bias = layer._kernel.numpy(), layer.bias.numpy()
        units = np.flatnonzero(random.random(len(bias)) < 0.4)
        kernel[..., units] = 0
        bias[units] = random.choice([-1.0, 0.0, 0.5], len(units))
        layer._kernel.assign(kernel)
        layer.bias.assign(bias)


def test_a_plan_that_empties_a_group_is_refused():
    model = randomise(ROWS[0].build())
    with pytest.raises(PlanError, match="would empty"):
        cut(model, plan_of(trace(model), lambda group: []))
