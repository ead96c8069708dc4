"""The backend that Keras takes, and what to do where that is not TensorFlow."""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path

from tflite_export.errors import ConversionError

_WAY_ON = (
    "Save the model as .keras and export it in a process with KERAS_BACKEND=tensorflow, set "
    "before Keras is imported; the command line does so itself."
)


def refuse(backend: str) -> None:
    """Refuse a backend that has no way to TFLite.

    Raises:
        ConversionError: It is not TensorFlow.
    """
    if backend != "tensorflow":
        raise ConversionError(
            f"only TensorFlow has a way to TFLite, and here Keras runs on {backend!r}. {_WAY_ON}"
        )


def refuse_missing(error: Exception) -> None:
    """Say what to do where an import failed because Keras is to run on what is not installed.

    Args:
        error: How it failed.

    Raises:
        ConversionError: It failed because of that.
    """
    backend = os.environ.get("KERAS_BACKEND") or _in_file()
    try:
        missing = importlib.util.find_spec(backend) is None
    except (ImportError, ValueError):
        missing = True
    if backend != "tensorflow" and missing:
        raise ConversionError(
            f"only TensorFlow has a way to TFLite, and here Keras is to run on {backend!r}, which "
            f"is not installed. {_WAY_ON}"
        ) from error


def _in_file() -> str:
    try:
        home = os.environ.get("KERAS_HOME") or Path.home() / ".keras"
        return str(json.loads(Path(home, "keras.json").read_text("utf-8"))["backend"])
    except (OSError, ValueError, KeyError, TypeError, RuntimeError):
        return "tensorflow"
