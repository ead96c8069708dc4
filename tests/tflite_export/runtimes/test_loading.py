"""Files are loaded where nothing is lost by it."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers as L

import tflite_export
from tflite_export import converter
from tflite_export.runtimes import loading
from tflite_export.runtimes.process import RefusalError


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((6,)), L.Dense(4, activation="relu"), L.Dense(3)])


def test_what_loads_or_is_refused_ends_nothing(model):
    assert loading.ended_by(tflite_export.convert(model)) is None
    assert loading.ended_by(b"no file at all") is None


def test_what_ends_the_other_process_is_named(monkeypatch):
    class Ended(type(loading._PROCESS)):
        def ask(self, *question):
            raise RefusalError("the process ended (SIGABRT)", "", "SIGABRT")

    monkeypatch.setattr(loading, "_PROCESS", Ended("plain"))
    assert loading.ended_by(b"anything") == "SIGABRT"


@pytest.mark.filterwarnings("ignore::tflite_export.CalibrationWarning")
def test_integer_files_that_end_a_process_are_not_handed_out(model, monkeypatch):
    asked = []

    def ended_by(flat):
        asked.append(flat)
        return "SIGABRT"

    monkeypatch.setattr(converter, "ended_by", ended_by)
    assert tflite_export.convert(model)
    assert not asked
    x = np.random.default_rng(0).normal(size=(128, 6)).astype("float32")
    with pytest.raises(tflite_export.ConversionError, match=r"SIGABRT.*other numbers"):
        tflite_export.convert(model, quantize="int8", samples=x)
    assert len(asked) == 1
