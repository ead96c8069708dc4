"""Subnetworks are compiled as their parents are, also where Keras cannot read its own settings."""

from __future__ import annotations

import inspect
import re
import warnings

import keras
import numpy as np
import pytest
from backends import not_on
from keras import layers as L

import keras_nns as nns
from keras_nns.graph.tracing import trace
from keras_nns.plans.kept_units import Plan
from keras_nns.surgery.class_settings import SETTINGS

X = np.random.default_rng(0).normal(size=(60, 5)).astype("float32")
Y = np.arange(60) % 4


@keras.saving.register_keras_serializable(package="tests")
def mean_squared_error(wanted, given):
    """A user's own loss that is called as one of Keras's."""
    return keras.ops.mean((wanted - given) ** 2, axis=-1) + 7.0


def cut_of(loss, metrics, head="labels", labels=(0, 1)):
    model = keras.Sequential(
        [keras.Input((5,)), L.Dense(8, activation="relu"), L.Dense(4, activation="softmax")]
    )
    model.compile("sgd", loss, metrics=metrics)
    activity = nns.observe(model, (X, Y), verbose=False)
    return nns.cut(
        model,
        nns.select(activity, list(labels), keep=nns.top(4), score="mean_activation"),
        head=head,
    )


def from_a_file(name):
    """The metric that a model of an `.h5` file comes with: it calls a name."""
    return keras.metrics.MeanMetricWrapper(name, name="accuracy")


WANTED = {
    ("labels", "categorical_crossentropy"): "categorical_crossentropy",
    ("labels", "sparse_categorical_crossentropy"): "sparse_categorical_crossentropy",
    ("binary", "categorical_crossentropy"): "binary_crossentropy",
    ("binary", "sparse_categorical_crossentropy"): "binary_crossentropy",
    ("other", "categorical_crossentropy"): "categorical_crossentropy",
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("head", "loss", "function"),
    # How the loss is written has nothing to do with the head: every head by name, every loss both.
    [(*key, False) for key in WANTED] + [(*key, True) for key in WANTED if key[0] == "labels"],
)
def test_a_subnetwork_of_a_file_of_old_can_be_trained(head, loss, function):
    given = getattr(keras.losses, loss) if function else loss
    metric = from_a_file(loss.replace("crossentropy", "accuracy"))
    small = cut_of(given, [metric], head, (2,) if head == "binary" else (0, 1))
    width = small.output_shape[-1]
    y = Y % max(width, 2)
    if "sparse" not in loss and width > 1:
        y = keras.utils.to_categorical(y, width)
    history = small.fit(X, y, verbose=0).history
    assert set(history) == {"loss", "accuracy"}
    own = small.get_compile_config()["loss"]
    assert own == WANTED[head, loss]
    if width > 1:
        answers = small.predict(X, verbose=0).argmax(axis=1)
        right = (answers == Y % width).mean()
        assert small.evaluate(X, y, verbose=0, return_dict=True)["accuracy"] == pytest.approx(right)


@pytest.mark.slow
def test_a_loss_of_ones_own_stays_whatever_it_is_called():
    small = cut_of(mean_squared_error, None)
    small.predict(X[:1], verbose=0)
    assert small.evaluate(X, np.zeros((60, 2)), verbose=0) > 7


@pytest.mark.slow
def test_a_metric_that_wraps_a_function_of_ones_own_stays():
    metric = keras.metrics.MeanMetricWrapper(mean_squared_error, name="far")
    small = cut_of("mse", [metric])
    assert small.evaluate(X, np.zeros((60, 2)), verbose=0, return_dict=True)["far"] > 7


def whole_cut(model, labels, head, names=()):
    """Cut no unit, so that the parent's own outputs are the oracle."""
    graph = trace(model)
    sizes = {g.name: g.size for g in graph.layout.prunable}
    kept = {name: tuple(range(size)) for name, size in sizes.items()}
    plan = Plan(graph.fingerprint, sizes, kept, tuple(labels), names)
    return nns.cut(model, plan, head=head)


def four_classes(loss, metrics, activation="softmax"):
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [keras.Input((5,)), L.Dense(8, activation="tanh"), L.Dense(4, activation=activation)]
    )
    model.compile("sgd", loss, metrics=metrics, run_eagerly=True)
    return model


LABELS = [1, 3]
OF_LABELS = np.isin(Y, LABELS)
ROWS = np.eye(4, dtype="float32")[Y]


def answers(model, head, labels=LABELS):
    """Samples, targets and right outputs of a head, by hand from the parent's outputs."""
    p = np.asarray(model(X))
    if head == "labels":
        q = p[OF_LABELS][:, labels]
        return X[OF_LABELS], ROWS[OF_LABELS][:, labels], q / q.sum(axis=1, keepdims=True)
    rows, chosen = ROWS[:, labels], p[:, labels]
    if head == "binary":
        return X, rows.sum(1, keepdims=True), chosen.sum(1, keepdims=True)
    rest = 1 - rows.sum(1, keepdims=True), 1 - chosen.sum(1, keepdims=True)
    return X, np.hstack([rows, rest[0]]), np.hstack([chosen, rest[1]])


def value(metric, y, p):
    metric.update_state(y, p)
    return np.asarray(metric.result())


M = keras.metrics
NUMBERED = {
    # head, labels, the parent's metric, the same of the subnetwork
    "precision": (
        "labels",
        LABELS,
        lambda: M.Precision(class_id=3),
        lambda: M.Precision(class_id=1),
    ),
    "recall": ("other", LABELS, lambda: M.Recall(class_id=1), lambda: M.Recall(class_id=0)),
    "yes or no": ("binary", [1], lambda: M.Recall(0.3, class_id=1), lambda: M.Recall(0.3)),
    "at recall": (
        *("labels", LABELS),
        lambda: M.PrecisionAtRecall(0.5, class_id=3),
        lambda: M.PrecisionAtRecall(0.5, class_id=1),
    ),
    "intersection": ("labels", LABELS, lambda: M.OneHotIoU(4, [3]), lambda: M.OneHotIoU(2, [1])),
    "mean intersection": ("other", LABELS, lambda: M.OneHotMeanIoU(4), lambda: M.OneHotMeanIoU(3)),
    "an ignored class": (
        *("other", LABELS),
        lambda: M.OneHotMeanIoU(4, ignore_class=3),
        lambda: M.OneHotMeanIoU(3, ignore_class=1),
    ),
    "another ignored class": (
        *("labels", LABELS),
        lambda: M.OneHotMeanIoU(4, ignore_class=0),
        lambda: M.OneHotMeanIoU(2),
    ),
    "area": (
        *("labels", LABELS),
        lambda: M.AUC(multi_label=True, num_labels=4, label_weights=[1.0, 2.0, 3.0, 5.0]),
        lambda: M.AUC(multi_label=True, num_labels=2, label_weights=[2.0, 5.0]),
    ),
    "area of three": (
        *("other", LABELS),
        lambda: M.AUC(multi_label=True, num_labels=4),
        lambda: M.AUC(multi_label=True, num_labels=3),
    ),
    "area of one": (
        *("binary", [1]),
        lambda: M.AUC(multi_label=True, num_labels=4, label_weights=[1.0, 2.0, 3.0, 5.0]),
        M.AUC,
    ),
    "F-scores": ("labels", LABELS, M.F1Score, M.F1Score),
    "F-score of one": ("binary", [1], M.F1Score, lambda: M.F1Score(threshold=0.5)),
    "divergence": ("binary", [1], M.KLDivergence, M.BinaryCrossentropy),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", NUMBERED)
def test_what_counts_classes_is_renumbered(case):
    head, labels, given, wanted = NUMBERED[case]
    model = four_classes("categorical_crossentropy", [given()])
    x, y, p = answers(model, head, labels)
    small = whole_cut(model, labels, head)
    figures = small.evaluate(x, y, verbose=0, return_dict=True)
    figures.pop("loss")
    (found,) = figures.values()
    np.testing.assert_allclose(found, value(wanted(), y, p), atol=1e-5)


LEFT = {
    "a class that leaves": ("labels", LABELS, lambda: M.Recall(class_id=0), "class_id=0"),
    "one that is among others": ("binary", LABELS, lambda: M.Recall(class_id=1), "class_id=1"),
    "an area's other": (
        *("other", LABELS),
        lambda: M.AUC(multi_label=True, num_labels=4, label_weights=[1.0, 2.0, 3.0, 5.0]),
        "label_weights",
    ),
    "the best of few": ("labels", LABELS, lambda: M.TopKCategoricalAccuracy(2), "k=2"),
    "the best of one": ("binary", [1], lambda: M.Precision(top_k=1), "top_k=1"),
    "the best by name": ("labels", LABELS, lambda: "top_k_categorical_accuracy", "best"),
    "classes of one": ("binary", [1], lambda: M.OneHotMeanIoU(4), "yes or no"),
    "angles of one": ("binary", [1], lambda: "cosine_similarity", "yes or no"),
    "an ignored other": ("other", LABELS, lambda: M.OneHotMeanIoU(4, ignore_class=0), "ignore"),
}


@pytest.mark.parametrize("case", LEFT)
def test_a_metric_without_a_meaning_is_left_out_by_name(case):
    head, labels, given, why = LEFT[case]
    model = four_classes("categorical_crossentropy", [given(), "accuracy"])
    x, y, p = answers(model, head, labels)
    with pytest.warns(UserWarning, match=f"left out.*{why}"):
        small = whole_cut(model, labels, head)
    figures = small.evaluate(x, y, verbose=0, return_dict=True)
    assert set(figures) == {"loss", "accuracy"}
    right = (p > 0.5) == y if head == "binary" else p.argmax(axis=1) == y.argmax(axis=1)
    assert figures["accuracy"] == pytest.approx(right.mean())


@keras.saving.register_keras_serializable(package="tests")
class Weighted(keras.losses.Loss):
    """A user's own loss with a weight for each class."""

    def __init__(self, weights, name="weighted", **kwargs):
        super().__init__(name=name)
        self.weights = weights

    def call(self, wanted, given):
        return keras.ops.sum(-wanted * keras.ops.log(given) * keras.ops.array(self.weights), -1)

    def get_config(self):
        return {"weights": self.weights, "name": self.name}


@keras.saving.register_keras_serializable(package="tests")
def sparse_loss(wanted, given):
    """A user's own loss of label numbers."""
    return keras.losses.sparse_categorical_crossentropy(wanted, given)


@keras.saving.register_keras_serializable(package="tests")
class OfOneClass(keras.metrics.Metric):
    """A user's own metric that numbers classes in settings of any name."""

    def __init__(self, rare=0, others=(), axis=1, degree=2.0, strict=True, name="own", **kwargs):
        super().__init__(name=name)
        self.settings = {"rare": rare, "others": others, "axis": axis}
        self.settings |= {"degree": degree, "strict": strict}

    def update_state(self, wanted, given, sample_weight=None):
        pass

    def result(self):
        return 0.0

    def get_config(self):
        return self.settings | {"name": self.name}


C = keras.losses
LOSSES = {
    "focal": (
        *("labels", LABELS),
        lambda: C.CategoricalFocalCrossentropy([0.1, 0.2, 0.3, 0.9]),
        lambda: C.CategoricalFocalCrossentropy([0.2, 0.9]),
    ),
    "focal of one": (
        *("binary", [1]),
        lambda: C.CategoricalFocalCrossentropy(gamma=3.0),
        lambda: C.BinaryFocalCrossentropy(gamma=3.0),
    ),
    "smoothed": (
        *("binary", [1]),
        lambda: C.CategoricalCrossentropy(label_smoothing=0.2),
        lambda: C.BinaryCrossentropy(label_smoothing=0.2),
    ),
    "divergence": ("binary", [1], lambda: "kl_divergence", C.KLDivergence),
    "divergence by its short name": ("binary", [1], lambda: "kld", C.KLDivergence),
}


@pytest.mark.parametrize("case", LOSSES)
def test_a_loss_means_what_it_meant(case):
    head, labels, given, wanted = LOSSES[case]
    model = four_classes(given(), None)
    x, y, p = answers(model, head, labels)
    if "divergence" in case:  # A divergence has two sides.
        right = float(wanted()(np.hstack([y, 1 - y]), np.hstack([p, 1 - p])))
    else:
        right = float(wanted()(y, p))
    assert whole_cut(model, labels, head).evaluate(x, y, verbose=0) == pytest.approx(right, 1e-4)


def test_weights_by_class_of_a_loss_of_ones_own_are_picked():
    weights = [1.0, 2.0, 3.0, 7.0]
    model = four_classes(Weighted(weights), None)
    x, y, p = answers(model, "labels")
    with pytest.warns(UserWarning, match="weights of 'weighted'"):
        small = whole_cut(model, LABELS, "labels")
    right = -(np.log(p) * y * np.array([2.0, 7.0])).sum(axis=1).mean()
    assert small.evaluate(x, y, verbose=0) == pytest.approx(right, rel=1e-5)


@pytest.mark.parametrize(
    ("labels", "head", "settings", "told"),
    [
        ([1, 3], "labels", {"rare": 3}, "rare=3 of 'of_one_class'.*3 is 1"),
        ([1, 3], "labels", {"rare": 2}, "rare=2 .*2 is none"),
        ([1, 3], "labels", {"others": [1, 2]}, r"others=\[1, 2\].*1 is 0, 2 is none"),
        ([1, 3], "other", {"rare": 1}, "1 is 0"),
        ([3], "binary", {"rare": 3}, "3 is 0"),
        ([0, 1], "labels", {"rare": 1}, None),
        ([1, 3], "labels", {"rare": 9, "axis": 1, "degree": 3.0, "strict": True}, None),
    ],
)
def test_whole_numbers_of_ones_own_that_may_number_a_class_are_told_of(
    labels, head, settings, told
):
    rare = settings.get("rare", 9)
    model = four_classes("categorical_crossentropy", [OfOneClass(**settings | {"rare": rare})])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        whole_cut(model, labels, head)
    said = [str(one.message) for one in caught if "of_one_class" in str(one.message)]
    assert len(said) == (told is not None)
    assert told is None or re.search(told, said[0])


@not_on("jax", "fits a model that has no loss")
@pytest.mark.parametrize(
    ("head", "loss"),
    [
        ("other", Weighted([1.0, 2.0, 3.0, 7.0])),
        ("other", C.CategoricalFocalCrossentropy([0.1, 0.2, 0.3, 0.9])),
        ("binary", sparse_loss),
        ("binary", "categorical_hinge"),
        ("binary", C.CategoricalGeneralizedCrossEntropy()),
        ("binary", C.SparseCategoricalCrossentropy(ignore_class=0)),
    ],
)
def test_a_loss_without_a_meaning_is_left_out_by_name(head, loss):
    model = four_classes(loss, None)
    with pytest.warns(UserWarning, match="left out.*: loss '"):
        small = whole_cut(model, [1], head)
    with pytest.raises(ValueError, match="loss"):
        small.fit(X, np.zeros((60, small.output_shape[-1])), verbose=0)


@pytest.mark.slow
def test_the_one_value_of_a_yes_no_parent_is_that_of_its_label_1():
    model = keras.Sequential([keras.Input((5,)), L.Dense(3), L.Dense(1, activation="sigmoid")])
    model.compile("sgd", "binary_crossentropy", metrics=[M.Recall(class_id=0)])
    p, y = model.predict(X, verbose=0), (Y % 2).astype("float32")[:, None]
    small = whole_cut(model, [0, 1], "labels")
    found = small.evaluate(X, np.hstack([1 - y, y]), verbose=0)[1]
    assert found == pytest.approx(value(M.Recall(), y, p))
    with pytest.warns(UserWarning, match="class_id=0"):
        whole_cut(model, [0], "binary")


COUNTED = set(SETTINGS)
UNCOUNTED = {
    *("name", "dtype", "reduction", "axis", "from_logits", "label_smoothing", "threshold"),
    *("thresholds", "num_thresholds", "curve", "summation_method", "average", "beta", "gamma"),
    *("sparse_y_true", "sparse_y_pred", "recall", "precision", "sensitivity", "specificity"),
    *("class_aggregation", "from_sorted_ids", "apply_class_balancing", "q", "delta", "margin"),
    *("remove_diagonal", "num_regressors", "fn", "kwargs", "self"),
}


@pytest.mark.parametrize("module", [keras.metrics, keras.losses])
def test_every_setting_of_keras_is_known_to_count_classes_or_not(module):
    for kind in vars(module).values():
        if inspect.isclass(kind):
            settings = set(inspect.signature(kind.__init__).parameters)
            assert settings <= COUNTED | UNCOUNTED, kind


@pytest.mark.slow
def test_a_subnetwork_whose_loss_was_left_out_learns_by_the_usual_one():
    model = four_classes("categorical_hinge", None)
    with pytest.warns(UserWarning, match="left out.*categorical_hinge"):
        small = whole_cut(model, [1], "binary", tuple("abcd"))
    trained = nns.fine_tune(small, (X, Y), held_out=0.2)
    assert isinstance(trained.model.loss, keras.losses.BinaryCrossentropy)
