"""Attention heads are watched by how much they add to the layer's output."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers as L
from keras import ops

import keras_nns as nns

WIDTH, STEPS, HEADS, DIMENSIONS = 6, 5, 3, 4


def randomised(model):
    random = np.random.default_rng(3)
    for variable in model.trainable_variables:
        variable.assign(random.normal(0.0, 0.6, variable.shape))
    return model


def attending(attention, *, tokens=False, **call):
    """A classifier of 3 labels in which a sequence attends to itself."""
    if tokens:
        inputs = keras.Input((STEPS,), dtype="int32")
        x = L.Embedding(9, WIDTH, mask_zero=True, name="embedding")(inputs)
    else:
        x = inputs = keras.Input((STEPS, WIDTH))
    x = attention(x, x, **call)
    x = L.GlobalAveragePooling1D()(x)
    return randomised(keras.Model(inputs, L.Dense(3, activation="softmax", name="answer")(x)))


def multi_head(**settings):
    return L.MultiHeadAttention(HEADS, DIMENSIONS, name="attention", **settings)


def sequences(samples=11):
    return np.random.default_rng(1).normal(size=(samples, STEPS, WIDTH)).astype("float32")


def projected(dense, x):
    """Apply a projection `(features, heads, dimensions)`."""
    return np.einsum("btf,fhd->bthd", x, dense.kernel) + np.asarray(dense.bias)


def shares(query, key, value, kernel, *, allowed=None):
    """What each head adds at each step `(batch, steps, heads, units)`, from the definition."""
    products = np.einsum("bthd,bshd->bhts", query, key) / np.sqrt(query.shape[-1])
    if allowed is not None:
        products = np.where(allowed, products, -1e9)
    weights = np.exp(products - products.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    seen = np.einsum("bhts,bshd->bthd", weights, value)
    return np.einsum("bthd,hdu->bthu", seen, kernel)


def shares_of(layer, x, **settings):
    q, k, v = (projected(d, x) for d in (layer.query_dense, layer.key_dense, layer.value_dense))
    return shares(q, k, v, np.asarray(layer.output_dense.kernel), **settings)


def watched_heads(model, x):
    return nns.probe(model).predict(x, verbose=0)["attention:heads"]


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-5)


@pytest.mark.parametrize("settings", [{}, {"value_dim": 2}, {"output_shape": 7}], ids=str)
def test_a_heads_value_is_the_norm_of_what_it_adds(settings):
    layer = multi_head(**settings)
    model, x = attending(layer), sequences()
    expected = np.linalg.norm(shares_of(layer, x), axis=-1).mean(axis=1)
    close(watched_heads(model, x), expected)


@pytest.mark.slow
def test_causal_heads_are_watched_with_the_mask_in_force():
    layer = multi_head()
    model, x = attending(layer, use_causal_mask=True), sequences()
    added = shares_of(layer, x, allowed=np.tril(np.ones((STEPS, STEPS), bool)))
    close(watched_heads(model, x), np.linalg.norm(added, axis=-1).mean(axis=1))
    whole = np.linalg.norm(shares_of(layer, x), axis=-1).mean(axis=1)
    assert np.abs(watched_heads(model, x) - whole).max() > 0.01


def test_steps_that_a_mask_leaves_out_do_not_count():
    layer = multi_head()
    model = attending(layer, tokens=True)
    tokens = np.array([[3, 1, 2, 0, 0], [4, 4, 8, 7, 2], [5, 0, 0, 0, 0]], "int32")
    x = np.asarray(model.get_layer("embedding").embeddings)[tokens]
    there = tokens > 0
    added = np.linalg.norm(shares_of(layer, x, allowed=there[:, None, None, :]), axis=-1)
    expected = (added * there[:, :, None]).sum(axis=1) / there.sum(axis=1)[:, None]
    close(watched_heads(model, tokens), expected)


def test_heads_are_read_inside_also_where_their_scores_come_out():
    inputs = keras.Input((STEPS, WIDTH))
    layer = multi_head()
    x, scores = layer(inputs, inputs, return_attention_scores=True)
    summed = L.Concatenate()([L.GlobalAveragePooling1D()(x), L.Flatten()(scores)])
    model, x = randomised(keras.Model(inputs, L.Dense(3)(summed))), sequences()
    close(watched_heads(model, x), np.linalg.norm(shares_of(layer, x), axis=-1).mean(axis=1))


def test_query_heads_that_share_keys_and_values_count_as_one():
    layer = L.GroupQueryAttention(DIMENSIONS, 6, HEADS, name="attention")
    model, x = attending(layer), sequences()
    q, k, v = (projected(d, x) for d in (layer._query_dense, layer._key_dense, layer._value_dense))
    added = shares(
        q, np.repeat(k, 2, 2), np.repeat(v, 2, 2), np.asarray(layer._output_dense.kernel)
    )
    together = added.reshape(*added.shape[:2], HEADS, 2, WIDTH).sum(axis=3)
    close(watched_heads(model, x), np.linalg.norm(together, axis=-1).mean(axis=1))


def test_a_layer_called_twice_has_the_mean_over_its_calls():
    inputs = keras.Input((STEPS, WIDTH))
    layer = multi_head()
    once = layer(inputs, inputs)
    twice = layer(once, once)
    model = randomised(keras.Model(inputs, L.Dense(3)(L.GlobalAveragePooling1D()(twice))))
    x = sequences()
    first = shares_of(layer, x)
    between = first.sum(axis=2) + np.asarray(layer.output_dense.bias)
    parts = [np.linalg.norm(a, axis=-1).mean(axis=1) for a in (first, shares_of(layer, between))]
    close(watched_heads(model, x), sum(parts) / 2)


def test_the_layers_are_left_as_they_were():
    layer = multi_head()
    model, x = attending(layer), sequences()
    nns.observe(model, (x, np.arange(11) % 3))
    assert "call" not in vars(layer) and "call" not in vars(layer.output_dense)


@pytest.mark.slow
def test_training_gathers_what_observing_sees():
    layer = multi_head()
    model, x, y = attending(layer), sequences(64), np.arange(64) % 3
    model.compile(keras.optimizers.SGD(0.0), "sparse_categorical_crossentropy")
    monitor = nns.ActivityMonitor()
    model.fit(x, y, batch_size=16, verbose=0, callbacks=[monitor])
    observed = nns.observe(model, (x, y)).mean("attention:heads")
    np.testing.assert_allclose(monitor.activity.mean("attention:heads"), observed, rtol=1e-5)
    assert "call" not in vars(layer.output_dense)


@pytest.mark.slow
def test_selecting_takes_away_the_head_that_adds_nothing():
    layer = multi_head()
    model, x = attending(layer), sequences(33)
    kernel = np.asarray(layer.output_dense.kernel).copy()
    kernel[1] = 0
    layer.output_dense.kernel.assign(kernel)
    activity = nns.observe(model, (x, np.arange(33) % 3))
    assert np.array_equal(activity.mean("attention:heads")[:, 1], np.zeros(3))
    plan = nns.select(activity, labels="all", keep=nns.above(0.01))
    assert plan.kept["attention:heads"] == (0, 2)
    small = nns.cut(model, plan, prove=True)
    assert small.get_layer("attention").num_heads == 2
    close(small.predict(x, verbose=0), model.predict(x, verbose=0))


def test_dimensions_of_keys_and_values_stay_unless_a_plan_names_them():
    model = attending(multi_head())
    activity = nns.observe(model, (sequences(), np.arange(11) % 3))
    # Their heads are chosen among: no warning, but the plan counts them apart.
    plan = nns.select(activity, labels=0, keep=nns.top(1), score="mean_activation")
    assert [len(plan.kept[f"attention:{kind}"]) for kind in ("heads", "key", "value")] == [1, 4, 4]
    assert str(plan).endswith("and all 8 of which nothing is known")
    groups = {group.name: group.unwatched for group in nns.inspect(model).groups}
    assert groups["attention:heads"] == ""
    assert "they act inside MultiHeadAttention" in groups["attention:key"]
    assert "no: they act inside" in nns.inspect(model).to_markdown()


def test_half_precision_heads_are_watched_in_full():
    layer = multi_head(dtype="mixed_float16")
    model, x = attending(layer), sequences()
    expected = np.linalg.norm(shares_of(layer, x), axis=-1).mean(axis=1)
    np.testing.assert_allclose(watched_heads(model, x), expected, rtol=0.01, atol=0.01)


@pytest.mark.slow
def test_labels_may_be_something_else_than_what_a_model_answers():
    """A model that answers a symbol at every step; the labels are kinds of text."""
    inputs = keras.Input((STEPS,), dtype="int32")
    x = L.Embedding(9, WIDTH, name="embedding")(inputs)
    x = x + multi_head()(x, x, use_causal_mask=True)
    x = x + L.Dense(WIDTH)(L.Dense(8, activation="gelu", name="hidden")(x))
    model = randomised(keras.Model(inputs, L.Dense(9, name="next")(x)))
    tokens = np.random.default_rng(2).integers(0, 9, (30, STEPS))
    kinds = np.arange(30) % 3
    activity = nns.observe(model, (tokens, kinds), label_names=["prose", "verse", "code"])
    assert activity.label_names == ("prose", "verse", "code")
    assert activity == nns.observe(
        model, (tokens, np.array(activity.label_names)[kinds]), label_names=activity.label_names
    )
    assert nns.observe(model, (tokens, kinds)).label_names == ("0", "1", "2")
    plan = nns.select(activity, labels="code", keep=nns.top(2), score="mean_activation")
    small = nns.cut(model, plan, prove=True)
    assert small.output_shape == (None, STEPS, 9)
    assert small.get_layer("hidden").units == small.get_layer("attention").num_heads == 2
    assert nns.lineage(small).plan.label_names == ("prose", "verse", "code")
    assert ops.shape(nns.mask(model, plan)(tokens)) == (30, STEPS, 9)
    fixed = nns.repair(small, model, tokens, steps=nns.steps.least_squares())
    (gain,) = (g for g in fixed.gains if g.layer is None)
    assert gain.after < gain.before
    # Labels that the output does not answer say nothing of what it should: as if there were none.
    both = nns.repair(
        small, model, (tokens, kinds), label_names=activity.label_names,
        steps=nns.steps.least_squares(),
    )  # fmt: skip
    for one, other in zip(both.model.get_weights(), fixed.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
