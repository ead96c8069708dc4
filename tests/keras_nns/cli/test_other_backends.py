"""The commands run on the backend that is configured, and say the same there."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec

import commands_on_backend
import keras
import numpy as np
import pytest
from backends import on_tensorflow

import keras_nns as nns

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword"),
    on_tensorflow("the numbers that others are held against"),
]


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    folder = tmp_path_factory.mktemp("commands")
    x, y = commands_on_backend.data()
    hidden = [keras.layers.Dense(n, activation="relu") for n in (16, 12)]
    last = keras.layers.Dense(4, activation="softmax")
    model = keras.Sequential([keras.Input((6,)), *hidden, last])
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(x[:160], y[:160], epochs=15, verbose=0)
    nns.save_model(model, folder / "m.keras")
    parts = {"x_train": x[:160], "y_train": y[:160], "x_test": x[160:], "y_test": y[160:]}
    np.savez(folder / "d.npz", **parts)
    return folder, model, nns.observe(model, (x[:160], y[:160]))


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_commands_run_where_keras_runs(given, backend, tmp_path):
    if find_spec(backend) is None:
        pytest.skip(f"needs {backend}: pip install 'keras-nns[{backend}]'")
    folder, model, ours = given
    for name in ("m.keras", "d.npz"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    done = subprocess.run(
        [sys.executable, commands_on_backend.__file__, str(tmp_path)],
        env={
            **os.environ,
            "KERAS_BACKEND": backend,
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    told = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr[-4000:]
    assert told[-1] == f"on {backend}"
    for command in commands_on_backend.COMMANDS:
        assert f"{command} -> 0" in told, (command, done.stderr[-4000:])
    theirs = nns.Activity.load(tmp_path / "a.npz")
    assert theirs.fingerprint == ours.fingerprint
    for group in ours.layout.prunable:
        np.testing.assert_allclose(
            theirs.mean(group.name), ours.mean(group.name), rtol=1e-5, atol=1e-6
        )
    plan = nns.Plan.load(tmp_path / "1.json")
    # Torch's optimizers are of modules that cannot be imported elsewhere.
    one = keras.saving.load_model(tmp_path / "one.keras", compile=False)
    again = nns.cut(model, plan, head="binary")
    for a, b in zip(one.weights, again.weights, strict=True):
        assert np.array_equal(a.numpy(), b.numpy())


def test_what_makes_files_runs_on_tensorflow_whatever_is_configured(given):
    folder, _, _ = given
    done = subprocess.run(
        [sys.executable, "-m", "keras_nns", "export", "m.keras", "-o", "m.tflite", "--overwrite"],
        env={
            **os.environ,
            "KERAS_BACKEND": "torch",
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        },
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert (folder / "m.tflite").stat().st_size
