"""Grafts are held against the arithmetic of host and donor, done apart in numpy."""

import keras
import numpy as np
import pytest
from keras import layers
from scipy.special import expit, logit, logsumexp, softmax
from sklearn.linear_model import LogisticRegression

import keras_nns as nns
import tflite_export
from keras_nns.graph.tracing import trace
from keras_nns.surgery.lineage import Composition, origin_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings(
        "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
    ),
]
NAMES = ("cat", "dog", "eel", "fox")


def images(labels, seed, count=600, shift=0):
    """Noise with a bright pixel on the diagonal that tells the label."""
    random = np.random.default_rng(seed)
    y = np.array(labels)[np.arange(count) % len(labels)]
    x = random.normal(size=(count, 6, 6, 1)).astype("float32") / 2
    x[np.arange(count), y, (y + shift) % 6, 0] += 2
    return x, y


def network(outputs, name, seed, end="softmax", shape=(6, 6, 1)):
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [
            keras.Input(shape),
            layers.Rescaling(2.0, name="scale"),
            layers.Reshape((6, 6, 1), name="image") if len(shape) == 1 else layers.Identity(),
            layers.Conv2D(5, 3, activation="relu", name="conv"),
            layers.Flatten(name="flat"),
            layers.Dense(12, activation="relu", name="hidden"),
            layers.Dense(outputs, activation=end, name="answer"),
        ],
        name=name,
    )


def trained(model, x, y, epochs=5):
    model.compile(
        keras.optimizers.Adam(0.01),
        keras.losses.SparseCategoricalCrossentropy(
            from_logits=model.layers[-1].activation is keras.activations.linear
        ),
        metrics=["accuracy"],
    )
    model.fit(x, y, epochs=epochs, batch_size=32, verbose=0)
    return model


@pytest.fixture(scope="module")
def host():
    """Tells cat, dog and eel apart."""
    return trained(network(3, "host", 0), *images([0, 1, 2], 0))


@pytest.fixture(scope="module")
def parent():
    """Another network, that knows dog, eel and fox, numbered from 0."""
    x, y = images([1, 2, 3], 1)
    return trained(network(3, "parent", 1), x, y - 1)


@pytest.fixture(scope="module")
def donor(parent):
    x, y = images([1, 2, 3], 1)
    activity = nns.observe(parent, x, y - 1, label_names=NAMES[1:], verbose=False)
    plan = nns.select(activity, "fox", score=nns.scores.contrast, keep=nns.fraction(0.5))
    return nns.cut(parent, plan, head="binary")


@pytest.fixture(scope="module")
def data():
    return images([0, 1, 2, 3], 2, 800)


def logits(model, x):
    last = model.layers[-1]
    below = keras.Model(model.inputs[0], last.input)
    return np.asarray(below(x), "float64") @ np.asarray(last.kernel) + np.asarray(last.bias)


@pytest.mark.parametrize("end", ["softmax", None])
def test_without_data_the_donor_says_how_sure_it_is(end, donor, data):
    x = data[0][:60]
    stock = network(3, "host", 5, end)
    grown = nns.graft(stock, donor, "fox", host_names=NAMES[:3])
    z, p = logits(stock, x), np.asarray(donor(x), "float64")[:, 0]
    joined = np.concatenate([z, logsumexp(z, axis=1, keepdims=True) + logit(p)[:, None]], axis=1)
    got = np.asarray(grown(x))
    # Of a probability close to 1, float32 has few digits of the odds left for this oracle.
    open_ = p < 0.99
    assert open_.sum() > 20
    expected = softmax(joined, axis=1) if end else joined
    assert got[open_] == pytest.approx(expected[open_], abs=2e-4)
    if end:
        assert got[:, 3] == pytest.approx(p, abs=1e-4)
        # What is left is shared as the host shares it.
        shares = got[:, :3] / got[:, :3].sum(axis=1, keepdims=True)
        assert shares[open_] == pytest.approx(np.asarray(stock(x))[open_], abs=1e-4)
    assert origin_of(grown).label_names == NAMES


def test_calibration_is_a_regression_on_what_both_say(host, donor, data):
    x, y = data
    some = slice(0, 400)
    grown = nns.graft(host, donor, "fox", x[some], y[some], host_names=NAMES[:3])
    z, p = logits(host, x), np.asarray(donor(x), "float64")[:, 0].clip(1e-12, 1 - 1e-12)
    scores = np.column_stack([z, logsumexp(z, axis=1), logit(p)])
    scale = scores[some].std(axis=0)
    fit = LogisticRegression(C=1.0, max_iter=5000).fit(scores[some] / scale, y[some] == 3)
    expected = expit(fit.decision_function(scores / scale))
    got = np.asarray(grown(x))[:, 3]
    assert ((got > 0.5) == (expected > 0.5)).mean() > 0.98
    judged = nns.evaluate(grown, x[400:], y[400:])
    assert judged.answers == NAMES and judged.accuracy > 0.9
    raw = nns.evaluate(nns.graft(host, donor, "fox", host_names=NAMES[:3]), x[400:], y[400:])
    assert judged["fox"].brier <= raw["fox"].brier
    with pytest.raises(nns.errors.DataError, match="allow_overlap"):
        nns.evaluate(grown, x[some], y[some])


def test_the_host_and_the_donor_stay_as_they_are(host, donor, data):
    x, y = data
    before = [model.get_weights() for model in (host, donor)]
    nodes = [len(layer._inbound_nodes) for model in (host, donor) for layer in model.layers]
    config = host.get_compile_config()
    state = np.random.get_state()[1].copy()
    grown = nns.graft(host, donor, "fox", x, y, host_names=NAMES[:3])
    grown.fit(x, y, epochs=1, verbose=0)
    assert (np.random.get_state()[1] == state).all()
    for old, model in zip(before, (host, donor), strict=True):
        assert all((a == b).all() for a, b in zip(old, model.get_weights(), strict=True))
    assert nodes == [len(layer._inbound_nodes) for m in (host, donor) for layer in m.layers]
    assert host.get_compile_config() == config


def test_a_graft_is_an_ordinary_model(host, donor, data, tmp_path):
    x, y = data
    grown = nns.graft(host, donor, "fox", x[:400], y[:400], host_names=NAMES[:3])
    assert {"conv", "hidden", "answer", "grafted"} <= {layer.name for layer in grown.layers}
    assert grown.get_layer("scale") is not host.get_layer("scale")
    assert grown.loss is not None and type(grown.optimizer) is type(host.optimizer)
    nns.save_model(grown, tmp_path / "grown.keras")
    back = nns.load_model(tmp_path / "grown.keras")
    assert origin_of(back) == origin_of(grown) and isinstance(origin_of(back), Composition)
    assert origin_of(back).output == "grafted"
    assert np.asarray(back(x[:9])) == pytest.approx(np.asarray(grown(x[:9])), abs=1e-6)
    plain = keras.saving.load_model(tmp_path / "grown.keras")
    assert np.asarray(plain(x[:9])) == pytest.approx(np.asarray(grown(x[:9])), abs=1e-6)
    judged = [nns.evaluate(m, x[400:], y[400:]).to_json() for m in (grown, back)]
    assert judged[0] == judged[1]
    flat = tflite_export.convert(grown)
    assert tflite_export.verify(flat, grown, x[:20]).relative < 1e-4
    activity = nns.observe(grown, x[:400], y[:400], label_names=NAMES, verbose=False)
    plan = nns.select(activity, ["dog", "fox"], keep=nns.fraction(0.5), score="mean_activation")
    assert {group.name for group in trace(grown).layout.prunable} >= {"conv", "hidden"}
    small = nns.cut(grown, plan, head="labels", prove=True)
    assert small.count_params() < grown.count_params()
    masked = nns.mask(grown, plan, head="labels")
    assert np.asarray(small(x[:30])) == pytest.approx(np.asarray(masked(x[:30])), abs=1e-5)


def test_a_second_graft(host, parent, donor, data):
    x, y = images([0, 1, 2, 3, 4], 4, 1000)
    known = y[:500] < 4
    once = nns.graft(host, donor, "fox", x[:500][known], y[:500][known], host_names=NAMES[:3])
    gnu = trained(network(2, "gnu_or_not", 6), x[:500], y[:500] == 4)
    twice = nns.graft(once, gnu, 1, x[:500], y[:500], called="gnu")
    result = nns.evaluate(twice, x[500:], y[500:])
    assert result.answers == (*NAMES, "gnu")
    assert result.accuracy > 0.85
    assert len({layer.name for layer in twice.layers}) == len(twice.layers)
    # The same as the first graft among the first graft's labels.
    first, second = np.asarray(once(x[500:])), np.asarray(twice(x[500:]))[:, :4]
    sure = second.sum(axis=1) > 0.01
    assert (second / second.sum(axis=1, keepdims=True))[sure] == pytest.approx(
        first[sure], abs=1e-3
    )


def test_donors_of_every_kind(host, parent, data):
    x = data[0]
    seen, known = images([1, 2, 3], 1)
    activity = nns.observe(parent, seen, known - 1, label_names=NAMES[1:], verbose=False)
    plan = nns.select(activity, "fox", keep=nns.fraction(0.7), score="mean_activation")
    odds = []
    for head in ("parent", "other", "binary"):
        one = nns.cut(parent, plan, head=head)
        grown = nns.graft(host, one, "fox", host_names=NAMES[:3])
        odds.append(np.asarray(grown(x[:50]))[:, 3])
        # By number too, which is the parent's.
        same = nns.graft(host, one, 2, host_names=NAMES[:3])
        assert np.array_equal(np.asarray(same(x[:50]))[:, 3], odds[-1])
    assert odds[1] == pytest.approx(odds[0], abs=1e-5)
    assert odds[2] == pytest.approx(odds[0], abs=1e-5)
    whole = nns.graft(host, parent, 2, called="fox", host_names=NAMES[:3])
    assert np.asarray(whole(x[:50]))[:, 3] == pytest.approx(
        np.asarray(parent(x[:50]))[:, 2], abs=1e-5
    )
    yes = network(1, "yes", 3, "sigmoid")
    grown = nns.graft(host, yes, "fox", host_names=NAMES[:3])
    assert np.asarray(grown(x[:50]))[:, 3] == pytest.approx(np.asarray(yes(x[:50]))[:, 0], abs=1e-5)
    loud = {"keep": nns.top(4), "score": "mean_activation"}
    parts = [
        nns.cut(parent, nns.select(activity, name, **loud), head="binary")
        for name in ("eel", "fox")
    ]
    both = nns.compose(parts)
    grown = nns.graft(host, both, "fox", host_names=NAMES[:3])
    assert np.asarray(grown(x[:50]))[:, 3] == pytest.approx(
        np.asarray(both(x[:50]))[:, 1], abs=1e-5
    )


def test_a_donor_of_other_inputs_is_adapted(host, parent, data):
    x, y = data
    flat = trained(network(4, "flat", 8, shape=(36,)), x.reshape(-1, 36)[:400], y[:400])
    grown = nns.graft(host, flat, 3, called="fox", adapt="resize", host_names=NAMES[:3])
    theirs = np.asarray(flat(x[400:].reshape(-1, 36)))[:, 3]
    assert np.asarray(grown(x[400:]))[:, 3] == pytest.approx(theirs, abs=1e-5)
    # Larger images of three channels: the donor sees what a bilinear resize of their mean gives.
    inputs = keras.Input((12, 12, 3))
    wide = keras.Model(
        inputs, layers.Dense(2, activation="softmax")(layers.GlobalMaxPooling2D()(inputs))
    )
    grown = nns.graft(wide, parent, 2, called="fox", adapt="resize", host_names=["big", "small"])
    large = np.random.default_rng(0).normal(size=(7, 12, 12, 3)).astype("float32")
    shrunk = layers.Resizing(6, 6)(large.mean(axis=-1, keepdims=True))
    assert np.asarray(grown(large))[:, 2] == pytest.approx(
        np.asarray(parent(shrunk))[:, 2], abs=1e-5
    )
    own = [layers.Rescaling(0.5), layers.Cropping2D(3), layers.Conv2D(1, 1)]
    grown = nns.graft(wide, parent, 2, called="fox", adapt=own, host_names=["big", "small"])
    assert grown.output_shape == (None, 3)
    flat_file = tflite_export.convert(grown)
    assert tflite_export.verify(flat_file, grown, large).relative < 1e-4
    with pytest.raises(nns.errors.ModelError, match="adapt` makes"):
        nns.graft(wide, parent, 2, adapt=layers.Cropping2D(2), called="fox")
    with pytest.raises(nns.errors.ModelError, match="'resize', a layer"):
        nns.graft(wide, parent, 2, adapt=5, called="fox")
    tall = network(3, "tall", 1, shape=(36,))
    odd = keras.Sequential([keras.Input((35,)), layers.Dense(3)])
    with pytest.raises(nns.errors.ModelError, match="knows no way"):
        nns.graft(odd, tall, 2, adapt="resize", called="fox")


def test_wrong_use(host, parent, donor, data):
    x, y = data
    with pytest.raises(nns.errors.SelectionError, match="has a label 'fox' already"):
        nns.graft(host, donor, "fox", host_names=["cat", "dog", "fox"])
    with pytest.raises(nns.errors.SelectionError, match="does not answer for label 'cat'"):
        nns.graft(host, donor, "cat")
    with pytest.raises(nns.errors.SelectionError, match="does not answer for label 7"):
        nns.graft(host, parent, 7)
    with pytest.raises(nns.errors.DataError, match="3 names that differ"):
        nns.graft(host, donor, "fox", host_names=["cat", "dog"])
    with pytest.raises(nns.errors.DataError, match="3 names that differ"):
        nns.graft(host, donor, "fox", host_names=["cat", "dog", "dog"])
    other = keras.Sequential([keras.Input((5,)), layers.Dense(3)])
    with pytest.raises(nns.errors.ModelError, match=r"takes inputs \(6, 6, 1\).*adapt='resize'"):
        nns.graft(host, other, 2, called="fox")
    with pytest.raises(nns.errors.SurgeryError, match="one softmax, or by logits"):
        nns.graft(network(3, "apart", 0, "sigmoid"), donor, "fox")
    with pytest.raises(nns.errors.SurgeryError, match="head='binary'"):
        nns.graft(donor, donor, "fox", called="wolf")
    names = {"host_names": NAMES[:3]}
    without = y != 3
    with pytest.raises(nns.errors.DataError, match=r"at least 10 samples.*has 0 of 'fox'"):
        nns.graft(host, donor, "fox", x[without], y[without], **names)
    with pytest.raises(nns.errors.DataError, match="no label named 'fox'"):
        nns.graft(host, donor, "fox", x, y, label_names=["cat", "dog", "eel", "wolf"], **names)
    with pytest.raises(nns.errors.DataError, match="none or several"):
        rows = np.eye(4)[y]
        rows[0] = 1
        nns.graft(host, donor, "fox", x, rows, **names)
    with pytest.raises(nns.errors.DataError):
        nns.graft(host, donor, "fox", x, y + 5, **names)
