"""Operating points: both sides decide where the same samples say, against scikit-learn."""

from dataclasses import replace

import keras
import numpy as np
import pytest
from keras import layers
from scipy.special import softmax
from sklearn.metrics import balanced_accuracy_score, roc_auc_score, roc_curve

import keras_nns as nns
from keras_nns.judgement.points import balanced_offsets, best_threshold, operating_point
from keras_nns.plans.kept_units import Plan
from keras_nns.plans.units import Fingerprint
from keras_nns.surgery.lineage import Lineage, set_lineage
from keras_nns.surgery.operating_points import BalancedDecisions, OperatingPoint

NAMES = ("cat", "dog", "eel", "fox")
SHARES = (0.05, 0.25, 0.3, 0.4)


def column(first, last, name):
    """Build a model that gives some columns of its inputs."""
    start = keras.Input((5,))
    return keras.Model(start, start[:, first:last], name=name)


def of_all():
    """Build a parent that gives the probabilities whose logarithms are in the first columns."""
    start = keras.Input((5,))
    return keras.Model(start, layers.Softmax()(start[:, :4]), name="parent")


def about_cats(head="binary", answers=(None,), balanced=None, first=4):
    plan = Plan(Fingerprint("s", "w"), {"d": 1}, {"d": (0,)}, (0,), NAMES)
    model = column(first, first + len(answers), "subnet")
    known = tuple("other" if i is None else NAMES[i] for i in answers)
    record = Lineage(plan, head, tuple(answers), ("cat",) if head == "binary" else known, "o")
    set_lineage(model, replace(record, balanced=balanced))
    return model


def samples(count, seed):
    """Give the logarithms of a parent's four probabilities, and a subnetwork's one of cats."""
    random = np.random.default_rng(seed)
    y = random.choice(4, count, p=SHARES)
    parents = softmax(random.normal(size=(count, 4)) + 1.2 * np.eye(4)[y] + np.log(SHARES), axis=1)
    own = 1 / (1 + np.exp(-random.normal(size=count) - 1.2 * (y == 0) + 0.5))
    return np.column_stack([np.log(parents), own]).astype("float32"), y


def cats(x):
    """Return the parent's probability of a cat."""
    return np.asarray(of_all()(x))[:, 0]


def at_best(known, labels, scores, y):
    """Set a threshold by scikit-learn on some samples, and judge by it on others."""
    false, true, edges = roc_curve(labels == 0, known)
    best = np.argmax((true - false)[1:]) + 1
    lower = known[known < edges[best]].max()
    return balanced_accuracy_score(y == 0, scores >= (edges[best] + float(lower)) / 2)


@pytest.mark.slow
def test_all_models_decide_at_their_best_point_on_the_same_samples():
    setting, (x, y) = samples(3000, 0), samples(2000, 1)
    parent, small = of_all(), about_cats()
    found = nns.compare(
        parent, small, x, y, calibrate=setting, beside={"twin": small}, label_names=NAMES
    )
    (before,), (after,), (twin,) = found.before.rows, found.after.rows, found.beside[0].figures.rows
    assert before.balanced_accuracy == pytest.approx(
        at_best(cats(setting[0]), setting[1], cats(x), y)
    )
    assert after.balanced_accuracy == twin.balanced_accuracy
    assert after.balanced_accuracy == pytest.approx(
        at_best(setting[0][:, 4], setting[1], x[:, 4], y)
    )
    assert before.auc == pytest.approx(roc_auc_score(y == 0, cats(x)))
    as_they_are = nns.compare(parent, small, x, y, label_names=NAMES)
    assert as_they_are.before.rows[0].balanced_accuracy == pytest.approx(
        balanced_accuracy_score(y == 0, cats(x) >= 0.5)
    )
    # The parent is far better where it is asked as its subnetwork is.
    gained = before.balanced_accuracy - as_they_are.before.rows[0].balanced_accuracy
    assert gained > 0.1
    assert "set for balanced accuracy on 3,000 other samples" in str(found)
    assert "decided from 0.5 on;" in str(as_they_are)


@pytest.mark.slow
@pytest.mark.parametrize("parent_known", [True, False])
def test_a_subnetwork_remembers_its_parents_point(parent_known):
    (x, y), parent = samples(2000, 1), of_all()
    point = OperatingPoint(700, thresholds=(0.07,)) if parent_known else None
    small = about_cats(balanced=BalancedDecisions(700, point))
    found = nns.compare(parent, small, x, y, label_names=NAMES)
    edge = 0.07 if parent_known else 0.5
    assert found.before.rows[0].balanced_accuracy == pytest.approx(
        balanced_accuracy_score(y == 0, cats(x) >= edge)
    )
    assert found.after.rows[0].balanced_accuracy == pytest.approx(
        balanced_accuracy_score(y == 0, x[:, 4] >= 0.5)
    )
    assert found.unequal == (() if parent_known else ("the subnetwork",))
    assert ("compare AUC, or pass calibrate=" in str(found)) is not parent_known
    assert "decided from 0.5 on (set for balanced accuracy on 700" in str(nns.evaluate(small, x, y))
    # A threshold that is given is everyone's.
    given = nns.compare(parent, small, x, y, label_names=NAMES, threshold=0.3)
    assert given.unequal == ()
    assert given.before.rows[0].recall == pytest.approx((cats(x)[y == 0] >= 0.3).mean())


@pytest.mark.slow
def test_a_drop_counts_the_auc():
    x, y = samples(4000, 2)
    # As good as the parent at one point, and worse at all others.
    x[:, 4] = np.where(cats(x) >= 0.5, 0.9, 0.1)
    found = nns.compare(of_all(), about_cats(), x, y, label_names=NAMES)
    assert found.drops["balanced accuracy"] == 0
    auc = roc_auc_score(y == 0, cats(x)) - roc_auc_score(y == 0, x[:, 4])
    assert auc > 0.1
    assert found.drop == found.drops["AUC"] == pytest.approx(auc)
    assert f"Drop: {auc:.3f} (the larger of balanced accuracy 0.000, AUC {auc:.3f})" in str(found)
    assert found.to_json()["drop"] == found.drops
    # And the other way round: the order is kept and the decision is lost.
    x[:, 4] = cats(x) / 100
    found = nns.compare(of_all(), about_cats(), x, y, label_names=NAMES)
    assert found.drops["AUC"] == pytest.approx(0, abs=1e-6)
    assert found.drop == found.drops["balanced accuracy"] > 0


@pytest.mark.slow
def test_answers_that_exclude_each_other_weigh_alike():
    setting, (x, y) = samples(3000, 3), samples(2000, 4)
    truth, scores = np.eye(4, dtype=bool)[setting[1]], setting[0][:, :4].astype(float)
    offsets = balanced_offsets(truth, scores)
    # The score equations of the intercepts: balanced, each answer is given as often as it is true.
    weights = truth @ (1 / truth.sum(axis=0))
    said = weights @ softmax(scores + offsets, axis=1)
    np.testing.assert_allclose(said, np.ones(4), atol=1e-4)
    parent = of_all()
    small = about_cats("other", (0, None), first=3)
    found = nns.compare(parent, small, x, y, calibrate=setting, label_names=NAMES)
    both = np.column_stack([cats(setting[0]), 1 - cats(setting[0])]).astype(float)
    own = setting[1] == 0
    moved = balanced_offsets(np.column_stack([own, ~own]), np.log(both))
    logit = np.log(cats(x)) - np.log(1 - cats(x))
    said_cat = logit + moved[0] - moved[1] > 0
    assert found.before.rows[0].balanced_accuracy == pytest.approx(
        balanced_accuracy_score(y == 0, said_cat)
    )
    assert found.before.rows[0].auc == pytest.approx(roc_auc_score(y == 0, cats(x)))


@pytest.mark.slow
def test_answers_decided_by_themselves_have_a_point_each():
    random = np.random.default_rng(5)
    truth = random.random((800, 3)) < (0.1, 0.5, 0.8)
    outputs = random.random((800, 3)) / 2 + truth * 0.3
    point = operating_point(truth, outputs, several=True)
    assert point.offsets is None and len(point.thresholds) == 3
    for own, scores, edge in zip(truth.T, outputs.T, point.thresholds, strict=True):
        reached = balanced_accuracy_score(own, scores >= edge)
        tried = [balanced_accuracy_score(own, scores >= other) for other in scores]
        assert reached == pytest.approx(max(tried))


def test_weights_count_as_repetitions():
    random = np.random.default_rng(6)
    truth, scores = random.random(60) < 0.4, random.integers(0, 9, 60) / 8
    weights = random.integers(1, 5, 60)
    again = np.repeat(np.arange(60), weights)
    assert best_threshold(truth, scores, weights) == best_threshold(truth[again], scores[again])
    both = np.column_stack([truth, ~truth])
    logits = random.normal(size=(60, 2))
    np.testing.assert_allclose(
        balanced_offsets(both, logits, weights),
        balanced_offsets(both[again], logits[again]),
        atol=1e-4,
    )


def test_what_cannot_be_set_is_refused():
    setting, (x, y) = samples(300, 0), samples(300, 1)
    parent, small = of_all(), about_cats()
    options = {"label_names": NAMES}
    with pytest.raises(nns.NNSError, match="Both threshold and calibrate"):
        nns.compare(parent, small, x, y, calibrate=setting, threshold=0.5, **options)
    with pytest.raises(nns.NNSError, match="samples that points are set on, as calibrate"):
        nns.compare(parent, small, x, y, calibrate=(x, y), **options)
    rest = setting[1] > 0
    with pytest.raises(nns.NNSError, match="samples of every answer, and an answer has none"):
        nns.compare(parent, small, x, y, calibrate=(setting[0][rest], setting[1][rest]), **options)


def test_a_file_remembers_the_point(tmp_path):
    record = BalancedDecisions(700, OperatingPoint(700, offsets=(0.25, -0.25)))
    small = about_cats("other", (0, None), balanced=record, first=3)
    nns.save_model(small, tmp_path / "small.keras")
    assert nns.lineage(nns.load_model(tmp_path / "small.keras")) == nns.lineage(small)
