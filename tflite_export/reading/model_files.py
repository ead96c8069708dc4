"""Say what a file is that was given for a Keras model and is none, and what to do with it."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import h5py

from tflite_export.reading.hdf5 import is_endless

SUFFIXES = (".keras", ".h5", ".hdf5")

_HDF5 = b"\x89HDF\r\n\x1a\n"
_ZIP = b"PK\x03\x04"

_ORIGIN = "Give the Keras model that it was made from, a .keras or .h5 file"
_REBUILD = (
    "Build the network with Keras in code, copy the weights into it with set_weights, and save it "
    "as .keras"
)
_TORCH = f"weights of PyTorch, without the layers that they belong to. {_REBUILD}"
_KINDS = {
    ".tflite": f"a TFLite file, which has no layers any more. {_ORIGIN}",
    ".pb": f"a graph of TensorFlow, which has no layers any more. {_ORIGIN}",
    ".onnx": "an ONNX file, which has no layers of Keras. The package onnx2keras makes some of "
    "many: onnx_to_keras(onnx.load(path), [name of the input]), and what it writes as Lambda stays "
    f"whole. Or else: {_REBUILD[0].lower()}{_REBUILD[1:]}",
    ".pt": _TORCH,
    ".pth": _TORCH,
    ".ckpt": _TORCH,
    ".safetensors": f"weights alone. {_REBUILD}",
    ".json": "the architecture of a model at most, without weights. Build the model of it with "
    "keras.models.model_from_json, load its weights, and save it as .keras",
    ".pkl": "a pickle, which runs code when it is read. Read it where you trust it, and save the "
    "model as .keras",
    ".index": "a checkpoint of TensorFlow: weights alone. Build the model in code, load the "
    "checkpoint into it, and save it as .keras",
}
_KINDS[".joblib"] = _KINDS[".pickle"] = _KINDS[".pkl"]

_KERAS_FOLDER = (
    "a SavedModel folder of Keras 2. tf_keras makes a file of it: pip install tf_keras, then "
    "python -c \"import tf_keras; tf_keras.models.load_model('{0}', compile=False)"
    ".save('model.h5')\""
)
_SAVED_MODEL = f"a SavedModel folder, which has functions and no layers any more. {_ORIGIN}"
_UNPACKED = (
    "a .keras file that was unpacked. Pack what is in it again: cd {0} && zip -r ../m.keras ."
)
_BROWSER = "a model for TensorFlow.js. Export it from the same place as a Keras file (.h5) instead"


def what_else(path: str) -> str | None:
    """Say what something is that holds no Keras model.

    Args:
        path: A file or folder, which exists.

    Returns:
        What it is and what to do, to follow "is"; None for what may be a model file.
    """
    place = Path(path)
    if place.is_dir():
        return _folder(place).format(path)
    with place.open("rb") as file:
        start = file.read(8)
    if place.suffix not in SUFFIXES:
        return _other(place, start).format(path)
    if place.suffix == ".keras" and start == _HDF5:
        return "an HDF5 file under another name. Rename it to end in .h5"
    if place.suffix != ".keras" and start.startswith(_ZIP):
        return "a .keras file under another name. Rename it to end in .keras"
    if place.suffix != ".keras" and is_endless(place):
        return "a damaged HDF5 file: a text in it has no end. Get it once more"
    return None


def meant_otherwise(path: str) -> str | None:
    """Say which older Keras wrote a file that Keras 3 reads with another meaning.

    Args:
        path: A model file.

    Returns:
        The version; None where nothing is known to differ.
    """
    config, version = b"", "3"
    try:
        if path.endswith(".keras"):
            with zipfile.ZipFile(path) as archive:
                config = archive.read("config.json")
                version = json.loads(archive.read("metadata.json")).get("keras_version", "3")
        else:
            with h5py.File(path, "r") as file:
                config = _bytes(file.attrs.get("model_config", b""))
                version = _bytes(file.attrs.get("keras_version", b"1")).decode()
    except (OSError, KeyError, ValueError, zipfile.BadZipFile):
        return None  # Keras says what is wrong with it.
    return version if version < "3" and b"hard_sigmoid" in config else None


def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


def _folder(place: Path) -> str:
    names = {one.name for one in place.iterdir()}
    if "keras_metadata.pb" in names:
        return _KERAS_FOLDER
    if "saved_model.pb" in names:
        return _SAVED_MODEL
    if {"config.json", "model.weights.h5"} <= names:
        return _UNPACKED
    if "model.json" in names:
        return _BROWSER
    return "a folder without a model. Give a .keras or .h5 file"


def _other(place: Path, start: bytes) -> str:
    if place.suffix in _KINDS:
        return _KINDS[place.suffix]
    if start == _HDF5:
        return "an HDF5 file under another name. Rename it to end in .h5"
    if start[4:8] == b"TFL3":
        return _KINDS[".tflite"]
    return "no model file by its name. Give a .keras or .h5 file"
