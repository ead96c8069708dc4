"""The refitted head: what it answers, and that it is the one scikit-learn would fit."""

from __future__ import annotations

from dataclasses import replace

import keras
import numpy as np
import pytest
from keras import layers as L
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, roc_curve
from sklearn.preprocessing import StandardScaler

import keras_nns as nns

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def digits():
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    return (x[order] / 16).astype("float32"), y[order]


@pytest.fixture(scope="module")
def parent(digits):
    return trained(digits, L.Dense(10, activation="softmax", name="digit"))


@pytest.fixture(scope="module")
def functional(digits):
    return trained(digits, L.Dense(10, activation="softmax", name="digit"), functional=True)


def trained(digits, *head, functional=False):
    keras.utils.set_random_seed(0)
    body = [L.Dense(32, activation="relu", name="hidden"), *head]
    if functional:
        x = start = keras.Input((64,))
        for layer in body:
            x = layer(x)
        model = keras.Model(start, x)
    else:
        model = keras.Sequential([keras.Input((64,)), *body])
    logits = not any(getattr(layer, "activation", None) is not None
                     and layer.activation.__name__ == "softmax" for layer in head)  # fmt: skip
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=logits)
    model.compile("adam", loss)
    model.fit(digits[0][:800], digits[1][:800], epochs=12, verbose=0)
    return model


def plan_of(model, digits, labels, units=8):
    activity = nns.observe(model, (digits[0][:800], digits[1][:800]), verbose=False)
    return nns.select(activity, labels, score=nns.scores.contrast, keep=nns.top(units))


def balanced(model, digits):
    return nns.evaluate(model, (digits[0][800:], digits[1][800:])).rows


def fit(model, small, digits, **options):
    x, y = digits
    steps = nns.steps.calibrate_head(**options)
    return nns.repair(small, model, (x[:800], y[:800]), steps=steps, held_out=0)


def test_a_binary_head_is_the_regression_of_scikit_learn(parent, digits):
    small = nns.cut(parent, plan_of(parent, digits, 3), head="binary")
    repair = fit(parent, small, digits, rounding=None)
    model = repair.model
    assert [type(layer) for layer in model.layers] == [L.Dense, L.Dense]
    assert model.layers[-1].activation is keras.activations.sigmoid
    assert model.output_shape == (None, 1)
    record = nns.lineage(model)
    assert replace(record, balanced=None) == nns.lineage(small)
    # The parent's own best point on the same samples is kept beside it.
    chance = parent(digits[0][:800]).numpy()[:, 3]
    false, true, edges = roc_curve(digits[1][:800] == 3, chance)
    best = edges[1:][np.argmax((true - false)[1:])]
    assert record.balanced.samples == 800
    (threshold,) = record.balanced.parent.thresholds
    assert threshold == pytest.approx((best + chance[chance < best].max()) / 2)
    test = digits[0][800:], digits[1][800:]
    compared = nns.compare(parent, model, test)
    assert compared.before.rows[0].balanced_accuracy == pytest.approx(
        balanced_accuracy_score(test[1] == 3, parent(test[0]).numpy()[:, 3] >= threshold)
    )
    assert compared.after.rows[0] == nns.evaluate(model, test).rows[0]
    strength = float(repair.gains[0].note.split("=")[1].split(",")[0])
    x, y = digits[0][:800], digits[1][:800] == 3
    features = model.layers[0](x).numpy().astype(np.float64)
    z = StandardScaler().fit(features)
    wanted = LogisticRegression(C=strength, class_weight="balanced", max_iter=1000)
    wanted.fit(z.transform(features), y)
    kernel = wanted.coef_.T / z.scale_[:, None]
    np.testing.assert_allclose(model.layers[-1].kernel, kernel, rtol=1e-3, atol=1e-4)
    # The bias alone was moved, to the operating point.
    scores = wanted.decision_function(z.transform(features))
    logit = features @ np.asarray(model.layers[-1].kernel) + np.asarray(model.layers[-1].bias)
    np.testing.assert_allclose(np.ptp(logit[:, 0] - scores), 0, atol=1e-2)


@pytest.mark.parametrize("every_label", [False, True])
@pytest.mark.parametrize("form", ["parent", "functional"])
def test_a_binary_head_gets_right_what_it_got_wrong(digits, every_label, form, request):
    model = request.getfixturevalue(form)
    small = nns.cut(model, plan_of(model, digits, 8, units=12), head="binary")
    fixed = fit(model, small, digits, every_label=every_label).model
    before, after = balanced(small, digits)[0], balanced(fixed, digits)[0]
    assert after.balanced_accuracy > before.balanced_accuracy
    assert isinstance(fixed, keras.Sequential) is (form == "parent")
    # The operating point gives up neither side for the other.
    assert abs(after.recall - after.specificity) < 0.15


def test_an_other_head_becomes_one_layer(parent, digits):
    small = nns.cut(parent, plan_of(parent, digits, [3, 8]), head="other")
    repair = fit(parent, small, digits)
    assert repair.model.output_shape == (None, 3)
    assert repair.model.layers[-1].name == "other_head"
    assert repair.model.count_params() < small.count_params()
    mean = [np.mean([r.balanced_accuracy for r in balanced(m, digits)])
            for m in (small, repair.model)]  # fmt: skip
    assert mean[1] > mean[0]
    np.testing.assert_allclose(repair.model(digits[0][:9]).numpy().sum(axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize(("head", "labels"), [("labels", [3, 5, 8]), ("parent", [3, 5, 8])])
def test_other_heads_keep_their_layers(parent, digits, head, labels):
    small = nns.cut(parent, plan_of(parent, digits, labels, units=5), head=head)
    fixed = fit(parent, small, digits).model
    assert [layer.name for layer in fixed.layers] == [layer.name for layer in small.layers]
    assert fixed.output_shape == small.output_shape
    np.testing.assert_array_equal(fixed.layers[0].kernel, small.layers[0].kernel)
    rows = zip(balanced(small, digits), balanced(fixed, digits), strict=True)
    before, after = np.transpose([(a.balanced_accuracy, b.balanced_accuracy) for a, b in rows])
    assert after.mean() > before.mean()


def test_logits_stay_logits(digits):
    model = trained(digits, L.Dense(10, name="digit"))
    small = nns.cut(model, plan_of(model, digits, [1, 2, 3]))
    fixed = fit(model, small, digits).model
    assert (fixed(digits[0][:50]).numpy() < 0).any()
    right = fixed(digits[0][800:]).numpy().argmax(axis=1) == digits[1][800:]
    assert right.mean() > (small(digits[0][800:]).numpy().argmax(1) == digits[1][800:]).mean()
    yes = fit(model, nns.cut(model, plan_of(model, digits, 1), head="binary"), digits).model
    assert yes.output_shape == (None, 1)
    assert [type(layer) for layer in yes.layers] == [L.Dense, L.Dense]


def test_a_softmax_layer_behind_the_dense_stays(digits):
    model = trained(digits, L.Dense(10, name="digit"), L.Activation("softmax", name="p"))
    small = nns.cut(model, plan_of(model, digits, [1, 2, 3]), head="labels")
    fixed = fit(model, small, digits).model
    assert [layer.name for layer in fixed.layers] == ["hidden", "digit", "p"]
    np.testing.assert_allclose(fixed(digits[0][:9]).numpy().sum(axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize(
    ("form", "squeeze"), [("functional", L.Reshape((10,))), ("sequential", L.Flatten())]
)
def test_a_convolution_that_loses_its_position_behind_it_is_a_head(parent, digits, form, squeeze):
    """As MobileNet ends. The right head is that of the same weights in Dense layers."""
    body = [
        L.Reshape((1, 1, 64)),
        L.Conv2D(32, 1, activation="relu", name="hidden"),
        L.Conv2D(10, 1, name="digit"),
        type(squeeze).from_config(squeeze.get_config()),
        L.Activation("softmax"),
    ]
    model = keras.Sequential([keras.Input((64,)), *body])
    if form == "functional":
        model = keras.Model(model.inputs[0], model.outputs[0])
    model.set_weights([w.reshape(o.shape) for w, o in
                       zip(parent.get_weights(), model.get_weights(), strict=True)])  # fmt: skip
    for head, labels in (("binary", 3), ("other", [3, 8]), ("labels", [3, 5, 8])):
        found = []
        for one in (parent, model):
            small = nns.cut(one, plan_of(one, digits, labels), head=head)
            found.append(fit(one, small, digits).model)
            assert found[-1].output_shape == small.output_shape
            assert isinstance(found[-1], type(one))
        answers = [one(digits[0][800:900]) for one in found]
        np.testing.assert_allclose(answers[1], answers[0], atol=2e-3)


def nested(parent, form, *, use_bias=True):
    """The parent's layers, inside models inside models."""
    hidden = L.Dense(32, activation="relu", name="hidden")
    digit = L.Dense(10, activation="softmax", name="digit", use_bias=use_bias)

    def functional(*body, name):
        x = start = keras.Input((64,))
        for layer in body:
            x = layer(x)
        return keras.Model(start, x, name=name)

    def sequential(*body, name):
        return keras.Sequential([keras.Input((64,)), *body], name=name)

    outer, inner = (functional if kind == "f" else sequential for kind in form[:2])
    body = inner(hidden, digit, name="net")
    if len(form) == 3:
        body = (functional if form[2] == "f" else sequential)(L.Identity(), body, name="middle")
    model = outer(L.Rescaling(1.0), body, name="whole")
    hidden.set_weights(parent.layers[0].get_weights())
    digit.set_weights(parent.layers[-1].get_weights()[: 1 + use_bias])
    return model


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("form", ["ff", "fs", "sf", "ss", "ffs", "sss", "fsf", "ssf"])
def test_a_head_inside_nested_models_is_that_of_the_flat_one(parent, digits, form, tmp_path):
    """As behind a layer that prepares the images of a whole network of keras.applications."""
    model = nested(parent, form)
    for head, labels in (("binary", 3), ("other", [3, 8]), ("labels", [3, 5, 8])):
        found = []
        for one in (parent, model):
            small = nns.cut(one, plan_of(one, digits, labels), head=head)
            found.append(fit(one, small, digits).model)
            assert found[-1].output_shape == small.output_shape
            assert isinstance(found[-1], type(one))
        answers = [np.asarray(one(digits[0][800:900])) for one in found]
        np.testing.assert_allclose(answers[1], answers[0], atol=1e-5)
        found[1].save(tmp_path / "fixed.keras")
        loaded = nns.load_model(tmp_path / "fixed.keras")
        np.testing.assert_array_equal(np.asarray(loaded(digits[0][800:900])), answers[1])


def test_a_nested_head_without_bias_gets_one(parent, digits):
    model = nested(parent, "fs", use_bias=False)
    small = nns.cut(model, plan_of(model, digits, [3, 5, 8]), head="labels")
    fixed = fit(model, small, digits).model
    assert fixed.layers[-1].layers[-1].bias is not None
    rows = zip(balanced(small, digits), balanced(fixed, digits), strict=True)
    before, after = np.transpose([(a.balanced_accuracy, b.balanced_accuracy) for a, b in rows])
    assert after.mean() > before.mean()


def test_a_nested_model_that_is_called_twice_is_named(digits):
    shared = keras.Sequential(
        [keras.Input((64,)), L.Dense(8, "relu"), L.Dense(10, "softmax")], name="shared"
    )
    x = keras.Input((64,))
    outputs = [L.Identity(name="dim")(shared(L.Rescaling(0.5)(x))), L.Identity(name="y")(shared(x))]
    model = keras.Model(x, outputs)
    activity = nns.observe(model, digits, output="y", verbose=False)
    plan = nns.select(activity, [3, 5], score=nns.scores.contrast, keep=nns.top(4))
    small = nns.cut(model, plan, head="parent", output="y")
    with pytest.raises(
        nns.errors.SurgeryError, match="nested model 'shared' is called more than once"
    ):
        nns.repair(small, model, digits, steps=nns.steps.calibrate_head())


def test_features_are_no_answers_by_which_a_scale_is_judged(parent, digits, monkeypatch):
    from keras_nns.observation import forward

    seen = []
    monkeypatch.setattr(forward, "check_scale", lambda model, *_: seen.append(model))
    small = nns.cut(parent, plan_of(parent, digits, [3, 8]), head="other")
    steps = (nns.steps.calibrate_head(), nns.steps.calibrate_temperature())
    nns.repair(small, parent, digits, steps=steps)
    assert seen and all(model is parent for model in seen)


def test_labels_that_are_true_together_get_one_regression_each(digits):
    x, y = digits
    table = np.stack([y < 5, y % 2 == 0, y % 3 == 0], axis=1)
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((64,)), L.Dense(32, activation="relu"), L.Dense(3, activation="sigmoid")]
    )
    model.compile("adam", "binary_crossentropy")
    model.fit(x[:800], table[:800], epochs=12, verbose=0)
    activity = nns.observe(model, (x[:800], table[:800]), verbose=False)
    plan = nns.select(activity, [0, 1], score=nns.scores.contrast, keep=nns.top(6))
    small = nns.cut(model, plan, head="labels")
    fixed = nns.repair(small, model, (x[:800], table[:800]), steps=nns.steps.calibrate_head()).model
    right = [((m(x[800:]).numpy() > 0.5) == table[800:, :2]).mean() for m in (small, fixed)]
    assert right[1] > right[0]


def test_a_calibrated_head_can_be_calibrated_again(parent, digits):
    small = nns.cut(parent, plan_of(parent, digits, 3), head="binary")
    once = fit(parent, small, digits).model
    twice = fit(parent, once, digits).model
    assert [layer.name for layer in twice.layers] == [layer.name for layer in once.layers]
    np.testing.assert_allclose(twice(digits[0][:20]), once(digits[0][:20]), atol=1e-3)


def test_the_given_subnetwork_stays_as_it_was(parent, digits):
    small = nns.cut(parent, plan_of(parent, digits, 3), head="binary")
    before, names = small.get_weights(), [layer.name for layer in small.layers]
    fit(parent, small, digits)
    assert [layer.name for layer in small.layers] == names
    for one, other in zip(before, small.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


# Wrong use -----------------------------------------------------------------------------------


def test_too_few_samples_of_an_answer(parent, digits):
    small = nns.cut(parent, plan_of(parent, digits, 3), head="binary")
    x, y = digits
    some = np.r_[np.flatnonzero(y == 3)[:6], np.flatnonzero(y != 3)[:100]]
    with pytest.raises(nns.errors.DataError, match=r"at least 10 samples of every .* has 6 of '3'"):
        nns.repair(small, parent, (x[some], y[some]), steps=nns.steps.calibrate_head(), held_out=0)


def test_the_head_comes_last(parent, digits):
    small = nns.cut(parent, plan_of(parent, digits, 3), head="binary")
    with pytest.raises(nns.errors.SurgeryError, match="Put it last"):
        nns.repair(
            small, parent, digits, steps=(nns.steps.calibrate_head(), nns.steps.fold_means())
        )


def test_an_answer_that_comes_from_no_dense(digits):
    x = start = keras.Input((8, 8, 1))
    x = L.Conv2D(6, 3, activation="relu")(x)
    x = L.Conv2D(10, 3)(x)
    model = keras.Model(start, L.Softmax()(L.GlobalAveragePooling2D()(x)))
    images = digits[0].reshape(-1, 8, 8, 1)
    activity = nns.observe(model, (images, digits[1]), verbose=False)
    small = nns.cut(model, nns.select(activity, 3, score="mean_activation"), head="binary")
    with pytest.raises(nns.errors.SurgeryError, match="no Dense of its own"):
        nns.repair(small, model, (images, digits[1]), steps=nns.steps.calibrate_head())
