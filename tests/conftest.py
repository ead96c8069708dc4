"""Fixtures shared by all tests."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Each worker has a core. Threads beyond that wait for one another in every small matrix product:
# a regression of scikit-learn's takes four times as long.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")
# TensorFlow asks the processor whether to have it, and without it convolves no channels_first.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import keras
import pytest
from hypothesis import settings
from seeding import seed_all

# No test is timed: a busy machine may take as long as it likes.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real data sets and trained models, which a fresh machine does not have."""
    folder = Path(os.environ.get("KERAS_NNS_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"needs real data sets: set KERAS_NNS_DATA to their folder (not at {folder})")
    return folder


def pytest_collection_finish() -> None:
    """Leave what was imported out of every later collection of garbage."""
    gc.collect()
    gc.freeze()
    # A model is thousands of small objects: after every 700 of them is too often to look through.
    gc.set_threshold(20_000, 10, 10)


@pytest.fixture(scope="session", autouse=True)
def _conversions_do_once_what_they_do() -> Iterator[None]:
    """Spare conversions what is known already.

    TFLite's converter has all objects of the process looked through each time it ran, our own
    counts those that were frozen, and TFLite's reads the same folder twice.
    """
    from tensorflow.lite.python import lite

    read, last, frozen = lite._load, {}, gc.get_freeze_count()

    def read_once(folder: Any, *args: Any, **kwargs: Any) -> Any:
        if folder not in last:
            last.clear()
            last[folder] = read(folder, *args, **kwargs)
        return last[folder]

    with (
        patch.object(lite, "gc", SimpleNamespace(collect=int)),
        patch.object(gc, "get_freeze_count", lambda: frozen),
        patch.object(lite, "_load", read_once),
    ):
        yield


@pytest.fixture(scope="session", autouse=True)
def _no_file_is_timed_for_long() -> Iterator[None]:
    """No test asks how fast a file is, and cards would time each for half a second."""
    from tflite_export import deployment

    measure = deployment._latency

    def measure_shortly(flat: bytes, values: Any, threads: int, seconds: float) -> Any:
        return measure(flat, values, threads, min(seconds, 0.05))

    with patch.object(deployment, "_latency", measure_shortly):
        yield


@pytest.fixture(scope="session", autouse=True)
def _seeds_keep_kernels() -> Iterator[None]:
    """Also where a test, an example or the demo seeds as Keras does."""
    with patch.object(keras.utils, "set_random_seed", seed_all):
        yield


@pytest.fixture(scope="session", autouse=True)
def _tensors_are_read_as_arrays() -> Iterator[None]:
    """numpy reads what a model answers on any backend; torch's own refuses, for its gradients."""
    if keras.config.backend() != "torch":
        yield
        return
    import torch

    as_array = torch.Tensor.__array__

    def read(tensor: Any, dtype: Any = None, copy: bool | None = None) -> Any:
        found = as_array(tensor.detach(), dtype)
        return found.copy() if copy else found

    with patch.object(torch.Tensor, "__array__", read):
        yield


@pytest.fixture(scope="session", autouse=True)
def _first_step_is_traced_once() -> Iterator[None]:
    """Make the optimizer's variables before the step that Keras traces.

    It would make the same ones within, and then TensorFlow traces the step a second time.
    """
    make_step = keras.Model.make_train_function

    def make(model: Any, *args: Any, **kwargs: Any) -> Any:
        if model.optimizer is not None and model.built and not model.optimizer.built:
            model.optimizer.build(model.trainable_variables)
        return make_step(model, *args, **kwargs)

    with patch.object(keras.Model, "make_train_function", make):
        yield


@pytest.fixture(autouse=True)
def _fixed_seed() -> None:
    seed_all(0)
