"""What cannot be cut exactly is refused or protected, with the layer, the reason and what to do."""

from __future__ import annotations

import re
from pathlib import Path

import coverage_page
import keras
import numpy as np
import pytest
from contract import flat, image, randomise, steps
from keras import layers, ops

import keras_nns as nns
from keras_nns.errors import ModelError, PlanError, ProofError, SurgeryError
from keras_nns.graph.rules import register, register_elementwise
from keras_nns.graph.rules.registry import _RULES
from keras_nns.graph.tracing import trace
from keras_nns.plans.kept_units import Plan
from keras_nns.surgery.cutting import cut, prove

L = layers
DOCS = Path(__file__).resolve().parent.parent.parent.parent / "docs"


@pytest.fixture
def forgetting():
    """Forget rules that a test registers."""
    before = dict(_RULES)
    yield
    _RULES.clear()
    _RULES.update(before)


def keep(model, **kept):
    graph = trace(model)
    sizes = {group.name: group.size for group in graph.layout.prunable}
    return Plan(
        graph.fingerprint, sizes=sizes, kept={n: kept.get(n, tuple(range(sizes[n]))) for n in sizes}
    )


def reasons(model, name):
    group = trace(model).layout[name]
    assert not group.prunable
    return " ".join(group.reasons)


class Doubled(L.Layer):
    def call(self, inputs):
        return inputs * 2


class Shouting(L.Dense):
    def call(self, inputs, training=None):
        return super().call(inputs) + ops.sum(inputs)


def test_a_layer_without_a_rule_protects_and_says_what_to_do():
    text = reasons(flat(Doubled(name="mine"), L.Dense(4, name="after")), "before")
    assert "Doubled 'mine' has no rule" in text
    assert "rules.register" in text


def test_a_subclass_does_not_inherit_the_rule():
    model = flat(Shouting(5, name="mine"), L.Dense(4, name="after"))
    assert "Shouting 'mine'" in reasons(model, "before")
    assert "mine" not in [group.name for group in trace(model).layout.groups]


def test_an_operation_without_a_rule_protects():
    model = flat(lambda x: ops.fft((x, x))[0], L.Dense(4, name="after"))
    assert "FFT" in reasons(model, "before")


def test_an_unknown_activation_protects_until_it_is_declared():
    def cube(x):
        return x**3

    model = flat(L.Dense(5, activation=cube, name="cubed"))
    assert "register_elementwise" in reasons(model, "cubed")
    register_elementwise(cube)
    assert trace(model).layout["cubed"].prunable


def test_a_model_with_a_call_of_its_own_is_refused():
    class Mine(keras.Model):
        def call(self, inputs):
            return inputs

    with pytest.raises(ModelError, match="subclass with its own `call`"):
        trace(Mine())


def test_sizes_that_are_not_known_protect():
    model = keras.Sequential(
        [
            keras.Input((None, None, 2)), L.Conv2D(6, 3, name="before"), L.Permute((3, 1, 2)),
            L.Reshape((-1,)), L.Reshape((-1, 4)), L.Dense(4, activation="relu", name="after"),
            L.Dense(3, name="answer"),
        ]
    )  # fmt: skip
    assert "size that is not known" in reasons(model, "before")


def test_a_plan_that_leaves_a_layer_of_a_group_empty_is_refused():
    start = keras.Input((4,))
    one, two = L.Dense(2, name="one")(start), L.Dense(3, name="two")(start)
    x = L.Add()([L.Concatenate()([one, two]), L.Dense(5, name="sum")(start)])
    model = randomise(keras.Model(start, L.Dense(3, name="answer")(x)))
    (group,) = trace(model).layout.prunable
    only_two = next(m.units for m in group.members if m.layer == "two")
    with pytest.raises(PlanError, match="none of those that 'one' makes"):
        cut(model, keep(model, **{group.name: only_two}))


def test_a_plan_that_contradicts_a_group_says_what_joins_its_layers():
    start = keras.Input((4,))
    left, right = L.Dense(5, name="left")(start), L.Dense(5, name="right")(start)
    x = L.Add(name="sum")([left, right])
    model = randomise(keras.Model(start, L.Dense(3, name="answer")(x)))
    plan = Plan(
        trace(model).fingerprint, {"left": 5, "right": 5}, {"left": (0, 1), "right": (3, 4)}
    )
    with pytest.raises(PlanError) as caught:
        cut(model, plan)
    for part in ("'right' stay", "with those of 'left'", "Add 'sum' joins them", "group 'left'"):
        assert part in str(caught.value)


def test_a_plan_that_removes_what_is_protected_says_why_it_is():
    model = randomise(flat(L.Softmax(name="gate"), L.Dense(4, activation="relu", name="after")))
    sizes = {"before": 6, "after": 4}
    plan = Plan(trace(model).fingerprint, sizes, {"before": (0,), "after": (0, 1)})
    with pytest.raises(PlanError, match=r"units of 'before'.*'gate' normalises over them"):
        cut(model, plan)


def test_a_plan_with_other_groups_lists_those_that_differ():
    model = randomise(flat(L.Dense(4, activation="relu", name="after")))
    plan = Plan(trace(model).fingerprint, {"before": 7}, {"before": (0,)})
    with pytest.raises(PlanError, match=r"'before' 7, 6, 'after' None, 4.*inspect\(model\)"):
        cut(model, plan)


@pytest.mark.slow
def test_random_numbers_in_inference_are_named_by_the_proof():
    class Noise(L.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.seed_generator = None

        def call(self, inputs):
            return inputs + keras.random.normal(ops.shape(inputs))

    model = randomise(
        keras.Sequential(
            [keras.Input((4,)), L.Dense(5, name="hidden"), L.Dense(3), Noise(name="noise")]
        )
    )
    with pytest.raises(ProofError, match=r"differently each time: 'noise' draws random numbers"):
        cut(model, keep(model, hidden=(0, 1)), prove=True)


def split_in_two():
    start = keras.Input((4, 4, 2))
    one, two = ops.split(L.Conv2D(6, 1, name="both", activation="relu")(start), [4], axis=-1)
    two = L.Conv2D(3, 1, name="two")(two)
    x = L.GlobalMaxPooling2D()(L.Concatenate()([one, two]))
    return randomise(keras.Model(start, L.Dense(3, activation="softmax", name="answer")(x)))


@pytest.mark.slow
def test_a_plan_that_leaves_nothing_to_a_layer_behind_a_split_is_refused():
    model = split_in_two()
    assert trace(model).layout["both"].parts == ((4, 5),)
    with pytest.raises(PlanError, match=r"none of the units that Conv2D 'two' reads"):
        cut(model, keep(model, both=(0, 1)))
    with pytest.raises(PlanError, match=r"layer 'two' \(Conv2D\).*Keep at least one"):
        cut(model, keep(model, both=(0, 1)), allow_empty=True)
    assert prove(model, keep(model, both=(0, 5))).exact


@pytest.mark.slow
def test_a_selection_leaves_something_to_every_layer_behind_a_split(tmp_path):
    model = split_in_two()
    kernel = model.get_layer("both").kernel.numpy()
    kernel[..., 4:] *= 0.01
    model.get_layer("both").kernel.assign(kernel)
    x = np.random.default_rng(0).normal(size=(8, 4, 4, 2)).astype("float32")
    activity = nns.observe(model, (x, np.arange(8) % 3))
    activity.save(tmp_path / "activity.npz")
    for given in (activity, nns.Activity.load(tmp_path / "activity.npz")):
        plan = nns.select(given, 0, keep=nns.top(1), score="mean_activation")
        assert len(plan.kept["both"]) == 2 and {4, 5} & set(plan.kept["both"])
        cut(model, plan, prove=True)


def test_a_rule_that_forgets_a_weight_names_it(forgetting):
    class Offset(L.Layer):
        def build(self, shape):
            self.offset = self.add_weight(shape=(shape[-1],), name="offset")

        def call(self, inputs):
            return inputs + self.offset

    @register(Offset)
    def careless(site):
        site.emit(site.input.units)

    model = flat(Offset(name="mine"))
    with pytest.raises(SurgeryError, match="'offset' of layer 'mine'"):
        cut(model, keep(model, before=(0, 1)))


def test_a_rule_that_is_wrong_is_found_by_the_proof(forgetting):
    class Averaged(L.Layer):
        def call(self, inputs):
            return inputs - ops.mean(inputs, axis=-1, keepdims=True)

    @register(Averaged)
    def careless(site):
        site.emit(site.input.units)

    model = randomise(flat(Averaged(name="mine")))
    plan = keep(model, before=(0, 1))
    assert not prove(model, plan).exact
    with pytest.raises(SurgeryError, match="NOT equal"):
        cut(model, plan, prove=True)


def test_a_rule_that_binds_too_many_units_names_the_weight(forgetting):
    class Offset(L.Layer):
        def build(self, shape):
            self.offset = self.add_weight(shape=(1,), name="offset")

        def call(self, inputs):
            return inputs + self.offset

    @register(Offset)
    def careless(site):
        site.bind(site.operation.offset, {0: site.input.on(-1)})
        site.emit(site.input.units)

    with pytest.raises(SurgeryError, match=r"binds 6 units to axis 0 of weight 'offset'"):
        trace(flat(Offset(name="mine")))


def test_key_and_value_heads_leave_with_their_query_heads():
    start = keras.Input((5, 3))
    y = L.GroupQueryAttention(4, 6, 3, name="attention")(start, start)
    model = randomise(keras.Model(start, L.Dense(3, name="answer")(y)))
    small = cut(model, keep(model, **{"attention:heads": (0, 2)}))
    config = small.get_layer("attention").get_config()
    assert (config["num_query_heads"], config["num_key_value_heads"]) == (4, 2)


def test_groups_of_a_convolution_stay_equally_wide():
    model = randomise(image(L.Conv2D(6, 3, groups=2, name="conv")))
    small = cut(model, keep(model, conv=(0, 2)))
    assert small.get_layer("conv").filters == 4
    assert small.get_layer("conv").groups == 2


def test_as_many_filters_as_pixels_are_refused_where_keras_mistakes_the_bias():
    """`keras.ops.add` takes a bias of channels in front for one of the width if they are equal."""
    first = {"data_format": "channels_first"}
    model = keras.Sequential(
        [
            keras.Input((2, 6, 6)), L.Conv2D(7, 2, name="before", **first),
            L.GlobalMaxPooling2D(**first), L.Dense(3),
        ]
    )  # fmt: skip
    randomise(model)
    assert cut(model, keep(model, before=(0, 1, 3, 6)), prove=True).layers[0].filters == 4
    with pytest.raises(SurgeryError, match=r"'before' would keep 5 of its 7 filters.*one more or"):
        cut(model, keep(model, before=(0, 1, 2, 3, 6)))


def test_a_constant_is_not_moved_to_the_axis_of_the_units():
    """`keras.ops.add` takes a constant along steps for one along units if they are as many."""
    along = np.linspace(-1, 1, 5).reshape(1, 5, 1).astype("float32")
    model = randomise(steps(lambda x: x + along))
    for kept in ((0, 2), (0, 1, 2, 4, 5)):
        assert prove(model, keep(model, before=kept)).exact
    # One step, to which Keras may take either for a bias.
    lone = randomise(steps(lambda x: x + along, length=1))
    assert prove(lone, keep(lone, before=(0, 2))).exact
    with pytest.raises(SurgeryError, match=r"\(1, 5, 1\) to a tensor of .*one unit more"):
        cut(lone, keep(lone, before=(0, 1, 2, 4, 5)))
    assert prove(lone, keep(lone, before=(0, 1, 2, 4))).exact


def test_a_layer_that_cannot_be_rebuilt_is_named():
    model = steps(lambda x: ops.clip(x, np.zeros(6), np.ones(6)), L.Dense(4, name="after"))
    with pytest.raises(SurgeryError, match="Clip"):
        cut(model, keep(model, after=(0,)))


@pytest.mark.slow
def test_the_worked_example_of_the_docs_runs(forgetting):
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / "rules.md").read_text(), re.DOTALL)
    assert len(blocks) == 4
    exec(compile("\n".join(blocks), "rules.md", "exec"), {"__name__": "example"})


@pytest.mark.skipif(
    not keras.__version__.startswith("3.15."), reason="the page is of Keras 3.15, which has more"
)
def test_the_coverage_page_is_what_the_table_says():
    assert (DOCS / "coverage.md").read_text() == coverage_page.render(), (
        "run python tests/support/coverage_page.py"
    )


def test_a_cell_with_an_activation_of_the_users_own_names_the_way():
    layer = keras.layers.LSTM(3, activation=lambda x: x / 2, name="lstm")
    model = keras.Sequential([keras.Input((4, 2)), layer, keras.layers.Dense(2)])
    (group,) = (one for one in trace(model).layout.groups if one.name == "lstm")
    reasons = " ".join(group.reasons)
    assert "register_elementwise" in reasons


def test_a_part_of_which_nothing_stays_is_named_by_its_units():
    """Two layers read one half each; the message says of which units to keep one."""

    def halves(x):
        left, right = ops.split(x, 2, axis=-1)
        return ops.concatenate([L.Dense(2, name="a")(left), L.Dense(2, name="b")(right)])

    model = randomise(flat(halves, units=8))
    with pytest.raises(PlanError, match=r"Keep at least one of units \[4, 5, 6, 7\] of 'before'\."):
        cut(model, keep(model, before=(0, 1, 2)))
    assert cut(model, keep(model, before=(0, 1, 2, 5))).get_layer("b").kernel.shape == (1, 2)
