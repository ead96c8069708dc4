"""Calibration, intervals, unseen labels and models side by side, against counting by hand."""

import json
import math

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers
from scipy.stats import beta, binom
from sklearn.metrics import (
    average_precision_score,
    balanced_accuracy_score,
    precision_score,
    recall_score,
    roc_auc_score,
)

import keras_nns as nns
from keras_nns.judgement import bootstrap
from keras_nns.plans.kept_units import Plan
from keras_nns.plans.units import Fingerprint
from keras_nns.surgery.lineage import Lineage, set_lineage

NAMES = ("cat", "dog", "eel", "fox")


def echo(outputs, name="net"):
    return keras.Sequential(
        [keras.Input((outputs,)), layers.Activation("linear", name="echo")], name=name
    )


def subnet(head, labels, answers, name="net"):
    """Build an echo that says it was cut for these labels."""
    plan = Plan(Fingerprint("s", "w"), {"d": 1}, {"d": (0,)}, labels, NAMES)
    model = echo(len(answers), name)
    known = tuple("other" if i is None else NAMES[i] for i in answers)
    set_lineage(model, Lineage(plan, head, tuple(answers), known, "echo"))
    return model


@pytest.fixture
def replies():
    random = np.random.default_rng(7)
    labels = random.integers(0, 4, 500)
    logits = random.normal(size=(500, 4)) + 1.5 * np.eye(4)[labels]
    outputs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return outputs.astype("float32"), labels


def calibration_by_hand(truth, probabilities, bins=15):
    """Sort each sample into its bin by comparison with the edges, one by one."""
    held = [[] for _ in range(bins)]
    for t, p in zip(truth.tolist(), probabilities.tolist(), strict=True):
        place = next(b for b in range(bins) if p <= (b + 1) / bins or b == bins - 1)
        held[place].append((t, p))
    total = 0.0
    for some in held:
        if some:
            right, said = np.mean([t for t, _ in some]), np.mean([p for _, p in some])
            total += len(some) / len(truth) * abs(right - said)
    return total


def test_probabilities_are_held_against_what_is_true(replies):
    outputs, labels = replies
    result = nns.evaluate(echo(4), outputs, labels, label_names=NAMES)
    p = outputs.astype("float64")
    for row in result.rows:
        truth, score = labels == row.label, p[:, row.label]
        assert row.average_precision == pytest.approx(average_precision_score(truth, score))
        assert row.brier == pytest.approx(np.mean((score - truth) ** 2))
        assert row.calibration_error == pytest.approx(calibration_by_hand(truth, score))
    hot = np.eye(4)[labels]
    squares = [sum((a - b) ** 2) for a, b in zip(p, hot, strict=True)]
    assert result.brier == pytest.approx(np.mean(squares))
    right, surest = p.argmax(axis=1) == labels, p.max(axis=1)
    assert result.calibration_error == pytest.approx(calibration_by_hand(right, surest))
    assert result.among == result.accuracy and math.isnan(result.with_other)
    assert result.unseen == () and result.confidence is None and result.intervals == {}


def test_what_is_no_probability_has_no_calibration(replies):
    outputs, labels = replies
    result = nns.evaluate(echo(4), 4 * outputs - 1, labels)
    assert math.isnan(result.brier) and math.isnan(result.calibration_error)
    assert all(math.isnan(row.brier) and not math.isnan(row.auc) for row in result.rows)
    assert json.loads(json.dumps(result.to_json()))["labels"][0]["brier"] is None


def test_perfect_calibration_has_no_error():
    truth = np.arange(100) % 4 == 0
    assert bootstrap.calibration_errors(truth, np.full(100, 0.25))[0] == pytest.approx(0)
    assert bootstrap.calibration_errors(truth, np.ones(100))[0] == pytest.approx(0.75)
    assert bootstrap.calibration_errors(truth, truth.astype(float))[0] == 0


@st.composite
def one_label(draw):
    seed, count = draw(st.integers(0, 2**32 - 1)), draw(st.integers(2, 40))
    random = np.random.default_rng(seed)
    truth = random.random(count) < 0.5
    # Few distinct values, so that ties happen.
    scores = random.integers(0, 6, count) / 5
    weights = random.multinomial(count, np.full(count, 1 / count), size=3)
    return truth, scores, weights


@pytest.mark.slow
@given(one_label())
@settings(deadline=None)
def test_figures_of_resamples_are_those_of_the_samples_repeated(case):
    truth, scores, weights = case
    given_ = scores >= 0.5
    found = bootstrap.label_figures(truth, given_, scores, scores)(weights)
    for row, drawn in enumerate(weights):
        t, g, s = (np.repeat(values, drawn) for values in (truth, given_, scores))
        options = {"zero_division": np.nan}
        expected = {
            "recall": recall_score(t, g, **options),
            "specificity": recall_score(~t, ~g, **options),
            "precision": precision_score(t, g, **options),
            "brier": np.mean((s - t) ** 2),
            "calibration_error": calibration_by_hand(t, s),
        }
        if 0 < t.sum() < len(t):
            expected["balanced_accuracy"] = balanced_accuracy_score(t, g)
            expected["auc"] = roc_auc_score(t, s)
            expected["average_precision"] = average_precision_score(t, s)
        for name, value in expected.items():
            assert found[name][row] == pytest.approx(value, nan_ok=True), name


def test_intervals_of_a_share_are_those_of_the_binomial():
    truth = np.repeat([True, False], [400, 600])
    given_ = truth.copy()
    given_[:80] = False
    given_[400:430] = True
    model = echo(2)
    result = nns.evaluate(model, np.eye(2, dtype="float32")[given_ * 1], truth * 1, confidence=0.9)
    for row, hits, count in ((result[1], 320, 400), (result[0], 570, 600)):
        low, high = row.intervals["recall"]
        expected = binom.ppf([0.05, 0.95], count, hits / count) / count
        assert (low, high) == pytest.approx(expected, abs=2.5 / count)
    low, high = result.intervals["accuracy"]
    # As many of each label in every resample: less varies than if the labels were drawn too.
    spread = math.sqrt(400 * 0.8 * 0.2 + 600 * 0.95 * 0.05) / 1000
    assert high - low == pytest.approx(2 * 1.645 * spread, rel=0.12)
    assert result[1].intervals["recall"] == result[0].intervals["specificity"]
    assert result.confidence == 0.9
    assert f"{result[1].intervals['recall'][0]:.3f}–" in str(result)


@pytest.mark.slow
def test_intervals_depend_on_the_seed_alone_and_hold_the_figures(replies):
    outputs, labels = replies
    state = np.random.get_state()[1].copy()
    options = {"label_names": NAMES, "confidence": 0.95}
    one = nns.evaluate(echo(4), outputs, labels, **options)
    same = nns.evaluate(echo(4), outputs, labels, batch_size=33, **options)
    other = nns.evaluate(echo(4), outputs, labels, seed=1, **options)
    assert one.to_json() == same.to_json() != other.to_json()
    assert (np.random.get_state()[1] == state).all()
    for row in one.rows:
        assert len(row.intervals) == 8
        for name, (low, high) in row.intervals.items():
            if name != "calibration_error":
                assert low < getattr(row, name) < high
    assert set(one.intervals) == {"accuracy", "among", "brier", "calibration_error"}
    wide = nns.evaluate(echo(4), outputs, labels, label_names=NAMES, confidence=0.99)
    assert wide["cat"].intervals["auc"][0] < one["cat"].intervals["auc"][0]


def test_few_samples_without_a_mistake_prove_little():
    labels = np.arange(20) % 2
    result = nns.evaluate(echo(2), np.eye(2, dtype="float32")[labels], labels, confidence=0.95)
    assert result[1].recall == 1
    assert result[1].intervals["recall"] == pytest.approx((beta.ppf(0.025, 10, 1), 1))
    assert result.intervals["accuracy"] == pytest.approx((beta.ppf(0.025, 20, 1), 1))


def test_labels_that_a_subnetwork_never_saw(replies):
    outputs, labels = replies
    chosen = outputs[:, 1:3].argmax(axis=1) + 1
    narrow = outputs[:, 1:3] / outputs[:, 1:3].sum(axis=1, keepdims=True)
    result = nns.evaluate(subnet("labels", (1, 2), (1, 2)), narrow, labels)
    inside = np.isin(labels, (1, 2))
    assert result.accuracy == result.among == pytest.approx((chosen == labels)[inside].mean())
    assert math.isnan(result.with_other)
    assert [one.name for one in result.unseen] == ["cat", "fox"]
    for one in result.unseen:
        mask = labels == one.label
        assert one.samples == mask.sum() and one.answers == ("dog", "eel")
        assert one.called == pytest.approx([(chosen[mask] == i).mean() for i in (1, 2)])
        assert one.confident == pytest.approx((narrow[mask].max(axis=1) >= 0.9).mean())
    assert "never" not in str(result) and "not made for" in str(result)
    assert "not made for" in result.to_markdown()


@pytest.mark.slow
def test_with_other_and_among(replies):
    outputs, labels = replies
    known = np.isin(labels, (1, 2))
    summed = np.stack([outputs[:, 1], outputs[:, 2], outputs[:, 0] + outputs[:, 3]], axis=1)
    other = nns.evaluate(subnet("other", (1, 2), (1, 2, None)), summed, labels, confidence=0.95)
    truth = np.where(known, labels - 1, 2)
    assert other.with_other == other.accuracy == pytest.approx((summed.argmax(1) == truth).mean())
    among = (summed[:, :2].argmax(1) == truth)[known].mean()
    assert other.among == pytest.approx(among)
    assert other.intervals["among"][0] < among < other.intervals["among"][1]
    fox = other.unseen[1]
    mask = labels == 3
    assert fox.called == pytest.approx([(summed[mask].argmax(1) == i).mean() for i in (0, 1)])
    # The parent's head: what is neither is one answer.
    whole = nns.evaluate(subnet("parent", (1, 2), (0, 1, 2, 3)), outputs, labels)
    chosen = outputs.argmax(1)
    expected = np.where(known, chosen == labels, ~np.isin(chosen, (1, 2)))
    assert whole.with_other == pytest.approx(expected.mean())
    assert whole.among == pytest.approx(among)
    assert "with all others as one" in whole.caption
    yes = nns.evaluate(subnet("binary", (2,), (2,)), outputs[:, 2:3], labels)
    assert math.isnan(yes.among) and yes.with_other == yes.accuracy
    assert [one.name for one in yes.unseen] == ["cat", "dog", "fox"]


@pytest.mark.slow
def test_models_side_by_side(replies):
    x = replies[0]
    parent = keras.Sequential([keras.Input((4,)), layers.Dense(5), layers.Dense(4, name="out")])
    labels = np.asarray(parent(x)).argmax(axis=1)
    labels[::3] = replies[1][::3]
    activity = nns.observe(parent, x[:250], labels[:250], label_names=NAMES, verbose=False)
    plan = nns.select(activity, [1, 2], keep=nns.top(3), score="mean_activation")
    small, same = nns.cut(parent, plan, head="labels"), nns.cut(parent, plan, head="labels")
    found = nns.compare(
        parent,
        small,
        x[250:],
        labels[250:],
        beside={"twin": same},
        label_names=NAMES,
        confidence=0.95,
    )
    (twin,) = found.beside
    assert twin.name == "twin" and twin.costs == found.costs
    assert twin.figures.to_json() == found.after.to_json()
    alone = nns.evaluate(small, x[250:], labels[250:], label_names=NAMES, confidence=0.95)
    assert alone.to_json() == found.after.to_json()
    table = found.to_table()
    assert [row[1] for row in table.rows[:6:2]] == ["parent", "subnetwork", "twin"]
    assert table.rows[0][0] == "dog" and len(table.rows) == 2 * 2 * 3
    assert "twin" in found.to_costs_table().columns
    assert found.to_json()["beside"]["twin"]["costs"] == found.to_json()["costs"]["subnetwork"]
    assert "twin" in str(found) and "twin" in found.to_markdown()
    with pytest.raises(nns.errors.SelectionError, match="'odd' answers cat, dog, eel, fox"):
        nns.compare(
            parent,
            small,
            x[250:],
            labels[250:],
            beside={"odd": nns.cut(parent, plan)},
            label_names=NAMES,
        )


@pytest.mark.parametrize("confidence", [0, 1, 95, -0.5])
def test_a_confidence_is_a_share(replies, confidence):
    with pytest.raises(nns.errors.DataError, match=r"such as 0\.95"):
        nns.evaluate(echo(4), *replies, confidence=confidence)
