"""Cohesion and coupling, and which units are shared by which labels, by going over all pairs."""

import itertools
import json

import keras
import numpy as np
import pytest
from keras import layers

import keras_nns as nns
from keras_nns.plans.kept_units import Plan
from keras_nns.plans.units import Fingerprint
from keras_nns.reporting import plots


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(2)
    return keras.Sequential(
        [
            keras.Input((5, 5, 2)),
            layers.Conv2D(6, 3, activation="relu", name="conv"),
            layers.Flatten(),
            layers.Dense(7, activation="tanh", name="dense"),
            layers.Dense(3, activation="softmax", name="answer"),
        ]
    )


@pytest.fixture(scope="module")
def data():
    random = np.random.default_rng(1)
    return random.normal(size=(40, 5, 5, 2)).astype("float32"), np.arange(40) % 3


def by_pairs(model, x, y, threshold):
    """Compare every two samples, one pair at a time."""
    values = {k: np.asarray(v, "float64") for k, v in nns.probe(model)(x).items()}
    active = [
        {(k, u) for k, v in values.items() for u in range(v.shape[1]) if abs(v[i, u]) > threshold}
        for i in range(len(x))
    ]
    sums = {}
    for i, j in itertools.combinations(range(len(x)), 2):
        either = active[i] | active[j]
        jaccard = len(active[i] & active[j]) / len(either) if either else 1.0
        cosines = []
        for v in values.values():
            lengths = np.linalg.norm(v[i]) * np.linalg.norm(v[j])
            cosines.append(v[i] @ v[j] / lengths if lengths else 0.0)
        sums.setdefault(tuple(sorted((y[i], y[j]))), []).append((jaccard, np.mean(cosines)))
    return sums, active


@pytest.mark.parametrize("threshold", [0.0, 0.15, 10.0])
def test_every_pair_counts(model, data, threshold):
    x, y = data
    found = nns.modularity(model, x, y, threshold=threshold, batch_size=17)
    sums, active = by_pairs(model, x, y, threshold)
    for (a, b), pairs in sums.items():
        for matrix, place in ((found.jaccard, 0), (found.cosine, 1)):
            expected = np.mean([pair[place] for pair in pairs])
            assert matrix[a, b] == pytest.approx(expected) == matrix[b, a]
    same = [pair for (a, b), pairs in sums.items() if a == b for pair in pairs]
    other = [pair for (a, b), pairs in sums.items() if a != b for pair in pairs]
    assert (found.cohesion, found.affinity) == pytest.approx(np.mean(same, axis=0))
    assert (found.coupling, found.dispersion) == pytest.approx(np.mean(other, axis=0))
    for label in range(3):
        sizes = [len(active[i]) / 13 for i in np.flatnonzero(y == label)]
        assert found.active[label] == pytest.approx(np.mean(sizes))
    assert found.samples.tolist() == [14, 13, 13]
    assert "cohesion" in str(found) and len(found.to_table().rows) == 3
    assert json.loads(json.dumps(found.to_json()))["coupling"] == pytest.approx(found.coupling)


@pytest.mark.slow
def test_a_modular_network_has_cohesion_and_no_coupling():
    net = keras.Sequential(
        [keras.Input((3,)), layers.Dense(6, activation="relu", name="d"), layers.Dense(3)]
    )
    kernel = np.repeat(np.eye(3), 2, axis=1)
    net.layers[0].set_weights([kernel, np.zeros(6)])
    x = np.eye(3, dtype="float32")[np.arange(30) % 3] * np.arange(1, 31)[:, None]
    found = nns.modularity(net, x, np.arange(30) % 3)
    assert (found.cohesion, found.coupling) == (1, 0)
    assert (found.affinity, found.dispersion) == pytest.approx((1, 0))
    assert found.active == pytest.approx([1 / 3] * 3)
    figure = plots.cohesion(found)
    assert figure.axes[0].images[0].get_array().tolist() == np.eye(3).tolist()


def test_samples_are_drawn_by_label_and_seed(model, data):
    x, y = np.tile(data[0], (5, 1, 1, 1)), np.tile(data[1], 5)
    one = nns.modularity(model, x, y, samples=8)
    assert one.samples.tolist() == [8, 8, 8]
    assert one.to_json() == nns.modularity(model, x, y, samples=8, batch_size=11).to_json()
    assert one.to_json() != nns.modularity(model, x, y, samples=8, seed=1).to_json()
    known = nns.modularity(model, x[y < 2], y[y < 2], samples=4)
    assert np.isnan(known.jaccard[2]).all() and known.samples[2] == 0
    assert "–" in str(known) and known.to_json()["jaccard"][2][2] is None


def test_wrong_use(model, data):
    x, y = data
    with pytest.raises(nns.errors.DataError, match="at least 2"):
        nns.modularity(model, x, y, samples=1)
    table = np.eye(3)[y]
    table[4] = 1
    with pytest.raises(nns.errors.DataError, match="one label each"):
        nns.modularity(model, x, table)


def test_which_units_are_shared_by_which_labels():
    kept = {"cat": (0, 1, 2), "dog": (2, 3), "eel": (2, 0)}
    sizes = {"d": 6}
    plans = {n: Plan(Fingerprint("s", "w"), sizes, {"d": units}) for n, units in kept.items()}
    found = nns.overlap(plans)
    assert found.holders("d") == (
        ("cat", "eel"),
        ("cat",),
        ("cat", "dog", "eel"),
        ("dog",),
        (),
        (),
    )
    assert found.coupling == pytest.approx(np.mean([1 / 4, 2 / 3, 1 / 3]))
    table = found.to_sharing_table()
    assert table.columns == ("units held by", "none", "one only", "2", "all")
    assert table.rows == (("d", "2", "2", "1", "1"),)
    plain = json.loads(json.dumps(found.to_json()))
    assert plain["units"]["d"] == {name: sorted(units) for name, units in kept.items()}
    assert plain["shared"][0] == [3, 1, 2]
    alone = nns.overlap({"cat": plans["cat"]})
    assert np.isnan(alone.coupling) and alone.to_json()["coupling"] is None
    assert alone.to_sharing_table().columns == ("units held by", "none", "one only")
    with pytest.raises(nns.errors.SelectionError, match="No unit group 'x'"):
        found.holders("x")
