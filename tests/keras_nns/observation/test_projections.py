"""Linear maps inside recurrent and attention layers are refitted as numpy refits them."""

import keras
import numpy as np
import pytest
from keras import layers
from scipy.special import softmax

import keras_nns as nns
from keras_nns.graph.keras_internals import standardise_inputs
from keras_nns.graph.programs import Program
from keras_nns.graph.tracing import trace
from keras_nns.observation.projections import inputs_at, projections_of
from keras_nns.plans.kept_units import Plan

KEPT = {"one": (0, 2, 3, 5), "two": (1, 2, 4)}


def sequence(*middle, mask=False, name="model"):
    """Chain layers between a first one of 6 units and an answer, with weights worth fitting."""
    start = keras.Input((5, 4))
    x = layers.Masking()(start) if mask else start
    first = layers.SimpleRNN(6, return_sequences=True, name="one")
    x = (first if mask else layers.Dense(6, activation="tanh", name="one"))(x)
    for layer in middle:
        x = layer(x)
    model = keras.Model(start, layers.Dense(3, name="answer")(x), name=name)
    for weight in model.weights:
        seed = sum(map(ord, weight.path)) % 1000
        weight.assign(np.random.default_rng(seed).normal(size=weight.shape) * 0.6)
    return model


def cut(model, **kept):
    sizes = {group.name: group.size for group in trace(model).layout.prunable}
    whole = {name: tuple(range(size)) for name, size in sizes.items()}
    return nns.cut(model, Plan(nns.fingerprint(model), sizes, {**whole, **kept}))


def samples(count=120):
    return np.random.default_rng(1).normal(size=(count, 5, 4)).astype("float32")


def repaired(small, model, x, step=None):
    step = step or nns.steps.least_squares(ridge=0)
    return nns.repair(small, model, x, steps=step, held_out=0)


def rows_at(model, path, x):
    program = Program(model)
    given = dict(zip(program.inputs, standardise_inputs(model, x), strict=True))
    known = program.run(given, 0, program.places(path)[0])
    found = inputs_at(program, path, known)
    return np.concatenate([np.asarray(v, "float64").reshape(-1, v.shape[-1]) for v in found])


def solved(z, target):
    found = np.linalg.lstsq(np.c_[z, np.ones(len(z))], target, rcond=None)[0]
    return found[:-1], found[-1]


RECURRENT = {
    "simple": (layers.SimpleRNN, {}, 1),
    "lstm": (layers.LSTM, {}, 4),
    "gru": (layers.GRU, {}, 3),
    "gru, reset before": (layers.GRU, {"reset_after": False}, 3),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", RECURRENT)
def test_input_kernels_of_recurrent_layers(kind):
    make, options, gates = RECURRENT[kind]
    model, x = sequence(make(5, name="two", **options)), samples()
    small = cut(model, **KEPT)
    fixed = repaired(small, model, x)
    theirs, ours = model.get_layer("two").cell, fixed.model.get_layer("two").cell
    row = (0,) if len(theirs.bias.shape) == 2 else ()
    columns = np.concatenate([np.array(KEPT["two"]) + 5 * gate for gate in range(gates)])
    inputs = rows_at(model, "two", x)
    target = (inputs @ np.asarray(theirs.kernel) + np.asarray(theirs.bias)[row])[:, columns]
    kernel, bias = solved(inputs[:, list(KEPT["one"])], target)
    assert np.asarray(ours.kernel) == pytest.approx(kernel, abs=1e-4)
    assert np.asarray(ours.bias)[row] == pytest.approx(bias, abs=1e-4)
    old = small.get_layer("two").cell
    assert (np.asarray(ours.recurrent_kernel) == np.asarray(old.recurrent_kernel)).all()
    (gain,) = (g for g in fixed.gains if g.layer == "two: input kernel")
    assert gain.measure == "unexplained" and gain.after < gain.before


@pytest.mark.slow
def test_means_go_into_the_biases_of_recurrent_layers():
    model, x = sequence(layers.LSTM(5, name="two")), samples()
    small = cut(model, one=KEPT["one"])
    fixed = repaired(small, model, x, nns.steps.fold_means())
    gone = [1, 4]
    kernel = np.asarray(model.get_layer("two").cell.kernel)
    shift = rows_at(model, "two", x)[:, gone].mean(axis=0) @ kernel[gone]
    old, new = (np.asarray(m.get_layer("two").cell.bias) for m in (small, fixed.model))
    assert new - old == pytest.approx(shift, abs=1e-4)


@pytest.mark.slow
def test_steps_that_a_mask_leaves_out_do_not_count():
    model, x = sequence(layers.LSTM(5, name="two"), mask=True), samples()
    x[::2, 3:] = 0
    fixed = repaired(cut(model, **KEPT), model, x)
    small = cut(model, **KEPT)
    there = (x != 0).any(axis=2).reshape(-1)
    columns = np.concatenate([np.array(KEPT["two"]) + 5 * gate for gate in range(4)])
    theirs = model.get_layer("two").cell
    target = rows_at(model, "two", x) @ np.asarray(theirs.kernel) + np.asarray(theirs.bias)
    kernel, _ = solved(rows_at(small, "two", x)[there], target[there][:, columns])
    assert np.asarray(fixed.model.get_layer("two").cell.kernel) == pytest.approx(kernel, abs=1e-3)


@pytest.mark.slow
def test_both_ways_of_a_bidirectional_and_a_dense_of_every_step():
    middle = [
        layers.Bidirectional(layers.GRU(5, return_sequences=True), name="two"),
        layers.TimeDistributed(layers.Dense(4), name="three"),
        layers.GlobalAveragePooling1D(),
    ]
    model, x = sequence(*middle), samples()
    fixed = repaired(cut(model, one=KEPT["one"]), model, x)
    inputs = rows_at(model, "two", x)
    for way in ("forward_layer", "backward_layer"):
        theirs, ours = (getattr(m.get_layer("two"), way).cell for m in (model, fixed.model))
        target = inputs @ np.asarray(theirs.kernel) + np.asarray(theirs.bias)[0]
        kernel, _ = solved(inputs[:, list(KEPT["one"])], target)
        assert np.asarray(ours.kernel) == pytest.approx(kernel, abs=1e-4)
    # Behind it the inputs are those of the repaired layer.
    theirs = model.get_layer("three").layer
    target = rows_at(model, "three", x) @ np.asarray(theirs.kernel) + np.asarray(theirs.bias)
    kernel, _ = solved(rows_at(fixed.model, "three", x), target)
    assert np.asarray(fixed.model.get_layer("three").layer.kernel) == pytest.approx(
        kernel, abs=1e-3
    )


def attention(**options):
    start = keras.Input((5, 4))
    x = layers.Dense(6, activation="tanh", name="one")(start)
    x = layers.MultiHeadAttention(3, 2, value_dim=2, name="two", **options)(x, x)
    answer = layers.Dense(3, name="answer")(layers.GlobalAveragePooling1D()(x))
    model = keras.Model(start, answer)
    for weight in model.weights:
        seed = sum(map(ord, weight.path)) % 1000
        weight.assign(np.random.default_rng(seed).normal(size=weight.shape) * 0.6)
    return model


def heads_of(layer, x):
    """Attend by hand; returns what the output projection is called on, `(rows, heads, dims)`."""

    def project(dense):
        bias = 0 if dense.bias is None else np.asarray(dense.bias)
        return np.einsum("btf,fhd->bthd", x, np.asarray(dense.kernel)) + bias

    q, k, v = (project(getattr(layer, f"_{n}_dense")) for n in ("query", "key", "value"))
    shares = softmax(np.einsum("bqhd,bkhd->bhqk", q, k) / np.sqrt(q.shape[-1]), axis=-1)
    mixed = np.einsum("bhqk,bkhd->bqhd", shares, v)
    return mixed.reshape(-1, *mixed.shape[2:])


@pytest.mark.slow
@pytest.mark.parametrize("use_bias", [True, False])
def test_projections_of_attention(use_bias):
    model, x = attention(use_bias=use_bias), samples()
    small = cut(model, one=KEPT["one"], **{"two:heads": (0, 2)})
    fixed = repaired(small, model, x)
    theirs, ours = model.get_layer("two"), fixed.model.get_layer("two")
    inputs = np.tanh(x @ model.get_layer("one").get_weights()[0] + model.get_layer("one").bias)
    z = inputs[..., list(KEPT["one"])]
    design = z.reshape(-1, 4)
    design = np.c_[design, np.ones(len(design))] if use_bias else design
    for name in ("query", "key", "value"):
        dense, own = (getattr(layer, f"_{name}_dense") for layer in (theirs, ours))
        target = np.einsum("btf,fhd->bthd", inputs, np.asarray(dense.kernel))[..., [0, 2], :]
        target = target + (np.asarray(dense.bias)[[0, 2]] if use_bias else 0)
        found = np.linalg.lstsq(design, target.reshape(len(design), -1), rcond=None)[0]
        assert np.asarray(own.kernel).reshape(4, -1) == pytest.approx(found[:4], abs=1e-4)
    left = heads_of(ours, z).reshape(len(design), -1)
    left = np.c_[left, np.ones(len(left))] if use_bias else left
    whole, out = heads_of(theirs, inputs), theirs._output_dense
    target = np.einsum("rhd,hdu->ru", whole, np.asarray(out.kernel))
    target = target + (np.asarray(out.bias) if use_bias else 0)
    found = np.linalg.lstsq(left, target, rcond=None)[0][:4]
    assert np.asarray(ours._output_dense.kernel).reshape(4, -1) == pytest.approx(found, abs=1e-3)
    labels = [g.layer for g in fixed.gains if g.measure == "unexplained"]
    assert labels[:4] == [f"two: {name}" for name in ("query", "key", "value", "output")]


@pytest.mark.slow
def test_what_heads_leave_behind_is_taken_up_where_nothing_else_is_missing():
    model, x = attention(), samples()
    small = cut(model, **{"two:heads": (0, 2)})
    fixed = repaired(small, model, x, nns.steps.least_squares())
    before, after = (
        float(np.abs(np.asarray(m(x)) - np.asarray(model(x))).mean()) for m in (small, fixed.model)
    )
    assert after < 0.7 * before
    ours, old = fixed.model.get_layer("two"), small.get_layer("two")
    assert np.asarray(ours._key_dense.kernel) == pytest.approx(np.asarray(old._key_dense.kernel))


@pytest.mark.slow
def test_fewer_key_dimensions_are_scaled_as_the_cut_scales_them():
    model, x = attention(), samples()
    nothing = repaired(cut(model, **{"two:key": (0, 1)}), model, x)
    whole = model.get_layer("two")._query_dense.kernel
    assert np.asarray(nothing.model.get_layer("two")._query_dense.kernel) == pytest.approx(
        np.asarray(whole), abs=1e-5
    )
    small = cut(model, one=tuple(range(6)), **{"two:key": (1,)})
    fixed = repaired(small, model, x).model.get_layer("two")._query_dense
    old = small.get_layer("two")._query_dense
    assert np.asarray(fixed.kernel) == pytest.approx(np.asarray(old.kernel), abs=1e-4)


@pytest.mark.slow
def test_grouped_queries_come_nearer():
    start = keras.Input((5, 4))
    x = layers.Dense(6, activation="tanh", name="one")(start)
    two = layers.GroupQueryAttention(2, 4, 2, name="two")
    y = layers.GlobalAveragePooling1D()(two(x, x))
    model = keras.Model(start, layers.Dense(3, name="answer")(y))
    x = samples()
    small = cut(model, **{"two:heads": (1,)})
    fixed = repaired(small, model, x, nns.steps.least_squares()).model
    before, after = (
        float(np.abs(np.asarray(m(x)) - np.asarray(model(x))).mean()) for m in (small, fixed)
    )
    assert after < before


@pytest.mark.parametrize("equation", ["abc,cd->abd", "...c,cd->...d", "abc,dc->abd"])
def test_any_dense_by_equation(equation):
    shape = (5,) if "." in equation else (None, 5)
    dense = layers.EinsumDense(equation, output_shape=shape, bias_axes="d", name="two")
    dense.build((None, 5, 6))
    for weight in dense.weights:
        weight.assign(np.random.default_rng(0).normal(size=weight.shape))
    (found,) = projections_of(dense, 3)
    x = np.random.default_rng(1).normal(size=(7, 5, 6)).astype("float32")
    given = np.asarray(found.rows(x)) @ found.matrix() + found.offset()
    assert given == pytest.approx(np.asarray(dense(x)).reshape(-1, 5), abs=1e-4)
    found.assign(2 * found.matrix(), found.offset() + 1)
    (again,) = projections_of(dense, 3)
    twice = np.asarray(again.rows(x)) @ again.matrix() + again.offset()
    assert np.asarray(dense(x)).reshape(-1, 5) == pytest.approx(twice, abs=1e-4)


def test_what_is_no_projection_is_none():
    diagonal = layers.EinsumDense("abc,bcd->abd", output_shape=(5, 4))
    diagonal.build((None, 5, 6))
    assert projections_of(diagonal, 3) == []
    assert projections_of(layers.Conv2DTranspose(3, 2)) == []
