"""Say what a file is that holds no Keras model, and what makes one of it."""

from __future__ import annotations

from pathlib import Path

from keras_nns.errors import FileError

MODEL_SUFFIXES = (".keras", ".h5", ".hdf5")


def refuse_foreign(name: str) -> None:
    """Refuse what is no model file of Keras.

    Raises:
        FileError: It is none; the message says what it is.
    """
    path = Path(name)
    if not path.exists():
        raise FileError(f"Cannot read {name!r}: no such file.")
    if path.is_dir() or not name.endswith(MODEL_SUFFIXES):
        raise FileError(f"Expected a `.keras` or `.h5` model file. Received: {name!r}.")
