"""Clean-ups that keep the function: constants folded, dead branches gone."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from cleaning_models import assert_same, plan_of, residual, set_units
from contract import chain, inputs_of, randomise
from hypothesis import assume, given, settings
from keras import layers as L
from random_graphs import build, recipes, seeds, unhurried

import keras_nns as nns
from keras_nns.graph.tracing import trace

# TensorFlow's tensors under numpy 2, when Keras reads and writes weights.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)


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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_simplified_models_are_ordinary_files(tmp_path):
    model = residual()
    plan = plan_of(model, **{"1_a": (), "stem": (0, 3)})
    lean = nns.simplify(nns.cut(model, plan, allow_empty=True), fold_batch_norm=True).model
    nns.save_model(lean, tmp_path / "lean.keras")
    x = inputs_of(model)
    np.testing.assert_array_equal(keras.saving.load_model(tmp_path / "lean.keras")(x), lean(x))
    assert nns.lineage(nns.load_model(tmp_path / "lean.keras")) == nns.lineage(lean)


@pytest.mark.slow
def test_states_that_carry_over_stay_what_they_were():
    inputs = keras.Input(batch_shape=(2, 5, 3))
    x = L.LSTM(4, stateful=True, return_sequences=True, name="cells")(inputs)
    model = randomise(keras.Model(inputs, L.Dense(2)(L.GRU(3, stateful=True)(x))))
    x = inputs_of(model)
    model(x)
    before = [state.numpy() for layer in model.layers[1:3] for state in layer.states]
    assert any(state.any() for state in before)
    assert nns.simplify(model).proof.exact
    assert nns.unfold(model) is not model
    after = [state.numpy() for layer in model.layers[1:3] for state in layer.states]
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one, other)


def test_wrong_use():
    with pytest.raises(nns.errors.SurgeryError, match="fold_batch_norm"):
        nns.simplify(residual(), fold_batch_norm="yes")
    with pytest.raises(nns.errors.ModelError, match=r"keras\.Model"):
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
    except nns.errors.PlanError as error:
        assert "Keep at least one" in str(error)
        return False
    assert_same(small, nns.mask(model, plan), x)
    return True


@pytest.mark.slow
@settings(max_examples=40, derandomize=True, **unhurried)
@given(recipe=recipes, seed=seeds)
def test_random_graphs_keep_their_function(recipe, seed):
    check(recipe, seed)
