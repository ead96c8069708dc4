"""Gradients by label: against a tape on the rest of the model, against numpy, and as sums."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from backends import on_tensorflow
from keras import layers as L
from keras import ops

import keras_nns as nns
from keras_nns.cli import main
from keras_nns.errors import DataError, FileError, ModelError
from keras_nns.files import atomic
from keras_nns.graph.tracing import trace


def behind(case, name):
    """Run what follows a layer of the recurrent case one by one, with the mask in hand."""
    order = ["embedding", "lstm", "each_step", "last", "answer"]
    mask = tf.constant(case.steps("lstm"))

    def run(values):
        x = values[0]
        for layer in map(case.model.get_layer, order[order.index(name) + 1 :]):
            x = layer(x, mask=mask) if isinstance(layer, L.LSTM) else layer(x)
        return x

    return run


def values_and_gradients(case, name):
    """Each sample's values and gradients of -log p at one layer, from the rest of the model alone.

    Returns lists, one entry for each call of the layer, `(samples, positions, units)`.
    """
    inputs = [tf.convert_to_tensor(x) for x in case._flat(case.x)]
    seen = case.seen[name]
    read = keras.Model(case.model.inputs, seen)(inputs)
    values = [tf.convert_to_tensor(v) for v in (read if isinstance(read, list) else [read])]
    rest = keras.Model([*seen, *case.model.inputs], case.model.outputs)
    if "lstm" in case.seen:
        rest = behind(case, name)
    with tf.GradientTape() as tape:
        for value in values:
            tape.watch(value)
        answers = rest([*values, *inputs])
        answers = answers[0] if isinstance(answers, list) else answers
        own = tf.gather(answers, case.y, batch_dims=1)
        loss = tf.reduce_sum(-tf.math.log(own))
    gradients = tape.gradient(loss, values)
    count = len(case.y)
    return (
        [v.numpy().reshape(count, -1, v.shape[-1]).astype(np.float64) for v in values],
        [g.numpy().reshape(count, -1, g.shape[-1]).astype(np.float64) for g in gradients],
    )


@pytest.mark.slow
@on_tensorflow("the gradients it is held against")
def test_every_kind_of_model_against_the_rest_of_the_model(case):
    """Sequential, nested, convolutions, recurrent taps, shared layers, several inputs."""
    found = nns.observe_gradients(case.model, case.x, case.y, batch_size=7)
    assert set(found.layers) == set(case.seen)
    np.testing.assert_array_equal(found.samples, np.bincount(case.y, minlength=4))
    for name in case.seen:
        values, gradients = values_and_gradients(case, name)
        effect = -sum((v * g).sum(axis=1) for v, g in zip(values, gradients, strict=True))
        slope = sum(g.sum(axis=1) for g in gradients)
        table = (np.arange(4)[:, None] == case.y).astype(np.float64)
        layer = found.layers[name]
        for got, wanted in [
            (layer.effect, effect),
            (layer.magnitude, np.abs(effect)),
            (layer.square, effect**2),
            (layer.slope, slope),
        ]:
            expected = table @ wanted
            scale = np.abs(expected).max()
            np.testing.assert_allclose(got, expected, rtol=2e-4, atol=2e-5 * scale)


def by_hand(x, y, kernels):
    """Forward and back through Dense-ReLU-Dense-softmax in numpy, float64."""
    (w1, b1), (w2, b2) = kernels
    hidden = np.maximum(x @ w1 + b1, 0)
    logits = hidden @ w2 + b2
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    gradient = (p - np.eye(p.shape[1])[y]) @ w2.T
    return hidden, gradient, -np.log(p[np.arange(len(y)), y])


@pytest.fixture(scope="module")
def small():
    keras.utils.set_random_seed(3)
    model = keras.Sequential(
        [
            keras.Input((4,)),
            L.Dense(6, activation="relu", name="hidden"),
            L.Dense(3, activation="softmax", name="answer"),
        ]
    )
    random = np.random.default_rng(4)
    for variable in model.trainable_variables:
        variable.assign(random.normal(0, 0.7, variable.shape))
    x = random.normal(size=(50, 4)).astype("float32")
    return model, x, random.integers(0, 3, 50)


def weights_of(model):
    return [[w.astype(np.float64) for w in layer.get_weights()] for layer in model.layers]


def test_scores_by_hand(small):
    model, x, y = small
    hidden, gradient, _ = by_hand(x.astype(np.float64), y, weights_of(model))
    effect = -hidden * gradient
    activity = nns.observe(model, (x, y))
    found = nns.observe_gradients(model, (x, y))
    signed = nns.scores.taylor(found, signed=True)(activity)["hidden"]
    absolute = nns.scores.taylor(found)(activity)["hidden"]
    fisher = nns.scores.fisher(found)(activity)["hidden"]
    shares = nns.scores.contribution(model, (x, y), signed=True)(activity)["hidden"]
    for label in range(3):
        own = y == label
        close = {"rtol": 1e-4, "atol": 1e-6}
        np.testing.assert_allclose(signed[label], effect[own].mean(axis=0), **close)
        np.testing.assert_allclose(absolute[label], np.abs(effect[own]).mean(axis=0), **close)
        np.testing.assert_allclose(fisher[label], (effect[own] ** 2).mean(axis=0) / 2, **close)
        gap = hidden[own].mean(axis=0) - hidden[~own].mean(axis=0)
        weight = weights_of(model)[1][0][:, label]
        np.testing.assert_allclose(shares[label], gap * weight, **close)


def test_signed_taylor_foretells_what_a_removal_does(small):
    """Scaling a unit down a little changes the label's loss by the score, in sign and size."""
    model, x, y = small
    found = nns.observe_gradients(model, (x, y))
    score = nns.scores.taylor(found, signed=True)(nns.observe(model, (x, y)))["hidden"]
    (w1, b1), (w2, b2) = weights_of(model)
    _, _, before = by_hand(x.astype(np.float64), y, [(w1, b1), (w2, b2)])
    step = 1e-4
    for unit in range(6):
        less = w2.copy()
        less[unit] *= 1 - step
        _, _, after = by_hand(x.astype(np.float64), y, [(w1, b1), (less, b2)])
        for label in range(3):
            rise = (after - before)[y == label].mean() / step
            assert score[label, unit] == pytest.approx(rise, abs=2e-4)
    assert (score < 0).any() and (score > 0).any()


def test_a_pass_is_a_sum(small):
    model, x, y = small
    whole = nns.observe_gradients(model, (x, y), batch_size=50)
    parts = nns.observe_gradients(model, (x[:17], y[:17]), label_names=["0", "1", "2"])
    parts = parts + nns.observe_gradients(model, (x[17:], y[17:]), batch_size=4)
    order = np.random.default_rng(0).permutation(50)
    shuffled = nns.observe_gradients(model, (x[order], y[order]), batch_size=8)
    for other in (parts, shuffled):
        np.testing.assert_array_equal(other.samples, whole.samples)
        for field in ("effect", "magnitude", "square", "slope"):
            np.testing.assert_allclose(
                getattr(other.layers["hidden"], field),
                getattr(whole.layers["hidden"], field),
                rtol=1e-4,
                atol=1e-6,
            )
    assert "6 units in 1 layers for 3 labels over 50 samples" in str(whole)
    with pytest.raises(TypeError):
        _ = whole + 1
    named = nns.observe_gradients(model, (x, y), label_names=["a", "b", "c"])
    with pytest.raises(nns.errors.DataError, match="label_names"):
        _ = whole + named


def test_several_layers_of_one_group_leave_together(cases):
    case = cases("residual")
    activity = nns.observe(case.model, case.x, case.y)
    found = nns.observe_gradients(case.model, case.x, case.y)
    (group,) = [g for g in activity.layout.prunable if len(g.members) > 1]
    parts = [found.per_sample(m.layer, "effect") for m in group.members]
    for join, how in (("sum", np.sum), ("mean", np.mean), ("max", np.max)):
        got = nns.scores.taylor(found, signed=True, join=join)(activity)[group.name]
        np.testing.assert_allclose(got, how(parts, axis=0), rtol=1e-12)


def logits_model(**compiled):
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((4,)), L.Dense(5, activation="tanh"), L.Dense(3)])
    if compiled:
        model.compile(**compiled)
    return model


def effects(model, data, **options):
    (layer,) = nns.observe_gradients(model, data, **options).layers.values()
    return layer.effect


@pytest.mark.slow
def test_the_loss_is_the_models_own_or_the_one_passed(small):
    _, x, y = small
    data = (x, y)
    sparse = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    wanted = effects(logits_model(), data, loss=sparse)
    np.testing.assert_array_equal(effects(logits_model(loss=sparse), data), wanted)
    dense = keras.losses.CategoricalCrossentropy(from_logits=True)
    np.testing.assert_allclose(effects(logits_model(loss=dense), data), wanted, rtol=1e-5)
    one_hot = np.eye(3)[y]
    np.testing.assert_allclose(
        effects(logits_model(loss=dense), (x, one_hot)), wanted, rtol=1e-5, atol=1e-7
    )
    np.testing.assert_allclose(
        effects(logits_model(loss=sparse), (x, one_hot)), wanted, rtol=1e-5, atol=1e-7
    )
    # What is passed stands over what the model was compiled with.
    squared = effects(logits_model(loss=dense), data, loss="mse")
    assert np.abs(squared - wanted).max() > 1e-3
    own = effects(logits_model(), data, loss=lambda t, p: ops.mean(ops.square(t - p), axis=-1))
    np.testing.assert_allclose(own, squared, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("width", [1, 2])
def test_a_sigmoid_tells_its_loss(width):
    keras.utils.set_random_seed(2)
    model = keras.Sequential(
        [keras.Input((3,)), L.Dense(4, name="hidden"), L.Dense(width, activation="sigmoid")]
    )
    random = np.random.default_rng(0)
    x, y = random.normal(size=(20, 3)).astype("float32"), random.integers(0, 2, 20)
    (w1, b1), (w2, b2) = weights_of(model)
    hidden = x @ w1 + b1
    p = 1 / (1 + np.exp(-(hidden @ w2 + b2)))
    truth = y[:, None] if width == 1 else np.eye(2)[y]
    expected = -hidden * ((p - truth) / width @ w2.T)
    got = effects(model, (x, y))
    for label in (0, 1):
        np.testing.assert_allclose(got[label], expected[y == label].sum(axis=0), rtol=1e-3)
    logits = nns.scores.contribution(model, (x, y), signed=True)(nns.observe(model, (x, y)))[
        "hidden"
    ]
    gap = hidden[y == 1].mean(axis=0) - hidden[y == 0].mean(axis=0)
    column = w2[:, -1] if width == 1 else w2[:, 1]
    np.testing.assert_allclose(logits[1], gap * column, rtol=1e-3, atol=1e-6)
    other = -w2[:, 0] if width == 1 else w2[:, 0]
    np.testing.assert_allclose(logits[0], -gap * other, rtol=1e-3, atol=1e-6)


def test_several_labels_for_a_sample(small):
    """Each sample counts for each of its labels, by a loss that takes several."""
    _, x, _ = small
    model = keras.Sequential([keras.Input((4,)), L.Dense(5), L.Dense(3, activation="sigmoid")])
    table = np.random.default_rng(1).random((50, 3)) < 0.5
    found = nns.observe_gradients(model, (x, table))
    np.testing.assert_array_equal(found.samples, table.sum(axis=0))
    one = nns.observe_gradients(model, (x[:1], table[:1]), label_names=list("abc"))
    (layer,) = one.layers.values()
    seen = layer.effect[table[0]]
    np.testing.assert_array_equal(seen, np.broadcast_to(seen[:1], seen.shape))
    assert not layer.effect[~table[0]].any()
    softmax = keras.Sequential([keras.Input((4,)), L.Dense(5), L.Dense(3, activation="softmax")])
    with pytest.raises(nns.errors.DataError, match="one label for each sample"):
        nns.observe_gradients(softmax, (x, table))


def several_outputs():
    inputs = keras.Input((4,))
    shared = L.Dense(5, activation="relu", name="shared")(inputs)
    only = L.Dense(3, activation="relu", name="only_other")(shared)
    kind = L.Dense(3, activation="softmax", name="kind")(shared)
    return keras.Model(inputs, [L.Dense(1, name="size")(only), kind])


def test_a_model_of_several_outputs(small):
    _, x, y = small
    model = several_outputs()
    with pytest.raises(nns.errors.PlanError, match="Say which one"):
        nns.observe_gradients(model, (x, y))
    found = nns.observe_gradients(model, (x, y), output="kind")
    assert found.layers["shared"].magnitude.any()
    # Nothing leads from it to the output asked for.
    assert not found.layers["only_other"].magnitude.any()
    model.compile(loss={"size": "mse", "kind": "categorical_crossentropy"})
    again = nns.observe_gradients(model, (x, y), output="kind")
    np.testing.assert_allclose(
        again.layers["shared"].effect, found.layers["shared"].effect, rtol=1e-4, atol=1e-7
    )
    model.compile(loss=["mse", "sparse_categorical_crossentropy"])
    again = nns.observe_gradients(model, (x, y), output="kind")
    np.testing.assert_allclose(
        again.layers["shared"].effect, found.layers["shared"].effect, rtol=1e-4, atol=1e-7
    )


def test_nothing_of_the_model_changes(small):
    model, x, y = small
    before = model.get_weights()
    nodes = [len(layer._inbound_nodes) for layer in model.layers]
    nns.observe_gradients(model, (x, y))
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert nodes == [len(layer._inbound_nodes) for layer in model.layers]
    assert not model.compiled


def test_without_a_loss_it_says_what_to_do(small):
    _, x, y = small
    with pytest.raises(nns.errors.SelectionError, match="Compile the model, or pass loss="):
        nns.observe_gradients(logits_model(), (x, y))
    with pytest.raises(nns.errors.SelectionError, match="loss='no such loss'"):
        nns.observe_gradients(logits_model(), (x, y), loss="no such loss")
    with pytest.raises(nns.errors.SelectionError, match="one number for the whole batch"):
        nns.observe_gradients(logits_model(), (x, y), loss=lambda t, p: ops.mean(t - p))
    with pytest.raises(nns.errors.SelectionError, match="cannot be computed from targets"):
        nns.observe_gradients(logits_model(), (x, y), loss=lambda t, p: ops.add(t, p[:, :2]))


def test_what_cannot_be_right_is_refused(small, cases):
    model, x, y = small
    found = nns.observe_gradients(model, (x, y))
    other = cases("dense")
    with pytest.raises(nns.errors.SelectionError, match="another model"):
        nns.scores.taylor(found)(nns.observe(other.model, other.x, other.y))
    moved = keras.models.clone_model(model)
    moved.set_weights([w + 0.1 for w in model.get_weights()])
    with pytest.raises(nns.errors.SelectionError, match="other weights"):
        nns.scores.fisher(found)(nns.observe(moved, (x, y)))
    with pytest.raises(nns.errors.SelectionError, match="observe_gradients"):
        nns.scores.taylor(model)
    with pytest.raises(nns.errors.SelectionError, match="join='median'"):
        nns.scores.taylor(found, join="median")(nns.observe(model, (x, y)))
    for wide in (model, several_outputs()):
        with pytest.raises(nns.errors.DataError, match="label_names has 4 names"):
            nns.observe_gradients(
                wide, (x, y), label_names=list("abcd"), output=trace(wide).outputs[-1].name
            )
    with pytest.raises(nns.errors.DataError, match="NaN"):
        nns.observe_gradients(model, (np.full_like(x, np.nan), y))


@pytest.mark.slow
def test_where_no_gradient_goes_it_says_so(small):
    _, x, y = small
    inputs = keras.Input((4,))
    logits = L.Dense(3)(L.Dense(5, name="cells")(inputs))
    chosen = keras.ops.one_hot(keras.ops.argmax(logits, axis=-1), 3)
    for last in (chosen, keras.ops.sign(logits)):
        with pytest.raises(nns.errors.ModelError, match="No gradient"):
            nns.observe_gradients(keras.Model(inputs, last), (x, y), loss="mse")


@pytest.mark.slow
def test_labels_without_samples_are_not_a_number(small):
    model, x, y = small
    some = y != 2
    found = nns.observe_gradients(model, (x[some], y[some]), label_names=list("abc"))
    activity = nns.observe(model, (x[some], y[some]), label_names=list("abc"))
    for score in (nns.scores.taylor(found), nns.scores.fisher(found)):
        values = score(activity)["hidden"]
        assert np.isfinite(values[:2]).all() and np.isnan(values[2]).all()


@pytest.mark.slow
@pytest.mark.parametrize("grouped", [False, True])
def test_attention_heads_are_blocks_of_what_the_projection_reads(grouped):
    """Scaling a head's rows of the output projection a little changes the loss by its score."""
    keras.utils.set_random_seed(6)
    inputs = keras.Input((5, 6))
    attention = (
        L.GroupQueryAttention(3, 4, 2, name="attention")
        if grouped
        else L.MultiHeadAttention(3, 4, name="attention")
    )
    x = L.GlobalAveragePooling1D()(attention(inputs, inputs))
    model = keras.Model(inputs, L.Dense(3, activation="softmax")(x))
    for weight in model.weights:
        weight.assign(np.random.default_rng(7).normal(0, 0.5, weight.shape))
    random = np.random.default_rng(8)
    data, y = random.normal(size=(30, 5, 6)).astype("float32"), random.integers(0, 3, 30)
    activity = nns.observe(model, data, y)
    found = nns.observe_gradients(model, data, y)
    score = nns.scores.taylor(found, signed=True)(activity)
    (name,) = [name for name in found.layers if name.startswith("attention:")]

    def losses():
        p = model(data).numpy().astype(np.float64)
        return -np.log(p[np.arange(30), y])

    dense = attention._output_dense
    kernel, step = dense.kernel.numpy(), 0.02
    heads = score[name].shape[1]
    for head in range(heads):
        block = slice(head * len(kernel) // heads, (head + 1) * len(kernel) // heads)
        each = []
        for scale in (1 + step, 1 - step):
            changed = kernel.copy()
            changed[block] *= scale
            dense.kernel.assign(changed)
            each.append(losses())
        dense.kernel.assign(kernel)
        rise = (each[1] - each[0]) / (2 * step)
        for label in range(3):
            wanted = rise[y == label].mean()
            assert score[name][label, head] == pytest.approx(wanted, abs=1e-3, rel=1e-2)
    assert np.isfinite(nns.scores.contribution(model, data, y)(activity)[name]).all()


@pytest.fixture(scope="module")
def tanh():
    keras.utils.set_random_seed(3)
    return keras.Sequential([keras.Input((4,)), L.Dense(5, "tanh"), L.Dense(3, "softmax")])


@pytest.fixture(scope="module")
def rows():
    random = np.random.default_rng(5)
    return random.normal(size=(50, 4)).astype("float32"), random.integers(0, 3, 50)


@pytest.fixture(scope="module")
def shards(tanh, rows):
    return [nns.observe_gradients(tanh, *rows, batch_size=8, shard=(i, 3)) for i in (1, 2, 3)]


def same(one, other):
    return all(
        np.array_equal(getattr(layer, field), getattr(other.layers[name], field))
        for name, layer in one.layers.items()
        for field in ("effect", "magnitude", "square", "slope")
    ) and np.array_equal(one.samples, other.samples)


def test_shards_add_up_to_one_pass_in_any_order(tanh, rows, shards):
    assert str(shards[1]).endswith(", shard 2 of 3 of the data")
    whole, total = nns.observe_gradients(tanh, *rows, batch_size=8), nns.add(shards)
    assert total.shards is None and str(total) == str(whole)
    np.testing.assert_array_equal(total.samples, whole.samples)
    for name, layer in whole.layers.items():
        for field in ("effect", "magnitude", "square", "slope"):
            mine, theirs = getattr(total.layers[name], field), getattr(layer, field)
            assert np.abs(mine - theirs).max() <= 1e-6 * np.abs(theirs).max()
    assert same(nns.add([shards[2], shards[0], shards[1]]), total)
    assert same(nns.observe_gradients(tanh, *rows, batch_size=8, shard=(1, 1)), whole)


def test_files_of_shards_add_up(shards, tmp_path):
    for number, part in enumerate(shards):
        part.save(tmp_path / f"{number}.npz")
        read = nns.Gradients.load(tmp_path / f"{number}.npz")
        assert same(read, part) and str(read) == str(part) and read.layout == part.layout
    assert same(nns.add(tmp_path / f"{i}.npz" for i in range(3)), nns.add(shards))
    assert main(["add", *(str(tmp_path / f"{i}.npz") for i in range(3)), "-o",
                 str(tmp_path / "all.npz")]) == 0  # fmt: skip
    assert same(nns.Gradients.load(tmp_path / "all.npz"), nns.add(shards))


def test_parts_that_do_not_fit_are_named(tanh, rows, shards):
    with pytest.raises(DataError, match="Shard 2 of 3 is missing beside part 1"):
        nns.add([shards[0], shards[2]])
    assert str(nns.add(shards[:2], incomplete=True).shards) == "shards 1 and 2 of 3"
    with pytest.raises(DataError, match="holds the same shard 1 as part 1"):
        nns.add([shards[0], shards[0]])
    with pytest.raises(DataError, match="Both hold shard 1 of 3"):
        shards[0] + shards[0]
    activity = nns.observe(tanh, *rows, shard=(2, 3))
    with pytest.raises(DataError, match=r"holds activity and part 1 .* gradients"):
        nns.add([shards[0], activity])
    other = nns.observe_gradients(tanh, *rows, shard=(2, 3), label_names=["a", "b", "c"])
    with pytest.raises(DataError, match="observed with other labels than part 1"):
        nns.add([shards[0], other])


def test_a_damaged_file_is_named(shards, tmp_path):
    path = tmp_path / "part.npz"
    shards[0].save(path)
    header, arrays = atomic.read_arrays(path, "keras_nns.gradients")
    wrong = {
        "there are no shards (5,)": (
            {**header, "shards": {**header["shards"], "numbers": [5]}},
            arrays,
        ),
        "it lacks '0.effect'": (header, {k: a for k, a in arrays.items() if k != "0.effect"}),
        "not (3, 5)": (header, {**arrays, "0.slope": np.zeros((2, 5))}),
        "of version 1": ({**header, "version": 2}, arrays),
    }
    for said, (other, some) in wrong.items():
        atomic.write_arrays(path, "keras_nns.gradients", other, some, overwrite=True)
        with pytest.raises(FileError) as caught:
            nns.Gradients.load(path)
        assert said in str(caught.value)
    with pytest.raises(FileError, match=r"Expected a keras_nns\.activity file"):
        nns.Activity.load(path)


def test_layers_that_keep_a_state_are_not_dealt():
    steps = keras.Input((3, 2), batch_size=4)
    model = keras.Model(steps, L.Dense(3, "softmax")(L.LSTM(5, stateful=True)(steps)))
    with pytest.raises(ModelError, match="stateful"):
        nns.observe_gradients(model, np.zeros((8, 3, 2)), np.zeros(8, int), shard=(1, 2))
