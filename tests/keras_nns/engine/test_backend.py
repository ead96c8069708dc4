"""Another backend of Keras is one clear error, from every entry."""

import subprocess
import sys

import pytest

# Stands in for a backend that is not installed where the tests run: only its name is asked for.
CODE = """
import keras
keras.config.backend = lambda: "jax"
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
        assert line.startswith("BackendError True keras_nns works with Keras on TensorFlow.")
        assert "KERAS_BACKEND=tensorflow" in line


@pytest.mark.parametrize("name", ["convert", "verify"])
def test_the_exporter_says_where_to_export(name):
    code = CODE.format(
        entry=f"import tflite_export; tflite_export.{name}(None)", kind="tflite_export.ExportError"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("ConversionError True only TensorFlow has a way to TFLite")
