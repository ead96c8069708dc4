"""What outputs are weighted sums of, against convolutions of Keras."""

from __future__ import annotations

import numpy as np
import pytest
from keras import layers as L

from keras_nns.graph import linear

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (L.Dense(3), (5,)),
        (L.Dense(3), (4, 5)),
        (L.Conv1D(3, 3), (8, 2)),
        (L.Conv1D(3, 4, padding="same"), (9, 2)),
        (L.Conv1D(3, 4, strides=3, padding="same"), (9, 2)),
        (L.Conv1D(3, 3, dilation_rate=2, padding="causal"), (9, 2)),
        (L.Conv2D(3, 1), (5, 4, 2)),
        (L.Conv2D(3, (2, 3), padding="same"), (5, 6, 2)),
        (L.Conv2D(3, 3, strides=2, padding="same"), (6, 7, 2)),
        (L.Conv2D(3, 2, strides=(2, 2)), (7, 5, 3)),
        (L.Conv2D(3, 3, strides=4, padding="same"), (9, 9, 1)),
        (L.Conv2D(3, (3, 2), dilation_rate=(2, 1), padding="same"), (6, 7, 2)),
        (L.Conv3D(3, 2, strides=2, padding="same"), (5, 4, 3, 2)),
    ],
)
def test_features_times_kernel_is_what_the_layer_gives(layer, shape):
    x = RNG.normal(size=(3, *shape)).astype("float32")
    expected = np.asarray(layer(x))
    rows = linear.features(layer, x)
    assert rows.shape == (expected.size // 3, linear.feature_count(layer))
    given = rows @ np.asarray(layer.kernel).reshape(rows.shape[1], 3)
    np.testing.assert_allclose(given, expected.reshape(-1, 3), rtol=1e-4, atol=1e-5)


def test_channels_may_come_first():
    first = L.Conv2D(3, 3, strides=2, padding="same", data_format="channels_first")
    last = L.Conv2D(3, 3, strides=2, padding="same", data_format="channels_last")
    first.build((None, 2, 6, 7))
    last.build((None, 6, 7, 2))
    x = RNG.normal(size=(3, 6, 7, 2)).astype("float32")
    np.testing.assert_array_equal(
        linear.features(first, np.moveaxis(x, -1, 1)), linear.features(last, x)
    )
