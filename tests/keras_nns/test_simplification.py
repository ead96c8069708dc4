"""Clean-ups that keep the function: constants folded, dead branches and batch norms gone."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import keras
import numpy as np
import pytest
from contract import chain, inputs_of, randomise
from hypothesis import assume, given, settings
from keras import layers as L
from keras import ops
from test_graphs import build, recipes, seeds, unhurried

import keras_nns as nns
from keras_nns.graph import trace

# TensorFlow's tensors under numpy 2, when Keras reads and writes weights.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)


def set_units(layer, units, bias):
    """Make units of a layer constant: no weights, and this bias."""
    kernel, given = layer.kernel.numpy(), layer.bias.numpy()
    kernel[..., units] = 0
    given[units] = bias
    layer.kernel.assign(kernel)
    layer.bias.assign(given)


def assert_same(one, other, x):
    for a, b in zip(keras.tree.flatten(one(x)), keras.tree.flatten(other(x)), strict=True):
        scale = np.abs(b).max()
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * scale)


def names(model):
    return [layer.name for layer in model.layers if not isinstance(layer, L.InputLayer)]


def block(x, width, i, *, activation="relu"):
    """A residual block with batch norms, without biases in its convolutions."""
    y = L.Conv2D(width, 3, padding="same", use_bias=False, name=f"{i}_a")(x)
    y = L.Activation(activation, name=f"{i}_act")(L.BatchNormalization(name=f"{i}_bn_a")(y))
    y = L.Conv2D(x.shape[-1], 3, padding="same", use_bias=False, name=f"{i}_b")(y)
    y = L.BatchNormalization(name=f"{i}_bn_b")(y)
    return L.ReLU(name=f"{i}_out")(L.Add(name=f"{i}_add")([x, y]))


def residual(activation="relu"):
    inputs = keras.Input((6, 6, 2))
    x = L.Conv2D(5, 3, padding="same", activation="relu", name="stem")(inputs)
    for i in (1, 2):
        x = block(x, 4, i, activation=activation)
    x = L.Dense(3, activation="softmax", name="answer")(L.GlobalAveragePooling2D()(x))
    return randomise(keras.Model(inputs, x))


def plan_of(model, **kept):
    """Keep what is named, and everything else."""
    graph = trace(model)
    sizes = {g.name: g.size for g in graph.layout.prunable}
    whole = {name: tuple(range(size)) for name, size in sizes.items()}
    assert set(kept) <= set(sizes), sizes
    return nns.Plan(graph.fingerprint, sizes, whole | kept, (0,))


# Units -----------------------------------------------------------------------------------------


def test_dead_and_constant_units_leave_a_dense_network_by_hand():
    model = randomise(
        keras.Sequential(
            [
                keras.Input((4,)),
                L.Dense(6, activation="relu", name="one"),
                L.Dense(3, name="two"),
            ]
        )
    )
    one, two = model.layers
    set_units(one, [1], -0.5)
    set_units(one, [4], 2.0)
    done = nns.simplify(model)
    assert isinstance(done.model, keras.Sequential)
    stays = [0, 2, 3, 5]
    np.testing.assert_array_equal(done.model.layers[0].kernel, one.kernel.numpy()[:, stays])
    np.testing.assert_array_equal(done.model.layers[1].kernel, two.kernel.numpy()[stays])
    np.testing.assert_allclose(
        done.model.layers[1].bias, two.bias.numpy() + 2 * two.kernel.numpy()[4], rtol=1e-6
    )
    assert done.proof.exact and [(c.layer, c.units) for c in done.changes] == [("one", 2)]
    assert "2 of 6 units are constant" in str(done)


def test_a_unit_that_only_loses_on_inputs_never_negative_never_fires():
    model = randomise(
        chain(
            (4,),
            L.Dense(5, activation="relu", name="one"),
            L.Dense(4, activation="relu", name="two"),
            L.Dense(2),
        )
    )
    two = model.get_layer("two")
    kernel, bias = two.kernel.numpy(), two.bias.numpy()
    kernel[:, 2], bias[2] = -np.abs(kernel[:, 2]), -0.1
    two.set_weights([kernel, bias])
    assert nns.simplify(model).model.get_layer("two").units == 3
    bias[2] = 0.1
    two.set_weights([kernel, bias])
    assert nns.simplify(model).model.get_layer("two").units == 4


def test_constants_go_on_from_layer_to_layer():
    model = randomise(
        chain(
            (4,),
            L.Dense(3, activation="tanh", name="one"),
            L.Dense(4, activation="gelu", name="two"),
            L.Dense(2, name="three"),
        )
    )
    set_units(model.get_layer("one"), [0], 0.7)
    kernel = model.get_layer("two").kernel.numpy()
    kernel[1:, 3] = 0  # reads the constant alone
    model.get_layer("two").kernel.assign(kernel)
    done = nns.simplify(model)
    assert done.model.get_layer("one").units == 2 and done.model.get_layer("two").units == 3
    assert_same(done.model, model, inputs_of(model))


@pytest.mark.parametrize(
    ("padding", "constant", "filters"),
    [("valid", 0.8, 3), ("same", 0.8, 4), ("same", -0.8, 3), ("valid", -0.8, 3)],
)
def test_a_padded_convolution_takes_no_constant_but_zero(padding, constant, filters):
    model = randomise(
        chain(
            (6, 6, 2),
            L.Conv2D(4, 3, activation="relu", name="one"),
            L.Conv2D(3, 3, padding=padding, use_bias=False, name="two"),
            L.GlobalMaxPooling2D(),
            L.Dense(2),
        )
    )
    set_units(model.get_layer("one"), [1], constant)
    done = nns.simplify(model)
    assert done.model.get_layer("one").filters == filters
    assert done.model.get_layer("two").use_bias == (padding == "valid" and constant > 0)
    assert_same(done.model, model, inputs_of(model))


def test_a_padded_convolution_of_one_pixel_sees_no_border():
    model = randomise(
        chain(
            (6, 6, 2),
            L.Conv2D(4, 3, activation="relu", name="one"),
            L.Conv2D(3, 1, padding="same", name="two"),
            L.GlobalMaxPooling2D(),
            L.Dense(2),
        )
    )
    set_units(model.get_layer("one"), [1], 0.8)
    done = nns.simplify(model)
    assert done.model.get_layer("one").filters == 3
    assert_same(done.model, model, inputs_of(model))


@pytest.mark.parametrize(
    "layer",
    [
        lambda: L.LSTM(3, name="cell"),
        lambda: L.GRU(3, name="cell"),
        lambda: L.GRU(3, reset_after=False, name="cell"),
        lambda: L.SimpleRNN(3, name="cell"),
    ],
)
def test_recurrent_layers_take_constants_into_their_bias(layer):
    model = randomise(chain((5, 2), L.Dense(4, activation="tanh", name="one"), layer(), L.Dense(2)))
    set_units(model.get_layer("one"), [0, 3], 0.6)
    done = nns.simplify(model)
    assert done.model.get_layer("one").units == 2
    assert_same(done.model, model, inputs_of(model))


def test_a_recurrent_layer_without_bias_keeps_its_constants():
    model = randomise(
        chain(
            (5, 2), L.Dense(4, activation="tanh", name="one"), L.LSTM(3, use_bias=False), L.Dense(2)
        )
    )
    set_units(model.get_layer("one"), [0], 0.6)
    assert nns.simplify(model).model.get_layer("one").units == 4


def test_channels_that_a_batch_norm_silences_leave_through_flatten():
    model = randomise(
        chain(
            (6, 6, 2),
            L.Conv2D(4, 3, name="one"),
            L.BatchNormalization(name="bn"),
            L.ReLU(),
            L.MaxPooling2D(),
            L.Flatten(),
            L.Dense(3, name="two"),
        )
    )
    gamma, beta = model.get_layer("bn").gamma.numpy(), model.get_layer("bn").beta.numpy()
    gamma[[0, 2]] = 0
    beta[[0, 2]] = 0.4, -0.4
    model.get_layer("bn").gamma.assign(gamma)
    model.get_layer("bn").beta.assign(beta)
    done = nns.simplify(model)
    assert done.model.get_layer("one").filters == 2
    assert done.model.get_layer("two").kernel.shape == (8, 3)
    assert_same(done.model, model, inputs_of(model))


def test_a_unit_of_a_recurrent_state_that_is_not_read_outside_stays():
    model = randomise(
        chain((5, 2), L.LSTM(4, name="one"), L.BatchNormalization(name="bn"), L.Dense(2))
    )
    gamma = model.get_layer("bn").gamma.numpy()
    gamma[1] = 0
    model.get_layer("bn").gamma.assign(gamma)
    done = nns.simplify(model)
    assert done.model.get_layer("one").units == 4
    assert_same(done.model, model, inputs_of(model))


def test_a_layer_called_twice_takes_a_constant_only_where_both_calls_have_it():
    inputs = keras.Input((4,))
    shared = L.Dense(3, name="shared")
    one = L.Dense(3, activation="relu", name="one")(inputs)
    two = L.Dense(3, activation="relu", name="two")(inputs)
    model = randomise(keras.Model(inputs, L.Dense(2)(L.Concatenate()([shared(one), shared(two)]))))
    set_units(model.get_layer("one"), [1], 0.5)
    set_units(model.get_layer("two"), [1], 0.5)
    assert nns.simplify(model).model.get_layer("one").units == 2
    set_units(model.get_layer("two"), [1], 0.7)
    done = nns.simplify(model)
    assert done.model.get_layer("one").units == 3
    assert_same(done.model, model, inputs_of(model))


def test_what_is_not_linear_in_a_constant_keeps_it():
    model = randomise(
        chain(
            (4,),
            L.Dense(6, activation="sigmoid", name="one"),
            L.UnitNormalization(),
            L.Dense(2),
        )
    )
    set_units(model.get_layer("one"), [1], 0.5)
    assert nns.simplify(model).model.get_layer("one").units == 6


def test_a_layer_all_of_whose_units_are_constant_keeps_one():
    model = randomise(chain((4,), L.Dense(6, activation="relu", name="one"), L.Dense(2)))
    set_units(model.get_layer("one"), list(range(6)), -1.0)
    done = nns.simplify(model)
    assert done.model.get_layer("one").units == 1
    assert_same(done.model, model, inputs_of(model))


# Branches --------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ["relu", "sigmoid"])
def test_an_emptied_residual_block_is_removed_whole(activation):
    model = residual(activation)
    plan = plan_of(model, **{"1_a": (), "2_a": (0, 2)})
    with pytest.raises(nns.PlanError, match="allow_empty=True"):
        nns.cut(model, plan)
    small = nns.cut(model, plan, allow_empty=True, prove=True)
    assert not {"1_a", "1_bn_a", "1_act", "1_b", "1_bn_b"} & set(names(small))
    assert {"stem", "1_out", "2_a", "2_add", "answer"} <= set(names(small))
    assert nns.prove(model, plan, allow_empty=True).exact
    assert_same(small, nns.mask(model, plan), inputs_of(model))
    assert nns.lineage(small).plan == plan
    # What is left can be cut further, and counts its units among those that are left.
    rest = plan_of(model, **{"2_a": (0, 1), "stem": (0, 1, 4)})
    again = nns.cut(small, rest.relative_to(plan, nns.fingerprint(small)))
    assert_same(again, nns.mask(model, plan & rest), inputs_of(model))


def test_the_constant_of_an_emptied_block_by_hand():
    model = residual()
    small = nns.cut(model, plan_of(model, **{"1_a": ()}), allow_empty=True)
    norm = model.get_layer("1_bn_b")
    gamma, beta, mean, variance = (w.numpy() for w in norm.weights)
    constant = beta - gamma * mean / np.sqrt(variance + norm.epsilon)
    added = small.get_layer("1_add")
    assert type(added) is L.Rescaling and added.scale == 1
    np.testing.assert_allclose(added.offset, constant, rtol=1e-6, atol=1e-7)


def test_a_constant_goes_into_the_bias_before_it_where_there_is_one():
    inputs = keras.Input((4,))
    x = L.Dense(5, name="straight")(inputs)
    y = L.Dense(5, name="out")(L.Dense(3, activation="relu", name="inner")(inputs))
    x = L.Dense(2, name="answer")(L.ReLU()(L.Add(name="add")([x, y])))
    model = randomise(keras.Model(inputs, x))
    small = nns.cut(model, plan_of(model, inner=()), allow_empty=True, prove=True)
    assert not {"inner", "out", "add"} & set(names(small))
    np.testing.assert_allclose(
        small.get_layer("straight").bias,
        model.get_layer("straight").bias.numpy() + model.get_layer("out").bias.numpy(),
        rtol=1e-6,
    )


@pytest.mark.parametrize(
    "join",
    [
        lambda x, y: L.Subtract(name="join")([x, y]),
        lambda x, y: L.Subtract(name="join")([y, x]),
        lambda x, y: L.Multiply(name="join")([x, y]),
        lambda x, y: L.Average(name="join")([x, y, x]),
        lambda x, y: L.Add(name="join")([x, y, x]),
        lambda x, y: x + y,
        lambda x, y: y - x,
        lambda x, y: x * y,
        lambda x, y: L.Multiply(name="join")([x, ops.sigmoid(y)]),
    ],
)
def test_joins_with_a_branch_that_became_constant(join):
    inputs = keras.Input((4,))
    x = L.Dense(5, activation="tanh", name="straight")(inputs)
    y = L.Dense(5, name="out")(L.Dense(3, activation="relu", name="inner")(inputs))
    model = randomise(keras.Model(inputs, L.Dense(2, name="answer")(join(x, y))))
    wide = next(g.name for g in trace(model).layout.prunable if g.size == 5)
    plan = plan_of(model, **{"inner": (), wide: (0, 2, 3)})
    small = nns.cut(model, plan, allow_empty=True, prove=True)
    assert not {"inner", "out"} & set(names(small))
    assert_same(small, nns.mask(model, plan), inputs_of(model))


def test_a_concatenation_does_without_what_is_empty():
    inputs = keras.Input((6, 6, 2))
    parts = [L.Conv2D(3, 3, activation="relu", name=f"part{i}")(inputs) for i in range(3)]
    x = L.GlobalAveragePooling2D()(L.Concatenate(name="join")(parts))
    model = randomise(keras.Model(inputs, L.Dense(2, name="answer")(x)))
    plan = plan_of(model, part0=(), part2=(1,))
    small = nns.cut(model, plan, allow_empty=True, prove=True)
    assert "part0" not in names(small) and small.get_layer("answer").kernel.shape == (4, 2)
    plan = plan_of(model, part0=(), part1=())
    small = nns.cut(model, plan, allow_empty=True, prove=True)
    assert "join" not in names(small)


def test_an_emptied_attention_branch_gives_its_bias():
    inputs = keras.Input((4, 3))
    x = L.Dense(6, activation="tanh", name="stem")(inputs)
    y = L.MultiHeadAttention(2, 3, name="attention")(x, x)
    x = L.GlobalAveragePooling1D()(L.Add(name="add")([x, y]))
    model = randomise(keras.Model(inputs, L.Dense(2, name="answer")(x)))
    plan = plan_of(model, **{"attention:heads": ()})
    small = nns.cut(model, plan, allow_empty=True, prove=True)
    assert "attention" not in names(small)


def test_a_nested_block_is_emptied():
    inside = keras.Input((6,))
    hidden = L.Dense(4, activation="relu", name="hidden")(inside)
    inner = keras.Model(
        inside, L.Add(name="add")([inside, L.Dense(6, name="out")(hidden)]), name="inner"
    )
    inputs = keras.Input((3,))
    x = L.Dense(6, activation="tanh", name="stem")(inputs)
    model = randomise(keras.Model(inputs, L.Dense(2, name="answer")(inner(inner(x)))))
    plan = plan_of(model, **{"inner/hidden": (), "stem": (0, 1, 5)})
    small = nns.cut(model, plan, allow_empty=True, prove=True)
    assert names(small.get_layer("inner")) == ["add"]


def test_a_plan_that_lets_nothing_through_is_refused():
    model = randomise(
        chain((4,), L.Dense(6, activation="relu", name="one"), L.Dense(2, name="two"))
    )
    with pytest.raises(nns.PlanError, match=r"output 'two' would be the same for every input"):
        nns.cut(model, plan_of(model, one=()), allow_empty=True)
    inputs = keras.Input((4,))
    x = L.Dense(5, activation="tanh", name="straight")(inputs)
    y = L.Dense(5, name="out")(L.Dense(3, activation="relu", name="inner")(inputs))
    x = L.Dense(2, name="answer")(L.Maximum(name="most")([x, y]))
    model = randomise(keras.Model(inputs, x))
    with pytest.raises(nns.PlanError, match=r"layer 'out' \(Dense\).*select keeps one"):
        nns.cut(model, plan_of(model, inner=()), allow_empty=True)


def test_cut_and_simplify_in_one_call():
    model = residual()
    set_units(model.get_layer("stem"), [2], -1.0)
    plan = plan_of(model, **{"1_a": (1,), "2_a": ()})
    small = nns.cut(model, plan, simplify=True, allow_empty=True, prove=True)
    twice = nns.simplify(nns.cut(model, plan, allow_empty=True))
    x = inputs_of(model)
    assert_same(small, nns.mask(model, plan), x)
    assert_same(twice.model, small, x)
    assert nns.lineage(small) == nns.lineage(twice.model)


def test_the_record_of_a_subnetwork_follows_what_was_removed():
    model = randomise(
        chain((4,), L.Dense(6, activation="relu", name="one"), L.Dense(3, name="two"))
    )
    set_units(model.get_layer("one"), [3], 0.5)
    small = nns.cut(model, plan_of(model, one=(1, 3, 5)))
    done = nns.simplify(small)
    assert nns.lineage(done.model).plan.kept == {"one": (1, 5)}
    # Trained, it goes back to where it belongs, with the constant in the bias.
    full = nns.write_back(done.model, model)
    assert_same(full, small, inputs_of(model))
    assert nns.cut(model, plan_of(model, one=(1, 3, 5)), simplify=True).layers[-1].kernel.shape == (
        2,
        3,
    )


# Batch norms -----------------------------------------------------------------------------------


def norm(name="bn", **options):
    return L.BatchNormalization(name=name, **options)


FOLDED = {
    "conv": ((6, 6, 2), lambda: [L.Conv2D(4, 3, padding="same", name="l"), norm(), L.ReLU()]),
    "no bias": ((6, 6, 2), lambda: [L.Conv2D(4, 3, use_bias=False, name="l"), norm(), L.ReLU()]),
    "plain norm": ((6, 6, 2), lambda: [L.Conv2D(4, 3), norm(scale=False, center=False), L.ReLU()]),
    "grouped": ((6, 6, 4), lambda: [L.Conv2D(4, 3, groups=2), norm(), L.ReLU()]),
    "conv 1d": ((6, 2), lambda: [L.Conv1D(4, 3, padding="causal"), norm(), L.ReLU()]),
    "depthwise": ((6, 6, 3), lambda: [L.DepthwiseConv2D(3, depth_multiplier=2), norm(), L.ReLU()]),
    "separable": ((6, 6, 3), lambda: [L.SeparableConv2D(4, 3), norm(), L.ReLU()]),
    "transposed": ((6, 6, 3), lambda: [L.Conv2DTranspose(4, 3), norm(), L.ReLU()]),
    "dense": ((6,), lambda: [L.Dense(4), norm(), L.ReLU()]),
    "dense on steps": ((5, 6), lambda: [L.Dense(4), norm(), L.ReLU()]),
    "two": ((6,), lambda: [L.Dense(4), norm("one"), norm("two"), L.ReLU()]),
    "into the next": ((6, 6, 2), lambda: [L.MaxPooling2D(), norm(), L.Conv2D(3, 2)]),
    "into the next dense": ((6,), lambda: [L.Dense(3, activation="relu"), norm(), L.Dense(2)]),
    "into the next depthwise": ((6, 6, 2), lambda: [L.ReLU(), norm(), L.DepthwiseConv2D(3)]),
}


@pytest.mark.parametrize("sequential", [True, False])
@pytest.mark.parametrize("name", FOLDED)
def test_batch_norms_are_folded(name, sequential):
    shape, parts = FOLDED[name]
    parts = [*parts(), L.Flatten(), L.Dense(2, name="answer")]
    if sequential:
        model = randomise(keras.Sequential([keras.Input(shape), *parts]))
    else:
        model = randomise(chain(shape, *parts))
    model.layers[-2].trainable = False
    model.compile("sgd", "mse")
    left = nns.simplify(model)
    assert any(isinstance(layer, L.BatchNormalization) for layer in left.model.layers)
    done = nns.simplify(model, fold_batch_norm=True)
    assert not any(isinstance(layer, L.BatchNormalization) for layer in done.model.layers)
    assert isinstance(done.model, keras.Sequential) == sequential
    assert not done.model.layers[-2].trainable and done.model.compiled
    assert set(names(done.model)) < set(names(model))
    assert_same(done.model, model, inputs_of(model))


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        (lambda: [L.Conv2D(4, 3, activation="relu"), norm(), L.ReLU()], "activation first"),
        (lambda: [L.ReLU(), norm(), L.Conv2D(4, 3, padding="same")], "pads with zeros"),
        (lambda: [L.ReLU(), norm(), L.Conv2D(4, 3, groups=2)], "has groups"),
        (lambda: [L.Conv2D(4, 3), norm(axis=1), L.ReLU()], "another axis"),
        (lambda: [L.ReLU(), norm(), L.ReLU()], "no linear layer"),
    ],
)
def test_batch_norms_that_cannot_be_folded_say_why(parts, reason):
    model = randomise(chain((6, 6, 2), *parts(), L.Flatten(), L.Dense(2)))
    done = nns.simplify(model, fold_batch_norm=True)
    assert "bn" in names(done.model)
    assert any(c.layer == "bn" and reason in c.change for c in done.changes), done.changes


def test_a_convolution_that_is_read_elsewhere_keeps_its_batch_norm():
    inputs = keras.Input((6, 6, 2))
    x = L.Conv2D(4, 3, name="conv")(inputs)
    x = L.Add()([x, L.ReLU()(norm()(x))])
    model = randomise(keras.Model(inputs, L.Dense(2)(L.Flatten()(x))))
    done = nns.simplify(model, fold_batch_norm=True)
    assert any("read elsewhere" in c.change for c in done.changes)
    assert_same(done.model, model, inputs_of(model))


def test_a_residual_network_loses_all_its_batch_norms():
    model = residual()
    before = [w.numpy() for w in model.weights]
    done = nns.simplify(model, fold_batch_norm=True)
    assert not [n for n in names(done.model) if "bn" in n]
    assert_same(done.model, model, inputs_of(model))
    for old, weight in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(old, weight.numpy())
    plan = plan_of(model, **{"1_a": (), "stem": (0, 3)})
    lean = nns.simplify(nns.cut(model, plan, allow_empty=True), fold_batch_norm=True)
    assert_same(lean.model, nns.mask(model, plan), inputs_of(model))


def test_simplified_models_are_ordinary_files(tmp_path):
    model = residual()
    plan = plan_of(model, **{"1_a": (), "stem": (0, 3)})
    lean = nns.simplify(nns.cut(model, plan, allow_empty=True), fold_batch_norm=True).model
    nns.save_model(lean, tmp_path / "lean.keras")
    x = inputs_of(model)
    np.testing.assert_array_equal(keras.saving.load_model(tmp_path / "lean.keras")(x), lean(x))
    assert nns.lineage(nns.load_model(tmp_path / "lean.keras")) == nns.lineage(lean)


def test_wrong_use():
    with pytest.raises(nns.SurgeryError, match="fold_batch_norm"):
        nns.simplify(residual(), fold_batch_norm="yes")
    with pytest.raises(nns.ModelError, match=r"keras\.Model"):
        nns.simplify("model.keras")


# Any graph -------------------------------------------------------------------------------------


def thin_out(model, seed):
    """Make some units of every layer constant, some of them zero."""
    random = np.random.default_rng(seed)
    for layer in model._flatten_layers():
        if type(layer) in (L.Dense, L.Conv1D) and random.random() < 0.7:
            units = np.flatnonzero(random.random(layer.kernel.shape[-1]) < 0.5)
            set_units(layer, units, random.choice([-1.0, 0.0, 0.5], len(units)))


def check(recipe, seed):
    """Simplify a random model, and cut it to a random plan that empties groups."""
    model = build(recipe)
    thin_out(model, seed)
    x = inputs_of(model)
    assert_same(nns.simplify(model, fold_batch_norm=bool(seed % 2)).model, model, x)
    graph = trace(model)
    assume(graph.layout.prunable)
    random = np.random.default_rng(seed)
    kept = {
        group.name: ()
        if random.random() < 0.4
        else tuple(np.flatnonzero(random.random(group.size) < 0.6).tolist())
        for group in graph.layout.prunable
    }
    sizes = {group.name: group.size for group in graph.layout.prunable}
    plan = nns.Plan(graph.fingerprint, sizes, kept)
    try:
        small = nns.cut(model, plan, allow_empty=True, simplify=bool(seed % 3))
    except nns.PlanError as error:
        assert "Keep at least one" in str(error)
        return False
    assert_same(small, nns.mask(model, plan), x)
    return True


@settings(max_examples=10, derandomize=True, **unhurried)
@given(recipe=recipes, seed=seeds)
def test_random_graphs_keep_their_function(recipe, seed):
    check(recipe, seed)


@pytest.mark.slow
@settings(max_examples=40, derandomize=True, **unhurried)
@given(recipe=recipes, seed=seeds)
def test_many_random_graphs_keep_their_function(recipe, seed):
    check(recipe, seed)
