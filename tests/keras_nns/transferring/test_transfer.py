"""Feature extraction, new heads and transfer: by numpy and scikit-learn, and what must not move."""

from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as L
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import keras_nns as nns
from keras_nns.graph.tracing import weights_digest

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)
CENTRES = np.random.default_rng(3).normal(size=(4, 6, 6, 1))


def images(count=240, seed=0, labels=4):
    """Noisy pictures of four kinds."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, labels, count)
    x = CENTRES[y] + rng.normal(0, 0.7, (count, 6, 6, 1))
    return x.astype("float32"), y


def network(*, norm=True, dropout=0.0):
    """A small convolutional network with weights that are not those of a fresh one."""
    inputs = keras.Input((6, 6, 1), name="image")
    x = L.Conv2D(4, 3, name="conv", use_bias=not norm)(inputs)
    if norm:
        x = L.BatchNormalization(name="norm")(x)
    x = L.ReLU(name="relu")(x)
    x = L.Flatten(name="flat")(x)
    if dropout:
        x = L.Dropout(dropout, name="dropout")(x)
    x = L.Dense(8, activation="relu", name="hidden")(x)
    model = keras.Model(inputs, L.Dense(3, activation="softmax", name="answer")(x), name="net")
    rng = np.random.default_rng(7)
    for variable in model.variables:
        if "seed" not in variable.name:
            variable.assign(np.abs(rng.normal(0.1, 0.4, variable.shape)) if "norm" in variable.path
                            else rng.normal(0, 0.4, variable.shape))  # fmt: skip
    return model


@pytest.fixture(scope="module")
def parent():
    return network()


@pytest.fixture(scope="module")
def three(parent):
    x, y = images(labels=3)
    activity = nns.observe(parent, x, y, verbose=False)
    plan = nns.select(activity, 2, score=nns.scores.contrast, keep=nns.fraction(0.5))
    return nns.cut(parent, plan, head="binary")


def weights(model):
    return {v.path: v.numpy() for v in model.variables if "seed" not in v.name}


# Features ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_features_are_what_the_layers_give(parent):
    x, y = images(50)
    extractor = nns.feature_extractor(parent)
    conv, norm, hidden = (parent.get_layer(n) for n in ("conv", "norm", "hidden"))
    kernel = conv.kernel.numpy()[..., 0, :]
    seen = np.array(
        [[[np.tensordot(image[i : i + 3, j : j + 3, 0], kernel, 2) for j in range(4)]
          for i in range(4)] for image in x.astype(np.float64)]
    )  # fmt: skip
    gamma, beta, mean, variance = (np.asarray(v, np.float64) for v in norm.variables)
    seen = np.maximum((seen - mean) / np.sqrt(variance + norm.epsilon) * gamma + beta, 0)
    wanted = seen.reshape(50, -1)
    found, labels = nns.features(extractor, x, y, batch_size=16, verbose=False)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(labels, y)
    # Also while something behind it is trained: batch norms do not look at the batch.
    np.testing.assert_allclose(extractor(x, training=True), wanted, rtol=1e-4, atol=1e-4)
    assert extractor.trainable_variables == []
    later = np.maximum(wanted @ hidden.kernel.numpy() + hidden.bias.numpy(), 0)
    extractor = nns.feature_extractor(parent, "hidden")
    np.testing.assert_allclose(extractor(x), later, rtol=1e-4, atol=1e-4)
    pooled = nns.feature_extractor(parent, "relu", pooling="avg")
    np.testing.assert_allclose(pooled(x), seen.mean(axis=(1, 2)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("below", "dense", "wanted"),
    [
        ([L.Conv2D(2, 3), L.Flatten(name="flat")], ["a", "b"], "flat"),
        ([L.Conv2D(2, 3), L.GlobalMaxPooling2D(name="pool")], [], "pool"),
        ([L.Reshape((6, 6)), L.GRU(3, name="gru")], ["a"], "gru"),
        # Nothing below the Dense layers was learnt: the last that is not the head it is.
        ([L.Flatten()], ["a", "b"], "b"),
        ([L.Normalization(mean=0.1, variance=2.0), L.Flatten()], ["a"], "a"),
        ([L.Flatten(name="inputs")], [], "inputs"),
    ],
)
def test_features_are_general(below, dense, wanted):
    stack = [keras.Input((6, 6, 1)), *below]
    for name in dense:
        stack += [L.Dense(4, name=name), L.BatchNormalization(), L.ReLU(), L.Dropout(0.5)]
    model = keras.Sequential([*stack, L.Dense(3, "softmax")])
    names = [layer.name for layer in nns.feature_extractor(model).layers]
    last = model.layers[
        [layer.name for layer in model.layers].index(wanted) + 3 * (wanted in dense)
    ]
    assert names[-1] == last.name


@pytest.mark.slow
def test_an_extractor_shares_nothing_and_remembers(three, tmp_path):
    before = weights_digest(three)
    extractor = nns.feature_extractor(three)
    for variable in extractor.variables:
        variable.assign(variable + 1)
    assert weights_digest(three) == before
    assert nns.lineage(extractor).plan == nns.lineage(three).plan
    nns.save_model(extractor, tmp_path / "e.keras")
    again = nns.load_model(tmp_path / "e.keras")
    assert nns.lineage(again) == nns.lineage(extractor)
    x, _ = images(9)
    np.testing.assert_array_equal(again(x), extractor(x))


@pytest.mark.slow
def test_features_of_any_data_and_names(parent, tmp_path):
    x, y = images(40)
    names = np.array(["d", "b", "c", "a"])
    extractor = nns.feature_extractor(parent)
    wanted = extractor.predict(x, verbose=0)
    stream = tf.data.Dataset.from_tensor_slices((x, y)).batch(7)
    found, labels = nns.features(extractor, stream, label_count=4, verbose=False)
    np.testing.assert_allclose(found, wanted, rtol=1e-6)
    np.testing.assert_array_equal(labels, y)
    _, labels = nns.features(extractor, x, names[y], verbose=False)
    np.testing.assert_array_equal(labels, np.array([3, 1, 2, 0])[y])
    with pytest.raises(nns.errors.DataError, match="label_names or label_count"):
        nns.features(extractor, stream, verbose=False)


@pytest.mark.slow
def test_a_feature_dataset_computes_once(parent, tmp_path):
    x, y = images(30)
    extractor = nns.feature_extractor(parent)
    passes = []

    def batches():
        passes.append(1)
        yield from ((x[i : i + 8], y[i : i + 8]) for i in range(0, 30, 8))

    ready = nns.feature_dataset(
        extractor, batches, cache=tmp_path / "cache", label_count=4
    )  # fmt: skip
    wanted = extractor.predict(x, verbose=0)
    for _ in range(3):
        found = list(ready.as_numpy_iterator())
        np.testing.assert_allclose(np.concatenate([f for f, _ in found]), wanted, rtol=1e-6)
        np.testing.assert_array_equal(np.concatenate([f for _, f in found]), y)
    assert len(passes) == 2  # One to look at the labels, one to compute.
    with pytest.raises(nns.errors.DataError, match="read once"):
        nns.feature_dataset(extractor, batches(), cache=tmp_path / "cache", label_count=4)


def test_extractors_refuse(parent):
    with pytest.raises(nns.errors.SurgeryError, match=r"No layer is named 'none'.*'conv'"):
        nns.feature_extractor(parent, "none")
    with pytest.raises(nns.errors.SurgeryError, match="pooling='avg' for features of shape"):
        nns.feature_extractor(parent, pooling="avg")
    headless = keras.Sequential([keras.Input((6,)), L.Dense(3), L.LayerNormalization()])
    with pytest.raises(nns.errors.SurgeryError, match=r"does not end in a Dense.*up_to"):
        nns.feature_extractor(headless)
    x, y = images(9)
    with pytest.raises(nns.errors.DataError, match=r"6, 6, 1"):
        nns.features(nns.feature_extractor(parent), x[:, :5], y, verbose=False)


# Heads ------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("labels", [2, 4])
@pytest.mark.parametrize("scaled", [False, True])
def test_a_logistic_regression_becomes_a_layer(parent, labels, scaled):
    x, y = images(labels=labels)
    names = list("dbca")[:labels]
    extractor = nns.feature_extractor(parent)
    seen, numbers = nns.features(extractor, x, y, verbose=False)
    probe = LogisticRegression(max_iter=2000)
    probe = make_pipeline(StandardScaler(), probe) if scaled else probe
    probe.fit(seen, numbers)
    model = nns.attach_head(extractor, names, probe)
    np.testing.assert_allclose(model(x), probe.predict_proba(seen), atol=2e-5)
    probe.fit(seen, np.array(names)[y])
    order = [sorted(names).index(name) for name in names]
    model = nns.attach_head(extractor, names, probe)
    np.testing.assert_allclose(model(x), probe.predict_proba(seen)[:, order], atol=2e-5)
    judged = nns.evaluate(model, images(100, seed=1, labels=labels))
    assert [row.name for row in judged.rows] == names
    assert judged.accuracy > 0.7
    ridge = RidgeClassifier().fit(seen, numbers)
    model = nns.attach_head(extractor, names, ridge)
    np.testing.assert_array_equal(np.argmax(model(x), axis=1), ridge.predict(seen))


@pytest.mark.slow
def test_heads_refuse(parent):
    x, y = images(60)
    extractor = nns.feature_extractor(parent)
    seen, numbers = nns.features(extractor, x, y, verbose=False)
    attach = nns.attach_head
    with pytest.raises(nns.errors.DataError, match=r"must differ. Received twice: a"):
        attach(extractor, ["a", "b", "a"])
    with pytest.raises(nns.errors.DataError, match="at least two"):
        attach(extractor, ["a"])
    with pytest.raises(nns.errors.DataError, match="list of names"):
        attach(extractor, "ab")
    with pytest.raises(nns.errors.SurgeryError, match="linear classifiers that are fitted"):
        attach(extractor, list("abcd"), KNeighborsClassifier().fit(seen, numbers))
    with pytest.raises(nns.errors.SurgeryError, match="linear classifiers that are fitted"):
        attach(extractor, list("abcd"), LogisticRegression())
    probe = LogisticRegression(max_iter=500).fit(seen[:, :5], numbers)
    with pytest.raises(
        nns.errors.SurgeryError, match="fitted on 5 features, and the extractor gives 64"
    ):
        attach(extractor, list("abcd"), probe)
    probe = LogisticRegression(max_iter=500).fit(seen, numbers)
    with pytest.raises(nns.errors.SurgeryError, match=r"tells 4 labels apart.*has 3"):
        attach(extractor, list("abc"), probe)
    with pytest.raises(nns.errors.SurgeryError, match=r"must answer 3 labels.*None, 5"):
        attach(extractor, list("abc"), L.Dense(5))
    wrong = keras.Sequential([keras.Input((7,)), L.Dense(3)])
    with pytest.raises(nns.errors.SurgeryError, match="does not take features of shape"):
        attach(extractor, list("abc"), wrong)


def test_a_head_of_ones_own(parent):
    x, _ = images(9)
    own = keras.Sequential([keras.Input((64,)), L.Dense(5), L.ReLU(), L.Dense(2)], name="own")
    extractor = nns.feature_extractor(parent)
    model = nns.attach_head(extractor, ["a", "b"], own)
    np.testing.assert_allclose(model(x), own(extractor(x)), rtol=1e-6)
    assert nns.lineage(model).label_names == ("a", "b")


# Transfer ---------------------------------------------------------------------------------------

X, Y = images(200, seed=2)
KINDS = ["a", "b", "c", "d"]


@pytest.mark.slow
def test_the_head_alone_is_a_softmax_regression(parent):
    """Plain gradient descent, by hand, on all samples at once."""
    done = nns.transfer(
        parent, X, Y, rates=[0.1], epochs=3, held_out=0, optimizer="sgd", batch_size=200
    )
    extractor = nns.feature_extractor(parent)
    h = extractor.predict(X, verbose=0).astype(np.float64)
    kernel = np.asarray(nns.attach_head(extractor, KINDS).get_layer("answer").kernel, np.float64)
    bias = np.zeros(4)
    for _ in range(3):
        z = h @ kernel + bias
        p = np.exp(z - z.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        error = (p - np.eye(4)[Y]) / len(Y)
        kernel, bias = kernel - 0.1 * h.T @ error, bias - 0.1 * error.sum(axis=0)
    answer = done.model.layers[-1]
    np.testing.assert_allclose(answer.kernel, kernel, atol=1e-5)
    np.testing.assert_allclose(answer.bias, bias, atol=1e-5)


@pytest.mark.slow
def test_only_what_is_unfrozen_moves_and_batch_norms_never(three):
    """Stage by stage from the top; the user's network stays as it is, bit for bit."""
    before, digest = weights(three), weights_digest(three)
    random.seed(5), np.random.seed(5)
    states = random.getstate(), np.random.get_state()[1].tolist()
    moved = []
    for rates in ([0.05], [0.05, 0.01], [0.05, 0.01, 0.01]):
        done = nns.transfer(
            three, X, Y, label_names=KINDS, rates=rates, epochs=2, patience=None, up_to="hidden"
        )
        after = weights(done.model)
        body = [path for path in before if path in after and not path.startswith("answer")]
        moved.append({path for path in body if not np.array_equal(before[path], after[path])})
        frozen = [p for p in before if p.startswith("norm")]
        assert all(np.array_equal(before[p], after[p]) for p in frozen)
        assert len(done.stages) == len(rates)
    assert moved[0] == set()
    assert moved[1] == {"conv/kernel", "hidden/kernel", "hidden/bias"}
    assert moved[2] == moved[1]
    assert [stage.trained for stage in done.stages] == [
        ("answer",), ("hidden", "answer"), ("conv", "hidden", "answer"),
    ]  # fmt: skip
    assert weights_digest(three) == digest
    assert (random.getstate(), np.random.get_state()[1].tolist()) == states


@pytest.mark.slow
def test_a_transfer_learns_remembers_and_is_an_ordinary_model(three, tmp_path):
    done = nns.transfer(three, X, np.array(KINDS)[Y], rates=[0.02, 0.002], epochs=15)
    test = images(200, seed=9)
    figures = nns.evaluate(done.model, test)
    assert figures.accuracy > 0.8
    assert [row.name for row in figures.rows] == KINDS
    assert all(s.course.after <= s.course.before for s in done.stages)
    assert "Taught a, b, c, d from" in str(done)
    assert done.to_json()["stages"][0]["history"]["loss"]
    nns.save_model(done.model, tmp_path / "taught.keras")
    again = nns.load_model(tmp_path / "taught.keras")
    record = nns.lineage(again)
    assert (record.taught, record.label_names) == (True, tuple(KINDS))
    assert record.plan == nns.lineage(three).plan
    again.fit(X, Y, verbose=0)  # Compiled.
    assert nns.evaluate(again, test[0], np.array(KINDS)[test[1]]).accuracy > 0.7
    # It is cut as any other.
    plan = nns.select(
        nns.observe(again, X, Y, verbose=False), 1, keep=nns.fraction(0.5), score="mean_activation"
    )
    assert nns.prove(again, plan, samples=X[:9]).exact
    with pytest.raises(nns.errors.DataError, match="observed, repaired or trained with"):
        nns.evaluate(done.model, X, Y)
    with pytest.raises(nns.errors.PlanError, match="taught other labels"):
        nns.repair(done.model, network(), X, Y)
    with pytest.raises(nns.errors.SelectionError, match="taught other labels"):
        nns.compare(network(), done.model, test)


@pytest.mark.slow
def test_plain_keras_does_the_same(parent):
    """The recipe of the docs, with nothing of this package but the two models."""
    done = nns.transfer(
        parent, X, Y, rates=[0.1, 0.01], epochs=1, held_out=0, batch_size=200, optimizer="sgd"
    )
    model = nns.attach_head(nns.feature_extractor(parent), KINDS)
    loss = "sparse_categorical_crossentropy"
    model.compile(keras.optimizers.SGD(0.1), loss)
    model.fit(X, Y, batch_size=200, verbose=0)
    for layer in model.layers:
        layer.trainable = not isinstance(layer, L.BatchNormalization)
    model.compile(keras.optimizers.SGD(0.01), loss)
    model.fit(X, Y, batch_size=200, verbose=0)
    for one, other in zip(model.variables, done.model.variables, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        ({"rates": []}, nns.errors.SurgeryError, "`rates` has a learning rate"),
        (
            {"rates": [0.1], "epochs": [1, 2]},
            nns.errors.SurgeryError,
            "`rates` has a learning rate",
        ),
        ({"rates": [-1.0]}, nns.errors.SurgeryError, "above 0"),
        (
            {"rates": [0.1] * 5},
            nns.errors.SurgeryError,
            r"4 stages behind.*1 layer\(s\) that can learn",
        ),
        ({"epochs": 0}, nns.errors.SurgeryError, "`epochs` must be a whole number"),
        ({"held_out": 1.0}, nns.errors.DataError, "held_out"),
        ({"label_names": ["a", "a", "c", "d"]}, nns.errors.DataError, "every label once"),
        ({"label_names": [*KINDS, "e"]}, nns.errors.DataError, "0 of 'e'"),
        ({"label_names": ["a", "b"]}, nns.errors.DataError, "outside the model's 2 labels"),
        ({"head": L.Dense(4, activation="sigmoid")}, nns.errors.SurgeryError, "ends in a sigmoid"),
        ({"head": L.Dense(3)}, nns.errors.SurgeryError, "must answer 4 labels"),
        ({"up_to": "none"}, nns.errors.SurgeryError, "No layer is named"),
    ],
)
def test_transfers_refuse(parent, wrong, error, words):
    with pytest.raises(error, match=words):
        nns.transfer(parent, X, Y, **wrong)


def test_transfers_refuse_other_shapes(parent):
    with pytest.raises(nns.errors.DataError, match="6, 6, 1"):
        nns.transfer(parent, X[:, :, :5], Y)


# Resuming ---------------------------------------------------------------------------------------

HOW = {"rates": [0.05, 0.01], "epochs": 3, "patience": 2, "label_names": KINDS, "held_out": 0.25}


class Stop(keras.callbacks.Callback):
    """Stops a training at one moment: by an error, or by a kill that nothing can catch."""

    def __init__(self, moment, *, kill=False):
        super().__init__()
        self.left, self.kill = moment, kill

    def _moment(self, *_, **__):
        self.left -= 1
        if self.left == 0:
            if self.kill:
                os.kill(os.getpid(), signal.SIGKILL)
            raise KeyboardInterrupt

    on_epoch_begin = on_train_batch_end = on_epoch_end = on_train_end = _moment


def taught(model, **options):
    return nns.transfer(model, X, Y, **{**HOW, **options})


def same(one, other):
    for a, b in zip(one.model.variables, other.model.variables, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
    # As text, where a figure that is not there equals another.
    assert repr(one.stages) == repr(other.stages)


@pytest.mark.slow
@pytest.mark.parametrize("held_out", [0.25, 0])
def test_a_stopped_transfer_goes_on_to_the_same_end(held_out, tmp_path):
    """Stopped at moments of every kind, again and again, with dropout and momentum."""
    model = network(dropout=0.3)
    whole = taught(model, held_out=held_out)
    path = tmp_path / "going.npz"
    stops = 0
    # An epoch has five moments: its begin, three or four steps, its end.
    for moment in itertools.islice(itertools.cycle((8, 1, 6, 11, 4)), 40):
        try:
            done = taught(model, held_out=held_out, checkpoint=path, callbacks=[Stop(moment)])
            break
        except KeyboardInterrupt:
            stops += 1
    assert stops >= 4
    same(done, whole)
    same(taught(model, held_out=held_out, checkpoint=path), whole)  # After the end: the same again.


@pytest.mark.slow
def test_checkpoints_of_other_trainings_are_refused(tmp_path):
    model, path = network(dropout=0.3), tmp_path / "going.npz"
    short = {"checkpoint": path, "epochs": 1}
    taught(model, **short)
    with pytest.raises(
        nns.errors.FileError, match="another training: it differs in options, stages"
    ):
        taught(model, **short, rates=[0.05], patience=3)
    with pytest.raises(nns.errors.FileError, match="differs in model"):
        taught(network(), **short)
    with pytest.raises(nns.errors.FileError, match="differs in samples"):
        nns.transfer(model, X[:-9], Y[:-9], **{**HOW, **short})
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(nns.errors.FileError, match="damaged"):
        taught(model, **short)


def killed_while_writing(number, *, before):
    """Let the system kill this process as a checkpoint takes the old one's place, or after."""
    put, left = Path.replace, [number]

    def replace(path, target):
        left[0] -= Path(target).name == "going.npz"
        if left[0] == 0 and before:
            os.kill(os.getpid(), signal.SIGKILL)
        put(path, target)
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    Path.replace = replace


@pytest.mark.slow
def test_a_killed_transfer_goes_on_to_the_same_end(tmp_path):
    """Killed by the system in an epoch, and as a checkpoint is written, before and after.

    Each process goes on where the last was killed.
    """
    model = network(dropout=0.3)
    path = tmp_path / "going.npz"
    for how in (
        "stop = t.Stop(9, kill=True)",
        "t.killed_while_writing(1, before=True)",
        "t.killed_while_writing(3, before=False)",
    ):
        code = (
            "import sys; sys.path.insert(0, sys.argv[1])\n"
            "import test_transfer as t\n"
            "model, stop = t.network(dropout=0.3), t.Stop(0)\n"
            f"{how}\n"
            "t.taught(model, checkpoint=sys.argv[2], callbacks=[stop])\n"
        )
        here = str(Path(__file__).parent)
        command = [sys.executable, "-c", code, here, str(path)]
        run = subprocess.run(command, capture_output=True, check=False)
        assert run.returncode == -signal.SIGKILL, how
        assert path.exists()
    same(taught(model, checkpoint=path), taught(model))
