"""A transplant starts from what `cut` and `repair` give, and is held against it by weights."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_nns as nns
import tflite_export
from keras_nns.observation.holdout import Division

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings(
        "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
    ),
]
NAMES = ("cat", "dog", "eel", "fox")


@pytest.fixture(scope="module")
def data():
    random = np.random.default_rng(3)
    y = np.arange(1200) % 4
    x = random.normal(size=(1200, 6, 6, 1)).astype("float32") / 2
    x[np.arange(1200), y, y, 0] += 2
    return x, y


def network(filters, units, outputs, end="softmax", pool=None, kernel=3):
    return keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            layers.Conv2D(filters, kernel, use_bias=False, name="conv"),
            layers.BatchNormalization(name="norm"),
            layers.ReLU(),
            *([] if pool is None else [layers.MaxPooling2D(pool)]),
            layers.Flatten(),
            layers.Dense(units, activation="relu", name="hidden"),
            layers.Dense(outputs, activation=end, name="answer"),
        ]
    )


@pytest.fixture(scope="module")
def parent(data):
    keras.utils.set_random_seed(0)
    model = network(12, 24, 4)
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    model.fit(*data, epochs=4, verbose=0)
    return model


def froze():
    """An optimizer that moves nothing, so that the beginning can be seen."""
    return keras.optimizers.SGD(0.0)


def started(parent, small, data, **how):
    how = {"labels": ["dog", "fox"], "epochs": 1, "label_names": NAMES, **how}
    return nns.transplant(parent, small, *data, optimizer=froze(), **how)


def test_where_all_shapes_allow_it_begins_as_the_cut(parent, data):
    small = network(5, 9, 2)
    done = started(parent, small, data, repair=False)
    assert [o.parents for o in done.origins] == ["conv", "norm", "hidden", "answer"]
    assert [(o.units, o.of) for o in done.origins if o.layer in ("conv", "hidden")] == [
        (5, 12),
        (9, 24),
    ]
    record = nns.lineage(done.model)
    assert record.plan.names == ("dog", "fox") and record.head == "labels"
    twin = nns.cut(parent, record.plan, head="labels")
    x = data[0][:40]
    dense = done.model.get_layer("hidden").get_weights()
    assert all(np.array_equal(a, b) for a, b in zip(dense, twin.get_layer("hidden").get_weights(),
                                                    strict=True))  # fmt: skip
    kernels = [model.get_layer("conv").kernel.numpy() for model in (done.model, twin)]
    assert np.array_equal(*kernels)
    assert np.asarray(done.model(x)).shape == (40, 2)


def test_each_label_brings_the_units_it_needs_most(parent, data):
    done = started(parent, network(12, 2, 2), data)
    activity = nns.observe(parent, *data, label_names=NAMES, verbose=False)
    scores = nns.scores.contrast(activity)["hidden"]
    best = {int(scores[1].argmax()), int(scores[3].argmax())}
    assert best <= set(nns.lineage(done.model).plan.kept["hidden"])
    assert nns.lineage(done.model).plan.kept["conv"] == tuple(range(12))


def test_it_begins_repaired(parent, data):
    # Batch norms would go on counting.
    still = {"held_out": 0.3, "freeze_batch_norm": True}
    bare, done = (
        started(parent, network(5, 9, 2), data, repair=repair, **still) for repair in (False, True)
    )
    plan = nns.lineage(done.model).plan
    assert plan.kept == nns.lineage(bare.model).plan.kept
    # By what was not held out, and by nothing else.
    rows = Division(
        data, None, model=parent, held_out=0.3, seed=0, batch_size=1200, label_names=NAMES
    )
    (fit,) = rows.to_fit()
    small = nns.cut(parent, plan, head="labels")
    how = {"steps": nns.steps.least_squares(), "held_out": 0, "label_names": NAMES}
    twin = nns.repair(small, parent, fit.inputs, fit.labels, **how).model
    for name in ("conv", "norm", "hidden", "answer"):
        for ours, theirs in zip(
            done.model.get_layer(name).get_weights(),
            twin.get_layer(name).get_weights(),
            strict=True,
        ):
            assert ours == pytest.approx(theirs, abs=1e-5)
    far, near = (
        next(g.before for g in one.trained.gains if g.measure == "distance") for one in (bare, done)
    )
    assert near < 0.7 * far


def test_nothing_is_chosen_on_what_judges(parent, data):
    x, y = data
    observed = []

    def watched(activity):
        observed.append(activity)
        return nns.scores.contrast(activity)

    done = started(parent, network(5, 9, 2), data, score=watched, held_out=0.3, seed=4)
    (activity,) = observed
    rows = Division(
        data, None, model=parent, held_out=0.3, seed=4, batch_size=1200, label_names=NAMES
    )
    judging = np.concatenate([batch.inputs for batch in rows.held_out()])
    assert done.trained.held_out == len(judging)
    assert int(activity.samples.sum()) == len(x) - len(judging)
    there = {row.tobytes() for row in judging}
    others = np.array([row.tobytes() not in there for row in x])
    alone = nns.observe(parent, x[others], y[others], label_names=NAMES, verbose=False)
    assert activity.samples.tolist() == alone.samples.tolist()
    for name in ("conv", "hidden"):
        assert activity.mean(name) == pytest.approx(alone.mean(name), abs=1e-6)
    # And no sample is left to be judged by: it knows them all.
    with pytest.raises(nns.errors.DataError, match="allow_overlap"):
        nns.evaluate(done.model, judging, y[~others], label_names=NAMES)


def test_from_the_first_that_does_not_fit_on_layers_are_new(parent, data):
    small = network(5, 9, 2, pool=2)
    done = started(parent, small, data)
    assert [o.parents for o in done.origins] == ["conv", "norm", None, None]
    assert "weights of" in done.origins[2].why and "behind" in done.origins[3].why
    assert np.array_equal(
        done.model.get_layer("hidden").get_weights()[0], small.get_layer("hidden").get_weights()[0]
    )
    other = network(5, 9, 2, kernel=5)
    done = started(parent, other, data)
    assert [o.parents for o in done.origins] == [None] * 4
    assert "another kernel_size" in done.origins[0].why
    assert "0 of 4 layers" in str(done)
    wide = network(40, 9, 2)
    assert "has 12 units" in started(parent, wide, data).origins[0].why


@pytest.mark.parametrize(
    ("head", "outputs", "end"),
    [("labels", 2, "softmax"), ("other", 3, "softmax"), ("binary", 1, "sigmoid")],
)
def test_it_learns_what_the_parent_knows(parent, data, head, outputs, end):
    x, y = data
    small = network(6, 12, outputs, end)
    before = [w.copy() for w in small.get_weights()]
    theirs = [w.copy() for w in parent.get_weights()]
    fit = (x[:900], y[:900])
    done = nns.transplant(
        parent, small, fit, labels=["dog", "fox"], head=head, epochs=10, label_names=NAMES
    )
    assert all(np.array_equal(a, b) for a, b in zip(before, small.get_weights(), strict=True))
    assert all(np.array_equal(a, b) for a, b in zip(theirs, parent.get_weights(), strict=True))
    compared = nns.compare(parent, done.model, (x[900:], y[900:]), label_names=NAMES)
    assert compared.after.accuracy > compared.before.accuracy - 0.08
    assert done.model.count_params() < parent.count_params() / 2
    assert done.to_json()["trained"]["samples"] > 0


def test_the_result_is_an_ordinary_model(parent, data, tmp_path):
    x, y = data
    small = network(4, 8, 2, pool=2)
    done = nns.transplant(parent, small, data, labels=[1, 3], epochs=1, label_names=NAMES)
    nns.save_model(done.model, tmp_path / "small.keras")
    back = nns.load_model(tmp_path / "small.keras")
    assert nns.lineage(back) == nns.lineage(done.model)
    assert np.asarray(back(x[:9])) == pytest.approx(np.asarray(done.model(x[:9])), abs=1e-6)
    flat = tflite_export.convert(done.model)
    assert tflite_export.verify(flat, done.model, x[:20]).relative < 1e-4
    activity = nns.observe(done.model, x, y, label_names=NAMES, label_count=4, verbose=False)
    plan = nns.select(activity, "dog", keep=nns.fraction(0.5), score="mean_activation")
    assert nns.cut(done.model, plan, prove=True).count_params() < done.model.count_params()
    with pytest.raises(nns.errors.DataError, match="allow_overlap"):
        nns.evaluate(done.model, data)


def test_wrong_use(parent, data):
    with pytest.raises(
        nns.errors.SurgeryError, match=r"ends in 2 output\(s\), softmax, for dog, fox"
    ):
        started(parent, network(4, 8, 3), data)
    with pytest.raises(nns.errors.SurgeryError, match=r"ends in 1 output\(s\), sigmoid"):
        started(parent, network(4, 8, 1, None), data, head="binary")
    with pytest.raises(nns.errors.SurgeryError, match="ends in 2, linear"):
        started(parent, network(4, 8, 2, None), data)
    other = keras.Sequential([keras.Input((5,)), layers.Dense(2, activation="softmax")])
    with pytest.raises(nns.errors.ModelError, match="takes its parent's inputs"):
        started(parent, other, data)
    with pytest.raises(nns.errors.SelectionError, match="wolf"):
        started(parent, network(4, 8, 2), data, labels=["wolf", "fox"])
    with pytest.raises(nns.errors.SelectionError, match="empty"):
        started(parent, network(4, 8, 2), data, labels=[])
    x, y = data
    with pytest.raises(nns.errors.SelectionError, match=r"No sample of \['fox'\]"):
        started(parent, network(4, 8, 2), (x[y != 3], y[y != 3]))
    with pytest.raises(nns.errors.SurgeryError, match="softmax of one output"):
        started(parent, network(4, 8, 1), data, labels="fox")
    with pytest.raises(TypeError, match="temprature"):
        started(parent, network(4, 8, 2), data, temprature=3)
