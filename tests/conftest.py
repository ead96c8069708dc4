"""Fixtures shared by all tests."""

from __future__ import annotations

import gc
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Each worker has a core. Threads beyond that wait for one another in every small matrix product:
# a regression of scikit-learn's takes four times as long.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")

import keras
import pytest
from hypothesis import settings

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


@pytest.fixture(autouse=True)
def _fixed_seed() -> None:
    keras.utils.set_random_seed(0)
