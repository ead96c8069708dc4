"""Read a whole model from a file of Keras 1 or 2."""

from __future__ import annotations

import json
import os
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path as Folder
from typing import Any

import h5py
import keras

from keras_nns.surgery.old_files import weights
from keras_nns.surgery.old_files.meaning import restore
from keras_nns.surgery.old_files.mended import Mended
from keras_nns.surgery.old_files.training import compile_as_written
from keras_nns.surgery.old_files.translation import Translation
from keras_nns.surgery.old_files.versions import Path, is_first, is_h5, version_of

Config = dict[str, Any]


def read(path: Path, *, unsafe: bool, custom: Mapping[str, Any]) -> tuple[Any, Mended]:
    """Read a model, and say what was changed so that Keras 3 reads it.

    Args:
        path: A `.h5`, `.hdf5` or `.keras` file of Keras 1 or 2.
        unsafe: Whether code in the file may run.
        custom: Classes and functions of the user, by name.

    Returns:
        The model, and what was mended.

    Raises:
        RefusedError: It holds what Keras 3 does not have.
    """
    name, mended = os.fspath(path), Mended()
    own = {**keras.saving.get_custom_objects(), **custom}
    translation = Translation(version_of(path), own, mended)
    given = {"custom_objects": own, "safe_mode": not unsafe}
    with tempfile.TemporaryDirectory() as folder:
        if is_h5(path):
            model, written = _h5(name, Folder(folder), translation, mended, given)
        else:
            model, written = _archive(name, Folder(folder), translation, given)
    restore(model, path, mended)
    if written:
        compile_as_written(model, written, own, mended)
    return model, mended


def _h5(
    path: str, folder: Folder, translation: Translation, mended: Mended, given: Config
) -> tuple[Any, Config | None]:
    with h5py.File(path, "r") as file:
        config = _json(file.attrs["model_config"])
        written = file.attrs.get("training_config")
        written = None if written is None else _json(written)
        if "optimizer_weights" in file:
            mended.add("the state of the optimizer was left out")
    model = keras.saving.deserialize_keras_object(translation.model(config), **given)
    part = folder / "converted.h5"
    with weights.copied(path, str(part)) as file:
        converted = weights.convert(file, model, first=is_first(version_of(path)))
    if converted:
        mended.add("weights were brought into the shapes that Keras 3 holds them in")
    model.load_weights(part)
    return model, written


def _archive(
    path: str, folder: Folder, translation: Translation, given: Config
) -> tuple[Any, Config | None]:
    part = folder / "translated.keras"
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(part, "w") as target:
        config = json.loads(source.read("config.json"))
        written = config.pop("compile_config", None)
        for name in source.namelist():
            content = source.read(name)
            if name == "config.json":
                content = json.dumps(translation.model(config)).encode()
            target.writestr(name, content)
    return keras.saving.load_model(part, compile=False, **given), written


def _json(value: Any) -> Config:
    found: Config = json.loads(value)
    return found
