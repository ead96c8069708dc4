"""Samples to measure ranges on: what a model that joins samples of a batch is told."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers, ops

import tflite_export


def test_a_model_that_answers_other_rows_than_samples_is_named():
    start = keras.Input((4,))
    hidden = layers.Dense(3, activation="softmax")(start)
    joined = ops.concatenate([hidden, hidden], axis=0)
    model = keras.Model(start, layers.Activation("softmax")(joined))
    data = np.random.default_rng(0).normal(size=(120, 4)).astype("float32")
    with pytest.raises(tflite_export.ExportError, match="answers 240 rows for 120 samples"):
        tflite_export.convert(model, quantize="int8", samples=data)
