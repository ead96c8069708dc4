"""Models that others trained and published: read, inspected, cut with random plans, exact."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from architectures import random_plan

import keras_nns as nns
from keras_nns.graph.keras_internals import structure
from keras_nns.graph.tracing import trace
from keras_nns.surgery.proving import TOLERANCE, difference

pytestmark = [
    pytest.mark.slow,
    # What Keras says when it reads an optimizer that Keras 2 wrote.
    pytest.mark.filterwarnings("ignore:Argument `decay` is no longer supported"),
    pytest.mark.filterwarnings("ignore:.*was written by Keras 2"),
]

# By file: the layers of its first groups, and how many units of all may go. Counted by hand from
# the papers' tables: ResNet-8 has a stream of 16, 32, 64 channels and one inner convolution in each
# of three blocks; MobileNetV1 x 0.25 has 8, 16, 32, 32, 64, 64, 6 x 128, 2 x 256 channels.
FILES = {
    "mnist_cnn_moonflower.keras": None,
    "mnist_cnn_moonflower.h5": None,
    "cifar10_resnet8_mlperftiny.h5": 2 * (16 + 32 + 64),
    "vww_mobilenetv1_mlperftiny.h5": 8 + 16 + 2 * 32 + 2 * 64 + 6 * 128 + 2 * 256,
}


@pytest.mark.parametrize("name", FILES)
def test_read_inspected_cut_and_exact(name, shared_data):
    model = nns.load_model(shared_data / "models" / name)
    found = nns.inspect(model)
    free = sum(group.prunable for group in found.groups)
    assert free == (FILES[name] or free) > 0
    assert found.parameters == model.count_params()
    assert found.groups[-1].prunable == 0
    assert "model output" in found.groups[-1].reasons[0]

    # Raw pixels, as the models take them; in patches, so that channels differ.
    side = model.input_shape[1]
    random = np.random.default_rng(0)
    patches = random.uniform(0, 255, (4, 4, 4, model.input_shape[-1]))
    x = np.kron(patches, np.ones((1, side // 4, side // 4, 1)))[:, :side, :side].astype("float32")
    if "moonflower" in name:
        x /= 255
    # A file of Keras 2 gives a model that takes a list of one input.
    x = keras.tree.pack_sequence_as(structure(model)[0], [x])
    # Before the softmax, whose answer is 0 or 1 for most plans.
    logits = keras.models.clone_model(model)
    logits.set_weights(model.get_weights())
    logits.layers[-1].activation = keras.activations.linear
    graph = trace(logits)
    before = [w.copy() for w in logits.get_weights()]
    for seed, share in enumerate((0.1, 0.5, 0.9)):
        plan = random_plan(graph, share, seed)
        small = nns.cut(logits, plan)
        assert small.count_params() < model.count_params()
        assert difference(small, nns.mask(logits, plan), x).relative <= TOLERANCE
    for one, other in zip(before, logits.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
