"""What is done on JAX and PyTorch, in processes of their own, gives the numbers of TensorFlow."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import keras
import numpy as np
import on_backend
import pytest
from backends import on_tensorflow

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword"),
    on_tensorflow("the numbers that others are held against"),
]
BACKENDS = ("jax", "torch")
SETTINGS = {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """A trained model in a file, and data."""
    folder = tmp_path_factory.mktemp("backends")
    x, y = on_backend.data()
    model = on_backend.model()
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(x, y, epochs=8, batch_size=32, verbose=0)
    model.save(folder / "model.keras")
    np.savez(folder / "data.npz", x=x, y=y)
    return folder


@pytest.fixture(scope="module")
def ours(given):
    x, y = on_backend.data()
    return on_backend.everything(str(given / "model.keras"), x, y)


@pytest.fixture(scope="module", params=BACKENDS)
def theirs(request, given):
    if find_spec(request.param) is None:
        pytest.skip(f"needs {request.param}: pip install 'keras-nns[{request.param}]'")
    found = given / f"{request.param}.npz"
    paths = [given / "model.keras", given / "data.npz", found]
    done = subprocess.run(
        [sys.executable, on_backend.__file__, *map(str, paths)],
        env={**os.environ, **SETTINGS, "KERAS_BACKEND": request.param},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    with np.load(found) as numbers:
        return dict(numbers)


@pytest.mark.parametrize("verb", [verb.__name__ for verb in on_backend.VERBS])
def test_numbers_are_those_of_tensorflow(ours, theirs, verb):
    own = {name: value for name, value in ours.items() if name.startswith(f"{verb}/")}
    others = {name: value for name, value in theirs.items() if name.startswith(f"{verb}/")}
    assert f"{verb}/error" not in own, own
    assert f"{verb}/error" not in others, others
    assert own.keys() == others.keys()
    for name, value in own.items():
        if value.dtype.kind == "b":
            assert value.all() and others[name].all(), name
            continue
        # A sum of squares about a mean is what is left of two sums that float32 rounds.
        scale = own.get(name.replace("deviation", "square"), value)
        np.testing.assert_allclose(
            others[name], value, rtol=1e-5, atol=1e-5 * np.abs(scale).max(), err_msg=name
        )


def test_a_verb_that_is_not_there_is_one_clear_error(given):
    if find_spec("jax") is None:
        pytest.skip("needs jax: pip install 'keras-nns[jax]'")
    code = """
import keras, numpy as np, keras_nns as nns
model = nns.load_model({path!r})
x, y = np.zeros((8, 10, 10, 3), "float32"), np.arange(8) % 5
model.compile("sgd", "sparse_categorical_crossentropy")
for call in (
    lambda: model.fit(x, y, verbose=0, callbacks=[nns.ActivityMonitor()]),
    lambda: model.fit(x, y, verbose=0, callbacks=[nns.GradualCut((x, y), share=0.5)]),
    lambda: nns.observe(model, (x, y), strategy=object()),
):
    try:
        call()
    except nns.errors.BackendError as error:
        print(error)
""".format(path=str(Path(given, "model.keras")))
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **SETTINGS, "KERAS_BACKEND": "jax"},
        capture_output=True,
        text=True,
        check=False,
    )
    lines = done.stdout.splitlines()
    assert [line.split(" works where Keras runs on ")[0].split()[0] for line in lines] == [
        "ActivityMonitor()", "GradualCut", "strategy=,",
    ], done.stderr  # fmt: skip
    assert keras.config.backend() == "tensorflow"
