"""A patch is held against counts of right and wrong answers, done apart in numpy."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_nns as nns
import tflite_export
from keras_nns.surgery.lineage import origin_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings(
        "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
    ),
]
NAMES = ("cat", "dog", "eel", "fox")


def points(seed, count=2000):
    random = np.random.default_rng(seed)
    y = np.arange(count) % 4
    return (random.normal(size=(count, 6)) + 3.0 * np.eye(6)[y]).astype("float32"), y


def network(name, x, y, seed=0, end="softmax"):
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(16, activation="relu", name="hidden"),
            layers.Dense(4, activation=end, name="answer"),
        ],
        name=name,
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=end is None)
    model.compile(keras.optimizers.Adam(0.01), loss)
    model.fit(x, y, epochs=4, batch_size=32, verbose=0)
    return model


@pytest.fixture(scope="module")
def weak():
    """Has seen three samples of fox."""
    x, y = points(0)
    rare = np.flatnonzero(y == 3)[3:]
    return network("weak", np.delete(x, rare, axis=0), np.delete(y, rare))


@pytest.fixture(scope="module")
def donor():
    x, y = points(1)
    model = network("better", x, y, 1)
    activity = nns.observe(model, x, y, label_names=NAMES, verbose=False)
    return nns.cut(
        model, nns.select(activity, "fox", keep=nns.top(10), score="mean_activation"), head="binary"
    )


@pytest.fixture(scope="module")
def patched(weak, donor):
    return nns.patch(weak, donor, "fox", points(2), host_names=NAMES, most_lost=1.0)


def test_a_weak_label_becomes_better(weak, donor, patched):
    assert patched.accepted and patched.model is not weak
    x, y = points(3)
    before, after = (np.asarray(m(x)).argmax(axis=1) for m in (weak, patched.model))
    assert (before[y == 3] == 3).mean() < 0.75
    assert (after[y == 3] == 3).mean() > 0.85
    lost = [(before[y == i] == i).mean() - (after[y == i] == i).mean() for i in range(3)]
    assert np.mean(lost) < 0.03
    # The host's labels among themselves are as the host has them.
    old, new = (np.asarray(m(x))[:, :3] for m in (weak, patched.model))
    kept = old.sum(axis=1) > 0.01
    share = [rows[kept] / rows[kept].sum(axis=1, keepdims=True) for rows in (old, new)]
    assert share[1] == pytest.approx(share[0], abs=1e-3)
    assert patched.model.output_shape == (None, 4)
    assert nns.evaluate(patched.model, x, y).answers == NAMES


def test_its_figures_are_those_of_samples_it_was_not_weighed_on(weak, donor, patched):
    x, y = points(2)
    # Accepted or not, the figures are there, and all samples are in one part.
    assert patched.fitted + patched.before.samples == len(x)
    assert 0.4 < patched.fitted / len(x) < 0.6
    old, new = patched.before["fox"], patched.after["fox"]
    assert patched.gain == pytest.approx(new.balanced_accuracy - old.balanced_accuracy)
    others = [patched.after[n].recall - patched.before[n].recall for n in NAMES[:3]]
    assert patched.others == pytest.approx(np.mean(others))
    with pytest.raises(nns.errors.DataError, match="allow_overlap"):
        nns.evaluate(patched.model, x, y)
    again = nns.patch(weak, donor, "fox", points(2), host_names=NAMES, most_lost=1.0)
    assert again.to_json() == patched.to_json()
    other = nns.patch(weak, donor, "fox", points(2), host_names=NAMES, seed=1)
    assert other.before.to_json() != patched.before.to_json()


def test_the_standard_error_is_that_of_paired_samples(weak, donor):
    """Held against resampling: how much the rise moves when the samples are drawn anew."""
    gains = [
        nns.patch(weak, donor, "fox", points(10 + i, 800), host_names=NAMES, most_lost=1.0)
        for i in range(12)
    ]
    spread = np.std([one.gain for one in gains], ddof=1)
    claimed = np.mean([one.error for one in gains])
    assert 0.5 < claimed / spread < 2


def test_what_is_no_better_is_refused(weak, donor, patched):
    x, y = points(2, 1000)
    better = network("full", *points(1), seed=3)
    refused = nns.patch(better, donor, "fox", x, y, host_names=NAMES)
    assert not refused.accepted and refused.model is better
    assert "more than chance" in refused.reason and "Not accepted" in str(refused)
    # A donor that says no whatever it sees.
    never = keras.Sequential([keras.Input((6,)), layers.Dense(1, activation="sigmoid")])
    never.layers[0].set_weights([np.zeros((6, 1)), np.array([-5.0])])
    refused = nns.patch(better, never, "fox", x, y, host_names=NAMES)
    assert not refused.accepted and refused.model is better


def test_the_others_lose_no_more_than_they_may(weak, donor):
    x, y = points(5, 8000)
    test, truth = points(6, 8000)

    def recalls(model):
        said = np.asarray(model(test)).argmax(axis=1)
        return np.array([(said[truth == i] == i).mean() for i in range(4)])

    host = recalls(weak)
    lost, own = [], []
    for most in (1.0, 0.01, 0.003, 0.001, 0.0):
        done = nns.patch(weak, donor, "fox", x, y, host_names=NAMES, most_lost=most)
        assert done.accepted
        found = recalls(done.model)
        lost.append((host - found)[:3].mean())
        own.append(found[3])
        if most < 1:
            assert lost[-1] == pytest.approx(most, abs=0.004)
        if most == 0.001:
            usual = nns.patch(weak, donor, "fox", x, y, host_names=NAMES)
            assert usual.to_json() == done.to_json()
    assert sorted(lost, reverse=True) == lost and sorted(own, reverse=True) == own
    assert lost[0] > 0.01 and own[-1] > host[3]


def test_a_patched_host_is_an_ordinary_model(weak, patched, tmp_path):
    x, y = points(3)
    model = patched.model
    assert type(model.optimizer) is type(weak.optimizer)
    nns.save_model(model, tmp_path / "patched.keras")
    back = nns.load_model(tmp_path / "patched.keras")
    assert origin_of(back) == origin_of(model)
    assert np.asarray(back(x[:9])) == pytest.approx(np.asarray(model(x[:9])), abs=1e-6)
    flat = tflite_export.convert(model)
    assert tflite_export.verify(flat, model, x[:20]).relative < 1e-4
    activity = nns.observe(model, x[:500], y[:500], verbose=False, label_names=NAMES)
    plan = nns.select(activity, ["cat", "fox"], keep=nns.fraction(0.5), score="mean_activation")
    small = nns.cut(model, plan, head="labels", prove=True)
    masked = nns.mask(model, plan, head="labels")
    assert np.asarray(small(x[:30])) == pytest.approx(np.asarray(masked(x[:30])), abs=1e-5)


def test_logits_and_names(donor):
    x, y = points(0)
    rare = np.flatnonzero(y == 3)[3:]
    host = network("weak", np.delete(x, rare, axis=0), np.delete(y, rare), end=None)
    names = ["cat", "dog", "eel", "wolf"]
    done = nns.patch(host, donor, "fox", *points(2), host_names=names, replaces="wolf")
    assert done.accepted and done.label == "wolf"
    assert "wolf (patched)" in str(done)
    last = done.model.layers[-1]
    assert last.activation is keras.activations.linear
    z, new = np.asarray(host(x[:50])), np.asarray(done.model(x[:50]))
    assert new[:, :3] == pytest.approx(z[:, :3], abs=1e-5)
    by_number = nns.patch(host, donor, 3, *points(2), host_names=names, replaces=3)
    assert by_number.to_json() == done.to_json()


def test_wrong_use(weak, donor):
    x, y = points(2)
    names = {"host_names": NAMES}
    with pytest.raises(
        nns.errors.SelectionError, match=r"host 'weak' does not answer for label 'fox'"
    ):
        nns.patch(weak, donor, "fox", x, y)
    with pytest.raises(nns.errors.SelectionError, match="does not answer for label 'wolf'"):
        nns.patch(weak, donor, "wolf", x, y, **names)
    with pytest.raises(nns.errors.SelectionError, match="does not answer for label 4"):
        nns.patch(weak, donor, "fox", x, y, replaces=4, **names)
    for share in (0, 1, 1.5):
        with pytest.raises(nns.errors.DataError, match="held_out"):
            nns.patch(weak, donor, "fox", x, y, held_out=share, **names)
    with pytest.raises(nns.errors.SelectionError, match="confidence"):
        nns.patch(weak, donor, "fox", x, y, confidence=0.3, **names)
    with pytest.raises(nns.errors.SelectionError, match="most_lost"):
        nns.patch(weak, donor, "fox", x, y, most_lost=-1, **names)
    few = np.flatnonzero((y != 3) | (np.arange(len(y)) < 20))
    with pytest.raises(nns.errors.DataError, match="at least 10 samples"):
        nns.patch(weak, donor, "fox", x[few], y[few], **names)
    other = keras.Sequential([keras.Input((5,)), layers.Dense(1, activation="sigmoid")])
    with pytest.raises(nns.errors.ModelError, match="adapt='resize'"):
        nns.patch(weak, other, "fox", x, y, **names)
    with pytest.raises(nns.errors.DataError, match="none or several"):
        nns.patch(weak, donor, "fox", x, np.ones((len(x), 4)), **names)
