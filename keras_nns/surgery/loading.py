"""Read a model from a file, whichever version of Keras wrote it."""

from __future__ import annotations

import os
import re
import warnings
import zipfile
from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from os import PathLike
from pathlib import Path
from typing import Any

import h5py
import keras

from keras_nns.errors import FileError
from keras_nns.files import atomic
from keras_nns.graph.rules import load_extras
from keras_nns.surgery.lineage import RECORD, origin_from, set_lineage
from keras_nns.surgery.old_files.checking import compare_with_tf_keras
from keras_nns.surgery.old_files.meaning import unmasked
from keras_nns.surgery.old_files.mended import Mended
from keras_nns.surgery.old_files.reading import read
from keras_nns.surgery.old_files.translation import RefusedError
from keras_nns.surgery.old_files.versions import is_h5, is_old, version_of
from tflite_export.reading import archives
from tflite_export.reading.model_files import what_else


def load_model(
    path: str | PathLike[str],
    *,
    custom_objects: Mapping[str, Any] | None = None,
    unsafe: bool = False,
) -> Any:
    """Read a model from a `.keras` or `.h5` file, with its lineage where it has one.

    Files of Keras 1 and 2 keep the meaning that they had: what Keras 3 refuses or would compute
    otherwise is brought into its form, and one warning lists what was changed. Where tf_keras is
    installed, answers on generated inputs are compared with its own.

    Args:
        path: The file.
        custom_objects: Classes and functions that are not Keras's own, by the name that the file
            has for them. Those registered with Keras need not be given.
        unsafe: Whether code in the file (Lambda layers) may run. Only for files you trust.

    Returns:
        A `keras.Model`, compiled as its file says where that can be read.

    Raises:
        FileError: The file is missing, damaged, not a model, holds what Keras 3 does not have, or
            holds code and `unsafe` is false.

    Example:
        >>> nns.save_model(three, "three.keras")
        >>> nns.load_model("three.keras").output_shape
        (None, 1)
    """
    name = os.fspath(path)
    version = checked(name)
    custom = dict(custom_objects or {})
    try:
        if is_old(version):
            model, mended = read(path, unsafe=unsafe, custom=custom)
        else:
            given = {"custom_objects": custom, "safe_mode": not unsafe}
            model, mended = _compiled_or_not(partial(keras.saving.load_model, name, **given))
    except Exception as error:  # Keras raises what h5py, zipfile, json and its own code raise.
        raise failure(name, version, error) from error
    if mended:
        tell(name, version, mended)
    if is_old(version):
        _check(model, name, version, custom)
    remember(model, name)
    return model


def checked(name: str) -> str:
    """Look at a file before it is read, and import what it needs.

    Returns:
        The version of Keras that wrote it.

    Raises:
        FileError: It is missing, damaged, no model, or needs what is not installed.
    """
    _refuse_foreign(name)
    _check_entries(name)
    _import_extras(name)
    return _version(name)


def failure(name: str, version: str, error: Exception) -> FileError:
    """Return what is raised where a file cannot be read."""
    return FileError(_loading_failed(name, version, error))


def tell(name: str, version: str, mended: Mended) -> None:
    """Warn of what was changed when a file was read."""
    warnings.warn(
        f"{name!r} was written by Keras {version} and changed so that Keras 3 reads it as it "
        f"was meant: {mended}. Save the model with nns.save_model to be rid of this.",
        stacklevel=3,
    )


def remember(model: Any, name: str) -> None:
    """Write on a model where it was cut from, as its file says.

    Raises:
        FileError: What the file says is damaged.
    """
    if name.endswith(".keras"):
        with zipfile.ZipFile(name) as archive:
            if RECORD in archive.namelist():
                with atomic.blame(name):
                    set_lineage(model, origin_from(atomic.parse_json(archive.read(RECORD))))


def _refuse_foreign(name: str) -> None:
    """Refuse what is no model file of Keras.

    Raises:
        FileError: It is none; the message says what it is.
    """
    if not Path(name).exists():
        raise FileError(f"Cannot read {name!r}: no such file.")
    found = what_else(name)
    if found is not None:
        raise FileError(f"Expected a `.keras` or `.h5` model file. {name!r} is {found}.")


def _compiled_or_not(load: Callable[..., Any]) -> tuple[Any, Mended]:
    """Read a file of Keras 3, without how it was compiled where that alone cannot be read.

    Args:
        load: Reads it, with `compile=False` without that.
    """
    try:
        return load(), Mended()
    except Exception as error:
        try:
            return load(compile=False), not_compiled(error)
        except Exception:
            raise error from None


def not_compiled(error: Exception) -> Mended:
    """Return that a model was not compiled, since an error came of it."""
    mended = Mended()
    mended.add(
        "how the model was compiled was left out, since it cannot be read "
        f"({_cause(error)[:120]}); compile it before training or evaluating with Keras"
    )
    return mended


def _check(model: Any, name: str, version: str, custom: dict[str, Any]) -> None:
    """Warn of what Keras 3 computes otherwise all the same."""
    layers = unmasked(model)
    if layers:
        warnings.warn(
            f"{name!r} was written by Keras {version}, where its layers {layers} skip masked "
            "steps; Keras 3 gives no mask to a layer that is given an initial state, so that "
            "answers differ for padded sequences. Give it sequences without padding.",
            stacklevel=3,
        )
    found = compare_with_tf_keras(model, name, custom_objects=custom)
    if found is not None and not found.agrees:
        warnings.warn(
            f"{name!r} was written by Keras {version}, and tf_keras answers otherwise on "
            f"{found.samples} generated inputs, by {found.difference:.2g} of the largest answer. "
            "Compare both on your own data before you rely on the model.",
            stacklevel=3,
        )


def _version(name: str) -> str:
    """Return the version of Keras that wrote a file.

    Raises:
        FileError: It is not the file that its name says.
    """
    try:
        if is_h5(name):
            with h5py.File(name, "r") as file:
                holds_model = "model_config" in file.attrs
            if not holds_model:
                raise FileError(
                    f"{name!r} holds weights alone, no model. Build the model in code, read them "
                    "with model.load_weights(…), and save it with nns.save_model."
                )
        return version_of(name)
    except FileError:
        raise
    except Exception as error:  # As in load_model.
        raise FileError(_damaged(name, error)) from error


def _check_entries(name: str) -> None:
    """Compare the checksums in a `.keras` file: Keras reads parts of it and would miss damage.

    Raises:
        FileError: An entry is damaged, or the file is no archive.
    """
    if not name.endswith(".keras"):
        return
    try:
        with zipfile.ZipFile(name) as archive:
            with Path(name).open("rb") as file:
                archives.entries(archive, archives.end_of(file))
            damaged = archive.testzip()
    except Exception as error:  # zlib.error and struct.error derive from Exception alone.
        raise FileError(_damaged(name, error)) from error
    if damaged is not None:
        raise FileError(f"{name!r} is damaged: the checksum of its entry {damaged!r} is wrong.")


def _import_extras(name: str) -> None:
    """Import KerasHub where a file holds layers of it: Keras finds only classes that it knows.

    Raises:
        FileError: It is not installed.
    """
    if not name.endswith(".keras"):
        return
    with zipfile.ZipFile(name) as archive:
        if "config.json" not in archive.namelist() or b"keras_hub" not in archive.read(
            "config.json"
        ):
            return
    try:
        import_module("keras_hub")
    except ImportError as error:
        raise FileError(
            f"{name!r} holds layers of KerasHub. Install it: pip install 'keras-nns[hub]'."
        ) from error
    load_extras()


_UNKNOWN = (
    *(r"Could not locate class '", r"Unknown \w+:? '", r"deserialize 'keras\.layers\."),
    r"Could not interpret \w+(?: function)? identifier: ",
)
"""How Keras says that it does not know a class or a function."""

_GONE = (
    *("LocallyConnected1D", "LocallyConnected2D", "RandomHeight", "RandomWidth"),
    *("Highway", "MaxoutDense", "Deconvolution2D", "DenseFeatures"),
)
"""Layers of Keras 1 and 2 that Keras 3 does not have."""


def _loading_failed(name: str, version: str, error: Exception) -> str:
    text = _cause(error)
    by = f"{name!r} was written by Keras {version} and" if is_old(version) else repr(name)
    if isinstance(error, RefusedError):
        return f"{by} holds {text}. {_BUILD}"
    if "ambda" in text and ("safe" in text or "unsafe" in text):
        return (
            f"{by} holds a Lambda layer, which is code. If you trust where the file comes "
            "from, pass unsafe=True (--unsafe in a shell)."
        )
    own = re.search(rf"(?:{'|'.join(_UNKNOWN)})([\w<>]+)", text)
    if own is not None and own[1] in _GONE:
        return f"{by} holds {own[1]}, which Keras 3 does not have. {_OWN.format(own[1])}"
    if own is not None:
        return f"{by} holds {own[1]}, which is its author's own. {_OWN.format(own[1])}"
    if is_old(version):
        return f"{by} cannot be read by Keras 3: {text[:400]}. {_BUILD}"
    return _damaged(name, error)


_BUILD = (
    "Build the same model with Keras 3 in code, read the weights with model.load_weights(…), and "
    "save it with nns.save_model."
)
_OWN = (
    "Give what stands for it: load_model(…, custom_objects={{'{0}': …}}), or in a shell "
    "name with --import the module that registers it with "
    "@keras.saving.register_keras_serializable()."
)


def _damaged(name: str, error: Exception) -> str:
    return f"{name!r} is damaged, cut short, or not a Keras model: {_cause(error)[:400]}"


def _cause(error: Exception) -> str:
    """Return the innermost words of an error: Keras puts whole configurations around them."""
    text = " ".join(str(error).split())
    return text.rsplit("Exception encountered: ", 1)[-1]
