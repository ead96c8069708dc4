"""Distillation and fine-tuning: what is taught, by numpy, and the laws of all training."""

from __future__ import annotations

import random
from dataclasses import replace

import keras
import numpy as np
import pytest
from keras import layers as L

import keras_nns as nns
from keras_nns.data.batches import Batch
from keras_nns.graph.tracing import trace, weights_digest
from keras_nns.judgement.question import ask
from keras_nns.observation.holdout import Division
from keras_nns.repairing.patient import Treatment
from keras_nns.repairing.prepared import Prepared
from keras_nns.surgery.copying import copied
from keras_nns.training import sampling
from keras_nns.training.logits import answering
from keras_nns.training.targets import Pupil

CENTRES = np.random.default_rng(3).normal(size=(4, 6)) * 1.5


def samples(count=400, seed=0):
    """Four clouds."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 4, count)
    return (CENTRES[y] + rng.normal(size=(count, 6))).astype("float32"), y


X, Y = samples()


def parent(answer="softmax", *, width=4, norm=False, dropout=0.0, seed=0):
    """A small model with any end, right in most cases where it ends in a softmax."""
    rng = np.random.default_rng(seed)
    model = keras.Sequential([keras.Input((6,)), L.Dense(12, name="one")], name="clouds")
    if norm:
        model.add(L.BatchNormalization(name="norm"))
    model.add(L.ReLU(name="relu"))
    if dropout:
        model.add(L.Dropout(dropout, seed=1, name="dropout"))
    if answer == "layer":
        model.add(L.Dense(width, name="answer"))
        model.add(L.Softmax(name="softmax"))
    else:
        model.add(L.Dense(width, activation=answer, name="answer"))
    for variable in model.trainable_variables:
        variable.assign(rng.normal(0, 0.5, variable.shape) + (variable.path.endswith("gamma")))
    return model


@pytest.fixture(scope="module")
def clouds():
    model = parent(dropout=0.2)
    model.compile(
        keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    with_seed = np.random.default_rng(0)
    for _ in range(8):
        order = with_seed.permutation(len(X))
        for start in range(0, len(X), 32):
            model.train_on_batch(X[order[start : start + 32]], Y[order[start : start + 32]])
    assert model.evaluate(X, Y, verbose=0)[1] > 0.9
    return model


def plan_for(model, labels, units=5):
    activity = nns.observe(model, (X, Y), verbose=False)
    return nns.select(activity, labels=labels, score=nns.scores.contrast, keep=nns.top(units))


def small_of(model, head="binary", labels=(1,), units=5):
    return nns.cut(model, plan_for(model, list(labels), units), head=head)


def softmax(z, axis=-1):
    z = np.exp(z - z.max(axis=axis, keepdims=True))
    return z / z.sum(axis=axis, keepdims=True)


# What is taught ---------------------------------------------------------------------------------

ENDS = [
    ("softmax", 4, "parent", (1,)),
    ("softmax", 4, "labels", (1, 3)),
    ("softmax", 4, "other", (1, 3)),
    ("softmax", 4, "binary", (1,)),
    ("softmax", 4, "binary", (1, 3)),
    ("layer", 4, "labels", (1, 3)),
    ("layer", 4, "binary", (2,)),
    ("linear", 4, "parent", (1,)),
    ("linear", 4, "labels", (0, 1)),
    ("linear", 4, "other", (2, 3)),
    ("linear", 4, "binary", (2, 3)),
    ("sigmoid", 4, "parent", (1,)),
    ("sigmoid", 4, "labels", (1, 2)),
    ("sigmoid", 4, "binary", (1,)),
    ("sigmoid", 1, "parent", (1,)),
    ("sigmoid", 1, "binary", (0,)),
    ("sigmoid", 1, "other", (1,)),
]


@pytest.mark.slow
@pytest.mark.parametrize(("end", "width", "head", "labels"), ENDS)
def test_parent_and_subnetwork_are_asked_the_same(end, width, head, labels):
    """Logits, turned into probabilities by numpy, are the parent's mapped by `ask`, or its own."""
    model = parent(end, width=width)
    count = max(width, 2)
    x, y = X, Y % count
    plan = nns.select(
        nns.observe(model, (x, y), verbose=False), labels=list(labels), score="mean_activation"
    )
    small = nns.cut(model, plan, head=head)
    division = Division(
        x, y, model=model, held_out=0.2, seed=0, batch_size=256, label_names=None
    )  # fmt: skip
    treatment = Treatment(small, Prepared(model, division))
    pupil = Pupil.of(treatment)
    kind = trace(model).outputs[0].kind
    for network, own in ((copied(model), False), (treatment.model, True)):
        outputs = np.asarray(network(x), np.float64)
        wanted = outputs if own else np.asarray(ask(pupil.question, outputs, kind))
        with answering(network, pupil, own=own).open() as taught:
            logits = np.asarray(taught(x), np.float64)
        found = softmax(logits)
        if logits.ndim == 3 or (wanted.shape[1] == 1 and found.shape[1] == 2):
            found = found[..., 1]
        elif kind == "linear" and head in ("parent", "labels"):
            wanted = softmax(wanted)
        np.testing.assert_allclose(found.reshape(wanted.shape), wanted, atol=1e-6)
        # The layers are as they were.
        np.testing.assert_array_equal(np.asarray(network(x)), outputs.astype("float32"))


def test_what_is_sure_keeps_its_gradient():
    """Behind a sum of probabilities that is 1 in float32, the logits still tell how sure it is."""
    model = parent()
    model.layers[-1].set_weights([np.ones((12, 4)), np.array([0.0, 60.0, 0.0, 0.0])])
    small = small_of(model, "binary", (1,))
    assert (np.asarray(small(X)) == 1).all()
    division = Division(X, Y, model=model, held_out=0.2, seed=0, batch_size=64, label_names=None)
    treatment = Treatment(small, Prepared(model, division))
    with answering(treatment.model, Pupil.of(treatment), own=True).open() as taught:
        logits = np.asarray(taught(X))
    np.testing.assert_allclose(logits[:, 1] - logits[:, 0], 60 - np.log(3), rtol=1e-5)


@pytest.mark.slow
def test_the_loss_is_what_numpy_says(clouds):
    """Cross-entropy with the labels, and T² times the divergence from the parent's answers."""
    small = small_of(clouds, "labels", (1, 3))
    seen = {}

    def loss(alpha, temperature, data, **options):
        done = nns.distill(
            small,
            clouds,
            data,
            alpha=alpha,
            temperature=temperature,
            held_out=0.3,
            batch_size=1000,
            **options,
        )
        return done.gains[0].before

    division = Division(X, Y, model=clouds, held_out=0.3, seed=0, batch_size=256, label_names=None)
    held = list(division.held_out())
    x = np.concatenate([batch.inputs for batch in held])
    y = np.concatenate([batch.labels for batch in held])
    asked = np.isin(y, (1, 3))
    for name, rows in (("labelled", asked), ("alone", slice(None))):
        theirs = np.log(np.asarray(clouds(x[rows]), np.float64)[:, [1, 3]])
        ours = np.log(np.asarray(small(x[rows]), np.float64))
        p, q = softmax(theirs / 3), softmax(ours / 3)
        seen[name] = 9 * (p * np.log(p / q)).sum(axis=1).mean()
    entropy = -np.log(softmax(ours)[asked, (y[asked] == 3).astype(int)]).mean()
    assert loss(1.0, 3.0, X) == pytest.approx(seen["alone"], rel=1e-3)
    # Samples of other labels have the parent's answers, and no label that is right.
    rest = entropy * asked.mean()
    for others, by_parent, by_label in (
        (True, seen["alone"], rest),
        (False, seen["labelled"], entropy),
    ):
        both = 0.25 * by_parent + 0.75 * by_label
        for alpha, wanted in ((1.0, by_parent), (0.0, by_label), (0.25, both)):
            found = loss(alpha, 3.0, (X, Y), other_labels=others)
            assert found == pytest.approx(wanted, rel=1e-3)


# Laws -------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("head", ["parent", "labels", "other", "binary"])
def test_distilling_comes_nearer_to_the_parent(clouds, head):
    """With labels and without; and nothing of the user's changes."""
    small = small_of(clouds, head, (1,) if head == "binary" else (1, 3), units=3)
    digests = [weights_digest(m) for m in (clouds, small)]
    nodes = [len(layer._outbound_nodes) for m in (clouds, small) for layer in m.layers]
    settings = [m.get_compile_config() for m in (clouds, small)]
    random.seed(5), np.random.seed(5)
    states = random.getstate(), np.random.get_state()[1].tolist()
    for data in ((X, Y), X):
        done = nns.distill(small, clouds, data, epochs=4, batch_size=16)
        gains = {gain.measure: gain for gain in done.gains}
        assert gains["loss"].after < gains["loss"].before
        assert gains["distance"].after < gains["distance"].before
        assert ("balanced acc." in gains) == isinstance(data, tuple)
        assert type(done.model) is keras.Sequential
        record, answers = nns.lineage(done.model), head in ("other", "binary")
        assert replace(record, balanced=None) == nns.lineage(small)
        assert (record.balanced is not None) == (answers and isinstance(data, tuple))
        assert record.balanced is None or record.balanced.parent is not None
        assert [layer.name for layer in done.model.layers] == [layer.name for layer in small.layers]
        assert done.model.get_compile_config() == small.get_compile_config()
        assert all(layer.trainable == old.trainable
                   for layer, old in zip(done.model.layers, small.layers, strict=True))  # fmt: skip
    assert [weights_digest(m) for m in (clouds, small)] == digests
    assert [len(layer._outbound_nodes) for m in (clouds, small) for layer in m.layers] == nodes
    assert [m.get_compile_config() for m in (clouds, small)] == settings
    assert all(variable.trainable for variable in clouds.trainable_variables)
    assert (random.getstate(), np.random.get_state()[1].tolist()) == states
    assert keras.config.floatx() == "float32"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_a_seed_gives_the_same_model_again(clouds, tmp_path):
    small = small_of(clouds)
    assert any(isinstance(layer, L.Dropout) for layer in small.layers)

    def trained(seed, verb="distill"):
        if verb == "distill":
            return nns.distill(small, clouds, (X, Y), epochs=2, seed=seed, held_out=0).model
        return nns.fine_tune(small, (X, Y), epochs=2, seed=seed, held_out=0).model

    for verb in ("distill", "fine_tune"):
        done, again, other = (trained(seed, verb) for seed in (7, 7, 8))
        assert weights_digest(done) == weights_digest(again) != weights_digest(other)
    path = tmp_path / "taught.keras"
    nns.save_model(done, path)
    back = nns.load_model(path)
    assert nns.lineage(back) == nns.lineage(done)
    np.testing.assert_array_equal(np.asarray(back(X)), np.asarray(done(X)))


@pytest.mark.slow
def test_what_makes_it_worse_is_not_kept(clouds):
    small = small_of(clouds)
    far = {"epochs": 9, "patience": 2, "optimizer": keras.optimizers.SGD(50.0)}
    for done in (
        nns.distill(small, clouds, (X, Y), **far),
        nns.fine_tune(small, (X, Y), **far),
    ):
        assert done.best_epoch == 0
        assert len(done.history["loss"]) == 2
        assert weights_digest(done.model) == weights_digest(small)
        assert done.gains[0].before == done.gains[0].after
        assert "kept the old weights of 2" in str(done)


@pytest.mark.slow
def test_the_best_epoch_is_kept_and_told(clouds):
    small = small_of(clouds, units=2)
    done = nns.distill(small, clouds, (X, Y), epochs=5, patience=None, batch_size=16)
    assert done.best_epoch == 1 + int(np.argmin(done.history["val_loss"]))
    assert done.gains[0].after == pytest.approx(min(done.history["val_loss"]))
    assert done.to_json()["history"]["loss"] == list(done.history["loss"])
    assert done.samples + done.held_out == len(X)
    without = nns.distill(small, clouds, (X, Y), held_out=0)
    assert (without.samples, without.held_out) == (len(X), 0)
    assert "measured on the same" in str(without)


@pytest.mark.slow
def test_callbacks_are_called_and_progress_is_silent(clouds, capfd):
    seen = []
    watch = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(epoch))
    small = small_of(clouds)
    nns.distill(small, clouds, (X, Y), epochs=2, callbacks=[watch])
    nns.fine_tune(small, (X, Y), epochs=2, callbacks=[watch])
    assert seen == [0, 1, 0, 1]
    assert capfd.readouterr().out == ""
    nns.fine_tune(small, (X, Y), verbose=True)
    assert "val_loss" in capfd.readouterr().out


@pytest.mark.slow
def test_batch_norms_can_be_frozen():
    model = parent(norm=True)
    small = small_of(model)
    for frozen in (True, False):
        for done in (
            nns.distill(small, model, (X, Y), freeze_batch_norm=frozen, held_out=0),
            nns.fine_tune(small, (X, Y), freeze_batch_norm=frozen, held_out=0),
        ):
            norm = done.model.get_layer("norm")
            same = [
                np.array_equal(a, b)
                for a, b in zip(
                    norm.get_weights(), small.get_layer("norm").get_weights(), strict=True
                )
            ]
            assert all(same) if frozen else not any(same)
            assert norm.trainable


@pytest.mark.slow
def test_functional_models_datasets_and_float16():
    start = keras.Input((6,), name="in")
    x = L.Dense(9, activation="relu", dtype="mixed_float16", name="one")(start)
    model = keras.Model(start, L.Dense(4, activation="softmax", dtype="float32", name="out")(x))
    small = small_of(model, "other", (1,))
    import tensorflow as tf

    for data in (
        tf.data.Dataset.from_tensor_slices((X, Y)).shuffle(400).batch(32),
        tf.data.Dataset.from_tensor_slices(X).batch(32),
        {"in": X},
    ):
        done = nns.distill(small, model, data, epochs=2)
        assert not isinstance(done.model, keras.Sequential)
        assert done.gains[0].after < done.gains[0].before


# Fine-tuning ------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("head", "loss", "metric"),
    [
        ("parent", "sparse_categorical_crossentropy", "accuracy"),
        ("labels", "sparse_categorical_crossentropy", "accuracy"),
        ("other", "sparse_categorical_crossentropy", "accuracy"),
        ("binary", "binary_crossentropy", "accuracy"),
        ("labels", "categorical_crossentropy", "categorical_accuracy"),
        ("other", "categorical_crossentropy", "categorical_accuracy"),
        ("binary", "categorical_crossentropy", "categorical_accuracy"),
        ("binary", "mse", "mae"),
    ],
)
def test_fine_tuning_keeps_how_it_was_compiled(clouds, head, loss, metric):
    model = copied(clouds)
    model.compile(keras.optimizers.SGD(0.05, momentum=0.5), loss, metrics=[metric])
    small = small_of(model, head, (1,) if head == "binary" else (1, 3), units=3)
    done = nns.fine_tune(small, (X, Y), epochs=3, batch_size=16)
    assert done.gains[0].measure == "loss"
    assert done.gains[0].after < done.gains[0].before
    assert done.model.optimizer.get_config() == model.optimizer.get_config()
    named = {"binary_crossentropy", "accuracy"} if "categorical" in loss else {loss, metric}
    assert {done.model.loss} <= (named if head == "binary" else {loss})
    assert any(name in done.history for name in ({metric} if head != "binary" else named))
    if head == "labels":
        assert done.samples + done.held_out < len(X)
    record = nns.lineage(done.model)
    assert replace(record, balanced=None) == nns.lineage(small)
    assert (record.balanced is not None) == (head in ("other", "binary"))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Model 'clouds' answers this data as by chance")
def test_a_loss_for_logits_becomes_one_for_probabilities(clouds):
    """The parent ends in logits; a head that sums probabilities gives none."""
    model = parent("linear")
    cross = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", cross, metrics=[keras.metrics.SparseCategoricalAccuracy()])
    wanted = {"parent": True, "labels": True, "other": False}
    for head, logits in wanted.items():
        small = small_of(model, head, (1, 3))
        assert small.loss.get_config()["from_logits"] is logits
    yes_or_no = small_of(model, "binary").loss
    assert isinstance(yes_or_no, keras.losses.BinaryCrossentropy)
    assert yes_or_no.get_config()["from_logits"] is False


@pytest.mark.slow
def test_fine_tuning_needs_no_lineage_and_no_compile():
    for end, width in (
        ("softmax", 4),
        ("linear", 4),
        ("sigmoid", 1),
        ("linear", 1),
        ("sigmoid", 4),
    ):
        model = parent(end, width=width)
        done = nns.fine_tune(model, (X, Y % max(width, 2)), epochs=2, batch_size=16)
        assert done.gains[0].after < done.gains[0].before
        assert not model.compiled
    several = np.stack([Y == 0, Y > 1, Y < 2, Y == 3], axis=1).astype("int8")
    done = nns.fine_tune(parent("sigmoid"), (X, several), epochs=2, batch_size=16)
    assert done.gains[0].after < done.gains[0].before


@pytest.mark.slow
def test_distilling_answers_that_stand_alone():
    model = parent("sigmoid")
    several = (np.asarray(model(X)) > 0.5).astype("int8")
    for head, labels in (("parent", (1,)), ("labels", (0, 2)), ("binary", (1,))):
        small = small_of(model, head, labels, units=3)
        for data in ((X, several), X):
            done = nns.distill(small, model, data, epochs=3, batch_size=16)
            assert done.gains[0].after < done.gains[0].before


@pytest.mark.slow
def test_distilling_a_number():
    model = parent("linear", width=1)
    activity = nns.observe(model, (X, Y % 2), verbose=False)
    small = nns.cut(model, nns.select(activity, labels=1, keep=nns.top(6), score="mean_activation"))
    done = nns.distill(small, model, X, epochs=5, batch_size=16, held_out=0.3)
    gap = done.gains[0]
    assert gap.after < gap.before


# The feed ---------------------------------------------------------------------------------------


def feed_of(y, *, block=None, monkeypatch=None, **options):
    if block:
        monkeypatch.setattr(sampling, "BLOCK", block)
    y = np.asarray(y)
    numbers = np.arange(len(y), dtype=np.float32)[:, None]

    def batches():
        return (Batch(numbers[i : i + 8], y[i : i + 8]) for i in range(0, len(y), 8))

    setting = {"batch_size": 10, "seed": 0, "shuffle": True, "balance": False, "constant": True}
    return sampling.Feed(
        batches, lambda batch: (batch.labels >= 0, batch.labels), **{**setting, **options}
    )


def drawn(feed):
    batches = [(x.numpy()[:, 0], y.numpy()) for x, y in feed.dataset()]
    return [len(y) for _, y in batches], *map(np.concatenate, zip(*batches, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("block", [None, 100])
@pytest.mark.parametrize("constant", [True, False])
def test_an_epoch_is_every_sample_once_in_a_new_order(block, constant, monkeypatch):
    y = np.where(np.arange(57) % 5 == 0, -1, np.arange(57))
    feed = feed_of(y, block=block, monkeypatch=monkeypatch, constant=constant)
    dataset = feed.dataset()
    assert int(dataset.cardinality()) == 5
    sizes, x, drawn_y = drawn(feed)
    _, second, _ = drawn(feed)
    # 45 samples: the last batch is filled up with five of them.
    assert sizes == [10] * 5
    np.testing.assert_array_equal(x, drawn_y)
    assert sorted(x[:45]) == sorted(second[:45]) == sorted(y[y >= 0])
    assert set(x[45:]) <= set(x[:45])
    assert list(x) != list(second)
    again = feed_of(y, block=block, monkeypatch=monkeypatch, constant=constant)
    np.testing.assert_array_equal(drawn(again)[1], x)


def test_what_is_no_full_batch_stays_alone():
    sizes, x, _ = drawn(feed_of(np.arange(7)))
    assert sizes == [7] and sorted(x) == list(range(7))
    sizes, x, _ = drawn(feed_of(np.arange(25), shuffle=False))
    assert sizes == [10, 10, 5] and list(x) == list(range(25))


@pytest.mark.slow
def test_balance_draws_every_answer_equally_often():
    y = np.repeat([0, 1], [950, 50])
    _, _, found = drawn(feed_of(y, balance=True))
    assert len(found) == 1000
    assert abs(found.mean() - 0.5) < 0.06
    calm = feed_of(y, balance=True, shuffle=False)
    np.testing.assert_array_equal(drawn(calm)[1], drawn(calm)[1])


def test_what_is_judged_by_has_every_sample_of_the_rare_alike():
    y = np.repeat([0, 1, 2], [70, 25, 5])
    _, x, found = drawn(feed_of(y, balance=True, shuffle=False))
    assert sorted(np.bincount(found)) == [33, 33, 34]
    times = np.bincount(x.astype(int), minlength=100)
    # Samples of what is common are spread over all of it, those of what is rare taken in turn.
    assert set(times[:70]) == {0, 1} and np.ptp(np.flatnonzero(times[:70])) >= 65
    assert set(times[70:95]) == {1, 2} and set(times[95:]) == {6, 7}


# Wrong use --------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0}, "temperature"),
        ({"alpha": 1.5}, "alpha"),
        ({"epochs": 0}, "epochs=0"),
        ({"batch_size": 1.5}, "batch_size=1.5"),
        ({"patience": 0}, "patience"),
        ({"held_out": 1.0}, "held_out"),
    ],
)
def test_options_that_make_no_sense(clouds, options, message):
    with pytest.raises(nns.NNSError, match=message):
        nns.distill(small_of(clouds), clouds, (X, Y), **options)


@pytest.mark.slow
def test_wrong_use(clouds):
    small = small_of(clouds)
    with pytest.raises(nns.errors.PlanError, match="does not say which model"):
        nns.distill(clouds, clouds, (X, Y))
    with pytest.raises(nns.errors.PlanError, match="not cut from"):
        nns.distill(small, parent(width=3), (X, Y))
    with pytest.raises(nns.errors.DataError, match="balance=True"):
        nns.distill(small, clouds, X, balance=True)
    with pytest.raises(nns.errors.DataError, match="10 samples of every answer"):
        nns.distill(small, clouds, (X[:6], Y[:6]))
    few = np.concatenate([np.flatnonzero(Y != 1), np.flatnonzero(Y == 1)[:1]])
    with pytest.raises(nns.errors.DataError, match=r"at least 2 samples of every answer.*'1'"):
        nns.distill(small, clouds, (X[few], Y[few]))
    with pytest.raises(nns.errors.DataError, match=r"at least 2 samples of every answer.*'1'"):
        nns.fine_tune(small, (X[few], Y[few]))
    with pytest.raises(nns.errors.DataError, match="no labels"):
        nns.fine_tune(small, X)
    frozen = copied(small)
    frozen.trainable = False
    with pytest.raises(nns.errors.ModelError, match="no weights to train"):
        nns.fine_tune(frozen, (X, Y))
    with pytest.raises(nns.errors.DataError, match="read once"):
        nns.fine_tune(small, iter([(X, Y)]))
