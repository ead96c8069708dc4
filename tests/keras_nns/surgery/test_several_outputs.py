"""One head of several is narrowed, in detectors and elsewhere; the others answer as before."""

from __future__ import annotations

import json
import re

import keras
import numpy as np
import pytest
from keras import layers as L
from sklearn.metrics import jaccard_score

import keras_nns as nns
import tflite_export
from keras_nns.cli import main
from keras_nns.shipping.tflite_files import extras

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)

CLASSES, OWN = 5, [1, 3]
RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(48, 8, 8, 3)).astype("float32")
CLOSE = {"rtol": 1e-4, "atol": 1e-6}


def body():
    start = keras.Input((8, 8, 3))
    small = L.Conv2D(6, 3, strides=2, padding="same", activation="relu", name="small")(start)
    large = L.Conv2D(8, 3, strides=2, padding="same", activation="relu", name="large")(small)
    return start, small, large


def scales():
    """As SSD: a head of three anchors on each of two scales, their anchors joined."""
    start, *found = body()
    heads = {"class_scores": [], "boxes": []}
    for name, width in (("class_scores", CLASSES), ("boxes", 4)):
        for number, features in enumerate(found):
            kernel = L.Conv2D(3 * width, 3, padding="same", name=f"{name}_{number}")(features)
            heads[name].append(L.Reshape((-1, width))(kernel))
    scores = L.Concatenate(axis=1)(heads["class_scores"])
    boxes = L.Concatenate(axis=1, name="boxes")(heads["boxes"])
    return keras.Model(start, {"class_scores": L.Softmax(name="class_scores")(scores),
                               "boxes": boxes})  # fmt: skip


def slices():
    """As YOLO: boxes, whether there is anything, and classes are slices of one convolution."""
    start, _, large = body()
    every = L.Reshape((2, 2, 2, 5 + CLASSES))(L.Conv2D(2 * (5 + CLASSES), 1, name="out")(large))
    scores = L.Activation("sigmoid", name="class_scores")(every[..., 5:])
    there = L.Activation("sigmoid", name="there")(every[..., 4:5])
    return keras.Model(start, {"class_scores": scores, "there": there,
                               "boxes": L.Identity(name="boxes")(every[..., :4])})  # fmt: skip


def anchors():
    """A Dense at every anchor, in a list of outputs."""
    start, _, large = body()
    hidden = L.Dense(8, activation="relu", name="hidden")(L.Reshape((4, 8))(large))
    scores = L.Dense(CLASSES, activation="softmax", name="class_scores")(hidden)
    return keras.Model(start, [L.Dense(4, name="boxes")(hidden), scores])


def whole_images():
    """Kind, yes or no, and numbers, of a whole image; the dictionary has other keys."""
    start, _, large = body()
    pooled = L.GlobalAveragePooling2D()(large)
    scores = L.Dense(CLASSES, activation="softmax", name="class_scores")(pooled)
    ill = L.Dense(1, activation="sigmoid", name="ill")(pooled)
    return keras.Model(start, {"kind": scores, "sick": ill, "where": L.Dense(2)(pooled)})


MODELS = {"scales": scales, "slices": slices, "anchors": anchors, "whole images": whole_images}


def made(name):
    keras.utils.set_random_seed(1)
    model = MODELS[name]()
    for layer in model.layers:
        if layer.weights:
            layer.set_weights([RANDOM.normal(size=w.shape) / 3 for w in layer.get_weights()])
    return model


def plan_of(model):
    images = np.arange(len(X)) % CLASSES
    activity = nns.observe(model, (X, images), label_count=CLASSES, verbose=False)
    return nns.select(activity, OWN, keep=nns.fraction(0.5), score="mean_activation")


def by_name(model, outputs):
    flat = keras.tree.flatten(outputs)
    return {name: np.asarray(one) for name, one in zip(model.output_names, flat, strict=True)}


def oracle(scores, head, *, sigmoid):
    """What numpy makes of the scores that the masked parent gives."""
    chosen = scores[..., OWN]
    if head == "labels":
        return chosen if sigmoid else chosen / chosen.sum(-1, keepdims=True)
    if head == "binary":
        return chosen.sum(-1, keepdims=True)
    return np.concatenate([chosen, 1 - chosen.sum(-1, keepdims=True)], axis=-1)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_one_head_is_narrowed_and_the_others_answer_as_before(name):
    model = made(name)
    plan = plan_of(model)
    masked = by_name(model, nns.mask(model, plan)(X))
    sigmoid = name == "slices"
    for head in ("labels",) if sigmoid else ("labels", "other", "binary"):
        small = nns.cut(model, plan, head=head, output="class_scores")
        found = by_name(model, small(X))
        wanted = {**masked, "class_scores": oracle(masked["class_scores"], head, sigmoid=sigmoid)}
        for output, given in found.items():
            np.testing.assert_allclose(given, wanted[output], **CLOSE)
        assert small.count_params() < model.count_params()
        assert isinstance(small.output, type(model.output))
        record = nns.lineage(small)
        assert (record.output, record.head, record.plan) == ("class_scores", head, plan)
        proof = nns.prove(model, plan, head=head, output="class_scores", samples=X)
        assert proof.exact and proof.varied


@pytest.mark.slow
def test_what_another_output_reads_of_a_head_is_refused_with_a_way_on():
    start, _, large = body()
    scores = L.Dense(CLASSES, activation="softmax", name="class_scores")(L.Reshape((4, 8))(large))
    best = L.Dense(2, name="best")(scores)
    model = keras.Model(start, [scores, best])
    with pytest.raises(nns.errors.SurgeryError, match="head='parent' or head='other'"):
        nns.cut(model, plan_of(model), head="labels", output="class_scores")
    nns.cut(model, plan_of(model), head="other", output="class_scores", prove=True)


def targets(name, model):
    """Targets as Keras's fit takes them, in the structure of the outputs."""
    found = {}
    for key, output in zip(model.output_names, model.outputs, strict=True):
        shape = (len(X), *output.shape[1:])
        found[key] = RANDOM.normal(size=shape).astype("float32")
    width = found["class_scores"].shape[:-1]
    found["class_scores"] = RANDOM.integers(0, CLASSES, width)
    if name == "anchors":
        return found, [found[key] for key in model.output_names]
    if name == "whole images":
        keys = {"class_scores": "kind", "ill": "sick"}
        return found, {keys.get(key, "where"): one for key, one in found.items()}
    return found, found


def compiled(model, name):
    losses = dict.fromkeys(("class_scores", "kind"), keras.losses.SparseCategoricalCrossentropy())
    keys = [*model.output] if isinstance(model.output, dict) else model.output_names
    loss = {key: losses.get(key, "mean_absolute_error") for key in keys}
    if name == "anchors":
        loss = [loss[key] for key in model.output_names]
    model.compile(keras.optimizers.SGD(0.1), loss)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["scales", "anchors", "whole images"])
def test_losses_of_the_other_heads_stay(name):
    model = made(name)
    compiled(model, name)
    small = nns.cut(model, plan_of(model), head="binary", output="class_scores")
    config = small.get_compile_config()["loss"]
    own = {"whole images": "kind", "anchors": 1}.get(name, "class_scores")
    changed = config[own]
    assert changed["class_name"] == "BinaryCrossentropy"
    others = [config[i] for i in (config if isinstance(config, dict) else range(2)) if i != own]
    assert others and all(one == "mean_absolute_error" for one in others)
    alone, given = targets(name, model)
    yes = np.isin(alone["class_scores"], OWN).astype("float32")[..., None]
    if isinstance(given, dict):
        given = {**given, own: yes}
    else:
        given[own] = yes
    small.fit(X, given, verbose=0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "form"),
    [
        *[("scales", form) for form in ("arrays", "generator", "PyDataset", "one output")],
        *[(name, form) for name in ("anchors", "whole images") for form in ("arrays", "dataset")],
    ],
)
def test_data_for_all_outputs_is_read_for_the_one_that_answers(name, form):
    model = made(name)
    alone, given = targets(name, model)
    own = alone["class_scores"]

    class Set(keras.utils.PyDataset):
        num_batches = 3

        def __getitem__(self, i):
            some = slice(16 * i, 16 * i + 16)
            return X[some], keras.tree.map_structure(lambda t: t[some], given)

    data = {
        "arrays": lambda: (X, given),
        "dataset": lambda: dataset(given),
        "generator": lambda: lambda: (Set()[i] for i in range(3)),
        "PyDataset": Set,
        "one output": lambda: (X, own),
    }[form]()
    activity = nns.observe(model, data, output="class_scores", verbose=False)
    flat = own.reshape(len(X), -1)
    there = [(flat == label).any(axis=1).sum() for label in range(CLASSES)]
    assert activity.samples.tolist() == there
    plan = nns.select(activity, OWN, keep=nns.fraction(0.5), score="mean_activation")
    small = nns.cut(model, plan, head="labels", output="class_scores")
    figures = nns.evaluate(small, data, allow_overlap=True)
    said = by_name(small, small(X))["class_scores"].argmax(-1).reshape(-1)
    truth = own.reshape(-1)
    known = np.isin(truth, OWN)
    right = (np.array(OWN)[said] == truth)[known].mean()
    assert figures.accuracy == pytest.approx(right)
    if name != "whole images":
        wanted = jaccard_score(truth[known], np.array(OWN)[said][known], labels=OWN, average=None)
        assert [row.iou for row in figures.rows] == pytest.approx(wanted.tolist())


def dataset(given):
    import tensorflow as tf

    as_tuple = tuple(given) if isinstance(given, list) else given
    return tf.data.Dataset.from_tensor_slices((X, as_tuple)).batch(16)


@pytest.mark.slow
def test_targets_of_several_outputs_ask_which():
    model = made("anchors")
    _, given = targets("scales", made("scales"))
    with pytest.raises(nns.errors.DataError, match=r"Say which output.*\['boxes', 'class_scores'"):
        nns.observe(model, (X, given), label_count=CLASSES, verbose=False)
    with pytest.raises(nns.errors.DataError, match="model has one output"):
        one = keras.Sequential([keras.Input((8, 8, 3)), L.Flatten(), L.Dense(4), L.Dense(5)])
        nns.observe(one, (X, given), verbose=False)
    with pytest.raises(nns.errors.DataError, match="model has one output"):
        nns.observe(one, X, given, verbose=False)


@pytest.mark.slow
def test_the_rest_of_the_way():
    """Repair and extraction at positions, and labels in the file of the output that answers."""
    model = made("scales")
    _, given = targets("scales", model)
    asked = {"labels": OWN, "head": "labels", "output": "class_scores", "held_out": 0.3}
    budget = nns.Budget(parameters=model.count_params() * 2 // 3)
    for y in (given, np.arange(len(X)) % CLASSES):
        names = None if y is given else list("abcde")
        ready = nns.extract(model, (X, y), budget=budget, label_names=names, **asked)
        assert ready.cost <= budget.limit
        assert [t.shape[-1] for t in ready.model.outputs] == [4, 2]
    small = nns.cut(model, plan_of(model), head="labels", output="class_scores")
    fixed = nns.repair(small, model, (X, given))
    (distance,) = (gain for gain in fixed.gains if gain.measure == "distance")
    assert distance.after < distance.before
    flat = tflite_export.convert(small, **extras(small))
    labels = {one.name: one.labels for one in tflite_export.read_metadata(flat).outputs}
    assert labels == {"boxes": (), "class_scores": ("1", "3")}
    tflite_export.verify(flat, small, X)
    other = made("whole images")
    small = nns.cut(other, plan_of(other), head="labels", output="class_scores")
    flat = tflite_export.convert(small, **extras(small))
    labels = {one.name: one.labels for one in tflite_export.read_metadata(flat).outputs}
    assert labels == {"kind": ("1", "3"), "sick": (), "where": ()}


@pytest.mark.slow
def test_in_the_shell(tmp_path, capsys):
    model = made("scales")
    alone, _ = targets("scales", model)
    parent, data = str(tmp_path / "parent.keras"), str(tmp_path / "data.npz")
    nns.save_model(model, parent)
    np.savez(data, x=X, y=alone["class_scores"])
    activity, plan, small = (str(tmp_path / name) for name in ("a.npz", "p.json", "s.keras"))
    answer = ["--answer", "class_scores"]
    assert main(["observe", parent, data, "-o", activity, "-q", *answer]) == 0
    chosen = ["--label", "1", "--label", "3", "--top", "4"]
    assert main(["select", activity, *chosen, "-o", plan, "-q"]) == 0
    assert main(["cut", parent, plan, "-o", small, "--head", "labels", *answer]) == 0
    capsys.readouterr()
    line = ["evaluate", small, data, "--json", "--allow-overlap"]
    assert main(line) == 0
    told = json.loads(capsys.readouterr().out)
    network = nns.load_model(small)
    said = by_name(network, network(X))["class_scores"].argmax(-1)
    known = np.isin(alone["class_scores"], OWN)
    right = (np.array(OWN)[said] == alone["class_scores"])[known].mean()
    assert told["accuracy"] == pytest.approx(right)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "labels", "head"), [(dict, [0, 3], "other"), (list, [3], "binary")]
)
def test_a_head_of_another_name_is_found_among_several(kind, labels, head, tmp_path):
    """Extracted, judged and shipped by the output that answers, which is not the first."""
    random = np.random.default_rng(0)
    y = random.integers(0, CLASSES, 400)
    x = random.normal(size=(400, 9)) + 2 * np.eye(CLASSES)[y] @ random.normal(size=(CLASSES, 9))
    x, boxes = x.astype("float32"), random.normal(size=(400, 4)).astype("float32")
    start = keras.Input((9,))
    hidden = L.Dense(16, activation="relu")(start)
    box = L.Dense(4, name="box")(hidden)
    scores = L.Dense(CLASSES, activation="softmax", name="scores")(hidden)
    keyed = kind is dict
    model = keras.Model(start, {"scores": scores, "box": box} if keyed else [box, scores])
    losses = {"scores": "sparse_categorical_crossentropy", "box": "mse"}
    # A parent worth learning from: else the network is kept as it was repaired.
    model.compile(keras.optimizers.Adam(0.02), losses)
    model.fit(x, {"scores": y, "box": boxes}, epochs=12, verbose=0)
    targets = {"scores": y, "box": boxes} if keyed else [boxes, y]
    with pytest.warns(UserWarning, match="others share weights with it.*'box'"):
        found = nns.extract(
            model, (x, targets), labels=labels, output="scores", budget="parameters=300",
            distill_epochs=1, quantize="int8",
        )  # fmt: skip
    assert found.model.output_names == ["box", f"{head}_head"]
    given = found.model.predict(x, verbose=0)
    boxes_given, answers = (given["box"], given["scores"]) if keyed else given
    assert boxes_given.shape == (400, 4)
    right = np.isin(y, labels)
    said = answers[:, 0] > 0.5 if head == "binary" else answers.argmax(axis=1) < len(labels)
    assert (said == right).mean() > 0.8
    judged = nns.evaluate(found.model, (x, targets), allow_overlap=True)
    recall = (
        said[y == 3].mean() if head == "binary" else (answers.argmax(axis=1) == 1)[y == 3].mean()
    )
    assert next(row.recall for row in judged.rows if row.name == "3") == pytest.approx(recall)
    named = tflite_export.read_metadata(found.flat).outputs
    labelled = {output.name: output.labels for output in named if output.labels}
    assert list(labelled.values()) == [("3",) if head == "binary" else ("0", "3", "other")]


@pytest.mark.slow
def test_training_for_one_output_names_ways_that_work():
    """The other output is a regression that shares the trunk with the labels."""
    x = RANDOM.normal(size=(200, 5)).astype("float32")
    y, z = x[:, :4].argmax(axis=1), x[:, :2]
    start = keras.Input((5,))
    trunk = L.Dense(16, "relu", name="trunk")(start)
    outputs = {
        "box": L.Dense(2, name="box")(trunk),
        "kind": L.Dense(4, "softmax", name="kind")(trunk),
    }
    model = keras.Model(start, outputs)
    model.compile("adam", {"kind": "sparse_categorical_crossentropy", "box": "mse"})
    activity = nns.observe(model, x, y, label_count=4)
    plan = nns.select(activity, OWN, keep=nns.top(6))
    small = nns.cut(model, plan, head="labels", output="kind")
    for train in (nns.fine_tune, nns.from_scratch):
        with pytest.raises(nns.errors.ModelError, match=r"2 outputs, \['box', 'kind'\]") as caught:
            train(small, (x, y))
    known = np.isin(y, OWN)
    labels = (y[known] == OWN[1]).astype(int)
    own = small.fit(x[known], {"kind": labels, "box": z[known]}, epochs=2, verbose=0).history
    assert {"kind_loss", "box_loss"} <= set(own)
    with pytest.warns(UserWarning, match="others share weights.*'box' by up to") as told:
        taught = nns.distill(small, model, (x, y)).model
    assert nns.lineage(taught).output == "kind"
    was, now = (each.predict(x, verbose=0)["box"] for each in (small, taught))
    far = np.abs(now - was).max() / np.abs(was).max()
    said = re.search(r"by up to ([\d.]+)%", str(told[0].message))[1]
    assert 0 < float(said) / 100 <= far + 0.0005  # of the samples that were looked at
    code = re.search(r"as a model of its own: (.*)\.$", str(caught.value))[1]
    alone = eval(code, {"keras": keras, "model": small})
    assert alone.output_shape == (None, 2)
    assert nns.fine_tune(alone, (x[known], labels)).gains[0].measure == "loss"
