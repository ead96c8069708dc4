"""Compositions are held against the arithmetic of their parts, done apart in numpy."""

import keras
import numpy as np
import pytest
from keras import layers
from scipy.special import logit, softmax
from sklearn.linear_model import LogisticRegression

import keras_nns as nns
import tflite_export
from keras_nns.graph.tracing import trace
from keras_nns.plans.kept_units import Plan
from keras_nns.surgery.lineage import Composition, origin_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings(
        "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
    ),
]
NAMES = ("cat", "dog", "eel", "fox")


def parent_of(kind, name="parent", seed=0):
    keras.utils.set_random_seed(seed)
    end = {"softmax": "softmax", "sigmoid": "sigmoid", "linear": None}[kind]
    model = keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            layers.Rescaling(2.0, name="scale"),
            layers.Conv2D(5, 3, activation="relu", name="conv"),
            layers.Flatten(name="flat"),
            layers.Dense(12, activation="relu", name="hidden"),
            layers.Dense(4, activation=end, name="answer"),
        ],
        name=name,
    )
    for weight in model.weights:
        weight.assign(np.random.default_rng(len(weight.shape)).normal(size=weight.shape) / 3)
    return model


@pytest.fixture(scope="module")
def data():
    random = np.random.default_rng(3)
    y = np.arange(800) % 4
    x = random.normal(size=(800, 6, 6, 1)).astype("float32") / 2
    x[np.arange(800), y, y, 0] += 2
    return x, y


@pytest.fixture(scope="module")
def parent(data):
    model = parent_of("softmax")
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    keras.utils.set_random_seed(0)
    model.fit(data[0][:300], data[1][:300], epochs=4, verbose=0)
    return model


def plan_of(model, labels, dropped=(0, 3)):
    """Keep all but some units of the hidden Dense."""
    graph = trace(model)
    sizes = {group.name: group.size for group in graph.layout.prunable}
    kept = {name: tuple(range(size)) for name, size in sizes.items()}
    kept["hidden"] = tuple(i for i in range(sizes["hidden"]) if i not in dropped)
    return Plan(nns.fingerprint(model), sizes, kept, tuple(labels), NAMES)


def cuts(model, heads_and_labels):
    return [
        nns.cut(model, plan_of(model, labels, (place, place + 4)), head=head)
        for place, (head, labels) in enumerate(heads_and_labels)
    ]


def probability(model, x, *places):
    return np.asarray(model(x), dtype="float64")[:, list(places)].sum(axis=1)


EACH = [("binary", [i]) for i in range(4)]


@pytest.mark.parametrize("kind", ["softmax", "linear"])
def test_scores_as_they_are_decide_by_the_odds(kind, data):
    x, y = data
    mixed = [("binary", [2]), ("other", [0]), ("parent", [3]), ("binary", [1])]
    subnets = cuts(parent_of(kind), mixed)
    whole = nns.compose(subnets)
    theirs = [np.asarray(subnet(x[:50]), dtype="float64") for subnet in subnets]
    parents = theirs[2] if kind == "softmax" else softmax(theirs[2], axis=1)
    odds = [logit(p) for p in (theirs[0][:, 0], theirs[1][:, 0], parents[:, 3], theirs[3][:, 0])]
    expected = softmax(np.stack(odds, axis=1), axis=1)
    assert np.asarray(whole(x[:50])) == pytest.approx(expected, abs=2e-4)
    result = nns.evaluate(whole, x, y, allow_overlap=True)
    assert result.answers == ("eel", "cat", "fox", "dog") and result.head == "labels"
    chosen = np.array([2, 0, 3, 1])[np.asarray(whole(x)).argmax(axis=1)]
    assert result.accuracy == pytest.approx((chosen == y).mean())
    assert result["fox"].recall == pytest.approx((chosen == y)[y == 3].mean())
    assert result.left_out == 0


def test_sigmoids_and_heads_of_several_labels(data):
    x = data[0][:50]
    subnets = cuts(parent_of("sigmoid"), [("binary", [0]), ("labels", [1, 3])])
    whole = nns.compose(subnets)
    odds = np.concatenate([logit(np.asarray(subnet(x), "float64")) for subnet in subnets], axis=1)
    assert np.asarray(whole(x)) == pytest.approx(softmax(odds, axis=1), abs=1e-4)
    several = cuts(
        parent_of("softmax"),
        [
            ("labels", [0, 2]),
            ("other", [1, 3]),
        ],
    )
    whole = nns.compose(several)
    first, second = (np.asarray(subnet(x), "float64") for subnet in several)
    odds = logit(np.concatenate([first, second[:, :2]], axis=1))
    assert np.asarray(whole(x)) == pytest.approx(softmax(odds, axis=1), abs=1e-4)
    assert [origin_of(whole).label_names] == [("cat", "eel", "dog", "fox")]


def test_sums_of_several_labels_are_one_answer(data):
    x = data[0][:50]
    subnets = cuts(parent_of("softmax"), [("binary", [0, 1]), ("binary", [2])])
    whole = nns.compose({"pet": subnets[0], "eel": subnets[1]})
    odds = np.stack([logit(probability(subnet, x, 0)) for subnet in subnets], axis=1)
    assert np.asarray(whole(x)) == pytest.approx(softmax(odds, axis=1), abs=1e-4)


def test_a_calibrated_head_is_no_sum(parent, data):
    x, y = data
    plan = plan_of(parent, [1])
    small = nns.cut(parent, plan, head="binary")
    fixed = nns.repair(small, parent, x[:300], y[:300], steps=nns.steps.calibrate_head()).model
    other = nns.cut(parent, plan_of(parent, [2]), head="binary")
    whole = nns.compose([fixed, other])
    odds = np.stack([logit(probability(one, x[:40], 0)) for one in (fixed, other)], axis=1)
    assert np.asarray(whole(x[:40])) == pytest.approx(softmax(odds, axis=1), abs=2e-4)


@pytest.mark.parametrize("calibrate", ["joint", "each"])
def test_calibration_is_a_regression_on_the_scores(parent, data, calibrate):
    x, y = data
    subnets = cuts(parent, EACH)
    whole = nns.compose(subnets, x[300:550], y[300:550], calibrate=calibrate)
    odds = np.stack(
        [logit(probability(one, x, 0).clip(1e-12, 1 - 1e-7)) for one in subnets], axis=1
    )
    some = slice(300, 550)
    if calibrate == "joint":
        model = LogisticRegression(C=1e4, max_iter=5000).fit(odds[some], y[some])
        expected = model.predict(odds)
    else:
        fits = [LogisticRegression(C=1e4).fit(odds[some, [i]], y[some] == i) for i in range(4)]
        each = [fit.decision_function(odds[:, [i]]) for i, fit in enumerate(fits)]
        expected = np.argmax(each, axis=0)
        kernel = whole.get_layer("composition").kernel.numpy()
        assert (kernel == np.diag(np.diag(kernel))).all()
    chosen = np.asarray(whole(x)).argmax(axis=1)
    assert (chosen == expected).mean() > 0.97
    plain = nns.evaluate(nns.compose(subnets), x[550:], y[550:])
    better = nns.evaluate(whole, x[550:], y[550:])
    assert better.brier < plain.brier + 0.01
    with pytest.raises(nns.errors.DataError, match="allow_overlap"):
        nns.evaluate(whole, x[300:550], y[300:550])


def test_two_labels_have_one_logit(parent, data):
    x, y = data
    some = np.isin(y[300:], (0, 3))
    subnets = cuts(parent, [("binary", [0]), ("binary", [3])])
    whole = nns.compose(subnets, x[300:], y[300:])
    result = nns.evaluate(whole, x[300:], y[300:], allow_overlap=True)
    assert result.samples == some.sum() and result.left_out == (~some).sum()
    assert result.accuracy > 0.9
    assert [one.name for one in result.unseen] == ["dog", "eel"]


def test_what_subnetworks_have_in_common_is_there_once(parent, data):
    subnets = cuts(parent, EACH)
    whole = nns.compose(subnets)
    names = [layer.name for layer in whole.layers]
    assert len(set(names)) == len(names)
    assert [name for name in names if "conv" in name or "scale" in name] == ["scale", "conv"]
    assert {"cat_hidden", "dog_hidden", "eel_hidden", "fox_hidden"} <= set(names)
    alone = sum(subnet.count_params() for subnet in subnets)
    conv, sums = parent.get_layer("conv").count_params(), 4 * 5
    assert whole.count_params() == alone - 3 * conv - sums + 4 * 4 + 4
    twins = [subnets[0], nns.cut(parent, plan_of(parent, [1], (0, 4)), head="binary")]
    both = nns.compose(twins)
    assert sum(layer.count_params() for layer in both.layers[:-1]) == (twins[0].count_params() - 5)


def test_nothing_of_the_parts_changes(parent, data):
    subnets = cuts(parent, EACH)
    before = [
        (len(layer._inbound_nodes), layer.name, layer.trainable)
        for subnet in subnets
        for layer in subnet.layers
    ]
    weights = [subnet.get_weights() for subnet in subnets]
    whole = nns.compose(subnets, data[0][:200], data[1][:200])
    whole.compile("sgd", "sparse_categorical_crossentropy")
    whole.fit(*data, epochs=1, verbose=0)
    after = [
        (len(layer._inbound_nodes), layer.name, layer.trainable)
        for subnet in subnets
        for layer in subnet.layers
    ]
    assert before == after
    for old, subnet in zip(weights, subnets, strict=True):
        assert all((a == b).all() for a, b in zip(old, subnet.get_weights(), strict=True))


def test_a_composition_is_an_ordinary_model(parent, data, tmp_path):
    x, y = data
    whole = nns.compose(cuts(parent, EACH), x[300:500], y[300:500])
    nns.save_model(whole, tmp_path / "whole.keras")
    back = nns.load_model(tmp_path / "whole.keras")
    assert isinstance(origin_of(back), Composition) and origin_of(back) == origin_of(whole)
    assert nns.lineage(back) is None
    assert np.asarray(back(x[:9])) == pytest.approx(np.asarray(whole(x[:9])), abs=1e-6)
    ours, theirs = (nns.evaluate(m, x[500:], y[500:]).to_json() for m in (whole, back))
    assert ours == theirs
    compared = nns.compare(parent, back, x[500:], y[500:])
    assert compared.before.accuracy == compared.parent.accuracy
    assert compared.after.to_json() == theirs
    flat = tflite_export.convert(whole)
    assert tflite_export.verify(flat, whole, x[:20]).relative < 1e-4
    activity = nns.observe(whole, x[:300], y[:300], label_names=NAMES, verbose=False)
    plan = nns.select(activity, "dog", keep=nns.fraction(0.5), score="mean_activation")
    small = nns.cut(whole, plan, head="binary", prove=True)
    assert small.count_params() < whole.count_params()


def test_parents_may_differ(parent, data):
    x, y = data
    keras.utils.set_random_seed(4)
    inputs = keras.Input((6, 6, 1), name="image")
    hidden = layers.Dense(7, activation="relu", name="hidden")(layers.Flatten()(inputs))
    second = keras.Model(inputs, layers.Dense(2, activation="softmax", name="answer")(hidden))
    second.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    known = np.isin(y[:300], (1, 2))
    second.fit(x[:300][known], y[:300][known] - 1, epochs=6, verbose=0)
    activity = nns.observe(
        second, x[:300][known], y[:300][known] - 1, label_names=("dog", "eel"), verbose=False
    )
    dog = nns.cut(
        second, nns.select(activity, "dog", keep=nns.top(4), score="mean_activation"), head="binary"
    )
    cat = nns.cut(parent, plan_of(parent, [0]), head="binary")
    whole = nns.compose([cat, dog], x[300:550], y[300:550], label_names=NAMES)
    result = nns.evaluate(whole, x[550:], y[550:], label_names=NAMES)
    assert result.answers == ("cat", "dog") and result.accuracy > 0.9
    text = np.array(["cat", "dog"])[y[550:][y[550:] < 2]]
    assert nns.evaluate(whole, x[550:][y[550:] < 2], text).accuracy == result.accuracy
    with pytest.raises(nns.errors.DataError, match=r"does not have: cat"):
        nns.evaluate(whole, x[550:], y[550:], label_names=("a", "dog", "c", "d"))


def test_wrong_use(parent, data):
    x, y = data
    cat, dog = cuts(parent, EACH[:2])
    with pytest.raises(nns.errors.SelectionError, match="two labels at least"):
        nns.compose([cat])
    with pytest.raises(nns.errors.SelectionError, match="Several networks answer for"):
        nns.compose([cat, dog, cat])
    assert nns.compose({"one": cat, "two": cat}).output_shape == (None, 2)
    with pytest.raises(nns.errors.SelectionError, match="for which labels it was made"):
        nns.compose([cat, parent])
    with pytest.raises(nns.errors.SelectionError, match="'joint', 'each'"):
        nns.compose([cat, dog], x, y, calibrate="none")
    both = nns.cut(parent, plan_of(parent, [2, 3]), head="labels")
    with pytest.raises(nns.errors.SelectionError, match="answers for"):
        nns.compose({"a": cat, "b": both})
    other = keras.Sequential([keras.Input((5,)), layers.Dense(3, name="hidden"), layers.Dense(4)])
    eel = nns.cut(other, plan_of(other, [2], (0,)), head="binary")
    with pytest.raises(nns.errors.ModelError, match="take the same inputs"):
        nns.compose([cat, eel])
    with pytest.raises(nns.errors.DataError, match="at least 10 samples"):
        nns.compose([cat, dog], x[:20], y[:20])
    with pytest.raises(nns.errors.DataError, match=r"no label named \['cat', 'dog'\]"):
        nns.compose([cat, dog], x, y, label_names=list("abcd"))
