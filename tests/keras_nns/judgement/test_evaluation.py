"""Figures are held against counting by hand, on models whose outputs are their inputs."""

import json
import math
import warnings
from dataclasses import replace

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers

from keras_nns.errors import DataError, ModelError, SelectionError
from keras_nns.graph.tracing import trace
from keras_nns.judgement.comparison import compare
from keras_nns.judgement.evaluation import evaluate
from keras_nns.judgement.question import reply, whole_question
from keras_nns.judgement.replies import judge
from keras_nns.observation.forward import settle_labels
from keras_nns.plans.kept_units import Plan
from keras_nns.plans.units import Fingerprint
from keras_nns.surgery.cutting import cut
from keras_nns.surgery.lineage import Lineage, lineage, set_lineage

NAMES = ("cat", "dog", "eel", "fox")


def echo(outputs, **layer):
    """Build a model that answers its inputs."""
    return keras.Sequential(
        [keras.Input((outputs,)), layers.Activation("linear", name="echo", **layer)], name="net"
    )


def subnet(head, labels, *, names=NAMES):
    """Build an echo that says it was cut for these labels."""
    known = [names[i] for i in labels]
    answers = {
        "parent": (tuple(range(len(names))), names),
        "labels": (labels, known),
        "other": ((*labels, None), (*known, "other")),
        "binary": ((labels[0] if len(labels) == 1 else None,), (" or ".join(known),)),
    }[head]
    plan = Plan(Fingerprint("s", "w"), {"d": 1}, {"d": (0,)}, labels, names)
    model = echo(len(answers[0]))
    set_lineage(model, Lineage(plan, head, tuple(answers[0]), tuple(answers[1]), "echo"))
    return model


def by_hand(truth, given_, scores):
    """Count one label's figures sample by sample; AUC over all pairs."""
    tp = fp = tn = fn = 0
    for t, g in zip(truth, given_, strict=True):
        tp, fp = tp + (t and g), fp + (not t and g)
        tn, fn = tn + (not t and not g), fn + (t and not g)
    pairs = [
        1.0 if p > n else 0.5 if p == n else 0.0
        for p in scores[truth].tolist()
        for n in scores[~truth].tolist()
    ]

    def share(part, whole):
        return part / whole if whole else np.nan

    recall, specificity = share(tp, tp + fn), share(tn, tn + fp)
    return {
        "samples": tp + fn,
        "recall": recall,
        "specificity": specificity,
        "precision": share(tp, tp + fp),
        "balanced_accuracy": (recall + specificity) / 2,
        "auc": share(sum(pairs), len(pairs)),
    }


def assert_figures(row, truth, given_, scores):
    for name, expected in by_hand(truth, given_, scores).items():
        assert getattr(row, name) == pytest.approx(expected, rel=1e-12, nan_ok=True), name


@pytest.fixture
def scores():
    random = np.random.default_rng(3)
    return random.normal(size=(300, 4)).astype("float32"), random.integers(0, 4, 300)


def test_a_parent_is_judged_one_label_against_the_rest(scores):
    outputs, labels = scores
    result = evaluate(echo(4), outputs, labels, label_names=NAMES, batch_size=77)
    chosen = outputs.argmax(1)
    assert [row.name for row in result.rows] == list(NAMES)
    for row in result.rows:
        one = (labels == row.label, chosen == row.label, outputs[:, row.label])
        assert_figures(row, *one)
    assert result.accuracy == pytest.approx(sum(labels == chosen) / 300, rel=1e-12)
    for i in range(4):
        for j in range(4):
            assert result.confusion[i, j] == sum((labels == i) & (chosen == j))
    assert (result.samples, result.left_out, result.head) == (300, 0, "parent")


def test_only_asked_labels_are_reported_and_found_by_number_or_name(scores):
    outputs, labels = scores
    whole = evaluate(echo(4), outputs, labels, label_names=NAMES)
    some = evaluate(echo(4), outputs, labels, label_names=NAMES, labels=["fox", 1])
    assert [row.label for row in some.rows] == [3, 1]
    assert some["dog"] == some[1] == whole["dog"]
    assert some.accuracy == whole.accuracy
    assert [row.label for row in evaluate(echo(4), outputs, labels, labels=2).rows] == [2]
    with pytest.raises(SelectionError, match="'cat'"):
        some["cat"]
    with pytest.raises(SelectionError, match="'gnu'"):
        evaluate(echo(4), outputs, labels, label_names=NAMES, labels="gnu")


def test_a_perfect_an_inverted_and_a_constant_model():
    labels = np.arange(40) % 4
    right = np.eye(4, dtype="float32")[labels]
    for row in evaluate(echo(4), right, labels).rows:
        assert (row.recall, row.specificity, row.precision, row.auc) == (1, 1, 1, 1)
    inverted = evaluate(echo(4), 1 - right, labels)
    assert inverted.accuracy == 0
    assert all(row.recall == 0 and row.auc == 0 for row in inverted.rows)
    constant = evaluate(echo(4), np.tile([[0, 1.0, 0, 0]], (40, 1)).astype("float32"), labels)
    assert constant.accuracy == 0.25
    assert (constant[1].recall, constant[1].specificity, constant[1].precision) == (1, 0, 0.25)
    assert (constant[0].recall, constant[0].specificity) == (0, 1)
    assert np.isnan(constant[0].precision)
    assert all(row.balanced_accuracy == 0.5 and row.auc == 0.5 for row in constant.rows)


def test_a_label_without_samples_has_no_recall_and_warns_of_nothing():
    labels = np.array([0, 1, 1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = evaluate(echo(3), np.eye(3, dtype="float32"), labels)
    missing = result[2]
    assert missing.samples == 0 and missing.specificity == pytest.approx(2 / 3)
    assert np.isnan([missing.recall, missing.balanced_accuracy, missing.auc]).all()
    assert json.loads(json.dumps(result.to_json()))["labels"][2]["recall"] is None
    assert "–" in str(result)


def test_one_sigmoid_output_tells_two_labels_apart():
    p = np.array([[0.1], [0.5], [0.7], [0.4], [1e-9], [0.0]], dtype="float32")
    labels = np.array([0, 1, 0, 1, 0, 0])
    result = evaluate(echo(1), p, labels, label_names=("ham", "spam"))
    given_ = p[:, 0] >= 0.5
    assert_figures(result["spam"], labels == 1, given_, p[:, 0])
    assert_figures(result["ham"], labels == 0, ~given_, -p[:, 0])
    assert evaluate(echo(1), p, labels, threshold=0.4)[1].recall == 1
    logits = np.where(p > 0.45, 2.0, -2.0).astype("float32")
    with pytest.raises(DataError, match=r"threshold=0\.0"):
        evaluate(echo(1), logits, labels)
    assert (
        replace(
            evaluate(echo(1), (logits > 0).astype("float32"), labels)[1],
            brier=math.nan,
            calibration_error=math.nan,
        )
        == evaluate(echo(1), logits, labels, threshold=0.0)[1]
    )


def test_a_head_of_labels_is_judged_among_them(scores):
    outputs, labels = scores
    result = evaluate(subnet("labels", (1, 3)), outputs[:, :2], labels)
    among = np.isin(labels, (1, 3))
    chosen = np.array([1, 3])[outputs[among, :2].argmax(1)]
    for i, label in enumerate((1, 3)):
        assert_figures(result[label], labels[among] == label, chosen == label, outputs[among, i])
    assert result.left_out == sum(~among) and result.samples == sum(among)
    assert result.accuracy == pytest.approx(np.mean(chosen == labels[among]))
    assert result.confusion.sum() == sum(among)
    assert f"{sum(~among)} samples of other labels are left out" in str(result)


def test_a_head_with_other_takes_every_other_label_as_other(scores):
    outputs, labels = scores
    result = evaluate(subnet("other", (1, 3)), outputs[:, :3], labels)
    chosen = np.array([1, 3, -1])[outputs[:, :3].argmax(1)]
    for i, label in enumerate((1, 3)):
        assert_figures(result[label], labels == label, chosen == label, outputs[:, i])
    truth = np.where(np.isin(labels, (1, 3)), labels, -1)
    assert result.accuracy == pytest.approx(np.mean(chosen == truth))
    assert result.confusion[2, 2] == sum((truth == -1) & (chosen == -1))
    assert result.answers == ("dog", "fox", "other") and result.left_out == 0
    with pytest.raises(SelectionError, match="Expected some of"):
        evaluate(subnet("other", (1, 3)), outputs[:, :3], labels, labels=0)


@pytest.mark.parametrize("kept", [(2,), (1, 3)])
def test_a_yes_or_no_head_takes_its_labels_as_yes(scores, kept):
    labels = scores[1]
    p = np.random.default_rng(0).uniform(size=(300, 1)).astype("float32")
    p[:3] = 0.25
    result = evaluate(subnet("binary", kept), p, labels, threshold=0.25)
    (row,) = result.rows
    truth = np.isin(labels, kept)
    assert_figures(row, truth, p[:, 0] >= 0.25, p[:, 0])
    assert row.label == (2 if len(kept) == 1 else None)
    assert row.name == ("eel" if len(kept) == 1 else "dog or fox")
    assert result.confusion.tolist() == [
        [sum(~truth & (p[:, 0] < 0.25)), sum(~truth & (p[:, 0] >= 0.25))],
        [sum(truth & (p[:, 0] < 0.25)), sum(truth & (p[:, 0] >= 0.25))],
    ]


def test_a_subnetwork_with_its_parents_head_reports_its_own_labels(scores):
    outputs, labels = scores
    part = evaluate(subnet("parent", (1, 3)), outputs, labels)
    whole = evaluate(echo(4), outputs, labels, label_names=NAMES)
    assert part.rows == (whole["dog"], whole["fox"])
    assert part.accuracy == whole.accuracy


@pytest.fixture
def several():
    random = np.random.default_rng(5)
    p = random.uniform(size=(120, 4)).astype("float32")
    hot = random.uniform(size=(120, 4)) < 0.4
    hot[:3] = False
    return p, hot


def test_multi_label_data_is_decided_label_by_label(several):
    p, hot = several
    result = evaluate(echo(4), p, hot, label_names=NAMES, threshold=0.3)
    for row in result.rows:
        assert_figures(row, hot[:, row.label], p[:, row.label] >= 0.3, p[:, row.label])
    assert result.multi_label and result.confusion is None and result.left_out == 0
    assert result.accuracy == pytest.approx(
        np.mean([(a == b).all() for a, b in zip(hot, p >= 0.3, strict=True)])
    )
    assert result.to_json()["confusion"] is None


def test_multi_label_heads(several):
    p, hot = several
    among = evaluate(subnet("labels", (1, 3)), p[:, :2], hot)
    assert (among.samples, among.left_out) == (120, 0)
    assert_figures(among["fox"], hot[:, 3], p[:, 1] >= 0.5, p[:, 1])
    single = evaluate(subnet("binary", (1, 3)), p[:, :1], hot)
    assert_figures(single.rows[0], hot[:, 1] | hot[:, 3], p[:, 0] >= 0.5, p[:, 0])
    assert single.confusion.sum() == 120
    other = evaluate(subnet("other", (1, 3)), p[:, :3], hot)
    truth = np.stack([hot[:, 1], hot[:, 3], hot[:, 0] | hot[:, 2]], axis=1)
    assert other.accuracy == pytest.approx(((p[:, :3] >= 0.5) == truth).all(axis=1).mean())


@pytest.mark.slow
def test_one_hot_data_is_single_label_unless_told_otherwise(scores):
    outputs, labels = scores
    hot = np.eye(4)[labels]
    assert evaluate(echo(4), outputs, hot).rows == evaluate(echo(4), outputs, labels).rows
    p = np.abs(outputs) / 10
    told = evaluate(echo(4), p, hot, multi_label=True, threshold=0.1)
    assert told.multi_label
    assert told.rows == evaluate(echo(4), p, labels, multi_label=True, threshold=0.1).rows
    with pytest.raises(DataError, match="multi_label"):
        evaluate(echo(4), p, np.ones((300, 4)), multi_label=False)
    with pytest.raises(DataError, match="one output"):
        evaluate(echo(1), p[:, :1], np.ones((300, 2)))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_in_the_outputs_is_an_error(bad):
    x = keras.Input((2,))
    model = keras.Model(x, layers.Rescaling(1.0, offset=[0.0, bad])(x), name="broken")
    with pytest.raises(DataError, match=r"'broken'.*5 of 5"):
        evaluate(model, np.zeros((5, 2)), np.zeros(5, int))


def test_outputs_that_do_not_fit_are_refused(scores):
    outputs, labels = scores
    wrong = echo(3)
    set_lineage(wrong, lineage(subnet("other", (1,))))
    with pytest.raises(DataError, match="3 outputs"):
        evaluate(wrong, outputs[:, :3], labels)
    x = keras.Input((4,))
    wide = keras.Model(x, layers.Reshape((2, 2))(x))
    with pytest.raises(DataError, match="one row of outputs"):
        evaluate(wide, outputs, labels % 2)
    two = keras.Model(x, [layers.ReLU(name="a")(x), layers.ReLU(name="b")(x)])
    with pytest.raises(ModelError, match=r"output=….*\['a', 'b'\]"):
        evaluate(two, outputs, labels, label_names=NAMES)
    named = evaluate(two, outputs, labels, label_names=NAMES, output="b")
    assert named.rows == evaluate(echo(4), np.maximum(outputs, 0), labels, label_names=NAMES).rows


@pytest.mark.slow
def test_data_is_gone_over_once_and_batches_make_no_difference(scores):
    outputs, labels = scores
    passes = []

    def stream():
        passes.append(1)
        for start in range(0, 300, 64):
            yield outputs[start : start + 64], labels[start : start + 64]

    whole = evaluate(echo(4), outputs, labels)
    model = echo(4)
    assert evaluate(model, stream()).rows == whole.rows
    assert passes == [1] and model.predict_function is None


def test_tables_escape_what_users_name(scores):
    outputs, labels = scores
    names = ("[red]a[/red]", "b|c", "<b>d</b>", "*e*")
    result = evaluate(echo(4), outputs, labels, label_names=names)
    assert all(name in str(result) for name in names)
    markdown = result.to_markdown()
    assert r"b\|c" in markdown and "<b>" not in markdown and r"\*e\*" in markdown
    assert all(line.replace(r"\|", "").count("|") == 11 for line in markdown.splitlines()[:6])


@st.composite
def replies(draw):
    count, samples = draw(st.integers(2, 5)), draw(st.integers(1, 30))
    seed = draw(st.integers(0, 2**32 - 1))
    random = np.random.default_rng(seed)
    # Few distinct values, so that ties happen.
    return (
        random.integers(0, 4, (samples, count)).astype("float32") / 4,
        random.integers(0, count, samples),
    )


@pytest.mark.slow
@given(replies(), st.booleans())
@settings(max_examples=60, deadline=None)
def test_figures_agree_with_each_other_and_with_counting(case, multi_label):
    outputs, labels = case
    question = whole_question([str(i) for i in range(outputs.shape[1])])
    truth, several = settle_labels(labels, outputs.shape[1], multi_label)
    answered = reply(question, outputs, multi_label=several, threshold=None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = judge("net", question, answered, truth, label_names=question.answers)
    for i, row in enumerate(result.rows):
        assert_figures(row, labels == i, answered.decided[:, i], outputs[:, i])
    if not several:
        assert result.confusion.sum() == len(labels)
        assert result.accuracy == pytest.approx(np.trace(result.confusion) / len(labels))
        right = sum(row.recall * row.samples for row in result.rows if row.samples)
        assert result.accuracy == pytest.approx(right / len(labels))


@pytest.mark.slow
@given(replies(), st.randoms(use_true_random=False))
@settings(max_examples=30, deadline=None)
def test_the_order_of_samples_does_not_matter(case, random):
    outputs, labels = case
    order = list(range(len(labels)))
    random.shuffle(order)
    question = whole_question([str(i) for i in range(outputs.shape[1])])

    def rows(some):
        answered = reply(question, outputs[some], multi_label=False, threshold=None)
        result = judge("net", question, answered, labels[some], label_names=question.answers)
        return result.to_json()["labels"]

    assert rows(order) == rows(slice(None))


def net(kind, outputs, seed=1):
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(8, activation="relu", name="hidden"),
            layers.Dense(outputs, activation=kind, name="answer", kernel_initializer="he_normal"),
        ],
        name="net",
    )


def plan_of(model, labels, units=range(8), names=NAMES):
    return Plan(trace(model).fingerprint, {"hidden": 8}, {"hidden": tuple(units)}, labels, names)


@pytest.fixture
def samples():
    random = np.random.default_rng(11)
    return random.normal(size=(200, 6)).astype("float32"), random.integers(0, 4, 200)


ASKED = [
    ("softmax", 4, "parent", (1, 3)),
    ("softmax", 4, "labels", (1, 3)),
    ("softmax", 4, "other", (1, 3)),
    ("softmax", 4, "binary", (1, 3)),
    ("softmax", 4, "binary", (2,)),
    ("linear", 4, "labels", (0, 3)),
    ("linear", 4, "other", (0,)),
    ("linear", 4, "binary", (0, 1)),
    ("sigmoid", 4, "labels", (0, 3)),
    ("sigmoid", 4, "binary", (3,)),
    ("sigmoid", 1, "parent", (0,)),
    ("sigmoid", 1, "labels", (0, 1)),
    ("sigmoid", 1, "other", (0,)),
    ("sigmoid", 1, "binary", (0,)),
    ("sigmoid", 1, "binary", (1,)),
]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "outputs", "head", "labels"), ASKED)
def test_a_cut_that_removes_nothing_changes_no_figure(kind, outputs, head, labels, samples):
    x, y = samples
    names = NAMES if outputs > 1 else NAMES[:2]
    parent = net(kind, outputs)
    subnet_ = cut(parent, plan_of(parent, labels, names=names), head=head)
    result = compare(parent, subnet_, x, y % len(names))
    assert result.after.head == head and result.after.accuracy == result.before.accuracy
    for after, before in zip(result.after.rows, result.before.rows, strict=True):
        ours, theirs = after.to_json(), before.to_json()
        for measure in ("brier", "calibration_error"):
            # The only ones that see how far a score is from another.
            expected = theirs.pop(measure)
            assert ours.pop(measure) == (expected and pytest.approx(expected, rel=1e-4))
        assert ours == theirs
    assert np.array_equal(result.before.confusion, result.after.confusion)


@pytest.mark.slow
def test_multi_label_parents_are_compared_label_by_label(samples):
    x, _ = samples
    hot = np.random.default_rng(2).uniform(size=(200, 4)) < 0.4
    parent = net("sigmoid", 4)
    for head in ("parent", "labels"):
        result = compare(parent, cut(parent, plan_of(parent, (1, 2)), head=head), x, hot)
        assert result.after.multi_label
        assert result.after.rows == result.before.rows == result.parent.rows


def test_among_its_labels_the_parent_is_asked_among_them_too(samples):
    x, y = samples
    parent = net("softmax", 4)
    small = cut(parent, plan_of(parent, (1, 3), units=(0, 2, 5)), head="labels")
    result = compare(parent, small, x, y)
    among, outputs = np.isin(y, (1, 3)), np.asarray(parent(x))
    before = np.array([1, 3])[outputs[among][:, [1, 3]].argmax(1)]
    after = np.array([1, 3])[np.asarray(small(x))[among].argmax(1)]
    for label in (1, 3):
        truth = y[among] == label
        for row, chosen in ((result.before[label], before), (result.after[label], after)):
            expected = by_hand(truth, chosen == label, np.zeros(len(truth)))
            assert row.recall == pytest.approx(expected["recall"])
            assert row.specificity == pytest.approx(expected["specificity"])
    assert result.parent.samples == 200 and result.before.samples == sum(among)
    assert result.parent.accuracy == pytest.approx(np.mean(outputs.argmax(1) == y))
    assert "The parent about all its labels" in str(result)


def test_costs_stand_beside_the_figures(samples):
    x, y = samples
    parent = net("softmax", 4)
    small = cut(parent, plan_of(parent, (1, 3), units=(0, 2, 5)), head="binary")
    result = compare(parent, small, x, y, tflite_bytes=500)
    assert result.parent_costs.macs == 6 * 8 + 8 * 4
    assert result.costs.macs == 6 * 3 + 3 * 4 + 4
    assert result.costs.parameters == 6 * 3 + 3 + 3 * 4 + 4 + 4 + 1
    assert (result.costs.tflite_bytes, result.parent_costs.tflite_bytes) == (500, None)
    text = str(result)
    assert "bytes of .tflite" in text and f"{100 * 34 / 80:.1f} %" in text
    data = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert data["costs"]["subnetwork"]["macs"] == 34
    assert result.to_markdown().count("| :--- |") == 2
    without = compare(parent, small, x, y)
    assert "tflite" not in str(without)
    assert without._repr_html_().count("<table>") == 3
    frame = without.to_frame()
    assert list(frame["model"]) == ["parent", "subnetwork"]
    assert frame["recall"][1] == pytest.approx(without.after.rows[0].recall, abs=5e-4)
    assert repr(without).startswith("<Comparison: Before: ")


def test_a_comparison_goes_over_the_data_once_and_reads_open_shapes_from_it():
    x = keras.Input((None, 3))
    hidden = layers.Dense(8, activation="relu", name="hidden")(x)
    pooled = layers.GlobalAveragePooling1D()(hidden)
    parent = keras.Model(x, layers.Dense(4, activation="softmax", name="answer")(pooled))
    small = cut(parent, plan_of(parent, (1, 3), units=(0, 1)))
    batches = ((np.ones((5, 7, 3)), np.array([0, 1, 2, 3, 3])) for _ in range(3))
    result = compare(parent, small, batches)
    assert result.after.samples == 15
    assert result.costs.macs == 7 * 3 * 2 + 2 * 4


@pytest.mark.slow
def test_nothing_of_the_models_changes(samples):
    x = keras.Input(batch_shape=(4, 5, 3))
    state = layers.GRU(8, stateful=True, name="hidden", activity_regularizer="l2")(x)
    parent = keras.Model(x, layers.Dense(4, activation="softmax", name="answer")(state))
    data = np.ones((4, 5, 3)), np.arange(4)
    first = evaluate(parent, *data, batch_size=4)
    assert evaluate(parent, *data, batch_size=4).to_json() == first.to_json()
    assert not parent.losses and parent.predict_function is None
    assert not any(np.any(v.numpy()) for v in parent.get_layer("hidden").states)


@pytest.mark.slow
def test_many_models_are_run_without_a_word(samples, capfd, caplog):
    x, y = samples
    parent = net("softmax", 4)
    for _ in range(7):
        evaluate(parent, x, y, batch_size=64)
    assert not caplog.records and capfd.readouterr() == ("", "")
