"""What excites a unit most is what sorting all its values by hand gives."""

import keras
import numpy as np
import pytest

from keras_nns.errors import DataError
from keras_nns.observation.exciting import most_exciting

layers = keras.layers


@pytest.fixture(scope="module")
def parts():
    keras.utils.set_random_seed(3)
    model = keras.Sequential(
        [
            keras.Input((5, 5, 1)),
            layers.Conv2D(3, 3, activation="relu", name="conv"),
            layers.Flatten(),
            layers.Dense(4, activation="relu", name="dense"),
            layers.Dense(2, name="answer"),
        ]
    )
    x = np.random.default_rng(0).normal(size=(37, 5, 5, 1)).astype("float32")
    inner = keras.Model(model.inputs[0], [model.layers[0].output, model.layers[2].output])
    conv, dense = (np.asarray(values) for values in inner(x))
    return model, x, {"conv": conv.mean(axis=(1, 2)), "dense": dense}


@pytest.mark.parametrize("batch_size", [7, 37, 100])
def test_the_strongest_samples_are_those_of_a_sort(parts, batch_size):
    model, x, values = parts
    found = most_exciting(model, x, k=5, batch_size=batch_size)
    assert set(found.samples) == {"conv", "dense"}
    for layer, each in values.items():
        for unit in range(each.shape[1]):
            order = np.argsort(-each[:, unit], kind="stable")[:5]
            active = each[order, unit] > 0
            expected = np.where(active, order, -1)
            assert found.samples[layer][unit].tolist() == expected.tolist()
            np.testing.assert_allclose(
                found.values[layer][unit][active], each[order, unit][active], rtol=1e-5
            )
            assert np.isnan(found.values[layer][unit][~active]).all()


def test_fewer_samples_than_asked_for_are_all_there_are(parts):
    model, x, _ = parts
    found = most_exciting(model, x[:3], k=5, layers=["dense"])
    assert list(found.samples) == ["dense"] and found.samples["dense"].shape == (4, 3)


@pytest.mark.parametrize(("count", "k"), [(0, 3), (4, 0)])
def test_nothing_to_find_is_refused(parts, count, k):
    model, x, _ = parts
    with pytest.raises(DataError, match="at least one sample"):
        most_exciting(model, x[:count], k=k)
