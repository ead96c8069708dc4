"""Which backend Keras will take, told before it is imported.

Where that is not installed, Keras raises whatever its own code does then, such as "No module named
'jax'". Here `import keras`
says what to do instead. Nothing is done where TensorFlow is configured, which is usual.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from keras_nns.errors import BackendError

OURS = "tensorflow"
"""The backend that Keras takes where nothing says another, and that files are exported on."""

SPOKEN = (OURS, "jax", "torch")
"""The backends that the engine speaks."""

WAY_ON = (
    "set KERAS_BACKEND=tensorflow before anything imports Keras, or change `backend` in "
    "~/.keras/keras.json. A model trained on another backend and saved as .keras can be loaded "
    "there."
)


def configured() -> str:
    """Return the backend that Keras takes: that of `KERAS_BACKEND`, else of its `keras.json`."""
    named = os.environ.get("KERAS_BACKEND")
    if named:
        return named
    try:
        home = os.environ.get("KERAS_HOME") or Path.home() / ".keras"
        found = json.loads(Path(home, "keras.json").read_text("utf-8"))
    except (OSError, ValueError, RuntimeError):
        return OURS
    return str(found.get("backend", OURS)) if isinstance(found, dict) else OURS


def is_missing(backend: str) -> bool:
    """Return whether a backend is none that is installed."""
    try:
        return find_spec(backend) is None
    except (ImportError, ValueError):
        return True


def _installing(backend: str) -> str:
    return f"pip install 'keras-nns[{backend}]', or " if backend in SPOKEN else ""


class _Explaining:
    """Refuses to import Keras while a backend is configured that is missing."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> None:
        """Find nothing; others do.

        Raises:
            BackendError: Keras is to be imported, and its backend cannot be.
        """
        if fullname != "keras" or (named := configured()) == OURS or not is_missing(named):
            return
        raise BackendError(
            "keras_nns works with Keras on TensorFlow, JAX and PyTorch. Here Keras is to run on "
            f"{named!r}, which is not installed: {_installing(named)}{WAY_ON}"
        )


def explain_missing() -> None:
    """Let `import keras` say what to do where it is to run on a backend that is missing.

    It would fail with another error if this did nothing.
    """
    if "keras" in sys.modules:
        return
    named = configured()
    if named != OURS and is_missing(named):
        sys.meta_path.insert(0, _Explaining())
