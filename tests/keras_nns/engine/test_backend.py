"""A backend of Keras that nobody speaks is one clear error, from every entry."""

import json
import os
import subprocess
import sys

import keras
import pytest

# Stands in for a backend that Keras has and the engine does not: only its name is asked for.
CODE = """
import keras
keras.config.backend = lambda: "openvino"
try:
    {entry}
except Exception as error:
    print(type(error).__name__, isinstance(error, {kind}), str(error))
"""
ENTRIES = (
    "import keras_nns as nns; nns.observe",
    "from keras_nns import ActivityMonitor",
    "from keras_nns.scores import contrast",
    "from keras_nns.steps import least_squares",
    "import keras_nns as nns; nns.load_model('no.keras')",
    "from keras_nns.data.named import load_dataset",
)


def test_every_entry_says_the_same():
    code = "".join(CODE.format(entry=entry, kind="ImportError") for entry in ENTRIES)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) == len(ENTRIES)
    for line in lines:
        assert line.startswith(
            "BackendError True keras_nns works with Keras on TensorFlow, JAX and PyTorch."
        )
        assert "KERAS_BACKEND=tensorflow" in line


MISSING = """
try:
    {entry}
except Exception as error:
    print(type(error).__name__, isinstance(error, {kind}), str(error))
"""
ALL = (
    *ENTRIES[:-1],
    "from keras_nns import observe",
    "import keras_nns.results",
    "import keras_nns; keras_nns.plots",
    "import tflite_export, keras_nns; keras_nns.compare",
)
NAMED = {
    "variable": lambda folder: {"KERAS_BACKEND": "nnsbackend"},
    "file": lambda folder: {"KERAS_HOME": str(folder)},
}


def missing(tmp_path, way, *arguments):
    """Run Python where Keras is to run on what is not installed."""
    (tmp_path / "keras.json").write_text(json.dumps({"backend": "nnsbackend"}))
    given = {name: value for name, value in os.environ.items() if name != "KERAS_BACKEND"}
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        env=given | NAMED[way](tmp_path),
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize("way", NAMED)
def test_a_backend_that_is_not_installed_is_one_clear_error(tmp_path, way):
    code = "".join(MISSING.format(entry=entry, kind="ImportError") for entry in ALL)
    done = missing(tmp_path, way, "-c", code)
    lines = done.stdout.splitlines()
    assert len(lines) == len(ALL), done.stderr
    for line in lines:
        assert line.startswith(
            "BackendError True keras_nns works with Keras on TensorFlow, JAX and PyTorch."
        )
        assert "'nnsbackend', which is not installed: set KERAS_BACKEND=tensorflow" in line


@pytest.mark.slow
@pytest.mark.parametrize("way", NAMED)
def test_the_exporter_without_its_backend(tmp_path, way):
    code = MISSING.format(
        entry="import tflite_export; tflite_export.convert",
        kind="tflite_export.ExportError",
    )
    done = missing(tmp_path, way, "-c", code)
    assert done.stdout.startswith("ConversionError True only TensorFlow has a way"), done.stderr
    assert "'nnsbackend', which is not installed" in done.stdout


def test_what_needs_no_keras_works_on_any_backend(tmp_path):
    code = "import keras_nns as nns; print(nns.top(8).name, nns.Plan.__name__)"
    done = missing(tmp_path, "variable", "-c", code)
    assert (done.stdout, done.returncode) == ("top(8) Plan\n", 0)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")
@pytest.mark.parametrize("way", NAMED)
@pytest.mark.parametrize("package", ["keras_nns", "tflite_export"])
def test_the_command_lines_choose_their_backend(tmp_path, way, package):
    keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)]).save(tmp_path / "m.keras")
    words = {
        "keras_nns": ["inspect", str(tmp_path / "m.keras")],
        "tflite_export": ["export", str(tmp_path / "m.keras"), "-o", str(tmp_path / "m.tflite")],
    }
    done = missing(tmp_path, way, "-m", package, *words[package])
    if package == "keras_nns":
        # It runs on the backend that was configured, and says so where there is none.
        assert done.returncode == 1
        assert "'nnsbackend', which is not installed: set KERAS_BACKEND" in done.stderr
        return
    assert done.returncode == 0, done.stderr
