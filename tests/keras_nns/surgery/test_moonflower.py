"""A convolutional network that others trained: every label cut out, proven, exported, verified."""

from __future__ import annotations

import gzip

import keras
import numpy as np
import pytest

import keras_nns as nns
import tflite_export

pytestmark = [
    pytest.mark.slow,
    # TensorFlow's tensors under numpy 2, when Keras writes weights.
    pytest.mark.filterwarnings(
        "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
    ),
]


def read_idx(path):
    with gzip.open(path) as stream:
        data = stream.read()
    rank = data[3]
    shape = np.frombuffer(data, ">u4", rank, offset=4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * rank).reshape(shape)


@pytest.fixture(scope="module")
def mnist(shared_data):
    folder = shared_data / "mnist"
    found = []
    for part, count in (("train", 400), ("t10k", 1000)):
        (images,) = folder.glob(f"{part}-images*")
        (labels,) = folder.glob(f"{part}-labels*")
        x = (read_idx(images)[:count, ..., None] / 255).astype(np.float32)
        found += [x, read_idx(labels)[:count].astype(int)]
    return found


@pytest.fixture(scope="module", params=["keras", "h5"])
def form(request):
    return request.param


@pytest.fixture(scope="module")
def model(form, shared_data):
    return nns.load_model(shared_data / "models" / f"mnist_cnn_moonflower.{form}")


def answers(model, x):
    return np.asarray(model(x, training=False))


def test_every_label_is_cut_out_exactly_and_exported(form, model, mnist):
    """Every label of the one file; of the other, which holds the same weights, two."""
    x, y, x_test, y_test = mnist
    before = [w.copy() for w in model.get_weights()]
    assert np.mean(answers(model, x_test).argmax(axis=1) == y_test) > 0.97
    plans = nns.select(nns.observe(model, x, y), "each", score="mean_activation")
    assert [plan.labels for plan in plans] == [(label,) for label in range(10)]
    for plan in plans if form == "keras" else (plans[3], plans[8]):
        (label,) = plan.labels
        small = nns.cut(model, plan, head="binary")
        assert small.count_params() < model.count_params()
        assert nns.prove(model, plan, head="binary", samples=x_test[:64]).exact
        oracle = answers(nns.mask(model, plan), x_test[:200])[:, label]
        found = answers(small, x_test[:200])[:, 0]
        np.testing.assert_allclose(found, oracle, rtol=1e-5, atol=1e-5)
        if label in (3, 8):
            flat = tflite_export.convert(small, labels=list(nns.lineage(small).label_names))
            assert tflite_export.verify(flat, small, x_test[:32]).relative < 1e-5
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_plan_that_keeps_everything_gives_the_model_back(model, mnist):
    x, y, x_test, _ = mnist
    plan = nns.select(nns.observe(model, x, y), "all", keep=nns.above(0))
    assert plan.keeps_all
    same = nns.cut(model, plan)
    assert isinstance(same, keras.Sequential) == isinstance(model, keras.Sequential)
    np.testing.assert_array_equal(answers(same, x_test[:50]), answers(model, x_test[:50]))
